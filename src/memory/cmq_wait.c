/*-------------------------------------------------------------------------
 *
 * cmq_wait.c
 *	  Receives that wait for a message, and who wakes them.
 *
 * A receive that may wait and finds nothing sleeps on the condition variable
 * of its queue, until it is signalled or its time is up.  One of the waiters of
 * a queue, the planner, wakes by itself when the next delayed or in-flight message
 * becomes visible; the others leave that to it.  Nobody polls.
 *
 * A transaction signals when it ends, once for all that it did (cmq_xact.c):
 *	- commit of sends, of restores, of visibility changes, of receives (what they put in
 *	  flight becomes visible some day: somebody must plan for it), of a rewind, of a
 *	  resume
 *	- abort of receives, deletes, restores and visibility changes, also of a
 *	  subtransaction: the messages are ready again.  Each claim notes that at
 *	  once, because an error can come right after it.
 *	- end of a prepared transaction: the one that ends it signals for it
 *	  (cmq_prepared.c)
 * It signals as many waiters as there are messages to be had, and none when
 * none waits.
 *
 * A waiter that is signalled looks again, takes a message or sleeps on with a new
 * plan.  A waiter that stops waiting, for whatever reason, signals one more waiter:
 * it may have been signalled for a message that it did not take, or be the
 * planner.  So at any time a waiter has planned for every message:
 *	- A waiter that sees an earlier time than is planned for becomes the planner.
 *	- The planner stays that until it looks again, and plans anew, or stops waiting,
 *	  and the one that it signals looks.
 * Messages that become visible together are had one after the other: each receive that
 * takes one stops waiting, and signals the next.
 * At a paused queue nobody plans: a look finds nothing and sees no time, whatever is
 * there.  The resume signals all, and they plan anew (cmq_pause.c).
 *
 * A waiter with a filter is choosy: it may leave the message that it was signalled for,
 * and one that does not plan for others must not be signalled in their place.  So choosy
 * waiters sleep on a variable of their own.  All of them are woken whenever a message can
 * be had, and each plans for itself alone; plain waiters go on as if there were none.
 * What it has left once it does not look at again (cmq_candidates.c).
 *
 * No wake-up is lost: a waiter counts itself in and gets onto the condition
 * variable, then looks, then sleeps.  A writer makes its rows visible, then
 * reads the count.  A full barrier stands between the two steps on each side.
 *
 * A receive that sleeps holds no locks of its own (cmq_receive.c), but its
 * transaction may have some.  A call that wants the pending table alone (cmq_lock.c) asks
 * waiters to leave (cmq_wait_ask_to_leave), which then return without a message.  So does
 * a waiter that would have to wait for cmq.queue before a look: a transaction that has
 * that table alone, as DROP EXTENSION does, may be waiting for locks that the waiter's
 * transaction had before.
 *
 * Locks: the mutex of the entry guards who plans.  Abort: waits, and what is asked, end
 * with their subtransaction.  Exit: what a process has left is taken back by maintenance
 * (cmq_wait_sweep).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/memutils.h"

#include "base/cmq_compat.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_proc.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_wait.h"

#define NOBODY (-1)				/* no number of a process */

/*
 * The waits of this backend, each at a queue and begun by a subtransaction; in
 * TopTransactionContext.  Code of an owner's that runs in a receive that waits can
 * call another receive: the innermost is the last.
 */
typedef struct Wait
{
	CmqSharedQueue *shared;
	CmqWaiterKind kind;
	SubTransactionId subid;
	uint32		nasked;			/* how often waiters had been asked to leave */
} Wait;

static List *waits = NIL;

/* The queue whose waiters this backend asks to leave, or NULL, and since when. */
static CmqSharedQueue *asking_at = NULL;
static SubTransactionId asking_subid = InvalidSubTransactionId;

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
signal_some(CmqSharedQueue *shared, CmqWaiterKind kind, int n)
{
	uint32		nwaiters = pg_atomic_read_u32(&shared->nwaiters[kind]);

	if (nwaiters <= (uint32) n)
	{
		if (nwaiters > 0)
			ConditionVariableBroadcast(&shared->wakeup[kind]);
		return;
	}
	while (n-- > 0)
		ConditionVariableSignal(&shared->wakeup[kind]);
}

/* So many messages can be had. */
static void
signal_waiters(CmqSharedQueue *shared, int n)
{
	/* our rows are visible before the counts are read */
	pg_memory_barrier();
	signal_some(shared, CMQ_PLAIN_WAITER, n);
	signal_some(shared, CMQ_CHOOSY_WAITER, CMQ_ALL_WAITERS);
}

/* Stop waiting: the process of this number, which may be gone. */
static void
stop_waiting(CmqSharedQueue *shared, CmqWaiterKind kind, int process)
{
	pg_atomic_fetch_sub_u32(&shared->nwaiters[kind], 1);
	if (kind == CMQ_CHOOSY_WAITER)
		return;
	end_plan(shared, process);
	pg_memory_barrier();
	signal_some(shared, kind, 1);
}

static void
take_back_waiter(CmqSharedQueue *shared, void *arg)
{
	stop_waiting(shared, CMQ_PLAIN_WAITER, *(int *) arg);
}

static void
take_back_choosy_waiter(CmqSharedQueue *shared, void *arg)
{
	stop_waiting(shared, CMQ_CHOOSY_WAITER, *(int *) arg);
}

static void
take_back_asker(CmqSharedQueue *shared, void *arg)
{
	pg_atomic_fetch_sub_u32(&shared->nasking, 1);
}

static void
take_back(CmqProcUse use, const CmqSharedKey *key, int number)
{
	cmq_shared_with(key, use == CMQ_WAITING ? take_back_waiter :
					use == CMQ_CHOOSING ? take_back_choosy_waiter : take_back_asker,
					&number);
}

/*
 * Maintenance: take back what processes have counted that are gone.  Each takes
 * back its own at the end of its transactions; this is for one that did not come
 * to that.
 */
void
cmq_wait_sweep(void)
{
	cmq_proc_sweep(take_back);
}

/*
 * Signal so many waiters of a queue.  changed: the queue's row has been, in a way that
 * waiters must know before they look again, by a rewind, a pause or a resume.  They cannot
 * wait for the invalidation that says so, which is sent after the signal.
 */
void
cmq_wait_signal(CmqSharedQueue *shared, int n, bool changed)
{
	if (changed)
		pg_atomic_fetch_add_u32(&shared->nchanges, 1);
	if (n > 0)
		signal_waiters(shared, n);
}

/* Show, and note for maintenance, where this process waits in this way. */
static void
show_wait(CmqWaiterKind kind)
{
	const CmqSharedKey *key = NULL;
	ListCell   *lc;

	foreach(lc, waits)
	{
		Wait	   *wait = lfirst(lc);

		if (wait->kind == kind)
			key = &wait->shared->key;
	}
	cmq_proc_set_use(kind == CMQ_CHOOSY_WAITER ? CMQ_CHOOSING : CMQ_WAITING, key);
}

/* Begin to wait: from here on, no message that arrives is missed. */
void
cmq_wait_begin(CmqSharedQueue *shared, CmqWaiterKind kind)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Wait	   *wait = palloc(sizeof(Wait));

	wait->shared = shared;
	wait->kind = kind;
	wait->subid = GetCurrentSubTransactionId();
	wait->nasked = pg_atomic_read_u32(&shared->nasked);
	waits = lappend(waits, wait);
	MemoryContextSwitchTo(old);
	show_wait(kind);
	pg_atomic_fetch_add_u32(&shared->nwaiters[kind], 1);
	ConditionVariablePrepareToSleep(&shared->wakeup[kind]);
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
 * A look has seen that the next message becomes visible at next_visible.  Is it for this
 * waiter to wake then?
 */
static bool
plan(CmqSharedQueue *shared, CmqWaiterKind kind, TimestampTz next_visible)
{
	int			me = cmq_proc_number();
	bool		mine;

	if (kind == CMQ_CHOOSY_WAITER)
		return true;
	SpinLockAcquire(&shared->mutex);
	mine = shared->planner == NOBODY || shared->planner == me ||
		next_visible < shared->planned_for;
	if (mine)
	{
		shared->planner = next_visible == DT_NOEND ? NOBODY : me;
		shared->planned_for = next_visible;
	}
	SpinLockRelease(&shared->mutex);
	return mine;
}

/* Was this waiter asked to leave?  The process that asked may have stopped since. */
static bool
is_asked(CmqSharedQueue *shared)
{
	return pg_atomic_read_u32(&shared->nasking) > 0 ||
		pg_atomic_read_u32(&shared->nasked) != ((Wait *) llast(waits))->nasked;
}

/*
 * Sleep until a signal, or until cmq_elapsed() is at the deadline.  next_visible is when
 * the next message becomes visible, by the queue's clock, DT_NOEND if that is after the
 * deadline.  False when the waiter is asked to leave.  Ends the process if its client has
 * gone.
 */
bool
cmq_wait_sleep(CmqSharedQueue *shared, TimestampTz next_visible, int64 deadline)
{
	CmqWaiterKind kind = ((Wait *) llast(waits))->kind;
	int64		sleep = Max(deadline - cmq_elapsed(), 0);

	if (plan(shared, kind, next_visible) && next_visible != DT_NOEND)
		sleep = Min(sleep, Max(next_visible - cmq_clock_peek(shared), 0));
	if (is_asked(shared))
		return false;

	/*
	 * An aborted subtransaction, or a wait within this one, may have taken us
	 * off the variable: then this puts us back and returns at once, and the
	 * caller looks again.  A look that has waited for a lock may have used up
	 * the latch that our signal has set: so it is set again.
	 */
	SetLatch(MyLatch);
	(void) ConditionVariableTimedSleep(&shared->wakeup[kind],
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
	show_wait(wait->kind);
	stop_waiting(wait->shared, wait->kind, cmq_proc_number());
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
	cmq_proc_set_use(CMQ_ASKING, &shared->key);
	pg_atomic_fetch_add_u32(&shared->nasking, 1);
	pg_atomic_fetch_add_u32(&shared->nasked, 1);
	signal_waiters(shared, CMQ_ALL_WAITERS);
}

void
cmq_wait_asked(void)
{
	if (asking_at == NULL)
		return;
	pg_atomic_fetch_sub_u32(&asking_at->nasking, 1);
	cmq_proc_set_use(CMQ_ASKING, NULL);
	asking_at = NULL;
}

/*
 * A subtransaction has been undone, or with TopSubTransactionId all of a transaction has
 * ended: so have its waits, and what it asks.  One within a wait leaves the wait alone,
 * but for its condition variable.
 */
void
cmq_wait_end_of(SubTransactionId subid)
{
	while (waits != NIL && ((Wait *) llast(waits))->subid >= subid)
		cmq_wait_end();
	if (asking_at && asking_subid >= subid)
		cmq_wait_asked();
}

/* How many changes of the queue's row waiters have been told of, modulo 2^32. */
uint32
cmq_wait_nchanges(CmqSharedQueue *shared)
{
	return pg_atomic_read_u32(&shared->nchanges);
}
