/*-------------------------------------------------------------------------
 *
 * cmq_pending.h
 *	  Pending rows: each that comes, goes or moves, with all that follows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_PENDING_H
#define CMQ_PENDING_H

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"

#include "base/cmq_handle.h"
#include "memory/cmq_xact.h"
#include "store/cmq_description.h"
#include "store/cmq_table.h"

typedef struct CmqPendingRow
{
	TimestampTz visible_at;
	TimestampTz enqueued_at;
	TimestampTz first_received_at;	/* DT_NOBEGIN: NULL */
	int			receive_count;
	int			rewind_count;
	int			change_count;	/* 0: NULL */
	TimestampTz delayed_until;	/* 0: it was not delayed, since it was last
								 * brought back */
	bool		has_group;
	int64		group;			/* its hash, see cmq_group.c */
	char		topic[NAMEDATALEN]; /* the message is in the journal of this
									 * topic; empty: in a leaf of the queue's */
} CmqPendingRow;

/* Names of topics, see cmq_pending_topic(). */
typedef struct CmqTopicName
{
	struct CmqTopicName *next;
	Datum		datum;
	char		name[NAMEDATALEN];
} CmqTopicName;

/* The pending table of a queue, open to be written; see cmq_pending.c. */
typedef struct CmqPending
{
	CmqQueue   *queue;
	EState	   *estate;			/* for what is written beside it, too */
	CmqTable	table;			/* for scans; not to be written through this */
	bool		adds;			/* are rows added? */
	bool		published;		/* does the slot hold the floor at them? */
	bool		changed;
	struct CmqPending *first;	/* opened before, with this one beside it, and
								 * published for both; NULL: none */
	CmqTopicName *topics;
	CmqAnnouncement announcement;
	TimestampTz now;			/* deliveries are made at this time ... */
	TimestampTz next_visible_at;	/* ... and become visible again at this
									 * one */
	int64		nadded;			/* rows written since the last flush ... */
	int64		nmore;			/* ... but not in place of others ... */
	int64		nready;			/* ... and that are visible at commit */
} CmqPending;

extern void cmq_pending_open(CmqPending *pending, CmqQueue *queue, bool adds);
extern void cmq_pending_open_beside(CmqPending *pending, CmqQueue *queue,
									CmqPending *first);
extern void cmq_pending_flush(CmqPending *pending);
extern void cmq_pending_close(CmqPending *pending);
extern void cmq_pending_add_new(CmqPending *pending, TimestampTz enqueued_at,
								TimestampTz not_before, const int64 *group,
								const char *topic);
extern Datum cmq_pending_topic(CmqPending *pending, const char *topic);
extern TimestampTz cmq_pending_set_times(CmqPending *pending,
										 int visibility_timeout);
extern bool cmq_pending_deliver(CmqPending *pending, CmqPendingRow *row);
extern bool cmq_pending_deliver_due(CmqPending *pending, CmqTable *rewind,
									CmqPendingRow *row);
extern void cmq_pending_expect_back(CmqPending *pending, TimestampTz first,
									TimestampTz now);
extern bool cmq_pending_bring_back(CmqPending *pending, CmqTable *rewind);
extern bool cmq_pending_take(CmqPending *pending, bool wait);
extern bool cmq_pending_take_due(CmqPending *pending, CmqTable *rewind,
								 CmqPendingRow *row);
extern bool cmq_pending_take_expired(CmqPending *pending);
extern bool cmq_pending_change_visibility(CmqPending *pending, CmqPendingRow *row);
extern bool cmq_pending_release(CmqPending *pending, int delay, bool counted);
extern void cmq_pending_removed(CmqQueue *queue, const CmqPendingKey *key);
extern void cmq_pending_added(CmqQueue *queue, const CmqPendingKey *key);
extern bool cmq_pending_find(CmqPending *pending, const CmqHandle *handle);
extern void cmq_pending_scan(CmqTable *table, const CmqPendingKey *behind,
							 TimestampTz from, TimestampTz until);
extern bool cmq_pending_next(CmqTable *table, TimestampTz expired_before,
							 CmqPendingKey *key);
extern void cmq_pending_receive(CmqPendingRow *row, TimestampTz now);
extern void cmq_pending_row(TupleTableSlot *slot, CmqPendingRow *row);
extern void cmq_pending_handle(const CmqPendingRow *row, CmqHandle *handle);

#endif							/* CMQ_PENDING_H */
