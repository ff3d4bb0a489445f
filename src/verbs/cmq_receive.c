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
 * if another transaction is changing the row, or has changed it, it is passed
 * over.  Then the pending row of the new delivery is inserted.  So receives wait
 * for nobody, cannot deadlock and never get the same message.  (An update in
 * place of delete and insert would be a little cheaper, but heap_update()
 * always waits.)
 *
 * Dead messages are passed over, and moved after the scan if that needs no wait
 * and no code of another owner (cmq_dead_letter.c).
 *
 * Messages past their retention are passed over, and so are those whose leaf
 * is gone: it was dropped because they expired.  A message that cannot be read
 * is put off, not returned (cmq_damage.c).
 *
 * Locks: RowExclusive on the pending table and the rewind leaves, AccessShare
 * on the message leaves; to the end of the transaction, but not while a receive
 * waits.  Abort: the row that was claimed is there as it was.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "funcapi.h"
#include "storage/lockdefs.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

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
#include "store/cmq_cache.h"
#include "store/cmq_catalog.h"
#include "store/cmq_damage.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_table.h"
#include "verbs/cmq_dead_letter.h"

PG_FUNCTION_INFO_V1(cmq_receive);

/* How many dead messages one receive moves away. */
#define MAX_LETTERS 1000

/* How many messages that cannot be read one receive puts off. */
#define MAX_UNREADABLE 100

/*
 * look_for_ready() doubles the nanoseconds that it thinks are between two ready rows up
 * to here.
 */
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

/* What a receive is asked for. */
typedef struct Request
{
	int			max_messages;
	int			visibility_timeout; /* seconds */
	int			polling_wait_seconds;
	ReturnSetInfo *rsinfo;
} Request;

/* What a message can come from. */
typedef enum Source
{
	SOURCE_NONE,
	SOURCE_READY,
	SOURCE_DUE
} Source;

/* Where the scan of a source stands. */
typedef enum Position
{
	BEFORE_ROW,
	AT_ROW,
	AT_END
} Position;

typedef struct ReceiveState
{
	CmqQueue   *queue;
	const Request *request;
	bool		only_receives;	/* has the transaction done nothing else? */
	TimestampTz now;
	TimestampTz expired_before;
	CmqFloorScan floor;
	CmqStretchScan *stretches;
	CmqDeadRule dead_rule;
	CmqLeafRows messages;
	CmqReading	reading;

	/* ready rows */
	CmqPending	pending;
	Position	ready_position;
	CmqPendingKey ready;		/* of the row the scan stands at */
	TimestampTz first_alive;	/* visible_at of the first row that was met */
	int64		distance;		/* how far a look goes, at first */
	TimestampTz reach;			/* how far the scan of pending goes */
	bool		reach_short;	/* the first look did not go far enough */

	/* due rows */
	CmqDueScan	due;
	Position	due_position;
	TimestampTz first_due;		/* enqueued_at of the first row that was met */

	/* what was done */
	int			n;				/* messages that are returned */
	int			nredelivered;
	int			nrewound;
	int			nunreadable;	/* that were claimed and put off */
	CmqPendingKey *letters;		/* dead ones that were passed over, or NULL */
	int			nletters;
} ReceiveState;

/*
 * Begin to look for ready rows.  An index scan takes in all that matches on a
 * page before it returns the first row: hundreds of rows, when that many are
 * ready.  So the first look reaches only about as far as is needed, going by
 * the spacing of rows in this queue.  The spacing is learned: it is doubled when
 * the first look was too short, else it shrinks a bit (learn_spacing()).
 */
static void
look_for_ready(ReceiveState *state)
{
	TimestampTz floor = state->floor.floor;
	int64		spacing;

	spacing = (int64) cmq_notes_spacing(state->queue->shared);
	state->distance =
		spacing * (2 * state->request->max_messages + 16) / NSECS_PER_USEC;
	state->reach = state->now;
	if (floor != DT_NOBEGIN && floor < state->now - state->distance)
		state->reach = floor + state->distance;
	cmq_pending_scan(&state->pending.table, NULL, floor, state->reach);
}

/* The spacing is a hint, so it may lose what another receive has learned just now. */
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
	CmqTable   *pending = &state->pending.table;

	for (;;)
	{
		while (cmq_pending_next(pending, state->expired_before, &state->ready))
		{
			CmqPendingKey last;

			if (state->first_alive == DT_NOEND)
				state->first_alive = state->ready.visible_at;
			if (!cmq_stretch_jump(state->stretches, &state->ready, &last))
				return true;
			state->reach = state->now;
			if (last.visible_at < state->now - state->distance)
				state->reach = last.visible_at + state->distance;
			cmq_pending_scan(pending, &last, DT_NOBEGIN, state->reach);
		}
		if (state->reach >= state->now)
			return false;
		cmq_pending_scan(pending, NULL, state->reach + 1, state->now);
		state->reach = state->now;
		state->reach_short = true;
	}
}

/* Move to the next row that is due for the rewind. */
static bool
next_due(ReceiveState *state)
{
	if (!cmq_due_next(&state->due))
		return false;
	if (state->first_due == DT_NOEND)
		state->first_due = state->due.time;
	return true;
}

/* The source whose scan stands at the row to be looked at next. */
static Source
next_candidate(ReceiveState *state)
{
	if (state->ready_position == BEFORE_ROW)
		state->ready_position = next_ready(state) ? AT_ROW : AT_END;
	if (state->due_position == BEFORE_ROW)
		state->due_position = next_due(state) ? AT_ROW : AT_END;

	if (state->due_position == AT_ROW &&
		(state->ready_position == AT_END ||
		 state->due.time < state->ready.visible_at))
	{
		state->due_position = BEFORE_ROW;
		return SOURCE_DUE;
	}
	if (state->ready_position == AT_END)
		return SOURCE_NONE;
	state->ready_position = BEFORE_ROW;
	return SOURCE_READY;
}

/*
 * Is the message of the ready row dead, or is another transaction changing the row?  A
 * dead one is listed, to be moved when the scan has ended.
 */
static bool
pass_over(ReceiveState *state)
{
	CmqTable   *pending = &state->pending.table;
	bool		dead = cmq_dead_letter_reason(state->queue, pending->slot,
											  state->now) != NULL;

	if (!dead && !pending->busy)
	{
		cmq_stretch_stop(state->stretches);
		return false;
	}
	cmq_stretch_pass(state->stretches, &state->ready,
					 dead ? InvalidTransactionId : pending->busy_with);
	if (dead && state->letters == NULL)
		state->letters = palloc(MAX_LETTERS * sizeof(CmqPendingKey));
	if (dead && state->nletters < MAX_LETTERS)
		state->letters[state->nletters++] = state->ready;
	return true;
}

/*
 * Claim the row that the scan of this source stands at.  False if its message is passed
 * over, another transaction has taken it, or its leaf is gone.
 */
static bool
claim(ReceiveState *state, Source source, CmqPendingRow *delivery)
{
	if (source == SOURCE_DUE)
		return cmq_leaf_rows_open(&state->messages, state->due.time) &&
			cmq_pending_deliver_due(&state->pending, &state->due, delivery);
	return !pass_over(state) &&
		cmq_leaf_rows_open(&state->messages, state->ready.enqueued_at) &&
		cmq_pending_deliver(&state->pending, delivery);
}

/*
 * Read a claimed message from its leaf and add it to the result.  False if the message is
 * not there, which happens only when it was removed by hand.
 */
static bool
read_message(ReceiveState *state, CmqTable *messages,
			 const CmqPendingRow *delivery)
{
	ReturnSetInfo *rsinfo = state->request->rsinfo;
	Datum		values[Natts_message];
	bool		isnull[Natts_message] = {false};
	TupleTableSlot *slot = messages->slot;
	CmqHandle	handle;
	MemoryContext old;

	if (!cmq_table_find(messages, delivery->enqueued_at, 0))
		return false;

	handle.enqueued_at = delivery->enqueued_at;
	handle.visible_at = delivery->visible_at;
	handle.receive_count = delivery->receive_count;
	handle.rewind_count = delivery->rewind_count;

	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(state->pending.estate));
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
		TimestampTzGetDatum(delivery->visible_at);
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
	const CmqPendingRow *delivery;
	bool		found;
} TryRead;

/* Called in a subtransaction: what its abort gives back is opened and closed here. */
static void
try_read(const char *name, void *arg)
{
	TryRead    *try = arg;
	CmqLeafRows messages;

	cmq_leaf_rows_begin(&messages, try->state->queue, CMQ_MESSAGES,
						AccessShareLock, NULL);
	try->found = cmq_leaf_rows_open(&messages, try->delivery->enqueued_at) &&
		read_message(try->state, &messages.table, try->delivery);
	cmq_leaf_rows_end(&messages);
}

/* Add a claimed message to the result.  False if it cannot be read. */
static bool
return_message(ReceiveState *state, const CmqPendingRow *delivery)
{
	bool		found;

	if (unlikely(cmq_notes_is_damaged(state->queue->shared)))
	{
		TryRead		try = {.state = state,.delivery = delivery};
		char	   *what = psprintf("reading message %lld",
									(long long) cmq_time_to_msg_id(delivery->enqueued_at));

		(void) cmq_try(state->queue->name, what, try_read, &try,
					   CMQ_TRY_WARN);
		pfree(what);
		return try.found;
	}
	state->reading.message = delivery->enqueued_at;
	found = read_message(state, &state->messages.table, delivery);
	state->reading.message = DT_NOBEGIN;
	return found;
}

/* Receive the message of the row that the scan of this source stands at. */
static void
take(ReceiveState *state, Source source)
{
	CmqPendingRow delivery;

	if (!claim(state, source, &delivery))
		return;
	if (!return_message(state, &delivery))
	{
		state->nunreadable++;
		return;
	}
	state->n++;
	state->nredelivered += delivery.receive_count > 1;
	state->nrewound += delivery.receive_count == 1 && delivery.rewind_count > 0;
}

static bool
letters_stay(const void *arg)
{
	return cmq_dead_letter_stays(arg);
}

static void
receive_begin(ReceiveState *state, CmqQueue *queue, const Request *request,
			  CmqStretchScan *stretches)
{
	memset(state, 0, sizeof(*state));
	state->queue = queue;
	state->request = request;
	state->stretches = stretches;
	state->first_alive = state->first_due = DT_NOEND;
	state->only_receives = cmq_async_before_receive();
	cmq_pending_open(&state->pending, queue, true);
	state->now = cmq_pending_set_times(&state->pending, request->visibility_timeout);
	state->expired_before = cmq_bounds_expired_before(queue, state->now);
	cmq_leaf_rows_begin(&state->messages, queue, CMQ_MESSAGES, AccessShareLock,
						NULL);
	cmq_bounds_begin_floor(&state->floor, queue, state->now);
	state->dead_rule.max_receive_count = queue->max_receive_count;
	state->dead_rule.max_time_to_live = queue->max_time_to_live;
	state->dead_rule.stay = letters_stay;
	state->dead_rule.arg = queue;
	cmq_stretch_begin(stretches, queue->shared, &state->dead_rule,
					  &state->floor);
	cmq_due_begin(&state->due, queue, &queue->rewinding,
				  Max(state->expired_before, state->floor.rewind_floor),
				  RowExclusiveLock);
	look_for_ready(state);
	cmq_damage_begin_reading(&state->reading, queue);
}

/*
 * When the next message that is delayed or in flight becomes visible, if that is before
 * this time; else DT_NOEND.
 */
static TimestampTz
find_next_visible(ReceiveState *state, TimestampTz before)
{
	CmqTable   *pending = &state->pending.table;
	CmqPendingKey key;

	cmq_pending_scan(pending, NULL, state->now + 1, before - 1);
	return cmq_pending_next(pending, state->expired_before, &key) ?
		key.visible_at : DT_NOEND;
}

/* The scans have ended: write what was claimed, and close all. */
static void
receive_end(ReceiveState *state)
{
	cmq_damage_end_reading(&state->reading);
	cmq_floor_end(&state->floor, state->queue->shared, state->first_alive,
				  state->first_due);
	cmq_stretch_end(state->stretches, state->queue->shared, &state->dead_rule,
					&state->floor);
	if (state->n == state->request->max_messages || state->reach_short)
		learn_spacing(state);
	/* code of the owner may have done what must not be lost */
	state->only_receives &= !state->pending.table.has_code;
	cmq_leaf_rows_end(&state->messages);
	cmq_due_end(&state->due);
	cmq_pending_flush(&state->pending);
	cmq_pending_close(&state->pending);
}

/*
 * Receive what is there; returns how many messages.  If there are none and
 * next_visible is given, *next_visible becomes the time when the next message that
 * is delayed or in flight becomes visible, or DT_NOEND if that is not before the
 * time in it.  Sets *must_commit if dead messages were moved, or nothing but
 * messages that cannot be read was met: the caller does not wait with these uncommitted.
 */
static int
receive_messages(CmqQueue *queue, const Request *request,
				 TimestampTz *next_visible, bool *must_commit)
{
	CmqSharedQueue *shared = queue->shared;
	ReceiveState state;
	CmqStretchScan stretches;
	Source		source;
	int			nmoved = 0;

	receive_begin(&state, queue, request, &stretches);
	while (state.n < request->max_messages &&
		   state.nunreadable < MAX_UNREADABLE &&
		   (source = next_candidate(&state)) != SOURCE_NONE)
	{
		take(&state, source);
		ResetPerTupleExprContext(state.pending.estate);
	}
	if (state.n == 0 && next_visible)
		*next_visible = find_next_visible(&state, *next_visible);
	receive_end(&state);
	if (state.nletters > 0)
		nmoved = cmq_dead_letter_move(queue, state.letters, state.nletters);
	*must_commit = nmoved > 0 || (state.n == 0 && state.nunreadable > 0);
	if (state.n + state.nunreadable + nmoved == 0)
		return 0;

	/* as for a delivery: a receive may have planned for what was moved */
	if (state.n + state.nunreadable == 0)
		cmq_xact_wake(shared, 1, 0);
	cmq_async_after_receive(state.only_receives && nmoved == 0);
	cmq_xact_count(shared, CMQ_RECEIVED, state.n);
	cmq_xact_count(shared, CMQ_REDELIVERED, state.nredelivered);
	cmq_xact_count(shared, CMQ_REWOUND, state.nrewound);
	return state.n;
}

/*
 * A look of a receive that may wait has a resource owner of its own.  A look that finds
 * nothing releases its locks with it, so that a receive that sleeps is in nobody's way;
 * else the locks stay to the end of the transaction.
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

/* Nothing was found: wait for the request's time at most. */
static void
wait_and_receive(CmqQueue *queue, const Request *request)
{
	CmqSharedQueue *shared = queue->shared;

	/* in elapsed time, which nobody sets */
	int64		deadline = cmq_elapsed() +
		request->polling_wait_seconds * USECS_PER_SEC;
	uint32		nrewinds = 0;
	bool		first = true;

	cmq_count_event(shared, CMQ_WAITS);
	cmq_wait_begin(shared);
	for (;;)
	{
		TimestampTz next_visible;
		uint32		nrewinds_now = cmq_wait_nrewinds(shared);
		ResourceOwner caller;
		bool		must_commit;
		bool		over;

		/* a process that has this locked may wait for our locks: a deadlock */
		if (!cmq_catalog_is_free())
		{
			cmq_count_event(shared, CMQ_EMPTY_RECEIVES);
			break;
		}
		caller = begin_look();
		/* the signal of a rewind is faster than its invalidation */
		if (first || nrewinds_now != nrewinds)
			cmq_cache_mark_stale(queue->name);
		nrewinds = nrewinds_now;
		first = false;
		next_visible = cmq_clock_peek(shared) + Max(deadline - cmq_elapsed(), 0);
		queue = cmq_queue_reopen(queue, ACL_DELETE, RowExclusiveLock);
		over = queue == NULL ||
			receive_messages(queue, request, &next_visible, &must_commit) > 0 || must_commit;
		end_look(caller, over);
		if (over)
			break;

		if (cmq_elapsed() >= deadline || !cmq_wait_sleep(shared, next_visible, deadline))
		{
			cmq_count_event(shared, CMQ_EMPTY_RECEIVES);
			break;
		}
	}
	cmq_wait_end();
}

/* Lock the queue, which has been looked up, and fill *request.  Raises 22023. */
static CmqQueue *
open_for_receive(FunctionCallInfo fcinfo, CmqQueue *queue, Request *request)
{
	queue = cmq_queue_open_found(queue, ACL_DELETE, RowExclusiveLock);
	request->max_messages =
		cmq_int_arg(fcinfo, 1, "max_messages", CMQ_RECEIVE_MIN,
					CMQ_RECEIVE_MAX, 0, false, queue->name);
	request->visibility_timeout =
		cmq_int_arg(fcinfo, 2, "visibility_timeout", CMQ_VISIBILITY_MIN,
					CMQ_VISIBILITY_MAX, queue->visibility_timeout, true,
					queue->name);
	request->polling_wait_seconds =
		cmq_int_arg(fcinfo, 3, "polling_wait_seconds", CMQ_POLLING_MIN,
					CMQ_POLLING_MAX, queue->polling_wait_seconds, true,
					queue->name);
	return queue;
}

Datum
cmq_receive(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	Request		request;
	ResourceOwner caller = NULL;
	bool		must_commit;
	bool		over;

	cmq_begin_write("cmq_receive()");
	InitMaterializedSRF(fcinfo, 0);
	request.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	queue = cmq_queue_lookup(cmq_queue_name_arg(fcinfo, 0), ACL_NO_RIGHTS);
	if (PG_ARGISNULL(3) ? queue->polling_wait_seconds > 0 :
		PG_GETARG_INT32(3) > 0)
		caller = begin_look();
	queue = open_for_receive(fcinfo, queue, &request);
	over = receive_messages(queue, &request, NULL, &must_commit) > 0;
	if (!over && (must_commit || caller == NULL || request.polling_wait_seconds == 0))
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
