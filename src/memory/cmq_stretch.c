/*-------------------------------------------------------------------------
 *
 * cmq_stretch.c
 *	  Stretches of the pending table that a receive jumps over.
 *
 * The floor (cmq_floor.c) stops at the first row that is alive.  Behind it there
 * may be many that are of no use to a receive, and each would walk over all of
 * them:
 *	- dead letters that a receive does not move (cmq_dead_letter.c)
 *	- messages that one transaction has claimed, and works on
 * So a receive that has walked over many of one kind in a row leaves a note of the stretch
 * in shared memory, and the next ones jump to its end.  It is a hint that is lost at
 * restart.
 *
 *		No row of a stretch can be received, as long as its transaction is in
 *		progress, or as long as the rule by which its messages are dead is in force.
 *
 * Ways to break that, and what is done:
 *	- New rows, and rows that a restore or somebody by hand puts in.  A stretch
 *	  obeys the protocol of the floor: it ends below the limit of the scan that
 *	  found it, and is installed only if the generation is the same; whoever
 *	  lowers the floor takes all stretches away (cmq_mark_lower()).  A restore does that
 *	  when it commits; until then its own scans use none that reaches its rows.
 *	- Rows that come back when a transaction aborts.  To the scan that found the
 *	  stretch they were busy, with a transaction or subtransaction.  Each later scan
 *	  asks whether that is still in progress.  The scan does not see rows that its own
 *	  transaction has taken away: so a stretch ends below the first of these.
 *	- A change of the rule.  A message that is dead stays dead, under the same rule,
 *	  until it is moved or expires: nobody delivers it, and time does not go back.
 *	  Under another rule the stretch is not used.
 *	- Expired messages are of no use to anybody.
 *
 * A stretch of dead letters is jumped over only while receives do not move them.
 *
 * Locks: the mutex of the entry.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "storage/procarray.h"
#include "storage/spin.h"

#include "base/cmq_handle.h"
#include "base/cmq_identity.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_stretch.h"
#include "memory/cmq_types.h"

/* Fewer rows than this are walked over each time. */
#define MIN_ROWS 64

static bool
is_dead(const CmqStretch *stretch)
{
	return !FullTransactionIdIsValid(stretch->busy_with);
}

static bool
in_progress(FullTransactionId fxid)
{
	TransactionId xid = XidFromFullTransactionId(fxid);

	return TransactionIdIsInProgress(xid) &&
		U64FromFullTransactionId(cmq_identity_widen(xid)) ==
		U64FromFullTransactionId(fxid);
}

/* Remove stretches that are of no more use, unless they have gone already. */
static void
remove_stretches(CmqSharedQueue *shared, const CmqStretch *old, int nold)
{
	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < nold; i++)
	{
		for (int j = 0; j < shared->nstretches; j++)
		{
			CmqStretch *stretch = &shared->stretches[j];

			if (cmq_pending_key_cmp(&stretch->first, &old[i].first) == 0 &&
				cmq_pending_key_cmp(&stretch->last, &old[i].last) == 0 &&
				U64FromFullTransactionId(stretch->busy_with) ==
				U64FromFullTransactionId(old[i].busy_with))
				*stretch = shared->stretches[--shared->nstretches];
		}
	}
	SpinLockRelease(&shared->mutex);
}

/*
 * Before a scan that starts at this floor, and after cmq_floor_begin(): what can be
 * jumped over.  To be followed by cmq_stretch_end().
 */
void
cmq_stretch_begin(CmqStretchScan *scan, CmqSharedQueue *shared,
				  const CmqDeadRule *rule, const CmqFloorScan *floor)
{
	CmqStretch	all[CMQ_STRETCHES];
	CmqStretch	old[CMQ_STRETCHES];
	bool		stay = false;
	int			n;
	int			nold = 0;

	scan->nknown = scan->nfound = 0;
	scan->nrows = -1;
	if (shared->nstretches == 0)
		return;
	SpinLockAcquire(&shared->mutex);
	n = shared->nstretches;
	memcpy(all, shared->stretches, sizeof(CmqStretch) * n);
	SpinLockRelease(&shared->mutex);

	for (int i = 0; i < n; i++)
	{
		CmqStretch *stretch = &all[i];

		if (stretch->last.visible_at < floor->floor)
			old[nold++] = *stretch;
		else if (stretch->last.visible_at >= floor->lowered)
			continue;			/* our own restored rows may be among it */
		else if (is_dead(stretch))
		{
			if (stretch->max_receive_count != rule->max_receive_count ||
				stretch->max_time_to_live != rule->max_time_to_live)
				continue;
			if (stay || (stay = rule->stay(rule->arg)))
				scan->known[scan->nknown++] = *stretch;
		}
		else if (in_progress(stretch->busy_with))
			scan->known[scan->nknown++] = *stretch;
		else
			old[nold++] = *stretch;
	}
	if (nold > 0)
		remove_stretches(shared, old, nold);
}

/* The run of rows of one kind is over. */
void
cmq_stretch_stop(CmqStretchScan *scan)
{
	if (scan->nrows >= MIN_ROWS && scan->nfound < CMQ_STRETCHES)
	{
		CmqStretch *found = &scan->found[scan->nfound++];

		found->first = scan->first;
		found->last = scan->last;
		found->busy_with = TransactionIdIsValid(scan->busy_with) ?
			cmq_identity_widen(scan->busy_with) : InvalidFullTransactionId;
	}
	scan->nrows = -1;
}

/* The scan goes on behind last, in a run of this kind. */
static void
extend_run(CmqStretchScan *scan, const CmqPendingKey *first,
		   const CmqPendingKey *last, TransactionId busy_with)
{
	if (scan->nrows >= 0 && scan->busy_with != busy_with)
		cmq_stretch_stop(scan);
	if (scan->nrows < 0)
	{
		scan->nrows = 0;
		scan->busy_with = busy_with;
		scan->first = *first;
	}
	scan->last = *last;
}

/*
 * The scan has come to the row of this key.  True if it is in a stretch, whose last
 * row is in *last then: to go on behind it.
 */
bool
cmq_stretch_jump(CmqStretchScan *scan, const CmqPendingKey *key,
				 CmqPendingKey *last)
{
	for (int i = 0; i < scan->nknown; i++)
	{
		CmqStretch *stretch = &scan->known[i];

		if (cmq_pending_key_cmp(key, &stretch->first) < 0 ||
			cmq_pending_key_cmp(key, &stretch->last) > 0)
			continue;
		*last = stretch->last;
		extend_run(scan, &stretch->first, last,
				   XidFromFullTransactionId(stretch->busy_with));
		return true;
	}
	return false;
}

/* The scan passes the row of this key: it is busy, or dead if with no transaction. */
void
cmq_stretch_pass(CmqStretchScan *scan, const CmqPendingKey *key,
				 TransactionId busy_with)
{
	extend_run(scan, key, key, busy_with);
	scan->nrows++;
}

/*
 * Install a stretch, in place of those that are parts of it.  The caller holds the
 * mutex.
 */
static void
install(CmqSharedQueue *shared, const CmqStretch *stretch)
{
	int			lowest = 0;

	for (int i = 0; i < shared->nstretches; i++)
	{
		while (i < shared->nstretches &&
			   cmq_pending_key_cmp(&stretch->first, &shared->stretches[i].first) <= 0 &&
			   cmq_pending_key_cmp(&shared->stretches[i].last, &stretch->last) <= 0)
			shared->stretches[i] = shared->stretches[--shared->nstretches];
	}
	if (shared->nstretches < CMQ_STRETCHES)
	{
		shared->stretches[shared->nstretches++] = *stretch;
		return;
	}
	/* the one that consumers will be done with first makes room */
	for (int i = 1; i < shared->nstretches; i++)
	{
		if (cmq_pending_key_cmp(&shared->stretches[i].last,
								&shared->stretches[lowest].last) < 0)
			lowest = i;
	}
	shared->stretches[lowest] = *stretch;
}

/* After a scan, with its view of the floor: leave notes for the next ones. */
void
cmq_stretch_end(CmqStretchScan *scan, CmqSharedQueue *shared,
				const CmqDeadRule *rule, const CmqFloorScan *floor)
{
	TimestampTz limit = Min(floor->limit, floor->taken);
	int			n = 0;

	cmq_stretch_stop(scan);
	for (int i = 0; i < scan->nfound; i++)
	{
		CmqStretch *found = &scan->found[i];

		if (found->last.visible_at >= limit ||
			(is_dead(found) && !rule->stay(rule->arg)))
			continue;
		found->max_receive_count = rule->max_receive_count;
		found->max_time_to_live = rule->max_time_to_live;
		scan->found[n++] = *found;
	}
	if (n == 0)
		return;
	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < n && shared->marks[CMQ_FLOOR].generation == floor->view.generation; i++)
		install(shared, &scan->found[i]);
	SpinLockRelease(&shared->mutex);
}
