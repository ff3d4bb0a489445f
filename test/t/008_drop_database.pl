# DROP DATABASE, CREATE DATABASE from a template, DROP EXTENSION and many
# databases while the worker runs every second.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', q(
shared_preload_libraries = 'cmq'
cmq.maintenance_interval = 1
cmq.max_queues = 30
statement_timeout = 120s
));
$node->start;

# A queue of a database in use: the worker makes its leaf again when it comes
# by.
sub setup_database
{
	my ($db) = @_;
	$node->safe_psql(
		$db, q(
	CREATE EXTENSION cmq;
	SELECT FROM cmq_create_queue('orders', visibility_timeout => 43200, rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('orders', ARRAY['m1', 'm2', 'm3']);
	SELECT cmq_delete('orders', receipt_handle) FROM cmq_receive('orders')));
}

# Have the worker visit a database: it ends a rewind of which nothing is left.
sub wait_for_worker
{
	my ($db, $name) = @_;
	$node->safe_psql($db,
		"SELECT cmq_rewind('orders', now() - interval '1 hour');
		 SELECT cmq_delete('orders', receipt_handle) FROM cmq_receive('orders')");
	ok( $node->poll_query_until(
			$db,
			"SELECT rewinding_from IS NULL FROM cmq.queues WHERE queue = 'orders'"
		),
		$name);
}

note 'many databases';

my @databases = map { "db$_" } 1 .. 8;
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach (@databases);
setup_database($_) foreach (@databases);
wait_for_worker($_, "the worker visits $_") foreach (@databases);

note 'copies and drops';

foreach my $db (@databases)
{
	my ($rc, $stdout, $stderr) =
	  $node->psql('postgres', "CREATE DATABASE copy TEMPLATE $db");
	is("$rc$stderr", '0', "$db can be copied");
	my $last_id =
	  $node->safe_psql($db, 'SELECT max(msg_id) FROM cmq.q_orders_live');
	is( $node->safe_psql(
			'copy', qq(
			SELECT cmq_send('orders', 'm4') > $last_id;
			SELECT string_agg(body, ' ') FROM cmq_receive('orders', 10);
			SELECT cmq_rewind('orders', now() - interval '1 hour') IS NOT NULL;
			SELECT string_agg(body, ' ') FROM cmq_receive('orders', 10))),
		"t\nm2 m3 m4\nt\nm1",
		"the copy of $db works");
	is( $node->safe_psql(
			$db, "SELECT string_agg(body, ' ') FROM cmq.q_orders_live"),
		'm2 m3',
		"$db is not touched by that");
	foreach my $drop ('copy', $db)
	{
		($rc, $stdout, $stderr) =
		  $node->psql('postgres', "DROP DATABASE $drop");
		is("$rc$stderr", '0', "database $drop can be dropped");
	}
}

note 'extension dropped and created';

$node->safe_psql('postgres', 'CREATE DATABASE shop');
foreach my $i (1 .. 5)
{
	setup_database('shop');
	wait_for_worker('shop', "round $i: the worker visits");
	my $last_id =
	  $node->safe_psql('shop', 'SELECT max(msg_id) FROM cmq.q_orders_live');
	my ($rc, $stdout, $stderr) =
	  $node->psql('shop', 'DROP EXTENSION cmq CASCADE');
	is($rc, 0, "round $i: the extension can be dropped");
	is( $node->safe_psql(
			'shop', q(
			SELECT count(*) FROM pg_namespace WHERE nspname IN ('cmq', 'cmq_data');
			SELECT count(*) FROM pg_proc WHERE proname LIKE 'cmq%')),
		"0\n0",
		"round $i: nothing is left of it");
}

# a drop that is rolled back
setup_database('shop');
is( $node->safe_psql(
		'shop', q(
		SET client_min_messages = error;
		BEGIN; DROP EXTENSION cmq CASCADE; ROLLBACK;
		SELECT cmq_send('orders', 'm4') > 0;
		SELECT string_agg(body, ' ') FROM cmq_receive('orders', 10))),
	"t\nm2 m3 m4",
	'a rolled back DROP EXTENSION changes nothing');

note 'places in shared memory';

# Queues of dropped databases and extensions leave their places to others,
# at the latest when the worker comes by.
$node->safe_psql('postgres', 'CREATE DATABASE many');
foreach my $round (1 .. 3)
{
	$node->safe_psql('many', 'CREATE EXTENSION cmq');
	ok( $node->poll_query_until(
			'many',
			"SELECT count(*) = 20 FROM generate_series(1, 20) AS i, cmq_create_queue('q' || i)"
		),
		"round $round: places for twenty queues of thirty");
	is( $node->safe_psql(
			'many',
			"SELECT count(*) FROM generate_series(1, 20) AS i, cmq_send('q' || i, 'm')"
		),
		'20',
		"round $round: the queues work");
	if ($round == 1)
	{
		$node->safe_psql('many',
			'SET client_min_messages = error; DROP EXTENSION cmq CASCADE');
	}
	elsif ($round == 2)
	{
		$node->safe_psql('postgres',
			'DROP DATABASE many; CREATE DATABASE many');
	}
}
# so do queues whose creation was rolled back
$node->safe_psql('many',
	"BEGIN; SELECT cmq_create_queue('rolled_back' || i) FROM generate_series(1, 5) AS i; ROLLBACK"
) foreach (1 .. 2);
ok( $node->poll_query_until(
		'many',
		"SELECT count(*) = 5 FROM generate_series(21, 25) AS i, cmq_create_queue('q' || i)"
	),
	'rolled back queues leave their places');
my ($rc, $stdout, $stderr) = $node->psql('many',
	"\\set VERBOSITY verbose\nSELECT FROM generate_series(26, 40) AS i, cmq_create_queue('q' || i), LATERAL cmq_send('q' || i, 'm')"
);
is($rc, 3, 'more queues than places');
like($stderr, qr/cmq\.max_queues/, 'the error names the setting');
is( $node->safe_psql('many',
		"SELECT count(*) FROM cmq.queues; SELECT count(*) FROM cmq_receive('q1')"
	),
	"25\n1",
	'the queues that have a place work');

$node->safe_psql('postgres', 'DROP DATABASE many WITH (FORCE)');
is( $node->safe_psql(
		'shop',
		"SELECT cmq_rewind('orders', now() - interval '1 hour') IS NOT NULL; SELECT string_agg(body, ' ') FROM cmq_receive('orders', 10)"
	),
	"t\nm1",
	'the others are as they were');

my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/PANIC|was terminated by signal|TRAP/, 'nothing crashed');

$node->stop;

done_testing();
