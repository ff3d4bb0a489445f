-- psql, before each run: as cmq_groups_setup.sql, with the index that pgmq has for groups.
SELECT pgmq.drop_queue(queue_name) FROM pgmq.list_queues() WHERE queue_name = :'queue';
SELECT pgmq.create(:'queue');
SELECT pgmq.create_fifo_index(:'queue');
SELECT count(*) FROM (
	SELECT pgmq.send_batch(:'queue', array_fill(to_jsonb(:'body'::text), ARRAY[100]),
						   ARRAY(SELECT jsonb_build_object('x-pgmq-group', 'g' || ((100 * i + j) / 4) % :groups) FROM generate_series(0, 99) AS j))
	  FROM generate_series(0, :backlog / 100 - 1) AS i) AS sent;
DROP TABLE IF EXISTS miss;
CREATE TABLE miss (at timestamptz NOT NULL DEFAULT now());
VACUUM ANALYZE pgmq.q_bench;
