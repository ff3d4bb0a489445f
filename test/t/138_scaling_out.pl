
# The statements of docs/scaling-out.md, in their order, on three nodes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqCluster;
use CmqNode;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $cluster = CmqCluster->new(0);
my $front = $cluster->{front};
$front->sql('DROP EXTENSION cmq_cluster, postgres_fdw, dblink; CREATE ROLE reporting; CREATE ROLE deployer');
$cluster->start_node($_)->sql('CREATE ROLE reporting; CREATE ROLE deployer') foreach 1 .. 3;
$cluster->node(1)->sql(q{SELECT FROM cmq_create_queue('legacy'); SELECT cmq_send('legacy', 'old')});

my $page = slurp_file("$top/docs/scaling-out.md");
my @blocks = $page =~ /^```sql\n(.*?)^```$/msg;
cmp_ok(scalar @blocks, '>=', 8, 'the page has statements');
$page =~ /^\| to manage \|(.*?)\n\n/ms or die;
my %named = map { $_ => 1 } $1 =~ /`(\w+)`/g;

my $sql = join '', @blocks;
foreach my $number (1 .. 3)
{
	my ($host, $port) = ($cluster->node($number)->host, $cluster->node($number)->port);
	$sql =~ s/'db$number\.example\.com', '5432', 'shop'/'$host', '$port', 'postgres'/g;
}
my ($out, $err) = $front->both($sql);
is(join("\n", grep { !/NOTICE/ } split /\n/, $err), q{}, q{all of them can be run});
like($out, qr/^1\|.*\n2\|/m, '... and the nodes are there');
is($front->sql('SELECT queue, node, accepts FROM cmq_cluster.place ORDER BY 1, 2'), "legacy|1|f\nlegacy|2|t\norders|1|t\norders|2|t", '... in the end as the page says');
is($cluster->node(1)->sql(q{SELECT body FROM cmq.q_legacy_live}), 'old', 'what was there before is there');
is($front->sql(q{SELECT string_agg(proname, ' ' ORDER BY proname) FROM pg_proc WHERE pronamespace = 'cmq_cluster'::regnamespace AND proname !~ '^_' AND proname <> ALL (string_to_array('} . join(',', keys %named) . q{', ','))}),
	'', 'the page names all procedures and functions');
$_->is_sound foreach $front, map { $cluster->node($_) } 1 .. 3;
$cluster->stop;
done_testing();
