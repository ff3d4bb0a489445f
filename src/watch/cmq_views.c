/*-------------------------------------------------------------------------
 *
 * cmq_views.c
 *	  The functions that the views of a queue are made of, and the planner
 *	  support that keeps what the views read from roles without SELECT.
 *
 * Everybody who may use schema cmq may name the views.  They read the queue's
 * tables as the queue's owner.  Two locks keep roles without SELECT on
 * cmq.q_<queue> out:
 *
 * 1. While planning.  cmq._readable() has a support function that raises 42501;
 *	  for a reader it becomes true and leaves nothing in the plan.  The planner
 *	  simplifies the quals of each (sub)query before it estimates anything by the
 *	  statistics of tables; the view's own quals are part of each (sub)query that
 *	  reads its tables.  So no operator or function of the caller's sees a value
 *	  of these statistics, and EXPLAIN tells no estimate.
 * 2. At the start of the executor.  Each view joins cmq_data.v_<queue>, a
 *	  security_invoker view of cmq.q_<queue>.  That one is a constant, so the plan
 *	  has no join; but the server checks SELECT on cmq.q_<queue> for the current
 *	  user each time.  So it refuses a plan that another role has made, or that
 *	  was made before a REVOKE.
 *
 * The bounds of the rewind window and the rewind under way are put into the plan
 * as constants.  Each plan made so depends on cmq.q_<queue>: whatever changes the
 * queue's row sends an invalidation of it, and the plan is made anew.  A bound
 * only moves forward while the row stays as it is, so one that was right when
 * the plan was made keeps nothing out later; cmq._since() and cmq._expired_before()
 * have the present bounds at run time.
 *
 * Ways to break it, and the answers:
 *	- The name of the queue is no constant: nothing is simplified, and the function
 *	  checks at run time.  In the views the name is a constant.
 *	- A condition that is simplified to false leaves no plan: then nothing is
 *	  estimated and nothing is read.
 *	- The view is replaced by its owner: then it is the owner's own view.
 *
 * Everything here only reads, and works on a standby and in parallel workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation_d.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/supportnodes.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_names.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "watch/cmq_message_state.h"
#include "watch/cmq_nodes.h"
#include "watch/cmq_views.h"

PG_FUNCTION_INFO_V1(cmq_readable);
PG_FUNCTION_INFO_V1(cmq_readable_support);
PG_FUNCTION_INFO_V1(cmq_clock);
PG_FUNCTION_INFO_V1(cmq_expired_before);
PG_FUNCTION_INFO_V1(cmq_since);
PG_FUNCTION_INFO_V1(cmq_pending_state);
PG_FUNCTION_INFO_V1(cmq_unexpired);
PG_FUNCTION_INFO_V1(cmq_unexpired_support);
PG_FUNCTION_INFO_V1(cmq_rewindable);
PG_FUNCTION_INFO_V1(cmq_rewindable_support);
PG_FUNCTION_INFO_V1(cmq_due);
PG_FUNCTION_INFO_V1(cmq_due_support);

/* What cmq._since() or cmq._expired_before() has found out. */
typedef struct Found
{
	TimestampTz statement;		/* for this statement ... */
	Oid			user;			/* ... user ... */
	char		queue[NAMEDATALEN]; /* ... and queue ... */
	bool		name_is_constant;	/* ... which is always this one */
	TimestampTz bound;
} Found;

/* A bound of a queue, at a time of the queue clock; or that time itself. */
typedef TimestampTz (*GetBound) (CmqQueue *queue, TimestampTz now);

/* Look up a queue that the current user may read; raises 42501 if not. */
static CmqQueue *
queue_arg(FunctionCallInfo fcinfo)
{
	return cmq_queue_lookup(cmq_queue_name_arg(fcinfo, 0), ACL_SELECT);
}

/*
 * The queue that a call to be simplified names; from here on the plan depends on it.
 * NULL if the call cannot be simplified.  Raises 42501 unless the current user may read
 * the queue.
 */
static CmqQueue *
queue_to_simplify(Node *node, SupportRequestSimplify **request)
{
	Const	   *name;
	CmqQueue   *queue;

	if (!IsA(node, SupportRequestSimplify))
		return NULL;
	*request = (SupportRequestSimplify *) node;
	name = linitial((*request)->fcall->args);
	if (!IsA(name, Const) || name->constisnull)
		return NULL;
	queue = cmq_queue_lookup(TextDatumGetCString(name->constvalue), ACL_SELECT);

	/* there is no plan that an invalidation could reach */
	if ((*request)->root == NULL)
		return NULL;
	(*request)->root->glob->relationOids =
		lappend_oid((*request)->root->glob->relationOids, queue->relid);
	return queue;
}

/* The operator of pg_catalog of this name, for two values of the type. */
static Oid
find_operator(const char *op, Oid type)
{
	return OpernameGetOprid(list_make2(makeString("pg_catalog"),
									   makeString(pstrdup(op))), type, type);
}

/* left op right, for two times. */
static Expr *
make_comparison(const char *op, Node *left, Node *right)
{
	return (Expr *) cmq_node_compare(find_operator(op, TIMESTAMPTZOID),
									 copyObject(left), right);
}

/* left op time */
static Expr *
compare_with(const char *op, Node *left, TimestampTz time)
{
	Const	   *constant = makeConst(TIMESTAMPTZOID, -1, InvalidOid,
									 sizeof(TimestampTz),
									 TimestampTzGetDatum(time), false,
									 FLOAT8PASSBYVAL);

	return make_comparison(op, left, (Node *) constant);
}

Datum
cmq_readable(PG_FUNCTION_ARGS)
{
	(void) queue_arg(fcinfo);
	PG_RETURN_BOOL(true);
}

Datum
cmq_readable_support(PG_FUNCTION_ARGS)
{
	SupportRequestSimplify *request;

	if (queue_to_simplify((Node *) PG_GETARG_POINTER(0), &request) == NULL)
		PG_RETURN_POINTER(NULL);
	PG_RETURN_POINTER(makeBoolConst(true, false));
}

Datum
cmq_clock(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(cmq_queue_now(queue_arg(fcinfo)));
}

static bool
is_same(const Found *found, TimestampTz statement, text *name)
{
	return found->statement == statement && found->user == GetUserId() &&
		(found->name_is_constant ||
		 (strlen(found->queue) == VARSIZE_ANY_EXHDR(name) &&
		  memcmp(found->queue, VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) == 0));
}

/* Called for each row: looks once per statement, for one queue. */
static TimestampTz
find_bound(FunctionCallInfo fcinfo, GetBound get_bound)
{
	Found	   *found = fcinfo->flinfo->fn_extra;
	TimestampTz statement = GetCurrentStatementStartTimestamp();

	if (found == NULL || !is_same(found, statement, PG_GETARG_TEXT_PP(0)))
	{
		CmqQueue   *queue = queue_arg(fcinfo);

		if (found == NULL)
			found = fcinfo->flinfo->fn_extra =
				MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(Found));
		found->bound = get_bound(queue, cmq_queue_now(queue));
		found->statement = statement;
		found->user = GetUserId();
		strlcpy(found->queue, queue->name, NAMEDATALEN);
		found->name_is_constant = cmq_is_constant_arg(fcinfo, 0);
	}
	return found->bound;
}

Datum
cmq_expired_before(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(find_bound(fcinfo, cmq_bounds_expired_before));
}

Datum
cmq_since(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(find_bound(fcinfo, cmq_bounds_rewindable_since));
}

static TimestampTz
get_clock(CmqQueue *queue, TimestampTz now)
{
	return now;
}

/* What the live view shows as the state of a pending row, as of the first row. */
Datum
cmq_pending_state(PG_FUNCTION_ARGS)
{
	TimestampTz now = find_bound(fcinfo, get_clock);

	PG_RETURN_TEXT_P(cstring_to_text(cmq_pending_word(PG_GETARG_TIMESTAMPTZ(1),
													  PG_GETARG_INT32(2), now)));
}

/* time >= function(queue) */
static Expr *
make_bound_at_run_time(const char *function, Node *name, Node *time)
{
	Oid			type = TEXTOID;
	FuncExpr   *call = makeFuncExpr(cmq_function_oid(function, 1, &type),
									TIMESTAMPTZOID,
									list_make1(copyObject(name)), InvalidOid,
									DEFAULT_COLLATION_OID,
									COERCE_EXPLICIT_CALL);

	return make_comparison(">=", time, (Node *) call);
}

Datum
cmq_unexpired(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue = queue_arg(fcinfo);

	PG_RETURN_BOOL(PG_GETARG_TIMESTAMPTZ(1) >=
				   cmq_bounds_expired_before(queue, cmq_queue_now(queue)));
}

Datum
cmq_unexpired_support(PG_FUNCTION_ARGS)
{
	SupportRequestSimplify *request;
	CmqQueue   *queue = queue_to_simplify((Node *) PG_GETARG_POINTER(0),
										  &request);
	List	   *args;

	if (queue == NULL)
		PG_RETURN_POINTER(NULL);

	/* without the bound now: it would prune no leaf that is there for long */
	args = request->fcall->args;
	PG_RETURN_POINTER(make_bound_at_run_time("_expired_before", linitial(args),
											 lsecond(args)));
}

Datum
cmq_rewindable(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue = queue_arg(fcinfo);

	PG_RETURN_BOOL(PG_GETARG_TIMESTAMPTZ(1) >=
				   cmq_bounds_rewindable_since(queue, cmq_queue_now(queue)) &&
				   !cmq_bounds_has_forgotten(queue, PG_GETARG_TIMESTAMPTZ(2)));
}

Datum
cmq_rewindable_support(PG_FUNCTION_ARGS)
{
	SupportRequestSimplify *request;
	CmqQueue   *queue = queue_to_simplify((Node *) PG_GETARG_POINTER(0),
										  &request);
	List	   *args;
	List	   *conditions;

	if (queue == NULL)
		PG_RETURN_POINTER(NULL);
	args = request->fcall->args;
	conditions = list_make2(compare_with(">=", lsecond(args),
										 cmq_bounds_rewindable_since(queue,
																	 cmq_queue_now(queue))),
							make_bound_at_run_time("_since", linitial(args),
												   lsecond(args)));
	if (!TIMESTAMP_IS_NOBEGIN(queue->history_since))
		conditions = lappend(conditions,
							 compare_with(">=", lthird(args),
										  queue->history_since));
	PG_RETURN_POINTER(makeBoolExpr(AND_EXPR, conditions, -1));
}

Datum
cmq_due(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue = queue_arg(fcinfo);

	PG_RETURN_BOOL(cmq_bounds_is_due(&queue->rewinding,
									 PG_GETARG_TIMESTAMPTZ(1),
									 PG_GETARG_TIMESTAMPTZ(2),
									 PG_GETARG_INT64(3)));
}

/* value <> ALL (the transactions that were open at the rewind) */
static Expr *
make_not_concurrent(const CmqRewind *rewinding, Node *value)
{
	ScalarArrayOpExpr *expr = makeNode(ScalarArrayOpExpr);
	Datum	   *elements = palloc(rewinding->nconcurrent * sizeof(Datum));
	ArrayType  *array;

	for (int i = 0; i < rewinding->nconcurrent; i++)
		elements[i] = Int64GetDatum(rewinding->concurrent[i]);
	array = construct_array(elements, rewinding->nconcurrent, INT8OID,
							sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	expr->opno = find_operator("<>", INT8OID);
	expr->useOr = false;
	expr->args = list_make2(copyObject(value),
							makeConst(INT8ARRAYOID, -1, InvalidOid, -1,
									  PointerGetDatum(array), false, false));
	expr->location = -1;
	set_sa_opfuncid(expr);
	return (Expr *) expr;
}

/* cmq_bounds_is_due() as a condition, for these arguments of cmq._due(). */
Node *
cmq_views_simplify_due(CmqQueue *queue, List *args)
{
	const CmqRewind *rewinding = &queue->rewinding;
	List	   *conditions;

	if (!rewinding->active)
		return makeBoolConst(false, false);
	conditions = list_make2(compare_with(">=", lsecond(args), rewinding->from),
							compare_with("<", lthird(args),
										 rewinding->rewound_at));
	if (!TIMESTAMP_IS_NOBEGIN(rewinding->since))
		conditions = lappend(conditions,
							 compare_with(">=", lthird(args), rewinding->since));
	if (rewinding->nconcurrent > 0)
		conditions = lappend(conditions,
							 make_not_concurrent(rewinding, lfourth(args)));
	return (Node *) makeBoolExpr(AND_EXPR, conditions, -1);
}

Datum
cmq_due_support(PG_FUNCTION_ARGS)
{
	SupportRequestSimplify *request;
	CmqQueue   *queue = queue_to_simplify((Node *) PG_GETARG_POINTER(0),
										  &request);

	if (queue == NULL)
		PG_RETURN_POINTER(NULL);
	PG_RETURN_POINTER(cmq_views_simplify_due(queue, request->fcall->args));
}
