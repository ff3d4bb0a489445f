SELECT count(*) FROM cmq_publish_batch(:queue, array_fill(:body::text, ARRAY[:batch::int]));
