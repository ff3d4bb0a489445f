/*-------------------------------------------------------------------------
 *
 * cmq_notes.h
 *	  What receives and maintenance note about a queue for those who come later.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_NOTES_H
#define CMQ_NOTES_H

#include "datatype/timestamp.h"

#include "base/cmq_handle.h"
#include "memory/cmq_shared.h"

/* The kinds of turns that a queue has in a round of the worker, see cmq_turn.c. */
typedef enum CmqTurnKind
{
	CMQ_SHORT_TURN,				/* the steps of maintenance */
	CMQ_LONG_TURN,				/* those that take long */
	CMQ_LETTERS_TURN,			/* dead letters to a queue of another owner */
	CMQ_NTURNS
} CmqTurnKind;

/* What is remembered of a queue's turns of one kind. */
typedef struct CmqTurns
{
	int			strikes;
	int			rounds_to_skip;
	TimestampTz begun_at;		/* the last one */
	int			step;			/* the step that it stopped at + 1; 0: none */
} CmqTurns;

/* A place in the pending table; what comes after it is next. */
typedef CmqPendingKey CmqPlace;

/* Steps that remember where their last portion has ended, see cmq_maintain.c. */
typedef enum CmqPlaceKind
{
	CMQ_PURGE_PLACE,			/* left of what can still be delivered */
	CMQ_PURGE_REST_PLACE,		/* in the rest of the pending table */
	CMQ_LETTERS_PLACE,			/* dead letters, in the pending table */
	CMQ_DROP_PLACE,				/* partitions, by their lower bounds */
	CMQ_NPLACES
} CmqPlaceKind;

/* A pass over the history that was forgotten, see cmq_forget.c. */
typedef struct CmqForgetting
{
	uint32		number;			/* 0: none yet */
	TimestampTz since;			/* the queue's history_since */
	TimestampTz next;			/* where to go on, by enqueued_at */
	bool		met;			/* something forgotten, or what cannot be looked at */
	bool		removed;		/* some of it */
} CmqForgetting;

extern void cmq_notes_init(CmqSharedQueue *shared, TimestampTz last_send,
						   uint32 triggers);
extern bool cmq_notes_triggers_changed(CmqSharedQueue *shared,
									   uint32 triggers);
extern TimestampTz cmq_notes_last_send(CmqSharedQueue *shared);
extern void cmq_notes_set_last_send(CmqSharedQueue *shared, TimestampTz time);
extern uint64 cmq_notes_spacing(CmqSharedQueue *shared);
extern void cmq_notes_set_spacing(CmqSharedQueue *shared, uint64 spacing);
extern void cmq_notes_damage(CmqSharedQueue *shared);
extern bool cmq_notes_is_damaged(CmqSharedQueue *shared);
extern void cmq_notes_letters_stuck(CmqSharedQueue *shared, bool stuck);
extern bool cmq_notes_letters_are_stuck(CmqSharedQueue *shared);
extern bool cmq_notes_new_letter_policy(CmqSharedQueue *shared,
										int max_receive_count,
										int max_time_to_live);
extern uint32 cmq_notes_failed_demands(CmqSharedQueue *shared);
extern void cmq_notes_failed_demand(CmqSharedQueue *shared, bool started);
extern CmqPlace cmq_notes_place(CmqSharedQueue *shared, CmqPlaceKind kind);
extern void cmq_notes_set_place(CmqSharedQueue *shared, CmqPlaceKind kind,
								const CmqPlace *place);
extern CmqForgetting cmq_notes_get_pass(CmqSharedQueue *shared,
										TimestampTz since);
extern void cmq_notes_put_pass(CmqSharedQueue *shared, CmqForgetting *pass,
							   bool end);
extern void cmq_notes_pass_was_undone(CmqSharedQueue *shared);
extern bool cmq_notes_left_out(const CmqSharedKey *key);
extern void cmq_notes_set_left_out(const CmqSharedKey *key, bool left_out);
extern void cmq_notes_get_turns(const CmqSharedKey *key, CmqTurns *turns);
extern void cmq_notes_set_turn_step(const CmqSharedKey *key, CmqTurnKind kind,
									int step);
extern bool cmq_notes_begin_turn(const CmqSharedKey *key, CmqTurnKind kind);
extern void cmq_notes_end_turn(const CmqSharedKey *key, CmqTurnKind kind,
							   int strikes, int max_strikes);

#endif							/* CMQ_NOTES_H */
