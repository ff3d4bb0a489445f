-- Headers are a JSON object or NULL, whichever function takes them, and whoever writes them.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('headers_a', rewind_seconds => 3600);
CREATE TEMP TABLE sample (n int PRIMARY KEY, headers jsonb);
INSERT INTO sample VALUES
	(1, NULL), (2, '{}'), (3, '{"b": {"c": [1, "zwei", null]}, "a": true}'), (4, jsonb_build_object('k', repeat('v', 300000)));
-- one that does not compress
INSERT INTO sample SELECT 5, jsonb_build_object('k', string_agg(md5(i::text), '' ORDER BY i)) FROM generate_series(1, 10000) i;
SELECT count(cmq_send('headers_a', 'h', headers => headers)) AS sent FROM (SELECT * FROM sample ORDER BY n) s;
SELECT count(*) AS sent FROM cmq_send_batch('headers_a', array_fill('h'::text, '{5}'), headers => (SELECT array_agg(headers ORDER BY n) FROM sample));
SELECT r.ordinality, r.headers IS NULL AS is_null, left(r.headers::text, 60) AS headers, r.headers IS NOT DISTINCT FROM s.headers AS same
  FROM cmq_receive('headers_a', 1000) WITH ORDINALITY r
  FULL JOIN sample s ON s.n = (r.ordinality - 1) % 5 + 1 ORDER BY 1;

--
-- Any other jsonb is refused.
--
SELECT cmq_create_topic('headers_t');
INSERT INTO sample SELECT 6, to_jsonb(array_agg(md5(i::text))) FROM generate_series(1, 10000) i;
SELECT h.n, left(pg_temp.attempt(format('SELECT %s', replace(f.call, '?', h.headers))), 90) AS outcome
  FROM (VALUES (1, $$cmq_send('headers_a', 'h', headers => ?)$$),
			   (2, $$cmq_send_batch('headers_a', '{x,y}', headers => ARRAY['{}', ?]::jsonb[])$$),
			   (3, $$cmq_publish('headers_t', 'h', headers => ?)$$),
			   (4, $$cmq_publish_batch('headers_t', '{x,y}', headers => ARRAY[NULL, ?]::jsonb[])$$)) f (n, call),
	   (VALUES (1, $$'[]'$$), (2, $$'[{"k": 1}]'$$), (3, $$'null'$$), (4, $$'"text"'$$), (5, $$'12.50'$$), (6, $$'true'$$),
			   (7, '(SELECT headers FROM sample WHERE n = 6)')) h (n, headers)
 ORDER BY f.n, h.n;
SELECT cmq_send('headers_a', 'h', headers => '[1, 2]');
SELECT cmq_send('headers_a', 'h', headers => 'null');
SELECT cmq_send_batch('headers_a', '{x,y,z}', headers => ARRAY['{}', NULL, '"text"']::jsonb[]);
SELECT cmq_publish('headers_t', 'h', headers => '7');
SELECT cmq_publish_batch('headers_t', '{x,y}', headers => ARRAY[NULL, 'null']::jsonb[]);
SELECT pg_temp.counts('headers_a');

--
-- Nor can others be written by hand: the table has a constraint, and so has each partition.
--
SELECT cmq_drop_queue('headers_a');
SELECT cmq_create_queue('headers_a', rewind_seconds => 3600);
SELECT cmq_send('headers_a', 'by hand') AS by_hand \gset
SELECT messages AS leaf FROM cmq.partition WHERE queue = 'headers_a' AND now() >= lower AND now() < upper \gset
CREATE FUNCTION pg_temp.by_hand(command text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(pg_temp.attempt(command), '_\d{12}"', '_TIME"')
$$;
SELECT pg_temp.by_hand(format($$UPDATE cmq_data.q_headers_a SET headers = '[1]' WHERE enqueued_at = cmq.enqueued_at(%s)$$, :by_hand)) AS "update",
	   pg_temp.by_hand($$INSERT INTO cmq_data.q_headers_a VALUES (cmq._clock('headers_a'), 'null', 'x')$$) AS "insert",
	   pg_temp.by_hand(format($$INSERT INTO %s VALUES (cmq._clock('headers_a'), '1', 'x')$$, :'leaf')) AS partition,
	   pg_temp.by_hand(format($$UPDATE cmq_data.q_headers_a SET headers = '{"k": 1}' WHERE enqueued_at = cmq.enqueued_at(%s)$$, :by_hand)) AS object \gx
SELECT bool_and(contype = 'c' AND convalidated) AS "constraint", count(*) - 1 = (SELECT count(*) FROM cmq.partition WHERE queue = 'headers_a') AS on_all
  FROM pg_constraint WHERE conname = 'cmq_headers_object' AND (conrelid = 'cmq_data.q_headers_a'::regclass OR conrelid IN (SELECT messages FROM cmq.partition WHERE queue = 'headers_a'));
SELECT body, headers FROM cmq.q_headers_a_live;

--
-- An owner who drops the constraint can write others.  Nothing stumbles over them; what other
-- queues get are objects.
--
SELECT cmq_create_queue('headers_dead');
SELECT cmq_create_queue('headers_copy');
SELECT cmq_alter_queue('headers_a', dead_letter_queue => 'headers_dead', max_receive_count => 1);
ALTER TABLE cmq_data.q_headers_a DROP CONSTRAINT cmq_headers_object;
UPDATE cmq_data.q_headers_a SET headers = '[1]' WHERE enqueued_at = cmq.enqueued_at(:by_hand);
SELECT cmq_send('headers_a', 'and a scalar') AS scalar \gset
UPDATE cmq_data.q_headers_a SET headers = 'null' WHERE enqueued_at = cmq.enqueued_at(:scalar);
SELECT body, headers FROM cmq.q_headers_a_live ORDER BY msg_id;
SELECT body, headers, cmq_delete('headers_a', receipt_handle) AS deleted FROM cmq_receive('headers_a', 10) WITH ORDINALITY ORDER BY ordinality;
SELECT body, headers FROM cmq.q_headers_a_history ORDER BY msg_id;
SELECT cmq_replay('headers_a', 'headers_copy', '-infinity', filter => '{}') AS with_objects, cmq_replay('headers_a', 'headers_copy', '-infinity') AS all;
SELECT body, headers - 'cmq_origin' AS old, headers #>> '{cmq_origin,queue}' AS origin FROM cmq.q_headers_copy_live ORDER BY msg_id;
SELECT cmq_restore('headers_a', '-infinity', NULL, '[1]') AS restored;
SELECT cmq_rewind('headers_a', cmq.enqueued_at(:by_hand)) IS NOT NULL AS rewound;
SELECT body, headers FROM cmq_receive('headers_a', 10) WITH ORDINALITY ORDER BY ordinality;
UPDATE cmq_data.q_headers_a_pending SET visible_at = enqueued_at;
SELECT count(*) AS received FROM cmq_receive('headers_a', 10);
SELECT body, headers - 'cmq_dead_letter' AS old, headers #>> '{cmq_dead_letter,queue}' AS queue FROM cmq.q_headers_dead_live ORDER BY msg_id;
SELECT cmq_redrive('headers_dead') AS back;
SELECT body, headers FROM cmq.q_headers_a_live ORDER BY msg_id;
-- such a row in a dead-letter queue is no dead letter
ALTER TABLE cmq_data.q_headers_dead DROP CONSTRAINT cmq_headers_object;
SELECT cmq_send('headers_dead', 'stays') AS stays \gset
UPDATE cmq_data.q_headers_dead SET headers = '["cmq_dead_letter"]' WHERE enqueued_at = cmq.enqueued_at(:stays);
SELECT cmq_redrive('headers_dead') AS back;
-- with the constraint back it is as before, and a constraint of the owner's is checked beside it
DELETE FROM cmq_data.q_headers_a WHERE jsonb_typeof(headers) <> 'object';
ALTER TABLE cmq_data.q_headers_a ADD CONSTRAINT cmq_headers_object CHECK (jsonb_typeof(headers) = 'object'), ADD CHECK (headers ->> 'k' <> '2');
SELECT n, left(pg_temp.by_hand(format($$SELECT cmq_send('headers_a', 'x', headers => '{"k": %s}')$$, n)), 90) AS outcome FROM generate_series(1, 2) n;
SELECT cmq_unbind_dead_letter('headers_a');
SELECT cmq_drop_queue(queue) FROM cmq.queues WHERE queue LIKE 'headers%' ORDER BY queue;
SELECT cmq_drop_topic('headers_t');
