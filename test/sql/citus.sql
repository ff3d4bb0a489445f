-- What cmq does for Citus, without it: the DDL of queues and topics runs with
-- citus.enable_ddl_propagation off, wherever that setting exists, and nothing else does.
\i test/helpers.sql

-- Each command's kind, who runs it, and the setting.
CREATE TABLE citus_heard (id serial, tag text, backend text, propagation text);
CREATE FUNCTION citus_hear() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.citus_heard (tag, backend, propagation)
	SELECT tg_tag, a.backend_type, current_setting('citus.enable_ddl_propagation', true)
	  FROM pg_stat_activity a WHERE pid = pg_backend_pid();
END $$;
CREATE FUNCTION pg_temp.heard() RETURNS TABLE (backend text, propagation text, commands text)
LANGUAGE sql AS $$
	WITH heard AS (DELETE FROM citus_heard RETURNING *)
	SELECT backend, propagation, string_agg(DISTINCT tag, ', ' ORDER BY tag) FROM heard GROUP BY 1, 2 ORDER BY 1, 2
$$;
CREATE FUNCTION pg_temp.drop_partitions() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	leaf cmq.partition;
BEGIN
	LOCK TABLE cmq_data.q_citus_q, cmq_data.q_citus_q_rewind;
	FOR leaf IN DELETE FROM cmq.partition WHERE queue = 'citus_q' RETURNING * LOOP
		EXECUTE format('DROP TABLE %s, %s', leaf.messages, leaf.rewind);
	END LOOP;
	PERFORM pg_temp.reload('citus_q');
	TRUNCATE citus_heard;
END $$;
CREATE EVENT TRIGGER citus_hear ON ddl_command_start EXECUTE FUNCTION citus_hear();

-- Where the setting does not exist it is not made.
SELECT cmq_create_queue('citus_without', rewind_seconds => 3600);
SELECT cmq_drop_queue('citus_without');
SELECT * FROM pg_temp.heard();
SELECT current_setting('citus.enable_ddl_propagation', true) IS NULL AS not_made;

-- Here it is on, as Citus has it, also for cmq's worker.
SELECT format('ALTER DATABASE %I SET citus.enable_ddl_propagation = on', current_database()) \gexec
SET citus.enable_ddl_propagation = on;

SELECT cmq_create_queue('citus_q', rewind_seconds => 3600, msg_retention_seconds => 86400);
SELECT * FROM pg_temp.heard();
SELECT cmq_create_queue('citus_ordered', ordered => true, dedup_seconds => 3600);
SELECT * FROM pg_temp.heard();
SELECT cmq_alter_queue('citus_q', dedup_seconds => 60);
SELECT * FROM pg_temp.heard();
SELECT cmq_alter_queue('citus_q', dedup_seconds => 0);
SELECT * FROM pg_temp.heard();
SELECT cmq_alter_queue('citus_q', rewind_seconds => 0);
SELECT cmq_alter_queue('citus_q', rewind_seconds => 3600);
SELECT * FROM pg_temp.heard();
SELECT cmq_create_topic('citus_t');
SELECT * FROM pg_temp.heard();
SELECT cmq_subscribe('citus_t', 'citus_s' || i, 'citus_' || q) FROM (VALUES (1, 'q'), (2, 'ordered')) s (i, q);
SELECT count(*) FROM cmq_publish('citus_t', 'm');

-- Maintenance by hand makes partitions.
SELECT pg_temp.drop_partitions();
SELECT cmq_maintain();
SELECT * FROM pg_temp.heard();

-- The same by a worker, for a send that finds no partition.
SELECT pg_temp.drop_partitions();
SELECT cmq_send('citus_q', 'm') IS NOT NULL AS sent;
SELECT * FROM pg_temp.heard();

-- The caller's own setting stays, after errors and in functions, too.
SELECT pg_temp.attempt($$SELECT cmq_create_queue('citus_q')$$);
BEGIN;
SAVEPOINT s;
SELECT cmq_create_queue('citus_gone');
ROLLBACK TO s;
SHOW citus.enable_ddl_propagation;
SELECT cmq_create_queue('citus_kept');
SHOW citus.enable_ddl_propagation;
COMMIT;
SHOW citus.enable_ddl_propagation;
TRUNCATE citus_heard;

-- What is not a queue's is carried on, also beside the DDL of one.
BEGIN;
SELECT cmq_drop_queue('citus_kept');
CREATE TABLE citus_own ();
COMMIT;
SELECT * FROM pg_temp.heard();
DROP TABLE citus_own;
TRUNCATE citus_heard;

SELECT cmq_unsubscribe('citus_t', subscription) FROM cmq.subscriptions WHERE topic = 'citus_t';
SELECT cmq_drop_topic('citus_t');
SELECT cmq_drop_queue('citus_q');
SELECT cmq_drop_queue('citus_ordered');
SELECT * FROM pg_temp.heard();

DROP EVENT TRIGGER citus_hear;
SELECT format('ALTER DATABASE %I RESET citus.enable_ddl_propagation', current_database()) \gexec
DROP FUNCTION citus_hear;
DROP TABLE citus_heard;
