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

my $plain = CmqNode->running('plain', "track_functions = all\nmax_prepared_transactions = 50");
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
SELECT 27, relname FROM pg_class WHERE relnamespace = 'cmq_data'::regnamespace AND relname ~ '^q_';
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

#
# What the page says
#

# Keys that lead to the workers.
my ($key1, $key2);

# on_all_workers(), of a query without quotes.
sub everywhere
{
	my ($query) = @_;
	return qq{on_all_workers(\$q\$ $query \$q\$)};
}

# Bodies that wait on each worker, - if there are none.
sub waiting_on
{
	return join ' ', map { $_->sql(q{SELECT coalesce(string_agg(body, ',' ORDER BY msg_id), '-') FROM cmq.q_test_live}) } @_;
}

# Consume what there is; the bodies.
sub empty
{
	return join ' ', split /\n/, $coordinator->sql(join ';', map { "SELECT body FROM worker_consume('$_', 'test', 99)" } $key1, $key2);
}

sub prepared_since
{
	my ($node, $offset) = @_;
	return scalar(() = $node->log_since($offset) =~ /PREPARE TRANSACTION 'citus_/g);
}

($key1, $key2) = map { $coordinator->sql('SELECT key FROM workers() WHERE worker = ' . "'127.0.0.1:" . $_->port . "'") } @workers;
my ($node1, $node2) = map { $_->sql('SELECT groupid FROM pg_dist_local_group') } @workers;
my $rewinds = q{SELECT count(*) FROM cmq.rewinds WHERE queue = 'test'};

# a shop on each worker
my ($shop1, $shop2) = map {
	$coordinator->sql(q{SELECT min(s) FROM generate_series(1, 100) i, LATERAL (SELECT 'shop ' || i) v (s)
		JOIN pg_dist_placement ON shardid = get_shard_id_for_distribution_column('shop_order', s) WHERE groupid = } . $_)
} $node1, $node2;

note 'two-phase commit';

$coordinator->sql('SELECT FROM ' . everywhere(q{SELECT cmq_create_queue('test', rewind_seconds => 3600)}));
my ($offset1, $offset2) = map { $_->log_size } @workers;
$coordinator->sql("BEGIN; SELECT shop_send('$shop1', 'test', 'a'); COMMIT");
is(prepared_since($first, $offset1), 0, 'one worker: no two-phase commit');
$coordinator->sql("BEGIN; SELECT shop_send('$shop1', 'test', 'b'); SELECT shop_send('$shop2', 'test', 'b'); COMMIT");
is(prepared_since($first, $offset1) . prepared_since($second, $offset2), '11', 'two workers: two-phase commit');
$coordinator->sql("BEGIN; SELECT shop_send('$shop1', 'test', 'x'); SELECT shop_send('$shop2', 'test', 'x'); ROLLBACK");
is(waiting_on(@workers), 'a,b b', 'sent where the shop is, and nothing of what was rolled back');
$coordinator->sql("BEGIN; SAVEPOINT s; SELECT shop_send('$shop1', 'test', 'x'); ROLLBACK TO s; SELECT shop_send('$shop2', 'test', 'c'); COMMIT");
is(waiting_on(@workers), 'a,b b,c', 'a savepoint');
is($coordinator->sql("PREPARE s (text, text) AS SELECT shop_send(\$1, 'test', \$2); BEGIN; EXECUTE s('$shop1', 'd'); COMMIT") =~ /^\d+$/ && waiting_on(@workers), 'a,b,d b,c', 'with parameters');

note 'a rewind on all workers';

$coordinator->sql("SELECT FROM worker_consume('$key1', 'test', 9)");
is(waiting_on(@workers), '- b,c', 'consumed on one worker');
my $since = $coordinator->sql('SELECT now()');
my $rewind = "SELECT FROM on_all_workers(format('SELECT cmq_rewind(%L, %L)', 'test', '$since'::timestamptz))";
like($coordinator->complaint($rewind), qr/start_time is after the earliest unconsumed message of queue "test"/, 'the second refuses');
is(join(' ', map { $_->sql($rewinds) } @workers), '0 0', '... so none does it');
$coordinator->sql("SELECT FROM worker_consume('$key2', 'test', 9)");
$rewind =~ s/\Q'$since'::timestamptz\E/now() - interval '10 min'/;
$coordinator->sql("BEGIN; $rewind; ROLLBACK");
is(join(' ', map { $_->sql($rewinds) } @workers), '0 0', 'rolled back');
$coordinator->sql($rewind);
is(join(' ', map { $_->sql($rewinds) } @workers), '1 1', 'committed');
is(empty(), 'a b d b c', '... and all comes back');

note 'traps';

my $nowhere = qr/ERROR:  42704: queue "test" does not exist/;
my @session = ("\\set VERBOSITY verbose\nBEGIN; ", '; COMMIT');
like($coordinator->complaint("$session[0]SELECT shop_send('$shop1', 'test', 'x') > 0$session[1]"), $nowhere, 'a call in an expression runs on the coordinator');
$coordinator->sql(q{CREATE FUNCTION inlined(shop text, queue text, body text) RETURNS bigint LANGUAGE sql AS 'SELECT cmq_send(queue, body)';
	SELECT create_distributed_function('inlined(text, text, text)', 'shop', colocate_with => 'shop_order', force_delegation => true)});
like($coordinator->complaint("$session[0]SELECT inlined('$shop1', 'test', 'x')$session[1]"), $nowhere, 'so does a function in SQL, put in line');
like($coordinator->complaint("DO \$\$ BEGIN PERFORM shop_send('$shop1', 'test', 'x'); END \$\$"), qr/queue "test" does not exist/, 'so does one in PL/pgSQL without FROM');
like($coordinator->complaint("BEGIN; SELECT on_worker('$key1', $node1, 'SELECT 1') IS NULL"),
	qr/this call should have run on node $node1/, 'on_worker() notices');
is(waiting_on(@workers), '- -', 'nothing was sent');

# a query over a distributed table is a read for Citus
$coordinator->sql("INSERT INTO worker_key VALUES ('$key1'), ('$key2')");
($offset1, $offset2) = map { $_->log_size } @workers;
$coordinator->sql("SELECT cmq_send('test', key) FROM worker_key");
is(waiting_on(@workers), "$key1 $key2", 'a query over a distributed table calls functions on all workers');
is(prepared_since($first, $offset1) . prepared_since($second, $offset2), '00', '... without two-phase commit');

# on a worker cmq is local, and Citus knows only of its own writes
$coordinator->sql("INSERT INTO shop_order VALUES ('$shop1', 90, 'x'), ('$shop2', 90, 'x')");
my @work = ("BEGIN; SELECT FROM cmq_consume('test')", map { "UPDATE shop_order SET state = 'done' WHERE id = 90 AND shop = '$_'" } $shop1, $shop2);
$offset2 = $second->log_size;
$first->sql("SELECT FROM cmq_send('test', 'y'); $work[0]; $work[2]; COMMIT");
is(prepared_since($second, $offset2), 0, 'on a worker: work on another one alone has no two-phase commit');
$first->sql("$work[0]; $work[1]; $work[2]; COMMIT");
is(prepared_since($second, $offset2), 1, '... with work here, too, it has');
is($coordinator->sql(q{SELECT count(*) FROM shop_order WHERE state = 'done'}), '2', '... and it is done');
is(waiting_on($first), '-', '... for two messages');
$coordinator->sql('TRUNCATE worker_key');
empty();

# a table that Citus does not know has no part in it either
$coordinator->sql('CREATE TABLE local_table (i int)');
($offset1, $offset2) = map { $_->log_size } @workers;
$coordinator->sql("BEGIN; INSERT INTO local_table VALUES (1); SELECT shop_send('$shop2', 'test', 'z'); COMMIT");
is(prepared_since($second, $offset2), 0, 'a local table of the coordinator and one worker: no two-phase commit');
is(empty(), 'z', '... but one transaction');
$coordinator->sql("SELECT citus_add_local_table_to_metadata('local_table')");
$offset2 = $second->log_size;
$coordinator->sql("BEGIN; INSERT INTO local_table VALUES (1); SELECT shop_send('$shop2', 'test', 'z'); COMMIT");
is(prepared_since($second, $offset2), 1, 'with one that Citus knows: two-phase commit');
is(empty(), 'z', '... too');
$coordinator->sql('DROP TABLE local_table');
is($coordinator->sql('SELECT DISTINCT result FROM ' . everywhere(q{SELECT cmq_pause_queue('test', 'a look')})), '{"cmq_pause_queue": true}', 'a pause on all workers');
is($coordinator->sql(q{SELECT DISTINCT result ->> 'ready', result ->> 'paused_since' IS NOT NULL FROM } . everywhere(q{SELECT * FROM cmq.status WHERE queue = 'test'})), '0|t', '... is in the status of all');
$coordinator->sql('SELECT FROM ' . everywhere(q{SELECT cmq_resume_queue('test')}));
is($coordinator->sql(q{SELECT bool_and((result ->> 'earliest_rewind_time')::timestamptz < (result ->> 'latest_rewind_time')::timestamptz) FROM }
	  . everywhere(q{SELECT earliest_rewind_time, latest_rewind_time FROM cmq_queue_attributes('test')})), 't', 'ranges of a rewind');

is($coordinator->sql('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT DISTINCT result FROM ' . everywhere(q{SELECT current_setting('transaction_isolation') AS level}) . '; COMMIT'),
	'{"level": "serializable"}', 'workers have the isolation level of the transaction');
like($coordinator->complaint("BEGIN; SELECT shop_send('$shop1', 'test', 'x'); SELECT shop_send('$shop2', 'test', 'x'); PREPARE TRANSACTION 'p'"),
	qr/cannot use 2PC in transactions involving multiple servers/, 'Citus has no PREPARE TRANSACTION for users');

note 'reports, rights, waiting';

is($_->sql(q{SELECT count(*), count(o.shop) FROM cmq.q_orders_history h LEFT JOIN shop_order o ON o.shop = h.body::jsonb ->> 'shop' AND o.id = (h.body::jsonb ->> 'id')::int}) =~ /^(\d+)\|\1$/ && $1 > 0,
	1, 'a report of history and distributed data on ' . $_->name) foreach @workers;
like($first->complaint('CREATE VIEW report AS SELECT * FROM cmq.q_orders_live'), qr/operation is not allowed on this node/, 'Citus refuses views on a worker');
$first->sql('SET citus.enable_ddl_propagation = off; CREATE VIEW report AS SELECT * FROM cmq.q_orders_live; SELECT * FROM report; DROP VIEW report');
$coordinator->sql('CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA cmq TO clerk');
is($first->sql(q{SELECT has_schema_privilege('clerk', 'cmq', 'usage')}), 'f', 'a GRANT on the schema is for one node');
like($coordinator->as('clerk', "BEGIN; SELECT shop_send('$shop1', 'test', 'x')"), qr/permission denied for queue "test"/, 'no right on the workers');
is($coordinator->sql(q{SELECT bool_and(success) FROM run_command_on_workers('GRANT INSERT ON cmq.q_test TO clerk')}), 't', 'GRANTs are for each worker');
$coordinator->as('clerk', "BEGIN; SELECT shop_send('$shop1', 'test', 'x'); SELECT shop_send('$shop2', 'test', 'x'); COMMIT");
is(waiting_on(@workers), 'x x', 'with the right');
empty();

my @receives = map { $_->wait_for_message('test') } @workers;
$coordinator->sql("BEGIN; SELECT shop_send('$shop1', 'test', 'w'); SELECT shop_send('$shop2', 'test', 'w'); COMMIT");
is(join(' ', map { $workers[$_]->waited($receives[$_]) } 0, 1), 'w at once w at once', 'a two-phase commit wakes who waits on the workers');
like($coordinator->complaint("SET statement_timeout = 500; SELECT FROM on_worker('$key1', $node1, \$\$ SELECT * FROM cmq_consume('test', polling_wait_seconds => 30) \$\$)"),
	qr/canceling statement due to statement timeout/, 'a wait through the coordinator can be cancelled');
$first->poll("SELECT count(*) = 0 $waiting", '... and ends on the worker');
$_->set('cmq.maintenance_interval', '1s') foreach @workers;
$_->maintained('test', 'maintained on ' . $_->name) foreach @workers;
$coordinator->sql('SELECT FROM ' . everywhere(q{SELECT cmq_clear_queue('test')}));

note 'shards that move, a worker that is added';

# both have a message; then all data of the shop is on the first worker
$coordinator->sql("BEGIN; INSERT INTO shop_order VALUES ('$shop2', 91, 'x'); SELECT shop_send('$shop2', 'orders', '{\"shop\": \"$shop2\", \"id\": 91}'); COMMIT");
$coordinator->sql("SELECT citus_move_shard_placement(get_shard_id_for_distribution_column('shop_order', '$shop2'), '127.0.0.1', "
	  . $second->port . ", '127.0.0.1', " . $first->port . ", 'block_writes')");
is($second->sql('SELECT count(*) FROM cmq.q_orders_live'), '1', 'a message stays where it is when its shard is moved');
$coordinator->sql("SELECT shop_send('$shop2', 'test', 'moved')");
is(waiting_on(@workers), 'moved -', 'new ones go to where the shard is');
is($coordinator->sql("SELECT pack_orders(); SELECT state FROM shop_order WHERE id = 91"), "1\npacked", 'consumers reach both');
empty();

my $third = start_node('worker3');
add_worker($coordinator, $third);
is($third->sql(q{SELECT count(*) FROM pg_extension WHERE extname = 'cmq'}), '1', 'a worker that is added has the extension');
like($coordinator->complaint('SELECT FROM ' . everywhere('SELECT 1')), qr/worker \S+ has no shard of worker_key/, '... but gets no calls without a shard');
$coordinator->sql("SELECT citus_move_shard_placement(get_shard_id_for_distribution_column('worker_key', '$key1'), '127.0.0.1', "
	  . $first->port . ", '127.0.0.1', " . $third->port . ", 'block_writes')");
is($coordinator->sql('SELECT count(*) FROM ' . everywhere('SELECT 1')), '3', '... with one it does');
$third->sql(q{SELECT FROM cmq_create_queue('orders', rewind_seconds => 86400); SELECT FROM cmq_create_queue('test', rewind_seconds => 3600)});
is($coordinator->sql('SELECT count(*) FROM ' . everywhere('SELECT FROM cmq.q_test_all WHERE false')), '0', '... and is like the others');
push @workers, $third;

note 'workers crash under senders';

# Each order has one message, and orders of a pair, which are in one transaction, are both
# there or not; what a client was told is there.
$coordinator->sql(q{
	CREATE FUNCTION place_pair(shop1 text, shop2 text, id bigint) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM FROM place_order(shop1, id, 'pair');
		PERFORM FROM place_order(shop2, id, 'pair');
	END $$;
	DELETE FROM shop_order});
$coordinator->sql('SELECT FROM ' . everywhere(q{SELECT cmq_clear_queue('orders')}));

my $clients = 4;
my @clients;
foreach my $client (1 .. $clients)
{
	my @calls = map {
		my $id = $client * 1_000_000 + $_;
		my ($shop, $other) = map { "shop $_" } 1 + int(rand 40), 41 + int(rand 40);
		$_ % 4 ? "SELECT '$shop', $id FROM place_order('$shop', $id, 'single');" : "SELECT '$shop', $id, '$other' FROM place_pair('$shop', '$other', $id);";
	} 1 .. 50_000;
	push @clients, $coordinator->beside('psql', '-XAtq', '-f', $coordinator->script("client$client", join "\n", @calls, ''));
}

# What the clients were told, whole lines.
sub told
{
	return map { $_->is_running; $_->{out} =~ /^(.*)\n/mg } @clients;
}

sub wait_for_more
{
	my ($more, $when) = @_;
	my $wanted = told() + $more;
	ok(eventually { told() >= $wanted }, "$when: clients get on") or BAIL_OUT('clients do not get on');
	return;
}

wait_for_more(300, 'at first');
foreach my $worker ($first, $second, $third)
{
	$worker->kill_server;
	wait_for_more(20, $worker->name . ' is down') if $worker == $second;
	$worker->start;
	wait_for_more(300, $worker->name . ' crashed');
}
is(scalar(grep { !$_->is_running } @clients), 0, 'no client has come to its end');
$_->kill foreach @clients;
# workers have sessions here, too
$coordinator->wait_until(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'psql' AND pid <> pg_backend_pid()});
# Citus does it by itself from time to time
$coordinator->sql('SELECT recover_prepared_transactions()');
$_->poll(q{SELECT count(*) = 0 FROM pg_prepared_xacts}, 'nothing is left prepared on ' . $_->name) foreach @workers;

my %orders = map { $_ => 1 } split /\n/, $coordinator->sql('SELECT shop, id FROM shop_order');
my @messages = split /\n/, $coordinator->sql(q{SELECT (result ->> 'body')::jsonb ->> 'shop', (result ->> 'body')::jsonb ->> 'id' FROM } . everywhere('SELECT body FROM cmq.q_orders_live'));
my @told = told();
my (%pairs, @missing);
foreach my $told (@told)
{
	my ($shop, $id, $other) = split /\|/, $told;
	$pairs{$id} = 1 if defined $other;
	push @missing, grep { !$orders{$_} } map { "$_|$id" } grep { defined } $shop, $other;
}
cmp_ok(scalar(@told), '>', 1000, @told . ' calls were acknowledged');
is(join(' ', @missing), '', 'what was acknowledged is there');
is(join("\n", sort @messages), join("\n", sort keys %orders), 'each order has one message: ' . @messages);
is($coordinator->sql(q{SELECT count(*) FROM (SELECT id FROM shop_order WHERE item = 'pair' GROUP BY id HAVING count(*) <> 2) p}), '0', 'pairs are whole');
cmp_ok(scalar(keys %pairs), '>', 100, keys(%pairs) . ' pairs');
my ($packed, $round) = (0);
do
{
	$round = $coordinator->sql('SELECT pack_orders()');
	$packed += $round;
} while ($round > 0);
is($packed, scalar(@messages), 'they are consumed');
is($coordinator->sql(q{SELECT count(*) FROM shop_order WHERE state <> 'packed'}), '0', '... and the work is done');

note 'the end';

my ($removal) = slurp_file("$top/examples/citus.sql") =~ /^-- To remove all of it:\n(.*)\z/ms;
$coordinator->sql($removal =~ s/^--//gmr);
is($coordinator->sql(q{SELECT count(*) FROM pg_dist_partition}), '0', 'the example is removed');
like($coordinator->complaint('DROP EXTENSION cmq'), qr/cannot drop extension cmq because other objects depend on it/, 'the extension cannot be dropped while a worker has a queue');
$coordinator->sql('SELECT FROM run_command_on_workers(' . q{$$ SELECT cmq_drop_queue('test') $$)});
$coordinator->sql('DROP EXTENSION cmq');
is(join(' ', map { $_->sql(q{SELECT count(*) FROM pg_extension WHERE extname = 'cmq'}) } @workers), '0 0 0', 'the extension is dropped from all');
# XX000 is how Citus says that it has lost a node, mostly in warnings, and that a worker makes no views
my $complaint = qr/PANIC|TRAP|terminated by signal|leak|still referenced|(?:ERROR|FATAL):  XX000/;
my $citus = qr/XX000: (?:server closed the connection unexpectedly|Connection refused|FATAL:  the database system is .*|could not commit transaction for shard .*)$|306_citus.pl ERROR:  XX000: operation is not allowed on this node$/;
foreach my $node ($coordinator, @workers)
{
	my @lines = grep { /$complaint/ && !/$citus/ } split /\n/, slurp_file($node->logfile);
	is(join("\n", @lines), '', $node->name . ' has nothing to complain about');
}

done_testing();
