/*-------------------------------------------------------------------------
 *
 * cmq_async.c
 *	  Commit a transaction that did nothing but receive without waiting for
 *	  the disk.
 *
 * A crash that loses a receive makes its messages ready again, which delivery at least
 * once allows.  So a transaction whose WAL was all written by receives commits
 * asynchronously.  Such a transaction's last WAL position is one that a receive left, and
 * each receive found the position where the receive before had left it, or found none.
 * Whatever else writes, a send, a delete, a table of the user's, moves the position: then
 * the commit is as durable as it would be without cmq.
 *
 * A library that was loaded before cmq is called after cmq when a transaction is about
 * to commit, and may write then.  So after the commit we count the WAL records that the
 * transaction has written since.  If there are more than that of the commit, we wait for
 * the disk and the standbys after all, before the client or any such library is told of
 * the commit.
 *
 * A later delete commits synchronously; WAL is one stream, so that makes the receive
 * durable, too.  cmq.async_receive = off turns all this off.
 *
 * A transaction may tell its caller that a message of another one is stored
 * (cmq_dedup.c).  The commit of that one is on this server's disk by then, but its session
 * may not have waited for the standbys: it did not ask for it, or it was ended while it
 * waited.  So a transaction that has told waits for them after its commit, as one that has
 * written waits in its commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/instrument.h"
#include "replication/syncrep.h"

#include "base/cmq_settings.h"
#include "memory/cmq_async.h"

/* The WAL position that the last receive left, if all before was receives. */
static XLogRecPtr receive_end = InvalidXLogRecPtr;

/* The user's synchronous_commit during an asynchronous commit of ours, else -1. */
static int	saved_synchronous_commit = -1;

/* The caller was told of what another transaction has committed. */
static bool has_told = false;

/* How many WAL records this backend had written when that was decided. */
static int64 records_before = 0;

/*
 * A receive is about to write: has the transaction written nothing so far but what
 * receives write?  The answer is for cmq_async_after_receive().
 */
bool
cmq_async_before_receive(void)
{
	return XactLastRecEnd == InvalidXLogRecPtr || XactLastRecEnd == receive_end;
}

/* The receive has written. */
void
cmq_async_after_receive(bool only_receives)
{
	receive_end = only_receives ? XactLastRecEnd : InvalidXLogRecPtr;
}

/* The caller is told of what another transaction has committed and flushed. */
void
cmq_async_tell(void)
{
	has_told = true;
}

/* A transaction has committed asynchronously: if it wrote more than receives, wait. */
static void
make_durable(void)
{
	/* one record is that of the commit */
	if (pgWalUsage.wal_records - records_before <= 1)
		return;
	XLogFlush(XactLastCommitEnd);
	SyncRepWaitForLSN(XactLastCommitEnd, true);
}

/*
 * The transaction is about to commit.  The variable is changed, not the setting: no code
 * that reads settings runs before cmq_async_after_xact(), and for a setting PostgreSQL would
 * keep a stack.
 */
void
cmq_async_before_commit(void)
{
	if (!cmq_async_receive || receive_end == InvalidXLogRecPtr ||
		receive_end != XactLastRecEnd ||
		synchronous_commit <= SYNCHRONOUS_COMMIT_OFF)
		return;
	saved_synchronous_commit = synchronous_commit;
	synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
	records_before = pgWalUsage.wal_records;
}

/* The transaction has ended. */
void
cmq_async_after_xact(bool committed)
{
	receive_end = InvalidXLogRecPtr;
	if (saved_synchronous_commit >= 0)
	{
		synchronous_commit = saved_synchronous_commit;
		if (committed)
			make_durable();
	}
	saved_synchronous_commit = -1;
	if (has_told && committed)
		SyncRepWaitForLSN(GetFlushRecPtr(NULL), true);
	has_told = false;
}
