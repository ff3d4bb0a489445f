/*-------------------------------------------------------------------------
 *
 * cmq_lock.c
 *	  Locks that keep relations of a queue from all others, without holding up traffic.
 *
 * A transaction that waits for a lock holds up all that come behind it.  A query that
 * reads a queue may take hours; and any role that can name a view can have the view
 * locked, and the tables behind it, until the role's transaction ends, by preparing a
 * query on the view that the role may not run.  So the functions here do not wait behind
 * readers: they try a lock for a moment, and give all locks back if another transaction
 * has one of the relations.
 *
 * Behind writers they do wait, for ShareRowExclusive on the pending table, which
 * conflicts with no reader: in constant traffic a lock that is only tried would never be
 * free.  A consumer may keep its transaction open for long, with all other traffic
 * behind the waiting lock.  So the wait ends after LOCK_LINE, and traffic goes on.
 *
 * Locks: as above; the order is that of cmq_queue.c.  Deadlocks: between two tries the
 * transaction holds only what its caller has locked.  If another transaction waits for
 * one of these locks the server finds no deadlock, for a lock that is tried is not waited
 * for; LOCK_WAIT ends that.  Abort: locks go with the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "base/cmq_try.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_wait.h"
#include "store/cmq_lock.h"

/* How often a lock is tried in a row, and how long between. */
#define LOCK_TRIES 10
#define LOCK_DELAY 1000			/* microseconds */

/* How long traffic may stand behind us, and the pause in which it goes on. */
#define LOCK_LINE 100			/* milliseconds */
#define LOCK_PAUSE 200			/* milliseconds */

/* How long all of it may take; less if lock_timeout says so. */
#define LOCK_WAIT 30000			/* milliseconds */

/*
 * Lock a table with its indexes and TOAST against changes, for monitoring, which waits for
 * nobody: false if a lock is not free, or the table is gone.
 */
bool
cmq_lock_to_look(Oid relid)
{
	Relation	rel;
	List	   *others;
	ListCell   *lc;
	bool		ok = true;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		return false;
	others = RelationGetIndexList(rel);
	if (OidIsValid(rel->rd_rel->reltoastrelid))
		others = lappend_oid(others, rel->rd_rel->reltoastrelid);
	relation_close(rel, NoLock);
	foreach(lc, others)
		ok = ok && (get_rel_relkind(lfirst_oid(lc)) == RELKIND_TOASTVALUE ?
					cmq_lock_to_look(lfirst_oid(lc)) :
					ConditionalLockRelationOid(lfirst_oid(lc), AccessShareLock));
	return ok;
}

/* Get a lock if that takes but a moment; false if not. */
bool
cmq_lock_in_mode_briefly(Oid relid, LOCKMODE mode)
{
	for (int i = 0; i < LOCK_TRIES; i++)
	{
		if (ConditionalLockRelationOid(relid, mode))
			return true;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(LOCK_DELAY);
	}
	return false;
}

/* The same for AccessExclusive. */
bool
cmq_lock_briefly(Oid relid)
{
	return cmq_lock_in_mode_briefly(relid, AccessExclusiveLock);
}

/* What one try is to lock, and the relation that somebody has, or InvalidOid. */
typedef struct LockTry
{
	Oid			pending;
	List	   *relids;
	int			saved_timeout;
	Oid			busy;
} LockTry;

static void
lock_all(const char *name, void *arg)
{
	LockTry    *try = arg;
	ListCell   *lc;

	try->busy = try->pending;
	LockTimeout = LOCK_LINE;
	LockRelationOid(try->pending, ShareRowExclusiveLock);
	LockTimeout = try->saved_timeout;
	foreach(lc, try->relids)
	{
		try->busy = lfirst_oid(lc);
		if (!cmq_lock_briefly(try->busy))
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg_internal("relation with OID %u is locked", try->busy)));
	}
	try->busy = InvalidOid;
}

/*
 * Call func(name, arg) in a subtransaction, with no more than LOCK_LINE for each lock; false,
 * and nothing is done, if one is not to be had.  For what others must not wait for, and who
 * has locked the relations may be nobody's friend.  Another error becomes a warning; it is
 * raised again if what, which names the work, is NULL.
 */
bool
cmq_lock_try(const char *name, const char *what,
			 void (*func) (const char *name, void *arg), void *arg)
{
	int			saved_timeout = LockTimeout;
	ErrorData  *error;

	LockTimeout = saved_timeout > 0 ? Min(saved_timeout, LOCK_LINE) : LOCK_LINE;
	error = cmq_try_error(name, func, arg, 0);
	LockTimeout = saved_timeout;
	if (error == NULL)
		return true;
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		return false;
	if (what == NULL)
		ReThrowError(error);
	cmq_try_forgive(error, name, what, CMQ_TRY_WARN, false);
	return false;
}

/*
 * One try: in line for the pending table, for LOCK_LINE at most, then the others for
 * a moment.  Returns the relation that somebody has, or InvalidOid.  A subtransaction
 * gives back the locks that were got in vain, and takes the error by which the server
 * says that the time is over.
 */
static Oid
try_locks(const char *name, Oid pending, List *relids)
{
	LockTry		try = {
		.pending = pending,
		.relids = relids,
		.saved_timeout = LockTimeout
	};
	ErrorData  *error = cmq_try_error(name, lock_all, &try, 0);

	LockTimeout = try.saved_timeout;
	if (error && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	return try.busy;
}

/* Has another transaction a lock that conflicts with this one? */
bool
cmq_lock_is_had(Oid relid, LOCKMODE lockmode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	return VirtualTransactionIdIsValid(*GetLockConflicts(&tag, lockmode, NULL));
}

/*
 * An autovacuum worker gives way to a process that waits in line for deadlock_timeout,
 * which we do not: so ask it as the server does.
 */
static void
ask_autovacuum(Oid relid, LOCKMODE lockmode)
{
	LOCKTAG		tag;
	VirtualTransactionId *vxids;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	vxids = GetLockConflicts(&tag, lockmode, NULL);
	for (; VirtualTransactionIdIsValid(*vxids); vxids++)
	{
		PGPROC	   *proc = cmq_vxid_proc(*vxids);
		int			pid = 0;

		if (proc == NULL)
			continue;
		LWLockAcquire(ProcArrayLock, LW_SHARED);
		if ((proc->statusFlags & PROC_IS_AUTOVACUUM) &&
			!(proc->statusFlags & PROC_VACUUM_FOR_WRAPAROUND))
			pid = proc->pid;
		LWLockRelease(ProcArrayLock);
		if (pid != 0)
			(void) kill(pid, SIGINT);
	}
}

/* Raise 55P03: somebody has had this relation all the time. */
static void
report_busy(const char *name, Oid pending, Oid busy, const char *what)
{
	const char *relname = cmq_full_name(busy);

	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 busy == pending ?
			 errmsg("cannot %s queue \"%s\" while a transaction uses it",
					what, name) :
			 errmsg("cannot %s queue \"%s\" while it is being read", what, name),
			 errdetail("A transaction that has not ended has a lock on %s.",
					   relname),
			 errhint("Find it with SELECT pid, mode FROM pg_locks WHERE relation = %s::regclass, and try again when it has ended.",
					 quote_literal_cstr(relname))));
}

/*
 * Keep traffic from the queue, and everybody from these relations of it, until the
 * end of the transaction.  Waiting receives leave.  The caller holds the queue
 * lock; the pending table exists.  Raises 55P03 if one of the relations is not to be had;
 * what names the change, for that error.
 */
void
cmq_lock_alone(const char *name, Oid pending, List *relids, const char *what)
{
	int			wait = LockTimeout > 0 ? Min(LockTimeout, LOCK_WAIT) : LOCK_WAIT;
	int64		deadline = cmq_elapsed() + wait * INT64CONST(1000);

	/* as long as this is locked the queue stays, and its waiters are known */
	LockRelationOid(pending, AccessShareLock);
	for (;;)
	{
		CmqSharedQueue *shared = cmq_shared_use(pending);
		Oid			busy;

		if (shared)
			cmq_wait_ask_to_leave(shared);
		busy = try_locks(name, pending, relids);
		cmq_wait_asked();
		if (!OidIsValid(busy))
			return;
		ask_autovacuum(busy, busy == pending ? ShareRowExclusiveLock :
					   AccessExclusiveLock);
		if (cmq_elapsed() >= deadline)
			report_busy(name, pending, busy, what);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOCK_PAUSE, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Raise 55006 if the session is in the midst of a call on the queue, or has a query open
 * that reads its pending messages: what these rely on is about to change.  The caller has
 * the pending table locked against all others.
 */
void
cmq_lock_check_not_in_use(const char *name, Oid pending, const char *what)
{
	Relation	rel = try_relation_open(pending, NoLock);

	if (rel == NULL)
		return;
	if (rel->rd_refcnt != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot %s queue \"%s\" because it is being used in this session",
						what, name),
				 errdetail("A call or a query on the queue has not ended yet.")));
	relation_close(rel, NoLock);
}
