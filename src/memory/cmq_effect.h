/*-------------------------------------------------------------------------
 *
 * cmq_effect.h
 *	  What a transaction has done to a queue that others learn when it ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_EFFECT_H
#define CMQ_EFFECT_H

#include "memory/cmq_count.h"
#include "memory/cmq_types.h"

typedef struct CmqEffect
{
	CmqSharedKey key;			/* of the queue */
	int			wake_at_commit; /* how many waiters, cmq_wait.c */
	int			wake_at_abort;
	bool		changed;		/* waiters read the queue's row again */
	CmqGroupEvents groups;		/* which it has changed */
	CmqChanges	changes;
} CmqEffect;

extern void cmq_effect_wake(CmqEffect *effect, int at_commit, int at_abort);
extern void cmq_effect_merge(CmqEffect *effect, const CmqEffect *more);
extern void cmq_effect_committed(const CmqEffect *effect, CmqSharedQueue *shared,
								 TransactionId xid);
extern void cmq_effect_aborted(const CmqEffect *effect, CmqSharedQueue *shared);

#endif							/* CMQ_EFFECT_H */
