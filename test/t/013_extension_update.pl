# ALTER EXTENSION UPDATE from each version whose script is here to the newest one: the
# objects are those of a fresh installation, and queues in all states go on.  A version
# that the test makes, from a step of its own, shows that the comparison finds what a step
# has forgotten.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use ExtensionObjects;
use PostgreSQL::Test::Utils qw(append_to_file run_command slurp_file system_or_bail);
use Test::More;

# A PostgreSQL of its own, whose folder of scripts can be written: programs find their
# files from where they are.
my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
my $root = PostgreSQL::Test::Utils::tempdir();
my %dir;
for my $kind (qw(bindir sharedir libdir pkglibdir))
{
	($dir{$kind}) = run_command([ $pg_config, "--$kind" ]);
	system_or_bail('mkdir', '-p', $root . $dir{$kind});
}
system_or_bail('cp', '-RL', "$dir{bindir}/.", $root . $dir{bindir});
system_or_bail('cp', '-RL', "$dir{sharedir}/.", $root . $dir{sharedir});
system_or_bail('sh', '-c', 'ln -s "$1"/* "$2"', 'sh', $dir{pkglibdir}, $root . $dir{pkglibdir});
my $scripts = "$root$dir{sharedir}/extension";

my ($version) = slurp_file("$scripts/cmq.control") =~ /^default_version = '(.*)'/m or die;

# The next version: a step that changes one object of each kind, and a whole script that
# does the same, but for one right and one comment.
my $step = q{
CREATE FUNCTION @extschema@.cmq_next(queue text, n int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT n';
REVOKE ALL ON FUNCTION @extschema@.cmq_next FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.cmq_next IS 'the next one';
CREATE TABLE cmq.next (queue text PRIMARY KEY, n int NOT NULL DEFAULT 7 CHECK (n > 0));
SELECT pg_extension_config_dump('cmq.next', 'WHERE n > 7');
CREATE VIEW cmq.nexts AS SELECT queue FROM cmq.next;
GRANT SELECT ON cmq.nexts TO PUBLIC;
};
my $base = slurp_file("$scripts/cmq--$version.sql");
append_to_file("$scripts/cmq--$version--next.sql", $step);
append_to_file("$scripts/cmq--next.sql", $base . $step);
append_to_file("$scripts/cmq--$version--forgetful.sql",
	$step =~ s/REVOKE.*\n//r =~ s/COMMENT.*\n//r =~ s/DEFAULT 7/DEFAULT 8/r =~ s/n > 7/n > 8/r =~ s/n int DEFAULT 1/n int DEFAULT 2/r);
append_to_file("$scripts/cmq--forgetful.sql", $base . $step);

my $node = CmqNode->configured([ 'main', install_path => "$root$dir{bindir}" =~ s{/bin$}{}r ]);
$node->start;
is($node->sql('SHOW shared_preload_libraries'), 'cmq', 'the server has cmq');

# A database with that version.
sub database
{
	my ($db, $extension, $of) = @_;

	$node->sql("CREATE DATABASE $db");
	$node->sql("CREATE EXTENSION $extension VERSION '$of' CASCADE", $db);
	return $db;
}

# Queues with messages in every state.
sub fill
{
	my ($db) = @_;

	$node->sql(q{
		SELECT FROM cmq_create_queue('dlq');
		SELECT FROM cmq_create_queue('a', visibility_timeout => 43200, rewind_seconds => 86400, dead_letter_queue => 'dlq', max_receive_count => 5);
		SELECT FROM cmq_create_queue('g', rewind_seconds => 86400, dedup_seconds => 3600, ordered => true);
		SELECT FROM cmq_create_topic('t');
		SELECT FROM cmq_subscribe('t', 's', 'a', '{yes}');
		SELECT FROM cmq_send_batch('a', '{gone,back,flying,ready}');
		SELECT FROM cmq_send('a', 'later', deliver_at => now() + interval '3 days');
		SELECT FROM cmq_consume('a', 2);
		SELECT FROM cmq_receive('a', 1);
		SELECT FROM cmq_restore('a', (SELECT enqueued_at FROM cmq.q_a_history WHERE body = 'back'));
		SELECT FROM cmq_send('g', 'first', message_group => 'g', dedup_key => 'k');
		SELECT FROM cmq_send('g', 'second', message_group => 'g');
		SELECT FROM cmq_receive('g')}, $db);
	return;
}

sub contents
{
	my ($db) = @_;

	return $node->sql(q{
		SELECT 'a', body, state, receive_count, msg_id FROM cmq.q_a_all ORDER BY msg_id;
		SELECT 'g', body, state, receive_count, msg_id FROM cmq.q_g_all ORDER BY msg_id;
		SELECT queue, visibility_timeout, rewind_seconds, dead_letter_queue FROM cmq.queues ORDER BY queue;
		SELECT kind, queue FROM cmq.rewinds ORDER BY id}, $db);
}

# Queues that were filled before go on.
sub goes_on
{
	my ($db, $name) = @_;

	is($node->sql(q{
		SELECT queue FROM cmq_publish('t', 'published', '{yes}');
		SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('a', 10);
		SELECT cmq_send('g', 'again', dedup_key => 'k') = msg_id FROM cmq.q_g_all WHERE body = 'first';
		SELECT cmq_delete('g', receipt_handle) FROM cmq._deliveries_of('g', array(SELECT msg_id FROM cmq.q_g_live WHERE state = 'in_flight'), false);
		SELECT body FROM cmq_consume('g', 10);
		SELECT FROM cmq_restore('a', '-infinity');
		SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('a', 10);
		SELECT cmq_maintain() IS NOT NULL;
		SELECT FROM cmq_alter_queue('a', visibility_timeout => 30);
		SELECT cmq_drop_queue('g');}, $db),
		"a\nback ready published\nt\nt\nsecond\ngone back ready published\nt\n", $name);
	return;
}

# From every version that is here, of both extensions.
for my $extension (qw(cmq cmq_cluster))
{
	my ($newest) = slurp_file("$scripts/$extension.control") =~ /^default_version = '(.*)'/m or die;
	my $fresh = database("fresh_$extension", $extension, $newest);
	cmp_ok(scalar(extension_objects($node, $extension, $fresh)), '>', 100, "$extension has objects");

	# a draft from before 1.0.0, which cannot be updated, may be installed here beside them
	my %here = map { /--([^-]*)\.sql$/ ? ($1 => 1) : () } glob("$FindBin::RealBin/../../sql/$extension--*.sql");
	ok($here{$newest}, "... and the script of $newest");
	my @older = grep { $_ ne $newest && $here{$_} } split /\n/, $node->sql(qq{
		SELECT version FROM pg_available_extension_versions WHERE name = '$extension' ORDER BY version});
	my $n = 0;
	for my $old (@older)
	{
		my $db = database("${extension}_" . ++$n, $extension, $old);
		fill($db) if $extension eq 'cmq';
		my $before = $extension eq 'cmq' ? contents($db) : '';
		$node->sql("ALTER EXTENSION $extension UPDATE", $db);
		is(object_differences($node, $extension, $fresh, $db), '', "$extension $old becomes $newest");
		next if $extension ne 'cmq';
		is(contents($db), $before, '... with what was in its queues');
		goes_on($db, '... which go on');
	}
}

# The same with the version that this test has made.
my $same = database('same', 'cmq', $version);
is(object_differences($node, 'cmq', 'fresh_cmq', $same), '', 'two installations are the same');
my $updated = database('updated', 'cmq', $version);
fill($updated);
my $before = contents($updated);
$node->sql(q{ALTER EXTENSION cmq UPDATE TO 'next'}, $updated);
my $differences = object_differences($node, 'cmq', 'fresh_cmq', $updated);
like($differences, qr/^\+function public\.cmq_next\(text,integer\): is there$/m, 'a step adds a function');
like($differences, qr/^\+table cmq\.next: is there$/m, '... a table');
like($differences, qr/^\+view cmq\.nexts: is there$/m, '... and a view');
unlike($differences, qr/^-/m, '... and takes nothing away');
my $fresh = database('fresh_next', 'cmq', 'next');
is(object_differences($node, 'cmq', $fresh, $updated), '', 'a fresh installation of it is the same');
is(contents($updated), $before, 'what was in queues is there');
goes_on($updated, '... and they go on');

# A step that has forgotten something.
my $forgetful = database('forgetful', 'cmq', $version);
$node->sql(q{ALTER EXTENSION cmq UPDATE TO 'forgetful'}, $forgetful);
$differences = object_differences($node, 'cmq', $fresh, $forgetful);
my %found = map { $_ => 1 } $differences =~ /^[-+](.*?: (?:[a-z]+(?= |$)))/mg;
is_deeply(
	[ sort keys %found ],
	[
		'function public.cmq_next(text,integer): comment',
		'function public.cmq_next(text,integer): function',
		'function public.cmq_next(text,integer): rights',
		'table cmq.next: column',
		'table cmq.next: dumped'
	],
	'the comparison finds what a step has forgotten') or diag($differences);

$node->is_sound;
$node->stop;
done_testing();
