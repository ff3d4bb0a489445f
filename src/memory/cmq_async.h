/*-------------------------------------------------------------------------
 *
 * cmq_async.h
 *	  Commit a transaction that did nothing but receive without waiting for
 *	  the disk.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_ASYNC_H
#define CMQ_ASYNC_H

extern bool cmq_async_before_receive(void);
extern void cmq_async_after_receive(bool only_receives);
extern void cmq_async_tell(void);
extern void cmq_async_before_commit(void);
extern void cmq_async_after_xact(bool committed);

#endif							/* CMQ_ASYNC_H */
