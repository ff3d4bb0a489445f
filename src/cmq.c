/*-------------------------------------------------------------------------
 *
 * cmq.c
 *	  Module entry: settings, shared memory, callbacks and the launcher.
 *
 * A server that has not preloaded the library can load it later: so CREATE EXTENSION
 * works, and every call can say what is missing (cmq_require_preload()).  Nothing but the
 * backend's caches is set up then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "base/cmq_compat.h"
#include "base/cmq_id_class.h"
#include "base/cmq_settings.h"
#include "memory/cmq_clock.h"
#include "memory/cmq_count.h"
#include "memory/cmq_prepared.h"
#include "memory/cmq_proc.h"
#include "memory/cmq_shared.h"
#include "memory/cmq_visits.h"
#include "memory/cmq_workers.h"
#include "memory/cmq_xact.h"
#include "store/cmq_cache.h"
#include "store/cmq_owner.h"
#include "verbs/cmq_publish.h"
#include "watch/cmq_planner.h"
#include "worker/cmq_launcher.h"
#include "worker/cmq_turn.h"

CMQ_MODULE_MAGIC;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

void		_PG_init(void);

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(cmq_shared_shmem_size());
	RequestAddinShmemSpace(cmq_clock_shmem_size());
	RequestAddinShmemSpace(cmq_proc_shmem_size());
	RequestAddinShmemSpace(cmq_count_shmem_size());
	RequestAddinShmemSpace(cmq_prepared_shmem_size());
	RequestAddinShmemSpace(cmq_workers_shmem_size());
	RequestAddinShmemSpace(cmq_visits_shmem_size());
	RequestAddinShmemSpace(cmq_turn_shmem_size());
	RequestNamedLWLockTranche("cmq", 3);
}

static void
shmem_startup(void)
{
	LWLockPadded *locks;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	locks = GetNamedLWLockTranche("cmq");
	cmq_shared_shmem_init(&locks[0].lock);
	cmq_clock_shmem_init();
	cmq_proc_shmem_init(&locks[1].lock);
	cmq_count_shmem_init();
	cmq_prepared_shmem_init(&locks[2].lock);
	cmq_workers_shmem_init();
	cmq_visits_shmem_init();
	cmq_turn_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

void
_PG_init(void)
{
	cmq_cache_init();
	cmq_publish_init_cache();

	if (!process_shared_preload_libraries_in_progress)
		return;

	cmq_settings_define();
	cmq_id_class_check_settings();
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
	cmq_xact_install_callbacks();
	cmq_owner_install_hook();
	cmq_planner_install_hook();
	cmq_launcher_register();
}
