-- cmq_timeline: how many messages of which state were produced when.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

-- What the views of a queue show of each bucket, as cmq_timeline shows it.
CREATE FUNCTION pg_temp.truth(queue text, start_time timestamptz, end_time timestamptz, buckets int)
RETURNS TABLE (bucket int, history bigint, ready bigint, in_flight bigint, delayed bigint, brought_back bigint) LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN QUERY EXECUTE format($q$
		WITH s AS (
			SELECT enqueued_at, 'history' AS state FROM cmq.%1$I
			UNION ALL
			SELECT enqueued_at, CASE WHEN state = 'ready' AND receive_count = 0 AND rewind_count > 0 THEN 'brought_back' ELSE state END FROM cmq.%2$I),
		b AS (
			SELECT width_bucket(extract(epoch FROM enqueued_at - $1), 0, extract(epoch FROM $2 - $1), $3) AS bucket, state
			  FROM s WHERE enqueued_at >= $1 AND enqueued_at < $2)
		SELECT n, count(*) FILTER (WHERE state = 'history'), count(*) FILTER (WHERE state = 'ready'), count(*) FILTER (WHERE state = 'in_flight'),
			   count(*) FILTER (WHERE state = 'delayed'), count(*) FILTER (WHERE state = 'brought_back')
		  FROM generate_series(1, $3) n LEFT JOIN b ON bucket = n GROUP BY n$q$, 'q_' || queue || '_history', 'q_' || queue || '_live')
		USING start_time, end_time, buckets;
END $$;

-- The sums of a timeline, and WRONG if a bucket differs from what the views show.  The
-- buckets are so wide that it does not matter how their bounds are rounded.
CREATE FUNCTION pg_temp.timeline(queue text, start_time timestamptz, end_time timestamptz, buckets int) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
	n bigint;
	wrong bigint;
	sums text;
BEGIN
	SELECT count(*), count(*) FILTER (WHERE t.exact IS NOT TRUE OR t.bucket_start >= t.bucket_end
				OR (t.history, t.ready, t.in_flight, t.delayed, t.brought_back) IS DISTINCT FROM (v.history, v.ready, v.in_flight, v.delayed, v.brought_back)),
		   format('history %s, ready %s, in flight %s, delayed %s, brought back %s', sum(t.history), sum(t.ready), sum(t.in_flight), sum(t.delayed), sum(t.brought_back))
	  INTO n, wrong, sums
	  FROM cmq_timeline(queue, start_time, end_time, buckets) WITH ORDINALITY t FULL JOIN pg_temp.truth(queue, start_time, end_time, buckets) v ON v.bucket = t.ordinality;
	RETURN sums || CASE WHEN n <> buckets OR wrong > 0 THEN format(' WRONG %s of %s', wrong, n) ELSE '' END;
END $$;

--
-- Each state, of messages a second apart: ten buckets, and one.
--
SELECT cmq_create_queue('tl', rewind_seconds => 3600, visibility_timeout => 600);
SELECT count(*) FROM cmq_send_batch('tl', array(SELECT 'm' || i FROM generate_series(1, 40) i));
-- produced a second apart, the last one a minute ago
CREATE FUNCTION pg_temp.spread(queue text, n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	name text := 'q_' || queue;
	m record;
	i int := 0;
BEGIN
	FOR m IN EXECUTE format('SELECT enqueued_at FROM cmq_data.%I ORDER BY 1', name) LOOP
		i := i + 1;
		EXECUTE format('UPDATE cmq_data.%I SET enqueued_at = $2 WHERE enqueued_at = $1', name) USING m.enqueued_at, now() - (60 + n - i) * interval '1 s';
		EXECUTE format('UPDATE cmq_data.%I SET enqueued_at = $2, visible_at = $2 WHERE enqueued_at = $1', name || '_pending') USING m.enqueued_at, now() - (60 + n - i) * interval '1 s';
	END LOOP;
END $$;
SELECT pg_temp.age('tl', '0 s');	-- a leaf for what moves behind the first one
SELECT pg_temp.spread('tl', 40);
SELECT min(enqueued_at) AS first, max(enqueued_at) AS last FROM cmq.q_tl_live \gset
CREATE FUNCTION pg_temp.timelines() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT pg_temp.timeline('tl', f, l, 10) FROM (SELECT min(enqueued_at) AS f, max(enqueued_at) + interval '1 s' AS l FROM cmq_data.q_tl) t
	UNION ALL
	SELECT pg_temp.timeline('tl', f - interval '10 min', l + interval '20 min', n) FROM (SELECT min(enqueued_at) AS f, max(enqueued_at) AS l FROM cmq_data.q_tl) t, unnest('{1,7,200}'::int[]) n
$$;
SELECT pg_temp.timelines();
SELECT cmq_send('tl', 'later', 3600) > 0 AS sent;
SELECT count(cmq_delete('tl', receipt_handle)) FROM cmq_receive('tl', 20);
SELECT count(*) FROM cmq_receive('tl', 5);
-- received, and ready again
SELECT count(cmq_change_visibility('tl', receipt_handle, 0)) FROM cmq_receive('tl', 3);
SELECT pg_temp.timelines();
-- a restore: some of that received, one deleted again
SELECT cmq_restore('tl', :'first', :'first'::timestamptz + interval '5 s') AS restored;
SELECT pg_temp.timelines();
SELECT count(*) FROM cmq_receive('tl', 1);
SELECT count(*) FROM cmq_consume('tl', 1);
SELECT pg_temp.timelines();
-- a rewind under way, the same
SELECT cmq_rewind('tl', :'first') IS NOT NULL AS rewound;
SELECT pg_temp.timelines();
SELECT count(*) FROM cmq_receive('tl', 6);
SELECT count(*) FROM cmq_consume('tl', 4);
SELECT pg_temp.timelines();
-- paused: ready all the same
SELECT cmq_pause_queue('tl', 'a look');
SELECT pg_temp.timelines();
SELECT cmq_resume_queue('tl');
-- what the transaction sees, and no more
BEGIN;
SELECT count(*) FROM cmq_consume('tl', 2);
SELECT pg_temp.timelines();
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_temp.timelines();
COMMIT;
-- as rows: a bucket of a second for each of the first five messages
SELECT bucket_start - :'first' AS "from", bucket_end - :'first' AS until, history, ready, in_flight, delayed, brought_back, exact
  FROM cmq_timeline('tl', :'first', :'first'::timestamptz + interval '5 s', 5);
-- the default are 60 buckets; bounds that do not fit into microseconds differ by one
SELECT count(*) AS buckets, min(bucket_start) = :'first' AS "from", max(bucket_end) = :'first'::timestamptz + interval '100 us' AS until,
	   min(bucket_end - bucket_start) AS shortest, max(bucket_end - bucket_start) AS longest,
	   bool_and(bucket_start = previous) AS no_gaps
  FROM (SELECT *, lag(bucket_end, 1, bucket_start) OVER (ORDER BY bucket_start) AS previous FROM cmq_timeline('tl', :'first', :'first'::timestamptz + interval '100 us')) b;
SELECT cmq_cancel_rewind('tl');
SELECT pg_temp.timelines();
-- rewind off: the history is forgotten
SELECT cmq_alter_queue('tl', rewind_seconds => 0);
SELECT pg_temp.timelines();
SELECT cmq_alter_queue('tl', rewind_seconds => 3600);
SELECT pg_temp.timelines();
-- a part of the history has left the window; all has expired
SELECT count(*) FROM cmq_consume('tl', 5);
SELECT pg_temp.timelines();
BEGIN;
UPDATE cmq.queue SET forgotten_before = (SELECT max(enqueued_at) FROM cmq.q_tl_history) WHERE name = 'tl';
SELECT pg_temp.reload('tl');
SELECT pg_temp.timelines();
UPDATE cmq.queue SET expired_before = (SELECT max(enqueued_at) FROM cmq.q_tl_live WHERE state = 'ready'), forgotten_before = 'infinity' WHERE name = 'tl';
SELECT pg_temp.reload('tl');
SELECT pg_temp.timelines();
ROLLBACK;

-- what was published, and stands in a journal
SELECT cmq_create_queue('tl_' || c, rewind_seconds => 3600) FROM unnest('{a,b}'::text[]) c;
SELECT cmq_create_topic('tl');
SELECT cmq_subscribe('tl', c, 'tl_' || c) FROM unnest('{a,b}'::text[]) c;
SELECT count(*) FROM generate_series(1, 9) i, cmq_publish('tl', 'p' || i);
SELECT count(*) FROM cmq_consume('tl_a', 4);
SELECT count(*) FROM cmq_receive('tl_a', 2);
SELECT pg_temp.timeline('tl_a', now() - interval '1 h', now() + interval '1 h', 3), pg_temp.timeline('tl_b', now() - interval '1 h', now() + interval '1 h', 3);
SELECT cmq_unsubscribe('tl', c) FROM unnest('{a,b}'::text[]) c;
SELECT cmq_drop_topic('tl');
SELECT cmq_drop_queue('tl_b');

--
-- Errors, and rights.
--
SELECT call, line FROM unnest(ARRAY[
	$$'tl', now(), now()$$, $$'tl', now(), now() - interval '1 s'$$, $$'tl', now(), now() + interval '59 us'$$,
	$$'tl', '-infinity', now()$$, $$'tl', now(), 'infinity'$$, $$'tl', '4713-01-01 BC', '294276-01-01'$$, $$'tl', NULL, now()$$, $$'tl', now(), NULL$$,
	$$'tl', now(), now() + interval '1 h', 0$$, $$'tl', now(), now() + interval '1 h', 1001$$, $$'tl', now(), now() + interval '1 h', NULL$$,
	$$'tl_none', now(), now()$$, $$NULL, now(), now()$$, $$'tl', now(), now() + interval '1 h', 1000$$, $$'tl', now(), now() + interval '60 us'$$]) call,
	   LATERAL pg_temp.complaint(format('SELECT * FROM cmq_timeline(%s)', call));
CREATE ROLE regress_timeline_reader;
CREATE ROLE regress_timeline_user;
CREATE ROLE regress_timeline_monitor IN ROLE pg_monitor;
GRANT SELECT ON cmq.q_tl TO regress_timeline_reader;
GRANT INSERT, UPDATE, DELETE ON cmq.q_tl TO regress_timeline_user;
SELECT role, pg_temp.outcome('regress_timeline_' || role, $$SELECT * FROM cmq_timeline('tl', now() - interval '1 h', now())$$),
	   pg_temp.outcome('regress_timeline_' || role, $$SELECT * FROM cmq_timeline('tl', now(), now())$$) AS no_time
  FROM unnest('{reader,user,monitor}'::text[]) role;
DROP OWNED BY regress_timeline_reader, regress_timeline_user, regress_timeline_monitor;
DROP ROLE regress_timeline_reader, regress_timeline_user, regress_timeline_monitor;
SELECT cmq_drop_queue('tl');
SELECT cmq_drop_queue('tl_a');

--
-- 300,000 messages deleted: half of them at an even rate through two hours, half in bursts
-- of 10,000 within 20 milliseconds.  Of the first half hour a rewind has brought back all,
-- and all was deleted again; of the next hour the rewind has brought back nothing yet, but
-- for a third, here and there, of half an hour.  Numbers are estimates, and must be near
-- what the views show; sums all the more.
--
SELECT cmq_create_queue('tl_big', rewind_seconds => 86400, visibility_timeout => 3600);
SELECT min(lower) AS lower FROM cmq.partition WHERE queue = 'tl_big' \gset
SELECT pg_temp.add_leaf('tl_big', :'lower'::timestamptz - interval '24 hours', :'lower');
SELECT :'lower'::timestamptz - interval '3 hours' AS start, :'lower'::timestamptz - interval '1 hour' AS "end" \gset
SET synchronous_commit = off;
INSERT INTO cmq_data.q_tl_big (enqueued_at, body)
	SELECT :'start'::timestamptz + i * interval '48 ms', 'x' FROM generate_series(0, 149999) i
	UNION ALL
	SELECT :'start'::timestamptz + b * interval '7 min' + i * interval '2 us' + interval '1 us', 'x' FROM generate_series(1, 15) b, generate_series(0, 9999) i
	ORDER BY 1;
INSERT INTO cmq_data.q_tl_big_rewind
	SELECT enqueued_at, enqueued_at, enqueued_at + interval '1 min', 'somebody', 1, 0, 0 FROM cmq_data.q_tl_big;
SELECT cmq_rewind('tl_big', :'start'::timestamptz) IS NOT NULL AS rewound;
UPDATE cmq.queue SET rewind_from = :'start' WHERE name = 'tl_big';
WITH taken AS (DELETE FROM cmq_data.q_tl_big_rewind
				WHERE enqueued_at < :'start'::timestamptz + interval '30 min'
				   OR enqueued_at < :'start'::timestamptz + interval '1 hour' AND hashint8(extract(epoch FROM enqueued_at)::numeric::bigint * 7919 + extract(microseconds FROM enqueued_at)::bigint) % 3 = 0
			   RETURNING enqueued_at)
	INSERT INTO cmq_data.q_tl_big_rewind SELECT enqueued_at, now(), clock_timestamp(), 'somebody', 1, 1, 0 FROM taken;
ANALYZE cmq_data.q_tl_big, cmq_data.q_tl_big_rewind;

-- How far off a timeline is: buckets with so many messages or more that are off by a tenth of
-- that in a state, and sums that are off by a hundredth.  Some numbers are no counts.
CREATE FUNCTION pg_temp.compare(queue text, start_time timestamptz, end_time timestamptz, buckets int) RETURNS text LANGUAGE sql STABLE AS $$
	WITH t AS MATERIALIZED (SELECT row_number() OVER (ORDER BY bucket_start) AS bucket, * FROM cmq_timeline(queue, start_time, end_time, buckets)),
		 b AS MATERIALIZED (
			SELECT t.exact, v.history + v.ready + v.in_flight + v.delayed + v.brought_back AS n, s.estimate, s.counted, s.state
			  FROM t JOIN pg_temp.truth(queue, start_time, end_time, buckets) v USING (bucket),
				   LATERAL (VALUES ('history', t.history, v.history), ('ready', t.ready, v.ready), ('in_flight', t.in_flight, v.in_flight),
								   ('delayed', t.delayed, v.delayed), ('brought_back', t.brought_back, v.brought_back)) s (state, estimate, counted)),
		 sums AS (SELECT state, sum(estimate) AS estimate, sum(counted) AS counted, sum(sum(counted)) OVER () AS n FROM b GROUP BY state)
	SELECT format('buckets far off %s, exact but wrong %s, sums far off %s, all counted %s',
		(SELECT count(*) FROM b WHERE n >= 3000 AND abs(estimate - counted) > n / 10), (SELECT count(*) FROM b WHERE exact AND estimate <> counted),
		(SELECT count(*) FROM sums WHERE abs(estimate - counted) > n / 100), (SELECT bool_and(exact) FROM b))
$$;
SELECT n AS buckets, pg_temp.compare('tl_big', :'start', :'end', n) FROM unnest('{1,7,60}'::int[]) n;
-- a part that is small enough is counted: some minutes, and the moment of a burst
SELECT pg_temp.compare('tl_big', :'start'::timestamptz + interval '50 min', :'start'::timestamptz + interval '58 min', 12) AS minutes,
	   pg_temp.compare('tl_big', :'start'::timestamptz + interval '35 min', :'start'::timestamptz + interval '35 min 20 ms', 20) AS burst;
-- index entries of rows that nobody sees any more
VACUUM cmq_data.q_tl_big_rewind;
SELECT pg_temp.compare('tl_big', :'start', :'end', 60);
SELECT cmq_cancel_rewind('tl_big');
-- all of it is pending: some as sent, a sixth in flight, others delayed or received before,
-- or restored
INSERT INTO cmq_data.q_tl_big_pending (visible_at, enqueued_at, first_received_at, receive_count, rewind_count)
	SELECT CASE k WHEN 0 THEN now() + hashint8(extract(microseconds FROM enqueued_at)::bigint) % 3000 * interval '1 s' + interval '1 h' WHEN 1 THEN now() + interval '3 h'
				  WHEN 2 THEN enqueued_at + interval '90 min' ELSE enqueued_at END,
		   enqueued_at, CASE WHEN k IN (0, 2, 5) THEN enqueued_at END, CASE WHEN k IN (0, 2) THEN 1 ELSE 0 END, CASE k WHEN 5 THEN 1 ELSE 0 END
	  FROM (SELECT enqueued_at, row_number() OVER (ORDER BY enqueued_at) % CASE WHEN enqueued_at < :'start'::timestamptz + interval '70 min' THEN 6 ELSE 4 END AS k FROM cmq_data.q_tl_big) m;
DELETE FROM cmq_data.q_tl_big_rewind;
SELECT n AS buckets, pg_temp.compare('tl_big', :'start', :'end', n) FROM unnest('{1,7,60}'::int[]) n;
SELECT pg_temp.compare('tl_big', :'start'::timestamptz + interval '1 hour', :'start'::timestamptz + interval '90 min', 6);
SELECT pg_temp.compare('tl_big', :'start'::timestamptz - interval '1 day', :'end'::timestamptz + interval '1 day', 40);
-- how much is read: of 300,000 rows and entries less than half
BEGIN;
CREATE FUNCTION pg_temp.rows_read() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_returned(oid))::bigint FROM pg_class WHERE relname ~ '^(q_tl_big_pending|r_tl_big_)' $$;
SELECT pg_temp.rows_read() AS rows_read \gset
SELECT count(*) FROM cmq_timeline('tl_big', :'start', :'end');
SELECT pg_temp.rows_read() - :rows_read BETWEEN 1 AND 150000 AS not_all;
COMMIT;
RESET synchronous_commit;
SELECT cmq_drop_queue('tl_big');
