-- read_grouped_head gives one message of each group: one group in flight is no hindrance
-- for the others.
\set received 0
SELECT msg_id AS id, 1 AS received FROM pgmq.read_grouped_head(:queue::text, 300, 1) \aset
\if :received
SELECT pgmq.archive(:queue::text, :id::bigint) AS archived \gset
\else
INSERT INTO miss DEFAULT VALUES;
\endif
