/*-------------------------------------------------------------------------
 *
 * cmq_leaf_drop.c
 *	  Drop leaves whose time is over.
 *
 * When a leaf may be dropped:
 *	- all its times have passed the retention: whatever is in it has expired;
 *	- or all its times have passed the rewind window, nothing in it is pending,
 *	  the rewind under way brings nothing of it back, and no restore from a dump
 *	  has brought it (cmq_dump.c).
 * A leaf of keys goes with it, so all its times have passed dedup_seconds, too; most leaves
 * of keys have gone before (cmq_dedup_drop.c).
 * All this is decided after the locks are held: with AccessExclusive on the pair
 * no transaction that sent, received or deleted in it is open, and with the
 * queue lock no rewind or restore is.
 *
 * Nothing is read under these locks, since nobody else can read the queue meanwhile.
 * Before them a glance finds out what is pending, by the mark of cmq_earliest.c or by one
 * scan for all leaves, and what is due.  Under the locks it is enough that no pending row
 * can have come up since (cmq_earliest_no_news()), and that the rewind is the same: its
 * due rows only become fewer.  One exception: a small pending table is read again when
 * some transaction has been open for long.
 *
 * A transaction drops MAX_DROPS leaves at most, since it keeps their locks.
 *
 * Locks: the queue lock, if nobody has it, then AccessExclusive on the parents and on
 * each pair.  To wait for these would hold up all that come behind: a call tries for a
 * moment (cmq_lock.c).  It gives back what it has taken in vain, but for the queue lock.
 * Abort and crash: the leaves are there again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
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
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "worker/cmq_dedup_drop.h"
#include "worker/cmq_leaf_drop.h"
#include "worker/cmq_portion.h"

/*
 * How long a leaf that has expired is kept for the target of a subscription, where
 * rows may come late: about another retention.
 */
#define TARGET_KEEP_LEADS 16

/* How many leaves one transaction drops: each takes about ten locks. */
#define MAX_DROPS 50

/* After how many it looks whether there is room for more. */
#define DROPS_PER_LOOK 5

/* When so many are locked by others, the next portion goes on with the rest. */
#define MAX_BUSY 5

/*
 * What was seen of leaves before any lock, to drop them before their messages expire.
 */
typedef struct Glance
{
	TimestampTz until;			/* of leaves up to here; DT_NOBEGIN: of none */
	TimestampTz rewound_at;		/* the rewind under way then */
	CmqQueue   *queue;			/* the pending table was read; NULL: it was
								 * not */
	bool	   *pending;		/* which leaves of this queue have pending
								 * messages */
	CmqEarliestLook look;
} Glance;

/* A call for one queue. */
typedef struct Drop
{
	CmqQueue   *queue;
	const CmqPortion *portion;
	CmqPlace	place;			/* go on with the leaf that begins here or
								 * later */
	bool		more;			/* there may be such leaves */
	struct CmqLeaf candidates[MAX_DROPS];
	int			ncandidates;
	CmqLeaf    *leaf;			/* the candidate that is being dropped */
	Glance		glance;
	int			dropped;
	int			busy;			/* so many candidates were locked by others */
} Drop;

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

/* Find the leaves up to until that have pending messages, whatever their state. */
static void
read_pending(Glance *glance, CmqQueue *queue, TimestampTz until)
{
	CmqScan		scan;

	glance->queue = queue;
	glance->pending = palloc0(sizeof(bool) * (queue->nleaves + 1));
	if (!cmq_scan_begin(&scan, queue, queue->pending, CMQ_PENDING,
						InvalidSnapshot))
		cmq_queue_report_unknown(queue->name);
	while (cmq_scan_next(&scan))
	{
		TimestampTz time = cmq_slot_time(scan.slot, Anum_pending_enqueued_at);
		int			i;

		if (time < until && (i = find_leaf(queue, time)) >= 0)
			glance->pending[i] = true;
	}
	cmq_scan_end(&scan);
}

static bool
saw_pending(const Glance *glance, const CmqLeaf *leaf)
{
	int			i;

	if (glance->queue == NULL)
		return false;
	i = find_leaf(glance->queue, leaf->lower);
	return i >= 0 && glance->pending[i];
}

/*
 * Look at the leaves up to until, before any lock: the pending table is read only if
 * the mark of cmq_earliest.c does not say that all in them is consumed.
 */
static void
take_glance(Glance *glance, CmqQueue *queue, TimestampTz until)
{
	glance->until = until;
	glance->rewound_at = queue->rewinding.rewound_at;
	if (cmq_earliest_get(queue->shared) >= until)
		return;

	/* from now on no send gets a time before until */
	if (cmq_clock_last(queue->shared) < until)
		(void) cmq_clock_now(queue->shared);
	cmq_earliest_look(queue->shared, &glance->look);
	read_pending(glance, queue, until);
}

/* Up to where leaves may be dropped now; what ends before *expired is all expired. */
static TimestampTz
droppable_until(CmqQueue *queue, TimestampTz *expired)
{
	TimestampTz now = cmq_queue_now(queue);

	*expired = cmq_bounds_expired_before(queue, now);
	if (queue->is_target)
		return *expired - TARGET_KEEP_LEADS * cmq_leaf_lead(queue);
	return Min(Max(Min(now, cmq_bounds_rewindable_since(queue, now)), *expired),
			   cmq_dedup_drop_until(queue));
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

/* Does the leaf seem to hold nothing that anybody can still receive? */
static bool
looks_empty(Drop *drop, const CmqLeaf *leaf, TimestampTz expired,
			TimestampTz until)
{
	CmqQueue   *queue = drop->queue;

	if (leaf->made_in != cmq_identity_database())
		return false;
	if (drop->glance.until == DT_NOBEGIN)
		take_glance(&drop->glance, queue, until);
	return !saw_pending(&drop->glance, leaf) &&
		(!queue->rewinding.active ||
		 cmq_due_in_leaf(queue, leaf, &queue->rewinding,
						 expired) == DT_NOEND);
}

/*
 * Find leaves that seem droppable before they are locked, from the place on; the place
 * moves behind them.
 */
static void
find_candidates(Drop *drop)
{
	CmqQueue   *queue = drop->queue = cmq_queue_again(drop->queue);
	TimestampTz expired;
	TimestampTz until = last_end(queue, droppable_until(queue, &expired));

	drop->ncandidates = 0;
	drop->more = false;
	memset(&drop->glance, 0, sizeof(Glance));
	drop->glance.until = DT_NOBEGIN;
	for (int i = 0; i < queue->nleaves && queue->leaves[i].upper <= until; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];

		if (leaf->lower < drop->place.visible_at)
			continue;
		if (drop->dropped + drop->ncandidates == MAX_DROPS ||
			cmq_portion_is_over(drop->portion))
		{
			drop->more = true;
			break;
		}
		drop->place.visible_at = leaf->upper;
		if (leaf->upper <= expired || looks_empty(drop, leaf, expired, until))
			drop->candidates[drop->ncandidates++] = *leaf;
	}
}

/*
 * Lock both tables alone, and that of keys, if there is one, if that takes but a moment;
 * else keep none.
 */
static bool
lock_tables(Oid messages, Oid rewind, Oid dedup)
{
	const Oid	relids[] = {messages, rewind, dedup};

	for (int i = 0; i < lengthof(relids); i++)
	{
		if (!OidIsValid(relids[i]) || cmq_lock_briefly(relids[i]))
			continue;
		while (--i >= 0)
			UnlockRelationOid(relids[i], AccessExclusiveLock);
		return false;
	}
	return true;
}

static void
unlock_tables(Oid messages, Oid rewind, Oid dedup)
{
	if (OidIsValid(dedup))
		UnlockRelationOid(dedup, AccessExclusiveLock);
	UnlockRelationOid(rewind, AccessExclusiveLock);
	UnlockRelationOid(messages, AccessExclusiveLock);
}

/* Has the queue this very leaf? */
static bool
has_leaf(CmqQueue *queue, const CmqLeaf *leaf)
{
	int			i = find_leaf(queue, leaf->lower);

	return i >= 0 && queue->leaves[i].messages == leaf->messages &&
		queue->leaves[i].rewind == leaf->rewind &&
		queue->leaves[i].dedup == leaf->dedup &&
		queue->leaves[i].lower == leaf->lower;
}

/*
 * Is nothing of this leaf pending?  The caller holds the queue lock, and the leaf alone:
 * each transaction that could have added a pending row since the glance has ended.
 */
static bool
none_pending(CmqQueue *queue, const CmqLeaf *leaf, const Glance *glance)
{
	Glance		now;

	if (cmq_earliest_get(queue->shared) >= leaf->upper)
		return true;
	if (glance->queue == NULL || leaf->upper > glance->until ||
		saw_pending(glance, leaf))
		return false;
	if (cmq_earliest_no_news(queue->shared, &glance->look, leaf->upper))
		return true;
	/* some transaction has been open for long; a large table stays unread */
	if (!cmq_oldest_is_small(queue))
		return false;
	read_pending(&now, queue, leaf->upper);
	return !saw_pending(&now, leaf);
}

/*
 * May the leaf be dropped?  Asked under the locks, because the queue may have been
 * altered, rewound or restored since the glance.
 */
static bool
is_over(CmqQueue *queue, const CmqLeaf *leaf, const Glance *glance)
{
	TimestampTz expired;

	/* by now it may be detached, or another leaf have its number */
	if (!has_leaf(queue, leaf) || leaf->upper > droppable_until(queue, &expired))
		return false;
	return leaf->upper <= expired ||
		(leaf->made_in == cmq_identity_database() &&
		 queue->rewinding.rewound_at == glance->rewound_at &&
		 none_pending(queue, leaf, glance));
}

/* Drop drop->leaf; called in a subtransaction. */
static void
drop_leaf(const char *name, void *arg)
{
	Drop	   *drop = arg;
	ObjectAddresses *objects = new_object_addresses();
	ObjectAddress object;

	cmq_queue_attach(drop->queue);
	ObjectAddressSet(object, RelationRelationId, drop->leaf->messages);
	add_exact_object_address(&object, objects);
	ObjectAddressSet(object, RelationRelationId, drop->leaf->rewind);
	add_exact_object_address(&object, objects);
	if (OidIsValid(drop->leaf->dedup))
	{
		ObjectAddressSet(object, RelationRelationId, drop->leaf->dedup);
		add_exact_object_address(&object, objects);
	}
	performMultipleDeletions(objects, DROP_RESTRICT, 0);
	free_object_addresses(objects);
	cmq_catalog_delete_leaf(drop->queue, drop->leaf->lower);
	/* due rows may have gone with it */
	cmq_xact_due_unknown(drop->queue->shared);
}

/* Drop drop->leaf, if nobody is in the way and its time is over. */
static void
drop_candidate(Drop *drop)
{
	CmqLeaf    *leaf = drop->leaf;

	if (!lock_tables(leaf->messages, leaf->rewind, leaf->dedup))
		drop->busy++;
	else if (is_over(drop->queue, leaf, &drop->glance) &&
			 cmq_try(drop->queue->name, "dropping a partition", drop_leaf, drop,
					 CMQ_TRY_WARN))
		drop->dropped++;
	else
		unlock_tables(leaf->messages, leaf->rewind, leaf->dedup);
}

/*
 * Drop the candidates, as far as there is time, and room for the locks; the place moves
 * back to the first one that is left for another portion.  False if the queue or its
 * parents cannot be locked.
 */
static bool
drop_candidates(Drop *drop)
{
	CmqQueue   *queue = cmq_queue_try_lock(drop->queue);
	int			before = drop->dropped;

	/* the queue lock stays to the end: nobody rewinds what is gone */
	if (queue == NULL ||
		!lock_tables(queue->messages, queue->rewind, queue->dedup))
		return false;
	/* nobody adds or takes away leaves from now on */
	drop->queue = queue = cmq_queue_again(queue);
	drop->busy = 0;
	for (int i = 0; i < drop->ncandidates; i++)
	{
		drop->leaf = &drop->candidates[i];
		if (drop->busy == MAX_BUSY ||
			(i > 0 && cmq_portion_is_over(drop->portion)) ||
			(i % DROPS_PER_LOOK == 0 && !cmq_portion_has_room()))
		{
			drop->place.visible_at = drop->leaf->lower;
			drop->more = true;
			break;
		}
		drop_candidate(drop);
	}
	if (drop->dropped == before)
		unlock_tables(queue->messages, queue->rewind, queue->dedup);
	return true;
}

/*
 * Maintenance: drop the leaves whose time is over, as many as there is room for their
 * locks.  A bounded portion also ends when its time is over, and the next one goes on
 * there.  What others have locked is left for the next round.  A leaf that cannot be
 * dropped, for instance because of a view on it, stays with a warning.
 */
CmqStepResult
cmq_leaf_drop_old(CmqQueue *queue, const CmqPortion *portion)
{
	Drop	   *drop = palloc0(sizeof(Drop));
	bool		had_room = true;

	drop->queue = queue;
	drop->portion = portion;
	drop->place = cmq_portion_get_place(queue, portion, CMQ_DROP_PLACE);
	if (cmq_catalog_forget_leaves(queue->name))
		CommandCounterIncrement();
	do
	{
		find_candidates(drop);

		/* before the try: if an error ends it, the next one begins behind */
		cmq_portion_set_place(drop->queue, portion, CMQ_DROP_PLACE, &drop->place);
		if (drop->ncandidates == 0)
			break;
		had_room = cmq_portion_has_room();
		if (!drop_candidates(drop))
		{
			drop->more = false;
			break;
		}
	} while (!portion->bounded && drop->more && had_room &&
			 drop->dropped < MAX_DROPS);
	if (!drop->more)
		drop->place.visible_at = DT_NOBEGIN;
	cmq_portion_set_place(drop->queue, portion, CMQ_DROP_PLACE, &drop->place);

	if (!drop->more)
		return CMQ_STEP_DONE;
	if (drop->dropped > 0)
		return CMQ_STEP_MORE;
	/* by hand the caller's transaction may hold them, and has to end */
	if (!had_room)
		return portion->bounded ? CMQ_STEP_DONE : CMQ_STEP_MORE;
	return CMQ_STEP_LOOKING;
}
