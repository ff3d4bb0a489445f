-- The whole cycle: send, receive and delete, three calls, each its own
-- transaction.  The message received is as a rule not the one just sent.
SELECT cmq_send('bench', :body);
\set received 0
SELECT receipt_handle AS handle, 1 AS received FROM cmq_receive('bench') \aset
\if :received
SELECT cmq_delete('bench', :handle) AS deleted \gset
\else
INSERT INTO bench_miss DEFAULT VALUES;
\endif
