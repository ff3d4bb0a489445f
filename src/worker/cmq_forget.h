/*-------------------------------------------------------------------------
 *
 * cmq_forget.h
 *	  Remove the history that was forgotten when rewind was switched off.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_FORGET_H
#define CMQ_FORGET_H

#include "store/cmq_description.h"
#include "worker/cmq_portion.h"

extern CmqStepResult cmq_forget_some(CmqQueue *queue);

#endif							/* CMQ_FORGET_H */
