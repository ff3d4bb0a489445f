-- What people and reporting tools read: cmq.queues, the live and history
-- views, attributes, the tables themselves, and indexes added to them.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('views_a', rewind_seconds => 3600);
SELECT cmq_create_queue('Views-B_' || repeat('y', 40), 5, 1, 1200, 600, 2048);

--
-- cmq.queues.
--
SELECT queue, owner = current_user AS mine, visibility_timeout, polling_wait_seconds, msg_retention_seconds,
	   rewind_seconds, max_msg_size, rewinding_from
  FROM cmq.queues WHERE queue ILIKE 'views%' ORDER BY queue;

--
-- Attributes: settings and exact counts, in every state at once.
--
SELECT visibility_timeout, polling_wait_seconds, msg_retention_seconds, rewind_seconds, max_msg_size,
	   create_time = last_modify_time AS unmodified, active_msg_num, inactive_msg_num, delay_msg_num, rewind_msg_num
  FROM cmq_queue_attributes('views_a');
SELECT a.create_time = q.create_time AND a.last_modify_time = q.last_modify_time AS same_times,
	   a.earliest_rewind_time = now() - interval '1 hour' AS earliest, a.latest_rewind_time = a.min_msg_time AS latest
  FROM cmq_queue_attributes('views_a') a, cmq.queues q WHERE q.queue = 'views_a';
SELECT count(*) FROM cmq_send_batch('views_a', '{h1,h2,h3,h4}', 0, '{"{\"k\": 1}",NULL,"{\"k\": [2]}","{}"}');
SELECT pg_temp.consume('views_a');
SELECT count(*) FROM cmq_send_batch('views_a', '{f1,f2,r1,r2,r3}');
SELECT pg_temp.receive('views_a', 2);
SELECT count(*) FROM cmq_send_batch('views_a', '{d1,d2}', 100);
SELECT pg_temp.counts('views_a');
SELECT pg_temp.live('views_a'), pg_temp.history('views_a');
SELECT cmq_rewind('views_a', pg_temp.produced('views_a', 'h3')) = pg_temp.produced('views_a', 'h3') AS rewound;
SELECT pg_temp.counts('views_a');
SELECT pg_temp.live('views_a'), pg_temp.history('views_a');
SELECT rewinding_from = pg_temp.produced('views_a', 'h3') AS rewinding_from_h3 FROM cmq.queues WHERE queue = 'views_a';
SELECT min_msg_time = pg_temp.produced('views_a', 'h3') AS min_msg_time FROM cmq_queue_attributes('views_a');
SELECT pg_temp.attempt($$SELECT cmq_queue_attributes('views_x')$$) AS unknown,
	   pg_temp.attempt($$SELECT cmq_queue_attributes(NULL)$$) AS "null",
	   pg_temp.attempt($$SELECT cmq_queue_attributes('')$$) AS empty;
-- counts and views agree
SELECT a.active_msg_num = count(*) FILTER (WHERE l.state = 'ready') AS ready,
	   a.inactive_msg_num = count(*) FILTER (WHERE l.state = 'in_flight') AS in_flight,
	   a.delay_msg_num = count(*) FILTER (WHERE l.state = 'delayed') AS delayed,
	   a.rewind_msg_num = (SELECT count(*) FROM cmq.q_views_a_history) AS history,
	   count(*) + (SELECT count(*) FROM cmq.q_views_a_history) = (SELECT count(*) FROM cmq_data.q_views_a) AS all_messages
  FROM cmq_queue_attributes('views_a') a, cmq.q_views_a_live l
 GROUP BY a.active_msg_num, a.inactive_msg_num, a.delay_msg_num, a.rewind_msg_num;

--
-- The live view, all columns.
--
SELECT body, state, headers, receive_count, rewind_count, msg_id = cmq.msg_id(enqueued_at) AS id,
	   first_received_at IS NOT NULL AS received, visible_at <= clock_timestamp() AS visible,
	   visible_at - enqueued_at = interval '100 s' AS delay
  FROM cmq.q_views_a_live ORDER BY msg_id;
-- peeking takes nothing
SELECT count(*) FROM cmq.q_views_a_live;
SELECT body FROM cmq_receive('views_a', 10) WITH ORDINALITY ORDER BY ordinality;

--
-- The history view, all columns.
--
SELECT body, headers, receive_count, rewind_count, deleted_by = current_user AS by_me,
	   msg_id = cmq.msg_id(enqueued_at) AS id, enqueued_at <= first_received_at AND first_received_at <= deleted_at AS times_in_order
  FROM cmq.q_views_a_history ORDER BY msg_id;
-- exactly the messages that a rewind to the start of the window brings back
UPDATE cmq_data.q_views_a_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('views_a');
SELECT pg_temp.history('views_a') AS promised;
SELECT cmq_rewind('views_a', (SELECT earliest_rewind_time FROM cmq_queue_attributes('views_a')) + interval '10 s') IS NOT NULL AS rewound;
SELECT pg_temp.history('views_a') AS history, pg_temp.consume('views_a') AS delivered;

--
-- Reconciliation: what the consumer did against what it was told to do.
--
CREATE TABLE views_orders (msg_id bigint PRIMARY KEY, item text, processed_at timestamptz);
SELECT count(*) FROM cmq_send_batch('views_a', '{o1,o2,o3,o4}');
-- the broken consumer: o2 and o4 are lost
WITH taken AS MATERIALIZED (SELECT * FROM cmq_receive('views_a', 10))
INSERT INTO views_orders SELECT msg_id, body, clock_timestamp() FROM taken
 WHERE cmq_delete('views_a', receipt_handle) AND body NOT IN ('o2', 'o4');
SELECT h.body AS item, h.deleted_at IS NOT NULL AS consumed, o.msg_id IS NOT NULL AS processed
  FROM cmq.q_views_a_history h LEFT JOIN views_orders o USING (msg_id) WHERE h.body LIKE 'o_' ORDER BY h.msg_id;
SELECT cmq_rewind('views_a', pg_temp.produced('views_a', 'o2')) IS NOT NULL AS rewound;
WITH taken AS MATERIALIZED (SELECT * FROM cmq_receive('views_a', 10))
INSERT INTO views_orders SELECT msg_id, body, clock_timestamp() FROM taken
 WHERE cmq_delete('views_a', receipt_handle)
ON CONFLICT (msg_id) DO NOTHING;
SELECT h.body AS item, h.rewind_count, o.msg_id IS NOT NULL AS processed
  FROM cmq.q_views_a_history h FULL JOIN views_orders o USING (msg_id) WHERE h.body LIKE 'o_' ORDER BY h.msg_id;
SELECT count(*) AS not_settled FROM cmq.q_views_a_history h LEFT JOIN views_orders o USING (msg_id)
 WHERE h.body LIKE 'o_' AND o.msg_id IS NULL;
DROP TABLE views_orders;
-- by time and by id, through the index
SELECT max(msg_id) AS id FROM cmq.q_views_a_history \gset
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT pg_temp.uses_index(format('SELECT body FROM cmq_data.q_views_a WHERE enqueued_at = cmq.enqueued_at(%s)', :id), '_pkey') AS by_id;
COMMIT;
SELECT count(*) AS by_id FROM cmq_data.q_views_a WHERE enqueued_at = cmq.enqueued_at(:id);
SELECT count(*) AS by_id FROM cmq.q_views_a_history WHERE enqueued_at = cmq.enqueued_at(:id);
-- a view and a materialized view on top
CREATE VIEW views_report AS SELECT deleted_by, count(*) AS n FROM cmq.q_views_a_history GROUP BY deleted_by;
CREATE MATERIALIZED VIEW views_snapshot AS SELECT body FROM cmq.q_views_a_live;
SELECT n FROM views_report;
SELECT body FROM views_snapshot ORDER BY body;
REFRESH MATERIALIZED VIEW views_snapshot;
DROP VIEW views_report;
DROP MATERIALIZED VIEW views_snapshot;
-- with parallel plans encouraged
BEGIN;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL min_parallel_index_scan_size = 0;
SELECT count(*) AS live FROM cmq.q_views_a_live;
SELECT count(*) AS history FROM cmq.q_views_a_history;
SELECT count(*) AS messages FROM cmq_data.q_views_a;
COMMIT;
-- in a cursor that stays open while the queue goes on
BEGIN;
DECLARE c CURSOR FOR SELECT body FROM cmq.q_views_a_history WHERE body LIKE 'h_' ORDER BY msg_id;
FETCH 1 FROM c;
SELECT cmq_send('views_a', 'later') > 0 AS sent;
SELECT pg_temp.consume('views_a');
FETCH ALL FROM c;
COMMIT;

--
-- An index added by the owner on the message table stays correct.
--
CREATE INDEX views_k ON cmq_data.q_views_a ((headers ->> 'k'));
CREATE UNIQUE INDEX views_body ON cmq_data.q_views_a (enqueued_at, (md5(body)));
CREATE INDEX views_deleted ON cmq_data.q_views_a_rewind (deleted_by, deleted_at);
CREATE INDEX views_first ON cmq_data.q_views_a_pending (receive_count) WHERE receive_count > 0;
SELECT count(*) FROM cmq_send_batch('views_a', array(SELECT 'i' || i FROM generate_series(1, 2000) i), 0,
	array(SELECT jsonb_build_object('k', i % 100) FROM generate_series(1, 2000) i));
SELECT cmq_send('views_a', 'single', headers => '{"k": 7}') > 0 AS sent;
SELECT count(*) FROM cmq_delete_batch('views_a', array(SELECT receipt_handle FROM cmq_receive('views_a', 1000)));
SELECT count(*) FROM cmq_receive('views_a', 300);
SELECT cmq_rewind('views_a', pg_temp.produced('views_a', 'i501')) IS NOT NULL AS rewound;
SELECT count(*) FROM cmq_delete_batch('views_a', array(SELECT receipt_handle FROM cmq_receive('views_a', 250)));
BEGIN;
SELECT cmq_send('views_a', 'rolled back', headers => '{"k": 7}') > 0 AS sent;
ROLLBACK;
CREATE TEMP TABLE query (n int PRIMARY KEY, index_name text, text text);
INSERT INTO query VALUES
	(1, '_expr_', $$SELECT count(*), min(enqueued_at), max(body) FROM cmq_data.q_views_a WHERE headers ->> 'k' = '7'$$),
	(2, '_deleted_by_', $$SELECT count(*), min(enqueued_at), max(deleted_at) FROM cmq_data.q_views_a_rewind WHERE deleted_by = current_user AND deleted_at > now() - interval '1 hour'$$),
	(3, 'views_first', $$SELECT count(*), min(enqueued_at), max(visible_at) FROM cmq_data.q_views_a_pending WHERE receive_count = 1$$);
CREATE FUNCTION pg_temp.run(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE 'SELECT t::text FROM (' || query || ') t' INTO result;
	RETURN result;
END $$;
BEGIN;
SET LOCAL enable_seqscan = off;
CREATE TEMP TABLE by_index AS SELECT n, pg_temp.uses_index(text, index_name) AS used, pg_temp.run(text) AS result FROM query;
SET LOCAL enable_seqscan = on;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_indexonlyscan = off;
CREATE TEMP TABLE by_scan AS SELECT n, pg_temp.uses_index(text, 'Seq Scan') AS used, pg_temp.run(text) AS result FROM query;
COMMIT;
SELECT n, i.used AS index_used, s.used AS scan_used, substring(s.result FROM '^\((\d+),') AS count, i.result = s.result AS same
  FROM by_index i JOIN by_scan s USING (n) ORDER BY n;
-- an index expression that fails makes the send fail, whole
CREATE INDEX views_fail ON cmq_data.q_views_a ((1 / CASE WHEN headers ? 'fail' THEN 0 ELSE 1 END));
SELECT pg_temp.attempt($$SELECT cmq_send('views_a', 'x', headers => '{"fail": 1}')$$) AS send,
	   pg_temp.attempt($$SELECT cmq_send_batch('views_a', '{x,y}', 0, '{NULL,"{\"fail\": 1}"}')$$) AS send_batch;
SELECT count(*) AS of_those FROM cmq_data.q_views_a WHERE headers ? 'fail';
DROP INDEX cmq_data.views_fail;
SELECT cmq_send('views_a', 'y', headers => '{"fail": 1}') > 0 AS sent;

--
-- The queue with the longest name.
--
SELECT 'Views-B_' || repeat('y', 40) AS long \gset
SELECT cmq_send(:'long', 'hello', headers => '{"there": 1}') > 0 AS sent;
SELECT pg_temp.consume(:'long'), pg_temp.history(:'long'), pg_temp.counts(:'long');
SELECT relname, octet_length(relname) AS bytes, relkind FROM pg_class
 WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) AND relname LIKE 'q\_Views-B%' AND relkind IN ('r', 'p', 'v') ORDER BY relname COLLATE "C";
SELECT max(octet_length(m.relname)) AS bytes, max(octet_length(r.relname)) AS bytes
  FROM cmq.partition p JOIN pg_class m ON m.oid = p.messages JOIN pg_class r ON r.oid = p.rewind WHERE queue = :'long';

SELECT cmq_drop_queue(:'long');
SELECT cmq_drop_queue('views_a');
