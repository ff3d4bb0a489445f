/*-------------------------------------------------------------------------
 *
 * cmq_settings.c
 *	  The settings of the extension.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "base/cmq_settings.h"

int			cmq_max_queues = 1000;
int			cmq_maintenance_interval = 60;
bool		cmq_async_receive = true;
char	   *cmq_reason = NULL;
bool		cmq_require_reason = false;
int			cmq_rewind_log_retention = 90 * SECS_PER_DAY;
int			cmq_maintenance_timeout = 300;
int			cmq_clock_step_delay = SECS_PER_HOUR;

/* Define them; called when the library is preloaded. */
void
cmq_settings_define(void)
{
	DefineCustomIntVariable("cmq.max_queues",
							"Sets the maximum number of queues in all databases together.",
							NULL,
							&cmq_max_queues,
							1000, 1, INT_MAX / 2,
							PGC_POSTMASTER,
							0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("cmq.maintenance_interval",
							"Sets the time between two maintenance rounds.",
							NULL,
							&cmq_maintenance_interval,
							60, 1, 86400,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomIntVariable("cmq.maintenance_timeout",
							"Sets how long one step of maintenance for one queue may take.",
							NULL,
							&cmq_maintenance_timeout,
							300, 1, 86400,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomBoolVariable("cmq.async_receive",
							 "Commits transactions that did nothing but receive without waiting for the disk.",
							 "A crash can make messages in flight ready again.",
							 &cmq_async_receive,
							 true,
							 PGC_USERSET,
							 0,
							 NULL, NULL, NULL);

	DefineCustomStringVariable("cmq.reason",
							   "Says why messages are brought back, for the record in cmq.rewinds.",
							   NULL,
							   &cmq_reason,
							   "",
							   PGC_USERSET,
							   0,
							   NULL, NULL, NULL);

	DefineCustomBoolVariable("cmq.require_reason",
							 "Refuses to bring messages back unless cmq.reason is set.",
							 NULL,
							 &cmq_require_reason,
							 false,
							 PGC_SUSET,
							 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("cmq.rewind_log_retention",
							"Sets for how long rows of cmq.rewinds are kept; -1 keeps them for ever.",
							NULL,
							&cmq_rewind_log_retention,
							90 * SECS_PER_DAY, -1, INT_MAX,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomIntVariable("cmq.clock_step_delay",
							"Sets how long a wall clock that was set forward must stay so before the time of messages follows it.",
							"0 follows it at once.",
							&cmq_clock_step_delay,
							SECS_PER_HOUR, 0, INT_MAX,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);

	MarkGUCPrefixReserved("cmq");
}
