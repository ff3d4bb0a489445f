/*-------------------------------------------------------------------------
 *
 * cmq_chosen.c
 *	  Receive or delete messages that wait, chosen by their ids.
 *
 * They are found by cmq_find.c, and looked at again when they are taken, in the order of
 * production.  What does not wait is left out.
 *
 * Dead messages are not received: they are delivered no more (cmq_dead_letter.c).  They can
 * be deleted.  A delayed message is not dead, however old it is.
 *
 * In an ordered queue a message of a group is received if all before it in its group are,
 * by the same call or before (cmq_group_take.c).
 *
 * A paused queue delivers none of them (cmq_pause.c), but they can be deleted.
 *
 * Locks: those of cmq_find.c, and of cmq_take.c or cmq_delete.c.  Abort: the rows are there
 * as they were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lockdefs.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_shared.h"
#include "store/cmq_description.h"
#include "store/cmq_find.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_dead_letter.h"
#include "verbs/cmq_delete.h"
#include "verbs/cmq_ids.h"
#include "verbs/cmq_ordered.h"
#include "verbs/cmq_take.h"

PG_FUNCTION_INFO_V1(cmq_receive_messages);
PG_FUNCTION_INFO_V1(cmq_delete_messages);

/* Is the message dead whose pending row the table stands at, and which waits? */
static bool
is_dead(CmqQueue *queue, CmqTable *pending, TimestampTz now)
{
	return cmq_slot_time(pending->slot, Anum_pending_visible_at) <= now &&
		cmq_dead_letter_reason(queue, pending->slot, now) != NULL;
}

/* Receive what still waits; of a group what nothing else of it has to be done before. */
static void
receive_found(CmqTake *take, CmqFind *find)
{
	CmqOrderedChoice *choice = take->queue->ordered ?
		cmq_ordered_choose_begin(take, find) : NULL;

	for (int i = 0; i < find->n; i++)
	{
		bool		due = find->found[i].place == CMQ_WAITS_DUE;
		CmqTable   *table = due ? &find->rewind.table : &take->pending->table;

		CHECK_FOR_INTERRUPTS();
		if (!cmq_find_again(find, &find->found[i]) ||
			(choice && cmq_ordered_choose(choice, table)))
			continue;
		if (due)
			(void) cmq_take_due(take, table);
		else if (!is_dead(take->queue, table, take->now))
			(void) cmq_take_ready(take);
	}
	if (choice)
		cmq_ordered_choose_end(choice);
}

Datum
cmq_receive_messages(PG_FUNCTION_ARGS)
{
	CmqTakeRequest request = {0};
	CmqQueue   *queue;
	CmqTake		take;
	CmqFind		find;
	int64	   *ids;
	int			nids;

	cmq_begin_write("cmq_receive_messages()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	request.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_DELETE,
						   RowExclusiveLock);
	ids = cmq_ids_arg(fcinfo, 1, queue, &nids);
	request.visibility_timeout =
		cmq_int_arg(fcinfo, 2, "visibility_timeout", CMQ_VISIBILITY_MIN,
					CMQ_VISIBILITY_MAX, queue->visibility_timeout, true,
					queue->name);

	if (cmq_is_paused(queue))
		return (Datum) 0;
	cmq_take_begin(&take, queue, &request);
	cmq_find_begin(&find, queue, &take.pending->table, take.now,
				   queue->rewinding.active ? RowExclusiveLock : AccessShareLock,
				   ids, nids);
	receive_found(&take, &find);
	cmq_find_end(&find);
	cmq_take_end(&take);
	if (take.n + take.nunreadable > 0)
		cmq_take_count(&take, false);
	return (Datum) 0;
}

Datum
cmq_delete_messages(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CmqQueue   *queue;
	CmqDelete	state;
	CmqFind		find;
	int64	   *ids;
	int			nids;

	cmq_begin_write("cmq_delete_messages()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_UPDATE,
						   RowExclusiveLock);
	ids = cmq_ids_arg(fcinfo, 1, queue, &nids);

	cmq_delete_begin(&state, queue, false);
	cmq_find_begin(&find, queue, &state.pending.table, state.now,
				   RowExclusiveLock, ids, nids);
	for (int i = 0; i < find.n; i++)
	{
		CmqFound   *found = &find.found[i];
		Datum		id = Int64GetDatum(cmq_time_to_msg_id(found->time));
		bool		isnull = false;
		CmqPendingRow row;

		CHECK_FOR_INTERRUPTS();
		if (cmq_find_again(&find, found) &&
			(found->place == CMQ_WAITS_DUE ?
			 cmq_delete_due(&state, &find.rewind.table, false, &row) :
			 cmq_delete_row(&state, false)))
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &id, &isnull);
	}
	cmq_find_end(&find);
	cmq_delete_end(&state);
	return (Datum) 0;
}
