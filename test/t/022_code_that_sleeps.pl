# An owner's code sleeps or does not heed a cancel, in workers: that owner's queues pay
# for it, and not the partitions, maintenance, dead letters, counts or monitoring of
# others.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('main', <<'CONF');
cmq.maintenance_timeout = 1
max_worker_processes = 6
max_prepared_transactions = 5
log_error_verbosity = verbose
CONF

sub workers
{
	return $node->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmq worker'});
}

$node->sql('CREATE DATABASE other');
$node->sql('CREATE EXTENSION cmq', 'other');
$node->sql(q{
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
$node->sql(join ';', map { qq{SET ROLE attacker; SELECT FROM cmq_create_queue('pin$_', msg_retention_seconds => 60); CREATE INDEX ON cmq_data.q_pin$_ ((length(body) + a.trap(0)))} } 1 .. 8);
$node->sql(q{SELECT FROM cmq_create_queue('good', msg_retention_seconds => 60); SELECT FROM cmq_create_queue('elsewhere')});
my $no_leaf = q{DO $$ DECLARE l record; BEGIN
	FOR l IN DELETE FROM cmq.partition WHERE queue ~ '^(pin|good)' RETURNING * LOOP EXECUTE format('DROP TABLE %s, %s', l.messages, l.rewind); END LOOP;
	PERFORM cmq_alter_queue(name, visibility_timeout => 31) FROM cmq.queue WHERE name ~ '^(pin|good)';
	END $$};
$node->sql($no_leaf);
$node->sql(q{UPDATE a.go SET way = 'sleep'});
# each tries again when its worker has been ended, so that they never leave a place to
# others that they may have
my @senders = map { $node->session(on_error_stop => 0) } 1 .. 8;
foreach my $i (0 .. $#senders)
{
	$senders[$i]->query_until(qr/begun/, q{SET ROLE attacker;
		\echo begun
		DO $$ BEGIN LOOP BEGIN PERFORM cmq_send('pin} . ($i + 1) . q{', 'x'); EXCEPTION WHEN insufficient_resources OR object_not_in_prerequisite_state THEN NULL; END; END LOOP; END $$;
	});
}
$node->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq worker'}, 'a worker of senders sleeps');
is(scalar(grep { workers() > 1 } 1 .. 30), 0, '... one for all senders of an owner');
is($node->sql(q{SELECT cmq_send('good', 'x') > 0}), 't', '... and those of others have theirs');
# another database is maintained meanwhile
$node->sql(q{SELECT cmq_send('elsewhere', 'x')});
$node->sql(q{SELECT FROM cmq_create_queue('there')}, 'other');
$node->set('cmq.maintenance_interval', '1s');
$node->maintained('there', 'maintenance has its place', 'other');
$node->set('cmq.maintenance_interval', '1h');
$node->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq worker'}, '... while the senders have theirs');
is($node->sql(q{SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query ~ 'cmq_send' AND backend_type = 'client backend' AND pid <> pg_backend_pid()}), '8', '... and all senders are still at it');
foreach (@senders)
{
	$_->query('');
	$_->quit;
}
$node->poll(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'cmq worker'}, 'workers end with their senders');
is($node->sql(q{SELECT cmq_send('good', 'x') > 0}), 't', 'another queue is sent to');
# and one whose sender stays is ended by its own limit
like($node->complaint(q{SET ROLE attacker; SELECT cmq_send('pin1', 'x')}), qr/no partition for the present time/, 'a worker that does not end is ended');
is(workers(), '0', '... and is gone');
$node->sql(q{UPDATE a.go SET way = ''; SELECT cmq_drop_queue(name) FROM cmq.queue WHERE name ~ '^pin'});

note 'maintenance of other queues behind one that has to be killed';

$node->sql(q{
	SET ROLE attacker; SELECT FROM cmq_create_queue('aaa', dead_letter_queue => NULL); SELECT FROM cmq_create_queue('aab'); SELECT FROM cmq_create_queue('aac');
	SELECT FROM cmq_alter_queue('aaa', dead_letter_queue => 'aab', max_receive_count => 1);
	CREATE INDEX ON cmq_data.q_aab (a.trap(body));
	SELECT cmq_send('aaa', 'x'); SELECT cmq_change_visibility('aaa', receipt_handle, 0) FROM cmq_receive('aaa');
	RESET ROLE;
	SET ROLE victim; SELECT FROM cmq_create_queue('zzz')});
$node->sql(q{UPDATE a.go SET way = 'stubborn'});
# those of the senders were ended, too
my $offset = $node->log_size;
$node->set('cmq.maintenance_interval', '1s');
$node->logs(qr/terminating background worker "cmq worker"/, 'a worker has to be killed', $offset);
foreach my $queue ('zzz', 'aac', 'zzz')
{
	$node->maintained($queue, "$queue is maintained all the same");
}
$node->sql(q{UPDATE a.go SET way = ''});
$node->poll(q{SELECT count(*) = 1 FROM cmq.q_aab_live}, 'what had to be passed over is done in the end');
$node->set('cmq.maintenance_interval', '1h');
$node->sql(q{SELECT cmq_unbind_dead_letter('aaa'); SELECT cmq_drop_queue(q) FROM unnest('{aaa,aab,aac}'::text[]) q});

note 'dead letters to a queue of another owner';

$node->sql(q{
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
	$node->sql(qq{UPDATE a.go SET way = '$way'});
	$node->sql(q{SELECT cmq_send('orders', 'poison'); SELECT cmq_change_visibility('orders', receipt_handle, 0) FROM cmq_receive('orders');
		SELECT cmq_send('orders', 'good')});
	is($node->receive('orders', 10), 'good', "$way: a receive goes on");
	$node->sql(q{SELECT cmq_maintain('orders')});
	$offset = $node->log_size;
	$node->set('cmq.maintenance_interval', '1s');
	my $text = $way eq 'raise' ? qr/moving dead letters of queue "orders" failed/ : $way eq 'sleep' ? qr/moving dead letters of queue "orders" failed: its time limit is over/ : qr/terminating background worker "cmq worker"/;
	$node->logs($text, "$way: the worker has tried", $offset);
	$node->sql(q{SELECT cmq_send('other_orders', 'p'); SELECT cmq_change_visibility('other_orders', receipt_handle, 0) FROM cmq_receive('other_orders')});
	$node->poll(q{SELECT count(*) > 0 FROM cmq.q_trusted_live}, "$way: ... and moved the letters of another one");
	$node->sql(q{SELECT cmq_clear_queue('trusted')});
	$node->maintained('zzz', "$way: ... and maintains the queues");
	$node->sql(q{UPDATE a.go SET way = ''});
	$node->poll(q{SELECT string_agg(body, ' ') = 'poison' FROM cmq.q_dead9_live}, "$way: ... and moves the letter when that is possible");
	$node->sql(q{SELECT cmq_clear_queue('dead9'); SELECT cmq_clear_queue('orders')});
	$node->set('cmq.maintenance_interval', '1h');
}

note 'monitoring';

$node->sql(q{
	SET ROLE attacker; SELECT FROM cmq_create_queue('own', rewind_seconds => 3600); SELECT FROM cmq_send_batch('own', '{a,b}');
	SELECT FROM cmq_delete_batch('own', array(SELECT receipt_handle FROM cmq_receive('own', 10)));
	SELECT cmq_rewind('own', (SELECT min(enqueued_at) FROM cmq.q_own_history));
	RESET ROLE});
is($node->sql(q{SELECT messages FROM cmq.rewinds WHERE queue = 'own'}), '2', 'a rewind is under way');
my $leaf = $node->sql(q{SELECT rewind FROM cmq.partition WHERE queue = 'own' AND now() >= lower AND now() < upper});
my $locker = $node->session;
$locker->query_safe("SET ROLE attacker; BEGIN; LOCK TABLE $leaf IN ACCESS EXCLUSIVE MODE");
is($node->sql(q{SET statement_timeout = '60s'; SELECT coalesce(messages::text, 'unknown') FROM cmq.rewinds WHERE queue = 'own'}), 'unknown', 'a locked partition: cmq.rewinds does not wait');
is($node->sql(q{SET statement_timeout = '60s'; SELECT count(*) FILTER (WHERE queue = 'own'), count(*) > 2 FROM cmq.metrics}), '0|t', '... nor does cmq.metrics');
is($node->sql(q{SET statement_timeout = '60s'; SELECT count(*) FILTER (WHERE queue = 'own'), count(*) > 2 FROM cmq.status}), '0|t', '... nor does cmq.status');
$locker->query_safe('ROLLBACK');
$locker->query_safe("BEGIN; REINDEX INDEX ${leaf}_pkey");
is($node->sql("SELECT count(*) FROM pg_locks WHERE relation = '${leaf}_pkey'::regclass AND mode = 'AccessExclusiveLock' AND granted"), '1', 'an index is locked against readers');
is($node->sql(q{SET statement_timeout = '60s'; SELECT count(*) > 2 FROM cmq.metrics}), 't', '... cmq.metrics does not wait');
is($node->sql(q{SET statement_timeout = '60s'; SELECT count(*) > 2 FROM cmq.status}), 't', '... nor does cmq.status');
is($node->sql(q{SET statement_timeout = '60s'; SELECT coalesce(messages::text, 'unknown') FROM cmq.rewinds WHERE queue = 'own'}), 'unknown', '... nor does cmq.rewinds');
$locker->query_safe('ROLLBACK');
$locker->quit;
$node->sql("ALTER TABLE $leaf OWNER TO victim");
is($node->sql(q{SELECT coalesce(messages::text, 'unknown') FROM cmq.rewinds WHERE queue = 'own'}), '2', 'a damaged partition: cmq.rewinds does not fail, and tells what was counted');
is($node->sql(q{SET client_min_messages = error; SELECT count(*) > 2 FROM cmq.metrics}), 't', '... nor does cmq.metrics');
is($node->sql(q{SET client_min_messages = error; SELECT count(*) > 2 FROM cmq.status}), 't', '... nor does cmq.status');
$node->sql(q{SELECT cmq_drop_queue('own')});

note 'counts';

# How often the pending table of a queue was read from end to end.
sub scans
{
	my ($queue, $db) = @_;
	return $node->sql("SELECT pg_stat_force_next_flush(); SELECT seq_scan FROM pg_stat_all_tables WHERE relid = 'cmq_data.q_${queue}_pending'::regclass", $db) =~ s/^\n//r;
}

# What makes a queue uncounted.
sub uncount
{
	my ($queue) = @_;
	return "SET client_min_messages = error; UPDATE cmq_data.q_${queue}_pending SET receive_count = 0 WHERE false;";
}

# A count in one database does not hold up a send in another, which counts, too: there
# might be too many.
$node->sql(q{SET ROLE attacker; SELECT FROM cmq_create_queue('large'); INSERT INTO cmq_data.q_large_pending SELECT now() + i * interval '1 us', now(), NULL, 0, 0 FROM generate_series(1, 300000) i});
$node->sql(q{SELECT FROM cmq_create_queue('limited', max_msg_heap_num => 100); SELECT cmq_send('limited', 'x')}, 'other');
my $stopped = $node->session;
my $pid = $stopped->query_safe('SELECT pg_backend_pid()');
my $counting = qq{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_class'::regclass AND objid = 'cmq_data.q_large_pending'::regclass AND objsubid = 2 AND granted AND pid = $pid};
my $looker = $node->session;
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
is($node->answer(uncount('limited') . q{SET statement_timeout = '60s'; SELECT cmq_send('limited', 'x') > 0; SELECT pg_stat_force_next_flush()}, 'other') =~ s/\s+$//r, 't', 'a send into an uncounted queue of another database does not wait for it');
cmp_ok(scans('limited', 'other'), '>', $before, '... although it counts');
is($looker->query_safe($counting), '1', '... while the other one still counts');
kill 'CONT', $pid;
like($stopped->query(''), qr/counted 300000/, 'the count goes on');
$stopped->quit;
$looker->quit;
# Many queues in a prepared transaction.
$node->sql(join ';', map { "SELECT FROM cmq_create_queue('many$_')" } 1 .. 20);
$node->sql(q{SELECT FROM cmq_create_queue('quiet'); SELECT cmq_send('quiet', 'x'); SELECT pending_msg_num FROM cmq.metrics});
my $maintain = q{SELECT cmq_maintain('quiet'); SELECT pg_stat_force_next_flush()};
$node->sql($maintain);
$before = scans('quiet');
$node->sql(q{BEGIN; SELECT cmq_send('many' || i, 'x') FROM generate_series(1, 20) i; PREPARE TRANSACTION 'many'});
$node->sql(q{COMMIT PREPARED 'many'});
is($node->sql(q{SELECT string_agg(DISTINCT pending_msg_num::text, ' ') FROM cmq.metrics WHERE queue LIKE 'many%'}), '1', 'twenty queues of a prepared transaction are counted right');
$node->sql($maintain);
is(scans('quiet'), $before, '... and no other queue is counted anew');
$node->sql(uncount('quiet') . $maintain);
cmp_ok(scans('quiet'), '>', $before, '... which would be seen');

$node->is_sound;
$node->stop;
done_testing();
