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
	Natts_metrics = 17
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
