/*-------------------------------------------------------------------------
 *
 * cmq_leaf_rows.h
 *	  Rows of leaf tables, messages or history, by their time, the last leaf kept open.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_LEAF_ROWS_H
#define CMQ_LEAF_ROWS_H

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"
#include "storage/lockdefs.h"
#include "utils/palloc.h"
#include "utils/snapshot.h"

#include "store/cmq_description.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

/* The messages of a queue, or their rewind rows; see cmq_leaf_rows.c. */
typedef struct CmqLeafRows
{
	CmqQueue   *queue;
	CmqTableKind kind;			/* CMQ_MESSAGES or CMQ_REWIND */
	LOCKMODE	lockmode;
	EState	   *estate;			/* NULL: not for inserts */
	Snapshot	seen_by;		/* as in CmqTable */
	MemoryContext mcxt;			/* of what is open */
	CmqLeaf    *leaf;			/* NULL: none is open */
	CmqTable	table;			/* of this leaf, at the row found last */
} CmqLeafRows;

extern LOCKMODE cmq_leaf_rows_delete_lock(CmqQueue *queue);
extern void cmq_leaf_rows_begin(CmqLeafRows *messages, CmqQueue *queue,
								CmqTableKind kind, LOCKMODE lockmode,
								EState *estate);
extern bool cmq_leaf_rows_open(CmqLeafRows *messages, TimestampTz time);
extern bool cmq_leaf_rows_find(CmqLeafRows *messages, TimestampTz time);
extern void cmq_leaf_rows_insert(CmqLeafRows *messages, Datum *values,
								 bool *isnull, Size size);
extern bool cmq_leaf_rows_remove(CmqLeafRows *messages, TimestampTz time);
extern void cmq_leaf_rows_end(CmqLeafRows *messages);

#endif							/* CMQ_LEAF_ROWS_H */
