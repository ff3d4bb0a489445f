/*-------------------------------------------------------------------------
 *
 * cmq_scan.c
 *	  Reading a table of a queue from end to end.
 *
 * A scan meets the rows that its snapshot sees, in no order.  With a dirty snapshot it
 * could miss a row that moves.
 *
 * Locks: AccessShare on the table, to the end of the scan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/snapmgr.h"

#include "base/cmq_compat.h"
#include "store/cmq_description.h"
#include "store/cmq_scan.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

/*
 * Begin a scan; with InvalidSnapshot it takes a snapshot of its own, of this moment.
 * False if the table does not exist any more: then the scan meets no rows.  To be
 * followed by cmq_scan_end() in either case.
 */
bool
cmq_scan_begin(CmqScan *scan, CmqQueue *queue, Oid relid,
			   CmqTableKind kind, Snapshot snapshot)
{
	memset(scan, 0, sizeof(*scan));
	scan->rel = cmq_table_open_heap(queue, relid, kind);
	if (scan->rel == NULL)
		return false;
	if (snapshot == InvalidSnapshot)
		snapshot = scan->own_snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan->scan = cmq_beginscan(scan->rel, snapshot);
	scan->slot = table_slot_create(scan->rel, NULL);
	return true;
}

/* Move to the next row, into scan->slot; false at the end. */
bool
cmq_scan_next(CmqScan *scan)
{
	CHECK_FOR_INTERRUPTS();
	return scan->rel &&
		table_scan_getnextslot(scan->scan, ForwardScanDirection, scan->slot);
}

void
cmq_scan_end(CmqScan *scan)
{
	if (scan->rel == NULL)
		return;
	ExecDropSingleTupleTableSlot(scan->slot);
	table_endscan(scan->scan);
	if (scan->own_snapshot)
		UnregisterSnapshot(scan->own_snapshot);
	relation_close(scan->rel, AccessShareLock);
	scan->rel = NULL;
}

/*
 * How many pages a scan would read; 0 if the table does not exist any more.  *rows: about
 * how many rows it would meet, if pages are as full as VACUUM or ANALYZE last found them.
 * Before that, or if most pages have come since, they have per_page rows each.
 */
int64
cmq_scan_estimate(CmqQueue *queue, Oid relid, CmqTableKind kind,
				  double per_page, double *rows)
{
	Relation	rel = cmq_table_open_heap(queue, relid, kind);
	int64		pages;

	*rows = 0;
	if (rel == NULL)
		return 0;
	pages = RelationGetNumberOfBlocks(rel);
	if (rel->rd_rel->relpages > pages / 4 && rel->rd_rel->reltuples >= 0)
		per_page = rel->rd_rel->reltuples / rel->rd_rel->relpages;
	*rows = pages * per_page;
	relation_close(rel, AccessShareLock);
	return pages;
}

/* The pages alone. */
int64
cmq_scan_pages(CmqQueue *queue, Oid relid, CmqTableKind kind)
{
	double		rows;

	return cmq_scan_estimate(queue, relid, kind, 0, &rows);
}

/*
 * Which part of the rewind rows of a leaf is of messages produced since then?  In the leaf
 * of that time, as if they had been produced at the same rate all the time.
 */
double
cmq_scan_part_since(CmqQueue *queue, CmqLeaf *leaf, TimestampTz since)
{
	TimestampTz oldest;
	TimestampTz newest;
	CmqTable	rewind;

	if (leaf->lower >= since)
		return 1;
	if (leaf->upper <= since ||
		!cmq_table_open(&rewind, NULL, queue, leaf->rewind, CMQ_REWIND,
						AccessShareLock))
		return 0;
	oldest = cmq_table_oldest(&rewind);
	newest = cmq_table_newest(&rewind);
	cmq_table_release(&rewind);
	if (newest < since)
		return 0;
	return oldest >= since ? 1 :
		(double) (newest - since) / (newest - oldest);
}
