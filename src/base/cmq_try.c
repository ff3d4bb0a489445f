/*-------------------------------------------------------------------------
 *
 * cmq_try.c
 *	  Calls that must not end the work on others.
 *
 * Each runs in a subtransaction.  An error undoes what the call did, and becomes a
 * warning or nothing; a cancel goes on to the caller.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/cmq_args.h"
#include "base/cmq_try.h"

/*
 * Is the error a cancel?  Any function can raise the SQLSTATE of one, but it cannot
 * choose the C function that the error names.
 */
static bool
is_cancel(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED && error->funcname &&
		strcmp(error->funcname, "ProcessInterrupts") == 0;
}

/*
 * Call func(name, arg) in a subtransaction.  Returns the error that has ended it,
 * palloc'd, a cancel too; or NULL.
 */
ErrorData *
cmq_try_error(const char *name, void (*func) (const char *name, void *arg),
			  void *arg, int flags)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext work;
	ErrorData  *volatile error = NULL;

	/* for what an error leaves behind */
	work = AllocSetContextCreate(context, "cmq try", ALLOCSET_DEFAULT_SIZES);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(work);
	PG_TRY();
	{
		func(name, arg);
		if ((flags & CMQ_TRY_UNDO) ||
			((flags & CMQ_TRY_LIGHT) &&
			 !TransactionIdIsValid(GetCurrentTransactionIdIfAny())))
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	MemoryContextDelete(work);
	return error;
}

/*
 * Go on after an error of a call for the queue of this name, with a warning if that is
 * wanted; what names the work.  A cancel is raised again, unless it says that the
 * caller's own limit is over.
 */
void
cmq_try_forgive(ErrorData *error, const char *name, const char *what, int flags,
				bool over)
{
	if (is_cancel(error) && !over)
		ReThrowError(error);
	if (flags & CMQ_TRY_WARN)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("%s of %s \"%s\" failed: %s", what,
						cmq_kind_of(name), cmq_plain(name),
						over ? "its time limit is over" : error->message),
				 error->detail ? errdetail_internal("%s", error->detail) : 0,
				 error->hint ? errhint("%s", error->hint) : 0));
	FreeErrorData(error);
}

/* Call func(name, arg), and go on after an error; true if there was none. */
bool
cmq_try(const char *name, const char *what,
		void (*func) (const char *name, void *arg), void *arg, int flags)
{
	ErrorData  *error = cmq_try_error(name, func, arg, flags);

	if (error)
		cmq_try_forgive(error, name, what, flags, false);
	return error == NULL;
}
