# Sends into a queue that has no partition for the present time, while a lock on its
# tables keeps one from being made, as ANALYZE and CREATE INDEX do: all clients wait for
# one worker, and for no longer than it waits.  A queue that was used within its
# retention has a partition that was made ahead.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;
use Time::HiRes qw(time);

my $node = CmqNode->running('main', 'max_worker_processes = 8');

sub leaves
{
	my ($queue) = @_;
	return $node->sql("SELECT count(*) FROM cmq.partition WHERE queue = '$queue' AND now() >= lower AND now() < upper");
}

my $clients = 4;
my @clients;
sub start_clients
{
	my ($queue) = @_;
	foreach my $client (@clients)
	{
		$client->query_until(qr/begun/, "\\echo begun\nSELECT cmq_send('$queue', 'x') > 0;\n");
	}
	return;
}

sub errors
{
	my @errors;
	foreach my $client (@clients)
	{
		my $out = $client->query('SELECT 1');
		push @errors, $client->{stderr};
		$client->{stderr} = '';
	}
	return @errors;
}

# how often a worker of senders gave up
sub given_up
{
	my ($offset) = @_;
	my $log = $node->log_since($offset);
	my $n = () = $log =~ /ERROR:  canceling statement due to lock timeout/g;
	return $n;
}

$node->sql(q{SELECT FROM cmq_create_queue('idle'); SELECT FROM cmq_create_queue('other')});
@clients = map { $node->session(on_error_stop => 0) } 1 .. $clients;
my $locker = $node->session;

foreach my $case (
	[ 'q_idle', 'SHARE UPDATE EXCLUSIVE', 'ANALYZE' ],
	[ 'q_idle', 'SHARE', 'CREATE INDEX' ],
	[ 'q_idle_rewind', 'SHARE UPDATE EXCLUSIVE', 'ANALYZE of the history' ])
{
	my ($table, $mode, $who) = @$case;
	note "behind a lock as of $who";
	$node->remove_leaves('idle');
	$locker->query_safe("BEGIN; LOCK TABLE ONLY cmq_data.$table IN $mode MODE");
	my $together = 0;
	# on a slow machine some may come when the worker has given up already
	foreach my $try (1 .. 10)
	{
		my $offset = $node->log_size;
		my $begun = time;
		start_clients('idle');
		# one waits for the worker, the others for that one
		$together = $node->sql(q{SELECT count(*) FROM pg_stat_activity WHERE query ~ 'cmq_send' AND backend_type = 'client backend' AND wait_event IS NOT NULL AND pid <> pg_backend_pid() AND state = 'active'}) eq "$clients"
		  && given_up($offset) == 0;
		my @errors = errors();
		my $took = time - $begun;
		is(scalar(grep { /there is no partition for the present time in queue "idle"/ } @errors), $clients, "all sends fail, after $took s");
		is(scalar(grep { /DETAIL:  None can be made while a transaction that has not ended has a lock on cmq_data\.$table/ } @errors), $clients, '... and say why');
		my ($hint) = $errors[0] =~ /HINT:  Find it with (.*?), and try/;
		like($node->sql($hint), qr/Share/, '... and how to find who it is');
		next unless $together;
		is(given_up($offset), 1, '... and had one worker for all of them');
		last;
	}
	ok($together, '... who waited together');
	$locker->query_safe('COMMIT');
	is(leaves('idle'), '0', 'there is no partition');
	start_clients('idle');
	is(join('', errors()), '', 'without the lock all can send');
	is(leaves('idle'), '1', '... and there is one');
	is($node->sql(q{SELECT count(*) FROM cmq_receive('idle', 10)}), $clients, '... with all messages');
}

note 'a lock that is let go in time';
$node->remove_leaves('idle');
$locker->query_safe('BEGIN; LOCK TABLE ONLY cmq_data.q_idle IN SHARE UPDATE EXCLUSIVE MODE');
start_clients('idle');
$locker->query_safe('COMMIT');
my $failed = () = join('', errors()) =~ /ERROR/g;
note "$failed of $clients had to give up";
is($node->sql(q{SELECT count(*) FROM cmq_receive('idle', 10)}), $clients - $failed, 'who was not told otherwise has sent');

note 'a batch that runs over the end of the last partition';
$node->remove_leaves('idle');
$locker->query_safe(q{DO $$ DECLARE
		a timestamptz := date_trunc('day', now()); b timestamptz := clock_timestamp() + interval '800 ms';
	BEGIN
		EXECUTE format('CREATE TABLE cmq_data.m_idle_by_hand PARTITION OF cmq_data.q_idle FOR VALUES FROM (%L) TO (%L)', a, b);
		EXECUTE format('CREATE TABLE cmq_data.r_idle_by_hand PARTITION OF cmq_data.q_idle_rewind FOR VALUES FROM (%L) TO (%L)', a, b);
		INSERT INTO cmq.partition VALUES ('idle', a, b, 'cmq_data.m_idle_by_hand', 'cmq_data.r_idle_by_hand');
		PERFORM cmq_alter_queue('idle', visibility_timeout => 32);
	END $$});
$locker->query_safe('BEGIN; LOCK TABLE ONLY cmq_data.q_idle IN SHARE UPDATE EXCLUSIVE MODE');
like($node->complaint(q{\set VERBOSITY verbose
	SELECT count(*) FROM cmq_send_batch('idle', array_fill('x'::text, ARRAY[1000000]))}), qr/55P03: there is no partition for the present time/, 'fails as a single send does');
$locker->query_safe('COMMIT');

note 'the lock is of the sender itself';
$node->remove_leaves('idle');
like($node->complaint(q{BEGIN; LOCK TABLE ONLY cmq_data.q_idle IN SHARE MODE; SELECT cmq_send('idle', 'x')}), qr/no partition for the present time.*no open transaction may have locked/s, 'who is in the way himself is told that this is a reason');
is($node->sql(q{SELECT cmq_send('idle', 'x') > 0}), 't', '... and can send without');
$_->quit foreach @clients, $locker;

note 'partitions are made ahead for a queue that was used within its retention';
# 3 hours ago, which is 6 times the time for which partitions are made ahead
$node->sql(q{SELECT cmq_create_queue(q, msg_retention_seconds => 28800) FROM unnest('{rested,long}'::text[]) q});
$node->sql(q{UPDATE cmq.queue SET create_time = create_time - CASE WHEN name = 'rested' THEN interval '3 hours' ELSE interval '9 hours' END WHERE name IN ('rested', 'long')});
$node->restart;
$node->remove_leaves($_) foreach ('rested', 'long');
$node->sql(q{SELECT cmq_maintain('rested'), cmq_maintain('long')});
is(leaves('rested'), '1', 'one is there');
is(leaves('long'), '0', 'and none for a queue that has nothing left of its retention');

$node->is_sound;
$node->stop;
done_testing();
