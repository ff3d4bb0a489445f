# Dead letters to a queue of another owner.  The worker alone moves them: while the right
# lasts that the binding rests on, within the limits of the dead-letter queue, and until
# one of the two owners ends the binding.  Each message is in one of the two queues,
# once, also when all of that happens at once, and the power fails.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use List::Util qw(min);
use Test::More;

my $node = CmqNode->running('main', <<'CONF');
cmq.maintenance_interval = 1s
log_error_verbosity = verbose
CONF

# The same as a role, with what is told on the way.
sub as
{
	my ($role, $sql) = @_;
	return $node->as($role, "\\set VERBOSITY verbose\n$sql");
}

# Until the worker has moved letters once more, or has not.  A round saves clocks
# before it moves letters, and the next round begins when it has ended.
sub round_passes
{
	foreach (1, 2)
	{
		$node->sql(q{SELECT cmq_send('beat', 'x')});
		$node->wait_until(q{SELECT clock >= (SELECT max(enqueued_at) FROM cmq_data.q_beat) FROM cmq.queue WHERE name = 'beat'});
	}
	return;
}

# Send so many messages, receive them and give them back: then they are dead.
my $sent = 0;

sub letters
{
	my ($n, $body) = @_;
	my $first = $sent + 1;

	$sent += $n;
	$node->sql(qq{SELECT FROM cmq_send_batch('orders', array(SELECT 'm' || i || } . ($body // q{''}) . qq{ FROM generate_series($first, $sent) i));
		SELECT FROM give_up($n)});
	return;
}

# All bodies are in one of the two queues, as one message with one state; so many of
# them in each.
sub are_there
{
	my ($orders, $sink, $when) = @_;

	is($node->sql(q{SELECT (SELECT count(*) FROM cmq.q_orders_live), (SELECT count(*) FROM cmq.q_sink_live)}), "$orders|$sink", "$when: so many are in each queue");
	is($node->sql(q{SELECT count(*), count(DISTINCT substring(body FROM '^m\d+')) FROM (SELECT body FROM cmq.q_orders_live UNION ALL SELECT body FROM cmq.q_sink_live) b}),
		"$sent|$sent", "$when: each message is in one queue, once");
	is($node->sql(q{SELECT (SELECT count(*) FROM cmq_data.q_orders) + (SELECT count(*) FROM cmq_data.q_sink)}), $sent, "$when: and so are the bodies");
	is($node->sql(q{SELECT string_agg(pending_msg_num::text, '|' ORDER BY queue) FROM cmq.metrics WHERE queue IN ('orders', 'sink')}), "$orders|$sink", "$when: and the counts");
	return;
}

# Nothing is moved in a whole round that begins now, and the log says why.
sub nothing_moves
{
	my ($orders, $sink, $log, $name) = @_;
	my $offset = $node->log_size;

	round_passes();
	like($node->log_since($offset), $log, "$name: the log says why");
	are_there($orders, $sink, $name);
	return;
}

$node->sql(q{
	CREATE ROLE seller; CREATE ROLE keeper; CREATE ROLE stranger; CREATE ROLE guild;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO seller, keeper;
	SELECT FROM cmq_create_queue('beat');
	SET ROLE keeper;
	SELECT FROM cmq_create_queue('sink', max_msg_heap_num => 1000);
	GRANT INSERT ON cmq.q_sink TO seller;
	SET ROLE seller;
	SELECT FROM cmq_create_queue('orders', visibility_timeout => 43200, dead_letter_queue => 'sink', max_receive_count => 1);
	RESET ROLE;
	CREATE FUNCTION give_up(n int) RETURNS void LANGUAGE sql AS
		$$ SELECT count(cmq_change_visibility('orders', receipt_handle, 0)) FROM cmq_receive('orders', n) $$});

note 'the right that the binding rests on';

letters(3);
$node->poll(q{SELECT count(*) = 3 FROM cmq.q_sink_live}, 'letters go to the queue of another owner');
is($node->sql(q{SELECT DISTINCT headers #>> '{cmq_dead_letter,queue}', headers #>> '{cmq_dead_letter,reason}', headers #> '{cmq_dead_letter,receive_count}' FROM cmq.q_sink_live}),
	'orders|max_receive_count|1', '... and say where they come from');
are_there(0, 3, 'with the right');

my $no_right = qr/42501: moving dead letters of queue "orders" failed: permission denied for dead-letter queue "sink"/;
as('keeper', q{REVOKE INSERT ON cmq.q_sink FROM seller});
letters(4);
nothing_moves(4, 3, $no_right, 'without the right');
# they are not delivered either, and hold up nothing
$node->sql(q{SELECT cmq_send('orders', 'm' || } . ++$sent . q{)});
is($node->receive('orders', 10), "m$sent", 'without the right: the living are received');
# whoever else has the right, it is not that of the owner of the queue
as('keeper', q{GRANT INSERT ON cmq.q_sink TO stranger});
nothing_moves(5, 3, $no_right, 'with the right of somebody else');
as('keeper', q{GRANT INSERT ON cmq.q_sink TO seller});
$node->poll(q{SELECT count(*) = 7 FROM cmq.q_sink_live}, 'with the right back they go');
are_there(1, 7, 'with the right back');

# one that it has as a member of a role
as('keeper', q{REVOKE INSERT ON cmq.q_sink FROM seller, stranger; GRANT INSERT ON cmq.q_sink TO guild});
letters(1);
nothing_moves(2, 7, $no_right, 'before it is a member');
$node->sql('GRANT guild TO seller');
$node->poll(q{SELECT count(*) = 8 FROM cmq.q_sink_live}, 'as a member of a role that has the right');
$node->sql('REVOKE guild FROM seller');
letters(1);
nothing_moves(2, 8, $no_right, 'when it is no member any more');
as('keeper', q{GRANT INSERT ON cmq.q_sink TO seller});
$node->poll(q{SELECT count(*) = 9 FROM cmq.q_sink_live}, 'with a right of its own');
are_there(1, 9, 'with a right of its own');

note 'the limits of the target';

as('keeper', q{SELECT cmq_alter_queue('sink', max_msg_heap_num => 12)});
letters(5);
$node->poll(q{SELECT count(*) = 12 FROM cmq.q_sink_live}, 'as many go as find room');
nothing_moves(3, 12, qr/53400: 2 dead letters of queue "orders" could not be moved/, 'a full queue');
as('keeper', q{SELECT cmq_alter_queue('sink', max_msg_heap_num => 13)});
$node->poll(q{SELECT count(*) = 13 FROM cmq.q_sink_live}, 'one more when there is room for one');
nothing_moves(2, 13, qr/53400: 1 dead letters of queue "orders" could not be moved/, 'full again');
as('keeper', q{SELECT cmq_alter_queue('sink', max_msg_heap_num => 1000, max_msg_size => 1024)});
$node->poll(q{SELECT count(*) = 14 FROM cmq.q_sink_live}, 'the last one, too');

# one body of the largest size, one that is larger, and one with large headers
letters(1, q{repeat('x', 1024 - length('m' || i))});
letters(1, q{repeat('y', 1025 - length('m' || i))});
$node->sql(q{SELECT cmq_send('orders', 'm' || } . ++$sent . q{, headers => jsonb_build_object('k', repeat('h', 9000))); SELECT FROM give_up(1)});
letters(1);
$node->poll(q{SELECT count(*) = 16 FROM cmq.q_sink_live}, 'those go that are small enough');
nothing_moves(3, 16, qr/53400: 2 dead letters of queue "orders" could not be moved/, 'too large');
is($node->sql(q{SELECT max(length(body)) FROM cmq.q_sink_live}), '1024', 'the largest is as large as it may be');
as('keeper', q{SELECT cmq_alter_queue('sink', max_msg_size => 1048576)});
$node->poll(q{SELECT count(*) = 18 FROM cmq.q_sink_live}, 'the others go when they may');
is($node->sql(q{SELECT max(length(body)), max(length(headers ->> 'k')) FROM cmq.q_sink_live}), '1025|9000', 'as they were');
are_there(1, 18, 'limits');

note 'both owners can end it';

# letters that wait to be moved when it ends are messages of the queue again
foreach my $role ('keeper', 'seller')
{
	as('keeper', q{SELECT cmq_alter_queue('sink', max_msg_heap_num => 18)});
	letters(2);
	nothing_moves(3, 18, qr/53400: 2 dead letters of queue "orders" could not be moved/, "$role: it is full");
	like(as('stranger', q{SELECT cmq_unbind_dead_letter('orders')}), qr/ERROR: +42501/, "$role: a stranger cannot end it");
	is(as($role, q{SELECT cmq_unbind_dead_letter('orders')}), "\n", "$role: it ends");
	# now there would be room for them
	as('keeper', q{SELECT cmq_alter_queue('sink', max_msg_heap_num => 1000)});
	# a round that was under way may have begun with the old state
	round_passes();
	my $offset = $node->log_size;
	round_passes();
	unlike($node->log_since($offset), qr/dead letters/, "$role: the worker tries no more");
	are_there(3, 18, "$role: when it has ended");
	is($node->sql(q{SELECT count(*), count(cmq_delete('orders', receipt_handle)) FROM cmq_receive('orders', 10)}), '2|2', "$role: they are received again");
	$sent -= 2;
	as('seller', q{SELECT cmq_alter_queue('orders', dead_letter_queue => 'sink', max_receive_count => 1)});
}
are_there(1, 18, 'bound again');
as('keeper', q{REVOKE INSERT ON cmq.q_sink FROM seller});
as('keeper', q{SELECT cmq_unbind_dead_letter('orders')});
like(as('seller', q{SELECT cmq_alter_queue('orders', dead_letter_queue => 'sink', max_receive_count => 1)}), qr/ERROR: +42501/, 'without the right nobody binds it');
as('keeper', q{GRANT INSERT ON cmq.q_sink TO seller});

note 'a queue that is paused';

as('seller', q{SELECT cmq_alter_queue('orders', dead_letter_queue => 'sink', max_receive_count => 1)});
$sent += 2;
# in one transaction, so that the worker does not come before the pause
$node->sql(qq{BEGIN;
	SELECT FROM cmq_send_batch('orders', '{m@{[$sent - 1]},m$sent}');
	SELECT FROM give_up(2);
	SELECT cmq_pause_queue('orders');
	COMMIT});
round_passes();
are_there(3, 18, 'paused');
$node->sql(q{SELECT cmq_resume_queue('orders')});
$node->poll(q{SELECT count(*) = 20 FROM cmq.q_sink_live}, 'they go when it is resumed');
# that the dead-letter queue is paused does not matter
$node->sql(q{SELECT cmq_pause_queue('sink')});
letters(1);
$node->poll(q{SELECT count(*) = 21 FROM cmq.q_sink_live}, 'letters go to a queue that is paused');
$node->sql(q{SELECT cmq_resume_queue('sink')});
are_there(1, 21, 'resumed');
as('seller', q{SELECT cmq_alter_queue('orders', max_receive_count => 2)});

note 'all of it at once';

$node->sql(q{SELECT FROM cmq_clear_queue('orders'); SELECT FROM cmq_clear_queue('sink')});
$sent = 1000;
$node->sql(qq{SELECT FROM cmq_send_batch('orders', array(SELECT 'm' || i FROM generate_series(1, $sent) i))});

# consumers that fail, and change their minds, for some seconds; the two owners, who take back and give
# what they can
my %scripts = (
	fail => <<'SQL',
\set what random(1, 4)
BEGIN;
SELECT count(cmq_change_visibility('orders', receipt_handle, 0)) FROM cmq_receive('orders', 3);
\if :what = 1
ROLLBACK;
\else
COMMIT;
\endif
\sleep 20 ms
SQL
	keeper => <<'SQL',
\set room random(1, 20)
SET ROLE keeper;
REVOKE INSERT ON cmq.q_sink FROM seller;
\sleep 10 ms
GRANT INSERT ON cmq.q_sink TO seller;
SELECT cmq_alter_queue('sink', max_msg_heap_num => :room * 100);
\sleep 50 ms
DO $$ BEGIN
	PERFORM cmq_unbind_dead_letter('orders');
EXCEPTION WHEN insufficient_privilege THEN NULL;  -- it is not bound again yet
END $$;
RESET ROLE;
SQL
	seller => <<'SQL',
SET ROLE seller;
DO $$ BEGIN
	PERFORM cmq_alter_queue('orders', dead_letter_queue => 'sink', max_receive_count => 2);
EXCEPTION WHEN insufficient_privilege THEN NULL;
END $$;
RESET ROLE;
\sleep 10 ms
SQL
);
my %files = map { $_ => $node->script($_, $scripts{$_}) } keys %scripts;

# One run of them all, until so many more letters have gone; then as the code says.
sub run_until
{
	my ($more, $end) = @_;
	my $n = min($sent, $more + $node->sql('SELECT count(*) FROM cmq_data.q_sink_pending'));
	my @runs = map { $node->start_pgbench('-c', $_ eq 'fail' ? 4 : 1, '-f', $files{$_}, '-T', '180') } sort keys %files;

	$node->poll(q{SELECT count(*) = 6 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()}, 'all have begun');
	$node->poll("SELECT count(*) >= $n FROM cmq_data.q_sink_pending", "$more letters have gone");
	$end->(@runs);
	$_->finish foreach @runs;
	return join '', map { $_->{err} } @runs;
}

# Whatever has gone so far; and no more goes while that is counted.
sub all_there
{
	my ($when) = @_;

	as('keeper', q{REVOKE INSERT ON cmq.q_sink FROM seller});
	round_passes();
	my $gone = $node->sql('SELECT count(*) FROM cmq_data.q_sink_pending');
	are_there($sent - $gone, $gone, $when);
	return;
}

run_until(100, sub { $node->stop('immediate') });
$node->start;
all_there('after a crash');
my $err = run_until(100, sub { $_->signal('TERM') foreach @_ });
unlike($err, qr/ERROR(?!: +canceling)/, 'no call fails');
$node->poll(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE query ~ 'cmq' AND backend_type = 'client backend' AND pid <> pg_backend_pid()}, 'they have ended');
all_there('all at once');

# all that are left, in peace
as('keeper', q{GRANT INSERT ON cmq.q_sink TO seller; SELECT cmq_alter_queue('sink', max_msg_heap_num => 10000)});
as('seller', q{SELECT cmq_alter_queue('orders', dead_letter_queue => 'sink', max_receive_count => 1)});
$node->sql(q{SELECT FROM give_up(1000)});
$node->poll("SELECT count(*) = $sent FROM cmq.q_sink_live", 'in the end all have gone');
are_there(0, $sent, 'in the end');
# and back
as('seller', q{GRANT INSERT ON cmq.q_orders TO keeper; SELECT cmq_unbind_dead_letter('orders')});
is(as('keeper', q{SELECT cmq_redrive('sink')}) =~ /^(\d+)$/m ? $1 : '', '0', 'none is sent back to a queue that is not bound');
as('seller', q{SELECT cmq_alter_queue('orders', dead_letter_queue => 'sink', max_receive_count => 1)});
is(as('keeper', q{SELECT cmq_redrive('sink')}) =~ /^(\d+)$/m ? $1 : '', $sent, 'all are sent back');
are_there($sent, 0, 'back');

$node->is_sound;
$node->stop;
done_testing();
