/*-------------------------------------------------------------------------
 *
 * cmq_blocked.c
 *	  How many groups of an ordered queue wait for a message in flight.
 *
 * A group is blocked when one of its messages is in flight, or put off by a release, and
 * another one could be received otherwise: it waits, is ready again, or is due for the
 * rewind under way.  What is in flight stands right of now in the primary key, so the
 * groups are found there, and then each is looked for in the indexes by group: so the cost
 * goes with what is in flight and not with what waits.  With very many groups in flight
 * nobody counts.
 *
 * Rows that other transactions have not committed do not count, and those that they are
 * deleting do, as for all numbers that are looked at.  Only reads.
 *
 * Locks: AccessShare on the pending table, which the caller has open, and on rewind leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lockdefs.h"
#include "utils/timestamp.h"

#include "base/cmq_group.h"
#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_group_scan.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "watch/cmq_blocked.h"

/* A group with a message in flight. */
typedef struct Flying
{
	int64		hash;
	char		status;			/* of simplehash */
	bool		blocked;		/* another message waits */
} Flying;

#define SH_PREFIX groups
#define SH_ELEMENT_TYPE Flying
#define SH_KEY_TYPE int64
#define SH_KEY hash
/* it is a hash */
#define SH_HASH_KEY(tb, key) ((uint32) ((uint64) (key) >> 8))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Find the groups that have a message in flight; false if there are too many. */
static bool
find_groups(groups_hash *groups, CmqTable *pending, TimestampTz now,
			TimestampTz expired_before)
{
	cmq_table_range(pending, now + 1, DT_NOEND, false);
	while (cmq_table_next(pending))
	{
		int64		key;
		bool		found;

		if (cmq_slot_time(pending->slot, Anum_pending_enqueued_at) < expired_before ||
			!cmq_slot_group(pending->slot, Anum_pending_group_key, &key))
			continue;
		(void) groups_insert(groups, CMQ_GROUP_HASH(key), &found);
		if (groups->members > CMQ_BLOCKED_MAX)
			return false;
	}
	return true;
}

/* Does the pending table have a row with this key, visible from floor up to now? */
static bool
has_ready(CmqTable *pending, int64 key, TimestampTz floor, TimestampTz now,
		  TimestampTz expired_before)
{
	cmq_group_scan_range(pending, key, floor, now, true);
	while (cmq_group_scan_next(pending))
	{
		if (!pending->foreign &&
			cmq_slot_time(pending->group_slot,
						  Anum_pending_enqueued_at) >= expired_before)
			return true;
	}
	return false;
}

/* Does the rewind table have a row of the group that the rewind brings back? */
static bool
has_due(CmqTable *rewind, const CmqRewind *rewinding, int64 hash, TimestampTz from)
{
	cmq_group_scan_range(rewind, hash, from, rewinding->rewound_at, false);
	while (cmq_group_scan_next(rewind))
	{
		if (!rewind->foreign && cmq_slot_is_due(rewinding, rewind->group_slot))
			return true;
	}
	return false;
}

/* Look for due messages of those groups that have nothing else that waits. */
static void
look_for_due(groups_hash *groups, CmqQueue *queue, TimestampTz from)
{
	const CmqRewind *rewinding = &queue->rewinding;

	for (int i = 0; rewinding->active && i < queue->nleaves; i++)
	{
		groups_iterator scan;
		Flying	   *group;
		CmqTable	rewind;

		if (!cmq_due_reaches(rewinding, &queue->leaves[i], from) ||
			!cmq_table_open(&rewind, NULL, queue, queue->leaves[i].rewind,
							CMQ_REWIND, AccessShareLock))
			continue;
		groups_start_iterate(groups, &scan);
		while ((group = groups_iterate(groups, &scan)) != NULL)
		{
			if (!group->blocked)
				group->blocked = has_due(&rewind, rewinding, group->hash, from);
		}
		cmq_table_close(&rewind);
	}
}

/*
 * How many groups are blocked; -1 if that takes too long.  No ready row of the pending table
 * is below floor, and none that is due below due_floor.
 */
int64
cmq_blocked_count(CmqQueue *queue, CmqTable *pending, TimestampTz now,
				  TimestampTz floor, TimestampTz due_floor)
{
	TimestampTz expired_before = cmq_bounds_expired_before(queue, now);
	groups_hash *groups = groups_create(CurrentMemoryContext, 32, NULL);
	groups_iterator scan;
	Flying	   *group;
	int64		n = 0;

	if (!find_groups(groups, pending, now, expired_before))
		n = -1;
	else
	{
		groups_start_iterate(groups, &scan);
		while ((group = groups_iterate(groups, &scan)) != NULL)
			group->blocked =
				has_ready(pending, CMQ_GROUP_WAITING(group->hash), floor, now,
						  expired_before) ||
				has_ready(pending, group->hash, floor, now, expired_before);
		look_for_due(groups, queue, Max(Max(queue->rewinding.from, expired_before),
										due_floor));
		groups_start_iterate(groups, &scan);
		while ((group = groups_iterate(groups, &scan)) != NULL)
			n += group->blocked;
	}
	groups_destroy(groups);
	return n;
}
