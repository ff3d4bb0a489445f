-- Each error a user can cause, with its SQLSTATE; NULL in each place; odd
-- surroundings: hostile search_path, odd settings, read-only transactions.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('errors_a', rewind_seconds => 3600, max_msg_size => 1024);
SELECT cmq_create_queue('errors_off');
SELECT cmq_send('errors_a', 'here') > 0 AS sent;

--
-- One of each, as psql reports them.
--
\set VERBOSITY sqlstate
SELECT cmq_receive('errors_x');
SELECT cmq_create_queue('errors_a');
SELECT cmq_create_queue('Errors_A');
SELECT cmq_create_queue('not a name');
SELECT cmq_rewind('errors_off', now());
SELECT cmq_rewind('errors_a', now() - interval '2 hours');
SELECT cmq_receive('errors_a', 0);
SELECT cmq_delete('errors_a', 'no handle');
SELECT cmq_send('errors_a', repeat('x', 1025));
SET ROLE pg_monitor;
SELECT cmq_receive('errors_a');
RESET ROLE;
BEGIN READ ONLY;
SELECT cmq_receive('errors_a');
ROLLBACK;
\set VERBOSITY default
-- and in full: each names the queue, and gives range and way out.  (The
-- detail of a rewind out of range holds times; it is tested in rewind.)
SELECT cmq_receive('errors_x');
SELECT cmq_create_queue('errors_a');
SELECT cmq_create_queue('Errors_A');
SELECT cmq_create_queue('errors_a_pending');
SELECT cmq_create_queue('not a name');
SELECT cmq_create_queue('errors_y', visibility_timeout => 0);
SELECT cmq_create_queue('errors_y', max_msg_size => 1);
SELECT cmq_create_queue('errors_y', rewind_seconds => 61, msg_retention_seconds => 60);
SELECT cmq_alter_queue('errors_a', msg_retention_seconds => 60);
SELECT cmq_rewind('errors_off', now());
SELECT cmq_receive('errors_a', 1001);
SELECT cmq_receive('errors_a', 1, 43201);
SELECT cmq_change_visibility('errors_a', '1-2-3-4', 43201);
SELECT cmq_delete('errors_a', 'no handle');
SELECT cmq_send('errors_a', repeat('x', 1025));
SELECT cmq_send('errors_a', '');
SELECT cmq_send('errors_a', 'x', 345600);
SELECT cmq_send('errors_a', 'x', -1);
SELECT cmq_send('errors_a', 'x', deliver_at => 'infinity');
SELECT cmq_send('errors_a', 'x', 1, deliver_at => 'epoch');
SELECT cmq_send('errors_a', 'x', headers => '[1]');
SELECT cmq_alter_queue('errors_off', msg_retention_seconds => 60);
SELECT cmq_send('errors_off', 'x', 60);
SELECT cmq_send_batch('errors_a', '{a,b}', 0, '{NULL}');
SELECT cmq_send_batch('errors_a', '{a,b}', 0, '{NULL,1}');
-- groups
SELECT cmq_create_queue('errors_y', ordered => NULL);
SELECT cmq_create_queue('errors_o', ordered => true);
SELECT cmq_send('errors_a', 'x', message_group => 'a');
SELECT cmq_send_batch('errors_a', '{a,b}', message_groups => '{NULL,a}');
SELECT cmq_send('errors_o', 'x', message_group => '');
SELECT cmq_send('errors_o', 'x', message_group => repeat('x', 129));
SELECT cmq_send('errors_o', 'x', 1, message_group => 'a');
SELECT cmq_send('errors_o', 'x', deliver_at => 'epoch', message_group => 'a');
SELECT cmq_send_batch('errors_o', '{a,b}', message_groups => '{a}');
SELECT cmq_send_batch('errors_o', '{a,b}', message_groups => '{a,""}');
SELECT cmq_send_batch('errors_o', '{a,b}', 1, message_groups => '{NULL,a}');
SELECT cmq_send_batch('errors_o', '{a,b}', message_groups => '{{a,b}}');
SELECT pg_temp.counts('errors_o');
SELECT cmq_drop_queue('errors_o');
SET ROLE pg_monitor;
SELECT cmq_send('errors_a', 'x');
SELECT cmq_receive('errors_a');
SELECT cmq_rewind('errors_a', now());
SELECT cmq_queue_attributes('errors_a');
SELECT cmq_drop_queue('errors_a');
SELECT cmq_create_queue('errors_y');
RESET ROLE;

--
-- NULL in each place: an error, never a silent no-op.
--
CREATE TEMP TABLE call (f text, arg int, name text, value text, nullable boolean);
INSERT INTO call
	SELECT p.proname, a.arg, a.name,
		   CASE WHEN a.name = 'queue' AND p.proname = 'cmq_pause_queue' THEN $$'errors_off'$$ WHEN a.name = 'queue' THEN $$'errors_a'$$
				WHEN a.name = 'reason' THEN $$'because'$$ WHEN a.name = 'body' THEN $$'x'$$
				WHEN a.name = 'bodies' THEN $$'{x}'::text[]$$ WHEN a.name = 'receipt_handle' THEN $$'1-2-3-4'$$
				WHEN a.name = 'receipt_handles' THEN $$'{1-2-3-4}'::text[]$$ WHEN a.name = 'start_time' THEN 'now()'
				WHEN a.name IN ('end_time', 'deliver_at') THEN 'now()' WHEN a.name = 'msg_ids' THEN $$'{1}'::bigint[]$$
				WHEN a.name = 'into_queue' THEN $$'errors_off'$$ WHEN a.name = 'expected_count' THEN '0'
				WHEN a.name = 'max_messages' THEN '1' WHEN a.name = 'buckets' THEN '10' WHEN a.name = 'visibility_timeout' THEN '600'
				WHEN a.name = 'polling_wait_seconds' THEN '0' WHEN a.name = 'delay_seconds' THEN '0'
				WHEN a.name = 'msg_retention_seconds' THEN '3600' WHEN a.name = 'rewind_seconds' THEN '3600'
				WHEN a.name = 'max_msg_size' THEN '1024' WHEN a.name = 'max_msg_heap_num' THEN '1000000'
				WHEN a.name IN ('max_receive_count', 'max_time_to_live') THEN 'NULL'
				WHEN a.name = 'counted' THEN 'true' WHEN a.name LIKE 'retry_backoff%' THEN '0' WHEN a.name = 'rewind_share' THEN '100'
				WHEN a.name = 'dead_letter_queue' THEN 'NULL'
				WHEN a.name = 'message_group' THEN 'NULL' WHEN a.name = 'message_groups' THEN $$'{NULL}'::text[]$$ WHEN a.name = 'ordered' THEN 'true'
				WHEN a.name = 'part' THEN $$'history'$$ WHEN a.name = 'after_time' THEN 'now()' WHEN a.name IN ('after_id', 'msg_id') THEN '1' WHEN a.name = 'max_looked' THEN '1' WHEN a.name = 'backwards' THEN 'false'
				WHEN a.name = 'dedup_seconds' THEN '0' WHEN a.name = 'dedup_key' THEN 'NULL' WHEN a.name = 'dedup_keys' THEN $$'{NULL}'::text[]$$ WHEN a.name = 'dedup' THEN 'false'
				WHEN a.type = 'jsonb'::regtype THEN $$'{}'::jsonb$$ WHEN a.type = 'jsonb[]'::regtype THEN $$'{"{}"}'::jsonb[]$$ END,
		   a.name IN ('headers', 'deliver_at', 'message_group', 'message_groups', 'dedup_key', 'dedup_keys') OR p.proname = 'cmq_alter_queue' AND a.name <> 'queue' OR p.proname = 'cmq_maintain' OR
		   p.proname = 'cmq_redrive' AND a.name <> 'queue' OR a.name = 'end_time' AND p.proname <> 'cmq_timeline' OR a.name IN ('filter', 'expected_count', 'reason', 'after_id') OR p.proname = 'cmq_history' AND a.name = 'start_time' OR
		   p.proname IN ('cmq_receive', 'cmq_receive_messages', 'cmq_consume') AND a.name IN ('visibility_timeout', 'polling_wait_seconds') OR p.proname = 'cmq_release' AND a.name = 'delay_seconds'
	  FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'cmq',
		   LATERAL unnest(p.proargtypes::oid[], p.proargnames[1:p.pronargs]) WITH ORDINALITY a (type, name, arg)
	 WHERE p.proname LIKE 'cmq\_%' AND p.proname !~ 'topic|subscribe|publish';	-- topic.sql has those
SELECT count(*) AS arguments_without_a_value FROM call WHERE value IS NULL;
SELECT c.f, c.name, c.nullable, left(pg_temp.attempt(format('SELECT %I(%s)', c.f,
		(SELECT string_agg(CASE WHEN o.arg = c.arg THEN 'NULL' ELSE o.value END, ', ' ORDER BY o.arg) FROM call o WHERE o.f = c.f))), 60) AS with_null
  FROM call c WHERE c.f NOT IN ('cmq_create_queue', 'cmq_drop_queue') ORDER BY c.f COLLATE "C", c.arg;
SELECT pg_temp.counts('errors_a');
SELECT cmq_resume_queue('errors_off') AS was_paused;
-- and on the functions that the views are made of: NULL in, NULL out
SELECT cmq._readable(NULL), cmq._clock(NULL), cmq._expired_before(NULL), cmq._since(NULL), cmq._rewindable(NULL, now(), now()),
	   cmq._due(NULL, now(), now(), 1), cmq._rewind_left(NULL);

--
-- After an error in a transaction the queue is as before; after one in a
-- savepoint the transaction goes on.
--
\set VERBOSITY sqlstate
BEGIN;
SELECT cmq_send('errors_a', 'lost') > 0 AS sent;
SELECT cmq_send('errors_a', '');
SELECT cmq_send('errors_a', 'lost');
COMMIT;
BEGIN;
SELECT cmq_send('errors_a', 'kept') > 0 AS sent;
SAVEPOINT s;
SELECT cmq_delete('errors_a', 'nonsense');
ROLLBACK TO s;
SELECT cmq_send('errors_a', 'kept too') > 0 AS sent;
COMMIT;
\set VERBOSITY default
SELECT string_agg(body, ', ' ORDER BY msg_id) FROM cmq.q_errors_a_live WHERE body <> 'x';
SELECT count(*) FROM cmq_delete_batch('errors_a', array(SELECT receipt_handle FROM cmq_receive('errors_a', 1000)));

--
-- Read-only transactions: what writes is refused, what reads works.
--
SELECT cmq_send('errors_a', 'read') > 0 AS sent;
BEGIN READ ONLY;
SAVEPOINT s;
SELECT cmq_create_queue('errors_y');
ROLLBACK TO s;
SELECT cmq_alter_queue('errors_a', 60);
ROLLBACK TO s;
SELECT cmq_drop_queue('errors_a');
ROLLBACK TO s;
SELECT cmq_send('errors_a', 'x');
ROLLBACK TO s;
SELECT cmq_send_batch('errors_a', '{x}');
ROLLBACK TO s;
SELECT cmq_receive('errors_a');
ROLLBACK TO s;
SELECT cmq_delete('errors_a', '1-2-3-4');
ROLLBACK TO s;
SELECT cmq_delete_batch('errors_a', '{1-2-3-4}');
ROLLBACK TO s;
SELECT cmq_change_visibility('errors_a', '1-2-3-4', 1);
ROLLBACK TO s;
SELECT cmq_change_visibility_batch('errors_a', '{1-2-3-4}', 1);
ROLLBACK TO s;
SELECT cmq_release('errors_a', '{1-2-3-4}');
ROLLBACK TO s;
SELECT cmq_rewind('errors_a', now() - interval '10 minutes');
ROLLBACK TO s;
SELECT cmq_pause_queue('errors_a');
ROLLBACK TO s;
SELECT cmq_resume_queue('errors_a');
ROLLBACK TO s;
SELECT cmq_maintain('errors_a');
ROLLBACK TO s;
SELECT pg_temp.counts('errors_a'), pg_temp.live('errors_a');
SELECT count(*) > 0 AS history FROM cmq.q_errors_a_history;
SELECT queue FROM cmq.queues WHERE queue LIKE 'errors%' ORDER BY queue;
COMMIT;
SET default_transaction_read_only = on;
SELECT pg_temp.attempt($$SELECT cmq_receive('errors_a')$$) AS receive;
RESET default_transaction_read_only;
SELECT pg_temp.live('errors_a');

--
-- A hostile search_path: operators, functions, types and tables named like
-- the ones in use come first, and each says so when it is called.
--
CREATE SCHEMA errors_hostile;
DO $$
DECLARE
	t text;
	o text;
	f text[];
BEGIN
	FOREACH t IN ARRAY '{timestamptz,text,int,name,oid,bigint}'::text[] LOOP
		EXECUTE format('CREATE FUNCTION errors_hostile.compare(%s, %s) RETURNS boolean LANGUAGE plpgsql AS %L',
			t, t, 'BEGIN RAISE EXCEPTION ''trapped''; END');
		FOREACH o IN ARRAY '{=,<,>,<=,>=,<>}'::text[] LOOP
			EXECUTE format('CREATE OPERATOR errors_hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = errors_hostile.compare)', o, t, t);
		END LOOP;
	END LOOP;
	EXECUTE 'CREATE OPERATOR errors_hostile.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = errors_hostile.compare)';
	FOREACH f SLICE 1 IN ARRAY ARRAY[
		['lower(text)', 'text'], ['now()', 'timestamptz'], ['clock_timestamp()', 'timestamptz'],
		['transaction_timestamp()', 'timestamptz'], ['quote_ident(text)', 'text'], ['quote_literal(text)', 'text'],
		['format(text, text)', 'text'], ['min(timestamptz)', 'timestamptz'], ['max(timestamptz)', 'timestamptz'],
		['to_char(timestamptz, text)', 'text'], ['pg_get_userbyid(oid)', 'name'],
		['has_table_privilege(oid, text)', 'boolean'], ['cmq_send(text, text)', 'bigint'], ['_clock(text)', 'timestamptz'],
		['msg_id(timestamptz)', 'bigint'], ['_readable(text)', 'boolean'], ['_expired_before(text)', 'timestamptz'],
		['_since(text)', 'timestamptz'], ['_rewindable(text, timestamptz, timestamptz)', 'boolean'],
		['_due(text, timestamptz, timestamptz, bigint)', 'boolean']]
	LOOP
		EXECUTE format('CREATE FUNCTION errors_hostile.%s RETURNS %s LANGUAGE plpgsql AS %L',
			f[1], f[2], 'BEGIN RAISE EXCEPTION ''trapped''; END');
	END LOOP;
END $$;
CREATE TABLE errors_hostile.queue (name text, trap int);
CREATE TABLE errors_hostile.partition (queue text, trap int);
CREATE TABLE errors_hostile.pg_class (relname text, trap int);
CREATE TABLE errors_hostile.pg_inherits (trap int);
CREATE TYPE errors_hostile.message AS (trap int);
CREATE TYPE errors_hostile.timestamptz AS (trap int);
CREATE TYPE errors_hostile.jsonb AS (trap int);
CREATE TYPE errors_hostile.regrole AS (trap int);
CREATE TYPE errors_hostile.text AS (trap int);
CREATE TABLE errors_hostile.q_errors_h (trap int);
SET search_path = errors_hostile, pg_catalog, public;
-- it is hostile
\set VERBOSITY terse
SELECT now();
SELECT 1 = 2;
SELECT lower('X'::pg_catalog.text);
\set VERBOSITY default
SELECT public.cmq_create_queue('errors_h', rewind_seconds => 3600);
SELECT public.cmq_send('errors_h'::pg_catalog.text, 'a', 0, NULL) IS NOT NULL AS sent;
SELECT pg_catalog.count(*) FROM public.cmq_send_batch('errors_h', '{b,c}');
SELECT body, receive_count FROM public.cmq_receive('errors_h', 2) WITH ORDINALITY ORDER BY ordinality USING OPERATOR(pg_catalog.<);
SELECT state, body FROM cmq.q_errors_h_live ORDER BY msg_id;
SELECT pg_catalog.count(*) AS deleted FROM public.cmq_delete_batch('errors_h', ARRAY(SELECT receipt_handle FROM public.cmq_receive('errors_h', 10)));
SELECT public.cmq_delete('errors_h', '1-2-3-4') AS stale, public.cmq_change_visibility('errors_h', '1-2-3-4', 1) AS stale;
SELECT body FROM cmq.q_errors_h_history ORDER BY msg_id;
SELECT public.cmq_rewind('errors_h', pg_catalog.now() OPERATOR(pg_catalog.-) interval '10 minutes') IS NOT NULL AS rewound;
SELECT active_msg_num, inactive_msg_num, rewind_msg_num FROM public.cmq_queue_attributes('errors_h');
SELECT public.cmq_alter_queue('errors_h', visibility_timeout => 31, msg_retention_seconds => 7200);
SELECT public.cmq_maintain('errors_h');
SELECT body, rewind_count FROM public.cmq_receive('errors_h', 10);
SELECT visibility_timeout FROM cmq.queues WHERE queue OPERATOR(pg_catalog.=) 'errors_h';
SELECT public.cmq_alter_queue('errors_h', rewind_seconds => 0);
SELECT public.cmq_drop_queue('errors_h');
RESET search_path;
-- an empty one, and temporary tables with our names
SET search_path = '';
CREATE TEMP TABLE queue (name text);
CREATE TEMP TABLE q_errors_h (body text);
SELECT public.cmq_create_queue('errors_h');
SELECT public.cmq_send('errors_h', 'x') > 0 AS sent;
SELECT body FROM public.cmq_receive('errors_h');
SELECT public.cmq_drop_queue('errors_h');
RESET search_path;
SET client_min_messages = error;
DROP SCHEMA errors_hostile CASCADE;
RESET client_min_messages;

--
-- Odd settings: how times are written and read, how plans are made.
--
SET DateStyle = 'German, DMY';
SET TimeZone = 'Asia/Kathmandu';
SET IntervalStyle = 'iso_8601';
SET extra_float_digits = -15;
SET enable_seqscan = off;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SET enable_bitmapscan = off;
SET default_transaction_deferrable = on;
SET row_security = off;
-- 19 refuses
SELECT pg_temp.attempt($$SET standard_conforming_strings = off$$) IS NOT NULL AS tried;
SET backslash_quote = off;
SET array_nulls = off;
SET check_function_bodies = off;
SET session_replication_role = replica;
SELECT cmq_create_queue('errors_s', msg_retention_seconds => 7200, rewind_seconds => 480);
SELECT cmq_send('errors_s', 'a') > 0 AS sent;
SELECT count(*) FROM cmq_send_batch('errors_s', '{b,c}');
SELECT pg_temp.consume('errors_s');
SELECT cmq_rewind('errors_s', pg_temp.produced('errors_s', 'b')) = pg_temp.produced('errors_s', 'b') AS rewound;
SELECT cmq_maintain('errors_s');
SELECT pg_temp.consume('errors_s'), pg_temp.history('errors_s'), pg_temp.counts('errors_s');
SELECT cmq_alter_queue('errors_s', msg_retention_seconds => 7300);
SELECT pg_temp.attempt($$SELECT cmq_rewind('errors_s', 'infinity')$$);
SELECT count(*) > 0 AS leaves, bool_and(upper - lower = interval '15 minutes') AS widths FROM cmq.partition WHERE queue = 'errors_s';
SELECT cmq_drop_queue('errors_s');
RESET ALL;

--
-- The schema belongs to the extension.
--
SELECT pg_temp.attempt('DROP SCHEMA cmq') AS schema_of_an_extension;
SELECT cmq_drop_queue('errors_a');
SELECT cmq_drop_queue('errors_off');
