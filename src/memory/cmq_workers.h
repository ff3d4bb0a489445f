/*-------------------------------------------------------------------------
 *
 * cmq_workers.h
 *	  Starting workers, and the places that those of senders may take.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_WORKERS_H
#define CMQ_WORKERS_H

#include "postmaster/bgworker.h"

/* What a worker is told, in bgw_extra. */
typedef struct CmqWorkerTask
{
	Oid			database;
	int			visit;			/* its place among the launcher's, or -1 */
	char		queue[NAMEDATALEN]; /* "" for a maintenance round */
	int			lock_timeout;	/* milliseconds, for the queue's worker */
} CmqWorkerTask;

StaticAssertDecl(sizeof(CmqWorkerTask) <= BGW_EXTRALEN,
				 "CmqWorkerTask does not fit into bgw_extra");

extern void cmq_workers_fill(BackgroundWorker *worker, const char *function,
							 const char *type);
extern int	cmq_workers_places(void);
extern Size cmq_workers_shmem_size(void);
extern void cmq_workers_shmem_init(void);
extern BackgroundWorkerHandle *cmq_workers_start(Oid database,
												 const char *queue, int visit,
												 int lock_timeout);
extern bool cmq_workers_run_for(const char *name, Oid owner);

#endif							/* CMQ_WORKERS_H */
