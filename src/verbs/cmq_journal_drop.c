/*-------------------------------------------------------------------------
 *
 * cmq_journal_drop.c
 *	  Drop what no queue needs any more of a journal, and the journal in the end.
 *
 * A queue drops its own leaf of some time when nobody can receive or bring back anything of
 * it any more (cmq_leaf_drop.c), whatever is pending, due or within its windows.  So a leaf
 * of a journal may be dropped when none of the queues that may have messages there has a
 * leaf for these times: and, for as long as the topic exists, when it is over.  No queue
 * ever gets a leaf for a time that is over.  A leaf that somebody has detached by hand counts
 * as one: it may be attached again.
 *
 * Which queues these are is known since they have subscribed.  When a queue has no
 * subscription any more, its row says from when on it has no messages (cmq.receiver).
 * That is settled by whoever has the journal alone: a publish locks it before it reads
 * subscriptions, and has written its messages when it gives the lock back.  When the
 * queue has no leaf from before that time, its row goes.
 *
 * A restore from a dump brings the rows of all these one after the other (cmq_dump.c).  So
 * of what was made in another database a leaf stays until all queues would have expired its
 * messages, and an empty journal until its topic is dropped by a call.
 *
 * A journal outlives its topic until its last leaf is dropped; one that holds no message is
 * dropped with the topic.
 *
 * A call that drops a topic, or a queue whose messages were in the journal of one that is
 * gone, drops the journal at once if its caller owns it; else maintenance does.
 *
 * Locks: AccessExclusive on the journal and on leaves, if they can be had in a moment
 * (cmq_lock.c); else they are left for the next round.  Abort: all is there as it was.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_identity.h"
#include "base/cmq_names.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"
#include "store/cmq_catalog.h"
#include "store/cmq_ddl.h"
#include "store/cmq_description.h"
#include "store/cmq_journal.h"
#include "store/cmq_journal_rows.h"
#include "store/cmq_lock.h"
#include "store/cmq_owner.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "store/cmq_topic_rows.h"
#include "verbs/cmq_journal_drop.h"

/* How many leaves one transaction drops. */
#define MAX_DROPS 50

/* One look at a journal. */
typedef struct Look
{
	CmqQueue   *journal;
	bool		has_topic;
	List	   *receivers;
	List	   *queues;			/* of each of them the description, with its
								 * leaves; NULL: it is gone */
	bool		by_call;		/* the topic was dropped by a call */
	CmqSharedQueue *shared;		/* of the journal; NULL: it has not been used */
	CmqLeaf    *leaf;			/* that is being dropped */
} Look;

static void
take_look(Look *look, CmqQueue *journal)
{
	ListCell   *lc;

	look->journal = journal;
	/* attaching it would open leaves, which its owner may have changed */
	look->shared = cmq_shared_use(journal->pending);
	look->has_topic = cmq_topic_find(cmq_plain_name(journal), false, NULL, NULL, NULL);
	look->receivers = cmq_receiver_list(NULL, journal->name);
	look->queues = NIL;
	foreach(lc, look->receivers)
	{
		CmqReceiver *receiver = lfirst(lc);
		CmqDescription *queue = palloc(sizeof(CmqDescription));

		if (cmq_catalog_find_queue(queue, receiver->queue))
			cmq_catalog_load_leaf_rows(queue);
		else
			queue = NULL;
		look->queues = lappend(look->queues, queue);
	}
}

static TimestampTz
now_of(const Look *look)
{
	return look->shared ? cmq_clock_now(look->shared) : cmq_time();
}

/* Does the queue have a leaf with times in [lower, upper)? */
static bool
has_leaf(CmqQueue *queue, TimestampTz lower, TimestampTz upper)
{
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (queue->leaves[i].lower < upper && queue->leaves[i].upper > lower)
			return true;
	}
	return false;
}

/* May rows of the leaf, or of those who need it, be still to come by a restore? */
static bool
is_restored(const Look *look, const CmqLeaf *leaf)
{
	return leaf->made_in != cmq_identity_database() && !look->by_call;
}

/* May a queue need what is in the leaf, or may anything come into it? */
static bool
is_needed(const Look *look, CmqLeaf *leaf)
{
	TimestampTz now = now_of(look);
	ListCell   *lc;
	ListCell   *lc2;

	if (look->has_topic && leaf->upper > now)
		return true;
	if (is_restored(look, leaf))
		return leaf->upper > now - CMQ_RETENTION_MAX * USECS_PER_SEC;
	forboth(lc, look->receivers, lc2, look->queues)
	{
		CmqReceiver *receiver = lfirst(lc);
		CmqDescription *queue = lfirst(lc2);

		if (queue && has_leaf(queue, leaf->lower, Min(leaf->upper, receiver->until)))
			return true;
	}
	return false;
}

/* Is the leaf known to be empty?  Not if somebody has it locked, or has changed it. */
static bool
is_empty(CmqQueue *journal, CmqLeaf *leaf)
{
	CmqTable	table;
	Relation	rel;
	bool		fits;
	bool		empty;

	if (!ConditionalLockRelationOid(leaf->messages, AccessShareLock))
		return false;
	rel = try_relation_open(leaf->messages, NoLock);
	if (rel == NULL)
		return true;
	fits = cmq_shape_fits(rel, journal, CMQ_JOURNAL);
	relation_close(rel, NoLock);
	if (!fits || !cmq_table_open(&table, NULL, journal, leaf->messages, CMQ_JOURNAL,
								 AccessShareLock))
		return false;
	empty = cmq_table_newest(&table) == DT_NOBEGIN;
	cmq_table_close(&table);
	return empty;
}

/* Called in a subtransaction. */
static void
drop_leaf(const char *name, void *arg)
{
	Look	   *look = arg;
	ObjectAddress object;

	ObjectAddressSet(object, RelationRelationId, look->leaf->messages);
	performDeletion(&object, DROP_RESTRICT, 0);
	cmq_catalog_delete_leaf(look->journal, look->leaf->lower);
}

/*
 * Drop the leaves that are needed no more; the caller has the journal alone.  True if
 * there are more.
 */
static bool
drop_leaves(Look *look)
{
	CmqQueue   *journal = look->journal;
	int			dropped = 0;

	for (int i = 0; i < journal->nleaves && dropped < MAX_DROPS; i++)
	{
		CmqLeaf    *leaf = &journal->leaves[i];

		/* nothing comes into an empty one when there is no topic */
		if ((is_needed(look, leaf) &&
			 (look->has_topic || is_restored(look, leaf) || !is_empty(journal, leaf))) ||
			!cmq_lock_briefly(leaf->messages))
			continue;
		look->leaf = leaf;
		/* the owner may have locked an index, and topics are locked */
		if (cmq_lock_try(journal->name, "dropping a partition", drop_leaf, look))
			dropped++;
		else
			UnlockRelationOid(leaf->messages, AccessExclusiveLock);
	}
	return dropped == MAX_DROPS;
}

/*
 * Does the row of a receiver that has no subscription say nothing any more?  That of a queue
 * that was dropped keeps what was its from a queue of the same name, as long as that is
 * there.
 */
static bool
is_over(const Look *look, const CmqReceiver *receiver, CmqQueue *queue)
{
	if (queue == NULL)
		return !has_leaf(look->journal, DT_NOBEGIN, receiver->since);
	return receiver->until != DT_NOEND && receiver->since == DT_NOBEGIN &&
		!has_leaf(queue, DT_NOBEGIN, receiver->until);
}

/* Is it to be settled that the queue gets no more? */
static bool
is_ending(const Look *look, const CmqReceiver *receiver, CmqQueue *queue)
{
	return queue && receiver->until == DT_NOEND && look->shared;
}

/* Is there anything to do for the receivers? */
static bool
any_ended(const Look *look)
{
	ListCell   *lc;
	ListCell   *lc2;
	bool		any = false;

	forboth(lc, look->receivers, lc2, look->queues)
	{
		CmqReceiver *receiver = lfirst(lc);

		any |= (is_ending(look, receiver, lfirst(lc2)) ||
				is_over(look, receiver, lfirst(lc2))) &&
			cmq_topic_find_subscription(cmq_plain_name(look->journal), NULL,
										receiver->queue) == NULL;
	}
	return any;
}

/* Settle which queues get no more, and forget those that need nothing. */
static void
end_receivers(Look *look)
{
	const char *topic = cmq_plain_name(look->journal);
	TimestampTz now = now_of(look);
	ListCell   *lc;
	ListCell   *lc2;

	forboth(lc, look->receivers, lc2, look->queues)
	{
		CmqReceiver *receiver = lfirst(lc);
		CmqDescription *queue = lfirst(lc2);

		if (cmq_topic_find_subscription(topic, NULL, receiver->queue))
			continue;
		if (is_over(look, receiver, queue))
			cmq_receiver_delete(receiver->queue, receiver->journal);
		else if (is_ending(look, receiver, queue))
		{
			/* all that was published has an earlier time */
			receiver->until = now + 1;
			cmq_receiver_put(receiver);
		}
	}
}

/* Called in a subtransaction. */
static void
drop_table(const char *name, void *arg)
{
	CmqQueue   *journal = arg;
	ObjectAddress object;

	ObjectAddressSet(object, RelationRelationId, journal->messages);
	performDeletion(&object, DROP_RESTRICT, 0);
}

/*
 * Drop the journal of a topic that is gone, if it has no leaf any more, and nobody has it
 * locked.  What depends on it is an error of the call, and a warning of maintenance.
 */
static void
drop_if_over(CmqQueue *journal, bool by_call)
{
	journal = cmq_journal_find(cmq_plain_name(journal));
	if (journal == NULL || journal->nleaves > 0 ||
		!cmq_lock_try(journal->name, by_call ? NULL : "dropping the journal",
					  drop_table, unconstify(CmqDescription *, journal)))
		return;
	cmq_xact_remove_at_end(journal->messages, true);
	cmq_receiver_delete(NULL, journal->name);
	cmq_journal_delete_row(journal->name);
}

/*
 * Maintenance, as the owner: drop what no queue needs any more, if the journal can be
 * locked in a moment.  True if there is more to drop.
 */
bool
cmq_journal_drop_old(CmqQueue *journal)
{
	Look		look = {.by_call = false};
	bool		any;
	bool		more;

	if (cmq_catalog_forget_leaves(journal->name))
		CommandCounterIncrement();
	take_look(&look, journal);
	any = any_ended(&look);
	for (int i = 0; i < journal->nleaves; i++)
		any |= !is_needed(&look, &journal->leaves[i]);
	if (!any && look.has_topic)
		return false;
	if (!cmq_catalog_try_lock("topic") || !cmq_lock_briefly(journal->messages))
		return false;
	/* as it is now */
	take_look(&look, cmq_queue_again(journal));
	end_receivers(&look);
	take_look(&look, cmq_queue_again(journal));
	more = drop_leaves(&look);
	if (!look.has_topic && cmq_journal_is_made_here(journal->name))
		drop_if_over(journal, false);
	return more;
}

/*
 * Drop the caller's table of a journal that has no row, as after a restore of the schema
 * alone.
 */
static void
drop_orphan(const char *topic)
{
	Oid			relid = cmq_journal_relation(topic);
	CmqOwnerScope scope;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE ||
		get_attnum(relid, "queues") == InvalidAttrNumber ||
		!object_ownercheck(RelationRelationId, relid, GetUserId()))
		return;
	cmq_owner_enter(&scope, InvalidOid);
	cmq_ddl_execute("DROP TABLE %s", cmq_full_name(relid));
	cmq_owner_leave(&scope);
}

/*
 * The topic was dropped, by a caller who has topics locked: so is its journal, unless queues
 * need what is there, somebody has it locked, or it is another owner's; then maintenance will
 * drop it.  One that is damaged stays until that is undone.
 */
void
cmq_journal_end(const char *topic)
{
	CmqQueue   *journal;
	Look		look = {.by_call = true};

	if (!cmq_journal_exists(topic))
	{
		cmq_receiver_delete(NULL, cmq_journal_name(topic));
		cmq_journal_delete_row(cmq_journal_name(topic));
		drop_orphan(topic);
		return;
	}
	journal = cmq_journal_find(topic);
	if (journal == NULL ||
		!object_ownercheck(RelationRelationId, journal->messages, GetUserId()) ||
		!cmq_lock_briefly(journal->messages) ||
		(journal = cmq_journal_find(topic)) == NULL)
		return;
	take_look(&look, journal);
	end_receivers(&look);
	take_look(&look, look.journal);
	(void) drop_leaves(&look);
	drop_if_over(journal, true);
}

/* Maintenance: forget journals whose table was dropped by hand.  Topics are locked. */
void
cmq_journal_sweep_gone(void)
{
	ListCell   *lc;

	foreach(lc, cmq_journal_names())
	{
		CmqDescription journal;

		if (!cmq_journal_find_row(&journal, lfirst(lc)) ||
			get_rel_name(journal.messages) != NULL)
			continue;
		cmq_receiver_delete(NULL, lfirst(lc));
		cmq_journal_delete_row(lfirst(lc));
	}
}
