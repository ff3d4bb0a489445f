/*-------------------------------------------------------------------------
 *
 * cmq_cache.c
 *	  The cache of descriptions of queues.
 *
 * Each backend caches what it knows of a queue: settings, the rewind under way, OIDs of
 * the relations and the partition map.
 *
 * Invariant: a look-up returns what has committed by then and what this transaction has
 * written, and the description that it returns stays as it is to the end of the
 * transaction.
 *
 * Ways to break it, and the answers:
 *	1. Another backend changes the queue.  Every writer of cmq.queue and cmq.partition
 *	   sends a relcache invalidation for cmq.q_<queue> in the same transaction, and DDL
 *	   on a relation of the queue sends one by itself.  A look-up accepts invalidations
 *	   first, the callback here marks the description stale, and another one is loaded
 *	   with a fresh snapshot, whatever the isolation level.
 *	2. This transaction undoes what it has written.  A rollback sends the invalidation
 *	   again, so a description of uncommitted rows does not outlive them.
 *	3. A change commits while a description is being loaded.  It is loaded again, but no
 *	   more than CMQ_MAX_LOADS times.
 *	4. A description goes stale while a call up the stack uses it: code of an owner's, in
 *	   an index expression, can come back to us in the midst of a call.  A stale
 *	   description is replaced, never changed, and freed with the transaction.
 *
 * Locks: AccessShare on metadata while a description is loaded.  Abort: as in 2.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_cache.h"
#include "store/cmq_description.h"
#include "store/cmq_load.h"

typedef struct CachedQueue
{
	CmqQueue   *queue;
	bool		valid;			/* false: the next look-up loads another one */
	MemoryContext mcxt;			/* of all this */
} CachedQueue;

typedef struct NameEntry
{
	char		name[NAMEDATALEN];	/* hash key */
	CachedQueue *cached;		/* the newest description, or NULL */
} NameEntry;

/* Invalidations of this relation are for this description. */
typedef struct RelidEntry
{
	Oid			relid;			/* hash key */
	CachedQueue *cached;
} RelidEntry;

static HTAB *queues_by_name = NULL;
static HTAB *queues_by_relid = NULL;

/*
 * A queue that is dropped leaves a stale description behind.  Once so many have gone
 * stale, all of them are thrown away at the end of a transaction, when no call uses one.
 */
#define MAX_STALE 100

static int	nstale = 0;			/* descriptions gone stale since then */

/* Has any invalidation arrived since the load of a description began? */
static bool invalidated = false;

static uint64 nloads = 0;

static void
mark_stale(CachedQueue *cached)
{
	if (cached == NULL)
		return;
	nstale += cached->valid;
	cached->valid = false;
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
			mark_stale(entry->cached);
	}
	else
	{
		HASH_SEQ_STATUS scan;
		NameEntry  *entry;

		hash_seq_init(&scan, queues_by_name);
		while ((entry = hash_seq_search(&scan)) != NULL)
			mark_stale(entry->cached);
	}
}

/* Have the invalidations of the queue's relations mean this description, or not. */
static void
watch_relations(CachedQueue *cached, bool on)
{
	CmqQueue   *queue = cached->queue;
	const Oid	relids[] = {
		queue->relid, queue->messages, queue->pending, queue->rewind,
		queue->dedup
	};

	for (int i = 0; i < lengthof(relids); i++)
	{
		RelidEntry *entry;

		if (!OidIsValid(relids[i]))
			continue;
		entry = hash_search(queues_by_relid, &relids[i],
							on ? HASH_ENTER : HASH_FIND, NULL);
		if (on)
			entry->cached = cached;
		/* a newer description may have it by now */
		else if (entry && entry->cached == cached)
			hash_search(queues_by_relid, &relids[i], HASH_REMOVE, NULL);
	}
}

/* Take the description out of the cache; it stays for those who have it. */
static void
retire(NameEntry *entry)
{
	CachedQueue *cached = entry->cached;

	if (cached == NULL)
		return;
	watch_relations(cached, false);
	entry->cached = NULL;
	MemoryContextSetParent(cached->mcxt, TopTransactionContext);
}

/* The end of a transaction: throw stale descriptions away if there are many. */
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
		if (entry->cached && entry->cached->valid)
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
cmq_cache_init(void)
{
	CacheRegisterRelcacheCallback(invalidate_queues, (Datum) 0);
	CacheRegisterSyscacheCallback(SUBSCRIPTIONRELMAP, subscription_changed,
								  (Datum) 0);
	cmq_xact_at_end(trim_cache);
}

static void
create_cache(void)
{
	HASHCTL		info = {.hcxt = CacheMemoryContext};

	info.keysize = sizeof(Oid);
	info.entrysize = sizeof(RelidEntry);
	queues_by_relid = hash_create("cmq queues by relation", 64, &info,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	info.keysize = NAMEDATALEN;
	info.entrysize = sizeof(NameEntry);
	queues_by_name = hash_create("cmq queues", 64, &info,
								 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* Do two descriptions say the same?  Both were allocated with zeroes. */
static bool
is_same(CmqQueue *a, CmqQueue *b)
{
	return memcmp(a, b, offsetof(CmqDescription, leaves)) == 0 &&
		memcmp(a->leaves, b->leaves, a->nleaves * sizeof(CmqLeaf)) == 0 &&
		memcmp(&a->rewinding, &b->rewinding,
			   offsetof(CmqRewind, concurrent)) == 0 &&
		(a->rewinding.nconcurrent == 0 ||
		 memcmp(a->rewinding.concurrent, b->rewinding.concurrent,
				a->rewinding.nconcurrent * sizeof(int64)) == 0);
}

/* A copy with the bytes between the fields, which is_same() compares. */
static CmqQueue *
copy(CmqQueue *queue)
{
	CmqDescription *copied = palloc(sizeof(CmqDescription));
	CmqRewind  *rewinding = &copied->rewinding;
	Size		size = queue->nleaves * sizeof(CmqLeaf);

	memcpy(copied, queue, sizeof(CmqDescription));
	copied->leaves = memcpy(palloc(size), queue->leaves, size);
	size = rewinding->nconcurrent * sizeof(int64);
	if (size > 0)
		rewinding->concurrent = memcpy(palloc(size), rewinding->concurrent,
									   size);
	return copied;
}

/* Put a description into the cache in the place of the one that is there. */
static void
replace(NameEntry *entry, CmqQueue *loaded)
{
	/* it is the cache's when it is complete, so that an error leaks nothing */
	MemoryContext mcxt = AllocSetContextCreate(CurrentMemoryContext,
											   "cmq queue",
											   ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(mcxt);
	CachedQueue *cached = palloc(sizeof(CachedQueue));

	cached->queue = copy(loaded);
	cached->mcxt = mcxt;
	MemoryContextSwitchTo(old);
	retire(entry);
	MemoryContextSetParent(mcxt, CacheMemoryContext);
	entry->cached = cached;
	watch_relations(cached, true);
}

/*
 * Load the queue of an entry.  False if there is no such queue.  For a damaged one raise
 * 55000, or return false if the caller wants no error.
 */
static bool
load(NameEntry *entry, bool raise)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(old, "cmq load",
											   ALLOCSET_SMALL_SIZES);
	CmqFault	fault = {0};
	CmqQueue   *loaded = NULL;

	MemoryContextSwitchTo(work);
	nloads++;
	for (int i = 0; i < CMQ_MAX_LOADS && loaded == NULL; i++)
	{
		invalidated = false;
		loaded = cmq_load_queue(entry->name, &fault);
		if (fault.fact == NULL)
			break;
		/* somebody may have dropped a leaf between two looks */
		AcceptInvalidationMessages();
		if (!invalidated)
			break;
	}
	if (loaded == NULL && fault.fact && raise)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s \"%s\" is damaged",
						cmq_kind_of(entry->name), cmq_plain(entry->name)),
				 errdetail_internal("%s", fault.fact),
				 errhint("%s", fault.hint)));
	MemoryContextSwitchTo(old);
	/* looking again and again in a transaction is to cost no memory */
	if (loaded && (entry->cached == NULL ||
				   !is_same(loaded, entry->cached->queue)))
		replace(entry, loaded);
	if (loaded)
		entry->cached->valid = !invalidated;
	MemoryContextDelete(work);
	return loaded != NULL;
}

/*
 * The description of a queue, current as of this call.  NULL if there is no such queue.
 * For a damaged one raise 55000, or return NULL if the caller wants no error.
 */
CmqQueue *
cmq_cache_find(const char *name, bool raise)
{
	NameEntry  *entry;
	bool		found;

	cmq_require_preload();
	if (strlen(name) > CMQ_QUEUE_NAME_MAX + cmq_is_journal_name(name))
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
		entry->cached = NULL;
	for (int i = 0; i < CMQ_MAX_LOADS &&
		 (entry->cached == NULL || !entry->cached->valid); i++)
	{
		if (load(entry, raise))
			continue;
		retire(entry);
		hash_search(queues_by_name, name, HASH_REMOVE, NULL);
		return NULL;
	}
	return entry->cached->queue;
}

/*
 * How often descriptions have been loaded.  A caller that has waited for a lock knows by
 * this number whether anything about the queue may have changed meanwhile.
 */
uint64
cmq_cache_nloads(void)
{
	return nloads;
}

/* The next look-up loads the queue again, even if no invalidation has arrived. */
void
cmq_cache_mark_stale(const char *name)
{
	NameEntry  *entry = queues_by_name == NULL ? NULL :
		hash_search(queues_by_name, name, HASH_FIND, NULL);

	if (entry)
		mark_stale(entry->cached);
}
