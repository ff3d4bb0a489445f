/*-------------------------------------------------------------------------
 *
 * cmq_oldest.h
 *	  The earliest message that is not consumed, of queues with millions of
 *	  pending messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_OLDEST_H
#define CMQ_OLDEST_H

#include "datatype/timestamp.h"

#include "store/cmq_description.h"
#include "store/cmq_states.h"

extern bool cmq_oldest_is_small(CmqQueue *queue);
extern void cmq_oldest_count(CmqQueue *queue, TimestampTz now, bool numbers,
							 CmqStates *states);
extern TimestampTz cmq_oldest_look(CmqQueue *queue, TimestampTz now);
extern bool cmq_oldest_may_expire(CmqQueue *queue,
								  TimestampTz expired_before);
extern void cmq_oldest_read_all(CmqQueue *queue);
extern void cmq_oldest_advance(CmqQueue *queue);

#endif							/* CMQ_OLDEST_H */
