# The number of pending messages in shared memory is exact: under traffic, after
# recounts in the midst of it, restart, crash and prepared transactions.  A full
# queue is full to all clients together.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('counts');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cmq'
max_prepared_transactions = 5
cmq.maintenance_interval = 1h
CONF
$node->start;

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# What the counter says, and what is there.
sub is_exact
{
	my ($when) = @_;
	my ($counter, $rows) = split /\|/,
	  sql(q{SELECT (SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'q'),
				(SELECT count(*) FROM cmq_data.q_q_pending)});
	is($counter, $rows, "$when: $rows pending");
	return $rows;
}

sql(q{
	CREATE EXTENSION cmq;
	SELECT FROM cmq_create_queue('q', rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('q', array_fill('first'::text, '{500}'));
});
is_exact('at rest');

#
# Traffic of all kinds, half of it rolled back, while the rows are counted
# again and again.  A statement by hand that changes nothing makes the queue
# uncounted.
#

my $script = $node->basedir . '/traffic.sql';
append_to_file($script, <<'SQL');
\set what random(1, 6)
BEGIN;
SELECT cmq_send('q', 'm') \gset
\if :what = 1
SELECT count(*) FROM cmq_send_batch('q', '{a,b,c}');
ROLLBACK;
\elif :what = 2
SAVEPOINT s;
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 3)) d;
ROLLBACK TO s;
COMMIT;
\elif :what = 3
SAVEPOINT s;
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 4)) d;
RELEASE s;
COMMIT;
\elif :what = 4
SELECT count(*) FROM (SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 2)) d;
ROLLBACK;
\else
SELECT count(*) FROM cmq_receive('q', 1, 1);
COMMIT;
\endif
SQL

sub traffic
{
	my ($transactions) = @_;
	my ($out, $err) = ('', '');
	my $run = IPC::Run::start(
		[
			'pgbench', '-n', '-h', $node->host, '-p', $node->port,
			'-c', '6', '-j', '2', '-t', $transactions, '-f', $script, 'postgres'
		],
		'>', \$out, '2>', \$err);
	return sub {
		$run->finish or die "pgbench failed: $err";
		return;
	};
}

my $finish = traffic(300);
my $counts = 0;
for (1 .. 60)
{
	sql(q{UPDATE cmq_data.q_q_pending SET receive_count = 0 WHERE false;
		SELECT pending_msg_num FROM cmq.metrics}) >= 0 and $counts++;
}
$finish->();
is($counts, 60, 'counted in the midst of traffic');
is_exact('after traffic and counts');

# The last count was before the traffic: only the changes have been added up.
$finish = traffic(300);
$finish->();
is_exact('after more traffic');

#
# Restart and crash; the first to ask counts while others are at work.
#

$node->restart;
is_exact('after a restart');
$node->restart;
$finish = traffic(200);
sql('SELECT count(*) FROM cmq.metrics');
$finish->();
is_exact('counted under traffic after a restart');
$finish = traffic(100_000);
$node->poll_query_until('postgres', q{SELECT sent > 100 FROM cmq.metrics}) or die 'no traffic';
$node->stop('immediate');
eval { $finish->() };
$node->start;
is_exact('after a crash');

#
# Prepared transactions.
#

my $before = is_exact('before PREPARE');
sql(q{BEGIN; SELECT cmq_send('q', 'prepared') FROM generate_series(1, 3); PREPARE TRANSACTION 'a';
	BEGIN; SELECT cmq_send('q', 'never') FROM generate_series(1, 5); PREPARE TRANSACTION 'b';});
is(is_exact('prepared'), $before, 'what is prepared does not count yet');
sql(q{COMMIT PREPARED 'a'; ROLLBACK PREPARED 'b';});
is(is_exact('both ended'), $before + 3, 'what is committed counts');
sql(q{BEGIN; SELECT cmq_send('q', 'prepared') FROM generate_series(1, 2); PREPARE TRANSACTION 'c'});
$node->restart;
is(is_exact('prepared and restarted'), $before + 3, 'does not count yet');
sql(q{COMMIT PREPARED 'c'});
is(is_exact('committed after the restart'), $before + 5, 'counts now');

#
# A full queue, many clients: each may have one message under way.
#

sql(q{SELECT FROM cmq_create_queue('small', max_msg_heap_num => 100)});
my $greedy = $node->basedir . '/greedy.sql';
append_to_file($greedy, <<'SQL');
DO $$
BEGIN
	PERFORM cmq_send('small', 'm');
EXCEPTION WHEN configuration_limit_exceeded THEN
	NULL;
END $$;
SQL
command_ok(
	[
		'pgbench', '-n', '-h', $node->host, '-p', $node->port,
		'-c', '8', '-j', '2', '-t', '50', '-f', $greedy, 'postgres'
	],
	'eight clients send more than fits');
my $sent = sql(q{SELECT count(*) FROM cmq_data.q_small_pending});
cmp_ok($sent, '>=', 100, 'as many as fit are there');
cmp_ok($sent, '<=', 107, 'and no more than were under way at that moment');
is(sql(q{SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'small'}), $sent, 'counted');
$node->restart;
my ($ret, $out, $err) = $node->psql('postgres', q{SELECT cmq_send('small', 'm')});
like($err, qr/queue "small" is full/, 'full after a restart, too');

$node->stop;
done_testing();
