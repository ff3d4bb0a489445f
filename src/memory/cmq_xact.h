/*-------------------------------------------------------------------------
 *
 * cmq_xact.h
 *	  What the current transaction has done, and what follows at its end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_XACT_H
#define CMQ_XACT_H

#include "datatype/timestamp.h"

#include "memory/cmq_types.h"

/* What cmq_xact_announce() has replaced. */
typedef struct CmqAnnouncement
{
	TimestampTz before;
	uint64		number;
} CmqAnnouncement;

/* The earliest of what a transaction has taken away from a queue; DT_NOEND: nothing. */
typedef struct CmqTaken
{
	TimestampTz ready;			/* visible_at of pending rows */
	TimestampTz due;			/* enqueued_at of due rows */
	TimestampTz message;		/* enqueued_at of messages consumed or removed */
} CmqTaken;

/* Floors for the scans of this transaction alone, of the queue received from last. */
typedef struct CmqOwnFloor
{
	CmqSharedQueue *shared;		/* NULL: there are none */
	uint64		generation;
	TimestampTz floor;
	uint64		rewind_generation;
	TimestampTz rewound_at;
	TimestampTz rewind_floor;
	uint64		nundone;		/* how often they were lowered or forgotten,
								 * see cmq_laggards.c */
} CmqOwnFloor;

extern void cmq_xact_install_callbacks(void);
extern void cmq_xact_at_end(void (*func) (void));
extern uint64 cmq_xact_number(void);
extern CmqAnnouncement cmq_xact_announce(void);
extern void cmq_xact_publish(TimestampTz time);
extern void cmq_xact_withdraw(CmqAnnouncement announcement);
extern TimestampTz cmq_xact_published(void);
extern bool cmq_xact_is_writing(void);
extern void cmq_xact_enter_code(void);
extern void cmq_xact_leave_code(void);
extern bool cmq_xact_in_code(void);
extern CmqOwnFloor *cmq_xact_own_floor(void);
extern void cmq_xact_forget_own_floor(void);
extern void cmq_xact_taken(CmqSharedQueue *shared, TimestampTz visible_at);
extern void cmq_xact_taken_due(CmqSharedQueue *shared, TimestampTz enqueued_at);
extern void cmq_xact_consumed_due(CmqSharedQueue *shared,
								  TimestampTz rewound_at,
								  TimestampTz enqueued_at);
extern void cmq_xact_delivered_due(CmqSharedQueue *shared,
								   TimestampTz rewound_at,
								   TimestampTz enqueued_at);
extern void cmq_xact_taken_message(CmqSharedQueue *shared,
								   TimestampTz enqueued_at);
extern void cmq_xact_taken_unknown(CmqSharedQueue *shared);
extern CmqTaken cmq_xact_taken_of(CmqSharedQueue *shared);
extern void cmq_xact_rewound(CmqSharedQueue *shared);
extern bool cmq_xact_has_rewound(CmqSharedQueue *shared);
extern void cmq_xact_lower_floor(CmqSharedQueue *shared, TimestampTz time);
extern TimestampTz cmq_xact_lowers_floor(CmqSharedQueue *shared);
extern void cmq_xact_forgets(CmqSharedQueue *shared);
extern void cmq_xact_count(CmqSharedQueue *shared, CmqCounter counter, int64 n);
extern void cmq_xact_pending(CmqSharedQueue *shared, int64 n);
extern void cmq_xact_pending_unknown(CmqSharedQueue *shared);
extern int64 cmq_xact_own_pending(CmqSharedQueue *shared, bool *unknown);
extern void cmq_xact_due_unknown(CmqSharedQueue *shared);
extern int64 cmq_xact_own_due(CmqSharedQueue *shared, TimestampTz rewound_at,
							  bool *unknown);
extern void cmq_xact_wake(CmqSharedQueue *shared, int at_commit, int at_abort);
extern void cmq_xact_group_changed(CmqSharedQueue *shared, int64 group);
extern void cmq_xact_groups_unknown(CmqSharedQueue *shared);
extern void cmq_xact_locked_group(CmqSharedQueue *shared);
extern void cmq_xact_keeps_group(CmqSharedQueue *shared);
extern void cmq_xact_row_changed(CmqSharedQueue *shared);
extern void cmq_xact_wake_all(CmqSharedQueue *shared);
extern void cmq_xact_note_statement(CmqSharedQueue *shared, const char *name,
									bool history);
extern bool cmq_xact_has_statement(const char *name, bool history);
extern void cmq_xact_remove_at_end(Oid pending, bool at_commit);

#endif							/* CMQ_XACT_H */
