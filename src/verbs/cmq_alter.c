/*-------------------------------------------------------------------------
 *
 * cmq_alter.c
 *	  Alter queues.
 *
 * Alter holds the queue lock; switching rewind on or off also locks the pending table
 * against traffic, so that each delete sees either the old setting and commits before, or
 * the new one.  Switching it off touches no message (cmq_forget.c).  A rollback undoes
 * it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_catalog.h"
#include "store/cmq_ddl.h"
#include "store/cmq_description.h"
#include "store/cmq_lock.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "verbs/cmq_binding.h"
#include "verbs/cmq_queue_args.h"

PG_FUNCTION_INFO_V1(cmq_alter_queue);

Datum
cmq_alter_queue(PG_FUNCTION_ARGS)
{
	CmqQueue	changed;
	CmqQueue   *queue;
	char	   *name;
	TimestampTz now;
	bool		any;
	bool		bind;

	cmq_begin_write("cmq_alter_queue()");
	name = cmq_queue_name_arg(fcinfo, 0);
	queue = cmq_queue_lookup(name);
	cmq_queue_check_acl(queue, ACL_UPDATE);

	/* before any lock, so that a bad value never waits */
	changed = *queue;
	any = cmq_get_settings(fcinfo, &changed, true);
	bind = cmq_get_dead_letter(fcinfo, &changed);
	if (!any && !bind)
		PG_RETURN_VOID();

	queue = cmq_queue_lock(name, ACL_UPDATE, ExclusiveLock);
	changed = *queue;
	cmq_get_settings(fcinfo, &changed, true);
	cmq_get_dead_letter(fcinfo, &changed);
	if (bind)
	{
		/* dead letters are messages taken out of the queue, to be read elsewhere */
		cmq_queue_check_acl(queue, ACL_DELETE);
		cmq_dead_letter_check(&changed);
	}

	/*
	 * Nobody may be at work with the old value while the new one becomes
	 * visible: who takes a message for expired, or for gone, that is not, would
	 * let the scan floor pass it for good.
	 */
	if ((queue->rewind_seconds == 0) != (changed.rewind_seconds == 0) ||
		queue->msg_retention_seconds != changed.msg_retention_seconds)
	{
		cmq_lock_alone(name, queue->pending, NIL, "alter");
		queue = cmq_queue_again(queue);
		cmq_queue_check_acl(queue, ACL_UPDATE);
		if ((queue->rewind_seconds == 0) != (changed.rewind_seconds == 0))
			cmq_ddl_check_not_in_use(queue, "switch the rewind of");
	}
	now = cmq_queue_now(queue);

	/*
	 * What is outside by the old or the new setting stays outside.  Counted
	 * as the window is, see cmq_queue_rewindable_since().
	 */
	if (changed.msg_retention_seconds != queue->msg_retention_seconds)
	{
		/* which may be undone */
		cmq_xact_taken_unknown(queue->shared);
		changed.expired_before =
			Max(queue->expired_before,
				now - Min(queue->msg_retention_seconds,
						  changed.msg_retention_seconds) * USECS_PER_SEC);
	}
	if (changed.rewind_seconds == 0)
	{
		/* no delete is open: each has read the clock before this moment, or will */
		if (queue->rewind_seconds > 0)
		{
			now = changed.history_since = cmq_clock_tick(queue->shared);
			changed.leftovers = true;
		}
		memset(&changed.rewinding, 0, sizeof(changed.rewinding));
		changed.forgotten_before = DT_NOBEGIN;
	}
	else if (queue->rewind_seconds > 0 &&
			 changed.rewind_seconds != queue->rewind_seconds)
		changed.forgotten_before =
			Max(queue->forgotten_before,
				cmq_clock_xact_start(queue->shared) -
				Min(queue->rewind_seconds,
					changed.rewind_seconds) * USECS_PER_SEC);

	changed.last_modify_time = changed.saved_clock = now;
	cmq_catalog_update_queue(&changed);
	PG_RETURN_VOID();
}
