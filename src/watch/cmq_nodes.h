/*-------------------------------------------------------------------------
 *
 * cmq_nodes.h
 *	  Parts of query trees that the help for the planner asks for and makes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_NODES_H
#define CMQ_NODES_H

#include "nodes/parsenodes.h"

extern Oid	cmq_node_times_family(void);
extern bool cmq_node_is_column(Node *node, Index varno, AttrNumber attno);
extern bool cmq_node_is_plain_select(Query *query);
extern bool cmq_node_is_union_all(Node *setop, List **arms);
extern bool cmq_node_has_var_of(Node *node, Index varno);
extern Node *cmq_node_call(const char *name, Oid argtype, Oid result,
						   Node *arg);
extern bool cmq_node_is_constant(Node *value);
extern Oid	cmq_node_sides(OpExpr *op, Node **column, Node **value);
extern Node *cmq_node_compare(Oid opno, Node *left, Node *right);

#endif							/* CMQ_NODES_H */
