/*-------------------------------------------------------------------------
 *
 * cmq_status.c
 *	  What the view cmq.status shows: one row for each queue, for people.
 *
 * The view calls this for each queue that its reader asks for.  How many dead letters
 * there are is what the look at the dead-letter queue says, if the reader sees that one.
 * So that no queue is looked at twice in a statement, whether for its row or for its dead
 * letters, the looks are kept with the execution of the plan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/cmq_args.h"
#include "memory/cmq_shared.h"
#include "watch/cmq_look.h"

PG_FUNCTION_INFO_V1(cmq_status);

enum
{
	Anum_status_ready = 1,
	Anum_status_in_flight,
	Anum_status_delayed,
	Anum_status_history,
	Anum_status_left_of_rewind,
	Anum_status_oldest_ready_seconds,
	Anum_status_dead_letters,
	Anum_status_paused_since,
	Anum_status_earliest_rewind_time,
	Anum_status_latest_rewind_time,
	Anum_status_pending_bytes,
	Anum_status_history_bytes,
	Anum_status_blocked_groups,
	Natts_status = 13
};

#define VALUE(att) values[Anum_status_##att - 1]
#define NULLED(att) isnull[Anum_status_##att - 1]

/* What is known of a queue. */
typedef struct Seen
{
	char		queue[NAMEDATALEN];
	bool		shown;			/* does the reader see it? */
	CmqLook		look;			/* then this is what was found */
} Seen;

/* All that this execution of a plan knows. */
static HTAB *
get_seen(FmgrInfo *flinfo)
{
	HASHCTL		ctl = {
		.keysize = NAMEDATALEN,
		.entrysize = sizeof(Seen),
		.hcxt = flinfo->fn_mcxt
	};

	if (flinfo->fn_extra == NULL)
		flinfo->fn_extra = hash_create("cmq looks", 64, &ctl,
									   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	return flinfo->fn_extra;
}

/* The look at a queue; NULL if the reader does not see it. */
static const CmqLook *
look_once(HTAB *all, const char *name)
{
	Seen	   *seen = hash_search(all, name, HASH_FIND, NULL);
	CmqLook		look = {.for_status = true};
	bool		shown;

	if (seen == NULL)
	{
		shown = cmq_look_at(name, "status", &look);
		seen = hash_search(all, name, HASH_ENTER, NULL);
		seen->shown = shown;
		seen->look = look;
	}
	return seen->shown ? &seen->look : NULL;
}

/* letters: the look at the dead-letter queue, or NULL. */
static void
make_row(const CmqLook *look, const CmqLook *letters, ReturnSetInfo *rsinfo)
{
	Datum		values[Natts_status];
	bool		isnull[Natts_status] = {false};

	VALUE(ready) = Int64GetDatum(look->ready);
	VALUE(in_flight) = Int64GetDatum(look->in_flight);
	VALUE(delayed) = Int64GetDatum(look->delayed);
	VALUE(history) = Int64GetDatum(look->history);
	VALUE(left_of_rewind) = Int64GetDatum(look->left_of_rewind);
	NULLED(oldest_ready_seconds) = !look->any_ready;
	VALUE(oldest_ready_seconds) = Float8GetDatum(look->oldest_ready_seconds);
	NULLED(dead_letters) = letters == NULL;
	VALUE(dead_letters) = letters == NULL ? (Datum) 0 :
		Int64GetDatum(letters->ready + letters->in_flight + letters->delayed);
	NULLED(paused_since) = look->paused_since == 0;
	VALUE(paused_since) = TimestampTzGetDatum(look->paused_since);
	NULLED(earliest_rewind_time) = NULLED(latest_rewind_time) =
		!look->can_rewind;
	VALUE(earliest_rewind_time) = TimestampTzGetDatum(look->earliest_rewind);
	VALUE(latest_rewind_time) = TimestampTzGetDatum(look->latest_rewind);
	VALUE(pending_bytes) = Int64GetDatum(look->pending_bytes);
	VALUE(history_bytes) = Int64GetDatum(look->history_bytes);
	NULLED(blocked_groups) = !look->counts_blocked;
	VALUE(blocked_groups) = Int64GetDatum(look->blocked_groups);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
}

Datum
cmq_status(PG_FUNCTION_ARGS)
{
	char	   *name = cmq_queue_name_arg(fcinfo, 0);
	HTAB	   *all = get_seen(fcinfo->flinfo);
	const CmqLook *look;
	const CmqLook *letters = NULL;

	cmq_require_preload();
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	look = look_once(all, name);
	if (look == NULL)
		return (Datum) 0;
	if (look->dead_letter_queue[0] != '\0')
		letters = look_once(all, look->dead_letter_queue);
	make_row(look, letters, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}
