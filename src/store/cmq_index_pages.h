/*-------------------------------------------------------------------------
 *
 * cmq_index_pages.h
 *	  The leaf pages of a primary key: where each begins, and the keys on one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_INDEX_PAGES_H
#define CMQ_INDEX_PAGES_H

#include "access/itup.h"
#include "storage/block.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "base/cmq_handle.h"

/* A leaf page as a list has it. */
typedef struct CmqIndexPage
{
	CmqPendingKey low;			/* no key before this is on it */
	BlockNumber block;
} CmqIndexPage;

/* Consecutive leaf pages of a primary key. */
typedef struct CmqIndexPages
{
	Relation	index;
	int			nkeys;			/* its key columns: of one, both fields of a
								 * key have the value */
	int64		n;
	CmqIndexPage *page;			/* n of them, and one behind that is only a
								 * bound */

	/* while the list is made */
	BlockNumber nblocks;		/* that the index is known to have */
	int64		room;
	int			nread;			/* pages read on the way down */
} CmqIndexPages;

/* So many keys may be had of one page of the list. */
#define CMQ_INDEX_PAGE_PIECES 3
#define CMQ_INDEX_PAGE_KEYS (CMQ_INDEX_PAGE_PIECES * MaxIndexTuplesPerPage)

extern bool cmq_index_pages_list(CmqIndexPages *pages, Relation index,
								 TimestampTz from, TimestampTz until);
extern int64 cmq_index_pages_find(const CmqIndexPages *pages,
								  TimestampTz time, bool before);
extern int	cmq_index_pages_keys(CmqIndexPages *pages, int64 i,
								 CmqPendingKey *keys);

#endif							/* CMQ_INDEX_PAGES_H */
