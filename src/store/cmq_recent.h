/*-------------------------------------------------------------------------
 *
 * cmq_recent.h
 *	  Where in the pending table the deliveries lie that this backend made.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_RECENT_H
#define CMQ_RECENT_H

#include "datatype/timestamp.h"
#include "storage/itemptr.h"

extern void cmq_recent_note(Oid pending, TimestampTz visible_at,
							TimestampTz enqueued_at,
							const ItemPointerData *tid);
extern ItemPointer cmq_recent_find(Oid pending, TimestampTz visible_at,
								   TimestampTz enqueued_at);
extern ItemPointer cmq_recent_find_message(Oid pending, TimestampTz enqueued_at);

#endif							/* CMQ_RECENT_H */
