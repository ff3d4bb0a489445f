/*-------------------------------------------------------------------------
 *
 * cmq_topic_rows.h
 *	  Rows of cmq.topic and cmq.subscription, and the views of topics.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_TOPIC_ROWS_H
#define CMQ_TOPIC_ROWS_H

#include "nodes/parsenodes.h"

#include "store/cmq_catalog.h"

/* A scan of rows of cmq.topic or of cmq.subscription. */
typedef struct CmqTopicRows
{
	CmqCatalogScan cs;
	HeapTuple	tuple;
	Datum		values[Natts_subscription]; /* the more of both */
	bool		isnull[Natts_subscription];
} CmqTopicRows;

StaticAssertDecl((int) Natts_topic <= (int) Natts_subscription,
				 "columns of cmq.topic");

extern void cmq_topic_rows_begin(CmqTopicRows *rows, const char *relname,
								 LOCKMODE lockmode, const char *topic);
extern bool cmq_topic_rows_next(CmqTopicRows *rows);
extern char *cmq_topic_rows_text(const CmqTopicRows *rows, int attnum);
extern void cmq_topic_rows_delete(CmqTopicRows *rows);
extern void cmq_topic_rows_end(CmqTopicRows *rows);
extern void cmq_topic_rows_insert(const char *relname, Datum *values,
								  bool *isnull);
extern char *cmq_topic_view_name(const char *topic);
extern Oid	cmq_topic_find_orphan(const char *topic);
extern void cmq_topic_report_unknown(const char *topic);
extern bool cmq_topic_has_view(const char *topic, Oid relid);
extern void cmq_topic_check_relation(const char *topic, Oid relid);
extern void cmq_topic_check_acl(const char *topic, Oid relid, AclMode mode);
extern bool cmq_topic_row_is_gone(const CmqTopicRows *rows);
extern bool cmq_topic_find(const char *topic, bool folded, Oid *relid,
						   bool *routing, char **existing);
extern void cmq_topic_changed(const char *topic);
extern Oid	cmq_topic_owner(Oid relid);
extern bool cmq_topic_is_own(const char *topic, Oid relid);
extern bool cmq_topic_row_is(const CmqTopicRows *rows, const char *name,
							 const char *queue);
extern char *cmq_topic_find_subscription(const char *topic, const char *name,
										 const char *queue);
extern void cmq_topic_delete_subscriptions(const char *topic, const char *name,
										   const char *queue);

#endif							/* CMQ_TOPIC_ROWS_H */
