-- psql, before each run: a new ordered queue with :backlog messages (a multiple of 100), four
-- in a row of each of :groups groups in turn, and an empty table for the misses.
SELECT cmq_drop_queue(queue) FROM cmq.queues WHERE queue = :'queue';
SELECT cmq_create_queue(:'queue', ordered => true, rewind_seconds => 345600);
SELECT count(*) FROM (
	SELECT cmq_send_batch(:'queue', array_fill(:'body'::text, ARRAY[100]),
						  message_groups => ARRAY(SELECT 'g' || ((100 * i + j) / 4) % :groups FROM generate_series(0, 99) AS j))
	  FROM generate_series(0, :backlog / 100 - 1) AS i) AS sent;
DROP TABLE IF EXISTS miss;
CREATE TABLE miss (at timestamptz NOT NULL DEFAULT now());
