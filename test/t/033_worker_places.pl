# Code of an owner's that sleeps or does not heed a cancel, in workers: it costs that
# owner's queues something, and nobody else's partitions, maintenance, dead letters,
# counts or monitoring.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cmq'
cmq.maintenance_interval = '1h'
cmq.maintenance_timeout = 1
max_worker_processes = 6
max_prepared_transactions = 5
fsync = off
CONF
$node->start;

sub sql
{
	my ($sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql);
}

sub workers
{
	return sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmq worker'});
}

sub set
{
	my ($name, $value) = @_;
	sql("ALTER SYSTEM SET $name = '$value'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('$name') = '$value'") or die;
	return;
}

sql('CREATE DATABASE other');
sql('CREATE EXTENSION cmq', $_) foreach 'postgres', 'other';
sql(q{
	CREATE ROLE attacker; CREATE ROLE victim;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker, victim;
	CREATE SCHEMA a AUTHORIZATION attacker; GRANT USAGE ON SCHEMA a TO PUBLIC;
	SET ROLE attacker;
	CREATE TABLE a.go (way text); INSERT INTO a.go VALUES ('');
	GRANT SELECT ON a.go TO PUBLIC;
	-- in a worker: it has no client, and so no application_name
	CREATE FUNCTION a.at_work() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		what text := (SELECT way FROM a.go);
	BEGIN
		IF pg_catalog.current_setting('application_name') <> '' THEN RETURN; END IF;
		IF what = 'sleep' THEN PERFORM pg_catalog.pg_sleep(1000); END IF;
		IF what = 'raise' THEN RAISE SQLSTATE '40001'; END IF;
		WHILE what = 'stubborn' LOOP
			BEGIN PERFORM pg_catalog.pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END;
		END LOOP;
	END $$;
	CREATE FUNCTION a.trap(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM a.at_work(); RETURN n; END $$;
	CREATE FUNCTION a.trap(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM a.at_work(); RETURN 1; END $$;
});

note 'workers that make partitions';

# Evaluated when the index definition is loaded, as the partition is made.
sql(join ';', map { qq{SET ROLE attacker; SELECT FROM cmq_create_queue('pin$_', msg_retention_seconds => 60); CREATE INDEX ON cmq_data.q_pin$_ ((length(body) + a.trap(0)))} } 1 .. 8);
sql(q{SELECT FROM cmq_create_queue('good', msg_retention_seconds => 60); SELECT FROM cmq_create_queue('elsewhere')});
my $no_leaf = q{DO $$ DECLARE l record; BEGIN
	FOR l IN DELETE FROM cmq.partition WHERE queue ~ '^(pin|good)' RETURNING * LOOP EXECUTE format('DROP TABLE %s, %s', l.messages, l.rewind); END LOOP;
	PERFORM cmq_alter_queue(name, visibility_timeout => 31) FROM cmq.queue WHERE name ~ '^(pin|good)';
	END $$};
sql($no_leaf);
sql(q{UPDATE a.go SET way = 'sleep'});
my @senders = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 8;
foreach my $i (0 .. $#senders)
{
	$senders[$i]->query_until(qr/begun/, "SET ROLE attacker; SET statement_timeout = '4s';\n\\echo begun\nSELECT cmq_send('pin" . ($i + 1) . "', 'x');\n");
}
my $most = 0;
foreach (1 .. 30)
{
	my $n = workers();
	$most = $n if $n > $most;
	usleep(100_000);
}
is($most, 1, 'one worker of an owner sleeps for all his senders');
is(sql(q{SELECT cmq_send('good', 'x') > 0}), 't', '... and those of others have theirs');
# another database is maintained meanwhile
sql(q{SELECT cmq_send('elsewhere', 'x')});
sql(q{SELECT FROM cmq_create_queue('there'); SELECT cmq_send('there', 'x')}, 'other');
set('cmq.maintenance_interval', '1s');
ok($node->poll_query_until('other', q{SELECT clock >= (SELECT max(enqueued_at) FROM cmq_data.q_there) FROM cmq.queue WHERE name = 'there'}), 'maintenance has its place');
set('cmq.maintenance_interval', '1h');
foreach (@senders)
{
	$_->query('');
	$_->quit;
}
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'cmq worker'}), 'workers end with their senders');
is(sql(q{SELECT cmq_send('good', 'x') > 0}), 't', 'another queue is sent to');
# and one whose sender stays is ended by its own limit
my ($out, $err) = ('', '');
$node->psql('postgres', q{SET ROLE attacker; SELECT cmq_send('pin1', 'x')}, stdout => \$out, stderr => \$err);
like($err, qr/no partition for the present time/, 'a worker that does not end is ended');
is(workers(), '0', '... and is gone');
sql(q{UPDATE a.go SET way = ''; SELECT cmq_drop_queue(name) FROM cmq.queue WHERE name ~ '^pin'});

note 'maintenance of other queues behind one that has to be killed';

sql(q{
	SET ROLE attacker; SELECT FROM cmq_create_queue('aaa', dead_letter_queue => NULL); SELECT FROM cmq_create_queue('aab'); SELECT FROM cmq_create_queue('aac');
	SELECT FROM cmq_alter_queue('aaa', dead_letter_queue => 'aab', max_receive_count => 1);
	CREATE INDEX ON cmq_data.q_aab (a.trap(body));
	SELECT cmq_send('aaa', 'x'); SELECT cmq_change_visibility('aaa', receipt_handle, 0) FROM cmq_receive('aaa');
	RESET ROLE;
	SET ROLE victim; SELECT FROM cmq_create_queue('zzz')});
sql(q{UPDATE a.go SET way = 'stubborn'});
set('cmq.maintenance_interval', '1s');
ok($node->wait_for_log(qr/terminating background worker "cmq worker"/) > 0, 'a worker has to be killed');
foreach my $queue ('zzz', 'aac', 'zzz')
{
	sql("SELECT cmq_send('$queue', 'x')");
	ok($node->poll_query_until('postgres', "SELECT clock >= (SELECT max(enqueued_at) FROM cmq_data.q_$queue) FROM cmq.queue WHERE name = '$queue'"), "$queue is maintained all the same");
}
sql(q{UPDATE a.go SET way = ''});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM cmq.q_aab_live}), 'what had to be passed over is done in the end');
set('cmq.maintenance_interval', '1h');
sql(q{SELECT cmq_unbind_dead_letter('aaa'); SELECT cmq_drop_queue(q) FROM unnest('{aaa,aab,aac}'::text[]) q});

note 'dead letters to a queue of another owner';

sql(q{
	SET ROLE attacker; SELECT FROM cmq_create_queue('dead9'); GRANT INSERT ON cmq.q_dead9 TO victim; CREATE INDEX ON cmq_data.q_dead9 (a.trap(body));
	RESET ROLE;
	SET ROLE victim;
	SELECT FROM cmq_create_queue('kind');
	SELECT FROM cmq_create_queue('orders', visibility_timeout => 43200, dead_letter_queue => 'dead9', max_receive_count => 1);
	SELECT FROM cmq_create_queue('other_orders', visibility_timeout => 43200);
	RESET ROLE;
	SELECT FROM cmq_create_queue('trusted'); GRANT INSERT ON cmq.q_trusted TO victim; SELECT FROM cmq_alter_queue('other_orders', dead_letter_queue => 'trusted', max_receive_count => 1)});
foreach my $way ('raise', 'sleep', 'stubborn')
{
	sql(qq{UPDATE a.go SET way = '$way'});
	sql(q{SELECT cmq_send('orders', 'poison'); SELECT cmq_change_visibility('orders', receipt_handle, 0) FROM cmq_receive('orders');
		SELECT cmq_send('orders', 'good')});
	is(sql(q{SELECT string_agg(body, ' ') FROM cmq_receive('orders', 10)}), 'good', "$way: a receive goes on");
	sql(q{SELECT cmq_maintain('orders')});
	my $offset = -s $node->logfile;
	set('cmq.maintenance_interval', '1s');
	my $text = $way eq 'raise' ? qr/moving dead letters of queue "orders" failed/ : $way eq 'sleep' ? qr/moving dead letters of queue "orders" failed: its time limit is over/ : qr/terminating background worker "cmq worker"/;
	ok(eval { $node->wait_for_log($text, $offset) > 0 }, "$way: the worker has tried");
	sql(q{SELECT cmq_send('other_orders', 'p'); SELECT cmq_change_visibility('other_orders', receipt_handle, 0) FROM cmq_receive('other_orders')});
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM cmq.q_trusted_live}), "$way: ... and moved the letters of another one");
	sql(q{SELECT cmq_clear_queue('trusted'); SELECT cmq_send('zzz', 'x')});
	ok($node->poll_query_until('postgres', q{SELECT clock >= (SELECT max(enqueued_at) FROM cmq_data.q_zzz) FROM cmq.queue WHERE name = 'zzz'}), "$way: ... and maintains the queues");
	sql(q{UPDATE a.go SET way = ''});
	ok($node->poll_query_until('postgres', q{SELECT string_agg(body, ' ') = 'poison' FROM cmq.q_dead9_live}), "$way: ... and moves the letter when that is possible");
	sql(q{SELECT cmq_clear_queue('dead9'); SELECT cmq_clear_queue('orders')});
	set('cmq.maintenance_interval', '1h');
}

note 'monitoring';

sql(q{
	SET ROLE attacker; SELECT FROM cmq_create_queue('own', rewind_seconds => 3600); SELECT FROM cmq_send_batch('own', '{a,b}');
	SELECT FROM cmq_delete_batch('own', array(SELECT receipt_handle FROM cmq_receive('own', 10)));
	SELECT cmq_rewind('own', (SELECT min(enqueued_at) FROM cmq.q_own_history));
	RESET ROLE});
is(sql(q{SELECT messages FROM cmq.rewinds WHERE queue = 'own'}), '2', 'a rewind is under way');
my $leaf = sql(q{SELECT rewind FROM cmq.partition WHERE queue = 'own' AND now() >= lower AND now() < upper});
my $locker = $node->background_psql('postgres');
$locker->query_safe("SET ROLE attacker; BEGIN; LOCK TABLE $leaf IN ACCESS EXCLUSIVE MODE");
is(sql(q{SET statement_timeout = '60s'; SELECT coalesce(messages::text, 'unknown') FROM cmq.rewinds WHERE queue = 'own'}), 'unknown', 'a locked partition: cmq.rewinds does not wait');
is(sql(q{SET statement_timeout = '60s'; SELECT count(*) FILTER (WHERE queue = 'own'), count(*) > 2 FROM cmq.metrics}), '0|t', '... nor does cmq.metrics');
$locker->query_safe('ROLLBACK');
$locker->query_safe("BEGIN; REINDEX INDEX ${leaf}_pkey");
is(sql(q{SET statement_timeout = '60s'; SELECT count(*) > 2 FROM cmq.metrics}), 't', 'a locked index: cmq.metrics does not wait');
is(sql(q{SET statement_timeout = '60s'; SELECT coalesce(messages::text, 'unknown') FROM cmq.rewinds WHERE queue = 'own'}), 'unknown', '... nor does cmq.rewinds');
$locker->query_safe('ROLLBACK');
$locker->quit;
sql("ALTER TABLE $leaf OWNER TO victim");
is(sql(q{SELECT coalesce(messages::text, 'unknown') FROM cmq.rewinds WHERE queue = 'own'}), 'unknown', 'a damaged partition: cmq.rewinds does not fail');
is(sql(q{SET client_min_messages = error; SELECT count(*) > 2 FROM cmq.metrics}), 't', '... nor does cmq.metrics');
sql(q{SELECT cmq_drop_queue('own')});

note 'counts';

# A count in one database does not hold up a send in another.
sql(q{SET ROLE attacker; SELECT FROM cmq_create_queue('large'); INSERT INTO cmq_data.q_large_pending SELECT now() + i * interval '1 us', now(), NULL, 0, 0 FROM generate_series(1, 300000) i});
sql(q{SELECT FROM cmq_create_queue('limited', max_msg_heap_num => 300); UPDATE cmq_data.q_limited_pending SET receive_count = 0 WHERE false}, 'other');
my $stopped = $node->background_psql('postgres');
$stopped->query_safe(q{SET client_min_messages = error; UPDATE cmq_data.q_large_pending SET receive_count = 0 WHERE false});
my $pid = $stopped->query_safe('SELECT pg_backend_pid()');
# a session that counts, stopped in the midst of it
$stopped->query_until(qr/begun/, "\\echo begun\nSELECT count(*) FROM (SELECT pending_msg_num FROM cmq.metrics, generate_series(1, 1)) s;\nSELECT 'counted';\n");
usleep(2_000);
kill 'STOP', $pid;
is(sql(q{SET statement_timeout = '60s'; SELECT cmq_send('limited', 'x') > 0}, 'other'), 't', 'a send into an uncounted queue of another database does not wait for a count');
kill 'CONT', $pid;
like($stopped->query(''), qr/counted/, 'the count goes on');
$stopped->quit;
# Many queues in a prepared transaction.
sql(join ';', map { "SELECT FROM cmq_create_queue('many$_')" } 1 .. 20);
sql(q{SELECT FROM cmq_create_queue('quiet'); SELECT cmq_send('quiet', 'x'); SELECT pending_msg_num FROM cmq.metrics; SELECT cmq_maintain('quiet')});
my $scans = q{SELECT seq_scan FROM pg_stat_all_tables WHERE relname = 'q_quiet_pending'};
my $before = sql($scans);
sql(q{BEGIN; SELECT cmq_send('many' || i, 'x') FROM generate_series(1, 20) i; PREPARE TRANSACTION 'many'});
sql(q{COMMIT PREPARED 'many'});
is(sql(q{SELECT string_agg(DISTINCT pending_msg_num::text, ' ') FROM cmq.metrics WHERE queue LIKE 'many%'}), '1', 'twenty queues of a prepared transaction are counted right');
sql(q{SELECT cmq_maintain('quiet')});
is(sql($scans), $before, '... and no other queue is counted anew');

my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|terminated by signal|leak|still referenced|XX000/, 'the server has nothing to complain about');
$node->stop;
done_testing();
