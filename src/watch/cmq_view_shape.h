/*-------------------------------------------------------------------------
 *
 * cmq_view_shape.h
 *	  What a view of a queue is made of, as the planner meets it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_VIEW_SHAPE_H
#define CMQ_VIEW_SHAPE_H

#include "nodes/parsenodes.h"
#include "store/cmq_description.h"

/* What an output column of a view is. */
typedef enum CmqViewKind
{
	KIND_NULL,					/* always */
	KIND_MSG_ID,
	KIND_TIME,					/* enqueued_at */
	KIND_HEADERS,
	KIND_BODY,
	KIND_GROUP,					/* message_group, of ordered queues */
	KIND_OTHER,					/* what needs the table of states */
	KIND_BOTH,					/* what needs both tables */
	KIND_COLUMN					/* and a CmqStateColumn: that of the state */
} CmqViewKind;

/* A SELECT of our own that reads one table of states, joined with the messages. */
typedef struct CmqBranch
{
	Query	   *query;
	int			depth;			/* how many queries deep it is in the view */
	int			state;			/* one of CMQ_STATE_* */
	Index		reader;			/* the view that makes the server check the
								 * rights */
	Index		base;			/* the table of states */
	Index		messages;
	JoinExpr   *join;
} CmqBranch;

/* A view, as cmq_view_parse() has found it. */
typedef struct CmqView
{
	Oid			relid;
	CmqQueue   *queue;
	int			states;			/* of all branches */
	int			depth;			/* of the query that is being parsed */
	List	   *branches;		/* of CmqBranch */
	List	   *kinds;			/* of its columns */
} CmqView;

extern bool cmq_view_parse(RangeTblEntry *rte, CmqView *view);
extern Index cmq_view_source(Query *query);
extern Node *cmq_view_own_column(Node *node, const CmqBranch *branch);
extern bool cmq_view_needs_messages(CmqViewKind kind);

#endif							/* CMQ_VIEW_SHAPE_H */
