-- Switching rewind off forgets the history at once and for good, in a time that does
-- not depend on how much there is; maintenance removes the rows.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

-- What the tables of a queue hold, whoever may see it.
CREATE FUNCTION pg_temp.tables(queue text, OUT messages text, OUT rewind_rows bigint, OUT leftovers boolean)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT string_agg(body, '' '' ORDER BY enqueued_at) FROM cmq_data.%I', 'q_' || queue) INTO messages;
	EXECUTE format('SELECT count(*) FROM cmq_data.%I', 'q_' || queue || '_rewind') INTO rewind_rows;
	SELECT q.leftovers INTO leftovers FROM cmq.queue q WHERE name = tables.queue;
END $$;
-- What every way of looking at the history says of it.
CREATE FUNCTION pg_temp.eyes(queue text, OUT viewed text, OUT in_all text, OUT previewed bigint, OUT counted bigint,
	OUT min_is_pending boolean)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT string_agg(body, '' '' ORDER BY enqueued_at) FROM cmq.%I', 'q_' || queue || '_history') INTO viewed;
	EXECUTE format('SELECT string_agg(body || '' '' || state, '', '' ORDER BY enqueued_at) FROM cmq.%I', 'q_' || queue || '_all') INTO in_all;
	SELECT messages INTO previewed FROM cmq_rewind_preview(queue, '-infinity');
	EXECUTE format('SELECT rewind_msg_num, min_msg_time IS NOT DISTINCT FROM coalesce((SELECT min(enqueued_at) FROM cmq_data.%I), min_msg_time)
		FROM cmq_queue_attributes($1)', 'q_' || queue || '_pending') INTO counted, min_is_pending USING queue;
END $$;
-- How many rows of its leaves, by this transaction, were read by scans or deleted?
CREATE FUNCTION pg_temp.touched(queue text) RETURNS bigint
LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_deleted(oid))::bigint
	  FROM (SELECT p.messages::oid FROM cmq.partition p WHERE p.queue = $1
			UNION SELECT p.rewind::oid FROM cmq.partition p WHERE p.queue = $1
			UNION SELECT indexrelid FROM pg_index
			 WHERE indrelid IN (SELECT unnest(ARRAY[p.messages, p.rewind]) FROM cmq.partition p WHERE p.queue = $1)) relations (oid)
$$;

SELECT cmq_create_queue('forget', rewind_seconds => 3600, visibility_timeout => 3600);
SELECT count(*) FROM cmq_send_batch('forget', '{a,b,c}');
SELECT pg_temp.consume('forget') AS consumed;
SELECT count(*) FROM cmq_send_batch('forget', '{d,e}');
SELECT pg_temp.receive('forget', 1) AS received;
SELECT * FROM pg_temp.tables('forget');

--
-- The switch reads and deletes nothing.
--
BEGIN;
SELECT pg_temp.touched('forget') AS before \gset
SELECT cmq_alter_queue('forget', rewind_seconds => 0);
SELECT pg_temp.touched('forget') - :before AS rows_touched;
COMMIT;
SELECT * FROM pg_temp.tables('forget');
SELECT body, state FROM cmq.q_forget_all ORDER BY enqueued_at;
SELECT count(*) AS history FROM cmq.q_forget_history;
SELECT rewind_msg_num, min_msg_time = (SELECT min(enqueued_at) FROM cmq_data.q_forget_pending) AS min_is_pending
  FROM cmq_queue_attributes('forget');
SELECT rewindable_bytes FROM cmq.metrics WHERE queue = 'forget';

--
-- Rewind is on again before maintenance has come: nothing of it is there.
--
SELECT cmq_alter_queue('forget', rewind_seconds => 3600);
SELECT * FROM pg_temp.eyes('forget');
SELECT cmq_restore('forget', '-infinity') AS restored;
SELECT count(*) AS restored FROM cmq_restore_messages('forget', ARRAY(SELECT cmq.msg_id(enqueued_at) FROM cmq_data.q_forget_rewind));
SELECT cmq_create_queue('forget_copy');
SELECT cmq_replay('forget', 'forget_copy', '-infinity') AS replayed;
SELECT cmq_rewind('forget', now() - interval '30 minutes') AS first_due;
SELECT rewind_from IS NULL AS no_rewind FROM cmq.queue WHERE name = 'forget';
-- what was pending during the switch is history when it is deleted now
SELECT pg_temp.consume('forget') AS consumed;
SELECT * FROM pg_temp.eyes('forget');
SELECT * FROM pg_temp.tables('forget');
-- a rewind from before all of it brings back that alone
SELECT cmq_rewind('forget', now() - interval '30 minutes') = (SELECT max(enqueued_at) FROM cmq_data.q_forget) AS rewound;
SELECT body, state FROM cmq.q_forget_all ORDER BY enqueued_at;
SELECT cmq._rewind_left('forget');
SELECT pg_temp.receive('forget') AS rewound;

--
-- Maintenance removes what is forgotten, and that alone.
--
BEGIN;
SAVEPOINT a;
SELECT cmq_maintain('forget');
SELECT * FROM pg_temp.tables('forget');
ROLLBACK TO a;
SELECT * FROM pg_temp.tables('forget');
SELECT * FROM pg_temp.eyes('forget');
SELECT cmq_maintain('forget');
COMMIT;
SELECT * FROM pg_temp.tables('forget');
SELECT * FROM pg_temp.eyes('forget');

--
-- Off while a rewind is under way; off, on and off again.
--
SELECT count(*) FROM cmq_send_batch('forget', '{f,g,h}');
SELECT pg_temp.consume('forget') AS consumed;
SELECT cmq_rewind('forget', now() - interval '30 minutes') IS NOT NULL AS rewound;
SELECT pg_temp.receive('forget', 2) AS received;
SELECT cmq_alter_queue('forget', rewind_seconds => 0);
SELECT cmq_alter_queue('forget', rewind_seconds => 3600);
SELECT body, state FROM cmq.q_forget_all ORDER BY enqueued_at;
SELECT pg_temp.receive('forget') AS received;
SELECT count(*) FROM cmq_send_batch('forget', '{i,j}');
SELECT pg_temp.consume('forget', 1) AS consumed;
SELECT * FROM pg_temp.eyes('forget');
SELECT cmq_alter_queue('forget', rewind_seconds => 0);
SELECT cmq_alter_queue('forget', rewind_seconds => 600);
SELECT * FROM pg_temp.eyes('forget');
SELECT pg_temp.consume('forget', 1) AS consumed;
SELECT * FROM pg_temp.eyes('forget');
SELECT cmq_maintain('forget');
SELECT * FROM pg_temp.tables('forget');
SELECT * FROM pg_temp.eyes('forget');

--
-- Rolled back, it has forgotten nothing.
--
BEGIN;
SELECT cmq_alter_queue('forget', rewind_seconds => 0);
SELECT cmq_maintain('forget');
SELECT * FROM pg_temp.tables('forget');
ROLLBACK;
SELECT * FROM pg_temp.eyes('forget');
SELECT cmq_restore('forget', '-infinity') AS restored;
SELECT pg_temp.receive('forget', 1) AS received;

--
-- Another setting is no reason to forget anything.
--
SELECT cmq_send('forget', 'k') > 0 AS sent;
SELECT pg_temp.consume('forget') AS consumed;
SELECT history_since AS before FROM cmq.queue WHERE name = 'forget' \gset
SELECT cmq_alter_queue('forget', rewind_seconds => 1200, visibility_timeout => 10);
SELECT history_since = :'before' AS same, leftovers FROM cmq.queue WHERE name = 'forget';
SELECT cmq_alter_queue('forget', rewind_seconds => 0);
SELECT history_since AS before FROM cmq.queue WHERE name = 'forget' \gset
SELECT cmq_alter_queue('forget', rewind_seconds => 0, visibility_timeout => 20);
SELECT history_since = :'before' AS same, leftovers FROM cmq.queue WHERE name = 'forget';

--
-- A delete that is prepared is not to be forgotten, nor does it go on: the switch waits.
--
SELECT cmq_alter_queue('forget', rewind_seconds => 600);
SELECT cmq_send('forget', 'prepared') > 0 AS sent;
BEGIN;
SELECT pg_temp.consume('forget', 1) AS consumed;
PREPARE TRANSACTION 'forget';
SET lock_timeout = '200ms';
SELECT pg_temp.attempt($$SELECT cmq_alter_queue('forget', rewind_seconds => 0)$$);
RESET lock_timeout;
COMMIT PREPARED 'forget';
SELECT cmq_alter_queue('forget', rewind_seconds => 0);
SELECT cmq_maintain('forget');
SELECT * FROM pg_temp.tables('forget');

SELECT cmq_drop_queue('forget_copy');
SELECT cmq_drop_queue('forget');
