/*-------------------------------------------------------------------------
 *
 * cmq_queue.h
 *	  The ways to get at a queue: description, lock, right, shared entry.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_QUEUE_H
#define CMQ_QUEUE_H

#include "datatype/timestamp.h"
#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"

#include "store/cmq_description.h"

extern void cmq_queue_report_unknown(const char *name);
extern CmqQueue *cmq_queue_find(const char *name);
extern CmqQueue *cmq_queue_find_whole(const char *name);
extern CmqQueue *cmq_queue_lookup(const char *name, AclMode mode);
extern CmqQueue *cmq_queue_again(CmqQueue *queue);
extern CmqQueue *cmq_queue_open(const char *name, AclMode mode,
								LOCKMODE lockmode);
extern CmqQueue *cmq_queue_open_found(CmqQueue *queue, AclMode mode,
									  LOCKMODE lockmode);
extern CmqQueue *cmq_queue_reopen(CmqQueue *queue, AclMode mode,
								  LOCKMODE lockmode);
extern void cmq_queue_wait_for(const char *name);
extern CmqQueue *cmq_queue_lock(const char *name, AclMode mode,
								LOCKMODE lockmode);
extern CmqQueue *cmq_queue_try_lock(CmqQueue *queue);
extern TimestampTz cmq_queue_newest(CmqQueue *queue);
extern bool cmq_queue_try_attach(CmqQueue *queue);
extern void cmq_queue_attach(CmqQueue *queue);
extern TimestampTz cmq_queue_now(CmqQueue *queue);

#endif							/* CMQ_QUEUE_H */
