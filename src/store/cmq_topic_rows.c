/*-------------------------------------------------------------------------
 *
 * cmq_topic_rows.c
 *	  Rows of cmq.topic and cmq.subscription, and the views of topics.
 *
 * A topic is a row of cmq.topic and a view cmq.t_<topic>, which lists its
 * subscriptions; GRANTs on the view are the rights on the topic: INSERT publishes,
 * SELECT subscribes.  A subscription is a row of cmq.subscription.
 *
 * A call that changes topics or subscriptions holds the lock on cmq.topic
 * (cmq_catalog_lock()), so that they come and go one after the other, and sends a
 * relcache invalidation for the view; cmq_publish.c caches topics by it.
 *
 * A topic whose view was dropped by hand is gone: no look-up finds it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "store/cmq_catalog.h"
#include "store/cmq_topic_rows.h"

/* Begin with all rows if topic is NULL, else with those of one. */
void
cmq_topic_rows_begin(CmqTopicRows *rows, const char *relname,
					 LOCKMODE lockmode, const char *topic)
{
	cmq_catalog_begin(&rows->cs, relname, lockmode, topic);
}

bool
cmq_topic_rows_next(CmqTopicRows *rows)
{
	rows->tuple = cmq_catalog_next(&rows->cs);
	if (!HeapTupleIsValid(rows->tuple))
		return false;
	heap_deform_tuple(rows->tuple, RelationGetDescr(rows->cs.rel), rows->values,
					  rows->isnull);
	return true;
}

char *
cmq_topic_rows_text(const CmqTopicRows *rows, int attnum)
{
	return TextDatumGetCString(rows->values[attnum - 1]);
}

void
cmq_topic_rows_delete(CmqTopicRows *rows)
{
	simple_table_tuple_delete(rows->cs.rel, &rows->tuple->t_self,
							  InvalidSnapshot);
}

/* The lock of a writer stays. */
void
cmq_topic_rows_end(CmqTopicRows *rows)
{
	cmq_catalog_end(&rows->cs);
}

void
cmq_topic_rows_insert(const char *relname, Datum *values, bool *isnull)
{
	Relation	rel = cmq_catalog_open(relname, RowExclusiveLock);

	cmq_catalog_store(rel, NULL, values, isnull);
	table_close(rel, NoLock);
}

/* The name of a topic's view, not quoted. */
char *
cmq_topic_view_name(const char *topic)
{
	return cmq_relname("t_", topic, "");
}

/* The view of a topic that has no row; InvalidOid if there is none that looks so. */
Oid
cmq_topic_find_orphan(const char *topic)
{
	Oid			relid = strlen(topic) > CMQ_QUEUE_NAME_MAX ? InvalidOid :
		cmq_relid(cmq_topic_view_name(topic));

	return OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_VIEW &&
		get_attnum(relid, "binding_keys") != InvalidAttrNumber ?
		relid : InvalidOid;
}

/* Raise 42704; says what the caller may have meant. */
void
cmq_topic_report_unknown(const char *topic)
{
	bool		orphan = OidIsValid(cmq_topic_find_orphan(topic));
	char	   *existing;
	bool		other_case = cmq_topic_find(topic, true, NULL, NULL, &existing) &&
		strcmp(existing, topic) != 0;

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("topic \"%s\" does not exist", topic),
			 orphan ?
			 errdetail("There is the view of such a topic, but table %s.topic has no row for it, as after a restore of the schema without the data.",
					   CMQ_SCHEMA) : 0,
			 orphan ?
			 errhint("Restore the data, or drop the view: SELECT cmq_drop_topic(%s);",
					 quote_literal_cstr(topic)) :
			 other_case ?
			 errhint("There is a topic \"%s\": case matters.", existing) :
			 errhint("The view cmq.topics lists the topics that you may use.")));
}

/*
 * Is this the view that the topic was made with, still there and under its name?
 * Another one that has taken the name carries no rights on the topic.
 */
bool
cmq_topic_has_view(const char *topic, Oid relid)
{
	return get_rel_name(relid) != NULL &&
		cmq_relid(cmq_topic_view_name(topic)) == relid;
}

/* Raise 55000 unless the topic has its view. */
void
cmq_topic_check_relation(const char *topic, Oid relid)
{
	if (!cmq_topic_has_view(topic, relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("topic \"%s\" is damaged", topic),
				 errdetail("Its view %s.%s was dropped or renamed.", CMQ_SCHEMA,
						   quote_identifier(cmq_topic_view_name(topic))),
				 errhint("Give the view its name back, or drop the topic as a superuser.")));
}

/* Raise 42501 unless the current user has the right on the topic of this view. */
void
cmq_topic_check_acl(const char *topic, Oid relid, AclMode mode)
{
	if (pg_class_aclcheck(relid, GetUserId(), mode) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for topic \"%s\"", topic),
				 errhint("The owner of the topic can GRANT %s ON %s TO you.",
						 mode == ACL_INSERT ? "INSERT" : "SELECT",
						 cmq_full_name(relid))));
}

/* Was the view of the topic of this row dropped?  Not if it was only renamed. */
bool
cmq_topic_row_is_gone(const CmqTopicRows *rows)
{
	return !SearchSysCacheExists1(RELOID,
								  rows->values[Anum_topic_relation - 1]);
}

/*
 * Is there a topic of this name, whose view has not been dropped?  Sets *relid to
 * the OID of its view, *routing if it routes by key.  With folded, a name that
 * differs only in case will do; *existing is set to it.  Each of these may be NULL.
 */
bool
cmq_topic_find(const char *topic, bool folded, Oid *relid, bool *routing,
			   char **existing)
{
	CmqTopicRows rows;
	bool		found = false;

	cmq_topic_rows_begin(&rows, "topic", AccessShareLock, folded ? NULL : topic);
	while (!found && cmq_topic_rows_next(&rows))
	{
		char	   *name = cmq_topic_rows_text(&rows, Anum_topic_name);

		if (pg_strcasecmp(name, topic) != 0 || cmq_topic_row_is_gone(&rows))
			continue;
		found = true;
		if (existing)
			*existing = name;
		if (relid)
			*relid = DatumGetObjectId(rows.values[Anum_topic_relation - 1]);
		if (routing)
			*routing = strcmp(cmq_topic_rows_text(&rows, Anum_topic_filter_type),
							  "routing") == 0;
	}
	cmq_topic_rows_end(&rows);
	return found;
}

/* Make other backends, and this one, read the topic again, whose rows were changed. */
void
cmq_topic_changed(const char *topic)
{
	Oid			relid;

	if (cmq_topic_find(topic, false, &relid, NULL, NULL) &&
		get_rel_name(relid) != NULL)
		CacheInvalidateRelcacheByRelid(relid);
	CommandCounterIncrement();
}

/* The owner of the topic of this view; InvalidOid if that was dropped. */
Oid
cmq_topic_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/*
 * Does the caller own the topic?  Of one whose view is gone, or has another name,
 * a superuser does.
 */
bool
cmq_topic_is_own(const char *topic, Oid relid)
{
	return cmq_topic_has_view(topic, relid) ?
		object_ownercheck(RelationRelationId, relid, GetUserId()) : superuser();
}

/* Is this row that of this subscription, to this queue?  Each may be NULL: any. */
bool
cmq_topic_row_is(const CmqTopicRows *rows, const char *name, const char *queue)
{
	return (name == NULL ||
			strcmp(cmq_topic_rows_text(rows, Anum_subscription_name), name) == 0) &&
		(queue == NULL ||
		 strcmp(cmq_topic_rows_text(rows, Anum_subscription_queue), queue) == 0);
}

/*
 * The queue of the first subscription of this topic, of this name, to this queue;
 * NULL stands for any.  NULL if there is none.
 */
char *
cmq_topic_find_subscription(const char *topic, const char *name,
							const char *queue)
{
	CmqTopicRows rows;
	char	   *found = NULL;

	cmq_topic_rows_begin(&rows, "subscription", AccessShareLock, topic);
	while (found == NULL && cmq_topic_rows_next(&rows))
	{
		if (cmq_topic_row_is(&rows, name, queue))
			found = cmq_topic_rows_text(&rows, Anum_subscription_queue);
	}
	cmq_topic_rows_end(&rows);
	return found;
}

/*
 * Delete all subscriptions of this topic, of this name, to this queue; NULL stands for
 * any.  The caller holds the lock on cmq.topic.
 */
void
cmq_topic_delete_subscriptions(const char *topic, const char *name,
							   const char *queue)
{
	CmqTopicRows rows;
	List	   *topics = NIL;
	ListCell   *lc;

	cmq_topic_rows_begin(&rows, "subscription", RowExclusiveLock, topic);
	while (cmq_topic_rows_next(&rows))
	{
		if (!cmq_topic_row_is(&rows, name, queue))
			continue;
		cmq_topic_rows_delete(&rows);
		topics = lappend(topics,
						 cmq_topic_rows_text(&rows, Anum_subscription_topic));
	}
	cmq_topic_rows_end(&rows);
	foreach(lc, topics)
		cmq_topic_changed(lfirst(lc));
}
