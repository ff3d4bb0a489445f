/*-------------------------------------------------------------------------
 *
 * cmq_visits.h
 *	  What the launcher and the workers that it has visit databases tell each other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CMQ_VISITS_H
#define CMQ_VISITS_H

/* So many databases are visited at the same time, at most. */
#define CMQ_MAX_VISITS 4

extern Size cmq_visits_shmem_size(void);
extern void cmq_visits_shmem_init(void);
extern void cmq_visits_reset(int visit);
extern void cmq_visits_unfinished(void);
extern bool cmq_visits_is_asked_to_leave(void);
extern void cmq_visits_join(int visit);
extern void cmq_visits_ask_to_leave(int visit);
extern bool cmq_visits_is_unfinished(int visit);

#endif							/* CMQ_VISITS_H */
