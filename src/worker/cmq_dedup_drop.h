/*-------------------------------------------------------------------------
 *
 * cmq_dedup_drop.h
 *	  Drop leaves of keys that no send looks at any more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DEDUP_DROP_H
#define CMQ_DEDUP_DROP_H

#include "datatype/timestamp.h"

#include "store/cmq_description.h"
#include "worker/cmq_portion.h"

extern TimestampTz cmq_dedup_drop_until(CmqQueue *queue);
extern CmqStepResult cmq_dedup_drop_old(CmqQueue *queue,
										const CmqPortion *portion);

#endif							/* CMQ_DEDUP_DROP_H */
