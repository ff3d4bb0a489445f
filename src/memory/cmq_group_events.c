/*-------------------------------------------------------------------------
 *
 * cmq_group_events.c
 *	  What happens to the groups of an ordered queue, counted.
 *
 * Four counts, modulo 2^32, tell a receive that what it has seen is no longer so:
 *
 * Events.  Each transaction that changes rows of a group counts that when it ends, before
 * it wakes waiters, however it ends.  Many groups share a count, by their hash.  A receive
 * that reads the count, and then finds the group blocked by a message that is in flight,
 * need not look again until that becomes visible or the count has gone on.  What may free
 * a group is counted at once, too: it is free to the transaction itself.
 *
 * Moves.  A change of visibility, or a release, moves a row of a group in place.  A scan
 * that has read the index before, and the row after, misses it.  The move is counted when
 * its new index entry is written, and before it can be committed: so a scan that finds the
 * same number before and after has missed none.
 *
 * Crossings.  A receive leaves a group to another one that is looking at it.  That one may
 * find nothing, in a look that has begun before what the first one was woken for.  If the
 * number has changed meanwhile, it wakes a waiter.  The one that leaves counts, and then
 * tries once more: so either it gets the group, or the other one reads the new number.
 *
 * Closings.  A window (cmq_window.c) closes a group to a receive.  The window may be for other
 * groups, or no message may come of it, and then nothing else tells that it is gone.  So the
 * receive counts, and then looks at the windows once more; the sender reads the number
 * before it opens the window and when it is gone, and wakes a waiter if it has changed.
 *
 * Locks: none.  Crash: shared memory begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "memory/cmq_entry.h"
#include "memory/cmq_group_events.h"
#include "memory/cmq_types.h"

static int
bucket_of(int64 group)
{
	/* the lowest bit is none of the hash */
	return (int) (((uint64) group >> 1) % CMQ_GROUP_EVENTS);
}

/* For a new entry. */
void
cmq_group_events_init(CmqSharedQueue *shared)
{
	for (int i = 0; i < CMQ_GROUP_EVENTS; i++)
		pg_atomic_init_u32(&shared->group_events[i], 0);
	pg_atomic_init_u32(&shared->group_moves, 0);
	pg_atomic_init_u32(&shared->group_crossings, 0);
	pg_atomic_init_u32(&shared->group_closings, 0);
}

/* How often something has happened to the group; read before looking at it. */
uint32
cmq_group_events_count(CmqSharedQueue *shared, int64 group)
{
	uint32		event = pg_atomic_read_u32(&shared->group_events[bucket_of(group)]);

	pg_memory_barrier();
	return event;
}

/* A transaction changes the group. */
void
cmq_group_events_note(CmqGroupEvents *events, int64 group)
{
	int			bucket = bucket_of(group);

	events->bits[bucket / 64] |= UINT64CONST(1) << (bucket % 64);
}

/* ... or groups that nobody knows. */
void
cmq_group_events_note_all(CmqGroupEvents *events)
{
	memset(events->bits, 0xff, sizeof(events->bits));
}

void
cmq_group_events_merge(CmqGroupEvents *events, const CmqGroupEvents *more)
{
	for (int i = 0; i < lengthof(events->bits); i++)
		events->bits[i] |= more->bits[i];
}

/* It has ended. */
void
cmq_group_events_raise(CmqSharedQueue *shared, const CmqGroupEvents *events)
{
	for (int i = 0; i < CMQ_GROUP_EVENTS; i++)
	{
		if (events->bits[i / 64] == 0)
			i += 63;
		else if (events->bits[i / 64] & (UINT64CONST(1) << (i % 64)))
			pg_atomic_fetch_add_u32(&shared->group_events[i], 1);
	}
}

/* Here and now the group may be free. */
void
cmq_group_events_happened(CmqSharedQueue *shared, int64 group)
{
	pg_atomic_fetch_add_u32(&shared->group_events[bucket_of(group)], 1);
}

/* A row of a group has been moved in place, and its new index entry is written. */
void
cmq_group_events_moved(CmqSharedQueue *shared)
{
	pg_atomic_fetch_add_u32(&shared->group_moves, 1);
}

uint32
cmq_group_events_moves(CmqSharedQueue *shared)
{
	uint32		moves;

	pg_memory_barrier();
	moves = pg_atomic_read_u32(&shared->group_moves);
	pg_memory_barrier();
	return moves;
}

/* A receive leaves a group to another one that is looking at it. */
void
cmq_group_events_cross(CmqSharedQueue *shared)
{
	pg_atomic_fetch_add_u32(&shared->group_crossings, 1);
}

uint32
cmq_group_events_crossings(CmqSharedQueue *shared)
{
	pg_memory_barrier();
	return pg_atomic_read_u32(&shared->group_crossings);
}

/* A receive leaves a group because of a window. */
void
cmq_group_events_close(CmqSharedQueue *shared)
{
	pg_atomic_fetch_add_u32(&shared->group_closings, 1);
}

uint32
cmq_group_events_closings(CmqSharedQueue *shared)
{
	pg_memory_barrier();
	return pg_atomic_read_u32(&shared->group_closings);
}
