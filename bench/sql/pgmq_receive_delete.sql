-- Archive, not delete: it keeps the message, as a queue with rewind does.
\set received 0
SELECT msg_id AS id, 1 AS received FROM pgmq.read(:queue::text, 30, 1) \aset
\if :received
SELECT pgmq.archive(:queue::text, :id::bigint) AS archived \gset
\else
INSERT INTO miss DEFAULT VALUES;
\endif
