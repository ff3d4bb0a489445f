# A cluster of three nodes behind one model.  RandomCalls.pm works on each node, in sessions
# whose transactions overlap, and the front does what is for all nodes: after each call every
# node, and what the front shows of all, must be what the models of the nodes say.  The model
# of a call of the front is that all nodes do it, or, if one of them refuses it, none.
# CMQ_TEST_SEED repeats a run.
#
# Now and then a call of the front has a mishap.  It is cancelled or loses somebody while it
# waits for a transaction on a node, when all nodes have prepared it and nothing is decided,
# or at any moment.  Then the answer says whether all nodes have done it; if the front itself
# is gone, they must agree.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqCluster;
use CmqNode;
use List::Util qw(max min shuffle sum0);
use RandomCalls;
use Seed;
use Test::More;
use Time::HiRes qw(usleep);

my $full_program = 200;
my $steps = $ENV{CMQ_TEST_STEPS} || ($ENV{CMQ_TEST_LONG} ? 10_000 : $full_program);

# The model knows no maintenance but that of calls, and a worker does some after a start; nor
# what a crash takes of receives that have not waited for the disk.
my $cluster = CmqCluster->new(3, settings => <<'CONF');
lock_timeout = 10s
client_min_messages = error
cmq.async_receive = off
max_worker_processes = 0
CONF
my $front = $cluster->{front};
my @servers = map { server("node$_", $cluster->node($_), [ $CmqCluster::step, $_ ]) } $cluster->numbers;
# in the model of each node, what the front does there
$_->{front} = { no => 'front' } foreach @servers;
# a call waits here before it decides, if somebody has the lock
$front->sql(q{
	CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(135);
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON cmq_cluster.decision DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()});

sub number { my ($server) = @_; return $server->{ids}[1]; }

sub live { return grep { !$_->{down} } @servers; }

# The nodes that have a queue.
my %places;

sub places { my ($q) = @_; return @{ $places{$q} // [] }; }

#
# The session of the front
#

my ($manager, $manager_pid);

sub connect_to_front
{
	eval { $manager->quit } if $manager;
	$manager = $front->session(on_error_stop => 0);
	$manager->query_safe(q{SET "TimeZone" = 'UTC'; SET client_min_messages = warning});
	$manager_pid = $manager->query_safe('SELECT pg_backend_pid()');
	return;
}

sub start_asking
{
	my ($sql) = @_;
	$sql =~ s/\s+/ /g;
	push @trace, "  front: $sql";
	$called{$1}++ while $sql =~ /\bcmq_cluster\.(\w+)/g;
	@$manager{qw(stdout stderr)} = ('', '');
	$manager->{stdin} .= "$sql;\n\\echo = :SQLSTATE\n";
	$manager->{run}->pump_nb;
	return;
}

# The answer, as try() of RandomCalls gives it: !gone if the session is gone.
sub finish_asking
{
	$manager->{timeout}->start;
	eval { $manager->{run}->pump until $manager->{stdout} =~ /^= \w{5}$/m; };
	my ($answer, $code) = $manager->{stdout} =~ /^(.*?)\n?^= (\w{5})$/ms;
	my $result = !defined $code ? '!gone' : $code ne '00000' ? "!$code" : $answer eq '' ? '-' : $answer;
	push @trace, "  = $result", map { "    $_" } split /\n/, $manager->{stderr};
	return $result;
}

sub ask_front
{
	my ($sql) = @_;
	start_asking($sql);
	return finish_asking();
}

sub time_of { my ($id) = @_; return "timestamptz 'epoch' + $id * interval '1 microsecond'"; }

sub id_of { my ($time) = @_; return "(extract(epoch FROM $time) * 1000000)::bigint"; }

#
# Nodes and the front go away, and come back
#

sub stop_node
{
	my ($server) = @_;
	push @trace, "$server->{name} is stopped";
	$server->{node}->stop('immediate');
	eval { $_->quit } foreach $server->{observer}, map { $_->{psql} } @{ $server->{sessions} };
	$server->{model}->restart;
	$server->{down} = 1;
	return;
}

sub start_node
{
	my ($server) = @_;
	push @trace, "$server->{name} is started";
	$server->{node}->start;
	connect_to($server);
	$server->{down} = 0;
	return;
}

# What calls have left is finished.
sub settle
{
	foreach my $server (live())
	{
		eventually(sub { $server->{observer}->query_safe(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cmq_cluster' AND state <> 'idle'}) eq '0' })
		  or $disagree ||= "the front has left something on $server->{name}";
	}
	my $left = ask_front(q{SELECT count(*) FROM cmq_cluster.resolve() WHERE outcome NOT IN ('commit', 'rollback')});
	$disagree ||= differ('what resolve() could not do', $left, scalar grep { $_->{down} } @servers);
	return;
}

#
# Calls for several nodes
#

# What the call must answer, see call().  What nodes do is in the sessions of the front.
sub expected
{
	my (%call) = @_;
	my @answers;
	return $call{refusal} if $call{refusal};
	foreach my $server (@{ $call{servers} })
	{
		turn_to($server);
		push @answers, $server->{down} ? '!08001' : $server->{error} || $call{do}->($server->{front});
	}
	my ($error) = grep { /^!/ } @answers;
	return $error // $call{all}->(@answers);
}

sub meaning { my ($got, %call) = @_; return $call{read} && $got !~ /^[-!]/ ? $call{read}->($got) : $got; }

sub end_call
{
	my ($commit) = @_;
	$commit ? $_->{model}->commit($_->{front}) : $_->{model}->rollback($_->{front}) foreach @servers;
	$_->{error} = '' foreach @servers;
	return;
}

# Does all that is committed agree with the models?
sub check_nodes
{
	foreach my $server (live())
	{
		turn_to($server);
		check();
	}
	return;
}

# The next call has this mishap.
my $mishap = '';

# Somebody has changed the queue, so that the call waits on this node.
sub block
{
	my ($server, $q) = @_;
	turn_to($server);
	my ($s) = grep { !$_->{open} } @{ $server->{sessions} } or return;
	return unless $model->queue($s, $q) && $model->lock($s, "queue $q");
	command($s, 'BEGIN');
	my $seconds = pick(40000, 40001);
	my $got = ask($s, "SELECT cmq_alter_queue('$q', visibility_timeout => $seconds)");
	$disagree ||= differ("alter $q", $got, $model->alter_queue($s, $q, visibility_timeout => $seconds));
	return $s;
}

sub end_block
{
	my ($server, $s) = @_;
	my $commit = rand() < 0.5;
	turn_to($server);
	command($s, $commit ? 'COMMIT' : 'ROLLBACK');
	$commit ? $model->commit($s) : $model->rollback($s);
	return;
}

sub on_node { my ($server, $function) = @_; return $server->{observer}->query_safe("SELECT count($function(pid)) FROM pg_stat_activity WHERE application_name = 'cmq_cluster' AND wait_event_type = 'Lock'"); }

sub in_front { my ($function) = @_; return $front->sql("SELECT $function($manager_pid)"); }

# The call waits, and something happens to it.
sub call_that_waits
{
	my ($what, $sql, %call) = @_;
	my $server = pick(@{ $call{servers} });
	turn_to($server);
	my $is_refused = $call{do}->($server->{front}) =~ /^!/;
	end_call(0);
	# what the node refuses, perhaps it refuses at once
	return 0 if $is_refused;
	my $s = block($server, $call{queue}) or return 0;
	start_asking($sql);
	my $waits = eventually(sub { $manager->{run}->pump_nb; $manager->{stdout} =~ /^= / || $server->{observer}->query_safe(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cmq_cluster' AND wait_event_type = 'Lock'}) eq '1' });
	push @trace, "  it waits on $server->{name}: $mishap";
	$disagree ||= "$what does not wait" if !$waits || $manager->{stdout} =~ /^= /;
	my $expected = '';
	if    ($mishap eq 'waits')           { }
	elsif ($mishap eq 'cancelled')       { in_front('pg_cancel_backend'); $expected = '!57014'; }
	elsif ($mishap eq 'killed')          { in_front('pg_terminate_backend'); $expected = '!gone'; }
	elsif ($mishap eq 'node cancels')    { on_node($server, 'pg_cancel_backend'); $expected = '!57014'; }
	elsif ($mishap eq 'node kills')      { on_node($server, 'pg_terminate_backend'); $server->{error} = '!08001'; }
	elsif ($mishap eq 'waits in vain')   { $server->{error} = '!55P03'; }
	elsif ($mishap eq 'node crashes')    { stop_node($server); }
	elsif ($mishap eq 'front crashes')   { $front->stop('immediate'); $expected = '!gone'; }
	end_block($server, $s) if $mishap eq 'waits';
	my $got = finish_asking();
	$expected ||= expected(%call);
	$disagree ||= differ("$what that waits", meaning($got, %call), $expected);
	end_call($expected !~ /^!/);
	if    ($server->{down})    { start_node($server); }
	elsif ($mishap ne 'waits') { end_block($server, $s); }
	$front->start if $mishap eq 'front crashes';
	connect_to_front() if $expected eq '!gone';
	settle();
	return 1;
}

# All nodes have prepared the call, and something happens to it.
sub call_that_is_prepared
{
	my ($what, $sql, %call) = @_;
	my $is_refused = expected(%call) =~ /^!/;
	end_call(0);
	return 0 if $is_refused;
	my $holder = $front->session;
	$holder->query_safe('SELECT pg_advisory_lock(135)');
	start_asking($sql);
	my $waits = eventually(sub { $front->sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = $manager_pid AND NOT granted") eq '1' });
	push @trace, "  it is prepared: $mishap";
	$disagree ||= "$what does not wait before it decides" unless $waits;
	my $server = pick(@{ $call{servers} });
	my $expected = '';
	if    ($mishap eq 'cancelled when prepared')     { in_front('pg_cancel_backend'); $expected = '!57014'; }
	elsif ($mishap eq 'killed when prepared')        { in_front('pg_terminate_backend'); $expected = '!gone'; }
	elsif ($mishap eq 'front crashes when prepared') { $front->stop('immediate'); $expected = '!gone'; }
	elsif ($mishap eq 'node crashes when prepared')  { stop_node($server); }
	eval { $holder->quit };
	my $got = finish_asking();
	# the node has it when it is back
	start_node($server) if $server->{down};
	$front->start if $mishap eq 'front crashes when prepared';
	connect_to_front() if $expected eq '!gone';
	settle();
	$expected ||= expected(%call);
	$disagree ||= differ("$what that is prepared", meaning($got, %call), $expected);
	end_call($expected !~ /^!/);
	return 1;
}

# At any moment something happens to the call.
sub call_in_danger
{
	my ($what, $sql, %call) = @_;
	my $server = pick(@{ $call{servers} });
	push @trace, "  $mishap";
	start_asking($sql);
	usleep(rand 30_000);
	my $error = '!gone';
	if    ($mishap eq 'perhaps cancelled')     { in_front('pg_cancel_backend'); $error = '!57014'; }
	elsif ($mishap eq 'node perhaps crashes')  { stop_node($server); $error = '!08001'; }
	elsif ($mishap eq 'perhaps killed')        { in_front('pg_terminate_backend'); }
	elsif ($mishap eq 'front perhaps crashes') { $front->stop('immediate'); }
	my $got = finish_asking();
	start_node($server) if $server->{down};
	$front->start if $mishap eq 'front perhaps crashes';
	connect_to_front() if $error eq '!gone';
	settle();
	my $expected = expected(%call);
	my $done = $expected !~ /^!/;
	if ($done && $got eq '!gone')
	{
		# all nodes or none
		check_nodes();
		push @trace, $disagree ? '  was done' : '  was not done';
		$done = $disagree ne '';
		$disagree = '';
	}
	elsif ($done && $got eq $error)
	{
		$done = 0;
	}
	elsif ($got ne $error)
	{
		$disagree ||= differ($what, meaning($got, %call), $expected);
	}
	end_call($done);
	return 1;
}

# Have the mishap, if the call is one that can have it.
sub have
{
	my @call = @_;
	return $mishap =~ /perhaps/ ? call_in_danger(@call) : $mishap =~ /prepared/ ? call_that_is_prepared(@call) : call_that_waits(@call);
}

# A call of a procedure, unless it would wait for somebody.  What it is:
#	refusal		the error that the front itself must raise
#	servers		the nodes that are concerned: by default all
#	queue		whose row it locks, for mishaps
#	free		must it wait for nobody on the node?
#	do			have the model of the node do it: what cmq's function answers
#	all			what that is together
#	read		what the answer of the front means
# Returns whether it was called.
sub call
{
	my ($procedure, $arguments, %call) = @_;
	my $sql = "CALL cmq_cluster.$procedure($arguments)";
	my $what = "$procedure($arguments)";
	$call{all} //= sub { return '-' };
	$call{servers} //= [@servers];
	my $is_free = 1;
	foreach my $server (grep { !$_->{down} } @{ $call{servers} })
	{
		turn_to($server);
		$is_free &&= $call{free}->($server->{front});
	}
	# the call takes its locks itself
	end_call(0);
	return 0 unless $is_free;
	if ($mishap ne '' && !$call{refusal} && $call{queue} && @{ $call{servers} } && live() == @servers && have($what, $sql, %call))
	{
		$outcomes{$procedure}{$mishap}++;
		$mishap = '';
		return 1;
	}
	my $got = ask_front($sql);
	$outcomes{$procedure}{ $got =~ /^!(.*)/ ? $1 : 'done' }++;
	my $expected = expected(%call);
	$disagree ||= differ($what, meaning($got, %call), $expected);
	end_call($expected !~ /^!/);
	return 1;
}

# One that is for a queue.
sub call_for
{
	my ($q, $procedure, $arguments, %call) = @_;
	return call($procedure, join(', ', "'$q'", $arguments eq '' ? () : $arguments),
		servers => [ places($q) ], queue => $q, refusal => places($q) ? '' : '!42704', free => lock_of($q), %call);
}

# One that is for a topic, and perhaps a queue.
sub call_for_topic
{
	my ($topic, $procedure, $arguments, $q, $do) = @_;
	my $is_there = $servers[0]{model}->row($stranger, 'topic', $topic);
	return call($procedure, join(', ', "'$topic'", $arguments eq '' ? () : $arguments),
		refusal => $is_there || $procedure eq 'create_topic' ? '' : '!42704',
		free => sub { my ($s) = @_; return $model->lock($s, 'topics') && !grep { !$model->lock($s, "queue $_") } $q->($s); },
		do => $do);
}

sub any_of { my (@answers) = @_; return (grep { $_ eq 'true' } @answers) ? 't' : 'f'; }

sub lowest { my (@answers) = @_; return min(grep { $_ ne '-' } @answers) // '-'; }

sub lock_of
{
	my (@queues) = @_;
	return sub {
		my ($s) = @_;
		return !grep { !$model->lock($s, "queue $_") } @queues;
	};
}

# Messages of a queue on all nodes that are there, in the order of production.
sub all_messages { my ($q) = @_; return sort { $a->{id} <=> $b->{id} } map { $_->{model}->messages($stranger, $q) } live(); }

sub window
{
	my ($q) = @_;
	turn_to(pick(live()));
	my ($from, $to, $kind) = rand() < 0.5 ? a_window($stranger, $q) : (1, undef, pick('', '', 'a'));
	return ($from, $to, $kind, join ', ', time_of($from), defined $to ? time_of($to) : 'NULL', kind_sql($kind));
}

sub arguments_sql { my (%settings) = @_; return map { "$_ => '$settings{$_}'" } sort keys %settings; }

my @queues = qw(copy dead extra q);
my %totals;

my %calls = (
	rewind => sub {
		my $q = pick(qw(q q q q q q dead extra));
		my @messages = all_messages($q);
		my ($earliest) = grep { $_->{due} || $_->{state} ne 'deleted' } @messages;
		# most are in the range of all nodes
		my @choice = $earliest && rand() < 0.6 ? grep { $_->{id} <= $earliest->{id} } @messages : @messages;
		my ($from, $from_sql) = (0, "now() - interval '1 hour'");
		if (@choice && rand() < 0.8)
		{
			$from = pick(@choice)->{id} + pick(0, 0, 1);
			$from_sql = time_of($from);
		}
		($from, $from_sql) = (-1, "now() - interval '1 day 1 second'") if rand() < 0.05;
		return call_for(
			$q, 'rewind', $from_sql,
			read => sub { my ($time) = @_; return ask_front('SELECT ' . id_of("timestamptz '$time'")); },
			do => sub { my ($s) = @_; return $model->rewind($s, $q, $from); },
			all => sub { $totals{'rewinds of several nodes'}++ if 1 < grep { $_ ne '-' } @_; return lowest(@_); });
	},
	cancel_rewind => sub {
		my $q = pick(qw(q q q dead extra));
		return call_for(
			$q, 'cancel_rewind', '',
			do => sub { my ($s) = @_; return $model->cancel_rewind($s, $q); },
			all => \&any_of);
	},
	restore => sub {
		my $q = pick(qw(q q q q q q dead extra));
		my ($from, $to, $kind, $window) = window($q);
		my $meant = sub { my ($s) = @_; return $model->history($s, $q, $from, $to, $kind); };
		my $n = sum0(map { turn_to($_); scalar $meant->($stranger) } places($q));
		my $expected_count = rand() < 0.3 ? undef : $n + pick(0, 0, 0, 0, 1, -1);
		return call_for(
			$q, 'restore', "$window, " . ($expected_count // 'NULL'),
			free => sub { my ($s) = @_; return $model->lock($s, "queue $q") && !grep { $model->is_held($s, $q, $_) } $meant->($s); },
			do => sub { my ($s) = @_; return $model->restore($s, $q, $from, $to, $kind); },
			all => sub {
				my $sum = sum0(@_);
				return '!21000' if defined $expected_count && $expected_count != $sum;
				$totals{'restores on several nodes'}++ if 1 < grep { $_ } @_;
				return $sum;
			});
	},
	restore_messages => sub {
		my $q = pick(qw(q q q q q q dead extra));
		my @messages = all_messages($q);
		my @history = grep { $_->{state} eq 'deleted' && !$_->{due} } @messages;
		@messages = @history if @history && rand() < 0.7;
		my %ids = map { (@messages ? pick(@messages)->{id} : number(pick(@servers))) + pick(0, 0, 0, 0, 0, $CmqCluster::step) => 1 } 1 .. pick(1 .. 8);
		# of no node, of nothing that there can be, and none
		$ids{ pick(5, 0, -13, -15, 1, 1 << 62) } = 1 if rand() < 0.1;
		%ids = () if rand() < 0.03;
		my %class = map { $_ => $_ % $CmqCluster::step } keys %ids;
		my $of_none = grep { my $class = $_; !grep { number($_) == $class } places($q) } values %class;
		my $ids_of = sub { return grep { $class{$_} == $model->{id_class} } keys %ids; };
		my $is_meant = sub { my ($m) = @_; return exists $ids{ $m->{id} }; };
		return call_for(
			$q, 'restore_messages', "'{" . join(',', reverse sort keys %ids) . "}'",
			refusal => !places($q) ? '!42704' : $of_none ? '!22023' : '',
			servers => [ grep { my $server = $_; grep { number($server) == $_ } values %class } places($q) ],
			free => sub { my ($s) = @_; return $model->lock($s, "queue $q") && !grep { $is_meant->($_) && $model->is_held($s, $q, $_) } $model->history($s, $q, undef, undef, ''); },
			do => sub { my ($s) = @_; return $model->restore_messages($s, $q, $ids_of->()); },
			all => sub { $totals{'restores by id on several nodes'}++ if 1 < grep { $_ ne '-' } @_; return '{' . join(',', sort { $a <=> $b } map { $_ eq '-' ? () : split / / } @_) . '}'; });
	},
	clear_queue => sub {
		my $q = pick(qw(q copy dead extra));
		return call_for(
			$q, 'clear_queue', '',
			free => sub { my ($s) = @_; return $model->lock($s, "queue $q") && !grep { $model->is_held($s, $q, $_) } $model->pending($s, $q); },
			do => sub { my ($s) = @_; return $model->clear_queue($s, $q); },
			all => sub { return sum0(@_); });
	},
	pause_queue => sub { return set_paused(1, pick(@queues)); },
	resume_queue => sub {
		my @paused = grep { my $q = $_; grep { $_->{model}->is_paused($stranger, $q) } places($q) } @queues;
		return set_paused(0, pick(@queues, (@paused) x 5));
	},
	alter_queue => sub {
		my $q = pick(qw(q q copy extra));
		turn_to(pick(live()));
		my $room = $model->pending($stranger, $q) + pick(1, 5);
		my @some = shuffle([ visibility_timeout => pick(43200, 43199) ], [ rewind_seconds => pick(80000, 86400) ], [ rewind_share => pick(1, 40, 70, 100) ],
			[ dedup_seconds => pick(1000, 86400) ], [ max_msg_size => pick(1024, 1048576) ], [ max_msg_heap_num => pick($room, 1000, 1000) ],
			[ max_receive_count => pick(1, 1, 2, 3) ], [ max_time_to_live => 300 ]);
		my %settings = map { @$_ } @some[ 0 .. rand 4 ];
		# see RandomCalls
		return if grep { /^max_msg/ } keys %settings and grep { $_->{model}->sources($stranger, $q) } @servers;
		return if grep { my $setting = $_; grep { !$_->{model}->queue($stranger, $q)->{$setting} } places($q) } grep { /^(?:rewind|dedup)_seconds/ } keys %settings;
		return call_for(
			$q, 'alter_queue', join(', ', arguments_sql(%settings)),
			free => sub { my ($s) = @_; my $dead = ($model->queue($s, $q) // { dead_letter_queue => '' })->{dead_letter_queue}; return $model->lock($s, "queue $q") && ($dead eq '' || $model->lock($s, "queue $dead")); },
			do => sub { my ($s) = @_; return $model->alter_queue($s, $q, %settings); });
	},
	alter_times => sub {
		my $q = pick(qw(q q extra));
		my $is_off = grep { !$_->{model}->queue($stranger, $q)->{rewind_seconds} } places($q);
		my ($setting, $value) = rand() < 0.3 ? (dedup_seconds => pick(0, 1000, 86400)) : !$is_off && rand() < 0.5 ? (msg_retention_seconds => pick(345600, 259200)) :
		  (rewind_seconds => !$is_off && rand() < 0.3 ? 0 : pick(80000, 86400));
		return call_for(
			$q, 'alter_queue', "$setting => $value",
			free => sub { my ($s) = @_; return $model->is_alone($s, $q) && $model->lock($s, "queue $q"); },
			do => sub { my ($s) = @_; return $model->alter_queue($s, $q, $setting => $value); });
	},
	bind_dead_letter => sub {
		my ($q, $dead) = (pick(qw(q q copy extra)), pick(qw(dead dead dead q extra)));
		my %policy = %{ pick((map { { max_receive_count => $_ } } 1, 1, 2, 3), { max_time_to_live => 300 }, { max_receive_count => 2, max_time_to_live => 300 }) };
		return if grep { $_ && ($_->{max_msg_size} < 1048576 || $_->{max_msg_heap_num} < 1000) } map { $_->{model}->queue($stranger, $dead) } @servers;
		return call_for(
			$q, 'alter_queue', join(', ', arguments_sql(dead_letter_queue => $dead, %policy)),
			free => lock_of($q, $dead),
			do => sub { my ($s) = @_; return $model->alter_queue($s, $q, dead_letter_queue => $dead, %policy); });
	},
	unbind_dead_letter => sub {
		my $q = pick(qw(q copy extra));
		return call_for(
			$q, 'unbind_dead_letter', '',
			do => sub { my ($s) = @_; return $model->unbind_dead_letter($s, $q); });
	},
	create_queue => sub {
		my $dead = pick('', 'dead');
		my %settings = (visibility_timeout => 43200, rewind_seconds => pick(0, 86400, 86400), ordered => pick(0, 1), dedup_seconds => pick(0, 0, 1000),
			$dead ? (dead_letter_queue => $dead, max_receive_count => 2, rewind_share => 50) : (max_msg_size => 1024));
		my $name = places('extra') == @servers ? pick(qw(extra Extra)) : 'extra';
		my @targets = rand() < 0.6 ? @servers : grep { rand() < 0.6 } @servers;
		@targets = pick(@servers) unless @targets;
		my $nodes = @targets < @servers ? ", nodes => '{" . join(',', map { number($_) } @targets) . "}'" : '';
		my $done = call(
			'create_queue', join(', ', "'$name'", arguments_sql(%settings)) . $nodes,
			servers => \@targets,
			refusal => $name eq 'extra' && places('extra') ? '!42710' : '',
			free => sub { my ($s) = @_; return $model->lock($s, 'creation of queues') && (!$dead || $model->lock($s, "queue $dead")); },
			do => sub { my ($s) = @_; return $model->create_queue($s, 'extra', %settings); });
		$places{extra} = \@targets if !places('extra') && grep { $_->{model}->queue($stranger, 'extra') } @servers;
		return $done;
	},
	drop_queue => sub {
		# of the others only one that cannot be dropped
		my $q = pick('extra', 'extra', grep { my $q = $_; grep { $_->{model}->sources($stranger, $q) } places($q) } @queues);
		my $done = call_for(
			$q, 'drop_queue', '',
			free => sub { my ($s) = @_; return $model->is_alone($s, $q) && $model->lock($s, "queue $q") && $model->lock($s, 'topics'); },
			do => sub { my ($s) = @_; return $model->drop_queue($s, $q); });
		delete $places{$q} unless grep { $_->{model}->queue($stranger, $q) } @servers;
		return $done;
	},
	create_topic => sub {
		my %types = (news => 'tag', routes => 'routing');
		my $name = pick('news', 'routes', (grep { !$servers[0]{model}->row($stranger, 'topic', $_) } 'news', 'routes') x 5);
		return call_for_topic($name, 'create_topic', "'$types{$name}'", sub { }, sub { my ($s) = @_; return $model->create_topic($s, $name, $types{$name}); });
	},
	drop_topic => sub {
		my %used = map { $_->{topic} => 1 } map { $_->{model}->rows($stranger, 'subscription') } @servers;
		my $name = pick('news', 'routes', (grep { !$used{$_} } 'news', 'routes') x 5);
		return call_for_topic($name, 'drop_topic', '', sub { }, sub { my ($s) = @_; return $model->drop_topic($s, $name); });
	},
	subscribe => sub {
		my ($topic, $name, $q) = (pick(qw(news routes)), pick(qw(s1 s2)), pick(qw(q q copy dead extra)));
		my ($tags, $keys) = (pick(undef, ['a'], [ 'b', 'c' ]), pick(['a'], ['a.*'], ['a.#'], ['#'], [ '*.a', '#.c' ]));
		undef(rand() < 0.1 ? $tags : $topic eq 'news' ? $keys : $tags);
		return call_for_topic(
			$topic, 'subscribe', "'$name', '$q', @{[text_array_sql($tags)]}, @{[text_array_sql($keys)]}",
			sub { return $q; },
			sub { my ($s) = @_; return $model->subscribe($s, $topic, $name, $q, $tags, $keys); });
	},
	unsubscribe => sub {
		my ($topic, $name) = (pick(qw(news routes)), pick(qw(s1 s2)));
		return call_for_topic(
			$topic, 'unsubscribe', "'$name'",
			sub { my ($s) = @_; my $row = $model->row($s, 'subscription', "$topic $name"); return $row ? $row->{queue} : (); },
			sub { my ($s) = @_; return $model->unsubscribe($s, $topic, $name); });
	},
	# no call that is for all nodes can be undone
	in_transaction => sub {
		my $got = ask_front('BEGIN');
		$got = ask_front(pick(q{CALL cmq_cluster.restore('q', now() - interval '1 hour')}, q{CALL cmq_cluster.clear_queue('q')}));
		ask_front('ROLLBACK');
		$disagree ||= differ('a call in a transaction', $got, '!2D000');
		return 1;
	},
	(map { my $look = $_; ("look_at_$look" => sub { look($look, @_); return 1; }) } qw(attributes preview views rewinds nodes)));

sub set_paused
{
	my ($paused, $q) = @_;
	return call_for(
		$q, $paused ? 'pause_queue' : 'resume_queue', '',
		do => sub { my ($s) = @_; return $model->set_paused($s, $q, $paused); },
		all => \&any_of);
}

my %weights = (rewind => 10, restore => 12, restore_messages => 12, cancel_rewind => 4, create_queue => 3, clear_queue => 1, alter_times => 1, look_at_attributes => 3, look_at_preview => 4, look_at_views => 4);
my @calls = map { ($_) x ($weights{$_} // 2) } sort keys %calls;

#
# What the front shows
#

# For each node what its model says, or that there is nobody to ask.
sub of_each
{
	my ($servers, $what) = @_;
	return map { turn_to($_); my $n = number($_); $_->{down} ? "$n !" : map { "$n $_" } $what->() } @$servers;
}

# A query that returns a line for each node and thing must return these.
sub shows
{
	my ($what, $line, $relation, @expected) = @_;
	my $got = ask_front("SELECT string_agg(l, ';' ORDER BY l COLLATE \"C\") FROM (SELECT concat_ws(' ', coalesce(node::text, 'all'), $line) AS l FROM $relation) x");
	$disagree ||= differ($what, $got, @expected ? join(';', sort @expected) : '-');
	return;
}

# The range of legal rewinds is the last so many seconds, up to the oldest message.
sub in_range { my ($seconds) = @_; return "abs(extract(epoch FROM now() - earliest_rewind_time) - $seconds) < 60 AND latest_rewind_time = min_msg_time"; }

my $latest = "CASE WHEN latest_rewind_time IS NULL THEN 'none' WHEN latest_rewind_time >= statement_timestamp() THEN 'now' ELSE @{[id_of('latest_rewind_time')]}::text END";

my %looks = (
	status => sub {
		shows('cmq_cluster.status',
			"CASE WHEN error IS NOT NULL THEN '!' ELSE concat_ws(' ', queue, ready, in_flight, delayed, left_of_rewind, CASE WHEN paused_since IS NULL THEN 'goes' ELSE 'paused' END, coalesce(dead_letters::text, '-'), $latest) END",
			'cmq_cluster.status', of_each(\@servers, sub { map { "$_->{name} " . $model->status($stranger, $_->{name}) } $model->rows($stranger, 'queue') }));
	},
	metrics => sub {
		shows('cmq_cluster.metrics',
			"CASE WHEN error IS NOT NULL THEN '!' ELSE concat_ws(' ', queue, sent, received, redelivered, rewound, deleted, dead_lettered, body_bytes, empty_receives, waits, pending_msg_num, left_of_rewind, inactive_msg_num, delay_msg_num, oldest_ready_seconds IS NOT NULL) END",
			'cmq_cluster.metrics', of_each(\@servers, sub { map { "$_->{name} " . $model->metrics($stranger, $_->{name}) } $model->rows($stranger, 'queue') }));
	},
	attributes => sub {
		my $q = pick(@queues);
		my @places = places($q) or return differ("attributes of $q", ask_front("SELECT cmq_cluster.queue_attributes('$q')"), '!42704');
		my @settings = qw(visibility_timeout msg_retention_seconds rewind_seconds rewind_share dedup_seconds max_msg_size max_msg_heap_num dead_letter_queue max_receive_count max_time_to_live);
		# four numbers, these settings, the oldest message, and that the range is right
		my @each = of_each(\@places, sub { $model->attributes($stranger, $q) });
		my @rows = map { [ (split / /)[ 1 .. 15 ] ] } @each;
		my $all = '!';
		# what a setting is that is NULL: none, or different ones
		my %null = (dead_letter_queue => '-', max_receive_count => 0, max_time_to_live => 0);
		my %null_of_all = map { $_ => '?' } @settings;
		my $range = 'earliest_rewind_time IS NULL AND latest_rewind_time IS NULL';
		if (!grep { $_->{down} } @places)
		{
			my @sums = map { my $i = $_; sum0(map { $_->[$i] } @rows) } 0 .. 3;
			my @ids = grep { $_ ne 'now' } map { $_->[14] } @rows;
			my %common;
			foreach my $i (0 .. $#settings)
			{
				my %values = map { $_->[ 4 + $i ] => 1 } @rows;
				$common{ $settings[$i] } = keys %values > 1 ? '?' : (keys %values)[0];
				$null_of_all{ $settings[$i] } = $null{ $settings[$i] } if keys %values == 1 && defined $null{ $settings[$i] };
			}
			$all = join ' ', @sums, @common{@settings}, min(@ids) // 'now', 't';
			my $seconds = min(map { $_->[6] } @rows);
			$range = in_range($seconds) if $seconds;
		}
		my @values = map { "coalesce($_\::text, CASE WHEN node IS NULL THEN '$null_of_all{$_}' ELSE '@{[$null{$_} // '?']}' END)" } @settings;
		shows("attributes of $q",
			"CASE WHEN error IS NOT NULL AND create_time IS NULL THEN '!' ELSE concat_ws(' ', active_msg_num, inactive_msg_num, delay_msg_num, rewind_msg_num, @{[join ', ', @values]},
				CASE WHEN min_msg_time >= statement_timestamp() THEN 'now' ELSE @{[id_of('min_msg_time')]}::text END,
				CASE WHEN node IS NULL THEN $range WHEN rewind_seconds > 0 THEN @{[in_range('rewind_seconds')]} ELSE earliest_rewind_time IS NULL AND latest_rewind_time IS NULL END) END",
			"cmq_cluster.queue_attributes('$q')", @each, "all $all");
		return '';
	},
	preview => sub {
		my $q = pick(qw(q q q dead extra));
		my ($from, $to, $kind, $window) = window($q);
		my @places = places($q) or return differ("preview in $q", ask_front("SELECT cmq_cluster.rewind_preview('$q', $window)"), '!42704');
		my @each = of_each(\@places, sub { my $preview = $model->preview($stranger, $q, $from, $to, $kind); return $preview =~ /^!/ ? '!' : $preview; });
		my @rows = map { [ (split / /)[ 1 .. 4 ] ] } @each;
		my @found = grep { defined $_->[2] } @rows;
		my $all = (grep { $_->[0] eq '!' } @rows) ? '!' : join ' ', sum0(map { $_->[0] } @rows), sum0(map { $_->[1] } @rows), @found ? (min(map { $_->[2] } @found), max(map { $_->[3] } @found)) : ();
		shows("preview in $q", "CASE WHEN error IS NOT NULL THEN '!' ELSE concat_ws(' ', messages, body_bytes, @{[id_of('first_enqueued_at')]}, @{[id_of('last_enqueued_at')]}) END",
			"cmq_cluster.rewind_preview('$q', $window)", @each, "all $all");
		return '';
	},
	views => sub {
		my $q = pick(@queues);
		my @places = places($q) or return differ("messages of $q", ask_front("SELECT FROM cmq_cluster.q_${q}_all"), '!42P01');
		my %of = (all => sub { 1 }, live => sub { !/:deleted:/ }, history => sub { /:deleted:/ });
		my $view = pick(sort keys %of);
		my $group = (grep { $_->{model}->is_ordered($stranger, $q) } @places) ? 'message_group' : 'NULL';
		my $state = $view eq 'history' ? "'deleted'" : 'state';
		shows("cmq_cluster.q_${q}_$view", "CASE WHEN msg_id IS NULL THEN '!' ELSE concat_ws(':', msg_id, $state, receive_count, rewind_count, $group) END",
			"cmq_cluster.q_${q}_$view", of_each(\@places, sub { grep { $of{$view}->() } split / /, $model->contents($stranger, $q) }));
		return '';
	},
	rewinds => sub {
		my $seen = join ' ', map { 'WHEN ' . number($_) . " THEN id > $_->{rewinds_seen}" } @servers;
		shows('cmq_cluster.rewinds', "CASE WHEN error IS NOT NULL THEN '!' ELSE concat_ws(' ', queue, kind, into_queue, messages) END",
			"cmq_cluster.rewinds WHERE error IS NOT NULL OR CASE node $seen END", of_each(\@servers, sub { $model->rewinds($stranger) }));
		return '';
	},
	nodes => sub {
		shows('cmq_cluster.nodes', "CASE WHEN error IS NOT NULL THEN '!' ELSE concat_ws(' ', queues, pending, in_doubt, accepts) END", 'cmq_cluster.nodes',
			of_each(\@servers, sub { my @here = $model->rows($stranger, 'queue'); return join ' ', scalar @here, sum0(map { scalar grep { $_->{due} || $_->{state} ne 'deleted' } $model->messages($stranger, $_->{name}) } @here), 0, 't'; }));
		return '';
	});

sub look
{
	my ($what) = @_;
	my $wrong = $looks{$what}->();
	$disagree ||= $wrong if $wrong;
	return;
}

#
# The program
#

sub end_everything
{
	foreach my $server (live())
	{
		turn_to($server);
		end_all();
	}
	return;
}

# The front must do this.
sub manage
{
	my ($call) = @_;
	my $got = ask_front("CALL cmq_cluster.$call");
	$disagree ||= differ($call, $got, '-');
	return;
}

sub begin_anew
{
	my %ordered = map { $_ => pick(0, 1) } qw(q copy dead);
	$_->{observer}->query_safe('SELECT cmq_unsubscribe(topic, subscription) FROM cmq.subscriptions') foreach @servers;
	manage("drop_topic('$_')") foreach grep { $_ ne '-' } split /\n/, ask_front('SELECT topic FROM cmq_cluster.topic');
	$_->{observer}->query_safe(q{SELECT cmq_unbind_dead_letter(queue) FROM cmq.queues WHERE dead_letter_queue IS NOT NULL}) foreach @servers;
	manage("drop_queue('$_')") foreach grep { $_ ne '-' } split /\n/, ask_front('SELECT queue FROM cmq_cluster.queue');
	%places = ();
	foreach my $row (first_queues(%ordered))
	{
		my ($name, %settings) = @$row;
		manage("create_queue('$name', " . join(', ', arguments_sql(%settings)) . ')');
		$places{$name} = [@servers];
	}
	manage($_) foreach q{create_topic('news')}, q{create_topic('routes', 'routing')}, q{subscribe('news', 's1', 'q', '{a}')}, q{subscribe('routes', 's1', 'copy', binding_keys => '{a.#}')};
	my @told = @trace;
	foreach my $server (@servers)
	{
		$server->{observer}->query_safe('CREATE INDEX broken ON cmq_data.q_dead_pending (breaks(receive_count))');
		turn_to($server);
		forget_all($server->{front});
		model_first_queues(%ordered);
	}
	@trace = @told if $disagree;
	return;
}

my @still_to_call;

sub call_of_front
{
	my $before = @trace;
	# at first each of them once, as soon as there is something for it to do
	my @later;
	while (!$disagree && @trace == $before)
	{
		my $first = shift @still_to_call;
		my $name = $first // pick(@calls);
		push @later, $name if !$calls{$name}->() && defined $first;
	}
	unshift @still_to_call, @later;
	check_nodes();
	look($_) foreach live() < @servers ? sort keys %looks : qw(status metrics);
	return;
}

# a queue of the cluster is managed by the front, and is on its nodes
@operations = grep { !/^(?:create|drop)_/ } @operations;
# and for all of them mostly by the front
my $manages = qr/^(?:rewind|cancel_rewind|restore|restore_messages|clear_queue|pause|resume|alter_.*|.*bind_dead_letter|(?:un)?subscribe)$/;
@operations = ((grep { !/$manages/ } @operations) x 4, grep { /$manages/ } @operations);
# there must be something to bring back
push @operations, ('send_batch', 'consume') x 30;

my @mishaps = (
	'waits', 'cancelled', 'node cancels', 'node kills', 'killed', 'node crashes', 'front crashes',
	'cancelled when prepared', 'killed when prepared', 'front crashes when prepared', 'node crashes when prepared',
	'perhaps cancelled', 'node perhaps crashes', 'perhaps killed', 'front perhaps crashes', 'node is down');
# half a minute
push @mishaps, 'waits in vain' if $ENV{CMQ_TEST_LONG};
my @still_to_have;

my $back_at = 0;

sub have_mishap
{
	my ($step) = @_;
	@still_to_have = shuffle(@mishaps) unless @still_to_have;
	$mishap = shift @still_to_have;
	return if $mishap ne 'node is down';
	stop_node(pick(@servers)) if live() == @servers;
	$back_at = $step + 8;
	$mishap = '';
	return;
}

# All is compared, and begins anew.
sub end_queues
{
	end_everything();
	check_nodes();
	look($_) foreach sort keys %looks;
	foreach (@servers)
	{
		turn_to($_);
		check_rewinds();
	}
	begin_anew() unless $disagree;
	return;
}

sub one_step
{
	my ($step) = @_;
	my $overlap = $step / 25 % 2;
	end_everything() unless $overlap;
	push @trace, "step $step";
	have_mishap($step) if $step % 10 == 0 && $mishap eq '';
	if ($step == $back_at || $step == $steps)
	{
		start_node($_) foreach grep { $_->{down} } @servers;
		settle();
	}
	foreach (1 .. 2)
	{
		turn_to(pick(live()));
		# what the step before has prepared here keeps its locks
		end_all() unless $overlap;
		age() if !$overlap && rand() < 0.1;
		end_delays() if !$overlap && rand() < 0.2;
		step(pick(@{ $server->{sessions} }), $overlap);
		check();
	}
	call_of_front() if !$disagree && rand() < 0.7;
	my $size = sum0(map { my $of = $_; map { scalar $of->{model}->messages($stranger, $_) } @queues } @servers);
	end_queues() if !$disagree && live() == @servers && ($size > 300 || $step == $steps);
	return;
}

connect_to_front();
srand(seed());
@still_to_call = shuffle(sort keys %calls);
for (my $step = 0; $step <= $steps; $step++)
{
	# what chance has left out gets more steps
	$steps += 50 if $step == $steps && $steps >= $full_program && $steps < 5 * $full_program && !sum0(values %totals);
	# what must work has not
	eval { $step ? one_step($step) : begin_anew(); 1 } or $disagree ||= "died: $@";
	last if $disagree;
}
report("$steps steps, $transactions transactions on nodes, $prepares prepared");
note(join ', ', map { "$_ $totals{$_}" } sort keys %totals);
if (!$disagree && $steps >= $full_program)
{
	# nodes and users are for other tests
	my @procedures = split /\n/, $front->sql(q{SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'cmq_cluster'::regnamespace AND proname !~ '^_|_node$|_user$|^adopt_|^move_queue$|^grant$|^revoke$|^connection$'});
	is(join(' ', grep { !$called{$_} } @procedures), '', 'all procedures for queues and topics took part, of ' . @procedures);
	cmp_ok(sum0(values %totals), '>', 0, 'messages of several nodes came back together');
}
foreach my $procedure (sort grep { !$RandomCalls::operations{$_} } keys %outcomes)
{
	note("$procedure: ", join ', ', map { "$_ $outcomes{$procedure}{$_}" } sort keys %{ $outcomes{$procedure} });
}
# some may be gone if the test has failed
eval { $_->quit } foreach $manager, map { $_->{observer}, map { $_->{psql} } @{ $_->{sessions} } } @servers;
$cluster->is_whole('at the end') unless $disagree;
$cluster->stop;
done_testing();
