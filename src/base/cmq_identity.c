/*-------------------------------------------------------------------------
 *
 * cmq_identity.c
 *	  Names of this database and of its transactions that fit nothing elsewhere.
 *
 * They are hashes with the cluster's system identifier, so that what a dump or a
 * subscription brings from another cluster is never taken for our own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "base/cmq_identity.h"

PG_FUNCTION_INFO_V1(cmq_here);

/* The name of this database, among those of all servers. */
int64
cmq_identity_database(void)
{
	uint64		key[2] = {GetSystemIdentifier(), MyDatabaseId};

	return (int64) hash_bytes_extended((unsigned char *) key, sizeof(key), 1);
}

Datum
cmq_here(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(cmq_identity_database());
}

/* The full id of a transaction that is in progress. */
FullTransactionId
cmq_identity_widen(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return FullTransactionIdFromEpochAndXid(epoch, xid);
}

/* The name of a transaction in deleted_xact and rewind_concurrent. */
int64
cmq_identity_xact(FullTransactionId fxid)
{
	uint64		key[2] = {GetSystemIdentifier(), U64FromFullTransactionId(fxid)};

	return (int64) hash_bytes_extended((unsigned char *) key, sizeof(key), 0);
}
