/*-------------------------------------------------------------------------
 *
 * cmq_pending.c
 *	  Pending rows: each that comes, goes or moves, with all that follows.
 *
 * The pending table is not all that tells of pending messages.  Shared memory says where
 * receives begin to look (cmq_floor.c) and how old the earliest message may be
 * (cmq_earliest.c), counts the rows (cmq_count.c), and knows the receives that wait
 * (cmq_wait.c).  Only this file writes pending rows; each function that does so changes
 * all of its line.  What holds for all rows of a call is said by cmq_pending_expect_back()
 * before, if they are brought back, and by cmq_pending_flush() after:
 *
 *					floor			earliest	number	wakes: commit	abort
 *	add_new			slot			-			+1		for each *		-
 *	deliver			slot, taken		-			0		one				for each
 *	deliver_due		slot, taken due	at commit	+1		one				for each
 *	bring_back		slot, lowered	lowered		+1		for each		for each
 *	change_visib.	slot, taken		-			0		for each *		for each
 *	release			slot, taken		-			0		for each *		for each
 *	take			taken			taken		-1		-				for each
 *	take_due		taken due		-			-		-				for each
 *	take_expired	-				taken		-1		-				-
 *
 * (* Those that are delayed wake one together.)  Slot: a time in the process's slot, from
 * before the row is written.  Taken: noted, for the abort.  Lowered: at once, or the floor
 * at commit.  deliver_due and take_due also take one from the number of due rows.
 *
 * For a message of a group, each of these also says that something happens to the group
 * (cmq_group_events.c); add_new wakes one at abort, too, and take and take_due one at
 * commit, because later messages of the group have waited for this one.
 *
 *		All that shared memory says about pending rows is true for each
 *		transaction that sees them, whether this one commits or aborts.
 *
 * Ways to break that, and what is done:
 *
 * 1. A row is added with a time that a receive has passed already.  Opening the table
 *	  for additions announces the backend in its slot, before the clock is read for
 *	  them.  The smallest time is published there before the first row is kept back:
 *	  otherwise adding a row is an error.  Closing the table withdraws the time if no
 *	  row was added.  Messages that are brought back have times long gone, so the floor
 *	  and the mark are lowered to them.
 *
 * 2. An abort gives a row back that receives have passed already.  So each function
 *	  that takes a row away notes its visible_at.  Only a function that takes the
 *	  message away, too, notes its enqueued_at: a delivery's row has the same one.
 *
 * 3. An abort gives an expired row back.  No receive returns its message, so the row
 *	  holds no floor and wakes nobody.  It holds the mark, which is below expired rows,
 *	  too.
 *
 * 4. A receive waits while there is a message for it.  Each ready row that is added,
 *	  and each that an abort gives back, wakes one.  Rows that become ready later wake
 *	  one for all of them, which plans for the first.
 *
 * 5. A row that was kept back is not written.  Closing the table is an error then.
 *
 * 6. Rows are written by others.  The triggers of cmq_changes.c call
 *	  cmq_pending_removed() and cmq_pending_added(), whose effects are those of take
 *	  and, but for the wake at abort, of bring_back; the queue clock is kept above them.
 *
 * Locks: RowExclusive on the pending table.  Abort: each of the modules named above
 * undoes what it was told in the transaction or subtransaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "storage/lockdefs.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_group.h"
#include "base/cmq_handle.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_earliest.h"
#include "memory/cmq_group_events.h"
#include "memory/cmq_mark.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"
#include "store/cmq_description.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_recent.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

static void
open_table(CmqPending *pending, CmqQueue *queue, bool adds, CmqPending *first)
{
	pending->queue = queue;
	pending->adds = adds;
	pending->published = pending->changed = false;
	pending->first = first;
	pending->topics = NULL;
	pending->nadded = pending->nmore = pending->nready = 0;
	pending->estate = first ? first->estate : CreateExecutorState();
	if (!cmq_table_open(&pending->table, adds ? pending->estate : NULL, queue,
						queue->pending, CMQ_PENDING, RowExclusiveLock))
	{
		/* code of an owner's has dropped it: an error */
		(void) cmq_queue_again(queue);
		elog(ERROR, "pending table of queue \"%s\" vanished", queue->name);
	}
}

/*
 * Open the pending table of a queue that the caller has locked and attached.  With adds
 * rows can be added and moved: then the queue clock is read for them after this; a time
 * that was read before is good to compare with alone.
 */
void
cmq_pending_open(CmqPending *pending, CmqQueue *queue, bool adds)
{
	open_table(pending, queue, adds, NULL);
	if (adds)
		pending->announcement = cmq_xact_announce();
}

/*
 * The same, with adds, for a queue that gets new rows of the same times as another one,
 * whose table was opened first and is closed last: it has announced this.
 */
void
cmq_pending_open_beside(CmqPending *pending, CmqQueue *queue, CmqPending *first)
{
	open_table(pending, queue, true, first);
}

static bool
is_published(const CmqPending *pending)
{
	return (pending->first ? pending->first : pending)->published;
}

/* No row that is added is visible, or was produced, before this. */
static void
publish(CmqPending *pending, TimestampTz time)
{
	Assert(!is_published(pending));
	cmq_xact_publish(time);
	(pending->first ? pending->first : pending)->published = true;
}

/* Write the rows that were kept back, and note where the deliveries lie (cmq_recent.c). */
static void
write_rows(CmqPending *pending)
{
	int			n = cmq_table_flush(&pending->table);

	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *slot = pending->table.newslots[i];

		if (cmq_slot_int(slot, Anum_pending_receive_count) > 0)
			cmq_recent_note(pending->queue->pending,
							cmq_slot_time(slot, Anum_pending_visible_at),
							cmq_slot_time(slot, Anum_pending_enqueued_at),
							&slot->tts_tid);
	}
}

/* Write the rows that were kept back, and say what follows from all that were added. */
void
cmq_pending_flush(CmqPending *pending)
{
	CmqSharedQueue *shared = pending->queue->shared;

	if (pending->nadded == 0)
		return;
	/* for rows that become ready later somebody must plan */
	cmq_xact_wake(shared, pending->nready == 0 ? 1 :
				  (int) Min(pending->nready, PG_INT32_MAX), 0);
	if (pending->nmore > 0)
		cmq_xact_pending(shared, pending->nmore);
	pending->nadded = pending->nmore = pending->nready = 0;
	write_rows(pending);
}

/* Close the table, after a flush. */
void
cmq_pending_close(CmqPending *pending)
{
	if (pending->nadded > 0)
		elog(ERROR, "pending rows of queue \"%s\" were not written",
			 pending->queue->name);
	if (pending->first)
		pending->first->changed |= pending->changed;
	else if (pending->adds && !pending->changed)
	{
		if (!is_published(pending))
			publish(pending, DT_NOEND);
		cmq_xact_withdraw(pending->announcement);
	}
	cmq_table_close(&pending->table);
	if (pending->first)
		return;
	FreeExecutorState(pending->estate);
	if (pending->changed)
		CommandCounterIncrement();
}

/* The name of a topic as a value that stays until the table is closed. */
Datum
cmq_pending_topic(CmqPending *pending, const char *topic)
{
	CmqTopicName *name;
	MemoryContext old;

	if (topic[0] == '\0')
		return (Datum) 0;
	/* a queue has messages of a few topics */
	for (name = pending->topics; name; name = name->next)
	{
		if (strcmp(name->name, topic) == 0)
			return name->datum;
	}
	old = MemoryContextSwitchTo(pending->estate->es_query_cxt);
	name = palloc(sizeof(CmqTopicName));
	strlcpy(name->name, topic, NAMEDATALEN);
	name->datum = CStringGetTextDatum(topic);
	name->next = pending->topics;
	pending->topics = name;
	MemoryContextSwitchTo(old);
	return name->datum;
}

/*
 * Does the message wait for its first delivery, since it was sent or brought back?  Then it
 * is visible since its production, so such rows of a group are in order.
 */
static bool
waits_in_order(const CmqPendingRow *row)
{
	return row->receive_count == 0 && row->change_count == 0 &&
		row->visible_at == row->enqueued_at;
}

static void
row_values(CmqPending *pending, const CmqPendingRow *row, Datum *values,
		   bool *isnull)
{
	memset(isnull, false, Natts_pending * sizeof(bool));
	values[Anum_pending_visible_at - 1] = TimestampTzGetDatum(row->visible_at);
	values[Anum_pending_enqueued_at - 1] = TimestampTzGetDatum(row->enqueued_at);
	values[Anum_pending_first_received_at - 1] =
		TimestampTzGetDatum(row->first_received_at);
	isnull[Anum_pending_first_received_at - 1] =
		row->first_received_at == DT_NOBEGIN;
	values[Anum_pending_receive_count - 1] = Int32GetDatum(row->receive_count);
	values[Anum_pending_rewind_count - 1] = Int32GetDatum(row->rewind_count);
	values[Anum_pending_change_count - 1] = Int32GetDatum(row->change_count);
	/* a NULL takes no space, and most rows have none */
	isnull[Anum_pending_change_count - 1] = row->change_count == 0;
	values[Anum_pending_delayed_until - 1] =
		TimestampTzGetDatum(row->delayed_until);
	isnull[Anum_pending_delayed_until - 1] = row->delayed_until == 0;
	values[Anum_pending_group_key - 1] =
		Int64GetDatum(waits_in_order(row) ? CMQ_GROUP_WAITING(row->group) :
					  row->group);
	isnull[Anum_pending_group_key - 1] = !row->has_group;
	values[Anum_pending_topic - 1] = cmq_pending_topic(pending, row->topic);
	isnull[Anum_pending_topic - 1] = row->topic[0] == '\0';
}

/*
 * What happens to the row is of interest for its group, when the transaction ends; so many
 * waiters look at the group if it commits.
 */
static void
changes_group(CmqQueue *queue, const CmqPendingRow *row, int wake)
{
	if (!row->has_group)
		return;
	cmq_xact_group_changed(queue->shared, row->group);
	cmq_xact_wake(queue->shared, wake, 0);
}

/* A message of the group has left, or was moved: this transaction may have the next one. */
static void
may_be_free(CmqQueue *queue, const CmqPendingRow *row)
{
	if (row->has_group)
		cmq_group_events_happened(queue->shared, row->group);
}

/* A row is about to be added or moved. */
static void
check_published(CmqPending *pending)
{
	if (!is_published(pending))
		elog(ERROR, "times of pending rows of queue \"%s\" were not published",
			 pending->queue->name);
}

/* more: the table gets one more row; ready: the message can be received at commit. */
static void
count_row(CmqPending *pending, bool more, bool ready)
{
	pending->nadded++;
	pending->nmore += more;
	pending->nready += ready;
	pending->changed = true;
}

/* Add a row; more and ready are those of count_row(). */
static void
add_row(CmqPending *pending, const CmqPendingRow *row, bool more, bool ready)
{
	Datum		values[Natts_pending];
	bool		isnull[Natts_pending];

	check_published(pending);
	row_values(pending, row, values, isnull);
	if (cmq_table_insert(&pending->table, values, isnull, CMQ_NARROW_ROW_SIZE))
		write_rows(pending);
	count_row(pending, more, ready);
}

/*
 * Add the row of a new message, which has just got its time from the queue clock; the
 * first one gets the smallest.  The message is ready at once, or, if that is later, from
 * not_before on; DT_NOBEGIN: at once.  group is that of the message, or NULL; topic the
 * one in whose journal it is, or NULL.
 */
void
cmq_pending_add_new(CmqPending *pending, TimestampTz enqueued_at,
					TimestampTz not_before, const int64 *group,
					const char *topic)
{
	CmqPendingRow row = {
		.visible_at = Max(enqueued_at, not_before),
		.enqueued_at = enqueued_at,
		.first_received_at = DT_NOBEGIN
	};
	bool		ready = row.visible_at == enqueued_at;

	if (!ready)
		row.delayed_until = row.visible_at;
	if (topic)
		strlcpy(row.topic, topic, NAMEDATALEN);
	if (group)
	{
		row.has_group = true;
		row.group = *group;
		/* later ones of the group have waited for it */
		changes_group(pending->queue, &row, 0);
		cmq_xact_wake(pending->queue->shared, 0, 1);
	}
	/* the time without the delay, because cmq_earliest.c needs it */
	if (!is_published(pending))
		publish(pending, enqueued_at);
	add_row(pending, &row, true, ready);
}

/*
 * Read the queue clock, and publish: deliveries are made at the time that this returns,
 * and become visible again after so many seconds.  Once for each opening of the table.
 */
TimestampTz
cmq_pending_set_times(CmqPending *pending, int visibility_timeout)
{
	pending->now = cmq_clock_now(pending->queue->shared);
	pending->next_visible_at =
		pending->now + visibility_timeout * USECS_PER_SEC;
	publish(pending, pending->next_visible_at);
	return pending->now;
}

/* The current transaction has taken a row away that could be received. */
static void
taken(CmqQueue *queue, TimestampTz visible_at)
{
	cmq_xact_taken(queue->shared, visible_at);
	cmq_xact_wake(queue->shared, 0, 1);
}

/* The group of the pending row in a slot. */
static void
read_group(TupleTableSlot *slot, CmqPendingRow *row)
{
	row->has_group = cmq_slot_group(slot, Anum_pending_group_key, &row->group);
	if (row->has_group)
		row->group = CMQ_GROUP_HASH(row->group);
}

static void
increment(int *count)
{
	if (*count < PG_INT32_MAX)
		(*count)++;
}

/* The message of the row, which its caller takes, is received at this time. */
void
cmq_pending_receive(CmqPendingRow *row, TimestampTz now)
{
	if (row->first_received_at == DT_NOBEGIN)
		row->first_received_at = now;
	increment(&row->receive_count);
}

/*
 * Deliver the message of the ready row that the table stands at: the row is replaced by
 * that of the delivery, which is put into *row.  Waits for nobody; false if another
 * transaction has changed the row or is changing it.
 */
bool
cmq_pending_deliver(CmqPending *pending, CmqPendingRow *row)
{
	cmq_pending_row(pending->table.slot, row);
	if (cmq_table_delete(&pending->table, false) != TM_Ok)
		return false;
	taken(pending->queue, row->visible_at);
	changes_group(pending->queue, row, 0);
	row->visible_at = pending->next_visible_at;
	cmq_pending_receive(row, pending->now);
	add_row(pending, row, false, false);
	return true;
}

/*
 * Take the row of a due message away that this rewind table stands at; *row becomes its
 * pending row as if the rewind had put it there: its life starts anew.  Waits for nobody;
 * false if another transaction has changed the row or is changing it.
 */
static bool
claim_due(CmqPending *pending, CmqTable *rewind, CmqPendingRow *row)
{
	row->visible_at = row->enqueued_at = cmq_slot_time(rewind->slot,
													   Anum_rewind_enqueued_at);
	row->first_received_at = DT_NOBEGIN;
	row->receive_count = 0;
	row->rewind_count = cmq_slot_int(rewind->slot, Anum_rewind_rewind_count);
	increment(&row->rewind_count);
	row->change_count = 0;
	row->delayed_until = 0;
	cmq_slot_topic(rewind->slot, Anum_rewind_topic, row->topic);
	row->has_group = cmq_slot_group(rewind->slot, Anum_rewind_group_hash,
									&row->group);
	if (rewind->busy || cmq_table_delete(rewind, false) != TM_Ok)
		return false;
	pending->changed = true;
	cmq_xact_wake(pending->queue->shared, 0, 1);
	return true;
}

/* The same as cmq_pending_deliver() for a row of this rewind table that is due. */
bool
cmq_pending_deliver_due(CmqPending *pending, CmqTable *rewind,
						CmqPendingRow *row)
{
	CmqQueue   *queue = pending->queue;

	if (!claim_due(pending, rewind, row))
		return false;
	changes_group(queue, row, 0);
	cmq_xact_delivered_due(queue->shared, queue->rewinding.rewound_at,
						   row->enqueued_at);
	row->visible_at = pending->next_visible_at;
	cmq_pending_receive(row, pending->now);
	add_row(pending, row, true, false);
	return true;
}

/* Rows come with times long gone, none before these; the caller has published them. */
static void
lower_marks(CmqQueue *queue, TimestampTz visible_at, TimestampTz enqueued_at)
{
	cmq_xact_lower_floor(queue->shared, visible_at);

	/*
	 * others have to wait for rows that are not committed yet, so they must
	 * meet them
	 */
	if (queue->ordered)
		cmq_mark_lower(queue->shared, CMQ_FLOOR, visible_at);
	cmq_earliest_lower(queue->shared, enqueued_at);
}

/* Messages are brought back, as of now; none of them was produced before first. */
void
cmq_pending_expect_back(CmqPending *pending, TimestampTz first, TimestampTz now)
{
	pending->now = now;
	publish(pending, first);
	lower_marks(pending->queue, first, first);
}

/*
 * Make the deleted message ready again whose rewind row this table stands at.  Waits for
 * a transaction that is changing the row; false if one has, and nothing was done.  Until
 * the message is received, first_received_at says when it was brought back.
 */
bool
cmq_pending_bring_back(CmqPending *pending, CmqTable *rewind)
{
	CmqPendingRow row = {
		.visible_at = cmq_slot_time(rewind->slot, Anum_rewind_enqueued_at),
		.enqueued_at = cmq_slot_time(rewind->slot, Anum_rewind_enqueued_at),
		.first_received_at = pending->now,
		.rewind_count = cmq_slot_int(rewind->slot, Anum_rewind_rewind_count)
	};

	cmq_slot_topic(rewind->slot, Anum_rewind_topic, row.topic);
	row.has_group = cmq_slot_group(rewind->slot, Anum_rewind_group_hash, &row.group);
	if (cmq_table_delete(rewind, true) != TM_Ok)
		return false;
	changes_group(pending->queue, &row, 0);
	/* it may be due to all others, if we have cancelled a rewind */
	cmq_xact_wake(pending->queue->shared, 0, 1);
	increment(&row.rewind_count);
	add_row(pending, &row, true, true);
	return true;
}

/*
 * Take the row away that the table stands at, for good.  False if another transaction
 * has changed the row, or, without wait, is changing it.
 */
bool
cmq_pending_take(CmqPending *pending, bool wait)
{
	CmqPendingKey key;
	CmqPendingRow row;

	cmq_slot_key(pending->table.slot, &key);
	read_group(pending->table.slot, &row);
	if (cmq_table_delete(&pending->table, wait) != TM_Ok)
		return false;
	cmq_pending_removed(pending->queue, &key);
	changes_group(pending->queue, &row, 1);
	may_be_free(pending->queue, &row);
	pending->changed = true;
	return true;
}

/*
 * Take the row of a message away that is due and does not become pending: the caller
 * writes what it becomes.  *row is as its pending row would be; false as for
 * cmq_pending_deliver().
 */
bool
cmq_pending_take_due(CmqPending *pending, CmqTable *rewind, CmqPendingRow *row)
{
	CmqQueue   *queue = pending->queue;

	if (!claim_due(pending, rewind, row))
		return false;
	changes_group(queue, row, 1);
	may_be_free(queue, row);
	cmq_xact_consumed_due(queue->shared, queue->rewinding.rewound_at,
						  row->enqueued_at);
	return true;
}

/*
 * The same as cmq_pending_take() for a row that nobody can receive any more; waits for
 * nobody.
 */
bool
cmq_pending_take_expired(CmqPending *pending)
{
	TimestampTz enqueued_at = cmq_slot_time(pending->table.slot,
											Anum_pending_enqueued_at);

	if (cmq_table_delete(&pending->table, false) != TM_Ok)
		return false;
	cmq_xact_taken_message(pending->queue->shared, enqueued_at);
	cmq_xact_pending(pending->queue->shared, -1);
	pending->changed = true;
	return true;
}

/*
 * Move the delivery that the table stands at: *row is its row with another visible_at.
 * The handle goes stale for good, even if that time happens to be one that it had before
 * (cmq_handle.c).  Waits for a transaction that is changing the old row; false if one
 * has, and nothing was done.
 */
static bool
move_row(CmqPending *pending, CmqPendingRow *row)
{
	Datum		values[Natts_pending];
	bool		isnull[Natts_pending];
	ItemPointerData tid;

	check_published(pending);
	increment(&row->change_count);
	row_values(pending, row, values, isnull);

	/*
	 * before the update, which can fail when the old row is gone for our own
	 * scans
	 */
	taken(pending->queue, cmq_slot_time(pending->table.slot,
										Anum_pending_visible_at));
	changes_group(pending->queue, row, 0);
	if (cmq_table_update(&pending->table, values, isnull, &tid) != TM_Ok)
		return false;
	if (row->has_group)
		cmq_group_events_moved(pending->queue->shared);
	may_be_free(pending->queue, row);
	cmq_recent_note(pending->queue->pending, row->visible_at, row->enqueued_at,
					&tid);
	count_row(pending, false, row->visible_at <= pending->now);
	return true;
}

/*
 * Have the delivery that the table stands at become visible at the time that
 * cmq_pending_set_times() has set; the new row is put into *row.  Waits, and false, as
 * for move_row().
 */
bool
cmq_pending_change_visibility(CmqPending *pending, CmqPendingRow *row)
{
	cmq_pending_row(pending->table.slot, row);
	row->visible_at = pending->next_visible_at;
	return move_row(pending, row);
}

/*
 * Give back the delivery that the table stands at: its message is ready so many seconds
 * from the time of the call on, which cmq_pending_set_times() has read.  Unless it
 * counts the delivery has not been: a message that was not received otherwise, since it
 * was sent or brought back, is as one that comes to its visible_at for the first time.
 * Waits, and false, as for move_row().
 */
bool
cmq_pending_release(CmqPending *pending, int delay, bool counted)
{
	CmqPendingRow row;

	cmq_pending_row(pending->table.slot, &row);
	row.visible_at = pending->now + delay * USECS_PER_SEC;
	if (!counted && --row.receive_count == 0)
		row.first_received_at = DT_NOBEGIN;
	return move_row(pending, &row);
}

/* The row of this key, which could be received, has been deleted. */
void
cmq_pending_removed(CmqQueue *queue, const CmqPendingKey *key)
{
	taken(queue, key->visible_at);
	cmq_xact_taken_message(queue->shared, key->enqueued_at);
	cmq_xact_pending(queue->shared, -1);
}

/* Somebody else has added the row of this key, whose times may be any. */
void
cmq_pending_added(CmqQueue *queue, const CmqPendingKey *key)
{
	(void) cmq_xact_announce();
	cmq_xact_publish(Min(key->visible_at, key->enqueued_at));
	lower_marks(queue, key->visible_at, key->enqueued_at);
	cmq_clock_advance(queue->shared, key->enqueued_at);
	cmq_xact_pending(queue->shared, 1);
	cmq_xact_wake(queue->shared, 1, 0);
}

static bool
is_delivery(TupleTableSlot *slot, const CmqHandle *handle)
{
	return cmq_slot_time(slot, Anum_pending_visible_at) == handle->visible_at &&
		cmq_slot_time(slot, Anum_pending_enqueued_at) == handle->enqueued_at &&
		cmq_slot_int(slot, Anum_pending_receive_count) == handle->receive_count &&
		cmq_slot_int(slot, Anum_pending_rewind_count) == handle->rewind_count &&
		cmq_slot_int(slot, Anum_pending_change_count) == handle->change_count;
}

/* Find the row of the delivery that the handle names; false if there is none. */
bool
cmq_pending_find(CmqPending *pending, const CmqHandle *handle)
{
	CmqTable   *table = &pending->table;
	ItemPointer tid = cmq_recent_find(pending->queue->pending,
									  handle->visible_at, handle->enqueued_at);

	if (tid && cmq_table_fetch(table, tid) && is_delivery(table->slot, handle))
		return true;
	return cmq_table_find(table, handle->visible_at, handle->enqueued_at) &&
		is_delivery(table->slot, handle);
}

/*
 * Scan the rows whose visible_at is in [from, until]; of these, if behind is not NULL, the
 * rows behind the one of that key.
 */
void
cmq_pending_scan(CmqTable *table, const CmqPendingKey *behind,
				 TimestampTz from, TimestampTz until)
{
	if (behind && behind->visible_at >= from)
		cmq_table_after(table, behind, until);
	else
		cmq_table_range(table, from, until, true);
}

/*
 * Move on to the next row of a message that has not expired, into *key; false at the end
 * of the scan.
 */
bool
cmq_pending_next(CmqTable *table, TimestampTz expired_before,
				 CmqPendingKey *key)
{
	while (cmq_table_next(table))
	{
		cmq_slot_key(table->slot, key);
		if (key->enqueued_at >= expired_before)
			return true;
	}
	return false;
}

/* The pending row in a slot. */
void
cmq_pending_row(TupleTableSlot *slot, CmqPendingRow *row)
{
	row->visible_at = cmq_slot_time(slot, Anum_pending_visible_at);
	row->enqueued_at = cmq_slot_time(slot, Anum_pending_enqueued_at);
	row->first_received_at = cmq_slot_first_received(slot);
	row->receive_count = cmq_slot_int(slot, Anum_pending_receive_count);
	row->rewind_count = cmq_slot_int(slot, Anum_pending_rewind_count);
	row->change_count = cmq_slot_int(slot, Anum_pending_change_count);
	row->delayed_until = cmq_slot_time(slot, Anum_pending_delayed_until);
	if (row->delayed_until == DT_NOBEGIN)
		row->delayed_until = 0;
	cmq_slot_topic(slot, Anum_pending_topic, row->topic);
	read_group(slot, row);
}

/* The handle of the delivery that has left this row. */
void
cmq_pending_handle(const CmqPendingRow *row, CmqHandle *handle)
{
	handle->enqueued_at = row->enqueued_at;
	handle->visible_at = row->visible_at;
	handle->receive_count = row->receive_count;
	handle->rewind_count = row->rewind_count;
	handle->change_count = row->change_count;
}
