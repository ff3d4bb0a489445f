SELECT count(*) FROM cmq_publish(:queue, :body);
