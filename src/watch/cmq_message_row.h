/*-------------------------------------------------------------------------
 *
 * cmq_message_row.h
 *	  A message of a queue as a row, with the columns of the view cmq.q_<queue>_all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_MESSAGE_ROW_H
#define CMQ_MESSAGE_ROW_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"

#include "store/cmq_message_rows.h"

/* The columns, as the view has them. */
enum
{
	Anum_message_msg_id = 1,
	Anum_message_enqueued_at,
	Anum_message_state,
	Anum_message_first_received_at,
	Anum_message_visible_at,
	Anum_message_deleted_at,
	Anum_message_deleted_by,
	Anum_message_receive_count,
	Anum_message_rewind_count,
	Anum_message_headers,
	Anum_message_body,
	Anum_message_message_group, /* in the views of ordered queues alone */
	Natts_message = 12
};

/* A row that is being made; there is room for a column more. */
typedef struct CmqMessageRow
{
	Datum		values[Natts_message + 1];
	bool		isnull[Natts_message + 1];
} CmqMessageRow;

extern void cmq_message_row_init(CmqMessageRow *row, TimestampTz enqueued_at);
extern void cmq_message_row_pending(CmqMessageRow *row, TupleTableSlot *slot,
									TimestampTz now);
extern void cmq_message_row_due(CmqMessageRow *row, TupleTableSlot *slot);
extern void cmq_message_row_deletion(CmqMessageRow *row, TupleTableSlot *slot);
extern void cmq_message_row_history(CmqMessageRow *row, TupleTableSlot *slot);
extern void cmq_message_row_message(CmqMessageRow *row,
									const CmqMessageRows *messages);

#endif							/* CMQ_MESSAGE_ROW_H */
