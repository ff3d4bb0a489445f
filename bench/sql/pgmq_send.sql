SELECT pgmq.send(:queue::text, :json::jsonb);
