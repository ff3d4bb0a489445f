-- cmq_send_batch and cmq_delete_batch.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('batch_a', rewind_seconds => 3600, max_msg_size => 1024);

--
-- Ids come in the order of the array, and increase.
--
CREATE TEMP TABLE ids AS
	SELECT ordinality AS n, id FROM cmq_send_batch('batch_a', '{c,a,b,a}') WITH ORDINALITY s (id, ordinality);
SELECT i.n, m.body, m.headers, i.id > lag(i.id) OVER (ORDER BY i.n) AS later
  FROM ids i JOIN cmq_data.q_batch_a m ON m.enqueued_at = cmq.enqueued_at(i.id) ORDER BY i.n;
SELECT cmq_send('batch_a', 'after') > max(id) AS later FROM ids;
SELECT pg_temp.consume('batch_a');
-- none, one, many
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', '{}');
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', ARRAY[]::text[], 0, ARRAY[]::jsonb[]);
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', ARRAY['one']);
SELECT pg_temp.counts('batch_a');
SELECT pg_temp.consume('batch_a');
SELECT count(*) AS rows, count(DISTINCT id) AS ids, bool_and(id > before) AS increasing
  FROM (SELECT id, lag(id, 1, 0::bigint) OVER (ORDER BY n) AS before
		  FROM cmq_send_batch('batch_a', array(SELECT i::text FROM generate_series(1, 20000) i)) WITH ORDINALITY s (id, n)) s;
SELECT pg_temp.counts('batch_a');
SELECT count(*) AS received, bool_and(body = ordinality::text) AS in_order
  FROM cmq_receive('batch_a', 1000) WITH ORDINALITY;
-- subscripts need not start at 1
SELECT cmq_drop_queue('batch_a');
SELECT cmq_create_queue('batch_a', rewind_seconds => 3600, max_msg_size => 1024);
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', '[5:7]={x,y,z}', 0, '[-1:1]={"{\"n\": 1}","{\"n\": 2}","{\"n\": 3}"}');
SELECT body, headers FROM cmq_receive('batch_a', 10) WITH ORDINALITY ORDER BY ordinality;

--
-- Headers: none, one for each, NULL for some.
--
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', '{a,b,c,d}', 0,
	ARRAY['{"n": 1}', NULL, '{}', '{"n": [4]}']::jsonb[]);
SELECT body, headers, headers IS NULL AS is_null FROM cmq_receive('batch_a', 10) WITH ORDINALITY ORDER BY ordinality;
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', '{a,b}', headers => NULL);
SELECT body, headers FROM cmq_receive('batch_a', 10) WITH ORDINALITY ORDER BY ordinality;

--
-- A delay is for all.
--
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', '{a,b,c}', 86400);
SELECT body, state, visible_at - enqueued_at AS delay FROM cmq.q_batch_a_live WHERE state = 'delayed' ORDER BY msg_id;
SELECT pg_temp.receive('batch_a') AS received;
UPDATE cmq_data.q_batch_a_pending SET visible_at = enqueued_at WHERE receive_count = 0;
SELECT pg_temp.receive('batch_a') AS received;

--
-- All or nothing.
--
SELECT count(*) AS before FROM cmq_data.q_batch_a \gset
SELECT n, pg_temp.attempt(format('SELECT cmq_send_batch(%s)', args))
  FROM (VALUES
	(1, $$'batch_a', NULL$$),
	(2, $$'batch_a', '{a,NULL,c}'$$),
	(3, $$'batch_a', '{a,"",c}'$$),
	(4, $$'batch_a', ARRAY['a', 'b', repeat('x', 1025)]$$),
	(5, $$'batch_a', ARRAY['a', repeat('é', 513)]$$),
	(6, $$'batch_a', '{{a,b},{c,d}}'$$),
	(7, $$'batch_a', '{{a}}'$$),
	(8, $$'batch_a', '{a,b}', 0, '{1}'$$),
	(9, $$'batch_a', '{a,b}', 0, '{1,2,3}'$$),
	(10, $$'batch_a', '{a,b}', 0, '{}'$$),
	(11, $$'batch_a', '{}', 0, '{1}'$$),
	(12, $$'batch_a', '{a,b}', 0, '{{1,2}}'$$),
	(13, $$'batch_a', '{a}', -1$$),
	(14, $$'batch_a', '{a}', 345600$$),
	(15, $$'batch_a', '{a}', NULL$$),
	(16, $$'batch_x', '{a}'$$),
	(17, $$NULL, '{a}'$$),
	(18, $$'batch_x', '{}'$$),
	(19, $$'batch_a', '{}', -1$$)) v (n, args)
 ORDER BY n;
SELECT count(*) - :before AS sent_by_those FROM cmq_data.q_batch_a;
SELECT pg_temp.receive('batch_a') AS received;
-- the biggest allowed body twice; two big ones that are TOASTed
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', ARRAY[repeat('x', 1024), repeat('é', 512)]);
SELECT octet_length(body) AS bytes FROM cmq_receive('batch_a', 10) WITH ORDINALITY ORDER BY ordinality;
SELECT cmq_alter_queue('batch_a', max_msg_size => 1048576);
CREATE TEMP TABLE big AS
	SELECT k, string_agg(md5(k || '.' || i), '' ORDER BY i) AS body
	  FROM generate_series(1, 4) k, generate_series(1, 32768) i GROUP BY k;
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', (SELECT array_agg(body ORDER BY k) FROM big));
SELECT b.k, octet_length(r.body) AS bytes, md5(r.body) = md5(b.body) AS same
  FROM (SELECT * FROM cmq_receive('batch_a', 10) WITH ORDINALITY) r FULL JOIN big b ON b.k = r.ordinality ORDER BY b.k;

--
-- Transactions.
--
BEGIN;
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', '{never,ever}');
ROLLBACK;
BEGIN;
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', '{a,b}');
SAVEPOINT s;
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', '{c,d}');
ROLLBACK TO s;
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', '{e,f}');
COMMIT;
SELECT pg_temp.receive('batch_a') AS received;

--
-- Delete: the handles that were deleted, in the order of the array.
--
SELECT cmq_drop_queue('batch_a');
SELECT cmq_create_queue('batch_a', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('batch_a', '{a,b,c,d,e,f}');
CREATE TEMP TABLE got AS SELECT * FROM cmq_receive('batch_a', 10);
SELECT d.n, got.body
  FROM cmq_delete_batch('batch_a', (SELECT array_agg(receipt_handle ORDER BY body DESC) FROM got WHERE body IN ('a', 'c', 'b')))
	   WITH ORDINALITY d (handle, n)
  LEFT JOIN got ON got.receipt_handle = d.handle ORDER BY d.n;
SELECT pg_temp.history('batch_a');
-- a stale handle, one that never was, and one that is there twice are left out
SELECT d.n, got.body
  FROM cmq_delete_batch('batch_a', (SELECT array_agg(h ORDER BY k) FROM (
			SELECT 1 AS k, receipt_handle AS h FROM got WHERE body = 'a'
			UNION ALL SELECT 2, receipt_handle FROM got WHERE body = 'e'
			UNION ALL SELECT 3, '1-2-3-4'
			UNION ALL SELECT 4, receipt_handle FROM got WHERE body = 'd'
			UNION ALL SELECT 5, receipt_handle FROM got WHERE body = 'e') s))
	   WITH ORDINALITY d (handle, n)
  LEFT JOIN got ON got.receipt_handle = d.handle ORDER BY d.n;
SELECT pg_temp.history('batch_a'), pg_temp.live('batch_a');
-- none
SELECT count(*) AS rows FROM cmq_delete_batch('batch_a', '{}');
SELECT count(*) AS rows FROM cmq_delete_batch('batch_a', (SELECT array_agg(receipt_handle) FROM got WHERE body <> 'f'));
-- one that is no handle fails the call, and nothing is deleted
SELECT n, pg_temp.attempt(format('SELECT cmq_delete_batch(%s)', args))
  FROM (VALUES
	(1, format($$'batch_a', '{%s,x}'$$, (SELECT receipt_handle FROM got WHERE body = 'f'))),
	(2, format($$'batch_a', '{%s,NULL}'$$, (SELECT receipt_handle FROM got WHERE body = 'f'))),
	(3, format($$'batch_a', '{%s,""}'$$, (SELECT receipt_handle FROM got WHERE body = 'f'))),
	(4, format($$'batch_a', '{{%s}}'$$, (SELECT receipt_handle FROM got WHERE body = 'f'))),
	(5, $$'batch_a', NULL$$), (6, $$'batch_x', '{}'$$), (7, $$NULL, '{}'$$)) v (n, args)
 ORDER BY n;
SELECT pg_temp.live('batch_a');
-- transactions
BEGIN;
SELECT count(*) AS deleted FROM cmq_delete_batch('batch_a', (SELECT array_agg(receipt_handle) FROM got));
ROLLBACK;
SELECT pg_temp.live('batch_a');
BEGIN;
SAVEPOINT s;
SELECT count(*) AS deleted FROM cmq_delete_batch('batch_a', (SELECT array_agg(receipt_handle) FROM got));
ROLLBACK TO s;
SELECT count(*) AS deleted FROM cmq_delete_batch('batch_a', (SELECT array_agg(receipt_handle) FROM got));
COMMIT;
SELECT pg_temp.history('batch_a');

--
-- Everything in one statement.
--
SELECT count(*) FROM cmq_send_batch('batch_a', array(SELECT i::text FROM generate_series(1, 250) i));
SELECT count(*) AS deleted FROM cmq_delete_batch('batch_a', array(SELECT receipt_handle FROM cmq_receive('batch_a', 100)));
SELECT cmq_delete_batch('batch_a', array(SELECT receipt_handle FROM cmq_receive('batch_a', 1))) IS NOT NULL AS in_select_list;
SELECT pg_temp.counts('batch_a');
SELECT count(cmq_delete_batch) AS deleted
  FROM generate_series(1, 20), LATERAL cmq_delete_batch('batch_a', array(SELECT receipt_handle FROM cmq_receive('batch_a', 10 + 0 * generate_series)));
SELECT pg_temp.counts('batch_a');
-- sent by a query, received and deleted by the same one
SELECT count(*) AS rows FROM cmq_send_batch('batch_a', (SELECT array_agg('again ' || body ORDER BY msg_id)
	FROM cmq.q_batch_a_history WHERE body IN ('1', '250')));
SELECT body FROM cmq_receive('batch_a', 10) WITH ORDINALITY ORDER BY ordinality;

SELECT cmq_drop_queue('batch_a');

--
-- A batch that fails leaves the queue clock where it would be without it, however many
-- messages it was to write: otherwise it would end the life of others.
--
SELECT cmq_create_queue('batch_clock');
CREATE INDEX ON cmq_data.q_batch_clock ((1 / (length(body) - 1)));
SELECT cmq_send_batch('batch_clock', array_fill('x'::text, ARRAY[5000000]));
SELECT cmq._clock('batch_clock') < clock_timestamp() + interval '1 s' AS not_ahead;
