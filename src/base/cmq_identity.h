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

extern int64 cmq_identity_database(void);
extern FullTransactionId cmq_identity_widen(TransactionId xid);
extern int64 cmq_identity_xact(FullTransactionId fxid);

#endif							/* CMQ_IDENTITY_H */
