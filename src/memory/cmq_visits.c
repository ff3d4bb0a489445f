/*-------------------------------------------------------------------------
 *
 * cmq_visits.c
 *	  What the launcher and the workers that it has visit databases tell each other.
 *
 * Locks: a spinlock guards it.  Crash: the launcher begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "memory/cmq_visits.h"

/* What the launcher and a worker of its tell each other. */
typedef struct Visit
{
	bool		leave;			/* others wait for the place */
	bool		unfinished;		/* there is more to do at once */
} Visit;

typedef struct Visits
{
	slock_t		mutex;
	Visit		visits[CMQ_MAX_VISITS];
} Visits;

static Visits *visits = NULL;

/* In a worker of the launcher's: its place; else -1. */
static int	my_visit = -1;

Size
cmq_visit_shmem_size(void)
{
	return sizeof(Visits);
}

/* Called under AddinShmemInitLock. */
void
cmq_visit_shmem_init(void)
{
	bool		found;

	visits = ShmemInitStruct("cmq visits", cmq_visit_shmem_size(), &found);
	if (found)
		return;
	memset(visits, 0, sizeof(Visits));
	SpinLockInit(&visits->mutex);
}

/* The worker on this place: the next visit is to come at once. */
static void
come_again(int visit)
{
	SpinLockAcquire(&visits->mutex);
	visits->visits[visit].unfinished = true;
	SpinLockRelease(&visits->mutex);
}

/* The worker on this place: do others wait for it? */
static bool
wants_place(int visit)
{
	bool		leave;

	SpinLockAcquire(&visits->mutex);
	leave = visits->visits[visit].leave;
	SpinLockRelease(&visits->mutex);
	return leave;
}

void
cmq_visit_reset(int i)
{
	SpinLockAcquire(&visits->mutex);
	visits->visits[i].leave = visits->visits[i].unfinished = false;
	SpinLockRelease(&visits->mutex);
}

/* The next visit of this database is to come at once. */
void
cmq_visit_unfinished(void)
{
	if (my_visit >= 0)
		come_again(my_visit);
}

/* Does the launcher want us to leave? */
bool
cmq_visit_is_asked_to_leave(void)
{
	return my_visit >= 0 && wants_place(my_visit);
}

/* This worker is on that place of the launcher's, or on none: -1. */
void
cmq_visit_join(int visit)
{
	my_visit = visit;
}

/* Launcher: the worker on this place is to leave, for others wait for it. */
void
cmq_visit_ask_to_leave(int visit)
{
	SpinLockAcquire(&visits->mutex);
	visits->visits[visit].leave = true;
	SpinLockRelease(&visits->mutex);
}

/* Launcher: has the worker on this place left something to be done at once? */
bool
cmq_visit_is_unfinished(int visit)
{
	bool		unfinished;

	SpinLockAcquire(&visits->mutex);
	unfinished = visits->visits[visit].unfinished;
	SpinLockRelease(&visits->mutex);
	return unfinished;
}
