/*-------------------------------------------------------------------------
 *
 * cmq_ddl.h
 *	  SQL text that cmq runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DDL_H
#define CMQ_DDL_H

/* What the columns of this name mean, in the views that a queue or a topic has. */
typedef struct CmqColumnComment
{
	const char *column;
	const char *comment;
} CmqColumnComment;

/* lz4 where the server has it: src/README has the figures */
#ifdef USE_LZ4
#define CMQ_COMPRESSION " COMPRESSION lz4"
#else
#define CMQ_COMPRESSION ""
#endif

extern void cmq_ddl_execute(const char *fmt,...) pg_attribute_printf(1, 2);
extern void cmq_ddl_revoke_all(Oid relid);
extern void cmq_ddl_comment_columns(Oid relid,
									const CmqColumnComment *comments);
extern void cmq_ddl_refuse_truncate(const char *table, const char *name);

#endif							/* CMQ_DDL_H */
