/*-------------------------------------------------------------------------
 *
 * cmq_timeline.c
 *	  How many messages of which state were produced when: cmq_timeline().
 *
 * Whatever the size of the queue, a call takes a bounded time.  Rows tell the state of their
 * message; each is in the rewind table of a leaf or in the pending table (src/README,
 * Storage).  What is small is counted, row by row.  Of what is large the keys are known from
 * the pages of the primary keys (cmq_index_pages.c), and rows are looked at here and there:
 *	1. The leaf pages of each index are listed.
 *	2. Each index is cut into strips: by the buckets, and the pending table, where
 *	   visible_at comes first, also at the end of the timeline and at the present.
 *	3. Strips of the rewind tables with few pages are counted.  Of the others some pages are
 *	   looked at: those at the ends of a strip, where another bucket begins, each for
 *	   itself; of those between so many, evenly spread, each for its share.
 *	4. The keys on such a page are counted, and rows of a run of them are looked at: whether
 *	   the snapshot sees them, and in which state they are.
 *	5. A bucket has as many messages of a state as it has keys, times the part of the rows
 *	   looked at of the bucket that were in that state.
 * So nothing is supposed of times: of what was produced in a moment there are as many pages
 * as of what took a day.
 *
 * In the pending table the time of the production of a message is where it stands only as
 * long as it was neither delayed nor received.  Others stand further right, those delayed or
 * in flight right of the present.  So keys are of a class, and step 5 is done for each
 * class.  The pending table is counted if it is small from the start of the timeline on.
 *
 * Everything is seen by the snapshot of the statement, as the views see it.  If rewind is
 * switched off meanwhile a part of the history may be missing: it is gone when we return.
 *
 * Locks: AccessShare on the pending table and the rewind leaves of the queue, to the end of
 * the transaction, as the views have them.  It only reads, and works on a standby.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "common/int.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "base/cmq_handle.h"
#include "memory/cmq_shared.h"
#include "store/cmq_description.h"
#include "store/cmq_index_pages.h"
#include "store/cmq_queue.h"
#include "store/cmq_shape.h"
#include "store/cmq_states.h"
#include "store/cmq_table.h"

PG_FUNCTION_INFO_V1(cmq_timeline);

#define MAX_BUCKETS 1000

/* So many pages are counted row by row, some 80,000 rows: of rewind tables, and of pending. */
#define COUNT_REWIND 200
#define COUNT_PENDING 100

/*
 * So many pages are looked at, but some of each strip between its ends, and about so many
 * rows of them, but some of each.
 */
#define LOOK_AT_PAGES 3000
#define MIN_PAGES 3
#define LOOK_AT_ROWS 60000
#define MIN_RUN 8

/* The same of the strips behind the timeline, where the keys of all buckets are mixed. */
#define LOOK_AT_MIXED_PAGES 4000
#define LOOK_AT_MIXED_ROWS 20000
#define MIXED_PAGES_WITH_ROWS 1000	/* of each */

/* Result columns. */
enum
{
	Anum_timeline_bucket_start = 1,
	Anum_timeline_bucket_end,
	Anum_timeline_history,
	Anum_timeline_ready,
	Anum_timeline_in_flight,
	Anum_timeline_delayed,
	Anum_timeline_brought_back,
	Anum_timeline_exact,
	Natts_timeline = 8
};

/* What a message counts as; the columns from history on. */
typedef enum Column
{
	HISTORY,
	READY,
	IN_FLIGHT,
	DELAYED,
	BROUGHT_BACK,
	NCOLUMNS,
	NO_COLUMN = NCOLUMNS
} Column;

/* Where the row of a key is, which says something about its state. */
typedef enum Class
{
	IN_REWIND,
	AS_SENT,					/* in pending, where it was sent */
	WAS_HIDDEN,					/* in flight or delayed before */
	IS_HIDDEN,					/* now */
	NCLASSES
} Class;

/* Keys of a class and bucket, by the share of the page that each was found on. */
typedef struct Sample
{
	double		keys;
	double		looked_at;		/* the rows of so many */
	double		found[NCOLUMNS];	/* of these are so many */
} Sample;

typedef struct Bucket
{
	TimestampTz start;
	int64		counted[NCOLUMNS];
	Sample		sample[NCLASSES];
	bool		exact;
} Bucket;

/* A table with its pages. */
typedef struct Source
{
	CmqTable	table;
	bool		is_pending;
	bool		has_pages;		/* else it must be counted */
	CmqIndexPages pages;
} Source;

/* A part of an index: first columns in [from, until). */
typedef struct Strip
{
	Source	   *source;
	TimestampTz from;
	TimestampTz until;
	int64		first;			/* pages */
	int64		last;
	bool		mixed;			/* keys of all buckets */
	bool		counted;
} Strip;

/* What may be looked at in each strip of a kind. */
typedef struct Allowance
{
	int64		pages;			/* between its ends */
	double		rows;
} Allowance;

typedef struct Timeline
{
	CmqQueue   *queue;
	Snapshot	snapshot;
	CmqStateBounds bounds;
	CmqWindow	window;
	int			nbuckets;
	double		per_microsecond;	/* so many buckets */
	Bucket	   *buckets;		/* and one behind that is only a bound */
	int			nsources;
	Source	   *sources;		/* the first is the pending table */
	int			nstrips;
	Strip	   *strips;
	double		turn;			/* where the next one is, in [0, 1) */
	CmqPendingKey *keys;		/* of the page being looked at */
} Timeline;

/*
 * Buckets and columns.
 */

/* The bucket of a message produced then, NULL if it is not in the timeline. */
static inline Bucket *
find_bucket(const Timeline *tl, TimestampTz time)
{
	Bucket	   *bucket;

	if (time < tl->window.start || time >= tl->window.end)
		return NULL;
	bucket = &tl->buckets[(int) ((time - tl->window.start) * tl->per_microsecond)];

	/* but for the rounding */
	while (bucket->start > time)
		bucket--;
	while (bucket[1].start <= time)
		bucket++;
	return bucket;
}

static Class
get_class(const Timeline *tl, const Source *source, const CmqPendingKey *key)
{
	if (!source->is_pending)
		return IN_REWIND;
	if (key->visible_at > tl->bounds.now)
		return IS_HIDDEN;
	return key->visible_at == key->enqueued_at ? AS_SENT : WAS_HIDDEN;
}

/* The key of the row that the scan of the source stands at. */
static CmqPendingKey
get_row_key(const Source *source)
{
	CmqPendingKey key;

	if (source->is_pending)
		cmq_slot_key(source->table.slot, &key);
	else
		key.visible_at = key.enqueued_at =
			cmq_slot_time(source->table.slot, Anum_rewind_enqueued_at);
	return key;
}

/* What the row counts as: a message that was restored, until somebody receives it, as due. */
static Column
get_column(const Timeline *tl, const Source *source)
{
	TupleTableSlot *slot = source->table.slot;

	switch (source->is_pending ? cmq_state_of_pending(&tl->bounds, slot) :
			cmq_state_of_rewind(&tl->bounds, slot))
	{
		case CMQ_IS_READY:
			return cmq_slot_int(slot, Anum_pending_receive_count) == 0 &&
				cmq_slot_int(slot, Anum_pending_rewind_count) > 0 ?
				BROUGHT_BACK : READY;
		case CMQ_IS_DELAYED:
			return DELAYED;
		case CMQ_IS_IN_FLIGHT:
			return IN_FLIGHT;
		case CMQ_IS_DUE:
			return BROUGHT_BACK;
		case CMQ_IS_HISTORY:
			return HISTORY;
		case CMQ_IS_NOTHING:
			break;
	}
	return NO_COLUMN;
}

/*
 * Counting.
 */

static void
count_rows(Timeline *tl, Source *source, TimestampTz from, TimestampTz until)
{
	cmq_table_range(&source->table, from, until, false);
	while (cmq_table_next(&source->table))
	{
		Bucket	   *bucket = find_bucket(tl, get_row_key(source).enqueued_at);
		Column		column = bucket ? get_column(tl, source) : NO_COLUMN;

		if (column != NO_COLUMN)
			bucket->counted[column]++;
	}
}

/*
 * Looking at pages.
 */

/* The next place in [0, 1): they never come in step with what is there. */
static double
next_place(Timeline *tl)
{
	tl->turn += 0.6180339887498949;
	tl->turn -= floor(tl->turn);
	return tl->turn;
}

/* Look at the rows of these keys, each of which stands for so many keys. */
static void
look_at_rows(Timeline *tl, Source *source, const CmqPendingKey *keys, int n,
			 double share)
{
	const CmqPendingKey *last = &keys[n - 1];
	CmqPendingKey before = keys[0];

	for (int i = 0; i < n; i++)
	{
		Bucket	   *bucket = find_bucket(tl, keys[i].enqueued_at);

		if (bucket)
			bucket->sample[get_class(tl, source, &keys[i])].looked_at += share;
	}
	before.enqueued_at--;
	if (source->is_pending)
		cmq_table_after(&source->table, &before, last->visible_at);
	else
		cmq_table_range(&source->table, keys[0].visible_at, last->visible_at,
						true);
	while (cmq_table_next(&source->table))
	{
		CmqPendingKey key = get_row_key(source);
		Bucket	   *bucket = find_bucket(tl, key.enqueued_at);
		Column		column = bucket ? get_column(tl, source) : NO_COLUMN;

		if (key.visible_at == last->visible_at &&
			key.enqueued_at > last->enqueued_at)
			break;
		if (column != NO_COLUMN)
			bucket->sample[get_class(tl, source, &key)].found[column] += share;
	}
}

/* Look at a page of a strip, which stands for so many, and at so many rows. */
static void
look_at_page(Timeline *tl, const Strip *strip, int64 page, double share,
			 double rows)
{
	Source	   *source = strip->source;
	CmqPendingKey *keys = tl->keys;
	int			n = cmq_index_pages_keys(&source->pages, page, keys);
	int			run;

	/* those of the strip alone */
	while (n > 0 && keys[0].visible_at < strip->from)
		keys++, n--;
	while (n > 0 && keys[n - 1].visible_at >= strip->until)
		n--;
	for (int i = 0; i < n; i++)
	{
		Bucket	   *bucket = find_bucket(tl, keys[i].enqueued_at);

		if (bucket)
			bucket->sample[get_class(tl, source, &keys[i])].keys += share;
	}
	run = (int) Min(n, rows);
	if (run > 0)
		look_at_rows(tl, source, keys + (int) (next_place(tl) * (n - run + 1)),
					 run, share * n / run);
}

/*
 * Look at the pages at the ends of a strip, and at some of those between.  Each gets as many
 * of the rows as it stands for pages.
 */
static void
look_at_strip(Timeline *tl, const Strip *strip, const Allowance *allowed)
{
	int64		between = Max(strip->last - strip->first - 1, 0);
	int64		n = Min(between, allowed->pages);
	double		share = n > 0 ? (double) between / n : 1;
	double		rows = allowed->rows / (between + 2);
	int64		step = strip->mixed ? n / MIXED_PAGES_WITH_ROWS + 1 : 1;

	look_at_page(tl, strip, strip->first, 1, Max(rows, MIN_RUN));
	for (int64 i = 0; i < n; i++)
	{
		int64		place = n == between ? i : (int64) ((i + next_place(tl)) * share);

		look_at_page(tl, strip, strip->first + 1 + Min(place, between - 1),
					 share, i % step == 0 ? Max(rows * share * step, MIN_RUN) : 0);
	}
	if (strip->last > strip->first)
		look_at_page(tl, strip, strip->last, 1, Max(rows, MIN_RUN));
}

/*
 * Sources and strips.
 */

/* Open a table and list its pages; false if it is gone. */
static bool
open_source(Timeline *tl, Oid relid, CmqTableKind kind, TimestampTz from,
			TimestampTz until)
{
	Source	   *source = &tl->sources[tl->nsources];

	if (!cmq_table_open(&source->table, NULL, tl->queue, relid, kind,
						AccessShareLock))
		return false;
	source->table.seen_by = tl->snapshot;
	source->is_pending = kind == CMQ_PENDING;
	/* opens the index, too */
	cmq_table_range(&source->table, from, until, false);
	source->has_pages = cmq_index_pages_list(&source->pages, source->table.pk,
											 from, until);
	tl->nsources++;
	return true;
}

static void
add_strip(Timeline *tl, Source *source, TimestampTz from, TimestampTz until,
		  bool mixed)
{
	Strip	   *strip = &tl->strips[tl->nstrips];
	bool		has_pages = source->has_pages && source->pages.n > 0;

	if (from >= until)
		return;
	strip->source = source;
	strip->from = from;
	strip->until = until;
	strip->mixed = mixed;
	strip->counted = false;
	strip->first = has_pages ?
		cmq_index_pages_find(&source->pages, from, false) : 0;
	strip->last = has_pages ?
		cmq_index_pages_find(&source->pages, until, true) : 0;
	tl->nstrips++;
}

/* Cut what [from, until) has of the index into strips. */
static void
cut(Timeline *tl, Source *source, TimestampTz from, TimestampTz until)
{
	for (int i = 0; i < tl->nbuckets; i++)
		add_strip(tl, source, Max(tl->buckets[i].start, from),
				  Min(tl->buckets[i + 1].start, until), false);
}

/* Open the pending table and cut it. */
static void
open_pending(Timeline *tl)
{
	TimestampTz from = Max(tl->window.start, tl->bounds.expired_before);
	TimestampTz present = tl->bounds.now + 1;
	TimestampTz behind = Min(tl->window.end, present);

	if (!open_source(tl, tl->queue->pending, CMQ_PENDING, from, DT_NOEND))
		return;
	cut(tl, &tl->sources[0], from, behind);
	add_strip(tl, &tl->sources[0], Max(from, behind), present, true);
	add_strip(tl, &tl->sources[0], Max(from, present), DT_NOEND, true);
}

/* Open the rewind tables that can have something, and cut them. */
static void
open_rewind(Timeline *tl)
{
	CmqQueue   *queue = tl->queue;
	TimestampTz from = tl->bounds.rewindable_since;

	if (queue->rewinding.active)
		from = Min(from, queue->rewinding.from);
	from = Max(Max(from, tl->bounds.expired_before), tl->window.start);
	for (int i = 0; i < queue->nleaves; i++)
	{
		CmqLeaf    *leaf = &queue->leaves[i];
		TimestampTz leaf_from = Max(from, leaf->lower);
		TimestampTz until = Min(tl->window.end, leaf->upper);

		if (leaf_from < until &&
			open_source(tl, leaf->rewind, CMQ_REWIND, leaf_from, until))
			cut(tl, &tl->sources[tl->nsources - 1], leaf_from, until);
	}
}

/* How many pages begin within a strip: about as many as are to be read to count it. */
static int64
strip_size(const Strip *strip)
{
	return strip->last - strip->first;
}

/* How many pages have strips of no more than this size, of one kind of tables? */
static int64
sum_sizes(const Timeline *tl, bool pending, int64 largest)
{
	int64		sum = 0;

	for (int i = 0; i < tl->nstrips; i++)
	{
		const Strip *strip = &tl->strips[i];

		if (strip->source->is_pending == pending && strip_size(strip) <= largest)
			sum += strip_size(strip);
	}
	return sum;
}

/*
 * What may be looked at in each strip of a kind, so that it is so much in all?  Of small
 * ones it is less, and of others more.
 */
static Allowance
find_allowance(const Timeline *tl, bool mixed, int64 pages, double rows)
{
	Allowance	allowed = {.pages = MIN_PAGES};
	int64		high = pages;
	int			nstrips;

	do
	{
		int64		middle = (allowed.pages + high) / 2;
		int64		sum = 0;

		nstrips = 0;
		for (int i = 0; i < tl->nstrips; i++)
		{
			if (tl->strips[i].counted || tl->strips[i].mixed != mixed)
				continue;
			sum += 1 + Min(strip_size(&tl->strips[i]), middle + 1);
			nstrips++;
		}
		if (sum <= pages)
			allowed.pages = middle;
		else
			high = middle;
	} while (high - allowed.pages > 1);
	allowed.rows = rows / Max(nstrips, 1);
	return allowed;
}

/* Choose what is counted: the smallest strips of rewind tables, and all of pending or none. */
static void
choose_counted(Timeline *tl)
{
	bool		pending = sum_sizes(tl, true, PG_INT64_MAX) <= COUNT_PENDING;
	int64		largest = COUNT_REWIND;

	while (largest > 0 && sum_sizes(tl, false, largest) > COUNT_REWIND)
		largest--;
	for (int i = 0; i < tl->nstrips; i++)
	{
		Strip	   *strip = &tl->strips[i];

		strip->counted = !strip->source->has_pages ||
			(strip->source->is_pending ? pending : strip_size(strip) <= largest);
	}
}

/* The buckets whose messages are not all counted. */
static void
mark_inexact(Timeline *tl, const Strip *strip)
{
	for (int i = 0; i < tl->nbuckets; i++)
	{
		if (strip->source->is_pending ||
			(tl->buckets[i].start < strip->until &&
			 tl->buckets[i + 1].start > strip->from))
			tl->buckets[i].exact = false;
	}
}

static void
read_strips(Timeline *tl)
{
	Allowance	plain;
	Allowance	mixed;

	choose_counted(tl);
	plain = find_allowance(tl, false, LOOK_AT_PAGES, LOOK_AT_ROWS);
	mixed = find_allowance(tl, true, LOOK_AT_MIXED_PAGES, LOOK_AT_MIXED_ROWS);
	for (int i = 0; i < tl->nstrips; i++)
	{
		const Strip *strip = &tl->strips[i];

		if (strip->counted)
			count_rows(tl, strip->source, strip->from, strip->until);
		else if (strip->source->pages.n > 0)
		{
			mark_inexact(tl, strip);
			look_at_strip(tl, strip, strip->mixed ? &mixed : &plain);
		}
	}
}

/*
 * The result.
 */

/* The part of the keys of this class that are in a column, in the bucket. */
static double
get_part(const Timeline *tl, const Bucket *bucket, Class class, Column column)
{
	const Sample *sample = &bucket->sample[class];
	double		found = 0;
	double		looked_at = 0;

	if (sample->looked_at > 0)
		return sample->found[column] / sample->looked_at;
	/* too few keys for a look: as in all buckets */
	for (int i = 0; i < tl->nbuckets; i++)
	{
		found += tl->buckets[i].sample[class].found[column];
		looked_at += tl->buckets[i].sample[class].looked_at;
	}
	return looked_at > 0 ? found / looked_at : 0;
}

static int64
get_number(const Timeline *tl, const Bucket *bucket, Column column)
{
	double		estimate = 0;

	for (Class class = 0; class < NCLASSES; class++)
	{
		if (bucket->sample[class].keys > 0)
			estimate += bucket->sample[class].keys *
				get_part(tl, bucket, class, column);
	}
	return bucket->counted[column] + (int64) rint(estimate);
}

static void
return_rows(const Timeline *tl, ReturnSetInfo *rsinfo)
{
	bool		isnull[Natts_timeline] = {false};

	for (int i = 0; i < tl->nbuckets; i++)
	{
		const Bucket *bucket = &tl->buckets[i];
		Datum		values[Natts_timeline];

#define VALUE(att) values[Anum_timeline_##att - 1]
		VALUE(bucket_start) = TimestampTzGetDatum(bucket->start);
		VALUE(bucket_end) = TimestampTzGetDatum(bucket[1].start);
		for (Column column = 0; column < NCOLUMNS; column++)
			values[Anum_timeline_history - 1 + column] =
				Int64GetDatum(get_number(tl, bucket, column));
		VALUE(exact) = BoolGetDatum(bucket->exact);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
}

/* The arguments behind the queue.  Raises 22023. */
static void
get_buckets(FunctionCallInfo fcinfo, Timeline *tl, const char *queue)
{
	int64		length;
	int			n;

	cmq_require_arg(fcinfo, 1, "start_time", "queue", queue);
	cmq_require_arg(fcinfo, 2, "end_time", "queue", queue);
	cmq_times_args(fcinfo, 1, queue, &tl->window);
	n = cmq_int_arg(fcinfo, 3, "buckets", 1, MAX_BUCKETS, 0, false, queue);
	if (TIMESTAMP_NOT_FINITE(tl->window.start) ||
		TIMESTAMP_NOT_FINITE(tl->window.end) ||
		pg_sub_s64_overflow(tl->window.end, tl->window.start, &length))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_time and end_time must be finite for queue \"%s\"",
						queue)));
	if (length < n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the time is too short for %d buckets of queue \"%s\"", n,
						queue),
				 errdetail("A bucket has a microsecond or more.")));
	tl->nbuckets = n;
	tl->per_microsecond = (double) n / length;
	tl->buckets = palloc0((n + 1) * sizeof(Bucket));
	for (int i = 0; i <= n; i++)
	{
		tl->buckets[i].start = tl->window.start + length / n * i +
			length % n * i / n;
		tl->buckets[i].exact = true;
	}
}

Datum
cmq_timeline(PG_FUNCTION_ARGS)
{
	Timeline	tl = {0};

	cmq_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	tl.queue = cmq_queue_open(cmq_queue_name_arg(fcinfo, 0), ACL_SELECT,
							  AccessShareLock);
	get_buckets(fcinfo, &tl, tl.queue->name);
	tl.snapshot = GetActiveSnapshot();
	cmq_states_bounds(&tl.bounds, tl.queue, cmq_queue_now(tl.queue));
	tl.sources = palloc0((tl.queue->nleaves + 1) * sizeof(Source));
	tl.strips = palloc0((tl.nbuckets + 2) * (tl.queue->nleaves + 1) *
						sizeof(Strip));
	tl.keys = palloc(CMQ_INDEX_PAGE_KEYS * sizeof(CmqPendingKey));

	open_pending(&tl);
	open_rewind(&tl);
	read_strips(&tl);
	for (int i = 0; i < tl.nsources; i++)
		cmq_table_close(&tl.sources[i].table);
	return_rows(&tl, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}
