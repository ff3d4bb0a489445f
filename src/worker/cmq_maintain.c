/*-------------------------------------------------------------------------
 *
 * cmq_maintain.c
 *	  The steps of maintenance, and cmq_maintain().
 *
 * For each queue: mend triggers, save the clock, make leaves ahead if the queue is in
 * use, purge pending rows that have expired, keep the mark of the earliest message,
 * move dead letters, drop leaves of keys and leaves whose time is over, remove history that was
 * forgotten, move the rewind point forward, count its messages, analyze its tables.
 * Nothing depends on whether or when a step runs, or how often, or beside itself: what it
 * removes was invisible before, by comparison of times.
 *
 * The worker runs each step in portions, each a transaction of its own that is bounded in
 * rows, locks and time.  A portion reads the queue's bounds of time anew, and says
 * whether there is more.  It notes its place in the queue's shared entry before the
 * transaction commits: so the walk passes rows with which nothing can be done, and meets
 * them again when it begins anew.  What remains when the queue's turn is over is left to
 * the next round.
 *
 * cmq_maintain() runs all steps in the caller's transaction, which keeps the locks that
 * the steps take.  It purges all expired rows, but bounds how many leaves it drops, how
 * many dead letters it moves, and at how many rows it looks for forgotten history.
 * Without a name it bounds the number of queues, too: queues in which nothing had to be
 * written leave no locks behind, and when the others have taken their part of the lock
 * table the rest is left for the next call.
 *
 * Either way a step runs as the queue's owner in a restricted security context.
 *
 * The worker alone moves dead letters to queues of other owners, whose code the caller of
 * cmq_maintain() has no reason to trust.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "base/cmq_settings.h"
#include "base/cmq_try.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_wait.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_catalog.h"
#include "store/cmq_counting.h"
#include "store/cmq_ddl.h"
#include "store/cmq_description.h"
#include "store/cmq_dump.h"
#include "store/cmq_journal_rows.h"
#include "store/cmq_leaf.h"
#include "store/cmq_owner.h"
#include "store/cmq_queue.h"
#include "store/cmq_rewind_log.h"
#include "store/cmq_rights.h"
#include "store/cmq_triggers.h"
#include "verbs/cmq_gone.h"
#include "verbs/cmq_journal_drop.h"
#include "verbs/cmq_rewind.h"
#include "worker/cmq_dedup_drop.h"
#include "worker/cmq_forget.h"
#include "worker/cmq_leaf_drop.h"
#include "worker/cmq_letters.h"
#include "worker/cmq_maintain.h"
#include "worker/cmq_portion.h"
#include "worker/cmq_purge.h"

PG_FUNCTION_INFO_V1(cmq_maintain);

/*
 * A queue is in use if it was sent to within its retention, or within this many leaf
 * leads.  So a queue without leaves holds nothing that would make ANALYZE or CREATE INDEX
 * take long, behind which no leaf can be made.
 */
#define IN_USE_LEADS 4

/* How often a call by hand looks for forgotten history, at 10,000 rows each time. */
#define MAX_FORGET_CALLS 100

/* Leaves are made for this many leads, of half a leaf each, at most. */
#define MAX_AHEAD_LEADS 16

/* How much further back and ahead they are made for the target of a subscription. */
#define TARGET_BEHIND_LEADS 2
#define TARGET_AHEAD_LEADS 4

/* With more leaves than this, which are to be dropped, there is no ANALYZE. */
#define MAX_ANALYZED_LEAVES 200

/*
 * Save the queue clock of a queue that was used since the last time.  After a restart the
 * messages that tell the clock may have been dropped, and the wall clock be behind.
 */
static CmqStepResult
save_clock(CmqQueue *queue, const CmqPortion *portion)
{
	CmqDescription changed;

	if (cmq_clock_last(queue->shared) <= queue->saved_clock ||
		(queue = cmq_queue_try_lock(queue)) == NULL)
		return CMQ_STEP_DONE;
	changed = *queue;
	changed.saved_clock = cmq_clock_last(queue->shared);
	cmq_catalog_update_queue(&changed);
	return CMQ_STEP_DONE;
}

/* Make leaves ahead of time for a queue in use. */
static CmqStepResult
make_ahead(CmqQueue *queue, const CmqPortion *portion)
{
	TimestampTz now = cmq_queue_now(queue);
	TimestampTz lead = cmq_leaf_lead(queue);
	TimestampTz from = now;
	TimestampTz until;
	CmqLeaf    *leaf;

	if (!queue->is_target && now - cmq_notes_last_send(queue->shared) >
		Max(IN_USE_LEADS * lead, queue->msg_retention_seconds * USECS_PER_SEC))
		return CMQ_STEP_DONE;

	/*
	 * Enough to last until the round after the next one, but not so many that
	 * their locks do not fit into one transaction: senders can ask for more.
	 */
	until = now + Min(Max(lead, 2 * cmq_maintenance_interval * USECS_PER_SEC),
					  MAX_AHEAD_LEADS * lead);
	if (queue->is_target)
	{
		from -= queue->msg_retention_seconds * USECS_PER_SEC +
			TARGET_BEHIND_LEADS * lead;
		until += TARGET_AHEAD_LEADS * lead;
	}
	while (from <= until && (leaf = cmq_bounds_leaf(queue, from)) != NULL)
		from = leaf->upper;
	if (from <= until)
		cmq_leaf_make(queue, from, until);
	return CMQ_STEP_DONE;
}

static CmqStepResult
advance_rewind(CmqQueue *queue, const CmqPortion *portion)
{
	cmq_rewind_advance(queue);
	return CMQ_STEP_DONE;
}

/* After a start of the server, so that no call has to wait for a count. */
static CmqStepResult
count_pending(CmqQueue *queue, const CmqPortion *portion)
{
	cmq_counting_ahead(queue);
	return CMQ_STEP_DONE;
}

/* Bounded by hand, too: a call that removes a part and commits has got on. */
static CmqStepResult
forget(CmqQueue *queue, const CmqPortion *portion)
{
	CmqStepResult result = CMQ_STEP_MORE;

	for (int i = 0; i < (portion->bounded ? 1 : MAX_FORGET_CALLS) &&
		 result != CMQ_STEP_DONE; i++)
	{
		queue = cmq_queue_again(queue);
		result = cmq_forget_some(queue);
	}
	/* by hand the caller must be told: nothing goes on by itself */
	return result == CMQ_STEP_LOOKING && !portion->bounded ? CMQ_STEP_MORE : result;
}

static CmqStepResult
mend_triggers(CmqQueue *queue, const CmqPortion *portion)
{
	if (cmq_triggers_mend(queue))
		cmq_triggers_distrust(queue->shared);
	return CMQ_STEP_DONE;
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
 * Statistics for queries that join the history with other tables.  Autovacuum analyzes
 * leaves, but never the partitioned tables.  For a queue in use, once per leaf and at most
 * once an hour is enough.  It waits for no lock.
 */
static CmqStepResult
analyze(CmqQueue *queue, const CmqPortion *portion)
{
	CmqLeaf    *leaf = cmq_bounds_leaf(queue, cmq_queue_now(queue));
	Oid			relids[] = {queue->messages, queue->rewind};
	TimestampTz interval;

	/*
	 * without pgstat_track_counts nothing tells when it was done last; and it
	 * locks all leaves
	 */
	if (leaf == NULL || !pgstat_track_counts ||
		queue->nleaves > MAX_ANALYZED_LEAVES)
		return CMQ_STEP_DONE;
	interval = Max(leaf->upper - leaf->lower, USECS_PER_HOUR);
	for (int i = 0; i < (queue->is_journal ? 1 : lengthof(relids)); i++)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz last = last_analyze(relids[i]);

		/* the server goes by the wall clock, which may have been set back */
		if (last < now - interval || last > now)
			cmq_ddl_execute("ANALYZE (SKIP_LOCKED) %s",
							cmq_full_name(relids[i]));
	}
	return CMQ_STEP_DONE;
}

static CmqStepResult
drop_of_journal(CmqQueue *journal, const CmqPortion *portion)
{
	return cmq_journal_drop_old(journal) ? CMQ_STEP_MORE : CMQ_STEP_DONE;
}

typedef enum StepOf
{
	OF_QUEUES,
	OF_JOURNALS,
	OF_BOTH
} StepOf;

typedef struct Step
{
	CmqStepResult (*run) (CmqQueue *queue, const CmqPortion *portion);
	bool		not_target;		/* not for the target of a subscription */
	StepOf		of;
} Step;

static const Step short_steps[] = {
	{.run = mend_triggers},
	{.run = save_clock},
	{.run = make_ahead,.of = OF_BOTH},
	{.run = cmq_purge_old_keys},
	{.run = cmq_purge_rest},
	{.run = cmq_purge_raise_mark},
	{.run = cmq_letters_sweep,.not_target = true},
	{.run = cmq_dedup_drop_old,.not_target = true},
	{.run = cmq_leaf_drop_old},
	{.run = forget},
	{.run = advance_rewind,.not_target = true},
	{.run = drop_of_journal,.not_target = true,.of = OF_JOURNALS},
};

/* After the others of all queues. */
static const Step long_steps[] = {
	{.run = count_pending},
	{.run = analyze,.of = OF_BOTH},
};

int
cmq_maintain_nsteps(CmqTurnKind kind)
{
	return kind == CMQ_SHORT_TURN ? lengthof(short_steps) :
		lengthof(long_steps);
}

/*
 * Run one step of a kind of turn for a queue, or a bounded portion of it, as the queue's
 * owner.  Raises 42704 and 55000.
 */
CmqStepResult
cmq_maintain_step(const char *name, CmqTurnKind kind, int i, bool bounded)
{
	const Step *step = kind == CMQ_SHORT_TURN ? &short_steps[i] : &long_steps[i];
	CmqPortion	portion = {.bounded = bounded};
	CmqStepResult result;
	CmqQueue   *queue;
	CmqOwnerScope scope;

	/* a step before may have dropped it */
	if (cmq_is_journal_name(name) && cmq_queue_find(name) == NULL)
		return CMQ_STEP_DONE;
	queue = cmq_queue_lookup(name, ACL_NO_RIGHTS);
	cmq_dump_check_keys(queue);
	queue = cmq_queue_open(name, ACL_NO_RIGHTS, AccessShareLock);
	if ((step->not_target && queue->is_target) ||
		(step->of != OF_BOTH && (step->of == OF_JOURNALS) != queue->is_journal))
		return CMQ_STEP_DONE;
	cmq_owner_enter(&scope, queue->owner);
	portion.begun = cmq_elapsed();
	result = step->run(queue, &portion);
	cmq_owner_leave(&scope);
	return result;
}

/*
 * Free the shared entries of this database's queues that are gone without
 * cmq_drop_queue: with the extension, by hand, or by the end of a prepared
 * transaction.  A table that another open transaction has made or dropped is locked by
 * it, and so left alone.  What the own transaction has dropped may come back, so the entry
 * goes at commit.  Also take back what processes that are gone have left.
 */
void
cmq_maintain_sweep(void)
{
	CmqSharedKey *keys;
	int			n = cmq_shared_list(&keys);

	for (int i = 0; i < n; i++)
	{
		Oid			pending = keys[i].pending;

		if (keys[i].database != MyDatabaseId ||
			!ConditionalLockRelationOid(pending, AccessShareLock))
			continue;
		if (get_rel_name(pending) == NULL)
			cmq_xact_remove_at_end(pending, true);
		else
			UnlockRelationOid(pending, AccessShareLock);
	}
	pfree(keys);
	cmq_wait_sweep();
}

static void
try_long_step(const char *name, void *arg)
{
	(void) cmq_maintain_step(name, CMQ_LONG_TURN, *(int *) arg, false);
}

/*
 * All steps in the caller's transaction.  The long ones read whole tables: a bad page
 * must not undo what the others have done.
 */
static void
maintain_queue(const char *name)
{
	bool		more = false;

	for (int i = 0; i < lengthof(short_steps); i++)
		more |= cmq_maintain_step(name, CMQ_SHORT_TURN, i, false) == CMQ_STEP_MORE;
	for (int i = 0; i < lengthof(long_steps); i++)
		(void) cmq_try(name, "counts and statistics", try_long_step, &i,
					   CMQ_TRY_WARN);
	if (more)
		ereport(NOTICE,
				(errmsg("there is more to maintain in %s \"%s\"",
						cmq_kind_of(name), cmq_plain(name)),
				 errdetail("One transaction drops only so many old partitions as it can hold locks for, and removes a part of the history that was forgotten."),
				 errhint("Commit and call cmq_maintain(%s) again, or leave it to the worker.",
						 cmq_is_journal_name(name) ? "" :
						 quote_literal_cstr(name))));
}

static void
maintain_try(const char *name, void *arg)
{
	/* asked inside: what the caller has written before does not count */
	bool	   *wrote = arg;

	maintain_queue(name);
	*wrote = TransactionIdIsValid(GetCurrentTransactionIdIfAny());
}

/* Does the caller own the queue?  Raises no error for a damaged one. */
static bool
is_own(const char *name, Oid *pending)
{
	CmqDescription queue;

	if (!cmq_journal_find_any(&queue, name) ||
		!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(queue.relid)))
		return false;
	*pending = queue.pending;
	return object_ownercheck(RelationRelationId, queue.relid, GetUserId());
}

/* A queue that a call without a name comes to. */
typedef struct Candidate
{
	char	   *name;
	CmqSharedKey key;
	bool		left_out;		/* by the last call */
} Candidate;

/* The caller's queues in the order of their names; those left out last time first. */
static List *
list_own(void)
{
	List	   *left_out = NIL;
	List	   *others = NIL;
	ListCell   *lc;

	foreach(lc, list_concat(cmq_catalog_queue_names(), cmq_journal_names()))
	{
		Candidate  *candidate = palloc0(sizeof(Candidate));

		candidate->name = lfirst(lc);
		candidate->key.database = MyDatabaseId;
		if (!is_own(candidate->name, &candidate->key.pending))
			continue;
		candidate->left_out = cmq_notes_left_out(&candidate->key);
		if (candidate->left_out)
			left_out = lappend(left_out, candidate);
		else
			others = lappend(others, candidate);
	}
	return list_concat(left_out, others);
}

/* Maintain the caller's queues, as far as there is room for locks. */
static void
maintain_all(void)
{
	List	   *queues = list_own();
	bool		have_room = true;
	int			left = 0;
	ListCell   *lc;

	foreach(lc, queues)
	{
		Candidate  *queue = lfirst(lc);
		bool		left_out = !have_room;

		if (have_room)
		{
			bool		wrote = false;

			(void) cmq_try(queue->name, "maintenance", maintain_try, &wrote,
						   CMQ_TRY_LIGHT | CMQ_TRY_WARN);
			have_room = !wrote || cmq_portion_has_room();
		}
		left += left_out;
		if (left_out != queue->left_out)
			cmq_notes_set_left_out(&queue->key, left_out);
		CHECK_FOR_INTERRUPTS();
	}
	if (left > 0)
		ereport(NOTICE,
				(errmsg("%d of %d queues were not maintained", left,
						list_length(queues)),
				 errdetail("One transaction maintains so many queues only as it can hold locks for."),
				 errhint("Commit and call cmq_maintain() again: it begins with these.")));
	list_free_deep(queues);
}

Datum
cmq_maintain(PG_FUNCTION_ARGS)
{
	cmq_begin_write("cmq_maintain()");

	if (PG_ARGISNULL(0))
	{
		cmq_prepared_sweep();
		maintain_all();
		cmq_maintain_sweep();

		/*
		 * the owner of the extension keeps the record, and removes what has
		 * no owner
		 */
		if (object_ownercheck(RelationRelationId,
							  cmq_relid("rewind_log"), GetUserId()))
		{
			cmq_rewind_log_prune();
			cmq_gone_sweep();
		}
	}
	else
	{
		char	   *name = cmq_queue_name_arg(fcinfo, 0);

		cmq_rights_check_owner(cmq_queue_lookup(name, ACL_NO_RIGHTS));
		maintain_queue(name);
	}
	PG_RETURN_VOID();
}
