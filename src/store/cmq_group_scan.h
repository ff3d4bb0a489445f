/*-------------------------------------------------------------------------
 *
 * cmq_group_scan.h
 *	  Scans of the rows of a group, by the index that tables of ordered queues have.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_GROUP_SCAN_H
#define CMQ_GROUP_SCAN_H

#include "datatype/timestamp.h"

#include "store/cmq_table.h"

extern void cmq_group_scan_range(CmqTable *table, int64 key, TimestampTz from,
								 TimestampTz until, bool include_until);
extern void cmq_group_scan_nulls(CmqTable *table, TimestampTz from,
								 TimestampTz until);
extern void cmq_group_scan_after(CmqTable *table, int64 key);
extern bool cmq_group_scan_next(CmqTable *table);
extern bool cmq_group_scan_next_key(CmqTable *table, int64 *key);
extern bool cmq_group_scan_fetch(CmqTable *table);

#endif							/* CMQ_GROUP_SCAN_H */
