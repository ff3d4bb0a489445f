-- What a topic saves: the same queues get the message by a send to each, in one transaction.
SELECT count(cmq_send(:queue::text || '_' || i, :body)) FROM generate_series(1, :queues::int) AS i;
