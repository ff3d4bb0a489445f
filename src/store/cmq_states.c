/*-------------------------------------------------------------------------
 *
 * cmq_states.c
 *	  How many messages of a queue are in which state.
 *
 * Two tables say it: a pending row is of a message that is ready, delayed or in flight,
 * a rewind row of one that is history, or ready because a rewind brings it back.  A
 * table is read from end to end with one snapshot; what is delayed or in flight can also
 * be had from the primary key of the pending table alone.  What has expired is in no
 * state, nor is a message whose leaf is gone.
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

void
cmq_states_bounds(CmqStateBounds *bounds, CmqQueue *queue, TimestampTz now)
{
	bounds->queue = queue;
	bounds->now = now;
	bounds->expired_before = cmq_bounds_expired_before(queue, now);
	bounds->rewindable_since = cmq_bounds_rewindable_since(queue, now);
}

/* The state of a pending row that is not visible. */
static CmqState
state_of_hidden(TupleTableSlot *slot)
{
	return cmq_slot_int(slot, Anum_pending_receive_count) == 0 ?
		CMQ_IS_DELAYED : CMQ_IS_IN_FLIGHT;
}

/* The state of the message of the pending row in the slot. */
CmqState
cmq_state_of_pending(const CmqStateBounds *bounds, TupleTableSlot *slot)
{
	TimestampTz time = cmq_slot_time(slot, Anum_pending_enqueued_at);

	if (time < bounds->expired_before ||
		cmq_bounds_leaf(bounds->queue, time) == NULL)
		return CMQ_IS_NOTHING;
	return cmq_slot_time(slot, Anum_pending_visible_at) <= bounds->now ?
		CMQ_IS_READY : state_of_hidden(slot);
}

/* The same of the rewind row. */
CmqState
cmq_state_of_rewind(const CmqStateBounds *bounds, TupleTableSlot *slot)
{
	TimestampTz time = cmq_slot_time(slot, Anum_rewind_enqueued_at);

	if (time < bounds->expired_before)
		return CMQ_IS_NOTHING;
	if (cmq_slot_is_due(&bounds->queue->rewinding, slot))
		return CMQ_IS_DUE;
	return time >= bounds->rewindable_since &&
		cmq_slot_is_history(bounds->queue, slot) ? CMQ_IS_HISTORY : CMQ_IS_NOTHING;
}

/* Add the message of a pending row that is not visible. */
static void
add_hidden(CmqStates *states, TupleTableSlot *slot)
{
	if (state_of_hidden(slot) == CMQ_IS_DELAYED)
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

/* Add the pending rows that the snapshot sees. */
void
cmq_states_scan_pending(CmqStates *states, CmqQueue *queue, Snapshot snapshot,
						TimestampTz now)
{
	CmqStateBounds bounds;
	CmqScan		scan;

	cmq_states_bounds(&bounds, queue, now);
	cmq_scan_begin(&scan, queue, queue->pending, CMQ_PENDING, snapshot);
	while (cmq_scan_next(&scan))
	{
		TimestampTz time = cmq_slot_time(scan.slot, Anum_pending_enqueued_at);
		CmqState	state = cmq_state_of_pending(&bounds, scan.slot);

		states->earliest_row = Min(states->earliest_row, time);
		if (state == CMQ_IS_NOTHING)
			continue;
		states->earliest = Min(states->earliest, time);
		if (state == CMQ_IS_READY)
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
	CmqStateBounds bounds;

	cmq_states_bounds(&bounds, queue, now);
	for (int i = 0; i < queue->nleaves; i++)
	{
		CmqScan		scan;

		cmq_scan_begin(&scan, queue, queue->leaves[i].rewind, CMQ_REWIND,
					   snapshot);
		while (cmq_scan_next(&scan))
		{
			CmqState	state = cmq_state_of_rewind(&bounds, scan.slot);

			if (state == CMQ_IS_DUE)
			{
				states->ready++;
				states->first_due = Min(states->first_due,
										cmq_slot_time(scan.slot,
													  Anum_rewind_enqueued_at));
			}
			else if (state == CMQ_IS_HISTORY)
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
