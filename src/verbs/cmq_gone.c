/*-------------------------------------------------------------------------
 *
 * cmq_gone.c
 *	  Remove what is known of queues whose relations were dropped by hand.
 *
 * DROP OWNED, DROP TABLE and DROP VIEW know nothing of cmq.queue.  A queue is gone when
 * one of the four relations that its row names does not exist any more
 * (cmq_catalog_is_gone()): it cannot come back, and no look-up finds it.  A queue whose
 * relations all exist, under whatever names, is damaged at worst, which can be undone.  A
 * relation that has taken the name of a dropped one is not the queue's.
 *
 * Invariant: no subscription or policy outlives the row of its queue.  The row of a queue
 * that is gone, its subscriptions and the policies of the queues whose dead letters went
 * there are removed all together:
 *	- by cmq_create_queue() for that name, before anything of the new queue is there, so
 *	  that it inherits nothing
 *	- by maintenance, when no relation has a name of the queue's; else maintenance
 *	  ends the policies alone, because what is left can still be dropped
 *	- by cmq_drop_queue(), with what is left of the relations
 *
 * Locks: the queue lock of the queue that is gone and of each queue whose policy ends;
 * where there are subscriptions, the lock on cmq.topic.  Before these, creation and
 * maintenance take the lock under which queues are created.  Maintenance waits for no
 * lock.  Abort: all is undone; a DROP by hand that is rolled back brings the queue back,
 * too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "memory/cmq_xact.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_orphan.h"
#include "verbs/cmq_binding.h"
#include "verbs/cmq_gone.h"
#include "verbs/cmq_topic.h"

/*
 * Remove all that is known of a queue, if it is gone.  False if another transaction has a
 * lock that this needs, and the caller does not wait.
 */
static bool
forget(const char *name, bool wait)
{
	CmqDescription queue;
	CmqRowLock	lock = cmq_catalog_lock_queue(&queue, name, AccessExclusiveLock,
											  wait, NULL);

	if (lock != CMQ_ROW_LOCKED || !cmq_catalog_is_gone(&queue))
		return lock != CMQ_ROW_BUSY;
	if (!cmq_binding_forget(name, wait))
		return false;
	cmq_xact_remove_at_end(queue.pending, true);
	cmq_catalog_delete_queue(&queue);
	cmq_topic_forget_queue(name);
	return true;
}

/*
 * Make room for a new queue: remove the queues of this name, but for case, that are gone.
 * The caller holds the lock under which queues are created.
 */
void
cmq_gone_make_room(const char *name)
{
	ListCell   *lc;

	foreach(lc, cmq_catalog_gone_queue_names())
	{
		if (pg_strcasecmp(lfirst(lc), name) == 0)
			(void) forget(lfirst(lc), true);
	}
}

/*
 * Maintenance: forget queues and topics of which nothing is left.  What another
 * transaction has locked is left for the next round.
 */
void
cmq_gone_sweep(void)
{
	List	   *names = cmq_catalog_gone_queue_names();
	ListCell   *lc;

	cmq_topic_sweep_gone();
	if (names == NIL || !cmq_catalog_try_lock("queue") ||
		!cmq_catalog_try_lock("topic"))
		return;
	foreach(lc, names)
	{
		/* cmq_drop_queue() needs the row; letters cannot go there */
		if (cmq_orphan_has_names(lfirst(lc)))
		{
			(void) cmq_binding_forget(lfirst(lc), false);
			continue;
		}
		if (!forget(lfirst(lc), false))
			continue;
		ereport(LOG,
				(errmsg("queue \"%s\" is forgotten", (char *) lfirst(lc)),
				 errdetail("Its relations were dropped by hand.")));
	}
}
