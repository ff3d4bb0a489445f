# What docs/reports.md tells of pandas and R: its blocks of Python and R are run, as a role that
# reads one queue and as one that reads all.  What they read has the right values and types,
# and they leave the server as the page says.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Clients;
use CmqNode;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->running('reports', 'cmq.maintenance_interval = 1min');
my $page = slurp_file("$top/docs/reports.md");

# A queue with 15 partitions in which three messages were consumed and one waits, and a ledger
# that lacks the second.  The third is from a second that ends with zeros, an id that R writes
# in short.
$node->sql(qq{\\i $top/test/helpers.sql
	SELECT FROM cmq_create_queue('orders', msg_retention_seconds => 1296000, rewind_seconds => 1296000);
	SELECT FROM cmq_create_queue('others');
	DO \$\$
	DECLARE
		first timestamptz := (SELECT min(lower) FROM cmq.partition WHERE queue = 'orders');
	BEGIN
		FOR day IN 1 .. 14 LOOP
			PERFORM pg_temp.add_leaf('orders', first - day * interval '1 day', first - (day - 1) * interval '1 day');
		END LOOP;
	END \$\$;
	SELECT FROM cmq_send_batch('orders', ARRAY['{"amount": 1.5}', '{"amount": 2}', '{"amount": 3}'], headers => ARRAY['{"shop": "north"}', '{"shop": "north"}', NULL]::jsonb[]);
	CREATE TABLE ledger (msg_id bigint PRIMARY KEY);
	SELECT FROM cmq_consume('orders', 3);
	SELECT pg_temp.age('orders', '4 hours');
	CREATE TEMP TABLE moved AS
	SELECT enqueued_at AS old, date_trunc('hour', now()) - interval '90 min'
		   + CASE row_number() OVER (ORDER BY enqueued_at) WHEN 1 THEN interval '1.000001 s' WHEN 2 THEN interval '1.000002 s' ELSE interval '1 min' END AS new
	  FROM cmq_data.q_orders;
	UPDATE cmq_data.q_orders SET enqueued_at = new FROM moved WHERE enqueued_at = old;
	UPDATE cmq_data.q_orders_rewind SET enqueued_at = new FROM moved WHERE enqueued_at = old;
	SELECT pg_temp.reload('orders');
	INSERT INTO ledger SELECT msg_id FROM cmq.q_orders_history ORDER BY msg_id LIMIT 1;
	INSERT INTO ledger SELECT max(msg_id) FROM cmq.q_orders_history;
	SELECT FROM cmq_send('orders', '{"amount": 4}');
	CREATE ROLE reports LOGIN; CREATE ROLE reporting LOGIN;
	-- where pandas makes objects of times, were it not for what the page says
	ALTER ROLE reports SET timezone TO 'Europe/Berlin'; ALTER ROLE reporting SET timezone TO 'America/New_York';
	GRANT SELECT ON ledger TO reports});
my @ids = split /\n/, $node->sql('SELECT msg_id FROM cmq.q_orders_history ORDER BY msg_id');
like($ids[2], qr/^\d{10}000000$/, 'the third id is a whole second');

# The GRANTs of the page.
my ($one) = $page =~ /^```sql\n(GRANT USAGE ON SCHEMA cmq TO reports;.*?)^```/ms or die;
my ($all) = $page =~ /^(GRANT pg_read_all_data TO reporting;)/m or die;
$node->sql($_) foreach $one, $all;

local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
local $ENV{HOME} = $node->basedir;
# where summer time ends, and midnight is not that of UTC
local $ENV{TZ} = 'America/New_York';

# The blocks of a language, with the times of the page moved to this queue.
my ($since, $until) = map { $node->sql(qq{SELECT to_char((date_trunc('hour', min(enqueued_at)) + interval '$_ hours') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI+00') FROM cmq.q_orders_history}) } 0, 3;
sub blocks
{
	my ($language) = @_;
	my @blocks = $page =~ /^```$language\n(.*?)^```/msg;
	s/2026-11-21 09:00\+00/$since/g, s/2026-11-21 11:00\+00/$until/g foreach @blocks;
	return @blocks;
}

# Run a program as a role: its output; it must end well.
sub output
{
	my ($name, $role, $program, @command) = @_;
	my ($out, $err) = ('', '');
	my $file = $node->basedir . '/program';
	unlink $file;
	append_to_file($file, $program);
	local $ENV{PGUSER} = $role;
	ok(IPC::Run::run([ @command, $file ], '<', \'', '>', \$out, '2>', \$err), $name) or diag($out . $err);
	return ($out =~ s/\s+\z//r, $err);
}

# What a session of work() sees of the reader: does it hold up VACUUM and drops of partitions?
my $holds = q{SELECT count(*) FILTER (WHERE backend_xmin IS NOT NULL) > 0 FROM pg_stat_activity WHERE usename = 'ROLE' AND pid <> pg_backend_pid()};
my $shown = join ' ', map { my $i = $_; $node->sql("SELECT to_char(enqueued_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') FROM cmq.q_orders_history WHERE msg_id = $ids[$i]") } 0 .. 2;

SKIP:
{
	my @python = python('pandas', 'sqlalchemy', 'psycopg2');
	skip 'pandas, SQLAlchemy and psycopg2 are not on this machine', 1 unless @python;
	my ($report, $hours, $cursor) = blocks('python');

	foreach my $role ('reports', 'reporting')
	{
		my $program = <<'PY' . $report . <<'PY' . $hours . <<'PY' . $cursor . <<'PY';
parts = []
def work(part):
    import psycopg2
    with psycopg2.connect("") as other, other.cursor() as c:
        c.execute("HOLDS")
        parts.append((len(part), c.fetchone()[0]))
PY
# pandas 3 has microseconds, as PostgreSQL has
print(orders.dtypes["msg_id"], str(orders.dtypes["enqueued_at"]).replace("[us", "[ns"), orders.dtypes["booked"], orders.dtypes["amount"])
print(*orders["msg_id"])
print(*orders["enqueued_at"].dt.strftime("%Y-%m-%dT%H:%M:%S.%f"))
print(list(orders["headers"]))
print(*missing["msg_id"])
print(per_minute[per_minute["count"] > 0].values.tolist())
PY
print(sum(n for n, held in parts), any(held for n, held in parts))
parts = []
PY
print(sum(n for n, held in parts), all(held for n, held in parts))
parts = []
with engine.connect().execution_options(stream_results=True, isolation_level="REPEATABLE READ") as connection:
    for part in pandas.read_sql_query(sqlalchemy.text("SELECT msg_id FROM cmq.q_orders_all"), connection, chunksize=2):
        work(part)
print(parts)
# without what the page says
with engine.connect() as connection:
    print(pandas.read_sql_query(sqlalchemy.text("SELECT h.msg_id, l.msg_id AS booked FROM cmq.q_orders_history h LEFT JOIN ledger l ON l.msg_id = h.msg_id"), connection).dtypes["booked"])
with sqlalchemy.create_engine("postgresql+psycopg2://").connect() as connection:
    print(pandas.read_sql_query(sqlalchemy.text("SELECT x FROM (VALUES (timestamptz '2026-07-01 12:00+00'), ('2026-12-01 12:00+00')) v(x)"), connection).dtypes["x"])
PY
		my ($out) = output("pandas as $role", $role, $program =~ s/HOLDS/$holds =~ s{ROLE}{$role}r/er, @python);
		is($out, join("\n", 'int64 datetime64[ns, UTC] Int64 float64', "@ids", $shown,
				q([{'shop': 'north'}, {'shop': 'north'}, None]), $ids[1], '[[2.0, 3.5], [1.0, 3.0]]',
				'4 False', '4 True', '[(2, True), (2, True)]', 'float64', 'object'),
			"pandas as $role: values, types, and what is held");
	}
}

SKIP:
{
	my $rscript = find_command('Rscript');
	skip 'R, DBI and RPostgreSQL are not on this machine', 1 unless $rscript && run_log([ $rscript, '-e', 'library(DBI); library(RPostgreSQL)' ]);
	my ($report, $cursor) = blocks('r');

	foreach my $role ('reports', 'reporting')
	{
		my $program = <<'R' . $report . <<'R' . $cursor . <<'R';
held <- c(); rows <- 0
work <- function(part) {
  other <- dbConnect(RPostgreSQL::PostgreSQL())
  held <<- c(held, dbGetQuery(other, "HOLDS")[[1]])
  rows <<- rows + nrow(part)
  invisible(dbDisconnect(other))
}
R
cat(class(orders$msg_id), class(orders$enqueued_at)[1], class(orders$amount), "\n")
cat(orders$msg_id, "\n")
cat(sprintf("%.6f", as.numeric(orders$enqueued_at)), "\n")
cat(orders$shop, orders$amount, "\n")
cat(unique(orders$minute), "\n")
cat(per_shop$shop, per_shop$amount, "\n")
R
cat(rows, all(held), "\n")
# without what the page says
ids <- dbGetQuery(connection, "SELECT msg_id FROM cmq.q_orders_history ORDER BY msg_id")$msg_id
cat(class(ids), all(format(ids, scientific = FALSE) == orders$msg_id), as.character(ids[3]) == orders$msg_id[3], "\n")
R
		my ($out) = output("R as $role", $role, $program =~ s/HOLDS/$holds =~ s{ROLE}{$role}r/er, $rscript, '--vanilla');
		my @seconds = map { s/(\d{6})$/.$1/r } @ids;
		my $minutes = join ' ', map { $node->sql("SELECT to_char(enqueued_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM cmq.q_orders_history WHERE msg_id = $ids[$_]") } 0, 2;
		is(join("\n", grep { !/^\[1\] \d$|^<PostgreSQL/ } map { s/\s+$//r } split /\n/, $out),
			join("\n", 'character POSIXct numeric', "@ids", "@seconds", 'north north NA 1.5 2 3', $minutes, 'north 3.5', '4 TRUE', 'numeric TRUE FALSE'),
			"R as $role: values, types, and what is held");
	}
}

# The reader of one queue has the report of reconcile.sql, and not the repair.
$node->sql('ALTER TABLE ledger ADD amount numeric; UPDATE ledger SET amount = 1.5; UPDATE ledger SET amount = 3 WHERE msg_id = ' . $ids[2]);
my @reconcile = ('psql', '-XAt', '-U', 'reports', '-v', 'queue=orders', '-v', 'ledger=ledger', '-v', "from=$since", '-v', "until=$until", '-f', "$top/examples/reconcile.sql");
my ($out, $err) = ('', '');
IPC::Run::run(\@reconcile, '<', \'', '>', \$out, '2>', \$err);
like($out, qr/\n[^\n]*\|1\|2\|\{$ids[1]\}\n.*Nothing was changed/s, 'reconcile.sql: a reader has the report');
is($err, '', 'without a complaint');
($out, $err) = ('', '');
IPC::Run::run([ @reconcile, '-v', 'repair=on' ], '<', \'', '>', \$out, '2>', \$err);
like($err, qr/ERROR:  permission denied for queue "orders"/, 'and cannot repair');
is($node->sql('SELECT count(*) FROM cmq.q_orders_history'), 3, 'nothing came back');

# Which partitions are read.
my ($explain) = $page =~ /^ *(EXPLAIN [^;]*;)$/m or die;
# (A bitmap scan has two lines, of the partition and of its index.)
my %read = map { my ($which, $query) = @$_; my %named = map { $_ => 1 } $node->sql($query) =~ / on (r_orders_\d+)/g; $which => [ sort keys %named ] }
	[ some => $explain =~ s/2026-11-21 09:00\+00/$since/r ], [ all => $explain =~ s/ WHERE .* (?=GROUP)/ /r ];
cmp_ok(scalar @{ $read{all} }, '>=', 14, 'a report without a condition reads all partitions');
cmp_ok(scalar @{ $read{some} }, '<', 4, 'a condition on enqueued_at leaves few') or diag($node->sql($explain));
cmp_ok(scalar @{ $read{some} }, '>', 0, 'and not none');

# Not others' queues; the other role does.
like(($node->both(q{SET ROLE reports; SELECT count(*) FROM cmq.q_others_all}))[1], qr/permission denied/, 'the reader of one queue reads no other');
is($node->sql(q{SET ROLE reporting; SELECT count(*) FROM cmq.q_others_all}), 0, 'the reader of all does');

$node->stop;
done_testing();
