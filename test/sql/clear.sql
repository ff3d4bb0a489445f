-- cmq_clear_queue: what is pending goes for good, history stays.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('clear_a', rewind_seconds => 3600);
SELECT cmq_clear_queue('clear_a') AS empty;

-- ready, delayed, in flight; two in the history
SELECT count(*) FROM cmq_send_batch('clear_a', '{h1,h2}');
SELECT pg_temp.consume('clear_a');
SELECT count(*) FROM cmq_send_batch('clear_a', '{a,b,c,d}');
SELECT cmq_send('clear_a', 'later', 3600) IS NOT NULL AS sent;
SELECT receipt_handle AS handle FROM cmq_receive('clear_a') \gset
SELECT pg_temp.counts('clear_a');

-- rolled back: as before
BEGIN;
SELECT cmq_clear_queue('clear_a') AS removed;
SELECT pg_temp.counts('clear_a');
SELECT count(*) FROM cmq_receive('clear_a', 10);
ROLLBACK;
SELECT pg_temp.counts('clear_a');
SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'clear_a';

SELECT cmq_clear_queue('clear_a') AS removed;
SELECT pg_temp.counts('clear_a');
SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'clear_a';
SELECT count(*) FROM cmq_receive('clear_a', 10);
SELECT cmq_delete('clear_a', :'handle') AS gone;
-- the bodies are gone with them, those of the history are not
SELECT string_agg(body, ' ' ORDER BY enqueued_at) FROM cmq_data.q_clear_a;
SELECT string_agg(body, ' ' ORDER BY enqueued_at) FROM cmq.q_clear_a_history;
-- it goes on
SELECT cmq_send('clear_a', 'new') IS NOT NULL AS sent;
SELECT pg_temp.consume('clear_a');

-- a rewind brings back the history, not what was removed
SELECT cmq_rewind('clear_a', (SELECT min(enqueued_at) FROM cmq.q_clear_a_history)) IS NOT NULL AS rewound;
SELECT pg_temp.receive('clear_a', 1);
SELECT pg_temp.counts('clear_a');
-- a rewind under way ends: the one received is removed, the others are history
SELECT cmq_clear_queue('clear_a') AS removed;
SELECT pg_temp.counts('clear_a');
SELECT count(*) FROM cmq_receive('clear_a', 10);
SELECT rewinding_from FROM cmq.queues WHERE queue = 'clear_a';
SELECT string_agg(body, ' ' ORDER BY enqueued_at) FROM cmq.q_clear_a_history;
SELECT cmq_rewind('clear_a', (SELECT min(enqueued_at) FROM cmq.q_clear_a_history)) IS NOT NULL AS rewound_again;
SELECT pg_temp.consume('clear_a');

-- many, over several pages
SELECT count(*) FROM cmq_send_batch('clear_a', array_fill('m'::text, '{3000}'));
SELECT cmq_clear_queue('clear_a') AS removed;
SELECT pg_temp.counts('clear_a');

-- without rewind
SELECT cmq_create_queue('clear_b');
SELECT count(*) FROM cmq_send_batch('clear_b', '{a,b,c}');
SELECT cmq_clear_queue('clear_b') AS removed;
SELECT (SELECT count(*) FROM cmq_data.q_clear_b) AS messages, (SELECT count(*) FROM cmq_data.q_clear_b_pending) AS pending;

-- errors, rights
SELECT pg_temp.attempt($$SELECT cmq_clear_queue('clear_none')$$) AS unknown,
	   pg_temp.attempt($$SELECT cmq_clear_queue(NULL)$$) AS "null";
CREATE ROLE regress_clear;
GRANT INSERT, DELETE, SELECT ON cmq.q_clear_b TO regress_clear;
SET ROLE regress_clear;
SELECT pg_temp.attempt($$SELECT cmq_clear_queue('clear_b')$$) AS no_right;
RESET ROLE;
GRANT UPDATE ON cmq.q_clear_b TO regress_clear;
SET ROLE regress_clear;
SELECT pg_temp.attempt($$SELECT cmq_clear_queue('clear_b')$$) AS update_is_enough;
RESET ROLE;
DROP OWNED BY regress_clear;
DROP ROLE regress_clear;

SELECT cmq_drop_queue('clear_a');
SELECT cmq_drop_queue('clear_b');
