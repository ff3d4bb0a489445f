/*-------------------------------------------------------------------------
 *
 * cmq_shared.h
 *	  What backends share about queues.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_SHARED_H
#define CMQ_SHARED_H

#include "access/xact.h"
#include "datatype/timestamp.h"
#include "storage/lwlock.h"

/*
 * What all backends share about one queue.  An entry is made by the first
 * backend that uses the queue, and removed when the queue is dropped and no
 * transaction uses it any more (cmq_shmem.c).
 */
typedef struct CmqSharedKey
{
	Oid			database;
	Oid			pending;		/* the queue's pending table */
} CmqSharedKey;

/* Relations of a queue by which its locks are known. */
typedef struct CmqRelids
{
	Oid			pending;
	Oid			rewind;
	Oid			rights;
} CmqRelids;

/* The entry itself: cmq_entry.h, for src/memory alone. */
typedef struct CmqSharedQueue CmqSharedQueue;

extern bool cmq_xact_is_over(XactEvent event);
extern void cmq_shmem_install_callbacks(void);
extern Size cmq_shared_shmem_size(void);
extern void cmq_shared_shmem_init(LWLock *entries, LWLock *slots);
extern void cmq_shmem_require(void);
extern uint64 cmq_shmem_xact(void);
extern void cmq_shmem_take_slots(void);
extern void cmq_shmem_sweep_slots(void);
extern CmqSharedQueue *cmq_shmem_use(Oid pending);
extern CmqSharedQueue *cmq_shmem_make(const CmqRelids *relids,
									  const char *name,
									  TimestampTz not_before,
									  TimestampTz last_send, bool held,
									  uint32 triggers);
extern void cmq_shmem_remove_at_end(Oid pending, bool at_commit);
extern int	cmq_shmem_list(CmqSharedKey **keys);
extern void cmq_shmem_remove(const CmqSharedKey *key);
extern void cmq_shmem_with(const CmqSharedKey *key,
						   void (*func) (CmqSharedQueue *shared, void *arg),
						   void *arg);
extern void cmq_begin_write(const char *function);

#endif							/* CMQ_SHARED_H */
