# Receives that wait: woken by whatever makes a message ready, and by nothing
# else; no wake-up is lost when a waiter gives up.
#
# A waiter that nobody wakes returns after 30 seconds; the test expects its message long
# before that.  Where the system counts how often a process has gone to sleep, the test
# reads there which waiters woke.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->running('waiting', <<'CONF');
max_prepared_transactions = 5
max_connections = 100
CONF

$node->sql(q{
	CREATE TABLE got (body text, waiter int, message_no serial);
	SELECT FROM cmq_create_queue('w', visibility_timeout => 43200,
		rewind_seconds => 3600, polling_wait_seconds => 30);
	SELECT FROM cmq_create_queue('half');
});

# The handle of a row of the pending table.
my $handle_of_row = q{concat_ws('-', cmq.msg_id(enqueued_at), cmq.msg_id(visible_at), receive_count, rewind_count, change_count)};

my $waiter_no = 0;

# A session that waits for a message and logs it.
sub waiter
{
	my ($begin) = @_;
	$waiter_no++;
	my $insert = "INSERT INTO got SELECT body, $waiter_no FROM cmq_receive('w')";
	return $node->start_psql(defined $begin ? "$begin; $insert; COMMIT" : $insert);
}

# Soon: a receive that nobody wakes would come by itself.
sub poll
{
	my ($query, $what, $wanted) = @_;
	return $node->poll($query, $what, wanted => $wanted, seconds => 15);
}

# How often each of those who wait has gone to sleep so far: whatever wakes one,
# if only to look and sleep on, adds one.
my $proc_counts = -e '/proc/self/status'
  && slurp_file('/proc/self/status') =~ /^voluntary_ctxt_switches:/m;

sub sleeps
{
	my %sleeps;

	eventually {
		%sleeps = ();
		my $awake = 0;
		foreach my $pid (split /\n/, $node->sql("SELECT pid $waiting"))
		{
			my $status = slurp_file("/proc/$pid/status");
			$awake++ if $status !~ /^State:\s+S/m;
			($sleeps{$pid}) = $status =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
		}
		return !$awake;
	} or BAIL_OUT('waiting receives do not sleep');
	return \%sleeps;
}

# How often those who still wait have woken since then.
sub woken_since
{
	my ($before) = @_;
	my $after = sleeps();
	my $n = 0;
	$n += $after->{$_} - $before->{$_} foreach keys %$after;
	return $n;
}

# A receive at a queue without messages that waits half as long as the others.
# What ends while it still waits, though begun later, has not waited its time.
sub half_as_long
{
	my ($server) = @_;
	return $server->start_psql(q{SELECT count(*) FROM cmq_receive('half', polling_wait_seconds => 15)});
}

sub still_waits
{
	my ($server, $what) = @_;
	is($server->sql(qq{SELECT count(pg_cancel_backend(pid)) $waiting AND query LIKE '%''half''%'}),
		'1', "$what at once");
}

# One waiter; what is done makes it return that body.
sub wakes
{
	my ($what, $body, $do, $begin) = @_;
	my $session = waiter($begin);
	$node->wait_for_waiters(1);
	$do->();
	poll("SELECT string_agg(body, ',') FROM got WHERE waiter = $waiter_no",
		"$what wakes", $body);
	$session->finish;
	is($session->{err}, '', "$what: no error");
}

sub send_message
{
	$node->sql("SELECT cmq_send('w', '$_[0]')");
}

sub delete_all
{
	# what nobody has received has no handle
	$node->sql(q{SELECT count(*) FROM cmq_receive('w', 1000, NULL, 0)});
	$node->sql(qq{SELECT count(cmq_delete('w', $handle_of_row)) FROM cmq_data.q_w_pending});
}

# There is something to receive: no wait at all.
send_message('there');
is($node->sql(q{SELECT body FROM cmq_receive('w')}), 'there', 'no wait when a message is there');
is($node->sql(q{SELECT count(*) FROM cmq_receive('w', 1, NULL, 0)}), '0', 'the argument wins over the queue');

wakes('send', 'sent', sub { send_message('sent') });
wakes('send to REPEATABLE READ', 'rr', sub { send_message('rr') },
	'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
wakes('send to SERIALIZABLE', 'ser', sub { send_message('ser') },
	'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1');
wakes('send to a transaction that has received and sent', 'more',
	sub { send_message('more') },
	q{BEGIN; SELECT cmq_send('w', 'own'); SELECT count(*) FROM cmq_receive('w', 10)});
wakes('the end of a delay', 'late', sub { $node->sql(q{SELECT cmq_send('w', 'late', 1)}) });
wakes('a time that comes', 'at', sub { $node->sql(q{SELECT cmq_send('w', 'at', deliver_at => clock_timestamp() + interval '0.7 s')}) });
wakes('a time that has passed', 'past', sub { $node->sql(q{SELECT cmq_send('w', 'past', deliver_at => '2020-02-29 12:00+00')}) });
wakes('the end of the delay of what is published', 'news', sub {
	$node->sql(q{SELECT cmq_create_topic('t'), cmq_subscribe('t', 's', 'w'); SELECT FROM cmq_publish('t', 'news', delay_seconds => 1);
		SELECT cmq_unsubscribe('t', 's'); SELECT cmq_drop_topic('t')})
});
wakes('a thousand sends', 'k1', sub {
	$node->sql(q{SELECT count(*) FROM cmq_send_batch('w', array(SELECT 'k' || i FROM generate_series(1, 1000) i))})
});
is($node->sql(q{SELECT count(*) FROM cmq_receive('w', 1000)}), '999', 'and leave the other 999');
delete_all();

# Rolled back sends wake nobody for good.
{
	my $session = waiter();
	$node->wait_for_waiters(1);
	$node->sql(q{BEGIN; SELECT cmq_send('w', 'never'); ROLLBACK});
	send_message('committed');
	poll("SELECT body FROM got WHERE waiter = $waiter_no",
		'only the committed send is received', 'committed');
	$session->finish;
}

# However much one transaction sends or puts off, it wakes once, when it commits; and
# never, if it does not.  Delayed messages: the waiter looks, plans and sleeps on.
SKIP:
{
	skip 'the system does not count how often a process sleeps', 6 unless $proc_counts;
	$node->sql(q{SELECT cmq_create_queue('delayed')});
	$node->sql(q{SELECT FROM cmq_send_batch('delayed', array_fill('m'::text, ARRAY[2000]));
		CREATE TABLE held AS SELECT array(SELECT receipt_handle FROM cmq_receive('delayed', 1000, 43200)) AS first,
			array(SELECT receipt_handle FROM cmq_receive('delayed', 1000, 43200)) AS second});
	my $session = $node->start_psql(q{SELECT count(*) FROM cmq_receive('delayed', polling_wait_seconds => 30)});
	$node->wait_for_waiters(1);
	my $sends = join('', map { "SELECT cmq_send('delayed', 'm$_', 3600);\n" } 1 .. 1000);
	my $before = sleeps();
	$node->sql("BEGIN; $sends ROLLBACK");
	is(woken_since($before), 0, 'a thousand sends that are rolled back wake nobody');
	my %times = (
		'a thousand sends in one transaction' => "BEGIN; $sends COMMIT",
		'a batch of a thousand' =>
		  q{SELECT count(*) FROM cmq_send_batch('delayed', array_fill('m'::text, ARRAY[1000]), 3600)},
		'a release of a thousand' => q{SELECT count(*) FROM held, cmq_release('delayed', first, 3600)},
		'a change of visibility of a thousand' => q{SELECT count(*) FROM held, cmq_change_visibility_batch('delayed', second, 3600)});
	foreach my $what (sort keys %times)
	{
		$before = sleeps();
		$node->sql($times{$what});
		my $n = woken_since($before);
		ok($n >= 1 && $n <= 3, "$what wake once") || diag("woken: $n");
	}
	$node->sql(q{SELECT cmq_drop_queue('delayed')});
	$session->finish;
}

# Whatever puts a message back.
delete_all();
send_message('back');
my $handle = $node->handle('w');
wakes('cmq_change_visibility to 0', 'back',
	sub { $node->sql("SELECT cmq_change_visibility('w', '$handle', 0)") });
$handle = $node->sql("SELECT $handle_of_row FROM cmq_data.q_w_pending");
wakes('the end of a visibility timeout', 'back',
	sub { $node->sql("SELECT cmq_change_visibility('w', '$handle', 1)") });
delete_all();

# A release, too: at once, after a delay and after the back-off, counted or not.
sub wakes_by_release
{
	my ($what, $arguments) = @_;
	send_message('released');
	my $h = $node->handle('w');
	wakes("cmq_release $what", 'released', sub { is($node->sql("SELECT count(*) FROM cmq_release('w', ARRAY['$h']$arguments)"), '1', "released $what") });
	delete_all();
	return;
}
wakes_by_release('at once', '');
wakes_by_release('uncounted', ', 0, false');
wakes_by_release('with a delay', ', 1');
wakes_by_release('uncounted with a delay', ', 1, false');
$node->sql(q{SELECT cmq_alter_queue('w', retry_backoff_seconds => 1)});
wakes_by_release('with back-off', '');
$node->sql(q{SELECT cmq_alter_queue('w', retry_backoff_seconds => 0)});
# as many as there are messages
$node->sql(q{SELECT FROM cmq_send_batch('w', '{r,r,r}')});
{
	my $handles = $node->sql(q{SELECT array_agg(receipt_handle) FROM cmq_receive('w', 3)});
	my @waiting = map { waiter() } 1 .. 3;
	$node->wait_for_waiters(3);
	$node->sql("SELECT FROM cmq_release('w', '$handles')");
	poll("SELECT string_agg(body, ',') FROM got WHERE waiter > $waiter_no - 3", 'a release of three wakes three', 'r,r,r');
	$_->finish foreach @waiting;
}
delete_all();

# Several times: the signal must not be faster than the news.
for my $round (1 .. 5)
{
	my $what = $node->sql(q{SELECT string_agg(body, ',') FROM (SELECT body FROM cmq_data.q_w ORDER BY enqueued_at LIMIT 1) AS m});
	wakes("cmq_rewind, round $round", $what,
		sub { $node->sql(q{SELECT cmq_rewind('w', now() - interval '30 min')}) });
	$node->sql(q{SELECT count(*) FROM cmq_delete_batch('w', array(SELECT receipt_handle FROM cmq_receive('w', 1000, NULL, 0)))})
	  foreach 1 .. 3;
	delete_all();
}

# The holder waits for a lock until the waiter sleeps, then rolls back.
sub holder
{
	my ($hold, $end) = @_;
	$node->sql("SELECT cmq_send('w', 'held')");
	my $locker = $node->session;
	$locker->query_safe('SELECT pg_advisory_lock(1)');
	my $holder = $node->start_psql("BEGIN; $hold; SELECT pg_advisory_xact_lock(1); $end");
	poll(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted},
		'message is held');
	return ($locker, $holder);
}

for my $case (
	[ 'ROLLBACK of a receive', q{SELECT FROM cmq_receive('w', 1, NULL, 0)}, 'ROLLBACK' ],
	[ 'ROLLBACK TO SAVEPOINT of a receive', q{SAVEPOINT a; SELECT FROM cmq_receive('w', 1, NULL, 0)},
		'ROLLBACK TO a; COMMIT' ],
	[ 'ROLLBACK of receive and delete',
		q{SELECT cmq_delete('w', receipt_handle) FROM cmq_receive('w', 1, NULL, 0)}, 'ROLLBACK' ])
{
	my ($locker, $holder) = holder($case->[1], $case->[2]);
	wakes($case->[0], 'held', sub { $locker->quit; $holder->finish });
	is($holder->{err}, '', "$case->[0]: holder ended");
	delete_all();
}

{
	my ($locker, $holder);
	$node->sql(q{SELECT cmq_send('w', 'restored')});
	$node->sql(q{SELECT cmq_delete('w', receipt_handle) FROM cmq_receive('w')});
	my $start = $node->sql(q{SELECT max(enqueued_at) FROM cmq_data.q_w});
	wakes('commit of a restore', 'restored', sub { $node->sql("SELECT cmq_restore('w', '$start')") });
	$node->sql(qq{SELECT cmq_delete('w', $handle_of_row) FROM cmq_data.q_w_pending});

	# due to all but the one who has cancelled the rewind and restores it
	$locker = $node->session;
	$locker->query_safe('SELECT pg_advisory_lock(1)');
	$node->sql("SELECT cmq_rewind('w', '$start')");
	$holder = $node->start_psql("BEGIN; SELECT cmq_cancel_rewind('w'); SELECT cmq_restore('w', '$start'); SELECT pg_advisory_xact_lock(1); ROLLBACK");
	poll(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a restore is open');
	wakes('ROLLBACK of a restore', 'restored', sub { $locker->quit; $holder->finish });
	delete_all();
}

wakes('COMMIT PREPARED', 'prepared', sub {
	$node->sql(q{BEGIN; SELECT cmq_send('w', 'prepared'); PREPARE TRANSACTION 'p'});
	$node->sql(q{COMMIT PREPARED 'p'});
});
delete_all();
send_message('given back');
$node->sql(q{BEGIN; SELECT FROM cmq_receive('w', 1, NULL, 0); PREPARE TRANSACTION 'p'});
wakes('ROLLBACK PREPARED of a receive', 'given back', sub { $node->sql(q{ROLLBACK PREPARED 'p'}) });
delete_all();

# Waiters that give up do not take a wake-up with them.
{
	my $half = half_as_long($node);
	$node->wait_for_waiters(1);
	my $timeout = $node->start_psql(q{SET statement_timeout = 200; SELECT FROM cmq_receive('w')});
	$timeout->finish;
	like($timeout->{err}, qr/statement timeout/, 'statement_timeout ends a wait');
	my %ends = (
		pg_cancel_backend => qr/user request/,
		pg_terminate_backend => qr/administrator command/);
	foreach my $function (sort keys %ends)
	{
		my $session = waiter();
		$node->wait_for_waiters(2);
		$node->sql("SELECT $function(pid) $waiting AND query LIKE '%''w''%'");
		$session->finish;
		like($session->{err}, $ends{$function}, "$function ends a wait");
	}
	still_waits($node, 'and they do so');
	$half->finish;

	$node->sql('TRUNCATE got');
	my @waiters = map { waiter() } 1 .. 6;
	$node->wait_for_waiters(6);
	$node->sql(q{
		SELECT count(*) FILTER (WHERE n % 2 = 0 AND pg_cancel_backend(pid)),
			   count(*) FILTER (WHERE n % 2 = 1 AND pg_terminate_backend(pid))
		  FROM (SELECT pid, row_number() OVER () AS n FROM pg_stat_activity
				 WHERE wait_event_type = 'Extension' AND query LIKE '%cmq_receive%'
				   AND backend_type = 'client backend' LIMIT 4) AS w;
		SELECT count(*) FROM cmq_send_batch('w', ARRAY['one', 'two']);
	});
	poll(q{SELECT string_agg(body, ',' ORDER BY body) FROM got},
		'after four were cancelled or terminated the other two get theirs', 'one,two');
	$_->finish foreach @waiters;
	is(scalar(grep { $_->{err} ne '' } @waiters), 4, 'the four ended with errors');
}

# A receive that fails after it has claimed a message, here in an index of the
# owner's, wakes who meanwhile found it busy.
{
	$node->sql(q{
		TRUNCATE got;
		CREATE FUNCTION fail(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN
			IF $1 > 0 AND current_setting('test.fail', true) = 'on' THEN
				PERFORM pg_advisory_xact_lock(1);
				RAISE 'failed as told';
			END IF;
			RETURN $1;
		END $$;
		CREATE INDEX fails ON cmq_data.q_w_pending (fail(receive_count));
	});
	my $locker = $node->session;
	$locker->query_safe('SELECT pg_advisory_lock(1)');
	send_message('claimed');
	my $receiver = $node->start_psql(q{SET test.fail = 'on'; SELECT FROM cmq_receive('w', 1, NULL, 0)});
	poll(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted},
		'a message is claimed');
	wakes('failure of a receive', 'claimed', sub { $locker->quit; $receiver->finish });
	like($receiver->{err}, qr/failed as told/, 'it did fail');
	$node->sql(q{DROP INDEX cmq_data.fails});
	delete_all();
}

# Fifty waiters: each message goes to one of them, the others sleep on.
{
	$node->sql('TRUNCATE got');
	my @waiters = map { waiter() } 1 .. 50;
	$node->wait_for_waiters(50);
	is($node->sql("SELECT DISTINCT wait_event $waiting"),
		$node->sql(q{SELECT current_setting('server_version_num')::int >= 170000}) eq 't' ? 'CmqReceive' : 'Extension',
		'the wait event');
	my $before = $proc_counts ? sleeps() : undef;
	send_message('first');
	poll('SELECT count(*) FROM got', 'one of fifty gets it', '1');
	$node->wait_for_waiters(49);
  SKIP:
	{
		skip 'the system does not count how often a process sleeps', 1 unless $proc_counts;
		# whoever gets it has another one look for more, twice: when it stops to
		# wait and when it commits
		cmp_ok(woken_since($before), '<=', 6, 'the others sleep on');
	}
	$node->sql(q{SELECT count(*) FROM cmq_send_batch('w', array(SELECT 'm' || i FROM generate_series(1, 48) i))});
	poll('SELECT count(*) FROM got', 'forty-eight more, one each', '49');
	$node->wait_for_waiters(1);
	send_message('last');
	poll('SELECT count(*) FROM got', 'and the last', '50');
	is($node->sql('SELECT count(DISTINCT body) = 50 AND count(DISTINCT waiter) = 50 FROM got'),
		't', 'each message once, each waiter one');
	$_->finish foreach @waiters;
	delete_all();
}

# One of them plans for the next due message; the others sleep on, and one of these
# takes over when that one is gone.
{
	$node->sql('TRUNCATE got');
	# each of them sees it when it begins to wait
	my $start = time;
	$node->sql(q{SELECT cmq_send('w', 'later', 8)});
	my @waiters = map { waiter() } 1 .. 50;
	$node->wait_for_waiters(50);
	my $before = $proc_counts ? sleeps() : undef;
	my $in_time = time - $start < 8;
	poll('SELECT count(*) FROM got', 'one of fifty gets a delayed message', '1');
	$node->wait_for_waiters(49);
  SKIP:
	{
		skip 'the system does not count how often a process sleeps', 1 unless $proc_counts;
		skip 'this machine is too slow', 1 unless $in_time;
		# one takes it, and two look for more
		cmp_ok(woken_since($before), '<=', 8, 'the others sleep on');
	}
	$node->sql(q{SELECT count(*) FROM cmq_send_batch('w', array(SELECT 'd' || i FROM generate_series(1, 30) i), 1)});
	poll('SELECT count(*) FROM got', 'thirty that become visible together, one each', '31');
	$node->wait_for_waiters(19);
	$node->sql(q{SELECT cmq_send('w', 'soon', 2)});
	# sixteen of nineteen, the planner perhaps among them
	is($node->sql(qq{SELECT count(*) FILTER (WHERE ended) FROM (SELECT CASE WHEN row_number() OVER (ORDER BY pid) % 2 = 0 THEN pg_cancel_backend(pid)
			ELSE pg_terminate_backend(pid) END AS ended FROM (SELECT pid $waiting ORDER BY pid LIMIT 16) w) w}),
		'16', 'most are ended');
	poll(q{SELECT count(*) FROM got WHERE body = 'soon'}, 'and still somebody wakes in time', '1');
	$node->wait_for_waiters(2);
	$node->sql(q{SELECT count(*) FROM cmq_send_batch('w', '{x,y}')});
	$_->finish foreach @waiters;
	is($node->sql(q{SELECT count(*) = 34 AND count(DISTINCT body) = 34 FROM got}), 't', 'each message once');
	delete_all();
}

# A receive that sleeps is in nobody's way, and what has had the table for itself
# meanwhile is in the way of no message.
{
	$node->sql('TRUNCATE got');
	my @waiters = map { waiter() } 1 .. 3;
	$node->wait_for_waiters(3);
	foreach my $statement ('VACUUM FULL cmq_data.q_w_pending', 'REINDEX TABLE cmq_data.q_w_pending',
		'ALTER TABLE cmq_data.q_w_pending SET (autovacuum_enabled = true)', 'CLUSTER cmq_data.q_w_pending USING q_w_pending_pkey')
	{
		$node->sql("SET statement_timeout = '10s'; $statement");
		$node->wait_for_waiters(3);
		ok(1, "$statement beside receives that wait");
	}
	$node->sql(q{SELECT count(*) FROM cmq_send_batch('w', '{a,b,c}')});
	$_->finish foreach @waiters;
	is($node->sql(q{SELECT string_agg(body, ',' ORDER BY body) FROM got}), 'a,b,c', 'and these get their messages');
	# but a transaction that has received before it waits keeps its locks
	$node->sql(q{SELECT cmq_send('w', 'first')});
	my $holder = $node->start_psql(q{BEGIN; SELECT body FROM cmq_receive('w', 1, 43200, 0); SELECT body FROM cmq_receive('w'); COMMIT});
	$node->wait_for_waiters(1);
	is($node->sql(q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE relation = 'cmq_data.q_w_pending'::regclass AND mode = 'RowExclusiveLock' AND query LIKE '%cmq_receive%' AND pid <> pg_backend_pid()}),
		'1', 'one that has a message keeps its lock');
	$node->sql(q{SELECT cmq_send('w', 'second')});
	is($holder->finish =~ s/\s+/,/gr, 'first,second,', '... and gets the next');
	delete_all();
}

# Load: everything sent is consumed, by receives that wait.
{
	my @scripts = $node->scripts(
		'consume@4' => q{
SELECT count(*) FROM cmq_delete_batch('w', ARRAY(SELECT receipt_handle FROM cmq_receive('w', 3, NULL, 1)));
},
		'rollback@1' => q{
BEGIN;
SELECT count(*) FROM cmq_receive('w', 2, NULL, 1);
ROLLBACK;
},
		'send@4' => q{
\set n random(1, 3)
SELECT count(*) FROM cmq_send_batch('w', array_fill('load'::text, ARRAY[:n]));
});
	$node->start_pgbench('-c', '12', '-j', '2', '-T', '5', @scripts)->succeeds('senders and waiting receivers');
	while ($node->sql(q{SELECT count(*) FROM cmq_delete_batch('w', ARRAY(SELECT receipt_handle FROM cmq_receive('w', 1000, NULL, 0)))}) > 0)
	{
	}
	is($node->sql(q{SELECT count(*) FROM cmq_data.q_w_pending}), '0', 'nothing is left');
	is($node->sql(q{SELECT (SELECT count(*) FROM cmq_data.q_w) = (SELECT count(*) FROM cmq_data.q_w_rewind)}),
		't', 'everything sent is in the history');
}

# A paused queue is an empty one to those who wait: they sleep, whatever is in it, until
# the resume has committed.
sub pause { $node->sql(q{SELECT cmq_pause_queue('w')}); return; }

sub resume { $node->sql(q{SELECT cmq_resume_queue('w')}); return; }

# A waiter does not get what is ready while this is done and after it, but at the resume.
sub obeys
{
	my ($what, $body, $do) = @_;
	my $session = waiter();
	$node->wait_for_waiters(1);
	my $before = $proc_counts ? sleeps() : undef;
	$do->();
	poll(q{SELECT ready FROM cmq.status WHERE queue = 'w'}, "$what: a message is ready", '1');
	# whoever does not see that it is paused has the message by now
	ok(eventually { woken_since($before) > 0 }, '... who waits has been woken for it') if $proc_counts;
	$before = sleeps() if $proc_counts;
	$node->sql('SELECT 1') foreach 1 .. 10;
	$node->wait_for_waiters(1);
	is(woken_since($before), 0, '... and sleeps on') if $proc_counts;
	is($node->sql("SELECT count(*) FROM got WHERE waiter = $waiter_no"), '0', '... without it');
	resume();
	poll("SELECT string_agg(body, ',') FROM got WHERE waiter = $waiter_no", '... until the resume', $body);
	$session->finish;
	is($session->{err}, '', '... without an error');
	delete_all();
	return;
}

{
	foreach my $way (
		[ 'cmq_resume_queue', sub { resume() } ],
		[ 'COMMIT PREPARED of a resume', sub { $node->sql(q{BEGIN; SELECT cmq_resume_queue('w'); PREPARE TRANSACTION 'p'}); $node->sql(q{COMMIT PREPARED 'p'}) } ],
		[ 'a resume that was undone and done', sub { $node->sql(q{BEGIN; SAVEPOINT a; SELECT cmq_resume_queue('w'); ROLLBACK TO a; SELECT cmq_resume_queue('w'); COMMIT}) } ])
	{
		pause();
		send_message('kept');
		wakes($way->[0], 'kept', $way->[1]);
		delete_all();
	}
	# the signal of a resume is faster than the news, too
	for my $round (1 .. 5)
	{
		pause();
		send_message("kept $round");
		wakes("cmq_resume_queue, round $round", "kept $round", \&resume, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
		delete_all();
	}

	obeys('a pause and a send', 'after', sub { pause(); send_message('after') });
	# ... and that of the message must not be faster than the news of the pause
	obeys("a pause with a send, round $_", "with $_", sub { $node->sql("BEGIN; SELECT cmq_pause_queue('w'), cmq_send('w', 'with $_'); COMMIT") }) foreach 1 .. 5;
	obeys('COMMIT PREPARED of a pause with a send', 'prepared', sub {
		$node->sql(q{BEGIN; SELECT cmq_pause_queue('w'), cmq_send('w', 'prepared'); PREPARE TRANSACTION 'p'});
		$node->sql(q{COMMIT PREPARED 'p'});
	});
	obeys('a pause, and the end of a delay', 'late', sub { $node->sql(q{SELECT cmq_send('w', 'late', 2)}); pause() });

	# what did not commit is not obeyed
	wakes('a send after a pause that was rolled back', 'back', sub { $node->sql(q{BEGIN; SELECT cmq_pause_queue('w'); ROLLBACK; SELECT cmq_send('w', 'back')}) });
	wakes('a send in a transaction whose pause was undone', 'back', sub {
		$node->sql(q{BEGIN; SAVEPOINT a; SELECT cmq_pause_queue('w'); ROLLBACK TO a; SELECT cmq_send('w', 'back'); COMMIT}) });
	wakes('a send after ROLLBACK PREPARED of a pause', 'back', sub {
		$node->sql(q{BEGIN; SELECT cmq_pause_queue('w'); PREPARE TRANSACTION 'p'});
		$node->sql(q{ROLLBACK PREPARED 'p'});
		send_message('back');
	});
	delete_all();

	# many wait, and many messages are ready
	$node->sql('TRUNCATE got');
	pause();
	$node->sql(q{SELECT count(*) FROM cmq_send_batch('w', array(SELECT 'p' || i FROM generate_series(1, 30) i))});
	my @waiters = map { waiter() } 1 .. 30;
	$node->wait_for_waiters(30);
  SKIP:
	{
		skip 'the system does not count how often a process sleeps', 2 unless $proc_counts;
		my $before = sleeps();
		$node->sql('SELECT 1') foreach 1 .. 20;
		is(woken_since($before), 0, 'thirty who wait at a paused queue with thirty messages sleep');
		$node->sql(q{BEGIN; SELECT cmq_resume_queue('w'); ROLLBACK});
		is(woken_since($before), 0, '... and a resume that is rolled back wakes none');
	}
	resume();
	poll('SELECT count(DISTINCT body), count(DISTINCT waiter) FROM got', 'resumed, each gets one', '30|30');
	$_->finish foreach @waiters;
	delete_all();
}

# Those who need the queue for themselves do not wait for waiters.
{
	my @waiters = map { $node->start_psql(q{SELECT count(*) FROM cmq_receive('w')}) } 1 .. 3;
	$node->wait_for_waiters(3);
	$node->sql(q{SET statement_timeout = '10s'; SELECT cmq_alter_queue('w', rewind_seconds => 0)});
	is(join(',', map { $_->finish =~ s/\s//r } @waiters), '0,0,0',
		'switching rewind off makes waiters return without a message');

	pause();
	send_message('never');
	@waiters = map { $node->start_psql(q{SELECT count(*) FROM cmq_receive('w')}) } 1 .. 3;
	$node->wait_for_waiters(3);
	$node->sql(q{SET statement_timeout = '10s'; SELECT cmq_drop_queue('w')});
	is(join(',', map { $_->finish =~ s/\s//r } @waiters), '0,0,0',
		'dropping the queue too, which is paused');
}

# A client that dies while it waits takes no message with it.
{
	$node->sql(q{SELECT FROM cmq_create_queue('mortal', visibility_timeout => 43200)});
	my @dying = map { $node->start_psql(q{SELECT body FROM cmq_receive('mortal', 1, 43200, 30)}) } 1 .. 3;
	$node->wait_for_waiters(3);
	$_->kill foreach @dying;
	my $alive = $node->start_psql(q{SET statement_timeout = '25s'; SELECT body FROM cmq_receive('mortal', 1, 43200, 30)});
	$node->wait_for_waiters(4);
	$node->sql(q{SELECT cmq_send('mortal', 'm')});
	is($alive->finish =~ s/\s//gr, 'm', 'the message goes to the client that is there');
	$node->wait_for_waiters(0);
	$node->sql(q{SELECT count(*) FROM cmq_send_batch('mortal', '{a,b,c}')});
	is($node->receive('mortal', 10), 'a b c', '... and no later one to those that are not');
	$node->sql(q{SELECT cmq_drop_queue('mortal')});
}

# Code in an index that waits itself, in the midst of a receive that waits: both waits
# are over when the receive is, and the process is on the list of no queue.
{
	$node->sql(q{
		SELECT FROM cmq_create_queue('inner'); SELECT FROM cmq_create_queue('outer_dead');
		SELECT FROM cmq_create_queue('outer', visibility_timeout => 2, dead_letter_queue => 'outer_dead', max_receive_count => 1);
		CREATE TABLE waited (n serial);
		CREATE FUNCTION wait_within() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
			PERFORM nextval('public.waited_n_seq');
			PERFORM FROM public.cmq_receive('inner', 1, 30, 1);
			RAISE 'not yet';
		END $$;
		CREATE FUNCTION wait_within(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.wait_within(); RETURN 1; END $$;
		CREATE INDEX ON cmq_data.q_outer_dead (wait_within(body));
		SELECT FROM cmq_send('outer', 'x'); SELECT FROM cmq_receive('outer')});
	my $nested = $node->session(on_error_stop => 0);
	is($nested->query(q{SET client_min_messages = error; SELECT count(*) FROM cmq_receive('outer', 1, 30, 5)}), '0', 'a receive in whose midst another one waits');
	is($node->sql('SELECT last_value FROM waited_n_seq'), '1', '... which has waited');
	# what it waited at goes, and another queue takes the place
	$node->sql(q{SELECT cmq_unbind_dead_letter('outer'); SET statement_timeout = '20s'; SELECT cmq_drop_queue('outer'), cmq_drop_queue('inner');
		SELECT cmq_maintain(); SELECT cmq_create_queue('after'), cmq_create_queue('after2'); SELECT cmq_send('after2', 'x')});
	my @waiters = map { $node->start_psql(q{SET statement_timeout = '25s'; SELECT body FROM cmq_receive('after', 1, 60, 30)}) } 1 .. 2;
	$node->wait_for_waiters(2);
	$nested->quit;
	$node->sql(q{SELECT count(*) FROM cmq_send_batch('after', '{a,b}')});
	is(join(',', sort map { $_->finish =~ s/\s//gr } @waiters), 'a,b', '... and those who wait at another queue are woken');
	$node->sql(q{SELECT cmq_drop_queue(q) FROM unnest('{after,after2,outer_dead}'::text[]) q});
}

# A server that shuts down does not wait for them either.
{
	my $other = CmqNode->running('other');
	$other->sql(q{SELECT cmq_create_queue('half')});
	my $half = half_as_long($other);
	$other->wait_for_waiters(1);
	$node->sql(q{SELECT cmq_create_queue('w', polling_wait_seconds => 30)});
	my $session = $node->start_psql(q{SELECT count(*) FROM cmq_receive('w')});
	$node->wait_for_waiters(1);
	$node->stop('fast');
	$session->finish;
	like($session->{err}, qr/administrator command|connection/, 'fast shutdown ends a wait');
	still_waits($other, 'and does so');
	$half->finish;
	$other->stop;
}

done_testing();
