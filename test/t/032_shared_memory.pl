# What all databases share: an entry is one queue's for as long as any transaction
# uses it, whatever the owner does to tables and names; and what a process has
# announced ends with its transaction, in parallel workers too.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cmq'\ncmq.max_queues = 8\ncmq.maintenance_interval = '1h'\nfsync = off\nmax_prepared_transactions = 5\n");
$node->start;

sub sql
{
	my ($sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql);
}

sql('CREATE DATABASE other');
sql('CREATE EXTENSION cmq', $_) foreach 'postgres', 'other';
sql(q{CREATE ROLE attacker; CREATE ROLE sender; GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker; GRANT attacker TO CURRENT_USER});

# A queue of another database gets the first free place, works, and counts right.
sub check_other
{
	my ($what) = @_;
	sql(q{SELECT FROM cmq_create_queue('vic', max_msg_heap_num => 1000); SELECT FROM cmq_send_batch('vic', array_fill('v'::text, ARRAY[10]))}, 'other');
	return sub {
		is(sql(q{SELECT pending_msg_num, sent FROM cmq.metrics WHERE queue = 'vic'}, 'other'), '10|10', "$what: the counts of the other queue are its own");
		my $waiter = $node->background_psql('other', on_error_stop => 0);
		sql(q{SELECT FROM cmq_receive('vic', 10)}, 'other');
		$waiter->query_until(qr/begun/, "\\echo begun\nSELECT body FROM cmq_receive('vic', 1, 60, 30);\n");
		ok($node->poll_query_until('other', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%cmq_receive%' AND backend_type = 'client backend'}),
			"$what: a receive of it waits");
		my $start = time;
		sql(q{SELECT cmq_send('vic', 'woken')}, 'other');
		like($waiter->query(''), qr/woken/, "$what: ... and has the message");
		cmp_ok(time - $start, '<', 25, "$what: ... before its time is up");
		$waiter->quit;
		is(sql(q{SELECT cmq_drop_queue('vic')}, 'other'), '', "$what: it can be dropped");
	};
}

note 'a place that a transaction uses while the queue goes';

foreach my $way ('rename', 'detach', 'savepoint', 'prepared')
{
	sql(q{SET ROLE attacker; SELECT FROM cmq_create_queue('evil'); SELECT FROM cmq_create_queue('foo')});
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query('SET ROLE attacker');
	$session->query('BEGIN');
	if ($way eq 'savepoint')
	{
		# the locks go with the subtransaction
		$session->query($_) foreach 'SAVEPOINT s', q{SELECT count(*) FROM cmq_send_batch('evil', array_fill('m'::text, ARRAY[1000]))},
		  q{SELECT count(*) FROM cmq_receive('evil', 10)}, 'ROLLBACK TO s';
		sql(q{SET ROLE attacker; SELECT cmq_drop_queue('evil')});
	}
	elsif ($way eq 'prepared')
	{
		$session->query($_) foreach 'SAVEPOINT s', q{SELECT count(*) FROM cmq_send_batch('evil', array_fill('m'::text, ARRAY[1000]))}, 'ROLLBACK TO s',
		  q{SELECT count(*) FROM cmq_send_batch('foo', '{a,b}')}, q{PREPARE TRANSACTION 'p'};
		sql(q{SET ROLE attacker; SELECT cmq_drop_queue('evil')});
	}
	else
	{
		$session->query(q{SELECT count(*) FROM cmq_send_batch('evil', array_fill('m'::text, ARRAY[1000]))});
		$node->psql('postgres', q{SET ROLE attacker; SET lock_timeout = '1s'; ALTER TABLE cmq_data.q_evil DETACH PARTITION cmq_data.m_evil}) if $way eq 'detach';
		$node->psql('postgres', $_) foreach map { "SET ROLE attacker; SET lock_timeout = '300ms'; SET client_min_messages = error; $_" }
		  'DROP VIEW cmq.q_evil_all, cmq.q_evil_live, cmq.q_evil_history, cmq.q_foo_all, cmq.q_foo_live, cmq.q_foo_history',
		  'ALTER VIEW cmq.q_foo RENAME TO q_foo_t', 'ALTER TABLE cmq_data.q_foo RENAME TO q_foo_t', 'ALTER TABLE cmq_data.q_foo_pending RENAME TO q_foo_p',
		  'ALTER VIEW cmq.q_evil RENAME TO q_foo', 'ALTER TABLE cmq_data.q_evil RENAME TO q_foo', 'ALTER TABLE cmq_data.q_evil_pending RENAME TO q_foo_pending',
		  q{SELECT cmq._clock('foo')}, q{SELECT cmq_drop_queue('foo')}, q{SELECT cmq_drop_queue('evil')}, 'SELECT cmq_maintain()';
	}
	my $check = check_other($way);
	$session->query($way eq 'prepared' ? q{COMMIT PREPARED 'p'} : 'COMMIT');
	$session->quit;
	$check->();
	$node->psql('postgres', "SET client_min_messages = error; SELECT cmq_drop_queue('$_')") foreach 'evil', 'foo';
	$node->psql('postgres', q{SET client_min_messages = error; DROP OWNED BY attacker CASCADE; DELETE FROM cmq.queue; DELETE FROM cmq.partition;
		GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker; SELECT cmq_maintain()});
}

note 'a place that a receive waits at';

sql(q{SET ROLE attacker; SELECT FROM cmq_create_queue('evilx')});
my $waiter = $node->background_psql('postgres', on_error_stop => 0);
$waiter->query('SET ROLE attacker');
$waiter->query_until(qr/begun/, "\\echo begun\nSELECT count(*) FROM cmq_receive('evilx', 1, polling_wait_seconds => 5);\n");
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%cmq_receive%' AND backend_type = 'client backend'}), 'a receive waits');
$node->psql('postgres', $_) foreach map { "SET ROLE attacker; SET lock_timeout = '300ms'; SET client_min_messages = error; $_" }
  'DROP TABLE cmq_data.q_evilx CASCADE', 'DROP TABLE cmq_data.q_evilx_rewind CASCADE', 'DROP VIEW cmq.q_evilx CASCADE', 'SELECT cmq_maintain()';
my $check = check_other('waiter');
$waiter->query('');
$waiter->quit;
$check->();
$node->psql('postgres', q{SET client_min_messages = error; DROP OWNED BY attacker CASCADE; SELECT cmq_drop_queue('evilx')});

note 'parallel workers';

my $force = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
sql(q{SELECT FROM cmq_create_queue('pubq'); SELECT FROM cmq_create_queue('busy', rewind_seconds => 3600); GRANT INSERT, DELETE, UPDATE ON cmq.q_pubq TO sender;
	SELECT cmq_send('pubq', 'one'); SELECT FROM cmq_create_topic('t'); SELECT FROM cmq_subscribe('t', 's', 'pubq'); GRANT INSERT ON cmq.t_t TO sender});
my $n = 0;
foreach my $call (
	q{cmq_send('pubq', 'x')}, q{(SELECT count(*) FROM cmq_receive('pubq'))}, q{cmq_alter_queue('pubq', msg_retention_seconds => 7200)}, q{(SELECT count(*) FROM cmq_publish('t', 'x'))},
	q{cmq_delete('pubq', '1-2-3-4')}, q{cmq_clear_queue('pubq')}, q{cmq_rewind('pubq', now())}, q{cmq_redrive('pubq')}, q{cmq_maintain()}, q{cmq_restore('pubq', now(), NULL)})
{
	my ($out, $err) = ('', '');
	$node->psql('postgres', qq{
		SET ROLE sender;
		CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS \$\$ BEGIN PERFORM $call; RETURN 'done'; END \$\$;
		SET $force = on;
		SELECT pg_temp.f();}, stdout => \$out, stderr => \$err);
	like($err, qr/cannot execute cmq_\w+\(\) during a parallel operation/, "$call in a parallel worker");
	$n++;
}
# reads may, and leave nothing
is(sql(qq{CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS \$\$ BEGIN RETURN cmq._clock('pubq') > '2020-01-01'; END \$\$; SET $force = on; SELECT pg_temp.f()}), 'true', 'a read in a parallel worker');
# The floor rises: while an old transaction keeps all remains, a receive does not
# read what was consumed.
my $old = $node->background_psql('postgres');
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(q{DO $$ BEGIN FOR i IN 1 .. 3 LOOP PERFORM FROM cmq_send_batch('busy', array_fill('m'::text, '{1000}')); PERFORM FROM cmq_delete_batch('busy', array(SELECT receipt_handle FROM cmq_receive('busy', 1000))); END LOOP; END $$});
sql(q{SELECT FROM cmq_receive('busy')});
my $entries = q{SELECT idx_tup_read FROM pg_stat_all_indexes WHERE indexrelname = 'q_busy_pending_pkey'};
sql(q{SELECT cmq_send('busy', 'fresh')});
my $before = sql($entries);
is(sql(q{SELECT body FROM cmq_receive('busy')}), 'fresh', 'a fresh message');
cmp_ok(sql($entries) - $before, '<', 500, '... and what was consumed before it is not read');
$old->query('COMMIT');
$old->quit;
# a receive still waits: nobody is left who asks it to leave
my $start = time;
sql(q{SELECT FROM cmq_receive('pubq', 10); SELECT FROM cmq_receive('pubq', 1, polling_wait_seconds => 3)});
cmp_ok(time - $start, '>=', 2, 'a receive waits');

my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|terminated by signal|leak|still referenced|XX000/, 'the server has nothing to complain about');
$node->stop;
done_testing();
