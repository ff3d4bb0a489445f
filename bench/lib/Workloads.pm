# What is measured: one function for each workload.  Each makes its own fresh
# databases, notes every figure in the results, and proves at the end of a run
# that no message was lost; if one was, it dies and there is no figure.

package Workloads;

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Spec;
use List::Util qw(max min sum);
use Time::HiRes qw(time sleep);

my $sql = dirname(__FILE__) . '/../sql';

# Systems that pgbench drives, and those that are libraries for Node.js.
our @sql_systems = qw(cmq pgmq pgq pgque);
our @node_systems = qw(pgboss graphile);
our %extensions = (cmq => 'cmq', pgmq => 'pgmq', pgq => 'pgq');

# PgQue is a file of SQL.
our $pgque = defined $ENV{CMQ_BENCH_PGQUE} ? File::Spec->rel2abs($ENV{CMQ_BENCH_PGQUE}) : undef;

# What PgQ's daemon does every second by default, and PgQue's scheduler every 100 ms.
my %tickers = (
	pgq => "SELECT pgq.ticker();\nSELECT pg_sleep(1);\n",
	pgque => "CALL pgque.ticker_loop();\nSELECT pg_sleep(0.1);\n",
);

# What one transaction of a script sends and consumes, in messages or batches.
my %effects = (
	send => [ 1, 0 ],
	receive_delete => [ 0, 1 ],
	cycle => [ 1, 1 ],
	consume => [ 0, 1 ],
	send_consume => [ 1, 1 ],
	send_batch => [ 1, 0 ],
	receive_batch => [ 0, 0 ],
	consume_batch => [ 0, 1 ],
);

# How many messages have been received and not deleted.
my %received = (
	cmq => 'SELECT count(*) FROM cmq_data.q_bench_pending WHERE receive_count = 1',
	pgmq => 'SELECT count(*) FROM pgmq.q_bench WHERE read_ct = 1',
);

sub new
{
	my ($class, %arg) = @_;
	return bless {%arg}, $class;
}

sub has
{
	my ($self, $system) = @_;
	return $self->{systems}{$system};
}

sub random_text
{
	my ($size) = @_;
	my @letters = ('A' .. 'Z', 'a' .. 'z', '0' .. '9', '+', '/');
	return join '', map { $letters[ rand @letters ] } 1 .. $size;
}

sub variables
{
	my ($self, $size, %more) = @_;
	my $body = $self->{bodies}{$size} //= random_text($size);
	return { body => $body, json => "\"$body\"", queue => 'bench', queues => 1, consumer => 'bench_1', batch => 100, %more };
}

# A fresh database with a system in it.
sub fresh
{
	my ($self, $system) = @_;
	my $server = $self->{server};

	$server->database($system, $extensions{$system});
	$server->sql($system, $pgque) if $system eq 'pgque';
	return;
}

# Have a queue's ticks made while code runs, by what makes them in production.
sub with_ticker
{
	my ($self, $system, $code) = @_;
	my $server = $self->{server};

	return $code->() unless $tickers{$system};
	my $file = "$server->{dir}/ticker.sql";
	open my $out, '>', $file or die "$file: $!\n";
	print $out $tickers{$system} x 3600;
	close $out;
	chmod 0644, $file;
	local $ENV{PGAPPNAME} = 'ticker';
	my $run = $server->begin("$server->{bin}/psql", '-X', '-q', '-o', '/dev/null', '-f', $file, $system);
	delete $ENV{PGAPPNAME};
	my $there = q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ticker'};
	sleep 0.05 until $server->sql('postgres', $there);
	my @result = $code->();
	$server->sql('postgres', $there =~ s/\*/pg_terminate_backend(pid)/r);
	sleep 0.05 while $server->sql('postgres', $there);
	eval { $server->finish($run) };		# its connection is gone
	return wantarray ? @result : $result[0];
}

# One run of a pgbench script from a fresh start, then the proof that nothing
# was lost.  Returns rate and series; microseconds of processor time and bytes of WAL
# of the server per message; of ordered groups the share of calls that found none.
sub run_fresh
{
	my ($self, $system, $what, %arg) = @_;
	my $server = $self->{server};
	my $batch = $what =~ /_batch/ ? $arg{batch} : 1;
	my ($sends, $deletes) = map { $_ * $batch } @{ $effects{$what} };
	# a consume alone may take more than 20,000 a second
	my $backlog = $arg{backlog} // ($what eq 'consume' ? 120_000 : $deletes > $sends ? 100_000 : $deletes ? 1000 : 0);
	my $groups = $arg{groups};
	my $vars = $self->variables($arg{size} // 1000, batch => $batch, queues => $arg{queues} // 1, groups => $groups // 0);
	my $stem = $groups ? "$sql/${system}_groups" : "$sql/$system";
	my $script = $arg{script} // (-e "${stem}_$what.sql" ? "${stem}_$what.sql" : "$sql/${system}_$what.sql");

	$server->sql($system, { %$vars, backlog => $backlog }, "${stem}_setup.sql");
	$server->sql($system, 'CHECKPOINT');
	my $run = sub {
		$server->measured(sub { $server->pgbench($system,
			script => $script,
			clients => $arg{clients},
			seconds => $arg{seconds},
			transactions => $arg{transactions},
			progress => $arg{progress},
			vars => $vars) });
	};
	my ($result, $cpu, $wal) = $sends ? $self->with_ticker($system, $run) : $run->();
	my ($pending, $consumed, $misses, $disorder) =
	  split /\t/, (split /\n/, $server->sql($system, $vars, "${stem}_check.sql"))[-1];
	my $count = $result->{count};
	# a receiver of groups may find none while others have those that it looks at
	my $done = $groups && $deletes ? $count - $misses : $count;
	my $more = $what eq 'receive_batch' ? 0 : $count * $sends - $done * $deletes;
	# what pgmq pops is gone
	my $kept = $system eq 'pgmq' && $what =~ /consume$/ ? 0 : $done * $deletes;

	die "$system $what: $misses receives of $count found no message though some were ready: no figure\n"
	  if $misses && !$groups;
	# the time of a consume is when the call began, and it may have waited for the processor while
	# the message before was consumed: a few can look like that
	die "$system $what: $disorder messages were not in the order of their group: no figure\n"
	  if ($disorder // 0) > ($what eq 'consume' ? $done / 200 : 0);
	die "$system $what: messages were lost: $backlog at the start, "
	  . $count * $sends . ' sent, ' . $done * $deletes
	  . " consumed, but $pending are pending and $consumed consumed: no figure\n"
	  if $pending != $backlog + $more || ($system ne 'plain' && $consumed != $kept);
	if ($what eq 'receive_batch')
	{
		my $received = $server->sql($system, $received{$system});
		die "$system $what: $received messages were received, not $count times $batch: no figure\n"
		  if $received != $count * $batch;
	}
	$self->{peak}{$what} = max($self->{peak}{$what} // 0, $result->{tps}) unless $groups;
	my $messages = $done * $batch || 1;
	return { rate => $result->{tps} * $batch * $done / $count, series => $result->{series}, cpu => $cpu / $messages,
		wal => $wal / $messages, $groups && $deletes ? (empty => $misses / $count) : () };
}

# Note what a run has used beside its rate.
sub note_use
{
	my ($self, $workload, $variant, $system, $figure, $round, $run) = @_;
	my %name = (cpu => 'CPU us', client_cpu => 'CPU us of the client', wal => 'WAL', empty => 'empty');

	foreach my $key (grep { defined $run->{$_} } sort keys %name)
	{
		$self->{results}->note($workload, $variant, $system, "$figure, $name{$key}", $round, $run->{$key});
	}
	return;
}

# Run things in turn with a baseline before and after each two; the ratio of a run
# is to the mean of these.
sub paired
{
	my ($self, $workload, $variant, $round, $baseline, @runs) = @_;
	my $before = $baseline->();
	my @all = ($before);

	while (my @two = splice @runs, 0, 2)
	{
		my @results = map { $_->[2]->() } @two;
		my $after = $baseline->();

		push @all, $after;
		foreach my $run (@two)
		{
			my ($system, $figure, undef, $of) = @$run;
			my $result = shift @results;

			$self->{results}->note($workload, $of // $variant, $system, $figure, $round, $result->{rate});
			$self->{results}->note($workload, $of // $variant, $system, "$figure/limit", $round,
				$result->{rate} / (($before->{rate} + $after->{rate}) / 2));
			$self->note_use($workload, $of // $variant, $system, $figure, $round, $result);
		}
		$before = $after;
	}
	$self->{results}->note($workload, $variant, 'plain', 'insert', $round, sum(map { $_->{rate} } @all) / @all);
	$self->note_use($workload, $variant, 'plain', 'insert', $round,
		{ map { my $key = $_; $key => sum(map { $_->{$key} } @all) / @all } qw(cpu wal) });
	return;
}

sub databases
{
	my ($self) = @_;
	$self->{server}->database('plain');
	$self->fresh($_) foreach grep { $self->has($_) } @sql_systems;
	return;
}

# A run of a library for Node.js in a fresh database.
sub drive
{
	my ($self, $system, $what, %options) = @_;
	$self->{server}->database($system);
	$self->{server}->sql($system, 'CHECKPOINT');
	return $self->{node}->drive($system, $system, $what, body => $self->variables(1000)->{body}, %options);
}

#
# a: single messages
#

sub single
{
	my ($self) = @_;
	my $quick = $self->{quick};
	my $plain = sub {
		my (%arg) = @_;
		return sub { $self->run_fresh('plain', 'send', %arg) };
	};

	$self->databases;
	foreach my $case ([ 8, 1000 ], [ 1, 1000 ], [ 32, 1000 ], [ 8, 200 ])
	{
		my ($clients, $size) = @$case;
		my $main = $clients == 8 && $size == 1000;
		my %arg = (clients => $clients, size => $size, seconds => $quick ? 1 : $main ? 4 : 2);

		foreach my $round (1 .. ($quick || !$main ? 1 : 3))
		{
			my @runs;
			foreach my $system (grep { $self->has($_) } 'cmq', 'pgmq')
			{
				push @runs, map {
					my $what = $_;
					[ $system, $what, sub { $self->run_fresh($system, $what, %arg) } ]
				} qw(send receive_delete cycle consume send_consume);
			}
			push @runs, map {
				my $system = $_;
				[ $system, 'send', sub { $self->run_fresh($system, 'send', %arg) } ]
			} grep { $main && $self->has($_) } 'pgq', 'pgque';
			$self->paired('single', "$clients clients, $size bytes", $round, $plain->(%arg), @runs);
		}
	}
	foreach my $round (1 .. ($quick ? 1 : 3))
	{
		my @runs;
		foreach my $system (grep { $self->has($_) } @node_systems)
		{
			foreach my $what (qw(send receive_delete))
			{
				push @runs, [ $system, $what, sub {
					$self->drive($system, $what eq 'send' ? 'send' : 'consume',
						clients => 8, seconds => $quick ? 1 : 4, backlog => $quick ? 2000 : 10_000);
				} ];
			}
		}
		$self->paired('single', '8 clients, 1000 bytes', $round, $plain->(clients => 8, size => 1000, seconds => $quick ? 1 : 3), @runs) if @runs;
	}
	return;
}

#
# b: batches
#

sub batches
{
	my ($self) = @_;
	my $quick = $self->{quick};
	my $seconds = $quick ? 1 : 3;
	my $server = $self->{server};
	my $vars = $self->variables(1000);

	$self->databases;
	foreach my $batch (10, 100)
	{
		open my $file, '>', "$server->{dir}/copy" or die "copy: $!\n";
		print $file "$vars->{body}\n" x $batch;
		close $file;
		chmod 0644, "$server->{dir}/copy";
		# COPY takes no parameters
		open $file, '>', "$server->{dir}/copy.sql" or die "copy.sql: $!\n";
		print $file "COPY plain (body) FROM '$server->{dir}/copy';\n";
		close $file;
		foreach my $round (1 .. ($self->{quick} ? 1 : 2))
		{
			my @runs;
			my $copy = sub {
				$self->run_fresh('plain', 'send_batch', clients => 8, seconds => $seconds, batch => $batch,
					script => "$server->{dir}/copy.sql");
			};
			foreach my $system (grep { $self->has($_) } @sql_systems)
			{
				push @runs, [ $system, 'send_batch', sub {
					$self->run_fresh($system, 'send_batch', clients => 8, seconds => $seconds, batch => $batch);
				} ];
			}
			foreach my $system (grep { $self->has($_) } @node_systems)
			{
				push @runs, [ $system, 'send_batch', sub {
					$self->drive($system, 'send_batch', clients => 8, seconds => $seconds, batch => $batch);
				} ];
			}
			$self->paired('batches', "$batch messages, 8 clients", $round, $copy, @runs);

			# One client takes a batch, and one takes and acknowledges it; as many
			# transactions as the backlog has batches, so all systems do the same.
			foreach my $system (grep { $self->has($_) } @sql_systems)
			{
				foreach my $what (qw(receive_batch consume_batch))
				{
					my $backlog = $quick ? 5000 : { cmq => 100_000, pgmq => 10_000 }->{$system} // 20_000;
					next if $system =~ /^pgq/ && $what eq 'receive_batch';
					my $run = $self->run_fresh($system, $what, clients => 1, batch => $batch,
						backlog => $backlog, transactions => int(0.9 * $backlog / $batch));
					$self->{results}->note('batches', "$batch messages, 1 client", $system, $what, $round, $run->{rate});
					$self->note_use('batches', "$batch messages, 1 client", $system, $what, $round, $run);
				}
			}
			foreach my $system (grep { $self->has($_) } @node_systems)
			{
				my $run = $self->drive($system, 'consume_batch', clients => 1, seconds => $seconds, batch => $batch, backlog => $quick ? 5000 : 20_000);
				$self->{results}->note('batches', "$batch messages, 1 client", $system, 'consume_batch', $round, $run->{rate});
				$self->note_use('batches', "$batch messages, 1 client", $system, 'consume_batch', $round, $run);
			}
		}
	}
	return;
}

#
# c: an old transaction holds back the xmin horizon
#

sub held_xmin
{
	my ($self) = @_;
	my $seconds = $self->{quick} ? 6 : 180;
	my $window = $self->{quick} ? 2 : 30;
	my $server = $self->{server};

	foreach my $system (grep { $self->has($_) } 'cmq', 'pgmq')
	{
		$self->fresh($system);
		$server->sql($system, 'CREATE TABLE held (at timestamptz)');
		my $pid = fork();
		if ($pid == 0)
		{
			open STDOUT, '>', '/dev/null';
			open STDERR, '>', '/dev/null';
			exec "$server->{bin}/psql", '-X', '-q', '-c', 'BEGIN ISOLATION LEVEL REPEATABLE READ',
			  '-c', 'SELECT count(*) FROM held', '-c', 'SELECT pg_sleep(3600)', $system or POSIX::_exit(1);
		}
		sleep 0.1
		  until $server->sql($system,
			"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)' AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()");
		my $series = $self->run_fresh($system, 'cycle', clients => 8, seconds => $seconds, progress => 1)->{series};
		$server->sql($system, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)' AND pid <> pg_backend_pid()");
		waitpid $pid, 0;

		my $first = sum(@$series[ 0 .. $window - 1 ]) / $window;
		my $last = sum(@$series[ $#$series - $window + 1 .. $#$series ]) / $window;
		$self->{results}->note('held_xmin', "$seconds s", $system, 'first', 1, $first);
		$self->{results}->note('held_xmin', "$seconds s", $system, 'last', 1, $last);
		$self->{results}->note('held_xmin', "$seconds s", $system, 'last/first', 1, $last / $first);
		$self->{results}->series('held_xmin', $system, $series);
	}
	return;
}

#
# d: backlog, e: in flight and delayed, g: rewind.  They share the loading: it
# takes longer than the measuring.
#

# Send $n messages in batches of 1000 with a few clients, or publish them to a topic.
sub load
{
	my ($self, $system, $queue, $n, $what) = @_;
	my $vars = $self->variables(1000, queue => $queue, batch => 1000);

	$what //= 'send_batch';
	$self->{server}->pgbench($system, script => "$sql/${system}_$what.sql", clients => 2,
		transactions => int($n / 2000), vars => $vars);
	return;
}

sub cmq_queue
{
	my ($self, $queue, $backlog) = @_;
	$self->{server}->sql('cmq', "SELECT cmq_create_queue('$queue', rewind_seconds => 345600)",
		'CREATE TABLE IF NOT EXISTS miss (at timestamptz NOT NULL DEFAULT now())');
	$self->load('cmq', $queue, $backlog);
	return;
}

# Rate of the cycle on a queue that stays as it is otherwise.
sub cycle_on
{
	my ($self, $system, $queue, $seconds) = @_;
	my $result = $self->{server}->pgbench($system, script => "$sql/${system}_cycle.sql", clients => 8,
		seconds => $seconds, vars => $self->variables(1000, queue => $queue));
	$self->{done}{"$system $queue"} += $result->{count};
	return $result->{tps};
}

# No message missing, none in two places, after all that was done to a queue.
sub check_cmq
{
	my ($self, $queue, $loaded) = @_;
	my ($total, $places, $misses) = split /\t/, $self->{server}->sql('cmq',
		"SELECT (SELECT count(*) FROM cmq_data.q_$queue),
				(SELECT count(*) FROM cmq_data.q_${queue}_pending) + (SELECT count(*) FROM cmq_data.q_${queue}_rewind),
				(SELECT count(*) FROM miss)");
	my $sent = $loaded + ($self->{done}{"cmq $queue"} // 0);

	die "queue $queue: $sent messages were sent, $total are there, $places states, $misses misses: no figure\n"
	  if $total != $sent || $places != $sent || $misses;
	return;
}

sub compare_with_small
{
	my ($self, $workload, $variant, $queue, $system) = @_;
	my $seconds = $self->{quick} ? 1 : 6;

	foreach my $round (1 .. ($self->{quick} ? 1 : 3))
	{
		$self->{server}->sql($system, 'CHECKPOINT');
		my $before = $self->cycle_on($system, 'small', $seconds);
		my $rate = $self->cycle_on($system, $queue, $seconds);
		my $after = $self->cycle_on($system, 'small', $seconds);
		$self->{results}->note($workload, '1000 waiting', $system, 'cycle', $round, ($before + $after) / 2);
		$self->{results}->note($workload, $variant, $system, 'cycle', $round, $rate);
		$self->{results}->note($workload, $variant, $system, 'cycle/small', $round, $rate / (($before + $after) / 2));
	}
	return;
}

sub backlog
{
	my ($self) = @_;
	my @depths = $self->{quick} ? ([ '20,000', 'deep', 20_000 ]) :
	  ([ '1 million', 'million', 1_000_000 ], [ '5 million', 'deep', 5_000_000 ]);

	$self->{done} = {};
	$self->{server}->database('cmq', 'cmq');
	$self->cmq_queue('small', 2000);
	foreach my $case (@depths)
	{
		my ($name, $queue, $n) = @$case;
		$self->cmq_queue($queue, $n);
		$self->{server}->sql('cmq', 'VACUUM ANALYZE');
		$self->compare_with_small('backlog', "$name waiting", $queue, 'cmq');
		$self->check_cmq($queue, $n);
	}
	if ($self->has('pgmq'))
	{
		my $n = $self->{quick} ? 10_000 : 1_000_000;
		$self->{server}->database('pgmq', 'pgmq');
		$self->{server}->sql('pgmq', "SELECT pgmq.create('small')", "SELECT pgmq.create('deep')",
			'CREATE TABLE miss (at timestamptz NOT NULL DEFAULT now())');
		$self->load('pgmq', 'small', 2000);
		$self->load('pgmq', 'deep', $n);
		$self->{server}->sql('pgmq', 'VACUUM ANALYZE');
		$self->compare_with_small('backlog', $self->{quick} ? '10,000 waiting' : '1 million waiting', 'deep', 'pgmq');
		$self->{server}->database('pgmq', 'pgmq');
	}
	$self->rewind_on(map { [ $_->[1], $_->[2] ] } @depths) if $self->{rewind};
	return;
}

# g: receive and delete everything, rewind, receive again.
sub rewind_on
{
	my ($self, @queues) = @_;
	my $server = $self->{server};

	$self->cmq_queue('ten', 10_000);
	foreach my $case ([ 'ten', 10_000 ], @queues)
	{
		my ($queue, $loaded) = @$case;
		my $vars = $self->variables(1000, queue => $queue, batch => 100);
		my $pending = $server->sql('cmq', "SELECT count(*) FROM cmq_data.q_${queue}_pending");
		my $probe = min(2000, int($pending / 400));
		my $variant = $queue eq 'ten' ? '10,000 deleted' : $queue eq 'million' ? '1 million deleted' :
		  $self->{quick} ? '20,000 deleted' : '5 million deleted';

		# the normal rate, then the rest
		$server->sql('cmq', 'CHECKPOINT');
		my $normal = $server->pgbench('cmq', script => "$sql/cmq_receive_batch.sql", clients => 1,
			transactions => $probe, vars => { %$vars });
		my $in_flight = $probe * 100;
		my $received = $server->sql('cmq', "SELECT count(*) FROM cmq_data.q_${queue}_pending WHERE receive_count = 1");
		die "queue $queue: $received messages were received, not $in_flight: no figure\n" if $received != $in_flight;
		$server->sql('cmq', "UPDATE cmq_data.q_${queue}_pending SET visible_at = enqueued_at WHERE receive_count > 0");
		$server->sql('cmq', "VACUUM cmq_data.q_${queue}_pending");
		$server->pgbench('cmq', script => "$sql/cmq_consume_batch.sql", clients => 2,
			transactions => int($pending / 2000) + 1, vars => { %$vars, batch => 1000 });
		my $left = $server->sql('cmq', "SELECT count(*) FROM cmq_data.q_${queue}_pending");
		die "queue $queue: $left messages are left\n" if $left;

		$server->sql('cmq', 'CHECKPOINT');
		my $start = $server->sql('cmq', "SELECT min(enqueued_at) FROM cmq_data.q_$queue");
		foreach my $round (1 .. 3)
		{
			$self->{results}->note('rewind', $variant, 'cmq', 'call, ms', $round,
				$server->timed('cmq', "SELECT cmq_rewind('$queue', '$start')"));
			$self->{results}->note('rewind', $variant, 'cmq', 'first message, ms', $round,
				$server->timed('cmq', "SELECT length(body) FROM cmq_receive('$queue', 1, 1)"));
		}
		my $replay = $server->pgbench('cmq', script => "$sql/cmq_receive_batch.sql", clients => 1,
			transactions => $probe, vars => { %$vars });
		# the first message of each round may come a second time
		$received = $server->sql('cmq', "SELECT sum(receive_count) FROM cmq_data.q_${queue}_pending");
		die "queue $queue: $received messages were replayed, not $in_flight: no figure\n" if $received != $in_flight + 3;
		$self->{results}->note('rewind', $variant, 'cmq', 'receive of 100', 1, $normal->{tps} * 100);
		$self->{results}->note('rewind', $variant, 'cmq', 'replay of 100', 1, $replay->{tps} * 100);
		$self->{results}->note('rewind', $variant, 'cmq', 'replay/receive', 1, $replay->{tps} / $normal->{tps});

		# all the others back by a restore; then what the queue says of itself, and a
		# rewind, while all of that is pending
		$server->sql('cmq', "SELECT cmq_cancel_rewind('$queue')");
		my $deleted = $server->sql('cmq', "SELECT count(*) FROM cmq_data.q_${queue}_rewind");
		$server->sql('cmq', 'CHECKPOINT');
		my $ms = $server->timed('cmq', "SELECT cmq_restore('$queue', '-infinity', expected_count => $deleted)");
		$self->{results}->note('rewind', $variant, 'cmq', 'restore, per s', 1, $deleted / $ms * 1000);
		$server->sql('cmq', 'SELECT cmq_maintain()');
		foreach my $round (1 .. 3)
		{
			$self->{results}->note('rewind', $variant, 'cmq', 'attributes, ms', $round,
				$server->timed('cmq', "SELECT * FROM cmq_queue_attributes('$queue')"));
			$self->{results}->note('rewind', $variant, 'cmq', 'call with all pending, ms', $round,
				$server->timed('cmq', "SELECT cmq_rewind('$queue', '$start')"));
		}
		$self->check_cmq($queue, $loaded);
	}
	return;
}

sub crowd
{
	my ($self) = @_;
	my $n = $self->{quick} ? 4000 : 200_000;
	my $server = $self->{server};
	my $each = int($n / 1000);
	my $body = $self->variables(1000)->{body};

	$self->{done} = {};
	$server->database('cmq', 'cmq');
	$self->cmq_queue('small', 2000);
	$self->cmq_queue('crowd', $n);
	$server->sql('cmq',
		"SELECT count(*) FROM (SELECT cmq_receive('crowd', 1000, 43200) FROM generate_series(1, $each)) r",
		"SELECT count(*) FROM (SELECT cmq_send_batch('crowd', array_fill('$body'::text, ARRAY[1000]), 3600) FROM generate_series(1, $each)) s");
	$self->load('cmq', 'crowd', 2000);
	$server->sql('cmq', 'VACUUM ANALYZE');
	my ($in_flight, $delayed) = split /\t/,
	  $server->sql('cmq', "SELECT inactive_msg_num, delay_msg_num FROM cmq_queue_attributes('crowd')");
	die "$in_flight in flight, $delayed delayed\n" if $in_flight != $n || $delayed != $n;
	$self->compare_with_small('crowd', "$n in flight, $n delayed", 'crowd', 'cmq');
	$self->check_cmq('crowd', 2 * $n + 2000);
	return;
}

#
# f: how soon a waiting receiver has the message
#

sub latency
{
	my ($self) = @_;
	my $messages = $self->{quick} ? 30 : 500;

	foreach my $system ('cmq', @node_systems)
	{
		next unless $self->has($system) && $self->{node};
		$self->{server}->database($system, $extensions{$system});
		my $result = $self->{node}->drive($system, $system, 'latency', messages => $messages);
		foreach my $from (qw(commit acknowledged))
		{
			my @v = sort { $a <=> $b } @{ $result->{$from} };
			$self->{results}->note('latency', "from $from", $system, 'p50, ms', 1, $v[ int(@v * 0.5) ] / 1000);
			$self->{results}->note('latency', "from $from", $system, 'p99, ms', 1, $v[ int(@v * 0.99) ] / 1000);
		}
	}
	return;
}

#
# h: purge of expired messages
#

sub purge
{
	my ($self) = @_;
	my $n = $self->{quick} ? 10_000 : 1_000_000;
	my $server = $self->{server};
	my $variant = $self->{quick} ? '10,000 expired' : '1 million expired';

	$server->database('cmq', 'cmq');
	$server->sql('cmq', "ALTER SYSTEM SET cmq.maintenance_interval = '1h'", 'SELECT pg_reload_conf()');
	foreach my $queue ('waiting', 'consumed')
	{
		my $vars = $self->variables(1000, queue => $queue, batch => 1000);
		$server->sql('cmq', "SELECT cmq_create_queue('$queue', msg_retention_seconds => 60, rewind_seconds => 60)");
		$self->load('cmq', $queue, $n);
		$server->pgbench('cmq', script => "$sql/cmq_consume_batch.sql", clients => 2,
			transactions => int($n / 2000), vars => $vars) if $queue eq 'consumed';
		# makes partitions ahead for that long interval: not what is measured
		$server->sql('cmq', "SELECT cmq_maintain('$queue')");
	}
	sleep 1
	  until $server->sql('cmq',
		"SELECT bool_and(upper < now() - interval '61 s') FROM cmq.partition p WHERE (SELECT max(enqueued_at) FROM cmq_data.q_waiting) >= lower OR queue = 'consumed' AND (SELECT max(enqueued_at) FROM cmq_data.q_consumed) >= lower") eq 't';
	foreach my $queue ('waiting', 'consumed')
	{
		$self->{results}->note('purge', "$variant, $queue", 'cmq', 'time, ms', 1,
			$server->timed('cmq', "SELECT cmq_maintain('$queue')"));
		my $left = $server->sql('cmq', "SELECT count(*) FROM cmq_data.q_$queue");
		die "queue $queue: $left messages are left\n" if $left;
		$self->{results}->note('purge', "$variant, $queue", 'cmq', 'dead tuples left', 1,
			$self->dead_tuples('cmq', 'cmq_data'));
		$server->sql('cmq', "SELECT cmq_drop_queue('$queue')");
	}
	$server->sql('cmq', 'ALTER SYSTEM RESET cmq.maintenance_interval', 'SELECT pg_reload_conf()');

	# What others do: DELETE by age, from the queue or the archive.
	my $vars = $self->variables(1000);
	$server->database('plain');
	$server->sql('plain', "$sql/plain_setup.sql");
	$server->sql('plain', "INSERT INTO plain (body) SELECT '$vars->{body}' FROM generate_series(1, $n)");
	$self->{results}->note('purge', $variant, 'plain', 'time, ms', 1, $server->timed('plain', 'DELETE FROM plain WHERE at < now()'));
	$self->{results}->note('purge', $variant, 'plain', 'dead tuples left', 1, $self->dead_tuples('plain', 'public'));
	$server->database('plain');
	return unless $self->has('pgmq');
	$server->database('pgmq', 'pgmq');
	$server->sql('pgmq', "SELECT pgmq.create('bench')");
	$self->load('pgmq', 'bench', $n);
	$server->sql('pgmq', "SELECT count(*) FROM (SELECT pgmq.archive('bench', array_agg(msg_id)) FROM pgmq.q_bench GROUP BY msg_id / 10000) a");
	$self->{results}->note('purge', $variant, 'pgmq', 'time, ms', 1,
		$server->timed('pgmq', 'DELETE FROM pgmq.a_bench WHERE archived_at < now()'));
	$server->sql('pgmq', 'VACUUM pgmq.q_bench');
	$self->{results}->note('purge', $variant, 'pgmq', 'dead tuples left', 1, $self->dead_tuples('pgmq', 'pgmq'));
	$server->database('pgmq', 'pgmq');
	return;
}

sub dead_tuples
{
	my ($self, $db, $schema) = @_;
	# the backend that made them reports them when it ends
	sleep 1;
	return $self->{server}->sql($db, "SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables WHERE schemaname = '$schema'");
}

#
# i: WAL and table bytes of one message's life
#

sub table_bytes
{
	my ($self, $system) = @_;
	return $self->{server}->sql($system, "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
		WHERE relkind = 'r' AND (nspname IN ('cmq_data', 'pgmq', 'pgq', 'pgque'))");
}

# Have consumers of PgQ or PgQue take all that there is, after a last tick.
sub take_batches
{
	my ($self, $system, @consumers) = @_;
	my $server = $self->{server};

	$server->sql($system, "SELECT $system.force_tick('bench')", "SELECT $system.ticker('bench')");
	my $batches = $server->sql($system, "SELECT count(*) FROM $system.tick");
	foreach my $consumer (@consumers)
	{
		$server->pgbench($system, script => "$sql/${system}_consume_batch.sql", clients => 1, transactions => $batches,
			vars => $self->variables(1000, consumer => $consumer));
	}
	return;
}

sub bytes
{
	my ($self) = @_;
	my $n = $self->{quick} ? 500 : 10_000;
	my $server = $self->{server};
	my $note = sub {
		my ($system, $name, $cpu, $wal, $tables) = @_;
		$self->{results}->note('bytes', '1000 bytes', $system, "CPU us per life$name", 1, $cpu);
		$self->{results}->note('bytes', '1000 bytes', $system, "WAL per life$name", 1, $wal);
		$self->{results}->note('bytes', '1000 bytes', $system, "tables per life$name", 1, $tables) if defined $tables;
	};

	# how each system takes a message, and what that is called in the results
	foreach my $case ([ 'cmq', 'receive_delete', '' ], [ 'cmq', 'consume', ', consumed' ], [ 'pgmq', 'receive_delete', '' ],
		[ 'pgmq', 'consume', ', consumed' ], [ 'pgq', '', '' ], [ 'pgque', '', '' ])
	{
		my ($system, $take, $name) = @$case;
		next unless $self->has($system);
		my $vars = $self->variables(1000, batch => 1);
		$self->fresh($system);
		$server->sql($system, { %$vars, backlog => 0 }, "$sql/${system}_setup.sql");
		my $before = $self->table_bytes($system);
		$server->sql($system, 'CHECKPOINT');
		my (undef, $cpu, $wal) = $server->measured(sub {
			$self->with_ticker($system, sub {
				$server->pgbench($system, script => "$sql/${system}_send.sql", clients => 1, transactions => $n, vars => $vars) });
			return $self->take_batches($system, 'bench_1') if $tickers{$system};
			return $server->pgbench($system, script => "$sql/${system}_$take.sql", clients => 1, transactions => $n, vars => $vars);
		});
		my ($pending, $consumed) = split /\t/, (split /\n/, $server->sql($system, $vars, "$sql/${system}_check.sql"))[-1];
		die "$system: $consumed messages of $n consumed, $pending pending: no figure\n"
		  if $pending || $consumed != ($system eq 'pgmq' && $take eq 'consume' ? 0 : $n);
		$note->($system, $name, $cpu / $n, $wal / $n, ($self->table_bytes($system) - $before) / $n);
	}
	foreach my $system (grep { $self->has($_) } @node_systems)
	{
		my $run = $self->drive($system, 'life', clients => 1, messages => $self->{quick} ? 500 : 3000);
		$note->($system, '', $run->{cpu}, $run->{wal});
		$self->{results}->note('bytes', '1000 bytes', $system, 'CPU us of the client per life', 1, $run->{client_cpu});
	}
	return;
}

#
# j: one message to many queues
#

# A fresh topic with so many queues, or a queue with so many consumers.
sub topic
{
	my ($self, $system, $queues) = @_;
	my $setup = -e "$sql/${system}_topic_setup.sql" ? 'topic_setup' : 'setup';

	$self->fresh($system);
	$self->{server}->sql($system, { %{ $self->variables(1000, queues => $queues) }, backlog => 0 }, "$sql/${system}_$setup.sql");
	return;
}

# Each of some numbered queues has so many messages with their bodies, of which so many are
# consumed: one number for each queue.
sub check_queues
{
	my ($self, $queue, $n, @consumed) = @_;
	my $vars = $self->variables(1000, queue => $queue, queues => scalar @consumed);
	my @found = split /\n/, $self->{server}->sql('cmq', $vars, "$sql/cmq_queues_check.sql");

	die @found . " queues ${queue}_* were counted, not " . @consumed . ": no figure\n" if @found != @consumed;
	foreach my $i (0 .. $#found)
	{
		my ($pending, $consumed) = split /\t/, $found[$i];
		die "queue ${queue}_" . ($i + 1) . ": $n messages were sent, $consumed[$i] consumed, but $pending are pending and $consumed consumed: no figure\n"
		  if $consumed != $consumed[$i] || $pending != $n - $consumed;
	}
	return;
}

# What has been published to all queues of a topic or to all consumers is there, and so many
# of each have been consumed.
sub check_topic
{
	my ($self, $system, $queues, $n, $consumed) = @_;
	my $server = $self->{server};
	my $vars = $self->variables(1000, queues => $queues);

	return $self->check_queues('bench', $n, ($consumed) x $queues) if $system eq 'cmq';
	my $check = -e "$sql/${system}_topic_check.sql" ? 'topic_check' : 'check';
	my ($pending, $taken) = split /\t/, (split /\n/, $server->sql($system, $vars, "$sql/${system}_$check.sql"))[-1];
	# PgQ and PgQue have one copy, and subtract from it what each consumer has noted
	my $left = $tickers{$system} ? $n - $consumed * $queues : ($n - $consumed) * $queues;
	die "$system: $n messages for $queues, $pending are pending instead of $left, $taken consumed: no figure\n"
	  if $pending != $left || $taken != $consumed * $queues;
	return;
}

sub publish_script
{
	my ($system, $what) = @_;
	return -e "$sql/${system}_$what.sql" ? "$sql/${system}_$what.sql" : "$sql/${system}_send.sql";
}

# Rate of a script that brings one message to all queues.
sub publish_rate
{
	my ($self, $system, $what, $queues, $seconds) = @_;
	my $server = $self->{server};

	return { rate => $self->drive($system, 'publish', queues => $queues, clients => 8, seconds => $seconds)->{rate} }
	  if grep { $_ eq $system } @node_systems;
	$self->topic($system, $queues);
	$server->sql($system, 'CHECKPOINT');
	my $result = $self->with_ticker($system, sub {
		$server->pgbench($system, script => publish_script($system, $what), clients => 8, seconds => $seconds,
			vars => $self->variables(1000, queues => $queues)) });
	$self->check_topic($system, $queues, $result->{count}, 0);
	return { rate => $result->{tps} };
}

# Have each queue of the topic, or each consumer of PgQ, consume all of $n messages.
sub drain
{
	my ($self, $system, $queues, $n) = @_;
	my $server = $self->{server};
	my $batch = min($n, 1000);

	return $self->take_batches($system, map { "bench_$_" } 1 .. $queues) if $tickers{$system};
	foreach my $i (1 .. $queues)
	{
		$server->pgbench($system, script => "$sql/${system}_consume_batch.sql", clients => 1,
			transactions => $n / $batch, vars => $self->variables(1000, queue => "bench_$i", batch => $batch));
	}
	return;
}

# What one message to all queues costs: WAL and processor time of the call that brings it
# there, and of all until each queue has consumed it; table bytes after that.
sub publish_cost
{
	my ($self, $variant, $queues, $n, $system, $what) = @_;
	my $server = $self->{server};
	my %of;

	if (grep { $_ eq $system } @node_systems)
	{
		my $sent = $self->drive($system, 'publish', queues => $queues, clients => 1, messages => $n);
		my $life = $self->drive($system, 'life', queues => $queues, clients => 1, messages => $n);
		%of = ('CPU us' => $sent->{cpu}, WAL => $sent->{wal}, 'life, CPU us' => $life->{cpu}, 'life, WAL' => $life->{wal},
			'CPU us of the client' => $sent->{client_cpu});
	}
	else
	{
		$self->topic($system, $queues);
		my $before = $self->table_bytes($system);
		$server->sql($system, 'CHECKPOINT');
		my (undef, $cpu, $wal) = $server->measured(sub {
			$self->with_ticker($system, sub {
				$server->pgbench($system, script => publish_script($system, $what), clients => 1, transactions => $n,
					vars => $self->variables(1000, queues => $queues)) }) });
		my (undef, $cpu_taken, $wal_taken) = $server->measured(sub { $self->drain($system, $queues, $n) });
		$self->check_topic($system, $queues, $n, $n);
		# the place of what was pending can be used again
		$server->sql($system, 'VACUUM');
		%of = ('CPU us' => $cpu / $n, WAL => $wal / $n, 'life, CPU us' => ($cpu + $cpu_taken) / $n, 'life, WAL' => ($wal + $wal_taken) / $n,
			tables => ($self->table_bytes($system) - $before) / $n);
	}
	$self->{results}->note('topics', $variant, $system, "$what, $_", 1, $of{$_}) foreach sort keys %of;
	return;
}

# Consumers of one of ten subscribed queues, against those of a plain queue before and
# after.  All queues are loaded before, and each run takes from one that is still full.
sub subscribed_against_plain
{
	my ($self) = @_;
	my $server = $self->{server};
	my $rounds = $self->{quick} ? 1 : 3;
	my $n = $self->{quick} ? 2000 : 30_000;
	my %consumed = (bench => [ (0) x 10 ], plain => [ (0) x (2 * $rounds + 2) ]);
	my %taken = (bench => 0, plain => 0);
	my @figures;

	$self->topic('cmq', 10);
	$self->load('cmq', 'bench', $n, 'publish_batch');
	$self->cmq_queue("plain_$_", $n) foreach 1 .. 2 * $rounds + 2;
	$server->sql('cmq', 'VACUUM ANALYZE');
	foreach my $what (qw(receive_delete consume))
	{
		my $take = sub {
			my ($kind) = @_;
			my $i = ++$taken{$kind};
			$server->sql('cmq', 'CHECKPOINT');
			my ($result, $cpu) = $server->measured(sub { $server->pgbench('cmq', script => "$sql/cmq_$what.sql", clients => 8,
				transactions => $n / 10, vars => $self->variables(1000, queue => "${kind}_$i")) });
			$result->{cpu} = $cpu / $result->{count};
			$consumed{$kind}[ $i - 1 ] = $result->{count};
			return $result;
		};
		my $before = $take->('plain');

		foreach my $round (1 .. $rounds)
		{
			my $run = $take->('bench');
			my $after = $take->('plain');
			foreach my $figure ([ 'tps', $what ], [ 'cpu', "$what, CPU us" ])
			{
				my ($key, $name) = @$figure;
				my $plain = ($before->{$key} + $after->{$key}) / 2;
				push @figures, [ 'a subscribed queue', $name, $round, $run->{$key} ], [ 'a plain queue', $name, $round, $plain ],
				  [ 'a subscribed queue', "$name/plain", $round, $run->{$key} / $plain ];
			}
			$before = $after;
		}
	}
	$self->check_queues($_, $n, @{ $consumed{$_} }) foreach sort keys %consumed;
	my $misses = $server->sql('cmq', 'SELECT count(*) FROM miss');
	die "topics: $misses receives found no message though some were ready: no figure\n" if $misses;
	foreach my $figure (@figures)
	{
		my ($variant, $name, $round, $value) = @$figure;
		$self->{results}->note('topics', $variant, 'cmq', $name, $round, $value);
	}
	return;
}

sub topics
{
	my ($self) = @_;
	my $seconds = $self->{quick} ? 1 : 3;
	my @publishers = map { my $system = $_; map { [ $system, $_ ] } $system eq 'cmq' ? qw(publish send_each) : 'publish' }
	  grep { $self->has($_) } @sql_systems, 'pgboss';

	$self->databases;
	foreach my $case ([ '1 queue', 1, 5000 ], [ '10 queues', 10, 5000 ], [ '100 queues', 100, 1000 ])
	{
		my ($variant, $queues, $n) = @$case;

		foreach my $round (1 .. ($self->{quick} ? 1 : 2))
		{
			$self->paired('topics', $variant, $round,
				sub { $self->run_fresh('plain', 'send', clients => 8, seconds => $seconds) },
				map { my ($system, $what) = @$_; [ $system, $what, sub { $self->publish_rate($system, $what, $queues, $seconds) } ] } @publishers);
		}
		foreach my $publisher (@publishers)
		{
			my ($system, $what) = @$publisher;
			my $some = $self->{quick} ? 100 : $system eq 'pgboss' ? $n / 10 : $n;
			$self->publish_cost($variant, $queues, $some, $system, $what);
		}
	}
	$self->subscribed_against_plain;
	return;
}

#
# o: ordered groups
#

sub groups
{
	my ($self) = @_;
	my $quick = $self->{quick};
	my $seconds = $quick ? 1 : 3;
	# what each of them has for it; PgQ and PgQue give all to one consumer, in order
	my %whats = (cmq => [ qw(send receive_delete cycle consume) ], pgmq => [ qw(send receive_delete cycle) ]);

	$self->databases;
	foreach my $groups (100, 10_000)
	{
		my $variant = $groups == 100 ? '100 groups' : '10,000 groups';
		my $backlog = $quick ? 20_000 : 40_000;

		foreach my $round (1 .. ($quick ? 1 : 2))
		{
			my @runs;
			foreach my $what (@{ $whats{cmq} })
			{
				# a queue without groups, with the same number of messages
				push @runs, map {
					my $of = $_;
					[ 'cmq', $what, sub {
						$self->run_fresh('cmq', $what, clients => 8, seconds => $seconds, $of ? () : (groups => $groups),
							$what eq 'cycle' ? () : (backlog => $what eq 'send' ? 0 : $what eq 'consume' ? 2 * $backlog : $backlog));
					}, $of ];
				} undef, $groups == 100 ? 'no groups' : ();
			}
			push @runs, map {
				my $what = $_;
				[ 'pgmq', $what, sub {
					$self->run_fresh('pgmq', $what, clients => 8, seconds => $seconds, groups => $groups,
						$what eq 'cycle' ? () : (backlog => $what eq 'send' ? 0 : $backlog));
				} ];
			} @{ $whats{pgmq} } if $self->has('pgmq');
			foreach my $system (grep { $self->has($_) } @node_systems)
			{
				push @runs, map {
					my $what = $_;
					[ $system, $what, sub {
						$self->drive($system, $what eq 'send' ? 'send' : 'consume', clients => 8, seconds => $seconds,
							groups => $groups, backlog => $quick ? 2000 : 10_000);
					} ];
				} qw(send receive_delete);
			}
			$self->paired('groups', $variant, $round, sub { $self->run_fresh('plain', 'send', clients => 8, seconds => $seconds) }, @runs);
		}
	}
	return;
}

#
# k: reports
#

# The queries of a report, about a relation and its ledger.
sub report_queries
{
	my ($self, $queue) = @_;
	my $server = $self->{server};
	my $state = $queue eq 'waiting' ? 'state' : 'deleted_by';
	my $time = $queue eq 'waiting' ? 'visible_at' : 'deleted_at';
	my ($id, $at) = split /\t/, $server->sql('cmq', "SELECT msg_id, enqueued_at FROM plain_$queue ORDER BY enqueued_at OFFSET (SELECT count(*) * 2 / 5 FROM plain_$queue) LIMIT 1");
	my ($from, $until) = split /\t/, $server->sql('cmq', $queue eq 'days'
		? "SELECT lower, upper FROM cmq.partition WHERE queue = 'days' ORDER BY lower OFFSET 6 LIMIT 1"
		: "SELECT min(enqueued_at) + interval '20 s', min(enqueued_at) + interval '21 s' FROM plain_$queue");
	my $window = "h.enqueued_at >= '$from' AND h.enqueued_at < '$until'";
	my $all = "h.msg_id, h.enqueued_at, h.first_received_at, h.$time, h.$state, h.receive_count, h.rewind_count, h.headers, h.body";

	return (
		[ 'count(*)', 'SELECT count(*) FROM %s h' ],
		[ 'window: count', "SELECT count(*) FROM %s h WHERE $window" ],
		[ 'window: count and bytes', "SELECT count(*), sum(octet_length(h.body)) FROM %s h WHERE $window" ],
		[ 'not in the ledger', "SELECT h.msg_id, h.body, h.$time FROM %s h LEFT JOIN ledger_$queue l ON l.msg_id = h.msg_id WHERE l.msg_id IS NULL ORDER BY h.enqueued_at" ],
		[ 'window: not in the ledger', "SELECT h.msg_id, h.body, h.$time FROM %s h LEFT JOIN ledger_$queue l ON l.msg_id = h.msg_id WHERE $window AND l.msg_id IS NULL ORDER BY h.enqueued_at" ],
		[ 'one value of a header of 10', "SELECT count(*), sum(octet_length(h.body)) FROM %s h WHERE h.headers->>'kind' = 'k7'" ],
		[ 'of 1000, with an index', "SELECT count(*), sum(octet_length(h.body)) FROM %s h WHERE h.headers->>'shop' = 's77'" ],
		[ 'the same, all columns', "SELECT $all FROM %s h WHERE h.headers->>'shop' = 's77'" ],
		[ 'headers @>', q(SELECT count(*) FROM %s h WHERE h.headers @> '{"shop": "s77"}') ],
		[ 'count by a header', "SELECT h.headers->>'kind', count(*) FROM %s h GROUP BY 1" ],
		[ 'count and bytes per minute', "SELECT date_trunc('minute', h.enqueued_at), count(*), sum(octet_length(h.body)) FROM %s h GROUP BY 1" ],
		[ "count by $state", "SELECT h.$state, count(*) FROM %s h GROUP BY 1" ],
		[ "count and bytes by $state", "SELECT h.$state, count(*), sum(octet_length(h.body)) FROM %s h GROUP BY 1" ],
		[ 'one by msg_id', "SELECT $all FROM %s h WHERE h.msg_id = $id" ],
		[ 'one by enqueued_at', "SELECT $all FROM %s h WHERE h.enqueued_at = '$at'" ],
		[ 'first and last', 'SELECT min(h.enqueued_at), max(h.enqueued_at) FROM %s h' ],
		[ 'last 10', "SELECT $all FROM %s h ORDER BY h.enqueued_at DESC LIMIT 10" ],
		[ 'first 10 of a window', "SELECT $all FROM %s h WHERE $window ORDER BY h.enqueued_at LIMIT 10" ]);
}

# Queries on the views of queues against a plain table of the same rows.
sub reports
{
	my ($self) = @_;
	my $server = $self->{server};
	my $rows = $self->{quick} ? 20_000 : 1_500_000;
	my $rounds = $self->{quick} ? 1 : 5;
	my @runs = map { [ @$_, "cmq.q_$_->[1]_$_->[2]", "plain_$_->[1]" ] } (
		[ 'history, one partition', 'one', 'history' ], [ 'all, one partition', 'one', 'all' ],
		[ 'history, 15 partitions', 'days', 'history' ], [ 'all, 15 partitions', 'days', 'all' ],
		[ 'live, pending', 'waiting', 'live' ], [ 'all, pending', 'waiting', 'all' ]);

	$server->database('cmq', 'cmq');
	$server->sql('cmq', { rows => $rows }, "$sql/reports_setup.sql");
	$server->sql('cmq', 'VACUUM ANALYZE');
	$server->sql('cmq', 'CHECKPOINT');
	foreach my $run (@runs)
	{
		$self->report(@$run, $rounds);
	}
	# what is due lies among the history, and is no part of it
	$server->sql('cmq', "$sql/reports_rewind.sql");
	$self->report('history, rewind under way', 'one', 'history', 'cmq.q_one_history', 'plain_rewound', $rounds);
	$server->database('cmq', 'cmq');
	return;
}

sub report
{
	my ($self, $variant, $queue, $view, $relation, $plain, $rounds) = @_;
	my $server = $self->{server};

	foreach my $query ($self->report_queries($queue))
	{
		my ($name, $text) = @$query;
		my @statements = map { sprintf $text, $_ } $plain, $relation;
			my @found = map { $server->sql('cmq', "SELECT count(*), md5(string_agg(s::text, ',' ORDER BY s::text)) FROM ($_) s") } @statements;

		die "$variant, $name: the view shows other rows than the table: no figure\n" if $found[0] ne $found[1];
		my ($of_table, $of_view) = $server->timed_in_turn('cmq', $name =~ /^(one by|first|last)/ ? 4 * $rounds : $rounds, @statements);
		$self->{results}->note('reports', $variant, 'plain', "$name, ms", 1, $of_table);
		$self->{results}->note('reports', $variant, 'cmq', "$name, ms", 1, $of_view);
		$self->{results}->note('reports', $variant, 'cmq', "$name, ratio", 1, $of_view / $of_table);
	}
	return;
}

1;
