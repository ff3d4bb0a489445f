/*-------------------------------------------------------------------------
 *
 * cmq_send.c
 *	  Send one message or many.
 *
 * A send takes its id from the queue clock and writes two rows: the message
 * itself, which is never written again, into the leaf of its time, and a
 * narrow pending row, which says from when on the message can be received.  That is
 * before the retention ends, and never before the message's own time, whatever time the
 * sender asks for.  Where messages have keys, cmq_once.c says before which of them are
 * duplicates of others, and are not written.
 *
 * Locks: RowExclusive on the pending table and on the leaf.  Abort: nothing was sent;
 * the id is not used again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type_d.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lockdefs.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "base/cmq_group.h"
#include "base/cmq_handle.h"
#include "base/cmq_headers.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_window.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_counting.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_owner.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_once.h"
#include "verbs/cmq_send.h"

#define GROUP_ARGNO 5
#define KEY_ARGNO 6

/* How many messages of a batch close their groups to newer ones at a time. */
#define WINDOW_MESSAGES 1000

PG_FUNCTION_INFO_V1(cmq_send);
PG_FUNCTION_INFO_V1(cmq_send_batch);

/* Raise 22023 for a body that is NULL or empty, 54000 for one too large for the queue. */
void
cmq_send_check_body(CmqQueue *queue, Datum body, bool isnull)
{
	Size		size;

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("body must not be NULL for queue \"%s\"",
						queue->name)));
	/* without detoasting it */
	size = toast_raw_datum_size(body) - VARHDRSZ;
	if (size == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("body must not be empty for queue \"%s\"",
						queue->name)));
	if (size > (Size) queue->max_msg_size)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("body of %zu bytes is too large for queue \"%s\"",
						size, queue->name),
				 cmq_rights_is_readable(queue) ?
				 errdetail("The queue's max_msg_size is %d bytes.",
						   queue->max_msg_size) : 0,
				 errhint("Raise max_msg_size with cmq_alter_queue, or send a reference to the data.")));
}

/*
 * Raise 54000 if the headers are too large for the queue; cmq itself may have added as
 * many bytes as added says.
 */
void
cmq_send_check_headers(CmqQueue *queue, Datum headers, int added)
{
	Size		size = toast_raw_datum_size(headers) - VARHDRSZ;

	if (size > (Size) queue->max_msg_size + added)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("headers of %zu bytes are too large for queue \"%s\"",
						size, queue->name),
				 cmq_rights_is_readable(queue) ?
				 errdetail("They may be as large as a body: the queue's max_msg_size is %d bytes.",
						   queue->max_msg_size) : 0,
				 errhint("Put the data into the body, or raise max_msg_size with cmq_alter_queue.")));
}

static bool
has_room(CmqQueue *queue, int n)
{
	return cmq_counting_has_room(queue, n, queue->max_msg_heap_num);
}

/* Raise 53400; readable: the caller may read the queue. */
static void
report_full(CmqQueue *queue, bool readable)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("queue \"%s\" is full", queue->name),
			 readable ?
			 errdetail("Its max_msg_heap_num is %lld, and %lld messages are pending.",
					   (long long) queue->max_msg_heap_num,
					   (long long) cmq_counting_pending(queue)) : 0,
			 errhint("Receive and delete messages, or raise max_msg_heap_num with cmq_alter_queue.")));
}

/* Raise 53400 unless n more messages fit into the queue. */
void
cmq_send_check_room(CmqQueue *queue, int n)
{
	if (!has_room(queue, n))
		report_full(queue, cmq_rights_is_readable(queue));
}

/* When the messages of a call become ready. */
typedef struct Delay
{
	int			seconds;		/* after their production */
	TimestampTz until;			/* or then; DT_NOBEGIN: not given */
} Delay;

/* Why a delay is too long; for ereport(). */
static int
detail_of_retention(CmqQueue *queue)
{
	return cmq_rights_is_readable(queue) ?
		errdetail("The queue keeps a message for %d seconds: one that is delayed for so long would never be received.",
				  queue->msg_retention_seconds) :
		errdetail("A message that is delayed for as long as the queue keeps it would never be received.");
}

static int
hint_of_retention(void)
{
	return errhint("Choose a shorter delay, or lengthen msg_retention_seconds with cmq_alter_queue.");
}

/* Raise 22023 for a delay that is negative or as long as the queue keeps a message. */
void
cmq_send_check_delay(CmqQueue *queue, int delay)
{
	if (delay < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("delay_seconds is out of range for queue \"%s\": %d",
						queue->name, delay),
				 errdetail("It must not be negative.")));
	if (delay >= queue->msg_retention_seconds)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("delay_seconds is out of range for queue \"%s\": %d",
						queue->name, delay),
				 detail_of_retention(queue), hint_of_retention()));
}

/* The same for a time.  The messages are produced after this call, so it will fit. */
static void
check_deliver_at(CmqQueue *queue, TimestampTz deliver_at)
{
	if (TIMESTAMP_NOT_FINITE(deliver_at))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("deliver_at must not be infinite for queue \"%s\"",
						queue->name)));
	if (deliver_at > cmq_queue_now(queue) +
		(queue->msg_retention_seconds - 1) * USECS_PER_SEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("deliver_at is out of range for queue \"%s\": %s",
						queue->name, timestamptz_to_str(deliver_at)),
				 detail_of_retention(queue), hint_of_retention()));
}

/* The delay in the arguments delay_seconds and deliver_at.  Raises 22023. */
static Delay
get_delay(FunctionCallInfo fcinfo, CmqQueue *queue)
{
	Delay		delay = {.until = DT_NOBEGIN};

	cmq_require_arg(fcinfo, 2, "delay_seconds", "queue", queue->name);
	delay.seconds = PG_GETARG_INT32(2);
	cmq_send_check_delay(queue, delay.seconds);
	if (PG_ARGISNULL(4))
		return delay;
	delay.until = PG_GETARG_TIMESTAMPTZ(4);
	check_deliver_at(queue, delay.until);
	if (delay.seconds != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("delay_seconds and deliver_at are both given for queue \"%s\"",
						queue->name),
				 errdetail("One says after how many seconds the message can be received, the other one from what time on."),
				 errhint("Leave one of them out.")));
	return delay;
}

/*
 * Take the time of the next message, and open its leaf.  That leaf may be missing, or
 * have been dropped during a long pause of this process.  Then cmq_leaf_demand() has a
 * leaf made, or raises an error, and the message gets a new time.
 */
static TimestampTz
next_time(CmqLeafRows *messages)
{
	for (;;)
	{
		TimestampTz time = cmq_clock_tick(messages->queue->shared);

		if (cmq_leaf_rows_open(messages, time))
			return time;
		if (cmq_bounds_leaf(messages->queue, time) == NULL)
			cmq_leaf_demand(messages->queue, time);
		CHECK_FOR_INTERRUPTS();
		messages->queue = cmq_queue_again(messages->queue);
	}
}

/* The group of a message, into *group; NULL if it has none. */
static const int64 *
group_of(const CmqOutgoing *out, int i, int64 *group)
{
	if (out->groups == NULL || out->groups_null[i])
		return NULL;
	*group = cmq_group_hash(out->groups[i]);
	return group;
}

/* Announce that messages of these groups come (cmq_window.c). */
static void
open_window(CmqQueue *queue, const CmqOutgoing *out, int first, int end)
{
	uint64		groups = 0;

	for (int i = first; i < end; i++)
	{
		int64		group;

		if (group_of(out, i, &group))
			groups |= CMQ_GROUP_BIT(group);
	}
	cmq_window_open(queue->shared, groups);
}

/* Messages on their way into a queue. */
typedef struct Sending
{
	CmqQueue   *queue;
	const CmqOutgoing *out;
	Delay		delay;
	CmqPending	pending;
	CmqLeafRows messages;
	TimestampTz time;			/* of the last message */
	int			n;				/* messages so far */
	int64		bytes;
} Sending;

/* Give the next message its time, and add its rows. */
static void
send_message(Sending *sending, int i)
{
	const CmqOutgoing *out = sending->out;
	int			delay = sending->delay.seconds;
	TimestampTz time = sending->time;
	Datum		values[Natts_messages];
	bool		isnull[Natts_messages] = {false};
	Size		size = toast_raw_datum_size(out->bodies[i]);
	int64		group;
	const int64 *has_group = group_of(out, i, &group);

	cmq_pending_add_new(&sending->pending, time, delay > 0 ?
						time + delay * USECS_PER_SEC : sending->delay.until,
						has_group);
	values[Anum_messages_enqueued_at - 1] = TimestampTzGetDatum(time);
	isnull[Anum_messages_headers - 1] = out->headers == NULL || out->headers_null[i];
	values[Anum_messages_headers - 1] =
		isnull[Anum_messages_headers - 1] ? (Datum) 0 : out->headers[i];
	values[Anum_messages_body - 1] = out->bodies[i];
	isnull[Anum_messages_message_group - 1] = has_group == NULL;
	values[Anum_messages_message_group - 1] = has_group ? out->groups[i] : (Datum) 0;
	cmq_leaf_rows_insert(&sending->messages, values, isnull, size);
	sending->bytes += size - VARHDRSZ;
	sending->n++;
}

/*
 * Send the messages from first up to end.  In an ordered queue their groups are closed to
 * newer messages, until the rows are written.
 */
static void
send_some(Sending *sending, int first, int end, TimestampTz *times)
{
	bool		ordered = sending->queue->ordered;
	const CmqOnce *once = sending->out->once;

	/* with keys it is open already, since their times were taken */
	if (ordered && once == NULL)
		open_window(sending->queue, sending->out, first, end);
	for (int i = first; i < end; i++)
	{
		if (once && once->is_duplicate[i])
			continue;
		sending->time = once ? once->times[i] : next_time(&sending->messages);
		if (ordered && once == NULL && i == first)
			cmq_window_time(sending->time);
		send_message(sending, i);
		if (times)
			times[i] = sending->time;
		CHECK_FOR_INTERRUPTS();
	}
	if (ordered)
	{
		cmq_pending_flush(&sending->pending);
		cmq_window_close();
	}
}

static void
open_to_send(Sending *sending)
{
	cmq_pending_open(&sending->pending, sending->queue, true);
	cmq_leaf_rows_begin(&sending->messages, sending->queue, CMQ_MESSAGES,
						RowExclusiveLock, sending->pending.estate);
}

static void
close_sent(Sending *sending)
{
	cmq_leaf_rows_end(&sending->messages);
	cmq_pending_flush(&sending->pending);
	cmq_pending_close(&sending->pending);
}

/* The same as open_to_send(), and claim the keys of the messages, which get times. */
static void
claim_to_send(Sending *sending)
{
	const CmqOutgoing *out = sending->out;
	CmqOnce    *once = out->once;

	for (;;)
	{
		open_to_send(sending);
		cmq_once_open(once, &sending->messages);
		sending->queue = sending->messages.queue;
		if (sending->queue->ordered)
			open_window(sending->queue, out, 0, out->n);
		if (cmq_once_claim(once, &sending->messages))
			break;
		/* who waits holds up nobody: no floor, and no window */
		if (sending->queue->ordered)
			cmq_window_close();
		close_sent(sending);
		cmq_once_wait(once);
		sending->queue = cmq_queue_again(sending->queue);
	}
	/* a duplicate needs no room */
	if (once->nduplicates < out->n &&
		!has_room(sending->queue, out->n - once->nduplicates))
		report_full(sending->queue, once->readable);
}

/*
 * Write messages, but for those whose keys others have.  Puts their times, which increase,
 * into times unless that is NULL; with keys, whose times these are, that of the other.  The
 * caller has opened the queue with RowExclusive, and checked rights, arguments and, without
 * keys, room.  Returns how many were written.  Raises 55000 if a subscription writes the
 * queue, and with keys 53400.
 */
static int
send_messages(CmqQueue *queue, const CmqOutgoing *out, Delay delay,
			  TimestampTz *times)
{
	CmqSharedQueue *shared = queue->shared;
	Sending		sending = {
		.queue = queue,
		.out = out,
		.delay = delay,
		.time = DT_NOBEGIN
	};
	int			portion = queue->ordered && !out->once ? WINDOW_MESSAGES : out->n;

	if (queue->is_target)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot send to queue \"%s\" while a subscription writes it",
						queue->name),
				 errdetail("A message of the publisher's could have the same msg_id, and would stop the subscription."),
				 errhint("Send to the queue on the publisher, or drop the subscription first.")));
	if (out->once)
		claim_to_send(&sending);
	else
		open_to_send(&sending);
	for (int first = 0; first < out->n; first += portion)
		send_some(&sending, first, Min(first + portion, out->n), times);

	if (sending.n > 0)
	{
		cmq_notes_set_last_send(shared, sending.time);
		cmq_xact_count(shared, CMQ_SENT, sending.n);
		cmq_xact_count(shared, CMQ_BODY_BYTES, sending.bytes);
	}
	close_sent(&sending);
	return sending.n;
}

/*
 * The same for what the caller does not send to this queue itself: what is published,
 * replayed or redriven, and dead letters; delayed by so many seconds.  The owner's code in
 * indexes runs as the owner, not as the caller, who may not even know the queue.
 */
int
cmq_send_as_owner(CmqQueue *queue, const CmqOutgoing *out, int delay,
				  TimestampTz *times)
{
	Delay		seconds = {.seconds = delay,.until = DT_NOBEGIN};
	CmqOwnerScope scope;
	int			n;

	cmq_owner_enter(&scope, queue->owner);
	n = send_messages(queue, out, seconds, times);
	cmq_owner_leave(&scope);
	return n;
}

/* Raise 22023 for a group that the queue cannot have, or a delayed message in one. */
static void
check_group(CmqQueue *queue, Datum group, Delay delay)
{
	cmq_group_check(group, queue->ordered, "queue", queue->name);
	if (delay.seconds > 0 || delay.until != DT_NOBEGIN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a message with a message_group cannot be delayed in queue \"%s\"",
						queue->name),
				 errdetail("It would hold up its group."),
				 errhint("Leave the delay out, or send the message without a group.")));
}

Datum
cmq_send(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	Datum		body;
	Datum		headers;
	bool		headers_null = PG_ARGISNULL(3);
	Datum		group = PG_GETARG_DATUM(GROUP_ARGNO);
	bool		group_null = PG_ARGISNULL(GROUP_ARGNO);
	CmqOutgoing out = {
		.n = 1,
		.bodies = &body,
		.headers = &headers,
		.headers_null = &headers_null,
		.groups = &group,
		.groups_null = &group_null
	};
	Datum		key;
	bool		key_null = PG_ARGISNULL(KEY_ARGNO);
	CmqOnce		once;
	Delay		delay;
	TimestampTz time;

	cmq_begin_write("cmq_send()");
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_INSERT,
						   RowExclusiveLock);
	cmq_send_check_body(queue, PG_GETARG_DATUM(1), PG_ARGISNULL(1));
	delay = get_delay(fcinfo, queue);

	body = PG_GETARG_DATUM(1);
	headers = PG_GETARG_DATUM(3);
	if (!headers_null)
	{
		cmq_headers_check(headers, 0, "queue", queue->name);
		cmq_send_check_headers(queue, headers, 0);
	}
	if (!group_null)
		check_group(queue, group, delay);
	if (!key_null)
	{
		key = cmq_once_check_key(PG_GETARG_DATUM(KEY_ARGNO), 0, "queue",
								 queue->name);
		cmq_once_require(queue, "dedup_key");
		cmq_once_init(&once, queue, 1, &key, &key_null, &time);
		out.once = &once;
	}
	else
		cmq_send_check_room(queue, 1);
	(void) send_messages(queue, &out, delay, &time);
	PG_RETURN_INT64(cmq_time_to_msg_id(time));
}

/* The groups of n messages, of which each may have none.  Raises 22023. */
static void
get_groups(FunctionCallInfo fcinfo, CmqQueue *queue, Delay delay, int n,
		   CmqOutgoing *out)
{
	cmq_texts_arg(fcinfo, GROUP_ARGNO, "message_groups", "queue", queue->name, n,
				  &out->groups, &out->groups_null);
	for (int i = 0; i < n; i++)
	{
		if (!out->groups_null[i])
			check_group(queue, out->groups[i], delay);
	}
}

/* Get the keys of a batch of n messages; false if there is none.  Raises 22023. */
static bool
get_keys(FunctionCallInfo fcinfo, CmqQueue *queue, int n, TimestampTz *times,
		 CmqOnce *once)
{
	Datum	   *keys;
	bool	   *keys_null;

	cmq_once_keys_arg(fcinfo, KEY_ARGNO, "queue", queue->name, n, &keys,
					  &keys_null);
	cmq_once_init(once, queue, n, keys, keys_null, times);
	if (once->nkeys > 0)
		cmq_once_require(queue, "dedup_keys");
	return once->nkeys > 0;
}

Datum
cmq_send_batch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CmqQueue   *queue;
	CmqOutgoing out = {0};
	CmqOnce		once;
	bool	   *bodies_null;
	TimestampTz *times;
	Delay		delay;
	int			n;

	cmq_begin_write("cmq_send_batch()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_INSERT,
						   RowExclusiveLock);
	cmq_require_arg(fcinfo, 1, "bodies", "queue", queue->name);
	n = cmq_array_arg(PG_GETARG_DATUM(1), TEXTOID, "bodies", "queue",
					  queue->name, &out.bodies, &bodies_null);
	for (int i = 0; i < n; i++)
		cmq_send_check_body(queue, out.bodies[i], bodies_null[i]);
	delay = get_delay(fcinfo, queue);
	if (!PG_ARGISNULL(3))
	{
		cmq_headers_arg(fcinfo, 3, "queue", queue->name, n, &out.headers,
						&out.headers_null);
		for (int i = 0; i < n; i++)
		{
			if (!out.headers_null[i])
				cmq_send_check_headers(queue, out.headers[i], 0);
		}
	}
	if (!PG_ARGISNULL(GROUP_ARGNO))
		get_groups(fcinfo, queue, delay, n, &out);
	times = palloc(Max(n, 1) * sizeof(TimestampTz));
	if (!PG_ARGISNULL(KEY_ARGNO) && get_keys(fcinfo, queue, n, times, &once))
		out.once = &once;
	if (n == 0)
		return (Datum) 0;

	if (out.once == NULL)
		cmq_send_check_room(queue, n);
	out.n = n;
	(void) send_messages(queue, &out, delay, times);
	for (int i = 0; i < n; i++)
	{
		Datum		value = Int64GetDatum(cmq_time_to_msg_id(times[i]));
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value,
							 &isnull);
	}
	return (Datum) 0;
}
