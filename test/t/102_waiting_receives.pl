# Receives that wait: woken by whatever makes a message ready, and by nothing
# else; no wake-up is lost when a waiter gives up.
#
# A waiter that nobody wakes would return after 30 seconds, and what it gets
# is looked for with a limit far below that.  Where the system counts how often
# a process has gone to sleep, it is looked up who woke and who did not.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('waiting');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cmq'
max_prepared_transactions = 5
max_connections = 100
cmq.maintenance_interval = 1h
fsync = off
CONF
$node->start;

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

sql(q{
	CREATE EXTENSION cmq;
	CREATE TABLE got (body text, waiter int, message_no serial);
	SELECT FROM cmq_create_queue('w', visibility_timeout => 43200,
		rewind_seconds => 3600, polling_wait_seconds => 30);
	SELECT FROM cmq_create_queue('half');
});

# Sessions in the background; each is a psql that runs its commands and ends.
my @sessions;

sub start_on
{
	my ($server, @commands) = @_;
	my %session = (out => '', err => '');
	$session{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-h', $server->host, '-p', $server->port,
			'-d', 'postgres', map { ('-c', $_) } @commands
		],
		'<', \undef, '>', \$session{out}, '2>', \$session{err});
	push @sessions, \%session;
	return \%session;
}

sub start
{
	return start_on($node, @_);
}

sub finish
{
	my ($session) = @_;
	$session->{run}->finish;
	return $session->{out};
}

my $waiter_no = 0;

# A session that waits for a message and logs it.
sub waiter
{
	my ($begin) = @_;
	$waiter_no++;
	my $insert = "INSERT INTO got SELECT body, $waiter_no FROM cmq_receive('w')";
	return start(defined $begin ? "$begin; $insert; COMMIT" : $insert);
}

# n receives wait: they sleep, and they sleep because of us.
sub poll
{
	my ($query, $what, $expected) = @_;
	$expected //= 't';
	for (1 .. 150)
	{
		my $result = sql($query);
		return pass($what) if $result eq $expected;
		usleep(100_000);
	}
	return fail($what) || diag('last: ' . sql($query));
}

my $waiting = q{FROM pg_stat_activity
	WHERE wait_event_type = 'Extension' AND query LIKE '%cmq_receive%' AND state = 'active'
	  AND backend_type = 'client backend'};

sub wait_for_waiters
{
	my ($n) = @_;
	poll("SELECT count(*) = $n $waiting", "$n waiting") or BAIL_OUT('receives do not wait');
}

# How often each of those who wait has gone to sleep so far: whatever wakes one,
# if only to look and sleep on, adds one.
my $proc_counts = -e '/proc/self/status'
  && slurp_file('/proc/self/status') =~ /^voluntary_ctxt_switches:/m;

sub sleeps
{
	for (1 .. 150)
	{
		my %sleeps;
		my $awake = 0;
		foreach my $pid (split /\n/, sql("SELECT pid $waiting"))
		{
			my $status = slurp_file("/proc/$pid/status");
			$awake++ if $status !~ /^State:\s+S/m;
			($sleeps{$pid}) = $status =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
		}
		return \%sleeps if !$awake;
		usleep(100_000);
	}
	BAIL_OUT('waiting receives do not sleep');
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
	return start_on($server, q{SELECT count(*) FROM cmq_receive('half', polling_wait_seconds => 15)});
}

sub still_waits
{
	my ($server, $what) = @_;
	is( $server->safe_psql('postgres',
			qq{SELECT count(pg_cancel_backend(pid)) $waiting AND query LIKE '%''half''%'}),
		'1', "$what at once");
}

# One waiter; what is done makes it return that body.
sub wakes
{
	my ($what, $body, $do, $begin) = @_;
	my $session = waiter($begin);
	wait_for_waiters(1);
	$do->();
	poll("SELECT string_agg(body, ',') FROM got WHERE waiter = $waiter_no",
		"$what wakes", $body);
	finish($session);
	is($session->{err}, '', "$what: no error");
}

sub send_message
{
	sql("SELECT cmq_send('w', '$_[0]')");
}

sub delete_all
{
	# what nobody has received has no handle
	sql(q{SELECT count(*) FROM cmq_receive('w', 1000, NULL, 0)});
	sql(q{SELECT count(cmq_delete('w', cmq.msg_id(enqueued_at) || '-' || cmq.msg_id(visible_at)
		|| '-' || receive_count || '-' || rewind_count)) FROM cmq_data.q_w_pending});
}

# There is something to receive: no wait at all.
send_message('there');
is(sql(q{SELECT body FROM cmq_receive('w')}), 'there', 'no wait when a message is there');
is(sql(q{SELECT count(*) FROM cmq_receive('w', 1, NULL, 0)}), '0', 'the argument wins over the queue');

wakes('send', 'sent', sub { send_message('sent') });
wakes('send to REPEATABLE READ', 'rr', sub { send_message('rr') },
	'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
wakes('send to SERIALIZABLE', 'ser', sub { send_message('ser') },
	'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1');
wakes('send to a transaction that has received and sent', 'more',
	sub { send_message('more') },
	q{BEGIN; SELECT cmq_send('w', 'own'); SELECT count(*) FROM cmq_receive('w', 10)});
wakes('the end of a delay', 'late', sub { sql(q{SELECT cmq_send('w', 'late', 1)}) });
wakes('a thousand sends', 'k1', sub {
	sql(q{SELECT count(*) FROM cmq_send_batch('w', array(SELECT 'k' || i FROM generate_series(1, 1000) i))})
});
is(sql(q{SELECT count(*) FROM cmq_receive('w', 1000)}), '999', 'and leave the other 999');
delete_all();

# Rolled back sends wake nobody for good.
{
	my $session = waiter();
	wait_for_waiters(1);
	sql(q{BEGIN; SELECT cmq_send('w', 'never'); ROLLBACK});
	send_message('committed');
	poll("SELECT body FROM got WHERE waiter = $waiter_no",
		'only the committed send is received', 'committed');
	finish($session);
}

# However much one transaction sends, it wakes once, when it commits; and never,
# if it does not.  Delayed messages: the waiter looks, plans and sleeps on.
SKIP:
{
	skip 'the system does not count how often a process sleeps', 4 unless $proc_counts;
	sql(q{SELECT cmq_create_queue('delayed')});
	my $session = start(q{SELECT count(*) FROM cmq_receive('delayed', polling_wait_seconds => 30)});
	wait_for_waiters(1);
	my $sends = join('', map { "SELECT cmq_send('delayed', 'm$_', 3600);\n" } 1 .. 1000);
	my $before = sleeps();
	sql("BEGIN; $sends ROLLBACK");
	is(woken_since($before), 0, 'a thousand sends that are rolled back wake nobody');
	my %times = (
		'a thousand sends in one transaction' => "BEGIN; $sends COMMIT",
		'a batch of a thousand' =>
		  q{SELECT count(*) FROM cmq_send_batch('delayed', array_fill('m'::text, ARRAY[1000]), 3600)});
	foreach my $what (sort keys %times)
	{
		$before = sleeps();
		sql($times{$what});
		my $n = woken_since($before);
		ok($n >= 1 && $n <= 3, "$what wake once") || diag("woken: $n");
	}
	sql(q{SELECT cmq_drop_queue('delayed')});
	finish($session);
}

# Whatever puts a message back.
delete_all();
send_message('back');
my $handle = sql(q{SELECT receipt_handle FROM cmq_receive('w')});
wakes('cmq_change_visibility to 0', 'back',
	sub { sql("SELECT cmq_change_visibility('w', '$handle', 0)") });
$handle = sql(q{SELECT cmq.msg_id(enqueued_at) || '-' || cmq.msg_id(visible_at)
		|| '-' || receive_count || '-' || rewind_count FROM cmq_data.q_w_pending});
wakes('the end of a visibility timeout', 'back',
	sub { sql("SELECT cmq_change_visibility('w', '$handle', 1)") });
delete_all();

# Several times: the signal must not be faster than the news.
for my $round (1 .. 5)
{
	my $what = sql(q{SELECT string_agg(body, ',') FROM (SELECT body FROM cmq_data.q_w ORDER BY enqueued_at LIMIT 1) AS m});
	wakes("cmq_rewind, round $round", $what,
		sub { sql(q{SELECT cmq_rewind('w', now() - interval '30 min')}) });
	sql(q{SELECT count(*) FROM cmq_delete_batch('w', array(SELECT receipt_handle FROM cmq_receive('w', 1000, NULL, 0)))})
	  foreach 1 .. 3;
	delete_all();
}

# The holder waits for a lock until the waiter sleeps, then rolls back.
sub holder
{
	my ($hold, $end) = @_;
	sql("SELECT cmq_send('w', 'held')");
	my $locker = $node->background_psql('postgres');
	$locker->query_safe('SELECT pg_advisory_lock(1)');
	my $holder = start("BEGIN; $hold; SELECT pg_advisory_xact_lock(1); $end");
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
	wakes($case->[0], 'held', sub { $locker->quit; finish($holder) });
	is($holder->{err}, '', "$case->[0]: holder ended");
	delete_all();
}

{
	my ($locker, $holder);
	sql(q{SELECT cmq_send('w', 'restored')});
	sql(q{SELECT cmq_delete('w', receipt_handle) FROM cmq_receive('w')});
	my $start = sql(q{SELECT max(enqueued_at) FROM cmq_data.q_w});
	wakes('commit of a restore', 'restored', sub { sql("SELECT cmq_restore('w', '$start', NULL)") });
	sql(q{SELECT cmq_delete('w', cmq.msg_id(enqueued_at) || '-' || cmq.msg_id(visible_at) || '-' || receive_count || '-' || rewind_count) FROM cmq_data.q_w_pending});

	# due to all but the one who has cancelled the rewind and restores it
	$locker = $node->background_psql('postgres');
	$locker->query_safe('SELECT pg_advisory_lock(1)');
	sql("SELECT cmq_rewind('w', '$start')");
	$holder = start("BEGIN; SELECT cmq_cancel_rewind('w'); SELECT cmq_restore('w', '$start', NULL); SELECT pg_advisory_xact_lock(1); ROLLBACK");
	poll(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a restore is open');
	wakes('ROLLBACK of a restore', 'restored', sub { $locker->quit; finish($holder) });
	delete_all();
}

wakes('COMMIT PREPARED', 'prepared', sub {
	sql(q{BEGIN; SELECT cmq_send('w', 'prepared'); PREPARE TRANSACTION 'p'});
	sql(q{COMMIT PREPARED 'p'});
});
delete_all();
send_message('given back');
sql(q{BEGIN; SELECT FROM cmq_receive('w', 1, NULL, 0); PREPARE TRANSACTION 'p'});
wakes('ROLLBACK PREPARED of a receive', 'given back', sub { sql(q{ROLLBACK PREPARED 'p'}) });
delete_all();

# Waiters that give up do not take a wake-up with them.
{
	my $half = half_as_long($node);
	wait_for_waiters(1);
	my $timeout = start(q{SET statement_timeout = 200; SELECT FROM cmq_receive('w')});
	finish($timeout);
	like($timeout->{err}, qr/statement timeout/, 'statement_timeout ends a wait');
	my %ends = (
		pg_cancel_backend => qr/user request/,
		pg_terminate_backend => qr/administrator command/);
	foreach my $function (sort keys %ends)
	{
		my $session = waiter();
		wait_for_waiters(2);
		sql("SELECT $function(pid) $waiting AND query LIKE '%''w''%'");
		finish($session);
		like($session->{err}, $ends{$function}, "$function ends a wait");
	}
	still_waits($node, 'and they do so');
	finish($half);

	sql('TRUNCATE got');
	my @waiters = map { waiter() } 1 .. 6;
	wait_for_waiters(6);
	sql(q{
		SELECT count(*) FILTER (WHERE n % 2 = 0 AND pg_cancel_backend(pid)),
			   count(*) FILTER (WHERE n % 2 = 1 AND pg_terminate_backend(pid))
		  FROM (SELECT pid, row_number() OVER () AS n FROM pg_stat_activity
				 WHERE wait_event_type = 'Extension' AND query LIKE '%cmq_receive%'
				   AND backend_type = 'client backend' LIMIT 4) AS w;
		SELECT count(*) FROM cmq_send_batch('w', ARRAY['one', 'two']);
	});
	poll(q{SELECT string_agg(body, ',' ORDER BY body) FROM got},
		'after four were cancelled or terminated the other two get theirs', 'one,two');
	finish($_) foreach @waiters;
	is(scalar(grep { $_->{err} ne '' } @waiters), 4, 'the four ended with errors');
}

# A receive that fails after it has claimed a message, here in an index of the
# owner's, wakes who meanwhile found it busy.
{
	sql(q{
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
	my $locker = $node->background_psql('postgres');
	$locker->query_safe('SELECT pg_advisory_lock(1)');
	send_message('claimed');
	my $receiver = start(q{SET test.fail = 'on'; SELECT FROM cmq_receive('w', 1, NULL, 0)});
	poll(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted},
		'a message is claimed');
	wakes('failure of a receive', 'claimed', sub { $locker->quit; finish($receiver) });
	like($receiver->{err}, qr/failed as told/, 'it did fail');
	sql(q{DROP INDEX cmq_data.fails});
	delete_all();
}

# Fifty waiters: each message goes to one of them, the others sleep on.
{
	sql('TRUNCATE got');
	my @waiters = map { waiter() } 1 .. 50;
	wait_for_waiters(50);
	is( sql("SELECT DISTINCT wait_event $waiting"),
		sql(q{SELECT current_setting('server_version_num')::int >= 170000}) eq 't' ? 'CmqReceive' : 'Extension',
		'the wait event');
	my $before = $proc_counts ? sleeps() : undef;
	send_message('first');
	poll('SELECT count(*) FROM got', 'one of fifty gets it', '1');
	wait_for_waiters(49);
  SKIP:
	{
		skip 'the system does not count how often a process sleeps', 1 unless $proc_counts;
		# whoever gets it has another one look for more, twice: when it stops to
		# wait and when it commits
		cmp_ok(woken_since($before), '<=', 6, 'the others sleep on');
	}
	sql(q{SELECT count(*) FROM cmq_send_batch('w', array(SELECT 'm' || i FROM generate_series(1, 48) i))});
	poll('SELECT count(*) FROM got', 'forty-eight more, one each', '49');
	wait_for_waiters(1);
	send_message('last');
	poll('SELECT count(*) FROM got', 'and the last', '50');
	is(sql('SELECT count(DISTINCT body) = 50 AND count(DISTINCT waiter) = 50 FROM got'),
		't', 'each message once, each waiter one');
	finish($_) foreach @waiters;
	delete_all();
}

# One of them plans for the next due message; the others sleep on, and one of these
# takes over when that one is gone.
{
	sql('TRUNCATE got');
	# each of them sees it when it begins to wait
	my $start = time;
	sql(q{SELECT cmq_send('w', 'later', 8)});
	my @waiters = map { waiter() } 1 .. 50;
	wait_for_waiters(50);
	my $before = $proc_counts ? sleeps() : undef;
	my $in_time = time - $start < 8;
	poll('SELECT count(*) FROM got', 'one of fifty gets a delayed message', '1');
	wait_for_waiters(49);
  SKIP:
	{
		skip 'the system does not count how often a process sleeps', 1 unless $proc_counts;
		skip 'this machine is too slow', 1 unless $in_time;
		# one takes it, and two look for more
		cmp_ok(woken_since($before), '<=', 8, 'the others sleep on');
	}
	sql(q{SELECT count(*) FROM cmq_send_batch('w', array(SELECT 'd' || i FROM generate_series(1, 30) i), 1)});
	poll('SELECT count(*) FROM got', 'thirty that become visible together, one each', '31');
	wait_for_waiters(19);
	sql(q{SELECT cmq_send('w', 'soon', 2)});
	# sixteen of nineteen, the planner perhaps among them
	is(sql(qq{SELECT count(*) FILTER (WHERE ended) FROM (SELECT CASE WHEN row_number() OVER (ORDER BY pid) % 2 = 0 THEN pg_cancel_backend(pid)
			ELSE pg_terminate_backend(pid) END AS ended FROM (SELECT pid $waiting ORDER BY pid LIMIT 16) w) w}),
		'16', 'most are ended');
	poll(q{SELECT count(*) FROM got WHERE body = 'soon'}, 'and still somebody wakes in time', '1');
	wait_for_waiters(2);
	sql(q{SELECT count(*) FROM cmq_send_batch('w', '{x,y}')});
	finish($_) foreach @waiters;
	is(sql(q{SELECT count(*) = 34 AND count(DISTINCT body) = 34 FROM got}), 't', 'each message once');
	delete_all();
}

# A receive that sleeps is in nobody's way, and what has had the table for itself
# meanwhile is in the way of no message.
{
	sql('TRUNCATE got');
	my @waiters = map { waiter() } 1 .. 3;
	wait_for_waiters(3);
	foreach my $statement ('VACUUM FULL cmq_data.q_w_pending', 'REINDEX TABLE cmq_data.q_w_pending',
		'ALTER TABLE cmq_data.q_w_pending SET (autovacuum_enabled = true)', 'CLUSTER cmq_data.q_w_pending USING q_w_pending_pkey')
	{
		sql("SET statement_timeout = '10s'; $statement");
		wait_for_waiters(3);
		ok(1, "$statement beside receives that wait");
	}
	sql(q{SELECT count(*) FROM cmq_send_batch('w', '{a,b,c}')});
	finish($_) foreach @waiters;
	is(sql(q{SELECT string_agg(body, ',' ORDER BY body) FROM got}), 'a,b,c', 'and these get their messages');
	# but a transaction that has received before it waits keeps its locks
	sql(q{SELECT cmq_send('w', 'first')});
	my $holder = start(q{BEGIN; SELECT body FROM cmq_receive('w', 1, 43200, 0); SELECT body FROM cmq_receive('w'); COMMIT});
	wait_for_waiters(1);
	is(sql(q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE relation = 'cmq_data.q_w_pending'::regclass AND mode = 'RowExclusiveLock' AND query LIKE '%cmq_receive%' AND pid <> pg_backend_pid()}),
		'1', 'one that has a message keeps its lock');
	sql(q{SELECT cmq_send('w', 'second')});
	is(finish($holder) =~ s/\s+/,/gr, 'first,second,', '... and gets the next');
	delete_all();
}

# Load: everything sent is consumed, by receives that wait.
{
	my %scripts = (
		consume => q{
SELECT count(*) FROM cmq_delete_batch('w', ARRAY(SELECT receipt_handle FROM cmq_receive('w', 3, NULL, 1)));
},
		rollback => q{
BEGIN;
SELECT count(*) FROM cmq_receive('w', 2, NULL, 1);
ROLLBACK;
},
		send => q{
\set n random(1, 3)
SELECT count(*) FROM cmq_send_batch('w', array_fill('load'::text, ARRAY[:n]));
});
	my @files;
	for my $name (sort keys %scripts)
	{
		my $file = $node->basedir . "/$name.sql";
		append_to_file($file, $scripts{$name});
		push @files, '-f', $file . ($name eq 'rollback' ? '@1' : '@4');
	}
	$node->command_ok(
		[ 'pgbench', '-n', '-c', '12', '-j', '2', '-T', '5', @files, 'postgres' ],
		'senders and waiting receivers');
	while (sql(q{SELECT count(*) FROM cmq_delete_batch('w', ARRAY(SELECT receipt_handle FROM cmq_receive('w', 1000, NULL, 0)))}) > 0)
	{
	}
	is(sql(q{SELECT count(*) FROM cmq_data.q_w_pending}), '0', 'nothing is left');
	is( sql(q{SELECT (SELECT count(*) FROM cmq_data.q_w) = (SELECT count(*) FROM cmq_data.q_w_rewind)}),
		't', 'everything sent is in the history');
}

# Those who need the queue for themselves do not wait for waiters.
{
	my @waiters = map { start(q{SELECT count(*) FROM cmq_receive('w')}) } 1 .. 3;
	wait_for_waiters(3);
	sql(q{SET statement_timeout = '10s'; SELECT cmq_alter_queue('w', rewind_seconds => 0)});
	is(join(',', map { finish($_) =~ s/\s//r } @waiters), '0,0,0',
		'switching rewind off makes waiters return without a message');

	@waiters = map { start(q{SELECT count(*) FROM cmq_receive('w')}) } 1 .. 3;
	wait_for_waiters(3);
	sql(q{SET statement_timeout = '10s'; SELECT cmq_drop_queue('w')});
	is(join(',', map { finish($_) =~ s/\s//r } @waiters), '0,0,0',
		'dropping the queue too');
}

# A client that dies while it waits takes no message with it.
{
	sql(q{SELECT FROM cmq_create_queue('mortal', visibility_timeout => 43200)});
	my @dying = map { start(q{SELECT body FROM cmq_receive('mortal', 1, 43200, 30)}) } 1 .. 3;
	wait_for_waiters(3);
	foreach (@dying)
	{
		$_->{run}->signal('KILL');
		$_->{run}->finish;
	}
	my $alive = start(q{SET statement_timeout = '25s'; SELECT body FROM cmq_receive('mortal', 1, 43200, 30)});
	wait_for_waiters(4);
	sql(q{SELECT cmq_send('mortal', 'm')});
	is(finish($alive) =~ s/\s//gr, 'm', 'the message goes to the client that is there');
	wait_for_waiters(0);
	sql(q{SELECT count(*) FROM cmq_send_batch('mortal', '{a,b,c}')});
	is(sql(q{SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_receive('mortal', 10)}), 'a b c', '... and no later one to those that are not');
	sql(q{SELECT cmq_drop_queue('mortal')});
}

# Code in an index that waits itself, in the midst of a receive that waits: both waits
# are over when the receive is, and the process is on the list of no queue.
{
	sql(q{
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
	my $nested = $node->background_psql('postgres', on_error_stop => 0);
	is($nested->query(q{SET client_min_messages = error; SELECT count(*) FROM cmq_receive('outer', 1, 30, 5)}), '0', 'a receive in whose midst another one waits');
	is(sql('SELECT last_value FROM waited_n_seq'), '1', '... which has waited');
	# what it waited at goes, and another queue takes the place
	sql(q{SELECT cmq_unbind_dead_letter('outer'); SET statement_timeout = '20s'; SELECT cmq_drop_queue('outer'), cmq_drop_queue('inner');
		SELECT cmq_maintain(); SELECT cmq_create_queue('after'), cmq_create_queue('after2'); SELECT cmq_send('after2', 'x')});
	my @waiters = map { start(q{SET statement_timeout = '25s'; SELECT body FROM cmq_receive('after', 1, 60, 30)}) } 1 .. 2;
	wait_for_waiters(2);
	$nested->quit;
	sql(q{SELECT count(*) FROM cmq_send_batch('after', '{a,b}')});
	is(join(',', sort map { finish($_) =~ s/\s//gr } @waiters), 'a,b', '... and those who wait at another queue are woken');
	sql(q{SELECT cmq_drop_queue(q) FROM unnest('{after,after2,outer_dead}'::text[]) q});
}

# A server that shuts down does not wait for them either.
{
	my $other = PostgreSQL::Test::Cluster->new('other');
	$other->init;
	$other->append_conf('postgresql.conf', "shared_preload_libraries = 'cmq'\n");
	$other->start;
	$other->safe_psql('postgres', q{CREATE EXTENSION cmq; SELECT cmq_create_queue('half')});
	my $half = half_as_long($other);
	$other->poll_query_until('postgres', "SELECT count(*) = 1 $waiting") or BAIL_OUT('receives do not wait');
	sql(q{SELECT cmq_create_queue('w', polling_wait_seconds => 30)});
	my $session = start(q{SELECT count(*) FROM cmq_receive('w')});
	wait_for_waiters(1);
	$node->stop('fast');
	$session->{run}->finish;
	like($session->{err}, qr/administrator command|connection/, 'fast shutdown ends a wait');
	still_waits($other, 'and does so');
	finish($half);
	$other->stop;
}

done_testing();
