/*-------------------------------------------------------------------------
 *
 * cmq_wait.h
 *	  Receives that wait for a message, and who wakes them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_WAIT_H
#define CMQ_WAIT_H

#include "datatype/timestamp.h"

#include "memory/cmq_types.h"

/* As many as there are. */
#define CMQ_ALL_WAITERS PG_INT32_MAX

extern void cmq_wait_sweep(void);
extern void cmq_wait_signal(CmqSharedQueue *shared, int n, bool changed);
extern void cmq_wait_begin(CmqSharedQueue *shared, CmqWaiterKind kind);
extern bool cmq_wait_sleep(CmqSharedQueue *shared, TimestampTz next_visible,
						   int64 deadline);
extern void cmq_wait_end(void);
extern void cmq_wait_end_of(SubTransactionId subid);
extern void cmq_wait_ask_to_leave(CmqSharedQueue *shared);
extern void cmq_wait_asked(void);
extern uint32 cmq_wait_nchanges(CmqSharedQueue *shared);

#endif							/* CMQ_WAIT_H */
