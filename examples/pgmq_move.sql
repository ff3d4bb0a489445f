-- Replace pgmq by examples/pgmq.sql, and take queues, messages and bindings along.
--
--   psql -X -d shop -f examples/pgmq_move.sql
--   psql -X -d shop -v retention=604800 -v rewind=86400 -f examples/pgmq_move.sql
--
--   trust   roles with commas between, whose tables may be read: what the owner of a table has
--           put there, a function in an index or a cast of a type, runs as whoever reads it.
--           The tables of others that have fewer rights than you are an error
--
-- Stop producers and consumers before, and let consumers finish what they have read.  All is
-- done in one transaction: if anything fails, pgmq is there as before.  Time and space are in
-- proportion to the messages in the queues and archives, which are copied.
--
-- Messages get new ids, in the same order, and live for :retention seconds from now on.  One
-- that was hidden stays hidden until its vt, or for half of retention at most, with a warning.
-- How often it was read is forgotten.  The tables of pgmq stay as they were in schema pgmq_old,
-- the archives among them; drop the schema when nobody needs them.  A binding that cmq cannot
-- have is left out, with a warning.  examples/pgmq_back.sql goes back.
--
-- Needs the extension cmq, and what examples/pgmq.sql needs; schema pgmq may be that of the
-- extension, or have been installed as SQL alone.

\set ON_ERROR_STOP on
\set QUIET on
\set in_transaction yes
\if :{?trust}
\else
	\set trust ''
\endif

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path TO pg_catalog, pg_temp;
SET LOCAL row_security TO off;
SELECT set_config('pgmq_install.trust', :'trust', true) \g /dev/null

DO $do$
BEGIN
	IF to_regclass('pgmq.meta') IS NULL OR (SELECT relkind FROM pg_class WHERE oid = to_regclass('pgmq.meta')) <> 'r' THEN
		RAISE EXCEPTION USING
			ERRCODE = 'undefined_object',
			MESSAGE = 'this database does not have pgmq',
			HINT = 'examples/pgmq.sql alone makes a schema pgmq on top of cmq.';
	ELSIF to_regnamespace('pgmq_old') IS NOT NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = 'duplicate_schema',
			MESSAGE = 'schema pgmq_old exists already',
			HINT = 'Tables of pgmq would go there.  Rename it.';
	END IF;
END $do$;

-- Raise an error unless this is a table that can be read.
CREATE FUNCTION pg_temp.check_table(name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	owner name;
BEGIN
	SELECT rolname INTO owner
	  FROM pg_class c JOIN pg_roles r ON r.oid = relowner
	 WHERE c.oid = to_regclass(format('pgmq.%I', name)) AND NOT pg_has_role(relowner, current_user::name, 'MEMBER'::text)
	   AND rolname <> ALL (string_to_array(current_setting('pgmq_install.trust'), ','));
	IF FOUND THEN
		RAISE EXCEPTION USING
			ERRCODE = 'insufficient_privilege',
			MESSAGE = format('table pgmq.%I belongs to %I', name, owner),
			DETAIL = 'To read it is to run what its owner has put there, as you.',
			HINT = format('If you trust that role with all your rights, say -v trust=%s.', owner);
	ELSIF (SELECT relkind NOT IN ('r', 'p') FROM pg_class WHERE oid = to_regclass(format('pgmq.%I', name))) THEN
		RAISE EXCEPTION USING
			ERRCODE = 'wrong_object_type',
			MESSAGE = format('pgmq.%I is no table', name);
	END IF;
END $$;

-- a copy, because tables can be members of the extension
CREATE SCHEMA pgmq_old;
SELECT pg_temp.check_table('meta') \g /dev/null
DO $do$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT tables.name
				  FROM pgmq.meta m, LATERAL (VALUES ('q_' || lower(m.queue_name::text)), ('a_' || lower(m.queue_name::text))) tables (name)
				 UNION SELECT unnest('{meta,topic_bindings,notify_insert_throttle}'::text[])
	LOOP
		IF to_regclass(format('pgmq.%I', name)) IS NOT NULL THEN
			PERFORM pg_temp.check_table(name);
			EXECUTE format('LOCK pgmq.%I IN EXCLUSIVE MODE', name);
			EXECUTE format('CREATE TABLE pgmq_old.%1$I AS TABLE pgmq.%1$I', name);
		END IF;
	END LOOP;
END $do$;
-- pg_partman would go on looking for the tables of partitioned queues, and its maintenance fail
DO $do$
DECLARE
	partman text := (SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'pg_partman');
BEGIN
	IF partman IS NOT NULL THEN
		EXECUTE format('DELETE FROM %s.part_config WHERE parent_table IN (SELECT unnest(ARRAY[''pgmq.q_'', ''pgmq.a_'']) || lower(queue_name::text) FROM pgmq_old.meta)', partman);
	END IF;
END $do$;
\ir pgmq_drop.sql

\ir pgmq.sql
SET LOCAL search_path TO pg_catalog, pg_temp;
DROP FUNCTION pg_temp.check_table(text);

DO $do$
DECLARE
	queue text;
	binding record;
	message jsonb;
	latest timestamptz := clock_timestamp() + make_interval(secs => pgmq._retention() / 2);
	early bigint;
BEGIN
	FOR queue IN SELECT queue_name FROM pgmq_old.meta ORDER BY created_at LOOP
		PERFORM pgmq.create(queue);
		early := 0;
		-- older versions of pgmq have no headers
		FOR message IN EXECUTE format('SELECT to_jsonb(q) FROM pgmq_old.%I q ORDER BY msg_id', 'q_' || lower(queue)) LOOP
			PERFORM pgmq.send(queue, message -> 'message', nullif(message -> 'headers', 'null'),
							  least((message ->> 'vt')::timestamptz, latest));
			early := early + ((message ->> 'vt')::timestamptz > latest)::int;
		END LOOP;
		IF early > 0 THEN
			RAISE WARNING 'queue "%" has % messages that become visible at %, and not later: a message does not live long enough', queue, early, latest;
		END IF;
	END LOOP;
	IF to_regclass('pgmq_old.topic_bindings') IS NOT NULL THEN
		FOR binding IN SELECT pattern, queue_name FROM pgmq_old.topic_bindings ORDER BY bound_at LOOP
			BEGIN
				PERFORM pgmq.bind_topic(binding.pattern, binding.queue_name);
			EXCEPTION WHEN feature_not_supported OR program_limit_exceeded OR invalid_parameter_value THEN
				RAISE WARNING 'queue "%" is not bound to %: %', binding.queue_name, binding.pattern, SQLERRM;
			END;
		END LOOP;
	END IF;
	IF to_regclass('pgmq_old.notify_insert_throttle') IS NOT NULL THEN
		PERFORM pgmq.enable_notify_insert(n.queue_name, n.throttle_interval_ms) FROM pgmq_old.notify_insert_throttle n;
	END IF;
END $do$;

COMMIT;
SELECT queue_name, queue_length FROM pgmq.metrics_all();
