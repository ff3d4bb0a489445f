/*-------------------------------------------------------------------------
 *
 * cmq_message_state.h
 *	  The state of the message of a time, for plans that read message tables alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_MESSAGE_STATE_H
#define CMQ_MESSAGE_STATE_H

#include "datatype/timestamp.h"

/* Sets of states, as an argument of cmq._in_states(). */
#define CMQ_STATE_PENDING 1
#define CMQ_STATE_DUE 2
#define CMQ_STATE_HISTORY 4

/* What a row of states says, as an argument of cmq._state_time() and its like. */
typedef enum CmqStateColumn
{
	CMQ_STATE_WORD = 1,			/* text */
	CMQ_STATE_FIRST_RECEIVED_AT,	/* times ... */
	CMQ_STATE_VISIBLE_AT,
	CMQ_STATE_DELETED_AT,
	CMQ_STATE_DELETED_BY,		/* text */
	CMQ_STATE_RECEIVE_COUNT,	/* integers ... */
	CMQ_STATE_REWIND_COUNT
} CmqStateColumn;
extern const char *cmq_pending_word(TimestampTz visible_at, int receive_count,
									TimestampTz now);

#endif							/* CMQ_MESSAGE_STATE_H */
