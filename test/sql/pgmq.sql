-- examples/pgmq.sql: the calls of pgmq's documents, on top of cmq.  t/305_pgmq has many
-- clients, and what the file refuses.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers
\set pgmq :srcdir '/../examples/pgmq.sql'
\set ECHO none
\i :pgmq
\set ECHO all
\set ON_ERROR_STOP off
SET client_min_messages = notice;
\set VERBOSITY terse
\set SHOW_CONTEXT never

-- the ids of messages by a word in them
CREATE FUNCTION pg_temp.id(word text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT msg_id FROM cmq.q_my_queue_all WHERE body LIKE '%' || word || '%');
END $$;
CREATE FUNCTION pg_temp.ids(VARIADIC words text[]) RETURNS bigint[] LANGUAGE sql AS $$
	SELECT array_agg(pg_temp.id(w) ORDER BY o) FROM unnest(words) WITH ORDINALITY u (w, o)
$$;
-- what is in the queue, and in its archive
CREATE FUNCTION pg_temp.queue() RETURNS TABLE (message jsonb, read_ct int, visible boolean, read boolean, headers jsonb) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT q.message, q.read_ct, q.vt <= clock_timestamp(), q.last_read_at IS NOT NULL, q.headers FROM pgmq.q_my_queue q ORDER BY msg_id;
END $$;
CREATE FUNCTION pg_temp.archive() RETURNS TABLE (message jsonb, read_ct int, archived boolean, headers jsonb) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT a.message, a.read_ct, a.archived_at >= a.enqueued_at AND a.archived_at <= clock_timestamp(), a.headers FROM pgmq.a_my_queue a ORDER BY msg_id;
END $$;

--
-- Names, arguments and results are those of pgmq.
--
SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')' AS function, pg_get_function_result(p.oid) AS result
  FROM pg_proc p WHERE p.pronamespace = 'pgmq'::regnamespace AND p.proname !~ '^_' ORDER BY p.proname COLLATE "C", pg_get_function_arguments(p.oid) COLLATE "C";
SELECT c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relnamespace = 'pgmq'::regnamespace AND c.relkind <> 'i' GROUP BY 1 ORDER BY 1;
-- nothing is granted to anybody, and no function runs as anybody else
SELECT count(*) AS grants FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'pgmq'::regnamespace AND a.grantee <> c.relowner;
SELECT nspacl IS NULL AS no_grant FROM pg_namespace WHERE nspname = 'pgmq';
SELECT count(*) AS security_definer FROM pg_proc WHERE pronamespace = 'pgmq'::regnamespace AND prosecdef;

--
-- Queues
--
SELECT pgmq.create('my_queue');
SELECT pgmq.create('my_queue');				-- again: nothing
SELECT pgmq.create_non_partitioned('my_plain_queue');
SELECT pgmq.create_unlogged('my_unlogged');
SELECT pgmq.create_partitioned('my_partitioned_queue', '100000', '10000000');
SELECT pgmq.create_partitioned('my_daily_queue', '1 day', '5 days');
SELECT pgmq.create_partitioned(queue_name => 'my_old_queue', partition_interval => 'daily', retention_interval => '1 year', premake => 10);
SELECT pgmq.create('MyQueue');
SELECT queue_name, is_partitioned, is_unlogged, created_at <= now() AS created FROM pgmq.list_queues();
SELECT regexp_replace(pgmq.list_queues()::text, '".*"', '"TIME"');
SELECT queue, msg_retention_seconds, rewind_seconds FROM cmq.queues ORDER BY queue;
SELECT queue_name FROM pgmq.meta ORDER BY queue_name;
SELECT pgmq.validate_queue_name('my_queue'), pgmq.validate_queue_name(repeat('a', 47));
SELECT pgmq.validate_queue_name(repeat('a', 48));
SELECT pg_temp.complaint($$SELECT pgmq.create('my.queue')$$);
SELECT pg_temp.complaint($$SELECT pgmq.create(NULL)$$);
SELECT pgmq.detach_archive('my_queue');
SELECT pgmq.convert_archive_partitioned('my_queue', '10000', '100000');
SELECT pgmq.drop_queue(queue) FROM unnest('{my_plain_queue,my_unlogged,my_partitioned_queue,my_daily_queue,my_old_queue}'::text[]) queue;
SELECT pgmq.drop_queue('my_unlogged');
SELECT pgmq.create('my_other'), pgmq.drop_queue('my_other', false);
-- capitals do not count
SELECT count(*) FROM pgmq.send('MYQUEUE', '{"hello": "capitals"}');
SELECT message FROM pgmq.read('myqueue', 30, 1);
SELECT message FROM pgmq.q_MyQueue;
SELECT queue_name, queue_length FROM pgmq.metrics_all();
SELECT queue_name, queue_length FROM pgmq.metrics('MyQueue');
SELECT pgmq.drop_queue('MyQueue');
SELECT queue_name FROM pgmq.list_queues();

--
-- Send.  What a driver sends without a type is as good as a literal.
--
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "world"}');
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "headers"}', '{"trace_id": "abc123"}');
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "delay"}', 500);
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "tomorrow"}', CURRENT_TIMESTAMP + INTERVAL '1 day');
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "both"}', '{"priority": "high"}', 1000);
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "both, a time"}', '{"priority": "high"}', now() + interval '1 hour');
SELECT count(*) FROM pgmq.send(queue_name => 'my_queue', msg => '{"hello": "names"}', delay => 700);
SELECT count(*) FROM pgmq.send(queue_name => 'my_queue', msg => '{"hello": "more names"}', headers => '{"a": 1}');
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "untyped seconds"}', '0');
SELECT now() + interval '1 hour' AS soon \gset
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "untyped time"}', :'soon');
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "untyped, with headers"}', '{"b": 2}', '2000');
SELECT pgmq.send('my_queue', '{"hello": "the past"}', now() - interval '1 hour') > 0 AS sent, pgmq.send('my_queue', '{"hello": "a negative delay"}', -5) > 0 AS sent;
SELECT pgmq.send('my_queue', NULL) > 0 AS sent, pgmq.send('my_queue', '17') > 0 AS sent, pgmq.send('my_queue', '"text"') > 0 AS sent, pgmq.send('my_queue', '[1, null]') > 0 AS sent;
SELECT message, read_ct, headers, vt <= clock_timestamp() AS visible,
	   CASE WHEN vt > enqueued_at THEN date_trunc('second', vt - enqueued_at + interval '0.5 s') < interval '2 h' END AS soon FROM pgmq.q_my_queue ORDER BY msg_id;
SELECT pg_typeof(send) FROM pgmq.send('my_queue', '{}') AS send;
SELECT pgmq.purge_queue('my_queue');
SELECT count(*) FROM pgmq.q_my_queue;
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "batch_0"}', '{"hello": "batch_1"}']::jsonb[]);
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "batch_2"}', NULL]::jsonb[], ARRAY['{"trace_id": "abc"}', NULL]::jsonb[]);
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "batch_3"}']::jsonb[], 500);
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "batch_4"}']::jsonb[], CURRENT_TIMESTAMP + INTERVAL '1 day');
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "batch_5"}']::jsonb[], ARRAY['{"c": 3}']::jsonb[], 500);
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "batch_6"}']::jsonb[], ARRAY['{"c": 3}']::jsonb[], now() + interval '1 hour');
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "batch_7"}']::jsonb[], '0');
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "batch_8"}']::jsonb[], '{"{\"d\": 4}"}');
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "batch_9"}']::jsonb[], :'soon');
SELECT count(*) AS none FROM pgmq.send_batch('my_queue', '{}'::jsonb[]);
SELECT * FROM pg_temp.queue();
SELECT pg_temp.attempt($$SELECT pgmq.send_batch('my_queue', '{"{}"}'::jsonb[], '{"{}", "{}"}'::jsonb[])$$);
SELECT pg_temp.attempt($$SELECT pgmq.send('no_queue', '{}')$$), pg_temp.attempt($$SELECT pgmq.send('my_queue', '{}', 20 * 86400)$$);
SELECT pgmq.purge_queue('my_queue');

--
-- Read
--
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "one"}', '{"hello": "two"}', '{"hello": "three"}', '{"hello": "four"}']::jsonb[],
									 ARRAY['{"trace_id": "abc"}', NULL, NULL, NULL]::jsonb[]);
SELECT r.msg_id = pg_temp.id('one') AS id, r.read_ct, r.enqueued_at = cmq.enqueued_at(r.msg_id) AS enqueued, r.vt - r.last_read_at AS hidden_for,
	   r.last_read_at BETWEEN now() AND clock_timestamp() AS just_now, r.message, r.headers FROM pgmq.read('my_queue', 600, 1) r;
SELECT message, headers FROM pgmq.read(queue_name => 'my_queue', vt => 300, qty => 2) WITH ORDINALITY ORDER BY ordinality;
SELECT count(*) FROM pgmq.read('my_queue', '300', 0);
SELECT message FROM pgmq.read('my_queue', '300', '1');
SELECT count(*) AS none FROM pgmq.read('my_queue', 300, 1);
-- a time instead of seconds, as pgmq 1.12 has it
SELECT count(*) FROM pgmq.set_vt('my_queue', pg_temp.ids('two', 'three', 'four'), 0);
SELECT message, read_ct, last_read_at IS NOT NULL AS read, vt - last_read_at BETWEEN interval '31 s' AND interval '101 s' AS hidden FROM pgmq.read('my_queue', clock_timestamp() + interval '100 s', 1);
SELECT message, vt - last_read_at > interval '1 h' AS hidden FROM pgmq.read('my_queue', (clock_timestamp() + interval '2 h')::text, 1);
-- a vt of 0: everybody can read it again
SELECT message, read_ct, vt <= clock_timestamp() AS visible FROM pgmq.read('my_queue', 0, 1);
SELECT message, read_ct, vt <= clock_timestamp() AS visible FROM pgmq.read('my_queue', -5, 5);
SELECT message, read_ct, vt <= clock_timestamp() AS visible FROM pgmq.read('my_queue', 600, 1);
SELECT pg_temp.complaint($$SELECT pgmq.read('my_queue', 43201, 1)$$);
SELECT pg_temp.attempt($$SELECT pgmq.read('my_queue', NULL::int, 1)$$), pg_temp.attempt($$SELECT pgmq.read('no_queue', 30, 1)$$);
-- with a condition on the message
SELECT pgmq.purge_queue('my_queue');
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"kind": "a", "n": 1}', '{"kind": "b", "n": 2}', '{"kind": "a", "n": 3}', '{"kind": "a", "n": 4}', '7']::jsonb[]);
SELECT cmq_send('my_queue', 'no JSON') > 0 AS sent;
SELECT message, read_ct, vt - last_read_at AS hidden FROM pgmq.read('my_queue', 600, 2, '{"kind": "a"}') WITH ORDINALITY ORDER BY ordinality;
SELECT message FROM pgmq.read('my_queue', 600, 2, conditional => '{"kind": "a"}') WITH ORDINALITY ORDER BY ordinality;
SELECT count(*) AS none FROM pgmq.read('my_queue', 600, 2, '{"kind": "a"}');
SELECT count(*) AS none FROM pgmq.read_with_poll('my_queue', 10, 2, 0, 10, '{"kind": "a"}');
SELECT message FROM pgmq.read_with_poll('my_queue', 10, 2, 5, 10, '{"kind": "b"}');
SELECT message FROM pgmq.read('my_queue', 600, 10, '{}') WITH ORDINALITY ORDER BY ordinality;
-- more than one receive can take
SELECT pgmq.purge_queue('my_queue'), pgmq.create('my_many');
SELECT count(*) FROM pgmq.send_batch('my_many', array(SELECT to_jsonb(i) FROM generate_series(1, 2500) i));
SELECT count(*), min(message::int), max(message::int) FROM pgmq.read('my_many', 600, 2200);
SELECT count(*), min(message::int), max(message::int) FROM pgmq.pop('my_many', 2200);
SELECT count(*) FROM pgmq.archive('my_many', array(SELECT msg_id FROM pgmq.q_my_many));
SELECT count(*) FROM pgmq.a_my_many;
SELECT pgmq.drop_queue('my_many');

-- waits for nothing, and for something
SELECT count(*) FROM pgmq.read_with_poll('my_queue', 1, 1, 0, 100);
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "poll"}', 1);
SELECT message, vt - last_read_at AS hidden FROM pgmq.read_with_poll('my_queue', 20, 1, 60, 100);
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "poll again"}', 1);
SELECT message FROM pgmq.read_with_poll(queue_name => 'my_queue', vt => clock_timestamp() + interval '1 min', qty => 1, max_poll_seconds => 50);
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "poll, and show"}', 1);
SELECT message FROM pgmq.read_with_poll('my_queue', '0', '1', 60);

--
-- Pop, delete, archive
--
SELECT message, read_ct, last_read_at IS NOT NULL AS read, vt <= clock_timestamp() AS visible FROM pgmq.pop('my_queue');
SELECT count(*) AS none FROM pgmq.pop('my_queue');
SELECT pgmq.purge_queue('my_queue');
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "taken"}', '{"hello": "late"}', '{"hello": "unread"}', '{"hello": "stays"}']::jsonb[]);
SELECT count(*) FROM pgmq.send('my_queue', '{"hello": "sleeping"}', 600);
SELECT message FROM pgmq.read('my_queue', 600, 2) WITH ORDINALITY ORDER BY ordinality;
SELECT message, read_ct, vt <= clock_timestamp() AS visible, last_read_at IS NOT NULL AS read FROM pgmq.set_vt('my_queue', pg_temp.id('late'), 0);
SELECT pgmq.delete('my_queue', pg_temp.id('taken')), pgmq.delete('my_queue', pg_temp.id('late')),
	   pgmq.delete('my_queue', pg_temp.id('unread')), pgmq.delete('my_queue', pg_temp.id('sleeping')), pgmq.delete('my_queue', 999), pgmq.delete('my_queue', NULL::bigint);
SELECT pgmq.delete('my_queue', pg_temp.id('taken'));
SELECT * FROM pg_temp.queue();
SELECT * FROM pg_temp.archive();
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "A"}', '{"hello": "B"}', '{"hello": "C"}']::jsonb[], '{"{\"h\": 1}", null, null}'::jsonb[]);
SELECT count(*) FROM pgmq.read('my_queue', 600, 2);
SELECT a = ANY (pg_temp.ids('"A"', '"B"', '"C"')) AS archived FROM pgmq.archive('my_queue', pg_temp.ids('"A"', '"B"', '"C"') || 999::bigint || NULL) a;
SELECT pgmq.archive(queue_name => 'my_queue', msg_id => 999), pgmq.archive('my_queue', pg_temp.id('stays'));
SELECT count(*) AS none FROM pgmq.delete(queue_name => 'my_queue', msg_ids => pg_temp.ids('"A"', '"B"'));
SELECT * FROM pg_temp.archive();

-- rewind from the first day: all of it, one message, a look before
SELECT messages FROM cmq_rewind_preview('my_queue', now() - interval '50 min');
SELECT count(*) FROM cmq_restore_messages('my_queue', pg_temp.ids('"A"'));
SELECT message, read_ct, headers FROM pgmq.read('my_queue', 600, 1);
SELECT pgmq.archive('my_queue', pg_temp.id('"A"'));
SELECT cmq_rewind('my_queue', now() - interval '50 min') IS NOT NULL AS rewound;
SELECT message, read_ct FROM pgmq.read('my_queue', 600, 2) WITH ORDINALITY ORDER BY ordinality;
-- one that is to come, one that has come
SELECT pgmq.delete('my_queue', pg_temp.id('"B"')), pgmq.delete('my_queue', pg_temp.id('poll, and show'));
SELECT count(*) FROM pgmq.archive('my_queue', array(SELECT msg_id FROM pgmq.read('my_queue', 600, 100)));
SELECT * FROM pg_temp.queue();

--
-- Visibility
--
SELECT pgmq.purge_queue('my_queue') >= 0 AS purged;
SELECT count(*) FROM pgmq.send_batch('my_queue', ARRAY['{"hello": "vt_1"}', '{"hello": "vt_2"}', '{"hello": "vt_3"}']::jsonb[], '{"{\"h\": 1}", null, null}'::jsonb[]);
SELECT count(*) FROM pgmq.read('my_queue', 600, 1);
SELECT s.message, s.read_ct, s.headers, s.last_read_at IS NOT NULL AS read, s.vt - clock_timestamp() BETWEEN interval '5 s' AND interval '30 s' AS hidden
  FROM pgmq.set_vt('my_queue', pg_temp.id('vt_1'), 30) s;
-- one that nobody has read is hidden, too, and that does not count as a read
SELECT s.message, s.read_ct, s.last_read_at IS NOT NULL AS read, s.vt - clock_timestamp() BETWEEN interval '5 s' AND interval '30 s' AS hidden
  FROM pgmq.set_vt('my_queue', pg_temp.id('vt_2'), 30) s;
SELECT message, read_ct, visible, read FROM pg_temp.queue();
SELECT s.message, s.read_ct, s.vt - clock_timestamp() BETWEEN interval '31 s' AND interval '60 s' AS hidden
  FROM pgmq.set_vt('my_queue', pg_temp.ids('vt_1', 'vt_2', 'vt_3') || 999::bigint, 60) s ORDER BY s.msg_id;
SELECT s.message, s.vt - clock_timestamp() BETWEEN interval '61 s' AND interval '101 s' AS hidden
  FROM pgmq.set_vt('my_queue', pg_temp.id('vt_1'), clock_timestamp() + interval '100 s') s;
SELECT s.message, s.vt - clock_timestamp() BETWEEN interval '61 s' AND interval '101 s' AS hidden
  FROM pgmq.set_vt('my_queue', pg_temp.ids('vt_1', 'vt_2'), clock_timestamp() + interval '100 s') s ORDER BY s.msg_id;
SELECT s.message FROM pgmq.set_vt('my_queue', pg_temp.ids('vt_1')::text, '10') s;
SELECT id AS vt_2 FROM pg_temp.id('vt_2') id \gset
SELECT s.message, s.vt <= clock_timestamp() AS visible FROM pgmq.set_vt('my_queue', :'vt_2', '0') s;
SELECT count(*) AS none FROM pgmq.set_vt('my_queue', 999, 10);
SELECT message, read_ct FROM pgmq.read('my_queue', 600, 1);
SELECT pg_temp.attempt($$SELECT pgmq.set_vt('my_queue', 999, 43201)$$), pg_temp.attempt($$SELECT pgmq.set_vt('no_queue', 999, 1)$$);

--
-- Metrics
--
SELECT queue_name, queue_length, newest_msg_age_sec BETWEEN 0 AND 600 AS newest, oldest_msg_age_sec BETWEEN 0 AND 600 AS oldest, total_messages > 50 AS total,
	   scrape_time = now() AS scraped, queue_visible_length, default_partition_length FROM pgmq.metrics('my_queue');
SELECT pgmq.create('my_empty');
SELECT queue_name, queue_length, newest_msg_age_sec, oldest_msg_age_sec, total_messages, queue_visible_length FROM pgmq.metrics_all() WHERE queue_name = 'my_empty';
SELECT count(*) FROM pgmq.metrics_all();
SELECT pg_temp.attempt($$SELECT pgmq.metrics('no_queue')$$);
SELECT pgmq.drop_queue('my_empty');

--
-- Topics
--
SELECT pgmq.create(queue) FROM unnest('{all_logs,error_logs,api_errors}'::text[]) queue;
SELECT pgmq.bind_topic('logs.#', 'all_logs');
SELECT pgmq.bind_topic('logs.*.error', 'error_logs');
SELECT pgmq.bind_topic('logs.api.error', 'api_errors');
SELECT pgmq.bind_topic('logs.api.error', 'api_errors');		-- again: nothing
SELECT pgmq.send_topic('logs.api.error', '{"message": "API failed"}');
SELECT pgmq.send_topic('logs.db.error', '{"message": "DB connection failed"}', 0);
SELECT pgmq.send_topic('logs.api.info', '{"message": "Request received"}', '{"priority": "high"}', 0);
SELECT pgmq.send_topic('orders.created', '{"order_id": 123}');
SELECT pgmq.send_topic(routing_key => 'logs.api.debug', msg => '{"message": "names"}', headers => '{"x": 1}');
SELECT pgmq.send_topic('logs.untyped', '{"message": "untyped"}', '0'), pgmq.send_topic('logs.untyped', '{"message": "untyped"}', '{"y": 1}');
SELECT q.queue, m.message, m.headers FROM unnest('{all_logs,error_logs,api_errors}'::text[]) WITH ORDINALITY q (queue, o), pgmq.read(q.queue, 0, 10) m ORDER BY o, m.msg_id;
SELECT * FROM pgmq.test_routing('logs.api.error');
SELECT * FROM pgmq.test_routing('logs');
SELECT pattern, queue_name, bound_at <= clock_timestamp() AS bound, compiled_regex FROM pgmq.list_topic_bindings();
SELECT pattern, queue_name, compiled_regex FROM pgmq.list_topic_bindings('all_logs');
SELECT pattern, compiled_regex FROM pgmq.topic_bindings ORDER BY 1;
SELECT queue_name, count(*) FROM pgmq.send_batch_topic('logs.api.error', ARRAY['{"order_id": 1}', '{"order_id": 2}']::jsonb[]) GROUP BY 1 ORDER BY 1;
SELECT queue_name, msg_id > 0 AS id FROM pgmq.send_batch_topic('logs.info', ARRAY['{"msg": "test"}']::jsonb[], ARRAY['{"priority": "high"}']::jsonb[]);
SELECT count(*) FROM pgmq.send_batch_topic('logs.info', ARRAY['{"msg": "later"}']::jsonb[], 60);
SELECT count(*) FROM pgmq.send_batch_topic('logs.info', ARRAY['{"msg": "later"}']::jsonb[], CURRENT_TIMESTAMP + INTERVAL '1 hour');
SELECT count(*) FROM pgmq.send_batch_topic('logs.info', ARRAY['{"msg": "later"}']::jsonb[], ARRAY['{}']::jsonb[], 60);
SELECT count(*) FROM pgmq.send_batch_topic('logs.info', ARRAY['{"msg": "later"}']::jsonb[], ARRAY['{}']::jsonb[], now() + interval '1 hour');
SELECT count(*) AS none FROM pgmq.send_batch_topic('nobody', ARRAY['{}']::jsonb[]);
-- a queue gets one copy, however many of its patterns match
SELECT pgmq.bind_topic('#', 'api_errors'), pgmq.bind_topic('#.error', 'api_errors'), pgmq.bind_topic('logs.#.error', 'api_errors'), pgmq.bind_topic('*.api.*', 'api_errors');
SELECT pgmq.purge_queue('api_errors');
SELECT pgmq.send_topic('logs.api.error', '{"message": "once"}');
SELECT message FROM pgmq.read('api_errors', 0, 10);
SELECT pattern, compiled_regex FROM pgmq.list_topic_bindings('api_errors');
SELECT pg_temp.complaint($$SELECT pgmq.bind_topic('one.too.many', 'api_errors')$$);
SELECT pg_temp.complaint($$SELECT pgmq.bind_topic('err*', 'all_logs')$$);
SELECT pgmq.unbind_topic('#', 'api_errors'), pgmq.unbind_topic('#', 'api_errors'), pgmq.unbind_topic('logs.#', 'all_logs'), pgmq.unbind_topic('#', 'no_queue');
SELECT pattern, queue_name FROM pgmq.list_topic_bindings();
-- a pattern gets what its regular expression says, of all keys of up to four words
CREATE TABLE pgmq_patterns AS
SELECT 'pattern_' || o AS queue, pattern, o
  FROM unnest('{#,*,a.#,#.a,a.#.b,*.#,#.*,a.*,a.*.b,#.a.#,a.#.#,a.b}'::text[]) WITH ORDINALITY p (pattern, o);
CREATE TABLE pgmq_keys AS
  WITH RECURSIVE keys (key, n) AS (
	SELECT w, 1 FROM unnest('{a,b,c}'::text[]) w
	UNION ALL
	SELECT key || '.' || w, n + 1 FROM keys, unnest('{a,b,c}'::text[]) w WHERE n < 4)
SELECT key FROM keys;
SELECT count(pgmq.create(queue)) FROM pgmq_patterns;
SELECT count(pgmq.bind_topic(pattern, queue)) FROM pgmq_patterns;
SELECT sum(pgmq.send_topic(key, to_jsonb(key))) AS sent, (SELECT count(*) FROM pgmq_keys k JOIN pgmq_patterns p ON k.key ~ pgmq._to_regex(p.pattern)) AS expected FROM pgmq_keys;
SELECT p.pattern, b.compiled_regex, s.binding_keys, b.pattern = p.pattern AS the_same, m.n AS messages, m.keys = e.keys AS right_ones
  FROM pgmq_patterns p
  JOIN pgmq.topic_bindings b ON b.queue_name = p.queue
  JOIN cmq.subscriptions s ON s.topic = 'pgmq' AND s.queue = p.queue,
	   LATERAL (SELECT count(*) AS n, array_agg(message #>> '{}' ORDER BY message #>> '{}' COLLATE "C") AS keys FROM pgmq.pop(p.queue, 1000)) m,
	   LATERAL (SELECT array_agg(key ORDER BY key COLLATE "C") AS keys FROM pgmq_keys WHERE key ~ b.compiled_regex) e
 ORDER BY p.o;
SELECT count(pgmq.drop_queue(queue)) FROM pgmq_patterns;
DROP TABLE pgmq_patterns, pgmq_keys;
SELECT pgmq.validate_routing_key('logs.api.error'), pgmq.validate_topic_pattern('logs.*.error');
SELECT pg_temp.attempt(format('SELECT pgmq.validate_routing_key(%L)', k)) FROM unnest(ARRAY['logs..error', '.a', 'a.', 'a.*', 'a b', repeat('a', 65), NULL]) k;
SELECT pg_temp.attempt(format('SELECT pgmq.validate_topic_pattern(%L)', k)) FROM unnest(ARRAY['logs.**', '##', '*#', 'a..b', '', NULL]) k;
SELECT pg_temp.attempt($$SELECT pgmq.send_topic('logs..error', '{}')$$), pg_temp.attempt($$SELECT pgmq.send_topic('a', NULL)$$), pg_temp.attempt($$SELECT pgmq.send_topic('a', '{}', -1)$$);
SELECT pgmq.drop_queue(queue) FROM unnest('{all_logs,error_logs,api_errors}'::text[]) queue;
SELECT count(*) AS none FROM pgmq.topic_bindings;

--
-- Notifications
--
SELECT pgmq.enable_notify_insert('my_queue');
SELECT pgmq.enable_notify_insert('my_queue', 0);
SELECT pgmq.update_notify_insert('my_queue', 10000);
SELECT queue_name, throttle_interval_ms, last_notified_at = to_timestamp(0) AS never FROM pgmq.list_notify_insert_throttles();
SELECT pg_temp.attempt($$SELECT pgmq.enable_notify_insert('no_queue')$$), pg_temp.attempt($$SELECT pgmq.update_notify_insert('no_queue', 1)$$),
	   pg_temp.attempt($$SELECT pgmq.enable_notify_insert('my_queue', -1)$$);
SELECT pgmq.disable_notify_insert('my_queue'), pgmq.disable_notify_insert('my_queue');
SELECT count(*) AS none FROM pgmq.notify_insert_throttle;
SELECT pg_temp.complaint($$SELECT pgmq.enable_notify_delete('my_queue')$$);

--
-- What cannot be had says so.
--
SELECT pg_temp.complaint($$SELECT pgmq.read_grouped('my_queue', 10, 5)$$);
SELECT pg_temp.attempt(c) FROM unnest(ARRAY[
	$$SELECT pgmq.read_grouped_with_poll('my_queue', 10, 1, 5, 100)$$, $$SELECT pgmq.read_grouped_rr('my_queue', 10, 5)$$, $$SELECT pgmq.read_grouped_rr_with_poll('my_queue', 10, 1, 5, 100)$$,
	$$SELECT pgmq.read_grouped_head('my_queue', 10, 5)$$, $$SELECT pgmq.read_grouped_head_with_poll('my_queue', 10, 5)$$]) c;
SELECT pgmq.create_fifo_index('my_queue'), pgmq.create_fifo_indexes_all();
SELECT pg_temp.outcome(current_user, $$DELETE FROM pgmq.q_my_queue$$), pg_temp.outcome(current_user, $$TRUNCATE pgmq.a_my_queue$$);

--
-- A queue of cmq's own calls, with and without what the functions add.
--
SELECT cmq_create_queue('native', rewind_seconds => 3600);
SELECT cmq_send('native', 'plain text') > 0, cmq_send('native', '{"a": "\u0000"}') > 0, cmq_send('native', '{"json": true}', headers => '{"x": 1}') > 0;
SELECT message, headers FROM pgmq.read('native', 60, 3) WITH ORDINALITY ORDER BY ordinality;
SELECT count(*) FROM pgmq.archive('native', array(SELECT msg_id FROM cmq.q_native_live));
SELECT to_regclass('pgmq.a_native');
SELECT pgmq.create('native');
SELECT message FROM pgmq.a_native ORDER BY msg_id;
-- cmq's own drop meets the views
SELECT pg_temp.outcome(current_user, $$SELECT cmq_drop_queue('native')$$);
SELECT pgmq.drop_queue('native');

--
-- Rights: those on the queue, and to see the schema.
--
CREATE ROLE regress_pgmq_app;
SELECT pgmq.purge_queue('my_queue') >= 0 AS purged;
SELECT pg_temp.outcome('regress_pgmq_app', $$SELECT pgmq.send('my_queue', '{}')$$) AS nothing;
GRANT USAGE ON SCHEMA pgmq, cmq TO regress_pgmq_app;
GRANT SELECT ON ALL TABLES IN SCHEMA pgmq TO regress_pgmq_app;
SELECT call, pg_temp.outcome('regress_pgmq_app', call) AS without_a_right_on_the_queue FROM unnest(ARRAY[
	$$SELECT pgmq.send('my_queue', '{}')$$, $$SELECT pgmq.read('my_queue', 1, 1)$$, $$SELECT pgmq.pop('my_queue')$$, $$SELECT pgmq.delete('my_queue', 1)$$,
	$$SELECT pgmq.set_vt('my_queue', 1, 1)$$, $$SELECT pgmq.purge_queue('my_queue')$$, $$SELECT pgmq.drop_queue('my_queue')$$, $$SELECT pgmq.metrics('my_queue')$$,
	$$SELECT * FROM pgmq.q_my_queue$$, $$SELECT * FROM pgmq.a_my_queue$$, $$SELECT pgmq.create('mine')$$, $$SELECT pgmq.bind_topic('#', 'my_queue')$$,
	$$SELECT pgmq.send_topic('a', '{}')$$]) WITH ORDINALITY c (call, o) ORDER BY o;
GRANT SELECT, INSERT, UPDATE, DELETE ON cmq.q_my_queue TO regress_pgmq_app;
SET ROLE regress_pgmq_app;
SELECT count(*) FROM pgmq.send_batch('my_queue', '{1,2,3,4}'::jsonb[]);
SELECT message FROM pgmq.read('my_queue', 600, 1);
SELECT message, pgmq.archive('my_queue', msg_id) AS archived FROM pgmq.q_my_queue ORDER BY msg_id LIMIT 2;
SELECT message FROM pgmq.pop('my_queue');
SELECT count(*) FROM pgmq.set_vt('my_queue', array(SELECT msg_id FROM pgmq.q_my_queue), 10);
SELECT queue_length FROM pgmq.metrics('my_queue');
SELECT queue_name FROM pgmq.list_queues();
SELECT message FROM pgmq.a_my_queue ORDER BY msg_id DESC LIMIT 1;
RESET ROLE;

-- the caller's search_path does not count
CREATE SCHEMA pgmq_trap;
CREATE FUNCTION pgmq_trap.cmq_send(text, text, int, jsonb) RETURNS bigint LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION pgmq_trap.lower(text) RETURNS text LANGUAGE sql AS $$SELECT 'trapped'$$;
CREATE FUNCTION pgmq_trap.count(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1';
SET search_path TO pgmq_trap, pg_catalog, public;
SELECT pg_catalog.count(*) FROM pgmq.send('my_queue', '{"hello": "path"}');
SELECT message FROM pgmq.read('my_queue', 600, 1);
RESET search_path;
DROP FUNCTION pgmq_trap.cmq_send(text, text, int, jsonb), pgmq_trap.lower(text), pgmq_trap.count(bigint);
DROP SCHEMA pgmq_trap;

-- away with it: queue and messages stay
SELECT pgmq.send('my_queue', '{"hello": "stays"}') > 0 AS sent;
SET client_min_messages = warning;
DROP SCHEMA pgmq CASCADE;
SELECT body FROM cmq_receive('my_queue', 1, filter => NULL);
SELECT topic, filter_type FROM cmq.topics WHERE topic = 'pgmq';
SELECT cmq_drop_queue('my_queue'), cmq_drop_topic('pgmq');
DROP OWNED BY regress_pgmq_app;
DROP ROLE regress_pgmq_app;
