# Switching rewind off with much history, under traffic, before a crash and before a
# dump: what was deleted before is nowhere, what is pending and what is deleted later is
# where it was, and maintenance gives the space back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->running('main', 'autovacuum = off');

# Messages in the tables, rewind rows, pending rows, and whether there are leftovers.
sub tables
{
	my ($queue, $db) = @_;
	return $node->sql(qq{SELECT (SELECT count(*) FROM cmq_data.q_$queue), (SELECT count(*) FROM cmq_data.q_${queue}_rewind),
		(SELECT count(*) FROM cmq_data.q_${queue}_pending), leftovers FROM cmq.queue WHERE name = '$queue'}, $db);
}

# History as the views, the preview and the attributes tell it.
sub history
{
	my ($queue, $db) = @_;
	return $node->sql(qq{SELECT (SELECT count(*) FROM cmq.q_${queue}_history), (SELECT messages FROM cmq_rewind_preview('$queue', '-infinity')),
		(SELECT rewind_msg_num FROM cmq_queue_attributes('$queue'))}, $db);
}

# History, pending messages, and later history between each other in production order.
sub make_queue
{
	my ($queue) = @_;
	$node->sql(qq{SELECT FROM cmq_create_queue('$queue', rewind_seconds => 3600, visibility_timeout => 3600)});
	$node->sql(qq{SELECT FROM cmq_send_batch('$queue', array_fill('forgotten'::text, ARRAY[12000]))});
	$node->consume_all($queue);
	$node->sql(qq{SELECT FROM cmq_send_batch('$queue', array_fill('kept'::text, ARRAY[4000]))});
	$node->sql(qq{SELECT FROM cmq_send_batch('$queue', array_fill('forgotten'::text, ARRAY[11000]))});
	# leaves the 4000 that are in flight
	$node->sql(qq{SELECT count(*) FROM cmq_receive('$queue', 1000)}) foreach (1 .. 4);
	$node->consume_all($queue);
	return;
}

note 'off, on, and more history';
make_queue('a');
is(tables('a'), '27000|23000|4000|f', 'a queue with history and messages in flight');
$node->sql(q{SELECT cmq_alter_queue('a', rewind_seconds => 0)});
is(tables('a'), '27000|23000|4000|t', 'switched off: all rows are there');
is($node->sql(q{SELECT count(*) FROM cmq.q_a_history}), '0', '... and no history');
$node->sql(q{SELECT cmq_alter_queue('a', rewind_seconds => 3600)});
$node->sql(q{SELECT FROM cmq_send_batch('a', array_fill('new'::text, ARRAY[13000]))});
$node->consume_all('a');
is(history('a'), '13000|13000|13000', 'on again: what was deleted since is history');

note 'dump and restore';
my $file = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $file, $node->connstr('postgres') ], 'a dump');
$node->sql('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, $node->connstr('copy') ], 'a restore');
is(tables('a', 'copy'), '40000|36000|4000|t', 'the copy has what there was');
is(history('a', 'copy'), '13000|13000|13000', '... and hides the same');

note 'crash; maintenance may come at once when the server starts';
$node->crash;
is(history('a'), '13000|13000|13000', 'the same after a crash');
is($node->sql(q{SELECT min_msg_time = (SELECT min(enqueued_at) FROM cmq_data.q_a_pending) FROM cmq_queue_attributes('a')}), 't', '... and the earliest message is a pending one');

foreach my $db ('postgres', 'copy')
{
	note "maintenance in $db";
	$node->sql(q{SELECT cmq_maintain('a')}, $db);
	is(tables('a', $db), '17000|13000|4000|f', "$db: it removes that alone, more than it looks at in one go");
	is(history('a', $db), '13000|13000|13000', '... and not history');
	is($node->sql(q{SELECT count(*) FROM cmq.q_a_live WHERE body = 'kept' AND state = 'in_flight'}, $db), '4000', '... nor what is in flight');
	is($node->sql(q{SELECT cmq_restore('a', '-infinity')}, $db), '13000', '... and all history can be restored');
}

note 'the worker, with rewind off';
make_queue('w');
$node->sql(q{SELECT cmq_alter_queue('w', rewind_seconds => 0)});
$node->set('cmq.maintenance_interval', '1s');
$node->poll(q{SELECT NOT leftovers FROM cmq.queue WHERE name = 'w'}, 'the worker comes to it');
is(tables('w'), '4000|0|4000|f', '... and leaves what is pending');

note 'switched to and fro under traffic, with maintenance all the time';
$node->sql(q{SELECT FROM cmq_create_queue('t', rewind_seconds => 3600, visibility_timeout => 600); CREATE TABLE done (body text)});
my $toggle = $node->session;
my $script = $node->script('traffic', <<'SQL');
SELECT FROM cmq_send('t', :client_id || '.' || nextval('sent'));
WITH got AS (SELECT body, receipt_handle FROM cmq_receive('t', 1))
INSERT INTO done SELECT body FROM got WHERE cmq_delete('t', receipt_handle);
SQL
$node->sql('CREATE SEQUENCE sent');
my $bench = $node->start_pgbench('-c', '4', '-t', '400', '-f', $script);
my $n = 0;
while ($n < 200 && $bench->is_running)
{
	$toggle->query_safe(q{SELECT cmq_alter_queue('t', rewind_seconds => 0)});
	$toggle->query_safe(q{SELECT cmq_maintain('t')}) if $n % 2;
	$toggle->query_safe(q{SELECT cmq_alter_queue('t', rewind_seconds => 3600)});
	$toggle->query_safe(q{SELECT cmq_maintain('t')}) if $n % 3;
	$n++;
}
$toggle->quit;
$bench->succeeds('traffic ends without an error');
note "switched $n times";
# what nobody came by any more
$node->sql(q{WITH got AS (SELECT body, receipt_handle FROM cmq_receive('t', 1000)) INSERT INTO done SELECT body FROM got WHERE cmq_delete('t', receipt_handle)});
is($node->sql(q{SELECT count(*), count(DISTINCT body) FROM done}), '1600|1600', 'each message is received once');
$node->sql(q{SELECT cmq_alter_queue('t', rewind_seconds => 0)});
$node->sql(q{SELECT cmq_maintain('t')});
is(tables('t'), '0|0|0|f', 'and nothing is left of them');

# Behind more newer history than one call looks at: the next one, in another process,
# goes on there.
$node->set('cmq.maintenance_interval', '1h');
$node->sql(q{SELECT cmq_create_queue('behind', msg_retention_seconds => 1209600, rewind_seconds => 86400);
	SELECT FROM cmq_send_batch('behind', array_fill('x'::text, '{50}'));
	SELECT FROM cmq_delete_batch('behind', ARRAY(SELECT receipt_handle FROM cmq_receive('behind', 50)));
	SELECT cmq_alter_queue('behind', rewind_seconds => 0);
	SELECT cmq_alter_queue('behind', rewind_seconds => 86400);
	SET session_replication_role = replica;
	DO $$ DECLARE leaf record; BEGIN
		SELECT * INTO leaf FROM cmq.partition WHERE queue = 'behind' ORDER BY lower LIMIT 1;
		EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', leaf.rewind);
		EXECUTE format('INSERT INTO %s SELECT %L::timestamptz + i * interval ''1 microsecond'', %L, clock_timestamp(), ''x'', 1, 0, 1 FROM generate_series(1, 1000001) i', leaf.rewind, leaf.lower, leaf.lower);
		EXECUTE format('ALTER TABLE %s ENABLE TRIGGER ALL', leaf.rewind);
	END $$});
my $left = 50;
for (1 .. 3)
{
	$node->sql(q{SET client_min_messages = error; SELECT cmq_maintain('behind')});
	$left = $node->sql(q{SELECT count(*) FROM cmq_data.q_behind});
	last if $left eq '0';
}
is($left, '0', 'what was forgotten is removed, however much newer history there is');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|leak|still referenced|XX000|deadlock/, 'the server has nothing to complain about');
$node->stop;
done_testing();
