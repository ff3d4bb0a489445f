/*-------------------------------------------------------------------------
 *
 * cmq_view_ways.c
 *	  The ways to read a view of a queue, and how its query is changed for each.
 *
 * Relations that a query no longer reads stay in its range table, or move to that of the
 * query which takes its place: from there the executor reads the rights to check.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation_d.h"
#include "catalog/pg_type_d.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "store/cmq_bounds.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"
#include "watch/cmq_message_state.h"
#include "watch/cmq_nodes.h"
#include "watch/cmq_view_shape.h"
#include "watch/cmq_view_ways.h"
#include "watch/cmq_views.h"

/* Is the column in this set?  0 in a set stands for all columns. */
bool
cmq_way_is_used(Bitmapset *columns, AttrNumber attno)
{
	return bms_is_member(0, columns) || bms_is_member(attno, columns);
}

/* The value of a bound, for use in a query that is so many levels deeper. */
Node *
cmq_way_deepen_value(const CmqBound *bound, int levels)
{
	Node	   *value = copyObject(bound->value);

	IncrementVarSublevelsUp(value, levels, 0);
	return value;
}

/* Nothing refers to the join any more, and the planner takes its entry for one. */
static void
forget_join(CmqBranch *branch)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RESULT;
	rte->eref = makeAlias("*RESULT*", NIL);
	lfirst(list_nth_cell(branch->query->rtable, branch->join->rtindex - 1)) = rte;
}

static Node *
make_null(Node *expr)
{
	return (Node *) makeNullConst(exprType(expr), exprTypmod(expr),
								  exprCollation(expr));
}

/* Read the table of states alone. */
static void
read_states_of(CmqBranch *branch)
{
	FromExpr   *from = branch->query->jointree;
	ListCell   *lc;

	from->fromlist = list_make2(linitial(from->fromlist), branch->join->larg);
	forget_join(branch);
	foreach(lc, branch->query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (cmq_node_has_var_of((Node *) tle->expr, branch->messages))
			tle->expr = (Expr *) make_null((Node *) tle->expr);
	}
}

/*
 * The planner computes all columns of each arm of a UNION ALL for each row, used or not.  So
 * those that are not used are taken out of a view that is one.
 */

/* The members of a list, of whatever type, whose places, counted from 1, are in the set. */
static List *
keep_members(List *list, Bitmapset *places)
{
	List	   *kept = list_copy(list);

	for (int place = list_length(list); place > 0; place--)
	{
		if (!bms_is_member(place, places))
			kept = list_delete_nth_cell(kept, place - 1);
	}
	return kept;
}

static void
keep_columns_of_setop(Node *setop, Bitmapset *columns)
{
	SetOperationStmt *stmt = (SetOperationStmt *) setop;

	if (!IsA(setop, SetOperationStmt))
		return;
	stmt->colTypes = keep_members(stmt->colTypes, columns);
	stmt->colTypmods = keep_members(stmt->colTypmods, columns);
	stmt->colCollations = keep_members(stmt->colCollations, columns);
	keep_columns_of_setop(stmt->larg, columns);
	keep_columns_of_setop(stmt->rarg, columns);
}

static void keep_columns(Query *query, Bitmapset *columns);

static void
keep_columns_of_table(RangeTblEntry *rte, Bitmapset *columns)
{
	keep_columns(rte->subquery, columns);
	rte->eref->colnames = keep_members(rte->eref->colnames, columns);
}

/* Columns of the tables that the query shows have new numbers. */
static void
renumber(List *targets, Bitmapset *columns)
{
	ListCell   *lc;

	foreach(lc, targets)
	{
		Var		   *var = (Var *) ((TargetEntry *) lfirst(lc))->expr;

		if (IsA(var, Var))
			var->varattno = var->varattnosyn =
				bms_member_index(columns, var->varattno) + 1;
	}
}

/* Keep these columns of a query that is part of a view, and no others. */
static void
keep_columns(Query *query, Bitmapset *columns)
{
	List	   *arms = NIL;
	Bitmapset  *of_source = NULL;
	Index		source = cmq_view_source(query);
	ListCell   *lc;
	AttrNumber	resno = 0;

	query->targetList = keep_members(query->targetList, columns);
	foreach(lc, query->targetList)
		((TargetEntry *) lfirst(lc))->resno = ++resno;
	if (query->setOperations)
	{
		(void) cmq_node_is_union_all(query->setOperations, &arms);
		keep_columns_of_setop(query->setOperations, columns);
		foreach(lc, arms)
			keep_columns_of_table(rt_fetch(lfirst_int(lc), query->rtable), columns);
		renumber(query->targetList, columns);
	}
	else if (source > 0)
	{
		foreach(lc, query->targetList)
		{
			Var		   *var = (Var *) ((TargetEntry *) lfirst(lc))->expr;

			if (IsA(var, Var))
				of_source = bms_add_member(of_source, var->varattno);
		}
		keep_columns_of_table(rt_fetch(source, query->rtable), of_source);
		renumber(query->targetList, of_source);
	}
}

/* Put a query in the place of a UNION ALL that shows it with the columns that are used. */
static void
narrow(RangeTblEntry *rte, Bitmapset *used)
{
	RangeTblEntry *inner = makeNode(RangeTblEntry);
	RangeTblRef *ref = makeNode(RangeTblRef);
	Query	   *query = makeNode(Query);
	Bitmapset  *columns = NULL;
	ListCell   *lc;

	foreach(lc, rte->subquery->targetList)
	{
		TargetEntry *tle = flatCopyTargetEntry(lfirst(lc));
		Node	   *expr = (Node *) tle->expr;

		if (cmq_way_is_used(used, tle->resno))
		{
			columns = bms_add_member(columns, tle->resno);
			tle->expr = (Expr *) makeVar(1, bms_num_members(columns),
										 exprType(expr), exprTypmod(expr),
										 exprCollation(expr), 0);
		}
		else
			tle->expr = (Expr *) make_null(expr);
		query->targetList = lappend(query->targetList, tle);
	}
	inner->rtekind = RTE_SUBQUERY;
	inner->subquery = rte->subquery;
	inner->eref = copyObject(rte->eref);
	inner->inFromCl = true;
	keep_columns_of_table(inner, columns);
	ref->rtindex = 1;
	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->rtable = list_make1(inner);
	query->jointree = makeFromExpr(list_make1(ref), NULL);
	rte->subquery = query;
}

/* Read the tables of states alone, of which these columns are used. */
void
cmq_way_states(RangeTblEntry *rte, CmqView *view, Bitmapset *used)
{
	ListCell   *lc;

	foreach(lc, view->branches)
		read_states_of(lfirst(lc));
	if (rte->subquery->setOperations)
		narrow(rte, used);
}

static Node *
make_time_var(CmqBranch *branch)
{
	return (Node *) makeVar(branch->messages, Anum_messages_enqueued_at,
							TIMESTAMPTZOID, -1, InvalidOid, 0);
}

/*
 * cmq._in_states(), with a bound that is a constant: it keeps nothing out that is wanted,
 * because it only moves on while the queue's row stays as it is.
 */
static List *
make_states_quals(CmqBranch *branch, CmqView *view, Node *name)
{
	static const Oid types[] = {TEXTOID, TIMESTAMPTZOID, INT4OID};
	Oid			funcid = cmq_function_oid("_in_states", 3, types);

	/* a rewind may begin between now and the first row */
	int			wanted = view->states == CMQ_STATE_HISTORY ?
		view->states : view->states | CMQ_STATE_DUE;
	TimestampTz now = cmq_queue_now(view->queue);
	TimestampTz bound = view->states == CMQ_STATE_HISTORY ?
		cmq_bounds_rewindable_since(view->queue, now) :
		cmq_bounds_expired_before(view->queue, now);
	Const	   *states = makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
								   Int32GetDatum(wanted), false, true);
	Const	   *since = makeConst(TIMESTAMPTZOID, -1, InvalidOid,
								  sizeof(TimestampTz),
								  TimestampTzGetDatum(bound), false,
								  FLOAT8PASSBYVAL);
	List	   *args = list_make3(copyObject(name), make_time_var(branch), states);

	return list_make2(cmq_node_compare(get_opfamily_member(cmq_node_times_family(),
														   TIMESTAMPTZOID,
														   TIMESTAMPTZOID,
														   BTGreaterEqualStrategyNumber),
									   make_time_var(branch), (Node *) since),
					  makeFuncExpr(funcid, BOOLOID, args, InvalidOid,
								   DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL));
}

/* A call for the column of the state of a message. */
static Node *
make_state_call(CmqBranch *branch, Node *name, CmqStateColumn column)
{
	static const Oid types[] = {TEXTOID, TIMESTAMPTZOID, INT4OID};
	List	   *args = list_make3(copyObject(name), make_time_var(branch),
								  makeConst(INT4OID, -1, InvalidOid,
											sizeof(int32),
											Int32GetDatum(column), false, true));
	const char *function = "_state_time";
	Oid			result = TIMESTAMPTZOID;

	if (column == CMQ_STATE_RECEIVE_COUNT || column == CMQ_STATE_REWIND_COUNT)
	{
		function = "_state_int";
		result = INT4OID;
	}
	else if (column == CMQ_STATE_WORD || column == CMQ_STATE_DELETED_BY)
	{
		function = "_state_text";
		result = TEXTOID;
	}
	return (Node *) makeFuncExpr(cmq_function_oid(function, lengthof(types), types),
								 result, args,
								 result == TEXTOID ? DEFAULT_COLLATION_OID : InvalidOid,
								 DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
}

/* The column of this number of the view, of a message. */
static Node *
make_column(CmqBranch *branch, CmqView *view, Node *name, Node *expr, int column)
{
	CmqViewKind kind = list_nth_int(view->kinds, column);

	switch (kind)
	{
		case KIND_TIME:
			return make_time_var(branch);
		case KIND_MSG_ID:
			return cmq_node_call("msg_id", TIMESTAMPTZOID, INT8OID,
								 make_time_var(branch));
		case KIND_HEADERS:
			return (Node *) makeVar(branch->messages, Anum_messages_headers,
									JSONBOID, -1, InvalidOid, 0);
		case KIND_BODY:
			return (Node *) makeVar(branch->messages, Anum_messages_body,
									TEXTOID, -1, DEFAULT_COLLATION_OID, 0);
		case KIND_GROUP:
			return (Node *) makeVar(branch->messages, Anum_messages_message_group,
									TEXTOID, -1, DEFAULT_COLLATION_OID, 0);
		case KIND_NULL:
		case KIND_OTHER:
		case KIND_BOTH:
			return make_null(expr);
		default:
			return make_state_call(branch, name, kind - KIND_COLUMN);
	}
}

/*
 * Keep the entries of the query's relations from which the executor reads the rights to
 * check, but for those of a part of it, which gets them all.
 */
static void
keep_permissions(Query *query, Query *part)
{
	ListCell   *lc;

	if (query == part)
		return;
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (cmq_has_permissions(rte))
			cmq_add_permissions(part, query, rte);
		if (rte->rtekind == RTE_SUBQUERY)
			keep_permissions(rte->subquery, part);
	}
}

/* A part of a subquery takes the place of the whole. */
static void
put_in_place(RangeTblEntry *rte, Query *part)
{
	keep_permissions(rte->subquery, part);
	rte->subquery = part;
}

/*
 * Read the message table alone, for the messages of all branches of the view.  The query
 * of the last branch takes the place of the view's.
 */
void
cmq_way_messages(RangeTblEntry *rte, CmqView *view)
{
	CmqBranch  *branch = llast(view->branches);
	Query	   *query = branch->query;
	FromExpr   *from = query->jointree;
	FuncExpr   *readable = linitial(make_ands_implicit((Expr *) from->quals));
	Node	   *name = linitial(readable->args);
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, rte->subquery->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		tle = flatCopyTargetEntry(tle);
		tle->expr = (Expr *) make_column(branch, view, name, (Node *) tle->expr,
										 list_length(columns));
		columns = lappend(columns, tle);
	}
	query->targetList = columns;
	from->fromlist = list_make2(linitial(from->fromlist), branch->join->rarg);
	from->quals = (Node *) make_ands_explicit(lcons(readable,
													make_states_quals(branch, view,
																	  name)));
	forget_join(branch);
	put_in_place(rte, query);
}

/* Read both tables of each branch, and give the message table the bounds of the time. */
void
cmq_way_both(CmqView *view, List *bounds)
{
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, view->branches)
	{
		CmqBranch  *branch = lfirst(lc);
		List	   *quals = list_make1(branch->join->quals);

		/* without journals a column is that of the message table */
		foreach(lc2, view->queue->has_journals ? NIL : branch->query->targetList)
		{
			TargetEntry *tle = lfirst(lc2);

			tle->expr = (Expr *) cmq_view_own_column((Node *) tle->expr, branch);
		}

		foreach(lc2, bounds)
		{
			CmqBound   *bound = lfirst(lc2);

			if (list_nth_int(view->kinds, bound->attno - 1) == KIND_TIME)
				quals = lappend(quals,
								cmq_node_compare(bound->opno, make_time_var(branch),
												 cmq_way_deepen_value(bound, branch->depth)));
		}
		branch->join->quals = (Node *) make_ands_explicit(quals);
	}
}

/* The branch of the view that has this state, or NULL. */
static CmqBranch *
find_branch(CmqView *view, int state)
{
	ListCell   *lc;

	foreach(lc, view->branches)
	{
		CmqBranch  *branch = lfirst(lc);

		if (branch->state == state)
			return branch;
	}
	return NULL;
}

/* Is the UNION ALL one of these two branches, without a column of another type? */
static bool
is_union_of(Query *query, List *arms, CmqBranch *pending, CmqBranch *due)
{
	ListCell   *lc;
	ListCell   *lc2;

	if (list_length(arms) != 2)
		return false;
	foreach(lc, arms)
	{
		Query	   *arm = rt_fetch(lfirst_int(lc), query->rtable)->subquery;

		if (arm != pending->query && arm != due->query)
			return false;
	}
	forboth(lc, query->targetList, lc2, pending->query->targetList)
	{
		if (exprType((Node *) ((TargetEntry *) lfirst(lc))->expr) !=
			exprType((Node *) ((TargetEntry *) lfirst(lc2))->expr))
			return false;
	}
	return true;
}

/*
 * Put the rewind under way, as it is now, into the conditions of all branches, so that all
 * go by the same one, also if one begins or ends while the statement is planned.
 */
static void
simplify_due(CmqView *view)
{
	ListCell   *lc;

	foreach(lc, view->branches)
	{
		CmqBranch  *branch = lfirst(lc);
		FromExpr   *from = branch->query->jointree;
		List	   *quals = list_copy(make_ands_implicit((Expr *) from->quals));
		Node	   *last = llast(quals);

		if (branch->state == CMQ_STATE_DUE)
			last = cmq_views_simplify_due(view->queue, ((FuncExpr *) last)->args);
		else if (branch->state == CMQ_STATE_HISTORY)
			last = (Node *) make_notclause((Expr *)
										   cmq_views_simplify_due(view->queue,
																  ((FuncExpr *) get_notclausearg((Expr *) last))->args));
		else
			continue;
		llast(quals) = last;
		from->quals = (Node *) make_ands_explicit(quals);
	}
}

/*
 * Without a rewind under way nothing is due: then the pending messages are all of the
 * live view.  A rewind that begins makes the planner plan anew (cmq._readable()).
 * False if they stand in no UNION ALL of the two.
 */
static bool
leave_out_due(RangeTblEntry *rte, CmqView *view)
{
	CmqBranch  *pending = find_branch(view, CMQ_STATE_PENDING);
	CmqBranch  *due = find_branch(view, CMQ_STATE_DUE);
	Query	   *query = rte->subquery;
	List	   *arms = NIL;
	ListCell   *lc;

	if (pending == NULL || due == NULL)
		return false;
	if (query->setOperations && cmq_node_is_union_all(query->setOperations, &arms) &&
		is_union_of(query, arms, pending, due))
	{
		put_in_place(rte, pending->query);
		pending->depth--;
		view->states &= ~CMQ_STATE_DUE;
		view->branches = list_delete_ptr(view->branches, due);
		return true;
	}
	foreach(lc, query->rtable)
	{
		RangeTblEntry *arm = lfirst(lc);

		if (arm->rtekind == RTE_SUBQUERY && leave_out_due(arm, view))
			return true;
	}
	return false;
}

/*
 * Before a way is chosen: settle for the whole view which rewind is under way.  The
 * history view alone has one condition on it, which the planner simplifies.
 */
void
cmq_way_settle_rewind(RangeTblEntry *rte, CmqView *view)
{
	if (view->states == CMQ_STATE_HISTORY)
		return;
	simplify_due(view);
	if (!view->queue->rewinding.active)
		(void) leave_out_due(rte, view);
}
