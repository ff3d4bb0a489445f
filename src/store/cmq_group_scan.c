/*-------------------------------------------------------------------------
 *
 * cmq_group_scan.c
 *	  Scans of the rows of a group, by the index that tables of ordered queues have.
 *
 * The pending table has an index on (group_key, visible_at), a rewind leaf one on
 * (group_hash, enqueued_at); see src/README, "Storage".  A scan by group goes beside the
 * scan by primary key of the same table, and has a slot of its own.  Its snapshot is dirty,
 * too, but rows that other transactions have added are not passed over: who takes messages
 * in order has to stop at them.
 *
 * The index is found by what it is, whoever has made it, and without it nothing is delivered
 * (55000).
 *
 * Locks: that of the table on its indexes, to the end of the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/partition.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "store/cmq_group_scan.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

/* The column that says the group of a row, for the index by group. */
static AttrNumber
group_column(CmqTable *table)
{
	return table->kind == CMQ_PENDING ? Anum_pending_group_key :
		Anum_rewind_group_hash;
}

/* Is this the index by group? */
static bool
is_group_index(CmqTable *table, Relation index)
{
	return index->rd_rel->relam == BTREE_AM_OID &&
		index->rd_index->indisvalid &&
		index->rd_index->indnkeyatts == 2 &&
		index->rd_index->indkey.values[0] == group_column(table) &&
		index->rd_index->indkey.values[1] == 1 &&
		index->rd_opcintype[0] == INT8OID &&
		index->rd_opcintype[1] == TIMESTAMPTZOID &&
		index->rd_opfamily[0] < FirstNormalObjectId &&
		index->rd_opfamily[1] < FirstNormalObjectId &&
		index->rd_indoption[0] == 0 && index->rd_indoption[1] == 0 &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/* The index by group among those that are open because rows are written, or NULL. */
static Relation
find_open(CmqTable *table)
{
	for (int i = 0; i < table->result->ri_NumIndices; i++)
	{
		Relation	index = table->result->ri_IndexRelationDescs[i];

		if (is_group_index(table, index))
			return index;
	}
	return NULL;
}

/* The same for a table whose indexes are not open; the index is opened. */
static Relation
open_own(CmqTable *table)
{
	List	   *oids = RelationGetIndexList(table->rel);
	Relation	found = NULL;
	ListCell   *lc;

	foreach(lc, oids)
	{
		Relation	index = index_open(lfirst_oid(lc), table->lockmode);

		if (is_group_index(table, index))
		{
			found = index;
			break;
		}
		index_close(index, NoLock);
	}
	list_free(oids);
	return found;
}

/*
 * Open the index by group of an ordered queue's table.  Whoever has made it, it is as good
 * as ours.  Raises 55000 if there is none.
 */
static void
open_index(CmqTable *table)
{
	Oid			relid = RelationGetRelid(table->rel);

	if (table->result)
		table->group_index = find_open(table);
	else
		table->group_index = open_own(table);
	if (table->group_index == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" does not have the index by group of an ordered queue",
						RelationGetRelationName(table->rel)),
				 errdetail("It was dropped, changed or is not valid."),
				 errhint("If the queue is being restored from a dump, wait until that has ended. Otherwise make it again: CREATE INDEX ON %s (%s, %s);",
						 cmq_full_name(table->rel->rd_rel->relispartition ?
									   get_partition_parent(relid, true) : relid),
						 table->kind == CMQ_PENDING ? "group_key" : "group_hash",
						 table->kind == CMQ_PENDING ? "visible_at" : "enqueued_at")));
	table->group_slot = table_slot_create(table->rel, NULL);
}

static void
start_scan(CmqTable *table, ScanKey keys, int nkeys)
{
	if (table->group_index == NULL)
		open_index(table);
	if (table->group_scan && table->group_scan->numberOfKeys != nkeys)
	{
		index_endscan(table->group_scan);
		table->group_scan = NULL;
	}
	if (table->group_scan == NULL)
	{
		InitDirtySnapshot(table->group_snapshot);
		table->group_scan = cmq_index_beginscan(table->rel, table->group_index,
												&table->group_snapshot, nkeys);
	}
	/* a scan from key to key does not read the rows of all entries */
	table->group_scan->xs_want_itup = nkeys == 1;
	index_rescan(table->group_scan, keys, nkeys, NULL, 0);
}

/*
 * Scan rows by the index by group, beside the scan by primary key: those whose first
 * column there is the key, and whose time is in [from, until), or in [from, until].
 */
void
cmq_group_scan_range(CmqTable *table, int64 key, TimestampTz from,
					 TimestampTz until, bool include_until)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	if (include_until)
		ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
					TimestampTzGetDatum(until));
	else
		ScanKeyInit(&keys[2], 2, BTLessStrategyNumber, F_TIMESTAMPTZ_LT,
					TimestampTzGetDatum(until));
	start_scan(table, keys, 3);
}

/* The same for rows without a group whose time is in [from, until]. */
void
cmq_group_scan_nulls(CmqTable *table, TimestampTz from, TimestampTz until)
{
	ScanKeyData keys[3];

	ScanKeyEntryInitialize(&keys[0], SK_ISNULL | SK_SEARCHNULL, 1,
						   InvalidStrategy, InvalidOid, InvalidOid, InvalidOid,
						   (Datum) 0);
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(until));
	start_scan(table, keys, 3);
}

/* Scan entries whose first column is greater than this, with cmq_group_scan_next_key(). */
void
cmq_group_scan_after(CmqTable *table, int64 key)
{
	ScanKeyData keys[1];

	ScanKeyInit(&keys[0], 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(key));
	start_scan(table, keys, 1);
}

/* What other transactions do to the row in table->group_slot. */
static void
note_state(CmqTable *table)
{
	table->foreign = TransactionIdIsValid(table->group_snapshot.xmin);
	table->group_busy = TransactionIdIsValid(table->group_snapshot.xmax);
}

/*
 * Move on to the next row of the scan by group, into table->group_slot; false at its end.
 * A row that another open transaction has added is one, too: table->foreign.
 */
bool
cmq_group_scan_next(CmqTable *table)
{
	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(table->group_scan, ForwardScanDirection,
							table->group_slot))
	{
		/* a look at a row that is none has left it half filled */
		ExecClearTuple(table->group_slot);
		return false;
	}
	note_state(table);
	return true;
}

/*
 * Move on to the next entry of a scan from key to key; false at its end.  Its row may be
 * gone: cmq_group_scan_fetch() says so.
 */
bool
cmq_group_scan_next_key(CmqTable *table, int64 *key)
{
	IndexScanDesc scan = table->group_scan;
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	if (index_getnext_tid(scan, ForwardScanDirection) == NULL)
		return false;
	*key = DatumGetInt64(index_getattr(scan->xs_itup, 1, scan->xs_itupdesc, &isnull));
	return true;
}

/* Get the row of the entry, as cmq_group_scan_next() does; false if it is gone. */
bool
cmq_group_scan_fetch(CmqTable *table)
{
	if (!index_fetch_heap(table->group_scan, table->group_slot))
	{
		ExecClearTuple(table->group_slot);
		return false;
	}
	note_state(table);
	return true;
}
