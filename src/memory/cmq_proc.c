/*-------------------------------------------------------------------------
 *
 * cmq_proc.c
 *	  What each process shows to all others, in a slot of its own.
 *
 * A slot says
 *	- from which time on the process's transaction may have written rows that nobody
 *	  else can see yet (cmq_floor.c): each receive reads that of all slots
 *	- which transaction is about to commit, and to add what it counts (cmq_count.c)
 *	- whether it has taken a time and not yet written the row (cmq_window.c)
 *	- at which queue the process has counted itself as a waiter, or as asking waiters
 *	  to leave (cmq_wait.c), to be taken back if it is gone
 * and has a cache line of its own: its process writes it at each send and receive.
 *
 * A process takes the first free slot when it uses a queue for the first time, and gives
 * it back when it exits.  So the slots in use are the first ones, as many as processes
 * have used cmq at the same time; behind them nobody looks, however many connections
 * the server allows.  Beside the slots stands the smallest time of prepared transactions
 * (cmq_prepared.c).
 *
 * Invariant: a reader that reads a clock, then the slots, misses no process that has
 * read the clock before it did.  The order of the writer is: count the slot in; full
 * barrier; say "unknown"; full barrier; read the clock.  That of the reader is: read
 * the clock; full barrier; read the number of slots, then each.
 *
 * Exit: the slot is cleared after all transactions of the process have ended.  A
 * process that did not come to that leaves it to maintenance (cmq_proc_sweep).
 * Crash: shared memory begins anew.
 *
 * Locks: an LWLock is held to take a slot, and to sweep; while it is held that of
 * cmq_shared.c may be asked for, never the other way round.  Each field is an atomic,
 * written by the slot's process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"

#include "memory/cmq_proc.h"
#include "memory/cmq_types.h"

typedef struct ProcSlot
{
	pg_atomic_uint32 pid;		/* 0: free */
	pg_atomic_uint32 committing;	/* a transaction id */
	pg_atomic_uint64 published; /* a time */
	pg_atomic_uint64 uses[CMQ_NUSES];	/* packed keys; 0: none */
	CmqProcWindow windows[CMQ_NWINDOWS];
} ProcSlot;

typedef union PaddedSlot
{
	ProcSlot	slot;
	char		pad[PG_CACHE_LINE_SIZE];
} PaddedSlot;

typedef struct Procs
{
	pg_atomic_uint32 n;			/* slots that have ever been taken */
	pg_atomic_uint64 prepared;	/* a time, of all prepared transactions */
	PaddedSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} Procs;

StaticAssertDecl(sizeof(ProcSlot) <= PG_CACHE_LINE_SIZE,
				 "a slot does not fit into a cache line");

static Procs *procs = NULL;
static LWLock *procs_lock = NULL;

/* The slot of this process; -1: not yet. */
static int	my_number = -1;

static ProcSlot *
get_slot(int number)
{
	return &procs->slots[number].slot;
}

Size
cmq_proc_shmem_size(void)
{
	/* with room to begin at a cache line */
	return add_size(offsetof(Procs, slots) + PG_CACHE_LINE_SIZE,
					mul_size(MaxBackends, sizeof(PaddedSlot)));
}

static void
clear_slot(ProcSlot *slot)
{
	pg_atomic_write_u64(&slot->published, (uint64) CMQ_TIME_NONE);
	pg_atomic_write_u32(&slot->committing, InvalidTransactionId);
	for (CmqWindowKind kind = 0; kind < CMQ_NWINDOWS; kind++)
		pg_atomic_write_u64(&slot->windows[kind].time, (uint64) CMQ_TIME_NONE);
}

/* Called under AddinShmemInitLock. */
void
cmq_proc_shmem_init(LWLock *lock)
{
	bool		found;

	procs_lock = lock;
	procs = ShmemInitStruct("cmq processes", cmq_proc_shmem_size(), &found);
	/* the same shift in each process */
	procs = (Procs *) ((char *) TYPEALIGN(PG_CACHE_LINE_SIZE,
										  (char *) procs->slots) -
					   offsetof(Procs, slots));
	if (found)
		return;
	pg_atomic_init_u32(&procs->n, 0);
	pg_atomic_init_u64(&procs->prepared, (uint64) CMQ_TIME_NONE);
	for (int i = 0; i < MaxBackends; i++)
	{
		ProcSlot   *slot = get_slot(i);

		pg_atomic_init_u32(&slot->pid, 0);
		pg_atomic_init_u32(&slot->committing, InvalidTransactionId);
		pg_atomic_init_u64(&slot->published, (uint64) CMQ_TIME_NONE);
		for (int use = 0; use < CMQ_NUSES; use++)
			pg_atomic_init_u64(&slot->uses[use], 0);
		for (CmqWindowKind kind = 0; kind < CMQ_NWINDOWS; kind++)
		{
			pg_atomic_init_u64(&slot->windows[kind].time, (uint64) CMQ_TIME_NONE);
			pg_atomic_init_u64(&slot->windows[kind].groups, 0);
			pg_atomic_init_u64(&slot->windows[kind].queue, 0);
		}
	}
}

static bool
has_uses(ProcSlot *slot)
{
	for (int use = 0; use < CMQ_NUSES; use++)
	{
		if (pg_atomic_read_u64(&slot->uses[use]) != 0)
			return true;
	}
	return false;
}

static void
give_back_slot(int code, Datum arg)
{
	ProcSlot   *slot = get_slot(my_number);

	clear_slot(slot);
	my_number = -1;
	/* what was counted and not taken back is for maintenance */
	if (!has_uses(slot))
		pg_atomic_write_u32(&slot->pid, 0);
}

/*
 * Take a slot for this process, if it has none, before it uses the entry of a queue.
 * Nothing else here can fail.
 */
void
cmq_proc_take_slot(void)
{
	if (likely(my_number >= 0))
		return;
	LWLockAcquire(procs_lock, LW_EXCLUSIVE);
	for (int i = 0; i < MaxBackends && my_number < 0; i++)
	{
		if (pg_atomic_read_u32(&get_slot(i)->pid) == 0)
			my_number = i;
	}
	if (my_number >= 0)
	{
		pg_atomic_write_u32(&get_slot(my_number)->pid, MyProcPid);
		if (pg_atomic_read_u32(&procs->n) <= my_number)
			pg_atomic_write_u32(&procs->n, my_number + 1);
	}
	LWLockRelease(procs_lock);
	if (my_number < 0)
		elog(ERROR, "no slot is left for this process");
	/* before it is written */
	pg_memory_barrier();
	on_shmem_exit(give_back_slot, (Datum) 0);
}

/* The number of this process's slot. */
int
cmq_proc_number(void)
{
	Assert(my_number >= 0);
	return my_number;
}

/* How many slots there are to be looked at. */
int
cmq_proc_count(void)
{
	return (int) pg_atomic_read_u32(&procs->n);
}

/*
 * Our transaction may have written rows from this time on: CMQ_TIME_UNKNOWN from any,
 * CMQ_TIME_NONE none.
 */
void
cmq_proc_publish(TimestampTz time)
{
	pg_atomic_write_u64(&get_slot(cmq_proc_number())->published, (uint64) time);
}

/* The same for all prepared transactions. */
void
cmq_proc_publish_prepared(TimestampTz time)
{
	pg_atomic_write_u64(&procs->prepared, (uint64) time);
}

/* The smallest time that others have published, prepared transactions included. */
TimestampTz
cmq_proc_published_by_others(void)
{
	TimestampTz smallest = CMQ_TIME_NONE;
	TimestampTz prepared;
	int			n = cmq_proc_count();

	for (int i = 0; i < n; i++)
	{
		/* read once: Min() would evaluate it twice, and it may change */
		TimestampTz time =
			(TimestampTz) pg_atomic_read_u64(&get_slot(i)->published);

		if (i != my_number)
			smallest = Min(smallest, time);
	}

	/* last, because PREPARE writes it before it clears its slot */
	pg_memory_barrier();
	prepared = (TimestampTz) pg_atomic_read_u64(&procs->prepared);
	return Min(smallest, prepared);
}

/* A window of the process of this slot, to be read and written by cmq_window.c. */
CmqProcWindow *
cmq_proc_window(int number, CmqWindowKind kind)
{
	return &get_slot(number)->windows[kind];
}

/* This transaction is about to commit and to add; InvalidTransactionId: it has added. */
void
cmq_proc_commit(TransactionId xid)
{
	pg_write_barrier();
	pg_atomic_write_u32(&get_slot(cmq_proc_number())->committing, xid);
}

/* The transaction that the process of this slot has named so. */
TransactionId
cmq_proc_committing(int number)
{
	return pg_atomic_read_u32(&get_slot(number)->committing);
}

static uint64
pack_key(const CmqSharedKey *key)
{
	return ((uint64) key->database << 32) | key->pending;
}

/* This process has counted itself in the entry of this queue; NULL: in none any more. */
void
cmq_proc_set_use(CmqProcUse use, const CmqSharedKey *key)
{
	pg_atomic_write_u64(&get_slot(cmq_proc_number())->uses[use],
						key ? pack_key(key) : 0);
}

/*
 * Maintenance: clear slots of processes that are gone, and have take_back undo what
 * they had counted, under the lock.
 */
void
cmq_proc_sweep(void (*take_back) (CmqProcUse use, const CmqSharedKey *key,
								  int number))
{
	int			n = cmq_proc_count();

	LWLockAcquire(procs_lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		ProcSlot   *slot = get_slot(i);
		uint32		pid = pg_atomic_read_u32(&slot->pid);

		if (pid == 0 || BackendPidGetProc(pid) != NULL)
			continue;
		clear_slot(slot);
		for (int use = 0; use < CMQ_NUSES; use++)
		{
			uint64		packed = pg_atomic_exchange_u64(&slot->uses[use], 0);
			CmqSharedKey key = {
				.database = (Oid) (packed >> 32),
				.pending = (Oid) packed
			};

			if (packed != 0)
				take_back(use, &key, i);
		}
		pg_atomic_write_u32(&slot->pid, 0);
	}
	LWLockRelease(procs_lock);
}
