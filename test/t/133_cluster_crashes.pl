
# A call that is to happen on two nodes or on none, stopped at each step of the way; there the
# front crashes, or a node does, or the session is killed or cancelled.  resolve() finishes
# it: on all nodes, or on none; nothing stays prepared, and no decision is kept.  Beside a
# call under way resolve() does nothing, and traffic goes on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqCluster;
use CmqNode;
use Test::More;

# what the server has promised must survive its crash, even if it was told not to wait for it
my $cluster = CmqCluster->new(2);
my $front = $cluster->{front};
$front->append_conf('postgresql.conf', "synchronous_commit = off\nwal_writer_delay = 10s\nwal_level = replica\nmax_wal_senders = 2\n");
$front->restart;

# At the end of a call's transaction it waits here, if there is somebody to wait for.
$front->sql(q{
	CREATE FUNCTION wait_before_decision() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END';
	CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON cmq_cluster.decision DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION wait_before_decision();
	CALL cmq_cluster.create_queue('q', visibility_timeout => 1000, rewind_seconds => 3600)});

# Do something and keep its locks until release().
sub hold
{
	my ($server, @sql) = @_;
	return { server => $server, run => $server->start_psql(@sql, 'SELECT pg_sleep(600)') };
}

sub wait_until_held
{
	my ($held) = @_;
	$held->{server}->wait_until(q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND wait_event = 'PgSleep'});
	return $held;
}

sub release
{
	my ($held) = @_;
	$held->{server}->sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'});
	$held->{run}->finish;
	return;
}

# Have what writes wait, when it is done, for a standby that there is not; until
# synchronize($server, 0).
sub synchronize
{
	my ($server, $on) = @_;
	my $waits = $on ? 1 : 0;

	$server->sql($on ? q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'} : 'ALTER SYSTEM RESET synchronous_standby_names');
	$server->reload;
	eventually {
		my $said = $server->complaint(q{SET synchronous_commit = on; SET statement_timeout = '100ms'; DO 'BEGIN PERFORM pg_logical_emit_message(true, $$x$$, $$x$$); COMMIT; END'});
		return $waits == ($said =~ /synchronous replication/ ? 1 : 0);
	} or die 'synchronous_standby_names does not come into effect';
	return;
}

my $waits_for = q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event =};
my $call_is = q{FROM pg_stat_activity WHERE query ~ '^CALL cmq_cluster' AND backend_type = 'client backend'};

# Where a call can be stopped.  reached: it is there.
my %step = (
	# the first node has done its part, and the second waits for a lock
	command => {
		stop => sub { wait_until_held(hold($cluster->node(2), 'BEGIN', q{SELECT FROM cmq_alter_queue('q', polling_wait_seconds => 1)})) },
		reached => sub { $cluster->node(2)->wait_until(q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'cmq_cluster'}) },
		go_on => sub { release($_[0]) }
	},
	# the first node has prepared, and the second is about to
	prepare => {
		stop => sub { synchronize($cluster->node(2), 1) },
		reached => sub { $cluster->node(2)->wait_until("$waits_for 'SyncRep'"); $cluster->node(1)->wait_until('SELECT count(*) = 1 FROM pg_prepared_xacts') },
		go_on => sub { synchronize($cluster->node(2), 0) }
	},
	# both have prepared
	decide => {
		stop => sub { wait_until_held(hold($front, 'SELECT pg_advisory_lock(1)')) },
		reached => sub { $front->wait_until("$waits_for 'advisory'") },
		go_on => sub { release($_[0]) }
	},
	# the decision is on disk, and nobody can see it yet
	commit => {
		stop => sub { synchronize($front, 1) },
		reached => sub { $front->wait_until("$waits_for 'SyncRep'") },
		go_on => sub { synchronize($front, 0) }
	},
	# it is decided, and no node has committed: a lock is taken between the transactions
	finish => {
		stop => sub { wait_until_held(hold($front, 'SELECT pg_advisory_lock(1)')) },
		reached => sub {
			my ($held) = @_;
			$front->wait_until("$waits_for 'advisory'");
			my $lock = hold($front, 'BEGIN', 'LOCK TABLE cmq_cluster.node IN ACCESS EXCLUSIVE MODE');
			$front->wait_until(q{SELECT count(*) = 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'cmq_cluster.node'::regclass});
			$front->sql('SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = \'advisory\' AND mode = \'ExclusiveLock\'');
			$held->{run}->finish;
			$held->{run} = $lock->{run};
			wait_until_held($held);
			$front->wait_until(qq{SELECT wait_event_type = 'Lock' $call_is});
		},
		go_on => sub { release($_[0]) }
	});

my %event = (
	'crash of the front' => sub { $front->crash },
	'crash of a node' => sub { $cluster->node(2)->crash },
	'end of the session' => sub { $front->sql("SELECT pg_terminate_backend(pid) $call_is") },
	'cancel' => sub { $front->sql("SELECT pg_cancel_backend(pid) $call_is") });

# What comes of it on the nodes, and what the caller is told.
my $gone = qr/server closed the connection|57P01/;
my %outcome = (
	command => {
		'crash of the front' => [ 'none', $gone ], 'crash of a node' => [ 'none', qr/ERROR:  08001: node 2 was lost\n.*HINT:  Nothing was done on any node/s ],
		'end of the session' => [ 'none', $gone ], 'cancel' => [ 'none', qr/ERROR:  57014/ ]
	},
	prepare => {
		'crash of the front' => [ 'none', $gone ], 'crash of a node' => [ 'none', qr/ERROR:  08001: node 2 was lost\n.*HINT:  Nothing was done on any node/s ],
		'end of the session' => [ 'none', $gone ], 'cancel' => [ 'none', qr/ERROR:  57014/ ]
	},
	decide => {
		'crash of the front' => [ 'none', $gone ], 'crash of a node' => [ 'all', qr/^$/ ],
		'end of the session' => [ 'none', $gone ], 'cancel' => [ 'none', qr/ERROR:  57014/ ]
	},
	commit => {
		'crash of the front' => [ 'all', $gone ], 'crash of a node' => [ 'all', qr/^$/ ],
		'end of the session' => [ 'all', $gone ], 'cancel' => [ 'all', qr/WARNING:.*synchronous replication/ ]
	},
	finish => {
		'crash of the front' => [ 'all', $gone ], 'crash of a node' => [ 'all', qr/^$/ ],
		'end of the session' => [ 'all', $gone ], 'cancel' => [ 'all', qr/WARNING:  01000: the call was cancelled after it was decided/ ]
	});

# the last one, and the one that the nodes have
my $timeout = 1000;
my $is = $timeout;

sub timeouts { return join ' ', split /\n/, $cluster->sql_on_all(q{SELECT visibility_timeout FROM cmq.queues WHERE queue = 'q'}) }

# What is prepared on each node, and what is decided.
sub left { return join ' ', split /\n/, $cluster->sql_on_all('SELECT count(*) FROM pg_prepared_xacts') . "\n" . $front->sql('SELECT count(*) FROM cmq_cluster.decision') }

# Have resolve() finish what was left; the sessions of a server that crashed or was killed may
# still be at work on the nodes.
sub resolve
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(eventually(sub { $front->sql('SELECT FROM cmq_cluster.resolve()'); left() eq '0 0 0' }), "$name: resolve() finishes it") || diag(left());
	return;
}

foreach my $step (qw(command prepare decide commit finish))
{
	foreach my $event (sort keys %event)
	{
		my ($happens, $told) = @{ $outcome{$step}{$event} };
		my $name = "$event at $step";
		my $wanted = ++$timeout;

		my $held = $step{$step}{stop}->();
		my $call = $front->start_psql('\set VERBOSITY verbose', "CALL cmq_cluster.alter_queue('q', visibility_timeout => $wanted)");
		$step{$step}{reached}->($held);
		if ($step ne 'finish')
		{
			# this session writes nothing that needs a standby
			is($front->sql('SET synchronous_commit = local; SELECT count(*) FROM cmq_cluster.resolve()'), 0, "$name: resolve() beside the call has nothing to do");
		}
		$event{$event}->();
		if ($event eq 'crash of the front')
		{
			$step{$step}{go_on}->($held) if $step eq 'command' || $step eq 'prepare' || $step eq 'commit';
		}
		else
		{
			$step{$step}{go_on}->($held);
		}
		$call->finish;
		like($call->{err}, $told, "$name: what the caller is told");
		resolve($name);
		$is = $wanted if $happens eq 'all';
		is(timeouts(), "$is $is", "$name: it happened on $happens");
	}
}

# What a role has left that is no superuser: others see it, and leave it to those who may.
$cluster->add_role('manager', 'true');
$cluster->add_role('reader', 'false');
# the last one is on disk, so that no decision comes back that was done with
$front->sql(q{SET SESSION AUTHORIZATION manager; CALL cmq_cluster.create_queue('m', visibility_timeout => 1); SET synchronous_commit = on; CALL cmq_cluster.pause_queue('m'); CALL cmq_cluster.resume_queue('m')});
foreach (qw(decide finish))
{
	my $held = $step{$_}{stop}->();
	my $call = $front->start_psql('SET SESSION AUTHORIZATION manager', q{CALL cmq_cluster.alter_queue('m', visibility_timeout => 2)});
	$step{$_}{reached}->($held);
	$event{'crash of the front'}->();
	$call->finish;
	my $fate = $_ eq 'decide' ? 'rollback' : 'commit';
	my $denied = "1|node 1: permission denied to finish prepared transaction\n2|node 2: permission denied to finish prepared transaction";
	is($front->as('reader', 'SELECT node, outcome FROM cmq_cluster.resolve()'), "$denied\n", "$fate of what a manager left: a reader may not");
	is(left(), $fate eq 'commit' ? '1 1 1' : '1 1 0', '... and forgets nothing');
	is($front->as('manager', 'SELECT node, outcome FROM cmq_cluster.resolve()'), "1|$fate\n2|$fate\n", '... the manager may');
	is(left(), '0 0 0', '... and has finished it');
	is($cluster->sql_on_all(q{SELECT visibility_timeout FROM cmq.queues WHERE queue = 'm'}), $fate eq 'commit' ? "2\n2" : "1\n1", '... rightly');
}

# Two sessions resolve at once.
{
	my $wanted = ++$timeout;
	my $held = $step{finish}{stop}->();
	my $call = $front->start_psql("CALL cmq_cluster.alter_queue('q', visibility_timeout => $wanted)");
	$step{finish}{reached}->($held);
	$event{'crash of the front'}->();
	$call->finish;
	# both have looked at the nodes when they meet the lock on what they commit
	my $lock = wait_until_held(hold($front, 'BEGIN', 'LOCK TABLE cmq_cluster.decision'));
	my @runs = map { $front->start_psql('SELECT FROM cmq_cluster.resolve()') } 1 .. 2;
	$front->wait_until(q{SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'resolve'});
	release($lock);
	$_->succeeds('one of two that resolve') foreach @runs;
	is(left(), '0 0 0', '... nothing is left');
	is(timeouts(), "$wanted $wanted", '... it is committed');
}

# A node dies before it commits; the front goes on, crashes, and the next call finishes all.
{
	my $wanted = ++$timeout;
	my $held = $step{finish}{stop}->();
	my $call = $front->start_psql("CALL cmq_cluster.alter_queue('q', visibility_timeout => $wanted)");
	$step{finish}{reached}->($held);
	$cluster->node(2)->stop('immediate');
	$step{finish}{go_on}->($held);
	$call->succeeds('a call that was decided, and a dead node');
	like($call->{err}, qr/WARNING:  node 2 has not committed yet what was decided/, '... with a warning');
	is($front->sql('SELECT node, gid, outcome ~ \'cannot be reached\' FROM cmq_cluster.resolve()'), '2||t', '... resolve() says who is missing');
	is($cluster->node(1)->sql(q{SELECT visibility_timeout FROM cmq.queues WHERE queue = 'q'}), $wanted, '... the other node has committed');
	$front->crash;
	is($front->sql('SELECT nodes, what FROM cmq_cluster.decision'), '{1,2}|alter_queue', '... the decision is kept');
	like($front->complaint(q{CALL cmq_cluster.alter_queue('q', polling_wait_seconds => 2)}), qr/node 2 cannot be reached/, '... the next call is refused');
	$cluster->node(2)->start;
	$front->sql(q{CALL cmq_cluster.alter_queue('q', polling_wait_seconds => 2)});
	is($cluster->sql_on_all(q{SELECT visibility_timeout, polling_wait_seconds FROM cmq.queues WHERE queue = 'q'}), "$wanted|2\n$wanted|2", '... and when the node is back, it finishes both');
	is(left(), '0 0 0', '... nothing is left');
	$front->sql(q{CALL cmq_cluster.alter_queue('q', polling_wait_seconds => 0)});
}

# Traffic on the nodes while a rewind is prepared, and another rewind, that waits.
{
	$cluster->sql_on_all(q{SELECT cmq_send_batch('q', ARRAY['a', 'b', 'c']); SELECT FROM cmq_consume('q', 2)});
	my $held = $step{decide}{stop}->();
	my $rewind = $front->start_psql(q{CALL cmq_cluster.rewind('q', now() - interval '10 min')});
	$step{decide}{reached}->($held);
	my $other = $front->start_psql(q{CALL cmq_cluster.rewind('q', now() - interval '10 min')});
	$front->wait_until(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'transactionid' AND query ~ '^CALL'});
	is($cluster->sql_on_all(q{
		SET statement_timeout = '10s';
		SELECT count(cmq_send('q', 'd'));
		SELECT body FROM cmq_receive('q', 1);
		SELECT body FROM cmq_consume('q', 1)}), "1\nc\nd\n1\nc\nd", 'while a rewind is prepared messages are sent, received and deleted');
	release($held);
	$_->succeeds('a rewind beside traffic, and another one') foreach $rewind, $other;
	is($cluster->sql_on_all(q{SELECT string_agg(body, '' ORDER BY body) FROM cmq_consume('q', 10)}), "abd\nabd", '... brings back on each node');
}

# A node is added, and dies before it commits; meanwhile resolve() waits for the first table
# that it reads, or the second: it may not forget what it did not see the node for.
my $node = $cluster->start_node(3);
my $add = sprintf q{CALL cmq_cluster.add_node(3, '%s', '%s')}, $node->host, $node->port;
{
	$cluster->make_role(3, $_) foreach qw(manager reader);
	my $held = $step{decide}{stop}->();
	my $adding = $front->start_psql($add);
	$step{decide}{reached}->($held);
	my $lock = hold($front, 'BEGIN', 'LOCK TABLE cmq_cluster.decision');
	$front->wait_until(q{SELECT count(*) = 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'cmq_cluster.decision'::regclass});
	my $resolve = $front->start_psql('SELECT FROM cmq_cluster.resolve()');
	$front->wait_until(q{SELECT count(*) = 1 FROM pg_locks WHERE mode = 'AccessShareLock' AND relation = 'cmq_cluster.decision'::regclass AND NOT granted});
	$node->stop('immediate');
	$front->sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'});
	$held->{run}->finish;
	wait_until_held($lock);
	release($lock);
	$_->succeeds('resolve() beside add_node of a node that dies') foreach $resolve, $adding;
	$node->start;
	$front->sql('SELECT FROM cmq_cluster.resolve()');
	is(left(), '0 0 0 0', '... nothing is left');
	is($node->sql(q{SELECT string_agg(queue, ' ' ORDER BY queue) FROM cmq.queues}), 'm q', '... and it has its queues');
	$front->sql('CALL cmq_cluster.remove_node(3)');
}

# Calls that wait for add_node come to the new node, too, whatever the session's isolation
# level.
{
	$front->sql(q{CALL cmq_cluster.create_topic('t')});
	my $held = $step{decide}{stop}->();
	my $adding = $front->start_psql($add);
	$step{decide}{reached}->($held);
	my @calls = map { $front->start_psql(q{SET default_transaction_isolation = 'repeatable read'}, "CALL cmq_cluster.$_") }
	  q{alter_queue('q', visibility_timeout => 77)}, q{create_queue('new')}, q{pause_queue('m')}, q{subscribe('t', 's', 'q')}, q{grant('q', 'SELECT', 'reader')};
	$front->wait_until(sprintf q{SELECT count(*) = %d FROM pg_locks WHERE relation = 'cmq_cluster.turn'::regclass AND NOT granted}, scalar @calls);
	release($held);
	$_->succeeds('a call beside add_node') foreach $adding, @calls;
	is(left(), '0 0 0 0', '... nothing is left');
	is($cluster->sql_on_all(q{SELECT (SELECT string_agg(queue || ' ' || visibility_timeout || ' ' || (paused_since IS NOT NULL)::text, ', ' ORDER BY queue) FROM cmq.queues),
		(SELECT string_agg(subscription, '') FROM cmq.subscriptions), has_table_privilege('reader', 'cmq_node.q_q_live', 'SELECT')}),
		join("\n", ('m 2 true, new 30 false, q 77 false|s|t') x 3), '... all is on all nodes');
}

# A node that dies when it should leave, and never comes back.
{
	my $held = $step{finish}{stop}->();
	my $call = $front->start_psql('CALL cmq_cluster.remove_node(3)');
	$step{finish}{reached}->($held);
	$cluster->node(3)->stop('immediate');
	$step{finish}{go_on}->($held);
	$call->succeeds('a node is removed that dies just then');
	is($front->sql('SELECT count(*) FROM cmq_cluster.node'), 3, '... it owes a commit, and stays');
	$front->sql('CALL cmq_cluster.remove_node(3, lost => true)');
	is($front->sql('SELECT node, error FROM cmq_cluster.nodes ORDER BY 1'), "1|\n2|", '... it is removed as lost');
	is($front->sql('SELECT count(*) FROM cmq_cluster.decision'), 0, '... and owes nothing');
	delete $cluster->{nodes}{3};
}

$cluster->is_whole('the end');
$cluster->stop;
done_testing();
