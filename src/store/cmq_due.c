/*-------------------------------------------------------------------------
 *
 * cmq_due.c
 *	  Rows of the rewind tables that a rewind still has to bring back.
 *
 * A receive that meets a due row moves it (cmq_pending.c).  All other scans only look, and
 * release the locks of each leaf when they have seen it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/timestamp.h"

#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_scan.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

/* Does this rewind bring the message back whose rewind row is in the slot? */
bool
cmq_slot_is_due(const CmqRewind *rewinding, TupleTableSlot *slot)
{
	return cmq_bounds_is_due(rewinding,
							 cmq_slot_time(slot, Anum_rewind_enqueued_at),
							 cmq_slot_time(slot, Anum_rewind_deleted_at),
							 cmq_slot_int64(slot, Anum_rewind_deleted_xact));
}

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
			scan->time = cmq_slot_time(scan->table.slot,
									   Anum_rewind_enqueued_at);
			if (cmq_slot_is_due(rewinding, scan->table.slot))
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

/* The time of the first row of a scan, DT_NOEND if there is none; ends the scan. */
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
cmq_due_in_leaf(CmqQueue *queue, const CmqLeaf *leaf,
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
cmq_due_first(CmqQueue *queue, const CmqRewind *rewinding,
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
cmq_due_count(CmqQueue *queue, Snapshot snapshot,
			  TimestampTz expired_before)
{
	const CmqRewind *rewinding = &queue->rewinding;
	TimestampTz from = Max(rewinding->from, expired_before);
	int64		n = 0;

	for (int i = 0; rewinding->active && i < queue->nleaves; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];
		CmqScan		scan;

		if (!cmq_due_reaches(rewinding, leaf, from))
			continue;
		cmq_scan_begin(&scan, queue, leaf->rewind, CMQ_REWIND, snapshot);
		while (cmq_scan_next(&scan))
			n += cmq_slot_time(scan.slot, Anum_rewind_enqueued_at) >= from &&
				cmq_slot_is_due(rewinding, scan.slot);
		cmq_scan_end(&scan);
	}
	return n;
}
