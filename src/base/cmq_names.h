/*-------------------------------------------------------------------------
 *
 * cmq_names.h
 *	  Names of queues and of relations, and the relations that have them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_NAMES_H
#define CMQ_NAMES_H

#define CMQ_SCHEMA "cmq"		/* views, rights, metadata */
#define CMQ_DATA_SCHEMA "cmq_data"	/* tables of queues */

/* The relations that a queue is made of. */
typedef enum CmqRelation
{
	CMQ_RIGHTS,					/* holds nothing, carries the rights */
	CMQ_LIVE_VIEW,
	CMQ_HISTORY_VIEW,
	CMQ_ALL_VIEW,
	CMQ_READER_VIEW,			/* reads CMQ_RIGHTS as the reader */
	CMQ_MESSAGES_TABLE,
	CMQ_PENDING_TABLE,
	CMQ_REWIND_TABLE,
	CMQ_DEDUP_TABLE,			/* of queues with dedup_seconds alone */
	CMQ_JOURNAL_TABLE			/* of a topic */
} CmqRelation;

extern Oid	cmq_relid(const char *relname);
extern Oid	cmq_relid_of_data(const char *relname);
extern const char *cmq_full_name(Oid relid);
extern char *cmq_relname(const char *prefix, const char *name,
						 const char *suffix);
extern const char *cmq_relation_schema(CmqRelation which);
extern char *cmq_relation_name(CmqRelation which, const char *name);
extern const char *cmq_relation_qualified(CmqRelation which,
										  const char *name);
extern Oid	cmq_relation_oid(CmqRelation which, const char *name);
extern Oid	cmq_function_oid(const char *name, int nargs, const Oid *types);
extern void cmq_check_name(const char *name, const char *what);
extern void cmq_check_create(const char *schema, const char *what,
							 const char *name, const char *schemas);

#endif							/* CMQ_NAMES_H */
