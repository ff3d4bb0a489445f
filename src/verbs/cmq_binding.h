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

extern void cmq_dead_letter_check(CmqQueue *queue);
extern void cmq_dead_letter_check_drop(const char *name);
extern bool cmq_dead_letter_forget(const char *name, bool wait);

#endif							/* CMQ_BINDING_H */
