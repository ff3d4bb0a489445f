/*-------------------------------------------------------------------------
 *
 * cmq_shmem.c
 *	  What backends share about queues, and the queue clock.
 *
 * What an entry has for the scans of receives is explained in cmq_floor.c.
 *
 * A fixed hash table of cmq.max_queues entries, keyed by database and by the
 * OID of the queue's message table.  An entry is made by the first backend
 * that needs it and lives until the queue is dropped: then the dropping
 * backend removes it after its commit, and maintenance sweeps up what went
 * with a dropped extension or database, or when the owner dropped the tables.
 * LWLock cmq_lock guards the table; the fields of an entry are atomics or under
 * its own spinlock.
 *
 * Who may use an entry without cmq_lock: a backend that holds a lock on the
 * queue's pending table and has found the queue's cached description valid
 * after taking it.  Whoever removes the entry holds AccessExclusive on that
 * table until then, so nobody uses it.  Those who just read the clock may do
 * so without: entries are never unmapped, and it is a time in any case.
 *
 * The queue clock is a hybrid logical clock in microseconds, one per queue:
 * the larger of the wall clock and the last value given out.
 *	- cmq_clock_tick gives out values that nobody else gets: message ids.
 *	- cmq_clock_now reads the time, and remembers what it read.  So no reading
 *	  is ever earlier than another one before it, and a wall clock that steps
 *	  back reorders nothing.
 * The clock of a new entry starts no earlier than the newest message of the
 * queue, committed or not (a prepared transaction may still commit it), and no
 * earlier than the clock that maintenance saved (cmq_queue_attach collects
 * these).  So ids stay unique through restart, crash, promotion and restore.
 * There is one way to see an id twice: the wall clock is set back while the
 * server is down, and the messages sent since the last round of maintenance
 * have been deleted, with rewind off, and vacuumed away.  In recovery no entry
 * is made: replay moves on behind its back.
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

#include "cmq.h"

static HTAB *shared_queues = NULL;
static LWLock *cmq_lock = NULL;

/* queues made or dropped by the current transaction */
typedef struct PendingRemoval
{
	Oid			relid;
	bool		at_commit;		/* dropped; else made: remove at abort */
	SubTransactionId subid;		/* the level that did it */
} PendingRemoval;

static List *pending_removals = NIL;	/* in TopTransactionContext */

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(hash_estimate_size(cmq_max_queues,
											  sizeof(CmqSharedQueue)));
	RequestAddinShmemSpace(cmq_floor_shmem_size());
	RequestAddinShmemSpace(cmq_stats_shmem_size());
	RequestAddinShmemSpace(cmq_prepared_shmem_size());
	RequestNamedLWLockTranche("cmq", 2);
}

static void
shmem_startup(void)
{
	HASHCTL		info;
	LWLockPadded *locks;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	memset(&info, 0, sizeof(info));
	info.keysize = sizeof(CmqSharedKey);
	info.entrysize = sizeof(CmqSharedQueue);

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared_queues = ShmemInitHash("cmq queues",
								  cmq_max_queues, cmq_max_queues,
								  &info, HASH_ELEM | HASH_BLOBS);
	cmq_floor_shmem_init();
	cmq_stats_shmem_init();
	locks = GetNamedLWLockTranche("cmq");
	cmq_lock = &locks[0].lock;
	cmq_prepared_shmem_init(&locks[1].lock);
	LWLockRelease(AddinShmemInitLock);
}

static void
remove_relid(Oid relid)
{
	CmqSharedKey key = {.database = MyDatabaseId, .relid = relid};

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

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;

	foreach(lc, pending_removals)
	{
		PendingRemoval *removal = lfirst(lc);

		if (event == (removal->at_commit ? XACT_EVENT_COMMIT : XACT_EVENT_ABORT))
			remove_relid(removal->relid);
	}
	pending_removals = NIL;
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
				remove_relid(removal->relid);
			pending_removals = foreach_delete_current(pending_removals, lc);
		}
	}
}

void
cmq_shmem_install_hooks(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
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

/*
 * Find the entry of a queue of this database, whose pending table is known by
 * pending, or make it, with its clock starting at not_before.  Raises 53400
 * when the table is full.
 */
CmqSharedQueue *
cmq_shmem_attach(Oid relid, Oid pending, const char *name,
				 TimestampTz not_before, TimestampTz last_send)
{
	CmqSharedKey key = {.database = MyDatabaseId, .relid = relid};
	CmqSharedQueue *shared;
	bool		found;
	bool		full = false;

	LWLockAcquire(cmq_lock, LW_EXCLUSIVE);
	shared = hash_search(shared_queues, &key, HASH_FIND, NULL);
	if (shared == NULL)
	{
		if (hash_get_num_entries(shared_queues) >= cmq_max_queues)
			full = true;
		else
		{
			shared = hash_search(shared_queues, &key, HASH_ENTER_NULL, &found);
			if (shared == NULL)
				full = true;
			else
			{
				pg_atomic_init_u64(&shared->clock, (uint64) not_before);
				pg_atomic_init_u64(&shared->last_send, (uint64) last_send);
				pg_atomic_init_u64(&shared->spacing, 1000000);
				cmq_floor_init(shared);
				cmq_oldest_init(shared);
				cmq_wait_init(shared);
				cmq_stats_init(shared, cmq_lock->tranche);
			}
		}
	}
	if (shared)
		shared->pending = pending;
	LWLockRelease(cmq_lock);

	if (full)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("cannot use queue \"%s\": too many queues", name),
				 errdetail("All %d places for queues in shared memory are taken.",
						   cmq_max_queues),
				 errhint("Raise cmq.max_queues and restart the server, or drop queues that are not needed.")));
	return shared;
}

/* The entry of a queue of this database; NULL if it was not used yet. */
CmqSharedQueue *
cmq_shmem_find(Oid relid)
{
	CmqSharedKey key = {.database = MyDatabaseId, .relid = relid};
	CmqSharedQueue *shared;

	LWLockAcquire(cmq_lock, LW_SHARED);
	shared = hash_search(shared_queues, &key, HASH_FIND, NULL);
	LWLockRelease(cmq_lock);
	return shared;
}

/*
 * The current transaction drops the queue (at_commit) or makes it: remove its
 * entry when the transaction commits, or aborts.
 */
void
cmq_shmem_remove_at_end(Oid relid, bool at_commit)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	PendingRemoval *removal = palloc(sizeof(PendingRemoval));

	removal->relid = relid;
	removal->at_commit = at_commit;
	removal->subid = GetCurrentSubTransactionId();
	pending_removals = lappend(pending_removals, removal);
	MemoryContextSwitchTo(old);
}

/*
 * The names of all entries, palloc'd; returns their number.  Whoever sweeps
 * takes this list first and looks only then which of the queues or databases
 * exist, so that nothing made meanwhile is swept away.
 */
int
cmq_shmem_list(CmqSharedRef **refs)
{
	HASH_SEQ_STATUS scan;
	CmqSharedQueue *shared;
	int			n = 0;

	*refs = palloc(sizeof(CmqSharedRef) * cmq_max_queues);
	LWLockAcquire(cmq_lock, LW_SHARED);
	hash_seq_init(&scan, shared_queues);
	while ((shared = hash_seq_search(&scan)) != NULL)
	{
		(*refs)[n].key = shared->key;
		(*refs)[n++].pending = shared->pending;
	}
	LWLockRelease(cmq_lock);
	return n;
}

/* Remove the entry of a queue that is gone, if there is one. */
void
cmq_shmem_remove(const CmqSharedKey *key)
{
	LWLockAcquire(cmq_lock, LW_EXCLUSIVE);
	hash_search(shared_queues, key, HASH_REMOVE, NULL);
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

/* Call func for the entries of this database, under the table's lock. */
void
cmq_shmem_for_each(void (*func) (CmqSharedQueue *shared, void *arg), void *arg)
{
	HASH_SEQ_STATUS scan;
	CmqSharedQueue *shared;

	LWLockAcquire(cmq_lock, LW_SHARED);
	hash_seq_init(&scan, shared_queues);
	while ((shared = hash_seq_search(&scan)) != NULL)
	{
		if (shared->key.database == MyDatabaseId)
			func(shared, arg);
	}
	LWLockRelease(cmq_lock);
}

/*
 * The queue's time, for those who write times or claim messages; never earlier
 * than anything the clock has given out.
 */
TimestampTz
cmq_clock_now(CmqSharedQueue *shared)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64		last = pg_atomic_read_u64(&shared->clock);

	while (now > (TimestampTz) last)
	{
		if (pg_atomic_compare_exchange_u64(&shared->clock, &last, (uint64) now))
			return now;
	}
	return (TimestampTz) last;
}

/*
 * The same without remembering it, for those who only look: a queue that is
 * looked at stays idle.
 */
TimestampTz
cmq_clock_peek(CmqSharedQueue *shared)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz last = (TimestampTz) pg_atomic_read_u64(&shared->clock);

	return Max(now, last);
}

/* Take n consecutive microseconds for the caller alone; returns the first. */
TimestampTz
cmq_clock_tick(CmqSharedQueue *shared, int n)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64		last = pg_atomic_read_u64(&shared->clock);
	TimestampTz first;

	do
	{
		first = Max(now, (TimestampTz) last + 1);
	} while (!pg_atomic_compare_exchange_u64(&shared->clock, &last,
											 (uint64) (first + n - 1)));
	return first;
}
