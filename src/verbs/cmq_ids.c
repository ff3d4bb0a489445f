/*-------------------------------------------------------------------------
 *
 * cmq_ids.c
 *	  Message ids in arguments: those of other servers are refused.
 *
 * Where several servers have queues of one name (cmq_id_class.c), an id or a receipt handle
 * can come to the wrong one.  There it would look like one of a message that is gone, and
 * whoever acknowledges it would believe that it is done.  So it is an error, and the whole
 * call does nothing.
 *
 * What the queue has is its own, whatever its class: messages from before the server had a
 * class, and those that a restore or logical replication has brought.  So the id is looked
 * up before it is refused; ids of the server's own class cost nothing.
 *
 * Locks: those of cmq_message_rows.c, for ids of other classes alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "base/cmq_id_class.h"
#include "base/cmq_settings.h"
#include "store/cmq_by_id.h"
#include "store/cmq_leaf_rows.h"
#include "verbs/cmq_ids.h"

/* To be followed by cmq_ids_end(). */
void
cmq_ids_begin(CmqIds *ids, CmqQueue *queue)
{
	ids->queue = queue;
	ids->open = false;
}

/* Raise 22023 for the id of this time: another server has given it out. */
static void
refuse(CmqQueue *queue, TimestampTz time)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("message %lld of queue \"%s\" is of another server",
					(long long) cmq_time_to_msg_id(time), queue->name),
			 errdetail("Its id is of class %d (msg_id %% %d), and this server gives out ids of class %d.",
					   cmq_id_class_of(time), cmq_msg_id_step, cmq_msg_id_offset),
			 errhint("Make the call on the server whose cmq.msg_id_offset is %d.",
					 cmq_id_class_of(time))));
}

/* The same if another server has, for a caller that has not found the message. */
void
cmq_ids_check_missing(CmqQueue *queue, TimestampTz time)
{
	if (!cmq_id_class_is_own(time))
		refuse(queue, time);
}

/* Raises 22023 if another server has given out the id of this time. */
void
cmq_ids_check(CmqIds *ids, TimestampTz time)
{
	CmqQueue   *queue = ids->queue;

	if (likely(cmq_id_class_is_own(time)))
		return;
	if (!ids->open)
		cmq_message_rows_begin(&ids->messages, queue, RecoveryInProgress() ?
							   AccessShareLock : cmq_leaf_rows_delete_lock(queue));
	ids->open = true;
	if (!cmq_by_id_exists(queue, &ids->messages, time) && !ids->messages.unreadable)
		refuse(queue, time);
}

void
cmq_ids_end(CmqIds *ids)
{
	if (ids->open)
		cmq_message_rows_end(&ids->messages);
}

/* The ids in the argument msg_ids, as cmq_msg_ids_arg() returns them.  Raises 22023. */
int64 *
cmq_ids_arg(FunctionCallInfo fcinfo, int argno, CmqQueue *queue, int *nids)
{
	int64	   *result = cmq_msg_ids_arg(fcinfo, argno, queue->name, nids);
	CmqIds		ids;

	cmq_ids_begin(&ids, queue);
	for (int i = 0; i < *nids; i++)
	{
		TimestampTz time;

		if (cmq_msg_id_to_time(result[i], &time))
			cmq_ids_check(&ids, time);
	}
	cmq_ids_end(&ids);
	return result;
}
