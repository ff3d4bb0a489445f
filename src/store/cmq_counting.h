/*-------------------------------------------------------------------------
 *
 * cmq_counting.h
 *	  How many pending and due rows a queue has, as the current transaction sees it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_COUNTING_H
#define CMQ_COUNTING_H

#include "store/cmq_description.h"

extern int64 cmq_counting_pending(CmqQueue *queue);
extern int64 cmq_counting_due(CmqQueue *queue);
extern void cmq_counting_ahead(CmqQueue *queue);
extern bool cmq_counting_known(CmqQueue *queue, int64 *n);
extern bool cmq_counting_known_empty(CmqQueue *queue);
extern bool cmq_counting_has_room(CmqQueue *queue, int64 n, int64 max);

#endif							/* CMQ_COUNTING_H */
