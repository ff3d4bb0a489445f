/*-------------------------------------------------------------------------
 *
 * cmq_find.h
 *	  Find messages that wait by their ids.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_FIND_H
#define CMQ_FIND_H

#include "datatype/timestamp.h"
#include "storage/lockdefs.h"

#include "store/cmq_description.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_table.h"

/* Where a message is. */
typedef enum CmqWaits
{
	CMQ_WAITS_NOT,				/* it does not wait */
	CMQ_WAITS_PENDING,			/* in the pending table, at this visible_at */
	CMQ_WAITS_DUE
} CmqWaits;

typedef struct CmqFound
{
	TimestampTz time;			/* enqueued_at */
	CmqWaits	place;
	TimestampTz visible_at;		/* if it is pending */
} CmqFound;

/* Messages that are looked for; see cmq_find.c. */
typedef struct CmqFind
{
	CmqQueue   *queue;
	CmqTable   *pending;
	CmqLeafRows rewind;
	TimestampTz now;
	int			n;
	CmqFound   *found;			/* ordered by time, each once; none has
								 * expired */
} CmqFind;

extern void cmq_find_begin(CmqFind *find, CmqQueue *queue, CmqTable *pending,
						   TimestampTz now, LOCKMODE lockmode, const int64 *ids,
						   int nids);
extern bool cmq_find_again(CmqFind *find, const CmqFound *found);
extern void cmq_find_end(CmqFind *find);

#endif							/* CMQ_FIND_H */
