/*-------------------------------------------------------------------------
 *
 * cmq_topic.h
 *	  Topics: create, drop, forget.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_TOPIC_H
#define CMQ_TOPIC_H

extern void cmq_topic_forget_queue(const char *queue);
extern void cmq_topic_sweep_gone(void);

#endif							/* CMQ_TOPIC_H */
