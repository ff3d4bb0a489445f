-- Redrive of chosen dead letters: by headers, by ids, by both.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('redrive_dlq', visibility_timeout => 43200, rewind_seconds => 3600);
SELECT cmq_create_queue('redrive_a', visibility_timeout => 43200, dead_letter_queue => 'redrive_dlq', max_receive_count => 1);
SELECT cmq_create_queue('redrive_b', visibility_timeout => 43200, dead_letter_queue => 'redrive_dlq', max_receive_count => 1);

-- messages of this queue that have become dead letters; the header n is their number
CREATE FUNCTION pg_temp.die(queue text, bodies text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM FROM cmq_send_batch(queue, bodies, headers => array(SELECT jsonb_build_object('n', i) FROM generate_series(1, cardinality(bodies)) i));
	PERFORM FROM cmq_receive(queue, 1000) r, cmq_change_visibility(queue, r.receipt_handle, 0);
	PERFORM cmq_maintain(queue);
END $$;
-- what is dead, what is back in a and b; all that is back is consumed
CREATE FUNCTION pg_temp.outcome(OUT dead text, OUT back_a text, OUT back_b text) LANGUAGE sql AS $$
	SELECT pg_temp.live('redrive_dlq'), pg_temp.consume('redrive_a'), pg_temp.consume('redrive_b')
$$;
-- ids of dead letters, in the order of these bodies
CREATE FUNCTION pg_temp.ids(VARIADIC bodies text[]) RETURNS bigint[] LANGUAGE sql AS $$
	SELECT array_agg(msg_id ORDER BY array_position(bodies, body)) FROM cmq.q_redrive_dlq_all WHERE body = ANY (bodies)
$$;
SET client_min_messages = notice;

--
-- By headers.  They are those that the letters have in the dead-letter queue.
--
SELECT pg_temp.die('redrive_a', '{a1,a2,a3}');
SELECT pg_temp.die('redrive_b', '{b1,b2,b3}');
SELECT cmq_redrive('redrive_dlq', filter => '{"cmq_dead_letter": {"queue": "redrive_b"}, "n": 2}') AS one;
SELECT * FROM pg_temp.outcome();
SELECT cmq_redrive('redrive_dlq', 1, '{"cmq_dead_letter": {"queue": "redrive_b"}}') AS "oldest of b";
SELECT * FROM pg_temp.outcome();
SELECT cmq_redrive('redrive_dlq', filter => '{"cmq_dead_letter": {"queue": "redrive_b"}}') AS "rest of b";
SELECT * FROM pg_temp.outcome();
SELECT cmq_redrive('redrive_dlq', filter => '{"cmq_dead_letter": {"queue": "redrive_b"}}') AS none_left,
	   cmq_redrive('redrive_dlq', filter => '{"n": 4}') AS no_such, cmq_redrive('redrive_dlq', filter => '[]') AS no_array;
-- sent back without that header, and consumed in the dead-letter queue
SELECT cmq_redrive('redrive_dlq', filter => '{"n": 3}');
SELECT body, headers FROM cmq.q_redrive_a_live;
SELECT pg_temp.outcome();
SELECT body, headers #>> '{cmq_dead_letter,queue}' AS queue, deleted_by = current_user AS by_me FROM cmq.q_redrive_dlq_history ORDER BY body;
-- rolled back
BEGIN;
SELECT cmq_redrive('redrive_dlq', filter => '{"n": 1}');
SAVEPOINT s;
SELECT cmq_redrive('redrive_dlq', filter => '{}');
ROLLBACK TO s;
SELECT pg_temp.live('redrive_dlq') AS dead, pg_temp.live('redrive_a') AS back;
ROLLBACK;
SELECT * FROM pg_temp.outcome();

--
-- By ids, in any order; those of the letters, which are others than in their queue.
--
SELECT cmq_redrive('redrive_dlq', msg_ids => pg_temp.ids('a2', 'a1')) AS two;
SELECT * FROM pg_temp.outcome();
SELECT pg_temp.die('redrive_a', '{c1,c2,c3,c4,c5,c6}');
SELECT cmq_redrive('redrive_dlq', msg_ids => pg_temp.ids('c5') || pg_temp.ids('c2', 'c5')) AS each_once;
SELECT * FROM pg_temp.outcome();
-- what is no message, was one of its queue, is consumed, delayed or in flight
SELECT cmq_send('redrive_dlq', 'delayed', 3600) AS delayed \gset
SELECT msg_id AS in_flight FROM cmq_receive('redrive_dlq') \gset
SELECT cmq_redrive('redrive_dlq', msg_ids => pg_temp.ids('c3', 'c2') || ARRAY[1, -1, 9223372036854775807, -9223372036854775808, :delayed, :in_flight] ||
		(SELECT (headers #>> '{cmq_dead_letter,msg_id}')::bigint FROM cmq.q_redrive_dlq_live WHERE body = 'c4')) AS "c3";
SELECT * FROM pg_temp.outcome();
-- received before and ready again: wherever it stands now
SELECT body, cmq_change_visibility('redrive_dlq', receipt_handle, 0) IS NOT NULL AS again FROM cmq_receive('redrive_dlq', 2);
SELECT cmq_redrive('redrive_dlq', 2, msg_ids => pg_temp.ids('c4', 'c6')) AS both;
SELECT * FROM pg_temp.outcome();
SELECT cmq_redrive('redrive_dlq', msg_ids => '{}') AS none, cmq_redrive('redrive_dlq', msg_ids => '{}', filter => '{}') AS none;
-- in the order in which they are ready
UPDATE cmq_data.q_redrive_dlq_pending SET visible_at = enqueued_at;
SELECT pg_temp.live('redrive_dlq') AS dead;
SELECT pg_temp.die('redrive_b', '{d1,d2,d3}');
SELECT body, cmq_change_visibility('redrive_dlq', receipt_handle, 0) IS NOT NULL AS again FROM cmq_receive('redrive_dlq', 3);
SELECT cmq_redrive('redrive_dlq', 2, msg_ids => pg_temp.ids('c1', 'd1', 'd2', 'd3')) AS "d2, d3";
SELECT * FROM pg_temp.outcome();
SELECT cmq_redrive('redrive_dlq', 1, msg_ids => pg_temp.ids('c1', 'd1')) AS "c1";
SELECT * FROM pg_temp.outcome();

--
-- By both.  What the one leaves out is neither missing nor left.
--
SELECT pg_temp.die('redrive_a', '{e1,e2,e3}');
SELECT cmq_redrive('redrive_dlq', filter => '{"n": 1}', msg_ids => pg_temp.ids('e1', 'e2')) AS "e1";
SELECT * FROM pg_temp.outcome();
SELECT cmq_redrive('redrive_dlq', filter => '{"n": 2}', msg_ids => pg_temp.ids('e1', 'e3')) AS "none, e1 is gone";

--
-- The notice of what stays counts what was chosen.
--
SELECT cmq_unbind_dead_letter('redrive_b');
SELECT cmq_redrive('redrive_dlq', filter => '{"n": 3}') AS "e3";
SELECT cmq_redrive('redrive_dlq', filter => '{"n": 1}') AS "d1 stays";
SELECT cmq_redrive('redrive_dlq', msg_ids => pg_temp.ids('d1', 'delayed') || 1::bigint) AS "d1 and delayed stay";
SELECT cmq_redrive('redrive_dlq', filter => '{"cmq_dead_letter": {"queue": "redrive_a"}}') AS "e2";
SELECT * FROM pg_temp.outcome();
SELECT cmq_redrive('redrive_dlq') AS none;

--
-- Rights: who chooses needs UPDATE, with a filter also SELECT; INSERT on the queues that
-- get messages.
--
SET client_min_messages = warning;
SELECT cmq_alter_queue('redrive_b', dead_letter_queue => 'redrive_dlq', max_receive_count => 1);
CREATE ROLE regress_redrive;
-- each call is undone
CREATE FUNCTION pg_temp.may(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE 'SELECT ' || command INTO n;
	RAISE SQLSTATE 'CMQ00' USING MESSAGE = n || ' sent back';
EXCEPTION WHEN insufficient_privilege OR SQLSTATE 'CMQ00' THEN
	RETURN SQLERRM;
END $$;
CREATE FUNCTION pg_temp.with_rights(rights text) RETURNS TABLE ("any" text, by_ids text, by_filter text, by_both text) LANGUAGE plpgsql AS $$
DECLARE
	d1 bigint[] := pg_temp.ids('d1');
BEGIN
	EXECUTE format('GRANT %s ON cmq.q_redrive_dlq TO regress_redrive', rights);
	SET LOCAL ROLE regress_redrive;
	"any" := pg_temp.may($c$cmq_redrive('redrive_dlq')$c$);
	by_ids := pg_temp.may(format($c$cmq_redrive('redrive_dlq', msg_ids => %L)$c$, d1));
	by_filter := pg_temp.may($c$cmq_redrive('redrive_dlq', filter => '{"n": 1}')$c$);
	by_both := pg_temp.may(format($c$cmq_redrive('redrive_dlq', NULL, '{"n": 1}', %L)$c$, d1));
	RESET ROLE;
	EXECUTE format('REVOKE %s ON cmq.q_redrive_dlq FROM regress_redrive', rights);
	RETURN NEXT;
END $$;
SELECT * FROM pg_temp.with_rights('UPDATE, SELECT, DELETE') \gx
GRANT INSERT ON cmq.q_redrive_b TO regress_redrive;
SELECT * FROM pg_temp.with_rights('INSERT') \gx
SELECT * FROM pg_temp.with_rights('DELETE, SELECT') \gx
SELECT * FROM pg_temp.with_rights('UPDATE') \gx
SELECT * FROM pg_temp.with_rights('UPDATE, SELECT') \gx
DROP OWNED BY regress_redrive;
DROP ROLE regress_redrive;

--
-- Errors.
--
SELECT pg_temp.attempt(format('SELECT cmq_redrive(%s)', args))
  FROM (VALUES
	(1, $$'redrive_none', filter => '{}'$$),
	(2, $$'redrive_none', msg_ids => '{1}'$$),
	(3, $$NULL, filter => '{}'$$),
	(4, $$'redrive_dlq', 0, filter => '{}'$$),
	(5, $$'redrive_dlq', -1, msg_ids => '{1}'$$),
	(6, $$'redrive_dlq', msg_ids => '{NULL}'$$),
	(7, $$'redrive_dlq', msg_ids => '{1,NULL}'$$),
	(8, $$'redrive_dlq', msg_ids => '{{1},{2}}'$$),
	(9, $$'redrive_dlq', msg_ids => '[5:6]={1,2}'$$),
	(10, $$'redrive_dlq', filter => jsonb_build_object('k', repeat('f', 9000))$$),
	(11, $$'redrive_dlq', filter => jsonb_build_object('k', repeat('f', 8000))$$),
	(12, $$'redrive_dlq', NULL, NULL, NULL$$)) v (n, args)
 ORDER BY n;
SELECT pg_temp.live('redrive_dlq') AS dead, pg_temp.live('redrive_b') AS back;
--
-- Letters that a rewind or a restore has brought back are ready like any other.
--
SELECT cmq_clear_queue('redrive_dlq') AS cleared, cmq_clear_queue('redrive_b') AS cleared;
SELECT cmq_alter_queue('redrive_dlq', rewind_seconds => 0);
SELECT cmq_alter_queue('redrive_dlq', rewind_seconds => 3600);
SET client_min_messages = notice;
SELECT pg_temp.die('redrive_a', '{f1,f2,f3,f4,f5,f6}');
SELECT pg_temp.die('redrive_b', '{g1}');
SELECT cmq_redrive('redrive_dlq') AS by_mistake;
SELECT * FROM pg_temp.outcome();
CREATE FUNCTION pg_temp.rewind() RETURNS text LANGUAGE sql AS $$
	SELECT body FROM cmq.q_redrive_dlq_all WHERE enqueued_at = cmq_rewind('redrive_dlq', (SELECT min(enqueued_at) FROM cmq.q_redrive_dlq_all))
$$;
SELECT pg_temp.rewind();
SELECT pg_temp.live('redrive_dlq') AS dead, pg_temp.counts('redrive_dlq');
BEGIN;
SELECT cmq_redrive('redrive_dlq') AS all_of_them;
SELECT * FROM pg_temp.outcome();
SELECT pg_temp.counts('redrive_dlq');
ROLLBACK;
SELECT * FROM pg_temp.outcome();
SELECT cmq_redrive('redrive_dlq', msg_ids => pg_temp.ids('f3', 'f2')) AS two;
SELECT * FROM pg_temp.outcome();
SELECT cmq_redrive('redrive_dlq', msg_ids => pg_temp.ids('f3', 'f2')) AS history_again;
-- the life of a message begins anew with a rewind
SELECT body, receive_count, rewind_count, first_received_at IS NULL AS not_received, deleted_by = current_user AS by_me FROM cmq.q_redrive_dlq_history ORDER BY msg_id;
SELECT left_of_rewind, pending_msg_num FROM cmq.metrics WHERE queue = 'redrive_dlq';
-- among those that wait; one that was received is in flight, and not brought back again
SELECT cmq_send('redrive_dlq', 'waits', headers => '{"cmq_dead_letter": {"queue": "redrive_b"}}') > 0 AS sent;
SELECT body FROM cmq_receive('redrive_dlq');
SELECT cmq_redrive('redrive_dlq', 1) AS "f4";
SELECT * FROM pg_temp.outcome();
SELECT cmq_redrive('redrive_dlq', 2, '{"cmq_dead_letter": {"queue": "redrive_b"}}') AS "g1, waits";
SELECT * FROM pg_temp.outcome();
SELECT cmq_redrive('redrive_dlq', 1, '{"n": 6}', pg_temp.ids('f1', 'f5', 'f6')) AS "f6; f1 is in flight";
SELECT * FROM pg_temp.outcome();
-- what stays is brought back all the same
SELECT cmq_unbind_dead_letter('redrive_a');
SELECT cmq_redrive('redrive_dlq') AS none;
SELECT * FROM pg_temp.outcome();
SELECT cmq_cancel_rewind('redrive_dlq') AS cancelled;
SELECT cmq_redrive('redrive_dlq') AS none;
SELECT pg_temp.live('redrive_dlq') AS dead, pg_temp.history('redrive_dlq') AS history;
-- rewound once more; restored; with one that waits
UPDATE cmq_data.q_redrive_dlq_pending SET visible_at = enqueued_at;
SELECT cmq_alter_queue('redrive_a', dead_letter_queue => 'redrive_dlq', max_receive_count => 1);
SELECT pg_temp.rewind();
SELECT cmq_redrive('redrive_dlq', 3) AS "f1 .. f3";
SELECT * FROM pg_temp.outcome();
SELECT count(*) AS restored FROM cmq_restore_messages('redrive_dlq', pg_temp.ids('f1', 'f2'));
SELECT cmq_redrive('redrive_dlq', 4) AS "f1, f2, f4, f5";
SELECT * FROM pg_temp.outcome();
SELECT count(*) AS restored FROM cmq_restore_messages('redrive_dlq', pg_temp.ids('f3', 'f4'));
SELECT cmq_redrive('redrive_dlq', filter => '{"n": 4}') AS "f4";
SELECT cmq_redrive('redrive_dlq', msg_ids => pg_temp.ids('f6', 'f3', 'f1')) AS "f3, f6";
SELECT * FROM pg_temp.outcome();
SELECT body, receive_count, rewind_count FROM cmq.q_redrive_dlq_history ORDER BY msg_id;
-- a clear removes what was restored, and gives back what is left of a rewind
SELECT count(*) AS restored FROM cmq_restore_messages('redrive_dlq', pg_temp.ids('f1'));
SELECT pg_temp.live('redrive_dlq') AS dead;
SELECT cmq_clear_queue('redrive_dlq') AS cleared;
SELECT pg_temp.live('redrive_dlq') AS dead, pg_temp.history('redrive_dlq') AS history;
SELECT cmq_redrive('redrive_dlq') AS none;
SET client_min_messages = warning;

--
-- Many.  The entries of the index are walked over two or three times, to list the letters
-- and to find them again, however many portions there are and however few are chosen.
--
SELECT count(*) FROM cmq_send_batch('redrive_dlq', array_fill('many'::text, '{10000}'), headers =>
		array(SELECT jsonb_build_object('cmq_dead_letter', '{"queue": "redrive_a"}'::jsonb, 'part', i % 2, 'rare', i % 1000) FROM generate_series(1, 10000) i));
CREATE FUNCTION pg_temp.walked() RETURNS bigint LANGUAGE sql AS
$$ SELECT pg_stat_get_xact_tuples_returned('cmq_data.q_redrive_dlq_pending_pkey'::regclass) $$;
CREATE FUNCTION pg_temp.counted(command text, OUT sent_back bigint, OUT few_steps boolean) LANGUAGE plpgsql AS $$
DECLARE
	before bigint := pg_temp.walked();
BEGIN
	EXECUTE 'SELECT ' || command INTO sent_back;
	few_steps := pg_temp.walked() - before < 3.2 * 10000;
	RAISE SQLSTATE 'CMQ00';
EXCEPTION WHEN SQLSTATE 'CMQ00' THEN
	RETURN;
END $$;
CREATE TEMP TABLE ids AS SELECT msg_id, headers @> '{"part": 1}' AS odd FROM cmq.q_redrive_dlq_live;
SELECT * FROM pg_temp.counted($$cmq_redrive('redrive_dlq')$$);
SELECT * FROM pg_temp.counted($$cmq_redrive('redrive_dlq', filter => '{"part": 1}')$$);
SELECT * FROM pg_temp.counted($$cmq_redrive('redrive_dlq', filter => '{"rare": 7}')$$);
SELECT * FROM pg_temp.counted($$cmq_redrive('redrive_dlq', msg_ids => array(SELECT msg_id FROM ids WHERE odd))$$);
-- half of them stand where they stood after a receive
UPDATE cmq_data.q_redrive_dlq_pending p SET visible_at = visible_at + interval '1 us' FROM ids WHERE p.enqueued_at = cmq.enqueued_at(msg_id) AND odd;
VACUUM cmq_data.q_redrive_dlq_pending;
SELECT * FROM pg_temp.counted($$cmq_redrive('redrive_dlq', msg_ids => array(SELECT msg_id FROM ids))$$);

-- and so are those of the rewind tables
SELECT count(*) FROM cmq_delete_messages('redrive_dlq', array(SELECT msg_id FROM ids));
SELECT pg_temp.rewind();
CREATE OR REPLACE FUNCTION pg_temp.walked() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid))::bigint FROM cmq.partition p JOIN pg_index i ON i.indrelid = p.rewind WHERE p.queue = 'redrive_dlq'
$$;
SELECT * FROM pg_temp.counted($$cmq_redrive('redrive_dlq', filter => '{"rare": 7}')$$);
SELECT * FROM pg_temp.counted($$cmq_redrive('redrive_dlq', filter => '{"part": 1}')$$);
SELECT * FROM pg_temp.counted($$cmq_redrive('redrive_dlq', msg_ids => array(SELECT msg_id FROM ids WHERE odd))$$);

SELECT cmq_drop_queue('redrive_a');
SELECT cmq_drop_queue('redrive_b');
SELECT cmq_drop_queue('redrive_dlq');
