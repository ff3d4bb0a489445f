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
#include "memory/cmq_shared.h"
#include "store/cmq_description.h"
#include "store/cmq_history.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_queue.h"
#include "watch/cmq_message_row.h"

PG_FUNCTION_INFO_V1(cmq_history);

/* The columns, as the view has them: all that a message that is history can have. */
static const int columns[] = {
	Anum_message_msg_id,
	Anum_message_enqueued_at,
	Anum_message_first_received_at,
	Anum_message_deleted_at,
	Anum_message_deleted_by,
	Anum_message_receive_count,
	Anum_message_rewind_count,
	Anum_message_headers,
	Anum_message_body,
	Anum_message_message_group, /* in the views of ordered queues alone */
};

/* Return the row that the scan stands at.  Without its message it has no body. */
static void
return_row(ReturnSetInfo *rsinfo, CmqHistory *history)
{
	CmqMessageRow row;
	Datum		values[lengthof(columns)];
	bool		isnull[lengthof(columns)];

	cmq_message_row_init(&row, history->time);
	cmq_message_row_deletion(&row, history->rewind.slot);
	if (cmq_message_rows_find(&history->messages, history->time, history->topic))
		cmq_message_row_message(&row, &history->messages);
	for (int i = 0; i < lengthof(columns); i++)
	{
		values[i] = row.values[columns[i] - 1];
		isnull[i] = row.isnull[columns[i] - 1];
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
