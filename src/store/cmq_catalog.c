/*-------------------------------------------------------------------------
 *
 * cmq_catalog.c
 *	  Rows of the metadata tables cmq.queue and cmq.partition.
 *
 * Reads use a snapshot taken for the purpose, so they see what has committed
 * by now and what this transaction did, in every isolation level.  Writers
 * hold the queue lock (cmq_queue_lock), or have just created the queue, or are
 * making a leaf; so a row is never changed by two transactions at once.  Each
 * write sends the invalidation that makes other backends load the queue again,
 * and ends with a command counter increment, so that this backend does too.
 *
 * The functions here check no rights: roles have none on these tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation_d.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
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

enum
{
	Anum_queue_name = 1,
	Anum_queue_visibility_timeout,
	Anum_queue_polling_wait_seconds,
	Anum_queue_msg_retention_seconds,
	Anum_queue_rewind_seconds,
	Anum_queue_max_msg_size,
	Anum_queue_max_msg_heap_num,
	Anum_queue_dead_letter_queue,
	Anum_queue_max_receive_count,
	Anum_queue_max_time_to_live,
	Anum_queue_create_time,
	Anum_queue_last_modify_time,
	Anum_queue_rewind_from,
	Anum_queue_rewound_at,
	Anum_queue_rewind_concurrent,
	Anum_queue_rewound_in,
	Anum_queue_expired_before,
	Anum_queue_forgotten_before,
	Anum_queue_history_since,
	Anum_queue_leftovers,
	Anum_queue_clock,
	Anum_queue_rights,
	Anum_queue_messages,
	Anum_queue_pending,
	Anum_queue_rewind,
	Natts_queue = 25
};

enum
{
	Anum_partition_queue = 1,
	Anum_partition_lower,
	Anum_partition_upper,
	Anum_partition_messages,
	Anum_partition_rewind,
	Anum_partition_made_in,
	Natts_partition = 6
};

/* The types of the columns, by the first of which a table is known. */
static const Oid queue_types[] = {
	TEXTOID, INT4OID, INT4OID, INT4OID, INT4OID, INT4OID, INT8OID, TEXTOID,
	INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, INT8ARRAYOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, BOOLOID, TIMESTAMPTZOID, REGCLASSOID, REGCLASSOID,
	REGCLASSOID, REGCLASSOID
};

static const Oid partition_types[] = {
	TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, REGCLASSOID, REGCLASSOID, INT8OID
};

static const Oid topic_types[] = {
	TEXTOID, TEXTOID, TIMESTAMPTZOID, REGCLASSOID
};

static const Oid subscription_types[] = {
	TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID
};

static const Oid rewind_log_types[] = {
	INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INETOID, TEXTOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, JSONBOID, TEXTOID, INT8OID,
	TEXTOID, TIMESTAMPTZOID
};

static const struct
{
	const char *relname;
	int			natts;
	const Oid  *types;
}			metadata_tables[] = {
	{"queue", lengthof(queue_types), queue_types},
	{"partition", lengthof(partition_types), partition_types},
	{"topic", lengthof(topic_types), topic_types},
	{"subscription", lengthof(subscription_types), subscription_types},
	{"rewind_log", lengthof(rewind_log_types), rewind_log_types},
};

StaticAssertDecl(lengthof(queue_types) == Natts_queue, "types of cmq.queue");
StaticAssertDecl(lengthof(partition_types) == Natts_partition,
				 "types of cmq.partition");
StaticAssertDecl(lengthof(topic_types) == Natts_topic, "types of cmq.topic");
StaticAssertDecl(lengthof(subscription_types) == Natts_subscription,
				 "types of cmq.subscription");

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
			if (TupleDescAttr(desc, j)->atttypid != metadata_tables[i].types[j])
				return false;
		}
		return true;
	}
	return false;
}

/* Open a metadata table; raises an error unless it has its columns and key. */
Relation
cmq_catalog_open(const char *relname, LOCKMODE lockmode)
{
	Oid			relid = cmq_catalog_relid(relname);
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
 * Scan by primary key prefix: all rows when name is NULL, else those of one
 * name; in key order.
 */
void
cmq_catalog_begin(CmqCatalogScan *cs, Relation rel, const char *name)
{
	ScanKeyData key;

	cs->rel = rel;
	cs->index = index_open(cmq_primary_key(rel), AccessShareLock);
	if (name)
		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ,
					CStringGetTextDatum(name));
	/* no snapshot given: a fresh one, as for a catalog */
	cs->scan = systable_beginscan_ordered(rel, cs->index, NULL,
										  name ? 1 : 0, &key);
}

HeapTuple
cmq_catalog_next(CmqCatalogScan *cs)
{
	return systable_getnext_ordered(cs->scan, ForwardScanDirection);
}

void
cmq_catalog_end(CmqCatalogScan *cs)
{
	systable_endscan_ordered(cs->scan);
	index_close(cs->index, AccessShareLock);
}

/* Insert a row (old is NULL) or replace the row old, with index entries. */
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

	InitResultRelInfo(result, rel, 1, NULL, 0);
	ExecOpenIndices(result, false);
	if (old)
	{
		CmqUpdateIndexes update_indexes;

		/* raises an error if the row is not the newest */
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
 * The lock under which all change who create queues, or topics and subscriptions.
 * Until the end of the transaction.
 */
void
cmq_catalog_lock(const char *relname)
{
	LockDatabaseObject(RelationRelationId, cmq_catalog_relid(relname), 0,
					   ExclusiveLock);
}

/* The same; false if somebody has it. */
bool
cmq_catalog_try_lock(const char *relname)
{
	return ConditionalLockDatabaseObject(RelationRelationId,
										 cmq_catalog_relid(relname), 0,
										 ExclusiveLock);
}

/*
 * Load what the row says of a queue, damaged or gone as it may be, and take its queue
 * lock; check, if there is one, raises an error before a lock is taken that the caller
 * must not have.  BUSY: somebody has the lock, and the caller does not wait.
 */
CmqRowLock
cmq_catalog_lock_queue(CmqQueue *queue, const char *name, LOCKMODE mode,
					   bool wait, void (*check) (CmqQueue *queue))
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
 * Can the queues' rows be read without waiting?  Not while somebody has cmq.queue
 * alone: who drops the extension, say, and waits for a queue that we have locked.
 */
bool
cmq_catalog_is_free(void)
{
	Oid			relid = cmq_catalog_relid("queue");

	if (!OidIsValid(relid) ||
		!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	UnlockRelationOid(relid, AccessShareLock);
	return true;
}

static void
queue_changed(CmqQueue *queue)
{
	/* a damaged queue, whose description nobody has, may lack it */
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(queue->relid)))
		CacheInvalidateRelcacheByRelid(queue->relid);
	CommandCounterIncrement();
}

/*
 * Read the row of queue->name.  False if there is none.  The in-progress
 * transactions of the rewind go to queue->mcxt.
 */
bool
cmq_catalog_load_queue(CmqQueue *queue)
{
	Relation	rel = cmq_catalog_open("queue", AccessShareLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;

	cmq_catalog_begin(&cs, rel, queue->name);
	tuple = cmq_catalog_next(&cs);
	if (HeapTupleIsValid(tuple))
	{
		Datum		values[Natts_queue];
		bool		isnull[Natts_queue];

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
#define VALUE(att) values[Anum_queue_##att - 1]
#define NULLED(att) isnull[Anum_queue_##att - 1]
		queue->visibility_timeout = DatumGetInt32(VALUE(visibility_timeout));
		queue->polling_wait_seconds = DatumGetInt32(VALUE(polling_wait_seconds));
		queue->msg_retention_seconds = DatumGetInt32(VALUE(msg_retention_seconds));
		queue->rewind_seconds = DatumGetInt32(VALUE(rewind_seconds));
		queue->max_msg_size = DatumGetInt32(VALUE(max_msg_size));
		queue->max_msg_heap_num = DatumGetInt64(VALUE(max_msg_heap_num));
		queue->dead_letter_queue[0] = '\0';
		if (!NULLED(dead_letter_queue))
			strlcpy(queue->dead_letter_queue,
					TextDatumGetCString(VALUE(dead_letter_queue)), NAMEDATALEN);
		queue->max_receive_count = NULLED(max_receive_count) ? 0 :
			DatumGetInt32(VALUE(max_receive_count));
		queue->max_time_to_live = NULLED(max_time_to_live) ? 0 :
			DatumGetInt32(VALUE(max_time_to_live));
		queue->create_time = DatumGetTimestampTz(VALUE(create_time));
		queue->last_modify_time = DatumGetTimestampTz(VALUE(last_modify_time));
		queue->expired_before = DatumGetTimestampTz(VALUE(expired_before));
		queue->forgotten_before = DatumGetTimestampTz(VALUE(forgotten_before));
		queue->history_since = DatumGetTimestampTz(VALUE(history_since));
		queue->rewinding.since = queue->history_since;
		queue->leftovers = DatumGetBool(VALUE(leftovers));
		queue->saved_clock = DatumGetTimestampTz(VALUE(clock));
		queue->relid = DatumGetObjectId(VALUE(rights));
		queue->messages = DatumGetObjectId(VALUE(messages));
		queue->pending = DatumGetObjectId(VALUE(pending));
		queue->rewind = DatumGetObjectId(VALUE(rewind));
		if (!NULLED(rewind_from) && !NULLED(rewound_at))
		{
			CmqRewind  *rewinding = &queue->rewinding;

			rewinding->active = true;
			rewinding->from = DatumGetTimestampTz(VALUE(rewind_from));
			rewinding->rewound_at = DatumGetTimestampTz(VALUE(rewound_at));
			if (!NULLED(rewound_in))
				rewinding->called_in = DatumGetInt64(VALUE(rewound_in));
			if (!NULLED(rewind_concurrent))
			{
				ArrayType  *array = DatumGetArrayTypeP(VALUE(rewind_concurrent));

				rewinding->nconcurrent = ArrayGetNItems(ARR_NDIM(array),
														ARR_DIMS(array));
				rewinding->concurrent =
					MemoryContextAlloc(queue->mcxt,
									   rewinding->nconcurrent * sizeof(int64));
				memcpy(rewinding->concurrent, ARR_DATA_PTR(array),
					   rewinding->nconcurrent * sizeof(int64));
			}
		}
	}
	cmq_catalog_end(&cs);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

/*
 * Is this table a leaf of that parent?  Not if its owner has detached it; nor if the
 * number is another table's by now, as it may be after a dump that was made when the
 * leaf was gone.
 */
static bool
is_leaf(Oid relid, Oid parent)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		ok;

	if (!HeapTupleIsValid(tuple))
		return false;
	ok = ((Form_pg_class) GETSTRUCT(tuple))->relispartition;
	ReleaseSysCache(tuple);
	/* one that is just being detached is no leaf for queries either */
	return ok && get_partition_parent(relid, true) == parent &&
		!PartitionHasPendingDetach(relid);
}

/*
 * What is wrong with a leaf of whose two tables one is no leaf any more: nobody could
 * say which of its messages are there.
 */
static void
describe_half(CmqQueue *queue, const CmqLeaf *leaf, bool messages_there,
			  char **fact, char **undo)
{
	Oid			there = messages_there ? leaf->messages : leaf->rewind;
	Oid			other = messages_there ? leaf->rewind : leaf->messages;

	if (get_rel_name(other) == NULL)
	{
		*fact = psprintf("One of its partitions was dropped, and %s, which belongs to it, was not.",
						 cmq_catalog_relname(there));
		*undo = psprintf("Drop that, too: DROP TABLE %s;",
						 cmq_catalog_relname(there));
		return;
	}
	*fact = psprintf("Its partition %s was detached, and %s, which belongs to it, was not.",
					 cmq_catalog_relname(other), cmq_catalog_relname(there));
	*undo = psprintf("Attach it again: ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s');",
					 cmq_catalog_relname(messages_there ? queue->rewind :
										 queue->messages),
					 cmq_catalog_relname(other),
					 cmq_headers_time(leaf->lower), cmq_headers_time(leaf->upper));
}

/*
 * Read the partition map of a queue.  Leaves whose tables are gone, or are no
 * leaves of its any more, are left out.  False if that is so of one of the two
 * tables alone; if they are given, *fact and *undo are set then.
 */
bool
cmq_catalog_load_leaves(CmqQueue *queue, char **fact, char **undo)
{
	Relation	rel = cmq_catalog_open("partition", AccessShareLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;
	int			allocated = 16;
	bool		whole = true;

	queue->nleaves = 0;
	queue->leaves = MemoryContextAlloc(queue->mcxt,
									   allocated * sizeof(CmqLeaf));
	cmq_catalog_begin(&cs, rel, queue->name);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		Datum		values[Natts_partition];
		bool		isnull[Natts_partition];
		CmqLeaf    *leaf;
		bool		messages_there;
		bool		rewind_there;

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
		if (queue->nleaves == allocated)
		{
			allocated *= 2;
			queue->leaves = repalloc(queue->leaves,
									 allocated * sizeof(CmqLeaf));
		}
		leaf = &queue->leaves[queue->nleaves];
		leaf->lower = DatumGetTimestampTz(values[Anum_partition_lower - 1]);
		leaf->upper = DatumGetTimestampTz(values[Anum_partition_upper - 1]);
		leaf->messages = DatumGetObjectId(values[Anum_partition_messages - 1]);
		leaf->rewind = DatumGetObjectId(values[Anum_partition_rewind - 1]);
		leaf->made_in = isnull[Anum_partition_made_in - 1] ? 0 :
			DatumGetInt64(values[Anum_partition_made_in - 1]);
		messages_there = is_leaf(leaf->messages, queue->messages);
		rewind_there = is_leaf(leaf->rewind, queue->rewind);
		if (messages_there && rewind_there)
			queue->nleaves++;
		else if (whole && messages_there != rewind_there)
		{
			whole = false;
			if (fact)
				describe_half(queue, leaf, messages_there, fact, undo);
		}
	}
	cmq_catalog_end(&cs);
	table_close(rel, AccessShareLock);
	return whole;
}

/* The row of a queue as values, in the current memory context. */
static void
queue_values(CmqQueue *queue, Datum *values, bool *isnull)
{
	const CmqRewind *rewinding = &queue->rewinding;

	memset(isnull, false, Natts_queue * sizeof(bool));
	VALUE(name) = CStringGetTextDatum(queue->name);
	VALUE(visibility_timeout) = Int32GetDatum(queue->visibility_timeout);
	VALUE(polling_wait_seconds) = Int32GetDatum(queue->polling_wait_seconds);
	VALUE(msg_retention_seconds) = Int32GetDatum(queue->msg_retention_seconds);
	VALUE(rewind_seconds) = Int32GetDatum(queue->rewind_seconds);
	VALUE(max_msg_size) = Int32GetDatum(queue->max_msg_size);
	VALUE(max_msg_heap_num) = Int64GetDatum(queue->max_msg_heap_num);
	NULLED(dead_letter_queue) = queue->dead_letter_queue[0] == '\0';
	if (!NULLED(dead_letter_queue))
		VALUE(dead_letter_queue) = CStringGetTextDatum(queue->dead_letter_queue);
	NULLED(max_receive_count) = queue->max_receive_count == 0;
	VALUE(max_receive_count) = Int32GetDatum(queue->max_receive_count);
	NULLED(max_time_to_live) = queue->max_time_to_live == 0;
	VALUE(max_time_to_live) = Int32GetDatum(queue->max_time_to_live);
	VALUE(create_time) = TimestampTzGetDatum(queue->create_time);
	VALUE(last_modify_time) = TimestampTzGetDatum(queue->last_modify_time);
	VALUE(expired_before) = TimestampTzGetDatum(queue->expired_before);
	VALUE(forgotten_before) = TimestampTzGetDatum(queue->forgotten_before);
	VALUE(history_since) = TimestampTzGetDatum(queue->history_since);
	VALUE(leftovers) = BoolGetDatum(queue->leftovers);
	VALUE(clock) = TimestampTzGetDatum(queue->saved_clock);
	VALUE(rights) = ObjectIdGetDatum(queue->relid);
	VALUE(messages) = ObjectIdGetDatum(queue->messages);
	VALUE(pending) = ObjectIdGetDatum(queue->pending);
	VALUE(rewind) = ObjectIdGetDatum(queue->rewind);
	if (rewinding->active)
	{
		Datum	   *xacts = palloc(sizeof(Datum) *
								   Max(rewinding->nconcurrent, 1));

		for (int i = 0; i < rewinding->nconcurrent; i++)
			xacts[i] = Int64GetDatum(rewinding->concurrent[i]);
		VALUE(rewind_from) = TimestampTzGetDatum(rewinding->from);
		VALUE(rewound_at) = TimestampTzGetDatum(rewinding->rewound_at);
		VALUE(rewound_in) = Int64GetDatum(rewinding->called_in);
		VALUE(rewind_concurrent) =
			PointerGetDatum(construct_array(xacts, rewinding->nconcurrent,
											INT8OID, 8, FLOAT8PASSBYVAL,
											TYPALIGN_DOUBLE));
	}
	else
		NULLED(rewind_from) = NULLED(rewound_at) = NULLED(rewind_concurrent) =
			NULLED(rewound_in) = true;
}

/*
 * Fill a description with the queue's row and nothing else: for those whom a damaged
 * queue must not stop.  False if there is no such queue.
 */
bool
cmq_catalog_find_queue(CmqQueue *queue, const char *name)
{
	memset(queue, 0, sizeof(*queue));
	queue->mcxt = CurrentMemoryContext;
	if (strlen(name) > CMQ_QUEUE_NAME_MAX)
		return false;
	strlcpy(queue->name, name, NAMEDATALEN);
	return cmq_catalog_load_queue(queue);
}

void
cmq_catalog_insert_queue(CmqQueue *queue)
{
	Relation	rel = cmq_catalog_open("queue", RowExclusiveLock);
	Datum		values[Natts_queue];
	bool		isnull[Natts_queue];

	queue_values(queue, values, isnull);
	cmq_catalog_store(rel, NULL, values, isnull);
	table_close(rel, NoLock);
	queue_changed(queue);
}

/*
 * Write a changed description.  The caller holds the queue lock, looked the
 * queue up after taking it, and passes a copy: the cached description is
 * stale after this.
 */
void
cmq_catalog_update_queue(CmqQueue *queue)
{
	Relation	rel = cmq_catalog_open("queue", RowExclusiveLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;
	Datum		values[Natts_queue];
	bool		isnull[Natts_queue];

	cmq_catalog_begin(&cs, rel, queue->name);
	tuple = cmq_catalog_next(&cs);
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "no row in cmq.queue for queue \"%s\"", queue->name);
	queue_values(queue, values, isnull);
	cmq_catalog_store(rel, tuple, values, isnull);
	cmq_catalog_end(&cs);
	table_close(rel, NoLock);
	queue_changed(queue);
}

static void
delete_rows(const char *relname, const char *name, TimestampTz lower)
{
	Relation	rel = cmq_catalog_open(relname, RowExclusiveLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;

	cmq_catalog_begin(&cs, rel, name);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		bool		isnull;

		if (lower == DT_NOBEGIN ||
			DatumGetTimestampTz(heap_getattr(tuple, Anum_partition_lower,
											 RelationGetDescr(rel),
											 &isnull)) == lower)
			simple_table_tuple_delete(rel, &tuple->t_self, InvalidSnapshot);
	}
	cmq_catalog_end(&cs);
	table_close(rel, NoLock);
}

/*
 * Delete what is known of leaves that do not exist any more, so that no dump has
 * their numbers.  Returns whether there were any.
 */
bool
cmq_catalog_forget_leaves(const char *name)
{
	Relation	rel = cmq_catalog_open("partition", RowExclusiveLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;
	bool		any = false;

	cmq_catalog_begin(&cs, rel, name);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		Datum		values[Natts_partition];
		bool		isnull[Natts_partition];

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
		if (SearchSysCacheExists1(RELOID, values[Anum_partition_messages - 1]) ||
			SearchSysCacheExists1(RELOID, values[Anum_partition_rewind - 1]))
			continue;
		simple_table_tuple_delete(rel, &tuple->t_self, InvalidSnapshot);
		any = true;
	}
	cmq_catalog_end(&cs);
	table_close(rel, NoLock);
	return any;
}

/* Delete everything about a queue whose tables are dropped already. */
void
cmq_catalog_delete_queue(CmqQueue *queue)
{
	delete_rows("partition", queue->name, DT_NOBEGIN);
	delete_rows("queue", queue->name, DT_NOBEGIN);
	CommandCounterIncrement();
}

void
cmq_catalog_insert_leaf(CmqQueue *queue, TimestampTz lower, TimestampTz upper,
						Oid messages, Oid rewind)
{
	Relation	rel = cmq_catalog_open("partition", RowExclusiveLock);
	Datum		values[Natts_partition];
	bool		isnull[Natts_partition] = {false};

	values[Anum_partition_queue - 1] = CStringGetTextDatum(queue->name);
	values[Anum_partition_lower - 1] = TimestampTzGetDatum(lower);
	values[Anum_partition_upper - 1] = TimestampTzGetDatum(upper);
	values[Anum_partition_messages - 1] = ObjectIdGetDatum(messages);
	values[Anum_partition_rewind - 1] = ObjectIdGetDatum(rewind);
	values[Anum_partition_made_in - 1] = Int64GetDatum(cmq_dump_here());
	cmq_catalog_store(rel, NULL, values, isnull);
	table_close(rel, NoLock);
	queue_changed(queue);
}

void
cmq_catalog_delete_leaf(CmqQueue *queue, TimestampTz lower)
{
	delete_rows("partition", queue->name, lower);
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

static bool
is_there(Oid relid)
{
	return SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid));
}

/*
 * Is one of its relations gone?  Then the queue is, see cmq_gone.c.  For a
 * description that the queue's row has filled.
 */
bool
cmq_catalog_is_gone(const CmqQueue *queue)
{
	return !is_there(queue->relid) || !is_there(queue->messages) ||
		!is_there(queue->pending) || !is_there(queue->rewind);
}

static bool
row_is_gone(const Datum *values)
{
	return !is_there(DatumGetObjectId(VALUE(rights))) ||
		!is_there(DatumGetObjectId(VALUE(messages))) ||
		!is_there(DatumGetObjectId(VALUE(pending))) ||
		!is_there(DatumGetObjectId(VALUE(rewind)));
}

/*
 * The names of all queues, or of those whose dead letters go to this one;
 * ordered, palloc'd.  Either those that are there or those that are gone.
 */
static List *
list_names(const char *dead_letter_queue, bool gone)
{
	Relation	rel = cmq_catalog_open("queue", AccessShareLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;
	List	   *names = NIL;

	cmq_catalog_begin(&cs, rel, NULL);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		Datum		values[Natts_queue];
		bool		isnull[Natts_queue];

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
		if ((dead_letter_queue == NULL ||
			 (!NULLED(dead_letter_queue) &&
			  strcmp(TextDatumGetCString(VALUE(dead_letter_queue)),
					 dead_letter_queue) == 0)) &&
			row_is_gone(values) == gone)
			names = lappend(names, TextDatumGetCString(VALUE(name)));
	}
	cmq_catalog_end(&cs);
	table_close(rel, AccessShareLock);
	return names;
}

/* Is this the relation that carries the rights of a queue, whichever? */
bool
cmq_catalog_carries_rights(Oid relid)
{
	Relation	rel = cmq_catalog_open("queue", AccessShareLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;
	bool		found = false;

	cmq_catalog_begin(&cs, rel, NULL);
	while (!found && HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		bool		isnull;
		Datum		rights = heap_getattr(tuple, Anum_queue_rights,
										  RelationGetDescr(rel), &isnull);

		found = !isnull && DatumGetObjectId(rights) == relid;
	}
	cmq_catalog_end(&cs);
	table_close(rel, AccessShareLock);
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
