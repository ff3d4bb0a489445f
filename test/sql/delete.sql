-- cmq_delete: good and stale handles, rewind off and on; errors; transactions.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('delete_off');
SELECT cmq_create_queue('delete_on', rewind_seconds => 3600);

--
-- Rewind off: the message is gone at once.
--
SELECT cmq_send('delete_off', 'one') > 0 AS sent;
SELECT receipt_handle AS handle FROM cmq_receive('delete_off') \gset
SELECT cmq_delete('delete_off', :'handle') AS deleted;
SELECT cmq_delete('delete_off', :'handle') AS again;
SELECT (SELECT count(*) FROM cmq_data.q_delete_off) AS messages,
	   (SELECT count(*) FROM cmq_data.q_delete_off_pending) AS pending,
	   (SELECT count(*) FROM cmq_data.q_delete_off_rewind) AS rewind,
	   (SELECT count(*) FROM cmq.q_delete_off_history) AS history;

--
-- Rewind on: the delivery moves to the history, the body stays where it is.
--
SELECT cmq_send('delete_on', 'one', headers => '{"k": "v"}') AS id \gset
SELECT ctid AS body_at, tableoid AS leaf FROM cmq_data.q_delete_on \gset
SELECT receipt_handle AS handle, first_received_at AS first FROM cmq_receive('delete_on') \gset
SELECT ctid = :'body_at' AND tableoid = :leaf AS body_untouched_by_receive FROM cmq_data.q_delete_on;
SELECT cmq_delete('delete_on', :'handle') AS deleted;
SELECT ctid = :'body_at' AND tableoid = :leaf AS body_untouched_by_delete FROM cmq_data.q_delete_on;
SELECT cmq_delete('delete_on', :'handle') AS again;
SELECT (SELECT count(*) FROM cmq_data.q_delete_on) AS messages,
	   (SELECT count(*) FROM cmq_data.q_delete_on_pending) AS pending,
	   (SELECT count(*) FROM cmq_data.q_delete_on_rewind) AS rewind;
SELECT msg_id = :id AS msg_id, enqueued_at = cmq.enqueued_at(:id) AS enqueued_at,
	   first_received_at = :'first' AS first_received_at,
	   deleted_at BETWEEN first_received_at AND clock_timestamp() AS deleted_at,
	   deleted_by = current_user AS deleted_by, receive_count, rewind_count, headers, body
  FROM cmq.q_delete_on_history;
-- how often it had been received is kept
SELECT cmq_send('delete_on', 'two') > 0 AS sent;
SELECT pg_temp.receive('delete_on') FROM generate_series(1, 1);
UPDATE cmq_data.q_delete_on_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('delete_on');
SELECT body, receive_count FROM cmq.q_delete_on_history ORDER BY msg_id;

-- twice in one statement
SELECT cmq_send('delete_on', 'three') > 0 AS sent;
SELECT receipt_handle AS handle FROM cmq_receive('delete_on') \gset
SELECT cmq_delete('delete_on', :'handle') AS first, cmq_delete('delete_on', :'handle') AS second;

--
-- What makes a handle stale.
--
SELECT cmq_send('delete_on', 'x') > 0 AS sent;
SELECT receipt_handle AS first_handle FROM cmq_receive('delete_on') \gset
-- received again
UPDATE cmq_data.q_delete_on_pending SET visible_at = visible_at - interval '30 s';
SELECT receipt_handle AS second_handle FROM cmq_receive('delete_on') \gset
SELECT :'first_handle' <> :'second_handle' AS new_handle,
	   cmq_delete('delete_on', :'first_handle') AS old_one;
-- its visibility changed
SELECT cmq_change_visibility('delete_on', :'second_handle', 100) AS third_handle \gset
SELECT :'third_handle' <> :'second_handle' AS new_handle,
	   cmq_delete('delete_on', :'second_handle') AS old_one;
SELECT pg_temp.counts('delete_on');
SELECT cmq_delete('delete_on', :'third_handle') AS newest;
SELECT cmq_delete('delete_on', :'first_handle') OR cmq_delete('delete_on', :'second_handle')
	OR cmq_delete('delete_on', :'third_handle') AS any_after_delete;
SELECT pg_temp.history('delete_on'), pg_temp.counts('delete_on');
-- a timeout that ran out does not: the handle is good until the next receive
SELECT cmq_send('delete_on', 'late') > 0 AS sent;
SELECT pg_temp.receive('delete_on', 1);
UPDATE cmq_data.q_delete_on_pending SET visible_at = visible_at - interval '100 s';
SELECT pg_temp.live('delete_on');
SELECT format('%s-%s-1-0', cmq.msg_id(enqueued_at), cmq.msg_id(visible_at)) AS handle FROM cmq_data.q_delete_on_pending \gset
SELECT cmq_delete('delete_on', :'handle') AS deleted_late;
SELECT pg_temp.receive('delete_on') AS received;
-- handles of another queue, of a message that never was, one number off
SELECT cmq_send('delete_off', 'y') > 0 AS sent;
SELECT receipt_handle AS handle, msg_id, cmq.msg_id(next_visible_at) AS visible FROM cmq_receive('delete_off') \gset
SELECT n, cmq_delete(queue, handle)
  FROM (VALUES
	(1, 'delete_on', :'handle'), (2, 'delete_off', '1-2-3-4'),
	(3, 'delete_off', format('%s-%s-1-0', :msg_id + 1, :visible)),
	(4, 'delete_off', format('%s-%s-1-0', :msg_id, :visible + 1)),
	(5, 'delete_off', format('%s-%s-2-0', :msg_id, :visible)),
	(6, 'delete_off', format('%s-%s-1-1', :msg_id, :visible))) v (n, queue, handle)
 ORDER BY n;
SELECT cmq_delete('delete_off', :'handle') AS the_right_one;

-- a message that was not received has no handle, however well it is guessed
SELECT cmq_send('delete_off', 'ready') > 0 AS ready, cmq_send('delete_off', 'delayed', 60) > 0 AS delayed;
SELECT m.body, cmq_delete('delete_off', format('%s-%s-0-0', cmq.msg_id(p.enqueued_at), cmq.msg_id(p.visible_at))) AS deleted,
	   cmq_change_visibility('delete_off', format('%s-%s-0-0', cmq.msg_id(p.enqueued_at), cmq.msg_id(p.visible_at)), 0) AS changed
  FROM cmq_data.q_delete_off_pending p JOIN cmq_data.q_delete_off m USING (enqueued_at) ORDER BY m.enqueued_at;
SELECT pg_temp.live('delete_off');
UPDATE cmq_data.q_delete_off_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('delete_off');

--
-- An expired message is gone, whatever its handle says.
--
SELECT count(*) FROM cmq_send_batch('delete_on', '{old,new}');
CREATE TEMP TABLE got AS SELECT * FROM cmq_receive('delete_on', 2);
UPDATE cmq.queue SET expired_before = (SELECT enqueued_at FROM got WHERE body = 'new') WHERE name = 'delete_on';
SELECT pg_temp.reload('delete_on');
SELECT body, cmq_delete('delete_on', receipt_handle) AS deleted FROM got ORDER BY msg_id;
SELECT pg_temp.history('delete_on');

--
-- Malformed handles.
--
SELECT n, pg_temp.attempt(format('SELECT cmq_delete(%L, %L)', 'delete_on', handle))
  FROM (VALUES
	(1, 'x'), (2, ''), (3, '1'), (4, '1-2-3'), (5, '1-2-3-'), (6, '1-2-3-4-5-6'), (7, ' 1-2-3-4'),
	(8, '1-2-3-4 '), (9, '1-2-3-4x'), (10, '+1-2-3-4'), (11, '-1-2-3-4'), (12, '1--2-3-4'),
	(13, '01-2-3-4'), (14, '1-2-3-0x4'), (15, '1-2-3.0-4'), (16, '1-2-99999999999-4'),
	(17, '99999999999999999999-2-3-4'), (18, '9223372036854775807-2-3-4'),
	(19, '1-9223372036854775807-3-4'), (20, E'1-2-3-4\n'), (21, '1-2-3-4-'), (22, '---'),
	(23, repeat('1', 100000)), (24, '1_000-2-3-4'),
	(25, '1-2-3-4-0'), (26, '1-2-3-4-05'), (27, '1-2-3-4-99999999999'), (28, '1-2-3-4-5')) v (n, handle)
 WHERE n <> 23 ORDER BY n;
SELECT left(pg_temp.attempt(format('SELECT cmq_delete(%L, %L)', 'delete_on', repeat('1', 100000))), 60) AS very_long;
SELECT pg_temp.attempt($$SELECT cmq_delete('delete_on', NULL)$$) AS "null",
	   pg_temp.attempt($$SELECT cmq_delete(NULL, '1-2-3-4')$$) AS no_queue,
	   pg_temp.attempt($$SELECT cmq_delete('delete_x', '1-2-3-4')$$) AS unknown;

--
-- Transactions.
--
SELECT count(*) FROM cmq_send_batch('delete_on', '{a,b,c}');
TRUNCATE got;
INSERT INTO got SELECT * FROM cmq_receive('delete_on', 10);
BEGIN;
SELECT body, cmq_delete('delete_on', receipt_handle) FROM got ORDER BY msg_id;
SELECT body, cmq_delete('delete_on', receipt_handle) AS again FROM got ORDER BY msg_id;
SELECT pg_temp.counts('delete_on');
ROLLBACK;
SELECT pg_temp.live('delete_on');
BEGIN;
SELECT cmq_delete('delete_on', receipt_handle) AS a FROM got WHERE body = 'a';
SAVEPOINT s;
SELECT cmq_delete('delete_on', receipt_handle) AS b FROM got WHERE body = 'b';
ROLLBACK TO s;
SAVEPOINT s;
SELECT cmq_delete('delete_on', receipt_handle) AS c FROM got WHERE body = 'c';
RELEASE s;
COMMIT;
SELECT pg_temp.live('delete_on');
SELECT pg_temp.history('delete_on');
SELECT cmq_delete('delete_on', receipt_handle) AS b FROM got WHERE body = 'b';
-- with rewind off, a rolled-back delete brings the body back too
SELECT cmq_send('delete_off', 'z') > 0 AS sent;
SELECT receipt_handle AS handle FROM cmq_receive('delete_off') \gset
BEGIN;
SELECT cmq_delete('delete_off', :'handle') AS deleted;
SELECT count(*) AS messages FROM cmq_data.q_delete_off;
ROLLBACK;
SELECT body, state FROM cmq.q_delete_off_live;
SELECT cmq_delete('delete_off', :'handle') AS deleted;
-- deleted together with the business data, or not at all
CREATE TABLE delete_business (body text UNIQUE);
SELECT count(*) FROM cmq_send_batch('delete_off', '{k,k}');
DO $$
DECLARE
	m record;
BEGIN
	FOR m IN SELECT * FROM cmq_receive('delete_off', 10) LOOP
		BEGIN
			PERFORM cmq_delete('delete_off', m.receipt_handle);
			INSERT INTO delete_business VALUES (m.body);
		EXCEPTION WHEN unique_violation THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT (SELECT count(*) FROM delete_business) AS done, pg_temp.counts('delete_off') AS the_other;
DROP TABLE delete_business;

--
-- Received and deleted in one statement; by hand, with a loop over a big queue.
--
SELECT count(*) FROM cmq_send_batch('delete_on', array(SELECT i::text FROM generate_series(1, 2500) i));
SELECT count(*) AS deleted FROM (SELECT cmq_delete('delete_on', receipt_handle) AS ok FROM cmq_receive('delete_on', 1000)) d WHERE ok;
SELECT pg_temp.consume('delete_on') = (SELECT string_agg(i::text, ' ' ORDER BY i) FROM generate_series(1001, 2000) i) AS in_order;
SELECT pg_temp.counts('delete_on');

--
-- A session remembers where the rows are that its receives wrote.  Rows may
-- have moved, another row may be there, or nothing.
--
SELECT receipt_handle AS handle FROM cmq_receive('delete_on') \gset
VACUUM FULL cmq_data.q_delete_on_pending;
SELECT cmq_delete('delete_on', :'handle') AS deleted;
BEGIN;
SELECT receipt_handle AS handle FROM cmq_receive('delete_on') \gset
ROLLBACK;
VACUUM cmq_data.q_delete_on_pending;
SELECT count(*) FROM cmq_receive('delete_on', 1);
SELECT cmq_delete('delete_on', :'handle') AS rolled_back;
BEGIN;
SELECT receipt_handle AS handle FROM cmq_receive('delete_on') \gset
ROLLBACK;
SET session_replication_role = replica;
TRUNCATE cmq_data.q_delete_on_pending;
RESET session_replication_role;
SELECT cmq_delete('delete_on', :'handle') AS truncated;

SELECT cmq_drop_queue('delete_on');
SELECT cmq_drop_queue('delete_off');
