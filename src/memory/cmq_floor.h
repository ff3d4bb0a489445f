/*-------------------------------------------------------------------------
 *
 * cmq_floor.h
 *	  The scan floor: where a receive may begin to look for messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_FLOOR_H
#define CMQ_FLOOR_H

#include "memory/cmq_mark.h"
#include "memory/cmq_types.h"

/* One scan's view of the floors. */
typedef struct CmqFloorScan
{
	CmqMarkView view;			/* of the floor */
	CmqMarkView rewind_view;
	TimestampTz rewound_at;		/* of the rewind under way; DT_NOBEGIN: there
								 * is none */
	TimestampTz floor;			/* start here */
	TimestampTz rewind_floor;	/* start here, in the rewind table */
	TimestampTz limit;			/* do not raise the floor further */
	TimestampTz own_limit;		/* nor our own */
	TimestampTz taken;			/* what we took away before begins here */
	TimestampTz lowered;		/* where own rows were put back from;
								 * DT_NOEND: none */
} CmqFloorScan;

extern void cmq_floor_begin(CmqFloorScan *scan, CmqSharedQueue *shared,
							TimestampTz rewound_at, TimestampTz now);
extern void cmq_floor_end(const CmqFloorScan *scan, CmqSharedQueue *shared,
						  TimestampTz first_alive, TimestampTz first_due);
extern void cmq_floor_due_added_unknown(CmqSharedQueue *shared);
extern void cmq_floor_added_unknown(CmqSharedQueue *shared);

#endif							/* CMQ_FLOOR_H */
