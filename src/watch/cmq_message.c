/*-------------------------------------------------------------------------
 *
 * cmq_message.c
 *	  The message of an id as a row.
 *
 * cmq_message() returns the row of the view cmq.q_<queue>_all for a msg_id, in the snapshot
 * of the statement that calls it, and reads the tables and not the view, as cmq_messages.c
 * does.  The id is enqueued_at.  A rewind row is found by its key, and so are most pending
 * rows: with visible_at = enqueued_at, or by an index that the queue's owner has added.  Else,
 * if the message exists, the pending table is searched: what is in flight or delayed, and
 * then what is ready, from what has become visible last on, because the message was
 * received or delayed.
 *
 * A search reads MAX_ENTRIES index entries at most.  It looks into the row of an entry only
 * if it has the right time.  If that does not find the message the call raises an error: no
 * row would say that there is none.
 *
 * No code of others runs.  Locks: AccessShare on the pending table and its indexes and on the
 * leaves of the message, which holds up only a drop of the queue or of a leaf.  It only
 * reads, and works on a standby.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sdir.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "base/cmq_names.h"
#include "memory/cmq_shared.h"
#include "store/cmq_bounds.h"
#include "store/cmq_by_id.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_history.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_ids.h"
#include "watch/cmq_message_row.h"

PG_FUNCTION_INFO_V1(cmq_message);

/* Of the pending table, in one call. */
#define MAX_ENTRIES 200000

/* A look for a message. */
typedef struct Look
{
	CmqQueue   *queue;
	TimestampTz time;			/* its enqueued_at */
	TimestampTz now;
	Snapshot	seen_by;
	CmqLeafRows rewind;
	CmqMessageRows messages;
	CmqMessageRow row;			/* points into the rows of rewind and messages */
	char		topic[NAMEDATALEN]; /* of its row */
} Look;

/* Has the message a rewind row?  *found says whether that is in the view. */
static bool
find_rewind(Look *look, bool *found)
{
	CmqQueue   *queue = look->queue;
	bool		exists = cmq_leaf_rows_find(&look->rewind, look->time);

	*found = false;
	if (exists)
	{
		TupleTableSlot *slot = look->rewind.table.slot;

		cmq_slot_topic(slot, Anum_rewind_topic, look->topic);
		if (cmq_slot_is_due(&queue->rewinding, slot))
		{
			*found = true;
			cmq_message_row_due(&look->row, slot);
		}
		else if (look->time >= cmq_bounds_rewindable_since(queue, look->now) &&
				 cmq_slot_is_history(queue, slot))
		{
			*found = true;
			cmq_message_row_history(&look->row, slot);
		}
	}
	return exists;
}

/* Search the entries behind this key for the message, and move the table to its row. */
static bool
search(Look *look, CmqTable *pending, const CmqPendingKey *behind, TimestampTz limit,
	   ScanDirection direction, int *nleft)
{
	CmqPendingKey key;

	cmq_table_behind(pending, behind, limit, direction);
	while (*nleft > 0 && cmq_table_next_entry(pending, direction, &key))
	{
		(*nleft)--;
		if (key.enqueued_at == look->time && cmq_table_sees_entry(pending))
			return true;
	}
	return false;
}

/* Raises 54000 if the search has ended before it has seen all. */
static bool
search_all(Look *look, CmqTable *pending)
{
	TimestampTz now = Max(look->now, look->time);
	CmqPendingKey behind = {now, DT_NOEND};
	int			nleft = MAX_ENTRIES;

	if (search(look, pending, &behind, DT_NOEND, ForwardScanDirection, &nleft) ||
		search(look, pending, &behind, look->time, BackwardScanDirection, &nleft))
		return true;
	if (nleft == 0)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("message %lld of queue \"%s\" was not found among the pending messages that were looked at",
						(long long) cmq_time_to_msg_id(look->time), look->queue->name),
				 errdetail("A call reads %d index entries, and there may be more.",
						   MAX_ENTRIES),
				 errhint("The owner of the queue can have each message found at once: CREATE INDEX ON %s (enqueued_at).",
						 cmq_relation_qualified(CMQ_PENDING_TABLE, look->queue->name))));
	return false;
}

/* May there be such a message?  Its ids alone are many. */
static bool
exists(Look *look)
{
	return cmq_by_id_exists(look->queue, &look->messages, look->time) ||
		look->messages.unreadable;
}

/* Has the message a pending row? */
static bool
find_pending(Look *look)
{
	CmqTable	pending;
	bool		found;

	if (!cmq_table_open(&pending, NULL, look->queue, look->queue->pending, CMQ_PENDING,
						AccessShareLock))
		return false;
	pending.seen_by = look->seen_by;
	found = cmq_table_find(&pending, look->time, look->time);
	if (!found && cmq_table_has_index_on(&pending, Anum_pending_enqueued_at))
		found = cmq_table_find_by(&pending, look->time);
	else if (!found && exists(look))
		found = search_all(look, &pending);
	if (found)
	{
		cmq_slot_topic(pending.slot, Anum_pending_topic, look->topic);
		cmq_message_row_pending(&look->row, pending.slot, look->now);
	}
	cmq_table_close(&pending);
	return found;
}

/* Is the message of look->time in the view?  Fills look->row. */
static bool
find(Look *look)
{
	bool		found;

	if (look->time < cmq_bounds_expired_before(look->queue, look->now))
		return false;
	cmq_message_row_init(&look->row, look->time);
	if (!find_rewind(look, &found))
		found = find_pending(look);
	if (found && cmq_message_rows_find(&look->messages, look->time, look->topic))
		cmq_message_row_message(&look->row, &look->messages);
	return found;
}

static void
begin_look(Look *look)
{
	cmq_leaf_rows_begin(&look->rewind, look->queue, CMQ_REWIND,
						AccessShareLock, NULL);
	look->rewind.seen_by = look->seen_by;
	cmq_message_rows_begin(&look->messages, look->queue, AccessShareLock);
	look->messages.seen_by = look->seen_by;
}

/* The row is good no more: nothing keeps the pages that it points into. */
static void
end_look(Look *look)
{
	cmq_message_rows_end(&look->messages);
	cmq_leaf_rows_end(&look->rewind);
}

Datum
cmq_message(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Look		look;

	cmq_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	look.queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_SELECT,
								AccessShareLock);
	cmq_require_arg(fcinfo, 1, "msg_id", "queue", look.queue->name);
	if (!cmq_msg_id_to_time(PG_GETARG_INT64(1), &look.time))
		return (Datum) 0;
	look.now = cmq_queue_now(look.queue);
	look.seen_by = GetActiveSnapshot();
	begin_look(&look);
	if (find(&look))
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, look.row.values,
							 look.row.isnull);
	else
		cmq_ids_check_missing(look.queue, look.time);
	end_look(&look);
	cmq_history_check(look.queue);
	return (Datum) 0;
}
