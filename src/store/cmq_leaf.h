/*-------------------------------------------------------------------------
 *
 * cmq_leaf.h
 *	  Leaf tables: making them ahead of time or on demand.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_LEAF_H
#define CMQ_LEAF_H

#include "datatype/timestamp.h"

#include "store/cmq_description.h"

extern TimestampTz cmq_leaf_lead(CmqQueue *queue);
extern bool cmq_leaf_make(CmqQueue *queue, TimestampTz from,
						  TimestampTz until);
extern void cmq_leaf_add_keys(CmqQueue *queue);
extern void cmq_leaf_demand(CmqQueue *queue, TimestampTz time);

#endif							/* CMQ_LEAF_H */
