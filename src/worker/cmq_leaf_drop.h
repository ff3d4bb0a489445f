/*-------------------------------------------------------------------------
 *
 * cmq_leaf_drop.h
 *	  Drop leaves whose time is over.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_LEAF_DROP_H
#define CMQ_LEAF_DROP_H

#include "store/cmq_description.h"
#include "worker/cmq_portion.h"

extern CmqStepResult cmq_leaf_drop_old(CmqQueue *queue,
									   const CmqPortion *portion);

#endif							/* CMQ_LEAF_DROP_H */
