SELECT pgq.insert_event(:queue, 'message', :body);
