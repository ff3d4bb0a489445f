/*-------------------------------------------------------------------------
 *
 * cmq_queue.c
 *	  Look-up of queues: the cache of descriptions, rights, bounds of time.
 *
 * Each backend caches what it knows of a queue: settings, the rewind under
 * way, OIDs of the relations and the partition map.  Everything that changes any
 * of it sends a relcache invalidation for cmq.q_<queue> in the same transaction,
 * and DDL on that or on the tables does so by itself; the callback here marks
 * the cached description stale, and the next look-up loads another one with a
 * fresh snapshot, whatever the isolation level.  Rollbacks replay the
 * invalidation, so a description loaded from uncommitted rows does not outlive
 * them.
 *
 * Ways to get at a queue:
 *	cmq_queue_find		no lock, no right; NULL if there is none
 *	cmq_queue_find_whole	the same, NULL also if it is damaged
 *	cmq_queue_lookup	as cmq_queue_find, an error if there is none
 *	cmq_queue_open		with a right and a lock on the pending table: traffic
 *	cmq_queue_lock		with a right and the queue lock: changes
 *	cmq_queue_try_lock	the queue lock if nobody has it: maintenance
 *	cmq_queue_again		the present description of one that is in use
 * All but the last three of these may return another queue of that name at the next
 * call.
 *
 * Hot paths call cmq_queue_open: it checks rights, takes the lock on the
 * pending table that keeps a drop and a switch of rewind away, and looks again
 * in case the description went stale while waiting for the lock.
 *
 * Locks of a queue, in the order in which they are taken:
 *	1. the queue lock (cmq_queue_lock), an object lock: rewind, cancel, restore,
 *	   clear, alter, drop and the maintenance steps that change the queue's row
 *	   take it exclusive
 *	2. the pending table: RowExclusive for traffic; ShareRowExclusive to
 *	   switch rewind on or off, to change the retention and to drop, then
 *	   AccessExclusive to drop (cmq_lock.c)
 *	3. the partitioned parents: not by traffic, but that a send without a leaf
 *	   takes AccessShare; ShareUpdateExclusive to attach a leaf;
 *	   AccessExclusive to drop one
 *	4. leaf tables, in any order: who wants one for itself does not wait for it
 * and AccessShare on cmq.queue and cmq.partition, to read them, any time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_orphan.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_table.h"
#include "store/cmq_target.h"
#include "store/cmq_triggers.h"

/* How many of a queue's relations a description knows by their OIDs. */
#define CMQ_NRELATIONS 4

/*
 * A description does not change: one that has gone stale is replaced by another
 * one, and stays to the end of the transaction, because somebody up the stack may
 * be using it: code of an owner's, in an index expression, can come back to us
 * in the midst of a call.
 */
typedef struct NameEntry
{
	char		name[NAMEDATALEN];	/* hash key */
	CmqQueue   *queue;			/* the newest description, or NULL */
} NameEntry;

/* Invalidations of this relation are for this description. */
typedef struct RelidEntry
{
	Oid			relid;			/* hash key */
	CmqQueue   *queue;
} RelidEntry;

static HTAB *queues_by_name = NULL;
static HTAB *queues_by_relid = NULL;

/*
 * A queue that is dropped leaves a stale entry behind.  Between transactions
 * nobody uses any: once so many have gone stale they are all thrown away.
 */
#define MAX_STALE 100

static int	nstale = 0;			/* descriptions gone stale since then */

/* Has any invalidation arrived since a description has begun to be loaded? */
static bool invalidated = false;

static void
mark_stale(CmqQueue *queue)
{
	if (queue->valid)
		nstale++;
	queue->valid = false;
}

/* Relcache callback: the description of this queue, or of all, is stale. */
static void
invalidate_queues(Datum arg, Oid relid)
{
	invalidated = true;
	if (queues_by_name == NULL)
		return;

	if (OidIsValid(relid))
	{
		RelidEntry *entry = hash_search(queues_by_relid, &relid, HASH_FIND,
										NULL);

		if (entry)
			mark_stale(entry->queue);
	}
	else
	{
		HASH_SEQ_STATUS scan;
		NameEntry  *entry;

		hash_seq_init(&scan, queues_by_name);
		while ((entry = hash_seq_search(&scan)) != NULL)
		{
			if (entry->queue)
				mark_stale(entry->queue);
		}
	}
}

/* The relations whose invalidations mean the queue. */
static void
list_relations(const CmqQueue *queue, Oid relids[CMQ_NRELATIONS])
{
	relids[0] = queue->relid;
	relids[1] = queue->messages;
	relids[2] = queue->pending;
	relids[3] = queue->rewind;
}

static void
watch_relations(CmqQueue *queue)
{
	Oid			relids[CMQ_NRELATIONS];

	list_relations(queue, relids);
	for (int i = 0; i < CMQ_NRELATIONS; i++)
	{
		RelidEntry *entry = hash_search(queues_by_relid, &relids[i],
										HASH_ENTER, NULL);

		entry->queue = queue;
	}
}

static void
unwatch_relations(CmqQueue *queue)
{
	Oid			relids[CMQ_NRELATIONS];

	list_relations(queue, relids);
	for (int i = 0; i < CMQ_NRELATIONS; i++)
	{
		RelidEntry *entry = hash_search(queues_by_relid, &relids[i], HASH_FIND,
										NULL);

		/* a newer description may have it by now */
		if (entry && entry->queue == queue)
			hash_search(queues_by_relid, &relids[i], HASH_REMOVE, NULL);
	}
}

/* Take the description out of the cache; it stays for those who have it. */
static void
retire(NameEntry *entry)
{
	CmqQueue   *queue = entry->queue;

	if (queue == NULL)
		return;
	unwatch_relations(queue);
	entry->queue = NULL;
	MemoryContextSetParent(queue->mcxt, TopTransactionContext);
}

/* The end of a transaction: throw stale entries away, if there are many. */
static void
trim_cache(void)
{
	HASH_SEQ_STATUS scan;
	NameEntry  *entry;

	if (nstale <= MAX_STALE)
		return;
	nstale = 0;
	hash_seq_init(&scan, queues_by_name);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->queue && entry->queue->valid)
			continue;
		retire(entry);
		hash_search(queues_by_name, entry->name, HASH_REMOVE, NULL);
	}
}

/* Syscache callback: a subscription knows other tables now. */
static void
subscription_changed(Datum arg, CMQ_CACHE_ID cacheid, uint32 hashvalue)
{
	invalidate_queues((Datum) 0, InvalidOid);
}

void
cmq_queue_init_cache(void)
{
	CacheRegisterRelcacheCallback(invalidate_queues, (Datum) 0);
	CacheRegisterSyscacheCallback(SUBSCRIPTIONRELMAP, subscription_changed,
								  (Datum) 0);
	cmq_xact_at_end(trim_cache);
}

static void
create_cache(void)
{
	HASHCTL		info;

	memset(&info, 0, sizeof(info));
	info.keysize = sizeof(Oid);
	info.entrysize = sizeof(RelidEntry);
	info.hcxt = CacheMemoryContext;
	queues_by_relid = hash_create("cmq queues by relation", 64, &info,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	memset(&info, 0, sizeof(info));
	info.keysize = NAMEDATALEN;
	info.entrysize = sizeof(NameEntry);
	info.hcxt = CacheMemoryContext;
	queues_by_name = hash_create("cmq queues", 64, &info,
								 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* Raise 42704. */
void
cmq_queue_report_unknown(const char *name)
{
	char	   *existing;
	char	   *detail;
	char	   *hint;
	bool		other_case = cmq_catalog_name_taken(name, &existing) &&
		strcmp(existing, name) != 0;

	cmq_gone_explain(name, &detail, &hint);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("queue \"%s\" does not exist", name),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) :
			 other_case ?
			 errhint("There is a queue \"%s\": case matters.", existing) :
			 errhint("The view cmq.queues lists the queues that you may use.")));
}

/*
 * What is wrong with a relation of the queue: it is to be there, under its name, and
 * the owner's of the queue, which is that of the first one looked at.  NULL if
 * nothing is.  One that somebody has made in the place of another is not the queue's.
 */
static const char *
find_fault(CmqQueue *queue, Oid relid, CmqRelation which)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	const char *schema = cmq_relation_schema(which);
	const char *relname = cmq_relation_name(which, queue->name);
	const char *full_name = quote_qualified_identifier(schema, relname);
	const char *fact = NULL;
	Form_pg_class form;

	if (!HeapTupleIsValid(tuple))
		return psprintf("Its relation %s does not exist.", full_name);
	form = (Form_pg_class) GETSTRUCT(tuple);
	if (form->relnamespace != get_namespace_oid(schema, true) ||
		strcmp(NameStr(form->relname), relname) != 0)
		fact = psprintf("Its relation %s has another name or schema now.",
						full_name);
	else if (!OidIsValid(queue->owner))
		queue->owner = form->relowner;
	else if (form->relowner != queue->owner)
		fact = psprintf("Its relation %s has another owner than the others.",
						full_name);
	ReleaseSysCache(tuple);
	return fact;
}

/*
 * Is this relation the queue's?  For a description that cmq_catalog_find_queue()
 * has filled; its owner is set by the first one that is.
 */
bool
cmq_queue_has_relation(CmqQueue *queue, Oid relid, CmqRelation which)
{
	return find_fault(queue, relid, which) == NULL;
}

/* The same; if it is not, raises 55000 if that is wanted. */
static bool
check_relation(CmqQueue *queue, Oid relid, CmqRelation which, bool raise)
{
	const char *fact = find_fault(queue, relid, which);

	if (fact && raise)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" is damaged", queue->name),
				 errdetail_internal("%s", fact),
				 SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) ?
				 errhint("Give the relation its name and owner back, or drop the queue.") :
				 errhint("Drop the queue.")));
	return fact == NULL;
}

/*
 * Load the leaves.  If those of a pair are not both there, raise 55000 if that is
 * wanted, else return false.
 */
static bool
load_leaves(CmqQueue *queue, bool raise)
{
	bool		before = invalidated;
	char	   *fact;
	char	   *undo;

	/* somebody may have dropped a leaf between two looks */
	for (int i = 0; i < CMQ_MAX_LOADS; i++)
	{
		invalidated = false;
		if (cmq_catalog_load_leaves(queue, &fact, &undo))
		{
			invalidated |= before;
			return true;
		}
		AcceptInvalidationMessages();
		if (!invalidated)
			break;
	}
	if (raise)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" is damaged", queue->name),
				 errdetail_internal("%s", fact),
				 errhint("%s", undo)));
	return false;
}

/*
 * Load a description; NULL if there is no such queue, or it is gone (cmq_gone.c), or
 * if it is damaged and no error is wanted for that.  Its valid says whether no invalidation arrived
 * meanwhile.
 */
static CmqQueue *
load_queue(const char *name, bool raise)
{
	/* the cache's only when it is complete, so that an error leaks nothing */
	MemoryContext mcxt = AllocSetContextCreate(CurrentMemoryContext,
											   "cmq queue",
											   ALLOCSET_SMALL_SIZES);
	CmqQueue   *queue = MemoryContextAllocZero(mcxt, sizeof(CmqQueue));

	queue->mcxt = mcxt;
	strlcpy(queue->name, name, NAMEDATALEN);
	invalidated = false;
	if (!cmq_catalog_load_queue(queue) || cmq_catalog_is_gone(queue) ||
		!check_relation(queue, queue->relid, CMQ_RIGHTS, raise) ||
		!check_relation(queue, queue->messages, CMQ_MESSAGES_TABLE, raise) ||
		!check_relation(queue, queue->pending, CMQ_PENDING_TABLE, raise) ||
		!check_relation(queue, queue->rewind, CMQ_REWIND_TABLE, raise) ||
		!load_leaves(queue, raise))
	{
		MemoryContextDelete(mcxt);
		return NULL;
	}
	queue->is_target = cmq_target_is_queue(queue);
	cmq_triggers_load(queue);
	queue->valid = !invalidated;
	MemoryContextSetParent(mcxt, CacheMemoryContext);
	return queue;
}

/* Do two descriptions say the same?  Both were allocated with zeroes. */
static bool
is_same(const CmqQueue *a, const CmqQueue *b)
{
	CmqQueue	x = *a;
	CmqQueue	y = *b;

	if (a->nleaves != b->nleaves ||
		a->rewinding.nconcurrent != b->rewinding.nconcurrent ||
		memcmp(a->leaves, b->leaves, a->nleaves * sizeof(CmqLeaf)) != 0 ||
		(a->rewinding.nconcurrent > 0 &&
		 memcmp(a->rewinding.concurrent, b->rewinding.concurrent,
				a->rewinding.nconcurrent * sizeof(int64)) != 0))
		return false;
	/* what is not part of the description, and what was compared */
	x.mcxt = y.mcxt = NULL;
	x.leaves = y.leaves = NULL;
	x.rewinding.concurrent = y.rewinding.concurrent = NULL;
	x.shared = y.shared = NULL;
	x.used_in = y.used_in = 0;
	x.valid = y.valid = false;
	x.nloads = y.nloads = 0;
	return memcmp(&x, &y, sizeof(CmqQueue)) == 0;
}

static CmqQueue *
find_queue(const char *name, bool raise)
{
	NameEntry  *entry;
	bool		found;

	cmq_require_preload();
	if (strlen(name) > CMQ_QUEUE_NAME_MAX)
		return NULL;
	if (queues_by_name == NULL)
		create_cache();

	/*
	 * A long transaction that already holds all the locks it needs would
	 * otherwise never hear of a rewind.
	 */
	AcceptInvalidationMessages();

	entry = hash_search(queues_by_name, name, HASH_ENTER, &found);
	if (!found)
		entry->queue = NULL;
	for (int i = 0; i < CMQ_MAX_LOADS &&
		 (entry->queue == NULL || !entry->queue->valid); i++)
	{
		CmqQueue   *queue = load_queue(name, raise);

		if (queue && entry->queue && is_same(queue, entry->queue))
		{
			/* so that looking again and again in a transaction costs nothing */
			entry->queue->valid = queue->valid;
			entry->queue->nloads++;
			MemoryContextDelete(queue->mcxt);
			continue;
		}
		retire(entry);
		if (queue == NULL)
		{
			hash_search(queues_by_name, name, HASH_REMOVE, NULL);
			return NULL;
		}
		entry->queue = queue;
		watch_relations(queue);
	}
	return entry->queue;
}

/*
 * The description of a queue, current as of this call, NULL if there is no such
 * queue.  Takes no lock: the next call may return another one.  Raises 55000 if
 * cmq is not preloaded or the queue is damaged.
 */
CmqQueue *
cmq_queue_find(const char *name)
{
	return find_queue(name, true);
}

/* The same; NULL if the queue is damaged, too. */
CmqQueue *
cmq_queue_find_whole(const char *name)
{
	return find_queue(name, false);
}

/* The same; raises 42704 if there is no such queue. */
CmqQueue *
cmq_queue_lookup(const char *name)
{
	CmqQueue   *queue = cmq_queue_find(name);

	if (queue == NULL)
		cmq_queue_report_unknown(name);
	return queue;
}

/*
 * The current description of a queue that the caller has been using, and holds a
 * lock on.  Raises 55006 if it is another queue's by now: code of somebody's that
 * ran in the midst of the call has dropped ours and made a new one.
 */
CmqQueue *
cmq_queue_again(CmqQueue *queue)
{
	CmqQueue   *now = cmq_queue_find(queue->name);

	if (now == NULL || now->pending != queue->pending)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("queue \"%s\" was dropped while a call was using it",
						queue->name)));
	cmq_queue_attach(now);
	return now;
}

/* The next look-up loads the queue again, even if no invalidation has arrived. */
void
cmq_queue_mark_stale(const char *name)
{
	CmqQueue   *queue = cmq_queue_find(name);

	if (queue)
		mark_stale(queue);
}

/*
 * Look up a queue, check the right (none if it is ACL_NO_RIGHTS) and lock its
 * pending table.  The lock stays until the end of the transaction; as long as it
 * is held the queue is not dropped and rewind is not switched on or off.
 */
CmqQueue *
cmq_queue_open(const char *name, AclMode mode, LOCKMODE lockmode)
{
	return cmq_queue_open_found(cmq_queue_lookup(name), mode, lockmode);
}

/* The same for one that the caller has just looked up. */
CmqQueue *
cmq_queue_open_found(CmqQueue *queue, AclMode mode, LOCKMODE lockmode)
{
	for (;;)
	{
		CmqQueue   *now;
		Oid			pending = queue->pending;
		uint32		nloads = queue->nloads;

		cmq_queue_check_acl(queue, mode);
		LockRelationOid(pending, lockmode);
		now = cmq_queue_lookup(queue->name);
		if (now->pending == pending)
		{
			/* a REVOKE that we have waited for has had it loaded again */
			if (now != queue || now->nloads != nloads)
				cmq_queue_check_acl(now, mode);
			cmq_queue_attach(now);
			return now;
		}
		/* dropped and made anew while we waited */
		UnlockRelationOid(pending, lockmode);
		queue = now;
	}
}

/*
 * The same for a queue that the caller has had open before, and of which it holds
 * the shared entry.  NULL, without the lock, if it has been dropped.
 */
CmqQueue *
cmq_queue_reopen(CmqQueue *queue, AclMode mode, LOCKMODE lockmode)
{
	CmqQueue   *now;

	LockRelationOid(queue->pending, lockmode);
	now = cmq_queue_find(queue->name);
	if (now == NULL || now->pending != queue->pending)
	{
		UnlockRelationOid(queue->pending, lockmode);
		return NULL;
	}
	cmq_queue_check_acl(now, mode);
	cmq_queue_attach(now);
	return now;
}

/*
 * Wait for whoever is just dropping a queue that the caller knows of by a
 * binding or a subscription.  After that, and until the end of the transaction,
 * the caller can look whether that still holds, and then opens the queue; it
 * may be another one of that name by now.
 */
void
cmq_queue_wait_for(const char *name)
{
	CmqQueue   *queue = cmq_queue_find(name);

	if (queue)
		LockRelationOid(queue->pending, RowExclusiveLock);
}

/*
 * The time of the newest message, committed or not, perhaps even of one that is
 * gone; DT_NOBEGIN if there is none.
 */
TimestampTz
cmq_queue_newest(CmqQueue *queue)
{
	for (int i = queue->nleaves - 1; i >= 0; i--)
	{
		CmqTable	table;
		TimestampTz newest;

		if (!cmq_table_open(&table, NULL, queue, queue->leaves[i].messages,
							CMQ_MESSAGES, AccessShareLock))
			continue;
		newest = cmq_table_newest(&table);
		cmq_table_release(&table);
		if (newest != DT_NOBEGIN)
			return newest;
	}
	return DT_NOBEGIN;
}

/*
 * Make sure that queue->shared is the entry of this queue, and stays to the end
 * of the transaction.  Not in recovery: there the queue has no shared entry and
 * its clock is cmq's time.
 */
void
cmq_queue_attach(CmqQueue *queue)
{
	TimestampTz not_before;
	TimestampTz newest;
	TimestampTz last_send = queue->create_time;

	if (queue->used_in == cmq_xact_number() || RecoveryInProgress())
		return;

	queue->shared = cmq_shared_use(queue->pending);
	if (queue->shared == NULL)
	{
		CmqRelids	relids = {
			.pending = queue->pending,
			.rewind = queue->rewind,
			.rights = queue->relid
		};
		bool		held = cmq_prepared_holds(&relids);

		/* the first use since the server started: look at the messages */
		not_before = Max(queue->saved_clock, queue->last_modify_time);
		if (queue->rewinding.active)
			not_before = Max(not_before, queue->rewinding.rewound_at);
		newest = cmq_queue_newest(queue);
		if (newest != DT_NOBEGIN)
			last_send = newest;
		queue->shared = cmq_shared_make(&relids, queue->name,
									   Max(not_before, last_send), last_send,
									   held, queue->triggers);
		/* who held it may have ended since we looked */
		if (held)
			cmq_prepared_look_at_held();
	}
	queue->used_in = cmq_xact_number();
	cmq_triggers_check(queue);
}

/*
 * Look up a queue, check the right and take the queue lock, until the end of
 * the transaction.  The right is that on the queue that is there then: another
 * one may have been made of that name while we waited.
 */
CmqQueue *
cmq_queue_lock(const char *name, AclMode mode, LOCKMODE lockmode)
{
	for (;;)
	{
		CmqQueue   *queue = cmq_queue_lookup(name);
		Oid			relid = queue->relid;

		cmq_queue_check_acl(queue, mode);
		LockDatabaseObject(RelationRelationId, relid, 0, lockmode);
		queue = cmq_queue_lookup(name);
		if (queue->relid == relid)
		{
			cmq_queue_check_acl(queue, mode);
			return queue;
		}
		UnlockDatabaseObject(RelationRelationId, relid, 0, lockmode);
	}
}

/*
 * Maintenance: take the queue lock exclusively if nobody has it, and look the
 * queue up again; NULL if somebody has, or it is another queue now.
 */
CmqQueue *
cmq_queue_try_lock(CmqQueue *queue)
{
	Oid			relid = queue->relid;

	if (!ConditionalLockDatabaseObject(RelationRelationId, relid, 0,
									   ExclusiveLock))
		return NULL;
	queue = cmq_queue_lookup(queue->name);
	return queue->relid == relid ? queue : NULL;
}

/* The queue's time, for those who only look.  In recovery it is cmq's. */
TimestampTz
cmq_queue_now(CmqQueue *queue)
{
	cmq_queue_attach(queue);
	return queue->shared ? cmq_clock_peek(queue->shared) : cmq_time();
}

