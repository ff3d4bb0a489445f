# Crashes at random moments under load: kill -9 of all processes of the server, or
# an immediate stop.  No send that was acknowledged is missing, no delete undone, no
# message in two states.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use ClientLedger;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{CMQ_TEST_LONG} ? 20 : 3;

my $node = PostgreSQL::Test::Cluster->new('crash');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cmq'
fsync = on
cmq.maintenance_interval = 1
autovacuum_naptime = 1
log_min_messages = warning
restart_after_crash = off
CONF
$node->start;

my $ledger = ClientLedger->new($node, $ENV{CMQ_TEST_SEED} || time());

# kill -9 for the postmaster and all its children, as when the machine goes down
# without the disk
sub kill_server
{
	my @pids = split /\n/, $node->safe_psql('postgres', 'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');

	$node->kill9;
	kill 'KILL', @pids;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return unless grep { kill 0, $_ } @pids;
		select undef, undef, undef, 0.1;
	}
	die 'processes of the server are still there';
}

for my $round (1 .. $rounds)
{
	my $how = $round % 2 ? 'kill -9' : 'immediate stop';

	$ledger->start(6);
	$ledger->wait_for(int(300 + rand 2000));
	$round % 2 ? kill_server() : $node->stop('immediate');
	$ledger->finish("round $round, $how");
	$node->start;
	$ledger->check("round $round, $how");
}

$node->stop;
done_testing();
