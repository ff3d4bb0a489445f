# The scan floor never passes a message: whatever senders, receivers, rollbacks,
# savepoints, visibility changes, prepared transactions, rewinds, restores,
# changes by hand and restarts do in random order, at the end every message is
# received, exactly as often as promised.
#
# A message that the floor has passed stays where it is until something takes the
# floor back: a restart, a change by hand, a restore of something older.  That would
# hide a fault.  So in each round such a thing does not happen, or comes first, or does
# not reach back so far.  Each round also sees that the floor has risen under load: a
# floor that stays at the beginning passes nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Seed;
use Test::More;
use Time::HiRes qw(time usleep);

my $times = $ENV{CMQ_TEST_LONG} ? 5 : 1;

my $node = CmqNode->running('floor', <<'CONF');
max_prepared_transactions = 20
cmq.maintenance_interval = 1s
autovacuum_naptime = 1
log_min_messages = warning
CONF

# What a transaction sends and deletes it books itself, so the books say what has
# been committed.
$node->sql(q{
	SELECT FROM cmq_create_queue('q', visibility_timeout => 1, rewind_seconds => 3600,
		msg_retention_seconds => 7200);
	SELECT FROM cmq_create_queue('copy');
	CREATE TABLE sent (msg_id bigint PRIMARY KEY);
	CREATE TABLE deleted (msg_id bigint, rewind_count int, PRIMARY KEY (msg_id, rewind_count));

	CREATE FUNCTION send(n int, delay int DEFAULT 0) RETURNS void LANGUAGE sql AS $$
		INSERT INTO sent SELECT cmq_send_batch('q', array_fill('m'::text, ARRAY[n]), delay)
	$$;
	-- to be received from so long after now on, or before it
	CREATE FUNCTION send_at(n int, after interval) RETURNS void LANGUAGE sql AS $$
		INSERT INTO sent SELECT cmq_send_batch('q', array_fill('m'::text, ARRAY[n]), deliver_at => clock_timestamp() + after)
	$$;
	CREATE FUNCTION consume(n int) RETURNS bigint LANGUAGE sql AS $$
		WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('q', n)),
			 gone AS (INSERT INTO deleted SELECT msg_id, rewind_count FROM got WHERE cmq_delete('q', receipt_handle))
		SELECT count(*) FROM got
	$$;

	-- What is out of range now and then must not end the client.
	CREATE FUNCTION try_rewind(age interval) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM cmq_rewind('q', least(now() - age, latest_rewind_time)) FROM cmq_queue_attributes('q');
	EXCEPTION WHEN invalid_parameter_value THEN
		NULL;
	END $$;

	-- entries of the pending table's index that this transaction has walked over
	CREATE FUNCTION walked() RETURNS bigint LANGUAGE sql AS
	$$ SELECT pg_stat_get_xact_tuples_returned('cmq_data.q_q_pending_pkey'::regclass) $$;
});

# Each script is a thing that a client may do; pgbench draws them at random.  More is
# received than sent, because a floor rises to the present only where nothing waits.
#
# Short transactions only: one that is open for long after it has sent holds the floor
# for all that others send meanwhile, and hides what they do wrong.
my %short = (
	'send@3' => q{
SELECT send(1);
},
	'consume@30' => q{
SELECT consume(10);
},
	'rollback@2' => q{
BEGIN;
SELECT consume(10);
SELECT consume(10);
ROLLBACK;
},
	'ready_again@2' => q{
SELECT count(cmq_change_visibility('q', receipt_handle, 0)) FROM cmq_receive('q');
},
	'released@2' => q{
\set counted random(0, 1)
SELECT count(*) FROM cmq_release('q', array(SELECT receipt_handle FROM cmq_receive('q', 2)), 0, :counted = 1);
},
);
my %traffic = (
	'send@8' => q{
SELECT send(1);
},
	'send_delayed@1' => q{
SELECT send(1, 1);
},
	'send_at@3' => q{
\set us random(-5000, 20000)
\set ms random(1, 10)
BEGIN;
SELECT send_at(3, :us * interval '1 us');
\sleep :ms ms
SELECT send_at(1, :us * interval '1 us');
COMMIT;
},
	'send_late@6' => q{
\set ms random(1, 20)
BEGIN;
SELECT send(3);
\sleep :ms ms
SELECT send(1);
\sleep :ms ms
COMMIT;
},
	'send_rollback@3' => q{
\set ms random(1, 10)
BEGIN;
SELECT send(1);
\sleep :ms ms
ROLLBACK;
},
	'consume@60' => q{
\set n random(1, 20)
SELECT consume(:n);
},
	'receive@4' => q{
\set n random(1, 3)
SELECT count(*) FROM cmq_receive('q', :n);
},
	'receive_rollback@6' => q{
\set n random(1, 20)
\set ms random(1, 20)
BEGIN;
SELECT consume(:n);
SELECT count(*) FROM cmq_receive('q', :n);
\sleep :ms ms
SELECT count(*) FROM cmq_receive('q', 1);
ROLLBACK;
},
	'savepoints@6' => q{
\set n random(1, 10)
\set ms random(1, 10)
BEGIN;
SELECT consume(:n);
SAVEPOINT a;
SELECT consume(:n);
SELECT send(1);
\sleep :ms ms
ROLLBACK TO a;
SELECT consume(1);
SAVEPOINT b;
SELECT send(1);
RELEASE b;
\sleep :ms ms
COMMIT;
},
	'visibility@8' => q{
\set timeout random(0, 1)
SELECT count(cmq_change_visibility('q', receipt_handle, :timeout)) FROM cmq_receive('q', 2);
},
	'release@8' => q{
\set delay random(0, 1)
\set counted random(0, 1)
\set ms random(1, 10)
\set end random(1, 4)
BEGIN;
SELECT count(*) FROM cmq_release('q', array(SELECT receipt_handle FROM cmq_receive('q', 2)), :delay, :counted = 1);
\sleep :ms ms
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
},
);

# A few prepared transactions at a time, with pauses without any, so that the floor
# is let go in between; maintenance sees to that.
my %prepared = (
	'prepared@2' => q{
\set gid random(1, 1000000000)
\set ms random(1, 60)
\set pause random(1, 200)
\set end random(1, 2)
BEGIN;
SELECT send(2);
SELECT consume(2);
PREPARE TRANSACTION ':client_id.:gid';
\sleep :ms ms
\if :end = 1
COMMIT PREPARED ':client_id.:gid';
\else
ROLLBACK PREPARED ':client_id.:gid';
\endif
\sleep :pause ms
},
	'prepared_savepoint@1' => q{
\set gid random(1, 1000000000)
\set ms random(1, 60)
\set pause random(1, 200)
BEGIN;
SAVEPOINT a;
SELECT send(1);
RELEASE a;
SAVEPOINT b;
SELECT send(1);
ROLLBACK TO b;
PREPARE TRANSACTION ':client_id.:gid';
\sleep :ms ms
COMMIT PREPARED ':client_id.:gid';
\sleep :pause ms
},
);
my %maintain = ('maintain@1' => q{
SELECT cmq_maintain();
\sleep 20 ms
});

# Restores reach back for less time than there is between two of them, so that none
# takes the floor back to where the one before should have.
my %restores = (
	'restore@3' => q{
\set pause random(120, 250)
SELECT cmq_restore('q', now() - interval '100 ms', now() - interval '20 ms');
\sleep :pause ms
},
	'restore_late@2' => q{
\set ms random(1, 50)
\set pause random(120, 250)
BEGIN;
SELECT cmq_restore('q', now() - interval '100 ms');
\sleep :ms ms
SELECT consume(2);
COMMIT;
\sleep :pause ms
},
	'restore_prepared@2' => q{
\set gid random(1, 1000000000)
\set ms random(1, 50)
\set pause random(120, 250)
BEGIN;
SELECT cmq_restore('q', now() - interval '100 ms');
PREPARE TRANSACTION ':client_id.r:gid';
\sleep :ms ms
COMMIT PREPARED ':client_id.r:gid';
\sleep :pause ms
},
	'restore_rollback@1' => q{
\set ms random(1, 50)
BEGIN;
SAVEPOINT a;
SELECT cmq_restore('q', now() - interval '100 ms');
SELECT count(*) FROM cmq_receive('q', 2);
ROLLBACK TO a;
SELECT count(*) FROM cmq_receive('q', 1);
\sleep :ms ms
ROLLBACK;
},
	'replay@1' => q{
SELECT cmq_replay('q', 'copy', now() - interval '50 ms');
},
);

# One message is restored while others are at receives that take long.
my %long_receives = (
	'batch@1' => q{
\set end random(1, 3)
SELECT send(300);
BEGIN;
SELECT consume(1000);
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
},
	'restore_one@4' => q{
SELECT max(msg_id) AS last FROM deleted
\gset
SELECT cmq_restore_messages('q', ARRAY[:last::bigint]);
\sleep 2 ms
},
);

my $by_hand = q{
	UPDATE cmq_data.q_q_pending SET visible_at = visible_at - interval '10 s'
	 WHERE (visible_at, enqueued_at) IN (SELECT visible_at, enqueued_at FROM cmq_data.q_q_pending
		ORDER BY visible_at DESC LIMIT 1 FOR UPDATE SKIP LOCKED)};

my $no = 0;

# Start so many clients; pgbench prints nothing that depends on the session but its
# errors.
sub clients
{
	my ($n, $seconds, %scripts) = @_;
	# faster, but there are no variables in quotes then
	my $mode = grep({ /':/ } values %scripts) ? 'simple' : 'prepared';

	$no++;
	return $node->start_pgbench('-c', $n, '-j', $n > 1 ? 2 : 1, '-T', $seconds, '-M', $mode, '--random-seed', seed() + $no,
		$node->scripts(map { (s/@/.$no@/r => $scripts{$_}) } keys %scripts));
}

# As long as its snapshot is there nothing dead is removed: a scan from the beginning
# has to walk over all that was consumed since.
sub hold_horizon
{
	my $holder = $node->start_psql(q{/* holder */ SELECT pg_sleep(3600)});

	$node->wait_until(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '/* holder */%' AND backend_xmin IS NOT NULL});
	return $holder;
}

sub release_horizon
{
	my ($holder) = @_;
	$node->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '/* holder */%'});
	$holder->finish;
	return;
}

# What does a receive walk over, and what would it from the beginning?
sub probe
{
	my ($walked, $there) = split /\|/, $node->sql(q{
		SET enable_seqscan = off;
		SET enable_bitmapscan = off;
		BEGIN;
		SELECT walked() AS before \gset
		SELECT count(*) AS received FROM cmq_receive('q', 1) \gset
		SELECT walked() - :before AS walked, cmq._clock('q') AS now \gset
		SELECT count(*) AS n FROM cmq_data.q_q_pending WHERE visible_at <= :'now' \gset
		SELECT :walked, walked() - :before - :walked;
		ROLLBACK}) =~ s/.*\n//sr;
	return ($walked, $there);
}

# While the load runs, see how far the floor has come, and do what else is to be done.
sub watch
{
	my ($load, $action) = @_;
	my ($probes, $moved, $notes) = (0, 0, '');

	while ($load->is_running)
	{
		my ($walked, $there) = probe();

		$action->() if $action;
		usleep(100_000);
		next if $there < 500;
		$probes++;
		$moved++ if $walked < $there / 5;
		$notes .= " $walked/$there";
	}
	note "walked$notes";
	return ($probes, $moved);
}

sub finished
{
	my ($name, @loads) = @_;
	for my $load (@loads)
	{
		my $out = $load->finish;
		ok($load->{ended_well} && $load->{err} !~ /abort/, "$name: clients ran") or diag($load->{err});
		note $out =~ /(number of transactions actually processed: \d+)/;
	}
	return;
}

# Everything that is pending becomes visible within a few seconds; then consume()
# must find it, all of it.
sub check
{
	my ($name) = @_;

	$node->wait_until(q{SELECT NOT EXISTS (SELECT FROM cmq_data.q_q_pending WHERE visible_at > cmq._clock('q'))});
	while ($node->sql('SELECT consume(1000)') > 0) { }
	my $ok = is($node->sql('SELECT count(*) FROM cmq_data.q_q_pending'), 0, "$name: no pending row is left");
	$ok &= is($node->sql('SELECT count(*) FROM cmq.q_q_live'), 0, "$name: nothing waits, rewound messages included");
	if (!$ok)
	{
		# for the next round to speak for itself; a change by hand resets the floors
		$node->sql('UPDATE cmq_data.q_q_pending SET visible_at = visible_at; UPDATE cmq_data.q_q_rewind SET deleted_at = deleted_at');
		while ($node->sql('SELECT consume(1000)') > 0) { }
	}
	is($node->sql(q{SELECT count(*) FROM sent FULL JOIN (SELECT cmq.msg_id(enqueued_at) AS msg_id FROM cmq_data.q_q) q USING (msg_id)
			   WHERE sent.msg_id IS NULL OR q.msg_id IS NULL}),
		0, "$name: what was sent is there, " . $node->sql('SELECT count(*) FROM sent') . ' messages');
	is($node->sql(q{
		SELECT count(*) FROM sent
		  LEFT JOIN (SELECT cmq.msg_id(enqueued_at) AS msg_id, rewind_count FROM cmq_data.q_q_rewind) r USING (msg_id)
		  LEFT JOIN (SELECT msg_id, count(*) AS n, max(rewind_count) AS last FROM deleted GROUP BY 1) d USING (msg_id)
		 WHERE d.n IS DISTINCT FROM r.rewind_count + 1 OR d.last IS DISTINCT FROM r.rewind_count}),
		0, "$name: each was received and deleted once, and once more each time it came back");
	return;
}

sub nothing_prepared
{
	my ($name) = @_;
	is($node->sql('SELECT count(*) FROM pg_prepared_xacts'), 0, "$name: nothing is left prepared");
	$node->sql('SELECT cmq_maintain()');
	return;
}

# One burst: a load, what runs beside it, what is done now and then, the check.
sub burst
{
	my ($name, $load, $beside, $action) = @_;
	my $holder = hold_horizon();
	my @loads = map { clients(@$_) } $load, @$beside;
	my ($probes, $moved) = watch($loads[0], $action);

	finished($name, @loads);
	cmp_ok($moved, '>', $probes / 3, "$name: the floor rose, $moved of $probes times");
	nothing_prepared($name);
	check($name);
	release_horizon($holder);
	return;
}

$node->sql('SELECT cmq_maintain()');
for my $n (1 .. $times)
{
	burst("short transactions $n", [ 8, 6, %short ], []);
	burst("traffic $n", [ 8, 3, %traffic ], []);
}

# A rewind heals what the one before has missed: the last third is without any.
for my $n (1 .. 2 * $times)
{
	my $end = time() + 2;
	burst(
		"prepared, rewinds $n",
		[ 5, 3, %traffic ],
		[ [ 2, 3, %prepared ], [ 1, 3, %maintain ] ],
		sub {
			return if time() > $end || rand() < 0.5;
			$node->sql(sprintf q{SELECT try_rewind('%d ms')}, 100 + rand 3000);
			$node->sql(q{BEGIN; SELECT try_rewind('1 s'); SELECT count(*) FROM cmq_receive('q', 5); ROLLBACK}) if rand() < 0.3;
		});
}

for my $n (1 .. $times)
{
	burst(
		"restores $n",
		[ 6, 3, %traffic ],
		[ [ 1, 3, %restores ], [ 1, 3, %maintain ] ],
		sub {
			my $what = rand;
			$node->sql(q{SELECT try_rewind('1 s')}) if $what < 0.2;
			$node->sql(q{SELECT cmq_cancel_rewind('q')}) if $what > 0.8;
		});
	burst("restores beside long receives $n", [ 4, 2, %long_receives, %traffic{'consume@60'} ], []);
}

# Restarts under load; what is prepared before one is ended after it, when a floor has
# been built without it, or before that.
sub end_prepared
{
	my $n = int(rand 2);
	foreach my $gid (split /\n/, $node->sql('SELECT gid FROM pg_prepared_xacts ORDER BY gid'))
	{
		$node->sql(q{SELECT count(*) FROM cmq_receive('q', 1)});
		$node->sql(($n++ % 2 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
	}
	return;
}

for my $n (1 .. 3 * $times)
{
	my $how = $n % 2 ? 'immediate' : 'fast';
	my $load = clients(8, 3600, %traffic);
	my $holder = hold_horizon();

	end_prepared();
	ok( eventually(sub {
			my ($walked, $there) = probe();
			return $there > 500 && $walked < $there / 5;
		}),
		"restart $n: the floor rose");
	foreach my $gid (1 .. 1 + rand 3)
	{
		$node->sql("BEGIN; SELECT send(2); SELECT consume(3); PREPARE TRANSACTION 'left $n $gid'");
		usleep(rand 200_000);
	}
	$node->stop($how);
	$node->start;
	$_->finish foreach $load, $holder;
	note "restart $n: $how";
}
end_prepared();
nothing_prepared('restarts');
check('restarts');

# By hand, to where no restore reaches
burst(
	'by hand',
	[ 6, 2, %traffic ],
	[],
	sub { $node->sql($by_hand) });

$node->stop;
done_testing();
