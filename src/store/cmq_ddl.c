/*-------------------------------------------------------------------------
 *
 * cmq_ddl.c
 *	  Create and alter queues; cmq_drop.c drops them.
 *
 * The only SQL text that cmq runs is here, in cmq_topic.c, cmq_leaf.c,
 * cmq_maintain.c: DDL, with every identifier quoted and qualified and with
 * search_path pinned; and one query in cmq_owner.c.  It runs as the caller (create,
 * drop) or as the queue's owner in a restricted security context (what maintenance
 * does to a queue's tables), never as somebody with more rights.
 *
 * Creating queues is serialized per database by an object lock on cmq.queue,
 * so that the name check cannot be overtaken.  Alter holds the queue lock;
 * switching rewind on or off also locks the pending table against traffic, so
 * that each delete sees either the old setting and commits before, or the new
 * one.  Switching it off touches no message (cmq_forget.c).  Everything is undone by
 * a rollback like any other DDL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/cmq_names.h"
#include "store/cmq_ddl.h"
#include "store/cmq_description.h"
#include "store/cmq_owner.h"

static void
execute(void *arg)
{
	const char *sql = arg;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", sql);
	SPI_finish();
}

/*
 * Run one statement; the caller has called cmq_owner_enter(), and as an owner it may
 * run that one's code: making an index evaluates expressions, ANALYZE too.
 */
void
cmq_ddl_execute(const char *fmt,...)
{
	StringInfoData sql;
	int			needed;

	initStringInfo(&sql);
	for (;;)
	{
		va_list		args;

		va_start(args, fmt);
		needed = appendStringInfoVA(&sql, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&sql, needed);
	}
	if (InSecurityRestrictedOperation())
		cmq_owner_call(GetUserId(), execute, sql.data);
	else
		execute(sql.data);
	pfree(sql.data);
}

/*
 * Take away what default privileges have given to others on a table that has
 * just been made.  The caller has called cmq_owner_enter().
 */
void
cmq_ddl_revoke_all(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;
	Datum		value;
	bool		isnull;
	Acl		   *acl = NULL;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	value = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &isnull);
	if (!isnull)
		acl = DatumGetAclPCopy(value);
	ReleaseSysCache(tuple);
	for (int i = 0; acl && i < ACL_NUM(acl); i++)
	{
		Oid			grantee = ACL_DAT(acl)[i].ai_grantee;

		if (grantee != owner)
			cmq_ddl_execute("REVOKE ALL ON TABLE %s FROM %s CASCADE",
							cmq_catalog_relname(relid),
							grantee == ACL_ID_PUBLIC ? "PUBLIC" :
							quote_identifier(GetUserNameFromId(grantee, false)));
	}
}

/*
 * TRUNCATE takes a message's body, its delivery state or its history away and leaves
 * the rest: it is refused, whatever table it names.  Not to who restores or replicates,
 * with session_replication_role = replica or triggers disabled: what they do to all
 * tables is right in the end, and cmq_changes.c's triggers notice it.
 */
void
cmq_ddl_refuse_truncate(const char *table, const char *name)
{
	cmq_ddl_execute("CREATE TRIGGER cmq_no_truncate BEFORE TRUNCATE ON %s "
					"FOR EACH STATEMENT EXECUTE FUNCTION cmq._no_truncate(%s)",
					table, quote_literal_cstr(name));
}

/* Nobody else creates a queue until the end of the transaction. */
void
cmq_ddl_lock_creation(void)
{
	LockDatabaseObject(RelationRelationId, cmq_catalog_relid("queue"), 0,
					   ExclusiveLock);
}

/*
 * Raise 55006 if the session is in the midst of a call on the queue, or has a
 * query open that reads its pending messages: what that relies on is about to
 * change.  The caller has the pending table locked against all others.
 */
void
cmq_ddl_check_not_in_use(CmqQueue *queue, const char *what)
{
	Relation	rel = try_relation_open(queue->pending, NoLock);

	if (rel == NULL)
		return;
	if (rel->rd_refcnt != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot %s queue \"%s\" because it is being used in this session",
						what, queue->name),
				 errdetail("A call or a query on the queue has not ended yet.")));
	relation_close(rel, NoLock);
}

