/*-------------------------------------------------------------------------
 *
 * cmq_oldest.c
 *	  The earliest message that is not consumed, and the counts by state, of
 *	  queues with millions of pending messages.
 *
 * The pending table is in the order of visible_at; no index has its rows in
 * the order of production.  When the table is small it is read.  When it is
 * large the messages are walked in the order of production, side by side with
 * the rewind rows, which say which of them are consumed, until one is not.  The
 * walk does not begin with the first message, but at a mark in shared memory:
 * no pending row, expired or not, has an enqueued_at below it.
 *
 * Who may raise the mark:
 *	- a walk that began at the mark, to the first message that it found not
 *	  consumed
 *	- maintenance, when it has read the whole pending table and removed what is
 *	  expired, to the time before which all has expired
 * but never above
 *	- the last time that the queue clock has given out or remembered, read before
 *	  (a time that was only looked at is no bound for what is sent afterwards),
 *	  and what open transactions have
 *	  published in their slots (cmq_floor.c): a message that they have sent, or
 *	  one that a rewind brings back, may be older than all that can be seen
 *	- what the own transaction has consumed, since it may yet roll back
 * and not if the mark's generation has changed since it was read.  Who lowers
 * it: a rewind or a restore, to where it starts, and whoever writes the tables by
 * hand, to the beginning; all raise the generation.  A rewind and a restore also
 * keep their start in their slot until they have ended, so nobody raises the mark
 * above it meanwhile.  Messages that a rewind has yet to bring back are not in the
 * pending table, but will be: so while a rewind is under way nobody who has read
 * only that table raises the mark above where the rewind starts.
 * When the rewind is cancelled, receives that have taken such messages, or are about
 * to, may still be open: so each lowers the mark to them when it commits or is
 * prepared, after having put their time into its slot.
 * What others delete without having committed is not consumed yet: their
 * rewind rows cannot be seen.
 *
 * Whoever holds the queue lock, and a pair of leaves for himself, can rely on the mark
 * for that pair: nobody who could lower it is under way (cmq_leaf.c).
 *
 * So a call takes time in proportion to what was consumed since the last one,
 * or since maintenance did it; and, for the counts, to what is in flight or
 * delayed.  A table known to have no rows is not looked at.  The whole pending
 * table is read when so much was consumed that this is faster, while expired
 * messages wait for maintenance to remove them, and by the first call after a
 * start of the server if that comes before maintenance.
 *
 * Locks: AccessShare on the tables read, on leaves for as long as they are read; the
 * mutex of the shared entry for the mark.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_earliest.h"
#include "store/cmq_bounds.h"
#include "store/cmq_counting.h"
#include "store/cmq_description.h"
#include "store/cmq_oldest.h"
#include "store/cmq_queue.h"
#include "store/cmq_table.h"

/* Up to so many pages, 8 MB, the pending table is read. */
#define SMALL_TABLE_PAGES (8 * 1024 * 1024 / BLCKSZ)

/* Beyond so many steps of a walk, reading the pending table is faster. */
#define STEPS_PER_PAGE 4

/*
 * Load the description of the queue after the mark has been read, and before
 * the pending table is, without waiting for an invalidation.
 */
static CmqQueue *
look_afresh(CmqQueue *queue)
{
	cmq_queue_mark_stale(queue->name);
	queue = cmq_queue_lookup(queue->name);
	cmq_queue_attach(queue);
	return queue;
}

/*
 * Where the mark may be by the pending table alone; queue is what
 * look_afresh() has returned before the table was read.
 */
static TimestampTz
not_above_rewind(CmqQueue *queue, TimestampTz oldest)
{
	return queue->rewinding.active ? Min(oldest, queue->rewinding.from) : oldest;
}

/*
 * Does the rewind row that the scan stands at say that the message of this time is
 * consumed?  Not if a rewind brings it back or it just came back; what the queue has
 * forgotten never does, though maintenance may be removing it.
 */
static bool
is_consumed(CmqQueue *queue, CmqTable *rewind, TimestampTz time)
{
	TimestampTz deleted_at;

	if (cmq_slot_time(rewind->slot, Anum_rewind_enqueued_at) != time)
		return false;
	deleted_at = cmq_slot_time(rewind->slot, Anum_rewind_deleted_at);
	if (cmq_queue_has_forgotten(queue, deleted_at))
		return true;
	return !rewind->busy &&
		!cmq_rewind_is_due(&queue->rewinding, time, deleted_at,
						   cmq_slot_int64(rewind->slot,
										  Anum_rewind_deleted_xact));
}

/*
 * Find the first message from the given time on that is not consumed, DT_NOEND
 * if there is none.  False if that would take more than so many steps.
 */
static bool
walk(CmqQueue *queue, TimestampTz from, int64 steps, TimestampTz *result)
{
	TimestampTz first = DT_NOEND;

	for (int i = 0; i < queue->nleaves && first == DT_NOEND; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];
		CmqTable	messages;
		CmqTable	rewind;
		bool		more = true;

		if (leaf->upper <= from ||
			!cmq_table_open(&messages, NULL, queue, leaf->messages, CMQ_MESSAGES,
							AccessShareLock))
			continue;
		if (!cmq_table_open(&rewind, NULL, queue, leaf->rewind, CMQ_REWIND,
							AccessShareLock))
		{
			cmq_table_release(&messages);
			continue;
		}
		cmq_table_range(&messages, from, DT_NOEND, false);
		cmq_table_range(&rewind, from, DT_NOEND, false);
		more = cmq_table_next(&rewind);
		while (first == DT_NOEND && steps-- > 0 && cmq_table_next(&messages))
		{
			TimestampTz time = cmq_slot_time(messages.slot,
											 Anum_messages_enqueued_at);

			while (more && cmq_slot_time(rewind.slot,
										 Anum_rewind_enqueued_at) < time)
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
	}
	*result = first;
	return steps >= 0;
}

static int64
count_pages(CmqQueue *queue)
{
	Relation	rel = cmq_table_open_heap(queue, queue->pending, CMQ_PENDING);
	int64		pages;

	if (rel == NULL)
		return 0;
	pages = RelationGetNumberOfBlocks(rel);
	relation_close(rel, AccessShareLock);
	return pages;
}

/* Is the pending table so small that reading it takes but a moment? */
bool
cmq_oldest_is_small(CmqQueue *queue)
{
	return count_pages(queue) <= SMALL_TABLE_PAGES;
}

/* Count what is in flight or delayed; nothing pending has expired. */
static void
count_hidden(CmqQueue *queue, TimestampTz now, CmqCounts *counts)
{
	CmqTable	pending;

	if (!cmq_table_open(&pending, NULL, queue, queue->pending, CMQ_PENDING,
						AccessShareLock))
		return;
	cmq_table_range(&pending, now + 1, DT_NOEND, false);
	while (cmq_table_next(&pending))
	{
		if (cmq_slot_int(pending.slot, Anum_pending_receive_count) == 0)
			counts->delayed++;
		else
			counts->in_flight++;
	}
	cmq_table_close(&pending);
}

/*
 * min_msg_time of a queue's pending messages and, if wanted, their numbers by
 * state, as cmq_count_pending() has them.  Messages that a rewind brings back
 * may be taken for pending in min_msg_time, which they are for those who ask.
 */
void
cmq_oldest_count(CmqQueue *queue, TimestampTz now, bool numbers,
				 CmqCounts *counts)
{
	CmqEarliestScan	scan;
	Snapshot	snapshot;
	int64		pages = count_pages(queue);

	/* however large it has been */
	if (queue->shared && cmq_counting_known_empty(queue))
		return;
	if (queue->shared && pages > SMALL_TABLE_PAGES)
	{
		if (cmq_counting_pending(queue) == 0)
			return;
		cmq_earliest_read(queue->shared, &scan);

		/* a rewind that has ended meanwhile holds the mark down no more */
		queue = look_afresh(queue);
		if (scan.view.time >= cmq_queue_expired_before(queue, now) &&
			walk(queue, scan.view.time, pages * STEPS_PER_PAGE,
				 &counts->min_msg_time))
		{
			cmq_earliest_raise(queue->shared, &scan, counts->min_msg_time);
			if (numbers)
			{
				count_hidden(queue, now, counts);
				counts->ready = cmq_counting_pending(queue) -
					counts->in_flight - counts->delayed;
				/* somebody was at work meanwhile */
				counts->ready = Max(counts->ready, 0);
			}
			return;
		}
	}
	counts->oldest = counts->min_msg_time = DT_NOEND;
	if (queue->shared)
	{
		cmq_earliest_read(queue->shared, &scan);
		queue = look_afresh(queue);
	}
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	cmq_count_pending(queue, snapshot, now, counts);
	UnregisterSnapshot(snapshot);
	if (queue->shared)
		cmq_earliest_raise(queue->shared, &scan, not_above_rewind(queue, counts->oldest));
}

/*
 * Maintenance: can there be pending rows of expired messages?  If so the whole
 * table is to be purged, and then cmq_oldest_settle() called.
 */
bool
cmq_oldest_may_expire(CmqQueue *queue, TimestampTz expired_before)
{
	CmqEarliestScan	scan;

	cmq_earliest_read(queue->shared, &scan);
	return scan.view.time < expired_before;
}

/* Read the whole pending table to find where the mark can be. */
void
cmq_oldest_settle(CmqQueue *queue)
{
	CmqCounts	counts = {.min_msg_time = DT_NOEND,.oldest = DT_NOEND};
	TimestampTz now = cmq_clock_now(queue->shared);
	CmqEarliestScan	scan;
	Snapshot	snapshot;

	cmq_earliest_read(queue->shared, &scan);
	queue = look_afresh(queue);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	cmq_count_pending(queue, snapshot, now, &counts);
	UnregisterSnapshot(snapshot);
	cmq_earliest_raise(queue->shared, &scan, not_above_rewind(queue, counts.oldest));
}

/* Maintenance: let the mark follow the consumers of a large queue. */
void
cmq_oldest_advance(CmqQueue *queue)
{
	CmqCounts	counts = {.min_msg_time = DT_NOEND};
	TimestampTz now = cmq_queue_now(queue);

	if (count_pages(queue) > SMALL_TABLE_PAGES &&
		!cmq_oldest_may_expire(queue, cmq_queue_expired_before(queue, now)))
		cmq_oldest_count(queue, now, false, &counts);
}

/*
 * Add up the pending rows that a snapshot sees.  What has expired, or whose
 * leaf is gone, does not count.
 */
void
cmq_count_pending(CmqQueue *queue, Snapshot snapshot, TimestampTz now,
				  CmqCounts *counts)
{
	TimestampTz expired_before = cmq_queue_expired_before(queue, now);
	Relation	rel = cmq_table_open_heap(queue, queue->pending, CMQ_PENDING);
	TableScanDesc scan;
	TupleTableSlot *slot;

	if (rel == NULL)
		return;
	scan = cmq_beginscan(rel, snapshot);
	slot = table_slot_create(rel, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		TimestampTz time = cmq_slot_time(slot, Anum_pending_enqueued_at);

		CHECK_FOR_INTERRUPTS();
		counts->oldest = Min(counts->oldest, time);
		if (time < expired_before || cmq_queue_leaf(queue, time) == NULL)
			continue;
		counts->min_msg_time = Min(counts->min_msg_time, time);
		if (cmq_slot_time(slot, Anum_pending_visible_at) <= now)
		{
			counts->ready++;
			counts->ready_since = Min(counts->ready_since,
									  cmq_slot_ready_since(slot));
		}
		else if (cmq_slot_int(slot, Anum_pending_receive_count) == 0)
			counts->delayed++;
		else
			counts->in_flight++;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
}
