/*-------------------------------------------------------------------------
 *
 * cmq_view_shape.c
 *	  What a view of a queue is made of, as the planner meets it.
 *
 * Only what has the shape that cmq_create.c gives a view, to the last condition, is
 * taken for one: everybody may have made up the query, and the owner may have changed
 * the view.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_shape.h"
#include "watch/cmq_message_state.h"
#include "watch/cmq_nodes.h"
#include "watch/cmq_view_shape.h"

/* A condition of a branch: a function of the queue's name and columns of the base. */
typedef struct Condition
{
	const char *function;
	bool		negated;
	int			ncolumns;
	AttrNumber	columns[3];
} Condition;

/* The conditions of each branch, as cmq_create.c has them. */
static const struct
{
	int			state;
	bool		pending;		/* the base is the pending table, else rewind */
	AttrNumber	time;			/* enqueued_at in it */
	Condition	conditions[3];
}			shapes[] = {

	{CMQ_STATE_PENDING, true, Anum_pending_enqueued_at,
		{{"_readable", false, 0, {0}},
	{"_unexpired", false, 1, {Anum_pending_enqueued_at}}}},
	{CMQ_STATE_DUE, false, Anum_rewind_enqueued_at,
		{{"_readable", false, 0, {0}},
		{"_unexpired", false, 1, {Anum_rewind_enqueued_at}},
	{"_due", false, 3, {Anum_rewind_enqueued_at, Anum_rewind_deleted_at, Anum_rewind_deleted_xact}}}},
	{CMQ_STATE_HISTORY, false, Anum_rewind_enqueued_at,
		{{"_readable", false, 0, {0}},
		{"_rewindable", false, 2, {Anum_rewind_enqueued_at, Anum_rewind_deleted_at}},
	{"_due", true, 3, {Anum_rewind_enqueued_at, Anum_rewind_deleted_at, Anum_rewind_deleted_xact}}}},
};

static bool
is_ours(Oid funcid, const char *name)
{
	return get_func_namespace(funcid) == get_namespace_oid(CMQ_SCHEMA, true) &&
		strcmp(get_func_name(funcid), name) == 0;
}

/* Is it a plain SELECT, with nothing else that could change what a view shows? */
static bool
is_bare_select(Query *query)
{
	return cmq_node_is_plain_select(query) && query->cteList == NIL &&
		query->sortClause == NIL && query->rowMarks == NIL;
}

/* Does the node have the shape of the condition?  Gets the queue's name. */
static bool
fits_condition(Node *node, const Condition *condition, Index base,
			   Const **name)
{
	FuncExpr   *call;

	if (condition->negated)
	{
		if (!is_notclause(node))
			return false;
		node = (Node *) get_notclausearg((Expr *) node);
	}
	call = (FuncExpr *) node;
	if (!IsA(node, FuncExpr) || !is_ours(call->funcid, condition->function) ||
		list_length(call->args) != condition->ncolumns + 1)
		return false;
	for (int i = 0; i < condition->ncolumns; i++)
	{
		if (!cmq_node_is_column(list_nth(call->args, i + 1), base,
								condition->columns[i]))
			return false;
	}
	if (!IsA(linitial(call->args), Const) ||
		(*name != NULL && !equal(*name, linitial(call->args))))
		return false;
	*name = linitial(call->args);
	return !(*name)->constisnull;
}

/* Do the conditions of the branch have this shape? */
static bool
fits_shape(Query *query, int shape, Index base, Const **name)
{
	List	   *quals = make_ands_implicit((Expr *) query->jointree->quals);
	int			n = 0;

	*name = NULL;
	while (n < lengthof(shapes[shape].conditions) &&
		   shapes[shape].conditions[n].function)
		n++;
	if (list_length(quals) != n)
		return false;
	for (int i = 0; i < n; i++)
	{
		if (!fits_condition(list_nth(quals, i), &shapes[shape].conditions[i],
							base, name))
			return false;
	}
	return true;
}

/* Is the condition base.time = messages.enqueued_at, either way round? */
static bool
joins_times(Node *qual, Index base, AttrNumber time, Index messages)
{
	OpExpr	   *op = (OpExpr *) qual;

	if (qual == NULL || !IsA(qual, OpExpr) || op->opfuncid != F_TIMESTAMPTZ_EQ)
		return false;
	return (cmq_node_is_column(linitial(op->args), base, time) &&
			cmq_node_is_column(lsecond(op->args), messages, Anum_messages_enqueued_at)) ||
		(cmq_node_is_column(lsecond(op->args), base, time) &&
		 cmq_node_is_column(linitial(op->args), messages, Anum_messages_enqueued_at));
}

/* Is the node a call of one of our functions with these columns as its first arguments? */
static bool
is_call(Node *node, const char *function, int nargs, Index varno,
		AttrNumber first, AttrNumber second)
{
	List	   *args = IsA(node, FuncExpr) ? ((FuncExpr *) node)->args : NIL;

	return list_length(args) == nargs &&
		cmq_node_is_column(linitial(args), varno, first) &&
		(second == 0 || cmq_node_is_column(lsecond(args), varno, second)) &&
		is_ours(((FuncExpr *) node)->funcid, function);
}

static bool
is_text(Node *node, const char *word)
{
	Const	   *constant = (Const *) node;

	return IsA(node, Const) && constant->consttype == TEXTOID &&
		!constant->constisnull &&
		strcmp(TextDatumGetCString(constant->constvalue), word) == 0;
}

static bool
is_int(Node *node, int value)
{
	Const	   *constant = (Const *) node;

	return IsA(node, Const) && constant->consttype == INT4OID &&
		!constant->constisnull && DatumGetInt32(constant->constvalue) == value;
}

static bool
is_null(Node *node)
{
	return IsA(node, Const) && ((Const *) node)->constisnull;
}

/* Is the node the call that says in which state a pending row is? */
static bool
is_pending_state(Node *node, Index base, CmqView *view)
{
	List	   *args = IsA(node, FuncExpr) ? ((FuncExpr *) node)->args : NIL;

	return list_length(args) == 3 &&
		is_text(linitial(args), view->queue->name) &&
		cmq_node_is_column(lsecond(args), base, Anum_pending_visible_at) &&
		cmq_node_is_column(lthird(args), base, Anum_pending_receive_count) &&
		is_ours(((FuncExpr *) node)->funcid, "_pending_state");
}

/* What a column of a pending row is in the view. */
static CmqViewKind
kind_of_pending(Node *node, Index base, CmqView *view)
{
	if (cmq_node_is_column(node, base, Anum_pending_visible_at))
		return KIND_COLUMN + CMQ_STATE_VISIBLE_AT;
	if (cmq_node_is_column(node, base, Anum_pending_receive_count))
		return KIND_COLUMN + CMQ_STATE_RECEIVE_COUNT;
	if (cmq_node_is_column(node, base, Anum_pending_rewind_count))
		return KIND_COLUMN + CMQ_STATE_REWIND_COUNT;
	if (is_call(node, "_pending_received_at", 2, base,
				Anum_pending_first_received_at, Anum_pending_receive_count))
		return KIND_COLUMN + CMQ_STATE_FIRST_RECEIVED_AT;
	if (is_pending_state(node, base, view))
		return KIND_COLUMN + CMQ_STATE_WORD;
	return KIND_OTHER;
}

/* The same of a row that a rewind brings back. */
static CmqViewKind
kind_of_due(Node *node, Index base)
{
	OpExpr	   *op = (OpExpr *) node;

	if (is_null(node))
		return KIND_NULL;
	if (is_text(node, "ready"))
		return KIND_COLUMN + CMQ_STATE_WORD;
	if (is_int(node, 0))
		return KIND_COLUMN + CMQ_STATE_RECEIVE_COUNT;
	if (IsA(node, OpExpr) && op->opfuncid == F_INT4PL &&
		cmq_node_is_column(linitial(op->args), base, Anum_rewind_rewind_count) &&
		is_int(lsecond(op->args), 1))
		return KIND_COLUMN + CMQ_STATE_REWIND_COUNT;
	return KIND_OTHER;
}

/* The same of a row of the history. */
static CmqViewKind
kind_of_history(Node *node, Index base)
{
	static const CmqStateColumn columns[] = {
		[Anum_rewind_first_received_at] = CMQ_STATE_FIRST_RECEIVED_AT,
		[Anum_rewind_deleted_at] = CMQ_STATE_DELETED_AT,
		[Anum_rewind_deleted_by] = CMQ_STATE_DELETED_BY,
		[Anum_rewind_receive_count] = CMQ_STATE_RECEIVE_COUNT,
		[Anum_rewind_rewind_count] = CMQ_STATE_REWIND_COUNT
	};

	for (int i = Anum_rewind_first_received_at; i < lengthof(columns); i++)
	{
		if (cmq_node_is_column(node, base, i))
			return KIND_COLUMN + columns[i];
	}
	return KIND_OTHER;
}

/*
 * A column of the message of a row is one of the message table, or, where the row names a
 * topic, of the message in its journal.  The column of the message table; any other node
 * is returned as it is.
 */
Node *
cmq_view_own_column(Node *node, const CmqBranch *branch)
{
	CaseExpr   *choice = (CaseExpr *) node;
	CaseWhen   *when;
	NullTest   *test;

	if (!IsA(node, CaseExpr) || choice->arg || list_length(choice->args) != 1)
		return node;
	when = linitial(choice->args);
	test = (NullTest *) when->expr;
	if (!IsA(test, NullTest) || test->nulltesttype != IS_NULL ||
		!cmq_node_is_column((Node *) test->arg, branch->base,
							branch->state == CMQ_STATE_PENDING ?
							Anum_pending_topic : Anum_rewind_topic) ||
		!IsA(choice->defresult, FuncExpr) ||
		get_func_namespace(((FuncExpr *) choice->defresult)->funcid) !=
		get_namespace_oid(CMQ_SCHEMA, true))
		return node;
	return (Node *) when->result;
}

/* What a column of the branch is. */
static CmqViewKind
kind_of(Node *node, const CmqBranch *branch, AttrNumber time, CmqView *view)
{
	if (!view->queue->has_journals)
		node = cmq_view_own_column(node, branch);
	if (cmq_node_is_column(node, branch->base, time))
		return KIND_TIME;
	if (is_call(node, "msg_id", 1, branch->base, time, 0))
		return KIND_MSG_ID;
	if (cmq_node_is_column(node, branch->messages, Anum_messages_headers))
		return KIND_HEADERS;
	if (cmq_node_is_column(node, branch->messages, Anum_messages_body))
		return KIND_BODY;
	if (view->queue->ordered &&
		cmq_node_is_column(node, branch->messages, Anum_messages_message_group))
		return KIND_GROUP;
	if (cmq_node_has_var_of(node, branch->messages))
		return KIND_BOTH;
	if (branch->state == CMQ_STATE_PENDING)
		return kind_of_pending(node, branch->base, view);
	if (branch->state == CMQ_STATE_DUE)
		return kind_of_due(node, branch->base);
	return kind_of_history(node, branch->base);
}

/* Does FROM have all rows of the table? */
static bool
is_whole_table(RangeTblEntry *rte, Oid relid)
{
	return rte->rtekind == RTE_RELATION && rte->relid == relid && rte->inh &&
		rte->tablesample == NULL && rte->securityQuals == NIL;
}

/*
 * The queue of this name, if the current user may read it and the branch reads its tables.
 * The name stands in a query that anybody may have made up.
 */
static CmqQueue *
find_queue(Const *name, bool pending, const CmqBranch *branch)
{
	CmqQueue   *queue = cmq_queue_find_whole(TextDatumGetCString(name->constvalue));
	List	   *rtable = branch->query->rtable;

	if (queue == NULL || !cmq_rights_is_readable(queue) ||
		cmq_view_relid(rt_fetch(branch->reader, rtable)) !=
		cmq_relation_oid(CMQ_READER_VIEW, queue->name) ||
		!is_whole_table(rt_fetch(branch->messages, rtable), queue->messages) ||
		!is_whole_table(rt_fetch(branch->base, rtable),
						pending ? queue->pending : queue->rewind))
		return NULL;
	return queue;
}

/* Get the three relations of FROM reader, base LEFT JOIN messages; false if it is none. */
static bool
parse_from(Query *query, CmqBranch *branch)
{
	List	   *from = query->jointree->fromlist;
	JoinExpr   *join;

	if (list_length(from) != 2 || !IsA(linitial(from), RangeTblRef) ||
		!IsA(lsecond(from), JoinExpr))
		return false;
	join = lsecond(from);
	if (join->jointype != JOIN_LEFT || !IsA(join->larg, RangeTblRef) ||
		!IsA(join->rarg, RangeTblRef))
		return false;
	branch->query = query;
	branch->join = join;
	branch->reader = ((RangeTblRef *) linitial(from))->rtindex;
	branch->base = ((RangeTblRef *) join->larg)->rtindex;
	branch->messages = ((RangeTblRef *) join->rarg)->rtindex;
	return true;
}

/* Is the query a branch of the view, of a state that comes after those it has? */
static bool
parse_branch(Query *query, CmqView *view, List **kinds)
{
	CmqBranch  *branch = palloc(sizeof(CmqBranch));
	ListCell   *lc;

	if (query->setOperations || !parse_from(query, branch))
		return false;
	for (int i = 0; i < lengthof(shapes); i++)
	{
		Const	   *name;
		CmqQueue   *queue;

		if (shapes[i].state <= view->states ||
			!joins_times(branch->join->quals, branch->base, shapes[i].time,
						 branch->messages) ||
			!fits_shape(query, i, branch->base, &name))
			continue;
		queue = find_queue(name, shapes[i].pending, branch);
		if (queue == NULL ||
			(view->queue && strcmp(queue->name, view->queue->name) != 0))
			return false;
		view->queue = queue;
		branch->depth = view->depth;
		branch->state = shapes[i].state;
		view->states |= branch->state;
		view->branches = lappend(view->branches, branch);
		foreach(lc, query->targetList)
			* kinds = lappend_int(*kinds,
								  kind_of((Node *) ((TargetEntry *) lfirst(lc))->expr,
										  branch, shapes[i].time, view));
		return true;
	}
	return false;
}

bool
cmq_view_needs_messages(CmqViewKind kind)
{
	return kind == KIND_HEADERS || kind == KIND_BODY || kind == KIND_GROUP ||
		kind == KIND_BOTH;
}

/*
 * Does a column of the state also have what branches of these states show there?  A
 * message that a rewind brings back is visible since it was sent.
 */
static bool
includes(CmqViewKind column, CmqViewKind kind, int states)
{
	switch ((int) column - KIND_COLUMN)
	{
		case CMQ_STATE_VISIBLE_AT:
			return (kind == KIND_NULL && states == CMQ_STATE_HISTORY) ||
				(kind == KIND_TIME && states == CMQ_STATE_DUE);
		case CMQ_STATE_FIRST_RECEIVED_AT:
			return kind == KIND_NULL && states == CMQ_STATE_DUE;
		case CMQ_STATE_DELETED_AT:
		case CMQ_STATE_DELETED_BY:
			return kind == KIND_NULL && (states & CMQ_STATE_HISTORY) == 0;
		default:
			return false;
	}
}

/* What a column is that is one thing in branches of some states and another in others. */
static CmqViewKind
merge_kinds(CmqViewKind a, int states_of_a, CmqViewKind b, int states_of_b)
{
	if (a == b)
		return a;
	if (includes(a, b, states_of_b))
		return a;
	if (includes(b, a, states_of_a))
		return b;
	return cmq_view_needs_messages(a) || cmq_view_needs_messages(b) ? KIND_BOTH : KIND_OTHER;
}

static bool parse_query(Query *query, CmqView *view, List **kinds);

static bool
parse_deeper(RangeTblEntry *rte, CmqView *view, List **kinds)
{
	bool		result;

	if (rte->rtekind != RTE_SUBQUERY || rte->security_barrier)
		return false;
	view->depth++;
	result = parse_query(rte->subquery, view, kinds);
	view->depth--;
	return result;
}

static bool
parse_arms(Query *query, List *arms, CmqView *view, List **kinds)
{
	int			others = view->states;
	ListCell   *lc;

	foreach(lc, arms)
	{
		int			states = view->states;
		List	   *of_arm = NIL;

		if (!parse_deeper(rt_fetch(lfirst_int(lc), query->rtable), view, &of_arm))
			return false;
		if (*kinds == NIL)
			*kinds = of_arm;
		for (int i = 0; i < list_length(*kinds); i++)
			lfirst_int(list_nth_cell(*kinds, i)) =
				merge_kinds(list_nth_int(*kinds, i), states & ~others,
							list_nth_int(of_arm, i), view->states & ~states);
	}
	return true;
}

/* The only subquery that the query selects from, all rows; 0 if there is more to it. */
Index
cmq_view_source(Query *query)
{
	List	   *from = query->jointree->fromlist;
	Index		rti;

	if (query->setOperations || query->jointree->quals ||
		list_length(from) != 1 || !IsA(linitial(from), RangeTblRef))
		return 0;
	rti = ((RangeTblRef *) linitial(from))->rtindex;
	return rt_fetch(rti, query->rtable)->rtekind == RTE_SUBQUERY ? rti : 0;
}

/* The columns of a query that shows part of a view, of these states. */
static List *
get_kinds(Query *query, List *of_source, int states)
{
	List	   *kinds = NIL;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		Node	   *expr = (Node *) ((TargetEntry *) lfirst(lc))->expr;
		Var		   *var = (Var *) expr;
		CmqViewKind kind;

		if (IsA(expr, Var) && var->varlevelsup == 0 && var->varattno > 0)
			kind = list_nth_int(of_source, var->varattno - 1);
		else if (is_null(expr))
			kind = KIND_NULL;
		else if (states == CMQ_STATE_HISTORY && is_text(expr, "deleted"))
			kind = KIND_COLUMN + CMQ_STATE_WORD;
		else
			kind = contain_vars_of_level(expr, 0) ? KIND_BOTH : KIND_OTHER;
		kinds = lappend_int(kinds, kind);
	}
	return kinds;
}

/* Is the query part of a view of ours?  Adds its branches; gets what its columns are. */
static bool
parse_query(Query *query, CmqView *view, List **kinds)
{
	List	   *arms = NIL;
	List	   *of_source = NIL;
	Index		source;
	int			states;

	check_stack_depth();
	if (!is_bare_select(query))
		return false;
	if (query->setOperations)
		return cmq_node_is_union_all(query->setOperations, &arms) &&
			parse_arms(query, arms, view, kinds);
	source = cmq_view_source(query);
	if (source == 0)
		return parse_branch(query, view, kinds);
	states = view->states;
	if (!parse_deeper(rt_fetch(source, query->rtable), view, &of_source))
		return false;
	*kinds = get_kinds(query, of_source, view->states & ~states);
	return true;
}

/* The view of a queue that has these states. */
static CmqRelation
view_of_states(int states)
{
	switch (states)
	{
		case CMQ_STATE_PENDING | CMQ_STATE_DUE:
			return CMQ_LIVE_VIEW;
		case CMQ_STATE_HISTORY:
			return CMQ_HISTORY_VIEW;
		case CMQ_STATE_PENDING | CMQ_STATE_DUE | CMQ_STATE_HISTORY:
			return CMQ_ALL_VIEW;
		default:
			return CMQ_RIGHTS;	/* none: that is not made of branches */
	}
}

/* Is this one of the views of a queue, as it was made, that the current user may read? */
bool
cmq_view_parse(RangeTblEntry *rte, CmqView *view)
{
	memset(view, 0, sizeof(*view));
	view->relid = cmq_view_relid(rte);
	if (!OidIsValid(view->relid) || rte->security_barrier ||
		!parse_query(rte->subquery, view, &view->kinds))
		return false;
	return view->relid == cmq_relation_oid(view_of_states(view->states),
										   view->queue->name);
}
