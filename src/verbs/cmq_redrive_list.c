/*-------------------------------------------------------------------------
 *
 * cmq_redrive_list.c
 *	  List what a redrive is to send back: all that is ready, or chosen messages.
 *
 * A redrive deletes some messages at a time, and what it has not deleted yet must be
 * found again.  So they are listed in portions, in the order of a receive, and each
 * portion begins behind the last row that the one before has looked at.  All rows are
 * looked at once, and memory does not grow with the queue, however few are chosen.
 *
 * Ids are all looked for before the first portion; memory grows with them.  A message
 * that nobody has received is found by its key, for it has been visible since its
 * production.  If any is not there one scan looks for the rest, among what is ready.
 *
 * What another transaction is changing is passed over, and counts as not ready.  A
 * message can be taken by others after it was listed: the caller looks again.
 *
 * Locks: RowExclusive on the pending table, AccessShare on message leaves.  Abort:
 * nothing was written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_floor.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_table.h"
#include "verbs/cmq_redrive_list.h"

/* The arguments filter and msg_ids, each of which may be NULL.  Raises 22023. */
void
cmq_redrive_list_args(CmqRedriveList *letters, FunctionCallInfo fcinfo, int argno_filter,
				int argno_ids, const char *queue)
{
	memset(letters, 0, sizeof(*letters));
	letters->has_filter = cmq_filter_arg(fcinfo, argno_filter, queue,
										&letters->filter);
	letters->has_ids = !PG_ARGISNULL(argno_ids);
	if (letters->has_ids)
		letters->ids = cmq_msg_ids_arg(fcinfo, argno_ids, queue, &letters->nids);
}

/* The tables of a queue that a listing reads. */
typedef struct Listing
{
	CmqRedriveList  *letters;
	TimestampTz expired_before;
	CmqTable	pending;
	CmqLeafRows messages;
} Listing;

/* False if the queue has no pending table any more. */
static bool
listing_begin(Listing *listing, CmqRedriveList *letters, CmqQueue *queue)
{
	listing->letters = letters;
	listing->expired_before = cmq_bounds_expired_before(queue, letters->now);
	if (!cmq_table_open(&listing->pending, NULL, queue, queue->pending, CMQ_PENDING,
						RowExclusiveLock))
		return false;
	cmq_leaf_rows_begin(&listing->messages, queue, CMQ_MESSAGES, AccessShareLock,
						NULL);
	return true;
}

static void
listing_end(Listing *listing)
{
	cmq_leaf_rows_end(&listing->messages);
	cmq_table_close(&listing->pending);
}

/* List the message of this ready row, unless its headers are not wanted. */
static void
list(Listing *listing, const CmqPendingKey *key)
{
	CmqRedriveList  *letters = listing->letters;

	if (!letters->has_filter ||
		(cmq_leaf_rows_find(&listing->messages, key->enqueued_at) &&
		 cmq_slot_headers_contain(listing->messages.table.slot, letters->filter)))
		letters->listed[letters->n++] = *key;
}

/* List the next messages, so many at most. */
static void
list_portion(CmqRedriveList *letters, CmqQueue *queue, int max)
{
	Listing		listing;
	CmqPendingKey key;

	letters->n = letters->next = 0;
	letters->ended = true;
	if (!listing_begin(&listing, letters, queue))
		return;
	cmq_pending_scan(&listing.pending, letters->began ? &letters->last : NULL,
					 letters->floor, letters->now);
	while (letters->n < max &&
		   cmq_pending_next(&listing.pending, listing.expired_before, &key))
	{
		letters->began = true;
		letters->last = key;
		if (!listing.pending.busy)
			list(&listing, &key);
	}
	letters->ended = letters->n < max;
	listing_end(&listing);
}

/*
 * List the messages that nobody has received yet, and keep the ids of those that may have
 * been.
 */
static void
list_at_place(Listing *listing)
{
	CmqRedriveList  *letters = listing->letters;
	int			nleft = 0;

	for (int i = 0; i < letters->nids; i++)
	{
		CmqPendingKey key;

		if (!cmq_msg_id_to_time(letters->ids[i], &key.enqueued_at) ||
			key.enqueued_at < listing->expired_before ||
			key.enqueued_at > letters->now)
			continue;
		key.visible_at = key.enqueued_at;
		if (!cmq_table_find(&listing->pending, key.visible_at, key.enqueued_at))
			letters->ids[nleft++] = letters->ids[i];
		else if (!listing->pending.busy)
		{
			letters->nmissing--;
			list(listing, &key);
		}
	}
	letters->nids = nleft;
}

static int
compare_to_id(const void *id, const void *element)
{
	int64		x = *(const int64 *) id;
	int64		y = *(const int64 *) element;

	return x < y ? -1 : x > y;
}

/* List the messages with the ids that are left, wherever they are among what is ready. */
static void
list_elsewhere(Listing *listing)
{
	CmqRedriveList  *letters = listing->letters;
	CmqPendingKey key;
	int			nleft = letters->nids;

	cmq_pending_scan(&listing->pending, NULL, letters->floor, letters->now);
	while (nleft > 0 &&
		   cmq_pending_next(&listing->pending, listing->expired_before, &key))
	{
		int64		id = cmq_time_to_msg_id(key.enqueued_at);

		if (bsearch(&id, letters->ids, letters->nids, sizeof(int64),
					compare_to_id) == NULL)
			continue;
		nleft--;
		if (!listing->pending.busy)
		{
			letters->nmissing--;
			list(listing, &key);
		}
	}
}

static int
compare_keys(const void *a, const void *b)
{
	const CmqPendingKey *x = a;
	const CmqPendingKey *y = b;

	if (x->visible_at != y->visible_at)
		return x->visible_at < y->visible_at ? -1 : 1;
	return x->enqueued_at < y->enqueued_at ? -1 : x->enqueued_at > y->enqueued_at;
}

static void
list_ids(CmqRedriveList *letters, CmqQueue *queue)
{
	Listing		listing;

	letters->ended = true;
	letters->nmissing = letters->nids;
	if (!listing_begin(&listing, letters, queue))
		return;
	list_at_place(&listing);
	list_elsewhere(&listing);
	listing_end(&listing);
	qsort(letters->listed, letters->n, sizeof(CmqPendingKey), compare_keys);
}

/*
 * Begin to choose among what is ready now in a queue that the caller has open.  The caller
 * will ask for at most so many messages at a time.
 */
void
cmq_redrive_list_begin(CmqRedriveList *letters, CmqQueue *queue, TimestampTz now, int portion)
{
	CmqFloorScan scan;

	cmq_bounds_begin_floor(&scan, queue, now);
	letters->now = now;
	letters->floor = scan.floor;
	letters->listed = palloc_extended(sizeof(CmqPendingKey) *
									 Max(letters->has_ids ? letters->nids : portion, 1),
									 MCXT_ALLOC_HUGE);
	if (letters->has_ids)
		list_ids(letters, queue);
}

/*
 * Have the keys of the next messages in *keys, at most so many; returns how many, 0 at
 * the end.  ndone is how many of those that were returned last have been dealt with: the
 * rest comes again.
 */
int
cmq_redrive_list_next(CmqRedriveList *letters, CmqQueue *queue, int ndone, int max,
				const CmqPendingKey **keys)
{
	letters->next += ndone;
	if (letters->next == letters->n && !letters->ended)
		list_portion(letters, queue, max);
	*keys = letters->listed + letters->next;
	return Min(letters->n - letters->next, max);
}
