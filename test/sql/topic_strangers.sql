-- Topics whose queues have different owners: none of them does anything to the queues of
-- another one, or to messages there.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_ts_victim;
CREATE ROLE regress_ts_stranger;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_ts_victim, regress_ts_stranger;
SET ROLE regress_ts_victim;
SELECT cmq_create_queue('ts_a', rewind_seconds => 3600), cmq_create_queue('ts_b'), cmq_create_topic('ts_t');
SELECT cmq_subscribe('ts_t', q, q) FROM unnest('{ts_a,ts_b}'::text[]) q;
GRANT SELECT ON cmq.t_ts_t TO regress_ts_stranger;
RESET ROLE;

--
-- The owner of a queue moves its clock, by rows with times to come.  That clock moves no
-- other one: else all that waits there would have expired.
--
SET ROLE regress_ts_stranger;
SELECT cmq_create_queue('ts_ahead', rewind_seconds => 3600);
SELECT cmq_subscribe('ts_t', 'ahead' || n, 'ts_ahead') FROM generate_series(1, 2) n;
CREATE TRIGGER mine AFTER INSERT ON cmq_data.q_ts_ahead_rewind FOR EACH ROW EXECUTE FUNCTION cmq._row_changed('ts_ahead');
INSERT INTO cmq_data.q_ts_ahead_rewind (enqueued_at, deleted_at, deleted_by, receive_count, rewind_count, deleted_xact)
	VALUES (cmq._clock('ts_ahead'), cmq._clock('ts_ahead') + interval '1000 years', 'x', 1, 0, 1);
RESET ROLE;
SET ROLE regress_ts_victim;
SELECT cmq_send('ts_a', 'before') > 0 AS sent;
SELECT queue, cmq.enqueued_at(msg_id) > now() + interval '1 year' AS ahead FROM cmq_publish('ts_t', 'published') ORDER BY 1, msg_id;
SELECT queue, cmq.enqueued_at(msg_id) > now() + interval '1 year' AS ahead FROM cmq_publish_batch('ts_t', '{x,y}') ORDER BY 1, msg_id;
SELECT body FROM cmq_receive('ts_a', 10);
-- stored once for the others, with one id
SELECT body, queues FROM cmq_data.j_ts_t ORDER BY enqueued_at;
SELECT count(*), count(DISTINCT msg_id) AS ids FROM cmq_publish('ts_t', 'z') WHERE queue IN ('ts_a', 'ts_b');
RESET ROLE;
SET ROLE regress_ts_stranger;
SELECT body FROM cmq_receive('ts_ahead', 10);
SELECT cmq_drop_queue('ts_ahead');
RESET ROLE;

--
-- A queue that was dropped while the journal had another name: one that gets its name reads
-- nothing of its messages.
--
CREATE ROLE regress_ts_topics;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_ts_topics;
SET ROLE regress_ts_topics;
SELECT cmq_create_topic('ts_o'), cmq_create_topic('ts_p');
GRANT SELECT, INSERT ON cmq.t_ts_o, cmq.t_ts_p TO regress_ts_victim, regress_ts_stranger;
SET ROLE regress_ts_victim;
SELECT cmq_create_queue('ts_gone');
SELECT cmq_subscribe(t, q, q) FROM unnest('{ts_o,ts_p}'::text[]) t, unnest('{ts_a,ts_gone}'::text[]) q;
SELECT msg_id AS secret FROM cmq_publish('ts_o', 'secret') LIMIT 1 \gset
SET ROLE regress_ts_topics;
ALTER TABLE cmq_data.j_ts_o RENAME TO j_ts_x;
SET ROLE regress_ts_victim;
SELECT cmq_drop_queue('ts_gone');
SET ROLE regress_ts_topics;
ALTER TABLE cmq_data.j_ts_x RENAME TO j_ts_o;
SET ROLE regress_ts_stranger;
SELECT cmq_create_queue('ts_gone');
INSERT INTO cmq_data.q_ts_gone_pending (visible_at, enqueued_at, receive_count, rewind_count, topic)
	VALUES (cmq.enqueued_at(:secret), cmq.enqueued_at(:secret), 0, 0, 'ts_o');
SELECT body FROM cmq_receive('ts_gone', 10);
SELECT headers, body FROM cmq.q_ts_gone_live;
SELECT cmq_clear_queue('ts_gone') IS NOT NULL AS cleared;
RESET ROLE;
-- that says nothing of the journals of other topics
SELECT queue, journal, since IS NOT NULL AS since FROM cmq.receiver WHERE queue = 'ts_gone' ORDER BY 2;
UPDATE cmq.receiver SET since = since + interval '1 hour' WHERE queue = 'ts_gone' AND journal = '>ts_o';
SET ROLE regress_ts_stranger;
SELECT cmq_subscribe('ts_p', 'gone', 'ts_gone');
SET ROLE regress_ts_victim;
SELECT count(*) FROM cmq_publish('ts_p', 'new');
SET ROLE regress_ts_stranger;
SELECT body FROM cmq_receive('ts_gone', 10);
SELECT cmq_drop_queue('ts_gone');
RESET ROLE;

--
-- A topic is gone, and queues still have messages in its journal.  Who drops them needs no
-- right on that, whatever its owner has done to it.
--
SET ROLE regress_ts_topics;
SELECT cmq_unsubscribe(topic, subscription) FROM cmq.subscriptions;
SELECT cmq_drop_topic('ts_o'), cmq_drop_topic('ts_p');
SET ROLE regress_ts_victim;
SELECT body FROM cmq_receive('ts_a', 10) ORDER BY msg_id DESC LIMIT 2;
SELECT cmq_drop_queue('ts_a');
SET ROLE regress_ts_topics;
SELECT count(*) FROM pg_class WHERE relname LIKE 'j\_ts\_o';
-- what was damaged when its topic was dropped stays, and keeps the name
SELECT cmq_create_topic('ts_o');
ALTER TABLE cmq_data.j_ts_o RENAME TO j_ts_x;
SELECT cmq_drop_topic('ts_o');
SELECT pg_temp.attempt($$SELECT cmq_create_topic('ts_o')$$);
ALTER TABLE cmq_data.j_ts_x RENAME TO j_ts_o;
SELECT cmq_create_topic('ts_o');
SELECT cmq_drop_topic('ts_o');
SELECT count(*) FROM pg_class WHERE relname LIKE 'j\_ts\_o';
-- a table that has taken the name of a journal keeps nobody from a drop
SELECT cmq_create_topic('ts_o');
DROP TABLE cmq_data.j_ts_o;
SET ROLE regress_ts_stranger;
CREATE TABLE cmq_data.j_ts_o (enqueued_at timestamptz, queues text[]) PARTITION BY RANGE (enqueued_at);
SET ROLE regress_ts_topics;
SELECT cmq_drop_topic('ts_o');
SET ROLE regress_ts_stranger;
DROP TABLE cmq_data.j_ts_o;
-- the error says what to do
SET ROLE regress_ts_topics;
SELECT cmq_create_topic('ts_o');
SELECT cmq_create_queue('ts_1'), cmq_create_queue('ts_2');
SELECT cmq_subscribe('ts_o', q, q) FROM unnest('{ts_1,ts_2}'::text[]) q;
SELECT count(*) FROM cmq_publish('ts_o', 'lost');
ALTER TABLE cmq_data.j_ts_o DROP COLUMN queues;
SELECT regexp_replace(line, '[0-9]{12}', 'TIME') AS line FROM pg_temp.complaint($$SELECT cmq_publish('ts_o', 'x')$$);
SELECT body FROM cmq_receive('ts_1', 10);
SELECT cmq_drop_queue(q) FROM unnest('{ts_1,ts_2}'::text[]) q;
SELECT cmq_drop_topic('ts_o');
SELECT count(*) FROM pg_class WHERE relname LIKE 'j\_ts\_o';
RESET ROLE;

SET client_min_messages = warning;
SELECT cmq_drop_queue(q) FROM unnest('{ts_b}'::text[]) q;
SELECT cmq_drop_topic(t) FROM unnest('{ts_t}'::text[]) t;
SELECT cmq_maintain();
REVOKE USAGE, CREATE ON SCHEMA cmq, cmq_data FROM regress_ts_victim, regress_ts_stranger, regress_ts_topics;
DROP ROLE regress_ts_victim, regress_ts_stranger, regress_ts_topics;
