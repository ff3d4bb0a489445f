/*-------------------------------------------------------------------------
 *
 * cmq_try.h
 *	  Calls for one queue that must not end the work on others.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_TRY_H
#define CMQ_TRY_H

extern bool cmq_try_until(const char *name, const char *what,
								void (*func) (const char *name, void *arg),
								void *arg, bool warn, bool (*is_over) (void));
extern bool cmq_try(const char *name, const char *what,
						  void (*func) (const char *name, void *arg),
						  void *arg, bool warn);
extern bool cmq_try_light(const char *name, const char *what,
								void (*func) (const char *name, void *arg),
								void *arg, bool warn);
extern bool cmq_look(const char *name, const char *what,
						   void (*func) (const char *name, void *arg),
						   void *arg, bool warn);

#endif							/* CMQ_TRY_H */
