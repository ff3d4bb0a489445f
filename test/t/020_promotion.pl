# A synchronous standby is promoted under load: what was acknowledged by the old
# primary is there, clients go on with the new one, ids go on increasing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use ClientLedger;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $promotions = $ENV{CMQ_TEST_LONG} ? 6 : 2;

my $conf = <<'CONF';
shared_preload_libraries = 'cmq'
cmq.maintenance_interval = 1
autovacuum_naptime = 1
log_min_messages = warning
CONF

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', $conf);
$node->start;

my $ledger = ClientLedger->new($node, $ENV{CMQ_TEST_SEED} || time());

for my $no (1 .. $promotions)
{
	$node->backup("backup$no");
	my $standby = PostgreSQL::Test::Cluster->new("standby$no");
	$standby->init_from_backup($node, "backup$no", has_streaming => 1);
	$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
	$standby->start;
	$node->append_conf('postgresql.conf', "synchronous_standby_names = '*'\nsynchronous_commit = remote_apply\n");
	$node->reload;
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}),
		"promotion $no: the standby is synchronous");

	$ledger->start(6);
	$ledger->wait_for(int(300 + rand 1000));
	$node->stop('immediate');
	$ledger->finish("promotion $no");

	$standby->promote;
	$node = $ledger->{node} = $standby;
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''\nsynchronous_commit = on\n");
	$node->reload;
	$ledger->check("promotion $no");

	# the clients go on
	$ledger->start(6);
	$ledger->wait_for(300);
	$ledger->finish("after promotion $no");
	$ledger->check("after promotion $no");
}

$node->stop;
done_testing();
