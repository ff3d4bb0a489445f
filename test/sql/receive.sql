-- cmq_receive: order, limits, redelivery; errors; transactions.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('receive_a', visibility_timeout => 30);

--
-- Nothing there: no row, not an error.
--
SELECT count(*) AS messages FROM cmq_receive('receive_a');
SELECT count(*) AS messages FROM cmq_receive('receive_a', 1000, 43200, 0);
-- the longest wait allowed, with something there: returns at once
SELECT cmq_send('receive_a', 'x') > 0 AS sent;
SELECT count(*) AS deleted FROM cmq_delete_batch('receive_a',
	array(SELECT receipt_handle FROM cmq_receive('receive_a', 1000, 43200, 30)));
SELECT (cmq_receive('receive_a')).body;

--
-- One message, all columns.
--
SELECT cmq_send('receive_a', 'one', headers => '{"k": 1}') AS id \gset
SELECT msg_id = :id AS msg_id, body, headers, enqueued_at = cmq.enqueued_at(:id) AS enqueued_at,
	   first_received_at BETWEEN enqueued_at AND clock_timestamp() AS first_received_at,
	   next_visible_at = first_received_at + interval '30 s' AS next_visible_at,
	   receive_count, rewind_count,
	   receipt_handle = format('%s-%s-%s-%s', msg_id, cmq.msg_id(next_visible_at), receive_count, rewind_count) AS handle
  FROM cmq_receive('receive_a');
-- it is in flight now
SELECT count(*) AS messages FROM cmq_receive('receive_a', 10);
SELECT pg_temp.live('receive_a'), pg_temp.counts('receive_a');
-- the timeout runs out: it comes again, counted, first time kept
UPDATE cmq_data.q_receive_a_pending SET visible_at = visible_at - interval '30 s';
SELECT pg_temp.live('receive_a');
SELECT first_received_at AS first FROM cmq.q_receive_a_live \gset
SELECT msg_id = :id AS msg_id, body, first_received_at = :'first' AS first_kept,
	   next_visible_at > :'first'::timestamptz + interval '40 s' AS hidden_anew,
	   receive_count, rewind_count
  FROM cmq_receive('receive_a', visibility_timeout => 60);
SELECT pg_temp.counts('receive_a');
UPDATE cmq_data.q_receive_a_pending SET visible_at = visible_at - interval '60 s';
SELECT receive_count, first_received_at = :'first' AS first_kept FROM cmq_receive('receive_a');
UPDATE cmq_data.q_receive_a_pending SET visible_at = visible_at - interval '60 s';
SELECT pg_temp.consume('receive_a');

--
-- Order: oldest first; what comes back sorts by the time it became visible.
--
SELECT count(*) FROM cmq_send_batch('receive_a', '{a,b,c,d,e}');
SELECT pg_temp.receive('receive_a', 1), pg_temp.receive('receive_a', 2),
	   pg_temp.receive('receive_a', 3), pg_temp.receive('receive_a', 3);
SELECT pg_temp.counts('receive_a');
UPDATE cmq_data.q_receive_a_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('receive_a');

--
-- Numbers of messages.
--
SELECT count(*) FROM cmq_send_batch('receive_a', array(SELECT i::text FROM generate_series(1, 1005) i));
SELECT count(*) AS messages, count(DISTINCT msg_id) AS ids, count(DISTINCT receipt_handle) AS handles,
	   bool_and(body = ordinality::text) AS in_order
  FROM cmq_receive('receive_a', 1000) WITH ORDINALITY;
SELECT body FROM cmq_receive('receive_a', 1000) WITH ORDINALITY ORDER BY ordinality;
SELECT count(*) AS messages FROM cmq_receive('receive_a', 1000);
SELECT args, pg_temp.attempt(format('SELECT cmq_receive(%L, %s)', 'receive_a', args))
  FROM (VALUES
	(1, 'max_messages => 0'), (2, 'max_messages => -1'), (3, 'max_messages => 1001'),
	(4, 'max_messages => NULL'), (5, 'max_messages => 2147483647'),
	(6, 'visibility_timeout => 0'), (7, 'visibility_timeout => -1'), (8, 'visibility_timeout => 43201'),
	(9, 'polling_wait_seconds => -1'), (10, 'polling_wait_seconds => 31'),
	(11, '1, 1, 0'), (12, '1000, 43200, 0'), (13, '1, NULL, NULL')) v (n, args)
 ORDER BY n;
SELECT pg_temp.attempt($$SELECT cmq_receive('receive_x')$$) AS unknown,
	   pg_temp.attempt($$SELECT cmq_receive(NULL)$$) AS "null",
	   pg_temp.attempt($$SELECT cmq_receive('')$$) AS empty;
-- a refused call took nothing
UPDATE cmq_data.q_receive_a_pending SET visible_at = enqueued_at;
SELECT pg_temp.attempt($$SELECT cmq_receive('receive_a', 1001)$$);
SELECT pg_temp.counts('receive_a');
SELECT receive_count, count(*) FROM cmq_receive('receive_a', 1000) GROUP BY receive_count ORDER BY 1;

--
-- Timeouts: shortest, longest, the queue's own.
--
SELECT cmq_drop_queue('receive_a');
SELECT cmq_create_queue('receive_a', visibility_timeout => 1234);
SELECT count(*) FROM cmq_send_batch('receive_a', '{a,b,c}');
SELECT body, next_visible_at - first_received_at AS hidden_for FROM cmq_receive('receive_a', 1, 1);
SELECT body, next_visible_at - first_received_at AS hidden_for FROM cmq_receive('receive_a', 1, 43200);
SELECT body, next_visible_at - first_received_at AS hidden_for FROM cmq_receive('receive_a', 1, NULL);
SELECT pg_temp.consume('receive_a') IS NULL AS nothing_left;
UPDATE cmq_data.q_receive_a_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('receive_a');

--
-- Transactions: a rolled-back receive leaves the message as it was.
--
SELECT count(*) FROM cmq_send_batch('receive_a', '{a,b,c}');
BEGIN;
SELECT receipt_handle AS old FROM cmq_receive('receive_a') \gset
SELECT pg_temp.live('receive_a');
ROLLBACK;
SELECT pg_temp.live('receive_a');
SELECT cmq_delete('receive_a', :'old') AS handle_of_a_receive_that_never_was;
SELECT body, receive_count FROM cmq_receive('receive_a') \gset
SELECT :'body' AS body, :receive_count AS receive_count;
UPDATE cmq_data.q_receive_a_pending SET visible_at = enqueued_at;
-- savepoints: a is kept, b and c come back
BEGIN;
SELECT pg_temp.receive('receive_a', 1) AS received;
SAVEPOINT s;
SELECT pg_temp.receive('receive_a', 1) AS received;
SAVEPOINT s2;
SELECT pg_temp.receive('receive_a', 10) AS received;
ROLLBACK TO s;
SELECT pg_temp.live('receive_a');
SELECT body, receive_count FROM cmq_receive('receive_a', 10) WITH ORDINALITY ORDER BY ordinality;
COMMIT;
SELECT pg_temp.receive('receive_a') AS received;
UPDATE cmq_data.q_receive_a_pending SET visible_at = enqueued_at;
-- an exception block in plpgsql
DO $$
BEGIN
	BEGIN
		PERFORM cmq_receive('receive_a', 10);
		RAISE EXCEPTION 'consumer failed';
	EXCEPTION WHEN raise_exception THEN
		NULL;
	END;
END $$;
SELECT body, receive_count FROM cmq_receive('receive_a', 10) WITH ORDINALITY ORDER BY ordinality;

--
-- In one statement, what a call did is visible to the next.
--
SELECT cmq_drop_queue('receive_a');
SELECT cmq_create_queue('receive_a');
SELECT count(*) FROM cmq_send_batch('receive_a', '{a,b,c,d,e,f,g}');
SELECT n, body FROM generate_series(1, 3) n, LATERAL cmq_receive('receive_a', 2 - n + n) ORDER BY n, msg_id;
SELECT cmq_send('receive_a', 'sent ' || body) > 0 AS forwarded
  FROM (SELECT body FROM cmq_receive('receive_a') OFFSET 0) r;
SELECT pg_temp.receive('receive_a');
SELECT (SELECT cmq_send('receive_a', 'x')) > 0 AS sent, (SELECT body FROM cmq_receive('receive_a')) AS received;
-- the rows of a receive that nobody reads are received all the same
SELECT count(*) FROM cmq_send_batch('receive_a', '{g,h,i}');
SELECT body FROM cmq_receive('receive_a', 2) LIMIT 1;
SELECT pg_temp.receive('receive_a');
-- as a set in the select list, into a table, through a cursor
SELECT count(*) FROM cmq_send_batch('receive_a', '{j,k,l,m}');
CREATE TEMP TABLE inbox AS SELECT * FROM cmq_receive('receive_a', 2);
SELECT body, receive_count, rewind_count, pg_typeof(msg_id) AS msg_id, pg_typeof(receipt_handle) AS receipt_handle,
	   pg_typeof(headers) AS headers, pg_typeof(enqueued_at) AS enqueued_at
  FROM inbox ORDER BY msg_id;
INSERT INTO inbox SELECT (cmq_receive('receive_a', 1)).*;
SELECT body FROM inbox ORDER BY msg_id;
BEGIN;
DECLARE c CURSOR FOR SELECT body FROM cmq_receive('receive_a', 10);
FETCH ALL FROM c;
FETCH ALL FROM c;
COMMIT;
SELECT count(*) AS deleted FROM inbox WHERE cmq_delete('receive_a', receipt_handle);
-- a consumer's loop
SELECT count(*) FROM cmq_send_batch('receive_a', array(SELECT i::text FROM generate_series(1, 25) i));
DO $$
DECLARE
	m cmq.message;
	total int := 0;
	rounds int := 0;
	got int;
BEGIN
	LOOP
		got := 0;
		FOR m IN SELECT * FROM cmq_receive('receive_a', 10) LOOP
			IF NOT cmq_delete('receive_a', m.receipt_handle) THEN
				RAISE EXCEPTION 'stale handle of message %', m.body;
			END IF;
			total := total + m.body::int;
			got := got + 1;
		END LOOP;
		EXIT WHEN got = 0;
		rounds := rounds + 1;
	END LOOP;
	RAISE WARNING '% rounds, sum %', rounds, total;
END $$;
SELECT pg_temp.counts('receive_a');

--
-- Two queues in one statement do not disturb each other; odd names.
--
SELECT cmq_create_queue('Receive-B_2');
SELECT cmq_create_queue('Receive-B-' || repeat('z', 38));
SELECT cmq_send('receive_a', 'for a') > 0, cmq_send('Receive-B_2', 'for b') > 0,
	   cmq_send('Receive-B-' || repeat('z', 38), 'for z') > 0;
SELECT q, body FROM (VALUES ('receive_a'), ('Receive-B_2'), ('Receive-B-' || repeat('z', 38))) v (q),
	   LATERAL cmq_receive(q, 10) ORDER BY body;
SELECT cmq_drop_queue(queue) FROM (SELECT queue FROM cmq.queues WHERE queue ILIKE 'receive%' ORDER BY queue) q;
SELECT count(*) AS queues_left FROM cmq.queues WHERE queue ILIKE 'receive%';
