/*-------------------------------------------------------------------------
 *
 * cmq_chosen.c
 *	  Receive or delete messages that wait, chosen by their ids.
 *
 * A message waits if it is ready or delayed, which includes those that a rewind under way
 * brings back.  One in flight has a receiver, and is left out.  So is one that another
 * transaction is taking at this moment: nobody waits.
 *
 * The primary key of the pending table begins with visible_at, and a message is known by
 * enqueued_at alone.  So each message is looked for
 *	1. at visible_at = enqueued_at, where those are that were never delayed or received,
 *	   and restored ones
 *	2. among the due rows
 *	3. if it still exists and is no history, by one scan of the pending table for all that
 *	   are left, from the earliest of them on
 * Ids of messages that are gone cost a few probes, and no scan.  Memory grows with the ids
 * alone.  What was found is looked at again when it is taken, in the order of production.
 *
 * Dead messages are not received: they are delivered no more (cmq_dead_letter.c).  They can
 * be deleted.
 *
 * Locks: those of cmq_take.c or cmq_delete.c; RowExclusive on the rewind leaves,
 * AccessShare on the message leaves.  Abort: the rows are there as they were.
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
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_table.h"
#include "verbs/cmq_dead_letter.h"
#include "verbs/cmq_delete.h"
#include "verbs/cmq_take.h"

PG_FUNCTION_INFO_V1(cmq_receive_messages);
PG_FUNCTION_INFO_V1(cmq_delete_messages);

/* Where a message is. */
typedef enum Place
{
	NOWHERE,					/* or not to be had */
	SOMEWHERE,					/* in the pending table */
	PENDING,					/* there, at this visible_at */
	DUE
} Place;

typedef struct Chosen
{
	TimestampTz time;			/* enqueued_at */
	Place		place;
	TimestampTz visible_at;
} Chosen;

/* Messages being looked for; ordered by time, each once. */
typedef struct Choice
{
	CmqQueue   *queue;
	CmqTable   *pending;
	CmqLeafRows rewind;
	TimestampTz now;
	int			n;
	Chosen	   *chosen;
} Choice;

/* Does the message wait whose pending row the table stands at? */
static bool
waits(CmqTable *pending, TimestampTz now)
{
	return !pending->busy &&
		(cmq_slot_int(pending->slot, Anum_pending_receive_count) == 0 ||
		 cmq_slot_time(pending->slot, Anum_pending_visible_at) <= now);
}

/* The times of these ids, but of messages that have expired. */
static void
set_times(Choice *choice, const int64 *ids, int nids)
{
	TimestampTz expired_before = cmq_bounds_expired_before(choice->queue,
														   choice->now);

	choice->chosen = palloc(sizeof(Chosen) * Max(nids, 1));
	for (int i = 0; i < nids; i++)
	{
		Chosen	   *chosen = &choice->chosen[choice->n];

		if (cmq_msg_id_to_time(ids[i], &chosen->time) &&
			chosen->time >= expired_before)
			choice->n++;
	}
}

/* Look for a message where most are; messages are the leaves, to see whether it exists. */
static void
look_first(Choice *choice, Chosen *chosen, CmqLeafRows *messages)
{
	CmqTable   *pending = choice->pending;
	CmqLeafRows *rewind = &choice->rewind;

	chosen->place = NOWHERE;
	if (cmq_table_find(pending, chosen->time, chosen->time))
	{
		if (waits(pending, choice->now))
		{
			chosen->place = PENDING;
			chosen->visible_at = chosen->time;
		}
	}
	else if (choice->queue->rewind_seconds > 0 &&
			 cmq_leaf_rows_find(rewind, chosen->time))
	{
		if (!rewind->table.busy &&
			cmq_slot_is_due(&choice->queue->rewinding, rewind->table.slot))
			chosen->place = DUE;
	}
	else if (cmq_leaf_rows_find(messages, chosen->time))
		chosen->place = SOMEWHERE;
}

static int
compare(const void *a, const void *b)
{
	TimestampTz x = ((const Chosen *) a)->time;
	TimestampTz y = ((const Chosen *) b)->time;

	return x < y ? -1 : x > y;
}

/* Find nleft messages that are somewhere in the pending table, none before first. */
static void
scan_pending(Choice *choice, int nleft, TimestampTz first)
{
	CmqTable   *pending = choice->pending;

	cmq_table_range(pending, first, DT_NOEND, true);
	while (nleft > 0 && cmq_table_next(pending))
	{
		Chosen		key = {
			.time = cmq_slot_time(pending->slot, Anum_pending_enqueued_at)
		};
		Chosen	   *chosen = bsearch(&key, choice->chosen, choice->n,
									 sizeof(Chosen), compare);

		if (chosen == NULL || chosen->place != SOMEWHERE)
			continue;
		nleft--;
		chosen->place = waits(pending, choice->now) ? PENDING : NOWHERE;
		chosen->visible_at = cmq_slot_time(pending->slot,
										   Anum_pending_visible_at);
	}
}

/*
 * Find messages with these ids, which are ordered; the pending table is open.  To be
 * followed by choice_end().
 */
static void
choice_begin(Choice *choice, CmqQueue *queue, CmqTable *pending, TimestampTz now,
			 const int64 *ids, int nids)
{
	CmqLeafRows messages;
	TimestampTz first = DT_NOEND;
	int			nleft = 0;

	memset(choice, 0, sizeof(*choice));
	choice->queue = queue;
	choice->pending = pending;
	choice->now = now;
	set_times(choice, ids, nids);
	cmq_leaf_rows_begin(&choice->rewind, queue, CMQ_REWIND, RowExclusiveLock, NULL);
	cmq_leaf_rows_begin(&messages, queue, CMQ_MESSAGES, AccessShareLock, NULL);
	for (int i = 0; i < choice->n; i++)
	{
		look_first(choice, &choice->chosen[i], &messages);
		if (choice->chosen[i].place == SOMEWHERE && nleft++ == 0)
			first = choice->chosen[i].time;
	}
	cmq_leaf_rows_end(&messages);
	if (nleft > 0)
		scan_pending(choice, nleft, first);
}

static void
choice_end(Choice *choice)
{
	cmq_leaf_rows_end(&choice->rewind);
}

/*
 * Does the message still wait where it was found?  Then the pending table stands at its
 * row, or choice->rewind.table does if it is due.
 */
static bool
is_there(Choice *choice, const Chosen *chosen)
{
	if (chosen->place == PENDING)
		return cmq_table_find(choice->pending, chosen->visible_at, chosen->time) &&
			waits(choice->pending, choice->now);
	return chosen->place == DUE &&
		cmq_leaf_rows_find(&choice->rewind, chosen->time) &&
		cmq_slot_is_due(&choice->queue->rewinding, choice->rewind.table.slot);
}

Datum
cmq_receive_messages(PG_FUNCTION_ARGS)
{
	CmqTakeRequest request = {0};
	CmqQueue   *queue;
	CmqTake		take;
	Choice		choice;
	int64	   *ids;
	int			nids;

	cmq_begin_write("cmq_receive_messages()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	request.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_DELETE,
						   RowExclusiveLock);
	ids = cmq_msg_ids_arg(fcinfo, 1, queue->name, &nids);
	request.visibility_timeout =
		cmq_int_arg(fcinfo, 2, "visibility_timeout", CMQ_VISIBILITY_MIN,
					CMQ_VISIBILITY_MAX, queue->visibility_timeout, true,
					queue->name);

	cmq_take_begin(&take, queue, &request);
	choice_begin(&choice, queue, &take.pending->table, take.now, ids, nids);
	for (int i = 0; i < choice.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_there(&choice, &choice.chosen[i]))
			continue;
		if (choice.chosen[i].place == DUE)
			(void) cmq_take_due(&take, &choice.rewind.table);
		else if (cmq_dead_letter_reason(queue, take.pending->table.slot,
										take.now) == NULL)
			(void) cmq_take_ready(&take);
	}
	choice_end(&choice);
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
	Choice		choice;
	int64	   *ids;
	int			nids;

	cmq_begin_write("cmq_delete_messages()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_UPDATE,
						   RowExclusiveLock);
	ids = cmq_msg_ids_arg(fcinfo, 1, queue->name, &nids);

	cmq_delete_begin(&state, queue, false);
	choice_begin(&choice, queue, &state.pending.table, state.now, ids, nids);
	for (int i = 0; i < choice.n; i++)
	{
		Chosen	   *chosen = &choice.chosen[i];
		Datum		id = Int64GetDatum(cmq_time_to_msg_id(chosen->time));
		bool		isnull = false;
		CmqPendingRow row;

		CHECK_FOR_INTERRUPTS();
		if (is_there(&choice, chosen) &&
			(chosen->place == DUE ?
			 cmq_delete_due(&state, &choice.rewind.table, false, &row) :
			 cmq_delete_row(&state, false)))
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &id, &isnull);
	}
	choice_end(&choice);
	cmq_delete_end(&state);
	return (Datum) 0;
}
