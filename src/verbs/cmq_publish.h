/*-------------------------------------------------------------------------
 *
 * cmq_publish.h
 *	  Publish: send a message to each queue whose subscription wants it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_PUBLISH_H
#define CMQ_PUBLISH_H

extern void cmq_publish_init_cache(void);

#endif							/* CMQ_PUBLISH_H */
