/*-------------------------------------------------------------------------
 *
 * cmq_history.c
 *	  The history of a queue in a window of time.
 *
 * History is what the view cmq.q_<queue>_history shows: soft-deleted messages
 * that can still be rewound and that no rewind under way brings back.  A scan
 * walks the rewind leaves of the window in production order, with a dirty
 * snapshot: what others have deleted but not committed is not history yet.  A report
 * walks them with the snapshot of its statement.  With a filter, or when bodies are
 * wanted, the message of each row is looked up by its key.  Memory does not grow with
 * the number of messages.
 *
 * A call that switches rewind off waits for transactions that write to the queue, and not
 * for those that read it.  So a scan may meet only a part of the history: then its end
 * raises an error.
 *
 * Locks: the caller has locked the pending table, which the scan keeps open, so that code
 * that runs in our own session neither drops the queue nor switches rewind off.
 * AccessShare on message leaves, and the lock that the caller wants on rewind leaves,
 * to the end of the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_history.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

/* Raise 55000 unless the queue keeps history. */
void
cmq_history_require(CmqQueue *queue)
{
	if (queue->rewind_seconds == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rewind is off for queue \"%s\"", queue->name),
				 errdetail("Its rewind_seconds is 0: deleted messages are not kept."),
				 errhint("Switch it on for what is deleted from now on: SELECT cmq_alter_queue(%s, rewind_seconds => %s).",
						 quote_literal_cstr(queue->name),
						 cmq_rights_is_readable(queue) ?
						 psprintf("%d", queue->msg_retention_seconds) :
						 "..")));
}

/*
 * Is the message history whose rewind row is in the slot?  Not if the queue has forgotten
 * it, nor if the rewind under way brings it back; where the window begins is for the
 * caller.
 */
bool
cmq_slot_is_history(CmqQueue *queue, TupleTableSlot *slot)
{
	return !cmq_bounds_has_forgotten(queue,
									 cmq_slot_time(slot, Anum_rewind_deleted_at)) &&
		!cmq_slot_is_due(&queue->rewinding, slot);
}

/*
 * Begin a scan; with_messages: the message of each row is wanted, too.  lockmode is that
 * of the rewind leaves.  The caller has opened the queue, and the window stays.  To be
 * followed by cmq_history_end().
 */
void
cmq_history_begin(CmqHistory *history, CmqQueue *queue,
				  const CmqWindow *window, bool with_messages,
				  LOCKMODE lockmode)
{
	memset(history, 0, sizeof(*history));
	history->queue = queue;
	history->window = window;
	history->pending = relation_open(queue->pending, NoLock);
	history->from = Max(window->start,
						cmq_bounds_rewindable_since(queue,
													cmq_queue_now(queue)));
	history->with_messages = with_messages || window->has_filter;
	history->lockmode = lockmode;
	cmq_message_rows_begin(&history->messages, queue, AccessShareLock);
}

/* Let the scan, which has not moved yet, show what this snapshot sees. */
void
cmq_history_see_as(CmqHistory *history, Snapshot snapshot)
{
	history->seen_by = history->messages.seen_by = snapshot;
}

static void
close_leaf(CmqHistory *history)
{
	if (history->open)
		cmq_table_close(&history->rewind);
	history->open = false;
}

/*
 * Raises 55000 if rewind was switched off since the caller has opened the queue: then what
 * it has read of the history may be a part.
 */
void
cmq_history_check(CmqQueue *queue)
{
	if (cmq_queue_again(queue)->history_since != queue->history_since)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the history of queue \"%s\" was forgotten while it was read",
						queue->name),
				 errdetail("Rewind has been switched off meanwhile.")));
}

/* Warns of messages that could not be had.  Raises 55000 as cmq_history_check(). */
void
cmq_history_end(CmqHistory *history)
{
	close_leaf(history);
	cmq_message_rows_end(&history->messages);
	cmq_history_check(history->queue);
	cmq_message_rows_warn(history->queue, history->nunreadable);
	relation_close(history->pending, NoLock);
}

/* Open the rewind table of the next leaf of the window; false if there is none. */
static bool
open_leaf(CmqHistory *history)
{
	CmqQueue   *queue = history->queue;

	while (history->leaf < queue->nleaves)
	{
		CmqLeaf    *leaf = &queue->leaves[history->leaf++];

		/* none of this is left if the leaf has been dropped */
		history->open = leaf->upper > history->from &&
			leaf->lower < history->window->end &&
			cmq_table_open(&history->rewind, NULL, queue, leaf->rewind,
						   CMQ_REWIND, history->lockmode);
		if (history->open)
		{
			history->rewind.seen_by = history->seen_by;
			cmq_table_range(&history->rewind, history->from,
							history->window->end, false);
			return true;
		}
	}
	return false;
}

/* Is the message wanted whose row the scan of the leaf stands at? */
static bool
is_wanted(CmqHistory *history)
{
	if (!cmq_slot_is_history(history->queue, history->rewind.slot))
		return false;
	history->time = cmq_slot_time(history->rewind.slot, Anum_rewind_enqueued_at);
	cmq_slot_topic(history->rewind.slot, Anum_rewind_topic, history->topic);
	if (!history->with_messages)
		return true;
	if (!cmq_message_rows_find(&history->messages, history->time, history->topic))
	{
		history->nunreadable += history->messages.unreadable;
		return false;
	}
	return !history->window->has_filter ||
		cmq_slot_headers_contain(history->messages.slot, history->window->filter);
}

/*
 * Move to the next message of the history, into history->rewind.slot and, if
 * wanted, history->messages.slot; false at the end.
 */
bool
cmq_history_next(CmqHistory *history)
{
	while (history->open || open_leaf(history))
	{
		while (cmq_table_next(&history->rewind))
		{
			if (is_wanted(history))
				return true;
		}
		close_leaf(history);
	}
	return false;
}
