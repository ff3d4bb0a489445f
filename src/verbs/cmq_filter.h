/*-------------------------------------------------------------------------
 *
 * cmq_filter.h
 *	  Tags, routing keys and filters as arguments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_FILTER_H
#define CMQ_FILTER_H

#include "utils/array.h"

typedef void (*CmqFilterCheck) (const char *value, const char *argname,
								const char *topic);

extern void cmq_filter_check_tag(const char *value, const char *argname,
								 const char *topic);
extern void cmq_filter_check_key(const char *value, const char *argname,
								 const char *topic);
extern int	cmq_filter_elements(ArrayType *array, const char *argname,
								const char *topic, CmqFilterCheck check,
								char ***elements);

#endif							/* CMQ_FILTER_H */
