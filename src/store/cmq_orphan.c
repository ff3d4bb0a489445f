/*-------------------------------------------------------------------------
 *
 * cmq_orphan.c
 *	  Relations of queues that have no row, and what is left of queues that are gone.
 *
 * A restore of the schema without the data leaves relations that no row names.  They are
 * found by their names, kinds and columns.  cmq_drop_queue() drops them, if the caller
 * owns them.
 *
 * Locks: none.  Nothing is changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/cmq_args.h"
#include "base/cmq_names.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_orphan.h"

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
	[CMQ_DEDUP_TABLE] = {RELKIND_PARTITIONED_TABLE, "key"},
};

/*
 * The relation of a queue that has no row: it has the name, kind and column.  A relation
 * of another queue may have the name, too.
 */
static Oid
find_orphan(const char *name, CmqRelation which)
{
	Oid			relid = cmq_relation_oid(which, name);

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
cmq_orphan_find(CmqDescription *queue, const char *name)
{
	if (strlen(name) > CMQ_QUEUE_NAME_MAX || cmq_catalog_find_queue(queue, name))
		return false;
	memset(queue, 0, sizeof(*queue));
	strlcpy(queue->name, name, NAMEDATALEN);
	queue->relid = find_orphan(name, CMQ_RIGHTS);
	queue->messages = find_orphan(name, CMQ_MESSAGES_TABLE);
	queue->pending = find_orphan(name, CMQ_PENDING_TABLE);
	queue->rewind = find_orphan(name, CMQ_REWIND_TABLE);
	queue->dedup = find_orphan(name, CMQ_DEDUP_TABLE);
	return OidIsValid(queue->relid) || OidIsValid(queue->messages) ||
		OidIsValid(queue->pending) || OidIsValid(queue->rewind) ||
		OidIsValid(queue->dedup);
}

/* Is anything left that a queue of this name was made with, or would need? */
bool
cmq_orphan_has_names(const char *name)
{
	for (CmqRelation which = CMQ_RIGHTS; which <= CMQ_REWIND_TABLE; which++)
	{
		if (OidIsValid(cmq_relation_oid(which, name)))
			return true;
	}
	/* a queue without dedup_seconds does not need it */
	return OidIsValid(find_orphan(name, CMQ_DEDUP_TABLE));
}

/* Why there is no such queue, and what to do; both NULL if there is no more to say. */
void
cmq_orphan_explain(const char *name, char **detail, char **hint)
{
	CmqDescription queue;

	*detail = *hint = NULL;
	if (cmq_catalog_find_queue(&queue, name))
	{
		if (!cmq_catalog_is_gone(&queue))
			return;
		*detail = pstrdup("Its relations, or some of them, were dropped by hand.");
		if (cmq_orphan_has_names(name))
			*hint = psprintf("To drop what is left: SELECT cmq_drop_queue(%s);",
							 quote_literal_cstr(name));
	}
	else if (cmq_orphan_find(&queue, name))
	{
		*detail = psprintf("There are relations of such a queue, but table %s.queue has no row for it, as after a restore of the schema without the data.",
						   CMQ_SCHEMA);
		*hint = psprintf("Restore the data, or drop the relations: SELECT cmq_drop_queue(%s);",
						 quote_literal_cstr(name));
	}
}
