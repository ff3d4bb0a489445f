-- Stretches: what a receive need not look at, it jumps over; and what it may jump over
-- today it finds again tomorrow.  Counted are the entries of the pending table's index
-- that a transaction has walked over.
\set VERBOSITY terse
SET client_min_messages = warning;

CREATE FUNCTION walked() RETURNS bigint LANGUAGE sql AS
$$ SELECT pg_stat_get_xact_tuples_returned(to_regclass('cmq_data.q_long_pending_pkey')) $$;

-- the body of a message that is received and deleted, and how far the receive walked
CREATE FUNCTION consume(OUT got text, OUT far boolean) LANGUAGE plpgsql AS $$
DECLARE
	before bigint := walked();
	handle text;
BEGIN
	SELECT body, receipt_handle INTO got, handle FROM cmq_receive('long');
	far := walked() - before > 1000;
	IF got IS NOT NULL THEN
		PERFORM cmq_delete('long', handle);
	END IF;
END $$;

CREATE FUNCTION take(n int) RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM cmq_receive('long', n) $$;

-- receive so many and give them back at once
CREATE FUNCTION try(queue text, n int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(cmq_change_visibility(queue, receipt_handle, 0)) FROM cmq_receive(queue, n)
$$;

--
-- 20,000 dead letters that cannot be moved: their queue is full.
--
SELECT FROM cmq_create_queue('dead', max_msg_heap_num => 1);
SELECT FROM cmq_create_queue('long', dead_letter_queue => 'dead', max_receive_count => 1);
SELECT cmq_send('dead', 'there') AS msg_id \gset
SELECT count(*) FROM cmq_send_batch('long', array_fill('poison'::text, ARRAY[10000])) m;
SELECT count(*) FROM cmq_send_batch('long', array_fill('poison'::text, ARRAY[10000])) m;
SELECT sum(try('long', 1000)) FROM generate_series(1, 20);
-- one warning, and nobody tries again before maintenance has
SELECT * FROM consume();
SELECT count(cmq_send('long', 'fresh ' || i)) FROM generate_series(1, 5) i;
SELECT got FROM consume();
SELECT * FROM consume();
SELECT * FROM consume();
-- also when a transaction has some in hand before the stretch
BEGIN;
SELECT * FROM consume();
SELECT * FROM consume();
SELECT * FROM consume();
ROLLBACK;
SELECT * FROM consume();
SELECT * FROM consume();
SELECT * FROM consume();

-- Under another rule they are not dead.
SELECT FROM cmq_alter_queue('long', max_receive_count => 2);
SELECT sum(try('long', 1000)) FROM generate_series(1, 3);
SELECT FROM cmq_alter_queue('long', max_receive_count => 1);
SELECT * FROM consume();
SELECT cmq_send('long', 'after the change') AS msg_id \gset
SELECT got FROM consume();
SELECT cmq_unbind_dead_letter('long');
SELECT * FROM consume();
SELECT FROM cmq_alter_queue('long', dead_letter_queue => 'dead', max_receive_count => 1);
SELECT got FROM consume();

-- Restored messages have their place among them.
SELECT FROM cmq_alter_queue('long', rewind_seconds => 3600);
SELECT cmq_send('long', 'to be restored') AS msg_id \gset
SELECT got FROM consume();
SELECT enqueued_at AS time FROM cmq.q_long_history WHERE body = 'to be restored' \gset
SELECT cmq_send('long', 'later') AS msg_id \gset
SELECT cmq_restore('long', :'time');
SELECT got FROM consume();
SELECT got FROM consume();

-- The dead-letter queue has room again.
SELECT FROM cmq_alter_queue('dead', max_msg_heap_num => 1000000);
SELECT cmq_maintain('long');
SELECT count(*) FILTER (WHERE body = 'poison'), count(*) FROM cmq.q_dead_live;
SELECT state, count(*) FROM cmq.q_long_live GROUP BY state;
SELECT * FROM consume();

--
-- 5,000 that one transaction has claimed: nobody walks over them twice, and when it
-- rolls back they are there.
--
SELECT cmq_drop_queue('long');
SELECT FROM cmq_create_queue('long', visibility_timeout => 43200);
SELECT count(*) FROM cmq_send_batch('long', array(SELECT 'm' || i FROM generate_series(1, 5000) i)) m;
BEGIN;
SELECT sum(take(1000)) FROM generate_series(1, 2);
SAVEPOINT a;
SELECT sum(take(1000)) FROM generate_series(1, 3);
PREPARE TRANSACTION 'worker';
SELECT count(cmq_send('long', 'free ' || i)) FROM generate_series(1, 4) i;
SELECT * FROM consume();
SELECT * FROM consume();
SELECT * FROM consume();
SELECT * FROM consume();
ROLLBACK PREPARED 'worker';
SELECT sum(take(1000)) FROM generate_series(1, 6);

-- the same with subtransactions, of which one rolls back
SELECT cmq_drop_queue('long');
SELECT FROM cmq_create_queue('long', visibility_timeout => 43200);
SELECT count(*) FROM cmq_send_batch('long', array(SELECT 'm' || i FROM generate_series(1, 5000) i)) m;
BEGIN;
SAVEPOINT a;
SELECT sum(take(1000)) FROM generate_series(1, 2);
RELEASE a;
SAVEPOINT b;
SELECT sum(take(1000)) FROM generate_series(1, 3);
ROLLBACK TO b;
PREPARE TRANSACTION 'worker';
SELECT * FROM consume();
SELECT * FROM consume();
COMMIT PREPARED 'worker';
SELECT sum(take(1000)) FROM generate_series(1, 6);

--
-- Long transactions: what they have taken away and sent themselves is behind them,
-- what an aborted subtransaction gives back is not.
--
SELECT cmq_drop_queue('long');
SELECT FROM cmq_create_queue('long');
BEGIN;
DO $$
BEGIN
	FOR i IN 1 .. 2000 LOOP
		PERFORM cmq_send('long', i::text);
		PERFORM cmq_delete('long', receipt_handle) FROM cmq_receive('long');
	END LOOP;
END $$;
SELECT walked() < 50000 AS near;
COMMIT;
SELECT count(*) FROM cmq.q_long_live;

SELECT count(*) FROM cmq_send_batch('long', array(SELECT i::text FROM generate_series(1, 2000) i)) m;
CREATE TABLE done (body text, i int);
BEGIN;
DO $$
BEGIN
	FOR i IN 1 .. 4000 LOOP
		BEGIN
			INSERT INTO done SELECT body, i FROM cmq_receive('long', 1, 43200);
			IF i % 2 = 0 THEN
				RAISE 'failed';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT walked() < 100000 AS near;
COMMIT;
-- in order: the failed ones came back at once
SELECT count(*), count(DISTINCT body), bool_and(body::int = (i + 1) / 2) FROM done;
SELECT state, count(*) FROM cmq.q_long_live GROUP BY state;

SELECT cmq_drop_queue('long');
SELECT cmq_drop_queue('dead');
DROP TABLE done;
DROP FUNCTION walked, consume, take, try;
