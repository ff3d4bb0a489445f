/*-------------------------------------------------------------------------
 *
 * cmq_due.h
 *	  Rows of the rewind tables that a rewind still has to bring back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DUE_H
#define CMQ_DUE_H

#include "datatype/timestamp.h"
#include "storage/lockdefs.h"
#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "store/cmq_description.h"
#include "store/cmq_table.h"

/* A scan of due rows; see cmq_due.c. */
typedef struct CmqDueScan
{
	CmqQueue   *queue;
	const CmqRewind *rewinding;
	TimestampTz from;
	LOCKMODE	lockmode;
	const CmqLeaf *leaf;		/* the one to be opened next ... */
	int			nleft;			/* ... if so many are left */
	bool		open;			/* is the one before open? */
	CmqTable	table;			/* its rewind table */
	TimestampTz time;			/* of the message the scan stands at */
} CmqDueScan;

extern bool cmq_due_reaches(const CmqRewind *rewinding, const CmqLeaf *leaf,
							TimestampTz from);
extern void cmq_due_begin(CmqDueScan *scan, CmqQueue *queue,
						  const CmqRewind *rewinding, TimestampTz from,
						  LOCKMODE lockmode);
extern bool cmq_due_next(CmqDueScan *scan);
extern void cmq_due_end(CmqDueScan *scan);
extern bool cmq_slot_is_due(const CmqRewind *rewinding, TupleTableSlot *slot);
extern TimestampTz cmq_due_in_leaf(CmqQueue *queue, const CmqLeaf *leaf,
								   const CmqRewind *rewinding,
								   TimestampTz expired_before);
extern TimestampTz cmq_due_first(CmqQueue *queue,
								 const CmqRewind *rewinding,
								 TimestampTz expired_before);
extern int64 cmq_due_count(CmqQueue *queue, Snapshot snapshot,
						   TimestampTz expired_before);

#endif							/* CMQ_DUE_H */
