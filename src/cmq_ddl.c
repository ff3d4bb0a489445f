/*-------------------------------------------------------------------------
 *
 * cmq_ddl.c
 *	  Create, alter and drop queues.
 *
 * The only SQL text that cmq runs is here, in cmq_leaf.c and in
 * cmq_rewind_drop_history(): DDL, with every identifier quoted and qualified
 * and with search_path pinned.  It runs as the caller (create, drop) or as the
 * queue's owner in a restricted security context (what alter and maintenance
 * do to a queue's tables), never as somebody with more rights.
 *
 * Creating queues is serialized per database by an object lock on cmq.queue,
 * so that the name check cannot be overtaken.  Alter holds the queue lock;
 * switching rewind on or off also locks the pending table against traffic, so
 * that each delete sees either the old setting and commits before, or the new
 * one.  Everything is undone by a rollback like any other DDL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "cmq.h"

PG_FUNCTION_INFO_V1(cmq_create_queue);
PG_FUNCTION_INFO_V1(cmq_alter_queue);
PG_FUNCTION_INFO_V1(cmq_drop_queue);

/* The relations of a queue are cmq.q_<name> with these suffixes. */
static const char *const relation_suffixes[] = {
	"", "_pending", "_rewind", "_live", "_history", "_all"
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

/* Run one statement; the caller has called cmq_ddl_enter(). */
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

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(sql.data, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", sql.data);
	SPI_finish();
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

/* The same, quoted and qualified. */
static const char *
qualified(const char *name, const char *suffix)
{
	return quote_qualified_identifier(CMQ_SCHEMA,
									  cmq_ddl_relname("q_", name, suffix));
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
				 errdetail("rewind_seconds would be %d, msg_retention_seconds %d.",
						   queue->rewind_seconds, queue->msg_retention_seconds),
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

	if (!PG_ARGISNULL(argno))
		strlcpy(queue->dead_letter_queue,
				text_to_cstring(PG_GETARG_TEXT_PP(argno)), NAMEDATALEN);
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
				 errdetail("max_time_to_live would be %d, msg_retention_seconds %d.",
						   queue->max_time_to_live,
						   queue->msg_retention_seconds)));
	return any;
}

/* lz4 where the server has it: src/README has the figures */
#ifdef USE_LZ4
#define COMPRESSION " COMPRESSION lz4"
#else
#define COMPRESSION ""
#endif

static void
create_relations(const char *name)
{
	const char *messages = qualified(name, "");
	const char *pending = qualified(name, "_pending");
	const char *rewind = qualified(name, "_rewind");
	const char *live = qualified(name, "_live");
	const char *history = qualified(name, "_history");
	const char *all = qualified(name, "_all");
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
					"deleted_by regrole NOT NULL, "
					"receive_count int NOT NULL, "
					"rewind_count int NOT NULL, "
					"deleted_xact bigint NOT NULL, "
					"PRIMARY KEY (enqueued_at)) "
					"PARTITION BY RANGE (enqueued_at)", rewind);

	/* see cmq_floor.c; partitions are not written but through the parent */
	cmq_ddl_execute("CREATE TRIGGER cmq_pending_changed "
					"AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT "
					"EXECUTE FUNCTION cmq.pending_changed(%s)", pending, lit);
	cmq_ddl_execute("CREATE TRIGGER cmq_pending_changed "
					"AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT "
					"EXECUTE FUNCTION cmq.pending_changed(%s)", rewind, lit);
	/* session_replication_role hides changes from nobody */
	cmq_ddl_execute("ALTER TABLE %s ENABLE ALWAYS TRIGGER cmq_pending_changed",
					pending);
	cmq_ddl_execute("ALTER TABLE %s ENABLE ALWAYS TRIGGER cmq_pending_changed",
					rewind);

	/*
	 * The views are readable by all who may use the schema; check_select, a
	 * one-time filter, stops those without SELECT on the queue, and the
	 * security barrier keeps their functions away from rows and statistics.
	 */
	cmq_ddl_execute("CREATE VIEW %s WITH (security_barrier) AS "
					"SELECT cmq.msg_id(p.enqueued_at) AS msg_id, p.enqueued_at, "
					"CASE WHEN p.visible_at <= (SELECT cmq.clock(%s)) THEN 'ready' "
					"WHEN p.receive_count = 0 THEN 'delayed' "
					"ELSE 'in flight' END AS state, "
					"p.first_received_at, p.visible_at, "
					"p.receive_count, p.rewind_count, m.headers, m.body "
					"FROM %s p JOIN %s m ON m.enqueued_at = p.enqueued_at "
					"WHERE cmq.check_select(%s) "
					"AND p.enqueued_at >= (SELECT cmq.expired_before(%s)) "
					"UNION ALL "
					"SELECT cmq.msg_id(r.enqueued_at), r.enqueued_at, 'ready', "
					"NULL, r.enqueued_at, 0, r.rewind_count + 1, m.headers, m.body "
					"FROM %s r JOIN %s m ON m.enqueued_at = r.enqueued_at "
					"WHERE cmq.check_select(%s) "
					"AND r.enqueued_at >= (SELECT cmq.expired_before(%s)) "
					"AND r.enqueued_at >= (SELECT cmq.rewind_from(%s)) "
					"AND cmq.is_due(%s, r.enqueued_at, r.deleted_at, r.deleted_xact)",
					live, lit, pending, messages, lit, lit,
					rewind, messages, lit, lit, lit, lit);
	cmq_ddl_execute("CREATE VIEW %s WITH (security_barrier) AS "
					"SELECT cmq.msg_id(r.enqueued_at) AS msg_id, r.enqueued_at, "
					"r.first_received_at, r.deleted_at, r.deleted_by, "
					"r.receive_count, r.rewind_count, m.headers, m.body "
					"FROM %s r JOIN %s m ON m.enqueued_at = r.enqueued_at "
					"WHERE cmq.check_select(%s) "
					"AND r.enqueued_at >= (SELECT cmq.rewindable_since(%s)) "
					"AND (r.enqueued_at < (SELECT cmq.rewind_from(%s)) "
					"OR NOT cmq.is_due(%s, r.enqueued_at, r.deleted_at, r.deleted_xact))",
					history, rewind, messages, lit, lit, lit, lit);
	cmq_ddl_execute("CREATE VIEW %s WITH (security_barrier) AS "
					"SELECT msg_id, enqueued_at, state, first_received_at, visible_at, "
					"NULL::timestamptz AS deleted_at, NULL::regrole AS deleted_by, "
					"receive_count, rewind_count, headers, body FROM %s "
					"UNION ALL "
					"SELECT msg_id, enqueued_at, 'deleted', first_received_at, NULL, "
					"deleted_at, deleted_by, "
					"receive_count, rewind_count, headers, body FROM %s",
					all, live, history);
	cmq_ddl_execute("GRANT SELECT ON %s, %s, %s TO PUBLIC", live, history, all);

	cmq_ddl_execute("COMMENT ON TABLE %s IS %s", messages,
					quote_literal_cstr(psprintf("messages of queue %s; GRANTs on this table are the rights on the queue", name)));
	cmq_ddl_execute("COMMENT ON TABLE %s IS %s", pending,
					quote_literal_cstr(psprintf("delivery state of the messages of queue %s that are not deleted", name)));
	cmq_ddl_execute("COMMENT ON TABLE %s IS %s", rewind,
					quote_literal_cstr(psprintf("soft-deleted deliveries of queue %s", name)));
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
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("queue \"%s\" already exists", name),
			 detail ? errdetail("%s", detail) : 0,
			 errhint("Choose another name.")));
}

Datum
cmq_create_queue(PG_FUNCTION_ARGS)
{
	CmqQueue	description;
	CmqQueue   *queue = &description;
	Oid			schema;
	char	   *name;
	char	   *existing;
	Oid			save_userid;
	int			save_sec_context;
	int			nestlevel;
	TimestampTz now;

	cmq_shmem_require();
	PreventCommandIfReadOnly("cmq_create_queue()");
	name = cmq_queue_name_arg(fcinfo, 0);
	cmq_ddl_check_name(name, "queue");
	memset(queue, 0, sizeof(*queue));
	strlcpy(queue->name, name, NAMEDATALEN);
	get_settings(fcinfo, queue, false);
	get_dead_letter(fcinfo, queue);

	schema = get_namespace_oid(CMQ_SCHEMA, false);
	if (object_aclcheck(NamespaceRelationId, schema, GetUserId(),
						ACL_CREATE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to create queue \"%s\"", name),
				 errhint("The administrator can GRANT USAGE, CREATE ON SCHEMA %s TO you.",
						 CMQ_SCHEMA)));

	LockDatabaseObject(RelationRelationId, cmq_catalog_relid("queue"), 0,
					   ExclusiveLock);
	if (cmq_catalog_name_taken(name, &existing))
		report_taken(name, strcmp(existing, name) == 0 ? NULL :
					 psprintf("Queue \"%s\" has the same name but for case.",
							  existing));
	for (int i = 0; i < lengthof(relation_suffixes); i++)
	{
		char	   *relname = cmq_ddl_relname("q_", name, relation_suffixes[i]);

		if (OidIsValid(cmq_catalog_relid(relname)))
			report_taken(name,
						 psprintf("Relation %s.%s, which the queue needs, exists already.",
								  CMQ_SCHEMA, quote_identifier(relname)));
	}

	if (queue->dead_letter_queue[0])
		cmq_dead_letter_check(queue);

	nestlevel = cmq_ddl_enter(InvalidOid, &save_userid, &save_sec_context);
	create_relations(name);
	cmq_ddl_leave(nestlevel, save_userid, save_sec_context);

	now = GetCurrentTimestamp();
	queue->relid = cmq_catalog_relid(cmq_ddl_relname("q_", name, ""));
	queue->create_time = queue->last_modify_time = queue->saved_clock = now;
	queue->expired_before = queue->forgotten_before = DT_NOBEGIN;
	cmq_catalog_insert_queue(queue);
	cmq_shmem_remove_at_end(queue->relid, false);

	queue = cmq_queue_lookup(name);
	now = cmq_queue_now(queue);
	cmq_stats_start_empty(queue->shared);
	cmq_leaf_make(queue, now, now + cmq_leaf_lead(queue));
	PG_RETURN_VOID();
}

Datum
cmq_alter_queue(PG_FUNCTION_ARGS)
{
	CmqQueue	changed;
	CmqQueue   *queue;
	char	   *name;
	TimestampTz now;
	TimestampTz xact_start = GetCurrentTransactionStartTimestamp();
	bool		any;
	bool		bind;

	cmq_shmem_require();
	PreventCommandIfReadOnly("cmq_alter_queue()");
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
		/* a lock before the shared entry is used, see cmq_shmem.c */
		queue = cmq_queue_open(name, ACL_UPDATE, AccessShareLock);
		cmq_wait_ask_to_leave(queue->shared);
		queue = cmq_queue_open(name, ACL_UPDATE, ShareRowExclusiveLock);
		cmq_wait_asked();
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
		if (queue->rewind_seconds > 0)
			cmq_rewind_drop_history(queue);
		memset(&changed.rewinding, 0, sizeof(changed.rewinding));
		changed.forgotten_before = DT_NOBEGIN;
	}
	else if (queue->rewind_seconds > 0 &&
			 changed.rewind_seconds != queue->rewind_seconds)
		changed.forgotten_before =
			Max(queue->forgotten_before,
				xact_start - Min(queue->rewind_seconds,
								 changed.rewind_seconds) * USECS_PER_SEC);

	changed.last_modify_time = changed.saved_clock = now;
	cmq_catalog_update_queue(&changed);
	PG_RETURN_VOID();
}

Datum
cmq_drop_queue(PG_FUNCTION_ARGS)
{
	CmqQueue	description;
	CmqQueue   *queue = &description;
	char	   *name;
	char	   *relname;
	Oid			pending;
	Oid			save_userid;
	int			save_sec_context;
	int			nestlevel;
	StringInfoData tables;
	StringInfoData views;

	cmq_shmem_require();
	PreventCommandIfReadOnly("cmq_drop_queue()");
	name = cmq_queue_name_arg(fcinfo, 0);

	/*
	 * A damaged queue must be droppable, so not by cmq_queue_lookup().  Look
	 * again once the lock is there: another drop may have come first.
	 */
	memset(queue, 0, sizeof(*queue));
	queue->mcxt = CurrentMemoryContext;
	strlcpy(queue->name, name, NAMEDATALEN);
	if (strlen(name) > CMQ_QUEUE_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("queue \"%s\" does not exist", name)));
	relname = cmq_ddl_relname("q_", queue->name, "");
	for (;;)
	{
		if (!cmq_catalog_load_queue(queue))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("queue \"%s\" does not exist", name)));
		if (OidIsValid(queue->relid) &&
			queue->relid == cmq_catalog_relid(relname))
			break;
		queue->relid = cmq_catalog_relid(relname);
		if (!OidIsValid(queue->relid))
		{
			/* its table is gone, and with it the owner */
			if (!superuser())
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("must be superuser to drop damaged queue \"%s\"",
								name)));
			break;
		}
		cmq_queue_check_owner(queue);
		LockDatabaseObject(RelationRelationId, queue->relid, 0,
						   AccessExclusiveLock);
	}

	cmq_dead_letter_check_drop(name);

	/* traffic first, see the order of locks in cmq_queue.c */
	pending = cmq_catalog_relid(cmq_ddl_relname("q_", name, "_pending"));
	if (OidIsValid(pending))
	{
		CmqSharedQueue *shared;

		/* a lock before the shared entry is used, see cmq_shmem.c */
		LockRelationOid(pending, AccessShareLock);
		shared = cmq_shmem_find(queue->relid);
		if (shared)
			cmq_wait_ask_to_leave(shared);
		LockRelationOid(pending, AccessExclusiveLock);
		cmq_wait_asked();
	}

	initStringInfo(&tables);
	initStringInfo(&views);
	for (int i = 0; i < lengthof(relation_suffixes); i++)
	{
		Oid			relid = cmq_catalog_relid(cmq_ddl_relname("q_", name,
															  relation_suffixes[i]));
		StringInfo	list;

		if (!OidIsValid(relid))
			continue;
		list = get_rel_relkind(relid) == RELKIND_VIEW ? &views : &tables;
		appendStringInfo(list, "%s%s", list->len ? ", " : "",
						 qualified(name, relation_suffixes[i]));
	}
	nestlevel = cmq_ddl_enter(InvalidOid, &save_userid, &save_sec_context);
	if (views.len)
		cmq_ddl_execute("DROP VIEW %s", views.data);
	if (tables.len)
		cmq_ddl_execute("DROP TABLE %s", tables.data);
	cmq_ddl_leave(nestlevel, save_userid, save_sec_context);

	/* dropping the table has told the other backends */
	if (OidIsValid(queue->relid))
		cmq_shmem_remove_at_end(queue->relid, true);
	cmq_catalog_delete_queue(queue);
	cmq_topic_forget_queue(queue->name);
	PG_RETURN_VOID();
}
