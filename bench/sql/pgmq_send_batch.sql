SELECT count(*) FROM pgmq.send_batch(:queue::text, array_fill(:json::jsonb, ARRAY[:batch::int]));
