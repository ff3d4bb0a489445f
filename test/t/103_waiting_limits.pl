# Each of the server's time limits in each call that waits: the right limit ends the call,
# which leaves nothing behind, and the next waiter gets the message.  Then clients are
# killed in the midst of whatever they do: every message is counted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;
use Time::HiRes qw(usleep);

my $node = CmqNode->running('main', <<'CONF');
max_worker_processes = 8
autovacuum = off
statement_timeout = 120s
CONF

# A psql in the background that runs commands and ends.
sub start { return $node->start_psql('\\set VERBOSITY verbose', @_); }

# What it has said, errors by code and text.
sub finish
{
	my ($session) = @_;
	$session->finish;
	my ($error) = $session->{err} =~ /^(?:ERROR|FATAL):\s+(.*)/m;
	return join ' ', grep { $_ ne '' } $session->{out} =~ s/\s+/ /gr =~ s/^ | $//gr, $error // '';
}

# One that waits sleeps on, and has the next message: no count is too low, nobody
# is asked to leave any more.
my $messages = 0;
sub next_has_it
{
	my ($queue) = @_;
	my $next = start("SELECT body FROM cmq_receive('$queue', 1, 43200, 30)");
	$node->wait_for_waiters(1);
	my $body = 'm' . ++$messages;
	$node->sql("SELECT cmq_send('$queue', '$body')");
	is(finish($next), $body, '... the next one waits, and has the message');
	$node->sql("SELECT cmq_clear_queue('$queue')");
	return;
}

$node->sql(q{SELECT FROM cmq_create_queue('q', visibility_timeout => 43200)});

note 'a receive that waits';

my $receive = q{SELECT body FROM cmq_receive('q', 1, 43200, %s)};
my $wait = sprintf $receive, 30;
is(finish(start(q{SET statement_timeout = '200ms'}, $wait)), '57014: canceling statement due to statement timeout', 'statement_timeout');
next_has_it('q');
is(finish(start(q{SET lock_timeout = '100ms'}, sprintf($receive, 1), q{SELECT 'goes on'})), 'goes on', 'lock_timeout is not for it');
is(finish(start(q{SET idle_session_timeout = '100ms'}, sprintf($receive, 1) . q{; SELECT 'goes on'})), 'goes on', 'nor is idle_session_timeout');
is(finish(start(q{SET idle_in_transaction_session_timeout = '100ms'}, 'BEGIN', sprintf($receive, 1) . q{; SELECT 'goes on'})), 'goes on', 'nor is idle_in_transaction_session_timeout');
is(finish(start(q{SET statement_timeout = '200ms'}, qq{DO \$\$ BEGIN PERFORM FROM cmq_receive('q', 1, 43200, 30); EXCEPTION WHEN query_canceled THEN RAISE EXCEPTION 'caught' USING ERRCODE = 'ZZ001'; END \$\$})),
	'ZZ001: caught', 'statement_timeout in a subtransaction');
next_has_it('q');
SKIP:
{
	skip 'no transaction_timeout before PostgreSQL 17', 2 if $node->pg_version < 17;
	like(finish(start(q{SET transaction_timeout = '200ms'}, $wait)), qr/25P04: terminating connection due to transaction timeout/, 'transaction_timeout');
	next_has_it('q');
}

note 'a receive that has a message in an open transaction';

$node->sql(q{SELECT cmq_send('q', 'held')});
my $idle = $node->session(on_error_stop => 0);
is($idle->query(q{SET idle_in_transaction_session_timeout = '2s'; BEGIN; SELECT body FROM cmq_receive('q')}), 'held', 'a receive');
is(finish(start($wait)), 'held', '... idle_in_transaction_session_timeout ends it, and who waits has the message');
eval { $idle->quit };
$node->sql(q{SELECT cmq_clear_queue('q')});

note 'an alter and a drop that wait for a transaction';

my $user = $node->session;
my $use = q{SELECT cmq_send('q', 'rolled back') > 0};
is($user->query("BEGIN; $use"), 't', 'a transaction uses the queue');
foreach my $call ('cmq_drop_queue(%s)', 'cmq_alter_queue(%s, rewind_seconds => 60)', 'cmq_alter_queue(%s, msg_retention_seconds => 3600)')
{
	my $sql = 'SELECT FROM ' . sprintf $call, q{'q'};
	like(finish(start(q{SET statement_timeout = '500ms'}, $sql)), qr/^57014: canceling statement due to statement timeout$/, "$sql: statement_timeout");
	next_has_it('q');
	like(finish(start(q{SET lock_timeout = '500ms'}, $sql)), qr/^55P03: /, '... lock_timeout');
	next_has_it('q');
	like(finish(start(q{SET statement_timeout = '500ms'}, qq{DO \$\$ BEGIN PERFORM FROM ${\ sprintf $call, q{'q'}}; EXCEPTION WHEN query_canceled THEN
		PERFORM FROM cmq_send('q', 'still there'); END \$\$}, q{SELECT body FROM cmq_receive('q')})), qr/^still there$/, '... statement_timeout in a subtransaction, and a send in the same transaction');
	$node->sql(q{SELECT cmq_clear_queue('q')});
	next_has_it('q');
}
$user->query('ROLLBACK');

note 'a send that waits for a partition';

$node->sql(q{SELECT FROM cmq_create_queue('idle', msg_retention_seconds => 60)});
$node->remove_leaves('idle');
$user->query('BEGIN; LOCK TABLE cmq_data.q_idle IN SHARE UPDATE EXCLUSIVE MODE');
my $send = q{SELECT cmq_send('idle', 'x')};
sub no_workers
{
	return $node->poll(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'cmq worker'}, '... its worker is gone');
}
is(finish(start(q{SET statement_timeout = '300ms'}, $send)), '57014: canceling statement due to statement timeout', 'statement_timeout');
no_workers();
like(finish(start(q{SET lock_timeout = '300ms'}, $send)), qr/^55P03: there is no partition for the present time/, 'lock_timeout is not for a send that waits for its worker');
no_workers();
my $second = $node->session(on_error_stop => 0);
$second->query(q{SET lock_timeout = '100ms'});
my $before = start($send);
$node->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq worker'}, 'one waits for a worker');
$second->query($send);
like($second->{stderr}, qr/ERROR:  canceling statement due to lock timeout/, '... the next one stands behind it: lock_timeout');
$second->quit;
like(finish($before), qr/^55P03: /, '... the first one has the error');
my $dying = start($send);
$node->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq worker'}, 'one waits for a worker');
$node->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'cmq_send' AND backend_type = 'client backend' AND pid <> pg_backend_pid()});
like(finish($dying), qr/57P01/, '... and is terminated');
no_workers();
$user->query('ROLLBACK');
$user->quit;
is($node->sql(q{SELECT cmq_send('idle', 'x') > 0}), 't', 'then a send has its partition');
is($node->sql(q{SELECT body FROM cmq_receive('idle')}), 'x', '... and is received');

note 'clients that are killed';

$node->sql(q{
	SELECT FROM cmq_create_queue('k', visibility_timeout => 1, rewind_seconds => 3600);
	CREATE TABLE sent (msg_id bigint PRIMARY KEY);
	CREATE TABLE done (msg_id bigint PRIMARY KEY);
	CREATE FUNCTION cook() RETURNS bigint LANGUAGE sql AS $$
		WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('k', 3)), d AS (INSERT INTO done SELECT msg_id FROM got WHERE cmq_delete('k', receipt_handle) RETURNING 1)
		SELECT count(*) FROM d $$});
my %work = (
	'sends' => q{INSERT INTO sent SELECT cmq_send('k', 'one');},
	'sends a batch' => q{INSERT INTO sent SELECT * FROM cmq_send_batch('k', array_fill('many'::text, ARRAY[200])) WHERE NOT EXISTS (SELECT FROM sent OFFSET 20000);},
	'receives, and is about to delete' => q{SELECT count(*) FROM cmq_receive('k', 5);},
	'consumes' => q{SELECT cook();},
	'consumes slowly' => qq{BEGIN;\nSELECT cook();\nSELECT pg_sleep(0.01);\nCOMMIT;},
	'waits' => qq{SELECT count(*) FROM cmq_receive('k', 2, 1, 30);\nSELECT cmq_delete_batch('empty', '{}');},
	'waits where nothing comes' => q{SELECT count(*) FROM cmq_receive('empty', 2, 1, 5);});
$node->sql(q{SELECT FROM cmq_create_queue('empty')});
my @files = map { $node->script(s/\W/_/gr, "$work{$_}\n" x 20000) } sort keys %work;
sub client { return $node->beside('psql', '-XAtq', '-o', '/dev/null', '-f', @_); }
my %clients = map { $_ => client($_) } @files;
my $kills = 0;
foreach my $round (1 .. 10)
{
	my $enough = $node->sql('SELECT count(*) FROM done') + 100;
	$node->wait_until("SELECT count(*) > $enough FROM done");
	foreach my $file (@files)
	{
		# each a little later in what it does
		usleep(1000 * $round);
		$clients{$file}->kill;
		$clients{$file} = client($file);
		$kills++;
	}
}
$_->kill foreach values %clients;
$node->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'}, "after $kills kills no session is left");
is($node->sql(q{SELECT count(*) FROM sent FULL JOIN cmq_data.q_k m ON msg_id = cmq.msg_id(m.enqueued_at) WHERE msg_id IS NULL OR m.enqueued_at IS NULL}), '0', 'what was sent is there, and nothing else');
is($node->sql(q{SELECT count(*) FROM done FULL JOIN cmq_data.q_k_rewind r ON msg_id = cmq.msg_id(r.enqueued_at) WHERE msg_id IS NULL OR r.enqueued_at IS NULL}), '0', 'what was deleted is deleted, and nothing else');
is($node->sql(q{SELECT count(*) FROM (SELECT FROM cmq_data.q_k m
	FULL JOIN (SELECT enqueued_at FROM cmq_data.q_k_pending UNION ALL SELECT enqueued_at FROM cmq_data.q_k_rewind) s USING (enqueued_at)
	GROUP BY enqueued_at HAVING count(*) <> 1 OR count(m.enqueued_at) <> 1 OR count(s.enqueued_at) <> 1) x}), '0', 'each message is in one state');
is($node->sql(q{SELECT (SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'k') - (SELECT count(*) FROM cmq_data.q_k_pending)}), '0', 'the number is right');
my $pending = $node->sql(q{SELECT count(*) FROM cmq_data.q_k_pending});
$node->sql(q{DO $$ BEGIN
	LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM cmq_data.q_k_pending);
		PERFORM cook() FROM generate_series(1, 100);
		COMMIT;
	END LOOP; END $$});
is($node->sql(q{SELECT count(*) FROM sent FULL JOIN done USING (msg_id) WHERE sent IS NULL OR done IS NULL}), '0', "the $pending that were pending are received, and then all have been");
next_has_it('k');

$node->stop;
$node->is_sound;
done_testing();
