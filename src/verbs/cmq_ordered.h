/*-------------------------------------------------------------------------
 *
 * cmq_ordered.h
 *	  Receive from an ordered queue: which groups to look at.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_ORDERED_H
#define CMQ_ORDERED_H

#include "verbs/cmq_candidates.h"
#include "verbs/cmq_take.h"

extern void cmq_ordered_take(CmqTake *take, CmqCandidates *scan, int max);
extern void cmq_ordered_end(CmqTake *take, CmqCandidates *scan);

#endif							/* CMQ_ORDERED_H */
