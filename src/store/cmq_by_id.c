/*-------------------------------------------------------------------------
 *
 * cmq_by_id.c
 *	  Find the pending rows of messages that are known by their ids alone.
 *
 * An id is enqueued_at, and the primary key of the pending table begins with visible_at.
 * So each message is looked for
 *	1. where this backend has delivered it (cmq_recent.c)
 *	2. by an index on enqueued_at, if the owner of the queue has added one; this settles it
 *	3. at visible_at = enqueued_at, where those are that were never delayed or received,
 *	   and restored ones
 *	4. if it still exists and has no rewind row, by a scan of the pending table for all that
 *	   are left: first of what is in flight or delayed, and then of the rest, from the
 *	   earliest of them on
 * Ids of messages that are gone cost a few probes, and no scan.
 *
 * What is found may change at once, unless the caller's transaction changes it: whoever
 * takes a row looks at it again.
 *
 * Locks: on the pending table those of the caller; AccessShare on leaves, but the lock that
 * the caller asks for on those that a delete writes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "memory/cmq_notes.h"
#include "store/cmq_by_id.h"
#include "store/cmq_damage.h"
#include "store/cmq_description.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_recent.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

/* The table stands at the row of the message. */
static void
note(CmqTable *pending, CmqById *message)
{
	message->found = true;
	cmq_pending_row(pending->slot, &message->row);
}

/* Look for a message without a scan; true if that settles where it is. */
static bool
probe(CmqTable *pending, CmqById *message)
{
	ItemPointer tid = cmq_recent_find_message(RelationGetRelid(pending->rel),
											  message->time);
	bool		settled = true;

	message->found = false;
	if (tid && cmq_table_fetch(pending, tid) &&
		cmq_slot_time(pending->slot, Anum_pending_enqueued_at) == message->time)
		note(pending, message);
	else if (cmq_table_has_index_on(pending, Anum_pending_enqueued_at))
	{
		/*
		 * Twice: a delivery that commits meanwhile may have hidden its new
		 * row from the first look, and its old one.
		 */
		if (cmq_table_find_by(pending, message->time) ||
			cmq_table_find_by(pending, message->time))
			note(pending, message);
	}
	else if (cmq_table_find(pending, message->time, message->time))
		note(pending, message);
	else
		settled = false;
	return settled;
}

static int
compare(const void *a, const void *b)
{
	TimestampTz x = ((const CmqById *) a)->time;
	TimestampTz y = ((const CmqById *) b)->time;

	return x < y ? -1 : x > y;
}

/* Scan rows with visible_at in [from, until] for nleft messages; returns how many are left. */
static int
scan(CmqTable *pending, TimestampTz from, TimestampTz until, CmqById *messages, int n,
	 int nleft)
{
	cmq_table_range(pending, from, until, true);
	while (nleft > 0 && cmq_table_next(pending))
	{
		CmqById		key = {
			.time = cmq_slot_time(pending->slot, Anum_pending_enqueued_at)
		};
		CmqById    *message = bsearch(&key, messages, n, sizeof(CmqById), compare);

		if (message && message->wanted && !message->found)
		{
			note(pending, message);
			nleft--;
		}
	}
	return nleft;
}

/*
 * Is there a message of this time?  Of a queue with damaged pages none is read for that: the
 * leaf is enough then.
 */
bool
cmq_by_id_exists(CmqQueue *queue, CmqMessageRows *bodies, TimestampTz time)
{
	CmqReading	reading;
	bool		found;

	/* in recovery nobody notes damage */
	if (queue->shared == NULL)
		return cmq_message_rows_find_any(bodies, time);
	if (!cmq_message_rows_open(bodies, time, ""))
		return false;
	if (cmq_notes_is_damaged(queue->shared))
		return true;
	cmq_damage_begin_reading(&reading, queue);
	reading.message = time;
	found = cmq_message_rows_find_any(bodies, time);
	cmq_damage_end_reading(&reading);
	return found;
}

/*
 * Find the pending rows of messages, which are ordered by time, each once.  The caller has
 * the pending table open.  lockmode is for leaves that a delete writes: a caller that will
 * write them asks for that now, because to get a stronger lock later can be a deadlock.
 */
void
cmq_by_id_find(CmqQueue *queue, CmqTable *pending, TimestampTz now, LOCKMODE lockmode,
			   CmqById *messages, int n)
{
	bool		rewind_on = queue->rewind_seconds > 0;
	CmqLeafRows rewind;
	CmqMessageRows bodies;
	TimestampTz first = DT_NOEND;
	int			nleft = 0;

	cmq_leaf_rows_begin(&rewind, queue, CMQ_REWIND, lockmode, NULL);
	cmq_message_rows_begin(&bodies, queue, rewind_on ? AccessShareLock : lockmode);
	for (int i = 0; i < n; i++)
	{
		TimestampTz time = messages[i].time;

		messages[i].wanted = !probe(pending, &messages[i]) &&
			!(rewind_on && cmq_leaf_rows_find(&rewind, time)) &&
			cmq_by_id_exists(queue, &bodies, time);
		if (messages[i].wanted && nleft++ == 0)
			first = time;
	}
	cmq_message_rows_end(&bodies);
	cmq_leaf_rows_end(&rewind);
	if (nleft > 0)
		nleft = scan(pending, Max(first, now + 1), DT_NOEND, messages, n, nleft);
	if (nleft > 0)
		nleft = scan(pending, first, now, messages, n, nleft);
	/* some may have been received between the two */
	if (nleft > 0)
		(void) scan(pending, Max(first, now + 1), DT_NOEND, messages, n, nleft);
}
