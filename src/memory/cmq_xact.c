/*-------------------------------------------------------------------------
 *
 * cmq_xact.c
 *	  What the current transaction has done, and what follows at its end.
 *
 * Each call that changes a queue says so here, and that is all that it has to do: what
 * others must learn of it, and when, is in this file.  There is one deed for each queue
 * and subtransaction.  When a subtransaction ends well its deeds are added to its
 * parent's; when it is undone they are undone, and gone.  So at the end of the
 * transaction there is one deed for each queue.
 *
 * The extension has one transaction callback, one for subtransactions, and one for the
 * release of locks, which comes after these.  The steps of each event, with the reason
 * for their order:
 *
 *	about to commit
 *		lower marks				before the rows can be seen: a receive that begins to
 *								scan then has to look there (cmq_mark.c)
 *		show the commit			before the transaction can be seen (cmq_count.c)
 *		choose an asynchronous commit (cmq_async.c)
 *	about to be prepared
 *		lower marks				as above
 *		reserve a place			the last step that can fail (cmq_prepared.c)
 *	committed
 *		end waits, windows
 *		add counts, wake		a waiter that is woken finds rows and numbers right
 *		clear the slot			what was published can be seen, and counts are added
 *		make durable			others need not wait for it
 *	aborted
 *		end waits, windows		before waiters look for what the windows hid
 *		wake					what was taken is ready again
 *		clear the slot
 *	locks are released
 *		wake once more			who was woken before found groups still locked
 *	prepared
 *		end waits, windows
 *		add to shared memory	before the slot is cleared: nobody misses both
 *		clear the slot
 *	ended, in whichever way
 *		give back places		that were reserved for PREPARE and not used
 *		settle					after an abort, and a commit that has written without an
 *								id: it may have ended a prepared transaction
 *		remove entries			of queues dropped, or made and rolled back
 *		leave entries			the last use of them
 *		trim caches
 *
 * A process publishes in its slot (cmq_proc.c) from which time on its transaction may
 * have written rows.  A call that is about to read a clock and write announces that
 * first (cmq_xact_announce): the slot says "unknown" until it has published the time.
 * Code of an owner's, in an index, may run between the two and write, or fail in a
 * subtransaction: the slot says "unknown" as long as any call has announced itself and
 * not published yet.  What was published stays to the end of the transaction, also if
 * the subtransaction is undone, unless the call that announced it withdraws it.
 *
 * Memory: deeds are in TopTransactionContext, and so few as queues are used; nothing
 * here grows with messages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "memory/cmq_async.h"
#include "memory/cmq_count.h"
#include "memory/cmq_effect.h"
#include "memory/cmq_group_events.h"
#include "memory/cmq_mark.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_proc.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_wait.h"
#include "memory/cmq_window.h"
#include "memory/cmq_xact.h"

/* What one subtransaction has done to one queue. */
typedef struct Deed
{
	struct Deed *next;
	SubTransactionId subid;
	CmqSharedQueue *shared;		/* NULL: the entry was not used */
	CmqEffect	effect;			/* for others; has the key */
	CmqTaken	taken;
	TimestampTz lower_floor;	/* rows put back from here on; DT_NOEND: none */
	TimestampTz delivered_due;	/* the earliest due message received;
								 * DT_NOEND: none */
	bool		rewound;		/* it has made a rewind */
	bool		forgets;		/* it removes forgotten history */
	bool		locked_group;	/* a receive has had the lock of a group ... */
	bool		keeps_group;	/* ... and a consume keeps it to the end */
	struct Deed *after;			/* the next one to wake for after locks */
	int			wake_after;
	bool		made;			/* the queue */
	bool		dropped;		/* the queue, or found that it is gone */
	bool		statement[2];	/* noted by a trigger: pending table, history */
	char		name[NAMEDATALEN];	/* of the queue, if one is noted */
} Deed;

static Deed *deeds = NULL;		/* the newest first */
static Deed *last_deed = NULL;	/* the one used last, or NULL */

/* Those to wake for once more when locks are gone, and may entries be left then? */
static Deed *after_locks = NULL;
static bool leaves_after_locks = false;

/* Number of the current transaction in this backend. */
static uint64 xact_number = 1;

/*
 * Calls between cmq_xact_announce() and cmq_xact_publish(), by their subtransactions.
 * There may be several: code of an owner's that runs in one call can make another.
 */
#define MAX_ANNOUNCED 16
static SubTransactionId announced[MAX_ANNOUNCED];
static int	nannounced = 0;
static bool announced_many = false; /* more than that, in this transaction */
static uint64 announcements = 0;
static bool slot_in_use = false;
static TimestampTz published = CMQ_TIME_NONE;

/* How many calls run code of an owner's now. */
static int	code_depth = 0;

static CmqOwnFloor own_floor;

/* The id that the commit under way is shown with. */
static TransactionId committing = InvalidTransactionId;

/* May the current transaction have ended a prepared one? */
static bool may_have_ended = false;

#define MAX_AT_END 4
static void (*at_end[MAX_AT_END]) (void);
static int	nat_end = 0;

/* Call func at the end of each transaction, as the last thing. */
void
cmq_xact_at_end(void (*func) (void))
{
	Assert(nat_end < MAX_AT_END);
	at_end[nat_end++] = func;
}

/* The number of the current transaction, by which others know that it is new. */
uint64
cmq_xact_number(void)
{
	return xact_number;
}

static Deed *
find_deed(Oid pending, SubTransactionId subid)
{
	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		if (deed->effect.key.pending == pending && deed->subid == subid)
			return deed;
	}
	return NULL;
}

/* What the current subtransaction has done to this queue; made if need be. */
static Deed *
deed_of(Oid pending)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	Deed	   *deed = find_deed(pending, subid);

	if (deed)
		return deed;
	deed = MemoryContextAllocZero(TopTransactionContext, sizeof(Deed));
	deed->subid = subid;
	deed->effect.key.database = MyDatabaseId;
	deed->effect.key.pending = pending;
	deed->taken.ready = deed->taken.due = deed->taken.message = DT_NOEND;
	deed->lower_floor = deed->delivered_due = DT_NOEND;
	deed->next = deeds;
	deeds = deed;
	return deed;
}

static Deed *
get_deed(CmqSharedQueue *shared)
{
	if (last_deed == NULL || last_deed->shared != shared ||
		last_deed->subid != GetCurrentSubTransactionId())
	{
		last_deed = deed_of(cmq_shared_key(shared).pending);
		last_deed->shared = shared;
	}
	return last_deed;
}

/*
 * What is published
 */

/* What the slot of this process says, or should say. */
TimestampTz
cmq_xact_published(void)
{
	return nannounced > 0 || announced_many ? CMQ_TIME_UNKNOWN : published;
}

/* Is a call about to write rows, whose times are not known yet? */
bool
cmq_xact_is_writing(void)
{
	return nannounced > 0;
}

/*
 * Before reading the clock for times that will be written.  To be followed by
 * cmq_xact_publish() with the smallest of them, and, if then nothing was
 * written after all, by cmq_xact_withdraw() with what this returned.
 */
CmqAnnouncement
cmq_xact_announce(void)
{
	CmqAnnouncement announcement = {
		.before = published,
		.number = ++announcements
	};

	slot_in_use = true;
	if (nannounced < MAX_ANNOUNCED)
		announced[nannounced] = GetCurrentSubTransactionId();
	else
		announced_many = true;	/* unknown, to the end of the transaction */
	nannounced++;
	cmq_proc_publish(CMQ_TIME_UNKNOWN);
	pg_memory_barrier();
	return announcement;
}

static void
publish(TimestampTz time)
{
	slot_in_use = true;
	published = Min(published, time);
	cmq_proc_publish(cmq_xact_published());
}

/* End the announcement made last: no row that it was made for has an earlier time. */
void
cmq_xact_publish(TimestampTz time)
{
	if (nannounced > 0)
		nannounced--;
	publish(time);
}

/* Nothing was written: forget what was published, unless more was announced since. */
void
cmq_xact_withdraw(CmqAnnouncement announcement)
{
	if (announcement.number == announcements)
		published = announcement.before;
	cmq_proc_publish(cmq_xact_published());
}

/*
 * Code of an owner's begins to run, or ends, perhaps in the midst of writing rows
 * (cmq_owner.c).  The caller sees to it that each begin has its end.
 */
void
cmq_xact_enter_code(void)
{
	code_depth++;
}

void
cmq_xact_leave_code(void)
{
	code_depth--;
}

bool
cmq_xact_in_code(void)
{
	return code_depth > 0;
}

/* The floors for ourselves alone, to be read and written by cmq_floor.c. */
CmqOwnFloor *
cmq_xact_own_floor(void)
{
	return &own_floor;
}

/* They are no more, and neither is what is kept beside them. */
void
cmq_xact_forget_own_floor(void)
{
	own_floor.shared = NULL;
	own_floor.nundone++;
}

/*
 * What was taken away, and comes back if the transaction rolls back
 */

/* The caller has updated or deleted a pending row. */
void
cmq_xact_taken(CmqSharedQueue *shared, TimestampTz visible_at)
{
	CmqTaken   *taken = &get_deed(shared)->taken;

	taken->ready = Min(taken->ready, visible_at);
}

/* The caller has deleted a row that was due for the rewind. */
void
cmq_xact_taken_due(CmqSharedQueue *shared, TimestampTz enqueued_at)
{
	CmqTaken   *taken = &get_deed(shared)->taken;

	taken->due = Min(taken->due, enqueued_at);
}

/*
 * The caller has consumed a message produced at enqueued_at that the rewind of rewound_at
 * brings back: its row is due no more.
 */
void
cmq_xact_consumed_due(CmqSharedQueue *shared, TimestampTz rewound_at,
					  TimestampTz enqueued_at)
{
	cmq_xact_taken_due(shared, enqueued_at);
	cmq_changes_add_due(&get_deed(shared)->effect.changes, -1, rewound_at,
						enqueued_at);
}

/* The same for one that was delivered: it is pending from now on. */
void
cmq_xact_delivered_due(CmqSharedQueue *shared, TimestampTz rewound_at,
					   TimestampTz enqueued_at)
{
	Deed	   *deed = get_deed(shared);

	cmq_xact_consumed_due(shared, rewound_at, enqueued_at);
	deed->delivered_due = Min(deed->delivered_due, enqueued_at);
}

/* The caller has consumed or removed a message. */
void
cmq_xact_taken_message(CmqSharedQueue *shared, TimestampTz enqueued_at)
{
	CmqTaken   *taken = &get_deed(shared)->taken;

	taken->message = Min(taken->message, enqueued_at);
}

/*
 * The caller has taken away rows, or let them expire, of which nobody knows
 * the times.
 */
void
cmq_xact_taken_unknown(CmqSharedQueue *shared)
{
	CmqTaken   *taken = &get_deed(shared)->taken;

	taken->ready = taken->due = taken->message = DT_NOBEGIN;
}

/* What the transaction has taken away from a queue, in all its subtransactions. */
CmqTaken
cmq_xact_taken_of(CmqSharedQueue *shared)
{
	CmqTaken	taken = {DT_NOEND, DT_NOEND, DT_NOEND};

	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		if (deed->shared != shared)
			continue;
		taken.ready = Min(taken.ready, deed->taken.ready);
		taken.due = Min(taken.due, deed->taken.due);
		taken.message = Min(taken.message, deed->taken.message);
	}
	return taken;
}

/*
 * What comes up when it commits
 */

/* The caller has made a rewind, which nobody else knows yet. */
void
cmq_xact_rewound(CmqSharedQueue *shared)
{
	get_deed(shared)->rewound = true;
}

bool
cmq_xact_has_rewound(CmqSharedQueue *shared)
{
	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		if (deed->shared == shared && deed->rewound)
			return true;
	}
	return false;
}

/*
 * The caller puts rows from this time on back into the pending table.  It has published
 * the time, so nobody raises the floor above it; that is enough while nobody else can
 * see the rows.
 */
void
cmq_xact_lower_floor(CmqSharedQueue *shared, TimestampTz time)
{
	Deed	   *deed = get_deed(shared);

	deed->lower_floor = Min(deed->lower_floor, time);
	cmq_xact_forget_own_floor();
}

/* From which time on the transaction has put rows back; DT_NOEND: it has not. */
TimestampTz
cmq_xact_lowers_floor(CmqSharedQueue *shared)
{
	TimestampTz time = DT_NOEND;

	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		if (deed->shared == shared)
			time = Min(time, deed->lower_floor);
	}
	return time;
}

/* The caller removes history that was forgotten (cmq_forget.c). */
void
cmq_xact_forgets(CmqSharedQueue *shared)
{
	get_deed(shared)->forgets = true;
}

/*
 * What is counted
 */

/* Count something if the transaction commits. */
void
cmq_xact_count(CmqSharedQueue *shared, CmqCounter counter, int64 n)
{
	get_deed(shared)->effect.changes.counters[counter] += n;
}

/* The caller has inserted n pending rows, or deleted -n. */
void
cmq_xact_pending(CmqSharedQueue *shared, int64 n)
{
	get_deed(shared)->effect.changes.pending += n;
}

/* The caller changes pending rows without counting them. */
void
cmq_xact_pending_unknown(CmqSharedQueue *shared)
{
	get_deed(shared)->effect.changes.pending_unknown = true;
}

/*
 * By how many rows the transaction has changed the number of pending ones; unknown: it
 * has not counted all.
 */
int64
cmq_xact_own_pending(CmqSharedQueue *shared, bool *unknown)
{
	int64		n = 0;

	*unknown = false;
	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		if (deed->shared != shared)
			continue;
		n += deed->effect.changes.pending;
		*unknown |= deed->effect.changes.pending_unknown;
	}
	return n;
}

/* The caller changes what is due without counting it. */
void
cmq_xact_due_unknown(CmqSharedQueue *shared)
{
	get_deed(shared)->effect.changes.due_unknown = true;
}

/* The same as cmq_xact_own_pending(), for rows due for that rewind. */
int64
cmq_xact_own_due(CmqSharedQueue *shared, TimestampTz rewound_at, bool *unknown)
{
	int64		n = 0;

	*unknown = false;
	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		const CmqChanges *changes = &deed->effect.changes;

		if (deed->shared != shared)
			continue;
		n += changes->due;
		*unknown |= changes->due_unknown ||
			(changes->due != 0 && changes->due_rewound_at != rewound_at);
	}
	return n;
}

/*
 * Who is woken
 */

/*
 * Wake waiters when the transaction ends: at_commit if it commits, at_abort if it or its
 * subtransaction aborts.  Adds up over calls.  Each claim calls this at once, because an
 * error can come right after it.
 */
void
cmq_xact_wake(CmqSharedQueue *shared, int at_commit, int at_abort)
{
	cmq_effect_wake(&get_deed(shared)->effect, at_commit, at_abort);
}

/* When it ends, however, this group may be had, or may not: say so before that. */
void
cmq_xact_group_changed(CmqSharedQueue *shared, int64 group)
{
	cmq_group_events_note(&get_deed(shared)->effect.groups, group);
}

/* The same for any of the groups. */
void
cmq_xact_groups_unknown(CmqSharedQueue *shared)
{
	cmq_group_events_note_all(&get_deed(shared)->effect.groups);
}

/*
 * The caller has got the lock of a group.  Others leave the group to it, and it may fail:
 * wake one if it does, again when the lock is gone.
 */
void
cmq_xact_locked_group(CmqSharedQueue *shared)
{
	get_deed(shared)->locked_group = true;
	cmq_xact_wake(shared, 0, 1);
}

/* It keeps the lock to the end of the transaction: the same if that commits. */
void
cmq_xact_keeps_group(CmqSharedQueue *shared)
{
	get_deed(shared)->keeps_group = true;
}

/*
 * If the transaction commits, waiters read the queue's row again before they look next: the
 * caller has changed it.
 */
void
cmq_xact_row_changed(CmqSharedQueue *shared)
{
	get_deed(shared)->effect.changed = true;
}

/* The same, and all of them look at once. */
void
cmq_xact_wake_all(CmqSharedQueue *shared)
{
	cmq_xact_row_changed(shared);
	cmq_xact_wake(shared, CMQ_ALL_WAITERS, 0);
}

/*
 * Statements that write the tables of queues
 */

/* A statement that is not ours is about to change the queue's tables (cmq_changes.c). */
void
cmq_xact_note_statement(CmqSharedQueue *shared, const char *name, bool history)
{
	Deed	   *deed = get_deed(shared);

	strlcpy(deed->name, name, NAMEDATALEN);
	deed->statement[history] = true;
}

/* Has a statement said so, and not been undone? */
bool
cmq_xact_has_statement(const char *name, bool history)
{
	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		if (deed->statement[history] && strcmp(deed->name, name) == 0)
			return true;
	}
	return false;
}

/*
 * The caller drops the queue (at_commit) or makes it: its shared entry is removed when
 * the transaction commits, or aborts.
 */
void
cmq_xact_remove_at_end(Oid pending, bool at_commit)
{
	Deed	   *deed = deed_of(pending);

	if (at_commit)
		deed->dropped = true;
	else
		deed->made = true;
}

/*
 * The end
 */

/* Rows of ours are about to be seen. */
static void
lower_marks(void)
{
	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		if (deed->delivered_due != DT_NOEND)
		{
			publish(deed->delivered_due);
			cmq_mark_lower(deed->shared, CMQ_EARLIEST, deed->delivered_due);
		}
		if (deed->lower_floor != DT_NOEND)
			cmq_mark_lower(deed->shared, CMQ_FLOOR, deed->lower_floor);
	}
}

static void
show_commit(void)
{
	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		if (!cmq_changes_rows(&deed->effect.changes))
			continue;
		committing = GetTopTransactionIdIfAny();
		cmq_proc_commit(committing);
		return;
	}
}

static void
before_commit(void)
{
	lower_marks();
	show_commit();
	cmq_async_before_commit();
	may_have_ended = XactLastRecEnd != InvalidXLogRecPtr &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny());
}

static void
before_prepare(void)
{
	int			nqueues = 0;

	lower_marks();
	for (Deed *deed = deeds; deed; deed = deed->next)
		nqueues += deed->shared != NULL;
	if (nqueues > 0 || slot_in_use)
		cmq_prepared_reserve(nqueues);
}

/* Wake so many again when the locks are gone. */
static void
wake_after_locks(Deed *deed, int n)
{
	deed->wake_after = n;
	deed->after = after_locks;
	after_locks = deed;
}

static void
committed(void)
{
	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		if (deed->shared)
			cmq_effect_committed(&deed->effect, deed->shared, committing);
		if (deed->keeps_group)
			wake_after_locks(deed, deed->effect.wake_at_commit);
	}
}

static void
prepared(void)
{
	if (cmq_xact_published() != CMQ_TIME_NONE)
		cmq_prepared_add(cmq_xact_published());
	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		if (deed->shared == NULL)
			continue;
		cmq_prepared_add_effect(&deed->effect);
		/* it may still be rolled back */
		if (deed->forgets)
			cmq_notes_pass_was_undone(deed->shared);
	}
}

/* What a transaction or subtransaction had done to a queue is undone. */
static void
undo(Deed *deed)
{
	if (deed->shared)
		cmq_effect_aborted(&deed->effect, deed->shared);
	if (deed->locked_group)
		wake_after_locks(deed, deed->effect.wake_at_abort);
	if (deed->forgets)
		cmq_notes_pass_was_undone(deed->shared);
}

static void
aborted(void)
{
	for (Deed *deed = deeds; deed; deed = deed->next)
		undo(deed);
}

/* Others can see all our rows, or none; calls that an error has ended write no more. */
static void
clear_slot(void)
{
	if (TransactionIdIsValid(committing))
		cmq_proc_commit(InvalidTransactionId);
	committing = InvalidTransactionId;
	nannounced = 0;
	announced_many = false;
	published = CMQ_TIME_NONE;
	if (slot_in_use)
		cmq_proc_publish(CMQ_TIME_NONE);
	slot_in_use = false;
}

/*
 * A prepared transaction outlives the deeds: maintenance removes the entries of queues
 * that its end has dropped, or not made.
 */
static void
remove_entries(XactEvent event)
{
	for (Deed *deed = deeds; deed; deed = deed->next)
	{
		if ((deed->dropped && event == XACT_EVENT_COMMIT) ||
			(deed->made && event == XACT_EVENT_ABORT))
			cmq_shared_remove(&deed->effect.key);
	}
}

static void
ended(XactEvent event)
{
	cmq_prepared_unreserve();
	if (event == XACT_EVENT_ABORT)
		/* it may have failed after it had ended a prepared one */
		cmq_prepared_settle();
	else if (event == XACT_EVENT_COMMIT && may_have_ended)
		cmq_prepared_sweep();
	may_have_ended = false;
	remove_entries(event);
	deeds = last_deed = NULL;
	cmq_xact_forget_own_floor();
	if (after_locks == NULL)
		cmq_shared_leave_all();
	else
		leaves_after_locks = true;
	xact_number++;
	for (int i = 0; i < nat_end; i++)
		at_end[i] ();
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			before_commit();
			break;
		case XACT_EVENT_PRE_PREPARE:
			before_prepare();
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			cmq_wait_end_of(TopSubTransactionId);
			cmq_window_end_of(TopSubTransactionId);
			committed();
			clear_slot();
			cmq_async_after_xact(true);
			ended(event);
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			cmq_wait_end_of(TopSubTransactionId);
			cmq_window_end_of(TopSubTransactionId);
			aborted();
			clear_slot();
			cmq_async_after_xact(false);
			ended(event);
			break;
		case XACT_EVENT_PREPARE:
			cmq_wait_end_of(TopSubTransactionId);
			cmq_window_end_of(TopSubTransactionId);
			prepared();
			clear_slot();
			cmq_async_after_xact(false);
			ended(event);
			break;
	}
}

/* Add what a subtransaction has done to what its parent has. */
static void
add_to_parent(Deed *deed, SubTransactionId parent)
{
	Deed	   *more = find_deed(deed->effect.key.pending, parent);

	if (more == NULL)
	{
		deed->subid = parent;
		return;
	}
	more->shared = more->shared ? more->shared : deed->shared;
	cmq_effect_merge(&more->effect, &deed->effect);
	more->taken.ready = Min(more->taken.ready, deed->taken.ready);
	more->taken.due = Min(more->taken.due, deed->taken.due);
	more->taken.message = Min(more->taken.message, deed->taken.message);
	more->lower_floor = Min(more->lower_floor, deed->lower_floor);
	more->delivered_due = Min(more->delivered_due, deed->delivered_due);
	more->rewound |= deed->rewound;
	more->forgets |= deed->forgets;
	more->locked_group |= deed->locked_group;
	more->keeps_group |= deed->keeps_group;
	more->made |= deed->made;
	more->dropped |= deed->dropped;
	for (int i = 0; i < lengthof(more->statement); i++)
		more->statement[i] |= deed->statement[i];
	if (deed->name[0])
		strlcpy(more->name, deed->name, NAMEDATALEN);
	/* subxact_callback() frees it */
	deed->subid = InvalidSubTransactionId;
}

/* A subtransaction's deed is undone: what it had taken away is there again. */
static void
undo_in_subtransaction(Deed *deed)
{
	undo(deed);
	if (deed->made)
		cmq_shared_remove(&deed->effect.key);
	if (own_floor.shared && own_floor.shared == deed->shared)
	{
		own_floor.floor = Min(own_floor.floor, deed->taken.ready);
		own_floor.rewind_floor = Min(own_floor.rewind_floor, deed->taken.due);
	}
	own_floor.nundone++;
	deed->subid = InvalidSubTransactionId;
}

/* Forget announcements of calls that the error has ended; calls that caught it go on. */
static void
end_announcements(SubTransactionId subid)
{
	nannounced = Min(nannounced, MAX_ANNOUNCED);
	while (nannounced > 0 && announced[nannounced - 1] >= subid)
		nannounced--;
	if (slot_in_use)
		cmq_proc_publish(cmq_xact_published());
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;

	last_deed = NULL;
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		cmq_wait_end_of(mySubid);
		cmq_window_end_of(mySubid);
	}
	for (Deed **link = &deeds; *link;)
	{
		Deed	   *deed = *link;

		if (deed->subid == mySubid && event == SUBXACT_EVENT_COMMIT_SUB)
			add_to_parent(deed, parentSubid);
		else if (deed->subid == mySubid)
			undo_in_subtransaction(deed);
		if (deed->subid == InvalidSubTransactionId)
		{
			*link = deed->next;
			/* one that is to wake again stays until then */
			if (event == SUBXACT_EVENT_COMMIT_SUB || !deed->locked_group)
				pfree(deed);
		}
		else
			link = &deed->next;
	}
	if (event == SUBXACT_EVENT_ABORT_SUB)
		end_announcements(mySubid);
}

/*
 * The transaction or subtransaction has released its locks.  Whoever was woken before may
 * have found a group locked that is free now (cmq_group_take.c).
 */
static void
release_callback(ResourceReleasePhase phase, bool is_commit, bool is_top_level,
				 void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || after_locks == NULL)
		return;
	while (after_locks)
	{
		Deed	   *deed = after_locks;

		after_locks = deed->after;
		cmq_wait_signal(deed->shared, deed->wake_after, false);
		/* a subtransaction's, of which there may be many */
		if (deed->subid == InvalidSubTransactionId)
			pfree(deed);
	}
	if (leaves_after_locks)
		cmq_shared_leave_all();
	leaves_after_locks = false;
}

void
cmq_xact_install_callbacks(void)
{
	RegisterResourceReleaseCallback(release_callback, NULL);
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
