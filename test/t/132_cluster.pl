
# Queues of one name on three nodes: what cmq_cluster does on all of them or on none, and what
# it shows.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqCluster;
use CmqNode;
use Test::More;

my $cluster = CmqCluster->new(3);
my $front = $cluster->{front};

$front->sql(q{CALL cmq_cluster.create_queue('q', rewind_seconds => 3600)});
is($cluster->sql_on_all(q{SELECT queue, rewind_seconds FROM cmq.queues}), "q|3600\nq|3600\nq|3600", 'a queue is created on all nodes');
$cluster->is_whole('a queue');
$cluster->stop;
done_testing();
