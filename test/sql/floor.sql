-- What a transaction hides from itself and gives back by ROLLBACK is received
-- afterwards: the scan floor of cmq_floor.c must not have passed it.
-- test/t/101_scan_floor.pl is the test with many sessions.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('floor_a', msg_retention_seconds => 3600, rewind_seconds => 3600);
-- until then floors do not move, because a prepared transaction may be open
SELECT cmq_maintain();

--
-- A shorter retention lets messages expire.
--
SELECT cmq_send('floor_a', 'old') > 0 AS sent;
SELECT pg_temp.age('floor_a', '90 s');
BEGIN;
SELECT cmq_alter_queue('floor_a', msg_retention_seconds => 60, rewind_seconds => 60);
SELECT pg_temp.receive('floor_a', visibility_timeout => 1) AS expired;
ROLLBACK;
SELECT pg_temp.live('floor_a');
BEGIN;
SAVEPOINT s;
SELECT cmq_alter_queue('floor_a', msg_retention_seconds => 60, rewind_seconds => 60);
SELECT pg_temp.receive('floor_a') AS expired;
ROLLBACK TO s;
SELECT pg_temp.receive('floor_a') AS received;
ROLLBACK;
SELECT pg_temp.consume('floor_a');

-- the same for messages that a rewind brings back
SELECT cmq_rewind('floor_a', now() - interval '5 min') IS NOT NULL AS rewound;
BEGIN;
SELECT cmq_alter_queue('floor_a', msg_retention_seconds => 60, rewind_seconds => 60);
SELECT pg_temp.receive('floor_a') AS expired;
ROLLBACK;
SELECT pg_temp.consume('floor_a');

--
-- Rows removed by hand.
--
SELECT cmq_send('floor_a', 'by hand') > 0 AS sent;
BEGIN;
DELETE FROM cmq_data.q_floor_a_pending;
SELECT pg_temp.receive('floor_a') AS deleted;
ROLLBACK;
SELECT pg_temp.consume('floor_a');
SELECT cmq_send('floor_a', 'all of it') > 0 AS sent;
BEGIN;
SET session_replication_role = replica;
TRUNCATE cmq_data.q_floor_a_pending;
RESET session_replication_role;
SELECT pg_temp.receive('floor_a') AS truncated;
ROLLBACK;
SELECT pg_temp.consume('floor_a');

SELECT cmq_rewind('floor_a', now() - interval '5 min') IS NOT NULL AS rewound;
BEGIN;
DELETE FROM cmq_data.q_floor_a_rewind;
SELECT pg_temp.receive('floor_a') AS deleted;
ROLLBACK;
BEGIN;
SET session_replication_role = replica;
TRUNCATE cmq_data.q_floor_a_rewind;
RESET session_replication_role;
SELECT pg_temp.receive('floor_a') AS truncated;
ROLLBACK;
SELECT pg_temp.consume('floor_a');

SELECT cmq_drop_queue('floor_a');
