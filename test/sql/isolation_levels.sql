-- Every call in every isolation level, in one session.  What two sessions do
-- to each other is in test/specs.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('isolation_a', rewind_seconds => 3600);
CREATE TABLE isolation_business (body text);

\set level 'READ UNCOMMITTED'
\set file :srcdir '/isolation_level.sql'
\i :file
\set level 'READ COMMITTED'
\i :file
\set level 'REPEATABLE READ'
\i :file
\set level 'SERIALIZABLE'
\i :file

--
-- As defaults of the session, and one level after another.
--
SET default_transaction_isolation = 'serializable';
SELECT cmq_create_queue('isolation_b', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('isolation_b', '{a,b,c}');
SELECT pg_temp.consume('isolation_b', 2);
SET default_transaction_isolation = 'repeatable read';
SELECT cmq_rewind('isolation_b', pg_temp.produced('isolation_b', 'a')) = pg_temp.produced('isolation_b', 'a') AS rewound;
SELECT pg_temp.consume('isolation_b', 2);
SELECT cmq_alter_queue('isolation_b', rewind_seconds => 0);
SELECT cmq_maintain('isolation_b');
SELECT pg_temp.consume('isolation_b');
SELECT cmq_drop_queue('isolation_b');
RESET default_transaction_isolation;

--
-- A serializable, read-only, deferrable report.
--
SELECT count(*) FROM cmq_send_batch('isolation_a', '{r1,r2}');
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT string_agg(body, ' ' ORDER BY msg_id) AS live FROM cmq.q_isolation_a_live;
SELECT count(*) > 0 AS history FROM cmq.q_isolation_a_history;
SELECT active_msg_num FROM cmq_queue_attributes('isolation_a');
COMMIT;

DROP TABLE isolation_business;
SELECT cmq_drop_queue('isolation_a');
