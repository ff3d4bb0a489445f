-- The story that make demo plays: a payment service A, a bookkeeping service
-- B, a bad release of B, and a rewind.  It fails (and make with it) if the
-- books do not balance at the end.

\set ON_ERROR_STOP on
\pset pager off
\pset null '-'
SET client_min_messages = warning;

\echo
\echo '======================================================================'
\echo ' 1. A queue with rewind'
\echo '======================================================================'
\echo
\echo 'Two services.  A takes payments and sends a message for each.  B receives'
\echo 'the messages and books them.  Between them stands the queue "payments".'
\echo 'Its messages live for one day.  rewind_seconds => 86400 keeps them for that'
\echo 'whole day after B has deleted them, too: they can be consumed again.'
\echo
\set ECHO queries
CREATE EXTENSION cmq;

SELECT cmq_create_queue('payments', msg_retention_seconds => 86400,
                        rewind_seconds => 86400);
\set ECHO none

\echo
\echo 'B keeps its books in a table of its own, in the same database.  The msg_id'
\echo 'as primary key is all B needs to book every payment once.'
\echo
\set ECHO queries
CREATE TABLE ledger (
    msg_id    bigint PRIMARY KEY,
    account   text NOT NULL,
    amount    numeric(12,2) NOT NULL
);
\set ECHO none

\echo
\echo 'And this is B, release 1: consume and book, in one transaction: the message is'
\echo 'gone if and only if it is booked.  ON CONFLICT DO NOTHING makes it idempotent: a'
\echo 'payment that somebody brings back is not booked a second time.'
\echo
\set ECHO queries
CREATE FUNCTION b_release_1(OUT received int, OUT booked int)
LANGUAGE plpgsql AS $$
DECLARE
    message record;
    payment jsonb;
    changed int;
BEGIN
    received := 0;
    booked := 0;
    FOR message IN SELECT * FROM cmq_consume('payments', max_messages => 100) LOOP
        payment := message.body;
        INSERT INTO ledger (msg_id, account, amount)
        VALUES (message.msg_id, payment->>'account', (payment->>'amount')::numeric)
        ON CONFLICT (msg_id) DO NOTHING;
        GET DIAGNOSTICS changed = ROW_COUNT;
        received := received + 1;
        booked := booked + changed;
    END LOOP;
END $$;
\set ECHO none

\echo
\echo '======================================================================'
\echo ' 2. A normal morning'
\echo '======================================================================'
\echo
\echo 'A sends three payments and forgets about them.'
\echo
\set ECHO queries
SELECT cmq_send_batch('payments', ARRAY[
    '{"account": "anna",  "amount": 100.00}',
    '{"account": "bert",  "amount":  25.50}',
    '{"account": "carla", "amount":  12.00}']) AS msg_id;
\set ECHO none

\echo 'B consumes them.'
\echo
\set ECHO queries
SELECT * FROM b_release_1();
\set ECHO none

\echo 'Reconciliation: the view cmq.q_payments_history shows every message that was'
\echo 'consumed and can still be rewound.  Joined with the books, it tells what'
\echo 'is missing.'
\echo
\set ECHO queries
SELECT count(*) AS consumed,
       count(l.msg_id) AS booked,
       count(*) - count(l.msg_id) AS missing
  FROM cmq.q_payments_history h
  LEFT JOIN ledger l USING (msg_id);
\set ECHO none

\echo 'All settled.  B was fine at this time, remember it:'
\echo
\set ECHO queries
SELECT clock_timestamp() AS known_good \gset
\set ECHO none
\echo
\echo '   known_good =' :known_good

\echo
\echo 'Two more payments come in, and B books them.'
\echo
\set ECHO queries
SELECT cmq_send_batch('payments', ARRAY[
    '{"account": "anna",  "amount":  80.00}',
    '{"account": "dora",  "amount":  19.90}']) AS msg_id;

SELECT * FROM b_release_1();
\set ECHO none

\echo '======================================================================'
\echo ' 3. B breaks'
\echo '======================================================================'
\echo
\echo 'B gets a new release, and it has a bug: it looks for the amount under another'
\echo 'name, finds none, takes the payment for an empty one and skips it.  The'
\echo 'message is consumed all the same.'
\echo
\set ECHO queries
CREATE FUNCTION b_release_2(OUT received int, OUT booked int)
LANGUAGE plpgsql AS $$
DECLARE
    message record;
    payment jsonb;
BEGIN
    received := 0;
    booked := 0;
    FOR message IN SELECT * FROM cmq_consume('payments', max_messages => 100) LOOP
        payment := message.body;
        IF payment->>'total' IS NOT NULL THEN     -- the bug: A writes "amount"
            INSERT INTO ledger (msg_id, account, amount)
            VALUES (message.msg_id, payment->>'account', (payment->>'total')::numeric)
            ON CONFLICT (msg_id) DO NOTHING;
            booked := booked + 1;
        END IF;
        received := received + 1;
    END LOOP;
END $$;

SELECT cmq_send_batch('payments', ARRAY[
    '{"account": "bert",  "amount": 310.00}',
    '{"account": "emil",  "amount":   7.25}',
    '{"account": "carla", "amount":  64.00}',
    '{"account": "anna",  "amount":   5.10}']) AS msg_id;

SELECT * FROM b_release_2();
\set ECHO none

\echo 'Nobody notices: no error, and the queue is empty.  Without rewind these four'
\echo 'payments would be gone, unless A had kept a copy of everything it sends.'
\echo
\set ECHO queries
SELECT active_msg_num, inactive_msg_num, rewind_msg_num
  FROM cmq_queue_attributes('payments');
\set ECHO none

\echo 'Until the next reconciliation.'
\echo
\set ECHO queries
SELECT h.enqueued_at, h.deleted_at, h.deleted_by, h.body
  FROM cmq.q_payments_history h
  LEFT JOIN ledger l USING (msg_id)
 WHERE l.msg_id IS NULL
 ORDER BY h.enqueued_at;
\set ECHO none

\echo '======================================================================'
\echo ' 4. Rewind'
\echo '======================================================================'
\echo
\echo 'The queue is paused: from now on it delivers nothing, whoever still runs.  B goes'
\echo 'back to release 1.  A knows nothing of all this and goes on sending.'
\echo
\set ECHO queries
SELECT cmq_pause_queue('payments', 'release 2 of B books nothing');

SELECT cmq_send_batch('payments', ARRAY[
    '{"account": "dora",  "amount":  42.00}',
    '{"account": "emil",  "amount": 150.00}']) AS msg_id;

SELECT * FROM b_release_1();
\set ECHO none

\echo 'A rewind may start anywhere between now - rewind_seconds and the production time'
\echo 'of the earliest message that is not consumed yet:'
\echo
\set ECHO queries
SELECT earliest_rewind_time, latest_rewind_time
  FROM cmq_queue_attributes('payments');
\set ECHO none

\echo 'What would come back from the time when B was known to be fine:'
\echo
\set ECHO queries
SELECT messages, body_bytes FROM cmq_rewind_preview('payments', :'known_good');
\set ECHO none

\echo 'Back to the time when B was known to be fine.  Everything produced since then'
\echo 'will be received again; the result is the first such message.'
\echo
\set ECHO queries
SELECT cmq_rewind('payments', :'known_good') AS first_message;
\set ECHO none

\echo 'What B will receive now, in this order: the six messages produced since then'
\echo 'and already consumed (rewind_count 1), then the two that A has just sent.'
\echo
\set ECHO queries
SELECT enqueued_at, state, rewind_count, body
  FROM cmq.q_payments_live
 ORDER BY enqueued_at;
\set ECHO none

\echo '======================================================================'
\echo ' 5. B consumes again'
\echo '======================================================================'
\echo
\set ECHO queries
SELECT cmq_resume_queue('payments');

SELECT * FROM b_release_1();
\set ECHO none

\echo 'Eight consumed, six booked: the two payments between known_good and the bad'
\echo 'release were in the books already, and stayed there once.'
\echo
\echo '======================================================================'
\echo ' 6. Reconciliation'
\echo '======================================================================'
\echo
\echo 'Every message ever consumed, against the books:'
\echo
\set ECHO queries
SELECT h.enqueued_at, h.rewind_count, h.body::jsonb->>'account' AS account,
       (h.body::jsonb->>'amount')::numeric AS sent, l.amount AS booked,
       CASE WHEN l.amount = (h.body::jsonb->>'amount')::numeric
            THEN 'settled' ELSE 'MISSING' END AS result
  FROM cmq.q_payments_history h
  LEFT JOIN ledger l USING (msg_id)
 ORDER BY h.enqueued_at;

SELECT count(*) AS consumed,
       count(l.msg_id) AS booked,
       count(*) - count(l.msg_id) AS missing,
       sum((h.body::jsonb->>'amount')::numeric) AS sent_amount,
       sum(l.amount) AS booked_amount
  FROM cmq.q_payments_history h
  LEFT JOIN ledger l USING (msg_id);
\set ECHO none

\echo 'And what was done to the queue, by whom and why:'
\echo
\set ECHO queries
SELECT kind, current_user_name, called_at, start_time, reason FROM cmq.rewinds ORDER BY id;
\set ECHO none

-- Not part of the story: does it end as it says?
DO $$
DECLARE
    n record;
BEGIN
    SELECT count(*) AS consumed, count(l.msg_id) AS booked,
           count(*) FILTER (WHERE l.amount = (h.body::jsonb->>'amount')::numeric) AS settled,
           (SELECT count(*) FROM ledger) AS ledger_rows,
           (SELECT sum(amount) FROM ledger) AS ledger_amount,
           (SELECT count(*) FROM cmq.q_payments_live) AS pending
      INTO n
      FROM cmq.q_payments_history h
      LEFT JOIN ledger l USING (msg_id);
    IF (n.consumed, n.booked, n.settled, n.ledger_rows, n.ledger_amount, n.pending)
       IS DISTINCT FROM (11::bigint, 11::bigint, 11::bigint, 11::bigint, 815.75, 0::bigint) THEN
        RAISE EXCEPTION 'the books do not balance: %', n;
    END IF;
END $$;

\echo 'Eleven payments sent, eleven consumed, eleven booked, none missing, none twice.'
\echo 'A never had to know.'
\echo
