/*-------------------------------------------------------------------------
 *
 * cmq_binding.h
 *	  Bind queues to dead-letter queues, and end that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_BINDING_H
#define CMQ_BINDING_H

#include "store/cmq_description.h"

extern void cmq_binding_check(CmqQueue *queue);
extern void cmq_binding_check_drop(const char *name);
extern bool cmq_binding_forget(const char *name, bool wait);

#endif							/* CMQ_BINDING_H */
