/*-------------------------------------------------------------------------
 *
 * cmq_clear.c
 *	  Clear a queue: remove what is pending for good.
 *
 * Pending rows are deleted one by one, in the order of their key, each with
 * its message; the history stays.  A row that another transaction is changing
 * is waited for, as delete does it: if that one commits, the message is where
 * that one put it.  Batches of deletes take rows in the same order, so the two
 * do not deadlock.  Messages that others have sent but not committed are not
 * there yet, and stay.
 *
 * A rewind under way ends: what it has not brought back is history again.  It
 * is not removed, since it was consumed once and can be rewound once more.
 *
 * Locks: the queue lock, RowExclusive on the pending table and on message
 * leaves.  Takes time in proportion to what is pending, memory does not grow.
 * A rollback brings all back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "store/cmq_rewind_log.h"
#include "store/cmq_table.h"

PG_FUNCTION_INFO_V1(cmq_clear_queue);

/* The leaf of the message removed last, kept open for the next one. */
typedef struct OpenLeaf
{
	CmqTable	messages;
	CmqLeaf    *leaf;			/* NULL: none is open */
} OpenLeaf;

static void
close_leaf(OpenLeaf *open)
{
	if (open->leaf)
		cmq_table_close(&open->messages);
	open->leaf = NULL;
}

/* Remove the message of this time; false if it is gone with its leaf. */
static bool
remove_message(CmqQueue *queue, OpenLeaf *open, TimestampTz time)
{
	CmqLeaf    *leaf = open->leaf;

	if (leaf == NULL || time < leaf->lower || time >= leaf->upper)
	{
		close_leaf(open);
		leaf = cmq_queue_leaf(queue, time);
		if (leaf == NULL ||
			!cmq_table_open(&open->messages, NULL, queue, leaf->messages,
							CMQ_MESSAGES, RowExclusiveLock))
			return false;
		open->leaf = leaf;
	}
	return cmq_table_find(&open->messages, time, 0) &&
		cmq_table_delete(&open->messages, true) == TM_Ok;
}

static int64
remove_pending(CmqQueue *queue)
{
	TimestampTz expired_before =
		cmq_queue_expired_before(queue, cmq_clock_now(queue->shared));
	CmqTable	pending;
	OpenLeaf	open = {.leaf = NULL};
	int64		n = 0;
	int64		nrows = 0;

	if (!cmq_table_open(&pending, NULL, queue, queue->pending, CMQ_PENDING,
						RowExclusiveLock))
		elog(ERROR, "pending table of queue \"%s\" vanished", queue->name);
	cmq_table_range(&pending, DT_NOBEGIN, DT_NOEND, false);
	while (cmq_table_next(&pending))
	{
		TimestampTz time = cmq_slot_time(pending.slot,
										 Anum_pending_enqueued_at);
		TimestampTz visible_at = cmq_slot_time(pending.slot,
											   Anum_pending_visible_at);

		if (cmq_table_delete(&pending, true) != TM_Ok)
			continue;
		cmq_xact_taken(queue->shared, visible_at);
		cmq_xact_taken_message(queue->shared, time);
		nrows++;
		if (remove_message(queue, &open, time) && time >= expired_before)
			n++;
	}
	close_leaf(&open);
	cmq_table_close(&pending);
	if (nrows > 0)
	{
		cmq_xact_pending(queue->shared, -nrows);
		cmq_xact_wake(queue->shared, 0,
							   (int) Min(nrows, PG_INT32_MAX));
	}
	CommandCounterIncrement();
	return n;
}

Datum
cmq_clear_queue(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	char	   *name;
	int64		n;

	cmq_begin_write("cmq_clear_queue()");
	name = cmq_queue_name_arg(fcinfo, 0);
	(void) cmq_queue_lock(name, ACL_UPDATE, ExclusiveLock);
	queue = cmq_queue_open(name, ACL_UPDATE, RowExclusiveLock);
	if (queue->rewinding.active)
		cmq_rewind_log_require_reason(queue);
	n = remove_pending(queue);

	queue = cmq_queue_again(queue);
	if (queue->rewinding.active)
	{
		CmqQueue	changed = *queue;

		memset(&changed.rewinding, 0, sizeof(changed.rewinding));
		cmq_catalog_update_queue(&changed);
		cmq_rewind_log_add(&changed, "cancel", cmq_queue_now(&changed), NULL,
						   NULL, -1);
	}
	PG_RETURN_INT64(n);
}
