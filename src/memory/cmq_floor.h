/*-------------------------------------------------------------------------
 *
 * cmq_floor.h
 *	  The scan floor: where a receive may begin to look for messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_FLOOR_H
#define CMQ_FLOOR_H

#include "datatype/timestamp.h"

#include "memory/cmq_shared.h"
#include "store/cmq_description.h"

/* What cmq_floor_announce() has replaced. */
typedef struct CmqAnnouncement
{
	TimestampTz before;
	uint64		number;
} CmqAnnouncement;

/* One scan's view of the floors. */
typedef struct CmqFloorScan
{
	uint64		generation;
	TimestampTz floor;			/* start here */
	TimestampTz rewind_floor;	/* start here, in the rewind table */
	TimestampTz limit;			/* do not raise the floor further */
	TimestampTz own_limit;		/* nor our own */
	TimestampTz taken;			/* what we took away before begins here */
	TimestampTz lowered;		/* where own rows were put back from; DT_NOEND: none */
} CmqFloorScan;

extern Size cmq_floor_shmem_size(void);
extern void cmq_floor_shmem_init(void);
extern void cmq_floor_init(CmqSharedQueue *shared);
extern void cmq_floor_take_slot(void);
extern CmqAnnouncement cmq_floor_announce(void);
extern void cmq_floor_publish(TimestampTz visible_at);
extern void cmq_floor_withdraw(CmqAnnouncement announcement);
extern void cmq_floor_taken(TimestampTz visible_at);
extern void cmq_floor_taken_due(TimestampTz enqueued_at);
extern void cmq_floor_rewound(void);
extern void cmq_floor_taken_unknown(void);
extern void cmq_floor_taken_message(TimestampTz enqueued_at);
extern void cmq_floor_sweep(void);
extern TimestampTz cmq_floor_limit(TimestampTz last);
extern TimestampTz cmq_floor_open(void);
extern void cmq_floor_begin(CmqFloorScan *scan, CmqQueue *queue,
							TimestampTz now);
extern void cmq_floor_end(const CmqFloorScan *scan, CmqQueue *queue,
						  TimestampTz first_alive, TimestampTz first_due);
extern void cmq_floor_lower_at_end(CmqQueue *queue, TimestampTz time);
extern void cmq_floor_due_added_unknown(CmqSharedQueue *shared);
extern void cmq_floor_added_unknown(CmqSharedQueue *shared);
extern void cmq_floor_install_callbacks(void);

#endif							/* CMQ_FLOOR_H */
