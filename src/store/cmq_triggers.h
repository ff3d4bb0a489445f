/*-------------------------------------------------------------------------
 *
 * cmq_triggers.h
 *	  The triggers by which cmq notices changes of queue tables that are not its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_TRIGGERS_H
#define CMQ_TRIGGERS_H

#include "memory/cmq_types.h"
#include "store/cmq_description.h"

extern void cmq_triggers_load(CmqDescription *queue);
extern void cmq_triggers_distrust(CmqSharedQueue *shared);
extern void cmq_triggers_check(CmqQueue *queue);
extern bool cmq_triggers_mend(CmqQueue *queue);

#endif							/* CMQ_TRIGGERS_H */
