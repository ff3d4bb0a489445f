/*-------------------------------------------------------------------------
 *
 * cmq_outgoing.c
 *	  Write messages into a queue, or into several at the same times.
 *
 * A message takes its id, which is its time, from the queue clock.  Two rows are written:
 * the message itself, which is never written again, into the leaf of its time, and a
 * narrow pending row, which says from when on the message can be received.  Where messages
 * have keys, cmq_once.c says before which of them are duplicates of others, and are not
 * written.
 *
 * What is published has one time, and so one id, in all queues that get it, and in the
 * journal of the topic (cmq_journal.c).  It is later than all that their clocks have given
 * out, and moves them all there (cmq_clock_tick_all()).  The message is written once, into
 * the journal, and its pending rows name the topic; each queue needs a leaf all the same,
 * for its history.
 *
 * A window (cmq_window.c) holds up receives from all ordered queues that get the messages.
 * So leaves are open before it opens.  What can last in it is code of an owner's in indexes
 * of the tables that are written.
 *
 * Locks: RowExclusive on the pending tables and on the leaves that are written, AccessShare
 * on those of queues whose messages go into a journal.  Abort: nothing was sent;
 * the ids are not used again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lockdefs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/cmq_group.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_group_events.h"
#include "memory/cmq_notes.h"
#include "memory/cmq_types.h"
#include "memory/cmq_wait.h"
#include "memory/cmq_window.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_cache.h"
#include "store/cmq_counting.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_owner.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_shape.h"
#include "verbs/cmq_once.h"
#include "verbs/cmq_outgoing.h"

/* How many messages of a batch close their groups to newer ones at a time. */
#define WINDOW_MESSAGES 1000

/* Messages on their way into a queue. */
typedef struct Sending
{
	CmqQueue   *queue;
	const CmqOutgoing *out;
	CmqDelay	delay;
	CmqPending	pending;
	CmqLeafRows messages;
	CmqLeaf    *locked;			/* leaf of messages that are in a journal */
	TimestampTz time;			/* of the last message */
	int			n;				/* messages so far */
	int64		bytes;
	uint32		nclosings;		/* when the window was opened */
} Sending;

/* The same into several queues at the same times. */
typedef struct Sendings
{
	int			n;
	Sending    *each;
	int			nclocks;
	CmqSharedQueue **clocks;	/* of all of them, and of the journal */
	CmqQueue   *journal;		/* where the messages are written; NULL: they
								 * are written into leaves of the queues */
	EState	   *estate;
	CmqLeafRows rows;			/* of the journal */
	Datum		queues;			/* their names */
} Sendings;

static bool
has_room(CmqQueue *queue, int n)
{
	return cmq_counting_has_room(queue, n, queue->max_msg_heap_num);
}

/* Raise 53400; readable: the caller may read the queue. */
static void
report_full(CmqQueue *queue, bool readable)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("queue \"%s\" is full", queue->name),
			 readable ?
			 errdetail("Its max_msg_heap_num is %lld, and %lld messages are pending.",
					   (long long) queue->max_msg_heap_num,
					   (long long) cmq_counting_pending(queue)) : 0,
			 errhint("Receive and delete messages, or raise max_msg_heap_num with cmq_alter_queue.")));
}

/* Raise 53400 unless n more messages fit into the queue. */
void
cmq_outgoing_check_room(CmqQueue *queue, int n)
{
	if (!has_room(queue, n))
		report_full(queue, cmq_rights_is_readable(queue));
}

/*
 * Lock the queue's leaf of this time, for a message in a journal: nobody writes it, but a
 * leaf that is locked is not dropped before the pending row is there, and as long as the
 * queue has it the message stays (cmq_journal_drop.c).  False if there is none.
 */
static bool
lock_leaf(Sending *sending, TimestampTz time)
{
	CmqLeaf    *leaf = cmq_bounds_leaf(sending->messages.queue, time);

	if (leaf == NULL || leaf == sending->locked)
		return leaf != NULL;
	LockRelationOid(leaf->messages, AccessShareLock);
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(leaf->messages)))
		sending->locked = leaf;
	else
		/* dropped during a long pause of this process */
		cmq_cache_mark_stale(sending->queue->name);
	return sending->locked == leaf;
}

/*
 * Have the leaves of this time open that are written.  Returns where one is missing, or
 * NULL.
 */
static CmqLeafRows *
open_leaves(Sendings *all, TimestampTz time)
{
	for (int i = 0; i < all->n; i++)
	{
		Sending    *sending = &all->each[i];

		if (all->journal ? !lock_leaf(sending, time) :
			!cmq_leaf_rows_open(&sending->messages, time))
			return &sending->messages;
	}
	if (all->journal && !cmq_leaf_rows_open(&all->rows, time))
		return &all->rows;
	return NULL;
}

/*
 * Have the leaves of this time open; false if one was missing, or had been dropped during a
 * long pause of this process: then cmq_leaf_demand() has had it made, or raises an error.
 */
static bool
have_leaves(Sendings *all, TimestampTz time)
{
	CmqLeafRows *messages = open_leaves(all, time);

	if (messages == NULL)
		return true;
	if (cmq_bounds_leaf(messages->queue, time) == NULL)
		cmq_leaf_demand(messages->queue, time);
	CHECK_FOR_INTERRUPTS();
	messages->queue = cmq_queue_again(messages->queue);
	return false;
}

/*
 * Have the leaves of the present open before a window is opened, which holds up others: a
 * lock on a leaf, a worker that makes one and an owner's code in its indexes can all last.
 */
static void
open_present(Sendings *all)
{
	TimestampTz now;

	do
	{
		now = DT_NOBEGIN;
		for (int i = 0; i < all->nclocks; i++)
		{
			TimestampTz time = cmq_clock_peek(all->clocks[i]);

			now = Max(now, time);
		}
	} while (!have_leaves(all, now));
}

/* Take the time of the next message, the same for all queues, and have its leaves open. */
static TimestampTz
next_time(Sendings *all)
{
	for (;;)
	{
		TimestampTz time = cmq_clock_tick_all(all->clocks, all->nclocks);

		if (time == DT_NOEND)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("the clock of a queue was moved far ahead while a publish was using it"),
					 errdetail("A message must not have a time to come in the other queues."),
					 errhint("Publish again.")));
		if (have_leaves(all, time))
			return time;
	}
}

/* The group that a message has in the queue, into *group; NULL if it has none. */
static const int64 *
group_of(const Sending *sending, int i, int64 *group)
{
	const CmqOutgoing *out = sending->out;

	if (!sending->queue->ordered || out->groups == NULL || out->groups_null[i])
		return NULL;
	*group = cmq_group_hash(out->groups[i]);
	return group;
}

/* Announce that messages come to the ordered queues (cmq_window.c); false: there is none. */
static bool
open_window(Sendings *all, int first, int end)
{
	CmqSharedQueue **queues = palloc(all->n * sizeof(CmqSharedQueue *));
	Sending    *ordered = NULL;
	int			nordered = 0;
	uint64		groups = 0;

	for (int i = 0; i < all->n; i++)
	{
		CmqSharedQueue *shared = all->each[i].queue->shared;

		if (!all->each[i].queue->ordered)
			continue;
		ordered = &all->each[i];
		ordered->nclosings = cmq_group_events_closings(shared);
		/* an error ends the window, too */
		cmq_xact_wake(shared, 0, 1);
		queues[nordered++] = shared;
	}
	if (ordered == NULL)
	{
		pfree(queues);
		return false;
	}
	for (int i = first; i < end; i++)
	{
		int64		group;

		if (group_of(ordered, i, &group))
			groups |= CMQ_GROUP_BIT(group);
	}
	cmq_window_open(queues, nordered, groups);
	pfree(queues);
	return true;
}

/* Close it, and wake waiters that it has kept from messages. */
static void
close_window(Sendings *all)
{
	cmq_window_close();
	for (int i = 0; i < all->n; i++)
	{
		Sending    *sending = &all->each[i];
		CmqSharedQueue *shared = sending->queue->shared;

		if (sending->queue->ordered &&
			cmq_group_events_closings(shared) != sending->nclosings)
			cmq_wait_signal(shared, 1, false);
	}
}

/* Write a message, with its group if it has one; queues is for journals. */
static void
write_message(CmqLeafRows *messages, const CmqOutgoing *out, int i, TimestampTz time,
			  bool has_group, Datum queues)
{
	Datum		values[Natts_journal];
	bool		isnull[Natts_journal] = {false};

	values[Anum_messages_enqueued_at - 1] = TimestampTzGetDatum(time);
	isnull[Anum_messages_headers - 1] = out->headers == NULL || out->headers_null[i];
	values[Anum_messages_headers - 1] =
		isnull[Anum_messages_headers - 1] ? (Datum) 0 : out->headers[i];
	values[Anum_messages_body - 1] = out->bodies[i];
	isnull[Anum_messages_message_group - 1] = !has_group;
	values[Anum_messages_message_group - 1] = has_group ? out->groups[i] : (Datum) 0;
	values[Anum_journal_queues - 1] = queues;
	cmq_leaf_rows_insert(messages, values, isnull, toast_raw_datum_size(out->bodies[i]));
}

/* Add the rows of the next message, which has got its time, to a queue. */
static void
send_message(Sending *sending, int i, TimestampTz time, const char *topic)
{
	const CmqOutgoing *out = sending->out;
	int			delay = sending->delay.seconds;
	Size		size = toast_raw_datum_size(out->bodies[i]);
	int64		group;
	const int64 *has_group = group_of(sending, i, &group);

	cmq_pending_add_new(&sending->pending, time, delay > 0 ?
						time + delay * USECS_PER_SEC : sending->delay.until,
						has_group, topic);
	if (topic == NULL)
		write_message(&sending->messages, out, i, time, has_group != NULL, (Datum) 0);
	sending->time = time;
	sending->bytes += size - VARHDRSZ;
	sending->n++;
}

/*
 * Send the messages from first up to end.  In ordered queues their groups are closed to
 * newer messages, until the rows are written.
 */
static void
send_some(Sendings *all, int first, int end, TimestampTz *times)
{
	const CmqOutgoing *out = all->each[0].out;
	const CmqOnce *once = out->once;
	const char *topic = all->journal ? cmq_plain_name(all->journal) : NULL;

	/* with keys the window is open already, since their times were taken */
	bool		window = once ? all->each[0].queue->ordered :
		open_window(all, first, end);

	for (int i = first; i < end; i++)
	{
		TimestampTz time;

		if (once && once->is_duplicate[i])
			continue;
		time = once ? once->times[i] : next_time(all);
		if (window && once == NULL && i == first)
			cmq_window_time(time);
		for (int q = 0; q < all->n; q++)
			send_message(&all->each[q], i, time, topic);
		if (all->journal)
			write_message(&all->rows, out, i, time,
						  out->groups && !out->groups_null[i], all->queues);
		if (times)
			times[i] = time;
		CHECK_FOR_INTERRUPTS();
	}
	if (!window)
		return;
	for (int q = 0; q < all->n; q++)
	{
		if (all->each[q].queue->ordered)
			cmq_pending_flush(&all->each[q].pending);
	}
	close_window(all);
}

/* Open the tables of the queue; together: those of others have been opened, too. */
static void
open_to_send(Sending *sending, Sending *together)
{
	if (together)
		cmq_pending_open_beside(&sending->pending, sending->queue,
								&together->pending);
	else
		cmq_pending_open(&sending->pending, sending->queue, true);
	cmq_leaf_rows_begin(&sending->messages, sending->queue, CMQ_MESSAGES,
						RowExclusiveLock, sending->pending.estate);
}

static void
close_sent(Sending *sending)
{
	cmq_leaf_rows_end(&sending->messages);
	cmq_pending_flush(&sending->pending);
	cmq_pending_close(&sending->pending);
}

/* The same as open_to_send(), and claim the keys of the messages, which get times. */
static void
claim_to_send(Sendings *one)
{
	Sending    *sending = &one->each[0];
	const CmqOutgoing *out = sending->out;
	CmqOnce    *once = out->once;

	for (;;)
	{
		open_to_send(sending, NULL);
		cmq_once_open(once, &sending->messages);
		sending->queue = sending->messages.queue;
		(void) open_window(one, 0, out->n);
		if (cmq_once_claim(once, &sending->messages))
			break;
		/* who waits holds up nobody: no floor, and no window */
		if (sending->queue->ordered)
			close_window(one);
		close_sent(sending);
		cmq_once_wait(once);
		sending->queue = cmq_queue_again(sending->queue);
	}
	/* a duplicate needs no room */
	if (once->nduplicates < out->n &&
		!has_room(sending->queue, out->n - once->nduplicates))
		report_full(sending->queue, once->readable);
}

/* Raise 55000 if a subscription writes the queue. */
static void
check_no_target(CmqQueue *queue)
{
	if (queue->is_target)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot send to queue \"%s\" while a subscription writes it",
						queue->name),
				 errdetail("A message of the publisher's could have the same msg_id, and would stop the subscription."),
				 errhint("Send to the queue on the publisher, or drop the subscription first.")));
}

static void
count_sent(const Sending *sending)
{
	CmqSharedQueue *shared = sending->queue->shared;

	if (sending->n == 0)
		return;
	cmq_notes_set_last_send(shared, sending->time);
	cmq_xact_count(shared, CMQ_SENT, sending->n);
	cmq_xact_count(shared, CMQ_BODY_BYTES, sending->bytes);
}

/* The queues are open; close them when all is written. */
static void
send_all(Sendings *all, TimestampTz *times)
{
	const CmqOutgoing *out = all->each[0].out;
	bool		ordered = false;
	int			portion;

	for (int q = 0; q < all->n; q++)
		ordered |= all->each[q].queue->ordered;
	portion = ordered && !out->once ? WINDOW_MESSAGES : out->n;
	for (int first = 0; first < out->n; first += portion)
	{
		if (ordered && !out->once)
			open_present(all);
		send_some(all, first, Min(first + portion, out->n), times);
	}
	for (int q = 0; q < all->n; q++)
		count_sent(&all->each[q]);
	if (all->journal)
	{
		cmq_notes_set_last_send(all->journal->shared, all->each[0].time);
		cmq_leaf_rows_end(&all->rows);
		FreeExecutorState(all->estate);
	}
	/* the first one says for all from which time on there are rows */
	for (int q = all->n - 1; q >= 0; q--)
		close_sent(&all->each[q]);
}

/*
 * Write messages, but for those whose keys others have.  Puts their times, which increase,
 * into times unless that is NULL; with keys, whose times these are, that of the other.  The
 * caller has opened the queue with RowExclusive, and checked rights, arguments and, without
 * keys, room.  Returns how many were written.  Raises 55000 if a subscription writes the
 * queue, and with keys 53400.
 */
int
cmq_outgoing_write(CmqQueue *queue, const CmqOutgoing *out, CmqDelay delay,
				   TimestampTz *times)
{
	Sending		sending = {
		.queue = queue,
		.out = out,
		.delay = delay,
		.time = DT_NOBEGIN
	};
	CmqSharedQueue *clock = queue->shared;
	Sendings	one = {.n = 1,.each = &sending,.nclocks = 1,.clocks = &clock};

	check_no_target(queue);
	if (out->once)
		claim_to_send(&one);
	else
		open_to_send(&sending, NULL);
	send_all(&one, times);
	return sending.n;
}

/*
 * The same for what the caller does not send to this queue itself: what is replayed or
 * redriven, and dead letters; delayed by so many seconds.  The owner's code in
 * indexes runs as the owner, not as the caller, who may not even know the queue.
 */
int
cmq_outgoing_write_as_owner(CmqQueue *queue, const CmqOutgoing *out, int delay,
							TimestampTz *times)
{
	CmqDelay	seconds = {.seconds = delay,.until = DT_NOBEGIN};
	CmqOwnerScope scope;
	int			n;

	cmq_owner_enter(&scope, queue->owner);
	n = cmq_outgoing_write(queue, out, seconds, times);
	cmq_owner_leave(&scope);
	return n;
}

/* The names of the queues as an array. */
static Datum
names_of(CmqQueue **queues, int n)
{
	Datum	   *names = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
		names[i] = CStringGetTextDatum(queues[i]->name);
	return PointerGetDatum(construct_array(names, n, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

/* Open a journal to write messages for these queues. */
static void
open_journal(Sendings *all, CmqQueue *journal, CmqQueue **queues)
{
	cmq_queue_attach(journal);
	all->journal = journal;
	all->clocks[all->nclocks++] = journal->shared;
	all->estate = CreateExecutorState();
	all->queues = names_of(queues, all->n);
	cmq_leaf_rows_begin(&all->rows, journal, CMQ_JOURNAL, RowExclusiveLock,
						all->estate);
}

/*
 * Write messages, which have no keys, into several queues at the same times: into this
 * journal, or, if it is NULL, each queue its own.  The rest is as for cmq_outgoing_write().
 */
void
cmq_outgoing_write_to_all(CmqQueue **queues, int nqueues, CmqQueue *journal,
						  const CmqOutgoing *out, int delay, TimestampTz *times)
{
	Sendings	all = {.n = nqueues};

	if (nqueues == 0)
		return;
	all.each = palloc(nqueues * sizeof(Sending));
	all.clocks = palloc((nqueues + 1) * sizeof(CmqSharedQueue *));
	for (int q = 0; q < nqueues; q++)
	{
		Sending    *sending = &all.each[q];

		check_no_target(queues[q]);
		sending->queue = queues[q];
		sending->out = out;
		sending->delay.seconds = delay;
		sending->delay.until = DT_NOBEGIN;
		sending->time = DT_NOBEGIN;
		sending->n = 0;
		sending->locked = NULL;
		sending->bytes = 0;
		all.clocks[all.nclocks++] = queues[q]->shared;
		open_to_send(sending, q == 0 ? NULL : &all.each[0]);
	}
	if (journal)
		open_journal(&all, journal, queues);
	send_all(&all, times);
	pfree(all.clocks);
	pfree(all.each);
}
