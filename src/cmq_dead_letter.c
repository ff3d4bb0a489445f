/*-------------------------------------------------------------------------
 *
 * cmq_dead_letter.c
 *	  Move messages that nobody manages to consume to a dead-letter queue, and
 *	  send them back.
 *
 * A ready message is dead when it has been received max_receive_count times, or
 * when it has not been consumed for max_time_to_live seconds since it was
 * produced; a rewound or restored one since it was first received again, for
 * such a message starts anew.  A message in flight or delayed is not dead: its
 * consumer may still be done with it.
 *
 * The receive that meets a dead message moves it, and so does maintenance.
 * The move deletes the pending row, without waiting, as a claim does; sends
 * the body to the dead-letter queue as a new message, whose headers say where
 * it comes from; and deletes the message, which leaves no history.  All in one
 * transaction: a message is never in both queues and never in neither.
 *
 * A redrive sends a message to the queue that its headers name, with the rights
 * of the caller.  Whoever may send to the dead-letter queue can write these
 * headers.  So the message goes only to a queue whose dead letters come here.
 *
 * The limits of the dead-letter queue do not apply to dead letters: they have
 * to go somewhere.  They are written as the owner of that queue, not as who
 * receives or as the owner of the source: neither of them has to trust it.  What
 * cannot be moved, because something is wrong with the message or with the
 * dead-letter queue, stays, is not delivered, and holds up nothing else.
 *
 * Who binds a queue holds its queue lock, and that of the dead-letter queue in
 * Share mode: so no queue becomes a dead-letter queue while it gets one itself
 * or is dropped.  A queue that moves messages takes RowExclusive on the pending
 * table of the dead-letter queue after its own; since a dead-letter queue has
 * none itself, no circle arises.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cmq.h"

/* How many messages one round of maintenance moves, for one queue. */
#define MAX_SWEEP 100000
#define MAX_SWEEP_EACH 1000

PG_FUNCTION_INFO_V1(cmq_unbind_dead_letter);
PG_FUNCTION_INFO_V1(cmq_redrive);

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
				 errdetail("It has a dead-letter queue itself: \"%s\".",
						   target->dead_letter_queue),
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
			cmq_slot_time(slot,
						  cmq_slot_int(slot, Anum_pending_rewind_count) > 0 ?
						  Anum_pending_first_received_at :
						  Anum_pending_enqueued_at);

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
delete_message(CmqLeaf *leaf, TimestampTz time)
{
	CmqTable	messages;

	if (!cmq_table_open(&messages, NULL, leaf->messages, CMQ_MESSAGES,
						RowExclusiveLock))
		return;
	if (cmq_table_find(&messages, time, 0))
		(void) cmq_table_delete(&messages, true);
	cmq_table_close(&messages);
}

/*
 * Move the dead message whose pending row the scan stands at; false if
 * somebody else is at it, or its message is gone.
 */
static bool
move(CmqQueue *queue, CmqTable *pending, const char *reason)
{
	TimestampTz time = cmq_slot_time(pending->slot, Anum_pending_enqueued_at);
	TimestampTz visible_at = cmq_slot_time(pending->slot,
										   Anum_pending_visible_at);
	int			receive_count = cmq_slot_int(pending->slot,
											 Anum_pending_receive_count);
	CmqLeaf    *leaf = cmq_queue_leaf(queue, time);
	char	   *target = pstrdup(queue->dead_letter_queue);
	CmqTable	messages;
	Datum		body = (Datum) 0;
	Datum		headers = (Datum) 0;
	bool		isnull = false;
	bool		found;
	MemoryContext context;
	MemoryContext old;

	/* it may be just unbound and dropped, and another one made of that name */
	cmq_queue_wait_for(target);
	if (strcmp(cmq_queue_lookup(queue->name)->dead_letter_queue, target) != 0)
		return false;
	if (pending->busy || leaf == NULL ||
		!cmq_table_open(&messages, NULL, leaf->messages, CMQ_MESSAGES,
						AccessShareLock))
		return false;

	context = AllocSetContextCreate(CurrentMemoryContext, "cmq dead letter",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
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
	found = found && cmq_table_delete(pending, false) == TM_Ok;
	if (found)
	{
		cmq_floor_taken(visible_at);
		cmq_floor_taken_message(time);
		cmq_stats_pending(queue->shared, -1);
		cmq_stats_add(queue->shared, CMQ_DEAD_LETTERED, 1);
		isnull = false;
		(void) cmq_send_as_owner(cmq_queue_open(target, ACL_NO_RIGHTS,
												RowExclusiveLock),
								 1, &body, &headers, &isnull);
		delete_message(leaf, time);
		cmq_wait_signal_at_end(queue->shared, 0, 1);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return found;
}

typedef struct TryMove
{
	CmqQueue   *queue;
	CmqTable   *pending;
	const char *reason;
	bool		moved;
} TryMove;

static void
try_move(const char *name, void *arg)
{
	TryMove    *try = arg;

	try->moved = move(try->queue, try->pending, try->reason);
}

/*
 * The same in a subtransaction: if this message cannot be moved, false with a
 * warning.  It stays where it is, and the others go on.
 */
bool
cmq_dead_letter_move(CmqQueue *queue, CmqTable *pending, const char *reason)
{
	TryMove		try = {
		.queue = queue,
		.pending = pending,
		.reason = reason
	};

	cmq_queue_try(queue->name, "moving a dead letter", try_move, &try);
	return try.moved;
}

typedef struct Sweep
{
	int			max;
	bool		each_alone;		/* in a subtransaction of its own */
	bool		done;
} Sweep;

static void
sweep(const char *name, void *arg)
{
	Sweep	   *state = arg;
	CmqQueue   *queue = cmq_queue_open(name, ACL_NO_RIGHTS, RowExclusiveLock);
	TimestampTz now = cmq_queue_now(queue);
	TimestampTz expired_before = cmq_queue_expired_before(queue, now);
	CmqFloorScan scan;
	CmqTable	pending;
	int			n = 0;

	cmq_floor_begin(&scan, queue, now);
	if (!cmq_table_open(&pending, NULL, queue->pending, CMQ_PENDING,
						RowExclusiveLock))
		return;
	cmq_table_range(&pending, scan.floor, now, true);
	while (n < state->max && cmq_table_next(&pending))
	{
		const char *reason;

		if (cmq_slot_time(pending.slot,
						  Anum_pending_enqueued_at) < expired_before)
			continue;
		reason = cmq_dead_letter_reason(queue, pending.slot, now);
		if (reason == NULL)
			continue;
		if (state->each_alone)
		{
			(void) cmq_dead_letter_move(queue, &pending, reason);
			n++;
		}
		else if (move(queue, &pending, reason))
			n++;
	}
	cmq_table_close(&pending);
	CommandCounterIncrement();
	state->done = true;
}

/*
 * Maintenance: move what is dead, also when nobody receives.  All at once; if
 * that fails, each by itself, and not so many.
 */
void
cmq_dead_letter_sweep(CmqQueue *queue)
{
	Sweep		all = {.max = MAX_SWEEP};
	Sweep		some = {.max = MAX_SWEEP_EACH,.each_alone = true};

	if (queue->dead_letter_queue[0] == '\0')
		return;
	cmq_queue_try(queue->name, "moving dead letters", sweep, &all);
	if (!all.done)
		sweep(queue->name, &some);
}

Datum
cmq_unbind_dead_letter(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqQueue	changed;
	char	   *name;

	cmq_shmem_require();
	PreventCommandIfReadOnly("cmq_unbind_dead_letter()");
	name = cmq_queue_name_arg(fcinfo, 0);
	queue = cmq_queue_lock(name, ACL_UPDATE, ExclusiveLock);
	if (queue->dead_letter_queue[0] == '\0')
		PG_RETURN_VOID();

	changed = *queue;
	changed.dead_letter_queue[0] = '\0';
	changed.max_receive_count = changed.max_time_to_live = 0;
	changed.last_modify_time = cmq_queue_now(queue);
	cmq_catalog_update_queue(&changed);
	PG_RETURN_VOID();
}

/* The queue that a dead letter came from, or NULL; palloc'd. */
static char *
get_source(Datum headers)
{
	Jsonb	   *jb = DatumGetJsonbP(headers);
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(jb) ||
		getKeyJsonValueFromContainer(&jb->root, CMQ_DEAD_LETTER_HEADER,
									 strlen(CMQ_DEAD_LETTER_HEADER), &value) == NULL ||
		value.type != jbvBinary ||
		!JsonContainerIsObject(value.val.binary.data) ||
		getKeyJsonValueFromContainer(value.val.binary.data, "queue",
									 strlen("queue"), &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* Does a queue of this name exist? */
static bool
queue_exists(const char *name)
{
	char	   *existing;

	return strlen(name) <= CMQ_QUEUE_NAME_MAX &&
		cmq_catalog_name_taken(name, &existing) && strcmp(name, existing) == 0;
}

/*
 * Send the dead letter whose pending row the scan stands at back to where it
 * came from.  False if it is not a dead letter, that queue is gone or has
 * another dead-letter queue now, or somebody else is at the message.  What is needed for one message only is
 * allocated in context.
 */
static bool
redrive_message(CmqQueue *queue, CmqDelete *state, MemoryContext context)
{
	CmqTable   *pending = &state->pending;
	TimestampTz time = cmq_slot_time(pending->slot, Anum_pending_enqueued_at);
	CmqLeaf    *leaf = cmq_queue_leaf(queue, time);
	CmqTable	messages;
	CmqQueue   *source;
	char	   *name = NULL;
	Datum		body = (Datum) 0;
	Datum		headers = (Datum) 0;
	bool		isnull = true;
	MemoryContext old = MemoryContextSwitchTo(context);

	if (leaf == NULL || !cmq_table_open(&messages, NULL, leaf->messages,
										CMQ_MESSAGES, AccessShareLock))
	{
		MemoryContextSwitchTo(old);
		return false;
	}
	if (cmq_table_find(&messages, time, 0))
	{
		headers = slot_getattr(messages.slot, Anum_messages_headers, &isnull);
		name = isnull ? NULL : get_source(headers);
	}
	if (name && strcmp(name, queue->name) != 0 && queue_exists(name))
	{
		body = PointerGetDatum(PG_DETOAST_DATUM_COPY(cmq_slot_body(messages.slot)));
		headers = DirectFunctionCall2(jsonb_delete, headers,
									  CStringGetTextDatum(CMQ_DEAD_LETTER_HEADER));
	}
	cmq_table_close(&messages);
	MemoryContextSwitchTo(old);
	if (body == (Datum) 0)
		return false;

	/*
	 * Headers can say anything, see the head of this file: what names a queue
	 * that is none of ours is left, and does not stop the others.
	 */
	if (strcmp(cmq_queue_lookup(name)->dead_letter_queue, queue->name) != 0)
		return false;
	source = cmq_queue_open(name, ACL_INSERT, RowExclusiveLock);
	if (strcmp(source->dead_letter_queue, queue->name) != 0)
		return false;
	cmq_send_check_room(source, 1);
	if (!cmq_delete_row(state, false))
		return false;
	MemoryContextSwitchTo(context);
	isnull = JB_ROOT_COUNT(DatumGetJsonbP(headers)) == 0;
	(void) cmq_send_messages(source, 1, &body, &headers, &isnull, 0);
	MemoryContextSwitchTo(old);
	return true;
}

Datum
cmq_redrive(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqDelete	state;
	CmqFloorScan scan;
	TimestampTz now;
	MemoryContext context;
	int64		max_messages = PG_INT64_MAX;
	int64		n = 0;
	int64		left = 0;

	cmq_shmem_require();
	PreventCommandIfReadOnly("cmq_redrive()");
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_DELETE,
						   RowExclusiveLock);
	if (!PG_ARGISNULL(1))
		max_messages = PG_GETARG_INT32(1);
	if (max_messages < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_messages is out of range for queue \"%s\": %lld",
						queue->name, (long long) max_messages),
				 errdetail("It must be at least 1, or NULL for all.")));

	context = AllocSetContextCreate(CurrentMemoryContext, "cmq redrive",
									ALLOCSET_DEFAULT_SIZES);
	now = cmq_clock_now(queue->shared);
	cmq_floor_begin(&scan, queue, now);
	cmq_delete_begin(&state, queue, false);
	cmq_table_range(&state.pending, scan.floor, now, true);
	while (n < max_messages && cmq_table_next(&state.pending))
	{
		if (state.pending.busy ||
			cmq_slot_time(state.pending.slot,
						  Anum_pending_enqueued_at) < state.expired_before)
			continue;
		if (redrive_message(queue, &state, context))
			n++;
		else
			left++;
		MemoryContextReset(context);
	}
	cmq_delete_end(&state);
	MemoryContextDelete(context);
	if (left > 0)
		ereport(NOTICE,
				(errmsg("%lld messages of queue \"%s\" were left where they are",
						(long long) left, queue->name),
				 errdetail("They are not dead letters, or the queue they came from does not exist any more or has another dead-letter queue now.")));
	PG_RETURN_INT64(n);
}
