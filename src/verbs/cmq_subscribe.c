/*-------------------------------------------------------------------------
 *
 * cmq_subscribe.c
 *	  Subscriptions of queues to topics: subscribe, unsubscribe.
 *
 * A subscription is made by the owner of its queue, so that a role that may publish
 * needs no right on the queues behind the topic.
 *
 * Locks: first the queue lock in Share mode, which keeps a drop away; then the lock on
 * cmq.topic.  The owner of the queue takes both to unsubscribe it, too, so that making a
 * subscription anew in the same transaction cannot deadlock with a drop.
 *
 * A subscription of a queue that is gone is removed with the queue (cmq_gone.c), or by
 * the next cmq_subscribe() to the topic, which may want its name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "memory/cmq_shared.h"
#include "store/cmq_bounds.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_journal.h"
#include "store/cmq_journal_rows.h"
#include "store/cmq_leaf.h"
#include "store/cmq_load.h"
#include "store/cmq_lock.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_topic_rows.h"
#include "verbs/cmq_filter.h"

PG_FUNCTION_INFO_V1(cmq_subscribe);
PG_FUNCTION_INFO_V1(cmq_unsubscribe);

/* The array of an argument, checked by element; 0 if it is NULL.  Raises 22023. */
static Datum
get_filters(FunctionCallInfo fcinfo, int argno, const char *argname,
			const char *topic, CmqFilterCheck check)
{
	if (PG_ARGISNULL(argno))
		return (Datum) 0;
	(void) cmq_filter_elements(PG_GETARG_DATUM(argno), argname, topic, check,
							   NULL);
	return PointerGetDatum(PG_GETARG_ARRAYTYPE_P(argno));
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

/* Remove the topic's subscriptions of queues that are gone.  Topics are locked. */
static void
forget_dangling(const char *topic)
{
	ListCell   *lc;

	foreach(lc, cmq_catalog_gone_queue_names())
		cmq_topic_delete_subscriptions(topic, NULL, lfirst(lc));
}

/* Raise 42710 if the name is taken, 54000 if the queue has too many already. */
static void
check_subscriptions(const char *topic, const char *name, const char *queue)
{
	CmqTopicRows rows;
	int			nsame = 0;

	cmq_topic_rows_begin(&rows, "subscription", AccessShareLock, topic);
	while (cmq_topic_rows_next(&rows))
	{
		char	   *existing = cmq_topic_rows_text(&rows, Anum_subscription_name);

		if (pg_strcasecmp(existing, name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("subscription \"%s\" of topic \"%s\" already exists",
							existing, topic),
					 errhint("Call cmq_unsubscribe first, or choose another name.")));
		nsame += cmq_topic_row_is(&rows, NULL, queue);
	}
	cmq_topic_rows_end(&rows);
	/* each publish pays for all of them */
	if (nsame >= CMQ_SUBSCRIPTIONS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("queue \"%s\" has too many subscriptions of topic \"%s\"",
						queue, topic),
				 errdetail("A queue may have %d of one topic.",
						   CMQ_SUBSCRIPTIONS_MAX),
				 errhint("One subscription takes several filters.")));
}

/* Called in a subtransaction. */
static void
make_leaf(const char *name, void *arg)
{
	CmqQueue   *journal = cmq_queue_find(name);
	TimestampTz now = cmq_queue_now(journal);

	if (cmq_bounds_leaf(journal, now) == NULL)
		cmq_leaf_make(journal, now, now + cmq_leaf_lead(journal));
}

/* From now on messages of the queue may be in the journal of the topic. */
static void
add_receiver(const char *topic, const char *queue)
{
	const char *journal = cmq_journal_name(topic);
	List	   *before = cmq_receiver_list(queue, journal);
	CmqQueue   *description;
	CmqReceiver receiver = {.since = DT_NOBEGIN};

	if (before != NIL)
		receiver = *(CmqReceiver *) linitial(before);
	strlcpy(receiver.queue, queue, NAMEDATALEN);
	strlcpy(receiver.journal, journal, NAMEDATALEN);
	receiver.until = DT_NOEND;
	cmq_receiver_put(&receiver);

	/*
	 * Now it is known how wide leaves of the journal are to be: make the
	 * first one.  Somebody may have the journal locked, and who has topics
	 * locked does not wait for that; nor may shared memory have a place for
	 * it.  A publish has the leaf made, too.
	 */
	description = cmq_journal_find(topic);
	if (description && cmq_queue_try_attach(description))
		(void) cmq_lock_try(journal, NULL, make_leaf, NULL);
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
	cmq_check_name(name, "subscription");
	tags = get_filters(fcinfo, 3, "filter_tags", topic, cmq_filter_check_tag);
	keys = get_filters(fcinfo, 4, "binding_keys", topic, cmq_filter_check_key);

	/* a call that names what is not there, or is not allowed, takes no lock */
	(void) find_for_select(topic);
	cmq_rights_check_owner(cmq_queue_lookup(queue, ACL_NO_RIGHTS));
	/* the queue first, as a drop of the queue does */
	cmq_rights_check_owner(cmq_queue_lock(queue, ACL_NO_RIGHTS, ShareLock));
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
	add_receiver(topic, queue);
	cmq_topic_rows_insert("subscription", values, isnull);
	cmq_topic_changed(topic);
	PG_RETURN_VOID();
}

/*
 * The relation that carries the rights of this subscription's queue, if the caller
 * owns it; else InvalidOid, as when there is no such subscription.
 */
static Oid
own_queue_of(const char *topic, const char *name)
{
	char	   *queue = cmq_topic_find_subscription(topic, name, NULL);
	CmqDescription description;

	/* not by cmq_queue_lookup(): a damaged queue has an owner, too */
	return queue && cmq_catalog_find_queue(&description, queue) &&
		cmq_load_has_relation(&description, description.relid, CMQ_RIGHTS) &&
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

	if (topic_found ? cmq_topic_is_own(topic, relid) : superuser())
	{
		if (!topic_found)
			cmq_topic_report_unknown(topic);
		if (cmq_topic_find_subscription(topic, name, NULL) == NULL)
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

	/* a call that is not allowed takes no lock */
	check_unsubscribe(topic, name);

	/*
	 * The queue's owner may subscribe it anew in this transaction: so the
	 * queue is locked first, as in cmq_subscribe().
	 */
	queue = own_queue_of(topic, name);
	if (OidIsValid(queue))
		LockDatabaseObject(RelationRelationId, queue, 0, ShareLock);
	cmq_catalog_lock("topic");
	check_unsubscribe(topic, name);
	cmq_topic_delete_subscriptions(topic, name, NULL);
	PG_RETURN_VOID();
}
