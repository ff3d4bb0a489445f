/*-------------------------------------------------------------------------
 *
 * cmq_turn.h
 *	  The turns of queues in the worker's rounds: their order, and which are passed over.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_TURN_H
#define CMQ_TURN_H

#include "nodes/pg_list.h"

#include "base/cmq_uses.h"
#include "memory/cmq_types.h"
#include "store/cmq_description.h"

/* The order of turns: queues without strikes, then those with strikes. */
typedef struct CmqTurnOrder
{
	List	   *names[CMQ_NTURNS];
	List	   *struck[CMQ_NTURNS];
} CmqTurnOrder;

extern Size cmq_turn_shmem_size(void);
extern void cmq_turn_shmem_init(void);
extern int	cmq_turn_first_step(int n);
extern void cmq_turn_at_step(int step);
extern void cmq_turn_complete(void);
extern bool cmq_turn_begin(CmqQueue *queue, CmqTurnKind kind, Oid guest);
extern CmqUses *cmq_turn_uses(void);
extern void cmq_turn_end(bool ok);
extern void cmq_turn_order(List *names, CmqTurnOrder *order);

#endif							/* CMQ_TURN_H */
