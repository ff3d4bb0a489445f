# What tools see that read the catalog: SQLAlchemy's reflection, JDBC's metadata,
# drizzle-kit's pull and psql's completion show 20 queues with 15 days of history as 80
# views and what the extension has itself, and not the hundreds of partitions.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Clients;
use CmqNode;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

# JDBC has no Unix sockets
my $node = CmqNode->running('tools', "listen_addresses = '127.0.0.1'\nmax_locks_per_transaction = 1000");

# The tools belong to a role that reads all queues and owns nothing.
$node->sql(qq{\\i $top/test/helpers.sql
	CREATE ROLE reader LOGIN;
	GRANT USAGE ON SCHEMA cmq TO reader;
	DO \$\$
	DECLARE
		q text;
		first timestamptz;
	BEGIN
		FOR i IN 1 .. 20 LOOP
			q := CASE i WHEN 20 THEN 'Orders-eu' ELSE 'queue_' || i END;
			PERFORM cmq_create_queue(q, msg_retention_seconds => 1296000, rewind_seconds => 1296000);
			PERFORM cmq_send(q, 'to be read');
			EXECUTE format('GRANT SELECT ON cmq.%I TO reader', 'q_' || q);
			SELECT min(lower) INTO STRICT first FROM cmq.partition WHERE queue = q;
			FOR day IN 1 .. 14 LOOP
				PERFORM pg_temp.add_leaf(q, first - day * interval '1 day', first - (day - 1) * interval '1 day');
			END LOOP;
		END LOOP;
	END \$\$});

my $port = $node->port;
local $ENV{HOME} = $node->basedir;

# A test: the tool ends well.  Returns what it prints.
sub run_tool
{
	my ($name, @command) = @_;
	my ($out, $err) = ('', '');
	local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} = ('127.0.0.1', $port, 'postgres', 'reader');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(run_log(\@command, '>', \$out, '2>', \$err), $name) or diag($out . $err);
	return $out;
}

# What the pattern finds in lines, in order.
sub found
{
	my ($text, $pattern) = @_;
	return join "\n", sort $text =~ /^$pattern$/mg;
}

note 'the catalog';

my $in_cmq = q{pg_class c WHERE relnamespace = 'cmq'::regnamespace AND relkind NOT IN ('c', 'i', 'I')};
my $own = q{EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')};
my $readable = q{has_table_privilege('reader', c.oid, 'SELECT')};

is($node->sql("SELECT relkind, count(*), count(*) FILTER (WHERE $readable) FROM $in_cmq AND NOT $own GROUP BY 1"),
	'v|80|80', 'cmq has 4 views for each queue');
cmp_ok($node->sql("SELECT count(*) FROM $in_cmq AND $own"), '<=', 20, 'and a handful of its own');
is($node->sql("SELECT DISTINCT relkind FROM $in_cmq AND $readable"), 'v', 'a reader may read views alone');
is($node->as('reader', "SELECT table_type, count(*) = (SELECT count(*) FROM $in_cmq AND $readable)
	FROM information_schema.tables WHERE table_schema = 'cmq' GROUP BY 1"), "VIEW|t\n", 'and the information schema shows these alone');
my $partitions = found($node->sql(q{SELECT relname FROM cmq.partition p, pg_class c WHERE c.oid IN (p.messages, p.rewind)}), '(.+)');
cmp_ok($partitions =~ tr/\n// + 1, '>=', 20 * 15 * 2, 'there are hundreds of partitions');

my $types = qq{SELECT string_agg(DISTINCT format_type(atttypid, atttypmod), ', ' ORDER BY format_type(atttypid, atttypmod))
	FROM pg_attribute a WHERE attnum > 0 AND attrelid IN (SELECT oid FROM $in_cmq AND %s)};
is($node->sql(sprintf $types, "NOT $own"), 'bigint, integer, jsonb, text, timestamp with time zone', 'types of the columns of views of queues');
is($node->sql(sprintf "$types AND format_type(atttypid, atttypmod) NOT IN
		('bigint', 'boolean', 'double precision', 'inet', 'integer', 'jsonb', 'text', 'text[]', 'timestamp with time zone')", $readable),
	'', 'all types are such as clients know');

# Every tool is to show just these, and to complete the names of sequences, too.
my $relations = found($node->sql("SELECT relname FROM $in_cmq AND relkind <> 'S'"), '(.+)');
my $completions = found($node->sql("SELECT format('cmq.%I', relname) FROM $in_cmq"), '(.+)');

# docs/operations.md has the numbers.
my ($said, $said_partitions) = slurp_file("$top/docs/operations.md") =~ /20\s+queues\s+with\s+15\s+days\s+of\s+history\s+are\s+(\d+)\s+relations.*?\s+The\s+(\d+)\s+partitions/s or die;
is($relations =~ tr/\n// + 1, $said, 'as many relations as docs/operations.md says');
# in the second half of the day there is a pair for the next one, too
is($node->sql(q{SELECT 2 * count(*) FROM cmq.partition WHERE lower <= now()}), $said_partitions, 'and as many partitions');

note 'SQLAlchemy';

SKIP:
{
	my @python = python('sqlalchemy', 'psycopg2');
	skip 'SQLAlchemy is not on this machine', 1 unless @python;

	my $out = run_tool('SQLAlchemy reflects', @python, "$top/test/clients/metadata.py");
	is(found($out, 'relation (.+)'), $relations, 'the relations');
	is(found($out, 'unknown (.+)'), '', 'no column of an unknown type');
	unlike($out, qr/^warning (?!.*expression-based index queue_name_folded)/m, 'no warning but of an index that it passes over');
}

note 'JDBC';

SKIP:
{
	my @java = java();
	skip 'JDBC is not on this machine', 1 unless @java;

	my $out = run_tool('JDBC tells', @java, "$top/test/clients/Metadata.java", "jdbc:postgresql://127.0.0.1:$port/postgres?user=reader");
	is(found($out, 'relation (.+)'), $relations, 'the relations');
	my %count;
	$count{$_}++ foreach $out =~ /^column q_\S+ (.+)$/mg;
	# 20 queues: _live has 9 columns, _history 9, _all 11, and the view that carries the rights one
	is(join(', ', map { "$_ $count{$_}" } sort keys %count),
		'int4 INTEGER 120, int8 BIGINT 60, jsonb OTHER 60, text VARCHAR 160, timestamptz TIMESTAMP 200', 'columns of queues');
	my @indexes = $out =~ /^index (.+)$/mg;
	cmp_ok(scalar(@indexes), '<=', 20, 'a handful of columns of indexes');
	is(found($out, 'data ([mr]_.+)'), $partitions, 'the partitions are in cmq_data');
}

note 'drizzle-kit';

# Pull schema cmq into a directory of this name; returns the schema.
sub pull
{
	my ($dir, $name, $more) = @_;
	append_to_file("$dir/$name.js", qq{module.exports = { dialect: 'postgresql', out: './$name', schemaFilter: ['cmq'], $more
		dbCredentials: { url: 'postgresql://reader\@127.0.0.1:$port/postgres' } };});
	# it takes no absolute path
	run_tool("drizzle-kit pulls $name", 'sh', '-c', 'cd "$1" && exec node_modules/.bin/drizzle-kit pull --config "$2"', 'sh', $dir, "$name.js");
	return slurp_file("$dir/$name/schema.ts");
}

SKIP:
{
	my $dir = $node->basedir . '/drizzle';
	mkdir $dir or die;
	my @node = npm($dir, 'drizzle-kit@0.31', 'drizzle-orm@0.45', 'pg@8');
	skip 'drizzle-kit cannot be installed on this machine', 1 unless @node && run_log([ "$dir/node_modules/.bin/drizzle-kit", '--version' ]);

	my $schema = pull($dir, 'all', '');
	is(found($schema, 'export const .*? = cmq\.(?:table|view)\("(.+?)",.*'), $relations, 'the relations');

	# without the extension's internal relations, as docs/operations.md says
	my ($filter) = slurp_file("$top/docs/operations.md") =~ /`(tablesFilter: \[.*?\])`/ or die;
	$schema = pull($dir, 'readable', "$filter,");
	is(found($schema, 'export const .*? = cmq\.(?:table|view)\("(.+?)",.*'),
		found($node->sql("SELECT relname FROM $in_cmq AND $readable"), '(.+)'), 'the relations that a reader may read');
	unlike($schema, qr/unknown|failed/, 'no column of an unknown type');
	local $ENV{NODE_PATH} = "$dir/node_modules";
	my $out = run_tool('what it has pulled can be used', @node, "$top/test/clients/metadata.js", "$dir/readable", 'qOrdersEuLiveInCmq');
	is($out, "to be read ready\n", 'a message read by drizzle-orm');
}

note 'psql';

SKIP:
{
	my $psql = $node->config_data('--bindir') . '/psql';
	my $libraries = '';
	skip 'psql has no readline', 1 unless run_log([ 'ldd', $psql ], '>', \$libraries) && $libraries =~ /libreadline/;
	skip 'IO::Pty is not on this machine', 1 unless eval { require IO::Pty };

	append_to_file("$ENV{HOME}/inputrc", "set completion-query-items 0\nset page-completions off\nset completion-display-width 0\nset bell-style none\n");
	local %ENV = (%ENV, INPUTRC => "$ENV{HOME}/inputrc", TERM => 'dumb', PSQL_HISTORY => '/dev/null');
	my ($in, $out) = ('', '');
	my $run = IPC::Run::start([ $psql, '-X', '-h', $node->host, '-p', $port, '-U', 'reader', 'postgres' ], '<pty<', \$in, '>pty>', \$out, my $limit = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$run->pump until $out =~ /=> $/;

	# What it offers for this beginning of a line: names, a line each.
	my $offers = sub {
		my ($line) = @_;
		$out = '';
		$in = "$line\t\t";
		$run->pump until $out =~ /\Q$line\E\s*\n(.*)\n[^\n]*> \Q$line\E$/s;
		my $offered = $1;
		$out = '';
		# ^U: the next line begins anew
		$in = "\x15\\echo done\n";
		$run->pump until $out =~ /^done\s*\n.*> $/ms;
		return found($offered =~ tr/\r//dr, '(\S+)\s*');
	};

	is($offers->('SELECT * FROM cmq.'), $completions, 'relations of cmq');
	is(() = $offers->('SELECT * FROM ') =~ /^cmq/mg, 2, 'two schemas at first');
	is($offers->('ALTER TABLE cmq.'), found($node->sql("SELECT 'cmq.' || relname FROM $in_cmq AND relkind = 'r'"), '(.+)'), 'no tables but those of the extension');
	$in = "\\q\n";
	$run->finish;
}

$node->stop;
done_testing();
