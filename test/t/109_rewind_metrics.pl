# cmq.metrics says exactly what a rewind still has to bring back: in the midst of
# traffic, after restarts and crashes, with prepared transactions, with messages that
# expire, and on a standby.  It does not read the history again at each look.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('rewinds', <<'CONF', allows_streaming => 1);
max_prepared_transactions = 10
hot_standby_feedback = on
autovacuum = off
CONF

# What is left of the rewind, and all that is pending: as cmq.metrics says, as
# cmq_queue_attributes counts it, and as it stands in the tables.
sub is_exact
{
	my ($when, $on) = @_;
	$on //= $node;
	my ($left, $pending) = split /\|/, $on->sql(q{SELECT left_of_rewind, pending_msg_num FROM cmq.metrics WHERE queue = 'q'});
	is($left, $on->sql(q{SELECT count(*) FROM cmq_data.q_q_rewind WHERE enqueued_at >= cmq._expired_before('q')
			AND cmq._due('q', enqueued_at, deleted_at, deleted_xact)}), "$when: $left left of the rewind");
	is($pending, $on->sql(q{SELECT active_msg_num + inactive_msg_num + delay_msg_num FROM cmq_queue_attributes('q')}),
		"$when: $pending pending");
	return $left;
}

# How many pages does a look at the metrics read?
sub pages { return $node->pages(q{SELECT * FROM cmq.metrics WHERE queue = 'q'}, 'SELECT FROM cmq.metrics'); }

sub fill
{
	my ($n) = @_;
	return $node->sql(qq{
		SELECT count(*) FROM (SELECT cmq_send_batch('q', array_fill('m'::text, '{1000}')) FROM generate_series(1, $n / 1000)) s;
		SELECT count(*) FROM generate_series(1, $n / 1000),
			LATERAL (SELECT count(*) FROM cmq_delete_batch('q', array(SELECT receipt_handle FROM cmq_receive('q', 1000 + 0 * generate_series)))) d});
}

$node->sql(q{
	SELECT FROM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 345600);
	SELECT cmq_maintain();
});
is_exact('empty');

#
# The cost of a look.
#

fill(60_000);
is_exact('consumed');
$node->sql('VACUUM ANALYZE');
my $before = pages();
is($node->rewind('q'), 't', 'rewound');
is(is_exact('rewound'), 60_000, 'all of it');
my $history = $node->sql(q{SELECT sum(pg_relation_size(relid)) / 8192 FROM pg_partition_tree('cmq_data.q_q_rewind')});
$history = int $history;
cmp_ok($history, '>', 500, "the history has $history pages");
my $pages = pages();
cmp_ok($pages - $before, '<', $history / 5, "a look reads $pages pages, $before without a rewind");
$node->sql(q{SELECT count(*) FROM generate_series(1, 20), LATERAL (SELECT count(*) FROM cmq_receive('q', 500 + 0 * generate_series)) r});
is(is_exact('received'), 50_000, 'as many less');
$node->sql(q{SELECT cmq_cancel_rewind('q'); SELECT cmq_clear_queue('q')});
is_exact('cancelled and cleared');

# A restore: those of before are found behind up to 1000 of it, and no more are read.
$node->sql(q{SELECT cmq_send('q', 'waits')});
my $sent = $node->sql(q{SELECT clock_timestamp()});
$node->sql(qq{SELECT count(*) FROM cmq_restore_messages('q', ARRAY(SELECT msg_id FROM cmq.q_q_history ORDER BY msg_id LIMIT 900))});
is($node->sql(qq{SELECT oldest_ready_seconds >= extract(epoch FROM now() - '$sent') FROM cmq.metrics}), 't', 'behind 900 restored messages one waits for longer');
$node->sql(q{VACUUM ANALYZE});
my $restored = $node->sql(q{SELECT clock_timestamp()});
$node->sql(qq{SELECT cmq_restore('q', now() - interval '1 hour')});
is($node->sql(qq{SELECT oldest_ready_seconds BETWEEN 0 AND extract(epoch FROM clock_timestamp() - '$sent') FROM cmq.metrics}), 't', 'behind 50,000: since a restore');
$pages = pages();
cmp_ok($pages - $before, '<', $history / 5, "a look reads $pages pages");
$node->sql(q{SELECT cmq_clear_queue('q')});

#
# Traffic of all kinds, with rewinds, some of it rolled back, while the rows are
# counted again and again: a statement by hand that changes nothing makes the queue
# uncounted.
#

my $script = $node->script('traffic', <<'SQL');
\set what random(1, :kinds)
BEGIN;
SELECT cmq_send('q', 'm') \gset
\if :what <= 3
SELECT count(*) FROM cmq_send_batch('q', '{a,b,c}');
ROLLBACK;
\elif :what <= 6
SAVEPOINT s;
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 3)) d;
ROLLBACK TO s;
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 1)) d;
COMMIT;
\elif :what <= 12
SAVEPOINT s;
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 4)) d;
RELEASE s;
COMMIT;
\elif :what <= 14
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 2)) d;
ROLLBACK;
\elif :what <= 16
SELECT count(*) FROM cmq_receive('q', 1, 1);
COMMIT;
\elif :what = 17
COMMIT;
SELECT cmq_maintain('q');
\elif :what = 18
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 2)) d;
SELECT cmq_rewind('q', now() - interval '1 hour');
SELECT count(*) FROM cmq_receive('q', 2, 1);
COMMIT;
\elif :what = 19
COMMIT;
SELECT cmq_rewind('q', now() - interval '1 hour');
\else
SELECT cmq_cancel_rewind('q');
SELECT cmq_restore_messages('q', ARRAY(SELECT msg_id FROM cmq.q_q_history LIMIT 3));
ROLLBACK;
\endif
SQL

# All of it, and that without maintenance and rewinds.
my ($all, $plain) = (20, 16);

sub traffic
{
	my ($kinds, $transactions) = @_;
	return $node->start_pgbench('-c', '6', '-j', '2', '-D', "kinds=$kinds", '-t', $transactions, '-f', $script);
}

$node->sql(q{SELECT cmq_drop_queue('q'); SELECT FROM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 345600)});
fill(5_000);
$node->rewind('q');
my $traffic = traffic($all, 300);
my $looks = 0;
for (1 .. 60)
{
	$node->sql(q{UPDATE cmq_data.q_q_rewind SET receive_count = 0 WHERE false;
		SELECT left_of_rewind FROM cmq.metrics}) >= 0 and $looks++;
}
$traffic->complete;
is($looks, 60, 'counted in the midst of traffic');
is_exact('after traffic and counts');

# What was counted last was counted before: the changes have been added up.
$node->rewind('q');
is_exact('rewound');
traffic($plain, 300)->complete;
is_exact('after more traffic');

# Counted again and again while others take what is due; they go on after the last count.
fill(20_000);
foreach my $round (1 .. 5)
{
	$node->rewind('q');
	$traffic = traffic($plain, 150);
	$node->sql(q{UPDATE cmq_data.q_q_rewind SET receive_count = 0 WHERE false; SELECT left_of_rewind FROM cmq.metrics;} x 40);
	$traffic->complete;
	is_exact("counted in the midst of it, round $round");
}
$node->restart;
is_exact('after a restart');
$traffic = traffic($all, 100_000);
$node->wait_until(q{SELECT sent > 100 FROM cmq.metrics});
$node->stop('immediate');
$traffic->finish;
$node->start;
is_exact('after a crash');

#
# Prepared transactions.
#

$node->sql(q{SELECT cmq_drop_queue('q'); SELECT FROM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 345600); SELECT cmq_maintain()});
fill(1_000);
my $start = $node->sql(q{SELECT min(enqueued_at) FROM cmq.q_q_history});
$node->rewind('q');
is_exact('before prepared transactions');
$node->sql(q{BEGIN; SELECT count(*) FROM cmq_receive('q', 10); PREPARE TRANSACTION 'a'});
$node->sql(q{BEGIN; SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 20); PREPARE TRANSACTION 'b'});
$node->sql(q{BEGIN; SELECT count(*) FROM cmq_receive('q', 30); PREPARE TRANSACTION 'c'});
is(is_exact('prepared'), 1000, 'nothing is taken yet');
$node->sql(q{COMMIT PREPARED 'a'});
is(is_exact('one committed'), 990, 'ten less');
$node->sql(q{COMMIT PREPARED 'b'});
is(is_exact('the second one'), 970, 'twenty less');
$node->sql(q{ROLLBACK PREPARED 'c'});
is(is_exact('the third one rolled back'), 970, 'no less');
$node->sql(q{BEGIN; SELECT count(*) FROM cmq_receive('q', 5); PREPARE TRANSACTION 'd'});
$node->restart;
is(is_exact('a fourth one, and a restart'), 970, 'no less');
$node->sql(q{COMMIT PREPARED 'd'});
is(is_exact('the fourth one committed'), 965, 'five less');
$node->sql(qq{BEGIN; SELECT cmq_cancel_rewind('q'); SELECT cmq_restore('q', '$start'); PREPARE TRANSACTION 'e'});
is(is_exact('a cancel and a restore prepared'), 965, 'no less');
$node->sql(q{COMMIT PREPARED 'e'});
is(is_exact('and committed'), 0, 'nothing left');

#
# Messages that expire while a rewind brings them back.
#

$node->sql(q{SELECT cmq_drop_queue('q'); SELECT FROM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 345600)});
fill(1_000);
$node->rewind('q');
is_exact('before messages expire');
my $session = $node->session;
$session->query_safe(q{BEGIN; SELECT count(*) FROM cmq_receive('q', 1)});
$node->sql(q{UPDATE cmq.queue SET expired_before = (SELECT enqueued_at FROM cmq_data.q_q_rewind ORDER BY enqueued_at OFFSET 10 LIMIT 1) WHERE name = 'q'});
$node->sql(q{SELECT cmq_maintain('q')});
is(is_exact('ten have expired'), 990, 'ten less');
$session->query_safe('COMMIT');
is($node->sql(q{SELECT left_of_rewind FROM cmq.metrics}), 990, 'one of the ten was being received');
$session->query_safe(q{BEGIN; SELECT count(*) FROM cmq_receive('q', 1)});
$node->sql(q{SELECT cmq_maintain('q')});
$session->query_safe('COMMIT');
$session->quit;
is($node->sql(q{SELECT left_of_rewind FROM cmq.metrics}), 989, 'and one that has not expired');

#
# A standby: no counters, the same numbers.
#

$node->sql(q{SELECT cmq_drop_queue('q'); SELECT FROM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 345600)});
fill(1_000);
$node->rewind('q');
$node->sql(q{
	SELECT count(*) FROM cmq_receive('q', 10);
	SELECT cmq_send('q', 'later', 3600);
	SELECT cmq_send('q', 'now');
	CREATE ROLE reader LOGIN;
	CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
	CREATE ROLE nobody LOGIN;
	GRANT USAGE ON SCHEMA cmq TO reader, nobody;
	GRANT SELECT ON cmq.q_q TO reader;
	SELECT FROM cmq_create_queue('other');
	SELECT FROM cmq_alter_queue('q', dead_letter_queue => 'other', max_receive_count => 1000);
	SELECT cmq_pause_queue('q');
});
my $standby = $node->standby('standby');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));

my $numbers = q{SELECT queue, pending_msg_num, left_of_rewind, inactive_msg_num, delay_msg_num,
	oldest_ready_seconds > 0, pending_bytes, rewindable_bytes, active_msg_num, abs(rewind_msg_num - 60000) < 200, oldest_in_flight_seconds > 0,
	first_expiry_seconds BETWEEN 345000 AND 345600, paused_seconds > 0, msg_retention_seconds, is_dead_letter_queue FROM cmq.metrics ORDER BY queue};
is(is_exact('on the standby', $standby), 990, 'as on the primary');
is($standby->sql($numbers), $node->sql($numbers), 'the standby has the same numbers');
like($standby->sql($numbers), qr/^other\|0\|0\|0\|0\|\|\d+\|\d+\|0\|f\|\|\|\|345600\|t\nq\|1002\|990\|10\|1\|t\|\d+\|\d+\|991\|[tf]\|t\|t\|t\|345600\|f$/, 'namely');
is($standby->sql(q{SELECT queue FROM cmq.metrics WHERE num_nulls(since, sent, received, redelivered, rewound, deleted, dead_lettered, empty_receives, waits, body_bytes, unmaintained_seconds) = 11
		ORDER BY queue}), "other\nq", 'and no counters');
is($standby->sql(q{SET ROLE reader; SELECT queue FROM cmq.metrics}), 'q', 'a reader sees its queue');
is($standby->sql(q{SET ROLE watcher; SELECT queue FROM cmq.metrics ORDER BY queue}), "other\nq", 'pg_monitor sees all');
is($standby->sql(q{SET ROLE nobody; SELECT queue FROM cmq.metrics}), '', 'others see none');
is($standby->sql(q{SELECT count(*) FROM cmq.rewinds}), $node->sql(q{SELECT count(*) FROM cmq.rewinds}), 'the record is there');

# cmq.status: what a look at the tables says there, and the same as here
my $status = q{SELECT s.queue, ready, in_flight, delayed, history, left_of_rewind, oldest_ready_seconds > 0, dead_letters, paused_since, pending_bytes, history_bytes,
		(ready, in_flight, delayed, s.earliest_rewind_time) IS NOT DISTINCT FROM
		(a.active_msg_num, a.inactive_msg_num, a.delay_msg_num, a.earliest_rewind_time),
		abs(history - rewind_msg_num) < 200,
		CASE WHEN ready > 0 THEN s.latest_rewind_time END
	FROM cmq.status s, cmq_queue_attributes(s.queue) a};
is($standby->sql($status), $node->sql($status), 'cmq.status shows the same');
my $first = $node->sql(q{SELECT latest_rewind_time FROM cmq_queue_attributes('q')});
my $paused = $node->sql(q{SELECT called_at FROM cmq.rewinds WHERE kind = 'pause'});
like($standby->sql($status), qr/^other\|0\|0\|0\|0\|0\|\|\|\|\d+\|0\|t\|t\|\nq\|991\|10\|1\|\d+\|990\|t\|0\|\Q$paused\E\|\d+\|\d+\|t\|t\|\Q$first\E$/, 'namely');
is($standby->sql(q{SET ROLE reader; SELECT queue, ready, dead_letters FROM cmq.status}), 'q|991|', 'a reader sees its queue');
is($standby->sql(q{SET ROLE watcher; SELECT queue, dead_letters FROM cmq.status}), "other|\nq|0", 'pg_monitor sees all');
is($standby->sql(q{SET ROLE nobody; SELECT queue FROM cmq.status}), '', 'others see none');

# for how long: since the rewind, not since the production
my $age = q{SELECT oldest_ready_seconds <= extract(epoch FROM clock_timestamp() - (SELECT max(called_at) FROM cmq.rewinds)) + 1
	FROM cmq.metrics WHERE queue = 'q'};
is($standby->sql($age), 't', 'since the rewind');

# one that changes there is left out there, too
$session = $node->session;
$session->query_safe(q{BEGIN; LOCK TABLE cmq_data.q_other_pending IN ACCESS EXCLUSIVE MODE});
$node->sql(q{SELECT cmq_send('q', 'more')});
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->sql(q{SELECT queue FROM cmq.metrics ORDER BY queue}), 'q', 'a queue that is locked is left out');
is($standby->sql(q{SELECT queue, dead_letters FROM cmq.status}), 'q|', '... by cmq.status, too');
$session->query_safe('ROLLBACK');

# Groups of an ordered queue that are blocked: something of flying is in flight, of off
# put off, of back in flight with one before it that a rewind brings back; nothing waits
# behind alone.
$node->sql(q{
	SELECT FROM cmq_create_queue('ordered', visibility_timeout => 43200, rewind_seconds => 3600, ordered => true);
	SELECT FROM cmq_send_batch('ordered', '{back1,back2,flying1,flying2,off1,off2,alone1,free,none}', message_groups => '{back,back,flying,flying,off,off,alone,free,NULL}');
	CREATE TABLE taken (body text, handle text);
	CREATE FUNCTION take(bodies text[]) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO taken SELECT body, receipt_handle FROM cmq_receive_messages('ordered', array(SELECT msg_id FROM cmq.q_ordered_live WHERE body = ANY (bodies))) $$;
	SELECT take('{flying1,off1,alone1,back1}');
	SELECT cmq_delete('ordered', handle) FROM taken WHERE body = 'back1';
	SELECT take('{back2}');
	SELECT cmq_release('ordered', array(SELECT handle FROM taken WHERE body = 'off1'), 43200);
	SELECT cmq_rewind('ordered', (SELECT enqueued_at FROM cmq_data.q_ordered WHERE body = 'back1'));
});

# What both say of blocked groups.
sub blocked
{
	my ($expected, $name) = @_;
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	is($_->sql(q{SELECT blocked_groups FROM cmq.status WHERE queue = 'ordered'}), $expected, $name . ($_ == $node ? '' : ', on the standby')) foreach $node, $standby;
	return;
}

blocked(3, 'blocked groups: three');
is($standby->sql(q{SELECT count(*) FROM cmq.status WHERE blocked_groups IS NOT NULL}), 1, '... of the only queue that is ordered');
$session->query_safe(q{BEGIN; SELECT cmq_send('ordered', 'alone2', message_group => 'alone')});
blocked(3, 'nothing waits that is not committed');
$session->query_safe('COMMIT');
blocked(4, '... and then it does');
$session->quit;
$node->sql(q{SELECT cmq_delete('ordered', handle) FROM taken WHERE body = 'flying1'});
blocked(3, 'what was in flight is deleted');
$node->sql(q{SELECT cmq_cancel_rewind('ordered')});
blocked(2, 'nothing comes back any more');

$node->stop;
$standby->promote;
is(is_exact('after promotion', $standby), 990, 'as before');
is($standby->sql(q{SELECT blocked_groups FROM cmq.status WHERE queue = 'ordered'}), 2, '... and as many groups are blocked');
is($standby->sql(q{SELECT queue, sent FROM cmq.metrics ORDER BY queue}), "ordered|0\nother|0\nq|0", 'and counters');
is($standby->receive('q', 1), '-', 'what was paused is so after promotion');
is($standby->sql(q{SELECT cmq_resume_queue('q')}), 't', '... until it is resumed');
isnt($standby->receive('q', 1), '-', '... there');
$standby->stop;
done_testing();
