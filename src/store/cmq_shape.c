/*-------------------------------------------------------------------------
 *
 * cmq_shape.c
 *	  What the tables of a queue look like.
 *
 * The owner of a queue may do to its tables what owners may do.  So each time that one is
 * opened its columns are compared with those that the code relies on, and its primary key
 * when that is used; a crash must not empty it, and its owner must be the queue's.  Columns
 * that were added and dropped again stay behind ours.
 *
 * An ordered queue's tables have one column more each, the last of ours.  A journal
 * (cmq_journal.c) is owned by the owner of its topic, and its tables are alike for all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/partition.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "base/cmq_names.h"
#include "store/cmq_description.h"
#include "store/cmq_shape.h"

#define MAX_NATTS Natts_rewind	/* no table of ours has more */

typedef struct TableShape
{
	int			natts;			/* the last one is that of ordered queues, but
								 * for journals */
	Oid			types[MAX_NATTS];
	int			nkeys;			/* primary key: the first nkeys columns */
	AttrNumber	nullable[5];	/* columns that may be NULL; 0: no more */
} TableShape;

static const TableShape table_shapes[] = {
	[CMQ_MESSAGES] = {
		Natts_messages,
		{TIMESTAMPTZOID, JSONBOID, TEXTOID, TEXTOID},
		1,
		{Anum_messages_headers, Anum_messages_message_group}
	},
	[CMQ_PENDING] = {
		Natts_pending,
		{TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID,
		INT4OID, TIMESTAMPTZOID, TEXTOID, INT8OID},
		2,
		{Anum_pending_first_received_at, Anum_pending_change_count,
		Anum_pending_delayed_until, Anum_pending_topic, Anum_pending_group_key}
	},
	[CMQ_REWIND] = {
		Natts_rewind,
		{TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, INT4OID,
		INT4OID, INT8OID, TEXTOID, INT8OID},
		1,
		{Anum_rewind_first_received_at, Anum_rewind_topic, Anum_rewind_group_hash}
	},
	[CMQ_JOURNAL] = {
		Natts_journal,
		{TIMESTAMPTZOID, JSONBOID, TEXTOID, TEXTOID, TEXTARRAYOID},
		1,
		{Anum_messages_headers, Anum_messages_message_group}
	},
};

/* How many columns of ours the table of a queue has. */
int
cmq_shape_natts(CmqQueue *queue, CmqTableKind kind)
{
	return table_shapes[kind].natts - (kind != CMQ_JOURNAL && !queue->ordered);
}

static const char *
name_kind(CmqTableKind kind)
{
	return kind == CMQ_JOURNAL ? "journal" : "queue";
}

/* The table, or the one that it is a leaf of: the columns of a leaf are its parent's. */
static const char *
parent_name(Relation rel)
{
	return cmq_full_name(rel->rd_rel->relispartition ?
						 get_partition_parent(RelationGetRelid(rel), true) :
						 RelationGetRelid(rel));
}

/* What to do when the change cannot be undone. */
static const char *
give_up(Relation rel, CmqTableKind kind)
{
	return kind == CMQ_JOURNAL ?
		psprintf("drop the journal, with all that it holds: DROP TABLE %s;",
				 parent_name(rel)) : "drop the queue.";
}

/* Raise 55000 for a table that was changed: what it was, and how to undo it. */
static void
report_shape(Relation rel, CmqTableKind kind, int natts)
{
	const TableShape *shape = &table_shapes[kind];
	TupleDesc	desc = RelationGetDescr(rel);
	const char *full_name = parent_name(rel);
	char	   *fact = pstrdup("It is no ordinary table any more.");
	char	   *undo = psprintf("Undo the change, or %s", give_up(rel, kind));

	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
	{
		fact = pstrdup("It is unlogged: a crash would empty it.");
		undo = psprintf("Undo the change: ALTER TABLE %s SET LOGGED;",
						cmq_full_name(RelationGetRelid(rel)));
	}
	for (int i = 0; i < Max(desc->natts, natts); i++)
	{
		Form_pg_attribute att = i < desc->natts ? TupleDescAttr(desc, i) : NULL;

		if (i < natts && (att == NULL || att->attisdropped))
		{
			fact = psprintf("Its column number %d was dropped.", i + 1);
			undo = pstrdup(give_up(rel, kind));
			undo[0] = pg_toupper((unsigned char) undo[0]);
		}
		else if (i < natts && att->atttypid != shape->types[i])
		{
			fact = psprintf("The type of its column %s was changed.",
							quote_identifier(NameStr(att->attname)));
			undo = psprintf("Undo the change: ALTER TABLE %s ALTER COLUMN %s TYPE %s;",
							full_name, quote_identifier(NameStr(att->attname)),
							format_type_be(shape->types[i]));
		}
		else if (i >= natts && !att->attisdropped)
		{
			fact = psprintf("Its column %s was added.",
							quote_identifier(NameStr(att->attname)));
			undo = psprintf("Undo the change: ALTER TABLE %s DROP COLUMN %s;",
							full_name, quote_identifier(NameStr(att->attname)));
		}
		else
			continue;
		break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" is not a %s table",
					RelationGetRelationName(rel),
					name_kind(kind)),
			 errdetail_internal("%s", fact),
			 errhint("%s", undo)));
}

/* Is the table what the code takes it for? */
static bool
has_shape(Relation rel, CmqQueue *queue, CmqTableKind kind)
{
	const TableShape *shape = &table_shapes[kind];
	int			natts = cmq_shape_natts(queue, kind);
	TupleDesc	desc = RelationGetDescr(rel);
	bool		ok = rel->rd_rel->relkind == RELKIND_RELATION &&
		rel->rd_rel->relam == HEAP_TABLE_AM_OID &&
		rel->rd_rel->relpersistence == RELPERSISTENCE_PERMANENT &&
		desc->natts >= natts;

	for (int i = 0; ok && i < natts; i++)
		ok = TupleDescAttr(desc, i)->atttypid == shape->types[i];
	for (int i = natts; ok && i < desc->natts; i++)
		ok = TupleDescAttr(desc, i)->attisdropped;
	return ok;
}

/* Is it that, and the queue's?  What another owner has put in its place is not. */
bool
cmq_shape_fits(Relation rel, CmqQueue *queue, CmqTableKind kind)
{
	return has_shape(rel, queue, kind) && rel->rd_rel->relowner == queue->owner;
}

/* Raise an error if it is not. */
void
cmq_shape_check(Relation rel, CmqQueue *queue, CmqTableKind kind)
{
	if (!has_shape(rel, queue, kind))
		report_shape(rel, kind, cmq_shape_natts(queue, kind));
	if (rel->rd_rel->relowner != queue->owner)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not a table of %s \"%s\"",
						RelationGetRelationName(rel), cmq_kind(queue),
						cmq_plain_name(queue)),
				 errdetail("It has another owner."),
				 errhint("Give it to the owner of the %1$s, or drop the %1$s.",
						 cmq_kind(queue))));
}

/* Is this the primary key of such a table?  It may be NULL. */
bool
cmq_shape_fits_key(Relation pk, CmqTableKind kind)
{
	const TableShape *shape = &table_shapes[kind];
	bool		ok = pk && pk->rd_index->indnkeyatts == shape->nkeys &&
		pk->rd_index->indisvalid;

	for (int i = 0; ok && i < shape->nkeys; i++)
		ok = pk->rd_index->indkey.values[i] == i + 1;
	return ok;
}

/* Raise an error if it is not. */
void
cmq_shape_check_key(Relation rel, Relation pk, CmqTableKind kind)
{
	if (!cmq_shape_fits_key(pk, kind))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" does not have the primary key of a %s table",
						RelationGetRelationName(rel), name_kind(kind)),
				 errhint("Undo the change, or %s", give_up(rel, kind))));
}

/* How many columns the primary key has: the first ones. */
int
cmq_shape_nkeys(CmqTableKind kind)
{
	return table_shapes[kind].nkeys;
}

/* Is a column NOT NULL that may be NULL in rows of ours? */
bool
cmq_shape_has_new_not_null(Relation rel, CmqTableKind kind, int natts)
{
	const TableShape *shape = &table_shapes[kind];
	bool		found = false;

	for (int i = 0; i < lengthof(shape->nullable) && shape->nullable[i] > 0 &&
		 shape->nullable[i] <= natts; i++)
		found |= TupleDescAttr(RelationGetDescr(rel),
							   shape->nullable[i] - 1)->attnotnull;
	return found;
}
