/*-------------------------------------------------------------------------
 *
 * cmq_stretch.h
 *	  Stretches of the pending table that a receive jumps over.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_STRETCH_H
#define CMQ_STRETCH_H

#include "access/transam.h"

#include "base/cmq_handle.h"
#include "memory/cmq_floor.h"
#include "memory/cmq_shared.h"
#include "store/cmq_description.h"

/*
 * A stretch of the pending table that a receive need not look at; see
 * cmq_stretch.c.
 */
typedef struct CmqStretch
{
	CmqPendingKey first;		/* both belong to it */
	CmqPendingKey last;
	FullTransactionId busy_with;	/* this one has them; invalid: they are dead ... */
	int			max_receive_count;	/* ... by this rule */
	int			max_time_to_live;
} CmqStretch;

#define CMQ_STRETCHES 16

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

extern void cmq_stretch_forget(CmqSharedQueue *shared);
extern void cmq_stretch_begin(CmqStretchScan *scan, CmqQueue *queue,
							  const CmqFloorScan *floor);
extern void cmq_stretch_stop(CmqStretchScan *scan);
extern bool cmq_stretch_jump(CmqStretchScan *scan, const CmqPendingKey *key,
							 CmqPendingKey *last);
extern void cmq_stretch_pass(CmqStretchScan *scan, const CmqPendingKey *key,
							 TransactionId busy_with);
extern void cmq_stretch_end(CmqStretchScan *scan, CmqQueue *queue,
							const CmqFloorScan *floor);

#endif							/* CMQ_STRETCH_H */
