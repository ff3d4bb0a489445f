/*
 * A function that keeps others from making a table or an index longer, until the
 * transaction ends.  Who writes the first row of a table stops in the midst of that.
 */
#include "postgres.h"

#include "access/relation.h"
#include "fmgr.h"
#include "storage/lmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(hold_extension);

Datum
hold_extension(PG_FUNCTION_ARGS)
{
	Relation	rel = relation_open(PG_GETARG_OID(0), AccessShareLock);

	LockRelationForExtension(rel, ExclusiveLock);
	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}
