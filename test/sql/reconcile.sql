-- examples/reconcile.sql: a consumer that forgets, one that books twice, a report that
-- changes nothing, and the proof that after the repair all is settled.  And what reports
-- need of the views.  t/303_examples has what the example refuses.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('payments', rewind_seconds => 7200, msg_retention_seconds => 86400, visibility_timeout => 600);
CREATE TABLE ledger (msg_id bigint, amount numeric);
CREATE ROLE regress_broken;
CREATE ROLE regress_finance;
CREATE ROLE regress_auditor;
GRANT USAGE ON SCHEMA cmq TO regress_broken, regress_finance, regress_auditor;
GRANT DELETE ON cmq.q_payments TO regress_broken;
GRANT SELECT, UPDATE ON cmq.q_payments TO regress_finance;
GRANT SELECT ON cmq.q_payments TO regress_auditor;
GRANT SELECT ON ledger TO regress_finance, regress_auditor;
GRANT INSERT ON ledger TO regress_broken;

-- twenty payments of 1 .. 20
SELECT count(*) FROM cmq_send_batch('payments', array(SELECT format('{"amount": %s}', i) FROM generate_series(1, 20) i));
-- the good consumer books 1 .. 8, and 3 twice
WITH m AS MATERIALIZED (SELECT * FROM cmq_receive('payments', 8)),
	 b AS (INSERT INTO ledger SELECT msg_id, (body::jsonb ->> 'amount')::numeric FROM m)
SELECT count(cmq_delete('payments', receipt_handle)) FROM m;
INSERT INTO ledger SELECT msg_id, amount FROM ledger WHERE amount = 3;
-- the broken one books every second of 9 .. 16
SET ROLE regress_broken;
WITH m AS MATERIALIZED (SELECT * FROM cmq_receive('payments', 8)),
	 b AS (INSERT INTO ledger SELECT msg_id, (body::jsonb ->> 'amount')::numeric FROM m WHERE (body::jsonb ->> 'amount')::int % 2 = 0)
SELECT count(cmq_delete('payments', receipt_handle)) FROM m;
RESET ROLE;
-- 17 and 18 are in flight, 19 and 20 wait
SELECT count(*) FROM cmq_receive('payments', 2);
INSERT INTO ledger VALUES (cmq.msg_id(now()), 99);


-- all that a report or a repair could change
CREATE FUNCTION pg_temp.everything() RETURNS text
LANGUAGE sql AS $$
	SELECT md5(concat((SELECT string_agg(a::text, ' ' ORDER BY msg_id) FROM cmq.q_payments_all a),
					  (SELECT string_agg(l::text, ' ' ORDER BY msg_id, amount) FROM ledger l),
					  (SELECT string_agg(r::text, ' ' ORDER BY id) FROM cmq.rewinds r WHERE queue = 'payments'),
					  (SELECT string_agg(oid::text, ' ' ORDER BY oid) FROM pg_class WHERE relkind IN ('r', 'v', 'p'))))
$$;
SELECT pg_temp.everything() AS before \gset

-- SELECT is enough for the report
\set queue payments
\set ledger ledger
\set from '2020-01-01 00:00+00'
\set until '2100-01-01 00:00+00'
\set show :srcdir '/reconcile_report.sql'
SET ROLE regress_auditor;
\i :show
RESET ROLE;
SELECT pg_temp.everything() = :'before' AS nothing_has_changed;

-- the repair, and the report after it
\set repair on
SET ROLE regress_finance;
\i :show
\i :show
RESET ROLE;

-- consumed again, by somebody who books; the good consumer has nothing to do twice
WITH m AS MATERIALIZED (SELECT * FROM cmq_receive('payments', 4)),
	 b AS (INSERT INTO ledger SELECT msg_id, (body::jsonb ->> 'amount')::numeric FROM m)
SELECT sum((body::jsonb ->> 'amount')::int), count(cmq_delete('payments', receipt_handle)) FROM m;
SELECT count(*) AS not_booked FROM cmq.q_payments_history h LEFT JOIN ledger l USING (msg_id) WHERE l.msg_id IS NULL;

--
-- Names that must be quoted, a ledger with a column of the same name as one of the queue's,
-- one called like the example's own tables, and a search_path that leads astray.
--
SELECT cmq_create_queue('Odd-Queue_1', rewind_seconds => 7200);
CREATE SCHEMA "Odd schema";
CREATE TABLE "Odd schema"."led'ger""; --" (amount numeric, enqueued_at timestamptz, deleted_by text, msg_id bigint);
CREATE TABLE missing (msg_id bigint, amount numeric);
CREATE FUNCTION "Odd schema".cmq_restore_messages(text, bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
SELECT count(*) FROM cmq_send_batch('Odd-Queue_1', '{"{\"amount\": 1}","{\"amount\": 2}"}');
GRANT SELECT, DELETE ON cmq."q_Odd-Queue_1" TO regress_broken;
SET ROLE regress_broken;
SELECT pg_temp.consume('Odd-Queue_1');
RESET ROLE;
-- a payment of the other queue, and the first of this one
INSERT INTO "Odd schema"."led'ger""; --" (msg_id, amount) SELECT msg_id, 1 FROM cmq.q_payments_all WHERE body::jsonb ->> 'amount' = '1';
INSERT INTO "Odd schema"."led'ger""; --" (msg_id, amount) SELECT msg_id, 1 FROM cmq."q_Odd-Queue_1_all" WHERE body::jsonb ->> 'amount' = '1';
SET search_path = "Odd schema", public;
\set queue Odd-Queue_1
\set ledger '"Odd schema"."led\'ger""; --"'
\set repair on
\i :show
SET ROLE regress_broken;
SELECT pg_temp.consume('Odd-Queue_1');
RESET ROLE;
\set ledger missing
\i :show
RESET search_path;
SELECT cmq_drop_queue('Odd-Queue_1');
DROP SCHEMA "Odd schema" CASCADE;
DROP TABLE missing;

--
-- All states in one view, which equals the two others together.
--
SELECT state, string_agg(body::jsonb ->> 'amount', ' ' ORDER BY enqueued_at) AS amounts FROM cmq.q_payments_all GROUP BY 1 ORDER BY 1;
SELECT count(*) AS differences
  FROM (SELECT msg_id, enqueued_at, state, first_received_at, visible_at, NULL::timestamptz AS deleted_at, NULL::text AS deleted_by,
			   receive_count, rewind_count, headers, body FROM cmq.q_payments_live
		UNION ALL
		SELECT msg_id, enqueued_at, 'deleted', first_received_at, NULL, deleted_at, deleted_by,
			   receive_count, rewind_count, headers, body FROM cmq.q_payments_history) two
  FULL JOIN cmq.q_payments_all a USING (msg_id)
 WHERE to_jsonb(two) IS DISTINCT FROM to_jsonb(a);
SELECT deleted_by, count(*) FROM cmq.q_payments_history WHERE deleted_by = 'regress_broken' GROUP BY 1;

--
-- A time range reads the leaves of that time, by index; so does one id.
--
SELECT pg_temp.age('payments', '30 min');
CREATE FUNCTION pg_temp.leaves_read(query text, kind text DEFAULT '[rm]') RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
	line text;
	leaves text[] := '{}';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
		-- those that were planned and executed
		IF line !~ 'never executed' THEN
			leaves := leaves || substring(line FROM ' on ' || kind || '_payments_(\d+)');
		END IF;
	END LOOP;
	RETURN (SELECT count(DISTINCT l) FROM unnest(leaves) l);
END $$;
-- by the table of states or by that of the messages; the one before is read as long as the rewind window reaches into it
SELECT lower, upper, lower > cmq._since('payments') AS reached
  FROM cmq.partition WHERE queue = 'payments' AND now() >= lower AND now() < upper \gset
SELECT pg_temp.leaves_read(format('SELECT * FROM cmq.q_payments_history WHERE enqueued_at >= %L AND enqueued_at < %L', :'lower', :'upper')) AS this_one,
	   pg_temp.leaves_read(format('SELECT * FROM cmq.q_payments_history WHERE enqueued_at < %L AND enqueued_at >= %L::timestamptz - interval ''1 min''', :'lower', :'lower')) = :'reached'::bool::int AS the_one_before,
	   pg_temp.leaves_read(format('SELECT * FROM cmq.q_payments_all WHERE enqueued_at >= %L AND enqueued_at < %L', :'lower', :'upper')) AS of_all,
	   pg_temp.leaves_read('SELECT * FROM cmq.q_payments_history WHERE enqueued_at = cmq.enqueued_at(1700000000000000)') AS none;
-- nor are other messages read, by default when the range is small
SET enable_partitionwise_join = on;
SELECT lower AS mine_lower, upper AS mine_upper
  FROM cmq.partition WHERE queue = 'payments' AND now() - interval '30 min' >= lower AND now() - interval '30 min' < upper \gset
SELECT pg_temp.leaves_read(format('SELECT * FROM cmq.q_payments_history WHERE enqueued_at >= %L AND enqueued_at < %L', :'mine_lower', :'mine_upper'), 'm') AS messages_of_their_one;
RESET enable_partitionwise_join;
SET enable_seqscan = off;
SELECT pg_temp.uses_index($$SELECT * FROM cmq.q_payments_history WHERE enqueued_at BETWEEN now() - interval '40 min' AND now() - interval '20 min'$$, 'Index%_payments_%') AS by_index;
RESET enable_seqscan;

-- maintenance makes statistics of the partitioned tables, once per leaf
SELECT cmq_send('payments', '{}') > 0 AS sent;
SELECT cmq_maintain('payments');
SELECT tablename, attname FROM pg_stats WHERE schemaname = 'cmq_data' AND tablename IN ('q_payments', 'q_payments_rewind') AND inherited AND attname IN ('enqueued_at', 'deleted_at') ORDER BY 1, 2;

--
-- SELECT on the queue is enough for the views, and for nothing else.
--
CREATE ROLE regress_reader;
GRANT USAGE ON SCHEMA cmq TO regress_reader;
SET ROLE regress_reader;
SELECT pg_temp.attempt('SELECT * FROM cmq.q_payments_' || v) FROM unnest('{live,history,all}'::text[]) v;
RESET ROLE;
GRANT SELECT ON cmq.q_payments TO regress_reader;
SET ROLE regress_reader;
SELECT (SELECT count(*) FROM cmq.q_payments_live) AS live, (SELECT count(*) FROM cmq.q_payments_history) AS history,
	   (SELECT count(*) FROM cmq.q_payments_all) AS "all", (SELECT count(*) FROM cmq.rewinds) AS rewinds;
SELECT pg_temp.attempt('SELECT * FROM cmq_data.q_payments_' || t) FROM unnest('{pending,rewind}'::text[]) t;
SELECT pg_temp.attempt(c)
  FROM unnest(ARRAY[$$SELECT cmq_send('payments', 'x')$$, $$SELECT cmq_receive('payments')$$, $$SELECT cmq_rewind('payments', now())$$,
					$$SELECT cmq_restore('payments', now())$$, $$DELETE FROM cmq_data.q_payments$$, $$DELETE FROM cmq.q_payments$$, $$DELETE FROM cmq.q_payments_all$$]) c;
RESET ROLE;

SELECT cmq_drop_queue('payments');
DROP TABLE ledger;
DROP OWNED BY regress_broken, regress_finance, regress_auditor, regress_reader;
DROP ROLE regress_broken, regress_finance, regress_auditor, regress_reader;
