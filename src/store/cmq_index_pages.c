/*-------------------------------------------------------------------------
 *
 * cmq_index_pages.c
 *	  The leaf pages of a primary key: where each begins, and the keys on one.
 *
 * The pages of a btree above its leaves have one entry for each leaf, with a bound of its
 * keys.  So a walk along them, which reads one page for some hundred leaves, tells where
 * each of some hundred keys begins: quantiles that are exact to a page, also of what was
 * written in bursts.  The keys of a leaf are read as they stand there, without asking which
 * snapshots see their rows.
 *
 * Invariant: each key that is in the index all the time belongs to one page of the list,
 * and a look at that page finds it there.  Ways to break it, and the answers:
 *	- A page was split since the list was made, or is being split: a look goes on to the
 *	  right as long as keys of the page of the list can be there, though not beyond
 *	  CMQ_INDEX_PAGE_PIECES.  The keys that are missed then have come since.
 *	- A page was deleted: it had no keys, and the page to the right of it has the others of
 *	  its range.  A look passes deleted and half-dead pages.
 *	- A deleted page is used again, elsewhere in the tree: not while a snapshot is older, as
 *	  the caller's is; and a look takes only keys that belong to the page of the list.
 *	- Versions of a row stand on both sides of a bound: its key belongs to the page to the
 *	  right, and is missed if only the version on the left is there any more.  So of a page
 *	  one key may be missed.
 *	- What is read makes no sense: there is no list, or there are no keys.  The caller reads
 *	  rows then, and the server says what is wrong.
 * Pages are read as the server's own code reads them, by the buffer manager, under a share
 * lock, one at a time, and with the definitions of access/nbtree.h alone.
 *
 * Locks: the caller's on the index; a share lock on the buffer that is being read.  Abort
 * and crash: nothing is changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/cmq_handle.h"
#include "store/cmq_index_pages.h"

/* More pages than this on the way down mean that the tree makes no sense. */
#define MAX_DESCENT 1000

/* The key of an entry; what was truncated is before all times. */
static void
get_key(const CmqIndexPages *pages, IndexTuple tuple, CmqPendingKey *key)
{
	TupleDesc	desc = RelationGetDescr(pages->index);
	int			natts = BTreeTupleGetNAtts(tuple, pages->index);
	bool		isnull;

	key->visible_at = key->enqueued_at = DT_NOBEGIN;
	if (natts > 0)
		key->visible_at = DatumGetTimestampTz(index_getattr(tuple, 1, desc, &isnull));
	if (pages->nkeys == 1)
		key->enqueued_at = key->visible_at;
	else if (natts > 1)
		key->enqueued_at = DatumGetTimestampTz(index_getattr(tuple, 2, desc, &isnull));
}

static IndexTuple
get_entry(Page page, OffsetNumber offset)
{
	return (IndexTuple) PageGetItem(page, PageGetItemId(page, offset));
}

/* The first key that is not on the page any more; false on the last page of a level. */
static bool
get_high_key(const CmqIndexPages *pages, Page page, CmqPendingKey *key)
{
	if (P_RIGHTMOST(BTPageGetOpaque(page)))
		return false;
	get_key(pages, get_entry(page, P_HIKEY), key);
	return true;
}

/* Read and lock a page; InvalidBuffer if it cannot be one of the tree. */
static Buffer
read_page(CmqIndexPages *pages, BlockNumber block)
{
	Buffer		buffer;
	Page		page;

	CHECK_FOR_INTERRUPTS();
	if (block >= pages->nblocks)
		pages->nblocks = RelationGetNumberOfBlocks(pages->index);
	if (block >= pages->nblocks)
		return InvalidBuffer;
	buffer = ReadBuffer(pages->index, block);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	if (!PageIsNew(page) &&
		PageGetSpecialSize(page) == MAXALIGN(sizeof(BTPageOpaqueData)))
		return buffer;
	UnlockReleaseBuffer(buffer);
	return InvalidBuffer;
}

/* Where the search for keys begins; false if there is no tree.  BTREE_METAPAGE: it is empty. */
static bool
find_root(CmqIndexPages *pages, BlockNumber *root, uint32 *level)
{
	Buffer		buffer = read_page(pages, BTREE_METAPAGE);
	BTMetaPageData *meta;
	bool		found;

	if (!BufferIsValid(buffer))
		return false;
	meta = BTPageGetMeta(BufferGetPage(buffer));
	found = P_ISMETA(BTPageGetOpaque(BufferGetPage(buffer))) &&
		meta->btm_magic == BTREE_MAGIC && meta->btm_version == BTREE_VERSION;
	*root = meta->btm_fastroot;
	*level = meta->btm_fastlevel;
	UnlockReleaseBuffer(buffer);
	return found;
}

/*
 * Read the page of this level that has the keys from here on, or the next one to the right;
 * InvalidBuffer if there is none.
 */
static Buffer
read_at(CmqIndexPages *pages, BlockNumber block, uint32 level,
		const CmqPendingKey *key)
{
	while (block != P_NONE && pages->nread++ < MAX_DESCENT)
	{
		Buffer		buffer = read_page(pages, block);
		BTPageOpaque opaque;
		CmqPendingKey high;

		if (!BufferIsValid(buffer))
			return InvalidBuffer;
		opaque = BTPageGetOpaque(BufferGetPage(buffer));
		if (!P_IGNORE(opaque) &&
			(opaque->btpo_level != level || P_ISLEAF(opaque) != (level == 0)))
		{
			UnlockReleaseBuffer(buffer);
			return InvalidBuffer;
		}
		if (!P_IGNORE(opaque) &&
			(!get_high_key(pages, BufferGetPage(buffer), &high) ||
			 cmq_pending_key_cmp(key, &high) < 0))
			return buffer;
		block = opaque->btpo_next;
		UnlockReleaseBuffer(buffer);
	}
	return InvalidBuffer;
}

/* The entry of an inner page that leads to this key. */
static OffsetNumber
find_entry(const CmqIndexPages *pages, Page page, const CmqPendingKey *key)
{
	OffsetNumber low = P_FIRSTDATAKEY(BTPageGetOpaque(page));
	OffsetNumber high = PageGetMaxOffsetNumber(page) + 1;

	/* the first entry has no key: it leads to all that is before the second */
	while (high - low > 1)
	{
		OffsetNumber middle = low + (high - low) / 2;
		CmqPendingKey entry;

		get_key(pages, get_entry(page, middle), &entry);
		if (cmq_pending_key_cmp(&entry, key) <= 0)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static void
add_page(CmqIndexPages *pages, const CmqPendingKey *low, BlockNumber block)
{
	if (pages->n + 1 >= pages->room)
	{
		pages->room = Max(2 * pages->room, 256);
		pages->page = pages->page == NULL ?
			palloc(pages->room * sizeof(CmqIndexPage)) :
			repalloc_huge(pages->page, pages->room * sizeof(CmqIndexPage));
	}
	pages->page[pages->n].low = *low;
	pages->page[pages->n].block = block;
}

/*
 * Add the leaves that a page of level 1 leads to, from this entry on; low is where the
 * first of them begins, and then where the page ends.  True if one begins after the end.
 */
static bool
add_leaves(CmqIndexPages *pages, Page page, OffsetNumber offset,
		   CmqPendingKey *low, TimestampTz until)
{
	OffsetNumber last = PageGetMaxOffsetNumber(page);

	for (OffsetNumber o = offset; o <= last; o++)
	{
		IndexTuple	entry = get_entry(page, o);

		if (o > offset)
			get_key(pages, entry, low);
		add_page(pages, low, BTreeTupleGetDownLink(entry));
		if (low->visible_at > until)
			return true;
		pages->n++;
	}
	if (!get_high_key(pages, page, low))
		low->visible_at = low->enqueued_at = DT_NOEND;
	return false;
}

/* Walk along level 1 from the page in the buffer on, which is given back. */
static bool
walk(CmqIndexPages *pages, Buffer buffer, const CmqPendingKey *from,
	 TimestampTz until)
{
	CmqPendingKey low = {.visible_at = DT_NOBEGIN,.enqueued_at = DT_NOBEGIN};
	OffsetNumber offset = find_entry(pages, BufferGetPage(buffer), from);

	for (;;)
	{
		Page		page = BufferGetPage(buffer);
		bool		done = add_leaves(pages, page, offset, &low, until);
		BlockNumber next = BTPageGetOpaque(page)->btpo_next;

		UnlockReleaseBuffer(buffer);
		if (done)
			return true;
		/* the bound behind the last page */
		add_page(pages, &low, P_NONE);
		if (next == P_NONE)
			return true;
		pages->nread = 0;
		buffer = read_at(pages, next, 1, &low);
		if (!BufferIsValid(buffer))
			return false;
		offset = P_FIRSTDATAKEY(BTPageGetOpaque(BufferGetPage(buffer)));
	}
}

/*
 * List the leaf pages of an index that can have keys whose first column is in
 * [from, until]: palloc'd, empty if the index is.  False if the pages make no sense.
 */
bool
cmq_index_pages_list(CmqIndexPages *pages, Relation index, TimestampTz from,
					 TimestampTz until)
{
	CmqPendingKey first = {.visible_at = from,.enqueued_at = DT_NOBEGIN};
	CmqPendingKey low = {.visible_at = DT_NOBEGIN,.enqueued_at = DT_NOBEGIN};
	BlockNumber block;
	uint32		level;
	Buffer		buffer;

	memset(pages, 0, sizeof(*pages));
	pages->index = index;
	pages->nkeys = IndexRelationGetNumberOfKeyAttributes(index);
	/* of one column there is nothing before a key with its value */
	if (pages->nkeys == 1)
		first.enqueued_at = from;
	if (!find_root(pages, &block, &level))
		return false;
	if (block == P_NONE || level == 0)
	{
		add_page(pages, &low, block);
		pages->n = block == P_NONE ? 0 : 1;
		low.visible_at = low.enqueued_at = DT_NOEND;
		add_page(pages, &low, P_NONE);
		return true;
	}
	for (; level > 1; level--)
	{
		Page		page;

		buffer = read_at(pages, block, level, &first);
		if (!BufferIsValid(buffer))
			return false;
		page = BufferGetPage(buffer);
		block = BTreeTupleGetDownLink(get_entry(page, find_entry(pages, page, &first)));
		UnlockReleaseBuffer(buffer);
	}
	buffer = read_at(pages, block, 1, &first);
	return BufferIsValid(buffer) && walk(pages, buffer, &first, until);
}

/*
 * The place in the list of the page on which the keys begin whose first column is this time
 * or later; with before, of the page on which those before it end.  The list is not empty.
 */
int64
cmq_index_pages_find(const CmqIndexPages *pages, TimestampTz time, bool before)
{
	int64		low = 0;
	int64		high = pages->n;

	while (high - low > 1)
	{
		int64		middle = low + (high - low) / 2;
		const CmqPendingKey *key = &pages->page[middle].low;

		/* (time, -infinity) is the first key that can have this first column */
		if (key->visible_at < time ||
			(!before && key->visible_at == time &&
			 (pages->nkeys == 1 || TIMESTAMP_IS_NOBEGIN(key->enqueued_at))))
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Take the keys of a leaf that are within the bounds. */
static int
take_keys(const CmqIndexPages *pages, Page page, const CmqIndexPage *bounds,
		  CmqPendingKey *keys, int n)
{
	OffsetNumber last = PageGetMaxOffsetNumber(page);

	for (OffsetNumber o = P_FIRSTDATAKEY(BTPageGetOpaque(page)); o <= last; o++)
	{
		CmqPendingKey key;

		/* rows that nobody sees any more */
		if (ItemIdIsDead(PageGetItemId(page, o)))
			continue;
		get_key(pages, get_entry(page, o), &key);
		if (cmq_pending_key_cmp(&key, &bounds[0].low) < 0 ||
			cmq_pending_key_cmp(&key, &bounds[1].low) >= 0)
			continue;
		/* versions of a row stand side by side */
		if (n > 0 && cmq_pending_key_cmp(&key, &keys[n - 1]) <= 0)
			continue;
		if (n < CMQ_INDEX_PAGE_KEYS)
			keys[n++] = key;
	}
	return n;
}

/*
 * Get the keys of a page of the list, in order, each once; returns how many.  There is room
 * for CMQ_INDEX_PAGE_KEYS.
 */
int
cmq_index_pages_keys(CmqIndexPages *pages, int64 i, CmqPendingKey *keys)
{
	const CmqIndexPage *bounds = &pages->page[i];
	BlockNumber block = bounds[0].block;
	int			n = 0;

	for (int piece = 0; piece < CMQ_INDEX_PAGE_PIECES && block != P_NONE; piece++)
	{
		Buffer		buffer = read_page(pages, block);
		BTPageOpaque opaque;
		CmqPendingKey high;

		if (!BufferIsValid(buffer))
			break;
		opaque = BTPageGetOpaque(BufferGetPage(buffer));
		block = opaque->btpo_next;
		if (!P_IGNORE(opaque))
		{
			if (P_ISLEAF(opaque))
				n = take_keys(pages, BufferGetPage(buffer), bounds, keys, n);
			if (!P_ISLEAF(opaque) ||
				!get_high_key(pages, BufferGetPage(buffer), &high) ||
				cmq_pending_key_cmp(&high, &bounds[1].low) >= 0)
				block = P_NONE;
		}
		UnlockReleaseBuffer(buffer);
	}
	return n;
}
