-- psql, before each run: a queue with consumers bench_1 to bench_<:queues>, :backlog
-- events in batches of :batch.
SELECT pgque.drop_queue(queue_name, true) FROM pgque.get_queue_info() WHERE queue_name = :'queue';
SELECT pgque.create_queue(:'queue');
SELECT pgque.subscribe(:'queue', :'queue' || '_' || i) FROM generate_series(1, :queues) AS i;
DROP TABLE IF EXISTS consumed;
CREATE TABLE consumed (n bigint NOT NULL);
SELECT set_config('bench.queue', :'queue', false), set_config('bench.body', :'body', false),
	   set_config('bench.backlog', :'backlog', false), set_config('bench.batch', :'batch', false);
DO $$
BEGIN
	FOR i IN 1 .. current_setting('bench.backlog')::int / current_setting('bench.batch')::int LOOP
		PERFORM pgque.send_batch(current_setting('bench.queue'), array_fill(current_setting('bench.body'), ARRAY[current_setting('bench.batch')::int]));
		COMMIT;
		PERFORM pgque.force_tick(current_setting('bench.queue'));
		PERFORM pgque.ticker(current_setting('bench.queue'));
		COMMIT;
	END LOOP;
END $$;
