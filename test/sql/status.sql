-- cmq.status: each queue at a glance.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

-- What the view shows, and WRONG where it differs from the attributes, the views or the
-- tables.  The latest start of a rewind is now when nothing is pending.
CREATE FUNCTION pg_temp.status(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	s record;
	a record;
	v record;
	m record;
	due bigint;
	wrong text := '';
BEGIN
	SELECT * INTO STRICT s FROM cmq.status WHERE queue = name;
	SELECT * INTO STRICT a FROM cmq_queue_attributes(name);
	SELECT * INTO STRICT m FROM cmq.metrics WHERE queue = name;
	EXECUTE format('SELECT count(*) FILTER (WHERE state = ''ready'') AS ready, count(*) FILTER (WHERE state = ''in_flight'') AS in_flight,
						   count(*) FILTER (WHERE state = ''delayed'') AS delayed, count(*) FILTER (WHERE state = ''deleted'') AS history FROM cmq.%I',
				   'q_' || name || '_all') INTO STRICT v;
	EXECUTE format('SELECT count(*) FROM cmq_data.%I WHERE cmq._due(%L, enqueued_at, deleted_at, deleted_xact)', 'q_' || name || '_rewind', name) INTO STRICT due;
	IF (s.ready, s.in_flight, s.delayed, s.history) IS DISTINCT FROM (a.active_msg_num, a.inactive_msg_num, a.delay_msg_num, a.rewind_msg_num) THEN
		wrong := wrong || ' WRONG attributes';
	END IF;
	IF (s.ready, s.in_flight, s.delayed, s.history, s.left_of_rewind) IS DISTINCT FROM (v.ready, v.in_flight, v.delayed, v.history, due) THEN
		wrong := wrong || ' WRONG views';
	END IF;
	IF s.earliest_rewind_time IS DISTINCT FROM a.earliest_rewind_time
	   OR s.latest_rewind_time IS DISTINCT FROM a.latest_rewind_time
		  AND (s.ready + s.in_flight + s.delayed > 0 OR s.latest_rewind_time NOT BETWEEN now() AND a.latest_rewind_time) THEN
		wrong := wrong || ' WRONG range';
	END IF;
	IF (s.oldest_ready_seconds IS NULL) <> (s.ready = 0) OR s.oldest_ready_seconds NOT BETWEEN 0 AND m.oldest_ready_seconds
	   OR (s.pending_bytes, s.history_bytes) IS DISTINCT FROM (m.pending_bytes, m.rewindable_bytes) THEN
		wrong := wrong || ' WRONG metrics';
	END IF;
	RETURN format('ready %s, in_flight %s, delayed %s, history %s, left %s, dead letters %s, range %s%s', s.ready, s.in_flight, s.delayed, s.history,
				  s.left_of_rewind, coalesce(s.dead_letters::text, '-'), s.latest_rewind_time IS NOT NULL, wrong);
END $$;

SELECT cmq_create_queue('status_a', rewind_seconds => 3600);
SELECT pg_temp.status('status_a');
SELECT count(*) FROM cmq_send_batch('status_a', array(SELECT i::text FROM generate_series(1, 20) i));
SELECT cmq_send('status_a', 'later', 3600) > 0 AS sent;
SELECT pg_temp.status('status_a');
SELECT count(*) FROM cmq_delete_batch('status_a', array(SELECT receipt_handle FROM cmq_receive('status_a', 8)));
SELECT pg_temp.receive('status_a', 2);
SELECT pg_temp.status('status_a');
-- what a transaction has done and not committed counts for itself
BEGIN;
SELECT cmq_send('status_a', 'gone') > 0 AS sent;
SELECT count(*) FROM cmq_delete_batch('status_a', array(SELECT receipt_handle FROM cmq_receive('status_a', 3)));
SELECT pg_temp.status('status_a');
ROLLBACK;
SELECT pg_temp.status('status_a');

-- a rewind under way
SELECT cmq_rewind('status_a', pg_temp.produced('status_a', '3')) IS NOT NULL AS rewound;
SELECT pg_temp.status('status_a');
SELECT pg_temp.receive('status_a', 2);
SELECT pg_temp.status('status_a');
SELECT count(*) FROM cmq_delete_batch('status_a', array(SELECT receipt_handle FROM cmq_receive('status_a', 2)));
SELECT pg_temp.status('status_a');
SELECT cmq_cancel_rewind('status_a');
SELECT pg_temp.status('status_a');
-- a restore
SELECT cmq_restore('status_a', pg_temp.produced('status_a', '1'), pg_temp.produced('status_a', '2')) AS restored;
SELECT pg_temp.status('status_a');
SELECT latest_rewind_time = pg_temp.produced('status_a', '1') AS latest FROM cmq.status WHERE queue = 'status_a';
-- forgotten: neither history nor a range; a rewind is off
SELECT cmq_alter_queue('status_a', rewind_seconds => 0);
SELECT pg_temp.status('status_a');
SELECT earliest_rewind_time, latest_rewind_time, history_bytes FROM cmq.status WHERE queue = 'status_a';
SELECT cmq_alter_queue('status_a', rewind_seconds => 3600);
SELECT pg_temp.status('status_a');

-- What has expired in flight is neither ready nor in flight, before maintenance comes, too.
SELECT cmq_create_queue('status_late', msg_retention_seconds => 60);
SELECT cmq_send('status_late', 'slow') > 0 AS sent;
SELECT pg_temp.receive('status_late', 1, 43200);
SELECT pg_temp.age('status_late', '2 hours');
UPDATE cmq_data.q_status_late_pending SET visible_at = visible_at + interval '2 hours';
SELECT cmq_send('status_late', 'new') > 0 AS sent;
SELECT ready, in_flight, delayed, oldest_ready_seconds < 3600 AS new FROM cmq.status WHERE queue = 'status_late';
SELECT cmq_drop_queue('status_late');

--
-- A larger queue.  The history is estimated, and the pending table is not read: the search
-- for the earliest message goes on where the last one has ended.
--
SELECT cmq_create_queue('status_b', visibility_timeout => 3600, rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('status_b', array(SELECT 'm' || i FROM generate_series(1, 8000) i));
SELECT sum((SELECT count(*) FROM cmq_delete_batch('status_b', array(SELECT receipt_handle FROM cmq_receive('status_b', 1000 + 0 * i))))) AS deleted
  FROM generate_series(1, 3) i;
SELECT ready, in_flight, delayed, history BETWEEN 2000 AND 4000 AS some_3000, latest_rewind_time = pg_temp.produced('status_b', 'm3001') AS latest
  FROM cmq.status WHERE queue = 'status_b';
VACUUM cmq_data.q_status_b_rewind;
SELECT ready, history, left_of_rewind FROM cmq.status WHERE queue = 'status_b';
-- the window begins within a partition: a part by time
BEGIN;
UPDATE cmq.queue SET forgotten_before = pg_temp.produced('status_b', 'm1501') WHERE name = 'status_b';
SELECT pg_temp.reload('status_b');
SELECT abs(history - 3000 * extract(epoch FROM last - pg_temp.produced('status_b', 'm1501')) / extract(epoch FROM last - first)) <= 1 AS by_time
  FROM cmq.status, (SELECT min(enqueued_at) AS first, max(enqueued_at) AS last FROM cmq_data.q_status_b_rewind) h WHERE queue = 'status_b';
ROLLBACK;
SELECT count(*) FROM cmq_delete_batch('status_b', array(SELECT receipt_handle FROM cmq_receive('status_b', 10)));
BEGIN;
CREATE FUNCTION pg_temp.rows_read() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_returned(oid))::bigint FROM pg_class
	 WHERE oid IN ('cmq_data.q_status_b_pending'::regclass, 'cmq_data.q_status_b_pending_pkey'::regclass) OR relname ~ '^[mr]_status_b_' $$;
SELECT pg_temp.rows_read() AS rows_read \gset
SELECT ready, latest_rewind_time AS latest FROM cmq.status WHERE queue = 'status_b' \gset
SELECT pg_temp.rows_read() - :rows_read < 1000 AS few;
COMMIT;
SELECT :ready AS ready, :'latest' = pg_temp.produced('status_b', 'm3011') AS latest;
-- less what a rewind brings back
SELECT cmq_rewind('status_b', pg_temp.produced('status_b', 'm1001')) IS NOT NULL AS rewound;
SELECT ready, history BETWEEN 900 AND 1100 AS some_1000, left_of_rewind, latest_rewind_time = pg_temp.produced('status_b', 'm1001') AS latest
  FROM cmq.status WHERE queue = 'status_b';

--
-- Dead letters.
--
SELECT cmq_create_queue('status_dead');
SELECT cmq_alter_queue('status_a', dead_letter_queue => 'status_dead', max_receive_count => 1);
SELECT cmq_alter_queue('status_b', dead_letter_queue => 'status_dead', max_receive_count => 1000);
SELECT count(*) FROM cmq_send_batch('status_dead', '{one,two,three}');
SELECT cmq_send('status_dead', 'later', 3600) > 0 AS sent;
SELECT pg_temp.receive('status_dead', 1);
SELECT queue, dead_letters FROM cmq.status WHERE queue LIKE 'status\_%';
SELECT pg_temp.status('status_a');

--
-- Rights: SELECT on a queue, and on its dead-letter queue for what is in there; members of
-- pg_monitor see the numbers of all queues, and no body.
--
CREATE ROLE regress_status_reader;
CREATE ROLE regress_status_nobody;
CREATE ROLE regress_status_monitor IN ROLE pg_monitor;
GRANT USAGE ON SCHEMA cmq TO regress_status_reader, regress_status_nobody;
GRANT INSERT, UPDATE, DELETE ON cmq.q_status_a TO regress_status_nobody;
GRANT SELECT ON cmq.q_status_a TO regress_status_reader;
SET ROLE regress_status_nobody;
SELECT count(*) FROM cmq.status;
SET ROLE regress_status_reader;
SELECT queue, ready + in_flight + delayed AS pending, dead_letters FROM cmq.status;
SET ROLE regress_status_monitor;
SELECT queue, dead_letters, latest_rewind_time IS NOT NULL AS range FROM cmq.status WHERE queue LIKE 'status\_%';
SELECT pg_temp.outcome('regress_status_monitor', 'SELECT FROM cmq.q_status_a_live') AS bodies;
RESET ROLE;
GRANT SELECT ON cmq.q_status_dead TO regress_status_reader;
SET ROLE regress_status_reader;
SELECT queue, dead_letters FROM cmq.status;
RESET ROLE;
DROP OWNED BY regress_status_reader, regress_status_nobody, regress_status_monitor;
DROP ROLE regress_status_reader, regress_status_nobody, regress_status_monitor;

-- a damaged queue is left out with a warning, and hides neither others nor their numbers
ALTER TABLE cmq_data.q_status_dead_rewind RENAME TO renamed;
SELECT queue, dead_letters FROM cmq.status WHERE queue LIKE 'status\_%';
--
-- A condition on the name reads these queues alone, and their dead-letter queues: no
-- warning of the damaged one, and the plan says how many it has looked at.
--
SELECT count(cmq_create_queue('status_' || c)) AS created FROM unnest('{c,d,e,f}'::text[]) c;
CREATE FUNCTION pg_temp.looks(query text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT json) ' || query INTO STRICT plan;
	RETURN jsonb_path_query_first(plan, '$.**{0 to last} ? (@."Node Type" == "Function Scan")."Actual Loops"');
END $$;
SELECT queue, ready FROM cmq.status WHERE queue = 'status_c';
SELECT queue, dead_letters FROM cmq.status WHERE queue = 'status_a';
SELECT queue FROM cmq.status WHERE queue = ANY ('{status_f,status_c,status_none,status_e}');
SELECT queue FROM cmq.status WHERE queue > 'status_c' AND queue <= 'status_d';
SELECT queue FROM cmq.status WHERE queue >= 'status_dfirst' ORDER BY queue LIMIT 2;
SELECT v AS view,
	   pg_temp.looks(format('SELECT * FROM cmq.%I WHERE queue = ''status_c''', v)) AS one,
	   pg_temp.looks(format('SELECT * FROM cmq.%I WHERE queue = ANY (''{status_f,status_c,status_none}'')', v)) AS chosen,
	   pg_temp.looks(format('SELECT * FROM cmq.%I WHERE queue > ''status_c'' AND queue <= ''status_d''', v)) AS range,
	   pg_temp.looks(format('SELECT * FROM cmq.%I WHERE queue > ''status_dead'' ORDER BY queue LIMIT 1', v)) AS page,
	   pg_temp.looks(format('SELECT * FROM cmq.%I WHERE queue > ''status_dead'' ORDER BY queue COLLATE "C" LIMIT 2', v)) AS page_of_c
  FROM unnest('{metrics,status}'::text[]) v;
-- parameters of a generic plan
SET plan_cache_mode = force_generic_plan;
PREPARE chosen AS SELECT queue, ready FROM cmq.status WHERE queue = ANY ($1);
PREPARE page AS SELECT queue FROM cmq.status WHERE queue > $1 ORDER BY queue COLLATE "C" LIMIT $2;
EXECUTE chosen('{status_c,status_f}');
EXECUTE page('status_dead', 2);
SELECT pg_temp.looks($$EXECUTE chosen('{status_c,status_f}')$$) AS chosen, pg_temp.looks($$EXECUTE page('status_dead', 2)$$) AS page;
DEALLOCATE chosen;
DEALLOCATE page;
RESET plan_cache_mode;
SELECT count(cmq_drop_queue('status_' || c)) AS dropped FROM unnest('{c,d,e,f}'::text[]) c;
ALTER TABLE cmq_data.renamed RENAME TO q_status_dead_rewind;

SELECT cmq_drop_queue('status_a');
SELECT cmq_drop_queue('status_b');
SELECT cmq_drop_queue('status_dead');
SELECT count(*) FROM cmq.status WHERE queue LIKE 'status\_%';
