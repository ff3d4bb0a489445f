/*-------------------------------------------------------------------------
 *
 * cmq_states.h
 *	  How many messages of a queue are in which state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_STATES_H
#define CMQ_STATES_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "store/cmq_description.h"
#include "store/cmq_table.h"

/* Numbers of messages, and times of enqueued_at; DT_NOEND: there is none. */
typedef struct CmqStates
{
	int64		ready;
	int64		in_flight;
	int64		delayed;
	int64		hidden;			/* of expired messages, not visible */
	int64		history;
	TimestampTz earliest;		/* pending message */
	TimestampTz earliest_row;	/* the same, expired ones included */
	TimestampTz first_due;		/* message that a rewind brings back */
	TimestampTz ready_since;	/* when the message that has been ready
								 * longest became so */
	TimestampTz first_waiting;	/* message that is ready or in flight */
	TimestampTz first_received; /* receive of those in flight */
} CmqStates;

/* The state of the message of a row. */
typedef enum CmqState
{
	CMQ_IS_NOTHING,				/* expired, forgotten or out of the window */
	CMQ_IS_READY,
	CMQ_IS_DELAYED,
	CMQ_IS_IN_FLIGHT,
	CMQ_IS_DUE,					/* ready, because a rewind brings it back */
	CMQ_IS_HISTORY
} CmqState;

/* What it depends on besides the row. */
typedef struct CmqStateBounds
{
	CmqQueue   *queue;
	TimestampTz now;
	TimestampTz expired_before;
	TimestampTz rewindable_since;
} CmqStateBounds;

extern const CmqStates cmq_states_none;

extern void cmq_states_bounds(CmqStateBounds *bounds, CmqQueue *queue,
							  TimestampTz now);
extern CmqState cmq_state_of_pending(const CmqStateBounds *bounds,
									 TupleTableSlot *slot);
extern CmqState cmq_state_of_rewind(const CmqStateBounds *bounds,
									TupleTableSlot *slot);

extern void cmq_states_scan_pending(CmqStates *states, CmqQueue *queue,
									Snapshot snapshot, TimestampTz now);
extern void cmq_states_scan_rewind(CmqStates *states, CmqQueue *queue,
								   Snapshot snapshot, TimestampTz now);
extern void cmq_states_find_hidden(CmqStates *states, CmqTable *pending,
								   TimestampTz now,
								   TimestampTz expired_before);

#endif							/* CMQ_STATES_H */
