/*-------------------------------------------------------------------------
 *
 * cmq_deliveries_of.c
 *	  The deliveries of messages, for clients that know the ids of messages alone.
 *
 * A client that has a message's id and no receipt handle can name what it has received by
 * means of this: examples/pgmq.sql does.  A receipt handle is no secret to a role that may
 * receive; what it names is looked at again when it is used, so a delivery that has ended
 * meanwhile costs nothing but an answer that it is stale.
 *
 * A message that was received and is ready again has a delivery, until it is received anew.
 * So has one that another transaction is receiving or deleting at this moment: whoever uses
 * the handle waits for it.
 *
 * Locks: AccessShare on the pending table and on leaves.  It only reads.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lockdefs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_shared.h"
#include "store/cmq_by_id.h"
#include "store/cmq_description.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_ids.h"
#include "verbs/cmq_take.h"

PG_FUNCTION_INFO_V1(cmq_deliveries_of);

/* Add a delivery to the result; messages are the leaves to read it from, or NULL. */
static void
return_delivery(ReturnSetInfo *rsinfo, const CmqPendingRow *row,
				CmqMessageRows *messages)
{
	Datum		values[Natts_message];
	bool		isnull[Natts_message];

	cmq_take_columns(row, false, values, isnull);
	if (messages && cmq_message_rows_find(messages, row->enqueued_at, row->topic))
	{
		TupleTableSlot *slot = messages->slot;

		values[Anum_message_body - 1] = cmq_slot_body(slot);
		isnull[Anum_message_body - 1] = false;
		values[Anum_message_headers - 1] =
			slot_getattr(slot, Anum_messages_headers,
						 &isnull[Anum_message_headers - 1]);
		values[Anum_message_message_group - 1] =
			cmq_message_rows_group(messages, &isnull[Anum_message_message_group - 1]);
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
}

Datum
cmq_deliveries_of(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CmqQueue   *queue;
	CmqTable	pending;
	CmqMessageRows leaves;
	CmqById    *messages;
	int64	   *ids;
	int			nids;
	int			n = 0;
	bool		contents;

	cmq_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_DELETE,
						   AccessShareLock);
	ids = cmq_ids_arg(fcinfo, 1, queue, &nids);
	cmq_require_arg(fcinfo, 2, "contents", "queue", queue->name);
	contents = PG_GETARG_BOOL(2);

	messages = palloc(sizeof(CmqById) * Max(nids, 1));
	for (int i = 0; i < nids; i++)
		n += cmq_msg_id_to_time(ids[i], &messages[n].time);
	if (!cmq_table_open(&pending, NULL, queue, queue->pending, CMQ_PENDING,
						AccessShareLock))
		elog(ERROR, "pending table of queue \"%s\" vanished", queue->name);
	cmq_by_id_find(queue, &pending, cmq_queue_now(queue), AccessShareLock, messages,
				   n);
	cmq_table_close(&pending);

	cmq_message_rows_begin(&leaves, queue, AccessShareLock);
	for (int i = 0; i < n; i++)
	{
		if (messages[i].found && messages[i].row.receive_count > 0)
			return_delivery(rsinfo, &messages[i].row, contents ? &leaves : NULL);
	}
	cmq_message_rows_end(&leaves);
	return (Datum) 0;
}
