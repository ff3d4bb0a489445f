/*-------------------------------------------------------------------------
 *
 * cmq_visits.c
 *	  What the launcher and the workers that it has visit databases tell each other.
 *
 * The launcher gives each worker that is to visit a database one of a few places.  For
 * each place it says whether the worker is to leave, and the worker says whether it has
 * left something to be done at once.
 *
 * Locks: a spinlock guards the places.  Crash: the launcher begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/shmem.h"
#include "storage/spin.h"

#include "memory/cmq_visits.h"

/* A place of the launcher's. */
typedef struct Visit
{
	bool		leave;			/* other databases wait for the place */
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
cmq_visits_shmem_size(void)
{
	return sizeof(Visits);
}

/* Called under AddinShmemInitLock. */
void
cmq_visits_shmem_init(void)
{
	bool		found;

	visits = ShmemInitStruct("cmq visits", cmq_visits_shmem_size(), &found);
	if (found)
		return;
	memset(visits, 0, sizeof(Visits));
	SpinLockInit(&visits->mutex);
}

static void
set(bool *flag, bool value)
{
	SpinLockAcquire(&visits->mutex);
	*flag = value;
	SpinLockRelease(&visits->mutex);
}

static bool
get(const bool *flag)
{
	bool		value;

	SpinLockAcquire(&visits->mutex);
	value = *flag;
	SpinLockRelease(&visits->mutex);
	return value;
}

/* Launcher: a worker is to begin a visit on this place. */
void
cmq_visits_reset(int visit)
{
	set(&visits->visits[visit].leave, false);
	set(&visits->visits[visit].unfinished, false);
}

/* Launcher: the worker on this place is to leave, for others wait for it. */
void
cmq_visits_ask_to_leave(int visit)
{
	set(&visits->visits[visit].leave, true);
}

/* Launcher: has the worker on this place left something to be done at once? */
bool
cmq_visits_is_unfinished(int visit)
{
	return get(&visits->visits[visit].unfinished);
}

/* This worker is on that place of the launcher's, or on none: -1. */
void
cmq_visits_join(int visit)
{
	my_visit = visit;
}

/* The next visit of this database is to come at once. */
void
cmq_visits_unfinished(void)
{
	if (my_visit >= 0)
		set(&visits->visits[my_visit].unfinished, true);
}

/* Does the launcher want us to leave? */
bool
cmq_visits_is_asked_to_leave(void)
{
	return my_visit >= 0 && get(&visits->visits[my_visit].leave);
}
