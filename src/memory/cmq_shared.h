/*-------------------------------------------------------------------------
 *
 * cmq_shared.h
 *	  The shared entries of queues: who may use one, and for how long.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_SHARED_H
#define CMQ_SHARED_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"

#include "memory/cmq_types.h"

extern Size cmq_shared_shmem_size(void);
extern void cmq_shared_shmem_init(LWLock *lock);
extern void cmq_require_preload(void);
extern void cmq_begin_write(const char *function);
extern CmqSharedQueue *cmq_shared_use(Oid pending);
extern CmqSharedQueue *cmq_shared_make(const CmqRelids *relids,
									   TimestampTz not_before,
									   TimestampTz last_send, bool held,
									   uint32 triggers);
extern void cmq_shared_report_full(const char *name);
extern CmqSharedKey cmq_shared_key(const CmqSharedQueue *shared);
extern void cmq_shared_leave_all(void);
extern int	cmq_shared_list(CmqSharedKey **keys);
extern void cmq_shared_remove(const CmqSharedKey *key);
extern void cmq_shared_with(const CmqSharedKey *key,
							void (*func) (CmqSharedQueue *shared, void *arg),
							void *arg);
extern bool cmq_shared_is_held(const CmqSharedQueue *shared);
extern bool cmq_shared_end_hold(CmqSharedQueue *shared);
extern bool cmq_shared_any_held(void);

#endif							/* CMQ_SHARED_H */
