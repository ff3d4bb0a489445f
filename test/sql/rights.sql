-- Rights: plain GRANTs on cmq.q_<name>, checked in C.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_cmq_none;
CREATE ROLE regress_cmq_ins;
CREATE ROLE regress_cmq_del;
CREATE ROLE regress_cmq_upd;
CREATE ROLE regress_cmq_sel;
CREATE ROLE regress_cmq_all;
CREATE ROLE regress_cmq_own;
CREATE ROLE regress_cmq_mem IN ROLE regress_cmq_own;
CREATE ROLE regress_cmq_grp;
CREATE ROLE regress_cmq_ing IN ROLE regress_cmq_grp;
CREATE ROLE regress_cmq_sup SUPERUSER;
GRANT USAGE ON SCHEMA cmq TO regress_cmq_sel, regress_cmq_all, regress_cmq_ing;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_cmq_own;

-- Try a command as a role, undo it, and say whether it worked.
CREATE FUNCTION pg_temp.may(role text, command text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	message text;
BEGIN
	BEGIN
		PERFORM set_config('role', may.role, true);
		EXECUTE command;
		RAISE SQLSTATE 'CMQ00';
	EXCEPTION
		WHEN SQLSTATE 'CMQ00' THEN
			RETURN 'yes';
		WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
			RETURN SQLSTATE || CASE WHEN message IN ('permission denied for queue "rights_a"', 'permission denied for view q_rights_a') THEN ''
									ELSE ' ' || regexp_replace(message, '^permission denied for view q_(.*)', 'permission denied for queue "\1"') END;
	END;
END $$;

--
-- Create needs CREATE on both schemas; the creator owns the queue.
--
SELECT role, pg_temp.may(role, $$SELECT cmq_create_queue('rights_x')$$)
  FROM (VALUES ('regress_cmq_none'), ('regress_cmq_all'), ('regress_cmq_own'), ('regress_cmq_mem'), ('regress_cmq_sup')) v (role)
 ORDER BY role;
SET ROLE regress_cmq_own;
SELECT cmq_create_queue('rights_a', rewind_seconds => 3600);
SELECT count(*) FROM cmq_send_batch('rights_a', '{a,b,c}');
SELECT pg_temp.consume('rights_a', 1);
SELECT receipt_handle AS handle FROM cmq_receive('rights_a') \gset
SELECT queue, owner FROM cmq.queues WHERE queue LIKE 'rights%' ORDER BY queue;
RESET ROLE;
SELECT DISTINCT relowner::regrole AS owner_of_everything, relacl IS NULL OR relkind = 'v' AS nothing_granted FROM pg_class
 WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) AND (relname LIKE 'q\_rights\_a%' OR relname LIKE 'm\_rights\_a%' OR relname LIKE 'r\_rights\_a%');

--
-- The matrix.
--
GRANT INSERT ON cmq.q_rights_a TO regress_cmq_ins;
GRANT DELETE ON cmq.q_rights_a TO regress_cmq_del;
GRANT UPDATE ON cmq.q_rights_a TO regress_cmq_upd;
GRANT SELECT ON cmq.q_rights_a TO regress_cmq_sel;
GRANT ALL ON cmq.q_rights_a TO regress_cmq_all;
GRANT INSERT, DELETE ON cmq.q_rights_a TO regress_cmq_grp;
CREATE TEMP TABLE action (n int PRIMARY KEY, needs text, what text, command text);
INSERT INTO action VALUES
	(1, 'INSERT', 'send', $$SELECT cmq_send('rights_a', 'x')$$),
	(2, 'INSERT', 'send_batch', $$SELECT cmq_send_batch('rights_a', '{x,y}')$$),
	(3, 'INSERT', 'send_batch, none', $$SELECT cmq_send_batch('rights_a', '{}')$$),
	(4, 'DELETE', 'receive', $$SELECT * FROM cmq_receive('rights_a', 10)$$),
	(5, 'DELETE', 'delete', format($$SELECT cmq_delete('rights_a', %L)$$, :'handle')),
	(6, 'DELETE', 'delete, stale', $$SELECT cmq_delete('rights_a', '1-2-3-4')$$),
	(7, 'DELETE', 'delete_batch', format($$SELECT cmq_delete_batch('rights_a', ARRAY[%L])$$, :'handle')),
	(8, 'DELETE', 'delete_batch, none', $$SELECT cmq_delete_batch('rights_a', '{}')$$),
	(9, 'DELETE', 'change_visibility', format($$SELECT cmq_change_visibility('rights_a', %L, 60)$$, :'handle')),
	(10, 'UPDATE', 'rewind', $$SELECT cmq_rewind('rights_a', now() - interval '1 hour')$$),
	(11, 'UPDATE', 'alter', $$SELECT cmq_alter_queue('rights_a', visibility_timeout => 60)$$),
	(12, 'UPDATE', 'alter, nothing', $$SELECT cmq_alter_queue('rights_a')$$),
	(13, 'UPDATE', 'alter, off', $$SELECT cmq_alter_queue('rights_a', rewind_seconds => 0)$$),
	(14, 'UPDATE', 'alter, retention', $$SELECT cmq_alter_queue('rights_a', msg_retention_seconds => 7200)$$),
	(15, 'SELECT', 'attributes', $$SELECT * FROM cmq_queue_attributes('rights_a')$$),
	(16, 'owner', 'maintain', $$SELECT cmq_maintain('rights_a')$$),
	(17, 'owner', 'drop', $$SELECT cmq_drop_queue('rights_a')$$),
	(18, 'DELETE', 'redrive', $$SELECT cmq_redrive('rights_a')$$),
	(40, 'UPDATE', 'redrive, ids', $$SELECT cmq_redrive('rights_a', msg_ids => '{1}')$$),
	(41, 'UPDATE and SELECT', 'redrive, filter', $$SELECT cmq_redrive('rights_a', filter => '{}')$$),
	(42, 'UPDATE and SELECT', 'redrive, both', $$SELECT cmq_redrive('rights_a', NULL, '{}', '{1}')$$),
	(19, 'UPDATE', 'clear', $$SELECT cmq_clear_queue('rights_a')$$),
	(20, 'UPDATE', 'unbind', $$SELECT cmq_unbind_dead_letter('rights_a')$$),
	(21, 'UPDATE', 'cancel', $$SELECT cmq_cancel_rewind('rights_a')$$),
	(22, 'UPDATE', 'restore', $$SELECT cmq_restore('rights_a', '-infinity')$$),
	(25, 'UPDATE and SELECT', 'restore, filter', $$SELECT cmq_restore('rights_a', '-infinity', filter => '{}')$$),
	(23, 'UPDATE', 'restore, ids', $$SELECT * FROM cmq_restore_messages('rights_a', '{1}')$$),
	(24, 'SELECT', 'preview', $$SELECT * FROM cmq_rewind_preview('rights_a', '-infinity')$$),
	(26, 'SELECT', 'history', $$SELECT * FROM cmq_history('rights_a')$$),
	(44, 'SELECT', 'messages', $$SELECT * FROM cmq_messages('rights_a', 'pending')$$),
	(45, 'SELECT', 'message', $$SELECT * FROM cmq_message('rights_a', 1)$$),
	(46, 'SELECT', 'timeline', $$SELECT * FROM cmq_timeline('rights_a', now() - interval '1 h', now())$$),
	(27, 'DELETE', 'change, many', format($$SELECT * FROM cmq_change_visibility_batch('rights_a', ARRAY[%L], 60)$$, :'handle')),
	(28, 'DELETE', 'change, none', $$SELECT * FROM cmq_change_visibility_batch('rights_a', '{}', 60)$$),
	(29, 'DELETE', 'receive, filter', $$SELECT * FROM cmq_receive('rights_a', 10, filter => '{}')$$),
	(30, 'DELETE', 'consume', $$SELECT * FROM cmq_consume('rights_a', 10)$$),
	(31, 'DELETE', 'consume, filter', $$SELECT * FROM cmq_consume('rights_a', 10, filter => '{}')$$),
	(32, 'DELETE', 'receive_messages', $$SELECT * FROM cmq_receive_messages('rights_a', '{1}')$$),
	(33, 'DELETE', 'receive_messages, none', $$SELECT * FROM cmq_receive_messages('rights_a', '{}')$$),
	(34, 'UPDATE', 'delete_messages', $$SELECT * FROM cmq_delete_messages('rights_a', '{1}')$$),
	(35, 'UPDATE', 'delete_messages, none', $$SELECT * FROM cmq_delete_messages('rights_a', '{}')$$),
	(36, 'UPDATE', 'pause', $$SELECT cmq_pause_queue('rights_a')$$),
	(37, 'UPDATE', 'pause, reason', $$SELECT cmq_pause_queue('rights_a', 'because')$$),
	(38, 'UPDATE', 'resume', $$SELECT cmq_resume_queue('rights_a')$$),
	(39, 'DELETE', 'release', format($$SELECT * FROM cmq_release('rights_a', ARRAY[%L])$$, :'handle')),
	(43, 'DELETE', 'release, none', $$SELECT * FROM cmq_release('rights_a', '{}')$$);
SELECT a.needs, a.what,
	   pg_temp.may('regress_cmq_none', command) AS "none", pg_temp.may('regress_cmq_ins', command) AS ins,
	   pg_temp.may('regress_cmq_del', command) AS del, pg_temp.may('regress_cmq_upd', command) AS upd,
	   pg_temp.may('regress_cmq_sel', command) AS sel, pg_temp.may('regress_cmq_all', command) AS "all",
	   pg_temp.may('regress_cmq_ing', command) AS grp, pg_temp.may('regress_cmq_own', command) AS own,
	   pg_temp.may('regress_cmq_mem', command) AS mem, pg_temp.may('regress_cmq_sup', command) AS sup
  FROM action a ORDER BY n;
-- the text of it
SET ROLE regress_cmq_none;
SELECT pg_temp.attempt($$SELECT cmq_send('rights_a', 'x')$$) AS send,
	   pg_temp.attempt($$SELECT cmq_drop_queue('rights_a')$$) AS "drop",
	   pg_temp.attempt($$SELECT cmq_drop_queue('rights_x')$$) AS unknown;
RESET ROLE;
-- nothing of all that happened
SELECT pg_temp.live('rights_a'), pg_temp.history('rights_a');

--
-- Each right works alone, without USAGE on schema cmq, and does its work.
--
SET ROLE regress_cmq_ins;
SELECT cmq_send('rights_a', 'd') > 0 AS sent;
SET ROLE regress_cmq_del;
SELECT body, cmq_delete('rights_a', receipt_handle) AS deleted FROM cmq_receive('rights_a', 1);
SET ROLE regress_cmq_upd;
SELECT cmq_rewind('rights_a', now() - interval '30 minutes') IS NOT NULL AS rewound;
SELECT cmq_alter_queue('rights_a', visibility_timeout => 77);
SET ROLE regress_cmq_del;
SELECT body, rewind_count, cmq_delete('rights_a', receipt_handle) AS deleted FROM cmq_receive('rights_a', 10) WITH ORDINALITY ORDER BY ordinality;
RESET ROLE;
-- who deleted what
SELECT body, deleted_by FROM cmq.q_rights_a_history ORDER BY msg_id;
SET ROLE regress_cmq_del;
SELECT cmq_delete('rights_a', :'handle') AS in_flight_since_before;
RESET ROLE;
SELECT body, deleted_by FROM cmq.q_rights_a_history ORDER BY msg_id;
-- the same of what is consumed, also after a rewind, or taken back by id
SET ROLE regress_cmq_ins;
SELECT cmq_send('rights_a', 'e') AS e, cmq_send('rights_a', 'f') AS f, cmq_send('rights_a', 'g') AS g \gset
SET ROLE regress_cmq_del;
SELECT body FROM cmq_consume('rights_a');
SELECT body, cmq_delete('rights_a', receipt_handle) AS deleted FROM cmq_receive_messages('rights_a', ARRAY[:g, :e]);
SET ROLE regress_cmq_upd;
SELECT cmq_delete_messages('rights_a', ARRAY[:e, :f, :g]) = :f AS taken_back;
RESET ROLE;
SELECT body, deleted_by FROM cmq.q_rights_a_history WHERE msg_id >= :e ORDER BY msg_id;
SET ROLE regress_cmq_upd;
SELECT cmq_rewind('rights_a', now() - interval '30 minutes') IS NOT NULL AS rewound;
SELECT cmq_delete_messages('rights_a', ARRAY[:e]) = :e AS taken_back;
SET ROLE regress_cmq_del;
SELECT body FROM cmq_consume('rights_a', 10) WITH ORDINALITY ORDER BY ordinality;
RESET ROLE;
SELECT body, deleted_by, receive_count, rewind_count FROM cmq.q_rights_a_history ORDER BY msg_id;
-- tables of the machinery are nobody's
SELECT role, pg_temp.may(role, 'SELECT FROM cmq.queue') AS queue, pg_temp.may(role, 'SELECT FROM cmq.partition') AS partition,
	   pg_temp.may(role, 'SELECT FROM cmq_data.q_rights_a_pending') AS pending, pg_temp.may(role, 'SELECT FROM cmq_data.q_rights_a_rewind') AS rewind,
	   pg_temp.may(role, 'SELECT FROM cmq.rewind_log') AS log, pg_temp.may(role, 'SELECT FROM cmq.subscription') AS subscription,
	   pg_temp.may(role, 'SELECT FROM cmq_data.q_rights_a') AS messages
  FROM (VALUES ('regress_cmq_sel'), ('regress_cmq_all')) v (role) ORDER BY role;

--
-- Views: USAGE on the schema and SELECT on the queue.
--
SELECT role, pg_temp.may(role, 'SELECT FROM cmq.queues') AS queues,
	   pg_temp.may(role, 'SELECT FROM cmq.q_rights_a_live') AS live, pg_temp.may(role, 'SELECT FROM cmq.q_rights_a_history') AS history
  FROM (VALUES (1, 'regress_cmq_none'), (2, 'regress_cmq_sel'), (3, 'regress_cmq_all'), (4, 'regress_cmq_ing'),
			   (5, 'regress_cmq_own'), (6, 'regress_cmq_mem'), (7, 'regress_cmq_sup')) v (n, role) ORDER BY n;
-- also when rows are only counted, and when a condition looks first
SELECT pg_temp.may('regress_cmq_ing', 'SELECT count(*) FROM cmq.q_rights_a_live') AS counted,
	   pg_temp.may('regress_cmq_ing', $$SELECT body FROM cmq.q_rights_a_history WHERE body = 'a'$$) AS one_wanted;
CREATE FUNCTION pg_temp.leak(body text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
	RAISE WARNING 'leaked %', body;
	RETURN true;
END $$;
SELECT pg_temp.may('regress_cmq_ing', 'SELECT body FROM cmq.q_rights_a_history WHERE pg_temp.leak(body)') AS leaking_condition,
	   pg_temp.may('regress_cmq_ing', 'SELECT body FROM cmq.q_rights_a_live WHERE pg_temp.leak(body)') AS leaking_condition;
-- an empty queue does not say so to everyone
SET ROLE regress_cmq_own;
SELECT cmq_create_queue('rights_empty');
RESET ROLE;
SELECT pg_temp.may('regress_cmq_sel', 'SELECT * FROM cmq.q_rights_empty_live') AS live,
	   pg_temp.may('regress_cmq_sel', 'SELECT * FROM cmq.q_rights_empty_history') AS history,
	   pg_temp.may('regress_cmq_sel', 'SELECT count(*) FROM cmq.q_rights_empty_live') AS counted;
-- cmq.queues shows each reader their own
GRANT UPDATE ON cmq.q_rights_empty TO regress_cmq_ing;
SET ROLE regress_cmq_sel;
SELECT queue FROM cmq.queues ORDER BY queue;
SET ROLE regress_cmq_ing;
SELECT queue FROM cmq.queues ORDER BY queue;
SET ROLE regress_cmq_mem;
SELECT queue, owner FROM cmq.queues ORDER BY queue;
RESET ROLE;
SELECT queue FROM cmq.queues WHERE queue LIKE 'rights%' ORDER BY queue;

--
-- Grants and revokes take effect at once; PUBLIC; column grants are not enough.
--
GRANT INSERT ON cmq.q_rights_a TO PUBLIC;
SELECT pg_temp.may('regress_cmq_none', $$SELECT cmq_send('rights_a', 'x')$$) AS granted_to_public;
REVOKE INSERT ON cmq.q_rights_a FROM PUBLIC;
SELECT pg_temp.may('regress_cmq_none', $$SELECT cmq_send('rights_a', 'x')$$) AS revoked;
GRANT INSERT (queue), UPDATE (queue), SELECT (queue) ON cmq.q_rights_a TO regress_cmq_none;
SELECT pg_temp.may('regress_cmq_none', $$SELECT cmq_send('rights_a', 'x')$$) AS columns_only,
	   pg_temp.may('regress_cmq_none', $$SELECT cmq_queue_attributes('rights_a')$$) AS columns_only;
REVOKE INSERT (queue), UPDATE (queue), SELECT (queue) ON cmq.q_rights_a FROM regress_cmq_none;
REVOKE INSERT ON cmq.q_rights_a FROM regress_cmq_own;
SELECT pg_temp.may('regress_cmq_own', $$SELECT cmq_send('rights_a', 'x')$$) AS owner_revoked,
	   pg_temp.may('regress_cmq_own', $$SELECT cmq_drop_queue('rights_a')$$) AS owner_may_drop;
GRANT INSERT ON cmq.q_rights_a TO regress_cmq_own;
-- the rights of a SECURITY DEFINER function are its owner's
CREATE FUNCTION rights_send(body text) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$ SELECT cmq_send('rights_a', body) > 0 $$;
ALTER FUNCTION rights_send(text) OWNER TO regress_cmq_ins;
SELECT pg_temp.may('regress_cmq_none', $$SELECT rights_send('x')$$) AS definer;
REVOKE INSERT ON cmq.q_rights_a FROM regress_cmq_ins;
SELECT pg_temp.may('regress_cmq_none', $$SELECT rights_send('x')$$) AS definer_revoked;
DROP FUNCTION rights_send(text);
-- cmq_maintain() without a name runs for the caller's own queues and says nothing of others
SET ROLE regress_cmq_none;
SELECT cmq_maintain();
SET ROLE regress_cmq_own;
SELECT cmq_maintain();
RESET ROLE;
-- maintenance and leaf making by a superuser leave everything the owner's
SELECT cmq_maintain('rights_a');
SELECT count(*) AS not_the_owners FROM pg_class
 WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) AND relname ~ '^[qmrv]_rights_' AND relowner <> 'regress_cmq_own'::regrole;

--
-- Other functions of schema cmq.
--
SELECT f, pg_temp.may('regress_cmq_ing', format($$SELECT cmq.%s('rights_a')$$, f)) AS no_select,
	   pg_temp.may('regress_cmq_sel', format($$SELECT cmq.%s('rights_a')$$, f)) AS "select",
	   pg_temp.may('regress_cmq_sel', format($$SELECT cmq.%s('rights_x')$$, f)) AS unknown
  FROM (VALUES ('_readable'), ('_clock'), ('_expired_before'), ('_since')) v (f) ORDER BY f;
SELECT pg_temp.may('regress_cmq_ing', $$SELECT cmq._due('rights_a', now(), now(), 1)$$) AS due,
	   pg_temp.may('regress_cmq_ing', $$SELECT cmq._rewindable('rights_a', now(), now())$$) AS rewindable;

--
-- Rights on columns are none on the queue.
--
GRANT SELECT (queue), INSERT (queue), UPDATE (queue) ON cmq.q_rights_a TO regress_cmq_none;
GRANT USAGE ON SCHEMA cmq TO regress_cmq_none;
SELECT c, pg_temp.may('regress_cmq_none', c) AS columns
  FROM (VALUES (1, $$SELECT cmq_send('rights_a', 'x')$$), (2, $$SELECT * FROM cmq_receive('rights_a')$$), (3, $$SELECT cmq_rewind('rights_a', now())$$),
	(4, $$SELECT * FROM cmq_queue_attributes('rights_a')$$), (5, $$SELECT count(*) FROM cmq.q_rights_a_live$$),
	(6, $$SELECT 1 / (SELECT 1 - count(*)::int FROM cmq.queues WHERE queue = 'rights_a')$$)) v (n, c) ORDER BY n;
REVOKE ALL (queue) ON cmq.q_rights_a FROM regress_cmq_none;
REVOKE USAGE ON SCHEMA cmq FROM regress_cmq_none;

--
-- A new owner.
--
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_cmq_all;
REASSIGN OWNED BY regress_cmq_own TO regress_cmq_all;
SELECT pg_temp.may('regress_cmq_own', $$SELECT cmq_drop_queue('rights_a')$$) AS old_owner,
	   pg_temp.may('regress_cmq_all', $$SELECT cmq_drop_queue('rights_a')$$) AS new_owner,
	   pg_temp.may('regress_cmq_all', $$SELECT cmq_maintain('rights_a')$$) AS maintains,
	   pg_temp.may('regress_cmq_all', $$SELECT * FROM cmq_receive('rights_a')$$) AS receives,
	   pg_temp.may('regress_cmq_all', $$SELECT FROM cmq.q_rights_a_live$$) AS looks;
SELECT queue, owner FROM cmq.queues WHERE queue LIKE 'rights%' ORDER BY queue;
SET ROLE regress_cmq_all;
SELECT cmq_drop_queue('rights_a');
SELECT cmq_drop_queue('rights_empty');
RESET ROLE;
-- dropped with everything its owner has: not a queue any more, the name is
-- free once what is left of it is dropped
SET ROLE regress_cmq_own;
SELECT cmq_create_queue('rights_owned');
RESET ROLE;
SET client_min_messages = error;
DROP OWNED BY regress_cmq_own;
RESET client_min_messages;
SELECT queue FROM cmq.queues WHERE queue LIKE 'rights%' ORDER BY queue;
SELECT pg_temp.attempt($$SELECT cmq_send('rights_owned', 'x')$$) AS send,
	   pg_temp.may('regress_cmq_none', $$SELECT cmq_drop_queue('rights_owned')$$) AS drop_by_others,
	   pg_temp.attempt($$SELECT cmq_drop_queue('rights_owned')$$) AS drop_by_superuser,
	   pg_temp.attempt($$SELECT cmq_send('rights_owned', 'x')$$) AS send;
REVOKE ALL ON SCHEMA cmq, cmq_data FROM regress_cmq_sel, regress_cmq_all, regress_cmq_ing, regress_cmq_own;
DROP ROLE regress_cmq_none, regress_cmq_ins, regress_cmq_del, regress_cmq_upd, regress_cmq_sel, regress_cmq_all,
	regress_cmq_own, regress_cmq_mem, regress_cmq_grp, regress_cmq_ing, regress_cmq_sup;
