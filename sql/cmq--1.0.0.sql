/* sql/cmq--1.0.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION cmq" to load this file. \quit

-- Names in this script are looked up in pg_catalog alone.  Otherwise a role that may
-- create objects in the schema that the extension is installed in could get an
-- operator of its own into a view.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- The functions that applications call live in the schema that CREATE
-- EXTENSION was given, the views and the rights on queues in schema cmq, and
-- the messages in schema cmq_data.  No role but their owner may use these
-- schemas until the administrator grants it.
CREATE SCHEMA cmq;
COMMENT ON SCHEMA cmq IS 'cmq: views of queues, and cmq.q_<queue>, which carries the rights on a queue';
CREATE SCHEMA cmq_data;
COMMENT ON SCHEMA cmq_data IS 'cmq: tables of queues; each belongs to the owner of its queue, and no other role has a right on it';

--
-- Metadata.  The C functions alone write these tables, and check the caller's rights
-- on the queue before; no role needs a grant on the tables.  The CHECK constraints are
-- what the functions rely on: they meet rows that are written by hand, or come from a dump
-- that was edited.
--

-- One row per queue: settings, whether it is paused, the rewind under way, and the
-- bounds that settings changes leave behind.
--   paused_since: when the queue was paused, or NULL.
--   rewind_from, rewound_at, rewind_concurrent: the rewind under way, or NULL.
--       A message of the history is due when enqueued_at >= rewind_from,
--       deleted_at < rewound_at and the deleting transaction is not one of
--       those that were open at the rewind (rewind_concurrent).
--   rewound_in: in which database the rewind was called; see cmq_dump.c.
--   expired_before: no message produced earlier lives, whatever the
--       retention says now (raised when retention changes).
--   forgotten_before: no message produced earlier can be rewound, whatever
--       rewind_seconds says now (raised when rewind_seconds changes).
--   history_since: no message deleted earlier can be rewound or seen: at this
--       time rewind was last switched off.
--   leftovers: maintenance has not yet removed all rows of such messages.
--   clock: the queue clock as maintenance last saved it.
--   rights, messages, pending, rewind, dedup: the relations that the queue was made
--       with; dedup, the table of keys, if dedup_seconds is not 0.  A relation that takes the name of one of them does not become the
--       queue's.
CREATE TABLE cmq.queue (
	name					text COLLATE "C" PRIMARY KEY
							CHECK (name ~ '^[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	visibility_timeout		int NOT NULL CHECK (visibility_timeout BETWEEN 1 AND 43200),
	polling_wait_seconds	int NOT NULL CHECK (polling_wait_seconds BETWEEN 0 AND 30),
	msg_retention_seconds	int NOT NULL CHECK (msg_retention_seconds BETWEEN 60 AND 1296000),
	rewind_seconds			int NOT NULL,
	max_msg_size			int NOT NULL CHECK (max_msg_size BETWEEN 1024 AND 67108864),
	max_msg_heap_num		bigint NOT NULL CHECK (max_msg_heap_num BETWEEN 1 AND 1000000000),
	dead_letter_queue		text COLLATE "C"
							CHECK (dead_letter_queue ~ '^[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	max_receive_count		int CHECK (max_receive_count BETWEEN 1 AND 1000),
	max_time_to_live		int CHECK (max_time_to_live BETWEEN 300 AND 43200),
	retry_backoff_seconds	int NOT NULL CHECK (retry_backoff_seconds BETWEEN 0 AND 43200),
	retry_backoff_max_seconds	int NOT NULL CHECK (retry_backoff_max_seconds BETWEEN 0 AND 43200),
	rewind_share			int NOT NULL CHECK (rewind_share BETWEEN 1 AND 100),
	ordered					boolean NOT NULL,
	dedup_seconds			int NOT NULL,
	create_time				timestamptz NOT NULL,
	last_modify_time		timestamptz NOT NULL,
	paused_since			timestamptz,
	rewind_from				timestamptz,
	rewound_at				timestamptz,
	rewind_concurrent		bigint[],
	rewound_in				bigint,
	expired_before			timestamptz NOT NULL,
	forgotten_before		timestamptz NOT NULL,
	history_since			timestamptz NOT NULL,
	leftovers				boolean NOT NULL,
	clock					timestamptz NOT NULL,
	rights					regclass NOT NULL,
	messages				regclass NOT NULL,
	pending					regclass NOT NULL,
	rewind					regclass NOT NULL,
	dedup					regclass,
	CONSTRAINT queue_rewind_seconds_check CHECK (rewind_seconds BETWEEN 0 AND msg_retention_seconds),
	CONSTRAINT queue_dedup_seconds_check CHECK (dedup_seconds BETWEEN 0 AND msg_retention_seconds),
	-- a table of keys, if keys are kept
	CONSTRAINT queue_dedup_check CHECK ((dedup IS NULL) = (dedup_seconds = 0)),
	CONSTRAINT queue_dead_letter_check CHECK (dead_letter_queue <> name AND max_time_to_live < msg_retention_seconds),
	-- all of a policy, or nothing
	CONSTRAINT queue_dead_letter_whole_check
	CHECK ((dead_letter_queue IS NULL) = (max_receive_count IS NULL AND max_time_to_live IS NULL)),
	-- all of a rewind, or nothing
	CONSTRAINT queue_rewind_whole_check
	CHECK (num_nulls(rewind_from, rewound_at, rewind_concurrent, rewound_in) IN (0, 4)),
	CONSTRAINT queue_rewind_off_check CHECK (rewind_from IS NULL OR rewind_seconds > 0),
	CONSTRAINT queue_rewind_concurrent_check
	CHECK (COALESCE(array_ndims(rewind_concurrent), 1) = 1 AND array_position(rewind_concurrent, NULL) IS NULL)
);
-- two names may not differ in case alone
CREATE UNIQUE INDEX queue_name_folded ON cmq.queue (pg_catalog.lower(name));
COMMENT ON TABLE cmq.queue IS 'cmq internal: settings and rewind state of each queue';

-- A name for this database that no other one has.
CREATE FUNCTION cmq._here()
RETURNS bigint
AS 'MODULE_PATHNAME', 'cmq_here'
LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION cmq._here() IS 'cmq internal: a name of this database';

-- The partition map: which leaf tables hold the messages of which time, and in which
-- database the leaf tables were made.
-- The leaves of a journal (below) are here, too, with messages and rewind the same, and the
-- name of the topic behind a '>' in place of a queue's.
CREATE TABLE cmq.partition (
	queue		text COLLATE "C" NOT NULL CHECK (queue ~ '^>?[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	lower		timestamptz NOT NULL CHECK (isfinite(lower)),
	upper		timestamptz NOT NULL CHECK (isfinite(upper)),
	messages	regclass NOT NULL,
	rewind		regclass NOT NULL,
	dedup		regclass,	-- keys, if the queue keeps them for these times
	made_in		bigint DEFAULT cmq._here(),
	PRIMARY KEY (queue, lower),
	CONSTRAINT partition_bounds_check CHECK (lower < upper)
);
COMMENT ON TABLE cmq.partition IS 'cmq internal: the leaf tables of each queue and the times they cover';

-- Topics and their subscriptions.
CREATE TABLE cmq.topic (
	name			text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	filter_type		text COLLATE "C" NOT NULL CHECK (filter_type IN ('tag', 'routing')),
	create_time		timestamptz NOT NULL,
	relation		regclass NOT NULL	-- cmq.t_<topic>, as it was made
);
COMMENT ON TABLE cmq.topic IS 'cmq internal: the topics';

CREATE TABLE cmq.subscription (
	topic			text COLLATE "C" NOT NULL CHECK (topic ~ '^[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	name			text COLLATE "C" NOT NULL CHECK (name ~ '^[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	queue			text COLLATE "C" NOT NULL CHECK (queue ~ '^[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	filter_tags		text[]
					CHECK (array_ndims(filter_tags) = 1 AND cardinality(filter_tags) BETWEEN 1 AND 5
						   AND array_position(filter_tags, NULL) IS NULL),
	binding_keys	text[]
					CHECK (array_ndims(binding_keys) = 1 AND cardinality(binding_keys) BETWEEN 1 AND 5
						   AND array_position(binding_keys, NULL) IS NULL),
	create_time		timestamptz NOT NULL,
	PRIMARY KEY (topic, name),
	CONSTRAINT subscription_filters_check CHECK (filter_tags IS NULL OR binding_keys IS NULL)
);
COMMENT ON TABLE cmq.subscription IS 'cmq internal: which queues get what is published to which topics';

-- What is published to a topic and goes to several queues is stored once, in the journal
-- of the topic.  It outlives the topic, for as long as a queue may need what is in it.
--   messages: cmq_data.j_<topic>, as it was made.
--   made_in: in which database it was made; see cmq_dump.c.
CREATE TABLE cmq.topic_journal (
	name			text COLLATE "C" PRIMARY KEY CHECK (name ~ '^>[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	create_time		timestamptz NOT NULL,
	messages		regclass NOT NULL,
	made_in			bigint DEFAULT cmq._here()
);
COMMENT ON TABLE cmq.topic_journal IS 'cmq internal: where published messages are stored once';

-- The queues that have, or may have, messages in a journal: since they were first
-- subscribed, and until nothing of theirs is left there.
--   since: earlier ones are those of a queue of the same name that was dropped; NULL:
--       there was none.
--   until: they have none from then on; NULL: they may get more.
CREATE TABLE cmq.receiver (
	queue			text COLLATE "C" NOT NULL CHECK (queue ~ '^[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	journal			text COLLATE "C" NOT NULL CHECK (journal ~ '^>[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	since			timestamptz,
	until			timestamptz,
	PRIMARY KEY (queue, journal)
);
COMMENT ON TABLE cmq.receiver IS 'cmq internal: which queues have messages in which journals';

-- What was brought back, and when the queue was paused and resumed, by whom and why.
-- cmq_rewind, cmq_restore, cmq_replay, cmq_cancel_rewind, cmq_pause_queue and
-- cmq_resume_queue add rows; maintenance removes old ones.
CREATE TABLE cmq.rewind_log (
	id					bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	queue				text COLLATE "C" NOT NULL CHECK (queue ~ '^[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	kind				text COLLATE "C" NOT NULL
						CHECK (kind IN ('rewind', 'restore', 'replay', 'cancel', 'pause', 'resume')),
	session_user_name	text NOT NULL,
	current_user_name	text NOT NULL,
	client_addr			inet,
	application_name	text,
	called_at			timestamptz NOT NULL,
	start_time			timestamptz,
	end_time			timestamptz,
	filter				jsonb,
	into_queue			text COLLATE "C" CHECK (into_queue ~ '^[A-Za-z][A-Za-z0-9_-]{0,47}$'),
	messages			bigint CHECK (messages >= 0),
	reason				text,
	queue_create_time	timestamptz NOT NULL,
	CONSTRAINT rewind_log_window_check CHECK (start_time <= end_time),
	-- what brings messages back has a window
	CONSTRAINT rewind_log_start_time_check
	CHECK ((start_time IS NOT NULL) = (kind IN ('rewind', 'restore', 'replay'))),
	CONSTRAINT rewind_log_replay_check CHECK ((into_queue IS NOT NULL) = (kind = 'replay'))
);
-- maintenance finds old rows by it
CREATE INDEX rewind_log_called_at ON cmq.rewind_log (called_at);
COMMENT ON TABLE cmq.rewind_log IS 'cmq internal: what the view cmq.rewinds shows';
COMMENT ON SEQUENCE cmq.rewind_log_id_seq IS 'cmq internal: ids of cmq.rewind_log';

SELECT pg_catalog.pg_extension_config_dump('cmq.rewind_log', '');
SELECT pg_catalog.pg_extension_config_dump('cmq.rewind_log_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('cmq.topic', '');
SELECT pg_catalog.pg_extension_config_dump('cmq.subscription', '');
SELECT pg_catalog.pg_extension_config_dump('cmq.topic_journal', '');
SELECT pg_catalog.pg_extension_config_dump('cmq.receiver', '');
SELECT pg_catalog.pg_extension_config_dump('cmq.queue', '');
SELECT pg_catalog.pg_extension_config_dump('cmq.partition', '');

-- What a receive returns.
CREATE TYPE cmq.message AS (
	msg_id				bigint,
	receipt_handle		text,
	body				text,
	headers				jsonb,
	enqueued_at			timestamptz,
	first_received_at	timestamptz,
	next_visible_at		timestamptz,
	receive_count		int,
	rewind_count		int,
	message_group		text
);
COMMENT ON TYPE cmq.message IS 'one delivery of one message, as cmq_receive and cmq_consume return it';
COMMENT ON COLUMN cmq.message.msg_id IS 'id of the message: when it was produced, in microseconds since 1970';
COMMENT ON COLUMN cmq.message.receipt_handle IS 'name of this delivery, for cmq_delete, cmq_change_visibility and cmq_release; NULL if the message was consumed';
COMMENT ON COLUMN cmq.message.body IS 'body of the message, as it was sent';
COMMENT ON COLUMN cmq.message.headers IS 'headers of the message, as they were sent; NULL if it has none';
COMMENT ON COLUMN cmq.message.enqueued_at IS 'when the message was produced (timestamp by the queue clock), to the microsecond the same as msg_id';
COMMENT ON COLUMN cmq.message.first_received_at IS 'when the message was received for the first time since it was sent or last brought back (timestamp by the queue clock)';
COMMENT ON COLUMN cmq.message.next_visible_at IS 'when the visibility timeout of this delivery is over (timestamp by the queue clock); NULL if the message was consumed';
COMMENT ON COLUMN cmq.message.receive_count IS 'how many times the message was received since it was sent or last brought back, this time included; what was released uncounted is not';
COMMENT ON COLUMN cmq.message.rewind_count IS 'how many times a rewind or restore has brought the message back';
COMMENT ON COLUMN cmq.message.message_group IS 'group of the message, as it was sent; NULL if it has none, as in a queue that is not ordered';

--
-- Queues
--

-- cmq_create_queue: create a queue, owned by the caller.
--
-- Parameters:
--   queue                  its name: [A-Za-z][A-Za-z0-9_-]{0,47}
--   visibility_timeout     seconds a received message stays hidden, 1..43200
--   polling_wait_seconds   seconds a receive waits by default, 0..30
--   msg_retention_seconds  seconds a message lives from its production on,
--                          consumed or not, 60..1296000
--   rewind_seconds         seconds, counted from production, for which a
--                          deleted message can be rewound,
--                          0..msg_retention_seconds; 0 turns rewind off
--   max_msg_size           bytes of body, 1024..67108864
--   max_msg_heap_num       pending messages, 1..1000000000; a send that would
--                          make more is refused
--   dead_letter_queue      where messages go that no consumer manages to consume;
--                          NULL: they stay.  A queue that exists, is another one
--                          and has no dead-letter queue itself.  With it goes at
--                          least one of:
--   max_receive_count      a message received that often, 1..1000, and ready
--                          again is moved there
--   max_time_to_live       a message not consumed for that many seconds since it could
--                          first be received, 300..43200 and less than
--                          msg_retention_seconds, is moved there when it is ready
--   retry_backoff_seconds  seconds for which cmq_release hides a message that was
--                          received once, 0..43200; twice as many for each receive more
--   retry_backoff_max_seconds
--                          and no more than these, 0..43200
--   rewind_share           while a rewind is under way and other messages are ready:
--                          how many of 100 messages received are such that the rewind
--                          brings back, 1..100; 100: messages come in the order of
--                          production
--   ordered                the queue has groups (message_group of cmq_send), whose messages
--                          are delivered in the order of production, one after the
--                          other; it cannot be changed
--   dedup_seconds          seconds, counted from its production, for which the key of a
--                          message (dedup_key of cmq_send) keeps other messages with that
--                          key from being stored, 0..msg_retention_seconds; 0: keys are
--                          refused
-- Needs: CREATE on schemas cmq and cmq_data; INSERT on the dead-letter queue, for as
--   long as dead letters are to be moved.
-- Errors: 22023 a value is NULL or out of range or the dead-letter policy is
--   not possible, 42704 no such dead-letter queue, 42710 the name is taken
--   (also when only its case differs), 53400 cmq.max_queues is used up, 42501
--   no right, 25000 in a parallel worker, as for every function that writes.
CREATE FUNCTION @extschema@.cmq_create_queue(
	queue					text,
	visibility_timeout		int DEFAULT 30,
	polling_wait_seconds	int DEFAULT 0,
	msg_retention_seconds	int DEFAULT 345600,
	rewind_seconds			int DEFAULT 0,
	max_msg_size			int DEFAULT 1048576,
	max_msg_heap_num		bigint DEFAULT 100000000,
	dead_letter_queue		text DEFAULT NULL,
	max_receive_count		int DEFAULT NULL,
	max_time_to_live		int DEFAULT NULL,
	retry_backoff_seconds	int DEFAULT 0,
	retry_backoff_max_seconds	int DEFAULT 3600,
	rewind_share			int DEFAULT 100,
	ordered					boolean DEFAULT false,
	dedup_seconds			int DEFAULT 0)
RETURNS void
AS 'MODULE_PATHNAME', 'cmq_create_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_create_queue(text, int, int, int, int, int, bigint, text, int, int, int, int, int, boolean, int)
	IS 'create a queue, owned by the caller; timeouts, max_time_to_live and what ends in _seconds in seconds, max_msg_size in bytes, max_msg_heap_num in messages, max_receive_count in receives, rewind_share in per cent';

-- cmq_alter_queue: change settings of a queue.
--
-- Parameters: as cmq_create_queue; NULL leaves a setting as it is.
-- A shorter retention or rewind time takes effect at once; a longer one does
-- not bring back what was outside of the shorter one.  rewind_seconds = 0 forgets
-- the history at commit and for good, in a time that does not depend on its size;
-- maintenance removes the rows.  A call that switches rewind on or off or changes the
-- retention waits for open transactions that use the queue; traffic goes on
-- meanwhile.
-- dedup_seconds = 0 forgets all keys; setting it again begins without any.  With more
-- seconds keys that were free count again, unless maintenance has dropped them.  Both ends of keeping keys wait as the switch of rewind does, and
-- make or drop tables as the queue's owner.
-- Each part of the dead-letter policy can be changed alone; cmq_unbind_dead_letter
-- ends the policy.
-- Needs: UPDATE on the queue; for a dead-letter policy also DELETE, and INSERT on
--   the dead-letter queue.
-- Errors: 42704 no such queue, 22023 out of range or the dead-letter policy is
--   not possible, 42710 the name of the table of keys is taken, 2BP01 something
--   depends on it, 55006 rewind or dedup_seconds is switched in the midst of a call of this session on
--   the queue, 55P03 another transaction has been using the queue for 30 seconds (or
--   lock_timeout, if that is less), 42501 no right.
CREATE FUNCTION @extschema@.cmq_alter_queue(
	queue					text,
	visibility_timeout		int DEFAULT NULL,
	polling_wait_seconds	int DEFAULT NULL,
	msg_retention_seconds	int DEFAULT NULL,
	rewind_seconds			int DEFAULT NULL,
	max_msg_size			int DEFAULT NULL,
	max_msg_heap_num		bigint DEFAULT NULL,
	dead_letter_queue		text DEFAULT NULL,
	max_receive_count		int DEFAULT NULL,
	max_time_to_live		int DEFAULT NULL,
	retry_backoff_seconds	int DEFAULT NULL,
	retry_backoff_max_seconds	int DEFAULT NULL,
	rewind_share			int DEFAULT NULL,
	dedup_seconds			int DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'cmq_alter_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_alter_queue(text, int, int, int, int, int, bigint, text, int, int, int, int, int, int)
	IS 'change settings of a queue, in the units of cmq_create_queue; NULL leaves a setting as it is';

-- cmq_drop_queue: drop a queue with its messages and history.
--
-- Waits for open transactions that use or read the queue.  A relation that has the
-- name of one of the queue's and is another one, or has another owner, stays, with a
-- NOTICE.
-- Also drops the relations of a queue that has no row in cmq.queue, as after a restore
-- of the schema without the data, and what a DROP by hand has left of a queue.
-- A damaged queue can be dropped; by a superuser alone if the relation that carries
-- its rights was renamed.
-- Parameters:
--   queue   the queue
-- Needs: ownership of the queue.
-- Errors: 42704 no such queue, 42501 no right, 2BP01 the queue is the dead-letter
--   queue of another one, or other objects (a reporting view, say) depend on it,
--   55006 this session is in the midst of a call on the queue, or has a query open
--   that reads it, 55P03 another transaction has been using or reading the queue for
--   30 seconds (or lock_timeout, if that is less).
CREATE FUNCTION @extschema@.cmq_drop_queue(queue text)
RETURNS void
AS 'MODULE_PATHNAME', 'cmq_drop_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_drop_queue(text)
	IS 'drop a queue with its messages and history';

-- cmq_clear_queue: remove all pending messages for good; the history stays.
--
-- A rewind under way ends, and is recorded as cancelled.  What the rewind has not
-- brought back is history again if it is still in the rewind window, else it is gone.
-- Receipt handles of removed messages are stale.  Waits for transactions that
-- are receiving, deleting or changing one of the messages.  Messages of sends that
-- have not committed stay.
-- Parameters:
--   queue   the queue
-- Result: how many messages were removed.
-- Needs: UPDATE on the queue.
-- Errors: 42704 no such queue, 22023 NULL, 55000 a rewind is under way and a reason is
--   required, 42501 no right.
CREATE FUNCTION @extschema@.cmq_clear_queue(queue text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'cmq_clear_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_clear_queue(text)
	IS 'remove all pending messages for good, keep the history; returns how many messages';

-- cmq_pause_queue: from the commit on no message is delivered, until cmq_resume_queue.
--
-- cmq_receive, cmq_consume and cmq_receive_messages find the queue empty: they return
-- nothing, or wait.  Who waits already gets nothing either; a call that is taking
-- messages at the moment of the commit may still return them.  All else goes on: sends;
-- cmq_delete, cmq_change_visibility, cmq_release and the end of the timeout of what is in
-- flight; cmq_delete_messages; rewind, restore, replay, redrive and clear; changes of
-- settings, drop.  Time goes on: messages expire, and delays end.  No message moves to the
-- dead-letter queue, since no consumer can have it; what is dead by then moves after the
-- resume.
-- The call waits for no traffic, and none waits for it.  That the queue is paused is
-- seen in cmq.status and cmq.queues, and survives restarts, promotions and dumps.
-- Parameters:
--   queue    the queue
--   reason   why, for the record in cmq.rewinds, at most 1000 bytes; NULL or blank: what
--            the setting cmq.reason says.  cmq.require_reason does not matter.
-- Result: true; false if the queue is paused already: then nothing changes, and
--   nothing is recorded.
-- Needs: UPDATE on the queue.
-- Errors: 42704 no such queue, 22023 queue NULL or the reason too long, 42501 no right.
CREATE FUNCTION @extschema@.cmq_pause_queue(queue text, reason text DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'cmq_pause_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_pause_queue(text, text)
	IS 'deliver no message of a queue until cmq_resume_queue is called; false if the queue is paused already';

-- cmq_resume_queue: deliver again.  Receives that wait are woken at the commit.
--
-- The record in cmq.rewinds has cmq.reason as the reason.
-- Parameters:
--   queue   the queue
-- Result: true; false if the queue is not paused: then nothing changes, and nothing
--   is recorded.
-- Needs: UPDATE on the queue.
-- Errors: 42704 no such queue, 22023 NULL or cmq.reason too long, 42501 no right.
CREATE FUNCTION @extschema@.cmq_resume_queue(queue text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'cmq_resume_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_resume_queue(text)
	IS 'deliver the messages of a queue again that was paused; false if it is not paused';

-- cmq_unbind_dead_letter: end a queue's dead-letter policy.
--
-- Dead letters that were moved stay where they are.  Without a policy the call does
-- nothing.
-- Parameters:
--   queue   the queue
-- Needs: UPDATE on the queue, or ownership of its dead-letter queue.
-- Errors: 42704 no such queue, 22023 NULL, 42501 no right.
CREATE FUNCTION @extschema@.cmq_unbind_dead_letter(queue text)
RETURNS void
AS 'MODULE_PATHNAME', 'cmq_unbind_dead_letter'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_unbind_dead_letter(text)
	IS 'end the dead-letter policy of a queue';

-- cmq_queue_attributes: settings and counts of a queue, one row.
--
-- Counts are exact.  To count takes time in proportion to the messages in flight,
-- delayed and in the history; those that wait to be received cost nothing, except
-- while expired messages wait for maintenance.
-- Parameters:
--   queue   the queue
-- Result: the settings, in the units of cmq_create_queue, and
--   active_msg_num        ready, rewound and not yet received ones included
--   inactive_msg_num      in flight: received and hidden, also after a release
--   delay_msg_num         delayed, and not received, or released uncounted
--   rewind_msg_num        deleted and still rewindable
--   min_msg_time          production time of the earliest unconsumed message,
--                         the queue clock if there is none
--   earliest_rewind_time, latest_rewind_time
--                         the legal range of cmq_rewind in this transaction;
--                         NULL when rewind is off
-- Needs: SELECT on the queue.
-- Errors: 42704 no such queue, 42501 no right.
CREATE FUNCTION @extschema@.cmq_queue_attributes(
	queue						text,
	OUT visibility_timeout		int,
	OUT polling_wait_seconds	int,
	OUT msg_retention_seconds	int,
	OUT rewind_seconds			int,
	OUT max_msg_size			int,
	OUT max_msg_heap_num		bigint,
	OUT dead_letter_queue		text,
	OUT max_receive_count		int,
	OUT max_time_to_live		int,
	OUT retry_backoff_seconds	int,
	OUT retry_backoff_max_seconds	int,
	OUT rewind_share			int,
	OUT ordered					boolean,
	OUT dedup_seconds			int,
	OUT create_time				timestamptz,
	OUT last_modify_time		timestamptz,
	OUT active_msg_num			bigint,
	OUT inactive_msg_num		bigint,
	OUT delay_msg_num			bigint,
	OUT rewind_msg_num			bigint,
	OUT min_msg_time			timestamptz,
	OUT earliest_rewind_time	timestamptz,
	OUT latest_rewind_time		timestamptz)
RETURNS record
AS 'MODULE_PATHNAME', 'cmq_queue_attributes'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_queue_attributes(text)
	IS 'settings of a queue in the units of cmq_create_queue, numbers of messages (.._num), and the legal range of a rewind';

--
-- Messages
--

-- cmq_send: send one message.
--
-- Parameters:
--   queue          the queue
--   body           the text, 1 byte .. max_msg_size bytes in the database's
--                  encoding
--   delay_seconds  seconds from its production until it can be received,
--                  0..msg_retention_seconds - 1
--   headers        a JSON object of at most max_msg_size bytes, or NULL
--   deliver_at     when it can be received, by the queue clock; a time that is not after
--                  its production: at once; at the latest msg_retention_seconds - 1
--                  seconds after its production; NULL: delay_seconds says when.  Not
--                  together with a delay_seconds other than 0.
--   message_group  the group of the message, 1..128 bytes, if the queue is ordered: it is
--                  delivered when all messages of the group sent before are done.  NULL:
--                  the message is free of order.  Not together with a delay.
--   dedup_key      1 to 128 bytes, for a queue with dedup_seconds: if a message with this
--                  key was sent less than so many seconds ago, and has committed or is of
--                  this transaction, nothing is stored; NULL: the message is stored.  The
--                  call waits for an open transaction that has sent the key.
-- Result: the msg_id, the production time in Unix microseconds; if nothing is stored,
--   that of the message with the key, whether it was consumed, is gone, or is still there.
-- Needs: INSERT on the queue.
-- A queue is full when max_msg_heap_num messages are pending.  Expired messages
-- count until maintenance has removed them.  What other transactions have sent
-- or deleted counts when they have committed, so senders at work at the same
-- time may together exceed the limit by what they have not committed yet.
-- Errors: 42704 no such queue, 22023 body NULL or empty, delay_seconds NULL or out of
--   range, deliver_at infinite, out of range or given beside delay_seconds, headers no
--   JSON object, message_group empty, too long, given beside a delay or for a queue that
--   is not ordered, dedup_key too short, too long or for a queue without dedup_seconds,
--   54000 body or headers larger than max_msg_size, 53400 the queue is full
--   or max_worker_processes is used up, 55P03 the message needs a new partition, and
--   another transaction has had a lock on the queue's tables for 2 seconds, 55000 the
--   partition could not be made for another reason, a subscription writes the
--   queue's tables, or its table of keys was changed, 40P01 two transactions wait for
--   each other's keys, 42501 no right.
CREATE FUNCTION @extschema@.cmq_send(
	queue			text,
	body			text,
	delay_seconds	int DEFAULT 0,
	headers			jsonb DEFAULT NULL,
	deliver_at		timestamptz DEFAULT NULL,
	message_group	text DEFAULT NULL,
	dedup_key		text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'cmq_send'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_send(text, text, int, jsonb, timestamptz, text, text)
	IS 'send one message, to be received after delay_seconds seconds, or from deliver_at on (timestamp by the queue clock); returns its msg_id, the production time in microseconds since 1970, or that of the message that was sent before with the same dedup_key (1 to 128 bytes)';

-- cmq_send_batch: send many messages, all or nothing.
--
-- Parameters:
--   queue          the queue
--   bodies         one-dimensional array of bodies, each as in cmq_send
--   delay_seconds  one delay for all, as in cmq_send
--   headers        NULL, or an array of as many elements as bodies, each as in cmq_send
--   deliver_at     one time for all, as in cmq_send
--   message_groups  NULL, or an array of as many elements as bodies, each as in cmq_send
--   dedup_keys     NULL, or an array of as many elements as bodies, each as dedup_key in
--                  cmq_send.  Of messages with the same key in one array the first is
--                  stored
-- Result: the msg_ids, in the order of the array, those of messages that are stored
--   strictly increasing; no row for an empty array.
-- Needs, errors: as cmq_send.
CREATE FUNCTION @extschema@.cmq_send_batch(
	queue			text,
	bodies			text[],
	delay_seconds	int DEFAULT 0,
	headers			jsonb[] DEFAULT NULL,
	deliver_at		timestamptz DEFAULT NULL,
	message_groups	text[] DEFAULT NULL,
	dedup_keys		text[] DEFAULT NULL)
RETURNS SETOF bigint
AS 'MODULE_PATHNAME', 'cmq_send_batch'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_send_batch(text, text[], int, jsonb[], timestamptz, text[], text[])
	IS 'send many messages, all or nothing, to be received after delay_seconds seconds, or from deliver_at on (timestamp by the queue clock); returns their msg_ids (microseconds since 1970) in order, for one whose key in dedup_keys (1 to 128 bytes) was sent before that of the first';

-- cmq_receive: take up to max_messages ready messages and make them in flight.
--
-- Parameters:
--   queue                 the queue
--   max_messages          1..1000
--   visibility_timeout    seconds, 1..43200; NULL: the queue's
--   polling_wait_seconds  seconds to wait when no message is ready, 0..30;
--                         NULL: the queue's
--   filter                only messages whose headers contain this (headers @> filter),
--                         at most 8192 bytes; NULL: all.  Messages without headers
--                         contain nothing
-- Result: the messages in the order in which they became visible.  For messages never
--   received this is the order of production; a rewound message stands at its
--   production time.  With a rewind_share of less than 100 messages that a rewind brings
--   back and others take turns.  No row when no message is ready.  A receive passes over
--   messages that another open transaction is changing, and never waits for them.
-- A filter is compared with each ready message until max_messages are found: that takes
-- time in proportion to what it passes over, which stays for others.  A call that waits
-- compares each message once.
-- Needs: DELETE on the queue.
-- Errors: 42704 no such queue, 22023 out of range, 42501 no right.
CREATE FUNCTION @extschema@.cmq_receive(
	queue					text,
	max_messages			int DEFAULT 1,
	visibility_timeout		int DEFAULT NULL,
	polling_wait_seconds	int DEFAULT NULL,
	filter					jsonb DEFAULT NULL)
RETURNS SETOF cmq.message
AS 'MODULE_PATHNAME', 'cmq_receive'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION @extschema@.cmq_receive(text, int, int, int, jsonb)
	IS 'take up to max_messages ready messages and make them in flight for visibility_timeout seconds; if there is none, wait up to polling_wait_seconds seconds';

-- cmq_receive_messages: receive exactly these messages, ready or delayed.
--
-- Parameters:
--   queue               the queue
--   msg_ids             a one-dimensional array without NULL
--   visibility_timeout  seconds, 1..43200; NULL: the queue's
-- Result: those of them that are ready or delayed, oldest first, each once.  Left out are
--   ids of messages that are unknown, in flight, deleted, expired or dead, and those that
--   another open transaction is changing, for which the call does not wait; and those with
--   others before them in their group that the call does not take, too.  No row from a
--   paused queue.
-- Messages that wait as they were sent or brought back are found by their ids, and so are
-- all if the queue's owner has added an index on enqueued_at to cmq_data.q_<queue>_pending.
-- Else, for those that are delayed or were received before, the call reads what is delayed
-- or in flight, and then what is ready, once for all ids.
-- Needs: DELETE on the queue.
-- Errors: 42704 no such queue, 22023 the array or an element is NULL, it has several
--   dimensions, a message is of another server or visibility_timeout is out of range,
--   42501 no right.
CREATE FUNCTION @extschema@.cmq_receive_messages(
	queue				text,
	msg_ids				bigint[],
	visibility_timeout	int DEFAULT NULL)
RETURNS SETOF cmq.message
AS 'MODULE_PATHNAME', 'cmq_receive_messages'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION @extschema@.cmq_receive_messages(text, bigint[], int)
	IS 'receive exactly the messages with these msg_ids (microseconds since 1970) that are ready or delayed, and make them in flight for visibility_timeout seconds';

-- cmq_delete_messages: take back messages that are ready or delayed, without receiving
-- them.
--
-- With rewind on they move to the history, with a receive_count of 0 if nobody has
-- received them; else they are removed.
-- Parameters, cost: as for cmq_receive_messages.
-- Result: the ids of the messages deleted, oldest first, each once.  Left out are those
--   that cmq_receive_messages leaves out; but dead messages are deleted.
-- Needs: UPDATE on the queue.
-- Errors: 42704 no such queue, 22023 the array or an element is NULL, it has several
--   dimensions or a message is of another server, 42501 no right.
CREATE FUNCTION @extschema@.cmq_delete_messages(queue text, msg_ids bigint[])
RETURNS SETOF bigint
AS 'MODULE_PATHNAME', 'cmq_delete_messages'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_delete_messages(text, bigint[])
	IS 'take back messages with these msg_ids (microseconds since 1970) that are ready or delayed, without receiving them; returns the ids of those deleted';

-- cmq_consume: receive up to max_messages ready messages and delete them in one step, in
-- the caller's transaction.
--
-- The messages go straight to the history, or are removed with rewind off; nothing is in
-- flight in between.  If the transaction is rolled back they are ready as before, and
-- nothing was counted.  So work in the same database and the message are done together,
-- exactly once.  For work that takes long, or is done elsewhere, cmq_receive and
-- cmq_delete are right: a message that is consumed has no visibility timeout, and is
-- hidden from others for as long as the transaction is open.
-- Parameters, result: as cmq_receive; receipt_handle and next_visible_at are NULL, and
--   first_received_at is now for a message that was not received before.
-- Needs: DELETE on the queue.
-- Errors: 42704 no such queue, 22023 out of range, 42501 no right.
CREATE FUNCTION @extschema@.cmq_consume(
	queue					text,
	max_messages			int DEFAULT 1,
	polling_wait_seconds	int DEFAULT NULL,
	filter					jsonb DEFAULT NULL)
RETURNS SETOF cmq.message
AS 'MODULE_PATHNAME', 'cmq_consume'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION @extschema@.cmq_consume(text, int, int, jsonb)
	IS 'receive and delete up to max_messages ready messages in one step; if there is none, wait up to polling_wait_seconds seconds';

-- cmq_delete: delete a message that was received: it is consumed.
--
-- With rewind on the delivery moves to the history, else the message is
-- removed.  Waits for a transaction that is changing the same message.
-- Parameters:
--   queue           the queue
--   receipt_handle  the name of the delivery
-- Result: true; false when the handle is stale: the message was received again, its
--   visibility was changed, it was released, deleted or cleared, or both its retention and
--   its visibility timeout have passed.
-- Needs: DELETE on the queue.
-- Errors: 42704 no such queue, 22023 NULL or the handle is of a message of another
--   server of a cluster (cmq.msg_id_step), 22P02 not a receipt handle, 42501 no right.
CREATE FUNCTION @extschema@.cmq_delete(queue text, receipt_handle text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'cmq_delete'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_delete(text, text)
	IS 'delete a message that was received; false if the receipt handle is stale';

-- cmq_delete_batch: delete many messages that were received.
--
-- Parameters:
--   queue            the queue
--   receipt_handles  a one-dimensional array
-- Result: the handles that were deleted, in the order of the array; a stale
--   or repeated handle is not among them.
-- Needs, errors: as cmq_delete; one handle that is malformed, NULL or of another server
--   fails the call.
CREATE FUNCTION @extschema@.cmq_delete_batch(queue text, receipt_handles text[])
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'cmq_delete_batch'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_delete_batch(text, text[])
	IS 'delete many messages that were received; returns the receipt handles of those deleted';

-- cmq_change_visibility: hide a received message for longer, or end its
-- visibility timeout early.
--
-- Parameters:
--   queue               the queue
--   receipt_handle      the name of the delivery
--   visibility_timeout  seconds from now, 0..43200; 0 makes the message ready at once
-- Waits as cmq_delete does.
-- Result: the new receipt handle, and the old one is stale; NULL when the given
--   handle is stale.
-- Needs: DELETE on the queue.
-- Errors: 42704 no such queue, 22023 NULL, out of range or the handle is of a message of
--   another server, 22P02 not a receipt handle, 42501 no right.
CREATE FUNCTION @extschema@.cmq_change_visibility(
	queue				text,
	receipt_handle		text,
	visibility_timeout	int)
RETURNS text
AS 'MODULE_PATHNAME', 'cmq_change_visibility'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_change_visibility(text, text, int)
	IS 'set a new visibility timeout for a received message, in seconds from now; returns the new receipt handle';

-- cmq_change_visibility_batch: the same for many messages.
--
-- Parameters:
--   queue               the queue
--   receipt_handles     a one-dimensional array
--   visibility_timeout  as for cmq_change_visibility, one for all, and from one moment on
-- Result: a row for each handle whose message was changed, in the order of the array; a
--   stale or repeated handle is not among them.  old_handle, as it was given, is stale,
--   and new_handle is good.
-- Needs, errors: as cmq_change_visibility; one malformed or NULL handle fails the call.
CREATE FUNCTION @extschema@.cmq_change_visibility_batch(
	queue				text,
	receipt_handles		text[],
	visibility_timeout	int)
RETURNS TABLE (
	old_handle			text,
	new_handle			text)
AS 'MODULE_PATHNAME', 'cmq_change_visibility_batch'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_change_visibility_batch(text, text[], int)
	IS 'set a new visibility timeout for many received messages, in seconds from now; returns old and new receipt handle of those changed';

-- cmq_release: give back messages that were received, because their work has failed.
--
-- Parameters:
--   queue            the queue
--   receipt_handles  a one-dimensional array
--   delay_seconds    seconds from now until they can be received again, from 0, at once, to
--                    msg_retention_seconds - 1; NULL: for each message the queue's
--                    back-off, the smaller of retry_backoff_max_seconds and
--                    retry_backoff_seconds * 2 ^ (receive_count - 1)
--   counted          whether these deliveries count.  false, for a consumer that stops or
--                    is replaced: receive_count is one less, as if the message had not
--                    been received this time; and if it was not before, since it was sent
--                    or last brought back, it has no first_received_at.
-- Result: the handles released, in the order of the array; a stale or repeated handle is
--   not among them.  All of them are stale then, for good.
-- A message that is ready again stands behind those that became ready before.  One that was
-- received max_receive_count times, this time counted, becomes a dead letter when it is
-- ready.  A message that is released for longer than it has left to live is gone.
-- Waits as cmq_delete does.
-- Needs: DELETE on the queue.
-- Errors: 42704 no such queue, 22023 NULL or out of range, 22P02 not a receipt handle,
--   42501 no right; one malformed or NULL handle fails the call.
CREATE FUNCTION @extschema@.cmq_release(
	queue				text,
	receipt_handles		text[],
	delay_seconds		int DEFAULT NULL,
	counted				boolean DEFAULT true)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'cmq_release'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_release(text, text[], int, boolean)
	IS 'give back messages that were received, to be received again after delay_seconds seconds, or after the queue''s back-off; returns the receipt handles of those released';

--
-- Rewind
--

-- cmq_rewind: consumers receive again what was deleted so far and was
-- produced at or after start_time, in production order, then the rest (a
-- waiting message older than some of them keeps its place among them).
--
-- Parameters:
--   queue       the queue
--   start_time  now() - rewind_seconds .. min_msg_time, both included.
--               cmq_queue_attributes shows the range, in the time of messages, which is
--               that of the wall clock unless the wall clock has been set.  A message that
--               was outside of an earlier, shorter window does not come back; one that left
--               the window since the transaction began may not come back.
-- Result: enqueued_at of the first message that will be received again, NULL
--   if there is none.
-- A message that is pending at that moment, in flight or being deleted by a
-- transaction still open, is left alone.  A rewind replaces the one before.
-- Needs: UPDATE on the queue.
-- Errors: 42704 no such queue, 22023 start_time NULL, infinite or out of
--   range, 55000 rewind is off or a reason is required, 42501 no right.
CREATE FUNCTION @extschema@.cmq_rewind(queue text, start_time timestamptz)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'cmq_rewind'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_rewind(text, timestamptz)
	IS 'receive again every message deleted so far and produced at or after start_time (timestamp by the queue clock)';

-- cmq_cancel_rewind: what the rewind under way has not brought back yet returns
-- to history.
--
-- Messages that were received stay received.  Messages that have left the rewind window
-- since the rewind are no history any more: they are gone.
-- Parameters:
--   queue   the queue
-- Result: true if a rewind was under way, as rewinding_from in cmq.queues shows; it is
--   cancelled, even if it has nothing left.  Without one the call does nothing: false.
-- Needs: UPDATE on the queue.
-- Errors: 42704 no such queue, 55000 rewind is off or a reason is required,
--   42501 no right.
CREATE FUNCTION @extschema@.cmq_cancel_rewind(queue text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'cmq_cancel_rewind'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_cancel_rewind(text)
	IS 'return to history what the rewind under way has not brought back yet; false if none was under way';

-- cmq_rewind_preview: what a rewind or restore would bring back now.
--
-- Parameters:
--   queue          the queue
--   start_time, end_time  produced at or after the one and before the other;
--                  end_time NULL: no end
--   filter         only messages whose headers contain this (headers @> filter), at
--                  most 8192 bytes; NULL: all
-- Result: one row; times are NULL if there are no messages.  The preview counts what
--   is history, and not what a rewind under way brings back anyway.  cmq_restore with
--   the same arguments brings back exactly these messages; so does cmq_rewind, for a
--   preview without end_time and filter, if start_time is legal.
-- The call changes nothing and blocks no other one; it takes time in proportion to the
-- window.
-- Needs: SELECT on the queue.
-- Errors: 42704 no such queue, 22023 start_time NULL or end_time before it,
--   55000 rewind is off, or was switched off meanwhile, 42501 no right.
CREATE FUNCTION @extschema@.cmq_rewind_preview(
	queue					text,
	start_time				timestamptz,
	end_time				timestamptz DEFAULT NULL,
	filter					jsonb DEFAULT NULL,
	OUT messages			bigint,
	OUT body_bytes			bigint,
	OUT first_enqueued_at	timestamptz,
	OUT last_enqueued_at	timestamptz)
RETURNS record
AS 'MODULE_PATHNAME', 'cmq_rewind_preview'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_rewind_preview(text, timestamptz, timestamptz, jsonb)
	IS 'count what a rewind or restore would bring back of the messages produced from start_time to before end_time (timestamps by the queue clock): messages, and bytes of their bodies';

--
-- Looking at messages
--

-- cmq_history: the history of a queue, for scripts that have its name as a value.
--
-- Parameters:
--   queue          the queue
--   start_time, end_time  produced at or after the one and before the other; NULL: no
--                  start, no end
-- Result: the rows that the view cmq.q_<queue>_history shows to the same statement, with
--   its columns, and message_group also for a queue that is not ordered, where it is NULL,
--   in order of enqueued_at.  None when rewind is off.  The function
--   reads the tables of the queue and not the view: no code of the queue's owner
--   runs.  It takes time in proportion to the window; a condition of the query
--   around it does not make it shorter.
-- Needs: SELECT on the queue.
-- Errors: 42704 no such queue, 22023 queue NULL or end_time before start_time, 55000
--   rewind was switched off while the history was read, or the relations of the
--   queue were changed, 42501 no right.
CREATE FUNCTION @extschema@.cmq_history(
	queue		text,
	start_time	timestamptz DEFAULT NULL,
	end_time	timestamptz DEFAULT NULL)
RETURNS TABLE (
	msg_id				bigint,
	enqueued_at			timestamptz,
	first_received_at	timestamptz,
	deleted_at			timestamptz,
	deleted_by			text,
	receive_count		int,
	rewind_count		int,
	headers				jsonb,
	body				text,
	message_group		text)
AS 'MODULE_PATHNAME', 'cmq_history'
LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 10000;
COMMENT ON FUNCTION @extschema@.cmq_history(text, timestamptz, timestamptz)
	IS 'the history of a queue, as cmq.q_<queue>_history shows it, produced from start_time to before end_time (timestamps by the queue clock)';

-- cmq_messages: page through the messages of a queue.
--
-- Parameters:
--   queue          the queue
--   part           'pending': what is ready, delayed or in flight, in the order of delivery,
--                  which is that of (visible_at, msg_id); 'history': what was deleted and can
--                  be rewound, in the order of enqueued_at
--   after_time, after_id  where to begin: behind the message with this visible_at, for
--                  history this enqueued_at, and this msg_id.  The next page begins behind the
--                  last row of this one.  after_id NULL: at the first message of after_time
--                  or later, backwards at the last one of after_time or earlier.  Both NULL:
--                  at the end of the part from which the call reads
--   filter         only messages whose headers contain this (headers @> filter), at
--                  most 8192 bytes; NULL: all.  Messages without headers contain nothing.
--   max_messages   how many messages are returned at most, 1..1000
--   max_looked     how many messages are looked at for that, 1..100000.  Ten index entries
--                  that lead to no message of the part count as one: rows that are gone, and
--                  messages that have expired, are forgotten or belong to the other part
--   backwards      in the opposite order
-- Result: the rows that the view cmq.q_<queue>_all shows to the same statement, with its
--   columns, and message_group also for a queue that is not ordered, where it is NULL;
--   matched is true.  When max_looked ends the call before it has found max_messages or come
--   to the end of the part, a last row with matched false says where to go on, and is
--   no message: msg_id and enqueued_at, and visible_at for what is pending, are those of the
--   entry looked at last, and all else is NULL.
--   The function reads the tables of the queue and not the view: no code of the queue's owner
--   runs.  What it takes does not grow with the queue.  A body that is stored elsewhere is
--   read when the query around the call looks at it.
--   A message in a journal that cannot be had now has headers and body NULL; with a filter it
--   is left out, and a WARNING says how many were.
-- Needs: SELECT on the queue.
-- Errors: 42704 no such queue, 22023 an argument out of its range, NULL where it may not be,
--   or after_id without after_time, 55000 rewind was switched off meanwhile, or the
--   relations of the queue were changed, 42501 no right.
CREATE FUNCTION @extschema@.cmq_messages(
	queue			text,
	part			text,
	after_time		timestamptz DEFAULT NULL,
	after_id		bigint DEFAULT NULL,
	filter			jsonb DEFAULT NULL,
	max_messages	int DEFAULT 50,
	max_looked		int DEFAULT 10000,
	backwards		boolean DEFAULT false)
RETURNS TABLE (
	msg_id				bigint,
	enqueued_at			timestamptz,
	state				text,
	first_received_at	timestamptz,
	visible_at			timestamptz,
	deleted_at			timestamptz,
	deleted_by			text,
	receive_count		int,
	rewind_count		int,
	headers				jsonb,
	body				text,
	message_group		text,
	matched				boolean)
AS 'MODULE_PATHNAME', 'cmq_messages'
LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 50;
COMMENT ON FUNCTION @extschema@.cmq_messages(text, text, timestamptz, bigint, jsonb, int, int, boolean)
	IS 'a page of the messages of a queue, of part pending or history, as cmq.q_<queue>_all shows them, behind a visible_at or enqueued_at (timestamp by the queue clock) and msg_id (microseconds since 1970); a last row with matched false is no message, and says where to go on';

-- cmq_message: the message of an id.
--
-- Parameters:
--   queue   the queue
--   msg_id  the id
-- Result: the row that the view cmq.q_<queue>_all shows to the same statement for this
--   msg_id, with the columns of cmq_messages but matched; none if it shows none.  No code
--   of the queue's owner runs.  Fast for what is history, and for messages that wait as they
--   were sent.  For what was received or delayed, and is pending, the call reads at most
--   200,000 index entries; if it has not found the message then it fails, with a HINT that
--   names the index by which the owner has it found at once.
-- Needs: SELECT on the queue.
-- Errors: 42704 no such queue, 22023 an argument is NULL, or the queue has no message of
--   this id, which another server has given out, 54000 the message exists and was not found
--   among the entries read, 55000 as for cmq_messages, 42501 no right.
CREATE FUNCTION @extschema@.cmq_message(queue text, msg_id bigint)
RETURNS TABLE (
	msg_id				bigint,
	enqueued_at			timestamptz,
	state				text,
	first_received_at	timestamptz,
	visible_at			timestamptz,
	deleted_at			timestamptz,
	deleted_by			text,
	receive_count		int,
	rewind_count		int,
	headers				jsonb,
	body				text,
	message_group		text)
AS 'MODULE_PATHNAME', 'cmq_message'
LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION @extschema@.cmq_message(text, bigint)
	IS 'the message with this msg_id (microseconds since 1970), as cmq.q_<queue>_all shows it; no row if it shows none';

-- cmq_timeline: how many messages of which state were produced when, for charts.
--
-- Parameters:
--   queue          the queue
--   start_time, end_time  produced at or after the one and before the other
--   buckets        into how many buckets of equal width that is cut, 1..1000
-- Result: a row for each bucket, in order
--   bucket_start, bucket_end  produced at or after the one and before the other
--   history        messages that the view cmq.q_<queue>_history shows
--   ready, in_flight, delayed  messages that the view cmq.q_<queue>_live shows in that
--                  state, but for those that are
--   brought_back   ready because a rewind or restore has brought them back, and not
--                  received since
--   exact          the numbers are counted, as the views show them to the same statement;
--                  else they are estimates
-- Whatever the queue holds, a call reads about 100,000 index entries and rows and some
-- thousand pages of indexes.  What is more is estimated from samples that are spread
-- evenly over the messages, not over the time: some per cent off for a bucket with more
-- than a few thousand messages.
-- Needs: SELECT on the queue.  Works on a standby; waits for nobody but who drops the queue
--   or has locked its tables.
-- Errors: 42704 no such queue, 22023 an argument NULL or out of range, end_time not after
--   start_time or one of them infinite, 55000 the relations of the queue were changed, 42501
--   no right.
CREATE FUNCTION @extschema@.cmq_timeline(
	queue		text,
	start_time	timestamptz,
	end_time	timestamptz,
	buckets		int DEFAULT 60)
RETURNS TABLE (
	bucket_start	timestamptz,
	bucket_end		timestamptz,
	history			bigint,
	ready			bigint,
	in_flight		bigint,
	delayed			bigint,
	brought_back	bigint,
	exact			boolean)
AS 'MODULE_PATHNAME', 'cmq_timeline'
LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 60;
COMMENT ON FUNCTION @extschema@.cmq_timeline(text, timestamptz, timestamptz, int)
	IS 'how many messages of which state were produced from start_time to before end_time (timestamps by the queue clock), in so many buckets of equal width: counted, or estimated where there are many';

--
-- Restore, replay, redrive
--

-- cmq_restore: make deleted messages of a window ready again at commit, in
-- production order, whatever backlog there is.
--
-- Parameters:
--   queue          the queue
--   start_time, end_time  produced at or after the one and before the other;
--                  end_time NULL: no end.  Messages that cannot be rewound any more
--                  are not brought back.
--   filter         only messages whose headers contain this (headers @> filter), at
--                  most 8192 bytes; NULL: all.  Messages without headers contain nothing.
--   expected_count the call fails unless it finds exactly so many; NULL: any number
-- Result: how many messages.  Their receive_count begins anew, and rewind_count is one
--   higher, as after a rewind.
-- max_msg_heap_num does not apply.  A rewind under way goes on.  The call takes time in
-- proportion to the messages, with a filter to the window; its memory does not grow,
-- and it can be cancelled.
-- Needs: UPDATE on the queue, with a filter also SELECT.
-- Errors: 42704 no such queue, 22023 start_time NULL or end_time before it,
--   21000 not expected_count, 55000 rewind is off or a reason is required,
--   42501 no right.
CREATE FUNCTION @extschema@.cmq_restore(
	queue			text,
	start_time		timestamptz,
	end_time		timestamptz DEFAULT NULL,
	filter			jsonb DEFAULT NULL,
	expected_count	bigint DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'cmq_restore'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_restore(text, timestamptz, timestamptz, jsonb, bigint)
	IS 'make the deleted messages ready again that were produced from start_time to before end_time (timestamps by the queue clock); returns how many messages';

-- cmq_restore_messages: the same for messages with these ids.
--
-- Parameters:
--   queue    the queue
--   msg_ids  a one-dimensional array without NULL
-- Result: the ids of the messages restored, oldest first, each once.  A NOTICE tells
--   how many of the ids were not restored: unknown, not deleted, deleted again just
--   now, or out of the window.
-- Needs: UPDATE on the queue.
-- Errors: 42704 no such queue, 22023 the array or an element is NULL, it has several
--   dimensions or a message is of another server, 55000 rewind is off or a reason is
--   required, 42501 no right.
CREATE FUNCTION @extschema@.cmq_restore_messages(queue text, msg_ids bigint[])
RETURNS SETOF bigint
AS 'MODULE_PATHNAME', 'cmq_restore_messages'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_restore_messages(text, bigint[])
	IS 'make deleted messages with these msg_ids (microseconds since 1970) ready again; returns the ids of those restored';

-- cmq_replay: copy deleted messages of a window into another queue.
--
-- Parameters:
--   queue          the source
--   into_queue     the other queue
--   start_time, end_time, filter  as for cmq_restore
--   dedup          whether each copy is sent with a key of its own, for an other queue with
--                  dedup_seconds: cmq_origin:<queue>:<msg_id>.  A message that was copied
--                  so less than these seconds ago is not copied again.  The call waits for
--                  an open transaction that has copied it
-- Result: how many messages were stored.  Each is a new message of the other queue, and ready at
--   once.  Its headers are the old ones and cmq_origin: {queue, msg_id, enqueued_at}.
--   An ordered queue gets the message_group, another one has it in cmq_origin, as
--   message_group.  The source is not changed.
-- Needs: SELECT on the source, INSERT on the other queue.
-- Errors: 42704 no such queue, 22023 start_time or dedup NULL, end_time before it, both
--   queues the same or dedup for one without dedup_seconds, 53400 the other queue is full, 54000 a body is too large
--   for it, 55000 rewind is off or a reason is required, 42501 no right.
CREATE FUNCTION @extschema@.cmq_replay(
	queue		text,
	into_queue	text,
	start_time	timestamptz,
	end_time	timestamptz DEFAULT NULL,
	filter		jsonb DEFAULT NULL,
	dedup		boolean DEFAULT false)
RETURNS bigint
AS 'MODULE_PATHNAME', 'cmq_replay'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_replay(text, text, timestamptz, timestamptz, jsonb, boolean)
	IS 'copy the deleted messages that were produced from start_time to before end_time (timestamps by the queue clock) into another queue; returns how many messages';

-- cmq_redrive: send dead letters back to the queues they came from.
--
-- Each becomes a new message of its queue, without the header cmq_dead_letter, in its
-- group, which has gone on without it, and is deleted from the dead-letter queue as by cmq_delete.  The call takes ready
-- messages, oldest first, those that a rewind under way brings back, too.  A message that cannot be sent back stays: it is no dead
-- letter, or its queue does not exist any more, has another dead-letter queue now,
-- grants the caller no INSERT, is full, takes no message of that size, or fails or
-- takes longer than 5 seconds (then there is a WARNING, and this call sends no more to
-- that queue).  A NOTICE tells how many stay of those that were chosen.
-- Parameters:
--   queue          the dead-letter queue
--   max_messages   how many messages at most, at least 1; NULL: all
--   filter         only messages whose headers contain this (headers @> filter), at
--                  most 8192 bytes; NULL: all.  The headers are those that they have in
--                  the dead-letter queue: {"cmq_dead_letter": {"queue": "orders"}}
--                  chooses those of one queue.
--   msg_ids        only messages with these ids, of the dead-letter queue: a
--                  one-dimensional array without NULL; NULL: all.  A NOTICE tells how
--                  many of them are not ready.
-- With filter and msg_ids only messages that both choose are sent back.
-- Result: how many were sent back.
-- The call takes time in proportion to what it sends back, with a filter to what is
-- ready, with msg_ids to their number; if any of these was received before, or is not
-- ready, also to what is ready.
-- Needs: DELETE on the dead-letter queue; with msg_ids or filter UPDATE instead, with a
--   filter also SELECT.  INSERT on the queues that get messages.
-- Errors: 42704 no such queue; 22023 max_messages out of range, filter too large, the
--   array or an element wrong, a message of another server; 42501 no right.
CREATE FUNCTION @extschema@.cmq_redrive(
	queue			text,
	max_messages	int DEFAULT NULL,
	filter			jsonb DEFAULT NULL,
	msg_ids			bigint[] DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'cmq_redrive'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_redrive(text, int, jsonb, bigint[])
	IS 'send dead letters back to the queues they came from, max_messages messages at most, of those with chosen headers or msg_ids (microseconds since 1970); returns how many';

-- The deliveries of messages of which a client knows the ids alone: of those that were
-- received and not deleted, in flight or ready again.  contents: with body, headers and
-- message_group; else they are NULL.  Raises 42501 without DELETE on the queue.
-- For examples/pgmq.sql.  Messages that this session has received are found at once, and
-- so are all if the owner of the queue has added an index on enqueued_at to
-- cmq_data.q_<queue>_pending; else what is in flight or delayed is read, and then what is
-- ready.
CREATE FUNCTION cmq._deliveries_of(queue text, msg_ids bigint[], contents boolean)
RETURNS SETOF cmq.message
AS 'MODULE_PATHNAME', 'cmq_deliveries_of'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION cmq._deliveries_of(text, bigint[], boolean)
	IS 'cmq internal: the deliveries that messages with these msg_ids (microseconds since 1970) are in';

--
-- Topics
--

-- cmq_create_topic: create a topic, owned by the caller.
--
-- Its rights are GRANTs on the view cmq.t_<topic>: INSERT publishes, SELECT
-- subscribes and shows the subscriptions.  What goes to several queues is stored once, in
-- cmq_data.j_<topic>, the journal, for as long as one of them may need it.
-- Parameters:
--   topic        its name: [A-Za-z][A-Za-z0-9_-]{0,47}
--   filter_type  how subscriptions choose: 'tag' or 'routing'
-- Needs: CREATE on schemas cmq and cmq_data.
-- Errors: 22023 a value is NULL or not possible, 42710 the name is taken (also
--   when only its case differs, or queues still have messages of a topic of this name
--   that had another owner), 42501 no right.
CREATE FUNCTION @extschema@.cmq_create_topic(topic text, filter_type text DEFAULT 'tag')
RETURNS void
AS 'MODULE_PATHNAME', 'cmq_create_topic'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_create_topic(text, text)
	IS 'create a topic, owned by the caller';

-- cmq_drop_topic: drop a topic that has no subscriptions, or the view of one that has
-- no row in cmq.topic, as after a restore of the schema without the data.
--
-- Messages that queues have from it stay with them; its journal is dropped by maintenance
-- when no queue needs what is there.
-- Parameters:
--   topic   the topic
-- Needs: ownership of the topic.
-- Errors: 42704 no such topic, 22023 NULL, 2BP01 it has subscriptions, or something
--   depends on its journal, 42501 no right.
CREATE FUNCTION @extschema@.cmq_drop_topic(topic text)
RETURNS void
AS 'MODULE_PATHNAME', 'cmq_drop_topic'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_drop_topic(text)
	IS 'drop a topic that has no subscriptions';

-- cmq_subscribe: have a queue get what is published to a topic.
--
-- Parameters:
--   topic         the topic
--   subscription  a name, unique within the topic but for case, as for queues
--   queue         the queue that gets a copy; dropping it ends the subscription
--   filter_tags   of a topic that filters by tag: 1 to 5 tags of 1 to 16
--                 characters, the queue gets what has at least one of them;
--                 NULL: everything
--   binding_keys  of a topic that filters by routing key: 1 to 5 patterns of 1
--                 to 64 bytes with at most 15 dots, the queue gets what one of
--                 them matches.  Words are separated by dots; * stands for
--                 exactly one word, # for any number of words, also none.
-- Needs: SELECT on the topic, ownership of the queue.
-- Errors: 42704 no such topic or queue, 42710 there is such a subscription,
--   22023 a value is NULL or not possible, 54000 the queue has 10 subscriptions of the
--   topic, 42501 no right.
CREATE FUNCTION @extschema@.cmq_subscribe(
	topic			text,
	subscription	text,
	queue			text,
	filter_tags		text[] DEFAULT NULL,
	binding_keys	text[] DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'cmq_subscribe'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_subscribe(text, text, text, text[], text[])
	IS 'have a queue get what is published to a topic';

-- cmq_unsubscribe: end a subscription.  What was published stays in the queue.
--
-- If the caller owns the queue, the call waits for changes of the queue that are under
-- way, as cmq_subscribe does.  So both in one transaction change a subscription, and a
-- drop of the queue waits for them.
-- Parameters:
--   topic         the topic
--   subscription  its name
-- Needs: ownership of the topic or of the queue.
-- Errors: 42704 no such subscription, for the owner of the topic; 22023 NULL, 42501 no
--   right, or no such topic or subscription.
CREATE FUNCTION @extschema@.cmq_unsubscribe(topic text, subscription text)
RETURNS void
AS 'MODULE_PATHNAME', 'cmq_unsubscribe'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_unsubscribe(text, text)
	IS 'end a subscription';

-- cmq_publish: send a message to every queue whose subscription wants it, all
-- or none, in the caller's transaction.  Body and headers are stored once for all of them.
--
-- Parameters:
--   topic        the topic
--   body         as in cmq_send; the max_msg_size of each queue applies
--   tags         1 to 5 tags of 1 to 16 characters, or NULL; for a topic of type
--                tag alone
--   routing_key  1 to 64 bytes, at most 15 dots; for a topic of type routing alone,
--                which needs it
--   headers      a JSON object, or NULL; cmq_topic, cmq_tags and cmq_routing_key
--                are added
--   delay_seconds  seconds from its production until each copy can be received, 0 or
--                more and less than the msg_retention_seconds of each queue
--   message_group  the group of the copies in queues that are ordered, as in cmq_send; the
--                others have none.  Not together with a delay.
--   dedup_key    as in cmq_send, for those of the queues that have dedup_seconds; the
--                others store the message
-- Result: a row for each queue that wants the message, with the msg_id there, as from
--   cmq_send; none if no subscription wants it.  The msg_id is the same in all queues, but
--   for further copies to a queue with several subscriptions, for queues that look at
--   dedup_key, and for those whose clock is more than a second ahead of the server's.
-- Needs: INSERT on the topic; nothing on the queues.
-- Errors: 42704 no such topic, 22023 a value is NULL or not possible, the delay is
--   no shorter than a queue keeps a message, or message_group is empty, too long or given
--   beside a delay, 54000 body larger than a queue takes, 53400 a
--   queue is full, 55006 the clock of a queue was moved far ahead meanwhile, 42501 no right.
CREATE FUNCTION @extschema@.cmq_publish(
	topic		text,
	body		text,
	tags		text[] DEFAULT NULL,
	routing_key	text DEFAULT NULL,
	headers		jsonb DEFAULT NULL,
	delay_seconds	int DEFAULT 0,
	message_group	text DEFAULT NULL,
	dedup_key	text DEFAULT NULL)
RETURNS TABLE (queue text, msg_id bigint)
AS 'MODULE_PATHNAME', 'cmq_publish'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_publish(text, text, text[], text, jsonb, int, text, text)
	IS 'send a message to every queue whose subscription wants it, each copy to be received after delay_seconds seconds, and stored once for each dedup_key (1 to 128 bytes) by queues that keep keys; returns queues and msg_ids (microseconds since 1970)';

-- cmq_publish_batch: publish many messages with the same tags and routing key,
-- all or nothing.
--
-- Parameters:
--   topic, tags, routing_key, delay_seconds  as in cmq_publish
--   bodies          a one-dimensional array
--   headers, message_groups  NULL, or an array of as many elements
--   dedup_keys      as in cmq_send_batch
-- Result: queue by queue, the messages in the order of the array.
-- Needs, errors: as cmq_publish.
CREATE FUNCTION @extschema@.cmq_publish_batch(
	topic		text,
	bodies		text[],
	tags		text[] DEFAULT NULL,
	routing_key	text DEFAULT NULL,
	headers		jsonb[] DEFAULT NULL,
	delay_seconds	int DEFAULT 0,
	message_groups	text[] DEFAULT NULL,
	dedup_keys	text[] DEFAULT NULL)
RETURNS TABLE (queue text, msg_id bigint)
AS 'MODULE_PATHNAME', 'cmq_publish_batch'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_publish_batch(text, text[], text[], text, jsonb[], int, text[], text[])
	IS 'publish many messages, all or nothing, each copy to be received after delay_seconds seconds, and stored once for each key in dedup_keys (1 to 128 bytes) by queues that keep keys; returns queues and msg_ids (microseconds since 1970)';

--
-- Maintenance
--

-- cmq_maintain: do now what the maintenance worker does at intervals.
--
-- Parameters:
--   queue   the queue; NULL: all queues that the caller owns
-- A failure in counts and statistics ends in a WARNING.  Any other failure is an error
-- in a call for one queue; in a call for all, the queue is reported in a WARNING and
-- skipped.  Dead letters to a queue of another owner are left to the worker.  A call
-- for all by the owner of the extension also removes old rows of the record.
-- All work is done in the caller's transaction, which keeps its locks.  So a call drops
-- at most 50 partitions of a queue, and maintains no more queues when a quarter of the
-- server's lock table is taken.  When work is left, a NOTICE says so; the next call,
-- in another transaction, goes on with it.
-- Needs: ownership of the queue.
-- Errors: 42704 no such queue, 42501 no right.
CREATE FUNCTION @extschema@.cmq_maintain(queue text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'cmq_maintain'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cmq_maintain(text)
	IS 'run maintenance now, for one queue or all';

--
-- What the views are made of.
--

-- msg_id: the msg_id of a production time, the same instant in another form.
--
-- Parameters:
--   enqueued_at   the production time; NULL: the result is NULL
-- Needs: nothing.
-- Errors: 22023 the time is infinite or too late for a msg_id.
CREATE FUNCTION cmq.msg_id(enqueued_at timestamptz)
RETURNS bigint
AS 'MODULE_PATHNAME', 'cmq_msg_id'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq.msg_id(timestamptz)
	IS 'msg_id (microseconds since 1970) of the message produced at that instant (timestamp by the queue clock)';

-- enqueued_at: the production time of a msg_id.
--
-- Parameters:
--   msg_id   the id; NULL: the result is NULL
-- Needs: nothing.
-- Errors: 22023 no time has this id.
CREATE FUNCTION cmq.enqueued_at(msg_id bigint)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'cmq_enqueued_at'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq.enqueued_at(bigint)
	IS 'production time (timestamp) of the message with this msg_id (microseconds since 1970): WHERE enqueued_at = cmq.enqueued_at(msg_id) uses the index';

-- The same for comparisons in plans, without errors: an id that no time has is beyond
-- all times.
CREATE FUNCTION cmq._time_of(msg_id bigint)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'cmq_time_of'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._time_of(bigint)
	IS 'cmq internal: production time to compare with instead of a msg_id';

CREATE FUNCTION cmq._times_of(msg_ids bigint[])
RETURNS timestamptz[]
AS 'MODULE_PATHNAME', 'cmq_times_of'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._times_of(bigint[])
	IS 'cmq internal: production times to compare with instead of msg_ids';

-- The next functions raise 42501 without SELECT on the queue, also when the
-- planner simplifies a call.  See cmq_views.c.
CREATE FUNCTION cmq._readable_support(internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'cmq_readable_support'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._readable_support(internal) IS 'cmq internal: planner support for cmq._readable';

-- True, or error 42501.  The planner replaces a call that raises no error by true.
CREATE FUNCTION cmq._readable(queue text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'cmq_readable'
LANGUAGE C STABLE STRICT PARALLEL SAFE SUPPORT cmq._readable_support;
COMMENT ON FUNCTION cmq._readable(text)
	IS 'cmq internal: raise an error unless the caller may read the queue';

-- The queue clock.
CREATE FUNCTION cmq._clock(queue text)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'cmq_clock'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._clock(text) IS 'cmq internal: the queue clock now';

-- Messages produced earlier have expired.  The cost of this function and the next one makes
-- the planner see that a condition of an index calls it once, and a filter for each row.
CREATE FUNCTION cmq._expired_before(queue text)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'cmq_expired_before'
LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION cmq._expired_before(text)
	IS 'cmq internal: messages of the queue produced before this time have expired';

-- Has a message of this time not expired?
-- For the planner: enqueued_at >= cmq._expired_before(queue).
CREATE FUNCTION cmq._unexpired_support(internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'cmq_unexpired_support'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._unexpired_support(internal) IS 'cmq internal: planner support for cmq._unexpired';

CREATE FUNCTION cmq._unexpired(queue text, enqueued_at timestamptz)
RETURNS boolean
AS 'MODULE_PATHNAME', 'cmq_unexpired'
LANGUAGE C STABLE STRICT PARALLEL SAFE SUPPORT cmq._unexpired_support;
COMMENT ON FUNCTION cmq._unexpired(text, timestamptz)
	IS 'cmq internal: has a message of this time not expired';

-- Deleted messages produced earlier can no longer be rewound; infinity when
-- rewind is off.
CREATE FUNCTION cmq._since(queue text)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'cmq_since'
LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION cmq._since(text)
	IS 'cmq internal: deleted messages of the queue produced before this time cannot be rewound';

-- Is a message of this time, deleted then, in the rewind window and not forgotten?
-- For the planner: enqueued_at >= <the bound now> AND enqueued_at >=
-- cmq._since(queue) AND deleted_at >= <when rewind was last switched off>.
CREATE FUNCTION cmq._rewindable_support(internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'cmq_rewindable_support'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._rewindable_support(internal) IS 'cmq internal: planner support for cmq._rewindable';

CREATE FUNCTION cmq._rewindable(queue text, enqueued_at timestamptz,
	deleted_at timestamptz)
RETURNS boolean
AS 'MODULE_PATHNAME', 'cmq_rewindable'
LANGUAGE C STABLE STRICT PARALLEL SAFE SUPPORT cmq._rewindable_support;
COMMENT ON FUNCTION cmq._rewindable(text, timestamptz, timestamptz)
	IS 'cmq internal: is a message of this time, deleted then, in the rewind window';

-- Is this message of the history due, to be received again in the rewind under way?
-- For the planner: false, or comparisons with constants.
CREATE FUNCTION cmq._due_support(internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'cmq_due_support'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._due_support(internal) IS 'cmq internal: planner support for cmq._due';

CREATE FUNCTION cmq._due(queue text, enqueued_at timestamptz,
	deleted_at timestamptz, deleted_xact bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'cmq_due'
LANGUAGE C STABLE STRICT PARALLEL SAFE SUPPORT cmq._due_support;
COMMENT ON FUNCTION cmq._due(text, timestamptz, timestamptz, bigint)
	IS 'cmq internal: is this message of the history due in the rewind under way';

-- What the views show of a pending row: ready, delayed or in_flight, by the queue clock when
-- the statement meets its first row, and when it was first received.
CREATE FUNCTION cmq._pending_state(queue text, visible_at timestamptz,
	receive_count int)
RETURNS text
AS 'MODULE_PATHNAME', 'cmq_pending_state'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._pending_state(text, timestamptz, int)
	IS 'cmq internal: state of a pending message';

CREATE FUNCTION cmq._pending_received_at(first_received_at timestamptz,
	receive_count int)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'cmq_pending_received_at'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._pending_received_at(timestamptz, int)
	IS 'cmq internal: when a pending message was first received';

-- What the views show of a message that is in the journal of a topic; NULL if the queue
-- has no such message there.  Needs: SELECT on the queue.
CREATE FUNCTION cmq._published_headers(queue text, topic text, enqueued_at timestamptz)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'cmq_published_headers'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._published_headers(text, text, timestamptz)
	IS 'cmq internal: headers of a message that was published to several queues';

CREATE FUNCTION cmq._published_body(queue text, topic text, enqueued_at timestamptz)
RETURNS text
AS 'MODULE_PATHNAME', 'cmq_published_body'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._published_body(text, text, timestamptz)
	IS 'cmq internal: body of a message that was published to several queues';

CREATE FUNCTION cmq._published_group(queue text, topic text, enqueued_at timestamptz)
RETURNS text
AS 'MODULE_PATHNAME', 'cmq_published_group'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._published_group(text, text, timestamptz)
	IS 'cmq internal: group of a message that was published to several queues';

-- Is the message of this time in one of the states, as the statement sees it?  states is
-- a sum: 1 pending, 2 due, 4 history.  And columns of its state, by their numbers in
-- cmq_message_state.h.  In plans only, see cmq_planner.c and cmq_message_state.c.
CREATE FUNCTION cmq._in_states_support(internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'cmq_in_states_support'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cmq._in_states_support(internal) IS 'cmq internal: planner support for cmq._in_states';

CREATE FUNCTION cmq._in_states(queue text, enqueued_at timestamptz,
	states int)
RETURNS boolean
AS 'MODULE_PATHNAME', 'cmq_in_states'
LANGUAGE C STABLE STRICT PARALLEL SAFE COST 5 SUPPORT cmq._in_states_support;
COMMENT ON FUNCTION cmq._in_states(text, timestamptz, int)
	IS 'cmq internal: is the message of this time in one of the states';

CREATE FUNCTION cmq._state_time(queue text, enqueued_at timestamptz,
	state_column int)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'cmq_state_time'
LANGUAGE C STABLE STRICT PARALLEL SAFE COST 5;
COMMENT ON FUNCTION cmq._state_time(text, timestamptz, int)
	IS 'cmq internal: a time in the state of the message of this time';

CREATE FUNCTION cmq._state_int(queue text, enqueued_at timestamptz,
	state_column int)
RETURNS int
AS 'MODULE_PATHNAME', 'cmq_state_int'
LANGUAGE C STABLE STRICT PARALLEL SAFE COST 5;
COMMENT ON FUNCTION cmq._state_int(text, timestamptz, int)
	IS 'cmq internal: a count in the state of the message of this time';

CREATE FUNCTION cmq._state_text(queue text, enqueued_at timestamptz,
	state_column int)
RETURNS text
AS 'MODULE_PATHNAME', 'cmq_state_text'
LANGUAGE C STABLE STRICT PARALLEL SAFE COST 5;
COMMENT ON FUNCTION cmq._state_text(text, timestamptz, int)
	IS 'cmq internal: a text in the state of the message of this time';

-- Triggers on each queue's tables, for rows that are written by hand, by COPY or by
-- logical replication.  cmq's own functions fire no triggers.
-- Before a statement: receives look at everything again.
CREATE FUNCTION cmq._pending_changed()
RETURNS trigger
AS 'MODULE_PATHNAME', 'cmq_pending_changed'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION cmq._pending_changed()
	IS 'cmq internal: trigger that notices rows written by hand';

-- After a row that no statement has announced, as an apply worker writes it.
CREATE FUNCTION cmq._row_changed()
RETURNS trigger
AS 'MODULE_PATHNAME', 'cmq_row_changed'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION cmq._row_changed()
	IS 'cmq internal: trigger that notices rows written by replication';

-- Has no statement of this transaction announced changes of the pending table, or of
-- the history?
CREATE FUNCTION cmq._unnoticed(queue text, history boolean)
RETURNS boolean
AS 'MODULE_PATHNAME', 'cmq_unnoticed'
LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION cmq._unnoticed(text, boolean)
	IS 'cmq internal: are rows to be noticed one by one';

-- After a statement that has added messages: the queue clock goes on above them.
CREATE FUNCTION cmq._messages_added()
RETURNS trigger
AS 'MODULE_PATHNAME', 'cmq_messages_added'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION cmq._messages_added()
	IS 'cmq internal: trigger that sets the queue clock when messages come from elsewhere';

-- Trigger on each table and partition of a queue.
CREATE FUNCTION cmq._no_truncate()
RETURNS trigger
AS 'MODULE_PATHNAME', 'cmq_no_truncate'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION cmq._no_truncate()
	IS 'cmq internal: trigger that refuses TRUNCATE of a queue''s tables';

-- The queues and topics that are present.  A queue or topic of which a relation was
-- dropped by hand is gone, see cmq_gone.c.
CREATE VIEW cmq._present_queue AS
SELECT q.*
  FROM cmq.queue q
 WHERE (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c
		 WHERE c.oid IN (q.rights::pg_catalog.oid, q.messages::pg_catalog.oid, q.pending::pg_catalog.oid, q.rewind::pg_catalog.oid)) = 4;
COMMENT ON VIEW cmq._present_queue IS 'cmq internal: the queues of which no relation was dropped';

CREATE VIEW cmq._present_topic AS
SELECT t.*
  FROM cmq.topic t
 WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.relation::pg_catalog.oid);
COMMENT ON VIEW cmq._present_topic IS 'cmq internal: the topics whose view was not dropped';

-- The relation that carries the rights of each queue and topic, if it exists and has
-- its name.  The OID of a relation that was dropped may be another relation's by now.
CREATE VIEW cmq._queue_rights AS
SELECT q.name AS queue, c.oid AS relid, c.relowner AS owner
  FROM cmq._present_queue q
  JOIN pg_catalog.pg_class c
	ON c.oid = q.rights::pg_catalog.oid
   AND c.relnamespace = 'cmq'::pg_catalog.regnamespace::pg_catalog.oid
   AND c.relname = 'q_' || q.name;
COMMENT ON VIEW cmq._queue_rights IS 'cmq internal: the relations that carry the rights of queues';

CREATE VIEW cmq._topic_rights AS
SELECT t.name AS topic, c.oid AS relid, c.relowner AS owner
  FROM cmq.topic t
  JOIN pg_catalog.pg_class c
	ON c.oid = t.relation::pg_catalog.oid
   AND c.relnamespace = 'cmq'::pg_catalog.regnamespace::pg_catalog.oid
   AND c.relname = 't_' || t.name;
COMMENT ON VIEW cmq._topic_rights IS 'cmq internal: the relations that carry the rights of topics';

--
-- Views
--

-- The queues on which the reader has any right, and those whose dead letters go
-- to a queue of the reader's.  Settings are shown to readers with SELECT.
CREATE VIEW cmq.queues WITH (security_barrier) AS
SELECT q.name AS queue,
	   pg_catalog.pg_get_userbyid(r.owner)::pg_catalog.text AS owner,
	   CASE WHEN may.read THEN q.visibility_timeout END AS visibility_timeout,
	   CASE WHEN may.read THEN q.polling_wait_seconds END AS polling_wait_seconds,
	   CASE WHEN may.read THEN q.msg_retention_seconds END AS msg_retention_seconds,
	   CASE WHEN may.read THEN q.rewind_seconds END AS rewind_seconds,
	   CASE WHEN may.read THEN q.max_msg_size END AS max_msg_size,
	   CASE WHEN may.read THEN q.max_msg_heap_num END AS max_msg_heap_num,
	   CASE WHEN may.read OR may.own_target THEN q.dead_letter_queue END AS dead_letter_queue,
	   CASE WHEN may.read THEN q.max_receive_count END AS max_receive_count,
	   CASE WHEN may.read THEN q.max_time_to_live END AS max_time_to_live,
	   CASE WHEN may.read THEN q.retry_backoff_seconds END AS retry_backoff_seconds,
	   CASE WHEN may.read THEN q.retry_backoff_max_seconds END AS retry_backoff_max_seconds,
	   CASE WHEN may.read THEN q.rewind_share END AS rewind_share,
	   CASE WHEN may.read THEN q.ordered END AS ordered,
	   CASE WHEN may.read THEN q.dedup_seconds END AS dedup_seconds,
	   CASE WHEN may.read THEN q.create_time END AS create_time,
	   CASE WHEN may.read THEN q.last_modify_time END AS last_modify_time,
	   CASE WHEN may.read THEN q.paused_since END AS paused_since,
	   CASE WHEN may.read THEN q.rewind_from END AS rewinding_from
  FROM cmq._present_queue q
  LEFT JOIN cmq._queue_rights r
	ON r.queue = q.name
  LEFT JOIN cmq._queue_rights d
	ON d.queue = q.dead_letter_queue
 CROSS JOIN LATERAL (
	SELECT pg_catalog.has_table_privilege(r.relid, 'SELECT') AS read,
		   pg_catalog.has_table_privilege(r.relid, 'SELECT, INSERT, UPDATE, DELETE') AS use,
		   COALESCE(pg_catalog.pg_has_role(d.owner, 'USAGE'), false) AS own_target
	OFFSET 0) may
 WHERE may.use OR may.own_target;
COMMENT ON VIEW cmq.queues IS 'the queues on which the reader has any right, with their settings for readers with SELECT, and those whose dead-letter queue is the reader''s';
COMMENT ON COLUMN cmq.queues.queue IS 'name of the queue';
COMMENT ON COLUMN cmq.queues.owner IS 'name of the role that owns the queue';
COMMENT ON COLUMN cmq.queues.visibility_timeout IS 'for how many seconds a received message is hidden; this and all that follow are NULL without SELECT on the queue';
COMMENT ON COLUMN cmq.queues.polling_wait_seconds IS 'for how many seconds a receive waits that finds nothing';
COMMENT ON COLUMN cmq.queues.msg_retention_seconds IS 'for how many seconds a message lives, from its production on';
COMMENT ON COLUMN cmq.queues.rewind_seconds IS 'for how many seconds, from its production on, a deleted message can be brought back; 0: rewind is off';
COMMENT ON COLUMN cmq.queues.max_msg_size IS 'bytes that a body may have';
COMMENT ON COLUMN cmq.queues.max_msg_heap_num IS 'how many messages may be pending';
COMMENT ON COLUMN cmq.queues.dead_letter_queue IS 'name of the queue that dead letters are moved to, NULL: none; shown to the owner of that queue, too';
COMMENT ON COLUMN cmq.queues.max_receive_count IS 'how many times a message can be received before it is a dead letter; NULL: any number';
COMMENT ON COLUMN cmq.queues.max_time_to_live IS 'after how many seconds, from when it could first be received, a message that is not consumed is a dead letter; NULL: never';
COMMENT ON COLUMN cmq.queues.retry_backoff_seconds IS 'for how many seconds cmq_release hides a message that was received once; twice as many for each receive more';
COMMENT ON COLUMN cmq.queues.retry_backoff_max_seconds IS 'for how many seconds cmq_release hides a message at most';
COMMENT ON COLUMN cmq.queues.rewind_share IS 'per cent of the messages received that a rewind under way brings back while others are ready; 100: in the order of production';
COMMENT ON COLUMN cmq.queues.ordered IS 'whether the queue has groups, whose messages are delivered one after the other in the order of production';
COMMENT ON COLUMN cmq.queues.dedup_seconds IS 'for how many seconds the key of a message keeps others with that key from being stored; 0: the queue keeps no keys';
COMMENT ON COLUMN cmq.queues.create_time IS 'when the queue was created (timestamp by the queue clock)';
COMMENT ON COLUMN cmq.queues.last_modify_time IS 'when settings of the queue were last changed (timestamp by the queue clock)';
COMMENT ON COLUMN cmq.queues.paused_since IS 'when the queue was paused (timestamp by the queue clock); NULL: it is not paused';
COMMENT ON COLUMN cmq.queues.rewinding_from IS 'when the first message was produced that the rewind under way may still bring back (timestamp by the queue clock); NULL: there is none under way';

-- The topics on which the reader has any right.
CREATE VIEW cmq.topics WITH (security_barrier) AS
SELECT t.name AS topic,
	   pg_catalog.pg_get_userbyid(r.owner)::pg_catalog.text AS owner,
	   t.filter_type,
	   t.create_time
  FROM cmq.topic t
  JOIN cmq._topic_rights r
	ON r.topic = t.name
 WHERE pg_catalog.has_table_privilege(r.relid, 'SELECT, INSERT');
COMMENT ON VIEW cmq.topics IS 'the topics on which the reader has any right';
COMMENT ON COLUMN cmq.topics.topic IS 'name of the topic';
COMMENT ON COLUMN cmq.topics.owner IS 'name of the role that owns the topic';
COMMENT ON COLUMN cmq.topics.filter_type IS 'how subscriptions choose: tag or routing';
COMMENT ON COLUMN cmq.topics.create_time IS 'when the topic was created (timestamp by the wall clock)';

-- The subscriptions of topics on which the reader has SELECT, and those of
-- the reader's own queues.
CREATE VIEW cmq.subscriptions WITH (security_barrier) AS
SELECT s.topic,
	   s.name AS subscription,
	   s.queue,
	   s.filter_tags,
	   s.binding_keys,
	   s.create_time
  FROM cmq.subscription s
  LEFT JOIN cmq._topic_rights t
	ON t.topic = s.topic
  LEFT JOIN cmq._queue_rights q
	ON q.queue = s.queue
 WHERE (pg_catalog.has_table_privilege(t.relid, 'SELECT')
		OR pg_catalog.pg_has_role(q.owner, 'USAGE'))
   AND EXISTS (SELECT FROM cmq._present_queue x WHERE x.name = s.queue)
   AND EXISTS (SELECT FROM cmq._present_topic x WHERE x.name = s.topic);
COMMENT ON VIEW cmq.subscriptions IS 'the subscriptions of the topics that the reader may read, and those of the reader''s queues';
COMMENT ON COLUMN cmq.subscriptions.topic IS 'name of the topic';
COMMENT ON COLUMN cmq.subscriptions.subscription IS 'name of the subscription';
COMMENT ON COLUMN cmq.subscriptions.queue IS 'name of the queue that gets what is published';
COMMENT ON COLUMN cmq.subscriptions.filter_tags IS 'the queue gets what has at least one of these tags; NULL: the tags do not matter';
COMMENT ON COLUMN cmq.subscriptions.binding_keys IS 'the queue gets what has a routing key that one of these matches; NULL for topics of type tag';
COMMENT ON COLUMN cmq.subscriptions.create_time IS 'when the queue was subscribed (timestamp by the wall clock)';

-- How many messages the rewind under way has yet to bring back.  NULL without
-- SELECT on the queue, and when only an error or a wait for a lock could tell.
CREATE FUNCTION cmq._rewind_left(queue text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'cmq_rewind_left'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION cmq._rewind_left(text)
	IS 'cmq internal: number of messages that the rewind under way has yet to bring back';

-- cmq.rewinds: what was brought back from the queues that the reader may read, and when
-- they were paused and resumed.  The owner of the extension also sees the rows of queues
-- that are gone.
--   kind              rewind, restore, replay, cancel, pause or resume
--   called_at         queue clock of the call; of a pause: paused_since of cmq.status
--   start_time, end_time, filter, into_queue
--                     its arguments; for cmq_restore_messages the range of what
--                     was restored, not which ids
--   messages          how many; for a rewind, those left to receive now: 0 when
--                     it is done, cancelled or replaced by another; for a cancel,
--                     a pause and a resume NULL.  A call that changed nothing
--                     leaves no row.
--   reason            cmq.reason at the time, or the argument of cmq_pause_queue
CREATE VIEW cmq.rewinds WITH (security_barrier) AS
SELECT l.id,
	   l.queue,
	   l.kind,
	   l.session_user_name,
	   l.current_user_name,
	   l.client_addr,
	   l.application_name,
	   l.called_at,
	   l.start_time,
	   l.end_time,
	   l.filter,
	   l.into_queue,
	   CASE WHEN l.kind <> 'rewind' THEN l.messages
			WHEN q.rewound_at = l.called_at THEN cmq._rewind_left(l.queue)
			ELSE 0 END AS messages,
	   l.reason
  FROM cmq.rewind_log l
  LEFT JOIN cmq.queue q
	ON q.name = l.queue
   AND q.create_time = l.queue_create_time
  LEFT JOIN cmq._queue_rights r
	ON r.queue = q.name
 WHERE pg_catalog.has_table_privilege(r.relid, 'SELECT')
	OR pg_catalog.pg_has_role((SELECT o.relowner FROM pg_catalog.pg_class o
								WHERE o.oid = 'cmq.rewind_log'::pg_catalog.regclass::pg_catalog.oid), 'USAGE');
COMMENT ON VIEW cmq.rewinds IS 'rewinds, restores, replays, cancels, pauses and resumes of the queues that the reader may read';
COMMENT ON COLUMN cmq.rewinds.id IS 'number of the row, in the order in which calls were recorded';
COMMENT ON COLUMN cmq.rewinds.queue IS 'name of the queue';
COMMENT ON COLUMN cmq.rewinds.kind IS 'rewind, restore, replay, cancel, pause or resume';
COMMENT ON COLUMN cmq.rewinds.session_user_name IS 'name of the role that had connected';
COMMENT ON COLUMN cmq.rewinds.current_user_name IS 'name of the role whose right was used';
COMMENT ON COLUMN cmq.rewinds.client_addr IS 'address of the client; NULL for a connection through a socket';
COMMENT ON COLUMN cmq.rewinds.application_name IS 'application_name of the session';
COMMENT ON COLUMN cmq.rewinds.called_at IS 'when it was called (timestamp by the queue clock)';
COMMENT ON COLUMN cmq.rewinds.start_time IS 'messages produced from then on (timestamp by the queue clock); NULL for a cancel, a pause and a resume';
COMMENT ON COLUMN cmq.rewinds.end_time IS 'messages produced before (timestamp by the queue clock); NULL: to the end';
COMMENT ON COLUMN cmq.rewinds.filter IS 'messages whose headers contain this; NULL: all';
COMMENT ON COLUMN cmq.rewinds.into_queue IS 'name of the queue that a replay has copied into';
COMMENT ON COLUMN cmq.rewinds.messages IS 'number of messages that were brought back or copied; for a rewind, of those left to receive now; NULL for a cancel, a pause and a resume';
COMMENT ON COLUMN cmq.rewinds.reason IS 'cmq.reason at the time, or the reason that the pause was given';

-- Counters of a queue that the view cmq.metrics shows to the caller; no row for one that it
-- does not.
CREATE FUNCTION cmq._metrics(
	queue						text,
	OUT since					timestamptz,
	OUT sent					bigint,
	OUT received				bigint,
	OUT redelivered				bigint,
	OUT rewound					bigint,
	OUT deleted					bigint,
	OUT dead_lettered			bigint,
	OUT empty_receives			bigint,
	OUT waits					bigint,
	OUT body_bytes				bigint,
	OUT pending_msg_num			bigint,
	OUT left_of_rewind			bigint,
	OUT inactive_msg_num		bigint,
	OUT delay_msg_num			bigint,
	OUT oldest_ready_seconds	float8,
	OUT pending_bytes			bigint,
	OUT rewindable_bytes		bigint,
	OUT active_msg_num			bigint,
	OUT rewind_msg_num			bigint,
	OUT oldest_in_flight_seconds	float8,
	OUT first_expiry_seconds	float8,
	OUT paused_seconds			float8,
	OUT unmaintained_seconds	float8,
	OUT msg_retention_seconds	bigint,
	OUT max_msg_heap_num		bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'cmq_metrics'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE COST 10000 ROWS 1;
COMMENT ON FUNCTION cmq._metrics(text) IS 'cmq internal: what the view cmq.metrics shows';

-- cmq.metrics: what monitoring needs to know of each queue on which the reader
-- has SELECT; members of pg_monitor see all queues.  On a standby the counters, from
-- since to body_bytes, and unmaintained_seconds are NULL, and each call counts the rest in
-- the tables.
-- Only those queues are looked at that meet a condition on the column queue (=, <, >,
-- = ANY), and with ORDER BY queue and LIMIT those up to there.
--   since                 the counters count from here on: the first use of
--                         the queue since the server started
--   sent, received, redelivered, rewound, deleted, dead_lettered
--                         messages, in transactions that committed; received
--                         contains the redelivered ones (not for the first
--                         time) and the rewound ones (brought back by a rewind
--                         or restore).  Transactions that were prepared before
--                         since are not counted
--   empty_receives        calls of cmq_receive that returned nothing
--   waits                 calls of cmq_receive that began to wait
--   body_bytes            bytes of the bodies sent
--   pending_msg_num       messages that are ready, delayed or in flight, as
--                         cmq_queue_attributes counts them, but with expired
--                         ones that maintenance has not removed yet
--   left_of_rewind        of these: what the rewind under way still has to
--                         bring back; they do not count for max_msg_heap_num
--   inactive_msg_num, delay_msg_num
--                         in flight, delayed
--   oldest_ready_seconds  for how long the message that is ready the longest
--                         has been so: since it was sent, its delay or
--                         visibility timeout was over, or a rewind or restore
--                         brought it back; NULL if none is ready.  When more
--                         than 1000 restored messages stand before all others,
--                         the others are not looked at
--   pending_bytes, rewindable_bytes
--                         bytes on disk, indexes included, for what is pending
--                         and for the history.  The bodies of both are in the same
--                         tables, whose bytes are divided in proportion to the
--                         numbers of messages
--   active_msg_num        of pending_msg_num: ready, left_of_rewind included
--   rewind_msg_num        history of cmq.status
--   oldest_in_flight_seconds
--                         how long ago the first receive was of the message in flight
--                         that was received first; a rewind or restore begins anew
--   first_expiry_seconds  for how long the message still lives that expires first, of
--                         those in flight, left of the rewind, and ready; of ready ones
--                         that had been received before, those that are next are asked
--                         alone.  What is delayed does not count
--   paused_seconds        for how long the queue has been paused; NULL: it is not
--   unmaintained_seconds  for how long the worker has not done all there was to do: since
--                         its last round that did, the start of the server, or the
--                         creation of the queue; or since a partition should be gone that
--                         is still there
--   msg_retention_seconds, max_msg_heap_num
--                         the settings
--   is_dead_letter_queue  is the queue the dead-letter queue of another one?
CREATE VIEW cmq.metrics WITH (security_barrier) AS
SELECT q.name AS queue,
	   m.*,
	   q.name IN (SELECT d.dead_letter_queue FROM cmq.queue d WHERE d.dead_letter_queue IS NOT NULL) AS is_dead_letter_queue
  -- ordered before the look, so that a LIMIT ends it
  FROM (SELECT name FROM cmq.queue ORDER BY name) q
 CROSS JOIN LATERAL cmq._metrics(q.name) m
 ORDER BY q.name;
COMMENT ON VIEW cmq.metrics IS 'counters of the queues that the reader may read, or of all for members of pg_monitor, since the server started (NULL on a standby), and numbers of messages as of now';
COMMENT ON COLUMN cmq.metrics.queue IS 'name of the queue';
COMMENT ON COLUMN cmq.metrics.since IS 'when the counters began, from sent to body_bytes (timestamp by the wall clock); NULL on a standby, like the counters';
COMMENT ON COLUMN cmq.metrics.sent IS 'number of messages sent, by transactions that have committed';
COMMENT ON COLUMN cmq.metrics.received IS 'number of messages received, by transactions that have committed; redelivered and rewound ones included';
COMMENT ON COLUMN cmq.metrics.redelivered IS 'number of messages received that had been received before, by receive_count: after a release that does not count they had not';
COMMENT ON COLUMN cmq.metrics.rewound IS 'number of messages received because a rewind or restore has brought them back';
COMMENT ON COLUMN cmq.metrics.deleted IS 'number of messages deleted, by transactions that have committed';
COMMENT ON COLUMN cmq.metrics.dead_lettered IS 'number of messages moved to the dead-letter queue';
COMMENT ON COLUMN cmq.metrics.empty_receives IS 'number of calls of cmq_receive that returned no message';
COMMENT ON COLUMN cmq.metrics.waits IS 'number of calls of cmq_receive that began to wait';
COMMENT ON COLUMN cmq.metrics.body_bytes IS 'bytes of the bodies sent, by transactions that have committed';
COMMENT ON COLUMN cmq.metrics.pending_msg_num IS 'number of messages that are ready, delayed or in flight now, left_of_rewind included; on the primary also expired ones that maintenance has not removed yet';
COMMENT ON COLUMN cmq.metrics.left_of_rewind IS 'number of messages that the rewind under way still has to bring back';
COMMENT ON COLUMN cmq.metrics.inactive_msg_num IS 'number of messages in flight now';
COMMENT ON COLUMN cmq.metrics.delay_msg_num IS 'number of messages that are delayed now';
COMMENT ON COLUMN cmq.metrics.oldest_ready_seconds IS 'for how many seconds the message that is ready the longest has been so; NULL if none is ready';
COMMENT ON COLUMN cmq.metrics.pending_bytes IS 'bytes on disk for what is pending, indexes included, an estimate';
COMMENT ON COLUMN cmq.metrics.rewindable_bytes IS 'bytes on disk for the history, indexes included, an estimate; 0 with rewind off';
COMMENT ON COLUMN cmq.metrics.active_msg_num IS 'number of messages that are ready now, left_of_rewind included; on the primary also expired ones that maintenance has not removed yet';
COMMENT ON COLUMN cmq.metrics.rewind_msg_num IS 'number of deleted messages that can be brought back, as history in cmq.status';
COMMENT ON COLUMN cmq.metrics.oldest_in_flight_seconds IS 'how many seconds ago the first receive was of the message in flight that was received first; NULL if none is in flight';
COMMENT ON COLUMN cmq.metrics.first_expiry_seconds IS 'in how many seconds the first message expires of those that are ready, in flight or left of the rewind; NULL if there is none';
COMMENT ON COLUMN cmq.metrics.paused_seconds IS 'for how many seconds the queue has been paused; NULL if it is not';
COMMENT ON COLUMN cmq.metrics.unmaintained_seconds IS 'for how many seconds the maintenance worker has not done all that there was to do for the queue: since its last round that did, the start of the server or the creation of the queue, or since a partition should be gone; NULL on a standby';
COMMENT ON COLUMN cmq.metrics.msg_retention_seconds IS 'for how many seconds a message lives';
COMMENT ON COLUMN cmq.metrics.max_msg_heap_num IS 'how many messages may be pending, without left_of_rewind';
COMMENT ON COLUMN cmq.metrics.is_dead_letter_queue IS 'is the queue the dead-letter queue of another one?';

-- What the view cmq.status shows of a queue to the caller; no row for one that it does not
-- show.
CREATE FUNCTION cmq._status(
	queue						text,
	OUT ready					bigint,
	OUT in_flight				bigint,
	OUT delayed					bigint,
	OUT history					bigint,
	OUT left_of_rewind			bigint,
	OUT oldest_ready_seconds	float8,
	OUT dead_letters			bigint,
	OUT paused_since			timestamptz,
	OUT earliest_rewind_time	timestamptz,
	OUT latest_rewind_time		timestamptz,
	OUT pending_bytes			bigint,
	OUT history_bytes			bigint,
	OUT blocked_groups			bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'cmq_status'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE COST 10000 ROWS 1;
COMMENT ON FUNCTION cmq._status(text) IS 'cmq internal: what the view cmq.status shows';

-- cmq.status: each queue on which the reader has SELECT at a glance, for psql's \watch and
-- for dashboards; members of pg_monitor see all queues.  A call reads as little as one of
-- cmq.metrics, and like that no other queues than those that the condition on the column
-- queue names, with their dead-letter queues.  On a standby each call counts in the tables.
--   ready, in_flight, delayed
--                         numbers of messages; ready contains those that the rewind
--                         under way still has to bring back, and on the primary expired
--                         ones that maintenance has not removed yet
--   history               number of deleted messages that can be brought back: exact
--                         while it is small, then an estimate from the size of the tables
--   left_of_rewind, oldest_ready_seconds
--                         as in cmq.metrics
--   dead_letters          number of messages pending in the queue's dead-letter queue;
--                         NULL if there is none, or the reader does not see that one
--   paused_since          when the queue was paused; NULL: it is not.  What is ready is
--                         not delivered then
--   earliest_rewind_time, latest_rewind_time
--                         the legal range of cmq_rewind in this transaction, as
--                         cmq_queue_attributes says; NULL when rewind is off
--   pending_bytes, history_bytes
--                         pending_bytes and rewindable_bytes of cmq.metrics
--   blocked_groups        number of groups of which a message is in flight, or put off by a
--                         release, and others wait for it: takes time in proportion to what
--                         is in flight.  NULL if the queue is not ordered, or more than
--                         10000 groups have a message in flight
CREATE VIEW cmq.status WITH (security_barrier) AS
SELECT q.name AS queue,
	   s.*
  -- ordered before the look, so that a LIMIT ends it
  FROM (SELECT name FROM cmq.queue ORDER BY name) q
 CROSS JOIN LATERAL cmq._status(q.name) s
 ORDER BY q.name;
COMMENT ON VIEW cmq.status IS 'each queue that the reader may read, or all for members of pg_monitor: how many messages are in which state, and where a rewind may start';
COMMENT ON COLUMN cmq.status.queue IS 'name of the queue';
COMMENT ON COLUMN cmq.status.ready IS 'number of messages that can be received now, or could if the queue were not paused, left_of_rewind included; on the primary also expired ones that maintenance has not removed yet';
COMMENT ON COLUMN cmq.status.in_flight IS 'number of messages that were received and are hidden: the visibility timeout, or the delay of a release, is not over';
COMMENT ON COLUMN cmq.status.delayed IS 'number of messages that were not received, or released uncounted, and whose delay is not over';
COMMENT ON COLUMN cmq.status.history IS 'number of deleted messages that can be brought back, without left_of_rewind; exact up to 8 pages (64 kB, some 800 messages), else an estimate from the size of the tables';
COMMENT ON COLUMN cmq.status.left_of_rewind IS 'number of messages that the rewind under way still has to bring back; 0 without one';
COMMENT ON COLUMN cmq.status.oldest_ready_seconds IS 'for how many seconds the message that is ready the longest has been so; NULL if none is ready';
COMMENT ON COLUMN cmq.status.dead_letters IS 'number of messages that are ready, in flight or delayed in the dead-letter queue of this queue; NULL if it has none, or the reader does not see that one';
COMMENT ON COLUMN cmq.status.paused_since IS 'when the queue was paused (timestamp by the queue clock), so that nothing is delivered; NULL: it is not paused';
COMMENT ON COLUMN cmq.status.earliest_rewind_time IS 'the earliest legal start of a rewind (timestamp by the queue clock), as cmq_queue_attributes says; NULL with rewind off';
COMMENT ON COLUMN cmq.status.latest_rewind_time IS 'the latest legal start of a rewind (timestamp by the queue clock): when the earliest message was produced that is not consumed; NULL with rewind off';
COMMENT ON COLUMN cmq.status.pending_bytes IS 'bytes on disk for what is pending, indexes included, an estimate';
COMMENT ON COLUMN cmq.status.history_bytes IS 'bytes on disk for the history, indexes included, an estimate; 0 with rewind off';
COMMENT ON COLUMN cmq.status.blocked_groups IS 'number of groups of which a message is in flight and others wait for it; NULL if the queue is not ordered, or more than 10000 groups have a message in flight';

-- As with the server's statistics views, every role that may use schema cmq may read
-- these views, and each shows a reader what the reader has rights on.  Members of
-- pg_monitor may use the schema, so that a monitor needs that role and nothing else.
GRANT USAGE ON SCHEMA cmq TO pg_monitor;
GRANT SELECT ON cmq.queues, cmq.topics, cmq.subscriptions, cmq.metrics, cmq.status, cmq.rewinds TO PUBLIC;
