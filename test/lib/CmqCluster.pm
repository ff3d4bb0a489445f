package CmqCluster;

# Nodes with cmq, and a front with cmq_cluster.
#
#   my $cluster = CmqCluster->new(3);           nodes 1, 2, 3; they and the front are started
#   my $cluster = CmqCluster->new(3, settings => "fsync = on\n");     more settings of each node
#   my $cluster = CmqCluster->new(3, front => $path, nodes => $path);   of other PostgreSQLs
#   my $node = $cluster->node(2);               each is a CmqNode, and so is the front
#   $cluster->{front}->sql('SELECT * FROM cmq_cluster.nodes');
#   my $cluster = CmqCluster->new(3, prefix => 'other_');     beside another one
#   $cluster->add(4);                           another node, started and added
#   $cluster->start_node(4);                    started, and not added
#   $cluster->sql_on_all('SELECT 1');           the answers of all nodes, a line each
#   $cluster->add_role('joe', 'true');          a role on all servers, that may use the cluster; true: as a manager
#   $cluster->is_whole('name');                 tests: nothing is in doubt, all servers are sound
#   $cluster->stop;

use strict;
use warnings;

use CmqNode;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

our $step = 16;

sub new
{
	my ($class, $n, %options) = @_;
	my $self = bless { nodes => {}, settings => $options{settings} // '', path => $options{nodes}, prefix => $options{prefix} // '' }, $class;
	my $front = PostgreSQL::Test::Cluster->new("$self->{prefix}front", $options{front} ? (install_path => $options{front}) : ());

	$front->init;
	$front->append_conf('postgresql.conf', "max_prepared_transactions = 0\n");
	$front->start;
	$self->{front} = bless $front, 'CmqNode';
	$self->{front}->sql('CREATE EXTENSION cmq_cluster CASCADE');
	$self->add($_) foreach 1 .. $n;
	return $self;
}

sub start_node
{
	my ($self, $number) = @_;
	my $name = "$self->{prefix}node$number";
	# settings for streaming are those of this version, and an older server may not know them
	my $node = CmqNode->running($self->{path} ? [ $name, install_path => $self->{path} ] : $name, <<CONF . $self->{settings}, allows_streaming => !$self->{path});
max_prepared_transactions = 20
cmq.msg_id_step = $step
cmq.msg_id_offset = $number
CONF
	$self->{nodes}{$number} = $node;
	return $node;
}

sub add
{
	my ($self, $number) = @_;
	my $node = $self->start_node($number);
	$self->{front}->sql(sprintf q{CALL cmq_cluster.add_node(%d, '%s', '%s')}, $number, $node->host, $node->port);
	return $node;
}

# The front's roles that are no superusers need a password that the node has asked for.
sub make_role
{
	my ($self, $number, $role) = @_;
	my $node = $self->node($number);
	my $hba = $node->data_dir . '/pg_hba.conf';
	my $rest = slurp_file($hba);

	open my $file, '>', $hba or die $!;
	print $file "local all $role scram-sha-256\n$rest";
	close $file;
	$node->sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE $role LOGIN PASSWORD 'secret'");
	$node->reload;
	return;
}

sub add_role
{
	my ($self, $role, $manager) = @_;
	$self->make_role($_, $role) foreach $self->numbers;
	$self->{front}->sql(qq{CREATE ROLE $role LOGIN; CALL cmq_cluster.add_user('$role', password => 'secret', manager => $manager)});
	return;
}

sub node { my ($self, $number) = @_; return $self->{nodes}{$number}; }

sub numbers { my ($self) = @_; return sort { $a <=> $b } keys %{ $self->{nodes} }; }

sub sql_on_all
{
	my ($self, $sql) = @_;
	return join "\n", map { $self->node($_)->sql($sql) } $self->numbers;
}

sub is_whole
{
	my ($self, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($self->sql_on_all('SELECT count(*) FROM pg_prepared_xacts'), join("\n", map { 0 } $self->numbers), "$name: nothing is prepared on any node");
	is($self->{front}->sql('SELECT count(*) FROM cmq_cluster.decision'), 0, "$name: nothing is left to commit");
	$_->is_sound("$name: " . $_->name . ' has nothing to complain about') foreach $self->{front}, map { $self->node($_) } $self->numbers;
	return;
}

sub stop
{
	my ($self) = @_;
	$_->stop foreach $self->{front}, map { $self->node($_) } $self->numbers;
	return;
}

1;
