# Crashes at random moments under load: kill -9 of all processes of the server, or
# an immediate stop.  No send that was acknowledged is missing, no delete undone, no
# rewind forgotten, no message in two states.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use ClientLedger;
use CmqNode;
use Test::More;

my $rounds = $ENV{CMQ_TEST_LONG} ? 20 : 3;

my $node = CmqNode->running('crash', <<'CONF');
fsync = on
cmq.maintenance_interval = 1s
autovacuum_naptime = 1
log_min_messages = warning
log_error_verbosity = verbose
log_statement = none
CONF

my $ledger = ClientLedger->new($node);

# kill -9, and the test is the first to look at what is left.
sub crash_hard
{
	my ($when, $rewind) = @_;

	# the last thing before the kill, so that there is no time to consume it
	$ledger->rewind_all if $rewind;
	$node->kill_server;
	$ledger->finish($when);
	$node->start;
	ok($ledger->rewind_is_under_way, "$when: the rewind is still under way") if $rewind;
	return;
}

# An immediate stop; clients try all the time, and go on as soon as they can.
sub crash_beside_clients
{
	my ($when, $rewind) = @_;

	$ledger->rewind_all if $rewind;
	$node->crash;
	$ledger->wait_for_next_server(20);
	$ledger->finish($when);
	return;
}

for my $round (1 .. $rounds)
{
	my $hard = $round % 2;
	my $when = "round $round, " . ($hard ? 'kill -9' : 'immediate stop');
	# two of four, but not before there is enough to come back
	my $rewind = $round % 4 >= 2;

	$ledger->start(6, $node);
	$ledger->wait_for(int(300 + rand 2000));
	$hard ? crash_hard($when, $rewind) : crash_beside_clients($when, $rewind);
	$ledger->check($when);
	$ledger->check_came_back($when) if $rewind;
}

$node->stop;
$ledger->check_complaints($node);
done_testing();
