/*-------------------------------------------------------------------------
 *
 * cmq_dedup.h
 *	  Keys of messages that are stored once: their tables, and the rows in them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DEDUP_H
#define CMQ_DEDUP_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "storage/itemptr.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "store/cmq_description.h"

/* Indexes on keys that a leaf can have, while one of them is made anew. */
#define CMQ_KEY_INDEXES 4

/* A leaf of keys, open. */
typedef struct CmqKeys
{
	CmqLeaf    *leaf;
	LOCKMODE	lockmode;
	Relation	rel;
	Relation	index;			/* to look for keys */
	int			nindexes;
	Relation	indexes[CMQ_KEY_INDEXES];	/* this one, and its like */
	IndexInfo  *info[CMQ_KEY_INDEXES];	/* NULL: not to be written */
	TupleTableSlot *found;		/* for rows that are looked at */
	TupleTableSlot *added;		/* for the row that is written */
} CmqKeys;

typedef enum CmqKeyState
{
	CMQ_KEY_FREE,				/* nobody has it; or it has just been written */
	CMQ_KEY_TAKEN,				/* a message has it */
	CMQ_KEY_BUSY,				/* it depends on another transaction */
	CMQ_KEY_OLD					/* a message had it, too long ago */
} CmqKeyState;

/* Who has a key. */
typedef struct CmqKeyHolder
{
	TimestampTz time;			/* the time of the message */
	ItemPointerData tid;		/* its row */
	TransactionId xid;			/* the transaction that it depends on;
								 * invalid: somebody has the row locked */
	uint32		token;			/* of an insertion that is just under way, or
								 * 0 */
} CmqKeyHolder;

extern Oid	cmq_dedup_create(const char *name);
extern bool cmq_dedup_open(CmqKeys *keys, CmqQueue *queue, CmqLeaf *leaf,
						   LOCKMODE lockmode);
extern void cmq_dedup_close(CmqKeys *keys);
extern CmqKeyState cmq_dedup_look(CmqKeys *keys, Datum key, TimestampTz since,
								  CmqKeyHolder *holder);
extern CmqKeyState cmq_dedup_insert(CmqKeys *keys, Datum key,
									TimestampTz time, TimestampTz since,
									CmqKeyHolder *holder);
extern void cmq_dedup_remove(CmqKeys *keys, ItemPointer tid);
extern void cmq_dedup_wait(CmqKeys *keys, const CmqKeyHolder *holder);

#endif							/* CMQ_DEDUP_H */
