-- cmq_pause_queue and cmq_resume_queue: while a queue is paused nothing is delivered and
-- no dead letter leaves it, and all else goes on.  Several sessions: test/specs/pause_receive.spec,
-- test/t/102_waiting_receives.pl, test/t/117_pauses_under_traffic.pl.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

-- What everybody can see of it, and whether the three agree.
CREATE FUNCTION pg_temp.paused(name text) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN s.paused_since IS NULL THEN 'no' ELSE 'since the call' END ||
		   CASE WHEN s.paused_since IS DISTINCT FROM q.paused_since
				  OR s.paused_since IS NOT NULL AND s.paused_since <>
					 (SELECT max(called_at) FROM cmq.rewinds r WHERE r.queue = name AND kind = 'pause') THEN ' WRONG' ELSE '' END ||
		   format(', ready %s, in_flight %s, delayed %s, history %s, left %s, dead letters %s', s.ready, s.in_flight, s.delayed, s.history,
				  s.left_of_rewind, coalesce(s.dead_letters::text, '-'))
	  FROM cmq.status s JOIN cmq.queues q USING (queue) WHERE queue = name
$$;

--
-- A receive finds nothing, or waits as on an empty queue; it is counted as there.
--
SELECT cmq_create_queue('pause_a', visibility_timeout => 600, rewind_seconds => 3600);
SELECT pg_temp.paused('pause_a');
SELECT count(*) FROM cmq_send_batch('pause_a', '{a,b,c,d,e}');
SELECT pg_temp.consume('pause_a', 2) AS consumed, pg_temp.receive('pause_a', 1) AS received;
SELECT cmq_pause_queue('pause_a', 'to see');
SELECT pg_temp.paused('pause_a');
SELECT pg_temp.receive('pause_a') AS received;
SELECT count(*) FROM cmq_receive('pause_a', 10, NULL, 1);
SELECT pg_temp.paused('pause_a');
SELECT received, empty_receives, waits, oldest_ready_seconds > 1 AS ready_for_long FROM cmq.metrics WHERE queue = 'pause_a';
-- it is paused already: nothing changes
SELECT paused_since AS since FROM cmq.status WHERE queue = 'pause_a' \gset
SELECT cmq_pause_queue('pause_a', 'once more');
SELECT paused_since = :'since' AS since_then FROM cmq.status WHERE queue = 'pause_a';
SELECT cmq_resume_queue('pause_a');
SELECT pg_temp.paused('pause_a');
SELECT cmq_resume_queue('pause_a');
SELECT pg_temp.receive('pause_a') AS received;
-- each change is in the record
SELECT kind, called_at = :'since' AS at_that_time, num_nulls(start_time, end_time, filter, into_queue, messages) AS nulls, reason
  FROM cmq.rewinds WHERE queue = 'pause_a' ORDER BY id;
-- last_modify_time is that of settings
SELECT last_modify_time = create_time AS not_altered FROM cmq.queues WHERE queue = 'pause_a';

--
-- All else goes on.
--
SELECT cmq_drop_queue('pause_a');
SELECT cmq_create_queue('pause_a', visibility_timeout => 600, rewind_seconds => 3600);
SELECT cmq_create_queue('pause_b');
SELECT cmq_create_topic('pause_t');
SELECT cmq_subscribe('pause_t', 'a', 'pause_a');
SELECT count(*) FROM cmq_send_batch('pause_a', '{a,b,c,d,e,f,g}');
SELECT pg_temp.consume('pause_a', 3) AS consumed;
CREATE TEMP TABLE held AS SELECT * FROM cmq_receive('pause_a', 3);
SELECT cmq_pause_queue('pause_a'), cmq_pause_queue('pause_b');
-- send
SELECT cmq_send('pause_a', 'h') > 0 AS sent, cmq_send('pause_a', 'i', 3600) > 0 AS delayed;
SELECT queue FROM cmq_publish('pause_t', 'j');
SELECT pg_temp.paused('pause_a');
-- what consumers do with deliveries that they have
SELECT body, cmq_delete('pause_a', receipt_handle) AS deleted FROM held WHERE body = 'd';
SELECT body, cmq_change_visibility('pause_a', receipt_handle, 1200) IS NOT NULL AS extended FROM held WHERE body = 'e';
SELECT body, cmq_change_visibility('pause_a', receipt_handle, 0) IS NOT NULL AS given_back FROM held WHERE body = 'f';
SELECT pg_temp.receive('pause_a') AS received, pg_temp.live('pause_a');
-- other ways to have messages
SELECT count(*) AS consumed FROM cmq_consume('pause_a', 10);
SELECT count(*) AS with_filter FROM cmq_receive('pause_a', 10, filter => '{}');
SELECT count(*) AS by_ids FROM cmq_receive_messages('pause_a', ARRAY[cmq.msg_id(pg_temp.produced('pause_a', 'g')), cmq.msg_id(pg_temp.produced('pause_a', 'i'))]);
-- taking them back goes on
SELECT cmq_delete_messages('pause_a', ARRAY[cmq.msg_id(pg_temp.produced('pause_a', 'j'))]) = cmq.msg_id(pg_temp.produced('pause_a', 'j')) AS taken_back;
-- bring back, cancel
SELECT messages FROM cmq_rewind_preview('pause_a', now() - interval '1 hour');
SELECT cmq_rewind('pause_a', pg_temp.produced('pause_a', 'b')) = pg_temp.produced('pause_a', 'b') AS rewound;
SELECT pg_temp.receive('pause_a') AS received;
SELECT pg_temp.paused('pause_a');
SELECT cmq_cancel_rewind('pause_a');
SELECT cmq_restore('pause_a', pg_temp.produced('pause_a', 'c'), pg_temp.produced('pause_a', 'd')) AS restored;
SELECT cmq_restore_messages('pause_a', ARRAY[cmq.msg_id(pg_temp.produced('pause_a', 'b'))]) = cmq.msg_id(pg_temp.produced('pause_a', 'b')) AS restored;
SELECT cmq_replay('pause_a', 'pause_b', now() - interval '1 hour') AS replayed;
SELECT pg_temp.receive('pause_a') AS received, pg_temp.receive('pause_b') AS replayed, pg_temp.history('pause_a') AS history;
SELECT pg_temp.paused('pause_a');
SELECT pg_temp.paused('pause_b');
-- settings; the queue stays paused
SELECT cmq_alter_queue('pause_a', visibility_timeout => 300, msg_retention_seconds => 86400);
SELECT cmq_maintain('pause_a');
SELECT pg_temp.paused('pause_a');
-- clear
SELECT cmq_clear_queue('pause_b');
SELECT pg_temp.paused('pause_b');
-- then all come, those brought back first
SELECT cmq_resume_queue('pause_a') AS resumed, pg_temp.receive('pause_a') AS received;
SELECT pg_temp.paused('pause_a');
-- what has expired meanwhile is gone
SELECT cmq_pause_queue('pause_a');
SELECT pg_temp.age('pause_a', interval '2 days');
SELECT cmq_maintain('pause_a');
SELECT pg_temp.paused('pause_a');
-- a queue that takes the name is another one, and not paused
SELECT cmq_drop_queue('pause_a');
SELECT cmq_create_queue('pause_a', visibility_timeout => 600);
SELECT cmq_send('pause_a', 'new') > 0 AS sent;
SELECT pg_temp.receive('pause_a') AS received;
SELECT cmq_drop_topic('pause_t');

--
-- No dead letter leaves a paused queue.
--
SELECT cmq_drop_queue('pause_a');
SELECT cmq_drop_queue('pause_b');
SELECT cmq_create_queue('pause_dead', visibility_timeout => 600);
SELECT cmq_create_queue('pause_a', visibility_timeout => 600, dead_letter_queue => 'pause_dead', max_receive_count => 1);
SELECT count(*) FROM cmq_send_batch('pause_a', '{a,b,c,d}');
SELECT count(cmq_change_visibility('pause_a', receipt_handle, 0)) AS dead FROM cmq_receive('pause_a', 2);
SELECT cmq_pause_queue('pause_a');
SELECT pg_temp.receive('pause_a') AS received;
SELECT cmq_maintain('pause_a');
SELECT pg_temp.paused('pause_a');
-- nor does it when it is paused and maintained in one transaction
SELECT cmq_resume_queue('pause_a');
BEGIN;
SELECT cmq_pause_queue('pause_a');
SELECT cmq_maintain('pause_a');
SELECT pg_temp.receive('pause_a') AS received;
SELECT pg_temp.paused('pause_a');
COMMIT;
-- the dead-letter queue may be paused: it gets the letters, and has them sent back
SELECT cmq_resume_queue('pause_a') AS resumed, cmq_pause_queue('pause_dead') AS paused;
SELECT pg_temp.receive('pause_a') AS received, pg_temp.receive('pause_dead') AS from_dead;
SELECT pg_temp.paused('pause_a');
SELECT cmq_pause_queue('pause_a') AS paused, cmq_redrive('pause_dead') AS sent_back;
SELECT pg_temp.paused('pause_a');
-- time goes on: what is too old when the queue is resumed is a dead letter then
SELECT cmq_resume_queue('pause_a'), cmq_resume_queue('pause_dead');
SELECT pg_temp.consume('pause_a') AS consumed;
SELECT cmq_alter_queue('pause_a', max_receive_count => 1000, max_time_to_live => 300);
SELECT cmq_send('pause_a', 'old') > 0 AS sent;
SELECT cmq_pause_queue('pause_a');
SELECT pg_temp.age('pause_a', interval '301 s');
SELECT cmq_maintain('pause_a');
SELECT pg_temp.paused('pause_a');
SELECT cmq_resume_queue('pause_a') AS resumed, pg_temp.receive('pause_a') AS received;
SELECT pg_temp.paused('pause_a');
-- unless the policy leaves it more time
SELECT cmq_pause_queue('pause_a');
SELECT cmq_send('pause_a', 'older') > 0 AS sent;
SELECT pg_temp.age('pause_a', interval '301 s');
SELECT cmq_alter_queue('pause_a', max_time_to_live => 3600);
SELECT cmq_resume_queue('pause_a') AS resumed, pg_temp.receive('pause_a') AS received;

--
-- Transactions: like all else.
--
SELECT cmq_create_queue('pause_c', visibility_timeout => 600);
SELECT count(*) FROM cmq_send_batch('pause_c', '{a,b,c,d,e,f}');
BEGIN;
SELECT cmq_pause_queue('pause_c');
SELECT pg_temp.receive('pause_c', 1) AS received;
ROLLBACK;
SELECT pg_temp.receive('pause_c', 1) AS received, pg_temp.paused('pause_c');
SELECT count(*) AS recorded FROM cmq.rewinds WHERE queue = 'pause_c';
BEGIN;
SELECT pg_temp.receive('pause_c', 1) AS received_before;
SAVEPOINT s;
SELECT cmq_pause_queue('pause_c');
SELECT pg_temp.receive('pause_c', 1) AS received;
ROLLBACK TO s;
SELECT pg_temp.receive('pause_c', 1) AS received;
SAVEPOINT s;
SELECT cmq_pause_queue('pause_c');
RELEASE s;
SELECT pg_temp.receive('pause_c', 1) AS received;
COMMIT;
SELECT pg_temp.receive('pause_c', 1) AS received, pg_temp.paused('pause_c');
BEGIN;
SELECT cmq_resume_queue('pause_c');
SELECT pg_temp.receive('pause_c', 1) AS received;
ROLLBACK;
SELECT pg_temp.receive('pause_c', 1) AS received, pg_temp.paused('pause_c');
-- one statement
SELECT cmq_resume_queue('pause_c') AS resumed, pg_temp.receive('pause_c', 1) AS first, cmq_pause_queue('pause_c') AS paused, pg_temp.receive('pause_c', 1) AS second;
-- in a transaction that has an older snapshot
SELECT cmq_resume_queue('pause_c');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM cmq.q_pause_c_live;
SELECT cmq_pause_queue('pause_c') AS paused, pg_temp.receive('pause_c', 1) AS received;
COMMIT;
SELECT pg_temp.paused('pause_c');
-- prepared: neither is in effect before its end
BEGIN;
SELECT cmq_resume_queue('pause_c');
PREPARE TRANSACTION 'pause_c';
SELECT pg_temp.receive('pause_c', 1) AS received;
COMMIT PREPARED 'pause_c';
SELECT pg_temp.receive('pause_c', 1) AS received;
BEGIN;
SELECT cmq_pause_queue('pause_c');
PREPARE TRANSACTION 'pause_c';
SELECT cmq_send('pause_c', 'g') > 0 AS sent;
SELECT pg_temp.receive('pause_c', 1) AS received;
COMMIT PREPARED 'pause_c';
SELECT cmq_send('pause_c', 'h') > 0 AS sent;
SELECT pg_temp.receive('pause_c', 1) AS received, pg_temp.paused('pause_c');
SELECT cmq_resume_queue('pause_c') AS resumed, pg_temp.receive('pause_c', 1) AS received;

--
-- Reasons: the argument, else the setting.  None is required, and whatever there is is
-- recorded.
--
SET cmq.require_reason = on;
SELECT cmq_pause_queue('pause_c') AS paused, cmq_resume_queue('pause_c') AS resumed;
SET cmq.reason = 'of the setting';
SELECT cmq_pause_queue('pause_c', 'of the argument') AS paused, cmq_resume_queue('pause_c') AS resumed;
SELECT cmq_pause_queue('pause_c', NULL) AS paused, cmq_resume_queue('pause_c') AS resumed;
SELECT cmq_pause_queue('pause_c', E' \n') AS paused, cmq_resume_queue('pause_c') AS resumed;
SELECT * FROM pg_temp.complaint($$SELECT cmq_pause_queue('pause_c', repeat('r', 1001))$$);
SELECT cmq_pause_queue('pause_c', repeat('r', 1000)) AS paused;
SELECT set_config('cmq.reason', repeat('s', 1001), false) IS NOT NULL AS set;
SELECT * FROM pg_temp.complaint($$SELECT cmq_resume_queue('pause_c')$$);
SELECT * FROM pg_temp.complaint($$SELECT cmq_pause_queue('pause_c')$$);
-- the argument is enough
SELECT cmq_pause_queue('pause_c', 'short') AS paused_already;
RESET cmq.reason;
RESET cmq.require_reason;
SELECT cmq_resume_queue('pause_c');
SELECT kind, left(reason, 20) AS reason FROM cmq.rewinds WHERE queue = 'pause_c' ORDER BY id DESC LIMIT 10;

--
-- Who sees it: readers.  An operator learns it from the calls.
--
CREATE ROLE regress_pause_operator;
CREATE ROLE regress_pause_reader;
CREATE ROLE regress_pause_monitor IN ROLE pg_monitor;
GRANT USAGE ON SCHEMA cmq TO regress_pause_operator, regress_pause_reader;
GRANT UPDATE ON cmq.q_pause_c TO regress_pause_operator;
GRANT SELECT ON cmq.q_pause_c TO regress_pause_reader;
SET ROLE regress_pause_operator;
SELECT cmq_pause_queue('pause_c', 'as operator') AS paused, cmq_pause_queue('pause_c') AS again;
SELECT queue, paused_since FROM cmq.queues;
SELECT count(*) AS status FROM cmq.status;
SELECT count(*) AS recorded FROM cmq.rewinds;
SET ROLE regress_pause_reader;
SELECT q.queue, q.paused_since = s.paused_since AS paused FROM cmq.queues q JOIN cmq.status s USING (queue);
SELECT kind, current_user_name, reason FROM cmq.rewinds ORDER BY id DESC LIMIT 1;
-- without the right nothing else is told
SELECT pg_temp.outcome('regress_pause_reader', $$SELECT cmq_resume_queue('pause_c')$$) AS resume,
	   pg_temp.outcome('regress_pause_reader', $$SELECT cmq_pause_queue('pause_c')$$) AS pause,
	   pg_temp.outcome('regress_pause_reader', $$SELECT cmq_pause_queue('pause_c', repeat('r', 1001))$$) AS reason;
SET ROLE regress_pause_monitor;
SELECT queue, paused_since IS NOT NULL AS paused FROM cmq.status WHERE queue = 'pause_c';
SET ROLE regress_pause_operator;
SELECT cmq_resume_queue('pause_c') AS resumed, cmq_resume_queue('pause_c') AS again;
RESET ROLE;
DROP OWNED BY regress_pause_operator, regress_pause_reader, regress_pause_monitor;
DROP ROLE regress_pause_operator, regress_pause_reader, regress_pause_monitor;

--
-- After an accident, as README.md tells it.  A consumer has deleted what it booked
-- nowhere, and holds two messages.
--
SELECT cmq_create_queue('pause_orders', visibility_timeout => 600, rewind_seconds => 86400);
SELECT count(*) FROM cmq_send_batch('pause_orders', array(SELECT 'order ' || i FROM generate_series(1, 6) i));
SELECT pg_temp.consume('pause_orders', 4) AS consumed;
TRUNCATE held;
INSERT INTO held SELECT * FROM cmq_receive('pause_orders', 2);
SELECT cmq_pause_queue('pause_orders', 'ticket 4711: books nothing since 09:00');
SELECT cmq_send('pause_orders', 'order 7') > 0 AS sent;
SELECT pg_temp.paused('pause_orders');
SELECT count(cmq_delete('pause_orders', receipt_handle)) AS deleted FROM held;
SELECT pg_temp.paused('pause_orders');
SELECT messages FROM cmq_rewind_preview('pause_orders', pg_temp.produced('pause_orders', 'order 3'));
BEGIN;
SET LOCAL cmq.reason = 'ticket 4711: books nothing since 09:00';
SELECT cmq_rewind('pause_orders', pg_temp.produced('pause_orders', 'order 3')) = pg_temp.produced('pause_orders', 'order 3') AS rewound;
COMMIT;
SELECT pg_temp.paused('pause_orders');
SELECT pg_temp.receive('pause_orders') AS received;
SELECT cmq_resume_queue('pause_orders');
SELECT pg_temp.paused('pause_orders');
SELECT pg_temp.consume('pause_orders') AS consumed;
SELECT pg_temp.paused('pause_orders');
SELECT kind, messages, reason FROM cmq.rewinds WHERE queue = 'pause_orders' ORDER BY id;

SELECT cmq_drop_queue('pause_orders');
SELECT cmq_drop_queue('pause_a');
SELECT cmq_drop_queue('pause_c');
SELECT cmq_drop_queue('pause_dead');
