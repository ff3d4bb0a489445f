/*-------------------------------------------------------------------------
 *
 * cmq_dedup_drop.c
 *	  Drop leaves of keys that no send looks at any more.
 *
 * A send looks for its key in the leaves that reach into the last dedup_seconds before its
 * time.  So a leaf of keys goes when that many seconds have passed since its end: whole, and
 * whether the leaf of messages beside it stays longer or not.  One that has come by a restore
 * is left to cmq_leaf_drop.c.
 *
 * Ways to drop one too early, and the answers:
 *	- a send has got its time, and has not looked yet: its window tells (cmq_window.c)
 *	- a send gets its time later: the queue clock remembers the time that was read here
 *	- a send has the leaf open: it has a lock, and the leaf stays
 *	- dedup_seconds becomes more: that changes the queue's row, under the queue lock, and
 *	  the drop asks again when it has that
 *
 * Locks: the queue lock, if nobody has it; then AccessExclusive on the table of keys and
 * on each leaf, if that takes but a moment.  Abort and crash: the leaves are there again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "utils/timestamp.h"

#include "base/cmq_identity.h"
#include "base/cmq_try.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_proc.h"
#include "memory/cmq_window.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_lock.h"
#include "store/cmq_queue.h"
#include "worker/cmq_dedup_drop.h"
#include "worker/cmq_portion.h"

/* How many leaves one transaction drops. */
#define MAX_DROPS 20

/*
 * A time that the queue clock has passed, for good.  The clock is moved only if that lets
 * another leaf go: else a queue that nobody uses stays idle.
 */
static TimestampTz
passed_time(CmqQueue *queue, int64 window)
{
	TimestampTz last = cmq_clock_last(queue->shared);
	TimestampTz now = cmq_clock_peek(queue->shared);

	for (int i = 0; i < queue->nleaves; i++)
	{
		TimestampTz over = queue->leaves[i].upper + window;

		if (over >= last && over < now)
			return cmq_clock_now(queue->shared);
	}
	return last;
}

/* Leaves that end before this have no key that a send asks for; DT_NOEND: any. */
TimestampTz
cmq_dedup_drop_until(CmqQueue *queue)
{
	int64		window = queue->dedup_seconds * USECS_PER_SEC;
	TimestampTz passed;
	TimestampTz windows;

	if (window == 0)
		return DT_NOEND;
	passed = passed_time(queue, window);
	windows = cmq_key_windows_first(queue->shared);

	/*
	 * it will be no earlier than what the clock has given out, but that is
	 * not known
	 */
	if (windows == CMQ_TIME_UNKNOWN)
		return DT_NOBEGIN;
	return Min(passed, windows) - window;
}

/*
 * The first leaf from this time on whose keys are old; NULL if there is none.  One that a
 * restore has brought goes with its messages: the restore may not have come to it yet.
 */
static CmqLeaf *
find_old(CmqQueue *queue, TimestampTz from)
{
	TimestampTz until;

	if (!OidIsValid(queue->dedup) || queue->nleaves == 0)
		return NULL;
	until = cmq_dedup_drop_until(queue);
	for (int i = 0; i < queue->nleaves && queue->leaves[i].upper < until; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];

		if (OidIsValid(leaf->dedup) && leaf->lower >= from &&
			leaf->made_in == cmq_identity_database())
			return leaf;
	}
	return NULL;
}

typedef struct KeysDrop
{
	CmqQueue   *queue;
	CmqLeaf    *leaf;
} KeysDrop;

/* Drop one leaf; called in a subtransaction. */
static void
drop_keys(const char *name, void *arg)
{
	KeysDrop   *drop = arg;
	ObjectAddress object;

	ObjectAddressSet(object, RelationRelationId, drop->leaf->dedup);
	performDeletion(&object, DROP_RESTRICT, 0);
	cmq_catalog_set_keys(drop->queue, drop->leaf->lower, InvalidOid);
}

/*
 * Maintenance: drop leaves of keys whose time is over.  One that is locked, or cannot be
 * dropped, is left for the next round.
 */
CmqStepResult
cmq_dedup_drop_old(CmqQueue *queue, const CmqPortion *portion)
{
	KeysDrop	drop;
	TimestampTz from = DT_NOBEGIN;

	if (find_old(queue, from) == NULL ||
		(drop.queue = cmq_queue_try_lock(queue)) == NULL ||
		find_old(drop.queue, from) == NULL ||
		!cmq_lock_briefly(drop.queue->dedup))
		return CMQ_STEP_DONE;
	for (int dropped = 0; dropped < MAX_DROPS;)
	{
		drop.queue = cmq_queue_again(drop.queue);
		drop.leaf = find_old(drop.queue, from);
		if (drop.leaf == NULL || !cmq_portion_has_room())
			return CMQ_STEP_DONE;
		from = drop.leaf->upper;
		if (!cmq_lock_briefly(drop.leaf->dedup))
			continue;
		/* a send may have come, and have got its lock before */
		if (find_old(drop.queue, drop.leaf->lower) == drop.leaf &&
			cmq_try(drop.queue->name, "dropping a partition of keys", drop_keys,
					&drop, CMQ_TRY_WARN))
			dropped++;
		else
			UnlockRelationOid(drop.leaf->dedup, AccessExclusiveLock);
	}
	return CMQ_STEP_MORE;
}
