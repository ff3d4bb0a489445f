/*-------------------------------------------------------------------------
 *
 * cmq_try.c
 *	  Calls for one queue that must not end the work on others.
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

#include "base/cmq_try.h"

/*
 * Is the error a cancel?  Any function can raise the code of one; where the error
 * was raised it cannot say.
 */
static bool
is_cancel(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED && error->funcname &&
		strcmp(error->funcname, "ProcessInterrupts") == 0;
}

/* When a call that has succeeded is undone. */
typedef enum Undo
{
	UNDO_NEVER,
	UNDO_UNWRITTEN,
	UNDO_ALWAYS
} Undo;

/*
 * Call func for a queue in a subtransaction, where an error must not end the work
 * on others: then what it did is undone, and false returned, with a warning if
 * that is wanted.  what names the work.  A cancel is raised again, unless is_over
 * says that it is the end of the caller's own limit.  What is to be undone, in any
 * case or when nothing was written, leaves no locks.
 */
static bool
try_call(const char *name, const char *what,
		 void (*func) (const char *name, void *arg), void *arg,
		 bool warn, bool (*is_over) (void), Undo undo)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext work;
	volatile bool ok = false;

	/* what an error leaves behind goes with this */
	work = AllocSetContextCreate(context, "cmq try", ALLOCSET_DEFAULT_SIZES);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(work);
	PG_TRY();
	{
		func(name, arg);
		if (undo == UNDO_ALWAYS ||
			(undo == UNDO_UNWRITTEN &&
			 !TransactionIdIsValid(GetCurrentTransactionIdIfAny())))
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		ok = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;
		bool		over;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		over = is_over && is_over();
		if (is_cancel(error) && !over)
			ReThrowError(error);
		if (warn)
			ereport(WARNING,
					(errcode(error->sqlerrcode),
					 errmsg("%s of queue \"%s\" failed: %s", what, name,
							over ? "its time limit is over" : error->message),
					 error->detail ? errdetail_internal("%s", error->detail) : 0,
					 error->hint ? errhint("%s", error->hint) : 0));
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextDelete(work);
	return ok;
}

/* A try with a limit of the caller's: is_over says whether it has been reached. */
bool
cmq_try_until(const char *name, const char *what,
					void (*func) (const char *name, void *arg), void *arg,
					bool warn, bool (*is_over) (void))
{
	return try_call(name, what, func, arg, warn, is_over, UNDO_NEVER);
}

/* A try without. */
bool
cmq_try(const char *name, const char *what,
			  void (*func) (const char *name, void *arg), void *arg, bool warn)
{
	return try_call(name, what, func, arg, warn, NULL, UNDO_NEVER);
}

/* A try that leaves no locks behind if it has written nothing. */
bool
cmq_try_light(const char *name, const char *what,
					void (*func) (const char *name, void *arg), void *arg,
					bool warn)
{
	return try_call(name, what, func, arg, warn, NULL, UNDO_UNWRITTEN);
}

/* A look, which leaves no locks behind. */
bool
cmq_look(const char *name, const char *what,
			   void (*func) (const char *name, void *arg), void *arg, bool warn)
{
	return try_call(name, what, func, arg, warn, NULL, UNDO_ALWAYS);
}
