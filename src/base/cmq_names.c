/*-------------------------------------------------------------------------
 *
 * cmq_names.c
 *	  Names of queues and of relations, and the relations that have them.
 *
 * A name is quoted and qualified wherever it becomes SQL text or is shown to be pasted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_names.h"

/* What the relations of a queue are called: prefix, name of the queue, suffix. */
static const struct
{
	const char *schema;
	const char *prefix;
	const char *suffix;
}			relations[] = {
	[CMQ_RIGHTS] = {CMQ_SCHEMA, "q_", ""},
	[CMQ_LIVE_VIEW] = {CMQ_SCHEMA, "q_", "_live"},
	[CMQ_HISTORY_VIEW] = {CMQ_SCHEMA, "q_", "_history"},
	[CMQ_ALL_VIEW] = {CMQ_SCHEMA, "q_", "_all"},
	[CMQ_READER_VIEW] = {CMQ_DATA_SCHEMA, "v_", ""},
	[CMQ_MESSAGES_TABLE] = {CMQ_DATA_SCHEMA, "q_", ""},
	[CMQ_PENDING_TABLE] = {CMQ_DATA_SCHEMA, "q_", "_pending"},
	[CMQ_REWIND_TABLE] = {CMQ_DATA_SCHEMA, "q_", "_rewind"},
	[CMQ_DEDUP_TABLE] = {CMQ_DATA_SCHEMA, "q_", "_dedup"},
	[CMQ_JOURNAL_TABLE] = {CMQ_DATA_SCHEMA, "j_", ""},
};

static Oid
find_relation(const char *schema_name, const char *relname)
{
	Oid			schema = get_namespace_oid(schema_name, true);

	return OidIsValid(schema) ? get_relname_relid(relname, schema) : InvalidOid;
}

/* OID of a relation in schema cmq, or InvalidOid. */
Oid
cmq_relid(const char *relname)
{
	return find_relation(CMQ_SCHEMA, relname);
}

/* OID of a relation in schema cmq_data, or InvalidOid. */
Oid
cmq_relid_of_data(const char *relname)
{
	return find_relation(CMQ_DATA_SCHEMA, relname);
}

/* Qualified name of one of our relations; raises 55000 if it is gone. */
const char *
cmq_full_name(Oid relid)
{
	char	   *relname = get_rel_name(relid);
	char	   *schema = get_namespace_name(get_rel_namespace(relid));

	if (relname == NULL || schema == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation with OID %u does not exist any more", relid),
				 errdetail("It has been dropped by hand.")));
	return quote_qualified_identifier(schema, relname);
}

/* The name of a relation of a queue, palloc'd, not quoted. */
char *
cmq_relname(const char *prefix, const char *name, const char *suffix)
{
	char	   *relname = psprintf("%s%s%s", prefix, name, suffix);

	Assert(strlen(relname) < NAMEDATALEN);
	return relname;
}

const char *
cmq_relation_schema(CmqRelation which)
{
	return relations[which].schema;
}

/* The name of a relation of the queue of this name, palloc'd, not quoted. */
char *
cmq_relation_name(CmqRelation which, const char *name)
{
	return cmq_relname(relations[which].prefix, name,
					   relations[which].suffix);
}

/* The same, quoted and qualified. */
const char *
cmq_relation_qualified(CmqRelation which, const char *name)
{
	return quote_qualified_identifier(relations[which].schema,
									  cmq_relation_name(which, name));
}

/* OID of a relation of the queue by its name, or InvalidOid. */
Oid
cmq_relation_oid(CmqRelation which, const char *name)
{
	return find_relation(relations[which].schema,
						 cmq_relation_name(which, name));
}

/*
 * OID of a function in schema cmq.  For plans: whoever reads a view needs no USAGE on the
 * schemas of what it is made of.
 */
Oid
cmq_function_oid(const char *name, int nargs, const Oid *types)
{
	Oid			funcid = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
										 CStringGetDatum(name),
										 PointerGetDatum(buildoidvector(types, nargs)),
										 ObjectIdGetDatum(get_namespace_oid(CMQ_SCHEMA,
																			false)));

	if (!OidIsValid(funcid))
		elog(ERROR, "function %s.%s does not exist", CMQ_SCHEMA, name);
	return funcid;
}

/* Raise 22023 unless this can be the name of a queue, a topic or a subscription. */
void
cmq_check_name(const char *name, const char *what)
{
	bool		ok = strlen(name) <= CMQ_QUEUE_NAME_MAX &&
		((name[0] >= 'A' && name[0] <= 'Z') ||
		 (name[0] >= 'a' && name[0] <= 'z'));

	for (const char *p = name; ok && *p; p++)
		ok = (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ||
			(*p >= '0' && *p <= '9') || *p == '_' || *p == '-';
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s name: \"%s\"", what, name),
				 errdetail("A %s name has 1 to %d letters, digits, hyphens and underscores, a letter first.",
						   what, CMQ_QUEUE_NAME_MAX)));
}

/*
 * Raise 42501 unless the caller may create relations of a queue or topic in this schema;
 * schemas, for the hint, are all that it needs.
 */
void
cmq_check_create(const char *schema, const char *what, const char *name,
				 const char *schemas)
{
	if (object_aclcheck(NamespaceRelationId, get_namespace_oid(schema, false),
						GetUserId(), ACL_CREATE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to create %s \"%s\"", what, name),
				 errhint("The administrator can GRANT USAGE, CREATE ON SCHEMA %s TO you.",
						 schemas)));
}
