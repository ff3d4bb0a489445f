/*-------------------------------------------------------------------------
 *
 * cmq_workers.c
 *	  Starting workers, and the places that those of senders may take.
 *
 * A sender that finds no leaf has a worker make one, and waits for the worker; a sender
 * that is interrupted ends its worker.  Senders may have half of the server's places for
 * workers at most, and one place for each owner of queues: code that keeps a worker busy
 * holds up no other owner's senders.  cmq_worker.c has what the worker does.
 *
 * Locks: a spinlock guards the places.  Error: the worker is ended, and the place left.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "memory/cmq_workers.h"

/*
 * How long a sender waits for a place, and how often it looks.  Its worker may wait for
 * each lock for what is then left of that time, and for LEAST_LOCK_WAIT at least.
 */
#define PLACE_WAIT 2000			/* milliseconds */
#define LEAST_LOCK_WAIT 100		/* milliseconds */
#define PLACE_DELAY 10			/* milliseconds */

typedef struct Place
{
	Oid			database;
	Oid			owner;			/* InvalidOid: free */
} Place;

typedef struct Places
{
	slock_t		mutex;
	int			n;
	Place		places[FLEXIBLE_ARRAY_MEMBER];
} Places;

static Places *senders = NULL;

/* Fill in what the launcher and the workers have in common. */
void
cmq_workers_fill(BackgroundWorker *worker, const char *function,
				 const char *type)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	strlcpy(worker->bgw_library_name, "cmq", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker->bgw_name, type, BGW_MAXLEN);
	strlcpy(worker->bgw_type, type, BGW_MAXLEN);
}

/* How many places for workers those of senders may take. */
int
cmq_workers_places(void)
{
	return Max(max_worker_processes / 2, 1);
}

Size
cmq_workers_shmem_size(void)
{
	return add_size(offsetof(Places, places),
					mul_size(cmq_workers_places(), sizeof(Place)));
}

/* Called under AddinShmemInitLock. */
void
cmq_workers_shmem_init(void)
{
	bool		found;

	senders = ShmemInitStruct("cmq workers of senders",
							  cmq_workers_shmem_size(), &found);
	if (found)
		return;
	memset(senders, 0, cmq_workers_shmem_size());
	SpinLockInit(&senders->mutex);
	senders->n = cmq_workers_places();
}

/*
 * Start a worker: for a maintenance round if queue is "", on this place of the
 * launcher's; else for a sender, and it waits for each lock for lock_timeout at most.
 * NULL if there was no place for it.
 */
BackgroundWorkerHandle *
cmq_workers_start(Oid database, const char *queue, int visit, int lock_timeout)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	CmqWorkerTask task;

	memset(&task, 0, sizeof(task));
	task.database = database;
	task.visit = visit;
	strlcpy(task.queue, queue, sizeof(task.queue));
	task.lock_timeout = lock_timeout;

	cmq_workers_fill(&worker, "cmq_worker_main", "cmq worker");
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &task, sizeof(task));
	return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : NULL;
}

static void
wait_for_worker(BackgroundWorkerHandle *handle)
{
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		proc_exit(1);
}

/* Take a sender's place, if one is free and the owner has none; or NULL. */
static Place *
take_place(Oid owner)
{
	Place	   *place = NULL;

	SpinLockAcquire(&senders->mutex);
	for (int i = 0; i < senders->n; i++)
	{
		Place	   *other = &senders->places[i];

		if (other->owner == owner && other->database == MyDatabaseId)
		{
			place = NULL;
			break;
		}
		if (!OidIsValid(other->owner))
			place = other;
	}
	if (place)
	{
		place->owner = owner;
		place->database = MyDatabaseId;
	}
	SpinLockRelease(&senders->mutex);
	return place;
}

static void
leave_place(Place *place)
{
	SpinLockAcquire(&senders->mutex);
	place->owner = InvalidOid;
	SpinLockRelease(&senders->mutex);
}

typedef struct SendersWorker
{
	Place	   *place;
	BackgroundWorkerHandle *handle;
} SendersWorker;

/* The sender has been interrupted: its worker goes with it. */
static void
leave_worker(int code, Datum arg)
{
	SendersWorker *worker = (SendersWorker *) DatumGetPointer(arg);

	if (worker->handle)
		TerminateBackgroundWorker(worker->handle);
	leave_place(worker->place);
}

/*
 * Have a worker make the leaves that the queue needs now, in its own
 * transaction; returns when it has ended.  False if there was no place for it.
 * Whether it did its work the caller finds out by looking.
 */
bool
cmq_workers_run_for(const char *name, Oid owner)
{
	for (int waited = 0; waited < PLACE_WAIT; waited += PLACE_DELAY)
	{
		SendersWorker worker = {.place = take_place(owner)};

		if (worker.place)
		{
			PG_ENSURE_ERROR_CLEANUP(leave_worker, PointerGetDatum(&worker));
			{
				worker.handle = cmq_workers_start(MyDatabaseId, name, -1,
												  Max(PLACE_WAIT - waited,
													  LEAST_LOCK_WAIT));
				if (worker.handle)
					wait_for_worker(worker.handle);
			}
			PG_END_ENSURE_ERROR_CLEANUP(leave_worker, PointerGetDatum(&worker));
			leave_place(worker.place);
			if (worker.handle)
				return true;
		}
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 PLACE_DELAY, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return false;
}
