-- Queues with :rows messages of 200 bytes with headers of three keys, and beside each a
-- plain table of the same rows with the indexes that a report wants.
--   one      deleted, from 50 seconds of time
--   days     deleted, from 14 days: 15 partitions
--   waiting  pending, from 50 seconds
-- The rows are written straight into the queues' tables: only their age cannot be had by
-- sending.  plain_<queue> is one table, also for days.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SELECT cmq_create_queue('one', msg_retention_seconds => 1296000, rewind_seconds => 1296000, max_msg_heap_num => 100000000);
SELECT cmq_create_queue('days', msg_retention_seconds => 1296000, rewind_seconds => 1296000, max_msg_heap_num => 100000000);
SELECT cmq_create_queue('waiting', msg_retention_seconds => 1296000, rewind_seconds => 1296000, max_msg_heap_num => 100000000);

-- partitions for the days that are over
CREATE PROCEDURE make_days(queue text, days int) LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := (SELECT min(p.lower) FROM cmq.partition p WHERE p.queue = make_days.queue);
	l timestamptz;
BEGIN
	FOR i IN REVERSE days .. 1 LOOP
		l := until - i * interval '1 day';
		EXECUTE format('CREATE TABLE cmq_data.%I PARTITION OF cmq_data.%I FOR VALUES FROM (%L) TO (%L)',
					   'm_' || queue || '_' || i, 'q_' || queue, l, l + interval '1 day');
		EXECUTE format('CREATE TABLE cmq_data.%I PARTITION OF cmq_data.%I FOR VALUES FROM (%L) TO (%L)',
					   'r_' || queue || '_' || i, 'q_' || queue || '_rewind', l, l + interval '1 day');
		INSERT INTO cmq.partition (queue, lower, upper, messages, rewind)
		VALUES (queue, l, l + interval '1 day', ('cmq_data.m_' || queue || '_' || i)::regclass, ('cmq_data.r_' || queue || '_' || i)::regclass);
	END LOOP;
END $$;
CALL make_days('days', 14);

CREATE UNLOGGED TABLE source AS
SELECT i,
	   md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text) || md5((i + 3)::text) || md5((i + 4)::text) || md5((i + 5)::text) || 'abcdefgh' AS body,
	   jsonb_build_object('shop', 's' || (hashint4(i) & 2147483647) % 1000, 'kind', 'k' || (hashint4(i + 7) & 2147483647) % 10, 'n', i) AS headers
  FROM generate_series(1, :rows) i;
-- times: ids are microseconds
SELECT date_trunc('second', now()) - interval '51 s' AS short_start, 50000000.0 / :rows AS short_step,
	   date_trunc('second', now()) - interval '14 days' + interval '1 minute' AS long_start, 13.99 * 86400000000.0 / :rows AS long_step \gset

CREATE PROCEDURE fill_queue(queue text, start timestamptz, step float8, deleted boolean) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO cmq_data.%I (enqueued_at, headers, body) SELECT $1 + make_interval(secs => floor(i * $2) / 1000000), headers, body FROM source ORDER BY i', 'q_' || queue) USING start, step;
	EXECUTE format('ANALYZE cmq_data.%I', 'q_' || queue);
	IF deleted THEN
		EXECUTE format('INSERT INTO cmq_data.%I SELECT enqueued_at, enqueued_at + interval ''1 s'', enqueued_at + interval ''2 s'', CASE WHEN extract(microseconds FROM enqueued_at)::int %% 3 = 0 THEN ''billing'' ELSE ''shipping'' END, 1, 0, 7 FROM cmq_data.%I ORDER BY enqueued_at',
					   'q_' || queue || '_rewind', 'q_' || queue);
		EXECUTE format('ANALYZE cmq_data.%I', 'q_' || queue || '_rewind');
		EXECUTE format('CREATE TABLE %I AS SELECT msg_id, enqueued_at, first_received_at, deleted_at, deleted_by, receive_count, rewind_count, headers, body FROM cmq.%I ORDER BY enqueued_at', 'plain_' || queue, 'q_' || queue || '_history');
	ELSE
		EXECUTE format('INSERT INTO cmq_data.%I SELECT enqueued_at, enqueued_at, NULL, 0, 0 FROM cmq_data.%I ORDER BY enqueued_at', 'q_' || queue || '_pending', 'q_' || queue);
		EXECUTE format('ANALYZE cmq_data.%I', 'q_' || queue || '_pending');
		EXECUTE format('CREATE TABLE %I AS SELECT msg_id, enqueued_at, state, first_received_at, visible_at, receive_count, rewind_count, headers, body FROM cmq.%I ORDER BY enqueued_at', 'plain_' || queue, 'q_' || queue || '_live');
	END IF;
	EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (msg_id)', 'plain_' || queue);
	EXECUTE format('CREATE INDEX ON %I (enqueued_at)', 'plain_' || queue);
	EXECUTE format('CREATE INDEX ON %I ((headers->>''shop''))', 'plain_' || queue);
	EXECUTE format('CREATE INDEX ON cmq_data.%I ((headers->>''shop''))', 'q_' || queue);
	EXECUTE format('CREATE TABLE %I AS SELECT msg_id, 1 AS amount FROM %I WHERE msg_id %% 1009 <> 0', 'ledger_' || queue, 'plain_' || queue);
	EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (msg_id)', 'ledger_' || queue);
END $$;
CALL fill_queue('one', :'short_start', :short_step, true);
CALL fill_queue('days', :'long_start', :long_step, true);
CALL fill_queue('waiting', :'short_start', :short_step, false);
DROP TABLE source;
