/*-------------------------------------------------------------------------
 *
 * cmq_id_class.c
 *	  Which message ids this server gives out.
 *
 * Several servers may have queues of one name.  Each of them gives out ids of a class of its
 * own, those with msg_id % cmq.msg_id_step = cmq.msg_id_offset, so that an id is unique
 * among all of them, is still the time of production, and tells the server.  The class of
 * an id is found from the id alone, so nothing has to be kept for it on disk or through a
 * crash.
 *
 * A queue can have messages of other classes: those that it had before the settings were
 * changed, or that a restore or logical replication has brought.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/cmq_handle.h"
#include "base/cmq_id_class.h"
#include "base/cmq_settings.h"

/* Called at the start of the server, when the settings are known; raises 22023. */
void
cmq_id_class_check_settings(void)
{
	if (cmq_msg_id_offset >= cmq_msg_id_step)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cmq.msg_id_offset must be less than cmq.msg_id_step"),
				 errdetail("cmq.msg_id_offset is %d, and cmq.msg_id_step is %d.",
						   cmq_msg_id_offset, cmq_msg_id_step),
				 errhint("Set cmq.msg_id_step to the same number on all servers of the cluster, and cmq.msg_id_offset to another one on each, from 0 on.")));
}

/* The class of the message of this time. */
int
cmq_id_class_of(TimestampTz time)
{
	int64		rest = cmq_time_to_msg_id(time) % cmq_msg_id_step;

	return (int) (rest < 0 ? rest + cmq_msg_id_step : rest);
}

/* Does this server give out the id of this time? */
bool
cmq_id_class_is_own(TimestampTz time)
{
	return cmq_msg_id_step == 1 || cmq_id_class_of(time) == cmq_msg_id_offset;
}

/* The first time, from this one on, whose id this server gives out. */
TimestampTz
cmq_id_class_next(TimestampTz time)
{
	if (cmq_msg_id_step == 1)
		return time;
	return time +
		(cmq_msg_id_step + cmq_msg_id_offset - cmq_id_class_of(time)) % cmq_msg_id_step;
}
