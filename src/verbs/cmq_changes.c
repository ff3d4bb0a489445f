/*-------------------------------------------------------------------------
 *
 * cmq_changes.c
 *	  Notice what others write to queue tables: by hand, by COPY, by replication.
 *
 * cmq writes through the access methods, which fires no trigger.  Anything else that
 * writes pending or rewind rows fires one of two triggers, both ENABLE ALWAYS, so that
 * session_replication_role hides no change:
 *
 *	- _pending_changed, before each statement.  What the statement will write is not
 *	  known.  So to the end of the transaction neither the number of pending rows is
 *	  known, nor where receives may begin to scan (cmq_floor.c, rule 4).
 *	- _row_changed, after each row that no statement of the transaction has noted:
 *	  an apply worker writes such rows, for it runs no statements.  The trigger knows
 *	  what was written, so counts stay exact, and floors and the mark of cmq_earliest.c
 *	  are lowered no further than is needed.  The trigger's WHEN,
 *	  _unnoticed(), leaves out rows of statements: a COPY of millions of rows queues no
 *	  event.
 *
 * When a subtransaction is undone, so is what its statements have noted: the counts
 * of the parent are known again.
 *
 * The publisher's clock may be ahead.  The queue clock is kept above all times that
 * replication brings, so that ids go on increasing, and a rewind here brings back what was
 * deleted there.  _row_changed reads the times of its row.  _messages_added runs after
 * statements that add rows to the message table, or to the rewind table, as the initial
 * copy of a subscription does.  It looks for the newest time, and wakes waiting receives:
 * pending rows may have come before their messages.
 *
 * Locks: none but those of the writers.  Abort: what was published in the slot, and
 * counted, goes with the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "catalog/partition.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/cmq_handle.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_earliest.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_wait.h"
#include "memory/cmq_xact.h"
#include "store/cmq_description.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_scan.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "store/cmq_target.h"

/* The queue whose subscription was checked last, and the transaction that did it. */
static Oid	checked_queue = InvalidOid;
static uint64 checked_in = 0;

PG_FUNCTION_INFO_V1(cmq_pending_changed);
PG_FUNCTION_INFO_V1(cmq_row_changed);
PG_FUNCTION_INFO_V1(cmq_messages_added);
PG_FUNCTION_INFO_V1(cmq_unnoticed);

/*
 * The queue of a trigger, attached; the trigger's argument is the name.  *which is the
 * table that has fired the trigger.  NULL if that table is not the queue's: the trigger is
 * a user's, or a restore has not come to the queue yet.  Raises 39P01 for a wrong call.
 */
static CmqQueue *
trigger_queue(FunctionCallInfo fcinfo, bool row, CmqTableKind *which)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	CmqQueue   *queue;
	Oid			relid;

	if (!CALLED_AS_TRIGGER(fcinfo) || trigger->tg_trigger->tgnargs != 1 ||
		(TRIGGER_FIRED_FOR_ROW(trigger->tg_event) != 0) != row)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cmq.%s can only be the trigger that cmq_create_queue makes",
						get_func_name(fcinfo->flinfo->fn_oid))));
	cmq_require_preload();

	relid = RelationGetRelid(trigger->tg_relation);
	queue = cmq_queue_find(trigger->tg_trigger->tgargs[0]);
	if (queue == NULL)
		return NULL;
	if (row && trigger->tg_relation->rd_rel->relispartition)
		relid = get_partition_parent(relid, true);
	if (relid == queue->pending)
		*which = CMQ_PENDING;
	else if (relid == queue->rewind)
		*which = CMQ_REWIND;
	else if (relid == queue->messages)
		*which = CMQ_MESSAGES;
	else
		return NULL;
	cmq_queue_attach(queue);
	return queue;
}

/*
 * Raise 0A000 if a subscription writes to leaves and not through the partitioned tables:
 * it would know nothing of leaves that are made later, and drop their messages silently.
 */
static void
check_subscription(CmqQueue *queue)
{
	if (!IsLogicalWorker() ||
		(checked_queue == queue->pending && checked_in == cmq_xact_number()))
		return;
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (cmq_target_is_subscribed(queue->leaves[i].messages) ||
			cmq_target_is_subscribed(queue->leaves[i].rewind))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("queue \"%s\" cannot be replicated partition by partition",
							queue->name),
					 errdetail("New partitions are made here and there by themselves; a subscription does not follow."),
					 errhint("On the publisher: ALTER PUBLICATION ... SET (publish_via_partition_root = true). Then drop the subscription, empty the queue's tables here, and subscribe again.")));
	}
	checked_queue = queue->pending;
	checked_in = cmq_xact_number();
}

/* WHEN of the row trigger: has no statement noted what happens to this table? */
Datum
cmq_unnoticed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!cmq_xact_has_statement(text_to_cstring(PG_GETARG_TEXT_PP(0)),
										   PG_GETARG_BOOL(1)));
}

/* Groups of an ordered queue go on when a message of theirs is taken away. */
static void
groups_changed(CmqQueue *queue)
{
	cmq_xact_groups_unknown(queue->shared);
	cmq_xact_wake_all(queue->shared);
}

/*
 * Trigger on the pending and the rewind table of a queue, before statements that
 * are not ours.
 */
Datum
cmq_pending_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	CmqTableKind which;
	CmqQueue   *queue = trigger_queue(fcinfo, false, &which);

	if (queue == NULL || which == CMQ_MESSAGES)
		return PointerGetDatum(NULL);
	check_subscription(queue);
	if (which == CMQ_PENDING)
		cmq_xact_pending_unknown(queue->shared);
	else
		cmq_xact_due_unknown(queue->shared);
	cmq_xact_taken_unknown(queue->shared);
	/* an abort brings back what the statement takes away */
	cmq_xact_wake(queue->shared, 0, CMQ_ALL_WAITERS);
	if (queue->ordered)
		groups_changed(queue);
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		cmq_floor_added_unknown(queue->shared);
		cmq_earliest_lower(queue->shared, DT_NOBEGIN);
		cmq_xact_wake_all(queue->shared);
	}
	cmq_xact_note_statement(queue->shared, queue->name, which == CMQ_REWIND);
	return PointerGetDatum(NULL);
}

static void
rewind_row_removed(CmqQueue *queue, TupleTableSlot *slot)
{
	cmq_xact_taken_due(queue->shared, cmq_slot_time(slot, Anum_rewind_enqueued_at));
	cmq_xact_due_unknown(queue->shared);
	cmq_xact_wake(queue->shared, 0, 1);
}

/* The row may be due for the rewind under way, or for one that begins just now. */
static void
rewind_row_added(CmqQueue *queue, TupleTableSlot *slot)
{
	cmq_floor_due_added_unknown(queue->shared);
	cmq_xact_due_unknown(queue->shared);
	cmq_earliest_lower(queue->shared,
					   cmq_slot_time(slot, Anum_rewind_enqueued_at));
	cmq_clock_advance(queue->shared,
					  cmq_slot_time(slot, Anum_rewind_deleted_at));
	if (queue->rewinding.active)
		cmq_xact_wake_all(queue->shared);
}

/*
 * Trigger on the pending table and the rewind leaves of a queue, after rows that no
 * statement has noted.
 */
Datum
cmq_row_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	CmqTableKind which;
	CmqQueue   *queue = trigger_queue(fcinfo, true, &which);
	TupleTableSlot *old_slot;
	TupleTableSlot *new_slot;

	if (queue == NULL || which == CMQ_MESSAGES)
		return PointerGetDatum(NULL);
	check_subscription(queue);
	if (queue->ordered)
		groups_changed(queue);

	old_slot = TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ? NULL :
		trigger->tg_trigslot;
	new_slot = TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ?
		trigger->tg_trigslot :
		TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newslot : NULL;
	if (which == CMQ_PENDING)
	{
		CmqPendingKey key;

		if (old_slot)
		{
			cmq_slot_key(old_slot, &key);
			cmq_pending_removed(queue, &key);
		}
		if (new_slot)
		{
			cmq_slot_key(new_slot, &key);
			cmq_pending_added(queue, &key);
		}
	}
	else
	{
		if (old_slot)
			rewind_row_removed(queue, old_slot);
		if (new_slot)
			rewind_row_added(queue, new_slot);
	}
	return PointerGetDatum(NULL);
}

/* Bring the clock above the deletes in the history: reads all of it. */
static void
advance_to_deletes(CmqQueue *queue)
{
	for (int i = 0; i < queue->nleaves; i++)
	{
		CmqScan		scan;

		cmq_scan_begin(&scan, queue, queue->leaves[i].rewind, CMQ_REWIND,
					   SnapshotAny);
		while (cmq_scan_next(&scan))
			cmq_clock_advance(queue->shared,
							  cmq_slot_time(scan.slot, Anum_rewind_deleted_at));
		cmq_scan_end(&scan);
	}
}

/*
 * Trigger on the message and the rewind table of a queue, after statements that are
 * not ours and have added rows.
 */
Datum
cmq_messages_added(PG_FUNCTION_ARGS)
{
	CmqTableKind which;
	CmqQueue   *queue = trigger_queue(fcinfo, false, &which);

	if (queue == NULL)
		return PointerGetDatum(NULL);
	if (which == CMQ_MESSAGES)
	{
		TimestampTz newest = cmq_queue_newest(queue);

		if (newest != DT_NOBEGIN)
			cmq_clock_advance(queue->shared, newest);
		cmq_xact_wake_all(queue->shared);
	}
	/* a change of a few rows by hand must not read all of the history */
	else if (which == CMQ_REWIND && IsLogicalWorker())
		advance_to_deletes(queue);
	return PointerGetDatum(NULL);
}
