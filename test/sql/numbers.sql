-- The tables of cmq know relations by their numbers.  A dump that is made when such
-- a relation is gone, or an owner, can leave numbers that are another relation's:
-- nothing is done to that one, and nothing of it is shown.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_numbers;
CREATE ROLE regress_numbers_reader;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_numbers;
GRANT USAGE ON SCHEMA cmq TO regress_numbers_reader;
CREATE SCHEMA bob;
CREATE TABLE bob.ledger AS SELECT 1 AS id;
CREATE TABLE bob.ledger2 AS SELECT 2 AS id;
CREATE VIEW bob.published AS SELECT 3 AS id;
GRANT SELECT ON bob.published TO PUBLIC;

--
-- Partitions
--
SET ROLE regress_numbers;
SELECT cmq_create_queue('num', msg_retention_seconds => 3600, rewind_seconds => 3600);
RESET ROLE;
INSERT INTO cmq.partition (queue, lower, upper, messages, rewind)
VALUES ('num', now() - interval '3 days', now() - interval '2 days', 'bob.ledger', 'bob.ledger2'),
	   ('num', now() - interval '4 days', now() - interval '3 days', 1, 2);
SELECT cmq_alter_queue('num', visibility_timeout => 31);
SELECT cmq_maintain('num');
SELECT id FROM bob.ledger UNION SELECT id FROM bob.ledger2 ORDER BY 1;
-- what exists nowhere is forgotten
SELECT messages, rewind FROM cmq.partition WHERE queue = 'num' AND upper < now();
DELETE FROM cmq.partition WHERE queue = 'num' AND upper < now();

-- a partition that its owner keeps is no longer the queue's, whatever its time
SELECT cmq_send('num', 'kept') > 0 AS sent;
SELECT messages AS leaf, rewind AS rewind_leaf FROM cmq.partition WHERE queue = 'num' AND now() >= lower AND now() < upper \gset
ALTER TABLE cmq_data.q_num DETACH PARTITION :leaf;
ALTER TABLE cmq_data.q_num_rewind DETACH PARTITION :rewind_leaf;
ALTER TABLE :leaf RENAME TO archive;
ALTER TABLE :rewind_leaf RENAME TO archive_rewind;
ALTER TABLE cmq_data.archive SET SCHEMA bob;
UPDATE cmq.partition SET lower = lower - interval '3 days', upper = upper - interval '3 days' WHERE messages = 'bob.archive'::regclass;
SELECT cmq_alter_queue('num', visibility_timeout => 32);
SELECT cmq_maintain('num');
SELECT body FROM bob.archive;
SELECT cmq_drop_queue('num');
SELECT body FROM bob.archive;
DROP TABLE bob.archive, cmq_data.archive_rewind;

--
-- The tables of a queue
--
SET ROLE regress_numbers;
SELECT cmq_create_queue('num');
RESET ROLE;
UPDATE cmq.queue SET messages = 'bob.ledger', pending = 'bob.ledger2' WHERE name = 'num';
SELECT cmq_alter_queue('num', visibility_timeout => 33);
SET client_min_messages = notice;
SELECT cmq_drop_queue('num');
SET client_min_messages = warning;
SELECT id FROM bob.ledger UNION SELECT id FROM bob.ledger2 ORDER BY 1;
SELECT relname FROM pg_class WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) AND relname ~ '^[qv]_num' ORDER BY 1;
DROP TABLE cmq_data.q_num, cmq_data.q_num_pending CASCADE;

--
-- The relation that carries the rights, and a topic's
--
SET ROLE regress_numbers;
SELECT cmq_create_queue('num');
SELECT cmq_create_topic('numt', 'tag');
SELECT cmq_subscribe('numt', 's', 'num');
RESET ROLE;
INSERT INTO cmq.rewind_log (queue, queue_create_time, kind, called_at, session_user_name, current_user_name, reason)
SELECT name, create_time, 'cancel', now(), 'x', 'x', 'secret' FROM cmq.queue WHERE name = 'num';
UPDATE cmq.queue SET rights = 'bob.published' WHERE name = 'num';
UPDATE cmq.topic SET relation = 'bob.published' WHERE name = 'numt';
SET ROLE regress_numbers_reader;
SELECT queue FROM cmq.queues;
SELECT topic FROM cmq.topics;
SELECT topic, queue FROM cmq.subscriptions;
SELECT reason FROM cmq.rewinds;
SELECT pg_temp.attempt($$SELECT cmq_drop_topic('numt')$$), pg_temp.attempt($$SELECT cmq_drop_queue('num')$$);
RESET ROLE;
SELECT cmq_unsubscribe('numt', 's');
SELECT cmq_drop_topic('numt');
SELECT cmq_drop_queue('num');
SELECT id FROM bob.published;
DELETE FROM cmq.rewind_log WHERE reason = 'secret';
DROP VIEW IF EXISTS cmq.t_numt;
DROP VIEW IF EXISTS cmq.q_num CASCADE;

--
-- A view of one queue whose name is that of another queue's relation
--
SET ROLE regress_numbers;
SELECT cmq_create_queue('num');
SET client_min_messages = error;
DROP VIEW cmq.q_num_live CASCADE;
SET client_min_messages = warning;
SELECT cmq_create_queue('num_live');
SELECT cmq_drop_queue('num');
SELECT cmq_send('num_live', 'x') > 0 AS sent;
SELECT cmq_drop_queue('num_live');
RESET ROLE;

--
-- A binding of dead letters is ended by the owner of the dead-letter queue, also when
-- the source is damaged.
--
GRANT CREATE ON SCHEMA cmq, cmq_data TO regress_numbers_reader;
GRANT USAGE ON SCHEMA cmq_data TO regress_numbers_reader;
SET ROLE regress_numbers_reader;
SELECT cmq_create_queue('num_dead');
GRANT INSERT ON cmq.q_num_dead TO regress_numbers;
RESET ROLE;
SET ROLE regress_numbers;
SELECT cmq_create_queue('num_bait', dead_letter_queue => 'num_dead', max_receive_count => 1);
ALTER VIEW cmq.q_num_bait RENAME TO x;
RESET ROLE;
SET ROLE regress_numbers_reader;
SELECT queue, dead_letter_queue FROM cmq.queues ORDER BY 1;
SELECT pg_temp.attempt($$SELECT cmq_drop_queue('num_dead')$$);
SELECT cmq_unbind_dead_letter('num_bait');
RESET ROLE;
SET ROLE regress_numbers;
SELECT pg_temp.attempt($$SELECT cmq_unbind_dead_letter('num_bait')$$) AS its_own;
ALTER VIEW cmq.x RENAME TO q_num_bait;
SELECT cmq_drop_queue('num_bait');
RESET ROLE;
SET ROLE regress_numbers_reader;
SELECT cmq_drop_queue('num_dead');
RESET ROLE;

DROP SCHEMA bob CASCADE;
DROP OWNED BY regress_numbers, regress_numbers_reader;
DROP ROLE regress_numbers, regress_numbers_reader;
SELECT count(*) AS queues_left FROM cmq.queue WHERE name LIKE 'num%';
