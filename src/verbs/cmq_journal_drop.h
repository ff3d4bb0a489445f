/*-------------------------------------------------------------------------
 *
 * cmq_journal_drop.h
 *	  Drop what no queue needs any more of a journal, and the journal in the end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_JOURNAL_DROP_H
#define CMQ_JOURNAL_DROP_H

#include "store/cmq_description.h"

extern bool cmq_journal_drop_old(CmqQueue *journal);
extern void cmq_journal_end(const char *topic);
extern void cmq_journal_sweep_gone(void);

#endif							/* CMQ_JOURNAL_DROP_H */
