/*-------------------------------------------------------------------------
 *
 * cmq_window.c
 *	  Senders between taking a time and writing the row that has it.
 *
 * A message's time is taken from the queue clock a moment before its row is written.  In
 * that moment, a window, a later message can be seen, and the earlier one cannot.  Who must
 * not miss the earlier one asks here: receives from ordered queues; and sends that look for
 * a key in an older leaf, and maintenance that drops one (cmq_once.c).  The keys of messages
 * are written before their rows, so they have windows of their own, which are shorter.
 *
 * Invariant: who has read the queue clock, and then reads the windows of the queue, finds
 * each sender whose row has a time that is not later, and is not written yet.
 *		sender:	queue and groups; write barrier; time := unknown; full barrier; take the
 *				time; time := it; write rows and index entries; full barrier;
 *				time := none
 *		reader:	read the clock; full barrier; read all times; full barrier; read rows
 * A sender whose window the reader does not see has taken its time after the reader has read
 * the clock, or has written its row before the reader looks for it.
 *
 * A window of one queue names it.  One of several queues, as of a publish, is noted in the
 * entry of each of them before it opens, and until it is closed: so it is none of a queue
 * that gets nothing, whoever keeps it open.
 *
 * Each process has one window of each kind at a time.  An owner's code that runs in it, in an index, may
 * send, too: that send widens the window to the groups, and the queues, of both; it is open
 * until the outer call closes it.
 *
 * Nobody waits for a transaction within a window, for others may wait for the window.  Who
 * waits for windows of keys has a window itself, of a later time than those: so they do not
 * wait in a circle.
 *
 * Abort, also of a subtransaction: what its calls have opened is closed (cmq_xact.c); no row
 * comes.  Exit: the slot is cleared (cmq_proc.c).  Crash: shared memory begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/s_lock.h"
#include "utils/memutils.h"

#include "memory/cmq_entry.h"
#include "memory/cmq_proc.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_window.h"

/*
 * The calls of this process that have it open, by their subtransactions.  There may be
 * several: code of an owner's that runs in one call can make another.
 */
#define MAX_OPENED 16
typedef struct OpenCalls
{
	int			n;
	SubTransactionId subids[MAX_OPENED];
	CmqSharedQueue *queue;		/* of the first call */
	/* the queues that have it noted, in TopMemoryContext */
	CmqSharedQueue **noted;
	int			nnoted;
	int			allocated;
} OpenCalls;

static OpenCalls calls[CMQ_NWINDOWS];

static CmqProcWindow *
mine(CmqWindowKind kind)
{
	return cmq_proc_window(cmq_proc_number(), kind);
}

static uint64
queue_of(CmqSharedQueue *shared)
{
	CmqSharedKey key = cmq_shared_key(shared);

	return ((uint64) key.database << 32) | key.pending;
}

/* Where a queue notes the window of the process of this slot, and the bit there. */
static pg_atomic_uint64 *
note_of(CmqSharedQueue *shared, CmqWindowKind kind, int number, uint64 *bit)
{
	*bit = UINT64CONST(1) << (number % 64);
	return &shared->windows[kind * CMQ_WINDOW_WORDS + number / 64];
}

static bool
is_noted(CmqSharedQueue *shared, CmqWindowKind kind, int number)
{
	uint64		bit;
	pg_atomic_uint64 *note = note_of(shared, kind, number, &bit);

	return (pg_atomic_read_u64(note) & bit) != 0;
}

/* Have room to note so many queues, or fail before any is. */
static void
reserve(OpenCalls *opened, int n)
{
	int			more = opened->nnoted + n;

	if (more <= opened->allocated)
		return;
	if (opened->noted)
		opened->noted = repalloc(opened->noted, more * sizeof(CmqSharedQueue *));
	else
		opened->noted = MemoryContextAlloc(TopMemoryContext,
										   more * sizeof(CmqSharedQueue *));
	opened->allocated = more;
}

/* Note the window of this process in the entry of a queue. */
static void
note(CmqWindowKind kind, CmqSharedQueue *shared)
{
	OpenCalls  *opened = &calls[kind];
	uint64		bit;
	pg_atomic_uint64 *note = note_of(shared, kind, cmq_proc_number(), &bit);

	for (int i = 0; i < opened->nnoted; i++)
	{
		if (opened->noted[i] == shared)
			return;
	}
	opened->noted[opened->nnoted++] = shared;
	pg_atomic_fetch_or_u64(note, bit);
}

static void
forget_notes(CmqWindowKind kind)
{
	OpenCalls  *opened = &calls[kind];

	while (opened->nnoted > 0)
	{
		uint64		bit;
		pg_atomic_uint64 *note = note_of(opened->noted[--opened->nnoted], kind,
										 cmq_proc_number(), &bit);

		pg_atomic_fetch_and_u64(note, ~bit);
	}
}

static void
open_window(CmqWindowKind kind, CmqSharedQueue **queues, int n, uint64 groups)
{
	CmqProcWindow *window = mine(kind);
	OpenCalls  *opened = &calls[kind];
	uint64		queue = n == 1 ? queue_of(queues[0]) : 0;

	if (opened->n > 0)
	{
		groups |= pg_atomic_read_u64(&window->groups);
		if (pg_atomic_read_u64(&window->queue) != queue)
			queue = 0;
	}
	else
		opened->queue = queues[0];
	if (queue == 0)
	{
		reserve(opened, n + 1);
		note(kind, opened->queue);
		for (int i = 0; i < n; i++)
			note(kind, queues[i]);
	}
	if (opened->n < MAX_OPENED)
		opened->subids[opened->n] = GetCurrentSubTransactionId();
	opened->n++;
	pg_atomic_write_u64(&window->groups, groups);
	pg_atomic_write_u64(&window->queue, queue);
	pg_write_barrier();
	pg_atomic_write_u64(&window->time, (uint64) CMQ_TIME_UNKNOWN);
	pg_memory_barrier();
}

static void
set_time(CmqWindowKind kind, TimestampTz time)
{
	if (calls[kind].n == 1)
		pg_atomic_write_u64(&mine(kind)->time, (uint64) time);
}

static void
close_mine(CmqWindowKind kind)
{
	pg_memory_barrier();
	pg_atomic_write_u64(&mine(kind)->time, (uint64) CMQ_TIME_NONE);
	forget_notes(kind);
}

static void
close_window(CmqWindowKind kind)
{
	if (calls[kind].n > 0 && --calls[kind].n == 0)
		close_mine(kind);
}

/*
 * The caller is about to take times from the clocks of n queues, one or more, for messages of
 * groups with these bits.  To be followed by cmq_window_close().
 */
void
cmq_window_open(CmqSharedQueue **queues, int n, uint64 groups)
{
	open_window(CMQ_ROWS_WINDOW, queues, n, groups);
}

/* No message of the window has an earlier time than this one, which was just taken. */
void
cmq_window_time(TimestampTz time)
{
	set_time(CMQ_ROWS_WINDOW, time);
}

/* All rows, and their index entries, are written. */
void
cmq_window_close(void)
{
	close_window(CMQ_ROWS_WINDOW);
}

/* The same for keys. */
void
cmq_key_window_open(CmqSharedQueue *shared)
{
	open_window(CMQ_KEYS_WINDOW, &shared, 1, 0);
}

void
cmq_key_window_time(TimestampTz time)
{
	set_time(CMQ_KEYS_WINDOW, time);
}

void
cmq_key_window_close(void)
{
	close_window(CMQ_KEYS_WINDOW);
}

/* This subtransaction is undone, or has ended: its calls write no more. */
void
cmq_window_end_of(SubTransactionId subid)
{
	for (CmqWindowKind kind = 0; kind < CMQ_NWINDOWS; kind++)
	{
		OpenCalls  *opened = &calls[kind];

		if (opened->n == 0)
			continue;
		while (opened->n > 0 &&
			   (opened->n > MAX_OPENED || opened->subids[opened->n - 1] >= subid))
			opened->n--;
		if (opened->n == 0)
			close_mine(kind);
	}
}

/* The time of the window of this number, if it is of this queue, and its groups. */
static TimestampTz
read_window(int number, CmqWindowKind kind, CmqSharedQueue *shared, uint64 *groups)
{
	CmqProcWindow *window = cmq_proc_window(number, kind);
	TimestampTz time = (TimestampTz) pg_atomic_read_u64(&window->time);
	uint64		its_queue;

	if (time == CMQ_TIME_NONE)
		return CMQ_TIME_NONE;
	pg_read_barrier();
	its_queue = pg_atomic_read_u64(&window->queue);
	*groups = pg_atomic_read_u64(&window->groups);
	return its_queue == queue_of(shared) ||
		(its_queue == 0 && is_noted(shared, kind, number)) ? time : CMQ_TIME_NONE;
}

/* All windows of a kind of the queue, but for our own. */
static void
read_windows(CmqWindowKind kind, CmqSharedQueue *shared, CmqWindows *all)
{
	int			n;

	all->n = 0;
	pg_memory_barrier();
	n = cmq_proc_count();
	for (int i = 0; i < n; i++)
	{
		uint64		groups;
		TimestampTz time = i == cmq_proc_number() ? CMQ_TIME_NONE :
			read_window(i, kind, shared, &groups);

		if (time == CMQ_TIME_NONE)
			continue;
		if (all->n < CMQ_WINDOWS)
		{
			all->each[all->n].time = time;
			all->each[all->n++].groups = groups;
			continue;
		}
		/* the last one stands for all the rest */
		all->each[CMQ_WINDOWS - 1].time =
			Min(all->each[CMQ_WINDOWS - 1].time, time);
		all->each[CMQ_WINDOWS - 1].groups = ~UINT64CONST(0);
	}
	pg_memory_barrier();
}

/* All windows of the queue, but for our own; the caller has read its clock before. */
void
cmq_windows_read(CmqSharedQueue *shared, CmqWindows *all)
{
	read_windows(CMQ_ROWS_WINDOW, shared, all);
}

/* May a message of a group with this bit come that is earlier than this time? */
bool
cmq_windows_close_to(const CmqWindows *all, TimestampTz time, uint64 group)
{
	for (int i = 0; i < all->n; i++)
	{
		if (all->each[i].time < time && (all->each[i].groups & group) != 0)
			return true;
	}
	return false;
}

/*
 * Wait until no other process has a window for keys of this queue whose time is before this
 * one, or not known yet.  The caller has taken a later time.  A window that opens meanwhile
 * gets a later time, too: so each process is waited for once.
 */
void
cmq_key_windows_wait(CmqSharedQueue *shared, TimestampTz bound)
{
	uint64		groups;
	int			n;

	pg_memory_barrier();
	n = cmq_proc_count();
	for (int i = 0; i < n; i++)
	{
		if (i == cmq_proc_number())
			continue;
		for (int tries = 0; read_window(i, CMQ_KEYS_WINDOW, shared, &groups) < bound;
			 tries++)
		{
			CHECK_FOR_INTERRUPTS();
			/* it takes some microseconds, if the other process runs */
			if (tries < 100)
				SPIN_DELAY();
			else
				pg_usleep(Min(tries, 1000));
		}
	}
	pg_memory_barrier();
}

/*
 * The smallest time of the windows for keys of a queue, but for our own; CMQ_TIME_NONE:
 * there is none.  The caller has read its clock before.
 */
TimestampTz
cmq_key_windows_first(CmqSharedQueue *shared)
{
	CmqWindows	all;
	TimestampTz first = CMQ_TIME_NONE;

	read_windows(CMQ_KEYS_WINDOW, shared, &all);
	for (int i = 0; i < all.n; i++)
		first = Min(first, all.each[i].time);
	return first;
}
