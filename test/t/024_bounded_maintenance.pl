# Maintenance works in bounded portions and always gets on: many old partitions, many
# queues, many expired messages, many dead letters.  What ends a portion in its midst,
# or comes between two, loses nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->running('main', <<'CONF');
max_connections = 20
max_prepared_transactions = 5
# a small lock table, so that few partitions and queues are many
max_locks_per_transaction = 20
log_min_messages = debug1
autovacuum = off
restart_after_crash = on
CONF

# The worker's rounds begin, or none does and none is under way.
sub rounds
{
	my ($on) = @_;
	$node->set('cmq.maintenance_interval', $on ? '1s' : '1h');
	$node->poll(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'cmq worker'}, 'no round is under way') unless $on;
	return;
}

# Partitions of the past, a minute each; in transactions for which there are locks.
sub old_leaves
{
	my ($queue, $n) = @_;
	for (my $i = 0; $i < $n; $i += 10)
	{
		my $last = $i + 9 < $n ? $i + 9 : $n - 1;
		$node->sql(qq{
			BEGIN;
			LOCK TABLE ONLY cmq_data.q_$queue, ONLY cmq_data.q_${queue}_rewind;
			DO \$\$
			DECLARE
				since timestamptz;
			BEGIN
				FOR i IN $i .. $last LOOP
					CONTINUE WHEN to_regclass(format('cmq_data.m_${queue}_%s', i)) IS NOT NULL;
					since := '2020-01-01 00:00+00'::timestamptz + i * interval '1 min';
					EXECUTE format('CREATE TABLE cmq_data.m_${queue}_%s PARTITION OF cmq_data.q_$queue FOR VALUES FROM (%L) TO (%L)', i, since, since + interval '1 min');
					EXECUTE format('CREATE TABLE cmq_data.r_${queue}_%s PARTITION OF cmq_data.q_${queue}_rewind FOR VALUES FROM (%L) TO (%L)', i, since, since + interval '1 min');
					INSERT INTO cmq.partition VALUES ('$queue', since, since + interval '1 min', format('cmq_data.m_${queue}_%s', i)::regclass, format('cmq_data.r_${queue}_%s', i)::regclass);
				END LOOP;
				PERFORM cmq_alter_queue('$queue', visibility_timeout => 43200);
			END \$\$;
			COMMIT});
	}
	return;
}

my $old = q{SELECT count(*) FROM cmq.partition WHERE queue = 'many' AND upper < '2021-01-01'};
my $tables = q{SELECT count(*) FROM pg_class WHERE relname ~ '^[mr]_many_\d{1,3}$' AND relkind = 'r'};

$node->sql(q{SELECT FROM cmq_create_queue('many', msg_retention_seconds => 60, rewind_seconds => 60)});

note 'more old partitions than one transaction can lock';

old_leaves('many', 300);
is($node->sql($old), '300', 'there are many');
my $offset = $node->log_size;
rounds(1);
$node->poll("SELECT ($old) = 0", 'the worker drops all of them');
rounds(0);
is($node->sql($tables), '0', '... tables and all');
unlike($node->log_since($offset), qr/out of shared memory/, '... and the locks fit');

old_leaves('many', 130);
my $complaint = $node->complaint(q{SELECT cmq_maintain('many')});
unlike($complaint, qr/ERROR/, 'a call drops some of them');
like($complaint, qr/NOTICE:  there is more to maintain in queue "many".*HINT:  Commit and call cmq_maintain\('many'\) again/s, '... and says that there are more');
my $left = $node->sql($old);
cmp_ok($left, '>', 0, '... which is so');
cmp_ok($left, '<', 130, '... and that there were more');
is($node->sql(q{BEGIN; DO $$ BEGIN FOR i IN 1 .. 30 LOOP PERFORM cmq_maintain('many'); END LOOP; END $$; COMMIT; SELECT 'done'}), 'done', 'a transaction that calls it again and again does not fail');
cmp_ok($node->sql($old), '<', $left, '... and gets on');
my $calls = 0;
while ($calls++ < 20)
{
	$complaint = $node->complaint(q{SELECT cmq_maintain('many')});
	last if $complaint =~ /^$|ERROR/;
}
is($complaint, '', 'calls come to an end');
is($node->sql($old), '0', '... with all of them dropped');

# One that cannot be dropped, or that somebody has, keeps no other.
old_leaves('many', 90);
$node->sql(join ';', map { "CREATE VIEW public.kept$_ AS SELECT * FROM cmq_data.m_many_$_" } 0 .. 59);
my $reader = $node->session;
$reader->query_safe("BEGIN; LOCK TABLE " . join(', ', map { "cmq_data.r_many_$_" } 60 .. 66) . ' IN ACCESS SHARE MODE');
rounds(1);
$node->poll("SELECT ($old) = 67", 'those behind are dropped');
$reader->query_safe('COMMIT');
$node->poll("SELECT ($old) = 60", 'then those that somebody had');
$node->sql(join ';', map { "DROP VIEW public.kept$_" } 0 .. 59);
$node->poll("SELECT ($old) = 0", 'and then the others');
$reader->quit;

# A worker that is ended in the midst, and the server with it.
$node->sql(q{CREATE FUNCTION at_work(queue text, condition text) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		worker int;
		found boolean;
	BEGIN
		FOR i IN 1 .. 10000 LOOP
			PERFORM pg_stat_clear_snapshot();
			SELECT pid INTO worker FROM pg_stat_activity WHERE backend_type = 'cmq worker' AND query = 'maintenance of queue ' || queue;
			IF worker IS NOT NULL THEN
				EXECUTE condition INTO found;
				IF found THEN RETURN worker; END IF;
			END IF;
			PERFORM pg_sleep(0.001);
		END LOOP;
		RETURN NULL;
	END $$});

# End a worker in the midst of its work, which $begin lets it begin; it may be through
# before the signal comes.
sub end_worker
{
	my ($signal, $queue, $condition, $prepare, $begin) = @_;
	my $text = $signal eq 'TERM' ? qr/terminating background worker "cmq worker"/ : qr/was terminated by signal 9/;
	foreach my $try (1 .. 20)
	{
		$prepare->();
		my $offset = $node->log_size;
		my $looker = $node->session(on_error_stop => 0);
		$looker->query_until(qr/begun/, "\\echo begun\nSELECT 'pid ' || at_work('$queue', \$\$$condition\$\$);\n");
		$begin->();
		my ($pid) = $looker->query('') =~ /pid (\d+)/;
		kill($signal, $pid) if $pid;
		sleep 1;
		# it may have gone with the server
		eval { $looker->quit };
		$node->wait_until('SELECT 1', wanted => '1');
		return pass("$signal: a worker is ended in the midst") if $node->log_since($offset) =~ $text;
		note 'it was not';
	}
	return fail("$signal: a worker is ended in the midst");
}

foreach my $signal ('TERM', 'KILL')
{
	end_worker($signal, 'many', "SELECT ($old) BETWEEN 1 AND 199",
		sub { rounds(0); old_leaves('many', 200) },
		sub { $node->sql(q{ALTER SYSTEM SET cmq.maintenance_interval = '1s'}); $node->reload });
	cmp_ok($node->sql($old), '<', 200, '... what was done stays done');
}
$node->poll("SELECT ($old) = 0", 'the next rounds get on');
is($node->sql($tables), '0', '... with nothing left behind');
rounds(0);

note 'partitions that go before their messages have expired';

# A queue of old partitions within the retention, behind the rewind window.
$node->sql(q{
	SELECT FROM cmq_create_queue('early', msg_retention_seconds => 86400, rewind_seconds => 1, visibility_timeout => 43200);
	CREATE FUNCTION leaf(i int) RETURNS timestamptz LANGUAGE sql AS $$ SELECT date_trunc('hour', now()) - interval '20 hours' + (i || ' min')::interval $$;
	CREATE FUNCTION make_leaf(i int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		m text := format('cmq_data.m_early_%s', i); r text := format('cmq_data.r_early_%s', i);
	BEGIN
		LOCK TABLE cmq_data.q_early, cmq_data.q_early_rewind;
		EXECUTE format('CREATE TABLE %s PARTITION OF cmq_data.q_early FOR VALUES FROM (%L) TO (%L)', m, leaf(i), leaf(i + 1));
		EXECUTE format('CREATE TABLE %s PARTITION OF cmq_data.q_early_rewind FOR VALUES FROM (%L) TO (%L)', r, leaf(i), leaf(i + 1));
		INSERT INTO cmq.partition VALUES ('early', leaf(i), leaf(i + 1), m::regclass, r::regclass);
		INSERT INTO cmq_data.q_early VALUES (leaf(i) + interval '1 s', NULL, 'message ' || i);
	END $$;
	CREATE FUNCTION pending(i int, queue text DEFAULT 'early') RETURNS void LANGUAGE sql AS $$
		INSERT INTO cmq_data.q_early_pending VALUES (leaf(i) + interval '1 s', leaf(i) + interval '1 s', NULL, 0, 0) $$;
	CREATE FUNCTION history(i int) RETURNS void LANGUAGE sql AS $$
		INSERT INTO cmq_data.q_early_rewind VALUES (leaf(i) + interval '1 s', leaf(i) + interval '2 s', leaf(i) + interval '3 s', 'x', 1, 0, 0) $$});
my $early = q{SELECT string_agg(body, ', ' ORDER BY body) FROM cmq_data.q_early WHERE body LIKE 'message%'};
my $drop = q{SELECT cmq_maintain('early')};
# 1 is consumed, 2 pending; 3 to 5 are pending, too, until open transactions end
$node->sql(q{BEGIN; SELECT make_leaf(i) FROM generate_series(1, 6) i; SELECT history(1); SELECT pending(i) FROM generate_series(2, 5) i; SELECT history(6);
	SELECT cmq_alter_queue('early', visibility_timeout => 43199); COMMIT});
my @open = map { $node->session } 1 .. 3;
$_->query_safe('BEGIN') foreach @open;
is($open[0]->query_safe(q{SELECT body FROM cmq_receive('early')}), 'message 2', 'one is received, uncommitted');
is($open[1]->query_safe(q{SELECT body, cmq_delete('early', receipt_handle) FROM cmq_receive('early')}), 'message 3|t', 'another one deleted, uncommitted');
is($open[2]->query_safe(q{SELECT body, cmq_delete('early', receipt_handle) FROM cmq_receive('early')}), 'message 4|t', 'and another one');
$node->sql($drop);
is($node->sql($early), 'message 2, message 3, message 4, message 5', 'partitions without pending messages are dropped, the one before and the one behind them, too');
$open[0]->query_safe('COMMIT');
$open[1]->query_safe('ROLLBACK');
$open[2]->query_safe('COMMIT');
$node->sql($drop);
is($node->sql($early), 'message 2, message 3, message 5', 'those of an aborted delete and of a receive stay, that of a delete goes');
is($node->sql(q{SELECT string_agg(body, ', ') FROM cmq_receive('early', 10)}), 'message 3, message 5', 'what was not received is there');

# A rewind, cancelled while a receive has one of its messages in hand.
$node->sql(q{SELECT cmq_drop_queue('early')});
$node->sql(q{SELECT FROM cmq_create_queue('early', msg_retention_seconds => 86400, rewind_seconds => 86400, visibility_timeout => 43200)});
$node->sql(q{BEGIN; SELECT make_leaf(1), make_leaf(2); SELECT history(1), history(2); SELECT cmq_alter_queue('early', visibility_timeout => 43199); COMMIT});
isnt($node->sql(q{SELECT cmq_rewind('early', leaf(1))}), '', 'a rewind');
$open[0]->query_safe('BEGIN');
is($open[0]->query_safe(q{SELECT body FROM cmq_receive('early')}), 'message 1', 'one message is received, uncommitted');
$node->sql(q{SELECT cmq_cancel_rewind('early')});
# the mark goes as far as it may
$node->sql(q{SELECT cmq_send('early', 'now'); SELECT FROM cmq_queue_attributes('early')});
$node->sql($drop);
$open[0]->query_safe('COMMIT');
$node->sql(q{SELECT cmq_alter_queue('early', rewind_seconds => 1); SELECT pg_sleep(1)});
$node->sql($drop);
is($node->sql($early), 'message 1', 'its partition stays, that of the other one goes');
is($node->sql(q{SELECT min_msg_time = leaf(1) + interval '1 s' FROM cmq_queue_attributes('early')}), 't', '... and it is the earliest one');
is($node->sql(q{SELECT count(*) FROM cmq.q_early_live l, cmq_queue_attributes('early') WHERE l.state = 'in_flight' AND body = 'message 1'}), '1', '... in flight');
# the same, prepared
$node->sql(q{SELECT cmq_drop_queue('early')});
$node->sql(q{SELECT FROM cmq_create_queue('early', msg_retention_seconds => 86400, rewind_seconds => 86400, visibility_timeout => 43200)});
$node->sql(q{BEGIN; SELECT make_leaf(1), make_leaf(2); SELECT history(1), history(2); SELECT cmq_alter_queue('early', visibility_timeout => 43199); COMMIT});
isnt($node->sql(q{SELECT cmq_rewind('early', leaf(1))}), '', 'a rewind');
is($node->sql(q{BEGIN; SELECT body FROM cmq_receive('early'); PREPARE TRANSACTION 'due'}), 'message 1', 'one message is received and prepared');
$node->sql(q{SELECT cmq_cancel_rewind('early'); SELECT FROM cmq_queue_attributes('early')});
$node->sql($drop);
$node->sql(q{COMMIT PREPARED 'due'});
$node->sql(q{SELECT cmq_alter_queue('early', rewind_seconds => 1); SELECT pg_sleep(1)});
$node->sql($drop);
is($node->sql($early), 'message 1', 'its partition stays, too');
$_->quit foreach @open;
$node->sql(q{SELECT cmq_drop_queue('early')});

note 'more queues than one transaction can maintain';

my $nqueues = 150;
$node->sql("SELECT FROM cmq_create_queue('each$_')") foreach 1 .. $nqueues;
my $send = q{DO $$ BEGIN FOR i IN 1 .. 150 LOOP PERFORM cmq_send('each' || i, 'x'); COMMIT; END LOOP; END $$};
$node->sql($send);
my $sent = $node->sql(q{SELECT clock_timestamp()});
my $stale = "SELECT count(*) FROM cmq.queue WHERE name LIKE 'each%' AND (clock IS NULL OR clock < '$sent')";
$node->sql($send);
is($node->sql($stale), $nqueues, 'all of them are to be maintained');
$complaint = $node->complaint(q{SELECT cmq_maintain()});
unlike($complaint, qr/ERROR/, 'a call without a name does not fail');
unlike($complaint, qr/out of shared memory/, '... nor in some of them');
like($complaint, qr/NOTICE:  \d+ of \d+ queues were not maintained.*HINT:  Commit and call cmq_maintain\(\) again/s, '... and says that it has left some out');
$left = $node->sql($stale);
cmp_ok($left, '<', $nqueues, '... but not all');
# in use all the time: the next calls begin with those that were left out
$calls = 1;
while ($node->sql($stale) ne '0' && $calls++ < 40)
{
	$node->sql($send);
	last if $node->complaint(q{SELECT cmq_maintain()}) =~ /ERROR/;
}
is($node->sql($stale), '0', 'further calls come to all of them');
cmp_ok($calls, '>', 1, '... which took several');
$node->sql(q{DO $$ BEGIN FOR i IN 2 .. 150 LOOP PERFORM cmq_drop_queue('each' || i); COMMIT; END LOOP; END $$});
# what has nothing to be done leaves no locks
while ($node->complaint(q{SELECT cmq_maintain()}) ne '') { }
is($node->sql(q{BEGIN; SELECT FROM cmq_maintain(); SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN ('cmq_data.q_each1'::regclass, 'cmq_data.q_each1_pending'::regclass); COMMIT}) =~ s/^\s+//r, '0', 'a queue in which nothing is to be done is not locked');
# but the caller's own queue, uncommitted, is maintained in its transaction
is($node->sql(q{BEGIN; SELECT FROM cmq_create_queue('mine'); SELECT cmq_send('mine', 'x') > 0; SELECT FROM cmq_maintain('mine'); SELECT FROM cmq_maintain(); SELECT clock IS NOT NULL FROM cmq.queue WHERE name = 'mine'; ROLLBACK}), "t\nt", 'a queue made in the transaction is maintained in it');

note 'many expired messages';

$node->set('cmq.maintenance_timeout', '1s');
my $n = 1_500_000;
my $expired = q{SELECT count(*) FROM cmq_data.q_big_pending WHERE enqueued_at < now() - interval '30 min'};

sub expire
{
	$node->sql(q{SELECT FROM cmq_create_queue('big', msg_retention_seconds => 1200, rewind_seconds => 1200, visibility_timeout => 43200)});
	# most at the left end; some that were received and given back; one in flight
	$node->sql(qq{
		INSERT INTO cmq_data.q_big_pending SELECT t, t, NULL, 0, 0 FROM (SELECT now() - interval '1 hour' + i * interval '1 us' AS t FROM generate_series(1, $n) i) s;
		INSERT INTO cmq_data.q_big_pending SELECT now() - i * interval '1 us', now() - interval '2 hours' + i * interval '1 us', now() - interval '30 min', 1, 0 FROM generate_series(1, 50000) i;
		INSERT INTO cmq_data.q_big_pending VALUES (now() + interval '1 hour', now() - interval '2 hours', now(), 1, 0)});
	return;
}
expire();
$node->sql(q{SELECT FROM cmq_create_queue('other')});
my @ids = split /\n/, $node->sql(q{SELECT cmq_send('big', 'keep ' || i) FROM generate_series(1, 100) i});
rounds(1);
# A worker that is ended in the midst, the server with it.
foreach my $signal ('TERM', 'KILL')
{
	my $before = $node->sql($expired);
	end_worker($signal, 'big', "SELECT ($expired) < $before", sub { }, sub { });
	cmp_ok($node->sql($expired), '<', $before, '... what was done stays done');
}
# Traffic beside it.
$node->sql(q{SELECT cmq_delete('big', receipt_handle) FROM cmq_receive('big', 50);
	SELECT cmq_restore('big', now() - interval '20 min')});
$node->maintained('other', 'other queues are maintained meanwhile');
$node->poll("SELECT ($expired) = 1", 'all that has expired is removed, but what is in flight');
rounds(0);
is($node->sql(q{SELECT count(*), count(DISTINCT body) FROM cmq.q_big_live WHERE body LIKE 'keep%'}), '100|100', 'what has not expired is all there');
is($node->sql(q{SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'big'}), $node->sql('SELECT count(*) FROM cmq_data.q_big_pending'), 'the count is right');
is($node->sql(q{SELECT count(*), count(DISTINCT body) FROM cmq_receive('big', 1000)}), '100|100', '... and each is received once');

# The queue is dropped between two steps, and another one made of that name.
$node->sql(q{SELECT cmq_drop_queue('big')});
expire();
rounds(1);
$node->poll("SELECT ($expired) < $n", 'a purge has begun');
$node->sql(q{SELECT cmq_drop_queue('big')});
$node->sql(q{SELECT FROM cmq_create_queue('big', msg_retention_seconds => 1200); SELECT cmq_send('big', 'new')});
$node->maintained('other', 'the worker goes on') foreach 1 .. 2;
is($node->sql(q{SELECT body FROM cmq_receive('big')}), 'new', 'the other one is untouched');
# The retention is made longer between two steps: what had expired stays so, and what
# has not does not.
$node->sql(q{SELECT cmq_drop_queue('big')});
expire();
$node->poll("SELECT ($expired) < $n", 'a purge has begun again');
@ids = split /\n/, $node->sql(q{SELECT cmq_send('big', 'keep ' || i) FROM generate_series(1, 10) i});
$node->sql(q{SELECT cmq_alter_queue('big', msg_retention_seconds => 86400)});
$node->poll("SELECT ($expired) = 1", 'what had expired is removed');
is($node->sql(q{SELECT count(*) FROM cmq_receive('big', 100)}), '10', 'what has not is there');
# A purge by a call is one transaction.
$node->sql(q{SELECT cmq_drop_queue('big')});
rounds(0);
expire();
is($node->sql("BEGIN; SELECT FROM cmq_maintain('big'); $expired; ROLLBACK; $expired") =~ s/^\s+//r, "1\n" . ($n + 50001), 'a call removes all, in the caller\'s transaction');
$node->sql(q{SELECT cmq_drop_queue('big')});
$node->set('cmq.maintenance_timeout', '5min');

note 'dead letters in a large queue';

$node->sql(q{
	SELECT FROM cmq_create_queue('graves');
	SELECT FROM cmq_create_queue('deep', visibility_timeout => 43200, dead_letter_queue => 'graves', max_receive_count => 1);
	CREATE FUNCTION no_bad(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF t = 'bad' THEN RAISE 'bad'; END IF; RETURN 1; END $$;
	CREATE INDEX ON cmq_data.q_graves (no_bad(body))});
$node->sql(q{SELECT FROM cmq_send_batch('deep', '{poison}'::text[] || array_fill('x'::text, ARRAY[350000]))});
# this reads all of it, for what has expired; it is known then that nothing is so old
$node->sql(q{SELECT cmq_maintain('deep')});
# to the far end, past all others
$node->sql(q{SELECT cmq_change_visibility('deep', receipt_handle, 0) FROM cmq_receive('deep')});
my $reads = q{SELECT idx_tup_read FROM pg_stat_user_indexes WHERE relid = 'cmq_data.q_deep_pending'::regclass};
my $before = $node->sql($reads);
$offset = $node->log_size;
my $graves = q{SELECT string_agg(DISTINCT body, ', ') FROM cmq.q_graves_live};
rounds(1);
$node->poll("SELECT ($graves) = 'poison'", 'the one at the far end is moved');
rounds(0);
my $nrounds = () = $node->log_since($offset) =~ /starting background worker process "cmq worker"/g;
cmp_ok($node->sql($reads) - $before, '<=', $nrounds * 110_000, "a round reads a bounded part of the queue ($nrounds rounds)");
# A policy that is changed in the midst of a walk: those at the left, behind it, are dead now.
$node->sql(q{SELECT FROM cmq_alter_queue('deep', max_receive_count => 3); SELECT FROM cmq_send('deep', 'last'); UPDATE cmq_data.q_deep_pending SET receive_count = 3 WHERE enqueued_at = (SELECT max(enqueued_at) FROM cmq_data.q_deep_pending);
	UPDATE cmq_data.q_deep_pending SET receive_count = 2 WHERE enqueued_at IN (SELECT enqueued_at FROM cmq_data.q_deep_pending ORDER BY 1 LIMIT 5)});
rounds(1);
$node->poll(q{SELECT count(*) = 2 FROM cmq.q_graves_live}, 'the next one is moved, too');
$node->sql(q{SELECT cmq_alter_queue('deep', max_receive_count => 2)});
$node->poll(q{SELECT count(*) = 7 FROM cmq.q_graves_live}, 'after a change of the policy all that is dead now is moved');
rounds(0);
# More letters that cannot be moved than a round tries stand before one that can.
$node->sql(q{SELECT FROM cmq_create_queue('stuck', visibility_timeout => 43200, dead_letter_queue => 'graves', max_receive_count => 1);
	SELECT FROM cmq_send_batch('stuck', array_fill('bad'::text, ARRAY[250]) || '{good}'::text[]);
	SELECT FROM cmq_receive('stuck', 1000) r, cmq_change_visibility('stuck', r.receipt_handle, 0)});
rounds(1);
$node->poll(q{SELECT count(*) = 1 FROM cmq.q_graves_live WHERE body = 'good'}, 'letters that cannot be moved keep no others');
is($node->sql(q{SELECT count(*) FROM cmq.q_stuck_live}), '250', '... and stay');
rounds(0);
# By time: those stand at the left end, wherever the walk is.
$node->sql(q{SELECT FROM cmq_create_queue('old', dead_letter_queue => 'graves', max_time_to_live => 300);
	SELECT FROM cmq_send_batch('old', array_fill('x'::text, ARRAY[250000]))});
rounds(1);
$node->maintained('old', 'a round');
$node->sql(q{
	BEGIN;
	LOCK TABLE cmq_data.q_old, cmq_data.q_old_rewind;
	DO $$
	DECLARE
		l timestamptz := (SELECT min(lower) FROM cmq.partition WHERE queue = 'old');
	BEGIN
		EXECUTE format('CREATE TABLE cmq_data.m_old_0 PARTITION OF cmq_data.q_old FOR VALUES FROM (%L) TO (%L)', l - interval '1 hour', l);
		EXECUTE format('CREATE TABLE cmq_data.r_old_0 PARTITION OF cmq_data.q_old_rewind FOR VALUES FROM (%L) TO (%L)', l - interval '1 hour', l);
		INSERT INTO cmq.partition VALUES ('old', l - interval '1 hour', l, 'cmq_data.m_old_0', 'cmq_data.r_old_0');
		INSERT INTO cmq_data.q_old SELECT now() - interval '15 min' + i * interval '1 us', NULL, 'late' FROM generate_series(1, 50) i;
		INSERT INTO cmq_data.q_old_pending SELECT enqueued_at, enqueued_at, NULL, 0, 0 FROM cmq_data.q_old WHERE body = 'late';
		PERFORM cmq_alter_queue('old', visibility_timeout => 31);
	END $$;
	COMMIT});
$node->poll(q{SELECT count(*) = 50 FROM cmq.q_graves_live WHERE body = 'late'}, 'what has not been consumed for too long is moved');
rounds(0);

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|still referenced|XX000/, 'the server has nothing to complain about');
$node->stop;
done_testing();
