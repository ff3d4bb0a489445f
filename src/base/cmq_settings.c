/*-------------------------------------------------------------------------
 *
 * cmq_settings.c
 *	  The settings of the extension.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "datatype/timestamp.h"
#include "utils/guc.h"

#include "base/cmq_settings.h"

/* Their defaults are set below; a cmq that is not preloaded reads none. */
int			cmq_max_queues;
int			cmq_maintenance_interval;
bool		cmq_async_receive;
char	   *cmq_reason = NULL;
bool		cmq_require_reason;
bool		cmq_plan_views;
int			cmq_rewind_log_retention;
int			cmq_maintenance_timeout;
int			cmq_clock_step_delay;
int			cmq_msg_id_step = 1;
int			cmq_msg_id_offset;

/* The settings that are numbers. */
static const struct
{
	const char *name;
	const char *what;
	const char *more;
	int		   *variable;
	int			value;			/* by default */
	int			min;
	int			max;
	GucContext	context;
	int			flags;
}			numbers[] = {

	{"cmq.max_queues",
		"Sets the maximum number of queues in all databases together.", NULL,
	&cmq_max_queues, 1000, 1, INT_MAX / 2, PGC_POSTMASTER, 0},
	{"cmq.maintenance_interval",
		"Sets the time between two maintenance rounds.", NULL,
	&cmq_maintenance_interval, 60, 1, 86400, PGC_SIGHUP, GUC_UNIT_S},
	{"cmq.maintenance_timeout",
		"Sets how long one step of maintenance for one queue may take.", NULL,
	&cmq_maintenance_timeout, 300, 1, 86400, PGC_SIGHUP, GUC_UNIT_S},
	{"cmq.rewind_log_retention",
		"Sets for how long rows of cmq.rewinds are kept; -1 keeps them for ever.", NULL,
	&cmq_rewind_log_retention, 90 * SECS_PER_DAY, -1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S},
	{"cmq.clock_step_delay",
		"Sets how long a wall clock that was set forward must stay so before the time of messages follows it.",
		"0 follows it at once.",
	&cmq_clock_step_delay, SECS_PER_HOUR, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S},
	{"cmq.msg_id_step",
		"Sets how many servers can give out message ids that differ from each other's.",
		"It must be the same on all servers of a cluster.",
	&cmq_msg_id_step, 1, 1, 64, PGC_POSTMASTER, 0},
	{"cmq.msg_id_offset",
		"Sets which message ids this server gives out: those with msg_id % cmq.msg_id_step = cmq.msg_id_offset.",
		NULL,
	&cmq_msg_id_offset, 0, 0, 63, PGC_POSTMASTER, 0},
};

/* Called when the library is preloaded. */
void
cmq_settings_define(void)
{
	for (int i = 0; i < lengthof(numbers); i++)
		DefineCustomIntVariable(numbers[i].name, numbers[i].what,
								numbers[i].more, numbers[i].variable,
								numbers[i].value, numbers[i].min,
								numbers[i].max, numbers[i].context,
								numbers[i].flags, NULL, NULL, NULL);
	DefineCustomBoolVariable("cmq.async_receive",
							 "Commits transactions that did nothing but receive without waiting for the disk.",
							 "A crash can make messages in flight ready again.",
							 &cmq_async_receive, true, PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomStringVariable("cmq.reason",
							   "Says why messages are brought back, or a queue is paused or resumed, for the record in cmq.rewinds.",
							   NULL,
							   &cmq_reason, "", PGC_USERSET, 0,
							   NULL, NULL, NULL);
	DefineCustomBoolVariable("cmq.require_reason",
							 "Refuses to bring messages back unless cmq.reason is set.",
							 NULL,
							 &cmq_require_reason, false, PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("cmq.plan_views",
							 "Helps the planner with the views of queues.",
							 "Off, the views show the same rows, and take longer.",
							 &cmq_plan_views, true, PGC_USERSET, GUC_EXPLAIN,
							 NULL, NULL, NULL);
	MarkGUCPrefixReserved("cmq");
}
