-- Helpers of the regress tests, read with \i.  All in pg_temp: they vanish
-- with the session.
\set ECHO none
SET client_min_messages = warning;

-- Run a command and say how it ended: the number of its rows, or SQLSTATE and
-- message.  Details and hints hold times now and then, so only their presence
-- is shown.
CREATE FUNCTION pg_temp.attempt(command text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE command;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN 'ok, rows: ' || n;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	-- some minor releases of the server come first, while they plan a view
	IF message LIKE 'permission denied for view q\_%' THEN
		message := regexp_replace(message, 'view q_(.*)', 'queue "\1"');
		hint := 'of ours';
	END IF;
	RETURN SQLSTATE || ': ' || message ||
		CASE WHEN detail <> '' THEN ' +detail' ELSE '' END ||
		CASE WHEN hint <> '' THEN ' +hint' ELSE '' END;
END $$;

-- Run a command: SQLSTATE and message, detail and hint, a line each and without times,
-- or ok.
CREATE FUNCTION pg_temp.complaint(command text) RETURNS TABLE (line text)
LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE command;
	line := 'ok';
	RETURN NEXT;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN QUERY SELECT regexp_replace(regexp_replace(l, '_\d{12}\y', '_TIME', 'g'), '''\d{4}-[^'']*''', '''TIME''', 'g')
				   FROM (VALUES (SQLSTATE || ' ' || SQLERRM), (detail), (hint)) v (l) WHERE l <> '';
END $$;

-- Try a command as a role, and undo it: ok or the SQLSTATE alone, for there are several
-- texts.
CREATE FUNCTION pg_temp.outcome(role text, command text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM set_config('role', outcome.role, true);
		EXECUTE command;
		RAISE SQLSTATE 'CMQ00';
	EXCEPTION
		WHEN SQLSTATE 'CMQ00' THEN RETURN 'ok';
		WHEN OTHERS THEN RETURN SQLSTATE;
	END;
END $$;

-- Receive and return the bodies in the order they came.
CREATE FUNCTION pg_temp.receive(queue text, n int DEFAULT 1000,
	visibility_timeout int DEFAULT NULL) RETURNS text
LANGUAGE sql AS $$
	SELECT string_agg(body, ' ' ORDER BY ordinality)
	  FROM cmq_receive($1, $2, $3) WITH ORDINALITY
$$;

-- Receive and delete; return the bodies in the order they came.
CREATE FUNCTION pg_temp.consume(queue text, n int DEFAULT 1000) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	bodies text[];
	handles text[];
	n_deleted bigint;
BEGIN
	SELECT array_agg(body ORDER BY ordinality),
		   array_agg(receipt_handle ORDER BY ordinality)
	  INTO bodies, handles
	  FROM cmq_receive(consume.queue, consume.n) WITH ORDINALITY;
	IF bodies IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT count(*) INTO n_deleted FROM cmq_delete_batch(consume.queue, handles);
	RETURN array_to_string(bodies, ' ') ||
		CASE WHEN n_deleted = cardinality(handles) THEN ''
			 ELSE ' (deleted only ' || n_deleted || ')' END;
END $$;

-- The production time of the one message with this body, alive or not.
CREATE FUNCTION pg_temp.produced(queue text, wanted text) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
	result timestamptz;
BEGIN
	EXECUTE format('SELECT enqueued_at FROM cmq_data.%I WHERE body = $1', 'q_' || queue)
		INTO STRICT result USING wanted;
	RETURN result;
END $$;

-- Bodies of the history view, oldest first.
CREATE FUNCTION pg_temp.history(queue text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('SELECT string_agg(body, '' '' ORDER BY enqueued_at) FROM cmq.%I',
		'q_' || queue || '_history') INTO result;
	RETURN result;
END $$;

-- Bodies and states of the live view, oldest first.
CREATE FUNCTION pg_temp.live(queue text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('SELECT string_agg(body || '' '' || state, '', '' ORDER BY enqueued_at) FROM cmq.%I',
		'q_' || queue || '_live') INTO result;
	RETURN result;
END $$;

CREATE FUNCTION pg_temp.counts(queue text) RETURNS text
LANGUAGE sql AS $$
	SELECT format('active %s, in flight %s, delayed %s, rewindable %s',
				  active_msg_num, inactive_msg_num, delay_msg_num, rewind_msg_num)
	  FROM cmq_queue_attributes($1)
$$;

-- After changes to cmq's own tables: make every backend read the queue's
-- description again, as any change to the message table's definition does.
CREATE FUNCTION pg_temp.reload(queue text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE ONLY cmq_data.%I ALTER COLUMN body SET STATISTICS -1',
		'q_' || queue);
END $$;

-- A pair of leaves as the extension makes them, for times long gone.
CREATE FUNCTION pg_temp.add_leaf(queue text, lower timestamptz, upper timestamptz)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	suffix text := '_' || queue || '_' ||
		to_char(lower AT TIME ZONE 'UTC', 'YYYYMMDDHH24MI');
	owner text;
BEGIN
	EXECUTE format('CREATE TABLE cmq_data.%I PARTITION OF cmq_data.%I FOR VALUES FROM (%L) TO (%L)',
		'm' || suffix, 'q_' || queue, lower, upper);
	EXECUTE format('CREATE TABLE cmq_data.%I PARTITION OF cmq_data.%I FOR VALUES FROM (%L) TO (%L)',
		'r' || suffix, 'q_' || queue || '_rewind', lower, upper);
	-- a leaf that a superuser has made is the queue's owner's
	SELECT relowner::regrole INTO STRICT owner FROM pg_class WHERE oid = format('cmq_data.%I', 'q_' || queue)::regclass;
	EXECUTE format('ALTER TABLE cmq_data.%I OWNER TO %s', 'm' || suffix, owner);
	EXECUTE format('ALTER TABLE cmq_data.%I OWNER TO %s', 'r' || suffix, owner);
	INSERT INTO cmq.partition
		VALUES (add_leaf.queue, add_leaf.lower, add_leaf.upper,
				format('cmq_data.%I', 'm' || suffix)::regclass,
				format('cmq_data.%I', 'r' || suffix)::regclass);
	PERFORM pg_temp.reload(add_leaf.queue);
END $$;

-- Let time pass for one queue: everything in it happened that much earlier.
-- (For superusers, who may write the tables of the extension.)
CREATE FUNCTION pg_temp.age(queue text, by interval) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	first timestamptz;
BEGIN
	SELECT min(p.lower) INTO STRICT first FROM cmq.partition p WHERE p.queue = age.queue;
	IF first > now() - interval '20 days' THEN
		PERFORM pg_temp.add_leaf(queue, date_trunc('minute', first - interval '30 days'), first);
	END IF;
	EXECUTE format('UPDATE cmq_data.%I SET enqueued_at = enqueued_at - $1', 'q_' || queue)
		USING by;
	EXECUTE format('UPDATE cmq_data.%I SET enqueued_at = enqueued_at - $1,
		visible_at = visible_at - $1, first_received_at = first_received_at - $1, delayed_until = delayed_until - $1',
		'q_' || queue || '_pending') USING by;
	EXECUTE format('UPDATE cmq_data.%I SET enqueued_at = enqueued_at - $1,
		deleted_at = deleted_at - $1, first_received_at = first_received_at - $1',
		'q_' || queue || '_rewind') USING by;
	UPDATE cmq.queue
	   SET create_time = create_time - by,
		   last_modify_time = last_modify_time - by,
		   rewind_from = rewind_from - by,
		   rewound_at = rewound_at - by,
		   expired_before = expired_before - by,
		   forgotten_before = forgotten_before - by,
		   history_since = history_since - by
	 WHERE name = age.queue;
	UPDATE cmq.rewind_log l SET queue_create_time = queue_create_time - by WHERE l.queue = age.queue;
	PERFORM pg_temp.reload(queue);
END $$;

-- Does the plan of a query have a line with this pattern?
CREATE FUNCTION pg_temp.uses_index(query text, pattern text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line LIKE '%' || pattern || '%' THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END $$;
\set ECHO all
