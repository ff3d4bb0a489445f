/*-------------------------------------------------------------------------
 *
 * cmq_history.h
 *	  The history of a queue in a window of time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_HISTORY_H
#define CMQ_HISTORY_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "base/cmq_args.h"
#include "store/cmq_description.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_table.h"

/* A scan of the history; see cmq_history.c. */
typedef struct CmqHistory
{
	CmqQueue   *queue;
	const CmqWindow *window;
	TimestampTz from;			/* of the window, as far as it can be rewound */
	bool		with_messages;
	LOCKMODE	lockmode;
	Snapshot	seen_by;		/* as in CmqTable */
	Relation	pending;		/* open, not read */
	int			leaf;			/* the one to open next */
	bool		open;			/* is the one before open? */
	CmqTable	rewind;			/* its rewind table */
	char		topic[NAMEDATALEN]; /* of this row: in whose journal it is */
	CmqMessageRows messages;	/* open at the message, if wanted */
	TimestampTz time;			/* of the message the scan stands at */
	int64		nunreadable;	/* messages that could not be had */
} CmqHistory;

extern void cmq_history_require(CmqQueue *queue);
extern bool cmq_slot_is_history(CmqQueue *queue, TupleTableSlot *slot);
extern void cmq_history_begin(CmqHistory *history, CmqQueue *queue,
							  const CmqWindow *window, bool with_messages,
							  LOCKMODE lockmode);
extern void cmq_history_see_as(CmqHistory *history, Snapshot snapshot);
extern void cmq_history_check(CmqQueue *queue);
extern void cmq_history_end(CmqHistory *history);
extern bool cmq_history_next(CmqHistory *history);

#endif							/* CMQ_HISTORY_H */
