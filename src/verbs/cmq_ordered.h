/*-------------------------------------------------------------------------
 *
 * cmq_ordered.h
 *	  Receive from an ordered queue: which groups to look at.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_ORDERED_H
#define CMQ_ORDERED_H

#include "executor/tuptable.h"

#include "store/cmq_find.h"
#include "store/cmq_table.h"
#include "verbs/cmq_candidates.h"
#include "verbs/cmq_take.h"

typedef struct CmqOrderedChoice CmqOrderedChoice;

extern void cmq_ordered_take(CmqTake *take, CmqCandidates *scan, int max);
extern void cmq_ordered_end(CmqTake *take, CmqCandidates *scan);
extern CmqOrderedChoice *cmq_ordered_choose_begin(CmqTake *take, const CmqFind *find);
extern bool cmq_ordered_choose(CmqOrderedChoice *choice, CmqTable *table);
extern void cmq_ordered_choose_end(CmqOrderedChoice *choice);

#endif							/* CMQ_ORDERED_H */
