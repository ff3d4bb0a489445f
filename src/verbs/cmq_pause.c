/*-------------------------------------------------------------------------
 *
 * cmq_pause.c
 *	  Pause a queue, so that it delivers nothing, and resume it.
 *
 * To receivers and consumers a paused queue is empty: receive_messages() in cmq_receive.c
 * asks, and cmq_receive_messages().  No dead letter leaves it: open_target() in
 * cmq_dead_letter.c asks.  All else goes on: sends, what a consumer does with deliveries
 * that it has, what takes messages back or brings them back, expiry, changes of the queue
 * and its drop.
 *
 * That a queue is paused, and since when, stands in its row.  So it outlives a restart,
 * and is in dumps and on standbys.
 *
 * Invariant: no look for messages that begins after the commit of a pause finds one,
 * before a resume has committed; then all who wait look.  A look that has begun before the
 * commit of the pause may still deliver.
 *
 * Ways to break it, and the answers:
 *	1. A call that begins later does not know the row.  It accepts the invalidation of
 *	   the pause first (cmq_cache.c).
 *	2. A receive that waits was signalled for a message that was sent before or after the
 *	   pause.  The commit of a pause counts as a change, as that of a rewind does: the
 *	   receive reads the row before it looks (cmq_wait_nchanges()).  Nobody is woken for
 *	   it.
 *	3. A receive that waits at a paused queue does not hear of messages that become
 *	   visible.  It has no plan for any, else it would wake for nothing, time and again.
 *	   The resume wakes all, as a rewind does, and they look and plan.
 *	4. The pause was prepared.  What follows from its end, whoever ends it, is in
 *	   cmq_prepared.c; if it was prepared before the server was started, its lock on the
 *	   queue tells.
 *
 * Locks: the queue lock, which no traffic takes.  Abort: the row is as it was, and
 * nobody was told.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "base/cmq_args.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "store/cmq_rewind_log.h"

PG_FUNCTION_INFO_V1(cmq_pause_queue);
PG_FUNCTION_INFO_V1(cmq_resume_queue);

/* Pause the queue that the first argument names, or resume it; false if it is so. */
static bool
set_paused(FunctionCallInfo fcinfo, bool pause, const char *reason)
{
	CmqQueue   *queue = cmq_queue_lookup(cmq_queue_name_arg(fcinfo, 0),
										 ACL_UPDATE);
	CmqDescription changed;
	TimestampTz now;

	/* before any lock, so that a bad value never waits */
	reason = cmq_rewind_log_reason(queue, reason);
	queue = cmq_queue_lock(queue->name, ACL_UPDATE, ExclusiveLock);
	if (cmq_is_paused(queue) == pause)
		return false;

	now = cmq_queue_now(queue);
	changed = *queue;
	changed.paused_since = pause ? now : 0;
	changed.saved_clock = now;
	cmq_catalog_update_queue(&changed);
	if (pause)
		cmq_xact_row_changed(queue->shared);
	else
		cmq_xact_wake_all(queue->shared);
	cmq_rewind_log_add_pause(queue, pause, now, reason);
	return true;
}

Datum
cmq_pause_queue(PG_FUNCTION_ARGS)
{
	cmq_begin_write("cmq_pause_queue()");
	PG_RETURN_BOOL(set_paused(fcinfo, true, PG_ARGISNULL(1) ? NULL :
							  text_to_cstring(PG_GETARG_TEXT_PP(1))));
}

Datum
cmq_resume_queue(PG_FUNCTION_ARGS)
{
	cmq_begin_write("cmq_resume_queue()");
	PG_RETURN_BOOL(set_paused(fcinfo, false, NULL));
}
