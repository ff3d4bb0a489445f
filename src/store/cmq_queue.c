/*-------------------------------------------------------------------------
 *
 * cmq_queue.c
 *	  The ways to get at a queue: description, lock, right, shared entry.
 *
 * "None" is a queue that is not there, or gone (cmq_gone.c).  "Another" is a queue that
 * has the name once the lock is there: the one looked up was dropped while the caller
 * waited.
 *
 * call                  who                   lock     right  none   damaged  another
 * --------------------  --------------------  -------  -----  -----  -------  -------
 * cmq_queue_lookup      looks                 none     mode   42704  55000    -
 * cmq_queue_find        looks that go on      none     none   NULL   55000    -
 * cmq_queue_find_whole  the same              none     none   NULL   NULL     -
 * cmq_queue_open        traffic, reports      pending  mode   42704  55000    taken
 * cmq_queue_open_found  the same, looked up   pending  mode   42704  55000    taken
 * cmq_queue_reopen      a receive that waits  pending  mode   NULL   55000    NULL
 * cmq_queue_again       the midst of a call   (has)    none   55006  55000    55006
 * cmq_queue_wait_for    who has a binding     pending  none   -      55000    -
 * cmq_queue_lock        management            queue    mode   42704  55000    taken
 * cmq_queue_try_lock    maintenance           queue    none   NULL   55000    NULL
 * cmq_catalog_lock_queue  drop, unbind, gone  queue    check  NONE   taken    taken
 * cmq_catalog_find_queue  rows in any state   none     none   false  taken    -
 *
 * Rights are checked before the wait for a lock, so that a role without them holds up
 * nobody, and after it if the queue was loaded again meanwhile: the right may be gone by
 * then, or the queue be another one.  A receive that waits had the right before.
 * A caller that gets NULL has no lock.  cmq_queue_try_lock does not wait, and returns
 * NULL if another transaction has the lock.  Monitoring does not wait either: it finds a
 * queue, and tries to lock each of its tables (cmq_lock_to_look()).
 *
 * Without a lock the next look-up may return another queue of that name; under a lock
 * the queue stays the same.  The lock on the pending table, which hot paths take by
 * cmq_queue_open, also keeps rewind from being switched on or off.
 *
 * cmq_queue_open, _open_found, _reopen, _again, _try_lock and _now attach the shared entry,
 * which stays to the end of the transaction.  So do locks.
 *
 * Locks of a queue, in the order in which they are taken:
 *	1. the queue lock (cmq_queue_lock), an object lock: rewind, cancel, restore,
 *	   clear, pause, alter, drop and the maintenance steps that change the queue's
 *	   row take it exclusive
 *	2. the pending table: RowExclusive for traffic; ShareRowExclusive to
 *	   switch rewind on or off, to change the retention and to drop, then
 *	   AccessExclusive to drop (cmq_lock.c)
 *	3. the partitioned parents: not by traffic, but that a send without a leaf
 *	   takes AccessShare; ShareUpdateExclusive to attach a leaf;
 *	   AccessExclusive to drop one
 *	4. leaf tables, in any order: nobody waits to have one alone
 * and AccessShare on cmq.queue and cmq.partition, to read them, any time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "memory/cmq_clock.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_types.h"
#include "memory/cmq_xact.h"
#include "store/cmq_cache.h"
#include "store/cmq_catalog.h"
#include "store/cmq_description.h"
#include "store/cmq_journal.h"
#include "store/cmq_journal_rows.h"
#include "store/cmq_orphan.h"
#include "store/cmq_queue.h"
#include "store/cmq_rights.h"
#include "store/cmq_scan.h"
#include "store/cmq_shape.h"
#include "store/cmq_table.h"
#include "store/cmq_triggers.h"

/* Raise 42704; says what the caller may have meant. */
void
cmq_queue_report_unknown(const char *name)
{
	char	   *existing;
	char	   *detail;
	char	   *hint;
	bool		other_case = cmq_catalog_name_taken(name, &existing) &&
		strcmp(existing, name) != 0;

	cmq_orphan_explain(name, &detail, &hint);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("queue \"%s\" does not exist", name),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) :
			 other_case ?
			 errhint("There is a queue \"%s\": case matters.", existing) :
			 errhint("The view cmq.queues lists the queues that you may use.")));
}

/* A look without a lock: NULL if there is no such queue. */
CmqQueue *
cmq_queue_find(const char *name)
{
	return cmq_cache_find(name, true);
}

/* The same; NULL also if the queue is damaged. */
CmqQueue *
cmq_queue_find_whole(const char *name)
{
	return cmq_cache_find(name, false);
}

/* The same for a caller who needs the queue, and this right on it. */
CmqQueue *
cmq_queue_lookup(const char *name, AclMode mode)
{
	CmqQueue   *queue = cmq_queue_find(name);

	if (queue == NULL)
		cmq_queue_report_unknown(name);
	cmq_rights_check_acl(queue, mode);
	return queue;
}

/*
 * The current description of a queue that the caller has been using, and has locked.
 * Code of an owner's that ran in the midst of the call may have dropped the queue, and
 * made another one of its name.
 */
CmqQueue *
cmq_queue_again(CmqQueue *queue)
{
	CmqQueue   *now = cmq_queue_find(queue->name);

	if (now == NULL || now->pending != queue->pending)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("%s \"%s\" was dropped while a call was using it",
						cmq_kind(queue), cmq_plain_name(queue))));
	cmq_queue_attach(now);
	return now;
}

/* The two locks by which a queue is kept. */
typedef enum Lock
{
	QUEUE_LOCK,
	PENDING_LOCK
} Lock;

/* False if another transaction has the queue lock and the caller does not wait. */
static bool
take(Lock lock, Oid relid, LOCKMODE lockmode, bool wait)
{
	if (lock == PENDING_LOCK)
		LockRelationOid(relid, lockmode);
	else if (wait)
		LockDatabaseObject(RelationRelationId, relid, 0, lockmode);
	else
		return ConditionalLockDatabaseObject(RelationRelationId, relid, 0,
											 lockmode);
	return true;
}

static void
release(Lock lock, Oid relid, LOCKMODE lockmode)
{
	if (lock == PENDING_LOCK)
		UnlockRelationOid(relid, lockmode);
	else
		UnlockDatabaseObject(RelationRelationId, relid, 0, lockmode);
}

/*
 * Lock a queue that has been looked up, and look again.  NULL, without the lock, if
 * the queue is not there any more, or if another transaction has the lock and the caller
 * does not wait.
 */
static CmqQueue *
lock_and_look(CmqQueue *queue, Lock lock, LOCKMODE lockmode, bool wait)
{
	Oid			relid = lock == PENDING_LOCK ? queue->pending : queue->relid;
	CmqQueue   *now;

	if (!take(lock, relid, lockmode, wait))
		return NULL;
	now = cmq_queue_find(queue->name);
	if (now && relid == (lock == PENDING_LOCK ? now->pending : now->relid))
		return now;
	release(lock, relid, lockmode);
	return NULL;
}

/* The same for whichever queue has the name, if the caller has the right on that one. */
static CmqQueue *
lock_checked(CmqQueue *queue, AclMode mode, Lock lock, LOCKMODE lockmode)
{
	for (;;)
	{
		uint64		nloads = cmq_cache_nloads();
		CmqQueue   *now;

		cmq_rights_check_acl(queue, mode);
		now = lock_and_look(queue, lock, lockmode, true);
		if (now)
		{
			/* a REVOKE has it loaded again: only then traffic looks twice */
			if (lock == QUEUE_LOCK || now != queue ||
				nloads != cmq_cache_nloads())
				cmq_rights_check_acl(now, mode);
			return now;
		}
		/* dropped, and perhaps made anew, while we waited */
		queue = cmq_queue_lookup(queue->name, ACL_NO_RIGHTS);
	}
}

/* Traffic, for a queue that has just been looked up. */
CmqQueue *
cmq_queue_open_found(CmqQueue *queue, AclMode mode, LOCKMODE lockmode)
{
	queue = lock_checked(queue, mode, PENDING_LOCK, lockmode);
	cmq_queue_attach(queue);
	return queue;
}

/* Traffic: the lock on the pending table, until the end of the transaction. */
CmqQueue *
cmq_queue_open(const char *name, AclMode mode, LOCKMODE lockmode)
{
	return cmq_queue_open_found(cmq_queue_lookup(name, ACL_NO_RIGHTS), mode,
								lockmode);
}

/*
 * The same for a queue that the caller has had open before, and of which it holds
 * the shared entry.
 */
CmqQueue *
cmq_queue_reopen(CmqQueue *queue, AclMode mode, LOCKMODE lockmode)
{
	queue = lock_and_look(queue, PENDING_LOCK, lockmode, true);
	if (queue)
	{
		cmq_rights_check_acl(queue, mode);
		cmq_queue_attach(queue);
	}
	return queue;
}

/*
 * Wait for the end of a drop, if one is under way, of a queue that a binding or a
 * subscription names.  Then the caller looks whether that is still there, which does not
 * change before the end of the transaction, and opens the queue: it may be another one
 * of that name.
 */
void
cmq_queue_wait_for(const char *name)
{
	CmqQueue   *queue = cmq_queue_find(name);

	if (queue)
		LockRelationOid(queue->pending, RowExclusiveLock);
}

/* Management: the queue lock, until the end of the transaction. */
CmqQueue *
cmq_queue_lock(const char *name, AclMode mode, LOCKMODE lockmode)
{
	return lock_checked(cmq_queue_lookup(name, ACL_NO_RIGHTS), mode, QUEUE_LOCK,
						lockmode);
}

/* Maintenance: the queue lock, exclusive, if nobody has it. */
CmqQueue *
cmq_queue_try_lock(CmqQueue *queue)
{
	queue = lock_and_look(queue, QUEUE_LOCK, ExclusiveLock, false);
	if (queue)
		cmq_queue_attach(queue);
	return queue;
}

/* The newest time in the leaves of this kind; DT_NOBEGIN if there is none. */
static TimestampTz
newest_of(CmqQueue *queue, CmqTableKind kind)
{
	for (int i = queue->nleaves - 1; i >= 0; i--)
	{
		CmqLeaf    *leaf = &queue->leaves[i];
		CmqTable	table;
		TimestampTz newest;

		if (!cmq_table_open(&table, NULL, queue,
							kind == CMQ_REWIND ? leaf->rewind : leaf->messages, kind,
							AccessShareLock))
			continue;
		newest = cmq_table_newest(&table);
		cmq_table_release(&table);
		if (newest != DT_NOBEGIN)
			return newest;
	}
	return DT_NOBEGIN;
}

/*
 * The time of the newest message, committed or not, perhaps even of one that is
 * gone; DT_NOBEGIN if there is none.
 */
TimestampTz
cmq_queue_newest(CmqQueue *queue)
{
	return newest_of(queue, queue->is_journal ? CMQ_JOURNAL : CMQ_MESSAGES);
}

/* The newest time of a message of which the queue has a row, committed or not. */
static TimestampTz
newest_row(CmqQueue *queue)
{
	TimestampTz newest = newest_of(queue, CMQ_REWIND);
	CmqScan		scan;

	cmq_scan_begin(&scan, queue, queue->pending, CMQ_PENDING, SnapshotAny);
	while (cmq_scan_next(&scan))
	{
		TimestampTz time = cmq_slot_time(scan.slot, Anum_pending_enqueued_at);

		newest = Max(newest, time);
	}
	cmq_scan_end(&scan);
	return newest;
}

/*
 * The newest time in a journal, for a queue that gets messages from there; DT_NOEND if it
 * cannot be had now: its owner, who is not to stop the queue, may have it locked, or have
 * changed it.
 */
static TimestampTz
newest_in_journal(CmqQueue *journal)
{
	for (int i = journal->nleaves - 1; i >= 0; i--)
	{
		CmqLeaf    *leaf = &journal->leaves[i];
		CmqTable	table;
		TimestampTz newest;
		Oid			pk;

		if (!cmq_journal_can_open(journal, leaf) ||
			!cmq_table_open(&table, NULL, journal, leaf->messages, CMQ_JOURNAL,
							AccessShareLock))
			return DT_NOEND;
		newest = cmq_table_newest(&table);
		pk = RelationGetRelid(table.pk);
		cmq_table_release(&table);
		UnlockRelationOid(pk, AccessShareLock);
		UnlockRelationOid(leaf->messages, AccessShareLock);
		if (newest != DT_NOBEGIN)
			return newest;
	}
	return DT_NOBEGIN;
}

/*
 * The same with messages in journals, which may have come from there.  The owner of a topic
 * can write times to come: so one that is later than a publish gives them is that of a
 * message only if the queue has a row for it.  It may have one, after a promotion of a
 * standby, or if the wall clock was set back.
 */
static TimestampTz
newest_of_all(CmqQueue *queue)
{
	TimestampTz newest = cmq_queue_newest(queue);
	TimestampTz published = DT_NOBEGIN;
	List	   *receivers = queue->has_journals ?
		cmq_receiver_list(queue->name, NULL) : NIL;
	ListCell   *lc;

	foreach(lc, receivers)
	{
		CmqQueue   *journal =
			cmq_journal_find(((CmqReceiver *) lfirst(lc))->journal + 1);

		TimestampTz time = journal ? newest_in_journal(journal) : DT_NOEND;

		published = Max(published, time);
	}
	if (published > cmq_clock_latest())
	{
		TimestampTz row = newest_row(queue);

		published = Min(published, row);
	}
	return Max(newest, published);
}

/*
 * Make sure that queue->shared is the entry of this queue, and stays to the end of the
 * transaction; false if there is no place for it.  In recovery a queue has no shared entry,
 * and its clock is cmq's time.
 */
bool
cmq_queue_try_attach(CmqQueue *queue)
{
	/* the entry is no part of what nobody changes */
	CmqDescription *own = unconstify(CmqDescription *, queue);

	if (queue->used_in == cmq_xact_number() || RecoveryInProgress())
		return true;

	own->shared = cmq_shared_use(queue->pending);
	if (queue->shared == NULL)
	{
		CmqRelids	relids = {
			.pending = queue->pending,
			.rewind = queue->rewind,
			.rights = queue->relid
		};
		bool		held = cmq_prepared_holds(&relids);
		TimestampTz not_before = Max(queue->saved_clock,
									 queue->last_modify_time);
		TimestampTz last_send;

		/* the first use since the server started: look at the messages */
		if (queue->rewinding.active)
			not_before = Max(not_before, queue->rewinding.rewound_at);
		last_send = newest_of_all(queue);
		if (last_send == DT_NOBEGIN)
			last_send = queue->create_time;
		own->shared = cmq_shared_make(&relids, Max(not_before, last_send),
									  last_send, held, queue->triggers);
		if (queue->shared == NULL)
			return false;
		/* the transaction that held it may have ended since */
		if (held)
			cmq_prepared_look_at_held();
	}
	own->used_in = cmq_xact_number();
	if (!queue->is_journal)
		cmq_triggers_check(queue);
	return true;
}

/* The same; raises 53400 if there is no place. */
void
cmq_queue_attach(CmqQueue *queue)
{
	if (!cmq_queue_try_attach(queue))
		cmq_shared_report_full(queue->name);
}

/* The queue's time, for calls that only look. */
TimestampTz
cmq_queue_now(CmqQueue *queue)
{
	/* a queue can be dropped, though there is no place for a journal */
	if (queue->is_journal && !cmq_queue_try_attach(queue))
		return Max(cmq_time(), cmq_queue_newest(queue));
	cmq_queue_attach(queue);
	return queue->shared ? cmq_clock_peek(queue->shared) : cmq_time();
}
