-- A right on a queue allows calls, and nothing with SQL: the relation that carries
-- the rights holds nothing, and nobody but the owner has a right on the data, what-
-- ever default privileges say.  And the relations of a queue or topic are those
-- that it was made with.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

CREATE ROLE regress_only_owner;
CREATE ROLE regress_only_insert;
CREATE ROLE regress_only_update;
CREATE ROLE regress_only_delete;
CREATE ROLE regress_only_all;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_only_owner;
GRANT USAGE ON SCHEMA cmq, cmq_data TO regress_only_insert, regress_only_update, regress_only_delete, regress_only_all;
-- what many applications have, and what would open everything
ALTER DEFAULT PRIVILEGES FOR ROLE regress_only_owner GRANT ALL ON TABLES TO regress_only_all, PUBLIC;
SET ROLE regress_only_owner;
SELECT cmq_create_queue('pay', msg_retention_seconds => 60, rewind_seconds => 60);
REVOKE ALL ON cmq.q_pay FROM PUBLIC;
SELECT cmq_send('pay', 'pay 10 to Alice') > 0 AS sent;
SELECT cmq_delete('pay', receipt_handle) FROM cmq_receive('pay');
SELECT cmq_send('pay', 'pay 20 to Bob') > 0 AS sent;
GRANT INSERT ON cmq.q_pay TO regress_only_insert;
GRANT UPDATE ON cmq.q_pay TO regress_only_update;
GRANT DELETE ON cmq.q_pay TO regress_only_delete;
RESET ROLE;
-- leaves that maintenance makes, too
DELETE FROM cmq.partition WHERE queue = 'pay' AND lower > now();
DO $$ DECLARE t regclass; BEGIN
	FOR t IN SELECT inhrelid FROM pg_inherits WHERE inhparent IN ('cmq_data.q_pay'::regclass, 'cmq_data.q_pay_rewind'::regclass)
				AND NOT EXISTS (SELECT FROM cmq.partition WHERE inhrelid IN (messages, rewind)) LOOP
		EXECUTE format('DROP TABLE %s', t);
	END LOOP;
END $$;
SELECT pg_temp.reload('pay');
SELECT cmq_maintain('pay');
SELECT count(*) > 5 AS relations, count(*) FILTER (WHERE EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner)) AS with_grants,
	   count(DISTINCT relowner) AS owners
  FROM pg_class c WHERE relnamespace = 'cmq_data'::regnamespace AND relname ~ '^[qmrv]_pay' AND relkind IN ('r', 'p', 'v');
-- which what the owner makes by hand has
SET ROLE regress_only_owner;
CREATE TABLE cmq_data.by_hand ();
SELECT count(*) AS grantees FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = 'cmq_data.by_hand'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner;
DROP TABLE cmq_data.by_hand;
RESET ROLE;
-- Try all on each relation of the data.  The owner may; of the others only what is no
-- refusal is shown.
CREATE TEMP TABLE try AS
SELECT r.role, c.oid::regclass AS relation, command, outcome
  FROM unnest('{regress_only_owner,regress_only_insert,regress_only_update,regress_only_delete,regress_only_all}'::text[]) r (role),
	   pg_class c,
	   unnest(ARRAY['SELECT FROM %s', 'INSERT INTO %s DEFAULT VALUES', 'UPDATE %s SET enqueued_at = now()', 'DELETE FROM %s', 'TRUNCATE %s',
		'LOCK TABLE %s IN ACCESS SHARE MODE', 'LOCK TABLE %s IN ROW EXCLUSIVE MODE', 'LOCK TABLE %s IN ACCESS EXCLUSIVE MODE']) command,
	   LATERAL pg_temp.outcome(r.role, format(command, c.oid::regclass)) outcome
 WHERE c.relnamespace = 'cmq_data'::regnamespace AND c.relname ~ '^[qmr]_pay' AND c.relkind IN ('r', 'p');
SELECT outcome = '42501' AS refused, count(*) >= 40 AS tries FROM try WHERE role = 'regress_only_owner' GROUP BY 1;
SELECT * FROM try WHERE role <> 'regress_only_owner' AND outcome <> '42501';
-- on the relation that carries the rights nothing has an effect
SELECT r.role, command, pg_temp.outcome(r.role, command) AS outcome
  FROM unnest('{regress_only_insert,regress_only_update,regress_only_delete,regress_only_all}'::text[]) r (role),
	   unnest(ARRAY['INSERT INTO cmq.q_pay VALUES (''x'')', 'UPDATE cmq.q_pay SET queue = ''x''', 'DELETE FROM cmq.q_pay', 'TRUNCATE cmq.q_pay']) command;
SELECT pg_temp.live('pay'), pg_temp.history('pay');
-- nor can the tables be locked through the views
SELECT r.role, v AS view, pg_temp.outcome(r.role, format('LOCK TABLE cmq.q_pay_%s IN ACCESS EXCLUSIVE MODE', v)) AS exclusive,
	   pg_temp.outcome(r.role, format('LOCK TABLE cmq.q_pay_%s IN SHARE MODE', v)) AS share
  FROM unnest('{regress_only_delete,regress_only_all}'::text[]) r (role), unnest('{live,history,all}'::text[]) v;
-- but the empty one can be: test/specs/stranger_locks.spec shows that this stops no message
SELECT pg_temp.outcome('regress_only_delete', $$LOCK TABLE cmq.q_pay IN ACCESS EXCLUSIVE MODE$$) AS empty_relation;
SELECT * FROM cmq.q_pay;
-- the calls work
SET ROLE regress_only_insert;
SELECT cmq_send('pay', 'x') > 0 AS sent;
SET ROLE regress_only_delete;
SELECT count(cmq_delete('pay', receipt_handle)) FROM cmq_receive('pay', 10);
SET ROLE regress_only_update;
SELECT cmq_rewind('pay', now() - interval '30 s') IS NOT NULL AS rewound;
SET ROLE regress_only_delete;
SELECT msg_id AS id FROM cmq_consume('pay') \gset
SELECT count(*) AS by_id FROM cmq_receive_messages('pay', ARRAY[:id]);
SET ROLE regress_only_insert;
SELECT cmq_send('pay', 'y') AS id \gset
SET ROLE regress_only_update;
SELECT cmq_delete_messages('pay', ARRAY[:id]) = :id AS taken_back;
RESET ROLE;

--
-- A relation that takes the name of a queue's is none of the queue's.
--
SET ROLE regress_only_owner;
SELECT cmq_create_queue('arch', rewind_seconds => 3600);
SELECT cmq_send('arch', 'archived secret') > 0 AS sent;
GRANT SELECT, INSERT, DELETE ON cmq.q_arch TO regress_only_all;
ALTER VIEW cmq.q_arch RENAME TO q_arch_2026;
RESET ROLE;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_only_all;
SET ROLE regress_only_all;
CREATE VIEW cmq.q_arch AS SELECT 'arch'::text AS queue;
SELECT pg_temp.attempt(c) FROM unnest(ARRAY[$$SELECT body FROM cmq_receive('arch')$$, $$SELECT body FROM cmq_consume('arch')$$, $$SELECT body FROM cmq_receive_messages('arch', '{1}')$$,
	$$SELECT cmq_delete_messages('arch', '{1}')$$, $$SELECT cmq_clear_queue('arch')$$, $$SELECT cmq_send('arch', 'x')$$,
	$$SELECT * FROM cmq_queue_attributes('arch')$$, $$SELECT cmq_drop_queue('arch')$$, $$SELECT cmq_maintain('arch')$$, $$SELECT cmq_alter_queue('arch', visibility_timeout => 1)$$]) c;
SELECT queue, owner FROM cmq.queues WHERE queue = 'arch';
DROP VIEW cmq.q_arch;
RESET ROLE;
SET ROLE regress_only_owner;
ALTER VIEW cmq.q_arch_2026 RENAME TO q_arch;
SELECT pg_temp.receive('arch');
-- a table of another owner among them
ALTER TABLE cmq_data.q_arch_pending RENAME TO q_arch_away;
RESET ROLE;
SET ROLE regress_only_all;
CREATE TABLE cmq_data.q_arch_pending (visible_at timestamptz, enqueued_at timestamptz, first_received_at timestamptz, receive_count int, rewind_count int, delayed_until timestamptz, PRIMARY KEY (visible_at, enqueued_at));
SELECT pg_temp.attempt($$SELECT cmq_send('arch', 'x')$$);
DROP TABLE cmq_data.q_arch_pending;
RESET ROLE;
ALTER TABLE cmq_data.q_arch_away RENAME TO q_arch_pending;
ALTER TABLE cmq_data.q_arch_pending OWNER TO regress_only_all;
SELECT pg_temp.attempt($$SELECT cmq_send('arch', 'x')$$);
ALTER TABLE cmq_data.q_arch_pending OWNER TO regress_only_owner;
-- a leaf of another owner
SELECT messages AS leaf FROM cmq.partition WHERE queue = 'arch' AND now() >= lower AND now() < upper \gset
ALTER TABLE :leaf OWNER TO regress_only_all;
SELECT regexp_replace(pg_temp.attempt($$SELECT cmq_send('arch', 'x')$$), 'm_arch_\d+', 'LEAF');
ALTER TABLE :leaf OWNER TO regress_only_owner;
SELECT cmq_send('arch', 'y') > 0 AS sent;

--
-- A subscribed queue and a dead-letter queue that are dropped by hand: whoever takes
-- their names gets no messages.
--
SET ROLE regress_only_owner;
SELECT cmq_create_topic('board');
SELECT cmq_create_queue('minutes');
SELECT cmq_subscribe('board', 'minutes', 'minutes');
SELECT cmq_create_queue('lost');
SELECT cmq_alter_queue('arch', dead_letter_queue => 'lost', max_receive_count => 1);
SET client_min_messages = error;
DROP TABLE cmq_data.q_minutes, cmq_data.q_minutes_pending, cmq_data.q_minutes_rewind CASCADE;
DROP VIEW cmq.q_minutes CASCADE;
DROP TABLE cmq_data.q_lost, cmq_data.q_lost_pending, cmq_data.q_lost_rewind CASCADE;
DROP VIEW cmq.q_lost CASCADE;
RESET client_min_messages;
RESET ROLE;
SET ROLE regress_only_all;
CREATE VIEW cmq.q_minutes AS SELECT 'minutes'::text AS queue;
CREATE TABLE cmq_data.q_minutes (enqueued_at timestamptz, headers jsonb, body text NOT NULL, PRIMARY KEY (enqueued_at)) PARTITION BY RANGE (enqueued_at);
CREATE TABLE cmq_data.q_minutes_pending (visible_at timestamptz, enqueued_at timestamptz, first_received_at timestamptz, receive_count int, rewind_count int, delayed_until timestamptz, PRIMARY KEY (visible_at, enqueued_at));
CREATE TABLE cmq_data.q_minutes_rewind (enqueued_at timestamptz PRIMARY KEY, first_received_at timestamptz, deleted_at timestamptz, deleted_by text, receive_count int, rewind_count int, deleted_xact bigint);
RESET ROLE;
SET ROLE regress_only_owner;
SELECT pg_temp.attempt($$SELECT cmq_publish('board', 'meeting: merger')$$);
RESET ROLE;
SELECT count(*) AS stolen FROM cmq_data.q_minutes;
DROP VIEW cmq.q_minutes;
DROP TABLE cmq_data.q_minutes, cmq_data.q_minutes_pending, cmq_data.q_minutes_rewind;
SELECT cmq_drop_queue('minutes');
-- the letters stay where they are
UPDATE cmq_data.q_arch_pending SET visible_at = enqueued_at, receive_count = 1;
SELECT pg_temp.receive('arch');
SELECT pg_temp.live('arch');
SELECT cmq_unbind_dead_letter('arch');
SELECT cmq_drop_queue('lost');

--
-- The view of a topic.
--
SET ROLE regress_only_owner;
DROP VIEW cmq.t_board;
SET ROLE regress_only_all;
CREATE VIEW cmq.t_board AS SELECT 1 AS one;
SELECT pg_temp.attempt(c) FROM unnest(ARRAY[$$SELECT cmq_publish('board', 'forged')$$, $$SELECT cmq_subscribe('board', 'x', 'arch')$$, $$SELECT cmq_unsubscribe('board', 'minutes')$$,
	$$SELECT cmq_drop_topic('board')$$]) c;
SELECT topic FROM cmq.topics;
RESET ROLE;
SELECT pg_temp.attempt($$SELECT cmq_create_topic('board')$$) AS name_taken;
DROP VIEW cmq.t_board;

SELECT cmq_drop_queue('arch');
SELECT cmq_drop_queue('pay');
SET client_min_messages = error;
DROP OWNED BY regress_only_owner, regress_only_insert, regress_only_update, regress_only_delete, regress_only_all CASCADE;
DROP ROLE regress_only_owner, regress_only_insert, regress_only_update, regress_only_delete, regress_only_all;
