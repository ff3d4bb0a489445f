package Complaints;

# What clients and servers complained of, but for what is expected when a server goes
# away.  The lists name what is expected: whatever else there is is a complaint, internal
# errors (XX000) and failed assertions too.
#
#   Complaints::of_clients($text)       what psql wrote, with VERBOSITY verbose
#   Complaints::of_server($node)        its log, with log_error_verbosity = verbose
#
# Both return lines, none if all is well.

use strict;
use warnings;

use PostgreSQL::Test::Utils;

# A rewind that lost to another one: after the client read the range, older messages came
# back.
my $overtaken = qr/ERROR:  22023: start_time is (?:before the rewind window|after the earliest unconsumed message) of queue "\w+"$/m;

# The server is shut down, has crashed, or does not take connections yet.
my $unavailable = qr/(?:WARNING|FATAL):  57P0[123]: /;

# How a connection ends when its server does.
my $lost = join '|', 'server closed the connection unexpectedly', '(?:connection to server was lost|no connection to the server)',
  'could not (?:send|receive) data (?:to|from) server: (?:Broken pipe|Connection reset by peer)';

# Why a connection cannot be had meanwhile.
my $refused = join '|', 'Connection refused', 'No such file or directory', 'session is read-only', $lost,
  'FATAL:  the database system is (?:starting up|shutting down|in recovery mode|not (?:yet )?accepting connections)';

# Lines that belong to the one before them.
my $continued = qr/^(?:\t|(?:DETAIL|HINT|CONTEXT|LOCATION): |$)/;

sub is_refused
{
	my ($line) = @_;
	return $line =~ /^(?:psql: error: )?connection to server .* failed: (?:$refused)/;
}

# How many rewinds lost to another one.
sub count_overtaken
{
	my ($text) = @_;
	return scalar(() = $text =~ /$overtaken/mg);
}

sub of_clients
{
	my ($text) = @_;
	return grep {
		!(     /$continued/
			|| is_refused($_)
			|| /^psql:\S+:\d+: (?:$overtaken|$unavailable|(?:error: )?(?:$lost))/)
	} split /\n/, $text;
}

# What a log may have, but for lines that go on with the one before.  A server that
# cannot be reached, or that loses a client, says so with a state of class 08.
# Autovacuum steps aside when somebody needs its table.  With 19 a line also says what
# kind of process writes it.
my $normal = qr/^[-\d]+\ [\d:.]+\ \S+\ (?:[a-z\ -]+)?\[\d+\]\ (?:\S+\ )?
	(?: LOG:\ \ (?!XX)\w{5}:\ (?!.*terminated\ by\ signal)
	| $overtaken
	| $unavailable
	| (?:ERROR|FATAL):\ \ 08\w{3}:\ 
	| ERROR:\ \ 57014:\ canceling\ autovacuum\ task
	| (?:DETAIL|HINT|CONTEXT|LOCATION|QUERY|STATEMENT):\ \ )/x;

sub of_server
{
	my ($node) = @_;
	return grep { !/$normal|^\t|^$/ } split /\n/, slurp_file($node->logfile);
}

1;
