# cmq on Citus: all functions on the coordinator and on a worker as without it, no settings
# needed; examples/citus.sql; rights, two-phase commit, traps; workers that crash under
# senders, shards that move, a worker that is added.  Needs Citus, which Debian does not
# have: see examples/citus.md.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use IPC::Run ();
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
chomp(my $sharedir = qx{$pg_config --sharedir});
plan skip_all => 'Citus is not installed' unless -e "$sharedir/extension/citus.control";

#
# Servers
#

# Citus first: it insists on that.  Its workers are reached by TCP, without certificates.
my $settings = <<'CONF';
shared_preload_libraries = 'citus, cmq'
listen_addresses = '127.0.0.1'
citus.node_conninfo = 'sslmode=disable'
citus.enable_statistics_collection = off
citus.shard_count = 8
cmq.maintenance_interval = 1s
max_prepared_transactions = 50
max_connections = 100
log_error_verbosity = verbose
track_functions = all
CONF

sub start_node
{
	my ($name) = @_;
	my $node = CmqNode->configured($name, $settings);
	$node->start;
	$node->sql('CREATE EXTENSION citus');
	return $node;
}

sub add_worker
{
	my ($coordinator, $worker) = @_;
	$coordinator->sql("SELECT citus_add_node('127.0.0.1', " . $worker->port . ')');
	return;
}

my $plain = CmqNode->running('plain', "track_functions = all\ncmq.maintenance_interval = 1s\nmax_prepared_transactions = 50");
my $coordinator = start_node('coordinator');
my @workers = map { start_node("worker$_") } 1, 2;
my ($first, $second) = @workers;

$coordinator->sql("SELECT citus_set_coordinator_host('127.0.0.1', " . $coordinator->port . ')');
add_worker($coordinator, $_) foreach @workers;
$coordinator->sql('CREATE EXTENSION cmq');
is($_->sql(q{SELECT count(*) FROM pg_extension WHERE extname = 'cmq'}), '1', 'the extension is on ' . $_->name) foreach @workers;
note 'Citus ' . $coordinator->sql(q{SELECT extversion FROM pg_extension WHERE extname = 'citus'}) . ', PostgreSQL ' . $coordinator->pg_version;

#
# All functions
#

my $all_functions = <<'SQL';
\set VERBOSITY verbose
\set SHOW_CONTEXT never
SELECT 1, cmq_create_queue('q', rewind_seconds => 3600, dedup_seconds => 60);
SELECT 1, cmq_create_queue('q');
SELECT 1, cmq_create_queue('ordered', ordered => true), cmq_create_queue('dead'), cmq_create_queue('copy', dedup_seconds => 60);
SELECT 2, cmq_alter_queue('q', visibility_timeout => 20), cmq_alter_queue('q', dedup_seconds => 0), cmq_alter_queue('q', dedup_seconds => 60);
SELECT 3, cmq_send('q', 'a') > 0, cmq_send('q', 'b', headers => '{"k": 1}', dedup_key => 'b') > 0, cmq_send('q', 'again', dedup_key => 'b') > 0;
SELECT 3, cmq_send('nope', 'a');
SELECT 3, cmq_send('q', '');
SELECT 3, count(*) FROM cmq_send_batch('ordered', '{c,d,e}', message_groups => '{g,g,h}');
SELECT 4, body, message_group, receive_count FROM cmq_receive('ordered', 1, filter => NULL);
SELECT 4, body, message_group FROM cmq_receive('ordered', 9);
SELECT 5, body, headers FROM cmq_consume('q', 9, filter => '{"k": 1}');
SELECT 6, body, cmq_delete('q', receipt_handle), cmq_delete('q', receipt_handle) FROM cmq_receive('q');
SELECT 6, cmq_delete('q', 'garbage');
SELECT 6, count(*) FROM cmq_send_batch('q', '{f,g,h,i,j}');
SELECT 7, count(*) FROM cmq_delete_batch('q', array(SELECT receipt_handle FROM cmq_receive('q', 1)));
SELECT 8, cmq_change_visibility('q', receipt_handle, 0) IS NOT NULL FROM cmq_receive('q');
SELECT 8, count(*) FROM cmq_change_visibility_batch('q', array(SELECT receipt_handle FROM cmq_receive('q', 1)), 0);
SELECT 9, count(*) FROM cmq_release('q', array(SELECT receipt_handle FROM cmq_receive('q', 1)), counted => false);
SELECT 10, body FROM cmq_receive_messages('q', array(SELECT msg_id FROM cmq.q_q_live WHERE state = 'ready' ORDER BY 1 LIMIT 1));
SELECT 10, count(*) FROM cmq_delete_messages('q', array(SELECT msg_id FROM cmq.q_q_live WHERE body = 'j'));
SELECT 11, body, state FROM cmq.q_q_all ORDER BY msg_id;
SELECT 11, body, receive_count FROM cmq_history('q') ORDER BY 1;
SELECT 12, active_msg_num, inactive_msg_num, delay_msg_num, rewind_msg_num FROM cmq_queue_attributes('q');
SELECT 12, queue, ready, in_flight, history, blocked_groups FROM cmq.status ORDER BY queue;
SELECT 12, queue, sent, deleted, pending_msg_num FROM cmq.metrics ORDER BY queue;
SELECT 13, messages, body_bytes FROM cmq_rewind_preview('q', now() - interval '10 min');
SELECT 13, cmq_rewind('q', now() + interval '10 min');
SELECT 13, cmq_rewind('q', now() - interval '10 min') IS NOT NULL;
SELECT 14, cmq_cancel_rewind('q'), cmq_cancel_rewind('q');
SELECT 15, cmq_restore('q', now() - interval '10 min', expected_count => 1);
SELECT 15, cmq_restore('q', now() - interval '10 min', filter => '{"k": 1}', expected_count => 1);
SELECT 15, count(*) FROM cmq_restore_messages('q', array(SELECT msg_id FROM cmq.q_q_history WHERE body = 'j'));
SELECT 16, cmq_replay('q', 'copy', now() - interval '10 min', dedup => true), cmq_replay('q', 'copy', now() - interval '10 min', dedup => true);
SELECT 17, cmq_pause_queue('q', 'look'), cmq_pause_queue('q');
SELECT 17, count(*) FROM cmq_consume('q');
SELECT 17, cmq_resume_queue('q'), cmq_resume_queue('q');
SELECT 18, cmq_alter_queue('q', dead_letter_queue => 'dead', max_receive_count => 1);
UPDATE cmq_data.q_q_pending SET visible_at = enqueued_at;
SELECT 18, count(*) > 0 FROM cmq_receive('q', 99, visibility_timeout => 1);
UPDATE cmq_data.q_q_pending SET visible_at = enqueued_at;
SELECT 18, cmq_maintain('q'), cmq_maintain();
SELECT 18, count(*) > 0 FROM cmq.q_dead_live;
SELECT 18, cmq_redrive('dead') > 0;
SELECT 18, cmq_unbind_dead_letter('q');
SELECT 19, cmq_create_topic('t'), cmq_create_topic('r', filter_type => 'routing');
SELECT 19, cmq_create_topic('t');
SELECT 20, cmq_subscribe('t', 's1', 'q'), cmq_subscribe('t', 's2', 'copy', filter_tags => '{a}');
SELECT 21, queue FROM cmq_publish('t', 'hello', tags => '{a}') ORDER BY 2;
SELECT 21, queue FROM cmq_publish_batch('t', '{h1,h2}', tags => '{b}') ORDER BY 2;
SELECT 22, body FROM cmq.q_copy_live ORDER BY msg_id DESC LIMIT 1;
SELECT 22, cmq.msg_id(cmq.enqueued_at(7)), kind, queue, reason FROM cmq.rewinds ORDER BY id;
CREATE ROLE joe;
GRANT USAGE ON SCHEMA cmq, cmq_data TO joe;
GRANT SELECT ON cmq.q_q TO joe;
SET ROLE joe;
SELECT 23, count(*) > 0 FROM cmq.q_q_live;
SELECT 23, cmq_send('q', 'x');
SELECT 23, cmq_create_queue('joes');
RESET ROLE;
GRANT INSERT ON cmq.q_q TO joe;
GRANT CREATE ON SCHEMA cmq, cmq_data TO joe;
SET ROLE joe;
SELECT 23, cmq_send('q', 'x') > 0, cmq_create_queue('joes', rewind_seconds => 3600), cmq_send('joes', 'x') > 0;
SELECT 23, body FROM cmq_consume('joes');
RESET ROLE;
REVOKE SELECT ON cmq.q_q FROM joe;
CREATE INDEX ON cmq_data.q_q ((headers ->> 'k'));
CREATE INDEX ON cmq_data.q_q_pending (enqueued_at);
VACUUM (FULL, ANALYZE) cmq_data.q_q_pending;
BEGIN;
SELECT 24, cmq_send('q', 'prepared') > 0;
PREPARE TRANSACTION 'p';
COMMIT PREPARED 'p';
BEGIN;
SELECT 24, cmq_create_queue('undone'), cmq_create_topic('undone'), cmq_drop_queue('q');
ROLLBACK;
SELECT 24, body FROM cmq_receive_messages('q', array(SELECT msg_id FROM cmq.q_q_live WHERE body = 'prepared'));
SELECT 25, cmq_clear_queue('copy') > 0;
SELECT 26, cmq_unsubscribe('t', 's1'), cmq_unsubscribe('t', 's2'), cmq_drop_topic('t'), cmq_drop_topic('r');
SELECT 27, cmq_drop_queue(queue) FROM cmq.queues ORDER BY queue;
SELECT 27, relname FROM pg_class WHERE relnamespace = 'cmq_data'::regnamespace AND relkind = 'p';
REVOKE ALL ON SCHEMA cmq, cmq_data FROM joe;
SQL

my $never_called = q{
	SELECT string_agg(p.proname, ' ' ORDER BY 1)
	  FROM pg_proc p
	  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	  JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'cmq'
	 WHERE p.proname ~ '^cmq_' AND NOT EXISTS (SELECT FROM pg_stat_user_functions f WHERE f.funcid = p.oid)};

# Results and complaints, without times and places in the source.
sub play
{
	my ($node) = @_;
	my ($out, $err) = $node->both($all_functions, undef, on_error_stop => 0);
	return ($out, $err =~ s/^LOCATION:.*\n?//mgr =~ s/\d{4}-[-\d:.+ ]+/TIME/gr);
}

my ($results, $complaints) = play($plain);
unlike($results . $complaints, qr/XX000|WARNING|internal/, 'without Citus: as it should be');
$plain->poll("SELECT ($never_called) IS NULL", 'every function was called');
foreach my $node ($coordinator, $first)
{
	# the role is known to all nodes once the coordinator has made it
	my ($out, $err) = play($node);
	is($out, $results, $node->name . ': results as without Citus');
	is($err =~ s/^.*role "joe" already exists\n//mr, $complaints, $node->name . ': and complaints');
	is($node->sql(q{SELECT count(*) FROM pg_dist_partition}), '0', $node->name . ': nothing is distributed');
}
is($coordinator->sql(q{
	SET citus.use_citus_managed_tables = on;
	SELECT FROM cmq_create_queue('managed', rewind_seconds => 3600); SELECT FROM cmq_send('managed', 'm');
	SELECT body FROM cmq_consume('managed'); SELECT count(*) FROM pg_dist_partition; SELECT FROM cmq_drop_queue('managed')}),
	"m\n0", 'tables of a queue are not managed by Citus');

#
# The example
#

# As users run it: exit status, output, complaints.
sub run_psql
{
	my ($node, @options) = @_;
	my ($out, $err) = ('', '');
	local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
	IPC::Run::run([ 'psql', '-X', @options ], '<', \'', '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

is_deeply([ run_psql($coordinator, '-At', '-f', "$top/examples/citus.sql") ], [ 0, <<'END', '' ], 'the example');
A queue on each worker, or on none
t

An order and its message, in one transaction
... rolled back, neither is there
... of several shops, on several workers
21|21|t

A consumer: message and work are one transaction
21
... rolled back, the messages are ready and nothing is packed
0|21
... committed
21
packed|21

The parcels were empty: rewind on all workers, or on none, and on the record
t
rewind|empty parcels
21
END

done_testing();
