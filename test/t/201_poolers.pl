# Clients behind pgbouncer, in both of its useful modes, with every session reset
# between two of them: senders, consumers, some that wait for messages, some that are
# killed.  Every message is counted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my ($pgbouncer) = grep { -x $_ } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
plan skip_all => 'pgbouncer is not installed' unless $pgbouncer;

my $node = CmqNode->running('main', <<'CONF');
autovacuum = off
statement_timeout = 120s
CONF

# Databases of pgbouncer: pools of their own, of 3 places each.
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $server = 'host=' . $node->host . ' port=' . $node->port . ' dbname=postgres user=' . $node->sql('SELECT current_user');
append_to_file("$dir/pgbouncer.ini", <<"INI");
[databases]
transactions = $server pool_mode=transaction
sessions = $server pool_mode=session
waiting = $server pool_mode=transaction
[pgbouncer]
listen_port = $port
unix_socket_dir = $dir
auth_type = any
default_pool_size = 3
max_client_conn = 100
server_reset_query = DISCARD ALL
server_reset_query_always = 1
INI
my $pooler = $node->beside('sh', '-c', 'exec "$0" "$1" > "$2" 2>&1', $pgbouncer, "$dir/pgbouncer.ini", "$dir/log");

sub client
{
	my ($database, @args) = @_;
	return $node->beside('psql', '-XAtq', '-h', $dir, '-p', $port, '-d', $database, @args);
}

sub finish
{
	my ($client) = @_;
	$client->finish;
	return ($client->{out} . $client->{err}) =~ s/\s+$//r;
}

ok(eventually(sub { finish(client('transactions', '-c', 'SELECT 1')) eq '1' }), 'pgbouncer runs') or BAIL_OUT(slurp_file("$dir/log"));

$node->sql(q{
	SELECT FROM cmq_create_queue('q', visibility_timeout => 1, rewind_seconds => 3600);
	SELECT FROM cmq_create_queue('w', visibility_timeout => 43200);
	CREATE TABLE sent (msg_id bigint PRIMARY KEY);
	CREATE TABLE done (msg_id bigint PRIMARY KEY, who text)});

note 'receives that wait';

my $wait = q{SELECT body FROM cmq_receive('w', 1, NULL, 30)};
my @waiting = map { client('waiting', '-c', $wait) } 1 .. 3;
$node->wait_for_waiters(3);
# all places of their pool are taken; those of the others are not
like(finish(client($_, '-c', q{SELECT cmq_send('w', 'm')})), qr/^\d+$/, "in a pool of their own do not hold up a send: $_") foreach 'transactions', 'sessions', 'transactions';
is(join(' ', map { finish($_) } @waiting), 'm m m', '... and each has a message');
is($node->sql(q{SELECT inactive_msg_num FROM cmq_queue_attributes('w')}), '3', '... of its own');

# one that comes when the pool is full has its turn
@waiting = map { client('waiting', '-c', $wait) } 1 .. 3;
$node->wait_for_waiters(3);
my $logins = sub { scalar(() = slurp_file("$dir/log") =~ /login attempt: db=waiting/g) };
my $before = $logins->();
push @waiting, client('waiting', '-c', $wait);
eventually { $logins->() > $before } or BAIL_OUT('no client comes');
$waiting[$_]->kill foreach 0 .. 2;
# their sessions do not know yet
$node->wait_for_waiters(4);
$node->sql(q{SELECT cmq_send('w', 'for the living')});
is(finish($waiting[3]), 'for the living', 'those whose client is killed give up their places, and take no message with them');
is($node->sql(q{SELECT active_msg_num, inactive_msg_num FROM cmq_queue_attributes('w')}), '0|4', '... it was delivered once');
$node->sql(q{SELECT cmq_drop_queue('w')});

note 'what a session was told is forgotten';

is(finish(client('sessions', '-c', q{SET cmq.reason = 'of the one before'; SET cmq.async_receive = off; PREPARE p AS SELECT cmq_send('q', $1)}, '-c', 'SELECT 1')), '1', 'a client sets something');
is(join(' ', map { finish(client('sessions', '-c', q{SELECT current_setting('cmq.reason') || current_setting('cmq.async_receive') || count(*) FROM pg_prepared_statements})) } 1 .. 4), 'on0 on0 on0 on0', '... the next ones do not have it');

note 'traffic';

my %work = (
	send => q{INSERT INTO sent SELECT cmq_send('q', 'm');},
	send_batch => q{BEGIN;
INSERT INTO sent SELECT * FROM cmq_send_batch('q', '{a,b,c,d,e}');
COMMIT;},
	send_and_roll_back => q{BEGIN;
SELECT cmq_send('q', 'never');
ROLLBACK;},
	consume => q{WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('q', 4)) INSERT INTO done SELECT msg_id, 'consume' FROM got WHERE cmq_delete('q', receipt_handle);},
	consume_in_pieces => q{BEGIN;
SELECT coalesce(max(receipt_handle), '') AS handle, coalesce(max(msg_id), 0) AS id FROM cmq_receive('q') \gset
INSERT INTO done SELECT :'id', 'pieces' WHERE CASE WHEN :'handle' <> '' THEN cmq_delete('q', :'handle') END;
COMMIT;},
	receive => q{SELECT count(*) FROM cmq_receive('q', 2);});
my %files = map { $_ => $node->script($_, "$work{$_}\n" x 20000) } keys %work;
# statements that a session has prepared
$files{prepared} = $node->script('prepared', q{PREPARE s AS INSERT INTO sent SELECT cmq_send('q', $1);
PREPARE c AS WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('q', $1)) INSERT INTO done SELECT msg_id, 'prepared' FROM got WHERE cmq_delete('q', receipt_handle);
} . "EXECUTE s('p');\nEXECUTE c(3);\n" x 20000);
my @kinds = ((map { [ 'transactions', $_ ] } sort keys %work), [ 'transactions', 'consume' ], [ 'sessions', 'prepared' ], [ 'sessions', 'consume_in_pieces' ], [ 'sessions', 'send' ],
	[ 'waiting', 'waiting' ]);
$files{waiting} = $node->script('waiting', q{WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('q', 1, NULL, 5)) INSERT INTO done SELECT msg_id, 'waiting' FROM got WHERE cmq_delete('q', receipt_handle);
} x 20000);
sub run_kind
{
	my ($kind) = @_;
	return client($kind->[0], '-o', '/dev/null', '-f', $files{$kind->[1]});
}
my @clients = map { run_kind($_) } @kinds;
foreach my $round (1 .. 8)
{
	my $enough = $node->sql('SELECT count(*) FROM done') + 200;
	$node->wait_until("SELECT count(*) > $enough FROM done");
	foreach my $i (0 .. $#clients)
	{
		next if ($i + $round) % 2;
		$clients[$i]->kill;
		$clients[$i] = run_kind($kinds[$i]);
	}
}
$_->kill foreach @clients;
is(join(' ', grep { /ERROR|FATAL|server closed/ } map { $_->{err} } @clients), '', 'no client had an error');
is(join(' ', sort split /\n/, $node->sql('SELECT DISTINCT who FROM done')), 'consume pieces prepared waiting', 'all kinds of consumers have consumed');
$node->poll(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND (state <> 'idle' OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()}, 'nothing is left open');
$pooler->kill;
is($node->sql(q{SELECT count(*) FROM sent FULL JOIN cmq_data.q_q m ON msg_id = cmq.msg_id(m.enqueued_at) WHERE msg_id IS NULL OR m.enqueued_at IS NULL}), '0', 'what was sent is there, and nothing else');
is($node->sql(q{SELECT count(*) FROM done FULL JOIN cmq_data.q_q_rewind r ON msg_id = cmq.msg_id(r.enqueued_at) WHERE msg_id IS NULL OR r.enqueued_at IS NULL}), '0', 'what was deleted is deleted, and nothing else');
is($node->sql(q{SELECT (SELECT pending_msg_num FROM cmq.metrics) - (SELECT count(*) FROM cmq_data.q_q_pending)}), '0', 'the number is right');
$node->sql(q{DO $$ BEGIN
	WHILE EXISTS (SELECT FROM cmq_data.q_q_pending) LOOP
		WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('q', 1000)) INSERT INTO done SELECT msg_id FROM got WHERE cmq_delete('q', receipt_handle);
		COMMIT;
	END LOOP; END $$});
is($node->sql(q{SELECT count(*) FROM sent FULL JOIN done USING (msg_id) WHERE sent IS NULL OR done IS NULL}), '0', 'everything that was sent is consumed once');

$node->stop;
$node->is_sound;
done_testing();
