# examples/monitoring: postgres_exporter shows what cmq.metrics says.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use HTTP::Tiny;
use Test::More;

my ($exporter) = grep { -x $_ }
  map { my $dir = $_; map { "$dir/$_" } qw(prometheus-postgres-exporter postgres_exporter) }
  split /:/, $ENV{PATH};
plan skip_all => 'postgres_exporter is not installed' unless defined $exporter;

my $node = CmqNode->running('monitoring', 'cmq.maintenance_interval = 1min');
$node->sql(q{
	SELECT FROM cmq_create_queue('shown', rewind_seconds => 3600);
	SELECT FROM cmq_create_queue('hidden');
	SELECT FROM cmq_send_batch('shown', '{a,b,c}');
	SELECT cmq_send('shown', 'later', 600);
	SELECT cmq_delete('shown', receipt_handle) FROM cmq_receive('shown', 1);
	SELECT FROM cmq_receive('shown', 1);
	SELECT cmq_rewind('shown', now() - interval '1 hour');
	CREATE ROLE monitor LOGIN;
	GRANT USAGE ON SCHEMA cmq TO monitor;
	GRANT SELECT ON cmq.q_shown TO monitor;
});

my $port = PostgreSQL::Test::Cluster::get_free_port();
local $ENV{DATA_SOURCE_NAME} =
  'user=monitor dbname=postgres sslmode=disable host=' . $node->host . ' port=' . $node->port;
my $run = $node->beside($exporter, "--web.listen-address=127.0.0.1:$port",
	"--extend.query-path=$top/examples/monitoring/queries.yaml", '--disable-default-metrics', '--disable-settings-metrics');

my $response;
eventually {
	$response = HTTP::Tiny->new(timeout => 10)->get("http://127.0.0.1:$port/metrics");
	return $response->{success} || !$run->is_running;
};
ok($response->{success}, 'the exporter answers') or diag $run->{err};
my %value = $response->{content} =~ /^cmq_queue_(\w+)\{[^}]*queue="shown"[^}]*\} (\S+)/mg;
my %expected = (
	sent => 4,
	received => 2,
	redelivered => 0,
	rewound => 0,
	deleted => 1,
	dead_lettered => 0,
	empty_receives => 0,
	waits => 0,
	body_bytes => 8,
	pending_msg_num => 4,
	left_of_rewind => 1,
	inactive_msg_num => 1,
	delay_msg_num => 1);
is($value{$_}, $expected{$_}, $_) foreach sort keys %expected;
cmp_ok($value{$_}, '>', 0, $_) foreach qw(oldest_ready_seconds pending_bytes rewindable_bytes);
unlike($response->{content}, qr/queue="hidden"/, 'no queue without SELECT on it');

# all queues for a member of pg_monitor, which needs no right on bodies
$node->sql('REVOKE SELECT ON cmq.q_shown FROM monitor; GRANT pg_monitor TO monitor');
$response = HTTP::Tiny->new(timeout => 10)->get("http://127.0.0.1:$port/metrics");
like($response->{content}, qr/^cmq_queue_sent\{[^}]*queue="shown"[^}]*\} 4$/m, 'pg_monitor sees the queue');
like($response->{content}, qr/^cmq_queue_sent\{[^}]*queue="hidden"[^}]*\} 0$/m, '... and all others');

$run->kill;
$node->stop;
done_testing();
