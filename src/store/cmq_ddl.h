/*-------------------------------------------------------------------------
 *
 * cmq_ddl.h
 *	  SQL text that cmq runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DDL_H
#define CMQ_DDL_H

extern void cmq_ddl_execute(const char *fmt,...) pg_attribute_printf(1, 2);
extern void cmq_ddl_revoke_all(Oid relid);
extern void cmq_ddl_refuse_truncate(const char *table, const char *name);

#endif							/* CMQ_DDL_H */
