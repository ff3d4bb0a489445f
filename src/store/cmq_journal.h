/*-------------------------------------------------------------------------
 *
 * cmq_journal.h
 *	  Journals: where what is published to a topic is stored once for several queues.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_JOURNAL_H
#define CMQ_JOURNAL_H

#include "store/cmq_description.h"

extern const char *cmq_journal_name(const char *topic);
extern CmqQueue *cmq_journal_find(const char *topic);
extern bool cmq_journal_exists(const char *topic);
extern void cmq_journal_create(const char *topic);
extern Oid	cmq_journal_relation(const char *topic);
extern bool cmq_journal_can_open(CmqQueue *journal, CmqLeaf *leaf);

#endif							/* CMQ_JOURNAL_H */
