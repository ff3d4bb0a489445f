# cmq: message queues with visibility timeouts and rewind
#
#   make, make install, make installcheck    as for every PostgreSQL extension
#   make demo                                play the story of a rewind
#   make psql                                try cmq in psql
#   make test                                build with -Werror, install, run all tests
#   make test-long                           the same with more rounds, then test-versions: an hour
#   make test-versions                       make test in chroots of other Debian releases
#   make bench [BENCH_OPTS=...]              the benchmarks; see bench/README.md
#   make checkver                            do all files name the same version?
#
# demo, psql, test and bench install the Debian packages they lack, and use
# private servers of their own.  PG_CONFIG chooses the PostgreSQL.

EXTENSION = cmq
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" cmq.control)
PGFILEDESC = "cmq - message queues with visibility timeouts and rewind"

MODULE_big = cmq
OBJS = \
	src/cmq.o \
	src/cmq_async.o \
	src/cmq_attributes.o \
	src/cmq_catalog.o \
	src/cmq_changes.o \
	src/cmq_clear.o \
	src/cmq_clock.o \
	src/cmq_damage.o \
	src/cmq_ddl.o \
	src/cmq_dead_letter.o \
	src/cmq_delete.o \
	src/cmq_drop.o \
	src/cmq_dump.o \
	src/cmq_floor.o \
	src/cmq_forget.o \
	src/cmq_gone.o \
	src/cmq_handle.o \
	src/cmq_headers.o \
	src/cmq_history.o \
	src/cmq_launcher.o \
	src/cmq_leaf.o \
	src/cmq_limit.o \
	src/cmq_lock.o \
	src/cmq_maintain.o \
	src/cmq_metrics.o \
	src/cmq_queue.o \
	src/cmq_oldest.o \
	src/cmq_owner.o \
	src/cmq_prepared.o \
	src/cmq_publish.o \
	src/cmq_receive.o \
	src/cmq_recent.o \
	src/cmq_redrive.o \
	src/cmq_restore.o \
	src/cmq_rewind.o \
	src/cmq_rewind_log.o \
	src/cmq_send.o \
	src/cmq_shmem.o \
	src/cmq_stats.o \
	src/cmq_stretch.o \
	src/cmq_table.o \
	src/cmq_target.o \
	src/cmq_topic.o \
	src/cmq_turn.o \
	src/cmq_views.o \
	src/cmq_wait.o \
	src/cmq_worker.o

DATA = $(wildcard sql/cmq--*.sql)

# The version is a preprocessor flag because it must reach LLVM bitcode too,
# which is compiled without PG_CFLAGS.
PG_CPPFLAGS = -DCMQ_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare

# make installcheck needs no running server: each runner starts one of its
# own, with cmq preloaded.  It refuses to run as root.  Inputs are in test/,
# accepted outputs in expected/.
REGRESS = \
	queue \
	send \
	receive \
	delete \
	visibility \
	batch \
	full \
	clear \
	dead_letter \
	topic \
	names \
	rewind \
	rewind_transactions \
	forget \
	restore \
	reconcile \
	retention \
	floor \
	stretches \
	rights \
	security \
	strangers \
	views \
	metrics \
	errors \
	isolation_levels \
	eyes \
	rights_only \
	numbers \
	owners_code \
	bindings \
	small_things \
	gone \
	changes \
	docs

ISOLATION = \
	create_create \
	receive_receive \
	receive_delete \
	rewind_receive \
	rewind_delete \
	rewind_rewind \
	drop_receive \
	clear_traffic \
	alter_retention \
	announce \
	revoke_waits \
	alter_snapshot \
	alter_recreate \
	publish_changes \
	dead_letter_bind \
	dead_letter_rewind \
	drop_races \
	stranger_locks \
	metrics_drop \
	serializable \
	restore_traffic \
	restore_stretch \
	forget_history \
	cancel_receive \
	rewind_floor \
	rollback \
	gone_races \
	drop_extension

TEST_SERVER = --temp-config=test/cmq.conf --load-extension=cmq --encoding=UTF8 --no-locale
REGRESS_OPTS = --inputdir=test --temp-instance=tmp_regress $(TEST_SERVER)
ISOLATION_OPTS = --inputdir=test --outputdir=. --temp-instance=tmp_isolation $(TEST_SERVER)
TAP_TESTS = 1
PROVE_TESTS ?= test/t/*.pl

EXTRA_CLEAN = tmp_regress tmp_isolation

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
PGXS_HEADER := $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h

# Debian's libpq-dev brings pgxs.mk, but not the server's headers.
ifeq ($(words $(wildcard $(PGXS) $(PGXS_HEADER))),2)

include $(PGXS)

all: checkver

$(OBJS) $(OBJS:.o=.bc): src/cmq.h src/cmq_compat.h cmq.control

else # no PGXS

PGXS_TARGETS = all all-lib install install-lib installdirs uninstall clean \
	distclean maintainer-clean check installcheck cmq.so $(OBJS)

.PHONY: $(PGXS_TARGETS)
$(PGXS_TARGETS):
	$(error PostgreSQL's development files are missing: install the package \
$(shell PG_CONFIG='$(PG_CONFIG)' tools/dev-package) (or set PG_CONFIG to the pg_config of a server that has them))

endif

.PHONY: demo psql test test-long test-versions bench checkver

demo:
	@demo/run

psql:
	@tools/psql

test:
	@test/run

test-long:
	@CMQ_TEST_LONG=1 test/run
	@test/versions

test-versions:
	@test/versions

bench:
	@tools/bench $(BENCH_OPTS)

checkver:
	@tools/checkver
