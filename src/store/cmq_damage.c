/*-------------------------------------------------------------------------
 *
 * cmq_damage.c
 *	  Messages that cannot be read: one bad page must not stop a queue.
 *
 * A receive takes the message that stands first.  If its body cannot be read,
 * because a page has a wrong checksum or a file is gone, the call fails, the
 * message stands first again, and nobody would get any other.  So the error is
 * noticed (by an error context, which costs nothing until there is one) and the
 * queue's shared entry says "damaged".  From then on receives read each message
 * in a subtransaction.  A message that cannot be read is claimed, and in flight
 * for its visibility timeout, as if it had been delivered; the receive warns of it
 * by name, and goes on with the next.  So no message is lost: it comes back, in case
 * the page has been repaired, and is tried no more often than that.
 *
 * What is noticed: the errors of a damaged table (class XX, also internal
 * errors, which values without checksum cause), of the disk, of a file that is
 * missing, and a message without a body; and by a consume a message that is not there.
 *
 * The note stays until the server is restarted, also when the transaction aborts:
 * reading in subtransactions is a little slower and otherwise the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/cmq_handle.h"
#include "memory/cmq_notes.h"
#include "store/cmq_damage.h"
#include "store/cmq_description.h"

static bool
is_damage(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_INTERNAL_ERROR ||
		sqlerrcode == ERRCODE_IO_ERROR ||
		sqlerrcode == ERRCODE_UNDEFINED_FILE ||
		sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

static void
on_error(void *arg)
{
	CmqReading *reading = arg;

	if (reading->message == DT_NOBEGIN || !is_damage(geterrcode()))
		return;
	cmq_notes_damage(reading->queue->shared);
	errcontext("message %lld of queue \"%s\"",
			   (long long) cmq_time_to_msg_id(reading->message),
			   reading->queue->name);
}

/*
 * From here to cmq_damage_end_reading() an error that comes while reading->message is set has
 * the queue noted as damaged.
 */
void
cmq_damage_begin_reading(CmqReading *reading, CmqQueue *queue)
{
	reading->queue = queue;
	reading->message = DT_NOBEGIN;
	reading->context.callback = on_error;
	reading->context.arg = reading;
	reading->context.previous = error_context_stack;
	error_context_stack = &reading->context;
}

void
cmq_damage_end_reading(CmqReading *reading)
{
	error_context_stack = reading->context.previous;
}
