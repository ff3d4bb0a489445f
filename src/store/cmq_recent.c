/*-------------------------------------------------------------------------
 *
 * cmq_recent.c
 *	  Where in the pending table the deliveries lie that this backend made.
 *
 * Most consumers delete what they received in the same session.  Remembering
 * the place of the row spares them the search in the index.  The place is a hint:
 * its user compares the row there with the one that it looks for, and searches the
 * index when the two differ.  Therefore no place has to be forgotten: not at an
 * abort, not when a table is rewritten or dropped.
 *
 * The places are kept in a table of fixed size, a newer delivery in the stead
 * of an older one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/itemptr.h"

#include "base/cmq_args.h"
#include "store/cmq_recent.h"

/* As many as one receive can make, so that a batch finds all of its own. */
#define NPLACES 1024

StaticAssertDecl(NPLACES >= CMQ_RECEIVE_MAX, "a batch needs its places");

typedef struct Place
{
	Oid			pending;		/* the table; InvalidOid: unused */
	ItemPointerData tid;
	TimestampTz visible_at;
	TimestampTz enqueued_at;
} Place;

static Place places[NPLACES];

/* Messages that were sent in one batch have places side by side. */
static Place *
get_place(TimestampTz enqueued_at)
{
	return &places[(uint64) enqueued_at % NPLACES];
}

void
cmq_recent_note(Oid pending, TimestampTz visible_at, TimestampTz enqueued_at,
				const ItemPointerData *tid)
{
	Place	   *place = get_place(enqueued_at);

	place->pending = pending;
	place->visible_at = visible_at;
	place->enqueued_at = enqueued_at;
	ItemPointerCopy(tid, &place->tid);
}

/* Where the row was, or NULL. */
ItemPointer
cmq_recent_find(Oid pending, TimestampTz visible_at, TimestampTz enqueued_at)
{
	Place	   *place = get_place(enqueued_at);

	if (place->pending == pending && place->visible_at == visible_at &&
		place->enqueued_at == enqueued_at)
		return &place->tid;
	return NULL;
}

/* The same for whichever delivery of the message was noted last. */
ItemPointer
cmq_recent_find_message(Oid pending, TimestampTz enqueued_at)
{
	Place	   *place = get_place(enqueued_at);

	if (place->pending == pending && place->enqueued_at == enqueued_at)
		return &place->tid;
	return NULL;
}
