-- Delays: so many seconds, or until a time; of sends and of what is published; with dead
-- letters, rewinds, restores and expiry.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

-- Let the delays pass that end within this time, and no others.
CREATE FUNCTION pg_temp.pass(queue text, by interval) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('UPDATE cmq_data.%I SET visible_at = visible_at - $1, delayed_until = delayed_until - $1 '
		'WHERE receive_count = 0 AND visible_at > cmq._clock(%L) AND visible_at <= cmq._clock(%L) + $1',
		'q_' || queue || '_pending', queue, queue) USING by;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;

--
-- Seconds: any number that is less than the retention.
--
SELECT cmq_create_queue('delays_a');
SELECT cmq_create_queue('delays_b', msg_retention_seconds => 60);
SELECT n, pg_temp.attempt(format('SELECT cmq_send(%L, ''delayed'', %s)', queue, delay))
  FROM (VALUES (1, 'delays_a', '0'), (2, 'delays_a', '3600'), (3, 'delays_a', '345599'), (4, 'delays_a', '345600'), (5, 'delays_a', '-1'),
			   (6, 'delays_a', 'NULL'), (7, 'delays_b', '59'), (8, 'delays_b', '60'), (9, 'delays_b', '3600'),
			   (10, 'delays_a', '2147483647'), (11, 'delays_a', '-2147483648')) v (n, queue, delay)
 ORDER BY n;
SELECT cmq_send('delays_b', 'x', 60);
SELECT cmq_send('delays_b', 'x', -1);
SELECT state, visible_at - enqueued_at AS delay, receive_count FROM cmq.q_delays_a_live ORDER BY msg_id;
SELECT visible_at = enqueued_at AS ready, delayed_until IS NULL AS not_delayed, delayed_until = visible_at AS delayed FROM cmq_data.q_delays_a_pending ORDER BY enqueued_at;
SELECT pg_temp.counts('delays_a') AS delays_a, pg_temp.counts('delays_b') AS delays_b;
SELECT queue, ready, delayed FROM cmq.status WHERE queue LIKE 'delays%';
SELECT queue, pending_msg_num, delay_msg_num FROM cmq.metrics WHERE queue LIKE 'delays%' ORDER BY queue;
-- only the one without delay can be received
SELECT body, receive_count FROM cmq_receive('delays_a', 100);
SELECT pg_temp.pass('delays_a', '1 hour') AS passed;
SELECT body, receive_count FROM cmq_receive('delays_a', 100);
SELECT pg_temp.counts('delays_a');
SELECT pg_temp.pass('delays_a', '4 days') AS passed;
SELECT body, receive_count FROM cmq_receive('delays_a', 100);
-- the longest there is
SELECT cmq_alter_queue('delays_a', msg_retention_seconds => 1296000);
SELECT pg_temp.attempt($$SELECT cmq_send('delays_a', 'x', 1295999)$$) AS longest, pg_temp.attempt($$SELECT cmq_send('delays_a', 'x', 1296000)$$) AS longer;

--
-- A time: the message can be received from then on, or at once if that is not later.
--
SELECT cmq_create_queue('delays_c', msg_retention_seconds => 86400);
CREATE TEMP TABLE moment AS SELECT date_trunc('second', cmq._clock('delays_c')) AS now;
CREATE TEMP TABLE sent (body text, deliver_at timestamptz, id bigint);
INSERT INTO sent
	SELECT body, now + delta, cmq_send('delays_c', body, deliver_at => now + delta)
	  FROM moment, (VALUES ('tomorrow', interval '23:59:58'), ('in an hour', '1 hour 0.000001 s'), ('before', '-1 s'),
						   ('long ago', '-300 years'), ('in two hours', '2 hours 0.654321 s')) v (body, delta);
INSERT INTO sent SELECT 'none', NULL, cmq_send('delays_c', 'none', deliver_at => NULL);
INSERT INTO sent SELECT 'now', cmq._clock('delays_c'), cmq_send('delays_c', 'now', 0, NULL, cmq._clock('delays_c'));
SELECT s.body, l.state, l.state = 'delayed' AND l.visible_at = s.deliver_at AS then, l.visible_at = l.enqueued_at AS at_once
  FROM sent s JOIN cmq.q_delays_c_live l ON l.msg_id = s.id ORDER BY s.id;
SELECT pg_temp.counts('delays_c');
SELECT queue, ready, delayed FROM cmq.status WHERE queue = 'delays_c';
SELECT pg_temp.receive('delays_c') AS ready;
SELECT pg_temp.pass('delays_c', '1 hour 30 min') AS passed;
SELECT pg_temp.receive('delays_c') AS in_an_hour;
-- in the order of these times
SELECT pg_temp.pass('delays_c', '1 day') AS passed;
SELECT pg_temp.receive('delays_c') AS later;
-- the ends of the range; a literal without a type is a time
CREATE FUNCTION pg_temp.try_send(args text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(pg_temp.attempt(format('SELECT cmq_send(''delays_c'', ''x'', %s)', args)), ': \d+-[^+]*', ': TIME ')
$$;
SELECT n, pg_temp.try_send(args)
  FROM (VALUES
	(1, $$deliver_at => cmq._clock('delays_c') + interval '86399 s'$$), (2, $$deliver_at => cmq._clock('delays_c') + interval '86400 s'$$),
	(3, $$deliver_at => 'infinity'$$), (4, $$deliver_at => '-infinity'$$), (5, $$deliver_at => '294276-12-31 23:59:59.999999+00'$$),
	(6, $$deliver_at => '4713-01-01 00:00:00+00 BC'$$), (7, $$0, NULL, '2000-01-01 00:00:00+00'$$), (8, $$deliver_at => 'no time'$$),
	(9, $$1, deliver_at => '2000-01-01 00:00:00+00'$$), (10, $$0, deliver_at => '2000-01-01 00:00:00+00'$$),
	(11, $$86399, deliver_at => now()$$), (12, $$86400, deliver_at => now()$$), (13, $$NULL, deliver_at => now()$$),
	(14, $$1, deliver_at => NULL$$), (15, $$1, deliver_at => 'infinity'$$)) v (n, args)
 ORDER BY n;
SELECT cmq_send('delays_c', 'x', 5, deliver_at => '2000-01-01 00:00:00+00');
SELECT cmq_send('delays_c', 'x', deliver_at => 'infinity');
SET TimeZone = 'UTC';
SELECT cmq_send('delays_c', 'x', deliver_at => '2200-01-02 03:04:05.678901+00');
RESET TimeZone;
-- a sender who may not read the queue is not told its retention
CREATE ROLE regress_delays_sender;
GRANT INSERT ON cmq.q_delays_c TO regress_delays_sender;
SET ROLE regress_delays_sender;
SELECT cmq_send('delays_c', 'x', 86400);
SET TimeZone = 'UTC';
SELECT cmq_send('delays_c', 'x', deliver_at => '2200-01-01 00:00+00');
RESET TimeZone;
SELECT cmq_send('delays_c', 'x', 86000) > 0 AS sent;
RESET ROLE;
REVOKE ALL ON cmq.q_delays_c FROM regress_delays_sender;

--
-- Batches: one time for all, and none is ready before it is produced, however long it takes to
-- write them.
--
SELECT cmq_create_queue('delays_d');
SELECT cmq.msg_id(cmq._clock('delays_d')) + 10000 AS at \gset
SELECT count(*) AS sent, count(*) FILTER (WHERE id > :at) > 1000 AS some_later
  FROM cmq_send_batch('delays_d', array_fill('b'::text, '{20000}'), deliver_at => cmq.enqueued_at(:at)) id;
SELECT count(*) AS messages, count(*) FILTER (WHERE visible_at < enqueued_at) AS ready_before_produced,
	   count(*) FILTER (WHERE visible_at <> greatest(enqueued_at, cmq.enqueued_at(:at))) AS at_another_time
  FROM cmq_data.q_delays_d_pending;
SELECT count(DISTINCT msg_id) AS received FROM generate_series(1, 20) n, LATERAL cmq_receive('delays_d', 1000 + 0 * n);
SELECT pg_temp.counts('delays_d');
SELECT count(*) AS sent FROM cmq_send_batch('delays_d', '{x,y,z}', deliver_at => cmq._clock('delays_d') + interval '2 days 0.1 s');
SELECT count(*) AS sent FROM cmq_send_batch('delays_d', '{u,v}', 86400, NULL, NULL);
SELECT count(*) AS sent FROM cmq_send_batch('delays_d', '{now}', 0, '{NULL}', '2020-02-29 12:00+00');
SELECT string_agg(body, ' ' ORDER BY msg_id) AS bodies, state, count(DISTINCT visible_at) AS times FROM cmq.q_delays_d_live WHERE receive_count = 0 GROUP BY state, headers, visible_at > enqueued_at + interval '1 day' ORDER BY 1;
SELECT n, pg_temp.attempt(format('SELECT cmq_send_batch(''delays_d'', %s)', args))
  FROM (VALUES (1, $$'{x}', deliver_at => 'infinity'$$), (2, $$'{}', deliver_at => 'infinity'$$), (3, $$'{x}', 1, deliver_at => now()$$),
			   (4, $$'{}', 1, deliver_at => now()$$), (5, $$'{x,y}', 345600$$), (6, $$'{}', 345600$$), (7, $$'{}', deliver_at => now()$$)) v (n, args)
 ORDER BY n;

--
-- What is published: each copy is delayed.
--
SELECT cmq_create_topic('delays_t');
SELECT cmq_subscribe('delays_t', 'a', 'delays_a');
SELECT cmq_subscribe('delays_t', 'b', 'delays_b', '{brief}');
SELECT cmq_subscribe('delays_t', 'd', 'delays_d');
SELECT queue FROM cmq_publish('delays_t', 'published', delay_seconds => 300000) ORDER BY queue;
SELECT queue, count(*) FROM cmq_publish_batch('delays_t', '{one,two}', '{brief}', NULL, NULL, 59) GROUP BY 1 ORDER BY 1;
SELECT 'a' AS queue, body, state, visible_at - enqueued_at AS delay FROM cmq.q_delays_a_live WHERE body IN ('published', 'one', 'two')
UNION ALL SELECT 'b', body, state, visible_at - enqueued_at FROM cmq.q_delays_b_live WHERE body IN ('published', 'one', 'two')
UNION ALL SELECT 'd', body, state, visible_at - enqueued_at FROM cmq.q_delays_d_live WHERE body IN ('published', 'one', 'two') ORDER BY 1, 2;
-- a delay that one of the queues cannot have: none gets the message
SELECT cmq_publish('delays_t', 'none', '{brief}', delay_seconds => 60);
SELECT queue FROM cmq_publish('delays_t', 'others', delay_seconds => 60) ORDER BY queue;
SELECT n, pg_temp.attempt('SELECT ' || call)
  FROM (VALUES
	(1, $$cmq_publish('delays_t', 'none', delay_seconds => -1)$$), (2, $$cmq_publish('delays_t', 'none', delay_seconds => 1296000)$$),
	(3, $$cmq_publish('delays_t', 'none', delay_seconds => NULL)$$), (4, $$cmq_publish('delays_t', 'none', delay_seconds => 345600)$$),
	(5, $$cmq_publish_batch('delays_t', '{none,none}', '{brief}', delay_seconds => 100)$$), (6, $$cmq_publish_batch('delays_t', '{}', delay_seconds => -1)$$),
	(7, $$cmq_publish_batch('delays_t', '{}', delay_seconds => 1295999)$$), (8, $$cmq_publish_batch('delays_t', '{}', delay_seconds => NULL)$$)) v (n, call)
 ORDER BY n;
SELECT cmq_publish('delays_t', 'none', delay_seconds => -5);
-- a publisher without SELECT on that queue is told which, and not what its retention is
GRANT INSERT ON cmq.t_delays_t TO regress_delays_sender;
SET ROLE regress_delays_sender;
SELECT cmq_publish('delays_t', 'none', '{brief}', delay_seconds => 1000);
RESET ROLE;
DROP OWNED BY regress_delays_sender;
DROP ROLE regress_delays_sender;
SELECT count(*) AS of_those FROM cmq_data.q_delays_a m FULL JOIN cmq_data.q_delays_d d USING (body) WHERE body = 'none';
SELECT cmq_drop_queue('delays_a');
SELECT cmq_drop_queue('delays_b');
SELECT cmq_drop_queue('delays_d');
SELECT cmq_drop_topic('delays_t');

--
-- Rewind and restore: what waits for its time goes on waiting; what was received and deleted
-- comes back at once.
--
SELECT cmq_create_queue('delays_e', rewind_seconds => 3600);
SELECT cmq_send('delays_e', 'later', deliver_at => cmq._clock('delays_e') + interval '3 days') > 0 AS sent;
SELECT cmq_send('delays_e', 'now') > 0 AS sent;
SELECT pg_temp.consume('delays_e');
SELECT cmq_restore('delays_e', '-infinity', NULL) AS restored;
SELECT pg_temp.consume('delays_e');
-- a rewind starts no later than what waits, which does not come back with it
SELECT min_msg_time = pg_temp.produced('delays_e', 'later') AS waits, latest_rewind_time = min_msg_time AS no_later FROM cmq_queue_attributes('delays_e');
SELECT cmq_rewind('delays_e', pg_temp.produced('delays_e', 'later')) = pg_temp.produced('delays_e', 'now') AS rewound;
SELECT pg_temp.consume('delays_e'), pg_temp.live('delays_e');
SELECT pg_temp.pass('delays_e', '3 days') AS passed;
SELECT pg_temp.consume('delays_e'), pg_temp.history('delays_e');
SELECT cmq_rewind('delays_e', min(enqueued_at)) IS NOT NULL AS rewound FROM cmq.q_delays_e_history;
SELECT body, state, visible_at = enqueued_at AS since_production FROM cmq.q_delays_e_live ORDER BY msg_id;
SELECT pg_temp.consume('delays_e');
SELECT cmq_restore('delays_e', '-infinity', NULL) AS restored;
SELECT body, state, visible_at = enqueued_at AS since_production FROM cmq.q_delays_e_live ORDER BY msg_id;
SELECT count(*) AS delayed FROM cmq_data.q_delays_e_pending WHERE delayed_until IS NOT NULL;
SELECT pg_temp.consume('delays_e');
-- rolled back, it is delayed as before, or was never sent
SELECT cmq_send('delays_e', 'kept', 86400) > 0 AS sent;
BEGIN;
SELECT cmq_send('delays_e', 'lost', 86400) > 0 AS sent;
SELECT cmq_clear_queue('delays_e') AS cleared;
ROLLBACK;
SELECT body, state, visible_at - enqueued_at AS delay FROM cmq.q_delays_e_live ORDER BY msg_id;
-- taken back before its time it is history; what is brought back of that is ready at once
SELECT cmq_send('delays_e', 'taken back', 300000) AS taken \gset
SELECT cmq_delete_messages('delays_e', ARRAY[:taken]) = :taken AS taken_back;
SELECT cmq_restore_messages('delays_e', ARRAY[:taken]) = :taken AS restored;
SELECT body, state, receive_count, rewind_count FROM cmq.q_delays_e_live ORDER BY msg_id;
SELECT pg_temp.consume('delays_e'), pg_temp.live('delays_e');
-- consumed while it is paused or delayed it is not
SELECT cmq_send('delays_e', 'soon', 60) > 0 AS sent;
SELECT count(*) AS consumed FROM cmq_consume('delays_e', 10);
SELECT pg_temp.pass('delays_e', '60 s') AS passed;
SELECT cmq_pause_queue('delays_e');
SELECT count(*) AS consumed FROM cmq_consume('delays_e', 10);
SELECT cmq_resume_queue('delays_e') AS was_paused;
SELECT body FROM cmq_consume('delays_e', 10);
-- it expires with its retention, ready or not
SELECT cmq_send('delays_e', 'in time', 345599) > 0 AS sent;
SELECT cmq_alter_queue('delays_e', msg_retention_seconds => 172800);
SELECT pg_temp.live('delays_e');
UPDATE cmq.queue SET expired_before = pg_temp.produced('delays_e', 'in time') WHERE name = 'delays_e';
SELECT pg_temp.reload('delays_e');
SELECT pg_temp.counts('delays_e'), pg_temp.live('delays_e');
SELECT cmq_maintain('delays_e');
SELECT count(*) AS pending_rows FROM cmq_data.q_delays_e_pending;
SELECT pg_temp.age('delays_e', '2 days 1 s');
SELECT pg_temp.counts('delays_e'), pg_temp.live('delays_e'), pg_temp.receive('delays_e');
SELECT cmq_maintain('delays_e');
SELECT count(*) AS pending_rows FROM cmq_data.q_delays_e_pending;
SELECT cmq_drop_queue('delays_e');

--
-- Dead letters: max_time_to_live counts from the end of the delay, however long that was.
--
SELECT cmq_create_queue('delays_dead');
SELECT cmq_create_queue('delays_f', rewind_seconds => 86400, dead_letter_queue => 'delays_dead', max_time_to_live => 300);
SELECT cmq_send('delays_f', 'at once') > 0 AS sent;
SELECT cmq_send('delays_f', 'after 301 s', 301) > 0 AS sent;
SELECT cmq_send('delays_f', 'after a day', deliver_at => cmq._clock('delays_f') + interval '1 day') > 0 AS sent;
SELECT pg_temp.age('delays_f', '302 s');
SELECT cmq_maintain('delays_f');
SELECT pg_temp.live('delays_f') AS live, pg_temp.live('delays_dead') AS dead;
-- nobody takes it: dead 300 s after it was ready
SELECT pg_temp.age('delays_f', '300 s');
SELECT cmq_maintain('delays_f');
SELECT pg_temp.live('delays_f') AS live, pg_temp.live('delays_dead') AS dead;
-- received in time, and not deleted: its time goes on from the end of the delay
SELECT pg_temp.age('delays_f', '1 day');
SELECT pg_temp.live('delays_f') AS live;
UPDATE cmq_data.q_delays_f_pending SET visible_at = cmq._clock('delays_f'), delayed_until = cmq._clock('delays_f');
SELECT body, receive_count FROM cmq_receive('delays_f', 10, 60);
SELECT pg_temp.age('delays_f', '200 s');
SELECT body, receive_count FROM cmq_receive('delays_f', 10, 60);
SELECT cmq_change_visibility('delays_f', concat_ws('-', cmq.msg_id(enqueued_at), cmq.msg_id(visible_at), receive_count, rewind_count), 30) IS NOT NULL AS changed
  FROM cmq_data.q_delays_f_pending;
SELECT pg_temp.age('delays_f', '99 s');
SELECT cmq_maintain('delays_f');
SELECT pg_temp.live('delays_f') AS live;
SELECT pg_temp.age('delays_f', '1 s');
SELECT body, receive_count FROM cmq_receive('delays_f', 10, 60);
SELECT pg_temp.live('delays_f') AS live, pg_temp.live('delays_dead') AS dead;
SELECT body, headers #> '{cmq_dead_letter,receive_count}' AS received, headers #>> '{cmq_dead_letter,reason}' AS reason FROM cmq.q_delays_dead_live ORDER BY msg_id;
-- a dead letter is not delayed, nor is what is sent back
SELECT cmq_redrive('delays_dead') AS back;
SELECT pg_temp.live('delays_f') AS live;
-- a delayed message that was brought back counts anew, from its first receive
SELECT pg_temp.consume('delays_f');
SELECT cmq_send('delays_f', 'again', 1000) > 0 AS sent;
SELECT pg_temp.age('delays_f', '1100 s');
SELECT pg_temp.consume('delays_f');
SELECT cmq_restore_messages('delays_f', ARRAY(SELECT msg_id FROM cmq.q_delays_f_history WHERE body = 'again')) IS NOT NULL AS restored;
SELECT pg_temp.age('delays_f', '400 s');
SELECT cmq_maintain('delays_f');
SELECT body, receive_count, rewind_count FROM cmq_receive('delays_f', 10, 60);
SELECT pg_temp.age('delays_f', '301 s');
SELECT body, receive_count, rewind_count FROM cmq_receive('delays_f', 10, 60);
SELECT pg_temp.live('delays_f') AS live, pg_temp.live('delays_dead') AS dead;
-- received by its id before its time, and given back: its time goes on from the end of the delay
-- that it was sent with, whatever a release or a change of visibility puts it off by
SELECT cmq_send('delays_f', 'early', 1000) AS early \gset
SELECT receipt_handle AS handle FROM cmq_receive_messages('delays_f', ARRAY[:early], 43200) \gset
SELECT cmq_release('delays_f', ARRAY[:'handle'], 400, counted => false) = :'handle' AS released;
SELECT body, state, receive_count, first_received_at IS NULL AS never_received FROM cmq.q_delays_f_live;
SELECT pg_temp.age('delays_f', '401 s');
SELECT cmq_maintain('delays_f');
SELECT body, receive_count FROM cmq_receive('delays_f', 10, 1);
SELECT pg_temp.age('delays_f', '598 s');
SELECT receipt_handle AS handle FROM cmq_receive('delays_f', 10, 1) \gset
SELECT cmq_release('delays_f', ARRAY[:'handle'], 200) = :'handle' AS released;
SELECT pg_temp.age('delays_f', '299 s');
SELECT cmq_maintain('delays_f');
SELECT pg_temp.live('delays_f') AS live;
SELECT pg_temp.age('delays_f', '2 s');
SELECT cmq_maintain('delays_f');
SELECT pg_temp.live('delays_f') AS live, pg_temp.live('delays_dead') AS dead;
-- delays of any length with max_receive_count
SELECT cmq_create_queue('delays_g', dead_letter_queue => 'delays_dead', max_receive_count => 1);
SELECT cmq_send('delays_g', 'once', 86400) > 0 AS sent;
SELECT cmq_maintain('delays_g');
SELECT pg_temp.pass('delays_g', '1 day') AS passed;
SELECT pg_temp.receive('delays_g', 10, 1) AS received;
SELECT pg_temp.age('delays_g', '2 s');
SELECT pg_temp.receive('delays_g', 10, 1) AS received, pg_temp.live('delays_dead') AS dead;
SELECT cmq_drop_queue('delays_f');
SELECT cmq_drop_queue('delays_g');
SELECT cmq_drop_queue('delays_dead');
SELECT cmq_drop_queue('delays_c');
