/*-------------------------------------------------------------------------
 *
 * cmq_shape.h
 *	  What the tables of a queue look like.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_SHAPE_H
#define CMQ_SHAPE_H

#include "utils/relcache.h"

#include "store/cmq_description.h"

/* Attribute numbers; cmq_shape.c checks that a table has these columns. */
enum
{
	Anum_messages_enqueued_at = 1,
	Anum_messages_headers,
	Anum_messages_body,
	Anum_messages_message_group,	/* of ordered queues alone, as those that
									 * follow */
	Natts_messages = 4
};

/* Of a journal; the first ones are those of a table of messages, for all topics. */
enum
{
	Anum_journal_queues = Anum_messages_message_group + 1,
	Natts_journal = 5
};

enum
{
	Anum_pending_visible_at = 1,
	Anum_pending_enqueued_at,
	Anum_pending_first_received_at,
	Anum_pending_receive_count,
	Anum_pending_rewind_count,
	Anum_pending_change_count,
	Anum_pending_delayed_until,
	Anum_pending_topic,
	Anum_pending_group_key,
	Natts_pending = 9
};

enum
{
	Anum_rewind_enqueued_at = 1,
	Anum_rewind_first_received_at,
	Anum_rewind_deleted_at,
	Anum_rewind_deleted_by,
	Anum_rewind_receive_count,
	Anum_rewind_rewind_count,
	Anum_rewind_deleted_xact,
	Anum_rewind_topic,
	Anum_rewind_group_hash,
	Natts_rewind = 9
};

typedef enum CmqTableKind
{
	CMQ_MESSAGES,
	CMQ_PENDING,
	CMQ_REWIND,
	CMQ_JOURNAL					/* messages of a topic */
} CmqTableKind;

extern int	cmq_shape_natts(CmqQueue *queue, CmqTableKind kind);
extern int	cmq_shape_nkeys(CmqTableKind kind);
extern bool cmq_shape_fits(Relation rel, CmqQueue *queue, CmqTableKind kind);
extern bool cmq_shape_fits_key(Relation pk, CmqTableKind kind);
extern void cmq_shape_check(Relation rel, CmqQueue *queue, CmqTableKind kind);
extern void cmq_shape_check_key(Relation rel, Relation pk, CmqTableKind kind);
extern bool cmq_shape_has_new_not_null(Relation rel, CmqTableKind kind, int natts);

#endif							/* CMQ_SHAPE_H */
