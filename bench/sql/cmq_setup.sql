-- psql, before each run: a new queue with :backlog messages (a multiple of
-- 100), and an empty table for the misses.
SELECT cmq_drop_queue(queue) FROM cmq.queues WHERE queue = :'queue';
SELECT cmq_create_queue(:'queue', rewind_seconds => 345600);
SELECT count(*) FROM (
	SELECT cmq_send_batch(:'queue', array_fill(:'body'::text, ARRAY[100]))
	  FROM generate_series(1, :backlog / 100)) AS sent;
DROP TABLE IF EXISTS miss;
CREATE TABLE miss (at timestamptz NOT NULL DEFAULT now());
