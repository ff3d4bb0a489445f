-- Go back from examples/pgmq.sql to pgmq, and take queues, messages and bindings along.
--
--   psql -X -d shop -f examples/pgmq_back.sql
--   psql -X -d shop -v pgmq=pgmq.sql -f examples/pgmq_back.sql
--
--   pgmq    pgmq's own script, where pgmq is not to be an extension
--   trust   roles with commas between, whose queues and tables may be read: the owner of a
--           queue can replace its views, and what is in them runs as whoever reads them.
--           Queues of others that have fewer rights than you are an error
--
-- Stop producers and consumers before.  All is done in one transaction: if anything fails,
-- all is there as before.  Time and space are in proportion to the messages in the queues and
-- their history, which are copied.
--
-- Messages keep their ids, times and read_ct; what waits is in q_<queue>, what was deleted or
-- archived in a_<queue>.  What examples/pgmq_move.sql has left in the archives of schema
-- pgmq_old comes back, too.  cmq's queues stay as they were, with the same messages: drop them,
-- or consume nothing from them.  Queues that were made by cmq_create_queue() stay with cmq alone.
-- Queues come back neither partitioned nor unlogged.
--
-- Needs the rights to create the extension or schema, and to read the queues.

\set ON_ERROR_STOP on
\set QUIET on
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
	IF to_regprocedure('pgmq._retention()') IS NULL OR (SELECT relkind FROM pg_class WHERE oid = to_regclass('pgmq.meta')) <> 'v' THEN
		RAISE EXCEPTION USING
			ERRCODE = 'undefined_object',
			MESSAGE = 'this database does not have the schema pgmq of examples/pgmq.sql';
	ELSIF to_regnamespace('pgmq_back') IS NOT NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = 'duplicate_schema',
			MESSAGE = 'schema pgmq_back exists already',
			HINT = 'Copies of the messages go there for the moment.  Rename it.';
	END IF;
END $do$;

-- What is read must be of roles that are trusted: views, tables, and the queues behind them.
DO $do$
DECLARE
	thing text;
	owner name;
BEGIN
	SELECT t.thing, t.owner INTO thing, owner
	  FROM (SELECT format('%s %I.%I', CASE relkind WHEN 'v' THEN 'view' ELSE 'table' END, nspname, relname) AS thing, pg_get_userbyid(relowner) AS owner
			  FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
			 WHERE nspname IN ('pgmq', 'pgmq_old') AND relkind IN ('r', 'p', 'v', 'm', 'f')
			 UNION ALL
			SELECT format('queue "%s"', queue), q.owner FROM cmq.queues q WHERE to_regclass(format('pgmq.%I', 'q_' || queue)) IS NOT NULL) t (thing, owner)
	 WHERE NOT pg_has_role(t.owner::name, current_user::name, 'MEMBER'::text) AND t.owner <> ALL (string_to_array(current_setting('pgmq_install.trust'), ','))
	 ORDER BY t.thing LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING
			ERRCODE = 'insufficient_privilege',
			MESSAGE = format('%s belongs to %I', thing, owner),
			DETAIL = 'To read it is to run what its owner has put there, as you.',
			HINT = format('If you trust that role with all your rights, say -v trust=%s.', owner);
	END IF;
END $do$;

CREATE SCHEMA pgmq_back;
DO $do$
DECLARE
	name text;
BEGIN
	-- meta shows all queues; those of pgmq.create() have views
	CREATE TABLE pgmq_back.meta AS SELECT * FROM pgmq.meta WHERE to_regclass(format('pgmq.%I', 'q_' || lower(queue_name::text))) IS NOT NULL;
	FOR name IN SELECT unnest(ARRAY['q_', 'a_']) || lower(queue_name::text) FROM pgmq_back.meta
				 UNION SELECT unnest('{topic_bindings,notify_insert_throttle}'::text[])
	LOOP
		EXECUTE format('CREATE TABLE pgmq_back.%1$I AS TABLE pgmq.%1$I', name);
	END LOOP;
END $do$;
\ir pgmq_drop.sql
RESET search_path;

\if :{?pgmq}
	\i :pgmq
\else
	CREATE EXTENSION pgmq;
\endif
SET LOCAL search_path TO pg_catalog, pg_temp;

DO $do$
DECLARE
	queue text;
	origin text;
	name text;
	columns text;
BEGIN
	FOR queue IN SELECT queue_name FROM pgmq_back.meta ORDER BY created_at LOOP
		PERFORM pgmq.create(queue);
		FOREACH name IN ARRAY ARRAY['q_', 'a_'] LOOP
			name := name || lower(queue);
			FOREACH origin IN ARRAY ARRAY['pgmq_back', 'pgmq_old'] LOOP
				CONTINUE WHEN origin = 'pgmq_old' AND (name NOT LIKE 'a\_%' OR to_regclass(format('pgmq_old.%I', name)) IS NULL);
				-- versions of pgmq differ in columns
				SELECT string_agg(quote_ident(attname), ', ') INTO STRICT columns
				  FROM pg_attribute b
				 WHERE attrelid = format('%I.%I', origin, name)::regclass AND attnum > 0
				   AND EXISTS (SELECT FROM pg_attribute p WHERE p.attrelid = format('pgmq.%I', name)::regclass AND p.attname = b.attname);
				EXECUTE format('INSERT INTO pgmq.%1$I (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM %3$I.%1$I', name, columns, origin);
			END LOOP;
		END LOOP;
		-- new ids come after those that were ever given out
		EXECUTE format('SELECT setval(pg_get_serial_sequence(%1$L, ''msg_id''), greatest(max(msg_id), 1), max(msg_id) IS NOT NULL)
						  FROM (SELECT msg_id FROM %2$s UNION ALL SELECT msg_id FROM %3$s) m',
					   format('pgmq.%I', 'q_' || lower(queue)), format('pgmq.%I', 'q_' || lower(queue)), format('pgmq.%I', 'a_' || lower(queue)));
	END LOOP;
	-- pgmq knows a queue by the name that it was created with
	IF to_regprocedure('pgmq.bind_topic(text,text)') IS NOT NULL THEN
		PERFORM pgmq.bind_topic(b.pattern, m.queue_name)
		   FROM pgmq_back.topic_bindings b JOIN pgmq_back.meta m ON lower(m.queue_name::text) = lower(b.queue_name::text);
	END IF;
	IF to_regprocedure('pgmq.enable_notify_insert(text,integer)') IS NOT NULL THEN
		PERFORM pgmq.enable_notify_insert(m.queue_name, n.throttle_interval_ms)
		   FROM pgmq_back.notify_insert_throttle n JOIN pgmq_back.meta m ON lower(m.queue_name::text) = lower(n.queue_name::text);
	END IF;
END $do$;
DROP SCHEMA pgmq_back CASCADE;

COMMIT;
SELECT queue_name, queue_length FROM pgmq.metrics_all();
