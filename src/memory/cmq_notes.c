/*-------------------------------------------------------------------------
 *
 * cmq_notes.c
 *	  What receives and maintenance note about a queue for those who come later.
 *
 * Most notes are hints: they are lost with the shared entry, at a restart, and nothing
 * goes wrong without them.  The place of a walk, or of a pass, says where its last portion
 * has ended; without it the walk begins anew.  Two notes are more: what a pass over
 * forgotten history has met (cmq_forget.c), and the versions of the triggers.  The first
 * process that asks after a change of these is told of it, and no other.
 *
 * Locks: atomics, or the mutex of the entry.  Workers alone write what is noted of turns
 * and of the dead-letter policy; for turns they hold the lock of cmq_shared.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/spin.h"
#include "utils/timestamp.h"

#include "memory/cmq_clock.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"

/* Have the triggers of the queue other versions than when this was asked last? */
bool
cmq_notes_triggers_changed(CmqSharedQueue *shared, uint32 triggers)
{
	return pg_atomic_read_u32(&shared->triggers) != triggers &&
		pg_atomic_exchange_u32(&shared->triggers, triggers) != triggers;
}

/* The time of the newest send. */
TimestampTz
cmq_notes_last_send(CmqSharedQueue *shared)
{
	return (TimestampTz) pg_atomic_read_u64(&shared->last_send);
}

void
cmq_notes_set_last_send(CmqSharedQueue *shared, TimestampTz time)
{
	pg_atomic_write_u64(&shared->last_send, (uint64) time);
}

/* Nanoseconds between two ready rows, as receives have learned it (cmq_candidates.c). */
uint64
cmq_notes_spacing(CmqSharedQueue *shared)
{
	return pg_atomic_read_u64(&shared->spacing);
}

void
cmq_notes_set_spacing(CmqSharedQueue *shared, uint64 spacing)
{
	pg_atomic_write_u64(&shared->spacing, spacing);
}

/* The number of the next turn, by which sources take turns (cmq_candidates.c). */
uint32
cmq_notes_next_turn(CmqSharedQueue *shared)
{
	return pg_atomic_fetch_add_u32(&shared->turns_taken, 1);
}

/* A message of the queue could not be read (cmq_damage.c). */
void
cmq_notes_damage(CmqSharedQueue *shared)
{
	pg_atomic_write_u32(&shared->damaged, 1);
}

bool
cmq_notes_is_damaged(CmqSharedQueue *shared)
{
	return pg_atomic_read_u32(&shared->damaged) != 0;
}

/* Dead letters could not be moved (stuck), or maintenance tries again. */
void
cmq_notes_letters_stuck(CmqSharedQueue *shared, bool stuck)
{
	pg_atomic_write_u32(&shared->letters_stuck, stuck ? 1 : 0);
}

bool
cmq_notes_letters_are_stuck(CmqSharedQueue *shared)
{
	return pg_atomic_read_u32(&shared->letters_stuck) != 0;
}

/* Workers: is the dead-letter policy another one than when this was asked last? */
bool
cmq_notes_new_letter_policy(CmqSharedQueue *shared, int max_receive_count,
							int max_time_to_live)
{
	if (shared->letters_count == max_receive_count &&
		shared->letters_time == max_time_to_live)
		return false;
	shared->letters_count = max_receive_count;
	shared->letters_time = max_time_to_live;
	return true;
}

/* How many demands for a leaf have failed, by twos; odd: the last one got no worker. */
uint32
cmq_notes_failed_demands(CmqSharedQueue *shared)
{
	return pg_atomic_read_u32(&shared->demands_failed);
}

/* One more has failed; started: it got a worker.  The caller holds the demand lock. */
void
cmq_notes_failed_demand(CmqSharedQueue *shared, bool started)
{
	uint32		failed = pg_atomic_read_u32(&shared->demands_failed);

	pg_atomic_write_u32(&shared->demands_failed,
						(failed & ~1u) + (started ? 2 : 3));
}

/* Where a walk of maintenance has ended. */
CmqPlace
cmq_notes_place(CmqSharedQueue *shared, CmqPlaceKind kind)
{
	CmqPlace	place;

	SpinLockAcquire(&shared->mutex);
	place = shared->places[kind];
	SpinLockRelease(&shared->mutex);
	return place;
}

void
cmq_notes_set_place(CmqSharedQueue *shared, CmqPlaceKind kind,
					const CmqPlace *place)
{
	SpinLockAcquire(&shared->mutex);
	shared->places[kind] = *place;
	SpinLockRelease(&shared->mutex);
}

/* The pass over forgotten history that is under way, or a new one (cmq_forget.c). */
CmqForgetting
cmq_notes_get_pass(CmqSharedQueue *shared, TimestampTz since)
{
	CmqForgetting *stored = &shared->forgetting;
	CmqForgetting pass;

	SpinLockAcquire(&shared->mutex);
	if (stored->number == 0 || stored->since != since)
	{
		stored->number++;
		stored->since = since;
		stored->next = DT_NOBEGIN;
		stored->met = stored->removed = false;
	}
	pass = *stored;
	SpinLockRelease(&shared->mutex);
	return pass;
}

/*
 * Note how far the pass has come, unless it is over already; *pass becomes what is known
 * of it, from other processes too.  end: the pass is over now.
 */
void
cmq_notes_put_pass(CmqSharedQueue *shared, CmqForgetting *pass, bool end)
{
	CmqForgetting *stored = &shared->forgetting;

	SpinLockAcquire(&shared->mutex);
	if (stored->number == pass->number)
	{
		stored->next = Max(stored->next, pass->next);
		pass->met = stored->met |= pass->met;
		pass->removed = stored->removed |= pass->removed;
		if (end)
		{
			stored->number++;
			stored->next = DT_NOBEGIN;
			stored->met = stored->removed = false;
		}
	}
	else
		pass->met = true;
	SpinLockRelease(&shared->mutex);
}

/* What a transaction has removed is there again, or may be: the pass has met something. */
void
cmq_notes_pass_was_undone(CmqSharedQueue *shared)
{
	SpinLockAcquire(&shared->mutex);
	shared->forgetting.met = true;
	SpinLockRelease(&shared->mutex);
}

static void
get_left_out(CmqSharedQueue *shared, void *arg)
{
	*(bool *) arg = pg_atomic_read_u32(&shared->left_out) != 0;
}

/* Did the last cmq_maintain() have no room for the queue? */
bool
cmq_notes_left_out(const CmqSharedKey *key)
{
	bool		left_out = false;

	cmq_shared_with(key, get_left_out, &left_out);
	return left_out;
}

static void
set_left_out(CmqSharedQueue *shared, void *arg)
{
	pg_atomic_write_u32(&shared->left_out, *(bool *) arg ? 1 : 0);
}

void
cmq_notes_set_left_out(const CmqSharedKey *key, bool left_out)
{
	cmq_shared_with(key, set_left_out, &left_out);
}

static void
copy_turns(CmqSharedQueue *shared, void *arg)
{
	memcpy(arg, shared->turns, sizeof(shared->turns));
}

/* Copy the turns of a queue (cmq_turn.c); turns stays as it is if there is no entry. */
void
cmq_notes_get_turns(const CmqSharedKey *key, CmqTurns *turns)
{
	cmq_shared_with(key, copy_turns, turns);
}

/* What happens to a turn of a queue. */
typedef struct TurnNote
{
	CmqTurnKind kind;
	int			step;
	int			strikes;		/* more, or less */
	int			max_strikes;
	bool		go;
} TurnNote;

static void
set_step(CmqSharedQueue *shared, void *arg)
{
	TurnNote   *note = arg;

	shared->turns[note->kind].step = note->step;
}

void
cmq_notes_set_turn_step(const CmqSharedKey *key, CmqTurnKind kind, int step)
{
	TurnNote	note = {.kind = kind,.step = step};

	cmq_shared_with(key, set_step, &note);
}

static void
begin_turn(CmqSharedQueue *shared, void *arg)
{
	TurnNote   *note = arg;
	CmqTurns   *turns = &shared->turns[note->kind];

	turns->begun_at = cmq_time();
	note->go = turns->rounds_to_skip == 0;
	if (!note->go)
		turns->rounds_to_skip--;
}

/* The queue's turn has come; false if strikes have it passed over. */
bool
cmq_notes_begin_turn(const CmqSharedKey *key, CmqTurnKind kind)
{
	TurnNote	note = {.kind = kind,.go = true};

	cmq_shared_with(key, begin_turn, &note);
	return note.go;
}

static void
complete_turn(CmqSharedQueue *shared, void *arg)
{
	CmqTurnKind *kind = arg;

	shared->turns[*kind].completed_at = cmq_time();
}

/* All that the turn of a queue is for has been done. */
void
cmq_notes_complete_turn(const CmqSharedKey *key, CmqTurnKind kind)
{
	cmq_shared_with(key, complete_turn, &kind);
}

static void
end_turn(CmqSharedQueue *shared, void *arg)
{
	TurnNote   *note = arg;
	CmqTurns   *turns = &shared->turns[note->kind];

	turns->strikes = Max(turns->strikes + note->strikes, 0);
	turns->strikes = Min(turns->strikes, note->max_strikes);
	if (note->strikes > 0)
		turns->rounds_to_skip = 1 << turns->strikes;
}

/* A turn has ended, with a strike more or less. */
void
cmq_notes_end_turn(const CmqSharedKey *key, CmqTurnKind kind, int strikes,
				   int max_strikes)
{
	TurnNote	note = {
		.kind = kind,
		.strikes = strikes,
		.max_strikes = max_strikes
	};

	cmq_shared_with(key, end_turn, &note);
}
