
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

my $timeout = 1000;

sub timeouts { return join ' ', split /\n/, $cluster->sql_on_all(q{SELECT visibility_timeout FROM cmq.queues WHERE queue = 'q'}) }
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
		my $before = timeouts();
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
		is(timeouts(), $happens eq 'all' ? "$wanted $wanted" : $before, "$name: it happened on $happens");
	}
}

$cluster->is_whole('the end');
$cluster->stop;
done_testing();
