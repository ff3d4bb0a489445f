/*-------------------------------------------------------------------------
 *
 * cmq_id_class.h
 *	  Which message ids this server gives out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_ID_CLASS_H
#define CMQ_ID_CLASS_H

#include "datatype/timestamp.h"

extern void cmq_id_class_check_settings(void);
extern TimestampTz cmq_id_class_next(TimestampTz time);
extern bool cmq_id_class_is_own(TimestampTz time);
extern int	cmq_id_class_of(TimestampTz time);

#endif							/* CMQ_ID_CLASS_H */
