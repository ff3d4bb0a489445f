/*-------------------------------------------------------------------------
 *
 * cmq_effect.h
 *	  What a transaction has done to a queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_EFFECT_H
#define CMQ_EFFECT_H

#include "datatype/timestamp.h"

#include "memory/cmq_shared.h"

/* What cmq_stats.c counts. */
typedef enum CmqCounter
{
	CMQ_SENT,
	CMQ_RECEIVED,
	CMQ_REDELIVERED,
	CMQ_REWOUND,
	CMQ_DELETED,
	CMQ_DEAD_LETTERED,
	CMQ_EMPTY_RECEIVES,
	CMQ_WAITS,
	CMQ_BODY_BYTES,
	CMQ_NCOUNTERS
} CmqCounter;

/*
 * What a transaction has done to a queue that counts when it has ended, and
 * whom it signals then.
 */
typedef struct CmqPreparedQueue
{
	CmqSharedKey key;
	int			at_commit;		/* how many waiters to signal, cmq_wait.c */
	int			at_abort;
	bool		rewound;
	bool		pending_unknown;	/* changed rows that nobody has counted */
	int64		pending;		/* pending rows, more or less, cmq_stats.c */
	bool		due_unknown;	/* has begun a rewind, or changed due rows uncounted */
	int64		due;			/* due rows, more or less ... */
	TimestampTz due_rewound_at; /* ... of this rewind ... */
	TimestampTz due_from;		/* ... and when the first was produced */
	int64		counters[CMQ_NCOUNTERS];
} CmqPreparedQueue;


#endif							/* CMQ_EFFECT_H */
