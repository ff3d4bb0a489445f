/*-------------------------------------------------------------------------
 *
 * cmq_create.c
 *	  Create queues.
 *
 * Locks: an object lock on cmq.queue, under which queues of a database are created one
 * after the other: no other call takes the name once it has been checked.  With a policy,
 * the queue lock of the dead-letter queue in Share mode (cmq_binding.c).  Abort: undone
 * like any DDL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation_d.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/cmq_args.h"
#include "base/cmq_headers.h"
#include "base/cmq_names.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_count.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_catalog.h"
#include "store/cmq_ddl.h"
#include "store/cmq_dedup.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf.h"
#include "store/cmq_orphan.h"
#include "store/cmq_owner.h"
#include "store/cmq_queue.h"
#include "verbs/cmq_binding.h"
#include "verbs/cmq_gone.h"
#include "verbs/cmq_queue_args.h"

PG_FUNCTION_INFO_V1(cmq_create_queue);

#define ORDERED_ARGNO 13
#define DEDUP_ARGNO 14

/* The words that stand for the queue's relations, and for its name, in the statements. */
#define QUEUE_WORD (CMQ_DEDUP_TABLE + 1)

static const char *const words[] = {
	[CMQ_RIGHTS] = "{rights}",
	[CMQ_LIVE_VIEW] = "{live}",
	[CMQ_HISTORY_VIEW] = "{history}",
	[CMQ_ALL_VIEW] = "{all}",
	[CMQ_READER_VIEW] = "{reader}",
	[CMQ_MESSAGES_TABLE] = "{messages}",
	[CMQ_PENDING_TABLE] = "{pending}",
	[CMQ_REWIND_TABLE] = "{rewind}",
	[CMQ_DEDUP_TABLE] = "{dedup}",
	[QUEUE_WORD] = "{queue}",
};

/*
 * A column of the message of a row: that of the message in the leaf of the queue, or, if
 * the row names a topic, in its journal.
 */
#define OF_MESSAGE(row, function, column) \
	"CASE WHEN " row ".topic IS NULL THEN " column " ELSE " \
	"cmq._published_" function "('{queue}', " row ".topic, " row ".enqueued_at) END"

static const struct
{
	const char *word;
	const char *text;
}			message_columns[] = {
	{"{p.headers}", OF_MESSAGE("p", "headers", "m.headers")},
	{"{p.body}", OF_MESSAGE("p", "body", "m.body")},
	{"{r.headers}", OF_MESSAGE("r", "headers", "m.headers")},
	{"{r.body}", OF_MESSAGE("r", "body", "m.body")},
};

/*
 * Columns that ordered queues have; cmq_shape.c knows both shapes.  The indexes find the
 * rows of a group, see cmq_group_take.c.  Their times differ, so there is nothing to
 * deduplicate.
 */
static const struct
{
	const char *word;
	const char *text;
}			group_columns[] = {
	{"{message_group}", "message_group text, "},
	{"{group_key}", "group_key bigint, "},
	{"{group_hash}", "group_hash bigint, "},
	{"{p.group}", ", " OF_MESSAGE("p", "group", "m.message_group") " AS message_group"},
	{"{r.group}", ", " OF_MESSAGE("r", "group", "m.message_group") " AS message_group"},
	{"{group}", ", message_group"},
};

static const char *const group_indexes[] = {
	"CREATE INDEX ON {pending} (group_key, visible_at) WITH (deduplicate_items = off)",
	"CREATE INDEX ON {rewind} (group_hash, enqueued_at) WITH (deduplicate_items = off)",
};

/*
 * These make a queue, except for its triggers: three tables; the relation that carries the
 * rights; and the views, which each role that may use the schema may name.  cmq_views.c
 * says why the views show nothing to a role without SELECT on the queue.  Each view
 * reads the tables as the queue's owner, and the rights relation, through a view of its
 * own, as the reader.
 */
static const char *const statements[] = {
	"CREATE TABLE {messages} ("
	"enqueued_at timestamptz NOT NULL, "
	"headers jsonb" CMQ_COMPRESSION ", "
	"body text" CMQ_COMPRESSION " NOT NULL, "
	"{message_group}"
	"PRIMARY KEY (enqueued_at), "
	"CONSTRAINT " CMQ_HEADERS_CONSTRAINT " CHECK (" CMQ_HEADERS_CHECK ")) "
	"PARTITION BY RANGE (enqueued_at)",

	"CREATE TABLE {pending} ("
	"visible_at timestamptz NOT NULL, "
	"enqueued_at timestamptz NOT NULL, "
	"first_received_at timestamptz, "
	"receive_count int NOT NULL, "
	"rewind_count int NOT NULL, "
	"change_count int, "
	"delayed_until timestamptz, "
	"topic text, "
	"{group_key}"
	"PRIMARY KEY (visible_at, enqueued_at)) "
	"USING heap",

	"CREATE TABLE {rewind} ("
	"enqueued_at timestamptz NOT NULL, "
	"first_received_at timestamptz, "
	"deleted_at timestamptz NOT NULL, "
	"deleted_by text NOT NULL, "
	"receive_count int NOT NULL, "
	"rewind_count int NOT NULL, "
	"deleted_xact bigint NOT NULL, "
	"topic text, "
	"{group_hash}"
	"PRIMARY KEY (enqueued_at)) "
	"PARTITION BY RANGE (enqueued_at)",

	"CREATE VIEW {rights} AS SELECT '{queue}'::text AS queue",

	"CREATE VIEW {reader} WITH (security_invoker) AS "
	"SELECT true AS readable FROM {rights}",

	"CREATE VIEW {live} AS "
	"SELECT cmq.msg_id(p.enqueued_at) AS msg_id, p.enqueued_at, "
	"cmq._pending_state('{queue}', p.visible_at, p.receive_count) AS state, "
	"cmq._pending_received_at(p.first_received_at, p.receive_count) AS first_received_at, "
	"p.visible_at, "
	"p.receive_count, p.rewind_count, {p.headers} AS headers, {p.body} AS body{p.group} "
	"FROM {reader} v, {pending} p LEFT JOIN {messages} m ON m.enqueued_at = p.enqueued_at "
	"WHERE cmq._readable('{queue}') "
	"AND cmq._unexpired('{queue}', p.enqueued_at) "
	"UNION ALL "
	"SELECT cmq.msg_id(r.enqueued_at), r.enqueued_at, 'ready', "
	"NULL, r.enqueued_at, 0, r.rewind_count + 1, {r.headers}, {r.body}{r.group} "
	"FROM {reader} v, {rewind} r LEFT JOIN {messages} m ON m.enqueued_at = r.enqueued_at "
	"WHERE cmq._readable('{queue}') "
	"AND cmq._unexpired('{queue}', r.enqueued_at) "
	"AND cmq._due('{queue}', r.enqueued_at, r.deleted_at, r.deleted_xact)",

	"CREATE VIEW {history} AS "
	"SELECT cmq.msg_id(r.enqueued_at) AS msg_id, r.enqueued_at, "
	"r.first_received_at, r.deleted_at, r.deleted_by, "
	"r.receive_count, r.rewind_count, {r.headers} AS headers, {r.body} AS body{r.group} "
	"FROM {reader} v, {rewind} r LEFT JOIN {messages} m ON m.enqueued_at = r.enqueued_at "
	"WHERE cmq._readable('{queue}') "
	"AND cmq._rewindable('{queue}', r.enqueued_at, r.deleted_at) "
	"AND NOT cmq._due('{queue}', r.enqueued_at, r.deleted_at, r.deleted_xact)",

	"CREATE VIEW {all} AS "
	"SELECT msg_id, enqueued_at, state, first_received_at, visible_at, "
	"NULL::timestamptz AS deleted_at, NULL::text AS deleted_by, "
	"receive_count, rewind_count, headers, body{group} FROM {live} "
	"UNION ALL "
	"SELECT msg_id, enqueued_at, 'deleted', first_received_at, NULL, "
	"deleted_at, deleted_by, "
	"receive_count, rewind_count, headers, body{group} FROM {history}",

	"COMMENT ON TABLE {messages} IS 'messages of queue {queue}'",
	"COMMENT ON TABLE {pending} IS 'delivery state of the messages of queue {queue} that are not deleted'",
	"COMMENT ON TABLE {rewind} IS 'soft-deleted deliveries of queue {queue}'",
	"COMMENT ON VIEW {rights} IS 'holds nothing; GRANTs on this view are the rights on queue {queue}'",
	"COMMENT ON VIEW {reader} IS 'cmq internal: whether the reader may read queue {queue}'",
	"COMMENT ON VIEW {live} IS 'messages of queue {queue} that are ready, delayed or in flight'",
	"COMMENT ON VIEW {all} IS 'messages of queue {queue} in all states'",
	"COMMENT ON VIEW {history} IS 'messages of queue {queue} that were deleted and can be rewound'",
};

/* Of the rights relation and of the views. */
static const CmqColumnComment comments[] = {
	{"queue", "name of the queue"},
	{"msg_id", "id of the message: when it was produced, in microseconds since 1970"},
	{"enqueued_at", "when the message was produced (timestamp by the queue clock), to the microsecond the same as msg_id"},
	{"state", "ready, delayed, in_flight or deleted"},
	{"first_received_at", "when the message was received for the first time since it was sent or last brought back (timestamp by the queue clock); NULL if it was not"},
	{"visible_at", "when the message is ready, or has become so (timestamp by the queue clock); NULL if it is deleted"},
	{"deleted_at", "when the message was deleted (timestamp by the queue clock); NULL if it is not deleted"},
	{"deleted_by", "name of the role that has deleted the message; NULL if it is not deleted"},
	{"receive_count", "how many times the message was received since it was sent or last brought back; what was released uncounted is not in it"},
	{"rewind_count", "how many times a rewind or restore has brought the message back"},
	{"headers", "headers of the message, as they were sent; NULL if it has none"},
	{"body", "body of the message, as it was sent"},
	{"message_group", "group of the message, as it was sent; NULL if it has none"},
	{NULL, NULL}
};

/*
 * Triggers that tell of changes that are not ours, see cmq_changes.c.  Partitions
 * get those for rows from their parent; statements write through the parent.
 */
static const struct
{
	CmqRelation table;
	const char *trigger;
	const char *events;
	const char *row;			/* NULL: for each statement */
}			triggers[] = {

	{CMQ_PENDING_TABLE, "pending_changed",
	"BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE", NULL},
	{CMQ_PENDING_TABLE, "row_changed",
	"AFTER INSERT OR UPDATE OR DELETE", "false"},
	{CMQ_REWIND_TABLE, "pending_changed",
	"BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE", NULL},
	{CMQ_REWIND_TABLE, "row_changed",
	"AFTER INSERT OR UPDATE OR DELETE", "true"},
	{CMQ_REWIND_TABLE, "messages_added", "AFTER INSERT", NULL},
	{CMQ_MESSAGES_TABLE, "messages_added", "AFTER INSERT", NULL},
};

static Datum
replace(Datum sql, const char *word, const char *text)
{
	return DirectFunctionCall3Coll(replace_text, C_COLLATION_OID, sql,
								   CStringGetTextDatum(word),
								   CStringGetTextDatum(text));
}

/*
 * Run a statement for the queue of this name, which has no character that would have to
 * be escaped.
 */
static void
execute(const char *statement, const char *name, bool ordered)
{
	Datum		sql = CStringGetTextDatum(statement);

	for (int i = 0; i < lengthof(message_columns); i++)
		sql = replace(sql, message_columns[i].word, message_columns[i].text);
	for (int i = 0; i < lengthof(group_columns); i++)
		sql = replace(sql, group_columns[i].word,
					  ordered ? group_columns[i].text : "");
	for (int i = 0; i < lengthof(words); i++)
		sql = replace(sql, words[i], i == QUEUE_WORD ? name :
					  cmq_relation_qualified(i, name));
	cmq_ddl_execute("%s", TextDatumGetCString(sql));
}

static void
create_triggers(const char *name)
{
	const char *lit = quote_literal_cstr(name);

	for (int i = 0; i < lengthof(triggers); i++)
	{
		const char *table = cmq_relation_qualified(triggers[i].table, name);
		const char *trigger = triggers[i].trigger;
		const char *row = triggers[i].row;

		cmq_ddl_execute("CREATE TRIGGER cmq_%s %s ON %s FOR EACH %s "
						"EXECUTE FUNCTION cmq._%s(%s)",
						trigger, triggers[i].events, table,
						row ? psprintf("ROW WHEN (cmq._unnoticed(%s, %s))",
									   lit, row) : "STATEMENT",
						trigger, lit);
		/* session_replication_role hides changes from nobody */
		cmq_ddl_execute("ALTER TABLE %s ENABLE ALWAYS TRIGGER cmq_%s",
						table, trigger);
	}
	for (CmqRelation i = CMQ_MESSAGES_TABLE; i <= CMQ_REWIND_TABLE; i++)
		cmq_ddl_refuse_truncate(cmq_relation_qualified(i, name), name);
}

/* Make all relations of the queue; its table of keys, if it has one, is *dedup. */
static void
create_relations(const char *name, bool ordered, bool with_keys, Oid *dedup)
{
	CmqOwnerScope scope;

	cmq_owner_enter(&scope, InvalidOid);
	for (int i = 0; i < lengthof(statements); i++)
		execute(statements[i], name, ordered);
	for (int i = 0; ordered && i < lengthof(group_indexes); i++)
		execute(group_indexes[i], name, ordered);
	create_triggers(name);
	for (CmqRelation i = CMQ_RIGHTS; i <= CMQ_ALL_VIEW; i++)
		cmq_ddl_comment_columns(cmq_relation_oid(i, name), comments);
	/* a role with more than SELECT on a view could lock the tables behind it */
	for (CmqRelation i = CMQ_RIGHTS + 1; i <= CMQ_REWIND_TABLE; i++)
		cmq_ddl_revoke_all(cmq_relation_oid(i, name));
	execute("GRANT SELECT ON {live}, {history}, {all} TO PUBLIC", name, ordered);
	if (with_keys)
		*dedup = cmq_dedup_create(name);
	cmq_owner_leave(&scope);
}

static void
report_taken(const char *name, const char *detail)
{
	CmqDescription orphan;

	/* a restore of the schema alone, or what a DROP by hand has left */
	if (cmq_orphan_find(&orphan, name))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("relations of a queue \"%s\" exist, but no such queue",
						name),
				 errdetail_internal("%s", detail),
				 errhint("Restore the data, if it is a restore, or drop the relations: SELECT cmq_drop_queue(%s);",
						 quote_literal_cstr(name))));
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("queue \"%s\" already exists", name),
			 detail ? errdetail("%s", detail) : 0,
			 errhint("Choose another name.")));
}

/* Raise 42710 if the name, or that of a relation of the queue, is taken. */
static void
check_not_taken(const char *name, bool with_keys)
{
	char	   *existing;

	if (cmq_catalog_name_taken(name, &existing))
		report_taken(name, strcmp(existing, name) == 0 ? NULL :
					 psprintf("Queue \"%s\" has the same name but for case.",
							  existing));
	for (CmqRelation i = CMQ_RIGHTS;
		 i <= (with_keys ? CMQ_DEDUP_TABLE : CMQ_REWIND_TABLE); i++)
	{
		if (OidIsValid(cmq_relation_oid(i, name)))
			report_taken(name,
						 psprintf("Relation %s, which the queue needs, exists already.",
								  cmq_relation_qualified(i, name)));
	}
}

Datum
cmq_create_queue(PG_FUNCTION_ARGS)
{
	CmqDescription made = {0};
	CmqQueue   *queue;
	char	   *name;
	TimestampTz now;

	cmq_begin_write("cmq_create_queue()");
	name = cmq_queue_name_arg(fcinfo, 0);
	cmq_check_name(name, "queue");
	strlcpy(made.name, name, NAMEDATALEN);
	cmq_queue_args_get_settings(fcinfo, &made, false);
	cmq_queue_args_get_dead_letter(fcinfo, &made);
	cmq_require_arg(fcinfo, ORDERED_ARGNO, "ordered", "queue", name);
	made.ordered = PG_GETARG_BOOL(ORDERED_ARGNO);
	cmq_queue_args_get_dedup(fcinfo, DEDUP_ARGNO, &made, false);
	cmq_check_create(CMQ_SCHEMA, "queue", name,
					 CMQ_SCHEMA ", " CMQ_DATA_SCHEMA);
	cmq_check_create(CMQ_DATA_SCHEMA, "queue", name,
					 CMQ_SCHEMA ", " CMQ_DATA_SCHEMA);

	cmq_catalog_lock("queue");
	cmq_gone_make_room(name);
	check_not_taken(name, made.dedup_seconds > 0);
	if (made.dead_letter_queue[0])
		cmq_binding_check(&made);

	create_relations(name, made.ordered, made.dedup_seconds > 0, &made.dedup);

	now = cmq_time();
	made.relid = cmq_relation_oid(CMQ_RIGHTS, name);
	made.messages = cmq_relation_oid(CMQ_MESSAGES_TABLE, name);
	made.pending = cmq_relation_oid(CMQ_PENDING_TABLE, name);
	made.rewind = cmq_relation_oid(CMQ_REWIND_TABLE, name);
	made.create_time = made.last_modify_time = made.saved_clock = now;
	made.expired_before = made.forgotten_before = DT_NOBEGIN;
	made.history_since = DT_NOBEGIN;
	cmq_catalog_insert_queue(&made);
	cmq_xact_remove_at_end(made.pending, false);

	queue = cmq_queue_lookup(name, ACL_NO_RIGHTS);
	now = cmq_queue_now(queue);
	cmq_count_start_empty(queue->shared);
	cmq_leaf_make(queue, now, now + cmq_leaf_lead(queue));
	PG_RETURN_VOID();
}
