/*-------------------------------------------------------------------------
 *
 * cmq_dump.c
 *	  What a restore from a dump has not brought yet.
 *
 * A restore of the data brings a queue's row first, then the messages, what is
 * pending, and the rewind rows, each table in a transaction of its own; it may take
 * hours, and maintenance does not wait for its end.  What is not there yet must not
 * be taken for consumed.  So each row of cmq.partition and each rewind under way says in
 * which database it was made.  If that is another database it has come by a restore:
 *	- such a leaf is not dropped before its messages have expired, nor that of its keys
 *	- such a rewind is not ended, or moved on, while a leaf in its range has no rewind
 *	  rows: they may be still to come.  A restore brings each table as a whole.
 * The other steps of maintenance do no harm while something is missing, or fail and are
 * tried again.  While the primary keys are not made no step runs at all
 * (cmq_dump_check_keys()).
 *
 * Locks: AccessShare on leaves.  Nothing is changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "base/cmq_identity.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_dump.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

static bool
has_rewind_rows(CmqQueue *queue, const CmqLeaf *leaf)
{
	CmqTable	rewind;
	bool		found;

	if (!cmq_table_open(&rewind, NULL, queue, leaf->rewind, CMQ_REWIND,
						AccessShareLock))
		return true;
	cmq_table_range(&rewind, DT_NOBEGIN, DT_NOEND, false);
	found = cmq_table_next(&rewind);
	cmq_table_close(&rewind);
	return found;
}

/* Is all there that the rewind under way brings back? */
bool
cmq_dump_rewind_is_whole(CmqQueue *queue, TimestampTz expired_before)
{
	const CmqRewind *rewinding = &queue->rewinding;

	/* what was deleted before has expired by then */
	if (rewinding->called_in == cmq_identity_database() ||
		rewinding->rewound_at <= expired_before)
		return true;
	for (int i = 0; i < queue->nleaves; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];

		if (cmq_due_reaches(rewinding, leaf,
							Max(rewinding->from, expired_before)) &&
			!has_rewind_rows(queue, leaf))
			return false;
	}
	return queue->nleaves > 0;
}

static void
check_key(CmqQueue *queue, Oid relid)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	Oid			pk;
	bool		valid = false;

	/* dropped while we waited for it: the caller looks again */
	if (rel == NULL)
		return;
	pk = cmq_primary_key(rel);
	if (OidIsValid(pk))
	{
		Relation	index = index_open(pk, AccessShareLock);

		valid = index->rd_index->indisvalid;
		index_close(index, AccessShareLock);
	}
	if (!valid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s \"%s\" is not complete", cmq_kind(queue),
						cmq_plain_name(queue)),
				 errdetail("Table \"%s\" has no valid primary key.",
						   RelationGetRelationName(rel)),
				 errhint("If the queue is being restored from a dump, this passes when the restore has ended.")));
	relation_close(rel, AccessShareLock);
}

/*
 * Raise 55000 if one of the queue's tables has no valid primary key: then pg_restore is
 * still at work, and what is not there yet must not count as consumed.  pg_restore makes
 * keys after it has loaded the data; that of a partitioned table is valid when all leaves
 * have theirs.
 */
void
cmq_dump_check_keys(CmqQueue *queue)
{
	check_key(queue, queue->messages);
	check_key(queue, queue->pending);
	check_key(queue, queue->rewind);
}
