\set g random(0, :groups - 1)
SELECT pgmq.send(:queue::text, :json::jsonb, jsonb_build_object('x-pgmq-group', 'g' || :g::text));
