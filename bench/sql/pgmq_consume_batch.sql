SELECT array_agg(msg_id) AS ids FROM pgmq.read(:queue::text, 30, :batch::int) \gset
SELECT count(*) FROM pgmq.archive(:queue::text, :ids::bigint[]);
