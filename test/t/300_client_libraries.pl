# Real clients, psycopg, JDBC and node-postgres: the types of what they send and get,
# and the consumers in examples/consumer.

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

# node-postgres from npm, or Debian's package of it
sub node
{
	my $dir = $node->basedir . '/node';
	mkdir $dir or die;
	$ENV{NODE_PATH} = "$dir/node_modules" if run_log([ 'cp', "$top/examples/consumer/package.json", $dir ]) && npm($dir);
	my $command = find_command('node');
	return defined $command && run_log([ $command, '-e', 'require("pg")' ]) ? ($command) : ();
}

my $url = "jdbc:postgresql://127.0.0.1:$ENV{PGPORT}/postgres?user=$ENV{PGUSER}";
my %clients = (
	psycopg => { command => [ python('psycopg') ], check => 'check.py', consumer => 'consumer.py', first => [] },
	JDBC => { command => [ java() ], check => 'Check.java', consumer => 'Consumer.java', first => [$url] },
	'node-postgres' => { command => [ node() ], check => 'check.js', consumer => 'consumer.js', first => [] });

for my $name (sort keys %clients)
{
	my $client = $clients{$name};
	my @command = @{ $client->{command} };

  SKIP:
	{
		skip "$name is not on this machine", 1 unless @command;
		try_client($node, $name,
			map { [ @command, "$top/$_", @{ $client->{first} } ] } "test/clients/$client->{check}", "examples/consumer/$client->{consumer}");
	}
}

$node->stop;
done_testing();
