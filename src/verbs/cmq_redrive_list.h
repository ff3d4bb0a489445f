/*-------------------------------------------------------------------------
 *
 * cmq_redrive_list.h
 *	  List what a redrive is to send back: all that is ready, or chosen messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_REDRIVE_LIST_H
#define CMQ_REDRIVE_LIST_H

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "base/cmq_handle.h"
#include "store/cmq_description.h"

/* A letters among the ready messages of a queue; see cmq_redrive_list.c. */
typedef struct CmqRedriveList
{
	bool		has_filter;
	Datum		filter;			/* jsonb that the headers contain */
	bool		has_ids;
	int64	   *ids;			/* ordered, each once; of those that are not
								 * found yet, when they are being looked for */
	int			nids;
	int			nmissing;		/* ids of no ready message */
	TimestampTz now;			/* ready by then is ready */
	TimestampTz floor;			/* nothing before this is */
	CmqPendingKey *listed;		/* keys of what was found ... */
	int			n;				/* ... so many ... */
	int			next;			/* ... of which the first have been dealt with */
	CmqPendingKey last;			/* of the last row looked at, if began */
	bool		began;
	bool		ended;			/* there is no more to be found */
} CmqRedriveList;

extern void cmq_redrive_list_args(CmqRedriveList *letters, FunctionCallInfo fcinfo,
							int argno_filter, int argno_ids, const char *queue);
extern void cmq_redrive_list_begin(CmqRedriveList *letters, CmqQueue *queue, TimestampTz now,
							 int portion);
extern int	cmq_redrive_list_next(CmqRedriveList *letters, CmqQueue *queue, int ndone,
							int max, const CmqPendingKey **keys);

#endif							/* CMQ_REDRIVE_LIST_H */
