SELECT cmq_send(:queue, :body);
