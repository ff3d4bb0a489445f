/*-------------------------------------------------------------------------
 *
 * cmq_rewind.h
 *	  Rewind a queue to a point in time, and cancel that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_REWIND_H
#define CMQ_REWIND_H

#include "datatype/timestamp.h"

#include "store/cmq_description.h"

extern void cmq_rewind_range(CmqQueue *queue, TimestampTz min_msg_time,
							 TimestampTz first_due, TimestampTz *earliest,
							 TimestampTz *latest);
extern void cmq_rewind_cancel(CmqQueue *queue);
extern void cmq_rewind_advance(CmqQueue *queue);

#endif							/* CMQ_REWIND_H */
