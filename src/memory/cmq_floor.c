/*-------------------------------------------------------------------------
 *
 * cmq_floor.c
 *	  The scan floor: where a receive may begin to look for messages.
 *
 * A btree that serves as a queue dies from its left end: every consumed entry
 * leaves a dead one there, and while an old transaction is open anywhere none
 * of them can be removed.  So each queue has a floor in shared memory:
 *
 *		no pending row that anybody could still receive, now or after the
 *		end of any open transaction, has visible_at below the floor.
 *
 * A receive scans from the floor and then raises it to the first row that it
 * saw alive.  The floor is a hint where to start: it is lost at restart, and
 * the first scan builds it again.
 *
 * Five ways a row could come to stand below the floor, and what is done:
 *
 * 1. New rows.  Their visible_at is read from the queue clock, or is later.
 *	  Each process has a slot in shared memory with the smallest visible_at that
 *	  it has written to any pending table in its current transaction.
 *		writer (cmq_xact_announce, cmq_xact_publish):
 *			slot := unknown; full barrier; read the queue clock;
 *			slot := smallest visible_at, or time of a new message, so far;
 *			write the rows
 *		receiver (cmq_floor_begin, cmq_floor_end):
 *			read the clock; full barrier; read all slots; scan;
 *			floor := the smallest of that clock, the slots, and the first row
 *			seen alive
 *	  A writer that the receiver did not see announce itself read the clock
 *	  after the receiver did, so it writes at or above the receiver's floor.
 *	  One that it did see holds the floor at its rows.  Slots are cleared at the
 *	  end of a transaction, when its rows can be seen.
 *
 * 2. Rows that a transaction has received or deleted, and that come back when it
 *	  aborts.  To others these are alive all along: the change is not committed.  Only
 *	  the transaction itself sees them gone.  So it remembers the smallest visible_at
 *	  that it has taken away (cmq_xact_taken), and its scans raise the shared floor no
 *	  further.  The same goes for rows that it has let expire, by a shorter retention.
 *	  Its own scans may start higher: it keeps a floor of its own, for one queue.  When
 *	  a subtransaction aborts the own floor falls back to the smallest that the
 *	  subtransaction has taken away.  Rows that the transaction has written itself do
 *	  not hold its own floor, for it sees them; unless code of an owner's is running,
 *	  perhaps in the midst of writing some.
 *
 * 3. Prepared transactions outlive their backend.  At PREPARE the slot's value
 *	  goes to an entry of its own (cmq_prepared.c), which counts like a slot until
 *	  the transaction has ended.  One that was prepared before the server was
 *	  started has none: the queues that it has locked are held (cmq_shared.c), and
 *	  so are their floors.
 *
 * 4. Rows written by others than these functions: by hand, or by COPY.  They may
 *	  have any time.  A trigger tells us (cmq_changes.c): the writer's slot says
 *	  "unknown" to the end of its transaction, and the floor is lowered to the
 *	  beginning (cmq_mark.c).  While a slot says "unknown" no scan raises a floor, its own
 *	  included.  A transaction that removes rows so follows rule 2, with the smallest
 *	  time there is.
 *
 * 5. Rows that a restore puts back, or that replication brings, with times long
 *	  gone.  These times are known: the slot says the smallest before anybody can see
 *	  the rows.  The floor is lowered to it when the transaction is about to commit or
 *	  to be prepared: before that nobody else needs to find them.
 *
 * Expired rows do not hold the floor: no receive returns them.
 *
 * What is alive at the floor and still of no use to a receive is passed in
 * stretches (cmq_stretch.c), which follow the same rules.
 *
 * The rewind scan has a floor of its own, by enqueued_at, for the rewind under
 * way (known by its rewound_at).  No row becomes due after the rewind
 * (cmq_rewind.c), so only rules 2 and 4 apply, and rule 3 to rows written by hand.  A
 * transaction that has made a rewind keeps its floor to itself: the rewind may be rolled
 * back, and the one before go on.
 *
 * Locks: the mutex of the entry.  Abort: a floor that was lowered stays so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "memory/cmq_floor.h"
#include "memory/cmq_mark.h"
#include "memory/cmq_proc.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"

/*
 * Before a scan: where to start.  rewound_at is that of the rewind under way, or
 * DT_NOBEGIN; now is what the caller has just read from the queue clock.  To be followed
 * by cmq_floor_end().
 */
void
cmq_floor_begin(CmqFloorScan *scan, CmqSharedQueue *shared,
				TimestampTz rewound_at, TimestampTz now)
{
	const CmqOwnFloor *own = cmq_xact_own_floor();
	TimestampTz smallest;
	TimestampTz mine = cmq_xact_published();

	cmq_mark_read(shared, CMQ_FLOOR, DT_NOBEGIN, &scan->view);
	scan->rewound_at = rewound_at;
	scan->rewind_floor = DT_NOBEGIN;
	if (rewound_at != DT_NOBEGIN)
	{
		cmq_mark_read(shared, CMQ_REWIND_FLOOR, rewound_at, &scan->rewind_view);
		scan->rewind_floor = scan->rewind_view.time;
	}

	pg_memory_barrier();
	smallest = cmq_proc_published_by_others();
	smallest = cmq_shared_is_held(shared) ? CMQ_TIME_UNKNOWN : Min(now, smallest);
	scan->limit = Min(smallest, mine);
	scan->own_limit = cmq_xact_is_writing() || cmq_xact_in_code() ?
		scan->limit : smallest;
	scan->taken = cmq_xact_taken_of(shared).ready;

	/* this transaction sees already what it has put back */
	scan->lowered = cmq_xact_lowers_floor(shared);
	scan->floor = Min(scan->view.time, scan->lowered);
	if (own->shared != shared)
		return;
	if (own->generation == scan->view.generation)
		scan->floor = Max(scan->floor, own->floor);
	if (rewound_at != DT_NOBEGIN && own->rewound_at == rewound_at &&
		own->rewind_generation == scan->rewind_view.generation)
		scan->rewind_floor = Max(scan->rewind_floor, own->rewind_floor);
}

/*
 * After a scan: first_alive is visible_at of the first row that was alive and
 * not expired, DT_NOEND if the scan met none; first_due is enqueued_at of the
 * first row that was due, DT_NOEND if there was none, DT_NOBEGIN if the scan
 * did not look.
 */
void
cmq_floor_end(const CmqFloorScan *scan, CmqSharedQueue *shared,
			  TimestampTz first_alive, TimestampTz first_due)
{
	CmqOwnFloor *own = cmq_xact_own_floor();
	CmqTaken	taken = cmq_xact_taken_of(shared);

	own->shared = shared;
	own->generation = scan->view.generation;
	own->floor = Max(scan->floor, Min(scan->own_limit, first_alive));
	cmq_mark_raise(shared, CMQ_FLOOR, DT_NOBEGIN, &scan->view,
				   Min(Min(own->floor, scan->limit), taken.ready));

	own->rewound_at = scan->rewound_at;
	if (scan->rewound_at == DT_NOBEGIN)
		return;
	own->rewind_generation = scan->rewind_view.generation;
	own->rewind_floor = scan->rewind_floor;
	/* rows that come by hand may be due below what was met */
	if (scan->own_limit != CMQ_TIME_UNKNOWN)
		own->rewind_floor = Max(own->rewind_floor, first_due);
	if (!cmq_xact_has_rewound(shared) && scan->limit != CMQ_TIME_UNKNOWN)
		cmq_mark_raise(shared, CMQ_REWIND_FLOOR, scan->rewound_at,
					   &scan->rewind_view, Min(own->rewind_floor, taken.due));
}

/*
 * The caller adds rows with times that nobody knows: lower a floor to the beginning, and
 * hold it there to the end of the transaction.
 */
static void
added_unknown(CmqSharedQueue *shared, CmqMarkKind kind)
{
	(void) cmq_xact_announce();
	cmq_xact_publish(CMQ_TIME_UNKNOWN);
	cmq_xact_forget_own_floor();
	cmq_mark_lower(shared, kind, DT_NOBEGIN);
}

/* The same for rows that are due, or may be. */
void
cmq_floor_due_added_unknown(CmqSharedQueue *shared)
{
	added_unknown(shared, CMQ_REWIND_FLOOR);
}

/* The same for pending rows, and for rows that may be due. */
void
cmq_floor_added_unknown(CmqSharedQueue *shared)
{
	added_unknown(shared, CMQ_REWIND_FLOOR);
	added_unknown(shared, CMQ_FLOOR);
}
