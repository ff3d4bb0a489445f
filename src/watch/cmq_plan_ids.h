/*-------------------------------------------------------------------------
 *
 * cmq_plan_ids.h
 *	  Compare enqueued_at instead of msg_id in a statement that reads views of queues.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_PLAN_IDS_H
#define CMQ_PLAN_IDS_H

#include "nodes/parsenodes.h"

extern void cmq_plan_ids(Query *query);

#endif							/* CMQ_PLAN_IDS_H */
