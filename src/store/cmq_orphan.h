/*-------------------------------------------------------------------------
 *
 * cmq_orphan.h
 *	  Relations of queues that have no row, and what is left of queues that are gone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_ORPHAN_H
#define CMQ_ORPHAN_H

#include "store/cmq_description.h"

extern bool cmq_orphan_find(CmqDescription *queue, const char *name);
extern bool cmq_orphan_has_names(const char *name);
extern void cmq_orphan_explain(const char *name, char **detail, char **hint);

#endif							/* CMQ_ORPHAN_H */
