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
 * A message past its retention counts as gone, even while its rows are there, but
 * for who has it in flight.
 *
 * Locks: RowExclusive on the pending table and on the rewind leaf, or the
 * message leaf.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lockdefs.h"
#include "utils/acl.h"
#include "utils/array.h"
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
#include "store/cmq_queue.h"
#include "store/cmq_recent.h"
#include "store/cmq_table.h"
#include "verbs/cmq_delete.h"

PG_FUNCTION_INFO_V1(cmq_delete);
PG_FUNCTION_INFO_V1(cmq_delete_batch);
PG_FUNCTION_INFO_V1(cmq_change_visibility);

/* To be followed by cmq_delete_end(); update: for visibility changes. */
void
cmq_delete_begin(CmqDelete *state, CmqQueue *queue, bool update)
{
	memset(state, 0, sizeof(*state));
	state->queue = queue;
	state->estate = CreateExecutorState();
	/* the caller, also if the rows are written as somebody else */
	state->deleted_by =
		CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	state->now = cmq_clock_now(queue->shared);
	state->expired_before = cmq_queue_expired_before(queue, state->now);
	if (!cmq_table_open(&state->pending, update ? state->estate : NULL, state->queue, queue->pending, CMQ_PENDING, RowExclusiveLock))
		elog(ERROR, "pending table of queue \"%s\" vanished", queue->name);
}

void
cmq_delete_end(CmqDelete *state)
{
	if (state->leaf)
		cmq_table_close(&state->table);
	cmq_table_close(&state->pending);
	FreeExecutorState(state->estate);
	CommandCounterIncrement();
}

/* Does the slot hold the delivery that the handle names? */
static bool
is_delivery(TupleTableSlot *slot, const CmqHandle *handle)
{
	return cmq_slot_time(slot, Anum_pending_visible_at) == handle->visible_at &&
		cmq_slot_time(slot, Anum_pending_enqueued_at) == handle->enqueued_at &&
		cmq_slot_int(slot, Anum_pending_receive_count) == handle->receive_count &&
		cmq_slot_int(slot, Anum_pending_rewind_count) == handle->rewind_count;
}

/* Find the delivery that the handle names; false if the handle is stale. */
static bool
find_delivery(CmqDelete *state, const CmqHandle *handle)
{
	CmqTable   *pending = &state->pending;
	ItemPointer tid;

	/* a count of 0 is what a message has that nobody received */
	if (handle->receive_count == 0)
		return false;
	/* who has it in flight may be done with it after its retention, too */
	if (handle->enqueued_at < state->expired_before &&
		handle->visible_at <= state->now)
		return false;

	tid = cmq_recent_find(state->queue->pending, handle->visible_at,
						  handle->enqueued_at);
	if (tid && cmq_table_fetch(pending, tid) &&
		is_delivery(pending->slot, handle))
		return true;
	return cmq_table_find(pending, handle->visible_at, handle->enqueued_at) &&
		is_delivery(pending->slot, handle);
}

/* Open the leaf table of this time that a delete writes; false if gone. */
static bool
open_leaf(CmqDelete *state, TimestampTz time)
{
	CmqLeaf    *leaf = state->leaf;
	bool		rewind_on = state->queue->rewind_seconds > 0;

	if (leaf && time >= leaf->lower && time < leaf->upper)
		return true;
	if (leaf)
	{
		cmq_table_close(&state->table);
		state->leaf = NULL;
	}
	leaf = cmq_queue_leaf(state->queue, time);
	if (leaf == NULL ||
		!(rewind_on ?
		  cmq_table_open(&state->table, state->estate, state->queue, leaf->rewind,
						 CMQ_REWIND, RowExclusiveLock) :
		  cmq_table_open(&state->table, NULL, state->queue, leaf->messages,
						 CMQ_MESSAGES, RowExclusiveLock)))
		return false;
	state->leaf = leaf;
	return true;
}

/*
 * Delete the message whose pending row is in the slot.  False if another
 * transaction has changed the row, or, without wait, is changing it.
 */
bool
cmq_delete_row(CmqDelete *state, bool wait)
{
	TupleTableSlot *slot = state->pending.slot;
	CmqSharedQueue *shared = state->queue->shared;
	TimestampTz visible_at = cmq_slot_time(slot, Anum_pending_visible_at);
	TimestampTz enqueued_at = cmq_slot_time(slot, Anum_pending_enqueued_at);
	TimestampTz first_received_at = cmq_slot_first_received(slot);
	int			receive_count = cmq_slot_int(slot, Anum_pending_receive_count);
	int			rewind_count = cmq_slot_int(slot, Anum_pending_rewind_count);

	if (cmq_table_delete(&state->pending, wait) != TM_Ok)
		return false;
	cmq_xact_taken(shared, visible_at);
	cmq_xact_taken_message(shared, enqueued_at);
	cmq_xact_wake(shared, 0, 1);
	cmq_xact_pending(shared, -1);

	/* no leaf: it was dropped, because the message has expired, and that with it */
	if (!open_leaf(state, enqueued_at))
	{
		cmq_xact_count(shared, CMQ_DELETED, 1);
		return true;
	}

	if (state->table.kind == CMQ_REWIND)
	{
		Datum		values[Natts_rewind];
		bool		isnull[Natts_rewind] = {false};

		/*
		 * The transaction has its id before the clock is read: cmq_rewind.c
		 * relies on it.
		 */
		int64		xact = cmq_rewind_xact_token(GetTopFullTransactionId());
		TimestampTz now = cmq_clock_now(shared);

		values[Anum_rewind_enqueued_at - 1] = TimestampTzGetDatum(enqueued_at);
		values[Anum_rewind_first_received_at - 1] =
			TimestampTzGetDatum(first_received_at == DT_NOBEGIN ? now :
								first_received_at);
		values[Anum_rewind_deleted_at - 1] = TimestampTzGetDatum(now);
		values[Anum_rewind_deleted_by - 1] = state->deleted_by;
		values[Anum_rewind_receive_count - 1] = Int32GetDatum(receive_count);
		values[Anum_rewind_rewind_count - 1] = Int32GetDatum(rewind_count);
		values[Anum_rewind_deleted_xact - 1] = Int64GetDatum(xact);
		cmq_table_insert(&state->table, values, isnull, CMQ_NARROW_ROW_SIZE);
	}
	else if (cmq_table_find(&state->table, enqueued_at, 0))
		(void) cmq_table_delete(&state->table, true);
	cmq_xact_count(shared, CMQ_DELETED, 1);
	return true;
}

/* Delete one delivery; false if the handle is stale. */
static bool
delete_delivery(CmqDelete *state, const CmqHandle *handle)
{
	return find_delivery(state, handle) && cmq_delete_row(state, true);
}

static char *
get_handle(FunctionCallInfo fcinfo, int argno, CmqQueue *queue,
		   CmqHandle *handle)
{
	char	   *str;

	cmq_require_arg(fcinfo, argno, "receipt_handle", "queue", queue->name);
	str = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	cmq_handle_in(str, handle);
	return str;
}

Datum
cmq_delete(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqHandle	handle;
	CmqDelete state;
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
	CmqDelete state;

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
	CmqDelete state;
	int			visibility_timeout;
	bool		changed = false;

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
	if (find_delivery(&state, &handle))
	{
		TupleTableSlot *slot = state.pending.slot;
		TimestampTz visible_at;
		CmqAnnouncement before;
		Datum		values[Natts_pending];
		bool		isnull[Natts_pending];

		before = cmq_xact_announce();
		visible_at = cmq_clock_now(queue->shared) +
			visibility_timeout * USECS_PER_SEC;
		cmq_xact_publish(visible_at);

		/* the old handle goes stale even if the time happens to be the same */
		if (visible_at == handle.visible_at)
			visible_at++;

		slot_getallattrs(slot);
		memcpy(values, slot->tts_values, sizeof(values));
		memcpy(isnull, slot->tts_isnull, sizeof(isnull));
		values[Anum_pending_visible_at - 1] = TimestampTzGetDatum(visible_at);
		changed = cmq_table_update(&state.pending, values, isnull) == TM_Ok;
		if (changed)
		{
			cmq_xact_taken(queue->shared, handle.visible_at);
			cmq_xact_wake(queue->shared, 1, 1);
		}
		else
			cmq_xact_withdraw(before);
		handle.visible_at = visible_at;
	}
	cmq_delete_end(&state);

	if (!changed)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(cmq_handle_out(&handle)));
}
