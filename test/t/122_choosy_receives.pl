# Receives and consumes that wait with a filter, beside those without: whatever makes a
# message ready wakes one who wants it, a message goes to nobody else, and who leaves it
# costs nobody a wake-up.
#
# A waiter that nobody wakes returns after 30 seconds; the test expects its message long
# before that.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->running('choosy', <<'CONF');
max_prepared_transactions = 5
max_connections = 100
CONF

my $create = q{SELECT FROM cmq_create_queue('c', visibility_timeout => 43200, rewind_seconds => 3600, polling_wait_seconds => 30)};
$node->sql("CREATE TABLE got (body text, waiter int); $create");

my $waiter_no = 0;

# A session that waits with a filter for this kind, '' for all, and logs what it gets.
# Every other one consumes.
sub waiter
{
	my ($kind) = @_;
	my $filter = $kind eq '' ? 'NULL' : qq('{"kind": "$kind"}');
	my $call = ++$waiter_no % 2 ? "cmq_receive('c', filter => $filter)" : "cmq_consume('c', filter => $filter)";
	my $session = $node->start_psql("INSERT INTO got SELECT body, $waiter_no FROM $call");
	$session->{no} = $waiter_no;
	return $session;
}

# Waiters of these kinds, all asleep.
sub waiters
{
	my (@kinds) = @_;
	my @waiters = map { waiter($_) } @kinds;
	$node->wait_for_waiters(scalar @kinds);
	return @waiters;
}

# Soon the waiter has this; it is no error, and so many others wait on.
sub has
{
	my ($waiter, $body, $still, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->poll("SELECT string_agg(body, ',') FROM got WHERE waiter = $waiter->{no}", $what, wanted => $body, seconds => 15);
	$waiter->finish;
	is($waiter->{err}, '', "$what: no error");
	$node->wait_for_waiters($still);
	return;
}

# The body of a message is its kind and a number.
sub send_message
{
	my ($body, $delay) = @_;
	$delay //= 0;
	my ($kind) = $body =~ /^([a-z]+)/;
	return $node->sql(qq{SELECT cmq_send('c', '$body', $delay, '{"kind": "$kind"}')});
}

# Nobody waits, and the queue is a new one.
sub clean
{
	my (@waiters) = @_;
	$node->sql("SELECT count(pg_cancel_backend(pid)) $waiting");
	$_->finish foreach @waiters;
	$node->sql("SELECT cmq_drop_queue('c'); $create; TRUNCATE got");
	return;
}

# How often those who wait have gone to sleep so far.
my $counts_sleeps = -e '/proc/self/status' && slurp_file('/proc/self/status') =~ /^voluntary_ctxt_switches:/m;

sub sleeps
{
	my $n;
	eventually {
		$n = 0;
		my $awake = 0;
		foreach my $pid (split /\n/, $node->sql("SELECT pid $waiting"))
		{
			my $status = slurp_file("/proc/$pid/status");
			$awake++ if $status !~ /^State:\s+S/m;
			$n += $1 if $status =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
		}
		return !$awake;
	} or BAIL_OUT('waiting receives do not sleep');
	return $n;
}

note 'each gets what it wants';
{
	my ($a, $b, $plain) = waiters('a', 'b', '');
	send_message('c1');
	has($plain, 'c1', 2, 'a message that no filter wants goes to the one without');
	send_message('b1');
	has($b, 'b1', 1, 'a message for one filter');
	send_message('c2');
	send_message('b2');
	send_message('a1');
	has($a, 'a1', 0, 'behind two that it does not want');
	is($node->receive('c'), 'c2 b2', 'which are there for others');
	clean();

	# the message is for both: one has it, the other one waits on and gets the next
	for my $round (1 .. 5)
	{
		my @both = waiters('a', '');
		send_message('a1');
		$node->poll(q{SELECT count(*) FROM got}, "round $round: one of two who want it has it", wanted => '1', seconds => 15);
		$node->wait_for_waiters(1);
		send_message('a2');
		$node->poll(q{SELECT count(*) FROM got}, "round $round: the other one has the next", wanted => '2', seconds => 15);
		is($node->sql(q{SELECT string_agg(body, ' ' ORDER BY body), count(DISTINCT waiter) FROM got}), 'a1 a2|2', "round $round: each one");
		clean(@both);
	}
}

note 'time alone';
{
	# no plain waiter plans for the choosy one, nor is it the planner for others
	my ($a) = waiters('a');
	send_message('b1', 1);
	send_message('a1', 2);
	has($a, 'a1', 0, 'the end of a delay, behind that of another message');
	clean();
	my ($c, $plain) = waiters('c', '');
	send_message('b1', 2);
	has($plain, 'b1', 1, 'the end of a delay, for the one without a filter');
	send_message('b2', 1);
	send_message('c1', 2);
	has($c, 'c1', 0, '... and for the other one');
	clean();
	# in flight for two seconds
	send_message('a1');
	$node->sql(q{SELECT FROM cmq_receive('c', 1, 2)});
	my ($plain2, $a2) = waiters('', 'a');
	$node->poll(q{SELECT count(*) FROM got}, 'the end of a visibility timeout', wanted => '1', seconds => 15);
	clean($plain2, $a2);
}

note 'whatever else makes messages ready';
{
	my %back = (
		'a receive' => q{SELECT FROM cmq_receive('c', 10, NULL, 0)},
		'a consume' => q{SELECT FROM cmq_consume('c', 10, 0)},
		'a consume with a filter' => q{SELECT FROM cmq_consume('c', 10, 0, '{"kind": "a"}')},
		'receive_messages' => q{SELECT FROM cmq_receive_messages('c', array(SELECT msg_id FROM cmq.q_c_live))},
		'delete_messages' => q{SELECT FROM cmq_delete_messages('c', array(SELECT msg_id FROM cmq.q_c_live))});
	my %ends = (
		'ROLLBACK' => [ '', 'ROLLBACK' ],
		'ROLLBACK TO' => [ 'SAVEPOINT s;', 'ROLLBACK TO s' ],
		'ROLLBACK PREPARED' => [ '', 'ROLLBACK PREPARED ' ],
		'the end of the session' => [ '', '\q' ]);
	foreach my $what (sort keys %back)
	{
		foreach my $end (sort keys %ends)
		{
			foreach my $kind ('a', '')
			{
				my $name = "$end of $what, for one " . ($kind eq '' ? 'without' : 'with') . ' a filter';
				my ($begin, $undo) = @{ $ends{$end} };
				send_message('a1');
				my $holder = $node->session;
				$holder->query_safe("BEGIN; $begin $back{$what};");
				my ($other, $waiter) = waiters('b', $kind);
				if ($end =~ /PREPARED/)
				{
					$holder->query_safe(q{PREPARE TRANSACTION 'p'});
					$node->sql(q{ROLLBACK PREPARED 'p'});
				}
				elsif ($undo eq '\q') { $holder->quit; }
				else                  { $holder->query_safe($undo); }
				has($waiter, 'a1', 1, $name);
				$holder->quit unless $undo eq '\q';
				clean($other);
			}
		}
	}
	# a due message: consumed, and rolled back
	foreach my $what ('a consume', 'delete_messages')
	{
		send_message('a1');
		send_message('a2');
		$node->sql(q{SELECT FROM cmq_consume('c', 10); SELECT FROM cmq_rewind('c', now() - interval '30 min')});
		my $holder = $node->session;
		$holder->query_safe("BEGIN; $back{$what}");
		my ($b, $a, $plain) = waiters('b', 'a', '');
		$holder->query_safe('ROLLBACK');
		$node->poll(q{SELECT string_agg(body, ' ' ORDER BY body) FROM got}, "ROLLBACK of $what of messages of a rewind", wanted => 'a1 a2', seconds => 15);
		$holder->quit;
		$node->wait_for_waiters(1);
		clean($a, $b, $plain);
	}

	my %front = (
		'a rewind' => q{SELECT FROM cmq_rewind('c', now() - interval '30 min')},
		'a restore' => q{SELECT FROM cmq_restore('c', '-infinity', NULL)},
		'COMMIT PREPARED of a restore' => q{BEGIN; SELECT FROM cmq_restore('c', '-infinity', NULL); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'},
		'a restore by id' => q{SELECT FROM cmq_restore_messages('c', array(SELECT msg_id FROM cmq.q_c_history))});
	foreach my $what (sort keys %front)
	{
		send_message($_) foreach 'b1', 'a1', 'c1';
		$node->sql(q{SELECT FROM cmq_consume('c', 10)});
		my ($a, $c, $plain) = waiters('a', 'c', '');
		$node->sql($front{$what});
		# the one without may have any of them
		$node->poll(q{SELECT count(*) FROM got WHERE waiter = } . $plain->{no}, "$what, for the one without a filter", wanted => '1', seconds => 15);
		my $had = $node->sql("SELECT body FROM got WHERE waiter = $plain->{no}");
		has($a, 'a1', $had eq 'c1' ? 1 : 0, "$what, for one with a filter") unless $had eq 'a1';
		has($c, 'c1', $had eq 'a1' ? 1 : 0, "$what, for another one") unless $had eq 'c1';
		clean($a, $c, $plain);
	}

	send_message('a1');
	my $handle = $node->handle('c');
	my ($b, $a) = waiters('b', 'a');
	$node->sql("SELECT cmq_change_visibility('c', '$handle', 0)");
	has($a, 'a1', 1, 'a change of visibility');
	clean($b);
	send_message('a1');
	$handle = $node->handle('c');
	($b, $a) = waiters('b', 'a');
	$node->sql("SELECT cmq_change_visibility('c', '$handle', 1)");
	has($a, 'a1', 1, 'a change of visibility to a second');
	clean($b);
	foreach my $delay (0, 1)
	{
		send_message('a1');
		$handle = $node->handle('c');
		($b, $a) = waiters('b', 'a');
		$node->sql("SELECT cmq_release('c', ARRAY['$handle'], $delay)");
		has($a, 'a1', 1, "a release, to be ready in $delay s");
		clean($b);
	}
	$node->sql(q{SELECT cmq_pause_queue('c')});
	send_message('a1');
	($b, $a) = waiters('b', 'a');
	is($node->sql(q{SELECT count(*) FROM got}), '0', 'a paused queue has nothing for anybody');
	$node->sql(q{SELECT cmq_resume_queue('c')});
	has($a, 'a1', 1, 'the end of a pause');
	clean($b);
}

note 'many';
{
	# each waits for one of its own, and they come in any order, some in one transaction
	my @waiters = waiters(map { "k$_" =~ tr/0-9/a-j/r } 10 .. 39);
	my @kinds = map { "k$_" =~ tr/0-9/a-j/r } 10 .. 39;
	my @order = sort { reverse($a) cmp reverse($b) } @kinds;
	$node->sql('BEGIN; ' . join('', map { qq{SELECT cmq_send('c', '$_', headers => '{"kind": "$_"}');} } @order[ 0 .. 9 ]) . 'COMMIT');
	send_message($_) foreach @order[ 10 .. 19 ];
	$node->sql(q{SELECT FROM cmq_send_batch('c', ARRAY[} . join(', ', map { "'$_'" } @order[ 20 .. 29 ]) . q{], headers => ARRAY[}
		. join(', ', map { qq('{"kind": "$_"}') } @order[ 20 .. 29 ]) . ']::jsonb[])');
	$node->poll(q{SELECT count(*) FROM got}, 'thirty who wait for different messages have them', wanted => '30', seconds => 15);
	$_->finish foreach @waiters;
	my $first = $waiters[0]{no};
	is($node->sql(q{SELECT string_agg(body, ' ' ORDER BY waiter) FROM got}), "@kinds", '... each its own');
	clean();

	# some give up; no wake-up goes with them
	my (@choosy, @plain);
	push @choosy, waiter('a') foreach 1 .. 10;
	push @plain, waiter('') foreach 1 .. 10;
	$node->wait_for_waiters(20);
	$node->sql(qq{
		SELECT count(*) FILTER (WHERE n % 2 = 0 AND pg_cancel_backend(pid)), count(*) FILTER (WHERE n % 2 = 1 AND pg_terminate_backend(pid))
		  FROM (SELECT pid, row_number() OVER () AS n $waiting AND query LIKE '%kind%' LIMIT 7) w;
		SELECT count(*) FILTER (WHERE n % 2 = 0 AND pg_cancel_backend(pid)), count(*) FILTER (WHERE n % 2 = 1 AND pg_terminate_backend(pid))
		  FROM (SELECT pid, row_number() OVER () AS n $waiting AND query NOT LIKE '%kind%' LIMIT 7) w;
		SELECT count(*) FROM cmq_send_batch('c', ARRAY['b1', 'b2', 'b3'])});
	$node->poll(q{SELECT count(*) FROM got WHERE body LIKE 'b%'}, 'the three without a filter that are left have theirs', wanted => '3', seconds => 15);
	send_message("a$_") foreach 1 .. 3;
	$node->poll(q{SELECT count(*) FROM got}, '... and the three with one', wanted => '6', seconds => 15);
	$_->finish foreach @choosy, @plain;
	is(scalar(grep { $_->{err} ne '' } @choosy, @plain), 14, 'fourteen ended with errors');
	clean();
}

SKIP:
{
	skip 'the system does not count how often a process sleeps', 2 unless $counts_sleeps;
	# each looks once for each message or so, and sleeps on: it does not run in circles
	# because something is there
	my @waiters = waiters('a', 'b', '');
	send_message('c1');
	$node->wait_for_waiters(2);
	my $before = sleeps();
	send_message("c$_") foreach 2 .. 11;
	my $n = sleeps() - $before;
	ok($n >= 2 && $n <= 40, "ten messages that two waiters do not want wake them $n times");
	$before = sleeps();
	$node->sql(q{SELECT FROM cmq_create_queue('other'); SELECT cmq_send('other', 'x', headers => '{"kind": "a"}')});
	is(sleeps() - $before, 0, 'a message of another queue does not');
	clean(@waiters);
}

SKIP:
{
	skip 'the system does not count how often a process sleeps', 42 unless $counts_sleeps;
	note 'no message is looked at twice that is not wanted';

	# so many times the message leaf was asked for a message, by sessions that have ended
	my $look_ups = sub {
		return $node->sql(q{SELECT sum(idx_scan) FROM pg_stat_user_indexes i JOIN cmq.partition p ON i.relid = p.messages WHERE queue = 'c'});
	};
	my $unwanted = sub { send_message('z' . $_[0]); sleeps(); };
	$node->sql(q{SELECT count(*) FROM cmq_send_batch('c', array_fill('z'::text, '{1000}'), headers => array_fill('{"kind": "z"}'::jsonb, '{1000}'))});
	my ($first) = waiters('a');
	$unwanted->($_) foreach 1 .. 20;
	send_message('a1');
	has($first, 'a1', 0, 'one behind a thousand');
	$node->poll("SELECT sum(idx_scan) >= 1000 FROM pg_stat_user_indexes i JOIN cmq.partition p ON i.relid = p.messages WHERE queue = 'c'", 'each was looked at');
	cmp_ok($look_ups->(), '<', 2000, '... but not by each look');
	clean();

	# A look has passed over what comes back, or comes late, with a time that is long gone.
	my $begin = sub { my ($sql) = @_; my $session = $node->session; $session->query_safe("BEGIN; $sql"); return $session; };
	my $late = q{SELECT cmq_send('c', 'a1', headers => '{"kind": "a"}')};
	my $take = q{SELECT FROM cmq_consume('c', 10, 0, '{"kind": "a"}')};
	my $rewind = q{SELECT FROM cmq_rewind('c', now() - interval '30 min')};
	my @returns = (
		[ 'a consume that rolls back', sub { send_message('a1'); return $begin->($take) }, sub { $_[0]->query_safe('ROLLBACK') } ],
		[ 'a send that commits late', sub { return $begin->($late) }, sub { $_[0]->query_safe('COMMIT') } ],
		[ 'a send that was prepared', sub { $node->sql("BEGIN; $late; PREPARE TRANSACTION 'p'") }, sub { $node->sql(q{COMMIT PREPARED 'p'}) } ],
		[ 'a restore', sub { send_message('a1'); $node->sql($take) }, sub { $node->sql(q{SELECT cmq_restore('c', '-infinity')}) } ],
		[ 'a rewind', sub { send_message('a1'); $node->sql($take) }, sub { $node->sql($rewind) } ],
		[ 'a rewind that replaces another one',
			sub { send_message('z0'); $node->sql(q{SELECT FROM cmq_consume('c')}); send_message('a1'); my $taken = $begin->($take); $node->sql($rewind); return $taken },
			sub { $_[0]->query_safe('COMMIT'); sleeps(); $node->sql($rewind) } ],
		[ 'a consume of a rewound message that rolls back', sub { send_message('a1'); $node->sql("$take; $rewind"); return $begin->($take) }, sub { $_[0]->query_safe('ROLLBACK') } ],
		[ 'a change of visibility', sub { send_message('a1'); return $node->sql(q{SELECT receipt_handle FROM cmq_receive('c', 1, NULL, 0, '{"kind": "a"}')}) }, sub { $node->sql("SELECT cmq_change_visibility('c', '$_[0]', 0)") } ],
		[ 'a row that is written by hand', sub { },
			sub { $node->sql(q{BEGIN;
				INSERT INTO cmq_data.q_c SELECT min(enqueued_at) + interval '1 us', '{"kind": "a"}', 'a1' FROM cmq_data.q_c;
				INSERT INTO cmq_data.q_c_pending SELECT enqueued_at, enqueued_at, NULL, 0, 0 FROM cmq_data.q_c WHERE body = 'a1';
				COMMIT}) } ]);
	foreach my $case (@returns)
	{
		my ($name, $before, $after) = @$case;
		$unwanted->($_) foreach 1 .. 2;
		my $held = $before->();
		my ($a) = waiters('a');
		$unwanted->($_) foreach 3 .. 5;
		$after->($held);
		has($a, 'a1', 0, $name);
		$held->quit if ref $held;
		clean();
	}
}

note 'those who need the queue for themselves';
{
	send_message('c1');
	my @asleep = waiters('a', 'b');
	is($node->sql(qq{SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND relation <> 'got'::regclass AND pid IN (SELECT pid $waiting)}), '0', 'who sleeps has no locks, though it has looked at messages');
	foreach my $statement ('VACUUM FULL cmq_data.q_c_pending', 'VACUUM FULL cmq_data.q_c', 'REINDEX TABLE cmq_data.q_c_pending')
	{
		is($node->complaint("SET statement_timeout = '10s'; $statement"), '', "$statement beside them");
	}
	send_message($_) foreach 'b1', 'a1';
	$node->poll(q{SELECT string_agg(body, ' ' ORDER BY body) FROM got}, '... and they have their messages', wanted => 'a1 b1', seconds => 15);
	clean(@asleep);
	my @waiters = waiters('a', '', 'b', '');
	$node->sql(q{SET statement_timeout = '10s'; SELECT cmq_alter_queue('c', rewind_seconds => 0)});
	$_->finish foreach @waiters;
	is($node->sql('SELECT count(*) FROM got') . join('', map { $_->{err} } @waiters), '0', 'switching rewind off makes all of them return without a message');
	@waiters = waiters('a', '', 'b', '');
	$node->sql(q{SET statement_timeout = '10s'; SELECT cmq_drop_queue('c')});
	$_->finish foreach @waiters;
	is($node->sql('SELECT count(*) FROM got') . join('', map { $_->{err} } @waiters), '0', '... so does a drop');
}

note 'clients that die';
{
	$node->sql(q{SELECT FROM cmq_create_queue('mortal', visibility_timeout => 43200)});
	my $wait = q{SELECT body FROM %s('mortal', polling_wait_seconds => 30, filter => '{"k": 1}')};
	my @dying = map { $node->start_psql(sprintf $wait, $_) } 'cmq_receive', 'cmq_consume', 'cmq_consume';
	$node->wait_for_waiters(3);
	$_->kill foreach @dying;
	my $alive = $node->start_psql(sprintf $wait, 'cmq_consume');
	$node->wait_for_waiters(4);
	$node->sql(q{SELECT cmq_send('mortal', 'm', headers => '{"k": 1}')});
	is($alive->finish =~ s/\s//gr, 'm', 'the message goes to the client that is there');
	$node->wait_for_waiters(0);
	$node->sql(q{SELECT count(*) FROM cmq_send_batch('mortal', '{a,b,c}', headers => array_fill('{"k": 1}'::jsonb, '{3}'))});
	is($node->receive('mortal', 10), 'a b c', '... and no later one to those that are not');
}

$node->is_sound;
$node->stop;
done_testing();
