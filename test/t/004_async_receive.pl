# A transaction that did nothing but receive does not wait for the disk; all
# others do.  Nothing but such receives is lost in a crash.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->running('async', <<'CONF');
fsync = on
synchronous_commit = on
wal_writer_delay = 10s
autovacuum = off
CONF

$node->sql(q{
	CREATE TABLE business (n int);
	SELECT FROM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 3600);
	SELECT FROM cmq_create_queue('off', visibility_timeout => 43200);
	SELECT FROM cmq_send_batch('q', array(SELECT 'm' || i FROM generate_series(1, 1000) i), headers => array(SELECT jsonb_build_object('n', i % 2) FROM generate_series(1, 1000) i));
	SELECT FROM cmq_send_batch('off', array(SELECT 'm' || i FROM generate_series(1, 100) i));
	-- ledger: written in the same transactions, so as durable as they are
	CREATE TABLE sent (msg_id bigint PRIMARY KEY);
	CREATE TABLE deleted (msg_id bigint PRIMARY KEY);
});

# Is all WAL up to the end of the commit on disk when the commit returns?  The
# position to be flushed is read inside the transaction, after its last write.
sub flushed
{
	my ($work) = @_;
	return $node->sql(qq{
		BEGIN;
		$work;
		SELECT pg_current_wal_insert_lsn() AS lsn \\gset
		COMMIT;
		SELECT pg_current_wal_flush_lsn() >= :'lsn';
	});
}

# The WAL writer flushes when it likes, but not after each of many commits.
sub unflushed
{
	my ($work) = @_;
	return scalar(grep { flushed($work) eq 'f' } 1 .. 10);
}

my $receive = q{SELECT cmq_receive('q') IS NOT NULL \g /dev/null};
my $consume = q{SELECT body FROM cmq_consume('q') \g /dev/null};
my $by_id = q{SELECT body FROM cmq_receive_messages('q', array(SELECT msg_id FROM cmq.q_q_live WHERE state = 'ready' LIMIT 1)) \g /dev/null};
my %mixed = (
	'receive and INSERT' => "$receive\nINSERT INTO business VALUES (1)",
	'INSERT and receive' => "INSERT INTO business VALUES (1);\n$receive\n",
	'receive, INSERT, receive' => "$receive\nINSERT INTO business VALUES (1);\n$receive\n",
	'receive and send' => "$receive\nSELECT cmq_send('q', 'x') \\g /dev/null\n",
	'receive and delete' =>
	  q{SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q') \g /dev/null} . "\n",
	'consume' => "$consume\n",
	'consume with rewind off' => q{SELECT body FROM cmq_consume('off') \g /dev/null} . "\n",
	'consume with a filter' => q{SELECT body FROM cmq_consume('q', filter => '{"n": 1}') \g /dev/null} . "\n",
	'receive and consume' => "$receive\n$consume\n",
	'consume and receive' => "$consume\n$receive\n",
	'receive and consume in a subtransaction' => "$receive\nSAVEPOINT s;\n$consume\nRELEASE s;\n$receive\n",
	'delete by id' => q{SELECT cmq_delete_messages('q', array(SELECT msg_id FROM cmq.q_q_live WHERE state = 'ready' LIMIT 1)) \g /dev/null} . "\n",
	'receive by id and consume' => "$by_id\n$consume\n");
foreach my $what (sort keys %mixed)
{
	is(unflushed($mixed{$what} . "\n"), 0, "$what: on disk at commit");
}

cmp_ok(unflushed("$receive\n"), '>', 0, 'receive alone: not waited for');
cmp_ok(unflushed("$receive\n$receive\n"), '>', 0, 'receives alone: not waited for');
cmp_ok(unflushed("$by_id\n"), '>', 0, 'receive by id alone: not waited for');
cmp_ok(unflushed(qq{$receive\nSELECT body FROM cmq_consume('q', filter => '{"none": 1}') \\g /dev/null\n}), '>', 0, 'receive, and a consume that finds nothing: not waited for');
$node->set('cmq.async_receive', 'off');
is(unflushed("$receive\n"), 0, 'receive with cmq.async_receive off: on disk at commit');
$node->sql('ALTER SYSTEM RESET cmq.async_receive; SELECT pg_reload_conf()');
is( $node->sql(q{SELECT count(*) FROM cmq_receive('q') \g /dev/null
		SHOW synchronous_commit;}),
	'on', 'the setting of the session stays');
is( $node->sql(q{SET synchronous_commit = local;
		SELECT count(*) FROM cmq_receive('q') \g /dev/null
		SHOW synchronous_commit;}),
	'local', 'whatever it is');

# Another library that writes WAL when the transaction is about to commit, which
# cmq sees beforehand or not, depending on which of them was loaded first.
my $library = $node->build_module('at_commit');
foreach my $libraries ("$library,cmq", "cmq,$library")
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'\n");
	$node->restart;
	my $when = $libraries =~ /^cmq/ ? 'loaded after cmq' : 'loaded before cmq';
	cmp_ok(unflushed("$receive\n"), '>', 0, "another library, $when: receive alone is not waited for");
	is(unflushed("$receive\nSET LOCAL at_commit.action = 'write';\n"), 0, '... what it writes at the commit of a receive is on disk');
	is($node->sql(qq{BEGIN;\n$receive\nSET LOCAL at_commit.action = 'write'; COMMIT; SHOW synchronous_commit}), 'on', '... the setting of the session stays');
	# an error after cmq has made up its mind
	like(join(' ', $node->both(qq{BEGIN;\n$receive\nSET LOCAL at_commit.action = 'fail'; COMMIT;\nSHOW synchronous_commit}, undef, on_error_stop => 0)), qr/^on .*at_commit fails/, '... also when the commit of a receive fails');
	# all that cmq has got ready to be done at the commit is taken back
	my $numbers = q{SELECT m.pending_msg_num, a.active_msg_num, a.inactive_msg_num, a.rewind_msg_num, m.sent, m.received, m.deleted FROM cmq.metrics m, cmq_queue_attributes('q') a};
	$node->sql(q{SELECT FROM cmq_send_batch('q', '{x,y}'); SELECT FROM cmq_delete_batch('q', array(SELECT receipt_handle FROM cmq_receive('q')))});
	my $before = $node->sql($numbers);
	like($node->complaint(qq{BEGIN; SELECT cmq_send('q', 'never');\n$receive\nSELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q');
		SELECT cmq_restore('q', '-infinity'); SET LOCAL at_commit.action = 'fail'; COMMIT}), qr/at_commit fails/, '... and of one that did everything');
	is($node->sql($numbers), $before, '... nothing of it counts');
	is($node->sql(q{SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) AS ok FROM cmq_receive('q', 1000)) d WHERE ok}), (split /\|/, $before)[1], '... and all that is ready is received');
	$node->sql(q{SELECT FROM cmq_restore('q', '-infinity')});
}
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cmq'\n");
$node->restart;

# Crashes under load, as by a power failure.
my @files = $node->scripts(
	send => q{
INSERT INTO sent SELECT cmq_send('q', 'body');
},
	receive => q{
SELECT count(*) FROM cmq_receive('q', 2);
},
	eat => q{
INSERT INTO deleted SELECT msg_id FROM cmq_consume('q', 2);
},
	consume => q{
WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('q', 2))
INSERT INTO deleted SELECT msg_id FROM got WHERE cmq_delete('q', receipt_handle);
});
$node->sql(q{INSERT INTO sent SELECT cmq.msg_id(enqueued_at) FROM cmq_data.q_q;
	INSERT INTO deleted SELECT cmq.msg_id(enqueued_at) FROM cmq_data.q_q_rewind});

for my $round (1 .. 2)
{
	my $load = $node->start_pgbench('-c', '6', '-j', '2', '-T', '60', @files);
	my $enough = $node->sql('SELECT count(*) FROM sent') + 500 * $round;
	$node->wait_until("SELECT count(*) > $enough FROM sent");
	$node->kill_server;
	$load->finish;
	$node->start;

	is( $node->sql(q{SELECT count(*) FROM sent FULL JOIN cmq_data.q_q m ON msg_id = cmq.msg_id(m.enqueued_at)
			WHERE msg_id IS NULL OR m.enqueued_at IS NULL}),
		'0', "round $round: what was sent is there, and nothing else");
	is( $node->sql(q{SELECT count(*) FROM deleted FULL JOIN cmq_data.q_q_rewind r ON msg_id = cmq.msg_id(r.enqueued_at)
			WHERE msg_id IS NULL OR r.enqueued_at IS NULL}),
		'0', "round $round: what was deleted is deleted, and nothing else");
	is( $node->sql(q{SELECT count(*) FROM cmq_data.q_q m
			WHERE (SELECT count(*) FROM cmq_data.q_q_pending p WHERE p.enqueued_at = m.enqueued_at)
				+ (SELECT count(*) FROM cmq_data.q_q_rewind r WHERE r.enqueued_at = m.enqueued_at) <> 1}),
		'0', "round $round: each message is in one state");
}

# In flight or ready again: all that is pending can be received in the end.
my $pending = $node->sql('SELECT count(*) FROM cmq_data.q_q_pending');
$node->sql('UPDATE cmq_data.q_q_pending SET visible_at = enqueued_at');
my $received = 0;
while ((my $n = $node->sql(q{SELECT count(*) FROM cmq_receive('q', 1000)})) > 0)
{
	$received += $n;
}
is($received, $pending, "all $pending pending messages are received");

$node->stop;
done_testing();
