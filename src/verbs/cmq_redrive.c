/*-------------------------------------------------------------------------
 *
 * cmq_redrive.c
 *	  Send dead letters back to the queues they came from.
 *
 * A redrive sends a message to the queue that its headers name.  Every role that may
 * send to the dead-letter queue can write these headers.  So the message goes only to a
 * queue whose dead letters come here and on which the caller has INSERT, within
 * its limits, and is written as that queue's owner.  What cannot be sent back
 * stays, whatever the reason, and stops no other.
 *
 * Which letters are meant, and where they are, is said by cmq_redrive_list.c.  Without
 * filter and ids a redrive takes what comes, as a receive does, and needs the right of
 * one; who chooses manages the queue.  Letters that a rewind under way brings back are
 * ready like any other.
 *
 * Letters are listed and sent back in chunks, each in a subtransaction with a limit of
 * time, because code of the queues' owners runs in it.  A queue whose code fails, and an
 * owner whose code takes too long, are left out of the rest of the call (blame()).
 *
 * Locks: RowExclusive on the pending tables of both queues, and on the leaves that are
 * written.  That mode does not conflict with itself, so moves to the dead-letter queue and
 * from it may take them in any order.
 *
 * Abort: a chunk that fails is undone, and tried again without the queue or owner to
 * blame.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/cmq_args.h"
#include "base/cmq_group.h"
#include "base/cmq_handle.h"
#include "base/cmq_headers.h"
#include "base/cmq_limit.h"
#include "base/cmq_try.h"
#include "base/cmq_uses.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_shared.h"
#include "store/cmq_description.h"
#include "store/cmq_due.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_leaf_rows.h"
#include "store/cmq_owner.h"
#include "store/cmq_pending.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "verbs/cmq_dead_letter.h"
#include "verbs/cmq_delete.h"
#include "verbs/cmq_redrive_list.h"
#include "verbs/cmq_outgoing.h"

/* How many are sent back in one subtransaction. */
#define CHUNK 500

/* How long that may take, in milliseconds. */
#define REDRIVE_LIMIT 5000

PG_FUNCTION_INFO_V1(cmq_redrive);

/*
 * The group of the dead letter in the slot: the one that it has here, or else as its
 * headers say, which are all that a letter from a replay may have; what no group can be
 * called, and so has been forged, is none.
 */
static bool
get_group(TupleTableSlot *slot, Datum headers, Datum *group)
{
	bool		isnull;
	char	   *name;

	*group = cmq_slot_group_name(slot, &isnull);
	if (!isnull)
	{
		*group = PointerGetDatum(PG_DETOAST_DATUM_COPY(*group));
		return true;
	}
	name = cmq_headers_get(headers, CMQ_DEAD_LETTER_HEADER, CMQ_GROUP_MEMBER);
	if (name == NULL || name[0] == '\0' || strlen(name) > CMQ_GROUP_MAX)
		return false;
	*group = CStringGetTextDatum(name);
	return true;
}

/* A redrive. */
typedef struct Redrive
{
	char	   *name;			/* of the dead-letter queue */
	Oid			owner;			/* of that queue */
	Oid			caller;
	List	   *failed;			/* names of queues whose code has failed */
	List	   *slow;			/* owners whose code has taken too long */
	CmqUses		uses;			/* in this call; the dead-letter queue is the
								 * host */
	const CmqLetter *letters;	/* of this chunk */
	int			n;
	int			sent;
	int			left;
	int			gone;			/* taken by others since they were listed */
	char		source[NAMEDATALEN];	/* the queue being sent to */
} Redrive;

/*
 * The owner whose code a send to this queue runs; InvalidOid if that is the caller, the
 * owner of the dead-letter queue or a superuser.
 */
static Oid
get_guest(const Redrive *redrive, CmqQueue *source)
{
	return source->owner == redrive->caller || source->owner == redrive->owner ||
		superuser_arg(source->owner) ? InvalidOid : source->owner;
}

/*
 * Lock the queue that a dead letter may be sent back to.  NULL if the message is no dead
 * letter, that queue is gone, is left out or has another dead-letter queue now, or the
 * caller has no INSERT on it.
 */
static CmqQueue *
open_source(Redrive *redrive, const char *name)
{
	CmqQueue   *source;

	if (name == NULL || strcmp(name, redrive->name) == 0 ||
		list_member(redrive->failed, makeString(unconstify(char *, name))))
		return NULL;
	strlcpy(redrive->source, name, NAMEDATALEN);
	source = cmq_queue_find(name);
	for (int i = 0; i < 2; i++)
	{
		/* before the wait for the lock, and after it */
		if (source == NULL ||
			list_member_oid(redrive->slow, source->owner) ||
			strcmp(source->dead_letter_queue, redrive->name) != 0 ||
			pg_class_aclcheck(source->relid, redrive->caller,
							  ACL_INSERT) != ACLCHECK_OK)
			return NULL;
		if (i == 0)
		{
			cmq_uses_guest(&redrive->uses, get_guest(redrive, source), 0);
			LockRelationOid(source->pending, RowExclusiveLock);
			source = cmq_queue_again(source);
			cmq_uses_guest(&redrive->uses, InvalidOid, 0);
		}
	}
	return source;
}

/* The tables of the dead-letter queue that a chunk reads and writes. */
typedef struct Chunk
{
	CmqDelete	deletes;
	CmqLeafRows rewind;			/* to take due rows from */
	CmqMessageRows messages;
} Chunk;

/*
 * Is the letter still there, and nobody else taking it?  Then the pending table stands at
 * its row, or chunk->rewind.table does if it is due.
 */
static bool
find_letter(Chunk *chunk, const CmqLetter *letter)
{
	CmqTable   *pending = &chunk->deletes.pending.table;
	CmqTable   *rewind = &chunk->rewind.table;

	if (letter->due)
		return cmq_leaf_rows_find(&chunk->rewind, letter->key.enqueued_at) &&
			!rewind->busy &&
			cmq_slot_is_due(&chunk->rewind.queue->rewinding, rewind->slot);
	return cmq_table_find(pending, letter->key.visible_at, letter->key.enqueued_at) &&
		!pending->busy;
}

/* Delete the letter that was found; false if it stays. */
static bool
delete_letter(Chunk *chunk, const CmqLetter *letter)
{
	CmqPendingRow row;

	return letter->due ?
		cmq_delete_due(&chunk->deletes, &chunk->rewind.table, false, &row) :
		cmq_delete_row(&chunk->deletes, false);
}

/* Send the dead letter that was found back; false if it stays. */
static bool
redrive_letter(Redrive *redrive, Chunk *chunk, const CmqLetter *letter)
{
	TupleTableSlot *slot;
	char		topic[NAMEDATALEN];
	CmqQueue   *source;
	Datum		body;
	Datum		headers;
	bool		isnull;
	Datum		group;
	bool		no_group;
	CmqOutgoing out = {
		.n = 1,
		.bodies = &body,
		.headers = &headers,
		.headers_null = &isnull,
		.groups_null = &no_group
	};

	if (letter->due)
		cmq_slot_topic(chunk->rewind.table.slot, Anum_rewind_topic, topic);
	else
		cmq_slot_topic(chunk->deletes.pending.table.slot, Anum_pending_topic, topic);
	if (!cmq_message_rows_find(&chunk->messages, letter->key.enqueued_at, topic))
		return false;
	slot = chunk->messages.slot;
	headers = slot_getattr(slot, Anum_messages_headers, &isnull);
	source = isnull ? NULL :
		open_source(redrive, cmq_headers_get(headers, CMQ_DEAD_LETTER_HEADER, "queue"));
	if (source == NULL)
		return false;
	no_group = !get_group(slot, headers, &group);
	out.groups = source->ordered ? &group : NULL;
	body = PointerGetDatum(PG_DETOAST_DATUM_COPY(cmq_slot_body(slot)));
	headers = DirectFunctionCall2(jsonb_delete, headers,
								  CStringGetTextDatum(CMQ_DEAD_LETTER_HEADER));
	if (!cmq_dead_letter_fits(source, body, headers) ||
		!delete_letter(chunk, letter))
		return false;
	isnull = JB_ROOT_COUNT(DatumGetJsonbP(headers)) == 0;
	cmq_uses_guest(&redrive->uses, get_guest(redrive, source),
				   toast_raw_datum_size(body) + toast_raw_datum_size(headers));
	cmq_outgoing_write_as_owner(source, &out, 0, NULL);
	cmq_uses_guest(&redrive->uses, InvalidOid, 0);
	return true;
}

/*
 * Send letters back.  Called in a subtransaction (cmq_limited()): an error undoes all of
 * it.  The letters are deleted as the owner of the dead-letter queue, whose code may run
 * then; deleted_by names the caller.
 */
static void
redrive_letters(const char *name, void *arg)
{
	Redrive    *redrive = arg;
	CmqQueue   *queue = cmq_queue_lookup(name, ACL_NO_RIGHTS);
	Chunk		chunk;
	MemoryContext context;
	MemoryContext old;
	CmqOwnerScope scope;

	redrive->sent = redrive->left = redrive->gone = 0;
	redrive->source[0] = '\0';
	cmq_queue_attach(queue);
	cmq_delete_begin(&chunk.deletes, queue, false);
	cmq_leaf_rows_begin(&chunk.rewind, queue, CMQ_REWIND, RowExclusiveLock, NULL);
	cmq_message_rows_begin(&chunk.messages, queue, cmq_leaf_rows_delete_lock(queue));
	cmq_owner_enter(&scope, queue->owner);
	context = AllocSetContextCreate(CurrentMemoryContext, "cmq redrive",
									ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < redrive->n; i++)
	{
		const CmqLetter *letter = &redrive->letters[i];

		CHECK_FOR_INTERRUPTS();
		if (!find_letter(&chunk, letter))
		{
			redrive->gone++;
			continue;
		}
		old = MemoryContextSwitchTo(context);
		if (redrive_letter(redrive, &chunk, letter))
			redrive->sent++;
		else
			redrive->left++;
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
	cmq_message_rows_end(&chunk.messages);
	cmq_leaf_rows_end(&chunk.rewind);
	cmq_delete_end(&chunk.deletes);
	cmq_owner_leave(&scope);
}

/*
 * A try was undone.  After an error the call leaves out the queue that was being sent to;
 * after the end of the time, the queues of the owner whose code took most of it.  If no
 * owner did, the next try is for half as many letters.  Raises an error if there is
 * nothing more to leave out.
 */
static void
blame(Redrive *redrive, bool over)
{
	Oid			slow = cmq_uses_most(&redrive->uses, REDRIVE_LIMIT / 2 * 1000,
									 redrive->slow);

	if (over && OidIsValid(slow))
		redrive->slow = lappend_oid(redrive->slow, slow);
	else if (over && redrive->n > 1)
		redrive->n /= 2;
	else if (!over && redrive->source[0] != '\0' &&
			 !list_member(redrive->failed, makeString(redrive->source)))
		redrive->failed = lappend(redrive->failed,
								  makeString(pstrdup(redrive->source)));
	else
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("dead letters of queue \"%s\" cannot be sent back",
						redrive->name),
				 errdetail("The warning before this says why.")));
}

/* Send the letters of a chunk back, or its first ones: then the rest is the next chunk. */
static void
redrive_chunk(Redrive *redrive)
{
	bool		over;
	Oid			slow;

	while (!cmq_limited(REDRIVE_LIMIT, redrive->name, "redrive",
						redrive_letters, redrive, CMQ_TRY_WARN, &over))
	{
		cmq_uses_guest(&redrive->uses, InvalidOid, 0);
		blame(redrive, over);
	}
	/* code may end in time, but take much of it for every chunk */
	slow = cmq_uses_most(&redrive->uses, REDRIVE_LIMIT * 1000, redrive->slow);
	if (OidIsValid(slow))
		redrive->slow = lappend_oid(redrive->slow, slow);
}

/* Lock the dead-letter queue.  A filter says something about what it contains. */
static CmqQueue *
open_queue(FunctionCallInfo fcinfo)
{
	char	   *name = cmq_queue_name_arg(fcinfo, 0);
	bool		by_filter = !PG_ARGISNULL(2);
	bool		by_ids = !PG_ARGISNULL(3);
	AclMode		mode = by_filter || by_ids ? ACL_UPDATE : ACL_DELETE;
	CmqQueue   *queue = cmq_queue_lookup(name, mode);

	if (by_filter)
		cmq_rights_check_acl(queue, ACL_SELECT);
	queue = cmq_queue_open(name, mode, RowExclusiveLock);
	if (by_filter)
		cmq_rights_check_acl(queue, ACL_SELECT);
	return queue;
}

/* Tell what was chosen and not sent back: missing are ids of no ready message. */
static void
report_left(const Redrive *redrive, const CmqRedriveList *list, int64 missing, int64 left)
{
	if (list->has_ids && missing > 0)
		ereport(NOTICE,
				(errmsg("%lld of %d messages are not ready in queue \"%s\"",
						(long long) missing, list->nids, redrive->name),
				 errdetail("They are unknown, consumed, delayed, in flight or expired, or another transaction is changing them.")));
	if (left > 0)
		ereport(NOTICE,
				(errmsg("%lld messages of queue \"%s\" were left where they are",
						(long long) left, redrive->name),
				 errdetail("They are no dead letters, or the queue they came from does not exist any more, has another dead-letter queue now, grants you no INSERT, is full, takes no messages of that size, or fails.")));
}

Datum
cmq_redrive(PG_FUNCTION_ARGS)
{
	CmqQueue   *queue;
	Redrive    *redrive = palloc0(sizeof(Redrive));
	CmqRedriveList list;
	int64		max_messages = PG_INT64_MAX;
	int64		n = 0;
	int64		left = 0;
	int64		missing;

	cmq_begin_write("cmq_redrive()");
	queue = open_queue(fcinfo);
	if (!PG_ARGISNULL(1))
		max_messages = PG_GETARG_INT32(1);
	if (max_messages < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_messages is out of range for queue \"%s\": %lld",
						queue->name, (long long) max_messages),
				 errdetail("It must be at least 1, or NULL for all.")));
	cmq_redrive_list_args(&list, fcinfo, 2, 3, queue);

	redrive->name = pstrdup(queue->name);
	redrive->owner = queue->owner;
	redrive->caller = GetUserId();
	cmq_uses_init(&redrive->uses, CurrentMemoryContext);
	cmq_redrive_list_begin(&list, queue, cmq_clock_now(queue->shared), CHUNK);
	missing = list.nmissing;
	while (n < max_messages)
	{
		redrive->n = cmq_redrive_list_next(&list, queue, redrive->n,
										   (int) Min(max_messages - n, CHUNK),
										   &redrive->letters);
		if (redrive->n == 0)
			break;
		redrive_chunk(redrive);
		n += redrive->sent;
		left += redrive->left;
		missing += redrive->gone;
		queue = cmq_queue_again(queue);
	}
	report_left(redrive, &list, missing, left);
	PG_RETURN_INT64(n);
}
