# Real clients, pgx of Go, PHP's pgsql, ruby-pg and tokio-postgres of Rust: the types of
# what they send and get, and the consumers in examples/consumer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Clients;
use ClientTrial;
use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = clients_node();
my ($checks, $examples) = ("$top/test/clients", "$top/examples/consumer");
my ($go, $rust) = map { my $dir = $node->basedir . "/$_"; mkdir $dir or die "$dir: $!"; $dir } qw(go rust);

# Rust's libraries take their time: they are built beside the other clients.
my $build;
if (my @cargo = cargo($rust))
{
	run_log([ 'cp', "$examples/Cargo.toml", "$examples/consumer.rs", "$checks/check.rs", $rust ]) or die;
	append_to_file("$rust/Cargo.toml", qq{\n[[bin]]\nname = "check"\npath = "check.rs"\n\n[profile.dev]\ndebug = false\n});
	$build = CmqNode::Run->new(@cargo, 'build', '--quiet', '--manifest-path', "$rust/Cargo.toml");
}

sub try_or_skip
{
	my ($name, $check, $consumer) = @_;
  SKIP:
	{
		skip "$name is not on this machine", 1 unless @$check && @$consumer;
		try_client($node, $name, $check, $consumer);
	}
	return;
}

my @php = php(qw(pgsql pdo_pgsql pcntl));
try_or_skip('PHP', map { @php ? [ @php, $_ ] : [] } "$checks/check.php", "$examples/consumer.php");
my @ruby = ruby('pg');
try_or_skip('Ruby', map { @ruby ? [ @ruby, $_ ] : [] } "$checks/check.rb", "$examples/consumer.rb");
try_or_skip('Go', map { [ go($go, $_) ] } "$checks/check.go", "$examples/consumer.go");

my $connection = "host=127.0.0.1 port=$ENV{PGPORT} dbname=postgres user=$ENV{PGUSER}";
$build->succeeds('Rust: build') if $build;
try_or_skip('Rust', map { $build ? [ "$rust/target/debug/$_", $connection ] : [] } qw(check consumer));

$node->stop;
done_testing();
