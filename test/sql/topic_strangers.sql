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

SET client_min_messages = warning;
SELECT cmq_drop_queue(q) FROM unnest('{ts_a,ts_b}'::text[]) q;
SELECT cmq_drop_topic(t) FROM unnest('{ts_t}'::text[]) t;
REVOKE USAGE, CREATE ON SCHEMA cmq, cmq_data FROM regress_ts_victim, regress_ts_stranger;
DROP ROLE regress_ts_victim, regress_ts_stranger;
