/*-------------------------------------------------------------------------
 *
 * cmq_damage.h
 *	  Messages that cannot be read: one bad page must not stop a queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DAMAGE_H
#define CMQ_DAMAGE_H

#include "datatype/timestamp.h"

#include "store/cmq_description.h"

typedef struct CmqReading
{
	ErrorContextCallback context;
	CmqQueue   *queue;
	TimestampTz message;		/* being read; DT_NOBEGIN: none */
} CmqReading;

extern void cmq_damage_begin_reading(CmqReading *reading, CmqQueue *queue);
extern void cmq_damage_end_reading(CmqReading *reading);

#endif							/* CMQ_DAMAGE_H */
