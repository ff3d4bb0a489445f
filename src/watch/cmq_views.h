/*-------------------------------------------------------------------------
 *
 * cmq_views.h
 *	  The functions that the views of a queue are made of, and the planner
 *	  support that keeps what the views read from roles without SELECT.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_VIEWS_H
#define CMQ_VIEWS_H

#include "nodes/pg_list.h"

#include "store/cmq_description.h"

extern Node *cmq_views_simplify_due(CmqQueue *queue, List *args);

#endif							/* CMQ_VIEWS_H */
