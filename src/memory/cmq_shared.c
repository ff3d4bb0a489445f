/*-------------------------------------------------------------------------
 *
 * cmq_shared.c
 *	  What backends share about queues.
 *
 * What an entry has for the scans of receives is explained in cmq_floor.c, what it
 * has for the queue clock in cmq_clock.c.
 *
 * A fixed hash table of cmq.max_queues entries, keyed by database and by the
 * OID of the queue's pending table.  An entry is made by the first backend
 * that needs it and lives until the queue is dropped: then the dropping
 * backend removes it after its commit, and maintenance sweeps up what went
 * with a dropped extension or database, or when the owner dropped the tables.
 * LWLock cmq_lock guards the table; the fields of an entry are atomics or under
 * its own spinlock.
 *
 * Invariant: an entry that a transaction has got stays that queue's until the
 * transaction has ended, whatever happens to the queue.
 *	- A transaction counts itself in under cmq_lock when it gets the entry
 *	  (cmq_shmem_use), and out at its very end, after all callbacks that use it.
 *	- Removing an entry in use only marks it; the last user removes it.
 *	- The key is the OID of a table, and never changes.  Names do not matter.
 *	- A subtransaction that has been undone has released its locks; the count
 *	  is the transaction's, so what it left in lists of ours stays good.
 * A parallel worker is a transaction of its own here.  A transaction that is
 * prepared counts itself out: what it leaves names the entry by its key.
 *
 * Nothing here is written to disk; a crash loses the table, and the next use
 * of each queue makes its entry anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "base/cmq_settings.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_mark.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_stats.h"
#include "memory/cmq_wait.h"

static HTAB *shared_queues = NULL;
static LWLock *cmq_lock = NULL;
static LWLock *slots_lock = NULL;

/* queues made or dropped by the current transaction */
typedef struct PendingRemoval
{
	Oid			pending;
	bool		at_commit;		/* dropped; else made: remove at abort */
	SubTransactionId subid;		/* the level that did it */
} PendingRemoval;

static List *pending_removals = NIL;	/* in TopTransactionContext */

/* Entries that the current transaction uses, in TopMemoryContext. */
static CmqSharedQueue **used = NULL;
static int	nused = 0;
static int	used_allocated = 0;

/* Number of the current transaction in this backend. */
static uint64 xact_number = 1;

/* Is this the event that ends a transaction for this backend? */
bool
cmq_xact_is_over(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			return true;
		default:
			return false;
	}
}

/* The caller holds the lock. */
static void
remove_if_unused(const CmqSharedKey *key)
{
	CmqSharedQueue *shared = hash_search(shared_queues, key, HASH_FIND, NULL);

	if (shared && shared->dropped &&
		pg_atomic_read_u32(&shared->nusers) == 0)
	{
		(void) cmq_prepared_unhold(shared);
		hash_search(shared_queues, key, HASH_REMOVE, NULL);
	}
}

/* Stop using an entry. */
static void
leave(CmqSharedQueue *shared)
{
	CmqSharedKey key = shared->key;

	/*
	 * Right after this it may be removed, and another queue's: then dropped is
	 * that one's, and a look under the lock finds nothing of ours.
	 */
	if (pg_atomic_sub_fetch_u32(&shared->nusers, 1) == 0 && shared->dropped)
	{
		LWLockAcquire(cmq_lock, LW_EXCLUSIVE);
		remove_if_unused(&key);
		LWLockRelease(cmq_lock);
	}
}

static void
remove_pending(Oid pending)
{
	CmqSharedKey key = {.database = MyDatabaseId, .pending = pending};

	cmq_shmem_remove(&key);
}

/*
 * A prepared transaction outlives the list: what its end leaves over is swept
 * up by maintenance.
 */
static void
xact_callback(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (!cmq_xact_is_over(event))
		return;

	foreach(lc, pending_removals)
	{
		PendingRemoval *removal = lfirst(lc);

		if (event == (removal->at_commit ? XACT_EVENT_COMMIT : XACT_EVENT_ABORT))
			remove_pending(removal->pending);
	}
	pending_removals = NIL;
	while (nused > 0)
		leave(used[--nused]);
	xact_number++;
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	ListCell   *lc;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;

	foreach(lc, pending_removals)
	{
		PendingRemoval *removal = lfirst(lc);

		if (removal->subid != mySubid)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			removal->subid = parentSubid;
		else
		{
			if (!removal->at_commit)
				remove_pending(removal->pending);
			pending_removals = foreach_delete_current(pending_removals, lc);
		}
	}
}

void
cmq_shmem_install_callbacks(void)
{
	/* the first to be registered is the last to be called */
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}

Size
cmq_shared_shmem_size(void)
{
	return hash_estimate_size(cmq_max_queues, sizeof(CmqSharedQueue));
}

/* Called under AddinShmemInitLock. */
void
cmq_shared_shmem_init(LWLock *entries, LWLock *slots)
{
	HASHCTL		info;

	memset(&info, 0, sizeof(info));
	info.keysize = sizeof(CmqSharedKey);
	info.entrysize = sizeof(CmqSharedQueue);
	shared_queues = cmq_shmem_init_hash("cmq queues", cmq_max_queues, &info,
										HASH_ELEM | HASH_BLOBS);
	cmq_lock = entries;
	slots_lock = slots;
}

/* Raise an error unless the server was started with cmq preloaded. */
void
cmq_shmem_require(void)
{
	if (unlikely(shared_queues == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cmq is not in \"shared_preload_libraries\""),
				 errdetail("cmq needs shared memory that can only be had when the server starts."),
				 errhint("Put shared_preload_libraries = 'cmq' into postgresql.conf (add cmq to the list that is there) and restart the server.")));
}

/* The number of the current transaction, by which others know that it is new. */
uint64
cmq_shmem_xact(void)
{
	return xact_number;
}

/*
 * Slots of a process, by its number, that others read: of cmq_floor.c and
 * cmq_wait.c.  A process takes them over once, before it writes to one, and clears
 * what an earlier process of that number has left; maintenance does so for those
 * that nobody has taken over yet.
 */
void
cmq_shmem_take_slots(void)
{
	static bool taken = false;

	if (likely(taken))
		return;
	LWLockAcquire(slots_lock, LW_EXCLUSIVE);
	cmq_floor_take_slot();
	cmq_wait_take_slot();
	LWLockRelease(slots_lock);
	taken = true;
}

void
cmq_shmem_sweep_slots(void)
{
	LWLockAcquire(slots_lock, LW_EXCLUSIVE);
	cmq_floor_sweep();
	cmq_wait_sweep();
	LWLockRelease(slots_lock);
}

/* Room for one more in the list of entries in use. */
static void
reserve(void)
{
	int			more = used_allocated ? 2 * used_allocated : 16;

	if (nused < used_allocated)
		return;
	if (used)
		used = repalloc(used, more * sizeof(CmqSharedQueue *));
	else
		used = MemoryContextAlloc(TopMemoryContext,
								  more * sizeof(CmqSharedQueue *));
	used_allocated = more;
}

/* The caller holds the lock, and has called reserve(). */
static void
use(CmqSharedQueue *shared)
{
	for (int i = nused - 1; i >= 0; i--)
	{
		if (used[i] == shared)
			return;
	}
	pg_atomic_fetch_add_u32(&shared->nusers, 1);
	used[nused++] = shared;
}

/*
 * The entry of a queue of this database, to the end of the transaction; NULL if
 * it was not used yet.
 */
CmqSharedQueue *
cmq_shmem_use(Oid pending)
{
	CmqSharedKey key = {.database = MyDatabaseId, .pending = pending};
	CmqSharedQueue *shared;

	reserve();
	LWLockAcquire(cmq_lock, LW_SHARED);
	shared = hash_search(shared_queues, &key, HASH_FIND, NULL);
	if (shared)
		use(shared);
	LWLockRelease(cmq_lock);
	return shared;
}

/* A new entry: all zero, but for this. */
static void
init_entry(CmqSharedQueue *shared, CmqSharedKey key, const CmqRelids *relids,
		   TimestampTz not_before)
{
	memset(shared, 0, sizeof(*shared));
	shared->key = key;
	shared->relids = *relids;
	pg_atomic_init_u32(&shared->nusers, 0);
	pg_atomic_init_u32(&shared->held, 0);
	cmq_clock_init(shared, not_before);
	cmq_floor_init(shared);
	cmq_oldest_init(shared);
	cmq_wait_init(shared);
	cmq_stats_init(shared, cmq_lock->tranche);
}

/*
 * The same; if there is none it is made, with its clock starting at not_before;
 * held as in cmq_prepared.c.  Raises 53400 when the table is full.
 */
CmqSharedQueue *
cmq_shmem_make(const CmqRelids *relids, const char *name,
			   TimestampTz not_before, TimestampTz last_send, bool held,
			   uint32 triggers)
{
	CmqSharedKey key = {
		.database = MyDatabaseId,
		.pending = relids->pending
	};
	CmqSharedQueue *shared = NULL;
	bool		found = false;

	reserve();
	LWLockAcquire(cmq_lock, LW_EXCLUSIVE);
	if (hash_get_num_entries(shared_queues) < cmq_max_queues)
		shared = hash_search(shared_queues, &key, HASH_ENTER_NULL, &found);
	else
	{
		shared = hash_search(shared_queues, &key, HASH_FIND, NULL);
		found = shared != NULL;
	}
	if (shared && !found)
	{
		init_entry(shared, key, relids, not_before);
		cmq_notes_init(shared, last_send, triggers);
		if (held)
			cmq_prepared_hold(shared);
	}
	if (shared)
		use(shared);
	LWLockRelease(cmq_lock);

	if (shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("cannot use queue \"%s\": too many queues", name),
				 errdetail("All %d places for queues in shared memory are taken.",
						   cmq_max_queues),
				 errhint("Raise cmq.max_queues and restart the server, or drop queues that are not needed.")));
	return shared;
}

/*
 * The current transaction drops the queue (at_commit) or makes it: remove its
 * entry when the transaction commits, or aborts.
 */
void
cmq_shmem_remove_at_end(Oid pending, bool at_commit)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	PendingRemoval *removal = palloc(sizeof(PendingRemoval));

	removal->pending = pending;
	removal->at_commit = at_commit;
	removal->subid = GetCurrentSubTransactionId();
	pending_removals = lappend(pending_removals, removal);
	MemoryContextSwitchTo(old);
}

/*
 * The keys of all entries, palloc'd; returns their number.  Whoever sweeps
 * takes this list first and looks only then which of the queues or databases
 * exist, so that nothing made meanwhile is swept away.
 */
int
cmq_shmem_list(CmqSharedKey **keys)
{
	HASH_SEQ_STATUS scan;
	CmqSharedQueue *shared;
	int			n = 0;

	*keys = palloc(sizeof(CmqSharedKey) * cmq_max_queues);
	LWLockAcquire(cmq_lock, LW_SHARED);
	hash_seq_init(&scan, shared_queues);
	while ((shared = hash_seq_search(&scan)) != NULL)
		(*keys)[n++] = shared->key;
	LWLockRelease(cmq_lock);
	return n;
}

/* Remove the entry of a queue that is gone, if there is one. */
void
cmq_shmem_remove(const CmqSharedKey *key)
{
	CmqSharedQueue *shared;

	LWLockAcquire(cmq_lock, LW_EXCLUSIVE);
	shared = hash_search(shared_queues, key, HASH_FIND, NULL);
	if (shared)
	{
		shared->dropped = true;
		/* a user that leaves reads it after it has counted itself out */
		pg_memory_barrier();
		remove_if_unused(key);
	}
	LWLockRelease(cmq_lock);
}

/* Call func for this entry, if there is one, under the table's lock. */
void
cmq_shmem_with(const CmqSharedKey *key,
			   void (*func) (CmqSharedQueue *shared, void *arg), void *arg)
{
	CmqSharedQueue *shared;

	LWLockAcquire(cmq_lock, LW_SHARED);
	shared = hash_search(shared_queues, key, HASH_FIND, NULL);
	if (shared)
		func(shared, arg);
	LWLockRelease(cmq_lock);
}

/*
 * The head of every function that writes: raises an error unless the server has
 * cmq preloaded and the transaction may write.  A parallel worker may not: what
 * it would announce, count and wait for is its leader's.
 */
void
cmq_begin_write(const char *function)
{
	cmq_shmem_require();
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
}
