/*-------------------------------------------------------------------------
 *
 * cmq_clear.c
 *	  Clear a queue: remove what is pending for good.
 *
 * Pending rows are deleted one by one, in the order of their key, each with
 * its message; the history stays.  Like delete, clear waits for a transaction that
 * is changing a row: if that transaction commits, the message stays where it has
 * been put.  Batches of deletes take rows in the same order, so the two do not
 * deadlock.  Messages of sends that have not committed yet are not seen, and stay.
 * The time is in proportion to what is pending; memory does not grow.
 *
 * A rewind under way ends: what it has not brought back is history again.  Such
 * messages are not removed: they were consumed once, and can be rewound once more.
 *
 * Locks: the queue lock, RowExclusive on the pending table and on message leaves.
 * Abort: all messages are pending again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_rewind_log.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_rewind.h"

PG_FUNCTION_INFO_V1(cmq_clear_queue);

/* Returns how many messages were removed that had not expired. */
static int64
remove_pending(CmqQueue *queue)
{
	TimestampTz expired_before =
		cmq_bounds_expired_before(queue, cmq_clock_now(queue->shared));
	CmqPending	pending;
	CmqMessageRows messages;
	CmqPendingKey key;
	int64		n = 0;

	cmq_pending_open(&pending, queue, false);
	cmq_message_rows_begin(&messages, queue, RowExclusiveLock);
	cmq_pending_scan(&pending.table, NULL, DT_NOBEGIN, DT_NOEND);
	while (cmq_pending_next(&pending.table, DT_NOBEGIN, &key))
	{
		char		topic[NAMEDATALEN];

		cmq_slot_topic(pending.table.slot, Anum_pending_topic, topic);
		if (cmq_pending_take(&pending, true) &&
			cmq_message_rows_remove(&messages, key.enqueued_at, topic) &&
			key.enqueued_at >= expired_before)
			n++;
	}
	cmq_message_rows_end(&messages);
	cmq_pending_close(&pending);
	return n;
}

Datum
cmq_clear_queue(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	char	   *name;
	int64		n;

	cmq_begin_write("cmq_clear_queue()");
	name = cmq_queue_name_arg(fcinfo, 0);
	(void) cmq_queue_lock(name, ACL_UPDATE, ExclusiveLock);
	queue = cmq_queue_open(name, ACL_UPDATE, RowExclusiveLock);
	if (queue->rewinding.active)
		cmq_rewind_log_require_reason(queue);
	n = remove_pending(queue);

	queue = cmq_queue_again(queue);
	if (queue->rewinding.active)
		cmq_rewind_cancel(queue);
	PG_RETURN_INT64(n);
}
