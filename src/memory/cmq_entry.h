/*-------------------------------------------------------------------------
 *
 * cmq_entry.h
 *	  The shared entry of a queue, for src/memory alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_ENTRY_H
#define CMQ_ENTRY_H

#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "memory/cmq_types.h"

typedef enum CmqCountState
{
	CMQ_UNCOUNTED,
	CMQ_COUNTING,
	CMQ_SPOILED,				/* counting, but in vain */
	CMQ_COUNTED
} CmqCountState;

/* A number of rows that is kept exact, see cmq_count.c. */
typedef struct CmqCount
{
	CmqCountState state;		/* a glance without the lock is free */
	int			place;			/* of the count under way, or -1 */
	pg_atomic_uint64 n;
} CmqCount;

/* A lower bound, see cmq_mark.c. */
typedef struct CmqMark
{
	uint64		generation;
	TimestampTz time;
	TimestampTz rewound_at;		/* the rewind that it is for */
} CmqMark;

struct CmqSharedQueue
{
	CmqSharedKey key;
	CmqRelids	relids;
	pg_atomic_uint32 nusers;	/* transactions that use the entry */
	bool		dropped;		/* to be removed by the last of them */
	pg_atomic_uint32 held;		/* by a transaction prepared before the start */

	/* see cmq_clock.c */
	pg_atomic_uint64 clock;		/* the queue clock */
	pg_atomic_uint64 clock_line;	/* the least that it can be */

	/* see cmq_mark.c and cmq_stretch.c */
	slock_t		mutex;			/* guards these, and what says "under mutex" */
	CmqMark		marks[CMQ_NMARKS];
	int			nstretches;		/* may be read without it, as a hint */
	CmqStretch	stretches[CMQ_STRETCHES];

	/* of ordered queues, see cmq_laggards.c */
	CmqLaggards laggards[CMQ_NLAGGARDS];	/* by the kind of mark; under
											 * mutex */
	pg_atomic_uint32 group_events[CMQ_GROUP_EVENTS];
	pg_atomic_uint32 group_moves;
	pg_atomic_uint32 group_crossings;
	pg_atomic_uint32 group_closings;
	pg_atomic_uint32 look_ahead;
	pg_atomic_uint64 hops[CMQ_NHOPS];

	/* receives that wait, see cmq_wait.c */
	ConditionVariable wakeup[CMQ_NWAITERS];
	pg_atomic_uint32 nwaiters[CMQ_NWAITERS];
	pg_atomic_uint32 nasking;	/* processes that want them to leave */
	pg_atomic_uint32 nasked;	/* how often they were asked, modulo 2^32 */
	pg_atomic_uint32 nchanges;	/* of the row, committed, modulo 2^32 */
	int			planner;		/* who plans for the next message; under mutex */
	TimestampTz planned_for;

	/* see cmq_count.c */
	LWLock		count_lock;		/* guards these four */
	CmqCount	pending;		/* rows of the pending table */
	CmqCount	due;			/* what a rewind still has to bring back ... */
	TimestampTz due_rewound_at; /* ... the one of this time ... */
	TimestampTz due_from;		/* ... if produced from here on */
	TimestampTz counted_since;
	pg_atomic_uint64 counters[CMQ_NCOUNTERS];

	/* hints, see cmq_notes.c */
	pg_atomic_uint64 last_send; /* clock at the newest send */
	pg_atomic_uint64 spacing;	/* of ready rows */
	pg_atomic_uint32 turns_taken;	/* by rewind_share, modulo 2^32 */
	pg_atomic_uint32 triggers;	/* their versions */
	pg_atomic_uint32 demands_failed;
	pg_atomic_uint32 letters_stuck; /* a receive could not move dead letters */
	pg_atomic_uint32 damaged;	/* a message could not be read */
	pg_atomic_uint32 left_out;	/* by a call of cmq_maintain() that had no
								 * room */
	CmqPlace	places[CMQ_NPLACES];	/* under mutex */
	CmqForgetting forgetting;	/* under mutex */
	CmqTurns	turns[CMQ_NTURNS];	/* written by workers alone, and these two */
	int			letters_count;	/* the policy that the place for letters is
								 * for */
	int			letters_time;

	/*
	 * Of each kind of window, a bit for each process whose window is of
	 * several queues, this one among them; see cmq_window.c
	 */
	pg_atomic_uint64 windows[FLEXIBLE_ARRAY_MEMBER];
};

/* Words of the windows of one kind. */
#define CMQ_WINDOW_WORDS ((MaxBackends + 63) / 64)

#endif							/* CMQ_ENTRY_H */
