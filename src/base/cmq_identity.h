/*-------------------------------------------------------------------------
 *
 * cmq_identity.h
 *	  Names of this database and of its transactions that fit nothing elsewhere.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_IDENTITY_H
#define CMQ_IDENTITY_H

#include "access/transam.h"

extern int64 cmq_dump_here(void);
extern FullTransactionId cmq_widen_xid(TransactionId xid);
extern int64 cmq_rewind_xact_token(FullTransactionId fxid);

#endif							/* CMQ_IDENTITY_H */
