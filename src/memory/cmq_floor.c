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
 *	  Each backend has a slot in shared memory with the smallest visible_at that
 *	  it has written to any pending table in its current transaction.
 *		writer (cmq_floor_announce, cmq_floor_publish):
 *			slot := unknown; full barrier; read the queue clock;
 *			slot := smallest visible_at, or time of a new message, so far;
 *			write the rows
 *		Code of the owner's, in an index, may run between the two and write, or
 *		fail in a subtransaction: the slot says "unknown" as long as any call
 *		has announced itself and not published yet.
 *		receiver (cmq_floor_begin, cmq_floor_end):
 *			read the clock; full barrier; read all slots; scan;
 *			floor := the smallest of that clock, the slots, and the first row
 *			seen alive
 *	  A writer that the receiver did not see announce itself read the clock
 *	  after the receiver did, so it writes at or above the receiver's floor.
 *	  One that it did see holds the floor at its rows.  Slots are cleared in
 *	  the callbacks at the end of a transaction, when its rows can be seen.
 *
 * 2. Rows that come back when a transaction aborts which had received or
 *	  deleted them.  To others they are alive all along: the change is not
 *	  committed.  Only the transaction itself sees them gone.  So it remembers
 *	  the smallest visible_at it has taken away (cmq_floor_taken), and its own
 *	  scans raise the shared floor no further.  The same when it has let them
 *	  expire, by making the retention shorter.  To itself it may start higher:
 *	  it keeps a floor of its own, for one queue.  When a subtransaction aborts
 *	  that falls back to the smallest that this one has taken away.  Rows that it
 *	  has written itself do not hold it, for it sees them; unless code of an
 *	  owner's is running, perhaps in the midst of writing some.
 *
 * 3. Prepared transactions outlive their backend.  At PREPARE the slot's value
 *	  goes to an entry of its own (cmq_prepared.c), which counts like a slot until
 *	  the transaction has ended.  One that was prepared before the server was
 *	  started has none: it holds the floors of the queues that it has locked.
 *
 * 4. Rows written by others than these functions: by hand, or by COPY.  They
 *	  may have any time.  A trigger tells us (cmq_changes.c): the writer's slot becomes "unknown"
 *	  to the end of its transaction, the floor is taken back to the beginning,
 *	  and the queue's generation is raised.  A receiver installs its floor only
 *	  if the generation is the one that it began with; one that began later
 *	  saw the slot.  Whoever removes rows so is as in rule 2, with the smallest
 *	  time there is.
 *
 * 5. Rows that a restore puts back, or that replication brings, with times long
 *	  gone.  As rule 4, but the times are known: the slot says so before anybody
 *	  can see them.  The floor is lowered to them, and the generation raised, when
 *	  the transaction is about to commit or to be prepared: until then nobody else
 *	  has to pass by them.
 *
 * Expired rows do not hold the floor: nobody could receive them.
 *
 * What is alive at the floor and still of no use to a receive is passed in
 * stretches (cmq_stretch.c), which follow the same rules.
 *
 * The rewind scan has a floor of its own, by enqueued_at, for the rewind under
 * way (known by its rewound_at).  No row becomes due after the rewind
 * (cmq_rewind.c), so only rules 2 and 4 apply.  A transaction that has made a rewind
 * keeps its floor to itself: the rewind may be rolled back, and the one before go on.
 *
 * Locks: a spinlock per queue guards its floors and generation; slots are
 * atomics, each written by its owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_stretch.h"
#include "store/cmq_description.h"
#include "store/cmq_owner.h"

/* Slot values beside times; times are compared as int64. */
#define SLOT_UNKNOWN	DT_NOBEGIN
#define SLOT_NONE		DT_NOEND

typedef struct FloorShared
{
	int			nslots;
	pg_atomic_uint64 slots[FLEXIBLE_ARRAY_MEMBER];	/* by process number */
} FloorShared;

/* Which process has written each slot last; for cmq_floor_sweep() alone. */
static pg_atomic_uint32 *slot_pids = NULL;

static FloorShared *shared_floor = NULL;

/*
 * Calls of the current transaction between cmq_floor_announce() and
 * cmq_floor_publish(), by their subtransactions.  There may be several: code of an
 * owner's that runs in one can make another one.
 */
#define MAX_ANNOUNCED 16
static SubTransactionId announced[MAX_ANNOUNCED];
static int	nannounced = 0;
static bool announced_many = false; /* more than that, in this transaction */

/* The current transaction. */
static bool slot_in_use = false;
static uint64 announcements = 0;
static TimestampTz published = SLOT_NONE;	/* what the slot should say */
static TimestampTz taken = DT_NOEND;	/* smallest visible_at taken away */
static TimestampTz taken_due = DT_NOEND;	/* smallest enqueued_at taken */
static TimestampTz taken_message = DT_NOEND;	/* smallest one consumed */
static bool rewound = false;	/* it has made a rewind */

/* The same by subtransactions that have not ended, the innermost last. */
typedef struct Taking
{
	SubTransactionId subid;
	TimestampTz ready;			/* visible_at */
	TimestampTz due;			/* enqueued_at */
} Taking;

#define MAX_TAKINGS 16
static Taking takings[MAX_TAKINGS];
static int	ntakings = 0;
static bool takings_many = false;	/* more than that, in this transaction */

/* Floors that it will lower, because of rows that it has put back. */
typedef struct Lowering
{
	CmqSharedQueue *shared;
	TimestampTz time;
} Lowering;

static List *lowerings = NIL;	/* in TopTransactionContext */

/* Floors that hold for ourselves only, of the queue received from last. */
static struct
{
	Oid			relid;			/* InvalidOid: none */
	uint64		generation;
	TimestampTz floor;
	TimestampTz rewound_at;
	TimestampTz rewind_floor;
}			own;

Size
cmq_floor_shmem_size(void)
{
	return add_size(offsetof(FloorShared, slots),
					mul_size(MaxBackends, sizeof(pg_atomic_uint64) +
							 sizeof(pg_atomic_uint32)));
}

/* Called under AddinShmemInitLock. */
void
cmq_floor_shmem_init(void)
{
	bool		found;

	shared_floor = ShmemInitStruct("cmq floors", cmq_floor_shmem_size(),
								   &found);
	slot_pids = (pg_atomic_uint32 *) &shared_floor->slots[MaxBackends];
	if (found)
		return;
	shared_floor->nslots = MaxBackends;
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u64(&shared_floor->slots[i], (uint64) SLOT_NONE);
		pg_atomic_init_u32(&slot_pids[i], 0);
	}
}

/* A new shared entry of a queue: scans start at the beginning. */
void
cmq_floor_init(CmqSharedQueue *shared)
{
	SpinLockInit(&shared->mutex);
	shared->generation = 0;
	shared->floor = DT_NOBEGIN;
	shared->rewound_at = DT_NOBEGIN;
	shared->rewind_floor = DT_NOBEGIN;
}

/* What the slot of this process should say. */
static TimestampTz
own_slot(void)
{
	return nannounced > 0 || announced_many ? SLOT_UNKNOWN : published;
}

/* Write what the slot should say; the transaction has announced something. */
static void
write_slot(void)
{
	pg_atomic_write_u64(&shared_floor->slots[cmq_my_process_number()],
						(uint64) own_slot());
}

/*
 * This process takes over the slot of its number, whatever the one before has left
 * there.  Called under the lock for slots.
 */
void
cmq_floor_take_slot(void)
{
	int			number = cmq_my_process_number();

	pg_atomic_write_u64(&shared_floor->slots[number], (uint64) SLOT_NONE);
	pg_atomic_write_u32(&slot_pids[number], MyProcPid);
}

/*
 * Before reading the clock for times that will be written.  To be followed by
 * cmq_floor_publish() with the smallest of them, and, if then nothing was
 * written after all, by cmq_floor_withdraw() with what this returned.
 */
CmqAnnouncement
cmq_floor_announce(void)
{
	CmqAnnouncement announcement = {
		.before = published,
		.number = ++announcements
	};

	cmq_shmem_take_slots();
	slot_in_use = true;
	if (nannounced < MAX_ANNOUNCED)
		announced[nannounced] = GetCurrentSubTransactionId();
	else
		announced_many = true;	/* unknown, to the end of the transaction */
	nannounced++;
	write_slot();
	pg_memory_barrier();
	return announcement;
}

/* End the announcement made last. */
void
cmq_floor_publish(TimestampTz visible_at)
{
	if (nannounced > 0)
		nannounced--;
	published = Min(published, visible_at);
	write_slot();
}

/* Unless something else was published since, as if this had not been. */
void
cmq_floor_withdraw(CmqAnnouncement announcement)
{
	if (announcement.number == announcements)
		published = announcement.before;
	write_slot();
}

/* What comes back if the current subtransaction aborts. */
static void
note_taking(TimestampTz ready, TimestampTz due)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	Taking	   *taking;

	if (ntakings == 0 || takings[ntakings - 1].subid != subid)
	{
		if (ntakings == MAX_TAKINGS)
		{
			takings_many = true;
			return;
		}
		takings[ntakings++] = (Taking)
		{
			subid, DT_NOEND, DT_NOEND
		};
	}
	taking = &takings[ntakings - 1];
	taking->ready = Min(taking->ready, ready);
	taking->due = Min(taking->due, due);
}

/* The caller has updated or deleted a pending row. */
void
cmq_floor_taken(TimestampTz visible_at)
{
	taken = Min(taken, visible_at);
	note_taking(visible_at, DT_NOEND);
}

/* The caller has deleted a row that was due for the rewind. */
void
cmq_floor_taken_due(TimestampTz enqueued_at)
{
	taken_due = Min(taken_due, enqueued_at);
	note_taking(DT_NOEND, enqueued_at);
}

/* The caller has made a rewind, which nobody else knows yet. */
void
cmq_floor_rewound(void)
{
	rewound = true;
}

/*
 * The caller has taken away rows, or let them expire, of which nobody knows
 * the times.
 */
void
cmq_floor_taken_unknown(void)
{
	taken = taken_due = taken_message = DT_NOBEGIN;
	note_taking(DT_NOBEGIN, DT_NOBEGIN);
}

/* The caller has consumed or removed a message; see cmq_oldest.c. */
void
cmq_floor_taken_message(TimestampTz enqueued_at)
{
	taken_message = Min(taken_message, enqueued_at);
}

/*
 * Maintenance: clear slots of processes that are gone.  Each clears its own at
 * the end of its transactions; this is for one that did not come to that.  Called
 * under the lock for slots, so nobody takes one over meanwhile.
 */
void
cmq_floor_sweep(void)
{
	for (int i = 0; i < shared_floor->nslots; i++)
	{
		if ((TimestampTz) pg_atomic_read_u64(&shared_floor->slots[i]) != SLOT_NONE &&
			BackendPidGetProc(pg_atomic_read_u32(&slot_pids[i])) == NULL)
			pg_atomic_write_u64(&shared_floor->slots[i], (uint64) SLOT_NONE);
	}
}

/* The smallest of these slots, the last one not included. */
static TimestampTz
smallest_slot(int from, int until)
{
	TimestampTz smallest = SLOT_NONE;

	for (int i = from; i < until; i++)
	{
		/* read once: Min() would evaluate it twice, and it may change */
		TimestampTz slot = (TimestampTz)
			pg_atomic_read_u64(&shared_floor->slots[i]);

		smallest = Min(smallest, slot);
	}
	return smallest;
}

/* The smallest of the slots of others, and what prepared transactions hold. */
static TimestampTz
smallest_of_others(void)
{
	int			me = cmq_my_process_number();
	TimestampTz before = smallest_slot(0, me);
	TimestampTz behind = smallest_slot(me + 1, shared_floor->nslots);
	TimestampTz prepared;

	/* last, because PREPARE writes it before it clears its slot */
	pg_memory_barrier();
	prepared = cmq_prepared_floor();
	return Min(Min(before, behind), prepared);
}

/*
 * What cmq_oldest.c must not go beyond: open transactions may have sent older
 * messages, or bring them back, and ours may give back what it has consumed.
 * last is the last time that the queue clock has given out or remembered, read
 * before.
 */
TimestampTz
cmq_floor_limit(TimestampTz last)
{
	TimestampTz smallest;

	pg_memory_barrier();
	smallest = smallest_of_others();
	smallest = Min(smallest, own_slot());
	smallest = Min(smallest, taken_message);
	return Min(smallest, last);
}

/*
 * No transaction that is open now, ours included, has written pending rows of
 * messages produced before this; one that begins later writes them at or after the
 * present time of the queue clock, or tells cmq_oldest.c.
 */
TimestampTz
cmq_floor_open(void)
{
	TimestampTz smallest;

	pg_memory_barrier();
	smallest = smallest_of_others();
	return Min(smallest, own_slot());
}

/*
 * Before a scan: where to start.  now is what the caller has just read from
 * the queue clock.  To be followed by cmq_floor_end().
 */
void
cmq_floor_begin(CmqFloorScan *scan, CmqQueue *queue, TimestampTz now)
{
	CmqSharedQueue *shared = queue->shared;
	const CmqRewind *rewinding = &queue->rewinding;
	bool		same_rewind;
	TimestampTz smallest;
	ListCell   *lc;

	SpinLockAcquire(&shared->mutex);
	scan->generation = shared->generation;
	scan->floor = shared->floor;
	same_rewind = shared->rewound_at == rewinding->rewound_at;
	scan->rewind_floor = same_rewind ? shared->rewind_floor : DT_NOBEGIN;
	SpinLockRelease(&shared->mutex);

	pg_memory_barrier();
	smallest = smallest_of_others();
	smallest = pg_atomic_read_u32(&shared->held) != 0 ? SLOT_UNKNOWN :
		Min(now, smallest);
	scan->limit = Min(smallest, own_slot());
	scan->own_limit = nannounced > 0 || cmq_owner_is_running() ?
		scan->limit : smallest;
	scan->taken = taken;
	scan->lowered = DT_NOEND;

	/* what we have put back ourselves we can see already */
	foreach(lc, lowerings)
	{
		Lowering   *lowering = lfirst(lc);

		if (lowering->shared == shared)
			scan->lowered = lowering->time;
	}
	scan->floor = Min(scan->floor, scan->lowered);
	if (own.relid == queue->relid && own.generation == scan->generation)
	{
		scan->floor = Max(scan->floor, own.floor);
		if (own.rewound_at == rewinding->rewound_at)
			scan->rewind_floor = Max(scan->rewind_floor, own.rewind_floor);
	}
}

/*
 * After a scan: first_alive is visible_at of the first row that was alive and
 * not expired, DT_NOEND if the scan met none; first_due is enqueued_at of the
 * first row that was due, DT_NOEND if there was none, DT_NOBEGIN if the scan
 * did not look.
 */
void
cmq_floor_end(const CmqFloorScan *scan, CmqQueue *queue,
			  TimestampTz first_alive, TimestampTz first_due)
{
	CmqSharedQueue *shared = queue->shared;
	TimestampTz rewound_at = queue->rewinding.rewound_at;
	TimestampTz floor = Max(scan->floor, Min(scan->own_limit, first_alive));
	TimestampTz rewind_floor = Max(scan->rewind_floor, first_due);
	TimestampTz floor_for_all = Min(Min(floor, scan->limit), taken);
	TimestampTz rewind_floor_for_all = Min(rewind_floor, taken_due);

	own.relid = queue->relid;
	own.generation = scan->generation;
	own.floor = floor;
	own.rewound_at = rewound_at;
	own.rewind_floor = rewind_floor;

	SpinLockAcquire(&shared->mutex);
	if (shared->generation == scan->generation)
	{
		shared->floor = Max(shared->floor, floor_for_all);
		if (queue->rewinding.active && !rewound && scan->limit != SLOT_UNKNOWN)
		{
			if (shared->rewound_at < rewound_at)
			{
				shared->rewound_at = rewound_at;
				shared->rewind_floor = DT_NOBEGIN;
			}
			if (shared->rewound_at == rewound_at)
				shared->rewind_floor = Max(shared->rewind_floor,
										   rewind_floor_for_all);
		}
	}
	SpinLockRelease(&shared->mutex);
}

/*
 * The current transaction puts rows from this time on back into the pending
 * table.  It has published the time in its slot, so nobody raises the floor above
 * it; that is enough while nobody else can see the rows.
 */
void
cmq_floor_lower_at_end(CmqQueue *queue, TimestampTz time)
{
	MemoryContext old;
	Lowering   *lowering;
	ListCell   *lc;

	own.relid = InvalidOid;
	foreach(lc, lowerings)
	{
		lowering = lfirst(lc);
		if (lowering->shared != queue->shared)
			continue;
		lowering->time = Min(lowering->time, time);
		return;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	lowering = palloc(sizeof(Lowering));
	lowering->shared = queue->shared;
	lowering->time = time;
	lowerings = lappend(lowerings, lowering);
	MemoryContextSwitchTo(old);
}

/* Our rows are about to be seen: who begins to scan now has to look there. */
static void
lower_floors(void)
{
	ListCell   *lc;

	foreach(lc, lowerings)
	{
		Lowering   *lowering = lfirst(lc);
		CmqSharedQueue *shared = lowering->shared;

		SpinLockAcquire(&shared->mutex);
		shared->generation++;
		shared->floor = Min(shared->floor, lowering->time);
		cmq_stretch_forget(shared);
		SpinLockRelease(&shared->mutex);
	}
}

/*
 * The current transaction adds rows that are due, or may be, with times that nobody
 * knows: the floor of the rewind scan begins anew, and stays there to its end.
 */
void
cmq_floor_due_added_unknown(CmqSharedQueue *shared)
{
	(void) cmq_floor_announce();
	cmq_floor_publish(SLOT_UNKNOWN);
	own.relid = InvalidOid;
	SpinLockAcquire(&shared->mutex);
	shared->generation++;
	shared->rewound_at = DT_NOBEGIN;
	shared->rewind_floor = DT_NOBEGIN;
	SpinLockRelease(&shared->mutex);
}

/* The same for pending rows and those that are due. */
void
cmq_floor_added_unknown(CmqSharedQueue *shared)
{
	cmq_floor_due_added_unknown(shared);
	SpinLockAcquire(&shared->mutex);
	shared->generation++;
	shared->floor = DT_NOBEGIN;
	cmq_stretch_forget(shared);
	SpinLockRelease(&shared->mutex);
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			lower_floors();
			if (slot_in_use)
				cmq_prepared_expect(NULL);
			return;
		case XACT_EVENT_PRE_COMMIT:
			lower_floors();
			return;
		case XACT_EVENT_PREPARE:
			if (announced_many)
				published = SLOT_UNKNOWN;
			if (published != SLOT_NONE)
			{
				cmq_prepared_add_floor(published);
				/* before the slot is cleared, see smallest_of_others() */
				pg_memory_barrier();
			}
			break;
		default:
			if (!cmq_xact_is_over(event))
				return;
			break;
	}

	/* an error may have left it announced but not published */
	nannounced = 0;
	announced_many = false;
	published = SLOT_NONE;
	if (slot_in_use)
		write_slot();
	slot_in_use = false;
	taken = taken_due = taken_message = DT_NOEND;
	ntakings = 0;
	takings_many = false;
	rewound = false;
	lowerings = NIL;
	own.relid = InvalidOid;
}

/* What a subtransaction has taken away its parent has. */
static void
takings_to_parent(SubTransactionId subid, SubTransactionId parent)
{
	Taking	   *taking = &takings[ntakings - 1];

	if (ntakings == 0 || taking->subid != subid)
		return;
	taking->subid = parent;
	if (ntakings > 1 && taking[-1].subid == parent)
	{
		taking[-1].ready = Min(taking[-1].ready, taking->ready);
		taking[-1].due = Min(taking[-1].due, taking->due);
		ntakings--;
	}
}

/* What a subtransaction had taken away is back. */
static void
give_back(SubTransactionId subid)
{
	if (takings_many)
		own.relid = InvalidOid;
	for (; ntakings > 0 && takings[ntakings - 1].subid >= subid; ntakings--)
	{
		own.floor = Min(own.floor, takings[ntakings - 1].ready);
		own.rewind_floor = Min(own.rewind_floor, takings[ntakings - 1].due);
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		takings_to_parent(mySubid, parentSubid);
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	give_back(mySubid);
	/* calls that the error has ended; not those that it was caught in */
	nannounced = Min(nannounced, MAX_ANNOUNCED);
	while (nannounced > 0 && announced[nannounced - 1] >= mySubid)
		nannounced--;
	if (slot_in_use)
		write_slot();
}

void
cmq_floor_install_callbacks(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}

