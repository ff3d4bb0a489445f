-- A broken consumer, some hours after it broke: what make console-demo shows.
--
-- Variables: hours, of history; step, seconds between two payments; broken, for how many
-- minutes the consumer has booked nothing; password, of all roles that may log in.
--
-- Messages have the time of their sending, so those of the past are written into the
-- tables of the queue by hand, with partitions for their time.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
\if :{?hours} \else \set hours 6 \endif
\if :{?step} \else \set step 3 \endif
\if :{?broken} \else \set broken 110 \endif
\if :{?password} \else \set password demo \endif

CREATE EXTENSION cmq;

-- who is who: the team's role owns the queues, the services send and consume, the person
-- on call brings messages back, the accountant reads
CREATE ROLE team LOGIN PASSWORD :'password';
CREATE ROLE shop LOGIN PASSWORD :'password';
CREATE ROLE billing LOGIN PASSWORD :'password';
CREATE ROLE oncall LOGIN PASSWORD :'password';
CREATE ROLE accountant LOGIN PASSWORD :'password';
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO team;
GRANT USAGE ON SCHEMA cmq TO shop, billing, oncall, accountant;

SET SESSION AUTHORIZATION team;
SELECT cmq_create_queue('payments_dead', msg_retention_seconds => 1296000, rewind_seconds => 86400),
       cmq_create_queue('payments', msg_retention_seconds => 86400, rewind_seconds => 86400,
                        dead_letter_queue => 'payments_dead', max_receive_count => 3),
       cmq_create_queue('mails', rewind_seconds => 3600),
       cmq_create_queue('movements', ordered => true, rewind_seconds => 86400),
       cmq_create_queue('reminders', msg_retention_seconds => 1296000),
       cmq_create_queue('imports', rewind_seconds => 86400) \g /dev/null
GRANT INSERT ON cmq.q_payments TO shop;
GRANT DELETE, SELECT ON cmq.q_payments TO billing;
GRANT SELECT, UPDATE ON cmq.q_payments, cmq.q_payments_dead, cmq.q_mails, cmq.q_movements, cmq.q_reminders, cmq.q_imports TO oncall;
GRANT DELETE ON cmq.q_payments_dead TO oncall;
GRANT INSERT ON cmq.q_payments TO oncall;
GRANT SELECT ON cmq.q_payments, cmq.q_movements TO accountant;
RESET SESSION AUTHORIZATION;

-- the books of the consumer, and which release of it runs: 2 books nothing
CREATE SCHEMA books AUTHORIZATION team;
GRANT USAGE ON SCHEMA books TO billing, oncall, accountant, shop;
SET SESSION AUTHORIZATION team;
CREATE TABLE books.ledger (msg_id bigint PRIMARY KEY, account text NOT NULL, amount numeric(12,2) NOT NULL, booked_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE books.sent (msg_id bigint PRIMARY KEY);
CREATE TABLE books.consumer (release int NOT NULL);
INSERT INTO books.consumer VALUES (2);
GRANT SELECT, INSERT ON books.ledger TO billing;
GRANT SELECT, INSERT ON books.sent TO shop;
GRANT SELECT ON books.consumer TO billing;
GRANT SELECT ON ALL TABLES IN SCHEMA books TO accountant, oncall;
RESET SESSION AUTHORIZATION;

-- partitions for the hours that are over
CREATE PROCEDURE pg_temp.make_past(queue text, hours float8) LANGUAGE plpgsql AS $$
DECLARE
	first timestamptz;
	width interval;
	l timestamptz;
BEGIN
	SELECT min(p.lower), min(p.upper - p.lower) INTO first, width FROM cmq.partition p WHERE p.queue = make_past.queue;
	l := first - width;
	WHILE l + width > now() - hours * interval '1 hour' LOOP
		EXECUTE format('CREATE TABLE cmq_data.%I PARTITION OF cmq_data.%I FOR VALUES FROM (%L) TO (%L)',
					   'm_' || queue || '_' || to_char(l, 'YYYYMMDDHH24MI'), 'q_' || queue, l, l + width);
		EXECUTE format('CREATE TABLE cmq_data.%I PARTITION OF cmq_data.%I FOR VALUES FROM (%L) TO (%L)',
					   'r_' || queue || '_' || to_char(l, 'YYYYMMDDHH24MI'), 'q_' || queue || '_rewind', l, l + width);
		INSERT INTO cmq.partition (queue, lower, upper, messages, rewind)
		VALUES (queue, l, l + width, ('cmq_data.m_' || queue || '_' || to_char(l, 'YYYYMMDDHH24MI'))::regclass,
				('cmq_data.r_' || queue || '_' || to_char(l, 'YYYYMMDDHH24MI'))::regclass);
		EXECUTE format('ALTER TABLE cmq_data.%I OWNER TO team', 'm_' || queue || '_' || to_char(l, 'YYYYMMDDHH24MI'));
		EXECUTE format('ALTER TABLE cmq_data.%I OWNER TO team', 'r_' || queue || '_' || to_char(l, 'YYYYMMDDHH24MI'));
		l := l - width;
	END LOOP;
END $$;
CALL pg_temp.make_past('payments', :hours);

-- payments: one each few seconds, more of them in waves, consumed a second later
CREATE TEMP TABLE past AS
SELECT date_trunc('milliseconds', now() - :hours * interval '1 hour' + i * :step * interval '1 second'
	   + ((hashint4(i) & 1023) / 1024.0) * :step * interval '1 second') + (i % 1000) * interval '1 microsecond' AS enqueued_at,
	   (ARRAY['anna', 'bert', 'carla', 'dora', 'emil', 'fritz'])[1 + (hashint4(i + 3) & 65535) % 6] AS account,
	   round((((hashint4(i + 7) & 65535) % 30000) / 100.0 + 1)::numeric, 2) AS amount,
	   (hashint4(i + 11) & 65535) % 5 + 1 AS shop
  FROM generate_series(0, (:hours * 3600 / :step)::int - 10) i
 WHERE (hashint4(i + 13) & 255) < 150 + 100 * sin(i * :step / 1300.0);
DELETE FROM past a USING past b WHERE a.enqueued_at = b.enqueued_at AND a.ctid > b.ctid;
INSERT INTO cmq_data.q_payments (enqueued_at, headers, body)
SELECT enqueued_at, jsonb_build_object('shop', shop), jsonb_build_object('account', account, 'amount', amount)::text FROM past ORDER BY enqueued_at;
INSERT INTO cmq_data.q_payments_rewind
SELECT enqueued_at, enqueued_at + interval '0.4 s', enqueued_at + interval '0.9 s', 'billing', 1, 0, 3, NULL FROM past ORDER BY enqueued_at;
INSERT INTO books.sent SELECT cmq.msg_id(enqueued_at) FROM past;
INSERT INTO books.ledger SELECT cmq.msg_id(enqueued_at), account, amount, enqueued_at + interval '0.9 s' FROM past
 WHERE enqueued_at < now() - :broken * interval '1 minute';

SET SESSION AUTHORIZATION team;
SELECT count(*) FROM cmq_send_batch('mails', ARRAY(SELECT 'Dear customer ' || i FROM generate_series(1, 40) i)) \g /dev/null
SELECT count(*) FROM cmq_consume('mails', 31) \g /dev/null
SELECT count(*) FROM cmq_receive('mails', 4, visibility_timeout => 600) \g /dev/null
SELECT count(*) FROM cmq_send_batch('movements', ARRAY(SELECT format('{"amount": %s}', i) FROM generate_series(1, 60) i),
	message_groups => ARRAY(SELECT 'account-' || i % 7 FROM generate_series(1, 60) i)) \g /dev/null
SELECT count(*) FROM cmq_consume('movements', 25) \g /dev/null
SELECT count(*) FROM cmq_send_batch('reminders', ARRAY(SELECT 'call customer ' || i FROM generate_series(1, 12) i), delay_seconds => 86400) \g /dev/null
SELECT count(*) FROM cmq_send_batch('imports', ARRAY(SELECT 'file ' || i || '.csv' FROM generate_series(1, 8) i)) \g /dev/null
SELECT cmq_pause_queue('imports', 'ticket 4680: the file store is being moved') \g /dev/null
-- letters: payments in a currency that release 1 did not know
SELECT count(*) FROM cmq_send_batch('payments', ARRAY(SELECT format('{"account": "greta", "amount": %s.00, "currency": "XTS"}', 10 * i) FROM generate_series(1, 5) i),
	headers => ARRAY(SELECT '{"shop": 9}'::jsonb FROM generate_series(1, 5))) \g /dev/null
DO $$
BEGIN
	FOR i IN 1 .. 3 LOOP
		PERFORM cmq_release('payments', ARRAY(SELECT receipt_handle FROM cmq_receive('payments', 5)), 0);
	END LOOP;
END $$;
RESET SESSION AUTHORIZATION;
SELECT cmq_maintain() \g /dev/null
VACUUM ANALYZE;
