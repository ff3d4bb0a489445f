/*-------------------------------------------------------------------------
 *
 * cmq_filter.h
 *	  Check tags, routing keys and filters, and match them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_FILTER_H
#define CMQ_FILTER_H

typedef void (*CmqFilterCheck) (const char *value, const char *argname,
								const char *topic);

extern void cmq_filter_check_tag(const char *value, const char *argname,
								 const char *topic);
extern void cmq_filter_check_key(const char *value, const char *argname,
								 const char *topic);
extern int	cmq_filter_elements(Datum array, const char *argname,
								const char *topic, CmqFilterCheck check,
								char ***elements);
extern bool cmq_filter_key_matches(const char *binding_key,
								   const char *routing_key);

#endif							/* CMQ_FILTER_H */
