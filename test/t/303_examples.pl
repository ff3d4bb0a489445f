# examples/reconcile.sql and messages_per_minute: what they say, and what they refuse.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use IPC::Run ();
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $node = CmqNode->running('examples', 'cmq.maintenance_interval = 1min', allows_streaming => 1);

local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGDATABASE} = 'postgres';
local $ENV{HOME} = $node->basedir;
# where summer time never begins or ends
local $ENV{PGTZ} = 'Asia/Kolkata';

# Exit status, output and complaints of a command.
sub outcome
{
	my ($out, $err) = ('', '');
	IPC::Run::run([@_], '<', \'', '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

# The same of an example for psql, with these variables.
sub example
{
	my ($file, %variable) = @_;
	my $options = $file eq 'reconcile.sql' ? '-XAt' : '-X';
	return outcome('psql', $options, '-f', "$top/examples/$file", map { ('-v', "$_=$variable{$_}") } sort keys %variable);
}

# The call is refused with a status that is not 0, and nothing is printed but the complaint.
sub refused
{
	my ($name, $complaint, $file, %variable) = @_;
	my ($status, $out, $err) = example($file, %variable);
	is($status, 3, "$file: $name: status");
	like($err, qr/ERROR:  $complaint\n/, "$file: $name: complaint");
	is($out, '', "$file: $name: no more than that");
	return $err;
}

# Move each message to the minute that its headers name, in the order of sending; what is in
# flight or delayed stays so.
sub spread
{
	my ($queue) = @_;
	$node->sql(qq{
		\\i $top/test/helpers.sql
		SELECT pg_temp.age('$queue', '3 hours');
		CREATE TEMP TABLE moved AS
		SELECT enqueued_at AS old,
			   minute(m.minute) + (row_number() OVER (PARTITION BY m.minute ORDER BY enqueued_at) - 1) * interval '1 s' AS new
		  FROM cmq_data."q_$queue", LATERAL (SELECT (headers ->> 'minute')::int) m (minute);
		UPDATE cmq_data."q_$queue" SET enqueued_at = new FROM moved WHERE enqueued_at = old;
		UPDATE cmq_data."q_${queue}_rewind" SET enqueued_at = new FROM moved WHERE enqueued_at = old;
		UPDATE cmq_data."q_${queue}_pending" SET enqueued_at = new,
			visible_at = CASE WHEN visible_at > enqueued_at THEN now() + interval '1 hour' ELSE new END
		  FROM moved WHERE enqueued_at = old;
		SELECT pg_temp.reload('$queue');
	});
	return;
}

$node->sql(q{
	CREATE TABLE base AS SELECT date_trunc('minute', now()) - interval '1 hour' AS start;
	CREATE FUNCTION minute(n int) RETURNS timestamptz STABLE BEGIN ATOMIC SELECT start + n * interval '1 min' FROM base; END;
	CREATE FUNCTION send(queue text, minute int, body text, delay_seconds int DEFAULT 0) RETURNS bigint
		BEGIN ATOMIC SELECT cmq_send(queue, body, delay_seconds, jsonb_build_object('minute', minute)); END;
	CREATE FUNCTION consume(queue text) RETURNS bigint
		BEGIN ATOMIC SELECT count(cmq_delete(queue, receipt_handle)) FROM cmq_receive(queue, 1000); END;
	-- as the examples write it
	CREATE FUNCTION shown(n int) RETURNS text STABLE BEGIN ATOMIC SELECT to_char(minute(n), 'YYYY-MM-DD HH24:MITZH:TZM'); END;
});
my ($from, $until) = map { $node->sql("SELECT shown($_)") } 0, 6;

#
# reconcile.sql
#

# 1 and 3 are not booked, 2 is booked twice, 4 is not consumed; 8 is not booked either, but
# out of the window
$node->sql(q{
	SELECT FROM cmq_create_queue('payments', rewind_seconds => 86400);
	CREATE TABLE ledger (msg_id bigint, amount numeric);
	SELECT send('payments', minute, format('{"amount": %s}', amount)) FROM (VALUES (0, 1), (1, 2), (2, 3), (6, 8)) m (minute, amount);
	SELECT consume('payments');
	SELECT send('payments', 5, '{"amount": 4}');
});
spread('payments');
$node->sql(q{
	INSERT INTO ledger SELECT cmq.msg_id(minute(1)), 2 FROM generate_series(1, 2);
});
my %call = (queue => 'payments', ledger => 'ledger', from => $from, until => $until);

foreach my $variable (sort keys %call)
{
	my %lacking = %call;
	delete $lacking{$variable};
	my $err = refused("no $variable", "missing: $variable", 'reconcile.sql', %lacking);
	like($err, qr/HINT:  psql -v queue=payments -v ledger=ledger -v from='.*' -v until='.*' \[-v repair=on\] -f /, "reconcile.sql: no $variable: how to call it");
}
refused('no variable', 'missing: queue, ledger, from, until', 'reconcile.sql');
refused("repair is $_", qq{repair is on or off, not "$_"}, 'reconcile.sql', %call, repair => $_) foreach ('yes', '');
refused('the window ends before it begins', 'until must be later than from', 'reconcile.sql', %call, from => $until, until => $from);
refused('no such queue', 'there is no queue "Payments"', 'reconcile.sql', %call, queue => 'Payments');
refused('no such ledger', 'relation "ledgers" does not exist', 'reconcile.sql', %call, ledger => 'ledgers');
refused('a ledger of something else', 'ledger base has no columns msg_id and amount', 'reconcile.sql', %call, ledger => 'base');
refused('no end', 'from and until must be finite', 'reconcile.sql', %call, until => 'infinity');
refused('no such time', 'invalid input syntax for type timestamp with time zone: "nine"', 'reconcile.sql', %call, from => 'nine');

my %id = map { $_ => $node->sql("SELECT cmq.msg_id(minute($_))") } 0 .. 6;
my $user = $node->sql('SELECT current_user');
my $window = $node->sql(q{SELECT concat_ws('|', minute(0), minute(6))});
my $report = <<END;
Reconciled
payments|public.ledger|$window
What happened to the messages of that time
deleted|3|6
ready|1|4
Deleted but not booked: money that is missing
$user|2|4|{$id{0},$id{2}}
Booked more than once, or with another amount: to be corrected by hand
1|2|4|{$id{1}}
Never consumed: still pending, nothing to repair
1|4|{$id{5}}
Booked, but there is no such message any more: expired, or never sent
0|0|
END
my $advice = <<'END';
Nothing was changed. With -v repair=on as well, this makes the messages that were deleted but
not booked ready again: 2 messages, amount 4.
END
is_deeply([ example('reconcile.sql', %call) ], [ 0, $report . $advice, '' ], 'reconcile.sql: report');

my $standby = $node->standby('standby');
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
{
	local $ENV{PGHOST} = $standby->host;
	local $ENV{PGPORT} = $standby->port;
	is_deeply([ example('reconcile.sql', %call) ], [ 0, $report . $advice, '' ], 'reconcile.sql: report of a standby');
}
$standby->stop;

# A report writes nothing, not even what a ledger that is a view calls.
$node->sql(q{
	CREATE FUNCTION meddle_always() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM cmq_restore_messages('payments', ARRAY[cmq.msg_id(minute(2))]);
		RETURN true;
	END $$;
	CREATE VIEW writing AS SELECT msg_id, amount FROM ledger WHERE meddle_always();
});
my ($status, $out, $err) = example('reconcile.sql', %call, ledger => 'writing');
is($status, 3, 'reconcile.sql: report: cannot write: status');
like($err, qr/ERROR:  cannot execute cmq_restore_messages\(\) in a read-only transaction\n/, 'reconcile.sql: report: cannot write: complaint');

# One of the missing messages is restored by somebody else behind the repair's back: here, by
# the ledger itself while the repair reads it.
$node->sql(q{
	CREATE FUNCTION meddle() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		IF current_query() ~ 'CREATE TEMP TABLE missing' THEN
			PERFORM cmq_restore_messages('payments', ARRAY[cmq.msg_id(minute(2))]);
		END IF;
		RETURN true;
	END $$;
	CREATE VIEW meddling AS SELECT msg_id, amount FROM ledger WHERE meddle();
});
my $before = $node->sql(q{SELECT string_agg(a::text, ' ' ORDER BY msg_id) FROM cmq.q_payments_all a});
($status, $out, $err) = example('reconcile.sql', %call, ledger => 'meddling', repair => 'on');
is($status, 3, 'reconcile.sql: not all can be restored: status');
like($err, qr/ERROR:  not all missing messages could be restored\nDETAIL:  Nothing was changed\.\n$/, 'reconcile.sql: not all can be restored: complaint');
is($node->sql(q{SELECT string_agg(a::text, ' ' ORDER BY msg_id) FROM cmq.q_payments_all a}), $before, 'reconcile.sql: not all can be restored: none is');

my $repaired = <<'END';
Restored: exactly the missing ones
2|4
On the record
restore|2|reconciliation: deleted but not booked
END
is_deeply([ example('reconcile.sql', %call, repair => 'on') ], [ 0, $report . $repaired, '' ], 'reconcile.sql: repair');
is($node->sql(q{SELECT string_agg(body::jsonb ->> 'amount', ' ' ORDER BY msg_id) FROM cmq.q_payments_live WHERE state = 'ready'}), '1 3 4', 'reconcile.sql: these are ready');
($status, $out, $err) = example('reconcile.sql', %call, repair => 'on');
like($out, qr/\nNothing is deleted but not booked: nothing to repair\.\n$/, 'reconcile.sql: nothing to repair');
is($node->sql(q{SELECT count(*) FROM cmq.rewinds}), 1, 'reconcile.sql: and nothing on the record');

# the window begins before the history does
($status, $out, $err) = example('reconcile.sql', %call, from => $node->sql(q{SELECT minute(0) - interval '1 day'}));
like($out, qr/\nNote: the history of this queue has the messages that were produced in the last 86400 seconds\.\nOlder ones /, 'reconcile.sql: a window that begins too early');

#
# messages_per_minute
#

# one each before the window and at its end
$node->sql(q{
	SELECT FROM cmq_create_queue('Shop-1_x', rewind_seconds => 86400);
	SELECT send('Shop-1_x', minute, 'deleted') FROM unnest('{-1,0,0,0,2}'::int[]) minute;
	SELECT consume('Shop-1_x');
	SELECT send('Shop-1_x', minute, 'in flight') FROM unnest('{2,2,4}'::int[]) minute;
	SELECT count(*) FROM cmq_receive('Shop-1_x', 1000);
	SELECT send('Shop-1_x', minute, 'ready') FROM unnest('{2,2,2,2,6}'::int[]) minute;
	SELECT send('Shop-1_x', 5, 'delayed', 3000);
});
spread('Shop-1_x');
%call = (queue => 'Shop-1_x', from => $from, until => $until);

foreach my $variable (sort keys %call)
{
	my %lacking = %call;
	delete $lacking{$variable};
	my $err = refused("no $variable", "missing: $variable", 'messages_per_minute.sql', %lacking);
	like($err, qr/HINT:  psql -v queue=orders -v from='.*' -v until='.*' -f /, "messages_per_minute.sql: no $variable: how to call it");
}
refused('the window ends before it begins', 'until must be later than from', 'messages_per_minute.sql', %call, from => $until, until => $from);
refused('no such queue', 'there is no queue "shop-1_x"', 'messages_per_minute.sql', %call, queue => 'shop-1_x');
refused('no end', 'from and until must be finite', 'messages_per_minute.sql', %call, until => 'infinity');

my @numbers = ('0,0,0,3', '0,0,0,0', '4,0,2,1', '0,0,0,0', '0,0,1,0', '0,1,0,0');
my $csv = join '', map { $node->sql("SELECT shown($_)") . ",$numbers[$_]\n" } 0 .. 5;
is_deeply([ example('messages_per_minute.sql', %call) ], [ 0, "minute,ready,delayed,in_flight,deleted\n$csv", '' ], 'messages_per_minute.sql: numbers');

# the third minute has the deleted one, those in flight and those ready, a second apart
is_deeply([ example('messages_per_minute.sql', %call, from => $node->sql(q{SELECT minute(2) + interval '1 s'}), until => $node->sql(q{SELECT minute(2) + interval '5 s'})) ],
	[ 0, "minute,ready,delayed,in_flight,deleted\n" . $node->sql('SELECT shown(2)') . ",2,0,2,0\n", '' ], 'messages_per_minute.sql: a part of a minute');

# Summer time ends at 01:00 UTC: what follows is not taken for the hour before.
{
	local $ENV{PGTZ} = 'Europe/Berlin';
	is_deeply([ example('messages_per_minute.sql', queue => 'Shop-1_x', from => '2025-10-26 00:59+00', until => '2025-10-26 01:01+00') ],
		[ 0, "minute,ready,delayed,in_flight,deleted\n2025-10-26 02:59+02:00,0,0,0,0\n2025-10-26 03:00+02:00,0,0,0,0\n", '' ],
		'messages_per_minute.sql: over the end of summer time');
}

my $script = "$top/examples/messages_per_minute.sh";
my ($bash) = grep { -x } map { "$_/bash" } split /:/, $ENV{PATH};
my $picture = $node->basedir . '/a picture.svg';

# nobody has gnuplot here
{
	my $empty = $node->basedir . '/empty';
	mkdir $empty or die;
	local $ENV{PATH} = $empty;
	($status, $out, $err) = outcome($bash, $script, 'Shop-1_x', $from, $until, $picture);
	is($status, 1, 'messages_per_minute.sh: no gnuplot: status');
	is($err, "messages_per_minute.sh: gnuplot is missing; on Debian: apt-get install gnuplot-nox\n", 'messages_per_minute.sh: no gnuplot: complaint');
}
($status, $out, $err) = outcome($bash, $script, 'Shop-1_x', $from, $until);
is($status, 1, 'messages_per_minute.sh: no file: status');
is($err, "usage: messages_per_minute.sh queue from until file.svg|file.png\n", 'messages_per_minute.sh: no file: how to call it');

SKIP:
{
	skip 'gnuplot is not installed', 1 unless grep { -x "$_/gnuplot" } split /:/, $ENV{PATH};

	($status, $out, $err) = outcome($bash, $script, 'Shop-1_x', '2025-10-26 00:59+00', '2025-10-26 01:01+00', $picture);
	is($status, 1, 'messages_per_minute.sh: no messages: status');
	is($err, "messages_per_minute.sh: queue Shop-1_x has no messages from 2025-10-26 00:59+00 until 2025-10-26 01:01+00\n", 'messages_per_minute.sh: no messages: complaint');
	($status, $out, $err) = outcome($bash, $script, 'shop-1_x', $from, $until, $picture);
	is($status, 3, 'messages_per_minute.sh: no such queue: status');
	ok(!-e $picture, 'messages_per_minute.sh: no picture of nothing');

	($status, $out, $err) = outcome($bash, $script, 'Shop-1_x', $from, $until, $picture);
	is($status, 0, 'messages_per_minute.sh: svg') or diag $err;
	my $svg = slurp_file($picture);
	like($svg, qr{^<\?xml .*<svg .*</svg>\s*$}s, 'messages_per_minute.sh: svg: is one');
	my @texts = $svg =~ m{<text>(?:<tspan[^>]*>)?([^<]*)}g;
	my $first_to_last = $node->sql(q{SELECT to_char(minute(0), 'YYYY-MM-DD HH24:MI" to "') || to_char(minute(6), CASE WHEN minute(0)::date = minute(6)::date THEN 'HH24:MI' ELSE 'YYYY-MM-DD HH24:MI' END)});
	foreach my $text ('delayed (1)', 'ready (4)', 'in_flight (3)', 'deleted (4)', 'Messages of queue Shop-1_x', $first_to_last, 'Minute of production (UTC+05:30)')
	{
		ok(scalar(grep { $_ eq $text } @texts), "messages_per_minute.sh: svg: $text") or diag join "\n", @texts;
	}

	$picture =~ s/svg$/png/;
	($status, $out, $err) = outcome($bash, $script, 'Shop-1_x', $from, $until, $picture);
	is($status, 0, 'messages_per_minute.sh: png') or diag $err;
	like(slurp_file($picture), qr/^\x89PNG\r\n.*IEND/s, 'messages_per_minute.sh: png: is one');
}

$node->stop;
done_testing();
