/*-------------------------------------------------------------------------
 *
 * cmq_merge.h
 *	  Ready and due messages of a queue, one after the other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_MERGE_H
#define CMQ_MERGE_H

/* What a message can come from. */
typedef enum CmqSource
{
	CMQ_NO_SOURCE,
	CMQ_READY,					/* the pending table */
	CMQ_DUE						/* a scan of due rows */
} CmqSource;

/* Where the scan of a source stands. */
typedef enum CmqPosition
{
	CMQ_BEFORE_ROW,
	CMQ_AT_ROW,
	CMQ_AT_END
} CmqPosition;

/* Two scans, and how to move them; see cmq_merge.c. */
typedef struct CmqMerge
{
	bool		(*next_ready) (void *arg);
	bool		(*next_due) (void *arg);
	bool		(*due_comes_first) (void *arg); /* both stand at a row */
	void	   *arg;
	CmqPosition ready;
	CmqPosition due;
} CmqMerge;

extern CmqSource cmq_merge_next(CmqMerge *merge);

#endif							/* CMQ_MERGE_H */
