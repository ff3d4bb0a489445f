/*-------------------------------------------------------------------------
 *
 * cmq_leaf.c
 *	  Leaf tables: making them ahead of time or on demand.
 *
 * A queue's messages and its rewind table are partitioned by production time
 * with the same bounds; a leaf is one pair of tables, and cmq.partition maps
 * times to pairs.  Where a queue keeps keys (cmq_dedup.c) a leaf of keys goes with each
 * pair.  Bounds are multiples of the width, which follows from the
 * retention; a leaf made after the retention was changed is clipped to fit
 * between those that exist.
 *
 * Traffic addresses leaves directly: it locks them, and not their parents.
 * cmq_leaf_drop.c drops leaves.
 *
 * DDL never runs in a transaction that sends, except in the one that created the queue:
 * a send that finds no leaf has a worker make one, and waits for the worker.  The worker
 * waits for a moment for a transaction that has locked the parents (ANALYZE, or CREATE
 * INDEX).  Sends that come meanwhile wait for the same worker, and fail if the worker
 * does: so no send waits longer, and a queue that is locked does not use up workers.
 *
 * Locks: ShareUpdateExclusive on the two parents, which neither traffic nor reports
 * conflict with, to attach a leaf; while a send waits for the worker, the queue's demand
 * lock.  Abort: DDL and the rows of cmq.partition go together.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_workers.h"
#include "store/cmq_bounds.h"
#include "store/cmq_catalog.h"
#include "store/cmq_ddl.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf.h"
#include "store/cmq_lock.h"
#include "store/cmq_owner.h"
#include "store/cmq_queue.h"

/* Subobject of the queue lock under which senders ask for a leaf. */
#define DEMAND_LOCK 1

static const int leaf_minutes[] = {
	1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440
};

/* The time that a leaf covers: the longest of these within an eighth of the retention. */
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
	return cmq_relname(prefix, name + cmq_is_journal_name(name),
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
 * Raise 55000 if the name of a leaf to be made is taken: by a leaf that was detached, or
 * by a table of a user's.
 */
static void
check_free(CmqQueue *queue, Oid parent, const char *prefix, TimestampTz lower,
		   TimestampTz upper)
{
	const char *leaf = leaf_name(prefix, queue->name, lower);
	const char *name = quote_qualified_identifier(CMQ_DATA_SCHEMA, leaf);

	if (OidIsValid(cmq_relid_of_data(leaf)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s is in the way of a partition of %s \"%s\"",
						name, cmq_kind(queue), cmq_plain_name(queue)),
				 errdetail("It was detached from the %s, or is somebody's own.",
						   cmq_kind(queue)),
				 errhint("Attach it: ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s); or rename it: ALTER TABLE %s RENAME TO ..;",
						 cmq_full_name(parent), name, time_literal(lower),
						 time_literal(upper), name)));
}

/* Make a leaf table, with what its parent cannot have; returns its OID. */
static Oid
make_table(CmqQueue *queue, Oid parent, const char *prefix, const char *more,
		   TimestampTz lower, TimestampTz upper)
{
	const char *parent_name = cmq_full_name(parent);
	const char *leaf = leaf_name(prefix, queue->name, lower);
	const char *name = quote_qualified_identifier(CMQ_DATA_SCHEMA, leaf);
	Oid			tablespace = get_rel_tablespace(parent);
	const char *where = "";
	Oid			relid;

	check_free(queue, parent, prefix, lower, upper);

	/*
	 * CREATE TABLE .. PARTITION OF would lock the parent exclusively.  As it
	 * does, put the leaf where the parent says; LIKE does so for the indexes.
	 */
	if (OidIsValid(tablespace))
		where = psprintf("TABLESPACE %s",
						 quote_identifier(get_tablespace_name(tablespace)));
	cmq_ddl_execute("CREATE TABLE %s (LIKE %s INCLUDING ALL%s) USING heap %s",
					name, parent_name, more, where);
	relid = cmq_relid_of_data(leaf);
	cmq_ddl_revoke_all(relid);
	cmq_ddl_refuse_truncate(name, queue->name);
	cmq_ddl_execute("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)",
					parent_name, name, time_literal(lower),
					time_literal(upper));
	return relid;
}

/*
 * Make a leaf of keys; InvalidOid if the queue has no table for them, or its table was
 * dropped by hand or given to somebody else.  One that is left of a pair that
 * somebody has dropped by hand is used again.
 */
static Oid
make_keys(CmqQueue *queue, TimestampTz lower, TimestampTz upper)
{
	Oid			relid;

	/* without them the queue can do all else, and who sends with one is told */
	if (get_rel_relkind(queue->dedup) != RELKIND_PARTITIONED_TABLE ||
		!object_ownercheck(RelationRelationId, queue->dedup, queue->owner))
		return InvalidOid;
	relid = cmq_relid_of_data(leaf_name("d_", queue->name, lower));
	if (OidIsValid(relid) && cmq_catalog_is_leaf(relid, queue->dedup))
		return relid;
	relid = make_table(queue, queue->dedup, "d_", ", UNIQUE (key)", lower, upper);
	cmq_ddl_execute("ALTER TABLE %s REPLICA IDENTITY FULL", cmq_full_name(relid));
	return relid;
}

/* The session that happens to make a leaf has no say in where it goes. */
static void
enter(CmqOwnerScope *scope, Oid owner)
{
	cmq_owner_enter(scope, owner);
	(void) set_config_option("default_tablespace", "", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Make leaves of keys beside all leaves that messages can still come to: the queue has just
 * begun to keep keys, and its table for them is there.  The caller has locked traffic out,
 * and made sure that nobody makes leaves.
 */
void
cmq_leaf_add_keys(CmqQueue *queue)
{
	TimestampTz now = cmq_queue_now(queue);
	CmqOwnerScope scope;

	enter(&scope, queue->owner);
	for (int i = 0; i < queue->nleaves; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];

		if (leaf->upper > now && !OidIsValid(leaf->dedup))
			cmq_catalog_set_keys(queue, leaf->lower,
								 make_keys(queue, leaf->lower, leaf->upper));
	}
	cmq_owner_leave(&scope);
}

/*
 * Make the leaves that are missing to cover [from, until], with DDL as the queue's owner.
 * Returns whether any was made.  Raises 55000 if a table is in the way, 55006 if the
 * queue was dropped.
 */
bool
cmq_leaf_make(CmqQueue *queue, TimestampTz from, TimestampTz until)
{
	bool		made = false;
	TimestampTz time = from;
	CmqOwnerScope scope;

	/* one transaction at a time makes leaves; another may have made these */
	LockRelationOid(queue->messages, ShareUpdateExclusiveLock);
	queue = cmq_queue_again(queue);

	enter(&scope, queue->owner);
	while (time <= until)
	{
		CmqLeaf    *leaf = cmq_bounds_leaf(queue, time);
		TimestampTz width = leaf_width(queue);
		TimestampTz lower = time - time % width;
		TimestampTz upper = lower + width;
		Oid			messages;
		Oid			rewind;
		Oid			dedup;

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

		messages = make_table(queue, queue->messages,
							  queue->is_journal ? "l_" : "m_", "", lower, upper);
		rewind = queue->is_journal ? messages :
			make_table(queue, queue->rewind, "r_", "", lower, upper);
		dedup = make_keys(queue, lower, upper);
		/* somebody may have dropped the tables of such a leaf by hand */
		cmq_catalog_delete_leaf(queue, lower);
		cmq_catalog_insert_leaf(queue, lower, upper, messages, rewind, dedup);
		made = true;
		time = upper;
		queue = cmq_queue_again(queue);
	}
	cmq_owner_leave(&scope);
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

/* Raise 55000 if a table in the way is why there is no leaf for the present. */
static void
check_present_free(CmqQueue *queue)
{
	TimestampTz now = cmq_queue_now(queue);
	TimestampTz width = leaf_width(queue);
	TimestampTz lower = now - now % width;

	check_free(queue, queue->messages, queue->is_journal ? "l_" : "m_", lower,
			   lower + width);
	if (!queue->is_journal)
		check_free(queue, queue->rewind, "r_", lower, lower + width);
	if (get_rel_name(queue->dedup) != NULL)
		check_free(queue, queue->dedup, "d_", lower, lower + width);
}

/*
 * Raise an error: no worker could be started, or it could not make a leaf.  Says
 * which transaction is in the way, if one is.
 */
static void
report_no_leaf(CmqQueue *queue, bool started)
{
	const Oid	parents[] = {queue->messages, queue->rewind, queue->dedup};

	if (!started)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a worker to make a partition for %s \"%s\"",
						cmq_kind(queue), cmq_plain_name(queue)),
				 errdetail("All places for background workers are taken."),
				 errhint("Try again, or raise max_worker_processes.")));
	for (int i = 0; i < lengthof(parents); i++)
	{
		const char *relname;

		if (get_rel_name(parents[i]) == NULL)
			continue;
		relname = cmq_full_name(parents[i]);
		if (cmq_lock_is_had(parents[i], ShareUpdateExclusiveLock))
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("there is no partition for the present time in %s \"%s\"",
							cmq_kind(queue), cmq_plain_name(queue)),
					 errdetail("None can be made while a transaction that has not ended has a lock on %s.",
							   relname),
					 errhint("Find it with SELECT pid, mode FROM pg_locks WHERE relation = %s::regclass, and try again when it has ended.",
							 quote_literal_cstr(relname))));
	}
	check_present_free(queue);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("there is no partition for the present time in %s \"%s\"",
					cmq_kind(queue), cmq_plain_name(queue)),
			 errdetail("The maintenance worker could not make one."),
			 errhint("The server log says why. The owner of the %1$s needs CREATE on schema %2$s, and no open transaction may have locked the %1$s's tables.",
					 cmq_kind(queue), CMQ_DATA_SCHEMA)));
}

/* Is there a leaf for this time, or for the present? */
static bool
has_leaf_for(CmqQueue *queue, TimestampTz time)
{
	return cmq_bounds_leaf(queue, time) != NULL ||
		cmq_bounds_leaf(queue, cmq_queue_now(queue)) != NULL;
}

/*
 * A send found no leaf for this time, which the clock has just given out: see to it
 * that there is one for the present.  The leaf that the worker makes may be the next one
 * already, so the send has to take a new time.  Raises 53400 if no worker could be
 * started, 55P03 or 55000 if the worker could not make a leaf.
 */
void
cmq_leaf_demand(CmqQueue *queue, TimestampTz time)
{
	Oid			relid = queue->relid;
	uint32		failed;

	if (created_in_this_transaction(queue))
	{
		cmq_leaf_make(queue, time, time + cmq_leaf_lead(queue));
		return;
	}

	/* senders who come at the same time need one worker, not one each */
	failed = cmq_notes_failed_demands(queue->shared);
	LockDatabaseObject(RelationRelationId, relid, DEMAND_LOCK, ExclusiveLock);
	queue = cmq_queue_again(queue);
	if (cmq_bounds_leaf(queue, time) == NULL)
	{
		uint32		now_failed = cmq_notes_failed_demands(queue->shared);
		bool		started;

		/* the send before this one has asked in vain while this one waited */
		if (now_failed != failed && !has_leaf_for(queue, time))
			report_no_leaf(queue, (now_failed & 1) == 0);
		started = cmq_workers_run_for(queue->name, queue->owner);
		queue = cmq_queue_again(queue);
		if (!has_leaf_for(queue, time))
		{
			cmq_notes_failed_demand(queue->shared, started);
			report_no_leaf(queue, started);
		}
	}
	UnlockDatabaseObject(RelationRelationId, relid, DEMAND_LOCK, ExclusiveLock);
}
