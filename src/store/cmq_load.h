/*-------------------------------------------------------------------------
 *
 * cmq_load.h
 *	  What a queue consists of, and what is wrong with one that is damaged.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_LOAD_H
#define CMQ_LOAD_H

#include "base/cmq_names.h"
#include "store/cmq_description.h"

/* Why a queue is damaged. */
typedef struct CmqFault
{
	const char *fact;			/* NULL: it is not */
	const char *hint;
} CmqFault;

extern bool cmq_load_has_relation(CmqDescription *queue, Oid relid,
								  CmqRelation which);
extern CmqDescription *cmq_load_queue(const char *name, CmqFault *fault);

#endif							/* CMQ_LOAD_H */
