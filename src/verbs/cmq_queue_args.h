/*-------------------------------------------------------------------------
 *
 * cmq_queue_args.h
 *	  The settings of a queue and its dead-letter policy, as arguments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_QUEUE_ARGS_H
#define CMQ_QUEUE_ARGS_H

#include "fmgr.h"

#include "store/cmq_description.h"

extern bool cmq_queue_args_get_settings(FunctionCallInfo fcinfo, CmqDescription *queue,
										bool null_keeps);
extern bool cmq_queue_args_get_dedup(FunctionCallInfo fcinfo, int argno,
									 CmqDescription *queue, bool null_keeps);
extern bool cmq_queue_args_get_dead_letter(FunctionCallInfo fcinfo, CmqDescription *queue);

#endif							/* CMQ_QUEUE_ARGS_H */
