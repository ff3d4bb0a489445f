/*-------------------------------------------------------------------------
 *
 * cmq_send.c
 *	  Send one message or many.
 *
 * The arguments are checked here; cmq_outgoing.c writes the messages.  A message can be
 * received before the retention ends, and never before its own time, whatever time the
 * sender asks for.
 *
 * Locks, abort: those of cmq_outgoing.c.
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
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_window.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "verbs/cmq_once.h"
#include "verbs/cmq_outgoing.h"
#include "verbs/cmq_send.h"

#define GROUP_ARGNO 5
#define KEY_ARGNO 6

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
static CmqDelay
get_delay(FunctionCallInfo fcinfo, CmqQueue *queue)
{
	CmqDelay	delay = {.until = DT_NOBEGIN};

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

/* Raise 22023 for a group that the queue cannot have, or a delayed message in one. */
static void
check_group(CmqQueue *queue, Datum group, CmqDelay delay)
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
	CmqDelay	delay;
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
		cmq_outgoing_check_room(queue, 1);
	(void) cmq_outgoing_write(queue, &out, delay, &time);
	PG_RETURN_INT64(cmq_time_to_msg_id(time));
}

/* The groups of n messages, of which each may have none.  Raises 22023. */
static void
get_groups(FunctionCallInfo fcinfo, CmqQueue *queue, CmqDelay delay, int n,
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
	CmqDelay	delay;
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
		cmq_outgoing_check_room(queue, n);
	out.n = n;
	(void) cmq_outgoing_write(queue, &out, delay, times);
	for (int i = 0; i < n; i++)
	{
		Datum		value = Int64GetDatum(cmq_time_to_msg_id(times[i]));
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value,
							 &isnull);
	}
	return (Datum) 0;
}
