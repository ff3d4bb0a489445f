# DROP DATABASE, CREATE DATABASE from a template, DROP EXTENSION and many
# databases while the worker runs every second.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->configured('main', <<'CONF');
cmq.maintenance_interval = 1s
cmq.max_queues = 30
statement_timeout = 120s
CONF
$node->start;

# A queue of a database in use: the worker makes its leaf again when it comes
# by.
sub setup_database
{
	my ($db) = @_;
	$node->sql(q(
	CREATE EXTENSION cmq;
	SELECT FROM cmq_create_queue('orders', visibility_timeout => 43200, rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('orders', ARRAY['m1', 'm2', 'm3']);
	SELECT cmq_delete('orders', receipt_handle) FROM cmq_receive('orders')), $db);
}

# Have the worker visit a database: it ends a rewind of which nothing is left.
sub wait_for_worker
{
	my ($db, $name) = @_;
	$node->sql("SELECT cmq_rewind('orders', now() - interval '1 hour');
		 SELECT cmq_delete('orders', receipt_handle) FROM cmq_receive('orders')", $db);
	$node->poll("SELECT rewinding_from IS NULL FROM cmq.queues WHERE queue = 'orders'", $name, db => $db);
}

note 'many databases';

my @databases = map { "db$_" } 1 .. 8;
$node->sql("CREATE DATABASE $_") foreach (@databases);
setup_database($_) foreach (@databases);
wait_for_worker($_, "the worker visits $_") foreach (@databases);

note 'copies and drops';

foreach my $db (@databases)
{
	is($node->answer("CREATE DATABASE copy TEMPLATE $db"), '', "$db can be copied");
	my $last_id = $node->sql('SELECT max(msg_id) FROM cmq.q_orders_live', $db);
	is($node->sql(qq(
			SELECT cmq_send('orders', 'm4') > $last_id;
			SELECT string_agg(body, ' ') FROM cmq_receive('orders', 10);
			SELECT cmq_rewind('orders', now() - interval '1 hour') IS NOT NULL;
			SELECT string_agg(body, ' ') FROM cmq_receive('orders', 10)), 'copy'),
		"t\nm2 m3 m4\nt\nm1",
		"the copy of $db works");
	is($node->sql("SELECT string_agg(body, ' ') FROM cmq.q_orders_live", $db),
		'm2 m3',
		"$db is not touched by that");
	foreach my $drop ('copy', $db)
	{
		is($node->answer("DROP DATABASE $drop"), '', "database $drop can be dropped");
	}
}

note 'extension dropped and created';

$node->sql('CREATE DATABASE shop');
foreach my $i (1 .. 5)
{
	setup_database('shop');
	wait_for_worker('shop', "round $i: the worker visits");
	my $last_id = $node->sql('SELECT max(msg_id) FROM cmq.q_orders_live', 'shop');
	unlike($node->complaint('DROP EXTENSION cmq CASCADE', 'shop'), qr/ERROR/, "round $i: the extension can be dropped");
	is($node->sql(q(
			SELECT count(*) FROM pg_namespace WHERE nspname IN ('cmq', 'cmq_data');
			SELECT count(*) FROM pg_proc WHERE proname LIKE 'cmq%'), 'shop'),
		"0\n0",
		"round $i: nothing is left of it");
}

# a drop that is rolled back
setup_database('shop');
is($node->sql(q(
		SET client_min_messages = error;
		BEGIN; DROP EXTENSION cmq CASCADE; ROLLBACK;
		SELECT cmq_send('orders', 'm4') > 0;
		SELECT string_agg(body, ' ') FROM cmq_receive('orders', 10)), 'shop'),
	"t\nm2 m3 m4",
	'a rolled back DROP EXTENSION changes nothing');

note 'places in shared memory';

# Queues of dropped databases and extensions leave their places to others,
# at the latest when the worker comes by.
$node->sql('CREATE DATABASE many');
foreach my $round (1 .. 3)
{
	$node->sql('CREATE EXTENSION cmq', 'many');
	$node->poll("SELECT count(*) = 20 FROM generate_series(1, 20) AS i, cmq_create_queue('q' || i)", "round $round: places for twenty queues of thirty", db => 'many');
	is($node->sql("SELECT count(*) FROM generate_series(1, 20) AS i, cmq_send('q' || i, 'm')", 'many'),
		'20',
		"round $round: the queues work");
	if ($round == 1)
	{
		$node->sql('SET client_min_messages = error; DROP EXTENSION cmq CASCADE', 'many');
	}
	elsif ($round == 2)
	{
		$node->sql('DROP DATABASE many; CREATE DATABASE many');
	}
}
# so do queues whose creation was rolled back
$node->sql("BEGIN; SELECT cmq_create_queue('rolled_back' || i) FROM generate_series(1, 5) AS i; ROLLBACK", 'many') foreach (1 .. 2);
$node->poll("SELECT count(*) = 5 FROM generate_series(21, 25) AS i, cmq_create_queue('q' || i)", 'rolled back queues leave their places', db => 'many');
my $complaint = $node->complaint("SELECT FROM generate_series(26, 40) AS i, cmq_create_queue('q' || i), LATERAL cmq_send('q' || i, 'm')", 'many');
like($complaint, qr/ERROR/, 'more queues than places');
like($complaint, qr/cmq\.max_queues/, 'the error names the setting');
is($node->sql("SELECT count(*) FROM cmq.queues; SELECT count(*) FROM cmq_receive('q1')", 'many'),
	"25\n1",
	'the queues that have a place work');

$node->sql('DROP DATABASE many WITH (FORCE)');
is($node->sql("SELECT cmq_rewind('orders', now() - interval '1 hour') IS NOT NULL; SELECT string_agg(body, ' ') FROM cmq_receive('orders', 10)", 'shop'),
	"t\nm1",
	'the others are as they were');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|was terminated by signal|TRAP/, 'nothing crashed');

$node->stop;

done_testing();
