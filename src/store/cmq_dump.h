/*-------------------------------------------------------------------------
 *
 * cmq_dump.h
 *	  What a restore from a dump has not brought yet.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DUMP_H
#define CMQ_DUMP_H

#include "datatype/timestamp.h"

#include "store/cmq_description.h"

extern bool cmq_dump_rewind_is_whole(CmqQueue *queue,
									 TimestampTz expired_before);
extern void cmq_dump_check_keys(CmqQueue *queue);

#endif							/* CMQ_DUMP_H */
