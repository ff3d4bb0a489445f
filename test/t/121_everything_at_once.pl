# Everything at once: sessions send, publish, receive, consume, wait, delete, give back,
# release, rewind, restore, cancel, replay, redrive, clear, pause, alter, bind, subscribe
# and maintain, with keys and groups, in transactions with savepoints, some of which are rolled back or
# prepared, on queues joined by topics and dead-letter bindings.  Meanwhile clients are
# killed, backends cancelled and terminated, the dead-letter queues break and heal, and
# tables are vacuumed and reindexed, and in a long run the power fails once.  Then all is
# consumed, and each message counted.
#
# The books are in the database, see lib/TrafficLedger.pm.  What the clients do is
# drawn from CMQ_TEST_SEED; how they meet is not, so a seed does not repeat a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use POSIX ();
use PostgreSQL::Test::Utils;
use Seed;
use Test::More;
use Time::HiRes qw(time usleep);
use TrafficLedger;

my $clients = 10;
my $rounds = $ENV{CMQ_TEST_LONG} ? 8 : 1;
my $seconds = $ENV{CMQ_TEST_SECONDS} || ($ENV{CMQ_TEST_LONG} ? 40 : 12);

my $node = CmqNode->configured('everything', <<'CONF');
max_connections = 40
max_prepared_transactions = 50
cmq.maintenance_interval = 1s
autovacuum_naptime = 1
log_error_verbosity = verbose
log_min_messages = warning
log_statement = none
lock_timeout = 2s
# nothing waits for so long: what ends here hangs
statement_timeout = 60s
CONF

# A server whose clock can be set: CMQ_TEST_CLOCK is libfaketime's library, in long runs
# the one that is installed.
($ENV{CMQ_TEST_CLOCK}) = glob '/usr/lib/*/faketime/libfaketime.so.1' if $ENV{CMQ_TEST_LONG} && !defined $ENV{CMQ_TEST_CLOCK};
$node->fake_clock($ENV{CMQ_TEST_CLOCK}) if $ENV{CMQ_TEST_CLOCK};
$node->start;
$node->sql('CREATE EXTENSION cmq');
my $ledger = TrafficLedger->new($node);

sub pick { return $_[ rand @_ ]; }

#
# What clients do
#

sub filter { return pick('NULL', map { "'{\"kind\": $_}'" } 0 .. 2); }

sub rewindable { return pick(qw(a a b c d o dead far brief)); }

# Calls, as often as they shall come; those in the second list cannot share a
# transaction with others, or need one of a level of their own.
my @calls = (
	[ 10 => sub { 't.send(' . "'" . pick(qw(a a a b b c c d o o brief)) . "')" } ],
	[ 6 => sub { "t.publish('" . pick(qw(news routes)) . "')" } ],
	[ 20 => sub { "t.consume('" . pick(qw(a a a b b c c d o o brief copy dead far)) . "', " . pick(1, 5, 20, 50) . ')' } ],
	[ 10 => sub { "t.eat('" . pick(qw(a a a b b c c d o o brief copy dead far)) . "', " . pick(1, 5, 20) . ', 0, ' . filter() . ')' } ],
	[ 10 => sub { "t.take('" . pick(qw(a a b b c c d o o brief dead)) . "', " . pick(1, 2, 5) . ', 0, ' . pick('NULL', filter()) . ')' } ],
	[ 3 => sub { "t.take_ids('" . pick(qw(a a b c d o brief dead)) . "')" } ],
	[ 2 => sub { "t.take_back('" . pick(qw(a a b d o brief)) . "')" } ],
	[ 10 => sub { "t.finish('" . pick(qw(a a b b c c d o o brief dead)) . "', 5)" } ],
	[ 7 => sub { "t.change('" . pick(qw(a a b b c d o o brief dead)) . "', " . pick(0, 0, 0, 1, 2) . ')' } ],
	[ 7 => sub { "t.release('" . pick(qw(a a b b c d o o brief dead)) . "', " . pick(1, 2, 5) . ')' } ],
	[ 2 => sub { "t.use_stale('" . pick(qw(a b c d o brief dead)) . "')" } ],
	[ 2 => sub { "t.rewind('" . pick(qw(a a c d o dead far brief)) . "')" } ],
	[ 3 => sub { "t.restore('" . pick(qw(a b b d c o dead)) . "')" } ],
	[ 1 => sub { "t.cancel('" . pick(qw(a c d o dead)) . "')" } ],
	[ 1 => sub { "t.preview('" . rewindable() . "')" } ],
	[ 0.4 => sub { "t.clear('" . pick(qw(a b d o)) . "')" } ],
	[ 1 => sub { "t.maintain('" . pick(qw(a b c d o dead far brief copy)) . "')" } ],
	[ 1 => sub { "t.attributes('" . pick(qw(a b c d o dead far brief copy)) . "')" } ],
	[ 0.5 => sub { 't.metrics()' } ],
	[ 1 => sub { "t.alter('" . pick(qw(a b o)) . "')" } ],
	[ 1 => sub { "t.pause('" . pick(qw(a b c d o dead far brief copy)) . "')" } ],
	[ 6 => sub { 't.resume()' } ],
	[ 1.5 => sub { "t.bind('" . pick(qw(a b c o)) . "')" } ]);

my @alone = (
	[ 3 => 'READ COMMITTED' => sub { "t.consume('" . pick(qw(a b c d o copy)) . "', 10, 1)" } ],
	[ 2 => 'READ COMMITTED' => sub { "t.take('" . pick(qw(a b c d o dead)) . "', 3, 1, " . filter() . ')' } ],
	[ 3 => 'READ COMMITTED' => sub { "t.eat('" . pick(qw(a b c d o copy)) . "', 10, 1, " . filter() . ')' } ],
	[ 2 => 'REPEATABLE READ' => sub { "t.redrive('" . pick(qw(dead dead far)) . "')" } ],
	[ 1 => 'REPEATABLE READ' => sub { "t.replay('" . pick(qw(a b d c o)) . "')" } ],
	[ 0.5 => 'READ COMMITTED' => sub { "t.times('" . pick(qw(a b c d o)) . "')" } ],
	[ 0.5 => 'READ COMMITTED' => sub { 't.come_and_go()' } ],
	[ 0.5 => 'READ COMMITTED' => sub { 't.resubscribe()' } ]);

sub draw
{
	my (@weighted) = @_;
	my $sum = 0;
	$sum += $_->[0] foreach @weighted;
	my $at = rand $sum;
	foreach my $choice (@weighted)
	{
		$at -= $choice->[0];
		return @$choice[ 1 .. $#$choice ] if $at < 0;
	}
	return @{ $weighted[-1] }[ 1 .. $#{ $weighted[-1] } ];
}

sub call { my ($sub) = draw(@calls); return 'SELECT ' . $sub->() . ';'; }

my $prepared = 0;

sub end_transaction
{
	my $how = rand;
	return 'COMMIT;' if $how < 0.78;
	return 'ROLLBACK;' if $how < 0.94;
	return "PREPARE TRANSACTION 'p" . ++$prepared . "';";
}

# Lines of psql: a transaction, or a command that can be in none.
sub transaction
{
	my $what = rand;
	if ($what < 0.01)
	{
		my $table = 'cmq_data.q_' . (rand() < 0.1 ? pick(qw(a o copy)) . '_dedup' : pick(qw(a b c d o dead far)) . pick(qw(_pending _pending _rewind)));
		# of a partitioned table only its leaves, each in a transaction, are rebuilt
		return ("SET lock_timeout = '300ms';", pick("VACUUM $table;", "VACUUM (ANALYZE) $table;", $table =~ /pending/ ? ("REINDEX TABLE CONCURRENTLY $table;", "REINDEX TABLE $table;", "VACUUM FULL $table;") : "ANALYZE $table;"), 'RESET lock_timeout;');
	}
	if ($what < 0.2)
	{
		my ($level, $sub) = draw(@alone);
		return ("BEGIN ISOLATION LEVEL $level;", 'SELECT ' . $sub->() . ';', end_transaction());
	}
	return call() if $what < 0.4;
	my @lines = ('BEGIN ISOLATION LEVEL ' . pick('READ COMMITTED', 'READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE') . ';');
	push @lines, call() foreach 1 .. 1 + rand 2;
	push @lines, 'SAVEPOINT s;', call(), pick('ROLLBACK TO s;', 'ROLLBACK TO s;', 'RELEASE s;'), call() if rand() < 0.3;
	push @lines, end_transaction();
	return @lines;
}

#
# Clients, which live until they are killed or have nothing more to do
#

my %running;
my $dir = PostgreSQL::Test::Utils::tempdir;
my $started = 0;

sub start_client
{
	my ($no) = @_;
	my $script = "$dir/" . $started++ . '.sql';
	append_to_file($script, join "\n", (map { transaction() } 1 .. 400), '');
	my $pid = fork // die $!;
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', "$script.err";
		local $ENV{PGAPPNAME} = "client$no";
		exec('psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', $script) or POSIX::_exit(1);
	}
	$running{$pid} = $no;
	return;
}

# Start those anew that have ended.
sub keep_up
{
	while ((my $pid = waitpid(-1, POSIX::WNOHANG())) > 0)
	{
		start_client(delete $running{$pid}) if exists $running{$pid};
	}
	return;
}

#
# Chaos
#

my %done = map { $_ => 0 } qw(killed cancelled terminated committed back broken);
my ($is_broken, $breaks) = ('', 0);

# One session for all of it, that nobody kills.
my $hand;

sub connect_hand
{
	$hand = $node->session(on_error_stop => 0);
	$hand->set_query_timer_restart;
	$hand->query_safe(q{SET lock_timeout = '300ms'});
	return;
}

# True if there was no error.
sub try
{
	my ($sql) = @_;
	$hand->{stderr} = '';
	my $out = $hand->query($sql);
	my $failed = $hand->{stderr} =~ /ERROR/;
	$hand->{stderr} = '';
	return $failed ? undef : $out;
}

sub end_prepared
{
	my ($share) = @_;
	foreach my $gid (split /\n/, try(q{SELECT gid FROM pg_prepared_xacts}) // '')
	{
		next if rand() > $share;
		my $commit = rand() < 0.6;
		try(($commit ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
		$done{ $commit ? 'committed' : 'back' }++;
	}
	return;
}

# The index of dead fails, dead is no queue any more, or far grants no right; each is undone.
my %breaks = (
	index => [
		q{CREATE OR REPLACE FUNCTION public.maybe(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken' USING ERRCODE = 'P0007'; END $$},
		q{CREATE OR REPLACE FUNCTION public.maybe(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN n; END $$} ],
	name => [ q{ALTER TABLE cmq_data.q_dead_pending RENAME TO not_there}, q{ALTER TABLE cmq_data.not_there RENAME TO q_dead_pending} ],
	owner => [ q{ALTER TABLE cmq_data.q_dead_rewind OWNER TO mallory}, q{ALTER TABLE cmq_data.q_dead_rewind OWNER TO CURRENT_USER} ],
	right => [ q{REVOKE INSERT ON cmq.q_far FROM carol}, q{GRANT INSERT ON cmq.q_far TO carol} ]);

sub break_or_heal
{
	if ($is_broken)
	{
		$is_broken = '' if defined try($breaks{$is_broken}[1]);
		return;
	}
	$is_broken = pick(sort keys %breaks);
	defined try($breaks{$is_broken}[0]) ? $done{broken}++ : ($is_broken = '');
	return;
}

my $client_backend = q{FROM pg_stat_activity WHERE application_name LIKE 'client%' ORDER BY random() LIMIT 1};

sub chaos
{
	my $what = rand;
	if ($what < 0.08)
	{
		my $pid = pick(keys %running);
		kill 'KILL', $pid;
		$done{killed}++;
	}
	elsif ($what < 0.16) { try("SELECT pg_cancel_backend(pid) $client_backend"); $done{cancelled}++; }
	elsif ($what < 0.21) { try("SELECT pg_terminate_backend(pid) $client_backend"); $done{terminated}++; }
	# until something was broken, as that waits for locks and may not get them
	elsif ($what < ($is_broken ? 0.3 : 0.25) || !$done{broken}) { break_or_heal(); }
	elsif ($what < 0.35 && $ENV{CMQ_TEST_CLOCK}) { $node->set_clock(pick(0, 0, -3600, -5, 5, 60)); }
	end_prepared(0.5);
	return;
}

# The power fails.  Clients come back as soon as they can.
sub crash
{
	$node->stop('immediate');
	$hand->{run}->kill_kill;
	$node->set_clock(0) if $ENV{CMQ_TEST_CLOCK};
	$node->start;
	connect_hand();
	$ledger->forget_counters;
	return;
}

sub end_clients
{
	kill 'KILL', keys %running;
	waitpid $_, 0 foreach keys %running;
	%running = ();
	$node->wait_until(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'client%'});
	end_prepared(1) while try('SELECT count(*) FROM pg_prepared_xacts') > 0;
	break_or_heal() while $is_broken;
	$node->set_clock(0) if $ENV{CMQ_TEST_CLOCK};
	return;
}

# Whoever waits is woken still, whatever has become of those who waited before.
sub check_wake_up
{
	my ($when, $q, $call, $filter) = @_;
	my $waiter = $node->session;
	$waiter->set_query_timer_restart;
	$waiter->query_safe(q{SET application_name = 'waiter'});
	$waiter->query_until(qr/waits/, "\\echo waits\nSELECT 'got ' || $call('$q', 1, 30$filter);\n");
	$node->wait_until(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND wait_event_type = 'Extension'});
	my $start = time;
	# three kinds of messages, each some time
	$node->sql("SELECT t.send('$q') FROM generate_series(1, 20)");
	$waiter->query_until(qr/got/, '');
	cmp_ok(time - $start, '<', 20, "$when: who waits at $q for 30 seconds is woken before");
	$waiter->quit;
	return;
}

#
# What may be in the server's log
#

my %may_happen = map { $_ => 1 } (
	'08006', '08P01',    # a client is gone
	'57014', '57P01', '57P02', '57P03',    # cancelled, terminated, crashed
	'40001', '40P01', '55P03',    # in the way of each other
	'25P01', '25P02', '3B001',    # after one of the others
	'22023', '53400', '55000', '42704', '42710', '2BP01',    # see TrafficLedger.pm: a rewind out of range, full, broken, come and gone
	'42501', 'P0007',    # broken
	'42P01', '42809', '55006');

sub complaints
{
	my ($log, $from) = @_;
	my @lines;
	foreach (split /\n/, substr slurp_file($log), $from)
	{
		next unless /(?:WARNING|ERROR|FATAL|PANIC|LOG):  (\w{5}): (.*)/ || /(TRAP): (.*)/;
		my ($state, $text) = ($1, $2);
		push @lines, $_
		  if $state eq 'TRAP' || $text =~ ($ENV{CMQ_TEST_CLOCK} ? qr/terminated by signal/ : qr/statement timeout|terminated by signal/) || (!/LOG:  / && !$may_happen{$state} && $text !~ /^cannot reindex invalid index/);
	}
	return @lines;
}

my $log_seen = 0;
connect_hand();
srand(seed());
for my $round (1 .. $rounds)
{
	my $end = time + $seconds;
	# once, late: counters begin anew with it
	my $crash_at = $round == $rounds - 1 ? time + rand $seconds : $end + 1;
	start_client($_) foreach 0 .. $clients - 1;
	while (time < $end)
	{
		usleep(50_000);
		keep_up();
		if (time > $crash_at)
		{
			crash();
			$crash_at = $end + 1;
		}
		chaos();
	}
	end_clients();
	$ledger->check("round $round, not all consumed", 0);
	$ledger->heal;
	$ledger->drain;
	foreach my $q (qw(a b c d copy))
	{
		check_wake_up("round $round", $q, 't.take', '');
		$ledger->drain;
		check_wake_up("round $round, with a filter", $q, 't.eat', q{, '{"kind": 1}'});
		$ledger->drain;
	}
	$ledger->check("round $round, all consumed", 1);
	# what has come to one of these since it was heard of last has been looked at
	foreach my $q (qw(a b c d o dead far copy))
	{
		my $pages = $node->pages("SELECT * FROM cmq_receive('$q')", "SELECT FROM cmq_receive('$q')");
		cmp_ok($pages, '<', 100, "round $round: a receive from $q that finds nothing reads $pages pages");
	}
	my @lines = complaints($node->logfile, $log_seen);
	$log_seen = $node->log_size;
	is(join("\n", @lines > 20 ? @lines[ 0 .. 19 ] : @lines), '', "round $round: nothing happened that should not");
	note(join ', ', map { "$_ $done{$_}" } sort keys %done);
	last unless Test::More->builder->is_passing;
}
note($node->sql(q{
	SELECT 'made', queue, via, count(*) FROM t.made GROUP BY 2, 3 UNION ALL
	SELECT 'deliveries', queue, state, count(*) FROM t.grip GROUP BY 2, 3 UNION ALL
	SELECT 'deleted', queue, via, count(*) FROM t.gone GROUP BY 2, 3 UNION ALL
	SELECT 'letters', queue, dead, count(*) FROM t.letter GROUP BY 2, 3 UNION ALL
	SELECT 'keys', queue, CASE WHEN stored THEN 'stored' ELSE 'duplicate' END, count(*) FROM t.asked GROUP BY 2, 3 UNION ALL
	SELECT 'brought', queue, '', sum(n) FROM t.brought GROUP BY 2 UNION ALL
	SELECT 'cleared', queue, '', sum(n) FROM t.cleared GROUP BY 2 UNION ALL
	SELECT 'rewinds', queue, kind, count(*) FROM cmq.rewinds GROUP BY 2, 3 ORDER BY 1, 2, 3}));
# each took part
cmp_ok($node->sql("SELECT count(*) FROM t.asked WHERE queue = '$_' AND NOT stored"), '>', 0, "duplicates were sent to $_") foreach 'a', 'o';
cmp_ok($done{$_}, '>', 0, "$_: $done{$_}") foreach sort keys %done;
# its time may be over: it has not been asked for long
try('SELECT 1');
$hand->quit;
$node->stop;
done_testing();
