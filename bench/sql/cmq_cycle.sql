-- Three calls, each its own transaction.  The message received is as a rule
-- not the one just sent.
SELECT cmq_send(:queue, :body);
\set received 0
SELECT receipt_handle AS handle, 1 AS received FROM cmq_receive(:queue) \aset
\if :received
SELECT cmq_delete(:queue, :handle) AS deleted \gset
\else
INSERT INTO miss DEFAULT VALUES;
\endif
