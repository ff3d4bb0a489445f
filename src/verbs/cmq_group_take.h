/*-------------------------------------------------------------------------
 *
 * cmq_group_take.h
 *	  Take messages of one group of an ordered queue, from its head on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_GROUP_TAKE_H
#define CMQ_GROUP_TAKE_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "storage/lock.h"

#include "base/cmq_handle.h"
#include "memory/cmq_window.h"
#include "store/cmq_find.h"
#include "store/cmq_table.h"
#include "verbs/cmq_candidates.h"
#include "verbs/cmq_take.h"

/* How many groups a receive holds until it writes what it has taken of them. */
#define CMQ_GROUP_LOCKS 16

/* How many groups a consume holds, to the end of its transaction. */
#define CMQ_GROUPS_CONSUMED 100

/* Groups being taken from by one call; see cmq_group_take.c. */
typedef struct CmqGroupTake
{
	CmqTake    *take;
	CmqCandidates *scan;
	CmqWindows	windows;
	const CmqFound *chosen;		/* take these messages alone; NULL: any */
	int			nchosen;
	TupleTableSlot *slot;		/* for rows that no scan stands at; NULL: not
								 * needed yet */
	CmqTable   *leaves;			/* rewind leaves of the queue, opened when
								 * they are needed; NULL: none was */
	bool	   *leaf_is_open;
	LOCKTAG		locks[CMQ_GROUP_LOCKS];
	int			nlocks;
	int			nconsumed;		/* groups of which a consume has taken */
} CmqGroupTake;

/* Where the rows of a group are to be looked for. */
typedef struct CmqGroupBounds
{
	TimestampTz ready;			/* by visible_at */
	TimestampTz due;			/* by enqueued_at */
	TimestampTz met;			/* visible_at of a waiting row that was met;
								 * DT_NOEND: none was */
} CmqGroupBounds;

/* What was found of it. */
typedef struct CmqGroupSeen
{
	TimestampTz ready;			/* visible_at of the first ready row that is
								 * left; DT_NOEND: none; DT_NOBEGIN: who knows */
	TimestampTz due;			/* enqueued_at of the first due one, too */
	bool		soon;			/* what blocks it is another transaction */
	TimestampTz until;			/* as in CmqLaggard */
	uint32		event;
} CmqGroupSeen;

extern void cmq_group_take_begin(CmqGroupTake *groups, CmqTake *take,
								 CmqCandidates *scan);
extern int	cmq_group_take(CmqGroupTake *groups, int64 group,
						   const CmqGroupBounds *bounds, int max,
						   CmqGroupSeen *seen);
extern bool cmq_group_take_free(CmqGroupTake *groups, ItemPointer tid,
								const CmqPendingKey *key);
extern bool cmq_group_take_is_enough(const CmqGroupTake *groups);
extern void cmq_group_take_end(CmqGroupTake *groups);

#endif							/* CMQ_GROUP_TAKE_H */
