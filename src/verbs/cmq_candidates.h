/*-------------------------------------------------------------------------
 *
 * cmq_candidates.h
 *	  The messages that a receive could take, one after the other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_CANDIDATES_H
#define CMQ_CANDIDATES_H

#include "datatype/timestamp.h"

#include "base/cmq_handle.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_stretch.h"
#include "memory/cmq_types.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_merge.h"
#include "store/cmq_table.h"

/*
 * What a receive with a filter has looked at before: no row before these times is wanted,
 * as long as the generations of the floors are these.
 */
typedef struct CmqLooked
{
	uint64		generation;
	TimestampTz ready;			/* visible_at */
	uint64		rewind_generation;
	TimestampTz rewound_at;
	TimestampTz due;			/* enqueued_at, for that rewind */
} CmqLooked;

#define CMQ_NOT_LOOKED	{.ready = DT_NOBEGIN,.due = DT_NOBEGIN}

/* A scan of both sources; see cmq_candidates.c. */
typedef struct CmqCandidates
{
	CmqQueue   *queue;
	CmqTable   *pending;
	int			wanted;			/* so many are wanted */
	CmqLooked  *looked;			/* NULL: the caller takes what comes */
	CmqLaggards *laggards;		/* by source, of an ordered queue; NULL: it is
								 * none */
	TimestampTz now;
	TimestampTz expired_before;
	CmqMerge	merge;
	CmqFloorScan floor;
	CmqDeadRule dead_rule;
	CmqStretchScan stretches;

	/* ready rows */
	CmqPendingKey ready;		/* of the row the scan stands at */
	TimestampTz from;			/* the scan begins here */
	TimestampTz first_alive;	/* visible_at of the first row that was met */
	TimestampTz first_kept;		/* ... that may be wanted later */
	int64		distance;		/* how far a look goes, at first */
	TimestampTz reach;			/* how far the scan of pending goes */
	bool		reach_short;	/* the first look did not go far enough */

	/* due rows */
	CmqDueScan	due;
	TimestampTz first_due;		/* enqueued_at of the first row that was met */
	TimestampTz first_due_kept; /* ... that may be wanted later */

	CmqSource	turn;			/* whose turn it is, by rewind_share */
	CmqPendingKey *letters;		/* dead ones that were passed over, or NULL */
	int			nletters;
	int			letters_max;	/* so many are listed; 0: they stay where they
								 * are, -1: nobody has asked yet */
} CmqCandidates;

extern void cmq_candidates_begin(CmqCandidates *scan, CmqQueue *queue,
								 CmqTable *pending, TimestampTz now, int wanted,
								 CmqLooked *looked, CmqLaggards *laggards);
extern CmqSource cmq_candidates_next_row(CmqCandidates *scan);
extern CmqSource cmq_candidates_next(CmqCandidates *scan);
extern void cmq_candidates_taken(CmqCandidates *scan);
extern bool cmq_candidates_letter(CmqCandidates *scan, const CmqPendingKey *key);
extern bool cmq_candidates_letters_full(const CmqCandidates *scan);
extern void cmq_candidates_keep(CmqCandidates *scan, CmqSource source);
extern TimestampTz cmq_candidates_next_visible(CmqCandidates *scan,
											   TimestampTz before);
extern void cmq_candidates_end(CmqCandidates *scan, int ntaken);

#endif							/* CMQ_CANDIDATES_H */
