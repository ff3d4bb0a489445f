/*-------------------------------------------------------------------------
 *
 * cmq_maintain.h
 *	  The steps of maintenance, and cmq_maintain().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_MAINTAIN_H
#define CMQ_MAINTAIN_H

#include "worker/cmq_portion.h"

extern const int cmq_maintain_nsteps;
extern const int cmq_maintain_nlong;

extern CmqStepResult cmq_maintain_step(const char *name, int step,
									   bool bounded);
extern void cmq_maintain_sweep(void);

#endif							/* CMQ_MAINTAIN_H */
