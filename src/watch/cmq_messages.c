/*-------------------------------------------------------------------------
 *
 * cmq_messages.c
 *	  Page through the messages of a queue.
 *
 * cmq_messages() returns rows of the view cmq.q_<queue>_all, some at a time, in order, and
 * reads no more for it than its caller allows (cmq_page.c).  It reads the tables and not the
 * view, which the owner of the queue can replace.  A call that may read no more before it
 * has found enough returns a row without a message, which says where the next one goes on.
 *
 * Locks: AccessShare on the pending table and on leaves of the queue, which holds up only a
 * drop of the queue or of a leaf.  It only reads, and works on a standby.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_shared.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "watch/cmq_message_row.h"
#include "watch/cmq_page.h"

PG_FUNCTION_INFO_V1(cmq_messages);

#define MAX_MESSAGES 1000
#define MAX_LOOKED 100000

/* The column behind those of the view. */
#define MATCHED Natts_message

/* Does the argument part name the history?  Raises 22023 if it names neither part. */
static bool
is_history_arg(FunctionCallInfo fcinfo, int argno, const char *queue)
{
	char	   *part;

	cmq_require_arg(fcinfo, argno, "part", "queue", queue);
	part = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (strcmp(part, "pending") != 0 && strcmp(part, "history") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid part for queue \"%s\": \"%s\"", queue, part),
				 errdetail("It must be \"pending\" or \"history\".")));
	return strcmp(part, "history") == 0;
}

/* The position from the arguments after_time and after_id, which stands behind it. */
static CmqPendingKey
position_args(FunctionCallInfo fcinfo, int argno, bool forward, const char *queue)
{
	TimestampTz begin = forward ? DT_NOBEGIN : DT_NOEND;
	CmqPendingKey key = {begin, begin};

	if (!PG_ARGISNULL(argno))
		key.visible_at = PG_GETARG_TIMESTAMPTZ(argno);
	if (!PG_ARGISNULL(argno + 1))
	{
		cmq_require_arg(fcinfo, argno, "after_time", "queue", queue);
		key.enqueued_at = cmq_msg_id_bound(PG_GETARG_INT64(argno + 1));
	}
	return key;
}

static void
get_request(FunctionCallInfo fcinfo, const char *queue, CmqPageRequest *request,
			int *max_messages)
{
	request->history = is_history_arg(fcinfo, 1, queue);
	request->has_filter = cmq_filter_arg(fcinfo, 4, queue, &request->filter);
	*max_messages = cmq_int_arg(fcinfo, 5, "max_messages", 1, MAX_MESSAGES, 0, false,
								queue);
	request->max_looked = cmq_int_arg(fcinfo, 6, "max_looked", 1, MAX_LOOKED, 0, false,
									  queue);
	cmq_require_arg(fcinfo, 7, "backwards", "queue", queue);
	request->direction = PG_GETARG_BOOL(7) ? BackwardScanDirection :
		ForwardScanDirection;
	request->behind = position_args(fcinfo, 2,
									ScanDirectionIsForward(request->direction), queue);
}

static void
return_row(ReturnSetInfo *rsinfo, CmqMessageRow *row, bool matched)
{
	row->values[MATCHED] = BoolGetDatum(matched);
	row->isnull[MATCHED] = false;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row->values, row->isnull);
}

/* Return the position that the scan has come to. */
static void
return_position(ReturnSetInfo *rsinfo, CmqPage *page)
{
	CmqMessageRow *row = &page->row;

	cmq_message_row_init(row, page->last.enqueued_at);
	if (!page->request->history)
	{
		row->values[Anum_message_visible_at - 1] =
			TimestampTzGetDatum(page->last.visible_at);
		row->isnull[Anum_message_visible_at - 1] = false;
	}
	return_row(rsinfo, row, false);
}

Datum
cmq_messages(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CmqQueue   *queue;
	CmqPageRequest request;
	CmqPage		page;
	int			nleft;

	cmq_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_SELECT,
						   AccessShareLock);
	get_request(fcinfo, queue->name, &request, &nleft);

	cmq_page_begin(&page, queue, &request, GetActiveSnapshot());
	while (nleft-- > 0 && cmq_page_next(&page))
		return_row(rsinfo, &page.row, true);
	if (page.ended_early)
		return_position(rsinfo, &page);
	cmq_page_end(&page);
	return (Datum) 0;
}
