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

extern void cmq_send_check_body(CmqQueue *queue, Datum body, bool isnull);
extern void cmq_send_check_headers(CmqQueue *queue, Datum headers, int added);
extern void cmq_send_check_delay(CmqQueue *queue, int delay);

#endif							/* CMQ_SEND_H */
