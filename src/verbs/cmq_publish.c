/*-------------------------------------------------------------------------
 *
 * cmq_publish.c
 *	  Publish: send a message to each queue whose subscription wants it.
 *
 * Topics that filter by tag: a subscription without filter tags gets
 * everything, one with filter tags gets what has at least one of them.
 * Topics that route: a subscription gets what one of its binding keys matches;
 * keys are words with dots between them, in a binding key * stands for exactly
 * one word and # for any number of words, none included.
 *
 * All copies are sent in the caller's transaction.  Rights are those on the
 * topic, not on the queues; the limits of each queue apply, and one that
 * refuses its copy fails the whole call.
 *
 * Backends cache topics with their subscriptions.  Whoever changes them sends
 * a relcache invalidation for the topic's view; the cache looks again after
 * it.  Queues are sent to in the order of the subscriptions' names.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_xact.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"
#include "verbs/cmq_filter.h"
#include "verbs/cmq_publish.h"
#include "verbs/cmq_send.h"
#include "verbs/cmq_topic.h"

PG_FUNCTION_INFO_V1(cmq_publish);
PG_FUNCTION_INFO_V1(cmq_publish_batch);

typedef struct Subscription
{
	char	   *queue;
	int			nfilters;		/* tags or binding keys; 0: gets all */
	char	  **filters;
} Subscription;

typedef struct Topic
{
	char		name[NAMEDATALEN];	/* hash key */
	Oid			relid;			/* its view */
	bool		valid;			/* false: load again before use */
	bool		stale;			/* invalidated since loading began */
	bool		routing;
	int			nsubscriptions;
	Subscription *subscriptions;
	MemoryContext mcxt;			/* of the subscriptions */
} Topic;

static HTAB *topics = NULL;

/* Stale entries are thrown away as those of queues are, see cmq_queue.c. */
#define MAX_STALE 100

static int	nstale = 0;

static void
invalidate_topics(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	Topic	   *topic;

	if (topics == NULL)
		return;
	hash_seq_init(&scan, topics);
	while ((topic = hash_seq_search(&scan)) != NULL)
	{
		if (!OidIsValid(relid) || topic->relid == relid)
		{
			if (topic->valid)
				nstale++;
			topic->valid = false;
			topic->stale = true;
		}
	}
}

/* The end of a transaction: throw stale entries away, if there are many. */
static void
trim_cache(void)
{
	HASH_SEQ_STATUS scan;
	Topic	   *topic;

	if (nstale <= MAX_STALE)
		return;
	nstale = 0;
	hash_seq_init(&scan, topics);
	while ((topic = hash_seq_search(&scan)) != NULL)
	{
		if (topic->valid)
			continue;
		if (topic->mcxt)
			MemoryContextDelete(topic->mcxt);
		hash_search(topics, topic->name, HASH_REMOVE, NULL);
	}
}

void
cmq_publish_init_cache(void)
{
	CacheRegisterRelcacheCallback(invalidate_topics, (Datum) 0);
	cmq_xact_at_end(trim_cache);
}

/*
 * Filters
 */

/* Split a key into words; returns their number. */
static int
split_key(const char *key, const char **words, size_t *lengths)
{
	int			n = 0;

	for (;;)
	{
		words[n] = key;
		lengths[n] = strcspn(key, ".");
		key += lengths[n++];
		if (*key == '\0' || n > CMQ_KEY_DOTS_MAX)
			return n;
		key++;
	}
}

/*
 * Does the binding key match the routing key?  Word by word of the binding
 * key, we keep the set of positions in the routing key up to which what we
 * have seen so far can match.
 */
static bool
key_matches(const char *binding_key, const char *routing_key)
{
	const char *patterns[CMQ_KEY_DOTS_MAX + 1];
	const char *words[CMQ_KEY_DOTS_MAX + 1];
	size_t		pattern_lengths[CMQ_KEY_DOTS_MAX + 1];
	size_t		lengths[CMQ_KEY_DOTS_MAX + 1];
	int			npatterns = split_key(binding_key, patterns, pattern_lengths);
	int			nwords = split_key(routing_key, words, lengths);
	uint32		positions = 1;	/* bit n: n words are matched */

	for (int i = 0; i < npatterns; i++)
	{
		uint32		next = 0;
		char		wildcard = pattern_lengths[i] == 1 ? *patterns[i] : '\0';

		for (int j = 0; j <= nwords; j++)
		{
			if (!(positions & (1U << j)))
				continue;
			if (wildcard == '#')
			{
				/* from here on every position can be reached */
				next |= ~((1U << j) - 1);
				break;
			}
			if (j < nwords &&
				(wildcard == '*' ? lengths[j] > 0 :
				 lengths[j] == pattern_lengths[i] &&
				 strncmp(words[j], patterns[i], lengths[j]) == 0))
				next |= 1U << (j + 1);
		}
		positions = next;
	}
	return (positions & (1U << nwords)) != 0;
}

static bool
wants(const Topic *topic, const Subscription *subscription, int ntags,
	  char **tags, const char *routing_key)
{
	if (!topic->routing && subscription->nfilters == 0)
		return true;
	for (int i = 0; i < subscription->nfilters; i++)
	{
		if (topic->routing)
		{
			if (key_matches(subscription->filters[i], routing_key))
				return true;
			continue;
		}
		for (int j = 0; j < ntags; j++)
		{
			if (strcmp(subscription->filters[i], tags[j]) == 0)
				return true;
		}
	}
	return false;
}

/*
 * The cache
 */

static void
load_subscription(Subscription *subscription, const Datum *values,
				  const bool *isnull)
{
	int			filters = !isnull[Anum_subscription_filter_tags - 1] ?
		Anum_subscription_filter_tags : Anum_subscription_binding_keys;

	subscription->queue =
		TextDatumGetCString(values[Anum_subscription_queue - 1]);
	subscription->nfilters = 0;
	if (!isnull[filters - 1])
	{
		Datum	   *elements;

		deconstruct_array(DatumGetArrayTypeP(values[filters - 1]), TEXTOID, -1,
						  false, TYPALIGN_INT, &elements, NULL,
						  &subscription->nfilters);
		subscription->filters = palloc(subscription->nfilters * sizeof(char *));
		for (int i = 0; i < subscription->nfilters; i++)
			subscription->filters[i] = TextDatumGetCString(elements[i]);
	}
}

/* Fill the topic from the catalogs; false if there is none. */
static bool
load_topic(Topic *topic)
{
	Relation	rel;
	CmqCatalogScan cs;
	HeapTuple	tuple;
	MemoryContext old;
	int			allocated = 8;

	MemoryContextReset(topic->mcxt);
	topic->stale = false;
	if (!cmq_topic_find(topic->name, false, &topic->relid, &topic->routing, NULL))
		return false;
	cmq_topic_check_relation(topic->name, topic->relid);

	old = MemoryContextSwitchTo(topic->mcxt);
	topic->nsubscriptions = 0;
	topic->subscriptions = palloc(allocated * sizeof(Subscription));
	rel = cmq_catalog_open("subscription", AccessShareLock);
	cmq_catalog_begin(&cs, rel, topic->name);
	while (HeapTupleIsValid(tuple = cmq_catalog_next(&cs)))
	{
		Datum		values[Natts_subscription];
		bool		isnull[Natts_subscription];

		if (topic->nsubscriptions == allocated)
		{
			allocated *= 2;
			topic->subscriptions = repalloc(topic->subscriptions,
											allocated * sizeof(Subscription));
		}
		heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
		load_subscription(&topic->subscriptions[topic->nsubscriptions++],
						  values, isnull);
	}
	cmq_catalog_end(&cs);
	table_close(rel, AccessShareLock);
	MemoryContextSwitchTo(old);
	topic->valid = !topic->stale;
	return true;
}

/* The topic, as of now; raises 42704. */
static Topic *
lookup_topic(const char *name)
{
	Topic	   *topic;
	bool		found;

	if (strlen(name) > CMQ_QUEUE_NAME_MAX)
		cmq_topic_report_unknown(name);
	if (topics == NULL)
	{
		HASHCTL		info;

		memset(&info, 0, sizeof(info));
		info.keysize = NAMEDATALEN;
		info.entrysize = sizeof(Topic);
		info.hcxt = CacheMemoryContext;
		topics = hash_create("cmq topics", 16, &info,
							 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	AcceptInvalidationMessages();
	topic = hash_search(topics, name, HASH_ENTER, &found);
	if (!found)
	{
		topic->valid = false;
		topic->relid = InvalidOid;
		topic->mcxt = NULL;
	}
	if (topic->mcxt == NULL)
		topic->mcxt = AllocSetContextCreate(CacheMemoryContext, "cmq topic",
											ALLOCSET_SMALL_SIZES);
	/* as often as a queue, see cmq_queue.c */
	for (int i = 0; i < CMQ_MAX_LOADS && !topic->valid; i++)
	{
		if (!load_topic(topic))
		{
			MemoryContextDelete(topic->mcxt);
			hash_search(topics, name, HASH_REMOVE, NULL);
			cmq_topic_report_unknown(name);
		}
	}
	return topic;
}

/*
 * Publishing
 */

/* The headers with what cmq adds: topic, tags, routing key. */
static Datum
add_headers(const char *topic, Datum headers, bool isnull, int ntags,
			char **tags, const char *routing_key)
{
	StringInfoData json;
	Datum		added;

	if (!isnull && !JB_ROOT_IS_OBJECT(DatumGetJsonbP(headers)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object for topic \"%s\"",
						topic)));
	initStringInfo(&json);
	appendStringInfo(&json, "{\"cmq_topic\": \"%s\"", topic);
	if (ntags > 0)
	{
		appendStringInfoString(&json, ", \"cmq_tags\": [");
		for (int i = 0; i < ntags; i++)
		{
			if (i > 0)
				appendStringInfoString(&json, ", ");
			escape_json(&json, tags[i]);
		}
		appendStringInfoChar(&json, ']');
	}
	if (routing_key)
	{
		appendStringInfoString(&json, ", \"cmq_routing_key\": ");
		escape_json(&json, routing_key);
	}
	appendStringInfoChar(&json, '}');
	added = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
	return isnull ? added : DirectFunctionCall2(jsonb_concat, headers, added);
}

/*
 * Does the queue still want it?  The subscription may have gone with the queue
 * while we waited for a lock, and another queue of that name come.
 */
static bool
queue_wants(const Topic *topic, const char *queue, int ntags, char **tags,
			const char *routing_key)
{
	for (int i = 0; i < topic->nsubscriptions; i++)
	{
		if (strcmp(topic->subscriptions[i].queue, queue) == 0 &&
			wants(topic, &topic->subscriptions[i], ntags, tags, routing_key))
			return true;
	}
	return false;
}

/* Send n bodies to whoever wants them; tags and key are arguments 2 and 3. */
static void
publish(FunctionCallInfo fcinfo, Topic *topic, int n, Datum *bodies,
		Datum *headers, bool *headers_null)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	  **tags = NULL;
	int			ntags = 0;
	char	   *routing_key = NULL;
	char	  **queues;
	int			nqueues = 0;
	char	   *name = pstrdup(topic->name);
	Oid			relid = topic->relid;
	TimestampTz *times = palloc(n * sizeof(TimestampTz));

	/* who gives what the topic does not filter by expects that it does */
	if (!PG_ARGISNULL(topic->routing ? 2 : 3))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be NULL for topic \"%s\"",
						topic->routing ? "tags" : "routing_key", topic->name),
				 topic->routing ?
				 errdetail("The topic is of type routing: it filters by routing key.") :
				 errdetail("The topic is of type tag: it filters by tags."),
				 topic->routing ?
				 errhint("Give a routing_key and no tags, or publish to a topic of type tag.") :
				 errhint("Give tags and no routing_key, or publish to a topic of type routing.")));
	if (!PG_ARGISNULL(2))
		ntags = cmq_filter_elements(PG_GETARG_ARRAYTYPE_P(2), "tags",
									topic->name, cmq_filter_check_tag, &tags);
	if (!PG_ARGISNULL(3))
	{
		routing_key = text_to_cstring(PG_GETARG_TEXT_PP(3));
		cmq_filter_check_key(routing_key, "routing_key", topic->name);
	}
	else if (topic->routing)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("routing_key must not be NULL for topic \"%s\"",
						topic->name),
				 errdetail("The topic filters by routing key.")));
	for (int i = 0; i < n; i++)
	{
		headers[i] = add_headers(topic->name, headers[i], headers_null[i],
								 ntags, tags, routing_key);
		headers_null[i] = false;
	}

	/* opening a queue may change the cached topic */
	queues = palloc(topic->nsubscriptions * sizeof(char *));
	for (int i = 0; i < topic->nsubscriptions; i++)
	{
		if (wants(topic, &topic->subscriptions[i], ntags, tags, routing_key))
			queues[nqueues++] = pstrdup(topic->subscriptions[i].queue);
	}
	for (int i = 0; i < nqueues; i++)
	{
		CmqQueue   *queue;

		cmq_queue_wait_for(queues[i]);
		topic = lookup_topic(name);
		if (topic->relid != relid)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("topic \"%s\" was dropped while a call was using it",
							name)));
		cmq_topic_check_acl(name, relid, ACL_INSERT);
		if (!queue_wants(topic, queues[i], ntags, tags, routing_key))
			continue;
		/* gone, but for its subscription: see cmq_gone.c */
		if (cmq_queue_find(queues[i]) == NULL)
			continue;
		queue = cmq_queue_open(queues[i], ACL_NO_RIGHTS, RowExclusiveLock);
		for (int j = 0; j < n; j++)
		{
			cmq_send_check_body(queue, bodies[j], false);
			cmq_send_check_headers(queue, headers[j], CMQ_HEADERS_ADDED);
		}
		cmq_send_check_room(queue, n);
		cmq_send_as_owner(queue, n, bodies, headers, headers_null, times);
		for (int j = 0; j < n; j++)
		{
			Datum		values[2];
			bool		isnull[2] = {false, false};

			values[0] = CStringGetTextDatum(queues[i]);
			values[1] = Int64GetDatum(cmq_time_to_msg_id(times[j]));
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
								 isnull);
		}
	}
}

/* The topic that the first argument names, if the caller may publish. */
static Topic *
open_topic(FunctionCallInfo fcinfo)
{
	Topic	   *topic;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic must not be NULL")));
	topic = lookup_topic(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	cmq_topic_check_acl(topic->name, topic->relid, ACL_INSERT);
	return topic;
}

static void
check_body(Topic *topic, Datum body, bool isnull)
{
	if (isnull || toast_raw_datum_size(body) == VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("body must not be %s for topic \"%s\"",
						isnull ? "NULL" : "empty", topic->name)));
}

Datum
cmq_publish(PG_FUNCTION_ARGS)
{
	Topic	   *topic;
	Datum		body;
	Datum		headers;
	bool		headers_null = PG_ARGISNULL(4);

	cmq_begin_write("cmq_publish()");
	InitMaterializedSRF(fcinfo, 0);
	topic = open_topic(fcinfo);
	check_body(topic, PG_GETARG_DATUM(1), PG_ARGISNULL(1));
	body = PG_GETARG_DATUM(1);
	headers = PG_GETARG_DATUM(4);
	publish(fcinfo, topic, 1, &body, &headers, &headers_null);
	return (Datum) 0;
}

Datum
cmq_publish_batch(PG_FUNCTION_ARGS)
{
	Topic	   *topic;
	Datum	   *bodies;
	bool	   *bodies_null;
	Datum	   *headers;
	bool	   *headers_null;
	int			n;

	cmq_begin_write("cmq_publish_batch()");
	InitMaterializedSRF(fcinfo, 0);
	topic = open_topic(fcinfo);
	cmq_require_arg(fcinfo, 1, "bodies", "topic", topic->name);
	n = cmq_array_arg(PG_GETARG_DATUM(1), TEXTOID, "bodies", "topic",
					  topic->name, &bodies, &bodies_null);
	for (int i = 0; i < n; i++)
		check_body(topic, bodies[i], bodies_null[i]);
	if (PG_ARGISNULL(4))
	{
		headers = palloc0(Max(n, 1) * sizeof(Datum));
		headers_null = palloc(Max(n, 1) * sizeof(bool));
		memset(headers_null, true, n * sizeof(bool));
	}
	else
	{
		int			nheaders = cmq_array_arg(PG_GETARG_DATUM(4), JSONBOID,
											 "headers", "topic", topic->name,
											 &headers, &headers_null);

		if (nheaders != n)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("bodies and headers differ in number for topic \"%s\"",
							topic->name),
					 errdetail("There are %d bodies and %d headers.", n,
							   nheaders)));
	}
	if (n > 0)
		publish(fcinfo, topic, n, bodies, headers, headers_null);
	return (Datum) 0;
}
