/*-------------------------------------------------------------------------
 *
 * cmq_laggards.h
 *	  Groups of an ordered queue that are blocked, and where others begin.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_LAGGARDS_H
#define CMQ_LAGGARDS_H

#include "memory/cmq_floor.h"
#include "memory/cmq_types.h"

extern void cmq_laggards_copy(CmqLaggards *to, const CmqLaggards *from);
extern void cmq_laggards_read(CmqSharedQueue *shared, CmqMarkKind kind,
							  const CmqFloorScan *scan, CmqLaggards *laggards);
extern void cmq_laggards_install(CmqSharedQueue *shared, CmqMarkKind kind,
								 const CmqFloorScan *scan, CmqLaggards *laggards);
extern bool cmq_laggards_is_blocked(CmqSharedQueue *shared,
									const CmqLaggard *laggard, TimestampTz now);
extern int	cmq_laggards_look_ahead(CmqSharedQueue *shared);
extern void cmq_laggards_set_look_ahead(CmqSharedQueue *shared, int n);
extern int64 cmq_laggards_hop(CmqSharedQueue *shared, CmqHopKind kind);
extern void cmq_laggards_set_hop(CmqSharedQueue *shared, CmqHopKind kind,
								 int64 group);

#endif							/* CMQ_LAGGARDS_H */
