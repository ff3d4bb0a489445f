/*-------------------------------------------------------------------------
 *
 * cmq_launcher.h
 *	  The launcher of maintenance: which database is visited, and when.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_LAUNCHER_H
#define CMQ_LAUNCHER_H

extern void cmq_launcher_register(void);

#endif							/* CMQ_LAUNCHER_H */
