-- cmq_receive_messages and cmq_delete_messages: messages that wait, chosen by their ids.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

-- the id of a message, and the ids of all, with some of none
CREATE FUNCTION pg_temp.id(queue text, message text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	id bigint;
BEGIN
	EXECUTE format('SELECT cmq.msg_id(enqueued_at) FROM cmq_data.%I WHERE body = %L', 'q_' || queue, message) INTO id;
	RETURN id;
END $$;
CREATE FUNCTION pg_temp.ids(queue text) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
BEGIN
	EXECUTE format('SELECT array_agg(cmq.msg_id(enqueued_at) ORDER BY random()) FROM cmq_data.%I', 'q_' || queue) INTO ids;
	RETURN ids || '{1,-1,9223372036854775807}'::bigint[] || ids[1];
END $$;

SELECT cmq_create_queue('chosen_a', rewind_seconds => 3600);
SELECT FROM cmq_send_batch('chosen_a', '{again,flight,deleted,ready,ready too}');
SELECT cmq_send('chosen_a', 'delayed', 600) > 0 AS sent;
SELECT body, CASE body WHEN 'again' THEN cmq_change_visibility('chosen_a', receipt_handle, 0) IS NOT NULL
					   WHEN 'deleted' THEN cmq_delete('chosen_a', receipt_handle) END AS done
  FROM cmq_receive('chosen_a', 3) WITH ORDINALITY ORDER BY ordinality;
SELECT body, state, receive_count FROM cmq.q_chosen_a_all ORDER BY enqueued_at;

--
-- Receive: what is ready or delayed, oldest first.
--
BEGIN;
SELECT body, receive_count, rewind_count, receipt_handle IS NOT NULL AS handle, msg_id = pg_temp.id('chosen_a', body) AS msg_id,
	   next_visible_at > clock_timestamp() + interval '900 s' AS hidden_for_long
  FROM cmq_receive_messages('chosen_a', pg_temp.ids('chosen_a'), 1000) WITH ORDINALITY ORDER BY ordinality;
SELECT body, state, receive_count FROM cmq.q_chosen_a_all ORDER BY enqueued_at;
SELECT count(*) AS all_in_flight FROM cmq_receive_messages('chosen_a', pg_temp.ids('chosen_a'));
ROLLBACK;
SELECT body, state, receive_count FROM cmq.q_chosen_a_all ORDER BY enqueued_at;
SELECT body FROM cmq_receive_messages('chosen_a', ARRAY[pg_temp.id('chosen_a', 'delayed')]);
SELECT body, cmq_delete('chosen_a', receipt_handle) AS deleted FROM cmq_receive_messages('chosen_a', ARRAY[pg_temp.id('chosen_a', 'ready too')]);
SELECT count(*) AS none FROM cmq_receive_messages('chosen_a', '{}');
SELECT body FROM cmq_receive('chosen_a', 10) WITH ORDINALITY ORDER BY ordinality;
SELECT body, state, receive_count FROM cmq.q_chosen_a_all ORDER BY enqueued_at;
SELECT pg_temp.attempt($$SELECT cmq_receive_messages('chosen_a', '{1,NULL}')$$), pg_temp.attempt($$SELECT cmq_receive_messages('chosen_a', '{{1},{2}}')$$),
	   pg_temp.attempt($$SELECT cmq_receive_messages('chosen_a', '{1}', 0)$$), pg_temp.attempt($$SELECT cmq_receive_messages('chosen_none', '{1}')$$);

--
-- Delete: to the history, without a receive.
--
SELECT cmq_clear_queue('chosen_a') > 0 AS cleared;
SELECT FROM cmq_send_batch('chosen_a', '{d again,d flight,d ready}');
SELECT cmq_send('chosen_a', 'd delayed', 600) > 0 AS sent;
SELECT body, CASE body WHEN 'd again' THEN cmq_change_visibility('chosen_a', receipt_handle, 0) IS NOT NULL END AS done
  FROM cmq_receive('chosen_a', 2) WITH ORDINALITY ORDER BY ordinality;
BEGIN;
SELECT count(*) FROM cmq_delete_messages('chosen_a', pg_temp.ids('chosen_a'));
ROLLBACK;
SELECT body FROM cmq_delete_messages('chosen_a', pg_temp.ids('chosen_a')) WITH ORDINALITY d (id, o) JOIN cmq_data.q_chosen_a m ON m.enqueued_at = cmq.enqueued_at(d.id) ORDER BY o;
SELECT body, state, receive_count, first_received_at IS NULL AS never_received FROM cmq.q_chosen_a_all WHERE body LIKE 'd %' ORDER BY enqueued_at;
SELECT body, first_received_at IS NULL AS never_received FROM cmq_history('chosen_a') WHERE body LIKE 'd %' ORDER BY enqueued_at;
SELECT pg_temp.counts('chosen_a');
-- what was taken back by mistake can be brought back
SELECT count(*) FROM cmq_restore_messages('chosen_a', ARRAY[pg_temp.id('chosen_a', 'd ready'), pg_temp.id('chosen_a', 'd delayed')]);
SELECT body, state, receive_count, rewind_count FROM cmq.q_chosen_a_live ORDER BY enqueued_at;
-- a restored message is reached, too
SELECT count(*) FROM cmq_delete_messages('chosen_a', ARRAY[pg_temp.id('chosen_a', 'd ready')]);
SELECT body, receive_count, rewind_count FROM cmq_receive_messages('chosen_a', ARRAY[pg_temp.id('chosen_a', 'd delayed')]);
SELECT pg_temp.attempt($$SELECT cmq_delete_messages('chosen_a', '{1,NULL}')$$), pg_temp.attempt($$SELECT cmq_delete_messages('chosen_none', '{1}')$$);
-- with rewind off nothing is left
SELECT cmq_create_queue('chosen_off');
SELECT FROM cmq_send_batch('chosen_off', '{a,b,c}');
SELECT cmq_send('chosen_off', 'delayed', 600) > 0 AS sent;
SELECT count(*) FROM cmq_delete_messages('chosen_off', ARRAY[pg_temp.id('chosen_off', 'b'), pg_temp.id('chosen_off', 'delayed')]);
SELECT string_agg(body, ',') FROM cmq_data.q_chosen_off;
SELECT body FROM cmq_receive_messages('chosen_off', pg_temp.ids('chosen_off')) WITH ORDINALITY ORDER BY ordinality;

--
-- What a rewind brings back and nobody has received yet.
--
SELECT cmq_create_queue('chosen_r', rewind_seconds => 3600);
SELECT FROM cmq_send_batch('chosen_r', '{r1,r2,r3,r4,r5}');
SELECT count(*) FROM cmq_consume('chosen_r', 4);
SELECT cmq_rewind('chosen_r', now() - interval '50 min') IS NOT NULL AS rewound;
SELECT body, receive_count, rewind_count FROM cmq_receive_messages('chosen_r', ARRAY[pg_temp.id('chosen_r', 'r3'), pg_temp.id('chosen_r', 'r5')]) WITH ORDINALITY ORDER BY ordinality;
SELECT count(*) FROM cmq_delete_messages('chosen_r', ARRAY[pg_temp.id('chosen_r', 'r2')]);
SELECT ready, in_flight, history, left_of_rewind FROM cmq.status WHERE queue = 'chosen_r';
BEGIN;
SELECT count(*) FROM cmq_delete_messages('chosen_r', pg_temp.ids('chosen_r'));
SELECT count(*) FROM cmq_receive_messages('chosen_r', pg_temp.ids('chosen_r'));
SELECT ready, in_flight, history, left_of_rewind FROM cmq.status WHERE queue = 'chosen_r';
ROLLBACK;
SELECT ready, in_flight, history, left_of_rewind FROM cmq.status WHERE queue = 'chosen_r';
SELECT body FROM cmq_consume('chosen_r', 10) WITH ORDINALITY ORDER BY ordinality;
SELECT body, state, receive_count, rewind_count, first_received_at IS NULL AS never_received FROM cmq.q_chosen_r_all ORDER BY enqueued_at;
SELECT cmq_rewind('chosen_r', now() - interval '50 min') IS NOT NULL AS rewound_again;
SELECT body, rewind_count FROM cmq_consume('chosen_r', 10) WITH ORDINALITY ORDER BY ordinality;

--
-- Dead letters are not received, but can be deleted.
--
SELECT cmq_create_queue('chosen_dead');
SELECT cmq_create_queue('chosen_d', rewind_seconds => 3600, dead_letter_queue => 'chosen_dead', max_receive_count => 1);
SELECT FROM cmq_send_batch('chosen_d', '{p1,p2}');
SELECT count(cmq_change_visibility('chosen_d', receipt_handle, 0)) FROM cmq_receive('chosen_d', 2);
SELECT count(*) AS received FROM cmq_receive_messages('chosen_d', pg_temp.ids('chosen_d'));
SELECT count(*) AS deleted FROM cmq_delete_messages('chosen_d', ARRAY[pg_temp.id('chosen_d', 'p1')]);
SELECT count(*) FROM cmq_receive('chosen_d');
SELECT body FROM cmq_consume('chosen_dead', 10);

--
-- What has expired is left out.
--
SELECT cmq_create_queue('chosen_x', rewind_seconds => 60, msg_retention_seconds => 60);
SELECT cmq_send('chosen_x', 'old') > 0 AS sent;
SELECT pg_temp.age('chosen_x', '61 s');
SELECT count(*) AS received FROM cmq_receive_messages('chosen_x', pg_temp.ids('chosen_x'));
SELECT count(*) AS deleted FROM cmq_delete_messages('chosen_x', pg_temp.ids('chosen_x'));

--
-- Many ids, of many messages.
--
SELECT cmq_create_queue('chosen_m', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('chosen_m', array(SELECT 'm' || i FROM generate_series(1, 5000) i));
SELECT count(*) FROM cmq_send_batch('chosen_m', array(SELECT 'd' || i FROM generate_series(1, 3000) i), 600);
SELECT count(*), bool_and(msg_id > before) AS in_order FROM (
	SELECT msg_id, lag(msg_id, 1, 0::bigint) OVER (ORDER BY ordinality) AS before
	  FROM cmq_receive_messages('chosen_m', array(SELECT cmq.msg_id(enqueued_at) FROM cmq_data.q_chosen_m WHERE body ~ '7$')) WITH ORDINALITY) s;
SELECT count(*) FROM cmq_delete_messages('chosen_m', array(SELECT cmq.msg_id(enqueued_at) FROM cmq_data.q_chosen_m WHERE body ~ '[67]$'));
SELECT ready, in_flight, delayed FROM cmq.status WHERE queue = 'chosen_m';

SELECT cmq_drop_queue(q) FROM unnest('{chosen_a,chosen_off,chosen_r,chosen_d,chosen_dead,chosen_x,chosen_m}'::text[]) q;
