# The scan floor never passes a message: whatever senders, receivers, long
# transactions, rollbacks, savepoints, prepared transactions, rewinds,
# visibility changes and restarts do in random order, at the end every message
# that is there is received.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $clients = 8;
my $rounds = 3;
my $seed = $ENV{CMQ_TEST_SEED} // int(rand(1_000_000));
note "CMQ_TEST_SEED=$seed";

my $node = PostgreSQL::Test::Cluster->new('floor');
$node->init;
$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'cmq'
max_prepared_transactions = 50
cmq.maintenance_interval = 1
autovacuum_naptime = 1
fsync = off
log_min_messages = warning
CONF
$node->start;

$node->safe_psql('postgres', q{
	CREATE EXTENSION cmq;
	SELECT cmq_create_queue('q', visibility_timeout => 1, rewind_seconds => 3600,
		msg_retention_seconds => 7200);

	-- What is out of range now and then must not end the client.
	CREATE FUNCTION try_rewind(start_time timestamptz) RETURNS void
	LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM cmq_rewind('q', start_time);
	EXCEPTION WHEN invalid_parameter_value THEN
		NULL;
	END $$;

	-- Consume all that can be received now; returns how many.
	CREATE FUNCTION consume() RETURNS bigint
	LANGUAGE sql AS $$
		SELECT count(*) FROM cmq_delete_batch('q',
			ARRAY(SELECT receipt_handle FROM cmq_receive('q', 1000)))
	$$;
});

# Each script is a thing that a client may do; pgbench draws them at random.
my %scripts = (
	'send@10' => q{
SELECT cmq_send('q', 'm');
},
	'send_delayed@4' => q{
\set delay random(1, 2)
SELECT cmq_send('q', 'd', :delay);
},
	'send_late@6' => q{
\set ms random(1, 300)
BEGIN;
SELECT cmq_send_batch('q', ARRAY['l1', 'l2', 'l3']);
\sleep :ms ms
SELECT cmq_send('q', 'l4');
\sleep :ms ms
COMMIT;
},
	'send_rollback@3' => q{
\set ms random(1, 100)
BEGIN;
SELECT cmq_send('q', 'r');
\sleep :ms ms
ROLLBACK;
},
	'consume@12' => q{
\set n random(1, 5)
SELECT count(*) FROM cmq_delete_batch('q', ARRAY(SELECT receipt_handle FROM cmq_receive('q', :n)));
},
	'receive@6' => q{
\set n random(1, 5)
SELECT count(*) FROM cmq_receive('q', :n);
},
	'receive_rollback@6' => q{
\set n random(1, 20)
\set ms random(1, 100)
BEGIN;
SELECT count(*) FROM cmq_delete_batch('q', ARRAY(SELECT receipt_handle FROM cmq_receive('q', :n)));
SELECT count(*) FROM cmq_receive('q', :n);
\sleep :ms ms
SELECT count(*) FROM cmq_receive('q', 1);
ROLLBACK;
},
	'savepoints@6' => q{
\set n random(1, 10)
\set ms random(1, 50)
BEGIN;
SELECT count(*) FROM cmq_receive('q', :n);
SAVEPOINT a;
SELECT count(*) FROM cmq_receive('q', :n);
SELECT cmq_send('q', 's1');
\sleep :ms ms
ROLLBACK TO a;
SELECT count(*) FROM cmq_receive('q', 1);
SAVEPOINT b;
SELECT cmq_send('q', 's2');
RELEASE b;
\sleep :ms ms
COMMIT;
},
	'restore@3' => q{
SELECT cmq_restore('q', now() - interval '300 ms', NULL);
},
	'restore_late@3' => q{
\set ms random(1, 200)
BEGIN;
SELECT cmq_restore('q', now() - interval '200 ms', NULL);
\sleep :ms ms
SELECT count(*) FROM cmq_receive('q', 2);
COMMIT;
},
	'restore_prepared@1' => q{
\set gid random(1, 1000000000)
\set ms random(1, 200)
BEGIN;
SELECT cmq_restore('q', now() - interval '200 ms', NULL);
PREPARE TRANSACTION 'r:gid';
\sleep :ms ms
COMMIT PREPARED 'r:gid';
},
	'restore_rollback@2' => q{
\set ms random(1, 200)
BEGIN;
SAVEPOINT a;
SELECT cmq_restore('q', now() - interval '200 ms', NULL);
SELECT count(*) FROM cmq_receive('q', 2);
ROLLBACK TO a;
SELECT count(*) FROM cmq_receive('q', 1);
\sleep :ms ms
ROLLBACK;
},
	'visibility@6' => q{
\set timeout random(0, 1)
SELECT count(cmq_change_visibility('q', receipt_handle, :timeout)) FROM cmq_receive('q', 2);
},
	'prepared@4' => q{
\set gid random(1, 1000000000)
\set ms random(1, 300)
BEGIN;
SELECT cmq_send('q', 'p');
SELECT count(*) FROM cmq_receive('q', 1);
PREPARE TRANSACTION ':gid';
\sleep :ms ms
COMMIT PREPARED ':gid';
},
	'prepared_rollback@2' => q{
\set gid random(1, 1000000000)
\set ms random(1, 300)
BEGIN;
SELECT count(*) FROM cmq_receive('q', 3);
SELECT cmq_send('q', 'pr');
PREPARE TRANSACTION ':gid';
\sleep :ms ms
ROLLBACK PREPARED ':gid';
},
	'prepared_left@1' => q{
\set gid random(1, 1000000000)
\set left random(1, 20)
BEGIN;
SELECT cmq_send('q', 'pl');
SELECT count(*) FROM cmq_receive('q', 2);
\if :left = 1
PREPARE TRANSACTION 'left_:gid';
\else
COMMIT;
\endif
},
	'rewind@1' => q{
\set s random(1, 30)
SELECT try_rewind(now() - :s * interval '1 s');
},
	'rewind_rollback@1' => q{
BEGIN;
SELECT try_rewind(now() - interval '10 s');
SELECT count(*) FROM cmq_receive('q', 5);
ROLLBACK;
},
	'by_hand@1' => q{
UPDATE cmq.q_q_pending SET visible_at = visible_at - interval '10 s'
 WHERE (visible_at, enqueued_at) IN (SELECT visible_at, enqueued_at FROM cmq.q_q_pending
	ORDER BY visible_at DESC LIMIT 1 FOR UPDATE SKIP LOCKED);
},
);

my (@files, @by_hand);
for my $name (sort keys %scripts)
{
	my ($base, $weight) = split /@/, $name;
	my $file = $node->basedir . "/$base.sql";
	append_to_file($file, $scripts{$name});
	push @{ $base eq 'by_hand' ? \@by_hand : \@files }, '-f', "$file\@$weight";
}

# pgbench prints nothing that depends on the session but its errors.
sub run_clients
{
	my ($round) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(
		[
			'pgbench', '-n', '-h', $node->host, '-p', $node->port,
			'-c', $clients, '-j', 2, '-T', 6,
			'--random-seed', $seed + $round, @files,
			# takes the floor back and would hide what went wrong before
			($round == $rounds ? @by_hand : ()), 'postgres'
		],
		'>', \$out, '2>', \$err);
	ok($ok && $err !~ /abort/, "round $round: clients ran") or diag($err);
}

# Everything that is pending becomes visible within a few seconds; then
# consume() must find it, all of it.
sub check_nothing_missed
{
	my ($what) = @_;
	$node->poll_query_until('postgres',
		q{SELECT NOT EXISTS (SELECT FROM cmq.q_q_pending WHERE visible_at > cmq.clock('q'))})
	  or die "messages stay invisible";
	my $there = $node->safe_psql('postgres', 'SELECT count(*) FROM cmq.q_q_live');
	my $got = 0;
	while ((my $n = $node->safe_psql('postgres', 'SELECT consume()')) > 0)
	{
		$got += $n;
	}
	is($got, $there, "$what: all of $there messages received");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM cmq.q_q_pending'),
		0, "$what: no pending row left");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM cmq.q_q_live'),
		0, "$what: nothing waits, rewound messages included");
}

sub prepared
{
	return split /\n/, $node->safe_psql('postgres',
		'SELECT gid FROM pg_prepared_xacts ORDER BY gid');
}

for my $round (1 .. $rounds)
{
	run_clients($round);

	# What is prepared holds its messages back, also through a restart, and
	# then half of it commits, after a floor has been built without it.
	if ($round % 2 == 0)
	{
		$node->restart;
	}
	my $n = 0;
	for my $gid (prepared())
	{
		$node->safe_psql('postgres', 'SELECT count(*) FROM cmq_receive(\'q\', 1)');
		$node->safe_psql('postgres',
			($n++ % 2 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
	}
	is(scalar(prepared()), 0, "round $round: nothing prepared is left");
	check_nothing_missed("round $round");
}

# Every committed message was consumed at least once: all are history now.
is( $node->safe_psql('postgres',
		'SELECT count(*) FROM cmq.q_q m WHERE NOT EXISTS (SELECT FROM cmq.q_q_rewind r WHERE r.enqueued_at = m.enqueued_at)'),
	0, 'every message of the queue is in the history');
my $sent = $node->safe_psql('postgres', 'SELECT count(*) FROM cmq.q_q');
cmp_ok($sent, '>', 100, "$sent messages went through");

$node->stop;
done_testing();
