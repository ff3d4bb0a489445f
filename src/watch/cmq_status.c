/*-------------------------------------------------------------------------
 *
 * cmq_status.c
 *	  What the view cmq.status shows: one row for each queue, for people.
 *
 * The view adds how many dead letters there are: the row of the dead-letter queue says
 * so, if the reader sees that one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "watch/cmq_look.h"

PG_FUNCTION_INFO_V1(cmq_status);

enum
{
	Anum_status_queue = 1,
	Anum_status_ready,
	Anum_status_in_flight,
	Anum_status_delayed,
	Anum_status_history,
	Anum_status_left_of_rewind,
	Anum_status_oldest_ready_seconds,
	Anum_status_dead_letter_queue,
	Anum_status_paused_since,
	Anum_status_earliest_rewind_time,
	Anum_status_latest_rewind_time,
	Anum_status_pending_bytes,
	Anum_status_history_bytes,
	Anum_status_blocked_groups,
	Natts_status = 14
};

#define VALUE(att) values[Anum_status_##att - 1]
#define NULLED(att) isnull[Anum_status_##att - 1]

static void
make_row(const CmqLook *look, ReturnSetInfo *rsinfo)
{
	Datum		values[Natts_status];
	bool		isnull[Natts_status] = {false};

	VALUE(queue) = CStringGetTextDatum(look->queue);
	VALUE(ready) = Int64GetDatum(look->ready);
	VALUE(in_flight) = Int64GetDatum(look->in_flight);
	VALUE(delayed) = Int64GetDatum(look->delayed);
	VALUE(history) = Int64GetDatum(look->history);
	VALUE(left_of_rewind) = Int64GetDatum(look->left_of_rewind);
	NULLED(oldest_ready_seconds) = !look->any_ready;
	VALUE(oldest_ready_seconds) = Float8GetDatum(look->oldest_ready_seconds);
	NULLED(dead_letter_queue) = look->dead_letter_queue[0] == '\0';
	VALUE(dead_letter_queue) = CStringGetTextDatum(look->dead_letter_queue);
	NULLED(paused_since) = look->paused_since == 0;
	VALUE(paused_since) = TimestampTzGetDatum(look->paused_since);
	NULLED(earliest_rewind_time) = NULLED(latest_rewind_time) =
		!look->can_rewind;
	VALUE(earliest_rewind_time) = TimestampTzGetDatum(look->earliest_rewind);
	VALUE(latest_rewind_time) = TimestampTzGetDatum(look->latest_rewind);
	VALUE(pending_bytes) = Int64GetDatum(look->pending_bytes);
	VALUE(history_bytes) = Int64GetDatum(look->history_bytes);
	NULLED(blocked_groups) = !look->counts_blocked;
	VALUE(blocked_groups) = Int64GetDatum(look->blocked_groups);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
}

Datum
cmq_status(PG_FUNCTION_ARGS)
{
	cmq_look_at_queues(fcinfo, "status", true, make_row);
	return (Datum) 0;
}
