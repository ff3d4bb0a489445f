/*-------------------------------------------------------------------------
 *
 * cmq_purge.c
 *	  Purge pending rows that have expired, and keep the mark of the earliest message.
 *
 * A purge deletes pending rows alone: their messages go with the leaves
 * (cmq_leaf_drop.c).  The mark is raised when all that has expired is purged.
 *
 * Locks: RowExclusive on the pending table; a row that another transaction is changing is
 * passed by.  Abort: the rows are there again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/cmq_handle.h"
#include "memory/cmq_types.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_oldest.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "worker/cmq_portion.h"
#include "worker/cmq_purge.h"

/*
 * Delete pending rows of expired messages that are not in flight: those whose visible_at
 * has passed the retention, too (CMQ_PURGE_PLACE), or the rest.
 */
static CmqStepResult
purge(CmqQueue *queue, const CmqPortion *portion, CmqPlaceKind kind)
{
	TimestampTz now = cmq_queue_now(queue);
	TimestampTz expired_before = cmq_bounds_expired_before(queue, now);
	bool		left = kind == CMQ_PURGE_PLACE;
	TimestampTz from = left ? DT_NOBEGIN : expired_before;
	TimestampTz until = left ? expired_before - 1 : DT_NOEND;
	CmqPlace	place = cmq_portion_get_place(queue, portion, kind);
	CmqStepResult result = CMQ_STEP_DONE;
	int64		looked = 0;
	int64		removed = 0;
	CmqPending	pending;
	CmqPendingKey key;

	if (queue->is_target)
		return CMQ_STEP_DONE;
	if (!cmq_oldest_may_expire(queue, expired_before))
	{
		cmq_portion_set_place(queue, portion, kind, &cmq_place_beginning);
		return CMQ_STEP_DONE;
	}
	cmq_pending_open(&pending, queue, false);
	cmq_pending_scan(&pending.table,
					 cmq_portion_is_beginning(&place) ? NULL : &place,
					 from, until);
	while (cmq_pending_next(&pending.table, DT_NOBEGIN, &key))
	{
		if (cmq_portion_has_enough(portion, ++looked, removed))
		{
			result = removed > 0 ? CMQ_STEP_MORE : CMQ_STEP_LOOKING;
			break;
		}
		place = key;
		/* a message in flight can still be deleted by its receiver */
		if (key.enqueued_at < expired_before &&
			(key.visible_at <= now ||
			 cmq_slot_int(pending.table.slot, Anum_pending_receive_count) == 0))
			removed += cmq_pending_take_expired(&pending);
	}
	cmq_pending_close(&pending);
	cmq_portion_set_place(queue, portion, kind,
						  result == CMQ_STEP_DONE ? &cmq_place_beginning : &place);
	return result;
}

/*
 * Most of what has expired stands at the left end of the index, since visible_at is
 * never before enqueued_at.
 */
CmqStepResult
cmq_purge_old_keys(CmqQueue *queue, const CmqPortion *portion)
{
	return purge(queue, portion, CMQ_PURGE_PLACE);
}

/* What was received or delayed stands anywhere. */
CmqStepResult
cmq_purge_rest(CmqQueue *queue, const CmqPortion *portion)
{
	return purge(queue, portion, CMQ_PURGE_REST_PLACE);
}

/* Is the walk of this kind at its beginning, or past its end? */
static bool
is_through(CmqQueue *queue, const CmqPortion *portion, CmqPlaceKind kind)
{
	CmqPlace	place = cmq_portion_get_place(queue, portion, kind);

	return cmq_portion_is_beginning(&place);
}

/*
 * Keep the mark of cmq_earliest.c near the oldest pending message.  If the mark says that
 * this may have expired, the whole table is read: so both walks must be through first.
 */
CmqStepResult
cmq_purge_raise_mark(CmqQueue *queue, const CmqPortion *portion)
{
	TimestampTz now = cmq_queue_now(queue);

	if (!is_through(queue, portion, CMQ_PURGE_PLACE) ||
		!is_through(queue, portion, CMQ_PURGE_REST_PLACE))
		return CMQ_STEP_DONE;
	if (cmq_oldest_may_expire(queue, cmq_bounds_expired_before(queue, now)))
		cmq_oldest_read_all(queue);
	cmq_oldest_advance(queue);
	return CMQ_STEP_DONE;
}
