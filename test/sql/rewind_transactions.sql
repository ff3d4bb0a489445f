-- cmq_rewind in transactions: rollback, savepoints, deletes and receives
-- before and after it in the same transaction, big rewinds, loops.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('rewindtx_a', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('rewindtx_a', '{a,b,c,d}');
SELECT pg_temp.consume('rewindtx_a') AS consumed;

--
-- A rolled-back rewind never was; its receives and deletes neither.
--
BEGIN;
SELECT cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', 'b')) IS NOT NULL AS rewound;
SELECT receipt_handle AS undone FROM cmq_receive('rewindtx_a') \gset
SELECT pg_temp.consume('rewindtx_a', 1) AS consumed;
ROLLBACK;
SELECT pg_temp.live('rewindtx_a') AS live, pg_temp.history('rewindtx_a') AS history, pg_temp.receive('rewindtx_a') AS received;
SELECT rewinding_from IS NULL AS no_rewind FROM cmq.queues WHERE queue = 'rewindtx_a';
SELECT cmq_delete('rewindtx_a', :'undone') AS handle_of_what_never_was;

--
-- Savepoints.
--
BEGIN;
SELECT cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', 'c')) = pg_temp.produced('rewindtx_a', 'c') AS rewound;
SAVEPOINT s;
SELECT cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', 'a')) = pg_temp.produced('rewindtx_a', 'a') AS rewound;
SELECT pg_temp.receive('rewindtx_a', 2) AS received;
ROLLBACK TO s;
SELECT pg_temp.live('rewindtx_a');
SAVEPOINT s;
SELECT pg_temp.consume('rewindtx_a', 1) AS consumed;
ROLLBACK TO s;
SELECT pg_temp.consume('rewindtx_a', 1) AS consumed;
COMMIT;
SELECT pg_temp.live('rewindtx_a') AS live, pg_temp.history('rewindtx_a') AS history;
-- a rolled-back receive of a rewound message leaves it rewound
BEGIN;
SELECT pg_temp.receive('rewindtx_a') AS received;
ROLLBACK;
SELECT body, receive_count, rewind_count, cmq_delete('rewindtx_a', receipt_handle) AS deleted FROM cmq_receive('rewindtx_a');
-- a failed rewind inside a transaction leaves the one before it
BEGIN;
SELECT cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', 'd')) = pg_temp.produced('rewindtx_a', 'd') AS rewound;
SELECT pg_temp.attempt($$SELECT cmq_rewind('rewindtx_a', now() - interval '1 day')$$);
COMMIT;
SELECT pg_temp.consume('rewindtx_a') AS consumed;

--
-- Deletes before the rewind come back, deletes after it do not; rewound and
-- sent in one transaction.
--
BEGIN;
SELECT cmq_send('rewindtx_a', 'e') > 0 AS sent;
SELECT pg_temp.consume('rewindtx_a') AS deleted_before;
SELECT cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', 'd')) = pg_temp.produced('rewindtx_a', 'd') AS rewound;
SELECT cmq_send('rewindtx_a', 'f') > 0 AS sent;
SELECT pg_temp.consume('rewindtx_a', 2) AS deleted_after;
COMMIT;
SELECT pg_temp.live('rewindtx_a') AS live, pg_temp.history('rewindtx_a') AS history;
SELECT pg_temp.consume('rewindtx_a') AS consumed;
SELECT pg_temp.consume('rewindtx_a') AS consumed;
-- deleted in a subtransaction that was rolled back: still in flight, left alone
SELECT cmq_send('rewindtx_a', 'g') > 0 AS sent;
BEGIN;
SELECT receipt_handle AS handle_of_g FROM cmq_receive('rewindtx_a') \gset
SAVEPOINT s;
SELECT cmq_delete('rewindtx_a', :'handle_of_g') AS deleted;
ROLLBACK TO s;
SELECT cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', 'f')) = pg_temp.produced('rewindtx_a', 'f') AS rewound;
COMMIT;
SELECT pg_temp.live('rewindtx_a');
SELECT cmq_delete('rewindtx_a', :'handle_of_g') AS good;
-- deleted in a subtransaction that was released: comes back
BEGIN;
SAVEPOINT s;
SELECT pg_temp.consume('rewindtx_a') AS consumed;
RELEASE s;
SELECT cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', 'f')) = pg_temp.produced('rewindtx_a', 'f') AS rewound;
COMMIT;
SELECT pg_temp.consume('rewindtx_a') AS consumed;
-- together with business data: both or neither
CREATE TABLE rewindtx_done (body text);
INSERT INTO rewindtx_done VALUES ('f'), ('g');
BEGIN;
DELETE FROM rewindtx_done;
SELECT cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', 'f')) IS NOT NULL AS rewound;
ROLLBACK;
SELECT (SELECT count(*) FROM rewindtx_done) AS business_rows, pg_temp.receive('rewindtx_a') AS received;
DROP TABLE rewindtx_done;
-- switched off and rolled back: the history is still there
BEGIN;
SELECT cmq_alter_queue('rewindtx_a', rewind_seconds => 0);
SELECT pg_temp.history('rewindtx_a');
ROLLBACK;
SELECT pg_temp.history('rewindtx_a');
SELECT cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', 'a')) = pg_temp.produced('rewindtx_a', 'a') AS rewound;
SELECT pg_temp.consume('rewindtx_a') AS consumed;

--
-- In one statement: rewound and received; consumed, rewound and consumed.
--
SELECT pg_temp.produced('rewindtx_a', 'e') AS e \gset
SELECT pg_temp.receive('rewindtx_a') AS received FROM cmq_rewind('rewindtx_a', :'e') r WHERE r = :'e';
UPDATE cmq_data.q_rewindtx_a_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('rewindtx_a') AS consumed;
SELECT round, consumed
  FROM (SELECT round, pg_temp.consume('rewindtx_a') AS consumed
		  FROM generate_series(1, 3) round,
			   LATERAL cmq_rewind('rewindtx_a', :'e'::timestamptz + 0 * round * interval '1 s') r
		OFFSET 0) s
 ORDER BY round;
SELECT body, rewind_count FROM cmq.q_rewindtx_a_history WHERE enqueued_at >= :'e' ORDER BY enqueued_at;

--
-- Many messages, more than one call takes; and many rewinds.
--
SELECT cmq_drop_queue('rewindtx_a');
SELECT cmq_create_queue('rewindtx_a', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('rewindtx_a', array(SELECT i::text FROM generate_series(1, 2500) i));
SELECT count(*) AS deleted FROM generate_series(1, 3) i, LATERAL cmq_delete_batch('rewindtx_a', array(
	SELECT receipt_handle FROM cmq_receive('rewindtx_a', 1000 + 0 * i)));
SELECT count(*) FROM cmq_send_batch('rewindtx_a', '{waiting,too}');
SELECT cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', '501')) = pg_temp.produced('rewindtx_a', '501') AS rewound;
SELECT pg_temp.counts('rewindtx_a');
SELECT cmq_send('rewindtx_a', 'new') > 0 AS sent;
SELECT count(*), bool_and(body = (500 + ordinality)::text) AS in_order FROM cmq_receive('rewindtx_a', 1000) WITH ORDINALITY;
SELECT count(*), bool_and(body = (1500 + ordinality)::text) AS in_order FROM cmq_receive('rewindtx_a', 999) WITH ORDINALITY;
SELECT body FROM cmq_receive('rewindtx_a', 1000) WITH ORDINALITY ORDER BY ordinality;
SELECT pg_temp.counts('rewindtx_a');
DO $$
DECLARE
	total int := 0;
	n int;
BEGIN
	UPDATE cmq_data.q_rewindtx_a_pending SET visible_at = enqueued_at;
	FOR i IN 1..3 LOOP
		SELECT count(*) INTO n FROM cmq_delete_batch('rewindtx_a', array(SELECT receipt_handle FROM cmq_receive('rewindtx_a', 1000)));
		total := total + n;
	END LOOP;
	FOR i IN 1..20 LOOP
		PERFORM cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', (2500 - i)::text));
		SELECT count(*) INTO n FROM cmq_delete_batch('rewindtx_a', array(SELECT receipt_handle FROM cmq_receive('rewindtx_a', 1000)));
		IF n <> i + 4 THEN
			RAISE EXCEPTION 'round %: % messages came back', i, n;
		END IF;
		total := total + n;
	END LOOP;
	RAISE WARNING 'deleted %', total;
END $$;
SELECT rewind_count, count(*) FROM cmq.q_rewindtx_a_history GROUP BY 1 HAVING count(*) > 1 ORDER BY 1;
SELECT pg_temp.counts('rewindtx_a');

--
-- A rewind concerns one queue.
--
SELECT cmq_create_queue('rewindtx_b', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('rewindtx_b', '{x,y}');
SELECT pg_temp.consume('rewindtx_b') AS consumed;
SELECT cmq_rewind('rewindtx_a', pg_temp.produced('rewindtx_a', '2499')) IS NOT NULL AS rewound;
SELECT pg_temp.receive('rewindtx_b') AS b, pg_temp.consume('rewindtx_a') AS a;
SELECT cmq_rewind('rewindtx_b', pg_temp.produced('rewindtx_b', 'y')) IS NOT NULL AS rewound;
SELECT pg_temp.receive('rewindtx_a') AS a, pg_temp.consume('rewindtx_b') AS b;
SELECT cmq_drop_queue('rewindtx_b');

--
-- Bodies of any size come back as they were, and are not written again.
--
SELECT cmq_drop_queue('rewindtx_a');
SELECT cmq_create_queue('rewindtx_a', rewind_seconds => 3600);
CREATE TEMP TABLE big AS
	SELECT k, string_agg(md5(k || '.' || i), '' ORDER BY i) AS body
	  FROM generate_series(1, 3) k, generate_series(1, 32768) i GROUP BY k;
SELECT count(*) FROM cmq_send_batch('rewindtx_a', (SELECT array_agg(body ORDER BY k) FROM big), 0,
	ARRAY['{"k": 1}', NULL, '{"k": 3}']::jsonb[]);
CREATE TEMP TABLE places AS SELECT enqueued_at, tableoid AS leaf, ctid AS place, xmin::text AS writer FROM cmq_data.q_rewindtx_a;
SELECT length(pg_temp.consume('rewindtx_a')) AS characters;
SELECT cmq_rewind('rewindtx_a', min(enqueued_at)) = min(enqueued_at) AS rewound FROM places;
SELECT b.k, md5(r.body) = md5(b.body) AS same, r.headers, r.rewind_count
  FROM (SELECT * FROM cmq_receive('rewindtx_a', 10) WITH ORDINALITY) r FULL JOIN big b ON b.k = r.ordinality ORDER BY b.k;
SELECT count(*) AS rows_never_written_again FROM places p JOIN cmq_data.q_rewindtx_a m USING (enqueued_at)
 WHERE m.ctid = p.place AND m.tableoid = p.leaf AND m.xmin::text = p.writer;

SELECT cmq_drop_queue('rewindtx_a');
