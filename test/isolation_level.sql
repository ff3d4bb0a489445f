-- Part of the test isolation_levels, read once for each :level.
SELECT cmq_drop_queue('isolation_a');
SELECT cmq_create_queue('isolation_a', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('isolation_a', '{a,b,c,d}');
TRUNCATE isolation_business;
BEGIN ISOLATION LEVEL :level;
SHOW transaction_isolation;
-- the transaction's snapshot is taken here
SELECT count(*) AS messages FROM cmq_data.q_isolation_a;
-- what the transaction itself does is seen by its next call
SELECT cmq_send('isolation_a', 'e') > 0 AS sent;
SELECT pg_temp.receive('isolation_a', 2) AS received;
SELECT pg_temp.receive('isolation_a', 2) AS received;
SELECT cmq_change_visibility('isolation_a', receipt_handle, 0) IS NOT NULL AS given_back FROM cmq_receive('isolation_a');
SELECT body, receive_count FROM cmq_receive('isolation_a');
SELECT pg_temp.receive('isolation_a') AS nothing_left;
SELECT pg_temp.counts('isolation_a');
COMMIT;
UPDATE cmq_data.q_isolation_a_pending SET visible_at = enqueued_at;
-- consumed together with business data
BEGIN ISOLATION LEVEL :level;
SELECT count(*) AS business FROM isolation_business;
WITH taken AS MATERIALIZED (SELECT * FROM cmq_receive('isolation_a', 3))
INSERT INTO isolation_business SELECT body FROM taken WHERE cmq_delete('isolation_a', receipt_handle);
SAVEPOINT s;
SELECT pg_temp.consume('isolation_a') AS consumed;
ROLLBACK TO s;
COMMIT;
SELECT string_agg(body, ' ' ORDER BY body) AS business FROM isolation_business;
SELECT pg_temp.live('isolation_a') AS live, pg_temp.history('isolation_a') AS history;
-- rewound, received and deleted in one transaction
BEGIN ISOLATION LEVEL :level;
SELECT count(*) AS messages FROM cmq_data.q_isolation_a;
SELECT cmq_rewind('isolation_a', pg_temp.produced('isolation_a', 'b')) = pg_temp.produced('isolation_a', 'b') AS rewound;
SELECT pg_temp.consume('isolation_a', 1) AS consumed;
SELECT cmq_rewind('isolation_a', pg_temp.produced('isolation_a', 'a')) = pg_temp.produced('isolation_a', 'a') AS rewound;
SELECT pg_temp.consume('isolation_a') AS consumed;
COMMIT;
SELECT pg_temp.live('isolation_a') AS live, pg_temp.history('isolation_a') AS history;
-- a failed call undone, a stale handle, another queue's life inside
BEGIN ISOLATION LEVEL :level;
SELECT count(*) AS messages FROM cmq_data.q_isolation_a;
SELECT pg_temp.attempt($$SELECT cmq_rewind('isolation_a', 'infinity')$$) AS refused;
SELECT cmq_delete('isolation_a', '1-2-3-4') AS stale;
SELECT cmq_create_queue('isolation_new', rewind_seconds => 60);
SELECT cmq_send('isolation_new', 'x') > 0 AS sent;
SELECT pg_temp.consume('isolation_new') AS consumed;
SELECT cmq_rewind('isolation_new', now() - interval '1 minute') IS NOT NULL AS rewound;
SELECT pg_temp.consume('isolation_new') AS consumed;
SELECT cmq_alter_queue('isolation_new', rewind_seconds => 0);
SELECT pg_temp.counts('isolation_new');
SELECT cmq_drop_queue('isolation_new');
COMMIT;
