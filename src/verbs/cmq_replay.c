/*-------------------------------------------------------------------------
 *
 * cmq_replay.c
 *	  Preview and replay: read the history of a queue, and send it to another one.
 *
 * Both only read the queue.  Replay sends what it reads to another queue, some messages
 * at a time, within the limits of that queue.  It writes them as that queue's owner, whose
 * code in indexes must not run as the caller.  With dedup the key of a copy says which
 * message it is a copy of, so that the other queue gets one of each.
 *
 * Locks: AccessShare on the pending table and leaves of the queue, which holds up only a
 * drop of the queue or of a leaf (cmq_history.c); RowExclusive on the pending table of the
 * other queue.  Abort: nothing was sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "base/cmq_headers.h"
#include "memory/cmq_shared.h"
#include "store/cmq_description.h"
#include "store/cmq_history.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_queue.h"
#include "store/cmq_rewind_log.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_once.h"
#include "verbs/cmq_outgoing.h"
#include "verbs/cmq_send.h"

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

	cmq_require_preload();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_SELECT,
						   AccessShareLock);
	cmq_history_require(queue);
	cmq_window_args(fcinfo, 1, 3, queue->name, &window);

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
#define NULLED(att) isnull[Anum_preview_##att - 1]
	VALUE(messages) = Int64GetDatum(messages);
	VALUE(body_bytes) = Int64GetDatum(body_bytes);
	VALUE(first_enqueued_at) = TimestampTzGetDatum(first);
	VALUE(last_enqueued_at) = TimestampTzGetDatum(last);
	NULLED(first_enqueued_at) = NULLED(last_enqueued_at) = messages == 0;
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
	Datum		groups[REPLAY_MESSAGES];
	bool		groups_null[REPLAY_MESSAGES];
	int			n;
	Size		bytes;
	bool		once;			/* with keys */
	Datum		keys[REPLAY_MESSAGES];
	bool		keys_null[REPLAY_MESSAGES]; /* all false */
	int64		nsent;			/* by calls before */
} Replay;

/* Send what was copied.  Raises an error if the other queue refuses it. */
static void
replay_flush(Replay *replay)
{
	MemoryContext old = MemoryContextSwitchTo(replay->context);

	if (replay->n > 0)
	{
		/* the same queue as when the call began, set as it is now */
		CmqQueue   *target = cmq_queue_again(replay->target);
		CmqOutgoing out = {
			.n = replay->n,
			.bodies = replay->bodies,
			.headers = replay->headers,
			.headers_null = replay->headers_null,
			.groups = target->ordered ? replay->groups : NULL,
			.groups_null = replay->groups_null
		};
		CmqOnce		once;

		for (int i = 0; i < replay->n; i++)
		{
			cmq_send_check_body(target, replay->bodies[i], false);
			cmq_send_check_headers(target, replay->headers[i],
								   CMQ_HEADERS_ADDED);
		}
		if (replay->once)
		{
			cmq_once_require(target, "dedup");
			cmq_once_init(&once, target, replay->n, replay->keys,
						  replay->keys_null, NULL);
			out.once = &once;
		}
		else
			cmq_outgoing_check_room(target, replay->n);
		replay->nsent += cmq_outgoing_write_as_owner(target, &out, 0, NULL);
	}
	replay->n = 0;
	replay->bytes = 0;
	MemoryContextSwitchTo(old);
	MemoryContextReset(replay->context);
}

/*
 * Copy the message that the scan stands at.  A queue that has no groups gets the group in
 * the headers.
 */
static void
replay_message(Replay *replay, CmqHistory *history)
{
	MemoryContext old = MemoryContextSwitchTo(replay->context);
	TupleTableSlot *slot = history->messages.slot;
	bool		isnull;
	Datum		body = cmq_slot_body(slot);
	Datum		headers = slot_getattr(slot, Anum_messages_headers, &isnull);
	bool		no_group;
	Datum		group = cmq_message_rows_group(&history->messages, &no_group);
	char	   *origin;

	replay->bodies[replay->n] =
		PointerGetDatum(PG_DETOAST_DATUM_COPY(body));
	replay->groups_null[replay->n] = no_group;
	replay->groups[replay->n] = no_group ? (Datum) 0 :
		PointerGetDatum(PG_DETOAST_DATUM_COPY(group));
	origin = psprintf("\"queue\": \"%s\", \"msg_id\": %lld, \"enqueued_at\": \"%s\"%s",
					  replay->source->name,
					  (long long) cmq_time_to_msg_id(history->time),
					  cmq_headers_time(history->time),
					  cmq_headers_group(group, no_group || replay->target->ordered));
	replay->headers[replay->n] = cmq_headers_add(headers, isnull,
												 CMQ_ORIGIN_HEADER, origin);
	replay->headers_null[replay->n] = false;
	if (replay->once)
		replay->keys[replay->n] =
			CStringGetTextDatum(psprintf(CMQ_ORIGIN_HEADER ":%s:%lld",
										 replay->source->name,
										 (long long) cmq_time_to_msg_id(history->time)));
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

	cmq_begin_write("cmq_replay()");
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_SELECT,
						   AccessShareLock);
	cmq_require_arg(fcinfo, 1, "into_queue", "queue", queue->name);
	target = text_to_cstring(PG_GETARG_TEXT_PP(1));
	cmq_window_args(fcinfo, 2, 4, queue->name, &window);
	cmq_require_arg(fcinfo, 5, "dedup", "queue", queue->name);
	replay->once = PG_GETARG_BOOL(5);
	if (strcmp(target, queue->name) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" cannot be replayed into itself",
						queue->name),
				 errhint("cmq_restore and cmq_rewind bring its messages back.")));
	(void) cmq_queue_lookup(target, ACL_INSERT);
	cmq_history_require(queue);
	cmq_rewind_log_require_reason(queue);
	replay->target = cmq_queue_open(target, ACL_INSERT, RowExclusiveLock);
	if (replay->once)
		cmq_once_require(replay->target, "dedup");

	replay->source = queue;
	replay->context = AllocSetContextCreate(CurrentMemoryContext,
											"cmq replay",
											ALLOCSET_DEFAULT_SIZES);
	cmq_history_begin(&history, queue, &window, true, AccessShareLock);
	while (cmq_history_next(&history))
	{
		replay_message(replay, &history);
		if (replay->n == REPLAY_MESSAGES || replay->bytes >= REPLAY_BYTES)
			replay_flush(replay);
	}
	replay_flush(replay);
	cmq_history_end(&history);
	MemoryContextDelete(replay->context);

	if (replay->nsent > 0)
		cmq_rewind_log_add(queue, "replay", cmq_queue_now(queue), &window,
						   target, replay->nsent);
	PG_RETURN_INT64(replay->nsent);
}
