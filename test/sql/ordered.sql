-- Ordered queues in one session: in which order the messages of a group come, and what lets
-- the group go on.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('ordered_a', rewind_seconds => 3600, msg_retention_seconds => 7200, ordered => true, visibility_timeout => 600);
-- each body is the group's name and a number; - is none
CREATE FUNCTION pg_temp.send(bodies text, queue text DEFAULT 'ordered_a') RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM cmq_send_batch($2, string_to_array($1, ' '),
		message_groups => array(SELECT CASE WHEN b NOT LIKE '-%' THEN left(b, 1) END FROM unnest(string_to_array($1, ' ')) WITH ORDINALITY u (b, n) ORDER BY n))
$$;
-- what is in flight, by body
CREATE FUNCTION pg_temp.handles(bodies text, queue text DEFAULT 'ordered_a') RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(d.receipt_handle ORDER BY array_position(string_to_array($1, ' '), d.body))
	  FROM cmq._deliveries_of($2, (SELECT array_agg(cmq.msg_id(pg_temp.produced($2, b))) FROM unnest(string_to_array($1, ' ')) b), true) d
$$;
CREATE FUNCTION pg_temp.delete(bodies text, queue text DEFAULT 'ordered_a') RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM cmq_delete_batch($2, pg_temp.handles($1, $2))
$$;
CREATE FUNCTION pg_temp.ids(bodies text, queue text DEFAULT 'ordered_a') RETURNS bigint[] LANGUAGE sql AS $$
	SELECT array_agg(cmq.msg_id(pg_temp.produced($2, b))) FROM unnest(string_to_array($1, ' ')) b
$$;
-- delete what is there, for the next part
CREATE FUNCTION pg_temp.empty(queue text DEFAULT 'ordered_a') RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM cmq_cancel_rewind(queue);
	EXECUTE format('DELETE FROM cmq_data.%I; DELETE FROM cmq_data.%I; DELETE FROM cmq_data.%I', 'q_' || queue || '_pending', 'q_' || queue || '_rewind', 'q_' || queue);
	RETURN true;
END $$;

--
-- One receive returns several of one group, in order, up to what it wants; then others.
--
SELECT pg_temp.send('a1 b1 a2 a3 -1 b2');
SELECT pg_temp.receive('ordered_a', 2) AS two_of_a, pg_temp.receive('ordered_a', 1) AS b, pg_temp.receive('ordered_a', 10) AS free, pg_temp.receive('ordered_a') AS none;
-- a group goes on when all of it that were received are gone, in whatever order
SELECT pg_temp.delete('a2'), pg_temp.receive('ordered_a') AS none;
SELECT pg_temp.delete('a1'), pg_temp.receive('ordered_a') AS rest_of_a;
SELECT pg_temp.delete('b1'), pg_temp.receive('ordered_a', 1) AS rest_of_b;
SELECT pg_temp.live('ordered_a');
SELECT pg_temp.empty();
-- several calls in one transaction
BEGIN;
SELECT pg_temp.send('a1 a2 b1');
SELECT pg_temp.receive('ordered_a', 1), pg_temp.receive('ordered_a', 1), pg_temp.receive('ordered_a', 1) AS none;
SELECT pg_temp.delete('a1'), pg_temp.receive('ordered_a', 1);
SELECT pg_temp.delete('b1 a2'), pg_temp.receive('ordered_a', 1) AS none;
COMMIT;
SELECT pg_temp.empty();

-- receives that are undone, subtransaction by subtransaction, take no memory
SELECT pg_temp.send('a1');
BEGIN;
DO $$ BEGIN FOR i IN 1 .. 1000 LOOP BEGIN PERFORM FROM cmq_receive('ordered_a'); RAISE SQLSTATE 'UNDO0'; EXCEPTION WHEN SQLSTATE 'UNDO0' THEN END; END LOOP; END $$;
SELECT total_bytes < 100000 AS small FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext';
COMMIT;
SELECT pg_temp.empty();

--
-- Messages without a group are free of order, among themselves and beside groups.
--
SELECT pg_temp.send('-1 -2 a1 -3');
SELECT pg_temp.receive('ordered_a', 1), pg_temp.receive('ordered_a', 1), pg_temp.receive('ordered_a', 1), pg_temp.receive('ordered_a', 1);
SELECT cmq_send('ordered_a', '-late', 600) > 0 AS delayed, pg_temp.send('-4'), pg_temp.receive('ordered_a');
SELECT pg_temp.empty();

--
-- A release, a change of visibility, a time-out: the message comes again before those that
-- are behind it.
--
SELECT pg_temp.send('a1 a2 a3 b1');
SELECT pg_temp.receive('ordered_a', 1);
SELECT count(*) AS released FROM cmq_release('ordered_a', pg_temp.handles('a1'), 0);
SELECT pg_temp.receive('ordered_a', 2);
-- not delayed: another one of the group that is still in flight
SELECT count(*) AS released FROM cmq_release('ordered_a', pg_temp.handles('a2'), 0);
SELECT pg_temp.receive('ordered_a') AS b;
SELECT count(*) AS released FROM cmq_release('ordered_a', pg_temp.handles('a1'), 0, counted => false);
SELECT pg_temp.receive('ordered_a') AS all_of_a;
SELECT body, receive_count FROM cmq.q_ordered_a_live ORDER BY body;
-- delayed: the group waits
SELECT count(*) AS released FROM cmq_release('ordered_a', pg_temp.handles('a2'), 100), pg_temp.delete('a1 a3');
SELECT pg_temp.send('a4'), pg_temp.receive('ordered_a') AS none;
SELECT count(*) AS none FROM cmq_receive_messages('ordered_a', pg_temp.ids('a4'));
SELECT pg_temp.age('ordered_a', '101 s');
SELECT pg_temp.receive('ordered_a');
SELECT cmq_change_visibility('ordered_a', (pg_temp.handles('a2'))[1], 0) IS NOT NULL AS changed, pg_temp.receive('ordered_a') AS none;
SELECT cmq_change_visibility('ordered_a', (pg_temp.handles('a4'))[1], 0) IS NOT NULL AS changed, pg_temp.receive('ordered_a', 1) AS first_again;
-- time-outs, of all and of some
SELECT pg_temp.age('ordered_a', '601 s');
SELECT pg_temp.receive('ordered_a', 1, 100), pg_temp.receive('ordered_a', 1, 100);
SELECT pg_temp.age('ordered_a', '101 s');
SELECT pg_temp.receive('ordered_a', 10);
SELECT cmq_change_visibility('ordered_a', (pg_temp.handles('a4'))[1], 1000) IS NOT NULL AS changed;
SELECT pg_temp.age('ordered_a', '601 s');
SELECT pg_temp.receive('ordered_a') AS b, pg_temp.live('ordered_a');
SELECT pg_temp.empty();

--
-- Consume.
--
SELECT pg_temp.send('a1 a2 b1 a3');
SELECT string_agg(body, ' ' ORDER BY n) FROM cmq_consume('ordered_a', 2) WITH ORDINALITY c (msg_id, receipt_handle, body, headers, e, f, v, r, w, g, n);
SELECT pg_temp.receive('ordered_a', 1) AS b, (SELECT string_agg(body, ' ') FROM cmq_consume('ordered_a', 10)) AS a;
SELECT pg_temp.empty();

--
-- With a filter: a message that is not wanted holds those behind it.
--
SELECT cmq_send('ordered_a', 'a1', headers => '{"k": 1}', message_group => 'a') + cmq_send('ordered_a', 'a2', headers => '{"k": 2}', message_group => 'a')
	+ cmq_send('ordered_a', 'b1', headers => '{"k": 2}', message_group => 'b') > 0 AS sent;
SELECT string_agg(body, ' ') AS b FROM cmq_receive('ordered_a', 10, filter => '{"k": 2}');
SELECT string_agg(body, ' ') AS a1 FROM cmq_receive('ordered_a', 10, filter => '{"k": 1}');
SELECT pg_temp.delete('a1');
SELECT string_agg(body, ' ') AS a2 FROM cmq_receive('ordered_a', 10, filter => '{"k": 2}');
SELECT pg_temp.empty();

--
-- By id: from the head of the group on, and nothing that is behind one that is not chosen.
--
SELECT pg_temp.send('a1 a2 a3 b1 b2 -1');
SELECT string_agg(body, ' ' ORDER BY body) AS only_free FROM cmq_receive_messages('ordered_a', pg_temp.ids('a2 a3 b2 -1'));
SELECT string_agg(body, ' ' ORDER BY body) AS heads FROM cmq_receive_messages('ordered_a', pg_temp.ids('a3 a1 b1 b2'));
SELECT count(*) AS none FROM cmq_receive_messages('ordered_a', pg_temp.ids('a2 a3'));
SELECT pg_temp.delete('a1');
SELECT string_agg(body, ' ' ORDER BY body) AS got FROM cmq_receive_messages('ordered_a', pg_temp.ids('a2 a3'));
SELECT pg_temp.empty();

--
-- What leaves lets its group go on: deleted by id, cleared, expired, dead.
--
SELECT pg_temp.send('a1 a2 a3 a4');
SELECT count(*) AS deleted FROM cmq_delete_messages('ordered_a', pg_temp.ids('a1 a3'));
SELECT pg_temp.receive('ordered_a');
SELECT pg_temp.empty();
SELECT pg_temp.send('a1 a2');
SELECT pg_temp.receive('ordered_a', 1);
SELECT cmq_clear_queue('ordered_a') AS cleared, pg_temp.send('a3');
SELECT pg_temp.receive('ordered_a');
SELECT pg_temp.empty();
-- one that is in flight expires: it holds its group no more
SELECT pg_temp.send('a1');
SELECT pg_temp.receive('ordered_a', 1, 43200);
SELECT pg_temp.age('ordered_a', '7100 s');
SELECT pg_temp.send('a2'), pg_temp.receive('ordered_a') AS none;
SELECT pg_temp.age('ordered_a', '101 s');
SELECT pg_temp.receive('ordered_a');
SELECT pg_temp.empty();

-- ... also because the queue keeps messages no longer than that, from now on
SELECT cmq_create_queue('ordered_brief', msg_retention_seconds => 7200, ordered => true);
SELECT pg_temp.send('a1', 'ordered_brief'), pg_temp.receive('ordered_brief', 1, 43200);
SELECT pg_temp.age('ordered_brief', '100 s');
SELECT pg_temp.send('a2', 'ordered_brief');
SELECT pg_temp.receive('ordered_brief') AS none;
SELECT pg_temp.receive('ordered_brief') AS none;
SELECT cmq_alter_queue('ordered_brief', msg_retention_seconds => 60);
SELECT pg_temp.receive('ordered_brief');

SELECT cmq_create_queue('ordered_dead', ordered => true);
SELECT cmq_create_queue('ordered_d', visibility_timeout => 10, ordered => true, dead_letter_queue => 'ordered_dead', max_receive_count => 2);
SELECT pg_temp.send('a1 a2', 'ordered_d');
SELECT pg_temp.receive('ordered_d', 1);
SELECT count(*) AS released FROM cmq_release('ordered_d', pg_temp.handles('a1', 'ordered_d'), 0);
SELECT pg_temp.receive('ordered_d', 1);
SELECT count(*) AS released FROM cmq_release('ordered_d', pg_temp.handles('a1', 'ordered_d'), 0);
-- it is dead: the next receive moves it, and goes on
SELECT pg_temp.receive('ordered_d', 1), pg_temp.receive('ordered_d', 1) AS none;
SELECT body, message_group FROM cmq_receive('ordered_dead');
-- two of one group that are dead, and what is behind them comes by the same call
SELECT cmq_clear_queue('ordered_d') AS cleared, pg_temp.send('a1 a2 a3', 'ordered_d');
SELECT pg_temp.receive('ordered_d', 2), pg_temp.age('ordered_d', '11 s');
SELECT pg_temp.receive('ordered_d', 2), pg_temp.age('ordered_d', '11 s');
SELECT pg_temp.receive('ordered_d');
SELECT string_agg(body, ' ' ORDER BY n) FROM cmq_receive('ordered_dead', 10) WITH ORDINALITY r (msg_id, receipt_handle, body, headers, e, f, v, r, w, g, n);
-- a receive that may wait does not wait when it has moved what was there: the move would not
-- be committed
SELECT cmq_clear_queue('ordered_d') AS cleared, cmq_clear_queue('ordered_dead') AS cleared, cmq_alter_queue('ordered_d', max_receive_count => 1);
SELECT pg_temp.send('a1 a2', 'ordered_d'), pg_temp.receive('ordered_d', 2), pg_temp.age('ordered_d', '11 s');
SELECT waits AS waits_before FROM cmq.metrics WHERE queue = 'ordered_d' \gset
SELECT count(*) AS received FROM cmq_receive('ordered_d', 10, polling_wait_seconds => 1);
SELECT waits - :waits_before AS waited, pg_temp.live('ordered_dead') FROM cmq.metrics WHERE queue = 'ordered_d';
-- many are dead: each receive moves a thousand
SELECT cmq_clear_queue('ordered_dead') AS cleared, count(*) AS sent FROM cmq_send_batch('ordered_d', array_fill('m'::text, ARRAY[2000]), message_groups => array(SELECT 'g' || i / 1000 FROM generate_series(0, 1999) i));
SELECT count(*) AS received FROM generate_series(1, 2) i, LATERAL cmq_receive('ordered_d', 1000 + 0 * i);
SELECT pg_temp.age('ordered_d', '11 s');
SELECT count(*) AS received FROM cmq_receive('ordered_d', 10);
SELECT count(*) AS moved FROM cmq.q_ordered_dead_live;
SELECT count(*) AS received FROM cmq_receive('ordered_d', 10);
SELECT count(*) AS moved FROM cmq.q_ordered_dead_live;
-- they cannot be moved: receives do not read all of them, time and again
SELECT cmq_alter_queue('ordered_dead', max_msg_heap_num => 1000), cmq_alter_queue('ordered_d', max_time_to_live => 300), count(*) AS sent FROM cmq_send_batch('ordered_d', array_fill('m'::text, ARRAY[900]), message_groups => array_fill('g'::text, ARRAY[900]));
SELECT pg_temp.age('ordered_d', '301 s');
SET client_min_messages = error;
SELECT count(*) AS received FROM cmq_receive('ordered_d', 10);
RESET client_min_messages;
VACUUM cmq_data.q_ordered_d_pending;
BEGIN;
SELECT pg_stat_get_xact_tuples_returned('cmq_data.q_ordered_d_pending_group_key_visible_at_idx'::regclass) AS before \gset
SELECT count(*) AS received FROM cmq_receive('ordered_d', 10);
SELECT pg_stat_get_xact_tuples_returned('cmq_data.q_ordered_d_pending_group_key_visible_at_idx'::regclass) - :before < 500 AS few_read;
COMMIT;

--
-- Rewind: what comes back stands before what waits, in the order of production.
--
SELECT pg_temp.send('a1 b1 a2 a3');
SELECT pg_temp.consume('ordered_a');
SELECT pg_temp.send('a4 b2 -1');
SELECT cmq_rewind('ordered_a', pg_temp.produced('ordered_a', 'a1')) IS NOT NULL AS rewound;
SELECT pg_temp.receive('ordered_a', 1), pg_temp.receive('ordered_a', 1), pg_temp.receive('ordered_a', 10) AS free;
SELECT pg_temp.delete('a1'), pg_temp.receive('ordered_a') AS a;
SELECT pg_temp.delete('b1'), pg_temp.receive('ordered_a') AS b;
-- cancelled in the middle: the rest stays deleted
SELECT pg_temp.delete('a2 a3 a4 b2 -1'), cmq_rewind('ordered_a', pg_temp.produced('ordered_a', 'a1')) IS NOT NULL AS rewound;
SELECT pg_temp.receive('ordered_a', 2) AS a, pg_temp.send('a5 b3'), cmq_cancel_rewind('ordered_a') AS cancelled;
SELECT pg_temp.receive('ordered_a') AS b, pg_temp.delete('a1 a2'), pg_temp.receive('ordered_a') AS a;
-- again while one is in flight
SELECT cmq_rewind('ordered_a', pg_temp.produced('ordered_a', 'a1')) IS NOT NULL AS rewound;
SELECT pg_temp.receive('ordered_a') AS free;
SELECT pg_temp.delete('b3'), pg_temp.receive('ordered_a') AS b;
SELECT pg_temp.delete('a5'), pg_temp.receive('ordered_a') AS a;
SELECT pg_temp.empty();

--
-- Restore: the same, and of one message alone.
--
SELECT pg_temp.send('a1 a2 a3 b1');
SELECT pg_temp.consume('ordered_a');
SELECT pg_temp.send('a4 b2');
SELECT cmq_restore('ordered_a', pg_temp.produced('ordered_a', 'a2'), pg_temp.produced('ordered_a', 'a3')) AS restored, pg_temp.receive('ordered_a', 1) AS a2;
SELECT count(*) AS restored FROM cmq_restore_messages('ordered_a', pg_temp.ids('a1 b1'));
SELECT pg_temp.receive('ordered_a') AS b;
SELECT count(*) AS released FROM cmq_release('ordered_a', pg_temp.handles('a2'), 0);
SELECT pg_temp.receive('ordered_a') AS a;
-- below where receives have begun to look, again and again
SELECT pg_temp.delete('a1 a2 a4 b1 b2'), pg_temp.receive('ordered_a') AS none;
SELECT count(*) AS restored FROM cmq_restore_messages('ordered_a', pg_temp.ids('b1'));
SELECT pg_temp.receive('ordered_a'), pg_temp.send('b4'), pg_temp.receive('ordered_a') AS none;
SELECT count(*) AS restored FROM cmq_restore_messages('ordered_a', pg_temp.ids('a3 a1'));
SELECT pg_temp.receive('ordered_a', 1), pg_temp.receive('ordered_a', 1) AS none, pg_temp.delete('a1'), pg_temp.receive('ordered_a', 1);
SELECT pg_temp.delete('b1'), pg_temp.receive('ordered_a', 1);
SELECT pg_temp.empty();

--
-- A paused queue delivers nothing; then it goes on in order.
--
SELECT pg_temp.send('a1 a2'), cmq_pause_queue('ordered_a') AS paused, pg_temp.receive('ordered_a') AS none, cmq_resume_queue('ordered_a') AS resumed;
SELECT pg_temp.receive('ordered_a');
SELECT pg_temp.empty();

--
-- Many groups that are blocked, and one behind them that is not.
--
SELECT FROM cmq_send_batch('ordered_a', array(SELECT 'm' || i FROM generate_series(1, 4000) i), message_groups => array(SELECT 'g' || i % 2000 FROM generate_series(1, 4000) i));
SELECT count(*) FROM (SELECT pg_temp.receive('ordered_a', 1) FROM generate_series(1, 2000)) r;
SELECT pg_temp.receive('ordered_a', 10) AS none;
SELECT pg_temp.send('z1 z2'), pg_temp.receive('ordered_a', 1);
-- one of them is freed: it is found soon, wherever it is
SELECT pg_temp.delete('m1777');
SELECT string_agg(pg_temp.receive('ordered_a', 10), ' ') AS m3777 FROM generate_series(1, 3);
SELECT pg_temp.empty();
-- a receive that goes from group to group does not read all rows of each
CREATE FUNCTION pg_temp.rows_read(queue text) RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_fetched(indexrelid))::bigint FROM pg_index WHERE indrelid = format('cmq_data.%I', 'q_' || queue || '_pending')::regclass
$$;
SELECT FROM cmq_send_batch('ordered_a', array(SELECT 'm' || i FROM generate_series(1, 6000) i), message_groups => array(SELECT 'g' || i % 100 FROM generate_series(1, 6000) i));
SELECT count(*) FROM (SELECT pg_temp.receive('ordered_a', 1) FROM generate_series(1, 100)) r;
BEGIN;
SELECT pg_temp.rows_read('ordered_a') AS before \gset
SELECT pg_temp.receive('ordered_a', 10) AS none;
SELECT pg_temp.rows_read('ordered_a') - :before < 2500 AS few_read;
COMMIT;
SELECT pg_temp.empty();
-- ... nor does it look at all groups that are blocked, if they are very many
SELECT FROM cmq_send_batch('ordered_a', array_fill('m'::text, ARRAY[4000]), message_groups => array(SELECT 'g' || i FROM generate_series(1, 4000) i));
SELECT count(*) FROM generate_series(1, 4) i, LATERAL cmq_receive('ordered_a', 1000 + 0 * i);
SELECT FROM cmq_send_batch('ordered_a', array_fill('m'::text, ARRAY[4000]), message_groups => array(SELECT 'g' || i FROM generate_series(1, 4000) i));
BEGIN;
SELECT pg_temp.rows_read('ordered_a') AS before \gset
SELECT pg_temp.receive('ordered_a', 10) AS none;
SELECT pg_temp.rows_read('ordered_a') - :before < 5000 AS few_read;
COMMIT;
SELECT pg_temp.empty();
-- very many without a group that cannot be had, and one behind them: each receive reads some
SET client_min_messages = error;
SELECT cmq_clear_queue('ordered_d') AS cleared;
SELECT count(*) AS sent FROM cmq_send_batch('ordered_d', array_fill('m'::text, ARRAY[9000]));
SELECT pg_temp.age('ordered_d', '301 s');
SELECT pg_temp.receive('ordered_d', 10) AS none, pg_temp.send('-1', 'ordered_d');
VACUUM cmq_data.q_ordered_d_pending;
BEGIN;
SELECT pg_temp.rows_read('ordered_d') AS before \gset
SELECT string_agg(pg_temp.receive('ordered_d', 1), ' ') AS found FROM generate_series(1, 12);
SELECT (pg_temp.rows_read('ordered_d') - :before) / 12 < 4000 AS few_read;
COMMIT;
RESET client_min_messages;

SELECT cmq_drop_queue(queue) FROM cmq.queues WHERE queue LIKE 'ordered_%' ORDER BY queue;
