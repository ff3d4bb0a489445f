/*-------------------------------------------------------------------------
 *
 * cmq_find.c
 *	  Find messages that wait by their ids.
 *
 * A message waits if it is ready or delayed, which includes those that a rewind under way
 * brings back.  One in flight does not, nor does one that another transaction is taking at
 * this moment: nobody waits for that.
 *
 * The primary key of the pending table begins with visible_at, and a message is known by
 * enqueued_at alone.  So each message is looked for
 *	1. at visible_at = enqueued_at, where those are that were never delayed or received,
 *	   and restored ones
 *	2. among the due rows
 *	3. if it still exists and is no history, by one scan of the pending table for all that
 *	   are left, from the earliest of them on
 * Ids of messages that are gone cost a few probes, and no scan.  Memory grows with the ids
 * alone.  What was found may be taken by others: the caller looks again.
 *
 * Locks: the caller has the pending table open; RowExclusive on the rewind leaves,
 * AccessShare on the message leaves.  Abort: nothing was written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/timestamp.h"

#include "base/cmq_handle.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_find.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_table.h"

/* Does the message wait whose pending row the table stands at? */
static bool
waits(CmqTable *pending, TimestampTz now)
{
	return !pending->busy &&
		(cmq_slot_int(pending->slot, Anum_pending_receive_count) == 0 ||
		 cmq_slot_time(pending->slot, Anum_pending_visible_at) <= now);
}

/* The times of these ids, but of messages that have expired. */
static void
set_times(CmqFind *find, const int64 *ids, int nids)
{
	TimestampTz expired_before = cmq_bounds_expired_before(find->queue,
														   find->now);

	find->found = palloc(sizeof(CmqFound) * Max(nids, 1));
	for (int i = 0; i < nids; i++)
	{
		CmqFound   *found = &find->found[find->n];

		if (cmq_msg_id_to_time(ids[i], &found->time) &&
			found->time >= expired_before)
			find->n++;
	}
}

/* Look for a message where most are; messages are the leaves, to see whether it exists. */
static void
look_first(CmqFind *find, CmqFound *found, CmqLeafRows *messages)
{
	CmqTable   *pending = find->pending;
	CmqLeafRows *rewind = &find->rewind;

	found->place = CMQ_WAITS_NOT;
	if (cmq_table_find(pending, found->time, found->time))
	{
		if (waits(pending, find->now))
		{
			found->place = CMQ_WAITS_PENDING;
			found->visible_at = found->time;
		}
	}
	else if (find->queue->rewind_seconds > 0 &&
			 cmq_leaf_rows_find(rewind, found->time))
	{
		if (!rewind->table.busy &&
			cmq_slot_is_due(&find->queue->rewinding, rewind->table.slot))
			found->place = CMQ_WAITS_DUE;
	}
	else if (cmq_leaf_rows_find(messages, found->time))
		found->place = CMQ_WAITS_SOMEWHERE;
}

static int
compare(const void *a, const void *b)
{
	TimestampTz x = ((const CmqFound *) a)->time;
	TimestampTz y = ((const CmqFound *) b)->time;

	return x < y ? -1 : x > y;
}

/* Find nleft messages that are somewhere in the pending table, none before first. */
static void
scan_pending(CmqFind *find, int nleft, TimestampTz first)
{
	CmqTable   *pending = find->pending;

	cmq_table_range(pending, first, DT_NOEND, true);
	while (nleft > 0 && cmq_table_next(pending))
	{
		CmqFound	key = {
			.time = cmq_slot_time(pending->slot, Anum_pending_enqueued_at)
		};
		CmqFound   *found = bsearch(&key, find->found, find->n,
									sizeof(CmqFound), compare);

		if (found == NULL || found->place != CMQ_WAITS_SOMEWHERE)
			continue;
		nleft--;
		found->place = waits(pending, find->now) ? CMQ_WAITS_PENDING : CMQ_WAITS_NOT;
		found->visible_at = cmq_slot_time(pending->slot, Anum_pending_visible_at);
	}
}

/*
 * Find messages with these ids, which are ordered, each once; the pending table is open.  To
 * be followed by cmq_find_end().
 */
void
cmq_find_begin(CmqFind *find, CmqQueue *queue, CmqTable *pending,
			   TimestampTz now, const int64 *ids, int nids)
{
	CmqLeafRows messages;
	TimestampTz first = DT_NOEND;
	int			nleft = 0;

	memset(find, 0, sizeof(*find));
	find->queue = queue;
	find->pending = pending;
	find->now = now;
	set_times(find, ids, nids);
	cmq_leaf_rows_begin(&find->rewind, queue, CMQ_REWIND, RowExclusiveLock, NULL);
	cmq_leaf_rows_begin(&messages, queue, CMQ_MESSAGES, AccessShareLock, NULL);
	for (int i = 0; i < find->n; i++)
	{
		look_first(find, &find->found[i], &messages);
		if (find->found[i].place == CMQ_WAITS_SOMEWHERE && nleft++ == 0)
			first = find->found[i].time;
	}
	cmq_leaf_rows_end(&messages);
	if (nleft > 0)
		scan_pending(find, nleft, first);
}

void
cmq_find_end(CmqFind *find)
{
	cmq_leaf_rows_end(&find->rewind);
}

/*
 * Does the message still wait where it was found?  Then the pending table stands at its
 * row, or find->rewind.table does if it is due.
 */
bool
cmq_find_again(CmqFind *find, const CmqFound *found)
{
	if (found->place == CMQ_WAITS_PENDING)
		return cmq_table_find(find->pending, found->visible_at, found->time) &&
			waits(find->pending, find->now);
	return found->place == CMQ_WAITS_DUE &&
		cmq_leaf_rows_find(&find->rewind, found->time) &&
		cmq_slot_is_due(&find->queue->rewinding, find->rewind.table.slot);
}
