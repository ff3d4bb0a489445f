/*-------------------------------------------------------------------------
 *
 * cmq_delete.h
 *	  Delete: a consumer is done with a message.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DELETE_H
#define CMQ_DELETE_H

#include "datatype/timestamp.h"

#include "store/cmq_description.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_table.h"

/* Deletes in one queue; see cmq_delete.c. */
typedef struct CmqDelete
{
	CmqQueue   *queue;
	Datum		deleted_by;		/* name of the role that calls */
	TimestampTz now;
	TimestampTz expired_before;
	CmqPending	pending;
	CmqLeafRows rows;			/* rewind rows, or messages when rewind is off */
} CmqDelete;

extern void cmq_delete_begin(CmqDelete *state, CmqQueue *queue, bool adds);
extern void cmq_delete_end(CmqDelete *state);
extern bool cmq_delete_row(CmqDelete *state, bool wait);
extern bool cmq_delete_ready(CmqDelete *state, CmqPendingRow *row);
extern bool cmq_delete_due(CmqDelete *state, CmqTable *rewind, bool received,
						   CmqPendingRow *row);

#endif							/* CMQ_DELETE_H */
