/*-------------------------------------------------------------------------
 *
 * cmq_maintain.c
 *	  The steps of maintenance, and cmq_maintain().
 *
 * For each queue: mend triggers, save the clock, make leaves ahead if the queue is in
 * use, purge pending rows that have expired, drop leaves whose time is over, remove
 * history that was forgotten, move
 * the rewind point forward, count its messages, analyze its tables.  Every step is right whether or not it runs, and
 * may run at any time, twice or beside itself: what it removes was invisible
 * before, by comparison of times.
 *
 * The worker runs each step in a transaction of its own; cmq_maintain() runs
 * them all in the caller's.  Either way a step runs as the queue's owner in a
 * restricted security context.
 *
 * The worker's round has one more step, that cmq_maintain() has not: dead letters
 * to queues of other owners, whose code the caller has no reason to trust.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "cmq.h"

PG_FUNCTION_INFO_V1(cmq_maintain);

/*
 * A queue is in use if it was sent to within its retention, or within this many leaf
 * leads.  So one without leaves has no history and no backlog that would make ANALYZE
 * or CREATE INDEX, behind which no leaf can be made, take long.
 */
#define IN_USE_LEADS 4

/* What one step removes of forgotten history: about a million rows. */
#define MAX_FORGET_CALLS 100

/* Leaves are made for this many leads, of half a leaf each, at most. */
#define MAX_AHEAD_LEADS 16

/* How much earlier and later than elsewhere, for the target of a subscription. */
#define TARGET_BEHIND_LEADS 2
#define TARGET_AHEAD_LEADS 4

/*
 * Save the queue clock, for a queue that was used since it was last saved: the
 * messages that the clock is known by may be dropped, and the wall clock may
 * be behind after a restart.
 */
static void
save_clock(CmqQueue *queue)
{
	CmqQueue	changed;

	cmq_queue_attach(queue);
	if ((TimestampTz) pg_atomic_read_u64(&queue->shared->clock) <=
		queue->saved_clock ||
		(queue = cmq_queue_try_lock(queue)) == NULL)
		return;
	cmq_queue_attach(queue);
	changed = *queue;
	changed.saved_clock =
		(TimestampTz) pg_atomic_read_u64(&queue->shared->clock);
	cmq_catalog_update_queue(&changed);
}

/* Make leaves ahead of time for a queue in use. */
static void
make_ahead(CmqQueue *queue)
{
	TimestampTz now;
	TimestampTz lead = cmq_leaf_lead(queue);
	TimestampTz from;
	TimestampTz until;
	bool		target = queue->is_target;

	from = now = cmq_queue_now(queue);
	if (!target && now - (TimestampTz) pg_atomic_read_u64(&queue->shared->last_send) >
		Max(IN_USE_LEADS * lead, queue->msg_retention_seconds * USECS_PER_SEC))
		return;
	/*
	 * Enough to last until the round after the next one, but not so many that
	 * their locks do not fit into one transaction: senders can ask for more.
	 */
	until = now + Min(Max(lead, 2 * cmq_maintenance_interval * USECS_PER_SEC),
					  MAX_AHEAD_LEADS * lead);
	if (target)
	{
		from -= queue->msg_retention_seconds * USECS_PER_SEC +
			TARGET_BEHIND_LEADS * lead;
		until += TARGET_AHEAD_LEADS * lead;
	}
	for (TimestampTz time = from; time <= until;)
	{
		CmqLeaf    *leaf = cmq_queue_leaf(queue, time);

		if (leaf == NULL)
		{
			cmq_leaf_make(queue, time, until);
			break;
		}
		time = leaf->upper;
	}
}

/*
 * Delete pending rows of expired messages that are not in flight.  Most stand at the
 * left end of the index.  Those that were received or delayed stand anywhere: they
 * are looked for, by reading the whole table, unless it is known that nothing
 * pending is so old.
 */
static void
purge_expired(CmqQueue *queue)
{
	TimestampTz now = cmq_queue_now(queue);
	TimestampTz expired_before = cmq_queue_expired_before(queue, now);
	bool		everywhere = cmq_oldest_may_expire(queue, expired_before);
	CmqTable	pending;

	if (queue->is_target)
		return;
	if (cmq_table_open(&pending, NULL, queue, queue->pending, CMQ_PENDING,
					   RowExclusiveLock))
	{
		cmq_table_range(&pending, DT_NOBEGIN,
						everywhere ? DT_NOEND : expired_before, false);
		while (cmq_table_next(&pending))
		{
			TimestampTz time = cmq_slot_time(pending.slot,
											 Anum_pending_enqueued_at);

			/* what is in flight can still be deleted by who has it */
			if (time >= expired_before ||
				(cmq_slot_int(pending.slot, Anum_pending_receive_count) > 0 &&
				 cmq_slot_time(pending.slot, Anum_pending_visible_at) > now) ||
				cmq_table_delete(&pending, false) != TM_Ok)
				continue;
			cmq_floor_taken_message(time);
			cmq_stats_pending(queue->shared, -1);
		}
		cmq_table_close(&pending);
	}
	CommandCounterIncrement();
}

/* Keep the mark of cmq_oldest.c near the oldest pending message. */
static void
settle_oldest(CmqQueue *queue)
{
	TimestampTz now = cmq_queue_now(queue);

	if (cmq_oldest_may_expire(queue, cmq_queue_expired_before(queue, now)))
		cmq_oldest_settle(queue);
	cmq_oldest_advance(queue);
}

/* So that nobody has to wait for a count after a start of the server. */
static void
count_pending(CmqQueue *queue)
{
	(void) cmq_stats_count_pending(queue);
	(void) cmq_stats_count_due(queue);
}

static void
move_dead_letters(CmqQueue *queue)
{
	if (!queue->is_target)
		cmq_dead_letter_sweep(queue);
}

static void
advance_rewind(CmqQueue *queue)
{
	if (!queue->is_target)
		cmq_rewind_advance(queue);
}

static void
drop_leaves(CmqQueue *queue)
{
	(void) cmq_leaf_drop_old(queue);
}

/* Not without end, so that a step of a queue that has much of it gets on each time. */
static void
forget(CmqQueue *queue)
{
	for (int i = 0; i < MAX_FORGET_CALLS && cmq_forget_some(queue); i++)
		queue = cmq_queue_again(queue);
}

/* When ANALYZE last ran for a table; DT_NOBEGIN: never. */
static TimestampTz
last_analyze(Oid relid)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		time;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(relid);
	fcinfo->args[0].isnull = false;
	time = pg_stat_get_last_analyze_time(fcinfo);
	return fcinfo->isnull ? DT_NOBEGIN : DatumGetTimestampTz(time);
}

/*
 * Statistics for those who join the history with their tables.  Autovacuum
 * does leaves, but never the partitioned tables.  For a queue in use, once per
 * leaf and at most once an hour is enough.  Who is in the way is not waited for.
 */
static void
analyze(CmqQueue *queue)
{
	CmqLeaf    *leaf = cmq_queue_leaf(queue, cmq_queue_now(queue));
	Oid			relids[] = {queue->messages, queue->rewind};
	TimestampTz interval;

	/* nothing would tell when it was done last */
	if (leaf == NULL || !pgstat_track_counts)
		return;
	interval = Max(leaf->upper - leaf->lower, USECS_PER_HOUR);
	for (int i = 0; i < lengthof(relids); i++)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz last = last_analyze(relids[i]);

		/* the server goes by the wall clock, which may have been set back */
		if (last < now - interval || last > now)
			cmq_ddl_execute("ANALYZE (SKIP_LOCKED) %s",
							cmq_catalog_relname(relids[i]));
	}
}

typedef void (*MaintainStep) (CmqQueue *queue);

static const MaintainStep maintain_steps[] = {
	cmq_changes_mend_triggers,
	save_clock,
	make_ahead,
	purge_expired,
	settle_oldest,
	move_dead_letters,
	drop_leaves,
	forget,
	advance_rewind,
	/* these take long: after the others of all queues */
	count_pending,
	analyze,
};

const int	cmq_maintain_nsteps = lengthof(maintain_steps);
const int	cmq_maintain_nlong = 2;

/*
 * Raise an error if the table has no valid primary key: then pg_restore is
 * still at work, which makes keys after it has loaded the data, and a
 * partitioned table's is valid only when all its leaves have theirs.  What is
 * not there yet must not count as consumed.
 */
static void
check_restored(CmqQueue *queue, Oid relid)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	Oid			pk;
	bool		valid = false;

	/* dropped while we waited for it: the caller looks again */
	if (rel == NULL)
		return;
	pk = cmq_primary_key(rel);
	if (OidIsValid(pk))
	{
		Relation	index = index_open(pk, AccessShareLock);

		valid = index->rd_index->indisvalid;
		index_close(index, AccessShareLock);
	}
	if (!valid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" is not complete", queue->name),
				 errdetail("Table \"%s\" has no valid primary key.",
						   RelationGetRelationName(rel)),
				 errhint("If the queue is being restored from a dump, this passes when the restore has ended.")));
	relation_close(rel, AccessShareLock);
}

/* Run one step for a queue, as its owner. */
void
cmq_maintain_step(const char *name, int step)
{
	CmqQueue   *queue = cmq_queue_lookup(name);
	Oid			save_userid;
	int			save_sec_context;
	int			nestlevel;

	check_restored(queue, queue->messages);
	check_restored(queue, queue->pending);
	check_restored(queue, queue->rewind);
	queue = cmq_queue_open(name, ACL_NO_RIGHTS, AccessShareLock);
	nestlevel = cmq_ddl_enter(queue->owner, &save_userid,
							  &save_sec_context);
	maintain_steps[step] (queue);
	cmq_ddl_leave(nestlevel, save_userid, save_sec_context);
}

/*
 * Free the shared entries of this database's queues that are gone without
 * cmq_drop_queue: with the extension, by hand, or by the end of a prepared
 * transaction.  A table that another open transaction has made or dropped is
 * locked by it; what our own has dropped may come back, so the entry goes when
 * we commit.  Also take back what processes have left that are gone.
 */
void
cmq_maintain_sweep(void)
{
	CmqSharedKey *keys;
	int			n = cmq_shmem_list(&keys);

	for (int i = 0; i < n; i++)
	{
		Oid			pending = keys[i].pending;

		if (keys[i].database != MyDatabaseId ||
			!ConditionalLockRelationOid(pending, AccessShareLock))
			continue;
		if (get_rel_name(pending) == NULL)
			cmq_shmem_remove_at_end(pending, true);
		else
			UnlockRelationOid(pending, AccessShareLock);
	}
	pfree(keys);
	cmq_shmem_sweep_slots();
}

static void
try_step(const char *name, void *arg)
{
	cmq_maintain_step(name, *(int *) arg);
}

/*
 * All steps in the caller's transaction.  The last ones read whole tables: a page of
 * a message that is bad must not undo what the others have done.
 */
static void
maintain_queue(const char *name)
{
	for (int i = 0; i < cmq_maintain_nsteps; i++)
	{
		if (i < cmq_maintain_nsteps - cmq_maintain_nlong)
			cmq_maintain_step(name, i);
		else
			(void) cmq_queue_try(name, "counts and statistics", try_step, &i, true);
	}
}

static void
maintain_try(const char *name, void *arg)
{
	maintain_queue(name);
}

/* Does the caller own the queue?  A look that a damaged queue does not stop. */
static bool
is_own(const char *name)
{
	CmqQueue	queue;

	return cmq_catalog_find_queue(&queue, name) &&
		SearchSysCacheExists1(RELOID, ObjectIdGetDatum(queue.relid)) &&
		object_ownercheck(RelationRelationId, queue.relid, GetUserId());
}

Datum
cmq_maintain(PG_FUNCTION_ARGS)
{
	cmq_begin_write("cmq_maintain()");

	if (PG_ARGISNULL(0))
	{
		List	   *names = cmq_catalog_queue_names();
		ListCell   *lc;

		cmq_prepared_sweep();
		foreach(lc, names)
		{
			if (is_own(lfirst(lc)))
				(void) cmq_queue_try(lfirst(lc), "maintenance", maintain_try,
									 NULL, true);
		}
		cmq_maintain_sweep();
		/* the record, and what is nobody's, belong to whoever owns the extension */
		if (object_ownercheck(RelationRelationId,
							  cmq_catalog_relid("rewind_log"), GetUserId()))
		{
			cmq_rewind_log_prune();
			cmq_gone_sweep();
		}
	}
	else
	{
		char	   *name = cmq_queue_name_arg(fcinfo, 0);

		cmq_queue_check_owner(cmq_queue_lookup(name));
		maintain_queue(name);
	}
	PG_RETURN_VOID();
}
