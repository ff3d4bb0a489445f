# Dead letters among many clients, with rollbacks, maintenance at work and a
# crash: each message is in one queue, once.  Redriven by several, it is back, once.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('dead');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cmq'
cmq.maintenance_interval = 1s
CONF
$node->start;

my $messages = 400;

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# Every body is in one of the two queues, as one message with one state.
sub all_are_there
{
	my ($when) = @_;
	return is(
		sql(qq{
			WITH there AS (
				SELECT body FROM cmq.q_source_live UNION ALL SELECT body FROM cmq.q_dead_live)
			SELECT count(*), count(DISTINCT body) FROM there}),
		"$messages|$messages", "$when: each message is in one queue, once")
	  && is(
		sql(q{SELECT (SELECT count(*) FROM cmq_data.q_source) + (SELECT count(*) FROM cmq_data.q_dead WHERE enqueued_at IN
				(SELECT enqueued_at FROM cmq_data.q_dead_pending))}),
		$messages, "$when: and so are the bodies");
}

sql(qq{
	CREATE EXTENSION cmq;
	SELECT FROM cmq_create_queue('dead');
	SELECT FROM cmq_create_queue('source', visibility_timeout => 43200, dead_letter_queue => 'dead', max_receive_count => 3);
	SELECT FROM cmq_send_batch('source', array(SELECT 'm' || i FROM generate_series(1, $messages) i));
});

# A consumer that fails: what it receives is ready again at once.
my $script = $node->basedir . '/fail.sql';
append_to_file($script, <<'SQL');
\set what random(1, 4)
BEGIN;
SELECT count(*) FROM (
	SELECT cmq_change_visibility('source', receipt_handle, 0) FROM cmq_receive('source', 3)) r;
\if :what = 1
ROLLBACK;
\else
COMMIT;
\endif
SQL
my @pgbench = (
	'pgbench', '-n', '-h', $node->host, '-p', $node->port,
	'-c', '6', '-j', '2', '-f');

# until half of them are dead, then the power fails
my ($out, $err) = ('', '');
my $load = IPC::Run::start([ @pgbench, $script, '-T', '60', 'postgres' ], '>', \$out, '2>', \$err);
$node->poll_query_until('postgres', "SELECT count(*) > $messages / 2 FROM cmq_data.q_dead_pending")
  or die 'nothing dies';
$node->stop('immediate');
$load->finish;
$node->start;
all_are_there('after a crash');

# until all are
$load = IPC::Run::start([ @pgbench, $script, '-T', '60', 'postgres' ], '>', \$out, '2>', \$err);
$node->poll_query_until('postgres', "SELECT count(*) = $messages FROM cmq_data.q_dead_pending")
  or die 'some do not die';
$load->signal('INT');
$load->finish;
all_are_there('all dead');
is( sql(q{SELECT DISTINCT headers #>> '{cmq_dead_letter,queue}', headers #>> '{cmq_dead_letter,reason}',
			headers #> '{cmq_dead_letter,receive_count}' FROM cmq.q_dead_live}),
	'source|max_receive_count|3', 'received three times, not more');

# Several send them back; one in four changes its mind.
my $redrive = $node->basedir . '/redrive.sql';
append_to_file($redrive, <<'SQL');
\set what random(1, 4)
BEGIN;
SELECT cmq_redrive('dead', 7);
\if :what = 1
ROLLBACK;
\else
COMMIT;
\endif
SQL
command_ok([ @pgbench, $redrive, '-t', '10', 'postgres' ], 'redriven by six clients');
all_are_there('redrive');
while (sql(q{SELECT cmq_redrive('dead')}) > 0) { }
is(sql('SELECT count(*) FROM cmq.q_source_live'), $messages, 'all are back');
all_are_there('all back');

$node->stop;
done_testing();
