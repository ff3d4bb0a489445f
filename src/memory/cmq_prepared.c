/*-------------------------------------------------------------------------
 *
 * cmq_prepared.c
 *	  What prepared transactions will do when they end.
 *
 * PREPARE TRANSACTION takes a transaction away from its backend, and another
 * one will end it, perhaps much later.  What ours would do for the transaction
 * at its end cannot wait in memory of its own.  So shared memory has an entry for
 * each prepared transaction that has used queues, known by its id: from which time
 * on it may have written pending rows (cmq_floor.c), and per queue what it counts
 * (cmq_stats.c) and whom it signals (cmq_wait.c).
 *
 * An entry is added in the callbacks at PREPARE, when the server knows the
 * transaction as prepared but lets nobody end it yet.
 *
 * Nobody tells us that a prepared transaction has ended, and there are several ways
 * to end it: the SQL commands, the apply worker of a subscription, another
 * extension.  All of them end it inside a transaction of their own.  So entries are
 * settled: whoever finds that the transaction of one is not in progress any more
 * does what the entry says, by what became of it, and removes it.  Who settles:
 *	- each backend at the end of a transaction that has written WAL without having
 *	  an id, as one that ends a prepared transaction has: so waiters are woken and
 *	  counts are right before the command returns
 *	- whoever wants to know the number of pending rows, and whoever has counted
 *	  them: what its snapshot sees must not be added to it later
 *	- maintenance
 * A settlement holds the lock from the look at the entry until all it says is done,
 * so whoever has settled, or found nothing to settle, knows that it is done.
 *
 * A place has room for a few queues; a transaction that used more has several.
 * They are reserved before it is prepared: if they are not to be had the
 * transaction fails, as it does without a place in the server's own list.
 *
 * Nothing of this is written to disk: transactions prepared before the server was
 * started last, or promoted, have no entry.  What they have done to queues is told
 * by their locks, which the server takes anew for them: on the pending or the
 * rewind table, to write, or the queue lock.  When the shared entry of a queue is
 * made, at its first use, such a lock makes it a held one: receives do not raise
 * its floors, nor others its mark.  When the lock is gone, which is looked for when
 * entries are settled, the queue is held no more, its count begins anew, and its
 * waiters look.  A transaction without such a lock is none of ours.
 *
 * Locks: LWLock cmq_prepared guards the entries.  While it is held that of
 * cmq_shmem.c, and below it the count_lock of a queue, may be asked for, never the
 * other way round.  The smallest time of all entries is an atomic.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class_d.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "memory/cmq_effect.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_stats.h"
#include "memory/cmq_wait.h"

/* How many queues an entry has room for. */
#define PREPARED_QUEUES 8

typedef struct Prepared
{
	TransactionId xid;			/* InvalidTransactionId: a free place */
	TimestampTz floor;			/* smallest visible_at written */
	int			nqueues;
	CmqPreparedQueue queues[PREPARED_QUEUES];
} Prepared;

typedef struct PreparedShared
{
	pg_atomic_uint64 floor;		/* of all */
	pg_atomic_uint32 nused;		/* places, a glance is free */
	pg_atomic_uint32 nheld;		/* queues held by what was prepared before */
	int			nreserved;		/* for transactions about to be prepared */
	int			nplaces;
	Prepared	places[FLEXIBLE_ARRAY_MEMBER];
} PreparedShared;

static PreparedShared *prepared = NULL;
static LWLock *prepared_lock = NULL;

/* The queues that the current transaction has used, about to be prepared. */
static List *expected = NIL;	/* in TopTransactionContext */
static bool expecting = false;	/* will there be an entry? */

/* How many places are reserved for the current transaction. */
static int	reserved = 0;

/* May the current transaction have ended a prepared one? */
static bool may_have_ended = false;

static int
number_of_places(void)
{
	/* as many may have ended whose entries are about to be removed */
	return max_prepared_xacts > 0 ? 2 * max_prepared_xacts + MaxBackends : 0;
}

Size
cmq_prepared_shmem_size(void)
{
	return add_size(offsetof(PreparedShared, places),
					mul_size(number_of_places(), sizeof(Prepared)));
}

/* Called under AddinShmemInitLock. */
void
cmq_prepared_shmem_init(LWLock *lock)
{
	bool		found;

	prepared_lock = lock;
	prepared = ShmemInitStruct("cmq prepared transactions",
							   cmq_prepared_shmem_size(), &found);
	if (found)
		return;
	pg_atomic_init_u64(&prepared->floor, (uint64) DT_NOEND);
	pg_atomic_init_u32(&prepared->nused, 0);
	pg_atomic_init_u32(&prepared->nheld, 0);
	prepared->nreserved = 0;
	prepared->nplaces = number_of_places();
	for (int i = 0; i < prepared->nplaces; i++)
		prepared->places[i].xid = InvalidTransactionId;
}

/* No prepared transaction with an entry has written pending rows before this time. */
TimestampTz
cmq_prepared_floor(void)
{
	return (TimestampTz) pg_atomic_read_u64(&prepared->floor);
}

/* The caller holds the lock. */
static void
set_floor(void)
{
	TimestampTz floor = DT_NOEND;

	if (pg_atomic_read_u32(&prepared->nused) > 0)
	{
		for (int i = 0; i < prepared->nplaces; i++)
		{
			if (TransactionIdIsValid(prepared->places[i].xid))
				floor = Min(floor, prepared->places[i].floor);
		}
	}
	pg_atomic_write_u64(&prepared->floor, (uint64) floor);
}

/*
 * The current transaction is about to be prepared, and will add something: for this
 * queue, or a floor (NULL).  To be called at PRE_PREPARE.
 */
void
cmq_prepared_expect(CmqSharedQueue *shared)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	expecting = true;
	if (shared)
		expected = list_append_unique_ptr(expected, shared);
	MemoryContextSwitchTo(old);
}

/* Reserve places for what is expected.  Raises 53400 if there are not enough. */
static void
reserve_places(void)
{
	int			nqueues = list_length(expected);
	int			needed = Max(1, (nqueues + PREPARED_QUEUES - 1) / PREPARED_QUEUES);
	bool		ok;

	/* without room for any the server refuses, and says why */
	if (!expecting || max_prepared_xacts == 0)
		return;
	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	ok = pg_atomic_read_u32(&prepared->nused) + prepared->nreserved + needed <=
		prepared->nplaces;
	if (ok)
	{
		prepared->nreserved += needed;
		reserved = needed;
	}
	LWLockRelease(prepared_lock);
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("cannot prepare a transaction that has used %d queues",
						nqueues),
				 errdetail("Prepared transactions have used too many queues."),
				 errhint("Raise max_prepared_transactions, or use fewer queues in a transaction.")));
}

/* Give back what was reserved and not used. */
static void
release_reserved(void)
{
	if (reserved == 0)
		return;
	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	prepared->nreserved -= reserved;
	LWLockRelease(prepared_lock);
	reserved = 0;
}

/*
 * A place of the current transaction with room for a queue, which is one that it has
 * already or a new one.  The caller holds the lock.
 */
static Prepared *
our_entry(bool for_queue)
{
	TransactionId xid = GetTopTransactionIdIfAny();
	Prepared   *entry = NULL;

	for (int i = 0; i < prepared->nplaces; i++)
	{
		Prepared   *place = &prepared->places[i];

		if (TransactionIdEquals(place->xid, xid) &&
			(!for_queue || place->nqueues < PREPARED_QUEUES))
			return place;
		if (entry == NULL && !TransactionIdIsValid(place->xid))
			entry = place;
	}
	/* each has been reserved: we are past the point where an error could be had */
	if (entry == NULL || reserved == 0)
		elog(PANIC, "no place for a prepared transaction that has used queues");
	memset(entry, 0, sizeof(*entry));
	entry->xid = xid;
	entry->floor = DT_NOEND;
	prepared->nreserved--;
	reserved--;
	pg_atomic_fetch_add_u32(&prepared->nused, 1);
	return entry;
}

/*
 * At PREPARE: the transaction has written pending rows from this time on.
 * cmq_prepared_floor() says so when this returns.
 */
void
cmq_prepared_add_floor(TimestampTz floor)
{
	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	our_entry(false)->floor = floor;
	set_floor();
	LWLockRelease(prepared_lock);
}

/* Add rows that were due for a rewind, the first of them produced at that time. */
void
cmq_prepared_merge_due(CmqPreparedQueue *queue, int64 due,
					   TimestampTz rewound_at, TimestampTz from)
{
	if (queue->due == 0)
		queue->due_from = from;
	/* those of two rewinds cannot be told apart any more */
	else if (queue->due_rewound_at != rewound_at)
		queue->due_unknown = true;
	queue->due += due;
	queue->due_rewound_at = rewound_at;
	queue->due_from = Min(queue->due_from, from);
}

/* Add to what is to be done for a queue. */
void
cmq_prepared_merge(CmqPreparedQueue *queue, const CmqPreparedQueue *more)
{
	queue->at_commit = Max(queue->at_commit, more->at_commit);
	queue->at_abort = Max(queue->at_abort, more->at_abort);
	queue->rewound |= more->rewound;
	queue->pending_unknown |= more->pending_unknown;
	queue->pending += more->pending;
	queue->due_unknown |= more->due_unknown;
	if (more->due != 0)
		cmq_prepared_merge_due(queue, more->due, more->due_rewound_at,
							   more->due_from);
	for (int i = 0; i < CMQ_NCOUNTERS; i++)
		queue->counters[i] += more->counters[i];
}

/* Our place that has this queue; NULL if none has.  The caller holds the lock. */
static CmqPreparedQueue *
find_queue(TransactionId xid, const CmqSharedKey *key)
{
	for (int i = 0; i < prepared->nplaces; i++)
	{
		Prepared   *entry = &prepared->places[i];

		if (!TransactionIdEquals(entry->xid, xid))
			continue;
		for (int j = 0; j < entry->nqueues; j++)
		{
			if (memcmp(&entry->queues[j].key, key, sizeof(CmqSharedKey)) == 0)
				return &entry->queues[j];
		}
	}
	return NULL;
}

/* At PREPARE: add to what is to be done for this queue at the end. */
void
cmq_prepared_add(CmqSharedQueue *shared, const CmqPreparedQueue *more)
{
	CmqPreparedQueue *queue;

	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	queue = find_queue(GetTopTransactionIdIfAny(), &shared->key);
	if (queue == NULL)
	{
		Prepared   *entry = our_entry(true);

		queue = &entry->queues[entry->nqueues++];
		queue->key = shared->key;
	}
	cmq_prepared_merge(queue, more);
	LWLockRelease(prepared_lock);
}

/* What a settlement does to a queue. */
typedef struct Settlement
{
	TransactionId xid;
	const CmqPreparedQueue *queue;
} Settlement;

static void
apply_commit(CmqSharedQueue *shared, void *arg)
{
	const Settlement *settlement = arg;

	cmq_stats_publish(shared, settlement->queue, settlement->xid);
	cmq_wait_signal(shared, settlement->queue->at_commit,
					settlement->queue->rewound);
}

static void
apply_abort(CmqSharedQueue *shared, void *arg)
{
	const Settlement *settlement = arg;

	cmq_wait_signal(shared, settlement->queue->at_abort, false);
}

/* This transaction has ended: do what its entries say, if nobody has yet. */
static void
settle(TransactionId xid)
{
	bool		committed = TransactionIdDidCommit(xid);

	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	for (int i = 0; i < prepared->nplaces; i++)
	{
		Prepared   *entry = &prepared->places[i];

		if (!TransactionIdEquals(entry->xid, xid))
			continue;
		for (int j = 0; j < entry->nqueues; j++)
		{
			Settlement	settlement = {.xid = xid,.queue = &entry->queues[j]};

			cmq_shmem_with(&entry->queues[j].key,
						   committed ? apply_commit : apply_abort, &settlement);
		}
		entry->xid = InvalidTransactionId;
		pg_atomic_fetch_sub_u32(&prepared->nused, 1);
	}
	set_floor();
	LWLockRelease(prepared_lock);
}

/*
 * Settle the entries of all transactions that have ended.  When this returns, what
 * has ended before it was called has been settled, by whomever.
 */
void
cmq_prepared_settle(void)
{
	bool		any = false;

	if (pg_atomic_read_u32(&prepared->nused) == 0)
		return;
	for (int i = 0; i < prepared->nplaces; i++)
	{
		TransactionId xid = ((volatile Prepared *) &prepared->places[i])->xid;

		if (!TransactionIdIsValid(xid) || TransactionIdIsInProgress(xid))
			continue;
		settle(xid);
		any = true;
	}
	/* somebody else may be at it */
	if (!any)
	{
		LWLockAcquire(prepared_lock, LW_SHARED);
		LWLockRelease(prepared_lock);
	}
}

/* Has a transaction that was prepared before the start this lock, or a conflicting one? */
static bool
is_locked(const LOCKTAG *tag, LOCKMODE conflicting)
{
	int			n;
	VirtualTransactionId *vxids = GetLockConflicts(tag, conflicting, &n);
	bool		found = false;

	for (int i = 0; i < n; i++)
		found |= VirtualTransactionIdIsRecoveredPreparedXact(vxids[i]);
	pfree(vxids);
	return found;
}

/*
 * Has a transaction that was prepared before the server was started done something
 * to this queue, and not ended?
 */
static bool
is_held(Oid database, const CmqRelids *relids)
{
	LOCKTAG		tag;

	if (max_prepared_xacts == 0)
		return false;
	/* whoever has written has RowExclusive or more */
	SET_LOCKTAG_RELATION(tag, database, relids->pending);
	if (is_locked(&tag, ShareLock))
		return true;
	SET_LOCKTAG_RELATION(tag, database, relids->rewind);
	if (is_locked(&tag, ShareLock))
		return true;
	SET_LOCKTAG_OBJECT(tag, database, RelationRelationId, relids->rights, 0);
	return is_locked(&tag, ExclusiveLock);
}

/* The same for a queue of this database whose shared entry is about to be made. */
bool
cmq_prepared_holds(const CmqRelids *relids)
{
	return is_held(MyDatabaseId, relids);
}

/* The shared entry has been made as that of a held queue. */
void
cmq_prepared_hold(CmqSharedQueue *shared)
{
	pg_atomic_write_u32(&shared->held, 1);
	pg_atomic_fetch_add_u32(&prepared->nheld, 1);
}

/* The queue is held no more; false if somebody else has seen to that. */
bool
cmq_prepared_unhold(CmqSharedQueue *shared)
{
	if (pg_atomic_exchange_u32(&shared->held, 0) == 0)
		return false;
	pg_atomic_fetch_sub_u32(&prepared->nheld, 1);
	return true;
}

static void
copy_relids(CmqSharedQueue *shared, void *arg)
{
	if (pg_atomic_read_u32(&shared->held) != 0)
		*(CmqRelids *) arg = shared->relids;
}

/* Nobody knows what the transactions that held the queue have done to it. */
static void
release_queue(CmqSharedQueue *shared, void *arg)
{
	if (!cmq_prepared_unhold(shared))
		return;
	cmq_stats_spoil(shared);
	cmq_wait_signal(shared, PG_INT32_MAX, true);
}

/* Look which queues are held still. */
void
cmq_prepared_look_at_held(void)
{
	CmqSharedKey *keys;
	int			n;

	if (pg_atomic_read_u32(&prepared->nheld) == 0)
		return;
	n = cmq_shmem_list(&keys);
	for (int i = 0; i < n; i++)
	{
		CmqRelids	relids = {InvalidOid};

		cmq_shmem_with(&keys[i], copy_relids, &relids);
		if (OidIsValid(relids.pending) && !is_held(keys[i].database, &relids))
			cmq_shmem_with(&keys[i], release_queue, NULL);
	}
	pfree(keys);
}

/* Maintenance: what nobody else has come to. */
void
cmq_prepared_sweep(void)
{
	cmq_prepared_settle();
	cmq_prepared_look_at_held();
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE)
		reserve_places();
	if (event == XACT_EVENT_PRE_COMMIT)
		may_have_ended = XactLastRecEnd != InvalidXLogRecPtr &&
			!TransactionIdIsValid(GetTopTransactionIdIfAny());
	if (!cmq_xact_is_over(event))
		return;

	release_reserved();
	expected = NIL;
	expecting = false;
	if (event == XACT_EVENT_ABORT)
		/* an error after the end, perhaps */
		cmq_prepared_settle();
	else if (event == XACT_EVENT_COMMIT && may_have_ended)
		cmq_prepared_sweep();
	may_have_ended = false;
}

/*
 * To be called before the callbacks of those who add entries are installed:
 * the last one installed is called first.
 */
void
cmq_prepared_install_callbacks(void)
{
	RegisterXactCallback(xact_callback, NULL);
}
