/*-------------------------------------------------------------------------
 *
 * cmq_count.h
 *	  Counters of queues, and the numbers of their pending and due rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_COUNT_H
#define CMQ_COUNT_H

#include "utils/snapshot.h"

#include "memory/cmq_types.h"

/* What a transaction has changed of what is counted in a queue. */
typedef struct CmqChanges
{
	int64		pending;		/* pending rows, more or less */
	int64		due;			/* due rows, more or less ... */
	TimestampTz due_rewound_at; /* ... of the rewind of this time ... */
	TimestampTz due_from;		/* ... the first of them produced then */
	bool		pending_unknown;	/* it has changed pending rows uncounted */
	bool		due_unknown;	/* it has begun a rewind, or changed due rows
								 * uncounted */
	int64		counters[CMQ_NCOUNTERS];
} CmqChanges;

/* Which rows of a queue are counted. */
typedef struct CmqCounting
{
	CmqSharedQueue *shared;
	bool		due;			/* those due for this rewind; else pending
								 * ones */
	TimestampTz rewound_at;
	TimestampTz from;			/* where that rewind starts */
} CmqCounting;

extern Size cmq_count_shmem_size(void);
extern void cmq_count_shmem_init(void);
extern void cmq_changes_add_due(CmqChanges *changes, int64 due,
								TimestampTz rewound_at, TimestampTz from);
extern void cmq_changes_merge(CmqChanges *changes, const CmqChanges *more);
extern bool cmq_changes_rows(const CmqChanges *changes);
extern void cmq_count_add(CmqSharedQueue *shared,
						  const CmqChanges *changes, TransactionId xid);
extern void cmq_count_start_empty(CmqSharedQueue *shared);
extern void cmq_count_event(CmqSharedQueue *shared, CmqCounter counter);
extern int64 cmq_count_counter(CmqSharedQueue *shared, CmqCounter counter);
extern TimestampTz cmq_count_since(CmqSharedQueue *shared);
extern void cmq_count_spoil(CmqSharedQueue *shared);
extern bool cmq_count_is_known(const CmqCounting *counting);
extern bool cmq_count_get(const CmqCounting *counting, int64 *n);
extern Snapshot cmq_count_begin(const CmqCounting *counting);
extern void cmq_count_end(const CmqCounting *counting, int64 n);
extern void cmq_count_fail(const CmqCounting *counting);
extern void cmq_count_wait_for_visible(void);

#endif							/* CMQ_COUNT_H */
