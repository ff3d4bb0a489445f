SELECT count(*) AS got, length(max(body)) FROM cmq_receive(:queue, :batch);
