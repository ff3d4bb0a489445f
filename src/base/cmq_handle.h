/*-------------------------------------------------------------------------
 *
 * cmq_handle.h
 *	  Message ids and receipt handles as text and numbers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_HANDLE_H
#define CMQ_HANDLE_H

#include "datatype/timestamp.h"

/* The key of a pending row. */
typedef struct CmqPendingKey
{
	TimestampTz visible_at;
	TimestampTz enqueued_at;
} CmqPendingKey;

/* The order of the pending table: less than 0, 0 or more. */
static inline int
cmq_pending_key_cmp(const CmqPendingKey *a, const CmqPendingKey *b)
{
	if (a->visible_at != b->visible_at)
		return a->visible_at < b->visible_at ? -1 : 1;
	if (a->enqueued_at != b->enqueued_at)
		return a->enqueued_at < b->enqueued_at ? -1 : 1;
	return 0;
}

/* One delivery, as a receipt handle names it. */
typedef struct CmqHandle
{
	TimestampTz enqueued_at;
	TimestampTz visible_at;
	int			receive_count;
	int			rewind_count;
	int			change_count;	/* of the message, since it was sent or last
								 * brought back */
} CmqHandle;

extern int64 cmq_time_to_msg_id(TimestampTz time);
extern bool cmq_msg_id_to_time(int64 msg_id, TimestampTz *time);
extern TimestampTz cmq_msg_id_bound(int64 msg_id);
extern char *cmq_handle_out(const CmqHandle *handle);
extern void cmq_handle_in(const char *str, CmqHandle *handle);

#endif							/* CMQ_HANDLE_H */
