-- cmq_messages() and cmq_message(): the all view in pages and by id, for those who do not
-- trust the owner of a queue.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

-- Page through a part of a queue, and go on where each page ends; all calls for up to max
-- messages, looking at up to looked.
CREATE FUNCTION pg_temp.walk(queue text, part text, backwards boolean, max int, looked int, filter jsonb DEFAULT NULL)
RETURNS TABLE (no int, calls int, msg_id bigint, enqueued_at timestamptz, state text, first_received_at timestamptz, visible_at timestamptz, deleted_at timestamptz,
	deleted_by text, receive_count int, rewind_count int, headers jsonb, body text, message_group text) LANGUAGE plpgsql AS $$
DECLARE
	m record;
	after_time timestamptz;
	after_id bigint;
	n int;
	more boolean;
BEGIN
	no := 0;
	calls := 0;
	LOOP
		calls := calls + 1;
		n := 0;
		more := false;
		FOR m IN SELECT * FROM cmq_messages(walk.queue, walk.part, after_time, after_id, walk.filter, walk.max, walk.looked, walk.backwards) LOOP
			ASSERT NOT more, 'a row behind the position';
			IF m.matched THEN
				n := n + 1;
				no := no + 1;
				SELECT m.msg_id, m.enqueued_at, m.state, m.first_received_at, m.visible_at, m.deleted_at, m.deleted_by, m.receive_count, m.rewind_count, m.headers, m.body, m.message_group
				  INTO msg_id, enqueued_at, state, first_received_at, visible_at, deleted_at, deleted_by, receive_count, rewind_count, headers, body, message_group;
				RETURN NEXT;
			ELSE
				more := true;
				ASSERT num_nulls(m.state, m.first_received_at, m.deleted_at, m.deleted_by, m.receive_count, m.rewind_count, m.headers, m.body, m.message_group) = 9, 'a position with a message';
				ASSERT (m.visible_at IS NULL) = (walk.part = 'history') AND cmq.msg_id(m.enqueued_at) = m.msg_id, 'an odd position';
			END IF;
			after_time := CASE walk.part WHEN 'pending' THEN m.visible_at ELSE m.enqueued_at END;
			after_id := m.msg_id;
		END LOOP;
		ASSERT n <= max AND n <= looked, 'too many messages';
		ASSERT NOT (more AND n = max), 'a position too many';
		ASSERT calls < 10000, 'no end';
		EXIT WHEN n < max AND NOT more;
	END LOOP;
END $$;

-- The columns of the all view of a queue, as these functions have them.
CREATE FUNCTION pg_temp.columns(queue text) RETURNS text LANGUAGE sql AS $$
	SELECT 'msg_id, enqueued_at, state, first_received_at, visible_at, deleted_at, deleted_by, receive_count, rewind_count, headers, body, ' ||
		CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = format('cmq.%I', 'q_' || queue || '_all')::regclass AND attname = 'message_group') THEN '' ELSE 'NULL::text AS ' END || 'message_group' $$;

-- Does a walk return the rows of the all view, each once, and in order?  With pages of
-- several sizes, both ways.  One line with the number of rows of each part.
CREATE FUNCTION pg_temp.compare(queue text, filter jsonb DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text := '';
	part text;
	backwards boolean;
	size int[];
	line text;
	first text;
BEGIN
	FOREACH part IN ARRAY '{pending,history}'::text[] LOOP
		first := NULL;
		FOREACH backwards IN ARRAY '{f,t}'::boolean[] LOOP
			FOREACH size SLICE 1 IN ARRAY '{{1,1},{1,3},{2,2},{3,7},{5,100000},{1000,1},{1000,4},{1000,10},{1000,100000}}'::int[] LOOP
				EXECUTE format($q$
					WITH w AS MATERIALIZED (SELECT * FROM pg_temp.walk($1, $2, $3, $4, $5, $6)),
						 f AS (SELECT msg_id, enqueued_at, state, first_received_at, visible_at, deleted_at, deleted_by, receive_count, rewind_count, headers, body, message_group FROM w),
						 v AS MATERIALIZED (SELECT %s FROM cmq.%I WHERE (state = 'deleted') = ($2 = 'history') AND ($6 IS NULL OR headers @> $6)),
						 o AS (SELECT no, row_number() OVER (ORDER BY coalesce(visible_at, enqueued_at), msg_id) AS up, row_number() OVER (ORDER BY coalesce(visible_at, enqueued_at) DESC, msg_id DESC) AS down FROM w)
					SELECT format('%%s rows, %%s differ, %%s', (SELECT count(*) FROM f),
						(SELECT count(*) FROM ((TABLE f EXCEPT ALL TABLE v) UNION ALL (TABLE v EXCEPT ALL TABLE f)) d),
						CASE WHEN (SELECT count(*) FROM o WHERE no <> CASE WHEN $3 THEN down ELSE up END) = 0 THEN 'in order' ELSE 'not in order' END)
					$q$, pg_temp.columns(queue), 'q_' || queue || '_all') INTO line USING queue, part, backwards, size[1], size[2], filter;
				IF first IS NULL THEN
					result := result || CASE WHEN result = '' THEN '' ELSE '; ' END || part || ': ' || line;
					first := line;
				ELSIF line <> first THEN
					result := result || format('; %s, %s: %s', CASE WHEN backwards THEN 'backwards' ELSE 'forwards' END, size, line);
				END IF;
			END LOOP;
		END LOOP;
	END LOOP;
	RETURN result;
END $$;

-- The same by id, for all messages that the queue has any row of: how many are shown, and how
-- many of these the view has not, or the other way round.
CREATE FUNCTION pg_temp.by_id(queue text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format($q$
		WITH i AS MATERIALIZED (SELECT cmq.msg_id(enqueued_at) AS id FROM cmq_data.%I UNION SELECT cmq.msg_id(enqueued_at) FROM cmq_data.%I UNION SELECT cmq.msg_id(enqueued_at) FROM cmq_data.%I),
			 f AS MATERIALIZED (SELECT m.* FROM i, cmq_message($1, i.id) m),
			 v AS MATERIALIZED (SELECT %s FROM cmq.%I)
		SELECT format('%%s rows, %%s differ', (SELECT count(*) FROM f), (SELECT count(*) FROM ((TABLE f EXCEPT ALL TABLE v) UNION ALL (TABLE v EXCEPT ALL TABLE f)) d))
		$q$, 'q_' || queue, 'q_' || queue || '_pending', 'q_' || queue || '_rewind', pg_temp.columns(queue), 'q_' || queue || '_all') INTO result USING queue;
	RETURN result;
END $$;

SELECT cmq_create_queue('messages_a', rewind_seconds => 3600, visibility_timeout => 3600);
-- the columns are those of the view, and the one that the views of ordered queues end in
SELECT string_agg(attname || ' ' || atttypid::regtype, ', ' ORDER BY attnum) AS view FROM pg_attribute WHERE attrelid = 'cmq.q_messages_a_all'::regclass \gset
SELECT proname, replace(string_agg(name || ' ' || type::regtype, ', ' ORDER BY no), :'view', 'view') AS returns
  FROM pg_proc, unnest(proargnames, proallargtypes, proargmodes) WITH ORDINALITY a (name, type, mode, no) WHERE proname IN ('cmq_messages', 'cmq_message') AND mode = 't' GROUP BY 1 ORDER BY 1;

--
-- Every state, one after the other.
--
SELECT pg_temp.compare('messages_a') AS empty, pg_temp.by_id('messages_a');
SELECT count(*) FROM cmq_send_batch('messages_a', ARRAY(SELECT 'm' || i FROM generate_series(1, 12) i), headers => ARRAY(SELECT CASE WHEN i % 3 > 0 THEN jsonb_build_object('third', i % 3, 'n', i) END FROM generate_series(1, 12) i));
SELECT pg_temp.compare('messages_a') AS sent, pg_temp.by_id('messages_a');
SELECT pg_temp.consume('messages_a', 5);
SELECT pg_temp.compare('messages_a') AS some_deleted, pg_temp.by_id('messages_a');
SELECT pg_temp.receive('messages_a', 2);
SELECT count(*) FROM cmq_send_batch('messages_a', '{d1,d2}', delay_seconds => 3000);
SELECT pg_temp.compare('messages_a') AS in_flight_and_delayed, pg_temp.by_id('messages_a');
SELECT body, state FROM cmq_messages('messages_a', 'pending');
SELECT body, state FROM cmq_messages('messages_a', 'pending', backwards => true);
SELECT body, state, deleted_by = current_user AS mine, receive_count FROM cmq_messages('messages_a', 'history');
-- released, counted or not, at once or later
SELECT count(*) FROM cmq_release('messages_a', array(SELECT receipt_handle FROM cmq_receive('messages_a', 1)), 0);
SELECT count(*) FROM cmq_release('messages_a', array(SELECT receipt_handle FROM cmq_receive('messages_a', 1)), 0, false);
SELECT count(*) FROM cmq_release('messages_a', array(SELECT receipt_handle FROM cmq_receive('messages_a', 1)), 2000);
SELECT count(*) FROM cmq_release('messages_a', array(SELECT receipt_handle FROM cmq_receive('messages_a', 1)), 2500, false);
SELECT pg_temp.compare('messages_a') AS released, pg_temp.by_id('messages_a');
-- a rewind, of which a part is consumed, a part received, and a part taken back
SELECT cmq_rewind('messages_a', now() - interval '30 min') IS NOT NULL AS rewound;
SELECT pg_temp.compare('messages_a') AS rewound, pg_temp.by_id('messages_a');
SELECT pg_temp.consume('messages_a', 2) AS consumed, pg_temp.receive('messages_a', 1) AS received,
	   (SELECT count(*) FROM cmq_delete_messages('messages_a', array(SELECT msg_id FROM cmq.q_messages_a_live WHERE body = 'm4'))) AS taken_back;
SELECT pg_temp.compare('messages_a') AS half_consumed, pg_temp.by_id('messages_a');
SELECT body, state, visible_at = enqueued_at AS in_its_place, receive_count, rewind_count FROM cmq_messages('messages_a', 'pending');
SELECT pg_temp.compare('messages_a', '{"third": 1}') AS third_1, pg_temp.compare('messages_a', '{"n": 4}') AS n_4, pg_temp.compare('messages_a', '{}') AS with_headers, pg_temp.compare('messages_a', '{"none": 1}') AS none \gx
-- restored: in its place by its production
SELECT count(*) FROM cmq_restore_messages('messages_a', array(SELECT msg_id FROM cmq.q_messages_a_history WHERE body = 'm1'));
SELECT pg_temp.compare('messages_a') AS restored, pg_temp.by_id('messages_a');
SELECT body, state, rewind_count FROM cmq_messages('messages_a', 'pending', max_messages => 3);
-- what the transaction has done itself, and what it rolls back
BEGIN;
SELECT cmq_send('messages_a', 'open') > 0 AS sent, pg_temp.consume('messages_a', 2);
SELECT pg_temp.compare('messages_a') AS open, pg_temp.by_id('messages_a');
ROLLBACK;
SELECT pg_temp.compare('messages_a') AS rolled_back, pg_temp.by_id('messages_a');
-- what is cancelled is history again; an index on the time finds each id
SELECT cmq_cancel_rewind('messages_a');
CREATE INDEX ON cmq_data.q_messages_a_pending (enqueued_at);
SELECT pg_temp.compare('messages_a') AS cancelled, pg_temp.by_id('messages_a');
-- messages of other days are in other leaves; a rewind over them
SELECT cmq_alter_queue('messages_a', rewind_seconds => 345600);
SELECT pg_temp.age('messages_a', '2 days');
SELECT count(*) FROM cmq_send_batch('messages_a', ARRAY(SELECT 'today' || i FROM generate_series(1, 6) i));
SELECT pg_temp.consume('messages_a', 13);
SELECT count(*) FROM cmq_send_batch('messages_a', ARRAY(SELECT 'new' || i FROM generate_series(1, 3) i));
SELECT pg_temp.compare('messages_a') AS two_leaves, pg_temp.by_id('messages_a');
SELECT cmq_rewind('messages_a', now() - interval '3 days') IS NOT NULL AS rewound;
SELECT pg_temp.compare('messages_a') AS rewound, pg_temp.by_id('messages_a');
SELECT pg_temp.consume('messages_a', 4);
SELECT pg_temp.compare('messages_a') AS half_consumed, pg_temp.by_id('messages_a');
-- what has left the rewind window, and what has expired
BEGIN;
SELECT cmq_alter_queue('messages_a', rewind_seconds => 3600);
-- one of them is in flight then
SELECT pg_temp.receive('messages_a', 1);
SELECT pg_temp.compare('messages_a') AS left_the_window, pg_temp.by_id('messages_a');
SELECT cmq_alter_queue('messages_a', msg_retention_seconds => 3600);
SELECT pg_temp.compare('messages_a') AS expired, pg_temp.by_id('messages_a');
ROLLBACK;
-- what is forgotten is in no part, also when rewind is on again
BEGIN;
SELECT cmq_alter_queue('messages_a', rewind_seconds => 0);
SELECT pg_temp.compare('messages_a') AS forgotten, pg_temp.by_id('messages_a');
SELECT cmq_alter_queue('messages_a', rewind_seconds => 345600);
SELECT pg_temp.consume('messages_a', 1);
SELECT pg_temp.compare('messages_a') AS on_again, pg_temp.by_id('messages_a');
ROLLBACK;

--
-- Where a page begins.
--
SELECT cmq_create_queue('messages_p', rewind_seconds => 3600, visibility_timeout => 3600);
SELECT count(*) FROM cmq_send_batch('messages_p', ARRAY(SELECT 'p' || i FROM generate_series(1, 9) i));
SELECT pg_temp.consume('messages_p', 4);
SELECT enqueued_at AS t2, msg_id AS i2 FROM cmq.q_messages_p_all WHERE body = 'p2' \gset
SELECT enqueued_at AS t7, msg_id AS i7 FROM cmq.q_messages_p_all WHERE body = 'p7' \gset
CREATE FUNCTION pg_temp.bodies(part text, after_time timestamptz, after_id bigint, backwards boolean) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(m.body, ' ' ORDER BY m.ordinality) FROM cmq_messages('messages_p', part, after_time, after_id, backwards => backwards) WITH ORDINALITY m $$;
SELECT b.back, pg_temp.bodies('history', NULL, NULL, b.back) AS "all", pg_temp.bodies('history', :'t2', NULL, b.back) AS at_p2, pg_temp.bodies('history', :'t2', :i2, b.back) AS behind_p2,
	   pg_temp.bodies('history', :'t2', 1, b.back) AS lower_id, pg_temp.bodies('history', :'t2', 9223372036854775807, b.back) AS higher_id,
	   pg_temp.bodies('history', '-infinity', NULL, b.back) AS at_the_beginning, pg_temp.bodies('history', 'infinity', NULL, b.back) AS at_the_end
  FROM unnest('{f,t}'::boolean[]) b (back) \gx
SELECT b.back, pg_temp.bodies('pending', NULL, NULL, b.back) AS "all", pg_temp.bodies('pending', :'t7', NULL, b.back) AS at_p7, pg_temp.bodies('pending', :'t7', :i7, b.back) AS behind_p7,
	   pg_temp.bodies('pending', :'t7', 1, b.back) AS lower_id, pg_temp.bodies('pending', :'t7', 9223372036854775807, b.back) AS higher_id,
	   pg_temp.bodies('pending', '-infinity', -9223372036854775808, b.back) AS at_the_beginning, pg_temp.bodies('pending', 'infinity', NULL, b.back) AS at_the_end
  FROM unnest('{f,t}'::boolean[]) b (back) \gx
-- behind a message that has gone meanwhile
BEGIN;
SELECT count(*) FROM cmq_delete_messages('messages_p', ARRAY[:i7]);
SELECT pg_temp.bodies('pending', :'t7', :i7, false) AS forwards, pg_temp.bodies('pending', :'t7', :i7, true) AS backwards;
ROLLBACK;

--
-- The bound: a call looks at no more than it may, and says where to go on.
--
SELECT matched, enqueued_at = :'t2' AS stands_at_p2, num_nulls(state, visible_at, deleted_at, body, headers) AS nulls FROM cmq_messages('messages_p', 'history', filter => '{"no": 1}', max_looked => 2);
SELECT matched, body, enqueued_at = :'t2' AS stands_at_p2 FROM cmq_messages('messages_p', 'history', max_looked => 2);
SELECT count(*) FROM cmq_messages('messages_p', 'history', filter => '{"no": 1}', max_looked => 100);
SELECT body FROM cmq_messages('messages_p', 'history', max_messages => 2, max_looked => 2);
-- entries that lead to no message count, too: a tenth
SELECT cmq_create_queue('messages_d', rewind_seconds => 3600);
BEGIN;
SELECT count(*) FROM cmq_send_batch('messages_d', ARRAY(SELECT 'gone' FROM generate_series(1, 400)));
SELECT count(*) FROM cmq_consume('messages_d', 400);
SELECT cmq_send('messages_d', 'left') > 0 AS sent;
SELECT matched, body FROM cmq_messages('messages_d', 'pending', max_looked => 20);
SELECT matched, body FROM cmq_messages('messages_d', 'pending', max_looked => 100);
SELECT max(calls) AS calls, max(body) AS body FROM pg_temp.walk('messages_d', 'pending', false, 5, 10);
-- deleted again after the rewind, and so not due
SELECT cmq_rewind('messages_d', now() - interval '30 min') IS NOT NULL AS rewound;
SELECT count(*) FROM cmq_consume('messages_d', 200);
SELECT matched, body FROM cmq_messages('messages_d', 'pending', max_looked => 20);
-- also where a page ends between the entries that a message has in both tables
SELECT pg_temp.compare('messages_d');
ROLLBACK;
SELECT cmq_drop_queue('messages_d');

--
-- Ordered queues, and what is published.
--
SELECT cmq_create_queue('messages_o', rewind_seconds => 3600, visibility_timeout => 3600, ordered => true);
SELECT cmq_create_topic('messages_t');
SELECT count(cmq_subscribe('messages_t', 'on_' || q, q)::text) FROM unnest('{messages_o,messages_p}'::text[]) q;
SELECT count(*) FROM cmq_send_batch('messages_o', '{o1,o2,o3,o4}', message_groups => '{g,h,g,NULL}');
SELECT count(*) FROM cmq_publish_batch('messages_t', '{t1,t2,t3}', headers => ARRAY['{"t": 1}', NULL, '{"t": 3}']::jsonb[], message_groups => '{g,k,NULL}');
SELECT pg_temp.compare('messages_o') AS published, pg_temp.by_id('messages_o'), pg_temp.compare('messages_p') AS beside \gx
SELECT pg_temp.consume('messages_o', 2), pg_temp.consume('messages_p', 7);
SELECT pg_temp.compare('messages_o') AS consumed, pg_temp.by_id('messages_o'), pg_temp.compare('messages_p') AS beside, pg_temp.compare('messages_p', '{"t": 1}') AS t_1 \gx
SELECT state, body, headers, message_group FROM unnest('{pending,history}'::text[]) part, cmq_messages('messages_o', part);
SELECT state, body, headers, message_group FROM unnest('{pending,history}'::text[]) part, cmq_messages('messages_p', part) WHERE body LIKE 't%';
SELECT cmq_rewind('messages_o', now() - interval '30 min') IS NOT NULL AS rewound;
SELECT body, message_group FROM cmq_receive('messages_o', 1);
SELECT pg_temp.compare('messages_o') AS rewound, pg_temp.by_id('messages_o');

-- long bodies are read when they are looked at
SELECT cmq_send('messages_a', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i)) AS long \gset
SELECT left(body, 8) AS body, octet_length(body) FROM cmq_message('messages_a', :long);
SELECT body = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i) AS same FROM cmq_messages('messages_a', 'pending', backwards => true) WHERE msg_id = :long;

--
-- Rights; READ ONLY; one snapshot; and what the owner can put in the way: nothing of it runs.
--
CREATE ROLE regress_messages_owner;
CREATE ROLE regress_messages_reader;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_messages_owner;
SET ROLE regress_messages_owner;
SELECT cmq_create_queue('messages_h', rewind_seconds => 3600);
SELECT cmq_send('messages_h', 'h1') AS h1, cmq_send('messages_h', 'h2', headers => '{"k": 2}') AS h2 \gset
SELECT pg_temp.consume('messages_h', 1);
RESET ROLE;
CREATE TEMP TABLE call AS SELECT format(c, 'messages_h', :h1) AS call FROM unnest(ARRAY['SELECT * FROM cmq_messages(%L, ''pending'')', 'SELECT * FROM cmq_messages(%L, ''history'')', 'SELECT * FROM cmq_message(%L, %s)']) c;
GRANT SELECT ON call TO PUBLIC;
SET ROLE regress_messages_reader;
SELECT pg_temp.attempt(call) AS no_right FROM call;
SELECT pg_temp.attempt($$SELECT * FROM cmq_message('messages_x', 1)$$) AS message, pg_temp.attempt($$SELECT * FROM cmq_messages('messages_x', 'pending')$$) AS messages;
RESET ROLE;
GRANT INSERT, UPDATE, DELETE ON cmq.q_messages_h TO regress_messages_reader;
SET ROLE regress_messages_reader;
SELECT pg_temp.attempt(call) AS others FROM call;
RESET ROLE;
REVOKE ALL ON cmq.q_messages_h FROM regress_messages_reader;
GRANT SELECT ON cmq.q_messages_h TO regress_messages_reader;
SET ROLE regress_messages_reader;
BEGIN READ ONLY;
SELECT pg_temp.attempt(call) AS read_only FROM call;
COMMIT;
RESET ROLE;
-- the snapshot is that of the statement
BEGIN;
WITH d AS MATERIALIZED (SELECT count(*) AS n FROM cmq_consume('messages_h'))
SELECT n AS consumed, (SELECT count(*) FROM cmq_messages('messages_h', 'pending') WHERE n > 0) AS pending, (SELECT state FROM cmq_message('messages_h', :h2) WHERE n > 0) AS by_id FROM d;
SELECT (SELECT count(*) FROM cmq_messages('messages_h', 'pending')) AS pending, (SELECT state FROM cmq_message('messages_h', :h2)) AS by_id;
ROLLBACK;
CREATE SCHEMA messages_hostile;
CREATE FUNCTION messages_hostile.trap() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'trapped';
END $$;
CREATE FUNCTION messages_hostile.trap(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT messages_hostile.trap()';
CREATE OPERATOR messages_hostile.@> (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = messages_hostile.trap);
GRANT USAGE ON SCHEMA messages_hostile TO PUBLIC;
SET ROLE regress_messages_owner;
CREATE OR REPLACE VIEW cmq.q_messages_h_all AS
	SELECT NULL::bigint AS msg_id, NULL::timestamptz AS enqueued_at, NULL::text AS state, NULL::timestamptz AS first_received_at, NULL::timestamptz AS visible_at, NULL::timestamptz AS deleted_at,
		   NULL::text AS deleted_by, NULL::int AS receive_count, NULL::int AS rewind_count, NULL::jsonb AS headers, 'forged'::text AS body WHERE messages_hostile.trap();
CREATE OR REPLACE VIEW cmq.q_messages_h_live AS
	SELECT NULL::bigint AS msg_id, NULL::timestamptz AS enqueued_at, NULL::text AS state, NULL::timestamptz AS first_received_at, NULL::timestamptz AS visible_at,
		   NULL::int AS receive_count, NULL::int AS rewind_count, NULL::jsonb AS headers, 'forged'::text AS body WHERE messages_hostile.trap();
ALTER TABLE cmq_data.q_messages_h ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY trap ON cmq_data.q_messages_h USING (messages_hostile.trap());
ALTER TABLE cmq_data.q_messages_h_pending ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY trap ON cmq_data.q_messages_h_pending USING (messages_hostile.trap());
RESET ROLE;
SELECT pg_temp.attempt('SELECT body FROM cmq.q_messages_h_all') AS the_trap_works;
SET ROLE regress_messages_reader;
BEGIN;
SET LOCAL search_path = messages_hostile, pg_catalog, public;
SELECT body, state FROM cmq_messages('messages_h'::text, 'history'::text) UNION ALL SELECT body, state FROM cmq_messages('messages_h'::text, 'pending'::text, filter => '{"k": 2}'::jsonb) UNION ALL SELECT body, state FROM cmq_message('messages_h'::text, :h1);
COMMIT;
RESET ROLE;

-- a message that somebody has removed by hand has no body, and passes no filter
SELECT count(*) FROM cmq_send_batch('messages_p', '{x1,x2}', headers => ARRAY['{}', '{}']::jsonb[]);
DELETE FROM cmq_data.q_messages_p WHERE body = 'x1';
SELECT body, headers, state FROM cmq_messages('messages_p', 'pending', max_messages => 2, backwards => true) WHERE state = 'ready';
SELECT body FROM cmq_messages('messages_p', 'pending', filter => '{}', backwards => true) WHERE state = 'ready';

--
-- Errors.
--
SELECT line FROM unnest(ARRAY[
	$$SELECT * FROM cmq_messages('messages_p', 'live')$$,
	$$SELECT * FROM cmq_messages('messages_p', 'pending', max_messages => 0)$$, $$SELECT * FROM cmq_messages('messages_p', 'pending', max_messages => 1001)$$,
	$$SELECT * FROM cmq_messages('messages_p', 'pending', max_looked => 0)$$, $$SELECT * FROM cmq_messages('messages_p', 'pending', max_looked => 100001)$$,
	$$SELECT * FROM cmq_messages('messages_p', 'pending', NULL, 1)$$,
	format('SELECT * FROM cmq_messages(%L, %L, filter => %L)', 'messages_p', 'pending', jsonb_build_object('k', repeat('x', 8192))),
	$$SELECT * FROM cmq_messages('messages_p', NULL)$$, $$SELECT * FROM cmq_messages(NULL, 'pending')$$,
	$$SELECT * FROM cmq_messages('messages_p', 'pending', backwards => NULL)$$, $$SELECT * FROM cmq_messages('messages_p', 'pending', max_messages => NULL)$$, $$SELECT * FROM cmq_messages('messages_p', 'pending', max_looked => NULL)$$,
	$$SELECT * FROM cmq_message('messages_p', NULL)$$, $$SELECT * FROM cmq_message(NULL, 1)$$, $$SELECT * FROM cmq_message('>messages_t', 1)$$]) WITH ORDINALITY c (call, no),
	LATERAL pg_temp.complaint(call) WITH ORDINALITY l (line, lno) ORDER BY no, lno;
-- ids of nobody
SELECT count(*) FROM unnest('{0,1,-1,9223372036854775807,-9223372036854775808}'::bigint[]) id, cmq_message('messages_p', id);
-- tables that were changed
ALTER TABLE cmq_data.q_messages_p_pending ADD COLUMN more int;
SELECT line FROM pg_temp.complaint($$SELECT * FROM cmq_messages('messages_p', 'pending')$$);
SELECT line FROM pg_temp.complaint(format('SELECT * FROM cmq_message(%L, %s)', 'messages_p', :i7));
ALTER TABLE cmq_data.q_messages_p_pending DROP COLUMN more;

--
-- By id: a search that does not find the message says so, and does not say that there is none.
--
SELECT cmq_create_queue('messages_m', visibility_timeout => 3600);
SELECT cmq_send('messages_m', 'first') AS first \gset
SELECT count(*) FROM cmq_release('messages_m', array(SELECT receipt_handle FROM cmq_receive('messages_m', 1)), 0);
-- pending rows without messages, of an owner who writes by hand
CREATE FUNCTION pg_temp.add_rows(lower int, upper int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO cmq_data.q_messages_m_pending (visible_at, enqueued_at, receive_count, rewind_count)
		SELECT now() + interval '1 hour', now() + i * interval '1 us', 1, 0 FROM generate_series(lower, upper) i $$;
SELECT pg_temp.add_rows(1, 199000);
SELECT body, state FROM cmq_message('messages_m', :first);
SELECT pg_temp.add_rows(199001, 200001);
SELECT replace(line, :'first', 'ID') AS line FROM pg_temp.complaint(format('SELECT * FROM cmq_message(%L, %s)', 'messages_m', :first));
-- what does not exist needs no search
SELECT count(*) FROM cmq_message('messages_m', :first - 1);
CREATE INDEX ON cmq_data.q_messages_m_pending (enqueued_at);
SELECT body, state FROM cmq_message('messages_m', :first);
SELECT cmq_drop_queue('messages_m');

SELECT cmq_unsubscribe('messages_t', 'on_' || q) FROM unnest('{messages_o,messages_p}'::text[]) q;
SELECT cmq_drop_topic('messages_t');
SELECT count(cmq_drop_queue(q)::text) FROM unnest('{messages_a,messages_p,messages_o,messages_h}'::text[]) q;
DROP SCHEMA messages_hostile CASCADE;
REVOKE ALL ON SCHEMA cmq, cmq_data FROM regress_messages_owner;
DROP ROLE regress_messages_owner, regress_messages_reader;
