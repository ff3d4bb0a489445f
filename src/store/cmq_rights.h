/*-------------------------------------------------------------------------
 *
 * cmq_rights.h
 *	  Rights on a queue: those on its relation cmq.q_<queue>.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_RIGHTS_H
#define CMQ_RIGHTS_H

#include "nodes/parsenodes.h"

#include "store/cmq_description.h"

extern void cmq_rights_check_acl(CmqQueue *queue, AclMode mode);
extern bool cmq_rights_is_readable(CmqQueue *queue);
extern void cmq_rights_check_owner(CmqQueue *queue);

#endif							/* CMQ_RIGHTS_H */
