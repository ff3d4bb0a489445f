/*-------------------------------------------------------------------------
 *
 * cmq_clock.c
 *	  The time that cmq goes by, and the queue clocks.
 *
 * Whoever sets the wall clock, by hand, by NTP or by resuming a virtual machine,
 * must not delay, reorder or destroy messages.  So cmq's time (cmq_time) is elapsed
 * time, which nobody can set, counted from the wall clock as it was when the server
 * was started.  While nobody sets the wall clock the two are the same, but for some
 * microseconds by which cmq's time is behind.  About once a second a process that reads
 * the time looks at the wall clock, too (look()):
 *	- It is behind, or up to SMALL_STEP ahead: cmq's time comes back to it by going
 *	  slower, by a tenth, or faster, by a hundredth.  It never stands still or goes
 *	  backward.
 *	- It is further ahead: cmq's time goes on as if nothing had happened, until the
 *	  wall clock has stayed so for cmq.clock_step_delay.  Then that is the time.  Each
 *	  further step begins the delay anew.
 * The log tells of a step back of a second or more, of a step forward that is held, and
 * of what becomes of that one.
 *
 * A queue's clock is a hybrid logical clock in microseconds: cmq's time, or the last
 * value given out if that is later.
 *	- cmq_clock_tick gives out values that nobody else gets: message ids, those that this
 *	  server gives out (cmq_id_class.c).
 *	- cmq_clock_tick_all does so for several queues at once: one value for all.  Who owns
 *	  a queue can move its clock, by rows with times to come.  So a clock that is far ahead
 *	  of cmq's time moves no other one.
 *	- cmq_clock_now reads the time, and remembers what it read.  So no reading
 *	  is ever earlier than another one before it.
 * Each tick is taken as its message is about to be written, one at a time.  So the
 * clock is ahead of cmq's time by no more than one microsecond, or cmq.msg_id_step of them,
 * for each message that was written within this microsecond, and what fails moves it by
 * nothing that lasts.
 * The clock of a new entry starts no earlier than the newest message of the
 * queue, committed or not (a prepared transaction may still commit it), and no
 * earlier than the clock that maintenance saved (cmq_queue_attach collects
 * these).  So ids stay unique through restart, crash, promotion and restore.  What
 * replication brings raises it, too (cmq_clock_advance).  A clock that is ahead of cmq's
 * time goes on from there, slower by a tenth, until cmq's time has caught up.
 * There is one way to see an id twice: the wall clock is set back while the
 * server is down, and the messages sent since the last round of maintenance
 * have been deleted, with rewind off, and vacuumed away, or, of what is in journals of
 * topics, deleted with rewind off.  In recovery no entry
 * is made, for replay would move on without it: a queue's time is cmq's then.
 *
 * Crash: the postmaster remembers where it has begun to count, so cmq's time goes on,
 * and the first look afterwards finds again how far the wall clock is away.  A start
 * of the server takes the wall clock as it finds it: whether it was set or the server
 * was down for so long cannot be told.
 *
 * Locks: a spinlock guards the course, and each backend keeps a copy of it, to be
 * renewed when the version has changed; clocks are atomics.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "base/cmq_id_class.h"
#include "base/cmq_settings.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_entry.h"
#include "memory/cmq_types.h"

/* It goes on while the system sleeps. */
#ifdef CLOCK_BOOTTIME
#define ELAPSED_CLOCK CLOCK_BOOTTIME
#else
#define ELAPSED_CLOCK CLOCK_MONOTONIC
#endif

/* How often somebody looks at the wall clock, in microseconds. */
#define LOOK_INTERVAL USECS_PER_SEC

/*
 * A wall clock that is no further ahead is followed without delay.  It can be so far ahead
 * after it was set back for some minutes, because cmq's time has lost a tenth of them.
 */
#define SMALL_STEP USECS_PER_MINUTE

/* A step back of this size is worth a line in the log. */
#define NOTABLE_STEP USECS_PER_SEC

/* So far apart two clocks may seem to be that are read one after the other. */
#define NOISE 50

/* cmq's time loses one part in LOSE_PART, or gains one part in GAIN_PART. */
#define LOSE_PART 10
#define GAIN_PART 100

/* How far ahead of all others a time for several queues is sought. */
#define MAX_AHEAD 1024

/*
 * A clock that is further ahead of cmq's time gives no times together with others; one that
 * has come to be so meanwhile may be a bit further.  With ids in steps (cmq_id_class.c)
 * clocks go ahead by themselves, when many messages are sent.
 */
#define MAX_LEAD (USECS_PER_SEC * cmq_msg_id_step)
#define MAX_LEAD_MEANWHILE (2 * MAX_LEAD)

/* How cmq's time goes on from some moment; what is elapsed is in microseconds. */
typedef struct Course
{
	int64		since;			/* elapsed then */
	TimestampTz time;			/* cmq's time then */
	int64		excess;			/* to be lost from then on; negative: gained */

	/* a wall clock that is too far ahead */
	bool		held;
	int64		held_wall;		/* so far ahead of what is elapsed ... */
	int64		held_since;		/* ... since then */
} Course;

typedef struct ClockShared
{
	pg_atomic_uint64 next_look; /* elapsed */
	pg_atomic_uint64 version;
	slock_t		mutex;			/* guards the course */
	Course		course;
} ClockShared;

static ClockShared *clock_shared = NULL;

/* A copy of the course, of this version. */
static Course mine;
static uint64 my_version = 0;

/* The postmaster's, and inherited: the course at its start. */
static Course first_course;

/* What a look has found that is worth a line in the log. */
typedef enum Finding
{
	NOTHING,
	SET_BACK,
	SET_FORWARD,
	ACCEPTED,
	AGREES_AGAIN
} Finding;

/* Microseconds that have elapsed since some time in the past; nobody sets this. */
int64
cmq_elapsed(void)
{
	struct timespec now;

	(void) clock_gettime(ELAPSED_CLOCK, &now);
	return now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

/* How much of an excess has been lost, or gained, after some time. */
static int64
slewed(int64 excess, int64 elapsed)
{
	if (excess >= 0)
		return Min(excess, elapsed / LOSE_PART);
	return Max(excess, -(elapsed / GAIN_PART));
}

static TimestampTz
course_at(const Course *course, int64 elapsed)
{
	int64		e = elapsed - course->since;

	return course->time + e - slewed(course->excess, e);
}

/*
 * How far the wall clock is ahead of what is elapsed.  It may be further ahead by
 * *inaccuracy, but never less far, so that cmq's time is not ahead of the wall clock.
 */
static int64
measure_wall(int64 *inaccuracy)
{
	int64		result = 0;

	*inaccuracy = PG_INT64_MAX;
	for (int i = 0; i < 10 && *inaccuracy > 10; i++)
	{
		int64		before = cmq_elapsed();
		TimestampTz wall = GetCurrentTimestamp();
		int64		after = cmq_elapsed();

		if (after - before + 2 < *inaccuracy)
		{
			*inaccuracy = after - before + 2;
			result = wall - after - 1;
		}
	}
	return result;
}

Size
cmq_clock_shmem_size(void)
{
	return sizeof(ClockShared);
}

/* Called under AddinShmemInitLock, by the postmaster. */
void
cmq_clock_shmem_init(void)
{
	bool		found;
	int64		now;
	int64		inaccuracy;

	clock_shared = ShmemInitStruct("cmq clock", cmq_clock_shmem_size(), &found);
	if (found)
		return;
	if (first_course.time == 0)
	{
		int64		wall = measure_wall(&inaccuracy);

		first_course.since = cmq_elapsed();
		first_course.time = first_course.since + wall;
	}
	now = cmq_elapsed();
	memset(&clock_shared->course, 0, sizeof(Course));
	clock_shared->course.since = now;
	clock_shared->course.time = course_at(&first_course, now);
	SpinLockInit(&clock_shared->mutex);
	pg_atomic_init_u64(&clock_shared->next_look, 0);
	pg_atomic_init_u64(&clock_shared->version, 1);
}

/*
 * Compare cmq's time with the wall clock, and change the course if need be.  wall and
 * inaccuracy are what measure_wall() has found; *ahead is how far the wall clock is ahead
 * of cmq's time.  The caller holds the mutex.
 */
static Finding
correct(Course *course, int64 elapsed, int64 wall, int64 inaccuracy, int64 *ahead)
{
	TimestampTz time = course_at(course, elapsed);
	int64		expected = course->time - course->since - course->excess;
	Finding		finding = course->held ? AGREES_AGAIN : NOTHING;

	*ahead = elapsed + wall - time;
	if (*ahead > SMALL_STEP)
	{
		finding = NOTHING;
		if (!course->held || wall > course->held_wall + SMALL_STEP)
		{
			/* what it was to lose or gain was by another clock */
			course->since = elapsed;
			course->time = time;
			course->excess = 0;
			course->held = true;
			course->held_since = elapsed;
			finding = SET_FORWARD;
		}
		course->held_wall = wall;
		if (elapsed - course->held_since < cmq_clock_step_delay * USECS_PER_SEC)
			return finding;
		course->since = elapsed;
		course->time = elapsed + wall;
		course->held = false;
		return ACCEPTED;
	}
	course->held = false;
	if (expected < wall - NOISE || expected > wall + inaccuracy + NOISE)
	{
		course->since = elapsed;
		course->time = time;
		course->excess = -*ahead;
		if (*ahead < -NOTABLE_STEP && wall < expected - NOTABLE_STEP)
			finding = SET_BACK;
	}
	return finding;
}

static void
report(Finding finding, int64 ahead)
{
	long long	seconds = (ahead < 0 ? -ahead : ahead) / USECS_PER_SEC;

	switch (finding)
	{
		case NOTHING:
			break;
		case SET_BACK:
			ereport(LOG,
					(errmsg("cmq: the wall clock is %lld seconds behind the time of messages",
							seconds),
					 errdetail("Their time goes on, slower by a tenth, until the wall clock has caught up.")));
			break;
		case SET_FORWARD:
			ereport(LOG,
					(errmsg("cmq: the wall clock is %lld seconds ahead of the time of messages",
							seconds),
					 errdetail("Their time goes on as before. If the wall clock stays so for %d seconds it is accepted.",
							   cmq_clock_step_delay),
					 errhint("If the wall clock is wrong, set it right. If it is right and you do not want to wait, set cmq.clock_step_delay to 0, reload the configuration, and set it back when the log says that the wall clock has been accepted.")));
			break;
		case ACCEPTED:
			ereport(LOG,
					(errmsg("cmq: the wall clock has been accepted, which is %lld seconds ahead",
							seconds),
					 errdetail("The time of messages has moved forward by so much: visibility timeouts, delays, retention and rewind windows are nearer to their end, or over.")));
			break;
		case AGREES_AGAIN:
			ereport(LOG,
					(errmsg("cmq: the wall clock is no longer ahead of the time of messages")));
			break;
	}
}

/* Look at the wall clock, unless another process does. */
static void
look(int64 now)
{
	uint64		due = pg_atomic_read_u64(&clock_shared->next_look);
	int64		wall;
	int64		inaccuracy;
	int64		ahead;
	Finding		finding;

	if (now < (int64) due ||
		!pg_atomic_compare_exchange_u64(&clock_shared->next_look, &due,
										(uint64) (now + LOOK_INTERVAL)))
		return;
	wall = measure_wall(&inaccuracy);
	now = cmq_elapsed();
	SpinLockAcquire(&clock_shared->mutex);
	finding = correct(&clock_shared->course, now, wall, inaccuracy, &ahead);
	pg_atomic_fetch_add_u64(&clock_shared->version, 1);
	SpinLockRelease(&clock_shared->mutex);
	report(finding, ahead);
}

/* Make sure that mine is the present course, for a time that has just been read. */
static inline void
follow_course(int64 elapsed)
{
	if (unlikely(elapsed >= (int64) pg_atomic_read_u64(&clock_shared->next_look)))
		look(elapsed);
	if (unlikely(pg_atomic_read_u64(&clock_shared->version) != my_version))
	{
		SpinLockAcquire(&clock_shared->mutex);
		mine = clock_shared->course;
		my_version = pg_atomic_read_u64(&clock_shared->version);
		SpinLockRelease(&clock_shared->mutex);
	}
}

/* The time that cmq goes by. */
TimestampTz
cmq_time(void)
{
	int64		elapsed = cmq_elapsed();

	follow_course(elapsed);
	return course_at(&mine, elapsed);
}

/* How far a queue's clock that is ahead goes in this time. */
static int64
slow(int64 elapsed)
{
	return elapsed - elapsed / LOSE_PART;
}

/* A new shared entry of a queue: its clock starts no earlier than this. */
void
cmq_clock_init(CmqSharedQueue *shared, TimestampTz not_before)
{
	pg_atomic_init_u64(&shared->clock, (uint64) not_before);
	pg_atomic_init_u64(&shared->clock_line,
					   (uint64) (not_before - slow(cmq_elapsed())));
}

/* Raise a time to this one at least. */
static void
raise_time(pg_atomic_uint64 *value, TimestampTz time)
{
	uint64		old = pg_atomic_read_u64(value);

	while (time > (TimestampTz) old &&
		   !pg_atomic_compare_exchange_u64(value, &old, (uint64) time))
		;
}

/*
 * A message of this time, or one deleted then, has come from elsewhere: all that the
 * clock gives out from now on is later.
 */
void
cmq_clock_advance(CmqSharedQueue *shared, TimestampTz time)
{
	if (TIMESTAMP_NOT_FINITE(time))
		return;
	raise_time(&shared->clock, time);
	raise_time(&shared->clock_line, time - slow(cmq_elapsed()));
}

/* The least that a queue's clock can be. */
static TimestampTz
least(CmqSharedQueue *shared, int64 elapsed)
{
	return (TimestampTz) pg_atomic_read_u64(&shared->clock_line) + slow(elapsed);
}

static TimestampTz
queue_time(CmqSharedQueue *shared)
{
	int64		elapsed = cmq_elapsed();
	TimestampTz time;
	TimestampTz start;

	follow_course(elapsed);
	time = course_at(&mine, elapsed);
	start = least(shared, elapsed);
	return Max(time, start);
}

/*
 * The queue's time, for calls that write times or claim messages; never earlier than
 * anything that the clock has given out.
 */
TimestampTz
cmq_clock_now(CmqSharedQueue *shared)
{
	TimestampTz now = queue_time(shared);
	uint64		last = pg_atomic_read_u64(&shared->clock);

	while (now > (TimestampTz) last)
	{
		if (pg_atomic_compare_exchange_u64(&shared->clock, &last, (uint64) now))
			return now;
	}
	return (TimestampTz) last;
}

/*
 * The same for calls that only look: the clock does not remember it, and a queue that is
 * looked at stays idle.
 */
TimestampTz
cmq_clock_peek(CmqSharedQueue *shared)
{
	TimestampTz now = queue_time(shared);
	TimestampTz last = cmq_clock_last(shared);

	return Max(now, last);
}

/* The last time that was given out or remembered: all that follow are later. */
TimestampTz
cmq_clock_last(CmqSharedQueue *shared)
{
	return (TimestampTz) pg_atomic_read_u64(&shared->clock);
}

/* Take a microsecond for the caller alone. */
TimestampTz
cmq_clock_tick(CmqSharedQueue *shared)
{
	TimestampTz now = queue_time(shared);
	uint64		last = pg_atomic_read_u64(&shared->clock);
	TimestampTz tick;

	do
	{
		tick = cmq_id_class_next(Max(now, (TimestampTz) last + 1));
	} while (!pg_atomic_compare_exchange_u64(&shared->clock, &last,
											 (uint64) tick));
	return tick;
}

/* Move a queue's clock to this time; false if it has been there, and *last is where it is. */
static bool
move_clock(CmqSharedQueue *shared, TimestampTz time, TimestampTz *last)
{
	uint64		old = pg_atomic_read_u64(&shared->clock);

	while ((TimestampTz) old < time)
	{
		if (pg_atomic_compare_exchange_u64(&shared->clock, &old, (uint64) time))
			return true;
	}
	*last = (TimestampTz) old;
	return false;
}

/* Times that several queues have together are no later than this. */
TimestampTz
cmq_clock_latest(void)
{
	return cmq_time() + MAX_LEAD_MEANWHILE;
}

/* Is the clock too far ahead of cmq's time to give times together with others? */
bool
cmq_clock_is_ahead(CmqSharedQueue *shared)
{
	return cmq_clock_peek(shared) > cmq_time() + MAX_LEAD;
}

/*
 * Take a microsecond of several queues for the caller alone, the same in all.  Their clocks
 * are moved one after the other, and others may tick meanwhile.  Where a clock is found to
 * be there already all begins anew, each time a bit further ahead: so far that the time is
 * still to come when the last clock is moved.  What a first try has moved skips some
 * microseconds.  DT_NOEND: a clock has been moved far ahead of cmq's time, and others were
 * left where they are.
 */
TimestampTz
cmq_clock_tick_all(CmqSharedQueue **queues, int n)
{
	TimestampTz tick = DT_NOBEGIN;
	TimestampTz last = DT_NOBEGIN;
	int			moved = 0;

	if (n == 1)
		return cmq_clock_tick(queues[0]);
	for (int i = 0; i < n; i++)
	{
		TimestampTz now = queue_time(queues[i]);
		TimestampTz next = cmq_clock_last(queues[i]) + 1;

		tick = Max(tick, Max(now, next));
	}
	tick = cmq_id_class_next(tick);
	for (int64 ahead = 1; moved < n; ahead = Min(ahead * 2, MAX_AHEAD))
	{
		if (tick > cmq_clock_latest())
			return DT_NOEND;
		for (moved = 0; moved < n && move_clock(queues[moved], tick, &last); moved++)
			;
		if (moved < n)
			tick = cmq_id_class_next(Max(last, cmq_time()) + ahead);
	}
	return tick;
}

/*
 * When the current transaction began, by a queue's clock; by cmq's time if shared is
 * NULL.  That is now() to the microsecond unless the wall clock has been set, or
 * the queue's clock is ahead.
 */
TimestampTz
cmq_clock_xact_start(CmqSharedQueue *shared)
{
	int64		elapsed = cmq_elapsed();
	TimestampTz time;
	TimestampTz start = GetCurrentTransactionStartTimestamp();

	follow_course(elapsed);
	time = course_at(&mine, elapsed);
	if (mine.held)
		start -= elapsed + mine.held_wall - time;
	else
		start += mine.excess - slewed(mine.excess, elapsed - mine.since);
	/* set forward, and nobody has looked yet */
	if (start > time + NOTABLE_STEP)
		start = time;
	if (shared && least(shared, elapsed) > time)
		start += least(shared, elapsed) - time;
	return start;
}
