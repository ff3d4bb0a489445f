/*-------------------------------------------------------------------------
 *
 * cmq_try.h
 *	  Calls that must not end the work on others.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_TRY_H
#define CMQ_TRY_H

typedef enum CmqTryFlags
{
	CMQ_TRY_WARN = 1,			/* an error becomes a warning; else nothing */
	CMQ_TRY_LIGHT = 2,			/* nothing written: leave no locks either */
	CMQ_TRY_UNDO = 4			/* undo all, as after an error: a look */
} CmqTryFlags;

extern ErrorData *cmq_try_error(const char *name,
								void (*func) (const char *name, void *arg),
								void *arg, int flags);
extern void cmq_try_forgive(ErrorData *error, const char *name,
							const char *what, int flags, bool over);
extern bool cmq_try(const char *name, const char *what,
					void (*func) (const char *name, void *arg), void *arg,
					int flags);

#endif							/* CMQ_TRY_H */
