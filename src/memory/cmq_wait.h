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

#include "memory/cmq_shared.h"

extern Size cmq_wait_shmem_size(void);
extern void cmq_wait_shmem_init(void);
extern void cmq_wait_take_slot(void);
extern void cmq_wait_sweep(void);
extern void cmq_wait_init(CmqSharedQueue *shared);
extern void cmq_wait_signal(CmqSharedQueue *shared, int n, bool rewound);
extern void cmq_wait_signal_at_end(CmqSharedQueue *shared, int at_commit,
								   int at_abort);
extern void cmq_wait_signal_rewind(CmqSharedQueue *shared);
extern void cmq_wait_begin(CmqSharedQueue *shared);
extern bool cmq_wait_sleep(CmqSharedQueue *shared, TimestampTz due,
						   int64 deadline);
extern void cmq_wait_end(void);
extern void cmq_wait_ask_to_leave(CmqSharedQueue *shared);
extern void cmq_wait_asked(void);
extern void cmq_wait_install_callbacks(void);
extern uint32 cmq_wait_nrewinds(CmqSharedQueue *shared);

#endif							/* CMQ_WAIT_H */
