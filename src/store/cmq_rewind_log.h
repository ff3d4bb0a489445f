/*-------------------------------------------------------------------------
 *
 * cmq_rewind_log.h
 *	  The record of rewinds, restores, replays and cancels, cmq.rewind_log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_REWIND_LOG_H
#define CMQ_REWIND_LOG_H

#include "datatype/timestamp.h"

#include "base/cmq_args.h"
#include "store/cmq_description.h"

extern void cmq_rewind_log_require_reason(CmqQueue *queue);
extern void cmq_rewind_log_add(CmqQueue *queue, const char *kind,
							   TimestampTz time, const CmqWindow *window,
							   const char *into_queue, int64 messages);
extern void cmq_rewind_log_prune(void);

#endif							/* CMQ_REWIND_LOG_H */
