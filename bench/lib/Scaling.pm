# What is measured on a cluster, a front with cmq_cluster and several nodes: workloads as
# those in Workloads.pm.  All servers are on this machine, and no message comes through the
# front: clients connect to what cmq_cluster.connection() says.

package Scaling;

use strict;
use warnings;

use File::Basename qw(dirname);
use IPC::Open2 qw(open2);
use List::Util qw(max min sum);
use POSIX ();
use Time::HiRes qw(sleep);

use Results;
use Server;

my $sql = dirname(__FILE__) . '/../sql';
my $front = 'port=5440 dbname=app';

sub new
{
	my ($class, %arg) = @_;
	return bless { %arg, running => 0 }, $class;
}

sub node
{
	my ($i) = @_;
	return 'port=' . (5440 + $i) . ' dbname=app';
}

# A fresh cluster of so many nodes; false, with a line that says why, if there can be none.
sub cluster
{
	my ($self, $nodes) = @_;
	my $server = $self->{server};

	foreach my $extension (qw(cmq_cluster postgres_fdw dblink))
	{
		next if $server->available($extension) ne '';
		print "skipped: the extension $extension is not installed here\n";
		return 0;
	}
	foreach my $i ($self->{running} .. $nodes)
	{
		if ($i == 0)
		{
			$server->start_one('front', 5440, "max_prepared_transactions = 0\nautovacuum = off\n");
			next;
		}
		$server->start_one("node$i", 5440 + $i, <<"CONF");
cmq.msg_id_step = 16
cmq.msg_id_offset = $i
max_prepared_transactions = 20
shared_buffers = 256MB
autovacuum = off
CONF
		# WAL files are made in advance
		$server->sql('port=' . (5440 + $i) . ' dbname=postgres',
			q{SELECT count(pg_logical_emit_message(false, 'bench', repeat('x', 1024 * 1024))) FROM generate_series(1, 256)}, 'CHECKPOINT');
	}
	$self->{running} = max($self->{running}, $nodes + 1);
	foreach my $i (0 .. $nodes)
	{
		my $postgres = 'port=' . (5440 + $i) . ' dbname=postgres';
		$server->sql($postgres, 'DROP DATABASE IF EXISTS app WITH (FORCE)', 'CREATE DATABASE app');
		$server->sql(node($i), 'CREATE EXTENSION ' . ($i ? 'cmq' : 'cmq_cluster CASCADE'));
	}
	$server->sql($front, "CALL cmq_cluster.add_node($_, '$server->{dir}', '" . (5440 + $_) . "', 'app')") foreach 1 .. $nodes;
	return 1;
}

# The nodes of a queue, so many, of those that there are: others in each round.
sub nodes_of_round
{
	my ($n, $all, $round) = @_;
	return sort { $a <=> $b } map { ($round + $_) % $all + 1 } 0 .. $n - 1;
}

# A fresh queue on some nodes, with so many messages waiting on each.
sub queue
{
	my ($self, $backlog, @nodes) = @_;
	my $server = $self->{server};
	my $vars = $self->{bench}->variables(1000, batch => 100);

	$server->sql($front, "CALL cmq_cluster.drop_queue('bench')") if $server->sql($front, 'SELECT count(*) FROM cmq_cluster.queue');
	$server->sql($front, "CALL cmq_cluster.create_queue('bench', rewind_seconds => 345600, nodes => '{" . join(',', @nodes) . "}')");
	foreach my $i (@nodes)
	{
		$server->sql(node($i), 'DROP TABLE IF EXISTS miss', 'CREATE TABLE miss (at timestamptz NOT NULL DEFAULT now())');
		$server->sql(node($i), { %$vars, n => $backlog / 100 }, "$sql/cmq_load.sql") if $backlog;
		$server->sql(node($i), 'CHECKPOINT');
	}
	return;
}

# Where clients are to connect to, so many for each of the nodes: the front says it for each
# consumer; senders ask until each node has as many as it can take.
sub connections
{
	my ($self, $what, $each, @nodes) = @_;
	my $server = $self->{server};
	my %clients;
	my $n = $each * @nodes;

	if ($what eq 'send')
	{
		my @answers = split /\n/, $server->sql($front, "SELECT cmq_cluster.connection('bench') FROM generate_series(1, 40 * $n)");
		foreach my $answer (@answers)
		{
			$clients{$answer}++ if ($clients{$answer} // 0) < $each;
		}
	}
	else
	{
		$clients{$_}++ foreach split /\n/, $server->sql($front, "SELECT cmq_cluster.connection('bench', i) FROM generate_series(0, $n - 1) i");
	}
	die 'the front knows other nodes: ' . join(', ', %clients) . "\n" if keys %clients != @nodes || grep { $_ != $each } values %clients;
	return sort keys %clients;
}

# Have all nodes' clients do something at once; each node's count of transactions, and the
# series of each if progress is asked for.
sub drive
{
	my ($self, $what, $connections, %arg) = @_;
	my $server = $self->{server};
	my @runs = map {
		$server->begin_pgbench($_, script => "$sql/cmq_$what.sql", threads => 1, vars => $self->{bench}->variables(1000), %arg)
	} @$connections;

	return [ map { $server->finish_pgbench($_) } @runs ];
}

# Nothing was lost and none was missed: all nodes are counted by the views of the front.
sub check
{
	my ($self, $what, $backlog, $runs, @nodes) = @_;
	my $server = $self->{server};
	my $count = sum map { $_->{count} } @$runs;
	my $vars = $self->{bench}->variables(1000);
	my ($pending, $consumed) = split /\t/, $server->sql($front, $vars, "$sql/cluster_check.sql");
	my $misses = sum map { $server->sql(node($_), 'SELECT count(*) FROM miss') } @nodes;
	my $start = $backlog * @nodes;
	my ($sent, $deleted) = $what eq 'send' ? ($count, 0) : (0, $count);

	die "$what: $misses receives of $count found no message though some were ready: no figure\n" if $misses;
	die "$what: messages were lost: $start at the start, $sent sent, $deleted consumed, but $pending are pending and $consumed consumed: no figure\n"
	  if $pending != $start + $sent - $deleted || $consumed != $deleted;
	return;
}

#
# l: processor time of a message on one, two and four nodes
#

# Microseconds per message: of the nodes together, of the node with the most, of the front.
sub cpu_of
{
	my ($self, $what, $round, $n, $all) = @_;
	my @nodes = nodes_of_round($n, $all, $round);
	my $each = $self->{quick} ? 400 : 4000;
	my $backlog = $what eq 'send' ? 0 : $each + 100;

	$self->queue($backlog, @nodes);
	my @connections = $self->connections($what, 4, @nodes);
	my ($runs, $of_front, @of_nodes) = $self->{server}->used_by([ 'front', map { "node$_" } @nodes ],
		sub { $self->drive($what, \@connections, clients => 4, transactions => $each / 4, rate => 500) });
	$self->check($what, $backlog, $runs, @nodes);
	return map { $_ * 1e6 / $each } sum(@of_nodes) / @nodes, max(@of_nodes), $of_front / @nodes;
}

# The same load on each node: runs on one node before and after each run on several.
sub nodes
{
	my ($self) = @_;
	my $results = $self->{results};

	$self->cluster(4) or return;
	foreach my $what (qw(send receive_delete consume))
	{
		$self->cpu_of($what, 0, 4, 4);		# does not count
		foreach my $round (1 .. ($self->{quick} ? 1 : 3))
		{
			my ($before) = $self->cpu_of($what, $round, 1, 4);

			$results->note('nodes', '1 node', 'cmq', "$what, CPU us", $round, $before);
			foreach my $n (2, 4)
			{
				my ($mean, $most, $of_front) = $self->cpu_of($what, $round, $n, 4);
				my ($after) = $self->cpu_of($what, $round + $n, 1, 4);
				my $one = ($before + $after) / 2;

				$results->note('nodes', "$n nodes", 'cmq', "$what, CPU us", $round, $mean);
				$results->note('nodes', "$n nodes", 'cmq', "$what, CPU/one", $round, $mean / $one);
				$results->note('nodes', "$n nodes", 'cmq', "$what, most/one", $round, $most / $one);
				$results->note('nodes', "$n nodes", 'cmq', "$what, CPU us of the front", $round, $of_front);
				$before = $after;
			}
		}
	}
	return;
}

#
# m: calls of cmq_cluster
#

# Statements that are timed, and what they are called.
sub calls_of
{
	return ([ 'rewind', q{CALL cmq_cluster.rewind('bench', now() - interval '1 hour')}, q{CALL cmq_cluster.cancel_rewind('bench')} ],
		[ 'status', q{SELECT count(*) FROM cmq_cluster.status} ],
		[ 'queue_attributes', q{SELECT count(*) FROM cmq_cluster.queue_attributes('bench')} ],
		[ 'count of q_bench_all', q{SELECT count(*) FROM cmq_cluster.q_bench_all} ],
		[ 'plan of that', q{EXPLAIN SELECT count(*) FROM cmq_cluster.q_bench_all} ],
		[ 'connection', q{SELECT cmq_cluster.connection('bench')} ]);
}

# A session on the front.
sub session
{
	my ($self) = @_;
	my $pid = open2(my $out, my $in, "$self->{server}{bin}/psql", '-X', '-q', '-v', 'ON_ERROR_STOP=1', $front);
	my $session = { pid => $pid, out => $out, in => $in };

	print $in "SELECT 1 \\g /dev/null\n\\o /dev/null\n\\timing on\n";
	return $session;
}

# Milliseconds of each of some statements.
sub times
{
	my ($self, $session, @statements) = @_;
	my @ms;

	$session->{in}->print(map { "$_;\n" } @statements);
	$session->{in}->print("\\echo done\n");
	$session->{in}->flush;
	while (my $line = readline $session->{out})
	{
		last if $line eq "done\n";
		push @ms, $1 if $line =~ /^Time: ([0-9.]+) ms/;
	}
	die "a statement failed\n" if @ms != @statements;
	return @ms;
}

sub end
{
	my ($self, $session) = @_;

	close $session->{in};
	close $session->{out};
	waitpid $session->{pid}, 0;
	return;
}

# A queue with history on all nodes: some is waiting, most has been consumed.
sub with_history
{
	my ($self, $n) = @_;
	my $server = $self->{server};
	my $vars = $self->{bench}->variables(1000, batch => 100);

	$self->queue(1100, 1 .. $n);
	$server->pgbench(node($_), script => "$sql/cmq_consume_batch.sql", clients => 1, transactions => 10, vars => $vars) foreach 1 .. $n;
	$server->sql(node($_), 'VACUUM ANALYZE') foreach 0 .. $n;
	my ($pending, $consumed) = split /\t/, $server->sql($front, $vars, "$sql/cluster_check.sql");
	die "$pending messages are pending and $consumed consumed, not 100 and 1000 on each of $n nodes: no figure\n"
	  if $pending != 100 * $n || $consumed != 1000 * $n;
	return;
}

sub calls
{
	my ($self) = @_;
	my $results = $self->{results};
	my $rounds = $self->{quick} ? 3 : 20;

	foreach my $n (1, 2, 4, 8)
	{
		my $variant = $n == 1 ? '1 node' : "$n nodes";
		my @names = ('front', map { "node$_" } 1 .. $n);

		$self->cluster($n) or return;
		$self->with_history($n);
		foreach my $call (calls_of())
		{
			my ($name, $statement, $undo) = @$call;
			my @once = ($statement, defined $undo ? $undo : ());
			my (@first, @ms, @used);

			foreach my $last (0 .. 4)
			{
				my $session = $self->session;
				push @first, ($self->times($session, @once))[0];
				if ($last == 4)
				{
					my @before = map { $self->{server}->cpu($_) } @names;
					@ms = $self->times($session, (@once) x $rounds);
					@used = map { ($self->{server}->cpu($names[$_]) - $before[$_]) * 1000 / $rounds } 0 .. $#names;
				}
				$self->end($session);
			}
			$results->note('calls', $variant, 'cmq', "$name, first, ms", 1, Results::median(@first));
			$results->note('calls', $variant, 'cmq', "$name, ms", 1, Results::median(map { $ms[ $_ * @once ] } 0 .. $rounds - 1));
			$results->note('calls', $variant, 'cmq', "$name, CPU ms of the front", 1, $used[0]);
			$results->note('calls', $variant, 'cmq', "$name, CPU ms of a node", 1, sum(@used[ 1 .. $n ]) / $n);
		}
		$results->note('calls', $variant, 'cmq', 'relations of a queue', 1, $self->{server}->sql($front,
			q{SELECT count(*) FROM pg_class WHERE relnamespace = 'cmq_cluster'::regnamespace AND relname ~ 'q_bench_'}));
	}
	return;
}

#
# n: nodes with a tenth of a core each
#

# Put a server under a quota of the processor, by a control group of its own; why that is
# not possible, if so.
sub limit
{
	my ($self, $name) = @_;
	my $root = '/sys/fs/cgroup';
	my $v2 = -e "$root/cgroup.controllers";
	my $group = ($v2 ? $root : "$root/cpu") . "/cmq-bench-$$-$name";
	my $last;

	return 'only root sets quotas' if $> != 0;
	if ($v2)
	{
		return 'the cpu controller is not there' if (Server::slurp("$root/cgroup.subtree_control") // '') !~ /\bcpu\b/;
	}
	elsif (!-e "$root/cpu/cpu.cfs_quota_us")
	{
		return 'no control groups with quotas are mounted';
	}
	mkdir $group or return "$group: $!";
	push @{ $self->{server}{groups} }, $group;
	foreach my $pair ($v2 ? [ 'cpu.max', '2000 20000' ] : ([ 'cpu.cfs_period_us', 20000 ], [ 'cpu.cfs_quota_us', 2000 ]))
	{
		$last = write_to("$group/$pair->[0]", $pair->[1]);
		return $last if $last;
	}
	foreach my $pid ($self->{server}->postmaster($name), $self->{server}->children($name))
	{
		$last = write_to("$group/cgroup.procs", $pid);
		return $last if $last && -e "/proc/$pid";
	}
	return;
}

sub write_to
{
	my ($file, $text) = @_;
	open my $out, '>', $file or return "$file: $!";
	print $out "$text\n";
	return close $out ? undef : "$file: $!";
}

# No server is under a quota any more.  What forks meanwhile is seen the next time.
sub free
{
	my ($self) = @_;

	foreach my $group (splice @{ $self->{server}{groups} })
	{
		my $parent = $group =~ s{/[^/]*$}{}r;
		foreach (1 .. 100)
		{
			write_to("$parent/cgroup.procs", $_) foreach split ' ', Server::slurp("$group/cgroup.procs") // '';
			last if rmdir $group;
			sleep 0.1;
		}
		die "$group is not empty\n" if -d $group;
	}
	return;
}

# Rate of all nodes, when clients and backends are warm, and the cores that a node has used.
sub rate_of
{
	my ($self, $what, $round, $n, $all) = @_;
	my @nodes = nodes_of_round($n, $all, $round);
	my ($warm, $seconds) = $self->{quick} ? (1, 2) : (4, 9);
	my $backlog = $what eq 'send' ? 0 : $self->{quick} ? 10_000 : 20_000;

	$self->free;
	$self->queue($backlog, @nodes);
	my @connections = $self->connections($what, 4, @nodes);
	foreach my $i (@nodes)
	{
		my $why = $self->limit("node$i");
		die "a quota was possible, and is not any more: $why\n" if $why;
	}
	my ($runs, @used) = $self->{server}->used_by([ map { "node$_" } @nodes ],
		sub { $self->drive($what, \@connections, clients => 4, seconds => $warm + $seconds, progress => 1) });
	$self->free;
	$self->check($what, $backlog, $runs, @nodes);
	my $rate = sum map { my @s = @{ $_->{series} }; sum(@s[ $warm .. $warm + $seconds - 2 ]) / ($seconds - 1) } @$runs;
	return ($rate, sum(@used) / @nodes / ($warm + $seconds));
}

sub quotas
{
	my ($self) = @_;
	my $results = $self->{results};

	$self->cluster(8) or return;
	my $why = $self->limit('node1');
	$self->free;
	if ($why)
	{
		print "skipped: quotas of the processor cannot be set here: $why\n";
		return;
	}
	foreach my $what (qw(send receive_delete consume))
	{
		foreach my $round (1 .. ($self->{quick} ? 1 : 2))
		{
			my ($before, $cores) = $self->rate_of($what, $round, 1, 8);

			$results->note('quotas', '1 node', 'cmq', $what, $round, $before);
			$results->note('quotas', '1 node', 'cmq', "$what, cores of a node", $round, $cores);
			foreach my $n (2, 4, 8)
			{
				my ($rate, $of_each) = $self->rate_of($what, $round, $n, 8);
				my ($after) = $self->rate_of($what, $round + $n, 1, 8);

				$results->note('quotas', "$n nodes", 'cmq', $what, $round, $rate);
				$results->note('quotas', "$n nodes", 'cmq', "$what, cores of a node", $round, $of_each);
				$results->note('quotas', "$n nodes", 'cmq', "$what/one", $round, $rate / (($before + $after) / 2));
				$before = $after;
			}
		}
	}
	return;
}

1;
