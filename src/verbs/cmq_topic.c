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
#include "store/cmq_owner.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "verbs/cmq_filter.h"
#include "verbs/cmq_topic.h"

PG_FUNCTION_INFO_V1(cmq_create_topic);
PG_FUNCTION_INFO_V1(cmq_drop_topic);
PG_FUNCTION_INFO_V1(cmq_subscribe);
PG_FUNCTION_INFO_V1(cmq_unsubscribe);

/* Nobody else changes topics until the end of the transaction. */
static void
lock_topics(void)
{
	LockDatabaseObject(RelationRelationId, cmq_catalog_relid("topic"), 0,
					   ExclusiveLock);
}

/* The view of a topic that has no row; InvalidOid if there is none that looks so. */
static Oid
find_orphan(const char *topic)
{
	Oid			relid = strlen(topic) > CMQ_QUEUE_NAME_MAX ? InvalidOid :
		cmq_catalog_relid(cmq_ddl_relname("t_", topic, ""));

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

static char *
get_name(FunctionCallInfo fcinfo, int argno, const char *what)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be NULL", what)));
	return text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/*
 * Raise 55000 unless the view that the topic was made with is there, under its
 * name: another one that has taken the name carries no rights on the topic.
 */
void
cmq_topic_check_relation(const char *topic, Oid relid)
{
	char	   *relname = cmq_ddl_relname("t_", topic, "");

	if (get_rel_name(relid) == NULL || cmq_catalog_relid(relname) != relid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("topic \"%s\" is damaged", topic),
				 errdetail("Its view %s.%s was dropped or renamed.", CMQ_SCHEMA,
						   quote_identifier(relname)),
				 errhint("Give the view its name back, or drop the topic as a superuser.")));
}

/* Was the view of this topic dropped?  One of another name is there. */
static bool
is_gone(const Datum *values)
{
	return !SearchSysCacheExists1(RELOID, values[Anum_topic_relation - 1]);
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
 * Is there a topic of this name, whose view has not been dropped?  Sets *relid to
 * the OID of its view, *routing if it routes by key.  With folded, a name that
 * differs only in case will do; *existing is set to it.  Each of these may be NULL.
 */
bool
cmq_topic_find(const char *topic, bool folded, Oid *relid, bool *routing,
			   char **existing)
{
	Relation	rel = cmq_catalog_open("topic", AccessShareLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;
	bool		found = false;

	cmq_catalog_begin(&cs, rel, folded ? NULL : topic);
	while (!found && HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		Datum		values[Natts_topic];
		bool		isnull[Natts_topic];
		char	   *name;

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
		name = TextDatumGetCString(values[Anum_topic_name - 1]);
		if (pg_strcasecmp(name, topic) != 0 || is_gone(values))
			continue;
		found = true;
		if (existing)
			*existing = name;
		if (relid)
			*relid = DatumGetObjectId(values[Anum_topic_relation - 1]);
		if (routing)
			*routing = strcmp(TextDatumGetCString(values[Anum_topic_filter_type - 1]),
							  "routing") == 0;
	}
	cmq_catalog_end(&cs);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Delete subscriptions: of this topic (NULL: all), of this name (NULL: all),
 * to this queue (NULL: all).  Returns how many.
 */
static int
delete_subscriptions(const char *topic, const char *name, const char *queue)
{
	Relation	rel = cmq_catalog_open("subscription", RowExclusiveLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;
	List	   *topics = NIL;
	ListCell   *lc;

	cmq_catalog_begin(&cs, rel, topic);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		Datum		values[Natts_subscription];
		bool		isnull[Natts_subscription];

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
		if ((name && strcmp(TextDatumGetCString(values[Anum_subscription_name - 1]), name) != 0) ||
			(queue && strcmp(TextDatumGetCString(values[Anum_subscription_queue - 1]), queue) != 0))
			continue;
		simple_table_tuple_delete(rel, &tuple->t_self, InvalidSnapshot);
		topics = lappend(topics,
						 TextDatumGetCString(values[Anum_subscription_topic - 1]));
	}
	cmq_catalog_end(&cs);
	table_close(rel, NoLock);
	foreach(lc, topics)
		topic_changed(lfirst(lc));
	return list_length(topics);
}

static bool
has_subscriptions(const char *queue)
{
	Relation	rel = cmq_catalog_open("subscription", AccessShareLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;
	bool		found = false;

	cmq_catalog_begin(&cs, rel, NULL);
	while (!found && HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		bool		never;
		Datum		value = heap_getattr(tuple, Anum_subscription_queue,
										 RelationGetDescr(rel), &never);

		found = strcmp(TextDatumGetCString(value), queue) == 0;
	}
	cmq_catalog_end(&cs);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * A queue is dropped, and its subscriptions with it.  The caller holds its
 * queue lock, so that there will be no more.
 */
void
cmq_topic_forget_queue(const char *queue)
{
	if (!has_subscriptions(queue))
		return;
	lock_topics();
	(void) delete_subscriptions(NULL, NULL, queue);
}

/*
 * The names of topics that are gone: of this one, but for case, or of all if it is
 * NULL.
 */
static List *
list_gone(const char *topic)
{
	Relation	rel = cmq_catalog_open("topic", AccessShareLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;
	List	   *names = NIL;

	cmq_catalog_begin(&cs, rel, NULL);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		Datum		values[Natts_topic];
		bool		isnull[Natts_topic];
		char	   *name;

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
		name = TextDatumGetCString(values[Anum_topic_name - 1]);
		if (is_gone(values) && (topic == NULL || pg_strcasecmp(name, topic) == 0))
			names = lappend(names, name);
	}
	cmq_catalog_end(&cs);
	table_close(rel, AccessShareLock);
	return names;
}

/* Delete the row of a topic. */
static void
delete_topic(const char *name)
{
	Relation	rel = cmq_catalog_open("topic", RowExclusiveLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;

	cmq_catalog_begin(&cs, rel, name);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
		simple_table_tuple_delete(rel, &tuple->t_self, InvalidSnapshot);
	cmq_catalog_end(&cs);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* Forget these topics, with their subscriptions.  The caller has topics locked. */
static void
forget_topics(List *names)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		(void) delete_subscriptions(lfirst(lc), NULL, NULL);
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

Datum
cmq_create_topic(PG_FUNCTION_ARGS)
{
	Relation	rel;
	Datum		values[Natts_topic];
	bool		isnull[Natts_topic] = {false};
	char	   *name;
	char	   *filter_type;
	char	   *existing;
	char	   *relname;
	Oid			schema;
	CmqOwnerScope scope;

	cmq_begin_write("cmq_create_topic()");
	name = get_name(fcinfo, 0, "topic");
	cmq_ddl_check_name(name, "topic");
	filter_type = get_name(fcinfo, 1, "filter_type");
	if (strcmp(filter_type, "tag") != 0 && strcmp(filter_type, "routing") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid filter_type for topic \"%s\": \"%s\"", name,
						filter_type),
				 errdetail("It must be \"tag\" or \"routing\".")));
	schema = get_namespace_oid(CMQ_SCHEMA, false);
	if (object_aclcheck(NamespaceRelationId, schema, GetUserId(),
						ACL_CREATE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to create topic \"%s\"", name),
				 errhint("The administrator can GRANT USAGE, CREATE ON SCHEMA %s TO you.",
						 CMQ_SCHEMA)));

	lock_topics();
	/* what is left of one that is gone is not to be the new one's */
	forget_topics(list_gone(name));
	relname = cmq_ddl_relname("t_", name, "");
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
	if (OidIsValid(cmq_catalog_relid(relname)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("topic \"%s\" already exists", name),
				 errdetail("Relation %s.%s, which the topic needs, exists already.",
						   CMQ_SCHEMA, quote_identifier(relname))));

	cmq_owner_enter(&scope, InvalidOid);
	cmq_ddl_execute("CREATE VIEW %s WITH (security_barrier) AS "
					"SELECT subscription, queue, filter_tags, binding_keys, create_time "
					"FROM cmq.subscriptions WHERE topic = %s",
					quote_qualified_identifier(CMQ_SCHEMA, relname),
					quote_literal_cstr(name));
	cmq_ddl_execute("COMMENT ON VIEW %s IS %s",
					quote_qualified_identifier(CMQ_SCHEMA, relname),
					quote_literal_cstr(psprintf("subscriptions of topic %s; GRANTs on this view are the rights on the topic", name)));
	cmq_owner_leave(&scope);

	values[Anum_topic_name - 1] = CStringGetTextDatum(name);
	values[Anum_topic_filter_type - 1] = CStringGetTextDatum(filter_type);
	values[Anum_topic_create_time - 1] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_topic_relation - 1] = ObjectIdGetDatum(cmq_catalog_relid(relname));
	rel = cmq_catalog_open("topic", RowExclusiveLock);
	cmq_catalog_store(rel, NULL, values, isnull);
	table_close(rel, NoLock);
	topic_changed(name);
	PG_RETURN_VOID();
}

/* Is this the topic's view, still there and under its name? */
static bool
has_view(const char *topic, Oid relid)
{
	return get_rel_name(relid) != NULL &&
		cmq_catalog_relid(cmq_ddl_relname("t_", topic, "")) == relid;
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
	Relation	rel;
	CmqCatalogScan cs;
	char	   *name;
	bool		bound;
	Oid			relid;
	CmqOwnerScope scope;

	cmq_begin_write("cmq_drop_topic()");
	name = get_name(fcinfo, 0, "topic");
	(void) find_own_topic(name);
	lock_topics();
	/* it may be another one by now */
	relid = find_own_topic(name);

	rel = cmq_catalog_open("subscription", AccessShareLock);
	cmq_catalog_begin(&cs, rel, name);
	bound = HeapTupleIsValid(cmq_catalog_next(&cs));
	cmq_catalog_end(&cs);
	table_close(rel, AccessShareLock);
	if (bound)
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

/* The array of an argument, checked element by element; NULL if it is NULL. */
static ArrayType *
get_filters(FunctionCallInfo fcinfo, int argno, const char *argname,
			const char *topic, CmqFilterCheck check)
{
	ArrayType  *array;

	if (PG_ARGISNULL(argno))
		return NULL;
	array = PG_GETARG_ARRAYTYPE_P(argno);
	(void) cmq_filter_elements(array, argname, topic, check, NULL);
	return array;
}

/* Find the topic; raises 42704, and 42501 unless the caller may subscribe. */
static void
find_for_select(const char *topic, bool *routing)
{
	Oid			relid;

	if (!cmq_topic_find(topic, false, &relid, routing, NULL))
		cmq_topic_report_unknown(topic);
	cmq_topic_check_relation(topic, relid);
	cmq_topic_check_acl(topic, relid, ACL_SELECT);
}

/* Remove the subscriptions of queues that are gone.  The caller has topics locked. */
static void
forget_dangling(const char *topic)
{
	ListCell   *lc;

	foreach(lc, cmq_catalog_gone_queue_names())
		(void) delete_subscriptions(topic, NULL, lfirst(lc));
}

Datum
cmq_subscribe(PG_FUNCTION_ARGS)
{
	Relation	rel;
	CmqCatalogScan cs;
	HeapTuple	tuple;
	Datum		values[Natts_subscription];
	bool		isnull[Natts_subscription] = {false};
	char	   *topic;
	char	   *name;
	char	   *queue_name;
	ArrayType  *tags;
	ArrayType  *keys;
	CmqQueue   *queue;
	bool		routing;
	int			nsame = 0;

	cmq_begin_write("cmq_subscribe()");
	topic = get_name(fcinfo, 0, "topic");
	name = get_name(fcinfo, 1, "subscription");
	queue_name = cmq_queue_name_arg(fcinfo, 2);
	cmq_ddl_check_name(name, "subscription");
	tags = get_filters(fcinfo, 3, "filter_tags", topic, cmq_filter_check_tag);
	keys = get_filters(fcinfo, 4, "binding_keys", topic, cmq_filter_check_key);

	/* what is not there, or not allowed, takes no lock */
	find_for_select(topic, &routing);
	queue = cmq_queue_lookup(queue_name);
	cmq_queue_check_owner(queue);
	/* the queue first, as a drop of the queue does */
	queue = cmq_queue_lock(queue_name, ACL_NO_RIGHTS, ShareLock);
	cmq_queue_check_owner(queue);
	lock_topics();
	find_for_select(topic, &routing);
	if (routing ? (keys == NULL || tags != NULL) : keys != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic \"%s\" filters by %s", topic,
						routing ? "routing key" : "tag"),
				 routing ? errhint("Give binding_keys and no filter_tags.") :
				 errhint("Give filter_tags, or none for all messages, and no binding_keys.")));

	forget_dangling(topic);
	rel = cmq_catalog_open("subscription", RowExclusiveLock);
	cmq_catalog_begin(&cs, rel, topic);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		bool		never;
		Datum		existing = heap_getattr(tuple, Anum_subscription_name,
											RelationGetDescr(rel), &never);
		Datum		other = heap_getattr(tuple, Anum_subscription_queue,
										 RelationGetDescr(rel), &never);

		if (pg_strcasecmp(TextDatumGetCString(existing), name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("subscription \"%s\" of topic \"%s\" already exists",
							TextDatumGetCString(existing), topic),
					 errhint("Call cmq_unsubscribe first, or choose another name.")));
		nsame += strcmp(TextDatumGetCString(other), queue->name) == 0;
	}
	/* each publish is to pay for a few of them at most */
	if (nsame >= CMQ_SUBSCRIPTIONS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("queue \"%s\" has too many subscriptions of topic \"%s\"",
						queue->name, topic),
				 errdetail("A queue may have %d of one topic.",
						   CMQ_SUBSCRIPTIONS_MAX),
				 errhint("One subscription takes several filters.")));
	cmq_catalog_end(&cs);

	values[Anum_subscription_topic - 1] = CStringGetTextDatum(topic);
	values[Anum_subscription_name - 1] = CStringGetTextDatum(name);
	values[Anum_subscription_queue - 1] = CStringGetTextDatum(queue->name);
	isnull[Anum_subscription_filter_tags - 1] = tags == NULL;
	values[Anum_subscription_filter_tags - 1] = PointerGetDatum(tags);
	isnull[Anum_subscription_binding_keys - 1] = keys == NULL;
	values[Anum_subscription_binding_keys - 1] = PointerGetDatum(keys);
	values[Anum_subscription_create_time - 1] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	cmq_catalog_store(rel, NULL, values, isnull);
	table_close(rel, NoLock);
	topic_changed(topic);
	PG_RETURN_VOID();
}

/*
 * The relation that carries the rights of this subscription's queue, if the caller
 * owns it; else InvalidOid, as when there is no such subscription.
 */
static Oid
own_queue_of(const char *topic, const char *name, bool *found)
{
	Relation	rel = cmq_catalog_open("subscription", AccessShareLock);
	CmqCatalogScan cs;
	HeapTuple	tuple;
	char	   *queue = NULL;
	CmqQueue	description;

	cmq_catalog_begin(&cs, rel, topic);
	while (queue == NULL && HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		Datum		values[Natts_subscription];
		bool		isnull[Natts_subscription];

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
		if (strcmp(TextDatumGetCString(values[Anum_subscription_name - 1]), name) == 0)
			queue = TextDatumGetCString(values[Anum_subscription_queue - 1]);
	}
	cmq_catalog_end(&cs);
	table_close(rel, AccessShareLock);
	*found = queue != NULL;
	if (queue == NULL)
		return InvalidOid;

	/* a damaged queue has an owner too */
	return cmq_catalog_find_queue(&description, queue) &&
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
	bool		found;
	bool		topic_found = cmq_topic_find(topic, false, &relid, NULL, NULL);

	if (topic_found ? owns_topic(topic, relid) : superuser())
	{
		if (!topic_found)
			cmq_topic_report_unknown(topic);
		(void) own_queue_of(topic, name, &found);
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("subscription \"%s\" of topic \"%s\" does not exist",
							name, topic)));
		return;
	}
	if (!topic_found || !OidIsValid(own_queue_of(topic, name, &found)))
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
	bool		found;

	cmq_begin_write("cmq_unsubscribe()");
	topic = get_name(fcinfo, 0, "topic");
	name = get_name(fcinfo, 1, "subscription");

	/* what is not allowed takes no lock */
	check_unsubscribe(topic, name);

	/*
	 * Its owner may make the subscription anew in this transaction, with other
	 * filters: so the queue first, as in cmq_subscribe().
	 */
	queue = own_queue_of(topic, name, &found);
	if (OidIsValid(queue))
		LockDatabaseObject(RelationRelationId, queue, 0, ShareLock);
	lock_topics();
	check_unsubscribe(topic, name);
	(void) delete_subscriptions(topic, name, NULL);
	PG_RETURN_VOID();
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
