SELECT count(pgq.insert_event(:queue, 'message', :body)) FROM generate_series(1, :batch::int);
