/* sql/cmq_cluster--1.0.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION cmq_cluster" to load this file. \quit

-- Queues of one name on several servers, the nodes.  A message lives on the node that it was
-- sent to, and clients connect to nodes; no message comes through this database.  What spans
-- nodes is here: to manage queues, to bring messages back, to read and to watch.
--
-- A node gives out ids of a class of its own: it has the number that is its
-- cmq.msg_id_offset, and all have the same cmq.msg_id_step.
--
-- What acts on several nodes is a procedure: called outside of a transaction block, it acts
-- on all of them or on none (two-phase commit).  In this order:
--	1. _prepare() has each node do it, in a transaction of its own, and prepare that.  An
--	   error on any node is the error of the call, and nothing has happened anywhere.
--	2. The row in cmq_cluster.decision is committed: from here on it is done.
--	3. _finish() has each node commit what it has prepared.  Where that is not possible,
--	   resolve() does it later.
-- resolve() rolls back what was prepared and has no row.  Each call of a procedure begins
-- with it.
-- The transactions of a call are READ COMMITTED, whatever the default is: what a call reads
-- when it has its turn is what the one before it has committed.
--
-- Rights: a role of this database connects to a node as its user mapping says, so the GRANTs
-- on the node decide.  add_user() makes such mappings.  No function trusts search_path, and
-- nobody else may create anything in schema cmq_cluster: a function there could have a name
-- that is called here, with arguments that fit better.
-- Connections of dblink are the session's, and stay open: code of another role that runs in
-- the session later, as a function in an index of a table that is reindexed, can use them if
-- that role may execute dblink's functions, as everybody may by default.  So superusers use
-- the cluster in sessions of their own, or EXECUTE on these functions is revoked from PUBLIC.

SET LOCAL search_path TO pg_catalog, pg_temp;

REVOKE ALL ON SCHEMA cmq_cluster FROM PUBLIC;
COMMENT ON SCHEMA cmq_cluster IS 'cmq_cluster: queues of one name on several servers with cmq';

--
-- Metadata
--

-- Prepared transactions of this cluster bear its id, also after a dump and a restore: so the
-- row is made with the first node, not with the extension, whose creation comes before the
-- rows of the dump.  Of two databases with one id only one may be used: each would
-- roll back what the other one has prepared.
CREATE TABLE cmq_cluster.id (
	cluster		uuid NOT NULL,
	one			boolean PRIMARY KEY DEFAULT true CHECK (one)
);
SELECT pg_extension_config_dump('cmq_cluster.id', '');
COMMENT ON TABLE cmq_cluster.id IS 'cmq_cluster internal: the id of this cluster';

-- One row per node.  The address is in the foreign server.
CREATE TABLE cmq_cluster.node (
	node		int PRIMARY KEY CHECK (node BETWEEN 0 AND 63),
	server		name NOT NULL UNIQUE,
	step		int NOT NULL,			-- cmq.msg_id_step
	functions	name NOT NULL,			-- the schema of cmq_send ..
	accepts		boolean NOT NULL,		-- new messages
	since		timestamptz NOT NULL DEFAULT now()
);
SELECT pg_extension_config_dump('cmq_cluster.node', '');
COMMENT ON TABLE cmq_cluster.node IS 'cmq_cluster internal: the nodes; query the view cmq_cluster.nodes';

-- One row per queue.
CREATE TABLE cmq_cluster.queue (
	queue		text COLLATE "C" PRIMARY KEY,
	everywhere	boolean NOT NULL		-- on each node that is added, too
);
SELECT pg_extension_config_dump('cmq_cluster.queue', '');
COMMENT ON TABLE cmq_cluster.queue IS 'cmq_cluster internal: the queues of the cluster';

-- The nodes that have a queue, and those of them that get new messages.
CREATE TABLE cmq_cluster.place (
	queue		text COLLATE "C" NOT NULL REFERENCES cmq_cluster.queue ON DELETE CASCADE,
	node		int NOT NULL REFERENCES cmq_cluster.node,
	accepts		boolean NOT NULL,
	PRIMARY KEY (queue, node)
);
SELECT pg_extension_config_dump('cmq_cluster.place', '');
COMMENT ON TABLE cmq_cluster.place IS 'cmq_cluster internal: the nodes that have a queue';

-- The topics, which are on all nodes.
CREATE TABLE cmq_cluster.topic (
	topic		text COLLATE "C" PRIMARY KEY
);
SELECT pg_extension_config_dump('cmq_cluster.topic', '');
COMMENT ON TABLE cmq_cluster.topic IS 'cmq_cluster internal: the topics of the cluster';

-- What was decided and is not known to be committed on all nodes.  The row is there,
-- uncommitted, before a node prepares anything: so whoever meets its key sees whether the
-- call is still under way.
CREATE TABLE cmq_cluster.decision (
	gid			text COLLATE "C" PRIMARY KEY,
	nodes		int[] NOT NULL,
	role		name NOT NULL DEFAULT current_user,
	what		text NOT NULL,
	at			timestamptz NOT NULL DEFAULT clock_timestamp()
);
SELECT pg_extension_config_dump('cmq_cluster.decision', '');
COMMENT ON TABLE cmq_cluster.decision IS 'cmq_cluster internal: calls that are decided, and perhaps not committed on all nodes';

-- Nobody decides for another role: the name of a prepared transaction has the OID of the
-- role that has prepared it.
ALTER TABLE cmq_cluster.decision ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody_reads ON cmq_cluster.decision FOR SELECT USING (true);
CREATE POLICY own ON cmq_cluster.decision
	USING (role = current_user)
	WITH CHECK (role = current_user AND
				split_part(gid, ':', 3) = (SELECT r.oid::text FROM pg_roles r WHERE r.rolname = current_user));

-- Who changes something has a row here until the end of the transaction: calls for one queue
-- take turns, and would else wait for each other on two nodes.
CREATE TABLE cmq_cluster.turn (
	scope		text COLLATE "C" PRIMARY KEY
);
COMMENT ON TABLE cmq_cluster.turn IS 'cmq_cluster internal: calls for one queue take turns';

--
-- Connections
--

-- dblink, wherever it is installed: the names are bound here, once and for all.
DO $do$
DECLARE
	s name := (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'dblink');
BEGIN
	EXECUTE format($f$
CREATE FUNCTION cmq_cluster._open(connection text, server text) RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE BEGIN ATOMIC SELECT %1$I.dblink_connect(connection, server); END;
CREATE FUNCTION cmq_cluster._close(connection text) RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE BEGIN ATOMIC SELECT %1$I.dblink_disconnect(connection); END;
CREATE FUNCTION cmq_cluster._connections() RETURNS text[]
LANGUAGE sql VOLATILE PARALLEL UNSAFE BEGIN ATOMIC SELECT coalesce(%1$I.dblink_get_connections(), '{}'); END;
CREATE FUNCTION cmq_cluster._execute(connection text, command text) RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE BEGIN ATOMIC SELECT %1$I.dblink_exec(connection, command); END;
CREATE FUNCTION cmq_cluster._start(connection text, command text) RETURNS int
LANGUAGE sql VOLATILE PARALLEL UNSAFE BEGIN ATOMIC SELECT %1$I.dblink_send_query(connection, command); END;
CREATE FUNCTION cmq_cluster._cancel(connection text) RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE BEGIN ATOMIC SELECT %1$I.dblink_cancel_query(connection); END;
CREATE FUNCTION cmq_cluster._is_busy(connection text) RETURNS boolean
LANGUAGE sql VOLATILE PARALLEL UNSAFE BEGIN ATOMIC SELECT %1$I.dblink_is_busy(connection) = 1; END;
CREATE FUNCTION cmq_cluster._result(connection text) RETURNS SETOF text
LANGUAGE sql VOLATILE PARALLEL UNSAFE BEGIN ATOMIC SELECT r.line FROM %1$I.dblink_get_result(connection) r(line text); END;
$f$, s);
END $do$;
COMMENT ON FUNCTION cmq_cluster._open(text, text) IS 'cmq_cluster internal: dblink_connect';
COMMENT ON FUNCTION cmq_cluster._close(text) IS 'cmq_cluster internal: dblink_disconnect';
COMMENT ON FUNCTION cmq_cluster._connections() IS 'cmq_cluster internal: dblink_get_connections';
COMMENT ON FUNCTION cmq_cluster._execute(text, text) IS 'cmq_cluster internal: dblink_exec';
COMMENT ON FUNCTION cmq_cluster._start(text, text) IS 'cmq_cluster internal: dblink_send_query';
COMMENT ON FUNCTION cmq_cluster._cancel(text) IS 'cmq_cluster internal: dblink_cancel_query';
COMMENT ON FUNCTION cmq_cluster._is_busy(text) IS 'cmq_cluster internal: dblink_is_busy';
COMMENT ON FUNCTION cmq_cluster._result(text) IS 'cmq_cluster internal: dblink_get_result';

CREATE FUNCTION cmq_cluster._is_open(connection text) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN connection = ANY (cmq_cluster._connections());
END $$;
COMMENT ON FUNCTION cmq_cluster._is_open(text) IS 'cmq_cluster internal: is there such a connection of dblink?';

-- Close a connection, whatever it is doing.
CREATE FUNCTION cmq_cluster._drop(connection text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF cmq_cluster._is_open(connection) THEN
		IF cmq_cluster._is_busy(connection) THEN
			PERFORM cmq_cluster._cancel(connection);
		END IF;
		PERFORM cmq_cluster._close(connection);
	END IF;
EXCEPTION WHEN OTHERS THEN
	NULL;
END $$;
COMMENT ON FUNCTION cmq_cluster._drop(text) IS 'cmq_cluster internal: close a connection, whatever it is doing';

-- Raise an error that somebody else has raised; detail and hint can be NULL or empty.
CREATE FUNCTION cmq_cluster._raise(code text, message text, detail text, hint text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF detail <> '' AND hint <> '' THEN
		RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint;
	ELSIF detail <> '' THEN
		RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail;
	ELSIF hint <> '' THEN
		RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint;
	ELSE
		RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message;
	END IF;
END $$;
COMMENT ON FUNCTION cmq_cluster._raise(text, text, text, text) IS 'cmq_cluster internal: raise an error that somebody else has raised';

-- How names of the session's connections to a node begin.  They are of the current role alone.
CREATE FUNCTION cmq_cluster._connection_prefix(node int) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN format('cmq_cluster:%s:%s:', node, (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user));
END $$;
COMMENT ON FUNCTION cmq_cluster._connection_prefix(int) IS 'cmq_cluster internal: how names of the session''s connections to a node begin';

-- The name of the session's connection to a node: another one when its server or the user
-- mapping has changed, so that no connection to what was there before is used again.
CREATE FUNCTION cmq_cluster._connection(node int) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN cmq_cluster._connection_prefix(node) || coalesce((
		SELECT hashtextextended(concat_ws(' ', s.oid, s.srvoptions, m.umid, m.umoptions), 0)
		  FROM cmq_cluster.node n
		  JOIN pg_foreign_server s ON s.srvname = n.server
		  LEFT JOIN pg_user_mappings m ON m.srvid = s.oid AND m.umuser IN ((SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user), 0)
		 WHERE n.node = $1
		 ORDER BY m.umuser DESC LIMIT 1), 0);
END $$;
COMMENT ON FUNCTION cmq_cluster._connection(int) IS 'cmq_cluster internal: the name of the session''s connection to a node';

-- The session's connection to a node, made if need be, in no transaction.  How long a call
-- may take is for this session to say, not for the role on the node: a node must not give up
-- while it waits for others.  What it commits is to be there after a crash, because then the
-- decision is deleted.
-- Raises 08001.
CREATE FUNCTION cmq_cluster._connect(node int) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	connection text := cmq_cluster._connection(node);
	server name := (SELECT n.server FROM cmq_cluster.node n WHERE n.node = $1);
	old text;
	message text;
	detail text;
	code text;
BEGIN
	IF server IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('there is no node %s', node),
			HINT = 'See cmq_cluster.nodes.';
	END IF;
	IF cmq_cluster._is_open(connection) THEN
		BEGIN
			-- BEGIN, because ROLLBACK alone is a warning in the log of the node
			PERFORM cmq_cluster._execute(connection, 'BEGIN; ROLLBACK');
			RETURN connection;
		EXCEPTION WHEN OTHERS THEN
			PERFORM cmq_cluster._drop(connection);
		END;
	END IF;
	FOREACH old IN ARRAY cmq_cluster._connections() LOOP
		IF starts_with(old, cmq_cluster._connection_prefix(node)) THEN
			PERFORM cmq_cluster._drop(old);
		END IF;
	END LOOP;
	BEGIN
		PERFORM cmq_cluster._open(connection, server);
		PERFORM cmq_cluster._execute(connection, $c$SET search_path = pg_catalog, pg_temp; SET "DateStyle" = 'ISO'; SET "TimeZone" = 'UTC'; SET "IntervalStyle" = 'postgres'; SET extra_float_digits = 3; SET client_min_messages = error; SET synchronous_commit = on;
			DO $do$ BEGIN
				PERFORM set_config(s.name, '0', false) FROM pg_settings s
				  WHERE s.name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout');
			END $do$ $c$);
	EXCEPTION
		WHEN query_canceled THEN
			PERFORM cmq_cluster._drop(connection);
			RAISE;
		WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, code = RETURNED_SQLSTATE;
			PERFORM cmq_cluster._drop(connection);
			IF code LIKE '08%' THEN
				RAISE EXCEPTION USING ERRCODE = 'sqlclient_unable_to_establish_sqlconnection',
					MESSAGE = format('node %s cannot be reached', node),
					DETAIL = coalesce(nullif(detail, ''), message),
					HINT = 'Nothing was done on any node.';
			END IF;
			-- 42704, as for a missing user mapping, means to who finishes that the node has finished
			PERFORM cmq_cluster._raise(CASE WHEN code = '42704' THEN '08001' ELSE code END, format('node %s: %s', node, message), detail,
				format('Nothing was done on any node. Each role that uses the cluster needs a user mapping: CALL cmq_cluster.add_user(%L, ..);', current_user));
	END;
	RETURN connection;
END $$;
COMMENT ON FUNCTION cmq_cluster._connect(int) IS 'cmq_cluster internal: the name of the session''s connection to a node, made if need be';

-- The lines of all results of what a connection was sent: a command without result has its
-- tag.  Each result must have a line.  Raises what the node raises; then the connection is
-- ready for the next command all the same.
CREATE FUNCTION cmq_cluster._lines(connection text) RETURNS text[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	all_lines text[] := '{}';
	lines text[];
BEGIN
	LOOP
		lines := ARRAY(SELECT r FROM cmq_cluster._result(connection) r);
		EXIT WHEN cardinality(lines) = 0;
		all_lines := all_lines || lines;
	END LOOP;
	RETURN all_lines;
END $$;
COMMENT ON FUNCTION cmq_cluster._lines(text) IS 'cmq_cluster internal: the lines of all results of a command';

-- Roll back what a connection is doing, and wait until that is so: what comes next must not
-- meet its locks.
CREATE FUNCTION cmq_cluster._abandon(connection text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT cmq_cluster._is_open(connection) THEN
		RETURN;
	END IF;
	IF cmq_cluster._is_busy(connection) THEN
		PERFORM cmq_cluster._cancel(connection);
	END IF;
	FOR i IN 1 .. 2 LOOP
		BEGIN
			PERFORM cmq_cluster._lines(connection);
			EXIT;
		EXCEPTION WHEN OTHERS OR query_canceled THEN
			NULL;
		END;
	END LOOP;
	PERFORM cmq_cluster._execute(connection, 'ROLLBACK');
EXCEPTION WHEN OTHERS OR query_canceled THEN
	PERFORM cmq_cluster._drop(connection);
END $$;
COMMENT ON FUNCTION cmq_cluster._abandon(text) IS 'cmq_cluster internal: roll back what a connection is doing';

-- Have each of the nodes run a command, all at once; a row per node, with the last line of
-- its result, or what went wrong.  With must_work the first error is raised when all nodes
-- have answered: 08001 if the node cannot be reached, or was lost.  With go_on the nodes are
-- in the transactions that a command before has begun; else in none.
CREATE FUNCTION cmq_cluster._ask(nodes int[], commands text[], must_work boolean, go_on boolean DEFAULT false)
RETURNS TABLE (node int, answer text, error text, code text, detail text, hint text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	connections text[] := '{}';
	codes text[] := '{}';
	errors text[] := '{}';
	details text[] := '{}';
	hints text[] := '{}';
	lines text[];
	first_error text;
	first_code text;
	first_detail text;
	first_hint text;
BEGIN
	FOR i IN 1 .. cardinality(nodes) LOOP
		BEGIN
			connections[i] := CASE WHEN go_on THEN cmq_cluster._connection(nodes[i]) ELSE cmq_cluster._connect(nodes[i]) END;
			PERFORM cmq_cluster._start(connections[i], commands[i]);
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS error = MESSAGE_TEXT, code = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
			connections[i] := NULL;
			codes[i] := code;
			errors[i] := error;
			details[i] := detail;
			hints[i] := hint;
			EXIT WHEN must_work;
		END;
	END LOOP;
	FOR i IN 1 .. cardinality(connections) LOOP
		node := nodes[i];
		answer := NULL;
		error := NULL;
		code := NULL;
		detail := NULL;
		hint := NULL;
		BEGIN
			IF connections[i] IS NULL THEN
				error := errors[i];
				code := codes[i];
				detail := details[i];
				hint := hints[i];
			ELSE
				lines := cmq_cluster._lines(connections[i]);
				answer := lines[cardinality(lines)];
				IF cardinality(lines) = 0 THEN
					RAISE EXCEPTION USING ERRCODE = 'connection_failure', MESSAGE = 'no answer';
				END IF;
			END IF;
		EXCEPTION
			WHEN query_canceled THEN
				-- of this session, or of the one on the node
				GET STACKED DIAGNOSTICS error = MESSAGE_TEXT, code = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
				FOR k IN i .. cardinality(connections) LOOP
					PERFORM cmq_cluster._abandon(connections[k]);
				END LOOP;
				PERFORM cmq_cluster._raise(code, error, detail, hint);
			WHEN OTHERS THEN
				GET STACKED DIAGNOSTICS error = MESSAGE_TEXT, code = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
				IF code LIKE '08%' OR code LIKE '57P0%' THEN
					detail := concat_ws(' ', error || '.', detail);
					error := format('node %s was lost', node);
					code := '08001';
					hint := NULL;
					PERFORM cmq_cluster._drop(connections[i]);
				ELSE
					error := format('node %s: %s', node, error);
					BEGIN
						PERFORM cmq_cluster._lines(connections[i]);
					EXCEPTION WHEN OTHERS THEN
						PERFORM cmq_cluster._drop(connections[i]);
					END;
				END IF;
		END;
		IF error IS NOT NULL AND first_error IS NULL THEN
			first_error := error;
			first_code := code;
			first_detail := detail;
			first_hint := hint;
		END IF;
		RETURN NEXT;
	END LOOP;
	IF must_work AND first_error IS NOT NULL THEN
		PERFORM cmq_cluster._raise(first_code, first_error, first_detail, coalesce(nullif(first_hint, ''), 'Nothing was done on any node.'));
	END IF;
END $$;
COMMENT ON FUNCTION cmq_cluster._ask(int[], text[], boolean, boolean) IS 'cmq_cluster internal: have nodes run a command, all at once';

--
-- Commands for nodes
--

-- An argument as it is sent to a node: NULL stays NULL.
CREATE FUNCTION cmq_cluster._arg(name text, value anyelement) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp SET "DateStyle" = 'ISO' SET "TimeZone" = 'UTC' AS $$
BEGIN
	RETURN format('%I => %L', name, value);
END $$;
COMMENT ON FUNCTION cmq_cluster._arg(text, anyelement) IS 'cmq_cluster internal: an argument as it is sent to a node';

-- For each of the nodes, a call of one of cmq's functions.
CREATE FUNCTION cmq_cluster._calls(nodes int[], function text, VARIADIC arguments text[]) RETURNS text[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN ARRAY(
		SELECT format('SELECT %I.%I(%s)', n.functions, function, array_to_string(arguments, ', '))
		  FROM unnest(nodes) WITH ORDINALITY u(node, i)
		  JOIN cmq_cluster.node n ON n.node = u.node
		 ORDER BY u.i);
END $$;
COMMENT ON FUNCTION cmq_cluster._calls(int[], text, text[]) IS 'cmq_cluster internal: a call of one of cmq''s functions, for each of the nodes';

CREATE FUNCTION cmq_cluster._nodes() RETURNS int[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN ARRAY(SELECT n.node FROM cmq_cluster.node n ORDER BY n.node);
END $$;
COMMENT ON FUNCTION cmq_cluster._nodes() IS 'cmq_cluster internal: all nodes';

-- The nodes that have a queue.  Raises 42704.
CREATE FUNCTION cmq_cluster._nodes_of(queue text) RETURNS int[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	nodes int[] := ARRAY(SELECT p.node FROM cmq_cluster.place p WHERE p.queue = $1 ORDER BY p.node);
BEGIN
	IF cardinality(nodes) = 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object',
			MESSAGE = format('the cluster has no queue "%s"', queue),
			HINT = 'A queue that is on some nodes already becomes one of the cluster with CALL cmq_cluster.adopt_queue(..).';
	END IF;
	RETURN nodes;
END $$;
COMMENT ON FUNCTION cmq_cluster._nodes_of(text) IS 'cmq_cluster internal: the nodes that have a queue';

CREATE FUNCTION cmq_cluster._make_id() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO cmq_cluster.id VALUES (gen_random_uuid()) ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION cmq_cluster._make_id() IS 'cmq_cluster internal: have an id of this cluster';

CREATE FUNCTION cmq_cluster._gid_prefix() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN 'cmq_cluster:' || (SELECT i.cluster FROM cmq_cluster.id i) || ':';
END $$;
COMMENT ON FUNCTION cmq_cluster._gid_prefix() IS 'cmq_cluster internal: how names of prepared transactions of this cluster begin';

--
-- One decision for all nodes
--

-- Wait for other calls that change the same, until the end of the transaction.  A call that
-- names two queues, or a queue and a topic, takes both turns.  Whoever acts
-- on what this database says, as which nodes have a queue, reads it when it has its turn.
CREATE FUNCTION cmq_cluster._take_turn(scope text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF scope IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the name of a queue or topic must not be NULL';
	END IF;
	INSERT INTO cmq_cluster.turn VALUES (scope);
	DELETE FROM cmq_cluster.turn t WHERE t.scope = $1;
	PERFORM cmq_cluster._finish_others();
END $$;
COMMENT ON FUNCTION cmq_cluster._take_turn(text) IS 'cmq_cluster internal: wait for other calls that change the same';

-- What a call has waited for is decided, and perhaps not committed yet on all nodes.
CREATE FUNCTION cmq_cluster._finish_others() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM cmq_cluster.decision) THEN
		PERFORM FROM cmq_cluster.resolve();
	END IF;
END $$;
COMMENT ON FUNCTION cmq_cluster._finish_others() IS 'cmq_cluster internal: have the nodes commit what calls before have decided';

-- Have the nodes roll back what they have perhaps prepared.  What goes wrong is left to
-- resolve().
CREATE FUNCTION cmq_cluster._take_back(gid text, nodes int[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM FROM cmq_cluster._ask(nodes, array_fill(format('ROLLBACK PREPARED %L', gid), ARRAY[cardinality(nodes)]), false);
EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
	NULL;
END $$;
COMMENT ON FUNCTION cmq_cluster._take_back(text, int[]) IS 'cmq_cluster internal: have the nodes roll back what they have perhaps prepared';

-- Have each node run its command in a transaction, and prepare that.  The caller has taken
-- its turn, commits, and calls _finish().  answers: the last line of each command's result.
--   expected   the sum that these must have; NULL: any
-- The caller has changed what is here of queues before: whoever reads on the front has locks
-- there and waits for those that nodes have prepared, so nobody may wait the other way round.
-- Raises what a node raises, 08001 for a node that cannot be reached, 21000 for another sum;
-- then nothing happens anywhere: what a node has perhaps prepared is rolled back by resolve().
CREATE FUNCTION cmq_cluster._prepare(what text, scope text, nodes int[], commands text[],
	expected bigint, OUT gid text, OUT answers text[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	n int := cardinality(nodes);
	total numeric;
	preparing boolean := false;
BEGIN
	gid := cmq_cluster._gid_prefix() || (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user) || ':' || gen_random_uuid();
	INSERT INTO cmq_cluster.decision (gid, nodes, what) VALUES (_prepare.gid, _prepare.nodes, _prepare.what);
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;
	answers := ARRAY(SELECT a.answer FROM cmq_cluster._ask(nodes, ARRAY(SELECT
		'BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = ''30s''; SET LOCAL cmq.reason = '
		|| quote_literal(coalesce(current_setting('cmq.reason', true), '')) || '; ' || c FROM unnest(commands) c), true) a);
	IF expected IS NOT NULL THEN
		total := (SELECT sum(a::numeric) FROM unnest(answers) a);
		IF total <> expected THEN
			RAISE EXCEPTION USING ERRCODE = 'cardinality_violation',
				MESSAGE = format('%s would bring back %s messages, not %s', what, total, expected),
				DETAIL = (SELECT string_agg(format('node %s: %s', u.node, u.answer), ', ' ORDER BY u.node) FROM unnest(nodes, answers) u(node, answer)),
				HINT = format('Nothing was done on any node. See cmq_cluster.rewind_preview(%L, ..).', scope);
		END IF;
	END IF;
	preparing := true;
	IF EXISTS (SELECT FROM cmq_cluster._ask(nodes, array_fill(format('PREPARE TRANSACTION %L', gid), ARRAY[n]), true, true) a
				WHERE a.answer IS DISTINCT FROM 'PREPARE TRANSACTION') THEN
		RAISE EXCEPTION 'a node has prepared nothing';
	END IF;
EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
	FOR i IN 1 .. n LOOP
		PERFORM cmq_cluster._abandon(cmq_cluster._connection(nodes[i]));
	END LOOP;
	IF preparing THEN
		PERFORM cmq_cluster._take_back(gid, nodes);
	END IF;
	RAISE;
END $$;
COMMENT ON FUNCTION cmq_cluster._prepare(text, text, int[], text[], bigint) IS 'cmq_cluster internal: have each node do its part, and prepare it';

-- COMMIT PREPARED or ROLLBACK PREPARED on nodes; a row for each that has not done it.  Another
-- session can be faster, or be doing it just now: 55000, and then it is waited for.
CREATE FUNCTION cmq_cluster._end(gid text, outcome text, nodes int[]) RETURNS TABLE (node int, error text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	answer record;
	busy int[];
BEGIN
	FOR i IN 1 .. 100 LOOP
		busy := '{}';
		FOR answer IN SELECT a.* FROM cmq_cluster._ask(nodes, array_fill(format('%s PREPARED %L', outcome, gid), ARRAY[cardinality(nodes)]), false) a
					   WHERE a.code <> '42704'
		LOOP
			IF answer.code = '55000' AND i < 100 THEN
				busy := busy || answer.node;
			ELSE
				node := answer.node;
				error := answer.error;
				RETURN NEXT;
			END IF;
		END LOOP;
		EXIT WHEN cardinality(busy) = 0;
		nodes := busy;
		PERFORM pg_sleep(0.03);
	END LOOP;
END $$;
COMMENT ON FUNCTION cmq_cluster._end(text, text, int[]) IS 'cmq_cluster internal: have nodes commit or roll back what they have prepared';

-- Have the nodes commit what was decided.  What goes wrong, whatever it is, is a warning: it
-- is decided, and an error would say that nothing has happened.
CREATE FUNCTION cmq_cluster._finish(gid text, nodes int[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	answer record;
	all_done boolean := true;
BEGIN
	FOR answer IN SELECT e.* FROM cmq_cluster._end(gid, 'COMMIT', nodes) e LOOP
		all_done := false;
		RAISE WARNING USING MESSAGE = format('node %s has not committed yet what was decided', answer.node),
			DETAIL = answer.error,
			HINT = 'SELECT * FROM cmq_cluster.resolve(); finishes it when the node is back, and so does the next call.';
	END LOOP;
	IF all_done THEN
		DELETE FROM cmq_cluster.decision d WHERE d.gid = $1;
	END IF;
EXCEPTION
	WHEN query_canceled THEN
		RAISE WARNING USING MESSAGE = 'the call was cancelled after it was decided',
			HINT = 'SELECT * FROM cmq_cluster.resolve(); finishes it, and so does the next call.';
	WHEN OTHERS OR assert_failure THEN
		RAISE WARNING USING MESSAGE = 'the call was interrupted after it was decided', DETAIL = SQLERRM,
			HINT = 'SELECT * FROM cmq_cluster.resolve(); finishes it, and so does the next call.';
END $$;
COMMENT ON FUNCTION cmq_cluster._finish(text, int[]) IS 'cmq_cluster internal: have the nodes commit what was decided';

-- What is to become of a prepared transaction: commit, rollback, or wait, because the call
-- is under way.  The uncommitted row of that call keeps ours from being added.  Runs with
-- the rights of the extension's owner, because the row is of another role, perhaps.
CREATE FUNCTION cmq_cluster._fate(gid text) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
BEGIN
	INSERT INTO cmq_cluster.decision (gid, nodes, what) VALUES ($1, '{}', '');
	RAISE EXCEPTION USING ERRCODE = 'triggered_action_exception';	-- takes the row back
EXCEPTION
	WHEN unique_violation THEN
		RETURN 'commit';
	WHEN lock_not_available THEN
		RETURN 'wait';
	WHEN triggered_action_exception THEN
		RETURN 'rollback';
END $$;
COMMENT ON FUNCTION cmq_cluster._fate(text) IS 'cmq_cluster internal: what is to become of a prepared transaction';

-- resolve: finish what calls have left that were interrupted, by a crash of this server or
-- of a node.
--
-- What was decided is committed, the rest is rolled back; calls under way are left alone.
-- Each call of a procedure does it first; where calls are rare have cron do it, because
-- what is prepared keeps locks and holds up vacuum on the node.
-- Result: a row for each node that cannot be reached, and one for each transaction that was
--   left: outcome is commit, rollback, or what went wrong.
-- Needs: a user mapping; on the node, to be the role that has prepared the transaction, or
--   a superuser.
-- Errors: none for a node or a transaction; outcome says what went wrong.
CREATE FUNCTION cmq_cluster.resolve(OUT node int, OUT gid text, OUT outcome text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- all nodes had prepared these before they are asked below; and only now: which nodes
	-- there are, because add_node decides when it adds one
	decided text[] := ARRAY(SELECT d.gid FROM cmq_cluster.decision d);
	nodes int[] := cmq_cluster._nodes();
	prefix text := cmq_cluster._gid_prefix();
	alive int[] := '{}';
	left_over text[] := '{}';
	found record;
	answer record;
BEGIN
	FOR found IN
		SELECT a.node, a.error, a.answer
		  FROM cmq_cluster._ask(nodes, array_fill(format(
			$c$SELECT coalesce(json_agg(p.gid), '[]') FROM pg_prepared_xacts p WHERE p.database = current_database() AND p.gid LIKE %L || '%%'$c$,
			replace(prefix, '_', '\_')), ARRAY[cardinality(nodes)]), false) a
	LOOP
		node := found.node;
		IF found.error IS NOT NULL THEN
			gid := NULL;
			outcome := found.error;
			RETURN NEXT;
			CONTINUE;
		END IF;
		alive := alive || node;
		FOR gid IN SELECT json_array_elements_text(found.answer::json) LOOP
			outcome := cmq_cluster._fate(gid);
			CONTINUE WHEN outcome = 'wait';
			SELECT e.error INTO answer FROM cmq_cluster._end(gid, outcome, ARRAY[node]) e;
			IF answer.error IS NOT NULL THEN
				left_over := left_over || gid;
				outcome := answer.error;
			END IF;
			RETURN NEXT;
		END LOOP;
	END LOOP;
	-- all nodes of a decision have committed it
	DELETE FROM cmq_cluster.decision d
	 WHERE d.gid = ANY (decided) AND d.nodes <@ alive AND d.gid <> ALL (left_over);
END $$;
COMMENT ON FUNCTION cmq_cluster.resolve() IS 'finish what calls have left that were interrupted: commit what was decided, roll back the rest';

-- Each procedure begins with this: what an earlier call has left could be in its way.
CREATE FUNCTION cmq_cluster._begin() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM cmq_cluster.node) THEN
		PERFORM FROM cmq_cluster.resolve();
	END IF;
END $$;
COMMENT ON FUNCTION cmq_cluster._begin() IS 'cmq_cluster internal: what each procedure begins with';

--
-- What is here of a queue: views over all nodes
--

-- The columns of a queue's views, as a node says: the command that asks for them.
CREATE FUNCTION cmq_cluster._ask_columns(queue text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN format($c$SELECT json_object_agg(v.kind, (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
		FROM pg_attribute a WHERE a.attrelid = format('cmq.%%I', %L || v.kind)::regclass AND a.attnum > 0 AND NOT a.attisdropped))
		FROM unnest('{live,history,all}'::text[]) v(kind)$c$, 'q_' || queue || '_');
END $$;
COMMENT ON FUNCTION cmq_cluster._ask_columns(text) IS 'cmq_cluster internal: the command that asks a node for the columns of a queue''s views';

-- The same, as they are here already: no node has to answer for that.
CREATE FUNCTION cmq_cluster._columns(queue text) RETURNS json
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT json_object_agg(v.kind, (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
			  FROM pg_attribute a
			 WHERE a.attrelid = format('cmq_cluster.%I', '_q_' || queue || '_' || v.kind)::regclass AND a.attname <> 'node' AND a.attnum > 0 AND NOT a.attisdropped))
			  FROM unnest('{live,history,all}'::text[]) v(kind));
END $$;
COMMENT ON FUNCTION cmq_cluster._columns(text) IS 'cmq_cluster internal: the columns of a queue''s views, as they are here';

-- Commands for a node that make, or drop, the views in its schema cmq_node: those of the
-- queue with the number of the node.
CREATE FUNCTION cmq_cluster._make_node_views(node int, queue text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT string_agg(format('CREATE OR REPLACE VIEW cmq_node.%1$I WITH (security_invoker) AS SELECT %2$s AS node, v.* FROM cmq.%1$I v; ', 'q_' || queue || kind, node), '')
			  FROM unnest('{_live,_history,_all}'::text[]) kind);
END $$;
COMMENT ON FUNCTION cmq_cluster._make_node_views(int, text) IS 'cmq_cluster internal: commands for a node that make its views of a queue';

CREATE FUNCTION cmq_cluster._drop_node_views(queue text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT string_agg(format('DROP VIEW IF EXISTS cmq_node.%I; ', 'q_' || queue || kind), '')
			  FROM unnest('{_live,_history,_all}'::text[]) kind);
END $$;
COMMENT ON FUNCTION cmq_cluster._drop_node_views(text) IS 'cmq_cluster internal: commands for a node that drop its views of a queue';

-- Ask all nodes whether they answer, and note it for this transaction: answers_<node> is the
-- number of the node, or -1.  Returns NULL.
CREATE FUNCTION cmq_cluster._probe() RETURNS int
LANGUAGE plpgsql STABLE PARALLEL UNSAFE COST 1 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	nodes int[] := cmq_cluster._nodes();
BEGIN
	PERFORM set_config('cmq_cluster.answers_' || a.node, CASE WHEN a.error IS NULL THEN a.node ELSE -1 END::text, false)
	   FROM cmq_cluster._ask(nodes, array_fill('SELECT 1'::text, ARRAY[cardinality(nodes)]), false) a;
	PERFORM set_config('cmq_cluster.asked_at', now()::text, false);
	RETURN NULL;
END $$;
COMMENT ON FUNCTION cmq_cluster._probe() IS 'cmq_cluster internal: ask all nodes whether they answer; NULL';

-- Ask all nodes if this transaction has not done so.  Returns NULL.  A query asks when it
-- begins, and again at its end, for the rows of nodes that do not answer; with a cursor, or a
-- driver that binds and executes, that is another statement, and a node that came back in
-- between would have neither its messages in the result nor its row.
CREATE FUNCTION cmq_cluster._asked() RETURNS int
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT CASE WHEN current_setting('cmq_cluster.asked_at', true) = now()::text THEN NULL ELSE cmq_cluster._probe() END;
END;
COMMENT ON FUNCTION cmq_cluster._asked() IS 'cmq_cluster internal: ask all nodes whether they answer, once for each transaction; NULL';

-- The qualification of a view over the nodes of a queue: the partitions of nodes that do not
-- answer are removed when the plan is started, before anything connects to them.  That takes
-- a branch per node; the branches are computed in this order, the one that asks first.  They
-- are in the plan of each partition, and are computed for each row: so they are small, and
-- cheap in the eyes of the planner, or plans over many nodes would be compiled (JIT).
CREATE FUNCTION cmq_cluster._answering(nodes int[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN 't.node = cmq_cluster._asked()'
		|| (SELECT string_agg(format(' OR t.node = current_setting(''cmq_cluster.answers_%s'', true)::int', n), '' ORDER BY n) FROM unnest(nodes) n);
END $$;
COMMENT ON FUNCTION cmq_cluster._answering(int[]) IS 'cmq_cluster internal: the qualification of a view over these nodes: the node answers';

CREATE FUNCTION cmq_cluster._dead(nodes int[]) RETURNS SETOF int
LANGUAGE plpgsql STABLE PARALLEL UNSAFE ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM cmq_cluster._asked();
	RETURN QUERY SELECT n FROM unnest(nodes) n WHERE current_setting('cmq_cluster.answers_' || n, true) IS DISTINCT FROM n::text;
END $$;
COMMENT ON FUNCTION cmq_cluster._dead(int[]) IS 'cmq_cluster internal: those of the nodes that do not answer';

-- Let those who may use the cluster read a relation; what they see is for the nodes to say.
CREATE FUNCTION cmq_cluster._let_read(relation text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	role regrole;
BEGIN
	FOR role IN
		SELECT DISTINCT a.grantee::regrole
		  FROM pg_namespace n, aclexplode(n.nspacl) a
		 WHERE n.nspname = 'cmq_cluster' AND a.privilege_type = 'USAGE' AND a.grantee <> 0 AND a.grantee <> n.nspowner
	LOOP
		EXECUTE format('GRANT SELECT ON cmq_cluster.%I TO %s', relation, role);
	END LOOP;
END $$;
COMMENT ON FUNCTION cmq_cluster._let_read(text) IS 'cmq_cluster internal: let those who may use the cluster read a relation';

-- Make the views of a queue, or change them for the nodes that have it now.  columns is what
-- _ask_columns() has returned; a node is not trusted with commands that run here, so its
-- types must be names of types.  The views are of the owner of the extension, with whose
-- rights this runs; managers may execute it.
--	_q_<queue>_<kind>				a partition for each node, a foreign table, and an empty one
--	q_<queue>_<kind>				what it has, but of nodes that do not answer; these are rows
CREATE FUNCTION cmq_cluster._define(queue text, columns json) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = 'warning' AS $$
DECLARE
	nodes int[] := cmq_cluster._nodes_of(queue);
	kind text;
	relation text;
	place record;
	list text;
	nulls text;
BEGIN
	FOREACH kind IN ARRAY '{live,history,all}'::text[] LOOP
		relation := 'q_' || queue || '_' || kind;
		SELECT string_agg(format('%I %s', c ->> 0, (c ->> 1)::regtype), ', '),
			   string_agg(CASE WHEN c ->> 0 = 'state' THEN '''unreachable''' ELSE format('NULL::%s', (c ->> 1)::regtype) END, ', ')
		  INTO list, nulls
		  FROM json_array_elements(columns -> kind) c;
		IF EXISTS (SELECT FROM json_array_elements(columns -> kind) c
					 LEFT JOIN pg_type y ON y.oid = to_regtype(c ->> 1) AND y.typnamespace = 'pg_catalog'::regnamespace AND format_type(y.oid, NULL) = c ->> 1
					WHERE y.oid IS NULL) THEN
			RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('a node has columns of unknown types in the views of queue "%s"', queue);
		END IF;
		EXECUTE format('CREATE TABLE IF NOT EXISTS cmq_cluster.%I (node int, %s) PARTITION BY LIST (node)', '_' || relation, list);
		EXECUTE format('COMMENT ON TABLE cmq_cluster.%I IS %L', '_' || relation, 'cmq_cluster internal: a partition for each node');
		-- a plan for one partition alone leaves out none when it is started
		EXECUTE format('CREATE TABLE IF NOT EXISTS cmq_cluster.%I PARTITION OF cmq_cluster.%I FOR VALUES IN (-2)', '_x_' || relation, '_' || relation);
		EXECUTE format('COMMENT ON TABLE cmq_cluster.%I IS %L', '_x_' || relation, 'cmq_cluster internal: empty');
		FOR place IN
			SELECT coalesce(w.node, h.node) AS node, w.node IS NOT NULL AS wanted, h.name IS NOT NULL AS here,
				   coalesce(h.name, format('_%s_%s', w.node, relation)) AS name, n.server
			  FROM unnest(nodes) w(node)
			  LEFT JOIN cmq_cluster.node n ON n.node = w.node
			  FULL JOIN (SELECT c.relname AS name, substring(pg_get_expr(c.relpartbound, c.oid) FROM '\d+')::int AS node
						   FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
						  WHERE i.inhparent = format('cmq_cluster.%I', '_' || relation)::regclass AND c.relkind = 'f') h ON h.node = w.node
		LOOP
			IF NOT place.wanted THEN
				EXECUTE format('DROP FOREIGN TABLE cmq_cluster.%I', place.name);
			ELSIF NOT place.here THEN
				EXECUTE format('CREATE FOREIGN TABLE cmq_cluster.%I PARTITION OF cmq_cluster.%I FOR VALUES IN (%s) SERVER %I OPTIONS (schema_name ''cmq_node'', table_name %L)',
					place.name, '_' || relation, place.node, place.server, relation);
			END IF;
		END LOOP;
		EXECUTE format('CREATE OR REPLACE VIEW cmq_cluster.%I WITH (security_invoker) AS SELECT t.* FROM cmq_cluster.%I t WHERE %s UNION ALL SELECT d, %s FROM cmq_cluster._dead(%L) d',
			relation, '_' || relation, cmq_cluster._answering(nodes), nulls, nodes);
		EXECUTE format('COMMENT ON VIEW cmq_cluster.%I IS %L', relation, format('cmq.%s of all nodes; a row without a message for each node that does not answer', relation));
		PERFORM cmq_cluster._let_read(relation), cmq_cluster._let_read('_' || relation);
	END LOOP;
END $$;
COMMENT ON FUNCTION cmq_cluster._define(text, json) IS 'cmq_cluster internal: make the views of a queue, or change them for the nodes that have it now';

CREATE FUNCTION cmq_cluster._undefine(queue text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	kind text;
BEGIN
	FOREACH kind IN ARRAY '{live,history,all}'::text[] LOOP
		EXECUTE format('DROP VIEW cmq_cluster.%I', 'q_' || queue || '_' || kind);
		EXECUTE format('DROP TABLE cmq_cluster.%I', '_q_' || queue || '_' || kind);
	END LOOP;
	DELETE FROM cmq_cluster.queue q WHERE q.queue = $1;
END $$;
COMMENT ON FUNCTION cmq_cluster._undefine(text) IS 'cmq_cluster internal: drop the views of a queue, and forget it';

--
-- Queues
--

-- create_queue: create a queue on all nodes, or on some.
--
-- Parameters: those of cmq_create_queue, with its defaults, and
--   nodes        the nodes that get it; NULL: all, and those that are added later.  A
--                dead-letter queue must be there, too
-- Needs: on each node what cmq_create_queue needs, and CREATE on schema cmq_node; here
--   add_user(.., manager => true).
-- Errors: 2D000 in a transaction block, as for each procedure here; 22023 nodes is empty, or
--   there is no node; 42704 no such node; 08001 a node cannot be reached; 55P03 a node has
--   waited for a lock for 30 seconds; what a node raises, 42710 for a queue that it has
--   already; then nothing has happened anywhere.  57014 it was cancelled:
--   nothing has happened, or, if that came as the decision was being committed, resolve()
--   and the next call finish it.
-- Called by DO or by another procedure it commits, first, what that has done before.
CREATE PROCEDURE cmq_cluster.create_queue(
	queue						text,
	visibility_timeout			int DEFAULT 30,
	polling_wait_seconds		int DEFAULT 0,
	msg_retention_seconds		int DEFAULT 345600,
	rewind_seconds				int DEFAULT 0,
	max_msg_size				int DEFAULT 1048576,
	max_msg_heap_num			bigint DEFAULT 100000000,
	dead_letter_queue			text DEFAULT NULL,
	max_receive_count			int DEFAULT NULL,
	max_time_to_live			int DEFAULT NULL,
	retry_backoff_seconds		int DEFAULT 0,
	retry_backoff_max_seconds	int DEFAULT 3600,
	rewind_share				int DEFAULT 100,
	ordered						boolean DEFAULT false,
	dedup_seconds				int DEFAULT 0,
	nodes						int[] DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	gid pg_catalog.text;
	targets pg_catalog.int4[];
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	IF dead_letter_queue IS NOT NULL THEN
		PERFORM cmq_cluster._take_turn(dead_letter_queue);
	END IF;
	SELECT p.gid, p.targets INTO gid, targets FROM cmq_cluster._create_queue(queue, nodes, ARRAY[
		cmq_cluster._arg('queue', queue), cmq_cluster._arg('visibility_timeout', visibility_timeout),
		cmq_cluster._arg('polling_wait_seconds', polling_wait_seconds), cmq_cluster._arg('msg_retention_seconds', msg_retention_seconds),
		cmq_cluster._arg('rewind_seconds', rewind_seconds), cmq_cluster._arg('max_msg_size', max_msg_size),
		cmq_cluster._arg('max_msg_heap_num', max_msg_heap_num), cmq_cluster._arg('dead_letter_queue', dead_letter_queue),
		cmq_cluster._arg('max_receive_count', max_receive_count), cmq_cluster._arg('max_time_to_live', max_time_to_live),
		cmq_cluster._arg('retry_backoff_seconds', retry_backoff_seconds), cmq_cluster._arg('retry_backoff_max_seconds', retry_backoff_max_seconds),
		cmq_cluster._arg('rewind_share', rewind_share), cmq_cluster._arg('ordered', ordered),
		cmq_cluster._arg('dedup_seconds', dedup_seconds)]) p;
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(gid, targets);
END $$;
COMMENT ON PROCEDURE cmq_cluster.create_queue(text, int, int, int, int, int, bigint, text, int, int, int, int, int, boolean, int, int[])
	IS 'create a queue on all nodes, or on some, with the settings of cmq_create_queue';

CREATE FUNCTION cmq_cluster._create_queue(queue text, nodes int[], arguments text[], OUT gid text, OUT targets int[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	answers text[];
	commands text[];
BEGIN
	PERFORM cmq_cluster._take_turn(queue);
	targets := ARRAY(SELECT DISTINCT n FROM unnest(coalesce(nodes, cmq_cluster._nodes())) n ORDER BY n);
	IF cardinality(targets) = 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('no node for queue "%s"', queue),
			HINT = 'Add nodes with CALL cmq_cluster.add_node(..).';
	END IF;
	-- before anything is prepared, and waits for another call that creates it
	INSERT INTO cmq_cluster.queue VALUES (queue, nodes IS NULL) ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('the cluster has a queue "%s"', queue),
			HINT = 'CALL cmq_cluster.move_queue(..); puts it on other nodes.';
	END IF;
	commands := cmq_cluster._calls(targets, 'cmq_create_queue', VARIADIC arguments);
	FOR i IN 1 .. cardinality(targets) LOOP
		commands[i] := concat_ws('; ', commands[i], cmq_cluster._make_node_views(targets[i], queue), cmq_cluster._ask_columns(queue));
	END LOOP;
	SELECT p.gid, p.answers INTO gid, answers FROM cmq_cluster._prepare('create_queue', queue, targets, commands, NULL) p;
	INSERT INTO cmq_cluster.place SELECT _create_queue.queue, n, true FROM unnest(targets) n;
	-- nobody reads yet what is made here
	PERFORM cmq_cluster._define(queue, answers[1]::json);
EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
	IF gid IS NOT NULL THEN
		PERFORM cmq_cluster._take_back(gid, targets);
	END IF;
	RAISE;
END $$;
COMMENT ON FUNCTION cmq_cluster._create_queue(text, int[], text[]) IS 'cmq_cluster internal: create_queue, up to the decision';

-- One of cmq's functions that names a queue, on all its nodes, up to the decision.
CREATE FUNCTION cmq_cluster._on_queue(what text, queue text, arguments text[], expected bigint,
	OUT gid text, OUT nodes int[], OUT answers text[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM cmq_cluster._take_turn(queue);
	nodes := cmq_cluster._nodes_of(queue);
	SELECT p.gid, p.answers INTO gid, answers
	  FROM cmq_cluster._prepare(what, queue, nodes,
			 cmq_cluster._calls(nodes, 'cmq_' || what, VARIADIC cmq_cluster._arg('queue', queue) || arguments), expected) p;
END $$;
COMMENT ON FUNCTION cmq_cluster._on_queue(text, text, text[], bigint) IS 'cmq_cluster internal: one of cmq''s functions that names a queue, on all its nodes, up to the decision';

-- alter_queue: change settings of a queue on all its nodes.
--
-- Parameters: those of cmq_alter_queue; NULL leaves a setting as it is.
-- Needs: on each node what cmq_alter_queue needs.
-- Errors: those of create_queue; 42704 the cluster has no such queue.
CREATE PROCEDURE cmq_cluster.alter_queue(
	queue						text,
	visibility_timeout			int DEFAULT NULL,
	polling_wait_seconds		int DEFAULT NULL,
	msg_retention_seconds		int DEFAULT NULL,
	rewind_seconds				int DEFAULT NULL,
	max_msg_size				int DEFAULT NULL,
	max_msg_heap_num			bigint DEFAULT NULL,
	dead_letter_queue			text DEFAULT NULL,
	max_receive_count			int DEFAULT NULL,
	max_time_to_live			int DEFAULT NULL,
	retry_backoff_seconds		int DEFAULT NULL,
	retry_backoff_max_seconds	int DEFAULT NULL,
	rewind_share				int DEFAULT NULL,
	dedup_seconds				int DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	IF dead_letter_queue IS NOT NULL THEN
		PERFORM cmq_cluster._take_turn(dead_letter_queue);
	END IF;
	SELECT * INTO call FROM cmq_cluster._on_queue('alter_queue', queue, ARRAY[
		cmq_cluster._arg('visibility_timeout', visibility_timeout),
		cmq_cluster._arg('polling_wait_seconds', polling_wait_seconds), cmq_cluster._arg('msg_retention_seconds', msg_retention_seconds),
		cmq_cluster._arg('rewind_seconds', rewind_seconds), cmq_cluster._arg('max_msg_size', max_msg_size),
		cmq_cluster._arg('max_msg_heap_num', max_msg_heap_num), cmq_cluster._arg('dead_letter_queue', dead_letter_queue),
		cmq_cluster._arg('max_receive_count', max_receive_count), cmq_cluster._arg('max_time_to_live', max_time_to_live),
		cmq_cluster._arg('retry_backoff_seconds', retry_backoff_seconds), cmq_cluster._arg('retry_backoff_max_seconds', retry_backoff_max_seconds),
		cmq_cluster._arg('rewind_share', rewind_share), cmq_cluster._arg('dedup_seconds', dedup_seconds)], NULL);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.alter_queue(text, int, int, int, int, int, bigint, text, int, int, int, int, int, int)
	IS 'change settings of a queue on all its nodes, as cmq_alter_queue does; NULL leaves a setting as it is';

-- drop_queue: drop a queue with its messages and history on all its nodes.
--
-- Parameters:
--   queue   the queue
-- Needs: on each node ownership of the queue; here add_user(.., manager => true).
-- Errors: those of alter_queue; 2BP01 something depends on the queue, on a node or here.
CREATE PROCEDURE cmq_cluster.drop_queue(queue text)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._drop_queue(queue);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.drop_queue(text) IS 'drop a queue with its messages and history on all its nodes';

CREATE FUNCTION cmq_cluster._drop_queue(queue text, OUT gid text, OUT nodes int[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	commands text[];
BEGIN
	PERFORM cmq_cluster._take_turn(queue);
	nodes := cmq_cluster._nodes_of(queue);
	commands := cmq_cluster._calls(nodes, 'cmq_drop_queue', cmq_cluster._arg('queue', queue));
	FOR i IN 1 .. cardinality(nodes) LOOP
		commands[i] := cmq_cluster._drop_node_views(queue) || commands[i];
	END LOOP;
	PERFORM cmq_cluster._undefine(queue);
	SELECT p.gid INTO gid FROM cmq_cluster._prepare('drop_queue', queue, nodes, commands, NULL) p;
END $$;
COMMENT ON FUNCTION cmq_cluster._drop_queue(text) IS 'cmq_cluster internal: drop_queue, up to the decision';

-- clear_queue: remove all pending messages for good on all nodes; the history stays.
--
-- Parameters:
--   queue   the queue
-- Result: cleared, how many messages were removed.
-- Needs: UPDATE on the queue on each node.
-- Errors: those of alter_queue.
CREATE PROCEDURE cmq_cluster.clear_queue(queue text, INOUT cleared bigint DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._on_queue('clear_queue', queue, '{}', NULL);
	cleared := cmq_cluster._sum(call.answers);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.clear_queue(text, bigint) IS 'remove all pending messages for good on all nodes, keep the history; returns how many messages';

CREATE FUNCTION cmq_cluster._sum(answers text[]) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT sum(a::bigint) FROM unnest(answers) a);
END $$;
COMMENT ON FUNCTION cmq_cluster._sum(text[]) IS 'cmq_cluster internal: the sum of what nodes have answered';

CREATE FUNCTION cmq_cluster._any(answers text[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN 't' = ANY (answers);
END $$;
COMMENT ON FUNCTION cmq_cluster._any(text[]) IS 'cmq_cluster internal: has a node answered true?';

-- pause_queue, resume_queue: deliver nothing on any node, and deliver again.
--
-- Parameters: reason, as for cmq_pause_queue.
-- Result: paused, resumed: false if it was so on all nodes already.
-- Needs: UPDATE on the queue on each node.
-- Errors: those of alter_queue.
CREATE PROCEDURE cmq_cluster.pause_queue(queue text, reason text DEFAULT NULL, INOUT paused boolean DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._on_queue('pause_queue', queue, ARRAY[cmq_cluster._arg('reason', reason)], NULL);
	paused := cmq_cluster._any(call.answers);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.pause_queue(text, text, boolean) IS 'deliver no message of a queue on any node until cmq_cluster.resume_queue is called; false if all nodes have paused it already';

CREATE PROCEDURE cmq_cluster.resume_queue(queue text, INOUT resumed boolean DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._on_queue('resume_queue', queue, '{}', NULL);
	resumed := cmq_cluster._any(call.answers);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.resume_queue(text, boolean) IS 'deliver the messages of a queue again on all nodes; false if none had paused it';

-- unbind_dead_letter: end a queue's dead-letter policy on all nodes.
--
-- Parameters:
--   queue   the queue
-- Needs: on each node what cmq_unbind_dead_letter needs.
-- Errors: those of alter_queue.
CREATE PROCEDURE cmq_cluster.unbind_dead_letter(queue text)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._on_queue('unbind_dead_letter', queue, '{}', NULL);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.unbind_dead_letter(text) IS 'end the dead-letter policy of a queue on all nodes';

--
-- Rights and topics
--

-- The relation that carries the rights on a queue or topic of the cluster, and its nodes.
CREATE FUNCTION cmq_cluster._rights_on(name text, OUT relation text, OUT readable text[], OUT nodes int[])
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM cmq_cluster.topic t WHERE t.topic = name) THEN
		relation := format('cmq.%I', 't_' || name);
		readable := '{}';
		nodes := cmq_cluster._nodes();
	ELSE
		nodes := cmq_cluster._nodes_of(name);
		relation := format('cmq.%I', 'q_' || name);
		readable := ARRAY(SELECT format('cmq_node.%I', 'q_' || name || kind) FROM unnest('{_live,_history,_all}'::text[]) kind);
	END IF;
END $$;
COMMENT ON FUNCTION cmq_cluster._rights_on(text) IS 'cmq_cluster internal: what carries the rights on a queue or topic, and where';

CREATE FUNCTION cmq_cluster._grant(verb text, preposition text, name text, privilege text, role text, OUT gid text, OUT nodes int[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	rights record;
	command text;
BEGIN
	IF upper(privilege) IS NULL OR upper(privilege) NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'ALL') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('no privilege on a queue or topic: %s', privilege),
			HINT = 'It is SELECT, INSERT, UPDATE, DELETE or ALL.';
	ELSIF role IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'role must not be NULL';
	END IF;
	PERFORM cmq_cluster._take_turn(name);
	SELECT * INTO rights FROM cmq_cluster._rights_on(name);
	nodes := rights.nodes;
	command := format('%s %s ON %s %s %I', verb, upper(privilege), rights.relation, preposition, role);
	IF upper(privilege) IN ('SELECT', 'ALL') AND cardinality(rights.readable) > 0 THEN
		command := command || format('; %s SELECT ON %s %s %I', verb, array_to_string(rights.readable, ', '), preposition, role);
	END IF;
	SELECT p.gid INTO gid FROM cmq_cluster._prepare(lower(verb), name, nodes, array_fill(command, ARRAY[cardinality(nodes)]), NULL) p;
END $$;
COMMENT ON FUNCTION cmq_cluster._grant(text, text, text, text, text) IS 'cmq_cluster internal: grant and revoke, up to the decision';

-- grant, revoke: a right on a queue or a topic, on all its nodes.
--
-- Parameters:
--   name         a queue or topic of the cluster
--   privilege    SELECT, INSERT, UPDATE, DELETE or ALL, with the meaning that it has for
--                cmq.q_<queue> and cmq.t_<topic>
--   role         a role that is there on each node; to read messages it needs USAGE on
--                schemas cmq and cmq_node there, too
-- Needs: on each node ownership of the queue or topic.
-- Errors: those of alter_queue; 22023 no such privilege.
CREATE PROCEDURE cmq_cluster.grant(name text, privilege text, role text)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._grant('GRANT', 'TO', name, privilege, role);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.grant(text, text, text) IS 'grant a right on a queue or topic on all its nodes, to a role of the nodes';

CREATE PROCEDURE cmq_cluster.revoke(name text, privilege text, role text)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._grant('REVOKE', 'FROM', name, privilege, role);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.revoke(text, text, text) IS 'revoke a right on a queue or topic on all its nodes, from a role of the nodes';

-- A call of one of cmq's functions for topics on all nodes, up to the decision.
CREATE FUNCTION cmq_cluster._on_topic(what text, topic text, arguments text[], OUT gid text, OUT nodes int[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM cmq_cluster._take_turn(topic);
	nodes := cmq_cluster._nodes();
	IF cardinality(nodes) = 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('no node for topic "%s"', topic),
			HINT = 'Add nodes with CALL cmq_cluster.add_node(..).';
	ELSIF what <> 'create_topic' AND NOT EXISTS (SELECT FROM cmq_cluster.topic t WHERE t.topic = $2) THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('the cluster has no topic "%s"', topic);
	END IF;
	-- before nodes prepare anything: who may not change this has nothing prepared.  That there
	-- is such a topic the nodes say.
	IF what = 'create_topic' THEN
		INSERT INTO cmq_cluster.topic VALUES (topic) ON CONFLICT DO NOTHING;
	ELSIF what = 'drop_topic' THEN
		DELETE FROM cmq_cluster.topic t WHERE t.topic = $2;
	END IF;
	SELECT p.gid INTO gid
	  FROM cmq_cluster._prepare(what, topic, nodes,
			 cmq_cluster._calls(nodes, 'cmq_' || what, VARIADIC cmq_cluster._arg('topic', topic) || arguments), NULL) p;
END $$;
COMMENT ON FUNCTION cmq_cluster._on_topic(text, text, text[]) IS 'cmq_cluster internal: one of cmq''s functions for topics on all nodes, up to the decision';

-- create_topic, drop_topic, subscribe, unsubscribe: on all nodes, as cmq's functions of these
-- names.  What is published on a node goes to the queues on that node.
--
-- Parameters: those of cmq's functions.  A queue that is subscribed must be on all nodes.
-- Needs: on each node what the function needs.
-- Errors: those of create_queue; 42704 the cluster has no such topic.
CREATE PROCEDURE cmq_cluster.create_topic(topic text, filter_type text DEFAULT 'tag')
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._on_topic('create_topic', topic, ARRAY[cmq_cluster._arg('filter_type', filter_type)]);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.create_topic(text, text) IS 'create a topic on all nodes';

CREATE PROCEDURE cmq_cluster.drop_topic(topic text)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._on_topic('drop_topic', topic, '{}');
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.drop_topic(text) IS 'drop a topic that has no subscriptions on all nodes';

CREATE PROCEDURE cmq_cluster.subscribe(
	topic			text,
	subscription	text,
	queue			text,
	filter_tags		text[] DEFAULT NULL,
	binding_keys	text[] DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	PERFORM cmq_cluster._take_turn(queue);
	SELECT * INTO call FROM cmq_cluster._on_topic('subscribe', topic, ARRAY[
		cmq_cluster._arg('subscription', subscription), cmq_cluster._arg('queue', queue),
		cmq_cluster._arg('filter_tags', filter_tags), cmq_cluster._arg('binding_keys', binding_keys)]);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.subscribe(text, text, text, text[], text[]) IS 'have a queue get what is published to a topic, on all nodes';

CREATE PROCEDURE cmq_cluster.unsubscribe(topic text, subscription text)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._on_topic('unsubscribe', topic, ARRAY[cmq_cluster._arg('subscription', subscription)]);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.unsubscribe(text, text) IS 'end a subscription on all nodes';

--
-- Bringing messages back: one decision for all nodes
--

-- rewind: consumers of all nodes receive again what was deleted so far and was produced at or
-- after start_time.
--
-- Each node compares start_time with its own clock, and what was deleted before its part of
-- the call is due.  Sends, receives and deletes go on meanwhile.
-- Parameters: those of cmq_rewind.  start_time must be legal on each node: the common range
--   of all is in the last row of queue_attributes.  cmq.reason, set here, is the reason in
--   cmq.rewinds on each node.
-- Result: rewound_from, what cmq_rewind returns; the earliest one.
-- Needs: UPDATE on the queue on each node.
-- Errors: those of alter_queue; 22023 start_time is out of the range of a node; 55000 rewind
--   is off or a reason is required.
CREATE PROCEDURE cmq_cluster.rewind(queue text, start_time timestamptz, INOUT rewound_from timestamptz DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._on_queue('rewind', queue, ARRAY[cmq_cluster._arg('start_time', start_time)], NULL);
	rewound_from := cmq_cluster._earliest(call.answers);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.rewind(text, timestamptz, timestamptz)
	IS 'on all nodes or none, receive again every message deleted so far and produced at or after start_time (timestamp by the queue clocks)';

CREATE FUNCTION cmq_cluster._earliest(answers text[]) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET "DateStyle" = 'ISO' SET "TimeZone" = 'UTC' AS $$
BEGIN
	RETURN (SELECT min(a::timestamptz) FROM unnest(answers) a);
END $$;
COMMENT ON FUNCTION cmq_cluster._earliest(text[]) IS 'cmq_cluster internal: the earliest of the times that nodes have answered';

-- cancel_rewind: what the rewinds under way have not brought back yet returns to history.
--
-- Parameters:
--   queue   the queue
-- Result: cancelled, true if a rewind was under way on any node.
-- Needs: UPDATE on the queue on each node.
-- Errors: those of rewind.
CREATE PROCEDURE cmq_cluster.cancel_rewind(queue text, INOUT cancelled boolean DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._on_queue('cancel_rewind', queue, '{}', NULL);
	cancelled := cmq_cluster._any(call.answers);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.cancel_rewind(text, boolean) IS 'on all nodes or none, return to history what the rewind under way has not brought back yet; false if none was under way';

-- restore: make deleted messages of a time window ready again, on all nodes.
--
-- Parameters: those of cmq_restore; expected_count is the number of messages of all nodes
--   together.
-- Result: restored, how many messages.
-- Needs: UPDATE on the queue on each node, with a filter also SELECT.
-- Errors: those of rewind; 21000 it would not be expected_count messages.
CREATE PROCEDURE cmq_cluster.restore(
	queue			text,
	start_time		timestamptz,
	end_time		timestamptz DEFAULT NULL,
	filter			jsonb DEFAULT NULL,
	expected_count	bigint DEFAULT NULL,
	INOUT restored	bigint DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._on_queue('restore', queue, ARRAY[
		cmq_cluster._arg('start_time', start_time), cmq_cluster._arg('end_time', end_time),
		cmq_cluster._arg('filter', filter)], expected_count);
	restored := cmq_cluster._sum(call.answers);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.restore(text, timestamptz, timestamptz, jsonb, bigint, bigint)
	IS 'on all nodes or none, make the deleted messages ready again that were produced from start_time to before end_time (timestamps by the queue clocks); returns how many messages';

-- restore_messages: the same for messages with these ids, each on the node that its id tells.
--
-- Parameters: those of cmq_restore_messages.
-- Result: restored, the ids of the messages restored, oldest first.
-- Needs: UPDATE on the queue on each node that is concerned.
-- Errors: those of rewind; 22023 the array has NULL, or no node of the queue has the class
--   of an id.
CREATE PROCEDURE cmq_cluster.restore_messages(queue text, msg_ids bigint[], INOUT restored bigint[] DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._restore_messages(queue, msg_ids);
	restored := call.restored;
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.restore_messages(text, bigint[], bigint[])
	IS 'on all nodes that have one of them or on none, make the deleted messages with these msg_ids (microseconds since 1970) ready again; returns the msg_ids of those restored';

CREATE FUNCTION cmq_cluster._restore_messages(queue text, msg_ids bigint[], OUT gid text, OUT nodes int[], OUT restored bigint[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	places int[];
	id_step int := (SELECT n.step FROM cmq_cluster.node n LIMIT 1);
	foreign_id bigint;
	commands text[];
	answers text[];
BEGIN
	PERFORM cmq_cluster._take_turn(queue);
	places := cmq_cluster._nodes_of(queue);
	IF msg_ids IS NULL OR array_ndims(msg_ids) > 1 OR EXISTS (SELECT FROM unnest(msg_ids) i WHERE i IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('msg_ids for queue "%s" must be an array of one dimension without NULL', queue);
	END IF;
	foreign_id := (SELECT min(i) FROM unnest(msg_ids) i WHERE mod(mod(i, id_step) + id_step, id_step) <> ALL (places));
	IF foreign_id IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('message %s is of no node of queue "%s"', foreign_id, queue),
			DETAIL = format('Its id is of class %s (msg_id %% %s), and the queue is on nodes %s.', mod(mod(foreign_id, id_step) + id_step, id_step), id_step, array_to_string(places, ', ')),
			HINT = 'A message that a server had before it became a node is restored there, with cmq_restore_messages.';
	END IF;
	nodes := ARRAY(SELECT DISTINCT mod(mod(i, id_step) + id_step, id_step)::int FROM unnest(msg_ids) i ORDER BY 1);
	commands := ARRAY(
		SELECT format('SELECT coalesce(json_agg(r), ''[]'') FROM %I.cmq_restore_messages(%L, %L) r', n.functions, queue,
					  ARRAY(SELECT i FROM unnest(msg_ids) i WHERE mod(mod(i, id_step) + id_step, id_step) = n.node))
		  FROM cmq_cluster.node n WHERE n.node = ANY (nodes) ORDER BY n.node);
	SELECT p.gid, p.answers INTO gid, answers FROM cmq_cluster._prepare('restore_messages', queue, nodes, commands, NULL) p;
	restored := ARRAY(SELECT json_array_elements_text(a::json)::bigint AS id FROM unnest(answers) a ORDER BY id);
END $$;
COMMENT ON FUNCTION cmq_cluster._restore_messages(text, bigint[]) IS 'cmq_cluster internal: restore_messages, up to the decision';

--
-- Looking: a node that does not answer is a row
--

-- A query on nodes whose result, of one line, is jsonb.
CREATE FUNCTION cmq_cluster._look(nodes int[], commands text[])
RETURNS TABLE (node int, error text, answer jsonb)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
		SELECT a.node, regexp_replace(concat_ws(': ', a.error, nullif(a.detail, '')), '\s+', ' ', 'g'), a.answer::jsonb
		  FROM cmq_cluster._ask(nodes, commands, false) a;
END $$;
COMMENT ON FUNCTION cmq_cluster._look(int[], text[]) IS 'cmq_cluster internal: a query on nodes';

CREATE FUNCTION cmq_cluster._look_at(relation text) RETURNS TABLE (node int, error text, answer jsonb)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	nodes int[] := cmq_cluster._nodes();
BEGIN
	RETURN QUERY
		SELECT l.node, l.error, l.answer
		  FROM cmq_cluster._look(nodes, array_fill(format('SELECT coalesce(jsonb_agg(to_jsonb(r)), ''[]'') FROM cmq.%I r', relation), ARRAY[cardinality(nodes)])) l;
END $$;
COMMENT ON FUNCTION cmq_cluster._look_at(text) IS 'cmq_cluster internal: the rows of one of cmq''s views on all nodes';

-- queue_attributes: what cmq_queue_attributes says on each node, and about all of them.
--
-- Parameters:
--   queue   the queue
-- Result: a row for each node, with error instead of values if it did not answer or raised
--   one.  The last row, node NULL, is about the queue on all nodes: sums, the earliest
--   min_msg_time, and the common legal range of a rewind; what differs is NULL, and so is
--   all that is not known because a node did not answer.
-- Needs: SELECT on the queue on each node.
-- Errors: 42704 the cluster has no such queue.
CREATE FUNCTION cmq_cluster.queue_attributes(queue text)
RETURNS TABLE (
	node						int,
	error						text,
	visibility_timeout			int,
	polling_wait_seconds		int,
	msg_retention_seconds		int,
	rewind_seconds				int,
	max_msg_size				int,
	max_msg_heap_num			bigint,
	dead_letter_queue			text,
	max_receive_count			int,
	max_time_to_live			int,
	retry_backoff_seconds		int,
	retry_backoff_max_seconds	int,
	rewind_share				int,
	ordered						boolean,
	dedup_seconds				int,
	create_time					timestamptz,
	last_modify_time			timestamptz,
	active_msg_num				bigint,
	inactive_msg_num			bigint,
	delay_msg_num				bigint,
	rewind_msg_num				bigint,
	min_msg_time				timestamptz,
	earliest_rewind_time		timestamptz,
	latest_rewind_time			timestamptz)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	nodes int[] := cmq_cluster._nodes_of(queue);
	commands text[] := ARRAY(SELECT format('SELECT to_jsonb(r) FROM %I.cmq_queue_attributes(%L) r', n.functions, queue)
							   FROM cmq_cluster.node n WHERE n.node = ANY (nodes) ORDER BY n.node);
BEGIN
	RETURN QUERY
	WITH each AS MATERIALIZED (
		SELECT l.node, nullif(l.error, '') AS error, r.*
		  FROM cmq_cluster._look(nodes, commands) l
		  LEFT JOIN LATERAL jsonb_to_record(l.answer) AS r(
			visibility_timeout int, polling_wait_seconds int, msg_retention_seconds int, rewind_seconds int, max_msg_size int,
			max_msg_heap_num bigint, dead_letter_queue text, max_receive_count int, max_time_to_live int,
			retry_backoff_seconds int, retry_backoff_max_seconds int, rewind_share int, ordered boolean, dedup_seconds int,
			create_time timestamptz, last_modify_time timestamptz, active_msg_num bigint, inactive_msg_num bigint,
			delay_msg_num bigint, rewind_msg_num bigint, min_msg_time timestamptz, earliest_rewind_time timestamptz,
			latest_rewind_time timestamptz) ON true)
	SELECT e.* FROM each e
	UNION ALL
	SELECT NULL, t.error, t.visibility_timeout, t.polling_wait_seconds, t.msg_retention_seconds, t.rewind_seconds, t.max_msg_size,
		   t.max_msg_heap_num, t.dead_letter_queue, t.max_receive_count, t.max_time_to_live, t.retry_backoff_seconds,
		   t.retry_backoff_max_seconds, t.rewind_share, t.ordered, t.dedup_seconds,
		   CASE WHEN t.known THEN t.create_time END, CASE WHEN t.known THEN t.last_modify_time END,
		   CASE WHEN t.known THEN t.active END, CASE WHEN t.known THEN t.inactive END,
		   CASE WHEN t.known THEN t.delayed END, CASE WHEN t.known THEN t.history END,
		   CASE WHEN t.known THEN t.min_msg_time END, CASE WHEN t.rewindable THEN t.earliest END, CASE WHEN t.rewindable THEN t.latest END
	  FROM (SELECT string_agg(e.error, '; ' ORDER BY e.node) AS error,
				   bool_and(e.error IS NULL) AS known,
				   bool_and(e.error IS NULL) AND bool_and(e.earliest_rewind_time IS NOT NULL) AS rewindable,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.visibility_timeout)) = 1 THEN min(e.visibility_timeout) END AS visibility_timeout,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.polling_wait_seconds)) = 1 THEN min(e.polling_wait_seconds) END AS polling_wait_seconds,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.msg_retention_seconds)) = 1 THEN min(e.msg_retention_seconds) END AS msg_retention_seconds,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.rewind_seconds)) = 1 THEN min(e.rewind_seconds) END AS rewind_seconds,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.max_msg_size)) = 1 THEN min(e.max_msg_size) END AS max_msg_size,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.max_msg_heap_num)) = 1 THEN min(e.max_msg_heap_num) END AS max_msg_heap_num,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.dead_letter_queue)) = 1 THEN min(e.dead_letter_queue) END AS dead_letter_queue,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.max_receive_count)) = 1 THEN min(e.max_receive_count) END AS max_receive_count,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.max_time_to_live)) = 1 THEN min(e.max_time_to_live) END AS max_time_to_live,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.retry_backoff_seconds)) = 1 THEN min(e.retry_backoff_seconds) END AS retry_backoff_seconds,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.retry_backoff_max_seconds)) = 1 THEN min(e.retry_backoff_max_seconds) END AS retry_backoff_max_seconds,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.rewind_share)) = 1 THEN min(e.rewind_share) END AS rewind_share,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.ordered)) = 1 THEN bool_and(e.ordered) END AS ordered,
				   CASE WHEN bool_and(e.error IS NULL) AND count(DISTINCT ROW(e.dedup_seconds)) = 1 THEN min(e.dedup_seconds) END AS dedup_seconds,
				   min(e.create_time) AS create_time, max(e.last_modify_time) AS last_modify_time,
				   sum(e.active_msg_num)::bigint AS active, sum(e.inactive_msg_num)::bigint AS inactive,
				   sum(e.delay_msg_num)::bigint AS delayed, sum(e.rewind_msg_num)::bigint AS history, min(e.min_msg_time) AS min_msg_time,
				   max(e.earliest_rewind_time) AS earliest, min(e.latest_rewind_time) AS latest
			  FROM each e) t;
END $$;
COMMENT ON FUNCTION cmq_cluster.queue_attributes(text)
	IS 'what cmq_queue_attributes says on each node; the last row, with node NULL, has sums and the legal range of a rewind on all nodes';

-- rewind_preview: what a rewind or restore would bring back now.
--
-- Parameters: those of cmq_rewind_preview.
-- Result: a row for each node, with error instead of values if it did not answer or raised
--   one.  The last row, node NULL, has the sums; they are NULL if a node did not answer.
-- Needs: SELECT on the queue on each node.
-- Errors: 42704 the cluster has no such queue.
CREATE FUNCTION cmq_cluster.rewind_preview(
	queue				text,
	start_time			timestamptz,
	end_time			timestamptz DEFAULT NULL,
	filter				jsonb DEFAULT NULL)
RETURNS TABLE (
	node				int,
	error				text,
	messages			bigint,
	body_bytes			bigint,
	first_enqueued_at	timestamptz,
	last_enqueued_at	timestamptz)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	nodes int[] := cmq_cluster._nodes_of(queue);
	arguments text := concat_ws(', ', cmq_cluster._arg('queue', queue), cmq_cluster._arg('start_time', start_time),
								cmq_cluster._arg('end_time', end_time), cmq_cluster._arg('filter', filter));
	commands text[] := ARRAY(SELECT format('SELECT to_jsonb(r) FROM %I.cmq_rewind_preview(%s) r', n.functions, arguments)
							   FROM cmq_cluster.node n WHERE n.node = ANY (nodes) ORDER BY n.node);
BEGIN
	RETURN QUERY
	WITH each AS MATERIALIZED (
		SELECT l.node, nullif(l.error, '') AS error, r.*
		  FROM cmq_cluster._look(nodes, commands) l
		  LEFT JOIN LATERAL jsonb_to_record(l.answer) AS r(messages bigint, body_bytes bigint, first_enqueued_at timestamptz, last_enqueued_at timestamptz) ON true)
	SELECT e.* FROM each e
	UNION ALL
	SELECT NULL, t.error, CASE WHEN t.error IS NULL THEN t.messages END, CASE WHEN t.error IS NULL THEN t.bytes END,
		   CASE WHEN t.error IS NULL THEN t.first END, CASE WHEN t.error IS NULL THEN t.last END
	  FROM (SELECT string_agg(e.error, '; ' ORDER BY e.node) AS error, sum(e.messages)::bigint AS messages, sum(e.body_bytes)::bigint AS bytes,
				   min(e.first_enqueued_at) AS first, max(e.last_enqueued_at) AS last
			  FROM each e) t;
END $$;
COMMENT ON FUNCTION cmq_cluster.rewind_preview(text, timestamptz, timestamptz, jsonb)
	IS 'count what a rewind or restore would bring back on each node; the last row, with node NULL, has the sums';

-- The views of cmq of these names, of all nodes.
CREATE VIEW cmq_cluster.status AS
SELECT l.node, nullif(l.error, '') AS error, r.*
  FROM cmq_cluster._look_at('status') l
  LEFT JOIN LATERAL jsonb_to_recordset(l.answer) AS r(
	queue text, ready bigint, in_flight bigint, delayed bigint, history bigint, left_of_rewind bigint, oldest_ready_seconds float8,
	dead_letters bigint, paused_since timestamptz, earliest_rewind_time timestamptz, latest_rewind_time timestamptz,
	pending_bytes bigint, history_bytes bigint, blocked_groups bigint)
	ON true;
COMMENT ON VIEW cmq_cluster.status IS 'cmq.status of all nodes; a row with an error for each node that does not answer';

CREATE VIEW cmq_cluster.metrics AS
SELECT l.node, nullif(l.error, '') AS error, r.*
  FROM cmq_cluster._look_at('metrics') l
  LEFT JOIN LATERAL jsonb_to_recordset(l.answer) AS r(
	queue text, since timestamptz, sent bigint, received bigint, redelivered bigint, rewound bigint, deleted bigint,
	dead_lettered bigint, empty_receives bigint, waits bigint, body_bytes bigint, pending_msg_num bigint, left_of_rewind bigint,
	inactive_msg_num bigint, delay_msg_num bigint, oldest_ready_seconds float8, pending_bytes bigint, rewindable_bytes bigint,
	active_msg_num bigint, rewind_msg_num bigint, oldest_in_flight_seconds float8, first_expiry_seconds float8, paused_seconds float8,
	unmaintained_seconds float8, msg_retention_seconds bigint, max_msg_heap_num bigint, is_dead_letter_queue boolean)
	ON true;
COMMENT ON VIEW cmq_cluster.metrics IS 'cmq.metrics of all nodes; a row with an error for each node that does not answer';

CREATE VIEW cmq_cluster.rewinds AS
SELECT l.node, nullif(l.error, '') AS error, r.*
  FROM cmq_cluster._look_at('rewinds') l
  LEFT JOIN LATERAL jsonb_to_recordset(l.answer) AS r(
	id bigint, queue text, kind text, session_user_name text, current_user_name text, client_addr inet, application_name text,
	called_at timestamptz, start_time timestamptz, end_time timestamptz, filter jsonb, into_queue text, messages bigint, reason text)
	ON true;
COMMENT ON VIEW cmq_cluster.rewinds IS 'cmq.rewinds of all nodes; a row with an error for each node that does not answer';

-- nodes: the nodes, one row each.
--   accepts      new messages: false after drain_node
--   error        why it does not answer; NULL: it does
--   version      of cmq
--   queues, pending
--                number of queues of the cluster there, and of their messages that are
--                ready, delayed or in flight; of those on which the reader has SELECT
--   in_doubt     number of transactions that calls have left prepared, or have prepared just
--                now: see resolve()
CREATE FUNCTION cmq_cluster._look_at_nodes() RETURNS TABLE (node int, error text, answer jsonb)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	nodes int[] := cmq_cluster._nodes();
BEGIN
	RETURN QUERY
		SELECT l.node, l.error, l.answer
		  FROM cmq_cluster._look(nodes, ARRAY(
			SELECT format($c$SELECT jsonb_build_object(
					'version', (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'cmq'),
					'pending', (SELECT sum(s.ready + s.in_flight + s.delayed) FROM cmq.status s WHERE s.queue = ANY (%L)),
					'in_doubt', (SELECT count(*) FROM pg_prepared_xacts p WHERE p.database = current_database() AND starts_with(p.gid, %L)))$c$,
				   ARRAY(SELECT p.queue FROM cmq_cluster.place p WHERE p.node = n), cmq_cluster._gid_prefix())
			  FROM unnest(nodes) n)) l;
END $$;
COMMENT ON FUNCTION cmq_cluster._look_at_nodes() IS 'cmq_cluster internal: what the view nodes asks each node';

CREATE VIEW cmq_cluster.nodes AS
SELECT n.node,
	   (SELECT split_part(o, '=', 2) FROM unnest(s.srvoptions) o WHERE o LIKE 'host=%') AS host,
	   (SELECT split_part(o, '=', 2) FROM unnest(s.srvoptions) o WHERE o LIKE 'port=%') AS port,
	   (SELECT split_part(o, '=', 2) FROM unnest(s.srvoptions) o WHERE o LIKE 'dbname=%') AS dbname,
	   n.accepts,
	   nullif(l.error, '') AS error,
	   l.answer ->> 'version' AS version,
	   (SELECT count(*) FROM cmq_cluster.place p WHERE p.node = n.node) AS queues,
	   (l.answer ->> 'pending')::bigint AS pending,
	   (l.answer ->> 'in_doubt')::bigint AS in_doubt
  FROM cmq_cluster.node n
  LEFT JOIN pg_foreign_server s ON s.srvname = n.server
  LEFT JOIN cmq_cluster._look_at_nodes() l ON l.node = n.node;
COMMENT ON VIEW cmq_cluster.nodes IS 'the nodes, whether they answer, and what they have';
COMMENT ON COLUMN cmq_cluster.nodes.node IS 'number of the node';
COMMENT ON COLUMN cmq_cluster.nodes.host IS 'host of the node; several, with commas between them, for a primary and its standbys';
COMMENT ON COLUMN cmq_cluster.nodes.port IS 'port of the node';
COMMENT ON COLUMN cmq_cluster.nodes.dbname IS 'database of the node';
COMMENT ON COLUMN cmq_cluster.nodes.accepts IS 'whether the node is handed out for new messages';
COMMENT ON COLUMN cmq_cluster.nodes.error IS 'why the node does not answer; NULL: it answers';
COMMENT ON COLUMN cmq_cluster.nodes.version IS 'version of cmq on the node; NULL if it does not answer';
COMMENT ON COLUMN cmq_cluster.nodes.queues IS 'number of queues of the cluster on the node';
COMMENT ON COLUMN cmq_cluster.nodes.pending IS 'number of messages that are ready, in flight or delayed on the node, of the queues of the cluster that the reader may read; NULL if there are none or it does not answer';
COMMENT ON COLUMN cmq_cluster.nodes.in_doubt IS 'number of transactions of the cluster that are prepared on the node; NULL if it does not answer';

--
-- Nodes
--

-- The rights on a queue or topic that are copied from node to node: what one of them answers
-- becomes a command for another one, and a newer PostgreSQL has rights that an older one does
-- not know.
CREATE FUNCTION cmq_cluster._is_right(privilege text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER');
END $$;
COMMENT ON FUNCTION cmq_cluster._is_right(text) IS 'cmq_cluster internal: is that a right that is copied from node to node?';

-- Commands that make a queue on a node as it is on another one, with its settings, owner and
-- rights, and the node's views of it.  Where the node has the queue already they make the
-- views alone, for those who have rights there.  bind says whether the commands for its
-- dead-letter policy and its pause are wanted instead, which come when all queues are there.
CREATE FUNCTION cmq_cluster._copy(queue text, source int, target int, bind boolean) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	question text := format($c$SELECT json_build_object('settings', (SELECT to_json(q) FROM cmq.queues q WHERE q.queue = %1$L),
		'grants', (SELECT coalesce(json_agg(json_build_array(CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END, a.privilege_type)), '[]') FROM pg_class c, aclexplode(c.relacl) a
					WHERE c.oid = to_regclass(%2$L) AND a.grantee <> c.relowner))$c$,
		queue, format('cmq.%I', 'q_' || queue));
	here json := (SELECT a.answer::json FROM cmq_cluster._ask(ARRAY[source], ARRAY[question], true) a);
	settings json := here -> 'settings';
	target_has json := (SELECT a.answer::json FROM cmq_cluster._ask(ARRAY[target], ARRAY[question], true) a);
	there json := target_has -> 'settings';
	functions name := (SELECT n.functions FROM cmq_cluster.node n WHERE n.node = target);
	bindings text[] := '{dead_letter_queue,max_receive_count,max_time_to_live}';
	differing text;
	commands text := '';
BEGIN
	IF settings ->> 'visibility_timeout' IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('node %s has no queue "%s", or not for this role', source, queue);
	END IF;
	IF bind THEN
		RETURN concat_ws('; ',
			CASE WHEN settings ->> 'dead_letter_queue' IS NOT NULL AND there ->> 'dead_letter_queue' IS NULL THEN
				format('SET LOCAL ROLE %I; SELECT %I.cmq_alter_queue(%L, %s); RESET ROLE', settings ->> 'owner', functions, queue,
					   (SELECT string_agg(format('%I => %L', b, settings ->> b), ', ') FROM unnest(bindings) b)) END,
			CASE WHEN settings ->> 'paused_since' IS NOT NULL AND there ->> 'paused_since' IS NULL THEN
				format('SELECT %I.cmq_pause_queue(%L, %L)', functions, queue, format('as on node %s', source)) END);
	END IF;
	IF there ->> 'queue' IS NOT NULL THEN
		differing := (SELECT string_agg(s.key, ', ') FROM json_each_text(settings) s JOIN json_each_text(there) t USING (key)
					   WHERE s.value IS DISTINCT FROM t.value
						 AND s.key NOT IN ('create_time', 'last_modify_time', 'paused_since', 'rewinding_from')
						 AND (s.key <> ALL (bindings) OR there ->> 'dead_letter_queue' IS NOT NULL));
		IF differing IS NOT NULL THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = format('queue "%s" is not the same on nodes %s and %s', queue, source, target),
				DETAIL = format('These differ: %s.', differing),
				HINT = 'Make them the same, with cmq_alter_queue on the node.';
		END IF;
		here := target_has;
	ELSE
		commands := format('SELECT %I.cmq_create_queue(%s)', functions, (SELECT string_agg(format('%I => %L', s.key, s.value), ', ') FROM json_each_text(settings) s
			WHERE s.value IS NOT NULL
			  AND s.key NOT IN ('owner', 'create_time', 'last_modify_time', 'paused_since', 'rewinding_from') AND s.key <> ALL (bindings)));
		commands := concat_ws('; ', commands, (SELECT string_agg(format('GRANT %s ON cmq.%I TO %s', g ->> 1, 'q_' || queue, coalesce(quote_ident(g ->> 0), 'PUBLIC')), '; ')
			FROM json_array_elements(here -> 'grants') g WHERE cmq_cluster._is_right(g ->> 1)));
	END IF;
	RETURN concat_ws('; ', format('GRANT USAGE, CREATE ON SCHEMA cmq_node TO %1$I; SET LOCAL ROLE %1$I', settings ->> 'owner'), nullif(commands, ''),
		rtrim(cmq_cluster._make_node_views(target, queue), '; '),
		(SELECT string_agg(format('GRANT SELECT ON cmq_node.%I TO %s', 'q_' || queue || kind, coalesce(quote_ident(g ->> 0), 'PUBLIC')), '; ')
		   FROM json_array_elements(here -> 'grants') g, unnest('{_live,_history,_all}'::text[]) kind WHERE g ->> 1 = 'SELECT'),
		'RESET ROLE');
END $$;
COMMENT ON FUNCTION cmq_cluster._copy(text, int, int, boolean) IS 'cmq_cluster internal: commands that make a queue on a node as it is on another one';

-- Commands that make the topics on a node as they are on another one.  What it has already,
-- as a node that was removed and is added again, must be the same.
CREATE FUNCTION cmq_cluster._copy_topics(source int, target int) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	topics text[] := ARRAY(SELECT t.topic FROM cmq_cluster.topic t);
	functions name := (SELECT n.functions FROM cmq_cluster.node n WHERE n.node = target);
	question text := format($c$SELECT json_build_object(
		'topics', (SELECT coalesce(json_agg(t), '[]') FROM cmq.topics t WHERE t.topic = ANY (%1$L)),
		'grants', (SELECT coalesce(json_agg(json_build_array(t.topic, t.owner, CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END, a.privilege_type)), '[]')
					 FROM cmq.topics t JOIN pg_class c ON c.relname = 't_' || t.topic AND c.relnamespace = 'cmq'::regnamespace, aclexplode(c.relacl) a
					WHERE t.topic = ANY (%1$L) AND a.grantee <> c.relowner),
		'subscriptions', (SELECT coalesce(json_agg(json_build_array(s.topic, s.subscription, s.queue, s.filter_tags, s.binding_keys, q.owner)), '[]')
							FROM cmq.subscriptions s JOIN cmq.queues q USING (queue) WHERE s.topic = ANY (%1$L)))$c$, topics);
	answer json := (SELECT a.answer::json FROM cmq_cluster._ask(ARRAY[source], ARRAY[question], true) a);
	there json := (SELECT a.answer::json FROM cmq_cluster._ask(ARRAY[target], ARRAY[question], true) a);
	differing text;
BEGIN
	differing := (SELECT min(t ->> 'topic') FROM json_array_elements(answer -> 'topics') t, json_array_elements(there -> 'topics') h
				   WHERE h ->> 'topic' = t ->> 'topic' AND (h ->> 'owner', h ->> 'filter_type') IS DISTINCT FROM (t ->> 'owner', t ->> 'filter_type'));
	IF differing IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('topic "%s" is not the same on nodes %s and %s', differing, source, target),
			HINT = 'Drop it on the node that is added, with cmq_drop_topic.';
	END IF;
	SELECT min(format('"%s" of topic "%s"', s ->> 1, s ->> 0)) INTO differing
	  FROM json_array_elements(answer -> 'subscriptions') s, json_array_elements(there -> 'subscriptions') h
	 WHERE h ->> 0 = s ->> 0 AND h ->> 1 = s ->> 1 AND (h ->> 2, h ->> 3, h ->> 4) IS DISTINCT FROM (s ->> 2, s ->> 3, s ->> 4);
	IF differing IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('subscription %s is not the same on nodes %s and %s', differing, source, target),
			HINT = 'End it on the node that is added, with cmq_unsubscribe.';
	END IF;
	RETURN concat_ws('; ',
		(SELECT string_agg(format('SET LOCAL ROLE %I; SELECT %I.cmq_create_topic(%L, %L); RESET ROLE', t ->> 'owner', functions, t ->> 'topic', t ->> 'filter_type'), '; ')
		   FROM json_array_elements(answer -> 'topics') t
		  WHERE NOT EXISTS (SELECT FROM json_array_elements(there -> 'topics') h WHERE h ->> 'topic' = t ->> 'topic')),
		(SELECT string_agg(format('SET LOCAL ROLE %I; GRANT %s ON cmq.%I TO %s; RESET ROLE', g ->> 1, g ->> 3, 't_' || (g ->> 0), coalesce(quote_ident(g ->> 2), 'PUBLIC')), '; ')
		   FROM json_array_elements(answer -> 'grants') g WHERE cmq_cluster._is_right(g ->> 3)),
		(SELECT string_agg(format('SET LOCAL ROLE %I; SELECT %I.cmq_subscribe(%L, %L, %L, %s, %s); RESET ROLE', s ->> 5, functions, s ->> 0, s ->> 1, s ->> 2,
				   CASE WHEN s ->> 3 IS NULL THEN 'NULL' ELSE quote_literal(ARRAY(SELECT json_array_elements_text(s -> 3))::text) END,
				   CASE WHEN s ->> 4 IS NULL THEN 'NULL' ELSE quote_literal(ARRAY(SELECT json_array_elements_text(s -> 4))::text) END), '; ')
		   FROM json_array_elements(answer -> 'subscriptions') s
		  WHERE NOT EXISTS (SELECT FROM json_array_elements(there -> 'subscriptions') h WHERE h ->> 0 = s ->> 0 AND h ->> 1 = s ->> 1)));
END $$;
COMMENT ON FUNCTION cmq_cluster._copy_topics(int, int) IS 'cmq_cluster internal: commands that make the topics on a node as they are on another one';

-- Wait for all calls under way, and keep others waiting, until the end of the transaction.
CREATE FUNCTION cmq_cluster._alone() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	LOCK TABLE cmq_cluster.turn IN ACCESS EXCLUSIVE MODE;
	PERFORM cmq_cluster._finish_others();
END $$;
COMMENT ON FUNCTION cmq_cluster._alone() IS 'cmq_cluster internal: wait for all calls under way, and keep others waiting';

-- Is the server what it has to be?  Notes its id step and the schema of its functions.
CREATE FUNCTION cmq_cluster._check_node(node int) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	fact json := (SELECT a.answer::json FROM cmq_cluster._ask(ARRAY[node], ARRAY[$c$SELECT json_build_object(
		'class', current_setting('cmq.msg_id_offset', true), 'step', current_setting('cmq.msg_id_step', true),
		'prepared', current_setting('max_prepared_transactions'), 'recovery', pg_is_in_recovery(),
		'cmq', (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'cmq'),
		'functions', (SELECT s.nspname FROM pg_extension e JOIN pg_namespace s ON s.oid = e.extnamespace WHERE e.extname = 'cmq'))$c$], true) a);
	step int := (SELECT min(n.step) FROM cmq_cluster.node n WHERE n.node <> $1);
	wrong text;
	hint text;
BEGIN
	IF fact ->> 'cmq' IS NULL THEN
		wrong := 'Its database does not have the extension cmq.';
		hint := 'CREATE EXTENSION cmq; there.';
	ELSIF fact ->> 'step' IS NULL OR (fact ->> 'class')::int <> node THEN
		wrong := format('Its cmq.msg_id_offset is %s.', coalesce(fact ->> 'class', 'not set, because cmq is not preloaded'));
		hint := format('The number of a node is its cmq.msg_id_offset: set that to %s there, and cmq.msg_id_step to the same on all nodes, and restart it.', node);
	ELSIF (fact ->> 'step')::int < 2 OR (fact ->> 'step')::int <> step THEN
		wrong := format('Its cmq.msg_id_step is %s%s.', fact ->> 'step', ', and that of the other nodes is ' || step);
		hint := 'Set it to the same on all nodes, at least to the number of nodes that there will ever be, and restart them.';
	ELSIF fact ->> 'prepared' = '0' THEN
		wrong := 'Its max_prepared_transactions is 0.';
		hint := 'Set it to 10 or more, and restart the node.';
	ELSIF (fact ->> 'recovery')::boolean THEN
		wrong := 'It is a standby.';
		hint := 'Give the addresses of primary and standbys as one node: host => ''a,b''.';
	END IF;
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('the server cannot be node %s', node),
			DETAIL = wrong, HINT = hint;
	END IF;
	UPDATE cmq_cluster.node n SET step = (fact ->> 'step')::int, functions = fact ->> 'functions' WHERE n.node = $1;
END $$;
COMMENT ON FUNCTION cmq_cluster._check_node(int) IS 'cmq_cluster internal: is the server what a node has to be?';

-- add_node: add a server to the cluster.
--
-- It gets all queues that are on all nodes, all topics, and their rights; then it accepts
-- messages.  Traffic goes on.  Roles that have rights on the queues must be there.
-- Parameters:
--   node         its number, which is its cmq.msg_id_offset
--   host, port   its address; several, with commas between them, for a primary and its
--                standbys: whichever is the primary is used
--   dbname       its database; NULL: the name of this one
--   remote_user, password
--                how the current role connects; NULL: as it does to the other nodes, or under
--                its own name without a password
--   options      more options of libpq for connections, as {"sslmode": "verify-full"}
-- Needs: a superuser here, and one on the node.
-- Errors: 55000 the server cannot be this node, DETAIL says why; 08001 it cannot be reached;
--   42710 there is such a node.
CREATE PROCEDURE cmq_cluster.add_node(
	node			int,
	host			text,
	port			text DEFAULT '5432',
	dbname			text DEFAULT NULL,
	remote_user		text DEFAULT NULL,
	password		text DEFAULT NULL,
	options			jsonb DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	gid pg_catalog.text;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	gid := cmq_cluster._add_node(node, host, port, dbname, remote_user, password, options);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(gid, ARRAY[node]);
END $$;
COMMENT ON PROCEDURE cmq_cluster.add_node(int, text, text, text, text, text, jsonb) IS 'add a server to the cluster: its number is its cmq.msg_id_offset';

CREATE FUNCTION cmq_cluster._add_node(node int, host text, port text, dbname text, remote_user text, password text, options jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	server name := 'cmq_cluster_' || node;
	source int;
	mapping record;
	queues text[];
	gid text;
	commands text;
	columns json;
	q text;
BEGIN
	IF node IS NULL OR node NOT BETWEEN 0 AND 63 OR host IS NULL OR port IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a node needs a number from 0 to 63, a host and a port';
	END IF;
	PERFORM cmq_cluster._alone();
	PERFORM cmq_cluster._make_id();
	IF EXISTS (SELECT FROM cmq_cluster.node n WHERE n.node = $1) THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('there is a node %s', node);
	END IF;
	EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER postgres_fdw OPTIONS (%s)', server,
		(SELECT string_agg(format('%I %L', o.key, o.value), ', ')
		   FROM jsonb_each_text('{"connect_timeout": "3", "target_session_attrs": "read-write", "keepalives_idle": "5", "keepalives_interval": "2",
				"keepalives_count": "3", "tcp_user_timeout": "10000", "application_name": "cmq_cluster", "async_capable": "true", "fetch_size": "10000",
				"updatable": "false"}'::jsonb || coalesce(options, '{}')
				|| jsonb_build_object('host', host, 'port', port, 'dbname', coalesce(dbname, current_database()::text))) o));
	FOR mapping IN
		SELECT DISTINCT ON (m.umuser) m.umuser, CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE m.umuser::regrole::text END AS role, m.umoptions AS options
		  FROM pg_user_mappings m JOIN cmq_cluster.node n ON n.server = m.srvname
	LOOP
		CONTINUE WHEN mapping.umuser = (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user) AND (remote_user IS NOT NULL OR password IS NOT NULL);
		PERFORM cmq_cluster._map(server, mapping.role, (SELECT jsonb_object_agg(split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)) FROM unnest(mapping.options) o));
	END LOOP;
	IF NOT EXISTS (SELECT FROM pg_user_mappings m WHERE m.srvname = server AND m.umuser = (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user)) THEN
		PERFORM cmq_cluster._map(server, format('%I', current_user), jsonb_strip_nulls(jsonb_build_object('user', coalesce(remote_user, current_user::text), 'password', password)));
	END IF;
	source := (SELECT min(n.node) FROM cmq_cluster.node n);
	INSERT INTO cmq_cluster.node (node, server, step, functions, accepts) VALUES ($1, server, 0, '', true);
	PERFORM cmq_cluster._check_node(node);

	queues := ARRAY(SELECT k.queue FROM cmq_cluster.queue k WHERE k.everywhere ORDER BY 1);
	commands := concat_ws('; ', 'CREATE SCHEMA IF NOT EXISTS cmq_node; COMMENT ON SCHEMA cmq_node IS ''cmq_cluster: the views of queues of the cluster''',
		(SELECT string_agg(cmq_cluster._admit(m.remote_user, has_table_privilege(m.role, 'cmq_cluster.queue', 'INSERT')), '; ')
		   FROM (SELECT u.umuser AS role, (SELECT substr(o, 6) FROM unnest(u.umoptions) o WHERE o LIKE 'user=%') AS remote_user
				   FROM pg_user_mappings u WHERE u.srvname = server AND u.umuser <> 0) m));
	FOREACH q IN ARRAY queues LOOP
		commands := concat_ws('; ', commands, cmq_cluster._copy(q, cmq_cluster._source(q), node, false));
	END LOOP;
	FOREACH q IN ARRAY queues LOOP
		commands := concat_ws('; ', commands, nullif(cmq_cluster._copy(q, cmq_cluster._source(q), node, true), ''));
	END LOOP;
	IF source IS NOT NULL THEN
		commands := concat_ws('; ', commands, nullif(cmq_cluster._copy_topics(source, node), ''));
	END IF;
	FOREACH q IN ARRAY queues LOOP
		columns := (SELECT a.answer::json FROM cmq_cluster._ask(ARRAY[cmq_cluster._source(q)], ARRAY[cmq_cluster._ask_columns(q)], true) a);
		INSERT INTO cmq_cluster.place VALUES (q, $1, true);
		PERFORM cmq_cluster._define(q, columns);
	END LOOP;
	gid := (SELECT p.gid FROM cmq_cluster._prepare('add_node', '', ARRAY[node], ARRAY[commands], NULL) p);
	RETURN gid;
END $$;
COMMENT ON FUNCTION cmq_cluster._add_node(int, text, text, text, text, text, jsonb) IS 'cmq_cluster internal: add_node, up to the decision';

-- A node that has the queue, to copy it from.
CREATE FUNCTION cmq_cluster._source(queue text) RETURNS int
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT p.node FROM cmq_cluster.place p WHERE p.queue = $1 ORDER BY p.accepts DESC, p.node LIMIT 1);
END $$;
COMMENT ON FUNCTION cmq_cluster._source(text) IS 'cmq_cluster internal: a node that has the queue';

CREATE FUNCTION cmq_cluster._map(server name, role text, options jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('CREATE USER MAPPING FOR %s SERVER %I OPTIONS (%s)', role, server,
				   (SELECT string_agg(format('%I %L', o.key, o.value), ', ') FROM jsonb_each_text(options) o));
	IF role <> format('%I', current_user) THEN
		EXECUTE format('GRANT USAGE ON FOREIGN SERVER %I TO %s', server, role);
	END IF;
END $$;
COMMENT ON FUNCTION cmq_cluster._map(name, text, jsonb) IS 'cmq_cluster internal: have a role connect to a node';

-- add_user: let a role of this database use the cluster.
--
-- It connects to the nodes as remote_user, and can do there what that role can do.  On each
-- node remote_user gets USAGE on schemas cmq and cmq_node, and a manager USAGE and CREATE on
-- cmq, cmq_data and cmq_node.
-- Parameters:
--   role         a role of this database
--   remote_user  a role on the nodes; NULL: of the same name
--   password     its password there, on all nodes; roles that are no superusers need one
--   manager      it may create and drop queues and topics of the cluster, too; it can also
--                change what the front knows of those of others
-- Called again it changes all of these: without a password there is none any more.  What
-- remote_user has on the nodes it keeps, also CREATE that it got as a manager.
-- Needs: a superuser here, and one on the nodes.
-- Errors: those of create_queue; 42704 a node has no role remote_user; 55000 there is no node.
CREATE PROCEDURE cmq_cluster.add_user(role text, remote_user text DEFAULT NULL, password text DEFAULT NULL, manager boolean DEFAULT false)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._add_user(role, remote_user, password, manager);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.add_user(text, text, text, boolean) IS 'let a role of this database use the cluster, as a role on the nodes';

CREATE FUNCTION cmq_cluster._add_user(role text, remote_user text, password text, manager boolean, OUT gid text, OUT nodes int[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET client_min_messages = 'warning' AS $$
DECLARE
	node record;
BEGIN
	IF role IS NULL OR manager IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'role and manager must not be NULL';
	END IF;
	PERFORM cmq_cluster._take_turn('');
	nodes := cmq_cluster._nodes();
	IF cardinality(nodes) = 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'there is no node that a role could connect to',
			HINT = 'Add nodes with CALL cmq_cluster.add_node(..).';
	END IF;
	FOR node IN SELECT n.server FROM cmq_cluster.node n LOOP
		EXECUTE format('DROP USER MAPPING IF EXISTS FOR %I SERVER %I', role, node.server);
		PERFORM cmq_cluster._map(node.server, format('%I', role), jsonb_strip_nulls(jsonb_build_object('user', coalesce(remote_user, role), 'password', password)));
	END LOOP;
	EXECUTE format('GRANT USAGE ON SCHEMA cmq_cluster TO %I', role);
	EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA cmq_cluster TO %I', role);
	EXECUTE format('GRANT EXECUTE ON ALL ROUTINES IN SCHEMA cmq_cluster TO %I', role);
	EXECUTE format('GRANT INSERT, DELETE ON cmq_cluster.decision, cmq_cluster.turn TO %I', role);
	EXECUTE format('%s EXECUTE ON FUNCTION cmq_cluster._define(text, json), cmq_cluster._undefine(text) %s %I',
				   CASE WHEN manager THEN 'GRANT' ELSE 'REVOKE' END, CASE WHEN manager THEN 'TO' ELSE 'FROM' END, role);
	EXECUTE format('%s INSERT, UPDATE, DELETE ON cmq_cluster.queue, cmq_cluster.place, cmq_cluster.topic %s %I',
				   CASE WHEN manager THEN 'GRANT' ELSE 'REVOKE' END, CASE WHEN manager THEN 'TO' ELSE 'FROM' END, role);
	gid := (SELECT p.gid FROM cmq_cluster._prepare('add_user', '', nodes,
				array_fill(cmq_cluster._admit(coalesce(remote_user, role), manager), ARRAY[cardinality(nodes)]), NULL) p);
END $$;
COMMENT ON FUNCTION cmq_cluster._add_user(text, text, text, boolean) IS 'cmq_cluster internal: add_user, up to the decision';

-- Commands for a node that let a role there use the cluster.
CREATE FUNCTION cmq_cluster._admit(remote_user text, manager boolean) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN format('GRANT USAGE ON SCHEMA cmq, cmq_node TO %I', remote_user)
		|| CASE WHEN manager THEN format('; GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data, cmq_node TO %I', remote_user) ELSE '' END;
END $$;
COMMENT ON FUNCTION cmq_cluster._admit(text, boolean) IS 'cmq_cluster internal: commands for a node that let a role there use the cluster';

-- drain_node: hand out a node to senders no more, or, with accepts => true, again.
--
-- Consumers go on until nothing is left; queues and history stay.  Who is connected to the
-- node can still send: let senders ask connection() again.
-- Parameters:
--   node      its number
--   accepts   whether it is handed out
-- Needs: UPDATE on cmq_cluster.node: a superuser here.
-- Errors: 42704 no such node.
CREATE FUNCTION cmq_cluster.drain_node(node int, accepts boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF accepts IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'accepts must not be NULL';
	END IF;
	UPDATE cmq_cluster.node n SET accepts = $2 WHERE n.node = $1;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('there is no node %s', node);
	END IF;
END $$;
COMMENT ON FUNCTION cmq_cluster.drain_node(int, boolean) IS 'have connection() name a node to senders no more, or, with accepts => true, again';

-- Commands for a node that drop a queue of which nothing is left, or raise 55000.  Senders
-- wait meanwhile, and find no queue then; they do not wait if there is something left.  The
-- order of locks is that of cmq: cmq_unbind_dead_letter() takes the queue lock, then comes the
-- pending table.
CREATE FUNCTION cmq_cluster._drop_if_empty(queue text, node int) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	functions name := (SELECT n.functions FROM cmq_cluster.node n WHERE n.node = $2);
	look text := format($c$DO $do$ DECLARE n bigint; BEGIN
			SELECT a.active_msg_num + a.inactive_msg_num + a.delay_msg_num + a.rewind_msg_num INTO n FROM %1$I.cmq_queue_attributes(%2$L) a;
			IF n > 0 THEN
				RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = %3$L, DETAIL = n || ' messages of it are pending or can be brought back.',
					HINT = 'Wait until they are consumed and the rewind window is over, or remove them with cmq_clear_queue and cmq_alter_queue(.., rewind_seconds => 0) on the node.';
			END IF;
		END $do$;$c$, functions, queue, format('queue "%s" is not empty', queue));
BEGIN
	RETURN format('SELECT %2$I.cmq_unbind_dead_letter(%3$L); %4$s LOCK TABLE cmq_data.%1$I IN ACCESS EXCLUSIVE MODE; %4$s %5$s SELECT %2$I.cmq_drop_queue(%3$L)',
		'q_' || queue || '_pending', functions, queue, look, cmq_cluster._drop_node_views(queue));
END $$;
COMMENT ON FUNCTION cmq_cluster._drop_if_empty(text, int) IS 'cmq_cluster internal: commands that drop a queue on a node if nothing is left of it';

-- remove_node: remove a node from the cluster, with the cluster's queues on it.
--
-- They must be empty: nothing pending, nothing that could be brought back.  Its topics stay.
-- Parameters:
--   node     its number
--   lost     the server is gone for good: it is not asked.  What it had is not counted
--            any more, and a queue that was there alone is none of the cluster any more.
-- Needs: a superuser here, and on the node ownership of the queues.
-- Errors: 42704 no such node; 55000 a queue is not empty, or is on no other node; 08001 it
--   cannot be reached.
CREATE PROCEDURE cmq_cluster.remove_node(node int, lost boolean DEFAULT false)
LANGUAGE plpgsql AS $$
DECLARE
	gid pg_catalog.text;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	gid := cmq_cluster._remove_node(node, lost);
	IF lost THEN
		PERFORM cmq_cluster._forget_node(node);
		COMMIT;
		RETURN;
	END IF;
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(gid, ARRAY[node]);
	PERFORM cmq_cluster._forget_node(node);
END $$;
COMMENT ON PROCEDURE cmq_cluster.remove_node(int, boolean) IS 'remove a node from the cluster, with the cluster''s queues on it, which must be empty; lost => true: its server is gone for good';

CREATE FUNCTION cmq_cluster._remove_node(node int, lost boolean) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	queues text[];
	last text;
	commands text := 'SELECT 1';
	gid text;
	q text;
BEGIN
	IF lost IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'lost must not be NULL';
	END IF;
	PERFORM cmq_cluster._alone();
	PERFORM cmq_cluster.drain_node(node);
	queues := ARRAY(SELECT p.queue FROM cmq_cluster.place p WHERE p.node = $1 ORDER BY 1);
	last := (SELECT min(p.queue) FROM cmq_cluster.place p WHERE p.node = $1 AND NOT EXISTS (SELECT FROM cmq_cluster.place o WHERE o.queue = p.queue AND o.node <> $1));
	IF last IS NOT NULL AND NOT lost THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('queue "%s" is on node %s alone', last, node),
			HINT = format('Drop it, with CALL cmq_cluster.drop_queue(%L), or move it, with cmq_cluster.move_queue.', last);
	END IF;
	IF NOT lost THEN
		-- those whose dead letters go to another one come first
		FOREACH q IN ARRAY queues LOOP
			commands := concat_ws('; ', commands, format('SELECT %I.cmq_unbind_dead_letter(%L)', (SELECT n.functions FROM cmq_cluster.node n WHERE n.node = $1), q));
		END LOOP;
		FOREACH q IN ARRAY queues LOOP
			commands := concat_ws('; ', commands, cmq_cluster._drop_if_empty(q, node));
		END LOOP;
	END IF;
	DELETE FROM cmq_cluster.place p WHERE p.node = $1;
	FOREACH q IN ARRAY queues LOOP
		IF cmq_cluster._source(q) IS NULL THEN
			PERFORM cmq_cluster._undefine(q);
		ELSE
			PERFORM cmq_cluster._define(q, cmq_cluster._columns(q));
		END IF;
	END LOOP;
	IF lost THEN
		DELETE FROM cmq_cluster.decision d WHERE d.nodes = ARRAY[node];
	ELSE
		gid := (SELECT p.gid FROM cmq_cluster._prepare('remove_node', '', ARRAY[node], ARRAY[commands], NULL) p);
	END IF;
	RETURN gid;
END $$;
COMMENT ON FUNCTION cmq_cluster._remove_node(int, boolean) IS 'cmq_cluster internal: remove_node, up to the decision';

CREATE FUNCTION cmq_cluster._forget_node(node int) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET client_min_messages = 'warning' AS $$
BEGIN
	IF EXISTS (SELECT FROM cmq_cluster.decision d WHERE d.nodes = ARRAY[node]) THEN
		RETURN;		-- it has not committed; called again, remove_node finds nothing else to do
	END IF;
	EXECUTE format('DROP SERVER IF EXISTS %I CASCADE', (SELECT n.server FROM cmq_cluster.node n WHERE n.node = $1));
	DELETE FROM cmq_cluster.node n WHERE n.node = $1;
	UPDATE cmq_cluster.decision d SET nodes = array_remove(d.nodes, node) WHERE node = ANY (d.nodes);
END $$;
COMMENT ON FUNCTION cmq_cluster._forget_node(int) IS 'cmq_cluster internal: drop the server of a node that was removed';

-- adopt_queue: make a queue that is on one node, or several, one of the cluster.
--
-- Nodes that do not have it get it, with its settings, owner and rights.  Its messages stay
-- where they are.
-- Parameters:
--   queue   the queue
--   nodes   as for create_queue
-- Needs: a superuser here and on the nodes.
-- Errors: those of create_queue; 42704 no node has it; 42710 it is one of the cluster;
--   55000 its settings are not the same on all nodes that have it.
CREATE PROCEDURE cmq_cluster.adopt_queue(queue text, nodes int[] DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._place(queue, nodes, true);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.changed);
END $$;
COMMENT ON PROCEDURE cmq_cluster.adopt_queue(text, int[]) IS 'make a queue that is on some nodes already one of the cluster; nodes without it get it';

-- adopt_topic: make a topic that is on one node, or several, one of the cluster.
--
-- Nodes that do not have it get it, with its owner, rights and subscriptions.  The queues
-- that are subscribed must be on all nodes: adopt them first.
-- Parameters:
--   topic   the topic
-- Needs: a superuser here and on the nodes.
-- Errors: those of create_topic; 42704 no node has it, or a node has not a queue that is
--   subscribed; 42710 it is one of the cluster; 55000 it is not the same on all nodes that
--   have it.
CREATE PROCEDURE cmq_cluster.adopt_topic(topic text)
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._adopt_topic(topic);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.nodes);
END $$;
COMMENT ON PROCEDURE cmq_cluster.adopt_topic(text) IS 'make a topic that is on some nodes already one of the cluster; nodes without it get it';

CREATE FUNCTION cmq_cluster._adopt_topic(topic text, OUT gid text, OUT nodes int[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	source int;
	commands text[] := '{}';
	n int;
BEGIN
	PERFORM cmq_cluster._alone();
	nodes := cmq_cluster._nodes();
	IF EXISTS (SELECT FROM cmq_cluster.topic t WHERE t.topic = $1) THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('the cluster has a topic "%s"', topic);
	END IF;
	source := (SELECT min(a.node) FROM cmq_cluster._ask(nodes, array_fill(format('SELECT count(*) FROM cmq.topics t WHERE t.topic = %L', topic), ARRAY[cardinality(nodes)]), true) a
				WHERE a.answer <> '0');
	IF source IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('none of the nodes has a topic "%s"', topic);
	END IF;
	INSERT INTO cmq_cluster.topic VALUES (topic);
	FOREACH n IN ARRAY nodes LOOP
		commands := commands || concat_ws('; ', 'SELECT 1', CASE WHEN n <> source THEN nullif(cmq_cluster._copy_topics(source, n), '') END);
	END LOOP;
	gid := (SELECT p.gid FROM cmq_cluster._prepare('adopt_topic', topic, nodes, commands, NULL) p);
END $$;
COMMENT ON FUNCTION cmq_cluster._adopt_topic(text) IS 'cmq_cluster internal: adopt_topic, up to the decision';

-- move_queue: have a queue on these nodes from now on.
--
-- Nodes that do not have it get it, with its settings, owner and rights.  On all others new
-- messages are not wanted any more (connection() does not hand them out), and the queue is
-- dropped there if nothing is pending and nothing could be brought back: call it again when
-- that is so.  Traffic goes on; who still sends there gets 42704 then.
-- Parameters:
--   queue   the queue
--   nodes   at least one; NULL: all, and those that are added later
-- Needs: a superuser here and on the nodes.
-- Errors: those of alter_queue.
CREATE PROCEDURE cmq_cluster.move_queue(queue text, nodes int[])
LANGUAGE plpgsql AS $$
DECLARE
	call pg_catalog.record;
BEGIN
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM cmq_cluster._begin();
	SELECT * INTO call FROM cmq_cluster._place(queue, nodes, false);
	COMMIT AND CHAIN;
	PERFORM cmq_cluster._finish(call.gid, call.changed);
END $$;
COMMENT ON PROCEDURE cmq_cluster.move_queue(text, int[]) IS 'have a queue on these nodes from now on; where it is empty on others it is dropped';

CREATE FUNCTION cmq_cluster._place(queue text, nodes int[], adopt boolean, OUT gid text, OUT changed int[])
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	targets int[];
	present int[];
	commands text[] := '{}';
	holders int[];
	source int;
	columns json;
	n int;
BEGIN
	PERFORM cmq_cluster._alone();
	targets := ARRAY(SELECT DISTINCT t FROM unnest(coalesce(nodes, cmq_cluster._nodes())) t ORDER BY t);
	present := ARRAY(SELECT p.node FROM cmq_cluster.place p WHERE p.queue = $1 ORDER BY 1);
	IF cardinality(targets) = 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('no node for queue "%s"', queue);
	END IF;
	IF adopt THEN
		IF cardinality(present) > 0 THEN
			RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('the cluster has a queue "%s"', queue);
		END IF;
		holders := ARRAY(SELECT a.node FROM cmq_cluster._ask(targets, array_fill(format('SELECT count(*) FROM cmq.queues q WHERE q.queue = %L', queue), ARRAY[cardinality(targets)]), true) a
						  WHERE a.answer <> '0');
		source := holders[1];
		IF source IS NULL THEN
			RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('none of the nodes has a queue "%s"', queue);
		END IF;
		INSERT INTO cmq_cluster.queue VALUES (queue, nodes IS NULL);
	ELSE
		source := (cmq_cluster._nodes_of(queue))[1];
		UPDATE cmq_cluster.queue k SET everywhere = nodes IS NULL WHERE k.queue = $1;
	END IF;
	columns := (SELECT a.answer::json FROM cmq_cluster._ask(ARRAY[source], ARRAY[cmq_cluster._ask_columns(queue)], true) a);
	changed := '{}';
	FOREACH n IN ARRAY targets LOOP
		CONTINUE WHEN n = ANY (present);
		changed := changed || n;
		commands := commands || concat_ws('; ', 'SELECT 1', cmq_cluster._copy(queue, source, n, false),
										  nullif(cmq_cluster._copy(queue, source, n, true), ''));
		INSERT INTO cmq_cluster.place VALUES (queue, n, true);
	END LOOP;
	UPDATE cmq_cluster.place p SET accepts = p.node = ANY (targets) WHERE p.queue = $1;
	FOREACH n IN ARRAY present LOOP
		CONTINUE WHEN n = ANY (targets) OR (SELECT a.answer FROM cmq_cluster._ask(ARRAY[n], cmq_cluster._calls(ARRAY[n], 'cmq_queue_attributes', cmq_cluster._arg('queue', queue)), true) a) IS NULL;
		CONTINUE WHEN (SELECT a.answer::bigint FROM cmq_cluster._ask(ARRAY[n], ARRAY[format(
			'SELECT a.active_msg_num + a.inactive_msg_num + a.delay_msg_num + a.rewind_msg_num FROM %I.cmq_queue_attributes(%L) a',
			(SELECT m.functions FROM cmq_cluster.node m WHERE m.node = n), queue)], true) a) > 0;
		changed := changed || n;
		commands := commands || cmq_cluster._drop_if_empty(queue, n);
		DELETE FROM cmq_cluster.place p WHERE p.queue = $1 AND p.node = n;
	END LOOP;
	PERFORM cmq_cluster._define(queue, columns);
	gid := (SELECT p.gid FROM cmq_cluster._prepare('move_queue', queue, changed, commands, NULL) p);
END $$;
COMMENT ON FUNCTION cmq_cluster._place(text, int[], boolean) IS 'cmq_cluster internal: adopt_queue and move_queue, up to the decision';

--
-- Clients
--

-- connection: a connection string for libpq, without user and password.
--
-- Parameters:
--   queue      the client is for this queue; NULL: for any that is on all nodes
--   consumer   NULL: for a sender, one of the nodes that accept messages, by chance.  From 0
--              on: for a consumer with this number; number i gets the (i modulo N)th of the
--              N nodes that have messages, so N consumers are the least that there may be
-- Result: as host=.. port=.. dbname=..; the client adds who it is.
-- Needs: what add_user() gives; nothing on the node.
-- Errors: 42704 the cluster has no such queue; 22023 consumer is less than 0; 55000 no node
--   accepts messages, or there is no node.
CREATE FUNCTION cmq_cluster.connection(queue text DEFAULT NULL, consumer int DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	nodes int[] := CASE WHEN queue IS NULL THEN cmq_cluster._nodes() ELSE cmq_cluster._nodes_of(queue) END;
	chosen int;
BEGIN
	IF consumer < 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('consumer is out of range: %s', consumer), DETAIL = 'It must be 0 or more.';
	ELSIF cardinality(nodes) = 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'there is no node',
			HINT = 'Add nodes with CALL cmq_cluster.add_node(..).';
	ELSIF consumer IS NOT NULL THEN
		chosen := nodes[consumer % cardinality(nodes) + 1];
	ELSE
		chosen := (SELECT n.node FROM cmq_cluster.node n LEFT JOIN cmq_cluster.place p ON p.node = n.node AND p.queue = $1
					WHERE n.node = ANY (nodes) AND n.accepts AND p.accepts IS NOT false ORDER BY random() LIMIT 1);
		IF chosen IS NULL THEN
			RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'no node accepts messages',
				HINT = 'See cmq_cluster.nodes. SELECT cmq_cluster.drain_node(.., accepts => true); lets one accept them again.';
		END IF;
	END IF;
	RETURN (SELECT string_agg(format('%s=%s', o.name, CASE WHEN o.value ~ '^[A-Za-z0-9_./,:-]+$' THEN o.value ELSE '''' || replace(replace(o.value, '\', '\\'), '''', '\''') || '''' END), ' ' ORDER BY o.i)
			  FROM cmq_cluster.node n
			  JOIN pg_foreign_server s ON s.srvname = n.server,
				   LATERAL (SELECT split_part(u.o, '=', 1) AS name, substr(u.o, strpos(u.o, '=') + 1) AS value, u.i FROM unnest(s.srvoptions) WITH ORDINALITY u(o, i)) o
			 WHERE n.node = chosen
			   AND o.name NOT IN ('application_name', 'async_capable', 'fetch_size', 'updatable', 'connect_timeout', 'keepalives_idle', 'keepalives_interval',
								  'keepalives_count', 'tcp_user_timeout'));
END $$;
COMMENT ON FUNCTION cmq_cluster.connection(text, int) IS 'a connection string for a sender, or for the consumer with a number';

REVOKE ALL ON ALL ROUTINES IN SCHEMA cmq_cluster FROM PUBLIC;
