package Console;

# The tests of console/test, each file of them in one program: on a server with the story
# of console/demo in it, in a browser.
#
#   run_console_tests('accident');   each test of accident.test.js is a test; all are skipped
#                                    where node, npm or chromium is missing

use strict;
use warnings;

use Clients;
use CmqNode;
use Exporter qw(import);
use Fcntl qw(:flock);
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(run_console_tests);

# Why these tests cannot run here, nothing if they can.
sub _missing
{
	my $version = '';
	return 'node and npm are not on this machine' unless find_command('node') && find_command('npm');
	run_log([ 'node', '--version' ], '>', \$version);
	my ($major, $minor) = $version =~ /^v(\d+)\.(\d+)/;
	return "node $version is older than 18.19" if $major < 18 || $major == 18 && $minor < 19;
	return 'chromium is not on this machine' unless find_command('chromium');
	return;
}

# A copy of the console with its libraries, for all programs of this run.  Where npm cannot
# get them, none.
sub _console
{
	my $dir = "$PostgreSQL::Test::Utils::tmp_check/console";
	open my $lock, '>', "$dir.lock" or die "$dir.lock: $!";
	flock $lock, LOCK_EX or die "flock: $!";
	return $dir if -e "$dir/ready";
	system_or_bail('rm', '-rf', $dir);
	system_or_bail('mkdir', '-p', $dir);
	system_or_bail('sh', '-c', "tar -C '$top/console' --exclude=./node_modules -cf - . | tar -C '$dir' -xf -");
	return unless run_log([ 'npm', 'ci', '--prefix', $dir, '--ignore-scripts', '--no-audit', '--no-fund', '--fetch-retries=1', '--loglevel=error' ]);
	append_to_file("$dir/ready", '');
	return $dir;
}

sub run_console_tests
{
	my ($name) = @_;
	my $missing = _missing();
	plan skip_all => $missing if defined $missing;

	my $node = CmqNode->configured('main', <<'CONF');
password_encryption = 'scram-sha-256'
restart_after_crash = on
CONF
	$node->start;
	my $superuser = $node->sql('SELECT current_user');

	local @ENV{qw(HOME TMPDIR TZ)} = ($node->basedir, PostgreSQL::Test::Utils::tempdir_short(), 'UTC');
	my $dir = _console();
	plan skip_all => 'npm does not get the libraries of the console' unless defined $dir;

	# as on a real server every role but the superuser has a password
	unlink $node->data_dir . '/pg_hba.conf';
	append_to_file($node->data_dir . '/pg_hba.conf', "local all $superuser trust\nlocal all all scram-sha-256\n");
	$node->reload;
	local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} = ($node->host, $node->port, 'postgres', $superuser);
	local $ENV{CMQ_TEST_PGDATA} = $node->data_dir;
	local $ENV{CMQ_TEST_PG_CTL} = $node->config_data('--bindir') . '/pg_ctl';
	system_or_bail('psql', '-X', '-q', '-v', 'hours=6', '-v', 'step=5', '-v', 'broken=110', '-f', "$dir/demo/story.sql");

	# each test of the file is a test of this program
	my $run = CmqNode::Run->new('node', '--test-reporter=tap', "$dir/test/$name.test.js");
	my $out = $run->finish;
	my @lines;
	my $tests = 0;
	foreach my $line (split /\n/, $out)
	{
		# one that was skipped has not passed
		if ($line =~ /^(not )?ok \d+ - (.*?)( # (?:SKIP|TODO).*)?$/)
		{
			ok(!$1 && !$3, $2) or diag(join "\n", @lines);
			@lines = ();
			$tests++;
		}
		push @lines, $line;
	}
	ok($tests > 0 && $run->{ended_well}, 'the tests end well') or diag(join("\n", @lines), $run->{err});
	$node->is_sound unless $name eq 'lost';
	$node->stop;
	done_testing();
	return;
}

1;
