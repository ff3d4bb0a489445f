/*-------------------------------------------------------------------------
 *
 * cmq_group.c
 *	  Groups of messages: their hashes, and names as arguments.
 *
 * Rows say a group by a hash of its name.  The hash is in tables, and so in dumps: it is
 * the same on all machines and in all versions, and must never change.  Two names with
 * one hash are one group: more order than was asked for, never less.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "fmgr.h"

#include "base/cmq_group.h"

/* FNV-1a, with a finalizer that spreads short names over all bits. */
int64
cmq_group_hash(Datum name)
{
	text	   *t = DatumGetTextPP(name);
	const unsigned char *bytes = (const unsigned char *) VARDATA_ANY(t);
	uint64		hash = UINT64CONST(0xcbf29ce484222325);

	for (int i = 0; i < VARSIZE_ANY_EXHDR(t); i++)
		hash = (hash ^ bytes[i]) * UINT64CONST(0x100000001b3);
	hash ^= hash >> 33;
	hash *= UINT64CONST(0xff51afd7ed558ccd);
	hash ^= hash >> 33;
	return CMQ_GROUP_HASH((int64) hash);
}

/*
 * Raise 22023 for a name that is empty or too long, or a queue that has no groups; kind
 * and queue are for the message.
 */
void
cmq_group_check(Datum name, bool ordered, const char *kind, const char *queue)
{
	Size		size = toast_raw_datum_size(name) - VARHDRSZ;

	if (!ordered)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s \"%s\" has no groups", kind, queue),
				 errdetail("It was not created with ordered => true."),
				 errhint("Leave message_group out, or create an ordered queue.")));
	if (size == 0 || size > CMQ_GROUP_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("message_group must have 1 to %d bytes for %s \"%s\"",
						CMQ_GROUP_MAX, kind, queue),
				 errdetail("It has %zu bytes.", size)));
}
