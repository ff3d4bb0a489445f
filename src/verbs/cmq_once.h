/*-------------------------------------------------------------------------
 *
 * cmq_once.h
 *	  Claim keys, so that of the messages with one key one is stored.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_ONCE_H
#define CMQ_ONCE_H

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "store/cmq_dedup.h"
#include "store/cmq_description.h"
#include "store/cmq_leaf_rows.h"

/* Messages that are sent together, some of them with keys. */
typedef struct CmqOnce
{
	int			n;
	Datum	   *keys;
	bool	   *keys_null;
	TimestampTz *times;			/* of the messages; of a duplicate, that of
								 * the message that has its key */
	bool	   *is_duplicate;
	int			nduplicates;
	bool		readable;		/* may the caller read the queue? */

	/* in the midst of a claim */
	int		   *order;			/* numbers of messages with keys, by key */
	int			nkeys;
	ItemPointerData *tids;		/* rows written, in this order */
	CmqKeys		leaf;			/* where they are written */
	CmqKeys    *older;			/* where they are looked for, too */
	int			nolder;
	CmqKeys    *busy;			/* the leaf of a key that is busy, or NULL ... */
	CmqKeyHolder holder;		/* ... and who has it */
} CmqOnce;

extern Datum cmq_once_check_key(Datum key, int i, const char *kind,
								const char *name);
extern void cmq_once_keys_arg(FunctionCallInfo fcinfo, int argno,
							  const char *kind, const char *name, int nbodies,
							  Datum **keys, bool **isnull);
extern void cmq_once_require(CmqQueue *queue, const char *argname);
extern void cmq_once_init(CmqOnce *once, CmqQueue *queue, int n, Datum *keys,
						  bool *keys_null, TimestampTz *times);
extern void cmq_once_open(CmqOnce *once, CmqLeafRows *messages);
extern bool cmq_once_claim(CmqOnce *once, CmqLeafRows *messages);
extern void cmq_once_wait(CmqOnce *once);

#endif							/* CMQ_ONCE_H */
