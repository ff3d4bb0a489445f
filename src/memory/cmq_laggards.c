/*-------------------------------------------------------------------------
 *
 * cmq_laggards.c
 *	  Groups of an ordered queue that are blocked, and where others begin.
 *
 * A group that is blocked holds the floor (cmq_floor.c) at its first message, however
 * long, and behind that everything is consumed but what is blocked, too.  So an ordered
 * queue has a second floor, and a list of laggards:
 *
 *		no pending row that anybody could still receive has visible_at below the
 *		second floor, unless its group is a laggard; and none of a laggard is below
 *		the laggard's own bound.
 *
 * A receive looks for the laggards one by one, and scans from the second floor.  The
 * same is kept for the rows that are due for a rewind, apart from that, by enqueued_at.
 * When the list is full the second floor stops.
 *
 * Both belong to a generation of the mark that is the floor (cmq_mark.c), and to a
 * rewind: with a new one they are as nothing.  A receive reads the mark, then the list,
 * scans, and installs what it has found if the generation is the same.  All limits of the
 * floor hold for the second floor, and for the bound of each laggard.  Two receives that
 * have begun with the same list can both install theirs: either is true.
 *
 * A laggard is known to be blocked until a message that is in flight becomes visible, or
 * something happens to its group (cmq_group_events.c).  So a receive need not look at a
 * group again that it, or another one, has found blocked.
 *
 * Look-ahead is how many rows of groups that cannot be had a receive passes before it
 * walks from group to group instead, from where the last such walk has ended (the hop).
 * Both are hints.
 *
 * A transaction that has taken rows may scan from floors of its own, as with the first
 * floor; they are kept for the queue that it received from last, and go with that floor,
 * at the end of the transaction or when a subtransaction is undone.  Maintenance may give
 * that floor back without them: so it is counted how often it went.
 *
 * Locks: the mutex of the entry.  Crash: shared memory begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "memory/cmq_entry.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_group_events.h"
#include "memory/cmq_laggards.h"
#include "memory/cmq_mark.h"
#include "memory/cmq_proc.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"

/* 0 in a new entry says this */
#define LOOK_AHEAD 1000
#define LOOK_AHEAD_MIN 64

/* Those of this transaction alone; valid while the own floor is this one. */
typedef struct OwnLaggards
{
	CmqSharedQueue *shared;		/* NULL: none */
	TimestampTz own_floor;
	uint64		nundone;
	CmqLaggards laggards;
} OwnLaggards;

static OwnLaggards own_laggards[CMQ_NLAGGARDS];

/* The list is mostly short. */
void
cmq_laggards_copy(CmqLaggards *to, const CmqLaggards *from)
{
	memcpy(to, from, offsetof(CmqLaggards, each) + from->n * sizeof(CmqLaggard));
}

static const CmqMarkView *
view_of(CmqMarkKind kind, const CmqFloorScan *scan)
{
	return kind == CMQ_FLOOR ? &scan->view : &scan->rewind_view;
}

static TimestampTz
rewound_at_of(CmqMarkKind kind, const CmqFloorScan *scan)
{
	return kind == CMQ_FLOOR ? DT_NOBEGIN : scan->rewound_at;
}

/* The own floor of that kind, as it is now. */
static TimestampTz
own_floor_of(CmqMarkKind kind)
{
	const CmqOwnFloor *own = cmq_xact_own_floor();

	return kind == CMQ_FLOOR ? own->floor : own->rewind_floor;
}

/*
 * The second floor, and the laggards, for a scan that has begun.  There are none for one
 * whose transaction has put rows back: others do not see these.
 */
void
cmq_laggards_read(CmqSharedQueue *shared, CmqMarkKind kind,
				  const CmqFloorScan *scan, CmqLaggards *laggards)
{
	const CmqLaggards *theirs = &shared->laggards[kind];
	const OwnLaggards *own = &own_laggards[kind];
	const CmqMarkView *view = view_of(kind, scan);
	TimestampTz rewound_at = rewound_at_of(kind, scan);

	laggards->generation = view->generation;
	laggards->rewound_at = rewound_at;
	laggards->floor = laggards->since = DT_NOBEGIN;
	laggards->n = 0;
	if (scan->lowered != DT_NOEND ||
		(kind == CMQ_REWIND_FLOOR && rewound_at == DT_NOBEGIN))
		return;

	SpinLockAcquire(&shared->mutex);
	if (theirs->generation == view->generation && theirs->rewound_at == rewound_at)
	{
		cmq_laggards_copy(laggards, theirs);
	}
	SpinLockRelease(&shared->mutex);

	if (own->shared == shared && cmq_xact_own_floor()->shared == shared &&
		own->nundone == cmq_xact_own_floor()->nundone &&
		own->own_floor == own_floor_of(kind) &&
		own->laggards.generation == view->generation &&
		own->laggards.rewound_at == rewound_at &&
		own->laggards.floor > laggards->floor)
		cmq_laggards_copy(laggards, &own->laggards);
}

/* No floor of a list is above this. */
static void
limit_to(CmqLaggards *laggards, TimestampTz limit)
{
	laggards->floor = Min(laggards->floor, limit);
	for (int i = 0; i < laggards->n; i++)
		laggards->each[i].from = Min(laggards->each[i].from, limit);
}

/*
 * A scan has found this, and has ended its look for floors (cmq_floor_end()).  *laggards
 * is changed.
 */
void
cmq_laggards_install(CmqSharedQueue *shared, CmqMarkKind kind,
					 const CmqFloorScan *scan, CmqLaggards *laggards)
{
	CmqLaggards *theirs = &shared->laggards[kind];
	OwnLaggards *own = &own_laggards[kind];
	const CmqMarkView *view = view_of(kind, scan);
	CmqTaken	taken = cmq_xact_taken_of(shared);
	bool		pending = kind == CMQ_FLOOR;

	if (scan->lowered != DT_NOEND || scan->own_limit == CMQ_TIME_UNKNOWN)
		return;
	/* nothing becomes due: as in cmq_floor_end() */
	if (pending)
		limit_to(laggards, scan->own_limit);
	own->shared = shared;
	own->own_floor = own_floor_of(kind);
	own->nundone = cmq_xact_own_floor()->nundone;
	cmq_laggards_copy(&own->laggards, laggards);

	if (scan->limit == CMQ_TIME_UNKNOWN ||
		(!pending && cmq_xact_has_rewound(shared)))
		return;
	limit_to(laggards, pending ? Min(scan->limit, taken.ready) : taken.due);
	SpinLockAcquire(&shared->mutex);
	if (shared->marks[kind].generation == view->generation &&
		(theirs->generation != laggards->generation ||
		 theirs->rewound_at < laggards->rewound_at ||
		 (theirs->rewound_at == laggards->rewound_at &&
		  theirs->floor <= laggards->floor)))
	{
		theirs->generation = laggards->generation;
		theirs->rewound_at = laggards->rewound_at;
		if (theirs->floor == laggards->floor)
			laggards->since = theirs->since;
		cmq_laggards_copy(theirs, laggards);
	}
	SpinLockRelease(&shared->mutex);
}

/* Need nobody look at the group, at this time of the queue clock? */
bool
cmq_laggards_is_blocked(CmqSharedQueue *shared, const CmqLaggard *laggard,
						TimestampTz now)
{
	return now < laggard->until &&
		laggard->event == cmq_group_events_count(shared, laggard->group);
}

/* How many rows that it cannot have a receive passes. */
int
cmq_laggards_look_ahead(CmqSharedQueue *shared)
{
	uint32		n = pg_atomic_read_u32(&shared->look_ahead);

	return n == 0 ? LOOK_AHEAD : (int) n;
}

void
cmq_laggards_set_look_ahead(CmqSharedQueue *shared, int n)
{
	pg_atomic_write_u32(&shared->look_ahead, (uint32) Max(LOOK_AHEAD_MIN, Min(n, LOOK_AHEAD)));
}

/* The group behind which the next walk begins. */
int64
cmq_laggards_hop(CmqSharedQueue *shared, CmqHopKind kind)
{
	return (int64) pg_atomic_read_u64(&shared->hops[kind]);
}

void
cmq_laggards_set_hop(CmqSharedQueue *shared, CmqHopKind kind, int64 group)
{
	pg_atomic_write_u64(&shared->hops[kind], (uint64) group);
}
