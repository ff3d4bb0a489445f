/*-------------------------------------------------------------------------
 *
 * cmq_view_ways.h
 *	  The ways to read a view of a queue, and how its query is changed for each.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_VIEW_WAYS_H
#define CMQ_VIEW_WAYS_H

#include "nodes/parsenodes.h"
#include "watch/cmq_view_shape.h"

/* A condition that all rows which matter fulfil: column operator value. */
typedef struct CmqBound
{
	AttrNumber	attno;
	Oid			opno;			/* a btree comparison of timestamptz */
	Node	   *value;			/* without variables of the query it stands in */
} CmqBound;

extern bool cmq_way_is_used(Bitmapset *columns, AttrNumber attno);
extern Node *cmq_way_deepen_value(const CmqBound *bound, int levels);
extern void cmq_way_settle_rewind(RangeTblEntry *rte, CmqView *view);
extern void cmq_way_states(RangeTblEntry *rte, CmqView *view,
						   Bitmapset *used);
extern void cmq_way_messages(RangeTblEntry *rte, CmqView *view);
extern void cmq_way_both(CmqView *view, List *bounds);

#endif							/* CMQ_VIEW_WAYS_H */
