# What others do with the objects of queues: restore a dump in every order, with
# maintenance in between; DROP OWNED and DROP EXTENSION beside traffic and the worker.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = CmqNode->configured('main', <<'CONF', extra => [ '--encoding=UTF8', '--no-locale' ]);
autovacuum = off
statement_timeout = 120s
max_worker_processes = 16
CONF
$node->start;
$node->wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq launcher' AND wait_event_type = 'Extension'");
$node->sql('CREATE ROLE app; CREATE ROLE sender');

# The database that is looked at.
my $db;

sub use_database
{
	($db) = @_;
	$node->use_database($db);
	return;
}

# Everything that can be seen of all queues and topics, as text.
sub everything
{
	return $node->sql(q(
		SELECT queue, visibility_timeout, rewind_seconds, dead_letter_queue, create_time, rewinding_from IS NOT NULL FROM cmq.queues ORDER BY 1;
		SELECT * FROM cmq.subscriptions ORDER BY 1, 2;
		SELECT id, queue, kind, called_at, messages FROM cmq.rewinds ORDER BY 1;
		SELECT * FROM cmq_data.q_groups_pending ORDER BY enqueued_at;
		SELECT * FROM cmq_data.q_groups_rewind ORDER BY enqueued_at)) . $node->contents;
}

#
# The source: queues whose messages are in all states, also in a leaf that maintenance
# would drop if nothing in it were wanted; beside it keys that no send asks for any more.
# Groups: the rewind brings all of back and the first of flying, whose second is in flight;
# the first of off is put off; wait waits.
#
$node->sql('CREATE DATABASE source');
use_database('source');
$node->sql(q(
	CREATE EXTENSION cmq;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO app;
	SET ROLE app;
	SELECT FROM cmq_create_queue('backlog', msg_retention_seconds => 1296000, visibility_timeout => 43200);
	SELECT FROM cmq_create_queue('due', msg_retention_seconds => 1296000, rewind_seconds => 1296000, visibility_timeout => 43200, dedup_seconds => 3600);
	SELECT FROM cmq_create_queue('states', rewind_seconds => 7200, visibility_timeout => 43200, dead_letter_queue => 'backlog', max_receive_count => 3);
	SELECT FROM cmq_create_topic('news');
	SELECT FROM cmq_subscribe('news', 's', 'states');
	SELECT cmq_create_queue('pub_a', rewind_seconds => 3600), cmq_create_queue('pub_b');
	SELECT FROM cmq_create_topic('gone');
	SELECT count(cmq_subscribe('gone', q, q)) FROM unnest('{pub_a,pub_b}'::text[]) q;
	SELECT count(*) FROM cmq_publish('gone', 'p0');
	SELECT count(cmq_unsubscribe('gone', q)) FROM unnest('{pub_a,pub_b}'::text[]) q;
	SELECT FROM cmq_drop_topic('gone');
	SELECT FROM cmq_create_topic('both');
	SELECT count(cmq_subscribe('both', q, q)) FROM unnest('{pub_a,pub_b}'::text[]) q;
	SELECT count(*) FROM cmq_publish_batch('both', '{p1,p2}');
	SELECT count(*) FROM cmq_consume('pub_a');
	GRANT INSERT ON cmq.q_states TO sender;
	RESET ROLE;
	DO $$
	DECLARE
		queue text;
		lower timestamptz := date_trunc('day', now() - interval '2 days');
		upper timestamptz := date_trunc('day', now() - interval '1 day');
	BEGIN
		FOREACH queue IN ARRAY ARRAY['backlog', 'due'] LOOP
			EXECUTE format('CREATE TABLE cmq_data.%I PARTITION OF cmq_data.%I FOR VALUES FROM (%L) TO (%L)',
						   'm_' || queue || '_old', 'q_' || queue, lower, upper);
			EXECUTE format('CREATE TABLE cmq_data.%I PARTITION OF cmq_data.%I FOR VALUES FROM (%L) TO (%L)',
						   'r_' || queue || '_old', 'q_' || queue || '_rewind', lower, upper);
			EXECUTE format('ALTER TABLE cmq_data.%I OWNER TO app', 'm_' || queue || '_old');
			EXECUTE format('ALTER TABLE cmq_data.%I OWNER TO app', 'r_' || queue || '_old');
			INSERT INTO cmq.partition (queue, lower, upper, messages, rewind) VALUES
				(queue, lower, upper, ('cmq_data.m_' || queue || '_old')::regclass, ('cmq_data.r_' || queue || '_old')::regclass);
			EXECUTE format('INSERT INTO cmq_data.%I (enqueued_at, body) SELECT %L::timestamptz + i * interval ''1 s'', %L || i FROM generate_series(1, 20) i',
						   'q_' || queue, lower, queue || ' ');
			EXECUTE format('INSERT INTO cmq_data.%1$I (visible_at, enqueued_at, receive_count, rewind_count)
							SELECT enqueued_at, enqueued_at, 0, 0 FROM cmq_data.%2$I', 'q_' || queue || '_pending', 'q_' || queue);
			PERFORM cmq_alter_queue(queue, visibility_timeout => 43200);
			PERFORM cmq_send(queue, queue || ' new');
		END LOOP;
		EXECUTE format('CREATE TABLE cmq_data.d_due_old (LIKE cmq_data.q_due_dedup, UNIQUE (key));
						ALTER TABLE cmq_data.d_due_old OWNER TO app;
						ALTER TABLE cmq_data.q_due_dedup ATTACH PARTITION cmq_data.d_due_old FOR VALUES FROM (%L) TO (%L)', lower, upper);
		INSERT INTO cmq_data.d_due_old VALUES ('old', lower + interval '1 s');
		UPDATE cmq.partition SET dedup = 'cmq_data.d_due_old' WHERE messages = 'cmq_data.m_due_old'::regclass;
	END $$;
	SELECT count(cmq_delete('due', receipt_handle)) FROM cmq_receive('due', 100);
	SELECT cmq_rewind('due', now() - interval '3 days') IS NOT NULL;
	SELECT count(*) FROM cmq_receive('due', 5);
	SELECT cmq_send('due', 'due last', dedup_key => 'last');
	SELECT count(cmq_send('states', 'm' || i)) FROM generate_series(1, 30) i;
	SELECT count(cmq_delete('states', receipt_handle)) FROM cmq_receive('states', 10);
	SELECT count(*) FROM cmq_receive('states', 5);
	SELECT cmq_send('states', 'delayed', 3600);
	SELECT count(cmq_change_visibility('states', receipt_handle, 0)) FROM cmq_receive('states', 1);
	SET ROLE app;
	SELECT FROM cmq_create_queue('groups', rewind_seconds => 7200, visibility_timeout => 43200, ordered => true);
	RESET ROLE;
	SELECT FROM cmq_send_batch('groups', '{back1,back2,flying1,back3,flying2,flying3,off1,off2,wait1,wait2,free}', message_groups => '{back,back,flying,back,flying,flying,off,off,wait,wait,NULL}');
	CREATE TABLE taken (body text, handle text);
	CREATE FUNCTION take(bodies text[]) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO taken SELECT body, receipt_handle FROM cmq_receive_messages('groups', array(SELECT msg_id FROM cmq.q_groups_live WHERE body = ANY (bodies))) $$;
	SELECT take('{back1,back2,flying1,off1}');
	SELECT cmq_delete('groups', handle) FROM taken WHERE body <> 'off1';
	SELECT take('{flying2}');
	SELECT cmq_release('groups', array(SELECT handle FROM taken WHERE body = 'off1'), 43200);
	SELECT cmq_rewind('groups', (SELECT enqueued_at FROM cmq_data.q_groups WHERE body = 'back1'))));
my $contents = everything();
my $last = $node->sql('SELECT max(msg_id) FROM (SELECT msg_id FROM cmq.q_due_live UNION ALL SELECT msg_id FROM cmq.q_states_all) m');
my $source = $node->connstr('source');

foreach (
	[ 'plain' ], [ 'schema', '-s' ], [ 'data', '-a' ],
	[ 'data_disabled', '-a', '--disable-triggers' ],
	[ 'pre', '--section=pre-data' ], [ 'middle', '--section=data' ], [ 'post', '--section=post-data' ],
	[ 'no_owner', '--no-owner', '--no-privileges' ], [ 'inserts', '--inserts' ], [ 'clean', '--clean', '--if-exists' ],
	[ 'custom', '-Fc' ], [ 'directory', '-Fd', '-j', '2' ],
	[ 'tables', '-t', 'cmq_data.q_states*', '-t', 'cmq_data.?_states*', '-t', 'cmq.q_states*' ])
{
	my ($file, @options) = @$_;
	command('pg_dump', @options, '-f', "$dir/$file", '-d', $source);
}

# Run it; with an error nothing that follows would mean anything.
sub command
{
	my @command = @_;
	my ($out, $err);
	IPC::Run::run(\@command, '>', \$out, '2>', \$err) or die "@command: $err";
	return;
}

sub psql_file
{
	my ($file, @options) = @_;
	command('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', @options, '-f', "$dir/$file", '-d', $node->connstr($db));
	return;
}

sub restore
{
	my ($file, @options) = @_;
	command('pg_restore', '-e', @options, '-d', $node->connstr($db), "$dir/$file");
	return;
}

# One entry of the archive at a time, in this order, and maintenance after each.  What it
# cannot do yet it may complain of, when the order is not that of the archive.
sub one_by_one
{
	my ($order, $may_complain) = @_;
	my ($list, $error);
	IPC::Run::run [ 'pg_restore', '-l', "$dir/custom" ], '>', \$list, '2>', \$error;
	my @data = $order->(grep { /TABLE DATA|SEQUENCE SET/ } split /^/, $list);
	cmp_ok(scalar(@data), '>', 15, "$db: there are entries");
	restore('custom', '--schema-only');
	foreach my $entry (@data)
	{
		open my $fh, '>', "$dir/entry" or die;
		print $fh $entry;
		close $fh;
		command('pg_restore', '-e', '-a', '-L', "$dir/entry", '-d', $node->connstr($db), "$dir/custom");
		my $complaint = $node->complaint('SELECT FROM cmq_maintain()');
		is($complaint, '', "$db: maintenance after $entry") unless $may_complain;
	}
	return;
}

# The index that finds keys, or groups, is missing still when the rest is there: nothing is
# stored twice and nothing delivered out of turn.
sub sections_with_traffic
{
	my ($list, $error);
	my $keyed = q{SELECT cmq_send('due', 'again', dedup_key => 'last')};
	my $receive = q{SELECT body FROM cmq_receive('groups')};

	restore('custom', "--section=$_") foreach ('pre-data', 'data');
	like($node->complaint($_), qr/^psql:\S+ ERROR: /, "$db: not without indexes: $_") foreach $keyed, $receive;
	is_deeply([ grep { /WARNING/ && !/is not complete$/ } split /\n/, $node->complaint('SELECT FROM cmq_maintain()') ], [], "$db: maintenance waits for them");
	IPC::Run::run [ 'pg_restore', '-l', '--section=post-data', "$dir/custom" ], '>', \$list, '2>', \$error;
	my @late = grep { / cmq_data (?:d_due_\S+ d_due_\S+_key |\S*q_groups_pending\S*group_key)/ } split /^/, $list;
	cmp_ok(scalar(@late), '>', 2, "$db: there are indexes of keys and groups");
	foreach my $part ([ grep { my $entry = $_; !grep { $_ eq $entry } @late } split /^/, $list ], \@late)
	{
		open my $fh, '>', "$dir/part" or die;
		print $fh @$part;
		close $fh;
		restore('custom', '-L', "$dir/part");
		last if $part == \@late;
		like($node->complaint($keyed), qr/table "d_due_\S+" is not a table of keys of queue "due"/, "$db: no key without its index");
		like($node->complaint($receive), qr/table "q_groups_pending" does not have the index by group/, "$db: no group without its index");
	}
	return;
}

my @splits = (
	[ 'plain', sub { psql_file('plain') } ],
	[ 'plain_one_transaction', sub { psql_file('plain', '-1') } ],
	[ 'schema_then_data', sub { psql_file('schema'); psql_file('data') } ],
	[ 'schema_then_data_one_transaction_each', sub { psql_file('schema', '-1'); psql_file('data', '-1') } ],
	[ 'schema_then_data_triggers_disabled', sub { psql_file('schema'); psql_file('data_disabled') } ],
	[ 'sections', sub { psql_file($_) foreach ('pre', 'middle', 'post') } ],
	[ 'no_owner', sub { psql_file('no_owner') } ],
	[ 'inserts', sub { psql_file('inserts') } ],
	# --clean: the server refuses some of its DROPs for any partitioned table
	[ 'clean', sub { psql_file('plain'); $node->sql("SELECT cmq_send('states', 'to be replaced')"); psql_file('clean', '-v', 'ON_ERROR_STOP=0') } ],
	[ 'custom', sub { restore('custom') } ],
	[ 'custom_one_transaction', sub { restore('custom', '-1') } ],
	[ 'custom_4_jobs', sub { restore('custom', '-j', '4') } ],
	[ 'custom_schema_then_data', sub { restore('custom', $_) foreach ('--schema-only', '--data-only') } ],
	[ 'custom_schema_then_data_4_jobs', sub { restore('custom', '-j', '4', $_) foreach ('--schema-only', '--data-only') } ],
	[ 'custom_schema_then_data_triggers_disabled', sub { restore('custom', '--schema-only'); restore('custom', '--data-only', '--disable-triggers') } ],
	[ 'custom_sections', sub { restore('custom', "--section=$_") foreach ('pre-data', 'data', 'post-data') } ],
	[ 'custom_sections_4_jobs', sub { restore('custom', '-j', '4', "--section=$_") foreach ('pre-data', 'data', 'post-data') } ],
	[ 'custom_sections_with_traffic', \&sections_with_traffic ],
	[ 'directory_4_jobs', sub { restore('directory', '-j', '4') } ],
	[ 'directory_no_owner', sub { restore('directory', '--no-owner', '-x') } ],
	[ 'directory_clean', sub {
		restore('directory');
		IPC::Run::run([ 'pg_restore', '--clean', '--if-exists', '-d', $node->connstr($db), "$dir/directory" ], '2>', \my $err);
	} ],
	[ 'maintenance_after_each', sub { one_by_one(sub { @_ }) } ],
	[ 'maintenance_after_each_backwards', sub { one_by_one(sub { reverse @_ }, 1) } ],
);

foreach (@splits)
{
	my ($name, $split) = @$_;

	note $name;
	$node->sql("CREATE DATABASE $name");
	use_database($name);
	$split->();

	my $restored = everything();
	ok($restored eq $contents, "$name: all is as before") or diag "was:\n$contents\nis:\n$restored";
	is($node->complaint('SELECT FROM cmq_maintain()'), '', "$name: maintenance has no complaint");
	$restored = everything();
	ok($restored eq $contents, "$name: and takes nothing") or diag "was:\n$contents\nis:\n$restored";

	is($node->sql("SELECT cmq_send('due', 'again', dedup_key => 'last') = max(msg_id), (SELECT count(*) FROM cmq_data.q_due_dedup) FROM cmq.q_due_live WHERE body = 'due last'"), 't|2', "$name: so are keys");

	# groups
	is($node->sql(q{SELECT blocked_groups FROM cmq.status WHERE queue = 'groups'}), 2, "$name: groups are blocked");
	$node->sql(q{SELECT FROM cmq_send_batch('groups', '{wait3,off3,flying4,back4}', message_groups => '{wait,off,flying,back}')});
	my $in_order = q{SELECT string_agg(body, ' ' ORDER BY message_group, ordinality) FROM cmq_receive('groups', 100) WITH ORDINALITY};
	is($node->sql($in_order), 'back1 back2 back3 back4 wait1 wait2 wait3 free', "$name: the others are received in order");
	is($node->sql("SELECT cmq_delete('groups', handle) FROM taken WHERE body = 'flying2'; $in_order"), "t\nflying1 flying3 flying4", "$name: what was in flight is deleted, and its group goes on");

	# what was ready is received, in order, each once
	is($node->sql("SELECT string_agg(body, ' ') FROM cmq_receive('backlog', 100)"),
		join(' ', map("backlog $_", 1 .. 20), 'backlog new'), "$name: the backlog is received");
	is($node->sql("SELECT string_agg(body, ' ') FROM cmq_receive('due', 100)"),
		join(' ', map("due $_", 6 .. 20), 'due new', 'due last'), "$name: the rewind goes on");
	is($node->sql("SELECT string_agg(body, ' ') FROM cmq_receive('states', 100)"),
		join(' ', map("m$_", 17 .. 30), 'm16'), "$name: what is ready");
	cmp_ok($node->sql("SELECT cmq_send('states', 'new')"), '>', $last, "$name: ids go on increasing");
	is($node->sql("SELECT string_agg(body, ' ') FROM cmq_receive('states', 100)"), 'new', "$name: what is sent is received");
	is($node->sql("SELECT cmq_restore('states', '-infinity'); SELECT string_agg(body, ' ') FROM cmq_receive('states', 100)"),
		"10\n" . join(' ', map("m$_", 1 .. 10)), "$name: the history comes back");
	is($node->sql("SELECT queue FROM cmq_publish('news', 'x')"), 'states', "$name: publish");
	is($node->sql("SELECT cmq_restore('pub_a', '-infinity'); SELECT string_agg(queue, ' ') FROM cmq_publish('both', 'p3')
		UNION ALL SELECT string_agg(body, ' ') FROM cmq_consume('pub_a', 10) UNION ALL SELECT string_agg(body, ' ') FROM cmq_consume('pub_b', 10)"),
		"1\npub_a pub_b\np0 p1 p2 p3\np0 p1 p2 p3", "$name: what is published to several queues");
	is($node->sql("SELECT cmq_rewind('states', latest_rewind_time) IS NULL FROM cmq_queue_attributes('states')"), 't', "$name: rewind");
	like($node->complaint("TRUNCATE cmq_data.q_states_pending"), qr/cannot be truncated/, "$name: triggers are there");
	$node->sql("SELECT FROM cmq_unbind_dead_letter('states')");
	$node->sql("SELECT FROM cmq_drop_queue('$_')") foreach ('states', 'due', 'backlog', 'groups', 'pub_a', 'pub_b');
	$node->sql("SELECT cmq_drop_topic('news'), cmq_drop_topic('both')");
	is($node->sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'cmq_data'::regnamespace"), '0', "$name: dropped without a rest");
}

#
# The schema without the data: what is there is told, and can be replaced.
#
$node->sql('CREATE DATABASE schema_only');
use_database('schema_only');
psql_file('schema');
like($node->complaint("SELECT cmq_send('states', 'x')"), qr/queue "states" does not exist\nDETAIL:  There are relations.*\nHINT:  Restore the data, or drop the relations: SELECT cmq_drop_queue\('states'\);/,
	'schema only: a call says why');
like($node->complaint("SELECT cmq_create_queue('states')"), qr/HINT:  .*SELECT cmq_drop_queue\('states'\);/, 'schema only: create says what to do');
is($node->complaint('SELECT FROM cmq_maintain()'), '', 'schema only: maintenance has nothing to say');
is($node->sql("SELECT FROM cmq_drop_queue('states'); SELECT FROM cmq_create_queue('states'); SELECT cmq_send('states', 'x') > 0"), 't', 'schema only: a new queue');
like($node->complaint("SELECT cmq_publish('news', 'x')"), qr/HINT:  .*SELECT cmq_drop_topic\('news'\);/, 'schema only: the same of a topic');
is($node->sql("SELECT FROM cmq_drop_topic('news'); SELECT FROM cmq_create_topic('news'); SELECT count(*) FROM cmq_publish('news', 'x')"), '0', 'schema only: a new topic');

#
# Single tables: relations without a queue.
#
$node->sql('CREATE DATABASE single_tables');
use_database('single_tables');
like(do { my ($out, $err); IPC::Run::run([ 'psql', '-X', '-f', "$dir/tables", '-d', $node->connstr($db) ], '>', \$out, '2>', \$err); $err },
	qr/schema "cmq" does not exist/, 'single tables: not without the extension');
$node->sql('CREATE EXTENSION cmq');
psql_file('tables');
is($node->sql('SELECT count(*) FROM cmq_data.q_states'), '31', 'single tables: the messages are there');
like($node->complaint("SELECT cmq_receive('states')"), qr/DETAIL:  There are relations/, 'single tables: but no queue');
is($node->sql("SELECT FROM cmq_drop_queue('states'); SELECT count(*) FROM pg_class WHERE relnamespace = 'cmq_data'::regnamespace"), '0', 'single tables: dropped');

#
# A dump beside traffic: each message is in one state, what was sent before it is there.
#
$node->sql('CREATE DATABASE traffic');
use_database('traffic');
$node->sql("CREATE EXTENSION cmq; CREATE TABLE audit (n int); SELECT FROM cmq_create_queue('t', rewind_seconds => 3600, visibility_timeout => 43200)");
my $traffic = $node->session;
$traffic->query_until(qr/started/, q(
	\echo started
	DO $$
	DECLARE
		handle text;
	BEGIN
		FOR i IN 1 .. 1000000 LOOP
			PERFORM cmq_send('t', i::text), cmq_send('t', (-i)::text);
			INSERT INTO audit VALUES (i);
			COMMIT;
			SELECT receipt_handle INTO handle FROM cmq_receive('t');
			IF i % 3 > 0 THEN
				PERFORM cmq_delete('t', handle);
			END IF;
			IF i % 50 = 0 THEN
				PERFORM cmq_rewind('t', latest_rewind_time) FROM cmq_queue_attributes('t');
			END IF;
			COMMIT;
		END LOOP;
	END $$;
));
$node->wait_until('SELECT count(*) > 300 FROM audit');
command('pg_dump', '-Fc', '-f', "$dir/traffic", '-d', $node->connstr($db));
$node->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = '$db' AND query LIKE '%1000000%' AND pid <> pg_backend_pid()");
eval { $traffic->quit };
foreach my $options ([ '-j', '2' ], undef)
{
	my $name = $options ? 'traffic_whole' : 'traffic_split';
	$node->sql("CREATE DATABASE $name");
	use_database($name);
	foreach ($options ? @$options : ('--schema-only', '--data-only'))
	{
		restore('traffic', $options ? @$options : $_);
		last if $options;
	}
	is($node->sql(q(SELECT count(*) FROM cmq_data.q_t) . ' UNION ALL SELECT 2 * count(*) FROM audit'), join("\n", ($node->sql('SELECT 2 * count(*) FROM audit')) x 2),
		"$db: all messages and no others");
	is($node->sql(q(SELECT count(*) FROM (SELECT m.enqueued_at FROM cmq_data.q_t m
				LEFT JOIN cmq_data.q_t_pending p USING (enqueued_at) LEFT JOIN cmq_data.q_t_rewind r USING (enqueued_at)
				WHERE (p.enqueued_at IS NULL) = (r.enqueued_at IS NULL)) x)), '0', "$db: each is pending or deleted");
	is($node->sql(q(SELECT FROM cmq_maintain(); SELECT FROM cmq_restore('t', '-infinity');
			WITH got AS MATERIALIZED (SELECT count(DISTINCT n) AS n FROM (SELECT body AS n FROM cmq.q_t_live) x)
			SELECT n = (SELECT 2 * count(*) FROM audit) FROM got)), 't', "$db: none is lost to a restore of the history");
}

#
# DROP OWNED BY the owner of a subscribed queue, beside the worker.
#
$node->sql($_) foreach 'CREATE DATABASE owned', 'CREATE ROLE team';
use_database('owned');
$node->sql(q(
	CREATE EXTENSION cmq;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO team;
	SELECT FROM cmq_create_topic('events');
	GRANT SELECT ON cmq.t_events TO team;
	SELECT FROM cmq_create_queue('mine');
	SELECT FROM cmq_subscribe('events', 'mine', 'mine');
	SET ROLE team;
	SELECT FROM cmq_create_queue('theirs');
	SELECT FROM cmq_subscribe('events', 'theirs', 'theirs')));
is($node->sql("SELECT string_agg(queue, ' ' ORDER BY queue) FROM cmq_publish('events', 'x')"), 'mine theirs', 'both are subscribed');
my $offset = $node->log_size;
$node->sql('DROP OWNED BY team');
is($node->sql("SELECT queue FROM cmq_publish('events', 'x')"), 'mine', 'publishing goes on for the others');
$node->set('cmq.maintenance_interval', '1s');
$node->wait_until("SELECT NOT EXISTS (SELECT FROM cmq.queue WHERE name = 'theirs')");
is($node->sql("SELECT (SELECT count(*) FROM cmq.partition WHERE queue = 'theirs'), (SELECT count(*) FROM cmq.subscription WHERE queue = 'theirs')"), '0|0', 'the worker has removed what was known of the queue');
my $log = $node->log_since($offset);
my @said = $log =~ /queue "theirs"[^\n]*/g;
is_deeply(\@said, ['queue "theirs" is forgotten'], '... and said so once');
$node->sql('DROP OWNED BY team; DROP ROLE team');
is($node->sql("SELECT FROM cmq_create_queue('theirs'); SELECT queue FROM cmq_publish('events', 'x')"), 'mine', 'the name is free, without the subscription');

#
# DROP EXTENSION while a receive waits.
#
$node->set('cmq.maintenance_interval', '1d');
$node->set('deadlock_timeout', '100ms');
my $receiver = $node->session(on_error_stop => 0);
$receiver->query_until(qr/waiting/, "\\echo waiting\nSELECT 'received', count(*) FROM cmq_receive('mine', 10, 43200); SELECT 'received', count(*) FROM cmq_receive('mine', 10, NULL, 5); SELECT 'received', count(*) FROM cmq_receive('mine', 10, NULL, 5);\n\\echo done\n");
$node->wait_until("SELECT count(*) = 1 $waiting");
$offset = $node->log_size;
is($node->complaint('SET client_min_messages = error; DROP EXTENSION cmq CASCADE'), '', 'the extension is dropped');
eval { $receiver->query_until(qr/done/, "\\echo done\n") };
eval { $receiver->quit };
$log = $node->log_since($offset);
unlike($log, qr/deadlock|with OID/, 'no deadlock, and no call meets what is gone');
like($log, qr/extension cmq is not installed in this database|function cmq_receive\(.*\) does not exist/, 'the next call says that the extension is gone');
$node->stop;
done_testing();
