/*-------------------------------------------------------------------------
 *
 * cmq_restore.c
 *	  Restore: make chosen messages of the history ready again.
 *
 * A rewind is a pair of times; it brings back everything from a point on, and
 * costs nothing.  A restore takes a window, a filter or a list of ids, and moves
 * each message: its rewind row is deleted, and a pending row inserted that is
 * visible since the message's production.  So restored messages come in
 * production order, before what was produced later, and whatever else waits.  When
 * they became ready stands in first_received_at (cmq_slot_ready_since()).
 * Like a rewound message a restored one counts receives anew and has a
 * rewind_count one higher.
 *
 * No restored message is older than a time that is known beforehand.  The
 * transaction's slot says so until it ends, the mark of cmq_oldest.c is lowered to
 * it at once and the scan floor (cmq_floor.c) when it commits.
 *
 * Locks: the queue lock, so that restores and rewinds of a queue come one after
 * the other; RowExclusive on the pending table and the rewind leaves.  A receive
 * may be at a row that a rewind brought back until just now: it is waited for.
 * Receives, sends and deletes go on.  Rollback undoes all of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_earliest.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_history.h"
#include "store/cmq_owner.h"
#include "store/cmq_queue.h"
#include "store/cmq_rewind_log.h"
#include "store/cmq_rights.h"
#include "store/cmq_table.h"

PG_FUNCTION_INFO_V1(cmq_restore);
PG_FUNCTION_INFO_V1(cmq_restore_messages);

typedef struct RestoreState
{
	CmqQueue   *queue;
	EState	   *estate;
	CmqOwnerScope caller;
	CmqTable	pending;
	TimestampTz now;			/* when the messages become ready */
	int64		n;
} RestoreState;

/*
 * No restored message will be older than time.  From here on to restore_end() we
 * are the owner of the queue, whose code in indexes is not to run as the caller.
 */
static void
restore_begin(RestoreState *state, CmqQueue *queue, TimestampTz time)
{
	memset(state, 0, sizeof(*state));
	state->queue = queue;
	state->estate = CreateExecutorState();
	state->now = cmq_queue_now(queue);
	cmq_owner_enter(&state->caller, queue->owner);
	(void) cmq_xact_announce();
	cmq_xact_publish(time);
	cmq_xact_lower_floor(queue->shared, time);
	cmq_earliest_lower(queue->shared, time);
	if (!cmq_table_open(&state->pending, state->estate, queue, queue->pending,
						CMQ_PENDING, RowExclusiveLock))
		elog(ERROR, "pending table of queue \"%s\" vanished", queue->name);
}

/* Move the row that a scan of a rewind leaf stands at; false if it is gone. */
static bool
restore_row(RestoreState *state, CmqTable *rewind)
{
	TimestampTz time = cmq_slot_time(rewind->slot, Anum_rewind_enqueued_at);
	int			rewind_count = cmq_slot_int(rewind->slot,
											Anum_rewind_rewind_count);
	Datum		values[Natts_pending];
	bool		isnull[Natts_pending] = {false};

	if (cmq_table_delete(rewind, true) != TM_Ok)
		return false;
	/* it may be due to all others, if we have cancelled a rewind */
	cmq_xact_wake(state->queue->shared, 0, 1);
	if (rewind_count < PG_INT32_MAX)
		rewind_count++;
	values[Anum_pending_visible_at - 1] = TimestampTzGetDatum(time);
	values[Anum_pending_enqueued_at - 1] = TimestampTzGetDatum(time);
	values[Anum_pending_first_received_at - 1] = TimestampTzGetDatum(state->now);
	values[Anum_pending_receive_count - 1] = Int32GetDatum(0);
	values[Anum_pending_rewind_count - 1] = Int32GetDatum(rewind_count);
	cmq_table_insert(&state->pending, values, isnull, CMQ_NARROW_ROW_SIZE);
	state->n++;
	return true;
}

static void
restore_end(RestoreState *state)
{
	cmq_table_close(&state->pending);
	FreeExecutorState(state->estate);
	cmq_owner_leave(&state->caller);
	if (state->n > 0)
	{
		cmq_xact_pending(state->queue->shared, state->n);
		cmq_xact_wake(state->queue->shared,
							   (int) Min(state->n, PG_INT32_MAX), 0);
	}
	CommandCounterIncrement();
}

static CmqQueue *
open_queue(FunctionCallInfo fcinfo)
{
	char	   *name = cmq_queue_name_arg(fcinfo, 0);
	CmqQueue   *queue;

	cmq_queue_check_acl(cmq_queue_lookup(name), ACL_UPDATE);
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

	cmq_begin_write("cmq_restore()");
	queue = open_queue(fcinfo);
	cmq_window_args(fcinfo, 1, 3, queue->name, &window);
	/* or one could find out about headers by trying */
	if (window.has_filter)
		cmq_queue_check_acl(queue, ACL_SELECT);

	cmq_history_begin(&history, queue, &window, false, RowExclusiveLock);
	restore_begin(&state, queue, history.from);
	while (cmq_history_next(&history))
		(void) restore_row(&state, &history.rewind);
	cmq_history_end(&history);
	restore_end(&state);

	if (!PG_ARGISNULL(4) && PG_GETARG_INT64(4) != state.n)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("number of messages to restore in queue \"%s\" is not the expected one",
						queue->name),
				 errdetail("%lld messages would be restored, %lld are expected.",
						   (long long) state.n,
						   (long long) PG_GETARG_INT64(4)),
				 errhint("Nothing was changed. cmq_rewind_preview shows what there is.")));
	if (state.n > 0)
		cmq_rewind_log_add(queue, "restore", cmq_queue_now(queue), &window,
						   NULL, state.n);
	PG_RETURN_INT64(state.n);
}

static int
compare_ids(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* The message ids in an array, ordered, each once. */
static int64 *
get_ids(FunctionCallInfo fcinfo, int argno, CmqQueue *queue, int *nids)
{
	Datum	   *elements;
	int64	   *ids;
	int			n;

	cmq_require_arg(fcinfo, argno, "msg_ids", "queue", queue->name);
	n = cmq_array_arg(PG_GETARG_DATUM(argno), INT8OID, "msg_ids", "queue",
					  queue->name, &elements, NULL);
	ids = palloc(sizeof(int64) * Max(n, 1));
	for (int i = 0; i < n; i++)
		ids[i] = DatumGetInt64(elements[i]);
	qsort(ids, n, sizeof(int64), compare_ids);
	*nids = 0;
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || ids[i] != ids[*nids - 1])
			ids[(*nids)++] = ids[i];
	}
	return ids;
}

/* The time of the first message that can be restored, or an earlier one. */
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

/* Is the message of this time in the history?  If so rewind stands at it. */
static bool
find_in_history(CmqQueue *queue, CmqTable *rewind, TimestampTz time)
{
	return cmq_table_find(rewind, time, 0) &&
		cmq_queue_has_history(queue, time,
							  cmq_slot_time(rewind->slot, Anum_rewind_deleted_at),
							  cmq_slot_int64(rewind->slot,
											 Anum_rewind_deleted_xact));
}

Datum
cmq_restore_messages(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CmqQueue   *queue;
	CmqWindow	window = {.start = DT_NOEND,.end = DT_NOEND};
	CmqTable	rewind;
	CmqLeaf    *leaf = NULL;
	RestoreState state;
	TimestampTz since;
	int64	   *ids;
	int			nids;

	cmq_begin_write("cmq_restore_messages()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	queue = open_queue(fcinfo);
	ids = get_ids(fcinfo, 1, queue, &nids);

	since = cmq_queue_rewindable_since(queue, cmq_queue_now(queue));
	restore_begin(&state, queue, get_first(ids, nids, since));
	for (int i = 0; i < nids; i++)
	{
		TimestampTz time;

		CHECK_FOR_INTERRUPTS();
		if (!cmq_msg_id_to_time(ids[i], &time) || time < since)
			continue;
		if (leaf == NULL || time < leaf->lower || time >= leaf->upper)
		{
			if (leaf)
				cmq_table_close(&rewind);
			leaf = cmq_queue_leaf(queue, time);
			if (leaf && !cmq_table_open(&rewind, NULL, queue, leaf->rewind,
										CMQ_REWIND, RowExclusiveLock))
				leaf = NULL;
		}
		if (leaf && find_in_history(queue, &rewind, time) &&
			restore_row(&state, &rewind))
		{
			Datum		id = Int64GetDatum(ids[i]);
			bool		isnull = false;

			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &id,
								 &isnull);
			window.start = Min(window.start, time);
			window.end = time + 1;
		}
	}
	if (leaf)
		cmq_table_close(&rewind);
	restore_end(&state);

	if (state.n < nids)
		ereport(NOTICE,
				(errmsg("%lld of %d messages were not restored in queue \"%s\"",
						(long long) (nids - state.n), nids, queue->name),
				 errdetail("They are unknown, not deleted, or cannot be rewound any more.")));
	if (state.n > 0)
		cmq_rewind_log_add(queue, "restore", cmq_queue_now(queue), &window,
						   NULL, state.n);
	return (Datum) 0;
}
