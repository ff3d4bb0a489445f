/*-------------------------------------------------------------------------
 *
 * cmq_topic.c
 *	  Topics: create, drop, forget.
 *
 * A topic whose view was dropped by hand is gone.  cmq_create_topic() for that name, or
 * maintenance, removes its row and subscriptions.  Dropping a queue removes the queue's
 * subscriptions.
 *
 * Locks: an object lock on cmq.topic, under which topics and subscriptions change.
 * Abort: all is undone like any DDL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_names.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "store/cmq_catalog.h"
#include "store/cmq_ddl.h"
#include "store/cmq_description.h"
#include "store/cmq_owner.h"
#include "store/cmq_journal.h"
#include "store/cmq_journal_rows.h"
#include "store/cmq_topic_rows.h"
#include "verbs/cmq_journal_drop.h"
#include "verbs/cmq_topic.h"

PG_FUNCTION_INFO_V1(cmq_create_topic);
PG_FUNCTION_INFO_V1(cmq_drop_topic);

/* Of the view of a topic, which is a part of cmq.subscriptions. */
static const CmqColumnComment comments[] = {
	{"subscription", "name of the subscription"},
	{"queue", "name of the queue that gets what is published"},
	{"filter_tags", "the queue gets what has at least one of these tags; NULL: the tags do not matter"},
	{"binding_keys", "the queue gets what has a routing key that one of these matches; NULL for topics of type tag"},
	{"create_time", "when the queue was subscribed (timestamp by the wall clock)"},
	{NULL, NULL}
};

/*
 * The names of topics that are gone: all, or, if topic is given, those that have that
 * name but for case.
 */
static List *
list_gone(const char *topic)
{
	CmqTopicRows rows;
	List	   *names = NIL;

	cmq_topic_rows_begin(&rows, "topic", AccessShareLock, NULL);
	while (cmq_topic_rows_next(&rows))
	{
		char	   *name = cmq_topic_rows_text(&rows, Anum_topic_name);

		if (cmq_topic_row_is_gone(&rows) &&
			(topic == NULL || pg_strcasecmp(name, topic) == 0))
			names = lappend(names, name);
	}
	cmq_topic_rows_end(&rows);
	return names;
}

static void
delete_topic(const char *name)
{
	CmqTopicRows rows;

	cmq_topic_rows_begin(&rows, "topic", RowExclusiveLock, name);
	while (cmq_topic_rows_next(&rows))
		cmq_topic_rows_delete(&rows);
	cmq_topic_rows_end(&rows);
	CommandCounterIncrement();
}

/*
 * Nobody asks any more for what a journal has for the queue that is dropped, nor may a queue
 * of its name.  Nothing is opened for that: the owner of the topic may have it locked.
 */
static void
end_receiver(CmqReceiver *receiver)
{
	CmqDescription journal;
	CmqSharedQueue *shared;

	if (!cmq_journal_find_row(&journal, receiver->journal) ||
		get_rel_name(journal.messages) == NULL)
	{
		cmq_receiver_delete(receiver->queue, receiver->journal);
		return;
	}
	/* without an entry nothing was published since the server was started */
	shared = cmq_shared_use(journal.messages);
	receiver->since = receiver->until =
		(shared ? cmq_clock_now(shared) : cmq_time()) + 1;
	cmq_receiver_put(receiver);
}

/*
 * Remove the subscriptions of a queue that is dropped.  The caller holds its queue lock,
 * which keeps new ones away.
 */
void
cmq_topic_forget_queue(const char *queue)
{
	List	   *receivers = cmq_receiver_list(queue, NULL);
	ListCell   *lc;

	if (cmq_topic_find_subscription(NULL, NULL, queue) == NULL && receivers == NIL)
		return;
	cmq_catalog_lock("topic");
	cmq_topic_delete_subscriptions(NULL, NULL, queue);
	foreach(lc, receivers)
	{
		CmqReceiver *receiver = lfirst(lc);
		const char *topic = receiver->journal + 1;

		end_receiver(receiver);
		if (!cmq_topic_find(topic, false, NULL, NULL, NULL))
			cmq_journal_end(topic);
	}
}

/* Remove these topics with their subscriptions.  Topics are locked. */
static void
forget_topics(List *names)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		cmq_topic_delete_subscriptions(lfirst(lc), NULL, NULL);
		delete_topic(lfirst(lc));
	}
}

/* Maintenance: remove the topics that are gone, unless others have topics locked. */
void
cmq_topic_sweep_gone(void)
{
	if (!cmq_catalog_try_lock("topic"))
		return;
	forget_topics(list_gone(NULL));
	cmq_journal_sweep_gone();
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
	if (OidIsValid(cmq_topic_find_orphan(name)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("the view of a topic \"%s\" exists, but no such topic",
						name),
				 errhint("Restore the data, if it is a restore, or drop the view: SELECT cmq_drop_topic(%s);",
						 quote_literal_cstr(name))));
	if (OidIsValid(cmq_relid(cmq_topic_view_name(name))))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("topic \"%s\" already exists", name),
				 errdetail("Relation %s.%s, which the topic needs, exists already.",
						   CMQ_SCHEMA, quote_identifier(cmq_topic_view_name(name)))));
}

/*
 * Make the journal of the topic, or use the one that a topic of this name has left.  Raises
 * 42710 if the name is taken.
 */
static void
create_journal(const char *name)
{
	CmqQueue   *journal = cmq_journal_find(name);

	if (journal && journal->owner != GetUserId())
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("topic \"%s\" cannot be created yet", name),
				 errdetail("Queues still have messages of a topic of this name that had another owner."),
				 errhint("Choose another name.")));
	if (journal)
		return;
	if (cmq_journal_exists(name))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("topic \"%s\" cannot be created yet", name),
				 errdetail("The journal of an earlier topic of this name was renamed, or given to another owner."),
				 errhint("Undo that, or drop that table, or choose another name.")));
	if (OidIsValid(cmq_journal_relation(name)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("topic \"%s\" already exists", name),
				 errdetail("Relation %s, which the topic needs, exists already.",
						   cmq_relation_qualified(CMQ_JOURNAL_TABLE, name))));
	cmq_journal_create(name);
}

static void
create_view(const char *name)
{
	const char *view = quote_qualified_identifier(CMQ_SCHEMA,
												  cmq_topic_view_name(name));
	CmqOwnerScope scope;

	cmq_owner_enter(&scope, InvalidOid);
	cmq_ddl_execute("CREATE VIEW %s WITH (security_barrier) AS "
					"SELECT subscription, queue, filter_tags, binding_keys, create_time "
					"FROM cmq.subscriptions WHERE topic = %s",
					view, quote_literal_cstr(name));
	cmq_ddl_execute("COMMENT ON VIEW %s IS %s", view,
					quote_literal_cstr(psprintf("subscriptions of topic %s; GRANTs on this view are the rights on the topic", name)));
	cmq_ddl_comment_columns(cmq_relid(cmq_topic_view_name(name)), comments);
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
	cmq_check_name(name, "topic");
	filter_type = cmq_name_arg(fcinfo, 1, "filter_type");
	if (strcmp(filter_type, "tag") != 0 && strcmp(filter_type, "routing") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid filter_type for topic \"%s\": \"%s\"", name,
						filter_type),
				 errdetail("It must be \"tag\" or \"routing\".")));
	cmq_check_create(CMQ_SCHEMA, "topic", name, CMQ_SCHEMA ", " CMQ_DATA_SCHEMA);
	cmq_check_create(CMQ_DATA_SCHEMA, "topic", name,
					 CMQ_SCHEMA ", " CMQ_DATA_SCHEMA);

	cmq_catalog_lock("topic");
	/* the new topic must not inherit from one that is gone */
	forget_topics(list_gone(name));
	cmq_journal_sweep_gone();
	check_not_taken(name);
	create_view(name);
	create_journal(name);

	values[Anum_topic_name - 1] = CStringGetTextDatum(name);
	values[Anum_topic_filter_type - 1] = CStringGetTextDatum(filter_type);
	values[Anum_topic_create_time - 1] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_topic_relation - 1] =
		ObjectIdGetDatum(cmq_relid(cmq_topic_view_name(name)));
	cmq_topic_rows_insert("topic", values, isnull);
	cmq_topic_changed(name);
	PG_RETURN_VOID();
}

/*
 * The view of a topic to be dropped, which may have no row.  Raises 42704 and 42501.
 */
static Oid
find_own_topic(const char *name)
{
	Oid			relid;

	if (!cmq_topic_find(name, false, &relid, NULL, NULL) &&
		!OidIsValid(relid = cmq_topic_find_orphan(name)))
		cmq_topic_report_unknown(name);
	if (!cmq_topic_is_own(name, relid))
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
	/* by now it may be another topic of that name */
	relid = find_own_topic(name);
	if (cmq_topic_find_subscription(name, NULL, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("topic \"%s\" cannot be dropped", name),
				 errdetail("It has subscriptions."),
				 errhint("Call cmq_unsubscribe for each of them first; the view cmq.subscriptions lists them.")));

	if (cmq_topic_has_view(name, relid))
	{
		cmq_owner_enter(&scope, InvalidOid);
		cmq_ddl_execute("DROP VIEW %s", cmq_full_name(relid));
		cmq_owner_leave(&scope);
	}
	delete_topic(name);
	/* at once, unless queues still have messages there */
	cmq_journal_end(name);
	PG_RETURN_VOID();
}
