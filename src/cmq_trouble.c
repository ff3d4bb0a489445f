/*-------------------------------------------------------------------------
 *
 * cmq_trouble.c
 *	  Code of other owners: a limit for how long it may run, and what is
 *	  remembered of queues whose code had to be stopped.
 *
 * Functions in indexes of a queue run wherever its tables are written.  Whose
 * queue it is has chosen them; but a redrive, a round of maintenance and the
 * move of a dead letter also come to queues that nobody there has chosen.
 *
 * cmq_limited() calls a function with a time limit, in a subtransaction.  When
 * the limit is over the query is cancelled, and that ends the function and
 * nothing else.  A cancel from outside goes on to the caller; an error that
 * merely says it is one, as any function can raise it, does not.  Code that
 * catches cancels is not stopped by this: in a worker a second timeout kills the
 * process; in a session it can only be terminated.
 *
 * A queue's shared entry remembers that its maintenance is under way.  Who finds
 * that at the queue's next turn knows that the worker has died in it.  Such a
 * queue, and one whose step was cancelled, is passed over for 2, then 4 .. 64
 * rounds, and all queues of its owner come last in a round.  So code that does
 * not end costs the queues of its owner, and those of others one delay at most.
 *
 * Locks: none.  There is one worker in a database at a time, and what it writes
 * here is for the next one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "access/htup_details.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "cmq.h"

/* A queue is passed over for 2 to the power of this many rounds at most. */
#define MAX_STRIKES 6

static TimeoutId limit_timeout = MAX_TIMEOUTS;
static volatile sig_atomic_t limit_over = false;
static volatile sig_atomic_t cancel_is_ours = false;

static void
limit_is_over(void)
{
	limit_over = true;
	if (!QueryCancelPending)
		cancel_is_ours = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

/* Has the limit of the current call of cmq_limited() been reached? */
bool
cmq_limit_is_over(void)
{
	return limit_over;
}

/*
 * As cmq_queue_try(), with a time limit in milliseconds.  Calls do not nest.
 */
bool
cmq_limited(int limit, const char *name, const char *what,
			void (*func) (const char *name, void *arg), void *arg, bool warn)
{
	volatile bool ok = false;

	if (limit_timeout == MAX_TIMEOUTS)
		limit_timeout = RegisterTimeout(USER_TIMEOUT, limit_is_over);
	limit_over = cancel_is_ours = false;
	enable_timeout_after(limit_timeout, limit);
	PG_TRY();
	{
		ok = cmq_queue_try(name, what, func, arg, warn);
	}
	PG_FINALLY();
	{
		disable_timeout(limit_timeout, false);
		/* it may have come when the work was done */
		if (cancel_is_ours)
			QueryCancelPending = false;
		limit_over = cancel_is_ours = false;
	}
	PG_END_TRY();
	return ok;
}

void
cmq_trouble_init(CmqSharedQueue *shared)
{
	shared->in_maintenance = false;
	shared->strikes = 0;
	shared->rounds_to_skip = 0;
	pg_atomic_init_u32(&shared->letters_stuck, 0);
}

static void
strike(CmqSharedQueue *shared)
{
	if (shared->strikes < MAX_STRIKES)
		shared->strikes++;
	shared->rounds_to_skip = 1 << shared->strikes;
}

/*
 * Before code of the queue's owner runs in maintenance; false if the queue is to
 * be passed over in this round.  To be followed by cmq_trouble_end().
 */
bool
cmq_trouble_begin(CmqSharedQueue *shared)
{
	if (shared->in_maintenance)
	{
		shared->in_maintenance = false;
		strike(shared);
	}
	if (shared->rounds_to_skip > 0)
	{
		shared->rounds_to_skip--;
		return false;
	}
	shared->in_maintenance = true;
	return true;
}

/* After that; ok says whether nothing had to be cancelled. */
void
cmq_trouble_end(CmqSharedQueue *shared, bool ok)
{
	shared->in_maintenance = false;
	if (ok)
		shared->strikes = 0;
	else
		strike(shared);
}

typedef struct Turn
{
	char	   *name;
	Oid			owner;
	int			strikes;		/* of the queue, then of its owner's queues */
	int			position;
} Turn;

static void
read_strikes(CmqSharedQueue *shared, void *arg)
{
	/* one in which the last worker has died counts from now on */
	*(int *) arg = shared->strikes + (shared->in_maintenance ? 1 : 0);
}

static int
compare_turns(const void *a, const void *b)
{
	const Turn *x = a;
	const Turn *y = b;

	if (x->strikes != y->strikes)
		return x->strikes - y->strikes;
	return x->position - y->position;
}

/* What is known of the queue's owner and its strikes; none of it for a damaged one. */
static void
look_at_turn(Turn *turn)
{
	CmqQueue	queue;
	CmqSharedKey key = {.database = MyDatabaseId};
	HeapTuple	tuple;

	memset(&queue, 0, sizeof(queue));
	queue.mcxt = CurrentMemoryContext;
	strlcpy(queue.name, turn->name, NAMEDATALEN);
	if (!cmq_catalog_load_queue(&queue))
		return;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(queue.relid));
	if (HeapTupleIsValid(tuple))
	{
		turn->owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	key.pending = queue.pending;
	cmq_shmem_with(&key, read_strikes, &turn->strikes);
}

/*
 * The queues of the list in the order of their turns: those of owners whose
 * queues have been in trouble come last, the rest stays as it is.
 */
List *
cmq_trouble_order(List *names)
{
	int			n = list_length(names);
	Turn	   *turns = palloc0(sizeof(Turn) * Max(n, 1));
	int		   *sums = palloc0(sizeof(int) * Max(n, 1));
	List	   *ordered = NIL;
	bool		any = false;

	for (int i = 0; i < n; i++)
	{
		turns[i].name = list_nth(names, i);
		turns[i].position = i;
		look_at_turn(&turns[i]);
		any |= turns[i].strikes > 0;
	}
	if (!any)
		return names;
	for (int i = 0; i < n; i++)
	{
		for (int j = 0; j < n; j++)
		{
			if (turns[j].strikes > 0 && turns[j].owner == turns[i].owner)
				sums[i] += turns[j].strikes;
		}
	}
	for (int i = 0; i < n; i++)
		turns[i].strikes = sums[i];
	qsort(turns, n, sizeof(Turn), compare_turns);
	for (int i = 0; i < n; i++)
		ordered = lappend(ordered, turns[i].name);
	return ordered;
}
