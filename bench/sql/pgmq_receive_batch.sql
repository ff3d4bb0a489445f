SELECT count(*) AS got, max(length(message #>> '{}')) FROM pgmq.read(:queue::text, 30, :batch::int);
