/*-------------------------------------------------------------------------
 *
 * cmq_history_rows.c
 *	  The history of a queue as rows, for scripts that have the queue's name as a value.
 *
 * cmq_history() returns what the view cmq.q_<queue>_history shows, in the snapshot of the
 * statement that calls it.  It reads the queue's tables and not the view, which the
 * owner of the queue can replace: so whoever reads queues of many owners by their names
 * runs nobody's code.  A value that is stored elsewhere, as long bodies are, is read when
 * the caller looks at it; the locks on the leaves keep it there.
 *
 * Locks: AccessShare on the pending table and leaves of the queue, which holds up only a
 * drop of the queue or of a leaf (cmq_history.c).  It only reads, and works on a standby.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/acl.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_shared.h"
#include "store/cmq_description.h"
#include "store/cmq_history.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_queue.h"
#include "store/cmq_table.h"

PG_FUNCTION_INFO_V1(cmq_history);

/* The columns, as the view has them. */
enum
{
	Anum_history_msg_id = 1,
	Anum_history_enqueued_at,
	Anum_history_first_received_at,
	Anum_history_deleted_at,
	Anum_history_deleted_by,
	Anum_history_receive_count,
	Anum_history_rewind_count,
	Anum_history_headers,
	Anum_history_body,
	Anum_history_message_group, /* in the views of ordered queues alone */
	Natts_history = 10
};

/* Return the row that the scan stands at.  Without its message it has no body. */
static void
return_row(ReturnSetInfo *rsinfo, CmqHistory *history)
{
	TupleTableSlot *rewind = history->rewind.slot;
	TupleTableSlot *message;
	Datum		values[Natts_history] = {0};
	bool		isnull[Natts_history] = {false};

#define VALUE(att) values[Anum_history_##att - 1]
#define NULLED(att) isnull[Anum_history_##att - 1]
#define COPY(slot, table, att) \
	VALUE(att) = slot_getattr(slot, Anum_##table##_##att, &NULLED(att))
	VALUE(msg_id) = Int64GetDatum(cmq_time_to_msg_id(history->time));
	VALUE(enqueued_at) = TimestampTzGetDatum(history->time);
	COPY(rewind, rewind, first_received_at);
	COPY(rewind, rewind, deleted_at);
	COPY(rewind, rewind, deleted_by);
	COPY(rewind, rewind, receive_count);
	COPY(rewind, rewind, rewind_count);
	NULLED(headers) = NULLED(body) = NULLED(message_group) = true;
	if (cmq_message_rows_find(&history->messages, history->time, history->topic))
	{
		message = history->messages.slot;
		COPY(message, messages, headers);
		COPY(message, messages, body);
		VALUE(message_group) = cmq_message_rows_group(&history->messages,
													  &NULLED(message_group));
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
}

Datum
cmq_history(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CmqQueue   *queue;
	CmqWindow	window;
	CmqHistory	history;

	cmq_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_SELECT,
						   AccessShareLock);
	cmq_times_args(fcinfo, 1, queue->name, &window);

	/* with rewind off the window is empty, as in the view */
	cmq_history_begin(&history, queue, &window, false, AccessShareLock);
	cmq_history_see_as(&history, GetActiveSnapshot());
	while (cmq_history_next(&history))
		return_row(rsinfo, &history);
	cmq_history_end(&history);
	return (Datum) 0;
}
