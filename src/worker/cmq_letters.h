/*-------------------------------------------------------------------------
 *
 * cmq_letters.h
 *	  Maintenance moves dead letters, also when nobody receives.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_LETTERS_H
#define CMQ_LETTERS_H

#include "store/cmq_description.h"
#include "worker/cmq_portion.h"

extern CmqStepResult cmq_letters_sweep(CmqQueue *queue,
									   const CmqPortion *portion);
extern void cmq_letters_sweep_stranger(CmqQueue *queue, int limit);

#endif							/* CMQ_LETTERS_H */
