-- A role that may name the views of a queue, and has no right on it, sees no body,
-- count, setting or estimate: not by a condition, an operator, an estimate of the
-- planner, somebody else's plan, a lock or the text of an error.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_eyes_owner;
CREATE ROLE regress_eyes_reader;
CREATE ROLE regress_eyes_nobody;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_eyes_owner;
GRANT USAGE ON SCHEMA cmq TO regress_eyes_reader;
GRANT USAGE ON SCHEMA cmq, cmq_data TO regress_eyes_nobody;
SET ROLE regress_eyes_owner;
SELECT cmq_create_queue('vault', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('vault', array(SELECT 'SALARY ' || i % 10 FROM generate_series(1, 1000) i),
	headers => array(SELECT jsonb_build_object('shop', i % 10) FROM generate_series(1, 1000) i));
SELECT count(*) FROM cmq_delete_batch('vault', array(SELECT receipt_handle FROM cmq_receive('vault', 500)));
GRANT SELECT ON cmq.q_vault TO regress_eyes_reader;
-- there is something to be seen in statistics
CREATE STATISTICS cmq_data.vault_stats ON (headers ->> 'shop') FROM cmq_data.q_vault;
ANALYZE cmq_data.q_vault, cmq_data.q_vault_rewind, cmq_data.q_vault_pending;
RESET ROLE;
SELECT count(*) > 5 AS statistics FROM pg_stats WHERE schemaname = 'cmq_data' AND tablename ~ '_vault';
SELECT count(*) > 0 AS expressions FROM pg_stats_ext_exprs WHERE schemaname = 'cmq_data' AND statistics_name = 'vault_stats';

-- operators and functions that tell each value they meet, also in statistics
CREATE SCHEMA eyes AUTHORIZATION regress_eyes_nobody;
SET ROLE regress_eyes_nobody;
CREATE FUNCTION eyes.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE WARNING 'leaked %', $1; RETURN true; END $$;
CREATE FUNCTION eyes.leak(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE WARNING 'leaked %', $1; RETURN true; END $$;
CREATE FUNCTION eyes.leak(text, text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE WARNING 'leaked %', $1; RETURN true; END $$;
CREATE FUNCTION eyes.leak(jsonb, jsonb) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE WARNING 'leaked %', $1; RETURN true; END $$;
CREATE FUNCTION eyes.leak(int, int) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE WARNING 'leaked %', $1; RETURN true; END $$;
CREATE OPERATOR eyes.<<< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = eyes.leak, RESTRICT = scalarltsel);
CREATE OPERATOR eyes.<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = eyes.leak, RESTRICT = scalarltsel);
CREATE OPERATOR eyes.=== (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = eyes.leak, RESTRICT = eqsel);
CREATE OPERATOR eyes.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = eyes.leak, RESTRICT = eqsel);
-- they do tell, where there is a right
CREATE TABLE eyes.control AS SELECT 'c' AS c, 1 AS i FROM generate_series(1, 2);
ANALYZE eyes.control;
SELECT FROM eyes.control WHERE eyes.tell(c) LIMIT 1;
EXPLAIN (COSTS OFF) SELECT FROM eyes.control WHERE i OPERATOR(eyes.===) 1;
RESET ROLE;

CREATE TEMP TABLE attack (n serial, command text);
INSERT INTO attack (command) VALUES
	('SELECT count(*) FROM %s'), ('SELECT * FROM %s LIMIT 1'), ('EXPLAIN SELECT FROM %s'), ('EXPLAIN SELECT FROM %s WHERE body = ''SALARY 1'''),
	('EXPLAIN SELECT FROM %s WHERE enqueued_at OPERATOR(eyes.<<<) now()'), ('SELECT FROM %s WHERE enqueued_at OPERATOR(eyes.<<<) now()'),
	('SELECT FROM %s WHERE eyes.tell(body)'), ('SELECT FROM %s WHERE body OPERATOR(eyes.<<<) ''x'''), ('SELECT FROM %s WHERE headers OPERATOR(eyes.===) ''{}'''),
	('SELECT FROM %s WHERE receive_count OPERATOR(eyes.===) 5'), ('SELECT FROM %s WHERE body::int = 3'), ('SELECT FROM %s WHERE headers ->> ''shop'' = ''1'''),
	('SELECT (SELECT count(*) FROM %s h WHERE h.enqueued_at OPERATOR(eyes.<<<) g.now) FROM (SELECT now()) g'),
	('WITH x AS MATERIALIZED (SELECT FROM %s WHERE enqueued_at OPERATOR(eyes.<<<) now()) SELECT count(*) FROM x'),
	('SELECT count(*) FROM (SELECT enqueued_at FROM %s OFFSET 0) s WHERE s.enqueued_at OPERATOR(eyes.<<<) now()'),
	('SELECT count(*) FROM generate_series(1, 2) g LEFT JOIN %s h ON h.enqueued_at OPERATOR(eyes.<<<) now() AND g = h.receive_count'),
	('SELECT g FROM generate_series(1, 2) g WHERE EXISTS (SELECT FROM %s h WHERE h.enqueued_at OPERATOR(eyes.<<<) now())'),
	('SELECT g FROM generate_series(1, 2) g WHERE g NOT IN (SELECT receive_count FROM %s h WHERE h.enqueued_at OPERATOR(eyes.<<<) now())'),
	('SELECT g, l.* FROM generate_series(1, 2) g, LATERAL (SELECT FROM %s h WHERE h.receive_count OPERATOR(eyes.===) g LIMIT 1) l'),
	('SELECT count(*) FROM %1$s a JOIN %1$s b USING (enqueued_at) WHERE a.enqueued_at OPERATOR(eyes.<<<) now()'),
	('(SELECT enqueued_at FROM %s WHERE enqueued_at OPERATOR(eyes.<<<) now()) UNION ALL SELECT now()'),
	('SELECT FROM (SELECT enqueued_at FROM %s UNION ALL SELECT now()) s WHERE enqueued_at OPERATOR(eyes.<<<) now()'),
	('SELECT enqueued_at, count(*) FROM %s GROUP BY 1 HAVING enqueued_at OPERATOR(eyes.<<<) now()'),
	('DO $d$ BEGIN PERFORM FROM %s WHERE enqueued_at OPERATOR(eyes.<<<) now(); END $d$'),
	('CREATE TEMP VIEW own AS SELECT * FROM %s; SELECT count(*) FROM own'), ('CREATE TEMP TABLE own AS SELECT * FROM %s'),
	('INSERT INTO eyes.control SELECT body, 1 FROM %s'), ('UPDATE eyes.control SET i = 2 FROM %s v WHERE v.body = c'), ('DELETE FROM eyes.control USING %s v WHERE v.body = c'),
	('MERGE INTO eyes.control USING %s v ON v.body = c WHEN MATCHED THEN DELETE'), ('EXPLAIN ANALYZE SELECT FROM %s'), ('SELECT max(body) OVER () FROM %s'), ('SELECT body FROM %s ORDER BY 1 FETCH FIRST ROW WITH TIES'),
	('CREATE MATERIALIZED VIEW eyes.own AS SELECT * FROM %s'), ('SELECT query_to_xml(''SELECT count(*) FROM %s'', false, false, '''')'),
	('DECLARE c CURSOR FOR SELECT * FROM %s'), ('SELECT FROM %s WHERE random() < 2'), ('LOCK TABLE %s IN ACCESS SHARE MODE');
CREATE FUNCTION pg_temp.outcomes(command text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(pg_temp.outcome('regress_eyes_nobody', format(command, 'cmq.q_vault_' || v)), ' ' ORDER BY n) FROM unnest('{live,history,all}'::text[]) WITH ORDINALITY u (v, n)
$$;
SELECT n, command, pg_temp.outcomes(command) AS "live history all" FROM attack ORDER BY n;
-- the help for the planner changes none of it
SET cmq.plan_views = off;
CREATE TEMP TABLE without_help AS SELECT n, pg_temp.outcomes(command) AS o FROM attack;
RESET cmq.plan_views;
SELECT n, command, o AS without_help, pg_temp.outcomes(command) AS with_help FROM attack JOIN without_help USING (n) WHERE o <> pg_temp.outcomes(command);
-- nor do its functions answer
SELECT f, pg_temp.outcome('regress_eyes_nobody', 'SELECT cmq.' || f) AS nobody, pg_temp.outcome('regress_eyes_reader', 'SELECT cmq.' || f) AS reader
  FROM unnest(ARRAY['_in_states(''vault'', now(), 7)', '_state_time(''vault'', now(), 4)', '_state_int(''vault'', now(), 6)', '_state_text(''vault'', now(), 5)', '_unexpired(''vault'', now())', '_in_states(q, now(), 4) FROM unnest(''{vault,vault}''::text[]) q']) f;
-- the right on a view itself counts as well
REVOKE SELECT ON cmq.q_vault_live, cmq.q_vault_history FROM PUBLIC;
SELECT command, pg_temp.outcome('regress_eyes_reader', format(command, 'cmq.q_vault_live')) AS live, pg_temp.outcome('regress_eyes_reader', format(command, 'cmq.q_vault_history')) AS history, pg_temp.outcome('regress_eyes_reader', format(command, 'cmq.q_vault_all')) AS "all"
  FROM unnest(ARRAY['SELECT count(*) FROM %s', 'SELECT sum(length(body)) FROM %s', 'SELECT * FROM %s ORDER BY enqueued_at LIMIT 1', 'SELECT count(*) FROM (SELECT * FROM %s) s WHERE msg_id = 1']) command;
GRANT SELECT ON cmq.q_vault_live, cmq.q_vault_history TO PUBLIC;
-- and so do those that the owner of the views has on what is in them
CREATE FUNCTION pg_temp.without(command text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(pg_temp.outcome('regress_eyes_reader', format(command, 'cmq.q_vault_' || v)), ' ' ORDER BY n) FROM unnest('{live,history,all}'::text[]) WITH ORDINALITY u (v, n)
$$;
CREATE TEMP TABLE owners (n serial, relation text, command text, helped text, unhelped text);
INSERT INTO owners (relation, command) SELECT r, c FROM unnest('{cmq.q_vault_live,cmq.q_vault_history,cmq_data.q_vault_pending,cmq_data.q_vault_rewind,cmq_data.q_vault}'::text[]) r, unnest(ARRAY['SELECT count(*) FROM %s', 'SELECT sum(length(body)) FROM %s', 'SELECT * FROM %s ORDER BY enqueued_at LIMIT 1']) c;
DO $$
DECLARE
	o owners;
BEGIN
	FOR o IN SELECT * FROM owners LOOP
		EXECUTE format('REVOKE SELECT ON %s FROM regress_eyes_owner, PUBLIC', o.relation);
		SET LOCAL cmq.plan_views = on;
		UPDATE owners SET helped = pg_temp.without(o.command) WHERE n = o.n;
		SET LOCAL cmq.plan_views = off;
		UPDATE owners SET unhelped = pg_temp.without(o.command) WHERE n = o.n;
		EXECUTE format('GRANT SELECT ON %s TO regress_eyes_owner', o.relation);
		IF o.relation ~ '^cmq\.' THEN
			EXECUTE format('GRANT SELECT ON %s TO PUBLIC', o.relation);
		END IF;
	END LOOP;
END $$;
SELECT relation, command, helped AS "live history all", helped IS DISTINCT FROM unhelped AS differ FROM owners ORDER BY n;
-- nothing but the right is in the way: the same role with it gets through, or, where
-- a body is no number, as far as the bodies
GRANT SELECT ON cmq.q_vault TO regress_eyes_nobody;
SET client_min_messages = error;
SELECT o AS with_select, count(*), string_agg(n::text, ' ' ORDER BY n) FILTER (WHERE o <> 'ok ok ok') AS others FROM attack, pg_temp.outcomes(command) o GROUP BY 1 ORDER BY 2 DESC;
RESET client_min_messages;
REVOKE SELECT ON cmq.q_vault FROM regress_eyes_nobody;
-- a COPY to the client cannot be tried in a function
\set VERBOSITY sqlstate
SET ROLE regress_eyes_nobody;
COPY (SELECT * FROM cmq.q_vault_live) TO STDOUT;
COPY (SELECT * FROM cmq.q_vault_history) TO STDOUT;
COPY (SELECT * FROM cmq.q_vault_all) TO STDOUT;
SET ROLE regress_eyes_reader;
COPY (SELECT count(body) FROM cmq.q_vault_live) TO STDOUT;
COPY (SELECT count(body) FROM cmq.q_vault_history) TO STDOUT;
COPY (SELECT count(body) FROM cmq.q_vault_all) TO STDOUT;
RESET ROLE;
\set VERBOSITY default
-- what the views refuse to readers too
SELECT command, pg_temp.outcome('regress_eyes_nobody', format(command, 'cmq.q_vault_live')) AS nobody, pg_temp.outcome('regress_eyes_reader', format(command, 'cmq.q_vault_live')) AS reader
  FROM unnest(ARRAY['SELECT FROM %s FOR UPDATE', 'LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', 'INSERT INTO %s (body) VALUES (''x'')', 'UPDATE %s SET body = ''x''', 'DELETE FROM %s', 'TRUNCATE %s']) command;
-- a condition that is known to be false reads nothing, and tells nothing
SELECT pg_temp.outcome('regress_eyes_nobody', 'SELECT FROM cmq.q_vault_live WHERE false AND enqueued_at OPERATOR(eyes.<<<) now()') IN ('42501', 'ok') AS nothing;
-- the relations behind the views
SELECT relation, pg_temp.outcome('regress_eyes_nobody', 'SELECT FROM ' || relation) AS "select", pg_temp.outcome('regress_eyes_nobody', 'EXPLAIN SELECT FROM ' || relation) AS explain,
	   pg_temp.outcome('regress_eyes_nobody', format('LOCK TABLE %s IN ACCESS SHARE MODE', relation)) AS lock,
	   pg_temp.outcome('regress_eyes_reader', 'SELECT FROM ' || relation) AS reader
  FROM unnest('{cmq.q_vault,cmq_data.v_vault,cmq_data.q_vault,cmq_data.q_vault_pending,cmq_data.q_vault_rewind}'::text[]) relation;
SELECT pg_temp.outcome('regress_eyes_nobody', format('SELECT FROM %s', l)) AS leaf FROM (SELECT messages AS l FROM cmq.partition WHERE queue = 'vault' UNION ALL SELECT rewind FROM cmq.partition WHERE queue = 'vault') s GROUP BY 1;
-- statistics
SET ROLE regress_eyes_nobody;
SELECT (SELECT count(*) FROM pg_stats WHERE schemaname IN ('cmq', 'cmq_data')) AS columns, (SELECT count(*) FROM pg_stats_ext_exprs WHERE schemaname = 'cmq_data') AS expressions;
SET ROLE regress_eyes_reader;
SELECT (SELECT count(*) FROM pg_stats WHERE schemaname IN ('cmq', 'cmq_data')) AS columns, (SELECT count(*) FROM pg_stats_ext_exprs WHERE schemaname = 'cmq_data') AS expressions;
SELECT (SELECT count(*) FROM cmq.q_vault_live) AS live, (SELECT count(*) FROM cmq.q_vault_history) AS history, (SELECT count(*) FROM cmq.q_vault_all) AS "all";
RESET ROLE;
-- SELECT on the columns alone is not SELECT
GRANT SELECT (queue) ON cmq.q_vault TO regress_eyes_nobody;
SELECT pg_temp.outcome('regress_eyes_nobody', 'SELECT FROM cmq.q_vault_live') AS columns_only;
REVOKE SELECT (queue) ON cmq.q_vault FROM regress_eyes_nobody;

--
-- Plans that somebody else has made, or that are older than a REVOKE.
--
SET plan_cache_mode = force_generic_plan;
SET ROLE regress_eyes_reader;
PREPARE counted AS SELECT count(*) FROM cmq.q_vault_history;
PREPARE bodies AS SELECT count(body) FROM cmq.q_vault_live;
EXECUTE counted;
EXECUTE bodies;
\set VERBOSITY sqlstate
SET ROLE regress_eyes_nobody;
EXECUTE counted;
EXECUTE bodies;
EXPLAIN EXECUTE counted;
SET ROLE regress_eyes_reader;
EXECUTE counted;
RESET ROLE;
REVOKE SELECT ON cmq.q_vault FROM regress_eyes_reader;
SET ROLE regress_eyes_reader;
EXECUTE counted;
EXPLAIN EXECUTE bodies;
RESET ROLE;
GRANT SELECT ON cmq.q_vault TO regress_eyes_reader;
SET ROLE regress_eyes_reader;
EXECUTE counted;
RESET ROLE;
\set VERBOSITY default
-- a plan follows rewinds, cancels and settings
SELECT min(enqueued_at) AS oldest FROM cmq.q_vault_history \gset
SELECT cmq_clear_queue('vault');
SELECT cmq_rewind('vault', :'oldest') = :'oldest' AS rewound;
EXECUTE counted;
EXECUTE bodies;
SELECT count(*) FROM cmq_receive('vault', 100);
EXECUTE bodies;
BEGIN;
SELECT cmq_cancel_rewind('vault');
EXECUTE counted;
ROLLBACK;
EXECUTE counted;
SELECT cmq_cancel_rewind('vault');
EXECUTE counted;
EXECUTE bodies;
SELECT cmq_alter_queue('vault', rewind_seconds => 0);
EXECUTE counted;
SELECT cmq_alter_queue('vault', rewind_seconds => 3600);
EXECUTE counted;
DEALLOCATE ALL;
RESET plan_cache_mode;
-- SECURITY DEFINER, and a view of a reader's: the current user counts
SET ROLE regress_eyes_reader;
CREATE FUNCTION pg_temp.definer() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM cmq.q_vault_live';
CREATE TEMP VIEW readers AS SELECT count(*) FROM cmq.q_vault_live;
GRANT SELECT ON readers TO PUBLIC;
RESET ROLE;
SELECT pg_temp.outcome('regress_eyes_nobody', 'SELECT pg_temp.definer()') AS definer, pg_temp.outcome('regress_eyes_nobody', 'SELECT * FROM readers') AS view,
	   pg_temp.outcome('regress_eyes_reader', 'SELECT * FROM readers') AS view;
-- in parallel workers
SET ROLE regress_eyes_reader;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SELECT count(*), count(DISTINCT msg_id) FROM cmq.q_vault_all;
RESET ROLE;

--
-- What an error tells: facts for readers alone.
--
SELECT cmq_alter_queue('vault', max_msg_size => 1024, max_msg_heap_num => 100);
CREATE FUNCTION pg_temp.detail(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || CASE WHEN detail ~ '\d{3}' AND detail !~ 'between 0 and 3600 seconds\.' THEN 'with numbers' ELSE detail END;
END $$;
CREATE TABLE public.eyes_call (n int, command text);
INSERT INTO public.eyes_call VALUES
	(1, $$SELECT cmq_send('vault', 'x')$$), (2, $$SELECT cmq_send('vault', repeat('x', 2000))$$), (3, $$SELECT cmq_send('vault', 'x', headers => jsonb_build_object('k', repeat('x', 2000)))$$),
	(4, $$SELECT cmq_send('vault', 'x', 1000000)$$), (5, $$SELECT cmq_rewind('vault', '2001-01-01')$$), (6, $$SELECT cmq_alter_queue('vault', rewind_seconds => 1296000)$$),
	(7, $$SELECT cmq_publish('vault', 'x')$$), (8, $$SELECT cmq_publish('vault', repeat('x', 2000))$$);
GRANT SELECT ON public.eyes_call TO PUBLIC;
SELECT cmq_create_topic('vault');
SELECT cmq_subscribe('vault', 'vault', 'vault');
GRANT INSERT ON cmq.t_vault TO regress_eyes_nobody, regress_eyes_reader;
GRANT INSERT, UPDATE ON cmq.q_vault TO regress_eyes_nobody, regress_eyes_reader;
SET ROLE regress_eyes_nobody;
SELECT n, pg_temp.detail(command) FROM public.eyes_call ORDER BY n;
SELECT * FROM cmq.queues WHERE queue = 'vault' \gx
SET ROLE regress_eyes_reader;
SELECT n, pg_temp.detail(command) FROM public.eyes_call ORDER BY n;
SELECT visibility_timeout, max_msg_size, max_msg_heap_num FROM cmq.queues WHERE queue = 'vault';
RESET ROLE;

DROP VIEW readers;
SELECT cmq_drop_queue('vault');
SELECT cmq_drop_topic('vault');
DROP TABLE public.eyes_call;
SET client_min_messages = error;
DROP OWNED BY regress_eyes_owner, regress_eyes_reader, regress_eyes_nobody CASCADE;
DROP ROLE regress_eyes_owner, regress_eyes_reader, regress_eyes_nobody;
