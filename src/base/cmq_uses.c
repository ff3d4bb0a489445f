/*-------------------------------------------------------------------------
 *
 * cmq_uses.c
 *	  Whose code has used how much time.
 *
 * A host is the owner in whose name all is done; a guest is an owner into whose queue the
 * host's messages go.  The time that a guest's code needs for one message counts for the
 * host up to a fair time, and for the guest beyond.  So the number of messages counts for
 * the owner who moves them, and slow code for the owner who wrote it.
 *
 * Locks: none.  Abort: the time of a guest whose code was interrupted is counted at the
 * next call here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "portability/instr_time.h"

#include "base/cmq_uses.h"

/* What writing one message may take, and each kilobyte of it, in microseconds. */
#define FAIR_TIME 1000
#define FAIR_TIME_KB 20

/* Begin with nothing used; the memory context must outlive the struct. */
void
cmq_uses_init(CmqUses *uses, MemoryContext mcxt)
{
	memset(uses, 0, sizeof(*uses));
	uses->allocated = 8;
	uses->uses = MemoryContextAlloc(mcxt, uses->allocated * sizeof(CmqUse));
	INSTR_TIME_SET_CURRENT(uses->since);
}

static CmqUse *
find_use(const CmqUses *uses, Oid owner)
{
	for (int i = 0; i < uses->n; i++)
	{
		if (uses->uses[i].owner == owner)
			return &uses->uses[i];
	}
	return NULL;
}

static void
add(CmqUses *uses, Oid owner, int64 time)
{
	CmqUse	   *use = find_use(uses, owner);

	if (use == NULL)
	{
		if (uses->n == uses->allocated)
		{
			uses->allocated *= 2;
			uses->uses = repalloc(uses->uses, uses->allocated * sizeof(CmqUse));
		}
		use = &uses->uses[uses->n++];
		use->owner = owner;
		use->time = 0;
	}
	use->time += time;
}

/* Count the time until now; from now on no guest's code runs. */
static void
settle(CmqUses *uses)
{
	instr_time	now;
	instr_time	elapsed;
	int64		time;

	INSTR_TIME_SET_CURRENT(now);
	elapsed = now;
	INSTR_TIME_SUBTRACT(elapsed, uses->since);
	time = (int64) INSTR_TIME_GET_MICROSEC(elapsed);
	if (OidIsValid(uses->guest) && time > uses->fair)
	{
		add(uses, uses->guest, time - uses->fair);
		time = uses->fair;
	}
	add(uses, uses->host, time);
	uses->since = now;
	uses->guest = InvalidOid;
}

/* From now on all is done in the name of this owner; InvalidOid: in nobody's. */
void
cmq_uses_host(CmqUses *uses, Oid host)
{
	settle(uses);
	uses->host = host;
}

/*
 * From now on this guest's code may run, to write one message of that size;
 * InvalidOid: it has ended.  With uses NULL nothing is counted.
 */
void
cmq_uses_guest(CmqUses *uses, Oid guest, Size size)
{
	if (uses == NULL)
		return;
	settle(uses);
	uses->guest = guest;
	uses->fair = FAIR_TIME + (int64) (size / 1024) * FAIR_TIME_KB;
}

/* What the owner has used until now, in microseconds. */
int64
cmq_uses_of(CmqUses *uses, Oid owner)
{
	CmqUse	   *use;

	if (uses->host == owner || uses->guest == owner)
	{
		Oid			guest = uses->guest;

		settle(uses);
		uses->guest = guest;
	}
	use = find_use(uses, owner);
	return use ? use->time : 0;
}

/*
 * The guest that has used most, of those not in the list, if that is at least so many
 * microseconds; else InvalidOid.
 */
Oid
cmq_uses_most(CmqUses *uses, int64 least, List *except)
{
	Oid			most = InvalidOid;

	settle(uses);
	for (int i = 0; i < uses->n; i++)
	{
		CmqUse	   *use = &uses->uses[i];

		if (use->owner == uses->host || use->time < least ||
			list_member_oid(except, use->owner))
			continue;
		most = use->owner;
		least = use->time;
	}
	return most;
}
