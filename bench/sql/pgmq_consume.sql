-- One call: pop deletes at once, and keeps nothing.
\set received 0
SELECT 1 AS received FROM pgmq.pop(:queue::text) \aset
\if :received
\else
INSERT INTO miss DEFAULT VALUES;
\endif
