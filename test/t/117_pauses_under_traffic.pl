# A queue is paused and resumed at random beside senders, consumers that wait, fail and
# roll back, restores and maintenance.  While it is paused nothing is delivered and no
# dead letter leaves it; and in the end each message has been consumed as often as it has
# lived, or is a dead letter.  CMQ_TEST_SEED repeats what is drawn.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Seed;
use Test::More;

my $rounds = $ENV{CMQ_TEST_LONG} ? 300 : 25;

my $node = CmqNode->running('pauses', <<'CONF');
max_prepared_transactions = 10
lock_timeout = 60s
log_min_messages = warning
CONF

# Each call books in its own transaction; deliveries counts those that are rolled back, too.
$node->sql(q{
	SELECT FROM cmq_create_queue('dead');
	SELECT FROM cmq_create_queue('p', visibility_timeout => 43200, rewind_seconds => 3600, dead_letter_queue => 'dead', max_receive_count => 2);
	CREATE TABLE sent (msg_id bigint PRIMARY KEY);
	CREATE TABLE done (msg_id bigint, rewind_count int, PRIMARY KEY (msg_id, rewind_count));
	CREATE SEQUENCE deliveries;
	CREATE FUNCTION consume(n int, wait int) RETURNS bigint LANGUAGE sql AS $$
		WITH got AS MATERIALIZED (SELECT nextval('deliveries'), * FROM cmq_receive('p', n, NULL, wait)),
			 deleted AS MATERIALIZED (SELECT * FROM got WHERE cmq_delete('p', receipt_handle)),
			 book AS (INSERT INTO done SELECT msg_id, rewind_count FROM deleted RETURNING 1)
		SELECT count(*) FROM book
	$$;
	CREATE FUNCTION consume_at_once(n int, wait int) RETURNS bigint LANGUAGE sql AS $$
		WITH book AS (INSERT INTO done SELECT msg_id, rewind_count FROM (SELECT nextval('deliveries'), * FROM cmq_consume('p', n, wait)) c RETURNING 1)
		SELECT count(*) FROM book
	$$;
	CREATE FUNCTION consume_by_ids() RETURNS bigint LANGUAGE sql AS $$
		WITH got AS MATERIALIZED (SELECT nextval('deliveries'), * FROM cmq_receive_messages('p', array(SELECT cmq.msg_id(enqueued_at) FROM cmq_data.q_p_pending LIMIT 5))),
			 deleted AS MATERIALIZED (SELECT * FROM got WHERE cmq_delete('p', receipt_handle)),
			 book AS (INSERT INTO done SELECT msg_id, rewind_count FROM deleted RETURNING 1)
		SELECT count(*) FROM book
	$$;
	CREATE FUNCTION give_up(wait int) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(nextval('deliveries')) + count(cmq_change_visibility('p', receipt_handle, 0)) FROM cmq_receive('p', 1, NULL, wait)
	$$});

sub traffic
{
	my ($name, $clients, %scripts) = @_;
	local $ENV{PGAPPNAME} = $name;
	return $node->start_pgbench('-c', $clients, '-j', '1', '-T', '10000', '--random-seed=' . seed(), $node->scripts(%scripts));
}

srand(seed());
my @traffic = (
	# not faster than all is consumed
	traffic('sender', 1, send => "INSERT INTO sent SELECT cmq_send('p', 'm');\n\\sleep 3 ms\n"),
	traffic('consumer', 6,
		'consume@4' => "SELECT consume(3, 1);\n",
		'consume_at_once@2' => "SELECT consume_at_once(2, 1);\n",
		'consume_by_ids@1' => "SELECT consume_by_ids();\n",
		'look@1' => "SELECT consume(10, 0);\n\\sleep 10 ms\n",
		'give_up@3' => "SELECT give_up(1);\n",
		'rollback@1' => "BEGIN;\nSELECT consume(2, 1);\nROLLBACK;\n"));

sub pick { return $_[ rand @_ ]; }

sub number { return $node->sql('SELECT ' . $_[0]); }

sub deliveries { return number('last_value FROM deliveries'); }

sub letters { return number(q{count(*) FROM cmq.q_dead_live}); }

# Wait until a query gives more than it does now.
sub goes_on
{
	my ($what, $more) = @_;
	my $now = number($what);
	return eventually { number($what) >= $now + $more };
}

# The ways to pause and to resume.
my %ways = (
	plain => sub { return "SELECT cmq_$_[0]_queue('p');" },
	transaction => sub { return "BEGIN; SELECT cmq_$_[0]_queue('p'); SELECT pg_sleep(0.05); COMMIT;" },
	savepoint => sub { return "BEGIN; SAVEPOINT a; SELECT cmq_$_[0]_queue('p'); ROLLBACK TO a; SELECT cmq_$_[0]_queue('p'); COMMIT;" },
	restore => sub { return "BEGIN; SELECT cmq_restore('p', now() - interval '300 ms', now()); SELECT cmq_$_[0]_queue('p'); COMMIT;" },
	prepared => sub { return "BEGIN; SELECT cmq_$_[0]_queue('p'); PREPARE TRANSACTION 'p'; SELECT pg_sleep(0.05); COMMIT PREPARED 'p';" });
my %done;

foreach my $round (1 .. $rounds)
{
	my $way = pick(sort keys %ways);
	if (rand() < 0.2)
	{
		# one that does not come about
		$node->sql(pick("BEGIN; SELECT cmq_pause_queue('p'); ROLLBACK", "BEGIN; SELECT cmq_pause_queue('p'); PREPARE TRANSACTION 'n'; ROLLBACK PREPARED 'n'"));
		ok(goes_on('last_value FROM deliveries', 20), "round $round: a pause that is rolled back is none");
	}
	$node->sql($ways{$way}->('pause'));
	$done{"pause, $way"}++;
	# Receives that were at work may still deliver.  One that is seen to wait now, or to
	# begin, knows of the pause when it looks next.
	my $since = number('clock_timestamp()');
	$node->wait_until(qq{SELECT count(*) = 0 FROM pg_stat_activity
		WHERE application_name = 'consumer' AND state <> 'idle' AND xact_start < '$since' AND wait_event_type IS DISTINCT FROM 'Extension'});
	my ($deliveries, $letters) = (deliveries(), letters());
	ok(goes_on('count(*) FROM sent', 1 + int rand 40), "round $round, $way: sends go on");
	$node->sql(q{SELECT cmq_maintain('p')}) if rand() < 0.5;
	is(deliveries() . ' ' . letters(), "$deliveries $letters", '... and nothing is delivered, or moved to the dead-letter queue');
	$way = pick(sort keys %ways);
	$node->sql($ways{$way}->('resume'));
	$done{"resume, $way"}++;
	ok(goes_on('last_value FROM deliveries', 1 + int rand 40), "... until it is resumed, $way");
	last unless Test::More->builder->is_passing;
}

# by several at once, as it comes
my $pauser = traffic('pauser', 3,
	'pause@1' => "\\sleep 5 ms\nSELECT cmq_pause_queue('p');\n",
	'resume@3' => "SELECT cmq_resume_queue('p');\n\\sleep 10 ms\n",
	'rollback@1' => "BEGIN;\nSELECT cmq_pause_queue('p');\nROLLBACK;\n");
ok(goes_on('last_value FROM deliveries', $rounds * 20), 'deliveries go on while three pause and resume at random');

foreach my $run ($pauser, @traffic)
{
	ok($run->is_running, 'clients had no error') or diag $run->{err};
	$run->kill;
}
$node->wait_until(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name IN ('sender', 'consumer', 'pauser')});
$node->sql(q{SELECT cmq_resume_queue('p')});
eventually { $node->sql('SELECT consume(1000, 0)') == 0 && $node->sql(q{SELECT ready + in_flight = 0 FROM cmq.status WHERE queue = 'p'}) eq 't' };
$node->sql(q{SELECT cmq_maintain('p')});

is($node->sql(q{SELECT count(*) FROM cmq.q_p_live}), '0', 'nothing is left');
cmp_ok(number('count(*) FROM sent'), '>', 20 * $rounds, number('count(*) FROM sent') . ' messages, ' . deliveries() . ' deliveries, ' . letters() . ' dead letters');
is($node->sql(q{
	SELECT s.msg_id, h.rewind_count, d.n, l.n FROM sent s
	  LEFT JOIN cmq.q_p_history h USING (msg_id)
	  LEFT JOIN LATERAL (SELECT count(*) AS n FROM done d WHERE d.msg_id = s.msg_id) d ON true
	  LEFT JOIN LATERAL (SELECT count(*) AS n FROM cmq.q_dead_live l WHERE (headers #>> '{cmq_dead_letter,msg_id}')::bigint = s.msg_id) l ON true
	 WHERE (h.msg_id IS NULL AND l.n <> 1) OR (h.msg_id IS NOT NULL AND (l.n <> 0 OR d.n <> h.rewind_count + 1))
	 LIMIT 10}), '', 'each message was consumed once in each of its lives, or is one dead letter');
is($node->sql(q{SELECT (SELECT count(*) FROM cmq_data.q_p) + (SELECT count(*) FROM cmq.q_dead_live)}), number('count(*) FROM sent'), 'and there are no others');
$node->counts_agree('p', 'agree');
is($node->sql(q{SELECT count(*) FROM (SELECT kind, lag(kind) OVER (ORDER BY id) AS before FROM cmq.rewinds WHERE queue = 'p' AND kind IN ('pause', 'resume')) r
	WHERE kind = before OR before IS NULL AND kind <> 'pause'}), '0', 'pauses and resumes alternate in the record');

# A receive that waits is signalled before it is sent the news of the queue's row; here
# half a second before.  It knows all the same that the queue is paused, or resumed.
$node->append_conf('postgresql.conf', "shared_preload_libraries = '" . $node->build_module('at_commit') . ",cmq'\n");
$node->restart;
my $waiter = $node->wait_for_message('p');
$node->sql(q{BEGIN; SELECT cmq_pause_queue('p'), cmq_send('p', 'kept'); SET LOCAL at_commit.action = 'sleep'; COMMIT});
is($node->sql(q{SELECT ready, in_flight FROM cmq.status WHERE queue = 'p'}), '1|0', 'who waits does not get what comes with a pause');
# by the time that another one has waited it has looked once more, and heard of the pause
is($node->sql(q{SELECT cmq_send('p', 'more') > 0; SELECT count(*) FROM cmq_receive('p', 1, NULL, 1)}), "t\n0", '... nor what comes later');
$node->sql(q{BEGIN; SELECT cmq_resume_queue('p'); SET LOCAL at_commit.action = 'sleep'; COMMIT});
is($node->waited($waiter), 'kept at once', '... and has it with the resume');

note(join ', ', map { "$_ $done{$_}" } sort keys %done);
note($node->sql(q{SELECT kind, count(*), sum(messages) FROM cmq.rewinds GROUP BY 1 ORDER BY 1}));

$node->stop;
$node->is_sound;
done_testing();
