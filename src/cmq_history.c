/*-------------------------------------------------------------------------
 *
 * cmq_history.c
 *	  The history of a queue in a window of time: scan, preview, replay.
 *
 * History is what the view cmq.q_<queue>_history shows: soft-deleted messages
 * that can still be rewound and that no rewind under way brings back.  A scan
 * walks the rewind leaves of the window in production order, with a dirty
 * snapshot: what others have deleted but not committed is not history yet.  With
 * a filter, or when bodies are wanted, the message of each row is looked up by
 * its key.  Memory does not grow with the number of messages.
 *
 * Preview and replay only read the queue: AccessShare on its pending table and
 * leaves, so they hold up nobody but a drop.  Who switches rewind off does not wait
 * for them: then they raise an error at their end, for what they have read may be a
 * part of the history.  Replay sends what it reads to
 * another queue, some at a time, under the limits of any other send, as the
 * owner of that queue: its code in indexes is not to run as the caller.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cmq.h"

PG_FUNCTION_INFO_V1(cmq_rewind_preview);
PG_FUNCTION_INFO_V1(cmq_replay);

/* How much is replayed at a time. */
#define REPLAY_MESSAGES 500
#define REPLAY_BYTES (1024 * 1024)

/* Result columns of cmq_rewind_preview. */
enum
{
	Anum_preview_messages = 1,
	Anum_preview_body_bytes,
	Anum_preview_first_enqueued_at,
	Anum_preview_last_enqueued_at,
	Natts_preview = 4
};

/* Raise 55000 unless the queue keeps history. */
void
cmq_history_require(CmqQueue *queue)
{
	if (queue->rewind_seconds == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rewind is off for queue \"%s\"", queue->name),
				 errdetail("Its rewind_seconds is 0: deleted messages are not kept."),
				 errhint("Switch it on for what is deleted from now on: SELECT cmq_alter_queue(%s, rewind_seconds => %s).",
						 quote_literal_cstr(queue->name),
						 cmq_queue_is_readable(queue) ?
						 psprintf("%d", queue->msg_retention_seconds) :
						 "..")));
}

/*
 * Get start_time, end_time and filter from three arguments; end_time and filter
 * may be NULL.  Raises 22023.
 */
void
cmq_history_args(FunctionCallInfo fcinfo, int argno_start, int argno_filter,
				 CmqQueue *queue, CmqWindow *window)
{
	int			argno_end = argno_start + 1;

	if (PG_ARGISNULL(argno_start))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_time must not be NULL for queue \"%s\"",
						queue->name)));
	window->start = PG_GETARG_TIMESTAMPTZ(argno_start);
	window->end = PG_ARGISNULL(argno_end) ? DT_NOEND :
		PG_GETARG_TIMESTAMPTZ(argno_end);
	if (window->end < window->start)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("end_time is before start_time for queue \"%s\"",
						queue->name)));
	window->has_filter = !PG_ARGISNULL(argno_filter);
	window->filter = window->has_filter ? PG_GETARG_DATUM(argno_filter) :
		(Datum) 0;
	/* it goes into the record */
	if (window->has_filter &&
		toast_raw_datum_size(window->filter) - VARHDRSZ > CMQ_FILTER_SIZE_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("filter is too large for queue \"%s\"", queue->name),
				 errdetail("It may have %d bytes.", CMQ_FILTER_SIZE_MAX)));
}

/*
 * Begin a scan; with_messages: the message of each row is wanted too.  lockmode
 * is that of the rewind leaves.  The caller has opened the queue.  To be
 * followed by cmq_history_end().
 */
void
cmq_history_begin(CmqHistory *history, CmqQueue *queue,
				  const CmqWindow *window, bool with_messages,
				  LOCKMODE lockmode)
{
	memset(history, 0, sizeof(*history));
	history->queue = queue;
	/* open, so that nobody changes the queue in the midst of this */
	history->pending = relation_open(queue->pending, NoLock);
	history->from = Max(window->start,
						cmq_queue_rewindable_since(queue,
												   cmq_queue_now(queue)));
	history->until = window->end;
	history->has_filter = window->has_filter;
	history->filter = window->filter;
	history->with_messages = with_messages || window->has_filter;
	history->lockmode = lockmode;
	history->context = AllocSetContextCreate(CurrentMemoryContext,
											 "cmq history",
											 ALLOCSET_DEFAULT_SIZES);
}

static void
close_leaf(CmqHistory *history)
{
	if (!history->open)
		return;
	if (history->with_messages)
		cmq_table_close(&history->messages);
	cmq_table_close(&history->rewind);
	history->open = false;
}

void
cmq_history_end(CmqHistory *history)
{
	CmqQueue   *queue = cmq_queue_again(history->queue);

	close_leaf(history);
	if (queue->history_since != history->queue->history_since)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the history of queue \"%s\" was forgotten while it was read",
						queue->name),
				 errdetail("Rewind has been switched off meanwhile.")));
	relation_close(history->pending, NoLock);
	MemoryContextDelete(history->context);
}

/* Open the tables of the next leaf of the window; false if there is none. */
static bool
open_leaf(CmqHistory *history)
{
	CmqQueue   *queue = history->queue;

	while (history->leaf < queue->nleaves)
	{
		CmqLeaf    *leaf = &queue->leaves[history->leaf++];

		/* none of this is left if the leaf has been dropped */
		if (leaf->upper <= history->from || leaf->lower >= history->until ||
			!cmq_table_open(&history->rewind, NULL, queue, leaf->rewind, CMQ_REWIND,
							history->lockmode))
			continue;
		if (history->with_messages &&
			!cmq_table_open(&history->messages, NULL, queue, leaf->messages,
							CMQ_MESSAGES, AccessShareLock))
		{
			cmq_table_close(&history->rewind);
			continue;
		}
		cmq_table_range(&history->rewind, history->from, history->until,
						false);
		history->open = true;
		return true;
	}
	return false;
}

/* Do the headers of the message in the slot contain the filter? */
static bool
passes_filter(CmqHistory *history)
{
	MemoryContext old = MemoryContextSwitchTo(history->context);
	bool		isnull;
	Datum		headers = slot_getattr(history->messages.slot,
									   Anum_messages_headers, &isnull);
	bool		result = !isnull &&
		DatumGetBool(DirectFunctionCall2(jsonb_contains, headers,
										 history->filter));

	MemoryContextSwitchTo(old);
	MemoryContextReset(history->context);
	return result;
}

/*
 * Move to the next message of the history, into history->rewind.slot and, if
 * wanted, history->messages.slot; false at the end.
 */
bool
cmq_history_next(CmqHistory *history)
{
	for (;;)
	{
		if (!history->open && !open_leaf(history))
			return false;
		while (cmq_table_next(&history->rewind))
		{
			TupleTableSlot *slot = history->rewind.slot;

			history->time = cmq_slot_time(slot, Anum_rewind_enqueued_at);
			if (!cmq_queue_has_history(history->queue, history->time,
									   cmq_slot_time(slot, Anum_rewind_deleted_at),
									   cmq_slot_int64(slot, Anum_rewind_deleted_xact)))
				continue;
			if (!history->with_messages ||
				(cmq_table_find(&history->messages, history->time, 0) &&
				 (!history->has_filter || passes_filter(history))))
				return true;
		}
		close_leaf(history);
	}
}

Datum
cmq_rewind_preview(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqWindow	window;
	CmqHistory	history;
	TupleDesc	desc;
	Datum		values[Natts_preview];
	bool		isnull[Natts_preview] = {false};
	int64		messages = 0;
	int64		body_bytes = 0;
	TimestampTz first = DT_NOBEGIN;
	TimestampTz last = DT_NOBEGIN;

	cmq_shmem_require();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_SELECT,
						   AccessShareLock);
	cmq_history_require(queue);
	cmq_history_args(fcinfo, 1, 3, queue, &window);

	cmq_history_begin(&history, queue, &window, true, AccessShareLock);
	while (cmq_history_next(&history))
	{
		Datum		body = cmq_slot_body(history.messages.slot);

		if (messages++ == 0)
			first = history.time;
		last = history.time;
		body_bytes += toast_raw_datum_size(body) - VARHDRSZ;
	}
	cmq_history_end(&history);

#define VALUE(att) values[Anum_preview_##att - 1]
	VALUE(messages) = Int64GetDatum(messages);
	VALUE(body_bytes) = Int64GetDatum(body_bytes);
	VALUE(first_enqueued_at) = TimestampTzGetDatum(first);
	VALUE(last_enqueued_at) = TimestampTzGetDatum(last);
	isnull[Anum_preview_first_enqueued_at - 1] =
		isnull[Anum_preview_last_enqueued_at - 1] = messages == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, isnull)));
}

/* Messages on their way into another queue. */
typedef struct Replay
{
	CmqQueue   *source;
	CmqQueue   *target;
	MemoryContext context;		/* of what follows */
	Datum		bodies[REPLAY_MESSAGES];
	Datum		headers[REPLAY_MESSAGES];
	bool		headers_null[REPLAY_MESSAGES];
	int			n;
	Size		bytes;
} Replay;

static void
replay_flush(Replay *replay)
{
	MemoryContext old = MemoryContextSwitchTo(replay->context);

	if (replay->n > 0)
	{
		/* the same queue as when the call began, set as it is now */
		CmqQueue   *target = cmq_queue_again(replay->target);

		for (int i = 0; i < replay->n; i++)
		{
			cmq_send_check_body(target, replay->bodies[i], false);
			cmq_send_check_headers(target, replay->headers[i],
								   CMQ_HEADERS_ADDED);
		}
		cmq_send_check_room(target, replay->n);
		cmq_send_as_owner(target, replay->n, replay->bodies, replay->headers,
						  replay->headers_null, NULL);
	}
	replay->n = 0;
	replay->bytes = 0;
	MemoryContextSwitchTo(old);
	MemoryContextReset(replay->context);
}

/* Take over the message that the scan stands at. */
static void
replay_message(Replay *replay, CmqHistory *history)
{
	MemoryContext old = MemoryContextSwitchTo(replay->context);
	TupleTableSlot *slot = history->messages.slot;
	bool		isnull;
	Datum		body = cmq_slot_body(slot);
	Datum		headers = slot_getattr(slot, Anum_messages_headers, &isnull);
	char	   *origin;

	replay->bodies[replay->n] =
		PointerGetDatum(PG_DETOAST_DATUM_COPY(body));
	origin = psprintf("\"queue\": \"%s\", \"msg_id\": %lld, \"enqueued_at\": \"%s\"",
					  replay->source->name,
					  (long long) cmq_time_to_msg_id(history->time),
					  cmq_headers_time(history->time));
	replay->headers[replay->n] = cmq_headers_add(headers, isnull,
												 CMQ_ORIGIN_HEADER, origin);
	replay->headers_null[replay->n] = false;
	replay->bytes += VARSIZE_ANY(DatumGetPointer(replay->bodies[replay->n])) +
		VARSIZE_ANY(DatumGetPointer(replay->headers[replay->n]));
	replay->n++;
	MemoryContextSwitchTo(old);
}

Datum
cmq_replay(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqWindow	window;
	CmqHistory	history;
	Replay	   *replay = palloc0(sizeof(Replay));
	char	   *target;
	int64		n = 0;

	cmq_begin_write("cmq_replay()");
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_SELECT,
						   AccessShareLock);
	cmq_history_args(fcinfo, 1, 4, queue, &window);
	if (PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("into_queue must not be NULL for queue \"%s\"",
						queue->name)));
	target = text_to_cstring(PG_GETARG_TEXT_PP(3));
	if (strcmp(target, queue->name) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" cannot be replayed into itself",
						queue->name),
				 errhint("cmq_restore and cmq_rewind bring its messages back.")));
	cmq_queue_check_acl(cmq_queue_lookup(target), ACL_INSERT);
	cmq_history_require(queue);
	cmq_rewind_log_require_reason(queue);
	replay->target = cmq_queue_open(target, ACL_INSERT, RowExclusiveLock);

	replay->source = queue;
	replay->context = AllocSetContextCreate(CurrentMemoryContext,
											"cmq replay",
											ALLOCSET_DEFAULT_SIZES);
	cmq_history_begin(&history, queue, &window, true, AccessShareLock);
	while (cmq_history_next(&history))
	{
		replay_message(replay, &history);
		n++;
		if (replay->n == REPLAY_MESSAGES || replay->bytes >= REPLAY_BYTES)
			replay_flush(replay);
	}
	replay_flush(replay);
	cmq_history_end(&history);
	MemoryContextDelete(replay->context);

	if (n > 0)
		cmq_rewind_log_add(queue, "replay", cmq_queue_now(queue), &window,
						   target, n);
	PG_RETURN_INT64(n);
}
