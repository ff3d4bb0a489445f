/*-------------------------------------------------------------------------
 *
 * cmq_notes.h
 *	  What receives and maintenance note about a queue for those who come later.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_NOTES_H
#define CMQ_NOTES_H

#include "memory/cmq_types.h"

extern bool cmq_notes_triggers_changed(CmqSharedQueue *shared,
									   uint32 triggers);
extern TimestampTz cmq_notes_last_send(CmqSharedQueue *shared);
extern void cmq_notes_set_last_send(CmqSharedQueue *shared, TimestampTz time);
extern uint64 cmq_notes_spacing(CmqSharedQueue *shared);
extern void cmq_notes_set_spacing(CmqSharedQueue *shared, uint64 spacing);
extern void cmq_notes_damage(CmqSharedQueue *shared);
extern uint32 cmq_notes_next_turn(CmqSharedQueue *shared);
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
extern void cmq_notes_complete_turn(const CmqSharedKey *key, CmqTurnKind kind);
extern void cmq_notes_get_turns(const CmqSharedKey *key, CmqTurns *turns);
extern void cmq_notes_set_turn_step(const CmqSharedKey *key, CmqTurnKind kind,
									int step);
extern bool cmq_notes_begin_turn(const CmqSharedKey *key, CmqTurnKind kind);
extern void cmq_notes_end_turn(const CmqSharedKey *key, CmqTurnKind kind,
							   int strikes, int max_strikes);

#endif							/* CMQ_NOTES_H */
