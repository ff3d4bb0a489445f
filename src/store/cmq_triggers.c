/*-------------------------------------------------------------------------
 *
 * cmq_triggers.c
 *	  The triggers by which cmq notices changes of queue tables that are not its own.
 *
 * Who writes with triggers disabled, as pg_restore --disable-triggers does, enables
 * them afterwards.  That makes other versions of their rows in pg_trigger.  A queue's
 * description says which versions it was loaded with, its shared entry which ones the
 * queue was used with last; if they differ all is taken for changed.  It also leaves
 * them enabled for the origin alone: maintenance makes that ALWAYS again.
 *
 * What the triggers do is in cmq_changes.c.
 *
 * Locks: ShareRowExclusive on the tables whose triggers are mended, if nobody has to be
 * waited for.
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
 * A scan of the triggers by which cmq notices changes of a table.  The one that refuses
 * TRUNCATE is none of them: it is to fire for the origin alone.
 */
typedef struct TriggerScan
{
	Relation	rel;
	SysScanDesc scan;
} TriggerScan;

static void
begin_triggers(TriggerScan *ts, Oid relid)
{
	ScanKeyData key;

	ts->rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	ts->scan = systable_beginscan(ts->rel, TriggerRelidNameIndexId, true, NULL,
								  1, &key);
}

static HeapTuple
next_trigger(TriggerScan *ts)
{
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(ts->scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if (strncmp(NameStr(form->tgname), "cmq_", 4) == 0 &&
			strcmp(NameStr(form->tgname), "cmq_no_truncate") != 0)
			break;
	}
	return tuple;
}

static void
end_triggers(TriggerScan *ts)
{
	systable_endscan(ts->scan);
	table_close(ts->rel, AccessShareLock);
}

/* Has the table triggers that fire for the origin alone? */
static bool
has_origin_triggers(Oid relid)
{
	TriggerScan ts;
	HeapTuple	tuple;
	bool		found = false;

	begin_triggers(&ts, relid);
	while (HeapTupleIsValid(tuple = next_trigger(&ts)))
		found |= ((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled ==
			TRIGGER_FIRES_ON_ORIGIN;
	end_triggers(&ts);
	return found;
}

/*
 * Fill in what a description says of the triggers.  Those of leaves do not count for
 * its version: nobody who has the description hears of a change of theirs.
 */
void
cmq_triggers_load(CmqQueue *queue)
{
	Oid			relids[] = {queue->messages, queue->pending, queue->rewind};

	queue->triggers = 0;
	queue->triggers_on_origin = false;
	for (int i = 0; i < lengthof(relids); i++)
	{
		TriggerScan ts;
		HeapTuple	tuple;

		begin_triggers(&ts, relids[i]);
		while (HeapTupleIsValid(tuple = next_trigger(&ts)))
		{
			Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

			queue->triggers = hash_combine(queue->triggers, form->oid);
			queue->triggers = hash_combine(queue->triggers,
										   HeapTupleHeaderGetRawXmin(tuple->t_data));
			queue->triggers_on_origin |=
				form->tgenabled == TRIGGER_FIRES_ON_ORIGIN;
		}
		end_triggers(&ts);
	}
}

/* Anything may have been written to the queue without our notice. */
void
cmq_triggers_distrust(CmqSharedQueue *shared)
{
	cmq_floor_added_unknown(shared);
	cmq_earliest_lower(shared, DT_NOBEGIN);
	cmq_count_spoil(shared);
	cmq_wait_signal(shared, PG_INT32_MAX, true);
}

/* The queue has just been attached: were its triggers enabled all along? */
void
cmq_triggers_check(CmqQueue *queue)
{
	CmqSharedQueue *shared = queue->shared;

	if (likely(!cmq_notes_triggers_changed(shared, queue->triggers)))
		return;
	cmq_triggers_distrust(shared);
}

/* Enable a table's triggers ALWAYS, which fire for the origin alone. */
static void
mend_table(Oid relid)
{
	List	   *names = NIL;
	ListCell   *lc;
	TriggerScan ts;
	HeapTuple	tuple;

	begin_triggers(&ts, relid);
	while (HeapTupleIsValid(tuple = next_trigger(&ts)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if (form->tgenabled == TRIGGER_FIRES_ON_ORIGIN)
			names = lappend(names, pstrdup(NameStr(form->tgname)));
	}
	end_triggers(&ts);
	foreach(lc, names)
		cmq_ddl_execute("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
						cmq_catalog_relname(relid),
						quote_identifier(lfirst(lc)));
}

/* Is there anything to mend? */
static bool
needs_mending(CmqQueue *queue)
{
	if (queue->triggers_on_origin)
		return true;
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (has_origin_triggers(queue->leaves[i].rewind))
			return true;
	}
	return false;
}

/*
 * Maintenance: the same for a queue, unless somebody is in the way.  Returns whether
 * anything was mended: then all is to be taken for changed (cmq_triggers_distrust()),
 * for nobody has heard of what was done to leaves.
 */
bool
cmq_triggers_mend(CmqQueue *queue)
{
	Oid			relids[] = {queue->pending, queue->messages, queue->rewind};

	if (!needs_mending(queue))
		return false;
	for (int i = 0; i < lengthof(relids); i++)
	{
		if (!cmq_lock_in_mode_briefly(relids[i], ShareRowExclusiveLock))
			return false;
	}
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (!cmq_lock_in_mode_briefly(queue->leaves[i].rewind,
									  ShareRowExclusiveLock))
			return false;
	}
	for (int i = 0; i < lengthof(relids); i++)
		mend_table(relids[i]);
	for (int i = 0; i < queue->nleaves; i++)
		mend_table(queue->leaves[i].rewind);
	return true;
}
