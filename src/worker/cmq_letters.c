/*-------------------------------------------------------------------------
 *
 * cmq_letters.c
 *	  Maintenance moves dead letters, also when nobody receives.
 *
 * A sweep walks through the ready rows and moves the dead messages that it meets, many in
 * one subtransaction; after an error one by one, so that a bad one keeps back no other.
 * The worker's sweeps are bounded: each goes on where the last one ended, and then looks
 * at what stands left of the time to live, nearly all of which is dead.
 *
 * Locks and abort: as cmq_dead_letter.c says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/cmq_handle.h"
#include "base/cmq_limit.h"
#include "base/cmq_settings.h"
#include "base/cmq_try.h"
#include "base/cmq_uses.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_types.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_owner.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_dead_letter.h"
#include "worker/cmq_letters.h"
#include "worker/cmq_portion.h"
#include "worker/cmq_turn.h"

/* How many messages one look moves. */
#define MAX_SWEEP 100000

/* How many ready rows a look of the worker reads. */
#define MAX_LOOKS 100000

/* How many are moved in one subtransaction. */
#define CHUNK 500

/* After so many failures the rest waits for the next round, which begins with it. */
#define MAX_FAILURES 100

/*
 * How long, in milliseconds, a turn of the worker moves letters between two queues of one
 * owner.
 */
#define OWN_LIMIT 5000

/* Part of the ready rows of a queue, from a place to visible_at until, included. */
typedef struct Look
{
	CmqPlace	place;			/* behind this; then where the look has ended */
	TimestampTz until;
	int64		most;			/* how many rows to look at; 0: any number */
	bool		through;		/* it has come to its end */
	CmqPendingKey *letters;		/* palloc'd */
	int			n;
} Look;

/* May dead letters leave the queue?  Each move asks again (cmq_dead_letter.c). */
static bool
may_leave(CmqQueue *queue)
{
	return queue->dead_letter_queue[0] != '\0' && !cmq_is_paused(queue);
}

/* Find the dead messages, MAX_SWEEP at most. */
static void
list_letters(CmqQueue *queue, Look *look)
{
	TimestampTz now = cmq_queue_now(queue);
	TimestampTz expired_before = cmq_bounds_expired_before(queue, now);
	TimestampTz first_alive = look->until;
	CmqFloorScan scan;
	TimestampTz last;
	CmqTable	pending;
	CmqPendingKey key;
	bool		from_floor;
	int			allocated = CHUNK;
	int64		looked = 0;

	look->letters = palloc(sizeof(CmqPendingKey) * allocated);
	look->n = 0;
	look->through = true;

	/*
	 * the floor must not rise above the last time that the queue clock has
	 * given out: what is sent from now on comes after that
	 */
	last = cmq_clock_last(queue->shared);
	cmq_bounds_begin_floor(&scan, queue, Min(now, last));
	if (!cmq_table_open(&pending, NULL, queue, queue->pending, CMQ_PENDING,
						AccessShareLock))
		return;
	from_floor = look->place.visible_at <= scan.floor;
	cmq_pending_scan(&pending, from_floor ? NULL : &look->place, scan.floor,
					 look->until);
	while (cmq_pending_next(&pending, DT_NOBEGIN, &key))
	{
		if (look->n == MAX_SWEEP || (look->most > 0 && looked++ == look->most))
		{
			look->through = false;
			first_alive = Min(first_alive, key.visible_at);
			break;
		}
		look->place = key;
		if (key.enqueued_at < expired_before)
			continue;
		first_alive = Min(first_alive, key.visible_at);
		if (cmq_dead_letter_reason(queue, pending.slot, now) == NULL)
			continue;
		if (look->n == allocated)
		{
			allocated *= 2;
			look->letters = repalloc(look->letters,
									 sizeof(CmqPendingKey) * allocated);
		}
		look->letters[look->n++] = key;
	}

	/*
	 * receives jump over what is dead, and so do not raise the floor beyond
	 * it
	 */
	if (from_floor)
		cmq_floor_end(&scan, queue->shared, first_alive, DT_NOBEGIN);
	cmq_table_close(&pending);
}

/* Call cmq_dead_letter_move_some(), with a limit in milliseconds if that is not 0. */
static bool
try_move(CmqLetterMove *move, int limit, int flags)
{
	static const char *const what = "moving dead letters";
	const char *name = move->queue->name;
	bool		over;
	bool		ok;

	if (limit > 0)
		ok = cmq_limited(limit, name, what, cmq_dead_letter_move_some, move,
						 flags, &over);
	else
		ok = cmq_try(name, what, cmq_dead_letter_move_some, move, flags);
	/* an interrupted move has not said that its guest has ended */
	cmq_uses_guest(move->uses, InvalidOid, 0);
	return ok;
}

/* What all looks of one sweep have in common. */
typedef struct Sweep
{
	CmqLetterMove move;
	int			limit;			/* for all of it, in milliseconds; 0: none */
	int64		end;			/* when that is over, elapsed */
	int			refused;
	bool		warned;
	bool		ended;			/* nothing more can be done in this sweep */
} Sweep;

/*
 * Move these letters: many at once; if that fails, each by itself.  Returns how many
 * were tried before the limit, or too many failures, ended that.
 */
static int
sweep_letters(Sweep *sweep, CmqPendingKey *letters, int n)
{
	CmqLetterMove *move = &sweep->move;
	int			failures = 0;
	int			done = 0;

	for (int size = CHUNK; done < n && !sweep->ended;)
	{
		long		left = (sweep->end - cmq_elapsed()) / 1000;

		if (sweep->limit > 0 && left <= 0)
			sweep->ended = true;
		if (sweep->ended || failures == MAX_FAILURES)
			break;
		move->letters = letters + done;
		move->n = Min(size, n - done);
		/* a letter that takes all the time it gets must leave some to others */
		if (try_move(move, sweep->limit == 0 ? 0 :
					 Min(left, sweep->limit / (move->n > 1 ? 2 : 10)),
					 sweep->warned ? 0 : CMQ_TRY_WARN))
			sweep->refused += move->refused;
		else
		{
			sweep->warned = true;
			if (!move->opened || move->opening)
			{
				sweep->ended = true;
				break;
			}
			if (move->n > 1)
			{
				/* the same ones again, one by one */
				size = 1;
				continue;
			}
			failures++;
		}
		done += move->n;
		/* the queue's description may have been replaced */
		move->queue = cmq_queue_again(move->queue);
		/* unbound or paused meanwhile */
		if (!may_leave(move->queue))
			sweep->ended = true;
		if (done % CHUNK == 0)
			size = CHUNK;
	}
	return done;
}

/* Where the walk of a bounded sweep goes on; from the beginning for a new policy. */
static CmqPlace
get_place(CmqQueue *queue, const CmqPortion *portion)
{
	if (portion->bounded &&
		cmq_notes_new_letter_policy(queue->shared, queue->max_receive_count,
									queue->max_time_to_live))
		cmq_portion_set_place(queue, portion, CMQ_LETTERS_PLACE, &cmq_place_beginning);
	return cmq_portion_get_place(queue, portion, CMQ_LETTERS_PLACE);
}

/* Walk on through the ready rows, and move what is dead among them. */
static void
sweep_on(Sweep *sweep, const CmqPortion *portion)
{
	CmqQueue   *queue = sweep->move.queue;
	Look		look = {
		.place = get_place(queue, portion),
		.until = cmq_queue_now(queue),
		.most = portion->bounded ? MAX_LOOKS : 0
	};
	CmqPlace	before = look.place;
	int			done;

	list_letters(queue, &look);
	done = sweep_letters(sweep, look.letters, look.n);
	if (done == look.n && look.through)
		look.place.visible_at = look.place.enqueued_at = DT_NOBEGIN;
	else if (done < look.n && done > 0)
	{
		/* those that have failed wait until the walk comes by again */
		look.place.visible_at = look.letters[done - 1].visible_at;
		look.place.enqueued_at = look.letters[done - 1].enqueued_at;
	}
	else if (done < look.n)
		look.place = before;
	cmq_portion_set_place(sweep->move.queue, portion, CMQ_LETTERS_PLACE, &look.place);
	pfree(look.letters);
}

/*
 * Move what stands left of the time to live: nearly all of it is dead, and need not wait
 * until the walk comes by.
 */
static void
sweep_left(Sweep *sweep)
{
	CmqQueue   *queue = sweep->move.queue;
	Look		look = {
		.place = {DT_NOBEGIN, DT_NOBEGIN},
		.until = cmq_queue_now(queue) - queue->max_time_to_live * USECS_PER_SEC,
		.most = MAX_LOOKS
	};

	list_letters(queue, &look);
	(void) sweep_letters(sweep, look.letters, look.n);
	pfree(look.letters);
}

/* Move what is dead, for limit milliseconds; 0: to the end.  Failures give one warning. */
static void
sweep(CmqQueue *queue, const CmqPortion *portion, int limit, CmqUses *uses)
{
	Sweep		sweep = {
		.move = {.queue = queue,.wait = true,.uses = uses},
		.limit = limit,
		.end = cmq_elapsed() + limit * INT64CONST(1000)
	};
	CmqPlace	place = get_place(queue, portion);
	bool		from_left = cmq_portion_is_beginning(&place);

	sweep_on(&sweep, portion);
	queue = sweep.move.queue;
	if (!from_left && !sweep.ended && queue->max_time_to_live > 0)
		sweep_left(&sweep);
	queue = sweep.move.queue;
	cmq_dead_letter_warn_refused(queue, sweep.refused);
	if (sweep.refused > 0 || sweep.warned)
		cmq_notes_letters_stuck(queue->shared, true);
}

/*
 * Maintenance: move what is dead, unless the dead-letter queue is another owner's.
 */
CmqStepResult
cmq_letters_sweep(CmqQueue *queue, const CmqPortion *portion)
{
	if (!may_leave(queue))
		return CMQ_STEP_DONE;
	cmq_notes_letters_stuck(queue->shared, false);
	/* the sweep ends, and commits, before the step would be cancelled */
	if (cmq_dead_letter_stranger(queue) == NULL)
		sweep(queue, portion, portion->bounded ?
			  Min(OWN_LIMIT, cmq_maintenance_timeout * 500) : 0, NULL);
	return CMQ_STEP_DONE;
}

/*
 * The worker: move what is dead to a dead-letter queue of another owner, for limit
 * milliseconds.  The caller has opened the queue.
 */
void
cmq_letters_sweep_stranger(CmqQueue *queue, int limit)
{
	CmqPortion	portion = {.bounded = true};
	CmqOwnerScope scope;

	if (queue->is_target || !may_leave(queue) ||
		cmq_dead_letter_stranger(queue) == NULL)
		return;
	portion.begun = cmq_elapsed();
	cmq_owner_enter(&scope, queue->owner);
	sweep(queue, &portion, limit, cmq_turn_uses());
	cmq_owner_leave(&scope);
}
