\set g random(0, :groups - 1)
SELECT cmq_send(:queue, :body, message_group => 'g' || :g::text);
