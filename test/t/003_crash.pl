# Crash of the server right after a commit: all that was committed is there,
# what was open is gone, ids stay unique and increasing.  Only receives that do not
# wait for the disk may be lost.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('main', <<'CONF');
cmq.async_receive = off
statement_timeout = 120s
CONF

my $last_id = 0;

# Send and check that the id is later than all before.
sub send_checked
{
	my ($body) = @_;
	my $id = $node->sql("SELECT cmq_send('orders', '$body')");
	ok($id > $last_id, "id of $body is later than all before");
	$last_id = $id;
}

$node->sql("SELECT FROM cmq_create_queue('orders', visibility_timeout => 43200, rewind_seconds => 3600)");
$node->crash;
is($node->states('orders'), '-', 'the queue is there, empty');

send_checked('m1');
$node->crash;
is($node->states('orders'), 'm1:ready', 'a send is there');

send_checked('m2');
$last_id = $node->sql(
	"SELECT max(id) FROM cmq_send_batch('orders', ARRAY['m3', 'm4', 'm5', 'm6']) AS id");
$node->crash;
is($node->states('orders'),
	'm1:ready m2:ready m3:ready m4:ready m5:ready m6:ready',
	'a batch is there');

my @handles = split /\n/,
  $node->sql("SELECT receipt_handle FROM cmq_receive('orders', 4)");
$node->crash;
is($node->states('orders'),
	'm1:in_flight m2:in_flight m3:in_flight m4:in_flight m5:ready m6:ready',
	'a receive is there');

is($node->sql("SELECT cmq_delete('orders', '$handles[0]')"), 't', 'm1 is deleted');
$node->crash;
is($node->states('orders'),
	'm1:history m2:in_flight m3:in_flight m4:in_flight m5:ready m6:ready',
	'a delete is there');
is($node->sql("SELECT cmq_delete('orders', '$handles[0]')"),
	'f', 'it cannot be done twice');

is($node->sql("SELECT count(*) FROM cmq_delete_batch('orders', ARRAY['$handles[1]', '$handles[2]'])"),
	'2',
	'm2, m3 are deleted');
my $new_handle =
  $node->sql("SELECT cmq_change_visibility('orders', '$handles[3]', 0)");
$node->crash;
is($node->states('orders'),
	'm1:history m2:history m3:history m4:ready m5:ready m6:ready',
	'a batch of deletes and a change of visibility are there');
is($node->sql("SELECT cmq_delete('orders', '$new_handle')"),
	't', 'the new handle is good');
my $released = $node->handle('orders');
is($node->sql("SELECT count(*) FROM cmq_release('orders', ARRAY['$released'], 0, counted => false)"), '1', 'm5 is released');
$node->crash;
is($node->states('orders'),
	'm1:history m2:history m3:history m4:history m5:ready m6:ready',
	'a release is there');
is($node->sql("SELECT cmq_delete('orders', '$released')"), 'f', 'its handle is stale');
is($node->sql("SELECT receive_count FROM cmq.q_orders_live WHERE body = 'm5'"), '0', 'the delivery does not count');

$node->sql("SELECT cmq_rewind('orders', now() - interval '1 hour')");
$node->crash;
is($node->states('orders'),
	'm1:ready m2:ready m3:ready m4:ready m5:ready m6:ready',
	'a rewind is there');
my $handle = $node->handle('orders');
$node->crash;
is($node->states('orders'),
	'm1:in_flight m2:ready m3:ready m4:ready m5:ready m6:ready',
	'a receive of a rewound message is there');
is($node->sql("SELECT cmq_delete('orders', '$handle')"), 't', 'm1 deleted again');
$node->crash;
send_checked('m7');
is($node->receive('orders'), 'm2 m3 m4 m6 m5 m7', 'the rewind goes on, then the rest, behind it what was released');
is($node->states('orders'),
	'm1:history m2:in_flight m3:in_flight m4:in_flight m5:in_flight m6:in_flight m7:in_flight',
	'every message counted');

# Open transactions go.
my $session = $node->session(on_error_stop => 0);
$session->query_safe(q(BEGIN;
	SELECT FROM cmq_create_queue('gone');
	SELECT cmq_send('gone', 'g1');
	SELECT cmq_send('orders', 'g2');
	SELECT count(*) FROM cmq_delete_batch('orders', array(
		SELECT concat_ws('-', cmq.msg_id(enqueued_at), (extract(epoch FROM visible_at) * 1000000)::bigint,
						 receive_count, rewind_count)
		  FROM cmq_data.q_orders_pending));
	SELECT cmq_rewind('orders', now() - interval '1 hour');
	SELECT FROM cmq_receive('orders', 2)));
$node->crash;
eval { $session->quit; };
is($node->states('orders'),
	'm1:history m2:in_flight m3:in_flight m4:in_flight m5:in_flight m6:in_flight m7:in_flight',
	'nothing of an open transaction is left');
is($node->sql('SELECT count(*) FROM cmq.queues'), '1', 'nor the queue it created');
send_checked('m8');

# Settings and queues.
$node->sql("SELECT FROM cmq_alter_queue('orders', visibility_timeout => 77);
	SELECT FROM cmq_create_queue('second'); SELECT cmq_send('second', 's1')");
$node->crash;
is($node->sql("SELECT string_agg(queue || ' ' || visibility_timeout, ', ' ORDER BY queue) FROM cmq.queues"),
	'orders 77, second 30',
	'create and alter are there');
$node->sql("SELECT FROM cmq_drop_queue('second')");
$node->crash;
is($node->sql('SELECT count(*) FROM cmq.queues'), '1', 'a drop is there');
is($node->sql("SELECT FROM cmq_create_queue('second'); SELECT count(*) FROM cmq_receive('second')"),
	'0',
	'the same name can be used again');

# A crash of one backend: the server starts its shared memory anew.
$node->set('restart_after_crash', 'on');
$node->poll("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq launcher'", 'there is one launcher');
my $launcher = $node->sql(
	"SELECT pid FROM pg_stat_activity WHERE backend_type = 'cmq launcher'");
$session = $node->session(on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
send_checked('m9');
kill 'KILL', $pid;
eval { $session->quit; };
$node->poll("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq launcher' AND pid <> $launcher", 'there is a launcher again after the crash of a backend');
send_checked('m10');
is($node->receive('orders'), 'm8 m9 m10', 'nothing is lost by the crash of a backend');

is($node->sql('SELECT count(*), count(DISTINCT enqueued_at) FROM cmq_data.q_orders'),
	'10|10', 'every message counted');

# What is consumed in one step is consumed, if that was committed.
$node->sql("SELECT FROM cmq_create_queue('eaten', visibility_timeout => 43200, rewind_seconds => 3600);
	SELECT FROM cmq_create_queue('vanished');
	SELECT FROM cmq_send_batch('eaten', ARRAY['e1', 'e2', 'e3', 'e4']); SELECT FROM cmq_send_batch('vanished', ARRAY['v1', 'v2'])");
is($node->sql("SELECT body FROM cmq_consume('eaten'); SELECT body FROM cmq_consume('vanished')"), "e1\nv1", 'messages are consumed');
$node->crash;
is($node->states('eaten') . ', ' . $node->states('vanished'), 'e1:history e2:ready e3:ready e4:ready, v2:ready', 'a consume is there');
$session = $node->session(on_error_stop => 0);
$session->query_safe("BEGIN; SELECT FROM cmq_consume('eaten', 2); SELECT FROM cmq_consume('vanished')");
$node->crash;
eval { $session->quit; };
is($node->states('eaten') . ', ' . $node->states('vanished'), 'e1:history e2:ready e3:ready e4:ready, v2:ready', 'nothing of one that was open');
$node->sql("SELECT FROM cmq_rewind('eaten', now() - interval '1 hour'); SELECT FROM cmq_consume('eaten')");
$node->crash;
is($node->sql(q{SELECT body, state, rewind_count FROM cmq.q_eaten_all ORDER BY msg_id LIMIT 1}), 'e1|deleted|1', 'a consume of a rewound message is there');
is($node->sql(q{SELECT count(*) FROM cmq_delete_messages('eaten', array(SELECT msg_id FROM cmq.q_eaten_live WHERE body = 'e3'));
	SELECT body FROM cmq_receive_messages('eaten', array(SELECT msg_id FROM cmq.q_eaten_live WHERE body = 'e4'))}), "1\ne4", 'messages are deleted and received by id');
$node->crash;
is($node->states('eaten'), 'e1:history e2:ready e3:history e4:in_flight', 'both are there');
is($node->sql("SELECT body FROM cmq_consume('eaten', 10)"), 'e2', 'consumes go on');

# A transaction that does nothing but receive need not wait for the disk.
$node->set('cmq.async_receive', 'on');
$node->poll('SHOW cmq.async_receive', 'receives do not wait for the disk', wanted => 'on');
$node->sql("SELECT FROM cmq_create_queue('async', visibility_timeout => 43200, rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('async', ARRAY['a1', 'a2', 'a3', 'a4', 'a5', 'a6']);
	CREATE TABLE business (body text)");

sub async_state
{
	my ($body) = @_;
	return $node->sql(qq(
	SELECT state FROM cmq.q_async_live WHERE body = '$body'
	 UNION ALL
	SELECT 'history' FROM cmq.q_async_history WHERE body = '$body'));
}

$handle = $node->handle('async');
$node->crash;
my $state = async_state('a1');
like($state, qr/^(ready|in_flight)$/, 'a receive is there, or was lost');
is($node->sql("SELECT cmq_delete('async', '$handle')"),
	$state eq 'ready' ? 'f' : 't',
	'its handle is good if it is there');
$node->sql("SELECT FROM cmq_receive('async')") if $state eq 'ready';

# whatever else was committed takes the receives before it along
$node->sql("SELECT FROM cmq_receive('async')");
my $id = $node->sql("SELECT cmq_send('async', 'a7')");
$node->crash;
is(async_state('a2'), 'in_flight', 'a receive before a send is there');
is(async_state('a7'), 'ready', 'so is the send');
ok($node->sql("SELECT cmq_send('async', 'a8')") > $id, 'the next id is later');

# a transaction that does anything else waits for the disk
$node->sql("BEGIN; INSERT INTO business SELECT body FROM cmq_receive('async'); COMMIT");
$node->crash;
is(async_state('a3'), 'in_flight', 'a receive with business data is there');
is($node->sql('SELECT body FROM business'), 'a3', 'so are the data');
$node->sql("SELECT cmq_delete('async', receipt_handle) FROM cmq_receive('async')");
$node->crash;
is(async_state('a4'), 'history', 'a receive with its delete is there');
$node->sql("BEGIN; SELECT FROM cmq_receive('async'); SELECT cmq_send('async', 'a9'); SELECT FROM cmq_receive('async'); COMMIT");
$node->crash;
is( async_state('a5') . ', ' . async_state('a9'),
	'in_flight, ready',
	'receives around a send are there');
$node->sql("BEGIN; INSERT INTO business VALUES ('more'); SELECT FROM cmq_receive('async'); COMMIT");
$node->crash;
is( async_state('a7') . ', ' . $node->sql('SELECT count(*) FROM business'),
	'in_flight, 2',
	'so is a receive after business data');
$node->sql("SET cmq.async_receive = off; SELECT FROM cmq_receive('async')");
$node->crash;
is(async_state('a8'), 'in_flight', 'a receive that waits for the disk is there');
is($node->sql('SELECT count(*), count(DISTINCT enqueued_at) FROM cmq_data.q_async'),
	'9|9', 'every message counted');

$node->stop;

done_testing();
