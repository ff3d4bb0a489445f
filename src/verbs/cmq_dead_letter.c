/*-------------------------------------------------------------------------
 *
 * cmq_dead_letter.c
 *	  Move messages that nobody manages to consume to a dead-letter queue;
 *	  cmq_redrive.c sends them back.
 *
 * A ready message is dead when it has been received max_receive_count times, or
 * max_time_to_live seconds after it could first be received: after its production, or the
 * end of its delay, which may be longer than these seconds.  A rewound or restored message
 * starts anew: the seconds are counted from when it is first received again.  A message in
 * flight or delayed is not dead: its consumer may still be done with it, or has not had it.
 *
 * Invariant: a message is never in both queues, and never in neither.
 *
 * A receive passes dead messages over.  They are moved after its scan, or by
 * maintenance.  The move deletes the pending row, without waiting, as a claim
 * does; sends the body to the dead-letter queue as a new message, whose headers
 * say where it comes from; and deletes the message, which leaves no history.  All
 * of that is one transaction.
 *
 * While a queue is paused no letter leaves it, because its consumers have no chance.
 * That the dead-letter queue is paused does not matter, sends to it go on.
 *
 * A letter is moved only while the owner of its queue has INSERT on the
 * dead-letter queue, and obeys the limits of that queue.  It is written as the
 * owner of the dead-letter queue, whose code in indexes runs then.  Who moves:
 *	- A receive only if both queues have one owner, or the dead-letter queue is a
 *	  superuser's.  It waits for no lock of the dead-letter queue and has no
 *	  worker started for it.  When a move fails, the receive says so once, and no
 *	  receive tries again before maintenance has.  Until then receives jump over
 *	  what is dead (cmq_stretch.c).
 *	- Maintenance, in the same case, as one of its steps.
 *	- When the dead-letter queue is another owner's, the worker alone, after all
 *	  other work, for a short time; cmq_turn.c says which queue pays for it.
 * What cannot be moved stays, is not delivered, and holds up nothing else.
 *
 * Locks: a receive, and the worker's turn for other owners' queues, take RowExclusive on
 * the pending table of the queue, then on that of the dead-letter queue.  A step of
 * maintenance has AccessShare on the first, takes the second, then RowExclusive on the
 * first: a transaction that alters the retention of both may be in a circle with it, which
 * the server finds like any deadlock.  Moves among themselves make no circle, since a
 * dead-letter queue has none itself (cmq_binding.c).
 *
 * Abort: each try is a subtransaction; an error undoes all of the try.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "base/cmq_headers.h"
#include "base/cmq_names.h"
#include "base/cmq_try.h"
#include "base/cmq_uses.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_counting.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_dead_letter.h"
#include "verbs/cmq_outgoing.h"

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
			cmq_slot_ready_first(slot);

		/* a restored message that nobody has received yet has no such time */
		if (since != DT_NOBEGIN &&
			since <= now - queue->max_time_to_live * USECS_PER_SEC)
			return "max_time_to_live";
	}
	return NULL;
}

/* The headers of a dead letter; group is a member of them, or empty. */
static Datum
dead_letter_headers(CmqQueue *queue, TimestampTz enqueued_at,
					int receive_count, const char *reason, const char *group,
					Datum headers, bool isnull)
{
	/* nothing else in it needs to be escaped */
	char	   *members =
		psprintf("\"queue\": \"%s\", \"msg_id\": %lld, \"enqueued_at\": \"%s\", "
				 "\"receive_count\": %d, \"reason\": \"%s\"%s",
				 queue->name, (long long) cmq_time_to_msg_id(enqueued_at),
				 cmq_headers_time(enqueued_at), receive_count, reason, group);

	return cmq_headers_add(headers, isnull, CMQ_DEAD_LETTER_HEADER, members);
}

/*
 * Lock the dead-letter queue of move->queue, with a leaf for the present time; NULL if
 * the queue is no longer bound to it, or is paused.  Renews move->queue.  Raises an error
 * if lock or leaf cannot be had, or the right that the binding rests on is gone.
 */
static CmqQueue *
open_target(CmqLetterMove *move)
{
	char	   *name = pstrdup(move->queue->dead_letter_queue);
	CmqQueue   *target = cmq_queue_lookup(name, ACL_NO_RIGHTS);

	cmq_uses_guest(move->uses, target->owner, 0);
	if (move->wait)
		LockRelationOid(target->pending, RowExclusiveLock);
	else if (!ConditionalLockRelationOid(target->pending, RowExclusiveLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("dead-letter queue \"%s\" is locked", name)));

	/* by now it may be unbound and dropped, and another queue have the name */
	move->queue = cmq_queue_again(move->queue);
	if (strcmp(move->queue->dead_letter_queue, name) != 0 ||
		cmq_is_paused(move->queue))
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
						 cmq_full_name(target->relid),
						 quote_literal_cstr(move->queue->name))));
	if (cmq_bounds_leaf(target, cmq_queue_now(target)) == NULL)
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

/* Does the queue take a letter with these headers, a dead one or one sent back? */
bool
cmq_dead_letter_fits(CmqQueue *target, Datum body, Datum headers)
{
	return toast_raw_datum_size(body) - VARHDRSZ <= (Size) target->max_msg_size &&
		toast_raw_datum_size(headers) - VARHDRSZ <=
		(Size) target->max_msg_size + CMQ_HEADERS_ADDED &&
		cmq_counting_has_room(target, 1, target->max_msg_heap_num);
}

/* One try to move letters. */
typedef struct MoveState
{
	CmqLetterMove *move;
	CmqQueue   *target;
	CmqPending	pending;
	CmqMessageRows messages;
	MemoryContext context;		/* for one letter */
} MoveState;

/* A letter as it will be sent. */
typedef struct Letter
{
	Datum		body;
	Datum		headers;
	bool		headers_null;
	Datum		group;
	bool		group_null;
} Letter;

/*
 * Copy the dead message of this time, as it will be sent.  The copy is flat: the toast
 * rows go with the message.  A queue that has no groups gets the group in the headers, for
 * a redrive.  False if there is no such message any more.
 */
static bool
copy_letter(MoveState *state, TimestampTz time, const char *topic,
			const char *reason, Letter *letter)
{
	CmqLetterMove *move = state->move;
	TupleTableSlot *slot;
	int			receive_count = cmq_slot_int(state->pending.table.slot,
											 Anum_pending_receive_count);
	bool		ordered = state->target->ordered;
	bool		isnull;
	bool		opened;
	Datum		headers;

	move->opening = true;
	opened = cmq_message_rows_open(&state->messages, time, topic);
	move->opening = false;
	if (!opened || !cmq_message_rows_find(&state->messages, time, topic))
		return false;
	slot = state->messages.slot;
	letter->body = PointerGetDatum(PG_DETOAST_DATUM_COPY(cmq_slot_body(slot)));
	letter->group = cmq_message_rows_group(&state->messages, &letter->group_null);
	if (!letter->group_null)
		letter->group = PointerGetDatum(PG_DETOAST_DATUM_COPY(letter->group));
	headers = slot_getattr(slot, Anum_messages_headers, &isnull);
	letter->headers =
		dead_letter_headers(move->queue, time, receive_count, reason,
							cmq_headers_group(letter->group,
											  letter->group_null || ordered),
							headers, isnull);
	letter->headers_null = false;
	return true;
}

/* Move the dead message whose pending row is in the slot, unless others change the row. */
static void
move_letter(MoveState *state, const char *reason)
{
	CmqLetterMove *move = state->move;
	CmqTable   *pending = &state->pending.table;
	TimestampTz time = cmq_slot_time(pending->slot, Anum_pending_enqueued_at);
	char		topic[NAMEDATALEN];
	Letter		letter;
	CmqOutgoing out = {
		.n = 1,
		.bodies = &letter.body,
		.headers = &letter.headers,
		.headers_null = &letter.headers_null,
		.groups = state->target->ordered ? &letter.group : NULL,
		.groups_null = &letter.group_null
	};

	cmq_slot_topic(pending->slot, Anum_pending_topic, topic);
	if (pending->busy || !copy_letter(state, time, topic, reason, &letter))
		return;
	if (!cmq_dead_letter_fits(state->target, letter.body, letter.headers))
	{
		move->refused++;
		return;
	}
	if (!cmq_pending_take(&state->pending, false))
		return;
	cmq_xact_count(move->queue->shared, CMQ_DEAD_LETTERED, 1);
	cmq_uses_guest(move->uses, state->target->owner,
				   toast_raw_datum_size(letter.body) +
				   toast_raw_datum_size(letter.headers));
	cmq_outgoing_write_as_owner(state->target, &out, 0, NULL);
	cmq_uses_guest(move->uses, InvalidOid, 0);
	(void) cmq_message_rows_remove(&state->messages, time, topic);
	move->moved++;
}

/* Move letters.  Called in a subtransaction (cmq_try()): an error undoes all of it. */
void
cmq_dead_letter_move_some(const char *name, void *arg)
{
	CmqLetterMove *move = arg;
	MoveState	state = {.move = move};
	CmqTable   *pending = &state.pending.table;
	TimestampTz now;
	MemoryContext old;

	move->moved = move->refused = 0;
	move->opened = move->opening = false;
	state.target = open_target(move);
	move->opened = true;
	if (state.target == NULL)
		return;
	now = cmq_queue_now(move->queue);
	move->opening = true;
	cmq_pending_open(&state.pending, move->queue, false);
	move->opening = false;
	cmq_message_rows_begin(&state.messages, move->queue, RowExclusiveLock);
	state.context = AllocSetContextCreate(CurrentMemoryContext,
										  "cmq dead letter",
										  ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < move->n; i++)
	{
		const CmqPendingKey *letter = &move->letters[i];
		const char *reason;

		CHECK_FOR_INTERRUPTS();
		if (!cmq_table_find(pending, letter->visible_at, letter->enqueued_at))
			continue;
		/* the rule may have changed, or the message been received again */
		reason = cmq_dead_letter_reason(move->queue, pending->slot, now);
		if (reason == NULL)
			continue;
		old = MemoryContextSwitchTo(state.context);
		move_letter(&state, reason);
		MemoryContextSwitchTo(old);
		MemoryContextReset(state.context);
	}
	MemoryContextDelete(state.context);
	cmq_message_rows_end(&state.messages);
	cmq_pending_close(&state.pending);
}

void
cmq_dead_letter_warn_refused(CmqQueue *queue, int refused)
{
	if (refused > 0)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("%d dead letters of queue \"%s\" could not be moved",
						refused, queue->name),
				 cmq_rights_is_readable(queue) ?
				 errdetail("Queue \"%s\" is full, or they are larger than it takes.",
						   queue->dead_letter_queue) :
				 errdetail("Its dead-letter queue is full, or they are larger than that takes.")));
}

/*
 * The dead-letter queue, if it belongs to another owner, whose code the owner of the
 * queue and its receivers have no reason to trust; else NULL.  Also NULL if the
 * dead-letter queue is gone or damaged: nothing can be moved to it.
 */
CmqQueue *
cmq_dead_letter_stranger(CmqQueue *queue)
{
	CmqQueue   *target = queue->dead_letter_queue[0] == '\0' ? NULL :
		cmq_queue_find_whole(queue->dead_letter_queue);

	return target && target->owner != queue->owner &&
		!superuser_arg(target->owner) ? target : NULL;
}

/* Do dead letters stay in the queue, whatever role receives? */
bool
cmq_dead_letter_stays(CmqQueue *queue)
{
	return cmq_notes_letters_are_stuck(queue->shared) ||
		cmq_dead_letter_stranger(queue) != NULL;
}

/*
 * Move the letters that the scan of a receive has met, if that can be done without
 * waiting and without code of another owner.  Returns how many were moved; a failure is
 * a warning.
 */
int
cmq_dead_letter_move(CmqQueue *queue, const CmqPendingKey *letters, int n)
{
	CmqLetterMove move = {.queue = queue,.letters = letters,.n = n};
	CmqSharedQueue *shared = queue->shared;
	bool		readable;
	bool		ok;

	if (cmq_dead_letter_stays(queue))
		return 0;
	readable = cmq_rights_is_readable(queue);
	ok = cmq_try(queue->name, "moving dead letters", cmq_dead_letter_move_some,
				 &move, readable ? CMQ_TRY_WARN : 0);
	if (!ok || move.refused > 0)
	{
		/* enough for all receives until maintenance has tried */
		cmq_notes_letters_stuck(shared, true);
		if (ok)
			cmq_dead_letter_warn_refused(queue, move.refused);
		else if (!readable)
			/* only readers of the queue may see the text of the error */
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("moving dead letters of queue \"%s\" failed",
							queue->name),
					 errdetail("The owner of the queue finds the reason in the server log, or with cmq_maintain(%s).",
							   quote_literal_cstr(queue->name))));
	}
	return ok ? move.moved : 0;
}
