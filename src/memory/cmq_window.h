/*-------------------------------------------------------------------------
 *
 * cmq_window.h
 *	  Senders between taking a time and writing the row that has it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_WINDOW_H
#define CMQ_WINDOW_H

#include "datatype/timestamp.h"

#include "memory/cmq_types.h"

/* The windows of a queue that are remembered one by one. */
#define CMQ_WINDOWS 64

typedef struct CmqWindows
{
	int			n;
	struct
	{
		TimestampTz time;		/* no row to come has an earlier one */
		uint64		groups;		/* the bits of its groups */
	}			each[CMQ_WINDOWS];
} CmqWindows;

extern void cmq_window_open(CmqSharedQueue **queues, int n, uint64 groups);
extern void cmq_window_time(TimestampTz time);
extern void cmq_window_close(void);
extern void cmq_window_end_of(SubTransactionId subid);
extern void cmq_windows_read(CmqSharedQueue *shared, CmqWindows *windows);
extern bool cmq_windows_close_to(const CmqWindows *windows, TimestampTz time,
								 uint64 group);

/* The same for the keys of messages, which are written before their rows. */
extern void cmq_key_window_open(CmqSharedQueue *shared);
extern void cmq_key_window_time(TimestampTz time);
extern void cmq_key_window_close(void);
extern void cmq_key_windows_wait(CmqSharedQueue *shared, TimestampTz bound);
extern TimestampTz cmq_key_windows_first(CmqSharedQueue *shared);

#endif							/* CMQ_WINDOW_H */
