/*-------------------------------------------------------------------------
 *
 * cmq_due.c
 *	  Rows of the rewind tables that a rewind still has to bring back.
 *
 * The receive that meets a due row moves it (cmq_pending.c); all others only look,
 * and release the locks of each leaf when they have seen it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_table.h"

/* Can there be due rows of messages produced from this time on in the leaf? */
bool
cmq_due_reaches(const CmqRewind *rewinding, const CmqLeaf *leaf,
				TimestampTz from)
{
	return leaf->upper > from && leaf->lower < rewinding->rewound_at;
}

/*
 * Begin to scan the rows that are due for this rewind, of messages produced from a time
 * on, in the order of production.  To be followed by cmq_due_end().
 */
void
cmq_due_begin(CmqDueScan *scan, CmqQueue *queue, const CmqRewind *rewinding,
			  TimestampTz from, LOCKMODE lockmode)
{
	scan->queue = queue;
	scan->rewinding = rewinding;
	scan->from = Max(rewinding->from, from);
	scan->lockmode = lockmode;
	scan->leaf = queue->leaves;
	scan->nleft = rewinding->active ? queue->nleaves : 0;
	scan->open = false;
}

/* Close the leaf that is open, if one is; locks stay where rows may have been written. */
void
cmq_due_end(CmqDueScan *scan)
{
	if (scan->open && scan->lockmode == AccessShareLock)
		cmq_table_release(&scan->table);
	else if (scan->open)
		cmq_table_close(&scan->table);
	scan->open = false;
}

/* Move on to the next row, into scan->table; false at the end. */
bool
cmq_due_next(CmqDueScan *scan)
{
	const CmqRewind *rewinding = scan->rewinding;

	for (;;)
	{
		while (scan->open && cmq_table_next(&scan->table))
		{
			TupleTableSlot *slot = scan->table.slot;

			scan->time = cmq_slot_time(slot, Anum_rewind_enqueued_at);
			if (cmq_rewind_is_due(rewinding, scan->time,
								  cmq_slot_time(slot, Anum_rewind_deleted_at),
								  cmq_slot_int64(slot, Anum_rewind_deleted_xact)))
				return true;
		}
		cmq_due_end(scan);
		if (scan->nleft == 0)
			return false;
		scan->open = cmq_due_reaches(rewinding, scan->leaf, scan->from) &&
			cmq_table_open(&scan->table, NULL, scan->queue, scan->leaf->rewind,
						   CMQ_REWIND, scan->lockmode);
		if (scan->open)
			cmq_table_range(&scan->table, scan->from, rewinding->rewound_at,
							false);
		scan->leaf++;
		scan->nleft--;
	}
}

/* The time of the first row of a scan, which ends; DT_NOEND if there is none. */
static TimestampTz
first_of(CmqDueScan *scan)
{
	TimestampTz first = cmq_due_next(scan) ? scan->time : DT_NOEND;

	cmq_due_end(scan);
	return first;
}

/*
 * enqueued_at of the first message of this leaf that the rewind still has to bring
 * back; DT_NOEND if there is none.
 */
TimestampTz
cmq_rewind_leaf_due(CmqQueue *queue, const CmqLeaf *leaf,
					const CmqRewind *rewinding, TimestampTz expired_before)
{
	CmqDueScan	scan;

	cmq_due_begin(&scan, queue, rewinding, expired_before, AccessShareLock);
	scan.leaf = leaf;
	scan.nleft = Min(scan.nleft, 1);
	return first_of(&scan);
}

/*
 * enqueued_at of the first message that this rewind still has to bring back;
 * DT_NOEND if there is none.
 */
TimestampTz
cmq_rewind_first_due(CmqQueue *queue, const CmqRewind *rewinding,
					 TimestampTz expired_before)
{
	CmqDueScan	scan;

	cmq_due_begin(&scan, queue, rewinding, expired_before, AccessShareLock);
	return first_of(&scan);
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

		if (!cmq_due_reaches(rewinding, leaf, from) ||
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
