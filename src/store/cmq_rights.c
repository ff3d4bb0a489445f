/*-------------------------------------------------------------------------
 *
 * cmq_rights.c
 *	  Rights on a queue: those on its relation cmq.q_<queue>.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"

#include "base/cmq_compat.h"
#include "base/cmq_names.h"
#include "store/cmq_description.h"
#include "store/cmq_rights.h"

/* Raise 42501 unless the current user has the right; ACL_NO_RIGHTS asks for none. */
void
cmq_rights_check_acl(CmqQueue *queue, AclMode mode)
{
	if (mode != ACL_NO_RIGHTS &&
		pg_class_aclcheck(queue->relid, GetUserId(), mode) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for queue \"%s\"", queue->name),
				 errhint("The owner of the queue can GRANT %s ON %s TO you.",
						 mode == ACL_INSERT ? "INSERT" :
						 mode == ACL_DELETE ? "DELETE" :
						 mode == ACL_UPDATE ? "UPDATE" : "SELECT",
						 cmq_full_name(queue->relid))));
}

/*
 * May the current user read the queue?  Its settings, how much it holds and from when
 * are for readers alone, also in the text of an error.
 */
bool
cmq_rights_is_readable(CmqQueue *queue)
{
	return pg_class_aclcheck(queue->relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

/* Raise 42501 unless the current user owns the queue. */
void
cmq_rights_check_owner(CmqQueue *queue)
{
	if (!object_ownercheck(RelationRelationId, queue->relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of queue \"%s\"", queue->name)));
}
