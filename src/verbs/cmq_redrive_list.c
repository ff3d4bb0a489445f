/*-------------------------------------------------------------------------
 *
 * cmq_redrive_list.c
 *	  List what a redrive is to send back: all that is ready, or chosen messages.
 *
 * A redrive deletes some messages at a time, and what it has not deleted yet must be
 * found again.  So they are listed in portions, in the order of a receive: ready rows and
 * those that a rewind under way brings back, the smaller key first.  Each portion begins
 * behind the last rows that the one before has looked at.  So all rows are looked at once,
 * and memory does not grow with the queue, however few are chosen.  Due rows are listed
 * for the rewind alone that was under way when the call began.
 *
 * Ids are all looked for before the first portion (cmq_find.c); memory grows with them.
 *
 * What another transaction is changing may be listed or not, and what was listed may be
 * taken by others: the caller looks again.
 *
 * Locks: RowExclusive on the pending table; on message leaves the lock for the delete that
 * follows; on rewind leaves AccessShare while they are read, and the lock of cmq_find.c.
 * Abort: nothing was written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_find.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_merge.h"
#include "store/cmq_pending.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_ids.h"
#include "verbs/cmq_redrive_list.h"

/* The arguments filter and msg_ids, each of which may be NULL.  Raises 22023. */
void
cmq_redrive_list_args(CmqRedriveList *list, FunctionCallInfo fcinfo,
					  int argno_filter, int argno_ids, CmqQueue *queue)
{
	memset(list, 0, sizeof(*list));
	list->has_filter = cmq_filter_arg(fcinfo, argno_filter, queue->name, &list->filter);
	list->has_ids = !PG_ARGISNULL(argno_ids);
	if (list->has_ids)
		list->ids = cmq_ids_arg(fcinfo, argno_ids, queue, &list->nids);
}

/* A portion being listed. */
typedef struct Listing
{
	CmqRedriveList *list;
	TimestampTz expired_before;
	CmqTable	pending;
	CmqMessageRows messages;
	CmqMerge	merge;
	CmqPendingKey ready;		/* of the row that the scan stands at */
	CmqDueScan	due;
} Listing;

/* False if the queue has no pending table any more. */
static bool
listing_begin(Listing *listing, CmqRedriveList *list, CmqQueue *queue)
{
	listing->list = list;
	listing->expired_before = cmq_bounds_expired_before(queue, list->now);
	if (!cmq_table_open(&listing->pending, NULL, queue, queue->pending, CMQ_PENDING,
						RowExclusiveLock))
		return false;
	cmq_message_rows_begin(&listing->messages, queue,
						   cmq_leaf_rows_delete_lock(queue));
	return true;
}

static void
listing_end(Listing *listing)
{
	cmq_message_rows_end(&listing->messages);
	cmq_table_close(&listing->pending);
}

/* List the letter, unless its headers are not wanted. */
static void
add(Listing *listing, const CmqLetter *letter)
{
	CmqRedriveList *list = listing->list;

	if (!list->has_filter ||
		(cmq_message_rows_find_any(&listing->messages, letter->key.enqueued_at) &&
		 cmq_slot_headers_contain(listing->messages.slot, list->filter)))
		list->letters[list->n++] = *letter;
}

static bool
next_ready(void *arg)
{
	Listing    *listing = arg;

	return cmq_pending_next(&listing->pending, listing->expired_before,
							&listing->ready);
}

static bool
next_due(void *arg)
{
	return cmq_due_next(&((Listing *) arg)->due);
}

static bool
due_comes_first(void *arg)
{
	Listing    *listing = arg;

	return listing->due.time < listing->ready.visible_at;
}

/* Begin both scans where the portion before has ended. */
static void
begin_scans(Listing *listing, CmqQueue *queue)
{
	CmqRedriveList *list = listing->list;

	cmq_pending_scan(&listing->pending, list->began ? &list->last_ready : NULL,
					 list->floor.floor, list->now);
	cmq_due_begin(&listing->due, queue, &queue->rewinding,
				  Max(listing->expired_before, list->next_due), AccessShareLock);
	listing->merge = (CmqMerge)
	{
		.next_ready = next_ready,
			.next_due = next_due,
			.due_comes_first = due_comes_first,
			.arg = listing
	};
	if (queue->rewinding.rewound_at != list->floor.rewound_at)
		listing->merge.due = CMQ_AT_END;
}

/* Move to the next row; false at the end. */
static bool
next_row(Listing *listing, CmqLetter *letter)
{
	CmqRedriveList *list = listing->list;
	CmqSource	source = cmq_merge_next(&listing->merge);

	letter->due = source == CMQ_DUE;
	if (letter->due)
	{
		letter->key.visible_at = letter->key.enqueued_at = listing->due.time;
		list->next_due = listing->due.time + 1;
	}
	else if (source == CMQ_READY)
	{
		letter->key = list->last_ready = listing->ready;
		list->began = true;
	}
	return source != CMQ_NO_SOURCE;
}

/* List the next messages, so many at most. */
static void
list_portion(CmqRedriveList *list, CmqQueue *queue, int max)
{
	Listing		listing;
	CmqLetter	letter;

	list->n = list->next = 0;
	list->ended = true;
	if (!listing_begin(&listing, list, queue))
		return;
	begin_scans(&listing, queue);
	while (list->n < max && next_row(&listing, &letter))
	{
		if (letter.due ? !listing.due.table.busy : !listing.pending.busy)
			add(&listing, &letter);
	}
	list->ended = list->n < max;
	cmq_due_end(&listing.due);
	listing_end(&listing);
}

static int
compare_letters(const void *a, const void *b)
{
	return cmq_pending_key_cmp(&((const CmqLetter *) a)->key,
							   &((const CmqLetter *) b)->key);
}

/* List the messages with the ids: of those that wait, the ready ones. */
static void
list_ids(CmqRedriveList *list, CmqQueue *queue)
{
	Listing		listing;
	CmqFind		find;

	list->ended = true;
	list->nmissing = list->nids;
	if (!listing_begin(&listing, list, queue))
		return;
	cmq_find_begin(&find, queue, &listing.pending, list->now, RowExclusiveLock,
				   list->ids, list->nids);
	for (int i = 0; i < find.n; i++)
	{
		const CmqFound *found = &find.found[i];
		CmqLetter	letter = {
			.key = {found->time, found->time},
			.due = found->place == CMQ_WAITS_DUE
		};

		if (found->place == CMQ_WAITS_PENDING)
			letter.key.visible_at = found->visible_at;
		else if (!letter.due)
			continue;
		if (letter.key.visible_at > list->now)
			continue;
		list->nmissing--;
		add(&listing, &letter);
	}
	cmq_find_end(&find);
	listing_end(&listing);
	qsort(list->letters, list->n, sizeof(CmqLetter), compare_letters);
}

/*
 * Begin to list what is ready now in a queue that the caller has open.  The caller will ask
 * for at most so many messages at a time.
 */
void
cmq_redrive_list_begin(CmqRedriveList *list, CmqQueue *queue, TimestampTz now,
					   int portion)
{
	cmq_bounds_begin_floor(&list->floor, queue, now);
	list->now = now;
	list->next_due = list->floor.rewind_floor;
	list->letters = palloc_extended(sizeof(CmqLetter) *
									Max(list->has_ids ? list->nids : portion, 1),
									MCXT_ALLOC_HUGE);
	if (list->has_ids)
		list_ids(list, queue);
}

/*
 * Have the next letters in *letters, at most so many; returns how many, 0 at the end.
 * ndone is how many of those that were returned last have been dealt with: the rest comes
 * again.
 */
int
cmq_redrive_list_next(CmqRedriveList *list, CmqQueue *queue, int ndone, int max,
					  const CmqLetter **letters)
{
	list->next += ndone;
	if (list->next == list->n && !list->ended)
		list_portion(list, queue, max);
	*letters = list->letters + list->next;
	return Min(list->n - list->next, max);
}
