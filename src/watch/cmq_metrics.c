/*-------------------------------------------------------------------------
 *
 * cmq_metrics.c
 *	  What the view cmq.metrics shows: the counters of queues, for monitoring.
 *
 * The view calls this for each queue that its reader asks for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "watch/cmq_look.h"

PG_FUNCTION_INFO_V1(cmq_metrics);

enum
{
	Anum_metrics_since = 1,
	Anum_metrics_counters,		/* the first of CMQ_NCOUNTERS, in the order of
								 * CmqCounter */
	Anum_metrics_pending_msg_num = Anum_metrics_counters + CMQ_NCOUNTERS,
	Anum_metrics_left_of_rewind,
	Anum_metrics_inactive_msg_num,
	Anum_metrics_delay_msg_num,
	Anum_metrics_oldest_ready_seconds,
	Anum_metrics_pending_bytes,
	Anum_metrics_rewindable_bytes,
	Anum_metrics_active_msg_num,
	Anum_metrics_rewind_msg_num,
	Anum_metrics_oldest_in_flight_seconds,
	Anum_metrics_first_expiry_seconds,
	Anum_metrics_paused_seconds,
	Anum_metrics_unmaintained_seconds,
	Anum_metrics_msg_retention_seconds,
	Anum_metrics_max_msg_heap_num,
	Natts_metrics = 25
};

#define VALUE(att) values[Anum_metrics_##att - 1]
#define NULLED(att) isnull[Anum_metrics_##att - 1]

static void
make_row(const CmqLook *look, ReturnSetInfo *rsinfo)
{
	Datum		values[Natts_metrics];
	bool		isnull[Natts_metrics] = {false};

	NULLED(since) = !look->counted;
	VALUE(since) = TimestampTzGetDatum(look->since);
	for (int i = 0; i < CMQ_NCOUNTERS; i++)
	{
		isnull[Anum_metrics_counters - 1 + i] = !look->counted;
		values[Anum_metrics_counters - 1 + i] =
			Int64GetDatum(look->counters[i]);
	}
	VALUE(pending_msg_num) = Int64GetDatum(look->pending);
	VALUE(left_of_rewind) = Int64GetDatum(look->left_of_rewind);
	VALUE(inactive_msg_num) = Int64GetDatum(look->in_flight);
	VALUE(delay_msg_num) = Int64GetDatum(look->delayed);
	NULLED(oldest_ready_seconds) = !look->any_ready;
	VALUE(oldest_ready_seconds) = Float8GetDatum(look->oldest_ready_seconds);
	VALUE(pending_bytes) = Int64GetDatum(look->pending_bytes);
	VALUE(rewindable_bytes) = Int64GetDatum(look->history_bytes);
	VALUE(active_msg_num) = Int64GetDatum(look->ready);
	VALUE(rewind_msg_num) = Int64GetDatum(look->history);
	NULLED(oldest_in_flight_seconds) = !look->any_in_flight;
	VALUE(oldest_in_flight_seconds) =
		Float8GetDatum(look->oldest_in_flight_seconds);
	NULLED(first_expiry_seconds) = !look->any_waiting;
	VALUE(first_expiry_seconds) = Float8GetDatum(look->first_expiry_seconds);
	NULLED(paused_seconds) = look->paused_since == 0;
	VALUE(paused_seconds) = Float8GetDatum(look->paused_seconds);
	NULLED(unmaintained_seconds) = !look->counted;
	VALUE(unmaintained_seconds) = Float8GetDatum(look->unmaintained_seconds);
	VALUE(msg_retention_seconds) = Int64GetDatum(look->msg_retention_seconds);
	VALUE(max_msg_heap_num) = Int64GetDatum(look->max_msg_heap_num);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
}

Datum
cmq_metrics(PG_FUNCTION_ARGS)
{
	char	   *name = cmq_queue_name_arg(fcinfo, 0);
	CmqLook		look = {0};

	cmq_require_preload();
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (cmq_look_at(name, "metrics", &look))
		make_row(&look, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}
