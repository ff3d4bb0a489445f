-- cmq_consume: receive and delete in one step; filters of receive and consume; turns of a
-- rewind and other messages.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('consume_on', rewind_seconds => 3600);
SELECT cmq_create_queue('consume_off');

--
-- The message goes from the pending table to the history.
--
SELECT cmq_send('consume_on', 'one', headers => '{"k": "v"}') AS id \gset
SELECT msg_id = :id AS msg_id, receipt_handle IS NULL AS no_handle, body, headers, enqueued_at = cmq.enqueued_at(:id) AS enqueued_at,
	   first_received_at BETWEEN enqueued_at AND clock_timestamp() AS first_received_at, next_visible_at IS NULL AS never_visible_again,
	   receive_count, rewind_count
  FROM cmq_consume('consume_on');
SELECT pg_temp.counts('consume_on');
SELECT msg_id = :id AS msg_id, first_received_at BETWEEN enqueued_at AND deleted_at AS first_received_at, deleted_by = current_user AS deleted_by,
	   receive_count, rewind_count, headers, body
  FROM cmq.q_consume_on_history;
SELECT count(*) AS nothing_left FROM cmq_consume('consume_on', 10);
-- one that was received before keeps its first receive
SELECT cmq_send('consume_on', 'two') > 0 AS sent;
SELECT receipt_handle AS handle, first_received_at AS first FROM cmq_receive('consume_on') \gset
SELECT count(*) AS in_flight_is_left_alone FROM cmq_consume('consume_on');
SELECT cmq_change_visibility('consume_on', :'handle', 0) AS handle \gset
SELECT body, first_received_at = :'first' AS first_received_at, receive_count FROM cmq_consume('consume_on');
SELECT body, first_received_at = :'first' AS first_received_at, receive_count FROM cmq.q_consume_on_history ORDER BY enqueued_at;
SELECT cmq_delete('consume_on', :'handle') AS stale_handle_deletes;
-- with rewind off nothing is left
SELECT array_length(array(SELECT cmq_send_batch('consume_off', '{a,b,c}')), 1) AS sent;
SELECT body FROM cmq_consume('consume_off', 2) WITH ORDINALITY ORDER BY ordinality;
SELECT (SELECT string_agg(body, ',') FROM cmq_data.q_consume_off) AS messages, (SELECT count(*) FROM cmq_data.q_consume_off_pending) AS pending,
	   (SELECT count(*) FROM cmq_data.q_consume_off_rewind) AS rewind;
SELECT body FROM cmq_consume('consume_off', 10);
-- order, and how many
SELECT array_length(array(SELECT cmq_send_batch('consume_on', array(SELECT 'm' || i FROM generate_series(1, 1500) i))), 1) AS sent;
SELECT count(*), min(substr(body, 2)::int), max(substr(body, 2)::int), bool_and(substr(body, 2)::int = ordinality) AS in_order
  FROM cmq_consume('consume_on', 1000) WITH ORDINALITY;
SELECT count(*), min(substr(body, 2)::int) FROM cmq_consume('consume_on', 1000);
SELECT pg_temp.attempt($$SELECT cmq_consume('consume_on', 1001)$$), pg_temp.attempt($$SELECT cmq_consume('consume_on', polling_wait_seconds => 31)$$),
	   pg_temp.attempt($$SELECT cmq_consume('consume_none')$$);

--
-- It is the caller's transaction: rolled back, nothing was counted.
--
SELECT cmq_clear_queue('consume_on');
SELECT array_length(array(SELECT cmq_send_batch('consume_on', '{a,b}')), 1) AS sent;
BEGIN;
SELECT body FROM cmq_consume('consume_on');
SELECT pg_temp.counts('consume_on') AS seen_inside;
ROLLBACK;
SELECT pg_temp.counts('consume_on');
SELECT body, receive_count, first_received_at IS NULL AS never_received FROM cmq.q_consume_on_live ORDER BY enqueued_at;
BEGIN;
SELECT body FROM cmq_consume('consume_on');
SAVEPOINT work;
SELECT body FROM cmq_consume('consume_on');
ROLLBACK TO work;
SELECT body FROM cmq_consume('consume_on');
COMMIT;
SELECT pg_temp.counts('consume_on');
-- the same transaction can bring a message back whose work has failed
BEGIN;
SELECT cmq_send('consume_on', 'fails') > 0 AS sent;
SELECT msg_id AS id FROM cmq_consume('consume_on') \gset
SELECT cmq_restore_messages('consume_on', ARRAY[:id]) = :id AS brought_back;
SELECT msg_id = :id AS again, receive_count, rewind_count FROM cmq_consume('consume_on');
COMMIT;

--
-- A rewind brings back what was consumed; consumed again it is history again.
--
SELECT cmq_create_queue('consume_r', rewind_seconds => 3600);
SELECT array_length(array(SELECT cmq_send_batch('consume_r', '{r1,r2,r3,r4}')), 1) AS sent;
SELECT count(*) FROM cmq_consume('consume_r', 3);
SELECT cmq_rewind('consume_r', now() - interval '50 min') IS NOT NULL AS rewound;
SELECT ready, history, left_of_rewind FROM cmq.status WHERE queue = 'consume_r';
SELECT body, receive_count, rewind_count FROM cmq_consume('consume_r', 2) WITH ORDINALITY ORDER BY ordinality;
SELECT ready, history, left_of_rewind FROM cmq.status WHERE queue = 'consume_r';
BEGIN;
SELECT body FROM cmq_consume('consume_r', 1);
SELECT ready, history, left_of_rewind FROM cmq.status WHERE queue = 'consume_r';
ROLLBACK;
SELECT ready, history, left_of_rewind FROM cmq.status WHERE queue = 'consume_r';
SELECT body, receive_count, rewind_count FROM cmq_consume('consume_r', 10) WITH ORDINALITY ORDER BY ordinality;
SELECT body, receive_count, rewind_count FROM cmq.q_consume_r_history ORDER BY enqueued_at;
SELECT ready, history, left_of_rewind FROM cmq.status WHERE queue = 'consume_r';
SELECT cmq_rewind('consume_r', now() - interval '50 min') IS NOT NULL AS rewound_once_more;
SELECT body, receive_count, rewind_count FROM cmq_consume('consume_r', 10) WITH ORDINALITY ORDER BY ordinality;
SELECT received, redelivered, rewound, deleted FROM cmq.metrics WHERE queue = 'consume_r';

--
-- Dead letters are not consumed.
--
SELECT cmq_create_queue('consume_dead');
SELECT cmq_alter_queue('consume_r', dead_letter_queue => 'consume_dead', max_receive_count => 1);
SELECT cmq_send('consume_r', 'poison') > 0 AS sent;
SELECT cmq_change_visibility('consume_r', receipt_handle, 0) IS NOT NULL AS given_back FROM cmq_receive('consume_r');
SELECT count(*) AS consumed FROM cmq_consume('consume_r', 10);
SELECT body, headers -> 'cmq_dead_letter' ->> 'reason' AS reason FROM cmq_consume('consume_dead');

--
-- Filters: headers contain them.
--
SELECT cmq_create_queue('filter_a', rewind_seconds => 3600);
SELECT array_length(array(SELECT cmq_send_batch('filter_a', '{e1,u1,none,e2,u2}',
	headers => ARRAY['{"to": "eu", "n": {"deep": 1}}', '{"to": "us"}', NULL, '{"to": "eu"}', '{"to": "us", "n": {"deep": 1}}']::jsonb[])), 1) AS sent;
SELECT body FROM cmq_receive('filter_a', 10, filter => '{"to": "us"}') WITH ORDINALITY ORDER BY ordinality;
SELECT body FROM cmq_consume('filter_a', 1, filter => '{"to": "eu"}');
SELECT body FROM cmq_consume('filter_a', 10, filter => '{"to": "us"}');
SELECT body, state, receive_count FROM cmq.q_filter_a_all ORDER BY enqueued_at;
SELECT body FROM cmq_consume('filter_a', 10, filter => '{"n": {"deep": 1}}');
-- one without headers contains nothing; all others contain an empty object
SELECT body FROM cmq_consume('filter_a', 10, filter => '{}');
SELECT body FROM cmq_consume('filter_a', 10);
-- what was passed over stays first for everybody
SELECT array_length(array(SELECT cmq_send_batch('filter_a', array(SELECT 'f' || i FROM generate_series(1, 300) i),
	headers => array(SELECT jsonb_build_object('n', i) FROM generate_series(1, 300) i))), 1) AS sent;
SELECT body FROM cmq_receive('filter_a', 10, filter => '{"n": 299}');
SELECT body FROM cmq_consume('filter_a', 10, filter => '{"n": 150}');
SELECT body FROM cmq_receive('filter_a', 2) WITH ORDINALITY ORDER BY ordinality;
SELECT count(*) FROM cmq_consume('filter_a', 1000);
-- what a rewind brings back, too
SELECT cmq_rewind('filter_a', now() - interval '50 min') IS NOT NULL AS rewound;
SELECT body, rewind_count FROM cmq_receive('filter_a', 10, filter => '{"n": 150}');
SELECT body, rewind_count FROM cmq_consume('filter_a', 10, filter => '{"to": "eu"}') WITH ORDINALITY ORDER BY ordinality;
SELECT body, rewind_count FROM cmq_consume('filter_a', 2) WITH ORDINALITY ORDER BY ordinality;
SELECT pg_temp.attempt(format('SELECT cmq_receive(''filter_a'', filter => %L)', jsonb_build_object('k', repeat('x', 8200)))) AS too_large;

--
-- rewind_share: while both are there a rewind and other messages take turns.
--
SELECT cmq_create_queue('share_a', rewind_seconds => 3600, rewind_share => 50);
CREATE FUNCTION pg_temp.load(rewound int, live int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM cmq_clear_queue('share_a');
	PERFORM FROM cmq_send_batch('share_a', array(SELECT 'old' FROM generate_series(1, rewound)));
	PERFORM FROM cmq_consume('share_a', 1000);
	PERFORM cmq_rewind('share_a', now() - interval '50 min');
	PERFORM FROM cmq_send_batch('share_a', array(SELECT 'new' FROM generate_series(1, live)));
	RETURN format('%s left, %s ready', left_of_rewind, ready) FROM cmq.status WHERE queue = 'share_a';
END $$;
SELECT pg_temp.load(500, 500);
-- in one call, and call by call
SELECT body, count(*) FROM cmq_receive('share_a', 100) GROUP BY body ORDER BY body;
SELECT m.body, count(*) FROM generate_series(1, 200) i, LATERAL cmq_consume('share_a', i * 0 + 1) m GROUP BY m.body ORDER BY m.body;
SELECT m.body, count(*) FROM generate_series(1, 100) i, LATERAL cmq_receive('share_a', i * 0 + 3) m GROUP BY m.body ORDER BY m.body;
-- when one has no more, the other has all
SELECT body, count(*) FROM cmq_consume('share_a', 1000) GROUP BY body ORDER BY body;
SELECT cmq_alter_queue('share_a', rewind_share => 10);
SELECT pg_temp.load(0, 300);
SELECT m.body, count(*) FROM generate_series(1, 200) i, LATERAL cmq_consume('share_a', i * 0 + 1) m GROUP BY m.body ORDER BY m.body;
SELECT cmq_alter_queue('share_a', rewind_share => 1);
SELECT pg_temp.load(0, 300);
SELECT m.body, count(*) FROM generate_series(1, 200) i, LATERAL cmq_consume('share_a', i * 0 + 1) m GROUP BY m.body ORDER BY m.body;
SELECT cmq_alter_queue('share_a', rewind_share => 100);
SELECT pg_temp.load(0, 300);
SELECT m.body, count(*) FROM generate_series(1, 200) i, LATERAL cmq_consume('share_a', i * 0 + 1) m GROUP BY m.body ORDER BY m.body;
SELECT pg_temp.attempt(format('SELECT cmq_alter_queue(''share_a'', rewind_share => %s)', n)) FROM (VALUES (0), (1), (100), (101)) v (n);

SELECT cmq_drop_queue(q) FROM unnest('{consume_on,consume_off,consume_r,consume_dead,filter_a,share_a}'::text[]) q;
