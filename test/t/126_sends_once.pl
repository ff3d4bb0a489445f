# Sends that happen once, under fire: eight clients with a hundred keys, over the ends of
# partitions, with rollbacks and savepoints, while maintenance drops old keys; a crash, a
# restart, prepared transactions, the promotion of a standby, a dump and its restore.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{CMQ_TEST_LONG} ? 10 : 2;

my $node = CmqNode->running('main', <<'CONF', allows_streaming => 'logical');
cmq.maintenance_interval = 1s
max_prepared_transactions = 5
statement_timeout = 120s
log_statement = none
CONF

# What each send returned, by its own transaction; and partitions of any width.
$node->sql(q(
CREATE TABLE answer (queue text, key text, msg_id bigint, duplicate boolean);
CREATE FUNCTION some_keys(n int) RETURNS text[] LANGUAGE sql VOLATILE AS $$
	SELECT array_agg((1 + floor(random() * 100))::int::text) FROM generate_series(1, n)
$$;
CREATE FUNCTION add_leaf(q text, number int, since timestamptz, until timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE cmq_data.m_%1$s_%2$s PARTITION OF cmq_data.q_%1$s FOR VALUES FROM (%3$L) TO (%4$L);
		CREATE TABLE cmq_data.r_%1$s_%2$s PARTITION OF cmq_data.q_%1$s_rewind FOR VALUES FROM (%3$L) TO (%4$L);
		CREATE TABLE cmq_data.d_%1$s_%2$s (LIKE cmq_data.q_%1$s_dedup, UNIQUE (key));
		ALTER TABLE cmq_data.q_%1$s_dedup ATTACH PARTITION cmq_data.d_%1$s_%2$s FOR VALUES FROM (%3$L) TO (%4$L)', q, number, since, until);
	EXECUTE format('INSERT INTO cmq.partition VALUES (%1$L, %3$L, %4$L, ''cmq_data.m_%1$s_%2$s'', ''cmq_data.r_%1$s_%2$s'', ''cmq_data.d_%1$s_%2$s'')', q, number, since, until);
END $$;
-- partitions of a quarter of a second, after one that ends in so many seconds
CREATE FUNCTION make_queue(q text, seconds int, first int DEFAULT 2) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz := cmq._clock('clock') + first * interval '1 s';
	leaf cmq.partition;
BEGIN
	PERFORM cmq_create_queue(q, rewind_seconds => 345600, dedup_seconds => seconds);
	FOR leaf IN DELETE FROM cmq.partition WHERE queue = q RETURNING * LOOP
		EXECUTE format('DROP TABLE %s, %s, %s', leaf.messages, leaf.rewind, leaf.dedup);
	END LOOP;
	PERFORM add_leaf(q, 0, start - interval '1 h', start);
	FOR i IN 1 .. 24 LOOP
		PERFORM add_leaf(q, i, start + (i - 1) * interval '0.25 s', start + i * interval '0.25 s');
	END LOOP;
	PERFORM add_leaf(q, 25, start + interval '6 s', start + interval '1 day');
	EXECUTE format('ALTER TABLE ONLY cmq_data.q_%s ALTER COLUMN body SET STATISTICS -1', q);
END $$;
SELECT FROM cmq_create_queue('clock');
));

my %scripts = (
	'one@6' => q(
\set k random(1, 100)
\set end random(1, 6)
BEGIN ISOLATION LEVEL %2$s;
INSERT INTO answer SELECT '%1$s', :k, cmq_send('%1$s', :k::text, dedup_key => :k::text);
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
),
	'batch@2' => q(
\set n random(1, 8)
\set end random(1, 6)
BEGIN;
INSERT INTO answer SELECT '%1$s', keys[n], id FROM some_keys(:n) keys, cmq_send_batch('%1$s', keys, dedup_keys => keys) WITH ORDINALITY s (id, n);
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
),
	# in one order, so that no two wait for each other
	'savepoint@2' => q(
\set k random(1, 50)
\set l random(51, 100)
BEGIN;
SAVEPOINT s;
SELECT cmq_send('%1$s', :k::text, dedup_key => :k::text);
ROLLBACK TO s;
INSERT INTO answer SELECT '%1$s', :k, cmq_send('%1$s', :k::text, dedup_key => :k::text);
INSERT INTO answer SELECT '%1$s', :l, cmq_send('%1$s', :l::text, dedup_key => :l::text);
COMMIT;
));

sub clients
{
	my ($queue, $seconds, $isolation) = @_;
	return $node->start_pgbench('-c', 8, '-T', $seconds, $node->scripts(map { $_ => sprintf($scripts{$_}, $queue, $isolation) } keys %scripts));
}

# Of the messages with one key no two are as near as that, and each answer is one of them.
sub check
{
	my ($queue, $seconds, $what, $where) = @_;
	$where //= $node;
	is($where->sql(qq{SELECT count(*) FROM (SELECT enqueued_at - lag(enqueued_at) OVER (PARTITION BY body ORDER BY enqueued_at) AS apart FROM cmq_data.q_$queue) s
		WHERE apart < interval '$seconds s'}), 0, "$what: no message is there twice");
	is($where->sql(qq{SELECT count(*) FROM answer a WHERE queue = '$queue' AND NOT EXISTS (SELECT FROM cmq_data.q_$queue WHERE enqueued_at = cmq.enqueued_at(a.msg_id) AND body = a.key)}),
		0, "$what: each answer is the id of a message with that key");
	is($where->sql(qq{SELECT count(*) FROM cmq_data.q_$queue m WHERE NOT EXISTS (SELECT FROM answer a WHERE queue = '$queue' AND cmq.enqueued_at(a.msg_id) = m.enqueued_at)}),
		0, "$what: nobody else has sent");
	return;
}

for my $round (1 .. $rounds)
{
	my $queue = "fire$round";
	my $isolation = $round % 2 ? 'READ COMMITTED' : 'REPEATABLE READ';

	note "round $round";
	$node->sql("SELECT FROM make_queue('$queue', 1)");
	clients($queue, 9, $isolation)->succeeds("round $round: eight clients");
	check($queue, 1, "round $round");
	my ($sent, $asked) = split /\|/, $node->sql("SELECT (SELECT count(*) FROM cmq_data.q_$queue), (SELECT count(*) FROM answer WHERE queue = '$queue')");
	cmp_ok($sent, '<', $asked / 2, "round $round: most were duplicates");
	cmp_ok($sent, '>=', 500, "round $round: keys came again when their time was over");
	is($node->sql("SELECT sent FROM cmq.metrics WHERE queue = '$queue'"), $sent, "round $round: what is stored is counted");
	$node->poll(qq{SELECT count(*) = 0 FROM cmq.partition WHERE queue = '$queue' AND dedup IS NOT NULL AND upper < now()}, "round $round: maintenance drops old keys");
	is($node->sql("SELECT count(*) FROM cmq.partition WHERE queue = '$queue' AND lower < now()"), 26, "round $round: and no messages");
}

note 'sends that stop';

# A send has its time and stops before its key is there, at the first row of a partition. A
# send of the same key from the next partition waits for it, and can be ended meanwhile.
my $library = $node->build_module('hold_extension');
$node->sql(qq{CREATE FUNCTION hold_extension(regclass) RETURNS void LANGUAGE c AS '$library', 'hold_extension'});
$node->sql("SELECT FROM make_queue('stop', 3600, 8)");
my $leaf = $node->sql(q{SELECT dedup FROM cmq.partition WHERE queue = 'stop' ORDER BY lower LIMIT 1});
# Another one has opened the partitions of the present and not got its time, which is later
# than those.
$node->sql("SELECT FROM make_queue('late', 86400, 8)");
$node->sql(q{SELECT FROM cmq.partition p, add_leaf('late', 26, p.lower - interval '1 h', p.lower) WHERE queue = 'late' AND lower < now()});
my $locker = $node->session;
$locker->query_safe('BEGIN; LOCK TABLE cmq_data.d_late_26');
my $late = $node->start_psql(q{SELECT cmq_send('late', 'late', dedup_key => 'k')});
$node->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%late%'}, 'late: a send has stopped');
is($node->sql(q{SELECT count(*) FROM pg_locks JOIN cmq.partition ON relation = dedup WHERE queue = 'late' AND mode = 'RowExclusiveLock' AND upper > cmq._clock('late') AND lower < now() - interval '1 min'}), 1, 'late: in the first partition');
my $holder = $node->session;
$holder->query_safe("BEGIN; SELECT hold_extension('$leaf')");
my $stopped = $node->start_psql(q{SELECT cmq_send('stop', 'first', dedup_key => 'k')});
$node->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'extend' AND query LIKE '%first%'}, 'stop: a send has stopped');
$node->wait_until(q{SELECT upper < cmq._clock('stop') FROM cmq.partition WHERE queue = 'stop' ORDER BY lower LIMIT 1});
like($node->complaint(q{SET statement_timeout = '1s'; SELECT cmq_send('stop', 'second', dedup_key => 'k')}), qr/statement timeout/, 'stop: another one of its key waits');
like($node->sql(q{SELECT cmq_send('stop', 'plain')}), qr/^\d+$/, 'stop: and one without a key does not');
$holder->query_safe('COMMIT');
my $stopped_id = $stopped->complete =~ s/\s//gr;
is($node->sql(q{SELECT cmq_send('stop', 'third', dedup_key => 'k')}), $stopped_id, 'stop: the one that stopped is the message');
is($node->sql(q{SELECT string_agg(body, ' ' ORDER BY enqueued_at) FROM cmq_data.q_stop}), 'first plain', 'stop: and the only one');
$holder->quit;
$node->wait_until(q{SELECT cmq._clock('late') > lower + interval '1 h' FROM cmq.partition WHERE queue = 'late' AND messages = 'cmq_data.m_late_0'::regclass});
$locker->query_safe('COMMIT');
$locker->quit;
$late->complete;
is($node->sql(q{SELECT count(*) FROM cmq_data.q_late m JOIN cmq.partition p ON p.messages = m.tableoid WHERE m.enqueued_at < p.lower OR m.enqueued_at >= p.upper}), 0, 'late: the message is in the partition of its time');
is($node->sql(q{SELECT count(*) FROM cmq_data.q_late m JOIN cmq_data.q_late_dedup k USING (enqueued_at) JOIN cmq.partition p ON p.messages = m.tableoid AND p.dedup = k.tableoid AND p.lower <= enqueued_at}), 1, 'late: so is its key');

# In an ordered queue nothing later of its group is delivered before it.
$node->sql(q{SELECT FROM cmq_create_queue('ordered', ordered => true, dedup_seconds => 3600)});
$holder = $node->session;
$holder->query_safe(q{BEGIN; SELECT hold_extension(dedup) FROM cmq.partition WHERE queue = 'ordered'});
$stopped = $node->start_psql(q{SELECT cmq_send('ordered', 'first', message_group => 'g', dedup_key => 'k')});
$node->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'extend' AND query LIKE '%first%'}, 'ordered: a send has stopped');
$node->sql(q{SELECT cmq_send('ordered', 'second', message_group => 'g'), cmq_send('ordered', 'other', message_group => 'h')});
is($node->sql(q{SELECT body FROM cmq_receive('ordered', 10)}), 'other', 'ordered: the group waits for it, and others do not');
$holder->query_safe('COMMIT');
$holder->quit;
$stopped->complete;
is($node->sql(q{SELECT string_agg(body, ' ') FROM cmq_receive('ordered', 10)}), 'first second', 'ordered: and then comes in order');

note 'crash';

$node->sql(q{SELECT FROM cmq_create_queue('crash', dedup_seconds => 86400, rewind_seconds => 345600)});
my $clients = clients('crash', 60, 'READ COMMITTED');
$node->poll(q{SELECT count(*) > 20 FROM answer WHERE queue = 'crash'}, 'clients are at work');
$node->sql(q{BEGIN; INSERT INTO answer SELECT 'crash', 'prepared', cmq_send('crash', 'prepared', dedup_key => 'prepared'); PREPARE TRANSACTION 'once'});
$node->kill_server;
$clients->finish;
$node->start;
check('crash', 86400, 'crash');
is($node->sql(q{INSERT INTO answer SELECT queue, key, cmq_send('crash', key, dedup_key => key) FROM (SELECT DISTINCT queue, key FROM answer WHERE queue = 'crash') s;
	SELECT count(*) FROM (SELECT FROM answer WHERE queue = 'crash' GROUP BY key HAVING count(DISTINCT msg_id) > 1) s}), 0, 'crash: keys stay with their messages');
$clients = $node->start_psql(q{SELECT cmq_send('crash', 'prepared', dedup_key => 'prepared')});
$node->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'transactionid' AND query LIKE '%dedup_key => ''prepared''%' AND pid <> pg_backend_pid()}, 'crash: a transaction that was prepared before is waited for');
$node->sql(q{COMMIT PREPARED 'once'});
my $id = $clients->complete;
chomp $id;
is($id, $node->sql(q{SELECT msg_id FROM answer WHERE key = 'prepared'}), 'crash: and its message is the one');
$node->restart;
check('crash', 86400, 'restart');

note 'prepared transactions';

# A key belongs to a prepared transaction over restarts: another send of it waits, and is
# then a duplicate or the message.  So do keys that are prepared together.
$node->sql(q{SELECT FROM cmq_create_queue('prepared', dedup_seconds => 3600)});
my %prepared = map {
	$_ => [ split /\n/, $node->sql(qq{BEGIN; SELECT cmq_send('prepared', 'first', dedup_key => '$_');
		SAVEPOINT s; SELECT unnest(array(SELECT cmq_send_batch('prepared', '{second,third}', dedup_keys => '{$_ two,$_ three}'))); RELEASE s; PREPARE TRANSACTION '$_'}) ]
} qw(commit rollback);
foreach my $how (qw(restart crash))
{
	if ($how eq 'crash') { $node->kill_server; $node->start; }
	else { $node->restart; }
	my %others;
	foreach my $key (map { ($_, "$_ two", "$_ three") } sort keys %prepared)
	{
		$others{$key} = $node->start_psql(qq{SELECT cmq_send('prepared', 'other', dedup_key => '$key')});
	}
	$node->poll(q{SELECT count(*) = 6 FROM pg_stat_activity WHERE wait_event = 'transactionid' AND query LIKE '%other%' AND pid <> pg_backend_pid()}, "prepared: after a $how others of these keys wait");
	is($node->sql(q{SELECT count(*) FROM cmq_receive('prepared', 10)}), 0, 'prepared: nothing is there yet');
	if ($how eq 'restart')
	{
		$node->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%other%' AND pid <> pg_backend_pid()});
		$_->finish foreach values %others;
		next;
	}
	$node->sql($_) foreach q{COMMIT PREPARED 'commit'}, q{ROLLBACK PREPARED 'rollback'};
	my %got = map { $_ => $others{$_}->complete =~ s/\s//gr } keys %others;
	is(join(' ', @got{ 'commit', 'commit two', 'commit three' }), join(' ', @{ $prepared{commit} }), 'prepared: when it is committed they are duplicates');
	is($node->sql(q{SELECT string_agg(body, ' ' ORDER BY enqueued_at) FROM cmq_data.q_prepared}), 'first second third other other other', 'prepared: when it is rolled back they are stored');
	is($node->sql(q{SELECT string_agg(msg_id::text, ' ' ORDER BY msg_id) FROM cmq.q_prepared_live WHERE body = 'other'}),
		join(' ', sort { $a <=> $b } @got{ 'rollback', 'rollback two', 'rollback three' }), 'prepared: ... as they say');
}
is($node->sql(q{SELECT count(*) FROM unnest('{commit,commit two,commit three,rollback,rollback two,rollback three}'::text[]) k, cmq_send('prepared', 'again', dedup_key => k) id
	JOIN cmq.q_prepared_live l ON l.msg_id = id WHERE body <> 'again'}), 6, 'prepared: all are duplicates from now on');

note 'commits that do not wait for the disk';

# The answer to a duplicate is as safe as the session's own commits.
$node->sql(q{SELECT FROM cmq_create_queue('async', dedup_seconds => 3600)});
$node->sql("ALTER SYSTEM SET wal_writer_delay = '10s'; ALTER SYSTEM SET cmq.maintenance_interval = '1h'");
$node->restart;
my $async_id = $node->sql(q{SET synchronous_commit = off; SELECT cmq_send('async', 'first', dedup_key => 'k')});
is($node->sql(q{SELECT cmq_send('async', 'second', dedup_key => 'k')}), $async_id, 'async: a duplicate');
$node->kill_server;
$node->start;
is($node->sql(q{SELECT msg_id FROM cmq.q_async_live}), $async_id, 'async: the message is there after a crash');
$node->sql('ALTER SYSTEM RESET ALL');
$node->reload;

note 'standby';

my $standby = $node->standby('standby');
my $lsn = $node->lsn('flush');
$node->wait_for_catchup($standby, 'replay', $lsn);

# So is it on a standby that commits wait for, also if the first message did not wait: a
# duplicate does, whatever else its transaction does.
$standby->stop;
$node->set('synchronous_standby_names', '*');
my $local_id = $node->sql(q{SET synchronous_commit = local; SELECT cmq_send('async', 'third', dedup_key => 'l')});
is($node->sql(q{SET synchronous_commit = local; SELECT cmq_send('async', 'fourth', dedup_key => 'l')}), $local_id, 'standby: nobody waits who does not want to');
my @duplicates = map { $node->start_psql($_) } q{SELECT cmq_send('async', 'fifth', dedup_key => 'l')},
  q{BEGIN; SELECT FROM cmq_receive('async'); SELECT cmq_send('async', 'sixth', dedup_key => 'l'); COMMIT};
$node->poll(q{SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query ~ 'fifth|sixth'}, 'standby: duplicates wait for it');
$standby->start;
is($_->complete =~ s/\s//gr, $local_id, 'standby: and are answered when it is there') foreach @duplicates;
$node->set('synchronous_standby_names', '');
$lsn = $node->lsn('flush');
$node->wait_for_catchup($standby, 'replay', $lsn);
$standby->promote;
is($standby->sql(q{SELECT msg_id FROM cmq.q_async_live WHERE body = 'third'}), $local_id, 'standby: the message is there when it is promoted');
is($standby->sql(q{SELECT count(*) FROM answer WHERE queue = 'crash' AND cmq_send('crash', key, dedup_key => key) <> msg_id}), 0, 'a promoted standby has the keys');
check('crash', 86400, 'promotion', $standby);
$standby->stop;

note 'dump';

my $dump = $node->basedir . '/dump.sql';
command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'pg_dump');
my $other = CmqNode->configured('other', "log_min_messages = warning\n");
$other->start;
command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $other->connstr('postgres'), '-f', $dump ], 'restore');
is($other->sql(q{SELECT count(*) FROM answer WHERE queue = 'crash' AND cmq_send('crash', key, dedup_key => key) <> msg_id}), 0, 'a restored database has the keys');
check('crash', 86400, 'restore', $other);
like($other->sql(q{SELECT cmq_send('crash', 'new', dedup_key => 'new') = cmq_send('crash', 'new', dedup_key => 'new')}), qr/^t$/, 'and keeps new ones');
is($other->sql(q{SELECT FROM cmq_alter_queue('crash', dedup_seconds => 0); SELECT FROM cmq_drop_queue('crash'); SELECT count(*) FROM pg_class WHERE relname ~ 'crash'}), 0, 'the queue can be switched and dropped');

$node->is_sound;

done_testing();
