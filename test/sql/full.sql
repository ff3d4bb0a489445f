-- max_msg_heap_num: a queue that is full takes no more.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('full_a', max_msg_heap_num => 5, rewind_seconds => 3600);
SELECT max_msg_heap_num FROM cmq.queues WHERE queue = 'full_a';
SELECT max_msg_heap_num FROM cmq_queue_attributes('full_a');

--
-- Up to the limit, not beyond; a batch whole or not at all.
--
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'm')$$) FROM generate_series(1, 6);
SELECT cmq_send('full_a', 'one too many');
SELECT pg_temp.attempt($$SELECT cmq_send_batch('full_a', '{a}')$$) AS full,
	   pg_temp.attempt($$SELECT cmq_send_batch('full_a', '{}')$$) AS nothing,
	   pg_temp.attempt($$SELECT cmq_send('full_a', 'delayed', 10)$$) AS delayed;
-- in flight is pending, deleted is not, although it can be rewound
SELECT count(*) FROM cmq_receive('full_a', 3);
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'm')$$) AS in_flight_counts;
SELECT pg_temp.consume('full_a');
SELECT pg_temp.attempt($$SELECT cmq_send_batch('full_a', '{a,b,c}')$$) AS too_many,
	   pg_temp.attempt($$SELECT cmq_send_batch('full_a', '{a,b}')$$) AS as_many_as_fit,
	   pg_temp.attempt($$SELECT cmq_send('full_a', 'm')$$) AS full;

--
-- What the transaction itself has done counts, what it rolls back does not.
--
SELECT pg_temp.consume('full_a');
SELECT pg_temp.counts('full_a');
BEGIN;
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'm')$$) AS ok;
SAVEPOINT s;
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'n')$$) AS ok;
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'o')$$) AS full;
ROLLBACK TO s;
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'p')$$) AS room_again;
SAVEPOINT s;
RELEASE s;
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'q')$$) AS full;
ROLLBACK;
SELECT pg_temp.attempt($$SELECT cmq_send_batch('full_a', '{r,s}')$$) AS room_for_two,
	   pg_temp.attempt($$SELECT cmq_send('full_a', 't')$$) AS full;
BEGIN;
SELECT count(*) AS deleted FROM (SELECT cmq_delete('full_a', receipt_handle) FROM cmq_receive('full_a', 1)) d;
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'u')$$) AS in_place_of_it;
ROLLBACK;
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'v')$$) AS full;

--
-- A rewound message counts when it has been received.
--
SELECT pg_temp.consume('full_a');
SELECT cmq_rewind('full_a', (SELECT min(enqueued_at) FROM cmq_data.q_full_a_pending)) IS NOT NULL AS rewound;
SELECT pg_temp.counts('full_a');
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'w')$$) AS three_in_flight;
SELECT count(*) FROM cmq_receive('full_a', 1);
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'x')$$) AS full;

--
-- The limit can be changed at any time; a smaller one removes nothing.
--
SELECT cmq_alter_queue('full_a', max_msg_heap_num => 6);
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'y')$$) AS ok,
	   pg_temp.attempt($$SELECT cmq_send('full_a', 'z')$$) AS full;
SELECT cmq_alter_queue('full_a', max_msg_heap_num => 1);
SELECT count(*) AS pending FROM cmq_data.q_full_a_pending;
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'z')$$) AS full;
SELECT cmq_alter_queue('full_a', max_msg_heap_num => 1000000000);
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'z')$$) AS ok;
SELECT pg_temp.attempt($$SELECT cmq_alter_queue('full_a', max_msg_heap_num => 0)$$) AS zero,
	   pg_temp.attempt($$SELECT cmq_alter_queue('full_a', max_msg_heap_num => 1000000001)$$) AS too_large,
	   pg_temp.attempt($$SELECT cmq_create_queue('full_b', max_msg_heap_num => 0)$$) AS zero,
	   pg_temp.attempt($$SELECT cmq_create_queue('full_b', max_msg_heap_num => NULL)$$) AS "null";

--
-- Rows that come and go by hand.
--
SELECT cmq_alter_queue('full_a', max_msg_heap_num => 8);
SELECT count(*) AS pending FROM cmq_data.q_full_a_pending;
DELETE FROM cmq_data.q_full_a_pending;
SELECT pg_temp.attempt($$SELECT cmq_send_batch('full_a', array_fill('m'::text, '{9}'))$$) AS too_many,
	   pg_temp.attempt($$SELECT cmq_send_batch('full_a', array_fill('m'::text, '{8}'))$$) AS eight;
BEGIN;
SET session_replication_role = replica;
TRUNCATE cmq_data.q_full_a_pending;
RESET session_replication_role;
SELECT pg_temp.attempt($$SELECT cmq_send_batch('full_a', array_fill('m'::text, '{8}'))$$) AS eight,
	   pg_temp.attempt($$SELECT cmq_send('full_a', 'm')$$) AS full;
ROLLBACK;
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'm')$$) AS full;
SELECT pg_temp.consume('full_a', 1);
SELECT pg_temp.attempt($$SELECT cmq_send('full_a', 'm')$$) AS ok;

SELECT cmq_drop_queue('full_a');
