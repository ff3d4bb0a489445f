-- Groups of ordered queues, as they are stored: what a group can be, rows and hashes in each
-- state, and tables that were changed.  The order of receives is not looked at here.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('group_rows', visibility_timeout => 3600, rewind_seconds => 3600, ordered => true);
SELECT cmq_create_queue('group_rows_plain', rewind_seconds => 3600);
SELECT cmq_create_queue('group_rows_new', ordered => true);
SELECT queue, ordered FROM cmq.queues WHERE queue LIKE 'group_rows%' ORDER BY queue;
SELECT (cmq_queue_attributes('group_rows')).ordered, (cmq_queue_attributes('group_rows_plain')).ordered AS plain;
SELECT cmq_create_queue('group_rows_x', ordered => NULL);
-- it is for good
SELECT cmq_alter_queue('group_rows', visibility_timeout => 3601);
SELECT ordered FROM cmq.queues WHERE queue = 'group_rows';

--
-- What makes a queue ordered; another one has none of it.
--
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.relname ~ '^q_group_rows' AND c.relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) AND a.attname ~ 'group' AND c.relkind IN ('r', 'p', 'v')
 ORDER BY c.relname, a.attnum;
SELECT regexp_replace(indexrelid::regclass::text, '\d{12}', 'TIME') AS index, pg_get_indexdef(indexrelid) ~ '\(group_key, visible_at\)' AS by_key, pg_get_indexdef(indexrelid) ~ '\(group_hash, enqueued_at\)' AS by_hash
  FROM pg_index WHERE indrelid::regclass::text ~ '^cmq_data\.q_group_rows' AND NOT indisprimary ORDER BY 1;
-- so has each leaf
SELECT count(*) > 0 AS leaves, bool_and(EXISTS (SELECT FROM pg_index i WHERE i.indrelid = p.rewind AND pg_get_indexdef(i.indexrelid) ~ '\(group_hash, enqueued_at\)')) AS with_index FROM cmq.partition p WHERE queue = 'group_rows';

--
-- What a group can be.
--
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('group_rows_plain', 'x', message_group => 'a')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send_batch('group_rows_plain', '{x}', message_groups => '{a}')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('group_rows', 'x', message_group => '')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('group_rows', 'x', message_group => repeat('x', 129))$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('group_rows', 'x', message_group => repeat('x', 1000000))$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('group_rows', 'x', 1, message_group => 'a')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('group_rows', 'x', deliver_at => 'epoch', message_group => 'a')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send_batch('group_rows', '{x,y}', 1, message_groups => '{NULL,a}')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send_batch('group_rows', '{x,y}', deliver_at => now(), message_groups => '{a,NULL}')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send_batch('group_rows', '{x,y}', message_groups => '{a}')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send_batch('group_rows', '{x}', message_groups => '{a,b}')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send_batch('group_rows', '{x}', message_groups => '{{a}}')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send_batch('group_rows', '{}', message_groups => '{a}')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send_batch('group_rows', '{x,y}', message_groups => ARRAY['a', ''])$$);
-- these can be: no group at all, with a delay, for a queue that is not ordered, too
SELECT count(*) FROM (SELECT cmq_send('group_rows', 'x', 1, message_group => NULL) UNION SELECT cmq_send_batch('group_rows', '{x,y}', 1, message_groups => '{NULL,NULL}') UNION
	SELECT cmq_send_batch('group_rows_plain', '{x,y}', message_groups => '{NULL,NULL}') UNION SELECT cmq_send('group_rows_plain', 'x', message_group => NULL)) s;
SELECT count(*) FROM cmq_send_batch('group_rows', '{}', message_groups => '{}');
SELECT cmq_clear_queue('group_rows'), cmq_clear_queue('group_rows_plain');

--
-- The hash is in dumps, so it never changes.  Its lowest bit is set while the message
-- waits for its first delivery.
--
CREATE FUNCTION pg_temp.pending(queue text) RETURNS TABLE (body text, message_group text, hash bigint, waits boolean, received int) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT m.body, m.message_group, p.group_key & ~1::bigint, (p.group_key & 1) = 1, p.receive_count FROM cmq_data.%I p JOIN cmq_data.%I m USING (enqueued_at) ORDER BY enqueued_at', 'q_' || queue || '_pending', 'q_' || queue);
END $$;
CREATE FUNCTION pg_temp.deleted(queue text) RETURNS TABLE (body text, message_group text, hash bigint) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT m.body, m.message_group, r.group_hash FROM cmq_data.%I r JOIN cmq_data.%I m USING (enqueued_at) ORDER BY enqueued_at', 'q_' || queue || '_rewind', 'q_' || queue);
END $$;
SELECT cmq_send('group_rows', 'm1', message_group => 'a') > 0 AS sent;
SELECT count(*) FROM cmq_send_batch('group_rows', '{m2,m3,m4,m5,m6}', message_groups => ARRAY['b', NULL, 'account-7', repeat('x', 128), chr(937)]);
SELECT body, left(message_group, 10) AS message_group, hash, waits FROM pg_temp.pending('group_rows');
SELECT sum(hash) = 0 AS never FROM pg_temp.pending('group_rows');
-- received, given back, released, hidden: held
SELECT body, left(message_group, 10) AS message_group FROM cmq_receive('group_rows', 10) WITH ORDINALITY ORDER BY ordinality;
SELECT body, hash, waits, received FROM pg_temp.pending('group_rows');
SELECT count(*) FROM cmq_release('group_rows', ARRAY(SELECT receipt_handle FROM cmq._deliveries_of('group_rows', ARRAY(SELECT msg_id FROM cmq.q_group_rows_live WHERE body IN ('m1', 'm3')), false)), 0, false);
SELECT body, message_group, receipt_handle <> '' AS in_flight FROM cmq._deliveries_of('group_rows', ARRAY(SELECT msg_id FROM cmq.q_group_rows_live WHERE body IN ('m2', 'm3')), true) ORDER BY body;
SELECT cmq_change_visibility('group_rows', receipt_handle, 0) <> '' AS changed FROM cmq._deliveries_of('group_rows', ARRAY(SELECT msg_id FROM cmq.q_group_rows_live WHERE body = 'm2'), false);
SELECT body, hash, waits, received FROM pg_temp.pending('group_rows');
-- deleted in each way
SELECT count(*) FROM cmq_delete_batch('group_rows', ARRAY(SELECT receipt_handle FROM cmq._deliveries_of('group_rows', ARRAY(SELECT msg_id FROM cmq.q_group_rows_live), false)));
SELECT body, message_group FROM cmq_consume('group_rows', 1);
SELECT count(*) FROM cmq_delete_messages('group_rows', ARRAY(SELECT msg_id FROM cmq.q_group_rows_live));
SELECT body, left(message_group, 10) AS message_group, hash FROM pg_temp.deleted('group_rows');
-- brought back in each way
SELECT count(*) FROM cmq_restore_messages('group_rows', ARRAY(SELECT msg_id FROM cmq.q_group_rows_history WHERE body IN ('m1', 'm3')));
SELECT body, hash, waits, received FROM pg_temp.pending('group_rows');
SELECT cmq_rewind('group_rows', pg_temp.produced('group_rows', 'm1')) IS NOT NULL AS rewound;
SELECT body, left(message_group, 10) AS message_group, rewind_count FROM cmq_receive('group_rows', 10) ORDER BY enqueued_at;
SELECT body, hash, waits, received FROM pg_temp.pending('group_rows');
SELECT count(*) FROM cmq_delete_batch('group_rows', ARRAY(SELECT receipt_handle FROM cmq._deliveries_of('group_rows', ARRAY(SELECT msg_id FROM cmq.q_group_rows_live WHERE body <> 'm6'), false)));
-- seen
SELECT state, body, left(message_group, 10) AS message_group FROM cmq.q_group_rows_all ORDER BY enqueued_at;
SELECT body FROM cmq.q_group_rows_live WHERE message_group = chr(937);
SELECT body FROM cmq.q_group_rows_history WHERE message_group = 'account-7';
SELECT body, left(message_group, 10) AS message_group FROM cmq_history('group_rows');
SELECT count(*) AS differ FROM ((SELECT * FROM cmq_history('group_rows') EXCEPT ALL SELECT * FROM cmq.q_group_rows_history) UNION ALL (SELECT * FROM cmq.q_group_rows_history EXCEPT ALL SELECT * FROM cmq_history('group_rows'))) d;
SELECT body, message_group FROM cmq_receive('group_rows_plain');
SELECT count(*), count(message_group) FROM cmq_send('group_rows_plain', 'p'), cmq_consume('group_rows_plain');
SELECT count(*), count(message_group) FROM cmq_history('group_rows_plain');
SELECT cmq_clear_queue('group_rows');

--
-- What a transaction frees is free to itself, also when it has found it blocked before.
--
CREATE FUNCTION pg_temp.finish(queue text, which text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
BEGIN
	EXECUTE format('SELECT array_agg(msg_id) FROM cmq.%I WHERE body = $1', 'q_' || queue || '_live') INTO ids USING which;
	RETURN (SELECT cmq_delete(queue, receipt_handle) FROM cmq._deliveries_of(queue, ids, false));
END $$;
SELECT count(*) FROM cmq_send_batch('group_rows', '{o1,o2,o3,other}', message_groups => '{o,o,o,x}');
BEGIN;
SELECT pg_temp.receive('group_rows', 1), pg_temp.receive('group_rows', 5) AS other, pg_temp.receive('group_rows') AS nothing;
SELECT pg_temp.finish('group_rows', 'o1') AS deleted, pg_temp.receive('group_rows', 1) AS next, pg_temp.receive('group_rows') AS nothing;
SELECT cmq_release('group_rows', ARRAY(SELECT receipt_handle FROM cmq._deliveries_of('group_rows', ARRAY(SELECT msg_id FROM cmq.q_group_rows_live WHERE body = 'o2'), false)), 0) <> '' AS released,
	   pg_temp.receive('group_rows', 1) AS again, pg_temp.receive('group_rows') AS nothing;
SAVEPOINT s;
SELECT pg_temp.finish('group_rows', 'o2') AS deleted, pg_temp.receive('group_rows', 1) AS next;
ROLLBACK TO s;
SELECT pg_temp.receive('group_rows') AS nothing;
SELECT cmq_change_visibility('group_rows', receipt_handle, 0) <> '' AS changed FROM cmq._deliveries_of('group_rows', ARRAY(SELECT msg_id FROM cmq.q_group_rows_live WHERE body = 'o2'), false);
SELECT pg_temp.receive('group_rows') AS both;
ROLLBACK;
SELECT pg_temp.receive('group_rows') AS as_before;
SELECT cmq_clear_queue('group_rows');
-- what it has taken and given back is there for the next one, which has looked for dead letters first
SELECT cmq_alter_queue('group_rows', dead_letter_queue => 'group_rows_new', max_receive_count => 9);
SELECT count(*) FROM cmq_send_batch('group_rows', '{o1,o2,back}', message_groups => '{o,o,NULL}');
SELECT pg_temp.receive('group_rows', 1);
BEGIN;
SELECT body FROM cmq_consume('group_rows', 9);
ROLLBACK;
BEGIN;
SELECT cmq_maintain('group_rows');
SELECT pg_temp.receive('group_rows');
ROLLBACK;
SELECT cmq_clear_queue('group_rows');
-- a letter that a replay has brought to an ordered dead-letter queue may have its group in the header alone
SELECT count(*) FROM cmq_send_batch('group_rows_new', '{l1,l2,l3}', headers => array_fill('{"cmq_dead_letter": {"queue": "group_rows", "message_group": "header"}}'::jsonb, ARRAY[2]) || '{"cmq_dead_letter": {"queue": "group_rows"}}'::jsonb,
	message_groups => '{NULL,column,NULL}');
SELECT cmq_redrive('group_rows_new');
SELECT body, message_group FROM cmq.q_group_rows_live ORDER BY msg_id;
SELECT cmq_clear_queue('group_rows');
SELECT cmq_unbind_dead_letter('group_rows');

--
-- Tables that were changed.
--
SELECT cmq_clear_queue('group_rows');
SELECT count(*) FROM cmq_send_batch('group_rows', '{c1,c2}', message_groups => '{a,a}');
CREATE FUNCTION pg_temp.changed(change text, command text, undo text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE change;
	RETURN QUERY SELECT line FROM pg_temp.complaint(command);
	EXECUTE undo;
END $$;
CREATE FUNCTION pg_temp.give_back(queue text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
BEGIN
	EXECUTE format('SELECT array_agg(msg_id) FROM cmq.%I WHERE state = ''in_flight''', 'q_' || queue || '_live') INTO ids;
	RETURN (SELECT count(cmq_change_visibility(queue, receipt_handle, 0)) FROM cmq._deliveries_of(queue, ids, false));
END $$;
SELECT indexrelid::regclass AS by_key FROM pg_index WHERE indrelid = 'cmq_data.q_group_rows_pending'::regclass AND NOT indisprimary \gset
-- another name is no change, nor are columns that it includes
SELECT pg_temp.changed('DROP INDEX ' || :'by_key', $$SELECT cmq_receive('group_rows')$$, 'CREATE INDEX other ON cmq_data.q_group_rows_pending (group_key, visible_at) INCLUDE (receive_count)');
SELECT body FROM cmq_receive('group_rows', 2);
SELECT pg_temp.give_back('group_rows');
-- a part of it is, or other columns, or another order
SELECT pg_temp.changed('DROP INDEX cmq_data.other; CREATE INDEX other ON cmq_data.q_group_rows_pending (group_key, visible_at) WHERE receive_count > 0', $$SELECT cmq_receive('group_rows')$$, 'DROP INDEX cmq_data.other');
SELECT pg_temp.changed('CREATE INDEX other ON cmq_data.q_group_rows_pending (group_key, visible_at DESC)', $$SELECT cmq_receive('group_rows')$$, 'DROP INDEX cmq_data.other');
SELECT pg_temp.changed('CREATE INDEX other ON cmq_data.q_group_rows_pending (group_key, enqueued_at)', $$SELECT cmq_receive('group_rows')$$, 'DROP INDEX cmq_data.other');
SELECT pg_temp.changed('CREATE INDEX other ON cmq_data.q_group_rows_pending (group_key, visible_at, enqueued_at)', $$SELECT cmq_receive('group_rows')$$, 'DROP INDEX cmq_data.other');
-- who does not look for a group does without
SELECT cmq_send('group_rows', 'c3', message_group => 'a') > 0 AS sent;
-- the hint helps
SELECT line AS hint FROM pg_temp.complaint($$SELECT cmq_receive('group_rows')$$) WHERE line LIKE '%Otherwise make it again%' \gset
SELECT substring(:'hint' FROM 'CREATE.*') AS make_it_again \gset
:make_it_again
SELECT body FROM cmq_receive('group_rows', 3);
-- that of a rewind leaf
SELECT count(*) FROM cmq_delete_batch('group_rows', ARRAY(SELECT receipt_handle FROM cmq._deliveries_of('group_rows', ARRAY(SELECT msg_id FROM cmq.q_group_rows_live), false)));
SELECT cmq_rewind('group_rows', pg_temp.produced('group_rows', 'c1')) IS NOT NULL AS rewound;
SELECT regexp_replace(line, '_[a-z0-9]*_idx', '') AS line FROM pg_temp.changed('DROP INDEX cmq_data.q_group_rows_rewind_group_hash_enqueued_at_idx', $$SELECT cmq_receive('group_rows', 3)$$, 'CREATE INDEX ON cmq_data.q_group_rows_rewind (group_hash, enqueued_at)') line;
SELECT body FROM cmq_receive('group_rows', 3);
-- columns
SELECT pg_temp.changed('ALTER TABLE cmq_data.q_group_rows_pending ADD COLUMN more int', $$SELECT cmq_receive('group_rows')$$, 'ALTER TABLE cmq_data.q_group_rows_pending DROP COLUMN more');
SELECT line FROM pg_temp.changed('ALTER TABLE cmq_data.q_group_rows_new ALTER COLUMN message_group SET NOT NULL', $$SELECT cmq_send('group_rows_new', 'none')$$, 'ALTER TABLE cmq_data.q_group_rows_new ALTER COLUMN message_group DROP NOT NULL') line WHERE line LIKE '2%';
SELECT line FROM pg_temp.changed('ALTER TABLE cmq_data.q_group_rows_new ADD CHECK (message_group <> ''no'')', $$SELECT cmq_send('group_rows_new', 'none', message_group => 'no')$$, 'ALTER TABLE cmq_data.q_group_rows_new DROP CONSTRAINT q_group_rows_new_message_group_check') line WHERE line LIKE '2%';
SELECT pg_temp.changed('ALTER TABLE cmq_data.q_group_rows RENAME COLUMN message_group TO other', $$SELECT cmq_send('group_rows', 'c3', message_group => 'a')$$, 'ALTER TABLE cmq_data.q_group_rows RENAME COLUMN other TO message_group');
-- a plain queue is not ordered by a column that somebody adds, or has added and dropped
SELECT pg_temp.changed('ALTER TABLE cmq_data.q_group_rows_plain_pending ADD COLUMN group_key bigint', $$SELECT cmq_send('group_rows_plain', 'x')$$, 'ALTER TABLE cmq_data.q_group_rows_plain_pending DROP COLUMN group_key');
SELECT pg_temp.changed('ALTER TABLE cmq_data.q_group_rows_plain ADD COLUMN message_group text', $$SELECT cmq_send('group_rows_plain', 'x')$$, 'ALTER TABLE cmq_data.q_group_rows_plain DROP COLUMN message_group');
SELECT cmq_send('group_rows_plain', 'before') > 0 AS sent;
SELECT pg_temp.changed('ALTER TABLE cmq_data.q_group_rows_plain_rewind ADD COLUMN group_hash bigint', $$SELECT cmq_consume('group_rows_plain')$$, 'ALTER TABLE cmq_data.q_group_rows_plain_rewind DROP COLUMN group_hash');
SELECT cmq_clear_queue('group_rows_plain') >= 0 AS cleared;
SELECT cmq_send('group_rows_plain', 'after') > 0 AS sent;
SELECT body, message_group FROM cmq_consume('group_rows_plain', 100);
SELECT cmq_rewind('group_rows_plain', pg_temp.produced('group_rows_plain', 'after')) IS NOT NULL AS rewound;
SELECT body, message_group, rewind_count FROM cmq_receive('group_rows_plain', 100);

SELECT cmq_drop_queue('group_rows');
SELECT cmq_drop_queue('group_rows_new');
SELECT cmq_drop_queue('group_rows_plain');
