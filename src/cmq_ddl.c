/*-------------------------------------------------------------------------
 *
 * cmq_ddl.c
 *	  Create and alter queues; cmq_drop.c drops them.
 *
 * The only SQL text that cmq runs is here, in cmq_topic.c, cmq_leaf.c,
 * cmq_maintain.c: DDL, with every identifier quoted and qualified and with
 * search_path pinned; and one query in cmq_owner.c.  It runs as the caller (create,
 * drop) or as the queue's owner in a restricted security context (what maintenance
 * does to a queue's tables), never as somebody with more rights.
 *
 * Creating queues is serialized per database by an object lock on cmq.queue,
 * so that the name check cannot be overtaken.  Alter holds the queue lock;
 * switching rewind on or off also locks the pending table against traffic, so
 * that each delete sees either the old setting and commits before, or the new
 * one.  Switching it off touches no message (cmq_forget.c).  Everything is undone by
 * a rollback like any other DDL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "cmq.h"

PG_FUNCTION_INFO_V1(cmq_create_queue);
PG_FUNCTION_INFO_V1(cmq_alter_queue);
PG_FUNCTION_INFO_V1(cmq_no_truncate);

/* What the relations of a queue are called: prefix, name of the queue, suffix. */
static const struct
{
	const char *schema;
	const char *prefix;
	const char *suffix;
}			relations[] = {
	[CMQ_RIGHTS] = {CMQ_SCHEMA, "q_", ""},
	[CMQ_LIVE_VIEW] = {CMQ_SCHEMA, "q_", "_live"},
	[CMQ_HISTORY_VIEW] = {CMQ_SCHEMA, "q_", "_history"},
	[CMQ_ALL_VIEW] = {CMQ_SCHEMA, "q_", "_all"},
	[CMQ_READER_VIEW] = {CMQ_DATA_SCHEMA, "v_", ""},
	[CMQ_MESSAGES_TABLE] = {CMQ_DATA_SCHEMA, "q_", ""},
	[CMQ_PENDING_TABLE] = {CMQ_DATA_SCHEMA, "q_", "_pending"},
	[CMQ_REWIND_TABLE] = {CMQ_DATA_SCHEMA, "q_", "_rewind"},
};

/* Settings that are plain numbers, in the order of the arguments. */
typedef struct Setting
{
	const char *name;
	size_t		offset;			/* in CmqQueue */
	int64		min;
	int64		max;
	const char *unit;
	bool		big;			/* int64, bigint in SQL; else int */
} Setting;

static const Setting settings[] = {
	{"visibility_timeout", offsetof(CmqQueue, visibility_timeout),
	CMQ_VISIBILITY_MIN, CMQ_VISIBILITY_MAX, "seconds", false},
	{"polling_wait_seconds", offsetof(CmqQueue, polling_wait_seconds),
	CMQ_POLLING_MIN, CMQ_POLLING_MAX, "seconds", false},
	{"msg_retention_seconds", offsetof(CmqQueue, msg_retention_seconds),
	CMQ_RETENTION_MIN, CMQ_RETENTION_MAX, "seconds", false},
	{"rewind_seconds", offsetof(CmqQueue, rewind_seconds),
	CMQ_REWIND_MIN, CMQ_RETENTION_MAX, "seconds", false},
	{"max_msg_size", offsetof(CmqQueue, max_msg_size),
	CMQ_MSG_SIZE_MIN, CMQ_MSG_SIZE_MAX, "bytes", false},
	{"max_msg_heap_num", offsetof(CmqQueue, max_msg_heap_num),
	CMQ_HEAP_NUM_MIN, CMQ_HEAP_NUM_MAX, "messages", true},
};

/*
 * Run DDL from here on: as owner, in a restricted security context, when one
 * is given, else as the current user; with search_path pinned.  An error
 * undoes all of it with the (sub)transaction.
 */
int
cmq_ddl_enter(Oid owner, Oid *save_userid, int *save_sec_context)
{
	int			nestlevel;

	GetUserIdAndSecContext(save_userid, save_sec_context);
	if (OidIsValid(owner))
		SetUserIdAndSecContext(owner, *save_sec_context |
							   SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
	nestlevel = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	return nestlevel;
}

void
cmq_ddl_leave(int nestlevel, Oid save_userid, int save_sec_context)
{
	AtEOXact_GUC(false, nestlevel);
	SetUserIdAndSecContext(save_userid, save_sec_context);
}

static void
execute(void *arg)
{
	const char *sql = arg;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", sql);
	SPI_finish();
}

/*
 * Run one statement; the caller has called cmq_ddl_enter(), and as an owner it may
 * run that one's code: making an index evaluates expressions, ANALYZE too.
 */
void
cmq_ddl_execute(const char *fmt,...)
{
	StringInfoData sql;
	int			needed;

	initStringInfo(&sql);
	for (;;)
	{
		va_list		args;

		va_start(args, fmt);
		needed = appendStringInfoVA(&sql, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&sql, needed);
	}
	if (InSecurityRestrictedOperation())
		cmq_owner_call(GetUserId(), execute, sql.data);
	else
		execute(sql.data);
	pfree(sql.data);
}

/* The name of a relation of a queue, palloc'd, not quoted. */
char *
cmq_ddl_relname(const char *prefix, const char *name, const char *suffix)
{
	char	   *relname = psprintf("%s%s%s", prefix, name, suffix);

	Assert(strlen(relname) < NAMEDATALEN);
	return relname;
}

const char *
cmq_relation_schema(CmqRelation which)
{
	return relations[which].schema;
}

/* The name of a relation of the queue of this name, palloc'd, not quoted. */
char *
cmq_relation_name(CmqRelation which, const char *name)
{
	return cmq_ddl_relname(relations[which].prefix, name,
						   relations[which].suffix);
}

/* The same, quoted and qualified. */
const char *
cmq_relation_qualified(CmqRelation which, const char *name)
{
	return quote_qualified_identifier(relations[which].schema,
									  cmq_relation_name(which, name));
}

/* OID of a relation of the queue by its name, or InvalidOid. */
Oid
cmq_relation_oid(CmqRelation which, const char *name)
{
	char	   *relname = cmq_relation_name(which, name);

	return strcmp(relations[which].schema, CMQ_DATA_SCHEMA) == 0 ?
		cmq_data_relid(relname) : cmq_catalog_relid(relname);
}

/*
 * Take away what default privileges have given to others on a table that has
 * just been made.  The caller has called cmq_ddl_enter().
 */
void
cmq_ddl_revoke_all(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;
	Datum		value;
	bool		isnull;
	Acl		   *acl = NULL;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	value = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &isnull);
	if (!isnull)
		acl = DatumGetAclPCopy(value);
	ReleaseSysCache(tuple);
	for (int i = 0; acl && i < ACL_NUM(acl); i++)
	{
		Oid			grantee = ACL_DAT(acl)[i].ai_grantee;

		if (grantee != owner)
			cmq_ddl_execute("REVOKE ALL ON TABLE %s FROM %s CASCADE",
							cmq_catalog_relname(relid),
							grantee == ACL_ID_PUBLIC ? "PUBLIC" :
							quote_identifier(GetUserNameFromId(grantee, false)));
	}
}

/* Raise 22023 unless this can be the name of a queue, topic, subscription. */
void
cmq_ddl_check_name(const char *name, const char *what)
{
	bool		ok = strlen(name) <= CMQ_QUEUE_NAME_MAX &&
		((name[0] >= 'A' && name[0] <= 'Z') ||
		 (name[0] >= 'a' && name[0] <= 'z'));

	for (const char *p = name; ok && *p; p++)
		ok = (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ||
			(*p >= '0' && *p <= '9') || *p == '_' || *p == '-';
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s name: \"%s\"", what, name),
				 errdetail("A %s name has 1 to %d letters, digits, hyphens and underscores, a letter first.",
						   what, CMQ_QUEUE_NAME_MAX)));
}

/*
 * Store the settings given as arguments 1.. into queue; NULL keeps what is
 * there, or is an error.  Returns whether any was given.
 */
static bool
get_settings(FunctionCallInfo fcinfo, CmqQueue *queue, bool null_keeps)
{
	bool		any = false;
	bool		may_say = !null_keeps || cmq_queue_is_readable(queue);

	for (int i = 0; i < lengthof(settings); i++)
	{
		const Setting *s = &settings[i];
		int64		value;

		if (PG_ARGISNULL(i + 1))
		{
			if (null_keeps)
				continue;
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not be NULL for queue \"%s\"",
							s->name, queue->name),
					 errhint("Leave the argument out to get its default.")));
		}
		value = s->big ? PG_GETARG_INT64(i + 1) : PG_GETARG_INT32(i + 1);
		if (value < s->min || value > s->max)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s is out of range for queue \"%s\": %lld",
							s->name, queue->name, (long long) value),
					 errdetail("It must be between %lld and %lld %s.",
							   (long long) s->min, (long long) s->max,
							   s->unit)));
		if (s->big)
			*(int64 *) ((char *) queue + s->offset) = value;
		else
			*(int *) ((char *) queue + s->offset) = (int) value;
		any = true;
	}

	if (queue->rewind_seconds > queue->msg_retention_seconds)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("rewind_seconds cannot be greater than msg_retention_seconds for queue \"%s\"",
						queue->name),
				 may_say ?
				 errdetail("rewind_seconds would be %d, msg_retention_seconds %d.",
						   queue->rewind_seconds, queue->msg_retention_seconds) : 0,
				 errhint("Shorten rewind_seconds or lengthen msg_retention_seconds.")));
	return any;
}

static int
get_limit(FunctionCallInfo fcinfo, int argno, const char *argname, int min,
		  int max, CmqQueue *queue)
{
	int			value = PG_GETARG_INT32(argno);

	if (value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range for queue \"%s\": %d", argname,
						queue->name, value),
				 errdetail("It must be between %d and %d.", min, max)));
	return value;
}

/*
 * Store the dead-letter policy given in the last three arguments into queue;
 * NULL keeps what is there.  Returns whether any was given.
 */
static bool
get_dead_letter(FunctionCallInfo fcinfo, CmqQueue *queue)
{
	int			argno = lengthof(settings) + 1;
	bool		any = !PG_ARGISNULL(argno) || !PG_ARGISNULL(argno + 1) ||
		!PG_ARGISNULL(argno + 2);
	bool		may_say = !OidIsValid(queue->relid) ||
		cmq_queue_is_readable(queue);

	if (!PG_ARGISNULL(argno))
	{
		char	   *target = text_to_cstring(PG_GETARG_TEXT_PP(argno));

		/* cut off it could be another one's, or no text any more */
		if (strlen(target) > CMQ_QUEUE_NAME_MAX)
			cmq_queue_report_unknown(target);
		strlcpy(queue->dead_letter_queue, target, NAMEDATALEN);
	}
	if (!PG_ARGISNULL(argno + 1))
		queue->max_receive_count = get_limit(fcinfo, argno + 1,
											 "max_receive_count",
											 CMQ_RECEIVE_COUNT_MIN,
											 CMQ_RECEIVE_COUNT_MAX, queue);
	if (!PG_ARGISNULL(argno + 2))
		queue->max_time_to_live = get_limit(fcinfo, argno + 2,
											"max_time_to_live",
											CMQ_TIME_TO_LIVE_MIN,
											CMQ_TIME_TO_LIVE_MAX, queue);

	if ((queue->dead_letter_queue[0] == '\0') !=
		(queue->max_receive_count == 0 && queue->max_time_to_live == 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("incomplete dead-letter policy for queue \"%s\"",
						queue->name),
				 errhint("Give dead_letter_queue together with max_receive_count, max_time_to_live or both.")));
	if (queue->max_time_to_live >= queue->msg_retention_seconds)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_time_to_live must be less than msg_retention_seconds for queue \"%s\"",
						queue->name),
				 may_say ?
				 errdetail("max_time_to_live would be %d, msg_retention_seconds %d.",
						   queue->max_time_to_live,
						   queue->msg_retention_seconds) : 0));
	return any;
}

/*
 * TRUNCATE takes a message's body, its delivery state or its history away and leaves
 * the rest: it is refused, whatever table it names.  Not to who restores or replicates,
 * with session_replication_role = replica or triggers disabled: what they do to all
 * tables is right in the end, and cmq_changes.c's triggers notice it.
 */
void
cmq_ddl_refuse_truncate(const char *table, const char *name)
{
	cmq_ddl_execute("CREATE TRIGGER cmq_no_truncate BEFORE TRUNCATE ON %s "
					"FOR EACH STATEMENT EXECUTE FUNCTION cmq._no_truncate(%s)",
					table, quote_literal_cstr(name));
}

/* Has the queue this table, or is it one of its leaves? */
static bool
has_table(const CmqQueue *queue, Oid relid)
{
	if (relid == queue->messages || relid == queue->pending ||
		relid == queue->rewind)
		return true;
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (relid == queue->leaves[i].messages ||
			relid == queue->leaves[i].rewind)
			return true;
	}
	return false;
}

/* The trigger; its argument is the name of the queue. */
Datum
cmq_no_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	CmqQueue   *queue;

	if (!CALLED_AS_TRIGGER(fcinfo) || trigger->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cmq._no_truncate can only be the trigger that cmq_create_queue makes")));
	cmq_shmem_require();
	/* our own: see cmq_ddl_enter() */
	if (InSecurityRestrictedOperation())
		return PointerGetDatum(NULL);
	/* a partition that was detached, or a queue that is not there, are nobody's */
	queue = cmq_queue_find_whole(trigger->tg_trigger->tgargs[0]);
	if (queue && has_table(queue, RelationGetRelid(trigger->tg_relation)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" of queue \"%s\" cannot be truncated",
						RelationGetRelationName(trigger->tg_relation), queue->name),
				 errdetail("A message lies in several tables."),
				 errhint("Remove what is pending: SELECT cmq_clear_queue(%1$s); and the history, by switching rewind off and on again: SELECT cmq_alter_queue(%1$s, rewind_seconds => 0);",
						 quote_literal_cstr(queue->name))));
	return PointerGetDatum(NULL);
}

/* lz4 where the server has it: src/README has the figures */
#ifdef USE_LZ4
#define COMPRESSION " COMPRESSION lz4"
#else
#define COMPRESSION ""
#endif

/*
 * Triggers that tell of changes that are not ours, see cmq_changes.c.  Partitions
 * get those for rows from their parent; statements write through the parent.
 */
static void
create_triggers(const char *messages, const char *pending, const char *rewind,
				const char *lit)
{
	const struct
	{
		const char *table;
		const char *trigger;
		const char *events;
		const char *row;
	}			triggers[] = {
		{pending, "pending_changed",
		"BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE", NULL},
		{pending, "row_changed", "AFTER INSERT OR UPDATE OR DELETE", "false"},
		{rewind, "pending_changed",
		"BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE", NULL},
		{rewind, "row_changed", "AFTER INSERT OR UPDATE OR DELETE", "true"},
		{rewind, "messages_added", "AFTER INSERT", NULL},
		{messages, "messages_added", "AFTER INSERT", NULL},
	};

	for (int i = 0; i < lengthof(triggers); i++)
	{
		const char *when = "";

		if (triggers[i].row)
			when = psprintf("WHEN (cmq._unnoticed(%s, %s))", lit,
							triggers[i].row);
		cmq_ddl_execute("CREATE TRIGGER cmq_%s %s ON %s FOR EACH %s %s "
						"EXECUTE FUNCTION cmq._%s(%s)",
						triggers[i].trigger, triggers[i].events,
						triggers[i].table,
						triggers[i].row ? "ROW" : "STATEMENT", when,
						triggers[i].trigger, lit);
		/* session_replication_role hides changes from nobody */
		cmq_ddl_execute("ALTER TABLE %s ENABLE ALWAYS TRIGGER cmq_%s",
						triggers[i].table, triggers[i].trigger);
	}
}

static void
create_tables(const char *name)
{
	static const CmqRelation tables[] = {
		CMQ_MESSAGES_TABLE, CMQ_PENDING_TABLE, CMQ_REWIND_TABLE
	};
	const char *messages = cmq_relation_qualified(CMQ_MESSAGES_TABLE, name);
	const char *pending = cmq_relation_qualified(CMQ_PENDING_TABLE, name);
	const char *rewind = cmq_relation_qualified(CMQ_REWIND_TABLE, name);
	const char *lit = quote_literal_cstr(name);

	cmq_ddl_execute("CREATE TABLE %s ("
					"enqueued_at timestamptz NOT NULL, "
					"headers jsonb" COMPRESSION ", "
					"body text" COMPRESSION " NOT NULL, "
					"PRIMARY KEY (enqueued_at)) "
					"PARTITION BY RANGE (enqueued_at)", messages);
	cmq_ddl_execute("CREATE TABLE %s ("
					"visible_at timestamptz NOT NULL, "
					"enqueued_at timestamptz NOT NULL, "
					"first_received_at timestamptz, "
					"receive_count int NOT NULL, "
					"rewind_count int NOT NULL, "
					"PRIMARY KEY (visible_at, enqueued_at)) "
					"USING heap", pending);
	cmq_ddl_execute("CREATE TABLE %s ("
					"enqueued_at timestamptz NOT NULL, "
					"first_received_at timestamptz NOT NULL, "
					"deleted_at timestamptz NOT NULL, "
					"deleted_by text NOT NULL, "
					"receive_count int NOT NULL, "
					"rewind_count int NOT NULL, "
					"deleted_xact bigint NOT NULL, "
					"PRIMARY KEY (enqueued_at)) "
					"PARTITION BY RANGE (enqueued_at)", rewind);
	for (int i = 0; i < lengthof(tables); i++)
		cmq_ddl_revoke_all(cmq_relation_oid(tables[i], name));

	create_triggers(messages, pending, rewind, lit);

	cmq_ddl_refuse_truncate(messages, name);
	cmq_ddl_refuse_truncate(pending, name);
	cmq_ddl_refuse_truncate(rewind, name);

	cmq_ddl_execute("COMMENT ON TABLE %s IS %s", messages,
					quote_literal_cstr(psprintf("messages of queue %s", name)));
	cmq_ddl_execute("COMMENT ON TABLE %s IS %s", pending,
					quote_literal_cstr(psprintf("delivery state of the messages of queue %s that are not deleted", name)));
	cmq_ddl_execute("COMMENT ON TABLE %s IS %s", rewind,
					quote_literal_cstr(psprintf("soft-deleted deliveries of queue %s", name)));
}

/*
 * The relation that carries the rights, and the views that everybody who may use
 * the schema may name.  cmq_views.c says why they show nothing to a role without
 * SELECT on the queue.  Each reads the tables as the queue's owner, and the
 * rights relation, through a view of its own, as the reader.
 */
static void
create_views(const char *name)
{
	static const CmqRelation views[] = {
		CMQ_LIVE_VIEW, CMQ_HISTORY_VIEW, CMQ_ALL_VIEW, CMQ_READER_VIEW
	};
	const char *rights = cmq_relation_qualified(CMQ_RIGHTS, name);
	const char *reader = cmq_relation_qualified(CMQ_READER_VIEW, name);
	const char *messages = cmq_relation_qualified(CMQ_MESSAGES_TABLE, name);
	const char *pending = cmq_relation_qualified(CMQ_PENDING_TABLE, name);
	const char *rewind = cmq_relation_qualified(CMQ_REWIND_TABLE, name);
	const char *live = cmq_relation_qualified(CMQ_LIVE_VIEW, name);
	const char *history = cmq_relation_qualified(CMQ_HISTORY_VIEW, name);
	const char *all = cmq_relation_qualified(CMQ_ALL_VIEW, name);
	const char *lit = quote_literal_cstr(name);

	cmq_ddl_execute("CREATE VIEW %s AS SELECT %s::text AS queue", rights, lit);
	cmq_ddl_execute("CREATE VIEW %s WITH (security_invoker) AS "
					"SELECT true AS readable FROM %s", reader, rights);
	cmq_ddl_execute("CREATE VIEW %s AS "
					"SELECT cmq.msg_id(p.enqueued_at) AS msg_id, p.enqueued_at, "
					"CASE WHEN p.visible_at <= (SELECT cmq._clock(%s)) THEN 'ready' "
					"WHEN p.receive_count = 0 THEN 'delayed' "
					"ELSE 'in flight' END AS state, "
					"CASE WHEN p.receive_count > 0 THEN p.first_received_at END AS first_received_at, "
					"p.visible_at, "
					"p.receive_count, p.rewind_count, m.headers, m.body "
					"FROM %s v, %s p LEFT JOIN %s m ON m.enqueued_at = p.enqueued_at "
					"WHERE cmq._readable(%s) "
					"AND p.enqueued_at >= (SELECT cmq._expired_before(%s)) "
					"UNION ALL "
					"SELECT cmq.msg_id(r.enqueued_at), r.enqueued_at, 'ready', "
					"NULL, r.enqueued_at, 0, r.rewind_count + 1, m.headers, m.body "
					"FROM %s v, %s r LEFT JOIN %s m ON m.enqueued_at = r.enqueued_at "
					"WHERE cmq._readable(%s) "
					"AND r.enqueued_at >= (SELECT cmq._expired_before(%s)) "
					"AND cmq._due(%s, r.enqueued_at, r.deleted_at, r.deleted_xact)",
					live, lit, reader, pending, messages, lit, lit,
					reader, rewind, messages, lit, lit, lit);
	cmq_ddl_execute("CREATE VIEW %s AS "
					"SELECT cmq.msg_id(r.enqueued_at) AS msg_id, r.enqueued_at, "
					"r.first_received_at, r.deleted_at, r.deleted_by, "
					"r.receive_count, r.rewind_count, m.headers, m.body "
					"FROM %s v, %s r LEFT JOIN %s m ON m.enqueued_at = r.enqueued_at "
					"WHERE cmq._readable(%s) "
					"AND cmq._rewindable(%s, r.enqueued_at, r.deleted_at) "
					"AND NOT cmq._due(%s, r.enqueued_at, r.deleted_at, r.deleted_xact)",
					history, reader, rewind, messages, lit, lit, lit);
	cmq_ddl_execute("CREATE VIEW %s AS "
					"SELECT msg_id, enqueued_at, state, first_received_at, visible_at, "
					"NULL::timestamptz AS deleted_at, NULL::text AS deleted_by, "
					"receive_count, rewind_count, headers, body FROM %s "
					"UNION ALL "
					"SELECT msg_id, enqueued_at, 'deleted', first_received_at, NULL, "
					"deleted_at, deleted_by, "
					"receive_count, rewind_count, headers, body FROM %s",
					all, live, history);
	/* with more than SELECT one could lock the tables behind them */
	for (int i = 0; i < lengthof(views); i++)
		cmq_ddl_revoke_all(cmq_relation_oid(views[i], name));
	cmq_ddl_execute("GRANT SELECT ON %s, %s, %s TO PUBLIC", live, history, all);

	cmq_ddl_execute("COMMENT ON VIEW %s IS %s", rights,
					quote_literal_cstr(psprintf("holds nothing; GRANTs on this view are the rights on queue %s", name)));
	cmq_ddl_execute("COMMENT ON VIEW %s IS %s", reader,
					quote_literal_cstr(psprintf("cmq internal: whether the reader may read queue %s", name)));
	cmq_ddl_execute("COMMENT ON VIEW %s IS %s", live,
					quote_literal_cstr(psprintf("messages of queue %s that are ready, delayed or in flight", name)));
	cmq_ddl_execute("COMMENT ON VIEW %s IS %s", all,
					quote_literal_cstr(psprintf("messages of queue %s in all states", name)));
	cmq_ddl_execute("COMMENT ON VIEW %s IS %s", history,
					quote_literal_cstr(psprintf("messages of queue %s that were deleted and can be rewound", name)));
}

static void
report_taken(const char *name, const char *detail)
{
	CmqQueue	orphan;

	/* a restore of the schema alone, or what a DROP by hand has left */
	if (cmq_gone_find_orphans(&orphan, name))
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

/* Raise 42501 unless the caller may create queues. */
static void
check_create(const char *name)
{
	static const char *const schemas[] = {CMQ_SCHEMA, CMQ_DATA_SCHEMA};

	for (int i = 0; i < lengthof(schemas); i++)
	{
		if (object_aclcheck(NamespaceRelationId,
							get_namespace_oid(schemas[i], false), GetUserId(),
							ACL_CREATE) != ACLCHECK_OK)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to create queue \"%s\"", name),
					 errhint("The administrator can GRANT USAGE, CREATE ON SCHEMA %s, %s TO you.",
							 CMQ_SCHEMA, CMQ_DATA_SCHEMA)));
	}
}

/* Raise 42710 if the name, or that of a relation of the queue, is taken. */
static void
check_not_taken(const char *name)
{
	char	   *existing;

	if (cmq_catalog_name_taken(name, &existing))
		report_taken(name, strcmp(existing, name) == 0 ? NULL :
					 psprintf("Queue \"%s\" has the same name but for case.",
							  existing));
	for (int i = 0; i < lengthof(relations); i++)
	{
		if (OidIsValid(cmq_relation_oid(i, name)))
			report_taken(name,
						 psprintf("Relation %s, which the queue needs, exists already.",
								  cmq_relation_qualified(i, name)));
	}
}

/* Nobody else creates a queue until the end of the transaction. */
void
cmq_ddl_lock_creation(void)
{
	LockDatabaseObject(RelationRelationId, cmq_catalog_relid("queue"), 0,
					   ExclusiveLock);
}

Datum
cmq_create_queue(PG_FUNCTION_ARGS)
{
	CmqQueue	description;
	CmqQueue   *queue = &description;
	char	   *name;
	Oid			save_userid;
	int			save_sec_context;
	int			nestlevel;
	TimestampTz now;

	cmq_begin_write("cmq_create_queue()");
	name = cmq_queue_name_arg(fcinfo, 0);
	cmq_ddl_check_name(name, "queue");
	memset(queue, 0, sizeof(*queue));
	strlcpy(queue->name, name, NAMEDATALEN);
	get_settings(fcinfo, queue, false);
	get_dead_letter(fcinfo, queue);
	check_create(name);

	cmq_ddl_lock_creation();
	cmq_gone_make_room(name);
	check_not_taken(name);
	if (queue->dead_letter_queue[0])
		cmq_dead_letter_check(queue);

	nestlevel = cmq_ddl_enter(InvalidOid, &save_userid, &save_sec_context);
	create_tables(name);
	create_views(name);
	cmq_ddl_leave(nestlevel, save_userid, save_sec_context);

	now = cmq_time();
	queue->relid = cmq_relation_oid(CMQ_RIGHTS, name);
	queue->messages = cmq_relation_oid(CMQ_MESSAGES_TABLE, name);
	queue->pending = cmq_relation_oid(CMQ_PENDING_TABLE, name);
	queue->rewind = cmq_relation_oid(CMQ_REWIND_TABLE, name);
	queue->create_time = queue->last_modify_time = queue->saved_clock = now;
	queue->expired_before = queue->forgotten_before = DT_NOBEGIN;
	queue->history_since = DT_NOBEGIN;
	queue->leftovers = false;
	cmq_catalog_insert_queue(queue);
	cmq_shmem_remove_at_end(queue->pending, false);

	queue = cmq_queue_lookup(name);
	now = cmq_queue_now(queue);
	cmq_stats_start_empty(queue->shared);
	cmq_leaf_make(queue, now, now + cmq_leaf_lead(queue));
	PG_RETURN_VOID();
}

/*
 * Raise 55006 if the session is in the midst of a call on the queue, or has a
 * query open that reads its pending messages: what that relies on is about to
 * change.  The caller has the pending table locked against all others.
 */
void
cmq_ddl_check_not_in_use(CmqQueue *queue, const char *what)
{
	Relation	rel = try_relation_open(queue->pending, NoLock);

	if (rel == NULL)
		return;
	if (rel->rd_refcnt != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot %s queue \"%s\" because it is being used in this session",
						what, queue->name),
				 errdetail("A call or a query on the queue has not ended yet.")));
	relation_close(rel, NoLock);
}

Datum
cmq_alter_queue(PG_FUNCTION_ARGS)
{
	CmqQueue	changed;
	CmqQueue   *queue;
	char	   *name;
	TimestampTz now;
	bool		any;
	bool		bind;

	cmq_begin_write("cmq_alter_queue()");
	name = cmq_queue_name_arg(fcinfo, 0);
	queue = cmq_queue_lookup(name);
	cmq_queue_check_acl(queue, ACL_UPDATE);

	/* before any lock, so that a bad value never waits */
	changed = *queue;
	any = get_settings(fcinfo, &changed, true);
	bind = get_dead_letter(fcinfo, &changed);
	if (!any && !bind)
		PG_RETURN_VOID();

	queue = cmq_queue_lock(name, ACL_UPDATE, ExclusiveLock);
	changed = *queue;
	get_settings(fcinfo, &changed, true);
	get_dead_letter(fcinfo, &changed);
	if (bind)
	{
		/* dead letters are messages taken out of the queue, to be read elsewhere */
		cmq_queue_check_acl(queue, ACL_DELETE);
		cmq_dead_letter_check(&changed);
	}

	/*
	 * Nobody may be at work with the old value while the new one becomes
	 * visible: who takes a message for expired, or for gone, that is not, would
	 * let the scan floor pass it for good.
	 */
	if ((queue->rewind_seconds == 0) != (changed.rewind_seconds == 0) ||
		queue->msg_retention_seconds != changed.msg_retention_seconds)
	{
		cmq_lock_alone(name, queue->pending, NIL, "alter");
		queue = cmq_queue_again(queue);
		cmq_queue_check_acl(queue, ACL_UPDATE);
		if ((queue->rewind_seconds == 0) != (changed.rewind_seconds == 0))
			cmq_ddl_check_not_in_use(queue, "switch the rewind of");
	}
	now = cmq_queue_now(queue);

	/*
	 * What is outside by the old or the new setting stays outside.  Counted
	 * as the window is, see cmq_queue_rewindable_since().
	 */
	if (changed.msg_retention_seconds != queue->msg_retention_seconds)
	{
		/* which may be undone */
		cmq_floor_taken_unknown();
		changed.expired_before =
			Max(queue->expired_before,
				now - Min(queue->msg_retention_seconds,
						  changed.msg_retention_seconds) * USECS_PER_SEC);
	}
	if (changed.rewind_seconds == 0)
	{
		/* no delete is open: each has read the clock before this moment, or will */
		if (queue->rewind_seconds > 0)
		{
			now = changed.history_since = cmq_clock_tick(queue->shared);
			changed.leftovers = true;
		}
		memset(&changed.rewinding, 0, sizeof(changed.rewinding));
		changed.forgotten_before = DT_NOBEGIN;
	}
	else if (queue->rewind_seconds > 0 &&
			 changed.rewind_seconds != queue->rewind_seconds)
		changed.forgotten_before =
			Max(queue->forgotten_before,
				cmq_clock_xact_start(queue->shared) -
				Min(queue->rewind_seconds,
					changed.rewind_seconds) * USECS_PER_SEC);

	changed.last_modify_time = changed.saved_clock = now;
	cmq_catalog_update_queue(&changed);
	PG_RETURN_VOID();
}
