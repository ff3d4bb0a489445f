/*-------------------------------------------------------------------------
 *
 * cmq_mark.c
 *	  The mark of the earliest message that is not consumed; see cmq_oldest.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/spin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "memory/cmq_clock.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_mark.h"
#include "memory/cmq_shared.h"

/* A new shared entry of a queue. */
void
cmq_oldest_init(CmqSharedQueue *shared)
{
	shared->oldest_generation = 0;
	shared->oldest = DT_NOBEGIN;
}

/*
 * From now on pending rows with this enqueued_at can come up.  The caller has
 * published the time, or an earlier one, in its slot.
 */
void
cmq_oldest_lower(CmqSharedQueue *shared, TimestampTz time)
{
	SpinLockAcquire(&shared->mutex);
	shared->oldest_generation++;
	shared->oldest = Min(shared->oldest, time);
	SpinLockRelease(&shared->mutex);
}

void
cmq_mark_read(CmqSharedQueue *shared, CmqMarkScan *scan)
{
	SpinLockAcquire(&shared->mutex);
	scan->generation = shared->oldest_generation;
	scan->mark = shared->oldest;
	SpinLockRelease(&shared->mutex);
	scan->limit = pg_atomic_read_u32(&shared->held) != 0 ? DT_NOBEGIN :
		cmq_floor_limit(cmq_clock_last(shared));
}

void
cmq_mark_raise(CmqSharedQueue *shared, const CmqMarkScan *scan, TimestampTz time)
{
	time = Min(time, scan->limit);
	SpinLockAcquire(&shared->mutex);
	if (shared->oldest_generation == scan->generation)
		shared->oldest = Max(shared->oldest, time);
	SpinLockRelease(&shared->mutex);
}

/* What the transaction has received of what rewinds bring back. */
typedef struct BroughtBack
{
	CmqSharedQueue *shared;
	TimestampTz time;			/* of the earliest message */
} BroughtBack;

static List *brought_back = NIL;	/* in TopTransactionContext */

/* The transaction has received a message of this time that a rewind brings back. */
void
cmq_oldest_bring_back(CmqSharedQueue *shared, TimestampTz time)
{
	BroughtBack *entry;
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, brought_back)
	{
		entry = lfirst(lc);
		if (entry->shared == shared)
		{
			entry->time = Min(entry->time, time);
			return;
		}
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	entry = palloc(sizeof(BroughtBack));
	entry->shared = shared;
	entry->time = time;
	brought_back = lappend(brought_back, entry);
	MemoryContextSwitchTo(old);
}

/*
 * Our rows are about to be seen.  Whoever has read the slots before this does not
 * raise the mark, because of the generation; who does so until our slot is cleared
 * finds the time there; who does so later sees the rows.
 */
static void
xact_callback(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
	{
		foreach(lc, brought_back)
		{
			BroughtBack *entry = lfirst(lc);

			cmq_floor_publish(entry->time);
			cmq_oldest_lower(entry->shared, entry->time);
		}
	}
	else if (cmq_xact_is_over(event))
		brought_back = NIL;
}

void
cmq_oldest_install_callbacks(void)
{
	RegisterXactCallback(xact_callback, NULL);
}

/* No pending row was produced before this. */
TimestampTz
cmq_oldest_mark(CmqSharedQueue *shared)
{
	TimestampTz mark;

	SpinLockAcquire(&shared->mutex);
	mark = shared->oldest;
	SpinLockRelease(&shared->mutex);
	return mark;
}

/* Before a look at the pending table, see cmq_oldest_no_news(). */
void
cmq_oldest_look(CmqSharedQueue *shared, CmqOldestLook *look)
{

	SpinLockAcquire(&shared->mutex);
	look->generation = shared->oldest_generation;
	SpinLockRelease(&shared->mutex);
	look->open = pg_atomic_read_u32(&shared->held) != 0 ? DT_NOBEGIN :
		cmq_floor_open();
}

/*
 * What the look has not seen pending, of messages produced before until, is not
 * pending now either.  The caller holds the queue lock, and the leaves of that time
 * for himself; the queue clock was at until when the look was taken.
 */
bool
cmq_oldest_no_news(CmqSharedQueue *shared, const CmqOldestLook *look,
				   TimestampTz until)
{
	bool		same;

	SpinLockAcquire(&shared->mutex);
	same = shared->oldest_generation == look->generation;
	SpinLockRelease(&shared->mutex);
	return same && look->open >= until;
}
