/*-------------------------------------------------------------------------
 *
 * cmq_headers.h
 *	  What cmq adds to the headers of a message that it sends for another one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_HEADERS_H
#define CMQ_HEADERS_H

#include "datatype/timestamp.h"

#define CMQ_DEAD_LETTER_HEADER "cmq_dead_letter"
#define CMQ_ORIGIN_HEADER "cmq_origin"

extern char *cmq_headers_time(TimestampTz time);
extern Datum cmq_headers_add(Datum headers, bool isnull, const char *key,
							 const char *members);

#endif							/* CMQ_HEADERS_H */
