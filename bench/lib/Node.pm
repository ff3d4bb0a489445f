# The queues that are libraries for Node.js: installs them into the run's own
# directory, with npm, and runs node/drive.js.

package Node;

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Copy qw(copy);
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
	return bless { server => $server, dir => $dir }, $class;
}

sub version
{
	my ($self, $package) = @_;
	open my $file, '<', "$self->{dir}/node_modules/$package/package.json" or return 'unknown';
	my $json = do { local $/; <$file> };
	return decode_json($json)->{version};
}

sub drive
{
	my ($self, $db, $system, $what, %options) = @_;
	local $ENV{PGDATABASE} = $db;
	my $output = $self->{server}->quietly('node', "$self->{dir}/drive.js", $system, $what,
		encode_json(\%options));
	my ($json) = $output =~ /^(\{.*\})$/m or die "no result from node:\n$output";
	return decode_json($json);
}

1;
