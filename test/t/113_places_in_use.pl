# The places in shared memory: not freed while somebody uses them or while a drop
# may be rolled back, and freed when that is over.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('entries');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cmq'
max_prepared_transactions = 5
cmq.max_queues = 2
cmq.maintenance_interval = 1h
fsync = off
CONF
$node->start;

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# A new queue needs a place: is there one?
sub has_place
{
	my ($ret, $out, $err) = $node->psql('postgres',
		q{\set VERBOSITY sqlstate
		  BEGIN; SELECT FROM cmq_create_queue('one_more'); SELECT cmq_send('one_more', 'x'); ROLLBACK},
		on_error_stop => 1);
	return 1 if $ret == 0;
	like($err, qr/^psql:.*ERROR: +53400$/m, '... 53400');
	return 0;
}

sql(q{
	CREATE EXTENSION cmq;
	SELECT FROM cmq_create_queue('a', rewind_seconds => 3600);
	SELECT cmq_send('a', 'one');
	SELECT FROM cmq_create_queue('b');
});
ok(!has_place(), 'two places, two queues');

# A drop that is rolled back, with maintenance in between.
sql(q{BEGIN; SELECT cmq_drop_queue('b'); SELECT cmq_maintain(); ROLLBACK});
ok(!has_place(), 'the place of a queue whose drop is rolled back stays');
sql(q{BEGIN; SAVEPOINT s; DROP TABLE cmq_data.q_b_pending CASCADE; SELECT cmq_maintain(); ROLLBACK TO s; COMMIT});
ok(!has_place(), 'also in a subtransaction');
is(sql(q{SELECT sent FROM cmq.metrics WHERE queue = 'a'}), '1', 'its counters too');
sql(q{BEGIN; DROP TABLE cmq_data.q_b_pending CASCADE; SELECT cmq_maintain(); COMMIT});
ok(has_place(), 'it goes when the drop commits');
sql(q{SELECT cmq_drop_queue('b')});

# The owner drops the table by hand while somebody waits for a message.
sql(q{SELECT FROM cmq_create_queue('w')});
my $waiter = $node->background_psql('postgres', on_error_stop => 0);
$waiter->query_until(qr/begun/, "\\echo begun\nSELECT count(*) FROM cmq_receive('w', polling_wait_seconds => 20);\n");
ok($node->poll_query_until('postgres',
	q{SELECT count(*) = 1 FROM pg_stat_activity
	   WHERE wait_event_type = 'Extension' AND query LIKE '%cmq_receive%' AND backend_type = 'client backend'}),
	'a receive waits');
sql(q{DROP TABLE cmq_data.q_w CASCADE});
sql(q{SELECT cmq_maintain()});
ok(!has_place(), 'the place that a receive waits at stays');
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity
	   WHERE query LIKE '%cmq_receive%' AND wait_event_type = 'Extension'});
$waiter->quit;
sql(q{DROP TABLE cmq_data.q_w_pending CASCADE; SELECT cmq_maintain()});
ok(has_place(), 'and goes with the pending table');
sql(q{SELECT cmq_drop_queue('w')});

# A queue made and dropped by prepared transactions.
sql(q{BEGIN; SELECT FROM cmq_create_queue('p'); PREPARE TRANSACTION 'make'});
sql(q{ROLLBACK PREPARED 'make'});
sql(q{SELECT cmq_maintain()});
ok(has_place(), 'nothing is left of a creation that was prepared and rolled back');

# Leaves ahead of time: not more than fit into one transaction.
$node->append_conf('postgresql.conf', 'cmq.maintenance_interval = 1d');
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT current_setting('cmq.maintenance_interval') = '1d'}),
	'a round a day');
sql(q{SELECT FROM cmq_create_queue('leaves', msg_retention_seconds => 60); SELECT cmq_send('leaves', 'x')});
sql(q{SELECT cmq_maintain()});
cmp_ok(sql(q{SELECT count(*) FROM cmq.partition WHERE queue = 'leaves'}), '<=', 12,
	'a few leaves are made ahead, not a day full of minutes');
sql(q{SELECT cmq_drop_queue('leaves')});

# A server that forgets its caches all the time, which only some builds can do.
SKIP:
{
	skip 'no debug_discard_caches in this server', 1
	  if sql(q{SELECT max_val FROM pg_settings WHERE name = 'debug_discard_caches'}) eq '0';
	is(sql(q{
		SET statement_timeout = '100s';
		SET debug_discard_caches = 1;
		SELECT cmq_send('a', 'two') > 0;
		SELECT string_agg(body, ' ') FROM cmq_receive('a', 10)}),
		"t\none two", 'caches discarded all the time');
}

$node->stop;
done_testing();
