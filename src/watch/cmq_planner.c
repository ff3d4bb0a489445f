/*-------------------------------------------------------------------------
 *
 * cmq_planner.c
 *	  Help for the planner with the views of queues.
 *
 * A view of a queue joins a table of states, the pending or the rewind table, with the
 * message table.  For a report that is twice the work that one table would be.  Before a
 * statement is planned we look for such views in it, and say what the planner cannot
 * know:
 *
 * 1. Comparisons of msg_id with something constant become comparisons of enqueued_at,
 *	  which is the same instant, has statistics, an index, and partitions.
 * 2. A table of which the statement uses no column is not read.
 *	  - Neither headers nor body: the table of states alone.
 *	  - Where most messages are wanted, and their bodies or headers: the message table
 *		alone.  cmq._in_states() then says of each message whether it is one of them, and
 *		cmq._state_time() and the like have what else is asked for (cmq_message_state.c).
 * 3. Where both are read, conditions on the time go to both, and tables are joined leaf
 *	  by leaf.
 *
 * The invariant: a statement returns the same rows with this help as without it, and
 * asks for the same rights.  So:
 *	- Only what has the shape of our views, to the last condition, is touched: see
 *	  parse_branch().  A view that its owner has changed is planned as it stands.
 *	- Relations stay in the range tables of the views, from which the executor reads the
 *	  rights to check.  Nothing is done for a role that may not read the queue:
 *	  then cmq._readable() raises its error.
 *	- A condition is copied only from where it rejects rows, see collect_bounds().
 *
 * One thing differs, and only after damage: a rewind or pending row without its message,
 * which a view shows with headers and a body of NULL, is not met in the message table.
 *
 * A plan that is kept follows changes as it does without this help: it depends on
 * cmq.q_<queue> by cmq._readable(), and cmq._in_states() looks each time.
 *
 * Locks: none but those that the planner takes anyway; AccessShare, given back at once, on
 * leaves whose size is looked at.  Everything here only reads, and works on a standby and
 * in parallel workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_collation_d.h"
#include "catalog/pg_opfamily_d.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "base/cmq_settings.h"
#include "store/cmq_bounds.h"
#include "store/cmq_counting.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_scan.h"
#include "store/cmq_table.h"
#include "watch/cmq_message_state.h"
#include "watch/cmq_planner.h"
#include "watch/cmq_views.h"

/* What an output column of a view is. */
typedef enum Kind
{
	KIND_NULL,					/* always */
	KIND_MSG_ID,
	KIND_TIME,					/* enqueued_at */
	KIND_HEADERS,
	KIND_BODY,
	KIND_OTHER,					/* what needs the table of states */
	KIND_BOTH,					/* what needs both tables */
	KIND_COLUMN					/* and a CmqStateColumn: that of the state */
} Kind;

/* A SELECT of our own that reads one table of states, joined with the messages. */
typedef struct Branch
{
	Query	   *query;
	int			depth;			/* how many queries deep it is in the view */
	int			state;			/* one of CMQ_STATE_* */
	Index		reader;			/* the view that makes the server check the
								 * rights */
	Index		base;			/* the table of states */
	Index		messages;
	JoinExpr   *join;
} Branch;

typedef struct View
{
	Oid			relid;
	CmqQueue   *queue;
	int			states;			/* of all branches */
	int			depth;			/* of the query that is being parsed */
	List	   *branches;		/* of Branch */
	List	   *kinds;			/* of its columns */
} View;

/* A condition that all rows which matter fulfil: column operator value. */
typedef struct Bound
{
	AttrNumber	attno;
	Oid			opno;			/* a btree comparison of timestamptz */
	Node	   *value;			/* without variables of the query it stands in */
} Bound;

/* What planning has to know of the whole statement. */
typedef struct Help
{
	bool		joins;			/* both tables of a view are read */
	bool		limit;			/* somewhere only the first rows are wanted */
} Help;

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

static planner_hook_type prev_planner_hook = NULL;

/*
 * What the shape of a query says.
 */

static bool
is_ours(Oid funcid, const char *name)
{
	return get_func_namespace(funcid) == get_namespace_oid(CMQ_SCHEMA, true) &&
		strcmp(get_func_name(funcid), name) == 0;
}

/* The default order of times. */
static Oid
times_family(void)
{
	return lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_BTREE_OPFAMILY)->btree_opf;
}

/* Is the node a column of this table? */
static bool
is_column(Node *node, Index varno, AttrNumber attno)
{
	Var		   *var = (Var *) node;

	return IsA(node, Var) && var->varlevelsup == 0 && var->varno == varno &&
		var->varattno == attno;
}

/* Does the query select rows one by one, without anything that looks at several? */
static bool
is_plain_select(Query *query)
{
	return query->commandType == CMD_SELECT && !query->hasAggs &&
		!query->hasWindowFuncs && !query->hasTargetSRFs &&
		query->groupClause == NIL && query->groupingSets == NIL &&
		query->distinctClause == NIL && query->havingQual == NULL &&
		query->limitCount == NULL && query->limitOffset == NULL;
}

/* The same, with nothing else that could change what a view shows. */
static bool
is_bare_select(Query *query)
{
	return is_plain_select(query) && query->cteList == NIL &&
		query->sortClause == NIL && query->rowMarks == NIL;
}

/* Is the set operation UNION ALL in all its parts?  Adds the numbers of its arms. */
static bool
is_union_all(Node *setop, List **arms)
{
	SetOperationStmt *stmt = (SetOperationStmt *) setop;

	if (IsA(setop, RangeTblRef))
	{
		*arms = lappend_int(*arms, ((RangeTblRef *) setop)->rtindex);
		return true;
	}
	return stmt->op == SETOP_UNION && stmt->all &&
		is_union_all(stmt->larg, arms) && is_union_all(stmt->rarg, arms);
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
		if (!is_column(list_nth(call->args, i + 1), base,
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
	return (is_column(linitial(op->args), base, time) &&
			is_column(lsecond(op->args), messages, Anum_messages_enqueued_at)) ||
		(is_column(lsecond(op->args), base, time) &&
		 is_column(linitial(op->args), messages, Anum_messages_enqueued_at));
}

/* Does the node use columns of the table?  In a subquery of its own, too. */
static bool
has_var_of(Node *node, Index varno)
{
	return bms_is_member(varno, pull_varnos(NULL, node));
}

/* Is the node a call of one of our functions with these columns as its first arguments? */
static bool
is_call(Node *node, const char *function, int nargs, Index varno,
		AttrNumber first, AttrNumber second)
{
	List	   *args = IsA(node, FuncExpr) ? ((FuncExpr *) node)->args : NIL;

	return list_length(args) == nargs &&
		is_column(linitial(args), varno, first) &&
		(second == 0 || is_column(lsecond(args), varno, second)) &&
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
is_pending_state(Node *node, Index base, View *view)
{
	List	   *args = IsA(node, FuncExpr) ? ((FuncExpr *) node)->args : NIL;

	return list_length(args) == 3 &&
		is_text(linitial(args), view->queue->name) &&
		is_column(lsecond(args), base, Anum_pending_visible_at) &&
		is_column(lthird(args), base, Anum_pending_receive_count) &&
		is_ours(((FuncExpr *) node)->funcid, "_pending_state");
}

/* What a column of a pending row is in the view. */
static Kind
kind_of_pending(Node *node, Index base, View *view)
{
	if (is_column(node, base, Anum_pending_visible_at))
		return KIND_COLUMN + CMQ_STATE_VISIBLE_AT;
	if (is_column(node, base, Anum_pending_receive_count))
		return KIND_COLUMN + CMQ_STATE_RECEIVE_COUNT;
	if (is_column(node, base, Anum_pending_rewind_count))
		return KIND_COLUMN + CMQ_STATE_REWIND_COUNT;
	if (is_call(node, "_pending_received_at", 2, base,
				Anum_pending_first_received_at, Anum_pending_receive_count))
		return KIND_COLUMN + CMQ_STATE_FIRST_RECEIVED_AT;
	if (is_pending_state(node, base, view))
		return KIND_COLUMN + CMQ_STATE_WORD;
	return KIND_OTHER;
}

/* The same of a row that a rewind brings back. */
static Kind
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
		is_column(linitial(op->args), base, Anum_rewind_rewind_count) &&
		is_int(lsecond(op->args), 1))
		return KIND_COLUMN + CMQ_STATE_REWIND_COUNT;
	return KIND_OTHER;
}

/* The same of a row of the history. */
static Kind
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
		if (is_column(node, base, i))
			return KIND_COLUMN + columns[i];
	}
	return KIND_OTHER;
}

/* What a column of the branch is. */
static Kind
kind_of(Node *node, const Branch *branch, AttrNumber time, View *view)
{
	if (is_column(node, branch->base, time))
		return KIND_TIME;
	if (is_call(node, "msg_id", 1, branch->base, time, 0))
		return KIND_MSG_ID;
	if (is_column(node, branch->messages, Anum_messages_headers))
		return KIND_HEADERS;
	if (is_column(node, branch->messages, Anum_messages_body))
		return KIND_BODY;
	if (has_var_of(node, branch->messages))
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
find_queue(Const *name, bool pending, const Branch *branch)
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
parse_from(Query *query, Branch *branch)
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
parse_branch(Query *query, View *view, List **kinds)
{
	Branch	   *branch = palloc(sizeof(Branch));
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

static bool
needs_messages(Kind kind)
{
	return kind == KIND_HEADERS || kind == KIND_BODY || kind == KIND_BOTH;
}

/*
 * Does a column of the state also have what branches of these states show there?  A
 * message that a rewind brings back is visible since it was sent.
 */
static bool
includes(Kind column, Kind kind, int states)
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
static Kind
merge_kinds(Kind a, int states_of_a, Kind b, int states_of_b)
{
	if (a == b)
		return a;
	if (includes(a, b, states_of_b))
		return a;
	if (includes(b, a, states_of_a))
		return b;
	return needs_messages(a) || needs_messages(b) ? KIND_BOTH : KIND_OTHER;
}

static bool parse_query(Query *query, View *view, List **kinds);

static bool
parse_deeper(RangeTblEntry *rte, View *view, List **kinds)
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
parse_arms(Query *query, List *arms, View *view, List **kinds)
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
static Index
get_source(Query *query)
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
		Kind		kind;

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
parse_query(Query *query, View *view, List **kinds)
{
	List	   *arms = NIL;
	List	   *of_source = NIL;
	Index		source;
	int			states;

	check_stack_depth();
	if (!is_bare_select(query))
		return false;
	if (query->setOperations)
		return is_union_all(query->setOperations, &arms) &&
			parse_arms(query, arms, view, kinds);
	source = get_source(query);
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
static bool
parse_view(RangeTblEntry *rte, View *view)
{
	memset(view, 0, sizeof(*view));
	view->relid = cmq_view_relid(rte);
	if (!OidIsValid(view->relid) || rte->security_barrier ||
		!parse_query(rte->subquery, view, &view->kinds))
		return false;
	return view->relid == cmq_relation_oid(view_of_states(view->states),
										   view->queue->name);
}

/*
 * 1. msg_id becomes enqueued_at.
 */

static AttrNumber find_twin(RangeTblEntry *rte, AttrNumber attno);

/* The column of the query that is this column of one of its tables; 0 if there is none. */
static AttrNumber
find_output(Query *query, Index varno, AttrNumber attno)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk && is_column((Node *) tle->expr, varno, attno))
			return tle->resno;
	}
	return 0;
}

/* The column that has the time of the message whose msg_id this column has, or 0. */
static AttrNumber
find_twin(RangeTblEntry *rte, AttrNumber attno)
{
	View		view;
	TargetEntry *tle;
	Var		   *var;
	AttrNumber	twin;

	if (rte->rtekind != RTE_SUBQUERY || attno <= 0)
		return 0;
	if (parse_view(rte, &view))
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

/* A call of one of our functions with one argument. */
static Node *
make_call(const char *name, Oid argtype, Oid result, Node *arg)
{
	return (Node *) makeFuncExpr(cmq_function_oid(name, 1, &argtype), result,
								 list_make1(arg), InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CALL);
}

/* Is the value the same for all rows of the query? */
static bool
is_constant(Node *value)
{
	return !contain_var_clause(value) && !contain_volatile_functions(value) &&
		!contain_aggs_of_level(value, 0);
}

/* The two sides of a comparison: the one that can be a column of the query first. */
static Oid
get_sides(OpExpr *op, Node **column, Node **value)
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
	return get_opfamily_member(times_family(), TIMESTAMPTZOID,
							   TIMESTAMPTZOID, strategy);
}

static Node *
make_comparison(Oid opno, Node *left, Node *right)
{
	Expr	   *expr = make_opclause(opno, BOOLOID, false, (Expr *) left,
									 (Expr *) right, InvalidOid, InvalidOid);

	set_opfuncid((OpExpr *) expr);
	return (Node *) expr;
}

/* msg_id op value, as a comparison of times; NULL if the node is nothing like it. */
static Node *
compare_times(Query *query, OpExpr *op)
{
	Node	   *left;
	Node	   *right;
	Oid			opno = get_sides(op, &left, &right);
	Oid			righttype;
	Var		   *twin;

	if (!OidIsValid(opno) || !is_constant(right))
		return NULL;
	opno = operator_of_times(opno, &righttype);
	twin = OidIsValid(opno) ? get_twin(query, left) : NULL;
	if (twin == NULL)
		return NULL;
	if (righttype == INT4OID || righttype == INT2OID)
		right = (Node *) makeFuncExpr(righttype == INT4OID ? F_INT8_INT4 : F_INT8_INT2,
									  INT8OID, list_make1(right), InvalidOid,
									  InvalidOid, COERCE_IMPLICIT_CAST);
	return make_comparison(opno, (Node *) twin,
						   make_call("_time_of", INT8OID, TIMESTAMPTZOID, right));
}

/* The same for msg_id = ANY (array). */
static Node *
compare_any_time(Query *query, ScalarArrayOpExpr *op)
{
	ScalarArrayOpExpr *result;
	Var		   *twin;

	if (op->opfuncid != F_INT8EQ || !op->useOr ||
		exprType(lsecond(op->args)) != INT8ARRAYOID ||
		!is_constant(lsecond(op->args)))
		return NULL;
	twin = get_twin(query, linitial(op->args));
	if (twin == NULL)
		return NULL;
	result = makeNode(ScalarArrayOpExpr);
	result->opno = get_opfamily_member(times_family(), TIMESTAMPTZOID,
									   TIMESTAMPTZOID, BTEqualStrategyNumber);
	result->useOr = true;
	result->args = list_make2(twin, make_call("_times_of", INT8ARRAYOID,
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

/*
 * 2. Which columns are used.
 *
 * A set of columns has a member for each, by number; 0 stands for all of them.
 */

static bool
is_used(Bitmapset *columns, AttrNumber attno)
{
	return bms_is_member(0, columns) || bms_is_member(attno, columns);
}

typedef struct Search
{
	Query	   *query;
	Index		rti;			/* whose columns are looked for */
	int			level;			/* how many queries deep we are in it */
	Bitmapset  *columns;		/* found */
} Search;

static bool search_node(Node *node, Search *search);

/* A column of a join stands for columns of what is joined. */
static void
search_join_column(RangeTblEntry *rte, AttrNumber attno, Search *search)
{
	int			level = search->level;

	search->level = 0;
	if (attno > 0)
		(void) search_node(list_nth(rte->joinaliasvars, attno - 1), search);
	else
		(void) search_node((Node *) rte->joinaliasvars, search);
	search->level = level;
}

static bool
search_node(Node *node, Search *search)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		RangeTblEntry *rte;

		if (var->varlevelsup != search->level)
			return false;
		if (var->varno == search->rti)
		{
			search->columns = bms_add_member(search->columns,
											 Max(var->varattno, 0));
			return false;
		}
		rte = rt_fetch(var->varno, search->query->rtable);
		if (rte->rtekind == RTE_JOIN)
			search_join_column(rte, var->varattno, search);
		return false;
	}
	if (IsA(node, Query))
	{
		bool		result;

		search->level++;
		result = query_tree_walker((Query *) node, search_node, search,
								   QTW_IGNORE_JOINALIASES);
		search->level--;
		return result;
	}
	return expression_tree_walker(node, search_node, search);
}

/* The columns of a table that the query uses, if of its own columns these are wanted. */
static Bitmapset *
find_used(Query *query, Index rti, Bitmapset *wanted)
{
	Search		search = {.query = query,.rti = rti};
	Query		copy = *query;
	ListCell   *lc;

	/*
	 * An unwanted column is not used, but an expression might have effects.
	 * What a statement writes is used in any case: others want what it
	 * returns.
	 */
	copy.targetList = NIL;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (query->commandType != CMD_SELECT ||
			tle->resjunk || tle->ressortgroupref != 0 ||
			!IsA(tle->expr, Var) || is_used(wanted, tle->resno))
			copy.targetList = lappend(copy.targetList, tle);
	}
	(void) query_tree_walker(&copy, search_node, &search,
							 QTW_IGNORE_JOINALIASES);
	return search.columns;
}

/*
 * 3. Conditions on the time.
 */

/* The bound that a condition of the query is; false if it is none. */
static bool
get_bound(OpExpr *op, Index rti, Bound *bound)
{
	Node	   *column;
	Var		   *var;

	bound->opno = get_sides(op, &column, &bound->value);
	var = (Var *) column;
	if (!IsA(column, Var) || var->varno != rti || var->varlevelsup > 0 ||
		var->varattno <= 0 || var->vartype != TIMESTAMPTZOID ||
		!OidIsValid(bound->opno))
		return false;
	bound->attno = var->varattno;
	return op_in_opfamily(bound->opno, times_family()) &&
		is_constant(bound->value) && !checkExprHasSubLink(bound->value);
}

/* All conditions that each row of the table must fulfil; a NULL fulfils none. */
static void
collect_bounds(Node *node, Index rti, List **bounds)
{
	ListCell   *lc;

	if (node == NULL)
		return;
	if (IsA(node, FromExpr))
	{
		foreach(lc, ((FromExpr *) node)->fromlist)
			collect_bounds(lfirst(lc), rti, bounds);
		collect_bounds(((FromExpr *) node)->quals, rti, bounds);
	}
	else if (IsA(node, JoinExpr))
	{
		/* the condition of an outer join rejects no row */
		if (((JoinExpr *) node)->jointype == JOIN_INNER)
			collect_bounds(((JoinExpr *) node)->quals, rti, bounds);
		collect_bounds(((JoinExpr *) node)->larg, rti, bounds);
		collect_bounds(((JoinExpr *) node)->rarg, rti, bounds);
	}
	else if (is_andclause(node))
	{
		foreach(lc, ((BoolExpr *) node)->args)
			collect_bounds(lfirst(lc), rti, bounds);
	}
	else if (IsA(node, OpExpr) && list_length(((OpExpr *) node)->args) == 2)
	{
		Bound	   *bound = palloc(sizeof(Bound));

		if (get_bound((OpExpr *) node, rti, bound))
			*bounds = lappend(*bounds, bound);
	}
}

/* The bounds of one of the query's subqueries; outer are those of the query itself. */
static List *
get_bounds(Query *query, Index rti, List *outer)
{
	List	   *bounds = NIL;
	ListCell   *lc;

	/*
	 * the condition of MERGE stands where that of a SELECT does, and rejects
	 * no row
	 */
	if (query->commandType == CMD_MERGE)
		return NIL;
	collect_bounds((Node *) query->jointree, rti, &bounds);
	if (!is_plain_select(query))
		return bounds;
	foreach(lc, outer)
	{
		Bound	   *bound = lfirst(lc);
		TargetEntry *tle = get_tle_by_resno(query->targetList, bound->attno);
		Var		   *var = tle ? (Var *) tle->expr : NULL;

		if (var && IsA(var, Var) && is_column((Node *) var, rti, var->varattno))
		{
			bound = memcpy(palloc(sizeof(Bound)), bound, sizeof(Bound));
			bound->attno = var->varattno;
			bounds = lappend(bounds, bound);
		}
	}
	return bounds;
}

/* The value of a bound, for use in a query that is so many levels deeper. */
static Node *
deepen_value(const Bound *bound, int levels)
{
	Node	   *value = copyObject(bound->value);

	IncrementVarSublevelsUp(value, levels, 0);
	return value;
}

/* The same bounds, for use in a query one level deeper. */
static List *
deepen_bounds(List *bounds)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, bounds)
	{
		Bound	   *bound = memcpy(palloc(sizeof(Bound)), lfirst(lc), sizeof(Bound));

		bound->value = deepen_value(bound, 1);
		result = lappend(result, bound);
	}
	return result;
}

/*
 * The three ways to read a view.
 */

/* Nothing refers to the join any more, and the planner takes its entry for one. */
static void
forget_join(Branch *branch)
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
read_states(Branch *branch)
{
	FromExpr   *from = branch->query->jointree;
	ListCell   *lc;

	from->fromlist = list_make2(linitial(from->fromlist), branch->join->larg);
	forget_join(branch);
	foreach(lc, branch->query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (has_var_of((Node *) tle->expr, branch->messages))
			tle->expr = (Expr *) make_null((Node *) tle->expr);
	}
}

/*
 * The planner computes all columns of each arm of a UNION ALL for each row, used or not.  So
 * those that are not used are taken out of a view that is one.
 */

/* The members of a list whose places, counted from 1, are in the set. */
static List *
keep_members(List *list, Bitmapset *places)
{
	List	   *kept = NIL;

	for (int place = -1; (place = bms_next_member(places, place)) >= 0;)
		kept = lappend(kept, list_nth(list, place - 1));
	return kept;
}

static List *
keep_ints(List *list, Bitmapset *places)
{
	List	   *kept = NIL;

	for (int place = -1; (place = bms_next_member(places, place)) >= 0;)
		kept = lappend_int(kept, list_nth_int(list, place - 1));
	return kept;
}

static List *
keep_oids(List *list, Bitmapset *places)
{
	List	   *kept = NIL;

	for (int place = -1; (place = bms_next_member(places, place)) >= 0;)
		kept = lappend_oid(kept, list_nth_oid(list, place - 1));
	return kept;
}

static void
keep_columns_of_setop(Node *setop, Bitmapset *columns)
{
	SetOperationStmt *stmt = (SetOperationStmt *) setop;

	if (!IsA(setop, SetOperationStmt))
		return;
	stmt->colTypes = keep_oids(stmt->colTypes, columns);
	stmt->colTypmods = keep_ints(stmt->colTypmods, columns);
	stmt->colCollations = keep_oids(stmt->colCollations, columns);
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
	Index		source = get_source(query);
	ListCell   *lc;
	AttrNumber	resno = 0;

	query->targetList = keep_members(query->targetList, columns);
	foreach(lc, query->targetList)
		((TargetEntry *) lfirst(lc))->resno = ++resno;
	if (query->setOperations)
	{
		(void) is_union_all(query->setOperations, &arms);
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

		if (is_used(used, tle->resno))
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

static Node *
make_time_var(Branch *branch)
{
	return (Node *) makeVar(branch->messages, Anum_messages_enqueued_at,
							TIMESTAMPTZOID, -1, InvalidOid, 0);
}

/*
 * cmq._in_states(), with a bound that is a constant: it keeps nothing out that is wanted,
 * because it only moves on while the queue's row stays as it is.
 */
static List *
make_states_quals(Branch *branch, View *view, Node *name)
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

	return list_make2(make_comparison(get_opfamily_member(times_family(),
														  TIMESTAMPTZOID,
														  TIMESTAMPTZOID,
														  BTGreaterEqualStrategyNumber),
									  make_time_var(branch), (Node *) since),
					  makeFuncExpr(funcid, BOOLOID, args, InvalidOid,
								   DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL));
}

/* A call for the column of the state of a message. */
static Node *
make_state_call(Branch *branch, Node *name, CmqStateColumn column)
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
make_column(Branch *branch, View *view, Node *name, Node *expr, int column)
{
	Kind		kind = list_nth_int(view->kinds, column);

	switch (kind)
	{
		case KIND_TIME:
			return make_time_var(branch);
		case KIND_MSG_ID:
			return make_call("msg_id", TIMESTAMPTZOID, INT8OID,
							 make_time_var(branch));
		case KIND_HEADERS:
			return (Node *) makeVar(branch->messages, Anum_messages_headers,
									JSONBOID, -1, InvalidOid, 0);
		case KIND_BODY:
			return (Node *) makeVar(branch->messages, Anum_messages_body,
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
static void
read_messages(RangeTblEntry *rte, View *view)
{
	Branch	   *branch = llast(view->branches);
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
static void
read_both(View *view, List *bounds, Help *help)
{
	ListCell   *lc;
	ListCell   *lc2;

	help->joins = true;
	foreach(lc, view->branches)
	{
		Branch	   *branch = lfirst(lc);
		List	   *quals = list_make1(branch->join->quals);

		foreach(lc2, bounds)
		{
			Bound	   *bound = lfirst(lc2);

			if (list_nth_int(view->kinds, bound->attno - 1) == KIND_TIME)
				quals = lappend(quals,
								make_comparison(bound->opno, make_time_var(branch),
												deepen_value(bound, branch->depth)));
		}
		branch->join->quals = (Node *) make_ands_explicit(quals);
	}
}

/*
 * Choosing the way.
 */

/* A queue with so many pending messages is deep. */
#define DEEP 10000

/* Most messages are so many of all. */
#define MOST 0.4

/* Estimates of numbers of messages. */
typedef struct Numbers
{
	double		pending;
	double		due;
	double		history;
} Numbers;

static Numbers
estimate_numbers(CmqQueue *queue)
{
	Numbers		n = {0};
	int64		npending;

	(void) cmq_queue_now(queue);	/* attaches the shared entry */
	if (RecoveryInProgress() || !cmq_counting_known(queue, &npending))
		npending = cmq_scan_pages(queue, queue->pending, CMQ_PENDING) *
			(BLCKSZ / CMQ_NARROW_ROW_SIZE);
	n.pending = Max(npending, 0);
	for (int i = 0; i < queue->nleaves; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];
		double		rows;
		double		due = 0;

		(void) cmq_scan_estimate(queue, leaf->rewind, CMQ_REWIND,
								 BLCKSZ / CMQ_NARROW_ROW_SIZE, &rows);
		if (queue->rewinding.active && rows > 0)
			due = rows * cmq_scan_part_since(queue, leaf, queue->rewinding.from);
		n.due += due;
		n.history += rows - due;
	}
	return n;
}

/* Are most messages in states of the view? */
static bool
wants_most(const View *view, const Numbers *n)
{
	double		wanted = 0;

	if (view->states & CMQ_STATE_PENDING)
		wanted += n->pending;
	if (view->states & CMQ_STATE_DUE)
		wanted += n->due;
	if (view->states & CMQ_STATE_HISTORY)
		wanted += n->history;
	return wanted >= (n->pending + n->due + n->history) * MOST;
}

/* Of what kinds are the used columns? */
typedef struct Uses
{
	bool		messages;		/* headers, body */
	bool		columns;		/* of the state, by our functions */
	bool		others;			/* only from the table of states */
	bool		times;
} Uses;

static Uses
get_uses(const View *view, Bitmapset *used)
{
	Uses		uses = {0};

	for (int i = 0; i < list_length(view->kinds); i++)
	{
		Kind		kind = list_nth_int(view->kinds, i);

		if (!is_used(used, i + 1))
			continue;
		uses.messages |= needs_messages(kind);
		uses.columns |= kind >= KIND_COLUMN;
		uses.others |= kind == KIND_OTHER || kind == KIND_BOTH;
		uses.times |= kind == KIND_TIME || kind == KIND_MSG_ID;
	}
	return uses;
}

/* Is one of the bounds on the time of the messages? */
static bool
has_bound_of_time(const View *view, List *bounds)
{
	ListCell   *lc;

	foreach(lc, bounds)
	{
		if (list_nth_int(view->kinds, ((Bound *) lfirst(lc))->attno - 1) == KIND_TIME)
			return true;
	}
	return false;
}

/* Do conditions of the query, which the tables of states might help with, look at states? */
static bool
filters_by_state(Query *query, Index rti, const View *view)
{
	Search		search = {.query = query,.rti = rti};

	(void) search_node((Node *) query->jointree, &search);
	return get_uses(view, search.columns).columns;
}

/* Does the query want the first or the last time, or the like? */
static bool
aggregates_times(Query *query, Index rti, const View *view)
{
	Search		search = {.query = query,.rti = rti};

	if (!query->hasAggs || query->groupClause != NIL)
		return false;
	(void) search_node((Node *) query->targetList, &search);
	return get_uses(view, search.columns).times;
}

/* Does the query want the first rows that it meets, or that are in order? */
static bool
wants_first_rows(Query *query)
{
	return query->limitCount != NULL && !query->hasAggs &&
		!query->hasWindowFuncs && query->groupClause == NIL &&
		query->distinctClause == NIL;
}

/*
 * Is the message table alone the best way?  It is, where most messages are wanted and
 * bodies or headers are, too.  It is also where its primary key finds the few that are
 * wanted, or their order, and no other does: the pending table is not ordered by the time
 * of messages, nor is a UNION ALL.
 */
static bool
is_for_messages(Query *query, Index rti, const View *view, const Uses *uses,
				List *bounds)
{
	bool		unordered = view->states != CMQ_STATE_HISTORY;
	bool		alone = list_length(query->jointree->fromlist) == 1 &&
		IsA(linitial(query->jointree->fromlist), RangeTblRef);
	bool		bounded = has_bound_of_time(view, bounds);
	bool		first_rows = wants_first_rows(query);
	bool		ordered = first_rows || aggregates_times(query, rti, view);
	Numbers		n;

	if (uses->others ||
		(uses->columns && filters_by_state(query, rti, view)) ||
		(!uses->messages && !(unordered && (bounded || ordered))))
		return false;

	/*
	 * what is due may stand before the rows that are wanted, and is passed
	 * over there
	 */
	if (view->states == CMQ_STATE_HISTORY && view->queue->rewinding.active &&
		first_rows)
		return false;
	n = estimate_numbers(view->queue);
	if (uses->messages && wants_most(view, &n) &&
		(!uses->columns || alone || unordered))
		return true;
	return unordered &&
		((ordered && alone) || (bounded && n.pending >= DEEP));
}

/* The branch of the view that has this state, or NULL. */
static Branch *
find_branch(View *view, int state)
{
	ListCell   *lc;

	foreach(lc, view->branches)
	{
		Branch	   *branch = lfirst(lc);

		if (branch->state == state)
			return branch;
	}
	return NULL;
}

/* Is the UNION ALL one of these two branches, without a column of another type? */
static bool
is_union_of(Query *query, List *arms, Branch *pending, Branch *due)
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
simplify_due(View *view)
{
	ListCell   *lc;

	foreach(lc, view->branches)
	{
		Branch	   *branch = lfirst(lc);
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
leave_out_due(RangeTblEntry *rte, View *view)
{
	Branch	   *pending = find_branch(view, CMQ_STATE_PENDING);
	Branch	   *due = find_branch(view, CMQ_STATE_DUE);
	Query	   *query = rte->subquery;
	List	   *arms = NIL;
	ListCell   *lc;

	if (pending == NULL || due == NULL)
		return false;
	if (query->setOperations && is_union_all(query->setOperations, &arms) &&
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

/* Choose the way to read a view of which these columns are used. */
static void
help_view(Query *query, Index rti, View *view, Bitmapset *used, List *bounds,
		  Help *help)
{
	RangeTblEntry *rte = rt_fetch(rti, query->rtable);
	Uses		uses = get_uses(view, used);
	ListCell   *lc;

	if (view->states != CMQ_STATE_HISTORY)
		simplify_due(view);
	if ((view->states & CMQ_STATE_DUE) != 0 && !view->queue->rewinding.active)
		(void) leave_out_due(rte, view);
	if (is_for_messages(query, rti, view, &uses, bounds))
		read_messages(rte, view);
	else if (uses.messages)
		read_both(view, bounds, help);
	else
	{
		foreach(lc, view->branches)
			read_states(lfirst(lc));
		if (rte->subquery->setOperations)
			narrow(rte, used);
	}
}

/*
 * The walk through the statement.
 */

static void help_query(Query *query, Bitmapset *wanted, List *bounds,
					   Help *help);

/* Is the table locked by FOR UPDATE or the like?  That wants all of its rows as they are. */
static bool
is_locked(Query *query, Index rti)
{
	ListCell   *lc;

	foreach(lc, query->rowMarks)
	{
		if (((RowMarkClause *) lfirst(lc))->rti == rti)
			return true;
	}
	return false;
}

static bool
help_sublinks(Node *node, Help *help)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		help_query((Query *) node, bms_make_singleton(0), NIL, help);
		return false;
	}
	return expression_tree_walker(node, help_sublinks, help);
}

static bool
refers_to_cte(Node *node, char *name)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
		return ((RangeTblEntry *) node)->rtekind == RTE_CTE &&
			strcmp(((RangeTblEntry *) node)->ctename, name) == 0 &&
			((RangeTblEntry *) node)->ctelevelsup > 0;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, refers_to_cte, name,
								 QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, refers_to_cte, name);
}

/* The columns of a WITH query that are used: all of them unless we see all its users. */
static Bitmapset *
find_used_of_cte(Query *query, CommonTableExpr *cte, Bitmapset *wanted)
{
	Bitmapset  *used = NULL;
	Index		rti = 0;
	ListCell   *lc;

	if (cte->cterecursive ||
		query_tree_walker(query, refers_to_cte, cte->ctename,
						  QTW_EXAMINE_RTES_BEFORE))
		return bms_make_singleton(0);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		rti++;
		if (rte->rtekind == RTE_CTE && rte->ctelevelsup == 0 &&
			strcmp(rte->ctename, cte->ctename) == 0)
			used = bms_union(used, find_used(query, rti, wanted));
	}
	return used;
}

/* What a UNION ALL wants of each arm; what other set operations compare is all wanted. */
static Bitmapset *
get_wanted_of_arms(Query *query, Bitmapset *wanted)
{
	List	   *arms = NIL;
	ListCell   *lc;

	if (!is_union_all(query->setOperations, &arms))
		return bms_make_singleton(0);
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->ressortgroupref != 0)
			wanted = bms_add_member(bms_copy(wanted), tle->resno);
	}
	return wanted;
}

/* Bounds on the result of a UNION ALL are bounds on each arm. */
static List *
get_bounds_of_arms(Query *query, List *bounds)
{
	List	   *arms = NIL;

	return is_plain_select(query) && is_union_all(query->setOperations, &arms) ?
		bounds : NIL;
}

static void
help_subquery(Query *query, Index rti, Bitmapset *used, List *bounds,
			  Help *help)
{
	RangeTblEntry *rte = rt_fetch(rti, query->rtable);
	View		view;

	if (is_locked(query, rti))
		return;
	if (rte->security_barrier)
		bounds = NIL;
	bounds = deepen_bounds(bounds);
	if (!parse_view(rte, &view))
		help_query(rte->subquery, used, bounds, help);
	else
		help_view(query, rti, &view, used, bounds, help);
}

/*
 * Help with all views in the query, of whose columns these are wanted, and whose rows
 * matter only if they fulfil the bounds.
 */
static void
help_query(Query *query, Bitmapset *wanted, List *bounds, Help *help)
{
	Index		rti = 0;
	ListCell   *lc;

	check_stack_depth();
	/* what is written is wanted, whatever the statement returns */
	if (query->commandType != CMD_SELECT)
		wanted = bms_make_singleton(0);
	if (query->limitCount)
		help->limit = true;
	foreach(lc, query->rtable)
	{
		rti++;
		if (((RangeTblEntry *) lfirst(lc))->rtekind != RTE_SUBQUERY)
			continue;
		if (query->setOperations)
			help_subquery(query, rti, get_wanted_of_arms(query, wanted),
						  get_bounds_of_arms(query, bounds), help);
		else
			help_subquery(query, rti, find_used(query, rti, wanted),
						  get_bounds(query, rti, bounds), help);
	}
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		help_query((Query *) cte->ctequery, find_used_of_cte(query, cte, wanted),
				   NIL, help);
	}
	if (query->hasSubLinks)
		(void) query_tree_walker(query, help_sublinks, help,
								 QTW_IGNORE_RC_SUBQUERIES | QTW_IGNORE_JOINALIASES);
}

static bool
is_queue_table(Oid relid)
{
	return get_rel_namespace(relid) == get_namespace_oid(CMQ_DATA_SCHEMA, true);
}

/* Does the statement read a partitioned table of ours?  Most do not, and soon know. */
static bool
reads_queue(Node *node, void *context)
{
	Query	   *query = (Query *) node;
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, reads_queue, context);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if ((rte->rtekind == RTE_RELATION &&
			 rte->relkind == RELKIND_PARTITIONED_TABLE &&
			 is_queue_table(rte->relid)) ||
			(rte->rtekind == RTE_SUBQUERY &&
			 reads_queue((Node *) rte->subquery, context)))
			return true;
	}
	foreach(lc, query->cteList)
	{
		if (reads_queue(((CommonTableExpr *) lfirst(lc))->ctequery, context))
			return true;
	}
	return query->hasSubLinks &&
		query_tree_walker(query, reads_queue, context, QTW_IGNORE_RC_SUBQUERIES);
}

/* To the end of the level of settings. */
static void
set_while_planning(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Settings for planning.  A table of states is a quarter as large as one with the bodies
 * would be, and as much work: so it gets the workers that the other one would get.  Where
 * both tables of a view are read, leaf with leaf is best.  Not where only the first rows
 * are wanted: then the planner would choose the cheapest start for each leaf, which can be
 * a scan of all of it.
 */
static void
set_for_views(const Help *help, int cursorOptions)
{
	set_while_planning("min_parallel_table_scan_size",
					   psprintf("%d", min_parallel_table_scan_size / 4));
	if (help->joins && !help->limit &&
		(cursorOptions & CURSOR_OPT_FAST_PLAN) == 0)
		set_while_planning("enable_partitionwise_join", "on");
}

static PlannedStmt *
plan_statement(CMQ_PLANNER_PARAMS)
{
	Help		help = {0};
	int			nest = 0;
	PlannedStmt *result;

	if (cmq_plan_views && reads_queue((Node *) parse, NULL))
	{
		(void) replace_all_ids((Node *) parse, NULL);
		help_query(parse, bms_make_singleton(0), NIL, &help);
		/* an error ends the level with the transaction or subtransaction */
		nest = NewGUCNestLevel();
		set_for_views(&help, cursorOptions);
	}
	result = prev_planner_hook ? prev_planner_hook(CMQ_PLANNER_ARGS) :
		standard_planner(CMQ_PLANNER_ARGS);
	if (nest > 0)
		AtEOXact_GUC(true, nest);
	return result;
}

void
cmq_planner_install_hook(void)
{
	prev_planner_hook = planner_hook;
	planner_hook = plan_statement;
}
