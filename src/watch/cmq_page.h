/*-------------------------------------------------------------------------
 *
 * cmq_page.h
 *	  Messages of a part of a queue in order, from a position on, with a bound on what is
 *	  read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_PAGE_H
#define CMQ_PAGE_H

#include "access/sdir.h"
#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "base/cmq_handle.h"
#include "store/cmq_description.h"
#include "store/cmq_merge.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_table.h"
#include "watch/cmq_message_row.h"

/* What is asked for. */
typedef struct CmqPageRequest
{
	bool		history;		/* else what is pending */
	ScanDirection direction;
	CmqPendingKey behind;		/* the position; (time, time) for history */
	bool		has_filter;
	Datum		filter;			/* jsonb that the headers contain */
	int			max_looked;		/* messages */
} CmqPageRequest;

/* The index entries of one kind of rows, from the position on. */
typedef struct CmqPageScan
{
	CmqPendingKey behind;		/* the entries behind this ... */
	TimestampTz limit;			/* ... as far as this time, included */
	bool		open;
	CmqTable	table;
	CmqPendingKey key;			/* of the entry it stands at */
} CmqPageScan;

/* A scan of messages; see cmq_page.c. */
typedef struct CmqPage
{
	CmqQueue   *queue;
	const CmqPageRequest *request;
	Snapshot	seen_by;		/* of the statement */
	TimestampTz now;
	TimestampTz expired_before;
	CmqMerge	merge;
	CmqPageScan pending;
	CmqPageScan rewind;			/* in the leaves of the rewind table, ... */
	int			leaf;			/* ... of which this is to be opened next */
	CmqMessageRows messages;
	int64		credit;			/* what may still be read */
	bool		ended_early;	/* for want of it */
	CmqPendingKey last;			/* of the entries looked at */
	CmqMessageRow row;			/* of the message the scan stands at */
	int64		nunreadable;	/* messages that could not be had */
} CmqPage;

extern void cmq_page_begin(CmqPage *page, CmqQueue *queue,
						   const CmqPageRequest *request, Snapshot seen_by);
extern bool cmq_page_next(CmqPage *page);
extern void cmq_page_end(CmqPage *page);

#endif							/* CMQ_PAGE_H */
