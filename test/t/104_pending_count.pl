# The number of pending messages in shared memory is exact: under traffic, after
# recounts in the midst of it, restart, crash and prepared transactions.  A full
# queue is full to all clients together.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('counts', 'max_prepared_transactions = 5');

# What the counter says, and what is there.
sub is_exact
{
	my ($when) = @_;
	my ($counter, $rows) = split /\|/,
	  $node->sql(q{SELECT (SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'q'),
				(SELECT count(*) FROM cmq_data.q_q_pending)});
	is($counter, $rows, "$when: $rows pending");
	return $rows;
}

$node->sql(q{
	SELECT FROM cmq_create_queue('q', rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('q', array_fill('first'::text, '{500}'));
});
is_exact('at rest');

#
# Traffic of all kinds, half of it rolled back, while the rows are counted
# again and again.  A statement by hand that changes nothing makes the queue
# uncounted.
#

my $script = $node->script('traffic', <<'SQL');
\set what random(1, 6)
BEGIN;
SELECT cmq_send('q', 'm') \gset
\if :what = 1
SELECT count(*) FROM cmq_send_batch('q', '{a,b,c}');
ROLLBACK;
\elif :what = 2
SAVEPOINT s;
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 3)) d;
ROLLBACK TO s;
COMMIT;
\elif :what = 3
SAVEPOINT s;
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 4)) d;
RELEASE s;
COMMIT;
\elif :what = 4
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 2)) d;
ROLLBACK;
\else
SELECT count(*) FROM cmq_receive('q', 1, 1);
COMMIT;
\endif
SQL

sub traffic
{
	my ($transactions) = @_;
	return $node->start_pgbench('-c', '6', '-j', '2', '-t', $transactions, '-f', $script);
}

my $traffic = traffic(300);
my $counts = 0;
for (1 .. 60)
{
	$node->sql(q{UPDATE cmq_data.q_q_pending SET receive_count = 0 WHERE false;
		SELECT pending_msg_num FROM cmq.metrics}) >= 0 and $counts++;
}
$traffic->complete;
is($counts, 60, 'counted in the midst of traffic');
is_exact('after traffic and counts');

# The last count was before the traffic: only the changes have been added up.
traffic(300)->complete;
is_exact('after more traffic');

#
# Restart and crash; the first to ask counts while others are at work.
#

$node->restart;
is_exact('after a restart');
$node->restart;
$traffic = traffic(200);
$node->sql('SELECT count(*) FROM cmq.metrics');
$traffic->complete;
is_exact('counted under traffic after a restart');
$traffic = traffic(100_000);
$node->wait_until(q{SELECT sent > 100 FROM cmq.metrics});
$node->stop('immediate');
$traffic->finish;
$node->start;
is_exact('after a crash');

#
# Prepared transactions.
#

my $before = is_exact('before PREPARE');
$node->sql(q{BEGIN; SELECT cmq_send('q', 'prepared') FROM generate_series(1, 3); PREPARE TRANSACTION 'a';
	BEGIN; SELECT cmq_send('q', 'never') FROM generate_series(1, 5); PREPARE TRANSACTION 'b';});
is(is_exact('prepared'), $before, 'what is prepared does not count yet');
$node->sql(q{COMMIT PREPARED 'a'; ROLLBACK PREPARED 'b';});
is(is_exact('both ended'), $before + 3, 'what is committed counts');
$node->sql(q{BEGIN; SELECT cmq_send('q', 'prepared') FROM generate_series(1, 2); PREPARE TRANSACTION 'c'});
$node->restart;
is(is_exact('prepared and restarted'), $before + 3, 'does not count yet');
$node->sql(q{COMMIT PREPARED 'c'});
is(is_exact('committed after the restart'), $before + 5, 'counts now');

#
# A full queue, many clients: each may have one message under way.
#

$node->sql(q{SELECT FROM cmq_create_queue('small', max_msg_heap_num => 100)});
$node->start_pgbench('-c', '8', '-j', '2', '-t', '50', '-f', $node->script('greedy', <<'SQL'))->succeeds('eight clients send more than fits');
DO $$
BEGIN
	PERFORM cmq_send('small', 'm');
EXCEPTION WHEN configuration_limit_exceeded THEN
	NULL;
END $$;
SQL
my $sent = $node->sql(q{SELECT count(*) FROM cmq_data.q_small_pending});
cmp_ok($sent, '>=', 100, 'as many as fit are there');
cmp_ok($sent, '<=', 107, 'and no more than were under way at that moment');
is($node->sql(q{SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'small'}), $sent, 'counted');
$node->restart;
like($node->complaint(q{SELECT cmq_send('small', 'm')}), qr/queue "small" is full/, 'full after a restart, too');

$node->stop;
done_testing();
