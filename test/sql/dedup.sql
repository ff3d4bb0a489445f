-- Sends that happen once: keys, for how long they count, and the tables that they are in.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

-- Send, and say whether the message is the one of that name, or a new one.
CREATE TEMP TABLE sent (name text PRIMARY KEY, msg_id bigint UNIQUE);
CREATE FUNCTION pg_temp.send(queue text, name text, key text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	id bigint := cmq_send(queue, name, dedup_key => key);
	old text := (SELECT s.name FROM sent s WHERE s.msg_id = id);
	stored boolean;
BEGIN
	IF old IS NOT NULL THEN
		RETURN 'is ' || old;
	END IF;
	EXECUTE format('SELECT EXISTS (SELECT FROM cmq_data.%I WHERE enqueued_at = cmq.enqueued_at($1) AND body = $2)', 'q_' || queue) INTO stored USING id, name;
	IF NOT stored THEN
		RETURN 'not stored';
	END IF;
	INSERT INTO sent VALUES (send.name, id);
	RETURN 'new';
END $$;
-- Keys of the queue, with the names of their messages.
CREATE FUNCTION pg_temp.keys(queue text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('SELECT string_agg(concat_ws('' '', key, name), '', '' ORDER BY key) FROM cmq_data.%I k LEFT JOIN sent ON msg_id = cmq.msg_id(k.enqueued_at)',
		'q_' || queue || '_dedup') INTO result;
	RETURN result;
END $$;
-- Let time pass for the keys alone.
CREATE FUNCTION pg_temp.age_keys(queue text, by interval) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('UPDATE cmq_data.%I SET enqueued_at = enqueued_at - $1', 'q_' || queue || '_dedup') USING by;
END $$;

-- leaves of other times, with keys
CREATE FUNCTION pg_temp.add_keys(queue text, lower timestamptz, upper timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	leaf text := format('cmq_data.%I', 'd_' || queue || '_' || to_char(lower AT TIME ZONE 'UTC', 'YYYYMMDDHH24MI'));
BEGIN
	PERFORM pg_temp.add_leaf(queue, lower, upper);
	EXECUTE format('CREATE TABLE %1$s (LIKE cmq_data.%2$I INCLUDING ALL, UNIQUE (key)); ALTER TABLE cmq_data.%2$I ATTACH PARTITION %1$s FOR VALUES FROM (%3$L) TO (%4$L)',
		leaf, 'q_' || queue || '_dedup', lower, upper);
	UPDATE cmq.partition p SET dedup = leaf::regclass WHERE p.queue = add_keys.queue AND p.lower = add_keys.lower;
	PERFORM pg_temp.reload(queue);
END $$;

--
-- A second message with a key is not stored, whatever became of the first.
--
SELECT cmq_create_queue('dedup_a', dedup_seconds => 60, rewind_seconds => 3600);
-- for keys that get older, just after the leaf of now has begun
SELECT min(lower) AS first FROM cmq.partition WHERE queue = 'dedup_a' \gset
SELECT pg_temp.add_keys('dedup_a', :'first'::timestamptz - interval '1 hour', :'first');
SELECT pg_temp.send('dedup_a', 'a', 'k'), pg_temp.send('dedup_a', 'b', 'k'), pg_temp.send('dedup_a', 'c', 'K'), pg_temp.send('dedup_a', 'd'), pg_temp.send('dedup_a', 'e'),
	   pg_temp.live('dedup_a'), pg_temp.keys('dedup_a');
SELECT pg_temp.receive('dedup_a', 1);
SELECT pg_temp.send('dedup_a', 'b', 'k') AS in_flight;
SELECT pg_temp.consume('dedup_a');
SELECT cmq_clear_queue('dedup_a');
SELECT pg_temp.send('dedup_a', 'b', 'k') AS cleared, pg_temp.send('dedup_a', 'f', 'K') AS deleted;
-- body, headers and delay of a duplicate do not matter, but are checked
SELECT cmq_send('dedup_a', 'other', 60, '{"a": 1}', dedup_key => 'k') = msg_id AS same FROM sent WHERE name = 'a';
SELECT cmq_send('dedup_a', '', dedup_key => 'k');
SELECT pg_temp.live('dedup_a'), sent, body_bytes FROM cmq.metrics WHERE queue = 'dedup_a';
-- a rewind is no send
SELECT cmq_rewind('dedup_a', now() - interval '1 minute') IS NOT NULL AS comes_back;
SELECT pg_temp.live('dedup_a');
SELECT pg_temp.send('dedup_a', 'f', 'K') AS brought_back;
SELECT pg_temp.consume('dedup_a');

--
-- Transactions
--
BEGIN;
SELECT pg_temp.send('dedup_a', 'g', 'g');
SAVEPOINT s;
SELECT pg_temp.send('dedup_a', 'h', 'h'), pg_temp.send('dedup_a', 'h2', 'h'), pg_temp.send('dedup_a', 'g2', 'g');
ROLLBACK TO s;
SELECT pg_temp.send('dedup_a', 'h3', 'h'), pg_temp.send('dedup_a', 'h4', 'h');
COMMIT;
BEGIN;
SELECT cmq_send('dedup_a', 'never', dedup_key => 'never') > 0 AS sent;
ROLLBACK;
SELECT pg_temp.send('dedup_a', 'i', 'never');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT pg_temp.send('dedup_a', 'j', 'j'), pg_temp.send('dedup_a', 'j2', 'j');
COMMIT;
SELECT pg_temp.consume('dedup_a'), pg_temp.keys('dedup_a');

--
-- Batches: an id for each element
--
CREATE FUNCTION pg_temp.batch(queue text, bodies text[], keys text[]) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[] := ARRAY(SELECT id FROM cmq_send_batch(queue, bodies, dedup_keys => keys) WITH ORDINALITY s (id, n) ORDER BY n);
BEGIN
	INSERT INTO sent SELECT bodies[i], ids[i] FROM generate_subscripts(ids, 1) i ORDER BY i ON CONFLICT DO NOTHING;
	RETURN (SELECT string_agg((SELECT name FROM sent WHERE msg_id = id), ' ' ORDER BY n) FROM unnest(ids) WITH ORDINALITY u (id, n));
END $$;
SELECT pg_temp.batch('dedup_a', '{b1,b2,b3,b4,b5,b6}', '{z,y,NULL,z,k,y}'), pg_temp.live('dedup_a');
SELECT pg_temp.batch('dedup_a', '{b7,b8}', '{y,z}'), pg_temp.batch('dedup_a', '{b9,b10}', '{NULL,NULL}'), pg_temp.live('dedup_a');
SELECT count(*) FROM cmq_send_batch('dedup_a', '{}', dedup_keys => '{}');
-- ids of what is stored increase
SELECT bool_and(id > previous) FROM (SELECT id, lag(id) OVER (ORDER BY n) AS previous
	FROM cmq_send_batch('dedup_a', array_fill('x'::text, ARRAY[2000]), dedup_keys => ARRAY(SELECT md5(i::text) FROM generate_series(1, 2000) i)) WITH ORDINALITY s (id, n)) s;
SELECT cmq_clear_queue('dedup_a');

--
-- Arguments
--
SELECT cmq_create_queue('dedup_off');
SELECT n, pg_temp.attempt('SELECT * FROM ' || call) FROM (VALUES
	(1, $$cmq_send('dedup_a', 'x', dedup_key => '')$$), (2, $$cmq_send('dedup_a', 'x', dedup_key => repeat('x', 128))$$), (3, $$cmq_send('dedup_a', 'x', dedup_key => repeat('x', 129))$$),
	(4, $$cmq_send('dedup_a', 'x', dedup_key => repeat('é', 64))$$), (5, $$cmq_send('dedup_a', 'x', dedup_key => repeat('é', 65))$$), (6, $$cmq_send('dedup_off', 'x', dedup_key => 'k')$$),
	(7, $$cmq_send('dedup_off', 'x', dedup_key => NULL)$$), (8, $$cmq_send_batch('dedup_a', '{x,y}', dedup_keys => '{a}')$$), (9, $$cmq_send_batch('dedup_a', '{x,y}', dedup_keys => '{a,""}')$$),
	(10, $$cmq_send_batch('dedup_a', '{x,y}', dedup_keys => '{{a,b}}')$$), (11, $$cmq_send_batch('dedup_off', '{x,y}', dedup_keys => '{a,b}')$$),
	(12, $$cmq_send_batch('dedup_off', '{x,y}', dedup_keys => '{NULL,NULL}')$$), (13, $$cmq_send_batch('dedup_off', '{}', dedup_keys => '{a}')$$),
	(20, $$cmq_create_queue('dedup_x', dedup_seconds => -1)$$), (21, $$cmq_create_queue('dedup_x', dedup_seconds => NULL)$$), (22, $$cmq_create_queue('dedup_x', msg_retention_seconds => 60, dedup_seconds => 61)$$),
	(23, $$cmq_create_queue('dedup_x', msg_retention_seconds => 60, dedup_seconds => 60)$$), (24, $$cmq_alter_queue('dedup_x', dedup_seconds => 61)$$),
	(25, $$cmq_alter_queue('dedup_x', dedup_seconds => 90, msg_retention_seconds => 90)$$), (26, $$cmq_alter_queue('dedup_x', msg_retention_seconds => 80)$$),
	(27, $$cmq_alter_queue('dedup_x', dedup_seconds => 1296001)$$), (28, $$cmq_alter_queue('dedup_x', dedup_seconds => NULL)$$)) v (n, call) ORDER BY n;
SELECT a.dedup_seconds, q.dedup_seconds FROM cmq_queue_attributes('dedup_x') a, cmq.queues q WHERE q.queue = 'dedup_x';
SELECT cmq_drop_queue('dedup_x');
SELECT cmq_clear_queue('dedup_a'), cmq_clear_queue('dedup_off');

--
-- A queue that is full takes duplicates, and has room only for what is stored.
--
SELECT cmq_create_queue('dedup_full', max_msg_heap_num => 2, dedup_seconds => 60);
SELECT pg_temp.attempt(format('SELECT cmq_send(''dedup_full'', ''x'', dedup_key => %L)', key)) FROM unnest('{a,b,a,c,b}'::text[]) WITH ORDINALITY k (key, n) ORDER BY n;
SELECT pg_temp.attempt($$SELECT cmq_send_batch('dedup_full', '{x,x}', dedup_keys => '{b,a}')$$), pg_temp.attempt($$SELECT cmq_send_batch('dedup_full', '{x,x}', dedup_keys => '{b,d}')$$);
SELECT pg_temp.consume('dedup_full', 1);
SELECT pg_temp.attempt($$SELECT cmq_send_batch('dedup_full', '{x,x,x}', dedup_keys => '{e,a,e}')$$), pg_temp.counts('dedup_full');
SELECT string_agg(key, ' ' ORDER BY key) FROM cmq_data.q_dedup_full_dedup;
-- what is full is told to those who may read the queue alone
CREATE ROLE regress_cmq_dedup;
GRANT INSERT ON cmq.q_dedup_full TO regress_cmq_dedup;
SET ROLE regress_cmq_dedup;
SELECT * FROM pg_temp.complaint($$SELECT cmq_send('dedup_full', 'x', dedup_key => 'f')$$);
RESET ROLE;
SELECT cmq_drop_queue('dedup_full');

--
-- The window is over.  The time of a key is that of its message.
--
SELECT pg_temp.send('dedup_a', 'w1', 'w'), pg_temp.send('dedup_a', 'w2', 'w');
SELECT pg_temp.age_keys('dedup_a', '30 seconds');
SELECT cmq_send('dedup_a', 'w2', dedup_key => 'w') = msg_id - 30000000 AS is_w1 FROM sent WHERE name = 'w1';
SELECT pg_temp.age_keys('dedup_a', '30 seconds');
SELECT pg_temp.send('dedup_a', 'w3', 'w'), pg_temp.send('dedup_a', 'w4', 'w');
SELECT max(n) FROM (SELECT count(*) AS n FROM cmq_data.q_dedup_a_dedup WHERE key = 'w' GROUP BY tableoid) s;
-- one that is rolled back leaves the old one
SELECT pg_temp.age_keys('dedup_a', '61 seconds');
BEGIN;
SELECT cmq_send('dedup_a', 'w5', dedup_key => 'w') > 0 AS sent;
ROLLBACK;
SELECT bool_and(enqueued_at < now() - interval '1 minute') AS old FROM cmq_data.q_dedup_a_dedup WHERE key = 'w';
SELECT pg_temp.send('dedup_a', 'w6', 'w');
-- a shorter window counts at once
SELECT pg_temp.age_keys('dedup_a', '30 seconds');
SELECT cmq_alter_queue('dedup_a', dedup_seconds => 30);
SELECT pg_temp.send('dedup_a', 'w7', 'w');
SELECT pg_temp.age_keys('dedup_a', '31 seconds');
SELECT cmq_alter_queue('dedup_a', dedup_seconds => 3600);
SELECT cmq_send('dedup_a', 'w8', dedup_key => 'w') = msg_id - 31000000 AS is_w7 FROM sent WHERE name = 'w7';

--
-- Keys in older leaves
--
SELECT cmq_create_queue('dedup_b', msg_retention_seconds => 1296000, dedup_seconds => 1296000);
SELECT min(lower) AS first FROM cmq.partition WHERE queue = 'dedup_b' \gset
SELECT pg_temp.add_keys('dedup_b', :'first'::timestamptz - interval '2 days', :'first'::timestamptz - interval '1 day'), pg_temp.add_keys('dedup_b', :'first'::timestamptz - interval '1 day', :'first');
INSERT INTO cmq_data.q_dedup_b_dedup VALUES ('old', :'first'::timestamptz - interval '1 us'), ('older', :'first'::timestamptz - interval '30 hours');
SELECT cmq_send('dedup_b', 'x', dedup_key => 'old') = cmq.msg_id(:'first'::timestamptz - interval '1 us') AS old,
	   cmq_send('dedup_b', 'x', dedup_key => 'older') = cmq.msg_id(:'first'::timestamptz - interval '30 hours') AS older;
SELECT pg_temp.batch('dedup_b', '{n1,n2,n3,n4}', '{older,new,old,new}');
SELECT cmq_alter_queue('dedup_b', dedup_seconds => extract(epoch FROM now() - :'first')::int + 100000);
SELECT cmq_send('dedup_b', 'x', dedup_key => 'old') = cmq.msg_id(:'first'::timestamptz - interval '1 us') AS old, pg_temp.send('dedup_b', 'n5', 'older') AS older, pg_temp.send('dedup_b', 'n6', 'older') AS older;
SELECT count(*) FROM cmq_data.q_dedup_b_dedup WHERE key = 'older';

--
-- Maintenance drops leaves of keys when their time is over, with or before the leaves of
-- messages, and never before.
--
CREATE FUNCTION pg_temp.leaves(queue text) RETURNS TABLE (age interval, messages boolean, keys boolean)
LANGUAGE sql AS $$
	SELECT max(lower) OVER () - lower, true, dedup IS NOT NULL FROM cmq.partition p
	 WHERE p.queue = leaves.queue AND lower <= now() ORDER BY lower
$$;
SELECT cmq_alter_queue('dedup_b', dedup_seconds => 1296000);
SELECT cmq_maintain('dedup_b');
SELECT * FROM pg_temp.leaves('dedup_b');
-- the older one has messages
INSERT INTO cmq_data.q_dedup_b (enqueued_at, body) VALUES (:'first'::timestamptz - interval '30 hours', 'pending');
INSERT INTO cmq_data.q_dedup_b_pending (visible_at, enqueued_at, receive_count, rewind_count) VALUES (:'first'::timestamptz - interval '30 hours', :'first'::timestamptz - interval '30 hours', 0, 0);
SELECT cmq_alter_queue('dedup_b', dedup_seconds => extract(epoch FROM now() - :'first')::int + 40000);
SELECT cmq_maintain('dedup_b');
SELECT * FROM pg_temp.leaves('dedup_b');
SELECT to_regclass(format('cmq_data.d_dedup_b_%s', to_char((:'first'::timestamptz - interval '2 days') AT TIME ZONE 'UTC', 'YYYYMMDDHH24MI'))) IS NULL AS dropped;
SELECT cmq_alter_queue('dedup_b', dedup_seconds => 1);
SELECT cmq_maintain('dedup_b');
SELECT * FROM pg_temp.leaves('dedup_b');
SELECT pg_temp.send('dedup_b', 'n7', 'old'), pg_temp.consume('dedup_b');
SELECT count(*) AS leaves, count(dedup) AS with_keys FROM cmq.partition WHERE queue = 'dedup_b' AND lower <= now();

--
-- Off and on: nothing of before is known.
--
SELECT pg_temp.send('dedup_a', 'o1', 'o');
SELECT cmq_alter_queue('dedup_a', dedup_seconds => 0);
SELECT to_regclass('cmq_data.q_dedup_a_dedup') IS NULL AS no_table, count(dedup) AS leaves FROM cmq.partition WHERE queue = 'dedup_a';
-- the name of the temporary schema is no one's to know
\set SHOW_CONTEXT never
SELECT pg_temp.send('dedup_a', 'o2', 'o');
\set SHOW_CONTEXT errors
SELECT pg_temp.send('dedup_a', 'o3');
SELECT cmq_maintain('dedup_a');
BEGIN;
SELECT cmq_alter_queue('dedup_a', dedup_seconds => 60);
SELECT pg_temp.send('dedup_a', 'o4', 'o');
ROLLBACK;
SELECT dedup_seconds, to_regclass('cmq_data.q_dedup_a_dedup') IS NULL AS no_table FROM cmq_queue_attributes('dedup_a');
SELECT cmq_alter_queue('dedup_a', dedup_seconds => 60);
SELECT pg_temp.send('dedup_a', 'o5', 'o'), pg_temp.send('dedup_a', 'o6', 'o');
SELECT count(*) > 0 AS leaves, bool_and(dedup IS NOT NULL) AS all_with_keys FROM cmq.partition WHERE queue = 'dedup_a' AND upper > now();
BEGIN;
SELECT cmq_alter_queue('dedup_a', dedup_seconds => 0);
ROLLBACK;
SELECT pg_temp.send('dedup_a', 'o6', 'o');
-- in the midst of a call
BEGIN;
DECLARE c CURSOR FOR TABLE cmq_data.q_dedup_a_pending;
FETCH 1 FROM c \g /dev/null
SELECT cmq_alter_queue('dedup_a', dedup_seconds => 0);
ROLLBACK;
-- by a role with UPDATE: tables are the owner's
CREATE ROLE regress_cmq_dedup_own;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_cmq_dedup_own;
SET ROLE regress_cmq_dedup_own;
SELECT cmq_create_queue('dedup_c');
GRANT UPDATE, INSERT ON cmq.q_dedup_c TO regress_cmq_dedup;
SET ROLE regress_cmq_dedup;
SELECT cmq_alter_queue('dedup_c', dedup_seconds => 60);
SELECT cmq_send('dedup_c', 'x', dedup_key => 'a') = cmq_send('dedup_c', 'x', dedup_key => 'a') AS same;
RESET ROLE;
SELECT DISTINCT relowner::regrole, relacl FROM pg_class WHERE relname ~ '^(q_dedup_c_dedup|d_dedup_c_)' AND relkind IN ('r', 'p');
SET ROLE regress_cmq_dedup;
SELECT pg_temp.attempt('TABLE cmq_data.q_dedup_c_dedup');
SELECT cmq_alter_queue('dedup_c', dedup_seconds => 0);
RESET ROLE;
SELECT cmq_drop_queue('dedup_c');
SELECT count(*) FROM pg_class WHERE relname ~ 'dedup_c';

--
-- Names
--
SELECT cmq_create_queue('dedup_n', dedup_seconds => 60);
SELECT * FROM pg_temp.complaint($$SELECT cmq_create_queue('dedup_n_dedup')$$);
SELECT cmq_alter_queue('dedup_n', dedup_seconds => 0);
SELECT cmq_create_queue('dedup_n_dedup');
SELECT pg_temp.attempt($$SELECT cmq_alter_queue('dedup_n', dedup_seconds => 60)$$);
SELECT cmq_drop_queue('dedup_n');
SELECT pg_temp.attempt($$SELECT cmq_create_queue('dedup_n', dedup_seconds => 60)$$);
SELECT cmq_create_queue('dedup_n');
SELECT cmq_drop_queue('dedup_n'), cmq_drop_queue('dedup_n_dedup');

--
-- Changes by hand
--
SELECT pg_temp.send('dedup_a', 'm1', 'm');
DELETE FROM cmq_data.q_dedup_a_dedup WHERE key = 'm';
SELECT pg_temp.send('dedup_a', 'm2', 'm'), pg_temp.send('dedup_a', 'm3', 'm');
SELECT * FROM pg_temp.complaint('TRUNCATE cmq_data.q_dedup_a_dedup');
SELECT dedup::text AS leaf, lower, upper FROM cmq.partition WHERE queue = 'dedup_a' AND lower <= now() AND upper > now() \gset
SELECT * FROM pg_temp.complaint('TRUNCATE ' || :'leaf');
CREATE FUNCTION pg_temp.broken(change text, undo text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE change;
	result := pg_temp.attempt($q$SELECT cmq_send('dedup_a', 'x', dedup_key => 'm')$q$) || ', ' || pg_temp.attempt($q$SELECT cmq_send('dedup_a', 'x')$q$);
	EXECUTE undo;
	RETURN result || ', ' || pg_temp.attempt($q$SELECT cmq_send('dedup_a', 'x', dedup_key => 'm')$q$);
END $$;
SELECT regexp_replace(pg_temp.broken(replace(change, 'LEAF', :'leaf'), replace(undo, 'LEAF', :'leaf')), '_\d{12}', '_TIME', 'g') AS broken
  FROM (VALUES (1, 'CREATE INDEX by_time ON cmq_data.q_dedup_a_dedup (enqueued_at)', 'DROP INDEX cmq_data.by_time'),
			   (2, 'CREATE UNIQUE INDEX by_lower ON LEAF (lower(key))', 'DROP INDEX cmq_data.by_lower'),
			   (3, 'ALTER TABLE cmq_data.q_dedup_a_dedup ADD CONSTRAINT c CHECK (key <> ''x'')', 'ALTER TABLE cmq_data.q_dedup_a_dedup DROP CONSTRAINT c'),
			   (4, 'ALTER TABLE LEAF SET UNLOGGED', 'ALTER TABLE LEAF SET LOGGED'),
			   (5, 'ALTER TABLE LEAF OWNER TO regress_cmq_dedup_own', 'ALTER TABLE LEAF OWNER TO CURRENT_USER'),
			   (6, 'CREATE UNIQUE INDEX another ON LEAF (key)', 'DROP INDEX cmq_data.another'),
			   (7, 'ALTER TABLE cmq_data.q_dedup_a_dedup DETACH PARTITION LEAF', format('ALTER TABLE cmq_data.q_dedup_a_dedup ATTACH PARTITION LEAF FOR VALUES FROM (%L) TO (%L)', :'lower', :'upper'))) v (n, change, undo)
 ORDER BY n;
SELECT DISTINCT relreplident AS replicates_rows FROM pg_class WHERE relname ~ '^(q_dedup_a_dedup|d_dedup_a_\d+)$';
DROP TABLE cmq_data.q_dedup_a_dedup;
SELECT * FROM pg_temp.complaint($$SELECT cmq_send('dedup_a', 'x', dedup_key => 'm')$$);
SELECT pg_temp.attempt($$SELECT cmq_send('dedup_a', 'x')$$), pg_temp.attempt($$SELECT cmq_maintain('dedup_a')$$), pg_temp.attempt($$SELECT cmq_pause_queue('dedup_a')$$), pg_temp.attempt($$SELECT cmq_resume_queue('dedup_a')$$);
SELECT cmq_alter_queue('dedup_a', dedup_seconds => 0);
SELECT cmq_alter_queue('dedup_a', dedup_seconds => 60);
SELECT pg_temp.attempt($$SELECT cmq_send('dedup_a', 'x', dedup_key => 'm')$$);

--
-- Topics: queues that keep keys look at them.
--
SELECT cmq_clear_queue('dedup_a') > 0 AS cleared;
SELECT cmq_create_topic('dedup_t');
SELECT cmq_subscribe('dedup_t', 'a', 'dedup_a'), cmq_subscribe('dedup_t', 'off', 'dedup_off');
SELECT count(*), count(DISTINCT msg_id) FROM (SELECT * FROM cmq_publish('dedup_t', 'p1', dedup_key => 'p') UNION ALL SELECT * FROM cmq_publish('dedup_t', 'p2', dedup_key => 'p')) s;
SELECT queue, count(*), count(DISTINCT msg_id) FROM cmq_publish_batch('dedup_t', '{p3,p4,p5,p6}', dedup_keys => '{p,q,NULL,q}') GROUP BY queue ORDER BY queue;
SELECT pg_temp.live('dedup_a'), pg_temp.live('dedup_off');
SELECT n, pg_temp.attempt('SELECT * FROM ' || call) FROM (VALUES
	(1, $$cmq_publish('dedup_t', 'x', dedup_key => '')$$), (2, $$cmq_publish('dedup_t', 'x', dedup_key => repeat('x', 129))$$),
	(3, $$cmq_publish_batch('dedup_t', '{x,y}', dedup_keys => '{a}')$$), (4, $$cmq_publish_batch('dedup_t', '{x,y}', dedup_keys => '{a,""}')$$),
	(5, $$cmq_publish_batch('dedup_t', '{}', dedup_keys => '{}')$$)) v (n, call) ORDER BY n;
SELECT cmq_unsubscribe('dedup_t', 'a'), cmq_unsubscribe('dedup_t', 'off');
SELECT cmq_drop_topic('dedup_t');

--
-- Replay: twice, and of windows that overlap.
--
SELECT cmq_create_queue('dedup_r', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('dedup_r', '{r1,r2,r3,r4}');
SELECT pg_temp.consume('dedup_r', 3);
SELECT cmq_clear_queue('dedup_a') > 0 AS cleared, cmq_clear_queue('dedup_off') > 0 AS cleared;
SELECT cmq_replay('dedup_r', 'dedup_a', now() - interval '1 hour', dedup => true) AS first, cmq_replay('dedup_r', 'dedup_a', now() - interval '1 hour', dedup => true) AS again;
SELECT pg_temp.consume('dedup_r');
SELECT cmq_replay('dedup_r', 'dedup_a', now() - interval '1 hour', dedup => true) AS more, pg_temp.live('dedup_a');
SELECT messages FROM cmq.rewinds WHERE queue = 'dedup_r' ORDER BY id;
SELECT count(*) FROM cmq_data.q_dedup_a_dedup k JOIN cmq.q_dedup_a_live l USING (enqueued_at)
 WHERE key = format('cmq_origin:dedup_r:%s', headers #>> '{cmq_origin,msg_id}');
SELECT pg_temp.attempt($$SELECT cmq_replay('dedup_r', 'dedup_off', now() - interval '1 hour', dedup => true)$$), cmq_replay('dedup_r', 'dedup_off', now() - interval '1 hour'), cmq_replay('dedup_r', 'dedup_a', now() - interval '1 hour');
SELECT pg_temp.attempt($$SELECT cmq_replay('dedup_r', 'dedup_a', now() - interval '1 hour', dedup => NULL)$$);

--
-- Dead letters and redrives have no keys.
--
SELECT cmq_create_queue('dedup_d', dedup_seconds => 60);
SELECT cmq_create_queue('dedup_s', dedup_seconds => 60, dead_letter_queue => 'dedup_d', max_receive_count => 1);
SELECT pg_temp.send('dedup_s', 'dead', 'd');
SELECT receipt_handle FROM cmq_receive('dedup_s') \gset
SELECT cmq_change_visibility('dedup_s', :'receipt_handle', 0) IS NOT NULL AS failed;
SELECT pg_temp.receive('dedup_s') AS none, pg_temp.live('dedup_d');
SELECT pg_temp.send('dedup_s', 'dead2', 'd');
SELECT cmq_redrive('dedup_d'), pg_temp.live('dedup_s'), pg_temp.keys('dedup_s');

--
-- A queue that is ordered
--
SELECT cmq_create_queue('dedup_o', dedup_seconds => 60, ordered => true);
SELECT cmq_send('dedup_o', 'o1', message_group => 'g', dedup_key => 'k') = cmq_send('dedup_o', 'o2', message_group => 'h', dedup_key => 'k') AS same;
SELECT count(DISTINCT id) FROM cmq_send_batch('dedup_o', '{o3,o4,o5}', message_groups => '{g,h,NULL}', dedup_keys => '{k,l,l}') id;
SELECT pg_temp.receive('dedup_o');

SELECT cmq_drop_queue(queue) FROM unnest('{dedup_a,dedup_b,dedup_off,dedup_r,dedup_s,dedup_d,dedup_o}'::text[]) queue;
SELECT count(*) FROM pg_class WHERE relnamespace = 'cmq_data'::regnamespace AND relname ~ 'dedup';
REVOKE ALL ON SCHEMA cmq, cmq_data FROM regress_cmq_dedup_own;
DROP ROLE regress_cmq_dedup, regress_cmq_dedup_own;
