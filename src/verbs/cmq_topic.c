/*-------------------------------------------------------------------------
 *
 * cmq_topic.c
 *	  Topics: create, drop, subscribe, unsubscribe.
 *
 * A topic is a row of cmq.topic and a view cmq.t_<topic>, which lists its
 * subscriptions; GRANTs on the view are the rights on the topic: INSERT
 * publishes, SELECT subscribes.  A subscription is a row of cmq.subscription.  It
 * is made by the owner of its queue, so whoever may publish needs no right on
 * the queues behind the topic.  Dropping a queue removes its subscriptions.
 *
 * Everything here holds an object lock on cmq.topic, so that topics and
 * subscriptions come and go one after the other.  Who subscribes a queue of its own, or
 * unsubscribes it, holds the queue lock in Share mode before that, as a drop does its
 * own: so a drop is kept away, and making a subscription anew deadlocks with none.
 * Changes send a relcache invalidation for the view; cmq_publish.c caches
 * topics by it.
 *
 * A topic whose view was dropped by hand is gone: no look-up finds it, and its row and
 * subscriptions are removed by who creates a topic of that name, or by maintenance.
 * A subscription of a queue that is gone is removed with the queue (cmq_gone.c), or
 * before by who subscribes to the topic, who may want its name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "memory/cmq_shared.h"
#include "store/cmq_catalog.h"
#include "store/cmq_ddl.h"
#include "store/cmq_description.h"
#include "store/cmq_load.h"
#include "store/cmq_owner.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "verbs/cmq_filter.h"
#include "verbs/cmq_topic.h"

PG_FUNCTION_INFO_V1(cmq_create_topic);
PG_FUNCTION_INFO_V1(cmq_drop_topic);
PG_FUNCTION_INFO_V1(cmq_subscribe);
PG_FUNCTION_INFO_V1(cmq_unsubscribe);

/* A scan of rows of cmq.topic or of cmq.subscription. */
typedef struct Rows
{
	CmqCatalogScan cs;
	LOCKMODE	lockmode;
	HeapTuple	tuple;
	Datum		values[Natts_subscription]; /* the more of both */
	bool		isnull[Natts_subscription];
} Rows;

StaticAssertDecl((int) Natts_topic <= (int) Natts_subscription,
				 "columns of cmq.topic");

/* Begin with all rows if topic is NULL, else with those of one. */
static void
begin_rows(Rows *rows, const char *relname, LOCKMODE lockmode,
		   const char *topic)
{
	rows->lockmode = lockmode;
	cmq_catalog_begin(&rows->cs, cmq_catalog_open(relname, lockmode), topic);
}

static bool
next_row(Rows *rows)
{
	rows->tuple = cmq_catalog_next(&rows->cs);
	if (!HeapTupleIsValid(rows->tuple))
		return false;
	heap_deform_tuple(rows->tuple, RelationGetDescr(rows->cs.rel), rows->values,
					  rows->isnull);
	return true;
}

static char *
row_text(const Rows *rows, int attnum)
{
	return TextDatumGetCString(rows->values[attnum - 1]);
}

static void
delete_row(Rows *rows)
{
	simple_table_tuple_delete(rows->cs.rel, &rows->tuple->t_self,
							  InvalidSnapshot);
}

/* The lock of a writer stays. */
static void
end_rows(Rows *rows)
{
	cmq_catalog_end(&rows->cs);
	table_close(rows->cs.rel,
				rows->lockmode == AccessShareLock ? AccessShareLock : NoLock);
}

static void
insert_row(const char *relname, Datum *values, bool *isnull)
{
	Relation	rel = cmq_catalog_open(relname, RowExclusiveLock);

	cmq_catalog_store(rel, NULL, values, isnull);
	table_close(rel, NoLock);
}

/*
 * Topics
 */

/* The name of a topic's view, not quoted. */
static char *
view_name(const char *topic)
{
	return cmq_ddl_relname("t_", topic, "");
}

/* The view of a topic that has no row; InvalidOid if there is none that looks so. */
static Oid
find_orphan(const char *topic)
{
	Oid			relid = strlen(topic) > CMQ_QUEUE_NAME_MAX ? InvalidOid :
		cmq_catalog_relid(view_name(topic));

	return OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_VIEW &&
		get_attnum(relid, "binding_keys") != InvalidAttrNumber ?
		relid : InvalidOid;
}

void
cmq_topic_report_unknown(const char *topic)
{
	bool		orphan = OidIsValid(find_orphan(topic));
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
static bool
has_view(const char *topic, Oid relid)
{
	return get_rel_name(relid) != NULL &&
		cmq_catalog_relid(view_name(topic)) == relid;
}

/* Raise 55000 unless it is. */
void
cmq_topic_check_relation(const char *topic, Oid relid)
{
	if (!has_view(topic, relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("topic \"%s\" is damaged", topic),
				 errdetail("Its view %s.%s was dropped or renamed.", CMQ_SCHEMA,
						   quote_identifier(view_name(topic))),
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
						 cmq_catalog_relname(relid))));
}

/* Was the view of the topic of this row dropped?  One of another name is there. */
static bool
is_gone(const Rows *rows)
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
	Rows		rows;
	bool		found = false;

	begin_rows(&rows, "topic", AccessShareLock, folded ? NULL : topic);
	while (!found && next_row(&rows))
	{
		char	   *name = row_text(&rows, Anum_topic_name);

		if (pg_strcasecmp(name, topic) != 0 || is_gone(&rows))
			continue;
		found = true;
		if (existing)
			*existing = name;
		if (relid)
			*relid = DatumGetObjectId(rows.values[Anum_topic_relation - 1]);
		if (routing)
			*routing = strcmp(row_text(&rows, Anum_topic_filter_type),
							  "routing") == 0;
	}
	end_rows(&rows);
	return found;
}

/* Make other backends, and this one, read the topic again. */
static void
topic_changed(const char *topic)
{
	Oid			relid;

	if (cmq_topic_find(topic, false, &relid, NULL, NULL) &&
		get_rel_name(relid) != NULL)
		CacheInvalidateRelcacheByRelid(relid);
	CommandCounterIncrement();
}

/*
 * The names of topics that are gone: of this one, but for case, or of all if it is
 * NULL.
 */
static List *
list_gone(const char *topic)
{
	Rows		rows;
	List	   *names = NIL;

	begin_rows(&rows, "topic", AccessShareLock, NULL);
	while (next_row(&rows))
	{
		char	   *name = row_text(&rows, Anum_topic_name);

		if (is_gone(&rows) && (topic == NULL || pg_strcasecmp(name, topic) == 0))
			names = lappend(names, name);
	}
	end_rows(&rows);
	return names;
}

/* Delete the row of a topic. */
static void
delete_topic(const char *name)
{
	Rows		rows;

	begin_rows(&rows, "topic", RowExclusiveLock, name);
	while (next_row(&rows))
		delete_row(&rows);
	end_rows(&rows);
	CommandCounterIncrement();
}

/*
 * Subscriptions
 */

/* Is this row that of this subscription, to this queue?  Each may be NULL: any. */
static bool
is_subscription(const Rows *rows, const char *name, const char *queue)
{
	return (name == NULL ||
			strcmp(row_text(rows, Anum_subscription_name), name) == 0) &&
		(queue == NULL ||
		 strcmp(row_text(rows, Anum_subscription_queue), queue) == 0);
}

/*
 * The queue of the first subscription of this topic, of this name, to this queue;
 * NULL stands for any.  NULL if there is none.
 */
static char *
find_subscription(const char *topic, const char *name, const char *queue)
{
	Rows		rows;
	char	   *found = NULL;

	begin_rows(&rows, "subscription", AccessShareLock, topic);
	while (found == NULL && next_row(&rows))
	{
		if (is_subscription(&rows, name, queue))
			found = row_text(&rows, Anum_subscription_queue);
	}
	end_rows(&rows);
	return found;
}

/* Delete all of these. */
static void
delete_subscriptions(const char *topic, const char *name, const char *queue)
{
	Rows		rows;
	List	   *topics = NIL;
	ListCell   *lc;

	begin_rows(&rows, "subscription", RowExclusiveLock, topic);
	while (next_row(&rows))
	{
		if (!is_subscription(&rows, name, queue))
			continue;
		delete_row(&rows);
		topics = lappend(topics, row_text(&rows, Anum_subscription_topic));
	}
	end_rows(&rows);
	foreach(lc, topics)
		topic_changed(lfirst(lc));
}

/*
 * A queue is dropped, and its subscriptions with it.  The caller holds its
 * queue lock, so that there will be no more.
 */
void
cmq_topic_forget_queue(const char *queue)
{
	if (find_subscription(NULL, NULL, queue) == NULL)
		return;
	cmq_catalog_lock("topic");
	delete_subscriptions(NULL, NULL, queue);
}

/* Forget these topics, with their subscriptions.  The caller has topics locked. */
static void
forget_topics(List *names)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		delete_subscriptions(lfirst(lc), NULL, NULL);
		delete_topic(lfirst(lc));
	}
}

/* Maintenance: forget the topics that are gone, unless somebody has topics locked. */
void
cmq_topic_sweep_gone(void)
{
	if (list_gone(NULL) != NIL && cmq_catalog_try_lock("topic"))
		forget_topics(list_gone(NULL));
}

/*
 * Create and drop
 */

/* Raise 42501 unless the caller may create topics. */
static void
check_create(const char *name)
{
	if (object_aclcheck(NamespaceRelationId,
						get_namespace_oid(CMQ_SCHEMA, false), GetUserId(),
						ACL_CREATE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to create topic \"%s\"", name),
				 errhint("The administrator can GRANT USAGE, CREATE ON SCHEMA %s TO you.",
						 CMQ_SCHEMA)));
}

/* Raise 42710 if the name, or that of the view, is taken. */
static void
check_not_taken(const char *name)
{
	char	   *existing;

	if (cmq_topic_find(name, true, NULL, NULL, &existing))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("topic \"%s\" already exists", name),
				 strcmp(name, existing) == 0 ? 0 :
				 errdetail("Topic \"%s\" has the same name but for case.",
						   existing)));
	if (OidIsValid(find_orphan(name)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("the view of a topic \"%s\" exists, but no such topic",
						name),
				 errhint("Restore the data, if it is a restore, or drop the view: SELECT cmq_drop_topic(%s);",
						 quote_literal_cstr(name))));
	if (OidIsValid(cmq_catalog_relid(view_name(name))))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("topic \"%s\" already exists", name),
				 errdetail("Relation %s.%s, which the topic needs, exists already.",
						   CMQ_SCHEMA, quote_identifier(view_name(name)))));
}

static void
create_view(const char *name)
{
	const char *view = quote_qualified_identifier(CMQ_SCHEMA, view_name(name));
	CmqOwnerScope scope;

	cmq_owner_enter(&scope, InvalidOid);
	cmq_ddl_execute("CREATE VIEW %s WITH (security_barrier) AS "
					"SELECT subscription, queue, filter_tags, binding_keys, create_time "
					"FROM cmq.subscriptions WHERE topic = %s",
					view, quote_literal_cstr(name));
	cmq_ddl_execute("COMMENT ON VIEW %s IS %s", view,
					quote_literal_cstr(psprintf("subscriptions of topic %s; GRANTs on this view are the rights on the topic", name)));
	cmq_owner_leave(&scope);
}

Datum
cmq_create_topic(PG_FUNCTION_ARGS)
{
	Datum		values[Natts_topic];
	bool		isnull[Natts_topic] = {false};
	char	   *name;
	char	   *filter_type;

	cmq_begin_write("cmq_create_topic()");
	name = cmq_name_arg(fcinfo, 0, "topic");
	cmq_ddl_check_name(name, "topic");
	filter_type = cmq_name_arg(fcinfo, 1, "filter_type");
	if (strcmp(filter_type, "tag") != 0 && strcmp(filter_type, "routing") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid filter_type for topic \"%s\": \"%s\"", name,
						filter_type),
				 errdetail("It must be \"tag\" or \"routing\".")));
	check_create(name);

	cmq_catalog_lock("topic");
	/* what is left of one that is gone is not to be the new one's */
	forget_topics(list_gone(name));
	check_not_taken(name);
	create_view(name);

	values[Anum_topic_name - 1] = CStringGetTextDatum(name);
	values[Anum_topic_filter_type - 1] = CStringGetTextDatum(filter_type);
	values[Anum_topic_create_time - 1] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_topic_relation - 1] =
		ObjectIdGetDatum(cmq_catalog_relid(view_name(name)));
	insert_row("topic", values, isnull);
	topic_changed(name);
	PG_RETURN_VOID();
}

/*
 * Does the caller own the topic?  Of one whose view is gone, or has another name,
 * a superuser does.
 */
static bool
owns_topic(const char *topic, Oid relid)
{
	return has_view(topic, relid) ?
		object_ownercheck(RelationRelationId, relid, GetUserId()) : superuser();
}

/*
 * The view of a topic to be dropped, or one that has no row; raises 42704 or 42501.
 */
static Oid
find_own_topic(const char *name)
{
	Oid			relid;

	if (!cmq_topic_find(name, false, &relid, NULL, NULL) &&
		!OidIsValid(relid = find_orphan(name)))
		cmq_topic_report_unknown(name);
	if (!owns_topic(name, relid))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of topic \"%s\"", name)));
	return relid;
}

Datum
cmq_drop_topic(PG_FUNCTION_ARGS)
{
	char	   *name;
	Oid			relid;
	CmqOwnerScope scope;

	cmq_begin_write("cmq_drop_topic()");
	name = cmq_name_arg(fcinfo, 0, "topic");
	(void) find_own_topic(name);
	cmq_catalog_lock("topic");
	/* it may be another one by now */
	relid = find_own_topic(name);
	if (find_subscription(name, NULL, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("topic \"%s\" cannot be dropped", name),
				 errdetail("It has subscriptions."),
				 errhint("Call cmq_unsubscribe for each of them first; the view cmq.subscriptions lists them.")));

	if (has_view(name, relid))
	{
		cmq_owner_enter(&scope, InvalidOid);
		cmq_ddl_execute("DROP VIEW %s", cmq_catalog_relname(relid));
		cmq_owner_leave(&scope);
	}
	delete_topic(name);
	PG_RETURN_VOID();
}

/*
 * Subscribe and unsubscribe
 */

/* The array of an argument, checked element by element; 0 if it is NULL. */
static Datum
get_filters(FunctionCallInfo fcinfo, int argno, const char *argname,
			const char *topic, CmqFilterCheck check)
{
	if (PG_ARGISNULL(argno))
		return (Datum) 0;
	(void) cmq_filter_elements(PG_GETARG_DATUM(argno), argname, topic, check,
							   NULL);
	return PG_GETARG_DATUM(argno);
}

/*
 * Does the topic route by key?  Raises 42704, and 42501 unless the caller may
 * subscribe.
 */
static bool
find_for_select(const char *topic)
{
	Oid			relid;
	bool		routing;

	if (!cmq_topic_find(topic, false, &relid, &routing, NULL))
		cmq_topic_report_unknown(topic);
	cmq_topic_check_relation(topic, relid);
	cmq_topic_check_acl(topic, relid, ACL_SELECT);
	return routing;
}

/* Remove the subscriptions of queues that are gone.  The caller has topics locked. */
static void
forget_dangling(const char *topic)
{
	ListCell   *lc;

	foreach(lc, cmq_catalog_gone_queue_names())
		delete_subscriptions(topic, NULL, lfirst(lc));
}

/* Raise 42710 if the name is taken, 54000 if the queue has too many already. */
static void
check_subscriptions(const char *topic, const char *name, const char *queue)
{
	Rows		rows;
	int			nsame = 0;

	begin_rows(&rows, "subscription", AccessShareLock, topic);
	while (next_row(&rows))
	{
		char	   *existing = row_text(&rows, Anum_subscription_name);

		if (pg_strcasecmp(existing, name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("subscription \"%s\" of topic \"%s\" already exists",
							existing, topic),
					 errhint("Call cmq_unsubscribe first, or choose another name.")));
		nsame += is_subscription(&rows, NULL, queue);
	}
	end_rows(&rows);
	/* each publish is to pay for a few of them at most */
	if (nsame >= CMQ_SUBSCRIPTIONS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("queue \"%s\" has too many subscriptions of topic \"%s\"",
						queue, topic),
				 errdetail("A queue may have %d of one topic.",
						   CMQ_SUBSCRIPTIONS_MAX),
				 errhint("One subscription takes several filters.")));
}

Datum
cmq_subscribe(PG_FUNCTION_ARGS)
{
	Datum		values[Natts_subscription];
	bool		isnull[Natts_subscription] = {false};
	char	   *topic;
	char	   *name;
	char	   *queue;
	Datum		tags;
	Datum		keys;
	bool		routing;

	cmq_begin_write("cmq_subscribe()");
	topic = cmq_name_arg(fcinfo, 0, "topic");
	name = cmq_name_arg(fcinfo, 1, "subscription");
	queue = cmq_queue_name_arg(fcinfo, 2);
	cmq_ddl_check_name(name, "subscription");
	tags = get_filters(fcinfo, 3, "filter_tags", topic, cmq_filter_check_tag);
	keys = get_filters(fcinfo, 4, "binding_keys", topic, cmq_filter_check_key);

	/* what is not there, or not allowed, takes no lock */
	(void) find_for_select(topic);
	cmq_queue_check_owner(cmq_queue_lookup(queue, ACL_NO_RIGHTS));
	/* the queue first, as a drop of the queue does */
	cmq_queue_check_owner(cmq_queue_lock(queue, ACL_NO_RIGHTS, ShareLock));
	cmq_catalog_lock("topic");
	routing = find_for_select(topic);
	if (routing ? (keys == 0 || tags != 0) : keys != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic \"%s\" filters by %s", topic,
						routing ? "routing key" : "tag"),
				 routing ? errhint("Give binding_keys and no filter_tags.") :
				 errhint("Give filter_tags, or none for all messages, and no binding_keys.")));
	forget_dangling(topic);
	check_subscriptions(topic, name, queue);

	values[Anum_subscription_topic - 1] = CStringGetTextDatum(topic);
	values[Anum_subscription_name - 1] = CStringGetTextDatum(name);
	values[Anum_subscription_queue - 1] = CStringGetTextDatum(queue);
	values[Anum_subscription_filter_tags - 1] = tags;
	isnull[Anum_subscription_filter_tags - 1] = tags == 0;
	values[Anum_subscription_binding_keys - 1] = keys;
	isnull[Anum_subscription_binding_keys - 1] = keys == 0;
	values[Anum_subscription_create_time - 1] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	insert_row("subscription", values, isnull);
	topic_changed(topic);
	PG_RETURN_VOID();
}

/*
 * The relation that carries the rights of this subscription's queue, if the caller
 * owns it; else InvalidOid, as when there is no such subscription.
 */
static Oid
own_queue_of(const char *topic, const char *name)
{
	char	   *queue = find_subscription(topic, name, NULL);
	CmqDescription description;

	/* a damaged queue has an owner too */
	return queue && cmq_catalog_find_queue(&description, queue) &&
		cmq_queue_has_relation(&description, description.relid, CMQ_RIGHTS) &&
		object_ownercheck(RelationRelationId, description.relid, GetUserId()) ?
		description.relid : InvalidOid;
}

/*
 * Raise 42501 unless the caller owns the topic or the queue of the subscription.
 * Whoever owns neither does not learn whether they exist.
 */
static void
check_unsubscribe(const char *topic, const char *name)
{
	Oid			relid;
	bool		topic_found = cmq_topic_find(topic, false, &relid, NULL, NULL);

	if (topic_found ? owns_topic(topic, relid) : superuser())
	{
		if (!topic_found)
			cmq_topic_report_unknown(topic);
		if (find_subscription(topic, name, NULL) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("subscription \"%s\" of topic \"%s\" does not exist",
							name, topic)));
		return;
	}
	if (!topic_found || !OidIsValid(own_queue_of(topic, name)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of topic \"%s\" or of the queue of subscription \"%s\"",
						topic, name)));
}

Datum
cmq_unsubscribe(PG_FUNCTION_ARGS)
{
	char	   *topic;
	char	   *name;
	Oid			queue;

	cmq_begin_write("cmq_unsubscribe()");
	topic = cmq_name_arg(fcinfo, 0, "topic");
	name = cmq_name_arg(fcinfo, 1, "subscription");

	/* what is not allowed takes no lock */
	check_unsubscribe(topic, name);

	/*
	 * Its owner may make the subscription anew in this transaction, with other
	 * filters: so the queue first, as in cmq_subscribe().
	 */
	queue = own_queue_of(topic, name);
	if (OidIsValid(queue))
		LockDatabaseObject(RelationRelationId, queue, 0, ShareLock);
	cmq_catalog_lock("topic");
	check_unsubscribe(topic, name);
	delete_subscriptions(topic, name, NULL);
	PG_RETURN_VOID();
}
