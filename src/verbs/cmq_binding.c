/*-------------------------------------------------------------------------
 *
 * cmq_binding.c
 *	  Bind queues to dead-letter queues, and end that.
 *
 * Invariant: a dead-letter queue has no dead-letter queue itself.
 *
 * Locks: whoever binds a queue holds its queue lock, or is just creating it, and holds the
 * queue lock of the dead-letter queue in Share mode.  So no queue becomes a dead-letter
 * queue while it is being bound itself, or dropped.  Abort: all is as it was.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/cmq_args.h"
#include "base/cmq_names.h"
#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_load.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "verbs/cmq_binding.h"

PG_FUNCTION_INFO_V1(cmq_unbind_dead_letter);

/*
 * Lock the dead-letter queue that the queue is about to be bound to.  Raises 22023 unless
 * the two may be bound, 42501 unless the caller may send to the dead-letter queue.  The
 * caller holds the queue lock of queue, or is just creating it.
 */
void
cmq_binding_check(CmqQueue *queue)
{
	const char *name = queue->dead_letter_queue;
	List	   *sources;
	CmqQueue   *target;

	if (strcmp(name, queue->name) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" cannot be its own dead-letter queue",
						queue->name)));
	/* no queue is called so, but a journal is */
	if (cmq_is_journal_name(name))
		cmq_queue_report_unknown(name);
	target = cmq_queue_lock(name, ACL_INSERT, ShareLock);

	sources = cmq_catalog_dead_letter_sources(queue->name);
	if (sources != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" cannot have a dead-letter queue",
						queue->name),
				 errdetail("It is the dead-letter queue of queue \"%s\".",
						   (char *) linitial(sources))));
	if (target->dead_letter_queue[0])
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" cannot be a dead-letter queue", name),
				 cmq_rights_is_readable(target) ?
				 errdetail("It has a dead-letter queue itself: \"%s\".",
						   target->dead_letter_queue) :
				 errdetail("It has a dead-letter queue itself."),
				 errhint("Choose another one, or call cmq_unbind_dead_letter for it.")));
}

/*
 * Raise 2BP01 if the queue is the dead-letter queue of others.  The caller
 * holds its queue lock.
 */
void
cmq_binding_check_drop(const char *name)
{
	List	   *sources = cmq_catalog_dead_letter_sources(name);

	if (sources != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("queue \"%s\" cannot be dropped", name),
				 errdetail("It is the dead-letter queue of queue \"%s\".",
						   (char *) linitial(sources)),
				 errhint("Call cmq_unbind_dead_letter for the queues that use it.")));
}

/*
 * Raise 42501 unless the caller may end the queue's policy: a role with UPDATE on the
 * queue may, and so may the owner of the dead-letter queue, even if the queue is damaged.
 * The description need hold no more than cmq_catalog_find_queue() fills.
 */
static void
check_unbind(CmqDescription *queue)
{
	CmqQueue   *target = NULL;

	if (queue->dead_letter_queue[0])
		target = cmq_queue_find_whole(queue->dead_letter_queue);
	if (target &&
		object_ownercheck(RelationRelationId, target->relid, GetUserId()))
		return;
	/* without this relation nobody has a right on the queue */
	if (cmq_load_has_relation(queue, queue->relid, CMQ_RIGHTS))
		cmq_rights_check_acl(queue, ACL_UPDATE);
	else if (!superuser())
		/* raises an error, unless it has just been repaired */
		(void) cmq_queue_lookup(queue->name, ACL_UPDATE);
}

/* End the policy.  The caller holds the queue lock, and has read the row since. */
static void
unbind(CmqDescription *queue)
{
	CmqSharedQueue *shared = cmq_shared_use(queue->pending);

	queue->dead_letter_queue[0] = '\0';
	queue->max_receive_count = queue->max_time_to_live = 0;
	queue->last_modify_time = shared ? cmq_clock_peek(shared) :
		Max(cmq_time(), queue->saved_clock);
	cmq_catalog_update_queue(queue);
}

/*
 * A queue is gone: end the policies of the queues whose dead letters went there, or they
 * would go to another queue that takes the name.  False if another transaction has one of
 * these queues locked and the caller does not wait.
 */
bool
cmq_binding_forget(const char *name, bool wait)
{
	ListCell   *lc;

	foreach(lc, cmq_catalog_dead_letter_sources(name))
	{
		CmqDescription source;
		CmqRowLock	lock = cmq_catalog_lock_queue(&source, lfirst(lc),
												  ExclusiveLock, wait, NULL);

		if (lock == CMQ_ROW_BUSY)
			return false;
		if (lock == CMQ_ROW_LOCKED &&
			strcmp(source.dead_letter_queue, name) == 0)
			unbind(&source);
	}
	return true;
}

Datum
cmq_unbind_dead_letter(PG_FUNCTION_ARGS)
{
	CmqDescription queue;
	char	   *name;

	cmq_begin_write("cmq_unbind_dead_letter()");
	name = cmq_queue_name_arg(fcinfo, 0);
	if (cmq_catalog_lock_queue(&queue, name, ExclusiveLock, true,
							   check_unbind) == CMQ_ROW_NONE)
		cmq_queue_report_unknown(name);
	if (queue.dead_letter_queue[0])
		unbind(&queue);
	PG_RETURN_VOID();
}
