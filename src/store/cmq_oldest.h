/*-------------------------------------------------------------------------
 *
 * cmq_oldest.h
 *	  The earliest message that is not consumed, and the counts by state, of
 *	  queues with millions of pending messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_OLDEST_H
#define CMQ_OLDEST_H

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "store/cmq_description.h"

/* Numbers of messages by state. */
typedef struct CmqCounts
{
	int64		ready;
	int64		in_flight;
	int64		delayed;
	int64		history;
	TimestampTz min_msg_time;	/* of pending ones; DT_NOEND: none */
	TimestampTz oldest;			/* the same, expired ones included */
	TimestampTz first_due;		/* of rewound ones; DT_NOEND: none */
	TimestampTz ready_since;	/* of what is ready the longest; DT_NOEND: none */
} CmqCounts;

extern bool cmq_oldest_is_small(CmqQueue *queue);
extern void cmq_oldest_count(CmqQueue *queue, TimestampTz now, bool numbers,
							 CmqCounts *counts);
extern bool cmq_oldest_may_expire(CmqQueue *queue,
								  TimestampTz expired_before);
extern void cmq_oldest_settle(CmqQueue *queue);
extern void cmq_oldest_advance(CmqQueue *queue);
extern void cmq_count_pending(CmqQueue *queue, Snapshot snapshot,
							  TimestampTz now, CmqCounts *counts);

#endif							/* CMQ_OLDEST_H */
