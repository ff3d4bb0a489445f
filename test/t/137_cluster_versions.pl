
# A cluster of several majors: the front is of one and the nodes are of another, and the
# other way round.  Skipped unless another PostgreSQL with cmq is installed beside this one,
# as test/versions does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqCluster;
use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my ($version) = run_command([ 'pg_config', '--version' ]);
my ($major) = $version =~ /(\d+)/;
my ($other) = grep { $_->{major} != $major && -x "$_->{path}/bin/postgres" && -e "/usr/share/postgresql/$_->{major}/extension/cmq_cluster.control" }
  map { m{/(\d+)$} ? { path => $_, major => $1 } : () } glob('/usr/lib/postgresql/*');
plan skip_all => "no PostgreSQL other than $major with cmq_cluster is on this machine" unless defined $other;

sub try
{
	my ($name, @options) = @_;
	my $cluster = CmqCluster->new(2, prefix => "$name->[0]_", @options);
	my $front = $cluster->{front};
	my ($from, $to) = @{$name}[ 1, 2 ];
	my $what = "$from in front of $to";

	is($front->sql('SHOW server_version_num') =~ s/....$//r, $from, "$what: the front") or return;
	is($cluster->sql_on_all('SHOW server_version_num') =~ s/....$//mgr, "$to\n$to", "$what: the nodes");
	$front->sql(q{
		CALL cmq_cluster.create_queue('q', rewind_seconds => 3600);
		CALL cmq_cluster.create_queue('o', ordered => true, dedup_seconds => 60, rewind_seconds => 3600);
		CALL cmq_cluster.create_topic('t');
		CALL cmq_cluster.subscribe('t', 's', 'q', filter_tags => '{a}');
		CALL cmq_cluster.alter_queue('q', visibility_timeout => 60)});
	$cluster->sql_on_all(q{SELECT FROM cmq_send_batch('q', '{a,b,c,d}'); SELECT FROM cmq_consume('q', 3); SELECT FROM cmq_publish('t', 'p', '{a}')});
	is($front->sql('SELECT node, state, count(*) FROM cmq_cluster.q_q_all GROUP BY 1, 2 ORDER BY 1, 2'), "1|deleted|3\n1|ready|2\n2|deleted|3\n2|ready|2", "$what: messages of all nodes");
	like($front->sql('EXPLAIN (COSTS OFF) SELECT * FROM cmq_cluster.q_q_history'), qr/(Async Foreign Scan.*){2}/s, '... are read at once');
	is($front->sql(q{SELECT node, messages FROM cmq_cluster.rewind_preview('q', now() - interval '1 min')}), "1|3\n2|3\n|6", "$what: a preview");
	like($front->complaint(q{CALL cmq_cluster.restore('q', now() - interval '1 min', expected_count => 5)}), qr/would bring back 6 messages, not 5/, "$what: another number than expected");
	is($front->sql(q{CALL cmq_cluster.restore('q', now() - interval '1 min', expected_count => 6)}), 6, "$what: a restore");
	is($cluster->sql_on_all(q{SELECT count(*) FROM cmq_consume('q', 10)}), "5\n5", '... brings back');
	like($front->complaint(q{CALL cmq_cluster.rewind('q', now() - interval '2 h')}), qr/node 1: start_time is before the rewind window/, "$what: a rewind that is refused");
	$front->sql(q{CALL cmq_cluster.rewind('q', now() - interval '1 min')});
	is($cluster->sql_on_all(q{SELECT count(*) FROM cmq_consume('q', 10)}), "5\n5", "$what: a rewind");
	my $ids = $front->sql(q{SELECT array_agg(msg_id ORDER BY msg_id) FROM cmq_cluster.q_q_history WHERE body = 'a'});
	is($front->sql("CALL cmq_cluster.restore_messages('q', '$ids')"), $ids, "$what: restored by ids");
	is($front->sql(q{SELECT DISTINCT node, error, queue FROM cmq_cluster.status ORDER BY 1, 3}), "1||o\n1||q\n2||o\n2||q", "$what: status");

	$cluster->node(2)->stop;
	is($front->sql('SELECT node, state FROM cmq_cluster.q_q_live'), "1|ready\n2|unreachable", "$what: a node that does not answer is a row");
	like($front->complaint(q{CALL cmq_cluster.rewind('q', now() - interval '1 min')}), qr/node 2 cannot be reached/, '... and an error where one acts');
	$cluster->node(2)->start;
	is($front->sql('SELECT node, state FROM cmq_cluster.q_q_live ORDER BY 1'), "1|ready\n2|ready", '... and is back');
	$front->sql(q{CALL cmq_cluster.drop_queue('o')});
	$cluster->is_whole($what);
	$cluster->stop;
	return;
}

try([ 'new', $major, $other->{major} ], nodes => $other->{path});
try([ 'old', $other->{major}, $major ], front => $other->{path});
done_testing();
