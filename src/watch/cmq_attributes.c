/*-------------------------------------------------------------------------
 *
 * cmq_attributes.c
 *	  Attributes of a queue.
 *
 * Everything here only reads, needs SELECT on the queue, and works on a standby.  The
 * numbers of pending messages come from cmq_oldest.c, that of the history from a scan of
 * the rewind leaves with one snapshot.
 *
 * Locks: AccessShare on the pending table and the leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "store/cmq_description.h"
#include "store/cmq_oldest.h"
#include "store/cmq_queue.h"
#include "store/cmq_states.h"
#include "verbs/cmq_rewind.h"

PG_FUNCTION_INFO_V1(cmq_queue_attributes);

/* Result columns of cmq_queue_attributes. */
enum
{
	Anum_attributes_visibility_timeout = 1,
	Anum_attributes_polling_wait_seconds,
	Anum_attributes_msg_retention_seconds,
	Anum_attributes_rewind_seconds,
	Anum_attributes_max_msg_size,
	Anum_attributes_max_msg_heap_num,
	Anum_attributes_dead_letter_queue,
	Anum_attributes_max_receive_count,
	Anum_attributes_max_time_to_live,
	Anum_attributes_retry_backoff_seconds,
	Anum_attributes_retry_backoff_max_seconds,
	Anum_attributes_rewind_share,
	Anum_attributes_ordered,
	Anum_attributes_dedup_seconds,
	Anum_attributes_create_time,
	Anum_attributes_last_modify_time,
	Anum_attributes_active_msg_num,
	Anum_attributes_inactive_msg_num,
	Anum_attributes_delay_msg_num,
	Anum_attributes_rewind_msg_num,
	Anum_attributes_min_msg_time,
	Anum_attributes_earliest_rewind_time,
	Anum_attributes_latest_rewind_time,
	Natts_attributes = 23
};

/* Count the queue's messages by state; returns the description of the same moment. */
static CmqQueue *
look_at_queue(CmqQueue *queue, CmqStates *states, TimestampTz *now)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	/* the description is as old as the snapshot only if read after it */
	queue = cmq_queue_open(queue->name, ACL_SELECT, AccessShareLock);
	*now = cmq_queue_now(queue);
	*states = cmq_states_none;
	cmq_oldest_count(queue, *now, true, states);
	cmq_states_scan_rewind(states, queue, snapshot, *now);
	UnregisterSnapshot(snapshot);
	return queue;
}

Datum
cmq_queue_attributes(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	TupleDesc	desc;
	Datum		values[Natts_attributes];
	bool		isnull[Natts_attributes] = {false};
	TimestampTz now;
	TimestampTz min_msg_time;
	TimestampTz earliest;
	TimestampTz latest;
	CmqStates	states;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	/* counting takes a snapshot of its own, which a parallel worker must not */
	PreventCommandIfParallelMode("cmq_queue_attributes()");
	queue = cmq_queue_lookup(cmq_queue_name_arg(fcinfo, 0), ACL_SELECT);
	queue = look_at_queue(queue, &states, &now);
	min_msg_time = Min(Min(states.earliest, states.first_due), now);

#define VALUE(att) values[Anum_attributes_##att - 1]
#define NULLED(att) isnull[Anum_attributes_##att - 1]
	VALUE(visibility_timeout) = Int32GetDatum(queue->visibility_timeout);
	VALUE(polling_wait_seconds) = Int32GetDatum(queue->polling_wait_seconds);
	VALUE(msg_retention_seconds) = Int32GetDatum(queue->msg_retention_seconds);
	VALUE(rewind_seconds) = Int32GetDatum(queue->rewind_seconds);
	VALUE(max_msg_size) = Int32GetDatum(queue->max_msg_size);
	VALUE(max_msg_heap_num) = Int64GetDatum(queue->max_msg_heap_num);
	VALUE(dead_letter_queue) = CStringGetTextDatum(queue->dead_letter_queue);
	NULLED(dead_letter_queue) = queue->dead_letter_queue[0] == '\0';
	VALUE(max_receive_count) = Int32GetDatum(queue->max_receive_count);
	NULLED(max_receive_count) = queue->max_receive_count == 0;
	VALUE(max_time_to_live) = Int32GetDatum(queue->max_time_to_live);
	NULLED(max_time_to_live) = queue->max_time_to_live == 0;
	VALUE(retry_backoff_seconds) = Int32GetDatum(queue->retry_backoff_seconds);
	VALUE(retry_backoff_max_seconds) = Int32GetDatum(queue->retry_backoff_max_seconds);
	VALUE(rewind_share) = Int32GetDatum(queue->rewind_share);
	VALUE(ordered) = BoolGetDatum(queue->ordered);
	VALUE(dedup_seconds) = Int32GetDatum(queue->dedup_seconds);
	VALUE(create_time) = TimestampTzGetDatum(queue->create_time);
	VALUE(last_modify_time) = TimestampTzGetDatum(queue->last_modify_time);
	VALUE(active_msg_num) = Int64GetDatum(states.ready);
	VALUE(inactive_msg_num) = Int64GetDatum(states.in_flight);
	VALUE(delay_msg_num) = Int64GetDatum(states.delayed);
	VALUE(rewind_msg_num) = Int64GetDatum(states.history);
	VALUE(min_msg_time) = TimestampTzGetDatum(min_msg_time);
	cmq_rewind_range(queue, min_msg_time, states.first_due, &earliest, &latest);
	VALUE(earliest_rewind_time) = TimestampTzGetDatum(earliest);
	VALUE(latest_rewind_time) = TimestampTzGetDatum(latest);
	NULLED(earliest_rewind_time) = NULLED(latest_rewind_time) =
		queue->rewind_seconds == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, isnull)));
}
