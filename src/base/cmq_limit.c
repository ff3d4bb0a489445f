/*-------------------------------------------------------------------------
 *
 * cmq_limit.c
 *	  Time for code of other owners: a limit for a call.
 *
 * Functions in indexes of a queue run wherever the queue's tables are written.  The
 * owner of the queue has chosen these functions; but a redrive, a round of maintenance
 * and the move of a dead letter also come to queues that their caller has not chosen.
 *
 * cmq_limited() calls a function with a time limit, in a subtransaction.  The end of the
 * limit cancels the query, which ends the function and nothing else.  A cancel from
 * outside goes on to the caller; an error that merely has the code of a cancel, which any
 * function can raise, does not.  Calls nest, for code in an index can call anything: an
 * inner call has no more time than is left of the outer one's, and when the inner call
 * ends the outer limit is on again.  The limit does not stop code that catches cancels:
 * in a worker a second timeout kills the process; a session can only be terminated.
 *
 * Locks: none.  Abort: a limit ends with its call, however that ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "base/cmq_limit.h"
#include "base/cmq_try.h"

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
static volatile sig_atomic_t cancelled = false; /* from outside, in the
												 * outermost */

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
 * A cancel by somebody, or by statement_timeout, which sends the server's own process a
 * signal.  lock_timeout sends one too, but ends in an error of another kind, which code
 * may catch.
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

/* Switch off the limit that is on, and its cancel if that has ended nothing yet. */
static void
switch_off(void)
{
	disable_timeout(limit_timeout, false);
	if (cancel_is_ours)
		QueryCancelPending = false;
	limit_over = cancel_is_ours = false;
}

/*
 * As cmq_try(), with a limit in milliseconds: when the limit is over the call ends as by
 * an error, and *over is set.  A cancel from outside is raised again.
 */
bool
cmq_limited(int limit, const char *name, const char *what,
			void (*func) (const char *name, void *arg), void *arg, int flags,
			bool *over)
{
	LimitedCall mine = {.outer = innermost};
	ErrorData  *volatile error = NULL;

	if (limit_timeout == MAX_TIMEOUTS)
		limit_timeout = RegisterTimeout(USER_TIMEOUT, limit_is_over);
	/* the outer limit may just be over: that ends this call, too */
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
		error = cmq_try_error(name, func, arg, flags);
		*over = error && limit_over;
		if (error)
			cmq_try_forgive(error, name, what, flags, limit_over && !cancelled);
	}
	PG_FINALLY();
	{
		switch_off();
		innermost = mine.outer;
		/* an outer limit that is over by now takes effect at once */
		if (innermost)
			enable_timeout_at(limit_timeout, innermost->end);
		else
			pqsignal(SIGINT, StatementCancelHandler);
	}
	PG_END_TRY();
	return error == NULL;
}
