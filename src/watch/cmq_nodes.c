/*-------------------------------------------------------------------------
 *
 * cmq_nodes.c
 *	  Parts of query trees that the help for the planner asks for and makes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "base/cmq_names.h"
#include "watch/cmq_nodes.h"

/* The default order of times. */
Oid
cmq_node_times_family(void)
{
	return lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_BTREE_OPFAMILY)->btree_opf;
}

/* Is the node a column of this table? */
bool
cmq_node_is_column(Node *node, Index varno, AttrNumber attno)
{
	Var		   *var = (Var *) node;

	return IsA(node, Var) && var->varlevelsup == 0 && var->varno == varno &&
		var->varattno == attno;
}

/* Does the query select rows one by one, without anything that looks at several? */
bool
cmq_node_is_plain_select(Query *query)
{
	return query->commandType == CMD_SELECT && !query->hasAggs &&
		!query->hasWindowFuncs && !query->hasTargetSRFs &&
		query->groupClause == NIL && query->groupingSets == NIL &&
		query->distinctClause == NIL && query->havingQual == NULL &&
		query->limitCount == NULL && query->limitOffset == NULL;
}

/* Is the set operation UNION ALL in all its parts?  Adds the numbers of its arms. */
bool
cmq_node_is_union_all(Node *setop, List **arms)
{
	SetOperationStmt *stmt = (SetOperationStmt *) setop;

	if (IsA(setop, RangeTblRef))
	{
		*arms = lappend_int(*arms, ((RangeTblRef *) setop)->rtindex);
		return true;
	}
	return stmt->op == SETOP_UNION && stmt->all &&
		cmq_node_is_union_all(stmt->larg, arms) && cmq_node_is_union_all(stmt->rarg, arms);
}

/* Does the node use columns of the table?  In a subquery of its own, too. */
bool
cmq_node_has_var_of(Node *node, Index varno)
{
	return bms_is_member(varno, pull_varnos(NULL, node));
}

/* A call of one of our functions with one argument. */
Node *
cmq_node_call(const char *name, Oid argtype, Oid result, Node *arg)
{
	return (Node *) makeFuncExpr(cmq_function_oid(name, 1, &argtype), result,
								 list_make1(arg), InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CALL);
}

/* Is the value the same for all rows of the query? */
bool
cmq_node_is_constant(Node *value)
{
	return !contain_var_clause(value) && !contain_volatile_functions(value) &&
		!contain_aggs_of_level(value, 0);
}

/* The two sides of a comparison: the one that can be a column of the query first. */
Oid
cmq_node_sides(OpExpr *op, Node **column, Node **value)
{
	Var		   *left = linitial(op->args);

	if (IsA(left, Var) && left->varlevelsup == 0)
	{
		*column = (Node *) left;
		*value = lsecond(op->args);
		return op->opno;
	}
	*column = lsecond(op->args);
	*value = (Node *) left;
	return get_commutator(op->opno);
}

/* left op right, with the operator of this OID. */
Node *
cmq_node_compare(Oid opno, Node *left, Node *right)
{
	Expr	   *expr = make_opclause(opno, BOOLOID, false, (Expr *) left,
									 (Expr *) right, InvalidOid, InvalidOid);

	set_opfuncid((OpExpr *) expr);
	return (Node *) expr;
}
