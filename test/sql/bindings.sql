-- A dead-letter binding between two owners: it ends with the right that it rests
-- on, obeys the limits of its target, is seen and can be ended by both sides, and
-- gives neither of them a way to stop the other.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_bind_source;
CREATE ROLE regress_bind_target;
CREATE ROLE regress_bind_operator;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_bind_source, regress_bind_target;
GRANT USAGE ON SCHEMA cmq TO regress_bind_operator;
SET ROLE regress_bind_target;
SELECT cmq_create_queue('sink', rewind_seconds => 3600);
GRANT INSERT ON cmq.q_sink TO regress_bind_source;
RESET ROLE;
SET ROLE regress_bind_source;
SELECT cmq_create_queue('bait', visibility_timeout => 600, dead_letter_queue => 'sink', max_receive_count => 1);
RESET ROLE;
-- both sides see it; the other settings are the source's
SET ROLE regress_bind_target;
SELECT queue, owner, dead_letter_queue, visibility_timeout, max_receive_count FROM cmq.queues WHERE queue IN ('bait', 'sink') ORDER BY 1;
SELECT pg_temp.attempt($$SELECT cmq_alter_queue('bait', max_receive_count => 5)$$);
-- and both can end it
SELECT cmq_unbind_dead_letter('bait');
SELECT queue FROM cmq.queues WHERE queue = 'bait';
SELECT pg_temp.attempt($$SELECT cmq_unbind_dead_letter('bait')$$) AS nothing_of_ours;
RESET ROLE;
SET ROLE regress_bind_operator;
SELECT pg_temp.attempt($$SELECT cmq_unbind_dead_letter('bait')$$) AS nobody_else;
RESET ROLE;
SET ROLE regress_bind_source;
SELECT cmq_alter_queue('bait', dead_letter_queue => 'sink', max_receive_count => 1);
RESET ROLE;

--
-- Code of the target's owner never runs in a receive or in cmq_maintain().
--
-- (a sequence keeps what an error rolls back)
CREATE SEQUENCE bind_seen;
GRANT USAGE ON SEQUENCE bind_seen TO PUBLIC;
CREATE SCHEMA bind AUTHORIZATION regress_bind_target;
SET ROLE regress_bind_target;
CREATE FUNCTION bind.at_work() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.bind_seen'); RAISE SQLSTATE '40001'; END $$;
CREATE FUNCTION bind.trap(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM bind.at_work(); RETURN 1; END $$;
CREATE INDEX trap ON cmq_data.q_sink (bind.trap(body));
RESET ROLE;
SELECT cmq_send('bait', 'poison') > 0 AS sent;
SELECT pg_temp.receive('bait');
UPDATE cmq_data.q_bait_pending SET visible_at = enqueued_at;
SELECT cmq_send('bait', 'good') > 0 AS sent;
SET ROLE regress_bind_source;
SELECT pg_temp.receive('bait', 1) AS the_good_one;
SELECT cmq_maintain('bait');
RESET ROLE;
SELECT pg_temp.live('bait'), pg_temp.live('sink');
SELECT is_called AS seen FROM bind_seen;
-- it does run, and fails, in a send to the queue
SET ROLE regress_bind_target;
SELECT pg_temp.attempt($$SELECT cmq_send('sink', 'x')$$);
RESET ROLE;
SELECT is_called AS seen FROM bind_seen;
DROP INDEX cmq_data.trap;
-- nor does it help to damage the dead-letter queue
SET ROLE regress_bind_target;
ALTER TABLE cmq_data.q_sink_pending RENAME TO away;
RESET ROLE;
SELECT cmq_send('bait', 'good too') > 0 AS sent;
SET ROLE regress_bind_source;
SELECT pg_temp.receive('bait', 1) AS the_good_one;
SELECT pg_temp.receive('bait', 1) AS no_second_warning;
SELECT pg_temp.attempt($$SELECT cmq_maintain('bait')$$);
SELECT pg_temp.attempt($$SELECT cmq_redrive('sink')$$);
RESET ROLE;
ALTER TABLE cmq_data.away RENAME TO q_sink_pending;

--
-- A binding without its right moves nothing.  (Of one owner, so that a receive and
-- cmq_maintain() move.)
--
SET ROLE regress_bind_target;
SELECT cmq_create_queue('own', visibility_timeout => 600, dead_letter_queue => 'sink', max_receive_count => 1);
SELECT cmq_send('own', 'o1') > 0 AS sent;
SELECT pg_temp.receive('own');
REVOKE INSERT ON cmq.q_sink FROM regress_bind_target;
RESET ROLE;
UPDATE cmq_data.q_own_pending SET visible_at = enqueued_at;
SELECT pg_temp.receive('own');
SELECT cmq_maintain('own');
SELECT pg_temp.live('own'), pg_temp.live('sink');
SET ROLE regress_bind_target;
GRANT INSERT ON cmq.q_sink TO regress_bind_target;
RESET ROLE;
SELECT cmq_maintain('own');
SELECT pg_temp.live('own'), pg_temp.live('sink');

--
-- One letter that cannot be sent back does not stop a redrive.
--
GRANT DELETE, SELECT ON cmq.q_sink TO regress_bind_operator;
GRANT INSERT ON cmq.q_own TO regress_bind_operator;
SELECT cmq_alter_queue('own', max_msg_size => 1024, max_msg_heap_num => 3);
-- the oldest letters are the bad ones: no right on their queue, too large, not ours
SELECT cmq_clear_queue('sink') > 0 AS cleared;
SELECT cmq_send('sink', 'no right', headers => '{"cmq_dead_letter": {"queue": "bait"}}') > 0 AS sent;
SELECT cmq_send('sink', repeat('L', 2000), headers => '{"cmq_dead_letter": {"queue": "own"}}') > 0 AS sent;
SELECT cmq_send('sink', 'large headers', headers => jsonb_build_object('cmq_dead_letter', '{"queue": "own"}'::jsonb, 'k', repeat('h', 8000))) > 0 AS sent;
SELECT cmq_send('sink', 'strange', headers => '{"cmq_dead_letter": {"queue": "nowhere"}}') > 0 AS sent;
SELECT cmq_send('sink', 'none') > 0 AS sent;
SELECT cmq_send('sink', 'g' || i, headers => '{"cmq_dead_letter": {"queue": "own"}, "k": 1}') > 0 AS sent FROM generate_series(1, 4) i;
SET ROLE regress_bind_operator;
SELECT cmq_redrive('sink', 1) AS one;
SELECT cmq_redrive('sink') AS as_many_as_fit;
RESET ROLE;
SELECT pg_temp.live('own'), left(pg_temp.live('sink'), 30), count(*) AS left FROM cmq.q_sink_live;
SELECT body, headers FROM cmq.q_own_live ORDER BY msg_id LIMIT 1;
SELECT body, deleted_by FROM cmq.q_sink_history ORDER BY msg_id;
-- one whose queue fails, with whatever code, or does not end
SET ROLE regress_bind_target;
SELECT cmq_clear_queue('own') AS cleared;
SELECT cmq_alter_queue('own', max_msg_heap_num => 100);
RESET ROLE;
SET ROLE regress_bind_source;
GRANT INSERT ON cmq.q_bait TO regress_bind_operator;
RESET ROLE;
CREATE SCHEMA bind2 AUTHORIZATION regress_bind_source;
SET ROLE regress_bind_source;
CREATE FUNCTION bind2.at_work() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '57014' USING MESSAGE = 'canceling statement, or so'; END $$;
CREATE FUNCTION bind2.fail(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM bind2.at_work(); RETURN 1; END $$;
SELECT cmq_clear_queue('bait') > 0 AS cleared;
CREATE INDEX fail ON cmq_data.q_bait (bind2.fail(body));
RESET ROLE;
SET client_min_messages = warning;
SET ROLE regress_bind_operator;
SELECT cmq_redrive('sink') AS of_the_other_queue;
RESET ROLE;
SELECT pg_temp.live('own'), pg_temp.live('bait');
SET ROLE regress_bind_source;
CREATE OR REPLACE FUNCTION bind2.at_work() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); END $$;
RESET ROLE;
SELECT cmq_send('sink', 'g9', headers => '{"cmq_dead_letter": {"queue": "own"}}') > 0 AS sent;
SET ROLE regress_bind_operator;
SELECT cmq_redrive('sink') AS of_the_other_queue;
RESET ROLE;
SELECT pg_temp.live('own'), pg_temp.live('bait');

SET client_min_messages = error;
SELECT cmq_unbind_dead_letter('bait'), cmq_unbind_dead_letter('own');
SELECT cmq_drop_queue(q) FROM unnest('{bait,own,sink}'::text[]) q;
DROP SCHEMA bind CASCADE;
DROP SCHEMA bind2 CASCADE;
DROP SEQUENCE bind_seen;
DROP OWNED BY regress_bind_source, regress_bind_target, regress_bind_operator CASCADE;
DROP ROLE regress_bind_source, regress_bind_target, regress_bind_operator;
