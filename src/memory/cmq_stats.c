/*-------------------------------------------------------------------------
 *
 * cmq_stats.c
 *	  Counters of queues in shared memory, and the numbers of pending messages
 *	  and of those that a rewind still has to bring back.
 *
 * Counters begin with the queue's shared entry and end with the server.  What
 * a transaction did counts when it commits: the backend adds up per queue and
 * subtransaction, forgets what is rolled back, and adds the rest to shared
 * memory at the end.  Empty receives and waits are no transaction's work and
 * count at once.
 *
 * The number of pending rows is exact, so that a full queue can be told from
 * one that is not.  It is the sum of a count and of what transactions that the
 * count did not see have changed since:
 *	- A new entry is uncounted, but for that of a queue just created.  Whoever
 *	  first needs the number, or maintenance, counts the rows of the pending
 *	  table with a snapshot, which is published meanwhile.
 *	- A transaction that commits adds its change, but not if a count is under
 *	  way whose snapshot sees that transaction.
 *	- Both look under the queue's count_lock, so that each transaction is either
 *	  seen by the snapshot or adds its change, never both: whoever adds before
 *	  the snapshot is taken has been visible to it, and the count starts at 0
 *	  after that.
 *	- A transaction can be seen before it adds.  So each backend announces its
 *	  transaction id before it commits, until it has added; and a count does not
 *	  end before all that its snapshot sees have done so.  That is a matter of
 *	  moments, because a transaction is seen at the very end of its commit.
 *	- What a prepared transaction has changed is added when it is settled
 *	  (cmq_prepared.c), in the same way; a count settles all that its snapshot sees
 *	  before it ends.
 *	- Changes whose size is not known, by hand, make the queue uncounted again.
 * A crash loses the table, and each queue is counted anew.
 *
 * The number of messages that the rewind under way still has to bring back, its due
 * rows, is kept in the same way.  They are counted for one rewind, known by its
 * rewound_at, and from one time of production on, where that rewind started:
 *	- The set of due rows only shrinks (cmq_rewind.c).  Whoever takes some says for
 *	  which rewind, and when the first was produced.  If that is not what was
 *	  counted, the change cannot be added, and the queue is uncounted.
 *	- A transaction that begins a rewind, changes the rewind tables by hand, moves
 *	  the start of the rewind past rows that have expired, or drops their
 *	  leaf, makes the queue uncounted.  So due rows that have expired are in the
 *	  number until maintenance has passed them, as expired pending rows are.
 *	- Whoever still has a description with an older rewind than the one counted
 *	  counts for itself alone.
 *
 * One count of each kind runs at a time in a queue: it has the object lock (the
 * pending table, PENDING_LOCK or DUE_LOCK).  Its snapshot is in one of a few places in shared memory.  Whoever
 * finds no place free, or is a parallel worker, which shares locks with its
 * leader, counts for itself alone and leaves the queue uncounted: nobody waits for
 * the count of another queue.  An error in a count leaves the queue uncounted.
 *
 * Locks: count_lock of the queue, shared at each commit that changed the
 * queue, exclusive to begin and end a count.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/pg_class_d.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "memory/cmq_effect.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_stats.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_table.h"

/* How long to sleep for somebody who is about to add its changes. */
#define PUBLISHER_DELAY 100		/* microseconds */

/* Subobjects of the locks that only one count of each kind may hold. */
#define PENDING_LOCK 2
#define DUE_LOCK 3

typedef enum CountState
{
	UNCOUNTED,
	COUNTING,
	SPOILED,					/* counting, but in vain */
	COUNTED
} CountState;

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

/* Transactions about to add their changes, by process number. */
static pg_atomic_uint32 *publishing = NULL;
static TransactionId announced = InvalidTransactionId;	/* ours in it */

/* What one (sub)transaction did to one queue. */
typedef struct Delta
{
	CmqSharedQueue *shared;
	SubTransactionId subid;
	CmqPreparedQueue changes;	/* only what is counted */
} Delta;

static List *deltas = NIL;		/* in TopTransactionContext */
static Delta *last_delta = NULL;	/* the one used last, or NULL */

Size
cmq_stats_shmem_size(void)
{
	return add_size(mul_size(COUNT_PLACES, count_snapshot_size()),
					mul_size(MaxBackends, sizeof(pg_atomic_uint32)));
}

/* Called under AddinShmemInitLock. */
void
cmq_stats_shmem_init(void)
{
	bool		found;

	count_snapshots = ShmemInitStruct("cmq counts",
									  COUNT_PLACES * count_snapshot_size(),
									  &found);
	publishing = ShmemInitStruct("cmq publishing",
								 MaxBackends * sizeof(pg_atomic_uint32),
								 &found);
	if (found)
		return;
	for (int i = 0; i < COUNT_PLACES; i++)
		pg_atomic_init_u32(&get_place(i)->taken, 0);
	for (int i = 0; i < MaxBackends; i++)
		pg_atomic_init_u32(&publishing[i], InvalidTransactionId);
}

static void
init_count(CmqCount *count)
{
	count->state = UNCOUNTED;
	count->place = -1;
	pg_atomic_init_u64(&count->n, 0);
}

/* A new shared entry of a queue. */
void
cmq_stats_init(CmqSharedQueue *shared, int tranche)
{
	LWLockInitialize(&shared->count_lock, tranche);
	init_count(&shared->pending);
	init_count(&shared->due);
	shared->due_rewound_at = shared->due_from = DT_NOBEGIN;
	shared->counted_since = GetCurrentTimestamp();
	for (int i = 0; i < CMQ_NCOUNTERS; i++)
		pg_atomic_init_u64(&shared->counters[i], 0);
}

/* The queue is being created by the current transaction: it has no rows yet. */
void
cmq_stats_start_empty(CmqSharedQueue *shared)
{
	LWLockAcquire(&shared->count_lock, LW_EXCLUSIVE);
	if (shared->pending.state == UNCOUNTED)
		shared->pending.state = COUNTED;
	LWLockRelease(&shared->count_lock);
}

static Delta *
get_delta(CmqSharedQueue *shared)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	Delta	   *delta;
	ListCell   *lc;
	MemoryContext old;

	if (last_delta && last_delta->shared == shared &&
		last_delta->subid == subid)
		return last_delta;
	foreach(lc, deltas)
	{
		delta = lfirst(lc);
		if (delta->shared == shared && delta->subid == subid)
			return last_delta = delta;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	delta = palloc0(sizeof(Delta));
	delta->shared = shared;
	delta->subid = subid;
	deltas = lappend(deltas, delta);
	MemoryContextSwitchTo(old);
	return last_delta = delta;
}

/* Count something if the current transaction commits. */
void
cmq_stats_add(CmqSharedQueue *shared, CmqCounter counter, int64 n)
{
	get_delta(shared)->changes.counters[counter] += n;
}

/* Count something at once. */
void
cmq_stats_event(CmqSharedQueue *shared, CmqCounter counter)
{
	pg_atomic_fetch_add_u64(&shared->counters[counter], 1);
}

/* The current transaction has inserted so many pending rows, or deleted. */
void
cmq_stats_pending(CmqSharedQueue *shared, int64 n)
{
	get_delta(shared)->changes.pending += n;
}

/* The current transaction changes pending rows without counting them. */
void
cmq_stats_pending_unknown(CmqSharedQueue *shared)
{
	get_delta(shared)->changes.pending_unknown = true;
}

/*
 * The current transaction has taken a row, produced at that time, that was due for
 * that rewind.
 */
void
cmq_stats_due(CmqSharedQueue *shared, const CmqRewind *rewinding,
			  TimestampTz enqueued_at)
{
	cmq_prepared_merge_due(&get_delta(shared)->changes, -1,
						   rewinding->rewound_at, enqueued_at);
}

/* The current transaction changes what is due without counting it. */
void
cmq_stats_due_unknown(CmqSharedQueue *shared)
{
	get_delta(shared)->changes.due_unknown = true;
}

/* What others must not know yet: rows that the current transaction changed. */
static int64
own_pending(CmqSharedQueue *shared, bool *unknown)
{
	int64		n = 0;
	ListCell   *lc;

	*unknown = false;
	foreach(lc, deltas)
	{
		Delta	   *delta = lfirst(lc);

		if (delta->shared != shared)
			continue;
		n += delta->changes.pending;
		*unknown |= delta->changes.pending_unknown;
	}
	return n;
}

/* The same for rows that are due for a rewind. */
static int64
own_due(CmqSharedQueue *shared, TimestampTz rewound_at, bool *unknown)
{
	int64		n = 0;
	ListCell   *lc;

	*unknown = false;
	foreach(lc, deltas)
	{
		Delta	   *delta = lfirst(lc);

		if (delta->shared != shared)
			continue;
		n += delta->changes.due;
		*unknown |= delta->changes.due_unknown ||
			(delta->changes.due != 0 &&
			 delta->changes.due_rewound_at != rewound_at);
	}
	return n;
}

/* Does the snapshot of the count under way see this transaction? */
static bool
counted_already(const CountSnapshot *count_snapshot, TransactionId xid)
{
	if (TransactionIdPrecedes(xid, count_snapshot->xmin))
		return true;
	if (TransactionIdFollowsOrEquals(xid, count_snapshot->xmax))
		return false;
	for (uint32 i = 0; i < count_snapshot->xcnt; i++)
	{
		if (TransactionIdEquals(count_snapshot->xip[i], xid))
			return false;
	}
	return true;
}

static void
spoil(CmqSharedQueue *shared, CmqCount *count)
{
	LWLockAcquire(&shared->count_lock, LW_EXCLUSIVE);
	count->state = count->state == COUNTING || count->state == SPOILED ?
		SPOILED : UNCOUNTED;
	LWLockRelease(&shared->count_lock);
}

/* The counts of a queue are no longer right. */
void
cmq_stats_spoil(CmqSharedQueue *shared)
{
	spoil(shared, &shared->pending);
	spoil(shared, &shared->due);
}

/* Is the change of this transaction, which can be seen, part of the count already? */
static bool
is_counted(const CmqCount *count, TransactionId xid)
{
	return count->state == COUNTING &&
		counted_already(get_place(count->place), xid);
}

/* Add the due rows taken or put back; false if they cannot be added. */
static bool
add_due(CmqSharedQueue *shared, const CmqPreparedQueue *changes,
		TransactionId xid)
{
	CmqCount   *count = &shared->due;

	if ((count->state != COUNTING && count->state != COUNTED) ||
		is_counted(count, xid))
		return true;
	if (changes->due_rewound_at != shared->due_rewound_at ||
		changes->due_from < shared->due_from)
		return false;
	pg_atomic_fetch_add_u64(&count->n, changes->due);
	return true;
}

/*
 * This transaction has changed the queue, and can be seen.  If pending or due is not
 * 0 no count ends that sees it: it has been announced, or is being settled.
 */
void
cmq_stats_publish(CmqSharedQueue *shared, const CmqPreparedQueue *changes,
				  TransactionId xid)
{
	bool		due_unknown = changes->due_unknown;

	if (changes->pending != 0 || changes->due != 0)
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

/* All of our changes have been published, or we have failed. */
static void
end_announcement(void)
{
	if (!TransactionIdIsValid(announced))
		return;
	pg_write_barrier();
	pg_atomic_write_u32(&publishing[cmq_my_process_number()],
						InvalidTransactionId);
	announced = InvalidTransactionId;
}

/* The current transaction is about to commit. */
static void
announce_deltas(void)
{
	ListCell   *lc;

	foreach(lc, deltas)
	{
		const CmqPreparedQueue *changes = &((Delta *) lfirst(lc))->changes;

		if (changes->pending == 0 && changes->due == 0)
			continue;
		announced = GetTopTransactionIdIfAny();
		pg_atomic_write_u32(&publishing[cmq_my_process_number()], announced);
		return;
	}
}

static void
xact_callback(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (event == XACT_EVENT_PRE_COMMIT)
		announce_deltas();
	if (event == XACT_EVENT_PRE_PREPARE)
	{
		foreach(lc, deltas)
			cmq_prepared_expect(((Delta *) lfirst(lc))->shared);
	}
	if (!cmq_xact_is_over(event))
		return;

	foreach(lc, deltas)
	{
		Delta	   *delta = lfirst(lc);

		if (event == XACT_EVENT_COMMIT)
			cmq_stats_publish(delta->shared, &delta->changes, announced);
		else if (event == XACT_EVENT_PREPARE)
			cmq_prepared_add(delta->shared, &delta->changes);
	}
	end_announcement();
	deltas = NIL;
	last_delta = NULL;
}

/* So that many subtransactions leave one delta; false if the parent has none. */
static bool
add_to_parent(const Delta *delta, SubTransactionId parent)
{
	ListCell   *lc;

	foreach(lc, deltas)
	{
		Delta	   *other = lfirst(lc);

		if (other->shared != delta->shared || other->subid != parent)
			continue;
		cmq_prepared_merge(&other->changes, &delta->changes);
		return true;
	}
	return false;
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	ListCell   *lc;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;

	last_delta = NULL;
	foreach(lc, deltas)
	{
		Delta	   *delta = lfirst(lc);

		if (delta->subid != mySubid)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB && !add_to_parent(delta, parentSubid))
			delta->subid = parentSubid;
		else
			deltas = foreach_delete_current(deltas, lc);
	}
}

void
cmq_stats_install_callbacks(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}

static int64
count_pending_rows(CmqQueue *queue, Snapshot snapshot)
{
	Relation	rel = cmq_table_open_heap(queue, queue->pending, CMQ_PENDING);
	TableScanDesc scan;
	TupleTableSlot *slot;
	int64		n = 0;

	if (rel == NULL)
		return 0;
	scan = cmq_beginscan(rel, snapshot);
	slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		n++;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return n;
}

/* What is counted: one of the counts of a queue's shared entry. */
typedef struct Counting
{
	CmqQueue   *queue;
	CmqCount   *count;
	bool		due;			/* due rows, not pending ones */
} Counting;

static Counting
get_counting(CmqQueue *queue, bool due)
{
	CmqSharedQueue *shared = queue->shared;
	Counting	counting = {queue, due ? &shared->due : &shared->pending, due};

	return counting;
}

static int64
count_rows(const Counting *counting, Snapshot snapshot)
{
	/* expired ones too: a comparison of times takes nobody else's row away */
	return counting->due ?
		cmq_rewind_count_due(counting->queue, snapshot, DT_NOBEGIN) :
		count_pending_rows(counting->queue, snapshot);
}

/* Has somebody counted, and what we want to know? */
static bool
has_count(const Counting *counting)
{
	return counting->count->state == COUNTED &&
		(!counting->due || counting->queue->shared->due_rewound_at >=
		 counting->queue->rewinding.rewound_at);
}

/* Wait until all whom the snapshot of our count sees have added or not. */
static void
wait_for_publishers(const CountSnapshot *place)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		TransactionId xid = pg_atomic_read_u32(&publishing[i]);

		if (!TransactionIdIsValid(xid) || !counted_already(place, xid))
			continue;
		while (pg_atomic_read_u32(&publishing[i]) == xid)
		{
			CHECK_FOR_INTERRUPTS();
			pg_usleep(PUBLISHER_DELAY);
		}
	}
	pg_read_barrier();
}

/*
 * Wait until all who can be seen by now have added: what others have done since to
 * rows of theirs may have been added already.
 */
static void
wait_for_visible(void)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		TransactionId xid = pg_atomic_read_u32(&publishing[i]);

		if (!TransactionIdIsValid(xid) || i == cmq_my_process_number())
			continue;
		while (pg_atomic_read_u32(&publishing[i]) == xid &&
			   !TransactionIdIsInProgress(xid))
		{
			CHECK_FOR_INTERRUPTS();
			pg_usleep(PUBLISHER_DELAY);
		}
	}
	pg_read_barrier();
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

/* A count has ended: set its state and give its place back. */
static void
end_count(const Counting *counting, CountState state)
{
	CmqSharedQueue *shared = counting->queue->shared;
	CmqCount   *count = counting->count;
	int			place;

	LWLockAcquire(&shared->count_lock, LW_EXCLUSIVE);
	place = count->place;
	count->state = state == COUNTED && count->state != COUNTING ?
		UNCOUNTED : state;
	count->place = -1;
	LWLockRelease(&shared->count_lock);
	if (place >= 0)
		pg_atomic_write_u32(&get_place(place)->taken, 0);
}

/* A count has failed, or the backend has to end: nothing is counted. */
static void
count_failed(int code, Datum arg)
{
	/* whoever interrupts us may have done so while we held the lock */
	LWLockReleaseAll();
	end_count((Counting *) DatumGetPointer(arg), UNCOUNTED);
}

/* Begin a count: publish its snapshot in the place, which is ours. */
static Snapshot
begin_count(const Counting *counting, int i)
{
	CmqQueue   *queue = counting->queue;
	CmqSharedQueue *shared = queue->shared;
	CountSnapshot *place = get_place(i);
	Snapshot	snapshot;

	LWLockAcquire(&shared->count_lock, LW_EXCLUSIVE);
	counting->count->place = i;
	snapshot = GetLatestSnapshot();
	Assert(snapshot->xcnt <= MaxBackends + max_prepared_xacts);
	place->xmin = snapshot->xmin;
	place->xmax = snapshot->xmax;
	place->xcnt = snapshot->xcnt;
	memcpy(place->xip, snapshot->xip, snapshot->xcnt * sizeof(TransactionId));
	pg_atomic_write_u64(&counting->count->n, 0);
	if (counting->due)
	{
		shared->due_rewound_at = queue->rewinding.rewound_at;
		shared->due_from = queue->rewinding.from;
	}
	counting->count->state = COUNTING;
	LWLockRelease(&shared->count_lock);
	return snapshot;
}

/* What the current transaction has changed of it. */
static int64
own_rows(const Counting *counting, bool *unknown)
{
	CmqQueue   *queue = counting->queue;

	return counting->due ?
		own_due(queue->shared, queue->rewinding.rewound_at, unknown) :
		own_pending(queue->shared, unknown);
}

/*
 * Count, unless somebody has done so meanwhile.  False if there is no place for
 * it, or somebody is at it and we are not to wait.
 */
static bool
count_for_all(Counting *counting, bool wait)
{
	Oid			relid = counting->queue->pending;
	int			lock = counting->due ? DUE_LOCK : PENDING_LOCK;
	volatile int place;

	if (IsParallelWorker())
		return false;
	if (wait)
		LockDatabaseObject(RelationRelationId, relid, lock, ExclusiveLock);
	else if (!ConditionalLockDatabaseObject(RelationRelationId, relid, lock,
											ExclusiveLock))
		return false;
	if (has_count(counting))
	{
		UnlockDatabaseObject(RelationRelationId, relid, lock, ExclusiveLock);
		return true;
	}
	place = take_place();
	if (place >= 0)
	{
		PG_ENSURE_ERROR_CLEANUP(count_failed, PointerGetDatum(counting));
		{
			Snapshot	snapshot = begin_count(counting, place);
			bool		unknown;
			int64		n;

			snapshot = RegisterSnapshot(snapshot);
			n = count_rows(counting, snapshot);
			UnregisterSnapshot(snapshot);

			/* our own rows are in it, but may yet be rolled back */
			n -= own_rows(counting, &unknown);
			cmq_prepared_settle();
			wait_for_publishers(get_place(place));
			pg_atomic_fetch_add_u64(&counting->count->n, n);
			end_count(counting, COUNTED);
		}
		PG_END_ENSURE_ERROR_CLEANUP(count_failed, PointerGetDatum(counting));
	}
	UnlockDatabaseObject(RelationRelationId, relid, lock, ExclusiveLock);
	return place >= 0;
}

/* Count for ourselves alone. */
static int64
count_alone(const Counting *counting)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64		n = count_rows(counting, snapshot);

	UnregisterSnapshot(snapshot);
	return n;
}

/*
 * Has a transaction that was prepared before the start something in the queue?  When
 * it ends it is in no count before somebody notices.
 */
static bool
is_held(CmqQueue *queue)
{
	if (likely(pg_atomic_read_u32(&queue->shared->held) == 0))
		return false;
	cmq_prepared_look_at_held();
	return pg_atomic_read_u32(&queue->shared->held) != 0;
}

/*
 * The number of rows in the pending table, as the current transaction sees
 * them.  The caller has attached the queue.  May count them, which takes time
 * in proportion to their number.
 */
int64
cmq_stats_count_pending(CmqQueue *queue)
{
	Counting	counting = get_counting(queue, false);
	bool		unknown;
	int64		own = own_rows(&counting, &unknown);

	cmq_prepared_settle();
	if (unknown || is_held(queue) ||
		(!has_count(&counting) && !count_for_all(&counting, true)))
		return count_alone(&counting);
	wait_for_visible();
	own += (int64) pg_atomic_read_u64(&counting.count->n);
	/* whoever has been seen in the moment since then has not added yet */
	return Max(own, 0);
}

/*
 * The same for what the rewind under way still has to bring back; may count, which
 * takes time in proportion to the history since its start.
 */
int64
cmq_stats_count_due(CmqQueue *queue)
{
	CmqSharedQueue *shared = queue->shared;
	Counting	counting = get_counting(queue, true);
	bool		unknown;
	int64		own;
	int64		n = 0;

	if (!queue->rewinding.active)
		return 0;
	own = own_rows(&counting, &unknown);
	cmq_prepared_settle();
	if (unknown || is_held(queue) ||
		(!has_count(&counting) && !count_for_all(&counting, true)))
		return count_alone(&counting);
	wait_for_visible();

	/* is it the count of our rewind? */
	LWLockAcquire(&shared->count_lock, LW_SHARED);
	unknown = shared->due_rewound_at != queue->rewinding.rewound_at;
	if (!unknown)
		n = (int64) pg_atomic_read_u64(&counting.count->n) + own;
	LWLockRelease(&shared->count_lock);
	return unknown ? count_alone(&counting) : Max(n, 0);
}

/*
 * Maintenance: count, so that nobody has to wait for it later.  Whoever is counting
 * what is due may be waiting for a leaf that our transaction has dropped.
 */
void
cmq_stats_count_ahead(CmqQueue *queue)
{
	Counting	counting = get_counting(queue, true);

	(void) cmq_stats_count_pending(queue);
	if (queue->rewinding.active && !has_count(&counting))
		(void) count_for_all(&counting, false);
}

/*
 * Is it known, without counting, that the pending table has no rows that the
 * current transaction sees?
 */
bool
cmq_stats_known_empty(CmqSharedQueue *shared)
{
	bool		unknown;
	int64		own = own_pending(shared, &unknown);

	cmq_prepared_settle();
	wait_for_visible();
	return !unknown && pg_atomic_read_u32(&shared->held) == 0 &&
		shared->pending.state == COUNTED &&
		(int64) pg_atomic_read_u64(&shared->pending.n) + own == 0;
}

/*
 * Is there room for n more rows in the pending table, if it may have max?
 * Does not count them when the table is too small for so many.
 */
bool
cmq_stats_has_room(CmqQueue *queue, int64 n, int64 max)
{
	CmqSharedQueue *shared = queue->shared;
	bool		unknown;
	int64		own = own_pending(shared, &unknown);

	/* what is not settled yet may be room, but takes none for more than a moment */
	if (shared->pending.state == COUNTED && !unknown &&
		(int64) pg_atomic_read_u64(&shared->pending.n) + own + n <= max)
		return true;
	if (shared->pending.state != COUNTED)
	{
		Relation	rel = cmq_table_open_heap(queue, queue->pending, CMQ_PENDING);
		int64		blocks = rel ? RelationGetNumberOfBlocks(rel) : 0;

		if (rel)
			relation_close(rel, NoLock);
		if (blocks * MaxHeapTuplesPerPage + n <= max)
			return true;
	}
	return cmq_stats_count_pending(queue) + n <= max;
}

int64
cmq_stats_counter(CmqSharedQueue *shared, CmqCounter counter)
{
	return (int64) pg_atomic_read_u64(&shared->counters[counter]);
}

TimestampTz
cmq_stats_counted_since(CmqSharedQueue *shared)
{
	return shared->counted_since;
}
