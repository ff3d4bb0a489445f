-- psql, before each run: a new queue with :backlog messages (a multiple of
-- 100), and an empty table for the misses.
CREATE EXTENSION IF NOT EXISTS cmq;
SELECT cmq_drop_queue(queue) FROM cmq.queues WHERE queue = 'bench';
SELECT cmq_create_queue('bench', rewind_seconds => :rewind);
SELECT count(*) FROM (
	SELECT cmq_send_batch('bench', array_fill(:'body'::text, ARRAY[100]))
	  FROM generate_series(1, :backlog / 100)) AS sent;
DROP TABLE IF EXISTS bench_miss;
CREATE TABLE bench_miss (
	at	timestamptz NOT NULL DEFAULT now()
);
