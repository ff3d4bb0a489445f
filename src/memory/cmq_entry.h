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
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "memory/cmq_effect.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_stretch.h"

/* A number of rows that is kept exact, see cmq_stats.c. */
typedef struct CmqCount
{
	int			state;			/* a glance without the lock is free */
	int			place;			/* of the count under way, or -1 */
	pg_atomic_uint64 n;
} CmqCount;

struct CmqSharedQueue
{
	CmqSharedKey key;
	CmqRelids	relids;
	pg_atomic_uint32 nusers;	/* transactions that use the entry */
	bool		dropped;		/* to be removed by the last of them */
	pg_atomic_uint64 clock;		/* the queue clock, see cmq_clock.c */
	pg_atomic_uint64 clock_line;	/* the least that it can be */
	pg_atomic_uint64 last_send; /* clock at the newest send, hint only */
	pg_atomic_uint64 spacing;	/* of ready rows, hint, see cmq_receive.c */

	/* where receives begin to scan, see cmq_floor.c */
	slock_t		mutex;			/* guards these */
	uint64		generation;
	TimestampTz floor;			/* by visible_at, in the pending table */
	TimestampTz rewound_at;		/* the rewind that rewind_floor is for */
	TimestampTz rewind_floor;	/* by enqueued_at, in the rewind table */

	/* see cmq_stretch.c, under the same mutex */
	int			nstretches;		/* a glance is free */
	CmqStretch	stretches[CMQ_STRETCHES];

	/* see cmq_oldest.c, under the same mutex */
	uint64		oldest_generation;
	TimestampTz oldest;			/* no pending row was produced before */

	pg_atomic_uint32 held;		/* by a transaction prepared before the start */
	pg_atomic_uint32 triggers;	/* as they were, see cmq_changes.c */

	/* receives that wait, see cmq_wait.c */
	ConditionVariable wakeup;
	pg_atomic_uint32 nwaiters;
	pg_atomic_uint32 nasking;	/* who want them to leave */
	pg_atomic_uint32 nasked;	/* how often they were asked, modulo 2^32 */
	pg_atomic_uint32 nrewinds;	/* committed, modulo 2^32 */
	int			planner;		/* who plans for the next due time; under mutex */
	TimestampTz planned_for;

	pg_atomic_uint32 demands_failed;	/* see cmq_leaf.c */

	/* where the worker's steps go on, under the same mutex, see cmq_maintain.c */
	CmqPlace	places[CMQ_NPLACES];
	CmqForgetting forgetting;	/* under the same mutex, see cmq_forget.c */

	/* written by maintenance, see cmq_turn.c and cmq_dead_letter.c */
	CmqTurns	turns[CMQ_NTURNS];
	int			letters_count;	/* the policy that the place for letters is for */
	int			letters_time;
	pg_atomic_uint32 left_out;	/* by a call of cmq_maintain() that had no room */
	pg_atomic_uint32 letters_stuck;	/* a receive could not move dead letters */
	pg_atomic_uint32 damaged;	/* a message could not be read, see cmq_damage.c */

	/* see cmq_stats.c */
	LWLock		count_lock;		/* guards these four */
	CmqCount	pending;		/* rows of the pending table */
	CmqCount	due;			/* what a rewind still has to bring back ... */
	TimestampTz due_rewound_at; /* ... the one of this time ... */
	TimestampTz due_from;		/* ... if produced from here on */
	TimestampTz counted_since;
	pg_atomic_uint64 counters[CMQ_NCOUNTERS];
};


#endif							/* CMQ_ENTRY_H */
