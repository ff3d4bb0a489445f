-- cmq.plan_views changes how the views of queues are read, and nothing of what they show:
-- not for any columns, conditions, joins or states, nor for plans that are kept.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers
SET TIME ZONE 'UTC';

-- The rows of a query with the setting on and off: how many, and how many differ.
CREATE FUNCTION pg_temp.compare(query text, OUT nrows bigint, OUT differ bigint) LANGUAGE plpgsql AS $$
DECLARE
	without_help text[];
	with_help text[];
BEGIN
	query := 'SELECT array_agg(s::text ORDER BY s::text COLLATE "C") FROM (' || query || ') s';
	SET LOCAL cmq.plan_views = off;
	EXECUTE query INTO without_help;
	SET LOCAL cmq.plan_views = on;
	EXECUTE query INTO with_help;
	nrows := COALESCE(cardinality(with_help), 0);
	differ := 0;
	IF with_help IS DISTINCT FROM without_help THEN
		SELECT count(*) INTO differ FROM ((SELECT unnest(without_help) EXCEPT ALL SELECT unnest(with_help)) UNION ALL (SELECT unnest(with_help) EXCEPT ALL SELECT unnest(without_help))) s;
	END IF;
END $$;
-- Which tables a query reads: states, messages, both.
CREATE FUNCTION pg_temp.tables(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	states boolean := false;
	messages boolean := false;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		states := states OR line ~ ' on (r_reports|q_reports\w*_(pending|rewind))';
		messages := messages OR line ~ ' on (m_reports|q_reports[a-z]* m)';
	END LOOP;
	RETURN CASE WHEN states AND messages THEN 'both' WHEN states THEN 'states' WHEN messages THEN 'messages' ELSE 'none' END;
END $$;

CREATE FUNCTION pg_temp.explain(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	lines text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		lines := lines || line || E'\n';
	END LOOP;
	RETURN lines;
END $$;

CREATE TEMP TABLE query (n serial, q text);
INSERT INTO query (q) VALUES
	('SELECT count(*) FROM V v'), ('SELECT * FROM V v'), ('SELECT msg_id, enqueued_at FROM V v'), ('SELECT headers, body FROM V v'), ('SELECT body FROM V v'),
	('SELECT count(body), sum(octet_length(body)) FROM V v'), ('SELECT headers ->> ''shop'', count(*) FROM V v GROUP BY 1'), ('SELECT date_trunc(''century'', enqueued_at), count(*), sum(octet_length(body)) FROM V v GROUP BY 1'),
	('SELECT receive_count, rewind_count, first_received_at FROM V v'), ('SELECT rewind_count, body FROM V v'), ('SELECT receive_count, count(*), count(body) FROM V v GROUP BY 1'),
	('SELECT msg_id, body FROM V v WHERE headers ->> ''shop'' = ''3'''), ('SELECT * FROM V v WHERE headers @> ''{"shop": 3}'''), ('SELECT v FROM V v WHERE body LIKE ''%7'''),
	('SELECT * FROM V v WHERE msg_id = MID'), ('SELECT body FROM V v WHERE MID = msg_id'), ('SELECT * FROM V v WHERE msg_id IN (MID, 0, MID, -9223372036854775808)'),
	('SELECT enqueued_at FROM V v WHERE msg_id = ANY (ARRAY[MID, NULL, 9223372036854775807])'), ('SELECT count(*) FROM V v WHERE msg_id <> ALL (ARRAY[MID])'),
	('SELECT count(*), count(body) FROM V v WHERE msg_id > MID'), ('SELECT count(*) FROM V v WHERE msg_id BETWEEN MID AND 9223372036854775807'), ('SELECT count(*) FROM V v WHERE msg_id < 5 OR msg_id >= MID'),
	('SELECT count(*) FROM V v WHERE msg_id > 32767::int2 AND msg_id > 2147483647'), ('SELECT count(*) FROM V v WHERE msg_id = MID::numeric'), ('SELECT count(*) FROM V v WHERE msg_id = NULL'), ('SELECT * FROM V v WHERE msg_id = (SELECT max(msg_id) FROM V w)'),
	('SELECT body, receive_count FROM V v WHERE enqueued_at >= ''TIME'''), ('SELECT body FROM V v WHERE enqueued_at < ''TIME'''), ('SELECT * FROM V v WHERE enqueued_at = ''TIME'''), ('SELECT count(*) FROM V v WHERE enqueued_at > ''TIME'' AND receive_count > 0'),
	('SELECT count(*) FROM V v WHERE ''TIME'' <= enqueued_at AND body IS NOT NULL'), ('SELECT body FROM V v WHERE enqueued_at <= ''TIME'' AND rewind_count >= 0'),
	('SELECT min(enqueued_at), max(enqueued_at) FROM V v'), ('SELECT min(msg_id) FROM V v WHERE body IS NOT NULL'), ('SELECT * FROM V v ORDER BY enqueued_at DESC LIMIT 10'), ('SELECT body FROM V v ORDER BY enqueued_at LIMIT 3 OFFSET 2'), ('SELECT * FROM V v WHERE enqueued_at >= ''TIME'' ORDER BY enqueued_at LIMIT 2'),
	('SELECT v.msg_id, v.body FROM V v LEFT JOIN ledger l ON l.msg_id = v.msg_id WHERE l.msg_id IS NULL'), ('SELECT v.msg_id, v.receive_count, v.body FROM V v LEFT JOIN ledger l USING (msg_id) WHERE l.n IS NULL AND v.enqueued_at >= ''TIME'''),
	('SELECT l.msg_id, v.body FROM ledger l LEFT JOIN V v ON v.msg_id = l.msg_id AND v.enqueued_at > ''TIME'''), ('SELECT l.n, v.body, v.receive_count FROM ledger l FULL JOIN V v ON v.msg_id = l.msg_id AND l.n < 10'), ('SELECT a.body, b.receive_count FROM V a JOIN V b USING (msg_id)'),
	('SELECT * FROM ledger l, LATERAL (SELECT v.body FROM V v WHERE v.msg_id = l.msg_id) s'), ('SELECT n, (SELECT v.body FROM V v WHERE v.msg_id = l.msg_id) FROM ledger l'), ('SELECT n FROM ledger l WHERE EXISTS (SELECT FROM V v WHERE v.msg_id = l.msg_id AND v.body IS NOT NULL)'), ('SELECT n FROM ledger l WHERE l.msg_id NOT IN (SELECT v.msg_id FROM V v)'),
	('SELECT count(*) FROM (SELECT * FROM V v) s'), ('SELECT s.body FROM (SELECT * FROM V v OFFSET 0) s WHERE s.enqueued_at > ''TIME'''), ('SELECT s.body FROM (SELECT DISTINCT body, headers FROM V v) s'), ('SELECT count(*) FROM (SELECT DISTINCT ON (headers) * FROM V v ORDER BY headers, enqueued_at) s'),
	('WITH w AS (SELECT * FROM V v) SELECT count(body) FROM w'), ('WITH w AS MATERIALIZED (SELECT * FROM V v) SELECT a.body, b.n FROM w a JOIN ledger b USING (msg_id) WHERE a.enqueued_at >= ''TIME'''), ('WITH RECURSIVE w AS (SELECT msg_id, 1 AS i FROM V v UNION ALL SELECT msg_id, i + 1 FROM w WHERE i < 2) SELECT count(*) FROM w'),
	('SELECT body FROM V v UNION ALL SELECT body FROM V w WHERE receive_count = 0'), ('SELECT body FROM V v EXCEPT SELECT body FROM V w WHERE enqueued_at > ''TIME'''), ('SELECT enqueued_at FROM (SELECT enqueued_at, body FROM V v UNION ALL SELECT now() - interval ''1 year'', NULL) s WHERE enqueued_at > ''TIME'''),
	('SELECT body, row_number() OVER (ORDER BY enqueued_at) FROM V v'), ('SELECT to_jsonb(v) FROM V v'), ('SELECT count(v), count(v.*) FROM V v'), ('SELECT body, generate_series(1, 2) FROM V v'), ('SELECT grouping(receive_count), receive_count, count(body) FROM V v GROUP BY GROUPING SETS ((receive_count), ())'), ('SELECT count(*) FILTER (WHERE enqueued_at > ''TIME''), count(DISTINCT body) FROM V v HAVING count(*) >= 0'),
	('SELECT msg_id, rows FROM (SELECT msg_id, enqueued_at, count(*) AS rows FROM V v GROUP BY GROUPING SETS ((msg_id), (msg_id, enqueued_at))) s WHERE msg_id = MID'), ('SELECT n, (SELECT v.body FROM V v WHERE l.msg_id = v.msg_id) FROM ledger l'), ('SELECT receive_count, count(body) FROM V v GROUP BY 1 HAVING (SELECT count(body) FROM V w WHERE w.enqueued_at <= max(v.enqueued_at) AND w.msg_id >= min(v.msg_id)) > 1'),
	('SELECT * FROM ledger l NATURAL JOIN V v'), ('SELECT j.body FROM (ledger l JOIN V v USING (msg_id)) j'), ('SELECT body FROM V v TABLESAMPLE_NOT WHERE random() >= 0');
UPDATE query SET q = replace(q, ' TABLESAMPLE_NOT', '');
CREATE TEMP TABLE of_state (n serial, view text, q text);
INSERT INTO of_state (view, q) VALUES
	('live', 'SELECT state, count(*) FROM V v GROUP BY 1'), ('live', 'SELECT state, body FROM V v WHERE state = ''ready'''), ('live', 'SELECT visible_at, body FROM V v'), ('live', 'SELECT state, visible_at FROM V v WHERE enqueued_at >= ''TIME'''), ('live', 'SELECT * FROM V v WHERE visible_at > enqueued_at'),
	('all', 'SELECT state, count(*) FROM V v GROUP BY 1'), ('all', 'SELECT state, count(*), sum(length(body)) FROM V v GROUP BY 1'), ('all', 'SELECT state, deleted_by, deleted_at, visible_at, body FROM V v'), ('all', 'SELECT date_trunc(''century'', enqueued_at), state, count(*) FROM V v GROUP BY 1, 2'), ('all', 'SELECT body FROM V v WHERE state = ''deleted'''), ('all', 'SELECT body FROM V v WHERE deleted_at IS NULL'),
	('history', 'SELECT deleted_by, count(*) FROM V v GROUP BY 1'), ('history', 'SELECT deleted_by, sum(length(body)) FROM V v GROUP BY 1'), ('history', 'SELECT body FROM V v WHERE deleted_at > ''TIME'''), ('history', 'SELECT max(deleted_at), max(body) FROM V v');
CREATE TEMP TABLE of_group (n serial, q text);
INSERT INTO of_group (q) VALUES
	('SELECT message_group FROM V v'), ('SELECT message_group, count(*) FROM V v GROUP BY 1'), ('SELECT message_group, count(*), sum(length(body)), max(receive_count) FROM V v GROUP BY 1'), ('SELECT msg_id, message_group FROM V v WHERE message_group = ''g1'''), ('SELECT body FROM V v WHERE message_group IS NULL'),
	('SELECT DISTINCT ON (message_group) message_group, msg_id, body FROM V v ORDER BY message_group, msg_id'), ('SELECT message_group, body FROM V v WHERE enqueued_at >= ''TIME'' ORDER BY enqueued_at LIMIT 5'), ('SELECT message_group FROM V v WHERE msg_id = MID'), ('SELECT a.message_group, count(*) FROM V a JOIN V b USING (message_group) GROUP BY 1'),
	('SELECT message_group, lag(body) OVER (PARTITION BY message_group ORDER BY msg_id) FROM V v WHERE receive_count >= 0'), ('SELECT v.message_group FROM V v LEFT JOIN ledger l USING (msg_id) WHERE l.n IS NULL');

-- All queries on all views of a queue, about its message in the middle; or, for settings
-- that make them slow, each fifth.
CREATE FUNCTION pg_temp.try_all(queue text, fifth int DEFAULT NULL, OUT queries bigint, OUT nrows numeric, OUT differ numeric) LANGUAGE plpgsql AS $$
DECLARE
	id bigint;
	r record;
	d record;
BEGIN
	EXECUTE format('SELECT cmq.msg_id(enqueued_at) FROM cmq_data.%I ORDER BY enqueued_at OFFSET (SELECT count(*) / 2 FROM cmq_data.%1$I) LIMIT 1', 'q_' || queue) INTO id;
	queries := 0; nrows := 0; differ := 0;
	FOR r IN SELECT v, q FROM (SELECT v, q, n FROM query, unnest('{live,history,all}'::text[]) v UNION ALL
			SELECT v, q, n FROM of_group, unnest('{live,history,all}'::text[]) v WHERE (SELECT ordered FROM cmq.queues c WHERE c.queue = try_all.queue) UNION ALL SELECT view, q, n FROM of_state) s WHERE fifth IS NULL OR n % 5 = fifth LOOP
		d := pg_temp.compare(replace(replace(regexp_replace(r.q, '\mV\M', 'cmq.q_' || queue || '_' || r.v, 'g'), 'MID', COALESCE(id, 0)::text), 'TIME', cmq.enqueued_at(COALESCE(id, 0))::text));
		queries := queries + 1; nrows := nrows + d.nrows; differ := differ + d.differ;
		IF d.differ > 0 THEN
			RAISE WARNING '%: %', r.v, r.q;
		END IF;
	END LOOP;
END $$;

SELECT cmq_create_queue('reports_dead', visibility_timeout => 3600, rewind_seconds => 3600);
SELECT cmq_create_queue('reports', visibility_timeout => 3600, rewind_seconds => 3600, dead_letter_queue => 'reports_dead', max_receive_count => 3);
CREATE TEMP TABLE ledger AS SELECT NULL::bigint AS msg_id, 0 AS n WHERE false;
SELECT 'empty' AS stage, * FROM pg_temp.try_all('reports');
INSERT INTO ledger SELECT m, row_number() OVER () FROM cmq_send_batch('reports', ARRAY(SELECT 'b' || i FROM generate_series(1, 100) i), headers => ARRAY(SELECT CASE WHEN i % 9 > 0 THEN jsonb_build_object('shop', i % 10) END FROM generate_series(1, 100) i)) m;
DELETE FROM ledger WHERE n % 5 = 0;
SELECT 'all pending' AS stage, * FROM pg_temp.try_all('reports');
SELECT count(*) FROM cmq_delete_batch('reports', ARRAY(SELECT receipt_handle FROM cmq_receive('reports', 60)));
SELECT count(*) FROM cmq_receive('reports', 10);
SELECT count(*) FROM cmq_send_batch('reports', ARRAY['d1', 'd2'], 600);
SELECT 'history, in flight, delayed' AS stage, * FROM pg_temp.try_all('reports');
-- given back, and so elsewhere in the pending table than a message that was not received
SELECT count(cmq_change_visibility('reports', receipt_handle, 0)) FROM cmq_receive('reports', 4);
SELECT 'given back' AS stage, * FROM pg_temp.try_all('reports');
SELECT count(*) FROM cmq_restore_messages('reports', ARRAY(SELECT msg_id FROM cmq.q_reports_history ORDER BY msg_id OFFSET 50 LIMIT 5));
SELECT 'restored' AS stage, * FROM pg_temp.try_all('reports');
ANALYZE cmq_data.q_reports, cmq_data.q_reports_rewind, cmq_data.q_reports_pending;
VACUUM cmq_data.q_reports, cmq_data.q_reports_rewind, cmq_data.q_reports_pending;
SELECT 'after VACUUM' AS stage, * FROM pg_temp.try_all('reports');
-- a rewind while a delete is open
SELECT cmq_clear_queue('reports') > 0 AS cleared;
SELECT count(*) FROM cmq_send_batch('reports', ARRAY(SELECT 'c' || i FROM generate_series(1, 20) i));
BEGIN;
SELECT count(*) FROM cmq_delete_batch('reports', ARRAY(SELECT receipt_handle FROM cmq_receive('reports', 7)));
PREPARE TRANSACTION 'reports_open';
SELECT enqueued_at AS middle FROM cmq.q_reports_history ORDER BY 1 OFFSET 20 LIMIT 1 \gset
SELECT 'cleared' AS stage, * FROM pg_temp.try_all('reports');
SELECT cmq_rewind('reports', :'middle') = :'middle' AS rewound;
COMMIT PREPARED 'reports_open';
SELECT 'rewind under way' AS stage, * FROM pg_temp.try_all('reports');
SELECT count(*) FROM cmq.q_reports_history WHERE body LIKE 'c%' AND deleted_at IS NOT NULL;
SELECT count(*) FROM cmq_delete_batch('reports', ARRAY(SELECT receipt_handle FROM cmq_receive('reports', 12)));
SELECT count(*) FROM cmq_receive('reports', 3);
SELECT 'part of it received' AS stage, * FROM pg_temp.try_all('reports');
BEGIN;
SELECT cmq_cancel_rewind('reports');
SELECT 'cancelled, not committed' AS stage, * FROM pg_temp.try_all('reports');
SAVEPOINT s;
SELECT count(*) FROM cmq_delete_batch('reports', ARRAY(SELECT receipt_handle FROM cmq_receive('reports', 2)));
SELECT 'own delete' AS stage, * FROM pg_temp.try_all('reports');
ROLLBACK TO s;
SELECT 'undone' AS stage, * FROM pg_temp.try_all('reports');
ROLLBACK;
SELECT 'cancel undone' AS stage, * FROM pg_temp.try_all('reports');
-- plans that are kept follow
SET plan_cache_mode = force_generic_plan;
PREPARE bodies AS SELECT count(body) FROM cmq.q_reports_history;
PREPARE states AS SELECT state, count(*), count(body) FROM cmq.q_reports_all GROUP BY 1 ORDER BY 1;
PREPARE one(bigint) AS SELECT body FROM cmq.q_reports_all WHERE msg_id = $1;
PREPARE several(bigint[]) AS SELECT count(*) FROM cmq.q_reports_all WHERE msg_id = ANY ($1);
EXECUTE bodies;
EXECUTE states;
SELECT msg_id AS one, ARRAY[msg_id, NULL, 7] AS several FROM cmq.q_reports_all WHERE body = 'b3' \gset
EXECUTE one(:one);
EXECUTE one(NULL);
EXECUTE several(:'several');
EXECUTE several(NULL);
SELECT cmq_cancel_rewind('reports');
EXECUTE bodies;
EXECUTE states;
SELECT cmq_delete_batch('reports', ARRAY(SELECT receipt_handle FROM cmq_receive('reports', 1))) IS NOT NULL AS deleted;
EXECUTE bodies;
EXECUTE states;
SELECT 'cancelled' AS stage, * FROM pg_temp.try_all('reports');
-- rewind off, which forgets, and on
BEGIN;
SELECT cmq_alter_queue('reports', rewind_seconds => 0);
SELECT 'rewind off' AS stage, * FROM pg_temp.try_all('reports');
EXECUTE bodies;
SELECT cmq_alter_queue('reports', rewind_seconds => 3600);
SELECT count(*) FROM cmq_delete_batch('reports', ARRAY(SELECT receipt_handle FROM cmq_receive('reports', 2)));
SELECT 'and on' AS stage, * FROM pg_temp.try_all('reports');
EXECUTE bodies;
ROLLBACK;
DEALLOCATE ALL;
RESET plan_cache_mode;
-- dead letters
SELECT count(cmq_change_visibility('reports', receipt_handle, 0)) FROM generate_series(1, 4), cmq_receive('reports', 5);
SELECT cmq_maintain();
SELECT 'dead letters' AS stage, * FROM pg_temp.try_all('reports_dead');
SELECT 'their queue' AS stage, * FROM pg_temp.try_all('reports');
-- in workers
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT 'in workers' AS stage, * FROM pg_temp.try_all('reports', 0);
-- each kind of plan can have them
SELECT view, q, pg_temp.explain(format(q, 'cmq.q_reports_' || view)) ~ 'Parallel' AS parallel
  FROM unnest('{live,history,all}'::text[]) WITH ORDINALITY v(view, n), unnest(ARRAY['SELECT count(*) FROM %s', 'SELECT sum(length(body)) FROM %s', 'SELECT receive_count, sum(length(body)) FROM %s GROUP BY 1']) WITH ORDINALITY u(q, m) ORDER BY n, m;
-- other ways to join, and by index
SET enable_seqscan = off;
SELECT 'by index, in workers' AS stage, * FROM pg_temp.try_all('reports', 1);
SET max_parallel_workers_per_gather = 0;
SET jit = off;
SELECT 'by index' AS stage, * FROM pg_temp.try_all('reports');
SET enable_hashjoin = off;
SET enable_nestloop = off;
SELECT 'merged' AS stage, * FROM pg_temp.try_all('reports');
RESET ALL;
SET TIME ZONE 'UTC';

-- an ordered queue has groups in one more column (which messages a receive takes first is not
-- tested here)
SELECT cmq_create_queue('reports_o', ordered => true, visibility_timeout => 3600, rewind_seconds => 3600);
TRUNCATE ledger;
SELECT 'ordered, empty' AS stage, queries, nrows > 0 AS any_rows, differ FROM pg_temp.try_all('reports_o');
INSERT INTO ledger SELECT m, row_number() OVER () FROM cmq_send_batch('reports_o', ARRAY(SELECT 'o' || i FROM generate_series(1, 100) i), headers => ARRAY(SELECT CASE WHEN i % 9 > 0 THEN jsonb_build_object('shop', i % 10) END FROM generate_series(1, 100) i),
	message_groups => ARRAY(SELECT CASE WHEN i % 7 > 0 THEN 'g' || i % 7 END FROM generate_series(1, 100) i)) m;
DELETE FROM ledger WHERE n % 5 = 0;
SELECT 'all pending' AS stage, queries, nrows > 0 AS any_rows, differ FROM pg_temp.try_all('reports_o');
SELECT count(*) > 0 AS consumed FROM cmq_consume('reports_o', 50);
SELECT count(*) > 0 AS received FROM cmq_receive('reports_o', 10);
SELECT 'history, in flight' AS stage, queries, nrows > 0 AS any_rows, differ FROM pg_temp.try_all('reports_o');
SELECT cmq_rewind('reports_o', (SELECT latest_rewind_time FROM cmq_queue_attributes('reports_o'))) IS NOT NULL AS rewound;
SELECT count(*) > 0 AS received FROM cmq_receive('reports_o', 5);
SELECT 'rewind under way' AS stage, queries, nrows > 0 AS any_rows, differ FROM pg_temp.try_all('reports_o');
ANALYZE cmq_data.q_reports_o, cmq_data.q_reports_o_rewind, cmq_data.q_reports_o_pending;
VACUUM cmq_data.q_reports_o, cmq_data.q_reports_o_rewind, cmq_data.q_reports_o_pending;
SELECT 'after VACUUM' AS stage, queries, nrows > 0 AS any_rows, differ FROM pg_temp.try_all('reports_o');
SET enable_seqscan = off;
SELECT 'by index' AS stage, queries, nrows > 0 AS any_rows, differ FROM pg_temp.try_all('reports_o');
RESET enable_seqscan;
-- the group is where the body is
SELECT view, q, pg_temp.tables(format(q, 'cmq.q_reports_o_' || view)) <> 'states' AS bodies_too
  FROM unnest('{live,history,all}'::text[]) WITH ORDINALITY v (view, n), unnest(ARRAY['SELECT count(*) FROM %s', 'SELECT message_group, count(*), sum(length(body)) FROM %s GROUP BY 1', 'SELECT message_group FROM %s']) WITH ORDINALITY u (q, m) ORDER BY n, m;
SELECT cmq_drop_queue('reports_o');

-- a deep queue: most is pending, and stands in the order in which it was sent
SELECT cmq_create_queue('reports_deep', visibility_timeout => 3600, rewind_seconds => 3600, max_msg_heap_num => 100000);
SELECT count(*) FROM cmq_send_batch('reports_deep', ARRAY(SELECT 'x' || i FROM generate_series(1, 12000) i));
SELECT count(*) FROM cmq_delete_batch('reports_deep', ARRAY(SELECT receipt_handle FROM cmq_receive('reports_deep', 1000)));
SELECT count(*) FROM cmq_receive('reports_deep', 1000);
SELECT count(cmq_change_visibility('reports_deep', receipt_handle, 0)) FROM cmq_receive('reports_deep', 1000);
TRUNCATE ledger;
INSERT INTO ledger SELECT cmq.msg_id(enqueued_at), row_number() OVER () FROM (SELECT enqueued_at FROM cmq_data.q_reports_deep ORDER BY 1 LIMIT 300 OFFSET 900) s;
SELECT 'deep' AS stage, * FROM pg_temp.try_all('reports_deep');

-- all that a statement writes is read, whatever it returns and however it finds its rows
CREATE TEMP TABLE written (msg_id bigint, body text);
WITH w AS (INSERT INTO written SELECT msg_id, body FROM cmq.q_reports_deep_all RETURNING 1) SELECT count(*) FROM w;
SELECT count(*), count(msg_id), count(body) FROM written;
UPDATE written SET body = NULL;
WITH w AS (UPDATE written w SET body = v.body FROM cmq.q_reports_deep_all v WHERE v.msg_id = w.msg_id) SELECT;
SELECT count(*), count(msg_id), count(body) FROM written;
TRUNCATE written;
SELECT max(enqueued_at) AS last FROM cmq.q_reports_deep_history \gset
MERGE INTO written w USING cmq.q_reports_deep_history v ON v.msg_id = w.msg_id AND v.enqueued_at >= :'last' WHEN NOT MATCHED THEN INSERT VALUES (v.msg_id, v.body);
SELECT count(*), count(msg_id), count(body) FROM written;

-- more of it elsewhere than the memory holds
SELECT count(*) FROM generate_series(1, 9), LATERAL (SELECT count(*) FROM cmq_receive('reports_deep', 1000 + 0 * generate_series)) s;
SELECT count(*) FROM cmq_send_batch('reports_deep', ARRAY(SELECT 'y' || i FROM generate_series(1, 12000) i), 600);
SET work_mem = '64kB';
SET hash_mem_multiplier = 1;
SELECT q, (pg_temp.compare(q)).* FROM unnest(ARRAY['SELECT state, body FROM cmq.q_reports_deep_all', 'SELECT count(body) FROM cmq.q_reports_deep_live', 'SELECT * FROM cmq.q_reports_deep_all ORDER BY enqueued_at DESC LIMIT 9000']) q;
RESET work_mem;
RESET hash_mem_multiplier;

-- which tables are read
ANALYZE cmq_data.q_reports, cmq_data.q_reports_rewind, cmq_data.q_reports_pending;
SELECT regexp_replace(q, '\mV\M', 'history') AS query, pg_temp.tables(regexp_replace(q, '\mV\M', 'cmq.q_reports_history')) AS tables
  FROM unnest(ARRAY['SELECT count(*) FROM V', 'SELECT deleted_by, count(*) FROM V GROUP BY 1', 'SELECT min(enqueued_at) FROM V', 'SELECT sum(length(body)) FROM V', 'SELECT headers ->> ''shop'', count(*) FROM V GROUP BY 1',
	'SELECT count(*) FROM (SELECT * FROM V) s', 'WITH w AS (SELECT * FROM V) SELECT max(body) FROM w', 'SELECT * FROM V', 'SELECT body FROM V WHERE deleted_at > now()']) WITH ORDINALITY u(q, n) ORDER BY n;
SELECT view, regexp_replace(q, '\mV\M', view) AS query, pg_temp.tables(regexp_replace(q, '\mV\M', 'cmq.q_reports_deep_' || view)) AS tables
  FROM unnest('{live,all}'::text[]) view, unnest(ARRAY['SELECT count(*) FROM V', 'SELECT state, count(*) FROM V GROUP BY 1', 'SELECT min(enqueued_at) FROM V', 'SELECT sum(length(body)) FROM V', 'SELECT * FROM V ORDER BY enqueued_at DESC LIMIT 10',
	'SELECT * FROM V WHERE msg_id = 7']) WITH ORDINALITY u(q, n) ORDER BY view, n;
SET cmq.plan_views = off;
SELECT pg_temp.tables('SELECT sum(length(body)) FROM cmq.q_reports_deep_live') AS without_help;
RESET cmq.plan_views;

-- an index that the owner adds is used through the views
CREATE INDEX ON cmq_data.q_reports_deep ((headers ->> 'shop'));
CREATE INDEX ON cmq_data.q_reports_deep (body);
ANALYZE cmq_data.q_reports_deep;
SELECT view, pg_temp.explain(format('SELECT count(*) FROM cmq.q_reports_deep_%s WHERE body = ''x77''', view)) ~ 'Index (Only )?(Scan|Cond).*body' AS by_index FROM unnest('{live,history,all}'::text[]) view;

-- what the owner has changed is planned as it stands
SELECT pg_get_viewdef('cmq.q_reports_deep_live') AS definition \gset
CREATE OR REPLACE VIEW cmq.q_reports_deep_live AS SELECT cmq.msg_id(p.enqueued_at) AS msg_id, p.enqueued_at, 'other'::text AS state, p.first_received_at, p.visible_at, p.receive_count, p.rewind_count, m.headers, m.body
  FROM cmq_data.v_reports_deep v, cmq_data.q_reports_deep_pending p LEFT JOIN cmq_data.q_reports_deep m ON m.enqueued_at = p.enqueued_at
 WHERE cmq._readable('reports_deep') AND cmq._unexpired('reports_deep', p.enqueued_at) AND m.body LIKE '%7';
SELECT (pg_temp.compare(q)).* FROM unnest(ARRAY['SELECT body FROM cmq.q_reports_deep_live', 'SELECT count(*) FROM cmq.q_reports_deep_live', 'SELECT state, body FROM cmq.q_reports_deep_all', 'SELECT count(*) FROM cmq.q_reports_deep_all']) q;
-- in another order, and with one part alone
SELECT split_part(:'definition', 'UNION ALL', 1) AS pending, rtrim(split_part(:'definition', 'UNION ALL', 2), ';') AS due \gset
CREATE OR REPLACE VIEW cmq.q_reports_deep_live AS :due UNION ALL :pending;
SELECT (pg_temp.compare(q)).* FROM unnest(ARRAY['SELECT body FROM cmq.q_reports_deep_live', 'SELECT count(*) FROM cmq.q_reports_deep_live', 'SELECT state, body FROM cmq.q_reports_deep_all', 'SELECT count(*) FROM cmq.q_reports_deep_all']) q;
CREATE OR REPLACE VIEW cmq.q_reports_deep_live AS :due;
SELECT (pg_temp.compare(q)).* FROM unnest(ARRAY['SELECT body FROM cmq.q_reports_deep_live', 'SELECT count(*) FROM cmq.q_reports_deep_live', 'SELECT state, body FROM cmq.q_reports_deep_all', 'SELECT count(*) FROM cmq.q_reports_deep_all']) q;
CREATE OR REPLACE VIEW cmq.q_reports_deep_live AS :pending;
SELECT (pg_temp.compare(q)).* FROM unnest(ARRAY['SELECT body FROM cmq.q_reports_deep_live', 'SELECT count(*) FROM cmq.q_reports_deep_live', 'SELECT state, body FROM cmq.q_reports_deep_all', 'SELECT count(*) FROM cmq.q_reports_deep_all']) q;
SELECT format('CREATE OR REPLACE VIEW cmq.q_reports_deep_live AS %s', :'definition') \gexec
SELECT (pg_temp.compare('SELECT body FROM cmq.q_reports_deep_live')).*, pg_temp.tables('SELECT body FROM cmq.q_reports_deep_live');
ALTER VIEW cmq.q_reports_deep_live SET (security_barrier);
SELECT (pg_temp.compare('SELECT body FROM cmq.q_reports_deep_live')).*, pg_temp.tables('SELECT body FROM cmq.q_reports_deep_live');

-- a text stays while its row is used, however many others are read
SELECT count(*) FROM generate_series(1, 9) i, cmq_delete_batch('reports_deep', ARRAY(SELECT receipt_handle FROM cmq_receive('reports_deep', 1000 + 0 * i)));
BEGIN;
SET LOCAL enable_material = off;
UPDATE cmq_data.q_reports_deep_rewind SET deleted_by = 'role ' || enqueued_at;
SELECT (pg_temp.compare('SELECT a.body, a.deleted_by, count(b.deleted_by) FROM (SELECT deleted_by, body FROM cmq.q_reports_deep_history OFFSET 0) a JOIN (SELECT deleted_by, body FROM cmq.q_reports_deep_history OFFSET 0) b ON b.body <> a.body WHERE a.body LIKE ''x10_'' GROUP BY 1, 2')).*;
ROLLBACK;

-- the functions in plans, called by hand
DO $$
DECLARE
	name text;
	message timestamptz := (SELECT min(enqueued_at) FROM cmq.q_reports_deep_all);
BEGIN
	FOREACH name IN ARRAY '{reports_deep,reports}'::text[] LOOP
		RAISE NOTICE '%: %', name, cmq._in_states(name, message, 7);
	END LOOP;
END $$;
SELECT cmq._in_states('reports', now(), NULL), cmq._in_states('reports', 'infinity', 7), cmq._in_states('reports', '-infinity', 7), cmq._state_time('reports', now(), 2), cmq._state_text('reports', 'infinity', 1), cmq._state_int('reports', now(), 6);
SELECT count(*), count(*) FILTER (WHERE cmq._in_states('reports', enqueued_at, 7)) AS any_state, count(*) FILTER (WHERE cmq._in_states('reports', enqueued_at, 4)) AS history FROM cmq_data.q_reports;
SELECT (SELECT count(*) FROM cmq.q_reports_all) AS any_state, (SELECT count(*) FROM cmq.q_reports_history) AS history;
SELECT cmq._time_of(0), cmq._time_of(9223372036854775807), cmq._time_of(-9223372036854775808), cmq._times_of('{{0,NULL},{-9223372036854775808,9223372036854775807}}'), cmq._times_of('{}');

SELECT cmq_drop_queue('reports');
SELECT cmq_drop_queue('reports_dead');
SELECT cmq_drop_queue('reports_deep');
