/*-------------------------------------------------------------------------
 *
 * cmq_target.h
 *	  Queues whose tables are the target of a subscription.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_TARGET_H
#define CMQ_TARGET_H

#include "store/cmq_description.h"

extern bool cmq_target_is_subscribed(Oid relid);
extern bool cmq_target_is_queue(CmqQueue *queue);

#endif							/* CMQ_TARGET_H */
