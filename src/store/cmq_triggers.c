/*-------------------------------------------------------------------------
 *
 * cmq_triggers.c
 *	  The triggers by which cmq notices changes of queue tables that are not its own.
 *
 * A session that writes with triggers disabled, as pg_restore --disable-triggers does,
 * enables them afterwards, which makes new versions of their rows in pg_trigger.  A
 * description says which versions it was loaded with, the shared entry with which versions
 * the queue was used last.  If they differ, anything in the queue may have changed.
 * Triggers that were enabled so fire for the origin alone: maintenance enables them ALWAYS
 * again.
 *
 * What the triggers do is in cmq_changes.c.
 *
 * Locks: ShareRowExclusive on the tables whose triggers are mended, if that takes but a
 * moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "base/cmq_names.h"
#include "memory/cmq_count.h"
#include "memory/cmq_earliest.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_types.h"
#include "memory/cmq_wait.h"
#include "store/cmq_ddl.h"
#include "store/cmq_description.h"
#include "store/cmq_lock.h"
#include "store/cmq_triggers.h"

/*
 * Look at the triggers by which cmq notices changes of a table: add their versions to
 * *versions, and return the names of those that fire for the origin alone.  The trigger
 * that refuses TRUNCATE is none of them: it is to fire for the origin alone.
 */
static List *
look_at_table(Oid relid, uint32 *versions)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *on_origin = NIL;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 1,
							  &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
		char	   *name = NameStr(form->tgname);

		if (strncmp(name, "cmq_", 4) != 0 ||
			strcmp(name, "cmq_no_truncate") == 0)
			continue;
		*versions = hash_combine(*versions, form->oid);
		*versions = hash_combine(*versions,
								 HeapTupleHeaderGetRawXmin(tuple->t_data));
		if (form->tgenabled == TRIGGER_FIRES_ON_ORIGIN)
			on_origin = lappend(on_origin, pstrdup(name));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return on_origin;
}

/*
 * Fill in what a description says of the triggers.  It leaves out those of leaves: a
 * change of these does not make the description stale.
 */
void
cmq_triggers_load(CmqDescription *queue)
{
	Oid			relids[] = {queue->messages, queue->pending, queue->rewind};

	queue->triggers = 0;
	queue->triggers_on_origin = false;
	for (int i = 0; i < lengthof(relids); i++)
		queue->triggers_on_origin |=
			look_at_table(relids[i], &queue->triggers) != NIL;
}

/* Anything may have been written unnoticed: floors, mark and counts begin anew. */
void
cmq_triggers_distrust(CmqSharedQueue *shared)
{
	cmq_floor_added_unknown(shared);
	cmq_earliest_lower(shared, DT_NOBEGIN);
	cmq_count_spoil(shared);
	cmq_wait_signal(shared, CMQ_ALL_WAITERS, true);
}

/* The queue has just been attached: were its triggers enabled all along? */
void
cmq_triggers_check(CmqQueue *queue)
{
	if (unlikely(cmq_notes_triggers_changed(queue->shared, queue->triggers)))
		cmq_triggers_distrust(queue->shared);
}

/* Is there anything to mend? */
static bool
needs_mending(CmqQueue *queue)
{
	uint32		versions = 0;

	if (queue->triggers_on_origin)
		return true;
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (look_at_table(queue->leaves[i].rewind, &versions) != NIL)
			return true;
	}
	return false;
}

/*
 * Maintenance: enable ALWAYS the triggers of a queue that fire for the origin alone,
 * unless somebody is in the way.  Returns whether anything was mended: then the caller
 * takes all for changed (cmq_triggers_distrust()), for what was done to leaves went
 * unnoticed.
 */
bool
cmq_triggers_mend(CmqQueue *queue)
{
	List	   *relids = list_make3_oid(queue->pending, queue->messages,
										queue->rewind);
	ListCell   *lc;
	ListCell   *name;
	uint32		versions = 0;

	if (!needs_mending(queue))
		return false;
	for (int i = 0; i < queue->nleaves; i++)
		relids = lappend_oid(relids, queue->leaves[i].rewind);
	foreach(lc, relids)
	{
		if (!cmq_lock_in_mode_briefly(lfirst_oid(lc), ShareRowExclusiveLock))
			return false;
	}
	foreach(lc, relids)
	{
		foreach(name, look_at_table(lfirst_oid(lc), &versions))
			cmq_ddl_execute("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
							cmq_full_name(lfirst_oid(lc)),
							quote_identifier(lfirst(name)));
	}
	return true;
}
