/*-------------------------------------------------------------------------
 *
 * cmq_alter.c
 *	  Alter queues.
 *
 * An alter changes the queue's row and touches no message; cmq_forget.c has what follows
 * when rewind is switched off.
 *
 * Locks: the queue lock; for a new policy also that of the dead-letter queue, in Share
 * mode (cmq_binding.c).  A change of the retention, and switching rewind on or off, lock
 * the pending table against traffic: each call either has committed under the old setting
 * or sees the new one.  So does beginning or ceasing to keep keys (cmq_dedup.c), which
 * makes or drops their tables, as the owner of the queue; it also keeps others from
 * making leaves.  Abort: the row is as it was, and DDL is undone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

#include "base/cmq_args.h"
#include "base/cmq_names.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_catalog.h"
#include "store/cmq_ddl.h"
#include "store/cmq_dedup.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf.h"
#include "store/cmq_load.h"
#include "store/cmq_lock.h"
#include "store/cmq_owner.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "verbs/cmq_binding.h"
#include "verbs/cmq_queue_args.h"

PG_FUNCTION_INFO_V1(cmq_alter_queue);

/* There is no ordered here, which a queue has from the beginning, or never. */
#define DEDUP_ARGNO 13

/*
 * Fill *changed with the queue as the arguments would have it; *bind says whether they
 * give a dead-letter policy.  False if they give nothing.  Raises 22023.
 */
static bool
get_changes(FunctionCallInfo fcinfo, CmqQueue *queue, CmqDescription *changed,
			bool *bind)
{
	bool		any;

	*changed = *queue;
	any = cmq_queue_args_get_settings(fcinfo, changed, true);
	any |= cmq_queue_args_get_dedup(fcinfo, DEDUP_ARGNO, changed, true);
	*bind = cmq_queue_args_get_dead_letter(fcinfo, changed);
	return any || *bind;
}

static bool
switches_rewind(CmqQueue *queue, CmqDescription *changed)
{
	return (queue->rewind_seconds == 0) != (changed->rewind_seconds == 0);
}

static bool
switches_dedup(CmqQueue *queue, CmqDescription *changed)
{
	return (queue->dedup_seconds == 0) != (changed->dedup_seconds == 0);
}

/* The tables that are dropped when keys are kept no more. */
static List *
list_keys(CmqQueue *queue)
{
	List	   *relids = NIL;

	if (OidIsValid(queue->dedup) &&
		get_rel_relkind(queue->dedup) == RELKIND_PARTITIONED_TABLE)
		relids = lappend_oid(relids, queue->dedup);
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (OidIsValid(queue->leaves[i].dedup))
			relids = lappend_oid(relids, queue->leaves[i].dedup);
	}
	return relids;
}

/*
 * No call may run with the old setting once the new one is visible: it would treat a
 * live message as expired, or as gone, and raise the scan floor above it permanently.
 * Returns the queue as it is under the lock.  Raises 55P03 if the lock is not to be had,
 * 55006 if a call of this session uses the queue.
 */
static CmqQueue *
keep_traffic_away(CmqQueue *queue, CmqDescription *changed)
{
	if (!switches_rewind(queue, changed) && !switches_dedup(queue, changed) &&
		queue->msg_retention_seconds == changed->msg_retention_seconds)
		return queue;
	cmq_lock_alone(queue->name, queue->pending,
				   switches_dedup(queue, changed) ? list_keys(queue) : NIL,
				   "alter");
	queue = cmq_queue_again(queue);
	cmq_rights_check_acl(queue, ACL_UPDATE);
	if (switches_rewind(queue, changed))
		cmq_lock_check_not_in_use(queue->name, queue->pending,
								  "switch the rewind of");
	if (switches_dedup(queue, changed))
	{
		cmq_lock_check_not_in_use(queue->name, queue->pending,
								  "switch dedup_seconds of");
		/* as whoever makes a leaf does */
		LockRelationOid(queue->messages, ShareUpdateExclusiveLock);
		queue = cmq_queue_again(queue);
	}
	return queue;
}

/* What has expired by the old or the new setting stays so. */
static void
set_retention(CmqQueue *queue, CmqDescription *changed, TimestampTz now)
{
	if (changed->msg_retention_seconds == queue->msg_retention_seconds)
		return;
	/* a rollback makes alive what a shorter retention lets expire */
	cmq_xact_taken_unknown(queue->shared);
	/* what holds its group in flight may have expired, before others think */
	if (queue->ordered)
	{
		cmq_xact_groups_unknown(queue->shared);
		cmq_xact_wake_all(queue->shared);
	}
	changed->expired_before =
		Max(queue->expired_before,
			now - Min(queue->msg_retention_seconds,
					  changed->msg_retention_seconds) * USECS_PER_SEC);
}

/*
 * What is outside of the rewind window by the old or the new setting stays outside; the
 * window is that of cmq_bounds_rewindable_since().  Returns the time of the change.
 */
static TimestampTz
set_rewind(CmqQueue *queue, CmqDescription *changed, TimestampTz now)
{
	if (changed->rewind_seconds == 0)
	{
		/*
		 * no delete is open: each has committed with an earlier deleted_at,
		 * or will have a later one
		 */
		if (queue->rewind_seconds > 0)
		{
			now = changed->history_since = cmq_clock_tick(queue->shared);
			changed->leftovers = true;
		}
		memset(&changed->rewinding, 0, sizeof(changed->rewinding));
		changed->forgotten_before = DT_NOBEGIN;
	}
	else if (queue->rewind_seconds > 0 &&
			 changed->rewind_seconds != queue->rewind_seconds)
		changed->forgotten_before =
			Max(queue->forgotten_before,
				cmq_clock_xact_start(queue->shared) -
				Min(queue->rewind_seconds,
					changed->rewind_seconds) * USECS_PER_SEC);
	return now;
}

/* Before the row is changed: make the table of keys, or forget which it is. */
static void
set_dedup(CmqQueue *queue, CmqDescription *changed)
{
	CmqOwnerScope scope;

	if (!switches_dedup(queue, changed))
		return;
	changed->dedup = InvalidOid;
	if (changed->dedup_seconds == 0)
	{
		for (int i = 0; i < queue->nleaves; i++)
		{
			if (OidIsValid(queue->leaves[i].dedup))
				cmq_catalog_set_keys(queue, queue->leaves[i].lower, InvalidOid);
		}
		return;
	}
	cmq_owner_enter(&scope, queue->owner);
	changed->dedup = cmq_dedup_create(queue->name);
	cmq_owner_leave(&scope);
}

/* After that: make the leaves of keys, or drop all keys. */
static void
make_or_drop_keys(CmqQueue *queue, CmqDescription *changed)
{
	CmqDescription left = *queue;
	CmqOwnerScope scope;

	if (!switches_dedup(queue, changed))
		return;
	if (changed->dedup_seconds > 0)
	{
		cmq_leaf_add_keys(cmq_queue_again(queue));
		return;
	}
	/* somebody may have dropped it, or made another one of its name */
	if (!cmq_load_has_relation(&left, queue->dedup, CMQ_DEDUP_TABLE))
		return;
	cmq_owner_enter(&scope, queue->owner);
	cmq_ddl_execute("DROP TABLE %s", cmq_full_name(queue->dedup));
	cmq_owner_leave(&scope);
}

Datum
cmq_alter_queue(PG_FUNCTION_ARGS)
{
	CmqDescription changed;
	CmqQueue   *queue;
	TimestampTz now;
	bool		bind;

	cmq_begin_write("cmq_alter_queue()");
	queue = cmq_queue_lookup(cmq_queue_name_arg(fcinfo, 0), ACL_UPDATE);
	/* before any lock, so that a bad value never waits */
	if (!get_changes(fcinfo, queue, &changed, &bind))
		PG_RETURN_VOID();

	queue = cmq_queue_lock(queue->name, ACL_UPDATE, ExclusiveLock);
	(void) get_changes(fcinfo, queue, &changed, &bind);
	if (bind)
	{
		/*
		 * a policy takes messages out of the queue, for others to read
		 */
		cmq_rights_check_acl(queue, ACL_DELETE);
		cmq_binding_check(&changed);
	}
	queue = keep_traffic_away(queue, &changed);

	now = cmq_queue_now(queue);
	set_retention(queue, &changed, now);
	now = set_rewind(queue, &changed, now);
	set_dedup(queue, &changed);
	changed.last_modify_time = changed.saved_clock = now;
	cmq_catalog_update_queue(&changed);
	make_or_drop_keys(queue, &changed);
	PG_RETURN_VOID();
}
