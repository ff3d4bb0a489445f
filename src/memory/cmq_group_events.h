/*-------------------------------------------------------------------------
 *
 * cmq_group_events.h
 *	  What happens to the groups of an ordered queue, counted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_GROUP_EVENTS_H
#define CMQ_GROUP_EVENTS_H

#include "memory/cmq_types.h"

extern void cmq_group_events_init(CmqSharedQueue *shared);
extern uint32 cmq_group_events_count(CmqSharedQueue *shared, int64 group);
extern void cmq_group_events_note(CmqGroupEvents *events, int64 group);
extern void cmq_group_events_note_all(CmqGroupEvents *events);
extern void cmq_group_events_merge(CmqGroupEvents *events,
								   const CmqGroupEvents *more);
extern void cmq_group_events_raise(CmqSharedQueue *shared,
								   const CmqGroupEvents *events);
extern void cmq_group_events_happened(CmqSharedQueue *shared, int64 group);
extern void cmq_group_events_moved(CmqSharedQueue *shared);
extern uint32 cmq_group_events_moves(CmqSharedQueue *shared);
extern void cmq_group_events_cross(CmqSharedQueue *shared);
extern uint32 cmq_group_events_crossings(CmqSharedQueue *shared);
extern void cmq_group_events_close(CmqSharedQueue *shared);
extern uint32 cmq_group_events_closings(CmqSharedQueue *shared);

#endif							/* CMQ_GROUP_EVENTS_H */
