-- Receive and delete a batch, two calls, each its own transaction.
SELECT coalesce(array_agg(receipt_handle), '{}') AS handles FROM cmq_receive(:queue, :batch) \gset
SELECT count(*) FROM cmq_delete_batch(:queue, :handles::text[]);
