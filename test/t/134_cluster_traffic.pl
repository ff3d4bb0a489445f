
# Clients of a cluster go on while a node is added, a queue is moved, a node is drained and
# removed, and a node fails over to its standby, beside rewinds and restores over all nodes.
# The clients keep a ledger: no message is lost whose send was acknowledged, and each is
# consumed once, and once more each time it is brought back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use ClusterLedger;
use CmqCluster;
use CmqNode;
use List::Util qw(sum0);
use Test::More;

my $cluster = CmqCluster->new(2, "cmq.maintenance_interval = 1s\n");
my $front = $cluster->{front};

# What a call on the front is answered: SQLSTATE and message of an error, or nothing.
sub error_of
{
	my ($call) = @_;
	my $complaint = $front->complaint("\\set VERBOSITY verbose\n$call;");
	return $complaint =~ /ERROR:  (\w{5}: .*)/ ? $1 : $complaint;
}

# The nodes that senders of a queue, or consumers, are sent to.
sub handed_out
{
	my ($queue, $consumer) = @_;
	my %node_at = map { $cluster->node($_)->port => $_ } $cluster->numbers;
	my $ports = $front->sql("SELECT DISTINCT substring(cmq_cluster.connection('$queue'" . ($consumer ? ', i' : '') . ") FROM 'port=(\\d+)') FROM generate_series(0, 199) i");
	return join ' ', sort map { $node_at{$_} // "port $_" } split /\n/, $ports;
}

sub is_empty
{
	my ($queue, @nodes) = @_;
	return !grep { $cluster->node($_)->sql("SELECT active_msg_num + inactive_msg_num + delay_msg_num FROM cmq_queue_attributes('$queue')") } @nodes;
}

#
# Node 3 has a standby.
#

my $primary = $cluster->start_node(3);
my $standby = $primary->standby('standby3', "synchronous_standby_names = ''\n");
$primary->append_conf('postgresql.conf', "synchronous_standby_names = '*'\n");
$primary->reload;
$primary->poll(q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}, 'node 3 has a synchronous standby');
$front->sql(sprintf q{CALL cmq_cluster.add_node(3, '%s,%s', '%d,%d')}, $primary->host, $standby->host, $primary->port, $standby->port);
$front->sql($_) foreach (
	q{CALL cmq_cluster.create_queue('q', visibility_timeout => 4, rewind_seconds => 3600)},
	q{CALL cmq_cluster.create_queue('m', visibility_timeout => 4, rewind_seconds => 10, nodes => '{1,2}')},
	q{CALL cmq_cluster.create_topic('news')},
	q{CALL cmq_cluster.subscribe('news', 'q', 'q')});

$cluster->start_node(4);

my $ledger = ClusterLedger->new($front);
$ledger->start_senders('q', 2);
$ledger->start_senders('m', 1);
$ledger->start_consumers($_, 4) foreach qw(q m);
$ledger->start_caller('q', 'rewind', 'restore');
$ledger->start_caller('m', 'restore');

$ledger->goes_on('at first', q => [ 1, 2, 3 ], m => [ 1, 2 ]);

#
# A node is added.  Calls that come meanwhile wait, and then are for the new node, too.
#

my $turn = $front->session;
$turn->query_safe('BEGIN; LOCK TABLE cmq_cluster.turn');
my @runs;
foreach (sprintf(q{CALL cmq_cluster.add_node(4, '%s', '%s')}, $cluster->node(4)->host, $cluster->node(4)->port),
	q{CALL cmq_cluster.create_queue('late')}, q{CALL cmq_cluster.alter_queue('q', polling_wait_seconds => 3)})
{
	push @runs, $front->start_psql($_);
	my $call = substr $_, 0, 28;
	$front->wait_until(qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND starts_with(query, \$\$$call\$\$)});
}
$turn->query_safe('COMMIT');
$turn->quit;
$_->succeeds('a call beside add_node') foreach @runs;
is($cluster->node(4)->sql(q{SELECT queue || ' ' || polling_wait_seconds FROM cmq.queues ORDER BY queue}), "late 0\nq 3", 'the new node has what was created and changed beside add_node');
is(handed_out('q'), '1 2 3 4', 'senders are sent to the new node');
is(handed_out('q', 1), '1 2 3 4', '... and consumers');
$ledger->goes_on('with a node more', q => [ 1 .. 4 ]);

#
# A queue is moved.  Who has altered it and sends, in one transaction, and move_queue do not
# wait for each other.
#

my $owner = $cluster->node(1)->session;
$owner->query_safe(q{BEGIN; SELECT cmq_alter_queue('late', visibility_timeout => 31)});
my $move = $front->start_psql(q{CALL cmq_cluster.move_queue('late', '{2,3,4}')});
$cluster->node(1)->wait_until(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'cmq_cluster' AND wait_event_type = 'Lock'});
$owner->query_safe(q{SELECT cmq_send('late', 'm'); COMMIT});
$owner->quit;
$move->finish;
like($move->{err}, qr/node 1: queue "late" is not empty/, 'a queue that a message came to meanwhile is not dropped');
is($cluster->node(1)->sql(q{SELECT body FROM cmq_consume('late')}), 'm', '... and has the message');
is(error_of(q{CALL cmq_cluster.move_queue('late', '{2,3,4}')}), '', '... and is dropped without it');

sub move_queue { return error_of(q{CALL cmq_cluster.move_queue('m', '{3,4}')}); }

is(move_queue(), '', 'a queue is moved that is not empty');
is(handed_out('m'), '3 4', 'senders are sent to the new nodes');
is(handed_out('m', 1), '1 2 3 4', '... and consumers to all, where there are messages');
my @refusals;
ok(eventually(sub {
		my $error = move_queue();
		push @refusals, $error if $error ne '';
		return handed_out('m', 1) eq '3 4';
	}), 'called again, move_queue drops the queue on the old nodes');
# a sender that had asked before was faster
is(join("\n", grep { !/^55000: node \d: queue "m" is not empty$/ } @refusals), '', '... and has refused nothing but to drop what is not empty');
is($cluster->node($_)->sql(q{SELECT count(*) FROM cmq.queues WHERE queue = 'm'}), 0, "node $_ does not have the queue any more") foreach 1, 2;
$ledger->goes_on('with a queue moved', m => [ 3, 4 ]);

#
# A node is drained and removed, and comes back.
#

like(error_of('CALL cmq_cluster.remove_node(1)'), qr/^55000: node 1: queue "q" is not empty$/, 'a node is not removed while it has messages');
like(handed_out('q'), qr/^1/, '... and nothing was done');
$front->sql('SELECT cmq_cluster.drain_node(1)');
is(handed_out('q'), '2 3 4', 'senders are not sent to a node that is drained');
is(handed_out('q', 1), '1 2 3 4', '... and consumers are');
$ledger->mark;
# whoever had asked before drain_node was called has one more session there
$ledger->wait_for('senders have asked again', sub { return !grep { ClusterLedger::since($_, 'session') < 3 } $ledger->of_role('sender', 'q') });
is(join(' ', grep { $_ == 1 } map { my (undef, @later) = ClusterLedger::since($_, 'session'); map { $_->[1] } @later } $ledger->of_role('sender', 'q')), '',
	'... and do not send to it');
$ledger->wait_for('the node empties', sub { return is_empty('q', 1) });
like(error_of('CALL cmq_cluster.remove_node(1)'), qr/^55000: node 1: queue "q" is not empty$/, 'it is not removed while it has history');

$cluster->node(1)->sql(q{SELECT cmq_alter_queue('q', rewind_seconds => 0)});
$ledger->wait_for('it is empty when nothing is brought back', sub { return is_empty('q', 1) });
is(error_of('CALL cmq_cluster.remove_node(1)'), '', 'it is removed without history');
is($cluster->node(1)->sql('SELECT count(*) FROM cmq.queues'), 0, '... and has no queue');
is(handed_out('q', 1), '2 3 4', '... and gets no clients');
$ledger->goes_on('with a node less', q => [ 2 .. 4 ]);
$front->sql(sprintf q{CALL cmq_cluster.add_node(1, '%s', '%s')}, $cluster->node(1)->host, $cluster->node(1)->port);
is($cluster->node(1)->sql('SELECT topic, queue FROM cmq.subscriptions'), 'news|q', 'a node that has been one before is added, with its topics');
$ledger->goes_on('with a node that has come back', q => [ 1 .. 4 ]);

# A session asks the server that has the number now.
is($front->sql(q{
	BEGIN;
	SELECT count(*) FROM cmq_cluster.nodes WHERE error IS NOT NULL;
	ALTER SERVER cmq_cluster_4 OPTIONS (SET port '1');
	SELECT node FROM cmq_cluster.nodes WHERE error IS NOT NULL;
	ROLLBACK}), "0\n4", 'a session that is connected to a node follows it to another address');

my @failed = grep { defined $_->{failed} } @{ $ledger->{calls} };
is(join(' ', grep { !/^q 55000$/ } map { "$_->{queue} $_->{failed}" } @failed), '', 'no call has failed, but those for a queue without rewind on one node');

#
# A node fails, and its standby takes its place.
#

# Sends are in doubt when the primary dies: it has committed them, and its standby has not
# said that it has them.
my $receiver = $standby->sql('SELECT pid FROM pg_stat_wal_receiver');
kill 'STOP', $receiver;
$primary->wait_until(q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query ~ 'cmq_send|sent'});
$ledger->mark;
my %sent_before = %{ $ledger->{sent_on}{q} };
$primary->kill_server;
kill 'CONT', $receiver;
like(error_of(q{SET cmq.reason = 'dead'; CALL cmq_cluster.rewind('q', now() - interval '5 s')}), qr/^08001: node 3 /, 'with a node down nothing is brought back');
is($front->sql('SELECT node FROM cmq_cluster.nodes WHERE error IS NOT NULL'), 3, '... and one can see which it is');
is($cluster->node($_)->sql(q{SELECT count(*) FROM cmq.rewinds WHERE reason = 'dead'}), 0, "... not on node $_ either") foreach 1, 2, 4;
$ledger->wait_for('clients lose the node', sub { return grep { grep { $_->[1] eq 'lost' } ClusterLedger::since($_, 'error') } $ledger->of_role('sender'), $ledger->of_role('consumer') });
$ledger->wait_for('calls fail', sub { return 2 == grep { grep { ($_->[3] . $_->[4]) eq 'failed08001' } ClusterLedger::since($_, 'call') } $ledger->of_role('caller') });
$ledger->wait_for('the other nodes send', sub { return !grep { !$sent_before{$_} || $ledger->{sent_on}{q}{$_} <= $sent_before{$_} } 1, 2, 4 });

$standby->promote;
$cluster->{nodes}{3} = $standby;
$ledger->goes_on('with a standby promoted', q => [ 1 .. 4 ], m => [ 3, 4 ]);
is($front->sql(q{SELECT node, error FROM cmq_cluster.nodes WHERE error IS NOT NULL}), '', 'all nodes answer again');
is($front->sql(q{SELECT count(DISTINCT node) FROM cmq_cluster.q_q_history WHERE msg_id IS NOT NULL}), 4, '... and can be read');

#
# The end.
#

$ledger->stop('sender');
$ledger->stop('caller');
$ledger->wait_for('all queues empty', sub { return is_empty('q', 1 .. 4) && is_empty('m', 3, 4) });
$ledger->stop('consumer');
ok(is_empty('q', 1 .. 4) && is_empty('m', 3, 4), '... and stay so');

cmp_ok(sum0(map { scalar keys %$_ } values %{ $ledger->{maybe_sent} }), '>', 0, 'some sends were in doubt');
foreach my $queue (qw(q m))
{
	$ledger->check($queue);
	$ledger->check_ids($queue, $CmqCluster::step);
}

# What is in the history is what was consumed, in its last life.
my %history = map { split /\|/ } split /\n/, $front->sql('SELECT msg_id, rewind_count FROM cmq_cluster.q_q_history');
my @consumed = grep { $_ % $CmqCluster::step != 1 } $ledger->ids('q');
is(scalar(grep { ($history{$_} // -1) != $ledger->lives('q', $_) } @consumed), 0, 'what was consumed is in the history, as many times as it was brought back, of ' . @consumed);
is(scalar(grep { !$ledger->{gone}{q}{$_} && !$ledger->{maybe_gone}{q}{$_} } keys %history), 0, '... and nothing else');

# Restores say how many messages they bring back, on all nodes together.
my $restored = sum0(map { $_->{done} // 0 } grep { $_->{queue} eq 'm' } @{ $ledger->{calls} });
is(sum0(map { $ledger->lives('m', $_) } $ledger->ids('m')), $restored, 'restores have brought back what they said');

# Calls that failed have done nothing on any node.
my %reasons = map { $_ => 1 } split /\n/, $front->sql('SELECT reason FROM cmq_cluster.rewinds WHERE reason IS NOT NULL');
@failed = grep { defined $_->{failed} } @{ $ledger->{calls} };
is(join(' ', map { $_->{name} } grep { $reasons{ $_->{name} } } @failed), '', 'calls that failed have brought back nothing, of ' . @failed);
is(join(' ', grep { !/^(?:q 55000|[qm] 08001)$/ } map { "$_->{queue} $_->{failed}" } @failed), '', '... and have failed because a node was down, or had no rewind');
# 42704: still connected to a node where the queue has been dropped, or already to one that
# is about to commit it
is(join(' ', grep { !/^(?:senders|consumers) of [qm]: (?:lost|57P0[123]|42704)$|^callers of [qm]: (?:08001|55000)$/ } sort keys %{ $ledger->{errors} }), '',
	'clients had no errors but those to be expected');
is(join("\n", @{ $ledger->{complaints} }), '', '... and no complaints');
note("$_: $ledger->{errors}{$_}") foreach sort keys %{ $ledger->{errors} };

$cluster->is_whole('at the end');
$cluster->stop;
done_testing();
