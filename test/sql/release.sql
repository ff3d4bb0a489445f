-- cmq_release: at once, after the queue's back-off or a delay, counted or not; with
-- dead letters and after a rewind or restore; errors; transactions.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('release_a', visibility_timeout => 600, rewind_seconds => 3600);
-- what was received last, by body
CREATE TEMP TABLE got (LIKE cmq.message);
CREATE FUNCTION pg_temp.get(queue text, n int DEFAULT 1000) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	m cmq.message;
	line text := '';
BEGIN
	FOR m IN SELECT * FROM cmq_receive(queue, n) LOOP
		DELETE FROM got WHERE body = m.body;
		INSERT INTO got SELECT m.*;
		line := line || format(', %s %s %s', m.body, m.receive_count, m.rewind_count);
	END LOOP;
	RETURN substr(line, 3);
END $$;
CREATE FUNCTION pg_temp.handles(bodies text[]) RETURNS text[] LANGUAGE sql AS $$
	SELECT coalesce(array_agg(receipt_handle ORDER BY ordinality), '{}') FROM unnest(bodies) WITH ORDINALITY b (body, ordinality) JOIN got USING (body)
$$;
-- Release, and say which, in the order of the result.
CREATE FUNCTION pg_temp.release(queue text, bodies text[], delay int DEFAULT NULL, counted boolean DEFAULT true) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(body, ' ' ORDER BY n) FROM cmq_release(queue, pg_temp.handles(bodies), delay, counted) WITH ORDINALITY r (h, n) JOIN got ON receipt_handle = h
$$;
-- Release one message, and say how it is then: away for so many seconds, or otherwise.
CREATE FUNCTION pg_temp.away(queue text, body text, seconds int, delay int DEFAULT NULL, counted boolean DEFAULT true) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before timestamptz := cmq._clock(queue);
	after timestamptz;
	row record;
BEGIN
	IF pg_temp.release(queue, ARRAY[body], delay, counted) IS NULL THEN
		RETURN 'stale';
	END IF;
	after := cmq._clock(queue);
	EXECUTE format('SELECT * FROM cmq.%I WHERE body = $1', 'q_' || queue || '_live') INTO STRICT row USING body;
	RETURN format('%s %s, received %s%s', row.state,
		CASE WHEN row.visible_at - make_interval(secs => seconds) BETWEEN before AND after THEN seconds || ' s' ELSE (row.visible_at - after)::text END,
		row.receive_count, CASE WHEN row.first_received_at IS NOT NULL THEN ', first received' ELSE '' END);
END $$;
-- The delays are over.
CREATE FUNCTION pg_temp.ready(queue text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('UPDATE cmq_data.%I SET visible_at = cmq._clock(%L) - interval ''1 ms''', 'q_' || queue || '_pending', queue);
END $$;

--
-- At once: a queue without back-off.  The handles are stale; the messages stand behind
-- what became ready before, in the order of production.
--
SELECT count(*) FROM cmq_send_batch('release_a', '{a,b,c,d}');
SELECT pg_temp.get('release_a'), pg_temp.receive('release_a') AS none;
SELECT cmq_delete('release_a', receipt_handle) AS d_deleted FROM got WHERE body = 'd';
SELECT cmq_send('release_a', 'e') > 0 AS sent;
SELECT h LIKE '%-9-9' AS odd, count(*)
  FROM cmq_release('release_a', pg_temp.handles('{c,a,d,c}') || '{1-2-3-4,1-2-9-9}'::text[]) h GROUP BY 1;
SELECT pg_temp.live('release_a'), pg_temp.counts('release_a');
SELECT pg_temp.release('release_a', '{a,b,c}', 0) AS in_order_of_the_array_and_not_stale;
SELECT pg_temp.release('release_a', '{a,b,c,d}') AS stale;
SELECT body, cmq_delete('release_a', receipt_handle) AS deleted, cmq_change_visibility('release_a', receipt_handle, 5) AS changed FROM got ORDER BY msg_id;
SELECT count(*) FROM cmq_delete_batch('release_a', pg_temp.handles('{a,b,c,d}'));
SELECT count(*) FROM cmq_change_visibility_batch('release_a', pg_temp.handles('{a,b,c,d}'), 5);
SELECT first_received_at AS first FROM got WHERE body = 'a' \gset
SELECT pg_temp.get('release_a');
SELECT first_received_at = :'first' AS first_receipt_is_kept, next_visible_at > clock_timestamp() + interval '500 s' AS hidden FROM got WHERE body = 'a';
SELECT pg_temp.release('release_a', '{b,e,c,a}') AS in_order_of_the_array;
SELECT pg_temp.consume('release_a') AS in_order_of_production, pg_temp.counts('release_a');

--
-- The back-off of the queue: twice as long for each receive, up to a limit.
--
SELECT cmq_alter_queue('release_a', retry_backoff_seconds => 10, retry_backoff_max_seconds => 60);
SELECT cmq_send('release_a', 'f') > 0 AS sent;
CREATE FUNCTION pg_temp.rounds(n int, delay int, counted boolean, VARIADIC expected int[]) RETURNS TABLE (round int, got text, released text) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM pg_temp.ready('release_a');
		round := i;
		got := pg_temp.get('release_a');
		released := pg_temp.away('release_a', 'f', expected[least(i, cardinality(expected))], delay, counted);
		RETURN NEXT;
	END LOOP;
END $$;
SELECT * FROM pg_temp.rounds(5, NULL, true, 10, 20, 40, 60);
SELECT pg_temp.receive('release_a') AS not_yet, pg_temp.counts('release_a');
-- a delay that is given goes before it
SELECT * FROM pg_temp.rounds(2, 7, true, 7);
SELECT * FROM pg_temp.rounds(1, 0, true, 0);
-- no overflow, whatever has been counted
UPDATE cmq_data.q_release_a_pending SET receive_count = 2147483646;
SELECT * FROM pg_temp.rounds(2, NULL, true, 60);
SELECT * FROM pg_temp.rounds(2, NULL, false, 60);
UPDATE cmq_data.q_release_a_pending SET receive_count = 0;
SELECT cmq_alter_queue('release_a', retry_backoff_seconds => 43200, retry_backoff_max_seconds => 43200);
SELECT * FROM pg_temp.rounds(2, NULL, true, 43200);
-- a limit below the back-off, and none of either
UPDATE cmq_data.q_release_a_pending SET receive_count = 0;
SELECT cmq_alter_queue('release_a', retry_backoff_max_seconds => 5);
SELECT * FROM pg_temp.rounds(2, NULL, true, 5);
SELECT cmq_alter_queue('release_a', retry_backoff_max_seconds => 0);
SELECT * FROM pg_temp.rounds(1, NULL, true, 0);
SELECT cmq_alter_queue('release_a', retry_backoff_seconds => 0, retry_backoff_max_seconds => 3600);
SELECT * FROM pg_temp.rounds(1, NULL, true, 0);
-- each message by its own receives
SELECT cmq_alter_queue('release_a', retry_backoff_seconds => 100);
SELECT cmq_send('release_a', 'g') > 0 AS sent;
SELECT pg_temp.ready('release_a');
SELECT pg_temp.get('release_a');
SELECT pg_temp.release('release_a', '{f,g}') AS released;
SELECT body, state, visible_at > clock_timestamp() + interval '150 s' AS longer FROM cmq.q_release_a_live ORDER BY msg_id;
SELECT cmq_clear_queue('release_a') AS cleared, cmq_alter_queue('release_a', retry_backoff_seconds => 0);

--
-- Not counted: the delivery has not been.  With a delay the message is delayed again, if
-- it was not received before.
--
SELECT count(*) FROM cmq_send_batch('release_a', '{h,i}');
SELECT pg_temp.get('release_a');
SELECT pg_temp.away('release_a', 'h', 0, 0, false), pg_temp.away('release_a', 'i', 50, 50, false);
SELECT pg_temp.counts('release_a');
SELECT count(*) AS as_the_tables_say FROM cmq_data.q_release_a_pending WHERE receive_count = 0 AND first_received_at IS NULL AND change_count = 1;
SELECT pg_temp.get('release_a') AS first_again;
SELECT first_received_at = next_visible_at - interval '600 s' AS first_received_now FROM got WHERE body = 'h';
SELECT pg_temp.away('release_a', 'h', 0, 0) AS counted;
SELECT pg_temp.get('release_a');
SELECT pg_temp.away('release_a', 'h', 50, 50, false) AS not_counted;
SELECT pg_temp.counts('release_a');
SELECT inactive_msg_num, delay_msg_num FROM cmq.metrics WHERE queue = 'release_a';
SELECT ready, in_flight, delayed FROM cmq.status WHERE queue = 'release_a';
-- by the message table, too
SELECT body, state, receive_count, first_received_at IS NULL AS never FROM cmq.q_release_a_all WHERE state <> 'deleted' ORDER BY msg_id;
SELECT pg_temp.ready('release_a');
SELECT pg_temp.consume('release_a');
SELECT body, receive_count, first_received_at <= deleted_at AS received FROM cmq.q_release_a_history ORDER BY msg_id DESC LIMIT 2;

--
-- No handle comes back, as if each receive and each release fell into the microsecond of
-- the first one: neither for the next delivery nor for a row that is released.
--
SELECT cmq_send('release_a', 'j') AS id \gset
CREATE FUNCTION pg_temp.same_time(first text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	UPDATE cmq_data.q_release_a_pending SET visible_at = cmq.enqueued_at(split_part(first, '-', 2)::bigint);
	RETURN (SELECT concat_ws('-', cmq.msg_id(enqueued_at), cmq.msg_id(visible_at), receive_count, rewind_count, change_count) FROM cmq_data.q_release_a_pending);
END $$;
DO $$
DECLARE
	handles text[] := '{}';
	handle text;
	n bigint;
BEGIN
	FOR i IN 1..50 LOOP
		SELECT receipt_handle INTO STRICT handle FROM cmq_receive('release_a');
		handle := pg_temp.same_time(coalesce(handles[1], handle));
		IF handle = ANY (handles) THEN
			RAISE EXCEPTION 'round %: % came back', i, handle;
		END IF;
		SELECT count(*) INTO n FROM cmq_release('release_a', handles, 0, i % 3 = 0);
		IF n <> 0 THEN
			RAISE EXCEPTION 'round %: % old handles were good', i, n;
		END IF;
		handles := handles || handle;
		SELECT count(*) INTO n FROM cmq_release('release_a', ARRAY[handle], 0, i % 3 = 0);
		IF n <> 1 THEN
			RAISE EXCEPTION 'round %: the handle was stale', i;
		END IF;
		PERFORM pg_temp.same_time(handles[1]);
		SELECT count(*) INTO n FROM cmq_delete_batch('release_a', handles);
		IF n <> 0 THEN
			RAISE EXCEPTION 'round %: a handle was good after the release', i;
		END IF;
		UPDATE cmq_data.q_release_a_pending SET visible_at = enqueued_at;
	END LOOP;
END $$;
SELECT receive_count, change_count FROM cmq_data.q_release_a_pending;
SELECT pg_temp.consume('release_a');

--
-- What a rewind or a restore has brought back.  Uncounted it is as if it had just come
-- back: not received, and no older than that for max_time_to_live.
--
SELECT cmq_create_queue('release_dead');
SELECT cmq_create_queue('release_b', visibility_timeout => 600, rewind_seconds => 3600, dead_letter_queue => 'release_dead', max_time_to_live => 300);
SELECT count(*) FROM cmq_send_batch('release_b', '{restored,rewound}');
SELECT pg_temp.consume('release_b');
SELECT pg_temp.age('release_b', '10 minutes');
SELECT cmq_rewind('release_b', (SELECT enqueued_at FROM cmq.q_release_b_history WHERE body = 'rewound')) IS NOT NULL AS rewound;
SELECT cmq_restore_messages('release_b', ARRAY(SELECT msg_id FROM cmq.q_release_b_history WHERE body = 'restored')) IS NOT NULL AS restored;
SELECT pg_temp.get('release_b');
SELECT pg_temp.away('release_b', 'restored', 0, 0, false) AS restored, pg_temp.away('release_b', 'rewound', 20, 20, false) AS rewound;
SELECT pg_temp.counts('release_b');
SELECT oldest_ready_seconds < 60 AS ready_since_the_release FROM cmq.metrics WHERE queue = 'release_b';
SELECT pg_temp.ready('release_b');
SELECT cmq_maintain('release_b');
SELECT pg_temp.live('release_b') AS not_dead, pg_temp.get('release_b');
SELECT body, first_received_at = next_visible_at - interval '600 s' AS first_received_now FROM got WHERE body LIKE 're%' ORDER BY msg_id;
-- the age counts from the first receive that counts
SELECT pg_temp.away('release_b', 'restored', 0, 0) AS counted, pg_temp.away('release_b', 'rewound', 0, 0, false) AS not_counted;
SELECT pg_temp.age('release_b', '6 minutes');
SELECT pg_temp.get('release_b') AS not_counted;
SELECT pg_temp.live('release_dead');
-- one that was not brought back is as old as it is
SELECT cmq_send('release_b', 'new') > 0 AS sent;
SELECT pg_temp.get('release_b');
SELECT pg_temp.away('release_b', 'new', 0, 0, false);
SELECT pg_temp.age('release_b', '6 minutes');
SELECT pg_temp.get('release_b') AS dead;
SELECT pg_temp.live('release_dead');
SELECT cmq_drop_queue('release_b');

--
-- max_receive_count: what is counted is dead when it is ready again, what is not never.
--
SELECT cmq_clear_queue('release_dead') AS cleared;
SELECT cmq_create_queue('release_c', dead_letter_queue => 'release_dead', max_receive_count => 2, retry_backoff_seconds => 30);
SELECT count(*) FROM cmq_send_batch('release_c', '{fails,deployed}');
DO $$
DECLARE
	n int;
BEGIN
	FOR i IN 1..10 LOOP
		PERFORM cmq_release('release_c', ARRAY(SELECT receipt_handle FROM cmq_receive('release_c', 10)), 0, false);
		PERFORM cmq_maintain('release_c');
	END LOOP;
END $$;
SELECT body, state, receive_count FROM cmq.q_release_c_live ORDER BY msg_id;
SELECT pg_temp.get('release_c');
SELECT pg_temp.away('release_c', 'fails', 30), pg_temp.away('release_c', 'deployed', 0, 0, false);
SELECT pg_temp.ready('release_c');
SELECT pg_temp.get('release_c');
SELECT pg_temp.away('release_c', 'fails', 60), pg_temp.away('release_c', 'deployed', 0, 0);
SELECT cmq_maintain('release_c');
-- in the back-off it is not dead yet
SELECT pg_temp.live('release_c'), pg_temp.live('release_dead');
SELECT pg_temp.ready('release_c');
SELECT pg_temp.get('release_c');
SELECT pg_temp.live('release_c'), pg_temp.live('release_dead');
SELECT headers -> 'cmq_dead_letter' -> 'receive_count' AS receive_count, headers -> 'cmq_dead_letter' ->> 'reason' AS reason FROM cmq.q_release_dead_live;
-- a consumer that is late: its message would be dead, but nobody has moved it
SELECT pg_temp.away('release_c', 'deployed', 0, 0);
SELECT cmq_send('release_c', 'late') > 0 AS sent;
SELECT pg_temp.get('release_c');
SELECT pg_temp.away('release_c', 'late', 0, 0);
SELECT pg_temp.get('release_c', 1);
UPDATE cmq_data.q_release_c_pending p SET visible_at = enqueued_at;
UPDATE got SET receipt_handle = concat_ws('-', msg_id, msg_id, 2, 0, 1) WHERE body = 'late';
SELECT pg_temp.away('release_c', 'late', 0, 0, false) AS given_back;
SELECT pg_temp.get('release_c');
SELECT pg_temp.live('release_c'), pg_temp.live('release_dead');
SELECT cmq_drop_queue('release_c');
SELECT cmq_drop_queue('release_dead');

--
-- A message past its retention: its receiver can still be done with it.
--
SELECT count(*) FROM cmq_send_batch('release_a', '{k,l}');
SELECT pg_temp.get('release_a');
UPDATE cmq.queue SET expired_before = (SELECT enqueued_at FROM got WHERE body = 'l') WHERE name = 'release_a';
SELECT pg_temp.reload('release_a');
SELECT pg_temp.release('release_a', '{k,l}', 0) AS released;
SELECT pg_temp.live('release_a'), pg_temp.consume('release_a');
SELECT cmq_maintain('release_a');
SELECT count(*) AS pending FROM cmq_data.q_release_a_pending;

--
-- Errors.
--
SELECT n, pg_temp.attempt(format('SELECT cmq_release(%s)', args))
  FROM (VALUES
	(1, $$'release_a', '{}'$$), (2, $$'release_a', '{1-2-3-4}'$$), (3, $$'release_a', '{1-2-3-4,NULL}'$$), (4, $$'release_a', '{1-2-3-4,x}'$$),
	(5, $$'release_a', '{{1-2-3-4},{1-2-3-5}}'$$), (6, $$'release_a', NULL$$), (7, $$'release_a', '{}', -1$$), (8, $$'release_a', '{}', 345600$$),
	(9, $$'release_a', '{}', 345599$$), (10, $$'release_a', '{}', 2147483647$$), (11, $$'release_a', '{}', 0, NULL$$), (12, $$NULL, '{}'$$),
	(13, $$'release_x', '{}'$$), (14, $$'release_a', '{}', NULL, false$$), (15, $$'release_a', '{1-2-0-4}'$$), (16, $$queue => 'release_a', receipt_handles => '{}', counted => false$$)) v (n, args)
 ORDER BY n;
SELECT line FROM pg_temp.complaint($$SELECT cmq_release('release_a', '{}', 345600)$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_release('release_a', '{}', -1)$$);
-- without SELECT nothing is learnt of the settings
CREATE ROLE regress_release;
GRANT DELETE ON cmq.q_release_a TO regress_release;
SET ROLE regress_release;
SELECT line FROM pg_temp.complaint($$SELECT cmq_release('release_a', '{}', 345600)$$);
RESET ROLE;
DROP OWNED BY regress_release;
DROP ROLE regress_release;

--
-- Transactions.
--
SELECT count(*) FROM cmq_send_batch('release_a', '{m,n}');
SELECT pg_temp.get('release_a');
BEGIN;
SELECT pg_temp.release('release_a', '{n,m}', 0, false) AS released;
SELECT pg_temp.receive('release_a') AS received;
ROLLBACK;
SELECT body, state, receive_count FROM cmq.q_release_a_live ORDER BY msg_id;
BEGIN;
SAVEPOINT s;
SELECT pg_temp.release('release_a', '{m,n}', 100) AS released;
ROLLBACK TO s;
SELECT pg_temp.release('release_a', '{m}', 100) AS released;
COMMIT;
SELECT pg_temp.release('release_a', '{m,n}', 0) AS n_alone;
SELECT pg_temp.live('release_a');
SELECT pg_temp.consume('release_a');
SELECT pg_temp.ready('release_a');
-- received and released in one statement, and in one transaction before the work
SELECT count(*) FROM cmq_release('release_a', ARRAY(SELECT receipt_handle FROM cmq_receive('release_a')), 0);
BEGIN;
SELECT pg_temp.get('release_a');
SAVEPOINT work;
SELECT 1 / 0;
ROLLBACK TO work;
SELECT pg_temp.release('release_a', '{m}', 30) AS released;
COMMIT;
SELECT body, state, receive_count FROM cmq.q_release_a_live;
-- a receive that begins behind what is consumed finds what was released
SELECT pg_temp.ready('release_a');
SELECT pg_temp.get('release_a'), pg_temp.receive('release_a') AS none;
SELECT count(*) FROM cmq_send_batch('release_a', ARRAY(SELECT 'x' || i FROM generate_series(1, 200) i));
SELECT count(*) FROM cmq_receive('release_a', 200);
SELECT pg_temp.receive('release_a') AS none;
SELECT pg_temp.release('release_a', '{m}', 0) AS released;
SELECT pg_temp.receive('release_a') AS found;

-- a paused queue takes back what is released, and delivers it when it is resumed
SELECT cmq_send('release_a', 'y') > 0 AS sent;
SELECT pg_temp.get('release_a');
SELECT cmq_pause_queue('release_a');
SELECT pg_temp.away('release_a', 'y', 0, 0, false), pg_temp.receive('release_a') AS none;
SELECT cmq_resume_queue('release_a');
SELECT pg_temp.get('release_a');
-- what is consumed in one step has no handle; what was released before keeps its counts
SELECT pg_temp.away('release_a', 'y', 0, 0);
SELECT body, receive_count, receipt_handle IS NULL AS no_handle FROM cmq_consume('release_a');
SELECT pg_temp.release('release_a', '{y}', 0) AS stale;

SELECT cmq_drop_queue('release_a');
