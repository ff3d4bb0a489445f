/*-------------------------------------------------------------------------
 *
 * cmq_gone.h
 *	  Remove what is known of queues whose relations were dropped by hand.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_GONE_H
#define CMQ_GONE_H

extern void cmq_gone_make_room(const char *name);
extern void cmq_gone_sweep(void);

#endif							/* CMQ_GONE_H */
