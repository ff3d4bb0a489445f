/*-------------------------------------------------------------------------
 *
 * cmq_launcher.c
 *	  The launcher of maintenance: which database is visited, and when.
 *
 * A server has one launcher, which starts when recovery has ended (so a standby has none
 * before promotion), and not in binary upgrade.  Connected to no database, it reads
 * pg_database every cmq.maintenance_interval and has a worker visit each database that
 * accepts connections and is not a template.  A worker that finds no extension leaves at
 * once.  So nobody configures database names, and DROP DATABASE is held up for no longer
 * than one worker's stay.
 *
 * Databases do not wait for one another: each has its own interval, and several are
 * visited at the same time, as count_visits() says.  A database whose last visit took
 * longer than QUICK_TIME is slow, and slow ones have all places but one.  So a database
 * that is not slow waits for others that are not, or for QUICK_TIME + TIME_TO_LEAVE until
 * a visit that turns out to be slow is sent away from that place.  With one place all
 * wait for one another, as long as cmq.maintenance_timeout allows a step.
 *
 * Crash or exit of the launcher: its workers end by themselves.  The next launcher knows
 * nothing of them, and for a moment a database can have two.
 *
 * Locks: a spinlock guards what the launcher and its workers tell each other
 * (cmq_visits.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/cmq_settings.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_visits.h"
#include "memory/cmq_workers.h"
#include "worker/cmq_launcher.h"

/*
 * A database whose visit takes longer than QUICK_TIME is slow.  A visit that is asked to
 * leave is ended after TIME_TO_LEAVE.
 */
#define QUICK_TIME 15000		/* milliseconds */
#define TIME_TO_LEAVE 5000		/* milliseconds */

/* How long the launcher waits when there was no place for a worker. */
#define NO_PLACE_WAIT 1000		/* milliseconds */

PGDLLEXPORT void cmq_launcher_main(Datum arg);

/* Register the launcher; called when the library is preloaded. */
void
cmq_launcher_register(void)
{
	BackgroundWorker worker;

	if (IsBinaryUpgrade)
		return;
	cmq_workers_fill(&worker, "cmq_launcher_main", "cmq launcher");
	worker.bgw_restart_time = 10;
	RegisterBackgroundWorker(&worker);
}

/*
 * How many databases are visited at the same time: at least one, and as many as leave one
 * place to others beside the launcher and the workers of senders.
 */
static int
count_visits(void)
{
	return Min(Max(max_worker_processes - 1 - cmq_workers_places() - 1, 1), CMQ_MAX_VISITS);
}

/*
 * List all databases, and those among them to visit, in the current memory
 * context.
 */
static void
list_databases(List **all, List **visit)
{
	MemoryContext context = CurrentMemoryContext;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(context);

		*all = lappend_oid(*all, database->oid);
		/* a DROP DATABASE that was interrupted leaves a negative limit */
		if (database->datallowconn && !database->datistemplate &&
			database->datconnlimit >= -1)
			*visit = lappend_oid(*visit, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

/*
 * Exit if asked to.  The server starts the launcher again, unless the server itself is
 * stopping.
 */
static void
end_if_asked(void)
{
	if (ShutdownRequestPending)
		proc_exit(1);
}

/*
 * What the launcher knows of a database.  Times are milliseconds of a clock that nobody
 * sets.
 */
typedef struct Database
{
	Oid			oid;
	bool		exists;			/* in the last list */
	bool		visited;		/* now */
	bool		slow;			/* its last visit took long */
	bool		unfinished;		/* ... and was not all */
	int64		begun_at;		/* the last visit */
	int64		ended_at;
} Database;

typedef struct Visitor
{
	BackgroundWorkerHandle *handle; /* NULL: the place is free */
	Database   *database;
	bool		as_slow;		/* on a place for slow ones */
	int64		begun_at;
	int64		asked_at;		/* to leave; 0: not */
	bool		terminated;
} Visitor;

typedef struct Launcher
{
	MemoryContext context;		/* of one list of databases */
	List	   *databases;		/* Database */
	int			nvisitors;
	Visitor		visitors[CMQ_MAX_VISITS];
	int64		listed_at;		/* -1: not yet */
	int64		retry_at;		/* after there was no place */
	int64		logged_at;		/* that; -1: never */
} Launcher;

static int64
interval_ms(void)
{
	return (int64) cmq_maintenance_interval * 1000;
}

/* Free the shared entries of databases that are gone; list the databases to visit. */
static List *
sweep_and_list(void)
{
	CmqSharedKey *keys;

	/* the entries first, see cmq_shared_list() */
	int			nkeys = cmq_shared_list(&keys);
	List	   *all = NIL;
	List	   *visit = NIL;

	list_databases(&all, &visit);
	for (int i = 0; i < nkeys; i++)
	{
		if (!list_member_oid(all, keys[i].database))
			cmq_shared_remove(&keys[i]);
	}
	return visit;
}

/* The database of this number, which is added if it is not known. */
static Database *
get_database(Launcher *launcher, Oid oid)
{
	Database   *database;
	ListCell   *lc;
	MemoryContext old;

	foreach(lc, launcher->databases)
	{
		database = lfirst(lc);
		if (database->oid == oid)
			return database;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	database = palloc0(sizeof(Database));
	database->oid = oid;
	launcher->databases = lappend(launcher->databases, database);
	MemoryContextSwitchTo(old);
	return database;
}

/* Add databases that are new, and forget those that are gone. */
static void
update_databases(Launcher *launcher)
{
	MemoryContext old = MemoryContextSwitchTo(launcher->context);
	List	   *visit = sweep_and_list();
	ListCell   *lc;

	foreach(lc, visit)
		(void) get_database(launcher, lfirst_oid(lc));
	foreach(lc, launcher->databases)
	{
		Database   *database = lfirst(lc);

		database->exists = list_member_oid(visit, database->oid);
		/* a visit under way comes to its end */
		if (database->exists || database->visited)
			continue;
		launcher->databases = foreach_delete_current(launcher->databases, lc);
		pfree(database);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(launcher->context);
}

static void
end_visits(Launcher *launcher, int64 now)
{
	for (int i = 0; i < launcher->nvisitors; i++)
	{
		Visitor    *visitor = &launcher->visitors[i];
		Database   *database = visitor->database;
		BgwHandleStatus status;
		pid_t		pid;

		if (visitor->handle == NULL)
			continue;
		status = GetBackgroundWorkerPid(visitor->handle, &pid);
		if (status == BGWH_POSTMASTER_DIED)
			proc_exit(1);
		if (status != BGWH_STOPPED)
			continue;
		pfree(visitor->handle);
		visitor->handle = NULL;
		database->visited = false;
		database->ended_at = now;
		database->slow = now - visitor->begun_at > QUICK_TIME;
		database->unfinished = cmq_visits_is_unfinished(i);
	}
}

/* When the database is to be visited next. */
static int64
due_at(const Database *database)
{
	if (database->begun_at == 0)
		return 0;
	return database->unfinished ? database->ended_at :
		database->begun_at + interval_ms();
}

/* The database that has waited longest, of slow ones if slow_too; NULL if none is due. */
static Database *
next_database(Launcher *launcher, int64 now, bool slow_too)
{
	Database   *next = NULL;
	ListCell   *lc;

	foreach(lc, launcher->databases)
	{
		Database   *database = lfirst(lc);

		if (database->exists && !database->visited && due_at(database) <= now &&
			(slow_too || !database->slow) &&
			(next == NULL || due_at(database) < due_at(next)))
			next = database;
	}
	return next;
}

/*
 * Is a place for slow databases free?  They have all places but one, if there are several.
 * A visit that turns out to be slow takes one of theirs, if one is free.
 */
static bool
may_be_slow(Launcher *launcher, int64 now)
{
	int			left = launcher->nvisitors - 1;

	if (launcher->nvisitors == 1)
		return true;
	for (int i = 0; i < launcher->nvisitors; i++)
		left -= launcher->visitors[i].handle && launcher->visitors[i].as_slow;
	for (int i = 0; i < launcher->nvisitors; i++)
	{
		Visitor    *visitor = &launcher->visitors[i];

		if (left > 0 && visitor->handle && !visitor->as_slow &&
			now - visitor->begun_at > QUICK_TIME)
		{
			visitor->as_slow = true;
			left--;
		}
	}
	return left > 0;
}

/* Begin the visits that are due, as far as there are places. */
static void
begin_visits(Launcher *launcher, int64 now)
{
	for (int i = 0; i < launcher->nvisitors; i++)
	{
		Visitor    *visitor = &launcher->visitors[i];
		Database   *database;

		if (visitor->handle)
			continue;
		database = next_database(launcher, now, may_be_slow(launcher, now));
		if (database == NULL || now < launcher->retry_at)
			return;
		cmq_visits_reset(i);
		visitor->handle = cmq_workers_start(database->oid, "", i, 0);
		if (visitor->handle == NULL)
		{
			launcher->retry_at = now + Min(NO_PLACE_WAIT, interval_ms());
			if (launcher->logged_at < 0 ||
				now >= launcher->logged_at + interval_ms())
				ereport(LOG,
						(errmsg("cmq maintenance found no place for a worker"),
						 errhint("Raise max_worker_processes.")));
			launcher->logged_at = now;
			return;
		}
		visitor->database = database;
		visitor->as_slow = database->slow && launcher->nvisitors > 1;
		visitor->begun_at = now;
		visitor->asked_at = 0;
		visitor->terminated = false;
		database->visited = true;
		database->unfinished = false;
		database->begun_at = now;
	}
}

/*
 * If slow visits have all places while a database waits that is not slow, the visit on the
 * place that is not for slow ones has to leave: it is asked to first, then ended.  Its
 * database is slow from now on, and waits for a place for such.
 */
static void
end_slow_visit(Launcher *launcher, int64 now)
{
	Visitor    *last = NULL;

	if (launcher->nvisitors == 1 || next_database(launcher, now, false) == NULL)
		return;
	(void) may_be_slow(launcher, now);
	for (int i = 0; i < launcher->nvisitors; i++)
	{
		Visitor    *visitor = &launcher->visitors[i];

		if (visitor->handle == NULL ||
			(!visitor->as_slow && now - visitor->begun_at <= QUICK_TIME))
			return;
		if (!visitor->as_slow && (last == NULL || visitor->begun_at > last->begun_at))
			last = visitor;
	}
	if (last == NULL)
		return;
	if (last->asked_at == 0)
	{
		last->asked_at = now;
		cmq_visits_ask_to_leave(last - launcher->visitors);
	}
	else if (now - last->asked_at > TIME_TO_LEAVE && !last->terminated)
	{
		last->terminated = true;
		TerminateBackgroundWorker(last->handle);
	}
}

/* How long nothing has to be done, unless a worker ends. */
static long
time_to_wait(Launcher *launcher, int64 now)
{
	int64		next = launcher->listed_at + interval_ms();
	ListCell   *lc;

	if (launcher->retry_at > now)
		next = Min(next, launcher->retry_at);
	foreach(lc, launcher->databases)
	{
		Database   *database = lfirst(lc);

		if (!database->visited && due_at(database) > now)
			next = Min(next, due_at(database));
	}
	for (int i = 0; i < launcher->nvisitors; i++)
	{
		Visitor    *visitor = &launcher->visitors[i];
		int64		time = visitor->begun_at + QUICK_TIME + 1;

		if (visitor->handle == NULL)
			continue;
		if (time > now)
			next = Min(next, time);
		time = visitor->asked_at + TIME_TO_LEAVE + 1;
		if (visitor->asked_at > 0 && time > now)
			next = Min(next, time);
	}
	return (long) Max(next - now, 1);
}

void
cmq_launcher_main(Datum arg)
{
	Launcher	launcher = {.listed_at = -1,.logged_at = -1};

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	cmq_require_preload();		/* preloaded from another file than
								 * $libdir/cmq? */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	launcher.nvisitors = count_visits();
	launcher.context = AllocSetContextCreate(TopMemoryContext,
											 "cmq launcher",
											 ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		int64		now;

		/*
		 * The latch is set for many reasons, and starting a worker may have
		 * swallowed one: so look at everything before each sleep.
		 */
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		end_if_asked();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		/* notice a wall clock that was set, also when nobody calls */
		(void) cmq_time();
		now = cmq_elapsed() / 1000;
		end_visits(&launcher, now);
		if (launcher.listed_at < 0 || now >= launcher.listed_at + interval_ms())
		{
			update_databases(&launcher);
			launcher.listed_at = now;
		}
		begin_visits(&launcher, now);
		end_slow_visit(&launcher, now);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 time_to_wait(&launcher, now), PG_WAIT_EXTENSION);
	}
}
