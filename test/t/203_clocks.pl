# The wall clock is set, by libfaketime, while the server runs: back by an hour, forward
# by days, for a moment and for good.  Timeouts, delays, retention and waiting go by
# elapsed time, which the library leaves alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;
use Time::HiRes ();

my ($library) = glob('/usr/lib/*/faketime/libfaketime.so.1 /usr/lib*/faketime/libfaketime.so.1 /usr/local/lib/faketime/libfaketime.so.1');

plan skip_all => 'libfaketime is not installed' unless defined $library && -e $library;

my $node = CmqNode->configured('main', <<'CONF', allows_streaming => 1);
restart_after_crash = on
statement_timeout = 120s
CONF
$node->fake_clock($library);
$node->start;
$node->sql('CREATE EXTENSION cmq');

# Where cmq has looked at the wall clock since it was set: it does once a second.
sub log_says
{
	my ($regexp, $offset, $name) = @_;

	return ok( eventually(sub {
			$node->sql(q{SELECT FROM cmq_queue_attributes('ids')});
			return $node->log_since($offset) =~ $regexp;
		}),
		$name);
}

# The queue gives out that body again in its time: after 2 seconds, said generously.
sub comes_back
{
	my ($queue, $body, $name, $server) = @_;
	my $seconds = ($server // $node)->sql(qq{SELECT seconds_until('$queue', '$body')});

	return ok($seconds ne '' && $seconds < 15, "$name: " . ($seconds eq '' ? 'it does not' : "$seconds s"));
}

# What is said of time is measured within the server, by a clock that nobody sets: the
# waits of pg_sleep, whose sum it counts.
$node->sql(q{
	CREATE FUNCTION seconds_until(queue text, wanted text) RETURNS numeric LANGUAGE plpgsql AS $$
	DECLARE
		waited numeric := 0;
	BEGIN
		WHILE waited < 30 LOOP
			IF EXISTS (SELECT FROM cmq_receive(queue, 1000) WHERE body = wanted) THEN
				RETURN waited;
			END IF;
			PERFORM pg_sleep(0.1);
			waited := waited + 0.1;
		END LOOP;
		RETURN NULL;
	END $$});

my $hour = 3600;
my $days = 5 * 86400;

$node->sql(q{SELECT cmq_create_queue('ids')});
my $last_id = $node->sql(q{SELECT cmq_send('ids', 'first')});

sub ids_increase
{
	my ($when) = @_;
	my $id = $node->sql(q{SELECT cmq_send('ids', 'next')});

	ok($id > $last_id, "ids increase $when");
	$last_id = $id;
	return;
}

# A clock of a queue that is within seconds of that of a wall clock with this offset.
sub clock_is_near
{
	my ($queue, $offset, $name) = @_;
	my $now = time;

	return cmp_ok($node->sql(qq{SELECT abs(extract(epoch FROM cmq._clock('$queue')) - $now - $offset)}), '<', 300, $name);
}

is($node->sql(q{SELECT abs(extract(epoch FROM clock_timestamp()) - extract(epoch FROM cmq._clock('ids'))) < 0.1}), 't',
	'the queue clock is the wall clock as long as nobody sets that');

#
# Set back by an hour.
#
my $at = $node->log_size;
$node->sql(q{SELECT cmq_create_queue('back', visibility_timeout => 2, rewind_seconds => 3600)});
$node->sql(q{SELECT cmq_send('back', 'm'), cmq_send('back', 'delayed', 2)});
is($node->receive('back', 100), 'm', 'back: received');
$node->set_clock(-$hour);
is($node->sql(q{SELECT clock_timestamp() < to_timestamp(} . time . q{) - interval '50 min'}), 't', 'back: the server sees it');
comes_back('back', 'delayed', 'back: a delay is over in its time');
log_says(qr/the wall clock is (359\d|360\d) seconds behind the time of messages/, $at, 'back: the log says so');
ids_increase('when the wall clock was set back');
clock_is_near('back', 0, 'back: the queue clock goes on');
my $slow = $node->sql(q{SELECT cmq._clock('back') AS c, pg_sleep(2) \gset
	SELECT extract(epoch FROM cmq._clock('back') - :'c')});
cmp_ok($slow, '>', 1.7, 'back: the queue clock ticks');
$node->sql(q{SELECT FROM cmq_delete_batch('back', array(SELECT receipt_handle FROM cmq_receive('back', 100, polling_wait_seconds => 5)))});
$node->sql(q{SELECT cmq_send('back', 'consumed')});
$node->consume('back', 100);
is($node->sql(q{SELECT cmq_rewind('back', now() - interval '1 hour') IS NOT NULL}), 't', 'back: now() - rewind_seconds is a legal start');
like($node->receive('back', 100), qr/consumed/, 'back: rewound');

# right again
$node->set_clock(0);
ids_increase('when it is right again');

#
# The same message comes back in its time whatever the clock does.
#
$node->sql(q{SELECT cmq_create_queue('figure', visibility_timeout => 2)});
$node->sql(q{SELECT cmq_send('figure', 'm')});
foreach my $offset (-$hour, 0, $days, 0)
{
	is($node->receive('figure', 100), 'm', "figure: received, then the wall clock is set to $offset");
	$node->set_clock($offset);
	is($node->receive('figure', 100), '-', 'figure: it is in flight');
	comes_back('figure', 'm', 'figure: it comes back');
	# nobody is to have it when the next part begins
	$node->sql(q{SELECT pg_sleep(3)});
}

#
# Forward by five days, for a moment.
#
$at = $node->log_size;
$node->sql(q{SELECT cmq_create_queue('fore', visibility_timeout => 2, rewind_seconds => 3600)});
$node->sql(q{SELECT cmq_create_queue('fore_dead')});
$node->sql(q{SELECT cmq_create_queue('ttl', dead_letter_queue => 'fore_dead', max_time_to_live => 300)});
$node->sql(q{SELECT cmq_send('ttl', 'young'), cmq_send('fore', 'a'), cmq_send('fore', 'b'), cmq_send('fore', 'c')});
$node->sql(q{SELECT FROM cmq_delete_batch('fore', array(SELECT receipt_handle FROM cmq_receive('fore', 3) WHERE body = 'c'))});
my $history = q{SELECT string_agg(body || ':' || state, ' ' ORDER BY body) FROM cmq.q_fore_all};
my $receiver = $node->session(on_error_die => 1);
my $old = $node->session(on_error_die => 1);
$old->query_safe('BEGIN; SELECT cmq_send($$ids$$, $$of a transaction that sees it$$)');
$node->set_clock($days);
is($node->sql(q{SELECT clock_timestamp() > to_timestamp(} . time . q{) + interval '4 days'}), 't', 'fore: the server sees it');
log_says(qr/the wall clock is 43\d\d\d\d seconds ahead of the time of messages/, $at, 'fore: the log says so');
$node->sql(q{SELECT FROM cmq_maintain()});
like($node->sql($history), qr/^a:.* b:.* c:deleted$/, 'fore: a round of maintenance has destroyed nothing');
is($node->receive('ttl', 100), 'young', 'fore: no message is dead before its time');
ids_increase('when the wall clock was set forward');
clock_is_near('fore', 0, 'fore: the queue clock does not follow');
is($node->sql(q{SELECT FROM cmq_queue_attributes('fore') WHERE min_msg_time > to_timestamp(} . time . q{) + interval '1 h'}), '',
	'fore: attributes do not either');
like($node->complaint(q{SELECT cmq_rewind('fore', now() - interval '1 hour')}), qr/start_time is after the earliest unconsumed message/, 'fore: now() - 1 hour is in the future of the queue');
is($node->sql(q{SELECT string_agg(body, ' ') FROM cmq.q_fore_history}), 'c', 'fore: the history is there');
is($node->sql(q{SELECT cmq_rewind('fore', (SELECT earliest_rewind_time FROM cmq_queue_attributes('fore'))) IS NOT NULL}), 't',
	'fore: what attributes show is a legal start');
like($node->sql(q{SELECT string_agg(body, ' ' ORDER BY body) FROM cmq_receive('fore', 100, polling_wait_seconds => 5)}), qr/c/, 'fore: rewound');
# a wait over a step has its time
$node->sql(q{SELECT cmq_create_queue('wait')});
foreach my $offset (0, $days, -$hour, 0)
{
	$receiver->query_safe(q{SELECT clock_timestamp()});
	my $before = [Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC())]->[0];
	$receiver->{stdin} .= q{SELECT count(*) FROM cmq_receive('wait', 1, polling_wait_seconds => 4)} . ";\n\\echo waited\n";
	$receiver->{run}->pump_nb;
	$node->wait_until(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'wait_seconds => 4' AND wait_event_type = 'Extension'});
	$node->set_clock($offset);
	$receiver->{run}->pump until $receiver->{stdout} =~ /waited/;
	$receiver->{stdout} = '';
	my $seconds = Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) - $before;
	ok($seconds >= 3.9 && $seconds < 25, "a wait has its time when the wall clock is set to $offset");
}
$old->query_safe('COMMIT');
$node->set_clock(0);
log_says(qr/the wall clock is no longer ahead/, $at, 'fore: the log says when it is over');
$node->sql(q{SELECT cmq_send('fore', 'd')});
is($node->sql(q{SELECT count(*) FROM cmq.q_fore_all WHERE enqueued_at > clock_timestamp()}), '0', 'fore: new messages are not in the future');
$node->sql(q{SELECT pg_sleep(2.5)});
comes_back('fore', 'd', 'fore: they are received, and come back');
comes_back('fore', 'a', 'fore: so do old ones');
ids_increase('when the wall clock has come back');

#
# A crash in the midst of a step: the postmaster remembers.
#
$node->sql(q{SELECT cmq_create_queue('crash', visibility_timeout => 2)});
$node->sql(q{SELECT cmq_send('crash', 'm')});
is($node->receive('crash', 100), 'm', 'crash: received');
$node->set_clock($days);
$node->sql(q{SELECT FROM cmq_maintain()});
$at = $node->log_size;
my $killed = $node->session(on_error_die => 0);
my $pid = $killed->query_safe('SELECT pg_backend_pid()');
kill 'KILL', $pid;
$killed->{run}->finish;
$receiver->{run}->kill_kill;
$old->{run}->kill_kill;
$node->poll('SELECT 1', 'crash: the server is there again', wanted => '1');
log_says(qr/the wall clock is 43\d\d\d\d seconds ahead of the time of messages/, $at, 'crash: the log says it again');
$node->sql(q{SELECT FROM cmq_maintain()});
comes_back('crash', 'm', 'crash: a message comes back in its time');
clock_is_near('crash', 0, 'crash: the queue clock does not follow');
ids_increase('after a crash in the midst of a step');
$node->set_clock(0);

#
# A standby that is promoted goes by its own elapsed time.
#
$node->sql(q{SELECT cmq_create_queue('stand', visibility_timeout => 2)});
$node->sql(q{SELECT cmq_send('stand', 'm')});
my $standby = $node->standby('standby');
is($node->receive('stand', 100), 'm', 'standby: received on the primary');
$node->wait_for_catchup($standby);
$node->set_clock(-$hour);
is($standby->sql(q{SELECT state FROM cmq.q_stand_live}) =~ /^(in_flight|ready)$/, 1, 'standby: it can be looked at');
$standby->promote;
comes_back('stand', 'm', 'standby: the message comes back in its time after the promotion', $standby);
cmp_ok($standby->sql(q{SELECT cmq_send('ids', 'promoted')}), '>', $last_id, 'standby: ids increase');
$standby->stop;
$node->set_clock(0);

#
# A step that lasts is accepted, and one that was wrong is slewed away.
#
$node->sql(q{SELECT cmq_create_queue('last', msg_retention_seconds => 86400)});
$node->sql(q{SELECT cmq_send('last', 'old')});
$node->set('cmq.clock_step_delay', '2s');
$at = $node->log_size;
$node->set_clock($days);
log_says(qr/the wall clock is 43\d\d\d\d seconds ahead of the time of messages\n.*stays so for 2 seconds/, $at, 'lasting: the log says it');
log_says(qr/the wall clock has been accepted, which is 43\d\d\d\d seconds ahead/, $at, 'lasting: it is accepted');
clock_is_near('last', $days, 'lasting: the queue clock has followed');
is($node->receive('last', 100), '-', 'lasting: what is older than the retention has expired');
ids_increase('when it has been accepted');
$node->set_clock(0);
$node->sql(q{ALTER SYSTEM RESET cmq.clock_step_delay});
$node->reload;
$node->sql(q{SELECT cmq_create_queue('ahead', visibility_timeout => 2, rewind_seconds => 3600)});
$node->sql(q{SELECT cmq_send('ahead', 'm')});
$node->sql(q{SELECT FROM cmq_maintain()});
clock_is_near('ahead', $days, 'wrong: the queue clocks go on from there');
is($node->receive('ahead', 100), 'm', 'wrong: received');
comes_back('ahead', 'm', 'wrong: a message comes back in its time');
my $ahead = q{SELECT extract(epoch FROM cmq._clock('ahead') - clock_timestamp())};
my $before = $node->sql($ahead);
$node->sql('SELECT pg_sleep(3)');
cmp_ok($node->sql($ahead), '<', $before - 0.2, 'wrong: they come nearer to the wall clock');

# The clocks of the queues were saved: a restart does not undo them, nor stop them.
$node->stop;
$node->start;
$at = $node->log_size;
clock_is_near('ahead', $days, 'restart: the clock of a queue in use is still ahead');
ids_increase('after a restart with a clock that is ahead');
$before = $node->sql($ahead);
comes_back('ahead', 'm', 'restart: a message comes back in its time');
$node->sql('SELECT pg_sleep(2)');
cmp_ok($node->sql($ahead), '<', $before - 0.2, 'restart: it comes nearer to the wall clock');
$node->sql(q{SELECT cmq_create_queue('new')});
$node->sql(q{SELECT cmq_send('new', 'n')});
clock_is_near('new', 0, 'restart: a new queue is not ahead');
$node->sql(q{SELECT FROM cmq_delete_batch('ahead', array(SELECT receipt_handle FROM cmq_receive('ahead', 100, polling_wait_seconds => 5)))});
is($node->sql(q{SELECT cmq_rewind('ahead', now() - interval '1 hour') IS NOT NULL}), 't', 'ahead: now() - rewind_seconds is a legal start');

# 0 accepts at once
$node->set('cmq.clock_step_delay', 0);
$at = $node->log_size;
$node->set_clock(2 * $hour);
log_says(qr/the wall clock has been accepted, which is 7\d\d\d seconds ahead/, $at, 'a delay of 0 accepts it at once');
clock_is_near('new', 2 * $hour, '... and the queue clock has followed');

$node->stop;
done_testing();
