/*-------------------------------------------------------------------------
 *
 * cmq_owner.h
 *	  Run what may run code of a queue's owner, in the midst of somebody else's
 *	  session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_OWNER_H
#define CMQ_OWNER_H

/* What cmq_owner_enter() has replaced. */
typedef struct CmqOwnerScope
{
	Oid			userid;
	int			sec_context;
	int			nestlevel;		/* of settings */
} CmqOwnerScope;

extern void cmq_owner_enter(CmqOwnerScope *scope, Oid owner);
extern void cmq_owner_leave(const CmqOwnerScope *scope);
extern void cmq_owner_install_hook(void);
extern void cmq_owner_call(Oid owner, void (*func) (void *arg), void *arg);

#endif							/* CMQ_OWNER_H */
