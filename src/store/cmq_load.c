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

#include "base/cmq_names.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_load.h"
#include "store/cmq_target.h"
#include "store/cmq_triggers.h"

/*
 * What is wrong with a relation of the queue; NULL if nothing is.  The first
 * relation without a fault sets the owner.
 */
static const char *
find_fault(CmqDescription *queue, Oid relid, CmqRelation which)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	const char *schema = cmq_relation_schema(which);
	const char *relname = cmq_relation_name(which, queue->name);
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

/*
 * Load a description.  NULL if there is no such queue, if it is gone (cmq_gone.c), or
 * if it is damaged; in the last case *fault says why.
 */
CmqDescription *
cmq_load_queue(const char *name, CmqFault *fault)
{
	CmqDescription *queue = palloc(sizeof(CmqDescription));

	fault->fact = NULL;
	if (!cmq_catalog_find_queue(queue, name) || cmq_catalog_is_gone(queue) ||
		!is_whole(queue, fault))
		return NULL;
	queue->is_target = cmq_target_is_queue(queue);
	cmq_triggers_load(queue);
	return queue;
}
