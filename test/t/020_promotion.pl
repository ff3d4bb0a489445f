# A synchronous standby is promoted under load: what was acknowledged by the old
# primary is there, clients find the new one by themselves and go on, ids go on
# increasing.

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
log_error_verbosity = verbose
log_statement = none
CONF

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', $conf);
$node->start;

my $ledger = ClientLedger->new($node, $ENV{CMQ_TEST_SEED} || time());
my @nodes = ($node);

sub make_standby
{
	my ($no) = @_;
	my $standby = PostgreSQL::Test::Cluster->new("standby$no");

	$node->backup("backup$no");
	$standby->init_from_backup($node, "backup$no", has_streaming => 1);
	$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
	$standby->start;
	$node->append_conf('postgresql.conf', "synchronous_standby_names = '*'\nsynchronous_commit = remote_apply\n");
	$node->reload;
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}),
		"promotion $no: the standby is synchronous");
	push @nodes, $standby;
	return $standby;
}

for my $no (1 .. $promotions)
{
	my $when = "promotion $no";
	my $standby = make_standby($no);

	$ledger->start(6, $node, $standby);
	$ledger->wait_for(int(300 + rand 1000));
	$ledger->rewind_all;
	$ledger->kill_server;
	$ledger->wait_for_refused;

	$standby->promote;
	$node = $ledger->{node} = $standby;
	$ledger->wait_for_next_server(50);
	$ledger->finish($when);
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''\nsynchronous_commit = on\n");
	$node->reload;
	$ledger->check($when);
	$ledger->check_came_back($when);
}

$node->stop;
$ledger->check_complaints(@nodes);
done_testing();
