/*-------------------------------------------------------------------------
 *
 * cmq_maintain.h
 *	  The steps of maintenance, and cmq_maintain().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_MAINTAIN_H
#define CMQ_MAINTAIN_H

#include "memory/cmq_types.h"
#include "worker/cmq_portion.h"

extern int	cmq_maintain_nsteps(CmqTurnKind kind);
extern CmqStepResult cmq_maintain_step(const char *name, CmqTurnKind kind,
									   int i, bool bounded);
extern void cmq_maintain_sweep(void);

#endif							/* CMQ_MAINTAIN_H */
