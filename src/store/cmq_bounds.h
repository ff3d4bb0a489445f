/*-------------------------------------------------------------------------
 *
 * cmq_bounds.h
 *	  Bounds of time: what has expired, what is history, what is due.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_BOUNDS_H
#define CMQ_BOUNDS_H

#include "datatype/timestamp.h"

#include "memory/cmq_floor.h"
#include "store/cmq_description.h"

extern TimestampTz cmq_bounds_expired_before(CmqQueue *queue, TimestampTz now);
extern TimestampTz cmq_bounds_rewindable_since(CmqQueue *queue,
											   TimestampTz now);
extern void cmq_bounds_begin_floor(CmqFloorScan *scan, CmqQueue *queue,
								   TimestampTz now);
extern CmqLeaf *cmq_bounds_leaf(CmqQueue *queue, TimestampTz time);
extern bool cmq_bounds_has_forgotten(CmqQueue *queue, TimestampTz deleted_at);
extern bool cmq_bounds_is_due(const CmqRewind *rewinding,
							  TimestampTz enqueued_at, TimestampTz deleted_at,
							  int64 deleted_xact);

#endif							/* CMQ_BOUNDS_H */
