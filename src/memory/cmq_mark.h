/*-------------------------------------------------------------------------
 *
 * cmq_mark.h
 *	  The mark of the earliest message that is not consumed; see cmq_oldest.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_MARK_H
#define CMQ_MARK_H

#include "datatype/timestamp.h"

#include "memory/cmq_shared.h"

/* The mark as it was, and how far it may be raised. */
typedef struct CmqMarkScan
{
	uint64		generation;
	TimestampTz mark;
	TimestampTz limit;
} CmqMarkScan;

/* What was known before a look at the pending table, see cmq_oldest_look(). */
typedef struct CmqOldestLook
{
	uint64		generation;
	TimestampTz open;			/* open transactions have published no earlier time */
} CmqOldestLook;

extern void cmq_oldest_init(CmqSharedQueue *shared);
extern void cmq_oldest_lower(CmqSharedQueue *shared, TimestampTz time);
extern void cmq_mark_read(CmqSharedQueue *shared, CmqMarkScan *scan);
extern void cmq_mark_raise(CmqSharedQueue *shared, const CmqMarkScan *scan,
						   TimestampTz time);
extern void cmq_oldest_bring_back(CmqSharedQueue *shared, TimestampTz time);
extern void cmq_oldest_install_callbacks(void);
extern TimestampTz cmq_oldest_mark(CmqSharedQueue *shared);
extern void cmq_oldest_look(CmqSharedQueue *shared, CmqOldestLook *look);
extern bool cmq_oldest_no_news(CmqSharedQueue *shared,
							   const CmqOldestLook *look, TimestampTz until);

#endif							/* CMQ_MARK_H */
