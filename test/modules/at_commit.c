/*
 * A library of somebody else's that does something when a transaction commits, as
 * at_commit.action says.  When it is about to: "write" writes WAL, "fail" raises an error.
 * When it has: "sleep" takes half a second.  Others see the rows by then, and have not
 * been sent the invalidations.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "fmgr.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static char *action = NULL;

static void
at_commit(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && strcmp(action, "sleep") == 0)
		pg_usleep(500000);
	if (event != XACT_EVENT_PRE_COMMIT)
		return;
	if (strcmp(action, "write") == 0)
	{
		XLogBeginInsert();
		XLogRegisterData((char *) "x", 1);
		(void) XLogInsert(RM_XLOG_ID, XLOG_NOOP);
	}
	else if (strcmp(action, "fail") == 0)
		ereport(ERROR, (errmsg("at_commit fails")));
}

void
_PG_init(void)
{
	DefineCustomStringVariable("at_commit.action", "What to do.", NULL, &action, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	RegisterXactCallback(at_commit, NULL);
}
