-- PgQ gives a batch to a consumer, and closes it; the tick that ends the
-- batch was set before.  The consumer notes what it got, as consumers of PgQ
-- do, in the transaction that closes the batch.
SELECT coalesce(pgq.next_batch(:queue, :consumer), 0) AS batch_id \gset
\if :batch_id
BEGIN;
INSERT INTO consumed SELECT count(*) FROM pgq.get_batch_events(:batch_id::bigint);
SELECT pgq.finish_batch(:batch_id::bigint);
COMMIT;
\endif
