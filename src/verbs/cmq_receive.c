/*-------------------------------------------------------------------------
 *
 * cmq_receive.c
 *	  Receive: take ready messages and make them in flight, or consume them.
 *
 * cmq_candidates.c finds messages, cmq_take.c takes them.  A consume is a receive and a
 * delete in one step.
 *
 * Dead messages are passed over, and moved after the scan if that needs no wait
 * and no code of another owner (cmq_dead_letter.c).
 *
 * A paused queue is not looked at at all (cmq_pause.c).
 *
 * Locks: those of cmq_candidates.c and cmq_take.c, to the end of the transaction, but not
 * while a receive waits.  Abort: the rows that were claimed are there as they were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "storage/lockdefs.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_count.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_wait.h"
#include "memory/cmq_xact.h"
#include "store/cmq_cache.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_merge.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "verbs/cmq_candidates.h"
#include "verbs/cmq_dead_letter.h"
#include "verbs/cmq_ordered.h"
#include "verbs/cmq_take.h"

PG_FUNCTION_INFO_V1(cmq_receive);
PG_FUNCTION_INFO_V1(cmq_consume);

/* How many messages that cannot be read one receive puts off. */
#define MAX_UNREADABLE 100

/* What a receive is asked for. */
typedef struct Request
{
	CmqTakeRequest take;
	CmqLooked	looked;			/* with a filter */
	int			max_messages;
	int			polling_wait_seconds;
} Request;

/* Take what is there, until it is enough. */
static void
take_candidates(CmqTake *take, CmqCandidates *scan, int max_messages)
{
	CmqSource	source;

	while (take->n < max_messages && take->nunreadable < MAX_UNREADABLE &&
		   (source = cmq_candidates_next(scan)) != CMQ_NO_SOURCE)
	{
		if (source == CMQ_READY ? cmq_take_ready(take) :
			cmq_take_due(take, &scan->due.table))
			cmq_candidates_taken(scan);
		else if (!take->unwanted)
			cmq_candidates_keep(scan, source);
	}
}

/*
 * Look once; returns how many messages were received.  The rest is as for
 * receive_messages(), but that *must_commit is set and never cleared.  *again: dead messages
 * of groups were moved, and all that there were, so what was behind them may be had now.
 */
static int
look_once(CmqQueue *queue, Request *request, TimestampTz *next_visible,
		  bool *must_commit, bool *again)
{
	CmqTake		take;
	CmqCandidates scan;
	CmqLaggards laggards[CMQ_NLAGGARDS];
	int			nmoved = 0;

	cmq_take_begin(&take, queue, &request->take);
	cmq_candidates_begin(&scan, queue, &take.pending->table, take.now,
						 request->max_messages,
						 request->take.has_filter ? &request->looked : NULL,
						 queue->ordered ? laggards : NULL);
	if (queue->ordered)
		cmq_ordered_take(&take, &scan, request->max_messages);
	else
		take_candidates(&take, &scan, request->max_messages);
	if (take.n == 0 && next_visible)
		*next_visible = cmq_candidates_next_visible(&scan, *next_visible);
	cmq_candidates_end(&scan, take.n);
	if (queue->ordered)
		cmq_ordered_end(&take, &scan);
	cmq_take_end(&take);
	if (scan.nletters > 0)
		nmoved = cmq_dead_letter_move(queue, scan.letters, scan.nletters);
	*must_commit |= nmoved > 0 || (take.n == 0 && take.nunreadable > 0);
	*again = queue->ordered && take.n == 0 && nmoved > 0 &&
		!cmq_candidates_letters_full(&scan);
	if (take.n + take.nunreadable + nmoved == 0)
		return 0;

	/* as for a delivery: a receive may have planned for what was moved */
	if (take.n + take.nunreadable == 0)
		cmq_xact_wake(queue->shared, 1, 0);
	cmq_take_count(&take, nmoved > 0);
	return take.n;
}

/*
 * Receive what is there; returns how many messages.  If there are none and
 * next_visible is given, *next_visible becomes the time when the next message that
 * is delayed or in flight becomes visible, or DT_NOEND if that is not before the
 * time in it.  Sets *must_commit if dead messages were moved, or nothing but
 * messages that cannot be read was met: the caller does not wait with these uncommitted.
 * A paused queue is empty to all who receive: nothing is there, and nothing will be.
 */
static int
receive_messages(CmqQueue *queue, Request *request,
				 TimestampTz *next_visible, bool *must_commit)
{
	bool		again = true;
	int			n = 0;

	*must_commit = false;
	if (cmq_is_paused(queue))
	{
		if (next_visible)
			*next_visible = DT_NOEND;
		return 0;
	}
	while (n == 0 && again)
		n = look_once(queue, request, next_visible, must_commit, &again);
	return n;
}

/*
 * A look of a receive that may wait has a resource owner of its own.  A look that finds
 * nothing releases its locks with it, so that a receive that sleeps is in nobody's way;
 * else the locks stay to the end of the transaction.
 */
static ResourceOwner
begin_look(void)
{
	ResourceOwner caller = CurrentResourceOwner;

	CurrentResourceOwner = ResourceOwnerCreate(caller, "cmq look");
	return caller;
}

static void
end_look(ResourceOwner caller, bool keep_locks)
{
	ResourceOwner look = CurrentResourceOwner;

	ResourceOwnerRelease(look, RESOURCE_RELEASE_BEFORE_LOCKS, keep_locks, false);
	ResourceOwnerRelease(look, RESOURCE_RELEASE_LOCKS, keep_locks, false);
	ResourceOwnerRelease(look, RESOURCE_RELEASE_AFTER_LOCKS, keep_locks, false);
	CurrentResourceOwner = caller;
	ResourceOwnerDelete(look);
}

/* Nothing was found: wait for the request's time at most. */
static void
wait_and_receive(CmqQueue *queue, Request *request)
{
	CmqSharedQueue *shared = queue->shared;

	/* in elapsed time, which nobody sets */
	int64		deadline = cmq_elapsed() +
		request->polling_wait_seconds * USECS_PER_SEC;
	uint32		nchanges = 0;
	bool		first = true;
	MemoryContext caller_context = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller_context, "cmq wait",
												  ALLOCSET_DEFAULT_SIZES);

	cmq_count_event(shared, CMQ_WAITS);
	cmq_wait_begin(shared, request->take.has_filter ? CMQ_CHOOSY_WAITER :
				   CMQ_PLAIN_WAITER);
	for (;;)
	{
		TimestampTz next_visible;
		uint32		nchanges_now = cmq_wait_nchanges(shared);
		ResourceOwner caller;
		bool		must_commit;
		bool		over;

		/* a process that has this locked may wait for our locks: a deadlock */
		if (!cmq_catalog_is_free())
		{
			cmq_count_event(shared, CMQ_EMPTY_RECEIVES);
			break;
		}
		caller = begin_look();
		/* the signal of a rewind or a resume is faster than its invalidation */
		if (first || nchanges_now != nchanges)
			cmq_cache_mark_stale(queue->name);
		nchanges = nchanges_now;
		first = false;
		next_visible = cmq_clock_peek(shared) + Max(deadline - cmq_elapsed(), 0);
		MemoryContextSwitchTo(context);
		queue = cmq_queue_reopen(queue, ACL_DELETE, RowExclusiveLock);
		over = queue == NULL ||
			receive_messages(queue, request, &next_visible, &must_commit) > 0 || must_commit;
		MemoryContextSwitchTo(caller_context);
		/* there may be very many looks */
		MemoryContextReset(context);
		end_look(caller, over);
		if (over)
			break;

		if (cmq_elapsed() >= deadline || !cmq_wait_sleep(shared, next_visible, deadline))
		{
			cmq_count_event(shared, CMQ_EMPTY_RECEIVES);
			break;
		}
	}
	cmq_wait_end();
	MemoryContextDelete(context);
}

/*
 * Where the arguments of a call are; 0: it has no such argument.  The first is the queue,
 * the second max_messages.
 */
typedef struct Arguments
{
	const char *call;
	bool		consume;
	int			visibility_timeout;
	int			polling_wait_seconds;
	int			filter;
} Arguments;

/* Lock the queue, which has been looked up, and fill *request.  Raises 22023. */
static CmqQueue *
open_for_receive(FunctionCallInfo fcinfo, const Arguments *args, CmqQueue *queue,
				 Request *request)
{
	queue = cmq_queue_open_found(queue, ACL_DELETE, RowExclusiveLock);
	request->max_messages =
		cmq_int_arg(fcinfo, 1, "max_messages", CMQ_RECEIVE_MIN,
					CMQ_RECEIVE_MAX, 0, false, queue->name);
	request->take.visibility_timeout = args->visibility_timeout == 0 ?
		queue->visibility_timeout :
		cmq_int_arg(fcinfo, args->visibility_timeout, "visibility_timeout",
					CMQ_VISIBILITY_MIN, CMQ_VISIBILITY_MAX,
					queue->visibility_timeout, true, queue->name);
	request->polling_wait_seconds =
		cmq_int_arg(fcinfo, args->polling_wait_seconds, "polling_wait_seconds",
					CMQ_POLLING_MIN, CMQ_POLLING_MAX,
					queue->polling_wait_seconds, true, queue->name);
	request->take.has_filter = cmq_filter_arg(fcinfo, args->filter, queue->name,
											  &request->take.filter);
	return queue;
}

static void
receive(FunctionCallInfo fcinfo, const Arguments *args)
{
	int			wait = args->polling_wait_seconds;
	CmqQueue   *queue;
	Request		request = {
		.take.consume = args->consume,
		.looked = CMQ_NOT_LOOKED
	};
	ResourceOwner caller = NULL;
	bool		must_commit;
	bool		over;

	cmq_begin_write(args->call);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	request.take.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	queue = cmq_queue_lookup(cmq_queue_name_arg(fcinfo, 0), ACL_NO_RIGHTS);
	if (PG_ARGISNULL(wait) ? queue->polling_wait_seconds > 0 :
		PG_GETARG_INT32(wait) > 0)
		caller = begin_look();
	queue = open_for_receive(fcinfo, args, queue, &request);
	over = receive_messages(queue, &request, NULL, &must_commit) > 0;
	if (!over && (must_commit || caller == NULL || request.polling_wait_seconds == 0))
	{
		cmq_count_event(queue->shared, CMQ_EMPTY_RECEIVES);
		over = true;
	}
	if (caller)
		end_look(caller, over);
	if (!over)
		wait_and_receive(queue, &request);
}

Datum
cmq_receive(PG_FUNCTION_ARGS)
{
	static const Arguments args = {
		.call = "cmq_receive()",
		.visibility_timeout = 2,
		.polling_wait_seconds = 3,
		.filter = 4
	};

	receive(fcinfo, &args);
	return (Datum) 0;
}

Datum
cmq_consume(PG_FUNCTION_ARGS)
{
	static const Arguments args = {
		.call = "cmq_consume()",
		.consume = true,
		.polling_wait_seconds = 2,
		.filter = 3
	};

	receive(fcinfo, &args);
	return (Datum) 0;
}
