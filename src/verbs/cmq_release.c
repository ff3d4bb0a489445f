/*-------------------------------------------------------------------------
 *
 * cmq_release.c
 *	  What a consumer does with a receipt handle other than delete: change visibility,
 *	  release.
 *
 * The pending row of the delivery gets another visible_at.  A batch is as of one moment,
 * and its rows are moved in the order of their keys (cmq_deliveries.c), so that those who
 * wait for each other make no circle; nobody else knows the keys that they get.
 *
 * A release ends a delivery that has failed, and no handle is good until the message is
 * received again.  The receive counts for max_receive_count, unless the caller says that
 * it does not; such a message is never dead for that, however often it is released.
 *
 * Locks: RowExclusive on the pending table.  Abort: the rows are as they were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lockdefs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_shared.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "verbs/cmq_deliveries.h"
#include "verbs/cmq_send.h"

PG_FUNCTION_INFO_V1(cmq_change_visibility);
PG_FUNCTION_INFO_V1(cmq_change_visibility_batch);
PG_FUNCTION_INFO_V1(cmq_release);

/* Deliveries of one queue that get another visible_at. */
typedef struct Moves
{
	CmqPending	pending;
	TimestampTz now;
	TimestampTz expired_before;
} Moves;

/* To be followed by end_moves(); seconds are those of cmq_pending_set_times(). */
static void
begin_moves(Moves *moves, CmqQueue *queue, int seconds)
{
	cmq_pending_open(&moves->pending, queue, true);
	moves->now = cmq_pending_set_times(&moves->pending, seconds);
	moves->expired_before = cmq_bounds_expired_before(queue, moves->now);
}

static void
end_moves(Moves *moves)
{
	cmq_pending_flush(&moves->pending);
	cmq_pending_close(&moves->pending);
}

/* Move the table to the row of a delivery; false if the handle is stale. */
static bool
find(Moves *moves, const CmqHandle *handle)
{
	CHECK_FOR_INTERRUPTS();
	ResetPerTupleExprContext(moves->pending.estate);
	return cmq_deliveries_find(&moves->pending, handle, moves->now,
							   moves->expired_before);
}

/* The argument of that name; raises 22023. */
static int
get_visibility_timeout(FunctionCallInfo fcinfo, int argno, CmqQueue *queue)
{
	int			visibility_timeout;

	cmq_require_arg(fcinfo, argno, "visibility_timeout", "queue", queue->name);
	visibility_timeout = PG_GETARG_INT32(argno);
	if (visibility_timeout < 0 || visibility_timeout > CMQ_VISIBILITY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("visibility_timeout is out of range for queue \"%s\": %d",
						queue->name, visibility_timeout),
				 errdetail("It must be between 0 and %d seconds; 0 makes the message ready at once.",
						   CMQ_VISIBILITY_MAX)));
	return visibility_timeout;
}

/* Change the visibility of one delivery, and the handle; false if that is stale. */
static bool
change(Moves *moves, CmqHandle *handle)
{
	CmqPendingRow row;

	if (!find(moves, handle) ||
		!cmq_pending_change_visibility(&moves->pending, &row))
		return false;
	cmq_pending_handle(&row, handle);
	return true;
}

Datum
cmq_change_visibility(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqHandle	handle;
	Moves		moves;
	int			visibility_timeout;
	bool		changed;

	cmq_begin_write("cmq_change_visibility()");
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_DELETE,
						   RowExclusiveLock);
	cmq_deliveries_one(fcinfo, 1, queue, &handle);
	visibility_timeout = get_visibility_timeout(fcinfo, 2, queue);

	begin_moves(&moves, queue, visibility_timeout);
	changed = change(&moves, &handle);
	end_moves(&moves);
	if (!changed)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(cmq_handle_out(&handle)));
}

Datum
cmq_change_visibility_batch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CmqQueue   *queue;
	CmqDeliveries named;
	Moves		moves;
	int			visibility_timeout;

	cmq_begin_write("cmq_change_visibility_batch()");
	InitMaterializedSRF(fcinfo, 0);
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_DELETE,
						   RowExclusiveLock);
	cmq_deliveries_many(fcinfo, 1, queue, &named);
	visibility_timeout = get_visibility_timeout(fcinfo, 2, queue);
	if (named.n == 0)
		return (Datum) 0;

	begin_moves(&moves, queue, visibility_timeout);
	for (int i = 0; i < named.n; i++)
		named.each[i].done = change(&moves, &named.each[i].handle);
	end_moves(&moves);

	cmq_deliveries_as_given(&named);
	for (int i = 0; i < named.n; i++)
	{
		CmqDelivery *delivery = &named.each[i];

		if (delivery->done)
		{
			Datum		values[2] = {
				named.handles[i],
				CStringGetTextDatum(cmq_handle_out(&delivery->handle))
			};
			bool		isnull[2] = {false, false};

			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
								 isnull);
		}
	}
	return (Datum) 0;
}

/* The argument of that name; raises 22023. */
static int
get_delay(FunctionCallInfo fcinfo, int argno, CmqQueue *queue)
{
	int			delay = PG_GETARG_INT32(argno);

	cmq_send_check_delay(queue, delay);
	return delay;
}

/* For how many seconds a message stays away that was received so often. */
static int
back_off(CmqQueue *queue, int receive_count)
{
	int64		seconds = queue->retry_backoff_seconds;

	if (seconds == 0)
		return 0;
	for (int i = 1; i < receive_count && seconds < queue->retry_backoff_max_seconds; i++)
		seconds *= 2;
	return (int) Min(seconds, queue->retry_backoff_max_seconds);
}

Datum
cmq_release(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqDeliveries named;
	Moves		moves;
	bool		backs_off = PG_ARGISNULL(2);
	int			delay = 0;
	bool		counted;

	cmq_begin_write("cmq_release()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_DELETE,
						   RowExclusiveLock);
	cmq_deliveries_many(fcinfo, 1, queue, &named);
	if (!backs_off)
		delay = get_delay(fcinfo, 2, queue);
	cmq_require_arg(fcinfo, 3, "counted", "queue", queue->name);
	counted = PG_GETARG_BOOL(3);
	if (named.n == 0)
		return (Datum) 0;

	begin_moves(&moves, queue, 0);
	for (int i = 0; i < named.n; i++)
	{
		CmqDelivery *delivery = &named.each[i];

		if (backs_off)
			delay = back_off(queue, delivery->handle.receive_count);
		delivery->done = find(&moves, &delivery->handle) &&
			cmq_pending_release(&moves.pending, delay, counted);
	}
	end_moves(&moves);
	cmq_deliveries_return_done(fcinfo, &named);
	return (Datum) 0;
}
