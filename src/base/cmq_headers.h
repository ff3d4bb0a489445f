/*-------------------------------------------------------------------------
 *
 * cmq_headers.h
 *	  Headers of messages: a JSON object, and what cmq adds to those of a message that it
 *	  sends for another one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_HEADERS_H
#define CMQ_HEADERS_H

#include "datatype/timestamp.h"

#define CMQ_DEAD_LETTER_HEADER "cmq_dead_letter"
#define CMQ_ORIGIN_HEADER "cmq_origin"

/* A member of both. */
#define CMQ_GROUP_MEMBER "message_group"

/* The constraint on message tables that says so. */
#define CMQ_HEADERS_CONSTRAINT "cmq_headers_object"
#define CMQ_HEADERS_CHECK "jsonb_typeof(headers) = 'object'"

extern void cmq_headers_check(Datum headers, int number, const char *kind,
							  const char *name);
extern char *cmq_headers_time(TimestampTz time);
extern char *cmq_headers_group(Datum group, bool isnull);
extern char *cmq_headers_get(Datum headers, const char *key,
							 const char *member);
extern Datum cmq_headers_add(Datum headers, bool isnull, const char *key,
							 const char *members);

#endif							/* CMQ_HEADERS_H */
