# Code of an owner's that sleeps or does not heed a cancel, in workers: it costs that
# owner's queues something, and nobody else's partitions, maintenance, dead letters,
# counts or monitoring.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cmq'
cmq.maintenance_interval = '1h'
cmq.maintenance_timeout = 1
max_worker_processes = 6
max_prepared_transactions = 5
log_error_verbosity = verbose
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
	CREATE ROLE attacker; CREATE ROLE victim; CREATE ROLE neighbour;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker, victim, neighbour;
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
# each tries again when its worker has been ended, so that they never leave a place to
# others that they may have
my @senders = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 8;
foreach my $i (0 .. $#senders)
{
	$senders[$i]->query_until(qr/begun/, q{SET ROLE attacker;
		\echo begun
		DO $$ BEGIN LOOP BEGIN PERFORM cmq_send('pin} . ($i + 1) . q{', 'x'); EXCEPTION WHEN insufficient_resources OR object_not_in_prerequisite_state THEN NULL; END; END LOOP; END $$;
	});
}
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq worker'}), 'a worker of senders sleeps');
is(scalar(grep { workers() > 1 } 1 .. 30), 0, '... one for all senders of an owner');
is(sql(q{SELECT cmq_send('good', 'x') > 0}), 't', '... and those of others have theirs');
# another database is maintained meanwhile
sql(q{SELECT cmq_send('elsewhere', 'x')});
sql(q{SELECT FROM cmq_create_queue('there'); SELECT cmq_send('there', 'x')}, 'other');
set('cmq.maintenance_interval', '1s');
ok($node->poll_query_until('other', q{SELECT clock >= (SELECT max(enqueued_at) FROM cmq_data.q_there) FROM cmq.queue WHERE name = 'there'}), 'maintenance has its place');
set('cmq.maintenance_interval', '1h');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq worker'}), '... while the senders have theirs');
is(sql(q{SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query ~ 'cmq_send' AND backend_type = 'client backend' AND pid <> pg_backend_pid()}), '8', '... and all senders are still at it');
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
# those of the senders were ended, too
my $offset = -s $node->logfile;
set('cmq.maintenance_interval', '1s');
ok(eval { $node->wait_for_log(qr/terminating background worker "cmq worker"/, $offset) > 0 }, 'a worker has to be killed');
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
	SELECT FROM cmq_create_queue('orders', visibility_timeout => 43200, dead_letter_queue => 'dead9', max_receive_count => 1);
	SELECT FROM cmq_create_queue('other_orders', visibility_timeout => 43200);
	RESET ROLE;
	SET ROLE neighbour;
	SELECT FROM cmq_create_queue('trusted'); GRANT INSERT ON cmq.q_trusted TO victim;
	SET ROLE victim;
	SELECT FROM cmq_alter_queue('other_orders', dead_letter_queue => 'trusted', max_receive_count => 1)});
foreach my $way ('raise', 'sleep', 'stubborn')
{
	sql(qq{UPDATE a.go SET way = '$way'});
	sql(q{SELECT cmq_send('orders', 'poison'); SELECT cmq_change_visibility('orders', receipt_handle, 0) FROM cmq_receive('orders');
		SELECT cmq_send('orders', 'good')});
	is(sql(q{SELECT string_agg(body, ' ') FROM cmq_receive('orders', 10)}), 'good', "$way: a receive goes on");
	sql(q{SELECT cmq_maintain('orders')});
	$offset = -s $node->logfile;
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
is(sql("SELECT count(*) FROM pg_locks WHERE relation = '${leaf}_pkey'::regclass AND mode = 'AccessExclusiveLock' AND granted"), '1', 'an index is locked against readers');
is(sql(q{SET statement_timeout = '60s'; SELECT count(*) > 2 FROM cmq.metrics}), 't', '... cmq.metrics does not wait');
is(sql(q{SET statement_timeout = '60s'; SELECT coalesce(messages::text, 'unknown') FROM cmq.rewinds WHERE queue = 'own'}), 'unknown', '... nor does cmq.rewinds');
$locker->query_safe('ROLLBACK');
$locker->quit;
sql("ALTER TABLE $leaf OWNER TO victim");
is(sql(q{SELECT coalesce(messages::text, 'unknown') FROM cmq.rewinds WHERE queue = 'own'}), 'unknown', 'a damaged partition: cmq.rewinds does not fail');
is(sql(q{SET client_min_messages = error; SELECT count(*) > 2 FROM cmq.metrics}), 't', '... nor does cmq.metrics');
sql(q{SELECT cmq_drop_queue('own')});

note 'counts';

# How often the pending table of a queue was read from end to end.
sub scans
{
	my ($queue, $db) = @_;
	return sql("SELECT pg_stat_force_next_flush(); SELECT seq_scan FROM pg_stat_all_tables WHERE relid = 'cmq_data.q_${queue}_pending'::regclass", $db) =~ s/^\n//r;
}

# What makes a queue uncounted.
sub uncount
{
	my ($queue) = @_;
	return "SET client_min_messages = error; UPDATE cmq_data.q_${queue}_pending SET receive_count = 0 WHERE false;";
}

# A count in one database does not hold up a send in another, which counts, too: there
# might be too many.
sql(q{SET ROLE attacker; SELECT FROM cmq_create_queue('large'); INSERT INTO cmq_data.q_large_pending SELECT now() + i * interval '1 us', now(), NULL, 0, 0 FROM generate_series(1, 300000) i});
sql(q{SELECT FROM cmq_create_queue('limited', max_msg_heap_num => 100); SELECT cmq_send('limited', 'x')}, 'other');
my $stopped = $node->background_psql('postgres');
my $pid = $stopped->query_safe('SELECT pg_backend_pid()');
my $counting = qq{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_class'::regclass AND objid = 'cmq_data.q_large_pending'::regclass AND objsubid = 2 AND granted AND pid = $pid};
my $looker = $node->background_psql('postgres');
my $in_the_midst = 0;
# a session that counts, stopped in the midst of it: it may come to its end before the
# signal does
foreach my $try (1 .. 50)
{
	$stopped->query_safe(uncount('large'));
	$stopped->query_until(qr/begun/, "\\echo begun\nSELECT 'counted ' || pending_msg_num FROM cmq.metrics WHERE queue = 'large';\n");
	my $looks = 0;
	while ($looker->query_safe($counting) eq '0' && $looks++ < 1000) { }
	kill 'STOP', $pid;
	$in_the_midst = $looker->query_safe($counting) eq '1';
	last if $in_the_midst;
	kill 'CONT', $pid;
	like($stopped->query(''), qr/counted 300000/, "try $try: the count was over");
}
ok($in_the_midst, 'a count is stopped in the midst of it');
my $before = scans('limited', 'other');
($out, $err) = ('', '');
$node->psql('other', uncount('limited') . q{SET statement_timeout = '60s'; SELECT cmq_send('limited', 'x') > 0; SELECT pg_stat_force_next_flush()}, stdout => \$out, stderr => \$err);
is(($out . $err) =~ s/\s+$//r, 't', 'a send into an uncounted queue of another database does not wait for it');
cmp_ok(scans('limited', 'other'), '>', $before, '... although it counts');
is($looker->query_safe($counting), '1', '... while the other one still counts');
kill 'CONT', $pid;
like($stopped->query(''), qr/counted 300000/, 'the count goes on');
$stopped->quit;
$looker->quit;
# Many queues in a prepared transaction.
sql(join ';', map { "SELECT FROM cmq_create_queue('many$_')" } 1 .. 20);
sql(q{SELECT FROM cmq_create_queue('quiet'); SELECT cmq_send('quiet', 'x'); SELECT pending_msg_num FROM cmq.metrics});
my $maintain = q{SELECT cmq_maintain('quiet'); SELECT pg_stat_force_next_flush()};
sql($maintain);
$before = scans('quiet');
sql(q{BEGIN; SELECT cmq_send('many' || i, 'x') FROM generate_series(1, 20) i; PREPARE TRANSACTION 'many'});
sql(q{COMMIT PREPARED 'many'});
is(sql(q{SELECT string_agg(DISTINCT pending_msg_num::text, ' ') FROM cmq.metrics WHERE queue LIKE 'many%'}), '1', 'twenty queues of a prepared transaction are counted right');
sql($maintain);
is(scans('quiet'), $before, '... and no other queue is counted anew');
sql(uncount('quiet') . $maintain);
cmp_ok(scans('quiet'), '>', $before, '... which would be seen');

my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|terminated by signal|leak|still referenced|XX000/, 'the server has nothing to complain about');
$node->stop;
done_testing();
