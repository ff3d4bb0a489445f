# Private PostgreSQL servers for the benchmarks, and the programs that talk to
# them: one, and more for a cluster.  They lie in a directory of their own on a real
# disk, are reached by sockets in there alone, and are stopped and removed at the end,
# also after an error.  A server refuses to run as root: then user postgres runs it.
#
# Where a database is named, it can be a connection string.

package Server;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use POSIX qw(setlocale LC_ALL);
use Time::HiRes qw(sleep time);

my $stopping;
my %children;

sub new
{
	my ($class, %arg) = @_;
	my $pg_config = $ENV{PG_CONFIG} || 'pg_config';

	delete $ENV{$_} foreach grep { /^PG/ && $_ ne 'PG_CONFIG' } keys %ENV;
	$ENV{LC_ALL} = 'C';
	chomp(my $bin = `$pg_config --bindir 2>/dev/null`);
	die "$pg_config does not run: put PostgreSQL's pg_config on PATH or name it in PG_CONFIG\n"
	  unless -x "$bin/postgres";
	foreach my $program (qw(initdb pg_ctl psql pgbench))
	{
		die "$program is not in $bin\n" unless -x "$bin/$program";
	}
	chomp(my $library = `$pg_config --pkglibdir`);
	$library .= '/cmq.so';
	die "$library is missing: run \"make && make install\" with the same pg_config first\n"
	  unless -e $library;

	my $parent = abs_path($arg{parent} // '/var/tmp');
	die "there is no directory $arg{parent}\n" unless defined $parent && -d $parent;
	my $dir = tempdir('cmq-bench-XXXXXX', DIR => $parent, CLEANUP => 1);
	my $self = bless {
		servers => [],
		groups => [],	# control groups that are to be removed when the servers have stopped
		bin => $bin,
		library => $library,
		dir => $dir,
		parent => $parent,
		as => $> == 0 ? ['runuser', '-u', 'postgres', '--'] : [],
		pid => $$,
	}, $class;
	if ($> == 0)
	{
		my ($uid, $gid) = (getpwnam 'postgres')[ 2, 3 ];
		die "as root a user \"postgres\" is needed to run the server\n" unless defined $uid;
		chown $uid, $gid, $dir;
	}
	chmod 0755, $dir;
	@ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)} = ($dir, 5432, 'postgres', 'postgres');
	return $self;
}

sub start
{
	my ($self, %arg) = @_;

	$self->start_one('data', 5432, <<"CONF");
shared_buffers = 2GB
min_wal_size = 4GB
track_commit_timestamp = $arg{track_commit_timestamp}
CONF

	# WAL files are made in advance, as they are there on a server that has run
	# for a while: no run pays for making them.
	$self->sql('postgres',
		q{SELECT count(pg_logical_emit_message(false, 'bench', repeat('x', 1024 * 1024)))
			FROM generate_series(1, 2048)}, 'CHECKPOINT');
	return;
}

# One more server, in a directory of this name.  What the settings do not say is the same
# on all.
sub start_one
{
	my ($self, $name, $port, $settings) = @_;
	my $data = "$self->{dir}/$name";

	$stopping = $self;
	push @{ $self->{servers} }, $name;
	$self->quietly(@{ $self->{as} }, "$self->{bin}/initdb", '-D', $data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale');

	# No checkpoint falls into a run: there is one before each, and none is due
	# before the next.
	open my $conf, '>>', "$data/postgresql.conf" or die "postgresql.conf: $!\n";
	print $conf <<"CONF";
listen_addresses = ''
unix_socket_directories = '$self->{dir}'
unix_socket_permissions = 0700
port = $port
max_connections = 100
shared_preload_libraries = 'cmq'
fsync = on
synchronous_commit = on
full_page_writes = on
max_wal_size = 64GB
checkpoint_timeout = 1d
$settings
CONF
	close $conf;
	$self->quietly(@{ $self->{as} }, "$self->{bin}/pg_ctl", '-D', $data, '-l', "$self->{dir}/$name.log", '-s', '-w', '-t', '300', 'start');
	return;
}

sub postmaster
{
	my ($self, $name) = @_;
	open my $file, '<', "$self->{dir}/$name/postmaster.pid" or die "$name/postmaster.pid: $!\n";
	chomp(my $pid = <$file>);
	return $pid;
}

sub stop
{
	my ($self) = @_;

	undef $stopping;
	foreach my $name (splice @{ $self->{servers} })
	{
		system(@{ $self->{as} }, "$self->{bin}/pg_ctl", '-D', "$self->{dir}/$name", '-m', 'immediate', '-s', 'stop')
		  if -e "$self->{dir}/$name/postmaster.pid";
		system('rm', '-rf', "$self->{dir}/$name");
	}
	foreach my $group (splice @{ $self->{groups} })
	{
		rmdir $group or warn "control group $group: $!\n";
	}
	return;
}

# On a signal: what we wait for must not keep us.
sub interrupt
{
	kill 'TERM', keys %children;
	return;
}

END
{
	my $status = $?;
	$stopping->stop if $stopping && $stopping->{pid} == $$;
	$? = $status;
}

# Processes that others have started, and have waited for.
sub began
{
	my ($self, $pid) = @_;
	$children{$pid} = 1;
	return;
}

sub ended
{
	my ($self, $pid) = @_;
	delete $children{$pid};
	return;
}

# Run a command; its output is shown when it fails.
sub quietly
{
	my ($self, @command) = @_;
	return $self->finish($self->begin(@command));
}

# The same in two steps, so that several can run at once.
sub begin
{
	my ($self, @command) = @_;
	my $pid = open my $out, '-|';

	die "fork: $!\n" unless defined $pid;
	if ($pid == 0)
	{
		open STDERR, '>&', \*STDOUT;
		open STDIN, '<', '/dev/null';
		chdir $self->{dir};
		exec @command or exit 127;
	}
	$children{$pid} = 1;
	return { pid => $pid, out => $out, command => \@command };
}

sub finish
{
	my ($self, $run) = @_;
	my $out = $run->{out};
	my $output = do { local $/; <$out> };

	delete $children{ $run->{pid} };
	close $out or die 'failed: ' . join(' ', grep { defined } @{ $run->{command} }[ 0 .. 3 ]) . "\n$output";
	return $output;
}

# Run SQL, given as statements, \-commands or hashes of psql variables; the
# result as one string without the last newline.
sub sql
{
	my ($self, $db, @what) = @_;
	my @args;

	foreach my $what (@what)
	{
		push @args, ref $what ? map { ('-v', "$_=$what->{$_}") } sort keys %$what
		  : -e $what ? ('-f', $what) : ('-c', $what);
	}
	local $ENV{PGOPTIONS} = '-c client_min_messages=warning';
	my $result = $self->quietly("$self->{bin}/psql", '-X', '-q', '-A', '-t', '-F', "\t",
		'-v', 'ON_ERROR_STOP=1', @args, $db);
	chomp $result;
	return $result;
}

# Milliseconds that each of some statements took at best, when they were run in turn so
# many times in one session, after a time that does not count.
sub timed_in_turn
{
	my ($self, $db, $rounds, @statements) = @_;
	my $script = "\\o /dev/null\n\\timing on\n" . join('', map { "$_;\n" } @statements) x ($rounds + 1);
	my $file = "$self->{dir}/in_turn.sql";

	open my $out, '>', $file or die "$file: $!\n";
	print $out $script;
	close $out;
	chmod 0644, $file;
	my @ms = $self->quietly("$self->{bin}/psql", '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, $db) =~ /^Time: ([0-9.]+) ms/mg;
	die 'some statements took no time' if @ms != @statements * ($rounds + 1);
	return map {
		my $i = $_;
		(sort { $a <=> $b } map { $ms[ $i + $_ * @statements ] } 1 .. $rounds)[0]
	} 0 .. $#statements;
}

# Milliseconds that a statement took, its commit included; by psql's \timing.
sub timed
{
	my ($self, $db, $sql) = @_;
	my $out = $self->quietly("$self->{bin}/psql", '-X', '-q', '-A', '-t', '-v',
		'ON_ERROR_STOP=1', '-c', 'SELECT 1', '-c', '\timing on', '-c', $sql, $db);
	my ($ms) = $out =~ /^Time: ([0-9.]+) ms/m or die "no time in: $out";
	return $ms;
}

# A fresh database with an extension.
sub database
{
	my ($self, $db, $extension) = @_;
	$self->sql('postgres', "DROP DATABASE IF EXISTS $db WITH (FORCE)", "CREATE DATABASE $db");
	$self->sql($db, "CREATE EXTENSION $extension CASCADE") if $extension;
	return;
}

sub available
{
	my ($self, $extension) = @_;
	return $self->sql('postgres',
		"SELECT default_version FROM pg_available_extensions WHERE name = '$extension'");
}

# Run pgbench.  Returns a hash: count of transactions, tps, series of tps by
# second if progress is asked for.  With rate pgbench begins no more than so many in a second.
sub pgbench
{
	my ($self, $db, %arg) = @_;
	return $self->finish_pgbench($self->begin_pgbench($db, %arg));
}

# The same in two steps.
sub begin_pgbench
{
	my ($self, $db, %arg) = @_;
	my $clients = $arg{clients};
	my $threads = $clients < $self->cores ? $clients : $self->cores;

	return $self->begin("$self->{bin}/pgbench", '-n', '-M', 'prepared', '-c', $clients,
		'-j', $arg{threads} // $threads, ($arg{transactions} ? ('-t', $arg{transactions}) : ('-T', $arg{seconds})),
		($arg{progress} ? ('-P', 1) : ()), ($arg{rate} ? ('-R', $arg{rate}) : ()),
		(map { ('-D', "$_=$arg{vars}{$_}") } sort keys %{ $arg{vars} || {} }),
		'-f', $arg{script}, $db);
}

sub finish_pgbench
{
	my ($self, $run) = @_;
	my $output = $self->finish($run);
	my ($count) = $output =~ /^number of transactions actually processed: (\d+)/m;
	my ($tps) = $output =~ /^tps = ([0-9.]+)/m;
	my @series = $output =~ /^progress: [0-9.]+ s, ([0-9.]+) tps/mg;

	die "pgbench said nothing useful:\n$output" unless defined $tps;
	return { count => $count, tps => $tps, series => \@series };
}

sub slurp
{
	my ($file) = @_;
	open my $in, '<', $file or return;
	local $/;
	return scalar <$in>;
}

# Processor time, in seconds, that a server has used so far, user and system: that of the
# postmaster, of its children, and of those that have ended.
sub cpu
{
	my ($self, $name) = @_;
	my $postmaster = $self->postmaster($name);
	my $ticks = POSIX::sysconf(POSIX::_SC_CLK_TCK);
	my $used = 0;

	foreach my $file (glob '/proc/[0-9]*/stat')
	{
		my ($pid) = $file =~ /(\d+)/;
		my $stat = slurp($file) // next;
		my @field = split ' ', $stat =~ s/.*\) //sr;
		next unless $pid == $postmaster || $field[1] == $postmaster;
		my $nanoseconds = slurp("/proc/$pid/schedstat");
		$used += defined $nanoseconds ? (split ' ', $nanoseconds)[0] / 1e9 : ($field[11] + $field[12]) / $ticks;
		$used += ($field[13] + $field[14]) / $ticks if $pid == $postmaster;
	}
	return $used;
}

sub children
{
	my ($self, $name) = @_;
	my $postmaster = $self->postmaster($name);
	return map { /(\d+)/ } grep { (slurp($_) // '') =~ /\) \S+ $postmaster /s } glob '/proc/[0-9]*/stat';
}

# Those that serve a client, and those that have ended without the postmaster's notice:
# when it takes notice, their processor time is nowhere, or counted twice, for a moment.
sub sessions
{
	my ($self, $name) = @_;
	my (@serving, @ended);
	foreach my $pid ($self->children($name))
	{
		my $title = slurp("/proc/$pid/cmdline") // '';
		push @serving, $pid if $title =~ /\[local\]/;
		push @ended, $pid if $title eq '';
	}
	return (\@serving, \@ended);
}

# Wait until no more than so many clients are served, and all that has ended is noticed.
sub wait_for_sessions
{
	my ($self, $name, $n) = @_;
	foreach (1 .. 200)
	{
		my ($serving, $ended) = $self->sessions($name);
		return scalar @$serving if @$serving <= $n && !@$ended;
		sleep 0.05;
	}
	die "sessions of $name do not end\n";
}

# Processor time that each of some servers uses while code runs and its sessions end; and
# what the code returns.
sub used_by
{
	my ($self, $names, $code) = @_;
	my %before;

	# those of the preparation are about to end
	sleep 0.1;
	my %sessions = map { $_ => $self->wait_for_sessions($_, 'inf') } @$names;

	$before{$_} = $self->cpu($_) foreach @$names;
	my $result = $code->();
	$self->wait_for_sessions($_, $sessions{$_}) foreach @$names;
	return ($result, map { $self->cpu($_) - $before{$_} } @$names);
}

sub wal
{
	my ($self) = @_;
	return $self->sql('postgres', "SELECT pg_current_wal_insert_lsn() - '0/0'");
}

# What the one server uses while code runs: microseconds of processor time, and bytes of WAL;
# after what the code returns.
sub measured
{
	my ($self, $code) = @_;
	my $wal = $self->wal;
	my ($result, $cpu) = $self->used_by(['data'], $code);
	return ($result, $cpu * 1e6, $self->wal - $wal);
}

sub cores
{
	my ($self) = @_;
	return $self->{cores} //= do { chomp(my $n = `getconf _NPROCESSORS_ONLN`); $n };
}

1;
