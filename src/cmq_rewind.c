/*-------------------------------------------------------------------------
 *
 * cmq_rewind.c
 *	  Rewind a queue to a point in time, and cancel that.
 *
 * A rewind is a pair of times in the queue's row: a soft-deleted message is
 * due again when enqueued_at >= rewind_from and deleted_at < rewound_at.  No
 * message is touched, so a rewind costs the same whatever comes back; receives
 * find the due rows in the rewind tables and merge them with what is pending.
 *
 * A delete that another transaction has done but not yet committed is not
 * "deleted so far": its message is still pending to all others and is left
 * alone.  Its deleted_at cannot tell, so the rewind also stores which
 * transactions were open at that moment, and their deletes are not due.  A
 * transaction is named by a hash of its full id and the cluster's system
 * identifier (cmq_rewind_xact_token), so that a name never fits a transaction
 * of another cluster, as it could after dump and restore.
 *
 * Why nothing falls through: a deleter gets its transaction id, then reads the
 * clock (deleted_at).  The rewind takes rewound_at from the clock, then lists
 * the open transactions.  A delete with deleted_at < rewound_at therefore has
 * an id that is either in the list, and not due, or has ended before the list
 * was made.  So the set of due messages is fixed at the rewind and only
 * shrinks; whoever finds it empty can forget the rewind.
 *
 * A cancel forgets the pair.  What has not been received yet is history as it was
 * before; a receive that is at a due row just then may still take it (cmq_oldest.c
 * knows).
 *
 * Rewind, cancel, alter and the maintenance step that moves rewind_from forward hold
 * the queue lock to the end of their transactions.  Traffic is not held up: it
 * sees the new pair when the rewind has committed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/standby.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "cmq.h"

PG_FUNCTION_INFO_V1(cmq_rewind);
PG_FUNCTION_INFO_V1(cmq_cancel_rewind);
PG_FUNCTION_INFO_V1(cmq_rewind_left);

/* The name of a transaction in deleted_xact and rewind_concurrent. */
int64
cmq_rewind_xact_token(FullTransactionId fxid)
{
	uint64		key[2] = {GetSystemIdentifier(), U64FromFullTransactionId(fxid)};

	return (int64) hash_bytes_extended((unsigned char *) key, sizeof(key), 0);
}

/*
 * List the transactions that have an id and are open now, without our own;
 * prepared ones included.  Fills rewinding->concurrent, palloc'd.
 */
static void
list_open_transactions(CmqRewind *rewinding)
{
	RunningTransactions running = GetRunningTransactionData();
	TransactionId own = GetTopTransactionIdIfAny();
	FullTransactionId next;
	int			n = running->xcnt;
	TransactionId *xids = palloc(sizeof(TransactionId) * Max(n, 1));

	memcpy(xids, running->xids, sizeof(TransactionId) * n);
	/* it returns with these held */
	LWLockRelease(ProcArrayLock);
	LWLockRelease(XidGenLock);

	next = ReadNextFullTransactionId();
	rewinding->concurrent = palloc(sizeof(int64) * Max(n, 1));
	rewinding->nconcurrent = 0;
	for (int i = 0; i < n; i++)
	{
		uint32		epoch = EpochFromFullTransactionId(next);
		FullTransactionId fxid;

		if (xids[i] == own)
			continue;
		if (xids[i] > XidFromFullTransactionId(next))
			epoch--;
		fxid = FullTransactionIdFromEpochAndXid(epoch, xids[i]);
		rewinding->concurrent[rewinding->nconcurrent++] =
			cmq_rewind_xact_token(fxid);
	}
	pfree(xids);
}

/*
 * enqueued_at of the first message of this leaf that the rewind still has to bring
 * back; DT_NOEND if there is none.
 */
TimestampTz
cmq_rewind_leaf_due(CmqQueue *queue, const CmqLeaf *leaf,
					const CmqRewind *rewinding, TimestampTz expired_before)
{
	TimestampTz from = Max(rewinding->from, expired_before);
	TimestampTz first = DT_NOEND;
	CmqTable	table;

	if (leaf->upper <= from || leaf->lower >= rewinding->rewound_at ||
		!cmq_table_open(&table, NULL, queue, leaf->rewind, CMQ_REWIND,
						AccessShareLock))
		return DT_NOEND;
	cmq_table_range(&table, from, rewinding->rewound_at, false);
	while (first == DT_NOEND && cmq_table_next(&table))
	{
		TimestampTz time = cmq_slot_time(table.slot, Anum_rewind_enqueued_at);

		if (cmq_rewind_is_due(rewinding, time,
							  cmq_slot_time(table.slot, Anum_rewind_deleted_at),
							  cmq_slot_int64(table.slot,
											 Anum_rewind_deleted_xact)))
			first = time;
	}
	cmq_table_release(&table);
	return first;
}

/*
 * enqueued_at of the first message that this rewind still has to bring back;
 * DT_NOEND if there is none.
 */
TimestampTz
cmq_rewind_first_due(CmqQueue *queue, const CmqRewind *rewinding,
					 TimestampTz expired_before)
{
	TimestampTz first = DT_NOEND;

	for (int i = 0; rewinding->active && i < queue->nleaves &&
		 first == DT_NOEND; i++)
		first = cmq_rewind_leaf_due(queue, &queue->leaves[i], rewinding,
									expired_before);
	return first;
}

/*
 * Where a rewind may start, in this transaction: from earliest to latest, both
 * included; nowhere when earliest is greater.  min_msg_time is the production
 * time of the earliest unconsumed message, first_due that of the first one
 * that the rewind under way still has to bring back.
 *
 * now() - rewind_seconds is always early enough, also when the wall clock is behind
 * the queue's clock: what is outside of the window does not come back by that.
 */
void
cmq_rewind_range(CmqQueue *queue, TimestampTz min_msg_time,
				 TimestampTz first_due, TimestampTz *earliest,
				 TimestampTz *latest)
{
	*earliest = Min(cmq_clock_xact_start(queue->shared),
					GetCurrentTransactionStartTimestamp()) -
		queue->rewind_seconds * USECS_PER_SEC;
	*latest = min_msg_time;

	/*
	 * A rewind replaces the one before.  It starts no later than what that one
	 * still has to bring back, but it cannot reach behind forgotten_before:
	 * what is due there would be lost.
	 */
	if (first_due < queue->forgotten_before)
		*earliest = Max(*earliest, queue->forgotten_before);
}

/* Says why a rewind cannot start there, and what can be done instead. */
static void
report_start_time(CmqQueue *queue, TimestampTz start_time,
				  TimestampTz earliest, TimestampTz latest)
{
	bool		may_say = cmq_queue_is_readable(queue);

	/* timestamptz_to_str has a static buffer */
	if (start_time < earliest)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_time is before the rewind window of queue \"%s\"",
						queue->name),
				 may_say ?
				 errdetail("The window begins at %s.",
						   timestamptz_to_str(earliest)) :
				 errdetail("What was deleted longer ago cannot be brought back."),
				 errhint("cmq_queue_attributes shows where a rewind can start.")));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("start_time is after the earliest unconsumed message of queue \"%s\"",
					queue->name),
			 may_say ?
			 errdetail("That message was produced at %s. A rewind starts no later, because it goes back to one point for all messages.",
					   timestamptz_to_str(latest)) :
			 errdetail("A rewind starts no later, because it goes back to one point for all messages."),
			 TIMESTAMP_NOT_FINITE(start_time) ?
			 errhint("cmq_queue_attributes shows where a rewind can start.") :
			 errhint("To bring back what was produced since then all the same: SELECT cmq_restore(%s, %s, NULL).",
					 quote_literal_cstr(queue->name),
					 quote_literal_cstr(timestamptz_to_str(start_time)))));
}

static void
check_start_time(CmqQueue *queue, TimestampTz start_time, TimestampTz now)
{
	CmqCounts	counts = {.min_msg_time = DT_NOEND};
	TimestampTz first_due;
	TimestampTz earliest;
	TimestampTz latest;

	cmq_oldest_count(queue, now, false, &counts);
	first_due = cmq_rewind_first_due(queue, &queue->rewinding,
									 cmq_queue_expired_before(queue, now));
	cmq_rewind_range(queue, Min(Min(counts.min_msg_time, first_due), now),
					 first_due, &earliest, &latest);
	if (!TIMESTAMP_NOT_FINITE(start_time) &&
		start_time >= earliest && start_time <= latest)
		return;

	report_start_time(queue, start_time, earliest, latest);
}

Datum
cmq_rewind(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqQueue	changed;
	CmqRewind  *rewinding = &changed.rewinding;
	char	   *name;
	TimestampTz start_time;
	CmqWindow	window = {.end = DT_NOEND};
	TimestampTz now;
	TimestampTz first;

	cmq_begin_write("cmq_rewind()");
	name = cmq_queue_name_arg(fcinfo, 0);
	cmq_queue_check_acl(cmq_queue_lookup(name), ACL_UPDATE);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_time must not be NULL for queue \"%s\"", name)));
	start_time = PG_GETARG_TIMESTAMPTZ(1);

	(void) cmq_queue_lock(name, ACL_UPDATE, ExclusiveLock);
	queue = cmq_queue_open(name, ACL_UPDATE, AccessShareLock);
	cmq_history_require(queue);
	cmq_rewind_log_require_reason(queue);

	window.start = start_time;
	changed = *queue;
	rewinding->active = true;
	rewinding->rewound_at = now = cmq_clock_tick(queue->shared);
	check_start_time(queue, start_time, now);
	rewinding->from = Max(start_time, cmq_queue_rewindable_since(queue, now));

	/* until we have ended nobody may believe that this is all consumed */
	(void) cmq_floor_announce();
	cmq_floor_publish(rewinding->from);
	cmq_floor_rewound();
	cmq_oldest_lower(queue->shared, rewinding->from);
	cmq_stats_due_unknown(queue->shared);

	list_open_transactions(rewinding);
	rewinding->called_in = cmq_dump_here();

	first = cmq_rewind_first_due(queue, rewinding,
								 cmq_queue_expired_before(queue, now));
	if (first == DT_NOEND)
		memset(rewinding, 0, sizeof(*rewinding));
	else
		cmq_wait_signal_rewind(queue->shared);
	changed.saved_clock = now;
	cmq_catalog_update_queue(&changed);
	/* one that brings nothing back, and ends no other, is not worth a row */
	if (first != DT_NOEND || queue->rewinding.active)
		cmq_rewind_log_add(&changed, "rewind", now, &window, NULL, -1);

	if (first == DT_NOEND)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(first);
}

Datum
cmq_cancel_rewind(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	CmqQueue	changed;
	char	   *name;

	cmq_begin_write("cmq_cancel_rewind()");
	name = cmq_queue_name_arg(fcinfo, 0);
	queue = cmq_queue_lock(name, ACL_UPDATE, ExclusiveLock);
	cmq_history_require(queue);
	cmq_rewind_log_require_reason(queue);
	if (!queue->rewinding.active)
		PG_RETURN_VOID();

	changed = *queue;
	memset(&changed.rewinding, 0, sizeof(changed.rewinding));
	cmq_catalog_update_queue(&changed);
	cmq_rewind_log_add(&changed, "cancel", cmq_queue_now(&changed), NULL, NULL,
					   -1);
	PG_RETURN_VOID();
}

/*
 * How many messages this rewind still has to bring back, as the snapshot sees
 * it.  Reads the rewind tables of the leaves since it starts.
 */
int64
cmq_rewind_count_due(CmqQueue *queue, Snapshot snapshot,
					 TimestampTz expired_before)
{
	const CmqRewind *rewinding = &queue->rewinding;
	TimestampTz from = Max(rewinding->from, expired_before);
	int64		n = 0;

	for (int i = 0; rewinding->active && i < queue->nleaves; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];
		Relation	rel;
		TableScanDesc scan;
		TupleTableSlot *slot;

		if (leaf->upper <= from || leaf->lower >= rewinding->rewound_at ||
			(rel = cmq_table_open_heap(queue, leaf->rewind, CMQ_REWIND)) == NULL)
			continue;
		scan = cmq_beginscan(rel, snapshot);
		slot = table_slot_create(rel, NULL);
		while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		{
			TimestampTz time = cmq_slot_time(slot, Anum_rewind_enqueued_at);

			CHECK_FOR_INTERRUPTS();
			n += time >= from &&
				cmq_rewind_is_due(rewinding, time,
								  cmq_slot_time(slot, Anum_rewind_deleted_at),
								  cmq_slot_int64(slot, Anum_rewind_deleted_xact));
		}
		ExecDropSingleTupleTableSlot(slot);
		table_endscan(scan);
		table_close(rel, AccessShareLock);
	}
	return n;
}

typedef struct Left
{
	int64		n;
	bool		known;
} Left;

/* Count what the rewind under way still has to bring back, without waiting. */
static void
count_left(const char *name, void *arg)
{
	Left	   *left = arg;
	CmqQueue   *queue = cmq_queue_find(name);
	const CmqRewind *rewinding;
	TimestampTz from;

	if (queue == NULL || !cmq_queue_is_readable(queue))
		return;
	rewinding = &queue->rewinding;
	from = Max(rewinding->from,
			   cmq_queue_expired_before(queue, cmq_queue_now(queue)));
	for (int i = 0; rewinding->active && i < queue->nleaves; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];
		CmqTable	table;

		if (leaf->upper <= from || leaf->lower >= rewinding->rewound_at)
			continue;
		if (!cmq_lock_to_look(leaf->rewind))
			return;
		if (!cmq_table_open(&table, NULL, queue, leaf->rewind, CMQ_REWIND,
							AccessShareLock))
			continue;
		cmq_table_range(&table, from, rewinding->rewound_at, false);
		while (cmq_table_next(&table))
			left->n += cmq_rewind_is_due(rewinding,
										 cmq_slot_time(table.slot,
													   Anum_rewind_enqueued_at),
										 cmq_slot_time(table.slot,
													   Anum_rewind_deleted_at),
										 cmq_slot_int64(table.slot,
														Anum_rewind_deleted_xact));
		cmq_table_close(&table);
	}
	left->known = true;
}

/*
 * How many messages the rewind under way still has to bring back.  NULL if the
 * queue is gone, damaged or locked, or not for the caller's eyes: a view of all
 * queues must neither fail nor wait because of one.
 */
Datum
cmq_rewind_left(PG_FUNCTION_ARGS)
{
	Left		left = {0};

	cmq_shmem_require();
	if (!cmq_queue_look(cmq_queue_name_arg(fcinfo, 0), "looking at the rewind",
						count_left, &left, false) || !left.known)
		PG_RETURN_NULL();
	PG_RETURN_INT64(left.n);
}

/*
 * Move rewind_from forward to the first message still due, or forget the
 * rewind when none is.  Does nothing when somebody holds the queue lock.
 */
void
cmq_rewind_advance(CmqQueue *queue)
{
	CmqQueue	changed;
	TimestampTz expired_before;
	TimestampTz first;

	if (!queue->rewinding.active || (queue = cmq_queue_try_lock(queue)) == NULL)
		return;
	expired_before = cmq_queue_expired_before(queue, cmq_queue_now(queue));
	if (!cmq_dump_rewind_is_whole(queue, expired_before))
		return;
	first = cmq_rewind_first_due(queue, &queue->rewinding, expired_before);
	if (!queue->rewinding.active || first == queue->rewinding.from)
		return;

	/* what has expired in between counts no more */
	if (queue->rewinding.from < expired_before &&
		cmq_rewind_first_due(queue, &queue->rewinding, DT_NOBEGIN) < first)
		cmq_stats_due_unknown(queue->shared);
	changed = *queue;
	if (first == DT_NOEND)
		memset(&changed.rewinding, 0, sizeof(changed.rewinding));
	else
		changed.rewinding.from = first;
	cmq_catalog_update_queue(&changed);
}
