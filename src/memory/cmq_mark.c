/*-------------------------------------------------------------------------
 *
 * cmq_mark.c
 *	  Lower bounds of a queue that are raised by whoever has looked.
 *
 * A mark is a time and a generation.  There are three for each queue: where receives
 * begin to scan the pending table (CMQ_FLOOR), where they begin to scan the rewind
 * tables for the rewind under way (CMQ_REWIND_FLOOR; both cmq_floor.c), and the time
 * before which nothing pending was produced (CMQ_EARLIEST, cmq_earliest.c).
 *
 * Invariant: no row that counts stands below the mark.  What counts, and how far a look
 * may raise the mark, is for those files; here is what all have in common:
 *	- A look reads the mark, then what others have published (cmq_proc.c), then the
 *	  rows; and raises the mark only if the generation is still the same.
 *	- A transaction that brings rows with earlier times publishes the earliest of them,
 *	  then lowers the mark to it, which makes a new generation.  So a look that has
 *	  begun before does not raise the mark, and one that begins later is bound by what
 *	  it finds published, or sees the rows.
 *
 * The mark for a rewind is for that rewind alone, which is known by its rewound_at: the
 * mark begins anew with the first look for a later rewind.
 *
 * Crash: all marks begin anew at the beginning of time, as those of a new entry.
 *
 * Locks: the mutex of the entry.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "memory/cmq_entry.h"
#include "memory/cmq_mark.h"
#include "memory/cmq_types.h"

/* Read a mark; rewound_at is that of the caller's rewind, DT_NOBEGIN for others. */
void
cmq_mark_read(CmqSharedQueue *shared, CmqMarkKind kind, TimestampTz rewound_at,
			  CmqMarkView *view)
{
	CmqMark    *mark = &shared->marks[kind];

	SpinLockAcquire(&shared->mutex);
	view->generation = mark->generation;
	view->time = mark->rewound_at == rewound_at ? mark->time : DT_NOBEGIN;
	SpinLockRelease(&shared->mutex);
}

/* Raise a mark to this time, after a look that has begun with the view. */
void
cmq_mark_raise(CmqSharedQueue *shared, CmqMarkKind kind, TimestampTz rewound_at,
			   const CmqMarkView *view, TimestampTz time)
{
	CmqMark    *mark = &shared->marks[kind];

	SpinLockAcquire(&shared->mutex);
	if (mark->generation == view->generation)
	{
		if (mark->rewound_at < rewound_at)
		{
			mark->rewound_at = rewound_at;
			mark->time = DT_NOBEGIN;
		}
		if (mark->rewound_at == rewound_at)
			mark->time = Max(mark->time, time);
	}
	SpinLockRelease(&shared->mutex);
}

/*
 * Lower a mark to this time.  The caller has published the time, or an earlier one.
 * Stretches (cmq_stretch.c) are of a generation of the floor: they go with the old one,
 * because the new rows may stand within them.
 */
void
cmq_mark_lower(CmqSharedQueue *shared, CmqMarkKind kind, TimestampTz time)
{
	CmqMark    *mark = &shared->marks[kind];

	SpinLockAcquire(&shared->mutex);
	mark->generation++;
	mark->time = Min(mark->time, time);
	if (kind == CMQ_FLOOR)
		shared->nstretches = 0;
	SpinLockRelease(&shared->mutex);
}
