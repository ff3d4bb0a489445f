-- cmq_change_visibility and cmq_change_visibility_batch: longer, shorter, at once;
-- errors; transactions.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('visibility_a', visibility_timeout => 30, rewind_seconds => 3600);

--
-- Longer: a new handle, the old one is stale, nothing else changes.
--
SELECT cmq_send('visibility_a', 'one') AS id \gset
SELECT receipt_handle AS h1, first_received_at AS first, next_visible_at AS until FROM cmq_receive('visibility_a') \gset
SELECT clock_timestamp() AS before \gset
SELECT cmq_change_visibility('visibility_a', :'h1', 600) AS h2 \gset
SELECT visible_at BETWEEN :'before'::timestamptz + interval '600 s' AND clock_timestamp() + interval '600 s' AS counted_from_now,
	   first_received_at = :'first' AS first_kept, receive_count, rewind_count, state,
	   :'h2' = format('%s-%s-1-0-1', msg_id, cmq.msg_id(visible_at)) AS handle_names_it
  FROM cmq.q_visibility_a_live;
SELECT cmq_change_visibility('visibility_a', :'h1', 600) IS NULL AS old_is_stale;
SELECT pg_temp.receive('visibility_a') AS received;
-- the longest and the shortest
SELECT cmq_change_visibility('visibility_a', :'h2', 43200) AS h3 \gset
SELECT visible_at > now() + interval '43000 s' AS hidden_for_long FROM cmq.q_visibility_a_live;
SELECT cmq_change_visibility('visibility_a', :'h3', 1) AS h4 \gset
SELECT visible_at < clock_timestamp() + interval '2 s' AS soon FROM cmq.q_visibility_a_live;
-- and again from the newest handle
SELECT cmq_change_visibility('visibility_a', :'h4', 43200) AS h5 \gset
SELECT count(*) AS stale FROM (VALUES (:'h1'), (:'h2'), (:'h3'), (:'h4')) v (h)
 WHERE cmq_change_visibility('visibility_a', h, 5) IS NULL;

--
-- Zero: ready at once.
--
SELECT cmq_change_visibility('visibility_a', :'h5', 0) AS h6 \gset
SELECT state, receive_count, visible_at <= clock_timestamp() AS visible FROM cmq.q_visibility_a_live;
SELECT pg_temp.counts('visibility_a');
SELECT receipt_handle AS h7, receive_count, first_received_at = :'first' AS first_kept FROM cmq_receive('visibility_a') \gset
SELECT :receive_count AS receive_count, :'first_kept' AS first_kept;
SELECT cmq_delete('visibility_a', :'h6') AS handle_before_the_receive,
	   cmq_change_visibility('visibility_a', :'h6', 5) AS handle_before_the_receive;
-- the handle that 0 returned is good until the message is received again
SELECT cmq_change_visibility('visibility_a', :'h7', 0) AS h8 \gset
SELECT cmq_change_visibility('visibility_a', :'h8', 60) AS h9 \gset
SELECT state FROM cmq.q_visibility_a_live;
SELECT cmq_change_visibility('visibility_a', :'h9', 0) AS h10 \gset
SELECT cmq_delete('visibility_a', :'h10') AS deleted_while_ready;
SELECT cmq_change_visibility('visibility_a', :'h10', 60) IS NULL AS stale_after_delete;
SELECT pg_temp.history('visibility_a'), pg_temp.counts('visibility_a');

--
-- After the timeout ran out, before the next receive: still good.
--
SELECT cmq_send('visibility_a', 'two') > 0 AS sent;
SELECT pg_temp.receive('visibility_a') AS received;
UPDATE cmq_data.q_visibility_a_pending SET visible_at = visible_at - interval '40 s';
SELECT pg_temp.live('visibility_a');
SELECT cmq_change_visibility('visibility_a', format('%s-%s-1-0', cmq.msg_id(enqueued_at), cmq.msg_id(visible_at)), 30) IS NOT NULL AS hidden_again
  FROM cmq_data.q_visibility_a_pending;
SELECT pg_temp.live('visibility_a'), pg_temp.receive('visibility_a') AS received;
-- what is ready again comes after what became visible before it
SELECT count(*) FROM cmq_send_batch('visibility_a', '{three,four}');
SELECT cmq_change_visibility('visibility_a', format('%s-%s-1-0-1', cmq.msg_id(enqueued_at), cmq.msg_id(visible_at)), 0) IS NOT NULL AS given_back
  FROM cmq_data.q_visibility_a_pending WHERE receive_count = 1;
SELECT body, receive_count FROM cmq_receive('visibility_a', 10) WITH ORDINALITY ORDER BY ordinality;
UPDATE cmq_data.q_visibility_a_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('visibility_a');

--
-- No handle comes back, whatever the times: neither the first one nor one in between.
--
SELECT cmq_send('visibility_a', 'same time') AS id \gset
SELECT receipt_handle AS h1 FROM cmq_receive('visibility_a') \gset
SELECT cmq_change_visibility('visibility_a', :'h1', 100) AS h2 \gset
SELECT cmq_change_visibility('visibility_a', :'h2', 200) AS h3 \gset
UPDATE cmq_data.q_visibility_a_pending SET visible_at = cmq.enqueued_at(split_part(:'h1', '-', 2)::bigint);
SELECT cmq_delete('visibility_a', :'h1') AS first, cmq_delete('visibility_a', regexp_replace(:'h1', '$', '-2')) AS deleted;
SELECT cmq_restore_messages('visibility_a', ARRAY[:id]) = :id AS restored;
SELECT receipt_handle AS h1 FROM cmq_receive('visibility_a') \gset
SELECT cmq_change_visibility('visibility_a', :'h1', 100) AS h2 \gset
SELECT cmq_change_visibility('visibility_a', :'h2', 200) AS h3 \gset
UPDATE cmq_data.q_visibility_a_pending SET visible_at = cmq.enqueued_at(split_part(:'h2', '-', 2)::bigint);
SELECT cmq_delete('visibility_a', :'h1') AS first, cmq_delete('visibility_a', :'h2') AS second, right(:'h3', 5) AS ends_in;
SELECT cmq_delete('visibility_a', format('%s-%s-1-1-2', :id, cmq.msg_id(visible_at))) AS deleted FROM cmq_data.q_visibility_a_pending;
-- a delivery after the change has the count, too; when the message is brought back it begins anew
SELECT cmq_restore_messages('visibility_a', ARRAY[:id]) = :id AS restored;
SELECT cmq_change_visibility('visibility_a', receipt_handle, 0) IS NOT NULL AS changed, receipt_handle ~ '-1-2$' AS begins_anew FROM cmq_receive('visibility_a');
SELECT cmq_delete('visibility_a', receipt_handle) AS deleted, receipt_handle ~ '-2-2-1$' AS keeps_it FROM cmq_receive('visibility_a');

--
-- An expired message has no good handle any more.
--
SELECT count(*) FROM cmq_send_batch('visibility_a', '{old,new}');
CREATE TEMP TABLE got AS SELECT * FROM cmq_receive('visibility_a', 2);
UPDATE cmq.queue SET expired_before = (SELECT enqueued_at FROM got WHERE body = 'new') WHERE name = 'visibility_a';
SELECT pg_temp.reload('visibility_a');
SELECT body, cmq_change_visibility('visibility_a', receipt_handle, 0) IS NOT NULL AS changed FROM got ORDER BY msg_id;
SELECT pg_temp.consume('visibility_a');

--
-- Errors.
--
SELECT n, pg_temp.attempt(format('SELECT cmq_change_visibility(%s)', args))
  FROM (VALUES
	(1, $$'visibility_a', '1-2-3-4', -1$$), (2, $$'visibility_a', '1-2-3-4', 43201$$),
	(3, $$'visibility_a', '1-2-3-4', NULL$$), (4, $$'visibility_a', NULL, 1$$),
	(5, $$NULL, '1-2-3-4', 1$$), (6, $$'visibility_x', '1-2-3-4', 1$$),
	(7, $$'visibility_a', '1-2-3', 1$$), (8, $$'visibility_a', '', 1$$),
	(9, $$'visibility_a', '1-2-3-4', 43200$$), (10, $$'visibility_a', '1-2-3-4', 0$$)) v (n, args)
 ORDER BY n;
SELECT cmq_change_visibility('visibility_a', '1-2-3-4', 1) IS NULL AS never_was;

--
-- Transactions.
--
SELECT cmq_send('visibility_a', 'x') > 0 AS sent;
SELECT receipt_handle AS h1 FROM cmq_receive('visibility_a') \gset
BEGIN;
SELECT cmq_change_visibility('visibility_a', :'h1', 0) AS h2 \gset
SELECT receipt_handle AS h3 FROM cmq_receive('visibility_a') \gset
SELECT cmq_delete('visibility_a', :'h3') AS deleted;
ROLLBACK;
SELECT cmq_delete('visibility_a', :'h2') OR cmq_delete('visibility_a', :'h3') AS handles_of_what_never_was;
SELECT body, state, receive_count FROM cmq.q_visibility_a_live;
BEGIN;
SAVEPOINT s;
SELECT cmq_change_visibility('visibility_a', :'h1', 0) AS h2 \gset
ROLLBACK TO s;
SELECT cmq_change_visibility('visibility_a', :'h2', 0) IS NULL AS undone;
SELECT cmq_change_visibility('visibility_a', :'h1', 50) AS h4 \gset
COMMIT;
SELECT cmq_delete('visibility_a', :'h1') AS old, cmq_delete('visibility_a', :'h4') AS new;
-- in one statement: received, hidden for longer, deleted
SELECT cmq_send('visibility_a', 'y') > 0 AS sent;
SELECT cmq_delete('visibility_a', cmq_change_visibility('visibility_a', receipt_handle, 60)) AS deleted
  FROM cmq_receive('visibility_a');
-- a heartbeat: many extensions of one message
SELECT cmq_send('visibility_a', 'long work') > 0 AS sent;
DO $$
DECLARE
	handle text := (SELECT receipt_handle FROM cmq_receive('visibility_a'));
BEGIN
	FOR i IN 1..200 LOOP
		handle := cmq_change_visibility('visibility_a', handle, 30 + i);
		IF handle IS NULL THEN
			RAISE EXCEPTION 'lost the message in round %', i;
		END IF;
	END LOOP;
	IF NOT cmq_delete('visibility_a', handle) THEN
		RAISE EXCEPTION 'the last handle is stale';
	END IF;
END $$;
SELECT receive_count FROM cmq.q_visibility_a_history WHERE body = 'long work';
SELECT pg_temp.counts('visibility_a');

--
-- Many at once: a row for each that was changed, in the order of the array.
--
SELECT cmq_create_queue('visibility_b');
SELECT count(*) FROM cmq_send_batch('visibility_b', '{a,b,c,d,e}');
TRUNCATE got;
INSERT INTO got SELECT * FROM cmq_receive('visibility_b', 10);
SELECT cmq_delete('visibility_b', receipt_handle) AS e_deleted FROM got WHERE body = 'e';
CREATE FUNCTION pg_temp.handles(bodies text[]) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(receipt_handle ORDER BY ordinality) FROM unnest(bodies) WITH ORDINALITY b (body, ordinality) JOIN got USING (body)
$$;
CREATE TEMP TABLE changed AS
	SELECT * FROM cmq_change_visibility_batch('visibility_b', pg_temp.handles('{d,a,e,d,b,a}') || '{1-2-3-4,9223372036854775807-2-3-4}'::text[], 600)
		WITH ORDINALITY c (old_handle, new_handle, n);
SELECT n, body, new_handle <> old_handle AS changed, new_handle LIKE msg_id || '-%-1-0-1' AS names_it
  FROM changed JOIN got ON receipt_handle = old_handle ORDER BY n;
SELECT count(DISTINCT visible_at) AS times, bool_and(visible_at > clock_timestamp() + interval '500 s') AS far, string_agg(body, ' ' ORDER BY msg_id) AS bodies
  FROM cmq.q_visibility_b_live WHERE visible_at > clock_timestamp() + interval '100 s';
SELECT * FROM cmq_change_visibility_batch('visibility_b', pg_temp.handles('{a,b,d,e}'), 0);
SELECT count(*) FROM cmq_delete_batch('visibility_b', pg_temp.handles('{a,b,d,e}'));
-- at once: they come in the order of production, as they became visible together
SELECT count(*) FROM cmq_change_visibility_batch('visibility_b', ARRAY(SELECT new_handle FROM changed ORDER BY n) || pg_temp.handles('{c}'), 0);
SELECT pg_temp.live('visibility_b'), pg_temp.receive('visibility_b') AS received, pg_temp.receive('visibility_b') AS received;
-- no handle is given twice, however the times fall, and none of the old ones is good
DO $$
DECLARE
	handles text[];
	old text[] := '{}';
	n bigint;
BEGIN
	UPDATE cmq_data.q_visibility_b_pending SET visible_at = enqueued_at;
	handles := array(SELECT receipt_handle FROM cmq_receive('visibility_b', 10));
	FOR i IN 1..300 LOOP
		old := old || handles;
		handles := array(SELECT new_handle FROM cmq_change_visibility_batch('visibility_b', handles, (ARRAY[0, 60, 0, 59, 61])[1 + i % 5]));
		IF cardinality(handles) <> 4 THEN
			RAISE EXCEPTION 'round %: %', i, handles;
		END IF;
	END LOOP;
	SELECT count(*) INTO n FROM cmq_delete_batch('visibility_b', old);
	IF n <> 0 OR (SELECT count(DISTINCT h) FROM unnest(old || handles) h) <> 4 * 301 THEN
		RAISE EXCEPTION '% handles came back', n;
	END IF;
	SELECT count(*) INTO n FROM cmq_delete_batch('visibility_b', handles);
	IF n <> 4 THEN
		RAISE EXCEPTION '% of 4 deleted', n;
	END IF;
END $$;
SELECT n, pg_temp.attempt(format('SELECT * FROM cmq_change_visibility_batch(%s)', args))
  FROM (VALUES
	(1, $$'visibility_b', '{}', 1$$), (2, $$'visibility_b', '{1-2-3-4}', 1$$), (3, $$'visibility_b', '{1-2-3-4,NULL}', 1$$),
	(4, $$'visibility_b', '{1-2-3-4,x}', 1$$), (5, $$'visibility_b', '{{1-2-3-4},{1-2-3-5}}', 1$$), (6, $$'visibility_b', NULL, 1$$),
	(7, $$'visibility_b', '{}', -1$$), (8, $$'visibility_b', '{}', 43201$$), (9, $$'visibility_b', '{}', NULL$$), (10, $$NULL, '{}', 1$$)) v (n, args)
 ORDER BY n;
-- undone with its transaction, or with its savepoint
SELECT count(*) FROM cmq_send_batch('visibility_b', '{x,y}');
TRUNCATE got;
INSERT INTO got SELECT * FROM cmq_receive('visibility_b', 10);
BEGIN;
SELECT count(*) FROM cmq_change_visibility_batch('visibility_b', pg_temp.handles('{x,y}'), 0);
SELECT pg_temp.live('visibility_b');
ROLLBACK;
BEGIN;
SELECT count(*) FROM cmq_change_visibility_batch('visibility_b', pg_temp.handles('{y}'), 0);
SAVEPOINT s;
SELECT count(*) FROM cmq_change_visibility_batch('visibility_b', pg_temp.handles('{x,y}'), 0);
ROLLBACK TO s;
COMMIT;
SELECT pg_temp.live('visibility_b');
SELECT body, cmq_delete('visibility_b', receipt_handle) AS deleted FROM got ORDER BY msg_id;

SELECT cmq_drop_queue('visibility_a');
SELECT cmq_drop_queue('visibility_b');
