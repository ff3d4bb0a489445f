/*-------------------------------------------------------------------------
 *
 * cmq_group.h
 *	  Groups of messages: their hashes, and names as arguments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_GROUP_H
#define CMQ_GROUP_H

/* Bytes that the name of a group can have. */
#define CMQ_GROUP_MAX 128

/* The key of a row is the hash, with the lowest bit set for a message that waits. */
#define CMQ_GROUP_HASH(key)		((key) & ~INT64CONST(1))
#define CMQ_GROUP_WAITING(hash)	((hash) | INT64CONST(1))

/* A group's bit in a set of groups. */
#define CMQ_GROUP_BIT(hash) \
	(UINT64CONST(1) << (((uint64) (hash) >> 1) & 63))

extern int64 cmq_group_hash(Datum name);
extern void cmq_group_check(Datum name, bool ordered, const char *kind,
							const char *queue);

#endif							/* CMQ_GROUP_H */
