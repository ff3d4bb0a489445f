/*-------------------------------------------------------------------------
 *
 * cmq_purge.h
 *	  Purge pending rows that have expired, and keep the mark of the earliest message.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_PURGE_H
#define CMQ_PURGE_H

#include "store/cmq_description.h"
#include "worker/cmq_portion.h"

extern CmqStepResult cmq_purge_old_keys(CmqQueue *queue,
										const CmqPortion *portion);
extern CmqStepResult cmq_purge_rest(CmqQueue *queue,
									const CmqPortion *portion);
extern CmqStepResult cmq_purge_raise_mark(CmqQueue *queue,
										  const CmqPortion *portion);

#endif							/* CMQ_PURGE_H */
