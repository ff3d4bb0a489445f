/*-------------------------------------------------------------------------
 *
 * cmq_deliveries.h
 *	  Deliveries that a call names by their receipt handles: one, or many in the order
 *	  of their keys.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DELIVERIES_H
#define CMQ_DELIVERIES_H

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "base/cmq_handle.h"
#include "store/cmq_description.h"
#include "store/cmq_pending.h"

typedef struct CmqDelivery
{
	CmqHandle	handle;
	int			position;		/* in the array */
	bool		done;			/* for the caller to set */
} CmqDelivery;

/* Deliveries named by an array. */
typedef struct CmqDeliveries
{
	int			n;
	CmqDelivery *each;
	Datum	   *handles;		/* as given, in the order of the array */
} CmqDeliveries;

extern void cmq_deliveries_one(FunctionCallInfo fcinfo, int argno, CmqQueue *queue,
							   CmqHandle *handle);
extern void cmq_deliveries_many(FunctionCallInfo fcinfo, int argno, CmqQueue *queue,
								CmqDeliveries *named);
extern bool cmq_deliveries_find(CmqPending *pending, const CmqHandle *handle,
								TimestampTz now, TimestampTz expired_before);
extern void cmq_deliveries_as_given(CmqDeliveries *named);
extern void cmq_deliveries_return_done(FunctionCallInfo fcinfo,
									   CmqDeliveries *named);

#endif							/* CMQ_DELIVERIES_H */
