/*-------------------------------------------------------------------------
 *
 * cmq_table.c
 *	  Reads and writes of queue tables through the table and index access
 *	  methods.
 *
 * All tables of a queue are ordinary tables with a primary key, written
 * without the executor's query machinery but with all their indexes
 * maintained, so that an index that somebody adds for reporting stays right.
 *
 * Scans use a dirty snapshot: each row is judged as it is when the scan meets
 * it, with everything the current transaction did, and a row that another open
 * transaction is deleting is known to be busy.  That is fresher than the
 * snapshot of any isolation level, needs none to be taken, and leaves no trace
 * in serializable conflict tracking: the row that matters is claimed by
 * updating or deleting it, which succeeds for one transaction only.  A row
 * that moves while a scan is under way may be missed by that scan; it moved
 * because somebody else received or deleted it.  A report is what a statement sees:
 * its scans have the snapshot of the statement (table->seen_by).
 *
 * The owner of a queue may do to its tables what owners may do.  So each open checks
 * what the table looks like (cmq_shape.c).  Columns that were added and dropped again
 * stay behind ours in the rows, as NULL; leaves made later do not have them.  Constraints that were added are checked, as the
 * owner, so that each row can be dumped and restored; the one that message tables are
 * made with is not, because what cmq writes obeys it (cmq_headers.c).  Triggers, foreign
 * keys among them, are not fired.  Expressions and predicates of indexes may have code of
 * the owner's.  That code runs as the owner (cmq_owner.c), when an index is opened and
 * when it is written, whatever role calls cmq.
 *
 * Locks: on tables and their indexes, to the end of the transaction.  Two locks end
 * before: that of a table that was only looked at (cmq_table_release()), and those of a
 * receive that waits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/itup.h"
#include "access/relation.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "base/cmq_handle.h"
#include "base/cmq_headers.h"
#include "store/cmq_description.h"
#include "store/cmq_owner.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"

/* How many rows are kept back, to be written together: as COPY does it. */
#define MAX_NEW_ROWS	1000
#define MAX_NEW_SIZE	65536	/* bytes */

/* Is a function, type or operator class somebody's, and not the server's? */
static bool
is_foreign(Oid oid, void *context)
{
	return oid >= FirstNormalObjectId;
}

/*
 * May an expression run code of the owner's?  Not if it is made of these nodes alone,
 * with functions and types of the server's: immutable functions of the server run
 * no others.  Types can bring code with them, to be run by index access methods.
 */
static bool
has_code(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_List:
		case T_CaseWhen:
			break;
		case T_Var:
		case T_Const:
		case T_FuncExpr:
		case T_OpExpr:
		case T_ScalarArrayOpExpr:
		case T_BoolExpr:
		case T_RelabelType:
		case T_CaseExpr:
		case T_ArrayExpr:
		case T_CoalesceExpr:
		case T_NullTest:
		case T_BooleanTest:
			if (is_foreign(exprType(node), NULL))
				return true;
			break;
		default:
			return true;
	}
	return check_functions_in_node(node, is_foreign, NULL) ||
		expression_tree_walker(node, has_code, context);
}

static bool
index_has_code(Relation index, const IndexInfo *info)
{
	if (has_code((Node *) info->ii_Expressions, NULL) ||
		has_code((Node *) info->ii_Predicate, NULL))
		return true;
	for (int i = 0; i < info->ii_NumIndexKeyAttrs; i++)
	{
		if (is_foreign(index->rd_opcintype[i], NULL) ||
			is_foreign(index->rd_opfamily[i], NULL) ||
			(info->ii_ExclusionProcs && is_foreign(info->ii_ExclusionProcs[i], NULL)))
			return true;
	}
	return false;
}

/*
 * Has the server loaded the expressions of an index, if it has any?  As it loads
 * them it evaluates what is constant.
 */
static bool
is_loaded(Relation index)
{
	return (index->rd_indexprs != NIL ||
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL)) &&
		(index->rd_indpred != NIL ||
		 heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL));
}

/* An index to be opened. */
typedef struct IndexCall
{
	Relation	index;
	IndexInfo  *info;
} IndexCall;

static void
build_index_info(void *arg)
{
	IndexCall  *call = arg;

	call->info = BuildIndexInfo(call->index);
}

/* Open all indexes, to insert into them. */
static void
open_indexes(CmqTable *table)
{
	ResultRelInfo *result = makeNode(ResultRelInfo);
	List	   *oids = RelationGetIndexList(table->rel);
	int			n = list_length(oids);

	/* not InitResultRelInfo(), which copies triggers: none fires for us */
	result->ri_RangeTableIndex = 1;
	result->ri_RelationDesc = table->rel;
	result->ri_IndexRelationDescs = palloc(n * sizeof(Relation));
	result->ri_IndexRelationInfo = palloc(n * sizeof(IndexInfo *));
	for (int i = 0; i < n; i++)
	{
		IndexCall	call = {
			.index = index_open(list_nth_oid(oids, i), RowExclusiveLock)
		};

		if (is_loaded(call.index))
			build_index_info(&call);
		else
			cmq_owner_call(table->rel->rd_rel->relowner, build_index_info, &call);
		table->has_code |= index_has_code(call.index, call.info);
		result->ri_IndexRelationDescs[i] = call.index;
		result->ri_IndexRelationInfo[i] = call.info;
	}
	result->ri_NumIndices = n;
	list_free(oids);
	table->result = result;
}

/* Does the table have the one CHECK constraint that it was made with, and no other? */
static bool
has_own_check_alone(CmqTable *table)
{
	TupleConstr *constr = RelationGetDescr(table->rel)->constr;

	return (table->kind == CMQ_MESSAGES || table->kind == CMQ_JOURNAL) &&
		constr->num_check == 1 &&
		strcmp(constr->check[0].ccname, CMQ_HEADERS_CONSTRAINT) == 0;
}

/* Has somebody added constraints? */
static void
find_constraints(CmqTable *table)
{
	TupleConstr *constr = RelationGetDescr(table->rel)->constr;

	if (constr == NULL ||
		((constr->num_check == 0 || has_own_check_alone(table)) &&
		 !cmq_shape_has_new_not_null(table->rel, table->kind, table->natts)))
		return;
	/* not table->result, whose number in the range table is made up */
	table->has_code = true;
	table->constraints = makeNode(ResultRelInfo);
	InitResultRelInfo(table->constraints, table->rel, 0, NULL, 0);
}

/* New rows, whose constraints are to be checked or whose index entries to be made. */
typedef struct RowsCall
{
	CmqTable   *table;
	TupleTableSlot **slots;
	int			n;
	CmqUpdateIndexes which;
} RowsCall;

static void
run_constraints(void *arg)
{
	RowsCall   *call = arg;

	for (int i = 0; i < call->n; i++)
		ExecConstraints(call->table->constraints, call->slots[i],
						call->table->estate);
}

/* Raise an error if a new row breaks a constraint; their code is the owner's. */
static void
check_constraints(CmqTable *table, TupleTableSlot **slots, int n)
{
	RowsCall	call = {.table = table,.slots = slots,.n = n};

	if (table->constraints)
		cmq_owner_call(table->rel->rd_rel->relowner, run_constraints, &call);
}

static void
make_entries(void *arg)
{
	RowsCall   *call = arg;

	for (int i = 0; i < call->n; i++)
		cmq_insert_index_tuples(call->table->result, call->slots[i],
								call->table->estate, call->which);
}

static void
insert_entries(CmqTable *table, TupleTableSlot **slots, int n,
			   CmqUpdateIndexes which)
{
	RowsCall	call = {.table = table,.slots = slots,.n = n,.which = which};

	if (table->has_code)
		cmq_owner_call(table->rel->rd_rel->relowner, make_entries, &call);
	else
		make_entries(&call);
}

/*
 * Open a table and lock it; AccessShare to read, else RowExclusive.  With an
 * estate rows can be inserted and updated, without one read and deleted.
 * False if the table does not exist any more; raises 55000 if it was changed.
 */
bool
cmq_table_open(CmqTable *table, EState *estate, CmqQueue *queue,
			   Oid relid, CmqTableKind kind, LOCKMODE lockmode)
{
	memset(table, 0, sizeof(*table));
	table->rel = try_relation_open(relid, lockmode);
	if (table->rel == NULL)
		return false;
	cmq_shape_check(table->rel, queue, kind);

	table->kind = kind;
	table->natts = cmq_shape_natts(queue, kind);
	table->lockmode = lockmode;
	table->estate = estate;
	table->slot = table_slot_create(table->rel, NULL);
	if (estate)
	{
		open_indexes(table);
		find_constraints(table);
	}
	return true;
}

/*
 * Open a table to be read from end to end, with AccessShare, checked in the same
 * way.  NULL if it does not exist any more.
 */
Relation
cmq_table_open_heap(CmqQueue *queue, Oid relid, CmqTableKind kind)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);

	if (rel)
		cmq_shape_check(rel, queue, kind);
	return rel;
}

/*
 * Open the primary key, once it is needed: deletes often do without.  Raises 55000 if it
 * was changed.
 */
static void
open_primary_key(CmqTable *table)
{
	Oid			pk = cmq_primary_key(table->rel);

	if (table->result)
	{
		for (int i = 0; i < table->result->ri_NumIndices; i++)
		{
			Relation	index = table->result->ri_IndexRelationDescs[i];

			if (RelationGetRelid(index) == pk)
				table->pk = index;
		}
	}
	else if (OidIsValid(pk))
		table->pk = index_open(pk, table->lockmode);
	cmq_shape_check_key(table->rel, table->pk, table->kind);
}

/* Close a table; the caller has had rows written that were kept back. */
void
cmq_table_close(CmqTable *table)
{
	if (table->nnew > 0)
		elog(ERROR, "%d rows of table \"%s\" were not written", table->nnew,
			 RelationGetRelationName(table->rel));
	if (table->scan)
		index_endscan(table->scan);
	if (table->extra_scan)
		index_endscan(table->extra_scan);
	if (table->extra)
		index_close(table->extra, NoLock);
	if (table->group_scan)
		index_endscan(table->group_scan);
	if (table->group_slot)
		ExecDropSingleTupleTableSlot(table->group_slot);
	/* else it is closed with the others that are open for writes */
	if (table->group_index && table->result == NULL)
		index_close(table->group_index, NoLock);
	if (BufferIsValid(table->vmbuf))
		ReleaseBuffer(table->vmbuf);
	ExecDropSingleTupleTableSlot(table->slot);
	if (table->result)
	{
		for (int i = 0; i < table->nslots; i++)
			ExecDropSingleTupleTableSlot(table->newslots[i]);
		if (table->newdesc)
			FreeTupleDesc(table->newdesc);
		ExecCloseIndices(table->result);
	}
	else if (table->pk)
		index_close(table->pk, NoLock);
	relation_close(table->rel, NoLock);
	memset(table, 0, sizeof(*table));
}

/*
 * The same for a table that was only looked at, and give its locks back: a look at all
 * leaves of a queue must not fill the lock table.
 */
void
cmq_table_release(CmqTable *table)
{
	Oid			relid = RelationGetRelid(table->rel);
	Oid			pk = table->pk ? RelationGetRelid(table->pk) : InvalidOid;
	LOCKMODE	lockmode = table->lockmode;

	cmq_table_close(table);
	if (OidIsValid(pk))
		UnlockRelationOid(pk, lockmode);
	UnlockRelationOid(relid, lockmode);
}

/*
 * A slot for a row to be written.  All but the first have a copy of the description of
 * the columns, because a resource owner would keep each pin of the relation's own: with
 * hundreds of equal ones that takes a fifth of a batch's time.
 */
static TupleTableSlot *
make_new_row(CmqTable *table)
{
	if (table->nslots > 0 && table->newdesc == NULL)
		table->newdesc = CreateTupleDescCopy(RelationGetDescr(table->rel));
	return MakeSingleTupleTableSlot(table->newdesc ? table->newdesc :
									RelationGetDescr(table->rel),
									&TTSOpsVirtual);
}

static void
store_new_row(CmqTable *table, TupleTableSlot *slot, Datum *values,
			  bool *isnull)
{
	int			natts = table->natts;

	if (table->estate == NULL)
		elog(ERROR, "table \"%s\" has not been opened to be written",
			 RelationGetRelationName(table->rel));
	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, natts * sizeof(Datum));
	memcpy(slot->tts_isnull, isnull, natts * sizeof(bool));
	/* columns that were dropped */
	for (int i = natts; i < RelationGetDescr(table->rel)->natts; i++)
		slot->tts_isnull[i] = true;
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(table->rel);
}

/*
 * Insert a row.  Rows are kept back, to be written together by cmq_table_flush(), which
 * the caller calls if this returns true, and before it closes the table.  What values
 * point to must stay until then, and the caller must not look for the row before.  size is
 * about how many bytes the row has.
 */
bool
cmq_table_insert(CmqTable *table, Datum *values, bool *isnull, Size size)
{
	if (table->nnew == table->nslots)
	{
		if (table->nslots == 0)
			table->newslots = palloc(sizeof(TupleTableSlot *) * MAX_NEW_ROWS);
		table->newslots[table->nslots++] = make_new_row(table);
	}
	store_new_row(table, table->newslots[table->nnew++], values, isnull);
	table->new_size += size;
	return table->nnew == MAX_NEW_ROWS || table->new_size >= MAX_NEW_SIZE;
}

/*
 * Write the rows that were kept back; raises 23505 if the key of one exists.  Returns how
 * many there were: they are the first of table->newslots, with their TIDs, until the next
 * row is inserted.
 */
int
cmq_table_flush(CmqTable *table)
{
	int			n = table->nnew;
	CommandId	cid;
	MemoryContext old;

	if (n == 0)
		return 0;
	cid = GetCurrentCommandId(true);
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(table->estate));
	check_constraints(table, table->newslots, n);
	if (n == 1)
		table_tuple_insert(table->rel, table->newslots[0], cid, 0, NULL);
	else
		table_multi_insert(table->rel, table->newslots, n, cid, 0, NULL);
	insert_entries(table, table->newslots, n, CMQ_ALL_INDEXES);
	MemoryContextSwitchTo(old);
	ResetPerTupleExprContext(table->estate);
	table->nnew = 0;
	table->new_size = 0;
	return n;
}

/*
 * Replace the row in table->slot, waiting for a transaction that is changing
 * it.  Anything but TM_Ok means that one has changed it, and nothing was done.
 * The new row is at tid.
 */
TM_Result
cmq_table_update(CmqTable *table, Datum *values, bool *isnull, ItemPointer tid)
{
	TM_FailureData tmfd;
	LockTupleMode lockmode;
	CmqUpdateIndexes update_indexes;
	TM_Result	result;
	TupleTableSlot *newslot = make_new_row(table);

	store_new_row(table, newslot, values, isnull);
	check_constraints(table, &newslot, 1);
	result = cmq_tuple_update(table->rel, &table->slot->tts_tid, newslot, &tmfd,
							  &lockmode, &update_indexes);
	if (result == TM_Ok && cmq_needs_index_update(update_indexes))
		insert_entries(table, &newslot, 1, update_indexes);
	ItemPointerCopy(&newslot->tts_tid, tid);
	ExecDropSingleTupleTableSlot(newslot);
	return result;
}

/*
 * Delete the row in table->slot, as cmq_table_update() replaces it; but without wait
 * TM_BeingModified says that another transaction is changing the row.
 */
TM_Result
cmq_table_delete(CmqTable *table, bool wait)
{
	TM_FailureData tmfd;

	return cmq_tuple_delete(table->rel, &table->slot->tts_tid, wait, &tmfd);
}

static void
start_scan(CmqTable *table, ScanKey keys, int nkeys)
{
	if (table->pk == NULL)
		open_primary_key(table);

	/* the number of keys is fixed for the life of a scan */
	if (table->scan && table->scan->numberOfKeys != nkeys)
	{
		index_endscan(table->scan);
		table->scan = NULL;
	}
	if (table->scan == NULL)
	{
		if (table->seen_by == NULL)
			InitDirtySnapshot(table->snapshot);
		table->scan = cmq_index_beginscan(table->rel, table->pk,
										  table->seen_by ? table->seen_by :
										  &table->snapshot, nkeys);
		table->scan->xs_want_itup = table->seen_by != NULL;
	}
	index_rescan(table->scan, keys, nkeys, NULL, 0);
}

/* Find the row with this primary key (key2 where it has two columns); false if none. */
bool
cmq_table_find(CmqTable *table, TimestampTz key1, TimestampTz key2)
{
	ScanKeyData keys[2];
	int			nkeys = cmq_shape_nkeys(table->kind);

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				TimestampTzGetDatum(key1));
	if (nkeys > 1)
		ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
					TimestampTzGetDatum(key2));
	start_scan(table, keys, nkeys);
	return cmq_table_next(table);
}

/* Is the index fit to find rows by this column, a timestamptz, and does it run no code? */
static bool
is_on_column(Relation index, AttrNumber attno)
{
	return index->rd_rel->relam == BTREE_AM_OID &&
		index->rd_index->indisvalid &&
		index->rd_index->indkey.values[0] == attno &&
		index->rd_opcintype[0] == TIMESTAMPTZOID &&
		!is_foreign(index->rd_opfamily[0], NULL) &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/*
 * Has somebody added an index by which cmq_table_find_by() can find rows by this
 * column?
 */
bool
cmq_table_has_index_on(CmqTable *table, AttrNumber attno)
{
	List	   *oids;
	ListCell   *lc;

	if (table->extra || table->no_extra)
		return table->extra != NULL;
	oids = RelationGetIndexList(table->rel);
	foreach(lc, oids)
	{
		/*
		 * to write rows is to have all indexes open, with a lock that is
		 * stronger
		 */
		Relation	index = index_open(lfirst_oid(lc), table->lockmode);

		if (table->extra == NULL && is_on_column(index, attno))
			table->extra = index;
		else
			index_close(index, NoLock);
	}
	list_free(oids);
	table->no_extra = table->extra == NULL;
	return table->extra != NULL;
}

/* Move to the next row of the scan that has not been added by another open transaction. */
static bool
next_of(CmqTable *table, IndexScanDesc scan)
{
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!index_getnext_slot(scan, ForwardScanDirection, table->slot))
			return false;
		/* a dirty snapshot also shows what others have not committed yet */
	} while (TransactionIdIsValid(table->snapshot.xmin));
	table->busy_with = table->snapshot.xmax;
	table->busy = TransactionIdIsValid(table->busy_with);
	return true;
}

/*
 * Find a row by the column that cmq_table_has_index_on() was asked for and has said yes;
 * false if none has the value.
 */
bool
cmq_table_find_by(CmqTable *table, TimestampTz value)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				TimestampTzGetDatum(value));
	if (table->extra_scan == NULL)
	{
		if (table->seen_by == NULL)
			InitDirtySnapshot(table->snapshot);
		table->extra_scan = cmq_index_beginscan(table->rel, table->extra,
												table->seen_by ? table->seen_by :
												&table->snapshot, 1);
	}
	index_rescan(table->extra_scan, &key, 1, NULL, 0);
	return next_of(table, table->extra_scan);
}

/* Get the row at this TID; false if there is none. */
bool
cmq_table_fetch(CmqTable *table, ItemPointer tid)
{
	return ItemPointerGetBlockNumber(tid) < RelationGetNumberOfBlocks(table->rel) &&
		table_tuple_fetch_row_version(table->rel, tid, SnapshotSelf,
									  table->slot);
}

/*
 * Scan the rows whose first key column is in [from, until), or in
 * [from, until], in order.
 */
void
cmq_table_range(CmqTable *table, TimestampTz from, TimestampTz until,
				bool include_until)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	if (include_until)
		ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
					TimestampTzGetDatum(until));
	else
		ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_TIMESTAMPTZ_LT,
					TimestampTzGetDatum(until));
	start_scan(table, keys, 2);
}

/* The condition that the key of a pending row is behind this one. */
static void
behind_pending(CmqTable *table, ScanKey result, const CmqPendingKey *key,
			   StrategyNumber strategy)
{
	/* the index reads the members for as long as it scans */
	ScanKeyEntryInitialize(&table->after[0], SK_ROW_MEMBER,
						   Anum_pending_visible_at, strategy,
						   InvalidOid, InvalidOid, F_TIMESTAMPTZ_CMP,
						   TimestampTzGetDatum(key->visible_at));
	ScanKeyEntryInitialize(&table->after[1], SK_ROW_MEMBER | SK_ROW_END,
						   Anum_pending_enqueued_at, strategy,
						   InvalidOid, InvalidOid, F_TIMESTAMPTZ_CMP,
						   TimestampTzGetDatum(key->enqueued_at));
	memset(result, 0, sizeof(*result));
	result->sk_flags = SK_ROW_HEADER;
	result->sk_attno = Anum_pending_visible_at;
	result->sk_strategy = strategy;
	result->sk_argument = PointerGetDatum(table->after);
}

/* The same for a key of one column, which stands for (time, time). */
static void
behind_time(ScanKey result, const CmqPendingKey *key, ScanDirection direction)
{
	Datum		time = TimestampTzGetDatum(key->visible_at);

	if (ScanDirectionIsForward(direction) && key->enqueued_at < key->visible_at)
		ScanKeyInit(result, 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, time);
	else if (ScanDirectionIsForward(direction))
		ScanKeyInit(result, 1, BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT, time);
	else if (key->enqueued_at > key->visible_at)
		ScanKeyInit(result, 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, time);
	else
		ScanKeyInit(result, 1, BTLessStrategyNumber, F_TIMESTAMPTZ_LT, time);
}

/*
 * Scan the rows behind this key in the order of the primary key, or, backwards, in the
 * opposite one, as far as a first key column of limit.  The key of a table that has one
 * column is compared as (time, time).
 */
void
cmq_table_behind(CmqTable *table, const CmqPendingKey *key, TimestampTz limit,
				 ScanDirection direction)
{
	bool		forward = ScanDirectionIsForward(direction);
	ScanKeyData keys[2];

	if (cmq_shape_nkeys(table->kind) > 1)
		behind_pending(table, &keys[0], key, forward ? BTGreaterStrategyNumber :
					   BTLessStrategyNumber);
	else
		behind_time(&keys[0], key, direction);
	if (forward)
		ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
					TimestampTzGetDatum(limit));
	else
		ScanKeyInit(&keys[1], 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
					TimestampTzGetDatum(limit));
	start_scan(table, keys, 2);
}

/*
 * Scan the rows of a pending table behind this one, up to a first key column of
 * until, in order.
 */
void
cmq_table_after(CmqTable *table, const CmqPendingKey *key, TimestampTz until)
{
	cmq_table_behind(table, key, until, ForwardScanDirection);
}

/* Move on to the next row of the scan, into table->slot; false at its end. */
bool
cmq_table_next(CmqTable *table)
{
	return next_of(table, table->scan);
}

/* Does the snapshot see the row that the index entry of the scan stands for? */
static bool
sees_entry(CmqTable *table, ItemPointer tid)
{
	BlockNumber block = ItemPointerGetBlockNumber(tid);

	if (!VM_ALL_VISIBLE(table->rel, block, &table->vmbuf))
		return index_fetch_heap(table->scan, table->slot);

	/* as an index-only scan does: the page is not read, but counts as read */
	PredicateLockPage(table->rel, block, table->seen_by);
	return true;
}

/* The key of the index entry of the scan; key2 where it has two columns. */
static void
get_key(CmqTable *table, TimestampTz *key1, TimestampTz *key2)
{
	IndexScanDesc scan = table->scan;
	bool		isnull;

	*key1 = DatumGetTimestampTz(index_getattr(scan->xs_itup, 1,
											  scan->xs_itupdesc, &isnull));
	if (cmq_shape_nkeys(table->kind) > 1)
		*key2 = DatumGetTimestampTz(index_getattr(scan->xs_itup, 2,
												  scan->xs_itupdesc, &isnull));
}

/*
 * Move to the next row that table->seen_by sees, and get its key alone (key2 where it has
 * two columns): a page whose rows all can see is not read.  False at the end.
 */
bool
cmq_table_next_key(CmqTable *table, TimestampTz *key1, TimestampTz *key2)
{
	IndexScanDesc scan = table->scan;
	ItemPointer tid;

	do
	{
		CHECK_FOR_INTERRUPTS();
		tid = index_getnext_tid(scan, ForwardScanDirection);
		if (tid == NULL)
			return false;
	} while (!sees_entry(table, tid));
	get_key(table, key1, key2);
	return true;
}

/*
 * Move to the next entry of the index, whether or not there is a row for it, and get its
 * key: (time, time) where it has one column.  For calls that count what they read.  False
 * at the end; the table is read with table->seen_by.
 */
bool
cmq_table_next_entry(CmqTable *table, ScanDirection direction, CmqPendingKey *key)
{
	CHECK_FOR_INTERRUPTS();
	if (index_getnext_tid(table->scan, direction) == NULL)
		return false;
	get_key(table, &key->visible_at, &key->enqueued_at);
	if (cmq_shape_nkeys(table->kind) == 1)
		key->enqueued_at = key->visible_at;
	return true;
}

/* Does table->seen_by see the row of the entry?  Then it is in table->slot. */
bool
cmq_table_sees_entry(CmqTable *table)
{
	return index_fetch_heap(table->scan, table->slot);
}

/* The first time that the primary key of a leaf has, from one of its ends. */
static TimestampTz
end_of_leaf(CmqTable *table, ScanDirection from)
{
	IndexScanDesc scan;
	TimestampTz time = DT_NOBEGIN;
	bool		isnull;

	if (table->pk == NULL)
		open_primary_key(table);
	scan = cmq_index_beginscan(table->rel, table->pk, SnapshotAny, 0);
	scan->xs_want_itup = true;
	index_rescan(scan, NULL, 0, NULL, 0);
	if (index_getnext_tid(scan, from))
		time = DatumGetTimestampTz(index_getattr(scan->xs_itup, 1,
												 scan->xs_itupdesc, &isnull));
	index_endscan(scan);
	return time;
}

/*
 * The newest time among all rows of a leaf, dead and uncommitted ones included;
 * DT_NOBEGIN if the index has no entry.  Reads the index alone: the queue can be used
 * although the last page of the table is damaged.
 */
TimestampTz
cmq_table_newest(CmqTable *table)
{
	return end_of_leaf(table, BackwardScanDirection);
}

/* The same for the oldest time. */
TimestampTz
cmq_table_oldest(CmqTable *table)
{
	return end_of_leaf(table, ForwardScanDirection);
}

/* The topic in the journal of which the message of the row in the slot is; empty: none. */
void
cmq_slot_topic(TupleTableSlot *slot, AttrNumber attno, char *topic)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attno, &isnull);

	topic[0] = '\0';
	if (!isnull)
		text_to_cstring_buffer(DatumGetTextPP(value), topic, NAMEDATALEN);
}

/* The body of the message in the slot; raises 55000 for NULL. */
Datum
cmq_slot_body(TupleTableSlot *slot)
{
	bool		isnull;
	Datum		body = slot_getattr(slot, Anum_messages_body, &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("message %lld in table \"%s\" has no body",
						(long long) cmq_time_to_msg_id(cmq_slot_time(slot, Anum_messages_enqueued_at)),
						get_rel_name(slot->tts_tableOid)),
				 errdetail("The table has been changed by hand.")));
	return body;
}

/*
 * Do the headers of the message in the slot contain this filter, a jsonb that is not
 * toasted?  No memory stays: most scans have no context that they reset for each row.
 */
bool
cmq_slot_headers_contain(TupleTableSlot *slot, Datum filter)
{
	MemoryContext context;
	MemoryContext old;
	bool		isnull;
	Datum		headers = slot_getattr(slot, Anum_messages_headers, &isnull);
	bool		result;

	if (isnull)
		return false;
	/* the server keeps such contexts for the next one who wants one */
	context = AllocSetContextCreate(CurrentMemoryContext, "cmq filter",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	result = DatumGetBool(DirectFunctionCall2(jsonb_contains, headers, filter));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return result;
}

/*
 * When the message of a pending row was received first; DT_NOBEGIN if it was not,
 * since it was sent or brought back.
 */
TimestampTz
cmq_slot_first_received(TupleTableSlot *slot)
{
	return cmq_slot_int(slot, Anum_pending_receive_count) == 0 ? DT_NOBEGIN :
		cmq_slot_time(slot, Anum_pending_first_received_at);
}

/*
 * From when on the message of a pending row could be received at first: since it was sent,
 * or since its delay was over.  Not for one that was brought back.
 */
TimestampTz
cmq_slot_ready_first(TupleTableSlot *slot)
{
	return Max(cmq_slot_time(slot, Anum_pending_enqueued_at),
			   cmq_slot_time(slot, Anum_pending_delayed_until));
}

/*
 * Since when the message of a pending row is ready, if it is.  A restored message is
 * visible since its production, for the sake of the order; until it is received
 * first_received_at says when it was restored.
 */
TimestampTz
cmq_slot_ready_since(TupleTableSlot *slot)
{
	TimestampTz visible_at = cmq_slot_time(slot, Anum_pending_visible_at);

	return cmq_slot_int(slot, Anum_pending_receive_count) > 0 ? visible_at :
		Max(visible_at, cmq_slot_time(slot, Anum_pending_first_received_at));
}
