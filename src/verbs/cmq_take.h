/*-------------------------------------------------------------------------
 *
 * cmq_take.h
 *	  Take a message for the caller: deliver or consume it, and return it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_TAKE_H
#define CMQ_TAKE_H

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"

#include "store/cmq_damage.h"
#include "store/cmq_description.h"
#include "store/cmq_message_rows.h"
#include "store/cmq_pending.h"
#include "store/cmq_table.h"
#include "verbs/cmq_delete.h"

/* Columns of type cmq.message. */
enum
{
	Anum_message_msg_id = 1,
	Anum_message_receipt_handle,
	Anum_message_body,
	Anum_message_headers,
	Anum_message_enqueued_at,
	Anum_message_first_received_at,
	Anum_message_next_visible_at,
	Anum_message_receive_count,
	Anum_message_rewind_count,
	Anum_message_message_group,
	Natts_message = 10
};

/* What the caller wants. */
typedef struct CmqTakeRequest
{
	bool		consume;		/* nothing is in flight afterwards */
	int			visibility_timeout; /* seconds; of what is delivered */
	bool		has_filter;
	Datum		filter;			/* headers contain it; a flat jsonb */
	ReturnSetInfo *rsinfo;		/* rows of cmq.message go there */
} CmqTakeRequest;

/* Messages of one queue being taken; see cmq_take.c. */
typedef struct CmqTake
{
	CmqQueue   *queue;
	const CmqTakeRequest *request;
	bool		only_receives;	/* has the transaction done nothing else? */
	CmqPending *pending;
	CmqPending	delivering;		/* one of these two has it */
	CmqDelete	consuming;
	TimestampTz now;
	CmqMessageRows messages;
	CmqReading	reading;
	MemoryContext context;		/* for one message */
	bool		copied;			/* what follows has been read */
	Datum		body;
	Datum		headers;
	bool		no_headers;
	Datum		group;
	bool		no_group;

	/* what was done */
	bool		unwanted;		/* the one tried last does not fit the filter
								 * ... */
	bool		gone;			/* ... or has expired with its leaf */
	int			n;				/* messages that are returned */
	int			nredelivered;
	int			nrewound;
	int			nunreadable;	/* that were put off */
} CmqTake;

extern void cmq_take_begin(CmqTake *take, CmqQueue *queue,
						   const CmqTakeRequest *request);
extern bool cmq_take_ready(CmqTake *take);
extern bool cmq_take_due(CmqTake *take, CmqTable *rewind);
extern void cmq_take_end(CmqTake *take);
extern void cmq_take_columns(const CmqPendingRow *row, bool consumed,
							 Datum *values, bool *isnull);
extern void cmq_take_count(CmqTake *take, bool more);

#endif							/* CMQ_TAKE_H */
