/*-------------------------------------------------------------------------
 *
 * cmq_restore.c
 *	  Restore: make chosen messages of the history ready again.
 *
 * A rewind is a pair of times; it brings back everything from a point on, and
 * costs nothing.  A restore takes a window, a filter or a list of ids, and moves
 * each message: it deletes the rewind row, and inserts a pending row that is
 * visible since the message's production.  So restored messages come in
 * production order, before what was produced later, whatever else waits.  When
 * they became ready stands in first_received_at (cmq_slot_ready_since()).
 * Like a rewound message a restored one counts receives anew and has a
 * rewind_count one higher.
 *
 * No restored message is older than a time that is known beforehand.  The slot shows
 * that time until the transaction ends, if anything was restored.  The mark of
 * cmq_earliest.c is lowered to it at once, and the scan floor (cmq_floor.c) at commit.
 *
 * Locks: the queue lock, so that restores and rewinds of a queue come one after
 * the other; RowExclusive on the pending table and the rewind leaves.  A restore waits
 * for a receive that is taking a row which a rewind brought back until just now.
 * Receives, sends and deletes go on.  Abort: the rewind rows are there again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_shared.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_history.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_owner.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_rewind_log.h"
#include "store/cmq_rights.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_ids.h"

PG_FUNCTION_INFO_V1(cmq_restore);
PG_FUNCTION_INFO_V1(cmq_restore_messages);

typedef struct RestoreState
{
	CmqOwnerScope caller;
	CmqPending	pending;
} RestoreState;

/*
 * No restored message will be older than first.  Until restore_end() the session acts as
 * the owner of the queue, whose code in indexes must not run as the caller.
 */
static void
restore_begin(RestoreState *state, CmqQueue *queue, TimestampTz first)
{
	TimestampTz now = cmq_queue_now(queue);

	cmq_owner_enter(&state->caller, queue->owner);
	cmq_pending_open(&state->pending, queue, true);
	cmq_pending_expect_back(&state->pending, first, now);
}

static void
restore_end(RestoreState *state)
{
	cmq_pending_flush(&state->pending);
	cmq_pending_close(&state->pending);
	cmq_owner_leave(&state->caller);
}

/* Lock the queue that the first argument names, for a restore. */
static CmqQueue *
open_queue(FunctionCallInfo fcinfo)
{
	char	   *name = cmq_queue_name_arg(fcinfo, 0);
	CmqQueue   *queue;

	(void) cmq_queue_lookup(name, ACL_UPDATE);
	(void) cmq_queue_lock(name, ACL_UPDATE, ExclusiveLock);
	queue = cmq_queue_open(name, ACL_UPDATE, RowExclusiveLock);
	cmq_history_require(queue);
	cmq_rewind_log_require_reason(queue);
	return queue;
}

Datum
cmq_restore(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqWindow	window;
	CmqHistory	history;
	RestoreState state;
	int64		n = 0;

	cmq_begin_write("cmq_restore()");
	queue = open_queue(fcinfo);
	cmq_window_args(fcinfo, 1, 3, queue->name, &window);
	/* the number restored tells something about headers */
	if (window.has_filter)
		cmq_rights_check_acl(queue, ACL_SELECT);

	cmq_history_begin(&history, queue, &window, false, RowExclusiveLock);
	restore_begin(&state, queue, history.from);
	while (cmq_history_next(&history))
		n += cmq_pending_bring_back(&state.pending, &history.rewind);
	cmq_history_end(&history);
	restore_end(&state);

	if (!PG_ARGISNULL(4) && PG_GETARG_INT64(4) != n)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("number of messages to restore in queue \"%s\" is not the expected one",
						queue->name),
				 errdetail("%lld messages would be restored, %lld are expected.",
						   (long long) n,
						   (long long) PG_GETARG_INT64(4)),
				 errhint("Nothing was changed. cmq_rewind_preview shows what there is.")));
	if (n > 0)
		cmq_rewind_log_add(queue, "restore", cmq_queue_now(queue), &window,
						   NULL, n);
	PG_RETURN_INT64(n);
}

/* A time not after that of any message that can be restored; DT_NOEND if none can. */
static TimestampTz
get_first(const int64 *ids, int nids, TimestampTz since)
{
	for (int i = 0; i < nids; i++)
	{
		TimestampTz time;

		if (cmq_msg_id_to_time(ids[i], &time) && time >= since)
			return time;
	}
	return DT_NOEND;
}

/*
 * Restore the message of this time, if it is in the history.  A transaction that we have
 * waited for may have deleted it again: so we look again after that.
 */
static bool
restore_message(RestoreState *state, CmqLeafRows *rewind, TimestampTz time)
{
	while (cmq_leaf_rows_find(rewind, time) &&
		   cmq_slot_is_history(rewind->queue, rewind->table.slot))
	{
		if (cmq_pending_bring_back(&state->pending, &rewind->table))
			return true;
	}
	return false;
}

Datum
cmq_restore_messages(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CmqQueue   *queue;
	CmqWindow	window = {.start = DT_NOEND,.end = DT_NOEND};
	CmqLeafRows rewind;
	RestoreState state;
	TimestampTz since;
	int64	   *ids;
	int			nids;
	int			n = 0;

	cmq_begin_write("cmq_restore_messages()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	queue = open_queue(fcinfo);
	ids = cmq_ids_arg(fcinfo, 1, queue, &nids);

	since = cmq_bounds_rewindable_since(queue, cmq_queue_now(queue));
	restore_begin(&state, queue, get_first(ids, nids, since));
	cmq_leaf_rows_begin(&rewind, queue, CMQ_REWIND, RowExclusiveLock, NULL);
	for (int i = 0; i < nids; i++)
	{
		TimestampTz time;

		CHECK_FOR_INTERRUPTS();
		if (!cmq_msg_id_to_time(ids[i], &time) || time < since)
			continue;
		if (restore_message(&state, &rewind, time))
		{
			Datum		id = Int64GetDatum(ids[i]);
			bool		isnull = false;

			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &id,
								 &isnull);
			window.start = Min(window.start, time);
			window.end = time + 1;
			n++;
		}
	}
	cmq_leaf_rows_end(&rewind);
	restore_end(&state);

	if (n < nids)
		ereport(NOTICE,
				(errmsg("%d of %d messages were not restored in queue \"%s\"",
						nids - n, nids, queue->name),
				 errdetail("They are unknown, not deleted, or cannot be rewound any more.")));
	if (n > 0)
		cmq_rewind_log_add(queue, "restore", cmq_queue_now(queue), &window,
						   NULL, n);
	return (Datum) 0;
}
