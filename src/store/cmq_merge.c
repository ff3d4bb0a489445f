/*-------------------------------------------------------------------------
 *
 * cmq_merge.c
 *	  Ready and due messages of a queue, one after the other.
 *
 * To users the messages that a rewind under way brings back are ready like any others, but
 * their rows are in other tables.  So whoever takes ready messages scans both, each in the
 * order of its key.  Which comes first, when both scans stand at a row, is said by the
 * caller; a scan is moved only when its row has been used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/cmq_merge.h"

/* The source whose scan stands at the next row; CMQ_NO_SOURCE at the end of both. */
CmqSource
cmq_merge_next(CmqMerge *merge)
{
	if (merge->ready == CMQ_BEFORE_ROW)
		merge->ready = merge->next_ready(merge->arg) ? CMQ_AT_ROW : CMQ_AT_END;
	if (merge->due == CMQ_BEFORE_ROW)
		merge->due = merge->next_due(merge->arg) ? CMQ_AT_ROW : CMQ_AT_END;

	if (merge->due == CMQ_AT_ROW &&
		(merge->ready == CMQ_AT_END || merge->due_comes_first(merge->arg)))
	{
		merge->due = CMQ_BEFORE_ROW;
		return CMQ_DUE;
	}
	if (merge->ready == CMQ_AT_END)
		return CMQ_NO_SOURCE;
	merge->ready = CMQ_BEFORE_ROW;
	return CMQ_READY;
}
