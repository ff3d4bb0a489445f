/*-------------------------------------------------------------------------
 *
 * cmq_turn.c
 *	  The turns of queues in the worker's rounds: their order, and which are passed over.
 *
 * A round gives each queue a turn of each kind.  Code of owners runs in these
 * turns, and can take any time.  Three things are remembered from round to round,
 * for each kind by itself:
 *	- The strikes of a queue.  A turn that had to be cancelled, or in which the worker
 *	  was ended, is one more strike; any other turn is one less.  With each strike
 *	  the queue is passed over for 2, 4 .. 64 rounds.
 *	- The step of a queue at which a turn has stopped that had to be cancelled, or
 *	  that took long.  The next turn begins behind that step.
 *	- Until when the queues of an owner rest.  In one round they may take ROUND_TIME
 *	  together; queues whose turn has not come then are passed over, and the next
 *	  round begins at once if one of them has waited for an interval.  The owner
 *	  pays back the time taken beyond ROUND_TIME, or all time of a turn that had to
 *	  be cancelled, REST_FACTOR times.  So code that ends just in time, or that is in
 *	  a queue made a moment ago, takes no more than a small share of time.
 * Queues of superusers never rest: against superusers there is no defence.
 *
 * Queues with the longest wait since their last turn come first, and all that have
 * strikes after the others.  So a queue that was passed over, or lost its turn because
 * the worker was ended, is among the first in the next round.
 *
 * A move of dead letters to a queue of another owner, a guest, depends on both owners.
 * The strike is the source's, because the pair of queues is passed over; the owner who
 * took the time rests.
 *
 * Locks: the table of owners has a spinlock of its own.  Workers alone write strikes and
 * steps, in the shared entries of queues (cmq_notes.c).  A database has one worker for
 * rounds at a time, and one more for a moment if the launcher has crashed: then a strike
 * may be lost.
 * Exit: a worker that is ended in the midst of a turn counts it as cancelled on
 * its way out.  Crash: shared memory begins anew, and all is forgotten.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/cmq_settings.h"
#include "base/cmq_uses.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_types.h"
#include "memory/cmq_visits.h"
#include "store/cmq_journal_rows.h"
#include "store/cmq_description.h"
#include "worker/cmq_turn.h"

/* A queue has this many strikes at most: it is passed over for 2 ^ 6 rounds then. */
#define MAX_STRIKES 6

/* How long the turns of one kind of an owner may take in a round, in microseconds. */
#define ROUND_TIME (5 * USECS_PER_SEC)

/* How much longer the last of these turns may take. */
#define GRACE_TIME (USECS_PER_SEC / 2)

/* How many times that they rest what they have taken beyond, and for how long at most. */
#define REST_FACTOR 5
#define MAX_REST USECS_PER_HOUR

/* A guest that takes this much in one turn is the reason that the turn took long. */
#define GUEST_TIME (2 * USECS_PER_SEC)

/* Owners that rest, at most; the one whose rest ends first makes room for another. */
#define NRESTS 256

typedef struct Rest
{
	Oid			database;
	Oid			owner;
	CmqTurnKind kind;
	TimestampTz until;
} Rest;

typedef struct Rests
{
	slock_t		mutex;
	Rest		rests[NRESTS];
} Rests;

static Rests *rests = NULL;

/* The time used in this round, by kind of turn. */
static CmqUses all_uses[CMQ_NTURNS];
static bool round_begun = false;

/* The turn under way. */
typedef struct Turn
{
	bool		active;
	CmqTurnKind kind;
	CmqUses    *uses;			/* of this kind */
	CmqSharedKey key;
	Oid			owner;
	Oid			guest;
	int64		owner_before;	/* what they had used when it began */
	int64		guest_before;
} Turn;

static Turn turn;

Size
cmq_turn_shmem_size(void)
{
	return sizeof(Rests);
}

/* Called under AddinShmemInitLock. */
void
cmq_turn_shmem_init(void)
{
	bool		found;

	rests = ShmemInitStruct("cmq owners that rest", cmq_turn_shmem_size(),
							&found);
	if (found)
		return;
	memset(rests, 0, sizeof(*rests));
	SpinLockInit(&rests->mutex);
}

static bool
is_rest_of(const Rest *rest, Oid owner, CmqTurnKind kind)
{
	return rest->owner == owner && rest->database == MyDatabaseId &&
		rest->kind == kind;
}

static bool
rests_now(Oid owner, CmqTurnKind kind)
{
	TimestampTz now = cmq_time();
	bool		result = false;

	SpinLockAcquire(&rests->mutex);
	for (int i = 0; i < NRESTS; i++)
		result |= is_rest_of(&rests->rests[i], owner, kind) &&
			rests->rests[i].until > now;
	SpinLockRelease(&rests->mutex);
	return result;
}

static void
set_rest(Oid owner, CmqTurnKind kind, int64 time)
{
	TimestampTz until = cmq_time() + Min(time, MAX_REST);
	Rest	   *rest = &rests->rests[0];

	SpinLockAcquire(&rests->mutex);
	for (int i = 0; i < NRESTS; i++)
	{
		Rest	   *other = &rests->rests[i];

		if (is_rest_of(other, owner, kind))
		{
			rest = other;
			break;
		}
		if (other->until < rest->until)
			rest = other;
	}
	*rest = (Rest)
	{
		MyDatabaseId, owner, kind, until
	};
	SpinLockRelease(&rests->mutex);
}

/*
 * May queues of the owner have a turn now?  Called in a transaction.  If only the
 * owner's time in this round is over, is_over is set.
 */
static bool
owner_may(Oid owner, CmqTurnKind kind, bool *is_over)
{
	if (superuser_arg(owner))
		return true;
	if (rests_now(owner, kind))
		return false;
	if (cmq_uses_of(&all_uses[kind], owner) < ROUND_TIME)
		return true;
	*is_over = true;
	return false;
}

/*
 * A queue is passed over because its owner's time is over.  If its last turn was an
 * interval ago the next round begins at once.
 */
static void
note_passed_over(const CmqSharedKey *key, CmqTurnKind kind)
{
	CmqTurns	turns[CMQ_NTURNS] = {0};

	cmq_notes_get_turns(key, turns);
	if (turns[kind].begun_at >
		cmq_time() - cmq_maintenance_interval * USECS_PER_SEC)
		return;
	cmq_visits_unfinished();
}

/*
 * Which of the n steps of this turn comes first: the one behind that at which the last
 * turn has stopped, so that each has its time.
 */
int
cmq_turn_first_step(int n)
{
	CmqTurns	turns[CMQ_NTURNS] = {0};

	cmq_notes_get_turns(&turn.key, turns);
	return turns[turn.kind].step % n;
}

/* The turn is at this step; -1: it has come to the end of all. */
void
cmq_turn_at_step(int step)
{
	cmq_notes_set_turn_step(&turn.key, turn.kind, step + 1);
}

/* The turn has done all that it is for. */
void
cmq_turn_complete(void)
{
	cmq_notes_complete_turn(&turn.key, turn.kind);
}

static void
end_at_exit(int code, Datum arg)
{
	cmq_turn_end(false);
}

/*
 * Begin a turn of the queue; guest is another owner whose code may run in it, or
 * InvalidOid.  False if the queue is to be passed over.  Called in a transaction.  To be
 * followed by cmq_turn_end(), which an exit of the worker calls, too.
 */
bool
cmq_turn_begin(CmqQueue *queue, CmqTurnKind kind, Oid guest)
{
	bool		is_over = false;

	if (!round_begun)
	{
		for (int i = 0; i < CMQ_NTURNS; i++)
			cmq_uses_init(&all_uses[i], TopMemoryContext);
		before_shmem_exit(end_at_exit, (Datum) 0);
		round_begun = true;
	}
	turn.kind = kind;
	turn.uses = &all_uses[kind];
	turn.key.database = MyDatabaseId;
	turn.key.pending = queue->pending;
	if (!owner_may(queue->owner, kind, &is_over) ||
		(OidIsValid(guest) && !owner_may(guest, kind, &is_over)))
	{
		if (is_over)
			note_passed_over(&turn.key, kind);
		return false;
	}
	if (!cmq_notes_begin_turn(&turn.key, kind))
		return false;
	turn.owner = queue->owner;
	turn.guest = guest;
	turn.owner_before = cmq_uses_of(turn.uses, queue->owner);
	turn.guest_before = cmq_uses_of(turn.uses, guest);
	cmq_uses_host(turn.uses, queue->owner);
	turn.active = true;
	return true;
}

/* Where the turn under way counts time; NULL if there is none. */
CmqUses *
cmq_turn_uses(void)
{
	return turn.active ? turn.uses : NULL;
}

/* Let the owner pay back what is too much, and all of a turn that was cancelled. */
static void
settle_owner(Oid owner, int64 before, bool cancelled)
{
	int64		used = cmq_uses_of(turn.uses, owner);
	int64		over = cancelled ? used - before :
		used - ROUND_TIME - GRACE_TIME;

	if (over > 0)
		set_rest(owner, turn.kind, over * REST_FACTOR);
}

/* End the turn, if there is one; ok says whether nothing had to be cancelled. */
void
cmq_turn_end(bool ok)
{
	int64		guest_time;
	bool		guilty;

	if (!turn.active)
		return;
	cmq_uses_host(turn.uses, InvalidOid);
	turn.active = false;
	guest_time = OidIsValid(turn.guest) ?
		cmq_uses_of(turn.uses, turn.guest) - turn.guest_before : 0;
	guilty = guest_time > GUEST_TIME;
	ok = ok && !guilty;
	settle_owner(turn.owner, turn.owner_before, !ok && !guilty);
	if (OidIsValid(turn.guest))
		settle_owner(turn.guest, turn.guest_before, guilty);
	cmq_notes_end_turn(&turn.key, turn.kind, ok ? -1 : 1, MAX_STRIKES);
}

/* A queue on its place in the order. */
typedef struct Place
{
	char	   *name;
	int			position;		/* in the list of names */
	CmqTurns	turns[CMQ_NTURNS];
} Place;

static int
compare_places(const void *a, const void *b, void *arg)
{
	const Place *x = a;
	const Place *y = b;
	const CmqTurns *s = &x->turns[*(int *) arg];
	const CmqTurns *t = &y->turns[*(int *) arg];

	if ((s->strikes > 0) != (t->strikes > 0))
		return s->strikes > 0 ? 1 : -1;
	if (s->begun_at != t->begun_at)
		return s->begun_at < t->begun_at ? -1 : 1;
	return x->position - y->position;
}

/*
 * The order of the turns of these queues, for each kind, in the current memory
 * context.
 */
void
cmq_turn_order(List *names, CmqTurnOrder *order)
{
	int			n = list_length(names);
	Place	   *places = palloc0(sizeof(Place) * Max(n, 1));
	CmqSharedKey key = {.database = MyDatabaseId};

	for (int i = 0; i < n; i++)
	{
		Place	   *place = &places[i];
		CmqDescription queue;

		place->name = list_nth(names, i);
		place->position = i;
		/* not by cmq_queue_find(): a damaged one is no reason to fail here */
		if (!cmq_journal_find_any(&queue, place->name))
			continue;
		/* without an entry it waits since it could have had a turn */
		for (int kind = 0; kind < CMQ_NTURNS; kind++)
			place->turns[kind].begun_at = Max(queue.create_time, PgStartTime);
		key.pending = queue.pending;
		cmq_notes_get_turns(&key, place->turns);
	}
	for (int kind = 0; kind < CMQ_NTURNS; kind++)
	{
		order->names[kind] = order->struck[kind] = NIL;
		qsort_arg(places, n, sizeof(Place), compare_places, &kind);
		for (int i = 0; i < n; i++)
		{
			List	  **list = places[i].turns[kind].strikes > 0 ?
				&order->struck[kind] : &order->names[kind];

			*list = lappend(*list, places[i].name);
		}
	}
	pfree(places);
}
