# A synchronous standby is promoted under load: what the old primary has acknowledged
# is there, clients find the new primary by themselves and go on, ids go on
# increasing.  In the second half the clock of the queue is ahead of the wall
# clock, so that ids can only come from what the standby has in its tables.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use ClientLedger;
use CmqNode;
use Test::More;

my $promotions = $ENV{CMQ_TEST_LONG} ? 6 : 2;

my $node = CmqNode->running('primary', <<'CONF', allows_streaming => 1);
cmq.maintenance_interval = 1s
autovacuum_naptime = 1
log_min_messages = warning
log_error_verbosity = verbose
log_statement = none
CONF

my $ledger = ClientLedger->new($node);
my @nodes = ($node);

# a queue whose messages leave nothing behind, and one of which one message is consumed
$ledger->sql(q{SELECT FROM cmq_create_queue('gone', msg_retention_seconds => 7200); SELECT FROM cmq_create_queue('eaten', rewind_seconds => 3600)});

sub make_standby
{
	my ($no) = @_;
	my $standby = $node->standby("standby$no", "synchronous_standby_names = ''\n");

	$node->append_conf('postgresql.conf', "synchronous_standby_names = '*'\nsynchronous_commit = remote_apply\n");
	$node->reload;
	$node->poll(q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}, "promotion $no: the standby is synchronous");
	push @nodes, $standby;
	return $standby;
}

sub clocks_are_ahead
{
	return $ledger->sql(q{SELECT bool_and(cmq._clock(queue) > clock_timestamp() + interval '1 min') FROM cmq.queues WHERE queue <> 'eaten'}) eq 't';
}

# As after a wall clock that was set back: a message lies ahead of it, as far as
# the leaves reach, and after a restart so does the clock.
sub set_clocks_ahead
{
	$ledger->sql(qq{
		SELECT cmq_send('$_', 'early');
		SELECT FROM cmq_maintain('$_');
		WITH m AS (
			INSERT INTO cmq_data.q_$_ (enqueued_at, body)
			SELECT max(upper) - interval '1 min', 'ahead' FROM cmq.partition WHERE queue = '$_'
			RETURNING enqueued_at)
		INSERT INTO cmq_data.q_${_}_pending (visible_at, enqueued_at, receive_count, rewind_count)
		SELECT enqueued_at, enqueued_at, 0, 0 FROM m})
	  foreach qw(q gone);
	$node->restart;
	return;
}

# With rewind off a message that was deleted and vacuumed away is known to nothing
# but the clock that maintenance saved.  Returns the last id.
sub send_and_forget
{
	my $id = $ledger->sql(q{SELECT cmq_send('gone', 'm')});
	$ledger->sql(q{
		SELECT FROM cmq_delete_batch('gone', array(SELECT receipt_handle FROM cmq_receive('gone', 1000)));
		SELECT FROM cmq_maintain('gone')});
	# not at once if somebody's snapshot is older
	ok(eventually(sub {
			$ledger->sql(q{
				VACUUM cmq_data.q_gone;
				SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree('cmq_data.q_gone') WHERE isleaf}) eq '0'
		}), 'nothing is left of the messages that were forgotten');
	return $id;
}

for my $no (1 .. $promotions)
{
	my $when = "promotion $no";
	my $ahead = $no > $promotions / 2;
	my $last_id;

	if ($ahead)
	{
		set_clocks_ahead();
		$last_id = send_and_forget();
		ok(clocks_are_ahead(), "$when: the clocks are ahead of the wall clock");
	}
	my $standby = make_standby($no);

	$ledger->start(6, $node, $standby);
	$ledger->wait_for(int(300 + rand 1000));
	$ledger->rewind_all;
	$ledger->sql(qq{SELECT cmq_clear_queue('eaten'); SELECT FROM cmq_send_batch('eaten', '{committed$no,open$no}'); SELECT FROM cmq_consume('eaten')});
	my $open = $node->session(on_error_stop => 0);
	is($open->query_safe(q{BEGIN; SELECT body FROM cmq_consume('eaten')}), "open$no", "$when: a consume is open");
	$node->kill_server;
	eval { $open->quit; };
	$ledger->wait_for_refused;

	$standby->promote;
	$node = $ledger->{node} = $standby;
	$ledger->wait_for_next_server(50);
	$ledger->finish($when);
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''\nsynchronous_commit = on\n");
	$node->reload;
	$ledger->check($when);
	$ledger->check_came_back($when);
	is($ledger->sql(q{SELECT string_agg(body || ' ' || state, ', ') FROM cmq.q_eaten_all WHERE body ~ '} . $no . q{$'}), "committed$no deleted, open$no ready",
		"$when: what was consumed stays, unless that was open");
	is($ledger->sql(q{SELECT body FROM cmq_consume('eaten')}), "open$no", '... then it is consumed');
	if ($ahead)
	{
		ok(clocks_are_ahead(), "$when: the clocks are still ahead");
		cmp_ok($ledger->sql(q{SELECT cmq_send('gone', 'm')}), '>', $last_id,
			"$when: the id is greater than that of a message that is gone");
	}
}

$node->stop;
$ledger->check_complaints(@nodes);
done_testing();
