-- Who may read what: a member of pg_read_all_data, a reader of all queues of an owner,
-- a reader of one queue.  And cmq_history(), which is the history view for those who
-- have a queue's name as a value.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_readers_app;
CREATE ROLE regress_readers_all IN ROLE pg_read_all_data;
CREATE ROLE regress_readers_two;
CREATE ROLE regress_readers_one;
CREATE ROLE regress_readers_none;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_readers_app;
GRANT USAGE ON SCHEMA cmq TO regress_readers_none;

-- What a role reads with a query that has one value, or the SQLSTATE.
CREATE FUNCTION pg_temp.look(role text, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	BEGIN
		PERFORM set_config('role', look.role, true);
		EXECUTE query INTO result;
		RAISE SQLSTATE 'CMQ00';
	EXCEPTION
		WHEN SQLSTATE 'CMQ00' THEN RETURN coalesce(result, 'nothing');
		WHEN OTHERS THEN RETURN SQLSTATE;
	END;
END $$;
-- A queue with a message in history, one in flight, one ready, and a restore recorded.
CREATE FUNCTION pg_temp.fill(queue text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM cmq_create_queue(queue, rewind_seconds => 3600);
	PERFORM cmq_send_batch(queue, '{old,odd,new}');
	PERFORM pg_temp.consume(queue, 2);
	PERFORM cmq_restore(queue, pg_temp.produced(queue, 'odd'));
	RETURN pg_temp.receive(queue, 1);
END $$;

--
-- The three readers, as docs/reports.md makes them.  Queue a exists, b comes later.
--
SET ROLE regress_readers_app;
SELECT pg_temp.fill('readers_a');
RESET ROLE;
GRANT USAGE ON SCHEMA cmq TO regress_readers_two;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_readers_app IN SCHEMA cmq GRANT SELECT ON TABLES TO regress_readers_two;
GRANT USAGE ON SCHEMA cmq TO regress_readers_one;
GRANT SELECT ON cmq.q_readers_a TO regress_readers_one;
SET ROLE regress_readers_app;
SELECT pg_temp.fill('readers_b');
SELECT cmq_create_topic('readers_t');
RESET ROLE;
-- what is there already is granted queue by queue
SELECT pg_temp.look('regress_readers_two', 'SELECT count(*) FROM cmq.q_readers_a_live') AS before;
SET ROLE regress_readers_app;
SELECT format('GRANT SELECT ON cmq.%I TO regress_readers_two', 'q_' || queue) FROM cmq.queues WHERE owner = current_user ORDER BY queue \gexec
RESET ROLE;

CREATE TEMP TABLE way (n int PRIMARY KEY, what text, query text);
INSERT INTO way VALUES
	(1, 'live', $$SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq.q_%s_live$$),
	(2, 'history', $$SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq.q_%s_history$$),
	(3, 'all', $$SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq.q_%s_all$$),
	(4, 'cmq_history', $$SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_history('%s')$$),
	(5, 'preview', $$SELECT messages FROM cmq_rewind_preview('%s', '-infinity')$$),
	(6, 'attributes', $$SELECT concat_ws(' ', active_msg_num, inactive_msg_num, rewind_msg_num) FROM cmq_queue_attributes('%s')$$),
	(7, 'queues', $$SELECT coalesce(rewind_seconds::text, 'no settings') FROM cmq.queues WHERE queue = '%s'$$),
	(8, 'rewinds', $$SELECT kind || ' ' || messages FROM cmq.rewinds WHERE queue = '%s'$$),
	(9, 'metrics', $$SELECT pending_msg_num FROM cmq.metrics WHERE queue = '%s'$$);
SELECT r.role, what, pg_temp.look('regress_readers_' || r.role, format(query, 'readers_a')) AS readers_a,
	   pg_temp.look('regress_readers_' || r.role, format(query, 'readers_b')) AS readers_b
  FROM way, unnest('{all,two,one,none}'::text[]) WITH ORDINALITY r (role, no) ORDER BY r.no, n;
-- a new queue of another owner: read by the first alone
CREATE ROLE regress_readers_other;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_readers_other;
SET ROLE regress_readers_other;
SELECT pg_temp.fill('readers_c');
RESET ROLE;
SELECT what, pg_temp.look('regress_readers_all', format(query, 'readers_c')) AS "all", pg_temp.look('regress_readers_two', format(query, 'readers_c')) AS two
  FROM way ORDER BY n;
-- nothing else is granted: queues and topics.  The tables and what is internal are for
-- pg_read_all_data alone, which reads all tables
SELECT c.relname, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
 WHERE a.grantee = 'regress_readers_two'::regrole ORDER BY c.relname COLLATE "C";
SELECT count(*) FROM pg_default_acl d, aclexplode(d.defaclacl) a WHERE a.grantee = 'regress_readers_two'::regrole;
SELECT t AS relation, pg_temp.look('regress_readers_all', q) AS "all", pg_temp.look('regress_readers_two', q) AS two, pg_temp.look('regress_readers_one', q) AS one
  FROM unnest('{cmq.queue,cmq.partition,cmq.rewind_log,cmq.topic,cmq.subscription,cmq._present_queue,cmq._queue_rights,cmq._topic_rights,
		cmq_data.q_readers_a,cmq_data.q_readers_a_pending,cmq_data.q_readers_a_rewind,cmq_data.v_readers_a}'::text[]) WITH ORDINALITY r (t, no),
	   LATERAL format('SELECT count(*) > 0 OR %L ~ ''topic|subscription'' FROM %s', t, t) q ORDER BY no;
-- to read is all that they may
SELECT c, pg_temp.outcome('regress_readers_all', c) AS "all", pg_temp.outcome('regress_readers_two', c) AS two, pg_temp.outcome('regress_readers_one', c) AS one
  FROM unnest(ARRAY[$$SELECT cmq_send('readers_a', 'x')$$, $$SELECT cmq_receive('readers_a')$$, $$SELECT cmq_delete('readers_a', '1-2-3-4')$$, $$SELECT cmq_rewind('readers_a', now())$$,
	$$SELECT cmq_restore('readers_a', '-infinity')$$, $$SELECT cmq_replay('readers_a', 'readers_b', '-infinity')$$, $$SELECT cmq_clear_queue('readers_a')$$,
	$$SELECT cmq_drop_queue('readers_a')$$, $$SELECT cmq_maintain('readers_a')$$, $$SELECT cmq_create_queue('readers_x')$$,
	'UPDATE cmq_data.q_readers_a SET body = ''x''', 'DELETE FROM cmq_data.q_readers_a', 'TRUNCATE cmq_data.q_readers_a', 'DELETE FROM cmq.rewind_log',
	'LOCK TABLE cmq.q_readers_a IN EXCLUSIVE MODE']) WITH ORDINALITY v (c, n) ORDER BY n;
-- until it is taken back
ALTER DEFAULT PRIVILEGES FOR ROLE regress_readers_app IN SCHEMA cmq REVOKE SELECT ON TABLES FROM regress_readers_two;
REVOKE SELECT ON cmq.q_readers_a FROM regress_readers_two;
-- default privileges of another kind count in the same way
ALTER DEFAULT PRIVILEGES FOR ROLE regress_readers_app IN SCHEMA cmq GRANT INSERT ON TABLES TO regress_readers_two;
SET ROLE regress_readers_app;
SELECT cmq_create_queue('readers_i');
RESET ROLE;
SELECT pg_temp.outcome('regress_readers_two', $$SELECT cmq_send('readers_i', 'x')$$) AS send, pg_temp.outcome('regress_readers_two', $$SELECT * FROM cmq_history('readers_i')$$) AS history;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_readers_app IN SCHEMA cmq REVOKE INSERT ON TABLES FROM regress_readers_two;
SELECT cmq_drop_queue('readers_i');
REVOKE pg_read_all_data FROM regress_readers_all;
SELECT what, pg_temp.look('regress_readers_all', format(query, 'readers_a')) AS "all", pg_temp.look('regress_readers_two', format(query, 'readers_a')) AS two
  FROM way ORDER BY n;
SELECT cmq_drop_queue('readers_b');
SELECT cmq_drop_queue('readers_c');
SELECT cmq_drop_topic('readers_t');

--
-- cmq_history: the columns of the view, and their order; and the one that the views of ordered
-- queues end in.
--
SELECT string_agg(name || ' ' || type::regtype, ', ' ORDER BY no) AS returns,
	   string_agg(name || ' ' || type::regtype, ', ' ORDER BY no) = (
		SELECT string_agg(attname || ' ' || atttypid::regtype, ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'cmq.q_readers_a_history'::regclass) || ', message_group text' AS as_the_view
  FROM pg_proc, unnest(proargnames, proallargtypes, proargmodes) WITH ORDINALITY a (name, type, mode, no) WHERE proname = 'cmq_history' AND mode = 't';

-- In one statement: how many rows the function has, and how many of these the view has
-- not, or the other way round.
CREATE FUNCTION pg_temp.compare(queue text, start_time timestamptz DEFAULT NULL, end_time timestamptz DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format($q$
		WITH f AS MATERIALIZED (SELECT * FROM cmq_history($1, $2, $3) WITH ORDINALITY),
			 fn AS (SELECT msg_id, enqueued_at, first_received_at, deleted_at, deleted_by, receive_count, rewind_count, headers, body FROM f),
			 v AS MATERIALIZED (SELECT * FROM cmq.%I WHERE enqueued_at >= coalesce($2, '-infinity') AND enqueued_at < coalesce($3, 'infinity'))
		SELECT format('%%s; %%s, %%s differ%%s', (SELECT string_agg(left(body, 20), ' ' ORDER BY ordinality) FROM f), (SELECT count(*) FROM v),
			(SELECT count(*) FROM ((TABLE fn EXCEPT ALL TABLE v) UNION ALL (TABLE v EXCEPT ALL TABLE fn)) d),
			CASE WHEN (SELECT array_agg(msg_id ORDER BY ordinality) = array_agg(msg_id ORDER BY enqueued_at) FROM f) THEN ', in order' END)
		$q$, 'q_' || queue || '_history') INTO result USING queue, start_time, end_time;
	RETURN result;
END $$;

SET ROLE regress_readers_app;
SELECT cmq_create_queue('readers_h', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('readers_h', '{h1,h2,h3,h4,h5,live}', 0, '{"{\"k\": 1}",NULL,"{\"k\": [2]}","{\"k\": null}",NULL,"{}"}');
SELECT pg_temp.compare('readers_h') AS nothing_deleted;
SELECT pg_temp.consume('readers_h', 5);
SELECT pg_temp.compare('readers_h');
SELECT pg_temp.produced('readers_h', 'h2') AS t2, pg_temp.produced('readers_h', 'h4') AS t4 \gset
SELECT pg_temp.compare('readers_h', :'t2') AS from_h2, pg_temp.compare('readers_h', :'t2', :'t4') AS h2_to_h4, pg_temp.compare('readers_h', NULL, :'t4') AS to_h4,
	   pg_temp.compare('readers_h', '-infinity', 'infinity') AS of_all_times \gx
SELECT pg_temp.compare('readers_h', :'t4', :'t4') AS no_time, pg_temp.compare('readers_h', 'infinity') AS later, pg_temp.compare('readers_h', NULL, '-infinity') AS before,
	   pg_temp.compare('readers_h', now() - interval '2 hours', now() - interval '1 hour') AS behind_the_window;
SELECT body FROM cmq_history('readers_h', end_time => :'t4');
SELECT line FROM pg_temp.complaint($$SELECT * FROM cmq_history('readers_h', now(), now() - interval '1 s')$$);
SELECT line FROM pg_temp.complaint($$SELECT * FROM cmq_history('readers_x')$$);
SELECT line FROM pg_temp.complaint($$SELECT * FROM cmq_history(NULL)$$);
RESET ROLE;
SET ROLE regress_readers_none;
SELECT line FROM pg_temp.complaint($$SELECT * FROM cmq_history('readers_h')$$);
SELECT line FROM pg_temp.complaint($$SELECT * FROM cmq_history('readers_h', now(), now() - interval '1 s')$$);
RESET ROLE;

-- while a rewind is under way, and part of it received; cancelled
SET ROLE regress_readers_app;
SELECT cmq_rewind('readers_h', :'t2') IS NOT NULL AS rewound;
SELECT pg_temp.compare('readers_h');
SELECT pg_temp.consume('readers_h', 1);
SELECT pg_temp.compare('readers_h'), pg_temp.compare('readers_h', :'t2', :'t4');
SELECT cmq_cancel_rewind('readers_h');
SELECT pg_temp.compare('readers_h');
-- what the own transaction has done, and what it has undone
BEGIN;
SELECT pg_temp.consume('readers_h', 1);
SELECT pg_temp.compare('readers_h');
SELECT cmq_restore('readers_h', :'t2', :'t4');
SELECT pg_temp.compare('readers_h');
SELECT cmq_rewind('readers_h', :'t2') IS NOT NULL AS rewound;
SELECT pg_temp.compare('readers_h');
SAVEPOINT s;
SELECT cmq_alter_queue('readers_h', rewind_seconds => 0);
SELECT pg_temp.compare('readers_h') AS rewind_off;
ROLLBACK TO s;
SELECT pg_temp.compare('readers_h');
ROLLBACK;
SELECT pg_temp.compare('readers_h');
-- the snapshot is that of the statement: what the statement itself deletes is not seen
BEGIN;
SELECT receipt_handle AS handle FROM cmq_receive('readers_h') \gset
WITH d AS MATERIALIZED (SELECT cmq_delete('readers_h', :'handle') AS deleted)
SELECT deleted, (SELECT count(*) FROM cmq_history('readers_h') WHERE deleted) AS function, (SELECT count(*) FROM cmq.q_readers_h_history WHERE deleted) AS view FROM d;
SELECT (SELECT count(*) FROM cmq_history('readers_h')) AS function, (SELECT count(*) FROM cmq.q_readers_h_history) AS view;
ROLLBACK;
-- and that of the cursor
BEGIN;
DECLARE f CURSOR FOR SELECT body FROM cmq_history('readers_h');
DECLARE v CURSOR FOR SELECT body FROM cmq.q_readers_h_history ORDER BY enqueued_at;
SELECT pg_temp.consume('readers_h', 1);
FETCH ALL FROM f;
FETCH ALL FROM v;
ROLLBACK;
RESET ROLE;

-- a right that is taken back counts for a plan that was made before
GRANT SELECT ON cmq.q_readers_h TO regress_readers_one;
SET ROLE regress_readers_one;
PREPARE report(text) AS SELECT string_agg(body, ' ') FROM cmq_history($1);
EXECUTE report('readers_h');
RESET ROLE;
REVOKE SELECT ON cmq.q_readers_h FROM regress_readers_one;
SET ROLE regress_readers_one;
SELECT pg_temp.attempt($$EXECUTE report('readers_h')$$) AS revoked;
EXECUTE report('readers_a');
RESET ROLE;

-- a loop over the queues, by name; a name that has to be quoted
SELECT cmq_create_queue('Readers-B_' || repeat('y', 38), rewind_seconds => 3600);
SELECT 'Readers-B_' || repeat('y', 38) AS long \gset
SELECT cmq_send(:'long', 'quoted') > 0 AS sent;
SELECT pg_temp.consume(:'long'), pg_temp.compare(:'long');
DO $$
DECLARE
	q record;
	m record;
BEGIN
	FOR q IN SELECT queue FROM cmq.queues WHERE queue ILIKE 'readers%' ORDER BY queue LOOP
		FOR m IN SELECT * FROM cmq_history(q.queue) LOOP
			RAISE WARNING '% %', left(q.queue, 12), m.body;
		END LOOP;
	END LOOP;
END $$;
SELECT left(q.queue, 12) AS queue, string_agg(h.body, ' ' ORDER BY h.enqueued_at) AS history FROM cmq.queues q, cmq_history(q.queue) h
 WHERE q.queue ILIKE 'readers%' GROUP BY q.queue ORDER BY q.queue;
-- a reader passes by the queues that it may name, but not read
GRANT INSERT ON cmq.q_readers_h TO regress_readers_one;
SET ROLE regress_readers_one;
SELECT queue, rewind_seconds FROM cmq.queues ORDER BY queue;
SELECT q.queue, count(h.msg_id) AS deleted, sum(length(h.body)) AS characters
  FROM cmq.queues q
  LEFT JOIN LATERAL cmq_history(q.queue, now() - interval '1 day') h ON true
 WHERE q.rewind_seconds > 0
 GROUP BY q.queue
 ORDER BY q.queue;
RESET ROLE;
SELECT cmq_drop_queue(:'long');

-- more than fits into work_mem, in several leaves, with bodies stored elsewhere
SELECT cmq_create_queue('readers_big', rewind_seconds => 345600);
SELECT count(*) FROM cmq_send_batch('readers_big', ARRAY(SELECT (SELECT string_agg(md5(i || ' ' || j), '') FROM generate_series(1, 100) j) FROM generate_series(1, 400) i));
SELECT count(*) FROM cmq_delete_batch('readers_big', ARRAY(SELECT receipt_handle FROM cmq_receive('readers_big', 1000)));
SELECT pg_temp.age('readers_big', '2 days');
SELECT count(*) FROM cmq_send_batch('readers_big', ARRAY(SELECT 'today ' || i FROM generate_series(1, 400) i));
SELECT count(*) FROM cmq_delete_batch('readers_big', ARRAY(SELECT receipt_handle FROM cmq_receive('readers_big', 1000)));
SET work_mem = '64kB';
SELECT substring(pg_temp.compare('readers_big') FROM '\d+, \d+ differ.*') AS "all", substring(pg_temp.compare('readers_big', now() - interval '1 day') FROM '\d+, \d+ differ.*') AS today;
SELECT count(*), sum(length(body)) AS characters, md5(string_agg(body, '')) = (SELECT md5(string_agg(body, '' ORDER BY enqueued_at)) FROM cmq.q_readers_big_history) AS same FROM cmq_history('readers_big');
RESET work_mem;
-- beside parallel workers
BEGIN;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SELECT count(*) FROM cmq_history('readers_big') h JOIN cmq_data.q_readers_big m USING (enqueued_at);
COMMIT;
SELECT cmq_drop_queue('readers_big');

--
-- A hostile search_path, and what an owner can put in the way: nothing of it runs.
--
CREATE SCHEMA readers_hostile;
GRANT USAGE, CREATE ON SCHEMA readers_hostile TO regress_readers_app;
CREATE FUNCTION readers_hostile.trap() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'trapped';
END $$;
CREATE FUNCTION readers_hostile.trap(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT readers_hostile.trap()';
CREATE FUNCTION readers_hostile.trap(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT readers_hostile.trap()';
CREATE OPERATOR readers_hostile.>= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = readers_hostile.trap);
CREATE OPERATOR readers_hostile.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = readers_hostile.trap);
CREATE OPERATOR readers_hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = readers_hostile.trap);
CREATE FUNCTION readers_hostile.cmq_history(text, timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT readers_hostile.trap()';
CREATE TABLE readers_hostile.q_readers_h_history (body text);
BEGIN;
SET LOCAL search_path = readers_hostile, pg_catalog, public;
SAVEPOINT s;
SELECT 'a'::text = 'b' AS the_trap_works;
ROLLBACK TO s;
SELECT count(*) FROM cmq_history('readers_h', '-infinity'::timestamptz);
COMMIT;
-- the view is the owner's to replace; the function does not read it
SET ROLE regress_readers_app;
CREATE OR REPLACE VIEW cmq.q_readers_h_history AS
SELECT msg_id, enqueued_at, NULL::timestamptz AS first_received_at, NULL::timestamptz AS deleted_at, NULL::text AS deleted_by, receive_count, rewind_count, headers, 'forged'::text AS body
  FROM cmq.q_readers_h_live WHERE readers_hostile.trap();
ALTER TABLE cmq_data.q_readers_h ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY trap ON cmq_data.q_readers_h USING (readers_hostile.trap());
RESET ROLE;
GRANT USAGE ON SCHEMA readers_hostile TO PUBLIC;
SELECT pg_temp.attempt('SELECT body FROM cmq.q_readers_h_history') AS the_trap_works;
SELECT body FROM cmq_history('readers_h');

-- a message that somebody has removed by hand has no body
SELECT cmq_create_queue('readers_d', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('readers_d', '{d1,d2}');
SELECT pg_temp.consume('readers_d');
-- who reads by a view of somebody else's needs SELECT on the queue, and no USAGE on cmq
CREATE ROLE regress_readers_far;
CREATE SCHEMA readers_far;
CREATE VIEW readers_far.seen AS SELECT count(body) FROM cmq.q_readers_d_all WHERE msg_id > 0;
GRANT USAGE ON SCHEMA readers_far TO regress_readers_far;
GRANT SELECT ON readers_far.seen, cmq.q_readers_d TO regress_readers_far;
SET cmq.plan_views = off;
SELECT pg_temp.look('regress_readers_far', 'SELECT * FROM readers_far.seen');
RESET cmq.plan_views;
SELECT pg_temp.look('regress_readers_far', 'SELECT * FROM readers_far.seen');
REVOKE SELECT ON cmq.q_readers_d FROM regress_readers_far;
SELECT pg_temp.look('regress_readers_far', 'SELECT * FROM readers_far.seen');
DROP VIEW readers_far.seen;
DROP SCHEMA readers_far;
DROP ROLE regress_readers_far;
DELETE FROM cmq_data.q_readers_d WHERE body = 'd1';
SET cmq.plan_views = off;
SELECT pg_temp.compare('readers_d');
RESET cmq.plan_views;
SELECT body, receive_count FROM cmq_history('readers_d');
-- tables that were changed
ALTER TABLE cmq_data.q_readers_d_rewind ADD COLUMN more int;
SELECT line FROM pg_temp.complaint($$SELECT * FROM cmq_history('readers_d')$$);
SELECT cmq_drop_queue('readers_d');

SELECT cmq_drop_queue('readers_a');
SELECT cmq_drop_queue('readers_h');
SET client_min_messages = error;
DROP SCHEMA readers_hostile CASCADE;
DROP OWNED BY regress_readers_app, regress_readers_other, regress_readers_all, regress_readers_two, regress_readers_one, regress_readers_none;
DROP ROLE regress_readers_app, regress_readers_other, regress_readers_all, regress_readers_two, regress_readers_one, regress_readers_none;
