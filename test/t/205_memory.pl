# Memory of a session stays flat over many calls, and over many queues created,
# used and dropped; the server complains about no leak.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

# a session, not only a query, has to end within this
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} //= 3600 if $ENV{CMQ_TEST_LONG} }

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $long = $ENV{CMQ_TEST_LONG};
my $rounds = $long ? 140_000 : 3_000;    # of 15 calls
my $queues = $long ? 10_000 : 250;

my $node = CmqNode->running('memory', <<'CONF');
cmq.max_queues = 20
log_min_messages = warning
CONF
$node->sql(q{
	SELECT FROM cmq_create_queue('q', rewind_seconds => 3600);
	CREATE PROCEDURE calls(n int) LANGUAGE plpgsql AS $$
	DECLARE
		handle text;
		id bigint;
	BEGIN
		FOR i IN 1 .. n LOOP
			PERFORM cmq_send('q', 'body', headers => '{"a": 1}');
			PERFORM FROM cmq_consume('q');
			PERFORM cmq_send('q', 'body', headers => '{"a": 1}');
			PERFORM FROM cmq_consume('q', filter => '{"b": 1}');
			PERFORM FROM cmq_consume('q', filter => '{"a": 1}');
			id := cmq_send('q', 'body', 60);
			PERFORM cmq_delete('q', receipt_handle) FROM cmq_receive_messages('q', ARRAY[id]);
			id := cmq_send('q', 'body');
			PERFORM FROM cmq_delete_messages('q', ARRAY[id]);
			PERFORM cmq_send('q', 'body', headers => '{"a": 1}');
			SELECT receipt_handle INTO handle FROM cmq_receive('q');
			handle := cmq_change_visibility('q', handle, 600);
			handle := (SELECT new_handle FROM cmq_change_visibility_batch('q', ARRAY[handle], 600));
			PERFORM cmq_release('q', ARRAY[handle], 0, i % 2 = 0);
			SELECT receipt_handle INTO handle FROM cmq_receive('q');
			PERFORM cmq_delete('q', handle);
			PERFORM cmq_restore('q', 'infinity');
			PERFORM cmq_rewind_preview('q', 'infinity');
			PERFORM FROM cmq_history('q', now() - interval '1 s');
			PERFORM FROM cmq_timeline('q', now() - interval '1 h', now());
			BEGIN
				PERFORM cmq_delete('q', 'malformed');
			EXCEPTION WHEN OTHERS THEN
				NULL;
			END;
			IF i % 100 = 0 THEN
				COMMIT;
			END IF;
		END LOOP;
	END $$;
	CREATE SEQUENCE no;
	CREATE PROCEDURE queues(n int) LANGUAGE plpgsql AS $$
	DECLARE
		i bigint;
	BEGIN
		FOR j IN 1 .. n LOOP
			i := nextval('no');
			PERFORM cmq_create_queue('queue' || i, rewind_seconds => 3600);
			PERFORM cmq_send('queue' || i, 'body');
			COMMIT;
			PERFORM cmq_delete('queue' || i, receipt_handle) FROM cmq_receive('queue' || i);
			PERFORM cmq_rewind('queue' || i, now() - interval '1 min');
			COMMIT;
			PERFORM cmq_drop_queue('queue' || i);
			COMMIT;
		END LOOP;
	END $$;
});

my $session = $node->session;
my $pid = $session->query_safe('SELECT pg_backend_pid()');

# kilobytes of the session's own memory
sub memory
{
	my ($rss) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	return $rss;
}

plan skip_all => 'no /proc to read memory from' unless defined eval { memory() };

$session->query_safe("CALL calls($rounds / 5)");
my $before = memory();
$session->query_safe("CALL calls($rounds)");
my $after = memory();
note("$before kB, $after kB");
cmp_ok($after - $before, '<', 2000, 'many calls: memory is flat');
is($session->query_safe('SELECT count(*) FROM cmq_data.q_q') > $rounds, 1, 'they did something');

# One call that moves much: bodies that are large only when they are read.  An
# index of the other queue's looks at the memory while the call is at work.
$session->query_safe(q{
	SELECT FROM cmq_create_queue('big', rewind_seconds => 3600, max_msg_size => 2000000);
	SELECT FROM cmq_create_queue('copy', max_msg_size => 2000000);
	CREATE TABLE peak (bytes bigint);
	CREATE FUNCTION look() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.peak SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name NOT IN ('CacheMemoryContext', 'index info');
	END $$;
	CREATE FUNCTION look(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.look(); RETURN n; END $$;
	CREATE INDEX ON cmq_data.q_copy_pending (look(receive_count));
	SELECT count(cmq_send('big', repeat('x', 1100000), headers => jsonb_build_object('a', 1, 'b', repeat('y', 100000)))) FROM generate_series(1, 300) i;
	DO $$ BEGIN FOR i IN 1 .. 30 LOOP PERFORM FROM cmq_delete_batch('big', array(SELECT receipt_handle FROM cmq_receive('big', 10))); END LOOP; END $$;
	CREATE INDEX ON cmq_data.q_big_pending (look(receive_count));
});
for my $call (
	q{cmq_replay('big', 'copy', '-infinity', %s)},
	q{cmq_replay('big', 'copy', '-infinity', %s, '{"a": 1}')},
	q{cmq_restore('big', '-infinity', %s, '{"a": 1}')})
{
	my @peaks;
	for my $n (20, 20, 300)
	{
		my $until = "(SELECT max(enqueued_at) + '1 us' FROM (SELECT enqueued_at FROM cmq_data.q_big ORDER BY 1 LIMIT $n) m)";
		$session->query_safe(q{BEGIN; DELETE FROM peak});
		is($session->query_safe('SELECT ' . sprintf($call, $until)), $n, "$n messages by $call");
		push @peaks, $session->query_safe(q{SELECT max(bytes) FROM peak});
		$session->query_safe('ROLLBACK');
	}
	note("bytes: @peaks");
	cmp_ok($peaks[1], '>', 0, 'measured');
	cmp_ok($peaks[2] - $peaks[1], '<', 1_000_000, 'many take no more memory than few');
}
$session->query_safe(q{SELECT cmq_drop_queue('big'), cmq_drop_queue('copy')});

# Many messages, and calls that name each of them.
$session->query_safe(q{
	SELECT FROM cmq_create_queue('small', rewind_seconds => 3600);
	SELECT count(*) FROM (SELECT cmq_send_batch('small', array_fill('m'::text, '{10000}')) FROM generate_series(1, 3)) s;
	DO $$ BEGIN FOR i IN 1 .. 30 LOOP PERFORM FROM cmq_delete_batch('small', array(SELECT receipt_handle FROM cmq_receive('small', 1000))); END LOOP; END $$;
	CREATE TABLE ids AS SELECT msg_id, row_number() OVER (ORDER BY msg_id) AS n FROM cmq.q_small_history;
	-- looking costs more than the call
	CREATE FUNCTION sometimes(t timestamptz) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF extract(microseconds FROM t)::int % 512 = 0 THEN
			PERFORM public.look();
		END IF;
		RETURN 0;
	END $$;
	CREATE INDEX ON cmq_data.q_small_pending (sometimes(enqueued_at));
	CREATE INDEX ON cmq_data.q_small_rewind (sometimes(enqueued_at));
	CREATE FUNCTION consumes(n int) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		total int := 0;
	BEGIN
		FOR i IN 1 .. n LOOP
			total := total + (SELECT count(*) FROM cmq_consume('small', 1000, filter => NULL));
		END LOOP;
		RETURN total;
	END $$;
});
for my $call (
	q{cmq_restore('small', '-infinity', (SELECT cmq.enqueued_at(max(msg_id) + 1) FROM ids WHERE n <= %1$s))},
	q{count(*) FROM cmq_restore_messages('small', array(SELECT msg_id FROM ids WHERE n <= %1$s))},
	q{count(*) FROM cmq_receive_messages('small', array(SELECT msg_id FROM ids WHERE n <= %1$s))},
	q{count(*) FROM cmq_delete_messages('small', array(SELECT msg_id FROM ids WHERE n <= %1$s))},
	q{consumes(%1$s / 1000)})
{
	my @peaks;
	for my $n (3000, 3000, 30_000)
	{
		# the result of some calls would fill it
		$session->query_safe(q{BEGIN; DELETE FROM peak; SET LOCAL work_mem = '64kB'});
		$session->query_safe(q{SELECT cmq_rewind('small', now() - interval '30 min')}) if $call !~ /restore/;
		is($session->query_safe('SELECT ' . sprintf($call, $n)), $n, "$n messages by $call");
		push @peaks, $session->query_safe(q{SELECT max(bytes) FROM peak});
		$session->query_safe('ROLLBACK');
	}
	note("bytes: @peaks");
	cmp_ok($peaks[1], '>', 0, 'measured');
	# the argument and the result are arrays of all ids
	cmp_ok($peaks[2] - $peaks[1], '<', $call =~ /_messages/ ? 2_000_000 : 200_000, 'ten times as many take no more memory');
}
$session->query_safe(q{SELECT cmq_drop_queue('small')});

# Chosen dead letters among many.
$session->query_safe(q{
	SELECT FROM cmq_create_queue('letters');
	SELECT FROM cmq_create_queue('home', dead_letter_queue => 'letters', max_receive_count => 1);
	SELECT count(*) FROM (SELECT cmq_send_batch('letters', array_fill('m'::text, '{10000}'),
		headers => array(SELECT jsonb_build_object('cmq_dead_letter', '{"queue": "home"}'::jsonb, 'of_ten', i % 10) FROM generate_series(1, 10000) i)) FROM generate_series(1, 3)) s;
	DROP TABLE ids;
	CREATE TABLE ids AS SELECT msg_id, row_number() OVER (ORDER BY msg_id) AS n FROM cmq.q_letters_live;
	CREATE INDEX ON cmq_data.q_home_pending (sometimes(enqueued_at));
});
for my $call (
	q{cmq_redrive('letters', filter => CASE WHEN %1$s = 3000 THEN '{"of_ten": 3}' ELSE '{}' END::jsonb)},
	q{cmq_redrive('letters', %1$s, '{}')},
	q{cmq_redrive('letters', msg_ids => array(SELECT msg_id FROM ids WHERE n <= %1$s))})
{
	my @peaks;
	for my $n (3000, 3000, 30_000)
	{
		$session->query_safe(q{BEGIN; DELETE FROM peak});
		is($session->query_safe('SELECT ' . sprintf($call, $n)), $n, "$n messages by $call");
		push @peaks, $session->query_safe(q{SELECT max(bytes) FROM peak});
		$session->query_safe('ROLLBACK');
	}
	note("bytes: @peaks");
	cmp_ok($peaks[1], '>', 0, 'measured');
	# the argument is an array of all ids, and so is what was found
	cmp_ok($peaks[2] - $peaks[1], '<', $call =~ /ids/ ? 5_000_000 : 200_000, 'ten times as many take no more memory');
}
$session->query_safe(q{SELECT cmq_unbind_dead_letter('home'), cmq_drop_queue('home'), cmq_drop_queue('letters')});
# Calls that pass over many messages, whose headers are short or long, for the sake of
# one.  The index tells when it is had.
$session->query_safe(q{
	SELECT FROM cmq_create_queue('passed', rewind_seconds => 3600);
	SELECT count(*) FROM generate_series(1, 100) k, LATERAL cmq_send_batch('passed', array_fill('m'::text, '{1000}'), headers => array(
		SELECT jsonb_build_object('n', (k - 1) * 1000 + i) || CASE i % 5 WHEN 0 THEN jsonb_build_object('long', repeat('x', 3000)) ELSE '{}' END FROM generate_series(1, 1000) i));
	CREATE INDEX ON cmq_data.q_passed_pending (look(receive_count)) WHERE receive_count > 0;
	CREATE INDEX ON cmq_data.q_passed_rewind (look(receive_count)) WHERE receive_count > 0});
foreach my $what ('ready', 'due')
{
	$session->query_safe(q{
		SELECT count(*) FROM cmq_delete_messages('passed', array(SELECT msg_id FROM cmq.q_passed_live));
		SELECT cmq_rewind('passed', now() - interval '30 min')}) if $what eq 'due';
	foreach my $call (q{cmq_receive('passed', 1, filter => '{"n": %s}')}, q{cmq_consume('passed', 1, filter => '{"n": %s}')})
	{
		my @peaks;
		foreach my $n (10_000, 10_000, 100_000)
		{
			$session->query_safe('BEGIN; DELETE FROM peak');
			is($session->query_safe("SELECT headers->>'n' FROM " . sprintf($call, $n)), $n, "$call passes over $n $what messages");
			push @peaks, $session->query_safe('SELECT max(bytes) FROM peak');
			$session->query_safe('ROLLBACK');
		}
		note("bytes: @peaks");
		cmp_ok($peaks[1], '>', 0, 'measured');
		cmp_ok($peaks[2] - $peaks[1], '<', 200_000, 'ten times as many take no more memory');
	}
}
$session->query_safe(q{SELECT cmq_drop_queue('passed')});

# A receive that waits and looks time and again, each time past dead letters that stay.
$session->query_safe(q{
	CREATE ROLE memory_other;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO memory_other;
	SET ROLE memory_other;
	SELECT FROM cmq_create_queue('letters');
	RESET ROLE;
	SELECT FROM cmq_create_queue('home', dead_letter_queue => 'letters', max_receive_count => 1);
	SELECT FROM cmq_send_batch('home', array_fill('m'::text, '{10}'), headers => array_fill('{"a": 1}'::jsonb, '{10}'));
	SELECT FROM cmq_receive('home', 10) r, LATERAL cmq_change_visibility('home', r.receipt_handle, 0);
	CREATE PROCEDURE sends(n int) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. n LOOP
			PERFORM cmq_send('home', 'x', headers => '{"a": 2}');
			COMMIT;
			PERFORM cmq_delete_messages('home', array(SELECT msg_id FROM cmq.q_home_live WHERE receive_count = 0));
			COMMIT;
		END LOOP;
	END $$});
foreach my $call (q{cmq_receive('home', 1, 60, 30, '{"a": 3}')}, q{cmq_consume('home', 1, 30, '{"a": 3}')})
{
	my $waiter = $node->start_psql('SELECT body FROM ' . $call);
	my $waiting = q{FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE 'SELECT body FROM %'};
	$node->wait_until("SELECT count(*) = 1 $waiting");
	my $waiting_pid = $session->query_safe("SELECT pid $waiting");
	my @kb;
	foreach my $n (500, 3000)
	{
		$session->query_safe("CALL sends($n)");
		push @kb, slurp_file("/proc/$waiting_pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	}
	note("$kb[0] kB, $kb[1] kB");
	cmp_ok($kb[1] - $kb[0], '<', 1000, "many looks of $call: memory is flat");
	$session->query_safe(q{SELECT cmq_send('home', 'the one', headers => '{"a": 3}')});
	is($waiter->complete, "the one\n", '... until it has what it waits for');
}
$session->query_safe(q{SELECT cmq_unbind_dead_letter('home'), cmq_drop_queue('home'), cmq_drop_queue('letters')});

# The server's own cache of catalog rows keeps something of each relation that was
# ever dropped, cmq or not: about a kilobyte.  That aside:
sub contexts
{
	return $session->query_safe(q{SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name <> 'CacheMemoryContext'});
}

$session->query_safe("CALL queues($queues / 2)");
$before = contexts();
$session->query_safe("CALL queues($queues)");
$after = contexts();
note("bytes: $before, $after");
cmp_ok($after - $before, '<', 1_000_000, 'many queues: memory is flat');
is($session->query_safe(q{SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'cmq queue'}) < 150, 1,
	'descriptions of dropped queues are thrown away');
is($node->sql(q{SELECT count(*) FROM cmq.queues}), '1', 'the queues are gone');
is($node->sql(q{SELECT count(*) FROM pg_class WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) AND relname ~ 'queue\d'}),
	'0', 'and their tables');
$session->quit;

$node->stop;
unlike(slurp_file($node->logfile), qr/leak|still referenced|WARNING|PANIC|TRAP|terminated by signal/, 'the server has nothing to complain about');
done_testing();
