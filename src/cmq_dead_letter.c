/*-------------------------------------------------------------------------
 *
 * cmq_dead_letter.c
 *	  Move messages that nobody manages to consume to a dead-letter queue;
 *	  cmq_redrive.c sends them back.
 *
 * A ready message is dead when it has been received max_receive_count times, or
 * when it has not been consumed for max_time_to_live seconds since it was
 * produced; a rewound or restored one since it was first received again, for
 * such a message starts anew.  A message in flight or delayed is not dead: its
 * consumer may still be done with it.
 *
 * A receive passes dead messages over.  They are moved after its scan, or by
 * maintenance.  The move deletes the pending row, without waiting, as a claim
 * does; sends the body to the dead-letter queue as a new message, whose headers
 * say where it comes from; and deletes the message, which leaves no history.  All
 * in one transaction: a message is never in both queues and never in neither.
 *
 * A letter is moved only while the owner of its queue has INSERT on the
 * dead-letter queue, and obeys the limits of that queue.  It is written as the
 * owner of the dead-letter queue, whose code in indexes runs then.  Who moves:
 *	- A receive only if both queues have one owner, or the other one is a
 *	  superuser's; it waits for no lock of the dead-letter queue and has no
 *	  worker started for it.  When something fails it says so once, and no
 *	  receive tries again before maintenance has.  Until then receives jump over
 *	  what is dead (cmq_stretch.c).
 *	- Maintenance, in the same case, as one of its steps.
 *	- When the dead-letter queue is another owner's, the worker alone, after all
 *	  other work, for a short time; cmq_turn.c has who pays for it.
 * What cannot be moved stays, is not delivered, and holds up nothing else.
 *
 * Who binds a queue holds its queue lock, and that of the dead-letter queue in
 * Share mode: so no queue becomes a dead-letter queue while it gets one itself
 * or is dropped.  A queue that moves messages takes RowExclusive on the pending
 * table of the dead-letter queue after its own; since a dead-letter queue has
 * none itself, no circle arises.
 *
 * Abort: each try is a subtransaction; with the transaction everything is as it
 * was.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cmq.h"

/* How many messages one round of maintenance moves, for one queue. */
#define MAX_SWEEP 100000

/* How many ready rows a round of the worker looks at, for one queue. */
#define MAX_LOOKS 100000

/* How many are moved in one subtransaction. */
#define CHUNK 500

/* After so many failures the rest waits for the next round, which begins with it. */
#define MAX_FAILURES 100

/*
 * How long, in milliseconds, a round of the worker moves letters between two
 * queues of one owner.
 */
#define OWN_LIMIT 5000

PG_FUNCTION_INFO_V1(cmq_unbind_dead_letter);

/*
 * Check that dead letters of queue may go to queue->dead_letter_queue, and
 * that the caller may send to that one.  The caller holds the queue lock of
 * queue, or is just creating it.
 */
void
cmq_dead_letter_check(CmqQueue *queue)
{
	const char *name = queue->dead_letter_queue;
	List	   *sources;
	CmqQueue   *target;

	if (strcmp(name, queue->name) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" cannot be its own dead-letter queue",
						queue->name)));
	target = cmq_queue_lock(name, ACL_INSERT, ShareLock);

	sources = cmq_catalog_dead_letter_sources(queue->name);
	if (sources != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" cannot have a dead-letter queue",
						queue->name),
				 errdetail("It is the dead-letter queue of queue \"%s\".",
						   (char *) linitial(sources))));
	if (target->dead_letter_queue[0])
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" cannot be a dead-letter queue", name),
				 cmq_queue_is_readable(target) ?
				 errdetail("It has a dead-letter queue itself: \"%s\".",
						   target->dead_letter_queue) :
				 errdetail("It has a dead-letter queue itself."),
				 errhint("Choose another one, or call cmq_unbind_dead_letter for it.")));
}

/*
 * Raise 2BP01 if the queue is the dead-letter queue of others.  The caller
 * holds its queue lock.
 */
void
cmq_dead_letter_check_drop(const char *name)
{
	List	   *sources = cmq_catalog_dead_letter_sources(name);

	if (sources != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("queue \"%s\" cannot be dropped", name),
				 errdetail("It is the dead-letter queue of queue \"%s\".",
						   (char *) linitial(sources)),
				 errhint("Call cmq_unbind_dead_letter for the queues that use it.")));
}

/*
 * Why the ready message whose pending row is in the slot is dead, or NULL if it
 * is not.
 */
const char *
cmq_dead_letter_reason(CmqQueue *queue, TupleTableSlot *slot, TimestampTz now)
{
	if (queue->dead_letter_queue[0] == '\0')
		return NULL;
	if (queue->max_receive_count > 0 &&
		cmq_slot_int(slot, Anum_pending_receive_count) >= queue->max_receive_count)
		return "max_receive_count";
	if (queue->max_time_to_live > 0)
	{
		TimestampTz since =
			cmq_slot_int(slot, Anum_pending_rewind_count) > 0 ?
			cmq_slot_first_received(slot) :
			cmq_slot_time(slot, Anum_pending_enqueued_at);

		/* a restored message that nobody has received yet has no such time */
		if (since != DT_NOBEGIN &&
			since <= now - queue->max_time_to_live * USECS_PER_SEC)
			return "max_time_to_live";
	}
	return NULL;
}

/* The headers of a dead letter. */
static Datum
dead_letter_headers(CmqQueue *queue, TimestampTz enqueued_at,
					int receive_count, const char *reason, Datum headers,
					bool isnull)
{
	/* nothing in it needs to be escaped */
	char	   *members =
		psprintf("\"queue\": \"%s\", \"msg_id\": %lld, \"enqueued_at\": \"%s\", "
				 "\"receive_count\": %d, \"reason\": \"%s\"",
				 queue->name, (long long) cmq_time_to_msg_id(enqueued_at),
				 cmq_headers_time(enqueued_at), receive_count, reason);

	return cmq_headers_add(headers, isnull, CMQ_DEAD_LETTER_HEADER, members);
}

/* Delete the message of this time, if it is there. */
static void
delete_message(CmqQueue *queue, CmqLeaf *leaf, TimestampTz time)
{
	CmqTable	messages;

	if (!cmq_table_open(&messages, NULL, queue, leaf->messages, CMQ_MESSAGES,
						RowExclusiveLock))
		return;
	if (cmq_table_find(&messages, time, 0))
		(void) cmq_table_delete(&messages, true);
	cmq_table_close(&messages);
}

/* Letters of one queue on their way. */
typedef struct Move
{
	CmqQueue   *queue;
	const CmqLetter *letters;
	int			n;
	bool		wait;			/* for locks, and for a partition to be made */
	CmqUses    *uses;			/* of the worker's turn, or NULL */
	bool		opened;			/* could the dead-letter queue be had? */
	bool		opening;		/* is the queue itself being waited for? */
	int			moved;
	int			refused;		/* by the limits of the dead-letter queue */
} Move;

/*
 * Lock the dead-letter queue of move->queue; NULL if the queue is no longer bound
 * to it.  Raises an error if it cannot be had, or the binding's right is gone.
 */
static CmqQueue *
open_target(Move *move)
{
	char	   *name = pstrdup(move->queue->dead_letter_queue);
	CmqQueue   *target = cmq_queue_lookup(name);

	cmq_uses_guest(move->uses, target->owner, 0);
	if (move->wait)
		LockRelationOid(target->pending, RowExclusiveLock);
	else if (!ConditionalLockRelationOid(target->pending, RowExclusiveLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("dead-letter queue \"%s\" is locked", name)));

	/* it may be just unbound and dropped, and another one made of that name */
	move->queue = cmq_queue_again(move->queue);
	if (strcmp(move->queue->dead_letter_queue, name) != 0)
		return NULL;
	target = cmq_queue_again(target);
	if (pg_class_aclcheck(target->relid, move->queue->owner,
						  ACL_INSERT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for dead-letter queue \"%s\"", name),
				 errdetail("The owner of queue \"%s\" has no INSERT on it any more.",
						   move->queue->name),
				 errhint("GRANT INSERT ON %s, or call cmq_unbind_dead_letter(%s).",
						 cmq_catalog_relname(target->relid),
						 quote_literal_cstr(move->queue->name))));
	if (cmq_queue_leaf(target, cmq_queue_now(target)) == NULL)
	{
		TimestampTz now = cmq_queue_now(target);

		if (!move->wait)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("dead-letter queue \"%s\" has no partition for the present time",
							name),
					 errdetail("Maintenance will make one.")));
		(void) cmq_leaf_make(target, now, now + cmq_leaf_lead(target));
		target = cmq_queue_again(target);
	}
	cmq_uses_guest(move->uses, InvalidOid, 0);
	return target;
}

/* Does the queue take a dead letter, or what was one? */
bool
cmq_dead_letter_fits(CmqQueue *target, Datum body, Datum headers)
{
	return toast_raw_datum_size(body) - VARHDRSZ <= (Size) target->max_msg_size &&
		toast_raw_datum_size(headers) - VARHDRSZ <=
		(Size) target->max_msg_size + CMQ_HEADERS_ADDED &&
		cmq_stats_has_room(target, 1, target->max_msg_heap_num);
}

/*
 * Move the dead message whose pending row is in the slot, if nobody else is at
 * it.
 */
static void
move_letter(Move *move, CmqTable *pending, CmqQueue *target,
			const char *reason)
{
	CmqQueue   *queue = move->queue;
	TimestampTz time = cmq_slot_time(pending->slot, Anum_pending_enqueued_at);
	TimestampTz visible_at = cmq_slot_time(pending->slot,
										   Anum_pending_visible_at);
	int			receive_count = cmq_slot_int(pending->slot,
											 Anum_pending_receive_count);
	CmqLeaf    *leaf = cmq_queue_leaf(queue, time);
	CmqTable	messages;
	Datum		body;
	Datum		headers;
	bool		isnull;
	bool		found;

	if (pending->busy || leaf == NULL)
		return;
	move->opening = true;
	if (!cmq_table_open(&messages, NULL, queue, leaf->messages, CMQ_MESSAGES,
						RowExclusiveLock))
		return;
	move->opening = false;
	found = cmq_table_find(&messages, time, 0);
	if (found)
	{
		/* flat copies: the toast rows go with the message */
		body = PointerGetDatum(PG_DETOAST_DATUM_COPY(cmq_slot_body(messages.slot)));
		headers = slot_getattr(messages.slot, Anum_messages_headers, &isnull);
		headers = dead_letter_headers(queue, time, receive_count, reason,
									  headers, isnull);
	}
	cmq_table_close(&messages);
	if (!found)
		return;
	if (!cmq_dead_letter_fits(target, body, headers))
	{
		move->refused++;
		return;
	}
	if (cmq_table_delete(pending, false) != TM_Ok)
		return;
	cmq_floor_taken(visible_at);
	cmq_floor_taken_message(time);
	cmq_stats_pending(queue->shared, -1);
	cmq_stats_add(queue->shared, CMQ_DEAD_LETTERED, 1);
	cmq_wait_signal_at_end(queue->shared, 0, 1);
	isnull = false;
	cmq_uses_guest(move->uses, target->owner,
				   toast_raw_datum_size(body) + toast_raw_datum_size(headers));
	cmq_send_as_owner(target, 1, &body, &headers, &isnull, NULL);
	cmq_uses_guest(move->uses, InvalidOid, 0);
	delete_message(queue, leaf, time);
	move->moved++;
}

/* Move letters; an error undoes all of it. */
static void
move_letters(const char *name, void *arg)
{
	Move	   *move = arg;
	CmqQueue   *target;
	CmqTable	pending;
	TimestampTz now;
	MemoryContext context;
	MemoryContext old;

	move->moved = move->refused = 0;
	move->opened = move->opening = false;
	target = open_target(move);
	move->opened = true;
	if (target == NULL)
		return;
	now = cmq_queue_now(move->queue);
	move->opening = true;
	if (!cmq_table_open(&pending, NULL, move->queue, move->queue->pending,
						CMQ_PENDING, RowExclusiveLock))
		return;
	move->opening = false;
	context = AllocSetContextCreate(CurrentMemoryContext, "cmq dead letter",
									ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < move->n; i++)
	{
		const CmqLetter *letter = &move->letters[i];
		const char *reason;

		CHECK_FOR_INTERRUPTS();
		if (!cmq_table_find(&pending, letter->visible_at, letter->enqueued_at))
			continue;
		/* the rule may have changed, or the message been received again */
		reason = cmq_dead_letter_reason(move->queue, pending.slot, now);
		if (reason == NULL)
			continue;
		old = MemoryContextSwitchTo(context);
		move_letter(move, &pending, target, reason);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
	cmq_table_close(&pending);
	CommandCounterIncrement();
}

static void
warn_refused(CmqQueue *queue, int refused)
{
	if (refused > 0)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("%d dead letters of queue \"%s\" could not be moved",
						refused, queue->name),
				 cmq_queue_is_readable(queue) ?
				 errdetail("Queue \"%s\" is full, or they are larger than it takes.",
						   queue->dead_letter_queue) :
				 errdetail("Its dead-letter queue is full, or they are larger than that takes.")));
}

/*
 * The dead-letter queue, if it is another owner's, in whose code the queue's
 * owner and those who receive have no reason to trust; else NULL.  So is one that
 * is gone or damaged, to which nothing can be moved anyway.
 */
CmqQueue *
cmq_dead_letter_stranger(CmqQueue *queue)
{
	CmqQueue   *target = queue->dead_letter_queue[0] == '\0' ? NULL :
		cmq_queue_find_whole(queue->dead_letter_queue);

	return target && target->owner != queue->owner &&
		!superuser_arg(target->owner) ? target : NULL;
}

/* Do dead letters stay where they are, whoever receives? */
bool
cmq_dead_letter_stays(CmqQueue *queue)
{
	return pg_atomic_read_u32(&queue->shared->letters_stuck) != 0 ||
		cmq_dead_letter_stranger(queue) != NULL;
}

/*
 * After the scan of a receive, which has met these: move them, if that can be
 * done without waiting and without code of a stranger's.  Returns how many.
 */
int
cmq_dead_letter_move(CmqQueue *queue, const CmqLetter *letters, int n)
{
	Move		move = {.queue = queue, .letters = letters, .n = n};
	CmqSharedQueue *shared = queue->shared;
	bool		readable;
	bool		ok;

	if (cmq_dead_letter_stays(queue))
		return 0;
	readable = cmq_queue_is_readable(queue);
	ok = cmq_queue_try(queue->name, "moving dead letters", move_letters, &move,
					   readable);
	if (!ok || move.refused > 0)
	{
		/* enough for all receives until maintenance has tried */
		pg_atomic_write_u32(&shared->letters_stuck, 1);
		if (ok)
			warn_refused(queue, move.refused);
		else if (!readable)
			/* the text of the error is for those who may read the queue */
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("moving dead letters of queue \"%s\" failed",
							queue->name),
					 errdetail("The owner of the queue finds the reason in the server log, or with cmq_maintain(%s).",
							   quote_literal_cstr(queue->name))));
	}
	return ok ? move.moved : 0;
}

/* Part of the ready rows of a queue, from a place to visible_at until, included. */
typedef struct Look
{
	CmqPlace	place;			/* behind this; then where the look has ended */
	TimestampTz until;
	int64		most;			/* how many rows to look at; 0: any number */
	bool		through;		/* it has come to its end */
	CmqLetter  *letters;		/* palloc'd */
	int			n;
} Look;

/* Find the dead messages, MAX_SWEEP at most. */
static void
list_letters(CmqQueue *queue, Look *look)
{
	TimestampTz now = cmq_queue_now(queue);
	TimestampTz expired_before = cmq_queue_expired_before(queue, now);
	TimestampTz first_alive = look->until;
	CmqFloorScan scan;
	CmqTable	pending;
	bool		from_floor;
	int			allocated = CHUNK;
	int64		looked = 0;

	look->letters = palloc(sizeof(CmqLetter) * allocated);
	look->n = 0;
	look->through = true;
	/* only what the queue clock has given out is no earlier than what is sent now */
	cmq_floor_begin(&scan, queue, Min(now, cmq_clock_last(queue->shared)));
	if (!cmq_table_open(&pending, NULL, queue, queue->pending, CMQ_PENDING,
						AccessShareLock))
		return;
	from_floor = look->place.visible_at <= scan.floor;
	if (from_floor)
		cmq_table_range(&pending, scan.floor, look->until, true);
	else
		cmq_table_after(&pending, &look->place, look->until);
	while (cmq_table_next(&pending))
	{
		CmqPendingKey key;

		cmq_table_key(&pending, &key);
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
									 sizeof(CmqLetter) * allocated);
		}
		look->letters[look->n++] = key;
	}
	/* receives jump over what is dead, and so do not raise the floor beyond it */
	if (from_floor)
		cmq_floor_end(&scan, queue, first_alive, DT_NOBEGIN);
	cmq_table_close(&pending);
}

/* Call move_letters(), with a limit in milliseconds if that is not 0. */
static bool
try_move(Move *move, int limit, bool warn)
{
	static const char *const what = "moving dead letters";
	const char *name = move->queue->name;
	bool		over;
	bool		ok;

	if (limit > 0)
		ok = cmq_limited(limit, name, what, move_letters, move, warn, &over);
	else
		ok = cmq_queue_try(name, what, move_letters, move, warn);
	/* what was interrupted has ended */
	cmq_uses_guest(move->uses, InvalidOid, 0);
	return ok;
}

/* What all looks of one sweep have in common. */
typedef struct Sweep
{
	Move		move;
	int			limit;			/* for all of it, in milliseconds; 0: none */
	int64		end;			/* when that is over, elapsed */
	int			refused;
	bool		warned;
	bool		ended;			/* nothing more can be done in this sweep */
} Sweep;

/*
 * Move these letters: many at once; if that fails, each by itself.  Returns how many
 * were tried: what the limit is too short for stays.
 */
static int
sweep_letters(Sweep *sweep, CmqLetter *letters, int n)
{
	Move	   *move = &sweep->move;
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
		/* one that takes all of it must leave some to the others */
		if (try_move(move, sweep->limit == 0 ? 0 :
					 Min(left, sweep->limit / (move->n > 1 ? 2 : 10)),
					 !sweep->warned))
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
		/* unbound meanwhile */
		if (move->queue->dead_letter_queue[0] == '\0')
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
	CmqSharedQueue *shared = queue->shared;

	if (portion->bounded &&
		(shared->letters_count != queue->max_receive_count ||
		 shared->letters_time != queue->max_time_to_live))
	{
		CmqPlace	beginning = {DT_NOBEGIN, DT_NOBEGIN};

		shared->letters_count = queue->max_receive_count;
		shared->letters_time = queue->max_time_to_live;
		cmq_place_set(queue, portion, CMQ_LETTERS_PLACE, &beginning);
	}
	return cmq_place_get(queue, portion, CMQ_LETTERS_PLACE);
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
	cmq_place_set(sweep->move.queue, portion, CMQ_LETTERS_PLACE, &look.place);
	pfree(look.letters);
}

/*
 * Nearly all that stands left of the time to live is dead: no need to wait until the
 * walk comes by.
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

/* Move what is dead.  Warns once.  limit, in milliseconds, is for all of it. */
static void
sweep(CmqQueue *queue, const CmqPortion *portion, int limit, CmqUses *uses)
{
	Sweep		sweep = {
		.move = {.queue = queue,.wait = true,.uses = uses},
		.limit = limit,
		.end = cmq_elapsed() + limit * INT64CONST(1000)
	};
	bool		from_left =
		get_place(queue, portion).visible_at == DT_NOBEGIN;

	sweep_on(&sweep, portion);
	queue = sweep.move.queue;
	if (!from_left && !sweep.ended && queue->max_time_to_live > 0)
		sweep_left(&sweep);
	queue = sweep.move.queue;
	warn_refused(queue, sweep.refused);
	if (sweep.refused > 0 || sweep.warned)
		pg_atomic_write_u32(&queue->shared->letters_stuck, 1);
}

/*
 * Maintenance: move what is dead, also when nobody receives.  A worker has other
 * queues to look after: it looks at MAX_LOOKS rows, goes on there in the next round,
 * and leaves to it what takes too long.
 */
CmqStepResult
cmq_dead_letter_sweep(CmqQueue *queue, const CmqPortion *portion)
{
	if (queue->dead_letter_queue[0] == '\0')
		return CMQ_STEP_DONE;
	pg_atomic_write_u32(&queue->shared->letters_stuck, 0);
	/* what has been moved must be committed before the step is cancelled */
	if (cmq_dead_letter_stranger(queue) == NULL)
		sweep(queue, portion, portion->bounded ?
			  Min(OWN_LIMIT, cmq_maintenance_timeout * 500) : 0, NULL);
	return CMQ_STEP_DONE;
}

/*
 * The worker: the same to a dead-letter queue of another owner, for so many
 * milliseconds.  The caller has opened the queue.
 */
void
cmq_dead_letter_sweep_stranger(CmqQueue *queue, int limit)
{
	CmqPortion	portion = {.bounded = true};
	Oid			save_userid;
	int			save_sec_context;
	int			nestlevel;

	if (queue->is_target || cmq_dead_letter_stranger(queue) == NULL)
		return;
	INSTR_TIME_SET_CURRENT(portion.begun);
	nestlevel = cmq_ddl_enter(queue->owner, &save_userid, &save_sec_context);
	sweep(queue, &portion, limit, cmq_turn_uses());
	cmq_ddl_leave(nestlevel, save_userid, save_sec_context);
}

/*
 * Raise 42501 unless the caller may end the queue's policy: with UPDATE on the
 * queue, or as the owner of the dead-letter queue.  For a description that
 * cmq_catalog_find_queue() has filled.
 */
static void
check_unbind(CmqQueue *queue)
{
	CmqQueue   *target = NULL;

	if (queue->dead_letter_queue[0])
		target = cmq_queue_find_whole(queue->dead_letter_queue);
	if (target &&
		object_ownercheck(RelationRelationId, target->relid, GetUserId()))
		return;
	/* damaged, it has no rights that anybody could have */
	if (cmq_queue_has_relation(queue, queue->relid, CMQ_RIGHTS))
		cmq_queue_check_acl(queue, ACL_UPDATE);
	else if (!superuser())
		/* raises an error, unless it has just been repaired */
		cmq_queue_check_acl(cmq_queue_lookup(queue->name), ACL_UPDATE);
}

/*
 * The owner of the dead-letter queue must be able to end the policy of a damaged
 * queue, too: so not by cmq_queue_lookup().
 */
static void
load_to_unbind(CmqQueue *queue, const char *name)
{
	if (!cmq_catalog_find_queue(queue, name))
		cmq_queue_report_unknown(name);
	check_unbind(queue);
}

/* End the policy.  The caller holds the queue lock, and has read the row since. */
static void
unbind(CmqQueue *queue)
{
	CmqSharedQueue *shared = cmq_shmem_use(queue->pending);

	queue->dead_letter_queue[0] = '\0';
	queue->max_receive_count = queue->max_time_to_live = 0;
	queue->last_modify_time = shared ? cmq_clock_peek(shared) :
		Max(cmq_time(), queue->saved_clock);
	cmq_catalog_update_queue(queue);
}

/*
 * A queue is gone: end the policies of those whose dead letters went there, as its
 * owner could have done.  They must not go to another queue that takes the name.
 * False if somebody has one of these locked and the caller does not wait.
 */
bool
cmq_dead_letter_forget(const char *name, bool wait)
{
	ListCell   *lc;

	foreach(lc, cmq_catalog_dead_letter_sources(name))
	{
		CmqQueue	source;
		Oid			locked = InvalidOid;

		while (cmq_catalog_find_queue(&source, lfirst(lc)) &&
			   source.relid != locked)
		{
			locked = source.relid;
			if (wait)
				LockDatabaseObject(RelationRelationId, locked, 0, ExclusiveLock);
			else if (!ConditionalLockDatabaseObject(RelationRelationId, locked, 0,
													ExclusiveLock))
				return false;
		}
		if (source.relid == locked &&
			strcmp(source.dead_letter_queue, name) == 0)
			unbind(&source);
	}
	return true;
}

Datum
cmq_unbind_dead_letter(PG_FUNCTION_ARGS)
{
	CmqQueue	queue;
	Oid			locked = InvalidOid;
	char	   *name;

	cmq_begin_write("cmq_unbind_dead_letter()");
	name = cmq_queue_name_arg(fcinfo, 0);
	load_to_unbind(&queue, name);
	while (queue.relid != locked)
	{
		locked = queue.relid;
		LockDatabaseObject(RelationRelationId, locked, 0, ExclusiveLock);
		load_to_unbind(&queue, name);
	}
	if (queue.dead_letter_queue[0])
		unbind(&queue);
	PG_RETURN_VOID();
}
