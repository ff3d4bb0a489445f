/*-------------------------------------------------------------------------
 *
 * cmq_states.c
 *	  How many messages of a queue are in which state.
 *
 * Two tables say it: a pending row is of a message that is ready, delayed or in flight,
 * a rewind row of one that is history, or ready because a rewind brings it back.  A
 * table is read from end to end with one snapshot; what is delayed or in flight can also
 * be had from the primary key of the pending table alone.  What has expired is in no
 * state.
 *
 * Locks: AccessShare on the tables, to the end of a scan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_history.h"
#include "store/cmq_scan.h"
#include "store/cmq_shape.h"
#include "store/cmq_states.h"
#include "store/cmq_table.h"

const CmqStates cmq_states_none = {
	.earliest = DT_NOEND,
	.earliest_row = DT_NOEND,
	.first_due = DT_NOEND,
	.ready_since = DT_NOEND,
	.first_waiting = DT_NOEND,
	.first_received = DT_NOEND
};

/* Add the message of a pending row that is not visible. */
static void
add_hidden(CmqStates *states, TupleTableSlot *slot)
{
	if (cmq_slot_int(slot, Anum_pending_receive_count) == 0)
	{
		states->delayed++;
		return;
	}
	states->in_flight++;
	states->first_waiting = Min(states->first_waiting,
								cmq_slot_time(slot, Anum_pending_enqueued_at));
	states->first_received = Min(states->first_received,
								 cmq_slot_first_received(slot));
}

/*
 * Add the pending rows that the snapshot sees.  A message whose leaf is gone is in no
 * state.
 */
void
cmq_states_scan_pending(CmqStates *states, CmqQueue *queue, Snapshot snapshot,
						TimestampTz now)
{
	TimestampTz expired_before = cmq_bounds_expired_before(queue, now);
	CmqScan		scan;

	cmq_scan_begin(&scan, queue, queue->pending, CMQ_PENDING, snapshot);
	while (cmq_scan_next(&scan))
	{
		TimestampTz time = cmq_slot_time(scan.slot, Anum_pending_enqueued_at);

		states->earliest_row = Min(states->earliest_row, time);
		if (time < expired_before || cmq_bounds_leaf(queue, time) == NULL)
			continue;
		states->earliest = Min(states->earliest, time);
		if (cmq_slot_time(scan.slot, Anum_pending_visible_at) <= now)
		{
			states->ready++;
			states->ready_since = Min(states->ready_since,
									  cmq_slot_ready_since(scan.slot));
			states->first_waiting = Min(states->first_waiting, time);
		}
		else
			add_hidden(states, scan.slot);
	}
	cmq_scan_end(&scan);
}

/* Add the rewind rows that the snapshot sees. */
void
cmq_states_scan_rewind(CmqStates *states, CmqQueue *queue, Snapshot snapshot,
					   TimestampTz now)
{
	TimestampTz expired_before = cmq_bounds_expired_before(queue, now);
	TimestampTz since = cmq_bounds_rewindable_since(queue, now);

	for (int i = 0; i < queue->nleaves; i++)
	{
		CmqScan		scan;

		cmq_scan_begin(&scan, queue, queue->leaves[i].rewind, CMQ_REWIND,
					   snapshot);
		while (cmq_scan_next(&scan))
		{
			TimestampTz time = cmq_slot_time(scan.slot,
											 Anum_rewind_enqueued_at);

			if (time < expired_before)
				continue;
			if (cmq_slot_is_due(&queue->rewinding, scan.slot))
			{
				states->ready++;
				states->first_due = Min(states->first_due, time);
			}
			else if (time >= since && cmq_slot_is_history(queue, scan.slot))
				states->history++;
		}
		cmq_scan_end(&scan);
	}
}

/*
 * Add what is delayed or in flight: it stands right of now in the primary key of the
 * pending table.
 */
void
cmq_states_find_hidden(CmqStates *states, CmqTable *pending, TimestampTz now,
					   TimestampTz expired_before)
{
	cmq_table_range(pending, now + 1, DT_NOEND, false);
	while (cmq_table_next(pending))
	{
		if (cmq_slot_time(pending->slot,
						  Anum_pending_enqueued_at) >= expired_before)
			add_hidden(states, pending->slot);
		else
			states->hidden++;
	}
}
