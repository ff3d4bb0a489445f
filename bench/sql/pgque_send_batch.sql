SELECT pgque.send_batch(:queue::text, array_fill(:body::text, ARRAY[:batch::int]));
