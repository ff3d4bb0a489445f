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
 *	  cmq_view_shape.c.  A view that its owner has changed is planned as it stands.
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

#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "base/cmq_settings.h"
#include "store/cmq_counting.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "store/cmq_scan.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "watch/cmq_message_state.h"
#include "watch/cmq_nodes.h"
#include "watch/cmq_plan_ids.h"
#include "watch/cmq_planner.h"
#include "watch/cmq_view_shape.h"
#include "watch/cmq_view_ways.h"

/* What planning has to know of the whole statement. */
typedef struct Help
{
	bool		joins;			/* both tables of a view are read */
	bool		limit;			/* somewhere only the first rows are wanted */
} Help;

static planner_hook_type prev_planner_hook = NULL;

/*
 * 2. Which columns are used.
 *
 * A set of columns has a member for each, by number; 0 stands for all of them
 * (cmq_way_is_used()).
 */

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

	/* an unwanted column is not used, but an expression might have effects */
	copy.targetList = NIL;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk || tle->ressortgroupref != 0 ||
			!IsA(tle->expr, Var) || cmq_way_is_used(wanted, tle->resno))
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
get_bound(OpExpr *op, Index rti, CmqBound *bound)
{
	Node	   *column;
	Var		   *var;

	bound->opno = cmq_node_sides(op, &column, &bound->value);
	var = (Var *) column;
	if (!IsA(column, Var) || var->varno != rti || var->varlevelsup > 0 ||
		var->varattno <= 0 || var->vartype != TIMESTAMPTZOID ||
		!OidIsValid(bound->opno))
		return false;
	bound->attno = var->varattno;
	return op_in_opfamily(bound->opno, cmq_node_times_family()) &&
		cmq_node_is_constant(bound->value) && !checkExprHasSubLink(bound->value);
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
		CmqBound   *bound = palloc(sizeof(CmqBound));

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
	if (!cmq_node_is_plain_select(query))
		return bounds;
	foreach(lc, outer)
	{
		CmqBound   *bound = lfirst(lc);
		TargetEntry *tle = get_tle_by_resno(query->targetList, bound->attno);
		Var		   *var = tle ? (Var *) tle->expr : NULL;

		if (var && IsA(var, Var) && cmq_node_is_column((Node *) var, rti, var->varattno))
		{
			bound = memcpy(palloc(sizeof(CmqBound)), bound, sizeof(CmqBound));
			bound->attno = var->varattno;
			bounds = lappend(bounds, bound);
		}
	}
	return bounds;
}

/* The same bounds, for use in a query one level deeper. */
static List *
deepen_bounds(List *bounds)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, bounds)
	{
		CmqBound   *bound = memcpy(palloc(sizeof(CmqBound)), lfirst(lc), sizeof(CmqBound));

		bound->value = cmq_way_deepen_value(bound, 1);
		result = lappend(result, bound);
	}
	return result;
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
wants_most(const CmqView *view, const Numbers *n)
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
get_uses(const CmqView *view, Bitmapset *used)
{
	Uses		uses = {0};

	for (int i = 0; i < list_length(view->kinds); i++)
	{
		CmqViewKind kind = list_nth_int(view->kinds, i);

		if (!cmq_way_is_used(used, i + 1))
			continue;
		uses.messages |= cmq_view_needs_messages(kind);
		uses.columns |= kind >= KIND_COLUMN;
		uses.others |= kind == KIND_OTHER || kind == KIND_BOTH;
		uses.times |= kind == KIND_TIME || kind == KIND_MSG_ID;
	}
	return uses;
}

/* Is one of the bounds on the time of the messages? */
static bool
has_bound_of_time(const CmqView *view, List *bounds)
{
	ListCell   *lc;

	foreach(lc, bounds)
	{
		if (list_nth_int(view->kinds, ((CmqBound *) lfirst(lc))->attno - 1) == KIND_TIME)
			return true;
	}
	return false;
}

/* Do conditions of the query, which the tables of states might help with, look at states? */
static bool
filters_by_state(Query *query, Index rti, const CmqView *view)
{
	Search		search = {.query = query,.rti = rti};

	(void) search_node((Node *) query->jointree, &search);
	return get_uses(view, search.columns).columns;
}

/* Does the query want the first or the last time, or the like? */
static bool
aggregates_times(Query *query, Index rti, const CmqView *view)
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
is_for_messages(Query *query, Index rti, const CmqView *view, const Uses *uses,
				List *bounds)
{
	bool		unordered = view->states != CMQ_STATE_HISTORY;
	bool		alone = list_length(query->jointree->fromlist) == 1 &&
		IsA(linitial(query->jointree->fromlist), RangeTblRef);
	bool		bounded = has_bound_of_time(view, bounds);
	bool		first_rows = wants_first_rows(query);
	bool		ordered = first_rows || aggregates_times(query, rti, view);
	Numbers		n;

	/* some messages are in other tables, too */
	if (view->queue->has_journals)
		return false;
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

/* Choose the way to read a view of which these columns are used. */
static void
help_view(Query *query, Index rti, CmqView *view, Bitmapset *used, List *bounds,
		  Help *help)
{
	RangeTblEntry *rte = rt_fetch(rti, query->rtable);
	Uses		uses = get_uses(view, used);

	cmq_way_settle_rewind(rte, view);
	if (is_for_messages(query, rti, view, &uses, bounds))
		cmq_way_messages(rte, view);
	else if (uses.messages)
	{
		cmq_way_both(view, bounds);
		help->joins = true;
	}
	else
		cmq_way_states(rte, view, used);
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

	if (!cmq_node_is_union_all(query->setOperations, &arms))
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

	return cmq_node_is_plain_select(query) && cmq_node_is_union_all(query->setOperations, &arms) ?
		bounds : NIL;
}

static void
help_subquery(Query *query, Index rti, Bitmapset *used, List *bounds,
			  Help *help)
{
	RangeTblEntry *rte = rt_fetch(rti, query->rtable);
	CmqView		view;

	if (is_locked(query, rti))
		return;
	if (rte->security_barrier)
		bounds = NIL;
	bounds = deepen_bounds(bounds);
	if (!cmq_view_parse(rte, &view))
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
		cmq_plan_ids(parse);
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
