/*-------------------------------------------------------------------------
 *
 * cmq_publish.c
 *	  Publish: send a message to each queue whose subscription wants it.
 *
 * In a topic of type tag, a subscription without filter tags gets everything, and one
 * with filter tags gets what has at least one of them.  In a topic of type routing, a
 * subscription gets what one of its binding keys matches.  Keys are words with dots
 * between them; in a binding key * stands for exactly one word, and # for any number of
 * words, none included.
 *
 * All copies are sent in the caller's transaction, and have the same time, which is their
 * id.  But a queue that looks at the keys of messages has times of its own, and so has one
 * whose clock is far ahead (cmq_clock.c), and each further copy for a queue with several
 * subscriptions.  The caller needs a right on the
 * topic, and none on the queues.  The limits of each queue apply: if one queue refuses
 * its copy, because it is full, takes no body of that size or keeps no message for as long
 * as the delay, the whole call fails.  The group of a message goes to ordered queues, and
 * means nothing to others.
 *
 * Backends cache descriptions of topics, with their subscriptions.  A change of a topic
 * sends a relcache invalidation for its view.  A look-up frees a stale description and
 * loads another one.  Code of a queue's owner can publish in the midst of a call, so a
 * call keeps no description over a send, and looks the topic up again.
 *
 * Locks: RowExclusive on the pending tables, in the order of the queues' names, whatever
 * the topic: so two publishes of the same keys, which wait for each other's
 * (cmq_once.c), cannot wait in a circle.  Abort: nothing was sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type_d.h"
#include "funcapi.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "base/cmq_group.h"
#include "base/cmq_handle.h"
#include "base/cmq_headers.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_bounds.h"
#include "store/cmq_cache.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_journal.h"
#include "store/cmq_queue.h"
#include "store/cmq_topic_rows.h"
#include "verbs/cmq_filter.h"
#include "verbs/cmq_once.h"
#include "verbs/cmq_publish.h"
#include "verbs/cmq_outgoing.h"
#include "verbs/cmq_send.h"

PG_FUNCTION_INFO_V1(cmq_publish);
PG_FUNCTION_INFO_V1(cmq_publish_batch);

/* Arguments of both: message_group or message_groups, dedup_key or dedup_keys. */
#define GROUP_ARGNO 6
#define PUBLISH_KEY_ARGNO 7

typedef struct Subscription
{
	char	   *queue;
	int			nfilters;		/* tags or binding keys; 0: gets all */
	char	  **filters;
} Subscription;

/* A topic as this backend knows it. */
typedef struct Topic
{
	char		name[NAMEDATALEN];
	Oid			relid;			/* its view */
	bool		valid;			/* false: the next look-up loads another one */
	bool		routing;
	int			nsubscriptions;
	Subscription *subscriptions;
	MemoryContext mcxt;			/* of all this */
} Topic;

typedef struct TopicEntry
{
	char		name[NAMEDATALEN];	/* hash key */
	Topic	   *topic;			/* the newest description, or NULL */
} TopicEntry;

/* What is published. */
typedef struct Publishing
{
	char		topic[NAMEDATALEN];
	Oid			relid;			/* its view */
	bool		routing;
	int			ntags;
	char	  **tags;
	char	   *routing_key;	/* NULL: the topic filters by tags */
	int			n;				/* messages */
	Datum	   *bodies;
	Datum	   *headers;
	bool	   *headers_null;
	int			delay;			/* seconds, of all copies */
	Datum	   *groups;			/* for ordered queues; NULL: none has any */
	bool	   *groups_null;
	Datum	   *keys;			/* for queues that keep keys; NULL: none */
	bool	   *keys_null;
	CmqQueue   *journal;		/* where they are stored once */
} Publishing;

/*
 * The cache
 */

static HTAB *topics = NULL;

/* With more stale descriptions than this the cache is trimmed, as in cmq_cache.c. */
#define MAX_STALE 100

static int	nstale = 0;

/* Has an invalidation arrived since a description began to be loaded? */
static bool invalidated = false;

/* How often one has arrived for a topic that this backend knows. */
static uint64 ntopic_changes = 0;

static void
invalidate_topics(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	TopicEntry *entry;

	invalidated = true;
	if (topics == NULL)
		return;
	hash_seq_init(&scan, topics);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		Topic	   *topic = entry->topic;

		if (topic && topic->valid &&
			(!OidIsValid(relid) || topic->relid == relid))
		{
			nstale++;
			ntopic_changes++;
			topic->valid = false;
		}
	}
}

static void
forget(TopicEntry *entry)
{
	if (entry->topic)
		MemoryContextDelete(entry->topic->mcxt);
	entry->topic = NULL;
}

/* At the end of a transaction, when nobody uses any. */
static void
trim_cache(void)
{
	HASH_SEQ_STATUS scan;
	TopicEntry *entry;

	if (nstale <= MAX_STALE)
		return;
	nstale = 0;
	hash_seq_init(&scan, topics);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->topic && entry->topic->valid)
			continue;
		forget(entry);
		hash_search(topics, entry->name, HASH_REMOVE, NULL);
	}
}

void
cmq_publish_init_cache(void)
{
	CacheRegisterRelcacheCallback(invalidate_topics, (Datum) 0);
	cmq_xact_at_end(trim_cache);
}

static void
load_subscription(Topic *topic, const CmqTopicRows *rows)
{
	Subscription *subscription = &topic->subscriptions[topic->nsubscriptions++];
	int			filters = !rows->isnull[Anum_subscription_filter_tags - 1] ?
		Anum_subscription_filter_tags : Anum_subscription_binding_keys;
	Datum	   *elements;

	subscription->queue = cmq_topic_rows_text(rows, Anum_subscription_queue);
	subscription->nfilters = 0;
	if (rows->isnull[filters - 1])
		return;
	subscription->nfilters = cmq_array_arg(rows->values[filters - 1], TEXTOID,
										   "filters", "topic", topic->name,
										   &elements, NULL);
	subscription->filters = palloc(subscription->nfilters * sizeof(char *));
	for (int i = 0; i < subscription->nfilters; i++)
		subscription->filters[i] = TextDatumGetCString(elements[i]);
}

static void
load_subscriptions(Topic *topic)
{
	CmqTopicRows rows;
	int			allocated = 8;

	topic->subscriptions = palloc(allocated * sizeof(Subscription));
	cmq_topic_rows_begin(&rows, "subscription", AccessShareLock, topic->name);
	while (cmq_topic_rows_next(&rows))
	{
		if (topic->nsubscriptions == allocated)
		{
			allocated *= 2;
			topic->subscriptions = repalloc(topic->subscriptions,
											allocated * sizeof(Subscription));
		}
		load_subscription(topic, &rows);
	}
	cmq_topic_rows_end(&rows);
}

/* Load a description; NULL if there is no such topic. */
static Topic *
load_topic(const char *name)
{
	/* goes to the cache when it is complete, so that an error leaks nothing */
	MemoryContext mcxt = AllocSetContextCreate(CurrentMemoryContext,
											   "cmq topic",
											   ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(mcxt);
	Topic	   *topic = palloc0(sizeof(Topic));
	bool		found;

	topic->mcxt = mcxt;
	strlcpy(topic->name, name, NAMEDATALEN);
	invalidated = false;
	found = cmq_topic_find(name, false, &topic->relid, &topic->routing, NULL);
	if (found)
	{
		cmq_topic_check_relation(name, topic->relid);
		load_subscriptions(topic);
	}
	MemoryContextSwitchTo(old);
	if (!found)
	{
		MemoryContextDelete(mcxt);
		return NULL;
	}
	topic->valid = !invalidated;
	MemoryContextSetParent(mcxt, CacheMemoryContext);
	return topic;
}

/*
 * The topic, as of now; good until the next look-up, which code of a queue's owner may
 * make during a send.  Raises 42704.
 */
static const Topic *
lookup_topic(const char *name)
{
	TopicEntry *entry;
	bool		found;

	if (strlen(name) > CMQ_QUEUE_NAME_MAX)
		cmq_topic_report_unknown(name);
	if (topics == NULL)
	{
		HASHCTL		info = {
			.keysize = NAMEDATALEN,
			.entrysize = sizeof(TopicEntry),
			.hcxt = CacheMemoryContext
		};

		topics = hash_create("cmq topics", 16, &info,
							 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	AcceptInvalidationMessages();
	entry = hash_search(topics, name, HASH_ENTER, &found);
	if (!found)
		entry->topic = NULL;
	/* as often as a queue, see cmq_cache.c */
	for (int i = 0; i < CMQ_MAX_LOADS &&
		 (entry->topic == NULL || !entry->topic->valid); i++)
	{
		Topic	   *topic = load_topic(name);

		forget(entry);
		entry->topic = topic;
		if (topic == NULL)
		{
			hash_search(topics, name, HASH_REMOVE, NULL);
			cmq_topic_report_unknown(name);
		}
	}
	return entry->topic;
}

/*
 * Publishing
 */

static bool
wants(const Subscription *subscription, const Publishing *p)
{
	/* a subscription to a topic that routes has filters */
	if (subscription->nfilters == 0)
		return !p->routing;
	for (int i = 0; i < subscription->nfilters; i++)
	{
		const char *filter = subscription->filters[i];

		if (p->routing && cmq_filter_key_matches(filter, p->routing_key))
			return true;
		for (int j = 0; j < p->ntags; j++)
		{
			if (strcmp(filter, p->tags[j]) == 0)
				return true;
		}
	}
	return false;
}

/* The topic that is published to, as of now; raises 55006 if it is another one. */
static const Topic *
lookup_again(const Publishing *p)
{
	const Topic *now = lookup_topic(p->topic);

	if (now->relid != p->relid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("topic \"%s\" was dropped while a call was using it",
						now->name)));
	return now;
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* The names of the queues that want the messages, in their order. */
static List *
list_takers(const Publishing *p)
{
	const Topic *now = lookup_again(p);
	List	   *queues = NIL;

	for (int i = 0; i < now->nsubscriptions; i++)
	{
		if (wants(&now->subscriptions[i], p))
			queues = lappend(queues, pstrdup(now->subscriptions[i].queue));
	}
	list_sort(queues, compare_names);
	return queues;
}

/*
 * Does the queue still want the messages?  While this call waited for a lock the queue
 * may have gone with its subscription, and another queue of that name have come.  Raises
 * 42501 if the right on the topic is gone.
 */
static bool
queue_wants(const char *queue, const Publishing *p)
{
	const Topic *now = lookup_again(p);

	cmq_topic_check_acl(now->name, now->relid, ACL_INSERT);
	for (int i = 0; i < now->nsubscriptions; i++)
	{
		if (strcmp(now->subscriptions[i].queue, queue) == 0 &&
			wants(&now->subscriptions[i], p))
			return true;
	}
	return false;
}

/* The headers with what cmq adds: topic, tags, routing key. */
static Datum
add_headers(const Publishing *p, Datum headers, bool isnull)
{
	StringInfoData json;
	Datum		added;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"cmq_topic\": \"%s\"", p->topic);
	if (p->ntags > 0)
	{
		appendStringInfoString(&json, ", \"cmq_tags\": [");
		for (int i = 0; i < p->ntags; i++)
		{
			if (i > 0)
				appendStringInfoString(&json, ", ");
			escape_json(&json, p->tags[i]);
		}
		appendStringInfoChar(&json, ']');
	}
	if (p->routing_key)
	{
		appendStringInfoString(&json, ", \"cmq_routing_key\": ");
		escape_json(&json, p->routing_key);
	}
	appendStringInfoChar(&json, '}');
	added = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
	return isnull ? added : DirectFunctionCall2(jsonb_concat, headers, added);
}

/* A queue that gets the messages. */
typedef struct Taker
{
	const char *name;
	CmqQueue   *queue;
	CmqOnce    *once;			/* NULL: it looks at no keys */
	bool		alone;			/* the messages have times of their own there */
	int			nbefore;		/* subscriptions of the queue before this one */
	TimestampTz *times;			/* of the messages there */
} Taker;

/*
 * Open the queue that wants the messages; false if it is gone, or wants them no more: then
 * topics have changed since so many changes were seen.  Raises an error if the queue
 * refuses one.
 */
static bool
open_taker(Taker *taker, const Publishing *p, uint64 nchanges)
{
	const char *name = taker->name;
	CmqQueue   *queue;

	cmq_queue_wait_for(name);
	if (ntopic_changes != nchanges && !queue_wants(name, p))
		return false;
	queue = cmq_queue_find(name);
	/* a queue that is gone may still have subscriptions, see cmq_gone.c */
	if (queue == NULL)
		return false;
	queue = cmq_queue_open_found(queue, ACL_NO_RIGHTS, RowExclusiveLock);
	for (int i = 0; i < p->n; i++)
	{
		cmq_send_check_body(queue, p->bodies[i], false);
		cmq_send_check_headers(queue, p->headers[i], CMQ_HEADERS_ADDED);
	}
	cmq_send_check_delay(queue, p->delay);
	taker->queue = queue;
	taker->once = NULL;
	taker->alone = cmq_clock_is_ahead(queue->shared);
	if (p->keys && queue->dedup_seconds > 0)
	{
		taker->alone = true;
		taker->once = palloc(sizeof(CmqOnce));
		taker->times = palloc(p->n * sizeof(TimestampTz));
		cmq_once_init(taker->once, queue, p->n, p->keys, p->keys_null,
					  taker->times);
	}
	return true;
}

/* Open all queues that want the messages; returns how many. */
static int
open_takers(const Publishing *p, Taker **takers)
{
	List	   *names = list_takers(p);
	uint64		nchanges = ntopic_changes;
	ListCell   *lc;
	int			n = 0;

	*takers = palloc(list_length(names) * sizeof(Taker));
	foreach(lc, names)
	{
		Taker	   *taker = &(*takers)[n];

		taker->name = lfirst(lc);
		if (!open_taker(taker, p, nchanges))
			continue;
		taker->nbefore = 0;
		for (int i = 0; i < n; i++)
		{
			if ((*takers)[i].queue->pending != taker->queue->pending)
				continue;
			taker->nbefore++;

			/*
			 * its clock has not been ahead, or is no more: all or none of
			 * them
			 */
			if (taker->once == NULL)
				taker->alone = (*takers)[i].alone;
		}
		if (taker->once == NULL)
			cmq_outgoing_check_room(taker->queue, p->n * (taker->nbefore + 1));
		n++;
	}
	return n;
}

/*
 * Can the messages go into this journal, without waiting for a lock on its leaf, and at the
 * time that queues have?  It may be NULL.  Shared memory may have no place for it: the
 * queues that are published to come first.
 */
static bool
is_usable(CmqQueue *journal)
{
	CmqLeaf    *leaf;

	if (journal == NULL || !cmq_queue_try_attach(journal) ||
		cmq_clock_is_ahead(journal->shared))
		return false;
	leaf = cmq_bounds_leaf(journal, cmq_clock_peek(journal->shared));
	return leaf == NULL ||
		ConditionalLockRelationOid(leaf->messages, RowExclusiveLock);
}

/*
 * Send the messages to all queues that take them together and of whose subscriptions this
 * is that of this number; false if there is none.
 */
static bool
send_together(Taker *takers, int n, CmqQueue *journal, const CmqOutgoing *out,
			  int delay, int number)
{
	CmqQueue  **queues = palloc(n * sizeof(CmqQueue *));
	TimestampTz *times = palloc(out->n * sizeof(TimestampTz));
	int			nqueues = 0;

	for (int i = 0; i < n; i++)
	{
		if (!takers[i].alone && takers[i].nbefore == number)
		{
			queues[nqueues++] = takers[i].queue;
			takers[i].times = times;
		}
	}
	/* what one queue alone gets is its own */
	cmq_outgoing_write_to_all(queues, nqueues,
							  nqueues > 1 && is_usable(journal) ? journal : NULL, out,
							  delay, times);
	return nqueues > 0;
}

/* Send the messages to all that take them, and put their times there. */
static void
send_to(Taker *takers, int n, const Publishing *p)
{
	CmqOutgoing out = {
		.n = p->n,
		.bodies = p->bodies,
		.headers = p->headers,
		.headers_null = p->headers_null,
		.groups = p->groups,
		.groups_null = p->groups_null
	};
	CmqDelay	delay = {.seconds = p->delay,.until = DT_NOBEGIN};

	/* where a key is busy this waits, so it is done before others are written */
	for (int i = 0; i < n; i++)
	{
		if (!takers[i].alone)
			continue;
		if (takers[i].once == NULL)
			takers[i].times = palloc(out.n * sizeof(TimestampTz));
		out.once = takers[i].once;
		(void) cmq_outgoing_write(takers[i].queue, &out, delay, takers[i].times);
	}
	out.once = NULL;
	/* a queue cannot have two messages of one time */
	for (int number = 0;
		 send_together(takers, n, p->journal, &out, p->delay, number); number++)
		;
}

/*
 * The journal of the topic whose view this is, locked: so from here to the end of the
 * transaction maintenance knows that messages may come (cmq_journal_drop.c).  NULL if it is
 * not there, was renamed or given to another owner, or somebody has it alone: nobody waits
 * for that, and each queue gets a message of its own.
 */
static CmqQueue *
open_journal(const char *topic, Oid view)
{
	CmqQueue   *journal = cmq_journal_find(topic);

	if (journal == NULL ||
		!ConditionalLockRelationOid(journal->messages, RowExclusiveLock))
		return NULL;
	journal = cmq_journal_find(topic);
	return journal && journal->owner == cmq_topic_owner(view) &&
		!journal->is_target ? journal : NULL;
}

/* Look up the topic that the first argument names.  Raises 42501 and 42704. */
static void
open_topic(FunctionCallInfo fcinfo, Publishing *p)
{
	const Topic *topic = lookup_topic(cmq_name_arg(fcinfo, 0, "topic"));

	cmq_topic_check_acl(topic->name, topic->relid, ACL_INSERT);
	strlcpy(p->topic, topic->name, NAMEDATALEN);
	p->relid = topic->relid;
	p->routing = topic->routing;
	p->journal = open_journal(p->topic, p->relid);
}

/* Get tags and routing key from arguments 2 and 3. */
static void
get_tags_and_key(FunctionCallInfo fcinfo, Publishing *p)
{
	const char *name = p->topic;
	bool		routing = p->routing;

	/* a caller that gives the other one takes the topic for the other type */
	if (!PG_ARGISNULL(routing ? 2 : 3))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be NULL for topic \"%s\"",
						routing ? "tags" : "routing_key", name),
				 routing ?
				 errdetail("The topic is of type routing: it filters by routing key.") :
				 errdetail("The topic is of type tag: it filters by tags."),
				 routing ?
				 errhint("Give a routing_key and no tags, or publish to a topic of type tag.") :
				 errhint("Give tags and no routing_key, or publish to a topic of type routing.")));
	if (!PG_ARGISNULL(2))
		p->ntags = cmq_filter_elements(PG_GETARG_DATUM(2), "tags", name,
									   cmq_filter_check_tag, &p->tags);
	if (!PG_ARGISNULL(3))
	{
		p->routing_key = text_to_cstring(PG_GETARG_TEXT_PP(3));
		cmq_filter_check_key(p->routing_key, "routing_key", name);
	}
	else if (routing)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("routing_key must not be NULL for topic \"%s\"", name),
				 errdetail("The topic filters by routing key.")));
}

/* Get the delay from argument 5.  Raises 22023 if no queue can have it. */
static void
get_delay(FunctionCallInfo fcinfo, Publishing *p)
{
	cmq_require_arg(fcinfo, 5, "delay_seconds", "topic", p->topic);
	p->delay = PG_GETARG_INT32(5);
	if (p->delay < 0 || p->delay > CMQ_DELAY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("delay_seconds is out of range for topic \"%s\": %d",
						p->topic, p->delay),
				 errdetail("It must be between 0 and %d seconds.",
						   CMQ_DELAY_MAX)));
}

/*
 * Raise 22023 for a group that no queue can have, or of a delayed message: its ordered
 * queues would refuse it.
 */
static void
check_groups(const Publishing *p)
{
	for (int i = 0; i < p->n; i++)
	{
		if (p->groups_null[i])
			continue;
		cmq_group_check(p->groups[i], true, "topic", p->topic);
		if (p->delay > 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a message with a message_group cannot be delayed for topic \"%s\"",
							p->topic),
					 errdetail("It would hold up its group in ordered queues."),
					 errhint("Leave the delay out, or publish the message without a group.")));
	}
}

/* Send the messages to all queues that want them, and return queues and ids. */
static void
publish(FunctionCallInfo fcinfo, Publishing *p)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Taker	   *takers;
	int			ntakers;

	get_tags_and_key(fcinfo, p);
	for (int i = 0; i < p->n; i++)
	{
		p->headers[i] = add_headers(p, p->headers[i], p->headers_null[i]);
		p->headers_null[i] = false;
	}
	ntakers = open_takers(p, &takers);
	send_to(takers, ntakers, p);
	for (int i = 0; i < ntakers; i++)
	{
		for (int j = 0; j < p->n; j++)
		{
			Datum		values[2];
			bool		isnull[2] = {false, false};

			values[0] = CStringGetTextDatum(takers[i].name);
			values[1] = Int64GetDatum(cmq_time_to_msg_id(takers[i].times[j]));
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
								 isnull);
		}
	}
}

static void
check_body(const Publishing *p, Datum body, bool isnull)
{
	if (isnull || toast_raw_datum_size(body) == VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("body must not be %s for topic \"%s\"",
						isnull ? "NULL" : "empty", p->topic)));
}

Datum
cmq_publish(PG_FUNCTION_ARGS)
{
	Publishing	p = {.n = 1};
	Datum		body;
	Datum		headers;
	bool		headers_null = PG_ARGISNULL(4);
	Datum		group = PG_GETARG_DATUM(GROUP_ARGNO);
	bool		group_null = PG_ARGISNULL(GROUP_ARGNO);
	Datum		key;
	bool		no_key = false;

	cmq_begin_write("cmq_publish()");
	InitMaterializedSRF(fcinfo, 0);
	open_topic(fcinfo, &p);
	check_body(&p, PG_GETARG_DATUM(1), PG_ARGISNULL(1));
	body = PG_GETARG_DATUM(1);
	headers = PG_GETARG_DATUM(4);
	if (!headers_null)
		cmq_headers_check(headers, 0, "topic", p.topic);
	p.bodies = &body;
	p.headers = &headers;
	p.headers_null = &headers_null;
	p.groups = &group;
	p.groups_null = &group_null;
	get_delay(fcinfo, &p);
	check_groups(&p);
	if (!PG_ARGISNULL(PUBLISH_KEY_ARGNO))
	{
		key = cmq_once_check_key(PG_GETARG_DATUM(PUBLISH_KEY_ARGNO), 0, "topic",
								 p.topic);
		p.keys = &key;
		p.keys_null = &no_key;
	}
	publish(fcinfo, &p);
	return (Datum) 0;
}

Datum
cmq_publish_batch(PG_FUNCTION_ARGS)
{
	Publishing	p = {0};
	bool	   *bodies_null;

	cmq_begin_write("cmq_publish_batch()");
	InitMaterializedSRF(fcinfo, 0);
	open_topic(fcinfo, &p);
	cmq_require_arg(fcinfo, 1, "bodies", "topic", p.topic);
	p.n = cmq_array_arg(PG_GETARG_DATUM(1), TEXTOID, "bodies", "topic",
						p.topic, &p.bodies, &bodies_null);
	for (int i = 0; i < p.n; i++)
		check_body(&p, p.bodies[i], bodies_null[i]);
	if (!PG_ARGISNULL(4))
		cmq_headers_arg(fcinfo, 4, "topic", p.topic, p.n, &p.headers,
						&p.headers_null);
	else
	{
		p.headers = palloc0(Max(p.n, 1) * sizeof(Datum));
		p.headers_null = palloc(Max(p.n, 1) * sizeof(bool));
		memset(p.headers_null, true, p.n * sizeof(bool));
	}
	get_delay(fcinfo, &p);
	if (!PG_ARGISNULL(GROUP_ARGNO))
	{
		cmq_texts_arg(fcinfo, GROUP_ARGNO, "message_groups", "topic", p.topic, p.n,
					  &p.groups, &p.groups_null);
		check_groups(&p);
	}
	if (!PG_ARGISNULL(PUBLISH_KEY_ARGNO))
		cmq_once_keys_arg(fcinfo, PUBLISH_KEY_ARGNO, "topic", p.topic, p.n,
						  &p.keys, &p.keys_null);
	if (p.n > 0)
		publish(fcinfo, &p);
	return (Datum) 0;
}
