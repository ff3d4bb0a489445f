# examples/pgmq.sql, pgmq_move.sql and pgmq_back.sql: what they refuse, many clients at once,
# readers that compete, notifications, dumps, and pgmq's tables taken along and back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use IPC::Run ();
use PostgreSQL::Test::Utils qw(append_to_file);
use Test::More;

my $node = CmqNode->running('pgmq', "max_connections = 40\ncmq.maintenance_interval = 1min");

# Exit status and complaints of an example.
sub example
{
	my ($file, $db, %variable) = @_;
	local @ENV{qw(PGHOST PGPORT)} = ($node->host, $node->port);
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-XAt', '-d', $db, '-f', "$top/examples/$file", map { ('-v', "$_=$variable{$_}") } sort keys %variable ],
		'<', \'', '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

sub installs
{
	my ($name, @args) = @_;
	my ($status, $out, $err) = example(@args);
	is($status, 0, "$name: status");
	is($err, '', "$name: no complaint");
	return $out;
}

# The example fails, says why and how to go on, and leaves nothing.
sub refused
{
	my ($name, $complaint, @args) = @_;
	my ($status, $out, $err) = example(@args);
	is($status, 3, "$name: status");
	like($err, qr/ERROR:  $complaint/, "$name: complaint");
	return;
}

note 'what is refused';

$node->sql('CREATE DATABASE plain');
refused('no cmq', qr/this database does not have the extension cmq\nHINT:/, 'pgmq.sql', 'plain');
refused('no pgmq', qr/this database does not have pgmq\nHINT:/, 'pgmq_move.sql', 'plain');
refused('nothing to go back from', qr/this database does not have the schema pgmq of/, 'pgmq_back.sql', 'plain');
$node->sql("INSERT INTO pg_extension VALUES (99999, 'pgmq', 10, 'public'::regnamespace, false, '1.11.0')");
refused('extension pgmq', qr/this database has the extension pgmq\nHINT:/, 'pgmq.sql', 'postgres');
$node->sql('DELETE FROM pg_extension WHERE oid = 99999');
$node->sql('GRANT CREATE ON SCHEMA public TO PUBLIC');
refused('open schema', qr/everybody may create functions in schema "public".*\nHINT:/, 'pgmq.sql', 'postgres');
$node->sql('REVOKE CREATE ON SCHEMA public FROM PUBLIC');
$node->sql('CREATE ROLE maker LOGIN; GRANT CREATE ON SCHEMA public TO maker');
my (undef, undef, $warning) = example('pgmq.sql', 'postgres');
like($warning, qr/WARNING:  maker may create functions in schema "public"/, 'a role that could take calls: a warning');
$node->sql('DROP SCHEMA pgmq CASCADE; SELECT cmq_drop_topic(\'pgmq\'); REVOKE CREATE ON SCHEMA public FROM maker');
foreach my $variable ([ retention => 59 ], [ retention => 1296001 ], [ retention => 'x' ], [ rewind => 1296001 ], [ rewind => -1 ], [ retention => '99999999999' ])
{
	refused("@$variable", qr/retention must be between 60 and 1296000/, 'pgmq.sql', 'postgres', @$variable);
}
is($node->sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'pgmq'"), '0', 'nothing was left');
is($node->sql('SELECT count(*) FROM cmq.topics'), '0', 'nor a topic');
installs('install', 'pgmq.sql', 'postgres', retention => 86400, rewind => 3600);
refused('twice', qr/schema pgmq exists already\nHINT:/, 'pgmq.sql', 'postgres');
refused('a move of this one', qr/this database does not have pgmq\nHINT:/, 'pgmq_move.sql', 'postgres');
is($node->sql("SELECT pgmq.create('settings'); SELECT msg_retention_seconds, rewind_seconds FROM cmq.queues WHERE queue = 'settings'"),
	"\n86400|3600", 'the settings are those that were asked for');
$node->sql('DROP SCHEMA pgmq CASCADE');
installs('again', 'pgmq.sql', 'postgres');
is($node->sql("SELECT pgmq.create('settings'); SELECT count(*) FROM pgmq.q_settings; SELECT pgmq.drop_queue('settings')"),
	"\n0\nt", 'a queue from before is taken up');

note 'cmq in another schema';

$node->sql('CREATE DATABASE elsewhere');
$node->sql('CREATE SCHEMA "Queues"; CREATE EXTENSION cmq SCHEMA "Queues"', 'elsewhere');
installs('elsewhere', 'pgmq.sql', 'elsewhere');
is($node->sql(q{
	SELECT pgmq.create('e');
	SELECT pgmq.bind_topic('a.#', 'e');
	SELECT pgmq.send_topic('a.b', '1');
	SELECT pgmq.send('e', '2', 0) > 0;
	SELECT count(*) FROM pgmq.send_batch('e', '{3,4}'::jsonb[]);
	SELECT message, (SELECT count(*) FROM pgmq.set_vt('e', msg_id, 60)), pgmq.archive('e', msg_id) FROM pgmq.read('e', 60, 2);
	SELECT message FROM pgmq.pop('e', 2);
	SELECT count(*) FROM pgmq.a_e;
	SELECT queue_name FROM pgmq.list_queues();
	SELECT pgmq.drop_queue('e')}, 'elsewhere'),
	"\n\n1\nt\n2\n1|1|t\n2|1|t\n3\n4\n4\ne\nt", 'all goes there');

note 'code of others';

# what an owner of queues puts into their views, or a role into schema public, runs as whoever
# reads them: it would say so in caught
$node->sql('CREATE DATABASE hostile');
$node->sql(q{
	CREATE EXTENSION cmq;
	CREATE TABLE caught (as_whom text);
	GRANT INSERT ON caught TO PUBLIC;
	CREATE FUNCTION trap() RETURNS timestamptz LANGUAGE sql AS 'INSERT INTO public.caught VALUES (current_user); SELECT now()';
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO maker}, 'hostile');
installs('with other owners', 'pgmq.sql', 'hostile');
$node->sql(q{
	SELECT pgmq.create('good');
	SELECT pgmq.send('good', '1');
	GRANT USAGE ON SCHEMA pgmq TO maker;
	SET SESSION AUTHORIZATION maker;
	SELECT FROM cmq_create_queue('bait');
	SELECT cmq_send('bait', '1');
	SELECT string_agg(CASE attname WHEN 'enqueued_at' THEN 'trap()' ELSE 'NULL::' || format_type(atttypid, atttypmod) END || ' AS ' || attname, ', ' ORDER BY attnum) AS columns
	  FROM pg_attribute WHERE attrelid = 'cmq.q_bait_live'::regclass AND attnum > 0
	\gset
	CREATE OR REPLACE VIEW cmq.q_bait_live AS SELECT :columns}, 'hostile');
is($node->sql('SELECT queue_name, queue_length, newest_msg_age_sec < 600, oldest_msg_age_sec < 600 FROM pgmq.metrics_all() ORDER BY 1', 'hostile'), "bait|1|t|t\ngood|1|t|t", 'metrics of all queues');
is($node->sql("SELECT message FROM pgmq.read('bait', 600, 1, '1')", 'hostile'), '1', 'a conditional read');
is($node->sql('SELECT count(*) FROM caught', 'hostile'), '0', 'run no code of the owner');
my $other = $node->basedir . '/other.sql';
append_to_file($other, 'CREATE SCHEMA pgmq; CREATE FUNCTION pgmq.create(text) RETURNS void LANGUAGE sql AS \'\'; CREATE FUNCTION pgmq.metrics_all(OUT queue_name text, OUT queue_length bigint) LANGUAGE sql AS $$SELECT NULL, 0::bigint$$;');
$node->sql(q{GRANT CREATE ON SCHEMA pgmq TO maker; SET SESSION AUTHORIZATION maker; SELECT pgmq.create('bait')}, 'hostile');
refused('a queue of another owner', qr/queue "bait" belongs to maker\nDETAIL:.*\nHINT:/, 'pgmq_back.sql', 'hostile', pgmq => $other);
$node->sql(q{DROP VIEW pgmq.q_bait, pgmq.a_bait; CREATE SCHEMA pgmq_old; GRANT CREATE ON SCHEMA pgmq_old TO maker; SET SESSION AUTHORIZATION maker;
	CREATE VIEW pgmq_old.a_good AS SELECT 1 AS msg_id, trap() AS archived_at}, 'hostile');
refused('an archive of another owner', qr/view pgmq_old\.a_good belongs to maker\n/, 'pgmq_back.sql', 'hostile', pgmq => $other);
$node->sql(q{DROP SCHEMA pgmq_old CASCADE; CREATE TABLE kept (failed pgmq.message_record); CREATE VIEW backlog AS SELECT count(*) FROM pgmq.q_good;
	CREATE FUNCTION pgmq.noticed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
	CREATE TRIGGER noticed AFTER INSERT ON kept FOR EACH ROW EXECUTE FUNCTION pgmq.noticed();
	CREATE FUNCTION pgmq.to_text(integer) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
	CREATE OPERATOR !== (FUNCTION = pgmq.to_text, RIGHTARG = integer)}, 'hostile');
refused('things that would be lost', qr/other schemas have things that depend on schema pgmq\nDETAIL:  column failed of table public\.kept, operator public\.!==\(NONE,integer\), rule _RETURN on view public\.backlog, trigger noticed on table public\.kept\n/,
	'pgmq_back.sql', 'hostile', pgmq => $other);
$node->sql(q{DROP OPERATOR !==(NONE, integer); DROP TABLE kept; DROP VIEW backlog; DROP SCHEMA pgmq CASCADE; GRANT CREATE ON SCHEMA public TO maker;
	CREATE SCHEMA pgmq;
	CREATE TABLE pgmq.meta (queue_name varchar UNIQUE NOT NULL, is_partitioned boolean, is_unlogged boolean, created_at timestamptz);
	CREATE TABLE pgmq.q_own (msg_id bigint, vt timestamptz, message jsonb);
	INSERT INTO pgmq.meta VALUES ('own', false, false, now());
	CREATE VIEW backlog AS SELECT count(*) FROM pgmq.q_own;
	GRANT USAGE, CREATE ON SCHEMA pgmq TO maker;
	GRANT ALL ON pgmq.meta TO maker;
	SET SESSION AUTHORIZATION maker;
	CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT trap(); SELECT pg_catalog.lower($1::text)';
	CREATE VIEW pgmq.q_evil AS SELECT 1 AS msg_id, trap() AS vt, '1'::jsonb AS message;
	INSERT INTO pgmq.meta VALUES ('evil', false, false, now())}, 'hostile');
refused('a table of another owner', qr/table pgmq\.q_evil belongs to maker\nDETAIL:.*\nHINT:/, 'pgmq_move.sql', 'hostile');
refused('that is no table', qr/pgmq\.q_evil is no table\n/, 'pgmq_move.sql', 'hostile', trust => 'nobody,maker');
$node->sql(q{DROP VIEW pgmq.q_evil; DELETE FROM pgmq.meta WHERE queue_name = 'evil'}, 'hostile');
refused('a view that would be lost', qr/other schemas have things that depend on schema pgmq\nDETAIL:  rule _RETURN on view public\.backlog\n/, 'pgmq_move.sql', 'hostile');
$node->sql('DROP VIEW backlog; ALTER TABLE pgmq.q_own OWNER TO maker', 'hostile');
is((example('pgmq_move.sql', 'hostile', trust => 'maker'))[0], 0, 'a table of a role that is trusted');
is($node->sql('SELECT count(*) FROM caught', 'hostile'), '0', 'none of it has run');

note 'readers that compete';

$node->sql("SELECT pgmq.create('r'); SELECT pgmq.send_batch('r', array(SELECT to_jsonb(i) FROM generate_series(1, 6) i))");
my ($one, $two) = ($node->session, $node->session);
my $read = "SELECT message FROM pgmq.read('r', 600, 1)";
my $id = sub { "(SELECT msg_id FROM pgmq.q_r WHERE message = '$_[0]')" };
$one->query_safe('BEGIN');
is($one->query_safe($read), '1', 'one reads the first message');
is($two->query_safe($read), '2', 'two does not wait, and reads the second');
$one->query_safe('ROLLBACK');
is($two->query_safe($read), '1', 'what was rolled back can be read');
# by whichever session
is($one->query_safe("SELECT pgmq.archive('r', " . $id->(2) . ')'), 't', 'one archives what two has read');
is($two->query_safe("SELECT pgmq.delete('r', array(SELECT msg_id FROM cmq.q_r_all WHERE body = '2'))"), '', 'two has nothing to delete any more');
# as in pgmq, the id is good although somebody else has the message by now
is($one->query_safe("SELECT message FROM pgmq.set_vt('r', " . $id->(1) . ', 0)'), '1', 'the message is visible again');
$two->query_safe('BEGIN');
is($two->query_safe("SELECT message FROM pgmq.read('r', 600, 1, '1')"), '1', 'two reads it again');
my $delete = $node->start_psql("SELECT pgmq.delete('r', " . $id->(1) . ')');
$node->wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%pgmq.delete%' AND pid <> pg_backend_pid()");
$two->query_safe('COMMIT');
is($delete->finish, "t\n", 'a delete waits for it, and deletes what two has');
is($two->query_safe("SELECT pgmq.delete('r', (SELECT msg_id FROM cmq.q_r_all WHERE body = '1'))"), 'f', 'so two cannot');
# one that nobody had read is not waited for
$one->query_safe('BEGIN');
is($one->query_safe($read), '3', 'one reads the third');
is($two->query_safe("SELECT pgmq.delete('r', " . $id->(3) . ')'), 'f', 'a delete of a message that is just being read does not wait');
is($two->query_safe("SELECT message FROM pgmq.read('r', 600, 2, '3')"), '', 'nor does a conditional read');
is($two->query_safe("SELECT message FROM pgmq.read('r', 600, 2, '5')"), '5', 'which finds others');
is($two->query_safe("SELECT count(*) FROM pgmq.set_vt('r', " . $id->(3) . ', 10)'), '0', 'nor a set_vt');
$one->query_safe('COMMIT');
is($two->query_safe("SELECT pgmq.delete('r', " . $id->(3) . ')'), 't', 'afterwards it can be deleted');

note 'a read that waits';

is($two->query_safe('SELECT message FROM pgmq.pop(\'r\', 10)'), "4\n6", 'the queue is empty');
my $poll = $node->start_psql("SELECT message FROM pgmq.read_with_poll('r', 600, 1, 600, 100000)");
$node->wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%read_with_poll%'");
$node->sql("SELECT pgmq.send('r', '7')");
is($poll->finish, "7\n", 'is woken');
my $conditional = $node->start_psql("SELECT message FROM pgmq.read_with_poll('r', 600, 1, 600, 10, '8')");
$node->sql("SELECT pgmq.send('r', '0'); SELECT pgmq.send('r', '8')");
is($conditional->finish, "8\n", 'also by a condition');

note 'two that create the same queue';

$one->query_safe("BEGIN; SELECT pgmq.create('both')");
my $create = $node->start_psql("SELECT pgmq.create('Both')");
$node->wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE '%pgmq.create%'");
$one->query_safe('COMMIT');
$create->succeeds('the second finds it');
is($node->sql('SELECT queue_name FROM pgmq.list_queues()'), "both\nr", 'there is one');
$one->query_safe("BEGIN; SELECT pgmq.bind_topic('a', 'both')");
my $bind = $node->start_psql("SELECT pgmq.bind_topic('b', 'both')");
$node->wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%pgmq.bind_topic%'");
$one->query_safe('COMMIT');
$bind->succeeds('two that bind it');
is($node->sql("SELECT pattern FROM pgmq.list_topic_bindings('both')"), "a\nb", 'no binding is lost');

note 'notifications';

my $listen = sub { $node->answer(join(";\n", q(LISTEN "pgmq.q_both.INSERT"), @_, 'SELECT 1')) =~ s/ from server process with PID \d+//gr };
my $notified = qr/Asynchronous notification "pgmq.q_both.INSERT" received/;
my $send = q(SELECT pgmq.send('both', '1') > 0);
unlike($listen->($send), $notified, 'none without being asked for');
$node->sql("SELECT pgmq.enable_notify_insert('both', 0)");
like($listen->($send), $notified, 'of a send');
like($listen->("SELECT count(*) FROM pgmq.send_batch('both', '{1,2}'::jsonb[])"), $notified, 'of a batch');
like($listen->("SELECT pgmq.send_topic('a', '1')"), $notified, 'of a topic');
unlike($listen->("BEGIN", $send, "ROLLBACK"), $notified, 'of nothing that was rolled back');
$node->sql("SELECT pgmq.update_notify_insert('both', 3600000)");
like($listen->($send), $notified, 'of the first one when throttled');
unlike($listen->($send), $notified, 'and no more for a while');
$one->query_safe("SELECT pgmq.update_notify_insert('both', 1); BEGIN; $send");
is($two->query_safe($send), 't', 'a sender does not wait for another one');
$one->query_safe('COMMIT');
$node->sql("SELECT pgmq.disable_notify_insert('both')");
unlike($listen->($send), $notified, 'none any more');
$_->quit foreach $one, $two;

note 'many clients';

# Each message is sent, read, hidden for longer, shown again, and deleted, archived or popped
# by whoever comes, in sessions that live for one transaction or for many.  ended has each
# message once, or an insert fails.
$node->sql(q(
	CREATE TABLE sent (msg_id bigint PRIMARY KEY);
	CREATE TABLE ended (msg_id bigint PRIMARY KEY, how text);
	SELECT pgmq.create('load');
	CREATE FUNCTION some_ids(n int) RETURNS bigint[] LANGUAGE sql
	AS $$SELECT array(SELECT msg_id FROM pgmq.q_load ORDER BY random() LIMIT n)$$));
my %script = (
	'send@4' => q(
\set n random(1, 4)
\set end random(1, 5)
BEGIN;
INSERT INTO sent SELECT pgmq.send_batch('load', array(SELECT to_jsonb(i) FROM generate_series(1, :n) i));
INSERT INTO sent SELECT pgmq.send('load', '{"k": 1}', '{"h": 1}', 0);
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
),
	# as clients do: read, and name what was read in the next transaction
	'work@6' => q(
\set n random(1, 4)
\set end random(1, 8)
SELECT coalesce(string_agg(msg_id::text, ',' ORDER BY msg_id), '') AS ids, coalesce(min(msg_id), 0) AS id FROM pgmq.read('load', 600, :n)
\gset
BEGIN;
INSERT INTO ended SELECT m, 'archived' FROM unnest(string_to_array(':ids', ',')::bigint[]) m WHERE m <> :id AND pgmq.archive('load', m);
INSERT INTO ended SELECT d, 'deleted' FROM pgmq.delete('load', ARRAY[:id, 0]) d;
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
),
	'pop@1' => q(INSERT INTO ended SELECT msg_id, 'popped' FROM pgmq.pop('load', 2);),
	'condition@1' => q(INSERT INTO ended SELECT msg_id, 'by condition' FROM pgmq.read('load', 600, 2, '{"k": 1}') WHERE pgmq.archive('load', msg_id);),
	# what others have, or nobody has
	'foreign@2' => q(INSERT INTO ended SELECT d, 'foreign' FROM pgmq.delete('load', some_ids(2)) d;),
	'show@3' => q(SELECT count(*) FROM pgmq.set_vt('load', some_ids(3), 0);),
	'hide@1' => q(SELECT count(*) FROM pgmq.set_vt('load', some_ids(1), 1);));
my @options = ('-M', 'simple', '-c', 4, '-t', 200);
my $long = $node->start_pgbench(@options, $node->scripts(%script));
my $short = $node->start_pgbench(@options, '-C', $node->scripts(%script));
foreach ($long, $short)
{
	$_->succeeds('clients end well');
	like($_->{out}, qr/number of failed transactions: 0 /, 'no transaction has failed');
	unlike($_->{err}, qr/ERROR|aborted/, 'without an error');
}
my $all = $node->sql('SELECT count(*) FROM sent');
cmp_ok($all, '>', 100, "$all messages were sent");
foreach my $how ('archived', 'deleted', 'popped', 'by condition', 'foreign')
{
	cmp_ok($node->sql("SELECT count(*) FROM ended WHERE how = '$how'"), '>', 0, "some were $how");
}
$node->sql("INSERT INTO ended SELECT d, 'rest' FROM pgmq.archive('load', array(SELECT msg_id FROM pgmq.q_load)) d");
my $differences = "SELECT count(*) FROM sent FULL JOIN ended USING (msg_id) FULL JOIN pgmq.a_load a USING (msg_id) WHERE sent IS NULL OR ended IS NULL OR a IS NULL";
is($node->sql($differences), '0', 'each was ended once, and is in the archive');
is($node->sql('SELECT count(*) FROM pgmq.q_load'), '0', 'nothing is left');

# rewind from the first day
is($node->sql(qq(
	DELETE FROM ended;
	SELECT cmq_rewind('load', now() - interval '1 hour') IS NOT NULL;
	SELECT count(*) FROM pgmq.q_load;
	SELECT count(*) FROM pgmq.a_load)), "t\n$all\n0", 'a rewind brings back all');
delete @script{qw(send@4)};
$node->start_pgbench(@options, '-C', $node->scripts(%script))->succeeds('clients read again');
$node->sql("INSERT INTO ended SELECT d, 'rest' FROM pgmq.archive('load', array(SELECT msg_id FROM pgmq.q_load)) d");
is($node->sql($differences), '0', 'and each is ended once more');

note 'dump and restore';

$node->sql("SELECT pgmq.send('load', '{\"dumped\": true}'); SELECT pgmq.send('load', '{\"dumped\": 2}', 0) FROM pgmq.read('load', 3000, 1)");
$node->sql('CREATE DATABASE restored');
my $dump = $node->basedir . '/dump.sql';
my $connection = ['-h', $node->host, '-p', $node->port];
ok(IPC::Run::run([ 'pg_dump', @$connection, '-f', $dump, 'postgres' ]), 'dump');
ok(IPC::Run::run([ 'psql', @$connection, '-XqAt', '-v', 'ON_ERROR_STOP=1', '-1', '-f', $dump, 'restored' ], '>', \my $restore), 'restore');
is($node->sql(q{
	SELECT message, read_ct FROM pgmq.q_load ORDER BY msg_id;
	SELECT pgmq.archive('load', msg_id) FROM pgmq.q_load WHERE read_ct = 1;
	SELECT message FROM pgmq.read('load', 60, 5);
	SELECT pattern FROM pgmq.list_topic_bindings('both');
	SELECT queue_name FROM pgmq.list_queues()}, 'restored'),
	qq({"dumped": true}|1\n{"dumped": 2}|0\nt\n{"dumped": 2}\na\nb\nboth\nload\nr), 'all is there, and works');

note 'a move from pgmq';

# Tables as pgmq has them, of this and of an older version.
$node->sql('CREATE DATABASE moved');
$node->sql(q{
	CREATE EXTENSION cmq;
	CREATE SCHEMA pgmq;
	CREATE TABLE pgmq.meta (queue_name varchar UNIQUE NOT NULL, is_partitioned boolean NOT NULL, is_unlogged boolean NOT NULL, created_at timestamptz DEFAULT now() NOT NULL);
	CREATE TABLE pgmq.topic_bindings (pattern text, queue_name text, bound_at timestamptz DEFAULT now(), compiled_regex text);
	CREATE TABLE pgmq.q_neworders (msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, read_ct int DEFAULT 0 NOT NULL, enqueued_at timestamptz DEFAULT now() NOT NULL,
		last_read_at timestamptz, vt timestamptz NOT NULL, message jsonb, headers jsonb);
	CREATE TABLE pgmq.a_neworders (LIKE pgmq.q_neworders, archived_at timestamptz DEFAULT now() NOT NULL);
	CREATE TABLE pgmq.q_old (msg_id bigint PRIMARY KEY, read_ct int, enqueued_at timestamptz, vt timestamptz NOT NULL, message jsonb);
	CREATE TABLE pgmq.a_old (LIKE pgmq.q_old, archived_at timestamptz);
	INSERT INTO pgmq.meta VALUES ('NewOrders', false, false), ('old', false, true);
	INSERT INTO pgmq.q_neworders (vt, message, headers) VALUES (now(), '{"n": 1}', '{"h": 1}'), (now() + interval '1 hour', '{"n": 2}', NULL), (now() - interval '20 days', '{"n": 3}', NULL),
		(now() + interval '1 year', '{"n": 4}', NULL), (now(), NULL, NULL);
	INSERT INTO pgmq.a_neworders (msg_id, read_ct, enqueued_at, vt, message) VALUES (0, 1, now(), now(), '{"n": 0}');
	INSERT INTO pgmq.q_old VALUES (7, 3, now(), now(), '{"old": 7}'), (5, 3, now(), now(), '{"old": 5}');
	-- and as pg_partman has them
	CREATE SCHEMA "Partman";
	CREATE TABLE "Partman".part_config (parent_table text);
	INSERT INTO "Partman".part_config VALUES ('pgmq.q_neworders'), ('pgmq.a_neworders'), ('public.other');
	INSERT INTO pg_extension VALUES (99998, 'pg_partman', 10, '"Partman"'::regnamespace, false, '5.1.0');
	INSERT INTO pgmq.topic_bindings VALUES ('orders.#', 'NewOrders'), ('ord*', 'old'), ('a.b', 'old');
	CREATE FUNCTION pgmq.send(text, text) RETURNS int LANGUAGE sql AS 'SELECT 1'}, 'moved');
$node->sql("INSERT INTO pgmq.meta VALUES ('not.possible', false, false)", 'moved');
refused('a name that cmq cannot have', qr/not a name of a queue: "not\.possible"/, 'pgmq_move.sql', 'moved');
is($node->sql("SELECT count(*) FROM pgmq.q_neworders; SELECT pgmq.send('', ''); SELECT to_regnamespace('pgmq_old'); SELECT count(*) FROM cmq.queues", 'moved'),
	"5\n1\n\n0", 'pgmq is as before');
$node->sql("DELETE FROM pgmq.meta WHERE queue_name = 'not.possible'", 'moved');
my ($status, $out, $err) = example('pgmq_move.sql', 'moved');
is($status, 0, 'moved');
is($out, "NewOrders|5\nold|2\n", 'it says what it has moved');
like($err, qr/^[^\n]*WARNING:  queue "NewOrders" has 1 messages that become visible at [^\n]*\n[^\n]*WARNING:  queue "old" is not bound to ord\*: [^\n]*\n\z/, 'and what not');
is($node->sql('SELECT parent_table FROM "Partman".part_config', 'moved'), 'public.other', 'pg_partman looks for them no more');
is($node->sql(q{
	SELECT message, headers, read_ct, vt > now() AS hidden FROM pgmq.q_neworders ORDER BY msg_id;
	SELECT message FROM pgmq.read('old', 60, 10);
	SELECT pattern, queue_name FROM pgmq.list_topic_bindings();
	SELECT count(*) FROM pgmq_old.a_neworders}, 'moved'),
	qq({"n": 1}|{"h": 1}|0|f\n{"n": 2}||0|t\n{"n": 3}||0|f\n{"n": 4}||0|t\nnull||0|f\n{"old": 5}\n{"old": 7}\na.b|old\norders.#|neworders\n1), 'messages in their order, states, bindings and archives');

note 'and back';

# What pgmq makes of a queue, with and without the columns that are there since 1.5 and 1.10.
my $standin = $node->basedir . '/pgmq.sql';
append_to_file($standin, <<'SQL');
CREATE SCHEMA pgmq;
CREATE TABLE pgmq.meta (queue_name text);
CREATE TABLE pgmq.bound (pattern text, queue_name text);
CREATE FUNCTION pgmq.create(queue_name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE pgmq.%I (msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, read_ct int NOT NULL, enqueued_at timestamptz NOT NULL, vt timestamptz NOT NULL, message jsonb %s)',
		'q_' || lower(queue_name), CASE queue_name WHEN 'old' THEN '' ELSE ', headers jsonb, last_read_at timestamptz' END);
	EXECUTE format('CREATE TABLE pgmq.%I (LIKE pgmq.%I, archived_at timestamptz NOT NULL, PRIMARY KEY (msg_id))', 'a_' || lower(queue_name), 'q_' || lower(queue_name));
	INSERT INTO pgmq.meta VALUES (queue_name);
END $$;
CREATE FUNCTION pgmq.bind_topic(pattern text, queue_name text) RETURNS void LANGUAGE sql AS 'INSERT INTO pgmq.bound VALUES ($1, $2)';
CREATE FUNCTION pgmq.metrics_all() RETURNS TABLE (queue_name text, queue_length bigint) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT 'NewOrders', count(*) FROM pgmq.q_neworders UNION ALL SELECT 'old', count(*) FROM pgmq.q_old;
END $$;
SQL
$node->sql(q{SELECT FROM cmq_create_queue('own'); SELECT pgmq.archive('neworders', msg_id) FROM pgmq.read('neworders', 600, 1); SELECT pgmq.archive('old', msg_id) FROM pgmq.q_old WHERE message = '{"old": 5}';
	CREATE TABLE before AS SELECT msg_id, enqueued_at, read_ct, vt, message FROM pgmq.q_neworders}, 'moved');
append_to_file($node->basedir . '/broken.sql', 'SELECT 1/0;');
refused('a script that fails', qr/division by zero/, 'pgmq_back.sql', 'moved', pgmq => $node->basedir . '/broken.sql');
is($node->sql("SELECT count(*) FROM pgmq.q_neworders; SELECT to_regnamespace('pgmq_back')", 'moved'), "4\n", 'all is as before');
is(installs('back', 'pgmq_back.sql', 'moved', pgmq => $standin), "NewOrders|4\nold|1\n", 'it says what it has taken back');
is($node->sql(q{
	SELECT count(*) FROM pgmq.q_neworders JOIN before USING (msg_id, enqueued_at, read_ct, vt, message);
	SELECT message, headers, read_ct FROM pgmq.a_neworders ORDER BY msg_id;
	SELECT message FROM pgmq.q_old UNION ALL SELECT message FROM pgmq.a_old;
	SELECT * FROM pgmq.bound ORDER BY 1;
	INSERT INTO pgmq.q_neworders (read_ct, enqueued_at, vt) VALUES (0, now(), now()) RETURNING msg_id > (SELECT max(msg_id) FROM cmq.q_neworders_all);
	SELECT to_regnamespace('pgmq_back')}, 'moved'),
	qq(4\n{"n": 0}||1\n{"n": 1}|{"h": 1}|1\n{"old": 7}\n{"old": 5}\na.b|old\norders.#|NewOrders\nt\n), 'what waited, both archives, bindings; and ids go on');

done_testing();
