/*-------------------------------------------------------------------------
 *
 * cmq_published.c
 *	  What the views of a queue show of messages that are in journals of topics.
 *
 * A row of a queue that names a topic has its message in the journal of that
 * (cmq_journal.c), which only the owner of the topic can read.  The views call these
 * functions for it.  They need SELECT on the queue, and return NULL for a message that is
 * not the queue's, as what a filter did not let in, that was dropped with its leaf, or that
 * cannot be had now (cmq_message_rows.c).  They do not ask whether the queue still has a row
 * for the message: who calls them by hand finds what was deleted until the leaf is dropped.
 *
 * Locks: AccessShare on the leaf, to the end of the transaction.  Everything here only
 * reads, and works on a standby and in parallel workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "memory/cmq_shared.h"
#include "store/cmq_description.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"

PG_FUNCTION_INFO_V1(cmq_published_headers);
PG_FUNCTION_INFO_V1(cmq_published_body);
PG_FUNCTION_INFO_V1(cmq_published_group);

/* A column of the message that the arguments name. */
static Datum
get_column(FunctionCallInfo fcinfo, AttrNumber attno)
{
	CmqQueue   *queue;
	CmqMessageRows rows;
	char		topic[NAMEDATALEN];
	Datum		value = (Datum) 0;
	bool		isnull = true;

	cmq_require_preload();
	queue = cmq_queue_lookup(cmq_queue_name_arg(fcinfo, 0), ACL_SELECT);
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(1), topic, NAMEDATALEN);
	cmq_message_rows_begin(&rows, queue, AccessShareLock);
	if (topic[0] != '\0' &&
		cmq_message_rows_find(&rows, PG_GETARG_TIMESTAMPTZ(2), topic))
	{
		value = slot_getattr(rows.slot, attno, &isnull);
		if (!isnull)
			value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	}
	cmq_message_rows_end(&rows);
	if (isnull)
		PG_RETURN_NULL();
	return value;
}

Datum
cmq_published_headers(PG_FUNCTION_ARGS)
{
	return get_column(fcinfo, Anum_messages_headers);
}

Datum
cmq_published_body(PG_FUNCTION_ARGS)
{
	return get_column(fcinfo, Anum_messages_body);
}

Datum
cmq_published_group(PG_FUNCTION_ARGS)
{
	return get_column(fcinfo, Anum_messages_message_group);
}
