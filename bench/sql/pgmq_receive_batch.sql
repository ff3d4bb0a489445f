-- a visibility timeout longer than the run: none may be received twice
SELECT count(*) AS got, max(length(message #>> '{}')) FROM pgmq.read(:queue::text, 3600, :batch::int);
