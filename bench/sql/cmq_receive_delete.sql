-- Two calls, each its own transaction.  \aset, unlike \gset, goes on when there
-- is no row: a miss is counted.
\set received 0
SELECT receipt_handle AS handle, 1 AS received FROM cmq_receive(:queue) \aset
\if :received
SELECT cmq_delete(:queue, :handle) AS deleted \gset
\else
INSERT INTO miss DEFAULT VALUES;
\endif
