/*-------------------------------------------------------------------------
 *
 * cmq_load.c
 *	  What a queue consists of, and what is wrong with one that is damaged.
 *
 * A relation is the queue's if it has the OID that the queue's row says, the name and
 * schema that belong to that place, and the owner that all relations of the queue have.
 * A relation that somebody has made in the place of another is not the queue's.
 *
 * Locks: none but those of catalog scans.  Nothing is changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_names.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_journal_rows.h"
#include "store/cmq_load.h"
#include "store/cmq_target.h"
#include "store/cmq_triggers.h"

/* Of a topic that nobody has subscribed to, in seconds. */
#define RETENTION_WITHOUT_QUEUES (4 * SECS_PER_DAY)

/*
 * What is wrong with a relation of the queue; NULL if nothing is.  The first
 * relation without a fault sets the owner.
 */
static const char *
find_fault(CmqDescription *queue, Oid relid, CmqRelation which)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	const char *schema = cmq_relation_schema(which);
	const char *relname = cmq_relation_name(which, cmq_plain_name(queue));
	const char *full_name = quote_qualified_identifier(schema, relname);
	const char *fact = NULL;
	Form_pg_class form;

	if (!HeapTupleIsValid(tuple))
		return psprintf("Its relation %s does not exist.", full_name);
	form = (Form_pg_class) GETSTRUCT(tuple);
	if (form->relnamespace != get_namespace_oid(schema, true) ||
		strcmp(NameStr(form->relname), relname) != 0)
		fact = psprintf("Its relation %s has another name or schema now.",
						full_name);
	else if (!OidIsValid(queue->owner))
		queue->owner = form->relowner;
	else if (form->relowner != queue->owner)
		fact = psprintf("Its relation %s has another owner than the others.",
						full_name);
	ReleaseSysCache(tuple);
	return fact;
}

/*
 * Is this relation the queue's?  The description is one of cmq_catalog_find_queue(); the
 * first relation that is the queue's sets the owner.
 */
bool
cmq_load_has_relation(CmqDescription *queue, Oid relid, CmqRelation which)
{
	return find_fault(queue, relid, which) == NULL;
}

static bool
is_whole(CmqDescription *queue, CmqFault *fault)
{
	const struct
	{
		Oid			relid;
		CmqRelation which;
	}			relations[] = {
		{queue->relid, CMQ_RIGHTS},
		{queue->messages, CMQ_MESSAGES_TABLE},
		{queue->pending, CMQ_PENDING_TABLE},
		{queue->rewind, CMQ_REWIND_TABLE}
	};

	for (int i = 0; i < lengthof(relations); i++)
	{
		Oid			relid = relations[i].relid;

		fault->fact = find_fault(queue, relid, relations[i].which);
		if (fault->fact == NULL)
			continue;
		fault->hint = SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) ?
			"Give the relation its name and owner back, or drop the queue." :
			"Drop the queue.";
		return false;
	}
	return cmq_catalog_load_leaves(queue, &fault->fact, &fault->hint);
}

/* What is in journals for the queue. */
static void
load_receivers(CmqDescription *queue)
{
	ListCell   *lc;

	queue->published_since = DT_NOBEGIN;
	foreach(lc, cmq_receiver_list(queue->name, NULL))
	{
		queue->has_journals = true;
		queue->published_since = Max(queue->published_since,
									 ((CmqReceiver *) lfirst(lc))->since);
	}
}

/*
 * Load a journal.  Its table stands for all that a queue has.  Its leaves are as wide as
 * those of the queue that keeps messages longest.
 */
static CmqDescription *
load_journal(CmqDescription *journal, const char *name, CmqFault *fault)
{
	ListCell   *lc;

	if (!cmq_journal_find_row(journal, name) ||
		!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(journal->messages)))
		return NULL;
	journal->is_journal = journal->ordered = true;
	journal->relid = journal->pending = journal->rewind = journal->messages;
	fault->fact = find_fault(journal, journal->messages, CMQ_JOURNAL_TABLE);
	if (fault->fact)
	{
		fault->hint = "Give the relation its name and owner back.";
		return NULL;
	}
	foreach(lc, cmq_receiver_list(NULL, name))
	{
		CmqDescription queue;

		if (cmq_catalog_find_queue(&queue, ((CmqReceiver *) lfirst(lc))->queue))
			journal->msg_retention_seconds = Max(journal->msg_retention_seconds,
												 queue.msg_retention_seconds);
	}
	if (journal->msg_retention_seconds == 0)
		journal->msg_retention_seconds = RETENTION_WITHOUT_QUEUES;
	(void) cmq_catalog_load_leaves(journal, NULL, NULL);
	journal->is_target = cmq_target_is_queue(journal);
	return journal;
}

/*
 * Load a description.  NULL if there is no such queue, if it is gone (cmq_gone.c), or
 * if it is damaged; in the last case *fault says why.
 */
CmqDescription *
cmq_load_queue(const char *name, CmqFault *fault)
{
	CmqDescription *queue = palloc(sizeof(CmqDescription));

	fault->fact = NULL;
	if (cmq_is_journal_name(name))
		return load_journal(queue, name, fault);
	if (!cmq_catalog_find_queue(queue, name) || cmq_catalog_is_gone(queue) ||
		!is_whole(queue, fault))
		return NULL;
	queue->is_target = cmq_target_is_queue(queue);
	load_receivers(queue);
	cmq_triggers_load(queue);
	return queue;
}
