/*-------------------------------------------------------------------------
 *
 * cmq_look.c
 *	  A look at a queue that the caller may see the numbers of, for the views cmq.metrics
 *	  and cmq.status.
 *
 * Counters and the numbers of pending messages, and of those that a rewind still has to
 * bring back, come from shared memory (cmq_count.c).  What is in flight or delayed
 * stands right of now in the primary key of the pending table, and is counted there.
 * The message that has been ready longest is the first one from the scan floor on, but
 * for restored ones (find_ready_since()); which expires first is asked there, of what is
 * in flight and of the rewind.  The earliest message that is not consumed,
 * which bounds the range of a rewind, is found from a mark on (cmq_oldest.c).  The history
 * is counted while it is small, else estimated (count_history()).  So no table is read
 * from end to end, with these exceptions: the pending table is counted once after a start
 * of the server, and the history since the start of a rewind once after the rewind; and
 * for cmq.status the pending table of a queue with rewind is read when so much was
 * consumed since the last look that this is faster.
 *
 * A queue that cannot be looked at is left out: without a word if it is being dropped or
 * changed, with a warning if it is damaged.
 *
 * In recovery no queue has an entry in shared memory.  Then there are no counters,
 * and each call counts in the tables: in the pending table, and in the history since
 * the start of a rewind under way.
 *
 * Locks: AccessShare on all tables of a queue, never waited for, until the look at the
 * queue ends; on a leaf that is made meanwhile, like anybody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/cmq_try.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_count.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_notes.h"
#include "store/cmq_bounds.h"
#include "store/cmq_catalog.h"
#include "store/cmq_counting.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_lock.h"
#include "store/cmq_oldest.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_scan.h"
#include "store/cmq_shape.h"
#include "store/cmq_states.h"
#include "store/cmq_table.h"
#include "verbs/cmq_rewind.h"
#include "watch/cmq_blocked.h"
#include "watch/cmq_look.h"

/* How many restored messages are looked at for the one that is ready longest. */
#define MAX_RESTORED 1000

/* Bytes of a row of a rewind table on its page, where nobody has counted them yet. */
#define REWIND_ROW_SIZE 76

/* A history of up to so many pages is counted: some 800 messages. */
#define SMALL_HISTORY_PAGES 8

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

/* What is in the rewind leaves of a queue. */
typedef struct Leaves
{
	int64		pages;
	int64		bytes;			/* with indexes */
	double		rows;			/* about */
	double		rewindable;		/* of these, of messages in the rewind window */
} Leaves;

static Leaves
look_at_leaves(CmqQueue *queue)
{
	Leaves		leaves = {0};
	TimestampTz since = cmq_bounds_rewindable_since(queue,
													cmq_queue_now(queue));

	for (int i = 0; i < queue->nleaves; i++)
	{
		const CmqLeaf *leaf = &queue->leaves[i];
		double		rows;

		leaves.bytes += total_size(leaf->rewind);
		leaves.pages += cmq_scan_estimate(queue, leaf->rewind, CMQ_REWIND,
										  BLCKSZ / REWIND_ROW_SIZE, &rows);
		leaves.rows += rows;
		if (rows > 0)
			leaves.rewindable += rows * cmq_scan_part_since(queue, leaf, since);
	}
	return leaves;
}

/*
 * Bytes on disk.  Pending messages and the history are in the same message leaves, whose
 * bytes are divided in proportion to the number of each.  The number of messages in the
 * history is estimated from the size of the rewind leaves, less what a rewind still has
 * to bring back.  With rewind off there is no history: what maintenance has not removed
 * yet counts as neither.
 */
static void
get_sizes(CmqQueue *queue, const Leaves *leaves, CmqLook *look)
{
	double		deleted = Max(leaves->rows - look->left_of_rewind, 0);
	int64		messages = 0;
	double		share;

	for (int i = 0; i < queue->nleaves; i++)
		messages += total_size(queue->leaves[i].messages);
	share = look->pending + deleted > 0 ?
		look->pending / (look->pending + deleted) : 0;
	look->pending_bytes = total_size(queue->pending) +
		(int64) (share * messages);
	look->history_bytes = queue->rewind_seconds == 0 ? 0 :
		leaves->bytes + messages - (int64) (share * messages);
}

/*
 * The number of messages in the history.  That of a large one is estimated, and contains
 * what was forgotten until maintenance has removed it.
 */
static int64
count_history(CmqQueue *queue, const Leaves *leaves, int64 left)
{
	CmqStates	states = cmq_states_none;

	if (queue->rewind_seconds == 0)
		return 0;
	if (leaves->pages > SMALL_HISTORY_PAGES)
		return Max((int64) rint(leaves->rewindable) - left, 0);
	cmq_states_scan_rewind(&states, queue, InvalidSnapshot,
						   cmq_queue_now(queue));
	return states.history;
}

/*
 * Since when has the message been ready that has been ready longest?  The scan stands
 * before the first ready row.  Rows are in the order in which they became ready, but
 * for restored ones, which stand where they were produced.  So the first row that was
 * not restored ends the search.  If more than MAX_RESTORED restored rows come before it,
 * the result may be too late.  These rows are also asked for the message that was
 * produced first: one that is ready again stands behind them, and was seen in flight.
 */
static TimestampTz
find_ready_since(CmqTable *pending, TimestampTz expired_before,
				 TimestampTz *first_waiting)
{
	TimestampTz since = DT_NOEND;

	for (int n = 0; n < MAX_RESTORED && cmq_table_next(pending);)
	{
		TimestampTz time = cmq_slot_time(pending->slot,
										 Anum_pending_enqueued_at);
		TimestampTz row_since;

		if (time < expired_before)
			continue;
		*first_waiting = Min(*first_waiting, time);
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
 * ready, and the first message that a rewind brings back.  Not in recovery.
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
	states->ready_since = find_ready_since(&pending, expired_before,
										   &states->first_waiting);
	cmq_table_close(&pending);
	states->first_due = cmq_due_first(queue, &queue->rewinding,
									  Max(expired_before, scan.rewind_floor));
	if (states->first_due != DT_NOEND)
		states->ready_since = Min(states->ready_since,
								  queue->rewinding.rewound_at);
}

/* In recovery: the same, and all other numbers, from the tables. */
static void
count_in_tables(CmqQueue *queue, CmqStates *states, int64 *left)
{
	TimestampTz now = cmq_queue_now(queue);
	TimestampTz expired_before = cmq_bounds_expired_before(queue, now);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	cmq_states_scan_pending(states, queue, snapshot, now);
	*left = cmq_due_count(queue, snapshot, expired_before);
	UnregisterSnapshot(snapshot);
	if (*left == 0)
		return;
	states->first_due = cmq_due_first(queue, &queue->rewinding, expired_before);
	states->ready_since = Min(states->ready_since, queue->rewinding.rewound_at);
}

/* The numbers of messages by state. */
static void
get_numbers(CmqQueue *queue, CmqLook *look, CmqStates *states)
{
	if (queue->shared)
	{
		look_at_pending(queue, states);
		look->left_of_rewind = cmq_counting_due(queue);
		look->pending = cmq_counting_pending(queue);
		/* the two were not counted at the same moment */
		states->ready = Max(look->pending - states->in_flight -
							states->delayed - states->hidden, 0);
	}
	else
	{
		count_in_tables(queue, states, &look->left_of_rewind);
		look->pending = states->ready + states->in_flight + states->delayed;
	}
	look->pending += look->left_of_rewind;
	look->ready = states->ready + look->left_of_rewind;
	look->in_flight = states->in_flight;
	look->delayed = states->delayed;
}

/* How long the oldest of them have been there, and how long they will be. */
static void
get_ages(CmqQueue *queue, CmqLook *look, const CmqStates *states)
{
	TimestampTz now = cmq_queue_now(queue);
	TimestampTz first = Min(states->first_waiting, states->first_due);
	double		seconds = USECS_PER_SEC;

	if (look->paused_since != 0)
		look->paused_seconds = Max(now - look->paused_since, 0) / seconds;
	look->any_ready = states->ready_since != DT_NOEND;
	look->any_in_flight = states->first_received != DT_NOEND;
	look->any_waiting = first != DT_NOEND;
	if (look->any_ready)
		look->oldest_ready_seconds = (now - states->ready_since) / seconds;
	if (look->any_in_flight)
		look->oldest_in_flight_seconds =
			(now - states->first_received) / seconds;
	if (look->any_waiting)
		look->first_expiry_seconds = queue->msg_retention_seconds -
			(now - first) / seconds;
}

/*
 * For how long maintenance has not come to its end: since the last turn that did, or
 * since it could have begun.  A leaf whose messages have all expired should be gone, even
 * if a turn has not failed for that; that of a subscription has more time.
 */
static double
get_unmaintained(CmqQueue *queue)
{
	CmqSharedKey key = {.database = MyDatabaseId,.pending = queue->pending};
	CmqTurns	turns[CMQ_NTURNS] = {0};
	TimestampTz since = Max(queue->create_time, PgStartTime);

	cmq_notes_get_turns(&key, turns);
	since = Max(since, turns[CMQ_SHORT_TURN].completed_at);
	if (queue->nleaves > 0 && !queue->is_target)
		since = Min(since, queue->leaves[0].upper +
					queue->msg_retention_seconds * USECS_PER_SEC);
	return Max(cmq_time() - since, 0) / (double) USECS_PER_SEC;
}

/* Where a rewind may start, as cmq_queue_attributes says; nowhere with rewind off. */
static void
get_range(CmqQueue *queue, CmqLook *look, CmqStates *states)
{
	TimestampTz now = cmq_queue_now(queue);

	look->can_rewind = queue->rewind_seconds != 0;
	if (!look->can_rewind)
		return;
	/* in recovery the table has been read */
	if (queue->shared)
		states->earliest = cmq_oldest_look(queue, now);
	cmq_rewind_range(queue, Min(Min(states->earliest, states->first_due), now),
					 states->first_due, &look->earliest_rewind,
					 &look->latest_rewind);
}

/* The counters; in recovery there are none. */
static void
get_counters(CmqSharedQueue *shared, CmqLook *look)
{
	look->counted = shared != NULL;
	if (!look->counted)
		return;
	look->since = cmq_count_since(shared);
	for (int i = 0; i < CMQ_NCOUNTERS; i++)
		look->counters[i] = cmq_count_counter(shared, i);
}

/* How many groups of an ordered queue are blocked; in recovery all rows are looked at. */
static void
get_blocked(CmqQueue *queue, CmqLook *look)
{
	TimestampTz now = cmq_queue_now(queue);
	CmqFloorScan scan = {.floor = DT_NOBEGIN,.rewind_floor = DT_NOBEGIN};
	CmqTable	pending;

	if (!queue->ordered)
		return;
	if (queue->shared)
		cmq_bounds_begin_floor(&scan, queue, now);
	if (!cmq_table_open(&pending, NULL, queue, queue->pending, CMQ_PENDING,
						AccessShareLock))
		return;
	look->blocked_groups = cmq_blocked_count(queue, &pending, now, scan.floor,
											 scan.rewind_floor);
	look->counts_blocked = look->blocked_groups >= 0;
	cmq_table_close(&pending);
}

static void
get_look(const char *name, CmqLook *look)
{
	CmqQueue   *queue = cmq_queue_open(name, ACL_NO_RIGHTS, AccessShareLock);
	CmqStates	states = cmq_states_none;
	Leaves		leaves;

	strlcpy(look->dead_letter_queue, queue->dead_letter_queue, NAMEDATALEN);
	look->paused_since = queue->paused_since;
	get_numbers(queue, look, &states);
	leaves = look_at_leaves(queue);
	get_sizes(queue, &leaves, look);
	look->history = count_history(queue, &leaves, look->left_of_rewind);
	get_counters(queue->shared, look);
	if (look->counted)
		look->unmaintained_seconds = get_unmaintained(queue);
	look->msg_retention_seconds = queue->msg_retention_seconds;
	look->max_msg_heap_num = queue->max_msg_heap_num;
	if (look->for_status)
	{
		get_range(queue, look, &states);
		get_blocked(queue, look);
	}
	get_ages(queue, look, &states);
	look->found = true;
}

/*
 * May the current user see the numbers?  Readers may, and members of pg_monitor, even
 * without a right on bodies.
 */
static bool
may_see_numbers(CmqQueue *queue)
{
	return cmq_rights_is_readable(queue) ||
		has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
}

/*
 * Lock all tables of the queue to look at them.  False if there is no such queue, the
 * caller may not see it, or another transaction has a table alone.
 */
static bool
lock_queue(const char *name)
{
	CmqQueue   *queue = cmq_queue_find(name);

	if (queue == NULL || !may_see_numbers(queue) ||
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
		get_look(name, arg);
}

/* May the caller see the queue's numbers, whatever state it is in? */
static bool
may_see(const char *name)
{
	CmqDescription queue;

	return cmq_catalog_find_queue(&queue, name) &&
		SearchSysCacheExists1(RELOID, ObjectIdGetDatum(queue.relid)) &&
		may_see_numbers(&queue);
}

/*
 * Look at a queue for a view; false if the view does not show it.  One damaged queue must
 * not hide the others.  The locks of each are released at once: those of all would not fit
 * into the server's table.
 */
bool
cmq_look_at(const char *name, const char *view, CmqLook *look)
{
	/* it needs a snapshot of its own and, before 17, a subtransaction */
	if (IsInParallelMode())
		PreventCommandIfParallelMode(psprintf("cmq.%s", view));
	return may_see(name) &&
		cmq_try(name, view, look_at_queue, look,
				CMQ_TRY_UNDO | CMQ_TRY_WARN) &&
		look->found;
}
