-- Relations that were dropped by hand take what is known of their queue or topic along;
-- and relations without a row, as a restore of the schema alone leaves them, are told
-- of, and can be dropped.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_gone_a;
CREATE ROLE regress_gone_b;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_gone_a, regress_gone_b;

--
-- DROP OWNED BY the owner of a subscribed queue, a dead-letter queue and a topic.
--
SET ROLE regress_gone_a;
SELECT cmq_create_queue('gone_a'), cmq_create_queue('gone_sink'), cmq_create_topic('gone_at');
SELECT cmq_send('gone_a', 'a') > 0 AS sent;
RESET ROLE;
GRANT INSERT ON cmq.q_gone_sink TO regress_gone_b;
GRANT SELECT ON cmq.t_gone_at TO regress_gone_b;
SELECT cmq_create_topic('gone_t');
GRANT SELECT ON cmq.t_gone_t TO regress_gone_a, regress_gone_b;
SET ROLE regress_gone_a;
SELECT cmq_subscribe('gone_t', 'a', 'gone_a');
SET ROLE regress_gone_b;
SELECT cmq_create_queue('gone_b', visibility_timeout => 43200, dead_letter_queue => 'gone_sink', max_receive_count => 1);
SELECT cmq_subscribe('gone_t', 'b', 'gone_b'), cmq_subscribe('gone_at', 'b', 'gone_b');
RESET ROLE;
SELECT queue FROM cmq_publish('gone_t', '1') ORDER BY 1;
SELECT count(cmq_change_visibility('gone_b', receipt_handle, 0)) AS dead FROM cmq_receive('gone_b');

-- undone, all is as before
BEGIN;
SET LOCAL client_min_messages = error;
DROP OWNED BY regress_gone_a;
SELECT queue FROM cmq_publish('gone_t', '2') ORDER BY 1;
SELECT cmq_create_queue('gone_a');
SELECT cmq_maintain();
SELECT pg_temp.receive('gone_a');
ROLLBACK;
SELECT queue FROM cmq_publish('gone_t', '3') ORDER BY 1;
SELECT dead_letter_queue FROM cmq.queues WHERE queue = 'gone_b';

SET client_min_messages = error;
DROP OWNED BY regress_gone_a;
RESET client_min_messages;
SET client_min_messages = warning;
SELECT name FROM cmq.queue WHERE name LIKE 'gone%' ORDER BY 1;
-- the others get what is published
SELECT queue FROM cmq_publish('gone_t', '4') ORDER BY 1;
SELECT queue FROM cmq.queues WHERE queue LIKE 'gone%' ORDER BY 1;
SELECT topic FROM cmq.topics WHERE topic LIKE 'gone%';
SELECT topic, queue FROM cmq.subscriptions WHERE topic LIKE 'gone%' ORDER BY 1, 2;
SELECT c.command, e.line FROM (VALUES (1, $$SELECT cmq_send('gone_a', 'x')$$), (2, $$SELECT cmq_receive('gone_a')$$), (3, $$SELECT cmq_maintain('gone_a')$$),
	(4, $$SELECT cmq_publish('gone_at', 'x')$$), (5, $$SELECT cmq_drop_topic('gone_at')$$), (6, $$SELECT cmq_subscribe('gone_at', 'c', 'gone_b')$$),
	(7, $$SELECT cmq_alter_queue('gone_b', dead_letter_queue => 'gone_a')$$)) c (n, command), LATERAL pg_temp.complaint(c.command) e
 WHERE e.line <> '' ORDER BY n;
-- its letters have nowhere to go
SELECT pg_temp.receive('gone_b');
-- The names are free, for anyone.  Nobody's messages come with them: neither what is
-- published nor dead letters.
SET ROLE regress_gone_b;
SELECT cmq_create_queue('gone_A'), cmq_create_queue('gone_sink'), cmq_create_topic('gone_at');
GRANT INSERT ON cmq.q_gone_sink TO PUBLIC;
SELECT count(*) FROM cmq_publish('gone_at', 'x');
SELECT cmq_subscribe('gone_t', 'a', 'gone_b');
RESET ROLE;
SELECT queue FROM cmq_publish('gone_t', '5', NULL) ORDER BY 1;
SELECT name, dead_letter_queue FROM cmq.queue WHERE name LIKE 'gone%' ORDER BY 1;
SELECT name, queue FROM cmq.subscription WHERE topic LIKE 'gone%' ORDER BY 1;
-- what was dead is ready
SELECT pg_temp.receive('gone_b');
SELECT cmq_maintain();
SELECT pg_temp.live('gone_sink'), pg_temp.live('gone_A');
SELECT pg_temp.attempt($$SELECT cmq_create_queue('gone_a')$$);

-- Maintenance forgets what nobody creates anew; for who looks after the extension.
SET ROLE regress_gone_b;
SELECT cmq_create_topic('gone_bt');
SELECT cmq_subscribe('gone_bt', 's', 'gone_b'), cmq_subscribe('gone_bt', 's2', 'gone_A');
SELECT cmq_alter_queue('gone_b', dead_letter_queue => 'gone_sink', max_receive_count => 1);
SELECT cmq_alter_queue('gone_A', dead_letter_queue => 'gone_sink', max_receive_count => 1);
SET client_min_messages = error;
DROP TABLE cmq_data.q_gone_sink, cmq_data.q_gone_sink_pending, cmq_data.q_gone_sink_rewind, cmq_data."q_gone_A", cmq_data."q_gone_A_pending", cmq_data."q_gone_A_rewind" CASCADE;
DROP VIEW cmq.q_gone_sink, cmq."q_gone_A", cmq.t_gone_bt CASCADE;
SET client_min_messages = warning;
SELECT cmq_maintain();
RESET ROLE;
SELECT name FROM cmq.queue WHERE name LIKE 'gone%' ORDER BY 1;
SELECT cmq_maintain();
SELECT name, dead_letter_queue FROM cmq.queue WHERE name LIKE 'gone%' ORDER BY 1;
SELECT topic, name FROM cmq.subscription WHERE topic LIKE 'gone%' ORDER BY 1, 2;
SELECT name FROM cmq.topic WHERE name LIKE 'gone%' ORDER BY 1;
SELECT count(*) FROM cmq.partition WHERE queue IN ('gone_A', 'gone_sink');

--
-- Part of a queue is dropped.
--
SET ROLE regress_gone_b;
SELECT cmq_create_queue('gone_p');
SELECT cmq_alter_queue('gone_b', dead_letter_queue => 'gone_p', max_receive_count => 1);
SET client_min_messages = error;
DROP TABLE cmq_data.q_gone_p_pending CASCADE;
SET client_min_messages = warning;
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('gone_p', 'x')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_create_queue('gone_p')$$);
RESET ROLE;
-- maintenance leaves it alone, but letters go there no more
SELECT cmq_maintain();
SELECT name, dead_letter_queue FROM cmq.queue WHERE name IN ('gone_b', 'gone_p') ORDER BY 1;
CREATE ROLE regress_gone_c;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_gone_c;
SET ROLE regress_gone_c;
SELECT pg_temp.attempt($$SELECT cmq_drop_queue('gone_p')$$);
SET ROLE regress_gone_b;
SELECT cmq_drop_queue('gone_p');
-- what carries the rights is dropped: the owner of the rest is known
SELECT cmq_create_queue('gone_p');
SET client_min_messages = error;
DROP VIEW cmq.q_gone_p CASCADE;
SET client_min_messages = warning;
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('gone_p', 'x')$$);
SET ROLE regress_gone_c;
SELECT pg_temp.attempt($$SELECT cmq_drop_queue('gone_p')$$);
SET ROLE regress_gone_b;
SELECT cmq_drop_queue('gone_p');
SELECT cmq_create_queue('gone_p');
-- what was renamed is not gone
ALTER TABLE cmq_data.q_gone_p_pending RENAME TO elsewhere;
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('gone_p', 'x')$$);
SELECT pg_temp.attempt($$SELECT cmq_create_queue('gone_p')$$);
ALTER TABLE cmq_data.elsewhere RENAME TO q_gone_p_pending;
SELECT cmq_send('gone_p', 'x') > 0 AS sent;
RESET ROLE;

--
-- Relations without a row.
--
DELETE FROM cmq.queue WHERE name = 'gone_p';
SELECT pg_temp.reload('gone_p');

SET ROLE regress_gone_b;
SELECT cmq_create_topic('gone_o');
RESET ROLE;
DELETE FROM cmq.topic WHERE name = 'gone_o';
SET ROLE regress_gone_c;
SELECT c.command, e.line FROM (VALUES (1, $$SELECT cmq_send('gone_p', 'x')$$), (2, $$SELECT cmq_create_queue('gone_p')$$), (3, $$SELECT cmq_drop_queue('gone_p')$$),
	(4, $$SELECT cmq_publish('gone_o', 'x')$$), (5, $$SELECT cmq_create_topic('gone_o')$$), (6, $$SELECT cmq_drop_topic('gone_o')$$)) c (n, command), LATERAL pg_temp.complaint(c.command) e
 WHERE e.line <> '' ORDER BY n;
SET ROLE regress_gone_b;
SELECT cmq_drop_queue('gone_p'), cmq_drop_topic('gone_o');
SELECT relname FROM pg_class WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) AND relname ~ 'gone_[op]';
SELECT cmq_create_queue('gone_p'), cmq_create_topic('gone_o');
SELECT pg_temp.attempt($$SELECT cmq_send('gone_p', 'x')$$), pg_temp.attempt($$SELECT cmq_publish('gone_o', 'x')$$);
-- A relation of a queue that has its row is not taken for another's without one.
SELECT n, pg_temp.attempt(format('SELECT cmq_drop_queue(%L)', n)) AS drop, pg_temp.attempt(format('SELECT cmq_create_queue(%L)', n)) AS create
  FROM unnest('{gone_p_pending,gone_p_rewind,gone_p_live,gone_p_history,gone_p_all}'::text[]) n;
RESET ROLE;
DELETE FROM cmq.queue WHERE name = 'gone_p';
SELECT pg_temp.reload('gone_p');
SELECT n, pg_temp.attempt(format('SELECT cmq_drop_queue(%L)', n)) AS drop, pg_temp.attempt(format('SELECT cmq_create_queue(%L)', n)) AS create
  FROM unnest('{gone_p_pending,gone_p_rewind,gone_p_live,gone_p_history,gone_p_all}'::text[]) n;
SELECT cmq_drop_queue('gone_p');
SELECT cmq_drop_topic('gone_o');
SELECT cmq_unsubscribe('gone_t', name) FROM cmq.subscription WHERE topic = 'gone_t';
SELECT cmq_drop_topic('gone_t'), cmq_drop_topic('gone_at'), cmq_drop_queue('gone_b');
SELECT name FROM cmq.queue WHERE name LIKE 'gone%' UNION ALL SELECT name FROM cmq.topic WHERE name LIKE 'gone%';
DROP OWNED BY regress_gone_a, regress_gone_b, regress_gone_c;
DROP ROLE regress_gone_a, regress_gone_b, regress_gone_c;
