/*-------------------------------------------------------------------------
 *
 * cmq_compat.h
 *	  Differences between the PostgreSQL majors that cmq supports.
 *
 * The code is written against the newest server; older ones get the newer
 * spelling here.  Nothing else in src/ looks at PG_VERSION_NUM.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_COMPAT_H
#define CMQ_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "cmq needs PostgreSQL 15 or newer"
#endif

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#if PG_VERSION_NUM >= 160000
#include "parser/parse_relation.h"
#endif
#include "utils/acl.h"
#include "utils/relcache.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

/* 18 puts name and version of the module into the magic block */
#if PG_VERSION_NUM >= 180000
#define CMQ_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "cmq", .version = CMQ_VERSION)
#else
#define CMQ_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/*
 * 18 counts index searches in a structure of the caller's; 19 has flags for scans,
 * and a word of options for updates and deletes.
 */
#if PG_VERSION_NUM >= 190000
#define cmq_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0, 0)
#define cmq_primary_key(rel) RelationGetPrimaryKeyIndex(rel, false)
#define cmq_beginscan(rel, snapshot) table_beginscan(rel, snapshot, 0, NULL, 0)
#define cmq_tuple_update(rel, tid, slot, tmfd, lockmode, u) \
	table_tuple_update(rel, tid, slot, GetCurrentCommandId(true), 0, \
					   InvalidSnapshot, InvalidSnapshot, true, tmfd, \
					   lockmode, u)
#define cmq_tuple_delete(rel, tid, wait, tmfd) \
	table_tuple_delete(rel, tid, GetCurrentCommandId(true), 0, \
					   InvalidSnapshot, InvalidSnapshot, wait, tmfd)
#else
#define cmq_beginscan(rel, snapshot) table_beginscan(rel, snapshot, 0, NULL)
#define cmq_tuple_update(rel, tid, slot, tmfd, lockmode, u) \
	table_tuple_update(rel, tid, slot, GetCurrentCommandId(true), \
					   InvalidSnapshot, InvalidSnapshot, true, tmfd, \
					   lockmode, u)
#define cmq_tuple_delete(rel, tid, wait, tmfd) \
	table_tuple_delete(rel, tid, GetCurrentCommandId(true), \
					   InvalidSnapshot, InvalidSnapshot, wait, tmfd, false)
#endif
#if PG_VERSION_NUM >= 180000 && PG_VERSION_NUM < 190000
#define cmq_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#define cmq_primary_key(rel) RelationGetPrimaryKeyIndex(rel, false)
#elif PG_VERSION_NUM < 180000
#define cmq_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#define cmq_primary_key(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/*
 * A view that has been replaced by its query: 16 keeps its OID and the rights to check for
 * it in the entry of the query; before it is the first relation of the query.
 * cmq_add_permissions() gives a query the entry of another one, for the rights alone.
 */
#if PG_VERSION_NUM >= 160000
#define cmq_view_relid(rte) \
	((rte)->rtekind == RTE_SUBQUERY && (rte)->relkind == RELKIND_VIEW ? (rte)->relid : InvalidOid)
#define cmq_has_permissions(rte) ((rte)->perminfoindex != 0)

static inline void
cmq_add_permissions(Query *query, Query *from, RangeTblEntry *rte)
{
	RangeTblEntry *copy = makeNode(RangeTblEntry);

	memcpy(copy, rte, sizeof(RangeTblEntry));
	copy->rtekind = RTE_RELATION;
	copy->subquery = NULL;
	copy->security_barrier = copy->lateral = copy->inh = false;
	query->rteperminfos = lappend(query->rteperminfos,
								  getRTEPermissionInfo(from->rteperminfos, rte));
	copy->perminfoindex = list_length(query->rteperminfos);
	query->rtable = lappend(query->rtable, copy);
}
#else
static inline RangeTblEntry *
cmq_view_entry(Query *query)
{
	RangeTblEntry *rte = query->rtable == NIL ? NULL : linitial(query->rtable);

	return rte && rte->rtekind == RTE_RELATION &&
		rte->relkind == RELKIND_VIEW ? rte : NULL;
}

static inline Oid
cmq_view_relid(RangeTblEntry *rte)
{
	RangeTblEntry *view = rte->rtekind == RTE_SUBQUERY ?
		cmq_view_entry(rte->subquery) : NULL;

	return view ? view->relid : InvalidOid;
}

#define cmq_has_permissions(rte) \
	((rte)->rtekind == RTE_RELATION && (rte)->requiredPerms != 0)
#define cmq_add_permissions(query, from, rte) \
	((query)->rtable = lappend((query)->rtable, rte))
#endif

/* 19 tells the planner what EXPLAIN wants. */
#if PG_VERSION_NUM >= 190000
#define CMQ_PLANNER_PARAMS \
	Query *parse, const char *query_string, int cursorOptions, \
	ParamListInfo boundParams, ExplainState *es
#define CMQ_PLANNER_ARGS parse, query_string, cursorOptions, boundParams, es
#else
#define CMQ_PLANNER_PARAMS \
	Query *parse, const char *query_string, int cursorOptions, \
	ParamListInfo boundParams
#define CMQ_PLANNER_ARGS parse, query_string, cursorOptions, boundParams
#endif

/*
 * Index entries are made as for an insert, also after an update: the hint that
 * an index's columns did not change needs a range table, which we do not have,
 * and is not true of a primary key that did.
 *
 * 16 lets an update say that only summarizing indexes need new entries.
 */
#if PG_VERSION_NUM >= 190000
typedef TU_UpdateIndexes CmqUpdateIndexes;
#define cmq_needs_index_update(u) ((u) != TU_None)
#define cmq_insert_index_tuples(rri, slot, estate, u) \
	ExecInsertIndexTuples(rri, estate, \
						  (u) == TU_Summarizing ? EIIT_ONLY_SUMMARIZING : 0, \
						  slot, NIL, NULL)
#define CMQ_ALL_INDEXES TU_All
#elif PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes CmqUpdateIndexes;
#define cmq_needs_index_update(u) ((u) != TU_None)
#define cmq_insert_index_tuples(rri, slot, estate, u) \
	ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL, \
						  (u) == TU_Summarizing)
#define CMQ_ALL_INDEXES TU_All
#else
typedef bool CmqUpdateIndexes;
#define cmq_needs_index_update(u) (u)
#define cmq_insert_index_tuples(rri, slot, estate, u) \
	ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL)
#define CMQ_ALL_INDEXES true
#endif

/*
 * 15 declares walkers and mutators without their arguments, which C23, the default of
 * gcc 15, takes for none.
 */
#if PG_VERSION_NUM < 160000
#define expression_tree_walker(node, walker, context) \
	expression_tree_walker(node, (void *) (walker), context)
#define expression_tree_mutator(node, mutator, context) \
	expression_tree_mutator(node, (void *) (mutator), context)
#define query_tree_walker(query, walker, context, flags) \
	query_tree_walker(query, (void *) (walker), context, flags)
#endif

/* 16 has one ownership check for all kinds of objects */
#if PG_VERSION_NUM < 160000
#define object_ownercheck(classid, objectid, roleid) \
	pg_class_ownercheck(objectid, roleid)
#define object_aclcheck(classid, objectid, roleid, mode) \
	pg_namespace_aclcheck(objectid, roleid, mode)
#endif

/* The process of a virtual transaction, perhaps ended by now; or NULL */
#if PG_VERSION_NUM >= 170000
#define cmq_vxid_proc(vxid) ProcNumberGetProc((vxid).procNumber)
#else
#define cmq_vxid_proc(vxid) BackendIdGetProc((vxid).backendId)
#endif

/* 17 lets extensions name their wait events */
#if PG_VERSION_NUM >= 170000
static inline uint32
cmq_wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = WaitEventExtensionNew("CmqReceive");
	return event;
}
#else
#define cmq_wait_event() PG_WAIT_EXTENSION
#endif

/* of libpq/libpq.h, which needs header files that not every machine has */
extern bool pq_check_connection(void);

/* What a signal handler passes on to another one. */
#if PG_VERSION_NUM >= 190000
#define CMQ_PASS_SIGNAL_ARGS postgres_signal_arg, pg_siginfo
#else
#define CMQ_PASS_SIGNAL_ARGS postgres_signal_arg
#endif

/* 19 has a type for numbers of syscaches */
#if PG_VERSION_NUM >= 190000
#define CMQ_CACHE_ID SysCacheIdentifier
#else
#define CMQ_CACHE_ID int
#endif

/* 19 takes one number of elements of a shared hash table */
#if PG_VERSION_NUM >= 190000
#define cmq_shmem_init_hash(name, n, info, flags) \
	ShmemInitHash(name, n, info, flags)
#else
#define cmq_shmem_init_hash(name, n, info, flags) \
	ShmemInitHash(name, n, n, info, flags)
#endif

#endif							/* CMQ_COMPAT_H */
