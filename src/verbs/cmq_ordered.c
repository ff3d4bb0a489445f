/*-------------------------------------------------------------------------
 *
 * cmq_ordered.c
 *	  Receive from an ordered queue: which groups to look at.
 *
 * A receive looks
 *	1. at the laggards (cmq_laggards.c): groups with rows older than all others.  Those that
 *	   are known to be blocked are passed over.
 *	2. at ready and due rows in the order of time, from the second floors on.  A row
 *	   without a group is taken as in any queue.  A row of a group leads to the group, of
 *	   which as many messages are taken as are wanted (cmq_group_take.c).  A group that
 *	   has not been exhausted becomes a laggard with the first row of it that is left.
 *	3. after so many rows that cannot be had, at groups, one after the other, from where
 *	   the last such walk has ended: what is free is found whatever stands before it.
 *	   It goes by the keys in the index by group, and reads one row of each: there may be
 *	   very many rows of a group, and, while an old snapshot is there, of groups that have
 *	   none any more.  Messages without a group are walked through by time, some in a call.
 *
 * Each group is looked at once.  Nothing is written for messages that are not delivered.
 *
 * The second floors rise with the scans of the second step, until a row is met that is
 * neither taken nor a laggard's.  A receive with a filter leaves messages that others may
 * want, and so does not raise any floor.
 *
 * Locks, abort: those of cmq_group_take.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/tuptable.h"
#include "storage/lockdefs.h"
#include "utils/timestamp.h"

#include "base/cmq_group.h"
#include "base/cmq_handle.h"
#include "memory/cmq_laggards.h"
#include "memory/cmq_types.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_find.h"
#include "store/cmq_group_scan.h"
#include "store/cmq_merge.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_candidates.h"
#include "verbs/cmq_group_take.h"
#include "verbs/cmq_ordered.h"
#include "verbs/cmq_take.h"

/* How many groups the third step looks at in a call, and the second one in vain. */
#define MAX_HOPS 1000

/* How many entries the third step reads on before it descends into the index anew. */
#define MAX_STEPS 100

/* How many messages that cannot be read one receive puts off. */
#define MAX_UNREADABLE 100

/*
 * How many groups that another transaction has are remembered in a call, and for how long
 * they may hold a floor, in microseconds.
 */
#define MAX_SOON 16
#define MAX_STAND 10000

/* A group that this call has looked at, or need not look at. */
typedef struct Visit
{
	int64		group;
	char		status;			/* of simplehash */
	bool		soon;			/* as in CmqGroupSeen */
	TimestampTz until;			/* as in CmqLaggard */
	uint32		event;
} Visit;

#define SH_PREFIX visits
#define SH_ELEMENT_TYPE Visit
#define SH_KEY_TYPE int64
#define SH_KEY group
/* it is a hash */
#define SH_HASH_KEY(tb, key) ((uint32) ((uint64) (key) >> 8))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* How far the second floor of a source can be raised. */
typedef struct Rise
{
	bool		stopped;		/* at a row that others may take */
	TimestampTz floor;
	TimestampTz soon;			/* the first row of a group that will soon be
								 * free; DT_NOEND: there is none */
	int			nsoon;
	CmqLaggard	soon_free[MAX_SOON];	/* these groups */
	CmqLaggards next;			/* what the next receive is to know */
} Rise;

/* One receive. */
typedef struct Walk
{
	CmqTake    *take;
	CmqCandidates *scan;
	CmqGroupTake groups;
	int			most;			/* so many messages are enough */
	visits_hash *visits;
	Rise		rises[CMQ_NLAGGARDS];
	int			npassed;		/* rows of groups that could not be had */
	int			nblocked;		/* such groups that the second step has met */
} Walk;

static bool
is_enough(const Walk *walk)
{
	return walk->take->n >= walk->most ||
		walk->take->nunreadable >= MAX_UNREADABLE ||
		cmq_group_take_is_enough(&walk->groups);
}

static CmqLaggard *
find_laggard(CmqLaggards *laggards, int64 group)
{
	for (int i = 0; i < laggards->n; i++)
	{
		if (laggards->each[i].group == group)
			return &laggards->each[i];
	}
	return NULL;
}

/* No row of the group that counts is below this. */
static TimestampTz
lower_bound(Walk *walk, CmqMarkKind kind, int64 group)
{
	CmqLaggards *laggards = &walk->scan->laggards[kind];
	CmqLaggard *laggard = find_laggard(laggards, group);

	return laggard ? laggard->from :
		kind == CMQ_FLOOR ? walk->scan->from : walk->scan->due.from;
}

/* Look at a group; met is as in CmqGroupBounds.  False if nothing of it was taken. */
static bool
look_at_group(Walk *walk, Visit *visit, TimestampTz met, CmqGroupSeen *seen)
{
	CmqGroupBounds bounds = {
		.ready = lower_bound(walk, CMQ_FLOOR, visit->group),
		.due = lower_bound(walk, CMQ_REWIND_FLOOR, visit->group),
		.met = met
	};
	int			n = cmq_group_take(&walk->groups, visit->group, &bounds,
								   walk->most - walk->take->n, seen);

	visit->soon = seen->soon;
	visit->until = seen->until;
	visit->event = seen->event;
	return n > 0;
}

/*
 * The group has rows from this time on that are left, and another transaction has it.
 * Mostly that has ended before the next look, so it is left to hold the floor: a laggard
 * has to be looked at by each receive.
 */
static void
note_soon(Rise *rise, const Visit *visit, TimestampTz from)
{
	for (int i = 0; i < rise->nsoon; i++)
	{
		if (rise->soon_free[i].group == visit->group)
			return;
	}
	if (rise->nsoon == MAX_SOON)
	{
		rise->stopped = true;
		return;
	}
	rise->soon = Min(rise->soon, from);
	rise->soon_free[rise->nsoon++] = (CmqLaggard)
	{
		.group = visit->group,
			.from = from,
			.until = visit->until,
			.event = visit->event
	};
}

/* The group has rows from this time on that are left; false if the list is full. */
static bool
add_laggard(CmqLaggards *laggards, const Visit *visit, TimestampTz from)
{
	if (find_laggard(laggards, visit->group))
		return true;
	if (laggards->n == CMQ_LAGGARDS)
		return false;
	laggards->each[laggards->n++] = (CmqLaggard)
	{
		.group = visit->group,
			.from = from,
			.until = visit->until,
			.event = visit->event
	};
	return true;
}

/* The group was a laggard: is it one still, with no row below this time? */
static void
keep_laggard(Walk *walk, CmqMarkKind kind, const Visit *visit, TimestampTz from)
{
	CmqLaggards *before = &walk->scan->laggards[kind];
	CmqLaggard *laggard = find_laggard(before, visit->group);

	if (laggard && from < before->floor)
		(void) add_laggard(&walk->rises[kind].next, visit,
						   Max(laggard->from, from));
}

/* The first step: laggards of one kind. */
static void
look_at_laggards(Walk *walk, CmqMarkKind kind)
{
	CmqLaggards *laggards = &walk->scan->laggards[kind];
	CmqSharedQueue *shared = walk->take->queue->shared;

	for (int i = 0; i < laggards->n; i++)
	{
		CmqLaggard *laggard = &laggards->each[i];
		CmqGroupSeen seen = {.ready = DT_NOBEGIN,.due = DT_NOBEGIN};
		bool		found;
		Visit	   *visit = visits_insert(walk->visits, laggard->group, &found);

		if (found)
			continue;
		visit->soon = false;
		visit->until = laggard->until;
		visit->event = laggard->event;
		if (!is_enough(walk) &&
			!cmq_laggards_is_blocked(shared, laggard, walk->take->now))
			(void) look_at_group(walk, visit, DT_NOEND, &seen);
		keep_laggard(walk, CMQ_FLOOR, visit, seen.ready);
		keep_laggard(walk, CMQ_REWIND_FLOOR, visit, seen.due);
	}
}

/* Nothing below the row is left but what is a laggard's; the row stays. */
static void
rise_to(Walk *walk, CmqMarkKind kind, TimestampTz time)
{
	Rise	   *rise = &walk->rises[kind];

	if (!rise->stopped)
		rise->floor = time;
}

/* The second step has met a ready or due row of a group. */
static void
meet_group(Walk *walk, CmqMarkKind kind, int64 group, TimestampTz time)
{
	Rise	   *rise = &walk->rises[kind];
	CmqGroupSeen seen;
	bool		found;
	bool		left = true;
	Visit	   *visit = visits_insert(walk->visits, group, &found);

	if (found)
		walk->npassed++;
	else
	{
		walk->nblocked += !look_at_group(walk, visit, kind == CMQ_FLOOR ? time : DT_NOEND,
										 &seen);
		left = (kind == CMQ_FLOOR ? seen.ready : seen.due) <= time;
	}
	/* rows of the group with earlier times would have been met before */
	if (left && !rise->stopped)
	{
		if (visit->soon)
			note_soon(rise, visit, time);
		else
			rise->stopped = !add_laggard(&rise->next, visit, time);
	}
}

/* ... or one without a group, whose row the table of its scan stands at. */
static void
meet_free(Walk *walk, CmqMarkKind kind)
{
	CmqTake    *take = walk->take;
	CmqCandidates *scan = walk->scan;
	TupleTableSlot *slot = take->pending->table.slot;
	bool		taken;

	if (kind == CMQ_REWIND_FLOOR)
		taken = cmq_take_due(take, &scan->due.table);
	else
	{
		CmqPendingKey key = scan->ready;
		ItemPointerData tid = slot->tts_tid;

		taken = cmq_group_take_free(&walk->groups, &tid, &key);
	}
	if (taken)
		cmq_candidates_taken(scan);
	else
	{
		walk->rises[kind].stopped = true;
		walk->npassed++;
	}
}

/* The group of the row in the slot; false if it has none. */
static bool
group_of(TupleTableSlot *slot, CmqTableKind kind, int64 *group)
{
	if (!cmq_slot_group(slot, kind == CMQ_PENDING ? Anum_pending_group_key :
						Anum_rewind_group_hash, group))
		return false;
	*group = CMQ_GROUP_HASH(*group);
	return true;
}

/* The second step; false if it has met too many rows that cannot be had. */
static bool
look_in_order(Walk *walk)
{
	CmqCandidates *scan = walk->scan;
	int			look_ahead = cmq_laggards_look_ahead(walk->take->queue->shared);
	CmqSource	source = CMQ_NO_SOURCE;

	while (!is_enough(walk) &&
		   (source = cmq_candidates_next_row(scan)) != CMQ_NO_SOURCE)
	{
		bool		ready = source == CMQ_READY;
		CmqMarkKind kind = ready ? CMQ_FLOOR : CMQ_REWIND_FLOOR;
		TimestampTz time = ready ? scan->ready.visible_at : scan->due.time;
		TupleTableSlot *slot = ready ? scan->pending->slot : scan->due.table.slot;
		int64		group;

		rise_to(walk, kind, time);
		if (group_of(slot, ready ? CMQ_PENDING : CMQ_REWIND, &group))
			meet_group(walk, kind, group, time);
		else
			meet_free(walk, kind);
		/* a filter finds what there is, however far it has to look */
		if ((walk->npassed >= look_ahead || walk->nblocked >= MAX_HOPS) &&
			!walk->take->request->has_filter)
			return false;
	}
	/* each scan that has ended has met all */
	if (scan->merge.ready == CMQ_AT_END)
		rise_to(walk, CMQ_FLOOR, scan->now);
	if (scan->merge.due == CMQ_AT_END && scan->queue->rewinding.active)
		rise_to(walk, CMQ_REWIND_FLOOR, scan->queue->rewinding.rewound_at);
	return true;
}

/*
 * Look at messages without a group from a time up to another one, so many rows at most, and
 * all of one time; true at the end.  *last becomes the last time that was met.
 */
static bool
hop_through_free(Walk *walk, CmqTable *table, TimestampTz from, TimestampTz until,
				 TimestampTz *last, int *nrows)
{
	cmq_group_scan_nulls(table, from, until);
	while (!is_enough(walk))
	{
		CmqPendingKey key;

		if (!cmq_group_scan_next(table))
			return true;
		cmq_slot_key(table->group_slot, &key);
		if (*nrows >= MAX_HOPS && key.visible_at > *last)
			break;
		(*nrows)++;
		*last = key.visible_at;
		if (key.enqueued_at >= walk->scan->expired_before &&
			!table->foreign && !table->group_busy)
			(void) cmq_group_take_free(&walk->groups, &table->group_slot->tts_tid,
									   &key);
	}
	return false;
}

/*
 * The third step begins with messages without a group, from where the last one has ended:
 * there may be very many that cannot be had.
 */
static void
hop_to_free(Walk *walk, CmqTable *table)
{
	CmqSharedQueue *shared = walk->take->queue->shared;
	TimestampTz from = walk->scan->from;
	TimestampTz begin = Max(from, cmq_laggards_hop(shared, CMQ_HOP_FREE));
	TimestampTz last;
	int			nrows = 0;

	if (begin > walk->take->now)
		begin = from;
	last = begin;
	if (hop_through_free(walk, table, begin, walk->take->now, &last, &nrows) &&
		begin > from)
	{
		last = from;
		(void) hop_through_free(walk, table, from, begin - 1, &last, &nrows);
	}
	cmq_laggards_set_hop(shared, CMQ_HOP_FREE, last + 1);
}

/* Does the row say at once that its group is blocked? */
static bool
is_in_flight(Walk *walk, CmqTable *table, int64 key)
{
	CmqPendingKey row;

	if (table->kind != CMQ_PENDING || key != CMQ_GROUP_HASH(key))
		return false;
	cmq_slot_key(table->group_slot, &row);
	return row.enqueued_at >= walk->scan->expired_before &&
		(table->foreign || table->group_busy || row.visible_at > walk->take->now);
}

/*
 * Look at the groups behind *last, as far as one descent leads; false at the end of the
 * index.
 */
static bool
hop_on(Walk *walk, CmqTable *table, int64 *last, int *nhops)
{
	bool		any = false;

	cmq_group_scan_after(table, *last);
	for (int steps = 0; steps < MAX_STEPS && *nhops < MAX_HOPS && !is_enough(walk); steps++)
	{
		int64		key;
		int64		group;
		Visit	   *visit;
		CmqGroupSeen seen;
		bool		found;

		if (!cmq_group_scan_next_key(table, &key))
			return any;
		any = true;
		if (key <= *last)
			continue;
		group = CMQ_GROUP_HASH(key);
		*last = CMQ_GROUP_WAITING(group);
		steps = 0;
		(*nhops)++;
		if (cmq_group_scan_fetch(table) && is_in_flight(walk, table, key))
			continue;
		visit = visits_insert(walk->visits, group, &found);
		if (!found)
			(void) look_at_group(walk, visit, DT_NOEND, &seen);
	}
	return true;
}

/*
 * The third step, in one table: all groups once, from begin on.  Returns how far behind that
 * it came; PG_UINT64_MAX: around.
 */
static uint64
hop(Walk *walk, CmqTable *table, int64 begin)
{
	int64		last = begin;
	bool		wrapped = begin == PG_INT64_MIN;
	int			nhops = 0;

	while (nhops < MAX_HOPS && !is_enough(walk))
	{
		if (hop_on(walk, table, &last, &nhops))
		{
			if (wrapped && begin != PG_INT64_MIN && last >= begin)
				return PG_UINT64_MAX;
			continue;
		}
		if (wrapped)
			return PG_UINT64_MAX;
		last = PG_INT64_MIN;
		wrapped = true;
	}
	return (uint64) last - (uint64) begin;
}

/* The next walk begins behind what all have seen. */
static void
end_hop(CmqSharedQueue *shared, CmqHopKind kind, int64 begin, uint64 way)
{
	if (way != PG_UINT64_MAX)
		cmq_laggards_set_hop(shared, kind, (int64) ((uint64) begin + way));
}

static void
look_at_groups(Walk *walk)
{
	CmqQueue   *queue = walk->take->queue;
	const CmqRewind *rewinding = &queue->rewinding;
	int64		begin = cmq_laggards_hop(queue->shared, CMQ_HOP_PENDING);
	uint64		way = PG_UINT64_MAX;
	CmqTable	table;

	if (cmq_table_open(&table, NULL, queue, queue->pending, CMQ_PENDING,
					   RowExclusiveLock))
	{
		hop_to_free(walk, &table);
		way = hop(walk, &table, begin);
		cmq_table_close(&table);
	}
	end_hop(queue->shared, CMQ_HOP_PENDING, begin, way);

	/*
	 * all leaves from one place on, and the next time from where the first
	 * one has ended
	 */
	begin = cmq_laggards_hop(queue->shared, CMQ_HOP_DUE);
	way = PG_UINT64_MAX;
	for (int i = 0; rewinding->active && i < queue->nleaves && !is_enough(walk); i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];

		if (!cmq_due_reaches(rewinding, leaf, walk->scan->due.from) ||
			!cmq_table_open(&table, NULL, queue, leaf->rewind, CMQ_REWIND,
							RowExclusiveLock))
			continue;
		way = Min(way, hop(walk, &table, begin));
		cmq_table_close(&table);
	}
	end_hop(queue->shared, CMQ_HOP_DUE, begin, way);
}

/* Learn how far it is of use to look ahead. */
static void
learn_look_ahead(Walk *walk)
{
	CmqSharedQueue *shared = walk->take->queue->shared;
	int			before = cmq_laggards_look_ahead(shared);
	bool		limited = walk->npassed >= before && !walk->take->request->has_filter;
	bool		risen = !walk->rises[CMQ_FLOOR].stopped ||
		(walk->take->queue->rewinding.active &&
		 !walk->rises[CMQ_REWIND_FLOOR].stopped);

	if (limited && !risen)
		cmq_laggards_set_look_ahead(shared, before / 2);
	else if (limited || walk->npassed * 2 > before)
		cmq_laggards_set_look_ahead(shared, before * 2);
}

static void
begin_rise(Walk *walk, CmqMarkKind kind, TimestampTz floor)
{
	const CmqLaggards *before = &walk->scan->laggards[kind];
	Rise	   *rise = &walk->rises[kind];

	rise->stopped = false;
	rise->floor = floor;
	rise->soon = DT_NOEND;
	rise->nsoon = 0;
	rise->next.generation = before->generation;
	rise->next.rewound_at = before->rewound_at;
	rise->next.n = 0;
}

/* What the scan has found becomes what the next one knows; returns the first floor. */
static TimestampTz
end_rise(Walk *walk, CmqMarkKind kind)
{
	CmqLaggards *before = &walk->scan->laggards[kind];
	Rise	   *rise = &walk->rises[kind];
	CmqLaggards *next = &rise->next;
	TimestampTz first;

	/* what has not become free for too long is a laggard, after all */
	if (rise->soon <= before->floor &&
		walk->take->now - before->since > MAX_STAND)
	{
		for (int i = 0; i < rise->nsoon && rise->soon != DT_NOEND; i++)
		{
			CmqLaggard *laggard = &rise->soon_free[i];
			Visit		visit = {
				.group = laggard->group,
				.until = laggard->until,
				.event = laggard->event
			};

			if (!add_laggard(next, &visit, laggard->from))
				break;
			if (i == rise->nsoon - 1)
				rise->soon = DT_NOEND;
		}
	}
	first = next->floor = Min(rise->floor, rise->soon);
	next->since = walk->take->now;
	/* above the floor all are met anyway */
	for (int i = next->n - 1; i >= 0; i--)
	{
		if (next->each[i].from >= next->floor)
			next->each[i] = next->each[--next->n];
	}
	for (int i = 0; i < next->n; i++)
		first = Min(first, next->each[i].from);
	cmq_laggards_copy(&walk->scan->laggards[kind], next);
	return first;
}

static Walk *
begin_walk(CmqTake *take, CmqCandidates *scan, int max)
{
	Walk	   *walk = palloc(sizeof(Walk));

	walk->take = take;
	walk->scan = scan;
	walk->most = max;
	walk->npassed = walk->nblocked = 0;
	walk->visits = visits_create(CurrentMemoryContext, 8, NULL);
	cmq_group_take_begin(&walk->groups, take, scan);
	begin_rise(walk, CMQ_FLOOR, scan->from);
	begin_rise(walk, CMQ_REWIND_FLOOR, scan->due.from);
	return walk;
}

static void
end_walk(Walk *walk)
{
	cmq_group_take_end(&walk->groups);
	visits_destroy(walk->visits);
	pfree(walk);
}

/* Take up to max messages, for a scan that has begun with laggards. */
void
cmq_ordered_take(CmqTake *take, CmqCandidates *scan, int max)
{
	Walk	   *walk = begin_walk(take, scan, max);
	bool		limited = false;

	look_at_laggards(walk, CMQ_FLOOR);
	look_at_laggards(walk, CMQ_REWIND_FLOOR);
	if (!is_enough(walk))
		limited = !look_in_order(walk);
	if (limited)
		look_at_groups(walk);

	learn_look_ahead(walk);
	if (take->request->has_filter)
		scan->first_alive = scan->first_due = DT_NOBEGIN;
	else
	{
		scan->first_alive = end_rise(walk, CMQ_FLOOR);
		scan->first_due = end_rise(walk, CMQ_REWIND_FLOOR);
	}
	end_walk(walk);
}

/* The floors have been raised: have the next receive know what this one has found. */
void
cmq_ordered_end(CmqTake *take, CmqCandidates *scan)
{
	CmqSharedQueue *shared = take->queue->shared;

	if (take->request->has_filter)
		return;
	cmq_laggards_install(shared, CMQ_FLOOR, &scan->floor,
						 &scan->laggards[CMQ_FLOOR]);
	if (scan->floor.rewound_at != DT_NOBEGIN)
		cmq_laggards_install(shared, CMQ_REWIND_FLOOR, &scan->floor,
							 &scan->laggards[CMQ_REWIND_FLOOR]);
}

/* Messages that a call chooses by their ids; of a group from its head on. */
struct CmqOrderedChoice
{
	CmqCandidates scan;
	CmqLaggards laggards[CMQ_NLAGGARDS];
	Walk	   *walk;
};

/* To be followed by cmq_ordered_choose_end(); find has found the messages. */
CmqOrderedChoice *
cmq_ordered_choose_begin(CmqTake *take, const CmqFind *find)
{
	CmqOrderedChoice *choice = palloc(sizeof(CmqOrderedChoice));

	cmq_candidates_begin(&choice->scan, take->queue, &take->pending->table,
						 take->now, find->n, NULL, choice->laggards);
	choice->walk = begin_walk(take, &choice->scan, find->n);
	choice->walk->groups.chosen = find->found;
	choice->walk->groups.nchosen = find->n;
	return choice;
}

/*
 * Take what was chosen of the group of the message whose row the table stands at, unless it
 * was before; false if it has no group.
 */
bool
cmq_ordered_choose(CmqOrderedChoice *choice, CmqTable *table)
{
	CmqGroupSeen seen;
	Visit	   *visit;
	int64		group;
	bool		found;

	if (!group_of(table->slot, table->kind, &group))
		return false;
	visit = visits_insert(choice->walk->visits, group, &found);
	if (!found)
		(void) look_at_group(choice->walk, visit, DT_NOEND, &seen);
	return true;
}

/* The call has looked at these groups alone, so no floor rises. */
void
cmq_ordered_choose_end(CmqOrderedChoice *choice)
{
	end_walk(choice->walk);
	choice->scan.first_alive = choice->scan.first_due = DT_NOBEGIN;
	cmq_candidates_end(&choice->scan, -1);
	pfree(choice);
}
