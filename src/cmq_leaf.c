/*-------------------------------------------------------------------------
 *
 * cmq_leaf.c
 *	  Leaf tables: making them ahead of time or on demand, dropping old ones.
 *
 * A queue's messages and its rewind table are partitioned by production time
 * with the same bounds; a leaf is one pair of tables, and cmq.partition maps
 * times to pairs.  Bounds are multiples of the width, which follows from the
 * retention; a leaf made after the retention was changed is clipped to fit
 * between those that exist.
 *
 * Traffic addresses leaves directly and locks only them.  Attaching a leaf
 * takes ShareUpdateExclusive on the two parents, which neither traffic nor
 * reports conflict with.  Dropping one takes AccessExclusive on the parents
 * and the pair: not by waiting in line, which would hold up whoever comes
 * next, but by trying for a moment; if somebody is in the way the leaf is left
 * for the next round.
 *
 * When a leaf may be dropped:
 *	- all its times have passed the retention: whatever is in it has expired;
 *	- or all its times have passed the rewind window, nothing in it is pending,
 *	  the rewind under way brings nothing of it back, and no restore from a dump
 *	  has brought it (cmq_dump.c).
 * Both are decided after the locks are held: with AccessExclusive on the pair
 * no transaction that sent, received or deleted in it is open, and with the
 * queue lock no rewind or restore is.  Tables are read before that, for under these
 * locks nobody else can read the queue: what is pending by the mark of cmq_oldest.c or
 * by one scan for all leaves, and then it is enough that nothing can have come up
 * since; what is due by the rewind rows, which only become fewer while it is
 * the same rewind.
 *
 * A transaction drops MAX_DROPS leaves at most, since it keeps their locks.
 *
 * DDL never runs in the transaction of somebody who sends, except in the one
 * that created the queue: a sender who finds no leaf has a worker make one.  It waits
 * for a moment, as the worker does for who has a lock on the parents (ANALYZE, or
 * CREATE INDEX).  Others who come meanwhile wait for the same worker, and fail with it:
 * so nobody waits longer, and a queue that is locked does not use up workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "cmq.h"

/* Subobject of the queue lock under which senders ask for a leaf. */
#define DEMAND_LOCK 1

/*
 * How long a leaf that has expired is kept for the target of a subscription, where
 * rows may come late: about another retention.
 */
#define TARGET_KEEP_LEADS 16

/* How many leaves one transaction drops: each takes about ten locks. */
#define MAX_DROPS 50

/* After so many it looks whether there is room for more. */
#define DROPS_PER_LOOK 5

/* After so many that somebody has the others wait for the next round. */
#define MAX_BUSY 5

static const int leaf_minutes[] = {
	1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440
};

/* The time a leaf covers: the largest readable unit within retention / 8. */
static TimestampTz
leaf_width(CmqQueue *queue)
{
	int			minutes = leaf_minutes[0];

	for (int i = 1; i < lengthof(leaf_minutes); i++)
	{
		if (leaf_minutes[i] * SECS_PER_MINUTE * 8 <= queue->msg_retention_seconds)
			minutes = leaf_minutes[i];
	}
	return minutes * SECS_PER_MINUTE * USECS_PER_SEC;
}

/* How far ahead of the clock leaves are made. */
TimestampTz
cmq_leaf_lead(CmqQueue *queue)
{
	return leaf_width(queue) / 2;
}

/* prefix + queue name + lower bound to the minute, in UTC */
static char *
leaf_name(const char *prefix, const char *name, TimestampTz lower)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(lower, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "leaf bound out of range");
	return cmq_ddl_relname(prefix, name,
						   psprintf("_%04d%02d%02d%02d%02d", tm.tm_year,
									tm.tm_mon, tm.tm_mday, tm.tm_hour,
									tm.tm_min));
}

/* A time as a literal that means the same in every session. */
static char *
time_literal(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "leaf bound out of range");
	return psprintf("'%04d-%02d-%02d %02d:%02d:%02d+00'", tm.tm_year,
					tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/*
 * Raise 55000 if the name of a leaf to be made is taken: by one that was detached, or by
 * a table of somebody's.
 */
static void
check_free(CmqQueue *queue, Oid parent, const char *leaf, TimestampTz lower,
		   TimestampTz upper)
{
	const char *name = quote_qualified_identifier(CMQ_DATA_SCHEMA, leaf);

	if (OidIsValid(cmq_data_relid(leaf)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s is in the way of a partition of queue \"%s\"",
						name, queue->name),
				 errdetail("It was detached from the queue, or is somebody's own."),
				 errhint("Attach it: ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s); or rename it: ALTER TABLE %s RENAME TO ..;",
						 cmq_catalog_relname(parent), name, time_literal(lower),
						 time_literal(upper), name)));
}

/* Make a leaf table; returns its OID. */
static Oid
make_table(CmqQueue *queue, Oid parent, const char *leaf, TimestampTz lower,
		   TimestampTz upper)
{
	const char *parent_name = cmq_catalog_relname(parent);
	const char *leaf_name = quote_qualified_identifier(CMQ_DATA_SCHEMA, leaf);
	Oid			tablespace = get_rel_tablespace(parent);
	const char *where = "";
	Oid			relid;

	check_free(queue, parent, leaf, lower, upper);

	/*
	 * CREATE TABLE .. PARTITION OF would lock the parent exclusively.  As it
	 * does, put the leaf where the parent says; LIKE does so for the indexes.
	 */
	if (OidIsValid(tablespace))
		where = psprintf("TABLESPACE %s",
						 quote_identifier(get_tablespace_name(tablespace)));
	cmq_ddl_execute("CREATE TABLE %s (LIKE %s INCLUDING ALL) USING heap %s",
					leaf_name, parent_name, where);
	relid = cmq_data_relid(leaf);
	cmq_ddl_revoke_all(relid);
	cmq_ddl_refuse_truncate(leaf_name, queue->name);
	cmq_ddl_execute("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)",
					parent_name, leaf_name, time_literal(lower),
					time_literal(upper));
	return relid;
}

/*
 * Make the leaves that are missing to cover [from, until].  Returns whether
 * any was made.  Runs DDL as the queue's owner.
 */
bool
cmq_leaf_make(CmqQueue *queue, TimestampTz from, TimestampTz until)
{
	char		name[NAMEDATALEN];
	bool		made = false;
	TimestampTz time = from;
	Oid			save_userid;
	int			save_sec_context;
	int			nestlevel;

	/* one maker at a time; the other one may have done the work */
	strlcpy(name, queue->name, NAMEDATALEN);
	LockRelationOid(queue->messages, ShareUpdateExclusiveLock);
	queue = cmq_queue_again(queue);

	nestlevel = cmq_ddl_enter(queue->owner, &save_userid,
							  &save_sec_context);
	/* the session that happens to make a leaf has no say in where it goes */
	(void) set_config_option("default_tablespace", "", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	while (time <= until)
	{
		CmqLeaf    *leaf = cmq_queue_leaf(queue, time);
		TimestampTz width = leaf_width(queue);
		TimestampTz lower = time - time % width;
		TimestampTz upper = lower + width;
		Oid			messages;
		Oid			rewind;

		if (leaf)
		{
			time = leaf->upper;
			continue;
		}
		for (int i = 0; i < queue->nleaves; i++)
		{
			leaf = &queue->leaves[i];
			if (leaf->upper <= time)
				lower = Max(lower, leaf->upper);
			else
				upper = Min(upper, leaf->lower);
		}

		messages = make_table(queue, queue->messages, leaf_name("m_", name, lower),
							  lower, upper);
		rewind = make_table(queue, queue->rewind, leaf_name("r_", name, lower),
							lower, upper);
		/* somebody may have dropped the tables of such a leaf by hand */
		cmq_catalog_delete_leaf(queue, lower);
		cmq_catalog_insert_leaf(queue, lower, upper, messages, rewind);
		made = true;
		time = upper;
		queue = cmq_queue_again(queue);
	}
	cmq_ddl_leave(nestlevel, save_userid, save_sec_context);
	return made;
}

static bool
created_in_this_transaction(CmqQueue *queue)
{
	Relation	rel = relation_open(queue->messages, AccessShareLock);
	bool		result = rel->rd_createSubid != InvalidSubTransactionId;

	relation_close(rel, AccessShareLock);
	return result;
}

/* Raise an error if that is why there is no leaf for the present time. */
static void
check_present_free(CmqQueue *queue)
{
	TimestampTz now = cmq_queue_now(queue);
	TimestampTz width = leaf_width(queue);
	TimestampTz lower = now - now % width;

	check_free(queue, queue->messages, leaf_name("m_", queue->name, lower),
			   lower, lower + width);
	check_free(queue, queue->rewind, leaf_name("r_", queue->name, lower),
			   lower, lower + width);
}

/* A new shared entry of a queue. */
void
cmq_leaf_init(CmqSharedQueue *shared)
{
	pg_atomic_init_u32(&shared->demands_failed, 0);
}

/*
 * Raise an error: no worker could be started, or it could not make a leaf.  Says
 * which transaction is in the way, if one is.
 */
static void
report_no_leaf(CmqQueue *queue, bool started)
{
	const Oid	parents[] = {queue->messages, queue->rewind};

	if (!started)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a worker to make a partition for queue \"%s\"",
						queue->name),
				 errdetail("All places for background workers are taken."),
				 errhint("Try again, or raise max_worker_processes.")));
	for (int i = 0; i < lengthof(parents); i++)
	{
		const char *relname = cmq_catalog_relname(parents[i]);

		if (cmq_lock_is_had(parents[i], ShareUpdateExclusiveLock))
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("there is no partition for the present time in queue \"%s\"",
							queue->name),
					 errdetail("None can be made while a transaction that has not ended has a lock on %s.",
							   relname),
					 errhint("Find it with SELECT pid, mode FROM pg_locks WHERE relation = %s::regclass, and try again when it has ended.",
							 quote_literal_cstr(relname))));
	}
	check_present_free(queue);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("there is no partition for the present time in queue \"%s\"",
					queue->name),
			 errdetail("The maintenance worker could not make one."),
			 errhint("The server log says why. The owner of the queue needs CREATE on schema %s, and no open transaction may have locked the queue's tables.",
					 CMQ_DATA_SCHEMA)));
}

/*
 * One more demand has failed: demands_failed counts them by twos, and is odd if the
 * last one did because no worker could be started.  The caller holds the lock of
 * demands.
 */
static void
note_failure(CmqSharedQueue *shared, bool started)
{
	uint32		failed = pg_atomic_read_u32(&shared->demands_failed);

	pg_atomic_write_u32(&shared->demands_failed,
						(failed & ~1u) + (started ? 2 : 3));
}

/* Is there a leaf for this time, or for the present? */
static bool
has_leaf_for(CmqQueue *queue, TimestampTz time)
{
	return cmq_queue_leaf(queue, time) != NULL ||
		cmq_queue_leaf(queue, cmq_queue_now(queue)) != NULL;
}

/*
 * A sender found no leaf for this time, which its clock has just given out:
 * see to it that there is one for the present.  By the time that the worker
 * has made it that may be the one after, so the sender has to take a new time.
 * Raises an error if the worker could not make any.
 */
void
cmq_leaf_demand(CmqQueue *queue, TimestampTz time)
{
	char		name[NAMEDATALEN];
	Oid			relid = queue->relid;
	uint32		failed;

	strlcpy(name, queue->name, NAMEDATALEN);
	if (created_in_this_transaction(queue))
	{
		cmq_leaf_make(queue, time, time + cmq_leaf_lead(queue));
		return;
	}

	/* senders who come at the same time need one worker, not one each */
	failed = pg_atomic_read_u32(&queue->shared->demands_failed);
	LockDatabaseObject(RelationRelationId, relid, DEMAND_LOCK, ExclusiveLock);
	queue = cmq_queue_again(queue);
	if (cmq_queue_leaf(queue, time) == NULL)
	{
		uint32		now_failed = pg_atomic_read_u32(&queue->shared->demands_failed);
		bool		started;

		/* who was before us has waited, and we with it */
		if (now_failed != failed && !has_leaf_for(queue, time))
			report_no_leaf(queue, (now_failed & 1) == 0);
		started = cmq_worker_run_for(name, queue->owner);
		queue = cmq_queue_again(queue);
		if (!has_leaf_for(queue, time))
		{
			note_failure(queue->shared, started);
			report_no_leaf(queue, started);
		}
	}
	UnlockDatabaseObject(RelationRelationId, relid, DEMAND_LOCK, ExclusiveLock);
}

/* What is known of leaves that may be dropped before their messages expire. */
typedef struct Glance
{
	TimestampTz until;			/* leaves up to here were looked at ... */
	bool		scanned;		/* ... in the pending table */
	CmqOldestLook look;
	TimestampTz rewound_at;		/* the rewind under way then */
	TimestampTz *pending;		/* lower bounds of those that have pending messages */
	int			npending;
} Glance;

static bool
saw_pending(const Glance *glance, const CmqLeaf *leaf)
{
	for (int i = 0; i < glance->npending; i++)
	{
		if (glance->pending[i] == leaf->lower)
			return true;
	}
	return false;
}

/* The number of the leaf for messages of this time, or -1. */
static int
find_leaf(CmqQueue *queue, TimestampTz time)
{
	int			low = 0;
	int			high = queue->nleaves;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (queue->leaves[middle].upper <= time)
			low = middle + 1;
		else
			high = middle;
	}
	return low < queue->nleaves && queue->leaves[low].lower <= time ? low : -1;
}

/*
 * Find out which leaves up to until have pending messages, whatever their state, by
 * reading the pending table once, without any lock that others mind.
 */
static void
scan_pending(CmqQueue *queue, TimestampTz until, Glance *glance)
{
	Relation	rel = cmq_table_open_heap(queue, queue->pending, CMQ_PENDING);
	bool	   *pending = palloc0(sizeof(bool) * (queue->nleaves + 1));
	Snapshot	snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;

	if (rel == NULL)
		cmq_queue_report_unknown(queue->name);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = cmq_beginscan(rel, snapshot);
	slot = table_slot_create(rel, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		TimestampTz time = cmq_slot_time(slot, Anum_pending_enqueued_at);
		int			i;

		CHECK_FOR_INTERRUPTS();
		if (time < until && (i = find_leaf(queue, time)) >= 0)
			pending[i] = true;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);

	glance->npending = 0;
	glance->pending = palloc(sizeof(TimestampTz) * (queue->nleaves + 1));
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (pending[i])
			glance->pending[glance->npending++] = queue->leaves[i].lower;
	}
	pfree(pending);
}

/*
 * Look at the leaves up to until, before any lock: the pending table is read only if
 * the mark of cmq_oldest.c does not say that all in them is consumed.
 */
static void
glance(CmqQueue *queue, TimestampTz until, Glance *glance)
{
	glance->until = until;
	glance->rewound_at = queue->rewinding.rewound_at;
	glance->npending = 0;
	glance->scanned = cmq_oldest_mark(queue) < until;
	if (!glance->scanned)
		return;
	/* from now on nothing is sent that is so old, whatever the wall clock does */
	if ((TimestampTz) pg_atomic_read_u64(&queue->shared->clock) < until)
		(void) cmq_clock_now(queue->shared);
	cmq_oldest_look(queue, &glance->look);
	scan_pending(queue, until, glance);
}

/*
 * Is nothing of this leaf pending?  The caller holds the queue lock and the leaf for
 * himself, so whatever could have come up since the glance has ended.
 */
static bool
none_pending(CmqQueue *queue, const CmqLeaf *leaf, const Glance *glance)
{
	Glance		now;

	if (cmq_oldest_mark(queue) >= leaf->upper)
		return true;
	if (!glance->scanned || leaf->upper > glance->until ||
		saw_pending(glance, leaf))
		return false;
	if (cmq_oldest_no_news(queue, &glance->look, leaf->upper))
		return true;
	/* some transaction has been open for long; a large table stays unread */
	if (!cmq_oldest_is_small(queue))
		return false;
	scan_pending(queue, leaf->upper, &now);
	return !saw_pending(&now, leaf);
}

static bool
has_due(CmqQueue *queue, const CmqLeaf *leaf, TimestampTz expired_before)
{
	return queue->rewinding.active &&
		cmq_rewind_leaf_due(queue, leaf, &queue->rewinding,
							expired_before) != DT_NOEND;
}

/* Has the queue this very leaf? */
static bool
has_leaf(CmqQueue *queue, const CmqLeaf *leaf)
{
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (queue->leaves[i].messages == leaf->messages &&
			queue->leaves[i].rewind == leaf->rewind &&
			queue->leaves[i].lower == leaf->lower)
			return true;
	}
	return false;
}

static void
drop_leaf(CmqQueue *queue, CmqLeaf *leaf)
{
	ObjectAddresses *objects = new_object_addresses();
	ObjectAddress object;

	ObjectAddressSet(object, RelationRelationId, leaf->messages);
	add_exact_object_address(&object, objects);
	ObjectAddressSet(object, RelationRelationId, leaf->rewind);
	add_exact_object_address(&object, objects);
	performMultipleDeletions(objects, DROP_RESTRICT, 0);
	free_object_addresses(objects);
	cmq_catalog_delete_leaf(queue, leaf->lower);
}

typedef struct TryDrop
{
	CmqQueue   *queue;
	CmqLeaf    *leaf;
	bool		done;
} TryDrop;

static void
try_drop(const char *name, void *arg)
{
	TryDrop    *try = arg;

	cmq_queue_attach(try->queue);
	drop_leaf(try->queue, try->leaf);
	/* rows that a rewind would have brought back have expired with it */
	cmq_stats_due_unknown(try->queue->shared);
	try->done = true;
}

/*
 * Lock a pair of tables for ourselves, if that takes but a moment; else none is kept.
 */
static bool
lock_pair(Oid messages, Oid rewind)
{
	if (!cmq_lock_briefly(messages))
		return false;
	if (cmq_lock_briefly(rewind))
		return true;
	UnlockRelationOid(messages, AccessExclusiveLock);
	return false;
}

static void
unlock_pair(Oid messages, Oid rewind)
{
	UnlockRelationOid(rewind, AccessExclusiveLock);
	UnlockRelationOid(messages, AccessExclusiveLock);
}

/* Up to where leaves may be dropped now; what ends before *expired is all expired. */
static TimestampTz
droppable_until(CmqQueue *queue, TimestampTz *expired)
{
	TimestampTz now = cmq_queue_now(queue);

	*expired = cmq_queue_expired_before(queue, now);
	if (queue->is_target)
		return *expired - TARGET_KEEP_LEADS * cmq_leaf_lead(queue);
	return Max(Min(now, cmq_queue_rewindable_since(queue, now)), *expired);
}

/* The first leaf from this time on that may be dropped now, or NULL. */
static CmqLeaf *
next_leaf(CmqQueue *queue, TimestampTz from, TimestampTz until)
{
	for (int i = 0; i < queue->nleaves; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];

		if (leaf->upper > until)
			return NULL;
		if (leaf->lower >= from)
			return leaf;
	}
	return NULL;
}

/* The end of the last leaf that may be dropped now; DT_NOBEGIN if there is none. */
static TimestampTz
last_end(CmqQueue *queue, TimestampTz until)
{
	TimestampTz end = DT_NOBEGIN;

	for (int i = 0; i < queue->nleaves && queue->leaves[i].upper <= until; i++)
		end = queue->leaves[i].upper;
	return end;
}

/* Leaves that are to be dropped, as far as that is known before they are locked. */
typedef struct Candidates
{
	CmqLeaf		leaves[MAX_DROPS];
	int			n;
	bool		more;			/* behind them */
	Glance		seen;
} Candidates;

/* Find so many, from this place on, which moves behind them. */
static void
find_candidates(CmqQueue *queue, const CmqPortion *portion, int most,
				TimestampTz *place, Candidates *found)
{
	TimestampTz expired;
	TimestampTz until = last_end(queue, droppable_until(queue, &expired));
	CmqLeaf    *leaf;

	found->n = 0;
	found->seen.until = DT_NOBEGIN;
	found->seen.npending = 0;
	while ((leaf = next_leaf(queue, *place, until)) != NULL &&
		   found->n < most && !cmq_portion_is_over(portion))
	{
		*place = leaf->upper;
		if (leaf->upper > expired)
		{
			if (leaf->made_in != cmq_dump_here())
				continue;
			if (found->seen.until == DT_NOBEGIN)
				glance(queue, until, &found->seen);
			if (saw_pending(&found->seen, leaf) ||
				has_due(queue, leaf, expired))
				continue;
		}
		found->leaves[found->n++] = *leaf;
	}
	found->more = leaf != NULL;
}

/*
 * May the leaf be dropped?  Asked under the locks: the queue may have been altered,
 * rewound or restored since the glance.
 */
static bool
is_over(CmqQueue *queue, const CmqLeaf *leaf, const Glance *glance)
{
	TimestampTz expired;

	/* by now it may be detached, or another one's number */
	if (!has_leaf(queue, leaf) || leaf->upper > droppable_until(queue, &expired))
		return false;
	return leaf->upper <= expired ||
		(leaf->made_in == cmq_dump_here() &&
		 queue->rewinding.rewound_at == glance->rewound_at &&
		 none_pending(queue, leaf, glance));
}

/*
 * Drop the candidates, as far as nobody is in the way and there is room for the locks.
 * Returns how many were dropped, and where to go on if not behind them.  The
 * caller has the queue lock and the parents.
 */
static int
drop_candidates(CmqQueue *queue, const CmqPortion *portion,
				Candidates *found, TimestampTz *place)
{
	int			dropped = 0;
	int			busy = 0;

	for (int i = 0; i < found->n; i++)
	{
		CmqLeaf    *leaf = &found->leaves[i];
		TryDrop		try = {.queue = queue,.leaf = leaf};

		if (busy == MAX_BUSY || (i > 0 && cmq_portion_is_over(portion)) ||
			(i % DROPS_PER_LOOK == 0 && !cmq_maintain_has_room()))
		{
			*place = leaf->lower;
			found->more = true;
			break;
		}
		if (!lock_pair(leaf->messages, leaf->rewind))
		{
			busy++;
			continue;
		}
		if (is_over(queue, leaf, &found->seen))
			(void) cmq_queue_try(queue->name, "dropping a partition", try_drop,
								 &try, true);
		if (try.done)
			dropped++;
		else
			unlock_pair(leaf->messages, leaf->rewind);
	}
	return dropped;
}

/*
 * Drop the leaves whose time is over.  A transaction drops so many as there is room for
 * their locks; a bounded portion takes no longer than a portion may, either, and
 * goes on where the last one ended.  Gives up, to be called again later, when
 * somebody is in the way.  One that cannot be dropped, because somebody has made a view
 * of it for instance, stays with a warning.
 */
CmqStepResult
cmq_leaf_drop_old(CmqQueue *queue, const CmqPortion *portion)
{
	CmqPlace	place = cmq_place_get(queue, portion, CMQ_DROP_PLACE);
	Candidates *found = palloc(sizeof(Candidates));
	bool		had_room = true;
	int			all = 0;

	if (cmq_catalog_forget_leaves(queue->name))
		CommandCounterIncrement();
	do
	{
		int			dropped;

		queue = cmq_queue_again(queue);
		find_candidates(queue, portion, MAX_DROPS - all, &place.visible_at,
						found);
		/* what cannot be dropped is passed by, also if that ends the transaction */
		cmq_place_set(queue, portion, CMQ_DROP_PLACE, &place);
		if (found->n == 0)
			continue;
		had_room = cmq_maintain_has_room();
		/* the queue lock stays to the end: nobody rewinds what is gone */
		if ((queue = cmq_queue_try_lock(queue)) == NULL ||
			!lock_pair(queue->messages, queue->rewind))
		{
			found->more = false;
			break;
		}
		/* nobody adds or takes away leaves from now on */
		queue = cmq_queue_again(queue);
		dropped = drop_candidates(queue, portion, found, &place.visible_at);
		if (dropped == 0)
			unlock_pair(queue->messages, queue->rewind);
		all += dropped;
	} while (!portion->bounded && found->more && had_room && all < MAX_DROPS);
	if (!found->more)
		place.visible_at = DT_NOBEGIN;
	if (queue)
		cmq_place_set(queue, portion, CMQ_DROP_PLACE, &place);
	if (!found->more)
		return CMQ_STEP_DONE;
	if (all > 0)
		return CMQ_STEP_MORE;
	/* what holds them is the caller's transaction, if there is one */
	if (!had_room)
		return portion->bounded ? CMQ_STEP_DONE : CMQ_STEP_MORE;
	return CMQ_STEP_LOOKING;
}
