/*-------------------------------------------------------------------------
 *
 * cmq_stretch.h
 *	  Stretches of the pending table that a receive jumps over.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_STRETCH_H
#define CMQ_STRETCH_H

#include "base/cmq_handle.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_types.h"

/* The rule by which messages are dead; no message is if both are 0. */
typedef struct CmqDeadRule
{
	int			max_receive_count;
	int			max_time_to_live;
	bool		(*stay) (const void *arg);	/* do they stay, whoever receives? */
	const void *arg;
} CmqDeadRule;

/* One scan's view of the stretches. */
typedef struct CmqStretchScan
{
	int			nknown;
	int			nfound;
	int			nrows;			/* of the run that were looked at; -1: no run */
	TransactionId busy_with;	/* of the run; invalid: dead */
	CmqPendingKey first;
	CmqPendingKey last;
	CmqStretch	known[CMQ_STRETCHES];
	CmqStretch	found[CMQ_STRETCHES];
} CmqStretchScan;

extern void cmq_stretch_begin(CmqStretchScan *scan, CmqSharedQueue *shared,
							  const CmqDeadRule *rule,
							  const CmqFloorScan *floor);
extern void cmq_stretch_stop(CmqStretchScan *scan);
extern bool cmq_stretch_jump(CmqStretchScan *scan, const CmqPendingKey *key,
							 CmqPendingKey *last);
extern void cmq_stretch_pass(CmqStretchScan *scan, const CmqPendingKey *key,
							 TransactionId busy_with);
extern void cmq_stretch_end(CmqStretchScan *scan, CmqSharedQueue *shared,
							const CmqDeadRule *rule, const CmqFloorScan *floor);

#endif							/* CMQ_STRETCH_H */
