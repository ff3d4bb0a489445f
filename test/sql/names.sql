-- Every legal name works everywhere: capitals, hyphens, keywords, one letter, 48
-- characters.  Names that are equal but for case are one name too many.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE TEMP TABLE name (n int PRIMARY KEY, name text);
INSERT INTO name VALUES
	(1, 'Q'), (2, 'Order-Queue'), (3, 'select'), (4, 'a--'), (5, 'X_-9'), (6, 'pending'),
	(7, 'Z' || repeat('-', 47)), (8, repeat('Ab-_', 12));
SELECT n, length(name) FROM name ORDER BY n;

-- everything that there is, with a queue, a dead-letter queue and a topic of such names
CREATE FUNCTION pg_temp.try(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	dead text := 'D' || substr(name, 2, 47);
	handle text;
	id bigint;
	published bigint;
	n bigint;
	since timestamptz;
BEGIN
	PERFORM cmq_create_queue(dead);
	PERFORM cmq_create_queue(name, rewind_seconds => 3600, dead_letter_queue => dead, max_receive_count => 1);
	PERFORM cmq_alter_queue(name, max_receive_count => 2);
	PERFORM cmq_create_topic(name, 'routing');
	PERFORM cmq_subscribe(name, name, name, binding_keys => '{#}');
	EXECUTE format('GRANT SELECT ON cmq.%I, cmq.%I TO PUBLIC', 'q_' || name, 't_' || name);

	id := cmq_send(name, 'sent');
	PERFORM cmq_send_batch(name, '{batch}');
	SELECT p.msg_id INTO published FROM cmq_publish(name, 'published', routing_key => 'k') p;
	PERFORM cmq_publish_batch(name, '{publishedbatch}', NULL, 'k');
	ASSERT (SELECT string_agg(body, ' ') FROM cmq_receive(name, 2, polling_wait_seconds => 1)) = 'sent batch', 'receive';
	SELECT receipt_handle INTO handle FROM cmq_receive(name);
	handle := cmq_change_visibility(name, handle, 100);
	ASSERT cmq_delete(name, handle), 'delete';
	ASSERT (SELECT count(*) FROM cmq_delete_batch(name, array(SELECT receipt_handle FROM cmq_receive(name, 10)))) = 1, 'delete_batch';
	EXECUTE format('SELECT count(*) FROM cmq.%I', 'q_' || name || '_live') INTO n;
	ASSERT n = 2, 'live';
	EXECUTE format('SELECT count(*) FROM cmq.%I', 'q_' || name || '_history') INTO n;
	ASSERT n = 2, 'history';
	EXECUTE format('SELECT count(*) FROM cmq.%I WHERE state = ''deleted''', 'q_' || name || '_all') INTO n;
	ASSERT n = 2, 'all';
	EXECUTE format('SELECT count(*) FROM cmq.%I', 't_' || name) INTO n;
	ASSERT n = 1, 'subscriptions';
	since := cmq.enqueued_at(id);
	ASSERT (SELECT messages FROM cmq_rewind_preview(name, since)) = 2, 'preview';
	ASSERT cmq_replay(name, dead, since) = 2, 'replay';
	ASSERT (SELECT array_agg(DISTINCT headers #>> '{cmq_origin,queue}') FROM cmq_receive(dead, 10)) = ARRAY[name], 'origin';
	ASSERT cmq_clear_queue(dead) = 2, 'clear what was replayed';
	ASSERT cmq_rewind(name, since) IS NOT NULL, 'rewind to be cancelled';
	PERFORM cmq_cancel_rewind(name);
	ASSERT (SELECT messages FROM cmq_rewind_preview(name, since)) = 2, 'cancel';
	ASSERT cmq_restore_messages(name, ARRAY[published]) = published, 'restore_messages';
	ASSERT cmq_restore(name, since, expected_count => 1) = 1, 'restore';
	ASSERT (SELECT count(*) FROM cmq_delete_batch(name, array(SELECT receipt_handle FROM cmq_receive(name, 2)))) = 2, 'restored';
	ASSERT cmq_rewind(name, since) IS NOT NULL, 'rewind';
	ASSERT (SELECT string_agg(kind, ' ' ORDER BY r.id) FROM cmq.rewinds r WHERE r.queue = name) =
		   'replay rewind cancel restore restore rewind', 'rewinds';
	ASSERT (SELECT active_msg_num FROM cmq_queue_attributes(name)) = 2, 'attributes';
	ASSERT (SELECT string_agg(body, ' ') FROM cmq_receive(name, 10)) = 'published publishedbatch', 'rewound';
	EXECUTE format('UPDATE cmq_data.%I SET visible_at = enqueued_at, receive_count = 2', 'q_' || name || '_pending');
	PERFORM cmq_maintain(name);
	ASSERT (SELECT count(*) FROM cmq_receive(dead, 10)) = 4, 'dead letters';
	EXECUTE format('UPDATE cmq_data.%I SET visible_at = enqueued_at', 'q_' || dead || '_pending');
	ASSERT cmq_redrive(dead) = 4, 'redrive';
	ASSERT cmq_clear_queue(name) = 4, 'clear';
	ASSERT EXISTS (SELECT FROM cmq.queues q WHERE q.queue = name AND q.dead_letter_queue = dead), 'queues';
	ASSERT (SELECT m.pending_msg_num FROM cmq.metrics m WHERE m.queue = name) = 0, 'metrics';
	PERFORM cmq_unbind_dead_letter(name);
	PERFORM cmq_unsubscribe(name, name);
	PERFORM cmq_drop_topic(name);
	PERFORM cmq_drop_queue(name);
	PERFORM cmq_drop_queue(dead);
	ASSERT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) AND
					   substr(relname, 1, length(name) + 2) IN ('q_' || name, 't_' || name, 'm_' || name, 'r_' || name, 'v_' || name)), 'all is gone';
	RETURN 'ok';
END $$;
SELECT n, pg_temp.try(name) FROM name ORDER BY n;

-- equal but for case
SELECT cmq_create_queue('Names-A');
SELECT pg_temp.attempt($$SELECT cmq_create_queue('names-a')$$) AS lower,
	   pg_temp.attempt($$SELECT cmq_create_queue('NAMES-A')$$) AS upper,
	   pg_temp.attempt($$SELECT cmq_create_queue('Names_A')$$) AS another;
-- a name is found as it is written only
SELECT pg_temp.attempt($$SELECT cmq_send('names-a', 'x')$$) AS not_found,
	   pg_temp.attempt($$SELECT cmq_send('Names-A', 'x')$$) AS found;
SELECT cmq_send('names-a', 'x');
SELECT cmq_drop_queue('Names-A');
SELECT cmq_drop_queue('Names_A');
-- 49 characters, other characters, none
SELECT n, pg_temp.attempt(format('SELECT cmq_create_queue(%L)', name)), pg_temp.attempt(format('SELECT cmq_create_topic(%L)', name))
  FROM (VALUES (1, repeat('a', 49)), (2, ''), (3, '1a'), (4, '-a'), (5, '_a'), (6, 'a.b'), (7, 'a b'), (8, 'ä'), (9, 'a"'), (10, 'a''')) v (n, name)
 ORDER BY n;
-- somebody takes a name between the look and the statement, here an event trigger
CREATE FUNCTION pg_temp.lost_race(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
	context text;
BEGIN
	EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
	RETURN QUERY VALUES (SQLSTATE || ' ' || SQLERRM), (detail), (hint), (substring(context FROM 'SQL statement "CREATE TABLE [^ ]+'));
END $$;
CREATE FUNCTION public.names_take() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
	name text := current_setting('names.take', true);
BEGIN
	IF name <> '' THEN
		PERFORM set_config('names.take', '', true);
		EXECUTE format('CREATE TABLE %s (i int)', name);
	END IF;
END $$;
CREATE EVENT TRIGGER names_take ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.names_take();
BEGIN;
SET LOCAL names.take = 'cmq_data.q_names_c_pending';
SELECT pg_temp.lost_race($$SELECT cmq_create_queue('names_c')$$);
ROLLBACK;
DROP EVENT TRIGGER names_take;
DROP FUNCTION public.names_take();
-- what code of an owner's raises in ANALYZE is no such race
SELECT cmq_create_queue('names_d');
CREATE FUNCTION public.names_checked(body text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF current_setting('names.fail', true) = 'on' THEN
		RAISE duplicate_table USING MESSAGE = 'relation "ddl_log" already exists';
	END IF;
	RETURN body;
END $$;
CREATE INDEX ON cmq_data.q_names_d (public.names_checked(body));
SELECT count(*) FROM cmq_send_batch('names_d', array_fill('m'::text, '{10}'));
SET names.fail = on;
SELECT cmq_maintain('names_d');
RESET names.fail;
SELECT cmq_drop_queue('names_d');
DROP FUNCTION public.names_checked(text);
