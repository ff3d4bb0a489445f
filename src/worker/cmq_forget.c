/*-------------------------------------------------------------------------
 *
 * cmq_forget.c
 *	  Giving back the space of history that was forgotten when rewind was switched
 *	  off.
 *
 * Switching rewind off touches no message: it raises the queue's history_since, in
 * its row, and from then on what was deleted before that moment is not there for
 * anybody (cmq_queue_has_forgotten()), also after rewind has been switched on again.
 * It waits until no delete is open, so each delete has a deleted_at before that
 * moment and has committed, or a later one.  history_since never moves backward: a
 * row that nobody removes stays hidden.
 *
 * The rows that are left, each a rewind row and its message, are removed by
 * maintenance.  Leaves in which nothing is pending go as a whole
 * (cmq_leaf_drop_old(), if rewind is off); in the others, passes from the oldest row
 * to the newest remove what has been forgotten, some rows at a time, so that each
 * transaction is short.  What is pending has no rewind row, and what was deleted
 * since has a later deleted_at: neither is touched.  Passes end when one has met
 * nothing forgotten; then the queue has no leftovers.  Where a pass stands is in the
 * queue's shared entry, for the next process to go on there.  A rollback brings back
 * what it has removed: so it notes that the pass has met something, and another one
 * follows.  The same after a start of the server, which begins anew.
 *
 * A message and its rewind row go in one transaction, and nobody else changes either,
 * but another maintenance: so nothing is waited for, and a row that is not to be had
 * is left to the next round.
 *
 * Locks: RowExclusive on the leaves, if nobody has to be waited for; the queue lock
 * for a moment at the end; the mutex of the shared entry for the pass.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/lmgr.h"
#include "storage/spin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "memory/cmq_notes.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "store/cmq_table.h"
#include "worker/cmq_forget.h"
#include "worker/cmq_portion.h"

/* So many rows are looked at in one call. */
#define ROWS_AT_A_TIME 10000

/*
 * Put down how far the pass has come, unless it is over already; *pass is then what
 * is known of it, also by others.  With end it is over.
 */
static void
put_pass(CmqSharedQueue *shared, CmqForgetting *pass, bool end)
{
	cmq_xact_forgets(shared);
	cmq_notes_put_pass(shared, pass, end);
}

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

/* Look at the rest of a leaf, so many rows at most; returns how many are left. */
static int
scan_leaf(CmqQueue *queue, CmqLeaf *leaf, CmqForgetting *pass, int nrows)
{
	CmqTable	messages;
	CmqTable	rewind;

	if (!ConditionalLockRelationOid(leaf->rewind, RowExclusiveLock) ||
		!ConditionalLockRelationOid(leaf->messages, RowExclusiveLock))
	{
		pass->met = true;
		return nrows;
	}
	if (!cmq_table_open(&rewind, NULL, queue, leaf->rewind, CMQ_REWIND,
						RowExclusiveLock))
		return nrows;
	if (cmq_table_open(&messages, NULL, queue, leaf->messages, CMQ_MESSAGES,
					   RowExclusiveLock))
	{
		cmq_table_range(&rewind, pass->next, DT_NOEND, false);
		while (nrows > 0 && cmq_table_next(&rewind))
		{
			nrows--;
			pass->next = cmq_slot_time(rewind.slot, Anum_rewind_enqueued_at) + 1;
			if (!cmq_queue_has_forgotten(queue,
										 cmq_slot_time(rewind.slot,
													   Anum_rewind_deleted_at)))
				continue;
			pass->met = true;
			if (remove_row(&messages, &rewind))
				pass->removed = true;
		}
		cmq_table_close(&messages);
	}
	cmq_table_close(&rewind);
	return nrows;
}

/* Nothing forgotten is left: look for it no more. */
static void
note_done(CmqQueue *queue, const CmqForgetting *pass)
{
	CmqQueue	changed;

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
	CmqForgetting pass;
	bool		removed_before;
	int			nrows = ROWS_AT_A_TIME;

	if (!queue->leftovers)
		return CMQ_STEP_DONE;
	cmq_queue_attach(queue);
	pass = cmq_notes_get_pass(queue->shared, queue->history_since);
	removed_before = pass.removed;
	pass.removed = false;
	for (int i = 0; i < queue->nleaves && nrows > 0; i++)
	{
		if (queue->leaves[i].upper > pass.next)
			nrows = scan_leaf(queue, &queue->leaves[i], &pass, nrows);
	}
	CommandCounterIncrement();
	if (nrows == 0)
	{
		CmqStepResult result = pass.removed ? CMQ_STEP_MORE : CMQ_STEP_LOOKING;

		put_pass(queue->shared, &pass, false);
		return result;
	}

	/* the end of a pass */
	pass.removed |= removed_before;
	put_pass(queue->shared, &pass, true);
	if (!pass.met)
		note_done(queue, &pass);
	return pass.removed ? CMQ_STEP_MORE : CMQ_STEP_DONE;
}
