-- pgmq's functions on top of cmq: a schema pgmq, so that clients written for pgmq go on
-- working while their owners move to cmq's own calls, with rewind from the first day.
--
--   psql -X -d shop -f examples/pgmq.sql
--   psql -X -d shop -v retention=604800 -v rewind=86400 -f examples/pgmq.sql
--
--   retention   seconds that a message lives in queues to be created, consumed or not, at
--               most 1296000 (15 days), the default.  pgmq keeps messages for ever
--   rewind      seconds that what was deleted or archived stays in pgmq.a_<queue> and can
--               be brought back, retention by default
--
-- Needs the extension cmq in the database, no extension and no schema pgmq, and a role that
-- may create schemas, and topics of cmq.  Installs all or nothing.  DROP SCHEMA pgmq CASCADE
-- takes it away again; queues, messages and the topic pgmq stay.  examples/pgmq_move.sql
-- replaces pgmq by it, and takes the messages along.
--
-- What differs from pgmq, what cannot be had and how to move is in docs/from-pgmq.md.  Names
-- of arguments and columns, types and order are those of pgmq 1.13, which serves clients of
-- older versions as well.
--
-- How it works.  A queue of pgmq is the queue of cmq with that name, in lower case.  The
-- body is the text of the jsonb.  pgmq names a message by its msg_id alone, and lets anybody
-- delete it: cmq._deliveries_of() gives the receipt handle of whoever has it, and finds it
-- by the index on enqueued_at that pgmq.create() adds.  Bindings of topics are subscriptions
-- of cmq's topic pgmq, one for each queue.  All functions run as the caller, with the
-- caller's rights on cmq.q_<queue>.  No name is looked up in the caller's search_path:
-- functions have one of their own, or write the schema before each name.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?retention}
\else
	\set retention 1296000
\endif
\if :{?rewind}
\else
	\set rewind :retention
\endif

\if :{?in_transaction}
\else
	BEGIN;
\endif
SET LOCAL client_min_messages = warning;
SET LOCAL search_path TO pg_catalog, pg_temp;

SELECT (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'cmq') AS cmq_schema \gset
SELECT set_config('pgmq_install.retention', :'retention', true), set_config('pgmq_install.rewind', :'rewind', true) \g /dev/null
DO $do$
DECLARE
	cmq_schema oid := (SELECT extnamespace FROM pg_extension WHERE extname = 'cmq');
	maker regrole;
BEGIN
	IF cmq_schema IS NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = 'undefined_object',
			MESSAGE = 'this database does not have the extension cmq',
			HINT = 'CREATE EXTENSION cmq first.';
	ELSIF EXISTS (SELECT FROM pg_extension WHERE extname = 'pgmq') THEN
		RAISE EXCEPTION USING
			ERRCODE = 'duplicate_object',
			MESSAGE = 'this database has the extension pgmq',
			HINT = 'docs/from-pgmq.md says how to move its messages and drop it.';
	ELSIF to_regnamespace('pgmq') IS NOT NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = 'duplicate_schema',
			MESSAGE = 'schema pgmq exists already',
			HINT = 'If it is an earlier copy of this one, DROP SCHEMA pgmq CASCADE first: queues and messages stay.';
	ELSIF EXISTS (SELECT FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
				   WHERE n.oid = cmq_schema AND a.grantee = 0 AND a.privilege_type = 'CREATE') THEN
		-- otherwise anybody could add a cmq_send() that fits better
		RAISE EXCEPTION USING
			ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('everybody may create functions in schema "%s", where those of cmq are', cmq_schema::regnamespace),
			HINT = format('REVOKE CREATE ON SCHEMA %s FROM PUBLIC.', cmq_schema::regnamespace);
	ELSIF current_setting('pgmq_install.retention') !~ '^\d{1,9}$' OR current_setting('pgmq_install.rewind') !~ '^\d{1,9}$'
		OR current_setting('pgmq_install.retention')::int NOT BETWEEN 60 AND 1296000
		OR current_setting('pgmq_install.rewind')::int > current_setting('pgmq_install.retention')::int THEN
		RAISE EXCEPTION USING
			ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'retention must be between 60 and 1296000 seconds, and rewind between 0 and retention';
	END IF;
	FOR maker IN SELECT DISTINCT a.grantee FROM pg_namespace n, aclexplode(n.nspacl) a, pg_roles r
				  WHERE n.oid = cmq_schema AND a.privilege_type = 'CREATE' AND a.grantee NOT IN (0, n.nspowner) AND r.oid = a.grantee AND NOT r.rolsuper
	LOOP
		RAISE WARNING '% may create functions in schema "%", where those of cmq are', maker, cmq_schema::regnamespace
			USING DETAIL = 'One that fits a call better would run as whoever makes the call.';
	END LOOP;
END $do$;

CREATE SCHEMA pgmq;
COMMENT ON SCHEMA pgmq IS 'the functions of pgmq on top of cmq: examples/pgmq.sql of cmq';

-- What publishing by routing key goes through.  It may be there from an earlier install.
DO $do$
BEGIN
	IF NOT EXISTS (SELECT FROM cmq.topics WHERE topic = 'pgmq') THEN
		EXECUTE format('SELECT %s.cmq_create_topic(''pgmq'', ''routing'')', (SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'cmq'));
	END IF;
END $do$;

--
-- Types
--

-- last_read_at is known of a message that was read just now or once; else it is NULL
CREATE TYPE pgmq.message_record AS (
	msg_id			bigint,
	read_ct			int,
	enqueued_at		timestamptz,
	last_read_at	timestamptz,
	vt				timestamptz,
	message			jsonb,
	headers			jsonb
);

CREATE TYPE pgmq.queue_record AS (
	queue_name		varchar,
	is_partitioned	boolean,
	is_unlogged		boolean,
	created_at		timestamptz
);

-- total_messages counts since the server started
CREATE TYPE pgmq.metrics_result AS (
	queue_name					text,
	queue_length				bigint,
	newest_msg_age_sec			int,
	oldest_msg_age_sec			int,
	total_messages				bigint,
	scrape_time					timestamptz,
	queue_visible_length		bigint,
	default_partition_length	bigint
);

--
-- What the functions below need
--

-- The message in a body.  One that cmq's own calls have sent and that is no JSON is a string.
CREATE FUNCTION pgmq._message(body text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL UNSAFE
AS $$
BEGIN
	RETURN body::pg_catalog.jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
	RETURN pg_catalog.to_jsonb(body);
END $$;

-- Seconds from now to a time, rounded up; 0 if it has passed.
CREATE FUNCTION pgmq._seconds_to(moment timestamptz) RETURNS int
LANGUAGE plpgsql VOLATILE
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN least(greatest(ceil(extract(epoch FROM moment - clock_timestamp())), 0), 2147483647)::int;
END $$;

-- What an argument is whose type the caller has left open, as drivers do: a whole number of
-- seconds, a JSON object, or a time.
CREATE FUNCTION pgmq._kind_of(argument text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN argument IS NULL OR argument ~ '^\s*[-+]?\d+\s*$' THEN 'seconds'
			WHEN argument ~ '^\s*\{' THEN 'object'
			ELSE 'time' END;

-- A call that needs what cmq does not have.
CREATE FUNCTION pgmq._refuse(what text, hint text) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING
		ERRCODE = 'feature_not_supported',
		MESSAGE = format('pgmq.%s is not supported on top of cmq', what),
		HINT = hint;
END $$;

--
-- Queues
--

-- As in pgmq capitals in the name of a queue do not count, and lists show them.
CREATE TABLE pgmq.spelling (
	queue		text PRIMARY KEY,
	queue_name	varchar NOT NULL
);
COMMENT ON TABLE pgmq.spelling IS 'how names of queues with capitals were written when pgmq.create() was called';

CREATE VIEW pgmq.meta WITH (security_invoker = true) AS
SELECT coalesce(s.queue_name, q.queue)::varchar AS queue_name,
	   false AS is_partitioned,
	   false AS is_unlogged,
	   q.create_time AS created_at
  FROM cmq.queues q
  LEFT JOIN pgmq.spelling s
	ON s.queue = q.queue
 WHERE q.queue = lower(q.queue)
   AND q.create_time IS NOT NULL;		-- those that the reader may read
COMMENT ON VIEW pgmq.meta IS 'the queues that the reader may read and pgmq''s functions can name';

-- Settings of queues to be created, as the installer has said.
CREATE FUNCTION pgmq._retention() RETURNS int
LANGUAGE sql IMMUTABLE
RETURN :retention;

CREATE FUNCTION pgmq._rewind() RETURNS int
LANGUAGE sql IMMUTABLE
RETURN :rewind;

-- The index by which messages are found by their ids, and the views that look like pgmq's
-- tables.
CREATE FUNCTION pgmq._dress(queue text) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
BEGIN
	EXECUTE format('CREATE INDEX ON cmq_data.%I (enqueued_at)', 'q_' || queue || '_pending');
	EXECUTE format($view$
		CREATE VIEW pgmq.%1$I WITH (security_invoker = true) AS
		SELECT msg_id, receive_count AS read_ct, enqueued_at,
			   CASE receive_count WHEN 1 THEN first_received_at END AS last_read_at,
			   visible_at AS vt, pgmq._message(body) AS message, headers
		  FROM cmq.%2$I
		$view$, 'q_' || queue, 'q_' || queue || '_live');
	-- when a message was archived is all that is kept of its vt
	EXECUTE format($view$
		CREATE VIEW pgmq.%1$I WITH (security_invoker = true) AS
		SELECT msg_id, receive_count AS read_ct, enqueued_at,
			   CASE receive_count WHEN 1 THEN first_received_at END AS last_read_at,
			   deleted_at AS archived_at, deleted_at AS vt, pgmq._message(body) AS message, headers
		  FROM cmq.%2$I
		$view$, 'a_' || queue, 'q_' || queue || '_history');
END $$;

CREATE FUNCTION pgmq.validate_queue_name(queue_name text) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
BEGIN
	IF length(queue_name) > 47 THEN
		RAISE EXCEPTION USING
			ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'queue name is too long',
			DETAIL = 'It may have 47 characters.';
	ELSIF queue_name IS NULL OR queue_name !~ '^[A-Za-z][A-Za-z0-9_-]{0,46}$' THEN
		RAISE EXCEPTION USING
			ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('not a name of a queue: %s', coalesce(quote_ident(queue_name), 'NULL')),
			HINT = 'A queue of cmq has a name of 1 to 47 letters, digits, - and _, a letter first.';
	END IF;
END $$;

-- Like pgmq's: a queue that exists stays as it is.  A queue that cmq's own calls have
-- created gets what pgmq's functions need if its owner says so.
CREATE FUNCTION pgmq._create(queue_name text, retention int, rewind int) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	name text := lower(queue_name);
	message text;
BEGIN
	PERFORM pgmq.validate_queue_name(queue_name);
	-- two that create the same queue: the second one finds it
	PERFORM pg_advisory_xact_lock(hashtextextended('pgmq.create ' || name, 0));
	IF NOT EXISTS (SELECT FROM cmq.queues q WHERE q.queue = name) THEN
		PERFORM cmq_create_queue(name, msg_retention_seconds => retention, rewind_seconds => rewind,
								 max_msg_size => 67108864, max_msg_heap_num => 1000000000);
		PERFORM pgmq._dress(name);
		IF queue_name <> name THEN
			INSERT INTO pgmq.spelling AS s (queue, queue_name) VALUES (name, _create.queue_name)
				ON CONFLICT (queue) DO UPDATE SET queue_name = excluded.queue_name;
		END IF;
	ELSIF to_regclass(format('pgmq.%I', 'q_' || name)) IS NULL
		AND EXISTS (SELECT FROM cmq.queues q WHERE q.queue = name AND pg_has_role(q.owner, 'USAGE')) THEN
		PERFORM pgmq._dress(name);
	END IF;
END $$;

CREATE FUNCTION pgmq.create(queue_name text) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgmq._create(queue_name, pgmq._retention(), pgmq._rewind());
END $$;

CREATE FUNCTION pgmq.create_non_partitioned(queue_name text) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgmq.create(queue_name);
END $$;

-- Logged all the same: that is slower, and loses nothing in a crash.
CREATE FUNCTION pgmq.create_unlogged(queue_name text) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgmq.create(queue_name);
	RAISE NOTICE 'queue "%" is logged: cmq has no unlogged queues', lower(queue_name);
END $$;

-- Queues of cmq are partitioned by time anyway.  A retention_interval that is a duration is
-- the retention, within cmq's limits; one that is a number of messages cannot be had.
CREATE FUNCTION pgmq.create_partitioned(
	queue_name			text,
	partition_interval	text DEFAULT '10000',
	retention_interval	text DEFAULT '100000',
	premake				int DEFAULT 4)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
	wanted numeric;
	retention int := pgmq._retention();
BEGIN
	IF retention_interval !~ '^\s*\d+\s*$' THEN
		wanted := extract(epoch FROM CASE lower(retention_interval)
							WHEN 'hourly' THEN '1 hour' WHEN 'daily' THEN '1 day' WHEN 'weekly' THEN '7 days'
							WHEN 'monthly' THEN '1 month' ELSE retention_interval END::interval);
		retention := least(greatest(ceil(wanted), 60), 1296000);
	END IF;
	PERFORM pgmq._create(queue_name, retention, least(pgmq._rewind(), retention));
	IF wanted IS DISTINCT FROM retention THEN
		RAISE NOTICE 'messages of queue "%" live for % seconds, not %', lower(queue_name), retention, retention_interval;
	END IF;
END $$;

CREATE FUNCTION pgmq.drop_queue(queue_name text) RETURNS boolean
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	name text := lower(queue_name);
BEGIN
	IF to_regclass(format('pgmq.%I', 'q_' || name)) IS NOT NULL THEN
		EXECUTE format('DROP VIEW pgmq.%I, pgmq.%I', 'q_' || name, 'a_' || name);
	END IF;
	BEGIN
		PERFORM cmq_drop_queue(name);
	EXCEPTION WHEN undefined_object THEN
		RAISE NOTICE 'queue "%" does not exist', name;
		RETURN false;
	END;
	PERFORM pgmq.disable_notify_insert(name);
	IF EXISTS (SELECT FROM pgmq.spelling s WHERE s.queue = name) THEN
		DELETE FROM pgmq.spelling s WHERE s.queue = name;
	END IF;
	RETURN true;
END $$;

CREATE FUNCTION pgmq.drop_queue(queue_name text, partitioned boolean) RETURNS boolean
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN pgmq.drop_queue(queue_name);
END $$;

-- What waits is gone for good, and what was deleted stays in pgmq.a_<queue>.
CREATE FUNCTION pgmq.purge_queue(queue_name text) RETURNS bigint
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
BEGIN
	RETURN cmq_clear_queue(lower(queue_name));
END $$;

CREATE FUNCTION pgmq.list_queues() RETURNS SETOF pgmq.queue_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT m.queue_name, m.is_partitioned, m.is_unlogged, m.created_at FROM pgmq.meta m ORDER BY m.queue_name COLLATE "C";
END $$;

-- Nothing to do: an archive belongs to no extension, and it is partitioned.
CREATE FUNCTION pgmq.detach_archive(queue_name text) RETURNS void
LANGUAGE sql
BEGIN ATOMIC END;

CREATE FUNCTION pgmq.convert_archive_partitioned(
	table_name			text,
	partition_interval	text DEFAULT '10000',
	retention_interval	text DEFAULT '100000',
	leading_partition	int DEFAULT 10)
RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RAISE NOTICE 'nothing was changed: cmq partitions each queue and its history by time';
END $$;

--
-- Sending.  Without a type, as from a driver or as a literal, the third argument can be
-- seconds, headers or a time.
--

-- delay: seconds, or else deliver_at: a time; both may be NULL, negative or past: at once.
-- A message that is NULL is sent as JSON null.
CREATE FUNCTION pgmq._send(queue text, msg jsonb, headers jsonb, delay int, deliver_at timestamptz) RETURNS bigint
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	id bigint;
BEGIN
	id := cmq_send(queue, coalesce(msg::text, 'null'), greatest(delay, 0), headers, deliver_at);
	IF EXISTS (SELECT FROM pgmq.notify_insert_throttle n WHERE n.queue_name = queue) THEN
		PERFORM pgmq._notify(queue);
	END IF;
	RETURN id;
END $$;

CREATE FUNCTION pgmq._send_batch(queue text, msgs jsonb[], headers jsonb[], delay int, deliver_at timestamptz) RETURNS SETOF bigint
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT s FROM cmq_send_batch(queue, array_replace(msgs::text[], NULL, 'null'), greatest(delay, 0), headers, deliver_at) s;
	IF EXISTS (SELECT FROM pgmq.notify_insert_throttle n WHERE n.queue_name = queue) THEN
		PERFORM pgmq._notify(queue);
	END IF;
END $$;

CREATE FUNCTION pgmq.send(queue_name text, msg jsonb) RETURNS SETOF bigint
LANGUAGE plpgsql ROWS 1
AS $$ BEGIN RETURN NEXT pgmq._send(pg_catalog.lower(queue_name), msg, NULL, 0, NULL); END $$;

CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb) RETURNS SETOF bigint
LANGUAGE plpgsql ROWS 1
AS $$ BEGIN RETURN NEXT pgmq._send(pg_catalog.lower(queue_name), msg, headers, 0, NULL); END $$;

CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay int) RETURNS SETOF bigint
LANGUAGE plpgsql ROWS 1
AS $$ BEGIN RETURN NEXT pgmq._send(pg_catalog.lower(queue_name), msg, NULL, delay, NULL); END $$;

CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay timestamptz) RETURNS SETOF bigint
LANGUAGE plpgsql ROWS 1
AS $$ BEGIN RETURN NEXT pgmq._send(pg_catalog.lower(queue_name), msg, NULL, 0, delay); END $$;

CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay int) RETURNS SETOF bigint
LANGUAGE plpgsql ROWS 1
AS $$ BEGIN RETURN NEXT pgmq._send(pg_catalog.lower(queue_name), msg, headers, delay, NULL); END $$;

CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay timestamptz) RETURNS SETOF bigint
LANGUAGE plpgsql ROWS 1
AS $$ BEGIN RETURN NEXT pgmq._send(pg_catalog.lower(queue_name), msg, headers, 0, delay); END $$;

CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay text) RETURNS SETOF bigint
LANGUAGE plpgsql ROWS 1
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN NEXT CASE pgmq._kind_of(delay)
				WHEN 'seconds' THEN pgmq._send(lower(queue_name), msg, NULL, delay::int, NULL)
				WHEN 'object' THEN pgmq._send(lower(queue_name), msg, delay::jsonb, 0, NULL)
				ELSE pgmq._send(lower(queue_name), msg, NULL, 0, delay::timestamptz) END;
END $$;

CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay text) RETURNS SETOF bigint
LANGUAGE plpgsql ROWS 1
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN NEXT CASE pgmq._kind_of(delay)
				WHEN 'seconds' THEN pgmq._send(lower(queue_name), msg, headers, delay::int, NULL)
				ELSE pgmq._send(lower(queue_name), msg, headers, 0, delay::timestamptz) END;
END $$;

CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[]) RETURNS SETOF bigint
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT s FROM pgmq._send_batch(pg_catalog.lower(queue_name), msgs, NULL, 0, NULL) s; END $$;

CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[]) RETURNS SETOF bigint
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT s FROM pgmq._send_batch(pg_catalog.lower(queue_name), msgs, headers, 0, NULL) s; END $$;

CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay int) RETURNS SETOF bigint
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT s FROM pgmq._send_batch(pg_catalog.lower(queue_name), msgs, NULL, delay, NULL) s; END $$;

CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay timestamptz) RETURNS SETOF bigint
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT s FROM pgmq._send_batch(pg_catalog.lower(queue_name), msgs, NULL, 0, delay) s; END $$;

CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay int) RETURNS SETOF bigint
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT s FROM pgmq._send_batch(pg_catalog.lower(queue_name), msgs, headers, delay, NULL) s; END $$;

CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay timestamptz) RETURNS SETOF bigint
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT s FROM pgmq._send_batch(pg_catalog.lower(queue_name), msgs, headers, 0, delay) s; END $$;

CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay text) RETURNS SETOF bigint
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	IF pgmq._kind_of(delay) = 'seconds' THEN
		RETURN QUERY SELECT s FROM pgmq._send_batch(lower(queue_name), msgs, NULL, delay::int, NULL) s;
	ELSIF pgmq._kind_of(delay) = 'object' THEN		-- an array of headers looks like one
		RETURN QUERY SELECT s FROM pgmq._send_batch(lower(queue_name), msgs, delay::jsonb[], 0, NULL) s;
	ELSE
		RETURN QUERY SELECT s FROM pgmq._send_batch(lower(queue_name), msgs, NULL, 0, delay::timestamptz) s;
	END IF;
END $$;

--
-- Reading
--

-- A read with a vt of 0: the message is read, and everybody can read it again.
CREATE FUNCTION pgmq._read_and_show(queue text, qty int) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	messages cmq.message[] := ARRAY(SELECT m FROM cmq_receive(queue, least(qty, 1000), 1, 0, NULL) m);
	moment timestamptz := clock_timestamp();
BEGIN
	PERFORM cmq_change_visibility_batch(queue, ARRAY(SELECT m.receipt_handle FROM unnest(messages) m), 0);
	RETURN QUERY SELECT m.msg_id, m.receive_count, m.enqueued_at, moment, moment, pgmq._message(m.body), m.headers
				   FROM unnest(messages) m;
END $$;

-- A read of messages that contain this JSON.  cmq filters by headers, so the messages that
-- are ready are read one after the other until enough are found: as in pgmq, the cost is in
-- proportion to what is passed over.  Needs SELECT on the queue, too.
CREATE FUNCTION pgmq._read_where(queue text, vt int, qty int, conditional jsonb) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	message record;
	after_time timestamptz;
	after_id bigint;
	ids bigint[];
	n int;
	missing int := qty;
	more boolean := true;
BEGIN
	WHILE missing > 0 AND more LOOP
		ids := '{}';
		more := false;
		-- not by the view: the owner of the queue can replace it, and then it would run as the caller
		FOR message IN SELECT m.* FROM cmq_messages(queue, 'pending'::text, after_time, after_id, NULL::jsonb, 1000, 100000, false) m LOOP
			-- what is ready comes first
			EXIT WHEN message.matched AND message.state <> 'ready';
			more := true;
			after_time := message.visible_at;
			after_id := message.msg_id;
			IF message.matched AND pgmq._message(message.body) @> conditional THEN
				ids := ids || message.msg_id;
				EXIT WHEN cardinality(ids) = missing;
			END IF;
		END LOOP;
		-- some of them may be somebody else's by now: then look on
		IF ids <> '{}' THEN
			RETURN QUERY SELECT m.msg_id, m.receive_count, m.enqueued_at, m.next_visible_at - make_interval(secs => vt), m.next_visible_at,
								pgmq._message(m.body), m.headers
						   FROM cmq_receive_messages(queue, ids, greatest(vt, 1)) m;
			GET DIAGNOSTICS n = ROW_COUNT;
			missing := missing - n;
		END IF;
	END LOOP;
END $$;

CREATE FUNCTION pgmq._check_vt(vt int) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	IF vt IS NULL OR vt > 43200 THEN
		RAISE EXCEPTION USING
			ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('vt is out of range: %s', coalesce(vt::text, 'NULL')),
			DETAIL = 'It must not be NULL or more than 43200 seconds, 12 hours.',
			HINT = 'Call pgmq.set_vt() again before the time is over.';
	END IF;
END $$;

CREATE FUNCTION pgmq.read(queue_name text, vt int, qty int, conditional jsonb DEFAULT '{}') RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql ROWS 10
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	n int;
	missing int := qty;
BEGIN
	IF vt IS NULL OR vt > 43200 THEN
		PERFORM pgmq._check_vt(vt);
	ELSIF conditional <> '{}' THEN
		RETURN QUERY SELECT * FROM pgmq._read_where(lower(queue_name), vt, qty, conditional);
	ELSIF vt < 1 THEN
		RETURN QUERY SELECT * FROM pgmq._read_and_show(lower(queue_name), qty);
	ELSE
		WHILE missing > 0 LOOP
			RETURN QUERY SELECT m.msg_id, m.receive_count, m.enqueued_at, m.next_visible_at - make_interval(secs => vt), m.next_visible_at,
								pgmq._message(m.body), m.headers
						   FROM cmq_receive(lower(queue_name), least(missing, 1000), vt, 0, NULL) m;
			GET DIAGNOSTICS n = ROW_COUNT;
			EXIT WHEN n < 1000;
			missing := missing - n;
		END LOOP;
	END IF;
END $$;

CREATE FUNCTION pgmq.read(queue_name text, vt timestamptz, qty int, conditional jsonb DEFAULT '{}') RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql ROWS 10
AS $$ BEGIN RETURN QUERY SELECT * FROM pgmq.read(queue_name, pgmq._seconds_to(vt), qty, conditional); END $$;

CREATE FUNCTION pgmq.read(queue_name text, vt text, qty int, conditional jsonb DEFAULT '{}') RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql ROWS 10
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT * FROM pgmq.read(queue_name, CASE pgmq._kind_of(vt) WHEN 'seconds' THEN vt::int ELSE pgmq._seconds_to(vt::timestamptz) END, qty, conditional);
END $$;

-- Waits for a message: cmq wakes the call when there is one, so poll_interval_ms counts with
-- conditional alone, where the call has to look again and again.
CREATE FUNCTION pgmq.read_with_poll(
	queue_name			text,
	vt					int,
	qty					int,
	max_poll_seconds	int DEFAULT 5,
	poll_interval_ms	int DEFAULT 100,
	conditional			jsonb DEFAULT '{}')
RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql ROWS 10
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	name text := lower(queue_name);
	stop_at timestamptz := clock_timestamp() + make_interval(secs => max_poll_seconds);
	begun_at timestamptz;
	seconds int;
BEGIN
	LOOP
		IF conditional <> '{}' THEN
			RETURN QUERY SELECT * FROM pgmq.read(queue_name, vt, qty, conditional);
			EXIT WHEN FOUND OR clock_timestamp() >= stop_at;
			PERFORM pg_sleep(least(greatest(poll_interval_ms, 1) / 1000.0, extract(epoch FROM stop_at - clock_timestamp())));
		ELSE
			-- if a message is there it is not waited for: that is the first look for up to 30 seconds
			begun_at := clock_timestamp();
			seconds := least(greatest(ceil(extract(epoch FROM stop_at - begun_at)), 0), 30);
			IF vt BETWEEN 1 AND 43200 AND qty BETWEEN 1 AND 1000 THEN
				RETURN QUERY SELECT m.msg_id, m.receive_count, m.enqueued_at, m.next_visible_at - make_interval(secs => vt), m.next_visible_at,
									pgmq._message(m.body), m.headers
							   FROM cmq_receive(name, qty, vt, seconds, NULL) m;
				EXIT WHEN FOUND;
				-- back early: the queue is being dropped, or this transaction must end first
				EXIT WHEN clock_timestamp() < begun_at + make_interval(secs => seconds - 0.5);
			ELSE
				RETURN QUERY SELECT * FROM pgmq.read(queue_name, vt, qty);
				EXIT WHEN FOUND OR qty < 1;
				PERFORM pg_sleep(least(greatest(poll_interval_ms, 1) / 1000.0, greatest(extract(epoch FROM stop_at - clock_timestamp()), 0)));
			END IF;
			EXIT WHEN clock_timestamp() >= stop_at;
		END IF;
	END LOOP;
END $$;

CREATE FUNCTION pgmq.read_with_poll(
	queue_name			text,
	vt					timestamptz,
	qty					int,
	max_poll_seconds	int DEFAULT 5,
	poll_interval_ms	int DEFAULT 100,
	conditional			jsonb DEFAULT '{}')
RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql ROWS 10
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT * FROM pgmq.read_with_poll(queue_name, pgmq._seconds_to(vt), qty, max_poll_seconds, poll_interval_ms, conditional);
END $$;

CREATE FUNCTION pgmq.read_with_poll(
	queue_name			text,
	vt					text,
	qty					int,
	max_poll_seconds	int DEFAULT 5,
	poll_interval_ms	int DEFAULT 100,
	conditional			jsonb DEFAULT '{}')
RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql ROWS 10
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT * FROM pgmq.read_with_poll(queue_name, CASE pgmq._kind_of(vt) WHEN 'seconds' THEN vt::int ELSE pgmq._seconds_to(vt::timestamptz) END,
												   qty, max_poll_seconds, poll_interval_ms, conditional);
END $$;

-- The message is gone when the caller's transaction commits.  As in pgmq read_ct does not
-- count the pop.
CREATE FUNCTION pgmq.pop(queue_name text, qty int DEFAULT 1) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql ROWS 1
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	n int;
	missing int := qty;
BEGIN
	WHILE missing > 0 LOOP
		RETURN QUERY SELECT m.msg_id, m.receive_count - 1, m.enqueued_at, CASE m.receive_count WHEN 2 THEN m.first_received_at END,
							clock_timestamp(), pgmq._message(m.body), m.headers
					   FROM cmq_consume(lower(queue_name), least(missing, 1000), 0, NULL) m;
		GET DIAGNOSTICS n = ROW_COUNT;
		EXIT WHEN n < 1000;
		missing := missing - n;
	END LOOP;
END $$;

--
-- Deleting and archiving: the same.  The message is the history's.
--

-- Delete messages, whoever has them or nobody; returns the ids of those deleted.  A handle
-- is stale when somebody else has received the message meanwhile: then there is another one.
CREATE FUNCTION pgmq._delete(queue text, msg_ids bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	missing bigint[] := array_remove(msg_ids, NULL);
	handles text[];
	ids bigint[];
	deleted bigint[];
BEGIN
	LOOP
		SELECT array_agg(d.receipt_handle), array_agg(d.msg_id) INTO handles, ids FROM cmq._deliveries_of(queue, missing, false) d;
		EXIT WHEN handles IS NULL;
		deleted := ARRAY(WITH done AS MATERIALIZED (SELECT h AS handle FROM cmq_delete_batch(queue, handles) h)
						 SELECT d.id FROM done JOIN unnest(handles, ids) d (handle, id) USING (handle));
		RETURN QUERY SELECT d FROM unnest(deleted) d;
		missing := ARRAY(SELECT unnest(missing) EXCEPT SELECT unnest(deleted));
		EXIT WHEN missing = '{}';
	END LOOP;
	IF missing <> '{}' THEN
		RETURN QUERY SELECT d FROM cmq_delete_messages(queue, missing) d;
	END IF;
END $$;

-- The same for one.
CREATE FUNCTION pgmq._delete(queue text, msg_id bigint) RETURNS boolean
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	handle text;
BEGIN
	WHILE msg_id IS NOT NULL LOOP
		SELECT d.receipt_handle INTO handle FROM cmq._deliveries_of(queue, ARRAY[msg_id], false) d;
		EXIT WHEN handle IS NULL;
		IF cmq_delete(queue, handle) THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN msg_id IS NOT NULL AND EXISTS (SELECT FROM cmq_delete_messages(queue, ARRAY[msg_id]));
END $$;

CREATE FUNCTION pgmq.delete(queue_name text, msg_id bigint) RETURNS boolean
LANGUAGE plpgsql
AS $$ BEGIN RETURN pgmq._delete(pg_catalog.lower(queue_name), msg_id); END $$;

CREATE FUNCTION pgmq.delete(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT d FROM pgmq._delete(pg_catalog.lower(queue_name), msg_ids) d; END $$;

CREATE FUNCTION pgmq.archive(queue_name text, msg_id bigint) RETURNS boolean
LANGUAGE plpgsql
AS $$ BEGIN RETURN pgmq._delete(pg_catalog.lower(queue_name), msg_id); END $$;

CREATE FUNCTION pgmq.archive(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT d FROM pgmq._delete(pg_catalog.lower(queue_name), msg_ids) d; END $$;

--
-- Visibility
--

-- Hide messages for so many seconds from now, whoever has them.  One that nobody has read is
-- read and given back, which does not count.
CREATE FUNCTION pgmq._set_vt(queue text, msg_ids bigint[], seconds int) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	hidden int := greatest(seconds, 0);
	missing bigint[] := array_remove(msg_ids, NULL);
	changed bigint[] := '{}';
	waiting cmq.message[];
	handles text[];
	ids bigint[];
BEGIN
	PERFORM pgmq._check_vt(hidden);
	LOOP
		SELECT array_agg(d.receipt_handle), array_agg(d.msg_id) INTO handles, ids FROM cmq._deliveries_of(queue, missing, false) d;
		EXIT WHEN handles IS NULL;
		changed := changed || ARRAY(WITH done AS MATERIALIZED (SELECT c.old_handle AS handle FROM cmq_change_visibility_batch(queue, handles, hidden) c)
									SELECT d.id FROM done JOIN unnest(handles, ids) d (handle, id) USING (handle));
		missing := ARRAY(SELECT unnest(missing) EXCEPT SELECT unnest(changed));
		EXIT WHEN missing = '{}';
	END LOOP;
	RETURN QUERY SELECT d.msg_id, d.receive_count, d.enqueued_at, CASE d.receive_count WHEN 1 THEN d.first_received_at END,
						d.next_visible_at, pgmq._message(d.body), d.headers
				   FROM cmq._deliveries_of(queue, changed, true) d;
	IF missing <> '{}' THEN
		waiting := ARRAY(SELECT m FROM cmq_receive_messages(queue, missing, 1) m);
		PERFORM cmq_release(queue, ARRAY(SELECT m.receipt_handle FROM unnest(waiting) m), hidden, false);
		RETURN QUERY SELECT m.msg_id, m.receive_count - 1, m.enqueued_at, NULL::timestamptz,
							m.next_visible_at + make_interval(secs => hidden - 1), pgmq._message(m.body), m.headers
					   FROM unnest(waiting) m;
	END IF;
END $$;

CREATE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt int) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql ROWS 1
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	name text := lower(queue_name);
	handle text := (SELECT d.receipt_handle FROM cmq._deliveries_of(name, array_remove(ARRAY[msg_id], NULL), false) d);
	changed boolean := false;
BEGIN
	-- most calls, quickly
	IF handle IS NOT NULL AND vt BETWEEN 0 AND 43200 THEN
		changed := cmq_change_visibility(name, handle, vt) IS NOT NULL;
	END IF;
	IF changed THEN
		RETURN QUERY SELECT d.msg_id, d.receive_count, d.enqueued_at, CASE d.receive_count WHEN 1 THEN d.first_received_at END,
							d.next_visible_at, pgmq._message(d.body), d.headers
					   FROM cmq._deliveries_of(name, ARRAY[msg_id], true) d;
	ELSE
		RETURN QUERY SELECT * FROM pgmq._set_vt(name, ARRAY[msg_id], vt);
	END IF;
END $$;

CREATE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt timestamptz) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql ROWS 1
AS $$ BEGIN RETURN QUERY SELECT * FROM pgmq._set_vt(pg_catalog.lower(queue_name), ARRAY[msg_id], pgmq._seconds_to(vt)); END $$;

CREATE FUNCTION pgmq.set_vt(queue_name text, msg_ids bigint[], vt int) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT * FROM pgmq._set_vt(pg_catalog.lower(queue_name), msg_ids, vt); END $$;

CREATE FUNCTION pgmq.set_vt(queue_name text, msg_ids bigint[], vt timestamptz) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT * FROM pgmq._set_vt(pg_catalog.lower(queue_name), msg_ids, pgmq._seconds_to(vt)); END $$;

CREATE FUNCTION pgmq.set_vt(queue_name text, msg_id text, vt text) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT * FROM pgmq._set_vt(lower(queue_name), CASE pgmq._kind_of(msg_id) WHEN 'object' THEN msg_id::bigint[] ELSE ARRAY[msg_id::bigint] END,
											CASE pgmq._kind_of(vt) WHEN 'seconds' THEN vt::int ELSE pgmq._seconds_to(vt::timestamptz) END);
END $$;

--
-- Metrics
--

-- Of one queue, or of all.  No view of a queue is read: its owner can replace it, and then it
-- would run as the caller.  Of what is hidden, and of the rest, the 100 messages are asked for
-- the newest one that become visible last.
CREATE FUNCTION pgmq._metrics(only_queue text) RETURNS SETOF pgmq.metrics_result
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	m record;
	newest timestamptz;
	oldest timestamptz;
BEGIN
	FOR m IN SELECT s.*, q.queue_name
			   FROM pgmq.meta q
			   JOIN cmq.metrics s ON s.queue = lower(q.queue_name::text)
			  WHERE s.queue = coalesce(only_queue, s.queue)
			  ORDER BY s.queue
	LOOP
		newest := NULL;
		oldest := NULL;
		IF m.pending_msg_num > 0 THEN
			SELECT max(n.enqueued_at) INTO newest
			  FROM unnest(ARRAY[NULL, clock_timestamp()]) p (before),
				   cmq_messages(m.queue, 'pending'::text, p.before, NULL::bigint, NULL::jsonb, 100, 1000, true) n
			 WHERE n.matched;
			oldest := (SELECT s.latest_rewind_time FROM cmq.status s WHERE s.queue = m.queue);
			-- with rewind off there is no history that this would count
			IF oldest IS NULL THEN
				oldest := (cmq_queue_attributes(m.queue)).min_msg_time;
			END IF;
		END IF;
		RETURN NEXT ROW(m.queue_name::text, m.pending_msg_num, extract(epoch FROM now() - newest)::int, extract(epoch FROM now() - oldest)::int,
						m.sent, now(), m.pending_msg_num - m.inactive_msg_num - m.delay_msg_num, NULL::bigint)::pgmq.metrics_result;
	END LOOP;
END $$;

CREATE FUNCTION pgmq.metrics(queue_name text) RETURNS pgmq.metrics_result
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	result pgmq.metrics_result;
BEGIN
	SELECT * INTO result FROM pgmq._metrics(lower(queue_name));
	IF NOT FOUND THEN
		-- says why: there is no such queue, or no right
		PERFORM cmq_queue_attributes(lower(queue_name));
	END IF;
	result.queue_name := queue_name;
	RETURN result;
END $$;

CREATE FUNCTION pgmq.metrics_all() RETURNS SETOF pgmq.metrics_result
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT * FROM pgmq._metrics(NULL); END $$;

--
-- Notifications, of messages that pgmq's functions send.  A receive of cmq's that waits
-- needs none.
--

CREATE TABLE pgmq.notify_insert_throttle (
	queue_name				varchar PRIMARY KEY,
	throttle_interval_ms	int NOT NULL DEFAULT 0 CHECK (throttle_interval_ms >= 0),
	last_notified_at		timestamptz NOT NULL DEFAULT to_timestamp(0)
);
COMMENT ON TABLE pgmq.notify_insert_throttle IS 'the queues of which pgmq''s functions notify listeners';

-- Nobody waits for another sender, who is about to notify.
CREATE FUNCTION pgmq._notify(queue text) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
	throttle int := (SELECT n.throttle_interval_ms FROM pgmq.notify_insert_throttle n WHERE n.queue_name = queue);
BEGIN
	IF throttle > 0 THEN
		UPDATE pgmq.notify_insert_throttle n SET last_notified_at = clock_timestamp()
		 WHERE n.queue_name = (SELECT o.queue_name FROM pgmq.notify_insert_throttle o
								WHERE o.queue_name = queue AND o.last_notified_at <= clock_timestamp() - make_interval(secs => throttle / 1000.0)
								  FOR UPDATE SKIP LOCKED);
		IF NOT FOUND THEN
			RETURN;
		END IF;
	END IF;
	PERFORM pg_notify('pgmq.q_' || queue || '.INSERT', NULL);
END $$;

CREATE FUNCTION pgmq.enable_notify_insert(queue_name text, throttle_interval_ms int DEFAULT 250) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM cmq_queue_attributes(lower(enable_notify_insert.queue_name));
	INSERT INTO pgmq.notify_insert_throttle AS n (queue_name, throttle_interval_ms)
	VALUES (lower(enable_notify_insert.queue_name), enable_notify_insert.throttle_interval_ms)
		ON CONFLICT (queue_name) DO UPDATE SET throttle_interval_ms = excluded.throttle_interval_ms, last_notified_at = to_timestamp(0);
END $$;

CREATE FUNCTION pgmq.disable_notify_insert(queue_name text) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM pgmq.notify_insert_throttle n WHERE n.queue_name = lower(disable_notify_insert.queue_name)) THEN
		DELETE FROM pgmq.notify_insert_throttle n WHERE n.queue_name = lower(disable_notify_insert.queue_name);
	END IF;
END $$;

CREATE FUNCTION pgmq.update_notify_insert(queue_name text, throttle_interval_ms int) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE pgmq.notify_insert_throttle n SET throttle_interval_ms = update_notify_insert.throttle_interval_ms, last_notified_at = to_timestamp(0)
	 WHERE n.queue_name = lower(update_notify_insert.queue_name);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING
			ERRCODE = 'undefined_object',
			MESSAGE = format('queue "%s" has no notifications', lower(queue_name)),
			HINT = 'Call pgmq.enable_notify_insert() first.';
	END IF;
END $$;

CREATE FUNCTION pgmq.list_notify_insert_throttles()
RETURNS TABLE (queue_name text, throttle_interval_ms int, last_notified_at timestamptz)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT n.queue_name::text, n.throttle_interval_ms, n.last_notified_at FROM pgmq.notify_insert_throttle n ORDER BY n.queue_name COLLATE "C";
END $$;

CREATE FUNCTION pgmq.enable_notify_delete(queue_name text, throttle_interval_ms int DEFAULT 250) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
	SELECT pgmq._refuse('enable_notify_delete()', 'Query cmq.q_<queue>_history, which has what was deleted, when and by whom.');
END;

--
-- Topics.  In pgmq a # that is a word of a pattern stands for one or more words, and in cmq
-- for any number, also none: so it is *.# there.  A # alone is everything in both.
--

CREATE FUNCTION pgmq._to_key(pattern text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE pattern WHEN '#' THEN pattern ELSE replace(pattern, '#', '*.#') END;

CREATE FUNCTION pgmq._to_pattern(key text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN replace(key, '*.#', '#');

CREATE FUNCTION pgmq._to_regex(pattern text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN '^' || replace(replace(replace(pattern, '.', '\.'), '*', '[^.]+'), '#', '.*') || '$';

CREATE VIEW pgmq.topic_bindings WITH (security_invoker = true) AS
SELECT pgmq._to_pattern(k.key) AS pattern,
	   s.queue AS queue_name,
	   s.create_time AS bound_at,
	   pgmq._to_regex(pgmq._to_pattern(k.key)) AS compiled_regex
  FROM cmq.subscriptions s, unnest(s.binding_keys) k (key)
 WHERE s.topic = 'pgmq';
COMMENT ON VIEW pgmq.topic_bindings IS 'which queues get what pgmq''s functions send by routing key';

CREATE FUNCTION pgmq.validate_routing_key(routing_key text) RETURNS boolean
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	IF routing_key IS NULL OR routing_key !~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,15}$' OR octet_length(routing_key) > 64 THEN
		RAISE EXCEPTION USING
			ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('not a routing key: %s', coalesce(quote_literal(routing_key), 'NULL')),
			HINT = 'It has up to 16 words of letters, digits, - and _ with dots between them, and 64 characters.';
	END IF;
	RETURN true;
END $$;

CREATE FUNCTION pgmq.validate_topic_pattern(pattern text) RETURNS boolean
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	IF pattern IS NULL OR pattern !~ '^[A-Za-z0-9_*#-]+(\.[A-Za-z0-9_*#-]+)*$' OR pattern ~ '[*#]{2}' OR octet_length(pattern) > 255 THEN
		RAISE EXCEPTION USING
			ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('not a pattern of routing keys: %s', coalesce(quote_literal(pattern), 'NULL')),
			HINT = 'It has words of letters, digits, - and _ with dots between them; * stands for one word, # for some.';
	END IF;
	RETURN true;
END $$;

-- One subscription for each queue, so that it gets one copy of a message that several of its
-- patterns match.
CREATE FUNCTION pgmq.bind_topic(pattern text, queue_name text) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	name text := lower(queue_name);
	key text;
	keys text[];
BEGIN
	PERFORM pgmq.validate_topic_pattern(pattern);
	IF pattern ~ '[^.][*#]|[*#][^.]' THEN
		PERFORM pgmq._refuse('bind_topic() with a wildcard inside a word', 'Bind a pattern whose wildcards are words of their own.');
	END IF;
	key := pgmq._to_key(pattern);
	PERFORM pg_advisory_xact_lock(hashtextextended('pgmq.bind_topic ' || name, 0));
	keys := (SELECT s.binding_keys FROM cmq.subscriptions s WHERE s.topic = 'pgmq' AND s.subscription = name);
	IF key = ANY (keys) THEN
		RETURN;
	ELSIF cardinality(keys) = 5 THEN
		RAISE EXCEPTION USING
			ERRCODE = 'program_limit_exceeded',
			MESSAGE = format('queue "%s" is bound to 5 patterns already', name),
			HINT = 'Bind it to a pattern that stands for several of them, or subscribe it to a topic of its own with cmq_subscribe().';
	ELSIF keys IS NOT NULL THEN
		PERFORM cmq_unsubscribe('pgmq', name);
	END IF;
	PERFORM cmq_subscribe('pgmq', name, name, NULL, array_append(keys, key));
END $$;

CREATE FUNCTION pgmq.unbind_topic(pattern text, queue_name text) RETURNS boolean
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	name text := lower(queue_name);
	key text := pgmq._to_key(pattern);
	keys text[];
BEGIN
	PERFORM pg_advisory_xact_lock(hashtextextended('pgmq.bind_topic ' || name, 0));
	keys := (SELECT s.binding_keys FROM cmq.subscriptions s WHERE s.topic = 'pgmq' AND s.subscription = name);
	IF keys IS NULL OR key IS NULL OR key <> ALL (keys) THEN
		RETURN false;
	END IF;
	PERFORM cmq_unsubscribe('pgmq', name);
	IF cardinality(keys) > 1 THEN
		PERFORM cmq_subscribe('pgmq', name, name, NULL, array_remove(keys, key));
	END IF;
	RETURN true;
END $$;

CREATE FUNCTION pgmq.list_topic_bindings()
RETURNS TABLE (pattern text, queue_name text, bound_at timestamptz, compiled_regex text)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT b.pattern, b.queue_name, b.bound_at, b.compiled_regex FROM pgmq.topic_bindings b ORDER BY b.pattern COLLATE "C", b.queue_name;
END $$;

CREATE FUNCTION pgmq.list_topic_bindings(queue_name text)
RETURNS TABLE (pattern text, queue_name text, bound_at timestamptz, compiled_regex text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT b.pattern, b.queue_name, b.bound_at, b.compiled_regex FROM pgmq.topic_bindings b WHERE b.queue_name = lower($1) ORDER BY b.pattern COLLATE "C";
END;

CREATE FUNCTION pgmq.test_routing(routing_key text)
RETURNS TABLE (pattern text, queue_name text, compiled_regex text)
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgmq.validate_routing_key(routing_key);
	RETURN QUERY SELECT b.pattern, b.queue_name, b.compiled_regex FROM pgmq.topic_bindings b
				  WHERE routing_key ~ b.compiled_regex ORDER BY b.pattern COLLATE "C", b.queue_name;
END $$;

CREATE FUNCTION pgmq._send_batch_topic(routing_key text, msgs jsonb[], headers jsonb[], delay int)
RETURNS TABLE (queue_name text, msg_id bigint)
LANGUAGE plpgsql
SET search_path TO pg_catalog, :"cmq_schema", pg_temp
AS $$
DECLARE
	notified text;
BEGIN
	PERFORM pgmq.validate_routing_key(routing_key);
	RETURN QUERY SELECT p.queue, p.msg_id
				   FROM cmq_publish_batch('pgmq', array_replace(msgs::text[], NULL, 'null'), NULL, routing_key, headers, greatest(delay, 0)) p;
	FOR notified IN SELECT n.queue_name FROM pgmq.notify_insert_throttle n JOIN pgmq.test_routing(routing_key) r ON r.queue_name = n.queue_name LOOP
		PERFORM pgmq._notify(notified);
	END LOOP;
END $$;

CREATE FUNCTION pgmq._send_topic(routing_key text, msg jsonb, headers jsonb, delay int) RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	IF msg IS NULL OR delay < 0 THEN
		RAISE EXCEPTION USING
			ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'msg must not be NULL and delay must not be negative';
	END IF;
	RETURN (SELECT count(*) FROM pgmq._send_batch_topic(routing_key, ARRAY[msg], CASE WHEN headers IS NOT NULL THEN ARRAY[headers] END, delay));
END $$;

CREATE FUNCTION pgmq.send_topic(routing_key text, msg jsonb) RETURNS int
LANGUAGE plpgsql
AS $$ BEGIN RETURN pgmq._send_topic(routing_key, msg, NULL, 0); END $$;

CREATE FUNCTION pgmq.send_topic(routing_key text, msg jsonb, delay int) RETURNS int
LANGUAGE plpgsql
AS $$ BEGIN RETURN pgmq._send_topic(routing_key, msg, NULL, delay); END $$;

CREATE FUNCTION pgmq.send_topic(routing_key text, msg jsonb, headers jsonb, delay int DEFAULT 0) RETURNS int
LANGUAGE plpgsql
AS $$ BEGIN RETURN pgmq._send_topic(routing_key, msg, headers, delay); END $$;

CREATE FUNCTION pgmq.send_topic(routing_key text, msg jsonb, delay text) RETURNS int
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE pgmq._kind_of(delay) WHEN 'object' THEN pgmq._send_topic(routing_key, msg, delay::jsonb, 0)
									 ELSE pgmq._send_topic(routing_key, msg, NULL, delay::int) END;
END $$;

CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[])
RETURNS TABLE (queue_name text, msg_id bigint)
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT * FROM pgmq._send_batch_topic(routing_key, msgs, NULL, 0); END $$;

CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], headers jsonb[])
RETURNS TABLE (queue_name text, msg_id bigint)
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT * FROM pgmq._send_batch_topic(routing_key, msgs, headers, 0); END $$;

CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], delay int)
RETURNS TABLE (queue_name text, msg_id bigint)
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT * FROM pgmq._send_batch_topic(routing_key, msgs, NULL, delay); END $$;

CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], delay timestamptz)
RETURNS TABLE (queue_name text, msg_id bigint)
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT * FROM pgmq._send_batch_topic(routing_key, msgs, NULL, pgmq._seconds_to(delay)); END $$;

CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], headers jsonb[], delay int)
RETURNS TABLE (queue_name text, msg_id bigint)
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT * FROM pgmq._send_batch_topic(routing_key, msgs, headers, delay); END $$;

CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], headers jsonb[], delay timestamptz)
RETURNS TABLE (queue_name text, msg_id bigint)
LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY SELECT * FROM pgmq._send_batch_topic(routing_key, msgs, headers, pgmq._seconds_to(delay)); END $$;

--
-- Reads in groups.  Ordered queues of cmq do that, and pgmq.create() makes none.  What is sent
-- with the header x-pgmq-group keeps it.
--

CREATE FUNCTION pgmq.read_grouped(queue_name text, vt int, qty int) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$ BEGIN PERFORM pgmq._refuse_groups('read_grouped()'); END $$;

CREATE FUNCTION pgmq.read_grouped_with_poll(queue_name text, vt int, qty int, max_poll_seconds int DEFAULT 5, poll_interval_ms int DEFAULT 100)
RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$ BEGIN PERFORM pgmq._refuse_groups('read_grouped_with_poll()'); END $$;

CREATE FUNCTION pgmq.read_grouped_rr(queue_name text, vt int, qty int) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$ BEGIN PERFORM pgmq._refuse_groups('read_grouped_rr()'); END $$;

CREATE FUNCTION pgmq.read_grouped_rr_with_poll(queue_name text, vt int, qty int, max_poll_seconds int DEFAULT 5, poll_interval_ms int DEFAULT 100)
RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$ BEGIN PERFORM pgmq._refuse_groups('read_grouped_rr_with_poll()'); END $$;

CREATE FUNCTION pgmq.read_grouped_head(queue_name text, vt int, qty int) RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$ BEGIN PERFORM pgmq._refuse_groups('read_grouped_head()'); END $$;

CREATE FUNCTION pgmq.read_grouped_head_with_poll(queue_name text, vt int, qty int, max_poll_seconds int DEFAULT 5, poll_interval_ms int DEFAULT 100)
RETURNS SETOF pgmq.message_record
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$ BEGIN PERFORM pgmq._refuse_groups('read_grouped_head_with_poll()'); END $$;

CREATE FUNCTION pgmq._refuse_groups(what text) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pgmq._refuse(what, 'Create the queue with cmq_create_queue(.., ordered => true), send with message_group, and call cmq_receive.');
END $$;

-- An index that nothing would use.
CREATE FUNCTION pgmq.create_fifo_index(queue_name text) RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RAISE NOTICE 'no index was created: reads in groups are not supported on top of cmq';
END $$;

CREATE FUNCTION pgmq.create_fifo_indexes_all() RETURNS void
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
	RAISE NOTICE 'no index was created: reads in groups are not supported on top of cmq';
END $$;

\if :{?in_transaction}
	RESET client_min_messages;
	RESET search_path;
\else
	COMMIT;
\endif
