/*-------------------------------------------------------------------------
 *
 * cmq_counting.c
 *	  How many pending and due rows a queue has, as the current transaction sees it.
 *
 * The numbers are kept in shared memory (cmq_count.c) and need no counting, but for the
 * first time.  One count of each kind runs at a time in a queue: it has an object lock
 * (the pending table, PENDING_LOCK or DUE_LOCK).  A process counts for itself alone
 *	- in a parallel worker, which shares locks with its leader
 *	- while code of an owner's runs
 *	- when too many counts are under way
 *	- in a queue that is held (cmq_shared.c)
 *	- after own changes whose size is not known
 *	- with a description that has an older rewind than the one counted
 *
 * Locks: the object lock while counting; AccessShare on the tables read.  Error: the
 * queue is uncounted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "catalog/pg_class_d.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "memory/cmq_count.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_counting.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_scan.h"
#include "store/cmq_shape.h"

/* Subobjects of the locks that only one count of each kind may hold. */
#define PENDING_LOCK 2
#define DUE_LOCK 3

static int64
count_pending_rows(CmqQueue *queue, Snapshot snapshot)
{
	CmqScan		scan;
	int64		n = 0;

	cmq_scan_begin(&scan, queue, queue->pending, CMQ_PENDING, snapshot);
	while (cmq_scan_next(&scan))
		n++;
	cmq_scan_end(&scan);
	return n;
}

/* A count of a queue. */
typedef struct Count
{
	CmqQueue   *queue;
	CmqCounting counting;
} Count;

static Count
get_count(CmqQueue *queue, bool due)
{
	Count		count = {
		.queue = queue,
		.counting = {
			.shared = queue->shared,
			.due = due,
			.rewound_at = queue->rewinding.rewound_at,
			.from = queue->rewinding.from
		}
	};

	return count;
}

static int64
count_rows(const Count *count, Snapshot snapshot)
{
	/* expired ones too: a comparison of times takes nobody else's row away */
	return count->counting.due ?
		cmq_due_count(count->queue, snapshot, DT_NOBEGIN) :
		count_pending_rows(count->queue, snapshot);
}

/* By how much the current transaction has changed the number. */
static int64
own_rows(const Count *count, bool *unknown)
{
	const CmqCounting *counting = &count->counting;

	return counting->due ?
		cmq_xact_own_due(counting->shared, counting->rewound_at, unknown) :
		cmq_xact_own_pending(counting->shared, unknown);
}

/* Count for ourselves alone. */
static int64
count_alone(const Count *count)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64		n = count_rows(count, snapshot);

	UnregisterSnapshot(snapshot);
	return n;
}

static void
count_failed(int code, Datum arg)
{
	cmq_count_fail(&((Count *) DatumGetPointer(arg))->counting);
}

/* Count under the object lock, so that all know the number; false if no place is free. */
static bool
count_for_all(Count *count)
{
	volatile bool begun = false;

	PG_ENSURE_ERROR_CLEANUP(count_failed, PointerGetDatum(count));
	{
		Snapshot	snapshot = cmq_count_begin(&count->counting);
		bool		unknown;
		int64		n;

		if (snapshot)
		{
			begun = true;
			snapshot = RegisterSnapshot(snapshot);
			n = count_rows(count, snapshot);
			UnregisterSnapshot(snapshot);

			/* our own rows are in it, but may yet be rolled back */
			n -= own_rows(count, &unknown);
			cmq_prepared_settle();
			cmq_count_end(&count->counting, n);
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(count_failed, PointerGetDatum(count));
	return begun;
}

/*
 * See to it that the number is known.  False if it cannot be, or if another process is
 * counting and the caller does not wait.
 */
static bool
make_known(Count *count, bool wait)
{
	Oid			relid = count->queue->pending;
	int			lock = count->counting.due ? DUE_LOCK : PENDING_LOCK;
	bool		known;

	/* code of an owner's runs between writing our rows and saying how many */
	if (IsParallelWorker() || cmq_xact_in_code())
		return false;
	if (wait)
		LockDatabaseObject(RelationRelationId, relid, lock, ExclusiveLock);
	else if (!ConditionalLockDatabaseObject(RelationRelationId, relid, lock,
											ExclusiveLock))
		return false;
	/* somebody may have counted while we waited */
	known = cmq_count_is_known(&count->counting) || count_for_all(count);
	UnlockDatabaseObject(RelationRelationId, relid, lock, ExclusiveLock);
	return known;
}

/*
 * Is the queue held?  Look, so that the end of a transaction that was prepared before the
 * start is noticed: nothing else would count what that has done.
 */
static bool
is_held(CmqQueue *queue)
{
	if (likely(!cmq_shared_is_held(queue->shared)))
		return false;
	cmq_prepared_look_at_held();
	return cmq_shared_is_held(queue->shared);
}

/* The number of rows, as the current transaction sees them. */
static int64
get_number(CmqQueue *queue, bool due)
{
	Count		count = get_count(queue, due);
	bool		unknown;
	int64		own = own_rows(&count, &unknown);
	int64		n;

	cmq_prepared_settle();
	if (unknown || is_held(queue) ||
		(!cmq_count_is_known(&count.counting) && !make_known(&count, true)))
		return count_alone(&count);
	cmq_count_wait_for_visible();
	if (!cmq_count_get(&count.counting, &n))
		return count_alone(&count);

	/* a transaction that others can see only since then has not added yet */
	return Max(n + own, 0);
}

/*
 * The number of rows in the pending table, as the current transaction sees
 * them.  The caller has attached the queue.  May count them, which takes time
 * in proportion to their number.
 */
int64
cmq_counting_pending(CmqQueue *queue)
{
	return get_number(queue, false);
}

/*
 * The same for the due rows of the rewind under way.  May count them, which takes time in
 * proportion to the history since the start of the rewind.
 */
int64
cmq_counting_due(CmqQueue *queue)
{
	return queue->rewinding.active ? get_number(queue, true) : 0;
}

/*
 * Maintenance: count, so that nobody has to wait for it later.  Does not wait for a
 * process that counts due rows: it may be waiting for a leaf that we have dropped.
 */
void
cmq_counting_ahead(CmqQueue *queue)
{
	Count		due = get_count(queue, true);

	(void) cmq_counting_pending(queue);
	if (queue->rewinding.active && !cmq_count_is_known(&due.counting))
		(void) make_known(&due, false);
}

/*
 * The number of rows in the pending table, as the current transaction sees them, if it
 * is known without counting; false if not.  For a moment it can be less than zero.
 */
bool
cmq_counting_known(CmqQueue *queue, int64 *n)
{
	Count		count = get_count(queue, false);
	bool		unknown;
	int64		own = own_rows(&count, &unknown);

	cmq_prepared_settle();
	cmq_count_wait_for_visible();
	if (unknown || cmq_shared_is_held(queue->shared) ||
		!cmq_count_get(&count.counting, n))
		return false;
	*n += own;
	return true;
}

/*
 * Is it known, without counting, that the pending table has no rows that the
 * current transaction sees?
 */
bool
cmq_counting_known_empty(CmqQueue *queue)
{
	int64		n;

	return cmq_counting_known(queue, &n) && n == 0;
}

/*
 * Is there room for n more rows in the pending table, if it may have max?
 * Does not count them when the table is too small for so many.
 */
bool
cmq_counting_has_room(CmqQueue *queue, int64 n, int64 max)
{
	Count		count = get_count(queue, false);
	bool		unknown;
	int64		own = own_rows(&count, &unknown);
	int64		counted;

	/* what is not settled yet is missing for a moment; it may have made room */
	if (cmq_count_get(&count.counting, &counted))
	{
		if (!unknown && counted + own + n <= max)
			return true;
	}
	else if (cmq_scan_pages(queue, queue->pending, CMQ_PENDING) *
			 MaxHeapTuplesPerPage + n <= max)
		return true;
	return cmq_counting_pending(queue) + n <= max;
}
