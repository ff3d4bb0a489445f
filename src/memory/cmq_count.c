/*-------------------------------------------------------------------------
 *
 * cmq_count.c
 *	  Counters of queues, and the numbers of their pending and due rows.
 *
 * Counters begin with the queue's shared entry and end with the server.  What a
 * transaction did counts when it commits (cmq_xact.c); empty receives and waits are
 * no transaction's work and count at once.
 *
 * The number of pending rows is exact, so that a full queue can be told from one that
 * is not.
 *
 * Invariant: the number is that of the rows that a snapshot has shown, and what all
 * transactions have changed since that this snapshot does not see.
 *	- A new entry is uncounted, but for that of a queue just created.  The first call
 *	  that needs the number, or maintenance, counts the rows of the pending table with
 *	  a snapshot (cmq_counting.c), which is published meanwhile.
 *	- A transaction that commits adds its change, but not if a count is under
 *	  way whose snapshot sees that transaction.
 *	- The snapshot is taken under the queue's count_lock, and changes are added under
 *	  it.  So each transaction is either seen by the snapshot or adds its change, never
 *	  both: the snapshot sees one that has added before, and the count starts at 0 then.
 *	- A transaction can be seen before it adds.  So each backend announces its
 *	  transaction id before it commits, until it has added (cmq_proc.c); and a count
 *	  does not end before all that its snapshot sees have done so.  That takes but a
 *	  moment, because a transaction can be seen only at the very end of its commit.
 *	- What a prepared transaction has changed is added when it is settled
 *	  (cmq_prepared.c), in the same way; a count settles all that its snapshot sees
 *	  before it ends.
 *	- Changes whose size is not known, by hand, make the queue uncounted again.
 *
 * The number of messages that the rewind under way still has to bring back, its due
 * rows, is kept in the same way.  They are counted for one rewind, known by its
 * rewound_at, and from one time of production on, where that rewind started:
 *	- The set of due rows only shrinks (cmq_rewind.c).  A transaction that takes some
 *	  says for which rewind, and when the first was produced.  If that is not what was
 *	  counted, the change cannot be added, and the queue is uncounted.
 *	- A transaction makes the queue uncounted if it begins a rewind, changes the rewind
 *	  tables by hand, moves the start of the rewind past rows that have expired, or
 *	  drops their leaf.  So due rows that have expired are in the number until
 *	  maintenance has passed them, as expired pending rows are.
 *
 * The snapshot of a count is in one of a few places in shared memory.  A count that
 * finds no place free is for its caller alone: nobody waits for the count of another
 * queue.  Error in a count: the queue is uncounted.  Crash: all numbers are lost, and
 * each queue is counted anew.
 *
 * Locks: count_lock of the queue, shared at each commit that changed the queue,
 * exclusive to begin and end a count.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/snapmgr.h"

#include "memory/cmq_count.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_proc.h"
#include "memory/cmq_types.h"

/* How long to sleep for a backend that is about to add its changes. */
#define ADDER_DELAY 100			/* microseconds */

/* How many counts can run at once on the server. */
#define COUNT_PLACES 8

/* The snapshot of a count under way; under the count_lock of its queue. */
typedef struct CountSnapshot
{
	pg_atomic_uint32 taken;
	TransactionId xmin;
	TransactionId xmax;
	uint32		xcnt;
	TransactionId xip[FLEXIBLE_ARRAY_MEMBER];
} CountSnapshot;

static char *count_snapshots = NULL;

static Size
count_snapshot_size(void)
{
	return MAXALIGN(offsetof(CountSnapshot, xip) +
					(MaxBackends + max_prepared_xacts) * sizeof(TransactionId));
}

static CountSnapshot *
get_place(int place)
{
	return (CountSnapshot *) (count_snapshots + place * count_snapshot_size());
}

Size
cmq_count_shmem_size(void)
{
	return mul_size(COUNT_PLACES, count_snapshot_size());
}

/* Called under AddinShmemInitLock. */
void
cmq_count_shmem_init(void)
{
	bool		found;

	count_snapshots = ShmemInitStruct("cmq counts", cmq_count_shmem_size(),
									  &found);
	for (int i = 0; i < COUNT_PLACES && !found; i++)
		pg_atomic_init_u32(&get_place(i)->taken, 0);
}

/* Add due rows, more or less, the first of them produced at that time. */
void
cmq_changes_add_due(CmqChanges *changes, int64 due, TimestampTz rewound_at,
					TimestampTz from)
{
	if (changes->due == 0)
		changes->due_from = from;
	/* those of two rewinds cannot be told apart any more */
	else if (changes->due_rewound_at != rewound_at)
		changes->due_unknown = true;
	changes->due += due;
	changes->due_rewound_at = rewound_at;
	changes->due_from = Min(changes->due_from, from);
}

void
cmq_changes_merge(CmqChanges *changes, const CmqChanges *more)
{
	changes->pending += more->pending;
	changes->pending_unknown |= more->pending_unknown;
	changes->due_unknown |= more->due_unknown;
	if (more->due != 0)
		cmq_changes_add_due(changes, more->due, more->due_rewound_at,
							more->due_from);
	for (int i = 0; i < CMQ_NCOUNTERS; i++)
		changes->counters[i] += more->counters[i];
}

/* Are there more rows, or less, or perhaps, so that a count has to know? */
bool
cmq_changes_rows(const CmqChanges *changes)
{
	return changes->pending != 0 || changes->due != 0 ||
		changes->pending_unknown || changes->due_unknown;
}

/* The queue is being created by the current transaction: it has no rows yet. */
void
cmq_count_start_empty(CmqSharedQueue *shared)
{
	LWLockAcquire(&shared->count_lock, LW_EXCLUSIVE);
	if (shared->pending.state == CMQ_UNCOUNTED)
		shared->pending.state = CMQ_COUNTED;
	LWLockRelease(&shared->count_lock);
}

/* Count something at once. */
void
cmq_count_event(CmqSharedQueue *shared, CmqCounter counter)
{
	pg_atomic_fetch_add_u64(&shared->counters[counter], 1);
}

int64
cmq_count_counter(CmqSharedQueue *shared, CmqCounter counter)
{
	return (int64) pg_atomic_read_u64(&shared->counters[counter]);
}

/* When the counters have begun, by the wall clock. */
TimestampTz
cmq_count_since(CmqSharedQueue *shared)
{
	return shared->counted_since;
}

/* Does the snapshot of the count under way see this transaction? */
static bool
is_seen(const CountSnapshot *place, TransactionId xid)
{
	if (TransactionIdPrecedes(xid, place->xmin))
		return true;
	if (TransactionIdFollowsOrEquals(xid, place->xmax))
		return false;
	for (uint32 i = 0; i < place->xcnt; i++)
	{
		if (TransactionIdEquals(place->xip[i], xid))
			return false;
	}
	return true;
}

/*
 * Is what this transaction has changed part of the count already?  The transaction can be
 * seen, and the caller holds the count_lock.
 */
static bool
is_counted(const CmqCount *count, TransactionId xid)
{
	return count->state == CMQ_COUNTING && is_seen(get_place(count->place), xid);
}

static void
spoil(CmqSharedQueue *shared, CmqCount *count)
{
	LWLockAcquire(&shared->count_lock, LW_EXCLUSIVE);
	count->state = count->state == CMQ_COUNTING || count->state == CMQ_SPOILED ?
		CMQ_SPOILED : CMQ_UNCOUNTED;
	LWLockRelease(&shared->count_lock);
}

/* The numbers of rows of a queue are no longer right. */
void
cmq_count_spoil(CmqSharedQueue *shared)
{
	spoil(shared, &shared->pending);
	spoil(shared, &shared->due);
}

/* Add the due rows, more or less; false if they cannot be added. */
static bool
add_due(CmqSharedQueue *shared, const CmqChanges *changes, TransactionId xid)
{
	CmqCount   *count = &shared->due;

	if ((count->state != CMQ_COUNTING && count->state != CMQ_COUNTED) ||
		is_counted(count, xid))
		return true;
	if (changes->due_rewound_at != shared->due_rewound_at ||
		changes->due_from < shared->due_from)
		return false;
	pg_atomic_fetch_add_u64(&count->n, changes->due);
	return true;
}

/*
 * This transaction has changed the queue, and can be seen.  If it has changed numbers of
 * rows, no count that sees it ends meanwhile: the caller has shown its commit, or settles it.
 */
void
cmq_count_add(CmqSharedQueue *shared, const CmqChanges *changes,
			  TransactionId xid)
{
	bool		due_unknown = changes->due_unknown;

	if (cmq_changes_rows(changes))
	{
		LWLockAcquire(&shared->count_lock, LW_SHARED);
		if (changes->pending != 0 && !is_counted(&shared->pending, xid))
			pg_atomic_fetch_add_u64(&shared->pending.n, changes->pending);
		if (changes->due != 0 && !add_due(shared, changes, xid))
			due_unknown = true;
		LWLockRelease(&shared->count_lock);
	}
	if (changes->pending_unknown)
		spoil(shared, &shared->pending);
	if (due_unknown)
		spoil(shared, &shared->due);
	for (int i = 0; i < CMQ_NCOUNTERS; i++)
	{
		if (changes->counters[i] != 0)
			pg_atomic_fetch_add_u64(&shared->counters[i], changes->counters[i]);
	}
}

static CmqCount *
get_count(const CmqCounting *counting)
{
	return counting->due ? &counting->shared->due : &counting->shared->pending;
}

/* Is the number known, or one for a newer rewind than the caller knows? */
bool
cmq_count_is_known(const CmqCounting *counting)
{
	return get_count(counting)->state == CMQ_COUNTED &&
		(!counting->due ||
		 counting->shared->due_rewound_at >= counting->rewound_at);
}

/*
 * The number; false if it is not known, or is that of another rewind than the caller's.
 * What the own transaction has changed is not in it.
 */
bool
cmq_count_get(const CmqCounting *counting, int64 *n)
{
	CmqSharedQueue *shared = counting->shared;
	CmqCount   *count = get_count(counting);
	bool		ok;

	/* another count, which begins at 0, may begin any time */
	LWLockAcquire(&shared->count_lock, LW_SHARED);
	ok = count->state == CMQ_COUNTED &&
		(!counting->due || shared->due_rewound_at == counting->rewound_at);
	*n = (int64) pg_atomic_read_u64(&count->n);
	LWLockRelease(&shared->count_lock);
	return ok;
}

/* Take a place for a snapshot; -1 if there is none. */
static int
take_place(void)
{
	for (int i = 0; i < COUNT_PLACES; i++)
	{
		uint32		expected = 0;

		if (pg_atomic_compare_exchange_u32(&get_place(i)->taken, &expected, 1))
			return i;
	}
	return -1;
}

/*
 * Begin a count: its snapshot is published from here on; NULL if there is no place.
 * The caller makes sure that no other count of these rows is under way, and ends this
 * one with cmq_count_end() or, after an error, with cmq_count_fail().
 */
Snapshot
cmq_count_begin(const CmqCounting *counting)
{
	CmqSharedQueue *shared = counting->shared;
	CmqCount   *count = get_count(counting);
	int			i = take_place();
	CountSnapshot *place;
	Snapshot	snapshot;

	if (i < 0)
		return NULL;
	place = get_place(i);
	LWLockAcquire(&shared->count_lock, LW_EXCLUSIVE);
	count->place = i;
	snapshot = GetLatestSnapshot();
	Assert(snapshot->xcnt <= MaxBackends + max_prepared_xacts);
	place->xmin = snapshot->xmin;
	place->xmax = snapshot->xmax;
	place->xcnt = snapshot->xcnt;
	memcpy(place->xip, snapshot->xip, snapshot->xcnt * sizeof(TransactionId));
	pg_atomic_write_u64(&count->n, 0);
	if (counting->due)
	{
		shared->due_rewound_at = counting->rewound_at;
		shared->due_from = counting->from;
	}
	count->state = CMQ_COUNTING;
	LWLockRelease(&shared->count_lock);
	return snapshot;
}

/* Set the state of a count that is over, and give its place back. */
static void
end_count(const CmqCounting *counting, CmqCountState state)
{
	CmqSharedQueue *shared = counting->shared;
	CmqCount   *count = get_count(counting);
	int			place;

	LWLockAcquire(&shared->count_lock, LW_EXCLUSIVE);
	place = count->place;
	count->state = state == CMQ_COUNTED && count->state != CMQ_COUNTING ?
		CMQ_UNCOUNTED : state;
	count->place = -1;
	LWLockRelease(&shared->count_lock);
	if (place >= 0)
		pg_atomic_write_u32(&get_place(place)->taken, 0);
}

/*
 * Wait until each process that is about to add has done so, as long as wait_for says of
 * its transaction that we have to.
 */
static void
wait_for_adders(bool (*wait_for) (TransactionId xid, const void *arg),
				const void *arg)
{
	int			n = cmq_proc_count();

	for (int i = 0; i < n; i++)
	{
		TransactionId xid = cmq_proc_committing(i);

		if (!TransactionIdIsValid(xid))
			continue;
		while (cmq_proc_committing(i) == xid && wait_for(xid, arg))
		{
			CHECK_FOR_INTERRUPTS();
			pg_usleep(ADDER_DELAY);
		}
	}
	pg_read_barrier();
}

static bool
is_seen_by_count(TransactionId xid, const void *arg)
{
	return is_seen(arg, xid);
}

/*
 * The snapshot has shown n rows, those not counted that the own transaction has
 * added.  The caller has settled prepared transactions since it was taken.
 */
void
cmq_count_end(const CmqCounting *counting, int64 n)
{
	CmqCount   *count = get_count(counting);

	wait_for_adders(is_seen_by_count, get_place(count->place));
	pg_atomic_fetch_add_u64(&count->n, n);
	end_count(counting, CMQ_COUNTED);
}

/* The count has failed: nothing is counted. */
void
cmq_count_fail(const CmqCounting *counting)
{
	/* the error may have come while we held the lock */
	LWLockReleaseAll();
	end_count(counting, CMQ_UNCOUNTED);
}

static bool
has_ended(TransactionId xid, const void *arg)
{
	return !TransactionIdIsInProgress(xid);
}

/*
 * Wait until all transactions that can be seen by now have added: what others have
 * done since to their rows may have been added already.
 */
void
cmq_count_wait_for_visible(void)
{
	wait_for_adders(has_ended, NULL);
}
