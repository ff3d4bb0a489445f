-- Groups of ordered queues, wherever they are shown or handed on: columns, views, dead
-- letters, redrive, replay, topics, status.  Their order is tested elsewhere.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('groups_a', ordered => true, rewind_seconds => 3600);
SELECT cmq_create_queue('groups_plain', rewind_seconds => 3600);

--
-- The tables of a plain queue have none of the columns and indexes.
--
SELECT c.relname, array_agg(a.attname ORDER BY a.attnum) AS columns
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relname LIKE 'q\_groups\_%' AND c.relkind IN ('r', 'p') GROUP BY 1 ORDER BY 1;
SELECT t.relname, pg_get_indexdef(i.indexrelid) ~ '\((group_key, visible_at|group_hash, enqueued_at)\)' AS by_group, count(*)
  FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
 WHERE t.relname LIKE 'q\_groups\_%' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT c.relname, array_agg(a.attname ORDER BY a.attnum) AS columns
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relname ~ '^q_groups_' AND c.relkind = 'v' GROUP BY 1 ORDER BY 1;

SELECT queue, ordered FROM cmq.queues WHERE queue LIKE 'groups\_%' ORDER BY queue;
SELECT a.ordered, p.ordered AS plain FROM cmq_queue_attributes('groups_a') a, cmq_queue_attributes('groups_plain') p;
CREATE ROLE groups_sender;
GRANT USAGE ON SCHEMA cmq TO groups_sender;
GRANT INSERT ON cmq.q_groups_a TO groups_sender;
SET ROLE groups_sender;
SELECT queue, ordered FROM cmq.queues WHERE queue LIKE 'groups\_%' ORDER BY queue;
RESET ROLE;
REVOKE ALL ON cmq.q_groups_a FROM groups_sender;
REVOKE ALL ON SCHEMA cmq FROM groups_sender;
DROP ROLE groups_sender;

--
-- What a receive, a consume and a receive by ids return, and the views show.
--
SELECT cmq_send('groups_a', 'a1', message_group => 'a') AS a1 \gset
SELECT cmq_send('groups_a', 'free') AS free \gset
SELECT cmq_send('groups_a', 'b1', message_group => 'b') AS b1 \gset
SELECT cmq_send('groups_plain', 'plain') > 0 AS sent;
SELECT body, message_group FROM cmq_consume('groups_plain');
SELECT body, state, message_group FROM cmq.q_groups_a_live ORDER BY msg_id;
SELECT body, message_group FROM cmq_receive('groups_a', 1);
SELECT body, message_group FROM cmq_receive_messages('groups_a', ARRAY[:free]);
SELECT body, message_group FROM cmq_consume('groups_a', 10);
SELECT msg_id = :a1 AS a1, msg_id = :free AS free, body, message_group FROM cmq._deliveries_of('groups_a', ARRAY[:a1, :free, :b1], true) ORDER BY msg_id;
SELECT count(message_group) AS groups_without_contents FROM cmq._deliveries_of('groups_a', ARRAY[:a1, :free, :b1], false);
SELECT cmq_delete('groups_a', receipt_handle) FROM cmq._deliveries_of('groups_a', ARRAY[:a1, :free], false);
SELECT body, message_group FROM cmq.q_groups_a_history ORDER BY msg_id;
SELECT body, message_group FROM cmq_history('groups_a');
SELECT body, message_group FROM cmq_history('groups_plain');
-- the function has the columns of the view, and its rows
SELECT (SELECT count(*) FROM (SELECT * FROM cmq_history('groups_a') EXCEPT ALL TABLE cmq.q_groups_a_history) d) AS function_alone,
	   (SELECT count(*) FROM (TABLE cmq.q_groups_a_history EXCEPT ALL SELECT * FROM cmq_history('groups_a')) d) AS view_alone;
-- brought back, a message has its group
SELECT cmq_rewind('groups_a', pg_temp.produced('groups_a', 'free')) IS NOT NULL AS rewound;
SELECT body, state, message_group FROM cmq.q_groups_a_all ORDER BY msg_id;
SELECT cmq_restore_messages('groups_a', ARRAY[:a1]) = :a1 AS restored;
SELECT body, rewind_count, message_group FROM cmq_consume('groups_a', 10);
-- a name of the greatest length, of characters that JSON escapes
SELECT cmq_send('groups_a', 'long', message_group => repeat(E'"\\', 64)) > 0 AS sent;
SELECT message_group = repeat(E'"\\', 64) AS as_sent FROM cmq_consume('groups_a');

--
-- Dead letters: a queue without groups has the group in the header, and a redrive takes it
-- from there.
--
SELECT cmq_create_queue('groups_dead');
SELECT cmq_create_queue('groups_dead_o', ordered => true);
SELECT cmq_create_queue('groups_src', ordered => true, dead_letter_queue => 'groups_dead', max_receive_count => 1);
SELECT count(*) FROM cmq_send_batch('groups_src', '{x1,x2,free,y1}', message_groups => ARRAY[E'x "\\\u00e9'::text, E'x "\\\u00e9', NULL, 'y']);
-- All fail: a receive moves what is dead of a group, all of it.
SELECT body, message_group FROM cmq_receive('groups_src', 10);
SELECT count(*) FROM cmq._deliveries_of('groups_src', array(SELECT msg_id FROM cmq.q_groups_src_live), false) d, cmq_change_visibility('groups_src', d.receipt_handle, 0);
SELECT body FROM cmq_receive('groups_src', 10);
SELECT pg_temp.live('groups_src'), pg_temp.live('groups_dead');
SELECT body, headers -> 'cmq_dead_letter' -> 'message_group' AS in_header, headers -> 'cmq_dead_letter' ->> 'reason' AS reason FROM cmq.q_groups_dead_live ORDER BY msg_id;
SELECT cmq_send('groups_src', 'x3', message_group => E'x "\\\u00e9') > 0 AS sent;
SELECT cmq_redrive('groups_dead');
SELECT body, message_group, headers FROM cmq.q_groups_src_live ORDER BY msg_id;
SELECT body, message_group, receive_count FROM cmq_receive('groups_src', 1);
-- they stand behind what their group has sent meanwhile, and wait for it
SELECT body FROM cmq_receive('groups_src', 10);
SELECT cmq_clear_queue('groups_src');

-- an ordered dead-letter queue has the group, and the header has not
SELECT cmq_alter_queue('groups_src', dead_letter_queue => 'groups_dead_o');
SELECT count(*) FROM cmq_send_batch('groups_src', '{x1,free}', message_groups => '{x,NULL}');
SELECT count(*) FROM cmq_receive('groups_src', 10, 1) r, cmq_change_visibility('groups_src', r.receipt_handle, 0);
SELECT cmq_maintain('groups_src');
SELECT body, message_group, headers -> 'cmq_dead_letter' ? 'message_group' AS in_header FROM cmq.q_groups_dead_o_live ORDER BY msg_id;
SELECT cmq_redrive('groups_dead_o');
SELECT body, message_group, headers FROM cmq.q_groups_src_live ORDER BY msg_id;
SELECT cmq_clear_queue('groups_src');

-- Who may send to the dead-letter queue can write the header: it chooses no more than the
-- group, and what no group can be called is none.
SELECT cmq_alter_queue('groups_src', dead_letter_queue => 'groups_dead');
SELECT count(*) FROM (VALUES ('"forged"'), ('""'), ('1'), ('null'), ('["x"]'), (to_json(repeat('x', 128))::text), (to_json(repeat('x', 129))::text)) g (json),
	LATERAL cmq_send('groups_dead', json, headers => format('{"cmq_dead_letter": {"queue": "groups_src", "message_group": %s}}', json)::jsonb);
SELECT cmq_redrive('groups_dead');
SELECT left(body, 10) AS body, left(message_group, 10) AS message_group, length(message_group), headers FROM cmq.q_groups_src_live ORDER BY msg_id;
-- nor does it give a group to a queue without any
SELECT cmq_alter_queue('groups_plain', dead_letter_queue => 'groups_dead', max_receive_count => 1);
SELECT cmq_send('groups_dead', 'forged', headers => '{"cmq_dead_letter": {"queue": "groups_plain", "message_group": "x"}}') > 0 AS sent;
SELECT cmq_redrive('groups_dead');
SELECT body, message_group, headers FROM cmq_consume('groups_plain');
SELECT cmq_drop_queue('groups_src');
SELECT cmq_unbind_dead_letter('groups_plain');

--
-- Replay: groups go along, or into the header.
--
SELECT cmq_create_queue('groups_r', rewind_seconds => 3600, ordered => true);
SELECT count(*) FROM cmq_send_batch('groups_r', '{a1,b1,free,a2}', message_groups => '{a,b,NULL,a}', headers => '{"{\"k\": 1}",NULL,NULL,NULL}');
SELECT count(*) FROM cmq_consume('groups_r', 10);
SELECT cmq_replay('groups_r', 'groups_dead_o', '-infinity'), cmq_replay('groups_r', 'groups_plain', '-infinity');
SELECT body, message_group, headers - 'cmq_origin' AS others, headers -> 'cmq_origin' ->> 'queue' AS queue, headers -> 'cmq_origin' ? 'message_group' AS in_header FROM cmq_receive('groups_dead_o', 10);
SELECT body, message_group, headers - 'cmq_origin' AS others, headers -> 'cmq_origin' ->> 'queue' AS queue, headers -> 'cmq_origin' -> 'message_group' AS in_header FROM cmq_receive('groups_plain', 10);
-- what comes from a queue without groups has none
SELECT cmq_replay('groups_plain', 'groups_dead_o', '-infinity') > 0 AS replayed;
SELECT DISTINCT message_group, headers #> '{cmq_origin,message_group}' AS in_header FROM cmq_receive('groups_dead_o', 10);

--
-- Topics: ordered queues get the group, others do not.
--
SELECT cmq_create_topic('groups_t');
SELECT cmq_subscribe('groups_t', 'ordered', 'groups_a');
SELECT cmq_subscribe('groups_t', 'plain', 'groups_plain');
SELECT cmq_clear_queue('groups_plain') > 0 AS cleared;
SELECT queue FROM cmq_publish('groups_t', 'p1', message_group => 'p');
SELECT queue FROM cmq_publish('groups_t', 'p2');
SELECT queue, count(*) FROM cmq_publish_batch('groups_t', '{p3,p4,p5}', message_groups => '{p,NULL,q}') GROUP BY 1 ORDER BY 1;
SELECT body, message_group, headers FROM cmq_receive('groups_a', 10);
SELECT body, message_group, headers FROM cmq_receive('groups_plain', 10);
SELECT cmq_publish('groups_t', 'p', delay_seconds => 1, message_group => 'p');
SELECT cmq_publish_batch('groups_t', '{p,p}', delay_seconds => 1, message_groups => '{NULL,p}');
SELECT count(*) FROM cmq_publish_batch('groups_t', '{p,p}', delay_seconds => 1, message_groups => '{NULL,NULL}');
SELECT cmq_publish('groups_t', 'p', message_group => '');
SELECT cmq_publish('groups_t', 'p', message_group => repeat('p', 129));
SELECT cmq_publish_batch('groups_t', '{p,p}', message_groups => '{p}');
SELECT cmq_publish_batch('groups_t', '{p,p}', message_groups => '{{p,p}}');
SELECT count(*) FROM cmq_publish_batch('groups_t', '{}', message_groups => '{}');
SELECT cmq_unsubscribe('groups_t', 'ordered'), cmq_unsubscribe('groups_t', 'plain');
SELECT cmq_drop_topic('groups_t');

--
-- An index by group that is gone, or is not valid: the error says how to make it again.
--
SELECT cmq_create_queue('groups_i', ordered => true, rewind_seconds => 3600, visibility_timeout => 3600);
CREATE FUNCTION pg_temp.undo(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE command;
	RETURN 'nothing to undo';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	EXECUTE substring(hint FROM 'CREATE INDEX [^;]*');
	RETURN 'undone';
END $$;
SELECT count(*) FROM cmq_send_batch('groups_i', '{a1,a2,b1}', message_groups => '{a,a,b}');
SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index WHERE indrelid = 'cmq_data.q_groups_i_pending'::regclass AND NOT indisprimary \gexec
SELECT line FROM pg_temp.complaint($$SELECT cmq_receive('groups_i')$$);
-- what needs no group goes on
SELECT cmq_send('groups_i', 'b2', message_group => 'b') > 0 AS sent;
SELECT pg_temp.undo($$SELECT cmq_receive('groups_i')$$);
UPDATE pg_index SET indisvalid = false WHERE indrelid = 'cmq_data.q_groups_i_pending'::regclass AND NOT indisprimary;
SELECT line FROM pg_temp.complaint($$SELECT cmq_receive('groups_i')$$);
SELECT pg_temp.undo($$SELECT cmq_receive('groups_i')$$);
SELECT string_agg(body, ' ') AS bodies FROM cmq_consume('groups_i', 10);
SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index WHERE indrelid = 'cmq_data.q_groups_i_rewind'::regclass AND NOT indisprimary \gexec
SELECT cmq_rewind('groups_i', pg_temp.produced('groups_i', 'a2')) IS NOT NULL AS rewound;
SELECT regexp_replace(line, 'r_groups_i_\d+', 'r_groups_i_TIME') AS line FROM pg_temp.complaint($$SELECT cmq_receive('groups_i')$$);
SELECT pg_temp.undo($$SELECT cmq_receive('groups_i')$$);
SELECT string_agg(body, ' ') AS bodies FROM cmq_receive('groups_i', 10);

--
-- Rows that are changed by hand.
--
SELECT cmq_clear_queue('groups_i');
SELECT count(*) FROM cmq_send_batch('groups_i', '{x1,x2,x3,y1,y2}', message_groups => '{x,x,x,y,y}');
SELECT body FROM cmq_receive('groups_i', 1);
SELECT string_agg(body, ' ') AS bodies FROM cmq_receive_messages('groups_i', array(SELECT msg_id FROM cmq.q_groups_i_live WHERE body = 'y1'));
-- both groups are known to be blocked
SELECT body FROM cmq_receive('groups_i', 10);
SELECT body FROM cmq_receive('groups_i', 10);
DELETE FROM cmq_data.q_groups_i_pending WHERE enqueued_at = pg_temp.produced('groups_i', 'x1');
SELECT string_agg(body, ' ') AS x_is_free FROM cmq_receive('groups_i', 1);
SELECT body FROM cmq_receive('groups_i', 10);
-- ready again, in its group
UPDATE cmq_data.q_groups_i_pending SET visible_at = now() - interval '1 s' WHERE enqueued_at = pg_temp.produced('groups_i', 'y1');
SELECT string_agg(body, ' ') AS y_is_free FROM cmq_receive('groups_i', 10);
-- taken away, and put back with their groups
CREATE TEMP TABLE copy AS TABLE cmq_data.q_groups_i_pending;
DELETE FROM cmq_data.q_groups_i_pending;
SELECT body FROM cmq_receive('groups_i', 10);
INSERT INTO cmq_data.q_groups_i_pending SELECT * FROM copy;
SELECT body FROM cmq_receive('groups_i', 10);
UPDATE cmq_data.q_groups_i_pending SET visible_at = now() - interval '1 s' WHERE visible_at > now();
SELECT string_agg(body, ' ' ORDER BY message_group, ordinality) AS bodies FROM cmq_receive('groups_i', 10) WITH ORDINALITY;

--
-- cmq.status: how many groups have a message in flight, or put off, and others that wait.
--
SELECT cmq_create_queue('groups_s', ordered => true, rewind_seconds => 3600, visibility_timeout => 3600);
CREATE FUNCTION pg_temp.blocked() RETURNS bigint LANGUAGE sql AS $$ SELECT blocked_groups FROM cmq.status WHERE queue = 'groups_s' $$;
SELECT queue, blocked_groups FROM cmq.status WHERE queue IN ('groups_s', 'groups_plain') ORDER BY 1;
SELECT count(*) FROM cmq_send_batch('groups_s', '{a1,a2,b1,b2,c1,free1,free2}', message_groups => '{a,a,b,b,c,NULL,NULL}');
SELECT pg_temp.blocked() AS none_in_flight;
SELECT body, receipt_handle AS a1 FROM cmq_receive('groups_s', 1) \gset
SELECT :'body' AS body, pg_temp.blocked() AS a;
SELECT string_agg(body, ' ') AS bodies FROM cmq_receive_messages('groups_s', array(SELECT msg_id FROM cmq.q_groups_s_live WHERE body IN ('b1', 'c1', 'free1')));
SELECT pg_temp.blocked() AS a_and_b;
-- nothing waits behind what is alone in its group
SELECT count(*) FROM cmq_delete_messages('groups_s', array(SELECT msg_id FROM cmq.q_groups_s_live WHERE body = 'b2'));
SELECT pg_temp.blocked() AS a;
-- a later one that is sent, and not committed, and rolled back
BEGIN;
SELECT cmq_send('groups_s', 'c2', message_group => 'c') > 0 AS sent;
SELECT pg_temp.blocked() AS a_and_c;
ROLLBACK;
SELECT pg_temp.blocked() AS a;
-- put off by a release
SELECT cmq_release('groups_s', ARRAY[:'a1'], 600) = :'a1' AS released;
SELECT pg_temp.blocked() AS a;
SELECT cmq_release('groups_s', ARRAY[receipt_handle], 600, counted => false) = receipt_handle AS released FROM cmq._deliveries_of('groups_s', array(SELECT msg_id FROM cmq.q_groups_s_live WHERE body = 'a1'), false);
SELECT pg_temp.blocked() AS a, in_flight, delayed FROM cmq.status WHERE queue = 'groups_s';
SELECT count(*) FROM cmq_delete_messages('groups_s', array(SELECT msg_id FROM cmq.q_groups_s_live WHERE body = 'a1'));
SELECT pg_temp.blocked() AS none;
-- what a rewind brings back waits for what is in flight
SELECT string_agg(body, ' ') AS bodies FROM cmq_receive('groups_s', 10) WHERE message_group = 'a';
SELECT pg_temp.blocked() AS none;
SELECT cmq_rewind('groups_s', pg_temp.produced('groups_s', 'a1')) IS NOT NULL AS rewound;
SELECT pg_temp.blocked() AS a_and_b;
SELECT cmq_cancel_rewind('groups_s');
SELECT pg_temp.blocked() AS none;
SELECT count(*) FROM cmq_restore_messages('groups_s', array(SELECT msg_id FROM cmq.q_groups_s_history WHERE body = 'a1'));
SELECT pg_temp.blocked() AS a;
-- too many to count
SELECT count(*) FROM cmq_send_batch('groups_s', array_fill('x'::text, '{10001}'), message_groups => array(SELECT 'g' || i FROM generate_series(1, 10001) i));
DO $$ BEGIN FOR i IN 1 .. 11 LOOP PERFORM FROM cmq_receive('groups_s', 1000); END LOOP; END $$;
SELECT in_flight > 10000 AS many, blocked_groups FROM cmq.status WHERE queue = 'groups_s';

SELECT cmq_drop_queue(queue) FROM cmq.queues WHERE queue LIKE 'groups\_%' ORDER BY queue;
