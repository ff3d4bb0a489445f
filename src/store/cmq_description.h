/*-------------------------------------------------------------------------
 *
 * cmq_description.h
 *	  Descriptions of queues.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DESCRIPTION_H
#define CMQ_DESCRIPTION_H

#include "datatype/timestamp.h"

#include "memory/cmq_types.h"

/* One pair of leaf tables, covering [lower, upper), and the leaf of keys beside it. */
typedef const struct CmqLeaf CmqLeaf;
struct CmqLeaf
{
	TimestampTz lower;
	TimestampTz upper;
	Oid			messages;
	Oid			rewind;
	Oid			dedup;			/* leaf of keys; InvalidOid: none */
	int64		made_in;		/* which database, see cmq_dump.c */
};

/* The rewind under way. */
typedef struct CmqRewind
{
	bool		active;
	TimestampTz from;			/* messages produced from here on are due ... */
	TimestampTz rewound_at;		/* ... if deleted before this ... */
	TimestampTz since;			/* ... and not before history_since ... */
	int64		called_in;		/* which database, see cmq_dump.c */
	int			nconcurrent;	/* ... by none of these transactions */
	int64	   *concurrent;
} CmqRewind;

/*
 * A queue as this backend knows it.  A CmqQueue is one that others may be using:
 * nobody changes it.  A CmqDescription is its maker's own: a copy, or a queue's row.
 */
typedef struct CmqDescription CmqDescription;
typedef const struct CmqDescription CmqQueue;
struct CmqDescription
{
	char		name[NAMEDATALEN];
	Oid			relid;			/* cmq.q_<name>, which carries the rights */
	Oid			messages;		/* cmq_data.q_<name> */
	Oid			pending;		/* cmq_data.q_<name>_pending */
	Oid			rewind;			/* cmq_data.q_<name>_rewind */
	Oid			dedup;			/* cmq_data.q_<name>_dedup; InvalidOid: none */
	Oid			owner;			/* of all of them */
	int			visibility_timeout;
	int			polling_wait_seconds;
	int			msg_retention_seconds;
	int			rewind_seconds;
	int			max_msg_size;
	int64		max_msg_heap_num;
	char		dead_letter_queue[NAMEDATALEN]; /* empty: none */
	int			max_receive_count;	/* 0: no limit */
	int			max_time_to_live;	/* 0: no limit */
	int			retry_backoff_seconds;
	int			retry_backoff_max_seconds;
	int			rewind_share;	/* per cent, see cmq_candidates.c */
	int			dedup_seconds;	/* 0: the queue keeps no keys */
	bool		ordered;		/* it has groups; never changed */
	TimestampTz create_time;
	TimestampTz last_modify_time;
	TimestampTz paused_since;	/* 0: it is not paused */
	TimestampTz expired_before;
	TimestampTz forgotten_before;
	TimestampTz history_since;	/* see cmq_forget.c */
	bool		leftovers;		/* rows deleted before may be there */
	TimestampTz saved_clock;
	bool		is_journal;		/* no queue but a topic's, see cmq_journal.c */
	bool		has_journals;	/* some of its messages may be in journals ... */
	TimestampTz published_since;	/* ... all from then on, in any of them */
	bool		is_target;		/* of a subscription, see cmq_target.c */
	uint32		triggers;		/* their versions, see cmq_triggers.c */
	bool		triggers_on_origin; /* not ALWAYS */
	int			nleaves;		/* ordered by time, not overlapping */
	struct CmqLeaf *leaves;
	CmqRewind	rewinding;

	/* no part of the description, see cmq_queue_attach() */
	CmqSharedQueue *shared;
	uint64		used_in;		/* the transaction that shared is good for */
};

/* What errors call it. */
#define cmq_kind(queue) ((queue)->is_journal ? "topic" : "queue")
#define cmq_plain_name(queue) ((queue)->name + (queue)->is_journal)

#define cmq_is_paused(queue) ((queue)->paused_since != 0)

#endif							/* CMQ_DESCRIPTION_H */
