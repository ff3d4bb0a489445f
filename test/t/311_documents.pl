# The statements of README.md, docs/ and examples/ are run, page by page, in their order: each
# block of SQL, each block of commands, and what stands in the text as a statement or as a
# call.  Each page has a database of its own.  %pages says what a page takes as given, what
# an item needs before it, what it is to give, and which items are not run, and why.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Clients;
use CmqNode;
use IPC::Run ();
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;

my $node = CmqNode->running('main', <<'CONF', allows_streaming => 'logical');
max_prepared_transactions = 10
max_worker_processes = 20
autovacuum = off
CONF
$node->sql("CREATE ROLE $_") foreach qw(app app_owner shop billing reports reporting);

# The documents are written on the day after an accident.  Here it has just been, and the
# window is open to both sides.
my $day = $node->sql(q{SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI+00')});
my %time = (
	"'2026-11-21 09:00+00'" => '-30 minutes',
	"'2026-11-21 11:00+00'" => '30 minutes',
	"'2026-11-21 12:00+00'" => '30 minutes',
	"'2026-11-23 18:00+01'" => '1 day');
$time{$_} = $node->sql("SELECT quote_literal(timestamptz '$day' + interval '$time{$_}')") foreach keys %time;

# What stands in angle brackets is what the statement before has returned.
sub filled
{
	my ($text) = @_;
	$text =~ s/\Q$_\E/$time{$_}/g foreach keys %time;
	$text =~ s/^(SELECT [^;]*\breceipt_handle\b[^;]* FROM cmq_receive\([^;\\]*);/$1 \\gset/mg;
	$text =~ s/'<receipt_handle>'/:'receipt_handle'/g;
	$text =~ s/<msg_id>/:msg_id/g;
	$text =~ s/<body>/:'body'/g;
	$text =~ s/<queue>/orders/g;
	$text =~ s/SELECT msg_id FROM \.\.\./SELECT msg_id FROM cmq.q_orders_history/g;
	return $text;
}

# Words that begin a statement.
my $verb = qr/(?:ALTER|BEGIN|CALL|COMMIT|CREATE|DELETE|DROP|EXPLAIN|GRANT|INSERT|PREPARE|REASSIGN|RESET|REVOKE|ROLLBACK|SELECT|SET|TRUNCATE|UPDATE|VACUUM|WITH) /;
# Names of commands, without what they are to act on.
my $name = qr/^(?:ALTER SYSTEM RESET|DROP OWNED BY|VACUUM (?:ANALYZE|FULL))$/;

# What can be run in a page: { kind => sql, inline or other, text => ... }.  In the text a
# call needs its arguments to be one that can be run, and dots stand for what is left out.
sub items
{
	my ($page) = @_;
	my @items;
	while ($page =~ /^( *)```(\w*)\n(.*?)^ *```$|`([^`]+)`/msg)
	{
		my ($indent, $language, $block, $inline) = ($1, $2, $3, $4);
		if (defined $block)
		{
			push @items, { kind => $language eq 'sql' ? 'sql' : 'other', text => $block =~ s/^$indent//mgr };
		}
		else
		{
			$inline =~ s/\s+/ /g;
			next unless $inline =~ /^$verb|^cmq_\w+\(.*'/ && $inline !~ $name;
			next if $inline =~ /\.\./ && $inline !~ /SELECT msg_id FROM \.\.\./;
			push @items, { kind => 'inline', text => $inline };
		}
	}
	return @items;
}

#
# The pages.  An item is known by how it begins, or by a part of it; the first one that was
# not met yet.
#   before  statements that are run before it
#   gives   what it prints, in psql's unaligned form
#   after   a statement whose answer is printed behind that
#   for_good  a statement in the text that is not rolled back
#   with    [ what, by what ] is replaced
#   shell   its lines are commands
#   none    it is not run, for this reason
# elsewhere names the test of a page that needs more than a server.
#

my $orders = q{SELECT FROM cmq_create_queue('orders', rewind_seconds => 86400);};
my $consumed = q{SELECT count(*) > 0 AS consumed FROM cmq_consume('orders', 1000);};
my $one = q{SELECT FROM cmq_clear_queue('orders'); SELECT cmq_send('orders', 'a message') AS msg_id \gset};
my $accident = <<"SQL";
$orders
SELECT cmq_create_queue('orders_audit'), cmq_create_queue('orders_dead');
SELECT FROM cmq_alter_queue('orders', dead_letter_queue => 'orders_dead', max_receive_count => 5);
SELECT FROM cmq_send_batch('orders', ARRAY(SELECT 'order ' || i FROM generate_series(1, 1200) i));
SELECT FROM cmq_send_batch('orders', ARRAY(SELECT 'order ' || i FROM generate_series(1, 34) i), headers => ARRAY(SELECT '{"shop": 7}'::jsonb FROM generate_series(1, 34)));
$consumed $consumed
SQL
my @calls = (
	[ q{cmq_rewind('orders'} => { gives => qr/^20\d\d-.*$/ } ],
	[ q{cmq_restore('orders'} => { gives => qr/^34$/ } ],
	[ q{cmq_restore_messages('orders'} => { gives => qr/^(?:\d+\n){1233}\d+$/ } ],
	[ q{cmq_replay('orders'} => { gives => qr/^1234$/ } ],
	[ q{cmq_redrive('orders_dead')} => { gives => qr/^0$/ } ]);

my %pages = (
	'README.md' => {
		given => $accident,
		items => [
			[ q{cmq_rewind('orders'} => { gives => qr/^20\d\d-.*$/ } ],
			[ 'make demo' => { none => 'it installs packages; demo/run and the console have tests of their own' } ],
			[ 'make' => { none => 'what is tested is installed like this' } ],
			[ 'shared_preload_libraries' => { none => 'the server of this test has it; test/t/001_preload.pl is on one without' } ],
			[ 'CREATE EXTENSION cmq' => { before => 'DROP EXTENSION cmq CASCADE;' } ],
			[ 'SELECT cmq_create_queue' => { gives => qr/\|order 1: 2 apples\n\d+\|[^\n]*\|in_flight\|[^\n]*\|order 2: 1 pear\nt\n.*\norder 1: 2 apples\|1\|1\norder 2: 1 pear\|1\|1(?:\n|$)/s } ],
			[ '+---' => { none => 'a picture' } ],
			[ q{cmq_pause_queue('orders')} => { before => $accident, gives => qr/^t$/ } ],
			@calls,
			[ q{cmq_cancel_rewind('orders')} => { before => q{SELECT FROM cmq_rewind('orders', now() - interval '1 hour');}, gives => qr/^t$/ } ],
		] },
	'docs/applications.md' => {
		given => <<'SQL',
SELECT cmq_create_queue('reminders'), cmq_create_queue('orders_audit', dedup_seconds => 3600), cmq_create_queue('orders_failed'), cmq_create_queue('mails');
CREATE TABLE orders (id int PRIMARY KEY, item text);
CREATE TABLE ledger (msg_id bigint PRIMARY KEY, item text, amount numeric);
SQL
		items => [
			[ q{PREPARE TRANSACTION 'x'} => { for_good => 1, before => q{BEGIN; SELECT FROM cmq_send('orders', 'prepared');} } ],
			[ q{COMMIT PREPARED 'x'} => { for_good => 1, after => q{SELECT count(*) FROM cmq.q_orders_live WHERE body = 'prepared'}, gives => qr/^1$/ } ],
			[ q{ROLLBACK PREPARED 'x'} => { for_good => 1, before => q{BEGIN; SELECT FROM cmq_send('orders', 'prepared'); PREPARE TRANSACTION 'x';},
				after => q{SELECT count(*) FROM cmq.q_orders_live WHERE body = 'prepared'}, gives => qr/^1$/ } ],
			[ 'SELECT cmq_send_batch' => { gives => qr/^\d+\n\d+\n\d+$/ } ],
			[ q{SELECT cmq_send('reminders'} => { after => q{SELECT count(*) FROM cmq.q_reminders_live WHERE state = 'delayed'}, gives => qr/\n2$/ } ],
			[ q{SELECT cmq_alter_queue('orders', dedup_seconds} => { gives => qr/(\d{16})\n\g1$/ } ],
			[ q{cmq_replay('orders'} => { before => $consumed, gives => qr/^[1-9]\d*$/ } ],
			[ 'DELETE FROM cmq_data.q_orders_dedup' => { for_good => 1, after => 'SELECT count(*) FROM cmq_data.q_orders_dedup', gives => qr/^0$/ } ],
			[ q{SELECT cmq_send('orders', to_jsonb} => { after => q{SELECT :'item', :'receipt_handle' <> ''}, gives => qr/\napples\|t$/ } ],
			[ q{cmq_send('orders', $1} => { with => [ '$1', q{'{"item": "pears"}'} ], gives => qr/^\d+$/ } ],
			[ q{cmq_send_batch('orders', ARRAY(} => { gives => qr/^\d+$/ } ],
			[ q{SELECT * FROM cmq_receive('orders', 10} => { before => $one, gives => qr/\|a message\|/ } ],
			[ "BEGIN;\nSELECT msg_id, body, headers" => { before => $one, gives => qr/\|a message\|$/, after => q{SELECT FROM ledger WHERE item = 'apples'} } ],
			[ q{cmq_consume('orders', 100)} => { before => $one, gives => qr/\|a message\|/ } ],
			[ q{SELECT cmq_send('orders_failed'} => { before => q{\set body 'failed'}, gives => qr/^\d+$/ } ],
			[ 'SAVEPOINT work' => { before => $one, after => 'SELECT state, receive_count FROM cmq.q_orders_live', gives => qr/\nready\|1$/ } ],
			[ 'counted => false' => { before => qq{$one\nSELECT receipt_handle FROM cmq_receive('orders') \\gset},
				after => 'SELECT state, receive_count FROM cmq.q_orders_live', gives => qr/\nready\|0$/ } ],
			[ 'ARRAY(SELECT receipt_handle FROM cmq_receive_messages' => { before => $one, after => 'SELECT state, receive_count FROM cmq.q_orders_live', gives => qr/\nready\|1$/ } ],
			[ q{SELECT headers #>> '{cmq_dead_letter,queue}'} => { before => <<'SQL', gives => qr/^orders\|max_receive_count\|3\n1\n1\n1$/ } ],
SELECT cmq_clear_queue('orders'), cmq_alter_queue('orders', max_receive_count => 1, rewind_share => 100);
SELECT FROM cmq_send_batch('orders', ARRAY['a', 'b', '3 EUR'], headers => ARRAY['{"shop": 1}', '{"shop": 7}', '{"shop": 2}']::jsonb[]);
SELECT cmq_release('orders', ARRAY(SELECT receipt_handle FROM cmq_receive('orders', 10)), 0);
SELECT cmq_maintain('orders');
SQL
			[ q{SELECT msg_id, body, receipt_handle FROM cmq_receive('mails'} => { before => q{SELECT FROM cmq_send('mails', 'Dear customer');}, gives => qr/^t$/ } ],
			[ 'CREATE TABLE ledger' => { before => "DROP TABLE ledger; $one\nSELECT receipt_handle FROM cmq_receive('orders') \\gset", gives => qr/^t\n1795222550179395\|apples\|2$/, after => 'TABLE ledger' } ],
		] },
	'docs/console.md' => {
		given => $orders,
		items => [
			[ 'CREATE ROLE oncall' => { after => q{SELECT has_table_privilege('oncall', 'cmq.q_orders', 'UPDATE')}, gives => qr/^t$/ } ],
			[ 'PGHOST=' => { none => 'console/test starts the console in this way' } ],
			[ 'make console-demo' => { none => 'test/t/400_console_accident.pl has its story' } ],
		] },
	'docs/from-cmq.md' => {
		given => "$orders SELECT cmq_create_queue('q', rewind_seconds => 3600), cmq_create_queue('orders_dead'), cmq_alter_queue('orders', dead_letter_queue => 'orders_dead', max_receive_count => 2);",
		items => [
			[ 'SELECT * FROM cmq.queues' => { gives => qr/^orders(?:_dead)?\|.*\norders(?:_dead)?\|/ } ],
			[ 'SELECT cmq_rewind' => { with => [ '1488718862', time - 60 ] } ],
			[ 'SELECT queue FROM cmq.queues' => { gives => qr/^orders$/ } ],
		] },
	'docs/from-pgmq.md' => {
		given => "\\i $top/examples/pgmq.sql\nSELECT pgmq.create('orders'), pgmq.create('payments'); SELECT pgmq.send('payments', '{\"p\": 1}', '{\"x-pgmq-group\": \"g\"}'::jsonb), pgmq.send('payments', '{\"p\": 2}'); SELECT pgmq.send('orders', '{\"a\": 1}'); SELECT pgmq.archive('orders', msg_id) FROM pgmq.read('orders', 30, 1);",
		items => [
			[ 'CREATE EXTENSION cmq' => { none => 'it is there' } ],
			[ 'GRANT USAGE' => { after => q{SELECT has_table_privilege('app', 'cmq.q_orders', 'DELETE')}, gives => qr/^t$/ } ],
			[ q{SELECT cmq_create_queue('payments_ordered'} => { after => 'SELECT body, message_group FROM cmq.q_payments_ordered_live ORDER BY msg_id; SELECT count(*) FROM pgmq.q_payments',
				gives => qr/^2\n2\n\{"p": 1\}\|g\n\{"p": 2\}\|_default_fifo_group\n0$/m } ],
			[ 'SELECT cmq_drop_queue(queue)' => { before => q{BEGIN; CREATE TEMP TABLE names AS SELECT queue_name FROM pgmq.meta WHERE queue_name <> 'payments_ordered'; DROP SCHEMA pgmq CASCADE; CREATE SCHEMA pgmq; CREATE TABLE pgmq.meta AS TABLE names;},
				after => 'SELECT queue FROM cmq.queues; ROLLBACK', gives => qr/^payments_ordered$/m } ],
			[ 'CREATE EXTENSION pgmq' => { none => 'this is what a client must not say' } ],
			[ 'DROP SCHEMA pgmq' => { after => q{SELECT count(*) FROM cmq.q_orders_history}, gives => qr/^1$/ } ],
			[ 'SELECT * FROM cmq_rewind_preview' => { gives => qr/^1\|.*\n20\d\d-/ } ],
			[ q{cmq_create_topic(topic} => { none => 'the name of the topic is a variable' } ],
			[ 'CREATE TABLE orders_archive' => { before => q{SELECT pgmq.archive('orders', msg_id) FROM pgmq.read('orders', 30, 1);}, after => 'SELECT count(*) FROM orders_archive', gives => qr/^1$/ } ],
		] },
	'docs/operations.md' => {
		given => "$orders $one",
		items => [
			[ 'apt-get install git' => { none => 'make test-packages builds the packages so' } ],
			[ 'apt-get install ./postgresql' => { none => 'make test-packages installs them' } ],
			[ 'SELECT * FROM cmq.status' => { gives => qr/^orders\|1\|0\|0\|/ } ],
			[ 'SELECT * FROM cmq.metrics' => { gives => qr/^orders\|/ } ],
			[ 'pg_dumpall' => { none => 'see the upgrade at the end of this test' } ],
			[ '-- old' => { none => 'likewise' } ],
			[ 'SELECT pg_current_wal_lsn' => { none => 'likewise' } ],
			[ 'SELECT replay_lsn' => { none => 'likewise' } ],
			[ 'DROP SUBSCRIPTION upgrade' => { none => 'likewise' } ],
			[ 'SET zero_damaged_pages' => { after => 'RESET zero_damaged_pages; SELECT count(*) FROM cmq.q_orders_live', gives => qr/^1$/ } ],
			[ 'ALTER SYSTEM SET' => { for_good => 1, after => 'ALTER SYSTEM RESET cmq.clock_step_delay' } ],
			[ q{SELECT format('SELECT cmq_unsubscribe} => { before => <<'SQL', after => q{SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'cmq%'}, gives => qr/\n0$/ } ],
SELECT FROM cmq_create_topic('t');
SELECT FROM cmq_subscribe('t', 's', 'orders');
SELECT cmq_create_queue('dead'), cmq_alter_queue('orders', dead_letter_queue => 'dead', max_receive_count => 2);
SQL
			[ 'DROP EXTENSION cmq CASCADE' => { before => 'CREATE EXTENSION cmq;' } ],
		] },
	'docs/ordered-groups.md' => {
		items => [
			[ 'BEGIN' => { gives => qr/^\d+\|\{"amount": 100\}\|account-7\n\d+\|\{"amount": -5\}\|account-7\n\d+\|\{"amount": 3\}\|account-8$/ } ],
			[ 'SELECT queue, blocked_groups' => { gives => qr/^movements\|0$/ } ],
			[ 'SELECT * FROM cmq.q_movements_live' => { before => q{SELECT FROM cmq_send('movements', 'm', message_group => 'account-7');}, gives => qr/\|m\|account-7$/ } ],
		] },
	'docs/reference.md' => { given => $orders, items => [] },
	'docs/reports.md' => {
		given => <<"SQL",
$orders
SELECT FROM cmq_send_batch('orders', ARRAY['{"amount": 1}', '{"amount": 2}', '{"amount": 3}'], headers => ARRAY['{"shop": 7}', '{"shop": 7}', NULL]::jsonb[]);
CREATE TABLE ledger (msg_id bigint PRIMARY KEY, amount numeric);
INSERT INTO ledger SELECT msg_id, (body::jsonb ->> 'amount')::numeric FROM cmq_consume('orders', 3);
DELETE FROM ledger WHERE amount = 2;
SQL
		items => [
			[ q{cmq_create_queue('orders'} => { with => [ q{'orders'}, q{'others'} ] } ],
			[ 'SELECT h.msg_id' => { gives => qr/^\d+\|\{"amount": 2\}\|[^\n]+$/ } ],
			[ 'psql -v queue=orders -v ledger' => { shell => 1, gives => qr/deleted/ } ],
			[ 'examples/messages_per_minute.sh' => { shell => 1, gives => qr/\d/ } ],
			[ q{SELECT date_trunc('minute'} => { gives => qr/\|deleted\|[123]\n/ } ],
			[ q{SELECT date_trunc('minute', enqueued_at) AT TIME ZONE} => { gives => qr/^20\d\d-\d\d-\d\d \d\d:\d\d:00\|deleted\|[123](?:\n|$)/ } ],
			[ 'EXPLAIN' => { gives => qr/ on r_orders_\d+/ } ],
			[ "import pandas\n" => { none => 'test/t/307_reports.pl runs the blocks of Python and R' } ],
			[ 'with engine.connect() as' => { none => 'likewise' } ],
			[ 'with engine.connect().exec' => { none => 'likewise' } ],
			[ 'library(DBI)' => { none => 'likewise' } ],
			[ 'dbExecute' => { none => 'likewise' } ],
			[ 'SELECT msg_id, state, visible_at' => { gives => qr/"amount": 2/ } ],
			[ 'SELECT q.queue' => { gives => qr/^orders\|3\|39$/ } ],
			[ 'SELECT * FROM cmq_timeline' => { gives => qr/^(?:[^\n]+\n){59}[^\n]+$/ } ],
		] },
	'docs/rewind.md' => {
		given => $accident,
		items => [
			[ q{cmq_create_queue('orders'} => { with => [ q{'orders'}, q{'others'} ] } ],
			@calls,
			[ q{cmq_redrive('orders_dead', filter} => { gives => qr/^0$/ } ],
			[ q{cmq_cancel_rewind('orders')} => { gives => qr/^f$/ } ],
			[ 'SELECT queue, paused_since' => { gives => qr/^orders\|\|0\|0\|\d+\|0$/ } ],
			[ q{SELECT cmq_pause_queue('orders', 'ticket} => { gives => qr/^t$/ } ],
			[ 'SELECT * FROM cmq_rewind_preview' => { gives => qr/^1234\|/ } ],
			[ 'BEGIN' => { after => q{SELECT left_of_rewind, ready, paused_since IS NOT NULL FROM cmq.status WHERE queue = 'orders'}, gives => qr/\n1234\|1234\|t$/ } ],
			[ 'SELECT cmq_resume_queue' => { after => q{SELECT paused_since FROM cmq.status WHERE queue = 'orders'}, gives => qr/^t\n?$/ } ],
			[ 'SELECT * FROM cmq_rewind_preview' => { before => "$consumed $consumed", gives => qr/^1234\|.*\n34\|/ } ],
			[ 'SELECT cmq_restore(' => { before => "$consumed $consumed", gives => qr/^1234$/ } ],
			[ 'SELECT called_at' => { gives => qr/\|restore\|.*1234\|ticket 4711: booked nothing from 09:00 to 11:00\n.*\nready\|1234\nt$/s } ],
		] },
	'docs/rights.md' => {
		given => $orders,
		items => [ [ 'GRANT USAGE, CREATE' => { after => q{SELECT has_table_privilege('billing', 'cmq.q_orders', 'DELETE'), has_table_privilege('billing', 'cmq.q_orders', 'INSERT')}, gives => qr/^t\|f$/ } ] ] },
	'docs/functions.md' => { elsewhere => '001_preload.pl calls each function; the page has signatures alone, and make check-reference compares them with the scripts' },
	'docs/scaling-out.md' => { elsewhere => '138_scaling_out.pl has three nodes, and runs its blocks of SQL; what else it tells, of lost nodes and of several addresses, is in 132 and 134' },
	'docs/topics.md' => {
		given => q{SELECT cmq_create_queue('invoices_new');},
		items => [
			[ q{SELECT cmq_create_queue('invoices'} => { gives => qr/audit_log\|(\d+)\ninvoices\|\g1$/ } ],
			[ 'SELECT cmq_rewind' => { before => q{SELECT FROM cmq_consume('audit_log');},
				after => 'SELECT count(*) FROM cmq.q_audit_log_live', gives => qr/\|\{"order": 17\}\|1\n0$/ } ],
			[ q{SELECT cmq_replay('audit_log'} => { gives => qr/^1$/ } ],
		] },
	'examples/citus.md' => { elsewhere => '306_citus.pl has Citus, and what examples/citus.md tells' },
	'examples/monitoring/README.md' => { elsewhere => '204_monitoring.pl makes its role, and starts what it tells to start' } );

#
# Running them
#

# Items with what %pages says of them; no more if it speaks of one that is not there.
sub planned
{
	my ($page, @items) = @_;
	foreach my $planned (@{ $pages{$page}{items} })
	{
		my ($begin, $what) = @$planned;
		my ($item) = grep { !$_->{what} && index($_->{text}, $begin) == 0 } @items;
		($item) = grep { !$_->{what} && index($_->{text}, $begin) >= 0 } @items unless $item;
		BAIL_OUT("$page has no item \"$begin\"") unless $item;
		$item->{what} = $what;
	}
	$_->{what} //= {} foreach @items;
	return @items;
}

sub complaints
{
	my ($err) = @_;
	return join "\n", grep { /ERROR|FATAL|PANIC|error:|invalid command|unterminated/ } split /\n/, $err;
}

# Run items in one session: what each has printed, and complained of.
sub run_items
{
	my ($database, @items) = @_;
	my $script = '';
	foreach my $i (0 .. $#items)
	{
		my ($text, $what) = (filled($items[$i]{text}), $items[$i]{what});
		$text =~ s/\Q$what->{with}[0]\E/$what->{with}[1]/g if $what->{with};
		if ($items[$i]{kind} eq 'inline')
		{
			$text = "SELECT * FROM $text" unless $text =~ /^$verb/;
			$text = $what->{for_good} ? "$text;" : "BEGIN;\n$text;\nROLLBACK;";
		}
		$script .= join "\n", "\\warn \@$i", '\o /dev/null', $what->{before} // '', '\o', "\\echo \@$i", $text, $what->{after} ? "$what->{after};" : '', '';
	}
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr($database) ], '<', \"$script\\echo \@end\n\\warn \@end\n", '>', \$out, '2>', \$err);
	foreach my $i (0 .. $#items)
	{
		my $end = $i == $#items ? 'end' : $i + 1;
		($items[$i]{out}) = $out =~ /^\@$i\n(.*?)^\@$end$/ms;
		($items[$i]{err}) = $err =~ /^\@$i\n(.*?)^\@$end$/ms;
	}
	return;
}

# Run lines as commands.
sub run_shell
{
	my ($database, $item) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	symlink "$top/examples", "$dir/examples" or die;
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = $database;
	foreach my $line (split /\n/, filled($item->{text}))
	{
		if ($line =~ /messages_per_minute\.sh/ && !find_command('gnuplot'))
		{
			note 'gnuplot is not on this machine';
			next;
		}
		my ($out, $err) = ('', '');
		IPC::Run::run([ 'sh', '-c', "cd '$dir' && $line" ], '<', \'', '>', \$out, '2>', \$err);
		$item->{out} .= $out;
		$item->{err} .= $err;
		$item->{err} .= "error: status $?\n" if $?;
	}
	return;
}

sub check
{
	my ($page, $item) = @_;
	my $name = "$page: " . substr($item->{text} =~ s/\s+/ /gr =~ s/^ //r, 0, 60);
	my ($out, $err) = map { s/\s+$//r } $item->{out} // '', $item->{err} // 'error: it was not reached';
	return is(complaints($err), '', $name) unless $item->{what}{gives};
	return ok(complaints($err) eq '' && $out =~ $item->{what}{gives}, $name) || diag("gave: $out\nnot: $item->{what}{gives}\n$err");
}

note 'a page with faults';

my @faulty = items("`SELECT 1` and `cmq_send('q', 'm')`, `SELECT`, `DROP OWNED BY`, `INSERT .. VALUES`, `cmq_send`\n\n  ```sql\n  SELECT 1/0;\n  ```\n\n```\nno SQL\n```\n");
is(join('; ', map { "$_->{kind} " . $_->{text} =~ s/\n//gr } @faulty), q{inline SELECT 1; inline cmq_send('q', 'm'); sql SELECT 1/0;; other no SQL}, 'what can be run is found');
$_->{what} = {} foreach @faulty;
run_items('postgres', @faulty[0 .. 2]);
is(join('; ', map { $_->{out} =~ s/\n//gr . (complaints($_->{err}) =~ s/.*ERROR: *//r) } @faulty[0 .. 2]), '1; queue "q" does not exist; division by zero', 'what fails is noticed');

my @there = map { s{^\Q$top\E/}{}r } "$top/README.md", grep { $_ ne "$top/docs/README.md" } glob "$top/docs/*.md $top/examples/*.md $top/examples/*/*.md";
foreach my $page (@there)
{
	note $page;
	my @items = items(slurp_file("$top/$page"));
	my $plan = $pages{$page};
	if (!$plan)
	{
		is(scalar @items, 0, "$page has nothing to run") or diag(join "\n", map { $_->{text} } @items);
		next;
	}
	if ($plan->{elsewhere})
	{
		ok(-e "$top/test/t/" . $plan->{elsewhere} =~ s/ .*//r, "$page: test/t/$plan->{elsewhere}");
		next;
	}
	my $database = $page =~ s/\W/_/gr;
	$node->sql("CREATE DATABASE \"$database\"");
	my ($out, $err) = $node->both("CREATE EXTENSION cmq", $database);
	die $err if complaints($err);
	@items = planned($page, @items);
	my @run = grep { $_->{kind} ne 'other' && !$_->{what}{none} } @items;
	if (@run)
	{
		$run[0]{what} = { %{ $run[0]{what} }, before => ($plan->{given} // '') . "\n" . ($run[0]{what}{before} // '') };
		run_items($database, @run);
	}
	run_shell($database, $_) foreach grep { $_->{what}{shell} } @items;
	foreach my $item (@items)
	{
		if ($item->{what}{none})
		{
			note 'not run: ' . substr($item->{text} =~ s/\s+/ /gr, 0, 60) . ": $item->{what}{none}";
		}
		else
		{
			check($page, $item);
		}
	}
}

#
# docs/operations.md, Upgrade of PostgreSQL: from one server to another one
#

note 'docs/operations.md, Upgrade of PostgreSQL';

my $old = $node;
my $new = CmqNode->running('new', <<'CONF');
max_worker_processes = 20
wal_retrieve_retry_interval = 100ms
CONF
$_->sql('CREATE DATABASE shop') foreach $old, $new;
$old->sql(<<'SQL', 'shop');
CREATE EXTENSION cmq;
CREATE TABLE orders (id int PRIMARY KEY, item text);
SELECT cmq_create_queue('orders', rewind_seconds => 3600);
SELECT cmq_send('orders', 'consumed');
SELECT FROM cmq_consume('orders');
SELECT cmq_send('orders', 'waits');
SQL
my ($section) = slurp_file("$top/docs/operations.md") =~ /^## Upgrade of PostgreSQL\n(.*?)^## /ms or die;
my ($dumps, $sql) = map { $_->{text} } grep { $_->{kind} ne 'inline' } items($section);
my ($position, $reached, $drop) = map { $_->{text} } grep { $_->{kind} eq 'inline' } items($section);
$dumps =~ s/-h $_->[0]\b/'-h ' . $_->[1]->host . ' -p ' . $_->[1]->port/ge foreach [ old => $old ], [ new => $new ];
my ($out, $err) = ('', '');
IPC::Run::run([ 'sh', '-ec', $dumps ], '<', \'', '>', \$out, '2>', \$err);
is($?, 0, 'the dump');
is(join("\n", grep { !/role ".*" already exists/ } split /\n/, complaints($err)), '', '... has no errors');
my ($there, $here) = $sql =~ /-- old\n(.*?)^-- new\b[^\n]*\n(.*)/ms or die;
my ($look) = $here =~ s/^(SELECT srrelid.*)//m ? $1 : die;
$old->sql($there, 'shop');
my $connection = $old->connstr('shop') =~ s/'//gr;
$here =~ s/host=old dbname=shop/$connection/ or die;
is(complaints($new->complaint($here, 'shop')), '', 'the subscription is made');
$new->poll("SELECT count(*) = 0 FROM (${\ ($look =~ s/;.*//r)}) s", 'the initial copy', db => 'shop');
$old->sql(q{SELECT cmq_send('orders', 'sent meanwhile')}, 'shop');
my $lsn = $old->sql($position, 'shop');
$old->poll("SELECT ($reached) >= '$lsn'", 'the rest has come', db => 'shop');
$new->sql($drop, 'shop');
is($new->sql(q{SELECT string_agg(body, ', ' ORDER BY msg_id) FROM cmq_consume('orders', 10)}, 'shop'), 'waits, sent meanwhile', 'what waited can be consumed there');
is($new->sql(q{SELECT count(*) FROM cmq_restore('orders', now() - interval '1 hour') n WHERE n = 3}, 'shop'), '1', '... and what was consumed can be brought back');
$_->stop, $_->is_sound foreach $old, $new;

done_testing();
