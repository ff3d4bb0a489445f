/*-------------------------------------------------------------------------
 *
 * cmq_catalog.h
 *	  The metadata tables, and the rows of cmq.queue and cmq.partition.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_CATALOG_H
#define CMQ_CATALOG_H

#include "access/genam.h"
#include "access/htup.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "store/cmq_description.h"

/* Columns of the metadata tables of topics and journals; cmq_catalog.c has those of queues. */
enum
{
	Anum_topic_name = 1,
	Anum_topic_filter_type,
	Anum_topic_create_time,
	Anum_topic_relation,
	Natts_topic = 4
};

enum
{
	Anum_subscription_topic = 1,
	Anum_subscription_name,
	Anum_subscription_queue,
	Anum_subscription_filter_tags,
	Anum_subscription_binding_keys,
	Anum_subscription_create_time,
	Natts_subscription = 6
};

enum
{
	Anum_journal_name = 1,
	Anum_journal_create_time,
	Anum_journal_messages,
	Anum_journal_made_in,
	Natts_journal_row = 4
};

enum
{
	Anum_receiver_queue = 1,
	Anum_receiver_journal,
	Anum_receiver_since,
	Anum_receiver_until,
	Natts_receiver = 4
};

typedef enum CmqRowLock
{
	CMQ_ROW_NONE,				/* there is no such row */
	CMQ_ROW_BUSY,
	CMQ_ROW_LOCKED
} CmqRowLock;

typedef struct CmqCatalogScan
{
	LOCKMODE	lockmode;
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
} CmqCatalogScan;

extern Relation cmq_catalog_open(const char *relname, LOCKMODE lockmode);
extern void cmq_catalog_begin(CmqCatalogScan *cs, const char *relname,
							  LOCKMODE lockmode, const char *name);
extern HeapTuple cmq_catalog_next(CmqCatalogScan *cs);
extern void cmq_catalog_end(CmqCatalogScan *cs);
extern void cmq_catalog_store(Relation rel, HeapTuple old, Datum *values,
							  bool *isnull);
extern void cmq_catalog_lock(const char *relname);
extern bool cmq_catalog_try_lock(const char *relname);
extern CmqRowLock cmq_catalog_lock_queue(CmqDescription *queue,
										 const char *name, LOCKMODE mode,
										 bool wait,
										 void (*check) (CmqDescription *queue));
extern bool cmq_catalog_is_free(void);
extern bool cmq_catalog_find_queue(CmqDescription *queue, const char *name);
extern bool cmq_catalog_load_leaves(CmqDescription *queue, const char **fact,
									const char **undo);
extern void cmq_catalog_load_leaf_rows(CmqDescription *queue);
extern void cmq_catalog_insert_queue(CmqQueue *queue);
extern void cmq_catalog_update_queue(CmqDescription *queue);
extern bool cmq_catalog_forget_leaves(const char *name);
extern void cmq_catalog_delete_queue(CmqQueue *queue);
extern void cmq_catalog_insert_leaf(CmqQueue *queue, TimestampTz lower,
									TimestampTz upper, Oid messages,
									Oid rewind, Oid dedup);
extern void cmq_catalog_delete_leaf(CmqQueue *queue, TimestampTz lower);
extern void cmq_catalog_set_keys(CmqQueue *queue, TimestampTz lower,
								 Oid dedup);
extern bool cmq_catalog_is_leaf(Oid relid, Oid parent);
extern bool cmq_catalog_name_taken(const char *name, char **existing);
extern bool cmq_catalog_is_gone(CmqQueue *queue);
extern bool cmq_catalog_carries_rights(Oid relid);
extern List *cmq_catalog_queue_names(void);
extern List *cmq_catalog_gone_queue_names(void);
extern List *cmq_catalog_dead_letter_sources(const char *name);

#endif							/* CMQ_CATALOG_H */
