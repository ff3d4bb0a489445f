/*-------------------------------------------------------------------------
 *
 * cmq_message.h
 *	  Rows of messages by their time, with the leaf of the last one kept open.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_MESSAGE_H
#define CMQ_MESSAGE_H

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"
#include "storage/lockdefs.h"
#include "utils/palloc.h"

#include "store/cmq_description.h"
#include "store/cmq_table.h"

/* The messages of a queue, or their rewind rows; see cmq_message.c. */
typedef struct CmqMessages
{
	CmqQueue   *queue;
	CmqTableKind kind;			/* CMQ_MESSAGES or CMQ_REWIND */
	LOCKMODE	lockmode;
	EState	   *estate;			/* NULL: not for inserts */
	MemoryContext mcxt;			/* of what is open */
	CmqLeaf    *leaf;			/* NULL: none is open */
	CmqTable	table;			/* of this leaf, at the row found last */
} CmqMessages;

extern void cmq_message_begin(CmqMessages *messages, CmqQueue *queue,
							  CmqTableKind kind, LOCKMODE lockmode,
							  EState *estate);
extern bool cmq_message_open(CmqMessages *messages, TimestampTz time);
extern bool cmq_message_find(CmqMessages *messages, TimestampTz time);
extern void cmq_message_insert(CmqMessages *messages, Datum *values,
							   bool *isnull, Size size);
extern bool cmq_message_remove(CmqMessages *messages, TimestampTz time);
extern void cmq_message_end(CmqMessages *messages);

#endif							/* CMQ_MESSAGE_H */
