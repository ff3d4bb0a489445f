/*-------------------------------------------------------------------------
 *
 * cmq_journal_rows.c
 *	  Rows of cmq.topic_journal and cmq.receiver.
 *
 * A row of cmq.receiver says that a queue has, or may have, messages in a journal.  It
 * comes with the first subscription, and says from when on there are none when the last
 * one is over (cmq_journal_drop.c).  When the queue is dropped the row stays, for a queue
 * that gets the name: what is earlier is not its.
 *
 * Locks: RowExclusive to write, to the end of the transaction.  Who writes rows of
 * receivers holds the lock on cmq.topic.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_identity.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_journal_rows.h"

/* A text column of the row of a scan, as a name. */
static void
get_name(CmqCatalogScan *cs, HeapTuple tuple, int attnum, char *name)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, RelationGetDescr(cs->rel), &isnull);

	text_to_cstring_buffer(DatumGetTextPP(value), name, NAMEDATALEN);
}

static TimestampTz
get_time(CmqCatalogScan *cs, HeapTuple tuple, int attnum, TimestampTz of_null)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, RelationGetDescr(cs->rel), &isnull);

	return isnull ? of_null : DatumGetTimestampTz(value);
}

/* Fill a description with the row of the journal; false if there is none. */
bool
cmq_journal_find_row(CmqDescription *journal, const char *name)
{
	CmqCatalogScan cs;
	HeapTuple	tuple;

	memset(journal, 0, sizeof(*journal));
	cmq_catalog_begin(&cs, "topic_journal", AccessShareLock, name);
	tuple = cmq_catalog_next(&cs);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;

		get_name(&cs, tuple, Anum_journal_name, journal->name);
		journal->create_time = get_time(&cs, tuple, Anum_journal_create_time, 0);
		journal->messages =
			DatumGetObjectId(heap_getattr(tuple, Anum_journal_messages,
										  RelationGetDescr(cs.rel), &isnull));
	}
	cmq_catalog_end(&cs);
	return HeapTupleIsValid(tuple);
}

/* The same for a queue or a journal, whichever has the name. */
bool
cmq_journal_find_any(CmqDescription *description, const char *name)
{
	if (!cmq_is_journal_name(name))
		return cmq_catalog_find_queue(description, name);
	if (!cmq_journal_find_row(description, name))
		return false;
	description->relid = description->pending = description->messages;
	return true;
}

/* Was the journal made in this database, and not brought by a restore? */
bool
cmq_journal_is_made_here(const char *name)
{
	CmqCatalogScan cs;
	HeapTuple	tuple;
	bool		isnull;
	bool		here;

	cmq_catalog_begin(&cs, "topic_journal", AccessShareLock, name);
	tuple = cmq_catalog_next(&cs);
	here = HeapTupleIsValid(tuple) &&
		DatumGetInt64(heap_getattr(tuple, Anum_journal_made_in,
								   RelationGetDescr(cs.rel), &isnull)) ==
		cmq_identity_database();
	cmq_catalog_end(&cs);
	return here;
}

void
cmq_journal_insert_row(const char *name, Oid relid)
{
	Relation	rel = cmq_catalog_open("topic_journal", RowExclusiveLock);
	Datum		values[Natts_journal_row];
	bool		isnull[Natts_journal_row] = {false};

	values[Anum_journal_name - 1] = CStringGetTextDatum(name);
	values[Anum_journal_create_time - 1] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_journal_messages - 1] = ObjectIdGetDatum(relid);
	values[Anum_journal_made_in - 1] = Int64GetDatum(cmq_identity_database());
	cmq_catalog_store(rel, NULL, values, isnull);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* The row, and those of its leaves, whose tables are dropped. */
void
cmq_journal_delete_row(const char *name)
{
	CmqCatalogScan cs;
	HeapTuple	tuple;

	(void) cmq_catalog_forget_leaves(name);
	cmq_catalog_begin(&cs, "topic_journal", RowExclusiveLock, name);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
		simple_table_tuple_delete(cs.rel, &tuple->t_self, InvalidSnapshot);
	cmq_catalog_end(&cs);
	CommandCounterIncrement();
}

/* The names of all journals, in order, palloc'd. */
List *
cmq_journal_names(void)
{
	CmqCatalogScan cs;
	HeapTuple	tuple;
	List	   *names = NIL;

	cmq_catalog_begin(&cs, "topic_journal", AccessShareLock, NULL);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		char		name[NAMEDATALEN];

		get_name(&cs, tuple, Anum_journal_name, name);
		names = lappend(names, pstrdup(name));
	}
	cmq_catalog_end(&cs);
	return names;
}

/* Move to the next row of this queue and journal; NULL stands for any. */
static HeapTuple
next_receiver(CmqCatalogScan *cs, const char *journal, CmqReceiver *receiver)
{
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = cmq_catalog_next(cs)))
	{
		get_name(cs, tuple, Anum_receiver_queue, receiver->queue);
		get_name(cs, tuple, Anum_receiver_journal, receiver->journal);
		receiver->since = get_time(cs, tuple, Anum_receiver_since, DT_NOBEGIN);
		receiver->until = get_time(cs, tuple, Anum_receiver_until, DT_NOEND);
		if (journal == NULL || strcmp(receiver->journal, journal) == 0)
			break;
	}
	return tuple;
}

/* The CmqReceivers of this queue, and of this journal; NULL stands for any. */
List *
cmq_receiver_list(const char *queue, const char *journal)
{
	CmqCatalogScan cs;
	CmqReceiver receiver;
	List	   *receivers = NIL;

	cmq_catalog_begin(&cs, "receiver", AccessShareLock, queue);
	while (HeapTupleIsValid(next_receiver(&cs, journal, &receiver)))
	{
		CmqReceiver *copy = palloc(sizeof(CmqReceiver));

		*copy = receiver;
		receivers = lappend(receivers, copy);
	}
	cmq_catalog_end(&cs);
	return receivers;
}

/* Backends that know the queue, or the journal, of this name load it again. */
static void
changed(const char *name)
{
	CmqDescription description;

	if (cmq_journal_find_any(&description, name) &&
		get_rel_name(description.relid) != NULL)
		CacheInvalidateRelcacheByRelid(description.relid);
	CommandCounterIncrement();
}

/* Insert the row of a receiver, or replace it. */
void
cmq_receiver_put(const CmqReceiver *receiver)
{
	CmqCatalogScan cs;
	CmqReceiver old;
	Datum		values[Natts_receiver];
	bool		isnull[Natts_receiver] = {false};
	HeapTuple	tuple;

	values[Anum_receiver_queue - 1] = CStringGetTextDatum(receiver->queue);
	values[Anum_receiver_journal - 1] = CStringGetTextDatum(receiver->journal);
	values[Anum_receiver_since - 1] = TimestampTzGetDatum(receiver->since);
	isnull[Anum_receiver_since - 1] = receiver->since == DT_NOBEGIN;
	values[Anum_receiver_until - 1] = TimestampTzGetDatum(receiver->until);
	isnull[Anum_receiver_until - 1] = receiver->until == DT_NOEND;
	cmq_catalog_begin(&cs, "receiver", RowExclusiveLock, receiver->queue);
	tuple = next_receiver(&cs, receiver->journal, &old);
	if (!HeapTupleIsValid(tuple) || old.since != receiver->since ||
		old.until != receiver->until)
		cmq_catalog_store(cs.rel, tuple, values, isnull);
	cmq_catalog_end(&cs);
	changed(receiver->queue);
	changed(receiver->journal);
}

/* Delete the rows of this queue and journal; NULL stands for any. */
void
cmq_receiver_delete(const char *queue, const char *journal)
{
	CmqCatalogScan cs;
	CmqReceiver receiver;
	HeapTuple	tuple;
	List	   *names = NIL;
	ListCell   *lc;

	cmq_catalog_begin(&cs, "receiver", RowExclusiveLock, queue);
	while (HeapTupleIsValid(tuple = next_receiver(&cs, journal, &receiver)))
	{
		simple_table_tuple_delete(cs.rel, &tuple->t_self, InvalidSnapshot);
		names = lappend(names, pstrdup(receiver.queue));
		names = lappend(names, pstrdup(receiver.journal));
	}
	cmq_catalog_end(&cs);
	foreach(lc, names)
		changed(lfirst(lc));
}
