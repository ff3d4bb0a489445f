\set g random(0, :groups - 1)
SELECT pgmq.send(:queue::text, :json::jsonb, jsonb_build_object('x-pgmq-group', 'g' || :g::text));
\set received 0
SELECT msg_id AS id, 1 AS received FROM pgmq.read_grouped_head(:queue::text, 300, 1) \aset
\if :received
SELECT pgmq.archive(:queue::text, :id::bigint) AS archived \gset
\else
INSERT INTO miss DEFAULT VALUES;
\endif
