/*-------------------------------------------------------------------------
 *
 * cmq_target.c
 *	  Queues whose tables are the target of a subscription.
 *
 * Logical replication brings rows, and neither leaves nor other metadata.  So while a
 * subscription writes a queue's tables maintenance here
 *	- makes leaves for all times that rows may come with, because a row without one
 *	  stops replication: back to the retention, for the initial copy, and further
 *	  ahead, because the publisher's clock may be ahead
 *	- keeps leaves longer: rows may come late, and before all tables have been
 *	  copied it is not known which messages are consumed
 *	- leaves expired messages, dead letters and the rewind point to the publisher,
 *	  whose maintenance does all this there, and is replicated
 * No client is to send here: sooner or later two clocks would give out the same id, and
 * then replication stops.  All that ends with the subscription.
 *
 * The server knows the tables of a subscription from CREATE SUBSCRIPTION on, also
 * while it is disabled (pg_subscription_rel).  So does the description of a queue,
 * which is loaded anew when that changes (cmq_cache.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_subscription_rel.h"
#include "utils/fmgroids.h"

#include "store/cmq_description.h"
#include "store/cmq_target.h"

/* Is this table one that a subscription knows? */
bool
cmq_target_is_subscribed(Oid relid)
{
	Relation	rel = table_open(SubscriptionRelRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&key, Anum_pg_subscription_rel_srrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, SubscriptionRelSrrelidSrsubidIndexId, true,
							  NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* Does a subscription write any of the queue's tables? */
bool
cmq_target_is_queue(CmqQueue *queue)
{
	return cmq_target_is_subscribed(queue->messages) ||
		cmq_target_is_subscribed(queue->pending) ||
		cmq_target_is_subscribed(queue->rewind) ||
		(OidIsValid(queue->dedup) && cmq_target_is_subscribed(queue->dedup));
}
