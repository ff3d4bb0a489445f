-- Queues of different owners that messages go between: nobody runs code of the
-- other, reads what he may not, or stops the other's work.  And what a queue's
-- owner can do to the own tables: errors, never a crash.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_victim;
CREATE ROLE regress_stranger;
CREATE ROLE regress_consumer;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_victim, regress_stranger;
CREATE SCHEMA stranger AUTHORIZATION regress_stranger;
GRANT USAGE ON SCHEMA stranger TO PUBLIC;
CREATE TABLE seen_as (role text);
GRANT INSERT ON seen_as TO PUBLIC;

SET ROLE regress_stranger;
CREATE FUNCTION stranger.note() RETURNS void LANGUAGE sql AS 'INSERT INTO public.seen_as VALUES (current_user)';
CREATE FUNCTION stranger.spy(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM stranger.note(); RETURN n; END $$;
SELECT cmq_create_queue('trap', visibility_timeout => 600);
CREATE INDEX ON cmq_data.q_trap_pending (stranger.spy(receive_count));
CREATE INDEX ON cmq_data.q_trap (stranger.spy(length(body)));
GRANT INSERT ON cmq.q_trap TO regress_victim;
RESET ROLE;
SET ROLE regress_victim;
SELECT cmq_create_queue('victim', rewind_seconds => 3600, visibility_timeout => 600);
RESET ROLE;

--
-- To bind a dead-letter queue is to read the messages: UPDATE is not enough.
--
GRANT UPDATE ON cmq.q_victim TO regress_stranger;
SET ROLE regress_stranger;
SELECT pg_temp.attempt($$SELECT cmq_alter_queue('victim', dead_letter_queue => 'trap', max_receive_count => 1)$$);
SELECT pg_temp.attempt($$SELECT cmq_alter_queue('victim', visibility_timeout => 601)$$);
RESET ROLE;
GRANT DELETE ON cmq.q_victim TO regress_stranger;
SET ROLE regress_stranger;
SELECT pg_temp.attempt($$SELECT cmq_alter_queue('victim', dead_letter_queue => 'trap', max_receive_count => 1)$$);
RESET ROLE;
REVOKE UPDATE, DELETE ON cmq.q_victim FROM regress_stranger;

--
-- Dead letters to a queue of another owner are moved by the worker alone
-- (t/020): no receive and no call of cmq_maintain() runs that owner's code.
--
GRANT INSERT, DELETE ON cmq.q_victim TO regress_consumer;
SET ROLE regress_consumer;
SELECT cmq_send('victim', 'd' || i) > 0 AS sent FROM generate_series(1, 2) i;
SELECT pg_temp.receive('victim');
RESET ROLE;
UPDATE cmq_data.q_victim_pending SET visible_at = enqueued_at;
SET ROLE regress_consumer;
SELECT pg_temp.receive('victim', 1);
RESET ROLE;
SELECT pg_temp.live('trap');
SELECT cmq_send('victim', 'd3') > 0 AS sent;
SELECT pg_temp.receive('victim');
UPDATE cmq_data.q_victim_pending SET visible_at = enqueued_at;
SELECT cmq_maintain('victim');
SELECT pg_temp.live('trap');
SELECT pg_temp.live('victim');
SELECT count(*) AS nobody FROM seen_as;

--
-- Messages of a subscription are written as the owner of its queue.
--
TRUNCATE seen_as;
SELECT cmq_create_topic('news');
GRANT SELECT ON cmq.t_news TO regress_stranger;
SET ROLE regress_stranger;
SELECT cmq_subscribe('news', 'trap', 'trap');
RESET ROLE;
SELECT queue FROM cmq_publish('news', 'n1');
SELECT queue FROM cmq_publish_batch('news', '{n2,n3}');
SELECT role, count(*) > 0 AS seen FROM seen_as GROUP BY role ORDER BY role;
SELECT current_user = session_user AS is_me;
SELECT cmq_unsubscribe('news', 'trap');
SELECT cmq_drop_topic('news');

--
-- A forged dead letter names a queue on which the caller has no right, or none
-- of ours: it stays, and the others go back.
--
CREATE ROLE regress_operator;
SELECT cmq_create_queue('private');
GRANT DELETE ON cmq.q_trap TO regress_operator;
GRANT INSERT ON cmq.q_victim TO regress_operator;
SET ROLE regress_stranger;
SELECT cmq_send('trap', 'd1', headers => '{"cmq_dead_letter": {"queue": "victim"}}') > 0 AS sent;
RESET ROLE;
SELECT cmq_send('trap', 'forged', headers => '{"cmq_dead_letter": {"queue": "private"}}') > 0 AS sent;
SET ROLE regress_operator;
SELECT cmq_redrive('trap');
RESET ROLE;
SELECT pg_temp.live('victim'), pg_temp.live('trap');

--
-- What cannot be moved to a dead-letter queue of the same owner holds up nothing
-- else.
--
SET client_min_messages = error;
SELECT cmq_clear_queue('victim') > 0 AS cleared;
SET ROLE regress_victim;
SELECT cmq_create_queue('grave', visibility_timeout => 600);
SELECT cmq_alter_queue('victim', dead_letter_queue => 'grave');
RESET ROLE;
SELECT cmq_send('victim', b) > 0 AS sent FROM unnest('{p1,poison,p2}'::text[]) b;
SELECT pg_temp.receive('victim');
UPDATE cmq_data.q_victim_pending SET visible_at = enqueued_at;
SELECT cmq_send('victim', 'good') > 0 AS sent;
SET ROLE regress_stranger;
CREATE FUNCTION stranger.refuse(body text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF body = 'poison' THEN
		RAISE 'refused';
	END IF;
	RETURN 1;
END $$;
RESET ROLE;
SET ROLE regress_victim;
CREATE INDEX refuse ON cmq_data.q_grave (stranger.refuse(body));
RESET ROLE;
SET client_min_messages = warning;
SELECT pg_temp.receive('victim');
SELECT pg_temp.receive('victim') AS no_second_warning;
SELECT pg_temp.live('victim');
SELECT cmq_maintain('victim');
SELECT pg_temp.live('victim');
DROP INDEX cmq_data.refuse;
SELECT cmq_maintain('victim');
SELECT pg_temp.live('victim'), pg_temp.live('grave');

SELECT cmq_unbind_dead_letter('victim');

-- headers may be as large as a body
SELECT pg_temp.attempt($$SELECT cmq_send('victim', 'x', headers => jsonb_build_object('k', repeat('a', 67108864)))$$);
SELECT pg_temp.attempt($$SELECT cmq_send_batch('victim', '{x,y}', headers => ARRAY[NULL, jsonb_build_object('k', repeat('a', 67108864))])$$);
SELECT cmq_create_topic('news');
SELECT pg_temp.attempt($$SELECT cmq_publish('news', 'x', headers => jsonb_build_object('k', repeat('a', 67108864)))$$);
SELECT cmq_drop_topic('news');

--
-- Damage: a body that is NULL, tables that go away in the middle of a call.
--
SET client_min_messages = error;
SELECT cmq_clear_queue('victim') >= 0 AS cleared;
SET ROLE regress_victim;
SELECT cmq_send('victim', 'x') > 0 AS sent;
ALTER TABLE cmq_data.q_victim ALTER body DROP NOT NULL;
UPDATE cmq_data.q_victim SET body = NULL WHERE body = 'x';
SELECT regexp_replace(pg_temp.attempt($$SELECT * FROM cmq_receive('victim')$$), '\d{12,}|victim_\d+', 'N', 'g');
INSERT INTO cmq_data.q_victim_rewind SELECT enqueued_at, enqueued_at, enqueued_at, 'somebody', 1, 0, 0 FROM cmq_data.q_victim WHERE body IS NULL;
DELETE FROM cmq_data.q_victim_pending;
SELECT regexp_replace(pg_temp.attempt($$SELECT * FROM cmq_rewind_preview('victim', '-infinity')$$), '\d{12,}|victim_\d+', 'N', 'g');
SELECT cmq_create_queue('other');
SELECT regexp_replace(pg_temp.attempt($$SELECT cmq_replay('victim', 'other', '-infinity')$$), '\d{12,}|victim_\d+', 'N', 'g');
SELECT cmq_alter_queue('victim', dead_letter_queue => 'other', max_receive_count => 1);
SELECT cmq_restore('victim', '-infinity') > 0 AS restored;
UPDATE cmq_data.q_victim_pending SET receive_count = 1;
SELECT pg_temp.receive('victim', 1) IS NULL AS nothing;
SELECT cmq_maintain('victim');

SELECT cmq_create_queue('vanish', rewind_seconds => 3600);
SELECT cmq_send('vanish', 'x') > 0 AS sent;
CREATE FUNCTION cmq.vanish() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP TABLE IF EXISTS cmq_data.q_vanish_rewind CASCADE; END $$;
CREATE FUNCTION cmq.vanish(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF current_setting('regress.vanish', true) = 'on' THEN
		PERFORM cmq.vanish();
	END IF;
	RETURN n;
END $$;
CREATE INDEX ON cmq_data.q_vanish (cmq.vanish(length(body)));
RESET ROLE;
SET regress.vanish = on;
-- the step that it runs in fails, with a warning, and is undone
SELECT pg_temp.attempt($$SELECT cmq_maintain('vanish')$$), to_regclass('cmq_data.q_vanish_rewind') IS NOT NULL AS still_there;
RESET regress.vanish;

-- a name that is too long
SELECT pg_temp.attempt(format('SELECT cmq_drop_queue(%L)', repeat('x', 70)));

SET client_min_messages = error;
SELECT cmq_drop_queue('vanish');
SELECT cmq_drop_queue('victim');
SELECT cmq_drop_queue('trap');
SELECT cmq_drop_queue('grave');
SELECT cmq_drop_queue('other');
SELECT cmq_drop_queue('private');
DROP FUNCTION cmq.vanish(int), cmq.vanish();
DROP SCHEMA stranger CASCADE;
DROP TABLE seen_as;
DROP OWNED BY regress_victim, regress_stranger, regress_consumer, regress_operator;
DROP ROLE regress_victim, regress_stranger, regress_consumer, regress_operator;
