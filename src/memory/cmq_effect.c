/*-------------------------------------------------------------------------
 *
 * cmq_effect.c
 *	  What a transaction has done to a queue that others learn when it ends.
 *
 * An effect is plain data: a transaction has one for each queue and subtransaction
 * (cmq_xact.c), and at PREPARE they go to shared memory (cmq_prepared.c), to be applied
 * by the first process that finds that the transaction has ended.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"

#include "memory/cmq_count.h"
#include "memory/cmq_effect.h"
#include "memory/cmq_group_events.h"
#include "memory/cmq_types.h"
#include "memory/cmq_wait.h"

static int
add_waiters(int n, int more)
{
	int			sum;

	return pg_add_s32_overflow(n, more, &sum) ? CMQ_ALL_WAITERS : sum;
}

/* Wake more waiters: at_commit if the transaction commits, at_abort if it aborts. */
void
cmq_effect_wake(CmqEffect *effect, int at_commit, int at_abort)
{
	effect->wake_at_commit = add_waiters(effect->wake_at_commit, at_commit);
	effect->wake_at_abort = add_waiters(effect->wake_at_abort, at_abort);
}

/* Add what more has been done to the same queue. */
void
cmq_effect_merge(CmqEffect *effect, const CmqEffect *more)
{
	cmq_effect_wake(effect, more->wake_at_commit, more->wake_at_abort);
	effect->changed |= more->changed;
	cmq_group_events_merge(&effect->groups, &more->groups);
	cmq_changes_merge(&effect->changes, &more->changes);
}

/*
 * The transaction has committed, and can be seen: count, and say which groups have
 * changed, before waiters look.  See cmq_count_add() for the id.
 */
void
cmq_effect_committed(const CmqEffect *effect, CmqSharedQueue *shared,
					 TransactionId xid)
{
	cmq_count_add(shared, &effect->changes, xid);
	cmq_group_events_raise(shared, &effect->groups);
	cmq_wait_signal(shared, effect->wake_at_commit, effect->changed);
}

/* It has aborted: what it had taken is ready again. */
void
cmq_effect_aborted(const CmqEffect *effect, CmqSharedQueue *shared)
{
	cmq_group_events_raise(shared, &effect->groups);
	cmq_wait_signal(shared, effect->wake_at_abort, false);
}
