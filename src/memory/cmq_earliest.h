/*-------------------------------------------------------------------------
 *
 * cmq_earliest.h
 *	  The mark of the earliest message that is not consumed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_EARLIEST_H
#define CMQ_EARLIEST_H

#include "memory/cmq_mark.h"
#include "memory/cmq_types.h"

/* The mark as it was, and how far it may be raised. */
typedef struct CmqEarliestScan
{
	CmqMarkView view;
	TimestampTz limit;
} CmqEarliestScan;

/* What was known before a look at the pending table, see cmq_earliest_look(). */
typedef struct CmqEarliestLook
{
	CmqMarkView view;
	TimestampTz open;			/* open transactions have published no earlier
								 * time */
} CmqEarliestLook;

extern TimestampTz cmq_earliest_get(CmqSharedQueue *shared);
extern void cmq_earliest_lower(CmqSharedQueue *shared, TimestampTz time);
extern void cmq_earliest_read(CmqSharedQueue *shared, CmqEarliestScan *scan);
extern void cmq_earliest_raise(CmqSharedQueue *shared,
							   const CmqEarliestScan *scan, TimestampTz time);
extern void cmq_earliest_look(CmqSharedQueue *shared, CmqEarliestLook *look);
extern bool cmq_earliest_no_news(CmqSharedQueue *shared,
								 const CmqEarliestLook *look,
								 TimestampTz until);

#endif							/* CMQ_EARLIEST_H */
