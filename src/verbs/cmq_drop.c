/*-------------------------------------------------------------------------
 *
 * cmq_drop.c
 *	  Drop queues, whatever is left of them.
 *
 * A queue may be damaged, gone or without a row when it is dropped.  The drop removes the
 * relations that the queue was made with, if they still have their number, name and owner;
 * the caller must own them all.  A relation that was renamed, or has another owner now,
 * stays.  A notice tells of each that stays under a name of the queue's.
 *
 * Locks: the queue lock, or, if there is no row, the lock under which queues are created;
 * then the pending table and all others alone, without holding up traffic (cmq_lock.c).
 * Abort: undone like any DDL; the shared entry goes at commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_catalog.h"
#include "store/cmq_ddl.h"
#include "store/cmq_description.h"
#include "store/cmq_load.h"
#include "store/cmq_lock.h"
#include "store/cmq_orphan.h"
#include "store/cmq_owner.h"
#include "store/cmq_queue.h"
#include "verbs/cmq_binding.h"
#include "verbs/cmq_topic.h"

PG_FUNCTION_INFO_V1(cmq_drop_queue);

/* Is this relation of the queue there?  Raises 42501 unless the caller owns it then. */
static bool
check_owns(CmqDescription *queue, Oid relid, CmqRelation which)
{
	if (!cmq_load_has_relation(queue, relid, which))
		return false;
	if (!object_ownercheck(RelationRelationId, relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of queue \"%s\"", queue->name)));
	return true;
}

/*
 * Raise 42501 unless the caller owns all relations that are left of the queue, and
 * 42704 if none is.  If the relation that carries the rights was renamed, only a
 * superuser may drop the queue.
 */
static void
check_may_drop(CmqDescription *queue)
{
	bool		any = check_owns(queue, queue->relid, CMQ_RIGHTS);

	if (!any && get_rel_name(queue->relid) != NULL && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to drop damaged queue \"%s\"",
						queue->name),
				 errdetail("Its relation %s, which carries the rights, was renamed.",
						   cmq_relation_qualified(CMQ_RIGHTS, queue->name)),
				 errhint("Give it its name back.")));
	any |= check_owns(queue, queue->messages, CMQ_MESSAGES_TABLE);
	any |= check_owns(queue, queue->pending, CMQ_PENDING_TABLE);
	any |= check_owns(queue, queue->rewind, CMQ_REWIND_TABLE);
	if (OidIsValid(queue->dedup))
		any |= check_owns(queue, queue->dedup, CMQ_DEDUP_TABLE);
	/* nothing is left that would say who may drop it */
	if (!any && cmq_catalog_is_gone(queue) && !superuser())
		cmq_queue_report_unknown(queue->name);
}

/*
 * Load what is known of a queue to be dropped, and take its queue lock.  A damaged queue
 * can be dropped, which cmq_queue_lookup() refuses, and so can one without a row.  Raises
 * 42704 and 42501.
 */
static void
lock_to_drop(CmqDescription *queue, const char *name)
{
	bool		creating = false;

	while (cmq_catalog_lock_queue(queue, name, AccessExclusiveLock, true,
								  check_may_drop) == CMQ_ROW_NONE)
	{
		if (!cmq_orphan_find(queue, name))
			cmq_queue_report_unknown(name);
		check_may_drop(queue);
		if (creating)
			return;
		/* one at a time, and not while another transaction creates it */
		cmq_catalog_lock("queue");
		creating = true;
	}
}

/* The view of this name, if it is one of the queue's; else InvalidOid. */
static Oid
find_view(CmqDescription *queue, CmqRelation which)
{
	Oid			relid = cmq_relation_oid(which, queue->name);

	return OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_VIEW &&
		cmq_load_has_relation(queue, relid, which) &&
		!cmq_catalog_carries_rights(relid) ? relid : InvalidOid;
}

/*
 * List what is left of the relations that the queue was made with.  One with another
 * name or owner is left out: somebody keeps it, or another relation has its number.
 */
static void
list_relations(CmqDescription *queue, List **views, List **tables)
{
	static const CmqRelation derived[] = {
		CMQ_ALL_VIEW, CMQ_LIVE_VIEW, CMQ_HISTORY_VIEW, CMQ_READER_VIEW
	};
	const struct
	{
		Oid			relid;
		CmqRelation which;
	}			known[] = {
		{queue->messages, CMQ_MESSAGES_TABLE},
		{queue->pending, CMQ_PENDING_TABLE},
		{queue->rewind, CMQ_REWIND_TABLE},
		{queue->dedup, CMQ_DEDUP_TABLE}
	};

	*views = *tables = NIL;
	for (int i = 0; i < lengthof(derived); i++)
	{
		Oid			relid = find_view(queue, derived[i]);

		if (OidIsValid(relid))
			*views = lappend_oid(*views, relid);
	}
	if (cmq_load_has_relation(queue, queue->relid, CMQ_RIGHTS))
		*views = lappend_oid(*views, queue->relid);
	for (int i = 0; i < lengthof(known); i++)
	{
		if (cmq_load_has_relation(queue, known[i].relid, known[i].which))
			*tables = lappend_oid(*tables, known[i].relid);
	}
}

/* List what is to be locked alone: views, tables and leaves. */
static List *
list_to_lock(CmqDescription *queue, List *views, List *tables)
{
	List	   *alone = list_concat_copy(tables, views);

	/* a query that names a leaf has no lock on its parent */
	(void) cmq_catalog_load_leaves(queue, NULL, NULL);
	for (int i = 0; i < queue->nleaves; i++)
	{
		alone = lappend_oid(alone, queue->leaves[i].messages);
		alone = lappend_oid(alone, queue->leaves[i].rewind);
		if (OidIsValid(queue->leaves[i].dedup))
			alone = lappend_oid(alone, queue->leaves[i].dedup);
	}
	return alone;
}

static void
drop_relations(const char *kind, List *relids)
{
	StringInfoData names;
	ListCell   *lc;

	if (relids == NIL)
		return;
	initStringInfo(&names);
	foreach(lc, relids)
		appendStringInfo(&names, "%s%s", names.len ? ", " : "",
						 cmq_full_name(lfirst_oid(lc)));
	cmq_ddl_execute("DROP %s %s", kind, names.data);
}

/* Tell of relations that have the names of the queue's and were not dropped. */
static void
report_left(const char *name, bool had_keys)
{
	for (CmqRelation i = CMQ_RIGHTS;
		 i <= (had_keys ? CMQ_DEDUP_TABLE : CMQ_REWIND_TABLE); i++)
	{
		if (OidIsValid(cmq_relation_oid(i, name)))
			ereport(NOTICE,
					(errmsg("relation %s was not dropped with queue \"%s\"",
							cmq_relation_qualified(i, name), name),
					 errdetail("It is not one that the queue was made with, or has another owner now.")));
	}
}

Datum
cmq_drop_queue(PG_FUNCTION_ARGS)
{
	CmqDescription description;
	CmqDescription *queue = &description;
	char	   *name;
	List	   *views;
	List	   *tables;
	CmqOwnerScope scope;

	cmq_begin_write("cmq_drop_queue()");
	name = cmq_queue_name_arg(fcinfo, 0);
	lock_to_drop(queue, name);
	if (cmq_catalog_is_gone(queue))
		(void) cmq_binding_forget(name, true);
	else
		cmq_binding_check_drop(name);

	/* traffic first, see the order of locks in cmq_queue.c */
	list_relations(queue, &views, &tables);
	if (list_member_oid(tables, queue->pending))
	{
		cmq_lock_alone(name, queue->pending,
					   list_to_lock(queue, views, tables), "drop");
		/* one may have been renamed meanwhile */
		list_relations(queue, &views, &tables);
		cmq_lock_check_not_in_use(name, queue->pending, "drop");
	}
	cmq_owner_enter(&scope, InvalidOid);
	drop_relations("VIEW", views);
	drop_relations("TABLE", tables);
	cmq_owner_leave(&scope);
	report_left(name, OidIsValid(queue->dedup));

	/* dropping the tables has told the other backends */
	cmq_xact_remove_at_end(queue->pending, true);
	cmq_catalog_delete_queue(queue);
	cmq_topic_forget_queue(queue->name);
	PG_RETURN_VOID();
}
