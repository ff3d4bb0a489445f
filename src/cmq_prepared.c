/*-------------------------------------------------------------------------
 *
 * cmq_prepared.c
 *	  What prepared transactions will do when they end.
 *
 * PREPARE TRANSACTION takes a transaction away from its backend, and another
 * one will end it, perhaps much later.  What ours would do for the transaction
 * at its end cannot wait in memory of its own.  So shared memory has an entry for
 * each prepared transaction that has used queues: from which time on it may have
 * written pending rows (cmq_floor.c), and per queue what it counts
 * (cmq_stats.c) and whom it signals (cmq_wait.c).  Whoever runs COMMIT PREPARED
 * or ROLLBACK PREPARED takes the entry, lets the server do its work, does what
 * the entry says, and removes it.
 *
 * An entry is added in the callbacks at PREPARE, when the server knows the
 * transaction as prepared but lets nobody end it yet.
 *
 * What has no entry: transactions prepared before the server was started last,
 * and those for which there was no place, or whose name we do not know because it
 * was not the command that prepared them.  As long as there may be any, "unknown"
 * is set: all floors are held, and the end of any transaction without an entry
 * makes all queues of the database uncounted and signals all their waiters.  No
 * transaction that starts after that is meant; so maintenance remembers the
 * next transaction id, and clears "unknown" when no prepared transaction is
 * older.
 *
 * A place has room for a few queues; a transaction that used more has several.
 * They are reserved before it is prepared: if they are not to be had the
 * transaction fails, as it does without a place in the server's own list.
 *
 * Entries whose transaction has ended without us (its backend died between the
 * two steps) are removed by maintenance, and their queues counted anew.
 *
 * Nothing of this is written to disk; a crash loses it, and what was prepared
 * before has no entry.
 *
 * Locks: LWLock cmq_prepared guards the entries.  It is never held while
 * another lock is asked for.  The smallest time of all entries is an atomic.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "tcop/utility.h"
#include "utils/timestamp.h"

#include "cmq.h"

/* How many queues an entry has room for. */
#define PREPARED_QUEUES 8

typedef struct Prepared
{
	TransactionId xid;			/* InvalidTransactionId: a free place */
	char		gid[GIDSIZE];
	TimestampTz floor;			/* smallest visible_at written */
	int			nqueues;
	CmqPreparedQueue queues[PREPARED_QUEUES];
} Prepared;

typedef struct PreparedShared
{
	pg_atomic_uint64 floor;		/* of all; DT_NOBEGIN if unknown is set */
	bool		unknown;
	uint64		nunknown;		/* how often it has been set */
	TransactionId unknown_before;	/* invalid: not looked yet */
	int			nused;
	int			nreserved;		/* for transactions about to be prepared */
	int			nplaces;
	Prepared	places[FLEXIBLE_ARRAY_MEMBER];
} PreparedShared;

static PreparedShared *prepared = NULL;
static LWLock *prepared_lock = NULL;

/* Is the current transaction being prepared, and under which name?  "" is one. */
static bool is_preparing = false;
static char preparing[GIDSIZE] = "";

/* Our newest place, if its xid is the one of the current transaction. */
static Prepared *ours = NULL;

/* How many places are reserved for the current transaction. */
static int	reserved = 0;

static ProcessUtility_hook_type prev_ProcessUtility_hook = NULL;

static int
number_of_places(void)
{
	/* as many may have ended whose entries are about to be removed */
	return max_prepared_xacts > 0 ? 2 * max_prepared_xacts + MaxBackends : 0;
}

Size
cmq_prepared_shmem_size(void)
{
	return add_size(offsetof(PreparedShared, places),
					mul_size(number_of_places(), sizeof(Prepared)));
}

/* Called under AddinShmemInitLock. */
void
cmq_prepared_shmem_init(LWLock *lock)
{
	bool		found;

	prepared_lock = lock;
	prepared = ShmemInitStruct("cmq prepared transactions",
							   cmq_prepared_shmem_size(), &found);
	if (found)
		return;
	prepared->unknown = max_prepared_xacts > 0;
	prepared->nunknown = 0;
	prepared->unknown_before = InvalidTransactionId;
	prepared->nused = 0;
	prepared->nreserved = 0;
	prepared->nplaces = number_of_places();
	for (int i = 0; i < prepared->nplaces; i++)
		prepared->places[i].xid = InvalidTransactionId;
	pg_atomic_init_u64(&prepared->floor, (uint64)
					   (prepared->unknown ? DT_NOBEGIN : DT_NOEND));
}

/* No prepared transaction has written pending rows before this time. */
TimestampTz
cmq_prepared_floor(void)
{
	return (TimestampTz) pg_atomic_read_u64(&prepared->floor);
}

/* The caller holds the lock. */
static void
set_floor(void)
{
	TimestampTz floor = DT_NOEND;

	if (prepared->unknown)
		floor = DT_NOBEGIN;
	else if (prepared->nused > 0)
	{
		for (int i = 0; i < prepared->nplaces; i++)
		{
			if (TransactionIdIsValid(prepared->places[i].xid))
				floor = Min(floor, prepared->places[i].floor);
		}
	}
	pg_atomic_write_u64(&prepared->floor, (uint64) floor);
}

/*
 * The current transaction is about to be prepared, and has used so many queues.
 * Raises 53400 if there are not enough places.
 */
void
cmq_prepared_reserve(int nqueues)
{
	int			needed = Max(1, (nqueues + PREPARED_QUEUES - 1) / PREPARED_QUEUES);
	bool		ok;

	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	ok = prepared->nused + prepared->nreserved + needed <= prepared->nplaces;
	if (ok)
	{
		prepared->nreserved += needed;
		reserved = needed;
	}
	LWLockRelease(prepared_lock);
	if (!ok && max_prepared_xacts > 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("cannot prepare a transaction that has used %d queues",
						nqueues),
				 errdetail("Prepared transactions have used too many queues."),
				 errhint("Raise max_prepared_transactions, or use fewer queues in a transaction.")));
}

/* Give back what was reserved and not used. */
static void
release_reserved(void)
{
	if (reserved == 0)
		return;
	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	prepared->nreserved -= reserved;
	LWLockRelease(prepared_lock);
	reserved = 0;
}

/*
 * A place of the current transaction, which is being prepared: the newest one, or
 * another one.  NULL if it can have none: then "unknown" is set.  Raises nothing.
 */
static Prepared *
our_entry(bool another)
{
	TransactionId xid = GetTopTransactionIdIfAny();

	if (!another && ours && TransactionIdEquals(ours->xid, xid))
		return ours;

	ours = NULL;
	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	for (int i = 0; i < prepared->nplaces && is_preparing; i++)
	{
		Prepared   *entry = &prepared->places[i];

		if (TransactionIdIsValid(entry->xid))
			continue;
		memset(entry, 0, sizeof(*entry));
		entry->xid = xid;
		strlcpy(entry->gid, preparing, GIDSIZE);
		entry->floor = DT_NOEND;
		prepared->nused++;
		if (reserved > 0)
		{
			prepared->nreserved--;
			reserved--;
		}
		ours = entry;
		break;
	}
	if (ours == NULL)
	{
		prepared->unknown = true;
		prepared->nunknown++;
		prepared->unknown_before = InvalidTransactionId;
		set_floor();
	}
	LWLockRelease(prepared_lock);
	return ours;
}

/*
 * At PREPARE: the transaction has written pending rows from this time on.
 * cmq_prepared_floor() says so when this returns.
 */
void
cmq_prepared_add_floor(TimestampTz floor)
{
	Prepared   *entry = our_entry(false);

	if (entry == NULL)
		return;
	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	entry->floor = floor;
	set_floor();
	LWLockRelease(prepared_lock);
}

/* Add rows that were due for a rewind, the first of them produced at that time. */
void
cmq_prepared_merge_due(CmqPreparedQueue *queue, int64 due,
					   TimestampTz rewound_at, TimestampTz from)
{
	if (queue->due == 0)
		queue->due_from = from;
	/* those of two rewinds cannot be told apart any more */
	else if (queue->due_rewound_at != rewound_at)
		queue->due_unknown = true;
	queue->due += due;
	queue->due_rewound_at = rewound_at;
	queue->due_from = Min(queue->due_from, from);
}

/* Add to what is to be done for a queue. */
void
cmq_prepared_merge(CmqPreparedQueue *queue, const CmqPreparedQueue *more)
{
	queue->at_commit = Max(queue->at_commit, more->at_commit);
	queue->at_abort = Max(queue->at_abort, more->at_abort);
	queue->rewound |= more->rewound;
	queue->pending_unknown |= more->pending_unknown;
	queue->pending += more->pending;
	queue->due_unknown |= more->due_unknown;
	if (more->due != 0)
		cmq_prepared_merge_due(queue, more->due, more->due_rewound_at,
							   more->due_from);
	for (int i = 0; i < CMQ_NCOUNTERS; i++)
		queue->counters[i] += more->counters[i];
}

/* Our place that has this queue; NULL if none has.  The caller holds the lock. */
static CmqPreparedQueue *
find_queue(TransactionId xid, const CmqSharedKey *key)
{
	for (int i = 0; i < prepared->nplaces; i++)
	{
		Prepared   *entry = &prepared->places[i];

		if (!TransactionIdEquals(entry->xid, xid))
			continue;
		for (int j = 0; j < entry->nqueues; j++)
		{
			if (memcmp(&entry->queues[j].key, key, sizeof(CmqSharedKey)) == 0)
				return &entry->queues[j];
		}
	}
	return NULL;
}

/* At PREPARE: add to what is to be done for this queue at the end. */
void
cmq_prepared_add(CmqSharedQueue *shared, const CmqPreparedQueue *more)
{
	Prepared   *entry = our_entry(false);
	CmqPreparedQueue *queue;

	if (entry == NULL)
		return;
	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	queue = find_queue(entry->xid, &shared->key);
	if (queue == NULL && entry->nqueues == PREPARED_QUEUES)
	{
		LWLockRelease(prepared_lock);
		entry = our_entry(true);
		if (entry == NULL)
			return;
		LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	}
	if (queue == NULL)
	{
		queue = &entry->queues[entry->nqueues++];
		queue->key = shared->key;
	}
	cmq_prepared_merge(queue, more);
	LWLockRelease(prepared_lock);
}

/* A transaction is done with: free its places, if nobody has yet. */
static void
remove_entry(TransactionId xid)
{
	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	for (int i = 0; i < prepared->nplaces; i++)
	{
		if (TransactionIdEquals(prepared->places[i].xid, xid))
		{
			prepared->places[i].xid = InvalidTransactionId;
			prepared->nused--;
		}
	}
	set_floor();
	LWLockRelease(prepared_lock);
}

/*
 * Copy the entry of this name whose transaction is under way, or has ended.
 * Two of the same name may be there: one has ended, and is not removed yet.
 */
static bool
copy_entry(const char *gid, bool ended, Prepared *copy)
{
	for (int i = 0; i < prepared->nplaces; i++)
	{
		const Prepared *entry = &prepared->places[i];
		bool		found;

		LWLockAcquire(prepared_lock, LW_SHARED);
		found = TransactionIdIsValid(entry->xid) &&
			strcmp(entry->gid, gid) == 0;
		if (found)
			memcpy(copy, entry, sizeof(Prepared));
		LWLockRelease(prepared_lock);

		/* takes other locks, so not under ours */
		if (found && TransactionIdIsInProgress(copy->xid) != ended)
			return true;
	}
	return false;
}

static bool
may_be_unknown(void)
{
	bool		unknown;

	LWLockAcquire(prepared_lock, LW_SHARED);
	unknown = prepared->unknown;
	LWLockRelease(prepared_lock);
	return unknown;
}

/* Nobody knows what a transaction has done to this queue. */
static void
spoil_queue(CmqSharedQueue *shared, void *arg)
{
	cmq_stats_spoil(shared);
	cmq_wait_signal(shared, PG_INT32_MAX, true);
}

static void
apply_commit(CmqSharedQueue *shared, void *arg)
{
	const CmqPreparedQueue *queue = arg;

	cmq_stats_publish(shared, queue);
	cmq_wait_signal(shared, queue->at_commit, queue->rewound);
}

static void
apply_abort(CmqSharedQueue *shared, void *arg)
{
	const CmqPreparedQueue *queue = arg;

	cmq_wait_signal(shared, queue->at_abort, false);
}

/*
 * Do for the queues of a transaction what func does.  Its places are ours until
 * remove_entry(): nobody else ends the transaction.
 */
static void
for_queues(TransactionId xid, void (*func) (CmqSharedQueue *shared, void *arg))
{
	for (int i = 0; i < prepared->nplaces; i++)
	{
		Prepared	entry;

		LWLockAcquire(prepared_lock, LW_SHARED);
		memcpy(&entry, &prepared->places[i], sizeof(Prepared));
		LWLockRelease(prepared_lock);
		if (!TransactionIdEquals(entry.xid, xid))
			continue;
		for (int j = 0; j < entry.nqueues; j++)
			cmq_shmem_with(&entry.queues[j].key, func, &entry.queues[j]);
	}
}

static void
run_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			ProcessUtilityContext context, ParamListInfo params,
			QueryEnvironment *queryEnv, DestReceiver *dest,
			QueryCompletion *qc)
{
	if (prev_ProcessUtility_hook)
		prev_ProcessUtility_hook(pstmt, queryString, readOnlyTree, context,
								 params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
}

/*
 * A prepared transaction has ended that had no entry when we looked, or whose
 * end has raised an error: nobody has announced its changes.
 */
static void
ended_unannounced(const char *gid, bool unknown)
{
	Prepared	entry;

	while (copy_entry(gid, true, &entry))
	{
		for_queues(entry.xid, spoil_queue);
		remove_entry(entry.xid);
	}
	if (unknown)
		cmq_shmem_for_each(spoil_queue, NULL);
}

/* Can COMMIT PREPARED have done its work, and failed after that? */
static bool
may_have_ended(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case ERRCODE_UNDEFINED_OBJECT:
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_ACTIVE_SQL_TRANSACTION:
		case ERRCODE_READ_ONLY_SQL_TRANSACTION:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
			return false;
		default:
			return true;
	}
}

/* What a prepared transaction did takes effect in whichever backend ends it. */
static void
process_utility(PlannedStmt *pstmt, const char *queryString,
				bool readOnlyTree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *queryEnv,
				DestReceiver *dest, QueryCompletion *qc)
{
	TransactionStmt *stmt = (TransactionStmt *) pstmt->utilityStmt;
	TransactionStmtKind kind = IsA(stmt, TransactionStmt) ? stmt->kind :
		TRANS_STMT_BEGIN;
	Prepared	entry;
	bool		found;
	bool		unknown;

	/* it would fire deferred triggers of whoever called us */
	if (IsA(stmt, ConstraintsSetStmt) && cmq_owner_is_running())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot execute SET CONSTRAINTS in a function of an index of a queue")));
	if (kind == TRANS_STMT_PREPARE)
	{
		is_preparing = true;
		strlcpy(preparing, stmt->gid, GIDSIZE);
	}
	if (kind != TRANS_STMT_COMMIT_PREPARED &&
		kind != TRANS_STMT_ROLLBACK_PREPARED)
	{
		run_utility(pstmt, queryString, readOnlyTree, context, params,
					queryEnv, dest, qc);
		return;
	}

	unknown = may_be_unknown();
	found = copy_entry(stmt->gid, false, &entry);
	if (found && kind == TRANS_STMT_COMMIT_PREPARED)
		cmq_stats_announce(entry.xid);
	PG_TRY();
	{
		run_utility(pstmt, queryString, readOnlyTree, context, params,
					queryEnv, dest, qc);
	}
	PG_CATCH();
	{
		cmq_stats_announced();
		if (may_have_ended(geterrcode()))
			ended_unannounced(stmt->gid, unknown && !found);
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (found)
	{
		for_queues(entry.xid, kind == TRANS_STMT_COMMIT_PREPARED ?
				   apply_commit : apply_abort);
		cmq_stats_announced();
		remove_entry(entry.xid);
	}
	else
		ended_unannounced(stmt->gid, unknown);
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (!cmq_xact_is_over(event))
		return;
	release_reserved();
	is_preparing = false;
	ours = NULL;
}

/*
 * To be called before the callbacks of those who add entries are installed:
 * the last one installed is called first.
 */
void
cmq_prepared_install_callbacks(void)
{
	RegisterXactCallback(xact_callback, NULL);
	prev_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}

/* Remove entries of transactions that somebody has ended without it. */
static void
sweep_entries(void)
{
	for (int i = 0; i < prepared->nplaces; i++)
	{
		Prepared	entry;

		LWLockAcquire(prepared_lock, LW_SHARED);
		memcpy(&entry, &prepared->places[i], sizeof(Prepared));
		LWLockRelease(prepared_lock);
		if (!TransactionIdIsValid(entry.xid) ||
			TransactionIdIsInProgress(entry.xid))
			continue;
		for_queues(entry.xid, spoil_queue);
		remove_entry(entry.xid);
	}
}

/* Is any transaction prepared that is older than this? */
static bool
is_any_before(TransactionId xid)
{
	bool		result = false;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute("SELECT transaction FROM pg_catalog.pg_prepared_xacts",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_prepared_xacts");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		other = SPI_getbinval(SPI_tuptable->vals[i],
										  SPI_tuptable->tupdesc, 1, &isnull);

		if (TransactionIdPrecedes(DatumGetTransactionId(other), xid))
			result = true;
	}
	SPI_finish();
	return result;
}

/*
 * Forget what is left of transactions that have ended, and "unknown" when none
 * that is meant is left; called by maintenance, in a transaction.
 */
void
cmq_prepared_sweep(void)
{
	uint64		nunknown;
	TransactionId next;
	TransactionId before;

	if (prepared->nplaces == 0)
		return;
	sweep_entries();

	LWLockAcquire(prepared_lock, LW_SHARED);
	nunknown = prepared->nunknown;
	before = prepared->unknown_before;
	if (!prepared->unknown)
	{
		LWLockRelease(prepared_lock);
		return;
	}
	LWLockRelease(prepared_lock);

	if (!TransactionIdIsValid(before))
	{
		/* whoever has set "unknown" has its id already */
		next = XidFromFullTransactionId(ReadNextFullTransactionId());
		LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
		if (prepared->nunknown == nunknown)
			prepared->unknown_before = next;
		LWLockRelease(prepared_lock);
		before = next;
	}
	if (is_any_before(before))
		return;

	LWLockAcquire(prepared_lock, LW_EXCLUSIVE);
	if (prepared->nunknown == nunknown)
	{
		prepared->unknown = false;
		prepared->unknown_before = InvalidTransactionId;
		set_floor();
	}
	LWLockRelease(prepared_lock);
}
