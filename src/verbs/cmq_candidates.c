/*-------------------------------------------------------------------------
 *
 * cmq_candidates.c
 *	  The messages that a receive could take, one after the other.
 *
 * Two ordered sources are merged:
 *	- ready: pending rows with visible_at up to the queue clock, from the left
 *	  end of the primary key.  What is in flight or delayed lies to the right
 *	  and is never looked at.
 *	- due: rows of the rewind tables that the rewind under way brings back, by
 *	  enqueued_at, from rewind_from up to rewound_at.
 * The smaller key comes first.  With a rewind_share of less than 100 the sources take
 * turns instead while both have rows: of 100 messages taken so many are due.  The turns
 * are counted in shared memory, so they hold for all consumers of a queue together.  A
 * turn stays with its source until a message was taken: rows that others are taking do
 * not use it up.
 *
 * Both scans begin at the floor (cmq_floor.c), not among the remains of what
 * was consumed, and that of ready rows jumps over stretches that are of no use
 * (cmq_stretch.c).
 *
 * Expired messages, rows that another transaction is changing, and dead messages are
 * passed over; the latter are listed for the caller.  The caller need not take a
 * candidate: the floor stops at the first row that was alive, taken or not.
 *
 * A receive with a filter that waits looks time and again.  It remembers how far no row is
 * wanted, and begins there.  That is a floor of its own, for its filter, with the limits of
 * the floor: it stops at rows that were passed over, which may come back, and begins anew
 * with each generation.
 *
 * Locks: the caller has the pending table open; RowExclusive on the rewind leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_laggards.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_stretch.h"
#include "memory/cmq_types.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_merge.h"
#include "store/cmq_pending.h"
#include "store/cmq_table.h"
#include "verbs/cmq_candidates.h"
#include "verbs/cmq_dead_letter.h"

/* How many dead messages are listed for one receive. */
#define MAX_LETTERS 1000

/*
 * look_for_ready() doubles the nanoseconds that it thinks are between two ready rows up
 * to here.
 */
#define MAX_SPACING		(UINT64CONST(1) << 40)
#define NSECS_PER_USEC	1000

/*
 * Begin to look for ready rows.  An index scan takes in all that matches on a
 * page before it returns the first row: hundreds of rows, when that many are
 * ready.  So the first look reaches only about as far as is needed, going by
 * the spacing of rows in this queue.  The spacing is learned: it is doubled when
 * the first look was too short, else it shrinks a bit (learn_spacing()).
 */
static void
look_for_ready(CmqCandidates *scan)
{
	TimestampTz floor = scan->from;
	int64		spacing = (int64) cmq_notes_spacing(scan->queue->shared);

	scan->distance = spacing * (2 * scan->wanted + 16) / NSECS_PER_USEC;
	scan->reach = scan->now;
	if (floor != DT_NOBEGIN && floor < scan->now - scan->distance)
		scan->reach = floor + scan->distance;
	cmq_pending_scan(scan->pending, NULL, floor, scan->reach);
}

/* The spacing is a hint, so it may lose what another receive has learned just now. */
static void
learn_spacing(CmqCandidates *scan)
{
	CmqSharedQueue *shared = scan->queue->shared;
	uint64		spacing = cmq_notes_spacing(shared);

	if (!scan->reach_short)
		cmq_notes_set_spacing(shared, spacing - spacing / 32);
	else if (spacing < MAX_SPACING)
		cmq_notes_set_spacing(shared, spacing * 2 + 1);
}

/* Have both scans begin behind what is known not to be wanted; returns where, for due rows. */
static TimestampTz
begin_behind(CmqCandidates *scan)
{
	const CmqLooked *looked = scan->looked;
	const CmqFloorScan *floor = &scan->floor;

	scan->from = floor->floor;
	if (scan->laggards)
	{
		CmqSharedQueue *shared = scan->queue->shared;
		CmqLaggards *ready = &scan->laggards[CMQ_FLOOR];
		CmqLaggards *due = &scan->laggards[CMQ_REWIND_FLOOR];

		cmq_laggards_read(shared, CMQ_FLOOR, floor, ready);
		cmq_laggards_read(shared, CMQ_REWIND_FLOOR, floor, due);
		scan->from = Max(floor->floor, ready->floor);
		return Max(floor->rewind_floor, due->floor);
	}
	if (looked == NULL)
		return floor->rewind_floor;
	/* the floors do not rise over what this scan does not see */
	if (looked->generation == floor->view.generation && looked->ready > floor->floor)
	{
		scan->from = looked->ready;
		scan->first_alive = floor->floor;
	}
	if (floor->rewound_at == DT_NOBEGIN || looked->rewound_at != floor->rewound_at ||
		looked->rewind_generation != floor->rewind_view.generation ||
		looked->due <= floor->rewind_floor)
		return floor->rewind_floor;
	scan->first_due = floor->rewind_floor;
	return looked->due;
}

/* Both scans have come to their ends: remember how far nothing is wanted. */
static void
remember(CmqCandidates *scan)
{
	CmqLooked  *looked = scan->looked;
	const CmqFloorScan *floor = &scan->floor;

	looked->generation = floor->view.generation;
	looked->ready = Max(scan->from, Min(scan->first_kept, floor->own_limit));
	looked->rewound_at = floor->rewound_at;
	looked->rewind_generation = floor->rewind_view.generation;
	/* as in cmq_floor_end() */
	looked->due = floor->own_limit == DT_NOBEGIN ? DT_NOBEGIN : scan->first_due_kept;
}

static bool
letters_stay(const void *arg)
{
	return cmq_dead_letter_stays(arg);
}

/* Move to the next ready row that has not expired and is in no stretch. */
static bool
next_ready(void *arg)
{
	CmqCandidates *scan = arg;

	for (;;)
	{
		while (cmq_pending_next(scan->pending, scan->expired_before, &scan->ready))
		{
			CmqPendingKey last;

			if (scan->first_alive == DT_NOEND)
				scan->first_alive = scan->ready.visible_at;
			if (!cmq_stretch_jump(&scan->stretches, &scan->ready, &last))
				return true;
			cmq_candidates_keep(scan, CMQ_READY);
			scan->reach = scan->now;
			if (last.visible_at < scan->now - scan->distance)
				scan->reach = last.visible_at + scan->distance;
			cmq_pending_scan(scan->pending, &last, DT_NOBEGIN, scan->reach);
		}
		if (scan->reach >= scan->now)
			return false;
		cmq_pending_scan(scan->pending, NULL, scan->reach + 1, scan->now);
		scan->reach = scan->now;
		scan->reach_short = true;
	}
}

/* Move to the next row that is due for the rewind. */
static bool
next_due(void *arg)
{
	CmqCandidates *scan = arg;

	if (!cmq_due_next(&scan->due))
		return false;
	if (scan->first_due == DT_NOEND)
		scan->first_due = scan->due.time;
	return true;
}

/* Both scans stand at a row: is it the turn of the due one? */
static bool
due_comes_first(void *arg)
{
	CmqCandidates *scan = arg;
	int			share = scan->queue->rewind_share;
	int			n;

	if (share == CMQ_SHARE_MAX)
		return scan->due.time < scan->ready.visible_at;
	if (scan->turn == CMQ_NO_SOURCE)
	{
		n = (int) (cmq_notes_next_turn(scan->queue->shared) % CMQ_SHARE_MAX);
		/* evenly spread: so many of 100 numbers step over a whole */
		scan->turn = (n + 1) * share / CMQ_SHARE_MAX > n * share / CMQ_SHARE_MAX ?
			CMQ_DUE : CMQ_READY;
	}
	return scan->turn == CMQ_DUE;
}

/*
 * Begin to look, at a time that the caller has read from the queue clock.  looked: the
 * caller leaves what it does not want, and has looked before; CMQ_NOT_LOOKED if it has not.
 * laggards: the queue is ordered; what is known of its groups is put there (cmq_ordered.c).
 * To be followed by cmq_candidates_end().
 */
void
cmq_candidates_begin(CmqCandidates *scan, CmqQueue *queue, CmqTable *pending,
					 TimestampTz now, int wanted, CmqLooked *looked,
					 CmqLaggards *laggards)
{
	TimestampTz due_from;

	scan->queue = queue;
	scan->pending = pending;
	scan->now = now;
	scan->wanted = wanted;
	scan->looked = looked;
	scan->laggards = laggards;
	scan->expired_before = cmq_bounds_expired_before(queue, now);
	scan->first_alive = scan->first_due = DT_NOEND;
	scan->first_kept = scan->first_due_kept = DT_NOEND;
	scan->reach_short = false;
	scan->turn = CMQ_NO_SOURCE;
	scan->letters = NULL;
	scan->nletters = 0;
	scan->letters_max = -1;
	scan->merge = (CmqMerge)
	{
		.next_ready = next_ready,
			.next_due = next_due,
			.due_comes_first = due_comes_first,
			.arg = scan
	};
	cmq_bounds_begin_floor(&scan->floor, queue, now);
	due_from = begin_behind(scan);
	scan->dead_rule.max_receive_count = queue->max_receive_count;
	scan->dead_rule.max_time_to_live = queue->max_time_to_live;
	scan->dead_rule.stay = letters_stay;
	scan->dead_rule.arg = queue;
	cmq_stretch_begin(&scan->stretches, queue->shared, &scan->dead_rule,
					  &scan->floor);
	cmq_due_begin(&scan->due, queue, &queue->rewinding,
				  Max(scan->expired_before, due_from),
				  RowExclusiveLock);
	look_for_ready(scan);
}

/*
 * List a dead message, to be moved by the caller when the scan has ended; false if it is
 * not moved then.
 */
bool
cmq_candidates_letter(CmqCandidates *scan, const CmqPendingKey *key)
{
	if (scan->letters_max < 0)
		scan->letters_max = cmq_dead_letter_stays(scan->queue) ? 0 : MAX_LETTERS;
	if (scan->nletters >= scan->letters_max)
		return false;
	if (scan->letters == NULL)
		scan->letters = palloc(MAX_LETTERS * sizeof(CmqPendingKey));
	scan->letters[scan->nletters++] = *key;
	return true;
}

/* Are so many dead messages listed that there may be more? */
bool
cmq_candidates_letters_full(const CmqCandidates *scan)
{
	return scan->nletters >= MAX_LETTERS;
}

/*
 * Is the message of the ready row dead, or is another transaction changing the row?  A
 * dead one is listed, to be moved when the scan has ended.
 */
static bool
pass_over(CmqCandidates *scan)
{
	CmqTable   *pending = scan->pending;
	bool		dead = cmq_dead_letter_reason(scan->queue, pending->slot,
											  scan->now) != NULL;

	if (!dead && !pending->busy)
	{
		cmq_stretch_stop(&scan->stretches);
		return false;
	}
	cmq_stretch_pass(&scan->stretches, &scan->ready,
					 dead ? InvalidTransactionId : pending->busy_with);
	if (dead)
		(void) cmq_candidates_letter(scan, &scan->ready);
	return true;
}

/* Move to the next row, whatever it is like. */
CmqSource
cmq_candidates_next_row(CmqCandidates *scan)
{
	return cmq_merge_next(&scan->merge);
}

/*
 * Move to the next message that could be taken, and say where it is; CMQ_NO_SOURCE at the
 * end.
 */
CmqSource
cmq_candidates_next(CmqCandidates *scan)
{
	for (;;)
	{
		CmqSource	source = cmq_candidates_next_row(scan);

		if (source == CMQ_DUE ? !scan->due.table.busy :
			source == CMQ_NO_SOURCE || !pass_over(scan))
			return source;
		cmq_candidates_keep(scan, source);
	}
}

/* The row that was looked at last may be wanted by a later look. */
void
cmq_candidates_keep(CmqCandidates *scan, CmqSource source)
{
	if (source == CMQ_READY && scan->first_kept == DT_NOEND)
		scan->first_kept = scan->ready.visible_at;
	else if (source == CMQ_DUE && scan->first_due_kept == DT_NOEND)
		scan->first_due_kept = scan->due.time;
}

/* The caller has taken the candidate. */
void
cmq_candidates_taken(CmqCandidates *scan)
{
	scan->turn = CMQ_NO_SOURCE;
}

/*
 * When the next message that is delayed or in flight becomes visible, if that is before
 * this time; else DT_NOEND.  Ends the look for ready ones.
 */
TimestampTz
cmq_candidates_next_visible(CmqCandidates *scan, TimestampTz before)
{
	CmqPendingKey key;

	cmq_pending_scan(scan->pending, NULL, scan->now + 1, before - 1);
	return cmq_pending_next(scan->pending, scan->expired_before, &key) ?
		key.visible_at : DT_NOEND;
}

/* The caller has taken so many. */
void
cmq_candidates_end(CmqCandidates *scan, int ntaken)
{
	CmqSharedQueue *shared = scan->queue->shared;

	cmq_floor_end(&scan->floor, shared, scan->first_alive, scan->first_due);
	cmq_stretch_end(&scan->stretches, shared, &scan->dead_rule, &scan->floor);
	/* how far the message was that somebody wanted says nothing to others */
	if (scan->looked == NULL && (ntaken == scan->wanted || scan->reach_short))
		learn_spacing(scan);
	if (scan->looked && scan->merge.ready == CMQ_AT_END &&
		scan->merge.due == CMQ_AT_END)
		remember(scan);
	cmq_due_end(&scan->due);
}
