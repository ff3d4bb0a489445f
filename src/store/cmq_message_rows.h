/*-------------------------------------------------------------------------
 *
 * cmq_message_rows.h
 *	  Messages of a queue, wherever they are: in its own leaves, or in journals of topics.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_MESSAGE_ROWS_H
#define CMQ_MESSAGE_ROWS_H

#include "executor/tuptable.h"
#include "storage/lockdefs.h"
#include "utils/palloc.h"
#include "utils/snapshot.h"

#include "store/cmq_description.h"
#include "store/cmq_leaf_rows.h"

/* Messages of a queue, wherever they are; see cmq_message_rows.c. */
typedef struct CmqMessageRows
{
	CmqQueue   *queue;
	MemoryContext mcxt;
	CmqLeafRows *own;			/* in leaves of the queue's ... */
	CmqLeafRows own_rows;		/* these, unless the caller has others open */
	struct CmqJournalRows *journals;	/* ... and in journals */
	Snapshot	seen_by;		/* as in CmqTable */
	bool		unreadable;		/* the one sought last cannot be had */
	TupleTableSlot *slot;		/* the message that was found last */
} CmqMessageRows;

extern void cmq_message_rows_begin(CmqMessageRows *rows, CmqQueue *queue,
								   LOCKMODE lockmode);
extern bool cmq_message_rows_open(CmqMessageRows *rows, TimestampTz time,
								  const char *topic);
extern bool cmq_message_rows_find(CmqMessageRows *rows, TimestampTz time,
								  const char *topic);
extern bool cmq_message_rows_find_any(CmqMessageRows *rows, TimestampTz time);
extern void cmq_message_rows_warn(CmqQueue *queue, int64 nunreadable);
extern Datum cmq_message_rows_group(const CmqMessageRows *rows, bool *isnull);
extern bool cmq_message_rows_remove(CmqMessageRows *rows, TimestampTz time,
									const char *topic);
extern void cmq_message_rows_end(CmqMessageRows *rows);

#endif							/* CMQ_MESSAGE_ROWS_H */
