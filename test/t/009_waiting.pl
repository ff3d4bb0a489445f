# Receives that wait: woken by whatever makes a message ready, and by nothing
# else; no wake-up is lost when a waiter gives up.
#
# A receive that nobody wakes returns after 30 seconds.  What it gets is
# looked for with a limit far below that.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', q(
shared_preload_libraries = 'cmq'
cmq.maintenance_interval = 86400
max_connections = 100
max_prepared_transactions = 5
));
$node->start;

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

sql(q(
CREATE EXTENSION cmq;
CREATE TABLE got (waiter int, body text);
SELECT FROM cmq_create_queue('w', visibility_timeout => 43200,
							 rewind_seconds => 3600, polling_wait_seconds => 30);
));

# Poll until the query gives what is expected, for 10 seconds at most.
sub becomes
{
	my ($query, $expected, $name) = @_;
	my $result;
	for (1 .. 200)
	{
		$result = sql($query);
		last if $result eq $expected;
		usleep(50_000);
	}
	return is($result, $expected, $name);
}

# A psql in the background that runs its commands and ends.
sub start
{
	my (@commands) = @_;
	my $session = { out => '', err => '' };
	$session->{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-d', $node->connstr('postgres'),
			map { ('-c', $_) } @commands
		],
		'<',
		\undef,
		'>',
		\$session->{out},
		'2>',
		\$session->{err});
	return $session;
}

sub finish
{
	my ($session) = @_;
	eval { $session->{run}->finish; };
	return $session->{out};
}

my $waiter = 0;

# One that receives, waits as long as the queue says, and notes what it got.
sub waiter
{
	my ($begin) = @_;
	$waiter++;
	my $receive = "INSERT INTO got SELECT $waiter, body FROM cmq_receive('w')";
	return start(defined $begin ? "$begin; $receive; COMMIT" : $receive);
}

my $waiting = q(FROM pg_stat_activity
	 WHERE backend_type = 'client backend' AND state = 'active'
	   AND wait_event_type = 'Extension' AND query LIKE '%cmq_receive%');

sub wait_for_waiters
{
	my ($n) = @_;
	becomes("SELECT count(*) $waiting", $n, "$n waiting")
	  or BAIL_OUT('receives do not wait');
}

# Something makes a waiter return with this message.
sub wakes
{
	my ($name, $body, $action, $begin) = @_;
	my $session = waiter($begin);
	wait_for_waiters(1);
	$action->();
	becomes("SELECT string_agg(body, ',') FROM got WHERE waiter = $waiter",
		$body, "$name wakes a waiter");
	finish($session);
	is($session->{err}, '', "$name: no error");
}

sub send_message
{
	my ($body) = @_;
	sql("SELECT cmq_send('w', '$body')");
}

# The handle of the only pending message.
sub handle
{
	return sql(q(
		SELECT concat_ws('-', cmq.msg_id(enqueued_at), cmq.msg_id(visible_at), receive_count, rewind_count)
		  FROM cmq.q_w_pending));
}

sub delete_all
{
	sql(q(
		SELECT count(cmq_delete('w', concat_ws('-', cmq.msg_id(enqueued_at), cmq.msg_id(visible_at),
											   receive_count, rewind_count)))
		  FROM cmq.q_w_pending));
}

note 'how long';

# With a limit of 10 seconds on each statement: none of these waits for 30.
my $limit = "SET statement_timeout = '10s'";

send_message('there');
is(sql("$limit; SELECT body FROM cmq_receive('w')"),
	'there', 'no wait when there is a message');
is(sql("$limit; SELECT count(*) FROM cmq_receive('w', polling_wait_seconds => 0)"),
	'0', 'the argument wins over the queue: no wait');
is( sql(
		qq($limit;
		CREATE TEMP TABLE begun AS SELECT clock_timestamp() AS at;
		SELECT count(*) FROM cmq_receive('w', polling_wait_seconds => 1);
		SELECT clock_timestamp() - at >= '1 second' FROM begun)),
	"0\nt",
	'a wait ends when its time is up');
sql("SELECT FROM cmq_alter_queue('w', polling_wait_seconds => 0)");
is(sql("$limit; SELECT count(*) FROM cmq_receive('w')"),
	'0', 'no wait where the queue has none');
{
	my $session = start(
		"INSERT INTO got SELECT 0, body FROM cmq_receive('w', polling_wait_seconds => 30)"
	);
	wait_for_waiters(1);
	send_message('argument');
	becomes('SELECT body FROM got WHERE waiter = 0',
		'argument', 'the argument wins over the queue: a wait');
	finish($session);
}
sql("SELECT FROM cmq_alter_queue('w', polling_wait_seconds => 30)");
delete_all();

note 'messages that come';

wakes('a send', 'm1', sub { send_message('m1') });
foreach my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	# the transaction's snapshot is from before the send
	wakes(
		"a send, at $level,", $level,
		sub { send_message($level) },
		"BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM got");
}
wakes(
	'a send, in a transaction that sent and received,',
	'm2',
	sub { send_message('m2') },
	q(BEGIN; SELECT cmq_send('w', 'own'); SELECT count(*) FROM cmq_receive('w', 10))
);
wakes('the end of a delay', 'late',
	sub { sql("SELECT cmq_send('w', 'late', 1)") });
wakes(
	'a batch', 'b1',
	sub {
		sql(q(SELECT count(*) FROM cmq_send_batch('w',
				array(SELECT 'b' || i FROM generate_series(1, 100) AS i))));
	});
is(sql("SELECT count(*) FROM cmq_receive('w', 1000)"),
	'99', 'which leaves the others in the queue');

# What is not committed is not received, what is rolled back never.
{
	my $other = $node->background_psql('postgres');
	$other->query_safe("BEGIN; SELECT cmq_send('w', 'open')");
	wakes('a commit, not another send still open,',
		'committed', sub { send_message('committed') });
	wakes('the commit of that one', 'open', sub { $other->query_safe('COMMIT') });
	wakes(
		'a send, not one rolled back before,',
		'second',
		sub {
			$other->query_safe(
				"BEGIN; SELECT cmq_send('w', 'first'); ROLLBACK");
			send_message('second');
		});
	wakes(
		'a send, not one rolled back to a savepoint before,',
		'after',
		sub {
			$other->query_safe(
				q(BEGIN; SAVEPOINT s; SELECT cmq_send('w', 'before');
				ROLLBACK TO s; SELECT cmq_send('w', 'after'); COMMIT));
		});
	$other->quit;
}
delete_all();

note 'messages that come back';

send_message('back');
my $handle = sql("SELECT receipt_handle FROM cmq_receive('w')");
wakes('cmq_change_visibility to 0',
	'back', sub { sql("SELECT cmq_change_visibility('w', '$handle', 0)") });
$handle = handle();
wakes('the end of a visibility timeout',
	'back', sub { sql("SELECT cmq_change_visibility('w', '$handle', 1)") });

# Planned for after another receive put it in flight, which nobody waited for.
$handle = handle();
sql("SELECT cmq_change_visibility('w', '$handle', 0)");
sql("SELECT FROM cmq_receive('w', visibility_timeout => 2)");
wakes('the end of a visibility timeout begun before the wait',
	'back', sub { });
delete_all();

my $all = sql('SELECT count(*) FROM cmq.q_w_rewind');
{
	my $other = $node->background_psql('postgres');
	my $rewind = "SELECT cmq_rewind('w', now() - interval '30 minutes')";
	$other->query_safe("BEGIN; $rewind; ROLLBACK");
	$other->query_safe("BEGIN; $rewind");
	my $first = sql('SELECT body FROM cmq.q_w ORDER BY enqueued_at LIMIT 1');
	wakes('the commit of a rewind', $first,
		sub { $other->query_safe('COMMIT') });
	$other->quit;
}
is( sql("SELECT count(*) FROM cmq_receive('w', 1000)"),
	$all - 1,
	'which brings back all others too');
delete_all();

# One transaction holds the only message, received, or about to be deleted.
# The visibility timeout of the latter is over: it would be ready.
my $receive = "SELECT FROM cmq_receive('w', polling_wait_seconds => 0)";

sub held
{
	my ($what) = @_;
	delete_all();
	send_message('held');
	return $receive if $what eq 'receive';
	sql("$receive; ");
	$handle = handle();
	sql("SELECT cmq_change_visibility('w', '$handle', 0)");
	$handle = handle();
	return "SELECT cmq_delete('w', '$handle')" if $what eq 'delete';
	return "SELECT cmq_change_visibility('w', '$handle', 40000)";
}

foreach my $what ('receive', 'delete', 'change of visibility')
{
	my $other = $node->background_psql('postgres');

	my $hold = held($what);
	$other->query_safe("BEGIN; $hold");
	wakes("ROLLBACK of a $what",
		'held', sub { $other->query_safe('ROLLBACK') });

	$hold = held($what);
	$other->query_safe("BEGIN; SAVEPOINT s; $hold");
	wakes("ROLLBACK TO SAVEPOINT of a $what",
		'held', sub { $other->query_safe('ROLLBACK TO s') });
	$other->query_safe('COMMIT');

	$hold = held($what);
	$other->query_safe("BEGIN; $hold; PREPARE TRANSACTION 'p'");
	wakes("ROLLBACK PREPARED of a $what",
		'held', sub { sql("ROLLBACK PREPARED 'p'") });

	$hold = held($what);
	my $pid = $other->query_safe('SELECT pg_backend_pid()');
	$other->query_safe("BEGIN; $hold");
	wakes("the end of a session with a $what",
		'held', sub { sql("SELECT pg_terminate_backend($pid)") });
	eval { $other->quit; };
}
delete_all();

sql("BEGIN; SELECT cmq_send('w', 'prepared'); PREPARE TRANSACTION 'p'");
wakes('COMMIT PREPARED of a send',
	'prepared', sub { sql("COMMIT PREPARED 'p'") });
delete_all();

note 'waiters that give up';

{
	my $session = start("SET statement_timeout = '200ms'",
		"SELECT body FROM cmq_receive('w')");
	finish($session);
	like(
		$session->{err},
		qr/canceling statement due to statement timeout/,
		'statement_timeout ends a wait');

	# Four of six go, no matter whether they are told of the messages before.
	my $first = $waiter + 1;
	my @waiters = map { waiter() } 1 .. 6;
	wait_for_waiters(6);
	sql(qq(
		CREATE TEMP TABLE victim AS SELECT pid, row_number() OVER () % 2 AS how $waiting LIMIT 4;
		SELECT count(*) FROM cmq_send_batch('w', ARRAY['one', 'two']);
		SELECT CASE how WHEN 0 THEN pg_cancel_backend(pid) ELSE pg_terminate_backend(pid) END
		  FROM victim));
	becomes("SELECT count(DISTINCT body) FROM got WHERE waiter >= $first",
		'2', 'two messages for those who stay');
	send_message($_) foreach ('three', 'four', 'five', 'six');
	finish($_) foreach @waiters;
	my @ended = grep { $_->{err} eq '' } @waiters;
	my @errors = sort grep { $_ ne '' } map { $_->{err} } @waiters;
	cmp_ok(scalar @ended, '>=', 2, 'those who were left alone had no error');
	is( scalar(
			grep { /due to user request|due to administrator command/ } @errors
		),
		scalar(@errors),
		'the others were cancelled or terminated');
	is( sql("SELECT count(*) = count(DISTINCT waiter) AND count(*) = count(DISTINCT body) AND count(*) = "
			  . @ended
			  . " FROM got WHERE waiter >= $first"),
		't',
		'each that stayed got one message');
	delete_all();

	# Only the other one is there when the message becomes ready.
	my $session1 = waiter();
	my $session2 = waiter();
	wait_for_waiters(2);
	sql("SELECT cmq_send('w', 'planned', 2)");
	sql("SELECT pg_terminate_backend(pid) $waiting LIMIT 1");
	becomes("SELECT body FROM got WHERE waiter > $waiter - 2",
		'planned', 'the other one is there for what becomes ready later');
	finish($session1);
	finish($session2);
	delete_all();

	# A transaction survives the end of its wait, and waits again.
	$waiter++;
	$session = start(
		qq(BEGIN;
		DO \$\$
		BEGIN
			PERFORM cmq_receive('w');
		EXCEPTION WHEN query_canceled THEN
			INSERT INTO got VALUES ($waiter, 'cancelled');
		END \$\$;
		INSERT INTO got SELECT $waiter, body FROM cmq_receive('w') /* again */;
		COMMIT));
	wait_for_waiters(1);
	sql("SELECT pg_cancel_backend(pid) $waiting");
	# the position of the session's statements shows in its subtransaction
	becomes(
		q(SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		   WHERE l.locktype = 'relation' AND l.relation = 'got'::regclass
			 AND a.wait_event_type = 'Extension'),
		'1',
		'a cancelled receive is followed by another wait');
	send_message('after all');
	becomes(
		"SELECT string_agg(body, ',' ORDER BY body DESC) FROM got WHERE waiter = $waiter",
		'cancelled,after all',
		'which gets the message');
	finish($session);
	delete_all();
}

note 'fifty waiters';

{
	my $first = $waiter + 1;
	my $count = "SELECT count(*) FROM got WHERE waiter >= $first";
	my @waiters = map { waiter() } 1 .. 50;
	wait_for_waiters(50);
	send_message('1');
	becomes($count, '1', 'one of fifty gets the message');
	wait_for_waiters(49);
	sql(q(SELECT count(*) FROM cmq_send_batch('w', array(SELECT i::text FROM generate_series(2, 39) AS i)))
	);
	becomes($count, '39', 'a batch goes to as many');
	wait_for_waiters(11);
	foreach my $n (40 .. 49)
	{
		send_message($n);
	}
	becomes($count, '49', 'single ones go one by one');
	wait_for_waiters(1);
	send_message('50');
	becomes($count, '50', 'and the last');
	finish($_) foreach @waiters;
	is( sql(
			"SELECT count(DISTINCT waiter), count(DISTINCT body), min(body::int), max(body::int) FROM got WHERE waiter >= $first"
		),
		'50|50|1|50',
		'each waiter got one message, each message came once');
	is(join('', map { $_->{err} } @waiters), '', 'no errors');
	delete_all();
}

note 'load';

# Who sends waits for an answer before it sends again, so each wake-up counts.
# Others come between: they receive and roll back, and are cancelled.
sql(q(
SELECT FROM cmq_create_queue('ping', visibility_timeout => 43200, rewind_seconds => 3600, polling_wait_seconds => 30);
SELECT FROM cmq_create_queue('pong', visibility_timeout => 43200, rewind_seconds => 3600, polling_wait_seconds => 30);
CREATE TABLE consumed (queue text, msg_id bigint);
));

my $consume = q(
WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('%1$s'))
INSERT INTO consumed SELECT '%1$s', msg_id FROM got WHERE cmq_delete('%1$s', receipt_handle);
);
my $consume_ping = sprintf($consume, 'ping');
my $consume_pong = sprintf($consume, 'pong');

sub players
{
	my ($name, $clients, $n, $during) = @_;
	my @runs;
	my %scripts = (
		ping => "SELECT cmq_send('ping', 'to');\n$consume_pong",
		pong => "$consume_ping\nSELECT cmq_send('pong', 'fro');\n");
	foreach my $player (sort keys %scripts)
	{
		my $file = $node->basedir . "/${player}_$clients.sql";
		my $run = { out => '', err => '' };
		append_to_file($file, $scripts{$player});
		$run->{run} = IPC::Run::start(
			[
				'pgbench', '-n', '-c', $clients, '-t', $n, '-f', $file,
				$node->connstr('postgres')
			],
			'<',
			\undef,
			'>',
			\$run->{out},
			'2>',
			\$run->{err});
		push @runs, $run;
	}
	my $total = $clients * $n;
	for (1 .. 2000)
	{
		last
		  if sql("SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'"
		  ) eq 't'
		  && sql("SELECT count(*) FROM consumed") ne '0';
		last if $_ > 300 && sql("SELECT max(clock_timestamp() - state_change) > '20 s' FROM pg_stat_activity WHERE application_name = 'pgbench'") eq 't';
		$during->() if $during;
		usleep(10_000);
	}
	finish($_) foreach @runs;
	foreach my $run (@runs)
	{
		like(
			$run->{out},
			qr/actually processed: $total\/$total\b/,
			"$name: all transactions done");
	}
	is( sql(q(
			SELECT queue, count(*), count(DISTINCT msg_id) FROM consumed GROUP BY 1 ORDER BY 1;
			SELECT count(*) FROM cmq.q_ping_live;
			SELECT count(*) FROM cmq.q_pong_live;
			TRUNCATE consumed)),
		"ping|$total|$total\npong|$total|$total\n0\n0",
		"$name: each message was consumed once, no receive came back without");
}

players('one pair', 1, 500);

my @hoarders = map {
	my $queue = $_;
	my $session = { out => '', err => '' };
	my $text =
	  "BEGIN; SELECT FROM cmq_receive('$queue', 2) /* hoard */; ROLLBACK;\n"
	  x 20000;
	$session->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', '-' ],
		'<', \$text, '>', \$session->{out}, '2>', \$session->{err});
	$session;
} ('ping', 'ping', 'pong', 'pong');
my $cancelled = 0;
players(
	'four pairs, with others that roll back or are cancelled',
	4, 400,
	sub {
		$_->{run}->pump_nb foreach @hoarders;
		$cancelled += sql(
			"SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%hoard%' AND state = 'active' AND pid <> pg_backend_pid() AND random() < 0.7"
		);
	});
cmp_ok($cancelled, '>', 0, 'some were cancelled');
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%hoard%' AND pid <> pg_backend_pid()"
);
foreach my $hoarder (@hoarders)
{
	eval { $hoarder->{run}->kill_kill; };
}
becomes(
	"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%hoard%' AND pid <> pg_backend_pid()",
	'0',
	'they are gone');

note 'those who need the queue for themselves';

# They do not wait for 30 seconds, and the waiters return without a message.
# Rolled back or not, receives can wait again afterwards.
foreach my $change (
	[ 'switching rewind off', 'rewind_seconds => 0' ],
	[ 'switching rewind on', 'rewind_seconds => 3600' ])
{
	my ($name, $argument) = @$change;
	foreach my $end ('ROLLBACK', 'COMMIT')
	{
		my @waiters =
		  map { start("SELECT count(*) FROM cmq_receive('w')") } 1 .. 3;
		wait_for_waiters(3);
		sql("$limit; BEGIN; SELECT FROM cmq_alter_queue('w', $argument); $end"
		);
		is(join('', map { finish($_) } @waiters),
			"0\n0\n0\n",
			"$name, $end: waiters return without a message");
		is(join('', map { $_->{err} } @waiters),
			'', "$name, $end: without an error");
		wakes("a send after $name, $end,",
			'new', sub { send_message('new') });
		delete_all();
	}
}
{
	my @waiters =
	  map { start("SELECT count(*) FROM cmq_receive('w')") } 1 .. 3;
	wait_for_waiters(3);
	sql("$limit; SELECT cmq_drop_queue('w')");
	is(join('', map { finish($_) } @waiters),
		"0\n0\n0\n", 'drop: waiters return without a message');
	is(join('', map { $_->{err} } @waiters), '', 'drop: without an error');
}

note 'shutdown';

{
	my @waiters = map {
		start("SELECT FROM cmq_receive('ping', polling_wait_seconds => 30)")
	} 1 .. 3;
	wait_for_waiters(3);
	my $begun = time;
	$node->stop('fast');
	cmp_ok(time - $begun, '<', 10, 'a fast shutdown does not wait for them');
	finish($_) foreach @waiters;
	is( scalar(
			grep { $_->{err} =~ /due to administrator command/ } @waiters),
		3,
		'they are terminated');
}

unlike(slurp_file($node->logfile), qr/TRAP:|PANIC:/, 'no failed assertion');

done_testing();
