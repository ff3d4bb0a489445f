# Consumers that wait in one step for what they want: their filters partition the
# messages, some want any, some roll back, some are killed, some transactions are
# prepared and ended by others, messages are taken back by id, and rewinds bring back
# what was had.  After each burst all that is ready is soon consumed, though each waits
# for half a minute: no wake-up is lost.  At the end each life of each message has ended
# once, by one who wanted it.

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

my $bursts = $ENV{CMQ_TEST_LONG} ? 200 : 15;
my @kinds = (0 .. 3);
my $kinds = @kinds;

my $node = CmqNode->running('consumers', <<'CONF');
max_connections = 60
max_prepared_transactions = 30
log_min_messages = warning
log_error_verbosity = verbose
CONF

$node->sql(q{
	SELECT FROM cmq_create_queue('w', visibility_timeout => 43200, rewind_seconds => 3600, rewind_share => 50);
	CREATE SEQUENCE bodies;
	-- a life of a message has ended
	CREATE TABLE ended (msg_id bigint, rewind_count int, how text, wanted int, kind int);
	CREATE TABLE waited_in_vain (wanted int, at timestamptz DEFAULT clock_timestamp());

	-- Messages of so many kinds.
	CREATE FUNCTION send(n int, kinds int) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(*) FROM (SELECT array_agg(jsonb_build_object('kind', floor(random() * kinds)::int)) AS h FROM generate_series(1, n)) x,
			cmq_send_batch('w', array(SELECT 'm' || nextval('bodies') FROM generate_series(1, n)), CASE WHEN random() < 0.1 THEN 1 ELSE 0 END, h)
	$$;

	-- Consume for ever, or receive and delete.
	CREATE PROCEDURE consumer(wanted int) LANGUAGE plpgsql AS $$
	DECLARE
		filter jsonb := CASE WHEN wanted >= 0 THEN jsonb_build_object('kind', wanted) END;
		n bigint;
	BEGIN
		LOOP
			IF random() < 0.7 THEN
				INSERT INTO ended SELECT msg_id, rewind_count, 'consume', wanted, (headers->>'kind')::int
				  FROM cmq_consume('w', 1 + (random() * 3)::int, 30, filter);
			ELSE
				WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('w', 1 + (random() * 3)::int, NULL, 30, filter))
				INSERT INTO ended SELECT msg_id, rewind_count, 'delete', wanted, (headers->>'kind')::int
				  FROM got WHERE cmq_delete('w', receipt_handle);
			END IF;
			GET DIAGNOSTICS n = ROW_COUNT;
			IF n = 0 THEN
				INSERT INTO waited_in_vain VALUES (wanted);
			ELSIF random() < 0.15 THEN
				ROLLBACK;
			END IF;
			COMMIT;
		END LOOP;
	END $$;

	-- Take a few back that wait, whoever wanted them.
	CREATE FUNCTION take_back() RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		ids bigint[] := array(SELECT cmq_delete_messages('w', array(SELECT msg_id FROM cmq.q_w_live ORDER BY random() LIMIT 5)));
		n bigint;
	BEGIN
		INSERT INTO ended SELECT cmq.msg_id(enqueued_at), rewind_count, 'by id', -1, NULL FROM cmq_data.q_w_rewind
		 WHERE enqueued_at = ANY (array(SELECT cmq.enqueued_at(i) FROM unnest(ids) i));
		GET DIAGNOSTICS n = ROW_COUNT;
		IF n <> cardinality(ids) THEN RAISE 'told %, deleted %', cardinality(ids), n; END IF;
		RETURN n;
	END $$;
});

my %running;
my $prepares = 0;
my %done = map { $_ => 0 } qw(sent back terminated killed committed rewound by_id);

sub pick { return $_[ rand @_ ]; }

# One that consumes, or one that consumes once and prepares that.
sub start_client
{
	my ($wanted) = @_;
	my @commands = "CALL consumer($wanted)";
	if ($wanted =~ s/^prepare //)
	{
		my $filter = $wanted < 0 ? 'NULL' : qq('{"kind": $wanted}');
		@commands = ('BEGIN',
			"INSERT INTO ended SELECT msg_id, rewind_count, 'prepared', $wanted, (headers->>'kind')::int FROM cmq_consume('w', 3, 30, $filter)",
			"PREPARE TRANSACTION 'p" . ++$prepares . q{'});
		$wanted = "prepare $wanted";
	}
	my $pid = fork // die $!;
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', '/dev/null';
		local $ENV{PGAPPNAME} = 'consumer';
		exec('psql', '-XAtq', '-d', $node->connstr('postgres'), map { ('-c', $_) } @commands) or POSIX::_exit(1);
	}
	$running{$pid} = $wanted;
	return;
}

# Start those anew that were killed, or are done.
sub keep_up
{
	while ((my $pid = waitpid(-1, POSIX::WNOHANG())) > 0)
	{
		start_client(delete $running{$pid}) if exists $running{$pid};
	}
	return;
}

my $hand = $node->session(on_error_stop => 0);
$hand->set_query_timer_restart;

# The result, nothing if there was an error.
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
	foreach my $gid (split /\n/, try('SELECT gid FROM pg_prepared_xacts'))
	{
		my $commit = rand() < 0.5;
		try(($commit ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
		$done{ $commit ? 'committed' : 'back' }++;
	}
	return;
}

sub burst
{
	foreach (1 .. 5 + rand 30)
	{
		my $what = rand;
		if    ($what < 0.6)  { $done{sent} += $node->sql('SELECT send(' . int(1 + rand 20) . ", $kinds)"); }
		elsif ($what < 0.78) { $done{by_id} += try('SELECT take_back()') // 0; }
		elsif ($what < 0.86) { $done{terminated} += try(q{SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE application_name = 'consumer' ORDER BY random() LIMIT 1) p}); }
		elsif ($what < 0.9)  { kill 'KILL', pick(keys %running); $done{killed}++; }
		elsif ($what < 0.97)
		{
			my $n = try(q{SELECT (cmq_rewind('w', greatest(earliest_rewind_time, latest_rewind_time - random() * interval '3 s')) IS NOT NULL)::int FROM cmq_queue_attributes('w')});
			$done{rewound} += $n // 0;
		}
		end_prepared() if rand() < 0.3;
		keep_up();
	}
	keep_up();
	return;
}

srand(seed());
# a burst without consumers: they begin with much
$done{sent} += $node->sql("SELECT sum(send(20, $kinds)) FROM generate_series(1, 20)");
start_client($_) foreach (@kinds) x 3, map { "prepare $_" } 0 .. 2;
my $slowest = 0;
my $seconds = 15;
for my $burst (1 .. $bursts)
{
	if ($burst == int(1 + $bursts / 2))
	{
		# from here on some want any, and nobody else wants messages of a kind more
		start_client($_) foreach -1, -1, -1, 'prepare -1';
		$kinds++;
	}
	burst();
	my $start = time;
	# nobody comes anew meanwhile, and would see by himself what there is
	my $empty = eventually { end_prepared(); try('SELECT ready + in_flight + delayed FROM cmq.status') eq '0' } $seconds;
	my $took = time - $start;
	$slowest = $took if $took > $slowest;
	next if $empty;
	fail("burst $burst: all that is ready is consumed within $seconds s");
	diag($node->sql(q{SELECT concat_ws(' ', msg_id, state, receive_count, rewind_count, headers) FROM cmq.q_w_live LIMIT 20}));
	diag($node->sql(q{SELECT concat_ws(' ', pid, state, wait_event_type, wait_event, query) FROM pg_stat_activity WHERE application_name = 'consumer'}));
	last;
}
ok($slowest < $seconds, 'after each burst all is soon consumed, in ' . sprintf('%.1f s', $slowest));
is($node->sql('SELECT count(*) FROM waited_in_vain'), '0', 'nobody has waited in vain');
kill 'KILL', keys %running;
waitpid $_, 0 foreach keys %running;
try(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'consumer'});
$node->wait_until(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'consumer'});
end_prepared();

note(join ', ', map { "$_ $done{$_}" } sort keys %done);
note($node->sql(q{SELECT string_agg(concat_ws(' ', how, n), ', ') FROM (SELECT how, count(*) AS n FROM ended GROUP BY 1 ORDER BY 1) e}));
is($node->sql('SELECT count(*) FROM cmq.q_w_all'), $done{sent}, 'every message that was sent is there');
is($node->sql(q{SELECT count(*) FROM cmq.q_w_all WHERE state <> 'deleted'}), '0', '... and had');
is($node->sql(q{
	SELECT msg_id, h.rewind_count, count(e.msg_id), count(DISTINCT e.rewind_count) FROM cmq.q_w_history h LEFT JOIN ended e USING (msg_id)
	 GROUP BY 1, 2 HAVING count(e.msg_id) <> h.rewind_count + 1 OR count(DISTINCT e.rewind_count) <> h.rewind_count + 1 LIMIT 10}), '', 'each of its lives ended once');
is($node->sql('SELECT count(*) FROM ended LEFT JOIN cmq.q_w_history h USING (msg_id) WHERE h.msg_id IS NULL'), '0', '... of no other message');
is($node->sql(q{SELECT * FROM ended WHERE wanted >= 0 AND wanted <> kind LIMIT 10}), '', 'nobody has had what he did not want');
is($node->sql(q{SELECT count(DISTINCT (wanted, how)) FROM ended WHERE how IN ('consume', 'delete')}), 2 * (@kinds + 1), 'everybody has had something, in both ways');
cmp_ok($node->sql(q{SELECT count(*) FROM ended WHERE how = 'prepared'}), '>', 0, '... and prepared transactions');
is($node->sql(q{SELECT (deleted, received + (SELECT count(*) FROM ended WHERE how = 'by id')) = ROW((SELECT count(*) FROM ended), (SELECT count(*) FROM ended)) FROM cmq.metrics}),
	't', 'the counters say the same');
cmp_ok($done{$_}, '>', 0, "$_: $done{$_}") foreach sort keys %done;
$hand->quit;
$node->is_sound;
$node->stop;
done_testing();
