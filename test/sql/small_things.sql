-- Things without a bound, and what calls tell to roles without a right.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_small_owner;
CREATE ROLE regress_small_nobody;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_small_owner;
GRANT USAGE ON SCHEMA cmq TO regress_small_nobody;
SET ROLE regress_small_owner;
SELECT cmq_create_queue('small', rewind_seconds => 3600, max_msg_size => 1024);
SELECT cmq_create_topic('small');

--
-- The record: nothing without a bound, and no row for nothing.
--
SELECT cmq_restore('small', 'infinity'), cmq_restore('small', '-infinity'), cmq_rewind('small', now() - interval '1 min');
SELECT count(*) FROM cmq_restore_messages('small', '{1,2}');
SELECT count(*) AS rows FROM cmq.rewinds WHERE queue = 'small';
SELECT cmq_send('small', 'm') > 0 AS sent;
SELECT pg_temp.consume('small');
SELECT set_config('cmq.reason', repeat('r', 1001), false) IS NOT NULL AS set;
SELECT pg_temp.attempt($$SELECT cmq_restore('small', '-infinity')$$) AS long_reason;
SELECT set_config('cmq.reason', repeat('r', 1000), false) IS NOT NULL AS set;
SELECT pg_temp.attempt(format($$SELECT cmq_restore('small', '-infinity', filter => %L)$$, jsonb_build_object('k', repeat('f', 9000)))) AS large_filter;
SELECT cmq_restore('small', '-infinity') AS restored;
SELECT kind, length(reason) FROM cmq.rewinds WHERE queue = 'small';
RESET cmq.reason;

--
-- Headers, subscriptions.
--
SELECT pg_temp.attempt($$SELECT cmq_send('small', 'x', headers => jsonb_build_object('k', repeat('h', 900)))$$) AS headers,
	   pg_temp.attempt($$SELECT cmq_send('small', 'x', headers => jsonb_build_object('k', repeat('h', 1100)))$$) AS larger;
SELECT count(cmq_subscribe('small', 's' || i, 'small')) FROM generate_series(1, 10) i;
SELECT pg_temp.attempt($$SELECT cmq_subscribe('small', 's11', 'small')$$);
SELECT count(*) FROM cmq_publish('small', 'x');
SELECT pg_temp.attempt($$SELECT cmq_publish('small', 'x', headers => jsonb_build_object('k', repeat('h', 900)))$$) AS headers,
	   pg_temp.attempt($$SELECT cmq_publish('small', 'x', headers => jsonb_build_object('k', repeat('h', 6000)))$$) AS larger;
RESET ROLE;

--
-- Whoever has no right learns nothing of what exists, and holds nothing.
--
SET ROLE regress_small_nobody;
SELECT pg_temp.attempt(format('SELECT cmq_unsubscribe(%L, %L)', t, s)) FROM (VALUES ('small', 's1'), ('small', 'none'), ('none', 'none')) v (t, s);
BEGIN;
SELECT cmq_maintain();
SELECT count(*) AS locks FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'cmq.rewind_log'::regclass AND mode <> 'AccessShareLock';
ROLLBACK;
RESET ROLE;
-- who looks after the record does
BEGIN;
SELECT cmq_maintain();
SELECT count(*) > 0 AS locks FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'cmq.rewind_log'::regclass AND mode <> 'AccessShareLock';
ROLLBACK;
-- nothing of other owners' damaged queues either
SET ROLE regress_small_owner;
ALTER TABLE cmq_data.q_small_pending RENAME TO elsewhere;
RESET ROLE;
SET ROLE regress_small_nobody;
SELECT cmq_maintain();
SET ROLE regress_small_owner;
SELECT cmq_maintain();
RESET ROLE;
ALTER TABLE cmq_data.elsewhere RENAME TO q_small_pending;
-- the record is pruned by its owner
UPDATE cmq.rewind_log SET called_at = now() - interval '91 days' WHERE queue = 'small';
SET ROLE regress_small_owner;
SELECT cmq_maintain();
RESET ROLE;
SELECT count(*) AS kept FROM cmq.rewind_log WHERE queue = 'small';
SELECT cmq_maintain();
SELECT count(*) AS kept FROM cmq.rewind_log WHERE queue = 'small';

--
-- A name that is too long is told as it is.
--
SELECT pg_temp.attempt(format('SELECT cmq_alter_queue(''small'', dead_letter_queue => %L, max_receive_count => 1)', repeat('ü', 40)));
SELECT pg_temp.attempt(format('SELECT cmq_create_queue(''tiny'', dead_letter_queue => %L, max_receive_count => 1)', repeat('ü', 40)));

--
-- To clear a queue ends its rewind: with a reason, where one is required, and
-- in the record.
--
SELECT cmq_clear_queue('small') > 0 AS cleared;
SELECT cmq_send('small', 'again') > 0 AS sent;
SELECT pg_temp.consume('small');
SELECT cmq_rewind('small', (SELECT min(enqueued_at) FROM cmq.q_small_history)) IS NOT NULL AS rewound;
SET cmq.require_reason = on;
SELECT pg_temp.attempt($$SELECT cmq_clear_queue('small')$$);
SET cmq.reason = 'enough';
SELECT cmq_clear_queue('small');
SELECT kind, reason FROM cmq.rewinds WHERE queue = 'small' ORDER BY id;
RESET cmq.reason;
SELECT cmq_clear_queue('small') AS no_rewind_to_end;
RESET cmq.require_reason;

--
-- Hints and warnings tell settings, and names of other queues, to readers alone.
--
SET ROLE regress_small_owner;
SELECT cmq_create_queue('small_dead', max_msg_size => 1024);
SELECT cmq_create_queue('small_src', msg_retention_seconds => 54321, dead_letter_queue => 'small_dead', max_receive_count => 1);
GRANT UPDATE, DELETE ON cmq.q_small_src TO regress_small_nobody;
SELECT cmq_send('small_src', repeat('x', 2000)) > 0 AS sent;
SELECT count(cmq_change_visibility('small_src', receipt_handle, 0)) FROM cmq_receive('small_src');
RESET ROLE;
SET client_min_messages = warning;
\set VERBOSITY default
SET ROLE regress_small_nobody;
SELECT cmq_rewind('small_src', now());
SELECT count(*) FROM cmq_receive('small_src');
RESET ROLE;
SELECT cmq_maintain('small_src');
GRANT SELECT ON cmq.q_small_src TO regress_small_nobody;
SET ROLE regress_small_nobody;
SELECT cmq_rewind('small_src', now());
RESET ROLE;
SELECT cmq_drop_queue('small_src'), cmq_drop_queue('small_dead');

--
-- Metadata tables of other types are not taken for ours.
--
BEGIN;
ALTER TABLE cmq.partition ALTER lower TYPE timestamp;
SELECT pg_temp.reload('small');
SELECT pg_temp.attempt($$SELECT cmq_send('small', 'x')$$);
ROLLBACK;

SELECT cmq_drop_queue('small');
SELECT cmq_drop_topic('small');
DROP OWNED BY regress_small_owner, regress_small_nobody;
DROP ROLE regress_small_owner, regress_small_nobody;
