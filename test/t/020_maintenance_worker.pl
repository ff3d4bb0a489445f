# Launcher and worker: maintenance in every database, leaves on demand, a
# broken queue, an idle queue, dead letters, settings, standby and promotion.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->configured('main', <<'CONF', allows_streaming => 1);
cmq.maintenance_interval = 1s
autovacuum = off
statement_timeout = 120s
CONF
$node->start;
$node->use_database('shop');

# Does a leaf for the present time exist?
sub has_leaf
{
	my ($queue) = @_;
	return "SELECT count(*) = 1 FROM cmq.partition WHERE queue = '$queue' AND now() >= lower AND now() < upper";
}

my $settings =
  'visibility_timeout => 43200, msg_retention_seconds => 86400, rewind_seconds => 43200';

$node->sql('CREATE ROLE app; CREATE ROLE clerk; CREATE DATABASE shop; CREATE DATABASE second; CREATE DATABASE without; CREATE DATABASE closed ALLOW_CONNECTIONS false', 'postgres');
$node->sql('CREATE EXTENSION cmq', $_) foreach ('shop', 'second');
$node->poll("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq launcher'", 'there is one launcher');

note 'leaves ahead, in every database, for queues in use';

$node->sql("SELECT FROM cmq_create_queue('idle', $settings);
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO app, clerk;
	SET ROLE clerk; SELECT FROM cmq_create_queue('dead', $settings);
	SET ROLE app; SELECT FROM cmq_create_queue('used', $settings)");
$node->sql("SELECT FROM cmq_create_queue('used', $settings)", 'second');

# nobody has sent to it for long
$node->sql("UPDATE cmq.queue SET create_time = now() - interval '30 days' WHERE name IN ('idle', 'dead')");
$node->restart;

foreach my $name ('second', 'shop')
{
	$node->use_database($name);
	$node->sql("SELECT cmq_send('used', 'm')");
	$node->remove_leaves('used');
	$node->poll(has_leaf('used'), "$name: the worker makes a leaf");
}
$node->remove_leaves($_) foreach ('idle', 'dead');
foreach (1 .. 2)
{
	$node->sql("SELECT cmq_send('used', 'm')");
	$node->remove_leaves('used');
	$node->poll(has_leaf('used'), "the worker makes a leaf");
}
is($node->sql("SELECT count(*) FROM cmq.partition WHERE queue IN ('idle', 'dead')"),
	'0', 'and none for queues that are not used');
is($node->sql(q(
	SELECT DISTINCT relowner::regrole FROM pg_class
	 WHERE relnamespace = 'cmq_data'::regnamespace AND relname ~ '^[mr]_used_')),
	'app',
	'leaves belong to the owner of the queue');

note 'old leaves and expired messages';

# A leaf long past, and one that reaches from then to the present leaf, each
# with a message that nobody received; and a message of half an hour ago.
$node->sql("SELECT FROM cmq_create_queue('old', $settings); SELECT cmq_send('old', 'new')");
$node->sql(q(
	BEGIN;
	LOCK TABLE cmq_data.q_old, cmq_data.q_old_rewind;
	DO $$
	DECLARE
		until timestamptz := (SELECT min(lower) FROM cmq.partition WHERE queue = 'old');
	BEGIN
		EXECUTE format('CREATE TABLE cmq_data.m_old_1 PARTITION OF cmq_data.q_old
						FOR VALUES FROM (''2020-01-01'') TO (''2020-01-02'')');
		EXECUTE format('CREATE TABLE cmq_data.r_old_1 PARTITION OF cmq_data.q_old_rewind
						FOR VALUES FROM (''2020-01-01'') TO (''2020-01-02'')');
		EXECUTE format('CREATE TABLE cmq_data.m_old_2 PARTITION OF cmq_data.q_old
						FOR VALUES FROM (''2020-01-02'') TO (%L)', until);
		EXECUTE format('CREATE TABLE cmq_data.r_old_2 PARTITION OF cmq_data.q_old_rewind
						FOR VALUES FROM (''2020-01-02'') TO (%L)', until);
		INSERT INTO cmq.partition VALUES
			('old', '2020-01-01', '2020-01-02', 'cmq_data.m_old_1', 'cmq_data.r_old_1'),
			('old', '2020-01-02', until, 'cmq_data.m_old_2', 'cmq_data.r_old_2');
		INSERT INTO cmq_data.q_old (enqueued_at, body) VALUES
			('2020-01-01 12:00', 'expired 1'), ('2020-01-02 12:00', 'expired 2'),
			(until - interval '30 min', 'half an hour');
		INSERT INTO cmq_data.q_old_pending (visible_at, enqueued_at, receive_count, rewind_count)
		SELECT enqueued_at, enqueued_at, 0, 0 FROM cmq_data.q_old WHERE body <> 'new';
		PERFORM cmq_alter_queue('old', visibility_timeout => 30);
	END $$;
	SELECT string_agg(body, ', ') FROM cmq.q_old_live;
	COMMIT));
is($node->sql('SELECT string_agg(body, \', \' ORDER BY msg_id) FROM cmq.q_old_live'),
	'half an hour, new',
	'expired messages are not to be seen');
$node->poll('SELECT count(*) = 2 FROM cmq_data.q_old_pending', 'expired messages are purged');
$node->poll("SELECT count(*) = 0 FROM pg_class WHERE relname IN ('m_old_1', 'r_old_1')", 'the old leaf is dropped');
is($node->sql("SELECT string_agg(messages::text, ' ') FROM cmq.partition WHERE queue = 'old' AND lower < '2021-01-01'"),
	'cmq_data.m_old_2',
	'the leaf of a living message is not');
is($node->sql("SELECT string_agg(body, ', ') FROM cmq_receive('old', 10)"),
	'half an hour, new',
	'the living messages are received');

note 'the rewind point';

$node->sql("SELECT FROM cmq_create_queue('rewound', $settings);
	SELECT FROM cmq_send_batch('rewound', ARRAY['d1', 'd2', 'd3']);
	SELECT count(*) FROM cmq_delete_batch('rewound', array(SELECT receipt_handle FROM cmq_receive('rewound', 10)));
	SELECT cmq_rewind('rewound', now() - interval '1 hour')");
$node->sql("SELECT cmq_delete('rewound', receipt_handle) FROM cmq_receive('rewound')");
$node->poll("SELECT rewinding_from = (SELECT enqueued_at FROM cmq_data.q_rewound WHERE body = 'd2') FROM cmq.queues WHERE queue = 'rewound'", 'the rewind point moves forward behind the consumers');
is($node->sql("SELECT string_agg(body, ' ') FROM cmq_receive('rewound', 10)"),
	'd2 d3', 'and nothing of the rewind is lost');
$node->poll("SELECT rewinding_from IS NULL FROM cmq.queues WHERE queue = 'rewound'", 'the rewind ends when nothing is left of it');
is($node->sql("SELECT cmq_rewind('rewound', now() - interval '1 hour') IS NOT NULL; SELECT string_agg(body, ' ') FROM cmq_receive('rewound', 10)"),
	"t\nd1",
	'the next rewind works');

note 'dead letters';

# Nobody receives, nobody calls cmq_maintain.  The dead-letter queue is another
# role's, and has no leaf.  Without the right to send to it nothing is moved.
# lost: received too often; late: not consumed for too long.
$node->sql("SET ROLE clerk; GRANT INSERT ON cmq.q_dead TO app;
	SET ROLE app;
	SELECT FROM cmq_create_queue('lost', $settings, dead_letter_queue => 'dead', max_receive_count => 1);
	SELECT FROM cmq_create_queue('late', $settings, dead_letter_queue => 'dead', max_time_to_live => 600);
	SET ROLE clerk; REVOKE INSERT ON cmq.q_dead FROM app");
is($node->sql("SELECT count(*) FROM cmq.partition WHERE queue = 'dead'"),
	'0', 'the dead-letter queue has no leaf');
$node->sql("SELECT FROM cmq_send_batch('lost', ARRAY['poison', 'good']);
	SELECT FROM cmq_change_visibility('lost', (SELECT receipt_handle FROM cmq_receive('lost')), 0)");
my $helpers = slurp_file("$top/test/helpers.sql");
$node->sql("$helpers
	SELECT cmq_send('late', 'old');
	BEGIN;
	LOCK TABLE cmq_data.q_late, cmq_data.q_late_rewind;
	SELECT pg_temp.age('late', '601 s');
	COMMIT;
	SELECT cmq_send('late', 'young')");
$node->logs(qr/moving dead letters of queue "lost" failed: permission denied for dead-letter queue "dead"/, 'the worker says that the right is gone');
is($node->sql('SELECT count(*) FROM cmq_data.q_dead'), '0', '... and moves nothing');
$node->sql('SET ROLE clerk; GRANT INSERT ON cmq.q_dead TO app');
$node->poll(q(SELECT string_agg(body || ' ' || (headers #>> '{cmq_dead_letter,reason}'), ', ' ORDER BY body) =
		'old max_time_to_live, poison max_receive_count' FROM cmq.q_dead_live),
	'the worker moves dead letters to the queue of another role');
is($node->sql(q(SELECT (SELECT string_agg(body, ' ') FROM cmq.q_lost_live),
			(SELECT string_agg(body, ' ') FROM cmq.q_late_live))),
	'good|young',
	'and leaves the others where they are');
is($node->sql(q(SELECT DISTINCT relowner::regrole FROM pg_class
		   WHERE relnamespace = 'cmq_data'::regnamespace AND relname ~ '^[mr]_dead_')),
	'clerk',
	'its new leaf belongs to that role');

note 'a broken queue';

$node->sql("SELECT FROM cmq_create_queue('broken', $settings);
	SELECT cmq_send('broken', 'm');
	SELECT FROM cmq_create_queue('a', $settings);
	SELECT FROM cmq_create_queue('z', $settings)");
my $offset = $node->log_size;
$node->sql('ALTER TABLE cmq_data.q_broken_rewind RENAME TO q_elsewhere');
$node->logs(qr/broken/, 'the log names the broken queue', $offset);
foreach my $queue ('a', 'z')
{
	$node->sql("SELECT cmq_send('$queue', 'm')");
	$node->remove_leaves($queue);
	$node->poll(has_leaf($queue), "queue $queue is maintained all the same");
}
my $complaint = $node->complaint('SELECT cmq_maintain()');
unlike($complaint, qr/ERROR/, 'maintenance of all queues goes through');
like($complaint, qr/WARNING:.*broken/s, 'with a warning');
like($node->complaint("SELECT cmq_maintain('broken')"), qr/ERROR/, 'maintenance of the broken queue fails');
$node->sql('ALTER TABLE cmq_data.q_elsewhere RENAME TO q_broken_rewind');
is($node->sql("SELECT string_agg(body, ' ') FROM cmq_receive('broken', 10)"),
	'm', 'mended, the queue works again');

note 'a leaf on demand';

$node->set('cmq.maintenance_interval', '1d');
foreach my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	$node->remove_leaves('idle');
	is($node->sql("BEGIN ISOLATION LEVEL $level; SELECT 1; SELECT count(*) FROM cmq_send_batch('idle', ARRAY['m1', 'm2']); COMMIT"),
		"1\n2",
		"$level: a send has the worker make a leaf");
	is($node->sql("SELECT string_agg(body, ' ') FROM cmq_receive('idle', 10)"),
		'm1 m2', "$level: the messages are received");
}

# its messages went with the leaf
$node->remove_leaves('idle');
is($node->sql("SELECT count(*) FROM cmq_receive('idle', 10)"),
	'0', 'a receive takes messages of a dropped leaf for expired');
is($node->sql("BEGIN; SELECT count(*) FROM cmq_receive('used', 1); SAVEPOINT one; SELECT cmq_send('idle', 'm') > 0; ROLLBACK TO SAVEPOINT one; SELECT cmq_send('idle', 'm3') > 0; COMMIT"),
	"0\nt\nt",
	'a send in a subtransaction, another after its rollback');
is($node->sql("SELECT string_agg(body, ' ') FROM cmq_receive('idle', 10)"),
	'm3', 'one message was sent');
$node->remove_leaves('idle');
is($node->sql("BEGIN; SELECT cmq_send('idle', 'm') > 0; ROLLBACK; SELECT count(*) FROM cmq_receive('idle', 10)"),
	"t\n0",
	'a rolled back send');
is($node->sql(has_leaf('idle')), 't', 'the leaf stays');

# many senders at once
$node->remove_leaves('idle');
$node->pgbench(
	'-n -c 8 -t 1 shop',
	0,
	[qr/number of transactions actually processed: 8\/8/],
	[qr/^(?!.*ERROR)/s],
	'eight senders at once',
	{ send => "SELECT cmq_send('idle', 'of client ' || :client_id);\n" });
is($node->sql("SELECT count(*), count(DISTINCT msg_id) FROM cmq_receive('idle', 100)"),
	'8|8', 'eight messages');

# The transaction has changed the queue itself: it must not wait for ever for
# a worker that waits for it.
$node->remove_leaves('idle');
is($node->sql("BEGIN; SELECT FROM cmq_alter_queue('idle', visibility_timeout => 43200); SELECT cmq_send('idle', 'm') > 0; COMMIT"),
	't',
	'a send after an alter in the same transaction');

note 'settings';

$node->set('cmq.maintenance_interval', '1s');
$node->sql("SELECT cmq_send('used', 'm')");
$node->remove_leaves('used');
$node->poll(has_leaf('used'), 'a shorter interval takes effect on reload');

my $log = slurp_file($node->logfile);
unlike($log, qr/"closed" is not currently accepting connections/,
	'the worker leaves closed databases alone');
unlike($log, qr/PANIC|was terminated by signal|TRAP/, 'nothing crashed');

note 'standby';

$node->sql("SELECT FROM cmq_create_queue('replicated', $settings);
	SELECT FROM cmq_send_batch('replicated', ARRAY['d1', 'd2', 'm3', 'm4']);
	SELECT count(*) FROM cmq_delete_batch('replicated', array(SELECT receipt_handle FROM cmq_receive('replicated', 2)));
	SELECT cmq_rewind('replicated', now() - interval '1 hour')");
my $handle = $node->sql("SELECT receipt_handle FROM cmq_receive('replicated')");
my $standby = $node->standby('standby');
my $last_id =
  $node->sql("SELECT max(i) FROM cmq_send_batch('replicated', ARRAY['m5', 'm6']) AS i");
$node->wait_for_catchup($standby);

my $primary = $node;
my $look =
  "SELECT string_agg(body || ':' || state, ' ' ORDER BY msg_id) FROM cmq.q_replicated_live";
my $states = 'd1:in_flight d2:ready m3:ready m4:ready m5:ready m6:ready';
is($node->sql($look), $states, 'the states on the primary');
$node = $standby;
$node->use_database('shop');
is($node->sql($look), $states, 'the standby shows the same');
is($node->sql("SELECT active_msg_num, inactive_msg_num, rewind_msg_num FROM cmq_queue_attributes('replicated')"),
	'5|1|0',
	'and counts the same');
foreach my $call (
	"cmq_send('replicated', 'm')",
	"cmq_receive('replicated')",
	"cmq_delete('replicated', '$handle')",
	"cmq_rewind('replicated', now())",
	"cmq_create_queue('q')",
	"cmq_maintain()")
{
	like($node->complaint("\\set VERBOSITY verbose\nSELECT $call"), qr/ERROR:  25006/, "read-only: $call");
}
is($node->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'cmq%'"),
	'0', 'no launcher and no worker in recovery');
my $standby_log = slurp_file($standby->logfile);
unlike($standby_log, qr/cmq (launcher|worker)/, 'nor was there any');

$primary->stop('immediate');
$standby->promote;
$node->poll("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq launcher'", 'after promotion there is a launcher');
ok($node->sql("SELECT cmq_send('replicated', 'm7')") > $last_id,
	'ids go on increasing');
is($node->sql("SELECT cmq_delete('replicated', '$handle')"),
	't', 'handle of the primary');
is($node->sql("SELECT string_agg(body, ' ') FROM cmq_receive('replicated', 10)"),
	'd2 m3 m4 m5 m6 m7',
	'the rewind goes on, then the rest');
is($node->sql("SELECT cmq_rewind('replicated', now() - interval '1 hour') IS NOT NULL; SELECT string_agg(body, ' ') FROM cmq_receive('replicated', 10)"),
	"t\nd1",
	'every message counted');
$node->remove_leaves('replicated');
$node->poll(has_leaf('replicated'), 'the worker makes leaves');

note 'binary upgrade';

$standby->stop;
command_ok(
	[
		'pg_ctl', '-w', '-s', '-D', $standby->data_dir, '-l',
		$standby->logfile, '-o', '-b', 'start'
	],
	'start as pg_upgrade does');
is($node->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'cmq%'"),
	'0', 'no launcher in binary upgrade');
command_ok([ 'pg_ctl', '-w', '-s', '-D', $standby->data_dir, 'stop' ],
	'stop');

done_testing();
