/*-------------------------------------------------------------------------
 *
 * cmq_earliest.c
 *	  The mark of the earliest message that is not consumed.
 *
 *		No pending row, expired or not, was produced before the mark, now or after
 *		the end of any open transaction.
 *
 * Looks that find the earliest pending message (cmq_oldest.c) raise the mark to it, but
 * never above
 *	- the last time that the queue clock has given out or remembered, read before
 *	  (a time that was only looked at is no bound for what is sent afterwards)
 *	- what open transactions have published: a message that they have sent, or that a
 *	  rewind or a restore of theirs brings back, may be older than all that can be seen
 *	- what the own transaction has consumed, since it may yet roll back
 * and not at all while the queue is held (cmq_shared.c).
 *
 * Ways in which an older message could become pending, and what is done:
 *	- A rewind or a restore publishes where it starts, until its transaction has ended
 *	  (a restore that found nothing: its call), and lowers the mark to it.  A message that a
 *	  rewind has yet to bring back has no pending row now, but will have one: so looks at
 *	  the pending table alone do not raise the mark above the start of a rewind under way
 *	  (cmq_oldest.c).
 *	- When a rewind is cancelled, receives that have taken such messages, or are about
 *	  to, may still be open.  Each publishes the time of the message and lowers the
 *	  mark to it when it commits or is prepared (cmq_xact.c).
 *	- Rows that are written by hand, or that replication brings, lower the mark to the
 *	  beginning, or to their time.
 * What others delete without having committed is not consumed yet: their rewind rows
 * cannot be seen.
 *
 * A transaction that holds the queue lock, and has a pair of leaves for itself, can rely
 * on the mark for that pair: no transaction is under way that could lower it.
 *
 * Locks: the mutex of the entry.  Abort: a mark that was lowered stays so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "memory/cmq_clock.h"
#include "memory/cmq_earliest.h"
#include "memory/cmq_mark.h"
#include "memory/cmq_proc.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"

/* What all open transactions have published, our own included. */
static TimestampTz
published_by_all(CmqSharedQueue *shared)
{
	TimestampTz others;

	if (cmq_shared_is_held(shared))
		return CMQ_TIME_UNKNOWN;
	pg_memory_barrier();
	others = cmq_proc_published_by_others();
	return Min(others, cmq_xact_published());
}

/* No pending row was produced before this. */
TimestampTz
cmq_earliest_get(CmqSharedQueue *shared)
{
	CmqMarkView view;

	cmq_mark_read(shared, CMQ_EARLIEST, DT_NOBEGIN, &view);
	return view.time;
}

/*
 * From now on pending rows of messages produced at this time can come up.  The caller
 * has published the time, or an earlier one.
 */
void
cmq_earliest_lower(CmqSharedQueue *shared, TimestampTz time)
{
	cmq_mark_lower(shared, CMQ_EARLIEST, time);
}

/* Before a look that is to raise the mark. */
void
cmq_earliest_read(CmqSharedQueue *shared, CmqEarliestScan *scan)
{
	TimestampTz last;
	TimestampTz open;
	TimestampTz taken;

	cmq_mark_read(shared, CMQ_EARLIEST, DT_NOBEGIN, &scan->view);
	last = cmq_clock_last(shared);
	open = published_by_all(shared);
	taken = cmq_xact_taken_of(shared).message;
	scan->limit = Min(Min(last, open), taken);
}

/* The look has found nothing pending that was produced before this time. */
void
cmq_earliest_raise(CmqSharedQueue *shared, const CmqEarliestScan *scan,
				   TimestampTz time)
{
	cmq_mark_raise(shared, CMQ_EARLIEST, DT_NOBEGIN, &scan->view,
				   Min(time, scan->limit));
}

/* Before a look at the pending table, see cmq_earliest_no_news(). */
void
cmq_earliest_look(CmqSharedQueue *shared, CmqEarliestLook *look)
{
	cmq_mark_read(shared, CMQ_EARLIEST, DT_NOBEGIN, &look->view);
	look->open = published_by_all(shared);
}

/*
 * Is it certain that what the look has not seen pending, of messages produced before
 * until, is not pending now either?  The caller holds the queue lock, and has the leaves
 * of that time for itself; the queue clock was at until when the look was taken.
 */
bool
cmq_earliest_no_news(CmqSharedQueue *shared, const CmqEarliestLook *look,
					 TimestampTz until)
{
	CmqMarkView now;

	cmq_mark_read(shared, CMQ_EARLIEST, DT_NOBEGIN, &now);
	return now.generation == look->view.generation && look->open >= until;
}
