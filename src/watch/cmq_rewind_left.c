/*-------------------------------------------------------------------------
 *
 * cmq_rewind_left.c
 *	  How much the rewind under way still has to bring back, for the view cmq.rewinds.
 *
 * The number is that of cmq.status: counted once after the rewind, and known from then on.
 * In recovery each call counts.
 *
 * Locks: AccessShare on the rewind leaves, never waited for, given back at once; a count
 * waits for another one of the same queue (cmq_counting.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_try.h"
#include "memory/cmq_shared.h"
#include "store/cmq_bounds.h"
#include "store/cmq_counting.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_lock.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"

PG_FUNCTION_INFO_V1(cmq_rewind_left);

typedef struct Left
{
	int64		n;
	bool		known;
} Left;

/* Called in a subtransaction, whose end gives the locks back. */
static void
count_left(const char *name, void *arg)
{
	Left	   *left = arg;
	CmqQueue   *queue = cmq_queue_find(name);
	TimestampTz expired_before;
	CmqDueScan	scan;

	if (queue == NULL || !cmq_rights_is_readable(queue))
		return;
	expired_before = cmq_bounds_expired_before(queue, cmq_queue_now(queue));
	cmq_due_begin(&scan, queue, &queue->rewinding, expired_before,
				  AccessShareLock);
	for (int i = 0; i < scan.nleft; i++)
	{
		if (cmq_due_reaches(scan.rewinding, &scan.leaf[i], scan.from) &&
			!cmq_lock_to_look(scan.leaf[i].rewind))
			return;
	}
	if (queue->shared == NULL)
	{
		while (cmq_due_next(&scan))
			left->n++;
	}
	cmq_due_end(&scan);
	/* as cmq.status has it: known, once somebody has counted */
	if (queue->shared)
		left->n = cmq_counting_due(queue);
	left->known = true;
}

/*
 * NULL if the queue is gone, damaged or locked, or the caller has no SELECT on it: a view
 * of all queues must neither fail nor wait because of one.
 */
Datum
cmq_rewind_left(PG_FUNCTION_ARGS)
{
	Left		left = {0};

	cmq_require_preload();
	PreventCommandIfParallelMode("cmq.rewinds");
	if (!cmq_try(cmq_queue_name_arg(fcinfo, 0), "looking at the rewind",
				 count_left, &left, CMQ_TRY_UNDO) || !left.known)
		PG_RETURN_NULL();
	PG_RETURN_INT64(left.n);
}
