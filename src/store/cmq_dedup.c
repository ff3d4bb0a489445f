/*-------------------------------------------------------------------------
 *
 * cmq_dedup.c
 *	  Keys of messages that are stored once: their tables, and the rows in them.
 *
 * A queue with dedup_seconds has a table cmq_data.q_<queue>_dedup, partitioned like its
 * messages, with a leaf of keys for each leaf of messages.  A key's row has the time of
 * its message and is in the leaf of that time.  It lives by itself: it stays when the
 * message is consumed, expires or is cleared, until the leaf is dropped
 * (cmq_dedup_drop.c).  A time on the row counts, not whether the message is there.
 *
 * Each leaf has a unique index on the key, and nothing else that would have to be kept: an
 * index or constraint that somebody adds is an error, but for another one of the same kind,
 * as REINDEX CONCURRENTLY makes it.  So no code of an owner's runs here,
 * and nobody waits for it.  What makes a key exact in a leaf is that index, by an
 * insertion that can be taken back (speculative, as ON CONFLICT does it): it either
 * succeeds, or a row of the key is found and looked at.  How keys in several leaves are
 * exact is said in cmq_once.c.
 *
 * Reads use a dirty snapshot, as everywhere (cmq_table.c).  The functions here that look
 * and write wait for no transaction; cmq_dedup_wait() alone does.
 *
 * A duplicate writes nothing, so its transaction may have nothing to flush.  Its answer is
 * that the message is stored: where that was committed without waiting for the disk
 * (synchronous_commit = off) the duplicate waits for it, unless it is set so, too.  For
 * standbys that its commits wait for its transaction waits at its end (cmq_async.c).
 *
 * Rows are added and deleted, never updated.  Neither tables nor leaves have a primary key
 * that logical replication could go by, so their identity is the whole row.
 *
 * Locks: RowExclusive on the leaf that keys are written to, to the end of the transaction;
 * AccessShare on one that is only looked at, until it is closed.  Abort: the key goes with
 * the message.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/skey.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation_d.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "memory/cmq_async.h"
#include "store/cmq_ddl.h"
#include "store/cmq_dedup.h"
#include "store/cmq_description.h"

enum
{
	Anum_keys_key = 1,
	Anum_keys_enqueued_at,
	Natts_keys = 2
};

/*
 * Make the table for the keys of a queue, without leaves.  The caller has called
 * cmq_owner_enter().  Raises 42710 if the name is taken.
 */
Oid
cmq_dedup_create(const char *name)
{
	const char *table = cmq_relation_qualified(CMQ_DEDUP_TABLE, name);
	Oid			relid;

	if (OidIsValid(cmq_relation_oid(CMQ_DEDUP_TABLE, name)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("queue \"%s\" cannot keep keys", name),
				 errdetail("Relation %s, which they need, exists already.", table),
				 errhint("If it is of another queue, whose name ends in _dedup, drop that one with cmq_drop_queue, or take a queue of another name for messages with keys; otherwise rename the relation.")));
	cmq_ddl_execute("CREATE TABLE %s (key text COLLATE \"C\" NOT NULL, "
					"enqueued_at timestamptz NOT NULL) "
					"PARTITION BY RANGE (enqueued_at)", table);
	relid = cmq_relation_oid(CMQ_DEDUP_TABLE, name);
	cmq_ddl_execute("ALTER TABLE %s REPLICA IDENTITY FULL", table);
	cmq_ddl_execute("COMMENT ON TABLE %s IS 'keys of the messages that were sent once to queue %s'",
					table, name);
	cmq_ddl_refuse_truncate(table, name);
	cmq_ddl_revoke_all(relid);
	return relid;
}

/* Is this index like the one that each leaf of keys has? */
static bool
is_key_index(Relation index)
{
	Form_pg_index form = index->rd_index;

	return index->rd_rel->relam == BTREE_AM_OID && form->indisunique &&
		form->indimmediate && form->indnatts == 1 &&
		form->indkey.values[0] == Anum_keys_key &&
		index->rd_opcintype[0] == TEXTOID &&
		index->rd_indcollation[0] == C_COLLATION_OID &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/* Raise 55000 for a leaf that was changed, or that a restore has not finished yet. */
static void
report_changed(Relation rel, CmqQueue *queue, const char *fact)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" is not a table of keys of queue \"%s\"",
					RelationGetRelationName(rel), queue->name),
			 errdetail_internal("%s", fact),
			 errhint("Undo the change; or forget all keys of the queue, with cmq_alter_queue: dedup_seconds => 0, and then what it was. If the queue is being restored from a dump, this passes when the restore has ended.")));
}

static void
check_table(Relation rel, CmqQueue *queue)
{
	TupleDesc	desc = RelationGetDescr(rel);
	const char *fact = NULL;

	if (rel->rd_rel->relkind != RELKIND_RELATION ||
		rel->rd_rel->relam != HEAP_TABLE_AM_OID ||
		desc->natts != Natts_keys ||
		TupleDescAttr(desc, 0)->atttypid != TEXTOID ||
		TupleDescAttr(desc, 1)->atttypid != TIMESTAMPTZOID)
		fact = "Its columns or its kind were changed.";
	else if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		fact = "It is unlogged: a crash would empty it.";
	else if (rel->rd_rel->relowner != queue->owner)
		fact = "It has another owner.";
	else if (desc->constr && desc->constr->num_check > 0)
		fact = "A constraint was added.";
	if (fact)
		report_changed(rel, queue, fact);
}

/* Open the indexes; raises 55000 if there is one of another kind, or none to look in. */
static void
open_indexes(CmqKeys *keys, CmqQueue *queue)
{
	List	   *oids = RelationGetIndexList(keys->rel);
	bool		ok = list_length(oids) <= CMQ_KEY_INDEXES;
	ListCell   *lc;

	foreach(lc, oids)
	{
		Relation	index;

		if (!ok)
			break;
		index = index_open(lfirst_oid(lc), keys->lockmode);
		ok = is_key_index(index);
		if (keys->index == NULL && index->rd_index->indisvalid)
			keys->index = index;
		keys->indexes[keys->nindexes] = index;
		/* it has no expression whose constants would be evaluated */
		if (ok && keys->lockmode != AccessShareLock &&
			index->rd_index->indisready)
			keys->info[keys->nindexes] = BuildIndexInfo(index);
		keys->nindexes++;
	}
	if (!ok || keys->index == NULL)
		report_changed(keys->rel, queue,
					   "It has not its unique index alone.");
	list_free(oids);
}

/*
 * Open the leaf of keys of a leaf; AccessShare to look, else RowExclusive.  False if it
 * does not exist any more; raises 55000 if it was changed.
 */
bool
cmq_dedup_open(CmqKeys *keys, CmqQueue *queue, CmqLeaf *leaf, LOCKMODE lockmode)
{
	memset(keys, 0, sizeof(*keys));
	keys->rel = try_relation_open(leaf->dedup, lockmode);
	if (keys->rel == NULL)
		return false;
	keys->leaf = leaf;
	keys->lockmode = lockmode;
	check_table(keys->rel, queue);
	open_indexes(keys, queue);
	keys->found = table_slot_create(keys->rel, NULL);
	if (lockmode != AccessShareLock)
		keys->added = MakeSingleTupleTableSlot(RelationGetDescr(keys->rel),
											   &TTSOpsVirtual);
	return true;
}

void
cmq_dedup_close(CmqKeys *keys)
{
	LOCKMODE	lockmode = keys->lockmode == AccessShareLock ? AccessShareLock :
		NoLock;

	ExecDropSingleTupleTableSlot(keys->found);
	if (keys->added)
		ExecDropSingleTupleTableSlot(keys->added);
	for (int i = 0; i < keys->nindexes; i++)
		index_close(keys->indexes[i], lockmode);
	relation_close(keys->rel, lockmode);
	memset(keys, 0, sizeof(*keys));
}

/*
 * The transaction that has written the row has committed: have that on disk, and later on
 * the standbys, if this session waits for its own commits.
 */
static void
flush_commit(CmqKeys *keys)
{
	bool		should_free;
	HeapTupleHeader header =
		ExecFetchSlotHeapTuple(keys->found, false, &should_free)->t_data;
	TransactionId xid = HeapTupleHeaderGetRawXmin(header);

	/* nothing is known of one that is frozen; it is old */
	if (synchronous_commit <= SYNCHRONOUS_COMMIT_OFF ||
		HeapTupleHeaderXminFrozen(header) ||
		TransactionIdIsCurrentTransactionId(xid))
		return;
	XLogFlush(TransactionIdGetCommitLSN(xid));
	cmq_async_tell();
}

/* What a row of the key says that a dirty scan has stopped at. */
static CmqKeyState
judge(CmqKeys *keys, const SnapshotData *snapshot, TimestampTz since,
	  CmqKeyHolder *holder)
{
	bool		isnull;
	bool		own_leaf = keys->lockmode != AccessShareLock;

	holder->time = DatumGetTimestampTz(slot_getattr(keys->found,
													Anum_keys_enqueued_at,
													&isnull));
	ItemPointerCopy(&keys->found->tts_tid, &holder->tid);
	holder->xid = TransactionIdIsValid(snapshot->xmin) ? snapshot->xmin :
		snapshot->xmax;
	holder->token = TransactionIdIsValid(snapshot->xmin) ?
		snapshot->speculativeToken : 0;

	/* in the leaf that is written, the index does not let an old one be */
	if (holder->time <= since && !own_leaf)
		return CMQ_KEY_FREE;
	if (TransactionIdIsValid(holder->xid))
		return CMQ_KEY_BUSY;
	if (holder->time <= since)
		return CMQ_KEY_OLD;
	flush_commit(keys);
	return CMQ_KEY_TAKEN;
}

/*
 * Who has the key, as of now?  A message that is no later than since does not count.
 * Fills in *holder unless the key is free.
 */
CmqKeyState
cmq_dedup_look(CmqKeys *keys, Datum key, TimestampTz since, CmqKeyHolder *holder)
{
	SnapshotData snapshot;
	ScanKeyData scankey;
	IndexScanDesc scan;
	CmqKeyState state = CMQ_KEY_FREE;

	InitDirtySnapshot(snapshot);
	ScanKeyEntryInitialize(&scankey, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, key);
	scan = cmq_index_beginscan(keys->rel, keys->index, &snapshot, 1);
	index_rescan(scan, &scankey, 1, NULL, 0);
	while (state == CMQ_KEY_FREE &&
		   index_getnext_slot(scan, ForwardScanDirection, keys->found))
		state = judge(keys, &snapshot, since, holder);
	index_endscan(scan);
	ExecClearTuple(keys->found);
	return state;
}

/* Write a row, unless the index has the key; its place is in keys->added then. */
static bool
try_insert(CmqKeys *keys, Datum key, TimestampTz time)
{
	TransactionId xid = GetCurrentTransactionId();
	TupleTableSlot *slot = keys->added;
	uint32		token;
	bool		written = true;

	ExecClearTuple(slot);
	slot->tts_values[Anum_keys_key - 1] = key;
	slot->tts_values[Anum_keys_enqueued_at - 1] = TimestampTzGetDatum(time);
	memset(slot->tts_isnull, false, Natts_keys * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(keys->rel);

	token = SpeculativeInsertionLockAcquire(xid);
	table_tuple_insert_speculative(keys->rel, slot, GetCurrentCommandId(true), 0,
								   NULL, token);
	for (int i = 0; i < keys->nindexes; i++)
	{
		if (keys->info[i])
			written &= index_insert(keys->indexes[i], slot->tts_values,
									slot->tts_isnull, &slot->tts_tid, keys->rel,
									UNIQUE_CHECK_PARTIAL, false,
									keys->info[i]);
	}
	table_tuple_complete_speculative(keys->rel, slot, token, written);
	SpeculativeInsertionLockRelease(xid);
	return written;
}

/*
 * Write the row of a message of this time, unless somebody has the key.  FREE: it is
 * written, and holder->tid is its place.  A row that is no later than since is replaced,
 * unless others have it locked.
 */
CmqKeyState
cmq_dedup_insert(CmqKeys *keys, Datum key, TimestampTz time, TimestampTz since,
				 CmqKeyHolder *holder)
{
	do
	{
		/* a duplicate writes nothing */
		CmqKeyState state = cmq_dedup_look(keys, key, since, holder);
		TM_FailureData tmfd;

		CHECK_FOR_INTERRUPTS();
		if (state == CMQ_KEY_TAKEN || state == CMQ_KEY_BUSY)
			return state;
		/* whoever is here at the same time finds it deleted, or busy */
		if (state == CMQ_KEY_OLD &&
			cmq_tuple_delete(keys->rel, &holder->tid, false,
							 &tmfd) == TM_BeingModified)
			return CMQ_KEY_BUSY;
	} while (!try_insert(keys, key, time));
	ItemPointerCopy(&keys->added->tts_tid, &holder->tid);
	return CMQ_KEY_FREE;
}

/* Take back a row that an earlier command of this transaction has written. */
void
cmq_dedup_remove(CmqKeys *keys, ItemPointer tid)
{
	TM_FailureData tmfd;

	if (cmq_tuple_delete(keys->rel, tid, false, &tmfd) != TM_Ok)
		elog(ERROR, "key in table \"%s\" was changed",
			 RelationGetRelationName(keys->rel));
}

/* Wait until the key that was busy does not depend on that transaction any more. */
void
cmq_dedup_wait(CmqKeys *keys, const CmqKeyHolder *holder)
{
	ItemPointerData tid = holder->tid;
	TM_FailureData tmfd;

	if (holder->token != 0)
		SpeculativeInsertionWait(holder->xid, holder->token);
	else if (TransactionIdIsValid(holder->xid))
		XactLockTableWait(holder->xid, keys->rel, &tid, XLTW_InsertIndex);
	else
		/* an old row, locked by hand, which would be deleted anyway */
		(void) cmq_tuple_delete(keys->rel, &tid, true, &tmfd);
}
