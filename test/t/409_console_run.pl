# What make console does: fetch the libraries, start the console, end it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Clients;
use CmqNode;
use HTTP::Tiny;
use Test::More;

plan skip_all => 'node and npm are not on this machine' unless find_command('node') && find_command('npm');

my $node = CmqNode->running('main');
local $ENV{CONSOLE_OPTS} = '--port 0';
local $ENV{HOME} = $node->basedir;
local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
my $run = $node->beside("$top/console/run");
my $url;
eventually { ($url) = $run->{out} =~ m{The console is at (http://127\.0\.0\.1:\d+)/}; defined $url || !$run->is_running };
plan skip_all => "npm does not get the libraries of the console: $run->{err}" if !defined $url && $run->{err} =~ /npm (?:error|ERR!)/;
ok(defined $url, 'it says where it is') or diag $run->{err};
my $http = HTTP::Tiny->new(timeout => 10);
like($http->get("$url/")->{content}, qr/<title>cmq console/, 'there is the page');
is($http->get("$url/api/")->{content}, '{"database":"postgres","logged_in":false}', 'and the database that PGDATABASE names');
ok(!-e "$top/console/node_modules/playwright-core", 'what tests alone need is not fetched');
$run->kill;
$node->stop;
done_testing();
