-- Preview, restore, replay, cancel, and the record of it all.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

-- n messages m1 .. mn, consumed and deleted, produced one second apart, the
-- last one half an hour ago; odd ones with the header {"odd": true}
CREATE FUNCTION pg_temp.history_of(queue text, n int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	t text;
BEGIN
	PERFORM FROM cmq_send_batch(queue, array(SELECT 'm' || i FROM generate_series(1, n) i),
		headers => array(SELECT CASE WHEN i % 2 = 1 THEN '{"odd": true, "shop": {"no": 7}}' ELSE '{"odd": false}' END::jsonb
						   FROM generate_series(1, n) i));
	PERFORM pg_temp.consume(queue, n);
	PERFORM pg_temp.age(queue, '30 min');
	FOREACH t IN ARRAY ARRAY['', '_rewind'] LOOP
		EXECUTE format('UPDATE cmq_data.%I q SET enqueued_at = date_trunc(''second'', n.latest) - (n.total - n.no) * interval ''1 s''
			FROM (SELECT enqueued_at, row_number() OVER (ORDER BY enqueued_at) AS no, count(*) OVER () AS total, max(enqueued_at) OVER () AS latest
					FROM cmq_data.%1$I) n WHERE n.enqueued_at = q.enqueued_at', 'q_' || queue || t);
	END LOOP;
	PERFORM pg_temp.reload(queue);
END $$;
SELECT cmq_create_queue('restore_a', rewind_seconds => 7200, msg_retention_seconds => 86400);
-- the production time of message m<no>
CREATE FUNCTION pg_temp.at(no int) RETURNS timestamptz
LANGUAGE sql AS $$ SELECT pg_temp.produced('restore_a', 'm' || no) $$;
CREATE FUNCTION pg_temp.preview(start_time timestamptz, end_time timestamptz DEFAULT NULL, filter jsonb DEFAULT NULL) RETURNS text
LANGUAGE sql AS $$
	SELECT format('%s messages, %s bytes, %s .. %s', p.messages, p.body_bytes,
				  (SELECT body FROM cmq_data.q_restore_a WHERE enqueued_at = p.first_enqueued_at),
				  (SELECT body FROM cmq_data.q_restore_a WHERE enqueued_at = p.last_enqueued_at))
	  FROM cmq_rewind_preview('restore_a', $1, $2, $3) p
$$;

SELECT pg_temp.history_of('restore_a', 10);
SELECT pg_temp.history('restore_a'), pg_temp.counts('restore_a');

--
-- Preview: the window includes its start and not its end.
--
SELECT pg_temp.preview('-infinity') AS all, pg_temp.preview(pg_temp.at(3)) AS from_3,
	   pg_temp.preview(pg_temp.at(3), pg_temp.at(6)) AS "3..5", pg_temp.preview(pg_temp.at(3), pg_temp.at(3)) AS none;
SELECT pg_temp.preview('-infinity', filter => '{"odd": true}') AS odd,
	   pg_temp.preview('-infinity', filter => '{"shop": {"no": 7}}') AS nested,
	   pg_temp.preview('-infinity', filter => '{"shop": {"no": 8}}') AS none;
SELECT * FROM cmq_rewind_preview('restore_a', 'infinity');
SELECT pg_temp.counts('restore_a') AS unchanged;

-- it counts what is history: not what is pending, ...
SELECT cmq_send('restore_a', 'waiting') > 0 AS sent;
SELECT pg_temp.preview('-infinity') AS all;
SELECT pg_temp.consume('restore_a');
SELECT pg_temp.preview('-infinity') AS all;
-- ... nor what a rewind under way brings back
BEGIN;
SELECT cmq_rewind('restore_a', pg_temp.at(9)) = pg_temp.at(9) AS rewound;
SELECT pg_temp.preview('-infinity') AS all;
ROLLBACK;
-- and equals what the rewind right after it brings back
BEGIN;
SELECT messages FROM cmq_rewind_preview('restore_a', pg_temp.at(4));
SELECT cmq_rewind('restore_a', pg_temp.at(4)) = pg_temp.at(4) AS rewound;
SELECT active_msg_num FROM cmq_queue_attributes('restore_a');
ROLLBACK;
-- bodies are counted in bytes, also when they are compressed or stored aside
BEGIN;
SELECT cmq_send('restore_a', repeat('0123456789', 10000)) > 0 AS sent;
SELECT length(pg_temp.consume('restore_a'));
SELECT body_bytes FROM cmq_rewind_preview('restore_a', now() - interval '1 min');
ROLLBACK;

--
-- Restore: ready again, oldest first, before what was produced later.
--
SELECT cmq_send('restore_a', 'later') > 0 AS sent;
SELECT cmq_restore('restore_a', pg_temp.at(3), pg_temp.at(6)) AS restored;
SELECT pg_temp.live('restore_a'), pg_temp.history('restore_a');
SELECT body, receive_count, rewind_count, headers FROM cmq_receive('restore_a', 10);
SELECT pg_temp.live('restore_a');
-- it is not history, so nothing is left to restore
SELECT cmq_restore('restore_a', pg_temp.at(3), pg_temp.at(6)) AS restored;
UPDATE cmq_data.q_restore_a_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('restore_a');
SELECT rewind_count, string_agg(body, ' ' ORDER BY enqueued_at) FROM cmq.q_restore_a_history GROUP BY 1 ORDER BY 1;

-- two windows side by side are one window
BEGIN;
SELECT cmq_restore('restore_a', '-infinity', pg_temp.at(4)) + cmq_restore('restore_a', pg_temp.at(4), pg_temp.at(9)) AS restored;
SELECT pg_temp.receive('restore_a');
ROLLBACK;
BEGIN;
SELECT cmq_restore('restore_a', '-infinity', pg_temp.at(9)) AS restored;
SELECT pg_temp.receive('restore_a');
ROLLBACK;
SELECT pg_temp.counts('restore_a') AS as_before, pg_temp.receive('restore_a') AS nothing;

-- filter
SELECT messages FROM cmq_rewind_preview('restore_a', '-infinity', NULL, '{"odd": true}');
SELECT cmq_restore('restore_a', '-infinity', filter => '{"odd": true}') AS restored;
SELECT pg_temp.consume('restore_a');

-- expected_count
SELECT pg_temp.attempt($$SELECT cmq_restore('restore_a', '-infinity', expected_count => 11)$$) AS one_less;
SELECT pg_temp.counts('restore_a') AS unchanged, pg_temp.receive('restore_a') AS nothing;
SELECT cmq_restore('restore_a', '-infinity', expected_count => 12);
SELECT pg_temp.consume('restore_a');

-- savepoints
BEGIN;
SAVEPOINT s;
SELECT cmq_restore('restore_a', pg_temp.at(1), pg_temp.at(2)) AS restored;
ROLLBACK TO s;
SELECT cmq_restore('restore_a', pg_temp.at(2), pg_temp.at(3)) AS restored;
RELEASE s;
COMMIT;
SELECT pg_temp.consume('restore_a') AS "m2";

-- the same instant written in four ways
SET TimeZone = 'Asia/Kolkata';
SELECT pg_temp.at(5) AT TIME ZONE 'UTC' AS utc, pg_temp.at(5) AT TIME ZONE 'America/New_York' AS ny,
	   extract(epoch FROM pg_temp.at(5)) AS epoch, pg_temp.at(5)::timestamp AS here \gset
SELECT (SELECT messages FROM cmq_rewind_preview('restore_a', (:'utc' || '+00')::timestamptz, (:'utc' || '+00')::timestamptz + '1 s')) AS utc,
	   (SELECT messages FROM cmq_rewind_preview('restore_a', (:'ny' || ' America/New_York')::timestamptz, (:'ny' || ' America/New_York')::timestamptz + '1 s')) AS ny,
	   (SELECT messages FROM cmq_rewind_preview('restore_a', to_timestamp(:epoch), to_timestamp(:epoch) + '1 s')) AS epoch,
	   (SELECT messages FROM cmq_rewind_preview('restore_a', :'here', :'here'::timestamptz + '1 s')) AS here;
SELECT cmq_restore('restore_a', (:'utc' || '+00')::timestamptz, (:'ny' || ' America/New_York')::timestamptz + '1 s', expected_count => 1);
SELECT pg_temp.consume('restore_a') AS "m5";
RESET TimeZone;

-- a full queue takes restored messages all the same, a rewind goes on
SELECT cmq_alter_queue('restore_a', max_msg_heap_num => 1);
SELECT cmq_rewind('restore_a', pg_temp.at(8)) = pg_temp.at(8) AS rewound;
SELECT cmq_restore('restore_a', pg_temp.at(7)) AS "only m7";
SELECT pg_temp.consume('restore_a');
SELECT cmq_alter_queue('restore_a', max_msg_heap_num => 1000000);

-- a message restored, then consumed after a rewind, is not brought back by it
SELECT cmq_restore('restore_a', pg_temp.at(1), pg_temp.at(2)) AS restored;
SELECT cmq_rewind('restore_a', pg_temp.at(1)) = pg_temp.at(2) AS rewound;
SELECT pg_temp.consume('restore_a');
SELECT pg_temp.receive('restore_a') AS nothing;

--
-- Dead letters: a restored message starts anew, its age does not count.
--
SELECT cmq_create_queue('restore_dlq');
SELECT cmq_alter_queue('restore_a', dead_letter_queue => 'restore_dlq', max_time_to_live => 600, max_receive_count => 1);
SELECT cmq_restore('restore_a', pg_temp.at(10), pg_temp.at(10) + '1 s') AS restored;
SELECT cmq_maintain('restore_a');
SELECT pg_temp.receive('restore_a'), pg_temp.counts('restore_dlq');
UPDATE cmq_data.q_restore_a_pending SET visible_at = enqueued_at;
SELECT cmq_maintain('restore_a');
SELECT pg_temp.live('restore_a'), pg_temp.live('restore_dlq');
SELECT cmq_unbind_dead_letter('restore_a');
SELECT cmq_drop_queue('restore_dlq');

--
-- By id.
--
SELECT array_agg(msg_id ORDER BY body DESC) AS ids FROM cmq.q_restore_a_history WHERE body IN ('m4', 'm2', 'm6') \gset
SELECT cmq_send('restore_a', 'not deleted') AS pending \gset
SET client_min_messages = notice;
SELECT body FROM cmq_restore_messages('restore_a', :'ids') i JOIN cmq.q_restore_a_all a ON a.msg_id = i;
SELECT body FROM cmq_restore_messages('restore_a', :'ids'::bigint[] || ARRAY[:pending, 1, -5, 9223372036854775807, 9223372036854775807]) i JOIN cmq.q_restore_a_all a ON a.msg_id = i;
SELECT * FROM cmq_restore_messages('restore_a', '{}');
SET client_min_messages = warning;
SELECT pg_temp.consume('restore_a');

--
-- Replay: copies, the source stays.
--
SELECT cmq_create_queue('restore_copy', rewind_seconds => 3600, max_msg_heap_num => 1000);
SELECT pg_temp.counts('restore_a') AS before \gset
SELECT cmq_replay('restore_a', 'restore_copy', pg_temp.at(3), pg_temp.at(6)) AS copied;
SELECT pg_temp.counts('restore_a') = :'before' AS unchanged;
SELECT r.body, r.headers - 'cmq_origin' AS headers, r.headers #>> '{cmq_origin,queue}' AS queue,
	   (r.headers #>> '{cmq_origin,msg_id}')::bigint = cmq.msg_id(m.enqueued_at) AS msg_id,
	   (r.headers #>> '{cmq_origin,enqueued_at}')::timestamptz = m.enqueued_at AS enqueued_at,
	   r.receive_count, r.rewind_count
  FROM cmq_receive('restore_copy', 10) r JOIN cmq_data.q_restore_a m USING (body) ORDER BY r.msg_id;
SELECT cmq_replay('restore_a', 'restore_copy', '-infinity', filter => '{"odd": true}') AS copied;
-- many, large, and with headers
SELECT count(*) FROM cmq_send_batch('restore_a', array(SELECT repeat(md5(i::text), 100) FROM generate_series(1, 1200) i), headers => array_fill('{"many": [1]}'::jsonb, '{1200}'));
DO $$ BEGIN WHILE pg_temp.consume('restore_a') IS NOT NULL LOOP END LOOP; END $$;
SELECT pg_temp.attempt($$SELECT cmq_replay('restore_a', 'restore_copy', now() - interval '1 min')$$) AS "full";
SELECT cmq_alter_queue('restore_copy', max_msg_heap_num => 100000);
SELECT cmq_replay('restore_a', 'restore_copy', now() - interval '1 min') AS copied;
SELECT count(*), count(DISTINCT c.body), bool_and(c.body = m.body AND c.headers -> 'many' = '[1]') AS same
  FROM cmq.q_restore_copy_live c JOIN cmq_data.q_restore_a m ON m.enqueued_at = (c.headers #>> '{cmq_origin,enqueued_at}')::timestamptz
 WHERE c.headers ? 'many';
SELECT cmq_alter_queue('restore_copy', max_msg_size => 1024);
SELECT pg_temp.attempt($$SELECT cmq_replay('restore_a', 'restore_copy', now() - interval '1 min')$$) AS too_large;
SELECT cmq_drop_queue('restore_copy');

--
-- Cancel: what was not received returns to history.
--
SELECT cmq_rewind('restore_a', pg_temp.at(1)) = pg_temp.at(1) AS rewound;
SELECT pg_temp.consume('restore_a', 3);
SELECT messages FROM cmq.rewinds WHERE queue = 'restore_a' AND kind = 'rewind' ORDER BY id DESC LIMIT 1;
SELECT cmq_cancel_rewind('restore_a');
SELECT pg_temp.receive('restore_a') AS nothing, pg_temp.counts('restore_a');
SELECT messages FROM cmq.rewinds WHERE queue = 'restore_a' AND kind = 'rewind' ORDER BY id DESC LIMIT 1;
SELECT rewinding_from FROM cmq.queues WHERE queue = 'restore_a';
SELECT cmq_cancel_rewind('restore_a') AS nothing_to_cancel;
BEGIN;
SELECT cmq_rewind('restore_a', pg_temp.at(1)) = pg_temp.at(1) AS rewound;
SAVEPOINT s;
SELECT cmq_cancel_rewind('restore_a');
ROLLBACK TO s;
SELECT pg_temp.receive('restore_a', 1) AS "m1";
ROLLBACK;

--
-- Errors.
--
SELECT cmq_create_queue('restore_off');
SELECT pg_temp.attempt($$SELECT cmq_rewind_preview('restore_off', now())$$) AS off,
	   pg_temp.attempt($$SELECT cmq_restore('restore_off', now())$$) AS off,
	   pg_temp.attempt($$SELECT cmq_restore_messages('restore_off', '{1}')$$) AS off,
	   pg_temp.attempt($$SELECT cmq_replay('restore_off', 'restore_a', now())$$) AS off,
	   pg_temp.attempt($$SELECT cmq_cancel_rewind('restore_off')$$) AS off \gx
SELECT pg_temp.attempt($$SELECT cmq_rewind_preview('restore_a', NULL)$$) AS preview,
	   pg_temp.attempt($$SELECT cmq_rewind_preview('restore_a', now(), now() - interval '1 s')$$) AS preview,
	   pg_temp.attempt($$SELECT cmq_restore('restore_a', NULL)$$) AS restore,
	   pg_temp.attempt($$SELECT cmq_restore('restore_a', 'infinity', '-infinity')$$) AS restore,
	   pg_temp.attempt($$SELECT cmq_restore_messages('restore_a', NULL)$$) AS ids,
	   pg_temp.attempt($$SELECT cmq_restore_messages('restore_a', '{1,NULL}')$$) AS ids,
	   pg_temp.attempt($$SELECT cmq_restore_messages('restore_a', '{{1},{2}}')$$) AS ids,
	   pg_temp.attempt($$SELECT cmq_replay('restore_a', 'restore_off', NULL)$$) AS replay,
	   pg_temp.attempt($$SELECT cmq_replay('restore_a', NULL, now())$$) AS replay,
	   pg_temp.attempt($$SELECT cmq_replay('restore_a', 'restore_a', now())$$) AS itself,
	   pg_temp.attempt($$SELECT cmq_replay('restore_a', 'restore_none', now())$$) AS target \gx
SELECT pg_temp.attempt(format(command, '''restore_none''')) AS unknown, pg_temp.attempt(format(command, 'NULL')) AS "null"
  FROM unnest(ARRAY['SELECT cmq_rewind_preview(%s, now())', 'SELECT cmq_restore(%s, now())', 'SELECT cmq_restore_messages(%s, ''{1}'')',
					'SELECT cmq_replay(%s, ''restore_a'', now())', 'SELECT cmq_cancel_rewind(%s)']) command;

--
-- Rights, and the record.
--
CREATE ROLE regress_restore;
GRANT USAGE ON SCHEMA cmq TO regress_restore;
GRANT INSERT, DELETE ON cmq.q_restore_a TO regress_restore;
SET ROLE regress_restore;
SELECT pg_temp.attempt($$SELECT cmq_rewind_preview('restore_a', now())$$) AS preview,
	   pg_temp.attempt($$SELECT cmq_restore('restore_a', now())$$) AS restore,
	   pg_temp.attempt($$SELECT cmq_restore_messages('restore_a', '{1}')$$) AS ids,
	   pg_temp.attempt($$SELECT cmq_replay('restore_a', 'restore_off', now())$$) AS source,
	   pg_temp.attempt($$SELECT cmq_cancel_rewind('restore_a')$$) AS cancel,
	   cmq._rewind_left('restore_a') AS "left",
	   pg_temp.attempt($$SELECT * FROM cmq.rewind_log$$) AS log,
	   (SELECT count(*) FROM cmq.rewinds) AS rewinds \gx
RESET ROLE;
GRANT SELECT ON cmq.q_restore_a TO regress_restore;
SET ROLE regress_restore;
SELECT pg_temp.attempt($$SELECT cmq_rewind_preview('restore_a', now())$$) AS preview,
	   pg_temp.attempt($$SELECT cmq_replay('restore_a', 'restore_off', now())$$) AS target,
	   (SELECT count(*) > 0 FROM cmq.rewinds) AS rewinds,
	   pg_temp.attempt($$DELETE FROM cmq.rewinds$$) AS "delete",
	   pg_temp.attempt($$UPDATE cmq.rewind_log SET reason = ''$$) AS "update" \gx
RESET ROLE;
GRANT UPDATE ON cmq.q_restore_a TO regress_restore;

DELETE FROM cmq.rewind_log;
SELECT pg_temp.at(1) AS at_1 \gset
SET ROLE regress_restore;
SET application_name = 'restore test';
SET cmq.reason = 'ticket 4711';
SELECT cmq_rewind('restore_a', :'at_1') = :'at_1' AS rewound;
RESET ROLE;
SET cmq.reason = '';
SELECT cmq_cancel_rewind('restore_a');
-- a call that brings nothing back leaves no row
SELECT cmq_restore('restore_a', '-infinity', now(), '{"a": 1}') AS restored;
SELECT cmq_restore('restore_a', '-infinity', pg_temp.at(2), '{"odd": true}') AS restored;
SELECT pg_temp.consume('restore_a');
SELECT count(*) FROM cmq_restore_messages('restore_a', ARRAY[cmq.msg_id(pg_temp.at(2)), cmq.msg_id(pg_temp.at(4))]);
SELECT pg_temp.consume('restore_a');
SELECT count(*) FROM cmq_restore_messages('restore_a', '{1}');
SELECT cmq_create_queue('restore_copy');
SELECT cmq_replay('restore_a', 'restore_copy', pg_temp.at(4), pg_temp.at(5)) AS copied;
-- what is rolled back leaves nothing
BEGIN;
SELECT cmq_restore('restore_a', pg_temp.at(1), pg_temp.at(2)) AS restored;
ROLLBACK;
SELECT kind, session_user_name = session_user AS session, current_user_name = 'regress_restore' AS other, client_addr IS NULL AS socket,
	   application_name, start_time = pg_temp.at(1) AS at_1, start_time = pg_temp.at(2) AS at_2, end_time = pg_temp.at(4) + '1 us' AS to_4, end_time IS NULL AS no_end,
	   filter, into_queue, messages, reason
  FROM cmq.rewinds ORDER BY id;

-- a reason can be required
SET cmq.require_reason = on;
SELECT pg_temp.attempt($$SELECT cmq_rewind('restore_a', now())$$) AS rewind,
	   pg_temp.attempt($$SELECT cmq_restore('restore_a', now())$$) AS restore,
	   pg_temp.attempt($$SELECT cmq_restore_messages('restore_a', '{}')$$) AS ids,
	   pg_temp.attempt($$SELECT cmq_replay('restore_a', 'restore_copy', now())$$) AS replay,
	   pg_temp.attempt($$SELECT cmq_cancel_rewind('restore_a')$$) AS cancel,
	   pg_temp.attempt($$SELECT cmq_rewind_preview('restore_a', now())$$) AS preview \gx
SET cmq.reason = '  ';
SELECT pg_temp.attempt($$SELECT cmq_restore('restore_a', now())$$) AS blank;
SET cmq.reason = 'because';
SELECT cmq_restore('restore_a', 'infinity');
RESET cmq.reason;
SET ROLE regress_restore;
SELECT pg_temp.attempt($$SET cmq.require_reason = off$$) AS not_by_users;
RESET ROLE;
RESET cmq.require_reason;

-- nobody else writes into the record
SET ROLE regress_restore;
SELECT pg_temp.attempt($$INSERT INTO cmq.rewinds SELECT * FROM cmq.rewinds$$) AS "insert",
	   pg_temp.attempt($$TRUNCATE cmq.rewind_log$$) AS "truncate";
RESET ROLE;

-- old rows are removed
UPDATE cmq.rewind_log SET called_at = called_at - interval '90 days' WHERE kind = 'rewind';
-- the clock of some queue may be ahead
INSERT INTO cmq.rewind_log OVERRIDING SYSTEM VALUE
	SELECT 0, 'ahead', 'cancel', '', '', NULL, '', now() + interval '10 years', NULL, NULL, NULL, NULL, NULL, NULL, now();
SELECT cmq_maintain();
SELECT kind, count(*) FROM cmq.rewinds GROUP BY 1 ORDER BY 1;

-- a damaged queue does not stop the view
SELECT cmq_rewind('restore_a', pg_temp.at(1)) = pg_temp.at(1) AS rewound;
SELECT messages > 0 AS messages FROM cmq.rewinds WHERE kind = 'rewind';
ALTER TABLE cmq_data.q_restore_a_rewind RENAME TO renamed;
SELECT messages > 0 AS messages FROM cmq.rewinds WHERE kind = 'rewind';
ALTER TABLE cmq_data.renamed RENAME TO q_restore_a_rewind;

-- rows of queues that are gone are for the owner of the extension, and not for
-- whoever has a new queue of that name
SELECT cmq_drop_queue('restore_a');
SELECT cmq_create_queue('restore_a');
GRANT SELECT ON cmq.q_restore_a TO regress_restore;
SELECT count(*) > 0 AS seen FROM cmq.rewinds WHERE queue = 'restore_a';
SET ROLE regress_restore;
SELECT count(*) FROM cmq.rewinds;
RESET ROLE;

SELECT cmq_drop_queue('restore_a');
SELECT cmq_drop_queue('restore_copy');
SELECT cmq_drop_queue('restore_off');

--
-- What has left the window is not brought back by any of them.
--
SELECT cmq_create_queue('window', rewind_seconds => 3600, msg_retention_seconds => 86400, visibility_timeout => 600);
SELECT cmq_create_queue('window_copy');
SELECT count(*) FROM cmq_send_batch('window', '{old1,old2}', headers => '{"{\"a\": 1}",NULL}');
SELECT pg_temp.consume('window');
SELECT pg_temp.age('window', '2 hours');
SELECT count(*) FROM cmq_send_batch('window', '{new1,new2,pending}', headers => '{"{\"a\": 1}",NULL,NULL}');
SELECT pg_temp.consume('window', 2);
CREATE TEMP TABLE known AS SELECT body, cmq.msg_id(enqueued_at) AS msg_id FROM cmq_data.q_window;
SELECT count(*) AS stored FROM known;
SELECT (SELECT messages FROM cmq_rewind_preview('window', '-infinity')) AS preview,
	   (SELECT messages FROM cmq_rewind_preview('window', '-infinity', NULL, '{"a": 1}')) AS with_filter,
	   (SELECT count(*) FROM cmq.q_window_history) AS history,
	   cmq_replay('window', 'window_copy', '-infinity') AS replayed;
SELECT pg_temp.consume('window_copy');
SET client_min_messages = notice;
SELECT k.body FROM cmq_restore_messages('window', ARRAY(SELECT msg_id FROM known UNION ALL SELECT 1)) r (msg_id) JOIN known k USING (msg_id) ORDER BY 1;
SET client_min_messages = warning;
SELECT pg_temp.consume('window');
SELECT cmq_restore('window', '-infinity') AS restored;
SELECT pg_temp.consume('window');

--
-- A role with just the rights that a replay needs; isolation levels; transactions
-- that may not write, or are prepared.
--
GRANT SELECT ON cmq.q_window TO regress_restore;
GRANT INSERT ON cmq.q_window_copy TO regress_restore;
SET ROLE regress_restore;
SELECT cmq_replay('window', 'window_copy', '-infinity') AS replayed;
SELECT pg_temp.attempt($$SELECT cmq_restore('window', '-infinity')$$) AS restore,
	   pg_temp.attempt($$SELECT * FROM cmq_receive('window_copy')$$) AS receive;
RESET ROLE;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT messages FROM cmq_rewind_preview('window', '-infinity');
SELECT cmq_replay('window', 'window_copy', '-infinity') AS replayed;
SELECT count(*) AS restored FROM cmq_restore_messages('window', ARRAY(SELECT msg_id FROM known WHERE body = 'new1'));
SELECT cmq_restore('window', '-infinity') AS restored;
COMMIT;
SELECT pg_temp.consume('window'), pg_temp.consume('window_copy');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT cmq_rewind('window', now() - interval '30 min') IS NOT NULL AS rewound;
SELECT cmq_cancel_rewind('window');
COMMIT;
SELECT pg_temp.consume('window');
BEGIN READ ONLY;
SELECT pg_temp.attempt(c)
  FROM unnest(ARRAY[$$SELECT cmq_rewind('window', now())$$, $$SELECT cmq_cancel_rewind('window')$$, $$SELECT cmq_restore('window', now())$$,
					$$SELECT cmq_restore_messages('window', '{1}')$$, $$SELECT cmq_replay('window', 'window_copy', now())$$,
					$$SELECT cmq_rewind_preview('window', '-infinity')$$]) c;
COMMIT;
SELECT cmq_drop_queue('window');
SELECT cmq_drop_queue('window_copy');
DROP TABLE known;
DROP OWNED BY regress_restore;
DROP ROLE regress_restore;
