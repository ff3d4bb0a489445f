# cmq: message queues with visibility timeouts and rewind
#
#   make, make install, make installcheck    as for every PostgreSQL extension; also in another
#                                            directory, with -f /path/to/cmq/Makefile
#   make demo                                play the story of a rewind
#   make psql                                try cmq in psql
#   make console                             the web console, for the server of PGHOST ..
#   make console-demo                        the same with the story of a broken consumer in it
#   make test                                build with -Werror, install, run all tests
#   make check-quick                         the same with some of the TAP tests, which touch each
#                                            area: about three minutes on 2 processors
#   make test-long                           the same with more rounds, then test-versions: an hour
#   make test-versions                       make test in chroots of other Debian releases
#   make test-packages                       build, install, upgrade and remove the Debian packages in
#                                            chroots of Debian 12, 13, unstable, experimental
#   make dist                                the archives of a release: for PGXN, and for the packages
#   make bench [BENCH_OPTS=...]              the benchmarks; see bench/README.md
#   make checkver                            do all files name the same version?
#   make checktests                          do test/README and this file name all tests?
#   make check-layers                        is src/ laid out as src/README says?
#   make reference                           write docs/functions.md from the contracts in sql/
#   make check-reference                     is it so, and is each contract whole?
#   make indent, make indent-check           pgindent on src/, or what it would change
#
# demo, psql, test, check-quick and bench install the Debian packages they lack, and
# use private servers of their own.  PG_CONFIG chooses the PostgreSQL.  One test of
# each kind: see test/README.

# The tree, which need not be where make runs: make -f /path/to/cmq/Makefile builds there.
HERE := $(dir $(lastword $(MAKEFILE_LIST)))

EXTENSION = cmq cmq_cluster
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(HERE)cmq.control)
PGFILEDESC = "cmq - message queues with visibility timeouts and rewind"

MODULE_big = cmq
OBJS = \
	src/base/cmq_args.o \
	src/base/cmq_group.o \
	src/base/cmq_handle.o \
	src/base/cmq_headers.o \
	src/base/cmq_id_class.o \
	src/base/cmq_identity.o \
	src/base/cmq_limit.o \
	src/base/cmq_names.o \
	src/base/cmq_settings.o \
	src/base/cmq_try.o \
	src/base/cmq_uses.o \
	src/cmq.o \
	src/memory/cmq_async.o \
	src/memory/cmq_clock.o \
	src/memory/cmq_count.o \
	src/memory/cmq_earliest.o \
	src/memory/cmq_effect.o \
	src/memory/cmq_floor.o \
	src/memory/cmq_group_events.o \
	src/memory/cmq_laggards.o \
	src/memory/cmq_mark.o \
	src/memory/cmq_notes.o \
	src/memory/cmq_prepared.o \
	src/memory/cmq_proc.o \
	src/memory/cmq_shared.o \
	src/memory/cmq_stretch.o \
	src/memory/cmq_visits.o \
	src/memory/cmq_wait.o \
	src/memory/cmq_window.o \
	src/memory/cmq_workers.o \
	src/memory/cmq_xact.o \
	src/store/cmq_bounds.o \
	src/store/cmq_by_id.o \
	src/store/cmq_cache.o \
	src/store/cmq_catalog.o \
	src/store/cmq_counting.o \
	src/store/cmq_damage.o \
	src/store/cmq_ddl.o \
	src/store/cmq_dedup.o \
	src/store/cmq_due.o \
	src/store/cmq_dump.o \
	src/store/cmq_find.o \
	src/store/cmq_group_scan.o \
	src/store/cmq_history.o \
	src/store/cmq_index_pages.o \
	src/store/cmq_journal.o \
	src/store/cmq_journal_rows.o \
	src/store/cmq_leaf.o \
	src/store/cmq_leaf_rows.o \
	src/store/cmq_load.o \
	src/store/cmq_lock.o \
	src/store/cmq_merge.o \
	src/store/cmq_message_rows.o \
	src/store/cmq_oldest.o \
	src/store/cmq_orphan.o \
	src/store/cmq_owner.o \
	src/store/cmq_pending.o \
	src/store/cmq_queue.o \
	src/store/cmq_recent.o \
	src/store/cmq_rewind_log.o \
	src/store/cmq_rights.o \
	src/store/cmq_scan.o \
	src/store/cmq_shape.o \
	src/store/cmq_states.o \
	src/store/cmq_table.o \
	src/store/cmq_target.o \
	src/store/cmq_topic_rows.o \
	src/store/cmq_triggers.o \
	src/verbs/cmq_alter.o \
	src/verbs/cmq_binding.o \
	src/verbs/cmq_candidates.o \
	src/verbs/cmq_changes.o \
	src/verbs/cmq_chosen.o \
	src/verbs/cmq_clear.o \
	src/verbs/cmq_create.o \
	src/verbs/cmq_dead_letter.o \
	src/verbs/cmq_delete.o \
	src/verbs/cmq_deliveries.o \
	src/verbs/cmq_deliveries_of.o \
	src/verbs/cmq_drop.o \
	src/verbs/cmq_filter.o \
	src/verbs/cmq_gone.o \
	src/verbs/cmq_group_take.o \
	src/verbs/cmq_ids.o \
	src/verbs/cmq_journal_drop.o \
	src/verbs/cmq_once.o \
	src/verbs/cmq_ordered.o \
	src/verbs/cmq_outgoing.o \
	src/verbs/cmq_pause.o \
	src/verbs/cmq_publish.o \
	src/verbs/cmq_queue_args.o \
	src/verbs/cmq_receive.o \
	src/verbs/cmq_redrive.o \
	src/verbs/cmq_redrive_list.o \
	src/verbs/cmq_release.o \
	src/verbs/cmq_replay.o \
	src/verbs/cmq_restore.o \
	src/verbs/cmq_rewind.o \
	src/verbs/cmq_send.o \
	src/verbs/cmq_subscribe.o \
	src/verbs/cmq_take.o \
	src/verbs/cmq_topic.o \
	src/verbs/cmq_truncate.o \
	src/watch/cmq_attributes.o \
	src/watch/cmq_blocked.o \
	src/watch/cmq_history_rows.o \
	src/watch/cmq_look.o \
	src/watch/cmq_message.o \
	src/watch/cmq_message_row.o \
	src/watch/cmq_message_state.o \
	src/watch/cmq_messages.o \
	src/watch/cmq_metrics.o \
	src/watch/cmq_nodes.o \
	src/watch/cmq_page.o \
	src/watch/cmq_plan_ids.o \
	src/watch/cmq_planner.o \
	src/watch/cmq_published.o \
	src/watch/cmq_rewind_left.o \
	src/watch/cmq_status.o \
	src/watch/cmq_timeline.o \
	src/watch/cmq_view_shape.o \
	src/watch/cmq_view_ways.o \
	src/watch/cmq_views.o \
	src/worker/cmq_dedup_drop.o \
	src/worker/cmq_forget.o \
	src/worker/cmq_launcher.o \
	src/worker/cmq_leaf_drop.o \
	src/worker/cmq_letters.o \
	src/worker/cmq_maintain.o \
	src/worker/cmq_portion.o \
	src/worker/cmq_purge.o \
	src/worker/cmq_turn.o \
	src/worker/cmq_worker.o

DATA = $(patsubst $(HERE)%,%,$(wildcard $(HERE)sql/cmq--*.sql $(HERE)sql/cmq_cluster--*.sql))

# The version is a preprocessor flag because it must reach LLVM bitcode too,
# which is compiled without PG_CFLAGS.
PG_CPPFLAGS = -I$(srcdir)/src -DCMQ_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare

# make installcheck needs no running server: each runner starts one of its
# own, with cmq preloaded.  It refuses to run as root.  Inputs are in test/,
# accepted outputs in expected/.
REGRESS = \
	queue \
	send \
	receive \
	delete \
	consume \
	chosen \
	by_id \
	pgmq \
	visibility \
	release \
	batch \
	headers \
	delays \
	dedup \
	keys_by_hand \
	full \
	clear \
	pause \
	dead_letter \
	redrive \
	topic \
	journal \
	topic_strangers \
	groups \
	group_rows \
	ordered \
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
	readers \
	messages \
	timeline \
	reports \
	metrics \
	status \
	errors \
	isolation_levels \
	eyes \
	rights_only \
	numbers \
	metadata \
	owners_code \
	bindings \
	small_things \
	gone \
	changes \
	docs \
	citus

ISOLATION = \
	create_create \
	receive_receive \
	receive_beginning \
	receive_delete \
	release_races \
	dedup_names \
	dedup_send \
	window_nested \
	window_topic \
	journal_locked \
	consume_consume \
	ordered_producers \
	ordered_receivers \
	ordered_rewind \
	ordered_letters \
	chosen_receive \
	rewind_receive \
	rewind_delete \
	rewind_rewind \
	consume_rewind \
	pause_receive \
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
	redrive_traffic \
	drop_races \
	stranger_locks \
	metrics_drop \
	serializable \
	reports_snapshot \
	restore_traffic \
	restore_stretch \
	forget_history \
	history_rows \
	leaf_locks \
	forget_leaves \
	cancel_receive \
	rewind_floor \
	rewind_by_hand \
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

all: checkver checktests

$(OBJS) $(OBJS:.o=.bc): $(wildcard $(HERE)src/*/*.h) $(HERE)cmq.control

# Outside of the tree the folders for the objects are made first, and the runners of
# installcheck, which want inputs and results beside each other, get links.
ifneq ($(realpath $(HERE)),$(realpath .))

# whole paths: VPATH would find the others in the tree
OBJ_DIRS = $(addprefix $(CURDIR)/,$(sort $(dir $(OBJS))))
INPUTS = test expected

$(OBJS) $(OBJS:.o=.bc): | $(OBJ_DIRS)
$(OBJ_DIRS):
	@mkdir -p $@

.PHONY: link-inputs unlink-inputs
installcheck: link-inputs
link-inputs:
	@ln -sfn $(foreach input,$(INPUTS),$(realpath $(HERE))/$(input)) .
clean: unlink-inputs
unlink-inputs:
	@rm -f $(INPUTS)

endif

else # no PGXS

PGXS_TARGETS = all all-lib install install-lib installdirs uninstall clean \
	distclean maintainer-clean check installcheck cmq.so $(OBJS)

.PHONY: $(PGXS_TARGETS)
$(PGXS_TARGETS):
	$(error PostgreSQL's development files are missing: install the package \
$(shell PG_CONFIG='$(PG_CONFIG)' $(HERE)tools/dev-package) (or set PG_CONFIG to the pg_config of a server that has them))

endif

.PHONY: demo psql console console-demo test test-long test-versions test-packages dist check-quick bench checkver \
	checktests check-layers reference check-reference indent indent-check

demo:
	@$(HERE)demo/run

psql:
	@$(HERE)tools/psql

console:
	@$(HERE)console/run

console-demo:
	@$(HERE)console/demo/run

test:
	@$(HERE)test/run

check-quick:
	@$(HERE)test/run quick

test-long:
	@CMQ_TEST_LONG=1 $(HERE)test/run
	@$(HERE)test/versions

test-versions:
	@$(HERE)test/versions

test-packages:
	@$(HERE)test/packages

dist: checkver
	@$(HERE)tools/checkmeta
	@$(HERE)tools/dist

bench:
	@$(HERE)tools/bench $(BENCH_OPTS)

checkver:
	@$(HERE)tools/checkver

checktests:
	@$(HERE)tools/checktests

check-layers:
	@$(HERE)tools/check-layers --self-test
	@$(HERE)tools/check-layers

reference:
	@$(HERE)tools/reference

check-reference:
	@$(HERE)tools/reference --self-test
	@$(HERE)tools/reference --check

indent: all
	@$(HERE)tools/indent

indent-check: all
	@$(HERE)tools/indent --check
