/*-------------------------------------------------------------------------
 *
 * cmq_portion.c
 *	  Portions of a step of maintenance: bounded in rows, locks and time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "memory/cmq_clock.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_types.h"
#include "store/cmq_description.h"
#include "worker/cmq_portion.h"

/* How many rows a bounded portion looks at, how many it removes, how long it takes. */
#define PORTION_LOOKS 100000
#define PORTION_ROWS 10000
#define PORTION_TIME 500		/* milliseconds */

/* The part of the lock table, one of so many, that one transaction may take. */
#define LOCKS_PART 4

/* No row of the pending table. */
const CmqPlace cmq_place_beginning = {DT_NOBEGIN, DT_NOBEGIN};

/* A walk that has stopped at a row is not there, even if the row is the first one. */
bool
cmq_portion_is_beginning(const CmqPlace *place)
{
	return place->visible_at == cmq_place_beginning.visible_at &&
		place->enqueued_at == cmq_place_beginning.enqueued_at;
}

/* Where a portion begins. */
CmqPlace
cmq_portion_get_place(CmqQueue *queue, const CmqPortion *portion, CmqPlaceKind kind)
{
	return portion->bounded ? cmq_notes_place(queue->shared, kind) :
		cmq_place_beginning;
}

/* The next portion begins behind this place. */
void
cmq_portion_set_place(CmqQueue *queue, const CmqPortion *portion, CmqPlaceKind kind,
					  const CmqPlace *place)
{
	if (portion->bounded)
		cmq_notes_set_place(queue->shared, kind, place);
}

/* Is the time of a bounded portion over? */
bool
cmq_portion_is_over(const CmqPortion *portion)
{
	return portion->bounded &&
		cmq_elapsed() - portion->begun >= PORTION_TIME * INT64CONST(1000);
}

/* Is a bounded portion over, after so many rows looked at and removed, or so much time? */
bool
cmq_portion_has_enough(const CmqPortion *portion, int64 looked, int64 removed)
{
	return portion->bounded &&
		(looked >= PORTION_LOOKS || removed >= PORTION_ROWS ||
		 (looked % 100 == 0 && cmq_portion_is_over(portion)));
}

/*
 * Is there room for the locks of more work?  All processes share the lock table, of which
 * this one may take a small part.
 */
bool
cmq_portion_has_room(void)
{
	LockData   *locks = GetLockStatusData();
	int64		held = 0;
	int64		all = (int64) max_locks_per_xact *
		(MaxBackends + max_prepared_xacts);

	for (int i = 0; i < locks->nelements; i++)
		held += locks->locks[i].pid == MyProcPid && !locks->locks[i].fastpath;
	pfree(locks->locks);
	pfree(locks);
	return held < all / LOCKS_PART;
}
