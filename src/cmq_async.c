/*-------------------------------------------------------------------------
 *
 * cmq_async.c
 *	  Commit a transaction that did nothing but receive without waiting for
 *	  the disk.
 *
 * A crash that loses a receive only makes its messages ready again, which
 * delivery at least once allows.  So a transaction whose WAL was all written by
 * receives commits asynchronously: when the transaction's last WAL position is
 * still the one that a receive left, and that receive had found it where the
 * receive before left it, or found none.  Whatever else writes, a send, a
 * delete, a business table, moves the position, and the durability of such a
 * transaction is left alone.
 *
 * A later delete commits synchronously and, WAL being one stream, takes the
 * receive before it along.  cmq.async_receive = off turns all this off.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "utils/guc.h"

#include "cmq.h"

/* The WAL position that the last receive left, if all before was receives. */
static XLogRecPtr receive_end = InvalidXLogRecPtr;

/* Before a receive writes; returns what cmq_async_end() wants to know. */
bool
cmq_async_begin(void)
{
	return XactLastRecEnd == InvalidXLogRecPtr || XactLastRecEnd == receive_end;
}

/* After a receive has written. */
void
cmq_async_end(bool only_receives)
{
	receive_end = only_receives ? XactLastRecEnd : InvalidXLogRecPtr;
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (cmq_async_receive && receive_end != InvalidXLogRecPtr &&
				receive_end == XactLastRecEnd &&
				synchronous_commit > SYNCHRONOUS_COMMIT_OFF)
				(void) set_config_option("synchronous_commit", "off",
										 PGC_USERSET, PGC_S_SESSION,
										 GUC_ACTION_LOCAL, true, 0, false);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			receive_end = InvalidXLogRecPtr;
			break;
		default:
			break;
	}
}

void
cmq_async_install_callbacks(void)
{
	RegisterXactCallback(xact_callback, NULL);
}
