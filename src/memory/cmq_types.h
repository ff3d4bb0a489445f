/*-------------------------------------------------------------------------
 *
 * cmq_types.h
 *	  Types of what the shared entry of a queue holds, as others may see them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_TYPES_H
#define CMQ_TYPES_H

#include "access/transam.h"
#include "datatype/timestamp.h"

#include "base/cmq_handle.h"

/* The entry itself: cmq_entry.h, for src/memory alone. */
typedef struct CmqSharedQueue CmqSharedQueue;

typedef struct CmqSharedKey
{
	Oid			database;
	Oid			pending;		/* the queue's pending table */
} CmqSharedKey;

/* Relations of a queue by which its locks are known. */
typedef struct CmqRelids
{
	Oid			pending;
	Oid			rewind;
	Oid			rights;
} CmqRelids;

/* The lower bounds of a queue, see cmq_mark.c. */
typedef enum CmqMarkKind
{
	CMQ_FLOOR,					/* by visible_at, in the pending table */
	CMQ_REWIND_FLOOR,			/* by enqueued_at, in the rewind table */
	CMQ_EARLIEST,				/* by enqueued_at, of pending rows */
	CMQ_NMARKS
} CmqMarkKind;

/* A stretch of the pending table that a receive need not look at, see cmq_stretch.c. */
typedef struct CmqStretch
{
	CmqPendingKey first;		/* both belong to it */
	CmqPendingKey last;
	FullTransactionId busy_with;	/* this one has them; invalid: they are
									 * dead ... */
	int			max_receive_count;	/* ... by this rule */
	int			max_time_to_live;
} CmqStretch;

#define CMQ_STRETCHES 16

/* A group that has rows where no other one has any, see cmq_laggards.c. */
typedef struct CmqLaggard
{
	int64		group;
	TimestampTz from;			/* no row of it is below */
	TimestampTz until;			/* it is blocked until then; DT_NOBEGIN: who
								 * knows ... */
	uint32		event;			/* ... unless this is not its count any more */
} CmqLaggard;

#define CMQ_LAGGARDS 64

/* They are kept for the first two kinds of marks. */
#define CMQ_NLAGGARDS (CMQ_REWIND_FLOOR + 1)

/* Below the floor are rows of these groups alone. */
typedef struct CmqLaggards
{
	uint64		generation;		/* of the mark that the floor goes with */
	TimestampTz rewound_at;		/* the rewind that it is for */
	TimestampTz floor;
	TimestampTz since;			/* it stands there, by the queue clock */
	int			n;
	CmqLaggard	each[CMQ_LAGGARDS];
} CmqLaggards;

/* Changes of groups are counted in so many places, by the hash of the group. */
#define CMQ_GROUP_EVENTS 256

/* Which of them a transaction changes. */
typedef struct CmqGroupEvents
{
	uint64		bits[CMQ_GROUP_EVENTS / 64];
} CmqGroupEvents;

/* What a receive walks through group by group, see cmq_laggards.c. */
typedef enum CmqHopKind
{
	CMQ_HOP_PENDING,
	CMQ_HOP_DUE,
	CMQ_HOP_FREE,				/* by visible_at, messages without a group */
	CMQ_NHOPS
} CmqHopKind;

/* The kinds of receives that wait, see cmq_wait.c. */
typedef enum CmqWaiterKind
{
	CMQ_PLAIN_WAITER,			/* takes any message */
	CMQ_CHOOSY_WAITER,			/* has a filter */
	CMQ_NWAITERS
} CmqWaiterKind;

/* What is counted when a transaction commits, or at once; see cmq_count.c. */
typedef enum CmqCounter
{
	CMQ_SENT,
	CMQ_RECEIVED,
	CMQ_REDELIVERED,
	CMQ_REWOUND,
	CMQ_DELETED,
	CMQ_DEAD_LETTERED,
	CMQ_EMPTY_RECEIVES,
	CMQ_WAITS,
	CMQ_BODY_BYTES,
	CMQ_NCOUNTERS
} CmqCounter;

/* The kinds of turns that a queue has in a round of the worker, see cmq_turn.c. */
typedef enum CmqTurnKind
{
	CMQ_SHORT_TURN,				/* the steps of maintenance */
	CMQ_LONG_TURN,				/* those that take long */
	CMQ_LETTERS_TURN,			/* dead letters to a queue of another owner */
	CMQ_NTURNS
} CmqTurnKind;

/* What is remembered of a queue's turns of one kind. */
typedef struct CmqTurns
{
	int			strikes;
	int			rounds_to_skip;
	TimestampTz begun_at;		/* the last one */
	TimestampTz completed_at;	/* the last one that left nothing undone */
	int			step;			/* the step that it stopped at + 1; 0: none */
} CmqTurns;

/* A place in the pending table; what comes after it is next. */
typedef CmqPendingKey CmqPlace;

/* Steps that remember where their last portion has ended, see cmq_portion.c. */
typedef enum CmqPlaceKind
{
	CMQ_PURGE_PLACE,			/* left of what can still be delivered */
	CMQ_PURGE_REST_PLACE,		/* in the rest of the pending table */
	CMQ_LETTERS_PLACE,			/* dead letters, in the pending table */
	CMQ_DROP_PLACE,				/* partitions, by their lower bounds */
	CMQ_NPLACES
} CmqPlaceKind;

/* A pass over the history that was forgotten, see cmq_forget.c. */
typedef struct CmqForgetting
{
	uint32		number;			/* 0: none yet */
	TimestampTz since;			/* the queue's history_since */
	TimestampTz next;			/* where to go on, by enqueued_at */
	bool		met;			/* something forgotten, or what cannot be
								 * looked at */
	bool		removed;		/* some of it */
} CmqForgetting;

#endif							/* CMQ_TYPES_H */
