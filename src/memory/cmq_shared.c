/*-------------------------------------------------------------------------
 *
 * cmq_shared.c
 *	  The shared entries of queues: who may use one, and for how long.
 *
 * A fixed hash table of cmq.max_queues entries, keyed by database and by the OID of the
 * queue's pending table.  The first backend that needs an entry makes it.  It lives until
 * the queue is dropped: the backend that drops the queue removes it after its commit.
 * Maintenance removes entries of queues that were dropped in another way: with the
 * extension, with the database, or by hand.  What an entry holds is in cmq_entry.h, and
 * named in src/memory alone: each field by the file that its comment names, and key and relids,
 * which never change, by all.
 *
 * Invariant: an entry that a transaction has got stays that queue's until the
 * transaction has ended, whatever happens to the queue.
 *	- A transaction counts itself in under the lock when it gets the entry
 *	  (cmq_shared_use), and out as the last step of its end (cmq_xact.c).
 *	- Removing an entry in use only marks it; the last user removes it.
 *	- The key is the OID of a table, and never changes.  Names do not matter.
 *	- A subtransaction that is undone releases its locks, but the entry is the whole
 *	  transaction's: what still points to it points to the same queue.
 * A parallel worker is a transaction of its own here.  A transaction that is
 * prepared counts itself out: what it leaves names the entry by its key.
 *
 * A queue is held as long as a transaction has a part in it that was prepared before
 * the server was started, and of which nothing else is known (cmq_prepared.c).
 *
 * Crash: the table is lost, for nothing of it is on disk; the next use of each queue
 * makes its entry anew.
 *
 * Locks: an LWLock guards the table.  The fields of an entry are atomics, or guarded by
 * its mutex or its count_lock, as cmq_entry.h says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_settings.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_group_events.h"
#include "memory/cmq_proc.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"

/* What is not in an entry. */
typedef struct SharedHeader
{
	pg_atomic_uint32 nheld;		/* entries of held queues */
} SharedHeader;

static HTAB *entries = NULL;
static SharedHeader *header = NULL;
static LWLock *entries_lock = NULL;

/* Entries that the current transaction uses, in TopMemoryContext. */
static CmqSharedQueue **used = NULL;
static int	nused = 0;
static int	used_allocated = 0;

static Size
entry_size(void)
{
	return offsetof(CmqSharedQueue, windows) +
		CMQ_NWINDOWS * CMQ_WINDOW_WORDS * sizeof(pg_atomic_uint64);
}

Size
cmq_shared_shmem_size(void)
{
	return add_size(hash_estimate_size(cmq_max_queues, entry_size()),
					sizeof(SharedHeader));
}

/* Called under AddinShmemInitLock. */
void
cmq_shared_shmem_init(LWLock *lock)
{
	HASHCTL		info;
	bool		found;

	memset(&info, 0, sizeof(info));
	info.keysize = sizeof(CmqSharedKey);
	info.entrysize = entry_size();
	entries = cmq_shmem_init_hash("cmq queues", cmq_max_queues, &info,
								  HASH_ELEM | HASH_BLOBS);
	entries_lock = lock;
	header = ShmemInitStruct("cmq held queues", sizeof(SharedHeader), &found);
	if (!found)
		pg_atomic_init_u32(&header->nheld, 0);
}

/* Raise an error unless the server was started with cmq preloaded. */
void
cmq_require_preload(void)
{
	if (unlikely(entries == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cmq is not in \"shared_preload_libraries\""),
				 errdetail("cmq needs shared memory that can only be had when the server starts."),
				 errhint("Put shared_preload_libraries = 'cmq' into postgresql.conf (add cmq to the list that is there) and restart the server.")));
}

/*
 * Every function that writes begins with this: raise an error unless the server has cmq
 * preloaded and the transaction may write.  A parallel worker may not: what it would
 * announce, count and wait for is its leader's.
 */
void
cmq_begin_write(const char *function)
{
	cmq_require_preload();
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
}

/* Is the queue held, as the head says? */
bool
cmq_shared_is_held(const CmqSharedQueue *shared)
{
	return pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &shared->held)) != 0;
}

/* The queue is held no more; false if somebody else has seen to that. */
bool
cmq_shared_end_hold(CmqSharedQueue *shared)
{
	if (pg_atomic_exchange_u32(&shared->held, 0) == 0)
		return false;
	pg_atomic_fetch_sub_u32(&header->nheld, 1);
	return true;
}

bool
cmq_shared_any_held(void)
{
	return pg_atomic_read_u32(&header->nheld) != 0;
}

/* The caller holds the lock. */
static void
remove_if_unused(const CmqSharedKey *key)
{
	CmqSharedQueue *shared = hash_search(entries, key, HASH_FIND, NULL);

	if (shared && shared->dropped &&
		pg_atomic_read_u32(&shared->nusers) == 0)
	{
		(void) cmq_shared_end_hold(shared);
		hash_search(entries, key, HASH_REMOVE, NULL);
	}
}

/* Stop using an entry. */
static void
leave(CmqSharedQueue *shared)
{
	CmqSharedKey key = shared->key;

	/*
	 * Right after this the entry may be removed, and become that of another
	 * queue.  Then dropped is of that queue, and the look under the lock
	 * finds no entry of this key.
	 */
	if (pg_atomic_sub_fetch_u32(&shared->nusers, 1) == 0 && shared->dropped)
	{
		LWLockAcquire(entries_lock, LW_EXCLUSIVE);
		remove_if_unused(&key);
		LWLockRelease(entries_lock);
	}
}

/* The end of a transaction: it uses no entry any more. */
void
cmq_shared_leave_all(void)
{
	while (nused > 0)
		leave(used[--nused]);
}

/* Get what a process needs to use one more entry, or fail before it does. */
static void
reserve(void)
{
	int			more = used_allocated ? 2 * used_allocated : 16;

	cmq_proc_take_slot();
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
cmq_shared_use(Oid pending)
{
	CmqSharedKey key = {.database = MyDatabaseId,.pending = pending};
	CmqSharedQueue *shared;

	reserve();
	LWLockAcquire(entries_lock, LW_SHARED);
	shared = hash_search(entries, &key, HASH_FIND, NULL);
	if (shared)
		use(shared);
	LWLockRelease(entries_lock);
	return shared;
}

/* A new entry: all zero, but for this. */
static void
init_entry(CmqSharedQueue *shared, const CmqRelids *relids,
		   TimestampTz not_before, TimestampTz last_send, uint32 triggers)
{
	CmqSharedKey key = shared->key;

	memset(shared, 0, entry_size());
	shared->key = key;
	shared->relids = *relids;
	pg_atomic_init_u32(&shared->nusers, 0);
	pg_atomic_init_u32(&shared->held, 0);
	cmq_clock_init(shared, not_before);
	SpinLockInit(&shared->mutex);
	for (int i = 0; i < CMQ_NMARKS; i++)
		shared->marks[i].time = shared->marks[i].rewound_at = DT_NOBEGIN;

	for (int kind = 0; kind < CMQ_NWAITERS; kind++)
	{
		ConditionVariableInit(&shared->wakeup[kind]);
		pg_atomic_init_u32(&shared->nwaiters[kind], 0);
	}
	pg_atomic_init_u32(&shared->nasking, 0);
	pg_atomic_init_u32(&shared->nasked, 0);
	pg_atomic_init_u32(&shared->nchanges, 0);
	shared->planner = -1;

	LWLockInitialize(&shared->count_lock, entries_lock->tranche);
	shared->pending.place = shared->due.place = -1;
	pg_atomic_init_u64(&shared->pending.n, 0);
	pg_atomic_init_u64(&shared->due.n, 0);
	shared->due_rewound_at = shared->due_from = DT_NOBEGIN;
	shared->counted_since = GetCurrentTimestamp();
	for (int i = 0; i < CMQ_NCOUNTERS; i++)
		pg_atomic_init_u64(&shared->counters[i], 0);

	pg_atomic_init_u64(&shared->last_send, (uint64) last_send);
	pg_atomic_init_u64(&shared->spacing, 1000000);
	for (int i = 0; i < lengthof(shared->laggards); i++)
		shared->laggards[i].floor = shared->laggards[i].rewound_at = DT_NOBEGIN;
	cmq_group_events_init(shared);
	pg_atomic_init_u32(&shared->look_ahead, 0);
	for (int i = 0; i < CMQ_NHOPS; i++)
		pg_atomic_init_u64(&shared->hops[i], (uint64) PG_INT64_MIN);
	pg_atomic_init_u32(&shared->turns_taken, 0);
	pg_atomic_init_u32(&shared->triggers, triggers);
	pg_atomic_init_u32(&shared->demands_failed, 0);
	pg_atomic_init_u32(&shared->letters_stuck, 0);
	pg_atomic_init_u32(&shared->damaged, 0);
	pg_atomic_init_u32(&shared->left_out, 0);
	for (int i = 0; i < CMQ_NWINDOWS * CMQ_WINDOW_WORDS; i++)
		pg_atomic_init_u64(&shared->windows[i], 0);
	for (int i = 0; i < CMQ_NPLACES; i++)
		shared->places[i].visible_at = shared->places[i].enqueued_at = DT_NOBEGIN;
	/* its turns come after those of the queues that are there */
	for (int i = 0; i < CMQ_NTURNS; i++)
		shared->turns[i].begun_at = cmq_time();
}

/*
 * The same; if there is none it is made.  The clock of a new entry starts at not_before,
 * and held says whether its queue is held.  NULL when the table is full.
 */
CmqSharedQueue *
cmq_shared_make(const CmqRelids *relids, TimestampTz not_before,
				TimestampTz last_send, bool held, uint32 triggers)
{
	CmqSharedKey key = {
		.database = MyDatabaseId,
		.pending = relids->pending
	};
	CmqSharedQueue *shared = NULL;
	bool		found = false;

	reserve();
	LWLockAcquire(entries_lock, LW_EXCLUSIVE);
	if (hash_get_num_entries(entries) < cmq_max_queues)
		shared = hash_search(entries, &key, HASH_ENTER_NULL, &found);
	else
	{
		shared = hash_search(entries, &key, HASH_FIND, NULL);
		found = shared != NULL;
	}
	if (shared && !found)
	{
		init_entry(shared, relids, not_before, last_send, triggers);
		if (held)
		{
			pg_atomic_write_u32(&shared->held, 1);
			pg_atomic_fetch_add_u32(&header->nheld, 1);
		}
	}
	if (shared)
		use(shared);
	LWLockRelease(entries_lock);
	return shared;
}

/* Raise 53400: there is no place for the queue, or the journal, of this name. */
void
cmq_shared_report_full(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("cannot use %s \"%s\": too many queues", cmq_kind_of(name),
					cmq_plain(name)),
			 errdetail("All %d places for queues in shared memory are taken.",
					   cmq_max_queues),
			 errhint("Raise cmq.max_queues and restart the server, or drop queues that are not needed.")));
}

CmqSharedKey
cmq_shared_key(const CmqSharedQueue *shared)
{
	return shared->key;
}

/*
 * The keys of all entries, palloc'd; returns their number.  A sweep takes this list first
 * and looks only then which of the queues or databases exist, so that it removes nothing
 * that is made meanwhile.
 */
int
cmq_shared_list(CmqSharedKey **keys)
{
	HASH_SEQ_STATUS scan;
	CmqSharedQueue *shared;
	int			n = 0;

	*keys = palloc(sizeof(CmqSharedKey) * cmq_max_queues);
	LWLockAcquire(entries_lock, LW_SHARED);
	hash_seq_init(&scan, entries);
	while ((shared = hash_seq_search(&scan)) != NULL)
		(*keys)[n++] = shared->key;
	LWLockRelease(entries_lock);
	return n;
}

/* Remove the entry of a queue that is gone, if there is one. */
void
cmq_shared_remove(const CmqSharedKey *key)
{
	CmqSharedQueue *shared;

	LWLockAcquire(entries_lock, LW_EXCLUSIVE);
	shared = hash_search(entries, key, HASH_FIND, NULL);
	if (shared)
	{
		shared->dropped = true;
		/* a user that leaves reads it after it has counted itself out */
		pg_memory_barrier();
		remove_if_unused(key);
	}
	LWLockRelease(entries_lock);
}

/* Call func for this entry, if there is one, under the lock: func must get no entry. */
void
cmq_shared_with(const CmqSharedKey *key,
				void (*func) (CmqSharedQueue *shared, void *arg), void *arg)
{
	CmqSharedQueue *shared;

	LWLockAcquire(entries_lock, LW_SHARED);
	shared = hash_search(entries, key, HASH_FIND, NULL);
	if (shared)
		func(shared, arg);
	LWLockRelease(entries_lock);
}
