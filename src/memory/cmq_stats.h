/*-------------------------------------------------------------------------
 *
 * cmq_stats.h
 *	  Counters of queues in shared memory, and the numbers of pending messages
 *	  and of those that a rewind still has to bring back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_STATS_H
#define CMQ_STATS_H

#include "datatype/timestamp.h"

#include "memory/cmq_effect.h"
#include "memory/cmq_shared.h"
#include "store/cmq_description.h"

extern Size cmq_stats_shmem_size(void);
extern void cmq_stats_shmem_init(void);
extern void cmq_stats_init(CmqSharedQueue *shared, int tranche);
extern void cmq_stats_start_empty(CmqSharedQueue *shared);
extern void cmq_stats_add(CmqSharedQueue *shared, CmqCounter counter,
						  int64 n);
extern void cmq_stats_event(CmqSharedQueue *shared, CmqCounter counter);
extern void cmq_stats_pending(CmqSharedQueue *shared, int64 n);
extern void cmq_stats_pending_unknown(CmqSharedQueue *shared);
extern void cmq_stats_due(CmqSharedQueue *shared, const CmqRewind *rewinding,
						  TimestampTz enqueued_at);
extern void cmq_stats_due_unknown(CmqSharedQueue *shared);
extern void cmq_stats_spoil(CmqSharedQueue *shared);
extern void cmq_stats_publish(CmqSharedQueue *shared,
							  const CmqPreparedQueue *changes,
							  TransactionId xid);
extern void cmq_stats_install_callbacks(void);
extern int64 cmq_stats_count_pending(CmqQueue *queue);
extern int64 cmq_stats_count_due(CmqQueue *queue);
extern void cmq_stats_count_ahead(CmqQueue *queue);
extern bool cmq_stats_known_empty(CmqSharedQueue *shared);
extern bool cmq_stats_has_room(CmqQueue *queue, int64 n, int64 max);
extern int64 cmq_stats_counter(CmqSharedQueue *shared, CmqCounter counter);
extern TimestampTz cmq_stats_counted_since(CmqSharedQueue *shared);

#endif							/* CMQ_STATS_H */
