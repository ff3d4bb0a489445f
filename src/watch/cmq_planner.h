/*-------------------------------------------------------------------------
 *
 * cmq_planner.h
 *	  Help for the planner with the views of queues.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_PLANNER_H
#define CMQ_PLANNER_H

extern void cmq_planner_install_hook(void);

#endif							/* CMQ_PLANNER_H */
