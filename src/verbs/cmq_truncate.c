/*-------------------------------------------------------------------------
 *
 * cmq_truncate.c
 *	  The trigger that refuses to truncate tables of a queue.
 *
 * A message lies in several tables, and a truncate of one of them leaves the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "memory/cmq_shared.h"
#include "store/cmq_description.h"
#include "store/cmq_queue.h"

PG_FUNCTION_INFO_V1(cmq_no_truncate);

/* Is this a table of the queue, or a leaf?  keys: of keys. */
static bool
has_table(CmqQueue *queue, Oid relid, bool *keys)
{
	*keys = OidIsValid(queue->dedup) && relid == queue->dedup;
	for (int i = 0; i < queue->nleaves; i++)
		*keys |= relid == queue->leaves[i].dedup;
	if (*keys || relid == queue->messages || relid == queue->pending ||
		relid == queue->rewind)
		return true;
	for (int i = 0; i < queue->nleaves; i++)
	{
		if (relid == queue->leaves[i].messages ||
			relid == queue->leaves[i].rewind)
			return true;
	}
	return false;
}

/* The trigger; its argument is the name of the queue. */
Datum
cmq_no_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	CmqQueue   *queue;
	bool		keys;

	if (!CALLED_AS_TRIGGER(fcinfo) || trigger->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cmq._no_truncate can only be the trigger that cmq_create_queue makes")));
	cmq_require_preload();

	/* a detached partition, and a table of no queue, may be truncated */
	queue = cmq_queue_find_whole(trigger->tg_trigger->tgargs[0]);
	if (queue && queue->is_journal &&
		has_table(queue, RelationGetRelid(trigger->tg_relation), &keys))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" of topic \"%s\" cannot be truncated",
						RelationGetRelationName(trigger->tg_relation),
						cmq_plain_name(queue)),
				 errdetail("Queues have messages there."),
				 errhint("It is dropped by itself, partition by partition, when no queue needs them any more.")));
	if (queue && has_table(queue, RelationGetRelid(trigger->tg_relation), &keys))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" of queue \"%s\" cannot be truncated",
						RelationGetRelationName(trigger->tg_relation), queue->name),
				 keys ?
				 errdetail("Messages that were sent once could be sent again.") :
				 errdetail("A message lies in several tables."),
				 keys ?
				 errhint("Forget all keys: SELECT cmq_alter_queue(%1$s, dedup_seconds => 0); and keep new ones by setting it back.",
						 quote_literal_cstr(queue->name)) :
				 errhint("Remove what is pending: SELECT cmq_clear_queue(%1$s); and the history, by switching rewind off and on again: SELECT cmq_alter_queue(%1$s, rewind_seconds => 0);",
						 quote_literal_cstr(queue->name))));
	return PointerGetDatum(NULL);
}
