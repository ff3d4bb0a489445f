/*-------------------------------------------------------------------------
 *
 * cmq_due.h
 *	  Rows of the rewind tables that a rewind still has to bring back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DUE_H
#define CMQ_DUE_H

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "store/cmq_description.h"

extern TimestampTz cmq_rewind_leaf_due(CmqQueue *queue, const CmqLeaf *leaf,
									   const CmqRewind *rewinding,
									   TimestampTz expired_before);
extern TimestampTz cmq_rewind_first_due(CmqQueue *queue,
										const CmqRewind *rewinding,
										TimestampTz expired_before);
extern int64 cmq_rewind_count_due(CmqQueue *queue, Snapshot snapshot,
								  TimestampTz expired_before);

#endif							/* CMQ_DUE_H */
