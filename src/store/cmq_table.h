/*-------------------------------------------------------------------------
 *
 * cmq_table.h
 *	  Reads and writes of queue tables through the table and index access
 *	  methods.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_TABLE_H
#define CMQ_TABLE_H

#include "access/genam.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "access/tableam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "storage/buf.h"
#include "storage/itemptr.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"

#include "base/cmq_handle.h"
#include "store/cmq_description.h"
#include "store/cmq_shape.h"

/* About the size of a pending or rewind row, for cmq_table_insert(). */
#define CMQ_NARROW_ROW_SIZE 64

/* An open queue table, ready for reads by primary key and for writes. */
typedef struct CmqTable
{
	CmqTableKind kind;
	int			natts;			/* our columns */
	LOCKMODE	lockmode;
	Relation	rel;
	Relation	pk;				/* NULL until the first scan */
	EState	   *estate;			/* NULL: not for inserts and updates */
	ResultRelInfo *result;		/* with all indexes open; NULL as above */
	ResultRelInfo *constraints; /* for those that somebody has added, or NULL */
	bool		has_code;		/* an index or constraint runs code of the
								 * owner's */
	SnapshotData snapshot;		/* a dirty one */
	Snapshot	seen_by;		/* scans show what this one sees; NULL: the
								 * dirty one */
	Buffer		vmbuf;			/* of the visibility map, for
								 * cmq_table_next_key() */
	IndexScanDesc scan;
	Relation	extra;			/* see cmq_table_find_by(); NULL: not needed
								 * yet, or there is none */
	bool		no_extra;		/* there is none */
	IndexScanDesc extra_scan;
	Relation	group_index;	/* NULL: not needed yet */
	IndexScanDesc group_scan;
	SnapshotData group_snapshot;
	TupleTableSlot *group_slot; /* the row that cmq_group_scan_next() stopped
								 * at */
	bool		foreign;		/* another transaction has added that ... */
	bool		group_busy;		/* ... or is deleting it */
	TupleTableSlot *slot;		/* the row that find or next stopped at */
	bool		busy;			/* another transaction is deleting it right
								 * now */
	TransactionId busy_with;	/* this transaction is */
	ScanKeyData after[2];		/* see cmq_table_after() */
	TupleTableSlot **newslots;	/* rows to insert, kept back */
	TupleDesc	newdesc;		/* of most of them; NULL: not made yet */
	int			nslots;			/* slots made */
	int			nnew;			/* rows in them */
	Size		new_size;		/* bytes in these */
} CmqTable;

extern bool cmq_table_open(CmqTable *table, EState *estate,
						   CmqQueue *queue, Oid relid,
						   CmqTableKind kind, LOCKMODE lockmode);
extern Relation cmq_table_open_heap(CmqQueue *queue, Oid relid,
									CmqTableKind kind);
extern void cmq_table_close(CmqTable *table);
extern void cmq_table_release(CmqTable *table);
extern bool cmq_table_insert(CmqTable *table, Datum *values, bool *isnull,
							 Size size);
extern int	cmq_table_flush(CmqTable *table);
extern TM_Result cmq_table_update(CmqTable *table, Datum *values,
								  bool *isnull, ItemPointer tid);
extern TM_Result cmq_table_delete(CmqTable *table, bool wait);
extern bool cmq_table_find(CmqTable *table, TimestampTz key1,
						   TimestampTz key2);
extern bool cmq_table_has_index_on(CmqTable *table, AttrNumber attno);
extern bool cmq_table_find_by(CmqTable *table, TimestampTz value);
extern bool cmq_table_fetch(CmqTable *table, ItemPointer tid);
extern void cmq_table_range(CmqTable *table, TimestampTz from,
							TimestampTz until, bool include_until);
extern void cmq_table_after(CmqTable *table, const CmqPendingKey *key,
							TimestampTz until);
extern void cmq_table_behind(CmqTable *table, const CmqPendingKey *key,
							 TimestampTz limit, ScanDirection direction);
extern bool cmq_table_next(CmqTable *table);
extern bool cmq_table_next_key(CmqTable *table, TimestampTz *key1,
							   TimestampTz *key2);
extern bool cmq_table_next_entry(CmqTable *table, ScanDirection direction,
								 CmqPendingKey *key);
extern bool cmq_table_sees_entry(CmqTable *table);
extern TimestampTz cmq_table_newest(CmqTable *table);
extern TimestampTz cmq_table_oldest(CmqTable *table);
extern void cmq_slot_topic(TupleTableSlot *slot, AttrNumber attno, char *topic);
extern Datum cmq_slot_body(TupleTableSlot *slot);
extern bool cmq_slot_headers_contain(TupleTableSlot *slot, Datum filter);
extern TimestampTz cmq_slot_first_received(TupleTableSlot *slot);
extern TimestampTz cmq_slot_ready_first(TupleTableSlot *slot);
extern TimestampTz cmq_slot_ready_since(TupleTableSlot *slot);

/* A timestamptz column of the row; DT_NOBEGIN for NULL. */
static inline TimestampTz
cmq_slot_time(TupleTableSlot *slot, AttrNumber attno)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attno, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

/* An int column of the row; 0 for NULL. */
static inline int32
cmq_slot_int(TupleTableSlot *slot, AttrNumber attno)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attno, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

/* A bigint column of the row; 0 for NULL. */
static inline int64
cmq_slot_int64(TupleTableSlot *slot, AttrNumber attno)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attno, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/* A column that the tables of ordered queues alone have; NULL in others. */
static inline Datum
cmq_slot_of_ordered(TupleTableSlot *slot, AttrNumber attno, bool *isnull)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;

	/* what somebody has added to another queue's table, and dropped, stays */
	*isnull = desc->natts < attno || TupleDescAttr(desc, attno - 1)->attisdropped;
	return *isnull ? (Datum) 0 : slot_getattr(slot, attno, isnull);
}

/*
 * A column by which ordered queues know the group of a row; false if it has no group, or
 * the queue has none.
 */
static inline bool
cmq_slot_group(TupleTableSlot *slot, AttrNumber attno, int64 *key)
{
	bool		isnull;
	Datum		value = cmq_slot_of_ordered(slot, attno, &isnull);

	if (!isnull)
		*key = DatumGetInt64(value);
	return !isnull;
}

/* The name of the group of the message in the slot. */
static inline Datum
cmq_slot_group_name(TupleTableSlot *slot, bool *isnull)
{
	return cmq_slot_of_ordered(slot, Anum_messages_message_group, isnull);
}

/* The key of a pending row. */
static inline void
cmq_slot_key(TupleTableSlot *slot, CmqPendingKey *key)
{
	key->visible_at = cmq_slot_time(slot, Anum_pending_visible_at);
	key->enqueued_at = cmq_slot_time(slot, Anum_pending_enqueued_at);
}

#endif							/* CMQ_TABLE_H */
