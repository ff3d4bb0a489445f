/*-------------------------------------------------------------------------
 *
 * cmq_limit.h
 *	  Time for code of other owners: a limit for a call.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_LIMIT_H
#define CMQ_LIMIT_H

extern bool cmq_limited(int limit, const char *name, const char *what,
						void (*func) (const char *name, void *arg), void *arg,
						int flags, bool *over);

#endif							/* CMQ_LIMIT_H */
