-- Create, alter and drop queues.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

--
-- Create: defaults, and what is made.
--
SELECT cmq_create_queue('queue_a');
SELECT queue, owner = current_user AS mine, visibility_timeout, polling_wait_seconds,
	   msg_retention_seconds, rewind_seconds, max_msg_size,
	   create_time = last_modify_time AS unmodified,
	   create_time BETWEEN now() - interval '1 minute' AND clock_timestamp() AS created_now,
	   rewinding_from
  FROM cmq.queues WHERE queue LIKE 'queue\_%' ORDER BY queue;
SELECT relnamespace::regnamespace AS schema, relname, relkind FROM pg_class
 WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) AND relname ~ '^[qv]_queue_a'
   AND relkind IN ('r', 'p', 'v')
 ORDER BY relnamespace::regnamespace::text COLLATE "C", relname COLLATE "C";
-- three tables, each with a primary key over what the design says
SELECT conrelid::regclass AS "table", pg_get_constraintdef(oid) AS "primary key"
  FROM pg_constraint
 WHERE contype = 'p' AND conrelid IN ('cmq_data.q_queue_a'::regclass,
	   'cmq_data.q_queue_a_pending'::regclass, 'cmq_data.q_queue_a_rewind'::regclass)
 ORDER BY conrelid::regclass::text COLLATE "C";
-- columns, in order
SELECT c.relnamespace::regnamespace AS schema, c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) AS columns
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) AND c.relname ~ '^[qv]_queue_a'
   AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped
 GROUP BY c.oid ORDER BY c.relnamespace::regnamespace::text COLLATE "C", c.relname COLLATE "C";
-- there is a leaf pair for now, so that the first send finds one
SELECT count(*) > 0 AS has_leaves,
	   bool_or(lower <= now() AND now() < upper) AS covers_now
  FROM cmq.partition WHERE queue = 'queue_a';

-- every setting given
SELECT cmq_create_queue('queue_b', visibility_timeout => 1, polling_wait_seconds => 30,
	msg_retention_seconds => 60, rewind_seconds => 60, max_msg_size => 1024);
SELECT cmq_create_queue('queue_c', 43200, 0, 1296000, 1296000, 67108864);
SELECT queue, visibility_timeout, polling_wait_seconds, msg_retention_seconds,
	   rewind_seconds, max_msg_size
  FROM cmq.queues WHERE queue LIKE 'queue\_%' ORDER BY queue;

-- one row, void and not NULL
SELECT count(*) AS rows_for_create, count(c.*) AS not_null
  FROM cmq_create_queue('queue_d') c;
SELECT cmq_drop_queue('queue_d');

--
-- Out of range, at create.
--
SELECT settings, pg_temp.attempt(format('SELECT cmq_create_queue(%L, %s)', 'queue_x', settings))
  FROM (VALUES
	(1, 'visibility_timeout => 0'), (2, 'visibility_timeout => 43201'),
	(3, 'visibility_timeout => -1'), (4, 'visibility_timeout => NULL'),
	(5, 'polling_wait_seconds => -1'), (6, 'polling_wait_seconds => 31'),
	(7, 'polling_wait_seconds => NULL'),
	(8, 'msg_retention_seconds => 59'), (9, 'msg_retention_seconds => 1296001'),
	(10, 'msg_retention_seconds => NULL'),
	(11, 'rewind_seconds => -1'), (12, 'rewind_seconds => 345601'),
	(13, 'rewind_seconds => 61, msg_retention_seconds => 60'),
	(14, 'rewind_seconds => 1296001, msg_retention_seconds => 1296000'),
	(15, 'rewind_seconds => NULL'),
	(16, 'max_msg_size => 1023'), (17, 'max_msg_size => 67108865'),
	(18, 'max_msg_size => NULL')) v (n, settings)
 ORDER BY n;
SELECT count(*) AS made FROM pg_class WHERE relname LIKE '%queue\_x%';

--
-- Names.
--
SELECT n, name, octet_length(name) AS bytes,
	   pg_temp.attempt(format('SELECT cmq_create_queue(%L)', name)) AS created,
	   pg_temp.attempt(format('SELECT cmq_send(%L, ''hello'')', name)) AS sent,
	   pg_temp.attempt(format('SELECT cmq_drop_queue(%L)', name)) AS dropped
  FROM (VALUES
	(1, 'Z'), (2, repeat('q', 48)), (3, 'Order-Queue_7'), (4, 'a-'), (5, 'select'),
	(6, 'A_b-C_d-E'), (7, 'X' || repeat('-', 47))) v (n, name)
 ORDER BY n;
SELECT n, pg_temp.attempt(format('SELECT cmq_create_queue(%L)', name)) AS created
  FROM (VALUES
	(1, ''), (2, NULL), (3, repeat('q', 49)), (4, '1a'), (5, '_a'), (6, '-a'),
	(7, 'a b'), (8, 'a.b'), (9, 'a"b'), (10, 'a''b'), (11, 'a;b'), (12, E'a\nb'),
	(13, 'a$b'), (14, ' a'), (15, 'a '), (16, E'\tq')) v (n, name)
 ORDER BY n;
-- a letter outside ASCII is none of [A-Za-z]
SELECT pg_temp.attempt('SELECT cmq_create_queue(''ä'')') LIKE '22023: %' AS refused,
	   pg_temp.attempt('SELECT cmq_create_queue(''aé'')') LIKE '22023: %' AS refused;

-- taken, also when only the case differs
SELECT n, pg_temp.attempt(format('SELECT cmq_create_queue(%L)', name)) AS created
  FROM (VALUES (1, 'queue_a'), (2, 'Queue_A'), (3, 'QUEUE_A')) v (n, name) ORDER BY n;
-- a queue whose tables would be called like another queue's, either way round
SELECT n, pg_temp.attempt(format('SELECT cmq_create_queue(%L)', name)) AS created
  FROM (VALUES (1, 'queue_a_pending'), (2, 'queue_a_rewind'), (3, 'queue_a_live'),
			   (4, 'queue_a_history')) v (n, name) ORDER BY n;
SELECT cmq_create_queue('queue_y_pending');
SELECT pg_temp.attempt('SELECT cmq_create_queue(''queue_y'')');
SELECT cmq_drop_queue('queue_y_pending');
SELECT pg_temp.attempt('SELECT cmq_create_queue(''queue_y'')');
SELECT cmq_drop_queue('queue_y');
-- a relation of somebody else's in the way
CREATE VIEW cmq.q_queue_z_history AS SELECT 1 AS one;
SELECT pg_temp.attempt('SELECT cmq_create_queue(''queue_z'')');
DROP VIEW cmq.q_queue_z_history;
CREATE TABLE cmq_data.q_queue_z (one int);
SELECT pg_temp.attempt('SELECT cmq_create_queue(''queue_z'')');
DROP TABLE cmq_data.q_queue_z;
SELECT count(*) AS left_behind FROM pg_class WHERE relname LIKE '%queue\_z%';
-- names are exact in every other call
SELECT pg_temp.attempt('SELECT cmq_send(''Queue_A'', ''x'')') AS send,
	   pg_temp.attempt('SELECT cmq_drop_queue(''Queue_A'')') AS "drop";

--
-- Alter.
--
SELECT create_time AS created, last_modify_time AS modified
  FROM cmq.queues WHERE queue = 'queue_a' \gset
SELECT cmq_alter_queue('queue_a', visibility_timeout => 43200);
SELECT cmq_alter_queue('queue_a', polling_wait_seconds => 30);
SELECT cmq_alter_queue('queue_a', msg_retention_seconds => 1296000);
SELECT cmq_alter_queue('queue_a', rewind_seconds => 1296000);
SELECT cmq_alter_queue('queue_a', max_msg_size => 67108864);
SELECT visibility_timeout, polling_wait_seconds, msg_retention_seconds, rewind_seconds,
	   max_msg_size, create_time = :'created' AS create_time_kept,
	   last_modify_time > :'modified' AS modified
  FROM cmq.queues WHERE queue = 'queue_a';
-- several at once, to the other ends; NULL leaves as it is
SELECT cmq_alter_queue('queue_a', 1, 0, 60, 0, 1024);
SELECT visibility_timeout, polling_wait_seconds, msg_retention_seconds, rewind_seconds, max_msg_size
  FROM cmq.queues WHERE queue = 'queue_a';
SELECT cmq_alter_queue('queue_a', NULL, NULL, NULL, NULL, NULL);
SELECT cmq_alter_queue('queue_a');
SELECT visibility_timeout, polling_wait_seconds, msg_retention_seconds, rewind_seconds, max_msg_size
  FROM cmq.queues WHERE queue = 'queue_a';
-- out of range; rewind_seconds <= msg_retention_seconds is checked from both sides
SELECT settings, pg_temp.attempt(format('SELECT cmq_alter_queue(%L, %s)', 'queue_b', settings))
  FROM (VALUES
	(1, 'visibility_timeout => 0'), (2, 'visibility_timeout => 43201'),
	(3, 'polling_wait_seconds => -1'), (4, 'polling_wait_seconds => 31'),
	(5, 'msg_retention_seconds => 59'), (6, 'msg_retention_seconds => 1296001'),
	(7, 'rewind_seconds => -1'), (8, 'rewind_seconds => 61'),
	(9, 'max_msg_size => 1023'), (10, 'max_msg_size => 67108865'),
	(11, 'rewind_seconds => 120, msg_retention_seconds => 119'),
	(12, 'rewind_seconds => 120, msg_retention_seconds => 120'),
	(13, 'msg_retention_seconds => 119'),
	(14, 'visibility_timeout => 7, max_msg_size => 1'),
	(15, 'rewind_seconds => 60, msg_retention_seconds => 60')) v (n, settings)
 ORDER BY n;
-- one bad value changes none
SELECT visibility_timeout, polling_wait_seconds, msg_retention_seconds, rewind_seconds, max_msg_size
  FROM cmq.queues WHERE queue = 'queue_b';
SELECT pg_temp.attempt('SELECT cmq_alter_queue(''queue_x'', 1)') AS unknown,
	   pg_temp.attempt('SELECT cmq_alter_queue(NULL, 1)') AS "null",
	   pg_temp.attempt('SELECT cmq_alter_queue('''', 1)') AS empty;
-- the new default is used by the next receive, the new size by the next send
SELECT pg_temp.attempt($$SELECT cmq_send('queue_a', repeat('x', 1025))$$);
SELECT cmq_alter_queue('queue_a', max_msg_size => 1025, visibility_timeout => 500,
	msg_retention_seconds => 3600);
SELECT pg_temp.attempt($$SELECT cmq_send('queue_a', repeat('x', 1025))$$);
SELECT next_visible_at - first_received_at AS hidden_for FROM cmq_receive('queue_a');

--
-- Drop.
--
SELECT cmq_send('queue_b', 'one') > 0 AS sent;
SELECT cmq_drop_queue('queue_b');
SELECT count(*) AS relations FROM pg_class WHERE relname LIKE '%queue\_b%';
SELECT (SELECT count(*) FROM cmq.queue WHERE name = 'queue_b') AS queue_rows,
	   (SELECT count(*) FROM cmq.partition WHERE queue = 'queue_b') AS partition_rows;
SELECT pg_temp.attempt('SELECT cmq_drop_queue(''queue_b'')') AS again,
	   pg_temp.attempt('SELECT cmq_drop_queue(NULL)') AS "null",
	   pg_temp.attempt('SELECT cmq_send(''queue_b'', ''x'')') AS send;
-- the name is free again and the new queue is empty
SELECT cmq_create_queue('queue_b');
SELECT pg_temp.receive('queue_b') AS received, pg_temp.counts('queue_b');
SELECT cmq_drop_queue('queue_b');
-- something depends on it
SELECT cmq_send('queue_c', 'kept') > 0 AS sent;
CREATE VIEW queue_report AS SELECT count(*) FROM cmq.q_queue_c_history;
SELECT pg_temp.attempt('SELECT cmq_drop_queue(''queue_c'')');
SELECT pg_temp.consume('queue_c');
DROP VIEW queue_report;
SELECT cmq_drop_queue('queue_c');

--
-- Transactions.
--
BEGIN;
SELECT cmq_create_queue('queue_t', rewind_seconds => 3600);
SELECT cmq_send('queue_t', 'never') > 0 AS sent;
ROLLBACK;
SELECT count(*) AS relations FROM pg_class WHERE relname LIKE '%queue\_t%';
SELECT pg_temp.attempt('SELECT cmq_send(''queue_t'', ''x'')');

-- the whole life in one transaction
BEGIN;
SELECT cmq_create_queue('queue_t', rewind_seconds => 3600);
SELECT cmq_send('queue_t', 'a') > 0 AS sent;
SELECT count(*) AS sent FROM cmq_send_batch('queue_t', '{b,c}');
SELECT pg_temp.consume('queue_t') AS consumed;
SELECT cmq_rewind('queue_t', pg_temp.produced('queue_t', 'b')) = pg_temp.produced('queue_t', 'b') AS rewound;
SELECT pg_temp.consume('queue_t') AS consumed;
SELECT pg_temp.history('queue_t') AS history, pg_temp.counts('queue_t');
SELECT cmq_alter_queue('queue_t', rewind_seconds => 0);
SELECT pg_temp.counts('queue_t');
SELECT cmq_drop_queue('queue_t');
COMMIT;
SELECT count(*) AS relations FROM pg_class WHERE relname LIKE '%queue\_t%';

-- savepoints: create, alter and drop, each undone and done
BEGIN;
SAVEPOINT s;
SELECT cmq_create_queue('queue_t');
ROLLBACK TO s;
SELECT pg_temp.attempt('SELECT cmq_send(''queue_t'', ''x'')');
SELECT cmq_create_queue('queue_t', visibility_timeout => 11);
SELECT cmq_send('queue_t', 'a') > 0 AS sent;
SAVEPOINT s;
SELECT cmq_alter_queue('queue_t', visibility_timeout => 22, max_msg_size => 1024);
SELECT visibility_timeout FROM cmq_queue_attributes('queue_t');
ROLLBACK TO s;
SELECT visibility_timeout FROM cmq_queue_attributes('queue_t');
SELECT pg_temp.attempt($$SELECT cmq_send('queue_t', repeat('x', 1025))$$);
SAVEPOINT s;
SELECT cmq_drop_queue('queue_t');
SELECT pg_temp.attempt('SELECT cmq_receive(''queue_t'')');
SELECT cmq_create_queue('queue_t', visibility_timeout => 33);
SELECT cmq_send('queue_t', 'another life') > 0 AS sent;
ROLLBACK TO s;
SELECT next_visible_at - first_received_at AS hidden_for, body FROM cmq_receive('queue_t');
COMMIT;
BEGIN;
SELECT cmq_drop_queue('queue_t');
ROLLBACK;
SELECT octet_length(body) AS bytes FROM cmq_receive('queue_t');
SELECT cmq_drop_queue('queue_t');

-- from plpgsql: create and drop in a loop
DO $$
BEGIN
	FOR i IN 1..5 LOOP
		PERFORM cmq_create_queue('queue_loop');
		PERFORM cmq_send('queue_loop', 'round ' || i);
		IF (SELECT body FROM cmq_receive('queue_loop')) <> 'round ' || i THEN
			RAISE EXCEPTION 'wrong message in round %', i;
		END IF;
		PERFORM cmq_drop_queue('queue_loop');
	END LOOP;
END $$;

--
-- The extension itself: other schema, and dropping it takes the queues along.
--
SELECT cmq_send('queue_a', 'survivor') > 0 AS sent;
BEGIN;
DROP EXTENSION cmq CASCADE;
SELECT count(*) AS left_behind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('cmq', 'cmq_data');
SELECT count(*) AS left_behind FROM pg_proc WHERE proname LIKE 'cmq\_%';
CREATE SCHEMA queue_elsewhere;
CREATE EXTENSION cmq SCHEMA queue_elsewhere;
SELECT count(DISTINCT pronamespace::regnamespace::text) AS schemas,
	   min(pronamespace::regnamespace::text) AS the_schema
  FROM pg_proc WHERE proname LIKE 'cmq\_%';
SELECT queue_elsewhere.cmq_create_queue('queue_e');
SELECT queue_elsewhere.cmq_send('queue_e', 'hello') > 0 AS sent;
SELECT body FROM queue_elsewhere.cmq_receive('queue_e');
ROLLBACK;
SELECT body FROM cmq_receive('queue_a');
SELECT visibility_timeout FROM cmq_queue_attributes('queue_a');
SELECT cmq_drop_queue('queue_a');
SELECT count(*) AS queues_left FROM cmq.queues WHERE queue LIKE 'queue\_%';
