/*-------------------------------------------------------------------------
 *
 * cmq_lock.h
 *	  Locks that keep relations of a queue from all others, without holding up traffic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_LOCK_H
#define CMQ_LOCK_H

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

extern bool cmq_lock_to_look(Oid relid);
extern bool cmq_lock_in_mode_briefly(Oid relid, LOCKMODE mode);
extern bool cmq_lock_briefly(Oid relid);
extern bool cmq_lock_try(const char *name, const char *what,
						 void (*func) (const char *name, void *arg), void *arg);
extern bool cmq_lock_is_had(Oid relid, LOCKMODE lockmode);
extern void cmq_lock_alone(const char *name, Oid pending, List *relids,
						   const char *what);
extern void cmq_lock_check_not_in_use(const char *name, Oid pending,
									  const char *what);

#endif							/* CMQ_LOCK_H */
