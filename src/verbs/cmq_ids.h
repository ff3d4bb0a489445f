/*-------------------------------------------------------------------------
 *
 * cmq_ids.h
 *	  Message ids in arguments: those of other servers are refused.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_IDS_H
#define CMQ_IDS_H

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "store/cmq_description.h"
#include "store/cmq_message_rows.h"

/* Ids being looked at; see cmq_ids.c. */
typedef struct CmqIds
{
	CmqQueue   *queue;
	bool		open;			/* messages is in use */
	CmqMessageRows messages;
} CmqIds;

extern void cmq_ids_begin(CmqIds *ids, CmqQueue *queue);
extern void cmq_ids_check(CmqIds *ids, TimestampTz time);
extern void cmq_ids_check_missing(CmqQueue *queue, TimestampTz time);
extern void cmq_ids_end(CmqIds *ids);
extern int64 *cmq_ids_arg(FunctionCallInfo fcinfo, int argno, CmqQueue *queue,
						  int *nids);

#endif							/* CMQ_IDS_H */
