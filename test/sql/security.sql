-- What an owner of queues may try against those who use or maintain them, and what
-- somebody without rights may try to learn.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT count(*) AS security_definer
  FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON d.refobjid = e.oid AND e.extname = 'cmq'
 WHERE p.prosecdef;

CREATE ROLE regress_evil;
CREATE ROLE regress_nobody;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_evil;
GRANT USAGE ON SCHEMA cmq TO regress_nobody;
CREATE SCHEMA evil AUTHORIZATION regress_evil;
SELECT current_user AS me \gset

SET ROLE regress_evil;
SELECT cmq_create_queue('evil_dlq', rewind_seconds => 3600);
SELECT cmq_create_queue('evil', rewind_seconds => 3600, dead_letter_queue => 'evil_dlq', max_receive_count => 1);

--
-- Functions of the owner's in indexes: maintenance runs them as the owner, who
-- cannot become anybody else there.
--
-- (psql shows only what differs from the owner, else each row would be told)
CREATE FUNCTION evil.spy_at_work(n int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	attempt text;
BEGIN
	IF current_user <> 'regress_evil' THEN
		RAISE WARNING 'index function runs as somebody else';
		RETURN n;
	END IF;
	FOREACH attempt IN ARRAY ARRAY['RESET ROLE', 'SET ROLE NONE', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION DEFAULT'] LOOP
		BEGIN
			EXECUTE attempt;
			IF current_user <> 'regress_evil' THEN
				RAISE WARNING '% made it somebody else', attempt;
			END IF;
		EXCEPTION WHEN insufficient_privilege THEN
			NULL;
		END;
	END LOOP;
	RAISE WARNING 'spy was there';
	RETURN n;
END $$;
CREATE FUNCTION evil.spy(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT evil.spy_at_work(n)';
CREATE FUNCTION evil.spy(t text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT evil.spy(length(t))';
CREATE INDEX ON cmq_data.q_evil_dlq_pending (evil.spy(receive_count));
CREATE INDEX ON cmq_data.q_evil (evil.spy(body));
RESET ROLE;

-- whoever sends and receives runs them as on any table, with his own rights
SET client_min_messages = error;
SELECT cmq_send('evil', 'm1') > 0 AS sent;
SELECT count(*) FROM cmq_receive('evil', visibility_timeout => 600);
UPDATE cmq_data.q_evil_pending SET visible_at = enqueued_at;
-- but a superuser's maintenance, which moves the dead letter and makes statistics,
-- runs them as the owner
SET client_min_messages = warning;
SELECT cmq_maintain('evil');
SELECT pg_temp.live('evil'), pg_temp.live('evil_dlq');
SET client_min_messages = error;

-- one that makes the session forget what it knows of the queue, in the midst of
-- a call: nothing happens
SET ROLE regress_evil;
CREATE FUNCTION evil.forget_at_work() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'GRANT SELECT ON cmq.q_evil TO regress_evil';
	PERFORM cmq._readable('evil');
END $$;
CREATE FUNCTION evil.forget(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM evil.forget_at_work(); RETURN n; END $$;
CREATE INDEX forget ON cmq_data.q_evil_pending (evil.forget(receive_count));
SELECT cmq_unbind_dead_letter('evil');
SELECT count(*) AS sent FROM cmq_send_batch('evil', array(SELECT repeat('x', 100000) FROM generate_series(1, 3)));
SELECT cmq_change_visibility('evil', receipt_handle, 0) IS NOT NULL AS changed FROM cmq_receive('evil', 2);
SELECT count(*) AS deleted FROM cmq_delete_batch('evil', array(SELECT receipt_handle FROM cmq_receive('evil', 10)));
SELECT cmq_restore('evil', '-infinity') AS restored;
SELECT cmq_clear_queue('evil') AS cleared;
SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'evil';
DROP INDEX cmq_data.forget;
SELECT cmq_alter_queue('evil', dead_letter_queue => 'evil_dlq', max_receive_count => 1);
RESET ROLE;

--
-- Names put in the way: search_path of the caller and of the owner.
--
SET ROLE regress_evil;
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil now'; END $$;
CREATE FUNCTION evil._readable(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION evil.quote_ident(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil quote'; END $$;
CREATE TABLE evil.pg_class AS SELECT 1 AS oid;
CREATE TABLE evil.queue (name text);
CREATE VIEW evil.pg_prepared_xacts AS SELECT 1 AS a;
RESET ROLE;
SET search_path = evil, cmq, pg_catalog, public;
SELECT cmq_send('evil', 'm2') > 0 AS sent;
SELECT count(*) FROM cmq_receive('evil');
SELECT cmq_cancel_rewind('evil');
SELECT cmq_maintain();
SELECT cmq_alter_queue('evil', visibility_timeout => 31, rewind_seconds => 0);
SELECT cmq_alter_queue('evil', rewind_seconds => 3600);
SELECT cmq_create_queue('evil_path');
SELECT cmq_drop_queue('evil_path');
SELECT count(*) FROM cmq.rewinds WHERE queue = 'evil';
RESET search_path;

--
-- Triggers, rules, row security on queue tables: not applied.  Event triggers of a
-- superuser see the DDL of maintenance.
--
SET ROLE regress_evil;
CREATE FUNCTION evil.trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil trigger'; END $$;
CREATE TRIGGER evil_rows BEFORE INSERT OR UPDATE OR DELETE ON cmq_data.q_evil_pending FOR EACH ROW EXECUTE FUNCTION evil.trigger();
CREATE TRIGGER evil_statement BEFORE INSERT ON cmq_data.q_evil_pending FOR EACH STATEMENT EXECUTE FUNCTION evil.trigger();
CREATE RULE evil AS ON INSERT TO cmq_data.q_evil_pending DO INSTEAD NOTHING;
ALTER TABLE cmq_data.q_evil_pending ENABLE ROW LEVEL SECURITY;
ALTER TABLE cmq_data.q_evil_pending FORCE ROW LEVEL SECURITY;
RESET ROLE;
SELECT cmq_send('evil', 'm3') > 0 AS sent;
SELECT body, cmq_delete('evil', receipt_handle) FROM cmq_receive('evil');
SELECT cmq_maintain('evil');
SET ROLE regress_evil;
DROP TRIGGER evil_rows ON cmq_data.q_evil_pending;
DROP TRIGGER evil_statement ON cmq_data.q_evil_pending;
DROP RULE evil ON cmq_data.q_evil_pending;
ALTER TABLE cmq_data.q_evil_pending NO FORCE ROW LEVEL SECURITY;
ALTER TABLE cmq_data.q_evil_pending DISABLE ROW LEVEL SECURITY;
RESET ROLE;
CREATE TABLE ddl (tag text, who text);
CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ddl VALUES (tg_tag, current_user); END $$;
GRANT INSERT ON ddl TO regress_evil;
CREATE EVENT TRIGGER log_ddl ON ddl_command_end EXECUTE FUNCTION log_ddl();
DELETE FROM cmq.partition WHERE queue = 'evil';
DO $$ DECLARE t regclass; BEGIN
	FOR t IN SELECT inhrelid FROM pg_inherits WHERE inhparent IN ('cmq_data.q_evil'::regclass, 'cmq_data.q_evil_rewind'::regclass) LOOP
		EXECUTE format('DROP TABLE %s', t);
	END LOOP;
END $$;
TRUNCATE ddl;
SELECT cmq_maintain('evil');
SELECT DISTINCT tag, who FROM ddl WHERE tag IN ('CREATE TABLE', 'ALTER TABLE') ORDER BY 1;
DROP EVENT TRIGGER log_ddl;
DROP FUNCTION log_ddl();
DROP TABLE ddl;

--
-- Relations put in the place of a queue's: an error, whatever they are, also of the
-- right shape.
--
SELECT cmq_create_queue('victim');
SELECT cmq_send('victim', 'secret') > 0 AS sent;
SET ROLE regress_evil;
ALTER TABLE cmq_data.q_evil_pending RENAME TO q_evil_away;
CREATE VIEW cmq_data.q_evil_pending AS SELECT now() AS visible_at, now() AS enqueued_at, now() AS first_received_at, 1 AS receive_count, 1 AS rewind_count, now() AS delayed_until;
RESET ROLE;
SELECT pg_temp.attempt($$SELECT cmq_send('evil', 'x')$$) AS send, pg_temp.attempt($$SELECT * FROM cmq_receive('evil')$$) AS receive,
	   pg_temp.attempt($$SELECT cmq_maintain('evil')$$) AS maintain, pg_temp.attempt($$SELECT * FROM cmq_queue_attributes('evil')$$) AS attributes \gx
SET ROLE regress_evil;
DROP VIEW cmq_data.q_evil_pending;
CREATE TABLE cmq_data.q_evil_pending (visible_at text, enqueued_at text, first_received_at text, receive_count text, rewind_count text, delayed_until text, PRIMARY KEY (visible_at, enqueued_at));
RESET ROLE;
SELECT pg_temp.attempt($$SELECT cmq_send('evil', 'x')$$) AS send, pg_temp.attempt($$SELECT * FROM cmq_receive('evil')$$) AS receive,
	   pg_temp.attempt($$SELECT cmq_maintain('evil')$$) AS maintain, pg_temp.attempt($$SELECT * FROM cmq_queue_attributes('evil')$$) AS attributes \gx
SET ROLE regress_evil;
DROP TABLE cmq_data.q_evil_pending;
CREATE TABLE cmq_data.q_evil_pending (visible_at timestamptz, enqueued_at timestamptz, first_received_at timestamptz, receive_count int, rewind_count int, delayed_until timestamptz, PRIMARY KEY (visible_at));
RESET ROLE;
SELECT pg_temp.attempt($$SELECT * FROM cmq_receive('evil')$$) AS other_key;
SET ROLE regress_evil;
DROP TABLE cmq_data.q_evil_pending;
-- nor can the owner take the tables of another queue
SELECT pg_temp.attempt('ALTER TABLE cmq_data.q_victim_pending RENAME TO q_evil_pending') AS rename,
	   pg_temp.attempt('CREATE VIEW cmq_data.q_evil_pending AS SELECT * FROM cmq_data.q_victim_pending') AS view,
	   pg_temp.attempt('SELECT * FROM cmq_data.q_evil_pending') AS look;
DROP VIEW cmq_data.q_evil_pending;
ALTER TABLE cmq_data.q_evil_away RENAME TO q_evil_pending;
-- the queue's own table, changed
ALTER TABLE cmq_data.q_evil_pending DROP CONSTRAINT q_evil_pending_pkey;
RESET ROLE;
SELECT pg_temp.attempt($$SELECT * FROM cmq_receive('evil')$$) AS no_key, pg_temp.attempt($$SELECT cmq_maintain('evil')$$) AS no_key;
SET ROLE regress_evil;
ALTER TABLE cmq_data.q_evil_pending ADD PRIMARY KEY (visible_at, enqueued_at);
RESET ROLE;
SELECT cmq_send('evil', 'm4') > 0 AS sent;
SET ROLE regress_evil;
ALTER TABLE cmq_data.q_evil_pending ADD COLUMN more int;
RESET ROLE;
SELECT pg_temp.attempt($$SELECT cmq_send('evil', 'x')$$) AS more_columns, pg_temp.attempt($$SELECT * FROM cmq_queue_attributes('evil')$$) AS more_columns;

--
-- Who has no right learns nothing but the name.
--
SET client_min_messages = warning;
SET ROLE regress_nobody;
SELECT pg_temp.attempt(c)
  FROM unnest(ARRAY['SELECT * FROM cmq.queue', 'SELECT * FROM cmq.partition', 'SELECT * FROM cmq.topic', 'SELECT * FROM cmq.subscription',
	'SELECT * FROM cmq.rewind_log', 'SELECT * FROM cmq_data.q_victim', 'SELECT * FROM cmq_data.q_victim_pending', 'SELECT * FROM cmq.q_victim_live',
	'SELECT * FROM cmq.q_victim_all', 'SELECT * FROM cmq_queue_attributes(''victim'')', 'SELECT cmq._clock(''victim'')',
	'SELECT * FROM cmq_rewind_preview(''victim'', now())', 'SELECT nextval(''cmq.rewind_log_id_seq'')', 'TRUNCATE cmq_data.q_victim_pending']) c;
SELECT (SELECT count(*) FROM cmq.queues) AS queues, (SELECT count(*) FROM cmq.metrics) AS metrics, (SELECT count(*) FROM cmq.topics) AS topics,
	   cmq._rewind_left('victim'), (SELECT count(*) FROM cmq.subscriptions) AS subscriptions, (SELECT count(*) FROM cmq.rewinds) AS rewinds;
-- not by statistics, nor by a function that is cheaper than the view's filter
SELECT count(*) FROM pg_stats WHERE schemaname IN ('cmq', 'cmq_data');
CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'leaked %', $1; RETURN true; END $$;
SELECT pg_temp.attempt('SELECT * FROM cmq.q_victim_live WHERE pg_temp.leak(body)') AS live,
	   pg_temp.attempt('SELECT * FROM cmq.q_victim_all WHERE pg_temp.leak(body)') AS "all",
	   pg_temp.attempt('SELECT * FROM cmq.rewinds WHERE pg_temp.leak(queue)') AS rewinds,
	   pg_temp.attempt('SELECT * FROM cmq.queues WHERE pg_temp.leak(queue)') AS queues;
RESET ROLE;

SELECT cmq_drop_queue('victim');
SELECT cmq_drop_queue('evil');
SELECT cmq_drop_queue('evil_dlq');
DROP OWNED BY regress_evil, regress_nobody CASCADE;
DROP ROLE regress_evil, regress_nobody;
