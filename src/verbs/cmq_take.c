/*-------------------------------------------------------------------------
 *
 * cmq_take.c
 *	  Take a message for the caller: deliver or consume it, and return it.
 *
 * A message is claimed by deleting its row, without ever waiting: if another transaction
 * is changing the row, or has changed it, the message is left to it.  Then
 *	- a delivery adds the pending row of the message in flight (cmq_pending.c)
 *	- what is consumed goes to the history at once, or is removed with rewind off
 *	  (cmq_delete.c).  It never is in flight, so it has no receipt handle, and costs no
 *	  second row and no second index entry.
 * So takers wait for nobody, cannot deadlock and never get the same message.  (An update
 * in place of delete and insert would be a little cheaper, but heap_update() always
 * waits.)
 *
 * The message is looked up before its row is claimed: a filter is compared with its
 * headers, and a message that cannot be read is not consumed.  The body is read after
 * that, so that takers that compete for large messages do not read them in vain.  In a
 * queue with damaged pages it is read before, in a subtransaction (cmq_damage.c); a message
 * that cannot be read, or is not there because it was removed by hand, is put off: it is
 * in flight for nobody, for a visibility timeout.
 *
 * A message whose leaf is gone has expired.
 *
 * Locks: RowExclusive on the pending table and on the leaf that is written, AccessShare
 * on message leaves that are only read; to the end of the transaction.  Abort: each row
 * that was claimed is there as it was.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_handle.h"
#include "base/cmq_try.h"
#include "memory/cmq_async.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"
#include "store/cmq_damage.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_delete.h"
#include "verbs/cmq_take.h"

/* What is known of a message before it is claimed. */
typedef enum Found
{
	GONE,						/* its leaf was dropped: it has expired */
	UNWANTED,					/* the filter does not fit */
	UNREADABLE,
	WANTED
} Found;

/*
 * Begin to take messages of a queue that the caller has opened for writes.  The request
 * stays until cmq_take_end(), which is to follow.
 */
void
cmq_take_begin(CmqTake *take, CmqQueue *queue, const CmqTakeRequest *request)
{
	memset(take, 0, sizeof(*take));
	take->queue = queue;
	take->request = request;
	if (request->consume)
	{
		/* rows are added for what is put off alone */
		bool		adds = cmq_notes_is_damaged(queue->shared);

		cmq_delete_begin(&take->consuming, queue, adds);
		take->pending = &take->consuming.pending;
		take->now = adds ?
			cmq_pending_set_times(take->pending, request->visibility_timeout) :
			take->consuming.now;
	}
	else
	{
		take->only_receives = cmq_async_before_receive();
		take->pending = &take->delivering;
		cmq_pending_open(take->pending, queue, true);
		take->now = cmq_pending_set_times(take->pending,
										  request->visibility_timeout);
	}
	cmq_message_rows_begin(&take->messages, queue, AccessShareLock);
	/* what is removed is read where it is removed: one look, one lock */
	if (request->consume && take->consuming.rows.kind == CMQ_MESSAGES)
		take->messages.own = &take->consuming.rows;
	take->context = AllocSetContextCreate(CurrentMemoryContext, "cmq take",
										  ALLOCSET_DEFAULT_SIZES);
	cmq_damage_begin_reading(&take->reading, queue);
}

/* Write what was claimed, and close all. */
void
cmq_take_end(CmqTake *take)
{
	cmq_damage_end_reading(&take->reading);
	/* code of the owner may have done what must not be lost */
	take->only_receives &= !take->pending->table.has_code;
	cmq_message_rows_end(&take->messages);
	if (take->request->consume)
		cmq_delete_end(&take->consuming);
	else
	{
		cmq_pending_flush(take->pending);
		cmq_pending_close(take->pending);
	}
	MemoryContextDelete(take->context);
}

/*
 * Count what was taken, and let the transaction commit as what it did allows; more: it
 * has also written other things.
 */
void
cmq_take_count(CmqTake *take, bool more)
{
	CmqSharedQueue *shared = take->queue->shared;

	if (!take->request->consume)
		cmq_async_after_receive(take->only_receives && !more);
	cmq_xact_count(shared, CMQ_RECEIVED, take->n);
	cmq_xact_count(shared, CMQ_REDELIVERED, take->nredelivered);
	cmq_xact_count(shared, CMQ_REWOUND, take->nrewound);
}

/* Does the filter, if there is one, fit the message in the slot? */
static bool
is_wanted(CmqTake *take, TupleTableSlot *slot)
{
	return !take->request->has_filter ||
		cmq_slot_headers_contain(slot, take->request->filter);
}

/*
 * Read body, headers and group of the message that was found.  The values are flat: toast
 * rows may be gone before the result is read.  copy: they also stay when the slot is closed.
 */
static void
read_values(CmqTake *take, const CmqMessageRows *messages, bool copy)
{
	TupleTableSlot *slot = messages->slot;
	MemoryContext old = MemoryContextSwitchTo(take->context);
	Datum		body = cmq_slot_body(slot);
	Datum		headers = slot_getattr(slot, Anum_messages_headers,
									   &take->no_headers);
	Datum		group = cmq_message_rows_group(messages, &take->no_group);

	take->body = PointerGetDatum(copy ? PG_DETOAST_DATUM_COPY(body) :
								 PG_DETOAST_DATUM_PACKED(body));
	if (!take->no_headers)
		take->headers = PointerGetDatum(copy ? PG_DETOAST_DATUM_COPY(headers) :
										PG_DETOAST_DATUM_PACKED(headers));
	if (!take->no_group)
		take->group = PointerGetDatum(copy ? PG_DETOAST_DATUM_COPY(group) :
									  PG_DETOAST_DATUM_PACKED(group));
	MemoryContextSwitchTo(old);
}

typedef struct TryRead
{
	CmqTake    *take;
	TimestampTz time;
	const char *topic;
	Found		found;
} TryRead;

/* Called in a subtransaction: what its abort gives back is opened and closed here. */
static void
try_read(const char *name, void *arg)
{
	TryRead    *try = arg;
	CmqTake    *take = try->take;
	CmqMessageRows messages;

	cmq_message_rows_begin(&messages, take->queue, take->messages.own->lockmode);
	if (cmq_message_rows_find(&messages, try->time, try->topic))
	{
		try->found = UNWANTED;
		if (is_wanted(take, messages.slot))
		{
			read_values(take, &messages, true);
			try->found = WANTED;
		}
	}
	cmq_message_rows_end(&messages);
}

/* Read a message, whatever its page is like. */
static Found
read_carefully(CmqTake *take, TimestampTz time, const char *topic)
{
	TryRead		try = {
		.take = take,
		.time = time,
		.topic = topic,
		.found = UNREADABLE
	};
	char	   *what = psprintf("reading message %lld",
								(long long) cmq_time_to_msg_id(time));

	if (!cmq_try(take->queue->name, what, try_read, &try, CMQ_TRY_WARN))
		try.found = UNREADABLE;
	take->copied = try.found == WANTED;
	pfree(what);
	return try.found;
}

/* Look a message up that has not been claimed; topic is what its row says. */
static Found
find_message(CmqTake *take, TimestampTz time, const char *topic)
{
	Found		found = UNREADABLE;

	take->copied = false;

	/*
	 * before the reading: a leaf that was changed fails the call, and is no
	 * damage
	 */
	if (!cmq_message_rows_open(&take->messages, time, topic))
		return GONE;
	if (unlikely(cmq_notes_is_damaged(take->queue->shared) && take->pending->adds))
		return read_carefully(take, time, topic);
	take->reading.message = time;
	if (cmq_message_rows_find(&take->messages, time, topic))
		found = is_wanted(take, take->messages.slot) ? WANTED : UNWANTED;
	take->reading.message = DT_NOBEGIN;
	return found;
}

/*
 * Set the columns of type cmq.message for the delivery that has left this row, but for
 * what is read from the message, body, headers and group, which become NULL.  A message that was consumed has no handle, and is never
 * visible again.
 */
void
cmq_take_columns(const CmqPendingRow *row, bool consumed, Datum *values,
				 bool *isnull)
{
	CmqHandle	handle;

	memset(isnull, false, Natts_message * sizeof(bool));
	isnull[Anum_message_body - 1] = isnull[Anum_message_headers - 1] = true;
	isnull[Anum_message_message_group - 1] = true;
	values[Anum_message_msg_id - 1] =
		Int64GetDatum(cmq_time_to_msg_id(row->enqueued_at));
	isnull[Anum_message_receipt_handle - 1] = consumed;
	if (!consumed)
	{
		cmq_pending_handle(row, &handle);
		values[Anum_message_receipt_handle - 1] =
			CStringGetTextDatum(cmq_handle_out(&handle));
	}
	values[Anum_message_enqueued_at - 1] = TimestampTzGetDatum(row->enqueued_at);
	values[Anum_message_first_received_at - 1] =
		TimestampTzGetDatum(row->first_received_at);
	values[Anum_message_next_visible_at - 1] =
		TimestampTzGetDatum(row->visible_at);
	isnull[Anum_message_next_visible_at - 1] = consumed;
	values[Anum_message_receive_count - 1] = Int32GetDatum(row->receive_count);
	values[Anum_message_rewind_count - 1] = Int32GetDatum(row->rewind_count);
}

/* Add the message, which has been claimed, to the result. */
static void
return_message(CmqTake *take, const CmqPendingRow *delivery)
{
	ReturnSetInfo *rsinfo = take->request->rsinfo;
	Datum		values[Natts_message];
	bool		isnull[Natts_message];
	MemoryContext old;

	if (!take->copied)
	{
		take->reading.message = delivery->enqueued_at;
		read_values(take, &take->messages, false);
		take->reading.message = DT_NOBEGIN;
	}
	old = MemoryContextSwitchTo(take->context);
	cmq_take_columns(delivery, take->request->consume, values, isnull);
	values[Anum_message_body - 1] = take->body;
	isnull[Anum_message_body - 1] = false;
	values[Anum_message_headers - 1] = take->headers;
	isnull[Anum_message_headers - 1] = take->no_headers;
	values[Anum_message_message_group - 1] = take->group;
	isnull[Anum_message_message_group - 1] = take->no_group;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	MemoryContextSwitchTo(old);

	take->n++;
	take->nredelivered += delivery->receive_count > 1;
	take->nrewound += delivery->receive_count == 1 && delivery->rewind_count > 0;
}

/*
 * Claim the message, whose row the pending table stands at, or this rewind table.  False
 * if another transaction has changed the row or is changing it.
 */
static bool
claim(CmqTake *take, CmqTable *rewind, bool consume, CmqPendingRow *row)
{
	if (consume)
		return rewind ? cmq_delete_due(&take->consuming, rewind, true, row) :
			cmq_delete_ready(&take->consuming, row);
	return rewind ? cmq_pending_deliver_due(take->pending, rewind, row) :
		cmq_pending_deliver(take->pending, row);
}

/* Take the message of this time; see cmq_take_ready() and cmq_take_due(). */
static bool
take_message(CmqTake *take, TimestampTz time, const char *topic, CmqTable *rewind)
{
	Found		found = find_message(take, time, topic);
	CmqPendingRow row;
	bool		taken = false;

	take->unwanted = found == UNWANTED;
	take->gone = found == GONE;
	if (found == WANTED && claim(take, rewind, take->request->consume, &row))
	{
		return_message(take, &row);
		taken = true;
	}
	else if (found == UNREADABLE && !take->pending->adds)
	{
		/* this consume adds no rows: the next one will, and put it off */
		cmq_notes_damage(take->queue->shared);
	}
	else if (found == UNREADABLE && claim(take, rewind, false, &row))
		take->nunreadable++;
	MemoryContextReset(take->context);
	if (take->pending->estate)
		ResetPerTupleExprContext(take->pending->estate);
	return taken;
}

/*
 * Take the message of the row that the pending table stands at.  False if it is not
 * wanted, not to be had or not to be read.
 */
bool
cmq_take_ready(CmqTake *take)
{
	TupleTableSlot *slot = take->pending->table.slot;
	char		topic[NAMEDATALEN];

	cmq_slot_topic(slot, Anum_pending_topic, topic);
	return take_message(take, cmq_slot_time(slot, Anum_pending_enqueued_at), topic,
						NULL);
}

/* The same for the row, due for the rewind under way, that this rewind table stands at. */
bool
cmq_take_due(CmqTake *take, CmqTable *rewind)
{
	char		topic[NAMEDATALEN];

	cmq_slot_topic(rewind->slot, Anum_rewind_topic, topic);
	return take_message(take, cmq_slot_time(rewind->slot, Anum_rewind_enqueued_at),
						topic, rewind);
}
