/*-------------------------------------------------------------------------
 *
 * cmq_prepared.h
 *	  What prepared transactions will do when they end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_PREPARED_H
#define CMQ_PREPARED_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"

#include "memory/cmq_effect.h"
#include "memory/cmq_shared.h"

extern Size cmq_prepared_shmem_size(void);
extern void cmq_prepared_shmem_init(LWLock *lock);
extern TimestampTz cmq_prepared_floor(void);
extern void cmq_prepared_expect(CmqSharedQueue *shared);
extern void cmq_prepared_add_floor(TimestampTz floor);
extern void cmq_prepared_merge_due(CmqPreparedQueue *queue, int64 due,
								   TimestampTz rewound_at, TimestampTz from);
extern void cmq_prepared_merge(CmqPreparedQueue *queue,
							   const CmqPreparedQueue *more);
extern void cmq_prepared_add(CmqSharedQueue *shared,
							 const CmqPreparedQueue *more);
extern void cmq_prepared_settle(void);
extern bool cmq_prepared_holds(const CmqRelids *relids);
extern void cmq_prepared_hold(CmqSharedQueue *shared);
extern bool cmq_prepared_unhold(CmqSharedQueue *shared);
extern void cmq_prepared_look_at_held(void);
extern void cmq_prepared_sweep(void);
extern void cmq_prepared_install_callbacks(void);

#endif							/* CMQ_PREPARED_H */
