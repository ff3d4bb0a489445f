-- Functions in indexes of a queue's tables run as the owner of the queue, whoever
-- writes: they have nothing of the caller's, do not become what the session may
-- become, and what they set is undone.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_code_owner;
CREATE ROLE regress_code_user;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_code_owner;
CREATE SCHEMA code AUTHORIZATION regress_code_owner;
GRANT USAGE ON SCHEMA code TO PUBLIC;

SET ROLE regress_code_owner;
-- what happens is told by notices: nothing else is left of a call that fails
CREATE FUNCTION code.work(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		RESET ROLE;
		RAISE NOTICE '%: became %', what, current_user;
	EXCEPTION WHEN OTHERS THEN
		RAISE NOTICE '%: as %, %', what, current_user, SQLERRM;
	END;
	PERFORM set_config('search_path', 'code', false), set_config('cmq.reason', 'forged', false), set_config('statement_timeout', '1h', false);
END $$;
CREATE FUNCTION code.trap(n int, what text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM code.work(what); RETURN n; END $$;
SELECT cmq_create_queue('code', rewind_seconds => 3600);
-- the last one is evaluated when the index is opened
CREATE INDEX ON cmq_data.q_code (code.trap(length(body), 'message'));
CREATE INDEX ON cmq_data.q_code_pending (code.trap(receive_count, 'pending'));
CREATE INDEX ON cmq_data.q_code_rewind (code.trap(receive_count, 'history'));
CREATE INDEX ON cmq_data.q_code_pending (receive_count) WHERE code.trap(receive_count, 'predicate') >= 0;
CREATE INDEX ON cmq_data.q_code_pending ((receive_count + code.trap(0, 'opened')));
GRANT INSERT, DELETE ON cmq.q_code TO regress_code_user;
RESET ROLE;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA code TO PUBLIC;

-- a new session: nothing is loaded yet
\c -
\i :helpers
SET client_min_messages = notice;
SET statement_timeout = '5min';
SET ROLE regress_code_user;
SELECT cmq_send('code', 'a') > 0 AS sent;
SELECT count(*) FROM cmq_send_batch('code', '{b,c}');
SELECT receipt_handle AS handle FROM cmq_receive('code') \gset
SELECT cmq_change_visibility('code', :'handle', 100) AS handle \gset
SELECT cmq_delete('code', :'handle');
SELECT array_agg(receipt_handle) AS handles FROM cmq_receive('code', 10) \gset
SELECT count(*) FROM cmq_delete_batch('code', :'handles');
-- what is consumed leaves the pending table, and comes into the history
SELECT count(*) FROM cmq_send_batch('code', '{e,f}', headers => ARRAY['{}', '{}']::jsonb[]);
SELECT msg_id AS id, body FROM cmq_consume('code') \gset
SELECT body FROM cmq_consume('code', filter => '{}');
SELECT body AS by_id, receipt_handle AS handle FROM cmq_receive_messages('code', ARRAY[(SELECT cmq_send('code', 'g'))]) \gset
SELECT :'body' AS body, :'by_id' AS by_id, cmq_delete('code', :'handle') AS deleted;
SELECT current_user, current_setting('search_path') AS path, current_setting('cmq.reason') AS reason, current_setting('statement_timeout') AS timeout;
RESET ROLE;
-- as a superuser, too
SELECT cmq_send('code', 'd') > 0 AS sent;
SELECT body FROM cmq_receive('code');
SELECT cmq_rewind('code', now() - interval '50 min') IS NOT NULL AS rewound;
SELECT body FROM cmq_consume('code', 2) WITH ORDINALITY ORDER BY ordinality;
SELECT count(*) AS taken_back FROM cmq_delete_messages('code', array(SELECT msg_id FROM cmq.q_code_live WHERE body = 'c'));
SET client_min_messages = warning;

-- The caller's cursors: neither read nor replaced, and none is left behind.
SET ROLE regress_code_owner;
CREATE FUNCTION code.evil() RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN NEXT 'evil, as ' || current_user; END $$;
CREATE FUNCTION code.cursors() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	name text;
	c refcursor;
	r record;
BEGIN
	FOR name IN SELECT p.name FROM pg_catalog.pg_cursors p WHERE p.name ~ '^(app|done)' ORDER BY 1 LOOP
		c := name;
		BEGIN
			FETCH c INTO r;
			RAISE NOTICE 'read % of %', r, name;
		EXCEPTION WHEN OTHERS THEN
			RAISE NOTICE 'read %: %', name, SQLERRM;
		END;
		BEGIN
			CLOSE c;
			OPEN c FOR SELECT * FROM code.evil();
			RAISE NOTICE 'replaced %', name;
		EXCEPTION WHEN OTHERS THEN
			RAISE NOTICE 'close %: %', name, SQLERRM;
		END;
	END LOOP;
	c := 'later';
	OPEN c FOR SELECT * FROM code.evil();
	BEGIN
		SET CONSTRAINTS ALL IMMEDIATE;
		RAISE NOTICE 'constraints are immediate';
	EXCEPTION WHEN OTHERS THEN
		RAISE NOTICE 'constraints: %', SQLERRM;
	END;
END $$;
CREATE FUNCTION code.cursors(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM code.cursors(); RETURN n; END $$;
SELECT cmq_create_queue('cursors', rewind_seconds => 3600);
CREATE INDEX ON cmq_data.q_cursors_pending (code.cursors(receive_count));
CREATE INDEX ON cmq_data.q_cursors_rewind (code.cursors(receive_count));
RESET ROLE;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
SET client_min_messages = notice;
BEGIN;
INSERT INTO child VALUES (1);
DECLARE app CURSOR FOR SELECT 'mine ' || i FROM generate_series(1, 9) i;
DECLARE done SCROLL CURSOR FOR SELECT 'done';
FETCH ALL FROM done;
FETCH 1 FROM app;
SELECT cmq_send('cursors', 'x') > 0 AS sent;
FETCH 1 FROM app;
SELECT receipt_handle AS handle FROM cmq_receive('cursors') \gset
FETCH 1 FROM app;
SELECT cmq_delete('cursors', :'handle');
SELECT cmq_send('cursors', 'y') > 0 AS sent;
FETCH 1 FROM app;
SELECT body FROM cmq_consume('cursors');
FETCH 1 FROM app;
SAVEPOINT s;
SELECT cmq_send('cursors', NULL);
ROLLBACK TO s;
FETCH 1 FROM app;
FETCH BACKWARD 1 FROM done;
SELECT name FROM pg_cursors WHERE name <> '' ORDER BY 1;
CLOSE app;
DECLARE later CURSOR FOR SELECT 'mine, too';
FETCH 1 FROM later;
INSERT INTO parent VALUES (1);
COMMIT;
-- also when the call fails in the midst of the code
SET ROLE regress_code_owner;
CREATE OR REPLACE FUNCTION code.cursors(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE 'fails'; END $$;
RESET ROLE;
BEGIN;
DECLARE app CURSOR FOR SELECT 'mine ' || i FROM generate_series(1, 9) i;
SAVEPOINT s;
SELECT cmq_send('cursors', 'x');
ROLLBACK TO s;
FETCH 1 FROM app;
CLOSE app;
COMMIT;
SET client_min_messages = warning;
DROP TABLE child, parent;
SELECT cmq_drop_queue('cursors');

-- Code that is in no expression: types bring it with them.
SET ROLE regress_code_owner;
SELECT cmq_create_queue('types');
CREATE SEQUENCE code.as_owner;
CREATE SEQUENCE code.as_other;
CREATE FUNCTION code.diff(a float8, b float8) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN a - b; END $$;
CREATE TYPE code.span AS RANGE (subtype = float8, subtype_diff = code.diff);
CREATE INDEX ON cmq_data.q_types_pending USING gist ((CASE receive_count WHEN 0 THEN '[3,9)'::code.span ELSE '[5,10)'::code.span END));
-- pages enough to choose from
SELECT count(*) FROM cmq_send_batch('types', array_fill('x'::text, '{1000}'));
CREATE OR REPLACE FUNCTION code.diff(a float8, b float8) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval(CASE current_user WHEN 'regress_code_owner' THEN 'code.as_owner' ELSE 'code.as_other' END);
	RETURN a - b;
END $$;
GRANT USAGE ON SEQUENCE code.as_other TO PUBLIC;
RESET ROLE;
SELECT count(*) FROM cmq_receive('types', 10);
SELECT (SELECT is_called FROM code.as_owner) AS as_owner, (SELECT is_called FROM code.as_other) AS as_other;
SELECT cmq_drop_queue('types');

-- An index of the server's own functions needs none of this.
SET ROLE regress_code_owner;
SELECT cmq_create_queue('plain');
CREATE INDEX ON cmq_data.q_plain ((headers->>'shop')) WHERE length(body) > 1;
RESET ROLE;
SELECT cmq_send('plain', 'ab', headers => '{"shop": "x"}') > 0 AS sent;
SELECT body FROM cmq_receive('plain');
SELECT cmq_drop_queue('plain');

-- The other way round: a caller's path does not reach the owner's functions.
SET ROLE regress_code_owner;
SELECT cmq_create_queue('unwary');
CREATE FUNCTION code.unwary(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN length(lower(t)); END $$;
CREATE INDEX ON cmq_data.q_unwary (code.unwary(body));
GRANT INSERT ON cmq.q_unwary TO regress_code_user;
RESET ROLE;
CREATE SCHEMA trap AUTHORIZATION regress_code_user;
GRANT USAGE ON SCHEMA trap TO PUBLIC;
SET ROLE regress_code_user;
CREATE FUNCTION trap.lower(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'runs as %', current_user; END $$;
SET search_path = trap, pg_catalog, public;
SELECT public.cmq_send('unwary', 'x') > 0 AS sent;
RESET search_path;
RESET ROLE;

-- A change of visibility that fails in such code gives its message back, also to receives
-- that begin behind what the code has received meanwhile.
SET ROLE regress_code_owner;
SELECT cmq_create_queue('fails');
CREATE FUNCTION code.truncate() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE cmq_data.q_fails_rewind;
EXCEPTION WHEN OTHERS THEN
	RAISE NOTICE '%', SQLERRM;
END $$;
CREATE FUNCTION code.fail(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF current_setting('code.armed', true) = 'yes' THEN
		PERFORM set_config('code.armed', 'no', false);
		RAISE NOTICE 'the code receives %', (SELECT string_agg(body, ' ') FROM public.cmq_receive('fails', 10));
		RAISE EXCEPTION 'failed';
	END IF;
	IF current_setting('code.armed', true) = 'truncate' THEN
		PERFORM code.truncate();
	END IF;
	RETURN n;
END $$;
CREATE INDEX ON cmq_data.q_fails_pending (code.fail(receive_count));
SELECT cmq_send('fails', 'first') > 0 AS sent;
SELECT cmq_change_visibility('fails', receipt_handle, 0) AS handle FROM cmq_receive('fails') \gset
SELECT cmq_send('fails', 'second') > 0 AS sent;
SET code.armed = 'yes';
SET client_min_messages = notice;
SELECT cmq_change_visibility('fails', :'handle', 60);
\c -
SET client_min_messages = warning;
SELECT string_agg(body, ' ' ORDER BY body) AS both FROM cmq_receive('fails', 10);
-- nor does the code truncate what nobody may truncate
SET code.armed = 'truncate';
SET client_min_messages = notice;
SELECT cmq_send('fails', 'third') > 0 AS sent;
RESET code.armed;
SET client_min_messages = warning;
SELECT cmq_drop_queue('fails');

SELECT cmq_drop_queue('code'), cmq_drop_queue('unwary');
DROP SCHEMA code, trap CASCADE;
DROP OWNED BY regress_code_owner, regress_code_user;
DROP ROLE regress_code_owner, regress_code_user;
