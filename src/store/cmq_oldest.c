/*-------------------------------------------------------------------------
 *
 * cmq_oldest.c
 *	  The earliest message that is not consumed, of queues with millions of
 *	  pending messages.
 *
 * The pending table is in the order of visible_at; no index has its rows in the order
 * of production.  A small table is read from end to end.  With a large one the messages
 * are walked in the order of production, side by side with the rewind rows: the first
 * message that no rewind row calls consumed is the earliest.  The walk begins at a mark
 * in shared memory, before which no pending row was produced (cmq_earliest.c).
 *
 * The mark follows the consumers, raised by
 *	- a walk, to the first message that it found not consumed
 *	- a read of the whole pending table, to the earliest row in it, expired or not: that of
 *	  a call for a small table, and of maintenance after it has removed what is expired
 * Each reads the mark first, then the description of the queue, then the tables, and
 * then raises the mark.  Two kinds of messages are not pending and will be, or may be:
 *	- What a rewind under way has yet to bring back.  A walk takes it for not consumed.
 *	  A read of the pending table alone raises the mark no higher than the start of the
 *	  rewind (not_above_rewind()).
 *	- What others have deleted and not committed.  The walk does not see their rewind
 *	  rows, and takes the messages for not consumed.  A scan of the pending table still
 *	  sees the rows.
 *
 * So a call takes time in proportion to what was consumed since the last one,
 * or since maintenance did it; and, for the counts, to what is in flight or
 * delayed.  cmq.status has tables walked that are not quite small.  A table known to
 * have no rows is not looked at.  The whole pending
 * table is read when so much was consumed that this is faster, while expired
 * messages wait for maintenance to remove them, and by the first call after a
 * start of the server if that comes before maintenance.
 *
 * Locks: AccessShare on the tables, for as long as they are read; on the pending table,
 * where its index is read, to the end of the transaction.
 * Abort: the mark stays; it is right whatever becomes of our transaction.  Crash: it
 * begins anew at the beginning of time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/snapshot.h"
#include "utils/timestamp.h"

#include "memory/cmq_clock.h"
#include "memory/cmq_earliest.h"
#include "store/cmq_bounds.h"
#include "store/cmq_cache.h"
#include "store/cmq_counting.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_oldest.h"
#include "store/cmq_queue.h"
#include "store/cmq_scan.h"
#include "store/cmq_shape.h"
#include "store/cmq_states.h"
#include "store/cmq_table.h"

/* Up to so many pages, 8 MB, the pending table is read. */
#define SMALL_TABLE_PAGES (8 * 1024 * 1024 / BLCKSZ)

/* The same for calls that are made time and again. */
#define TINY_TABLE_PAGES (128 * 1024 / BLCKSZ)

/* Beyond so many steps of a walk, reading the pending table is faster. */
#define STEPS_PER_PAGE 4

static int64
pending_pages(CmqQueue *queue)
{
	return cmq_scan_pages(queue, queue->pending, CMQ_PENDING);
}

/* Is the pending table so small that reading it takes but a moment? */
bool
cmq_oldest_is_small(CmqQueue *queue)
{
	return pending_pages(queue) <= SMALL_TABLE_PAGES;
}

/*
 * The description as it is after the mark has been read, whether or not an
 * invalidation has arrived: a rewind that has ended since the last look holds the
 * mark no more.
 */
static CmqQueue *
look_afresh(CmqQueue *queue)
{
	cmq_cache_mark_stale(queue->name);
	return cmq_queue_again(queue);
}

/*
 * Does the rewind row that the scan stands at say that the message of this time is
 * consumed?  Not if a rewind brings it back or it just came back; what the queue has
 * forgotten always is, though maintenance may be removing it.
 */
static bool
is_consumed(CmqQueue *queue, CmqTable *rewind, TimestampTz time)
{
	if (cmq_slot_time(rewind->slot, Anum_rewind_enqueued_at) != time)
		return false;
	return cmq_bounds_has_forgotten(queue,
									cmq_slot_time(rewind->slot,
												  Anum_rewind_deleted_at)) ||
		(!rewind->busy && !cmq_slot_is_due(&queue->rewinding, rewind->slot));
}

/* The same as walk(), in one leaf; takes the steps that it made off *steps. */
static TimestampTz
walk_leaf(CmqQueue *queue, const CmqLeaf *leaf, TimestampTz from, int64 *steps)
{
	TimestampTz first = DT_NOEND;
	CmqTable	messages;
	CmqTable	rewind;
	bool		more;

	if (!cmq_table_open(&messages, NULL, queue, leaf->messages, CMQ_MESSAGES,
						AccessShareLock))
		return DT_NOEND;
	if (!cmq_table_open(&rewind, NULL, queue, leaf->rewind, CMQ_REWIND,
						AccessShareLock))
	{
		cmq_table_release(&messages);
		return DT_NOEND;
	}
	cmq_table_range(&messages, from, DT_NOEND, false);
	cmq_table_range(&rewind, from, DT_NOEND, false);
	more = cmq_table_next(&rewind);
	while (first == DT_NOEND && (*steps)-- > 0 && cmq_table_next(&messages))
	{
		TimestampTz time = cmq_slot_time(messages.slot,
										 Anum_messages_enqueued_at);

		while (more &&
			   cmq_slot_time(rewind.slot, Anum_rewind_enqueued_at) < time)
			more = cmq_table_next(&rewind);
		if (more && is_consumed(queue, &rewind, time))
			continue;

		/* or maintenance has removed it since, forgotten as it was */
		if (cmq_table_find(&messages, time, 0))
			first = time;
		else
			cmq_table_range(&messages, time + 1, DT_NOEND, false);
	}
	cmq_table_release(&rewind);
	cmq_table_release(&messages);
	return first;
}

/*
 * Find the first message from the given time on that is not consumed, DT_NOEND
 * if there is none.  False, and DT_NOEND, if that would take more than so many steps.
 */
static bool
walk(CmqQueue *queue, TimestampTz from, int64 steps, TimestampTz *first)
{
	*first = DT_NOEND;
	for (int i = 0; i < queue->nleaves && *first == DT_NOEND && steps >= 0; i++)
	{
		if (queue->leaves[i].upper > from)
			*first = walk_leaf(queue, &queue->leaves[i], from, &steps);
	}
	return steps >= 0;
}

/*
 * Find the earliest message of a queue by a walk from the mark on, and raise the mark.
 * False if the pending table is to be read: it has no more than so many pages, or
 * something in it has expired, or the walk would be too long.
 */
static bool
find_earliest(CmqQueue *queue, TimestampTz now, int64 small,
			  TimestampTz *earliest)
{
	int64		pages = pending_pages(queue);
	CmqEarliestScan scan;

	*earliest = DT_NOEND;
	if (queue->shared == NULL || pages <= small)
		return false;
	cmq_earliest_read(queue->shared, &scan);
	queue = look_afresh(queue);

	/* messages in journals are not in its leaves */
	if (queue->has_journals)
		return false;
	if (scan.view.time < cmq_bounds_expired_before(queue, now) ||
		!walk(queue, scan.view.time, pages * STEPS_PER_PAGE, earliest))
		return false;
	cmq_earliest_raise(queue->shared, &scan, *earliest);
	return true;
}

/*
 * Count the pending messages of a large queue by state: their number is known, and the
 * index tells which are not ready.
 */
static void
count_large(CmqQueue *queue, TimestampTz now, CmqStates *states)
{
	CmqTable	pending;

	if (!cmq_table_open(&pending, NULL, queue, queue->pending, CMQ_PENDING,
						AccessShareLock))
		return;
	cmq_states_find_hidden(states, &pending, now,
						   cmq_bounds_expired_before(queue, now));
	cmq_table_close(&pending);
	states->ready = cmq_counting_pending(queue) - states->in_flight -
		states->delayed;
	/* the two were not counted at the same moment */
	states->ready = Max(states->ready, 0);
}

/*
 * Where the mark may be by the pending table alone; queue is what look_afresh() has
 * returned before the table was read.
 */
static TimestampTz
not_above_rewind(CmqQueue *queue, TimestampTz earliest_row)
{
	return queue->rewinding.active ?
		Min(earliest_row, queue->rewinding.from) : earliest_row;
}

/*
 * Find the earliest message, and the numbers by state, by reading the whole pending table,
 * and raise the mark; in recovery there is no mark.
 */
static void
read_pending(CmqQueue *queue, TimestampTz now, CmqStates *states)
{
	CmqEarliestScan scan;

	if (queue->shared)
	{
		cmq_earliest_read(queue->shared, &scan);
		queue = look_afresh(queue);
	}
	cmq_states_scan_pending(states, queue, InvalidSnapshot, now);
	if (queue->shared)
		cmq_earliest_raise(queue->shared, &scan,
						   not_above_rewind(queue, states->earliest_row));
}

/*
 * Find the earliest message of a queue that is not consumed and, if wanted, the numbers
 * of pending messages by state.  The earliest may be one that a rewind brings back: all
 * callers ask for these, too.
 */
void
cmq_oldest_count(CmqQueue *queue, TimestampTz now, bool numbers,
				 CmqStates *states)
{
	/* a table that was large before may have no rows now */
	if (queue->shared && cmq_counting_known_empty(queue))
		return;
	if (queue->shared && !cmq_oldest_is_small(queue) &&
		cmq_counting_pending(queue) == 0)
		return;
	if (!find_earliest(queue, now, SMALL_TABLE_PAGES, &states->earliest))
		read_pending(queue, now, states);
	else if (numbers)
		count_large(queue, now, states);
}

/*
 * Find the earliest message alone, for a view that is looked at time and again: the
 * table is walked unless it is tiny, and the walk of the next look begins where this one
 * ends.  DT_NOEND if there is none.  Not in recovery.
 */
TimestampTz
cmq_oldest_look(CmqQueue *queue, TimestampTz now)
{
	CmqStates	states = cmq_states_none;

	if (!cmq_counting_known_empty(queue) &&
		!find_earliest(queue, now, TINY_TABLE_PAGES, &states.earliest))
		read_pending(queue, now, &states);
	return states.earliest;
}

/*
 * Maintenance: can there be pending rows of expired messages?  If so the whole
 * table is to be purged, and then cmq_oldest_read_all() called.
 */
bool
cmq_oldest_may_expire(CmqQueue *queue, TimestampTz expired_before)
{
	return cmq_earliest_get(queue->shared) < expired_before;
}

/* Maintenance: read the whole pending table to find where the mark can be. */
void
cmq_oldest_read_all(CmqQueue *queue)
{
	CmqStates	states = cmq_states_none;

	/* gives a time out, so that the mark can rise to it */
	read_pending(queue, cmq_clock_now(queue->shared), &states);
}

/* Maintenance: let the mark follow the consumers of a large queue. */
void
cmq_oldest_advance(CmqQueue *queue)
{
	CmqStates	states = cmq_states_none;
	TimestampTz now = cmq_queue_now(queue);

	if (!cmq_oldest_is_small(queue) &&
		!cmq_oldest_may_expire(queue, cmq_bounds_expired_before(queue, now)))
		cmq_oldest_count(queue, now, false, &states);
}
