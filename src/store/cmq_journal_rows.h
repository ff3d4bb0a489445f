/*-------------------------------------------------------------------------
 *
 * cmq_journal_rows.h
 *	  Rows of cmq.topic_journal and cmq.receiver.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_JOURNAL_ROWS_H
#define CMQ_JOURNAL_ROWS_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "store/cmq_description.h"

/* A queue that has, or may have, messages in a journal. */
typedef struct CmqReceiver
{
	char		queue[NAMEDATALEN];
	char		journal[NAMEDATALEN];
	TimestampTz since;			/* earlier ones are those of a queue that was
								 * dropped; DT_NOBEGIN: there was none */
	TimestampTz until;			/* none from then on; DT_NOEND: it may get
								 * more */
} CmqReceiver;

extern bool cmq_journal_find_row(CmqDescription *journal, const char *name);
extern bool cmq_journal_find_any(CmqDescription *description, const char *name);
extern bool cmq_journal_is_made_here(const char *name);
extern void cmq_journal_insert_row(const char *name, Oid relid);
extern void cmq_journal_delete_row(const char *name);
extern List *cmq_journal_names(void);
extern List *cmq_receiver_list(const char *queue, const char *journal);
extern void cmq_receiver_put(const CmqReceiver *receiver);
extern void cmq_receiver_delete(const char *queue, const char *journal);

#endif							/* CMQ_JOURNAL_ROWS_H */
