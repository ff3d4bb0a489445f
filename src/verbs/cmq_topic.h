/*-------------------------------------------------------------------------
 *
 * cmq_topic.h
 *	  Topics: create, drop, subscribe, unsubscribe.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_TOPIC_H
#define CMQ_TOPIC_H

#include "nodes/parsenodes.h"

extern void cmq_topic_report_unknown(const char *topic);
extern void cmq_topic_check_relation(const char *topic, Oid relid);
extern bool cmq_topic_find(const char *topic, bool folded, Oid *relid,
						   bool *routing, char **existing);
extern void cmq_topic_forget_queue(const char *queue);
extern void cmq_topic_sweep_gone(void);
extern void cmq_topic_check_acl(const char *topic, Oid relid, AclMode mode);

#endif							/* CMQ_TOPIC_H */
