/*-------------------------------------------------------------------------
 *
 * cmq_uses.h
 *	  Whose code has used how much time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_USES_H
#define CMQ_USES_H

#include "nodes/pg_list.h"
#include "portability/instr_time.h"
#include "utils/palloc.h"

/* How much time code of owners has used, see cmq_uses.c. */
typedef struct CmqUse
{
	Oid			owner;
	int64		time;			/* microseconds */
} CmqUse;

typedef struct CmqUses
{
	CmqUse	   *uses;
	int			n;
	int			allocated;
	Oid			host;			/* in whose name all is done */
	Oid			guest;			/* whose code runs now, or InvalidOid */
	int64		fair;			/* what does not count for the guest */
	instr_time	since;
} CmqUses;

extern void cmq_uses_init(CmqUses *uses, MemoryContext mcxt);
extern void cmq_uses_host(CmqUses *uses, Oid host);
extern void cmq_uses_guest(CmqUses *uses, Oid guest, Size size);
extern int64 cmq_uses_of(CmqUses *uses, Oid owner);
extern Oid	cmq_uses_most(CmqUses *uses, int64 least, List *except);

#endif							/* CMQ_USES_H */
