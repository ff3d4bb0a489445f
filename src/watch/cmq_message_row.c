/*-------------------------------------------------------------------------
 *
 * cmq_message_row.c
 *	  A message of a queue as a row, with the columns of the view cmq.q_<queue>_all.
 *
 * For functions that return what the view shows, and read the tables of the queue: a caller
 * that does not trust the queue's owner must not read the view.  The text of the view is in
 * cmq_create.c; sql/messages compares the two.
 *
 * Values that are stored elsewhere, as long bodies are, stay there: who looks at them reads
 * them.  The lock that the caller has on the leaf keeps them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_handle.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "watch/cmq_message_row.h"
#include "watch/cmq_message_state.h"

#define VALUE(att) row->values[Anum_message_##att - 1]
#define NULLED(att) row->isnull[Anum_message_##att - 1]
#define SET(att, datum) (VALUE(att) = (datum), NULLED(att) = false)
#define COPY(table, att) \
	VALUE(att) = slot_getattr(slot, Anum_##table##_##att, &NULLED(att))

/* A row that says which message it is, and no more. */
void
cmq_message_row_init(CmqMessageRow *row, TimestampTz enqueued_at)
{
	memset(row->isnull, true, sizeof(row->isnull));
	SET(msg_id, Int64GetDatum(cmq_time_to_msg_id(enqueued_at)));
	SET(enqueued_at, TimestampTzGetDatum(enqueued_at));
}

static void
set_state(CmqMessageRow *row, const char *word)
{
	SET(state, CStringGetTextDatum(word));
}

/* What the pending row in the slot says of the message, at this time of the queue clock. */
void
cmq_message_row_pending(CmqMessageRow *row, TupleTableSlot *slot, TimestampTz now)
{
	TimestampTz visible_at = cmq_slot_time(slot, Anum_pending_visible_at);
	int			receive_count = cmq_slot_int(slot, Anum_pending_receive_count);

	set_state(row, cmq_pending_word(visible_at, receive_count, now));
	if (receive_count > 0)
		COPY(pending, first_received_at);
	COPY(pending, visible_at);
	COPY(pending, receive_count);
	COPY(pending, rewind_count);
}

/* The same for a rewind row of a message that the rewind under way brings back. */
void
cmq_message_row_due(CmqMessageRow *row, TupleTableSlot *slot)
{
	set_state(row, "ready");
	SET(visible_at, VALUE(enqueued_at));
	SET(receive_count, Int32GetDatum(0));
	SET(rewind_count,
		Int32GetDatum(cmq_slot_int(slot, Anum_rewind_rewind_count) + 1));
}

/* The same for a rewind row that is history, but for the state. */
void
cmq_message_row_deletion(CmqMessageRow *row, TupleTableSlot *slot)
{
	COPY(rewind, first_received_at);
	COPY(rewind, deleted_at);
	COPY(rewind, deleted_by);
	COPY(rewind, receive_count);
	COPY(rewind, rewind_count);
}

/* The same with the state, which takes memory for each row. */
void
cmq_message_row_history(CmqMessageRow *row, TupleTableSlot *slot)
{
	set_state(row, "deleted");
	cmq_message_row_deletion(row, slot);
}

/* The message itself, which has been found. */
void
cmq_message_row_message(CmqMessageRow *row, const CmqMessageRows *messages)
{
	TupleTableSlot *slot = messages->slot;

	COPY(messages, headers);
	COPY(messages, body);
	VALUE(message_group) = cmq_message_rows_group(messages, &NULLED(message_group));
}
