/*-------------------------------------------------------------------------
 *
 * cmq_rewind_log.h
 *	  The record of what operators did to queues, cmq.rewind_log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_REWIND_LOG_H
#define CMQ_REWIND_LOG_H

#include "datatype/timestamp.h"

#include "base/cmq_args.h"
#include "store/cmq_description.h"

extern void cmq_rewind_log_require_reason(CmqQueue *queue);
extern const char *cmq_rewind_log_reason(CmqQueue *queue, const char *given);
extern void cmq_rewind_log_add(CmqQueue *queue, const char *kind,
							   TimestampTz time, const CmqWindow *window,
							   const char *into_queue, int64 messages);
extern void cmq_rewind_log_add_pause(CmqQueue *queue, bool pause,
									 TimestampTz time, const char *reason);
extern void cmq_rewind_log_prune(void);

#endif							/* CMQ_REWIND_LOG_H */
