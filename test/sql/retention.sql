-- Retention, leaf tables and maintenance.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

--
-- Leaf width: the largest readable unit that is at most retention / 8, at
-- least a minute.  The leaves of a queue follow one another without gaps and
-- are partitions of both tables with the same bounds.
--
CREATE TEMP TABLE width (retention int PRIMARY KEY, expected interval);
INSERT INTO width VALUES
	(60, '1 min'), (480, '1 min'), (959, '1 min'), (960, '2 min'), (2399, '2 min'), (2400, '5 min'),
	(4800, '10 min'), (7200, '15 min'), (14400, '30 min'), (28800, '1 h'), (57600, '2 h'),
	(86399, '2 h'), (86400, '3 h'), (172800, '6 h'), (345600, '12 h'), (691199, '12 h'),
	(691200, '24 h'), (1296000, '24 h');
SELECT count(cmq_create_queue('retention-' || retention, msg_retention_seconds => retention)) AS queues FROM width;
SELECT w.retention, w.expected, count(*) > 0 AS has_leaves, bool_and(p.upper - p.lower = w.expected) AS width,
	   bool_or(p.lower <= now() AND p.upper > now()) AS covers_now,
	   bool_and(extract(epoch FROM p.lower)::bigint % extract(epoch FROM w.expected)::bigint = 0) AS aligned
  FROM width w LEFT JOIN cmq.partition p ON p.queue = 'retention-' || w.retention
 GROUP BY w.retention ORDER BY w.retention;
SELECT count(*) AS gaps
  FROM (SELECT lower, lag(upper) OVER (PARTITION BY queue ORDER BY lower) AS previous FROM cmq.partition) s
 WHERE previous <> lower;
-- map and catalogs agree
SELECT count(*) > 0 AS leaves,
	   bool_and(mc.relname = format('m_%s_%s', queue, to_char(lower AT TIME ZONE 'UTC', 'YYYYMMDDHH24MI'))) AS message_names,
	   bool_and(rc.relname = format('r_%s_%s', queue, to_char(lower AT TIME ZONE 'UTC', 'YYYYMMDDHH24MI'))) AS rewind_names,
	   bool_and(m.inhparent = format('cmq_data.%I', 'q_' || queue)::regclass) AS message_parents,
	   bool_and(r.inhparent = format('cmq_data.%I', 'q_' || queue || '_rewind')::regclass) AS rewind_parents,
	   bool_and(pg_get_expr(mc.relpartbound, mc.oid) = format('FOR VALUES FROM (%L) TO (%L)', lower, upper)) AS message_bounds,
	   bool_and(pg_get_expr(rc.relpartbound, rc.oid) = format('FOR VALUES FROM (%L) TO (%L)', lower, upper)) AS rewind_bounds
  FROM cmq.partition p
  LEFT JOIN pg_class mc ON mc.oid = p.messages
  LEFT JOIN pg_inherits m ON m.inhrelid = mc.oid
  LEFT JOIN pg_class rc ON rc.oid = p.rewind
  LEFT JOIN pg_inherits r ON r.inhrelid = rc.oid;
SELECT count(cmq_drop_queue('retention-' || retention)) AS queues FROM width;
SELECT count(*) AS map_rows FROM cmq.partition WHERE queue LIKE 'retention-%';

--
-- A message lives for the retention, counted from production, whatever its
-- state: nothing of it is seen afterwards, although nothing was purged yet.
--
SELECT cmq_create_queue('retention_a', msg_retention_seconds => 7200, rewind_seconds => 7200);
SELECT count(*) FROM cmq_send_batch('retention_a', '{deleted,rewound,flying,ready}');
SELECT cmq_send('retention_a', 'delayed', 3600) > 0 AS sent;
CREATE TEMP TABLE got AS SELECT * FROM cmq_receive('retention_a', 3, 43200);
SELECT body, cmq_delete('retention_a', receipt_handle) FROM got WHERE body IN ('deleted', 'rewound') ORDER BY body;
SELECT cmq_rewind('retention_a', pg_temp.produced('retention_a', 'rewound')) IS NOT NULL AS rewound;
SELECT pg_temp.live('retention_a') AS live, pg_temp.history('retention_a') AS history, pg_temp.counts('retention_a');
-- 119 minutes: all there
BEGIN;
SELECT pg_temp.age('retention_a', '119 minutes');
SELECT pg_temp.live('retention_a') AS live, pg_temp.history('retention_a') AS history, pg_temp.counts('retention_a');
SELECT pg_temp.receive('retention_a') AS received;
ROLLBACK;
-- 121 minutes: all gone
SELECT pg_temp.age('retention_a', '121 minutes');
SELECT pg_temp.live('retention_a') AS live, pg_temp.history('retention_a') AS history, pg_temp.counts('retention_a');
SELECT pg_temp.receive('retention_a') AS received;
SELECT format('%s-%s-1-0', cmq.msg_id(p.enqueued_at), cmq.msg_id(p.visible_at)) AS handle
  FROM cmq_data.q_retention_a_pending p JOIN cmq_data.q_retention_a m USING (enqueued_at) WHERE m.body = 'flying' \gset
SELECT cmq_delete('retention_a', :'handle') AS deleted, cmq_change_visibility('retention_a', :'handle', 5) AS changed;
SELECT cmq_rewind('retention_a', now() - interval '2 hours') AS nothing_to_rewind;
SELECT pg_temp.receive('retention_a') AS received;
SELECT min_msg_time > now() - interval '1 minute' AS no_unconsumed_message FROM cmq_queue_attributes('retention_a');
-- what is new lives beside it
SELECT cmq_send('retention_a', 'new') > 0 AS sent;
SELECT pg_temp.live('retention_a') AS live, pg_temp.consume('retention_a') AS consumed;
-- purging gives the space back, and that is all one can see of it
SELECT (SELECT count(*) FROM cmq_data.q_retention_a) AS messages, (SELECT count(*) FROM cmq_data.q_retention_a_pending) AS pending;
SELECT cmq_maintain('retention_a');
SELECT count(*) AS ready_and_expired FROM cmq_data.q_retention_a_pending WHERE receive_count = 0 AND visible_at = enqueued_at;
SELECT pg_temp.history('retention_a') AS history, pg_temp.counts('retention_a');

--
-- The edge: "produced before" is gone, the same instant is not.
--
SELECT cmq_drop_queue('retention_a');
SELECT cmq_create_queue('retention_a', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('retention_a', '{a,b,c,d}');
SELECT pg_temp.consume('retention_a', 2);
UPDATE cmq.queue SET expired_before = pg_temp.produced('retention_a', 'b') WHERE name = 'retention_a';
SELECT pg_temp.reload('retention_a');
SELECT pg_temp.history('retention_a'), pg_temp.live('retention_a');
UPDATE cmq.queue SET expired_before = pg_temp.produced('retention_a', 'd') WHERE name = 'retention_a';
SELECT pg_temp.reload('retention_a');
SELECT pg_temp.history('retention_a'), pg_temp.live('retention_a'), pg_temp.consume('retention_a') AS consumed;

--
-- A shorter retention takes effect at once, a longer one does not bring back.
--
SELECT cmq_drop_queue('retention_a');
SELECT cmq_create_queue('retention_a', msg_retention_seconds => 7200, rewind_seconds => 600);
SELECT count(*) FROM cmq_send_batch('retention_a', '{old,older}');
SELECT pg_temp.age('retention_a', '40 minutes');
SELECT cmq_send('retention_a', 'young') > 0 AS sent;
SELECT pg_temp.age('retention_a', '5 minutes');
SELECT pg_temp.live('retention_a');
SELECT cmq_alter_queue('retention_a', msg_retention_seconds => 1800);
SELECT pg_temp.live('retention_a'), pg_temp.counts('retention_a');
SELECT cmq_alter_queue('retention_a', msg_retention_seconds => 1296000);
SELECT pg_temp.live('retention_a'), pg_temp.counts('retention_a'), pg_temp.consume('retention_a') AS consumed;
-- also the history
SELECT pg_temp.history('retention_a') AS history;
SELECT cmq_alter_queue('retention_a', msg_retention_seconds => 60, rewind_seconds => 60);
SELECT pg_temp.history('retention_a') AS history;
SELECT cmq_alter_queue('retention_a', msg_retention_seconds => 1296000, rewind_seconds => 1296000);
SELECT pg_temp.history('retention_a') AS history, pg_temp.counts('retention_a');

--
-- Maintenance drops whole leaves after their time, and the map rows with them.
--
SELECT cmq_drop_queue('retention_a');
SELECT cmq_create_queue('retention_a', msg_retention_seconds => 3600, rewind_seconds => 3600);
SELECT min(lower) AS first FROM cmq.partition WHERE queue = 'retention_a' \gset
SELECT pg_temp.add_leaf('retention_a', t, t + interval '1 hour')
  FROM (SELECT :'first'::timestamptz - i * interval '1 hour' AS t FROM generate_series(1, 5) i) s;
-- a message in each, unconsumed, received or deleted
INSERT INTO cmq_data.q_retention_a (enqueued_at, body)
	SELECT :'first'::timestamptz - i * interval '1 hour' + interval '10 min', 'm' || i FROM generate_series(1, 5) i;
INSERT INTO cmq_data.q_retention_a_pending (visible_at, enqueued_at, receive_count, rewind_count)
	SELECT enqueued_at, enqueued_at, 0, 0 FROM cmq_data.q_retention_a WHERE body <> 'm4';
UPDATE cmq_data.q_retention_a_pending SET visible_at = now() + interval '10 hours', receive_count = 1, first_received_at = enqueued_at
 WHERE enqueued_at = pg_temp.produced('retention_a', 'm3');
INSERT INTO cmq_data.q_retention_a_rewind (enqueued_at, first_received_at, deleted_at, deleted_by, receive_count, rewind_count, deleted_xact)
	SELECT enqueued_at, enqueued_at, enqueued_at, current_user, 1, 0, 0 FROM cmq_data.q_retention_a WHERE body = 'm4';
SELECT cmq_send('retention_a', 'new') > 0 AS sent;
SELECT count(*) AS old_leaves FROM cmq.partition WHERE queue = 'retention_a' AND upper <= :'first';
SELECT cmq_maintain('retention_a');
-- only the hour that overlaps the retention may stay
SELECT count(*) AS old_leaves FROM cmq.partition WHERE queue = 'retention_a' AND upper <= :'first'::timestamptz - interval '1 hour';
SELECT count(*) AS relations_not_in_the_map
  FROM pg_inherits i WHERE i.inhparent IN ('cmq_data.q_retention_a'::regclass, 'cmq_data.q_retention_a_rewind'::regclass)
   AND NOT EXISTS (SELECT FROM cmq.partition p WHERE i.inhrelid IN (p.messages, p.rewind));
SELECT string_agg(body, ' ' ORDER BY body) AS messages FROM cmq_data.q_retention_a WHERE enqueued_at < :'first'::timestamptz - interval '1 hour' OR body = 'new';
SELECT count(*) AS pending FROM cmq_data.q_retention_a_pending WHERE enqueued_at < now() - interval '1 hour';
SELECT pg_temp.receive('retention_a');
-- a second run finds nothing to do
SELECT cmq_maintain('retention_a');
SELECT count(*) AS old_leaves FROM cmq.partition WHERE queue = 'retention_a' AND upper <= :'first'::timestamptz - interval '1 hour';

-- A leaf goes before its retention ends when the rewind window has passed it
-- and nothing in it is pending or rewound.
SELECT cmq_drop_queue('retention_a');
SELECT cmq_create_queue('retention_a', msg_retention_seconds => 86400, rewind_seconds => 43200);
SELECT min(lower) AS first FROM cmq.partition WHERE queue = 'retention_a' \gset
SELECT pg_temp.add_leaf('retention_a', t, t + interval '1 hour')
  FROM (SELECT :'first'::timestamptz - i * interval '1 hour' AS t FROM generate_series(4, 6) i) s;
INSERT INTO cmq_data.q_retention_a (enqueued_at, body)
	SELECT :'first'::timestamptz - i * interval '1 hour' + interval '10 min', 'm' || i FROM generate_series(4, 6) i;
INSERT INTO cmq_data.q_retention_a_rewind (enqueued_at, first_received_at, deleted_at, deleted_by, receive_count, rewind_count, deleted_xact)
	SELECT enqueued_at, enqueued_at, enqueued_at, current_user, 1, 0, 0 FROM cmq_data.q_retention_a;
CREATE FUNCTION pg_temp.old_leaves() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM cmq.partition p WHERE queue = 'retention_a' AND upper < now() - interval '2 hours'
$$;
-- history: all stay
SELECT cmq_maintain('retention_a');
SELECT pg_temp.old_leaves(), pg_temp.history('retention_a');
-- m5 and m4 are rewound, then the window shrinks past all of them
SELECT cmq_rewind('retention_a', pg_temp.produced('retention_a', 'm5')) IS NOT NULL AS rewound;
SELECT cmq_alter_queue('retention_a', rewind_seconds => 3600);
SELECT cmq_maintain('retention_a');
SELECT pg_temp.old_leaves(), pg_temp.live('retention_a'), pg_temp.history('retention_a');
-- m5 is in flight
SELECT pg_temp.receive('retention_a', 1);
SELECT cmq_maintain('retention_a');
SELECT pg_temp.old_leaves(), pg_temp.live('retention_a');
-- m4 is consumed again and outside the window
SELECT pg_temp.consume('retention_a');
SELECT cmq_maintain('retention_a');
SELECT pg_temp.old_leaves(), pg_temp.live('retention_a');
UPDATE cmq_data.q_retention_a_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('retention_a');
SELECT cmq_maintain('retention_a');
SELECT pg_temp.old_leaves(), pg_temp.live('retention_a'), pg_temp.counts('retention_a');

--
-- Maintenance moves the rewind point forward and clears it when nothing is due.
--
SELECT cmq_drop_queue('retention_a');
SELECT cmq_create_queue('retention_a', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('retention_a', '{a,b,c,d}');
SELECT pg_temp.consume('retention_a');
SELECT cmq_rewind('retention_a', pg_temp.produced('retention_a', 'a')) IS NOT NULL AS rewound;
SELECT pg_temp.consume('retention_a', 2);
SELECT cmq_maintain('retention_a');
SELECT rewinding_from > pg_temp.produced('retention_a', 'b') AS passed_b,
	   rewinding_from <= pg_temp.produced('retention_a', 'c') AS c_is_due
  FROM cmq.queues WHERE queue = 'retention_a';
SELECT pg_temp.live('retention_a');
SELECT pg_temp.receive('retention_a');
SELECT cmq_maintain('retention_a');
SELECT rewinding_from FROM cmq.queues WHERE queue = 'retention_a';
SELECT cmq_rewind('retention_a', pg_temp.produced('retention_a', 'a')) = pg_temp.produced('retention_a', 'a') AS rewound;
SELECT pg_temp.live('retention_a');

--
-- Leaves are made ahead for a queue in use: enough for two rounds.
--
SELECT cmq_create_queue('retention_busy', msg_retention_seconds => 14400);
SELECT cmq_send('retention_busy', 'x') > 0 AS sent;
CREATE FUNCTION pg_temp.enough() RETURNS boolean LANGUAGE sql AS $$
	SELECT max(upper) > now() + 2 * setting::int * interval '1 second'
	  FROM cmq.partition, pg_settings WHERE queue = 'retention_busy' AND name = 'cmq.maintenance_interval' GROUP BY setting
$$;
SELECT cmq_maintain('retention_busy');
SELECT pg_temp.enough() AS made_ahead;
SELECT count(*) AS gaps
  FROM (SELECT lower, lag(upper) OVER (ORDER BY lower) AS previous FROM cmq.partition WHERE queue = 'retention_busy') s
 WHERE previous <> lower;

--
-- A queue that slept has no leaf for now: a send has the worker make one.
--
SELECT cmq_create_queue('retention_idle', msg_retention_seconds => 86400);
DO $$
DECLARE
	leaf cmq.partition;
BEGIN
	FOR leaf IN DELETE FROM cmq.partition WHERE queue = 'retention_idle' RETURNING * LOOP
		EXECUTE format('DROP TABLE %s, %s', leaf.messages, leaf.rewind);
	END LOOP;
END $$;
SELECT pg_temp.reload('retention_idle');
SELECT pg_temp.receive('retention_idle') AS received, pg_temp.counts('retention_idle');
BEGIN;
SELECT cmq_send('retention_idle', 'rolled back') > 0 AS sent;
ROLLBACK;
SELECT count(*) > 0 AS leaf_stays FROM cmq.partition WHERE queue = 'retention_idle';
SELECT cmq_send('retention_idle', 'awake') > 0 AS sent;
SELECT count(*) FROM cmq_send_batch('retention_idle', '{and,kicking}');
SELECT pg_temp.consume('retention_idle');

--
-- cmq_maintain: all queues, one, none; nothing that lives is touched.
--
SELECT cmq_send('retention_a', 'kept') > 0 AS sent;
SELECT pg_temp.live('retention_a') AS before \gset
SELECT cmq_maintain();
SELECT cmq_maintain(NULL);
SELECT cmq_maintain(queue => 'retention_a');
SELECT pg_temp.live('retention_a') = :'before' AS same;
SELECT pg_temp.attempt($$SELECT cmq_maintain('retention_x')$$) AS unknown,
	   pg_temp.attempt($$SELECT cmq_maintain('')$$) AS empty;
-- in a transaction, after changes, rolled back
BEGIN;
SELECT pg_temp.receive('retention_a');
SELECT cmq_maintain('retention_a');
ROLLBACK;
SELECT pg_temp.live('retention_a') = :'before' AS same;


--
-- A queue whose table somebody dropped by force is reported and stops no
-- other; it can still be dropped, and its name is free then.
--
SELECT cmq_create_queue('retention_broken');
SELECT cmq_send('retention_broken', 'x') > 0 AS sent;
DROP TABLE cmq_data.q_retention_broken CASCADE;
SELECT min(lower) AS first FROM cmq.partition WHERE queue = 'retention_busy' \gset
SELECT pg_temp.add_leaf('retention_busy', :'first'::timestamptz - interval '10 hours', :'first'::timestamptz - interval '9 hours');
SELECT cmq_maintain();
SELECT count(*) AS old_leaves FROM cmq.partition WHERE queue = 'retention_busy' AND lower < :'first';
SELECT n, pg_temp.attempt(format(command, 'retention_broken'))
  FROM (VALUES
	(1, 'SELECT cmq_send(%L, ''x'')'), (2, 'SELECT cmq_receive(%L)'), (3, 'SELECT cmq_delete(%L, ''1-2-3-4'')'),
	(4, 'SELECT cmq_rewind(%L, now())'), (5, 'SELECT cmq_alter_queue(%L, 60)'), (6, 'SELECT cmq_queue_attributes(%L)'),
	(7, 'SELECT cmq_maintain(%L)'), (8, 'SELECT cmq_create_queue(%L)'), (9, 'SELECT cmq_drop_queue(%L)'),
	(10, 'SELECT cmq_create_queue(%L)'), (11, 'SELECT cmq_send(%L, ''x'')')) v (n, command)
 ORDER BY n;

SELECT cmq_drop_queue(queue) FROM (SELECT queue FROM cmq.queues WHERE queue LIKE 'retention%' ORDER BY queue) q;
SELECT count(*) AS map_rows FROM cmq.partition WHERE queue LIKE 'retention%';

--
-- Who has a message in flight may be done with it after its retention, also when
-- maintenance has dropped its partition; nobody else gets it.
--
CREATE FUNCTION pg_temp.late(rewind_seconds int) RETURNS TABLE (what text, result text) LANGUAGE plpgsql AS $$
DECLARE
	handle text;
BEGIN
	PERFORM cmq_create_queue('retention_late', msg_retention_seconds => 60, rewind_seconds => rewind_seconds);
	PERFORM cmq_send('retention_late', 'slow');
	PERFORM cmq_send('retention_late', 'waits');
	SELECT receipt_handle INTO STRICT handle FROM cmq_receive('retention_late', visibility_timeout => 43200);
	PERFORM pg_temp.age('retention_late', '2 hours');
	-- the timeout goes on as if no time had passed
	UPDATE cmq_data.q_retention_late_pending SET visible_at = visible_at + interval '2 hours' WHERE receive_count > 0;
	SELECT regexp_replace(handle, '^\d+', cmq.msg_id(enqueued_at)::text) INTO STRICT handle FROM cmq_data.q_retention_late_pending WHERE receive_count > 0;
	RETURN QUERY SELECT 'received', string_agg(body, ' ') FROM cmq_receive('retention_late', 10);
	PERFORM cmq_maintain('retention_late');
	RETURN QUERY SELECT 'pending rows', count(*)::text FROM cmq_data.q_retention_late_pending;
	RETURN QUERY SELECT 'deleted', cmq_delete('retention_late', handle)::text;
	RETURN QUERY SELECT 'deleted again', cmq_delete('retention_late', handle)::text;
	RETURN QUERY SELECT 'history', count(*)::text FROM cmq.q_retention_late_history;
	RETURN QUERY SELECT 'pending_msg_num', pending_msg_num::text FROM cmq.metrics WHERE queue = 'retention_late';
	PERFORM cmq_drop_queue('retention_late');
END $$;
SELECT * FROM pg_temp.late(0);
SELECT * FROM pg_temp.late(60);
