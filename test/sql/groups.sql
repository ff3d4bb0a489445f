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
