/*-------------------------------------------------------------------------
 *
 * cmq_due.c
 *	  Rows of the rewind tables that a rewind still has to bring back.
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
