/*-------------------------------------------------------------------------
 *
 * cmq_delete.c
 *	  Delete: a consumer is done with a message.
 *
 * With rewind on, delete moves the delivery from the pending table to the
 * rewind leaf of its time; with rewind off it removes pending row and message.
 * cmq_deliveries.c finds the delivery, and says what happens to one that another
 * transaction is changing.
 *
 * Locks: RowExclusive on the pending table, and on the rewind leaf or the
 * message leaf.  Abort: the rows are as they were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lockdefs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "base/cmq_identity.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_delete.h"
#include "verbs/cmq_deliveries.h"

PG_FUNCTION_INFO_V1(cmq_delete);
PG_FUNCTION_INFO_V1(cmq_delete_batch);

/*
 * To be followed by cmq_delete_end().  The caller has the pending table locked; adds: it
 * also adds or moves pending rows.
 */
void
cmq_delete_begin(CmqDelete *state, CmqQueue *queue, bool adds)
{
	bool		rewind_on = queue->rewind_seconds > 0;

	state->queue = queue;
	/* the caller, also if the rows are written as another role */
	state->deleted_by =
		CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	state->now = cmq_clock_now(queue->shared);
	state->expired_before = cmq_bounds_expired_before(queue, state->now);
	cmq_pending_open(&state->pending, queue, adds);
	cmq_leaf_rows_begin(&state->rows, queue, rewind_on ? CMQ_REWIND : CMQ_MESSAGES,
						RowExclusiveLock, rewind_on ? state->pending.estate : NULL);
}

void
cmq_delete_end(CmqDelete *state)
{
	cmq_leaf_rows_end(&state->rows);
	cmq_pending_flush(&state->pending);
	cmq_pending_close(&state->pending);
}

/* Add the rewind row of a message whose pending row has been deleted. */
static void
add_to_history(CmqDelete *state, const CmqPendingRow *row)
{
	Datum		values[Natts_rewind];
	bool		isnull[Natts_rewind] = {false};

	/*
	 * The transaction has its id before the clock is read: cmq_rewind.c
	 * relies on it.
	 */
	int64		xact = cmq_identity_xact(GetTopFullTransactionId());
	TimestampTz now = cmq_clock_now(state->queue->shared);

	values[Anum_rewind_enqueued_at - 1] = TimestampTzGetDatum(row->enqueued_at);
	values[Anum_rewind_first_received_at - 1] =
		TimestampTzGetDatum(row->first_received_at);
	isnull[Anum_rewind_first_received_at - 1] =
		row->first_received_at == DT_NOBEGIN;
	values[Anum_rewind_deleted_at - 1] = TimestampTzGetDatum(now);
	values[Anum_rewind_deleted_by - 1] = state->deleted_by;
	values[Anum_rewind_receive_count - 1] = Int32GetDatum(row->receive_count);
	values[Anum_rewind_rewind_count - 1] = Int32GetDatum(row->rewind_count);
	values[Anum_rewind_deleted_xact - 1] = Int64GetDatum(xact);
	values[Anum_rewind_group_hash - 1] = Int64GetDatum(row->group);
	isnull[Anum_rewind_group_hash - 1] = !row->has_group;
	values[Anum_rewind_topic - 1] = cmq_pending_topic(&state->pending, row->topic);
	isnull[Anum_rewind_topic - 1] = row->topic[0] == '\0';
	cmq_leaf_rows_insert(&state->rows, values, isnull, CMQ_NARROW_ROW_SIZE);
}

/* The row of a message has been taken: move it to the history, or remove the message. */
static void
put_away(CmqDelete *state, const CmqPendingRow *row)
{
	cmq_xact_count(state->queue->shared, CMQ_DELETED, 1);
	/* without a leaf the message is gone already, because it has expired */
	if (state->rows.kind == CMQ_MESSAGES)
	{
		/* what is in a journal goes with its leaf there */
		if (row->topic[0] == '\0')
			(void) cmq_leaf_rows_remove(&state->rows, row->enqueued_at);
	}
	else if (cmq_leaf_rows_open(&state->rows, row->enqueued_at))
		add_to_history(state, row);
}

/*
 * Delete the message whose pending row is in the slot.  False if another
 * transaction has changed the row, or, without wait, is changing it.
 */
bool
cmq_delete_row(CmqDelete *state, bool wait)
{
	CmqPendingRow row;

	cmq_pending_row(state->pending.table.slot, &row);
	if (!cmq_pending_take(&state->pending, wait))
		return false;
	put_away(state, &row);
	return true;
}

/* The same for one that is received by that: *row says how.  Waits for nobody. */
bool
cmq_delete_ready(CmqDelete *state, CmqPendingRow *row)
{
	cmq_pending_row(state->pending.table.slot, row);
	if (!cmq_pending_take(&state->pending, false))
		return false;
	cmq_pending_receive(row, state->now);
	put_away(state, row);
	return true;
}

/*
 * The same for a message that the rewind under way brings back, whose row this rewind
 * table stands at; received says whether it is received by that.  It is history again,
 * and due no more: it was deleted after the rewind.
 */
bool
cmq_delete_due(CmqDelete *state, CmqTable *rewind, bool received,
			   CmqPendingRow *row)
{
	if (!cmq_pending_take_due(&state->pending, rewind, row))
		return false;
	if (received)
		cmq_pending_receive(row, state->now);
	put_away(state, row);
	return true;
}

/* Delete one delivery; false if the handle is stale. */
static bool
delete_delivery(CmqDelete *state, const CmqHandle *handle)
{
	return cmq_deliveries_find(&state->pending, handle, state->now,
							   state->expired_before) &&
		cmq_delete_row(state, true);
}

Datum
cmq_delete(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqHandle	handle;
	CmqDelete	state;
	bool		result;

	cmq_begin_write("cmq_delete()");
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_DELETE,
						   RowExclusiveLock);
	cmq_deliveries_one(fcinfo, 1, queue, &handle);
	cmq_delete_begin(&state, queue, false);
	result = delete_delivery(&state, &handle);
	cmq_delete_end(&state);
	PG_RETURN_BOOL(result);
}

Datum
cmq_delete_batch(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqDeliveries named;
	CmqDelete	state;

	cmq_begin_write("cmq_delete_batch()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_DELETE,
						   RowExclusiveLock);
	cmq_deliveries_many(fcinfo, 1, queue, &named);
	if (named.n == 0)
		return (Datum) 0;

	cmq_delete_begin(&state, queue, false);
	for (int i = 0; i < named.n; i++)
		named.each[i].done = delete_delivery(&state, &named.each[i].handle);
	cmq_delete_end(&state);
	cmq_deliveries_return_done(fcinfo, &named);
	return (Datum) 0;
}
