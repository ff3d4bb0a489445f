-- Two calls, each its own transaction.  The message consumed is as a rule not the one just
-- sent.
SELECT cmq_send(:queue, :body);
\set received 0
SELECT 1 AS received FROM cmq_consume(:queue) \aset
\if :received
\else
INSERT INTO miss DEFAULT VALUES;
\endif
