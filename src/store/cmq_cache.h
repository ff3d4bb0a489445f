/*-------------------------------------------------------------------------
 *
 * cmq_cache.h
 *	  The cache of descriptions of queues.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_CACHE_H
#define CMQ_CACHE_H

#include "store/cmq_description.h"

/*
 * How often a description is loaded that goes stale meanwhile.  After that it is used
 * once: it was current when the call began, and with debug_discard_caches there is
 * always an invalidation.
 */
#define CMQ_MAX_LOADS 3

extern void cmq_cache_init(void);
extern CmqQueue *cmq_cache_find(const char *name, bool raise);
extern uint64 cmq_cache_nloads(void);
extern void cmq_cache_mark_stale(const char *name);

#endif							/* CMQ_CACHE_H */
