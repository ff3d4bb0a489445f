-- What the owner of a queue does to its tables: it works as before, or every call fails
-- with an error that says what was done and how to undo it.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_changes;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_changes;
-- do what the hint says
CREATE FUNCTION pg_temp.undo(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	BEGIN
		EXECUTE command;
		RETURN 'nothing to undo';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	END;
	EXECUTE substring(hint FROM '((?:ALTER|DROP) TABLE [^;]*);');
	RETURN 'undone';
END $$;
-- All of a queue's life, in its history with a rewind: what is sent is received once.
CREATE FUNCTION pg_temp.life(queue text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	since timestamptz;
	handle text;
	result text;
BEGIN
	PERFORM cmq_clear_queue(queue);
	since := cmq.enqueued_at(cmq_send(queue, 'one'));
	PERFORM cmq_send_batch(queue, '{two,three}', headers => array_fill('{"k": 1}'::jsonb, '{2}'));
	PERFORM cmq_send(queue, 'later', 100);
	SELECT receipt_handle INTO handle FROM cmq_receive(queue);
	handle := cmq_change_visibility(queue, handle, 50);
	ASSERT cmq_delete(queue, handle), 'delete';
	ASSERT (SELECT count(*) FROM cmq_delete_batch(queue, array(SELECT receipt_handle FROM cmq_receive(queue, 10)))) = 2, 'delete_batch';
	PERFORM cmq_rewind(queue, since);
	result := pg_temp.receive(queue, 1);
	PERFORM cmq_cancel_rewind(queue);
	PERFORM cmq_restore(queue, since);
	result := result || ' ' || pg_temp.receive(queue);
	PERFORM cmq_maintain(queue);
	RETURN result || ', ' || (SELECT active_msg_num || ' ' || inactive_msg_num || ' ' || delay_msg_num FROM cmq_queue_attributes(queue)) ||
		', ' || pg_temp.live(queue);
END $$;
-- Make a new pair of leaves, of the changed parents.
CREATE FUNCTION pg_temp.new_leaf(queue text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	l record;
BEGIN
	PERFORM cmq_clear_queue(queue);
	FOR l IN SELECT messages, rewind FROM cmq.partition p WHERE p.queue = new_leaf.queue LOOP
		EXECUTE format('DROP TABLE %s, %s', l.messages, l.rewind);
	END LOOP;
	PERFORM cmq_maintain(queue);
	RETURN true;
END $$;
CREATE FUNCTION pg_temp.leaf(queue text, which text) RETURNS regclass LANGUAGE sql AS
	$$SELECT CASE which WHEN 'm' THEN p.messages ELSE p.rewind END FROM cmq.partition p WHERE p.queue = $1 AND now() >= lower AND now() < upper$$;

SELECT cmq_create_queue('changes', rewind_seconds => 3600, visibility_timeout => 43200);
SELECT pg_temp.life('changes') AS as_made;

--
-- Columns added and dropped again, on each table; leaves made before and after.
--
ALTER TABLE cmq_data.q_changes ADD COLUMN x int DEFAULT 7, ADD COLUMN y text;
ALTER TABLE cmq_data.q_changes_pending ADD COLUMN x int;
ALTER TABLE cmq_data.q_changes_rewind ADD COLUMN x int;
SELECT line FROM pg_temp.complaint($$SELECT cmq_receive('changes')$$);
ALTER TABLE cmq_data.q_changes_pending DROP COLUMN x;
SELECT line FROM pg_temp.complaint($$SELECT cmq_receive('changes')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_maintain('changes')$$);
SELECT pg_temp.undo($$SELECT cmq_send('changes', 'x')$$);
SELECT pg_temp.undo($$SELECT cmq_send('changes', 'x')$$);
SELECT cmq_clear_queue('changes') > 0 AS cleared;
SELECT cmq_send('changes', 'x') > 0 AS sent;
SELECT line FROM pg_temp.complaint($$SELECT cmq_delete('changes', receipt_handle) FROM cmq_receive('changes')$$);
SELECT pg_temp.undo($$SELECT cmq_delete('changes', receipt_handle) FROM cmq_receive('changes')$$);
SELECT pg_temp.life('changes') AS dropped_again;
SELECT pg_temp.new_leaf('changes');
SELECT attrelid::regclass IN (pg_temp.leaf('changes', 'm'), pg_temp.leaf('changes', 'r')) AS leaf, count(*) AS dropped FROM pg_attribute
 WHERE attisdropped AND attrelid::regclass::text ~ 'cmq_data\.[qmr]_changes' GROUP BY 1;
SELECT pg_temp.life('changes') AS new_leaf;

--
-- Statistics, indexes, other names of columns, storage.
--
CREATE STATISTICS cmq_data.changes_stat ON headers, body FROM cmq_data.q_changes;
CREATE INDEX ON cmq_data.q_changes (length(body));
CREATE INDEX ON cmq_data.q_changes_rewind (deleted_at);
CREATE INDEX ON cmq_data.q_changes_pending (enqueued_at);
ALTER TABLE cmq_data.q_changes RENAME COLUMN body TO bodies;
ALTER TABLE cmq_data.q_changes ALTER COLUMN bodies SET STORAGE external, ALTER COLUMN headers SET DEFAULT '{}', ALTER COLUMN bodies SET STATISTICS 7;
SELECT pg_temp.life('changes') AS more_objects;
SELECT pg_temp.new_leaf('changes');
SELECT pg_temp.life('changes') AS new_leaf;
ALTER TABLE cmq_data.q_changes RENAME COLUMN bodies TO body;

--
-- Constraints hold for what the functions write, too, as for who restores a dump.
--
SELECT pg_temp.new_leaf('changes');
ALTER TABLE cmq_data.q_changes ADD CONSTRAINT short CHECK (length(body) < 10), ALTER COLUMN headers SET NOT NULL;
ALTER TABLE cmq_data.q_changes_pending ADD CONSTRAINT few CHECK (receive_count < 2);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('changes', 'longer than ten')$$) WHERE line NOT LIKE 'Failing%';
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('changes', 'short')$$) WHERE line NOT LIKE 'Failing%';
SELECT line FROM pg_temp.complaint($$SELECT cmq_send_batch('changes', '{short,longer than ten}', headers => ARRAY['{}', '{}']::jsonb[])$$) WHERE line NOT LIKE 'Failing%';
SELECT pg_temp.attempt($$SELECT cmq_send_batch('changes', '{short,also}', headers => ARRAY['{}', '{}']::jsonb[])$$);
SELECT count(cmq_change_visibility('changes', receipt_handle, 0)) FROM cmq_receive('changes', 10);
SELECT line FROM pg_temp.complaint($$SELECT cmq_receive('changes')$$) WHERE line NOT LIKE 'Failing%';
ALTER TABLE cmq_data.q_changes_pending DROP CONSTRAINT few;
SELECT pg_temp.consume('changes');
SELECT pg_temp.new_leaf('changes');
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('changes', 'longer than ten', headers => '{}')$$) WHERE line NOT LIKE 'Failing%';
ALTER TABLE cmq_data.q_changes DROP CONSTRAINT short, ALTER COLUMN headers DROP NOT NULL;
SELECT pg_temp.life('changes') AS without;
SELECT cmq_clear_queue('changes') > 0 AS cleared;
ALTER TABLE cmq_data.q_changes_pending ALTER COLUMN change_count SET NOT NULL;
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('changes', 'unchanged')$$) WHERE line NOT LIKE 'Failing%';
ALTER TABLE cmq_data.q_changes_pending ALTER COLUMN change_count DROP NOT NULL;
SELECT pg_temp.life('changes') AS without;
-- their code is the owner's
SET ROLE regress_changes;
SELECT cmq_create_queue('changes_owned');
CREATE FUNCTION cmq_data.changes_who(t text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN current_user = 'regress_changes'; END $$;
ALTER TABLE cmq_data.q_changes_owned ADD CHECK (cmq_data.changes_who(body));
RESET ROLE;
SELECT cmq_send('changes_owned', 'x') > 0 AS sent;
SELECT cmq_drop_queue('changes_owned');
DROP FUNCTION cmq_data.changes_who;

--
-- Unlogged
--
ALTER TABLE cmq_data.q_changes_pending SET UNLOGGED;
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('changes', 'x')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_queue_attributes('changes')$$);
SELECT pg_temp.undo($$SELECT cmq_send('changes', 'x')$$);
SELECT cmq_clear_queue('changes') > 0 AS cleared, cmq_send('changes', 'x') > 0 AS sent;
DO $$ BEGIN EXECUTE format('ALTER TABLE %s SET UNLOGGED', pg_temp.leaf('changes', 'm')); EXECUTE format('ALTER TABLE %s SET UNLOGGED', pg_temp.leaf('changes', 'r')); END $$;
-- each call fails, and puts off no message for it
SELECT line FROM pg_temp.complaint($$SELECT cmq_receive('changes')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_receive('changes')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_consume('changes')$$);
SELECT sum(receive_count) AS received FROM cmq_data.q_changes_pending;
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('changes', 'x')$$);
SELECT pg_temp.undo($$SELECT cmq_send('changes', 'x')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_rewind_preview('changes', '-infinity')$$);
SELECT pg_temp.undo($$SELECT cmq_rewind_preview('changes', '-infinity')$$);
SELECT pg_temp.life('changes') AS logged_again;

--
-- Partitions: another name is nothing
--
DO $$ BEGIN EXECUTE format('ALTER TABLE %s RENAME TO changes_foo', pg_temp.leaf('changes', 'm')); EXECUTE format('ALTER TABLE %s RENAME TO changes_bar', pg_temp.leaf('changes', 'r')); END $$;
SELECT pg_temp.life('changes') AS renamed;
-- one of a pair detached: none of the calls, nor of the views' rows, is a guess
ALTER TABLE cmq_data.q_changes DETACH PARTITION cmq_data.changes_foo;
SELECT DISTINCT line FROM unnest(ARRAY[$$SELECT cmq_send('changes', 'x')$$, $$SELECT cmq_receive('changes')$$, $$SELECT cmq_queue_attributes('changes')$$, $$SELECT cmq_maintain('changes')$$,
	$$SELECT * FROM cmq.q_changes_live$$, $$SELECT cmq_rewind_preview('changes', '-infinity')$$]) c, LATERAL pg_temp.complaint(c) ORDER BY 1;
SELECT pg_temp.undo($$SELECT cmq_send('changes', 'x')$$);
SELECT pg_temp.live('changes');
ALTER TABLE cmq_data.q_changes_rewind DETACH PARTITION cmq_data.changes_bar CONCURRENTLY;
SELECT line FROM pg_temp.complaint($$SELECT cmq_receive('changes')$$);
SELECT pg_temp.undo($$SELECT cmq_send('changes', 'x')$$);
SELECT pg_temp.life('changes') AS attached_again;
-- one dropped
DROP TABLE cmq_data.changes_bar;
SELECT line FROM pg_temp.complaint($$SELECT cmq_receive('changes')$$);
SELECT pg_temp.undo($$SELECT cmq_receive('changes')$$);
SELECT cmq_clear_queue('changes');
SELECT pg_temp.life('changes') AS both_dropped;
-- both detached: they are the queue's no more, but their names are in the way
SELECT cmq_clear_queue('changes') > 0 AS cleared;
SELECT pg_temp.leaf('changes', 'm') AS m, pg_temp.leaf('changes', 'r') AS r \gset
ALTER TABLE cmq_data.q_changes DETACH PARTITION :m;
ALTER TABLE cmq_data.q_changes_rewind DETACH PARTITION :r;
SET client_min_messages = error;
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('changes', 'x')$$);
SET client_min_messages = warning;
SELECT pg_temp.undo($$SELECT cmq_send('changes', 'x')$$);
SELECT line FROM pg_temp.complaint($$SELECT cmq_send('changes', 'x')$$);
SELECT pg_temp.undo($$SELECT cmq_send('changes', 'x')$$);
SELECT pg_temp.life('changes') AS attached_again;
SELECT cmq_clear_queue('changes') > 0 AS cleared;
SELECT cmq_send('changes', 'old') > 0 AS sent;
SELECT pg_temp.consume('changes');
ALTER TABLE cmq_data.q_changes DETACH PARTITION :m;
ALTER TABLE cmq_data.q_changes_rewind DETACH PARTITION :r;
ALTER TABLE :m RENAME TO changes_archive;
ALTER TABLE :r RENAME TO changes_archive_rewind;
SELECT pg_temp.life('changes') AS another_leaf;
SELECT count(*) > 0 AS kept FROM cmq_data.changes_archive;
TRUNCATE cmq_data.changes_archive;
DROP TABLE cmq_data.changes_archive, cmq_data.changes_archive_rewind;

--
-- TRUNCATE
--
SELECT regexp_replace(r.t, '_\d{12}', '_TIME') AS t, line FROM unnest(ARRAY['cmq_data.q_changes', 'cmq_data.q_changes_pending', 'cmq_data.q_changes_rewind', pg_temp.leaf('changes', 'm')::text, pg_temp.leaf('changes', 'r')::text]) WITH ORDINALITY r (t, n),
	LATERAL pg_temp.complaint('TRUNCATE ' || t) WHERE r.n <= 3 OR line LIKE '0A000%' ORDER BY n, line;
SELECT pg_temp.life('changes') AS not_truncated;
-- who restores or replicates may: the messages are gone, and what is left of them stops nobody
SET session_replication_role = replica;
TRUNCATE cmq_data.q_changes;
RESET session_replication_role;
SELECT pg_temp.receive('changes');
SELECT cmq_maintain('changes');
SELECT pg_temp.life('changes') AS truncated;
SET session_replication_role = replica;
TRUNCATE cmq_data.q_changes, cmq_data.q_changes_pending, cmq_data.q_changes_rewind;
RESET session_replication_role;
SELECT active_msg_num, inactive_msg_num, delay_msg_num, rewind_msg_num FROM cmq_queue_attributes('changes');
SELECT pg_temp.life('changes') AS all_truncated;

-- a row at the beginning of all time has expired, and is purged like any other
INSERT INTO cmq_data.q_changes_pending VALUES ('-infinity', '-infinity', NULL, 0, 0);
SELECT cmq_maintain('changes');
SELECT count(*) FROM cmq_data.q_changes_pending WHERE visible_at = '-infinity';

SELECT cmq_drop_queue('changes');
DROP OWNED BY regress_changes;
DROP ROLE regress_changes;
