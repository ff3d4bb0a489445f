/*-------------------------------------------------------------------------
 *
 * cmq_mark.h
 *	  Lower bounds of a queue that are raised by whoever has looked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_MARK_H
#define CMQ_MARK_H

#include "memory/cmq_types.h"

/* A mark as it was before a look. */
typedef struct CmqMarkView
{
	uint64		generation;
	TimestampTz time;
} CmqMarkView;

extern void cmq_mark_read(CmqSharedQueue *shared, CmqMarkKind kind,
						  TimestampTz rewound_at, CmqMarkView *view);
extern void cmq_mark_raise(CmqSharedQueue *shared, CmqMarkKind kind,
						   TimestampTz rewound_at, const CmqMarkView *view,
						   TimestampTz time);
extern void cmq_mark_lower(CmqSharedQueue *shared, CmqMarkKind kind,
						   TimestampTz time);

#endif							/* CMQ_MARK_H */
