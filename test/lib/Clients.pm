package Clients;

# Commands that run the programs of client libraries.  Each is a list, empty if the
# library is not on this machine.
#
#   python('psycopg')                Python that has these modules
#   java()                           Java that runs a source file, with JDBC
#   npm($dir, 'drizzle-kit@0.31')    node, with these packages, or those of $dir/package.json, in $dir
#   ruby('pg'), php('pgsql', 'pcntl')    Ruby and PHP that have these
#   go($dir, $file)                  the program that Go makes of it in $dir, with Debian's pgx
#   cargo($dir)                      cargo in $dir, which gets the crates that Debian has
#   find_command('npm')              its path, undef if there is none

use strict;
use warnings;

use Exporter qw(import);
use PostgreSQL::Test::Utils qw(append_to_file run_log);

our @EXPORT = qw(cargo find_command go java npm php python ruby);

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

sub ruby
{
	my (@libraries) = @_;
	my $ruby = find_command('ruby');
	return unless defined $ruby && run_log([ $ruby, map({ "-r$_" } @libraries), '-e', '1' ]);
	return ($ruby);
}

sub php
{
	my (@extensions) = @_;
	my $php = find_command('php');
	return unless defined $php && run_log([ $php, '-r', 'exit((int) !(' . join(' && ', map { "extension_loaded('$_')" } @extensions) . '));' ]);
	return ($php);
}

sub go
{
	my ($dir, $file) = @_;
	my $go = find_command('go');
	my $path = '/usr/share/gocode';
	return unless defined $go && -d "$path/src/github.com/jackc/pgx/v4";
	local @ENV{qw(GO111MODULE GOPATH GOCACHE GOFLAGS)} = ('off', $path, "$dir/cache", '');
	my $program = "$dir/" . ($file =~ s/.*\///r =~ s/\.go$//r);
	return run_log([ $go, 'build', '-o', $program, $file ]) ? ($program) : ();
}

# A tool of the user's own does not know Debian's crates.
sub cargo
{
	my ($dir) = @_;
	my $crates = '/usr/share/cargo/registry';
	return unless -x '/usr/bin/cargo' && -x '/usr/bin/rustc' && glob "$crates/tokio-postgres-*";
	mkdir "$dir/home" or die "$dir/home: $!";
	append_to_file("$dir/home/config.toml", <<"TOML");
[source.crates-io]
replace-with = "debian"
[source.debian]
directory = "$crates"
TOML
	return ('env', 'PATH=/usr/bin:/bin', 'RUSTC=/usr/bin/rustc', "CARGO_HOME=$dir/home", '/usr/bin/cargo', '--offline');
}

1;
