/*-------------------------------------------------------------------------
 *
 * cmq_create.c
 *	  Create queues.
 *
 * Creating queues is serialized per database by an object lock on cmq.queue,
 * so that the name check cannot be overtaken.  It is undone by a rollback like any other
 * DDL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_count.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_catalog.h"
#include "store/cmq_ddl.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf.h"
#include "store/cmq_orphan.h"
#include "store/cmq_owner.h"
#include "store/cmq_queue.h"
#include "verbs/cmq_binding.h"
#include "verbs/cmq_gone.h"
#include "verbs/cmq_queue_args.h"

PG_FUNCTION_INFO_V1(cmq_create_queue);

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
	for (CmqRelation i = CMQ_RIGHTS; i <= CMQ_REWIND_TABLE; i++)
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
	CmqQueue	description;
	CmqQueue   *queue = &description;
	char	   *name;
	CmqOwnerScope scope;
	TimestampTz now;

	cmq_begin_write("cmq_create_queue()");
	name = cmq_queue_name_arg(fcinfo, 0);
	cmq_ddl_check_name(name, "queue");
	memset(queue, 0, sizeof(*queue));
	strlcpy(queue->name, name, NAMEDATALEN);
	cmq_get_settings(fcinfo, queue, false);
	cmq_get_dead_letter(fcinfo, queue);
	check_create(name);

	cmq_ddl_lock_creation();
	cmq_gone_make_room(name);
	check_not_taken(name);
	if (queue->dead_letter_queue[0])
		cmq_dead_letter_check(queue);

	cmq_owner_enter(&scope, InvalidOid);
	create_tables(name);
	create_views(name);
	cmq_owner_leave(&scope);

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
	cmq_xact_remove_at_end(queue->pending, false);

	queue = cmq_queue_lookup(name);
	now = cmq_queue_now(queue);
	cmq_count_start_empty(queue->shared);
	cmq_leaf_make(queue, now, now + cmq_leaf_lead(queue));
	PG_RETURN_VOID();
}
