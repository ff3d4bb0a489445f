-- Journals: what is published to several queues is stored once, and is a message of each of
-- them like any other; how long it stays, and who can read it.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('jr_a', visibility_timeout => 3600, rewind_seconds => 86400, max_msg_size => 100000);
SELECT cmq_create_queue('jr_b', visibility_timeout => 3600, max_msg_size => 100000);
SELECT cmq_create_queue('jr_o', visibility_timeout => 3600, rewind_seconds => 86400, ordered => true, max_msg_size => 100000);
SELECT cmq_create_queue('jr_dead', rewind_seconds => 3600);
SELECT cmq_create_topic('jr_t'), cmq_create_topic('jr_u');
SELECT cmq_subscribe('jr_t', 'on_' || q, q) FROM unnest('{jr_a,jr_b,jr_o}'::text[]) q;
SELECT cmq_subscribe('jr_u', 'on_' || q, q) FROM unnest('{jr_a,jr_o}'::text[]) q;
SELECT relname, relkind, pg_get_userbyid(relowner) = current_user AS mine, relacl
  FROM pg_class WHERE relnamespace = 'cmq_data'::regnamespace AND relname LIKE 'j\_jr\__' ORDER BY 1;

--
-- Stored once; a queue that gets it alone stores it itself.
--
CREATE FUNCTION pg_temp.rows() RETURNS TABLE (tables text, n bigint) LANGUAGE sql AS $$
	SELECT 'journal of t', count(*) FROM cmq_data.j_jr_t UNION ALL
	SELECT 'journal of u', count(*) FROM cmq_data.j_jr_u UNION ALL
	SELECT 'messages', (SELECT count(*) FROM cmq_data.q_jr_a) + (SELECT count(*) FROM cmq_data.q_jr_b) + (SELECT count(*) FROM cmq_data.q_jr_o) UNION ALL
	SELECT 'pending', (SELECT count(*) FROM cmq_data.q_jr_a_pending) + (SELECT count(*) FROM cmq_data.q_jr_b_pending) + (SELECT count(*) FROM cmq_data.q_jr_o_pending) UNION ALL
	SELECT 'history', (SELECT count(*) FROM cmq_data.q_jr_a_rewind) + (SELECT count(*) FROM cmq_data.q_jr_o_rewind)
$$;
SELECT count(DISTINCT msg_id) AS ids, count(*) AS queues FROM cmq_publish('jr_t', 'one', headers => '{"n": 1}', message_group => 'g');
SELECT count(*) FROM cmq_publish_batch('jr_u', '{two,three}', headers => ARRAY['{"n": 2}', '{"n": 3}']::jsonb[]);
SELECT cmq_send('jr_a', 'own', headers => '{"n": 4}') > 0 AS sent;
SELECT * FROM pg_temp.rows();
SELECT body, message_group, queues, headers FROM cmq_data.j_jr_t;
SELECT topic, count(*) FROM cmq_data.q_jr_a_pending GROUP BY 1 ORDER BY 1;
-- long bodies are toasted in the journal
SELECT count(*) FROM cmq_publish('jr_t', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i));

--
-- A message like any other: views, receive, filters, ids, release, delete, consume.
--
SELECT state, headers, left(body, 10) AS body FROM cmq.q_jr_a_live ORDER BY msg_id;
SELECT state, headers, left(body, 10) AS body, message_group FROM cmq.q_jr_o_all ORDER BY msg_id;
SELECT count(*), count(body) FROM cmq.q_jr_a_live WHERE headers @> '{"n": 2}';
SELECT count(*), sum(length(body)) FROM cmq.q_jr_b_all;
SELECT body, headers, message_group FROM cmq_receive('jr_a', filter => '{"n": 3}');
SELECT body, message_group FROM cmq_receive('jr_o', 1);
-- a queue without order shows no group
SELECT left(body, 10) AS body, message_group, length(body) FROM cmq_consume('jr_b', 10);
SELECT body FROM cmq_receive_messages('jr_a', array(SELECT msg_id FROM cmq.q_jr_a_live WHERE body = 'two'));
SELECT state, body FROM cmq.q_jr_a_live WHERE length(body) < 10 ORDER BY msg_id;
SELECT msg_id AS id FROM cmq.q_jr_a_live WHERE body = 'two' \gset
SELECT count(*) AS released FROM cmq_release('jr_a', array(SELECT receipt_handle FROM cmq._deliveries_of('jr_a', ARRAY[:id]::bigint[], false)));
SELECT body FROM cmq_receive_messages('jr_a', ARRAY[:id]);
SELECT left(body, 10) AS body FROM cmq_receive('jr_a', 10);
SELECT body, headers FROM cmq._deliveries_of('jr_a', ARRAY[:id], true);
SELECT count(*) FROM cmq_delete_batch('jr_a', array(SELECT receipt_handle FROM cmq._deliveries_of('jr_a', array(SELECT msg_id FROM cmq.q_jr_a_live), false)));
SELECT state, deleted_by = current_user AS mine, receive_count, headers, left(body, 10) AS body FROM cmq.q_jr_a_all ORDER BY msg_id;
SELECT left(body, 10) AS body FROM cmq_history('jr_a', '-infinity') ORDER BY msg_id;
-- with rewind off the delivery is gone; the body goes with its partition
SELECT count(*) AS pending, (SELECT count(*) FROM cmq_data.j_jr_t) AS journal FROM cmq_data.q_jr_b_pending;

--
-- Brought back: rewind, cancel, restore, replay, preview.
--
SELECT messages, body_bytes FROM cmq_rewind_preview('jr_a', '-infinity', filter => '{"cmq_topic": "jr_u"}');
SELECT cmq_rewind('jr_a', now() - interval '1 hour') IS NOT NULL AS rewound;
SELECT state, left(body, 10) AS body FROM cmq.q_jr_a_all ORDER BY msg_id;
SELECT left(body, 10) AS body, rewind_count FROM cmq_receive('jr_a', 1);
SELECT left(body, 10) AS body, rewind_count FROM cmq_consume('jr_a', 1);
SELECT cmq_cancel_rewind('jr_a');
SELECT state, left(body, 10) AS body, rewind_count FROM cmq.q_jr_a_all ORDER BY msg_id;
SELECT cmq_restore('jr_a', '-infinity', filter => '{"n": 2}') AS restored;
SELECT count(*) FROM cmq_restore_messages('jr_a', array(SELECT msg_id FROM cmq.q_jr_a_history WHERE body = 'own'));
SELECT body, rewind_count FROM cmq_receive('jr_a', 10) ORDER BY msg_id;
SELECT cmq_create_queue('jr_copy');
SELECT cmq_replay('jr_a', 'jr_copy', '-infinity') AS replayed;
SELECT left(body, 10) AS body, headers - 'cmq_origin' AS headers FROM cmq_receive('jr_copy', 10);
SELECT count(*) FROM cmq_data.q_jr_copy_pending WHERE topic IS NOT NULL;

--
-- Groups in order, through a rewind.
--
SELECT count(*) FROM cmq_publish_batch('jr_t', '{o1,o2,o3}', message_groups => '{g,h,g}');
SELECT body FROM cmq_receive('jr_o', 10) WHERE length(body) < 10;
SELECT count(*) FROM cmq_delete_batch('jr_o', array(SELECT receipt_handle FROM cmq._deliveries_of('jr_o', array(SELECT msg_id FROM cmq.q_jr_o_live), false)));
SELECT string_agg(left(body, 10), ' ' ORDER BY n) AS group_g FROM cmq_receive('jr_o', 10) WITH ORDINALITY r (a, b, body, d, e, f, g, h, i, message_group, n) WHERE message_group = 'g';
SELECT cmq_rewind('jr_o', now() - interval '1 hour') IS NOT NULL AS rewound;
SELECT count(*) FROM cmq_delete_batch('jr_o', array(SELECT receipt_handle FROM cmq._deliveries_of('jr_o', array(SELECT msg_id FROM cmq.q_jr_o_live WHERE state = 'in_flight'), false)));
SELECT string_agg(left(body, 10), ' ' ORDER BY n) AS group_g FROM cmq_consume('jr_o', 10) WITH ORDINALITY r (a, b, body, d, e, f, g, h, i, message_group, n) WHERE message_group = 'g';
SELECT cmq_clear_queue('jr_o') AS removed;

--
-- Dead letters are messages of the dead-letter queue, and go back as messages of the queue.
--
SELECT cmq_alter_queue('jr_b', dead_letter_queue => 'jr_dead', max_receive_count => 1);
SELECT count(*) FROM cmq_publish('jr_t', 'letter', headers => '{"k": 1}');
SELECT count(cmq_change_visibility('jr_b', receipt_handle, 0)) FROM cmq_receive('jr_b', 10);
SELECT count(*) FROM cmq_receive('jr_b', 10);
SELECT body, headers->'k' AS k, headers->>'cmq_topic' AS topic FROM cmq.q_jr_dead_live ORDER BY msg_id;
SELECT count(*) FROM cmq_data.q_jr_dead_pending WHERE topic IS NULL;
SELECT cmq_redrive('jr_dead', filter => '{"k": 1}') AS back;
SELECT body FROM cmq_consume('jr_b', 10);
-- a dead-letter queue can be subscribed itself, and its letters go back, too
SELECT cmq_unbind_dead_letter('jr_b');

--
-- Clear.
--
SELECT count(*) FROM cmq_publish('jr_t', 'to be removed');
SELECT cmq_clear_queue('jr_b') AS removed, cmq_clear_queue('jr_o') AS removed;
SELECT body FROM cmq_consume('jr_a', 10, filter => '{"cmq_topic": "jr_t"}') WHERE body = 'to be removed';

--
-- Who can read it: who has SELECT on the queue reads what the queue has got, and no more.
--
CREATE ROLE regress_jr_owner;
CREATE ROLE regress_jr_reader;
GRANT CREATE, USAGE ON SCHEMA cmq, cmq_data TO regress_jr_owner;
GRANT USAGE ON SCHEMA cmq TO regress_jr_reader;
GRANT SELECT ON cmq.t_jr_t TO regress_jr_owner;
SET ROLE regress_jr_owner;
SELECT cmq_create_queue('jr_own', rewind_seconds => 3600);
SELECT cmq_subscribe('jr_t', 'own', 'jr_own', '{public}');
GRANT SELECT ON cmq.q_jr_own TO regress_jr_reader;
RESET ROLE;
SELECT msg_id AS secret FROM cmq_publish('jr_t', 'secret', '{private}') LIMIT 1 \gset
SELECT count(*) FROM cmq_publish('jr_t', 'known', '{public}');
SET ROLE regress_jr_reader;
SELECT body FROM cmq.q_jr_own_live;
SELECT cmq._published_body('jr_own', 'jr_t', cmq.enqueued_at(:secret)) IS NULL AS unknown;
SELECT pg_temp.attempt('TABLE cmq_data.j_jr_t');
SELECT pg_temp.attempt($$SELECT cmq._published_body('jr_a', 'jr_t', now())$$);
SET ROLE regress_jr_owner;
SELECT pg_temp.attempt('TABLE cmq_data.j_jr_t');
-- rows that the owner writes
INSERT INTO cmq_data.q_jr_own_pending (visible_at, enqueued_at, receive_count, rewind_count, topic)
	VALUES (cmq.enqueued_at(:secret), cmq.enqueued_at(:secret), 0, 0, 'jr_t');
SELECT msg_id = :secret AS that_one, headers, body FROM cmq.q_jr_own_live ORDER BY msg_id;
SELECT body FROM cmq_receive('jr_own', 10);
DELETE FROM cmq_data.q_jr_own_pending WHERE enqueued_at = cmq.enqueued_at(:secret);
INSERT INTO cmq_data.q_jr_own_rewind (enqueued_at, deleted_at, deleted_by, receive_count, rewind_count, deleted_xact, topic)
	VALUES (cmq.enqueued_at(:secret), now(), 'x', 1, 0, 1, 'jr_t');
SELECT headers, body FROM cmq.q_jr_own_history;
SELECT headers, body FROM cmq_history('jr_own', '-infinity');
SELECT cmq_create_queue('jr_thief');
SELECT cmq_replay('jr_own', 'jr_thief', '-infinity') AS replayed;
DELETE FROM cmq_data.q_jr_own_rewind;
-- a topic that is none, or has no journal
INSERT INTO cmq_data.q_jr_own_pending (visible_at, enqueued_at, receive_count, rewind_count, topic)
	VALUES (now() - interval '1 s', now() - interval '1 s', 0, 0, 'jr_none');
SELECT body FROM cmq_receive('jr_own', 10);
SELECT count(*) FROM cmq.q_jr_own_live WHERE body IS NULL;
SELECT cmq_clear_queue('jr_own') > 0 AS cleared;
RESET ROLE;
-- of a queue that was dropped a queue of the same name has nothing
SELECT msg_id AS known FROM cmq_publish('jr_t', 'known again', '{public}') WHERE queue = 'jr_own' \gset
SELECT cmq_drop_queue('jr_own');
SELECT since IS NOT NULL AS since, until IS NOT NULL AS until FROM cmq.receiver WHERE queue = 'jr_own';
SET ROLE regress_jr_owner;
SELECT cmq_create_queue('jr_own', rewind_seconds => 3600);
SELECT cmq._published_body('jr_own', 'jr_t', cmq.enqueued_at(:known)) IS NULL AS unknown;
SELECT cmq_subscribe('jr_t', 'own', 'jr_own', '{public}');
INSERT INTO cmq_data.q_jr_own_pending (visible_at, enqueued_at, receive_count, rewind_count, topic)
	VALUES (cmq.enqueued_at(:known), cmq.enqueued_at(:known), 0, 0, 'jr_t');
SELECT body FROM cmq_receive('jr_own', 10);
SELECT cmq_clear_queue('jr_own') IS NOT NULL AS cleared;
RESET ROLE;
SELECT count(*) FROM cmq_publish('jr_t', 'new', '{public}');
SELECT body FROM cmq_consume('jr_own', 10);
-- the name of a topic is not that of a partition of another one
SELECT cmq_create_topic('jr_t_' || to_char(lower AT TIME ZONE 'UTC', 'YYYYMMDDHH24MI')) FROM cmq.partition WHERE queue = '>jr_t' ORDER BY lower LIMIT 1;
-- names of journals are none of queues
SELECT pg_temp.attempt($$SELECT cmq_send('>jr_t', 'x')$$) AS send,
	   pg_temp.attempt($$SELECT cmq_create_queue('>jr_t')$$) AS "create",
	   pg_temp.attempt($$SELECT cmq_drop_queue('>jr_t')$$) AS "drop",
	   pg_temp.attempt($$SELECT cmq_alter_queue('jr_a', dead_letter_queue => '>jr_t', max_receive_count => 1)$$) AS letters;
SELECT count(*) FROM cmq.queues WHERE queue LIKE '>%';
SELECT count(*) FROM cmq.status WHERE queue LIKE '>%';
SELECT pg_temp.attempt('TRUNCATE cmq_data.j_jr_t') AS truncate;

--
-- How long it stays: as long as a queue has a partition for that time.
--
SELECT cmq_create_queue('jr_short', msg_retention_seconds => 60), cmq_create_queue('jr_long', msg_retention_seconds => 600, rewind_seconds => 600);
SELECT cmq_create_topic('jr_life');
SELECT cmq_subscribe('jr_life', q, q) FROM unnest('{jr_short,jr_long}'::text[]) q;
-- as wide as those of the queue that keeps messages longest
SELECT DISTINCT queue, upper - lower AS width FROM cmq.partition WHERE queue IN ('>jr_life', 'jr_long', 'jr_short') ORDER BY 1;
SELECT count(*) FROM cmq_publish('jr_life', 'kept');
-- their partitions begin and end so long ago, with messages of then
CREATE FUNCTION pg_temp.move(parent text, leaf regclass, lower timestamptz, upper timestamptz, s interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE cmq_data.%I DETACH PARTITION %s', parent, leaf);
	EXECUTE format('ALTER TABLE %s RENAME TO %I', leaf, 'old_' || leaf::oid || '_' || extract(epoch FROM s)::int);
	EXECUTE format('UPDATE %s SET enqueued_at = enqueued_at - $1', leaf) USING s;
	EXECUTE format('ALTER TABLE cmq_data.%I ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', parent, leaf, lower - s, upper - s);
END $$;
CREATE FUNCTION pg_temp.age(seconds int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	p record;
	s interval := make_interval(secs => seconds);
BEGIN
	FOR p IN SELECT *, substr(queue, 2) AS topic FROM cmq.partition WHERE queue IN ('>jr_life', 'jr_long', 'jr_short') ORDER BY queue, lower LOOP
		IF p.queue = '>jr_life' THEN
			PERFORM pg_temp.move('j_jr_life', p.messages, p.lower, p.upper, s);
		ELSE
			PERFORM pg_temp.move('q_' || p.queue, p.messages, p.lower, p.upper, s);
			PERFORM pg_temp.move('q_' || p.queue || '_rewind', p.rewind, p.lower, p.upper, s);
			EXECUTE format('UPDATE %s SET deleted_at = deleted_at - $1', p.rewind) USING s;
		END IF;
		UPDATE cmq.partition SET lower = lower - s, upper = upper - s WHERE queue = p.queue AND lower = p.lower;
	END LOOP;
	UPDATE cmq_data.q_jr_long_pending SET enqueued_at = enqueued_at - s, visible_at = visible_at - s;
	UPDATE cmq_data.q_jr_short_pending SET enqueued_at = enqueued_at - s, visible_at = visible_at - s;
END $$;
SELECT pg_temp.age(300);
SELECT cmq_maintain();
-- a partition that its owner has detached may come back
SELECT rewind AS leaf, lower AS leaf_lower, upper AS leaf_upper FROM cmq.partition WHERE queue = 'jr_long' ORDER BY lower LIMIT 1 \gset
ALTER TABLE cmq_data.q_jr_long_rewind DETACH PARTITION :leaf;
SET client_min_messages = error;
SELECT cmq_maintain();
SET client_min_messages = warning;
ALTER TABLE cmq_data.q_jr_long_rewind ATTACH PARTITION :leaf FOR VALUES FROM (:'leaf_lower') TO (:'leaf_upper');
-- expired in one queue, and pending in the other
SELECT DISTINCT queue FROM cmq.partition WHERE queue IN ('>jr_life', 'jr_long', 'jr_short') AND upper < now() ORDER BY 1;
SELECT body FROM cmq_consume('jr_long', 10);
SELECT cmq_maintain();
SELECT body FROM cmq.q_jr_long_history;
SELECT cmq_restore('jr_long', '-infinity') AS restored;
SELECT body FROM cmq_consume('jr_long', 10);
SELECT pg_temp.age(900);
SELECT cmq_maintain();
SELECT DISTINCT queue FROM cmq.partition WHERE queue IN ('>jr_life', 'jr_long', 'jr_short') AND upper < now() ORDER BY 1;
SELECT count(*) FROM cmq_data.j_jr_life;

--
-- Without subscription, without topic: what a queue has stays.
--
SELECT count(*) FROM cmq_publish('jr_life', 'stays');
SELECT cmq_unsubscribe('jr_life', 'jr_long'), cmq_unsubscribe('jr_life', 'jr_short');
SELECT cmq_drop_topic('jr_life');
SELECT cmq_maintain();
SELECT queue, since IS NOT NULL AS since, until IS NOT NULL AS until FROM cmq.receiver WHERE journal = '>jr_life' ORDER BY 1;
SELECT body FROM cmq_receive('jr_long', visibility_timeout => 1), LATERAL cmq_change_visibility('jr_long', receipt_handle, 0);
-- a topic of that name uses the journal; another owner has to wait
SET ROLE regress_jr_owner;
SELECT pg_temp.attempt($$SELECT cmq_create_topic('jr_life')$$);
RESET ROLE;
SELECT cmq_create_topic('jr_life');
SELECT cmq_subscribe('jr_life', q, q) FROM unnest('{jr_short,jr_long}'::text[]) q;
SELECT count(*) FROM cmq_publish('jr_life', 'more');
SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('jr_long', 10);
-- when no queue has anything the journal goes with the topic
SELECT cmq_drop_queue('jr_short'), cmq_drop_queue('jr_long');
SELECT cmq_drop_topic('jr_life');
SELECT count(*) FROM pg_class WHERE relname LIKE '%jr\_life%';
SELECT count(*) FROM cmq.topic_journal WHERE name = '>jr_life';
-- the other way round, too
SELECT cmq_create_queue('jr_short'), cmq_create_queue('jr_long'), cmq_create_topic('jr_life');
SELECT cmq_subscribe('jr_life', q, q) FROM unnest('{jr_short,jr_long}'::text[]) q;
SELECT count(*) FROM cmq_publish('jr_life', 'lost with the queues');
SELECT cmq_unsubscribe('jr_life', 'jr_long'), cmq_unsubscribe('jr_life', 'jr_short');
SELECT cmq_drop_topic('jr_life');
SELECT cmq_drop_queue('jr_short');
SELECT body FROM cmq_receive('jr_long');
SELECT cmq_drop_queue('jr_long');
SELECT count(*) FROM pg_class WHERE relname LIKE '%jr\_life%';

--
-- Without its journal a topic has each queue store the messages itself.
--
SELECT cmq_create_topic('jr_v');
SELECT cmq_subscribe('jr_v', q, q) FROM unnest('{jr_a,jr_b}'::text[]) q;
SELECT count(*) FROM cmq_publish('jr_v', 'once');
SELECT messages AS leaf FROM cmq.partition WHERE queue = '>jr_v' ORDER BY lower LIMIT 1 \gset
-- what its owner does to it makes messages unreadable, and stops nobody
ALTER TABLE cmq_data.j_jr_v RENAME TO j_elsewhere;
SELECT count(*) FROM cmq_publish('jr_v', 'renamed');
SELECT body FROM cmq_receive('jr_b', 10, 1, filter => '{"cmq_topic": "jr_v"}');
SELECT body FROM cmq.q_jr_a_live WHERE headers @> '{"cmq_topic": "jr_v"}';
ALTER TABLE cmq_data.j_elsewhere RENAME TO j_jr_v;
SELECT body FROM cmq.q_jr_a_live WHERE headers @> '{"cmq_topic": "jr_v"}' ORDER BY msg_id;
ALTER TABLE cmq_data.j_jr_v ADD more int;
SELECT body FROM cmq.q_jr_a_live WHERE headers @> '{"cmq_topic": "jr_v"}' ORDER BY msg_id;
SELECT body FROM cmq_receive('jr_a', 1, filter => '{"cmq_topic": "jr_v"}');
ALTER TABLE cmq_data.j_jr_v DROP more;
SELECT body FROM cmq.q_jr_a_live WHERE headers @> '{"cmq_topic": "jr_v"}' ORDER BY msg_id;
UPDATE :leaf SET queues = '{}' WHERE body = 'once';
SELECT body FROM cmq.q_jr_a_live WHERE headers @> '{"cmq_topic": "jr_v"}' ORDER BY msg_id;
DROP TABLE cmq_data.j_jr_v;
SELECT count(*) FROM cmq_publish('jr_v', 'twice');
SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('jr_b', 10, filter => '{"cmq_topic": "jr_v"}');
SELECT cmq_maintain();
SELECT count(*) FROM cmq.topic_journal WHERE name = '>jr_v';
SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('jr_a', 10, filter => '{"cmq_topic": "jr_v"}');

--
-- Queues, topics and journals of different owners: who drops a queue needs no right on the
-- journal, and maintenance drops what is left.
--
SELECT cmq_create_topic('jr_w');
GRANT SELECT ON cmq.t_jr_w TO regress_jr_owner;
SET ROLE regress_jr_owner;
SELECT cmq_create_queue('jr_w1'), cmq_create_queue('jr_w2');
SELECT cmq_subscribe('jr_w', q, q) FROM unnest('{jr_w1,jr_w2}'::text[]) q;
RESET ROLE;
SELECT count(*) FROM cmq_publish('jr_w', 'left');
SELECT cmq_unsubscribe('jr_w', 'jr_w1'), cmq_unsubscribe('jr_w', 'jr_w2');
SELECT cmq_drop_topic('jr_w');
-- of a journal that is damaged others may still need what is there
ALTER TABLE cmq_data.j_jr_w RENAME TO j_elsewhere;
SET ROLE regress_jr_owner;
SELECT cmq_drop_queue('jr_w1');
RESET ROLE;
ALTER TABLE cmq_data.j_elsewhere RENAME TO j_jr_w;
SET ROLE regress_jr_owner;
SELECT state, body FROM cmq.q_jr_w2_live;
SELECT cmq_drop_queue('jr_w2');
RESET ROLE;
SELECT cmq_maintain();
SELECT count(*) FROM cmq.topic_journal WHERE name = '>jr_w';
-- a topic that has another owner than its journal
SELECT cmq_create_topic('jr_w');
ALTER VIEW cmq.t_jr_w OWNER TO regress_jr_owner;
SET ROLE regress_jr_owner;
SELECT cmq_drop_topic('jr_w');
RESET ROLE;
SELECT cmq_maintain();
SELECT count(*) FROM cmq.topic_journal WHERE name = '>jr_w';
-- something depends on the journal
SELECT cmq_create_topic('jr_w');
CREATE TEMP VIEW depends AS SELECT * FROM cmq_data.j_jr_w;
SELECT cmq_drop_topic('jr_w');
DROP VIEW depends;
SELECT cmq_drop_topic('jr_w');
SELECT count(*) FROM cmq.topic_journal WHERE name = '>jr_w';

--
-- A queue whose owner has brought its clock ahead has times of its own: other queues that
-- followed it would have all their messages expire.
--
SELECT cmq_create_topic('jr_x');
GRANT SELECT ON cmq.t_jr_x TO regress_jr_owner;
SELECT cmq_create_queue('jr_x1'), cmq_create_queue('jr_x2');
SET ROLE regress_jr_owner;
SELECT cmq_create_queue('jr_ahead', rewind_seconds => 3600);
SELECT cmq_subscribe('jr_x', 'jr_ahead', 'jr_ahead');
RESET ROLE;
SELECT cmq_subscribe('jr_x', q, q) FROM unnest('{jr_x1,jr_x2}'::text[]) q;
SELECT count(*) FROM cmq_publish('jr_x', 'before');
SELECT rewind AS leaf, lower FROM cmq.partition WHERE queue = 'jr_ahead' ORDER BY lower LIMIT 1 \gset
SET ROLE regress_jr_owner;
INSERT INTO :leaf (enqueued_at, deleted_at, deleted_by, receive_count, rewind_count, deleted_xact) VALUES (:'lower', now() + interval '20 days', 'x', 1, 0, 1);
RESET ROLE;
SELECT queue, cmq.enqueued_at(msg_id) > now() + interval '19 days' AS ahead FROM cmq_publish_batch('jr_x', '{after,again}') ORDER BY 1, msg_id;
SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('jr_x1', 10);
SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('jr_x2', 10);
-- what was before has expired there
SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('jr_ahead', 10);
SELECT count(*) AS "stored once" FROM cmq_data.j_jr_x;

--
-- A queue that has unsubscribed and still has messages: maintenance settles that once, and
-- then leaves the journal to those who publish.
--
SELECT cmq_create_topic('jr_y');
SELECT cmq_subscribe('jr_y', q, q) FROM unnest('{jr_x1,jr_x2}'::text[]) q;
SELECT count(*) FROM cmq_publish('jr_y', 'pending');
SELECT cmq_unsubscribe('jr_y', 'jr_x1');
CREATE FUNCTION pg_temp.locked() RETURNS bigint LANGUAGE sql AS
$$ SELECT count(*) FROM pg_locks WHERE relation = 'cmq_data.j_jr_y'::regclass AND mode = 'AccessExclusiveLock' AND pid = pg_backend_pid() $$;
BEGIN;
SELECT cmq_maintain();
SELECT pg_temp.locked();
COMMIT;
BEGIN;
SELECT cmq_maintain();
SELECT pg_temp.locked();
COMMIT;
SELECT string_agg(body, ' ') FROM cmq_consume('jr_x1', 10);

SELECT cmq_unbind_dead_letter(queue) FROM cmq.queues WHERE queue LIKE 'jr\_%' AND dead_letter_queue IS NOT NULL;
SELECT count(cmq_drop_queue(queue)) FROM (SELECT queue FROM cmq.queues WHERE queue LIKE 'jr\_%') q;
SELECT count(cmq_drop_topic(topic)) FROM (SELECT topic FROM cmq.topics WHERE topic LIKE 'jr\_%') t;
SELECT count(*) FROM pg_class WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) AND relname LIKE '%jr\_%';
SELECT count(*) FROM cmq.receiver WHERE queue LIKE 'jr\_%';
DROP OWNED BY regress_jr_owner, regress_jr_reader;
DROP ROLE regress_jr_owner, regress_jr_reader;
