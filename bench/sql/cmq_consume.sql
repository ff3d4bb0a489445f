-- One call, one transaction.  \aset, unlike \gset, goes on when there is no row: a miss is
-- counted.
\set received 0
SELECT 1 AS received FROM cmq_consume(:queue) \aset
\if :received
\else
INSERT INTO miss DEFAULT VALUES;
\endif
