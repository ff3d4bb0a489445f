/*-------------------------------------------------------------------------
 *
 * cmq_portion.h
 *	  Portions of a step of maintenance: bounded in rows, locks and time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_PORTION_H
#define CMQ_PORTION_H

#include "memory/cmq_types.h"
#include "store/cmq_description.h"

/* What a step of maintenance, or a bounded portion of one, says of the rest. */
typedef enum CmqStepResult
{
	CMQ_STEP_DONE,				/* there is none */
	CMQ_STEP_LOOKING,			/* nothing was done, and there may be more */
	CMQ_STEP_MORE				/* something was done, and there is more */
} CmqStepResult;

/* What one transaction of maintenance does of a step. */
typedef struct CmqPortion
{
	bool		bounded;		/* the worker's; else all that there is room
								 * for */
	int64		begun;			/* elapsed */
} CmqPortion;

/* No row of the pending table. */
extern const CmqPlace cmq_place_beginning;

extern bool cmq_portion_is_beginning(const CmqPlace *place);

extern CmqPlace cmq_portion_get_place(CmqQueue *queue, const CmqPortion *portion,
									  CmqPlaceKind kind);
extern void cmq_portion_set_place(CmqQueue *queue, const CmqPortion *portion,
								  CmqPlaceKind kind, const CmqPlace *place);
extern bool cmq_portion_is_over(const CmqPortion *portion);
extern bool cmq_portion_has_enough(const CmqPortion *portion, int64 looked,
								   int64 removed);
extern bool cmq_portion_has_room(void);

#endif							/* CMQ_PORTION_H */
