/*-------------------------------------------------------------------------
 *
 * cmq_message_state.c
 *	  The state of the message of a time, for plans that read message tables alone.
 *
 * A report that wants most messages, or a few by their time, reads the message table as
 * it lies on disk, without a join (cmq_planner.c).  For each message it calls
 * cmq._in_states(), and for columns of its state cmq._state_time() and the like.  They
 * give what a join would give: they read the tables with the statement's own snapshot.
 *
 * Messages lie on disk about in the order of their times, and so do the entries of the
 * rewind table's primary key.  So rewind rows are read in runs that begin at the
 * time asked for; a run answers for all times that it covers.  Runs grow as long
 * as enough of their rows are asked for.  A report that jumps about reads single rows,
 * until it seems to go in order again (choose_length()).  Some runs are remembered,
 * because messages of several senders lie in the order in which they were written, not
 * quite in that of their times.
 *
 * A message without a rewind row is pending if it has a pending row.  The key of the
 * pending table is visible_at, enqueued_at.  Messages that have not been received and
 * were not delayed have the same time in both, and are read in runs, too.  When a
 * message is not found so, the others are read, and kept for the statement as far as the
 * memory allows: first those that are in flight or delayed now, which stand together,
 * then the whole table.
 *
 * What is known is kept with the execution of a plan, shared by its calls; each parallel
 * worker has its own.  It is forgotten when anything differs on which it depends: the
 * transaction, the snapshot, the user; a cursor keeps it from one FETCH to the next.
 * Which rows are due or forgotten stays as the execution first met it, as in a plan that
 * joins: a cursor goes on showing what it showed, whether a rewind begins or ends between
 * two fetches.  Everything here only reads.
 *
 * Locks: AccessShare on the queue's tables that are read, to the end of the
 * transaction.  The plan that calls has the message leaf locked, so its other half is
 * there too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/supportnodes.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_queue.h"
#include "store/cmq_scan.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "watch/cmq_message_state.h"

PG_FUNCTION_INFO_V1(cmq_in_states);
PG_FUNCTION_INFO_V1(cmq_in_states_support);
PG_FUNCTION_INFO_V1(cmq_state_time);
PG_FUNCTION_INFO_V1(cmq_state_int);
PG_FUNCTION_INFO_V1(cmq_state_text);
PG_FUNCTION_INFO_V1(cmq_pending_received_at);

#define MAX_ROWS 1024			/* of a run */
#define FIRST_ROWS 16			/* of the first one */
#define RUNS 8					/* that are remembered */

/* To find a row costs as much as to read so many of a run. */
#define ROWS_PER_SEARCH 16

/* Odd pending rows may take so many times the memory of a hash table. */
#define ODD_MEMORY 16

/* After so many questions in order a run is tried; twice as many if in vain. */
#define MIN_PATIENCE 8
#define MAX_PATIENCE 1024

/* What a row of states says; times are DT_NOBEGIN for NULL. */
typedef struct Details
{
	TimestampTz first_received_at;
	TimestampTz visible_at;
	TimestampTz deleted_at;
	text	   *deleted_by;		/* NULL for NULL */
	int			receive_count;
	int			rewind_count;
} Details;

/* A row of states, alone. */
typedef struct Row
{
	TimestampTz time;			/* enqueued_at */
	Details		details;
} Row;

/* The rows of a table from one time to another, in order. */
typedef struct Run
{
	TimestampTz from;
	TimestampTz until;			/* included */
	int			nrows;
	int			next;			/* the row after the one asked for last */
	int			nasked;			/* questions answered */
	MemoryContext mcxt;			/* of texts; NULL: there are no details */
	Details    *details;		/* of each row, as the next two; NULL: none
								 * yet */
	TimestampTz times[MAX_ROWS];
	char		states[MAX_ROWS];	/* one of CMQ_STATE_*; 0: forgotten */
} Run;

/* The runs of a table. */
typedef struct Runs
{
	Run		   *run[RUNS];		/* NULL: not needed yet */
	int			current;		/* the one asked last */
	int			length;			/* rows wanted of it */
	int			patience;
	int			in_order;		/* single rows, one after the other */
} Runs;

/* What an execution of a plan knows of a queue. */
typedef struct Known
{
	/* whose it is */
	MemoryContext execution;
	char		name[NAMEDATALEN];
	struct Known *others;		/* the next one in the list of all */

	/* what it depends on */
	TimestampTz transaction;	/* 0: nothing is known yet */
	SubTransactionId subxact;
	TransactionId xmax;			/* of the snapshot, with the next two */
	uint32		nrunning;
	CommandId	curcid;
	Oid			user;

	CmqQueue   *queue;
	CmqQueue   *first;			/* as the execution met it */
	Snapshot	snapshot;
	TimestampTz now;
	TimestampTz expired_before;
	TimestampTz rewindable_since;
	MemoryContext mcxt;			/* of what follows */
	bool		with_details;	/* they have been asked for */
	Runs		rewind;
	Runs		pending;
	int64		nodd;			/* pending rows that stand elsewhere, by time */
	Row		   *odd;
	int64		odd_room;		/* for so many */
	TimestampTz odd_from;		/* all that have been read from here ... */
	TimestampTz odd_until;		/* ... to here, included, are kept */
	enum
	{
		READ_NONE, READ_HIDDEN, READ_ALL
	}			read;			/* which odd rows have been read */
	Details		found;			/* of the odd or due row asked for last */
} Known;

static Known *all_known = NULL;

/*
 * Knowing.
 */

/* The execution ends, and its memory with it. */
static void
forget(void *arg)
{
	for (Known **k = &all_known; *k; k = &(*k)->others)
	{
		if (*k == arg)
		{
			*k = (*k)->others;
			return;
		}
	}
}

/* What this execution knows of the queue that the call names. */
static Known *
get_known(FunctionCallInfo fcinfo)
{
	MemoryContext execution = fcinfo->flinfo->fn_mcxt;
	char	   *name = cmq_queue_name_arg(fcinfo, 0);
	MemoryContextCallback *callback;
	Known	   *known;

	for (known = all_known; known; known = known->others)
	{
		if (known->execution == execution && strcmp(known->name, name) == 0)
			return known;
	}
	known = MemoryContextAllocZero(execution, sizeof(Known));
	callback = MemoryContextAllocZero(execution, sizeof(MemoryContextCallback));
	known->execution = execution;
	strlcpy(known->name, name, NAMEDATALEN);
	known->mcxt = AllocSetContextCreate(execution, "cmq states",
										ALLOCSET_DEFAULT_SIZES);
	callback->func = forget;
	callback->arg = known;
	MemoryContextRegisterResetCallback(execution, callback);
	known->others = all_known;
	all_known = known;
	return known;
}

/* How many transactions the snapshot does not see; on a standby they are all in subxip. */
static inline uint32
count_running(Snapshot snapshot)
{
	return snapshot->xcnt + snapshot->subxcnt;
}

/* Snapshots of the same xmax can differ by transactions that have ended meanwhile. */
static inline bool
is_right(const Known *known, Snapshot snapshot)
{
	return known->transaction == GetCurrentTransactionStartTimestamp() &&
		known->subxact == GetCurrentSubTransactionId() &&
		known->xmax == snapshot->xmax &&
		known->nrunning == count_running(snapshot) &&
		known->curcid == snapshot->curcid && known->user == GetUserId();
}

static void
begin_runs(Runs *runs)
{
	memset(runs, 0, sizeof(*runs));
	runs->patience = MIN_PATIENCE;
}

/* Raises 42501 unless the current user may read the queue. */
static void
begin(Known *known, Snapshot snapshot)
{
	CmqQueue   *queue = cmq_queue_lookup(known->name, ACL_SELECT);

	if (!IsMVCCSnapshot(snapshot))
		elog(ERROR, "the snapshot of a query is needed");
	MemoryContextReset(known->mcxt);
	known->queue = queue;
	if (known->first == NULL ||
		known->transaction != GetCurrentTransactionStartTimestamp())
		known->first = queue;
	known->now = cmq_queue_now(queue);
	known->expired_before = cmq_bounds_expired_before(queue, known->now);
	known->rewindable_since = cmq_bounds_rewindable_since(queue, known->now);
	begin_runs(&known->rewind);
	begin_runs(&known->pending);
	known->with_details = false;
	known->odd = NULL;
	known->nodd = known->odd_room = 0;
	known->read = READ_NONE;

	known->transaction = GetCurrentTransactionStartTimestamp();
	known->subxact = GetCurrentSubTransactionId();
	known->xmax = snapshot->xmax;
	known->nrunning = count_running(snapshot);
	known->curcid = snapshot->curcid;
	known->user = GetUserId();
}

/* What is known, right for this call. */
static inline Known *
know(FunctionCallInfo fcinfo)
{
	Known	   *known = fcinfo->flinfo->fn_extra;
	Snapshot	snapshot = GetActiveSnapshot();

	/* a plan that names the queue by an expression can change its mind */
	if (unlikely(known == NULL || !cmq_is_constant_arg(fcinfo, 0)))
		fcinfo->flinfo->fn_extra = known = get_known(fcinfo);
	if (unlikely(!is_right(known, snapshot)))
		begin(known, snapshot);
	known->snapshot = snapshot;
	return known;
}

/*
 * Reading runs.
 */

/* The state that the rewind row in the slot stands for; 0: it is forgotten. */
static char
state_of_row(CmqQueue *queue, TupleTableSlot *slot)
{
	if (cmq_bounds_has_forgotten(queue,
								 cmq_slot_time(slot, Anum_rewind_deleted_at)))
		return 0;
	return cmq_slot_is_due(&queue->rewinding, slot) ? CMQ_STATE_DUE :
		CMQ_STATE_HISTORY;
}

static Details
rewind_details(TupleTableSlot *slot)
{
	bool		isnull;
	Details		details = {
		.first_received_at = cmq_slot_time(slot, Anum_rewind_first_received_at),
		.visible_at = DT_NOBEGIN,
		.deleted_at = cmq_slot_time(slot, Anum_rewind_deleted_at),
		.deleted_by = DatumGetTextPCopy(slot_getattr(slot, Anum_rewind_deleted_by,
													 &isnull)),
		.receive_count = cmq_slot_int(slot, Anum_rewind_receive_count),
		.rewind_count = cmq_slot_int(slot, Anum_rewind_rewind_count)
	};

	return details;
}

static Details
pending_details(TupleTableSlot *slot)
{
	Details		details = {
		.first_received_at = cmq_slot_first_received(slot),
		.visible_at = cmq_slot_time(slot, Anum_pending_visible_at),
		.deleted_at = DT_NOBEGIN,
		.receive_count = cmq_slot_int(slot, Anum_pending_receive_count),
		.rewind_count = cmq_slot_int(slot, Anum_pending_rewind_count)
	};

	return details;
}

static void
add_row(Run *run, TimestampTz time, char state)
{
	run->times[run->nrows] = time;
	run->states[run->nrows] = state;
	run->nrows++;
}

/*
 * Can the keys alone tell the state of the rewind rows of the run?  They can before the
 * start of a rewind, and there the run ends.
 */
static bool
can_read_keys_alone(Known *known, Run *run)
{
	const CmqRewind *rewinding = &known->first->rewinding;

	if (known->with_details || !TIMESTAMP_IS_NOBEGIN(known->first->history_since))
		return false;
	if (!rewinding->active)
		return true;
	if (run->from < rewinding->from)
		run->until = Min(run->until, rewinding->from - 1);
	return run->from < rewinding->from;
}

/* Read rewind rows of a leaf into the run, which covers the leaf's times so far. */
static void
read_rewind_rows(Known *known, Run *run, CmqLeaf *leaf)
{
	CmqQueue   *first = known->first;
	int			length = known->rewind.length;
	bool		keys_alone = can_read_keys_alone(known, run);
	TimestampTz time = run->from;
	CmqTable	table;

	if (!cmq_table_open(&table, NULL, known->queue, leaf->rewind, CMQ_REWIND,
						AccessShareLock))
		return;
	table.seen_by = known->snapshot;
	cmq_table_range(&table, run->from,
					length == 1 ? run->from : run->until, true);
	while (run->nrows < length)
	{
		char		state = CMQ_STATE_HISTORY;

		if (keys_alone ? !cmq_table_next_key(&table, &time, NULL) :
			!cmq_table_next(&table))
			break;
		if (!keys_alone)
		{
			time = cmq_slot_time(table.slot, Anum_rewind_enqueued_at);
			state = state_of_row(first, table.slot);
		}
		if (known->with_details)
			run->details[run->nrows] = rewind_details(table.slot);
		add_row(run, time, state);
	}
	if (length == 1)
		run->until = run->from;
	else if (run->nrows == length)
		run->until = time;
	cmq_table_close(&table);
}

/*
 * The same for pending rows that stand where they were sent.  Of the others, between
 * them, no more than so many are passed by.
 */
static void
read_pending_rows(Known *known, Run *run)
{
	int			length = known->pending.length;
	int			left = 4 * length;
	CmqPendingKey key;
	CmqTable	table;

	if (!cmq_table_open(&table, NULL, known->queue, known->queue->pending,
						CMQ_PENDING, AccessShareLock))
		return;
	table.seen_by = known->snapshot;
	cmq_table_range(&table, run->from,
					length == 1 ? run->from : run->until, true);
	while (run->nrows < length)
	{
		if (known->with_details ? !cmq_table_next(&table) :
			!cmq_table_next_key(&table, &key.visible_at, &key.enqueued_at))
			break;
		if (known->with_details)
			cmq_slot_key(table.slot, &key);
		if (key.visible_at == key.enqueued_at)
		{
			if (known->with_details)
				run->details[run->nrows] = pending_details(table.slot);
			add_row(run, key.enqueued_at, CMQ_STATE_PENDING);
			if (run->nrows == length)
				run->until = key.visible_at;
		}
		else if (--left <= 0 && key.visible_at > run->from)
		{
			/* more rows of this time may follow */
			run->until = key.visible_at - 1;
			break;
		}
	}
	if (length == 1)
		run->until = run->from;
	cmq_table_close(&table);
}

/* How many rows the next run shall have, which begins at this time. */
static int
choose_length(Runs *runs, TimestampTz time)
{
	Run		   *last = runs->run[runs->current];

	if (last == NULL)
		return FIRST_ROWS;
	if (runs->length > 1)
	{
		runs->in_order = 0;
		if (last->nasked * ROWS_PER_SEARCH >= last->nrows)
		{
			runs->patience = MIN_PATIENCE;
			return Min(2 * runs->length, MAX_ROWS);
		}
		runs->patience = Min(2 * runs->patience, MAX_PATIENCE);
		return 1;
	}
	runs->in_order = time > last->from ? runs->in_order + 1 : 0;
	return runs->in_order < runs->patience ? 1 : FIRST_ROWS;
}

/* Make room for a run that begins at this time, in the place of the oldest one. */
static Run *
new_run(Known *known, Runs *runs, TimestampTz time)
{
	Run		   *run;

	runs->length = choose_length(runs, time);
	runs->current = (runs->current + 1) % RUNS;
	run = runs->run[runs->current];
	if (run == NULL)
	{
		run = MemoryContextAllocZero(known->mcxt, sizeof(Run));
		runs->run[runs->current] = run;
	}
	run->nrows = run->next = run->nasked = 0;
	run->from = time;
	run->until = DT_NOEND;
	if (known->with_details)
	{
		if (run->mcxt == NULL)
		{
			run->details = MemoryContextAlloc(known->mcxt,
											  MAX_ROWS * sizeof(Details));
			run->mcxt = AllocSetContextCreate(known->mcxt, "cmq run",
											  ALLOCSET_DEFAULT_SIZES);
		}
		MemoryContextReset(run->mcxt);
	}
	return run;
}

static Run *
read_run(Known *known, Runs *runs, TimestampTz time)
{
	Run		   *run = new_run(known, runs, time);
	MemoryContext old = CurrentMemoryContext;
	CmqLeaf    *leaf;

	if (known->with_details)
		MemoryContextSwitchTo(run->mcxt);
	if (runs == &known->pending)
		read_pending_rows(known, run);
	else
	{
		leaf = cmq_bounds_leaf(known->queue, time);
		if (leaf == NULL)
		{
			/* a leaf that is newer than the description */
			known->queue = cmq_queue_lookup(known->name, ACL_SELECT);
			leaf = cmq_bounds_leaf(known->queue, time);
		}
		run->until = leaf ? leaf->upper - 1 : time;
		if (leaf)
			read_rewind_rows(known, run, leaf);
	}
	MemoryContextSwitchTo(old);
	return run;
}

static inline bool
covers(const Run *run, TimestampTz time)
{
	return run && time >= run->from && time <= run->until;
}

/* The run that answers for this time. */
static inline Run *
get_run(Known *known, Runs *runs, TimestampTz time)
{
	if (likely(covers(runs->run[runs->current], time)))
		return runs->run[runs->current];
	for (int i = 0; i < RUNS; i++)
	{
		if (covers(runs->run[i], time))
		{
			runs->current = i;
			return runs->run[i];
		}
	}
	return read_run(known, runs, time);
}

/* The place of the time among the rows of the run; -1 if there is no row of it. */
static int
find_row(Run *run, TimestampTz time)
{
	int			low = 0;
	int			high = run->nrows;

	/* a row is asked for its state and then for its details */
	if (run->next > 0 && run->times[run->next - 1] == time)
		return run->next - 1;
	run->nasked++;
	if (run->next < high && run->times[run->next] == time)
		return run->next++;
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (run->times[middle] < time)
			low = middle + 1;
		else
			high = middle;
	}
	run->next = low;
	if (low == run->nrows || run->times[low] != time)
		return -1;
	return run->next++;
}

/*
 * Odd pending rows: those that do not stand where they were sent.
 */

static int
compare_rows(const void *a, const void *b)
{
	TimestampTz first = ((const Row *) a)->time;
	TimestampTz second = ((const Row *) b)->time;

	return (first > second) - (first < second);
}

/*
 * Keep the row, if it is one.  When there are more than may be kept, the later half is let
 * go: it is read again when it is asked for.
 */
static void
add_odd(Known *known, TupleTableSlot *slot)
{
	int64		most = Max(get_hash_memory_limit() * ODD_MEMORY / sizeof(Row), 1024);
	CmqPendingKey key;

	cmq_slot_key(slot, &key);
	if (key.visible_at == key.enqueued_at ||
		key.enqueued_at < known->odd_from || key.enqueued_at > known->odd_until)
		return;
	if (known->nodd == most)
	{
		qsort(known->odd, known->nodd, sizeof(Row), compare_rows);
		known->nodd /= 2;
		known->odd_until = known->odd[known->nodd - 1].time;
		if (key.enqueued_at > known->odd_until)
			return;
	}
	if (known->nodd == known->odd_room)
	{
		known->odd_room = Min(Max(2 * known->odd_room, 1024), most);
		known->odd = known->odd == NULL ?
			MemoryContextAllocHuge(known->mcxt, known->odd_room * sizeof(Row)) :
			repalloc_huge(known->odd, known->odd_room * sizeof(Row));
	}
	known->odd[known->nodd].time = key.enqueued_at;
	known->odd[known->nodd++].details = pending_details(slot);
}

/* Read more of them: what is in flight or delayed now, and then all, from this time on. */
static void
read_odd(Known *known, TimestampTz from)
{
	CmqTable	table;
	CmqScan		scan;

	known->nodd = 0;
	known->odd_from = from;
	known->odd_until = DT_NOEND;
	if (known->read == READ_NONE)
	{
		known->read = READ_HIDDEN;
		if (!cmq_table_open(&table, NULL, known->queue, known->queue->pending,
							CMQ_PENDING, AccessShareLock))
			return;
		table.seen_by = known->snapshot;
		cmq_table_range(&table, known->now, DT_NOEND, true);
		while (cmq_table_next(&table))
			add_odd(known, table.slot);
		cmq_table_close(&table);
	}
	else
	{
		known->read = READ_ALL;
		cmq_scan_begin(&scan, known->queue, known->queue->pending, CMQ_PENDING,
					   known->snapshot);
		while (cmq_scan_next(&scan))
			add_odd(known, scan.slot);
		cmq_scan_end(&scan);
	}
	if (known->nodd > 0)
		qsort(known->odd, known->nodd, sizeof(Row), compare_rows);
}

static const Details *
find_odd(Known *known, TimestampTz time)
{
	Row			key = {.time = time};

	for (;;)
	{
		Row		   *row = known->nodd == 0 ? NULL :
			bsearch(&key, known->odd, known->nodd, sizeof(Row), compare_rows);

		if (row)
			return &row->details;
		if (known->read != READ_ALL)
			read_odd(known, DT_NOBEGIN);
		else if (time < known->odd_from || time > known->odd_until)
			read_odd(known, time);
		else
			return NULL;
	}
}

/*
 * Answering.
 */

/* From here on details are read, too. */
static void
want_details(Known *known)
{
	if (known->with_details)
		return;
	known->with_details = true;
	begin_runs(&known->rewind);
	begin_runs(&known->pending);
}

/* What a rewind makes of the row of a message that it brings back. */
static const Details *
due_details(Known *known, TimestampTz time, const Details *row)
{
	known->found = *row;
	known->found.first_received_at = known->found.deleted_at = DT_NOBEGIN;
	known->found.deleted_by = NULL;
	known->found.visible_at = time;
	known->found.receive_count = 0;
	known->found.rewind_count++;
	return &known->found;
}

/*
 * The state of the message of this time, one of CMQ_STATE_*; 0 if it has none.  Gets the
 * details if they are wanted.
 */
static char
find_state(Known *known, TimestampTz time, const Details **details)
{
	Run		   *run;
	const Details *odd;
	int			row;

	if (time < known->expired_before)
		return 0;
	run = get_run(known, &known->rewind, time);
	row = find_row(run, time);
	if (row >= 0)
	{
		char		state = run->states[row];

		if (details)
			*details = state == CMQ_STATE_DUE ?
				due_details(known, time, &run->details[row]) :
				&run->details[row];
		return state == CMQ_STATE_HISTORY && time < known->rewindable_since ?
			0 : state;
	}
	run = get_run(known, &known->pending, time);
	row = find_row(run, time);
	if (row >= 0)
	{
		if (details)
			*details = &run->details[row];
		return CMQ_STATE_PENDING;
	}
	odd = find_odd(known, time);
	if (odd && details)
		*details = odd;
	return odd ? CMQ_STATE_PENDING : 0;
}

/* Does it have a rewind row that makes it history?  Asked alone, that is less work. */
static inline bool
is_history(Known *known, TimestampTz time)
{
	Run		   *run;
	int			row;

	if (time < known->rewindable_since)
		return false;
	run = get_run(known, &known->rewind, time);
	row = find_row(run, time);
	return row >= 0 && run->states[row] == CMQ_STATE_HISTORY;
}

/*
 * Is the message of this time in one of the states, a sum of CMQ_STATE_*, as the
 * statement's snapshot sees it?  What has expired is in none.  STABLE; raises 42501
 * without SELECT on the queue, like the functions below.
 */
Datum
cmq_in_states(PG_FUNCTION_ARGS)
{
	Known	   *known = know(fcinfo);
	TimestampTz time = PG_GETARG_TIMESTAMPTZ(1);
	int			states = PG_GETARG_INT32(2);

	PG_RETURN_BOOL(states == CMQ_STATE_HISTORY ? is_history(known, time) :
				   (find_state(known, time, NULL) & states) != 0);
}

/*
 * The planner reads message tables in this way only where most messages are wanted, so it
 * shall expect all.
 */
Datum
cmq_in_states_support(PG_FUNCTION_ARGS)
{
	Node	   *node = (Node *) PG_GETARG_POINTER(0);

	if (!IsA(node, SupportRequestSelectivity))
		PG_RETURN_POINTER(NULL);
	((SupportRequestSelectivity *) node)->selectivity = 1;
	PG_RETURN_POINTER(node);
}

/* The details of the message that the call names; NULL if it has no state. */
static const Details *
get_details(FunctionCallInfo fcinfo, char *state)
{
	Known	   *known = know(fcinfo);
	const Details *details = NULL;

	want_details(known);
	*state = find_state(known, PG_GETARG_TIMESTAMPTZ(1), &details);
	return *state == 0 ? NULL : details;
}

static void
report_column(int column)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("a state of a message has no such column: %d", column),
			 errhint("Select from the views of the queue instead.")));
}

/* A column of the state of the message that is a time. */
Datum
cmq_state_time(PG_FUNCTION_ARGS)
{
	char		state;
	const Details *details = get_details(fcinfo, &state);
	TimestampTz time = DT_NOBEGIN;

	if (details == NULL)
		PG_RETURN_NULL();
	switch ((CmqStateColumn) PG_GETARG_INT32(2))
	{
		case CMQ_STATE_FIRST_RECEIVED_AT:
			time = details->first_received_at;
			break;
		case CMQ_STATE_VISIBLE_AT:
			time = details->visible_at;
			break;
		case CMQ_STATE_DELETED_AT:
			time = details->deleted_at;
			break;
		default:
			report_column(PG_GETARG_INT32(2));
	}
	if (TIMESTAMP_IS_NOBEGIN(time))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(time);
}

/* One that is a number. */
Datum
cmq_state_int(PG_FUNCTION_ARGS)
{
	char		state;
	const Details *details = get_details(fcinfo, &state);

	if (details == NULL)
		PG_RETURN_NULL();
	if (PG_GETARG_INT32(2) == CMQ_STATE_RECEIVE_COUNT)
		PG_RETURN_INT32(details->receive_count);
	if (PG_GETARG_INT32(2) != CMQ_STATE_REWIND_COUNT)
		report_column(PG_GETARG_INT32(2));
	PG_RETURN_INT32(details->rewind_count);
}

/* What views call the state of a pending row, at this time of the queue clock. */
const char *
cmq_pending_word(TimestampTz visible_at, int receive_count, TimestampTz now)
{
	if (visible_at <= now)
		return "ready";
	return receive_count == 0 ? "delayed" : "in_flight";
}

/* What views show of first_received_at, given receive_count: what has been received. */
Datum
cmq_pending_received_at(PG_FUNCTION_ARGS)
{
	if (PG_GETARG_INT32(1) == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(PG_GETARG_TIMESTAMPTZ(0));
}

/* One that is a text. */
Datum
cmq_state_text(PG_FUNCTION_ARGS)
{
	char		state;
	const Details *details = get_details(fcinfo, &state);
	const char *word;

	if (details == NULL)
		PG_RETURN_NULL();
	if (PG_GETARG_INT32(2) == CMQ_STATE_DELETED_BY)
	{
		if (details->deleted_by == NULL)
			PG_RETURN_NULL();
		/* a copy: the row of the call may outlive the run */
		PG_RETURN_DATUM(datumCopy(PointerGetDatum(details->deleted_by), false, -1));
	}
	if (PG_GETARG_INT32(2) != CMQ_STATE_WORD)
		report_column(PG_GETARG_INT32(2));
	if (state == CMQ_STATE_HISTORY)
		word = "deleted";
	else if (state == CMQ_STATE_DUE)
		word = "ready";
	else
		word = cmq_pending_word(details->visible_at, details->receive_count,
								((Known *) fcinfo->flinfo->fn_extra)->now);
	PG_RETURN_TEXT_P(cstring_to_text(word));
}
