# What else runs on a server beside the queues: logical replication, VACUUM FULL,
# CLUSTER, REINDEX, tablespaces, roles that go, two databases, a full disk, no place
# for workers, pg_repack.  Calls fail with a clear error or not at all, nothing is lost,
# and the queues recover by themselves.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->running('main', <<'CONF', allows_streaming => 'logical');
max_worker_processes = 12
statement_timeout = 120s
CONF

sub all_states
{
	my ($queue) = @_;
	return $node->sql("SELECT string_agg(body || ' ' || state, ', ' ORDER BY msg_id) FROM cmq.\"q_${queue}_all\"");
}

# Receive and delete all that is ready: the bodies.
my $consume = q{SELECT coalesce(string_agg(body, ' ' ORDER BY o), '-') FROM (
	SELECT body, o, cmq_delete('%1$s', receipt_handle) AS ok FROM cmq_receive('%1$s', 1000) WITH ORDINALITY AS r (i, receipt_handle, body, h, e, f, n, c, w, g, o)) x WHERE ok};

sub consume
{
	my ($queue, $db) = @_;
	return $node->sql(sprintf($consume, $queue), $db);
}

note 'logical replication';

$node->sql(q{
	CREATE PUBLICATION everything FOR ALL TABLES;
	CREATE TABLE business (id int PRIMARY KEY);
	SELECT FROM pg_create_logical_replication_slot('slot', 'pgoutput');
	SELECT FROM cmq_create_queue('replicated', rewind_seconds => 3600);
});
$node->sql(q{
	INSERT INTO business VALUES (1);
	SELECT FROM cmq_send_batch('replicated', '{a,b,c,d}');
	SELECT cmq_change_visibility('replicated', receipt_handle, 600) FROM cmq_receive('replicated');
	SELECT cmq_rewind('replicated', now() - interval '1 min');
	SELECT cmq_alter_queue('replicated', visibility_timeout => 60);
	SELECT cmq_maintain();
});
is(consume('replicated'), 'b c d', 'a publication for all tables does not stop queues');
is($node->sql(q{SELECT cmq_restore('replicated', '-infinity')}), '3', 'nor a restore');
is($node->sql(q{SELECT cmq_clear_queue('replicated')}), '4', 'nor clear');
cmp_ok(
	$node->sql(q{SELECT count(*) FROM pg_logical_slot_get_binary_changes('slot', NULL, NULL, 'proto_version', '1', 'publication_names', 'everything')}),
	'>', 10, 'and what happened can be decoded');
$node->sql(q{SELECT FROM pg_drop_replication_slot('slot'); DROP PUBLICATION everything; SELECT cmq_drop_queue('replicated')});

# A subscriber that collects the messages and their history for reports.
my $reports = CmqNode->new('reports');
$reports->init;
$reports->start;
$reports->sql(q{
	CREATE SCHEMA cmq_data;
	CREATE TABLE cmq_data.q_source (enqueued_at timestamptz PRIMARY KEY, headers jsonb, body text NOT NULL);
	CREATE TABLE cmq_data.q_source_rewind (enqueued_at timestamptz PRIMARY KEY, first_received_at timestamptz, deleted_at timestamptz,
		deleted_by text, receive_count int, rewind_count int, deleted_xact bigint, topic text)});
$node->sql(q{
	SELECT FROM cmq_create_queue('source', rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('source', array(SELECT 'before' || i FROM generate_series(1, 50) i));
	CREATE PUBLICATION history FOR TABLE cmq_data.q_source, cmq_data.q_source_rewind WITH (publish_via_partition_root);
});
$reports->sql("CREATE SUBSCRIPTION history CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION history");
$reports->wait_for_subscription_sync($node, 'history');
$node->sql(q{
	SELECT FROM cmq_send_batch('source', array(SELECT 'after' || i FROM generate_series(1, 50) i), headers => array_fill('{"a": 1}'::jsonb, '{50}'))});
consume('source');
$node->sql(q{SELECT cmq_restore('source', '-infinity', (SELECT enqueued_at FROM cmq_data.q_source WHERE body = 'after1'))});
$node->wait_for_catchup('history');
foreach my $rows ('(SELECT * FROM cmq_data.q_source)', '(SELECT * FROM cmq_data.q_source_rewind)')
{
	my $digest = "SELECT count(*) || ' ' || md5(string_agg(t::text, ',' ORDER BY enqueued_at)) FROM $rows t";
	is($reports->sql($digest), $node->sql($digest), 'what the subscriber has is what there is: ' . $node->sql($digest));
}
$reports->sql('DROP SUBSCRIPTION history');
$reports->stop;
$node->sql(q{DROP PUBLICATION history; SELECT cmq_drop_queue('source')});

note 'rewriting tables';

$node->sql(q{
	SELECT FROM cmq_create_queue('rewritten', rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('rewritten', array(SELECT 'm' || i FROM generate_series(1, 9) i));
});
# a session that knows where its delivery lies
my $session = $node->session;
my $handle = $session->query_safe(q{SELECT receipt_handle FROM cmq_receive('rewritten')});
$node->sql(sprintf($consume, 'rewritten') =~ s/1000/3/r);
my $before = all_states('rewritten');
my @leaves = split /\n/, $node->sql(q{SELECT unnest(ARRAY[messages, rewind]) FROM cmq.partition WHERE queue = 'rewritten'});
for my $command (
	'VACUUM FULL cmq_data.q_rewritten_pending', 'REINDEX TABLE cmq_data.q_rewritten_pending',
	'CLUSTER cmq_data.q_rewritten_pending USING q_rewritten_pending_pkey', 'REINDEX TABLE CONCURRENTLY cmq_data.q_rewritten_pending',
	'VACUUM FULL cmq_data.q_rewritten', 'REINDEX TABLE cmq_data.q_rewritten', 'REINDEX TABLE CONCURRENTLY cmq_data.q_rewritten_rewind',
	map { ("VACUUM FULL $_", "CLUSTER $_ USING " . (split /\./, $_)[1] . "_pkey") } @leaves)
{
	$node->sql($command);
	is(all_states('rewritten'), $before, $command);
	is( $node->sql(q{BEGIN; SELECT cmq_send('rewritten', 'x') > 0; SELECT count(*) FROM cmq_receive('rewritten', 100); SELECT cmq_rewind('rewritten', now() - interval '1 min') IS NOT NULL; ROLLBACK}),
		"t\n6\nt", '... and everything works');
}
is($session->query_safe("SELECT cmq_delete('rewritten', '$handle')"), 't', 'a handle of before is good');
$session->quit;

# while clients are at it
my $load = $node->script('load', q{
SELECT cmq_send('rewritten', 'load');
SELECT count(*) FROM cmq_delete_batch('rewritten', ARRAY(SELECT receipt_handle FROM cmq_receive('rewritten', 2)));
});
my $run = $node->start_pgbench('-c', '4', '-T', '60', '-f', $load);
$node->wait_until(q{SELECT count(*) > 200 FROM cmq_data.q_rewritten});
$node->sql($_) foreach 'VACUUM FULL cmq_data.q_rewritten_pending', 'REINDEX TABLE CONCURRENTLY cmq_data.q_rewritten_pending',
  "VACUUM FULL $leaves[0]", "CLUSTER $leaves[1] USING " . (split /\./, $leaves[1])[1] . "_pkey";
my $n = $node->sql(q{SELECT count(*) FROM cmq_data.q_rewritten}) + 200;
$node->wait_until("SELECT count(*) > $n FROM cmq_data.q_rewritten");
$run->signal('TERM');
$run->finish;
unlike($run->{err}, qr/ERROR/, 'tables rewritten under traffic: no error');
$node->wait_until(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'});
$node->sql(q{UPDATE cmq_data.q_rewritten_pending SET visible_at = enqueued_at});
while (consume('rewritten') ne '-') { }
is( $node->sql(q{SELECT (SELECT count(*) FROM cmq_data.q_rewritten) - (SELECT count(*) FROM cmq_data.q_rewritten_rewind)}),
	'0', '... and every message is consumed');

note 'pg_repack';

SKIP:
{
	my $repack = $node->config_data('--bindir') . '/pg_repack';
	skip 'pg_repack is not on this machine', 1
	  unless -x $repack && $node->sql(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_repack'});
	$node->sql('CREATE EXTENSION pg_repack');
	$node->sql(q{SELECT FROM cmq_send_batch('rewritten', '{r1,r2}')});
	foreach my $table ('cmq_data.q_rewritten_pending', @leaves)
	{
		$node->command_ok([ $repack, '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-t', $table ], "pg_repack $table");
	}
	is(consume('rewritten'), 'r1 r2', 'and everything works');
}

note 'tablespaces';

my $space = $node->basedir . '/space';
mkdir $space or die;
$node->sql("CREATE TABLESPACE space LOCATION '$space'");
$node->sql(q{SELECT FROM cmq_send_batch('rewritten', '{t1,t2}')});
$node->sql("ALTER TABLE $_ SET TABLESPACE space") foreach (map { "cmq_data.q_rewritten$_" } '_pending', '', '_rewind'), @leaves;
$node->sql('ALTER INDEX cmq_data.q_rewritten_pending_pkey SET TABLESPACE space');
is(consume('rewritten'), 't1 t2', 'tables in another tablespace');
is($node->sql(q{SELECT cmq_rewind('rewritten', (SELECT min(enqueued_at) FROM cmq_data.q_rewritten WHERE body = 't1')) IS NOT NULL}), 't', '... rewind');
is(consume('rewritten'), 't1 t2', '... and again');
# the worker makes the next leaves there, too
$node->remove_leaves('rewritten');
$node->sql(q{SELECT cmq_send('rewritten', 'new leaf')});
is(consume('rewritten'), 'new leaf', 'a new leaf after that');
my $elsewhere = q{
	SELECT count(*) FROM cmq.partition p
		CROSS JOIN LATERAL (VALUES (p.messages), (p.rewind)) l (name)
		JOIN pg_class t ON t.oid = l.name
		JOIN pg_index i ON i.indrelid = t.oid
		JOIN pg_class c ON c.oid IN (t.oid, t.reltoastrelid, i.indexrelid) AND c.relkind IN (%s)
	WHERE p.queue = '%s' AND c.reltablespace IS DISTINCT FROM (SELECT oid FROM pg_tablespace WHERE spcname = 'space')};
is($node->sql(sprintf($elsewhere, q{'r', 't'}, 'rewritten')), '0', '... is in the tablespace of its parent');
$node->sql(q{SELECT cmq_drop_queue('rewritten')});
# A queue is made where other tables of that session would be, and stays there.
$node->sql(q{
	SET default_tablespace = space;
	SELECT FROM cmq_create_queue('placed', rewind_seconds => 3600)});
$node->remove_leaves('placed');
$node->sql(q{SELECT cmq_send('placed', 'm')});
is($node->sql(sprintf($elsewhere, q{'r', 't', 'i'}, 'placed')), '0', 'default_tablespace of the session that creates a queue holds for its leaves');
$node->sql(q{SELECT cmq_drop_queue('placed'); DROP TABLESPACE space});

note 'a role that is dropped';

$node->sql(q{
	SELECT FROM cmq_create_queue('roles', rewind_seconds => 3600);
	CREATE ROLE consumer;
	GRANT DELETE ON cmq.q_roles TO consumer;
	SELECT FROM cmq_send_batch('roles', '{a,b}');
	SET ROLE consumer;
	SELECT FROM cmq_delete_batch('roles', ARRAY(SELECT receipt_handle FROM cmq_receive('roles', 10)));
	RESET ROLE;
	DROP OWNED BY consumer;
	DROP ROLE consumer;
});
is($node->sql(q{SELECT DISTINCT deleted_by FROM cmq.q_roles_history}), 'consumer', 'its name is left in the history');
is($node->sql(q{SELECT cmq_rewind('roles', now() - interval '1 min') IS NOT NULL}), 't', 'and a rewind brings its messages back');
is(consume('roles'), 'a b', 'all of them');
is($node->sql(q{SELECT DISTINCT deleted_by = current_user FROM cmq.q_roles_history}), 't', 'deleted by somebody else now');
$node->sql(q{SELECT cmq_drop_queue('roles')});

note 'two databases';

$node->sql('CREATE DATABASE two');
$node->sql('CREATE EXTENSION cmq', 'two');
$node->sql(q{SELECT FROM cmq_create_queue('same', rewind_seconds => 3600)}, $_) foreach 'postgres', 'two';
$node->sql(q{SELECT cmq_send('same', current_database())}, $_) foreach 'postgres', 'two';
$handle = $node->handle('same');
is($node->sql("SELECT cmq_delete('same', '$handle')", 'two'), 'f', 'a handle of the one is not good in the other');
is(consume('same', 'two'), 'two', 'each has its own messages');
is($node->sql("SELECT cmq_delete('same', '$handle')"), 't', '... and handles');
is($node->sql(q{SELECT sent || ' ' || deleted FROM cmq.metrics WHERE queue = 'same'}, $_), '1 1', "... and counters in $_") foreach 'postgres', 'two';
$node->sql('DROP DATABASE two');
is($node->sql(q{SELECT cmq_rewind('same', now() - interval '1 min') IS NOT NULL}), 't', 'one database goes, the other one stays');
is(consume('same'), 'postgres', 'with its messages');

note 'no place for workers';

# take all places by a setting that leaves one for the launcher of ours
$node->append_conf('postgresql.conf', "max_worker_processes = 1\nmax_logical_replication_workers = 0\n");
$node->restart;
is($node->sql(q{SELECT cmq_send('same', 'm1') > 0}), 't', 'sends need none while there is a leaf');
$node->remove_leaves('same');
like($node->complaint("\\set VERBOSITY verbose\nSELECT cmq_send('same', 'm2')"), qr/ERROR:  53400: could not start a worker.*HINT:/s, 'without a leaf and a place for a worker: an error that says what to do');
is($node->sql(q{SELECT count(*) FROM cmq.partition WHERE queue = 'same'}), '0', 'there is none still');
$node->sql(q{SELECT cmq_maintain()});
is($node->sql(q{SELECT count(*) > 0 FROM cmq.partition WHERE queue = 'same'}), 't', 'cmq_maintain makes one');
is($node->sql(q{SELECT cmq_send('same', 'm3') > 0}), 't', '... and sends go on');
$node->append_conf('postgresql.conf', 'max_worker_processes = 12');
$node->restart;
is($node->sql(q{SELECT cmq_send('same', 'm4') > 0}), 't', 'with a place it works again');
like(consume('same'), qr/m4$/, 'and nothing but what was in the dropped leaf is gone');
$node->sql(q{SELECT cmq_drop_queue('same')});

# Send until it fails; that is the number of messages sent and the error.
sub fill
{
	my ($queue) = @_;
	my $sent = 0;

	for (1 .. 200)
	{
		# text that does not compress, and is not large enough to be toasted away
		my $complaint = $node->complaint(qq{\\set VERBOSITY verbose
			SELECT count(*) FROM cmq_send_batch('$queue', array(SELECT (SELECT string_agg(md5(random()::text || j || i), '') FROM generate_series(1, 60) j) FROM generate_series(1, 500) i))});
		return ($sent, $complaint) if $complaint =~ /ERROR/;
		$sent += 500;
	}
	return ($sent, '');
}

# Make all ready, receive and delete all: how many?
sub consume_all
{
	my ($queue) = @_;
	$node->sql(qq{UPDATE cmq_data.q_${queue}_pending SET visible_at = enqueued_at});
	return $node->consume_all($queue);
}

note 'a full disk';

SKIP:
{
	skip 'no small disk is mounted (test/run does, as root)', 9 unless $ENV{CMQ_TEST_DISK};
	my $space = "$ENV{CMQ_TEST_DISK}/space";
	mkdir $space or die;
	my $ballast = "$ENV{CMQ_TEST_DISK}/ballast";
	append_to_file($ballast, 'x' x (8 * 1024 * 1024));
	$node->sql("CREATE TABLESPACE small LOCATION '$space'");
	$node->sql(q{
		SET default_tablespace = small;
		SELECT FROM cmq_create_queue('small', rewind_seconds => 3600);
		SELECT cmq_send('small', 'first')});
	my ($sent, $error) = fill('small');
	like($error, qr/ERROR:  53100: .*No space left on device/, 'a send fails when the disk is full');
	cmp_ok($sent, '>', 500, "after $sent messages");
	my $count = q{SELECT count(*) FROM cmq.q_small_live};
  SKIP:
	{
		# that one wants a page to say what is visible, also of who only reads
		skip 'PostgreSQL 19 reads nothing while the disk is full', 3 if $node->pg_version->major >= 19;
		is($node->sql($count), $sent + 1, 'what was sent before is there, nothing of what failed');
		is($node->sql(q{SELECT body FROM cmq_receive('small', 1)}), 'first', 'receives go on');
		$node->crash;
		is($node->sql($count), $sent + 1, 'also after a crash');
	}
	# as somebody would who is called for it
	unlink $ballast or die;
	is($node->sql(q{SELECT count(*) FROM cmq_send_batch('small', '{more,messages}')}), '2', 'with space again sends go on by themselves');
	is(consume_all('small'), $sent + 3, 'every message counted');
	is($node->sql(q{SELECT count(*) FROM cmq.q_small_history}), $sent + 3, 'all are in the history');
	$node->sql(q{SELECT cmq_drop_queue('small'); DROP TABLESPACE small});
	pass('and it can be dropped');
}

# No file may grow beyond this: to the server it is as if the disk were full,
# also for what is not in a tablespace of its own.
$node->sql(q{
	SELECT FROM cmq_create_queue('disk', rewind_seconds => 3600, max_msg_size => 1048576);
	ALTER TABLE cmq_data.q_disk ALTER COLUMN body SET STORAGE PLAIN;
	SELECT cmq_send('disk', 'first');
});
$node->stop;
my $limit = 40 * 1024 * 1024;
{
	# bash counts in units of 1024 bytes
	my $start = 'ulimit -S -f ' . ($limit / 1024) . ' && exec "$@"';
	$node->command_ok(
		[ 'bash', '-c', $start, 'bash', 'pg_ctl', '-w', '-s', '-D', $node->data_dir, '-l', $node->logfile, '-o', "--cluster-name=main", 'start' ],
		'start with a limit for files');
	$node->_update_pid(1);
}
my ($sent, $error) = fill('disk');
$sent++;
like($error, qr/ERROR:  53100|File too large|could not (extend|write)/, 'a send fails when no file can grow');
cmp_ok($sent, '>', 500, "after $sent messages");
is($node->sql(q{SELECT count(*) FROM cmq.q_disk_live}), $sent, 'what was sent before is there, nothing of what failed');
is($node->sql(q{SELECT body FROM cmq_receive('disk', 1)}), 'first', 'receives go on');
$node->stop;
$node->start;
is($node->sql(q{SELECT count(*) FROM cmq_send_batch('disk', '{more,messages}')}), '2', 'with space again sends go on');
is(consume_all('disk'), $sent + 2, 'every message counted');

$node->stop;
done_testing();
