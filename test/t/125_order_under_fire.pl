# Order of groups under fire: producers with open and undone transactions, consumers that
# delete at once, later, in part or never, change visibility, release, consume, go by ids,
# roll back, prepare and are killed; rewinds, restores and cancels beside them; a crash of
# the server.  In each group the messages that were deleted are deleted in the order of
# production, between what brings messages back; and each was had once, and once more each
# time it came back.  What is received too often becomes a dead letter: it was had in all
# its lives but the last, and its group goes on in order.
#
# Everything is booked in the transaction that does it, with times of the sequence clock:
#	gone	what was deleted.  began: before the transaction that received it; got: after
#			the receive; deleted: after the delete.  The next message of the group can be
#			received only when that is committed, so its times are later.  in_turn: all
#			that the same receive has got of the group before it was deleted before it
#	back	rewinds and restores, from before the transaction until after its end
#
# What is received between the beginning and the end of one of these may belong to either
# side of it, and is not compared.  But behind what a restore has written nothing is
# received until it commits:
#	brought	messages that were restored, a time after that, and one before the commit
#
# The queues few and race have code of their owner that sleeps: between the time of a
# message and its row, or between that and its end; and when a delivery has been decided
# on.  In race that is all there is, and consumers are faster than producers.
#
# It fails if receives do not read the windows of senders, or do not look at what is in
# flight, if a restore does not lower the floor before it writes, and if bounds of laggards
# are not limited as the floor is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use POSIX ();
use PostgreSQL::Test::Utils;
use Seed;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{CMQ_TEST_SECONDS} || ($ENV{CMQ_TEST_LONG} ? 300 : 25);
my ($consumers, $producers) = (8, 4);
my %groups = (few => 20, many => 1000);

my $node = CmqNode->running('order', <<'CONF');
max_connections = 60
max_prepared_transactions = 30
client_connection_check_interval = 100ms
autovacuum_naptime = 1
cmq.maintenance_interval = 1s
log_min_messages = warning
log_error_verbosity = verbose
CONF

# Queues and books
$node->sql(q{
	SELECT FROM cmq_create_queue('dead', msg_retention_seconds => 7200, ordered => true);
	SELECT FROM cmq_create_queue('few', visibility_timeout => 1, rewind_seconds => 3600, msg_retention_seconds => 7200, ordered => true, dead_letter_queue => 'dead', max_receive_count => 2);
	SELECT FROM cmq_create_queue('many', visibility_timeout => 1, rewind_seconds => 3600, msg_retention_seconds => 7200, ordered => true, dead_letter_queue => 'dead', max_receive_count => 2);
	CREATE VIEW letter AS SELECT headers #>> '{cmq_dead_letter,queue}' AS queue, (headers #>> '{cmq_dead_letter,msg_id}')::bigint AS msg_id, message_group AS grp FROM cmq.q_dead_live;
	SELECT FROM cmq_create_queue('race', visibility_timeout => 1, rewind_seconds => 3600, msg_retention_seconds => 7200, ordered => true);
	CREATE SEQUENCE clock;
	CREATE TABLE made (queue text, msg_id bigint, grp text, PRIMARY KEY (queue, msg_id));
	CREATE TABLE gone (queue text, msg_id bigint, grp text, rewind_count int, how text, began bigint, got bigint,
		deleted bigint DEFAULT nextval('clock'), in_turn boolean DEFAULT true, PRIMARY KEY (queue, msg_id, rewind_count));
	-- what a restore has written, since when, and until when it was not committed at least
	CREATE TABLE brought (began bigint, queue text, msg_id bigint, grp text, since bigint, until bigint);
	CREATE TABLE back (queue text, kind text, began bigint, ended bigint, n bigint);
	CREATE TABLE setting (rewinds boolean);
	INSERT INTO setting VALUES (false);

	CREATE FUNCTION sleepy(share float8, ms float8) RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN IF random() < share THEN PERFORM pg_catalog.pg_sleep(random() * ms / 1000); END IF; END $$;
	-- code of the owner, as a message gets its row, and as it is received; the same when that is there
	CREATE FUNCTION sleepy_check(receives int, share float8) RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.sleepy(CASE receives WHEN 0 THEN share ELSE 0.03 END, CASE WHEN random() < 0.1 THEN 30 ELSE 8 END); RETURN true; END $$;
	CREATE FUNCTION sleepy_index(receives int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN PERFORM public.sleepy(0.03, 5); RETURN 0; END $$;
	ALTER TABLE cmq_data.q_few_pending ADD CHECK (public.sleepy_check(receive_count, 0.15));
	ALTER TABLE cmq_data.q_race_pending ADD CHECK (public.sleepy_check(receive_count, 0.8));
	CREATE INDEX ON cmq_data.q_few_pending (public.sleepy_index(receive_count));
});

# Producers
$node->sql(q{
	CREATE FUNCTION some_group(groups int) RETURNS text LANGUAGE sql AS
	$$ SELECT CASE WHEN random() > 0.03 THEN 'g' || floor(random() * groups) END $$;

	CREATE FUNCTION send(q text, g text) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO made SELECT q, cmq_send(q, coalesce(g, 'free'), headers => jsonb_build_object('half', (random() * 2)::int), message_group => g), g $$;

	CREATE FUNCTION send_batch(q text, g text[]) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO made SELECT q, id, g[n] FROM cmq_send_batch(q, array(SELECT coalesce(x, 'free') FROM unnest(g) x), message_groups => g) WITH ORDINALITY s (id, n) $$;

	CREATE FUNCTION send_and_undo(q text, g text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM send(q, g);
		RAISE SQLSTATE 'UNDO0';
	EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
		NULL;
	END $$;

	CREATE PROCEDURE producer(few int, many int) LANGUAGE plpgsql AS $$
	DECLARE
		q text;
		groups int;
		g text;
		what float8;
	BEGIN
		LOOP
			q := CASE WHEN random() < 0.6 THEN 'few' ELSE 'many' END;
			groups := CASE q WHEN 'few' THEN few ELSE many END;
			g := some_group(groups);
			what := random();
			IF what < 0.4 THEN
				PERFORM send(q, g);
				PERFORM sleepy(0.5, 8);
			ELSIF what < 0.6 THEN
				PERFORM send(q, g);
				PERFORM sleepy(0.7, 15);
				PERFORM send(q, some_group(groups));
				PERFORM sleepy(0.5, 8);
			ELSIF what < 0.7 THEN
				-- a group that others send to, too
				PERFORM send(q, 'g' || i) FROM generate_series(0, 2) i;
				PERFORM sleepy(0.5, 15);
			ELSIF what < 0.85 THEN
				PERFORM send_batch(q, array(SELECT CASE WHEN random() < 0.5 THEN g ELSE some_group(groups) END FROM generate_series(1, 2 + (random() * 8)::int)));
				PERFORM sleepy(0.3, 8);
			ELSE
				PERFORM send_and_undo(q, g);
				PERFORM sleepy(0.5, 8);
				PERFORM send(q, CASE WHEN random() < 0.5 THEN g ELSE some_group(groups) END);
				PERFORM sleepy(0.5, 4);
			END IF;
			IF random() < 0.15 THEN ROLLBACK; ELSE COMMIT; END IF;
			PERFORM sleepy(1, 60);
			COMMIT;
		END LOOP;
	END $$;

	CREATE PROCEDURE racing_producer(groups int) LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			PERFORM send('race', 'g' || floor(random() * groups));
			-- others send behind this
			PERFORM sleepy(0.3, 15);
			COMMIT;
		END LOOP;
	END $$;
});

# Consumers
$node->sql(q{
	CREATE TYPE grip AS (handle text, msg_id bigint, grp text, rewind_count int, began bigint, got bigint);

	CREATE FUNCTION take(q text, n int, b bigint, wait int DEFAULT 0, timeout int DEFAULT NULL) RETURNS grip[] LANGUAGE plpgsql AS $$
	DECLARE
		r grip[] := array(SELECT (receipt_handle, msg_id, message_group, rewind_count, b, 0)::grip FROM cmq_receive(q, n, timeout, wait));
		t bigint := nextval('clock');
	BEGIN
		RETURN array(SELECT (x.handle, x.msg_id, x.grp, x.rewind_count, x.began, t)::grip FROM unnest(r) WITH ORDINALITY x ORDER BY ordinality);
	END $$;

	-- Messages by their ids: of a group only what is the head, or behind it
	CREATE FUNCTION take_ids(q text, b bigint) RETURNS grip[] LANGUAGE plpgsql AS $$
	DECLARE
		ids bigint[];
		r grip[];
		t bigint;
	BEGIN
		EXECUTE format('SELECT array(SELECT cmq.msg_id(enqueued_at) FROM cmq_data.%I WHERE random() < 0.5 ORDER BY visible_at LIMIT 6)', 'q_' || q || '_pending') INTO ids;
		r := array(SELECT (receipt_handle, msg_id, message_group, rewind_count, b, 0)::grip FROM cmq_receive_messages(q, ids));
		t := nextval('clock');
		RETURN array(SELECT (x.handle, x.msg_id, x.grp, x.rewind_count, x.began, t)::grip FROM unnest(r) x ORDER BY x.msg_id);
	END $$;

	-- Delete the first so many; what is behind one that was taken away is out of turn.
	CREATE FUNCTION finish(q text, grips grip[], n int, how text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		x grip;
		lost text[] := '{}';
		good text[] := CASE WHEN random() < 0.5 THEN array(SELECT cmq_delete_batch(q, array(SELECT g.handle FROM unnest(grips[1 : n]) g))) END;
	BEGIN
		FOREACH x IN ARRAY grips[1 : n] LOOP
			IF (CASE WHEN good IS NULL THEN cmq_delete(q, x.handle) ELSE x.handle = ANY (good) END) THEN
				INSERT INTO gone VALUES (q, x.msg_id, x.grp, x.rewind_count, how, x.began, x.got, DEFAULT, coalesce(x.grp, '') <> ALL (lost));
			ELSE
				lost := lost || coalesce(x.grp, '');
			END IF;
		END LOOP;
	END $$;

	CREATE FUNCTION eat(q text, n int, b bigint, how text, wait int DEFAULT 0) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		r grip[] := array(SELECT ('', msg_id, message_group, rewind_count, b, 0)::grip FROM cmq_consume(q, n, wait));
		t bigint := nextval('clock');
	BEGIN
		INSERT INTO gone SELECT q, msg_id, grp, rewind_count, how, began, t FROM unnest(r) WITH ORDINALITY x ORDER BY ordinality;
		RETURN cardinality(r);
	END $$;

	CREATE FUNCTION eat_and_undo(q text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF random() < 0.5 THEN PERFORM cmq_consume(q, 3); ELSE PERFORM cmq_receive(q, 3); END IF;
		PERFORM sleepy(0.3, 5);
		RAISE SQLSTATE 'UNDO0';
	EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
		NULL;
	END $$;

	-- Take messages back that wait: their groups go on, in no order that is known here.
	CREATE FUNCTION take_back(q text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		ids bigint[];
	BEGIN
		EXECUTE format('SELECT array(SELECT cmq.msg_id(enqueued_at) FROM cmq_data.%I ORDER BY random() LIMIT 2)', 'q_' || q || '_pending') INTO ids;
		ids := array(SELECT cmq_delete_messages(q, ids));
		EXECUTE format('INSERT INTO gone SELECT DISTINCT ON (enqueued_at) $1, cmq.msg_id(enqueued_at), NULL, rewind_count, ''by id'', NULL, NULL, nextval(''clock''), false FROM cmq_data.%I
			WHERE enqueued_at = ANY (array(SELECT cmq.enqueued_at(i) FROM unnest($2) i)) ORDER BY enqueued_at, rewind_count DESC', 'q_' || q || '_rewind') USING q, ids;
	END $$;

	CREATE PROCEDURE consumer(seed float8) LANGUAGE plpgsql AS $$
	DECLARE
		q text;
		what float8;
		n int;
		b bigint;
		grips grip[];
		handles text[];
	BEGIN
		PERFORM setseed(seed);
		LOOP
			q := CASE WHEN random() < 0.6 THEN 'few' ELSE 'many' END;
			n := 1 + floor(random() * random() * 10);
			what := random();
			b := nextval('clock');
			IF what < 0.3 THEN
				-- at once
				grips := take(q, n, b);
				PERFORM sleepy(0.1, 5);
				PERFORM finish(q, grips, n, 'at once');
				PERFORM sleepy(0.1, 5);
				IF random() < 0.3 THEN ROLLBACK; END IF;
			ELSIF what < 0.6 THEN
				-- in two transactions
				grips := take(q, n, b);
				COMMIT;
				PERFORM sleepy(0.7, 15);
				PERFORM finish(q, grips, n, 'later');
				PERFORM sleepy(0.1, 5);
				IF random() < 0.2 THEN
					ROLLBACK;
					PERFORM finish(q, grips, n, 'later');
				END IF;
			ELSIF what < 0.65 THEN
				-- in part; the rest becomes visible at its time, or earlier
				grips := take(q, 5, b);
				COMMIT;
				n := 1 + random() * 2;
				PERFORM finish(q, grips, n, 'part');
				COMMIT;
				handles := array(SELECT g.handle FROM unnest(grips[n + 1 :]) g);
				PERFORM sleepy(0.5, 5);
				IF random() < 0.5 THEN PERFORM cmq_release(q, handles, 0); END IF;
			ELSIF what < 0.73 THEN
				grips := take(q, n, b);
				COMMIT;
				PERFORM sleepy(0.5, 5);
				PERFORM cmq_change_visibility(q, g.handle, CASE WHEN random() < 0.8 THEN 0 ELSE 1 END) FROM unnest(grips) g WHERE random() < 0.7;
				PERFORM sleepy(0.5, 5);
				IF random() < 0.2 THEN ROLLBACK; END IF;
			ELSIF what < 0.81 THEN
				grips := take(q, n, b);
				COMMIT;
				PERFORM sleepy(0.5, 5);
				PERFORM cmq_release(q, array(SELECT g.handle FROM unnest(grips) g WHERE random() < 0.7), CASE WHEN random() < 0.8 THEN 0 ELSE 1 END, random() < 0.5);
				PERFORM sleepy(0.5, 5);
				IF random() < 0.2 THEN ROLLBACK; END IF;
			ELSIF what < 0.82 THEN
				-- never
				PERFORM take(q, 2, b);
			ELSIF what < 0.9 THEN
				PERFORM eat(q, n, b, 'consume');
				PERFORM sleepy(0.5, 10);
				PERFORM eat(q, 2, b, 'consume') WHERE random() < 0.2;
				IF random() < 0.3 THEN ROLLBACK; END IF;
			ELSIF what < 0.94 THEN
				PERFORM eat_and_undo(q);
				PERFORM sleepy(0.3, 5);
				grips := take(q, n, b);
				PERFORM finish(q, grips, n, 'at once');
			ELSIF what < 0.96 THEN
				-- who waits begins before what it waits for
				IF random() < 0.5 THEN
					PERFORM eat(q, n, b, 'consume', 1);
				ELSE
					grips := take(q, n, b, 1);
					PERFORM finish(q, grips, n, 'at once');
				END IF;
			ELSIF what < 0.997 THEN
				grips := take_ids(q, b);
				COMMIT;
				PERFORM sleepy(0.5, 5);
				PERFORM finish(q, grips, 6, 'chosen');
			ELSE
				PERFORM take_back(q);
			END IF;
			COMMIT;
		END LOOP;
	END $$;
});

$node->sql(q{
	CREATE PROCEDURE racing_consumer() LANGUAGE plpgsql AS $$
	DECLARE
		n int;
		what float8;
		grips grip[];
	BEGIN
		LOOP
			n := 1 + (random() * 2)::int;
			what := random();
			IF what < 0.3 THEN
				PERFORM eat('race', n, nextval('clock'), 'consume');
			ELSIF what < 0.7 THEN
				grips := take('race', n, nextval('clock'));
				COMMIT;
				PERFORM sleepy(1, 15);
				COMMIT;
				PERFORM finish('race', grips, n, 'later');
			ELSE
				PERFORM finish('race', take('race', n, nextval('clock')), n, 'at once');
			END IF;
			COMMIT;
			PERFORM sleepy(1, 2);
			COMMIT;
		END LOOP;
	END $$;
});

# What brings messages back
$node->sql(q{
	CREATE FUNCTION bring_back(q text, kind text, b bigint) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		n bigint;
		since timestamptz := now() - random() * interval '1500 ms';
		ids bigint[];
	BEGIN
		CASE kind
			WHEN 'rewind' THEN
				SELECT (cmq_rewind(q, least(since, latest_rewind_time)) IS NOT NULL)::int FROM cmq_queue_attributes(q) INTO n;
			WHEN 'restore' THEN
				n := cmq_restore(q, since, since + random() * interval '1 s', CASE WHEN random() < 0.3 THEN '{"half": 1}'::jsonb END);
			WHEN 'ids' THEN
				EXECUTE format('SELECT array(SELECT cmq.msg_id(enqueued_at) FROM cmq_data.%I WHERE random() < 0.3 AND enqueued_at > $1)', 'q_' || q || '_rewind') INTO ids USING since;
				ids := array(SELECT cmq_restore_messages(q, ids));
				n := cardinality(ids);
				INSERT INTO brought SELECT b, queue, msg_id, grp, nextval('clock') FROM made WHERE queue = q AND msg_id = ANY (ids);
			WHEN 'cancel' THEN
				n := cmq_cancel_rewind(q)::int;
		END CASE;
		RETURN n;
	EXCEPTION WHEN invalid_parameter_value THEN
		RETURN 0;	-- a rewind out of range
	END $$;

	CREATE PROCEDURE rewinder() LANGUAGE plpgsql AS $$
	DECLARE
		q text;
		kind text;
		b bigint;
		number bigint;
	BEGIN
		WHILE (SELECT rewinds FROM setting) LOOP
			q := CASE WHEN random() < 0.5 THEN 'few' ELSE 'many' END;
			kind := (ARRAY['rewind', 'rewind', 'restore', 'restore', 'ids', 'ids', 'ids', 'cancel'])[1 + floor(random() * 8)];
			INSERT INTO back VALUES (q, kind, nextval('clock')) RETURNING began INTO b;
			COMMIT;
			number := bring_back(q, kind, b);
			PERFORM sleepy(CASE kind WHEN 'ids' THEN 1 ELSE 0.4 END, 40);
			UPDATE brought SET until = nextval('clock') WHERE began = b;
			IF random() < 0.15 THEN ROLLBACK; number := NULL; ELSE COMMIT; END IF;
			UPDATE back SET ended = nextval('clock'), n = number WHERE began = b;
			COMMIT;
			PERFORM pg_sleep(random() * 0.4);
			COMMIT;
		END LOOP;
	END $$;
});

#
# Clients, started anew when they have ended, for whatever reason
#

my %running;
my $clients = q{FROM pg_stat_activity WHERE application_name ~ 'consumer|producer'};
my %done = map { $_ => 0 } qw(killed terminated committed back);
my $prepares = 0;

sub pick { return $_[ rand @_ ]; }

sub start_client
{
	my ($name) = @_;
	my %calls = (
		consumer => sprintf('consumer(%f)', rand),
		producer => "producer($groups{few}, $groups{many})",
		racing_consumer => 'racing_consumer()',
		racing_producer => "racing_producer($groups{few})",
		rewinder => 'rewinder()');
	my $call = $calls{$name};
	my $pid = fork // die $!;
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', '/dev/null';
		local $ENV{PGAPPNAME} = $name;
		exec('psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "CALL $call") or POSIX::_exit(1);
	}
	$running{$pid} = $name;
	return;
}

sub keep_up
{
	while ((my $pid = waitpid(-1, POSIX::WNOHANG())) > 0)
	{
		my $name = delete $running{$pid};
		start_client($name) if defined $name && $name ne 'rewinder';
	}
	return;
}

# One session that nobody kills.
my $hand;

sub connect_hand
{
	$hand = $node->session(on_error_stop => 0);
	$hand->set_query_timer_restart;
	return;
}

sub end_prepared
{
	my ($share) = @_;
	foreach my $gid (split /\n/, $hand->query('SELECT gid FROM pg_prepared_xacts'))
	{
		next if rand() > $share;
		my $commit = rand() < 0.6;
		$hand->query(($commit ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
		$done{ $commit ? 'committed' : 'back' }++;
	}
	return;
}

sub prepare
{
	my $q = pick(qw(few few many));
	my $what = pick(
		"SELECT eat('$q', 2, nextval('clock'), 'prepared')",
		"SELECT eat('$q', 2, nextval('clock'), 'prepared')",
		"SELECT finish('$q', take('$q', 3, nextval('clock')), 3, 'prepared')",
		"SELECT take('$q', 2, nextval('clock'))",
		"SELECT send('$q', some_group($groups{$q})), send('$q', some_group($groups{$q}))");
	$hand->query("BEGIN; SAVEPOINT a; $what; RELEASE a; PREPARE TRANSACTION 'p" . ++$prepares . q{'});
	return;
}

sub chaos
{
	my $what = rand;
	my @some = grep { $running{$_} ne 'rewinder' } keys %running;
	if ($what < 0.1)     { kill 'KILL', pick(@some); $done{killed}++; }
	elsif ($what < 0.25) { $done{terminated} += $hand->query(q{SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid } . $clients . ' ORDER BY random() LIMIT 1) p'); }
	elsif ($what < 0.65) { prepare(); }
	elsif ($what < 0.67) { $hand->query('VACUUM cmq_data.q_' . pick(qw(few many)) . '_pending'); }
	end_prepared(0.4);
	return;
}

sub run_until
{
	my ($end) = @_;
	while (time < $end)
	{
		usleep(100_000);
		keep_up();
		chaos();
	}
	return;
}

sub end_clients
{
	$hand->query('UPDATE setting SET rewinds = false');
	eventually { keep_up(); !grep { $_ eq 'rewinder' } values %running };
	kill 'KILL', keys %running;
	waitpid $_, 0 foreach keys %running;
	%running = ();
	$hand->query('SELECT count(pg_terminate_backend(pid)) ' . $clients);
	$node->wait_until("SELECT count(*) = 0 $clients");
	end_prepared(1);
	return;
}

# Consume all that is left; what is in flight becomes visible by itself.
sub drain
{
	my ($name) = @_;
	my $empty = eventually {
		1 while $node->sql(q{SELECT sum(eat(q, 1000, nextval('clock'), 'drained')) FROM unnest('{few,many,race}'::text[]) q}) > 0;
		$node->sql(q{SELECT sum(ready + in_flight + delayed) FROM cmq.status WHERE queue <> 'dead'}) eq '0';
	} 30;
	ok($empty, "$name: all can be consumed")
	  or diag($node->sql(q{SELECT 'few', * FROM cmq.q_few_live UNION ALL SELECT 'many', * FROM cmq.q_many_live ORDER BY msg_id LIMIT 20}));
	return;
}

# The deletions that are compared, with the latest message of those before.
my $compared = q{
	WITH g AS (
		SELECT gone.*, (SELECT count(*) FROM back WHERE back.queue = gone.queue AND back.ended < gone.began) AS epoch
		  FROM gone WHERE grp IS NOT NULL AND in_turn
		   AND NOT EXISTS (SELECT FROM back WHERE back.queue = gone.queue AND back.began <= gone.got AND coalesce(back.ended, 9223372036854775807) >= gone.began)),
	p AS (
		SELECT *, max(msg_id) OVER before AS before, max(deleted) OVER before AS since FROM g
		WINDOW before AS (PARTITION BY queue, grp, epoch ORDER BY deleted ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING))
};

sub check
{
	my ($name) = @_;
	my $pairs = $node->sql("$compared SELECT count(*) FROM p WHERE before IS NOT NULL");
	my $late = $node->sql("$compared SELECT count(*) FROM p WHERE before >= msg_id");
	is($late, 0, "$name: of $pairs messages none came after a later one of its group")
	  or diag($node->sql("$compared SELECT * FROM p WHERE before >= msg_id ORDER BY deleted LIMIT 20"));
	cmp_ok($pairs, '>', 10 * $seconds, "$name: many were compared");
	is($node->sql(q{SELECT count(*) FROM brought o JOIN gone g USING (queue, grp)
			WHERE g.msg_id > o.msg_id AND g.began > o.since AND g.got < o.until AND in_turn}),
		0, "$name: nothing came while what a restore had brought back before it was not committed");
	foreach my $q (qw(few many race))
	{
		is($node->sql(qq{SELECT count(*) FROM (SELECT * FROM made WHERE queue = '$q') m
				FULL JOIN (SELECT cmq.msg_id(enqueued_at) AS msg_id, message_group AS grp FROM cmq_data.q_$q UNION ALL SELECT msg_id, grp FROM letter WHERE queue = '$q') t USING (msg_id)
				WHERE m.queue IS NULL OR t.msg_id IS NULL OR m.grp IS DISTINCT FROM t.grp}),
			0, "$name: $q has what was sent, in its groups, but for dead letters, which have theirs");
		is($node->sql("SELECT count(*) + (SELECT count(*) FROM letter WHERE queue = '$q') FROM cmq_data.q_$q"), $node->sql("SELECT count(*) FROM made WHERE queue = '$q'"),
			"$name: each of $q is there once");
		is($node->sql(qq{SELECT count(*) FROM cmq_data.q_${q}_rewind r JOIN cmq_data.q_$q m USING (enqueued_at)
				FULL JOIN (SELECT msg_id, count(*) AS n, max(rewind_count) AS last FROM gone g WHERE queue = '$q'
					AND NOT EXISTS (SELECT FROM letter l WHERE l.queue = '$q' AND l.msg_id = g.msg_id) GROUP BY 1) d ON d.msg_id = cmq.msg_id(m.enqueued_at)
				WHERE d.n IS DISTINCT FROM r.rewind_count + 1 OR d.last IS DISTINCT FROM r.rewind_count}),
			0, "$name: each message of $q was had once, and once more each time it came back");
		is($node->sql(qq{SELECT count(*) FROM (SELECT FROM gone JOIN letter USING (queue, msg_id) WHERE queue = '$q' GROUP BY msg_id HAVING count(*) <> max(rewind_count) + 1) d}),
			0, "$name: ... and so was each dead letter before");
		is($node->sql("SELECT count(*) FROM made m LEFT JOIN (SELECT queue, msg_id FROM gone UNION SELECT queue, msg_id FROM letter) d USING (queue, msg_id) WHERE queue = '$q' AND d.msg_id IS NULL"),
			0, "$name: all of $q");
		is($node->sql("SELECT count(*) FROM gone d JOIN made m USING (queue, msg_id) WHERE queue = '$q' AND how <> 'by id' AND m.grp IS DISTINCT FROM d.grp"), 0, "$name: with its group");
	}
	return;
}

srand(seed());
connect_hand();

sub start_all
{
	my ($kind) = @_;
	start_client("${kind}consumer") foreach 1 .. $consumers;
	start_client("${kind}producer") foreach 1 .. $producers;
	return;
}

sub settle
{
	my ($name) = @_;
	end_clients();
	drain($name);
	check($name);
	return;
}

# A queue with a backlog hides what producers can do wrong.
start_all('racing_');
run_until(time + $seconds * 0.2);
settle('a race');

start_all('');
run_until(time + $seconds * 0.25);
settle('without rewinds');
is($node->sql('SELECT count(*) FROM back'), 0, 'nothing came back');

# The power fails in between.
$node->sql('UPDATE setting SET rewinds = true');
start_all('');
start_client('rewinder');
run_until(time + $seconds * 0.2);
$node->stop('immediate');
$hand->{run}->kill_kill;
$node->start;
connect_hand();
$hand->query(q{UPDATE back SET ended = nextval('clock') WHERE ended IS NULL});
keep_up();
start_client('rewinder');
run_until(time + $seconds * 0.35);
end_clients();
# those that were prepared may all have found nothing
$hand->query("SELECT send('many', NULL)");
$hand->query("BEGIN; SELECT eat('many', 2, nextval('clock'), 'prepared'); PREPARE TRANSACTION 'last'");
$hand->query("COMMIT PREPARED 'last'");
# no cancel may have met a rewind
foreach ([ rewind => q{cmq_rewind('few', least(now() - interval '5 s', latest_rewind_time)) IS NOT NULL} ], [ cancel => q{cmq_cancel_rewind('few')} ])
{
	my ($kind, $call) = @$_;
	$hand->query("INSERT INTO back VALUES ('few', '$kind', nextval('clock'))");
	$hand->query("UPDATE back SET n = ($call)::int FROM cmq_queue_attributes('few') WHERE ended IS NULL");
	$hand->query("UPDATE back SET ended = nextval('clock') WHERE ended IS NULL");
}
settle('with rewinds');

note(join ', ', map { "$_ $done{$_}" } sort keys %done);
note($node->sql(q{SELECT string_agg(concat_ws(' ', queue, how, n), ', ') FROM (SELECT queue, how, count(*) AS n FROM gone GROUP BY 1, 2 ORDER BY 1, 2) e}));
note($node->sql(q{SELECT string_agg(concat_ws(' ', kind, n, messages), ', ') FROM (SELECT kind, count(*) AS n, sum(n) AS messages FROM back GROUP BY 1 ORDER BY 1) e}));
note($node->sql(q{SELECT string_agg(concat_ws(' ', queue, 'letters', n), ', ') FROM (SELECT queue, count(*) AS n FROM letter GROUP BY 1 ORDER BY 1) e}));
cmp_ok($node->sql("SELECT count(*) FROM letter WHERE queue = '$_' AND grp IS NOT NULL"), '>', 0, "messages of $_ have become dead letters") foreach 'few', 'many';
is($node->sql(q{SELECT count(DISTINCT how) FROM gone}), 8, 'messages were deleted in all ways');
is($node->sql(q{SELECT count(DISTINCT kind) FROM back WHERE n > 0}), 4, '... and brought back');
cmp_ok($done{$_}, '>', 0, "$_: $done{$_}") foreach sort keys %done;
$hand->quit;
unlike(slurp_file($node->logfile), qr/ERROR:  (?!57P01|57014|22023)\w{5}|PANIC|TRAP|terminated by signal/, 'nothing else failed')
  or diag(join "\n", (grep { /ERROR:  (?!57P01|57014|22023)|PANIC|TRAP/ } split /\n/, slurp_file($node->logfile))[ 0 .. 5 ]);
$node->is_sound;
$node->stop;
done_testing();
