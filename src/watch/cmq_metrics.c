/*-------------------------------------------------------------------------
 *
 * cmq_metrics.c
 *	  What the view cmq.metrics shows: the counters of queues, for monitoring.
 *
 * Counters and the numbers of pending messages, and of those that a rewind still has to
 * bring back, come from shared memory (cmq_count.c).  What is in flight or delayed
 * stands right of now in the primary key of the pending table, and is counted there.
 * The message that has been ready longest is the first one from the scan floor on, but
 * for restored ones (find_ready_since()).  So no table is read from end to end, with two
 * exceptions: the pending table is counted once after a start of the server, and the
 * history since the start of a rewind once after the rewind.
 *
 * A queue that cannot be looked at is left out: without a word if it is being dropped or
 * changed, with a warning if it is damaged.
 *
 * In recovery no queue has an entry in shared memory.  Then there are no counters,
 * and each call counts in the tables: in the pending table, and in the history since
 * the start of a rewind under way.
 *
 * Locks: AccessShare on all tables of a queue, never waited for, until the queue's row of
 * the result is made.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_try.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_count.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "store/cmq_bounds.h"
#include "store/cmq_catalog.h"
#include "store/cmq_counting.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_lock.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_scan.h"
#include "store/cmq_states.h"
#include "store/cmq_table.h"

PG_FUNCTION_INFO_V1(cmq_metrics);

/* How many restored messages are looked at for the one that is ready longest. */
#define MAX_RESTORED 1000

/* Bytes of a row of a rewind table on its page. */
#define REWIND_ROW_SIZE 76

enum
{
	Anum_metrics_queue = 1,
	Anum_metrics_since,
	Anum_metrics_counters,		/* the first of CMQ_NCOUNTERS, in the order of
								 * CmqCounter */
	Anum_metrics_pending_msg_num = Anum_metrics_counters + CMQ_NCOUNTERS,
	Anum_metrics_left_of_rewind,
	Anum_metrics_inactive_msg_num,
	Anum_metrics_delay_msg_num,
	Anum_metrics_oldest_ready_seconds,
	Anum_metrics_pending_bytes,
	Anum_metrics_rewindable_bytes,
	Natts_metrics = 18
};

/* Bytes of a table with its indexes and TOAST; 0 if it is gone. */
static int64
total_size(Oid relid)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		size;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(relid);
	fcinfo->args[0].isnull = false;
	size = pg_total_relation_size(fcinfo);
	return fcinfo->isnull ? 0 : DatumGetInt64(size);
}

/*
 * Bytes on disk.  Pending messages and the history are in the same message leaves, whose
 * bytes are divided in proportion to the number of each.  The number of messages in the
 * history is estimated from the size of the rewind leaves, less what a rewind still has
 * to bring back.  With rewind off there is no history: what maintenance has not removed
 * yet counts as neither.
 */
static void
get_sizes(CmqQueue *queue, int64 npending, int64 left, int64 *pending,
		  int64 *rewindable)
{
	int64		nrewind = 0;
	int64		messages = 0;
	double		share;

	*pending = total_size(queue->pending);
	*rewindable = 0;
	for (int i = 0; i < queue->nleaves; i++)
	{
		messages += total_size(queue->leaves[i].messages);
		*rewindable += total_size(queue->leaves[i].rewind);
		nrewind += cmq_scan_pages(queue, queue->leaves[i].rewind, CMQ_REWIND) *
			(BLCKSZ / REWIND_ROW_SIZE);
	}
	nrewind = Max(nrewind - left, 0);
	share = npending + nrewind > 0 ?
		(double) npending / (npending + nrewind) : 0;
	*pending += (int64) (share * messages);
	*rewindable += messages - (int64) (share * messages);
	if (queue->rewind_seconds == 0)
		*rewindable = 0;
}

/*
 * Since when has the message been ready that has been ready longest?  The scan stands
 * before the first ready row.  Rows are in the order in which they became ready, but
 * for restored ones, which stand where they were produced.  So the first row that was
 * not restored ends the search.  If more than MAX_RESTORED restored rows come before it,
 * the result may be too late.
 */
static TimestampTz
find_ready_since(CmqTable *pending, TimestampTz expired_before)
{
	TimestampTz since = DT_NOEND;

	for (int n = 0; n < MAX_RESTORED && cmq_table_next(pending);)
	{
		TimestampTz row_since;

		if (cmq_slot_time(pending->slot,
						  Anum_pending_enqueued_at) < expired_before)
			continue;
		row_since = cmq_slot_ready_since(pending->slot);
		since = Min(since, row_since);
		if (row_since == cmq_slot_time(pending->slot, Anum_pending_visible_at))
			break;
		n++;
	}
	return since;
}

/*
 * Count what is in flight and delayed, and find since when the first message has been
 * ready.  Not in recovery.
 */
static void
look_at_pending(CmqQueue *queue, CmqStates *states)
{
	TimestampTz now = cmq_clock_peek(queue->shared);
	TimestampTz expired_before = cmq_bounds_expired_before(queue, now);
	CmqFloorScan scan;
	CmqTable	pending;

	cmq_bounds_begin_floor(&scan, queue, now);
	if (!cmq_table_open(&pending, NULL, queue, queue->pending, CMQ_PENDING,
						AccessShareLock))
		return;
	cmq_states_find_hidden(states, &pending, now, expired_before);
	cmq_table_range(&pending, scan.floor, now, true);
	states->ready_since = find_ready_since(&pending, expired_before);
	cmq_table_close(&pending);
	if (cmq_due_first(queue, &queue->rewinding,
					  Max(expired_before, scan.rewind_floor)) != DT_NOEND)
		states->ready_since = Min(states->ready_since,
								  queue->rewinding.rewound_at);
}

/* In recovery: the same, and all other numbers, from the tables. */
static void
count_in_tables(CmqQueue *queue, CmqStates *states, int64 *left)
{
	TimestampTz now = cmq_queue_now(queue);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	cmq_states_scan_pending(states, queue, snapshot, now);
	*left = cmq_due_count(queue, snapshot,
						  cmq_bounds_expired_before(queue, now));
	UnregisterSnapshot(snapshot);
	if (*left > 0)
		states->ready_since = Min(states->ready_since,
								  queue->rewinding.rewound_at);
}

/*
 * May the current user see the counters?  Readers may, and members of pg_monitor, even
 * without a right on bodies.
 */
static bool
may_see_counters(CmqQueue *queue)
{
	return cmq_rights_is_readable(queue) ||
		has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
}

/* The row of one queue, but for its name; found: the queue could be looked at. */
typedef struct MetricsRow
{
	bool		found;
	Datum		values[Natts_metrics];
	bool		isnull[Natts_metrics];
} MetricsRow;

#define VALUE(att) row->values[Anum_metrics_##att - 1]
#define NULLED(att) row->isnull[Anum_metrics_##att - 1]

/* The counters; in recovery there are none. */
static void
add_counters(MetricsRow *row, CmqSharedQueue *shared)
{
	NULLED(since) = shared == NULL;
	if (shared)
		VALUE(since) = TimestampTzGetDatum(cmq_count_since(shared));
	for (int i = 0; i < CMQ_NCOUNTERS; i++)
	{
		int			column = Anum_metrics_counters - 1 + i;

		row->isnull[column] = shared == NULL;
		if (shared)
			row->values[column] = Int64GetDatum(cmq_count_counter(shared, i));
	}
}

static void
get_metrics(const char *name, MetricsRow *row)
{
	CmqQueue   *queue = cmq_queue_open(name, ACL_NO_RIGHTS, AccessShareLock);
	CmqSharedQueue *shared = queue->shared;
	CmqStates	states = cmq_states_none;
	int64		npending;
	int64		left;
	int64		pending_bytes;
	int64		rewindable_bytes;

	if (shared)
	{
		look_at_pending(queue, &states);
		left = cmq_counting_due(queue);
		npending = cmq_counting_pending(queue) + left;
	}
	else
	{
		count_in_tables(queue, &states, &left);
		npending = states.ready + states.in_flight + states.delayed + left;
	}
	get_sizes(queue, npending, left, &pending_bytes, &rewindable_bytes);

	add_counters(row, shared);
	VALUE(pending_msg_num) = Int64GetDatum(npending);
	VALUE(left_of_rewind) = Int64GetDatum(left);
	VALUE(pending_bytes) = Int64GetDatum(pending_bytes);
	VALUE(rewindable_bytes) = Int64GetDatum(rewindable_bytes);
	VALUE(inactive_msg_num) = Int64GetDatum(states.in_flight);
	VALUE(delay_msg_num) = Int64GetDatum(states.delayed);
	NULLED(oldest_ready_seconds) = states.ready_since == DT_NOEND;
	VALUE(oldest_ready_seconds) =
		Float8GetDatum(states.ready_since == DT_NOEND ? 0 :
					   (cmq_queue_now(queue) - states.ready_since) /
					   (double) USECS_PER_SEC);
	row->found = true;
}

/*
 * Lock all tables of the queue to look at them.  False if there is no such queue, the
 * caller may not see it, or another transaction has a table alone.
 */
static bool
lock_queue(const char *name)
{
	CmqQueue   *queue = cmq_queue_find(name);

	if (queue == NULL || !may_see_counters(queue) ||
		!cmq_lock_to_look(queue->pending))
		return false;
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (!cmq_lock_to_look(queue->leaves[i].messages) ||
			!cmq_lock_to_look(queue->leaves[i].rewind))
			return false;
	}
	return true;
}

static void
look_at_queue(const char *name, void *arg)
{
	if (lock_queue(name))
		get_metrics(name, arg);
}

/* May the caller see the queue's counters, whatever state it is in? */
static bool
may_see(const char *name)
{
	CmqDescription queue;

	return cmq_catalog_find_queue(&queue, name) &&
		SearchSysCacheExists1(RELOID, ObjectIdGetDatum(queue.relid)) &&
		may_see_counters(&queue);
}

Datum
cmq_metrics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *lc;

	cmq_require_preload();
	InitMaterializedSRF(fcinfo, 0);

	/*
	 * One damaged queue must not hide the others.  The locks of each are
	 * released at once: those of all would not fit into the server's table.
	 */
	foreach(lc, cmq_catalog_queue_names())
	{
		MetricsRow	row = {0};

		if (!may_see(lfirst(lc)) ||
			!cmq_try(lfirst(lc), "metrics", look_at_queue, &row,
					 CMQ_TRY_UNDO | CMQ_TRY_WARN) ||
			!row.found)
			continue;
		row.values[Anum_metrics_queue - 1] = CStringGetTextDatum(lfirst(lc));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.values,
							 row.isnull);
	}
	return (Datum) 0;
}
