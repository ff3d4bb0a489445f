# Attributes and the range of cmq_rewind in a queue with a million messages
# pending, where the pending table is not read: they say what the tables say,
# whatever is sent, received, deleted, rolled back, rewound or changed by hand.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('deep');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cmq'
max_prepared_transactions = 5
max_wal_size = 4GB
autovacuum = off
cmq.maintenance_interval = 1h
CONF
$node->start;

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# What the tables say: rows of the pending table, due rows of the rewind table.
my $truth = q{
	WITH clock AS MATERIALIZED (SELECT cmq.clock('q') AS now),
	due AS (SELECT count(*) AS n, min(enqueued_at) AS first FROM cmq.q_q_rewind
			 WHERE enqueued_at >= cmq.rewind_from('q') AND cmq.is_due('q', enqueued_at, deleted_at, deleted_xact))
	SELECT count(*) FILTER (WHERE visible_at <= now) + (SELECT n FROM due),
		   count(*) FILTER (WHERE visible_at > now AND receive_count > 0),
		   count(*) FILTER (WHERE visible_at > now AND receive_count = 0),
		   least(min(enqueued_at), (SELECT first FROM due))
	  FROM cmq.q_q_pending, clock};
my $told = q{
	SELECT active_msg_num, inactive_msg_num, delay_msg_num, min_msg_time FROM cmq_queue_attributes('q')};

sub agrees
{
	my ($when, $before) = @_;
	$before //= '';
	my ($expected, $got) = map { my $result = sql("$before\n$_"); $result =~ s/.*\n//s; $result } $truth, $told;
	return is($got, $expected, "$when: $expected");
}

my $messages = 300_000;
sql(q{
	CREATE EXTENSION cmq;
	SELECT FROM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 345600);
});
sql(qq{
	SELECT count(*) FROM (SELECT cmq_send_batch('q', array_fill('m'::text, '{10000}')) FROM generate_series(1, $messages / 10000)) s;
});
cmp_ok(sql("SELECT pg_relation_size('cmq.q_q_pending')"), '>', 8 * 1024 * 1024, 'the queue counts as large');
sql(q{SELECT cmq_maintain('q')});
agrees('waiting');

my $consume = q{SELECT count(*) FROM cmq_delete_batch('q', array(SELECT receipt_handle FROM cmq_receive('q', 500)));};
sql($consume);
agrees('consumed the oldest');
sql(q{SELECT count(*) FROM cmq_receive('q', 300); SELECT count(*) FROM (SELECT cmq_send('q', 'later', 3600) FROM generate_series(1, 200)) s});
agrees('in flight and delayed');
agrees('consumed, not committed, seen from inside', "BEGIN; $consume");
agrees('and rolled back');
sql("BEGIN; SAVEPOINT s; $consume ROLLBACK TO s; COMMIT");
agrees('rolled back to a savepoint');

# an old delete that is still open: its messages are not consumed
my @handles = split /\n/, sql(q{SELECT receipt_handle FROM cmq_receive('q', 1000)});
sql(qq{BEGIN; SELECT cmq_delete('q', '$handles[0]'); PREPARE TRANSACTION 'delete'});
sql("SELECT cmq_delete('q', '$_')") foreach @handles[ 1 .. 5 ];
agrees('an open delete');
sql(q{ROLLBACK PREPARED 'delete'});
agrees('rolled back');
sql("SELECT cmq_delete('q', '$handles[0]')");
agrees('and done');

# a send that commits late, when younger ones are consumed
sql(q{BEGIN; SELECT cmq_send('q', 'early') FROM generate_series(1, 3); PREPARE TRANSACTION 'send'});
sql(q{SELECT count(*) FROM cmq_send_batch('q', '{a,b}')});
agrees('an open send');
sql(q{COMMIT PREPARED 'send'});
agrees('committed late');

# rewinds
my $first = sql('SELECT min(enqueued_at) FROM cmq.q_q');
sql("BEGIN; SELECT cmq_rewind('q', '$first'); ROLLBACK");
agrees('a rewind rolled back');
sql("SELECT cmq_rewind('q', '$first')");
agrees('rewound');
sql($consume);
agrees('replayed and consumed');
sql(q{SELECT count(*) FROM cmq_receive('q', 3)});
agrees('replayed and in flight');
sql("SELECT cmq_rewind('q', '$first')");
agrees('rewound again');
sql(q{SELECT count(*) FROM cmq_receive('q', 700)}) foreach (1 .. 2);
agrees('all of it in flight');

# what attributes say is what a rewind accepts, to the microsecond
my ($from, $to) = split /\|/, sql(q{SELECT earliest_rewind_time, latest_rewind_time FROM cmq_queue_attributes('q')});
my ($ret, $out, $err) = $node->psql('postgres', "BEGIN; SELECT cmq_rewind('q', '$to'); ROLLBACK");
is($ret, 0, 'the latest start is accepted') or diag $err;
($ret, $out, $err) = $node->psql('postgres', "SELECT cmq_rewind('q', '$to'::timestamptz + interval '1 microsecond')");
like($err, qr/start_time is out of range/, 'one microsecond later is not');

# by hand
sql(q{UPDATE cmq.q_q_pending SET visible_at = enqueued_at WHERE receive_count > 0});
agrees('made ready by hand');
sql(q{SELECT cmq_maintain('q')});
agrees('after maintenance');

$node->restart;
agrees('after a restart');
$node->stop('immediate');
$node->start;
sql(q{SELECT cmq_maintain('q')});
agrees('after a crash');

# traffic, with maintenance moving the mark
my $script = $node->basedir . '/traffic.sql';
append_to_file($script, <<'SQL');
\set what random(1, 5)
BEGIN;
SELECT cmq_send('q', 'm') \gset
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 20)) d;
\if :what = 1
ROLLBACK;
\else
COMMIT;
\endif
SQL
($out, $err) = ('', '');
my $load = IPC::Run::start(
	[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', '4', '-j', '2', '-t', '200', '-f', $script, 'postgres' ],
	'>', \$out, '2>', \$err);
for (1 .. 20)
{
	sql(q{SELECT FROM cmq_queue_attributes('q'); SELECT cmq_maintain('q')});
}
$load->finish or die $err;
agrees('after traffic');

# cleared
sql(q{BEGIN; SELECT cmq_clear_queue('q'); ROLLBACK});
agrees('a clear rolled back');
cmp_ok(sql(q{SELECT cmq_clear_queue('q')}), '>', 200_000, 'cleared');
is(sql(q{SELECT active_msg_num, inactive_msg_num, delay_msg_num, min_msg_time > now() - interval '1 minute' FROM cmq_queue_attributes('q')}),
	'0|0|0|t', 'nothing is left');
sql(q{SELECT count(*) FROM cmq_send_batch('q', '{a,b}')});
agrees('new messages');

$node->stop;
done_testing();
