/*-------------------------------------------------------------------------
 *
 * cmq_once.c
 *	  Claim keys, so that of the messages with one key one is stored.
 *
 * Invariant: of two messages of a queue with the same key whose times are less than
 * dedup_seconds apart one is stored at most, if both have committed.  The other send
 * returns the id of that one.
 *
 * A send opens its leaves, gets its times from the queue clock, looks for its keys in the
 * older leaves that reach into the window, and writes the keys into the leaf of its times.
 * Only then it writes messages.  Ways to break the invariant, and the answers:
 *
 * 1. Two sends write the key at the same time.  If both write into one leaf, its unique
 *	  index decides.  The one that comes second finds the row of the other: committed, or
 *	  its own transaction's, it is a duplicate; else it waits for that transaction, and
 *	  begins anew with a new time.
 * 2. The one that is earlier writes into an older leaf after the other one has looked
 *	  there.  From before it gets its time until its keys are written a send shows that in
 *	  a window (cmq_window.c).  The other one waits, before it looks, for all windows that
 *	  may have a time in these leaves.  In such a window nobody waits for anything else
 *	  than windows of earlier times: so all leaves are opened, and locked, before, and
 *	  whoever meets a busy key closes its window before it waits.
 * 3. A leaf is dropped while a send still has to look there.  Maintenance looks at the
 *	  windows, too (cmq_dedup_drop.c).
 * 4. A row stays without its message, or the other way round.  Both are of one
 *	  transaction: an abort takes both back, a crash has both or neither.
 *
 * A batch claims its keys in their order, so that two batches with the same keys cannot
 * wait for each other; and all in one leaf.  If one of them is busy it takes back what it
 * has written, for all messages of a batch get new times then.  Others still wait for the
 * transaction that has written these rows, even if they are deleted: so it cannot lose a
 * key that it has had.
 *
 * Locks: RowExclusive on the leaves of the time.  Deadlocks: between transactions that
 * send several keys one by one, in different orders; the server ends one of them (40P01).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_window.h"
#include "store/cmq_bounds.h"
#include "store/cmq_cache.h"
#include "store/cmq_dedup.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "verbs/cmq_once.h"

/*
 * Raise 22023 for a key that is too short or too long; i is its number in an array, or 0.
 * Returns the key without compression.
 */
Datum
cmq_once_check_key(Datum key, int i, const char *kind, const char *name)
{
	text	   *value = DatumGetTextPP(key);
	int			size = VARSIZE_ANY_EXHDR(value);

	if (size < CMQ_DEDUP_KEY_MIN || size > CMQ_DEDUP_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 i == 0 ?
				 errmsg("dedup_key has %d bytes for %s \"%s\"", size, kind, name) :
				 errmsg("element %d of dedup_keys has %d bytes for %s \"%s\"",
						i, size, kind, name),
				 errdetail("It must have between %d and %d bytes.",
						   CMQ_DEDUP_KEY_MIN, CMQ_DEDUP_KEY_MAX),
				 errhint("Use a digest of what is longer, or leave the key out.")));
	return PointerGetDatum(value);
}

/*
 * The keys in an argument that is not NULL: as many as there are bodies, and those that
 * are NULL are none.  Raises 22023.
 */
void
cmq_once_keys_arg(FunctionCallInfo fcinfo, int argno, const char *kind,
				  const char *name, int nbodies, Datum **keys, bool **isnull)
{
	cmq_texts_arg(fcinfo, argno, "dedup_keys", kind, name, nbodies, keys, isnull);
	for (int i = 0; i < nbodies; i++)
	{
		if (!(*isnull)[i])
			(*keys)[i] = cmq_once_check_key((*keys)[i], i + 1, kind, name);
	}
}

/* Raise 22023 if the queue does not keep keys. */
void
cmq_once_require(CmqQueue *queue, const char *argname)
{
	if (queue->dedup_seconds == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is given for queue \"%s\", which keeps no keys",
						argname, queue->name),
				 errhint("Say for how long the queue is to keep keys, with dedup_seconds of cmq_alter_queue, or leave %s out.",
						 argname)));
}

/* Is key a before key b?  By bytes, and those of one key by their numbers. */
static int
compare_keys(const void *a, const void *b, void *arg)
{
	const Datum *keys = arg;
	int			i = *(const int *) a;
	int			j = *(const int *) b;
	text	   *x = DatumGetTextPP(keys[i]);
	text	   *y = DatumGetTextPP(keys[j]);
	int			nx = VARSIZE_ANY_EXHDR(x);
	int			ny = VARSIZE_ANY_EXHDR(y);
	int			result = memcmp(VARDATA_ANY(x), VARDATA_ANY(y), Min(nx, ny));

	return result != 0 ? result : nx != ny ? nx - ny : i - j;
}

static bool
is_same_key(Datum a, Datum b)
{
	text	   *x = DatumGetTextPP(a);
	text	   *y = DatumGetTextPP(b);

	return VARSIZE_ANY_EXHDR(x) == VARSIZE_ANY_EXHDR(y) &&
		memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) == 0;
}

/*
 * To be called by whoever sends, as itself: then what it may read of the queue counts, and
 * not what the owner may.  times gets the times of the messages; it may be NULL.
 */
void
cmq_once_init(CmqOnce *once, CmqQueue *queue, int n, Datum *keys,
			  bool *keys_null, TimestampTz *times)
{
	memset(once, 0, sizeof(*once));
	once->n = n;
	once->keys = keys;
	once->keys_null = keys_null;
	once->times = times ? times : palloc(n * sizeof(TimestampTz));
	once->readable = cmq_rights_is_readable(queue);
	once->is_duplicate = palloc0(n * sizeof(bool));
	once->order = palloc(n * sizeof(int));
	once->tids = palloc(n * sizeof(ItemPointerData));
	for (int i = 0; i < n; i++)
	{
		if (!keys_null[i])
			once->order[once->nkeys++] = i;
	}
	qsort_arg(once->order, once->nkeys, sizeof(int), compare_keys, keys);
}

/* Raise 55000: somebody has dropped or detached the leaf of keys. */
static void
report_no_keys(CmqQueue *queue)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("there is no partition for keys of the present time in queue \"%s\"",
					queue->name),
			 errdetail("It was dropped or detached by hand."),
			 errhint("Forget all keys of the queue, with cmq_alter_queue: dedup_seconds => 0, and then what it was.")));
}

/* Open the leaves for messages and keys of the present time. */
static void
open_present(CmqOnce *once, CmqLeafRows *messages)
{
	for (;;)
	{
		CmqQueue   *queue = messages->queue;
		TimestampTz now = cmq_clock_peek(queue->shared);

		if (cmq_leaf_rows_open(messages, now))
		{
			if (!OidIsValid(messages->leaf->dedup))
				report_no_keys(queue);
			if (cmq_dedup_open(&once->leaf, queue, messages->leaf,
							   RowExclusiveLock))
				return;
			/* dropped just now */
			cmq_cache_mark_stale(queue->name);
		}
		else if (cmq_bounds_leaf(queue, now) == NULL)
			cmq_leaf_demand(queue, now);
		CHECK_FOR_INTERRUPTS();
		cmq_leaf_rows_end(messages);
		messages->queue = cmq_queue_again(queue);
	}
}

/*
 * Open all leaves that a claim needs.  To be followed by cmq_once_claim(), and before that
 * nobody ticks the clock for these messages.  messages->queue is current then.
 */
void
cmq_once_open(CmqOnce *once, CmqLeafRows *messages)
{
	CmqQueue   *queue;
	TimestampTz since;

	open_present(once, messages);
	queue = messages->queue;
	since = cmq_clock_peek(queue->shared) - queue->dedup_seconds * USECS_PER_SEC;
	once->older = palloc(queue->nleaves * sizeof(CmqKeys));
	once->nolder = 0;
	for (int i = 0; i < queue->nleaves; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];

		if (leaf->upper > since && leaf->upper <= messages->leaf->lower &&
			OidIsValid(leaf->dedup) &&
			cmq_dedup_open(&once->older[once->nolder], queue, leaf,
						   AccessShareLock))
			once->nolder++;
	}
}

static void
close_leaves(CmqOnce *once)
{
	for (int i = 0; i < once->nolder; i++)
		cmq_dedup_close(&once->older[i]);
	once->nolder = 0;
	pfree(once->older);
	cmq_dedup_close(&once->leaf);
}

/*
 * Claim the key of one message, whose row goes to *tid.  BUSY: it is said in once who has
 * it.
 */
static CmqKeyState
claim_key(CmqOnce *once, int i, TimestampTz since, ItemPointer tid)
{
	CmqKeyState state = CMQ_KEY_FREE;

	for (int j = 0; j < once->nolder && state == CMQ_KEY_FREE; j++)
	{
		once->busy = &once->older[j];
		if (once->busy->leaf->upper > since)
			state = cmq_dedup_look(once->busy, once->keys[i], since,
								   &once->holder);
	}
	if (state == CMQ_KEY_FREE)
	{
		once->busy = &once->leaf;
		state = cmq_dedup_insert(once->busy, once->keys[i], once->times[i],
								 since, &once->holder);
		ItemPointerCopy(&once->holder.tid, tid);
	}
	if (state != CMQ_KEY_BUSY)
		once->busy = NULL;
	return state;
}

/* Take back the first n keys, as far as they were written. */
static void
take_back(CmqOnce *once, int n)
{
	bool		any = false;

	for (int k = 0; k < n; k++)
	{
		if (once->is_duplicate[once->order[k]])
			continue;
		/* only what an earlier command has written can be deleted */
		if (!any)
			CommandCounterIncrement();
		any = true;
		cmq_dedup_remove(&once->leaf, &once->tids[k]);
	}
}

/* Claim all keys; false if one is busy. */
static bool
claim_keys(CmqOnce *once, TimestampTz window)
{
	for (int k = 0; k < once->nkeys; k++)
	{
		int			i = once->order[k];
		int			before = k > 0 ? once->order[k - 1] : -1;
		CmqKeyState state;

		if (before >= 0 && is_same_key(once->keys[before], once->keys[i]))
		{
			once->is_duplicate[i] = true;
			once->times[i] = once->times[before];
			once->nduplicates++;
			continue;
		}
		state = claim_key(once, i, once->times[i] - window, &once->tids[k]);
		if (state == CMQ_KEY_BUSY)
		{
			take_back(once, k);
			return false;
		}
		if (state == CMQ_KEY_TAKEN)
		{
			once->is_duplicate[i] = true;
			once->times[i] = once->holder.time;
			once->nduplicates++;
		}
	}
	return true;
}

/* Take the times of all messages; false if they do not fit into the leaf. */
static bool
take_times(CmqOnce *once, CmqLeafRows *messages)
{
	for (int i = 0; i < once->n; i++)
	{
		once->times[i] = cmq_clock_tick(messages->queue->shared);
		if (i == 0)
		{
			cmq_key_window_time(once->times[0]);
			cmq_window_time(once->times[0]);
		}
		if (once->times[i] >= messages->leaf->upper)
			return false;
	}
	return true;
}

/*
 * Take times for all messages, and claim the keys.  True: once->is_duplicate says which
 * messages are not to be written, and once->times has the times of all.  False: the caller
 * closes what it has open for writing, calls cmq_once_wait(), and begins anew.
 */
bool
cmq_once_claim(CmqOnce *once, CmqLeafRows *messages)
{
	CmqQueue   *queue = messages->queue;
	bool		claimed;

	once->busy = NULL;
	once->nduplicates = 0;
	memset(once->is_duplicate, false, once->n * sizeof(bool));
	cmq_key_window_open(queue->shared);
	claimed = take_times(once, messages);
	if (claimed)
	{
		if (once->nolder > 0)
			cmq_key_windows_wait(queue->shared,
								 once->older[once->nolder - 1].leaf->upper);
		claimed = claim_keys(once, queue->dedup_seconds * USECS_PER_SEC);
	}
	cmq_key_window_close();
	if (claimed)
		close_leaves(once);
	return claimed;
}

/* Wait for whoever has a key, if that was why the claim has failed. */
void
cmq_once_wait(CmqOnce *once)
{
	if (once->busy)
		cmq_dedup_wait(once->busy, &once->holder);
	close_leaves(once);
	CHECK_FOR_INTERRUPTS();
}
