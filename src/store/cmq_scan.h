/*-------------------------------------------------------------------------
 *
 * cmq_scan.h
 *	  Reading a table of a queue from end to end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_SCAN_H
#define CMQ_SCAN_H

#include "access/tableam.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "store/cmq_description.h"
#include "store/cmq_shape.h"

typedef struct CmqScan
{
	Relation	rel;			/* NULL: the table does not exist any more */
	Snapshot	own_snapshot;	/* NULL: the caller has one */
	TableScanDesc scan;
	TupleTableSlot *slot;		/* the row that the scan stands at */
} CmqScan;

extern bool cmq_scan_begin(CmqScan *scan, CmqQueue *queue, Oid relid,
						   CmqTableKind kind, Snapshot snapshot);
extern bool cmq_scan_next(CmqScan *scan);
extern void cmq_scan_end(CmqScan *scan);
extern int64 cmq_scan_estimate(CmqQueue *queue, Oid relid,
							   CmqTableKind kind, double per_page,
							   double *rows);
extern int64 cmq_scan_pages(CmqQueue *queue, Oid relid,
							CmqTableKind kind);
extern double cmq_scan_part_since(CmqQueue *queue, CmqLeaf *leaf,
								  TimestampTz since);

#endif							/* CMQ_SCAN_H */
