/*-------------------------------------------------------------------------
 *
 * cmq_proc.h
 *	  What each process shows to all others, in a slot of its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_PROC_H
#define CMQ_PROC_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#include "memory/cmq_types.h"

/* What a slot says beside times; times are compared as int64. */
#define CMQ_TIME_UNKNOWN	DT_NOBEGIN
#define CMQ_TIME_NONE		DT_NOEND

/* What a process counts in the entry of a queue, and must take back. */
typedef enum CmqProcUse
{
	CMQ_WAITING,				/* as waiting there */
	CMQ_CHOOSING,				/* the same, with a filter */
	CMQ_ASKING,					/* as asking waiters to leave */
	CMQ_NUSES
} CmqProcUse;

/* What a send has a time for, and has not written yet, see cmq_window.c. */
typedef enum CmqWindowKind
{
	CMQ_ROWS_WINDOW,			/* rows of messages */
	CMQ_KEYS_WINDOW,			/* their keys */
	CMQ_NWINDOWS
} CmqWindowKind;

typedef struct CmqProcWindow
{
	pg_atomic_uint64 time;		/* CMQ_TIME_NONE: it is closed */
	pg_atomic_uint64 groups;	/* bits */
	pg_atomic_uint64 queue;		/* a packed key; 0: of several, which know it
								 * themselves */
} CmqProcWindow;

extern Size cmq_proc_shmem_size(void);
extern void cmq_proc_shmem_init(LWLock *lock);
extern void cmq_proc_take_slot(void);
extern int	cmq_proc_number(void);
extern int	cmq_proc_count(void);
extern void cmq_proc_publish(TimestampTz time);
extern void cmq_proc_publish_prepared(TimestampTz time);
extern TimestampTz cmq_proc_published_by_others(void);
extern CmqProcWindow *cmq_proc_window(int number, CmqWindowKind kind);
extern void cmq_proc_commit(TransactionId xid);
extern TransactionId cmq_proc_committing(int number);
extern void cmq_proc_set_use(CmqProcUse use, const CmqSharedKey *key);
extern void cmq_proc_sweep(void (*take_back) (CmqProcUse use,
											  const CmqSharedKey *key,
											  int number));

#endif							/* CMQ_PROC_H */
