/*-------------------------------------------------------------------------
 *
 * cmq_rewind_log.c
 *	  The record of what operators did to queues, cmq.rewind_log.
 *
 * Rewinds, restores, replays and cancels are recorded, pauses and resumes.  Each call
 * adds one row in its own transaction, so a call that was rolled back leaves none; nor
 * does one that has changed nothing.  Rows are added here, whatever rights the caller has
 * on the table.  No role has any, so nobody changes a row.  Maintenance removes rows that
 * are older than cmq.rewind_log_retention.
 *
 * The record has names of roles and not their OIDs: it outlives the roles.
 *
 * Locks: RowExclusive on the table, to add a row; for maintenance also
 * ShareUpdateExclusive, if no other maintenance has it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_names.h"
#include "base/cmq_settings.h"
#include "memory/cmq_clock.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_rewind_log.h"

enum
{
	Anum_rewind_log_id = 1,
	Anum_rewind_log_queue,
	Anum_rewind_log_kind,
	Anum_rewind_log_session_user_name,
	Anum_rewind_log_current_user_name,
	Anum_rewind_log_client_addr,
	Anum_rewind_log_application_name,
	Anum_rewind_log_called_at,
	Anum_rewind_log_start_time,
	Anum_rewind_log_end_time,
	Anum_rewind_log_filter,
	Anum_rewind_log_into_queue,
	Anum_rewind_log_messages,
	Anum_rewind_log_reason,
	Anum_rewind_log_queue_create_time,
	Natts_rewind_log = 15
};

/* How many rows one round of maintenance removes. */
#define PRUNE_MAX 100000

/* NULL for a reason that says nothing. */
static const char *
unless_blank(const char *reason)
{
	return reason && reason[strspn(reason, " \t\n")] != '\0' ? reason : NULL;
}

/* What the setting says, or NULL. */
static const char *
reason_set(void)
{
	return unless_blank(cmq_reason);
}

/*
 * Raise 22021 if the setting is no text, 22023 if it is too long: one of a role or of a
 * connection is checked by nobody else.
 */
static void
check_reason_set(void)
{
	const char *reason = reason_set();

	if (reason == NULL)
		return;
	(void) pg_verifymbstr(reason, strlen(reason), false);
	if (strlen(reason) > CMQ_REASON_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"cmq.reason\" is too long"),
				 errdetail("It has %zu bytes, and may have %d.",
						   strlen(reason), CMQ_REASON_MAX)));
}

/*
 * The reason of a call that has it as an argument, which may be NULL or blank: then it is
 * that of the setting, or NULL if that is blank, too.  Raises 22021 and 22023.
 */
const char *
cmq_rewind_log_reason(CmqQueue *queue, const char *given)
{
	given = unless_blank(given);
	if (given == NULL)
	{
		check_reason_set();
		return reason_set();
	}
	if (strlen(given) > CMQ_REASON_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason is too long for queue \"%s\"", queue->name),
				 errdetail("It has %zu bytes, and may have %d.",
						   strlen(given), CMQ_REASON_MAX)));
	return given;
}

/*
 * For a call that brings messages back.  Raises 55000 if the administrator wants a reason
 * and there is none, 22021 and 22023 if it is not as it should be.
 */
void
cmq_rewind_log_require_reason(CmqQueue *queue)
{
	check_reason_set();
	if (cmq_require_reason && reason_set() == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a reason is required to bring messages of queue \"%s\" back",
						queue->name),
				 errdetail("\"cmq.require_reason\" is on and \"cmq.reason\" is empty."),
				 errhint("Say why, in the same transaction: SET LOCAL cmq.reason = '...'.")));
}

/* The client's address; false if it has none. */
static bool
get_client_addr(Datum *result)
{
	LOCAL_FCINFO(fcinfo, 0);

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	*result = inet_client_addr(fcinfo);
	return !fcinfo->isnull;
}

#define VALUE(att) values[Anum_rewind_log_##att - 1]
#define NULLED(att) isnull[Anum_rewind_log_##att - 1]
#define SET_TEXT(att, text) \
	(VALUE(att) = get_text(text, &NULLED(att)))

static Datum
get_text(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
add_row(CmqQueue *queue, const char *kind, TimestampTz time,
		const CmqWindow *window, const char *into_queue, int64 messages,
		const char *reason)
{
	Relation	rel = cmq_catalog_open("rewind_log", RowExclusiveLock);
	Oid			sequence = cmq_relid("rewind_log_id_seq");
	Datum		values[Natts_rewind_log] = {0};
	bool		isnull[Natts_rewind_log] = {false};

	if (!OidIsValid(sequence))
		elog(ERROR, "sequence cmq.rewind_log_id_seq does not exist");
	VALUE(id) = Int64GetDatum(nextval_internal(sequence, false));
	SET_TEXT(queue, queue->name);
	SET_TEXT(kind, kind);
	SET_TEXT(session_user_name, GetUserNameFromId(GetSessionUserId(), false));
	SET_TEXT(current_user_name, GetUserNameFromId(GetUserId(), false));
	NULLED(client_addr) = !get_client_addr(&VALUE(client_addr));
	SET_TEXT(application_name, application_name);
	VALUE(called_at) = TimestampTzGetDatum(time);
	NULLED(start_time) = window == NULL;
	NULLED(end_time) = window == NULL || window->end == DT_NOEND;
	NULLED(filter) = window == NULL || !window->has_filter;
	if (window)
	{
		VALUE(start_time) = TimestampTzGetDatum(window->start);
		VALUE(end_time) = TimestampTzGetDatum(window->end);
		VALUE(filter) = window->filter;
	}
	SET_TEXT(into_queue, into_queue);
	NULLED(messages) = messages < 0;
	VALUE(messages) = Int64GetDatum(messages);
	SET_TEXT(reason, reason);

	/* a queue made anew under this name is another one */
	VALUE(queue_create_time) = TimestampTzGetDatum(queue->create_time);

	cmq_catalog_store(rel, NULL, values, isnull);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/*
 * Record a call; time is that of the queue clock.  A window of NULL has no
 * bounds, an into_queue of NULL is none, messages < 0 are not known.
 */
void
cmq_rewind_log_add(CmqQueue *queue, const char *kind, TimestampTz time,
				   const CmqWindow *window, const char *into_queue,
				   int64 messages)
{
	add_row(queue, kind, time, window, into_queue, messages, reason_set());
}

/* Record a pause, or a resume; the reason, which may be NULL, is checked already. */
void
cmq_rewind_log_add_pause(CmqQueue *queue, bool pause, TimestampTz time,
						 const char *reason)
{
	add_row(queue, pause ? "pause" : "resume", time, NULL, NULL, -1, reason);
}

/* Maintenance: remove some of the rows that are too old; the next round goes on. */
void
cmq_rewind_log_prune(void)
{
	TimestampTz before;
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	Oid			index_oid = cmq_relid("rewind_log_called_at");

	if (cmq_rewind_log_retention < 0 || !OidIsValid(index_oid))
		return;
	before = cmq_time() - cmq_rewind_log_retention * USECS_PER_SEC;

	/* two at once would meet the same rows: one of them is enough */
	if (!ConditionalLockRelationOid(cmq_relid("rewind_log"),
									ShareUpdateExclusiveLock))
		return;
	rel = cmq_catalog_open("rewind_log", RowExclusiveLock);
	index = index_open(index_oid, AccessShareLock);
	ScanKeyInit(&key, Anum_rewind_log_called_at, BTLessStrategyNumber,
				F_TIMESTAMPTZ_LT, TimestampTzGetDatum(before));
	scan = systable_beginscan_ordered(rel, index, NULL, 1, &key);
	for (int n = 0; n < PRUNE_MAX &&
		 HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection));
		 n++)
	{
		CHECK_FOR_INTERRUPTS();
		simple_table_tuple_delete(rel, &tuple->t_self, InvalidSnapshot);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}
