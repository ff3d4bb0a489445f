/*-------------------------------------------------------------------------
 *
 * cmq_page.c
 *	  Messages of a part of a queue in order, from a position on, with a bound on what is
 *	  read.
 *
 * The parts are what the live and the history view show.  History is in the order of
 * enqueued_at, as its rows are in the rewind leaves.  What is pending is in the order of
 * (visible_at, enqueued_at), in which receives take it.  Its rows are in the pending table,
 * and those of a rewind under way in the rewind leaves, where visible_at is enqueued_at
 * (cmq_merge.c).  All is read with the snapshot of the statement.
 *
 * Invariant: whatever ends a scan, a scan that begins behind the last entry that this one
 * has looked at finds all that is left, and nothing twice.  So it goes by entries of
 * the indexes, and not by rows: the entry with the smaller key comes next, whether or not
 * its row is there, and the position is the key of an entry.  A scan by rows could spend
 * all that it may read on one of the two tables, and know no position that it has passed in
 * both.  Entries of the same key, which a message can leave in both tables, are looked at
 * together.
 *
 * Bound: each message whose row is looked at costs a credit of COST.  An entry that leads to
 * no message, because its row is gone, or the message has expired, is forgotten or belongs
 * to the other part, costs 1: it is about as much less work.  One entry is read ahead in
 * each table, and empty leaves are opened in vain, of which more messages make no more.
 * Where a queue is busy many entries at the left end of the pending table have lost their
 * rows; receives begin behind them (cmq_floor.c), which a scan with an older snapshot must
 * not.
 *
 * No code of others runs.  Locks: the caller has locked the pending table; AccessShare on
 * rewind leaves while they are read, and on message leaves and leaves of journals
 * to the end of the transaction.  Everything here only reads, and works on a standby.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/cmq_handle.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_history.h"
#include "store/cmq_merge.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "watch/cmq_message_row.h"
#include "watch/cmq_page.h"

/* Of a message, in entries that lead to none. */
#define COST 10

#define is_forward(page) ScanDirectionIsForward((page)->request->direction)

/* Let a scan read from the position on what is in [from, until] by its first time. */
static void
set_range(CmqPage *page, CmqPageScan *scan, TimestampTz from, TimestampTz until)
{
	scan->open = false;
	scan->behind = page->request->behind;
	scan->limit = is_forward(page) ? until : from;
	if (is_forward(page) && scan->behind.visible_at < from)
	{
		scan->behind.visible_at = from;
		scan->behind.enqueued_at = DT_NOBEGIN;
	}
	else if (!is_forward(page) && scan->behind.visible_at > until)
	{
		scan->behind.visible_at = until;
		scan->behind.enqueued_at = DT_NOEND;
	}
}

/* Move to the next entry of the pending table. */
static bool
next_pending(void *arg)
{
	CmqPage    *page = arg;
	CmqPageScan *scan = &page->pending;

	return scan->open && cmq_table_next_entry(&scan->table, page->request->direction,
											  &scan->key);
}

/* Can the leaf have entries of the scan? */
static bool
is_in_range(CmqPage *page, const CmqPageScan *scan, CmqLeaf *leaf)
{
	TimestampTz from = is_forward(page) ? scan->behind.visible_at : scan->limit;
	TimestampTz until = is_forward(page) ? scan->limit : scan->behind.visible_at;

	return leaf->lower <= until && leaf->upper > from;
}

/* Open the next rewind leaf of the range; false if there is none. */
static bool
open_leaf(CmqPage *page)
{
	CmqQueue   *queue = page->queue;
	CmqPageScan *scan = &page->rewind;

	while (!scan->open && page->leaf >= 0 && page->leaf < queue->nleaves)
	{
		CmqLeaf    *leaf = &queue->leaves[page->leaf];

		page->leaf += is_forward(page) ? 1 : -1;
		scan->open = is_in_range(page, scan, leaf) &&
			cmq_table_open(&scan->table, NULL, queue, leaf->rewind, CMQ_REWIND,
						   AccessShareLock);
	}
	if (!scan->open)
		return false;
	scan->table.seen_by = page->seen_by;
	cmq_table_behind(&scan->table, &scan->behind, scan->limit,
					 page->request->direction);
	return true;
}

/* Close the leaf that is open, if one is: what was read of it is in page->row. */
static void
close_leaf(CmqPageScan *scan)
{
	if (scan->open)
		cmq_table_release(&scan->table);
	scan->open = false;
}

/* Move to the next entry of the rewind leaves. */
static bool
next_rewind(void *arg)
{
	CmqPage    *page = arg;
	CmqPageScan *scan = &page->rewind;

	while (scan->open || open_leaf(page))
	{
		if (cmq_table_next_entry(&scan->table, page->request->direction, &scan->key))
			return true;
		close_leaf(scan);
	}
	return false;
}

/* Of the entries that both scans stand at, is that of the rewind leaf the next one? */
static bool
rewind_comes_first(void *arg)
{
	CmqPage    *page = arg;
	int			order = cmq_pending_key_cmp(&page->rewind.key, &page->pending.key);

	return is_forward(page) ? order < 0 : order > 0;
}

/*
 * Begin a scan.  The caller has opened the queue, and the request stays.  To be followed by
 * cmq_page_end().
 */
void
cmq_page_begin(CmqPage *page, CmqQueue *queue, const CmqPageRequest *request,
			   Snapshot seen_by)
{
	const CmqRewind *rewinding = &queue->rewinding;

	memset(page, 0, sizeof(*page));
	page->queue = queue;
	page->request = request;
	page->seen_by = seen_by;
	page->now = cmq_queue_now(queue);
	page->expired_before = cmq_bounds_expired_before(queue, page->now);
	page->last = request->behind;
	page->credit = (int64) request->max_looked * COST;
	page->leaf = is_forward(page) ? 0 : queue->nleaves - 1;
	page->merge.next_ready = next_pending;
	page->merge.next_due = next_rewind;
	page->merge.due_comes_first = rewind_comes_first;
	page->merge.arg = page;
	cmq_message_rows_begin(&page->messages, queue, AccessShareLock);
	page->messages.seen_by = seen_by;
	if (request->history)
	{
		page->merge.ready = CMQ_AT_END;
		set_range(page, &page->rewind, cmq_bounds_rewindable_since(queue, page->now),
				  DT_NOEND);
		return;
	}
	if (rewinding->active)
		set_range(page, &page->rewind, Max(rewinding->from, page->expired_before),
				  rewinding->rewound_at);
	else
		page->merge.due = CMQ_AT_END;
	/* no message is visible before its production */
	set_range(page, &page->pending, page->expired_before, DT_NOEND);
	page->pending.open = cmq_table_open(&page->pending.table, NULL, queue,
										queue->pending, CMQ_PENDING, AccessShareLock);
	if (!page->pending.open)
		return;
	page->pending.table.seen_by = seen_by;
	cmq_table_behind(&page->pending.table, &page->pending.behind,
					 page->pending.limit, request->direction);
}

/* Is there a message of the part for the entry of the pending table?  Fills page->row. */
static bool
look_at_pending(CmqPage *page, char *topic)
{
	CmqPageScan *scan = &page->pending;
	TupleTableSlot *slot = scan->table.slot;

	if (scan->key.enqueued_at < page->expired_before ||
		!cmq_table_sees_entry(&scan->table))
		return false;
	cmq_message_row_init(&page->row, scan->key.enqueued_at);
	cmq_message_row_pending(&page->row, slot, page->now);
	cmq_slot_topic(slot, Anum_pending_topic, topic);
	return true;
}

/* The same for that of a rewind leaf. */
static bool
look_at_rewind(CmqPage *page, char *topic)
{
	CmqPageScan *scan = &page->rewind;
	TupleTableSlot *slot = scan->table.slot;

	if (!cmq_table_sees_entry(&scan->table))
		return false;
	cmq_message_row_init(&page->row, scan->key.enqueued_at);
	if (page->request->history)
	{
		if (!cmq_slot_is_history(page->queue, slot))
			return false;
		cmq_message_row_history(&page->row, slot);
	}
	else
	{
		if (!cmq_slot_is_due(&page->queue->rewinding, slot))
			return false;
		cmq_message_row_due(&page->row, slot);
	}
	cmq_slot_topic(slot, Anum_rewind_topic, topic);
	return true;
}

/* Is the message wanted whose row has been looked at?  Without a filter it is. */
static bool
is_wanted(CmqPage *page, const char *topic)
{
	const CmqPageRequest *request = page->request;
	TimestampTz time = page->last.enqueued_at;

	if (!cmq_message_rows_find(&page->messages, time, topic))
	{
		page->nunreadable += request->has_filter && page->messages.unreadable;
		return !request->has_filter;
	}
	if (request->has_filter &&
		!cmq_slot_headers_contain(page->messages.slot, request->filter))
		return false;
	cmq_message_row_message(&page->row, &page->messages);
	return true;
}

/*
 * Move to the next message, into page->row; false at the end of the part, or, with
 * page->ended_early, of what may be read.
 */
bool
cmq_page_next(CmqPage *page)
{
	CmqSource	source;

	while ((source = cmq_merge_next(&page->merge)) != CMQ_NO_SOURCE)
	{
		const CmqPendingKey *key = source == CMQ_READY ? &page->pending.key :
			&page->rewind.key;
		char		topic[NAMEDATALEN];
		bool		is_message;

		page->ended_early = page->credit <= 0 && cmq_pending_key_cmp(key, &page->last) != 0;
		if (page->ended_early)
			return false;
		page->last = *key;
		is_message = source == CMQ_READY ? look_at_pending(page, topic) :
			look_at_rewind(page, topic);
		page->credit -= is_message ? COST : 1;
		if (is_message && is_wanted(page, topic))
			return true;
	}
	return false;
}

/*
 * Warns of messages that could not be had.  Raises 55000 if rewind was switched off since
 * the queue was opened: then the scan may have missed rows.
 */
void
cmq_page_end(CmqPage *page)
{
	close_leaf(&page->rewind);
	if (page->pending.open)
		cmq_table_close(&page->pending.table);
	cmq_message_rows_end(&page->messages);
	cmq_history_check(page->queue);
	cmq_message_rows_warn(page->queue, page->nunreadable);
}
