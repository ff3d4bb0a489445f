SELECT pgmq.send_topic(:queue::text, :json::jsonb);
