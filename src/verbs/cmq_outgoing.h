/*-------------------------------------------------------------------------
 *
 * cmq_outgoing.h
 *	  Write messages into a queue, or into several at the same times.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_OUTGOING_H
#define CMQ_OUTGOING_H

#include "datatype/timestamp.h"

#include "store/cmq_description.h"

/* Messages to be sent. */
typedef struct CmqOutgoing
{
	int			n;
	Datum	   *bodies;
	Datum	   *headers;		/* NULL: none has any, as below */
	bool	   *headers_null;
	Datum	   *groups;			/* names; nothing to queues without order */
	bool	   *groups_null;
	struct CmqOnce *once;		/* their keys; NULL: none has any */
} CmqOutgoing;

/* When the messages of a call become ready. */
typedef struct CmqDelay
{
	int			seconds;		/* after their production */
	TimestampTz until;			/* or then; DT_NOBEGIN: not given */
} CmqDelay;

extern void cmq_outgoing_check_room(CmqQueue *queue, int n);
extern int	cmq_outgoing_write(CmqQueue *queue, const CmqOutgoing *out,
							   CmqDelay delay, TimestampTz *times);
extern int	cmq_outgoing_write_as_owner(CmqQueue *queue, const CmqOutgoing *out,
										int delay, TimestampTz *times);
extern void cmq_outgoing_write_to_all(CmqQueue **queues, int nqueues,
									  CmqQueue *journal, const CmqOutgoing *out,
									  int delay, TimestampTz *times);

#endif							/* CMQ_OUTGOING_H */
