/*-------------------------------------------------------------------------
 *
 * cmq.h
 *	  What more than one file of cmq needs.
 *
 * Prototypes are grouped under the file that defines the function.  The
 * design as built is in src/README.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_H
#define CMQ_H

#include "access/genam.h"
#include "access/skey.h"
#include "access/transam.h"
#include "access/xact.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "port/atomics.h"
#include "portability/instr_time.h"
#include "postmaster/bgworker.h"
#include "storage/condition_variable.h"
#include "storage/lockdefs.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/array.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "cmq_compat.h"

#define CMQ_SCHEMA "cmq"			/* views, rights, metadata */
#define CMQ_DATA_SCHEMA "cmq_data"	/* tables of queues */

/* The relations that a queue is made of; cmq_ddl.c has their names. */
typedef enum CmqRelation
{
	CMQ_RIGHTS,					/* holds nothing, carries the rights */
	CMQ_LIVE_VIEW,
	CMQ_HISTORY_VIEW,
	CMQ_ALL_VIEW,
	CMQ_READER_VIEW,			/* reads CMQ_RIGHTS as the reader */
	CMQ_MESSAGES_TABLE,
	CMQ_PENDING_TABLE,
	CMQ_REWIND_TABLE
} CmqRelation;

/* How many of them a description knows by their OIDs. */
#define CMQ_NRELATIONS 4

/* Limits of settings and arguments; seconds unless said otherwise. */
#define CMQ_QUEUE_NAME_MAX			48	/* bytes */
#define CMQ_VISIBILITY_MIN			1
#define CMQ_VISIBILITY_MAX			43200
#define CMQ_POLLING_MIN				0
#define CMQ_POLLING_MAX				30
#define CMQ_RETENTION_MIN			60
#define CMQ_RETENTION_MAX			1296000
#define CMQ_REWIND_MIN				0
#define CMQ_MSG_SIZE_MIN			1024	/* bytes */
#define CMQ_MSG_SIZE_MAX			67108864	/* bytes */
#define CMQ_HEAP_NUM_MIN			1	/* messages */
#define CMQ_HEAP_NUM_MAX			INT64CONST(1000000000)	/* messages */
#define CMQ_RECEIVE_COUNT_MIN		1
#define CMQ_RECEIVE_COUNT_MAX		1000
#define CMQ_TIME_TO_LIVE_MIN		300
#define CMQ_TIME_TO_LIVE_MAX		43200
#define CMQ_FILTERS_MAX				5	/* tags, filter tags, binding keys */
#define CMQ_SUBSCRIPTIONS_MAX		10	/* of one queue to one topic */
#define CMQ_TAG_MAX					16	/* characters */
#define CMQ_KEY_MAX					64	/* bytes */
#define CMQ_KEY_DOTS_MAX			15
#define CMQ_FILTER_SIZE_MAX			8192	/* bytes, of headers in a filter */
#define CMQ_REASON_MAX				1000	/* bytes */
#define CMQ_HEADERS_ADDED			4096	/* bytes of headers that cmq adds, at most */
#define CMQ_DELAY_MIN				0
#define CMQ_DELAY_MAX				3600
#define CMQ_RECEIVE_MIN				1	/* messages */
#define CMQ_RECEIVE_MAX				1000	/* messages */

/* Attribute numbers; cmq_table.c checks that a table has these columns. */
enum
{
	Anum_messages_enqueued_at = 1,
	Anum_messages_headers,
	Anum_messages_body,
	Natts_messages = 3
};

enum
{
	Anum_pending_visible_at = 1,
	Anum_pending_enqueued_at,
	Anum_pending_first_received_at,
	Anum_pending_receive_count,
	Anum_pending_rewind_count,
	Natts_pending = 5
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
	Natts_rewind = 7
};

/* Metadata tables of topics; cmq_catalog.c has those of queues. */
enum
{
	Anum_topic_name = 1,
	Anum_topic_filter_type,
	Anum_topic_create_time,
	Anum_topic_relation,
	Natts_topic = 4
};

enum
{
	Anum_subscription_topic = 1,
	Anum_subscription_name,
	Anum_subscription_queue,
	Anum_subscription_filter_tags,
	Anum_subscription_binding_keys,
	Anum_subscription_create_time,
	Natts_subscription = 6
};

typedef enum CmqTableKind
{
	CMQ_MESSAGES,
	CMQ_PENDING,
	CMQ_REWIND
} CmqTableKind;

/*
 * How often a description that has gone stale while it was loaded is loaded
 * anew.  After that it is used once: it was current when the call began, and
 * with debug_discard_caches there is always an invalidation.
 */
#define CMQ_MAX_LOADS 3

/* About the size of a pending or rewind row, for cmq_table_insert(). */
#define CMQ_NARROW_ROW_SIZE 64

/* What cmq_stats.c counts. */
typedef enum CmqCounter
{
	CMQ_SENT,
	CMQ_RECEIVED,
	CMQ_REDELIVERED,
	CMQ_REWOUND,
	CMQ_DELETED,
	CMQ_DEAD_LETTERED,
	CMQ_EMPTY_RECEIVES,
	CMQ_WAITS,
	CMQ_BODY_BYTES,
	CMQ_NCOUNTERS
} CmqCounter;

/* The kinds of turns that a queue has in a round of the worker, see cmq_turn.c. */
typedef enum CmqTurnKind
{
	CMQ_SHORT_TURN,				/* the steps of maintenance */
	CMQ_LONG_TURN,				/* those that take long */
	CMQ_LETTERS_TURN,			/* dead letters to a queue of another owner */
	CMQ_NTURNS
} CmqTurnKind;

/* What is remembered of a queue's turns of one kind. */
typedef struct CmqTurns
{
	int			strikes;
	int			rounds_to_skip;
	TimestampTz begun_at;		/* the last one */
	int			step;			/* the step that it stopped at + 1; 0: none */
} CmqTurns;

/* The order of turns: queues without strikes, then those with strikes. */
typedef struct CmqTurnOrder
{
	List	   *names[CMQ_NTURNS];
	List	   *struck[CMQ_NTURNS];
} CmqTurnOrder;

/* What a step of maintenance, or a bounded portion of one, says of the rest. */
typedef enum CmqStepResult
{
	CMQ_STEP_DONE,				/* there is none */
	CMQ_STEP_LOOKING,			/* there may be more, but nothing was found here */
	CMQ_STEP_MORE				/* something was done, and there is more */
} CmqStepResult;

/* The key of a pending row. */
typedef struct CmqPendingKey
{
	TimestampTz visible_at;
	TimestampTz enqueued_at;
} CmqPendingKey;

/* Steps that remember where their last portion has ended, see cmq_maintain.c. */
typedef enum CmqPlaceKind
{
	CMQ_PURGE_PLACE,			/* left of what can still be delivered */
	CMQ_PURGE_REST_PLACE,		/* in the rest of the pending table */
	CMQ_LETTERS_PLACE,			/* dead letters, in the pending table */
	CMQ_DROP_PLACE,				/* partitions, by their lower bounds */
	CMQ_NPLACES
} CmqPlaceKind;

/* What one transaction of maintenance does of a step. */
typedef struct CmqPortion
{
	bool		bounded;		/* the worker's; else all that there is room for */
	instr_time	begun;
} CmqPortion;

/* A pass over the history that was forgotten, see cmq_forget.c. */
typedef struct CmqForgetting
{
	uint32		number;			/* 0: none yet */
	TimestampTz since;			/* the queue's history_since */
	TimestampTz next;			/* where to go on, by enqueued_at */
	bool		met;			/* something forgotten, or what cannot be looked at */
	bool		removed;		/* some of it */
} CmqForgetting;

/* A place in the pending table; what comes after it is next. */
typedef CmqPendingKey CmqPlace;

/* How much time code of owners has used, see cmq_limit.c. */
typedef struct CmqUse
{
	Oid			owner;
	int64		time;			/* microseconds */
} CmqUse;

typedef struct CmqUses
{
	MemoryContext mcxt;
	CmqUse	   *uses;
	int			n;
	int			allocated;
	Oid			host;			/* in whose name all is done */
	Oid			guest;			/* whose code runs now, or InvalidOid */
	int64		fair;			/* what does not count for the guest */
	instr_time	since;
} CmqUses;

/* A dead message, by the key of its pending row. */
typedef CmqPendingKey CmqLetter;

/*
 * A stretch of the pending table that a receive need not look at; see
 * cmq_stretch.c.
 */
typedef struct CmqStretch
{
	CmqPendingKey first;		/* both belong to it */
	CmqPendingKey last;
	FullTransactionId busy_with;	/* this one has them; invalid: they are dead ... */
	int			max_receive_count;	/* ... by this rule */
	int			max_time_to_live;
} CmqStretch;

#define CMQ_STRETCHES 16

/*
 * What all backends share about one queue.  An entry is made by the first
 * backend that uses the queue, and removed when the queue is dropped and no
 * transaction uses it any more (cmq_shmem.c).
 */
typedef struct CmqSharedKey
{
	Oid			database;
	Oid			pending;		/* the queue's pending table */
} CmqSharedKey;

/* A number of rows that is kept exact, see cmq_stats.c. */
typedef struct CmqCount
{
	int			state;			/* a glance without the lock is free */
	int			place;			/* of the count under way, or -1 */
	pg_atomic_uint64 n;
} CmqCount;

/* Relations of a queue by which its locks are known. */
typedef struct CmqRelids
{
	Oid			pending;
	Oid			rewind;
	Oid			rights;
} CmqRelids;

typedef struct CmqSharedQueue
{
	CmqSharedKey key;
	CmqRelids	relids;
	pg_atomic_uint32 nusers;	/* transactions that use the entry */
	bool		dropped;		/* to be removed by the last of them */
	pg_atomic_uint64 clock;		/* the queue clock, see cmq_clock.c */
	pg_atomic_uint64 clock_line;	/* the least that it can be */
	pg_atomic_uint64 last_send; /* clock at the newest send, hint only */
	pg_atomic_uint64 spacing;	/* of ready rows, hint, see cmq_receive.c */

	/* where receives begin to scan, see cmq_floor.c */
	slock_t		mutex;			/* guards these */
	uint64		generation;
	TimestampTz floor;			/* by visible_at, in the pending table */
	TimestampTz rewound_at;		/* the rewind that rewind_floor is for */
	TimestampTz rewind_floor;	/* by enqueued_at, in the rewind table */

	/* see cmq_stretch.c, under the same mutex */
	int			nstretches;		/* a glance is free */
	CmqStretch	stretches[CMQ_STRETCHES];

	/* see cmq_oldest.c, under the same mutex */
	uint64		oldest_generation;
	TimestampTz oldest;			/* no pending row was produced before */

	pg_atomic_uint32 held;		/* by a transaction prepared before the start */
	pg_atomic_uint32 triggers;	/* as they were, see cmq_changes.c */

	/* receives that wait, see cmq_wait.c */
	ConditionVariable wakeup;
	pg_atomic_uint32 nwaiters;
	pg_atomic_uint32 nasking;	/* who want them to leave */
	pg_atomic_uint32 nasked;	/* how often they were asked, modulo 2^32 */
	pg_atomic_uint32 nrewinds;	/* committed, modulo 2^32 */
	int			planner;		/* who plans for the next due time; under mutex */
	TimestampTz planned_for;

	pg_atomic_uint32 demands_failed;	/* see cmq_leaf.c */

	/* where the worker's steps go on, under the same mutex, see cmq_maintain.c */
	CmqPlace	places[CMQ_NPLACES];
	CmqForgetting forgetting;	/* under the same mutex, see cmq_forget.c */

	/* written by maintenance, see cmq_turn.c and cmq_dead_letter.c */
	CmqTurns	turns[CMQ_NTURNS];
	int			letters_count;	/* the policy that the place for letters is for */
	int			letters_time;
	pg_atomic_uint32 left_out;	/* by a call of cmq_maintain() that had no room */
	pg_atomic_uint32 letters_stuck;	/* a receive could not move dead letters */
	pg_atomic_uint32 damaged;	/* a message could not be read, see cmq_damage.c */

	/* see cmq_stats.c */
	LWLock		count_lock;		/* guards these four */
	CmqCount	pending;		/* rows of the pending table */
	CmqCount	due;			/* what a rewind still has to bring back ... */
	TimestampTz due_rewound_at; /* ... the one of this time ... */
	TimestampTz due_from;		/* ... if produced from here on */
	TimestampTz counted_since;
	pg_atomic_uint64 counters[CMQ_NCOUNTERS];
} CmqSharedQueue;

/*
 * What a transaction has done to a queue that counts when it has ended, and
 * whom it signals then.
 */
typedef struct CmqPreparedQueue
{
	CmqSharedKey key;
	int			at_commit;		/* how many waiters to signal, cmq_wait.c */
	int			at_abort;
	bool		rewound;
	bool		pending_unknown;	/* changed rows that nobody has counted */
	int64		pending;		/* pending rows, more or less, cmq_stats.c */
	bool		due_unknown;	/* has begun a rewind, or changed due rows uncounted */
	int64		due;			/* due rows, more or less ... */
	TimestampTz due_rewound_at; /* ... of this rewind ... */
	TimestampTz due_from;		/* ... and when the first was produced */
	int64		counters[CMQ_NCOUNTERS];
} CmqPreparedQueue;

/* What cmq_floor_announce() has replaced. */
typedef struct CmqAnnouncement
{
	TimestampTz before;
	uint64		number;
} CmqAnnouncement;

/* One scan's view of the floors. */
typedef struct CmqFloorScan
{
	uint64		generation;
	TimestampTz floor;			/* start here */
	TimestampTz rewind_floor;	/* start here, in the rewind table */
	TimestampTz limit;			/* do not raise the floor further */
	TimestampTz own_limit;		/* nor our own */
	TimestampTz taken;			/* what we took away before begins here */
	TimestampTz lowered;		/* where own rows were put back from; DT_NOEND: none */
} CmqFloorScan;

/* One scan's view of the stretches. */
typedef struct CmqStretchScan
{
	int			nknown;
	int			nfound;
	int			nrows;			/* of the run that were looked at; -1: no run */
	TransactionId busy_with;	/* of the run; invalid: dead */
	CmqPendingKey first;
	CmqPendingKey last;
	CmqStretch	known[CMQ_STRETCHES];
	CmqStretch	found[CMQ_STRETCHES];
} CmqStretchScan;

/* What was known before a look at the pending table, see cmq_oldest_look(). */
typedef struct CmqOldestLook
{
	uint64		generation;
	TimestampTz open;			/* open transactions have published no earlier time */
} CmqOldestLook;

/* One pair of leaf tables, covering [lower, upper). */
typedef struct CmqLeaf
{
	TimestampTz lower;
	TimestampTz upper;
	Oid			messages;
	Oid			rewind;
	int64		made_in;		/* which database, see cmq_dump.c */
} CmqLeaf;

/* The rewind under way. */
typedef struct CmqRewind
{
	bool		active;
	TimestampTz from;			/* messages produced from here on are due ... */
	TimestampTz rewound_at;		/* ... if deleted before this ... */
	TimestampTz since;			/* ... and not before the queue's history_since ... */
	int64		called_in;		/* which database, see cmq_dump.c */
	int			nconcurrent;	/* ... by none of these transactions */
	int64	   *concurrent;
} CmqRewind;

/*
 * A queue as this backend knows it.  Cached; a description does not change, and
 * stays to the end of the transaction.
 */
typedef struct CmqQueue
{
	char		name[NAMEDATALEN];
	bool		valid;			/* false: the next look-up loads another one */
	uint32		nloads;			/* how often it was found to be still right */
	Oid			relid;			/* cmq.q_<name>, which carries the rights */
	Oid			messages;		/* cmq_data.q_<name> */
	Oid			pending;		/* cmq_data.q_<name>_pending */
	Oid			rewind;			/* cmq_data.q_<name>_rewind */
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
	TimestampTz create_time;
	TimestampTz last_modify_time;
	CmqRewind	rewinding;
	TimestampTz expired_before;
	TimestampTz forgotten_before;
	TimestampTz history_since;	/* see cmq_forget.c */
	bool		leftovers;		/* rows deleted before may be there */
	TimestampTz saved_clock;
	bool		is_target;		/* of a subscription, see cmq_target.c */
	uint32		triggers;		/* their versions, see cmq_changes.c */
	bool		triggers_on_origin; /* not ALWAYS */
	int			nleaves;		/* ordered by time, not overlapping */
	CmqLeaf    *leaves;
	CmqSharedQueue *shared;		/* see cmq_queue_attach() */
	uint64		used_in;		/* the transaction that shared is good for */
	MemoryContext mcxt;			/* of all this */
} CmqQueue;

/* An open queue table, ready for reads by primary key and for writes. */
typedef struct CmqTable
{
	CmqTableKind kind;
	LOCKMODE	lockmode;
	Relation	rel;
	Relation	pk;				/* NULL until the first scan */
	EState	   *estate;			/* NULL: not for inserts and updates */
	ResultRelInfo *result;		/* with all indexes open; NULL as above */
	ResultRelInfo *constraints; /* for those that somebody has added, or NULL */
	bool		has_code;		/* an index or constraint runs code of the owner's */
	SnapshotData snapshot;		/* a dirty one */
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* the row that find or next stopped at */
	bool		busy;			/* somebody else is deleting it right now */
	TransactionId busy_with;	/* who */
	ScanKeyData after[2];		/* see cmq_table_after() */
	TupleTableSlot **newslots;	/* rows to insert, kept back */
	int			nslots;			/* slots made */
	int			nnew;			/* rows in them */
	Size		new_size;		/* bytes in these */
} CmqTable;

/* Deletes in one queue; see cmq_delete.c. */
typedef struct CmqDelete
{
	CmqQueue   *queue;
	EState	   *estate;
	Datum		deleted_by;		/* name of the role that calls */
	TimestampTz now;
	TimestampTz expired_before;
	CmqTable	pending;

	/* leaf of the last message: rewind table, or messages when rewind is off */
	CmqTable	table;
	CmqLeaf    *leaf;
} CmqDelete;

/* Which messages of the history are meant. */
typedef struct CmqWindow
{
	TimestampTz start;			/* included */
	TimestampTz end;			/* not included; DT_NOEND: no end */
	bool		has_filter;
	Datum		filter;			/* jsonb that the headers contain */
} CmqWindow;

/* A scan of the history; see cmq_history.c. */
typedef struct CmqHistory
{
	CmqQueue   *queue;
	TimestampTz from;
	TimestampTz until;
	bool		has_filter;
	Datum		filter;
	bool		with_messages;
	LOCKMODE	lockmode;
	MemoryContext context;		/* of the filter, for one message */
	Relation	pending;		/* open, not read */

	int			leaf;			/* the one to open next */
	bool		open;			/* is the one before open? */
	CmqTable	rewind;
	CmqTable	messages;
	TimestampTz time;			/* of the message the scan stands at */
} CmqHistory;

/* Numbers of messages by state. */
typedef struct CmqCounts
{
	int64		ready;
	int64		in_flight;
	int64		delayed;
	int64		history;
	TimestampTz min_msg_time;	/* of pending ones; DT_NOEND: none */
	TimestampTz oldest;			/* the same, expired ones included */
	TimestampTz first_due;		/* of rewound ones; DT_NOEND: none */
	TimestampTz ready_since;	/* of what is ready the longest; DT_NOEND: none */
} CmqCounts;

/* One delivery, as a receipt handle names it. */
typedef struct CmqHandle
{
	TimestampTz enqueued_at;
	TimestampTz visible_at;
	int			receive_count;
	int			rewind_count;
} CmqHandle;

/* cmq.c */
extern int	cmq_max_queues;
extern int	cmq_maintenance_interval;
extern bool cmq_async_receive;
extern char *cmq_reason;
extern bool cmq_require_reason;
extern int	cmq_rewind_log_retention;
extern int	cmq_maintenance_timeout;
extern int	cmq_clock_step_delay;

/* cmq_async.c */
extern bool cmq_async_begin(void);
extern void cmq_async_end(bool only_receives);
extern void cmq_async_install_callbacks(void);

/* cmq_shmem.c */
extern bool cmq_xact_is_over(XactEvent event);
extern void cmq_shmem_install_hooks(void);
extern void cmq_shmem_require(void);
extern uint64 cmq_shmem_xact(void);
extern void cmq_shmem_take_slots(void);
extern void cmq_shmem_sweep_slots(void);
extern CmqSharedQueue *cmq_shmem_use(Oid pending);
extern CmqSharedQueue *cmq_shmem_make(const CmqRelids *relids,
									  const char *name,
									  TimestampTz not_before,
									  TimestampTz last_send, bool held,
									  uint32 triggers);
extern void cmq_shmem_remove_at_end(Oid pending, bool at_commit);
extern int	cmq_shmem_list(CmqSharedKey **keys);
extern void cmq_shmem_remove(const CmqSharedKey *key);
extern void cmq_shmem_with(const CmqSharedKey *key,
						   void (*func) (CmqSharedQueue *shared, void *arg),
						   void *arg);
/* cmq_clock.c */
extern Size cmq_clock_shmem_size(void);
extern void cmq_clock_shmem_init(void);
extern int64 cmq_elapsed(void);
extern TimestampTz cmq_time(void);
extern void cmq_clock_init(CmqSharedQueue *shared, TimestampTz not_before);
extern TimestampTz cmq_clock_now(CmqSharedQueue *shared);
extern TimestampTz cmq_clock_peek(CmqSharedQueue *shared);
extern void cmq_clock_advance(CmqSharedQueue *shared, TimestampTz time);
extern TimestampTz cmq_clock_last(CmqSharedQueue *shared);
extern TimestampTz cmq_clock_tick(CmqSharedQueue *shared);
extern TimestampTz cmq_clock_xact_start(CmqSharedQueue *shared);

/* cmq_floor.c */
extern Size cmq_floor_shmem_size(void);
extern void cmq_floor_shmem_init(void);
extern void cmq_floor_install_callbacks(void);
extern void cmq_floor_init(CmqSharedQueue *shared);
extern CmqAnnouncement cmq_floor_announce(void);
extern void cmq_floor_publish(TimestampTz visible_at);
extern void cmq_floor_withdraw(CmqAnnouncement announcement);
extern void cmq_floor_taken(TimestampTz visible_at);
extern void cmq_floor_taken_due(TimestampTz enqueued_at);
extern void cmq_floor_rewound(void);
extern void cmq_floor_taken_unknown(void);
extern void cmq_floor_begin(CmqFloorScan *scan, CmqQueue *queue,
							TimestampTz now);
extern void cmq_floor_end(const CmqFloorScan *scan, CmqQueue *queue,
						  TimestampTz first_alive, TimestampTz first_due);
extern void cmq_floor_lower_at_end(CmqQueue *queue, TimestampTz time);
extern void cmq_floor_due_added_unknown(CmqSharedQueue *shared);
extern void cmq_floor_added_unknown(CmqSharedQueue *shared);
extern void cmq_floor_taken_message(TimestampTz enqueued_at);
extern TimestampTz cmq_floor_limit(TimestampTz last);
extern TimestampTz cmq_floor_open(void);
extern void cmq_floor_take_slot(void);
extern void cmq_floor_sweep(void);

/* cmq_stretch.c */
extern void cmq_stretch_init(CmqSharedQueue *shared);
extern void cmq_stretch_forget(CmqSharedQueue *shared);
extern void cmq_stretch_begin(CmqStretchScan *scan, CmqQueue *queue,
							  const CmqFloorScan *floor);
extern bool cmq_stretch_jump(CmqStretchScan *scan, const CmqPendingKey *key,
							 CmqPendingKey *last);
extern void cmq_stretch_pass(CmqStretchScan *scan, const CmqPendingKey *key,
							 TransactionId busy_with);
extern void cmq_stretch_stop(CmqStretchScan *scan);
extern void cmq_stretch_end(CmqStretchScan *scan, CmqQueue *queue,
							const CmqFloorScan *floor);

/* cmq_changes.c */
extern void cmq_changes_install_callbacks(void);
extern void cmq_changes_load(CmqQueue *queue);
extern void cmq_changes_check(CmqQueue *queue);
extern void cmq_changes_mend_triggers(CmqQueue *queue);

/* cmq_target.c */
extern bool cmq_target_is_subscribed(Oid relid);
extern bool cmq_target_is_queue(const CmqQueue *queue);

/* cmq_oldest.c */
extern void cmq_oldest_init(CmqSharedQueue *shared);
extern void cmq_oldest_look(CmqQueue *queue, CmqOldestLook *look);
extern bool cmq_oldest_no_news(CmqQueue *queue, const CmqOldestLook *look,
							   TimestampTz until);
extern TimestampTz cmq_oldest_mark(CmqQueue *queue);
extern bool cmq_oldest_is_small(CmqQueue *queue);
extern void cmq_oldest_lower(CmqSharedQueue *shared, TimestampTz time);
extern void cmq_oldest_install_callbacks(void);
extern void cmq_oldest_bring_back(CmqSharedQueue *shared, TimestampTz time);
extern void cmq_oldest_count(CmqQueue *queue, TimestampTz now, bool numbers,
							 CmqCounts *counts);
extern bool cmq_oldest_may_expire(CmqQueue *queue,
								  TimestampTz expired_before);
extern void cmq_oldest_settle(CmqQueue *queue);
extern void cmq_oldest_advance(CmqQueue *queue);

/* cmq_queue.c */
extern void cmq_queue_init_cache(void);
extern char *cmq_queue_name_arg(FunctionCallInfo fcinfo, int argno);
extern void cmq_begin_write(const char *function);
extern void cmq_queue_report_unknown(const char *name);
extern CmqQueue *cmq_queue_find(const char *name);
extern CmqQueue *cmq_queue_find_whole(const char *name);
extern CmqQueue *cmq_queue_lookup(const char *name);
extern CmqQueue *cmq_queue_again(CmqQueue *queue);
extern void cmq_queue_mark_stale(const char *name);
extern CmqQueue *cmq_queue_open(const char *name, AclMode mode,
								LOCKMODE lockmode);
extern CmqQueue *cmq_queue_open_found(CmqQueue *queue, AclMode mode,
									  LOCKMODE lockmode);
extern CmqQueue *cmq_queue_reopen(CmqQueue *queue, AclMode mode,
								  LOCKMODE lockmode);
extern void cmq_queue_check_acl(CmqQueue *queue, AclMode mode);
extern bool cmq_queue_has_relation(CmqQueue *queue, Oid relid,
								   CmqRelation which);
extern bool cmq_queue_is_readable(const CmqQueue *queue);
extern void cmq_queue_check_owner(CmqQueue *queue);
extern void cmq_queue_wait_for(const char *name);
extern TimestampTz cmq_queue_newest(CmqQueue *queue);
extern void cmq_queue_attach(CmqQueue *queue);
extern bool cmq_queue_try_until(const char *name, const char *what,
								void (*func) (const char *name, void *arg),
								void *arg, bool warn, bool (*is_over) (void));
extern bool cmq_queue_try(const char *name, const char *what,
						  void (*func) (const char *name, void *arg),
						  void *arg, bool warn);
extern bool cmq_queue_try_light(const char *name, const char *what,
								void (*func) (const char *name, void *arg),
								void *arg, bool warn);
extern bool cmq_queue_look(const char *name, const char *what,
						   void (*func) (const char *name, void *arg),
						   void *arg, bool warn);
extern CmqQueue *cmq_queue_lock(const char *name, AclMode mode,
								LOCKMODE lockmode);
extern CmqQueue *cmq_queue_try_lock(CmqQueue *queue);
extern TimestampTz cmq_queue_now(CmqQueue *queue);
extern TimestampTz cmq_queue_expired_before(CmqQueue *queue, TimestampTz now);
extern TimestampTz cmq_queue_rewindable_since(CmqQueue *queue,
											  TimestampTz now);
extern CmqLeaf *cmq_queue_leaf(CmqQueue *queue, TimestampTz time);
extern bool cmq_queue_has_forgotten(const CmqQueue *queue,
									TimestampTz deleted_at);
extern bool cmq_queue_has_history(const CmqQueue *queue,
								  TimestampTz enqueued_at,
								  TimestampTz deleted_at, int64 deleted_xact);
extern bool cmq_rewind_is_due(const CmqRewind *rewinding,
							  TimestampTz enqueued_at,
							  TimestampTz deleted_at, int64 deleted_xact);

/* cmq_catalog.c */
typedef struct CmqCatalogScan
{
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
} CmqCatalogScan;

extern Relation cmq_catalog_open(const char *relname, LOCKMODE lockmode);
extern void cmq_catalog_begin(CmqCatalogScan *cs, Relation rel,
							  const char *name);
extern HeapTuple cmq_catalog_next(CmqCatalogScan *cs);
extern void cmq_catalog_end(CmqCatalogScan *cs);
extern void cmq_catalog_store(Relation rel, HeapTuple old, Datum *values,
							  bool *isnull);
extern bool cmq_catalog_load_queue(CmqQueue *queue);
extern bool cmq_catalog_find_queue(CmqQueue *queue, const char *name);
extern bool cmq_catalog_load_leaves(CmqQueue *queue, char **fact, char **undo);
extern void cmq_catalog_insert_queue(CmqQueue *queue);
extern void cmq_catalog_update_queue(CmqQueue *queue);
extern void cmq_catalog_delete_queue(CmqQueue *queue);
extern void cmq_catalog_insert_leaf(CmqQueue *queue, TimestampTz lower,
									TimestampTz upper, Oid messages,
									Oid rewind);
extern bool cmq_catalog_forget_leaves(const char *name);
extern void cmq_catalog_delete_leaf(CmqQueue *queue, TimestampTz lower);
extern bool cmq_catalog_is_free(void);
extern bool cmq_catalog_try_lock(const char *relname);
extern bool cmq_catalog_is_gone(const CmqQueue *queue);
extern List *cmq_catalog_gone_queue_names(void);
extern bool cmq_catalog_name_taken(const char *name, char **existing);
extern bool cmq_catalog_carries_rights(Oid relid);
extern List *cmq_catalog_queue_names(void);
extern List *cmq_catalog_dead_letter_sources(const char *name);
extern Oid	cmq_catalog_relid(const char *relname);
extern Oid	cmq_data_relid(const char *relname);
extern const char *cmq_catalog_relname(Oid relid);

/* cmq_dump.c */
extern int64 cmq_dump_here(void);
extern bool cmq_dump_rewind_is_whole(CmqQueue *queue,
									 TimestampTz expired_before);

/* cmq_gone.c */
extern bool cmq_gone_find_orphans(CmqQueue *queue, const char *name);
extern void cmq_gone_explain(const char *name, char **detail, char **hint);
extern void cmq_gone_make_room(const char *name);
extern void cmq_gone_sweep(void);

/* cmq_topic.c */
extern void cmq_topic_report_unknown(const char *topic);
extern bool cmq_topic_find(const char *topic, bool folded, Oid *relid,
						   bool *routing, char **existing);
extern void cmq_topic_check_relation(const char *topic, Oid relid);
extern void cmq_topic_forget_queue(const char *queue);
extern void cmq_topic_sweep_gone(void);

/* cmq_publish.c */
typedef void (*CmqFilterCheck) (const char *value, const char *argname,
								const char *topic);
extern void cmq_publish_init_cache(void);
extern void cmq_filter_check_tag(const char *value, const char *argname,
								 const char *topic);
extern void cmq_filter_check_key(const char *value, const char *argname,
								 const char *topic);
extern int	cmq_filter_elements(ArrayType *array, const char *argname,
								const char *topic, CmqFilterCheck check,
								char ***elements);
extern void cmq_topic_check_acl(const char *topic, Oid relid, AclMode mode);

/* cmq_send.c */
extern void cmq_send_check_body(CmqQueue *queue, Datum body, bool isnull);
extern int	cmq_send_elements(const char *kind, const char *name,
							  const char *argname, Datum arg, Oid type,
							  Datum **elements, bool **isnull);
extern void cmq_send_check_room(CmqQueue *queue, int n);
extern void cmq_send_check_headers(CmqQueue *queue, Datum headers, int added);
extern void cmq_send_as_owner(CmqQueue *queue, int n, Datum *bodies,
							  Datum *headers, bool *headers_null,
							  TimestampTz *times);
extern void cmq_send_messages(CmqQueue *queue, int n, Datum *bodies,
							  Datum *headers, bool *headers_null, int delay,
							  TimestampTz *times);

/* cmq_delete.c */
extern void cmq_delete_begin(CmqDelete *state, CmqQueue *queue, bool update);
extern bool cmq_delete_row(CmqDelete *state, bool wait);
extern void cmq_delete_end(CmqDelete *state);

/* cmq_dead_letter.c */
extern void cmq_dead_letter_check(CmqQueue *queue);
extern void cmq_dead_letter_check_drop(const char *name);
extern bool cmq_dead_letter_forget(const char *name, bool wait);
extern const char *cmq_dead_letter_reason(CmqQueue *queue,
										  TupleTableSlot *slot,
										  TimestampTz now);
extern bool cmq_dead_letter_fits(CmqQueue *target, Datum body, Datum headers);
extern bool cmq_dead_letter_stays(CmqQueue *queue);
extern int	cmq_dead_letter_move(CmqQueue *queue, const CmqLetter *letters,
								 int n);
extern CmqStepResult cmq_dead_letter_sweep(CmqQueue *queue,
										   const CmqPortion *portion);
extern CmqQueue *cmq_dead_letter_stranger(CmqQueue *queue);
extern void cmq_dead_letter_sweep_stranger(CmqQueue *queue, int limit);

/* cmq_ddl.c */
extern int	cmq_ddl_enter(Oid owner, Oid *save_userid, int *save_sec_context);
extern void cmq_ddl_leave(int nestlevel, Oid save_userid,
						  int save_sec_context);
extern void cmq_ddl_execute(const char *fmt,...) pg_attribute_printf(1, 2);
extern void cmq_ddl_check_name(const char *name, const char *what);
extern char *cmq_ddl_relname(const char *prefix, const char *name,
							 const char *suffix);
extern const char *cmq_relation_schema(CmqRelation which);
extern char *cmq_relation_name(CmqRelation which, const char *name);
extern const char *cmq_relation_qualified(CmqRelation which, const char *name);
extern Oid	cmq_relation_oid(CmqRelation which, const char *name);
extern void cmq_ddl_lock_creation(void);
extern void cmq_ddl_check_not_in_use(CmqQueue *queue, const char *what);
extern void cmq_ddl_revoke_all(Oid relid);
extern void cmq_ddl_refuse_truncate(const char *table, const char *name);

/* cmq_leaf.c */
extern void cmq_leaf_init(CmqSharedQueue *shared);
extern TimestampTz cmq_leaf_lead(CmqQueue *queue);
extern bool cmq_leaf_make(CmqQueue *queue, TimestampTz from,
						  TimestampTz until);
extern void cmq_leaf_demand(CmqQueue *queue, TimestampTz time);
extern CmqStepResult cmq_leaf_drop_old(CmqQueue *queue,
									   const CmqPortion *portion);

/* cmq_table.c */
extern bool cmq_table_open(CmqTable *table, EState *estate,
						   const CmqQueue *queue, Oid relid,
						   CmqTableKind kind, LOCKMODE lockmode);
extern Relation cmq_table_open_heap(const CmqQueue *queue, Oid relid,
									CmqTableKind kind);
extern void cmq_table_close(CmqTable *table);
extern void cmq_table_release(CmqTable *table);
extern void cmq_table_insert(CmqTable *table, Datum *values, bool *isnull,
							 Size size);
extern void cmq_table_flush(CmqTable *table);
extern TM_Result cmq_table_update(CmqTable *table, Datum *values,
								  bool *isnull);
extern TM_Result cmq_table_delete(CmqTable *table, bool wait);
extern bool cmq_table_find(CmqTable *table, TimestampTz key1,
						   TimestampTz key2);
extern bool cmq_table_fetch(CmqTable *table, ItemPointer tid);
extern void cmq_table_range(CmqTable *table, TimestampTz from,
							TimestampTz until, bool include_until);
extern void cmq_table_after(CmqTable *table, const CmqPendingKey *key,
							TimestampTz until);
extern void cmq_table_key(CmqTable *table, CmqPendingKey *key);
extern bool cmq_table_next(CmqTable *table);
extern TimestampTz cmq_table_newest(CmqTable *table);
extern Datum cmq_slot_body(TupleTableSlot *slot);
extern TimestampTz cmq_slot_time(TupleTableSlot *slot, AttrNumber attno);
extern int32 cmq_slot_int(TupleTableSlot *slot, AttrNumber attno);
extern int64 cmq_slot_int64(TupleTableSlot *slot, AttrNumber attno);
extern TimestampTz cmq_slot_first_received(TupleTableSlot *slot);
extern TimestampTz cmq_slot_ready_since(TupleTableSlot *slot);

/* cmq_damage.c */
typedef struct CmqReading
{
	ErrorContextCallback context;
	CmqQueue   *queue;
	TimestampTz message;		/* being read; DT_NOBEGIN: none */
} CmqReading;

extern void cmq_damage_init(CmqSharedQueue *shared);
extern void cmq_reading_begin(CmqReading *reading, CmqQueue *queue);
extern void cmq_reading_end(CmqReading *reading);

/* cmq_recent.c */
extern void cmq_recent_note(Oid pending, TimestampTz visible_at,
							TimestampTz enqueued_at,
							const ItemPointerData *tid);
extern ItemPointer cmq_recent_find(Oid pending, TimestampTz visible_at,
								   TimestampTz enqueued_at);

/* cmq_handle.c */
extern char *cmq_handle_out(const CmqHandle *handle);
extern void cmq_handle_in(const char *str, CmqHandle *handle);
extern int64 cmq_time_to_msg_id(TimestampTz time);
extern bool cmq_msg_id_to_time(int64 msg_id, TimestampTz *time);

/* cmq_headers.c */
#define CMQ_DEAD_LETTER_HEADER "cmq_dead_letter"
#define CMQ_ORIGIN_HEADER "cmq_origin"

extern char *cmq_headers_time(TimestampTz time);
extern Datum cmq_headers_add(Datum headers, bool isnull, const char *key,
							 const char *members);

/* cmq_history.c */
extern void cmq_history_require(CmqQueue *queue);
extern void cmq_history_args(FunctionCallInfo fcinfo, int argno_start,
							 int argno_filter, CmqQueue *queue,
							 CmqWindow *window);
extern void cmq_history_begin(CmqHistory *history, CmqQueue *queue,
							  const CmqWindow *window, bool with_messages,
							  LOCKMODE lockmode);
extern bool cmq_history_next(CmqHistory *history);
extern void cmq_history_end(CmqHistory *history);

/* cmq_rewind_log.c */
extern void cmq_rewind_log_require_reason(CmqQueue *queue);
extern void cmq_rewind_log_add(CmqQueue *queue, const char *kind,
							   TimestampTz time, const CmqWindow *window,
							   const char *into_queue, int64 messages);
extern void cmq_rewind_log_prune(void);

/* cmq_rewind.c */
extern int64 cmq_rewind_xact_token(FullTransactionId fxid);
extern TimestampTz cmq_rewind_leaf_due(CmqQueue *queue, const CmqLeaf *leaf,
									   const CmqRewind *rewinding,
									   TimestampTz expired_before);
extern TimestampTz cmq_rewind_first_due(CmqQueue *queue,
										const CmqRewind *rewinding,
										TimestampTz expired_before);
extern int64 cmq_rewind_count_due(CmqQueue *queue, Snapshot snapshot,
								  TimestampTz expired_before);
extern void cmq_rewind_range(CmqQueue *queue, TimestampTz min_msg_time,
							 TimestampTz first_due, TimestampTz *earliest,
							 TimestampTz *latest);
extern void cmq_rewind_advance(CmqQueue *queue);

/* cmq_forget.c */
extern void cmq_forget_install_callbacks(void);
extern void cmq_forget_init(CmqSharedQueue *shared);
extern CmqStepResult cmq_forget_some(CmqQueue *queue);

/* cmq_attributes.c */
extern void cmq_count_pending(CmqQueue *queue, Snapshot snapshot,
							  TimestampTz now, CmqCounts *counts);

/* cmq_maintain.c */
extern const int cmq_maintain_nsteps;
extern const int cmq_maintain_nlong;
extern CmqStepResult cmq_maintain_step(const char *name, int step,
									   bool bounded);
extern void cmq_maintain_sweep(void);
extern bool cmq_maintain_has_room(void);
extern bool cmq_portion_is_over(const CmqPortion *portion);
extern CmqPlace cmq_place_get(CmqQueue *queue, const CmqPortion *portion,
							  CmqPlaceKind kind);
extern void cmq_place_set(CmqQueue *queue, const CmqPortion *portion,
						  CmqPlaceKind kind, const CmqPlace *place);
extern void cmq_place_init(CmqSharedQueue *shared);

/* cmq_limit.c */
extern bool cmq_limited(int limit, const char *name, const char *what,
						void (*func) (const char *name, void *arg),
						void *arg, bool warn, bool *over);
extern void cmq_uses_init(CmqUses *uses, MemoryContext mcxt);
extern void cmq_uses_host(CmqUses *uses, Oid host);
extern void cmq_uses_guest(CmqUses *uses, Oid guest, Size size);
extern int64 cmq_uses_of(CmqUses *uses, Oid owner);
extern Oid	cmq_uses_most(CmqUses *uses, int64 least, List *except);

/* cmq_lock.c */
extern bool cmq_lock_to_look(Oid relid);
extern bool cmq_lock_in_mode_briefly(Oid relid, LOCKMODE mode);
extern bool cmq_lock_briefly(Oid relid);
extern bool cmq_lock_is_had(Oid relid, LOCKMODE lockmode);
extern void cmq_lock_alone(const char *name, Oid pending, List *relids,
						   const char *what);

/* cmq_owner.c */
extern bool cmq_owner_is_running(void);
extern void cmq_owner_install_hook(void);
extern void cmq_owner_call(Oid owner, void (*func) (void *arg), void *arg);

/* cmq_turn.c */
extern Size cmq_turn_shmem_size(void);
extern void cmq_turn_shmem_init(void);
extern void cmq_turn_init(CmqSharedQueue *shared);
extern void cmq_turn_order(List *names, CmqTurnOrder *order);
extern bool cmq_turn_begin(CmqQueue *queue, CmqTurnKind kind, Oid guest);
extern int	cmq_turn_first_step(int n);
extern void cmq_turn_at_step(int step);
extern CmqUses *cmq_turn_uses(void);
extern void cmq_turn_end(bool ok);

/* cmq_wait.c */
extern void cmq_wait_take_slot(void);
extern void cmq_wait_sweep(void);
extern Size cmq_wait_shmem_size(void);
extern void cmq_wait_shmem_init(void);
extern void cmq_wait_install_callbacks(void);
extern void cmq_wait_init(CmqSharedQueue *shared);
extern void cmq_wait_signal_at_end(CmqSharedQueue *shared, int at_commit,
								   int at_abort);
extern void cmq_wait_signal_rewind(CmqSharedQueue *shared);
extern void cmq_wait_signal(CmqSharedQueue *shared, int n, bool rewound);
extern void cmq_wait_begin(CmqSharedQueue *shared);
extern bool cmq_wait_sleep(CmqSharedQueue *shared, TimestampTz due,
						   int64 deadline);
extern void cmq_wait_end(void);
extern void cmq_wait_ask_to_leave(CmqSharedQueue *shared);
extern void cmq_wait_asked(void);

/* cmq_prepared.c */
extern Size cmq_prepared_shmem_size(void);
extern void cmq_prepared_shmem_init(LWLock *lock);
extern void cmq_prepared_install_callbacks(void);
extern TimestampTz cmq_prepared_floor(void);
extern void cmq_prepared_add_floor(TimestampTz floor);
extern void cmq_prepared_expect(CmqSharedQueue *shared);
extern void cmq_prepared_settle(void);
extern bool cmq_prepared_holds(const CmqRelids *relids);
extern void cmq_prepared_hold(CmqSharedQueue *shared);
extern bool cmq_prepared_unhold(CmqSharedQueue *shared);
extern void cmq_prepared_look_at_held(void);
extern void cmq_prepared_add(CmqSharedQueue *shared,
							 const CmqPreparedQueue *more);
extern void cmq_prepared_merge_due(CmqPreparedQueue *queue, int64 due,
								   TimestampTz rewound_at, TimestampTz from);
extern void cmq_prepared_merge(CmqPreparedQueue *queue,
							   const CmqPreparedQueue *more);
extern void cmq_prepared_sweep(void);

/* cmq_stats.c */
extern Size cmq_stats_shmem_size(void);
extern void cmq_stats_shmem_init(void);
extern void cmq_stats_install_callbacks(void);
extern void cmq_stats_init(CmqSharedQueue *shared, int tranche);
extern void cmq_stats_start_empty(CmqSharedQueue *shared);
extern void cmq_stats_add(CmqSharedQueue *shared, CmqCounter counter, int64 n);
extern void cmq_stats_event(CmqSharedQueue *shared, CmqCounter counter);
extern void cmq_stats_pending(CmqSharedQueue *shared, int64 n);
extern void cmq_stats_pending_unknown(CmqSharedQueue *shared);
extern void cmq_stats_due(CmqSharedQueue *shared, const CmqRewind *rewinding,
						  TimestampTz enqueued_at);
extern void cmq_stats_due_unknown(CmqSharedQueue *shared);
extern void cmq_stats_spoil(CmqSharedQueue *shared);
extern void cmq_stats_publish(CmqSharedQueue *shared,
							  const CmqPreparedQueue *changes,
							  TransactionId xid);
extern int64 cmq_stats_count_pending(CmqQueue *queue);
extern int64 cmq_stats_count_due(CmqQueue *queue);
extern void cmq_stats_count_ahead(CmqQueue *queue);
extern bool cmq_stats_known_empty(CmqSharedQueue *shared);
extern bool cmq_stats_has_room(CmqQueue *queue, int64 n, int64 max);

/* cmq_launcher.c */
extern Size cmq_launcher_shmem_size(void);
extern void cmq_launcher_shmem_init(void);
extern void cmq_launcher_register(void);
extern void cmq_launcher_come_again(int visit);
extern bool cmq_launcher_wants_place(int visit);

/* cmq_worker.c */
extern Size cmq_worker_shmem_size(void);
extern void cmq_worker_shmem_init(void);
extern int	cmq_worker_places(void);
extern void cmq_worker_fill(BackgroundWorker *worker, const char *function,
							const char *type);
extern BackgroundWorkerHandle *cmq_worker_start(Oid database,
												const char *queue, int visit,
												int lock_timeout);
extern void cmq_worker_unfinished(void);
extern bool cmq_worker_run_for(const char *name, Oid owner);

#endif							/* CMQ_H */
