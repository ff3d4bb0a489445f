/*-------------------------------------------------------------------------
 *
 * cmq_delete.c
 *	  What a consumer does with a receipt handle: delete, change visibility.
 *
 * The handle is the key of a pending row, so finding it is one index probe,
 * and a handle of an earlier delivery finds nothing.  When another transaction
 * is changing the row, these calls wait for it: its end decides whether the
 * handle is stale.  A batch takes its rows in key order, so that batches do
 * not deadlock with each other.
 *
 * With rewind on, delete moves the delivery from the pending table to the
 * rewind leaf of its time; with rewind off it removes pending row and message.
 * A message past its retention counts as gone, even while its rows are there; but
 * while it is in flight its receiver can still delete it.
 *
 * Locks: RowExclusive on the pending table, and on the rewind leaf or the
 * message leaf.  Abort: the rows are as they were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lockdefs.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

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
#include "store/cmq_table.h"
#include "verbs/cmq_delete.h"

PG_FUNCTION_INFO_V1(cmq_delete);
PG_FUNCTION_INFO_V1(cmq_delete_batch);
PG_FUNCTION_INFO_V1(cmq_change_visibility);

/*
 * To be followed by cmq_delete_end().  The caller has the pending table locked;
 * update says that it will move pending rows.
 */
void
cmq_delete_begin(CmqDelete *state, CmqQueue *queue, bool update)
{
	bool		rewind_on = queue->rewind_seconds > 0;

	state->queue = queue;
	/* the caller, also if the rows are written as another role */
	state->deleted_by =
		CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	state->now = cmq_clock_now(queue->shared);
	state->expired_before = cmq_bounds_expired_before(queue, state->now);
	cmq_pending_open(&state->pending, queue, update);
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

/* Find the delivery that the handle names; false if the handle is stale. */
static bool
find_delivery(CmqDelete *state, const CmqHandle *handle)
{
	/* a message that was never received has no handle */
	if (handle->receive_count == 0)
		return false;
	/* a message past its retention can be deleted only while it is in flight */
	if (handle->enqueued_at < state->expired_before &&
		handle->visible_at <= state->now)
		return false;
	return cmq_pending_find(&state->pending, handle);
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
	cmq_leaf_rows_insert(&state->rows, values, isnull, CMQ_NARROW_ROW_SIZE);
}

/* The row of a message has been taken: move it to the history, or remove the message. */
static void
put_away(CmqDelete *state, const CmqPendingRow *row)
{
	cmq_xact_count(state->queue->shared, CMQ_DELETED, 1);
	/* without a leaf the message is gone already, because it has expired */
	if (state->rows.kind == CMQ_MESSAGES)
		(void) cmq_leaf_rows_remove(&state->rows, row->enqueued_at);
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
	return find_delivery(state, handle) && cmq_delete_row(state, true);
}

static void
get_handle(FunctionCallInfo fcinfo, int argno, CmqQueue *queue,
		   CmqHandle *handle)
{
	cmq_require_arg(fcinfo, argno, "receipt_handle", "queue", queue->name);
	cmq_handle_in(text_to_cstring(PG_GETARG_TEXT_PP(argno)), handle);
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
	get_handle(fcinfo, 1, queue, &handle);
	cmq_delete_begin(&state, queue, false);
	result = delete_delivery(&state, &handle);
	cmq_delete_end(&state);
	PG_RETURN_BOOL(result);
}

typedef struct BatchItem
{
	CmqHandle	handle;
	int			position;		/* in the array */
} BatchItem;

static int
compare_items(const void *a, const void *b)
{
	const BatchItem *x = a;
	const BatchItem *y = b;

	if (x->handle.visible_at != y->handle.visible_at)
		return x->handle.visible_at < y->handle.visible_at ? -1 : 1;
	if (x->handle.enqueued_at != y->handle.enqueued_at)
		return x->handle.enqueued_at < y->handle.enqueued_at ? -1 : 1;
	return x->position - y->position;
}

Datum
cmq_delete_batch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CmqQueue   *queue;
	Datum	   *elements;
	int			n;
	BatchItem  *items;
	bool	   *deleted;
	CmqDelete	state;

	cmq_begin_write("cmq_delete_batch()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_DELETE,
						   RowExclusiveLock);
	cmq_require_arg(fcinfo, 1, "receipt_handles", "queue", queue->name);
	n = cmq_array_arg(PG_GETARG_DATUM(1), TEXTOID, "receipt_handles", "queue",
					  queue->name, &elements, NULL);
	if (n == 0)
		return (Datum) 0;

	items = palloc(sizeof(BatchItem) * n);
	deleted = palloc0(sizeof(bool) * n);
	for (int i = 0; i < n; i++)
	{
		cmq_handle_in(TextDatumGetCString(elements[i]), &items[i].handle);
		items[i].position = i;
	}
	qsort(items, n, sizeof(BatchItem), compare_items);

	cmq_delete_begin(&state, queue, false);
	for (int i = 0; i < n; i++)
		deleted[items[i].position] = delete_delivery(&state, &items[i].handle);
	cmq_delete_end(&state);

	for (int i = 0; i < n; i++)
	{
		bool		isnull = false;

		if (deleted[i])
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
								 &elements[i], &isnull);
	}
	return (Datum) 0;
}

Datum
cmq_change_visibility(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqHandle	handle;
	CmqDelete	state;
	CmqPendingRow row;
	int			visibility_timeout;
	bool		changed;

	cmq_begin_write("cmq_change_visibility()");
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_DELETE,
						   RowExclusiveLock);
	get_handle(fcinfo, 1, queue, &handle);
	cmq_require_arg(fcinfo, 2, "visibility_timeout", "queue", queue->name);
	visibility_timeout = PG_GETARG_INT32(2);
	if (visibility_timeout < 0 || visibility_timeout > CMQ_VISIBILITY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("visibility_timeout is out of range for queue \"%s\": %d",
						queue->name, visibility_timeout),
				 errdetail("It must be between 0 and %d seconds; 0 makes the message ready at once.",
						   CMQ_VISIBILITY_MAX)));

	cmq_delete_begin(&state, queue, true);
	(void) cmq_pending_set_times(&state.pending, visibility_timeout);
	changed = find_delivery(&state, &handle) &&
		cmq_pending_change_visibility(&state.pending, &row);
	cmq_delete_end(&state);

	if (!changed)
		PG_RETURN_NULL();
	cmq_pending_handle(&row, &handle);
	PG_RETURN_TEXT_P(cstring_to_text(cmq_handle_out(&handle)));
}
