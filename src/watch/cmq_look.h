/*-------------------------------------------------------------------------
 *
 * cmq_look.h
 *	  A look at a queue that the caller may see the numbers of, for the views cmq.metrics
 *	  and cmq.status.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_LOOK_H
#define CMQ_LOOK_H

#include "datatype/timestamp.h"

#include "memory/cmq_types.h"

/* What a look at a queue has found. */
typedef struct CmqLook
{
	bool		for_status;		/* is what cmq.status alone shows wanted? */
	bool		found;			/* could the queue be looked at? */
	char		dead_letter_queue[NAMEDATALEN]; /* empty: none */
	TimestampTz paused_since;	/* 0: it is not paused */
	double		paused_seconds;

	/* in recovery there are no counters */
	bool		counted;
	TimestampTz since;
	int64		counters[CMQ_NCOUNTERS];

	/* numbers of messages; pending and ready contain left_of_rewind */
	int64		pending;
	int64		left_of_rewind;
	int64		ready;
	int64		in_flight;
	int64		delayed;
	bool		any_ready;
	double		oldest_ready_seconds;
	bool		any_in_flight;
	double		oldest_in_flight_seconds;	/* since the first receive */
	bool		any_waiting;
	double		first_expiry_seconds;
	int64		history;

	int64		pending_bytes;
	int64		history_bytes;

	double		unmaintained_seconds;	/* not in recovery */
	int64		msg_retention_seconds;
	int64		max_msg_heap_num;

	/* for cmq.status */
	bool		can_rewind;
	TimestampTz earliest_rewind;
	TimestampTz latest_rewind;
	bool		counts_blocked;
	int64		blocked_groups; /* of an ordered queue */
} CmqLook;

extern bool cmq_look_at(const char *name, const char *view, CmqLook *look);

#endif							/* CMQ_LOOK_H */
