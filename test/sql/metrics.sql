-- cmq.metrics: counters of queues.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE FUNCTION pg_temp.show() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('sent %s, received %s, redelivered %s, rewound %s, deleted %s, empty %s, waits %s, bytes %s; pending %s, in flight %s, delayed %s',
				  sent, received, redelivered, rewound, deleted, empty_receives, waits, body_bytes,
				  pending_msg_num, inactive_msg_num, delay_msg_num)
	  FROM cmq.metrics WHERE queue = 'metrics_a' $$;

SELECT cmq_create_queue('metrics_a', rewind_seconds => 3600);
SELECT * FROM pg_temp.show();
SELECT since > now() - interval '10 minutes' AS since_just_now, oldest_ready_seconds FROM cmq.metrics WHERE queue = 'metrics_a';

-- sends, in bytes not characters; delayed ones
SELECT cmq_send('metrics_a', 'äb') IS NOT NULL AS sent;
SELECT count(*) FROM cmq_send_batch('metrics_a', '{one,two,three}');
SELECT cmq_send('metrics_a', 'later', 3600) IS NOT NULL AS sent;
SELECT * FROM pg_temp.show();
SELECT oldest_ready_seconds > 0 AND oldest_ready_seconds < 600 AS some_seconds FROM cmq.metrics WHERE queue = 'metrics_a';

-- what is rolled back does not count, in a subtransaction neither
BEGIN;
SELECT count(*) FROM cmq_send_batch('metrics_a', '{x,y,z}');
SELECT count(*) FROM cmq_receive('metrics_a', 2);
SELECT * FROM pg_temp.show();
ROLLBACK;
SELECT * FROM pg_temp.show();
BEGIN;
SELECT cmq_send('metrics_a', 'kept') IS NOT NULL AS sent;
SAVEPOINT a;
SELECT cmq_send('metrics_a', 'lost') IS NOT NULL AS sent;
ROLLBACK TO a;
SAVEPOINT b;
SAVEPOINT c;
SELECT cmq_send('metrics_a', 'kept') IS NOT NULL AS sent;
RELEASE b;
SAVEPOINT d;
SELECT cmq_send('metrics_a', 'kept') IS NOT NULL AS sent;
RELEASE d;
COMMIT;
SELECT * FROM pg_temp.show();
-- many subtransactions in one transaction
DO $$
BEGIN
	FOR i IN 1 .. 200 LOOP
		BEGIN
			PERFORM cmq_send('metrics_a', 'i');
			IF i % 2 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT * FROM pg_temp.show();

-- receives, redeliveries, deletes; a stale handle deletes nothing
SELECT receipt_handle AS handle FROM cmq_receive('metrics_a', 1) \gset
SELECT cmq_change_visibility('metrics_a', :'handle', 0) IS NOT NULL AS ready_again;
SELECT cmq_delete('metrics_a', :'handle') AS deleted;
SELECT pg_temp.consume('metrics_a') IS NOT NULL AS consumed;
SELECT * FROM pg_temp.show();
SELECT oldest_ready_seconds FROM cmq.metrics WHERE queue = 'metrics_a';

-- receives that find nothing, and one that waits
SELECT count(*) FROM cmq_receive('metrics_a');
SELECT count(*) FROM cmq_receive('metrics_a', polling_wait_seconds => 1);
SELECT * FROM pg_temp.show();

-- a rewind
SELECT cmq_rewind('metrics_a', (SELECT min(enqueued_at) FROM cmq.q_metrics_a_history)) IS NOT NULL AS rewound;
SELECT oldest_ready_seconds > 0 AS there_is_one FROM cmq.metrics WHERE queue = 'metrics_a';
SELECT count(*) FROM cmq_receive('metrics_a', 4);
SELECT * FROM pg_temp.show();

-- what a rewind still has to bring back counts as pending, and is known exactly
SELECT cmq_create_queue('metrics_r', rewind_seconds => 3600);
-- What a rewind still has to bring back, and what is pending: as cmq.metrics knows them, and
-- counted in the tables.
CREATE FUNCTION pg_temp.left_of_rewind(name text) RETURNS text LANGUAGE sql AS $$
	SELECT format('left %s, pending %s', left_of_rewind, pending_msg_num) ||
		   CASE WHEN left_of_rewind = (SELECT count(*) FROM cmq_data.q_metrics_r_rewind
										WHERE cmq._due(name, enqueued_at, deleted_at, deleted_xact))
				 AND (pending_msg_num, inactive_msg_num, delay_msg_num) =
					 (SELECT active_msg_num + inactive_msg_num + delay_msg_num, inactive_msg_num, delay_msg_num
						FROM cmq_queue_attributes(name)) THEN '' ELSE ', WRONG' END
	  FROM cmq.metrics WHERE queue = name $$;
-- For how long has the oldest ready message been so: since the first or the second time?
-- The view's own time is between those of the statement's begin and end.
CREATE FUNCTION pg_temp.ready_since(name text, first timestamptz, second timestamptz) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN oldest_ready_seconds IS NULL THEN 'nothing ready'
				WHEN clock_timestamp() - oldest_ready_seconds * interval '1 s' < first THEN 'before'
				WHEN statement_timestamp() - oldest_ready_seconds * interval '1 s' < second THEN 'first'
				ELSE 'second' END
	  FROM cmq.metrics WHERE queue = name $$;
SELECT count(*) FROM cmq_send_batch('metrics_r', array(SELECT i::text FROM generate_series(1, 20) i));
SELECT pg_temp.left_of_rewind('metrics_r');
SELECT pg_temp.consume('metrics_r') IS NOT NULL AS consumed;
SELECT min(enqueued_at) AS start FROM cmq.q_metrics_r_history \gset
SELECT clock_timestamp() AS first \gset
SELECT cmq_rewind('metrics_r', :'start') IS NOT NULL AS rewound;
SELECT pg_temp.left_of_rewind('metrics_r');
SELECT pg_temp.ready_since('metrics_r', :'first', 'infinity');
BEGIN;
SELECT count(*) FROM cmq_receive('metrics_r', 3);
SELECT pg_temp.left_of_rewind('metrics_r');
SAVEPOINT s;
SELECT count(*) FROM cmq_receive('metrics_r', 3);
SELECT pg_temp.left_of_rewind('metrics_r');
ROLLBACK TO s;
SELECT pg_temp.left_of_rewind('metrics_r');
-- received and deleted in one transaction
SELECT count(*) FROM cmq_delete_batch('metrics_r', array(SELECT receipt_handle FROM cmq_receive('metrics_r', 2)));
SELECT pg_temp.left_of_rewind('metrics_r');
COMMIT;
SELECT pg_temp.left_of_rewind('metrics_r');
BEGIN;
SELECT count(*) FROM cmq_receive('metrics_r', 3);
ROLLBACK;
SELECT pg_temp.left_of_rewind('metrics_r');
-- maintenance moves the start
SELECT cmq_maintain('metrics_r');
SELECT count(*) FROM cmq_receive('metrics_r', 1);
SELECT pg_temp.left_of_rewind('metrics_r');
-- a new rewind, also in a transaction that has received for the one before, and rolled back
BEGIN;
SELECT count(*) FROM cmq_delete_batch('metrics_r', array(SELECT receipt_handle FROM cmq_receive('metrics_r', 4)));
SELECT cmq_rewind('metrics_r', latest_rewind_time) IS NOT NULL AS rewound FROM cmq_queue_attributes('metrics_r');
SELECT pg_temp.left_of_rewind('metrics_r');
SELECT count(*) FROM cmq_receive('metrics_r', 1);
SELECT pg_temp.left_of_rewind('metrics_r');
ROLLBACK;
SELECT pg_temp.left_of_rewind('metrics_r');
SELECT cmq_rewind('metrics_r', latest_rewind_time) IS NOT NULL AS rewound FROM cmq_queue_attributes('metrics_r');
SELECT pg_temp.left_of_rewind('metrics_r');
-- by hand
WITH one AS (SELECT max(enqueued_at) AS enqueued_at FROM cmq_data.q_metrics_r_rewind)
DELETE FROM cmq_data.q_metrics_r_rewind r USING one WHERE r.enqueued_at = one.enqueued_at;
SELECT pg_temp.left_of_rewind('metrics_r');
-- a cancel; a restore of what it has left in one transaction with it
BEGIN;
SELECT cmq_cancel_rewind('metrics_r');
SELECT pg_temp.left_of_rewind('metrics_r');
SELECT cmq_restore('metrics_r', :'start') > 0 AS restored;
SELECT pg_temp.left_of_rewind('metrics_r');
ROLLBACK;
SELECT pg_temp.left_of_rewind('metrics_r');
SELECT cmq_cancel_rewind('metrics_r');
SELECT pg_temp.left_of_rewind('metrics_r');

-- the age of what is ready counts from when it became so: a restore
SELECT cmq_clear_queue('metrics_r') > 0 AS cleared;
SELECT pg_temp.ready_since('metrics_r', '-infinity', 'infinity');
SELECT clock_timestamp() AS first \gset
SELECT cmq_restore('metrics_r', :'start') > 0 AS restored;
SELECT pg_temp.ready_since('metrics_r', :'first', 'infinity');
SELECT min(first_received_at) IS NULL AS not_received_yet FROM cmq.q_metrics_r_live;
-- a message that waits since before the restore, behind those it brought back
SELECT pg_temp.consume('metrics_r') IS NOT NULL AS consumed;
SELECT clock_timestamp() AS first \gset
SELECT cmq_send('metrics_r', 'waits') IS NOT NULL AS sent;
SELECT clock_timestamp() AS second \gset
-- longer than the view takes, so that a time of the restore would be seen as the second
SELECT count(pg_temp.left_of_rewind('metrics_r')) AS looks FROM generate_series(1, 20);
SELECT cmq_restore('metrics_r', :'start', :'first') > 0 AS restored;
SELECT body = 'waits' AS last FROM cmq.q_metrics_r_live ORDER BY visible_at DESC LIMIT 1;
SELECT pg_temp.ready_since('metrics_r', :'first', :'second');
-- the end of a visibility timeout
SELECT cmq_clear_queue('metrics_r') > 0 AS cleared;
SELECT cmq_send('metrics_r', 'again') IS NOT NULL AS sent;
SELECT receipt_handle AS handle FROM cmq_receive('metrics_r') \gset
SELECT clock_timestamp() AS first \gset
SELECT cmq_change_visibility('metrics_r', :'handle', 0) IS NOT NULL AS ready_again;
SELECT pg_temp.ready_since('metrics_r', :'first', 'infinity');
SELECT cmq_drop_queue('metrics_r');

-- bytes: more messages, more bytes; the history has its share
SELECT pending_bytes, rewindable_bytes FROM cmq.metrics WHERE queue = 'metrics_a' \gset before_
SELECT count(*) FROM cmq_send_batch('metrics_a', array_fill(repeat(md5('x'), 30), '{2000}'));
SELECT pending_bytes > :before_pending_bytes + 100000 AS more_pending FROM cmq.metrics WHERE queue = 'metrics_a';
SELECT pg_temp.consume('metrics_a') IS NOT NULL AS consumed;
SELECT rewindable_bytes > :before_rewindable_bytes + 50000 AS more_rewindable FROM cmq.metrics WHERE queue = 'metrics_a';
SELECT abs(pending_bytes + rewindable_bytes -
		   (SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c
			 WHERE c.oid = 'cmq_data.q_metrics_a_pending'::regclass OR c.relkind = 'r' AND c.relname ~ '^[mr]_metrics_a_')) <= 1 AS all_of_it
  FROM cmq.metrics WHERE queue = 'metrics_a';

-- only with SELECT on the queue
CREATE ROLE regress_metrics;
GRANT USAGE ON SCHEMA cmq TO regress_metrics;
GRANT INSERT, DELETE, UPDATE ON cmq.q_metrics_a TO regress_metrics;
SET ROLE regress_metrics;
SELECT count(*) FROM cmq.metrics;
RESET ROLE;
GRANT SELECT ON cmq.q_metrics_a TO regress_metrics;
SET ROLE regress_metrics;
SELECT queue FROM cmq.metrics;
RESET ROLE;
DROP OWNED BY regress_metrics;
DROP ROLE regress_metrics;

-- a damaged queue is left out with a warning, and does not hide the others
SELECT cmq_create_queue('metrics_b');
SELECT cmq_create_queue('metrics_c');
ALTER TABLE cmq_data.q_metrics_b_rewind RENAME TO renamed;
SELECT queue FROM cmq.metrics WHERE queue LIKE 'metrics%' ORDER BY queue;
ALTER TABLE cmq_data.renamed RENAME TO q_metrics_b_rewind;
ALTER TABLE cmq_data.q_metrics_b_pending RENAME TO renamed;
SELECT queue FROM cmq.metrics WHERE queue LIKE 'metrics%' ORDER BY queue;
ALTER TABLE cmq_data.renamed RENAME TO q_metrics_b_pending;
SELECT queue FROM cmq.metrics WHERE queue LIKE 'metrics%' ORDER BY queue;
SELECT cmq_drop_queue('metrics_b');
SELECT cmq_drop_queue('metrics_c');

-- What has been ready the longest is looked for from the floors on: not through all that
-- a rewind has brought back and that was consumed again.
CREATE FUNCTION pg_temp.consume_all(queue text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		PERFORM cmq_delete_batch(queue, array_agg(receipt_handle)) FROM cmq_receive(queue, 1000) HAVING count(*) > 0;
		EXIT WHEN NOT FOUND;
	END LOOP;
END $$;
SELECT cmq_create_queue('metrics_d', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('metrics_d', array_fill('m'::text, ARRAY[2000]));
SELECT pg_temp.consume_all('metrics_d');
SELECT cmq_rewind('metrics_d', now() - interval '1 hour') IS NOT NULL AS rewound;
SELECT count(*) FROM cmq_receive('metrics_d', 1000);
SELECT count(*) FROM cmq_receive('metrics_d', 990);
SELECT count(*) FROM cmq_receive('metrics_d', 9);
SELECT left_of_rewind FROM cmq.metrics WHERE queue = 'metrics_d';
BEGIN;
CREATE FUNCTION pg_temp.walked() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_returned(i.indexrelid))::bigint
	  FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indrelid
	 WHERE h.inhparent = 'cmq_data.q_metrics_d_rewind'::regclass
$$;
SELECT pg_temp.walked() AS walked \gset
SELECT left_of_rewind FROM cmq.metrics WHERE queue = 'metrics_d';
SELECT pg_temp.walked() - :walked < 100 AS near;
COMMIT;
SELECT cmq_drop_queue('metrics_d');

-- What alarms ask, in hours: for how long the oldest message has been in flight, and how long
-- the first still lives of those that wait to be consumed.  What is delayed does not.
CREATE FUNCTION pg_temp.hours() RETURNS text LANGUAGE sql AS $$
	SELECT format('ready %s, in flight %s for %s, delayed %s, history %s, left of rewind %s; expires in %s of %s; paused %s, maintained %s',
				  active_msg_num, inactive_msg_num, coalesce(round(oldest_in_flight_seconds / 3600)::text, 'NULL'), delay_msg_num,
				  rewind_msg_num, left_of_rewind, coalesce(round(first_expiry_seconds / 3600)::text, 'NULL'),
				  msg_retention_seconds / 3600, paused_seconds >= 0, unmaintained_seconds >= 0)
	  FROM cmq.metrics WHERE queue = 'metrics_e' $$;
SELECT cmq_create_queue('metrics_e', visibility_timeout => 43200, msg_retention_seconds => 360000, rewind_seconds => 360000);
SELECT cmq_send('metrics_e', 'later', 86400) > 0 AS sent;
SELECT * FROM pg_temp.hours();
SELECT cmq_send('metrics_e', 'a') > 0 AS sent;
SELECT pg_temp.age('metrics_e', '2 hours');
SELECT * FROM pg_temp.hours();
SELECT pg_temp.receive('metrics_e', 1);
SELECT cmq_send('metrics_e', 'b') > 0 AS sent;
SELECT pg_temp.age('metrics_e', '1 hour');
SELECT * FROM pg_temp.hours();
-- ready again: it stands behind b, and only what is next is asked
UPDATE cmq_data.q_metrics_e_pending SET visible_at = now() WHERE receive_count = 1;
SELECT * FROM pg_temp.hours();
-- the first is in flight, another one is received later
SELECT pg_temp.receive('metrics_e', 2);
SELECT * FROM pg_temp.hours();
SELECT cmq_delete_messages('metrics_e', ARRAY(SELECT msg_id FROM cmq.q_metrics_e_live WHERE body = 'later')) IS NOT NULL AS later_is_gone;
DELETE FROM cmq_data.q_metrics_e_pending WHERE enqueued_at = pg_temp.produced('metrics_e', 'b');
SELECT * FROM pg_temp.hours();
-- a rewind begins anew; what it has left expires when it expires
SELECT cmq_clear_queue('metrics_e');
SELECT cmq_send('metrics_e', 'c') > 0 AS sent;
SELECT pg_temp.consume('metrics_e');
SELECT pg_temp.age('metrics_e', '4 hours');
SELECT cmq_send('metrics_e', 'd') > 0 AS sent;
SELECT * FROM pg_temp.hours();
SELECT cmq_rewind('metrics_e', now() - interval '5 hours') IS NOT NULL AS rewound;
SELECT * FROM pg_temp.hours();
SELECT cmq_pause_queue('metrics_e');
SELECT * FROM pg_temp.hours();
SELECT cmq_resume_queue('metrics_e');
SELECT pg_temp.receive('metrics_e', 1);
SELECT * FROM pg_temp.hours();
-- the settings, and a queue that others are bound to
SELECT cmq_create_queue('metrics_dead', msg_retention_seconds => 1296000, max_msg_heap_num => 1000);
SELECT cmq_alter_queue('metrics_e', dead_letter_queue => 'metrics_dead', max_receive_count => 5);
SELECT queue, msg_retention_seconds, max_msg_heap_num, is_dead_letter_queue FROM cmq.metrics WHERE queue LIKE 'metrics\_%' ORDER BY queue;
SELECT cmq_drop_queue('metrics_e');
SELECT queue, is_dead_letter_queue FROM cmq.metrics WHERE queue LIKE 'metrics\_%' ORDER BY queue;
SELECT cmq_drop_queue('metrics_dead');

-- Members of pg_monitor see the counters of all queues, and no body, and need no other right.
CREATE ROLE regress_metrics_monitor;
CREATE ROLE regress_metrics_nobody;
GRANT pg_monitor TO regress_metrics_monitor;
GRANT USAGE ON SCHEMA cmq TO regress_metrics_nobody;
SET ROLE regress_metrics_monitor;
SELECT queue, sent > 0 AS counts FROM cmq.metrics WHERE queue = 'metrics_a';
SELECT pg_temp.attempt('SELECT * FROM cmq.q_metrics_a_live'), pg_temp.attempt($$SELECT * FROM cmq_queue_attributes('metrics_a')$$);
RESET ROLE;
SET ROLE regress_metrics_nobody;
SELECT count(*) FROM cmq.metrics;
RESET ROLE;
DROP OWNED BY regress_metrics_monitor, regress_metrics_nobody;
DROP ROLE regress_metrics_monitor, regress_metrics_nobody;

-- gone with the queue
SELECT cmq_drop_queue('metrics_a');
SELECT count(*) FROM cmq.metrics WHERE queue = 'metrics_a';
