-- The metadata tables: what a superuser writes by hand, or a dump that was edited brings, must
-- be possible; what cmq writes is checked, too.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('meta_dead');
SELECT cmq_create_queue('meta', rewind_seconds => 3600, dead_letter_queue => 'meta_dead', max_receive_count => 3, max_time_to_live => 600);
SELECT cmq_create_topic('meta_t');
SELECT cmq_create_topic('meta_r', 'routing');
SELECT cmq_subscribe('meta_t', 's', 'meta', '{a,b}');
SELECT cmq_subscribe('meta_r', 's', 'meta', binding_keys => '{a.*}');
SELECT count(*) FROM cmq_send_batch('meta', '{a,b}');
SELECT pg_temp.consume('meta');
SELECT cmq_restore('meta', '-infinity', NULL) AS restored;
SELECT pg_temp.consume('meta');
SELECT cmq_replay('meta', 'meta_dead', '-infinity', 'infinity') AS copied;
SELECT cmq_rewind('meta', now() - interval '1 min') IS NOT NULL AS rewound;

-- Change the rows of these by hand, and undo it: the constraint that this meets, or ok.
CREATE FUNCTION pg_temp.by_hand(relation text, setting text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	n int;
	met text;
BEGIN
	BEGIN
		EXECUTE format('UPDATE cmq.%I SET %s WHERE %s', relation, setting,
			CASE relation WHEN 'queue' THEN 'name = ''meta''' WHEN 'topic' THEN 'name = ''meta_t''' ELSE 'queue = ''meta''' END);
		GET DIAGNOSTICS n = ROW_COUNT;
		RAISE SQLSTATE 'CMQ00' USING MESSAGE = CASE WHEN n > 0 THEN 'ok' ELSE 'no row' END;
	EXCEPTION
		WHEN SQLSTATE 'CMQ00' THEN
			RETURN SQLERRM;
		WHEN check_violation OR not_null_violation THEN
			GET STACKED DIAGNOSTICS met = CONSTRAINT_NAME;
			RETURN coalesce(nullif(met, ''), SQLERRM);
	END;
END $$;

--
-- cmq.queue
--
SELECT setting, pg_temp.by_hand('queue', setting)
  FROM unnest(ARRAY[
	$$name = 'Meta-2_'$$, $$name = ''$$, $$name = '1st'$$, $$name = 'a b'$$, $$name = 'ü'$$, $$name = E'meta\n'$$, $$name = repeat('x', 48)$$, $$name = repeat('x', 49)$$,
	'visibility_timeout = 1', 'visibility_timeout = 0', 'visibility_timeout = 43200', 'visibility_timeout = 43201', 'visibility_timeout = NULL',
	'polling_wait_seconds = 30', 'polling_wait_seconds = -1', 'polling_wait_seconds = 31',
	'msg_retention_seconds = 3600', 'msg_retention_seconds = 3599', 'msg_retention_seconds = 1296000', 'msg_retention_seconds = 1296001',
	'msg_retention_seconds = 59, rewind_seconds = 1, max_time_to_live = NULL', 'msg_retention_seconds = 60, rewind_seconds = 60, max_time_to_live = NULL',
	'rewind_seconds = 345600', 'rewind_seconds = 345601', 'rewind_seconds = -1', 'rewind_seconds = 0',
	'max_msg_size = 1024', 'max_msg_size = 1023', 'max_msg_size = 67108864', 'max_msg_size = 67108865',
	'max_msg_heap_num = 1', 'max_msg_heap_num = 0', 'max_msg_heap_num = 1000000000', 'max_msg_heap_num = 1000000001',
	$$dead_letter_queue = 'other'$$, $$dead_letter_queue = 'meta'$$, $$dead_letter_queue = ''$$, $$dead_letter_queue = 'x.y'$$, 'dead_letter_queue = NULL',
	'dead_letter_queue = NULL, max_receive_count = NULL', 'dead_letter_queue = NULL, max_receive_count = NULL, max_time_to_live = NULL',
	'max_receive_count = NULL, max_time_to_live = NULL', 'max_receive_count = NULL', 'max_time_to_live = NULL',
	'max_receive_count = 1', 'max_receive_count = 0', 'max_receive_count = 1000', 'max_receive_count = 1001',
	'max_time_to_live = 300', 'max_time_to_live = 299', 'max_time_to_live = 43200', 'max_time_to_live = 43201',
	'max_time_to_live = 3600, msg_retention_seconds = 3601', 'max_time_to_live = 3600, msg_retention_seconds = 3600',
	'retry_backoff_seconds = 0', 'retry_backoff_seconds = -1', 'retry_backoff_seconds = 43201', 'retry_backoff_max_seconds = 0', 'retry_backoff_max_seconds = -1', 'retry_backoff_max_seconds = 43201',
	'rewind_share = 1', 'rewind_share = 0', 'rewind_share = 100', 'rewind_share = 101',
	$$dedup_seconds = 345600, dedup = 'cmq.queue'$$, $$dedup_seconds = 345601, dedup = 'cmq.queue'$$, $$dedup_seconds = -1, dedup = 'cmq.queue'$$, 'dedup_seconds = 1', $$dedup = 'cmq.queue'$$, 'dedup_seconds = NULL',
	'rewind_from = NULL', 'rewound_at = NULL', 'rewind_concurrent = NULL', 'rewound_in = NULL', 'rewind_from = NULL, rewound_at = NULL, rewind_concurrent = NULL, rewound_in = NULL',
	$$rewind_concurrent = '{}'$$, $$rewind_concurrent = '{1,2}'$$, $$rewind_concurrent = '{1,NULL}'$$, $$rewind_concurrent = '{{1,2},{3,4}}'$$,
	'rewind_seconds = 0, rewind_from = NULL, rewound_at = NULL, rewind_concurrent = NULL, rewound_in = NULL',
	'clock = NULL', 'rights = NULL']) WITH ORDINALITY s (setting, n) ORDER BY n;

--
-- The others
--
SELECT relation, setting, pg_temp.by_hand(relation, setting)
  FROM (VALUES
	(1, 'partition', 'upper = lower'), (2, 'partition', $$upper = lower - interval '1 s'$$), (3, 'partition', $$upper = lower + interval '1 us'$$),
	(4, 'partition', $$upper = 'infinity'$$), (5, 'partition', $$lower = '-infinity'$$), (6, 'partition', $$queue = 'no name'$$), (7, 'partition', 'made_in = NULL'),
	(8, 'topic', $$filter_type = 'routing'$$), (9, 'topic', $$filter_type = 'both'$$), (10, 'topic', $$filter_type = NULL$$), (11, 'topic', $$name = 'no name'$$),
	(20, 'subscription', $$filter_tags = '{a}', binding_keys = NULL$$), (21, 'subscription', $$filter_tags = '{a}', binding_keys = '{a}'$$), (22, 'subscription', $$filter_tags = NULL, binding_keys = NULL$$),
	(23, 'subscription', $$filter_tags = '{}', binding_keys = NULL$$), (24, 'subscription', $$filter_tags = '{a,b,c,d,e}', binding_keys = NULL$$), (25, 'subscription', $$filter_tags = '{a,b,c,d,e,f}', binding_keys = NULL$$),
	(26, 'subscription', $$filter_tags = '{a,NULL}', binding_keys = NULL$$), (27, 'subscription', $$filter_tags = '{{a},{b}}', binding_keys = NULL$$),
	(28, 'subscription', $$filter_tags = NULL, binding_keys = '{}'$$), (29, 'subscription', $$filter_tags = NULL, binding_keys = '{NULL}'$$),
	(30, 'subscription', $$name = ''$$), (31, 'subscription', $$topic = '1'$$), (32, 'subscription', $$queue = 'x y'$$),
	(40, 'rewind_log', $$kind = 'undo'$$), (41, 'rewind_log', $$kind = 'cancel'$$), (42, 'rewind_log', $$kind = 'cancel', start_time = NULL, end_time = NULL, into_queue = NULL$$),
	(43, 'rewind_log', $$kind = 'pause', start_time = NULL, end_time = NULL, into_queue = NULL$$), (44, 'rewind_log', $$kind = 'resume', start_time = NULL, end_time = NULL, into_queue = NULL$$),
	(45, 'rewind_log', $$kind = 'replay', into_queue = 'meta_dead'$$), (46, 'rewind_log', $$kind = 'replay', into_queue = NULL$$), (47, 'rewind_log', $$kind = 'restore', into_queue = 'meta_dead'$$),
	(48, 'rewind_log', $$kind = 'replay', into_queue = 'no name'$$), (49, 'rewind_log', 'messages = -1'), (50, 'rewind_log', $$start_time = 'infinity', end_time = '-infinity'$$), (51, 'rewind_log', $$queue = ''$$)) v (n, relation, setting)
 ORDER BY n;
SELECT pg_temp.attempt($$COPY cmq.topic FROM PROGRAM 'printf "x\tboth\t2026-01-01\tpg_class\n"'$$) AS by_copy;

--
-- Rows that calls write are checked: a row that a dump could not bring back is an error at once.
-- A constraint for the test, in each table.
--
ALTER TABLE cmq.queue ADD CONSTRAINT meta_test CHECK (visibility_timeout <> 77);
ALTER TABLE cmq.topic ADD CONSTRAINT meta_test CHECK (name <> 'meta_77');
ALTER TABLE cmq.subscription ADD CONSTRAINT meta_test CHECK (name <> 's77');
ALTER TABLE cmq.rewind_log ADD CONSTRAINT meta_test CHECK (reason <> '77');
SELECT pg_temp.attempt($$SELECT cmq_alter_queue('meta', visibility_timeout => 77)$$) AS alter_queue, pg_temp.attempt($$SELECT cmq_create_queue('meta_77', visibility_timeout => 77)$$) AS create_queue,
	   pg_temp.attempt($$SELECT cmq_create_topic('meta_77')$$) AS create_topic, pg_temp.attempt($$SELECT cmq_subscribe('meta_t', 's77', 'meta_dead')$$) AS subscribe \gx
SET cmq.reason = '77';
SELECT pg_temp.attempt($$SELECT cmq_cancel_rewind('meta')$$) AS cancel;
RESET cmq.reason;
ALTER TABLE cmq.queue DROP CONSTRAINT meta_test;
ALTER TABLE cmq.topic DROP CONSTRAINT meta_test;
ALTER TABLE cmq.subscription DROP CONSTRAINT meta_test;
ALTER TABLE cmq.rewind_log DROP CONSTRAINT meta_test;
SELECT visibility_timeout, rewinding_from IS NOT NULL AS rewinding FROM cmq.queues WHERE queue = 'meta';
SELECT cmq_cancel_rewind('meta');
-- all of the settings at their ends
SELECT cmq_unbind_dead_letter('meta');
SELECT cmq_create_queue('meta_least', 1, 0, 60, 0, 1024, 1, NULL, NULL, NULL, 0, 0, 1);
SELECT cmq_create_queue(rpad('meta_most', 48, 'x'), 43200, 30, 1296000, 1296000, 67108864, 1000000000, 'meta_dead', 1000, 43200, 43200, 43200, 100);
SELECT cmq_alter_queue('meta_least', 43200, 30, 1296000, 1296000, 67108864, 1000000000, 'meta_dead', 1, 300, 43200, 43200, 100);
SELECT cmq_drop_queue(queue) FROM cmq.queues WHERE queue LIKE 'meta%' ORDER BY dead_letter_queue NULLS LAST;
SELECT cmq_drop_topic(topic) FROM cmq.topics WHERE topic LIKE 'meta%';
