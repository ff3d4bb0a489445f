-- What owners do to the tables of keys stops nothing else, and can be undone; and what a
-- duplicate leaves behind.  dedup.sql has the rest.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('keys_a', dedup_seconds => 3600, rewind_seconds => 172800);
CREATE FUNCTION pg_temp.send(body text, key text) RETURNS text
LANGUAGE sql AS $$
	SELECT COALESCE((SELECT m.body FROM cmq_data.q_keys_a m WHERE m.enqueued_at = cmq.enqueued_at(s.id)), 'itself')
	  FROM (SELECT cmq_send('keys_a', body, dedup_key => key) AS id OFFSET 0) s
$$;
SELECT pg_temp.send('one', 'k') AS first;
SELECT pg_temp.send('two', 'k') AS second;

--
-- A duplicate writes nothing: its transaction has no id.
--
BEGIN;
SELECT pg_temp.send('three', 'k') AS third;
SELECT pg_current_xact_id_if_assigned() IS NULL AS nothing_written;
SELECT count(*), count(DISTINCT id) AS messages FROM cmq_send_batch('keys_a', '{x,y,z}', dedup_keys => '{k,k,k}') id;
SELECT count(*) FROM cmq_receive('keys_a') WHERE body = 'one';
ROLLBACK;
BEGIN;
SELECT count(*) FROM cmq_send_batch('keys_a', '{x,y,z}', dedup_keys => '{k,k,k}');
SELECT pg_current_xact_id_if_assigned() IS NULL AS nothing_written;
COMMIT;

--
-- Renamed, by whatever name: the keys stay in use, whatever changes the queue's row
-- meanwhile.
--
ALTER TABLE cmq_data.q_keys_a_dedup RENAME TO keys_renamed;
SELECT pg_temp.send('four', 'k') AS known;
SELECT cmq_pause_queue('keys_a'), cmq_resume_queue('keys_a');
SELECT cmq_maintain('keys_a');
SELECT dedup FROM cmq.queue WHERE name = 'keys_a';
ALTER TABLE cmq_data.keys_renamed RENAME TO q_keys_a_dedup;
SELECT dedup FROM cmq.queue WHERE name = 'keys_a';
SELECT pg_temp.send('five', 'k') AS known;

--
-- The table given to somebody else: sends go on, also into partitions that come; those with
-- a key do as long as there is a partition of keys.
--
CREATE ROLE regress_cmq_keys;
GRANT CREATE ON SCHEMA cmq_data TO regress_cmq_keys;
CREATE ROLE regress_cmq_owner;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_cmq_owner;
SET ROLE regress_cmq_owner;
SELECT cmq_create_queue('keys_b', dedup_seconds => 3600);
RESET ROLE;
ALTER TABLE cmq_data.q_keys_b_dedup OWNER TO regress_cmq_keys;
SELECT cmq_send('keys_b', 'x', dedup_key => 'k') = cmq_send('keys_b', 'y', dedup_key => 'k') AS same;
CREATE FUNCTION pg_temp.drop_leaves(q text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	leaves text;
BEGIN
	SELECT string_agg(concat_ws(', ', messages, rewind, CASE WHEN EXISTS (SELECT FROM pg_class WHERE oid = dedup) THEN dedup END), ', ') INTO leaves FROM cmq.partition WHERE queue = q;
	EXECUTE 'DROP TABLE ' || leaves;
END $$;
SELECT pg_temp.drop_leaves('keys_b');
SELECT cmq_maintain('keys_b');
SELECT pg_temp.attempt($$SELECT cmq_send('keys_b', 'x')$$) AS without, pg_temp.attempt($$SELECT cmq_send('keys_b', 'x', dedup_key => 'k')$$) AS with_key;
SELECT count(*) > 0 AS leaves, count(dedup) AS with_keys FROM cmq.partition WHERE queue = 'keys_b';
-- off and on again it is whole
ALTER TABLE cmq_data.q_keys_b_dedup OWNER TO regress_cmq_owner;
SELECT cmq_alter_queue('keys_b', dedup_seconds => 0);
SELECT cmq_alter_queue('keys_b', dedup_seconds => 3600);
SELECT cmq_send('keys_b', 'x', dedup_key => 'k') = cmq_send('keys_b', 'y', dedup_key => 'k') AS same;

--
-- The table dropped: the same.
--
DROP TABLE cmq_data.q_keys_b_dedup;
SELECT pg_temp.drop_leaves('keys_b');
SELECT pg_temp.attempt($$SELECT cmq_send('keys_b', 'x')$$) AS without, pg_temp.attempt($$SELECT cmq_send('keys_b', 'x', dedup_key => 'k')$$) AS with_key;
SELECT cmq_maintain('keys_b');
SELECT cmq_alter_queue('keys_b', dedup_seconds => 600);
SELECT cmq_pause_queue('keys_b'), cmq_resume_queue('keys_b');
SELECT cmq_alter_queue('keys_b', dedup_seconds => 0);
SELECT cmq_alter_queue('keys_b', dedup_seconds => 3600);
SELECT cmq_send('keys_b', 'x', dedup_key => 'k') = cmq_send('keys_b', 'y', dedup_key => 'k') AS same;
DROP TABLE cmq_data.q_keys_b_dedup;
SELECT cmq_drop_queue('keys_b');

--
-- One partition of old keys that cannot be dropped does not keep the others.
--
SELECT date_trunc('minute', now()) AS minute \gset
SELECT pg_temp.drop_leaves('keys_a');
DELETE FROM cmq.partition WHERE queue = 'keys_a';
CREATE FUNCTION pg_temp.add_leaf_with_keys(lower timestamptz, upper timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	leaf text := 'd_keys_a_' || to_char(lower AT TIME ZONE 'UTC', 'YYYYMMDDHH24MI');
BEGIN
	PERFORM pg_temp.add_leaf('keys_a', lower, upper);
	EXECUTE format('CREATE TABLE cmq_data.%I (LIKE cmq_data.q_keys_a_dedup, UNIQUE (key))', leaf);
	EXECUTE format('ALTER TABLE cmq_data.q_keys_a_dedup ATTACH PARTITION cmq_data.%I FOR VALUES FROM (%L) TO (%L)', leaf, lower, upper);
	UPDATE cmq.partition p SET dedup = format('cmq_data.%I', leaf)::regclass WHERE p.queue = 'keys_a' AND p.lower = add_leaf_with_keys.lower;
	PERFORM pg_temp.reload('keys_a');
END $$;
SELECT count(pg_temp.add_leaf_with_keys(:'minute'::timestamptz - (n + 1) * interval '2 hours', :'minute'::timestamptz - n * interval '2 hours')) AS leaves FROM generate_series(1, 5) n;
SELECT pg_temp.add_leaf_with_keys(:'minute'::timestamptz - interval '2 hours', :'minute'::timestamptz + interval '1 day');
SELECT dedup AS leaf FROM cmq.partition WHERE queue = 'keys_a' AND upper = :'minute'::timestamptz - interval '8 hours' \gset
CREATE VIEW keys_of_a_leaf AS SELECT key FROM :leaf;
SET client_min_messages = error;
SELECT cmq_maintain('keys_a');
RESET client_min_messages;
SELECT :'minute'::timestamptz - upper AS ended FROM cmq.partition WHERE queue = 'keys_a' AND dedup IS NOT NULL AND lower < now() ORDER BY upper;
DROP VIEW keys_of_a_leaf;
SELECT cmq_maintain('keys_a');
SELECT :'minute'::timestamptz - upper AS ended FROM cmq.partition WHERE queue = 'keys_a' AND dedup IS NOT NULL AND lower < now() ORDER BY upper;
SELECT count(*) FROM cmq.partition WHERE queue = 'keys_a' AND lower < now();
SELECT cmq_drop_queue('keys_a');
DROP OWNED BY regress_cmq_keys;
DROP OWNED BY regress_cmq_owner;
DROP ROLE regress_cmq_keys, regress_cmq_owner;
