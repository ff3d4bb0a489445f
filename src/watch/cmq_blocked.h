/*-------------------------------------------------------------------------
 *
 * cmq_blocked.h
 *	  How many groups of an ordered queue wait for a message in flight.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_BLOCKED_H
#define CMQ_BLOCKED_H

#include "datatype/timestamp.h"

#include "store/cmq_description.h"
#include "store/cmq_table.h"

/* With more groups in flight than this nobody counts. */
#define CMQ_BLOCKED_MAX 10000

extern int64 cmq_blocked_count(CmqQueue *queue, CmqTable *pending,
							   TimestampTz now, TimestampTz floor,
							   TimestampTz due_floor);

#endif							/* CMQ_BLOCKED_H */
