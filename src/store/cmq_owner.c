/*-------------------------------------------------------------------------
 *
 * cmq_owner.c
 *	  Run what may run code of a queue's owner, in the midst of somebody else's
 *	  session.
 *
 * The server's restricted security context keeps such code from becoming another role,
 * and from leaving temporary tables and prepared statements behind.  It leaves two
 * things of the session within reach, which are kept from the code here:
 *	- Cursors.  Code could read from an open cursor of the caller's, or close that
 *	  cursor and open another one of its name: the new cursor's query would run as the
 *	  caller at the caller's next FETCH.  So all open cursors are pinned, which forbids
 *	  to close them, and marked as active, which forbids to read from them; and cursors
 *	  that the code has opened and left are dropped.
 *	- SET CONSTRAINTS, which would fire the caller's deferred triggers at once, is
 *	  refused.
 * docs/rights.md, threat model 5, says what is left.
 *
 * Error: cursors are as they were before the error goes on; role and settings are
 * restored by the server with the (sub)transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "nodes/value.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/portal.h"

#include "memory/cmq_xact.h"
#include "store/cmq_owner.h"

/* A cursor that is kept from the code. */
typedef struct Held
{
	Portal		portal;			/* NULL: it is gone */
	bool		pinned;			/* by us */
	bool		activated;
	SubTransactionId activeSubid;
} Held;

static ProcessUtility_hook_type prev_ProcessUtility_hook = NULL;

/*
 * Until cmq_owner_leave() all is done as the owner in a restricted security context, or
 * as the current user if no owner is given; with search_path pinned.  An error undoes
 * all of it with the (sub)transaction.
 */
void
cmq_owner_enter(CmqOwnerScope *scope, Oid owner)
{
	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	if (OidIsValid(owner))
		SetUserIdAndSecContext(owner, scope->sec_context |
							   SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
	scope->nestlevel = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

void
cmq_owner_leave(const CmqOwnerScope *scope)
{
	AtEOXact_GUC(false, scope->nestlevel);
	SetUserIdAndSecContext(scope->userid, scope->sec_context);
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString,
				bool readOnlyTree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *queryEnv,
				DestReceiver *dest, QueryCompletion *qc)
{
	/* it would fire deferred triggers of the caller's */
	if (cmq_xact_in_code() && IsA(pstmt->utilityStmt, ConstraintsSetStmt))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot execute SET CONSTRAINTS in a function of an index of a queue")));
	if (prev_ProcessUtility_hook)
		prev_ProcessUtility_hook(pstmt, queryString, readOnlyTree, context,
								 params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
}

void
cmq_owner_install_hook(void)
{
	prev_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}

/* The names of all open cursors, as Strings, palloc'd. */
static List *
list_cursors(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *names = NIL;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute("SELECT name FROM pg_catalog.pg_cursor()", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list cursors");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		names = lappend(names,
						makeString(pstrdup(SPI_getvalue(SPI_tuptable->vals[i],
														SPI_tuptable->tupdesc, 1))));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return names;
}

static void
hold(Held *held, const char *name)
{
	Portal		portal = GetPortalByName(name);

	held->portal = portal;
	if (portal == NULL)
		return;
	held->activeSubid = portal->activeSubid;
	held->pinned = !portal->portalPinned;
	held->activated = portal->status == PORTAL_READY;
	if (held->pinned)
		PinPortal(portal);
	if (held->activated)
		MarkPortalActive(portal);
}

static void
release(const Held *held)
{
	if (held->portal == NULL)
		return;
	if (held->activated)
		held->portal->status = PORTAL_READY;
	if (held->pinned)
		UnpinPortal(held->portal);
	held->portal->activeSubid = held->activeSubid;
}

/* Drop the cursors that were not there before. */
static void
drop_new_cursors(List *before)
{
	ListCell   *lc;

	foreach(lc, list_cursors())
	{
		Portal		portal = GetPortalByName(strVal(lfirst(lc)));

		if (portal == NULL || list_member(before, lfirst(lc)) ||
			portal->status == PORTAL_ACTIVE)
			continue;
		/* some languages pin theirs */
		if (portal->portalPinned)
			UnpinPortal(portal);
		PortalDrop(portal, false);
	}
}

/* Call func(arg) as the owner, whose code it may run.  Raises what that raises. */
void
cmq_owner_call(Oid owner, void (*func) (void *arg), void *arg)
{
	List	   *before = list_cursors();
	int			n = list_length(before);
	Held	   *held = palloc0(sizeof(Held) * Max(n, 1));
	CmqOwnerScope scope;

	cmq_owner_enter(&scope, owner);
	cmq_xact_enter_code();
	PG_TRY();
	{
		for (int i = 0; i < n; i++)
			hold(&held[i], strVal(list_nth(before, i)));
		func(arg);
	}
	PG_FINALLY();
	{
		cmq_xact_leave_code();
		for (int i = 0; i < n; i++)
			release(&held[i]);
	}
	PG_END_TRY();
	drop_new_cursors(before);
	cmq_owner_leave(&scope);
	pfree(held);
	list_free_deep(before);
}
