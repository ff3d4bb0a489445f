/*-------------------------------------------------------------------------
 *
 * cmq_changes.h
 *	  Changes of queue tables that are not ours: by hand, by COPY, by replication.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_CHANGES_H
#define CMQ_CHANGES_H

extern void cmq_changes_install_callbacks(void);

#endif							/* CMQ_CHANGES_H */
