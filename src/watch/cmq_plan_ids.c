/*-------------------------------------------------------------------------
 *
 * cmq_plan_ids.c
 *	  Compare enqueued_at instead of msg_id in a statement that reads views of queues.
 *
 * The two are the same instant, but the time has statistics, an index, and partitions.  A
 * comparison is replaced where the column of the time stands beside that of the id, in
 * the same row of the same subquery.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_opfamily_d.h"
#include "catalog/pg_type_d.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "base/cmq_compat.h"
#include "watch/cmq_nodes.h"
#include "watch/cmq_plan_ids.h"
#include "watch/cmq_view_shape.h"

static AttrNumber find_twin(RangeTblEntry *rte, AttrNumber attno);

/* The column of the query that is this column of one of its tables; 0 if there is none. */
static AttrNumber
find_output(Query *query, Index varno, AttrNumber attno)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk && cmq_node_is_column((Node *) tle->expr, varno, attno))
			return tle->resno;
	}
	return 0;
}

/* The column that has the time of the message whose msg_id this column has, or 0. */
static AttrNumber
find_twin(RangeTblEntry *rte, AttrNumber attno)
{
	CmqView		view;
	TargetEntry *tle;
	Var		   *var;
	AttrNumber	twin;

	if (rte->rtekind != RTE_SUBQUERY || attno <= 0)
		return 0;
	if (cmq_view_parse(rte, &view))
	{
		if (list_nth_int(view.kinds, attno - 1) != KIND_MSG_ID)
			return 0;
		for (int i = 0; i < list_length(view.kinds); i++)
		{
			if (list_nth_int(view.kinds, i) == KIND_TIME)
				return i + 1;
		}
		return 0;
	}
	tle = get_tle_by_resno(rte->subquery->targetList, attno);
	/* grouping sets make one of two columns NULL, and not the other */
	if (rte->subquery->setOperations || rte->subquery->groupingSets ||
		tle == NULL || !IsA(tle->expr, Var))
		return 0;
	var = (Var *) tle->expr;
	if (var->varlevelsup > 0)
		return 0;
	twin = find_twin(rt_fetch(var->varno, rte->subquery->rtable), var->varattno);
	return twin ? find_output(rte->subquery, var->varno, twin) : 0;
}

/* The column beside this msg_id that has the time, or NULL. */
static Var *
get_twin(Query *query, Node *node)
{
	Var		   *var = (Var *) node;
	AttrNumber	twin;

	if (!IsA(node, Var) || var->varlevelsup > 0 || var->vartype != INT8OID)
		return NULL;
	twin = find_twin(rt_fetch(var->varno, query->rtable), var->varattno);
	if (twin == 0)
		return NULL;
	var = copyObject(var);
	var->varattno = twin;
	var->varattnosyn = 0;
	var->varnosyn = 0;
	var->vartype = TIMESTAMPTZOID;
	return var;
}

/* The comparison of times that this comparison of integers becomes. */
static Oid
operator_of_times(Oid opno, Oid *righttype)
{
	int			strategy;
	Oid			lefttype;

	if (!op_in_opfamily(opno, INTEGER_BTREE_FAM_OID))
		return InvalidOid;
	get_op_opfamily_properties(opno, INTEGER_BTREE_FAM_OID, false, &strategy,
							   &lefttype, righttype);
	if (lefttype != INT8OID)
		return InvalidOid;
	return get_opfamily_member(cmq_node_times_family(), TIMESTAMPTZOID,
							   TIMESTAMPTZOID, strategy);
}

/* msg_id op value, as a comparison of times; NULL if the node is nothing like it. */
static Node *
compare_times(Query *query, OpExpr *op)
{
	Node	   *left;
	Node	   *right;
	Oid			opno = cmq_node_sides(op, &left, &right);
	Oid			righttype;
	Var		   *twin;

	if (!OidIsValid(opno) || !cmq_node_is_constant(right))
		return NULL;
	opno = operator_of_times(opno, &righttype);
	twin = OidIsValid(opno) ? get_twin(query, left) : NULL;
	if (twin == NULL)
		return NULL;
	if (righttype == INT4OID || righttype == INT2OID)
		right = (Node *) makeFuncExpr(righttype == INT4OID ? F_INT8_INT4 : F_INT8_INT2,
									  INT8OID, list_make1(right), InvalidOid,
									  InvalidOid, COERCE_IMPLICIT_CAST);
	return cmq_node_compare(opno, (Node *) twin,
							cmq_node_call("_time_of", INT8OID, TIMESTAMPTZOID, right));
}

/* The same for msg_id = ANY (array). */
static Node *
compare_any_time(Query *query, ScalarArrayOpExpr *op)
{
	ScalarArrayOpExpr *result;
	Var		   *twin;

	if (op->opfuncid != F_INT8EQ || !op->useOr ||
		exprType(lsecond(op->args)) != INT8ARRAYOID ||
		!cmq_node_is_constant(lsecond(op->args)))
		return NULL;
	twin = get_twin(query, linitial(op->args));
	if (twin == NULL)
		return NULL;
	result = makeNode(ScalarArrayOpExpr);
	result->opno = get_opfamily_member(cmq_node_times_family(), TIMESTAMPTZOID,
									   TIMESTAMPTZOID, BTEqualStrategyNumber);
	result->useOr = true;
	result->args = list_make2(twin, cmq_node_call("_times_of", INT8ARRAYOID,
												  TIMESTAMPTZARRAYOID,
												  lsecond(op->args)));
	result->location = -1;
	set_sa_opfuncid(result);
	return (Node *) result;
}

static Node *
replace_ids(Node *node, Query *query)
{
	Node	   *result = NULL;

	/* queries have their turn of their own */
	if (node == NULL || IsA(node, Query))
		return node;
	if (IsA(node, OpExpr) && list_length(((OpExpr *) node)->args) == 2)
		result = compare_times(query, (OpExpr *) node);
	else if (IsA(node, ScalarArrayOpExpr))
		result = compare_any_time(query, (ScalarArrayOpExpr *) node);
	return result ? result : expression_tree_mutator(node, replace_ids, query);
}

static void
replace_ids_in_from(Node *node, Query *query)
{
	ListCell   *lc;

	if (node == NULL)
		return;
	if (IsA(node, FromExpr))
	{
		FromExpr   *from = (FromExpr *) node;

		foreach(lc, from->fromlist)
			replace_ids_in_from(lfirst(lc), query);
		from->quals = replace_ids(from->quals, query);
	}
	else if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		replace_ids_in_from(join->larg, query);
		replace_ids_in_from(join->rarg, query);
		join->quals = replace_ids(join->quals, query);
	}
}

static bool
replace_all_ids(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		replace_ids_in_from((Node *) ((Query *) node)->jointree, (Query *) node);
		return query_tree_walker((Query *) node, replace_all_ids, context,
								 QTW_IGNORE_JOINALIASES);
	}
	return expression_tree_walker(node, replace_all_ids, context);
}

/* Compare enqueued_at instead of msg_id, in all of the statement. */
void
cmq_plan_ids(Query *query)
{
	(void) replace_all_ids((Node *) query, NULL);
}
