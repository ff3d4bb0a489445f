-- A whole batch: an ack of a part of it would drop the rest.  The consumer notes what it
-- got in the transaction that closes the batch.
BEGIN;
SELECT coalesce(max(batch_id), 0) AS batch_id, count(*) AS got FROM pgque.receive(:queue::text, :consumer::text, 2147483647) \gset
\if :batch_id
INSERT INTO consumed VALUES (:got::bigint);
SELECT pgque.ack(:batch_id::bigint);
\endif
COMMIT;
