package CmqNode;

# A PostgreSQL server with cmq, and what tests ask of it.  It is a
# PostgreSQL::Test::Cluster with more methods.
#
#   my $node = CmqNode->running('main', 'autovacuum = off');   with the extension
#   my $node = CmqNode->configured('main');     not started yet
#   my $standby = $node->standby('standby');    follows it
#   $node->crash; $node->kill_server;           an immediate stop and a start; kill -9 of all
#   $node->set('cmq.async_receive', 'off');     and wait until it is in effect
#   $node->build_module('at_commit');           a library of test/modules
#
#   $node->sql('SELECT 1');                     its result; dies of an error
#   $node->complaint('SELECT 1/0');             what psql writes to stderr
#   $node->answer('SELECT 1');                  both, whatever they are
#   $node->as('joe', 'SELECT 1');               the same as another role
#   $node->use_database('shop');                all of these go there from now on
#
#   $node->consume('q', 10);                    and receive, handle, rewind, states, contents
#
#   $node->poll('SELECT ...', 'name');          a test: soon it says t
#   $node->wait_until('SELECT ...');            no test: dies if it does not
#   eventually { ... };                         the same of Perl; returns whether it came true
#   $node->logs(qr/.../, 'name');               a test: soon the server logs that
#
#   my $session = $node->session;               psql that takes one query after another
#   my $run = $node->start_psql('SELECT ...');  runs beside the test
#   my $run = $node->start_pgbench('-T', 5, '-f', $node->script('load', '...'));
#   $run->finish;                               waits for its end, returns its output
#   $run->complete;                             the same, and dies if it failed
#   $run->succeeds('name');                     a test: it ends well
#   $run->kill;                                 as a client that dies
#
# Most that ask a database take the name of another one as their last argument.

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use IPC::Run ();
use parent qw(PostgreSQL::Test::Cluster);
# not all of them: some have the names of methods
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw($top $waiting eventually);

# The top of the source tree.
our $top = abs_path(dirname(__FILE__) . '/../..');

# Receives that wait, as the rest of a query.
our $waiting = q{FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query ~ 'cmq_(receive|consume)' AND backend_type = 'client backend'};

# Try until the block is true, for as long as PostgreSQL's own tests would.
sub eventually(&;$)
{
	my ($condition, $seconds) = @_;
	my $end = time + ($seconds // $PostgreSQL::Test::Utils::timeout_default);
	while (1)
	{
		return 1 if $condition->();
		return 0 if time > $end;
		usleep(50_000);
	}
}

#
# Servers
#

# A server that is not started.  The name may be a list with what else new() takes;
# settings are lines for postgresql.conf, options those of init(), which turns fsync off.
# Unless the settings say otherwise, only calls of cmq_maintain() do maintenance.
sub configured
{
	my ($class, $name, $settings, %options) = @_;
	my $self = $class->new(ref $name ? @$name : $name);

	$self->init(%options);
	$self->append_conf('postgresql.conf', "shared_preload_libraries = 'cmq'\ncmq.maintenance_interval = 1h\n" . ($settings // ''));
	return $self;
}

# A server that is started, with the extension in the database postgres.
sub running
{
	my $self = configured(@_);

	$self->start;
	$self->sql('CREATE EXTENSION cmq');
	return $self;
}

# A server that follows this one, from a backup.
sub standby
{
	my ($self, $name, $settings) = @_;
	my $standby = ref($self)->new($name);

	$self->backup("for_$name");
	$standby->init_from_backup($self, "for_$name", has_streaming => 1);
	$standby->append_conf('postgresql.conf', $settings) if defined $settings;
	$standby->{cmq_clock} = $self->{cmq_clock};
	$standby->start;
	return $standby;
}

sub crash
{
	my ($self) = @_;
	$self->stop('immediate');
	$self->start;
	return;
}

# State and parent of a process, none if there is no such process.
sub _look_at_process
{
	my ($pid) = @_;
	open my $stat, '<', "/proc/$pid/stat" or return ();
	my $line = <$stat> // '';
	close $stat;
	return $line =~ /^\d+ \(.*\) (\S) (\d+)/;
}

# kill -9 for the postmaster and all its children, as when the machine goes down
# without the disk.  The postmaster is stopped first, so that it starts no more children:
# one left behind would wait for ever for locks that the others had.
sub kill_server
{
	my ($self) = @_;
	my ($postmaster) = slurp_file($self->data_dir . '/postmaster.pid') =~ /^(\d+)/;

	kill 'STOP', $postmaster;
	eventually(sub { (_look_at_process($postmaster))[0] eq 'T' }) or BAIL_OUT('the postmaster does not stop');
	my @children = grep { ((_look_at_process($_))[1] // 0) == $postmaster } map { m{^/proc/(\d+)$} } glob '/proc/*';
	kill 'KILL', @children;
	$self->kill9;
	eventually(sub { !grep { kill 0, $_ } $postmaster, @children }) or BAIL_OUT('processes of the server are still there');
	return;
}

# Build a library of test/modules; its path, for shared_preload_libraries.
sub build_module
{
	my ($self, $name) = @_;
	my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
	my ($library, $source) = ($self->basedir . "/$name.so", "$top/test/modules/$name.c");
	PostgreSQL::Test::Utils::system_or_bail('sh', '-c', qq{\${CC:-cc} -O2 -fPIC -shared -I"\$($pg_config --includedir-server)" -o '$library' '$source'});
	return $library;
}

# Change a setting of the server; it is in effect when this returns.
sub set
{
	my ($self, $name, $value) = @_;
	$self->sql("ALTER SYSTEM SET $name = '$value'");
	$self->reload;
	$self->wait_until("SELECT current_setting('$name') = '$value'");
	return;
}

# What the server has logged behind this offset.
sub log_size { my ($self) = @_; return -s $self->logfile; }

sub log_since
{
	my ($self, $offset) = @_;
	return substr slurp_file($self->logfile), $offset;
}

# A test: soon the log has that.
sub logs
{
	my ($self, $pattern, $name, $offset) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(eval { $self->wait_for_log($pattern, $offset) > 0 }, $name);
}

# A test: no crash, internal error, failed assertion or leak in the log.
sub is_sound
{
	my ($self, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return unlike(slurp_file($self->logfile), qr/PANIC|TRAP|terminated by signal|leak|still referenced|XX000/,
		$name // 'the server has nothing to complain about');
}

#
# A wall clock that can be set, with libfaketime; elapsed time goes on as it does
#

sub fake_clock
{
	my ($self, $library) = @_;
	$self->{cmq_clock} = { library => $library, file => PostgreSQL::Test::Utils::tempdir() . '/clock' };
	$self->set_clock(0);
	return;
}

# Put the clock off by so many seconds.  No reader may find the file empty.
sub set_clock
{
	my ($self, $seconds) = @_;
	my $file = $self->{cmq_clock}{file};
	append_to_file("$file.new", sprintf("%+d\n", $seconds));
	rename "$file.new", $file or die "rename: $!";
	return;
}

# The server's processes have the library; clients have not.  One setting has one name in
# old versions of the library, and another in new ones.
sub _with_clock
{
	my ($self, $do) = @_;
	my $clock = $self->{cmq_clock} or return $do->();
	local @ENV{qw(LD_PRELOAD FAKETIME_TIMESTAMP_FILE FAKETIME_NO_CACHE DONT_FAKE_MONOTONIC FAKETIME_DONT_FAKE_MONOTONIC)} =
	  (@$clock{qw(library file)}, 1, 1, 1);
	return $do->();
}

sub start { my ($self, @args) = @_; return $self->_with_clock(sub { $self->SUPER::start(@args) }); }

sub restart { my ($self, @args) = @_; return $self->_with_clock(sub { $self->SUPER::restart(@args) }); }

#
# SQL
#

sub use_database { my ($self, $db) = @_; $self->{cmq_database} = $db; return; }

sub database { my ($self, $db) = @_; return $db // $self->{cmq_database} // 'postgres'; }

sub sql
{
	my ($self, $sql, $db) = @_;
	return $self->safe_psql($self->database($db), $sql);
}

# Result and complaints, also of what follows an error if psql is told to go on.
sub both
{
	my ($self, $sql, $db, %options) = @_;
	my ($out, $err) = ('', '');
	$self->psql($self->database($db), $sql, stdout => \$out, stderr => \$err, %options);
	return ($out, $err);
}

sub complaint { return (both(@_))[1]; }

sub answer { return join '', both(@_); }

# Run all of it as another role, in a session of its own, errors or not.
sub as
{
	my ($self, $role, $sql, $db) = @_;
	return join "\n", $self->both("SET SESSION AUTHORIZATION $role;\n$sql", $db, on_error_stop => 0);
}

sub session
{
	my ($self, %options) = @_;
	return $self->background_psql($self->database(delete $options{db}), %options);
}

# A session that keeps VACUUM from removing what is deleted from now on.
sub hold_snapshot
{
	my ($self, $db) = @_;
	my $session = $self->session(db => $db);
	$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	return $session;
}

# How many pages does a query look at?  Perhaps after another one that reads catalogs.
sub pages
{
	my ($self, $sql, $first) = @_;
	my $plan = $self->sql(($first // '') . "; EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) $sql");
	my ($hit) = $plan =~ /"Shared Hit Blocks": (\d+)/ or die $plan;
	my ($read) = $plan =~ /"Shared Read Blocks": (\d+)/ or die $plan;
	return $hit + $read;
}

#
# Waiting
#

# Run the query until its answer is what is wanted, by default t.  Returns nothing, or,
# when the time is over, what is wrong.  An error is an answer that is not wanted.
# Options: wanted, seconds, db.
sub _look_until
{
	my ($self, $query, %options) = @_;
	my $wanted = $options{wanted} // 't';
	my ($out, $err);

	return if &eventually(sub {
		# psql that could not connect may be gone before it gets the query
		($out, $err) = eval { $self->both($query, $options{db}) } or ($out, $err) = ('', $@);
		return $out eq $wanted && $err eq '';
	}, $options{seconds});
	return "wanted: $wanted\nlast: $out$err\nof: $query";
}

sub poll
{
	my ($self, $query, $name, %options) = @_;
	my $wrong = $self->_look_until($query, %options);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(!defined $wrong, $name) || diag($wrong) && 0;
}

sub wait_until
{
	my ($self, $query, %options) = @_;
	my $wrong = $self->_look_until($query, %options);
	die "waited in vain\n$wrong\n" if defined $wrong;
	return;
}

# Wait until so many receives wait.
sub wait_for_waiters
{
	my ($self, $n, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $self->poll("SELECT count(*) = $n $waiting", "$n waiting", db => $db) || die "receives do not wait\n";
}

# A receive that waits for half a minute, with a filter if that is given; waited() says what it got, and whether at
# once.
sub wait_for_message
{
	my ($self, $queue, $filter) = @_;
	my $session = $self->session;
	my $with = defined $filter ? ", filter => '$filter'" : '';

	$session->{stdin} .= "SELECT body || CASE WHEN clock_timestamp() < now() + interval '25 s' THEN ' at once' ELSE ' late' END FROM cmq_receive('$queue', polling_wait_seconds => 30$with);\n\\echo :ROW_COUNT done\n";
	$session->{run}->pump_nb;
	$self->wait_until("SELECT count(*) > 0 $waiting");
	return $session;
}

sub waited
{
	my ($self, $session) = @_;

	$session->{run}->pump until $session->{stdout} =~ /(\d+) done/;
	my ($found) = $session->{stdout} =~ /^(\S+ (?:at once|late))$/m;
	$session->quit;
	return $found // 'nothing';
}

# A test: soon the worker has maintained the queue, and saved its clock.
sub maintained
{
	my ($self, $queue, $name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$self->sql("SELECT cmq_send('$queue', 'x')", $db);
	my $sent = $self->sql("SELECT max(enqueued_at) FROM cmq_data.q_$queue", $db);
	return $self->poll("SELECT clock >= '$sent' FROM cmq.queue WHERE name = '$queue'", $name, db => $db);
}

#
# Queues
#

# Receive; the bodies in the order they came, - if there are none.
sub receive
{
	my ($self, $queue, $n, $db) = @_;
	$n //= 1000;
	return $self->sql("SELECT coalesce(string_agg(body, ' ' ORDER BY ordinality), '-') FROM cmq_receive('$queue', $n) WITH ORDINALITY", $db);
}

sub handle
{
	my ($self, $queue, $db) = @_;
	return $self->sql("SELECT receipt_handle FROM cmq_receive('$queue')", $db);
}

# Receive and delete so many at most; returns how many.
sub consume
{
	my ($self, $queue, $n, $db) = @_;
	$n //= 1000;
	return $self->sql("SELECT count(*) FROM cmq_delete_batch('$queue', array(SELECT receipt_handle FROM cmq_receive('$queue', $n)))", $db);
}

sub consume_all
{
	my ($self, $queue, $db) = @_;
	my $n = 0;
	while ((my $some = $self->consume($queue, 1000, $db)) > 0) { $n += $some; }
	return $n;
}

# Rewind all of the last hour; t if something comes back.
sub rewind
{
	my ($self, $queue, $db) = @_;
	return $self->sql("SELECT cmq_rewind('$queue', now() - interval '1 hour') IS NOT NULL", $db);
}

# body:state of all messages, in order of the bodies; - if there are none.
sub states
{
	my ($self, $queue, $db) = @_;
	return $self->sql(qq{SELECT coalesce(string_agg(body || ':' || state, ' ' ORDER BY body), '-')
		FROM (SELECT body, state FROM cmq."q_${queue}_live" UNION ALL SELECT body, 'history' FROM cmq."q_${queue}_history") m}, $db);
}

# All that is known of every message of every queue, and the numbers.
sub contents
{
	my ($self, $db) = @_;
	my $result = '';
	foreach my $queue (split /\n/, $self->sql('SELECT queue FROM cmq.queues ORDER BY queue', $db))
	{
		$result .= "\n\n$queue\n" . $self->sql(qq{
			SELECT * FROM cmq."q_${queue}_live" ORDER BY msg_id;
			SELECT * FROM cmq."q_${queue}_history" ORDER BY msg_id;
			SELECT active_msg_num, inactive_msg_num, delay_msg_num, rewind_msg_num, create_time, last_modify_time
			  FROM cmq_queue_attributes('$queue')}, $db);
	}
	return $result;
}

# A test, while no rewind is under way: numbers are what the tables have.
sub counts_agree
{
	my ($self, $queue, $when) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(
		$self->sql("SELECT m.pending_msg_num || ' ' || (a.active_msg_num + a.inactive_msg_num + a.delay_msg_num) || ' ' || a.rewind_msg_num
			FROM cmq.metrics m, cmq_queue_attributes(m.queue) a WHERE m.queue = '$queue'"),
		$self->sql("SELECT n || ' ' || n || ' ' || (SELECT count(*) FROM cmq_data.q_${queue}_rewind) FROM (SELECT count(*) AS n FROM cmq_data.q_${queue}_pending) p"),
		"the counts $when");
}

# Leave the queue as if it had not been used within its retention.
sub remove_leaves
{
	my ($self, $queue, $db) = @_;
	$self->sql(qq{DO \$\$ DECLARE l record; BEGIN
		LOCK TABLE cmq_data."q_$queue", cmq_data."q_${queue}_rewind";
		FOR l IN DELETE FROM cmq.partition WHERE queue = '$queue' RETURNING * LOOP EXECUTE format('DROP TABLE %s, %s', l.messages, l.rewind); END LOOP;
		PERFORM cmq_alter_queue('$queue', visibility_timeout => 43200);
		END \$\$}, $db);
	return;
}

#
# What runs beside the test
#

# Start a program that finds this server by itself.
sub beside
{
	my ($self, @command) = @_;
	local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($self->host, $self->port, $self->database);
	return CmqNode::Run->new(@command);
}

sub start_psql
{
	my ($self, @commands) = @_;
	return $self->beside('psql', '-XAtq', map { ('-c', $_) } @commands);
}

sub start_pgbench
{
	my ($self, @options) = @_;
	return $self->beside('pgbench', '-n', @options);
}

# Write a file for psql or pgbench.
sub script
{
	my ($self, $name, $text) = @_;
	my $path = $self->basedir . "/$name.sql";
	open my $file, '>', $path or die "$path: $!";
	print $file $text;
	close $file;
	return $path;
}

# Options of pgbench for scripts by name, or by name@weight.
sub scripts
{
	my ($self, %texts) = @_;
	return map { my ($name, $weight) = split /@/; ('-f', $self->script($name, $texts{$_}) . (defined $weight ? "\@$weight" : '')) } sort keys %texts;
}

package CmqNode::Run;

use Test::More;

# out and err are what it has written by now.
sub new
{
	my ($class, @command) = @_;
	my $self = bless { out => '', err => '' }, $class;
	$self->{run} = IPC::Run::start(\@command, '<', \undef, '>', \$self->{out}, '2>', \$self->{err});
	return $self;
}

sub is_running
{
	my ($self) = @_;
	return $self->{run}->pumpable && do { $self->{run}->pump_nb; $self->{run}->pumpable };
}

sub finish
{
	my ($self) = @_;
	$self->{ended_well} = $self->{run}->finish;
	return $self->{out};
}

# Dies if it failed: for what is no test of its own.
sub complete
{
	my ($self) = @_;
	$self->finish;
	die "failed: $self->{err}" unless $self->{ended_well};
	return $self->{out};
}

sub succeeds
{
	my ($self, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$self->finish;
	return ok($self->{ended_well}, $name) || diag($self->{err}) && 0;
}

sub signal
{
	my ($self, $signal) = @_;
	$self->{run}->signal($signal);
	return;
}

# As a client that dies.
sub kill
{
	my ($self) = @_;
	$self->signal('KILL');
	return $self->finish;
}

1;
