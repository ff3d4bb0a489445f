/*-------------------------------------------------------------------------
 *
 * cmq_gone.c
 *	  Queues whose relations were dropped by hand, and relations of queues that
 *	  have no row.
 *
 * DROP OWNED, DROP TABLE and DROP VIEW know nothing of cmq.queue.  A queue one of
 * whose four relations (those that its row names) does not exist any more cannot
 * come back: it is gone, which every look-up takes for "there is no such queue"
 * (cmq_catalog_is_gone()).  A relation that is there, under whatever name, makes a
 * queue damaged at worst: that can be undone.  Nothing here goes by names: a
 * relation that has taken the name of one that was dropped is not the queue's.
 *
 * The row of a queue that is gone, with its subscriptions and with the policies of
 * those whose dead letters went there, is removed, all together:
 *	- by who creates a queue of that name, before anything of the new one is
 *	  there, so that it inherits nothing
 *	- by maintenance, when nothing is left of the queue under its names; else it
 *	  ends the policies alone
 *	- by cmq_drop_queue(), with what is left of its relations
 * So no subscription or policy ever outlives the row of its queue.
 *
 * The other way round, a restore of the schema without the data leaves relations
 * that no row names.  cmq_drop_queue() drops these too; they are found by their
 * names, kinds and columns, and have to be the caller's.
 *
 * Locks: who removes a row holds the lock under which queues are created, the queue
 * lock of the one that is gone and that of each queue whose policy ends.
 * Maintenance waits for none of them.  Abort: all is undone; a DROP by hand that is
 * rolled back brings the queue back, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "cmq.h"

/* How a relation of a queue is told from another one of its name. */
static const struct
{
	char		relkind;
	const char *column;
}			looks[] = {
	[CMQ_RIGHTS] = {RELKIND_VIEW, "queue"},
	[CMQ_LIVE_VIEW] = {RELKIND_VIEW, "visible_at"},
	[CMQ_HISTORY_VIEW] = {RELKIND_VIEW, "deleted_by"},
	[CMQ_ALL_VIEW] = {RELKIND_VIEW, "deleted_by"},
	[CMQ_READER_VIEW] = {RELKIND_VIEW, "readable"},
	[CMQ_MESSAGES_TABLE] = {RELKIND_PARTITIONED_TABLE, "body"},
	[CMQ_PENDING_TABLE] = {RELKIND_RELATION, "visible_at"},
	[CMQ_REWIND_TABLE] = {RELKIND_PARTITIONED_TABLE, "deleted_by"},
};

/*
 * The relation of a queue that has no row: it has the name, and looks like it.
 * That of another queue may have the name, too.
 */
static Oid
find_orphan(const char *name, CmqRelation which)
{
	const char *relname = cmq_relation_name(which, name);
	Oid			relid = strcmp(cmq_relation_schema(which), CMQ_DATA_SCHEMA) == 0 ?
		cmq_data_relid(relname) : cmq_catalog_relid(relname);

	return OidIsValid(relid) &&
		get_rel_relkind(relid) == looks[which].relkind &&
		get_attnum(relid, looks[which].column) != InvalidAttrNumber ?
		relid : InvalidOid;
}

/*
 * Fill a description with the relations of a queue that has no row; false if
 * there are none, or it has one.
 */
bool
cmq_gone_find_orphans(CmqQueue *queue, const char *name)
{
	if (strlen(name) > CMQ_QUEUE_NAME_MAX || cmq_catalog_find_queue(queue, name))
		return false;
	memset(queue, 0, sizeof(*queue));
	queue->mcxt = CurrentMemoryContext;
	strlcpy(queue->name, name, NAMEDATALEN);
	queue->relid = find_orphan(name, CMQ_RIGHTS);
	queue->messages = find_orphan(name, CMQ_MESSAGES_TABLE);
	queue->pending = find_orphan(name, CMQ_PENDING_TABLE);
	queue->rewind = find_orphan(name, CMQ_REWIND_TABLE);
	return OidIsValid(queue->relid) || OidIsValid(queue->messages) ||
		OidIsValid(queue->pending) || OidIsValid(queue->rewind);
}

/* Is anything left that a queue of this name was made with, or would need? */
static bool
has_names(const char *name)
{
	for (CmqRelation which = CMQ_RIGHTS; which <= CMQ_REWIND_TABLE; which++)
	{
		const char *relname = cmq_relation_name(which, name);

		if (OidIsValid(strcmp(cmq_relation_schema(which), CMQ_DATA_SCHEMA) == 0 ?
					   cmq_data_relid(relname) : cmq_catalog_relid(relname)))
			return true;
	}
	return false;
}

/* Why there is no such queue, and what to do; both NULL if there is no more to say. */
void
cmq_gone_explain(const char *name, char **detail, char **hint)
{
	CmqQueue	queue;

	*detail = *hint = NULL;
	if (strlen(name) > CMQ_QUEUE_NAME_MAX)
		return;
	if (cmq_catalog_find_queue(&queue, name))
	{
		if (!cmq_catalog_is_gone(&queue))
			return;
		*detail = pstrdup("Its relations, or some of them, were dropped by hand.");
		if (has_names(name))
			*hint = psprintf("To drop what is left: SELECT cmq_drop_queue(%s);",
							 quote_literal_cstr(name));
	}
	else if (cmq_gone_find_orphans(&queue, name))
	{
		*detail = psprintf("There are relations of such a queue, but table %s.queue has no row for it, as after a restore of the schema without the data.",
						   CMQ_SCHEMA);
		*hint = psprintf("Restore the data, or drop the relations: SELECT cmq_drop_queue(%s);",
						 quote_literal_cstr(name));
	}
}

/*
 * Remove all that is known of a queue that is gone.  False if somebody is at it
 * and the caller does not wait.
 */
static bool
forget(const char *name, bool wait)
{
	CmqQueue	queue;

	if (!cmq_catalog_find_queue(&queue, name))
		return true;
	if (wait)
		LockDatabaseObject(RelationRelationId, queue.relid, 0,
						   AccessExclusiveLock);
	else if (!ConditionalLockDatabaseObject(RelationRelationId, queue.relid, 0,
											AccessExclusiveLock))
		return false;
	/* who had the lock may have dropped it */
	if (!cmq_catalog_find_queue(&queue, name) || !cmq_catalog_is_gone(&queue))
		return true;
	if (!cmq_dead_letter_forget(name, wait))
		return false;
	cmq_shmem_remove_at_end(queue.pending, true);
	cmq_catalog_delete_queue(&queue);
	cmq_topic_forget_queue(name);
	return true;
}

/*
 * Whoever is about to create a queue of this name, and holds the lock for that:
 * remove those of that name, but for case, that are gone.
 */
void
cmq_gone_make_room(const char *name)
{
	ListCell   *lc;

	foreach(lc, cmq_catalog_gone_queue_names())
	{
		if (pg_strcasecmp(lfirst(lc), name) == 0)
			(void) forget(lfirst(lc), true);
	}
}

/*
 * Maintenance: forget queues and topics of which nothing is left.  What somebody
 * is at is left for the next round.
 */
void
cmq_gone_sweep(void)
{
	List	   *names = cmq_catalog_gone_queue_names();
	ListCell   *lc;

	cmq_topic_sweep_gone();
	if (names == NIL || !cmq_catalog_try_lock("queue") ||
		!cmq_catalog_try_lock("topic"))
		return;
	foreach(lc, names)
	{
		/* what is left can still be dropped, but letters cannot go there */
		if (has_names(lfirst(lc)))
		{
			(void) cmq_dead_letter_forget(lfirst(lc), false);
			continue;
		}
		if (!forget(lfirst(lc), false))
			continue;
		ereport(LOG,
				(errmsg("queue \"%s\" is forgotten", (char *) lfirst(lc)),
				 errdetail("Its relations were dropped by hand.")));
	}
}
