-- Reconcile a ledger with a queue, and repair what is missing.
--
-- A consumer books each message of a queue in a table and deletes it.  For some hours it
-- was broken.  What was deleted but not booked, what was booked wrongly, what was never
-- consumed?  This reports it and changes nothing:
--
--   psql -v queue=payments -v ledger=ledger -v from='2026-11-21 09:00+00' -v until='2026-11-21 12:00+00' -f examples/reconcile.sql
--
-- With -v repair=on as well, the messages that were deleted but not booked become ready
-- again: exactly those, or nothing changes and the exit status is not 0.
--
--   queue    its name
--   ledger   a table with the columns msg_id and amount, written as in SQL: finance."Ledger"
--   from     production time of the messages, inclusive
--   until    not inclusive
--   repair   on or off, off by default
--
-- Bodies are JSON, {"amount": ..}.  The report needs USAGE on schema cmq, and SELECT on
-- cmq.q_<queue> and on the ledger; it works on a standby, too.  The repair needs UPDATE on
-- cmq.q_<queue> as well, and TEMP on the database, which everybody has by default.

\set ON_ERROR_STOP on
\set SHOW_CONTEXT never
\set QUIET on
\if :{?repair}
\else
	\set repair off
\endif

-- One snapshot: the sections agree with each other, and the repair with the report.
BEGIN ISOLATION LEVEL REPEATABLE READ;

-- Is the call right?  :{?name} is TRUE or FALSE.  The complaint is an error in SQL: psql
-- exits with a status that is not 0.
SELECT :{?queue} AND :{?ledger} AND :{?from} AND :{?until} AS complete,
	   'missing: ' || concat_ws(', ', CASE WHEN NOT :{?queue} THEN 'queue' END, CASE WHEN NOT :{?ledger} THEN 'ledger' END,
								CASE WHEN NOT :{?from} THEN 'from' END, CASE WHEN NOT :{?until} THEN 'until' END) AS complaint \gset
\if :complete
	SELECT CASE WHEN :'repair' NOT IN ('on', 'off') THEN format('repair is on or off, not "%s"', :'repair')
				WHEN NOT isfinite(:'from'::timestamptz) OR NOT isfinite(:'until'::timestamptz) THEN 'from and until must be finite'
				WHEN :'until'::timestamptz <= :'from'::timestamptz THEN 'until must be later than from'
				WHEN to_regclass(format('cmq.%I', 'q_' || :'queue' || '_all')) IS NULL THEN format('there is no queue "%s"', :'queue')
				WHEN to_regclass(:'ledger') IS NOT NULL
					 AND (SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(:'ledger') AND attname IN ('msg_id', 'amount')) < 2
				THEN format('ledger %s has no columns msg_id and amount', :'ledger')
				ELSE '' END AS complaint \gset
\endif
SELECT set_config('reconcile.complaint', :'complaint', true) AS complaint \gset
DO $do$
BEGIN
	IF current_setting('reconcile.complaint') <> '' THEN
		RAISE EXCEPTION USING
			MESSAGE = current_setting('reconcile.complaint'),
			HINT = $$psql -v queue=payments -v ledger=ledger -v from='2026-11-21 09:00+00' -v until='2026-11-21 12:00+00' [-v repair=on] -f examples/reconcile.sql$$;
	END IF;
END $do$;
\if :repair
\else
	SET TRANSACTION READ ONLY;
\endif

-- the relations and functions that are meant, whatever the search_path
SELECT format('%I.%I', n.nspname, c.relname) AS ledger
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = :'ledger'::regclass \gset
SELECT format('cmq.%I', 'q_' || :'queue' || '_live') AS live,
	   format('cmq.%I', 'q_' || :'queue' || '_history') AS history,
	   format('cmq.%I', 'q_' || :'queue' || '_all') AS all_messages,
	   format('%I.cmq_restore_messages', n.nspname) AS cmq_restore_messages
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'cmq' \gset

\qecho Reconciled
SELECT :'queue' AS queue, :'ledger' AS ledger, :'from'::timestamptz AS "from", :'until'::timestamptz AS until;
-- What has left the history cannot be found missing.
SELECT coalesce(bool_or(:'from'::timestamptz < now() - rewind_seconds * interval '1 s'), false) AS too_early,
	   max(rewind_seconds) AS rewind_seconds
  FROM cmq.queues
 WHERE queue = :'queue' \gset
\if :too_early
\qecho Note: the history of this queue has the messages that were produced in the last :rewind_seconds seconds.
\qecho Older ones that were deleted but not booked are not reported.

\endif

\qecho What happened to the messages of that time
SELECT state, count(*) AS messages, sum((body::jsonb ->> 'amount')::numeric) AS amount
  FROM :all_messages
 WHERE enqueued_at >= :'from'::timestamptz AND enqueued_at < :'until'::timestamptz
 GROUP BY state
 ORDER BY state;

\qecho Deleted but not booked: money that is missing
SELECT format('SELECT h.msg_id, h.deleted_by, (h.body::jsonb ->> ''amount'')::numeric AS amount '
			  'FROM %s h LEFT JOIN %s l ON l.msg_id = h.msg_id '
			  'WHERE h.enqueued_at >= %L AND h.enqueued_at < %L AND l.msg_id IS NULL',
			  :'history', :'ledger', :'from'::timestamptz, :'until'::timestamptz) AS missing \gset
SELECT deleted_by, count(*) AS messages, sum(amount) AS amount,
	   (array_agg(msg_id ORDER BY msg_id))[1:3] AS first_ids
  FROM (:missing) m
 GROUP BY deleted_by
 ORDER BY deleted_by;
SELECT count(*) AS missing_messages, coalesce(sum(amount), 0) AS missing_amount, count(*) > 0 AS to_restore
  FROM (:missing) m \gset

\qecho Booked more than once, or with another amount: to be corrected by hand
SELECT count(*) AS messages, coalesce(sum(amount), 0) AS amount, coalesce(sum(booked), 0) AS booked,
	   (array_agg(msg_id ORDER BY msg_id))[1:3] AS first_ids
  FROM (SELECT a.msg_id, (a.body::jsonb ->> 'amount')::numeric AS amount, sum(l.amount) AS booked
		  FROM :all_messages a
		  JOIN :ledger l ON l.msg_id = a.msg_id
		 WHERE a.enqueued_at >= :'from'::timestamptz AND a.enqueued_at < :'until'::timestamptz
		 GROUP BY a.msg_id, a.body) m
 WHERE booked IS DISTINCT FROM amount;

\qecho Never consumed: still pending, nothing to repair
SELECT count(*) AS messages, coalesce(sum((body::jsonb ->> 'amount')::numeric), 0) AS amount,
	   (array_agg(msg_id ORDER BY msg_id))[1:3] AS first_ids
  FROM :live
 WHERE enqueued_at >= :'from'::timestamptz AND enqueued_at < :'until'::timestamptz;

\qecho Booked, but there is no such message any more: expired, or never sent
SELECT count(*) AS entries, coalesce(sum(amount), 0) AS amount,
	   (array_agg(msg_id ORDER BY msg_id))[1:3] AS first_ids
  FROM :ledger l
 WHERE msg_id >= cmq.msg_id(:'from') AND msg_id < cmq.msg_id(:'until')
   AND NOT EXISTS (SELECT FROM :all_messages a
					WHERE a.enqueued_at = cmq.enqueued_at(l.msg_id)
					  AND a.enqueued_at >= :'from'::timestamptz AND a.enqueued_at < :'until'::timestamptz);

\if :to_restore
\if :repair

SET LOCAL cmq.reason = 'reconciliation: deleted but not booked';
CREATE TEMP TABLE missing ON COMMIT DROP AS :missing;
CREATE TEMP TABLE restored ON COMMIT DROP AS
SELECT msg_id
  FROM :cmq_restore_messages(:'queue', ARRAY(SELECT msg_id FROM pg_temp.missing)) AS msg_id;
-- the proof: all that were missing, and no others, are ready now; else nothing happens
SELECT count(*) FILTER (WHERE m.msg_id = r.msg_id AND v.state = 'ready') = count(*) AS proved
  FROM pg_temp.missing m
  FULL JOIN pg_temp.restored r ON r.msg_id = m.msg_id
  LEFT JOIN :live v ON v.msg_id = r.msg_id \gset
\if :proved
\else
	DO $$
	BEGIN
		RAISE EXCEPTION 'not all missing messages could be restored'
			USING DETAIL = 'Nothing was changed.';
	END $$;
\endif

\qecho Restored: exactly the missing ones
SELECT count(*) AS messages, sum(m.amount) AS amount
  FROM pg_temp.restored r
  JOIN pg_temp.missing m ON m.msg_id = r.msg_id
  JOIN :live v ON v.msg_id = r.msg_id
 WHERE v.state = 'ready';

\qecho On the record
SELECT kind, messages, reason
  FROM cmq.rewinds
 WHERE queue = :'queue'
 ORDER BY id DESC
 LIMIT 1;
COMMIT;

\else
COMMIT;
\qecho Nothing was changed. With -v repair=on as well, this makes the messages that were deleted but
\qecho not booked ready again: :missing_messages messages, amount :missing_amount.
\endif
\else
COMMIT;
\qecho Nothing is deleted but not booked: nothing to repair.
\endif
