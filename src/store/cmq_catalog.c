/*-------------------------------------------------------------------------
 *
 * cmq_catalog.c
 *	  The metadata tables, and the rows of cmq.queue and cmq.partition.
 *
 * A read takes a snapshot of its own: it sees what has committed by now and what this
 * transaction has written, at every isolation level.  A transaction that writes rows of a
 * queue holds the queue lock (cmq_queue_lock()), has just created the queue, or is making
 * a leaf.  So two transactions never change a row at once; but of two that delete rows of
 * leaves that do not exist any more, the second gets an error.
 *
 * Each write that changes a description sends the invalidation that makes other backends
 * load the queue again, and ends with a command counter increment, so that this backend
 * does, too.  For a queue whose tables are dropped DDL has sent the invalidation.
 *
 * The functions here check no rights: roles have none on these tables.  The tables have
 * CHECK constraints, for rows that somebody writes by hand, or that come from a dump which
 * was edited.  Rows of cmq's own are checked as well, though each value has been checked
 * before as an argument: a row that broke a constraint could not be restored from a dump.
 *
 * Locks: AccessShare to read, to the end of the scan; RowExclusive to write, to the end
 * of the transaction.  Abort: rows go with the transaction, and the invalidation is sent
 * again (cmq_cache.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_headers.h"
#include "base/cmq_identity.h"
#include "base/cmq_names.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"

/*
 * A column of a metadata table.  cmq knows a table by the types of its columns.  A row
 * of a queue or a leaf is kept in memory as a struct, with the column at the offset.
 */
typedef struct Column
{
	Oid			type;
	bool		optional;		/* null for zero, or an empty name */
	size_t		offset;
} Column;

/* A row of cmq.partition. */
typedef struct LeafRow
{
	char		queue[NAMEDATALEN];
	struct CmqLeaf leaf;
} LeafRow;

#define TYPE(t) {.type = t}
#define QUEUE(t, field) {.type = t, .offset = offsetof(CmqDescription, field)}
#define OPTIONAL(t, field) \
	{.type = t, .optional = true, .offset = offsetof(CmqDescription, field)}
#define LEAF(t, field) {.type = t, .offset = offsetof(LeafRow, field)}
#define OPTIONAL_LEAF(t, field) \
	{.type = t, .optional = true, .offset = offsetof(LeafRow, field)}

static const Column queue_columns[] = {
	QUEUE(TEXTOID, name),
	QUEUE(INT4OID, visibility_timeout),
	QUEUE(INT4OID, polling_wait_seconds),
	QUEUE(INT4OID, msg_retention_seconds),
	QUEUE(INT4OID, rewind_seconds),
	QUEUE(INT4OID, max_msg_size),
	QUEUE(INT8OID, max_msg_heap_num),
	OPTIONAL(TEXTOID, dead_letter_queue),
	OPTIONAL(INT4OID, max_receive_count),
	OPTIONAL(INT4OID, max_time_to_live),
	QUEUE(INT4OID, retry_backoff_seconds),
	QUEUE(INT4OID, retry_backoff_max_seconds),
	QUEUE(INT4OID, rewind_share),
	QUEUE(BOOLOID, ordered),
	QUEUE(INT4OID, dedup_seconds),
	QUEUE(TIMESTAMPTZOID, create_time),
	QUEUE(TIMESTAMPTZOID, last_modify_time),
	OPTIONAL(TIMESTAMPTZOID, paused_since),
	OPTIONAL(TIMESTAMPTZOID, rewinding.from),
	OPTIONAL(TIMESTAMPTZOID, rewinding.rewound_at),
	OPTIONAL(INT8ARRAYOID, rewinding),	/* null if none is active */
	OPTIONAL(INT8OID, rewinding.called_in),
	QUEUE(TIMESTAMPTZOID, expired_before),
	QUEUE(TIMESTAMPTZOID, forgotten_before),
	QUEUE(TIMESTAMPTZOID, history_since),
	QUEUE(BOOLOID, leftovers),
	QUEUE(TIMESTAMPTZOID, saved_clock),
	QUEUE(REGCLASSOID, relid),
	QUEUE(REGCLASSOID, messages),
	QUEUE(REGCLASSOID, pending),
	QUEUE(REGCLASSOID, rewind),
	OPTIONAL(REGCLASSOID, dedup)
};

static const Column partition_columns[] = {
	LEAF(TEXTOID, queue),
	LEAF(TIMESTAMPTZOID, leaf.lower),
	LEAF(TIMESTAMPTZOID, leaf.upper),
	LEAF(REGCLASSOID, leaf.messages),
	LEAF(REGCLASSOID, leaf.rewind),
	OPTIONAL_LEAF(REGCLASSOID, leaf.dedup),
	LEAF(INT8OID, leaf.made_in)
};

static const Column topic_columns[] = {
	TYPE(TEXTOID), TYPE(TEXTOID), TYPE(TIMESTAMPTZOID), TYPE(REGCLASSOID)
};

static const Column subscription_columns[] = {
	TYPE(TEXTOID), TYPE(TEXTOID), TYPE(TEXTOID), TYPE(TEXTARRAYOID),
	TYPE(TEXTARRAYOID), TYPE(TIMESTAMPTZOID)
};

static const Column journal_columns[] = {
	TYPE(TEXTOID), TYPE(TIMESTAMPTZOID), TYPE(REGCLASSOID), TYPE(INT8OID)
};

static const Column receiver_columns[] = {
	TYPE(TEXTOID), TYPE(TEXTOID), TYPE(TIMESTAMPTZOID), TYPE(TIMESTAMPTZOID)
};

static const Column rewind_log_columns[] = {
	TYPE(INT8OID), TYPE(TEXTOID), TYPE(TEXTOID), TYPE(TEXTOID), TYPE(TEXTOID),
	TYPE(INETOID), TYPE(TEXTOID), TYPE(TIMESTAMPTZOID), TYPE(TIMESTAMPTZOID),
	TYPE(TIMESTAMPTZOID), TYPE(JSONBOID), TYPE(TEXTOID), TYPE(INT8OID),
	TYPE(TEXTOID), TYPE(TIMESTAMPTZOID)
};

static const struct
{
	const char *relname;
	int			natts;
	const Column *columns;
}			metadata_tables[] = {
	{"queue", lengthof(queue_columns), queue_columns},
	{"partition", lengthof(partition_columns), partition_columns},
	{"topic", lengthof(topic_columns), topic_columns},
	{"subscription", lengthof(subscription_columns), subscription_columns},
	{"topic_journal", lengthof(journal_columns), journal_columns},
	{"receiver", lengthof(receiver_columns), receiver_columns},
	{"rewind_log", lengthof(rewind_log_columns), rewind_log_columns},
};

StaticAssertDecl(lengthof(topic_columns) == Natts_topic,
				 "columns of cmq.topic");
StaticAssertDecl(lengthof(journal_columns) == Natts_journal_row,
				 "columns of cmq.topic_journal");
StaticAssertDecl(lengthof(receiver_columns) == Natts_receiver,
				 "columns of cmq.receiver");
StaticAssertDecl(lengthof(subscription_columns) == Natts_subscription,
				 "columns of cmq.subscription");

/* Are these the columns that this version of cmq has made? */
static bool
has_columns(Relation rel, const char *relname)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < lengthof(metadata_tables); i++)
	{
		if (strcmp(metadata_tables[i].relname, relname) != 0)
			continue;
		if (desc->natts != metadata_tables[i].natts)
			return false;
		for (int j = 0; j < desc->natts; j++)
		{
			if (TupleDescAttr(desc, j)->atttypid !=
				metadata_tables[i].columns[j].type)
				return false;
		}
		return true;
	}
	return false;
}

/* Open a metadata table; raises 55000 if it is not there. */
Relation
cmq_catalog_open(const char *relname, LOCKMODE lockmode)
{
	Oid			relid = cmq_relid(relname);
	Relation	rel;

	/* it may be dropped while we wait for the lock */
	if (!OidIsValid(relid) || (rel = try_table_open(relid, lockmode)) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension cmq is not installed in this database"),
				 errhint("Run CREATE EXTENSION cmq.")));
	if (!has_columns(rel, relname) || !OidIsValid(cmq_primary_key(rel)))
		elog(ERROR, "table cmq.%s is not the one that this version of cmq made",
			 relname);
	return rel;
}

/*
 * Scan a metadata table by primary key prefix: all rows when name is NULL, else those of
 * one name; in key order.
 */
void
cmq_catalog_begin(CmqCatalogScan *cs, const char *relname, LOCKMODE lockmode,
				  const char *name)
{
	ScanKeyData key;

	cs->lockmode = lockmode;
	cs->rel = cmq_catalog_open(relname, lockmode);
	cs->index = index_open(cmq_primary_key(cs->rel), AccessShareLock);
	if (name)
		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ,
					CStringGetTextDatum(name));
	/* no snapshot given: a fresh one, as for a catalog */
	cs->scan = systable_beginscan_ordered(cs->rel, cs->index, NULL,
										  name ? 1 : 0, &key);
}

HeapTuple
cmq_catalog_next(CmqCatalogScan *cs)
{
	return systable_getnext_ordered(cs->scan, ForwardScanDirection);
}

/* The lock of a writer stays. */
void
cmq_catalog_end(CmqCatalogScan *cs)
{
	systable_endscan_ordered(cs->scan);
	index_close(cs->index, AccessShareLock);
	table_close(cs->rel,
				cs->lockmode == AccessShareLock ? AccessShareLock : NoLock);
}

/* Raise 23514 or 23502 for a row that a dump could not bring back. */
static void
check_row(Relation rel, TupleTableSlot *slot, EState *estate)
{
	ResultRelInfo *result = makeNode(ResultRelInfo);

	/* in no range table, which an error would look into */
	InitResultRelInfo(result, rel, 0, NULL, 0);
	ExecConstraints(result, slot, estate);
}

/* Insert a row (old is NULL) or replace the row old; raises an error if it has changed. */
void
cmq_catalog_store(Relation rel, HeapTuple old, Datum *values, bool *isnull)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *result = makeNode(ResultRelInfo);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel),
													&TTSOpsVirtual);

	memcpy(slot->tts_values, values, RelationGetDescr(rel)->natts * sizeof(Datum));
	memcpy(slot->tts_isnull, isnull, RelationGetDescr(rel)->natts * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	check_row(rel, slot, estate);

	InitResultRelInfo(result, rel, 1, NULL, 0);
	ExecOpenIndices(result, false);
	if (old)
	{
		CmqUpdateIndexes update_indexes;

		simple_table_tuple_update(rel, &old->t_self, slot, InvalidSnapshot,
								  &update_indexes);
		if (cmq_needs_index_update(update_indexes))
			cmq_insert_index_tuples(result, slot, estate, update_indexes);
	}
	else
	{
		simple_table_tuple_insert(rel, slot);
		cmq_insert_index_tuples(result, slot, estate, CMQ_ALL_INDEXES);
	}
	ExecCloseIndices(result);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}

/*
 * Lock a metadata table until the end of the transaction.  Queues are created, and topics
 * and subscriptions changed, under this lock.
 */
void
cmq_catalog_lock(const char *relname)
{
	LockDatabaseObject(RelationRelationId, cmq_relid(relname), 0,
					   ExclusiveLock);
}

/* The same; false if somebody has it. */
bool
cmq_catalog_try_lock(const char *relname)
{
	return ConditionalLockDatabaseObject(RelationRelationId,
										 cmq_relid(relname), 0,
										 ExclusiveLock);
}

/*
 * Take the queue lock of a queue that may be damaged or gone, and fill the description
 * with the queue's row.  check may be NULL; it raises an error if the caller must not
 * have the lock, before the lock is waited for.  CMQ_ROW_BUSY: another transaction has
 * the lock, and the caller does not wait.
 */
CmqRowLock
cmq_catalog_lock_queue(CmqDescription *queue, const char *name, LOCKMODE mode,
					   bool wait, void (*check) (CmqDescription *queue))
{
	Oid			locked = InvalidOid;

	while (cmq_catalog_find_queue(queue, name))
	{
		/* again once the lock is there: another drop may have come first */
		if (check)
			check(queue);
		if (queue->relid == locked)
			return CMQ_ROW_LOCKED;
		locked = queue->relid;
		if (wait)
			LockDatabaseObject(RelationRelationId, locked, 0, mode);
		else if (!ConditionalLockDatabaseObject(RelationRelationId, locked, 0,
												mode))
			return CMQ_ROW_BUSY;
	}
	return CMQ_ROW_NONE;
}

/*
 * Can the rows of queues be read without waiting?  Not while another transaction has
 * cmq.queue alone: one that drops the extension, say, and may wait for a queue that this
 * transaction has locked.
 */
bool
cmq_catalog_is_free(void)
{
	Oid			relid = cmq_relid("queue");

	if (!OidIsValid(relid) ||
		!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	UnlockRelationOid(relid, AccessShareLock);
	return true;
}

static void
queue_changed(CmqQueue *queue)
{
	/* a damaged queue may lack it, and no backend has a description of that */
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(queue->relid)))
		CacheInvalidateRelcacheByRelid(queue->relid);
	CommandCounterIncrement();
}

/* Fill a struct of zeroes with the columns of a row. */
static void
unpack(HeapTuple tuple, Relation rel, const Column *columns, void *row)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		void	   *field = (char *) row + columns[i].offset;
		bool		isnull;
		Datum		value = heap_getattr(tuple, i + 1, desc, &isnull);

		if (isnull)
			continue;
		if (columns[i].type == TEXTOID)
			text_to_cstring_buffer(DatumGetTextPP(value), field, NAMEDATALEN);
		else if (columns[i].type == INT8ARRAYOID)
		{
			ArrayType  *array = DatumGetArrayTypePCopy(value);
			CmqRewind  *rewinding = field;

			rewinding->active = true;
			rewinding->nconcurrent = ArrayGetNItems(ARR_NDIM(array),
													ARR_DIMS(array));
			rewinding->concurrent = (int64 *) ARR_DATA_PTR(array);
		}
		else if (att->attbyval)
			store_att_byval(field, value, att->attlen);
		else
			memcpy(field, DatumGetPointer(value), att->attlen);
	}
}

/* The transactions of a rewind as an array. */
static Datum
concurrent_array(const CmqRewind *rewinding)
{
	int			n = rewinding->nconcurrent;
	Datum	   *xacts = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		xacts[i] = Int64GetDatum(rewinding->concurrent[i]);
	return PointerGetDatum(construct_array(xacts, n, INT8OID, 8,
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Insert a row, or replace the row old by it. */
static void
store(Relation rel, HeapTuple old, const Column *columns, const void *row)
{
	static const char zeroes[sizeof(int64)] = {0};
	TupleDesc	desc = RelationGetDescr(rel);
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *isnull = palloc(desc->natts * sizeof(bool));

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		const void *field = (const char *) row + columns[i].offset;

		/* a name is empty by its first byte, a rewind by whether it is active */
		isnull[i] = columns[i].optional &&
			memcmp(field, zeroes, Max(att->attlen, 1)) == 0;
		values[i] = columns[i].type == TEXTOID ? CStringGetTextDatum(field) :
			columns[i].type == INT8ARRAYOID ? concurrent_array(field) :
			fetch_att(field, att->attbyval, att->attlen);
	}
	cmq_catalog_store(rel, old, values, isnull);
}

static bool
next_queue(CmqCatalogScan *cs, CmqDescription *queue)
{
	HeapTuple	tuple = cmq_catalog_next(cs);

	memset(queue, 0, sizeof(*queue));
	if (!HeapTupleIsValid(tuple))
		return false;
	unpack(tuple, cs->rel, queue_columns, queue);
	queue->rewinding.since = queue->history_since;
	return true;
}

static HeapTuple
next_leaf(CmqCatalogScan *cs, struct CmqLeaf *leaf)
{
	HeapTuple	tuple = cmq_catalog_next(cs);
	LeafRow		row = {0};

	if (HeapTupleIsValid(tuple))
		unpack(tuple, cs->rel, partition_columns, &row);
	*leaf = row.leaf;
	return tuple;
}

/*
 * Fill a description with the queue's row and nothing else, for calls that a damaged
 * queue must not stop.  False if there is no such queue.
 */
bool
cmq_catalog_find_queue(CmqDescription *queue, const char *name)
{
	CmqCatalogScan cs;
	bool		found;

	memset(queue, 0, sizeof(*queue));
	if (strlen(name) > CMQ_QUEUE_NAME_MAX)
		return false;
	cmq_catalog_begin(&cs, "queue", AccessShareLock, name);
	found = next_queue(&cs, queue);
	cmq_catalog_end(&cs);
	return found;
}

/*
 * Is this table a leaf of that parent?  Not if the owner has detached it; nor if the OID
 * is another table's by now, as it may be after a dump that was made when the leaf was
 * gone.
 */
bool
cmq_catalog_is_leaf(Oid relid, Oid parent)
{
	Relation	rel = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	/* in one look, because without a lock the table may go between two */
	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, InheritsRelidSeqnoIndexId, true, NULL, 1,
							  &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_inherits row = (Form_pg_inherits) GETSTRUCT(tuple);

		/* one that is just being detached is no leaf for queries either */
		found |= row->inhparent == parent && !row->inhdetachpending;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * What is wrong with a pair of which one table is no leaf any more: which of its
 * messages are there is not known.
 */
static void
describe_half(CmqQueue *queue, CmqLeaf *leaf, bool messages_there,
			  const char **fact, const char **undo)
{
	Oid			there = messages_there ? leaf->messages : leaf->rewind;
	Oid			other = messages_there ? leaf->rewind : leaf->messages;

	if (get_rel_name(other) == NULL)
	{
		*fact = psprintf("One of its partitions was dropped, and %s, which belongs to it, was not.",
						 cmq_full_name(there));
		*undo = psprintf("Drop that, too: DROP TABLE %s;",
						 cmq_full_name(there));
		return;
	}
	*fact = psprintf("Its partition %s was detached, and %s, which belongs to it, was not.",
					 cmq_full_name(other), cmq_full_name(there));
	*undo = psprintf("Attach it again: ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s');",
					 cmq_full_name(messages_there ? queue->rewind :
								   queue->messages),
					 cmq_full_name(other),
					 cmq_headers_time(leaf->lower), cmq_headers_time(leaf->upper));
}

/*
 * Read the partition map of a queue.  A pair whose tables are no leaves of the queue's any
 * more is left out.  False if that is so of one of the two alone; then *fact and *undo are
 * set, if they are given.
 */
bool
cmq_catalog_load_leaves(CmqDescription *queue, const char **fact,
						const char **undo)
{
	CmqCatalogScan cs;
	int			allocated = 16;
	bool		whole = true;

	queue->nleaves = 0;
	queue->leaves = palloc(allocated * sizeof(CmqLeaf));
	cmq_catalog_begin(&cs, "partition", AccessShareLock, queue->name);
	while (HeapTupleIsValid(next_leaf(&cs, &queue->leaves[queue->nleaves])))
	{
		CmqLeaf    *leaf = &queue->leaves[queue->nleaves];
		bool		messages_there = cmq_catalog_is_leaf(leaf->messages,
														 queue->messages);
		bool		rewind_there = cmq_catalog_is_leaf(leaf->rewind, queue->rewind);

		/* who needs keys that are gone is told so, and nobody else */
		if (OidIsValid(leaf->dedup) &&
			!cmq_catalog_is_leaf(leaf->dedup, queue->dedup))
			queue->leaves[queue->nleaves].dedup = InvalidOid;
		if (messages_there && rewind_there)
			queue->nleaves++;
		else if (whole && messages_there != rewind_there)
		{
			whole = false;
			if (fact)
				describe_half(queue, leaf, messages_there, fact, undo);
		}
		if (queue->nleaves == allocated)
		{
			allocated *= 2;
			queue->leaves = repalloc(queue->leaves,
									 allocated * sizeof(CmqLeaf));
		}
	}
	cmq_catalog_end(&cs);
	return whole;
}

/* The same for all rows of the map, whatever has become of the tables. */
void
cmq_catalog_load_leaf_rows(CmqDescription *queue)
{
	CmqCatalogScan cs;
	int			allocated = 16;

	queue->nleaves = 0;
	queue->leaves = palloc(allocated * sizeof(CmqLeaf));
	cmq_catalog_begin(&cs, "partition", AccessShareLock, queue->name);
	while (HeapTupleIsValid(next_leaf(&cs, &queue->leaves[queue->nleaves])))
	{
		if (++queue->nleaves < allocated)
			continue;
		allocated *= 2;
		queue->leaves = repalloc(queue->leaves, allocated * sizeof(CmqLeaf));
	}
	cmq_catalog_end(&cs);
}

void
cmq_catalog_insert_queue(CmqQueue *queue)
{
	Relation	rel = cmq_catalog_open("queue", RowExclusiveLock);

	store(rel, NULL, queue_columns, queue);
	table_close(rel, NoLock);
	queue_changed(queue);
}

/*
 * Write a changed description.  The caller has taken the queue lock, then looked the
 * queue up, and passes a copy: the cached description is stale after this.
 */
void
cmq_catalog_update_queue(CmqDescription *queue)
{
	CmqCatalogScan cs;
	HeapTuple	tuple;

	/* of a rewind that has ended nothing stays in the row */
	if (!queue->rewinding.active)
		memset(&queue->rewinding, 0, sizeof(CmqRewind));
	cmq_catalog_begin(&cs, "queue", RowExclusiveLock, queue->name);
	tuple = cmq_catalog_next(&cs);
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "no row in cmq.queue for queue \"%s\"", queue->name);
	store(cs.rel, tuple, queue_columns, queue);
	cmq_catalog_end(&cs);
	queue_changed(queue);
}

static bool
is_there(Oid relid)
{
	return SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid));
}

/*
 * Delete the rows of a queue's leaves: of the one that begins at lower, or, if that is
 * NULL, of all or of those of which no table is left.  Returns whether there were any.
 * The last does not need the queue lock: a row that another transaction deletes is left
 * to that.
 */
static bool
delete_leaves(const char *name, const TimestampTz *lower, bool all)
{
	CmqCatalogScan cs;
	HeapTuple	tuple;
	struct CmqLeaf leaf;
	TM_FailureData tmfd;
	TM_Result	result;
	bool		any = false;

	cmq_catalog_begin(&cs, "partition", RowExclusiveLock, name);
	while (HeapTupleIsValid(tuple = next_leaf(&cs, &leaf)))
	{
		if (lower ? leaf.lower != *lower :
			!all && (is_there(leaf.messages) || is_there(leaf.rewind)))
			continue;
		result = cmq_tuple_delete(cs.rel, &tuple->t_self, lower || all, &tmfd);
		if (result == TM_Updated)
			elog(ERROR, "row of a leaf of queue \"%s\" was changed", name);
		any |= result == TM_Ok;
	}
	cmq_catalog_end(&cs);
	return any;
}

/*
 * Delete what is known of leaves that do not exist any more, so that no dump has
 * their numbers.  Returns whether there were any: then the caller increments the command
 * counter.
 */
bool
cmq_catalog_forget_leaves(const char *name)
{
	return delete_leaves(name, NULL, false);
}

/* Delete the rows of a queue whose tables are dropped, and of its leaves. */
void
cmq_catalog_delete_queue(CmqQueue *queue)
{
	CmqCatalogScan cs;
	HeapTuple	tuple;

	(void) delete_leaves(queue->name, NULL, true);
	cmq_catalog_begin(&cs, "queue", RowExclusiveLock, queue->name);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
		simple_table_tuple_delete(cs.rel, &tuple->t_self, InvalidSnapshot);
	cmq_catalog_end(&cs);
	CommandCounterIncrement();
}

void
cmq_catalog_insert_leaf(CmqQueue *queue, TimestampTz lower, TimestampTz upper,
						Oid messages, Oid rewind, Oid dedup)
{
	Relation	rel = cmq_catalog_open("partition", RowExclusiveLock);
	LeafRow		row = {.leaf = {
			lower, upper, messages, rewind, dedup, cmq_identity_database()
	}};

	strlcpy(row.queue, queue->name, NAMEDATALEN);
	store(rel, NULL, partition_columns, &row);
	table_close(rel, NoLock);
	queue_changed(queue);
}

void
cmq_catalog_delete_leaf(CmqQueue *queue, TimestampTz lower)
{
	(void) delete_leaves(queue->name, &lower, false);
	queue_changed(queue);
}

/* The leaf that begins at lower has this leaf of keys from now on, or none. */
void
cmq_catalog_set_keys(CmqQueue *queue, TimestampTz lower, Oid dedup)
{
	CmqCatalogScan cs;
	HeapTuple	tuple;
	LeafRow		row = {0};

	strlcpy(row.queue, queue->name, NAMEDATALEN);
	cmq_catalog_begin(&cs, "partition", RowExclusiveLock, queue->name);
	while (HeapTupleIsValid(tuple = next_leaf(&cs, &row.leaf)))
	{
		if (row.leaf.lower != lower)
			continue;
		row.leaf.dedup = dedup;
		store(cs.rel, tuple, partition_columns, &row);
		break;
	}
	cmq_catalog_end(&cs);
	queue_changed(queue);
}

/*
 * Is there a queue of this name, or of one that differs only in case?  If so,
 * *existing is its name.
 */
bool
cmq_catalog_name_taken(const char *name, char **existing)
{
	List	   *names = cmq_catalog_queue_names();
	ListCell   *lc;

	foreach(lc, names)
	{
		if (pg_strcasecmp(lfirst(lc), name) == 0)
		{
			*existing = lfirst(lc);
			return true;
		}
	}
	return false;
}

/*
 * Is one of the queue's relations gone?  Then the queue is, see cmq_gone.c.  The
 * description is one that the queue's row has filled.
 */
bool
cmq_catalog_is_gone(CmqQueue *queue)
{
	return !is_there(queue->relid) || !is_there(queue->messages) ||
		!is_there(queue->pending) || !is_there(queue->rewind);
}

/*
 * The names of all queues, or of those whose dead letters go to this one, in order,
 * palloc'd: of the queues that are there, or of those that are gone.
 */
static List *
list_names(const char *dead_letter_queue, bool gone)
{
	CmqCatalogScan cs;
	CmqDescription queue;
	List	   *names = NIL;

	cmq_catalog_begin(&cs, "queue", AccessShareLock, NULL);
	while (next_queue(&cs, &queue))
	{
		if ((dead_letter_queue == NULL ||
			 strcmp(queue.dead_letter_queue, dead_letter_queue) == 0) &&
			cmq_catalog_is_gone(&queue) == gone)
			names = lappend(names, pstrdup(queue.name));
	}
	cmq_catalog_end(&cs);
	return names;
}

/* Is this the relation that carries the rights of a queue, whichever? */
bool
cmq_catalog_carries_rights(Oid relid)
{
	CmqCatalogScan cs;
	CmqDescription queue;
	bool		found = false;

	cmq_catalog_begin(&cs, "queue", AccessShareLock, NULL);
	while (!found && next_queue(&cs, &queue))
		found = queue.relid == relid;
	cmq_catalog_end(&cs);
	return found;
}

List *
cmq_catalog_queue_names(void)
{
	return list_names(NULL, false);
}

List *
cmq_catalog_gone_queue_names(void)
{
	return list_names(NULL, true);
}

List *
cmq_catalog_dead_letter_sources(const char *name)
{
	return list_names(name, false);
}
