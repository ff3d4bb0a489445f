package Clients;

# Commands that run the programs of client libraries.  Each is a list, empty if the
# library is not on this machine.
#
#   python('psycopg')                Python that has these modules
#   java()                           Java that runs a source file, with JDBC
#   npm($dir, 'drizzle-kit@0.31')    node, with these packages, or those of $dir/package.json, in $dir
#   find_command('npm')              its path, undef if there is none

use strict;
use warnings;

use Exporter qw(import);
use PostgreSQL::Test::Utils qw(run_log);

our @EXPORT = qw(find_command java npm python);

sub find_command
{
	my ($command) = @_;
	my ($path) = grep { -x $_ } map { "$_/$command" } split /:/, $ENV{PATH};
	return $path;
}

sub python
{
	my (@modules) = @_;
	for my $python (grep { defined $_ && -x $_ } '/usr/bin/python3', find_command('python3'))
	{
		return ($python) if run_log([ $python, '-c', join ';', map { "import $_" } @modules ]);
	}
	return;
}

# A runtime alone does not run a source file.
sub java
{
	my $java = find_command('java');
	my $jar = '/usr/share/java/postgresql.jar';
	my $modules = '';
	return unless defined $java && -e $jar && run_log([ $java, '--list-modules' ], '>', \$modules) && $modules =~ /jdk\.compiler/;
	return ($java, '-Xshare:auto', '-XX:TieredStopAtLevel=1', '-cp', $jar);
}

sub npm
{
	my ($dir, @packages) = @_;
	my $node = find_command('node');
	return unless defined $node && find_command('npm')
	  && run_log([ 'npm', 'install', '--prefix', $dir, '--no-audit', '--no-fund', '--fetch-retries=1', '--loglevel=error', @packages ]);
	return ($node);
}

1;
