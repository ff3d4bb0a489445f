/*-------------------------------------------------------------------------
 *
 * cmq_rewind.c
 *	  Rewind a queue to a point in time, and cancel that.
 *
 * A rewind is a pair of times in the queue's row: a soft-deleted message is
 * due again when enqueued_at >= rewind_from and deleted_at < rewound_at.  No
 * message is touched, so a rewind costs the same whatever comes back; receives
 * find the due rows in the rewind tables and merge them with what is pending.
 *
 * A delete that another transaction has done but not yet committed is not
 * "deleted so far": its message is still pending to all others, and stays so.  Its
 * deleted_at cannot tell, so the rewind also stores which transactions were open at that
 * moment, and their deletes are not due.  A transaction is named by a hash of its full
 * id and the cluster's system identifier (cmq_identity_xact()): after a dump and a
 * restore no name fits a transaction of the new cluster.
 *
 * Why nothing falls through: a deleter gets its transaction id, then reads the
 * clock (deleted_at).  The rewind takes rewound_at from the clock, then lists
 * the open transactions.  A delete with deleted_at < rewound_at therefore has
 * an id that is either in the list, and not due, or has ended before the list
 * was made.  So the set of due messages is fixed at the rewind and only
 * shrinks; once it is empty the rewind can be forgotten.
 *
 * A cancel forgets the pair: what has not been received yet is history again.  A
 * receive that stands at a due row at that moment may still take it; cmq_earliest.c says
 * what follows from that.
 *
 * Locks: rewind, cancel, restore, clear, pause, alter and the step of maintenance that
 * moves rewind_from forward hold the queue lock to the end of their transactions.  Traffic is
 * not held up: it sees the new pair when the rewind has committed.
 * Abort and crash: all that a rewind leaves is in the queue's row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/standby.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_identity.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_earliest.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_dump.h"
#include "store/cmq_history.h"
#include "store/cmq_oldest.h"
#include "store/cmq_queue.h"
#include "store/cmq_rewind_log.h"
#include "store/cmq_rights.h"
#include "store/cmq_states.h"
#include "verbs/cmq_rewind.h"

PG_FUNCTION_INFO_V1(cmq_rewind);
PG_FUNCTION_INFO_V1(cmq_cancel_rewind);

/*
 * List the open transactions that have an id, prepared ones included, without the current
 * one.
 */
static void
list_open_transactions(CmqRewind *rewinding)
{
	RunningTransactions running = GetRunningTransactionData();
	TransactionId own = GetTopTransactionIdIfAny();

	/* GetRunningTransactionData() returns with these held */
	LWLockRelease(ProcArrayLock);
	LWLockRelease(XidGenLock);

	rewinding->concurrent = palloc(sizeof(int64) * Max(running->xcnt, 1));
	rewinding->nconcurrent = 0;
	for (int i = 0; i < running->xcnt; i++)
	{
		TransactionId xid = running->xids[i];

		if (xid != own)
			rewinding->concurrent[rewinding->nconcurrent++] =
				cmq_identity_xact(cmq_identity_widen(xid));
	}
}

/*
 * Where a rewind may start, in this transaction: from earliest to latest, both
 * included; nowhere when earliest is greater.  min_msg_time is the production
 * time of the earliest unconsumed message, first_due that of the first one
 * that the rewind under way still has to bring back.
 *
 * A start at now() - rewind_seconds is always accepted, also when the wall clock is behind
 * the queue's clock; it brings nothing back that is outside of the window.
 */
void
cmq_rewind_range(CmqQueue *queue, TimestampTz min_msg_time,
				 TimestampTz first_due, TimestampTz *earliest,
				 TimestampTz *latest)
{
	*earliest = Min(cmq_clock_xact_start(queue->shared),
					GetCurrentTransactionStartTimestamp()) -
		queue->rewind_seconds * USECS_PER_SEC;
	*latest = min_msg_time;

	/*
	 * A rewind replaces the one before.  It starts no later than what that
	 * one still has to bring back, but it cannot reach behind
	 * forgotten_before: what is due there would be lost.
	 */
	if (first_due < queue->forgotten_before)
		*earliest = Max(*earliest, queue->forgotten_before);
}

/* Raise 22023: why a rewind cannot start there, and what can be done instead. */
static void
report_start_time(CmqQueue *queue, TimestampTz start_time,
				  TimestampTz earliest, TimestampTz latest)
{
	bool		may_say = cmq_rights_is_readable(queue);

	/* timestamptz_to_str has a static buffer */
	if (start_time < earliest)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_time is before the rewind window of queue \"%s\"",
						queue->name),
				 may_say ?
				 errdetail("The window begins at %s.",
						   timestamptz_to_str(earliest)) :
				 errdetail("What was deleted longer ago cannot be brought back."),
				 errhint("cmq_queue_attributes shows where a rewind can start.")));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("start_time is after the earliest unconsumed message of queue \"%s\"",
					queue->name),
			 may_say ?
			 errdetail("That message was produced at %s. A rewind starts no later, because it goes back to one point for all messages.",
					   timestamptz_to_str(latest)) :
			 errdetail("A rewind starts no later, because it goes back to one point for all messages."),
			 TIMESTAMP_NOT_FINITE(start_time) ?
			 errhint("cmq_queue_attributes shows where a rewind can start.") :
			 errhint("To bring back what was produced since then all the same: SELECT cmq_restore(%s, %s).",
					 quote_literal_cstr(queue->name),
					 quote_literal_cstr(timestamptz_to_str(start_time)))));
}

static void
check_start_time(CmqQueue *queue, TimestampTz start_time, TimestampTz now)
{
	CmqStates	states = cmq_states_none;
	TimestampTz first_due;
	TimestampTz earliest;
	TimestampTz latest;

	cmq_oldest_count(queue, now, false, &states);
	first_due = cmq_due_first(queue, &queue->rewinding,
							  cmq_bounds_expired_before(queue, now));
	cmq_rewind_range(queue, Min(Min(states.earliest, first_due), now),
					 first_due, &earliest, &latest);
	if (!TIMESTAMP_NOT_FINITE(start_time) &&
		start_time >= earliest && start_time <= latest)
		return;

	report_start_time(queue, start_time, earliest, latest);
}

/*
 * Messages produced since this time are to be received once more: until this transaction
 * has ended, no other may take them all for consumed.
 */
static void
expect_rewound(CmqSharedQueue *shared, TimestampTz from)
{
	(void) cmq_xact_announce();
	cmq_xact_publish(from);
	cmq_xact_rewound(shared);
	cmq_earliest_lower(shared, from);
	cmq_xact_due_unknown(shared);
}

Datum
cmq_rewind(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqDescription changed;
	CmqRewind  *rewinding = &changed.rewinding;
	char	   *name;
	CmqWindow	window = {.end = DT_NOEND};
	TimestampTz now;
	TimestampTz first;

	cmq_begin_write("cmq_rewind()");
	name = cmq_queue_name_arg(fcinfo, 0);
	(void) cmq_queue_lookup(name, ACL_UPDATE);
	cmq_require_arg(fcinfo, 1, "start_time", "queue", name);
	window.start = PG_GETARG_TIMESTAMPTZ(1);

	(void) cmq_queue_lock(name, ACL_UPDATE, ExclusiveLock);
	queue = cmq_queue_open(name, ACL_UPDATE, AccessShareLock);
	cmq_history_require(queue);
	cmq_rewind_log_require_reason(queue);
	now = cmq_clock_tick(queue->shared);
	check_start_time(queue, window.start, now);

	changed = *queue;
	changed.saved_clock = now;
	rewinding->active = true;
	rewinding->rewound_at = now;
	rewinding->from = Max(window.start, cmq_bounds_rewindable_since(queue, now));
	rewinding->called_in = cmq_identity_database();
	expect_rewound(queue->shared, rewinding->from);
	list_open_transactions(rewinding);

	first = cmq_due_first(queue, rewinding,
						  cmq_bounds_expired_before(queue, now));
	if (first == DT_NOEND)
		rewinding->active = false;
	else
		cmq_xact_wake_all(queue->shared);
	cmq_catalog_update_queue(&changed);
	/* a rewind that brings nothing back, and ends no other, needs no row */
	if (first != DT_NOEND || queue->rewinding.active)
		cmq_rewind_log_add(queue, "rewind", now, &window, NULL, -1);

	if (first == DT_NOEND)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(first);
}

/*
 * Cancel the rewind under way: what it has not brought back is history again.  The caller
 * holds the queue lock, and has called cmq_rewind_log_require_reason().
 */
void
cmq_rewind_cancel(CmqQueue *queue)
{
	CmqDescription changed = *queue;

	changed.rewinding.active = false;
	/* what a filter has left is not the first of its group any more */
	if (queue->ordered)
	{
		cmq_queue_attach(queue);
		cmq_xact_wake_all(queue->shared);
	}
	cmq_catalog_update_queue(&changed);
	cmq_rewind_log_add(queue, "cancel", cmq_queue_now(queue), NULL, NULL, -1);
}

Datum
cmq_cancel_rewind(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;

	cmq_begin_write("cmq_cancel_rewind()");
	queue = cmq_queue_lock(cmq_queue_name_arg(fcinfo, 0), ACL_UPDATE,
						   ExclusiveLock);
	cmq_history_require(queue);
	cmq_rewind_log_require_reason(queue);
	if (!queue->rewinding.active)
		PG_RETURN_BOOL(false);
	cmq_rewind_cancel(queue);
	PG_RETURN_BOOL(true);
}

/*
 * Maintenance: move the start of the rewind forward to the first message still due, or
 * end the rewind when none is.  Does nothing when another transaction has the queue lock.
 */
void
cmq_rewind_advance(CmqQueue *queue)
{
	CmqDescription changed;
	TimestampTz expired_before;
	TimestampTz first;

	if (!queue->rewinding.active ||
		(queue = cmq_queue_try_lock(queue)) == NULL || !queue->rewinding.active)
		return;
	expired_before = cmq_bounds_expired_before(queue, cmq_queue_now(queue));
	if (!cmq_dump_rewind_is_whole(queue, expired_before))
		return;
	first = cmq_due_first(queue, &queue->rewinding, expired_before);
	if (first == queue->rewinding.from)
		return;

	/* due rows that have expired in between count no more */
	if (queue->rewinding.from < expired_before &&
		cmq_due_first(queue, &queue->rewinding, DT_NOBEGIN) < first)
		cmq_xact_due_unknown(queue->shared);
	changed = *queue;
	changed.rewinding.active = first != DT_NOEND;
	changed.rewinding.from = first;
	cmq_catalog_update_queue(&changed);
}
