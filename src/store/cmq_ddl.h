/*-------------------------------------------------------------------------
 *
 * cmq_ddl.h
 *	  Create and alter queues; cmq_drop.c drops them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DDL_H
#define CMQ_DDL_H

#include "store/cmq_description.h"

extern void cmq_ddl_execute(const char *fmt,...) pg_attribute_printf(1, 2);
extern void cmq_ddl_revoke_all(Oid relid);
extern void cmq_ddl_refuse_truncate(const char *table, const char *name);
extern void cmq_ddl_lock_creation(void);
extern void cmq_ddl_check_not_in_use(CmqQueue *queue, const char *what);

#endif							/* CMQ_DDL_H */
