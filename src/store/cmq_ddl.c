/*-------------------------------------------------------------------------
 *
 * cmq_ddl.c
 *	  SQL text that cmq runs.
 *
 * It is DDL and ANALYZE, with every identifier quoted and qualified and with
 * search_path pinned; cmq_owner.c has one query of its own.  It runs as the caller
 * (create, drop) or as the queue's owner in a restricted security context (what
 * maintenance does to a queue's tables), never as somebody with more rights.
 *
 * A queue lives on one server: Citus, where it is there, does not hear of this DDL.  It
 * would want the views on all of its nodes, and refuses them on its workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_description.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/cmq_names.h"
#include "store/cmq_ddl.h"
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
 * Tell Citus not to carry DDL to other nodes, until the caller's cmq_owner_leave().
 * Without Citus the setting does not exist, and is not made.
 */
static void
keep_from_citus(void)
{
	const char *name = "citus.enable_ddl_propagation";

	if (GetConfigOption(name, true, false) != NULL)
		(void) set_config_option(name, "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Raise 42710 if the error in hand says that another transaction has taken the name of a
 * relation since the caller looked.  What PostgreSQL says then depends on the moment; one
 * of its codes, 23505, an application would take for an error of its own data.  The
 * context stays: it names the statement, a CREATE, and code of others that it has run.
 */
static void
report_name_taken(MemoryContext context, const char *sql)
{
	const char *relation = strchr(sql + strlen("CREATE "), ' ') + 1;
	ErrorData  *edata;

	if (strncmp(relation, "ON ", 3) == 0)
		relation += 3;			/* an index, whose name the server chooses */
	MemoryContextSwitchTo(context);
	edata = CopyErrorData();
	if (edata->sqlerrcode == ERRCODE_DUPLICATE_TABLE ||
		(edata->sqlerrcode == ERRCODE_UNIQUE_VIOLATION &&
		 edata->schema_name && strcmp(edata->schema_name, "pg_catalog") == 0 &&
		 edata->table_name && (strcmp(edata->table_name, "pg_class") == 0 ||
							   strcmp(edata->table_name, "pg_type") == 0)))
	{
		FlushErrorState();
		edata->sqlerrcode = ERRCODE_DUPLICATE_OBJECT;
		if (edata->detail == NULL)
			edata->detail = psprintf(_("PostgreSQL said: %s."), edata->message);
		edata->message = psprintf(_("another transaction has just taken a name that %.*s needs"),
								  (int) strcspn(relation, " ("), relation);
		edata->hint = pstrdup(_("Try again. If the name is still taken, the error then says by what."));
		ReThrowError(edata);
	}
	FreeErrorData(edata);
}

/*
 * Run one statement; the caller has called cmq_owner_enter().  As an owner it may run
 * the owner's code: making an index evaluates expressions, and so does ANALYZE.  Raises
 * 42710 if a relation of the name that it creates exists, and what the statement raises.
 */
void
cmq_ddl_execute(const char *fmt,...)
{
	MemoryContext context = CurrentMemoryContext;
	StringInfoData sql;
	int			needed;

	keep_from_citus();
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
	PG_TRY();
	{
		if (InSecurityRestrictedOperation())
			cmq_owner_call(GetUserId(), execute, sql.data);
		else
			execute(sql.data);
	}
	PG_CATCH();
	{
		/*
		 * what runs code of others, as ANALYZE does, may raise the same for
		 * its own
		 */
		if (strncmp(sql.data, "CREATE ", 7) == 0)
			report_name_taken(context, sql.data);
		PG_RE_THROW();
	}
	PG_END_TRY();
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
							cmq_full_name(relid),
							grantee == ACL_ID_PUBLIC ? "PUBLIC" :
							quote_identifier(GetUserNameFromId(grantee, false)));
	}
}

/*
 * Comment on each column of a view that has just been made, by its name; the last of the
 * comments has no column.  No SQL: 30 statements for each queue would take some
 * milliseconds.
 */
void
cmq_ddl_comment_columns(Oid relid, const CmqColumnComment *comments)
{
	Relation	rel = table_open(DescriptionRelationId, RowExclusiveLock);
	CatalogIndexState indexes = CatalogOpenIndexes(rel);
	char	   *column;

	for (AttrNumber i = 1; (column = get_attname(relid, i, true)) != NULL; i++)
	{
		const CmqColumnComment *found = comments;
		Datum		values[Natts_pg_description];
		bool		isnull[Natts_pg_description] = {false};

		while (found->column && strcmp(found->column, column) != 0)
			found++;
		if (found->column == NULL)
			elog(ERROR, "no comment for column \"%s\"", column);
		values[Anum_pg_description_objoid - 1] = ObjectIdGetDatum(relid);
		values[Anum_pg_description_classoid - 1] =
			ObjectIdGetDatum(RelationRelationId);
		values[Anum_pg_description_objsubid - 1] = Int32GetDatum(i);
		values[Anum_pg_description_description - 1] =
			CStringGetTextDatum(found->comment);
		CatalogTupleInsertWithInfo(rel, heap_form_tuple(RelationGetDescr(rel),
														values, isnull),
								   indexes);
	}
	CatalogCloseIndexes(indexes);
	table_close(rel, RowExclusiveLock);
}

/*
 * TRUNCATE takes a message's body, its delivery state or its history away and leaves
 * the rest: it is refused, whatever table it names.  A restore or a subscription, with
 * triggers disabled or session_replication_role = replica, is not refused: what it does
 * to all tables is right in the end, and cmq_changes.c's triggers notice it.
 */
void
cmq_ddl_refuse_truncate(const char *table, const char *name)
{
	cmq_ddl_execute("CREATE TRIGGER cmq_no_truncate BEFORE TRUNCATE ON %s "
					"FOR EACH STATEMENT EXECUTE FUNCTION cmq._no_truncate(%s)",
					table, quote_literal_cstr(name));
}
