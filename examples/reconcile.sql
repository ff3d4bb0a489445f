-- Reconcile a ledger with a queue, repair it, and prove it.
--
-- A consumer of queue "payments" books each message into table ledger and deletes
-- it.  For some hours it was broken.  What was deleted but not booked, what was
-- booked twice, what was never consumed?  Then exactly the broken ones are
-- consumed again, in one transaction that fails if anything is not as expected.
--
--   psql -v from="'2026-11-21 09:00+00'" -v until="'2026-11-21 12:00+00'" -f reconcile.sql
--
-- Needs SELECT and UPDATE on cmq.q_payments and SELECT on ledger (msg_id, amount).
-- Bodies are JSON, {"amount": ..}.

\set ON_ERROR_STOP on

\echo What happened to the messages of that time
SELECT state, count(*) AS messages, sum((body::jsonb ->> 'amount')::numeric) AS amount
  FROM cmq.q_payments_all
 WHERE enqueued_at >= :from AND enqueued_at < :until
 GROUP BY state
 ORDER BY state;

\echo Deleted but not booked: money that is missing
CREATE TEMP TABLE missing AS
SELECT h.msg_id, h.deleted_by, (h.body::jsonb ->> 'amount')::numeric AS amount
  FROM cmq.q_payments_history h
  LEFT JOIN ledger l ON l.msg_id = h.msg_id
 WHERE h.enqueued_at >= :from AND h.enqueued_at < :until
   AND l.msg_id IS NULL;
SELECT deleted_by, count(*) AS messages, sum(amount) AS amount
  FROM missing
 GROUP BY deleted_by
 ORDER BY deleted_by;

\echo Booked more than once, or with another amount: to be corrected by hand
SELECT count(*) AS messages, sum(booked - amount) AS too_much
  FROM (SELECT (a.body::jsonb ->> 'amount')::numeric AS amount, sum(l.amount) AS booked
		  FROM cmq.q_payments_all a
		  JOIN ledger l ON l.msg_id = a.msg_id
		 WHERE a.enqueued_at >= :from AND a.enqueued_at < :until
		 GROUP BY a.msg_id, a.body) m
 WHERE booked <> amount;

\echo Never consumed: still waiting, nothing to repair
SELECT count(*) AS messages
  FROM cmq.q_payments_live
 WHERE enqueued_at >= :from AND enqueued_at < :until;

\echo Booked, but there is no such message any more: expired, or never sent
SELECT count(*) AS entries
  FROM ledger l
 WHERE l.msg_id >= cmq.msg_id(:from) AND l.msg_id < cmq.msg_id(:until)
   AND NOT EXISTS (SELECT FROM cmq.q_payments_all a WHERE a.enqueued_at = cmq.enqueued_at(l.msg_id));

\echo Restore exactly the missing ones
BEGIN;
SET LOCAL cmq.reason = 'reconciliation: deleted but not booked';
CREATE TEMP TABLE restored AS
SELECT msg_id
  FROM cmq_restore_messages('payments', ARRAY(SELECT msg_id FROM missing)) AS msg_id;
SELECT count(*) AS restored, sum(m.amount) AS amount
  FROM restored r
  JOIN missing m USING (msg_id)
  JOIN cmq.q_payments_live v USING (msg_id)
 WHERE v.state = 'ready';
-- the proof: all that were missing when we looked, and no others, are ready now;
-- else nothing happens
DO $$
BEGIN
	IF EXISTS (SELECT FROM missing m FULL JOIN restored r USING (msg_id)
				 LEFT JOIN cmq.q_payments_live v USING (msg_id)
				WHERE m.msg_id IS NULL OR r.msg_id IS NULL OR v.state IS DISTINCT FROM 'ready') THEN
		RAISE EXCEPTION 'not all missing messages could be restored';
	END IF;
END $$;
COMMIT;

\echo On the record
SELECT kind, messages, reason
  FROM cmq.rewinds
 WHERE queue = 'payments'
 ORDER BY id DESC
 LIMIT 1;
