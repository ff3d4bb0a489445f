/*-------------------------------------------------------------------------
 *
 * cmq_bounds.c
 *	  Bounds of time: what has expired, what is history, what is due.
 *
 * Each is a comparison with what a description says; src/README lists them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "memory/cmq_clock.h"
#include "memory/cmq_floor.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"

/* Messages produced before this have expired. */
TimestampTz
cmq_bounds_expired_before(CmqQueue *queue, TimestampTz now)
{
	return Max(now - queue->msg_retention_seconds * USECS_PER_SEC,
			   queue->expired_before);
}

/*
 * Deleted messages produced before this cannot be rewound; DT_NOEND when
 * rewind is off.  The window is counted from the start of the transaction, so
 * that now() - rewind_seconds is inside, and the views and a rewind in one
 * transaction agree.
 */
TimestampTz
cmq_bounds_rewindable_since(CmqQueue *queue, TimestampTz now)
{
	TimestampTz since;

	if (queue->rewind_seconds == 0)
		return DT_NOEND;
	since = cmq_clock_xact_start(queue->shared) -
		queue->rewind_seconds * USECS_PER_SEC;
	since = Max(since, queue->forgotten_before);
	return Max(since, cmq_bounds_expired_before(queue, now));
}

/* Begin a scan at the floors of a queue that is attached, see cmq_floor_begin(). */
void
cmq_bounds_begin_floor(CmqFloorScan *scan, CmqQueue *queue, TimestampTz now)
{
	cmq_floor_begin(scan, queue->shared, queue->rewinding.active ?
					queue->rewinding.rewound_at : DT_NOBEGIN, now);
}

/* The pair of leaf tables for messages of this time, or NULL. */
CmqLeaf *
cmq_bounds_leaf(CmqQueue *queue, TimestampTz time)
{
	/* from the right: most traffic is there */
	for (int i = queue->nleaves - 1; i >= 0; i--)
	{
		CmqLeaf    *leaf = &queue->leaves[i];

		if (time >= leaf->lower)
			return time < leaf->upper ? leaf : NULL;
	}
	return NULL;
}

/*
 * Has rewind been switched off since the message was deleted?  Then no call sees the
 * message, whether or not its rows are still there (cmq_forget.c).
 */
bool
cmq_bounds_has_forgotten(CmqQueue *queue, TimestampTz deleted_at)
{
	return deleted_at < queue->history_since;
}

/* Does this rewind bring the soft-deleted message back? */
bool
cmq_bounds_is_due(const CmqRewind *rewinding, TimestampTz enqueued_at,
				  TimestampTz deleted_at, int64 deleted_xact)
{
	if (!rewinding->active || enqueued_at < rewinding->from ||
		deleted_at >= rewinding->rewound_at || deleted_at < rewinding->since)
		return false;
	for (int i = 0; i < rewinding->nconcurrent; i++)
	{
		if (rewinding->concurrent[i] == deleted_xact)
			return false;
	}
	return true;
}
