/*-------------------------------------------------------------------------
 *
 * cmq_receive.c
 *	  Receive: take ready messages and make them in flight.
 *
 * Two ordered sources are merged, the smaller key first:
 *	- ready: pending rows with visible_at up to the queue clock, from the left
 *	  end of the primary key.  What is in flight or delayed lies to the right
 *	  and is never looked at.
 *	- due: rows of the rewind tables that the rewind under way brings back, by
 *	  enqueued_at, from rewind_from up to rewound_at.
 * Both scans begin at the floor (cmq_floor.c), not among the remains of what
 * was consumed, and that of ready rows jumps over stretches that are of no use
 * (cmq_stretch.c).
 *
 * A message is claimed by deleting its row in the source, without ever waiting:
 * if another transaction is changing the row, or has, it is passed over.  Then
 * the pending row of the new delivery is inserted.  So receivers wait for
 * nobody, cannot deadlock and never get the same message.  Rolling back puts
 * the row back as it was.  (An update in place of delete and insert would be
 * a little cheaper, but heap_update() does not support not waiting.)
 *
 * Dead messages (cmq_dead_letter.c) are passed over, and moved away after the
 * scan if nobody has to be waited for and no stranger's code runs for it.
 *
 * Messages past their retention are passed over, and so are those whose leaf
 * is gone: it was dropped because they expired.  One that cannot be read is put
 * off, not returned (cmq_damage.c).
 *
 * Locks: RowExclusive on the pending table and the rewind leaves, AccessShare
 * on the message leaves; to the end of the transaction, but not while a receive
 * waits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lockdefs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "base/cmq_try.h"
#include "memory/cmq_async.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_count.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_stretch.h"
#include "memory/cmq_types.h"
#include "memory/cmq_wait.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_catalog.h"
#include "store/cmq_damage.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "store/cmq_table.h"
#include "verbs/cmq_dead_letter.h"

PG_FUNCTION_INFO_V1(cmq_receive);

/* How many dead messages one receive moves away. */
#define MAX_LETTERS 1000

/* How many messages that cannot be read one receive puts off. */
#define MAX_UNREADABLE 100

/* Nanoseconds between two ready rows, learned; see look_for_ready(). */
#define MAX_SPACING		(UINT64CONST(1) << 40)
#define NSECS_PER_USEC	1000

/* Columns of type cmq.message. */
enum
{
	Anum_message_msg_id = 1,
	Anum_message_receipt_handle,
	Anum_message_body,
	Anum_message_headers,
	Anum_message_enqueued_at,
	Anum_message_first_received_at,
	Anum_message_next_visible_at,
	Anum_message_receive_count,
	Anum_message_rewind_count,
	Natts_message = 9
};

typedef struct ReceiveState
{
	CmqQueue   *queue;
	EState	   *estate;
	TimestampTz now;
	TimestampTz expired_before;
	TimestampTz next_visible_at;
	CmqFloorScan floor;
	CmqStretchScan *stretches;
	CmqTable	pending;
	TimestampTz first_alive;	/* visible_at of the first row that was met */
	int64		distance;		/* how far a look goes, at first */
	TimestampTz reach;			/* how far the scan of pending goes */
	bool		reach_short;	/* the first look did not go far enough */

	/* the rewind leaf being scanned; none when rewind_leaf == nleaves */
	CmqTable	rewind;
	int			rewind_leaf;
	bool		rewind_open;

	/* the message leaf of the last body, kept open for the next one */
	CmqTable	messages;
	CmqLeaf    *messages_leaf;

	CmqReading	reading;
} ReceiveState;

/* One delivery about to be made. */
typedef struct Delivery
{
	TimestampTz enqueued_at;
	TimestampTz first_received_at;
	int			receive_count;
	int			rewind_count;
} Delivery;

/*
 * Open the message leaf of this time.  False if it is gone: the message has
 * expired.
 */
static bool
open_messages(ReceiveState *state, TimestampTz time)
{
	CmqLeaf    *leaf = state->messages_leaf;

	if (leaf && time >= leaf->lower && time < leaf->upper)
		return true;
	if (leaf)
	{
		cmq_table_close(&state->messages);
		state->messages_leaf = NULL;
	}
	leaf = cmq_queue_leaf(state->queue, time);
	if (leaf == NULL || !cmq_table_open(&state->messages, NULL, state->queue, leaf->messages, CMQ_MESSAGES,
										AccessShareLock))
		return false;
	state->messages_leaf = leaf;
	return true;
}

/*
 * Begin to look for ready rows.  An index scan takes in all that matches on a
 * page before it returns the first row: hundreds of rows, when that many are
 * ready.  So the first look reaches only about as far as is needed, going by
 * the spacing of rows in this queue.  That is learned: each time the first
 * look turns out to be too short the spacing is doubled, else it shrinks a bit.
 */
static void
look_for_ready(ReceiveState *state, int max_messages)
{
	TimestampTz floor = state->floor.floor;
	int64		spacing;

	spacing = (int64) cmq_notes_spacing(state->queue->shared);
	state->distance = spacing * (2 * max_messages + 16) / NSECS_PER_USEC;
	state->reach = state->now;
	if (floor != DT_NOBEGIN && floor < state->now - state->distance)
		state->reach = floor + state->distance;
	cmq_table_range(&state->pending, floor, state->reach, true);
}

/* A hint: that others do the same at the same time does not matter. */
static void
learn_spacing(ReceiveState *state)
{
	CmqSharedQueue *shared = state->queue->shared;
	uint64		spacing = cmq_notes_spacing(shared);

	if (!state->reach_short)
		cmq_notes_set_spacing(shared, spacing - spacing / 32);
	else if (spacing < MAX_SPACING)
		cmq_notes_set_spacing(shared, spacing * 2 + 1);
}

/* Move to the next ready row that has not expired and is in no stretch. */
static bool
next_ready(ReceiveState *state)
{
	for (;;)
	{
		while (cmq_table_next(&state->pending))
		{
			CmqPendingKey key;
			CmqPendingKey last;

			cmq_table_key(&state->pending, &key);
			if (key.enqueued_at < state->expired_before)
				continue;
			if (state->first_alive == DT_NOEND)
				state->first_alive = key.visible_at;
			if (!cmq_stretch_jump(state->stretches, &key, &last))
				return true;
			state->reach = state->now;
			if (last.visible_at < state->now - state->distance)
				state->reach = last.visible_at + state->distance;
			cmq_table_after(&state->pending, &last, state->reach);
		}
		if (state->reach >= state->now)
			return false;
		cmq_table_range(&state->pending, state->reach + 1, state->now, true);
		state->reach = state->now;
		state->reach_short = true;
	}
}

/* Move to the next row that is due for the rewind, leaf after leaf. */
static bool
next_due(ReceiveState *state)
{
	CmqQueue   *queue = state->queue;
	const CmqRewind *rewinding = &queue->rewinding;
	TimestampTz from = Max(Max(rewinding->from, state->expired_before),
						   state->floor.rewind_floor);

	while (rewinding->active && state->rewind_leaf < queue->nleaves)
	{
		CmqLeaf    *leaf = &queue->leaves[state->rewind_leaf];

		if (!state->rewind_open)
		{
			if (leaf->upper > from && leaf->lower < rewinding->rewound_at &&
				cmq_table_open(&state->rewind, NULL, state->queue, leaf->rewind, CMQ_REWIND,
							   RowExclusiveLock))
			{
				state->rewind_open = true;
				cmq_table_range(&state->rewind, from, rewinding->rewound_at,
								false);
			}
			else
			{
				state->rewind_leaf++;
				continue;
			}
		}
		while (cmq_table_next(&state->rewind))
		{
			TupleTableSlot *slot = state->rewind.slot;

			if (cmq_rewind_is_due(rewinding,
								  cmq_slot_time(slot, Anum_rewind_enqueued_at),
								  cmq_slot_time(slot, Anum_rewind_deleted_at),
								  cmq_slot_int64(slot, Anum_rewind_deleted_xact)))
				return true;
		}
		cmq_table_close(&state->rewind);
		state->rewind_open = false;
		state->rewind_leaf++;
	}
	return false;
}

static void
pending_row(ReceiveState *state, const Delivery *delivery, Datum *values,
			bool *isnull)
{
	memset(isnull, false, Natts_pending * sizeof(bool));
	values[Anum_pending_visible_at - 1] =
		TimestampTzGetDatum(state->next_visible_at);
	values[Anum_pending_enqueued_at - 1] =
		TimestampTzGetDatum(delivery->enqueued_at);
	values[Anum_pending_first_received_at - 1] =
		TimestampTzGetDatum(delivery->first_received_at);
	values[Anum_pending_receive_count - 1] =
		Int32GetDatum(delivery->receive_count);
	values[Anum_pending_rewind_count - 1] =
		Int32GetDatum(delivery->rewind_count);
}

/* Claim the ready row that the scan stands at; false if somebody else has. */
static bool
claim_ready(ReceiveState *state, Delivery *delivery)
{
	TupleTableSlot *slot = state->pending.slot;
	TimestampTz visible_at = cmq_slot_time(slot, Anum_pending_visible_at);
	Datum		values[Natts_pending];
	bool		isnull[Natts_pending];

	delivery->enqueued_at = cmq_slot_time(slot, Anum_pending_enqueued_at);
	delivery->first_received_at = cmq_slot_first_received(slot);
	if (delivery->first_received_at == DT_NOBEGIN)
		delivery->first_received_at = state->now;
	delivery->receive_count = cmq_slot_int(slot, Anum_pending_receive_count);
	if (delivery->receive_count < PG_INT32_MAX)
		delivery->receive_count++;
	delivery->rewind_count = cmq_slot_int(slot, Anum_pending_rewind_count);

	if (!open_messages(state, delivery->enqueued_at))
		return false;
	pending_row(state, delivery, values, isnull);
	if (cmq_table_delete(&state->pending, false) != TM_Ok)
		return false;
	cmq_xact_taken(state->queue->shared, visible_at);
	cmq_xact_wake(state->queue->shared, 0, 1);
	cmq_table_insert(&state->pending, values, isnull, CMQ_NARROW_ROW_SIZE);
	return true;
}

/* The same for the due row: its message's life starts anew. */
static bool
claim_due(ReceiveState *state, Delivery *delivery)
{
	TupleTableSlot *slot = state->rewind.slot;
	Datum		values[Natts_pending];
	bool		isnull[Natts_pending];

	delivery->enqueued_at = cmq_slot_time(slot, Anum_rewind_enqueued_at);
	delivery->first_received_at = state->now;
	delivery->receive_count = 1;
	delivery->rewind_count = cmq_slot_int(slot, Anum_rewind_rewind_count);
	if (delivery->rewind_count < PG_INT32_MAX)
		delivery->rewind_count++;

	if (state->rewind.busy || !open_messages(state, delivery->enqueued_at) ||
		cmq_table_delete(&state->rewind, false) != TM_Ok)
		return false;
	cmq_xact_taken_due(state->queue->shared, delivery->enqueued_at);
	cmq_xact_bring_back(state->queue->shared, delivery->enqueued_at);
	cmq_xact_due(state->queue->shared, state->queue->rewinding.rewound_at,
				  delivery->enqueued_at);
	cmq_xact_wake(state->queue->shared, 0, 1);
	pending_row(state, delivery, values, isnull);
	cmq_table_insert(&state->pending, values, isnull, CMQ_NARROW_ROW_SIZE);
	return true;
}

/*
 * Read a claimed message from its leaf and add it to the result.  False if there is
 * no such message, which happens only when somebody removed it by hand.
 */
static bool
read_message(ReceiveState *state, CmqTable *messages, const Delivery *delivery,
			 ReturnSetInfo *rsinfo)
{
	Datum		values[Natts_message];
	bool		isnull[Natts_message] = {false};
	TupleTableSlot *slot = messages->slot;
	CmqHandle	handle;
	MemoryContext old;

	if (!cmq_table_find(messages, delivery->enqueued_at, 0))
		return false;

	handle.enqueued_at = delivery->enqueued_at;
	handle.visible_at = state->next_visible_at;
	handle.receive_count = delivery->receive_count;
	handle.rewind_count = delivery->rewind_count;

	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(state->estate));
	slot_getallattrs(slot);
	values[Anum_message_msg_id - 1] =
		Int64GetDatum(cmq_time_to_msg_id(delivery->enqueued_at));
	values[Anum_message_receipt_handle - 1] =
		CStringGetTextDatum(cmq_handle_out(&handle));

	/* flat copies: the toast rows may be gone before the result is read */
	values[Anum_message_body - 1] =
		PointerGetDatum(PG_DETOAST_DATUM_PACKED(cmq_slot_body(slot)));
	isnull[Anum_message_headers - 1] =
		slot->tts_isnull[Anum_messages_headers - 1];
	if (!isnull[Anum_message_headers - 1])
		values[Anum_message_headers - 1] =
			PointerGetDatum(PG_DETOAST_DATUM_PACKED(slot->tts_values[Anum_messages_headers - 1]));
	values[Anum_message_enqueued_at - 1] =
		TimestampTzGetDatum(delivery->enqueued_at);
	values[Anum_message_first_received_at - 1] =
		TimestampTzGetDatum(delivery->first_received_at);
	values[Anum_message_next_visible_at - 1] =
		TimestampTzGetDatum(state->next_visible_at);
	values[Anum_message_receive_count - 1] =
		Int32GetDatum(delivery->receive_count);
	values[Anum_message_rewind_count - 1] =
		Int32GetDatum(delivery->rewind_count);
	MemoryContextSwitchTo(old);

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	return true;
}

typedef struct TryRead
{
	ReceiveState *state;
	const Delivery *delivery;
	ReturnSetInfo *rsinfo;
	bool		found;
} TryRead;

/* All that an abort of the subtransaction gives back is opened and closed here. */
static void
try_read(const char *name, void *arg)
{
	TryRead    *try = arg;
	CmqQueue   *queue = try->state->queue;
	CmqLeaf    *leaf = cmq_queue_leaf(queue, try->delivery->enqueued_at);
	CmqTable	messages;

	if (leaf == NULL ||
		!cmq_table_open(&messages, NULL, queue, leaf->messages, CMQ_MESSAGES,
						AccessShareLock))
		return;
	try->found = read_message(try->state, &messages, try->delivery,
							  try->rsinfo);
	cmq_table_close(&messages);
}

/* Add a claimed message to the result.  False if it cannot be read. */
static bool
return_message(ReceiveState *state, const Delivery *delivery,
			   ReturnSetInfo *rsinfo)
{
	bool		found;

	if (unlikely(cmq_notes_is_damaged(state->queue->shared)))
	{
		TryRead		try = {
			.state = state,
			.delivery = delivery,
			.rsinfo = rsinfo
		};
		char	   *what = psprintf("reading message %lld",
									(long long) cmq_time_to_msg_id(delivery->enqueued_at));

		(void) cmq_try(state->queue->name, what, try_read, &try,
					   CMQ_TRY_WARN);
		pfree(what);
		return try.found;
	}
	state->reading.message = delivery->enqueued_at;
	found = read_message(state, &state->messages, delivery, rsinfo);
	state->reading.message = DT_NOBEGIN;
	return found;
}

/*
 * Claim the ready row that the scan stands at, unless it is dead or somebody has it.
 * A dead one is added to letters, which are made with the first one.
 */
static bool
take_ready(ReceiveState *state, Delivery *delivery, CmqLetter **letters,
		   int *nletters)
{
	bool		dead = cmq_dead_letter_reason(state->queue, state->pending.slot,
											  state->now) != NULL;
	CmqPendingKey key;

	if (!dead && !state->pending.busy)
	{
		cmq_stretch_stop(state->stretches);
		return claim_ready(state, delivery);
	}
	cmq_table_key(&state->pending, &key);
	cmq_stretch_pass(state->stretches, &key,
					 dead ? InvalidTransactionId : state->pending.busy_with);
	if (!dead)
		return false;
	if (*letters == NULL)
		*letters = palloc(MAX_LETTERS * sizeof(CmqLetter));
	if (*nletters < MAX_LETTERS)
		(*letters)[(*nletters)++] = key;
	return false;
}

static bool
letters_stay(void *arg)
{
	return cmq_dead_letter_stays(arg);
}

/*
 * Receive what is there.  Returns how many messages.  When there are none and
 * next_visible is given, it is set to the time when the next one that is
 * delayed or in flight becomes visible, if that is before the time in it, else
 * to DT_NOEND.  Sets *moved if dead messages were moved away, or nothing but
 * messages that cannot be read was met: that must not wait for our commit.
 */
static int
receive_messages(CmqQueue *queue, int max_messages, int visibility_timeout,
				 ReturnSetInfo *rsinfo, TimestampTz *next_visible, bool *moved)
{
	ReceiveState state;
	CmqStretchScan stretches;
	CmqDeadRule rule = {
		.max_receive_count = queue->max_receive_count,
		.max_time_to_live = queue->max_time_to_live,
		.stay = letters_stay,
		.arg = queue
	};
	bool		have_ready = false;
	bool		have_due = false;
	bool		ready_done = false;
	bool		due_done = !queue->rewinding.active;
	bool		first = true;
	bool		claimed_any = false;
	bool		only_receives;
	TimestampTz first_due = DT_NOEND;
	CmqAnnouncement published_before;
	int			n = 0;
	int			nredelivered = 0;
	int			nrewound = 0;
	int			nmoved = 0;
	int			nunreadable = 0;
	CmqLetter  *letters = NULL;
	int			nletters = 0;

	memset(&state, 0, sizeof(state));
	state.queue = queue;
	state.stretches = &stretches;
	state.first_alive = DT_NOEND;
	state.estate = CreateExecutorState();
	only_receives = cmq_async_begin();
	published_before = cmq_xact_announce();
	state.now = cmq_clock_now(queue->shared);
	state.expired_before = cmq_queue_expired_before(queue, state.now);
	state.next_visible_at = state.now + visibility_timeout * USECS_PER_SEC;
	if (!cmq_table_open(&state.pending, state.estate, queue, queue->pending,
						CMQ_PENDING, RowExclusiveLock))
		elog(ERROR, "pending table of queue \"%s\" vanished", queue->name);
	cmq_xact_publish(state.next_visible_at);
	cmq_floor_begin(&state.floor, queue->shared, queue->rewinding.active ?
					queue->rewinding.rewound_at : DT_NOBEGIN, state.now);
	cmq_stretch_begin(&stretches, queue->shared, &rule, &state.floor);
	look_for_ready(&state, max_messages);
	cmq_reading_begin(&state.reading, queue);

	while (n < max_messages && nunreadable < MAX_UNREADABLE)
	{
		Delivery	delivery;
		bool		take_due;
		bool		claimed;

		if (!have_ready && !ready_done)
			ready_done = !(have_ready = next_ready(&state));
		if (!have_due && !due_done)
			due_done = !(have_due = next_due(&state));
		if (first)
		{
			first_due = have_due ?
				cmq_slot_time(state.rewind.slot, Anum_rewind_enqueued_at) :
				DT_NOEND;
			first = false;
		}
		if (!have_ready && !have_due)
			break;

		take_due = have_due &&
			(!have_ready ||
			 cmq_slot_time(state.rewind.slot, Anum_rewind_enqueued_at) <
			 cmq_slot_time(state.pending.slot, Anum_pending_visible_at));
		if (take_due)
		{
			claimed = claim_due(&state, &delivery);
			have_due = false;
		}
		else
		{
			have_ready = false;
			/* dead ones are moved when the scan has ended */
			claimed = take_ready(&state, &delivery, &letters, &nletters);
		}
		claimed_any |= claimed;
		if (claimed && take_due)
			cmq_xact_pending(queue->shared, 1);
		if (claimed && return_message(&state, &delivery, rsinfo))
		{
			n++;
			nredelivered += delivery.receive_count > 1;
			nrewound += delivery.receive_count == 1 &&
				delivery.rewind_count > 0;
		}
		else if (claimed)
			nunreadable++;
		ResetPerTupleExprContext(state.estate);
	}

	cmq_reading_end(&state.reading);
	cmq_floor_end(&state.floor, queue->shared, state.first_alive, first_due);
	cmq_stretch_end(&stretches, queue->shared, &rule, &state.floor);
	if (n == max_messages || state.reach_short)
		learn_spacing(&state);
	if (n == 0 && next_visible)
	{
		cmq_table_range(&state.pending, state.now + 1, *next_visible, false);
		*next_visible = next_ready(&state) ?
			cmq_slot_time(state.pending.slot, Anum_pending_visible_at) :
			DT_NOEND;
	}
	/* code of the owner's may have done what must not be lost */
	only_receives = only_receives && !state.pending.has_code;
	if (state.messages_leaf)
		cmq_table_close(&state.messages);
	if (state.rewind_open)
		cmq_table_close(&state.rewind);
	cmq_table_close(&state.pending);
	FreeExecutorState(state.estate);
	if (nletters > 0)
		nmoved = cmq_dead_letter_move(queue, letters, nletters);
	*moved = nmoved > 0 || (n == 0 && nunreadable > 0);
	if (claimed_any || nmoved > 0)
	{
		/* what is in flight needs somebody who plans for its return */
		cmq_xact_wake(queue->shared, 1, 0);
		cmq_async_end(only_receives && nmoved == 0);
		cmq_xact_count(queue->shared, CMQ_RECEIVED, n);
		cmq_xact_count(queue->shared, CMQ_REDELIVERED, nredelivered);
		cmq_xact_count(queue->shared, CMQ_REWOUND, nrewound);
		CommandCounterIncrement();
	}
	else
		cmq_xact_withdraw(published_before);
	return n;
}

/*
 * A look of a receive that may wait has a resource owner of its own: when it has
 * found nothing its locks are released with that, so a receive that sleeps stands
 * in nobody's way.  Else they stay to the end of the transaction.
 */
static ResourceOwner
begin_look(void)
{
	ResourceOwner caller = CurrentResourceOwner;

	CurrentResourceOwner = ResourceOwnerCreate(caller, "cmq look");
	return caller;
}

static void
end_look(ResourceOwner caller, bool keep_locks)
{
	ResourceOwner look = CurrentResourceOwner;

	ResourceOwnerRelease(look, RESOURCE_RELEASE_BEFORE_LOCKS, keep_locks, false);
	ResourceOwnerRelease(look, RESOURCE_RELEASE_LOCKS, keep_locks, false);
	ResourceOwnerRelease(look, RESOURCE_RELEASE_AFTER_LOCKS, keep_locks, false);
	CurrentResourceOwner = caller;
	ResourceOwnerDelete(look);
}

/* What a receive is asked for. */
typedef struct Request
{
	int			max_messages;
	int			visibility_timeout; /* seconds */
	int			polling_wait_seconds;
	ReturnSetInfo *rsinfo;
} Request;

/* Nothing was found: wait for the request's time at most. */
static void
wait_and_receive(CmqQueue *queue, const Request *request)
{
	CmqSharedQueue *shared = queue->shared;
	/* elapsed: nobody sets this */
	int64		deadline = cmq_elapsed() +
		request->polling_wait_seconds * USECS_PER_SEC;
	uint32		nrewinds = 0;
	bool		first = true;

	cmq_count_event(shared, CMQ_WAITS);
	cmq_wait_begin(shared);
	for (;;)
	{
		TimestampTz due;
		uint32		nrewinds_now = cmq_wait_nrewinds(shared);
		ResourceOwner caller;
		bool		moved;
		bool		over;

		/* to wait for who waits for us would be a deadlock */
		if (!cmq_catalog_is_free())
		{
			cmq_count_event(shared, CMQ_EMPTY_RECEIVES);
			break;
		}
		caller = begin_look();
		/* the signal of a rewind is faster than its invalidation */
		if (first || nrewinds_now != nrewinds)
			cmq_queue_mark_stale(queue->name);
		nrewinds = nrewinds_now;
		first = false;
		due = cmq_clock_peek(shared) + Max(deadline - cmq_elapsed(), 0);
		queue = cmq_queue_reopen(queue, ACL_DELETE, RowExclusiveLock);
		over = queue == NULL ||
			receive_messages(queue, request->max_messages,
							 request->visibility_timeout, request->rsinfo,
							 &due, &moved) > 0 || moved;
		end_look(caller, over);
		if (over)
			break;

		if (cmq_elapsed() >= deadline || !cmq_wait_sleep(shared, due, deadline))
		{
			cmq_count_event(shared, CMQ_EMPTY_RECEIVES);
			break;
		}
	}
	cmq_wait_end();
}

/* Lock the queue, which has been looked up, and check what is asked for. */
static CmqQueue *
open_for_receive(FunctionCallInfo fcinfo, CmqQueue *queue, Request *request)
{
	queue = cmq_queue_open_found(queue, ACL_DELETE, RowExclusiveLock);
	request->max_messages = cmq_int_arg(fcinfo, 1, "max_messages", CMQ_RECEIVE_MIN,
									CMQ_RECEIVE_MAX, 0, false, queue->name);
	request->visibility_timeout = cmq_int_arg(fcinfo, 2, "visibility_timeout",
										  CMQ_VISIBILITY_MIN,
										  CMQ_VISIBILITY_MAX,
										  queue->visibility_timeout, true,
											  queue->name);
	request->polling_wait_seconds = cmq_int_arg(fcinfo, 3, "polling_wait_seconds",
											CMQ_POLLING_MIN, CMQ_POLLING_MAX,
											queue->polling_wait_seconds, true,
												queue->name);
	return queue;
}

Datum
cmq_receive(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	Request		request;
	ResourceOwner caller = NULL;
	bool		moved;
	bool		over;

	cmq_begin_write("cmq_receive()");
	InitMaterializedSRF(fcinfo, 0);
	request.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	queue = cmq_queue_lookup(cmq_queue_name_arg(fcinfo, 0));
	if (PG_ARGISNULL(3) ? queue->polling_wait_seconds > 0 :
		PG_GETARG_INT32(3) > 0)
		caller = begin_look();
	queue = open_for_receive(fcinfo, queue, &request);
	over = receive_messages(queue, request.max_messages,
							request.visibility_timeout, request.rsinfo,
							NULL, &moved) > 0;
	if (!over && (moved || caller == NULL || request.polling_wait_seconds == 0))
	{
		cmq_count_event(queue->shared, CMQ_EMPTY_RECEIVES);
		over = true;
	}
	if (caller)
		end_look(caller, over);
	if (!over)
		wait_and_receive(queue, &request);
	return (Datum) 0;
}
