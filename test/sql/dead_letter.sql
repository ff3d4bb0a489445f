-- Dead letters: both policies, binding, redrive.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('dead_dlq', rewind_seconds => 3600);
SELECT cmq_create_queue('dead_a', rewind_seconds => 3600, dead_letter_queue => 'dead_dlq', max_receive_count => 2);
SELECT dead_letter_queue, max_receive_count, max_time_to_live FROM cmq_queue_attributes('dead_a');
SELECT queue, dead_letter_queue, max_receive_count, max_time_to_live FROM cmq.queues WHERE queue LIKE 'dead%' ORDER BY queue;

-- make what is in flight in a queue ready
CREATE FUNCTION pg_temp.ready(queue text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('UPDATE cmq_data.%I SET visible_at = enqueued_at', 'q_' || queue || '_pending');
END $$;

--
-- Received twice: the third receive moves it and goes on to the next one.
--
SELECT cmq_send('dead_a', 'poison', headers => '{"k": 1}') AS poison \gset
SELECT cmq_send('dead_a', 'good') IS NOT NULL AS sent;
SELECT pg_temp.receive('dead_a', 1);
SELECT pg_temp.ready('dead_a');
SELECT pg_temp.receive('dead_a', 1);
-- still in flight: not dead
SELECT pg_temp.receive('dead_a', 1);
SELECT pg_temp.counts('dead_a') AS source, pg_temp.counts('dead_dlq') AS dlq;
SELECT pg_temp.ready('dead_a');
-- rolled back: nothing has moved
BEGIN;
SELECT pg_temp.receive('dead_a', 1);
SELECT pg_temp.counts('dead_a') AS source, pg_temp.counts('dead_dlq') AS dlq;
ROLLBACK;
SELECT pg_temp.counts('dead_a') AS source, pg_temp.counts('dead_dlq') AS dlq;
SELECT pg_temp.receive('dead_a', 1);
SELECT pg_temp.counts('dead_a') AS source, pg_temp.counts('dead_dlq') AS dlq;
-- a new message, with the old headers and where it came from
SELECT body, headers - 'cmq_dead_letter' AS old_headers,
	   headers -> 'cmq_dead_letter' ->> 'queue' AS queue,
	   (headers -> 'cmq_dead_letter' ->> 'msg_id')::bigint = :poison AS msg_id,
	   (headers -> 'cmq_dead_letter' ->> 'enqueued_at')::timestamptz = cmq.enqueued_at(:poison) AS enqueued_at,
	   headers -> 'cmq_dead_letter' -> 'receive_count' AS receive_count,
	   headers -> 'cmq_dead_letter' ->> 'reason' AS reason,
	   msg_id > :poison AS new_id, receive_count AS received_here
  FROM cmq.q_dead_dlq_live;
-- it is not in the source's history and its body is gone from there
SELECT count(*) FROM cmq.q_dead_a_history;
SELECT body FROM cmq_data.q_dead_a;
SELECT dead_lettered, pending_msg_num FROM cmq.metrics WHERE queue = 'dead_a';
SELECT sent, pending_msg_num FROM cmq.metrics WHERE queue = 'dead_dlq';

--
-- Maintenance does it, too, when nobody receives.
--
SELECT pg_temp.ready('dead_a');
SELECT cmq_maintain('dead_a');
SELECT pg_temp.counts('dead_a') AS source, pg_temp.counts('dead_dlq') AS dlq;
SELECT body, headers #>> '{cmq_dead_letter,reason}' AS reason FROM cmq.q_dead_dlq_live ORDER BY msg_id;

--
-- Sent back, they start anew.
--
SELECT cmq_redrive('dead_dlq', 1);
SELECT cmq_redrive('dead_dlq');
SELECT cmq_redrive('dead_dlq') AS none_left;
SELECT pg_temp.counts('dead_a') AS source, pg_temp.counts('dead_dlq') AS dlq;
SELECT body, headers, receive_count FROM cmq.q_dead_a_live ORDER BY msg_id;
-- they are consumed in the dead-letter queue: its history has them
SELECT body, headers #>> '{cmq_dead_letter,queue}' AS queue, receive_count FROM cmq.q_dead_dlq_history ORDER BY msg_id;
SELECT pg_temp.consume('dead_a');

--
-- A rewound message counts anew.
--
SELECT cmq_rewind('dead_a', (SELECT min(enqueued_at) FROM cmq.q_dead_a_history)) IS NOT NULL AS rewound;
SELECT pg_temp.receive('dead_a', 10);
SELECT pg_temp.ready('dead_a');
SELECT pg_temp.receive('dead_a', 10) AS twice;
SELECT pg_temp.ready('dead_a');
SELECT pg_temp.receive('dead_a', 10) AS dead;
SELECT pg_temp.counts('dead_a') AS source, pg_temp.counts('dead_dlq') AS dlq;

--
-- Unconsumed for too long.
--
SELECT cmq_create_queue('dead_b', dead_letter_queue => 'dead_dlq', max_time_to_live => 300);
SELECT pg_temp.consume('dead_dlq');
SELECT count(*) FROM cmq_send_batch('dead_b', '{old,older}', headers => ARRAY['{"k": [1, 2]}', NULL]::jsonb[]);
SELECT cmq_maintain('dead_b');
SELECT pg_temp.counts('dead_b') AS source;
SELECT pg_temp.age('dead_b', '301 s');
SELECT cmq_send('dead_b', 'young') IS NOT NULL AS sent;
SELECT cmq_maintain('dead_b');
SELECT pg_temp.counts('dead_b') AS source, pg_temp.counts('dead_dlq') AS dlq;
-- the old headers are kept
SELECT body, headers - 'cmq_dead_letter' AS old_headers, headers #>> '{cmq_dead_letter,reason}' AS reason FROM cmq.q_dead_dlq_live ORDER BY msg_id;
-- by a receive; in flight it is not dead
SELECT pg_temp.receive('dead_b', 1, 43200);
SELECT pg_temp.age('dead_b', '301 s');
SELECT cmq_maintain('dead_b');
SELECT pg_temp.counts('dead_b') AS in_flight;
SELECT pg_temp.ready('dead_b');
SELECT pg_temp.receive('dead_b', 1);
SELECT pg_temp.counts('dead_b') AS source, pg_temp.counts('dead_dlq') AS dlq;

--
-- A message brought back starts counting anew, from its first receive after
-- that: waiting for it counts nothing, however old the message is.
--
SELECT pg_temp.consume('dead_dlq') IS NOT NULL AS dlq, pg_temp.consume('dead_b') AS source;
SELECT cmq_alter_queue('dead_b', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('dead_b', '{rewound,restored}');
SELECT pg_temp.consume('dead_b');
SELECT pg_temp.age('dead_b', '301 s');
SELECT cmq_restore_messages('dead_b', ARRAY(SELECT msg_id FROM cmq.q_dead_b_history WHERE body = 'restored')) IS NOT NULL AS restored;
SELECT cmq_rewind('dead_b', cmq.enqueued_at(min(msg_id))) IS NOT NULL AS rewound FROM cmq.q_dead_b_history;
SELECT cmq_maintain('dead_b');
SELECT body, state, first_received_at, rewind_count FROM cmq.q_dead_b_live ORDER BY msg_id;
SELECT pg_temp.age('dead_b', '301 s');
SELECT cmq_maintain('dead_b');
SELECT pg_temp.live('dead_b') AS source, pg_temp.live('dead_dlq') AS dlq;
SELECT pg_temp.receive('dead_b', 10, 43200);
SELECT pg_temp.age('dead_b', '200 s');
SELECT pg_temp.ready('dead_b');
SELECT cmq_maintain('dead_b');
SELECT pg_temp.live('dead_b') AS source, pg_temp.live('dead_dlq') AS dlq;
SELECT pg_temp.age('dead_b', '101 s');
SELECT cmq_maintain('dead_b');
SELECT pg_temp.live('dead_b') AS source;
SELECT body, headers #>> '{cmq_dead_letter,reason}' AS reason, headers #> '{cmq_dead_letter,receive_count}' AS received
  FROM cmq.q_dead_dlq_live ORDER BY msg_id;
SELECT cmq_alter_queue('dead_b', rewind_seconds => 0);

--
-- What cannot be bound.
--
SELECT pg_temp.attempt(format('SELECT cmq_create_queue(%s)', args))
  FROM (VALUES
	(1, $$'dead_c', dead_letter_queue => 'dead_none', max_receive_count => 1$$),
	(2, $$'dead_c', dead_letter_queue => 'dead_c', max_receive_count => 1$$),
	(3, $$'dead_c', dead_letter_queue => 'dead_a', max_receive_count => 1$$),
	(4, $$'dead_c', dead_letter_queue => 'dead_dlq'$$),
	(5, $$'dead_c', max_receive_count => 1$$),
	(6, $$'dead_c', max_time_to_live => 300$$),
	(7, $$'dead_c', dead_letter_queue => 'dead_dlq', max_receive_count => 0$$),
	(8, $$'dead_c', dead_letter_queue => 'dead_dlq', max_receive_count => 1001$$),
	(9, $$'dead_c', dead_letter_queue => 'dead_dlq', max_time_to_live => 299$$),
	(10, $$'dead_c', dead_letter_queue => 'dead_dlq', max_time_to_live => 43201$$),
	(11, $$'dead_c', dead_letter_queue => 'dead_dlq', max_time_to_live => 600, msg_retention_seconds => 600$$)) v (n, args)
 ORDER BY n;
SELECT pg_temp.attempt($$SELECT cmq_alter_queue('dead_dlq', dead_letter_queue => 'dead_b', max_receive_count => 1)$$) AS is_one_itself,
	   pg_temp.attempt($$SELECT cmq_alter_queue('dead_b', dead_letter_queue => 'dead_b')$$) AS itself,
	   pg_temp.attempt($$SELECT cmq_alter_queue('dead_b', msg_retention_seconds => 300)$$) AS retention_too_short;
SELECT cmq_create_queue('dead_c');
SELECT pg_temp.attempt($$SELECT cmq_alter_queue('dead_c', max_receive_count => 3)$$) AS incomplete;
SELECT cmq_alter_queue('dead_c', dead_letter_queue => 'dead_dlq', max_receive_count => 3, max_time_to_live => 400);
SELECT cmq_alter_queue('dead_c', max_receive_count => 4);
SELECT dead_letter_queue, max_receive_count, max_time_to_live FROM cmq.queues WHERE queue = 'dead_c';

--
-- A dead-letter queue cannot be dropped while it is bound.
--
SELECT cmq_drop_queue('dead_dlq');
SELECT cmq_unbind_dead_letter('dead_a');
SELECT cmq_unbind_dead_letter('dead_a');
SELECT cmq_unbind_dead_letter('dead_b');
SELECT pg_temp.attempt($$SELECT cmq_drop_queue('dead_dlq')$$) AS still_bound;
SELECT cmq_drop_queue('dead_c');
SELECT dead_letter_queue, max_receive_count, max_time_to_live FROM cmq_queue_attributes('dead_a');

--
-- Redrive leaves what is no dead letter, and what has no home.
--
SELECT cmq_send('dead_dlq', 'no dead letter', headers => '{"cmq_dead_letter": 1}') IS NOT NULL AS sent;
SELECT cmq_send('dead_dlq', 'forged', headers => '{"cmq_dead_letter": {"queue": "dead_dlq"}}') IS NOT NULL AS sent;
SELECT cmq_create_queue('dead_elsewhere');
SELECT cmq_send('dead_dlq', 'forged, too', headers => '{"cmq_dead_letter": {"queue": "dead_elsewhere"}}') IS NOT NULL AS sent;
SELECT cmq_drop_queue('dead_b');
SET client_min_messages = notice;
SELECT cmq_redrive('dead_dlq');
SET client_min_messages = warning;
SELECT body FROM cmq.q_dead_dlq_live ORDER BY msg_id;
SELECT count(*) AS forged FROM cmq_data.q_dead_elsewhere;
SELECT cmq_drop_queue('dead_elsewhere');
SELECT pg_temp.attempt($$SELECT cmq_redrive('dead_none')$$) AS unknown,
	   pg_temp.attempt($$SELECT cmq_redrive(NULL)$$) AS "null",
	   pg_temp.attempt($$SELECT cmq_redrive('dead_dlq', 0)$$) AS zero,
	   pg_temp.attempt($$SELECT cmq_unbind_dead_letter('dead_none')$$) AS unknown;

--
-- Rights.  Who may receive from a queue needs none on its dead-letter queue; who
-- binds it does.
--
CREATE ROLE regress_dead;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_dead;
GRANT UPDATE, DELETE ON cmq.q_dead_a TO regress_dead;
SET ROLE regress_dead;
SELECT pg_temp.attempt($$SELECT cmq_alter_queue('dead_a', dead_letter_queue => 'dead_dlq', max_receive_count => 1)$$) AS no_right,
	   pg_temp.attempt($$SELECT cmq_create_queue('dead_d', dead_letter_queue => 'dead_dlq', max_receive_count => 1)$$) AS no_right,
	   pg_temp.attempt($$SELECT cmq_redrive('dead_dlq')$$) AS no_right;
RESET ROLE;
SELECT cmq_alter_queue('dead_a', dead_letter_queue => 'dead_dlq', max_receive_count => 1);
SELECT cmq_send('dead_a', 'by another role') IS NOT NULL AS sent;
SET ROLE regress_dead;
SELECT count(*) FROM cmq_receive('dead_a', 10);
RESET ROLE;
SELECT pg_temp.ready('dead_a');
SET ROLE regress_dead;
SELECT count(*) AS moved FROM cmq_receive('dead_a', 10);
RESET ROLE;
SELECT count(*) FROM cmq.q_dead_dlq_live WHERE body = 'by another role';
GRANT DELETE ON cmq.q_dead_dlq TO regress_dead;
SET ROLE regress_dead;
SELECT pg_temp.attempt($$SELECT cmq_redrive('dead_dlq')$$) AS may_not_send;
RESET ROLE;
DROP OWNED BY regress_dead;
DROP ROLE regress_dead;

--
-- The limits of a dead-letter queue hold for dead letters too: what it does not
-- take stays where it is, and no receive tries again before maintenance has.  A
-- receive that waits returns at once when it has moved one.
--
SELECT cmq_clear_queue('dead_dlq') >= 0 AS cleared;
SELECT cmq_alter_queue('dead_dlq', max_msg_heap_num => 1, max_msg_size => 1024);
SELECT cmq_send('dead_a', repeat('x', 2000)) IS NOT NULL AS sent;
SELECT count(*) FROM cmq_receive('dead_a');
SELECT pg_temp.ready('dead_a');
SELECT cmq_send('dead_a', 'small') IS NOT NULL AS sent;
SELECT pg_temp.receive('dead_a') AS "small";
SELECT pg_temp.live('dead_a') NOT LIKE '%small ready%' AS in_flight, pg_temp.live('dead_dlq') AS not_moved;
SELECT pg_temp.receive('dead_a') AS no_second_warning;
SELECT cmq_maintain('dead_a');
SELECT cmq_alter_queue('dead_dlq', max_msg_size => 4096);
SELECT pg_temp.receive('dead_a') AS not_before_maintenance, pg_temp.live('dead_dlq') AS not_moved;
SELECT cmq_maintain('dead_a');
SELECT length(body) FROM cmq.q_dead_dlq_live;
SELECT pg_temp.ready('dead_a');
SELECT pg_temp.receive('dead_a') AS "full";
SELECT cmq_alter_queue('dead_dlq', max_msg_heap_num => 2);
SELECT cmq_maintain('dead_a');
SELECT array_agg(length(body) ORDER BY msg_id) FROM cmq.q_dead_dlq_live;
SELECT cmq_alter_queue('dead_dlq', max_msg_heap_num => 10);
SELECT cmq_send('dead_a', 'last') IS NOT NULL AS sent;
SELECT pg_temp.receive('dead_a');
SELECT pg_temp.ready('dead_a');
SELECT clock_timestamp() AS before \gset
SELECT count(*) FROM cmq_receive('dead_a', polling_wait_seconds => 30);
SELECT clock_timestamp() - :'before' < interval '25 s' AS at_once;
SELECT count(*) FROM cmq.q_dead_dlq_live WHERE body = 'last';

--
-- Consuming in one transaction with the work, as docs/applications.md shows it: work that fails each
-- time holds up nobody, and its message goes to the dead-letter queue in the end.
--
SELECT cmq_clear_queue('dead_a'), cmq_clear_queue('dead_dlq');
SELECT cmq_alter_queue('dead_a', max_receive_count => 2);
CREATE TEMP TABLE work (body text CHECK (body <> 'poison'));
SELECT cmq_send('dead_a', 'poison') > 0 AS sent;
SELECT cmq_send('dead_a', 'good') > 0 AS sent;
CREATE FUNCTION pg_temp.consume_one() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	m record;
BEGIN
	SELECT * INTO m FROM cmq_receive('dead_a');
	IF NOT FOUND THEN RETURN 'nothing'; END IF;
	BEGIN
		INSERT INTO work VALUES (m.body);
		PERFORM cmq_delete('dead_a', m.receipt_handle);
		RETURN m.body || ': done';
	EXCEPTION WHEN check_violation THEN
		PERFORM cmq_release('dead_a', ARRAY[m.receipt_handle], 60);
		RETURN m.body || ': failed, received ' || m.receive_count;
	END;
END $$;
SELECT pg_temp.consume_one();
SELECT pg_temp.consume_one();
SELECT pg_temp.consume_one();
SELECT pg_temp.ready('dead_a');
SELECT pg_temp.consume_one();
SELECT pg_temp.ready('dead_a');
SELECT pg_temp.consume_one();
SELECT body FROM cmq.q_dead_dlq_live;
SELECT body FROM work;

SELECT cmq_drop_queue('dead_a');
SELECT cmq_drop_queue('dead_dlq');

-- A redrive ends, also if somebody has put a message at the beginning of all time that is
-- no letter, and so stays.
SELECT cmq_create_queue('dead_beginning');
SELECT cmq_send('dead_beginning', 'no letter') > 0 AS sent;
UPDATE cmq_data.q_dead_beginning_pending SET visible_at = '-infinity';
SET statement_timeout = '60s';
SELECT cmq_redrive('dead_beginning') AS none;
RESET statement_timeout;
SELECT cmq_drop_queue('dead_beginning');
