# The queues that are libraries for Node.js: installs them into the run's own
# directory, with npm, and runs node/drive.js on the Node.js that npm brings with them.

package Node;

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Copy qw(copy);
use IPC::Open2 qw(open2);
use JSON::PP;

my $source = dirname(__FILE__) . '/../node';

# Undef with a reason when they cannot be had.
sub new
{
	my ($class, $server) = @_;
	my $dir = "$server->{dir}/node";

	return (undef, 'needs node and npm') if system('npm --version >/dev/null 2>&1') != 0;
	mkdir $dir;
	copy("$source/$_", $dir) or die "$_: $!\n" foreach qw(package.json drive.js);
	return (undef, 'npm could not install it')
	  if system("cd '$dir' && npm install --no-audit --no-fund >npm.log 2>&1") != 0;
	my $node = "$dir/node_modules/.bin/node";
	chomp(my $version = `'$node' --version 2>/dev/null`);
	return (undef, 'the package "node" brought no Node.js') if $version !~ /^v(\d+)/;
	return bless { server => $server, dir => $dir, node => $node, of_node => $version }, $class;
}

sub version
{
	my ($self, $package) = @_;
	open my $file, '<', "$self->{dir}/node_modules/$package/package.json" or return 'unknown';
	my $json = do { local $/; <$file> };
	return decode_json($json)->{version};
}

# What drive.js says of a run.  Between its lines "begin" and "end" the server's processor time
# and WAL count: then the result has cpu and wal, per message.
sub drive
{
	my ($self, $db, $system, $what, %options) = @_;
	my $server = $self->{server};
	my ($begin, $said, $result, %used) = (undef, '');

	local $ENV{PGDATABASE} = $db;
	my $pid = open2(my $out, my $in, $self->{node}, "$self->{dir}/drive.js", $system, $what, encode_json(\%options));
	$server->began($pid);
	while (my $line = <$out>)
	{
		if ($line eq "begin\n")
		{
			$begin = { wal => $server->wal, cpu => $server->cpu('data') };
			$in->print("go\n");
			$in->flush;
		}
		elsif ($line eq "end\n")
		{
			$used{cpu} = ($server->cpu('data') - $begin->{cpu}) * 1e6;
			$used{wal} = $server->wal - $begin->{wal};
			$in->print("go\n");
			$in->flush;
		}
		elsif ($line =~ /^\{.*\}$/)
		{
			$result = decode_json($line);
		}
		else
		{
			$said .= $line;
		}
	}
	waitpid $pid, 0;
	$server->ended($pid);
	die "$system $what: node failed\n$said" if $? || !$result;
	$result->{$_} = $used{$_} / $result->{done} foreach keys %used;
	return $result;
}

1;
