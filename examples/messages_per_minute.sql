-- Messages per minute of their production, by the state they are in now, as CSV.
--
--   psql -v queue=orders -v from='2026-11-21 09:00+00' -v until='2026-11-21 12:00+00' -f examples/messages_per_minute.sql
--
--   queue   its name
--   from    production time of the messages, inclusive
--   until   not inclusive
--
-- A row for each minute of the window, also for one without messages.  The minutes are those
-- of the session's TimeZone, with the offset from UTC that it has at the beginning; so a
-- change to summer time neither repeats nor skips an hour.  Needs USAGE on schema cmq and
-- SELECT on cmq.q_<queue>.

\set ON_ERROR_STOP on
\set SHOW_CONTEXT never
\set QUIET on
\pset format csv

BEGIN READ ONLY;

-- Is the call right?  :{?name} is TRUE or FALSE.  The complaint is an error in SQL: psql
-- exits with a status that is not 0.
SELECT :{?queue} AND :{?from} AND :{?until} AS complete,
	   'missing: ' || concat_ws(', ', CASE WHEN NOT :{?queue} THEN 'queue' END, CASE WHEN NOT :{?from} THEN 'from' END,
								CASE WHEN NOT :{?until} THEN 'until' END) AS complaint \gset
\if :complete
	SELECT CASE WHEN NOT isfinite(:'from'::timestamptz) OR NOT isfinite(:'until'::timestamptz) THEN 'from and until must be finite'
				WHEN :'until'::timestamptz <= :'from'::timestamptz THEN 'until must be later than from'
				WHEN to_regclass(format('cmq.%I', 'q_' || :'queue' || '_all')) IS NULL THEN format('there is no queue "%s"', :'queue')
				ELSE '' END AS complaint \gset
\endif
SELECT set_config('messages_per_minute.complaint', :'complaint', true) AS complaint \gset
DO $do$
BEGIN
	IF current_setting('messages_per_minute.complaint') <> '' THEN
		RAISE EXCEPTION USING
			MESSAGE = current_setting('messages_per_minute.complaint'),
			HINT = $$psql -v queue=orders -v from='2026-11-21 09:00+00' -v until='2026-11-21 12:00+00' -f examples/messages_per_minute.sql$$;
	END IF;
END $do$;

SELECT format('cmq.%I', 'q_' || :'queue' || '_all') AS all_messages \gset

-- state and time alone: no body or header is read
WITH counted AS (
	SELECT date_trunc('minute', enqueued_at) AS minute,
		   count(*) FILTER (WHERE state = 'ready') AS ready,
		   count(*) FILTER (WHERE state = 'delayed') AS delayed,
		   count(*) FILTER (WHERE state NOT IN ('ready', 'delayed', 'deleted')) AS in_flight,
		   count(*) FILTER (WHERE state = 'deleted') AS deleted
	  FROM :all_messages
	 WHERE enqueued_at >= :'from'::timestamptz AND enqueued_at < :'until'::timestamptz
	 GROUP BY 1)
SELECT to_char(:'from'::timestamptz::timestamp + (minute - :'from'::timestamptz), 'YYYY-MM-DD HH24:MI')
			|| to_char(:'from'::timestamptz, 'TZH:TZM') AS minute,
	   coalesce(ready, 0) AS ready,
	   coalesce(delayed, 0) AS delayed,
	   coalesce(in_flight, 0) AS in_flight,
	   coalesce(deleted, 0) AS deleted
  FROM generate_series(date_trunc('minute', :'from'::timestamptz), :'until'::timestamptz - interval '1 us', interval '1 min') m (minute)
  LEFT JOIN counted USING (minute)
 ORDER BY m.minute;

COMMIT;
