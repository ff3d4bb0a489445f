/*-------------------------------------------------------------------------
 *
 * cmq_find.c
 *	  Find messages that wait by their ids.
 *
 * A message waits if it is ready or delayed, which includes those that a rewind under way
 * brings back.  One in flight does not, nor does one that another transaction is taking at
 * this moment: nobody waits for that.
 *
 * Each is looked for among the pending rows (cmq_by_id.c), and then among the due ones.
 * Memory grows with the ids alone.  What was found may be taken by others: the caller looks
 * again.
 *
 * Locks: the caller has the pending table open; those of cmq_by_id.c, and RowExclusive on
 * rewind leaves with due rows.  Abort: nothing was written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/timestamp.h"

#include "base/cmq_handle.h"
#include "store/cmq_bounds.h"
#include "store/cmq_by_id.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_find.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

/* Does a message with this pending row wait? */
static bool
waits(const CmqPendingRow *row, TimestampTz now)
{
	return row->receive_count == 0 || row->visible_at <= now;
}

/* The times of these ids, but of messages that have expired; returns how many. */
static int
get_times(CmqFind *find, const int64 *ids, int nids, CmqById *messages)
{
	TimestampTz expired_before = cmq_bounds_expired_before(find->queue,
														   find->now);
	int			n = 0;

	for (int i = 0; i < nids; i++)
	{
		if (cmq_msg_id_to_time(ids[i], &messages[n].time) &&
			messages[n].time >= expired_before)
			n++;
	}
	return n;
}

/* Move find->rewind.table to the row of a message that is due; false if it is not. */
static bool
find_due(CmqFind *find, TimestampTz time)
{
	CmqTable   *rewind = &find->rewind.table;

	return find->queue->rewinding.active &&
		cmq_leaf_rows_find(&find->rewind, time) && !rewind->busy &&
		cmq_slot_is_due(&find->queue->rewinding, rewind->slot);
}

/* Where the message waits, when it was looked for among the pending rows. */
static CmqWaits
get_place(CmqFind *find, const CmqById *message)
{
	if (message->found)
		return waits(&message->row, find->now) ? CMQ_WAITS_PENDING : CMQ_WAITS_NOT;
	return find_due(find, message->time) ? CMQ_WAITS_DUE : CMQ_WAITS_NOT;
}

/*
 * Find messages with these ids, which are ordered, each once; the pending table is open.
 * lockmode is that of cmq_by_id_find().  To be followed by cmq_find_end().
 */
void
cmq_find_begin(CmqFind *find, CmqQueue *queue, CmqTable *pending,
			   TimestampTz now, LOCKMODE lockmode, const int64 *ids, int nids)
{
	CmqById    *messages = palloc(sizeof(CmqById) * Max(nids, 1));

	memset(find, 0, sizeof(*find));
	find->queue = queue;
	find->pending = pending;
	find->now = now;
	find->n = get_times(find, ids, nids, messages);
	find->found = palloc(sizeof(CmqFound) * Max(nids, 1));
	cmq_leaf_rows_begin(&find->rewind, queue, CMQ_REWIND, RowExclusiveLock, NULL);
	cmq_by_id_find(queue, pending, now, lockmode, messages, find->n);
	for (int i = 0; i < find->n; i++)
	{
		find->found[i].time = messages[i].time;
		find->found[i].visible_at = messages[i].row.visible_at;
		find->found[i].place = get_place(find, &messages[i]);
	}
	pfree(messages);
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
	CmqPendingRow row;

	if (found->place != CMQ_WAITS_PENDING)
		return found->place == CMQ_WAITS_DUE && find_due(find, found->time);
	if (!cmq_table_find(find->pending, found->visible_at, found->time) ||
		find->pending->busy)
		return false;
	cmq_pending_row(find->pending->slot, &row);
	return waits(&row, find->now);
}
