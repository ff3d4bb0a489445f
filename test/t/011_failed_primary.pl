# A failed primary goes on for a few messages while its standby is promoted, is brought
# back with pg_rewind, follows, and is promoted in its turn: no message is lost that the
# promoted standby took, none is there twice, ids go on increasing.  Then a synchronous
# standby stands still: which calls wait for it, what is there when a wait is cancelled,
# and what a standby answers meanwhile.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $first = CmqNode->running('first', <<'CONF', allows_streaming => 1);
autovacuum = off
max_prepared_transactions = 5
wal_keep_size = 256MB
statement_timeout = 120s
CONF

# What an application sees of the messages; without ids, which it does not choose.
my $states = q{SELECT string_agg(body || ' ' || state || ' ' || receive_count || ' ' || rewind_count, ', ' ORDER BY enqueued_at) FROM cmq.q_q_all};
# The same to the last bit.
my $everything = join ';', map { "SELECT md5(string_agg(t::text, ';' ORDER BY t::text)) FROM $_ t" }
	qw(cmq_data.q_q cmq_data.q_q_pending cmq_data.q_q_rewind cmq.queue cmq.partition cmq.rewind_log);

sub consume
{
	my ($node, $n) = @_;
	return $node->sql(qq{WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('q', $n))
		SELECT string_agg(body, ' ' ORDER BY msg_id) FROM got WHERE cmq_delete('q', receipt_handle)});
}

my $last_id = 0;
sub send_to
{
	my ($node, @bodies) = @_;
	foreach (@bodies)
	{
		my $id = $node->sql("SELECT cmq_send('q', '$_')");
		$last_id = $id if $id > $last_id;
	}
	return;
}

sub follow
{
	my ($node, $primary) = @_;
	$node->poll("SELECT pg_last_wal_replay_lsn() >= '" . $primary->sql('SELECT pg_current_wal_lsn()') . "'::pg_lsn", $node->name . ' follows ' . $primary->name);
	return;
}

$first->sql(q{
	SELECT FROM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 43200)});
send_to($first, 'a' .. 'f');
is(consume($first, 2), 'a b', 'some are consumed');
$first->sql(q{SELECT FROM cmq_receive('q')});
my $second = $first->standby('second');
follow($second, $first);

note 'both go on';
$second->promote;
# what the failed one does is lost, whatever it is
send_to($first, 'lost1', 'lost2');
is(consume($first, 2), 'd e', 'the failed primary goes on');
$first->sql(q{SELECT cmq_rewind('q', (SELECT min(enqueued_at) FROM cmq.q_q_history)); SELECT FROM cmq_receive('q', 2);
	BEGIN; SELECT cmq_send('q', 'lost3'); SELECT FROM cmq_receive('q'); PREPARE TRANSACTION 'lost'});
send_to($second, 'g', 'h');
is(consume($second, 1), 'd', '... and so does the promoted standby');
$second->sql(q{BEGIN; SELECT cmq_send('q', 'prepared'); PREPARE TRANSACTION 'kept'});
$second->sql(q{SELECT cmq_restore('q', (SELECT enqueued_at FROM cmq.q_q_all WHERE body = 'b'), (SELECT enqueued_at FROM cmq.q_q_all WHERE body = 'c'))});
$second->sql('CHECKPOINT');
my $seen = $second->sql($states);
is($seen, 'a deleted 1 0, b ready 0 1, c in_flight 1 0, d deleted 1 0, e ready 0 0, f ready 0 0, g ready 0 0, h ready 0 0', '... with what it had and got');

note 'the failed primary is brought back';
$first->stop;
my $conf = slurp_file($first->data_dir . '/postgresql.conf');
command_ok([ 'pg_rewind', '--no-sync', '--target-pgdata', $first->data_dir, '--source-server', $second->connstr('postgres') ], 'pg_rewind');
open my $file, '>', $first->data_dir . '/postgresql.conf' or die $!;
print $file $conf;
close $file;
unlink $first->data_dir . '/postgresql.auto.conf';
$first->enable_streaming($second);
$first->start;
follow($first, $second);
is($first->sql($states), $seen, 'it follows the other one');
is($first->sql($everything), $second->sql($everything), '... to the last bit');
send_to($second, 'i');
follow($first, $second);
is($first->sql($everything), $second->sql($everything), '... and goes on following');

note 'and is promoted again';
$second->stop;
$first->promote;
is($first->sql(q{SELECT active_msg_num, inactive_msg_num, rewind_msg_num FROM cmq_queue_attributes('q')}), '6|1|2', 'the numbers are right');
# from 17 on pg_rewind and a promotion may lose it: what the server has lost is sent anew
my $came = $first->pg_version->major < 17 || $first->sql('SELECT count(*) FROM pg_prepared_xacts');
$first->sql($came ? q{COMMIT PREPARED 'kept'} : q{SELECT cmq_send('q', 'prepared')});
is($first->sql(q{SELECT pending_msg_num, inactive_msg_num FROM cmq.metrics}), '8|1', '... a prepared transaction came along');
my $before = $last_id;
send_to($first, 'j');
cmp_ok($last_id, '>', $before, 'ids go on increasing');
is(consume($first, 100), ($came ? 'b e f g h prepared i j' : 'b e f g h i prepared j'), 'everything is received once');
is($first->sql(q{SELECT cmq_restore('q', '-infinity')}), '10', 'the history is there');
is(consume($first, 100), ($came ? 'a b d e f g h prepared i j' : 'a b d e f g h i prepared j'), '... and received again');

note 'a synchronous standby that stands still';
my $third = $first->standby('third', "max_standby_streaming_delay = 0\n");
$first->append_conf('postgresql.conf', "synchronous_standby_names = '*'\nsynchronous_commit = on\n");
$first->reload;
$first->poll(q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}, 'there is one');
$first->sql(q{SELECT FROM cmq_send_batch('q', '{k,l,m}')});
$third->stop;

my $session = $first->session(on_error_stop => 0);
my $pid = $session->query('SELECT pg_backend_pid()');
# Begin a call that will wait for the standby; returns when it does.
sub begin_wait
{
	my ($sql) = @_;
	$session->query_until(qr/begun/, "\\echo begun\n$sql;\n");
	$first->poll("SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $pid", "waits for the standby: $sql");
	return;
}
sub end_wait
{
	$first->sql("SELECT pg_cancel_backend($pid)");
	$session->query('');
	like($session->{stderr}, qr/WARNING:  canceling wait for synchronous replication.*\nDETAIL:  The transaction has already committed locally/, '... the cancelled wait says that it is committed');
	$session->{stderr} = '';
	return;
}

# nothing is lost with a receive, so it waits for nobody
my $handle = $first->handle('q');
ok($handle, 'a receive does not wait');
begin_wait("SELECT cmq_delete('q', '$handle')");
is($first->sql(q{SELECT pending_msg_num, inactive_msg_num FROM cmq.metrics}), '4|2', '... meanwhile it is not deleted to others, and metrics do not wait');
is($first->sql(q{SELECT active_msg_num, inactive_msg_num FROM cmq_queue_attributes('q')}), '2|2', '... nor do attributes');
end_wait();
is($first->sql(q{SELECT active_msg_num, inactive_msg_num FROM cmq_queue_attributes('q')}), '2|1', '... and it is deleted');
is($first->sql(q{SELECT count(*) FROM cmq_receive('q', 10)}), '2', 'two are received');
my $waiter = $first->session;
$waiter->query_until(qr/begun/, q{\echo begun
	SELECT 'woken by ' || body FROM cmq_receive('q', 10, NULL, 30);
});
$first->poll("SELECT count(*) = 1 $waiting", 'one waits for a message');
begin_wait("SELECT cmq_send('q', 'local')");
is($first->sql(q{SELECT count(*) FROM cmq.q_q_live WHERE body = 'local'}), '0', '... meanwhile nobody sees it');
is($first->sql(q{SELECT count(*) FROM cmq_receive('q', 10)}), '0', '... or receives it');
end_wait();
like($waiter->query(''), qr/woken by local/, '... and it is sent, and wakes who waits');
$waiter->quit;
$third->start;
$first->poll(q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}, 'the standby is back');
$first->sql(q{SELECT cmq_send('q', 'n')});
follow($third, $first);
is($third->sql($everything), $first->sql($everything), '... and has what was committed without it');
$session->quit;

note 'what a standby can be asked';
is($third->sql($_), $first->sql($_), "as on the primary: $_") foreach (
	(map { "SELECT count(*), md5(string_agg(t::text, ';' ORDER BY t::text)) FROM cmq.$_ t" } qw(q_q_live q_q_history q_q_all q_q queues topics subscriptions)),
	q{SELECT count(*) FROM cmq.rewinds},
	q{SELECT active_msg_num, inactive_msg_num, delay_msg_num, rewind_msg_num, min_msg_time FROM cmq_queue_attributes('q')},
	q{SELECT * FROM cmq_rewind_preview('q', '-infinity')},
	q{SELECT count(*), md5(string_agg(t::text, ';')) FROM cmq_history('q') t},
	(map { "SELECT count(*), md5(string_agg(t::text, ';')) FROM cmq_messages('q', '$_') t" } qw(pending history)),
	q{SELECT count(*), md5(string_agg(m::text, ';' ORDER BY m.msg_id)) FROM cmq.q_q_all v, cmq_message('q', v.msg_id) m},
	q{SELECT sum(history) > 0, bool_and(exact), md5(string_agg(t::text, ';')) FROM cmq_timeline('q', date_trunc('hour', now()) - interval '10 h', date_trunc('hour', now()) + interval '10 h') t});
is($third->psql('postgres', '\d+ cmq.*', stdout => \my $described), 0, '... and psql describes the relations');

# A report that has read what the primary drops.
$first->sql(q{SELECT cmq_create_queue('gone'); SELECT cmq_send('gone', 'x')});
follow($third, $first);
my $report = $third->session(on_error_stop => 0);
$report->query(q{\set VERBOSITY verbose});
is($report->query(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) > 0 FROM cmq.q_gone_live}), 't', 'a report is under way');
$report->query_until(qr/begun/, q{\echo begun
	SELECT pg_sleep(120);
});
$first->sql(q{SELECT cmq_drop_queue('gone'); SELECT cmq_send('q', 'o'); SELECT FROM cmq_alter_queue('q', rewind_seconds => 0)});
follow($third, $first);
$report->query('');
like($report->{stderr}, qr/ERROR:  40001: canceling statement due to conflict with recovery/, '... it is cancelled when the primary drops what it has read');
$report->quit;
is($third->sql(q{SELECT count(*) FROM cmq.q_q_history}), '0', '... the next one sees that');
is($third->sql(q{SELECT count(*) FROM cmq.q_q_live}), $first->sql(q{SELECT count(*) FROM cmq.q_q_live}), '... and what is there');

$first->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
$first->reload;
$third->stop;
$first->stop;
foreach my $node ($first, $second, $third)
{
	$node->is_sound($node->name . ' has nothing to complain about');
}
done_testing();
