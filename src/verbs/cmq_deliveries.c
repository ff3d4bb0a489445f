/*-------------------------------------------------------------------------
 *
 * cmq_deliveries.c
 *	  Deliveries that a call names by their receipt handles: one, or many in the order
 *	  of their keys.
 *
 * The handle is the key of a pending row, so finding it is one index probe,
 * and a handle of an earlier delivery finds nothing.  When another transaction
 * is changing the row, the calls that name it wait: its end decides whether the
 * handle is stale.  A batch takes its rows in key order, so that batches do
 * not deadlock with each other, whatever they do.
 *
 * A message past its retention counts as gone, even while its rows are there; but
 * while it is in flight its receiver can still be done with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "funcapi.h"
#include "nodes/execnodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "store/cmq_description.h"
#include "store/cmq_pending.h"
#include "verbs/cmq_deliveries.h"
#include "verbs/cmq_ids.h"

/* The handle in an argument; raises 22023 for NULL, 22P02. */
void
cmq_deliveries_one(FunctionCallInfo fcinfo, int argno, CmqQueue *queue,
				   CmqHandle *handle)
{
	CmqIds		ids;

	cmq_require_arg(fcinfo, argno, "receipt_handle", "queue", queue->name);
	cmq_handle_in(text_to_cstring(PG_GETARG_TEXT_PP(argno)), handle);
	cmq_ids_begin(&ids, queue);
	cmq_ids_check(&ids, handle->enqueued_at);
	cmq_ids_end(&ids);
}

static int
compare_keys(const void *a, const void *b)
{
	const CmqDelivery *x = a;
	const CmqDelivery *y = b;

	if (x->handle.visible_at != y->handle.visible_at)
		return x->handle.visible_at < y->handle.visible_at ? -1 : 1;
	if (x->handle.enqueued_at != y->handle.enqueued_at)
		return x->handle.enqueued_at < y->handle.enqueued_at ? -1 : 1;
	return x->position - y->position;
}

static int
compare_positions(const void *a, const void *b)
{
	return ((const CmqDelivery *) a)->position -
		((const CmqDelivery *) b)->position;
}

/* The handles in an array, in the order of their keys; raises 22023, 22P02. */
void
cmq_deliveries_many(FunctionCallInfo fcinfo, int argno, CmqQueue *queue,
					CmqDeliveries *named)
{
	CmqIds		ids;

	cmq_require_arg(fcinfo, argno, "receipt_handles", "queue", queue->name);
	named->n = cmq_array_arg(PG_GETARG_DATUM(argno), TEXTOID, "receipt_handles",
							 "queue", queue->name, &named->handles, NULL);
	named->each = palloc0(sizeof(CmqDelivery) * Max(named->n, 1));
	cmq_ids_begin(&ids, queue);
	for (int i = 0; i < named->n; i++)
	{
		cmq_handle_in(TextDatumGetCString(named->handles[i]),
					  &named->each[i].handle);
		cmq_ids_check(&ids, named->each[i].handle.enqueued_at);
		named->each[i].position = i;
	}
	cmq_ids_end(&ids);
	qsort(named->each, named->n, sizeof(CmqDelivery), compare_keys);
}

/*
 * Move the table to the row of the delivery that the handle names; false if the handle is
 * stale.  now is the time of the call, and messages from before expired_before are past
 * their retention.
 */
bool
cmq_deliveries_find(CmqPending *pending, const CmqHandle *handle, TimestampTz now,
					TimestampTz expired_before)
{
	/* a message that was never received has no handle */
	if (handle->receive_count == 0)
		return false;
	if (handle->enqueued_at < expired_before && handle->visible_at <= now)
		return false;
	return cmq_pending_find(pending, handle);
}

/* Put the deliveries into the order in which they were given. */
void
cmq_deliveries_as_given(CmqDeliveries *named)
{
	qsort(named->each, named->n, sizeof(CmqDelivery), compare_positions);
}

/* Return the handles of those that are done, in the order in which they were given. */
void
cmq_deliveries_return_done(FunctionCallInfo fcinfo, CmqDeliveries *named)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	cmq_deliveries_as_given(named);
	for (int i = 0; i < named->n; i++)
	{
		bool		isnull = false;

		if (named->each[i].done)
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
								 &named->handles[i], &isnull);
	}
}
