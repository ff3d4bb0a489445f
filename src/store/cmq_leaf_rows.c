/*-------------------------------------------------------------------------
 *
 * cmq_leaf_rows.c
 *	  Rows of leaf tables, messages or history, by their time, the last leaf kept open.
 *
 * A message, and its rewind row, is in the leaf of the time at which it was produced.
 * Messages that are handled together were mostly produced together: so a leaf stays open
 * until a message of another leaf comes.  A leaf that is gone was dropped with all its
 * messages, which nobody could get any more.
 *
 * Locks: on each leaf that was opened, to the end of the transaction; those of a receive
 * that waits, until it has looked (cmq_receive.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

/*
 * The lock on message leaves for a caller that reads messages and then deletes some: with
 * rewind off that removes them, and to get a stronger lock later can be a deadlock.
 */
LOCKMODE
cmq_leaf_rows_delete_lock(CmqQueue *queue)
{
	return queue->rewind_seconds > 0 ? AccessShareLock : RowExclusiveLock;
}

/* estate is NULL if no rows are inserted.  To be followed by cmq_leaf_rows_end(). */
void
cmq_leaf_rows_begin(CmqLeafRows *messages, CmqQueue *queue, CmqTableKind kind,
					LOCKMODE lockmode, EState *estate)
{
	messages->queue = queue;
	messages->kind = kind;
	messages->lockmode = lockmode;
	messages->estate = estate;
	messages->seen_by = NULL;
	messages->mcxt = CurrentMemoryContext;
	messages->leaf = NULL;
}

/* Close the leaf that is open, if one is; write the rows that it has kept back first. */
void
cmq_leaf_rows_end(CmqLeafRows *messages)
{
	if (messages->leaf == NULL)
		return;
	(void) cmq_table_flush(&messages->table);
	cmq_table_close(&messages->table);
	messages->leaf = NULL;
}

/* Have the leaf of this time open; false if it is gone. */
bool
cmq_leaf_rows_open(CmqLeafRows *messages, TimestampTz time)
{
	CmqLeaf    *leaf = messages->leaf;
	MemoryContext old;

	if (leaf && time >= leaf->lower && time < leaf->upper)
		return true;
	cmq_leaf_rows_end(messages);
	leaf = cmq_bounds_leaf(messages->queue, time);
	if (leaf == NULL)
		return false;
	old = MemoryContextSwitchTo(messages->mcxt);
	if (cmq_table_open(&messages->table, messages->estate, messages->queue,
					   messages->kind == CMQ_REWIND ? leaf->rewind : leaf->messages,
					   messages->kind, messages->lockmode))
	{
		messages->table.seen_by = messages->seen_by;
		messages->leaf = leaf;
	}
	MemoryContextSwitchTo(old);
	return messages->leaf != NULL;
}

/* Find the row of this time; false if there is none. */
bool
cmq_leaf_rows_find(CmqLeafRows *messages, TimestampTz time)
{
	MemoryContext old;
	bool		found;

	if (!cmq_leaf_rows_open(messages, time))
		return false;
	old = MemoryContextSwitchTo(messages->mcxt);
	found = cmq_table_find(&messages->table, time, 0);
	MemoryContextSwitchTo(old);
	return found;
}

/* Insert a row into the leaf that is open, as cmq_table_insert() does. */
void
cmq_leaf_rows_insert(CmqLeafRows *messages, Datum *values, bool *isnull, Size size)
{
	MemoryContext old = MemoryContextSwitchTo(messages->mcxt);

	if (cmq_table_insert(&messages->table, values, isnull, size))
		(void) cmq_table_flush(&messages->table);
	MemoryContextSwitchTo(old);
}

/* Does the leaf that is open stand at the row of this time? */
static bool
stands_at(CmqLeafRows *messages, TimestampTz time)
{
	/* the time is the first column of both kinds */
	return messages->leaf && !TTS_EMPTY(messages->table.slot) &&
		cmq_slot_time(messages->table.slot, Anum_messages_enqueued_at) == time;
}

/*
 * Remove the row of this time, waiting for whoever changes it; false if there is none.  A
 * caller that has just found it does not look for it again.
 */
bool
cmq_leaf_rows_remove(CmqLeafRows *messages, TimestampTz time)
{
	return (stands_at(messages, time) || cmq_leaf_rows_find(messages, time)) &&
		cmq_table_delete(&messages->table, true) == TM_Ok;
}
