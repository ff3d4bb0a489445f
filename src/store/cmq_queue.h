/*-------------------------------------------------------------------------
 *
 * cmq_queue.h
 *	  Look-up of queues: the cache of descriptions, rights, bounds of time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_QUEUE_H
#define CMQ_QUEUE_H

#include "datatype/timestamp.h"
#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"

#include "base/cmq_names.h"
#include "store/cmq_description.h"

/*
 * How often a description that has gone stale while it was loaded is loaded
 * anew.  After that it is used once: it was current when the call began, and
 * with debug_discard_caches there is always an invalidation.
 */
#define CMQ_MAX_LOADS 3

extern void cmq_queue_init_cache(void);
extern void cmq_queue_report_unknown(const char *name);
extern bool cmq_queue_has_relation(CmqQueue *queue, Oid relid,
								   CmqRelation which);
extern CmqQueue *cmq_queue_find(const char *name);
extern CmqQueue *cmq_queue_find_whole(const char *name);
extern CmqQueue *cmq_queue_lookup(const char *name);
extern CmqQueue *cmq_queue_again(CmqQueue *queue);
extern void cmq_queue_mark_stale(const char *name);
extern CmqQueue *cmq_queue_open(const char *name, AclMode mode,
								LOCKMODE lockmode);
extern CmqQueue *cmq_queue_open_found(CmqQueue *queue, AclMode mode,
									  LOCKMODE lockmode);
extern CmqQueue *cmq_queue_reopen(CmqQueue *queue, AclMode mode,
								  LOCKMODE lockmode);
extern void cmq_queue_wait_for(const char *name);
extern TimestampTz cmq_queue_newest(CmqQueue *queue);
extern void cmq_queue_attach(CmqQueue *queue);
extern CmqQueue *cmq_queue_lock(const char *name, AclMode mode,
								LOCKMODE lockmode);
extern CmqQueue *cmq_queue_try_lock(CmqQueue *queue);
extern TimestampTz cmq_queue_now(CmqQueue *queue);

#endif							/* CMQ_QUEUE_H */
