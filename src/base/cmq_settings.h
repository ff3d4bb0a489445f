/*-------------------------------------------------------------------------
 *
 * cmq_settings.h
 *	  The settings of the extension.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_SETTINGS_H
#define CMQ_SETTINGS_H

extern int	cmq_max_queues;
extern int	cmq_maintenance_interval;
extern bool cmq_async_receive;
extern char *cmq_reason;
extern bool cmq_require_reason;
extern bool cmq_plan_views;
extern int	cmq_rewind_log_retention;
extern int	cmq_maintenance_timeout;
extern int	cmq_clock_step_delay;
extern int	cmq_msg_id_step;
extern int	cmq_msg_id_offset;

extern void cmq_settings_define(void);

#endif							/* CMQ_SETTINGS_H */
