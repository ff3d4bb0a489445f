/*-------------------------------------------------------------------------
 *
 * cmq_journal.c
 *	  Journals: where what is published to a topic is stored once for several queues.
 *
 * A message that goes to several queues is a row of the journal of its topic,
 * cmq_data.j_<topic>, which is partitioned as the messages of a queue are.  The row lists
 * the queues.  Each of them has a pending row of its own, later one of its history, which
 * names the topic.  So who has such a row finds the message; but only if the message
 * lists the queue: the owner of a queue can write its rows by hand, and is not to read what
 * its filters did not let in.  Nor is a queue that has got the name of one that was dropped:
 * it has no message from before that (cmq.receiver).
 *
 * A journal is described as a queue is, under the name of its topic behind a mark
 * (cmq_names.h), with one table for all that a queue has.  It has a clock, for ids are to
 * differ there, too.
 *
 * Leaves of a journal are dropped when no queue that may have messages there has a leaf of
 * its own for these times any more (cmq_journal_drop.c).
 *
 * cmq_message_rows.c reads messages there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/cmq_args.h"
#include "base/cmq_compat.h"
#include "base/cmq_headers.h"
#include "base/cmq_names.h"
#include "store/cmq_cache.h"
#include "store/cmq_ddl.h"
#include "store/cmq_description.h"
#include "store/cmq_journal.h"
#include "store/cmq_journal_rows.h"
#include "store/cmq_owner.h"
#include "store/cmq_shape.h"

/* The name that the journal of a topic has where queues have theirs, palloc'd. */
const char *
cmq_journal_name(const char *topic)
{
	return psprintf("%c%s", CMQ_JOURNAL_MARK, topic);
}

/* The description of the journal; NULL if the topic has none, or it is damaged. */
CmqQueue *
cmq_journal_find(const char *topic)
{
	char		name[NAMEDATALEN];

	name[0] = CMQ_JOURNAL_MARK;
	strlcpy(name + 1, topic, NAMEDATALEN - 1);
	return cmq_cache_find(name, false);
}

/* Is there such a journal, damaged or not? */
bool
cmq_journal_exists(const char *topic)
{
	CmqDescription journal;

	return cmq_journal_find_row(&journal, cmq_journal_name(topic)) &&
		get_rel_name(journal.messages) != NULL;
}

/* The table that has the name of a journal's, whatever it is; InvalidOid: none. */
Oid
cmq_journal_relation(const char *topic)
{
	return cmq_relation_oid(CMQ_JOURNAL_TABLE, topic);
}

/* Make the journal of a topic, as the caller.  Leaves are for cmq_leaf_make(). */
void
cmq_journal_create(const char *topic)
{
	const char *table = cmq_relation_qualified(CMQ_JOURNAL_TABLE, topic);
	CmqOwnerScope scope;

	cmq_owner_enter(&scope, InvalidOid);
	cmq_ddl_execute("CREATE TABLE %s ("
					"enqueued_at timestamptz NOT NULL, "
					"headers jsonb" CMQ_COMPRESSION ", "
					"body text" CMQ_COMPRESSION " NOT NULL, "
					"message_group text, "
					"queues text[] NOT NULL, "
					"PRIMARY KEY (enqueued_at), "
					"CONSTRAINT " CMQ_HEADERS_CONSTRAINT " CHECK (" CMQ_HEADERS_CHECK ")) "
					"PARTITION BY RANGE (enqueued_at)", table);
	cmq_ddl_execute("COMMENT ON TABLE %s IS 'messages of topic %s, for the queues that they list'",
					table, topic);
	cmq_ddl_revoke_all(cmq_journal_relation(topic));
	cmq_ddl_refuse_truncate(table, cmq_journal_name(topic));
	cmq_owner_leave(&scope);
	cmq_journal_insert_row(cmq_journal_name(topic), cmq_journal_relation(topic));
}

/*
 * Can the leaf be opened without waiting, and without an error?  Then it is locked with
 * AccessShare, and so is its primary key.
 */
bool
cmq_journal_can_open(CmqQueue *journal, CmqLeaf *leaf)
{
	Relation	rel;
	Oid			pk;
	bool		usable;

	if (!ConditionalLockRelationOid(leaf->messages, AccessShareLock))
		return false;
	rel = try_relation_open(leaf->messages, NoLock);
	if (rel == NULL)
		return false;
	usable = cmq_shape_fits(rel, journal, CMQ_JOURNAL);
	pk = usable ? cmq_primary_key(rel) : InvalidOid;
	usable = OidIsValid(pk) && ConditionalLockRelationOid(pk, AccessShareLock);
	if (usable)
	{
		Relation	index = index_open(pk, NoLock);

		usable = cmq_shape_fits_key(index, CMQ_JOURNAL);
		index_close(index, NoLock);
	}
	relation_close(rel, NoLock);
	return usable;
}
