SELECT pgque.send(:queue::text, :body::text);
