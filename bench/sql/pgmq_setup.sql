-- psql, before each run: as cmq_setup.sql.
SELECT pgmq.drop_queue(queue_name) FROM pgmq.list_queues() WHERE queue_name = :'queue';
SELECT pgmq.create(:'queue');
SELECT count(*) FROM (
	SELECT pgmq.send_batch(:'queue', array_fill(to_jsonb(:'body'::text), ARRAY[100]))
	  FROM generate_series(1, :backlog / 100)) AS sent;
DROP TABLE IF EXISTS miss;
CREATE TABLE miss (at timestamptz NOT NULL DEFAULT now());
VACUUM ANALYZE pgmq.q_bench;
