SELECT pgmq.send(:queue::text, :json::jsonb);
\set received 0
SELECT 1 AS received FROM pgmq.pop(:queue::text) \aset
\if :received
\else
INSERT INTO miss DEFAULT VALUES;
\endif
