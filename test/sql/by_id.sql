-- Messages of which the ids alone are known: each way in which their pending rows are found,
-- and cmq._deliveries_of(), which names the deliveries of such messages.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

-- the ids of all messages, with some of none
CREATE FUNCTION by_id_ids(queue text) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
BEGIN
	EXECUTE format('SELECT array_agg(cmq.msg_id(enqueued_at) ORDER BY random()) FROM cmq_data.%I', 'q_' || queue) INTO ids;
	RETURN ids || '{1,-1,9223372036854775807}'::bigint[] || ids[1];
END $$;
CREATE FUNCTION by_id_id(queue text, message text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	id bigint;
BEGIN
	EXECUTE format('SELECT cmq.msg_id(enqueued_at) FROM cmq_data.%I WHERE body = %L', 'q_' || queue, message) INTO STRICT id;
	RETURN id;
END $$;
-- what is found of all messages of queue by_id; handles are tried, and kept
CREATE PROCEDURE by_id_look() LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT d.*, m.body AS message, m.headers AS message_headers
			   FROM cmq._deliveries_of('by_id', by_id_ids('by_id'), true) WITH ORDINALITY d
			   JOIN cmq_data.q_by_id m ON m.enqueued_at = cmq.enqueued_at(d.msg_id) ORDER BY ordinality
	LOOP
		IF r.body <> r.message OR r.headers IS DISTINCT FROM r.message_headers OR r.msg_id <> cmq.msg_id(r.enqueued_at) THEN
			RAISE 'another message: %', r;
		END IF;
		RAISE WARNING '%: receive_count %, rewind_count %, received before %, visible %, handle %', r.body, r.receive_count, r.rewind_count,
			r.first_received_at < clock_timestamp(), CASE WHEN r.next_visible_at > clock_timestamp() THEN 'later' ELSE 'now' END,
			CASE WHEN cmq_change_visibility('by_id', r.receipt_handle, 500) IS NULL THEN 'stale' ELSE 'good' END;
	END LOOP;
	ROLLBACK;
END $$;

SELECT cmq_create_queue('by_id', rewind_seconds => 3600);
SELECT FROM cmq_send_batch('by_id', '{again,flight,deleted,"taken twice",ready}', headers => '{null,"{\"a\": 1}",null,null,null}');
SELECT cmq_send('by_id', 'delayed', 600) > 0 AS sent;
SELECT body, CASE body WHEN 'again' THEN cmq_change_visibility('by_id', receipt_handle, 0) IS NOT NULL
					   WHEN 'taken twice' THEN cmq_change_visibility('by_id', receipt_handle, 0) IS NOT NULL
					   WHEN 'deleted' THEN cmq_delete('by_id', receipt_handle) END AS done
  FROM cmq_receive('by_id', 4) WITH ORDINALITY ORDER BY ordinality;
SELECT body FROM cmq_receive_messages('by_id', ARRAY[by_id_id('by_id', 'taken twice')], 700);

-- by the session that has received them, by another one, and by an index
\set SHOW_CONTEXT never
\set VERBOSITY terse
CALL by_id_look();
\c
\i :helpers
\set SHOW_CONTEXT never
\set VERBOSITY terse
CALL by_id_look();
-- these are of no use
CREATE INDEX by_id_part ON cmq_data.q_by_id_pending (enqueued_at) WHERE receive_count = 0;
CREATE INDEX by_id_hash ON cmq_data.q_by_id_pending USING hash (enqueued_at);
CREATE INDEX by_id_second ON cmq_data.q_by_id_pending (receive_count, enqueued_at);
CALL by_id_look();
CREATE INDEX by_id_index ON cmq_data.q_by_id_pending (enqueued_at);
CALL by_id_look();
BEGIN;
SELECT body FROM cmq._deliveries_of('by_id', by_id_ids('by_id'), true) WITH ORDINALITY ORDER BY ordinality;
SELECT indexrelid::regclass, pg_stat_get_xact_numscans(indexrelid) > 0 AS used
  FROM pg_index WHERE indrelid = 'cmq_data.q_by_id_pending'::regclass ORDER BY indexrelid::regclass::text;
COMMIT;
-- receives and deletes by ids use it, too
BEGIN;
SELECT body FROM cmq_receive_messages('by_id', by_id_ids('by_id')) WITH ORDINALITY ORDER BY ordinality;
ROLLBACK;
BEGIN;
SELECT count(*) FROM cmq_delete_messages('by_id', by_id_ids('by_id'));
SELECT pg_temp.live('by_id');
ROLLBACK;
BEGIN;
SELECT count(*) FROM cmq_delete_batch('by_id', ARRAY(SELECT receipt_handle FROM cmq._deliveries_of('by_id', by_id_ids('by_id'), false)));
SELECT pg_temp.live('by_id');
SELECT count(*) AS gone FROM cmq._deliveries_of('by_id', by_id_ids('by_id'), false);
ROLLBACK;

-- contents or not, and odd arguments
SELECT body, headers, receipt_handle IS NOT NULL AS handle FROM cmq._deliveries_of('by_id', ARRAY[by_id_id('by_id', 'flight')], true);
SELECT body, headers, receipt_handle IS NOT NULL AS handle FROM cmq._deliveries_of('by_id', ARRAY[by_id_id('by_id', 'flight')], false);
SELECT count(*) AS none FROM cmq._deliveries_of('by_id', '{}', true);
SELECT pg_temp.attempt($$SELECT cmq._deliveries_of('by_id', '{1,NULL}', true)$$), pg_temp.attempt($$SELECT cmq._deliveries_of('by_id', NULL, true)$$),
	   pg_temp.attempt($$SELECT cmq._deliveries_of('by_id', '{1}', NULL)$$), pg_temp.attempt($$SELECT cmq._deliveries_of('by_id_none', '{1}', true)$$);

-- after a rewind: what is due has no delivery, until it has one
SELECT cmq_clear_queue('by_id') > 0 AS cleared;
SELECT FROM cmq_send_batch('by_id', '{r1,r2}');
SELECT count(cmq_delete('by_id', receipt_handle)) FROM cmq_receive('by_id', 2);
SELECT receipt_handle AS before FROM cmq._deliveries_of('by_id', ARRAY[by_id_id('by_id', 'r1')], false);
SELECT cmq_rewind('by_id', now() - interval '50 min') IS NOT NULL AS rewound;
CALL by_id_look();
SELECT body FROM cmq_receive_messages('by_id', ARRAY[by_id_id('by_id', 'r1')]);
CALL by_id_look();

-- it takes the right to receive, and no more
CREATE ROLE regress_by_id;
GRANT USAGE ON SCHEMA cmq TO regress_by_id;
GRANT SELECT, INSERT, UPDATE ON cmq.q_by_id TO regress_by_id;
SELECT pg_temp.outcome('regress_by_id', $$SELECT cmq._deliveries_of('by_id', '{1}', true)$$) AS without;
REVOKE ALL ON cmq.q_by_id FROM regress_by_id;
GRANT DELETE ON cmq.q_by_id TO regress_by_id;
SELECT pg_temp.outcome('regress_by_id', $$SELECT cmq._deliveries_of('by_id', '{1}', true)$$) AS with_delete;

-- operator classes of the owner's run code of the owner's: such an index is not used
CREATE FUNCTION by_id_cmp(timestamptz, timestamptz) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
	IF current_user <> 'regress_by_id_owner' THEN RAISE WARNING 'run as another'; END IF;
	RETURN timestamptz_cmp($1, $2);
END $$;
CREATE OPERATOR CLASS by_id_ops FOR TYPE timestamptz USING btree AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 by_id_cmp(timestamptz, timestamptz);
CREATE ROLE regress_by_id_owner;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_by_id_owner;
SET ROLE regress_by_id_owner;
SELECT cmq_create_queue('by_id_o');
CREATE INDEX by_id_foreign ON cmq_data.q_by_id_o_pending (enqueued_at by_id_ops);
GRANT INSERT, DELETE ON cmq.q_by_id_o TO regress_by_id;
RESET ROLE;
SET ROLE regress_by_id;
SELECT FROM cmq_send_batch('by_id_o', '{x,y}');
SELECT body, d.n FROM cmq_receive('by_id_o', 2) r, LATERAL (SELECT count(*) AS n FROM cmq._deliveries_of('by_id_o', ARRAY[r.msg_id], true)) d;
SELECT count(*) AS none FROM cmq._deliveries_of('by_id_o', ARRAY[cmq.msg_id(now())], true);
RESET ROLE;

SELECT cmq_drop_queue('by_id'), cmq_drop_queue('by_id_o');
DROP OPERATOR CLASS by_id_ops USING btree;
DROP OPERATOR FAMILY by_id_ops USING btree;
DROP FUNCTION by_id_cmp(timestamptz, timestamptz);
DROP PROCEDURE by_id_look();
DROP FUNCTION by_id_ids(text);
DROP FUNCTION by_id_id(text, text);
DROP OWNED BY regress_by_id_owner, regress_by_id;
DROP ROLE regress_by_id_owner, regress_by_id;
