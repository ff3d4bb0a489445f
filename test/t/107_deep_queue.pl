# Attributes, cmq.status and the range of cmq_rewind in a queue with hundreds of thousands of
# messages pending: they say what the tables say, whatever is sent, received,
# deleted, rolled back, rewound, restored or changed by hand.  They read the pending
# table only where src/README says so.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('deep', <<'CONF');
max_prepared_transactions = 5
max_wal_size = 4GB
autovacuum = off
CONF

# What the tables say: rows of the pending table, due rows of the rewind table.
my $truth = q{
	WITH clock AS MATERIALIZED (SELECT cmq._clock('q') AS now),
	due AS (SELECT count(*) AS n, min(enqueued_at) AS first FROM cmq_data.q_q_rewind
			 WHERE enqueued_at >= cmq._since('q') AND cmq._due('q', enqueued_at, deleted_at, deleted_xact))
	SELECT count(*) FILTER (WHERE visible_at <= now) + (SELECT n FROM due),
		   count(*) FILTER (WHERE visible_at > now AND receive_count > 0),
		   count(*) FILTER (WHERE visible_at > now AND receive_count = 0),
		   least(min(enqueued_at), (SELECT first FROM due))
	  FROM cmq_data.q_q_pending, clock};
my $told = q{
	SELECT active_msg_num, inactive_msg_num, delay_msg_num, min_msg_time FROM cmq_queue_attributes('q')};
my $shown = q{
	SELECT ready, in_flight, delayed, latest_rewind_time FROM cmq.status WHERE queue = 'q'};

sub agrees
{
	my ($when, $before) = @_;
	$before //= '';
	my ($expected, $got, $status) = map { my $result = $node->sql("$before\n$_"); $result =~ s/.*\n//s; $result } $truth, $told, $shown;
	is($status, $expected, "$when: cmq.status shows it");
	return is($got, $expected, "$when: $expected");
}

# What a call reads, in rows: of the pending table, in the order of the heap or of an
# index, and of the messages, which are walked.  The transaction is rolled back.
sub rows_read
{
	my ($call, $before) = @_;
	my $result = $node->sql('BEGIN; ' . ($before // '') . qq{
		SELECT rows_read('cmq_data.q_q_pending') AS pending, rows_read('cmq_data.q_q') AS messages \\gset
		$call;
		SELECT rows_read('cmq_data.q_q_pending') - :pending, rows_read('cmq_data.q_q') - :messages;
		ROLLBACK});

	return split /\|/, $result =~ s/.*\n//sr;
}

my $attributes = q{SELECT * FROM cmq_queue_attributes('q')};

# What is in flight or delayed is counted, a few thousand rows with the dead ones.
my $few = 10_000;

# Right, and without reading the table.  That is measured first: what comes first after
# a step has to do without what another call would leave behind.
sub agrees_soon
{
	my ($when, $before) = @_;
	my ($pending, $walked) = rows_read($attributes, $before);

	cmp_ok($pending, '<', $few, "$when: the pending table is not read, but for $pending rows; walked over $walked messages");
	return agrees($when, $before);
}

# The same for the range check of a rewind, which wants no numbers.
sub rewinds_soon
{
	my ($when, $to) = @_;
	my ($pending, $walked) = rows_read("SELECT cmq_rewind('q', '$to')");

	is($pending, 0, "$when: a rewind does not read the pending table; walked over $walked messages");
	return;
}

# Where docs/limits.md says that the table is read: so what is measured is what is meant.
sub agrees_late
{
	my ($when) = @_;
	my ($pending) = rows_read($attributes);

	cmp_ok($pending, '>', 200_000, "$when: the pending table is read");
	return agrees($when);
}

my $messages = 300_000;
$node->sql(q{
	SELECT FROM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 345600);
	-- until then nothing is known of prepared transactions, and the mark stays where it is
	SELECT cmq_maintain();

	-- by this transaction, of the table or its leaves and their indexes
	CREATE FUNCTION rows_read(relation regclass) RETURNS bigint LANGUAGE sql AS $$
		SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(oid)), 0)::bigint FROM (
			SELECT relation AS oid
			 UNION SELECT relid FROM pg_partition_tree(relation)
			 UNION SELECT indexrelid FROM pg_index
				WHERE indrelid = relation OR indrelid IN (SELECT relid FROM pg_partition_tree(relation))) relations
	$$;
});

# two sends that are open until all that now follows is there
my $session = $node->session;
$session->query_safe(q{BEGIN; SELECT cmq_send('q', 'first of all')});
$node->sql(q{BEGIN; SELECT cmq_send('q', 'second'); PREPARE TRANSACTION 'second'});
$node->sql(qq{
	SELECT count(*) FROM (SELECT cmq_send_batch('q', array_fill('m'::text, '{10000}')) FROM generate_series(1, $messages / 10000)) s;
});
cmp_ok($node->sql("SELECT pg_relation_size('cmq_data.q_q_pending')"), '>', 8 * 1024 * 1024, 'the queue counts as large');
$node->sql(q{SELECT cmq_maintain()});
agrees_soon('waiting, two older sends open');
$session->query_safe('COMMIT');
$session->quit;
agrees_soon('the older one committed');
$node->sql(q{SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q')});
$node->sql(q{SELECT cmq_maintain()});
agrees_soon('and consumed');
$node->sql(q{COMMIT PREPARED 'second'});
agrees('the other one committed');
$node->sql(q{SELECT cmq_maintain()});
agrees_soon('and counted');

my $consume = q{SELECT count(*) FROM cmq_delete_batch('q', array(SELECT receipt_handle FROM cmq_receive('q', 500)));};
$node->sql($consume);
agrees_soon('consumed the oldest');
my (undef, $walked) = rows_read($attributes);
cmp_ok($walked, '<', 10, 'nobody walks twice over what is consumed');
my ($pending, $seen) = rows_read($shown);
cmp_ok($pending + $seen, '<', $few, "cmq.status reads as little: $pending pending rows, $seen messages");
$node->sql($consume) foreach 1 .. 10;
agrees_soon('consumed more');
agrees_soon('consumed, not committed, seen from inside', "BEGIN; $consume");
agrees_soon('and rolled back');
agrees_soon('consumed, the savepoint rolled back, seen from inside', "BEGIN; SAVEPOINT s; $consume $attributes; ROLLBACK TO s;");
$node->sql("BEGIN; SAVEPOINT s; $consume $attributes; ROLLBACK TO s; $attributes; COMMIT");
agrees_soon('rolled back to a savepoint');
my @handles = split /\n/, $node->sql(q{SELECT receipt_handle FROM cmq_receive('q', 1000)});
$node->sql(q{SELECT count(*) FROM (SELECT cmq_send('q', 'later', 3600) FROM generate_series(1, 200)) s});
agrees_soon('in flight and delayed');

# a delete of the oldest that is still open: its message is not consumed
$node->sql(qq{BEGIN; SELECT cmq_delete('q', '$handles[0]'); PREPARE TRANSACTION 'delete'});
$node->sql("SELECT cmq_delete('q', '$_')") foreach @handles[ 1 .. 5 ];
$node->sql(q{SELECT cmq_maintain()});
agrees_soon('an open delete');
$node->sql(q{ROLLBACK PREPARED 'delete'});
agrees('rolled back');
$node->sql(q{SELECT cmq_maintain()});
agrees_soon('counted again');
$node->sql("SELECT cmq_delete('q', '$handles[0]')");
agrees_soon('and done');

# a send that commits late, when younger ones are there
$node->sql(q{BEGIN; SELECT cmq_send('q', 'early') FROM generate_series(1, 3); PREPARE TRANSACTION 'send'});
$node->sql(q{SELECT count(*) FROM cmq_send_batch('q', '{a,b}')});
agrees('an open send');
$node->sql(q{COMMIT PREPARED 'send'});
agrees('committed late');
$node->sql(q{SELECT cmq_maintain()});
agrees_soon('and counted');

# rewinds
my $first = $node->sql('SELECT min(enqueued_at) FROM cmq_data.q_q');
rewinds_soon('before a rewind', $first);
agrees_soon('a rewind rolled back');
rewinds_soon('before another', $first);
$node->sql("SELECT cmq_rewind('q', '$first')");
agrees_soon('rewound');
$node->sql($consume);
agrees_soon('some of it consumed again');
$node->sql(q{SELECT count(*) FROM cmq_receive('q', 3)});
agrees_soon('and in flight');
$node->sql("SELECT cmq_cancel_rewind('q')");
agrees_soon('the rest cancelled');
$node->sql("SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 50)");
agrees_soon('and some more consumed');

# restores of the oldest, where nobody looks any more
my $hundredth = $node->sql('SELECT enqueued_at FROM cmq_data.q_q ORDER BY enqueued_at OFFSET 100 LIMIT 1');
my $restore = "SELECT cmq_restore('q', '$first', '$hundredth');";
agrees_soon('restored, seen from inside', "BEGIN; $restore");
agrees_soon('and rolled back');
$node->sql($restore);
agrees_soon('restored');
$node->sql(q{SELECT cmq_restore_messages('q', array(SELECT msg_id FROM cmq.q_q_history ORDER BY msg_id LIMIT 3))});
agrees_soon('restored by id');

$node->sql("SELECT cmq_rewind('q', '$first')");
agrees_soon('rewound again');
$node->sql(q{SELECT count(*) FROM cmq_receive('q', 700)}) foreach (1 .. 2);
agrees_soon('all of it in flight');

# what attributes say is what a rewind accepts, to the microsecond
my ($from, $to) = split /\|/, $node->sql(q{SELECT earliest_rewind_time, latest_rewind_time FROM cmq_queue_attributes('q')});
is($node->complaint("BEGIN; SELECT cmq_rewind('q', '$to'); ROLLBACK"), '', 'the latest start is accepted');
rewinds_soon('the latest start', $to);
like($node->complaint("SELECT cmq_rewind('q', '$to'::timestamptz + interval '1 microsecond')"), qr/start_time is after the earliest unconsumed message/, 'one microsecond later is not');

# by hand
$node->sql(q{UPDATE cmq_data.q_q_pending SET visible_at = enqueued_at WHERE receive_count > 0});
agrees_late('made ready by hand');
$node->sql(q{SELECT cmq_maintain('q')});
agrees_soon('after maintenance');

# Nothing is known after a start, but maintenance finds out.
# without the worker, which counts in its first round
$node->append_conf('postgresql.conf', 'max_worker_processes = 0');
$node->restart;
agrees_late('after a restart');
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;
$node->sql(q{SELECT cmq_maintain()});
agrees_soon('and maintenance');
$node->crash;
$node->sql(q{SELECT cmq_maintain('q')});
agrees('after a crash');
$node->sql(q{SELECT cmq_maintain()});
agrees_soon('and maintenance');

# traffic, with maintenance moving the mark
my $script = $node->script('traffic', <<'SQL');
\set what random(1, 5)
BEGIN;
SELECT cmq_send('q', 'm') \gset
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 20)) d;
\if :what = 1
ROLLBACK;
\else
COMMIT;
\endif
SQL
my $load = $node->start_pgbench('-c', '4', '-j', '2', '-t', '200', '-f', $script);
for (1 .. 20)
{
	$node->sql(q{SELECT FROM cmq_queue_attributes('q'); SELECT cmq_maintain('q')});
}
$load->complete;
agrees('after traffic');
$node->sql(q{SELECT cmq_maintain()});
agrees_soon('and maintenance');
$node->sql($consume) foreach 1 .. 20;
agrees_late('so much consumed that this is faster');
agrees_soon('and then');
$node->sql(qq{
	WITH back AS (DELETE FROM cmq_data.q_q_rewind WHERE enqueued_at = (SELECT min(enqueued_at) FROM cmq_data.q_q_rewind) RETURNING *)
	INSERT INTO cmq_data.q_q_pending SELECT enqueued_at, enqueued_at, NULL, 0, rewind_count FROM back});
agrees_late('brought back by hand');

# cleared
$node->sql(q{BEGIN; SELECT cmq_clear_queue('q'); ROLLBACK});
agrees('a clear rolled back');
cmp_ok($node->sql(q{SELECT cmq_clear_queue('q')}), '>', 200_000, 'cleared');
is($node->sql(q{SELECT active_msg_num, inactive_msg_num, delay_msg_num, min_msg_time > now() - interval '1 minute' FROM cmq_queue_attributes('q')}),
	'0|0|0|t', 'nothing is left');
$node->sql(q{SELECT count(*) FROM cmq_send_batch('q', '{a,b}')});
agrees('new messages');

# What a rewind has yet to bring back is older than all that is pending: while the
# table is small it is read, and that must not be forgotten when it is large.
$node->sql(q{
	SELECT FROM cmq_create_queue('small', visibility_timeout => 43200, rewind_seconds => 3600);
	SELECT count(*) FROM cmq_send_batch('small', array_fill('m'::text, '{10}'));
});
$node->consume('small', 10);
$node->sql(q{SELECT cmq_send('small', 'x')});
$node->sql(q{SELECT cmq_rewind('small', (SELECT min(enqueued_at) FROM cmq_data.q_small))});
$node->sql(q{SELECT FROM cmq_queue_attributes('small'); SELECT cmq_maintain('small')});
is($node->sql(q{SELECT count(*) FROM cmq_receive('small', 10)}), '10', 'they come back');
$node->sql(q{SELECT count(*) FROM (SELECT cmq_send_batch('small', array_fill('m'::text, '{10000}')) FROM generate_series(1, 20)) s});
cmp_ok($node->sql(q{SELECT pg_relation_size('cmq_data.q_small_pending')}), '>', 8 * 1024 * 1024, 'now it is large');
is($node->sql(q{SELECT min_msg_time FROM cmq_queue_attributes('small')}), $node->sql(q{SELECT min(enqueued_at) FROM cmq_data.q_small_pending}),
	'the earliest message is one that came back');
like($node->complaint("\\set VERBOSITY sqlstate\nSELECT cmq_rewind('small', (SELECT min(enqueued_at) + interval '1 microsecond' FROM cmq_data.q_small_pending))"), qr/ERROR:  22023/, 'and no rewind starts behind it');

$node->stop;
done_testing();
