-- cmq_rewind: every rule of "Rewind, exactly".
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

-- What a refused rewind must not change.
CREATE FUNCTION pg_temp.state(queue text) RETURNS text
LANGUAGE sql AS $$
	SELECT md5(q::text || coalesce(pg_temp.live($1), '') || coalesce(pg_temp.history($1), '') ||
			   pg_temp.counts($1))
	  FROM cmq.queue q WHERE q.name = $1
$$;
-- A queue with these messages, all of them consumed.
CREATE FUNCTION pg_temp.consumed_queue(queue text, bodies text[], rewind_seconds int DEFAULT 3600)
RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM cmq.queue q WHERE q.name = consumed_queue.queue) THEN
		PERFORM cmq_drop_queue(queue);
	END IF;
	PERFORM cmq_create_queue(queue, msg_retention_seconds => 7200, rewind_seconds => consumed_queue.rewind_seconds);
	PERFORM cmq_send_batch(queue, bodies);
	RETURN pg_temp.consume(queue);
END $$;

--
-- Off: a delete removes at once, a rewind fails.
--
SELECT pg_temp.consumed_queue('rewind_off', '{a}', 0);
SELECT count(*) AS messages FROM cmq_data.q_rewind_off;
SELECT pg_temp.attempt($$SELECT cmq_rewind('rewind_off', now())$$);
SELECT earliest_rewind_time, latest_rewind_time FROM cmq_queue_attributes('rewind_off');

--
-- The start is inclusive, and the result is the first message that comes again.
--
SELECT pg_temp.consumed_queue('rewind_a', '{a,b,c,d}');
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'b')) = pg_temp.produced('rewind_a', 'b') AS first_is_b;
SELECT pg_temp.consume('rewind_a') AS consumed;
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'b') + interval '1 microsecond') = pg_temp.produced('rewind_a', 'c') AS first_is_c;
SELECT pg_temp.consume('rewind_a') AS consumed;
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'a') - interval '1 microsecond') = pg_temp.produced('rewind_a', 'a') AS first_is_a;
SELECT pg_temp.consume('rewind_a') AS consumed;
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'd')) = pg_temp.produced('rewind_a', 'd') AS first_is_d;
SELECT pg_temp.consume('rewind_a') AS consumed;
-- nothing was produced at or after the start
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'd') + interval '1 microsecond') AS none;
SELECT pg_temp.consume('rewind_a') AS consumed;
SELECT cmq_rewind('rewind_a', now()) AS none;

--
-- The range: now - rewind_seconds and min_msg_time are both allowed.
--
SELECT cmq_send('rewind_a', 'e') > 0 AS sent;
BEGIN;
SELECT earliest_rewind_time = now() - interval '1 hour' AS earliest,
	   latest_rewind_time = pg_temp.produced('rewind_a', 'e') AS latest,
	   min_msg_time = latest_rewind_time AS min_msg_time
  FROM cmq_queue_attributes('rewind_a');
SELECT pg_temp.state('rewind_a') AS before \gset
SELECT n, pg_temp.attempt(format('SELECT cmq_rewind(%L, %s)', 'rewind_a', start))
  FROM (VALUES
	(1, $$now() - interval '1 hour' - interval '1 microsecond'$$),
	(2, $$pg_temp.produced('rewind_a', 'e') + interval '1 microsecond'$$),
	(3, $$now() + interval '1 day'$$), (4, $$'infinity'$$), (5, $$'-infinity'$$), (6, $$NULL$$),
	(7, $$'epoch'$$), (8, $$'4714-11-24 00:00:00+00 BC'$$), (9, $$'294276-12-31 23:59:59.999999+00'$$)) v (n, start)
 ORDER BY n;
SELECT pg_temp.state('rewind_a') = :'before' AS unchanged;
-- the legal range is in the details, and the call that goes beyond it in a hint
DO $$
DECLARE
	detail text;
	hint text;
	start timestamptz;
BEGIN
	FOR start IN VALUES ('epoch'::timestamptz), (pg_temp.produced('rewind_a', 'e') + interval '1 microsecond') LOOP
		BEGIN
			PERFORM cmq_rewind('rewind_a', start);
		EXCEPTION WHEN invalid_parameter_value THEN
			GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
			IF start = 'epoch' THEN
				RAISE WARNING 'lower end: %', substring(detail FROM 'begins at (.*)\.$')::timestamptz = now() - interval '1 hour';
			ELSE
				RAISE WARNING 'upper end: %', substring(detail FROM 'produced at (.*)\. ')::timestamptz = pg_temp.produced('rewind_a', 'e');
				RAISE WARNING 'restores: %', pg_temp.attempt(substring(hint FROM 'SELECT .*\)'));
			END IF;
		END;
	END LOOP;
END $$;
SAVEPOINT s;
SELECT cmq_rewind('rewind_a', now() - interval '1 hour') = pg_temp.produced('rewind_a', 'a') AS lower_end;
ROLLBACK TO s;
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'e')) AS upper_end;
SELECT pg_temp.consume('rewind_a') AS consumed;
COMMIT;
SELECT pg_temp.attempt($$SELECT cmq_rewind('rewind_x', now())$$) AS unknown,
	   pg_temp.attempt($$SELECT cmq_rewind(NULL, now())$$) AS "null",
	   substr(pg_temp.attempt($$SELECT cmq_rewind('rewind_a', 1488718862)$$), 1, 59) AS number;
-- to_timestamp is how a Unix time is said; here it lies years outside the range
SELECT pg_temp.attempt($$SELECT cmq_rewind('rewind_a', to_timestamp(1488718862))$$);
SELECT cmq_rewind('rewind_a', to_timestamp(extract(epoch FROM now()) - 60)) = pg_temp.produced('rewind_a', 'a') AS unix_time;
SELECT pg_temp.consume('rewind_a') AS consumed;

--
-- min_msg_time: the earliest message ready, delayed, in flight, or rewound
-- and not yet received.
--
SELECT pg_temp.consumed_queue('rewind_a', '{a,b}');
SELECT count(*) FROM cmq_send_batch('rewind_a', '{c,d}');
SELECT min_msg_time = pg_temp.produced('rewind_a', 'c') AS ready FROM cmq_queue_attributes('rewind_a');
SELECT pg_temp.receive('rewind_a', 1) AS received;
SELECT min_msg_time = pg_temp.produced('rewind_a', 'c') AS in_flight FROM cmq_queue_attributes('rewind_a');
SELECT pg_temp.attempt($$SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'd'))$$) AS after_in_flight;
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'b')) = pg_temp.produced('rewind_a', 'b') AS rewound;
SELECT min_msg_time = pg_temp.produced('rewind_a', 'b') AS rewound FROM cmq_queue_attributes('rewind_a');
SELECT pg_temp.attempt($$SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'c'))$$) AS after_rewound;
SELECT pg_temp.consumed_queue('rewind_a', '{a}');
SELECT cmq_send('rewind_a', 'b', 3600) > 0 AS sent_delayed;
SELECT min_msg_time = pg_temp.produced('rewind_a', 'b') AS delayed FROM cmq_queue_attributes('rewind_a');
SELECT pg_temp.attempt($$SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'b') + interval '1 microsecond')$$) AS after_delayed;
-- none at all: now
SELECT pg_temp.consumed_queue('rewind_a', '{a}');
SELECT min_msg_time BETWEEN pg_temp.produced('rewind_a', 'a') AND clock_timestamp() AS now,
	   latest_rewind_time = min_msg_time AS latest
  FROM cmq_queue_attributes('rewind_a');

--
-- Selection is by production time; when and in what order messages were
-- deleted plays no part.
--
SELECT cmq_drop_queue('rewind_a');
SELECT cmq_create_queue('rewind_a', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('rewind_a', '{a,b,c,d,e}');
CREATE TEMP TABLE got AS SELECT * FROM cmq_receive('rewind_a', 10);
SELECT cmq_delete('rewind_a', receipt_handle) AS e FROM got WHERE body = 'e';
SELECT cmq_delete('rewind_a', receipt_handle) AS b FROM got WHERE body = 'b';
SELECT cmq_delete('rewind_a', receipt_handle) AS d FROM got WHERE body = 'd';
SELECT cmq_delete('rewind_a', receipt_handle) AS a FROM got WHERE body = 'a';
SELECT cmq_delete('rewind_a', receipt_handle) AS c FROM got WHERE body = 'c';
SELECT string_agg(body, ' ' ORDER BY deleted_at) AS by_deletion, string_agg(body, ' ' ORDER BY enqueued_at) AS by_production
  FROM cmq.q_rewind_a_history;
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'b')) = pg_temp.produced('rewind_a', 'b') AS rewound;
SELECT pg_temp.consume('rewind_a') AS consumed;

--
-- Rewound, oldest first; then what was waiting; then what is new.  What waits
-- and is older than some of the rewound ones keeps its place among them.
--
SELECT pg_temp.consumed_queue('rewind_a', '{a,b,c}');
SELECT count(*) FROM cmq_send_batch('rewind_a', '{d,e}');
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'b')) = pg_temp.produced('rewind_a', 'b') AS rewound;
SELECT cmq_send('rewind_a', 'f') > 0 AS sent;
SELECT pg_temp.live('rewind_a'), pg_temp.counts('rewind_a');
SELECT pg_temp.receive('rewind_a', 1), pg_temp.receive('rewind_a', 2), pg_temp.receive('rewind_a');
UPDATE cmq_data.q_rewind_a_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('rewind_a') AS consumed;
-- in one call, over the seam; b waits, between a and c which come again
SELECT pg_temp.consumed_queue('rewind_a', '{a}');
SELECT count(*) FROM cmq_send_batch('rewind_a', '{b,c,d}');
TRUNCATE got;
INSERT INTO got SELECT * FROM cmq_receive('rewind_a', 2);
SELECT cmq_delete('rewind_a', receipt_handle) AS c FROM got WHERE body = 'c';
SELECT cmq_change_visibility('rewind_a', receipt_handle, 0) IS NOT NULL AS b_given_back FROM got WHERE body = 'b';
UPDATE cmq_data.q_rewind_a_pending SET visible_at = enqueued_at;
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'a')) = pg_temp.produced('rewind_a', 'a') AS rewound;
SELECT cmq_send('rewind_a', 'e') > 0 AS sent;
SELECT pg_temp.receive('rewind_a') AS received;

--
-- Pending or in flight at that moment: left alone, delivered once, handle good.
--
SELECT cmq_drop_queue('rewind_a');
SELECT cmq_create_queue('rewind_a', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('rewind_a', '{a,b,c,d}');
TRUNCATE got;
INSERT INTO got SELECT * FROM cmq_receive('rewind_a', 3);
SELECT body, cmq_delete('rewind_a', receipt_handle) FROM got WHERE body IN ('a', 'c') ORDER BY body;
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'a')) = pg_temp.produced('rewind_a', 'a') AS rewound;
SELECT pg_temp.live('rewind_a');
SELECT body, receive_count, rewind_count FROM cmq_receive('rewind_a', 10) ORDER BY body;
SELECT cmq_delete('rewind_a', receipt_handle) AS handle_of_b_is_good FROM got WHERE body = 'b';
SELECT pg_temp.receive('rewind_a') AS received, pg_temp.history('rewind_a') AS history;

--
-- What a rewound message keeps and what it does not.
--
SELECT cmq_drop_queue('rewind_a');
SELECT cmq_create_queue('rewind_a', rewind_seconds => 3600);
SELECT cmq_send('rewind_a', 'x', headers => '{"k": ["v"]}') AS id \gset
SELECT receipt_handle AS h1 FROM cmq_receive('rewind_a') \gset
UPDATE cmq_data.q_rewind_a_pending SET visible_at = enqueued_at;
SELECT receipt_handle AS h2, receive_count FROM cmq_receive('rewind_a') \gset
SELECT cmq_change_visibility('rewind_a', :'h2', 100) AS h3 \gset
SELECT cmq_delete('rewind_a', :'h3') AS deleted;
SELECT receive_count, rewind_count, deleted_at AS deleted FROM cmq.q_rewind_a_history \gset
SELECT cmq_rewind('rewind_a', cmq.enqueued_at(:id)) = cmq.enqueued_at(:id) AS rewound;
-- rewound and not yet received: ready, no history any more, no handle is good
SELECT body, state, receive_count, first_received_at IS NULL AS not_received FROM cmq.q_rewind_a_live;
SELECT pg_temp.history('rewind_a') AS history, pg_temp.counts('rewind_a');
SELECT count(*) AS stale FROM (VALUES (:'h1'), (:'h2'), (:'h3')) v (h)
 WHERE NOT cmq_delete('rewind_a', h) AND cmq_change_visibility('rewind_a', h, 10) IS NULL;
SELECT msg_id = :id AS msg_id, enqueued_at = cmq.enqueued_at(:id) AS enqueued_at, body, headers,
	   receive_count, rewind_count, first_received_at > :'deleted' AS first_received_anew,
	   next_visible_at - first_received_at AS hidden_for, receipt_handle AS h4
  FROM cmq_receive('rewind_a') \gset x_
SELECT :'x_msg_id' AS msg_id, :'x_enqueued_at' AS enqueued_at, :'x_body' AS body, :'x_headers' AS headers,
	   :x_receive_count AS receive_count, :x_rewind_count AS rewind_count,
	   :'x_first_received_anew' AS first_received_anew, :'x_hidden_for' AS hidden_for;
SELECT count(*) AS stale FROM (VALUES (:'h1'), (:'h2'), (:'h3')) v (h)
 WHERE NOT cmq_delete('rewind_a', h) AND cmq_change_visibility('rewind_a', h, 10) IS NULL;
-- received again after a timeout it counts on, and so does the next rewind
UPDATE cmq_data.q_rewind_a_pending SET visible_at = enqueued_at;
SELECT receive_count, rewind_count, cmq_delete('rewind_a', receipt_handle) AS deleted FROM cmq_receive('rewind_a');
SELECT cmq_delete('rewind_a', :'x_h4') AS stale;
SELECT cmq_rewind('rewind_a', cmq.enqueued_at(:id)) = cmq.enqueued_at(:id) AS rewound;
SELECT receive_count, rewind_count, cmq_delete('rewind_a', receipt_handle) AS deleted FROM cmq_receive('rewind_a');
SELECT receive_count, rewind_count FROM cmq.q_rewind_a_history;
SELECT count(*) AS messages FROM cmq_data.q_rewind_a;

--
-- The same rewind twice doubles nothing; another one replaces the first.
--
SELECT pg_temp.consumed_queue('rewind_a', '{a,b,c,d}');
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'b')) = pg_temp.produced('rewind_a', 'b') AS rewound
  FROM generate_series(1, 3);
SELECT body, receive_count, rewind_count FROM cmq_receive('rewind_a', 10) WITH ORDINALITY ORDER BY ordinality;
-- all in flight: the same again finds nothing but a, which was not asked for
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'b')) AS rewound;
SELECT pg_temp.receive('rewind_a') AS received, pg_temp.counts('rewind_a');
-- before the start of the first
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'a')) = pg_temp.produced('rewind_a', 'a') AS rewound;
SELECT pg_temp.consume('rewind_a') AS consumed;
UPDATE cmq_data.q_rewind_a_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('rewind_a') AS consumed;
-- in the middle of the first: what it had delivered and what it had not
SELECT pg_temp.consumed_queue('rewind_a', '{a,b,c,d}');
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'a')) = pg_temp.produced('rewind_a', 'a') AS rewound;
SELECT pg_temp.consume('rewind_a', 2) AS consumed;
SELECT pg_temp.counts('rewind_a');
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'b')) = pg_temp.produced('rewind_a', 'b') AS rewound;
SELECT body, receive_count, rewind_count FROM cmq_receive('rewind_a', 10) WITH ORDINALITY ORDER BY ordinality;
SELECT pg_temp.history('rewind_a');
-- in flight from the first rewind: left alone by the second
SELECT pg_temp.consumed_queue('rewind_a', '{a,b,c}');
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'a')) = pg_temp.produced('rewind_a', 'a') AS rewound;
SELECT receipt_handle AS handle_of_a FROM cmq_receive('rewind_a') \gset
SELECT pg_temp.consume('rewind_a', 1) AS consumed;
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'a')) = pg_temp.produced('rewind_a', 'b') AS rewound;
SELECT body, rewind_count FROM cmq_receive('rewind_a', 10) WITH ORDINALITY ORDER BY ordinality;
SELECT cmq_delete('rewind_a', :'handle_of_a') AS good;
-- consumed after the rewind, it does not come a second time
SELECT pg_temp.consumed_queue('rewind_a', '{a,b}');
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'a')) = pg_temp.produced('rewind_a', 'a') AS rewound;
SELECT pg_temp.consume('rewind_a', 1), pg_temp.consume('rewind_a', 1), pg_temp.consume('rewind_a', 1) AS nothing;
SELECT cmq_send('rewind_a', 'c') > 0 AS sent;
SELECT pg_temp.consume('rewind_a') AS only_the_new_one;

--
-- Off and on.
--
SELECT pg_temp.consumed_queue('rewind_a', '{a,b,c}');
SELECT count(*) FROM cmq_send_batch('rewind_a', '{d,e}');
SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'b')) = pg_temp.produced('rewind_a', 'b') AS rewound;
SELECT pg_temp.receive('rewind_a', 1) AS received;
SELECT cmq_alter_queue('rewind_a', rewind_seconds => 0);
-- a and c were history and are gone; b is in flight and d, e wait
SELECT pg_temp.live('rewind_a'), pg_temp.history('rewind_a'), pg_temp.counts('rewind_a');
-- maintenance removes their rows, bodies too (sql/forget)
SELECT cmq_maintain('rewind_a');
SELECT string_agg(body, ' ' ORDER BY enqueued_at) AS messages FROM cmq_data.q_rewind_a;
SELECT count(*) AS rewind_rows FROM cmq_data.q_rewind_a_rewind;
SELECT pg_temp.attempt($$SELECT cmq_rewind('rewind_a', now() - interval '1 minute')$$);
SELECT pg_temp.consume('rewind_a') AS consumed_while_off;
SELECT cmq_alter_queue('rewind_a', rewind_seconds => 3600);
SELECT cmq_rewind('rewind_a', now() - interval '30 minutes') AS none;
SELECT pg_temp.receive('rewind_a') AS received;
UPDATE cmq_data.q_rewind_a_pending SET visible_at = enqueued_at;
SELECT pg_temp.consume('rewind_a') AS consumed_while_on;
SELECT cmq_rewind('rewind_a', now() - interval '30 minutes') = pg_temp.produced('rewind_a', 'b') AS rewound;
SELECT body, rewind_count FROM cmq_receive('rewind_a', 10);
SELECT string_agg(body, ' ' ORDER BY enqueued_at) AS messages FROM cmq_data.q_rewind_a;

--
-- Shrinking takes effect at once, growing does not bring back.
--
SELECT pg_temp.consumed_queue('rewind_a', '{a}');
SELECT pg_temp.age('rewind_a', '40 minutes');
SELECT cmq_send('rewind_a', 'b') > 0 AS sent;
SELECT pg_temp.consume('rewind_a') AS consumed;
SELECT pg_temp.age('rewind_a', '10 minutes');
SELECT pg_temp.history('rewind_a') AS "50 and 10 minutes old";
SELECT cmq_alter_queue('rewind_a', rewind_seconds => 1800);
SELECT pg_temp.history('rewind_a') AS shrunk, pg_temp.counts('rewind_a');
SELECT pg_temp.attempt($$SELECT cmq_rewind('rewind_a', now() - interval '50 minutes')$$);
SELECT cmq_alter_queue('rewind_a', rewind_seconds => 7200);
SELECT pg_temp.history('rewind_a') AS grown, pg_temp.counts('rewind_a');
SELECT cmq_rewind('rewind_a', now() - interval '2 hours') = pg_temp.produced('rewind_a', 'b') AS rewound;
SELECT pg_temp.consume('rewind_a') AS consumed;

-- what has been rewound already is not taken back by it
SELECT pg_temp.consumed_queue('rewind_a', '{a,b}');
SELECT pg_temp.age('rewind_a', '50 minutes');
SELECT cmq_rewind('rewind_a', now() - interval '55 minutes') = pg_temp.produced('rewind_a', 'a') AS rewound;
SELECT cmq_alter_queue('rewind_a', rewind_seconds => 1800);
SELECT pg_temp.live('rewind_a'), pg_temp.history('rewind_a') AS history;
-- nor lost by rewinding again when the window has grown back
SELECT cmq_alter_queue('rewind_a', rewind_seconds => 3600);
SELECT pg_temp.attempt($$SELECT cmq_rewind('rewind_a', now() - interval '55 minutes')$$) IS NOT NULL AS tried;
SELECT pg_temp.live('rewind_a'), pg_temp.consume('rewind_a') AS consumed, pg_temp.history('rewind_a') AS history;

--
-- When the earliest unconsumed message is older than the window, there is no
-- start that is allowed, until it is consumed.
--
SELECT cmq_drop_queue('rewind_a');
SELECT cmq_create_queue('rewind_a', msg_retention_seconds => 7200, rewind_seconds => 3600);
SELECT cmq_send('rewind_a', 'old') > 0 AS sent;
SELECT pg_temp.age('rewind_a', '70 minutes');
SELECT cmq_send('rewind_a', 'new') > 0 AS sent;
SELECT receipt_handle AS handle_of_old FROM cmq_receive('rewind_a') \gset
SELECT pg_temp.consume('rewind_a') AS consumed;
SELECT earliest_rewind_time > latest_rewind_time AS empty_range, latest_rewind_time = pg_temp.produced('rewind_a', 'old') AS latest
  FROM cmq_queue_attributes('rewind_a');
SELECT n, pg_temp.attempt(format('SELECT cmq_rewind(%L, now() - interval ''%s minutes'')', 'rewind_a', n))
  FROM (VALUES (0), (59), (61), (71)) v (n) ORDER BY n;
SELECT cmq_delete('rewind_a', :'handle_of_old') AS deleted;
SELECT cmq_rewind('rewind_a', now() - interval '59 minutes') = pg_temp.produced('rewind_a', 'new') AS rewound;
SELECT pg_temp.consume('rewind_a') AS consumed;

--
-- Rewound in time: consumable until retention ends, also when the window has
-- moved past them; and a rewind never extends a message's life.
--
SELECT pg_temp.consumed_queue('rewind_a', '{a,b,c}');
SELECT pg_temp.age('rewind_a', '50 minutes');
SELECT cmq_rewind('rewind_a', now() - interval '55 minutes') = pg_temp.produced('rewind_a', 'a') AS rewound;
SELECT pg_temp.age('rewind_a', '40 minutes');
SELECT pg_temp.live('rewind_a') AS "90 minutes old", pg_temp.counts('rewind_a');
SELECT cmq_maintain('rewind_a');
SELECT pg_temp.consume('rewind_a', 1) AS consumed;
-- once consumed again it is outside the window
SELECT pg_temp.history('rewind_a') AS history, pg_temp.counts('rewind_a');
-- a new rewind cannot reach them; those of the first still come
SELECT pg_temp.attempt($$SELECT cmq_rewind('rewind_a', pg_temp.produced('rewind_a', 'b'))$$);
SELECT pg_temp.receive('rewind_a', 1) AS received;
SELECT pg_temp.age('rewind_a', '40 minutes');
SELECT pg_temp.live('rewind_a') AS "130 minutes old", pg_temp.counts('rewind_a'), pg_temp.receive('rewind_a') AS received;
SELECT cmq_maintain('rewind_a');
SELECT pg_temp.receive('rewind_a') AS received;

SELECT cmq_drop_queue('rewind_a');
SELECT cmq_drop_queue('rewind_off');
