/*-------------------------------------------------------------------------
 *
 * cmq_dead_letter.h
 *	  Move messages that nobody manages to consume to a dead-letter queue;
 *	  cmq_redrive.c sends them back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_DEAD_LETTER_H
#define CMQ_DEAD_LETTER_H

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"

#include "base/cmq_handle.h"
#include "base/cmq_uses.h"
#include "store/cmq_description.h"

/* Letters of one queue on their way. */
typedef struct CmqLetterMove
{
	CmqQueue   *queue;
	const CmqPendingKey *letters;	/* their pending rows */
	int			n;
	bool		wait;			/* for locks, and make a leaf if there is none */
	CmqUses    *uses;			/* of the worker's turn, or NULL */
	bool		opened;			/* could the dead-letter queue be had? */
	bool		opening;		/* is the queue itself being waited for? */
	int			moved;
	int			refused;		/* by the limits of the dead-letter queue */
} CmqLetterMove;

extern const char *cmq_dead_letter_reason(CmqQueue *queue,
										  TupleTableSlot *slot,
										  TimestampTz now);
extern bool cmq_dead_letter_fits(CmqQueue *target, Datum body, Datum headers);
extern void cmq_dead_letter_move_some(const char *name, void *arg);
extern void cmq_dead_letter_warn_refused(CmqQueue *queue, int refused);
extern CmqQueue *cmq_dead_letter_stranger(CmqQueue *queue);
extern bool cmq_dead_letter_stays(CmqQueue *queue);
extern int	cmq_dead_letter_move(CmqQueue *queue, const CmqPendingKey *letters,
								 int n);

#endif							/* CMQ_DEAD_LETTER_H */
