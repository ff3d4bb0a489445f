/*-------------------------------------------------------------------------
 *
 * cmq_send.h
 *	  Send one message or many.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_SEND_H
#define CMQ_SEND_H

#include "datatype/timestamp.h"

#include "store/cmq_description.h"

/* Messages to be sent. */
typedef struct CmqOutgoing
{
	int			n;
	Datum	   *bodies;
	Datum	   *headers;		/* NULL: none has any, as below */
	bool	   *headers_null;
	Datum	   *groups;			/* names */
	bool	   *groups_null;
	struct CmqOnce *once;		/* their keys; NULL: none has any */
} CmqOutgoing;

extern void cmq_send_check_body(CmqQueue *queue, Datum body, bool isnull);
extern void cmq_send_check_headers(CmqQueue *queue, Datum headers, int added);
extern void cmq_send_check_room(CmqQueue *queue, int n);
extern void cmq_send_check_delay(CmqQueue *queue, int delay);
extern int	cmq_send_as_owner(CmqQueue *queue, const CmqOutgoing *out, int delay,
							  TimestampTz *times);

#endif							/* CMQ_SEND_H */
