SELECT count(*) FROM cmq_send_batch(:queue, array_fill(:body::text, ARRAY[:batch::int]));
