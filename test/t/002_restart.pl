# Restart of the server: states survive, ids stay unique and increasing, a
# rewind under way goes on; prepared transactions; a wall clock behind the
# newest message.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->running('main', <<'CONF');
max_prepared_transactions = 20
statement_timeout = 120s
CONF

sub delete_handle
{
	my ($queue, $handle) = @_;
	return $node->sql("SELECT cmq_delete('$queue', '$handle')");
}

sub create
{
	my ($queue) = @_;
	$node->sql("SELECT FROM cmq_create_queue('$queue', visibility_timeout => 43200, rewind_seconds => 3600)");
}

note 'states';

create('states');
$node->sql(q(SELECT FROM cmq_send_batch('states', ARRAY['deleted', 'flight1', 'flight2', 'ready1', 'ready2'],
		headers => array_fill('{"k": 1}'::jsonb, ARRAY[5]));
	SELECT cmq_send('states', 'delayed', 3600)));
is(delete_handle('states', $node->handle('states')), 't', 'one is deleted');
my $flight1 = $node->handle('states');
my $flight2 = $node->handle('states');
my $before = $node->contents;
my $last_id = $node->sql("SELECT max(msg_id) FROM cmq.q_states_live");

$node->restart;

is($node->contents, $before, 'states: all is as before the restart');
is($node->states('states'),
	'delayed:delayed deleted:history flight1:in_flight flight2:in_flight ready1:ready ready2:ready',
	'states: each in its state');
my $id = $node->sql("SELECT cmq_send('states', 'new')");
ok($id > $last_id, 'states: ids go on increasing');
is(delete_handle('states', $flight1),
	't', 'states: handle of before the restart');
is($node->receive('states'), 'ready1 ready2 new', 'states: what is ready, in order');
is($node->sql("SELECT cmq_change_visibility('states', '$flight2', 0) IS NOT NULL"),
	't', 'states: visibility changed with an old handle');
is($node->receive('states'), 'flight2', 'states: and received again');

note 'rewind under way';

create('rewound');
$node->sql("SELECT FROM cmq_send_batch('rewound', ARRAY['d1', 'd2', 'd3', 'd4'])");
$node->consume('rewound', 4);
$node->rewind('rewound');
$node->sql("SELECT cmq_send('rewound', 'm5')");
is(delete_handle('rewound', $node->handle('rewound')), 't', 'one is deleted again');
my $flight = $node->handle('rewound');
$before = $node->contents;

$node->restart;

is($node->contents, $before, 'rewound: all is as before the restart');
is($node->states('rewound'),
	'd1:history d2:in_flight d3:ready d4:ready m5:ready',
	'rewound: the rewind is still under way');
is($node->receive('rewound'), 'd3 d4 m5', 'rewound: it goes on');
is(delete_handle('rewound', $flight), 't', 'rewound: handle of before');
$node->restart;
is($node->receive('rewound'), '-', 'rewound: nothing comes twice');
$node->rewind('rewound');
is($node->receive('rewound'), 'd1 d2', 'rewound: rewind after a restart');

note 'pause';

create('paused');
create('resumed');
$node->sql(q{SELECT cmq_send('paused', 'm1'), cmq_send('resumed', 'm1')});
is($node->sql(q{SELECT cmq_pause_queue('paused', 'over the restart'), cmq_pause_queue('resumed'), cmq_resume_queue('resumed')}), 't|t|t', 'paused: one is, one was');
my $paused = q{SELECT queue, paused_since FROM cmq.status WHERE queue IN ('paused', 'resumed')};
$before = $node->sql($paused);
like($before, qr/^paused\|\S.*\nresumed\|$/, 'paused: it is seen');
# prepared
create('p_paused');
create('p_resumed');
$node->sql(q{SELECT cmq_send('p_paused', 'm1'), cmq_send('p_resumed', 'm1'), cmq_pause_queue('p_resumed');
	BEGIN; SELECT cmq_pause_queue('p_paused'), cmq_resume_queue('p_resumed'); PREPARE TRANSACTION 'pause'});

$node->restart;

is($node->sql($paused), $before, 'paused: as before the restart');
is($node->receive($_), $_ eq 'paused' ? '-' : 'm1', "$_: received after the restart") foreach qw(paused resumed);
is($node->sql(q{SELECT cmq_send('paused', 'm2') > 0, cmq_resume_queue('paused')}), 't|t', 'paused: sends and a resume');
is($node->receive('paused'), 'm1 m2', 'paused: all is there');
is($node->receive('p_resumed'), '-', 'prepared pause: what is prepared is not in effect');
$node->sql(q{COMMIT PREPARED 'pause'});
is($node->receive('p_resumed'), 'm1', 'prepared pause: the resume is, when it is committed');
is($node->receive('p_paused'), '-', 'prepared pause: so is the pause');

note 'prepared transactions, committed';

create('prepared');
$node->sql("SELECT FROM cmq_send_batch('prepared', ARRAY['d0', 'm1', 'm2', 'm3'])");
is(delete_handle('prepared', $node->handle('prepared')), 't', 'one is deleted');
my $h1 = $node->handle('prepared');
my $h2 = $node->sql(q(BEGIN;
	SELECT receipt_handle FROM cmq_receive('prepared');
	PREPARE TRANSACTION 'receive';));
$node->sql(qq(BEGIN; SELECT cmq_delete('prepared', '$h1'); PREPARE TRANSACTION 'delete';));
my $p_id = $node->sql(q(BEGIN; SELECT cmq_send('prepared', 'p'); PREPARE TRANSACTION 'send';));
my $saved = 'd0:history m1:in_flight m2:ready m3:ready';
is($node->states('prepared'), $saved, 'prepared: nothing to be seen');

$node->restart;

is($node->states('prepared'), $saved, 'prepared: nothing to be seen after restart');
$id = $node->sql("SELECT cmq_send('prepared', 'm4')");
ok($id > $p_id, 'prepared: ids do not collide with a prepared send');
is($node->receive('prepared'), 'm3 m4', 'prepared: receives pass over m2');
$node->rewind('prepared');
is($node->receive('prepared'), 'd0',
	'prepared: a rewind leaves the message of the prepared delete alone');
$node->sql("COMMIT PREPARED 'receive'; COMMIT PREPARED 'delete'; COMMIT PREPARED 'send'");
is($node->receive('prepared'), 'p',
	'prepared: sent, and the delete is not rewound afterwards');
is($node->states('prepared'),
	'd0:in_flight m1:history m2:in_flight m3:in_flight m4:in_flight p:in_flight',
	'prepared: all took effect');
is(delete_handle('prepared', $h2), 't', 'prepared: handle of the receive');
is(delete_handle('prepared', $h1), 'f', 'prepared: handle of the delete');
$node->rewind('prepared');
is($node->receive('prepared'), 'm1 m2', 'prepared: the next rewind takes them');

note 'prepared transactions, rolled back';

create('undone');
$node->sql("SELECT FROM cmq_send_batch('undone', ARRAY['d0', 'm1', 'm2', 'm3'])");
is(delete_handle('undone', $node->handle('undone')), 't', 'one is deleted');
$h1 = $node->handle('undone');
$h2 = $node->sql(q(BEGIN;
	SELECT receipt_handle FROM cmq_receive('undone');
	PREPARE TRANSACTION 'receive';));
$node->sql(qq(BEGIN; SELECT cmq_delete('undone', '$h1'); PREPARE TRANSACTION 'delete';));
$p_id = $node->sql(q(BEGIN; SELECT cmq_send('undone', 'p'); PREPARE TRANSACTION 'send';));
$node->restart;
$node->sql("ROLLBACK PREPARED 'receive'; ROLLBACK PREPARED 'delete'; ROLLBACK PREPARED 'send'");
is($node->states('undone'),
	'd0:history m1:in_flight m2:ready m3:ready',
	'undone: nothing happened');
ok($node->sql("SELECT cmq_send('undone', 'm4')") > $p_id, 'undone: ids increase');
is(delete_handle('undone', $h2), 'f', 'undone: handle of the receive');
is(delete_handle('undone', $h1), 't', 'undone: handle of the delete');
is($node->receive('undone'), 'm2 m3 m4', 'undone: the rest is received');

note 'prepared rewind, create, alter and drop';

create('p_rewind');
create('p_drop');
$node->sql(q(SELECT cmq_send('p_rewind', 'd1'); SELECT cmq_send('p_drop', 'm1')));
is(delete_handle('p_rewind', $node->handle('p_rewind')), 't', 'one is deleted');
$node->sql(q(BEGIN; SELECT cmq_rewind('p_rewind', now() - interval '1 hour'); PREPARE TRANSACTION 'rewind';));
$p_id = $node->sql(q(BEGIN; SELECT FROM cmq_create_queue('p_create'); SELECT cmq_send('p_create', 'c1'); PREPARE TRANSACTION 'create';));
$node->sql(q(BEGIN; SELECT FROM cmq_alter_queue('undone', visibility_timeout => 77); PREPARE TRANSACTION 'alter';));
$node->sql(q(BEGIN; SELECT FROM cmq_drop_queue('p_drop'); PREPARE TRANSACTION 'drop';));
is($node->receive('p_rewind'), '-', 'prepared rewind: not in effect');

$node->restart;

# a session that knows the queues when the others commit
my $session = $node->session;
my $session_receive =
  "SELECT coalesce(string_agg(body, ' '), '-') FROM cmq_receive('p_rewind', 10)";
is($session->query_safe($session_receive),
	'-', 'prepared rewind: not in effect after restart');
$node->sql("COMMIT PREPARED 'rewind'");
is($session->query_safe($session_receive),
	'd1', 'prepared rewind: seen by a session that knew the queue');
$session->query_safe("SELECT cmq_send('undone', 'a')");
$node->sql("COMMIT PREPARED 'alter'");
is( $session->query_safe(
		"SELECT next_visible_at - now() < interval '78 s' FROM cmq_receive('undone')"
	),
	't',
	'prepared alter: seen by a session that knew the queue');
$node->sql("COMMIT PREPARED 'create'; COMMIT PREPARED 'drop'");
is($node->receive('p_create'), 'c1', 'prepared create: the queue is there');
ok($node->sql("SELECT cmq_send('p_create', 'c2')") > $p_id,
	'prepared create: ids go on');
like($node->complaint("SELECT cmq_send('p_drop', 'm')"), qr/queue "p_drop" does not exist/, 'prepared drop');
create('p_drop');
$node->sql("SELECT cmq_send('p_drop', 'again')");
is($node->receive('p_drop'), 'again', 'prepared drop: the name is free again');
$session->quit;

note 'a wall clock behind the newest message';

# As after a clock that was set back: the newest message lies ahead of the wall
# clock, as far as the leaves reach.
$node->sql(q(SELECT FROM cmq_create_queue('clock', msg_retention_seconds => 1296000,
				visibility_timeout => 43200, rewind_seconds => 1296000)));
my $early_id = $node->sql("SELECT cmq_send('clock', 'early')");
$node->sql("SELECT FROM cmq_maintain('clock')");
$node->sql(q(
	WITH m AS (
		INSERT INTO cmq_data.q_clock (enqueued_at, body)
		SELECT max(upper) - interval '1 min', 'ahead' FROM cmq.partition
		 WHERE queue = 'clock'
		RETURNING enqueued_at)
	INSERT INTO cmq_data.q_clock_pending (visible_at, enqueued_at, receive_count, rewind_count)
	SELECT enqueued_at, enqueued_at, 0, 0 FROM m));
my $ahead_id = $node->sql('SELECT max(cmq.msg_id(enqueued_at)) FROM cmq_data.q_clock');
ok($ahead_id > $early_id, 'clock: a message lies ahead');

$node->restart;

my $late_id = $node->sql("SELECT cmq_send('clock', 'late')");
ok($late_id > $ahead_id, 'clock: the next id is later still');
is($node->sql("SELECT bool_and(id > $late_id) FROM cmq_send_batch('clock', ARRAY['b1', 'b2']) AS id"),
	't',
	'clock: and so on');
is($node->receive('clock'), 'early ahead late b1 b2',
	'clock: all can be received at once, in order');
is($node->sql(q(
	SELECT count(*) FROM cmq_delete_batch('clock', array(
		SELECT concat_ws('-', cmq.msg_id(enqueued_at), (extract(epoch FROM visible_at) * 1000000)::bigint,
						 receive_count, rewind_count)
		  FROM cmq_data.q_clock_pending)))),
	'5',
	'clock: deleted');
# else the deletes can be later than a rewind soon after the restart, see src/README
$node->sql(q{SELECT FROM cmq_maintain('clock')});
$node->restart;
$id = $node->sql("SELECT cmq_send('clock', 'last')");
ok($id > $late_id + 2, 'clock: ids increase after another restart');
$node->rewind('clock');
is($node->receive('clock'), 'early ahead late b1 b2 last',
	'clock: rewound, in order, then the rest');
is($node->states('clock'),
	'ahead:in_flight b1:in_flight b2:in_flight early:in_flight last:in_flight late:in_flight',
	'clock: every message counted');

$node->stop;
unlike(slurp_file($node->logfile), qr/FATAL:  terminating background worker "cmq launcher/, 'a stop of the server is no error of the launcher');
done_testing();
