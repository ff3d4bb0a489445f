/*-------------------------------------------------------------------------
 *
 * cmq_prepared.h
 *	  What prepared transactions will do when they end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_PREPARED_H
#define CMQ_PREPARED_H

#include "storage/lwlock.h"

#include "memory/cmq_effect.h"
#include "memory/cmq_types.h"

extern Size cmq_prepared_shmem_size(void);
extern void cmq_prepared_shmem_init(LWLock *lock);
extern void cmq_prepared_reserve(int nqueues);
extern void cmq_prepared_unreserve(void);
extern void cmq_prepared_add(TimestampTz published);
extern void cmq_prepared_add_effect(const CmqEffect *effect);
extern void cmq_prepared_settle(void);
extern bool cmq_prepared_holds(const CmqRelids *relids);
extern void cmq_prepared_look_at_held(void);
extern void cmq_prepared_sweep(void);

#endif							/* CMQ_PREPARED_H */
