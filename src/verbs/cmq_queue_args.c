/*-------------------------------------------------------------------------
 *
 * cmq_queue_args.c
 *	  The settings of a queue and its dead-letter policy, as arguments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/cmq_args.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "verbs/cmq_queue_args.h"

/* Settings that are plain numbers. */
typedef struct Setting
{
	int			argno;
	const char *name;
	size_t		offset;			/* in CmqQueue */
	int64		min;
	int64		max;
	const char *unit;
	bool		big;			/* int64, bigint in SQL; else int */
} Setting;

static const Setting settings[] = {
	{1, "visibility_timeout", offsetof(CmqQueue, visibility_timeout),
	CMQ_VISIBILITY_MIN, CMQ_VISIBILITY_MAX, " seconds", false},
	{2, "polling_wait_seconds", offsetof(CmqQueue, polling_wait_seconds),
	CMQ_POLLING_MIN, CMQ_POLLING_MAX, " seconds", false},
	{3, "msg_retention_seconds", offsetof(CmqQueue, msg_retention_seconds),
	CMQ_RETENTION_MIN, CMQ_RETENTION_MAX, " seconds", false},
	{4, "rewind_seconds", offsetof(CmqQueue, rewind_seconds),
	CMQ_REWIND_MIN, CMQ_RETENTION_MAX, " seconds", false},
	{5, "max_msg_size", offsetof(CmqQueue, max_msg_size),
	CMQ_MSG_SIZE_MIN, CMQ_MSG_SIZE_MAX, " bytes", false},
	{6, "max_msg_heap_num", offsetof(CmqQueue, max_msg_heap_num),
	CMQ_HEAP_NUM_MIN, CMQ_HEAP_NUM_MAX, " messages", true},
	{10, "retry_backoff_seconds", offsetof(CmqQueue, retry_backoff_seconds),
	0, CMQ_BACKOFF_MAX, " seconds", false},
	{11, "retry_backoff_max_seconds", offsetof(CmqQueue, retry_backoff_max_seconds),
	0, CMQ_BACKOFF_MAX, " seconds", false},
	{12, "rewind_share", offsetof(CmqQueue, rewind_share),
	CMQ_SHARE_MIN, CMQ_SHARE_MAX, " per cent", false},
};

/* The first of the three arguments of a dead-letter policy. */
#define DEAD_LETTER_ARGNO 7

/* May an error say what the queue is set to?  A queue being created has no secrets. */
static bool
may_say(CmqQueue *queue)
{
	return !OidIsValid(queue->relid) || cmq_rights_is_readable(queue);
}

/*
 * Store the settings given in the arguments into queue; NULL keeps what is
 * there, or is an error.  Returns whether any was given.  Raises 22023.
 */
bool
cmq_queue_args_get_settings(FunctionCallInfo fcinfo, CmqDescription *queue, bool null_keeps)
{
	bool		any = false;

	for (int i = 0; i < lengthof(settings); i++)
	{
		const Setting *s = &settings[i];
		int64		value;

		if (PG_ARGISNULL(s->argno))
		{
			if (null_keeps)
				continue;
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not be NULL for queue \"%s\"",
							s->name, queue->name),
					 errhint("Leave the argument out to get its default.")));
		}
		value = s->big ? PG_GETARG_INT64(s->argno) : PG_GETARG_INT32(s->argno);
		cmq_check_range(s->name, value, s->min, s->max, s->unit, queue->name);
		if (s->big)
			*(int64 *) ((char *) queue + s->offset) = value;
		else
			*(int *) ((char *) queue + s->offset) = (int) value;
		any = true;
	}

	if (queue->rewind_seconds > queue->msg_retention_seconds)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("rewind_seconds cannot be greater than msg_retention_seconds for queue \"%s\"",
						queue->name),
				 may_say(queue) ?
				 errdetail("rewind_seconds would be %d, msg_retention_seconds %d.",
						   queue->rewind_seconds, queue->msg_retention_seconds) : 0,
				 errhint("Shorten rewind_seconds or lengthen msg_retention_seconds.")));
	return any;
}

/*
 * Store dedup_seconds, which is in this argument, into queue, whose retention is there;
 * NULL keeps what is there, or is an error.  Returns whether it was given.  Raises 22023.
 */
bool
cmq_queue_args_get_dedup(FunctionCallInfo fcinfo, int argno, CmqDescription *queue,
						 bool null_keeps)
{
	queue->dedup_seconds =
		cmq_int_arg(fcinfo, argno, "dedup_seconds", CMQ_DEDUP_MIN,
					CMQ_RETENTION_MAX, queue->dedup_seconds, null_keeps,
					queue->name);
	if (queue->dedup_seconds > queue->msg_retention_seconds)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("dedup_seconds cannot be greater than msg_retention_seconds for queue \"%s\"",
						queue->name),
				 may_say(queue) ?
				 errdetail("dedup_seconds would be %d, msg_retention_seconds %d.",
						   queue->dedup_seconds, queue->msg_retention_seconds) : 0,
				 errhint("Shorten dedup_seconds or lengthen msg_retention_seconds.")));
	return !PG_ARGISNULL(argno);
}

/*
 * Store the dead-letter policy given in the arguments into queue; NULL keeps
 * what is there.  Returns whether any was given.  Raises 22023 unless queue then has all
 * of a policy, or nothing.
 */
bool
cmq_queue_args_get_dead_letter(FunctionCallInfo fcinfo, CmqDescription *queue)
{
	int			argno = DEAD_LETTER_ARGNO;
	bool		any = !PG_ARGISNULL(argno) || !PG_ARGISNULL(argno + 1) ||
		!PG_ARGISNULL(argno + 2);

	if (!PG_ARGISNULL(argno))
	{
		char	   *target = text_to_cstring(PG_GETARG_TEXT_PP(argno));

		/* cut off, the name could be another queue's, or no text any more */
		if (strlen(target) > CMQ_QUEUE_NAME_MAX)
			cmq_queue_report_unknown(target);
		strlcpy(queue->dead_letter_queue, target, NAMEDATALEN);
	}
	queue->max_receive_count =
		cmq_int_arg(fcinfo, argno + 1, "max_receive_count",
					CMQ_RECEIVE_COUNT_MIN, CMQ_RECEIVE_COUNT_MAX,
					queue->max_receive_count, true, queue->name);
	queue->max_time_to_live =
		cmq_int_arg(fcinfo, argno + 2, "max_time_to_live",
					CMQ_TIME_TO_LIVE_MIN, CMQ_TIME_TO_LIVE_MAX,
					queue->max_time_to_live, true, queue->name);

	if ((queue->dead_letter_queue[0] == '\0') !=
		(queue->max_receive_count == 0 && queue->max_time_to_live == 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("incomplete dead-letter policy for queue \"%s\"",
						queue->name),
				 errhint("Give dead_letter_queue together with max_receive_count, max_time_to_live or both.")));
	if (queue->max_time_to_live >= queue->msg_retention_seconds)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_time_to_live must be less than msg_retention_seconds for queue \"%s\"",
						queue->name),
				 may_say(queue) ?
				 errdetail("max_time_to_live would be %d, msg_retention_seconds %d.",
						   queue->max_time_to_live,
						   queue->msg_retention_seconds) : 0));
	return any;
}
