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

-- Members of pg_monitor see the counters of all queues, and no body.
CREATE ROLE regress_metrics_monitor;
CREATE ROLE regress_metrics_nobody;
GRANT pg_monitor TO regress_metrics_monitor;
GRANT USAGE ON SCHEMA cmq TO regress_metrics_monitor, regress_metrics_nobody;
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
