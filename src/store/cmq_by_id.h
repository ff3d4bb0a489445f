/*-------------------------------------------------------------------------
 *
 * cmq_by_id.h
 *	  Find the pending rows of messages that are known by their ids alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_BY_ID_H
#define CMQ_BY_ID_H

#include "datatype/timestamp.h"
#include "storage/lockdefs.h"

#include "store/cmq_description.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_table.h"

/* A message that is looked for. */
typedef struct CmqById
{
	TimestampTz time;			/* its enqueued_at */
	bool		wanted;			/* by the scans of cmq_by_id.c */
	bool		found;			/* it has a pending row: */
	CmqPendingRow row;
} CmqById;

extern void cmq_by_id_find(CmqQueue *queue, CmqTable *pending, TimestampTz now,
						   LOCKMODE lockmode, CmqById *messages, int n);
extern bool cmq_by_id_exists(CmqQueue *queue, CmqMessageRows *bodies,
							 TimestampTz time);

#endif							/* CMQ_BY_ID_H */
