/*-------------------------------------------------------------------------
 *
 * cmq_clock.h
 *	  The time that cmq goes by, and the queue clocks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_CLOCK_H
#define CMQ_CLOCK_H

#include "datatype/timestamp.h"

#include "memory/cmq_types.h"

extern int64 cmq_elapsed(void);
extern Size cmq_clock_shmem_size(void);
extern void cmq_clock_shmem_init(void);
extern TimestampTz cmq_time(void);
extern void cmq_clock_init(CmqSharedQueue *shared, TimestampTz not_before);
extern void cmq_clock_advance(CmqSharedQueue *shared, TimestampTz time);
extern TimestampTz cmq_clock_now(CmqSharedQueue *shared);
extern TimestampTz cmq_clock_peek(CmqSharedQueue *shared);
extern TimestampTz cmq_clock_last(CmqSharedQueue *shared);
extern TimestampTz cmq_clock_tick(CmqSharedQueue *shared);
extern TimestampTz cmq_clock_latest(void);
extern bool cmq_clock_is_ahead(CmqSharedQueue *shared);
extern TimestampTz cmq_clock_tick_all(CmqSharedQueue **queues, int n);
extern TimestampTz cmq_clock_xact_start(CmqSharedQueue *shared);

#endif							/* CMQ_CLOCK_H */
