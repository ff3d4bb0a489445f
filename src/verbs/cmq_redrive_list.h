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
#include "memory/cmq_floor.h"
#include "store/cmq_description.h"

/* A message on the list. */
typedef struct CmqLetter
{
	CmqPendingKey key;			/* of its pending row; of one that is due, as
								 * it would be */
	bool		due;			/* a rewind under way brings it back */
} CmqLetter;

/* Messages of a queue to be sent back; see cmq_redrive_list.c. */
typedef struct CmqRedriveList
{
	/* what is wanted */
	bool		has_filter;
	Datum		filter;			/* jsonb that the headers contain */
	bool		has_ids;
	int64	   *ids;			/* ordered, each once */
	int			nids;
	int			nmissing;		/* so many of them are of no ready message */

	TimestampTz now;			/* ready by then is ready */
	CmqFloorScan floor;
	CmqLetter  *letters;		/* found, in the order of a receive ... */
	int			n;				/* ... so many ... */
	int			next;			/* ... of which the first have been dealt with */
	bool		ended;			/* there is no more to be found */
	bool		began;
	CmqPendingKey last_ready;	/* the last ready row looked at, if it began */
	TimestampTz next_due;		/* due rows before this have been looked at */
} CmqRedriveList;

extern void cmq_redrive_list_args(CmqRedriveList *list, FunctionCallInfo fcinfo,
								  int argno_filter, int argno_ids,
								  CmqQueue *queue);
extern void cmq_redrive_list_begin(CmqRedriveList *list, CmqQueue *queue,
								   TimestampTz now, int portion);
extern int	cmq_redrive_list_next(CmqRedriveList *list, CmqQueue *queue, int ndone,
								  int max, const CmqLetter **letters);

#endif							/* CMQ_REDRIVE_LIST_H */
