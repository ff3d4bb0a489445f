/*-------------------------------------------------------------------------
 *
 * cmq_worker.c
 *	  The short-lived workers of maintenance and of senders.
 *
 * The launcher (cmq_launcher.c) has a worker of maintenance visit each database, at
 * intervals.  In one round the worker gives each queue its turns (cmq_turn.c), and runs
 * each step in portions, each a transaction of its own (cmq_maintain.c).  It logs an
 * error, which ends only that step in this round, and waits for a lock for
 * WORKER_LOCK_TIMEOUT at most.
 *
 * A sender that finds no leaf starts a worker for its queue alone and waits for it
 * (cmq_workers_run_for()); the launcher has no part in that.  Such a worker waits
 * for a lock no longer than its sender waits for it.
 *
 * Steps run code of the queue's owner, which may never end.  So each transaction has a
 * timeout, and the worker is killed when the code does not heed that; cmq_turn.c remembers
 * whose code it was, and how long it took.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "base/cmq_args.h"
#include "base/cmq_names.h"
#include "base/cmq_settings.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_visits.h"
#include "memory/cmq_workers.h"
#include "store/cmq_catalog.h"
#include "store/cmq_journal_rows.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf.h"
#include "store/cmq_queue.h"
#include "store/cmq_rewind_log.h"
#include "verbs/cmq_dead_letter.h"
#include "verbs/cmq_gone.h"
#include "worker/cmq_letters.h"
#include "worker/cmq_maintain.h"
#include "worker/cmq_portion.h"
#include "worker/cmq_turn.h"

static TimeoutId die_timeout;

#define WORKER_LOCK_TIMEOUT "2s"

/* How long after its timeout a worker is killed that has not heeded it. */
#define TIME_TO_CANCEL 5		/* seconds */

/*
 * For how long a turn repeats portions of a step, and after how long it begins no other
 * step.
 */
#define PORTIONS_TIME (2 * USECS_PER_SEC)
#define TURN_TIME (5 * USECS_PER_SEC)

/* How long a worker may take to make a leaf that a sender waits for. */
#define LEAF_TIMEOUT 10			/* seconds */

/*
 * How long one queue's dead letters may take that go to a queue of another owner.
 */
#define STRANGER_TIMEOUT 5		/* seconds */

PGDLLEXPORT void cmq_worker_main(Datum arg);

/* Was the last error of in_transaction() a cancel, by its timeout or otherwise? */
static bool was_cancelled = false;

/* Run func(arg) in a transaction; log an error and return false. */
static bool
in_transaction(void (*func) (void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = true;

	was_cancelled = false;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	PG_TRY();
	{
		func(arg);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		was_cancelled = geterrcode() == ERRCODE_QUERY_CANCELED;
		disable_all_timeouts(false);
		QueryCancelPending = false;
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CHECK_FOR_INTERRUPTS();
	return ok;
}

typedef struct LimitedCall
{
	void		(*func) (void *arg);
	void	   *arg;
	int			seconds;
} LimitedCall;

static void
run_limited(void *arg)
{
	LimitedCall *call = arg;

	enable_timeout_after(STATEMENT_TIMEOUT, call->seconds * 1000);
	enable_timeout_after(die_timeout, (call->seconds + TIME_TO_CANCEL) * 1000);
	call->func(call->arg);
	disable_timeout(STATEMENT_TIMEOUT, false);
	disable_timeout(die_timeout, false);
}

/*
 * As in_transaction(), for what may run code of a queue's owner: the queues of others must
 * not wait for that for ever.
 */
static bool
in_limited_transaction(void (*func) (void *arg), void *arg, int seconds)
{
	LimitedCall call = {.func = func,.arg = arg,.seconds = seconds};

	return in_transaction(run_limited, &call);
}

/* A queue's turn in the round, see cmq_turn.c. */
typedef struct TurnCall
{
	char	   *name;
	CmqTurnKind kind;
	bool		go;
	int64		begun;			/* elapsed */
	int			step;
	CmqStepResult result;
	bool		incomplete;		/* a step has failed or left something */
} TurnCall;

static void
begin_turn(void *arg)
{
	TurnCall   *call = arg;
	CmqQueue   *queue = cmq_queue_find(call->name);
	Oid			guest = InvalidOid;

	if (queue == NULL)
		return;
	if (call->kind == CMQ_LETTERS_TURN)
	{
		CmqQueue   *target = cmq_dead_letter_stranger(queue);

		if (target == NULL)
			return;
		guest = target->owner;
	}
	call->go = cmq_turn_begin(queue, call->kind, guest);
}

static void
run_step(void *arg)
{
	TurnCall   *call = arg;

	call->result = cmq_maintain_step(call->name, call->kind, call->step, true);
}

/*
 * Run a step, portion after portion, each in a transaction of its own, until it has
 * come to its end or the turn has taken its time.  False if it was cancelled.
 */
static bool
run_portions(TurnCall *call)
{
	do
	{
		call->result = CMQ_STEP_DONE;
		/* one that fails does not keep the next ones from being tried */
		if (!in_limited_transaction(run_step, call, cmq_maintenance_timeout))
		{
			call->incomplete = true;
			if (was_cancelled)
				return false;
		}
	} while (call->result != CMQ_STEP_DONE &&
			 cmq_elapsed() - call->begun < PORTIONS_TIME);
	if (call->result == CMQ_STEP_MORE)
	{
		call->incomplete = true;
		cmq_visits_unfinished();
	}
	return true;
}

/*
 * The steps of a turn.  One that takes long leaves the others to the next turn, which
 * begins with them.  False if a step was cancelled.
 */
static bool
run_steps(TurnCall *call)
{
	int			n = cmq_maintain_nsteps(call->kind);
	int			first = cmq_turn_first_step(n);

	call->begun = cmq_elapsed();
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && cmq_elapsed() - call->begun > TURN_TIME)
			return true;
		call->step = (first + i) % n;
		cmq_turn_at_step(call->step);
		if (!run_portions(call))
			return false;
	}
	cmq_turn_at_step(-1);
	if (!call->incomplete)
		cmq_turn_complete();
	return true;
}

static void
move_letters(void *arg)
{
	CmqQueue   *queue = cmq_queue_open(arg, ACL_NO_RIGHTS, RowExclusiveLock);

	cmq_letters_sweep_stranger(queue, STRANGER_TIMEOUT * 1000);
}

static void
log_context(void *arg)
{
	const char *name = arg;

	errcontext("maintenance of %s \"%s\"", cmq_kind_of(name), cmq_plain(name));
}

/* Give a queue its turn of that kind. */
static void
take_turn(char *name, CmqTurnKind kind)
{
	TurnCall	call = {.name = name,.kind = kind};
	ErrorContextCallback context = {
		.previous = error_context_stack,
		.callback = log_context,
		.arg = name
	};

	error_context_stack = &context;
	pgstat_report_activity(STATE_RUNNING,
						   psprintf("maintenance of %s %s", cmq_kind_of(name),
									cmq_plain(name)));
	if (in_transaction(begin_turn, &call) && call.go)
	{
		/* letters: the limit of the sweep itself ends first */
		if (kind == CMQ_LETTERS_TURN)
			cmq_turn_end(in_limited_transaction(move_letters, name,
												STRANGER_TIMEOUT + TIME_TO_CANCEL) ||
						 !was_cancelled);
		else
			cmq_turn_end(run_steps(&call));
	}
	pgstat_report_stat(true);
	error_context_stack = context.previous;
}

static void
take_turns(List *names, CmqTurnKind kind)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (cmq_visits_is_asked_to_leave())
		{
			cmq_visits_unfinished();
			return;
		}
		take_turn(lfirst(lc), kind);
	}
}

/* Make the leaves that a sender waits for. */
static void
make_leaf(void *arg)
{
	CmqQueue   *queue = cmq_queue_lookup(arg, ACL_NO_RIGHTS);
	TimestampTz now = cmq_queue_now(queue);

	cmq_leaf_make(queue, now, now + cmq_leaf_lead(queue));
}

static bool extension_found;

static void
find_extension(void *arg)
{
	extension_found = OidIsValid(get_extension_oid("cmq", true)) &&
		OidIsValid(cmq_relid("queue"));
}

static CmqTurnOrder order;

static void
order_turns(void *arg)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	cmq_turn_order(list_concat(cmq_catalog_queue_names(), cmq_journal_names()),
				   &order);
	MemoryContextSwitchTo(old);
}

/* Needs no extension: also removes what one that was dropped has left. */
static void
sweep(void *arg)
{
	cmq_maintain_sweep();
	cmq_prepared_sweep();
}

static void
sweep_gone(void *arg)
{
	cmq_gone_sweep();
}

static void
prune_rewind_log(void *arg)
{
	cmq_rewind_log_prune();
}

static void
terminate_worker(void)
{
	kill(MyProcPid, SIGTERM);
}

/* Defaults of the database or of the superuser are not for us. */
static void
set_settings(const CmqWorkerTask *task)
{
	const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"statement_timeout", "0"},
		{"transaction_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"lock_timeout", task->queue[0] ? psprintf("%d", task->lock_timeout) :
		WORKER_LOCK_TIMEOUT},
	};

	for (int i = 0; i < lengthof(settings); i++)
	{
		/* 17 has brought transaction_timeout */
		if (GetConfigOption(settings[i][0], true, false))
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
							PGC_S_OVERRIDE);
	}
}

/* A round of maintenance in this database. */
static void
run_round(void)
{
	(void) in_transaction(sweep, NULL);
	if (!in_transaction(find_extension, NULL) || !extension_found)
		return;
	(void) in_transaction(sweep_gone, NULL);
	if (!in_transaction(order_turns, NULL))
		return;
	take_turns(order.names[CMQ_SHORT_TURN], CMQ_SHORT_TURN);
	(void) in_limited_transaction(prune_rewind_log, NULL,
								  cmq_maintenance_timeout);
	for (int kind = CMQ_LONG_TURN; kind < CMQ_NTURNS; kind++)
		take_turns(order.names[kind], kind);
	/* last, because code in these queues may end the worker */
	for (int kind = 0; kind < CMQ_NTURNS; kind++)
		take_turns(order.struck[kind], kind);
}

void
cmq_worker_main(Datum arg)
{
	CmqWorkerTask task;

	memcpy(&task, MyBgworkerEntry->bgw_extra, sizeof(task));
	cmq_visits_join(task.visit);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	cmq_require_preload();
	die_timeout = RegisterTimeout(USER_TIMEOUT, terminate_worker);

	/*
	 * The database may be gone by now; that ends the worker with an error, as
	 * it does any client.
	 */
	BackgroundWorkerInitializeConnectionByOid(task.database, InvalidOid, 0);
	set_settings(&task);
	if (task.queue[0])
		(void) in_limited_transaction(make_leaf, task.queue, LEAF_TIMEOUT);
	else
		run_round();
	proc_exit(0);
}
