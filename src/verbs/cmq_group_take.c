/*-------------------------------------------------------------------------
 *
 * cmq_group_take.c
 *	  Take messages of one group of an ordered queue, from its head on.
 *
 *		A message is taken only if no message of its group is in flight, or held by
 *		another open transaction, but for those that this call takes; and only if no
 *		earlier one of the group is pending.
 *
 * A group has held rows (received before in this life, and now in flight, timed out or
 * released), waiting rows, and rows that are due for a rewind.  The index by group has the
 * first two side by side, the waiting ones in the order of production; another index has
 * the third.  A look reads the held rows first.  If one is in flight, or another
 * transaction is changing one, the group is blocked.  Else the earliest message of the
 * three is taken, again and again.
 *
 * Ways to break the rule, and what is done:
 *
 * 1. Two receives look at the same group.  So a look has the group's lock, and keeps it
 *	  until the rows of what it has taken are written, with their index entries.  It is
 *	  taken without waiting: who does not get it leaves the group to the other one.  What
 *	  that other one may not have seen is covered by the count of crossings
 *	  (cmq_group_events.c).  Locks of several groups are held together, so that rows are
 *	  written together; nobody waits for them.
 *
 * 2. A consume leaves no row in flight.  So it keeps the lock to the end of its
 *	  transaction.  The row that it deletes says the same, but a receive whose bounds are
 *	  from before a restore would not look there.
 *
 * 3. A row moves in place while it is looked for: a change of visibility, or a release.
 *	  The count of moves (cmq_group_events.c) tells, and the look begins anew.
 *
 * 4. An earlier message was sent and is not committed.  Its row is in the index: a look
 *	  stops at rows that others have added.
 *
 * 5. An earlier message has its time, but its row is not written yet.  Senders announce
 *	  that (cmq_window.c), before they take the time.  The caller has read the clock, then
 *	  who has announced what, and only then this file looks for rows.
 *
 * 6. A restore brings back an earlier message.  It lowers the floor before it writes, so
 *	  looks that begin then meet its rows.  One that has begun before is before the
 *	  restore.
 *
 * 7. The first message is dead.  It is listed, and those behind it that are dead, too;
 *	  what is behind them must wait until they are moved.  Where they are not moved the look
 *	  ends at the first one: a million of them would be read in vain, time and again.
 *
 * A message that has expired, or whose leaf is gone, is none.
 *
 * Locks: besides those of cmq_take.c, an object lock of the pending table with the hash of
 * the group as number; RowExclusive on rewind leaves.  Abort: the rows are as they were.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/itemptr.h"
#include "storage/lock.h"
#include "utils/timestamp.h"

#include "base/cmq_group.h"
#include "base/cmq_handle.h"
#include "memory/cmq_group_events.h"
#include "memory/cmq_types.h"
#include "memory/cmq_wait.h"
#include "memory/cmq_window.h"
#include "memory/cmq_xact.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_group_scan.h"
#include "store/cmq_pending.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_candidates.h"
#include "verbs/cmq_dead_letter.h"
#include "verbs/cmq_group_take.h"
#include "verbs/cmq_take.h"

/* A row of the group. */
typedef struct Row
{
	CmqTable   *table;
	ItemPointerData tid;
	CmqPendingKey key;
	bool		closed;			/* another transaction adds or changes it */
} Row;

/* One look at a group. */
typedef struct Look
{
	CmqGroupTake *groups;
	int64		group;
	const CmqGroupBounds *bounds;
	CmqGroupSeen *seen;
	Row		   *held;			/* that can be had, in order of production */
	int			nheld;
	int			maxheld;
	int			next_held;
	bool		to_met;			/* waiting rows up to the bound are read */
	bool		has_waiting;
	Row			waiting;
	bool		has_due;
	Row			due;
	int			leaf;			/* whose due rows are read ... */
	bool		leaf_is_read;	/* ... or will be */
} Look;

/* To be followed by cmq_group_take_end(). */
void
cmq_group_take_begin(CmqGroupTake *groups, CmqTake *take, CmqCandidates *scan)
{
	groups->take = take;
	groups->scan = scan;
	groups->chosen = NULL;
	groups->nchosen = 0;
	/* the clock was read before, and rows are looked for after */
	cmq_windows_read(take->queue->shared, &groups->windows);
	groups->slot = NULL;
	groups->leaves = NULL;
	groups->leaf_is_open = NULL;
	groups->nlocks = 0;
	groups->nconsumed = 0;
}

/* Write what was taken, and give the groups free. */
static void
write_and_unlock(CmqGroupTake *groups)
{
	cmq_pending_flush(groups->take->pending);
	while (groups->nlocks > 0)
		LockRelease(&groups->locks[--groups->nlocks], ExclusiveLock, false);
}

void
cmq_group_take_end(CmqGroupTake *groups)
{
	write_and_unlock(groups);
	for (int i = 0; groups->leaves && i < groups->take->queue->nleaves; i++)
	{
		if (groups->leaf_is_open[i])
			cmq_table_close(&groups->leaves[i]);
	}
	if (groups->slot)
		ExecDropSingleTupleTableSlot(groups->slot);
}

/* Has a consume as many groups as it may hold? */
bool
cmq_group_take_is_enough(const CmqGroupTake *groups)
{
	return groups->nconsumed >= CMQ_GROUPS_CONSUMED;
}

static bool
try_lock(const LOCKTAG *tag)
{
	return LockAcquire(tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Get the lock of the group, into *tag; false if somebody else has it. */
static bool
lock_group(CmqGroupTake *groups, int64 group, LOCKTAG *tag)
{
	CmqQueue   *queue = groups->take->queue;

	if (groups->nlocks == CMQ_GROUP_LOCKS)
		write_and_unlock(groups);
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, queue->pending,
					   (uint32) ((uint64) group >> 1),
					   (uint16) ((uint64) group >> 33));
	if (!try_lock(tag))
	{
		cmq_group_events_cross(queue->shared);
		if (!try_lock(tag))
			return false;
	}
	cmq_xact_locked_group(queue->shared);
	return true;
}

/* The row that the scan by group stands at. */
static void
get_row(CmqTable *table, Row *row)
{
	TupleTableSlot *slot = table->group_slot;

	row->table = table;
	row->tid = slot->tts_tid;
	row->closed = table->foreign || table->group_busy;
	if (table->kind == CMQ_PENDING)
		cmq_slot_key(slot, &row->key);
	else
		row->key.visible_at = row->key.enqueued_at =
			cmq_slot_time(slot, Anum_rewind_enqueued_at);
}

/* Move to the next row of the scan of the pending table whose message has not expired. */
static bool
next_alive(Look *look, Row *row)
{
	CmqTable   *pending = &look->groups->take->pending->table;

	while (cmq_group_scan_next(pending))
	{
		get_row(pending, row);
		if (row->key.enqueued_at >= look->groups->scan->expired_before)
			return true;
	}
	return false;
}

static int
compare_rows(const void *a, const void *b)
{
	TimestampTz x = ((const Row *) a)->key.enqueued_at;
	TimestampTz y = ((const Row *) b)->key.enqueued_at;

	return x < y ? -1 : x > y;
}

/* Read the held rows; false if the group is blocked by one. */
static bool
read_held(Look *look)
{
	CmqTake    *take = look->groups->take;
	Row			row;

	look->nheld = look->next_held = 0;
	cmq_group_scan_range(&take->pending->table, look->group, look->bounds->ready,
						 DT_NOEND, false);
	while (next_alive(look, &row))
	{
		if (row.closed || row.key.visible_at > take->now)
		{
			look->seen->soon = row.closed;
			look->seen->until = row.closed ? DT_NOBEGIN :
				Min(row.key.visible_at, row.key.enqueued_at +
					take->queue->msg_retention_seconds * USECS_PER_SEC);
			return false;
		}
		if (look->nheld == look->maxheld)
		{
			look->maxheld = Max(look->maxheld * 2, 16);
			look->held = look->held ?
				repalloc(look->held, look->maxheld * sizeof(Row)) :
				palloc(look->maxheld * sizeof(Row));
		}
		look->held[look->nheld++] = row;
	}
	if (look->nheld > 1)
		qsort(look->held, look->nheld, sizeof(Row), compare_rows);
	return true;
}

/*
 * Move to the next waiting row.  An index scan takes in all that matches on a page, so the
 * first one goes up to the row that was met; another one reads what is behind it, if that
 * is wanted.
 */
static void
next_waiting(Look *look)
{
	CmqTake    *take = look->groups->take;

	look->has_waiting = next_alive(look, &look->waiting);
	if (look->has_waiting || !look->to_met)
		return;
	look->to_met = false;
	cmq_group_scan_range(&take->pending->table, CMQ_GROUP_WAITING(look->group),
						 look->bounds->met + 1, take->now, true);
	look->has_waiting = next_alive(look, &look->waiting);
}

static void
read_waiting(Look *look)
{
	CmqTake    *take = look->groups->take;

	look->to_met = look->bounds->met < take->now;
	cmq_group_scan_range(&take->pending->table, CMQ_GROUP_WAITING(look->group),
						 look->bounds->ready,
						 look->to_met ? look->bounds->met : take->now, true);
	next_waiting(look);
}

/* The rewind table of a leaf of the queue, opened; NULL if it is gone. */
static CmqTable *
open_leaf(CmqGroupTake *groups, int i)
{
	CmqQueue   *queue = groups->take->queue;

	if (groups->leaves == NULL)
	{
		groups->leaves = palloc(queue->nleaves * sizeof(CmqTable));
		groups->leaf_is_open = palloc0(queue->nleaves * sizeof(bool));
	}
	if (!groups->leaf_is_open[i])
		groups->leaf_is_open[i] =
			cmq_table_open(&groups->leaves[i], NULL, queue, queue->leaves[i].rewind,
						   CMQ_REWIND, RowExclusiveLock);
	return groups->leaf_is_open[i] ? &groups->leaves[i] : NULL;
}

/* Move to the next due row. */
static void
next_due(Look *look)
{
	CmqGroupTake *groups = look->groups;
	CmqQueue   *queue = groups->take->queue;
	const CmqRewind *rewinding = &queue->rewinding;
	TimestampTz from = Max(Max(rewinding->from, groups->scan->expired_before),
						   look->bounds->due);

	look->has_due = false;
	for (; rewinding->active && look->leaf < queue->nleaves; look->leaf++)
	{
		CmqTable   *table;

		if (!cmq_due_reaches(rewinding, &queue->leaves[look->leaf], from) ||
			(table = open_leaf(groups, look->leaf)) == NULL)
			continue;
		if (!look->leaf_is_read)
			cmq_group_scan_range(table, look->group, from,
								 rewinding->rewound_at, false);
		look->leaf_is_read = true;
		while (cmq_group_scan_next(table))
		{
			/* nobody adds what is due */
			if (table->foreign || !cmq_slot_is_due(rewinding, table->group_slot))
				continue;
			get_row(table, &look->due);
			look->has_due = true;
			return;
		}
		look->leaf_is_read = false;
	}
}

/* Read the beginning of each of the three; false if the group is blocked. */
static bool
read_group(Look *look)
{
	CmqSharedQueue *shared = look->groups->take->queue->shared;

	for (;;)
	{
		uint32		nmoves = cmq_group_events_moves(shared);

		CHECK_FOR_INTERRUPTS();
		if (!read_held(look))
			return false;
		look->leaf = 0;
		look->leaf_is_read = false;
		next_due(look);
		read_waiting(look);
		if (nmoves == cmq_group_events_moves(shared))
			return true;
	}
}

/* The earliest row that is left, or NULL. */
static Row *
earliest(Look *look)
{
	Row		   *row = look->next_held < look->nheld ?
		&look->held[look->next_held] : NULL;

	if (look->has_due &&
		(row == NULL || look->due.key.enqueued_at < row->key.enqueued_at))
		row = &look->due;
	if (look->has_waiting &&
		(row == NULL || look->waiting.key.enqueued_at < row->key.enqueued_at))
		row = &look->waiting;
	return row;
}

static void
go_on(Look *look, const Row *row)
{
	if (row == &look->due)
		next_due(look);
	else if (row == &look->waiting)
		next_waiting(look);
	else
		look->next_held++;
}

typedef enum Taken
{
	TAKEN,
	PASSED,						/* it is none any more */
	DEAD,
	DEAD_STAYS,
	NOT_TAKEN
} Taken;

static bool
is_at(CmqTable *table, const Row *row)
{
	TupleTableSlot *slot = table->slot;
	CmqPendingKey key;

	if (table->kind == CMQ_REWIND)
		return cmq_slot_time(slot, Anum_rewind_enqueued_at) == row->key.enqueued_at;
	cmq_slot_key(slot, &key);
	return key.visible_at == row->key.visible_at &&
		key.enqueued_at == row->key.enqueued_at;
}

static int
compare_chosen(const void *a, const void *b)
{
	TimestampTz x = *(const TimestampTz *) a;
	TimestampTz y = ((const CmqFound *) b)->time;

	return x < y ? -1 : x > y;
}

/* Does the caller want the message of this time? */
static bool
is_chosen(const CmqGroupTake *groups, TimestampTz time)
{
	return groups->chosen == NULL ||
		bsearch(&time, groups->chosen, groups->nchosen, sizeof(CmqFound),
				compare_chosen) != NULL;
}

/*
 * Take the message whose row the table stands at; behind_dead: it has to wait for a dead
 * one, unless it is dead, too.
 */
static Taken
take_row(CmqGroupTake *groups, const Row *row, bool behind_dead)
{
	CmqTake    *take = groups->take;
	bool		taken;

	if (row->table->kind == CMQ_PENDING &&
		cmq_dead_letter_reason(take->queue, row->table->slot, take->now) != NULL)
		return cmq_candidates_letter(groups->scan, &row->key) ? DEAD : DEAD_STAYS;
	if (behind_dead || !is_chosen(groups, row->key.enqueued_at))
		return NOT_TAKEN;
	row->table->busy = false;
	taken = row->table->kind == CMQ_PENDING ? cmq_take_ready(take) :
		cmq_take_due(take, row->table);
	if (taken)
		cmq_candidates_taken(groups->scan);
	return taken ? TAKEN : take->gone ? PASSED : NOT_TAKEN;
}

/* Take the message of this row; the scan by time stays where it is. */
static Taken
take_at(CmqGroupTake *groups, const Row *row, bool behind_dead)
{
	CmqTable   *table = row->table;
	TupleTableSlot *slot = table->slot;
	ItemPointerData tid = row->tid;
	Taken		taken = NOT_TAKEN;
	bool		there = table->group_slot && !TTS_EMPTY(table->group_slot) &&
		ItemPointerEquals(&table->group_slot->tts_tid, &tid);

	/* the scan by group mostly stands at the row */
	if (there)
		table->slot = table->group_slot;
	else if (table->kind == CMQ_PENDING)
	{
		if (groups->slot == NULL)
			groups->slot = table_slot_create(table->rel, NULL);
		table->slot = groups->slot;
	}
	if ((there || cmq_table_fetch(table, &tid)) && is_at(table, row))
		taken = take_row(groups, row, behind_dead);
	table->slot = slot;
	return taken;
}

/*
 * May an earlier message of the group come than the one of this time?  Whoever ends that
 * wakes a waiter, perhaps this one, or has ended it just now (cmq_group_events.c).
 */
static bool
is_closed(Look *look, TimestampTz time)
{
	CmqGroupTake *groups = look->groups;
	CmqSharedQueue *shared = groups->take->queue->shared;
	uint64		bit = CMQ_GROUP_BIT(look->group);
	CmqWindows	now;

	if (!cmq_windows_close_to(&groups->windows, time, bit))
		return false;
	cmq_group_events_close(shared);
	cmq_windows_read(shared, &now);
	if (!cmq_windows_close_to(&now, time, bit))
		cmq_wait_signal(shared, 1, false);
	return true;
}

/* Take what can be had of the group, so many messages at most. */
static void
take_messages(Look *look, int max)
{
	CmqGroupTake *groups = look->groups;
	CmqTake    *take = groups->take;
	int			most = take->n + max;
	bool		behind_dead = false;
	Row		   *row;

	while (take->n < most && (row = earliest(look)) != NULL)
	{
		Taken		taken = NOT_TAKEN;

		CHECK_FOR_INTERRUPTS();
		if (!row->closed && !is_closed(look, row->key.enqueued_at))
			taken = take_at(groups, row, behind_dead);
		if (taken == NOT_TAKEN || taken == DEAD_STAYS)
		{
			look->seen->soon = taken == NOT_TAKEN && !behind_dead && !take->unwanted;
			break;
		}
		if (taken == DEAD)
		{
			behind_dead = true;
			look->seen->ready = Min(look->seen->ready, row->key.visible_at);
		}
		go_on(look, row);
	}
}

/* Note the earliest rows that were not taken. */
static void
note_left(Look *look)
{
	CmqGroupSeen *seen = look->seen;

	for (int i = look->next_held; i < look->nheld; i++)
		seen->ready = Min(seen->ready, look->held[i].key.visible_at);
	if (look->has_waiting)
		seen->ready = Min(seen->ready, look->waiting.key.visible_at);
	if (look->has_due)
		seen->due = look->due.key.enqueued_at;
}

/*
 * Take up to max messages of the group of this hash; returns how many, and in *seen what
 * was found.  Each group once in a call.
 */
int
cmq_group_take(CmqGroupTake *groups, int64 group, const CmqGroupBounds *bounds,
			   int max, CmqGroupSeen *seen)
{
	CmqTake    *take = groups->take;
	CmqSharedQueue *shared = take->queue->shared;
	Look		look = {
		.groups = groups,
		.group = group,
		.bounds = bounds,
		.seen = seen
	};
	int			n = take->n;
	int			nrows = n + take->nunreadable;
	uint32		ncrossings;
	LOCKTAG		tag;

	seen->ready = seen->due = DT_NOBEGIN;
	seen->until = DT_NOBEGIN;
	seen->event = cmq_group_events_count(shared, group);
	seen->soon = !lock_group(groups, group, &tag);
	if (seen->soon)
		return 0;
	ncrossings = cmq_group_events_crossings(shared);
	if (read_group(&look))
	{
		seen->ready = seen->due = DT_NOEND;
		take_messages(&look, max);
		note_left(&look);
	}
	if (look.held)
		pfree(look.held);

	if (take->n + take->nunreadable == nrows)
	{
		LockRelease(&tag, ExclusiveLock, false);
		if (cmq_group_events_crossings(shared) != ncrossings)
			cmq_wait_signal(shared, 1, false);
	}
	else if (take->request->consume)
	{
		groups->nconsumed++;
		cmq_xact_keeps_group(shared);
	}
	else

		/*
		 * for how long that blocks the group the next look says: it may
		 * expire
		 */
		groups->locks[groups->nlocks++] = tag;
	return take->n - n;
}

/* Take the message of a row of the pending table that is free of order; false if not. */
bool
cmq_group_take_free(CmqGroupTake *groups, ItemPointer tid,
					const CmqPendingKey *key)
{
	Row			row = {
		.table = &groups->take->pending->table,
		.tid = *tid,
		.key = *key
	};

	return take_at(groups, &row, false) == TAKEN;
}
