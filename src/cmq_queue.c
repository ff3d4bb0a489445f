/*-------------------------------------------------------------------------
 *
 * cmq_queue.c
 *	  Look-up of queues: the cache of descriptions, rights, bounds of time.
 *
 * Each backend caches what it knows of a queue: settings, the rewind under
 * way, OIDs of the tables and the partition map.  Everything that changes any
 * of it sends a relcache invalidation for the queue's message table in the
 * same transaction, and DDL on that or the other two tables does so by itself;
 * the callback here marks the cached description stale, and
 * the next look-up loads it again with a fresh snapshot, whatever the
 * isolation level.  Rollbacks replay the invalidation, so a description loaded
 * from uncommitted rows does not outlive them.
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
 *	   switch rewind on or off; AccessExclusive in drop
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

#include "cmq.h"

static HTAB *queues_by_name = NULL;
static HTAB *queues_by_relid = NULL;

/*
 * A queue that is dropped leaves a stale entry behind.  Between transactions
 * nobody uses any: once so many have gone stale they are all thrown away.
 */
#define MAX_STALE 100

static int	nstale = 0;			/* entries gone stale since then */

typedef struct RelidEntry
{
	Oid			relid;			/* hash key */
	CmqQueue   *queue;
} RelidEntry;

static void
mark_stale(CmqQueue *queue)
{
	if (queue->valid)
		nstale++;
	queue->valid = false;
	queue->stale = true;
}

/* Relcache callback: the description of this queue, or of all, is stale. */
static void
invalidate_queues(Datum arg, Oid relid)
{
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
		CmqQueue   *queue;

		hash_seq_init(&scan, queues_by_name);
		while ((queue = hash_seq_search(&scan)) != NULL)
			mark_stale(queue);
	}
}

static void forget_queue(CmqQueue *queue);

static void
xact_callback(XactEvent event, void *arg)
{
	HASH_SEQ_STATUS scan;
	CmqQueue   *queue;

	if (nstale <= MAX_STALE ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT))
		return;
	nstale = 0;
	hash_seq_init(&scan, queues_by_name);
	while ((queue = hash_seq_search(&scan)) != NULL)
	{
		if (!queue->valid)
			forget_queue(queue);
	}
}

void
cmq_queue_init_cache(void)
{
	CacheRegisterRelcacheCallback(invalidate_queues, (Datum) 0);
	RegisterXactCallback(xact_callback, NULL);
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
	info.entrysize = sizeof(CmqQueue);
	info.hcxt = CacheMemoryContext;
	queues_by_name = hash_create("cmq queues", 64, &info,
								 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* The queue name in an argument, palloc'd; raises 22023 when it is NULL. */
char *
cmq_queue_name_arg(FunctionCallInfo fcinfo, int argno)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue must not be NULL")));
	return text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

static void
report_unknown(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("queue \"%s\" does not exist", name),
			 errhint("The view cmq.queues lists the queues that you may use.")));
}

static void
report_missing_table(CmqQueue *queue, const char *relname)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("queue \"%s\" is damaged", queue->name),
			 errdetail("Its table %s.%s does not exist.", CMQ_SCHEMA,
					   quote_identifier(relname)),
			 errhint("Give the table its name back, or drop the queue.")));
}

/* OID of one of the queue's tables; raises 55000 when it is missing. */
static Oid
find_table(CmqQueue *queue, const char *suffix)
{
	char	   *relname = cmq_ddl_relname("q_", queue->name, suffix);
	Oid			relid = cmq_catalog_relid(relname);

	if (!OidIsValid(relid))
		report_missing_table(queue, relname);
	return relid;
}

/* Invalidations of this relation are for this queue from now on. */
static void
watch_relation(CmqQueue *queue, Oid relid)
{
	RelidEntry *entry = hash_search(queues_by_relid, &relid, HASH_ENTER, NULL);

	entry->queue = queue;
}

static void
unwatch_relations(CmqQueue *queue)
{
	Oid			relids[] = {queue->relid, queue->pending, queue->rewind};

	for (int i = 0; i < lengthof(relids); i++)
	{
		RelidEntry *entry = hash_search(queues_by_relid, &relids[i], HASH_FIND,
										NULL);

		/* renamed, it may be another queue's by now */
		if (entry && entry->queue == queue)
			hash_search(queues_by_relid, &relids[i], HASH_REMOVE, NULL);
	}
	queue->relid = queue->pending = queue->rewind = InvalidOid;
}

/*
 * The description is about to change.  Somebody up the stack may still be using
 * the old one, if code of the owner's, in an index expression, came back to us:
 * so what it points to stays to the end of the transaction, and the pointer to
 * the shared entry is never taken away.
 */
static void
retire_context(CmqQueue *queue)
{
	if (queue->mcxt)
		MemoryContextSetParent(queue->mcxt, TopTransactionContext);
	queue->mcxt = NULL;
}

/* Forget a cached queue: it does not exist (any more), or may not. */
static void
forget_queue(CmqQueue *queue)
{
	unwatch_relations(queue);
	retire_context(queue);
	hash_search(queues_by_name, queue->name, HASH_REMOVE, NULL);
}

/*
 * Fill queue from the catalogs; false if there is no such queue.  On return
 * queue->valid says whether no invalidation arrived meanwhile.
 */
static bool
load_queue(CmqQueue *queue)
{
	char	   *relname = cmq_ddl_relname("q_", queue->name, "");

	unwatch_relations(queue);
	retire_context(queue);
	queue->mcxt = AllocSetContextCreate(CacheMemoryContext, "cmq queue",
										ALLOCSET_SMALL_SIZES);
	/* the shared entry stays until attached anew: see retire_context() */
	queue->attached = false;
	queue->nleaves = 0;
	queue->leaves = NULL;
	memset(&queue->rewinding, 0, sizeof(queue->rewinding));

	/* from here on invalidations find the entry */
	queue->stale = false;
	queue->relid = cmq_catalog_relid(relname);
	if (OidIsValid(queue->relid))
		watch_relation(queue, queue->relid);

	if (!cmq_catalog_load_queue(queue))
		return false;
	if (!OidIsValid(queue->relid))
		report_missing_table(queue, relname);
	queue->pending = find_table(queue, "_pending");
	watch_relation(queue, queue->pending);
	queue->rewind = find_table(queue, "_rewind");
	watch_relation(queue, queue->rewind);
	cmq_catalog_load_leaves(queue);
	queue->valid = !queue->stale;
	return true;
}

/*
 * The description of a queue, current as of this call.  Takes no lock: what it
 * says may change any time.  Raises 42704 if the queue does not exist, 55000
 * if cmq is not preloaded or the queue's tables are missing.
 */
CmqQueue *
cmq_queue_lookup(const char *name)
{
	CmqQueue   *queue;
	bool		found;

	cmq_shmem_require();
	if (strlen(name) > CMQ_QUEUE_NAME_MAX)
		report_unknown(name);
	if (queues_by_name == NULL)
		create_cache();

	/*
	 * A long transaction that already holds all the locks it needs would
	 * otherwise never hear of a rewind.
	 */
	AcceptInvalidationMessages();

	queue = hash_search(queues_by_name, name, HASH_ENTER, &found);
	if (!found)
	{
		queue->relid = queue->pending = queue->rewind = InvalidOid;
		queue->valid = false;
		queue->attached = false;
		queue->shared = NULL;
		queue->mcxt = NULL;
	}
	for (int i = 0; i < CMQ_MAX_LOADS && !queue->valid; i++)
	{
		if (!load_queue(queue))
		{
			forget_queue(queue);
			report_unknown(name);
		}
	}
	return queue;
}

/* The same, loaded again even if no invalidation has arrived. */
CmqQueue *
cmq_queue_lookup_afresh(const char *name)
{
	mark_stale(cmq_queue_lookup(name));
	return cmq_queue_lookup(name);
}

/*
 * Raise 42501 unless the current user has the right on the queue; ACL_NO_RIGHTS
 * is nobody's lack.
 */
void
cmq_queue_check_acl(CmqQueue *queue, AclMode mode)
{
	if (mode != ACL_NO_RIGHTS &&
		pg_class_aclcheck(queue->relid, GetUserId(), mode) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for queue \"%s\"", queue->name),
				 errhint("The owner of the queue can GRANT %s ON %s TO you.",
						 mode == ACL_INSERT ? "INSERT" :
						 mode == ACL_DELETE ? "DELETE" :
						 mode == ACL_UPDATE ? "UPDATE" : "SELECT",
						 cmq_catalog_relname(queue->relid))));
}

/*
 * Does the queue exist, with its tables, and has the current user SELECT on it?
 * For those who must not raise an error because of one queue.
 */
bool
cmq_queue_is_readable(const char *name)
{
	Oid			relid;

	if (strlen(name) > CMQ_QUEUE_NAME_MAX)
		return false;
	relid = cmq_catalog_relid(cmq_ddl_relname("q_", name, ""));
	return OidIsValid(relid) &&
		OidIsValid(cmq_catalog_relid(cmq_ddl_relname("q_", name, "_pending"))) &&
		OidIsValid(cmq_catalog_relid(cmq_ddl_relname("q_", name, "_rewind"))) &&
		pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

/* Raise 42501 unless the current user owns the queue. */
void
cmq_queue_check_owner(CmqQueue *queue)
{
	if (!object_ownercheck(RelationRelationId, queue->relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of queue \"%s\"", queue->name)));
}

/*
 * Look up a queue, check the right (none if it is ACL_NO_RIGHTS) and lock its
 * pending table.  The lock stays
 * until the end of the transaction; as long as it is held the queue is not
 * dropped and rewind is not switched on or off.
 */
CmqQueue *
cmq_queue_open(const char *name, AclMode mode, LOCKMODE lockmode)
{
	for (;;)
	{
		CmqQueue   *queue = cmq_queue_lookup(name);
		Oid			pending = queue->pending;

		cmq_queue_check_acl(queue, mode);
		LockRelationOid(pending, lockmode);
		queue = cmq_queue_lookup(name);
		if (queue->pending == pending)
		{
			cmq_queue_attach(queue);
			return queue;
		}
		/* dropped and made anew while we waited */
		UnlockRelationOid(pending, lockmode);
	}
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
	Oid			pending = cmq_catalog_relid(cmq_ddl_relname("q_", name, "_pending"));

	if (OidIsValid(pending))
		LockRelationOid(pending, RowExclusiveLock);
}

/*
 * Make sure that queue->shared is the entry of this queue.  Not in recovery: there the queue has
 * no shared entry and its clock is the wall clock.
 */
void
cmq_queue_attach(CmqQueue *queue)
{
	TimestampTz not_before;
	TimestampTz last_send = queue->create_time;

	if (queue->attached || RecoveryInProgress())
		return;

	not_before = Max(queue->saved_clock, queue->last_modify_time);
	if (queue->rewinding.active)
		not_before = Max(not_before, queue->rewinding.rewound_at);
	if (cmq_shmem_find(queue->relid) == NULL)
	{
		/* the first use since the server started: look at the messages */
		for (int i = queue->nleaves - 1; i >= 0; i--)
		{
			CmqTable	table;
			TimestampTz newest;

			if (!cmq_table_open(&table, NULL, queue->leaves[i].messages,
								CMQ_MESSAGES, AccessShareLock))
				continue;
			newest = cmq_table_newest(&table);
			cmq_table_close(&table);
			if (newest != DT_NOBEGIN)
			{
				last_send = newest;
				break;
			}
		}
	}
	queue->shared = cmq_shmem_attach(queue->relid, queue->pending,
									 queue->name, Max(not_before, last_send),
									 last_send);
	queue->attached = true;
}

/*
 * Call func for a queue, where an error must not end the work on others: what
 * it did is undone and the error becomes a warning.  what names the work.
 */
void
cmq_queue_try(const char *name, const char *what,
			  void (*func) (const char *name, void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		func(name, arg);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		/* a cancel is meant for all of us, and so is a conflict */
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK)
			ReThrowError(error);
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("%s of queue \"%s\" failed: %s", what, name,
						error->message),
				 error->detail ? errdetail_internal("%s", error->detail) : 0,
				 error->hint ? errhint("%s", error->hint) : 0));
		FreeErrorData(error);
	}
	PG_END_TRY();
}

Oid
cmq_queue_owner(CmqQueue *queue)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(queue->relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		report_unknown(queue->name);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
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

/* The queue's time, for those who only look. */
TimestampTz
cmq_queue_now(CmqQueue *queue)
{
	cmq_queue_attach(queue);
	return queue->shared ? cmq_clock_peek(queue->shared) :
		GetCurrentTimestamp();
}

/* Messages produced before this have expired. */
TimestampTz
cmq_queue_expired_before(CmqQueue *queue, TimestampTz now)
{
	return Max(now - queue->msg_retention_seconds * USECS_PER_SEC,
			   queue->expired_before);
}

/*
 * Deleted messages produced before this cannot be rewound; DT_NOEND when
 * rewind is off.  The window is counted from the start of the transaction, so
 * that now() - rewind_seconds is inside, and the views and a rewind in one
 * transaction agree.
 */
TimestampTz
cmq_queue_rewindable_since(CmqQueue *queue, TimestampTz now)
{
	TimestampTz since;

	if (queue->rewind_seconds == 0)
		return DT_NOEND;
	since = GetCurrentTransactionStartTimestamp() -
		queue->rewind_seconds * USECS_PER_SEC;
	since = Max(since, queue->forgotten_before);
	return Max(since, cmq_queue_expired_before(queue, now));
}

/* The pair of leaf tables for messages of this time, or NULL. */
CmqLeaf *
cmq_queue_leaf(CmqQueue *queue, TimestampTz time)
{
	/* from the right: most traffic is there */
	for (int i = queue->nleaves - 1; i >= 0; i--)
	{
		CmqLeaf    *leaf = &queue->leaves[i];

		if (time >= leaf->lower)
			return time < leaf->upper ? leaf : NULL;
	}
	return NULL;
}

/* Does this rewind bring the soft-deleted message back? */
bool
cmq_rewind_is_due(const CmqRewind *rewinding, TimestampTz enqueued_at,
				  TimestampTz deleted_at, int64 deleted_xact)
{
	if (!rewinding->active || enqueued_at < rewinding->from ||
		deleted_at >= rewinding->rewound_at)
		return false;
	for (int i = 0; i < rewinding->nconcurrent; i++)
	{
		if (rewinding->concurrent[i] == deleted_xact)
			return false;
	}
	return true;
}
