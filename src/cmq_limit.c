/*-------------------------------------------------------------------------
 *
 * cmq_limit.c
 *	  Time for code of other owners: a limit for a call, and whose code has used
 *	  how much.
 *
 * Functions in indexes of a queue run wherever its tables are written.  Whose
 * queue it is has chosen them; but a redrive, a round of maintenance and the
 * move of a dead letter also come to queues that nobody there has chosen.
 *
 * cmq_limited() calls a function with a time limit, in a subtransaction.  When
 * the limit is over the query is cancelled, and that ends the function and
 * nothing else.  A cancel from outside goes on to the caller; an error that
 * merely says it is one, as any function can raise it, does not.  Calls nest,
 * for code in an index can call anything: an inner one has no more time than is
 * left of the outer one's, and when it ends the outer limit is on again.  Code
 * that catches cancels is not stopped by this: in a worker a second timeout
 * kills the process; in a session it can only be terminated.
 *
 * CmqUses tells whose code has used the time.  A host, in whose name all is done,
 * lets guests write into their queues: what a guest needs for one message, up to
 * a fair time, counts for the host who brought the message, and the rest for the
 * guest.  So many messages count for whoever moves them, and slow code for
 * whoever wrote it.
 *
 * Locks: none.  Abort: a limit ends with its call, however that ends; what an
 * interrupted guest has used is counted when the next one begins.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "cmq.h"

/* What writing one message may take, and each kilobyte of it, in microseconds. */
#define FAIR_TIME 1000
#define FAIR_TIME_KB 20

/* A call of cmq_limited() under way. */
typedef struct LimitedCall
{
	TimestampTz end;
	struct LimitedCall *outer;
} LimitedCall;

static LimitedCall *innermost = NULL;
static TimeoutId limit_timeout = MAX_TIMEOUTS;
static volatile sig_atomic_t limit_over = false;
static volatile sig_atomic_t cancel_is_ours = false;
static volatile sig_atomic_t cancelled = false; /* from outside, in the outermost */

static void
limit_is_over(void)
{
	limit_over = true;
	if (!QueryCancelPending)
		cancel_is_ours = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

/*
 * A cancel by somebody, or by statement_timeout: the server sends itself a signal.
 * So does lock_timeout, which is an error of another kind, that code may catch.
 */
static void
note_cancel(SIGNAL_ARGS)
{
	if (!get_timeout_indicator(LOCK_TIMEOUT, false))
	{
		cancelled = true;
		cancel_is_ours = false;
	}
	StatementCancelHandler(CMQ_PASS_SIGNAL_ARGS);
}

/*
 * Is a cancel the end of the innermost limit?  After one from outside none is:
 * code may have caught the first of two.
 */
static bool
is_over(void)
{
	return limit_over && !cancelled;
}

/* Switch off the limit that is on, with a cancel of its that nobody has met. */
static void
switch_off(void)
{
	disable_timeout(limit_timeout, false);
	if (cancel_is_ours)
		QueryCancelPending = false;
	limit_over = cancel_is_ours = false;
}

/*
 * As cmq_queue_try(), with a time limit in milliseconds.  The limit ends the call
 * with a warning and false, and over is set; a cancel from outside is raised again.
 */
bool
cmq_limited(int limit, const char *name, const char *what,
			void (*func) (const char *name, void *arg), void *arg, bool warn,
			bool *over)
{
	LimitedCall mine = {.outer = innermost};
	volatile bool ok = false;

	if (limit_timeout == MAX_TIMEOUTS)
		limit_timeout = RegisterTimeout(USER_TIMEOUT, limit_is_over);
	/* the outer one may just have been reached: that ends us, too */
	disable_timeout(limit_timeout, false);
	CHECK_FOR_INTERRUPTS();
	limit_over = cancel_is_ours = false;
	if (innermost == NULL)
	{
		cancelled = false;
		pqsignal(SIGINT, note_cancel);
	}
	mine.end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), limit);
	if (mine.outer)
		mine.end = Min(mine.end, mine.outer->end);
	PG_TRY();
	{
		innermost = &mine;
		enable_timeout_at(limit_timeout, mine.end);
		ok = cmq_queue_try_until(name, what, func, arg, warn, is_over);
		*over = !ok && limit_over;
	}
	PG_FINALLY();
	{
		switch_off();
		innermost = mine.outer;
		if (innermost == NULL)
			pqsignal(SIGINT, StatementCancelHandler);
		/* one whose time is over is reached at once */
		if (innermost)
			enable_timeout_at(limit_timeout, innermost->end);
	}
	PG_END_TRY();
	return ok;
}

/* Nobody has used anything; the memory context is to outlive the struct. */
void
cmq_uses_init(CmqUses *uses, MemoryContext mcxt)
{
	memset(uses, 0, sizeof(*uses));
	uses->mcxt = mcxt;
	INSTR_TIME_SET_CURRENT(uses->since);
}

static CmqUse *
find_use(const CmqUses *uses, Oid owner)
{
	for (int i = 0; i < uses->n; i++)
	{
		if (uses->uses[i].owner == owner)
			return &uses->uses[i];
	}
	return NULL;
}

static void
add(CmqUses *uses, Oid owner, int64 time)
{
	CmqUse	   *use = find_use(uses, owner);

	if (use == NULL)
	{
		if (uses->uses == NULL)
		{
			uses->allocated = 8;
			uses->uses = MemoryContextAlloc(uses->mcxt,
											uses->allocated * sizeof(CmqUse));
		}
		else if (uses->n == uses->allocated)
		{
			uses->allocated *= 2;
			uses->uses = repalloc(uses->uses, uses->allocated * sizeof(CmqUse));
		}
		use = &uses->uses[uses->n++];
		use->owner = owner;
		use->time = 0;
	}
	use->time += time;
}

/* Count the time until now. */
static void
settle(CmqUses *uses)
{
	instr_time	now;
	instr_time	elapsed;
	int64		time;

	INSTR_TIME_SET_CURRENT(now);
	elapsed = now;
	INSTR_TIME_SUBTRACT(elapsed, uses->since);
	time = (int64) INSTR_TIME_GET_MICROSEC(elapsed);
	if (OidIsValid(uses->guest) && time > uses->fair)
	{
		add(uses, uses->guest, time - uses->fair);
		time = uses->fair;
	}
	add(uses, uses->host, time);
	uses->since = now;
	uses->guest = InvalidOid;
}

/* From now on all is done in this name, until another call; InvalidOid: nobody's. */
void
cmq_uses_host(CmqUses *uses, Oid host)
{
	settle(uses);
	uses->host = host;
}

/*
 * From now on a guest's code may run, to write one message of that size;
 * InvalidOid: it has ended.  uses may be NULL: nothing is counted.
 */
void
cmq_uses_guest(CmqUses *uses, Oid guest, Size size)
{
	if (uses == NULL)
		return;
	settle(uses);
	uses->guest = guest;
	uses->fair = FAIR_TIME + (int64) (size / 1024) * FAIR_TIME_KB;
}

/* What the owner has used until now, in microseconds. */
int64
cmq_uses_of(CmqUses *uses, Oid owner)
{
	CmqUse	   *use;

	if (uses->host == owner || uses->guest == owner)
	{
		Oid			guest = uses->guest;

		settle(uses);
		uses->guest = guest;
	}
	use = find_use(uses, owner);
	return use ? use->time : 0;
}

/*
 * The guest who has used most, and that many microseconds at least, but for the
 * owners of the list; InvalidOid if there is none.
 */
Oid
cmq_uses_most(CmqUses *uses, int64 least, List *except)
{
	Oid			most = InvalidOid;

	settle(uses);
	for (int i = 0; i < uses->n; i++)
	{
		CmqUse	   *use = &uses->uses[i];

		if (use->owner == uses->host || use->time < least ||
			list_member_oid(except, use->owner))
			continue;
		most = use->owner;
		least = use->time;
	}
	return most;
}
