/*-------------------------------------------------------------------------
 *
 * cmq_leaf_drop.c
 *	  Dropping leaves whose time is over.
 *
 * Dropping a leaf takes AccessExclusive on the parents and the pair: not by waiting in
 * line, which would hold up whoever comes next, but by trying for a moment; if somebody is
 * in the way the leaf is left for the next round.
 *
 * When a leaf may be dropped:
 *	- all its times have passed the retention: whatever is in it has expired;
 *	- or all its times have passed the rewind window, nothing in it is pending,
 *	  the rewind under way brings nothing of it back, and no restore from a dump
 *	  has brought it (cmq_dump.c).
 * Both are decided after the locks are held: with AccessExclusive on the pair
 * no transaction that sent, received or deleted in it is open, and with the
 * queue lock no rewind or restore is.  Tables are read before that, for under these
 * locks nobody else can read the queue: what is pending by the mark of cmq_oldest.c or
 * by one scan for all leaves, and then it is enough that nothing can have come up
 * since; what is due by the rewind rows, which only become fewer while it is
 * the same rewind.
 *
 * A transaction drops MAX_DROPS leaves at most, since it keeps their locks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/timestamp.h"

#include "base/cmq_identity.h"
#include "base/cmq_try.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_earliest.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_leaf.h"
#include "store/cmq_lock.h"
#include "store/cmq_oldest.h"
#include "store/cmq_queue.h"
#include "store/cmq_scan.h"
#include "store/cmq_table.h"
#include "worker/cmq_leaf_drop.h"
#include "worker/cmq_portion.h"

/*
 * How long a leaf that has expired is kept for the target of a subscription, where
 * rows may come late: about another retention.
 */
#define TARGET_KEEP_LEADS 16

/* How many leaves one transaction drops: each takes about ten locks. */
#define MAX_DROPS 50

/* After so many it looks whether there is room for more. */
#define DROPS_PER_LOOK 5

/* After so many that somebody has the others wait for the next round. */
#define MAX_BUSY 5

/* What is known of leaves that may be dropped before their messages expire. */
typedef struct Glance
{
	TimestampTz until;			/* leaves up to here were looked at ... */
	bool		scanned;		/* ... in the pending table */
	CmqEarliestLook look;
	TimestampTz rewound_at;		/* the rewind under way then */
	TimestampTz *pending;		/* lower bounds of those that have pending messages */
	int			npending;
} Glance;

static bool
saw_pending(const Glance *glance, const CmqLeaf *leaf)
{
	for (int i = 0; i < glance->npending; i++)
	{
		if (glance->pending[i] == leaf->lower)
			return true;
	}
	return false;
}

/* The number of the leaf for messages of this time, or -1. */
static int
find_leaf(CmqQueue *queue, TimestampTz time)
{
	int			low = 0;
	int			high = queue->nleaves;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (queue->leaves[middle].upper <= time)
			low = middle + 1;
		else
			high = middle;
	}
	return low < queue->nleaves && queue->leaves[low].lower <= time ? low : -1;
}

/*
 * Find out which leaves up to until have pending messages, whatever their state, by
 * reading the pending table once, without any lock that others mind.
 */
static void
scan_pending(CmqQueue *queue, TimestampTz until, Glance *glance)
{
	bool	   *pending = palloc0(sizeof(bool) * (queue->nleaves + 1));
	CmqScan		scan;

	if (!cmq_scan_begin(&scan, queue, queue->pending, CMQ_PENDING,
						InvalidSnapshot))
		cmq_queue_report_unknown(queue->name);
	while (cmq_scan_next(&scan))
	{
		TimestampTz time = cmq_slot_time(scan.slot, Anum_pending_enqueued_at);
		int			i;

		if (time < until && (i = find_leaf(queue, time)) >= 0)
			pending[i] = true;
	}
	cmq_scan_end(&scan);

	glance->npending = 0;
	glance->pending = palloc(sizeof(TimestampTz) * (queue->nleaves + 1));
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (pending[i])
			glance->pending[glance->npending++] = queue->leaves[i].lower;
	}
	pfree(pending);
}

/*
 * Look at the leaves up to until, before any lock: the pending table is read only if
 * the mark of cmq_oldest.c does not say that all in them is consumed.
 */
static void
glance(CmqQueue *queue, TimestampTz until, Glance *glance)
{
	glance->until = until;
	glance->rewound_at = queue->rewinding.rewound_at;
	glance->npending = 0;
	glance->scanned = cmq_earliest_get(queue->shared) < until;
	if (!glance->scanned)
		return;
	/* from now on nothing is sent that is so old, whatever the wall clock does */
	if (cmq_clock_last(queue->shared) < until)
		(void) cmq_clock_now(queue->shared);
	cmq_earliest_look(queue->shared, &glance->look);
	scan_pending(queue, until, glance);
}

/*
 * Is nothing of this leaf pending?  The caller holds the queue lock and the leaf for
 * himself, so whatever could have come up since the glance has ended.
 */
static bool
none_pending(CmqQueue *queue, const CmqLeaf *leaf, const Glance *glance)
{
	Glance		now;

	if (cmq_earliest_get(queue->shared) >= leaf->upper)
		return true;
	if (!glance->scanned || leaf->upper > glance->until ||
		saw_pending(glance, leaf))
		return false;
	if (cmq_earliest_no_news(queue->shared, &glance->look, leaf->upper))
		return true;
	/* some transaction has been open for long; a large table stays unread */
	if (!cmq_oldest_is_small(queue))
		return false;
	scan_pending(queue, leaf->upper, &now);
	return !saw_pending(&now, leaf);
}

static bool
has_due(CmqQueue *queue, const CmqLeaf *leaf, TimestampTz expired_before)
{
	return queue->rewinding.active &&
		cmq_rewind_leaf_due(queue, leaf, &queue->rewinding,
							expired_before) != DT_NOEND;
}

/* Has the queue this very leaf? */
static bool
has_leaf(CmqQueue *queue, const CmqLeaf *leaf)
{
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (queue->leaves[i].messages == leaf->messages &&
			queue->leaves[i].rewind == leaf->rewind &&
			queue->leaves[i].lower == leaf->lower)
			return true;
	}
	return false;
}

static void
drop_leaf(CmqQueue *queue, CmqLeaf *leaf)
{
	ObjectAddresses *objects = new_object_addresses();
	ObjectAddress object;

	ObjectAddressSet(object, RelationRelationId, leaf->messages);
	add_exact_object_address(&object, objects);
	ObjectAddressSet(object, RelationRelationId, leaf->rewind);
	add_exact_object_address(&object, objects);
	performMultipleDeletions(objects, DROP_RESTRICT, 0);
	free_object_addresses(objects);
	cmq_catalog_delete_leaf(queue, leaf->lower);
}

typedef struct TryDrop
{
	CmqQueue   *queue;
	CmqLeaf    *leaf;
	bool		done;
} TryDrop;

static void
try_drop(const char *name, void *arg)
{
	TryDrop    *try = arg;

	cmq_queue_attach(try->queue);
	drop_leaf(try->queue, try->leaf);
	/* rows that a rewind would have brought back have expired with it */
	cmq_xact_due_unknown(try->queue->shared);
	try->done = true;
}

/*
 * Lock a pair of tables for ourselves, if that takes but a moment; else none is kept.
 */
static bool
lock_pair(Oid messages, Oid rewind)
{
	if (!cmq_lock_briefly(messages))
		return false;
	if (cmq_lock_briefly(rewind))
		return true;
	UnlockRelationOid(messages, AccessExclusiveLock);
	return false;
}

static void
unlock_pair(Oid messages, Oid rewind)
{
	UnlockRelationOid(rewind, AccessExclusiveLock);
	UnlockRelationOid(messages, AccessExclusiveLock);
}

/* Up to where leaves may be dropped now; what ends before *expired is all expired. */
static TimestampTz
droppable_until(CmqQueue *queue, TimestampTz *expired)
{
	TimestampTz now = cmq_queue_now(queue);

	*expired = cmq_queue_expired_before(queue, now);
	if (queue->is_target)
		return *expired - TARGET_KEEP_LEADS * cmq_leaf_lead(queue);
	return Max(Min(now, cmq_queue_rewindable_since(queue, now)), *expired);
}

/* The first leaf from this time on that may be dropped now, or NULL. */
static CmqLeaf *
next_leaf(CmqQueue *queue, TimestampTz from, TimestampTz until)
{
	for (int i = 0; i < queue->nleaves; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];

		if (leaf->upper > until)
			return NULL;
		if (leaf->lower >= from)
			return leaf;
	}
	return NULL;
}

/* The end of the last leaf that may be dropped now; DT_NOBEGIN if there is none. */
static TimestampTz
last_end(CmqQueue *queue, TimestampTz until)
{
	TimestampTz end = DT_NOBEGIN;

	for (int i = 0; i < queue->nleaves && queue->leaves[i].upper <= until; i++)
		end = queue->leaves[i].upper;
	return end;
}

/* Leaves that are to be dropped, as far as that is known before they are locked. */
typedef struct Candidates
{
	CmqLeaf		leaves[MAX_DROPS];
	int			n;
	bool		more;			/* behind them */
	Glance		seen;
} Candidates;

/* Find so many, from this place on, which moves behind them. */
static void
find_candidates(CmqQueue *queue, const CmqPortion *portion, int most,
				TimestampTz *place, Candidates *found)
{
	TimestampTz expired;
	TimestampTz until = last_end(queue, droppable_until(queue, &expired));
	CmqLeaf    *leaf;

	found->n = 0;
	found->seen.until = DT_NOBEGIN;
	found->seen.npending = 0;
	while ((leaf = next_leaf(queue, *place, until)) != NULL &&
		   found->n < most && !cmq_portion_is_over(portion))
	{
		*place = leaf->upper;
		if (leaf->upper > expired)
		{
			if (leaf->made_in != cmq_dump_here())
				continue;
			if (found->seen.until == DT_NOBEGIN)
				glance(queue, until, &found->seen);
			if (saw_pending(&found->seen, leaf) ||
				has_due(queue, leaf, expired))
				continue;
		}
		found->leaves[found->n++] = *leaf;
	}
	found->more = leaf != NULL;
}

/*
 * May the leaf be dropped?  Asked under the locks: the queue may have been altered,
 * rewound or restored since the glance.
 */
static bool
is_over(CmqQueue *queue, const CmqLeaf *leaf, const Glance *glance)
{
	TimestampTz expired;

	/* by now it may be detached, or another one's number */
	if (!has_leaf(queue, leaf) || leaf->upper > droppable_until(queue, &expired))
		return false;
	return leaf->upper <= expired ||
		(leaf->made_in == cmq_dump_here() &&
		 queue->rewinding.rewound_at == glance->rewound_at &&
		 none_pending(queue, leaf, glance));
}

/*
 * Drop the candidates, as far as nobody is in the way and there is room for the locks.
 * Returns how many were dropped, and where to go on if not behind them.  The
 * caller has the queue lock and the parents.
 */
static int
drop_candidates(CmqQueue *queue, const CmqPortion *portion,
				Candidates *found, TimestampTz *place)
{
	int			dropped = 0;
	int			busy = 0;

	for (int i = 0; i < found->n; i++)
	{
		CmqLeaf    *leaf = &found->leaves[i];
		TryDrop		try = {.queue = queue,.leaf = leaf};

		if (busy == MAX_BUSY || (i > 0 && cmq_portion_is_over(portion)) ||
			(i % DROPS_PER_LOOK == 0 && !cmq_maintain_has_room()))
		{
			*place = leaf->lower;
			found->more = true;
			break;
		}
		if (!lock_pair(leaf->messages, leaf->rewind))
		{
			busy++;
			continue;
		}
		if (is_over(queue, leaf, &found->seen))
			(void) cmq_try(queue->name, "dropping a partition", try_drop, &try,
						   CMQ_TRY_WARN);
		if (try.done)
			dropped++;
		else
			unlock_pair(leaf->messages, leaf->rewind);
	}
	return dropped;
}

/*
 * Drop the leaves whose time is over.  A transaction drops so many as there is room for
 * their locks; a bounded portion takes no longer than a portion may, either, and
 * goes on where the last one ended.  Gives up, to be called again later, when
 * somebody is in the way.  One that cannot be dropped, because somebody has made a view
 * of it for instance, stays with a warning.
 */
CmqStepResult
cmq_leaf_drop_old(CmqQueue *queue, const CmqPortion *portion)
{
	CmqPlace	place = cmq_place_get(queue, portion, CMQ_DROP_PLACE);
	Candidates *found = palloc(sizeof(Candidates));
	bool		had_room = true;
	int			all = 0;

	if (cmq_catalog_forget_leaves(queue->name))
		CommandCounterIncrement();
	do
	{
		int			dropped;

		queue = cmq_queue_again(queue);
		find_candidates(queue, portion, MAX_DROPS - all, &place.visible_at,
						found);
		/* what cannot be dropped is passed by, also if that ends the transaction */
		cmq_place_set(queue, portion, CMQ_DROP_PLACE, &place);
		if (found->n == 0)
			continue;
		had_room = cmq_maintain_has_room();
		/* the queue lock stays to the end: nobody rewinds what is gone */
		if ((queue = cmq_queue_try_lock(queue)) == NULL ||
			!lock_pair(queue->messages, queue->rewind))
		{
			found->more = false;
			break;
		}
		/* nobody adds or takes away leaves from now on */
		queue = cmq_queue_again(queue);
		dropped = drop_candidates(queue, portion, found, &place.visible_at);
		if (dropped == 0)
			unlock_pair(queue->messages, queue->rewind);
		all += dropped;
	} while (!portion->bounded && found->more && had_room && all < MAX_DROPS);
	if (!found->more)
		place.visible_at = DT_NOBEGIN;
	if (queue)
		cmq_place_set(queue, portion, CMQ_DROP_PLACE, &place);
	if (!found->more)
		return CMQ_STEP_DONE;
	if (all > 0)
		return CMQ_STEP_MORE;
	/* what holds them is the caller's transaction, if there is one */
	if (!had_room)
		return portion->bounded ? CMQ_STEP_DONE : CMQ_STEP_MORE;
	return CMQ_STEP_LOOKING;
}
