-- cmq_send: bodies, ids; errors; transactions.  headers.sql and delays.sql have the rest.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('send_a', max_msg_size => 1024);

--
-- The id is the production time in Unix microseconds, strictly increasing.
--
SELECT cmq.msg_id(clock_timestamp()) AS before \gset
SELECT cmq_send('send_a', 'one') AS one \gset
SELECT cmq_send(queue => 'send_a', body => 'two') AS two \gset
SELECT cmq_send('send_a', body => 'three', headers => '{"k": 1}') AS three \gset
SELECT :before <= :one AS after_start, :one < :two AS increasing, :two < :three AS increasing,
	   :three <= cmq.msg_id(clock_timestamp()) AS before_now;
SELECT body, headers,
	   msg_id = CASE body WHEN 'one' THEN :one WHEN 'two' THEN :two ELSE :three END AS same_id,
	   enqueued_at = cmq.enqueued_at(msg_id) AS same_instant,
	   cmq.msg_id(enqueued_at) = msg_id AS and_back,
	   msg_id = (extract(epoch FROM enqueued_at) * 1000000)::bigint AS unix_microseconds
  FROM cmq.q_send_a_live ORDER BY msg_id;
-- the message row is the body, the headers and the time, nothing else
SELECT headers, body, enqueued_at = cmq.enqueued_at(:three) AS time_kept
  FROM cmq_data.q_send_a WHERE enqueued_at = cmq.enqueued_at(:three);
SELECT visible_at = enqueued_at AS ready_at_once, first_received_at, receive_count, rewind_count
  FROM cmq_data.q_send_a_pending WHERE enqueued_at = cmq.enqueued_at(:one);
-- id and time: the two forms of one instant, also at the ends
SELECT cmq.enqueued_at(0) = timestamptz '1970-01-01 00:00:00+00' AS epoch,
	   cmq.msg_id('1970-01-01 00:00:00.000001+00') AS one,
	   cmq.msg_id('2000-01-01 00:00:00+00') AS millennium,
	   cmq.msg_id(NULL) AS "null", cmq.enqueued_at(NULL) AS "null";
SELECT cmq.enqueued_at(cmq.msg_id(t)) = t AS round_trip
  FROM (VALUES (timestamptz '1969-12-31 23:59:59.999999+00'), ('2026-02-28 12:00:00.123456+00'),
			   ('2199-12-31 23:59:59.5+00')) v (t) ORDER BY t;
SELECT pg_temp.attempt('SELECT cmq.enqueued_at(9223372036854775807)') AS too_far,
	   pg_temp.attempt('SELECT cmq.enqueued_at(-9223372036854775808)') AS too_far,
	   pg_temp.attempt('SELECT cmq.msg_id(''infinity'')') AS infinite;
SELECT pg_temp.consume('send_a');

--
-- Bodies.
--
-- exactly max_msg_size bytes, and one more; it is bytes that count
SELECT n, pg_temp.attempt(format('SELECT cmq_send(%L, %s)', 'send_a', body))
  FROM (VALUES
	(1, $$'x'$$), (2, $$repeat('x', 1024)$$), (3, $$repeat('x', 1025)$$),
	(4, $$repeat('é', 512)$$), (5, $$repeat('é', 512) || 'x'$$),
	(6, $$repeat('€', 341)$$), (7, $$repeat('€', 342)$$),
	(8, $$repeat('x', 1000000)$$)) v (n, body)
 ORDER BY n;
SELECT octet_length(body) AS bytes, count(*) FROM cmq_receive('send_a', 100) GROUP BY 1 ORDER BY 1;
SELECT pg_temp.attempt($$SELECT cmq_send('send_a', '')$$) AS empty,
	   pg_temp.attempt($$SELECT cmq_send('send_a', NULL)$$) AS "null";
-- any text comes back byte for byte
SELECT cmq_create_queue('send_b', max_msg_size => 67108864);
CREATE TEMP TABLE sample (n int PRIMARY KEY, body text, headers jsonb);
INSERT INTO sample VALUES
	(1, ' '), (2, E'\n'), (3, E'\t\r\n\\ "quoted" ''single'' %s $1'), (4, 'naïve café'),
	(5, '消息队列 回溯'), (6, '😀🐘'), (7, E'\x01\x7f'), (8, '{"json": [1, 2]}'), (9, 'NULL'),
	(10, repeat('a', 200000)), (11, repeat('消', 100000));
-- one megabyte that does not compress, and one more
INSERT INTO sample
	SELECT 12 + k, string_agg(md5(i::text || ':' || k), '' ORDER BY i)
	  FROM generate_series(1, 32768) i, generate_series(0, 1) k GROUP BY k;
SELECT n, octet_length(body) AS bytes, cmq_send('send_b', body) > 0 AS sent FROM sample ORDER BY n;
SELECT s.n, octet_length(r.body) AS bytes, md5(r.body) = md5(s.body) AS same, r.body = s.body COLLATE "C" AS equal
  FROM (SELECT * FROM cmq_receive('send_b', 1000) WITH ORDINALITY) r
  FULL JOIN sample s ON s.n = r.ordinality ORDER BY s.n;
-- the big ones are kept out of line, and in the same leaf's TOAST table
SELECT count(*) AS out_of_line FROM cmq_data.q_send_b WHERE pg_column_size(body) > 1000000;
-- the default limit is 1 MB
SELECT cmq_create_queue('send_d');
SELECT n, pg_temp.attempt(format('SELECT cmq_send(%L, repeat(''x'', %s))', 'send_d', n)) FROM (VALUES (1048576), (1048577)) v (n) ORDER BY n;
SELECT body = repeat('x', 1048576) AS same FROM cmq_receive('send_d', 10);
SELECT cmq_drop_queue('send_d');
-- a body read from a table (a TOAST pointer of another table) is copied
CREATE TABLE send_source (body text);
INSERT INTO send_source SELECT body FROM sample WHERE n = 12;
SELECT cmq_send('send_b', body) > 0 AS sent FROM send_source;
SELECT cmq_send_batch('send_b', ARRAY[body, 'small']) > 0 AS sent FROM send_source;
DROP TABLE send_source;
SELECT octet_length(body) AS bytes, body = 'small' OR md5(body) = (SELECT md5(body) FROM sample WHERE n = 12) AS same
  FROM cmq_receive('send_b', 1000) WITH ORDINALITY ORDER BY ordinality;

--
-- Errors about the queue.
--
SELECT pg_temp.attempt($$SELECT cmq_send('send_x', 'x')$$) AS unknown,
	   pg_temp.attempt($$SELECT cmq_send(NULL, 'x')$$) AS "null",
	   pg_temp.attempt($$SELECT cmq_send('', 'x')$$) AS empty,
	   pg_temp.attempt($$SELECT cmq_send(repeat('x', 100), 'x')$$) AS long;
-- sending a NULL is an error, not a silent no-op
SELECT pg_temp.attempt($$SELECT cmq_send('send_a', NULL, NULL, NULL)$$);

--
-- Transactions: a rolled-back send was never sent.
--
SELECT count(*) AS before FROM cmq_data.q_send_a \gset
BEGIN;
SELECT cmq_send('send_a', 'rolled back') > 0 AS sent;
SELECT pg_temp.receive('send_a') AS received_here;
ROLLBACK;
BEGIN;
SELECT cmq_send('send_a', 'a') AS a \gset
SAVEPOINT s;
SELECT cmq_send('send_a', 'b') AS b \gset
ROLLBACK TO s;
SELECT cmq_send('send_a', 'c') AS c \gset
SAVEPOINT s2;
SELECT cmq_send('send_a', 'd') AS d \gset
RELEASE s2;
COMMIT;
SELECT :a < :b AND :b < :c AND :c < :d AS ids_never_reused;
SELECT pg_temp.receive('send_a') AS received;
SELECT count(*) - :before AS messages FROM cmq_data.q_send_a;
-- an error later in the same statement takes the send along
SELECT pg_temp.attempt($$SELECT cmq_send('send_a', 'lost'), 1 / (2 - i) FROM generate_series(1, 2) i$$);
SELECT pg_temp.receive('send_a') AS received;

--
-- From everywhere: a query over a table, plpgsql, a trigger, a prepared statement.
--
SELECT count(DISTINCT id) AS sent, min(id) < max(id) AS increasing
  FROM (SELECT cmq_send('send_a', 'bulk ' || i) AS id FROM generate_series(1, 1000) i) s;
SELECT count(*) AS received, bool_and(body = 'bulk ' || ordinality) AS in_order,
	   bool_and(receive_count = 1 AND rewind_count = 0) AS first_time
  FROM cmq_receive('send_a', 1000) WITH ORDINALITY;
CREATE TABLE send_business (id int PRIMARY KEY, note text);
CREATE FUNCTION send_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM cmq_send('send_a', 'row ' || NEW.id, headers => to_jsonb(NEW));
	RETURN NEW;
END $$;
CREATE TRIGGER t AFTER INSERT ON send_business FOR EACH ROW EXECUTE FUNCTION send_trigger();
INSERT INTO send_business VALUES (1, 'x'), (2, 'y');
BEGIN;
INSERT INTO send_business VALUES (3, 'z');
ROLLBACK;
SELECT body, headers FROM cmq_receive('send_a', 100) WITH ORDINALITY ORDER BY ordinality;
DROP TABLE send_business;
DROP FUNCTION send_trigger();
DO $$
BEGIN
	FOR i IN 1..3 LOOP
		PERFORM cmq_send('send_a', 'loop ' || i);
		BEGIN
			PERFORM cmq_send('send_a', 'undone ' || i);
			RAISE EXCEPTION 'undo';
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT body FROM cmq_receive('send_a', 100) WITH ORDINALITY ORDER BY ordinality;
PREPARE send (text) AS SELECT cmq_send('send_a', $1) > 0 AS sent;
EXECUTE send ('prepared 1');
SELECT cmq_drop_queue('send_a');
SELECT cmq_create_queue('send_a');
EXECUTE send ('prepared 2');
SELECT pg_temp.receive('send_a') AS received;
DEALLOCATE send;

SELECT cmq_drop_queue('send_a');
SELECT cmq_drop_queue('send_b');
