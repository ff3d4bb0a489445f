/*-------------------------------------------------------------------------
 *
 * cmq_forget.c
 *	  Remove the history that was forgotten when rewind was switched off.
 *
 * Switching rewind off touches no message: it raises history_since in the queue's row.
 * From then on nobody finds what was deleted before (cmq_bounds_has_forgotten()), also
 * after rewind has been switched on again.  Alter waits until no delete is open, so each
 * delete has committed with an earlier deleted_at, or will have a later one.
 * history_since never moves backward: a row that nobody removes stays hidden.
 *
 * What is left of each forgotten message, a rewind row and the message, is removed by
 * maintenance.  Leaves in which nothing is pending go as a whole, if rewind is off
 * (cmq_leaf_drop_old()).  In the others, passes from the oldest row to the newest remove
 * what has been forgotten, some rows in each transaction.  A pending message has no
 * rewind row, and one deleted since has a later deleted_at: neither is touched.  A
 * message and its rewind row go in one transaction.  Only another maintenance changes
 * them meanwhile: a pass waits for nothing, and leaves a row that is not to be had to the
 * next pass.  A pass that has met nothing forgotten is the last: the queue then has no
 * leftovers.
 *
 * Invariant: a queue without leftovers has no forgotten row.
 *
 * Ways to break it, and the answers:
 *
 * 1. A pass cannot look at a leaf or remove a row, which another transaction has.  The
 *	  pass has met something, and another one follows.
 * 2. A transaction removes rows, goes on into the next pass, which does not see them, and
 *	  rolls back.  The next call would go on behind these rows and meet nothing.  So
 *	  each end of a transaction but a commit, and each rollback to a savepoint, notes
 *	  that the pass under way has met something.
 * 3. Rewind is switched on and off again while a pass is under way.  history_since has
 *	  changed: the pass does not end the leftovers, and the next call begins a new one.
 *
 * Where a pass stands is in the queue's shared entry, for the next process to go on
 * there.
 *
 * Locks: RowExclusive on the leaves, and at the end the queue lock, neither waited for;
 * the mutex of the shared entry for the pass.
 * Abort: see 2.  Crash: the first pass begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/lmgr.h"
#include "utils/timestamp.h"

#include "memory/cmq_notes.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "worker/cmq_forget.h"
#include "worker/cmq_portion.h"

/* How many rows one call looks at. */
#define ROWS_AT_A_TIME 10000

/* What one call does of a pass. */
typedef struct Call
{
	CmqQueue   *queue;
	CmqForgetting pass;
	int			nrows;			/* so many may still be looked at */
	bool		removed;		/* some of them */
} Call;

/*
 * Remove the message whose rewind row the scan stands at.  If only the message could
 * be removed, the next pass removes the row.
 */
static bool
remove_row(CmqTable *messages, CmqTable *rewind)
{
	TimestampTz time = cmq_slot_time(rewind->slot, Anum_rewind_enqueued_at);

	if (cmq_table_find(messages, time, 0) &&
		cmq_table_delete(messages, false) == TM_BeingModified)
		return false;
	return cmq_table_delete(rewind, false) == TM_Ok;
}

/* Remove what has been forgotten of the rest of a leaf, which is locked. */
static void
remove_rows(Call *call, CmqTable *messages, CmqTable *rewind)
{
	cmq_table_range(rewind, call->pass.next, DT_NOEND, false);
	while (call->nrows > 0 && cmq_table_next(rewind))
	{
		call->nrows--;
		call->pass.next = cmq_slot_time(rewind->slot,
										Anum_rewind_enqueued_at) + 1;
		if (!cmq_bounds_has_forgotten(call->queue,
									  cmq_slot_time(rewind->slot,
													Anum_rewind_deleted_at)))
			continue;
		call->pass.met = true;
		if (remove_row(messages, rewind))
			call->removed = true;
	}
}

/* Look at the rest of a leaf, if it can be locked without waiting. */
static void
look_at_leaf(Call *call, const CmqLeaf *leaf)
{
	CmqTable	messages;
	CmqTable	rewind;

	if (!ConditionalLockRelationOid(leaf->rewind, RowExclusiveLock) ||
		!ConditionalLockRelationOid(leaf->messages, RowExclusiveLock))
	{
		call->pass.met = true;
		return;
	}
	if (!cmq_table_open(&rewind, NULL, call->queue, leaf->rewind, CMQ_REWIND,
						RowExclusiveLock))
		return;
	if (cmq_table_open(&messages, NULL, call->queue, leaf->messages,
					   CMQ_MESSAGES, RowExclusiveLock))
	{
		remove_rows(call, &messages, &rewind);
		cmq_table_close(&messages);
	}
	cmq_table_close(&rewind);
}

/* Nothing forgotten is left, unless rewind was switched off again: note that. */
static void
note_done(CmqQueue *queue, const CmqForgetting *pass)
{
	CmqDescription changed;

	queue = cmq_queue_try_lock(queue);
	if (queue == NULL || queue->history_since != pass->since)
		return;
	changed = *queue;
	changed.leftovers = false;
	cmq_catalog_update_queue(&changed);
}

/*
 * Maintenance: remove some of what the queue has forgotten.  A call looks at
 * ROWS_AT_A_TIME rows at most; the next one, best in another transaction, goes on
 * there.
 */
CmqStepResult
cmq_forget_some(CmqQueue *queue)
{
	Call		call = {.queue = queue,.nrows = ROWS_AT_A_TIME};
	bool		at_end;

	if (!queue->leftovers)
		return CMQ_STEP_DONE;
	cmq_queue_attach(queue);
	call.pass = cmq_notes_get_pass(queue->shared, queue->history_since);
	for (int i = 0; i < queue->nleaves && call.nrows > 0; i++)
	{
		if (queue->leaves[i].upper > call.pass.next)
			look_at_leaf(&call, &queue->leaves[i]);
	}
	CommandCounterIncrement();
	at_end = call.nrows > 0;
	call.pass.removed |= call.removed;
	/* a rollback undoes what was removed */
	cmq_xact_forgets(queue->shared);
	cmq_notes_put_pass(queue->shared, &call.pass, at_end);
	if (!at_end)
		return call.removed ? CMQ_STEP_MORE : CMQ_STEP_LOOKING;
	if (!call.pass.met)
		note_done(queue, &call.pass);
	return call.pass.removed ? CMQ_STEP_MORE : CMQ_STEP_DONE;
}
