/*-------------------------------------------------------------------------
 *
 * cmq_wait.c
 *	  Receives that wait for a message, and who wakes them.
 *
 * A receive that may wait and finds nothing sleeps on the condition variable
 * of its queue, until it is signalled or its time is up.  One of those who wait at
 * a queue, the planner, wakes by itself when the next delayed or in-flight message
 * becomes visible; the others leave that to it.  Nobody polls.
 *
 * Who signals, at the end of its transaction, once for all it did:
 *	- commit of sends, of restores, of visibility changes, of receives (what they put in
 *	  flight becomes visible some day: somebody must plan for it), of a rewind
 *	- abort of receives, deletes, restores and visibility changes, also of a
 *	  subtransaction: the messages are ready again.  Each claim notes that at
 *	  once, because an error can come right after it.
 *	- whoever ends a prepared transaction: what that would have signalled itself
 *	  (cmq_prepared.c)
 * It signals as many waiters as there are messages to be had, and none when
 * none waits.
 *
 * Whoever is signalled looks again, takes a message or sleeps on with a new
 * plan.  Whoever stops waiting, for whatever reason, signals one more waiter:
 * it may have been signalled for a message that it did not take, or be the
 * planner.  So at any time somebody has planned for every message:
 *	- Who looks and sees an earlier time than is planned for becomes the planner.
 *	- The planner stays that until it looks again, and plans anew, or stops waiting,
 *	  and the one that it signals looks.
 * Messages that become visible together are had one after the other: each of those
 * who take one signals the next.
 *
 * No wake-up is lost: a waiter counts itself in and gets onto the condition
 * variable, then looks, then sleeps.  A writer makes its rows visible, then
 * reads the count.  A full barrier stands between the two steps on each side.
 *
 * A receive that sleeps holds no locks of its own (cmq_receive.c), but its
 * transaction may have some.  Drop and the switch of rewind need to have the pending
 * table for themselves: they ask waiters to give up (cmq_wait_ask_to_leave), who
 * then return without a message.  So does who would have to wait for cmq.queue before
 * a look: whoever has that alone, as DROP EXTENSION, may be waiting for locks that the
 * transaction had before.
 *
 * Locks: the queue's mutex guards who plans.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/int.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/memutils.h"

#include "base/cmq_compat.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_effect.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_wait.h"

#define MANY PG_INT32_MAX
#define NOBODY (-1)				/* no number of a process */

/*
 * What the current transaction will signal.  The shared entries stay: the
 * transaction uses them (cmq_shmem.c).
 */
typedef struct Signal
{
	CmqSharedQueue *shared;
	int			at_commit;		/* how many to signal */
	int			at_abort;
	bool		rewound;
	SubTransactionId subid;		/* which one has added to it last */
} Signal;

static List *signals = NIL;		/* in TopTransactionContext */

/*
 * The queues that this backend waits at, and the subtransactions that began to; in
 * TopTransactionContext.  Code of an owner's that runs in a receive that waits can
 * call another one: the innermost is the last.
 */
typedef struct Wait
{
	CmqSharedQueue *shared;
	SubTransactionId subid;
	uint32		nasked;			/* how often waiters had been asked to leave */
} Wait;

static List *waits = NIL;

/* The queue whose waiters it asks to leave, or NULL, and since which subtransaction. */
static CmqSharedQueue *asking_at = NULL;
static SubTransactionId asking_subid = InvalidSubTransactionId;

/*
 * The same for all backends, by process number, for maintenance alone: what a
 * process has counted and cannot take back any more, because it is gone.
 */
typedef struct WaitSlot
{
	pg_atomic_uint32 pid;
	pg_atomic_uint64 waiting;	/* a packed key; 0: none */
	pg_atomic_uint64 asking;
} WaitSlot;

static WaitSlot *wait_slots = NULL;

Size
cmq_wait_shmem_size(void)
{
	return mul_size(MaxBackends, sizeof(WaitSlot));
}

/* Called under AddinShmemInitLock. */
void
cmq_wait_shmem_init(void)
{
	bool		found;

	wait_slots = ShmemInitStruct("cmq waiters", cmq_wait_shmem_size(), &found);
	if (found)
		return;
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u32(&wait_slots[i].pid, 0);
		pg_atomic_init_u64(&wait_slots[i].waiting, 0);
		pg_atomic_init_u64(&wait_slots[i].asking, 0);
	}
}

static uint64
pack_key(const CmqSharedKey *key)
{
	return ((uint64) key->database << 32) | key->pending;
}

/* The slot of this process. */
static WaitSlot *
my_slot(void)
{
	cmq_shmem_take_slots();
	return &wait_slots[cmq_my_process_number()];
}

/* The process of this number plans no longer. */
static void
end_plan(CmqSharedQueue *shared, int process)
{
	SpinLockAcquire(&shared->mutex);
	if (shared->planner == process)
		shared->planner = NOBODY;
	SpinLockRelease(&shared->mutex);
}

static void
signal_waiters(CmqSharedQueue *shared, int n)
{
	uint32		nwaiters;

	/* our rows are visible before the count is read */
	pg_memory_barrier();
	nwaiters = pg_atomic_read_u32(&shared->nwaiters);
	if (nwaiters <= (uint32) n)
	{
		if (nwaiters > 0)
			ConditionVariableBroadcast(&shared->wakeup);
		return;
	}
	while (n-- > 0)
		ConditionVariableSignal(&shared->wakeup);
}

/* Stop waiting: the process of this number, which may be gone. */
static void
stop_waiting(CmqSharedQueue *shared, int process)
{
	pg_atomic_fetch_sub_u32(&shared->nwaiters, 1);
	end_plan(shared, process);
	signal_waiters(shared, 1);
}

static void
take_back_waiter(CmqSharedQueue *shared, void *arg)
{
	stop_waiting(shared, *(int *) arg);
}

static void
take_back_asker(CmqSharedQueue *shared, void *arg)
{
	pg_atomic_fetch_sub_u32(&shared->nasking, 1);
}

/* Clear what the slot of this process says, and take back what it counted. */
static void
clear_slot(pg_atomic_uint64 *value, int process,
		   void (*take_back) (CmqSharedQueue *shared, void *arg))
{
	uint64		packed = pg_atomic_exchange_u64(value, 0);
	CmqSharedKey key = {
		.database = (Oid) (packed >> 32),
		.pending = (Oid) packed
	};

	if (packed != 0)
		cmq_shmem_with(&key, take_back, &process);
}

/* Take back what the process of this number has counted. */
static void
clear_wait_slot(int process)
{
	clear_slot(&wait_slots[process].waiting, process, take_back_waiter);
	clear_slot(&wait_slots[process].asking, process, take_back_asker);
}

/*
 * This process takes over the slot of its number, and takes back what the one
 * before has left there.  Called under the lock for slots.
 */
void
cmq_wait_take_slot(void)
{
	int			process = cmq_my_process_number();

	clear_wait_slot(process);
	pg_atomic_write_u32(&wait_slots[process].pid, MyProcPid);
}

/*
 * Maintenance: take back what processes have counted that are gone.  Each takes
 * back its own at the end of its transactions; this is for one that did not come
 * to that.  Called under the lock for slots, so nobody takes one over meanwhile.
 */
void
cmq_wait_sweep(void)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		WaitSlot   *slot = &wait_slots[i];

		if ((pg_atomic_read_u64(&slot->waiting) != 0 ||
			 pg_atomic_read_u64(&slot->asking) != 0) &&
			BackendPidGetProc(pg_atomic_read_u32(&slot->pid)) == NULL)
			clear_wait_slot(i);
	}
}

void
cmq_wait_init(CmqSharedQueue *shared)
{
	ConditionVariableInit(&shared->wakeup);
	pg_atomic_init_u32(&shared->nwaiters, 0);
	pg_atomic_init_u32(&shared->nasking, 0);
	pg_atomic_init_u32(&shared->nasked, 0);
	pg_atomic_init_u32(&shared->nrewinds, 0);
	shared->planner = NOBODY;
}

/* Signal so many waiters of a queue; rewound as in cmq_wait_signal_rewind(). */
void
cmq_wait_signal(CmqSharedQueue *shared, int n, bool rewound)
{
	if (rewound)
		pg_atomic_fetch_add_u32(&shared->nrewinds, 1);
	if (n > 0)
		signal_waiters(shared, n);
}

/* What the current transaction will signal at this queue. */
static Signal *
get_signal(CmqSharedQueue *shared)
{
	Signal	   *sig;
	ListCell   *lc;
	MemoryContext old;

	foreach(lc, signals)
	{
		sig = lfirst(lc);
		if (sig->shared == shared)
			return sig;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	sig = palloc0(sizeof(Signal));
	sig->shared = shared;
	signals = lappend(signals, sig);
	MemoryContextSwitchTo(old);
	return sig;
}

/*
 * Signal waiters when the current transaction ends: so many if it commits, so
 * many if it aborts.  Adds up over calls.  The caller holds a lock on the
 * queue's pending table.
 */
void
cmq_wait_signal_at_end(CmqSharedQueue *shared, int at_commit, int at_abort)
{
	Signal	   *sig = get_signal(shared);

	sig->subid = GetCurrentSubTransactionId();
	if (pg_add_s32_overflow(sig->at_commit, at_commit, &sig->at_commit))
		sig->at_commit = MANY;
	if (pg_add_s32_overflow(sig->at_abort, at_abort, &sig->at_abort))
		sig->at_abort = MANY;
}

/*
 * The same for a rewind: nobody knows how many messages it brings back, and
 * waiters have to read the queue's row again.  They cannot wait for the
 * invalidation that says so: it is sent after the signal.
 */
void
cmq_wait_signal_rewind(CmqSharedQueue *shared)
{
	Signal	   *sig = get_signal(shared);

	sig->at_commit = MANY;
	sig->rewound = true;
}

/* Begin to wait: from here on, no message that arrives is missed. */
void
cmq_wait_begin(CmqSharedQueue *shared)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Wait	   *wait = palloc(sizeof(Wait));

	wait->shared = shared;
	wait->subid = GetCurrentSubTransactionId();
	wait->nasked = pg_atomic_read_u32(&shared->nasked);
	waits = lappend(waits, wait);
	MemoryContextSwitchTo(old);
	pg_atomic_write_u64(&my_slot()->waiting, pack_key(&shared->key));
	pg_atomic_fetch_add_u32(&shared->nwaiters, 1);
	ConditionVariablePrepareToSleep(&shared->wakeup);
}

/*
 * A client that is gone must not get a message, which would be in flight for nobody.
 * The server itself looks for it only with client_connection_check_interval.
 */
static void
check_client(void)
{
	if (MyProcPort == NULL || !WaitEventSetCanReportClosed() ||
		pq_check_connection())
		return;
	ClientConnectionLost = true;
	InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
}

/*
 * A look has seen that the next message becomes visible at due.  Is it for this
 * waiter to wake then?
 */
static bool
plan(CmqSharedQueue *shared, TimestampTz due)
{
	int			me = cmq_my_process_number();
	bool		mine;

	SpinLockAcquire(&shared->mutex);
	mine = shared->planner == NOBODY || shared->planner == me ||
		due < shared->planned_for;
	if (mine)
	{
		shared->planner = due == DT_NOEND ? NOBODY : me;
		shared->planned_for = due;
	}
	SpinLockRelease(&shared->mutex);
	return mine;
}

/* Has this waiter been asked to leave?  Who asks does not wait until it has heard it. */
static bool
is_asked(CmqSharedQueue *shared)
{
	return pg_atomic_read_u32(&shared->nasking) > 0 ||
		pg_atomic_read_u32(&shared->nasked) != ((Wait *) llast(waits))->nasked;
}

/*
 * Sleep until so much has elapsed as deadline says, at most.  due is when the next
 * message becomes visible, by the queue's clock, DT_NOEND if that is later.  False when
 * the waiter is asked to leave.  Ends the process if its client has gone.
 */
bool
cmq_wait_sleep(CmqSharedQueue *shared, TimestampTz due, int64 deadline)
{
	int64		sleep = Max(deadline - cmq_elapsed(), 0);

	if (plan(shared, due) && due != DT_NOEND)
		sleep = Min(sleep, Max(due - cmq_clock_peek(shared), 0));
	if (is_asked(shared))
		return false;
	/*
	 * An aborted subtransaction, or a wait within this one, has taken us off the
	 * variable: then this puts us back and returns at once, and the caller looks
	 * again.  A look that has waited for a lock may have used up the wake-up of our
	 * signal.
	 */
	SetLatch(MyLatch);
	(void) ConditionVariableTimedSleep(&shared->wakeup,
									   sleep / 1000 + 1,
									   cmq_wait_event());
	check_client();
	return !is_asked(shared);
}

/* End the wait that began last. */
void
cmq_wait_end(void)
{
	Wait	   *wait = llast(waits);

	waits = list_delete_last(waits);
	ConditionVariableCancelSleep();
	pg_atomic_write_u64(&my_slot()->waiting, waits == NIL ? 0 :
						pack_key(&((Wait *) llast(waits))->shared->key));
	stop_waiting(wait->shared, cmq_my_process_number());
}

/*
 * Waiting receives are to return, because the caller wants the pending table
 * for itself; until cmq_wait_asked() or the end of the transaction.
 */
void
cmq_wait_ask_to_leave(CmqSharedQueue *shared)
{
	asking_at = shared;
	asking_subid = GetCurrentSubTransactionId();
	pg_atomic_write_u64(&my_slot()->asking, pack_key(&shared->key));
	pg_atomic_fetch_add_u32(&shared->nasking, 1);
	pg_atomic_fetch_add_u32(&shared->nasked, 1);
	signal_waiters(shared, MANY);
}

void
cmq_wait_asked(void)
{
	if (asking_at == NULL)
		return;
	pg_atomic_fetch_sub_u32(&asking_at->nasking, 1);
	pg_atomic_write_u64(&my_slot()->asking, 0);
	asking_at = NULL;
}

static void
xact_callback(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (event == XACT_EVENT_PRE_PREPARE)
	{
		foreach(lc, signals)
			cmq_prepared_expect(((Signal *) lfirst(lc))->shared);
	}
	if (!cmq_xact_is_over(event))
		return;

	while (waits != NIL)
		cmq_wait_end();
	cmq_wait_asked();
	foreach(lc, signals)
	{
		Signal	   *sig = lfirst(lc);

		if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PARALLEL_COMMIT)
			cmq_wait_signal(sig->shared, sig->at_commit, sig->rewound);
		else if (event == XACT_EVENT_ABORT ||
				 event == XACT_EVENT_PARALLEL_ABORT)
			cmq_wait_signal(sig->shared, sig->at_abort, false);
		else
		{
			CmqPreparedQueue later = {
				.at_commit = sig->at_commit,
				.at_abort = sig->at_abort,
				.rewound = sig->rewound
			};

			cmq_prepared_add(sig->shared, &later);
		}
	}
	signals = NIL;
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	ListCell   *lc;

	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;

	/* one within a wait leaves the wait alone, but for its condition variable */
	while (waits != NIL && ((Wait *) llast(waits))->subid >= mySubid)
		cmq_wait_end();
	if (asking_at && asking_subid >= mySubid)
		cmq_wait_asked();
	foreach(lc, signals)
	{
		Signal	   *sig = lfirst(lc);

		/* what it has not touched itself or in its own is not given back */
		if (sig->at_abort > 0 && sig->subid >= mySubid)
			signal_waiters(sig->shared, sig->at_abort);
	}
}

void
cmq_wait_install_callbacks(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}

/* How many rewinds of the queue have committed, modulo 2^32. */
uint32
cmq_wait_nrewinds(CmqSharedQueue *shared)
{
	return pg_atomic_read_u32(&shared->nrewinds);
}
