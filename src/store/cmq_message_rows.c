/*-------------------------------------------------------------------------
 *
 * cmq_message_rows.c
 *	  Messages of a queue, wherever they are: in its own leaves, or in journals of topics.
 *
 * A pending row, or one of the history, says where the message is: it names a topic, or
 * none.
 *
 * The owner of a topic may do to its journal what owners may do, and is not to hold up who
 * consumes from queues of others.  So nobody waits for a lock there, and a journal or a leaf
 * that was changed raises no error: a message that cannot be had for that reason is one that
 * cannot be read, and is put off (cmq_take.c).
 *
 * Locks: those of cmq_leaf_rows.c on the queue's own leaves; AccessShare on leaves of
 * journals, to the end of the transaction, and none on a journal itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/pg_type_d.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "store/cmq_bounds.h"
#include "store/cmq_description.h"
#include "store/cmq_journal.h"
#include "store/cmq_journal_rows.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

/* Messages in the journal of one topic. */
typedef struct CmqJournalRows
{
	struct CmqJournalRows *next;
	char		topic[NAMEDATALEN];
	CmqLeafRows rows;
} CmqJournalRows;

/*
 * Messages of a queue; lockmode is that of the leaves of the queue's own.  To be followed
 * by cmq_message_rows_end().
 */
void
cmq_message_rows_begin(CmqMessageRows *rows, CmqQueue *queue, LOCKMODE lockmode)
{
	rows->queue = queue;
	rows->mcxt = CurrentMemoryContext;
	rows->journals = NULL;
	rows->seen_by = NULL;
	rows->slot = NULL;
	rows->unreadable = false;
	rows->own = &rows->own_rows;
	cmq_leaf_rows_begin(rows->own, queue, CMQ_MESSAGES, lockmode, NULL);
}

void
cmq_message_rows_end(CmqMessageRows *rows)
{
	cmq_leaf_rows_end(&rows->own_rows);
	for (CmqJournalRows *journal = rows->journals; journal; journal = journal->next)
		cmq_leaf_rows_end(&journal->rows);
	rows->journals = NULL;
}

/*
 * Have the leaf of this time open; false if it is gone, and if it cannot be had,
 * rows->unreadable.
 */
static bool
open_leaf(CmqMessageRows *rows, CmqLeafRows *leaves, TimestampTz time)
{
	CmqLeaf    *leaf;

	if (leaves == rows->own)
		return cmq_leaf_rows_open(leaves, time);
	leaf = cmq_bounds_leaf(leaves->queue, time);
	if (leaf && leaf != leaves->leaf && !cmq_journal_can_open(leaves->queue, leaf))
	{
		rows->unreadable = true;
		return false;
	}
	return cmq_leaf_rows_open(leaves, time);
}

/* The rows of the journal of this topic; NULL if it has none, or one that is damaged. */
static CmqLeafRows *
find_journal(CmqMessageRows *rows, const char *topic)
{
	CmqJournalRows *journal = rows->journals;
	CmqQueue   *description;
	MemoryContext old;

	while (journal && strcmp(journal->topic, topic) != 0)
		journal = journal->next;
	if (journal)
		return &journal->rows;
	description = cmq_journal_find(topic);
	if (description == NULL)
	{
		rows->unreadable = cmq_journal_exists(topic);
		return NULL;
	}
	old = MemoryContextSwitchTo(rows->mcxt);
	journal = palloc(sizeof(CmqJournalRows));
	strlcpy(journal->topic, topic, NAMEDATALEN);
	cmq_leaf_rows_begin(&journal->rows, description, CMQ_JOURNAL, AccessShareLock,
						NULL);
	journal->rows.seen_by = rows->seen_by;
	journal->next = rows->journals;
	rows->journals = journal;
	MemoryContextSwitchTo(old);
	return &journal->rows;
}

/* Where the message of a row is that names this topic; NULL: the topic has no journal. */
static CmqLeafRows *
get_rows(CmqMessageRows *rows, const char *topic)
{
	rows->unreadable = false;
	if (likely(topic[0] == '\0'))
	{
		rows->own->seen_by = rows->seen_by;
		return rows->own;
	}
	return find_journal(rows, topic);
}

/*
 * Have the leaf open where the message of this time is; false if it is gone.  True also if
 * it cannot be had: then the message will not be found.
 */
bool
cmq_message_rows_open(CmqMessageRows *rows, TimestampTz time, const char *topic)
{
	CmqLeafRows *leaves = get_rows(rows, topic);

	return (leaves && open_leaf(rows, leaves, time)) || rows->unreadable;
}

/* Does the message in the slot, of a journal, list the queue of this name? */
static bool
lists_queue(TupleTableSlot *slot, const char *name)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, Anum_journal_queues, &isnull);
	int			length = strlen(name);
	ArrayType  *queues;
	char	   *element;
	bool		found = false;

	if (isnull)
		return false;
	queues = DatumGetArrayTypeP(value);
	/* somebody may have changed it by hand */
	if (ARR_HASNULL(queues) || ARR_ELEMTYPE(queues) != TEXTOID)
		return false;
	element = ARR_DATA_PTR(queues);
	for (int i = ArrayGetNItems(ARR_NDIM(queues), ARR_DIMS(queues)); i > 0 && !found; i--)
	{
		found = VARSIZE_ANY_EXHDR(element) == length &&
			memcmp(VARDATA_ANY(element), name, length) == 0;
		element = (char *) att_align_nominal(element + VARSIZE_ANY(element),
											 TYPALIGN_INT);
	}
	if ((Pointer) queues != DatumGetPointer(value))
		pfree(queues);
	return found;
}

/*
 * Is the message of this time, which the journal has for a queue of this name, the queue's
 * own?  Not if it is older than the queue.
 */
static bool
is_own(CmqQueue *queue, TimestampTz time, const char *topic)
{
	List	   *receivers;

	/* of all its journals */
	if (time >= queue->published_since)
		return true;
	receivers = cmq_receiver_list(queue->name, cmq_journal_name(topic));
	return receivers == NIL || time >= ((CmqReceiver *) linitial(receivers))->since;
}

/* Find the message of this time, into rows->slot; false if there is none for the queue. */
bool
cmq_message_rows_find(CmqMessageRows *rows, TimestampTz time, const char *topic)
{
	CmqLeafRows *leaves = get_rows(rows, topic);

	if (leaves == NULL || !open_leaf(rows, leaves, time) ||
		!cmq_leaf_rows_find(leaves, time))
		return false;
	rows->slot = leaves->table.slot;
	return leaves == rows->own ||
		(lists_queue(rows->slot, rows->queue->name) &&
		 is_own(rows->queue, time, topic));
}

/*
 * The same for a message of which no row says where it is.  If it is not found, and may be
 * where nothing can be had now, rows->unreadable.
 */
bool
cmq_message_rows_find_any(CmqMessageRows *rows, TimestampTz time)
{
	List	   *receivers = NIL;
	ListCell   *lc;
	bool		unreadable = false;

	if (cmq_message_rows_find(rows, time, ""))
		return true;
	if (rows->queue->has_journals)
		receivers = cmq_receiver_list(rows->queue->name, NULL);
	foreach(lc, receivers)
	{
		if (cmq_message_rows_find(rows, time,
								  ((CmqReceiver *) lfirst(lc))->journal + 1))
			return true;
		unreadable |= rows->unreadable;
	}
	rows->unreadable = unreadable;
	return false;
}

/* Warn that a call has left so many messages of the queue out, which could not be had. */
void
cmq_message_rows_warn(CmqQueue *queue, int64 nunreadable)
{
	if (nunreadable > 0)
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%lld messages of queue \"%s\" were left out",
						(long long) nunreadable, queue->name),
				 errdetail("They are in journals of topics. Somebody has these locked, or their owner has changed them."),
				 errhint("Call again later.")));
}

/* The name of the group of the message that was found; a queue without order has none. */
Datum
cmq_message_rows_group(const CmqMessageRows *rows, bool *isnull)
{
	*isnull = true;
	return rows->queue->ordered ? cmq_slot_group_name(rows->slot, isnull) : (Datum) 0;
}

/*
 * Remove the message of this time; false if there is none.  What is in a journal goes with
 * its leaf there, also what cannot be had now.
 */
bool
cmq_message_rows_remove(CmqMessageRows *rows, TimestampTz time, const char *topic)
{
	return topic[0] == '\0' ? cmq_leaf_rows_remove(rows->own, time) :
		cmq_message_rows_find(rows, time, topic) || rows->unreadable;
}
