/*-------------------------------------------------------------------------
 *
 * cmq_prepared.c
 *	  What prepared transactions will do when they end.
 *
 * PREPARE TRANSACTION takes a transaction away from its backend, and another backend
 * will end it, perhaps much later.  So what follows from its end cannot wait in the
 * memory of the first one.  Shared memory has an entry for each prepared transaction
 * that has used queues, known by its id: from which time on it may have written pending
 * rows (cmq_floor.c), and its effects (cmq_effect.c).
 *
 * Invariant: what a prepared transaction has published holds until it has ended, and
 * each of its effects is applied once, by what became of it.
 *
 * An entry is added at PREPARE (cmq_xact.c), when the server knows the transaction as
 * prepared but lets nobody end it yet.
 *
 * Nobody tells us that a prepared transaction has ended, and there are several ways
 * to end it: the SQL commands, the apply worker of a subscription, another
 * extension.  All of them end it inside a transaction of their own.  So entries are
 * settled: a process that finds the transaction of an entry in progress no more does what
 * the entry says, by what became of the transaction, and removes the entry.  It looks
 *	- at the end of a transaction of its own that has written WAL without having an id,
 *	  as one that ends a prepared transaction has, or that has aborted: so waiters are
 *	  woken and counts are right before the command returns
 *	- before it tells the number of pending rows, and when it has counted them: what
 *	  its snapshot sees must not be added to the number later (a send that finds room
 *	  without that goes on)
 *	- in maintenance
 * A settlement holds the lock from the look at the entry until all it says is done.  So a
 * process that has settled, or found nothing to settle, knows that all is done.
 *
 * A place has room for a few queues; a transaction that used more has several.
 * They are reserved before it is prepared: if there are too few the transaction fails,
 * as it does without a place in the server's own list.
 *
 * Crash: entries are not on disk.  So a transaction that was prepared before the server
 * was started, or promoted, has none.  Its locks, which the server takes anew, tell
 * which queues it has changed: it has the queue lock, or a lock to write the pending or
 * the rewind table.  If such a lock is there when the shared entry of a queue is made,
 * the queue is held: nobody raises its floors or its mark.  Once the lock is gone
 * (cmq_prepared_look_at_held()) the queue is held no more, its rows are counted anew, and
 * its waiters look.  A transaction without such a lock has changed no queue.
 *
 * Locks: an LWLock guards the entries.  While it is held that of cmq_shared.c, and below
 * it the count_lock of a queue, may be asked for, never the other way round.  The
 * smallest time of all entries is published with those of processes (cmq_proc.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/pg_class_d.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "memory/cmq_count.h"
#include "memory/cmq_effect.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_proc.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_wait.h"

/* How many queues an entry has room for. */
#define PREPARED_QUEUES 8

typedef struct Prepared
{
	TransactionId xid;			/* InvalidTransactionId: a free place */
	TimestampTz published;		/* see cmq_proc_publish() */
	int			neffects;
	CmqEffect	effects[PREPARED_QUEUES];
} Prepared;

typedef struct PreparedShared
{
	pg_atomic_uint32 nused;		/* places, a glance is free */
	int			nreserved;		/* for transactions about to be prepared */
	int			nplaces;
	Prepared	places[FLEXIBLE_ARRAY_MEMBER];
} PreparedShared;

static PreparedShared *prepared = NULL;
static LWLock *prepared_lock = NULL;

/* How many places are reserved for the current transaction. */
static int	reserved = 0;

static int
number_of_places(void)
{
	/* so many may have ended whose entries are not settled yet */
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
	pg_atomic_init_u32(&prepared->nused, 0);
	prepared->nreserved = 0;
	prepared->nplaces = number_of_places();
	for (int i = 0; i < prepared->nplaces; i++)
		prepared->places[i].xid = InvalidTransactionId;
}

/* Publish the smallest time of all entries.  The caller holds the lock. */
static void
publish(void)
{
	TimestampTz smallest = CMQ_TIME_NONE;

	if (pg_atomic_read_u32(&prepared->nused) > 0)
	{
		for (int i = 0; i < prepared->nplaces; i++)
		{
			if (TransactionIdIsValid(prepared->places[i].xid))
				smallest = Min(smallest, prepared->places[i].published);
		}
	}
	cmq_proc_publish_prepared(smallest);
}

/*
 * The current transaction is about to be prepared, and has used so many queues: reserve
 * places for it.  Raises 53400 if there are not enough.
 */
void
cmq_prepared_reserve(int nqueues)
{
	int			needed = Max(1, (nqueues + PREPARED_QUEUES - 1) / PREPARED_QUEUES);
	bool		ok;

	/* without room for any the server refuses, and says why */
	if (max_prepared_xacts == 0)
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
void
cmq_prepared_unreserve(void)
{
	if (reserved == 0)
		return;
	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	prepared->nreserved -= reserved;
	LWLockRelease(prepared_lock);
	reserved = 0;
}

/*
 * A place of the current transaction, with room for an effect if that is wanted: one
 * that it has already, or a new one.  The caller holds the lock.
 */
static Prepared *
our_entry(bool for_effect)
{
	TransactionId xid = GetTopTransactionIdIfAny();
	Prepared   *entry = NULL;

	for (int i = 0; i < prepared->nplaces; i++)
	{
		Prepared   *place = &prepared->places[i];

		if (TransactionIdEquals(place->xid, xid) &&
			(!for_effect || place->neffects < PREPARED_QUEUES))
			return place;
		if (entry == NULL && !TransactionIdIsValid(place->xid))
			entry = place;
	}

	/* all were reserved: PREPARE is past the point where it can fail */
	if (entry == NULL || reserved == 0)
		elog(PANIC, "no place for a prepared transaction that has used queues");
	memset(entry, 0, sizeof(*entry));
	entry->xid = xid;
	entry->published = CMQ_TIME_NONE;
	prepared->nreserved--;
	reserved--;
	pg_atomic_fetch_add_u32(&prepared->nused, 1);
	return entry;
}

/*
 * At PREPARE: the transaction has written rows from this time on.  That is published
 * when this returns, so the slot of the process can be cleared then.
 */
void
cmq_prepared_add(TimestampTz published)
{
	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	our_entry(false)->published = published;
	publish();
	LWLockRelease(prepared_lock);
	pg_memory_barrier();
}

/* At PREPARE: add what is to be done for a queue at the end; once for each queue. */
void
cmq_prepared_add_effect(const CmqEffect *effect)
{
	Prepared   *entry;

	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	entry = our_entry(true);
	entry->effects[entry->neffects++] = *effect;
	LWLockRelease(prepared_lock);
}

/* What a settlement does to a queue. */
typedef struct Settlement
{
	TransactionId xid;
	const CmqEffect *effect;
} Settlement;

static void
apply_commit(CmqSharedQueue *shared, void *arg)
{
	const Settlement *settlement = arg;

	cmq_effect_committed(settlement->effect, shared, settlement->xid);
}

static void
apply_abort(CmqSharedQueue *shared, void *arg)
{
	cmq_effect_aborted(((const Settlement *) arg)->effect, shared);
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
		for (int j = 0; j < entry->neffects; j++)
		{
			Settlement	settlement = {.xid = xid,.effect = &entry->effects[j]};

			cmq_shared_with(&entry->effects[j].key,
							committed ? apply_commit : apply_abort, &settlement);
		}
		entry->xid = InvalidTransactionId;
		pg_atomic_fetch_sub_u32(&prepared->nused, 1);
	}
	publish();
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

/* Has a transaction that was prepared before the start a lock that conflicts with this? */
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
	/* a transaction that has written has RowExclusive or more */
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

static void
copy_relids(CmqSharedQueue *shared, void *arg)
{
	if (cmq_shared_is_held(shared))
		*(CmqRelids *) arg = shared->relids;
}

/* The queue is held no more, and nobody knows what was done to it. */
static void
release_queue(CmqSharedQueue *shared, void *arg)
{
	if (!cmq_shared_end_hold(shared))
		return;
	cmq_count_spoil(shared);
	cmq_wait_signal(shared, CMQ_ALL_WAITERS, true);
}

/* Look which queues are held still. */
void
cmq_prepared_look_at_held(void)
{
	CmqSharedKey *keys;
	int			n;

	if (!cmq_shared_any_held())
		return;
	n = cmq_shared_list(&keys);
	for (int i = 0; i < n; i++)
	{
		CmqRelids	relids = {InvalidOid};

		cmq_shared_with(&keys[i], copy_relids, &relids);
		if (OidIsValid(relids.pending) && !is_held(keys[i].database, &relids))
			cmq_shared_with(&keys[i], release_queue, NULL);
	}
	pfree(keys);
}

/* Both, for maintenance and for a transaction that may have ended a prepared one. */
void
cmq_prepared_sweep(void)
{
	cmq_prepared_settle();
	cmq_prepared_look_at_held();
}
