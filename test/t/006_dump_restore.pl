# pg_dump of a database with queues in all states, restored into fresh
# servers: the contents are equal, and the queues go on working.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;

sub new_node
{
	my ($name, $interval) = @_;
	my $node = CmqNode->configured($name, <<"CONF", extra => [ '--encoding=UTF8', '--no-locale' ]);
cmq.maintenance_interval = @{[ $interval // '1d' ]}
autovacuum = off
statement_timeout = 120s
CONF

	$node->start;

	# let the one maintenance round of this server pass
	$node->wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq launcher' AND wait_event_type = 'Extension'");
	$node->sql('CREATE ROLE app; CREATE ROLE sender; CREATE ROLE consumer; CREATE DATABASE shop');
	$node->use_database('shop');
	return $node;
}

# Everything a user can see of all queues, as text.
sub everything
{
	my ($node) = @_;
	return $node->sql(q(
	SELECT * FROM cmq.queues ORDER BY queue;
	SELECT c.relname, c.relkind, c.relispartition, r.rolname, c.relacl,
		   pg_get_expr(c.relpartbound, c.oid)
	  FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
	 WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) ORDER BY relnamespace::regnamespace::text, c.relname;
	SELECT attrelid::regclass, attname, col_description(attrelid, attnum) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
	 WHERE relnamespace = 'cmq'::regnamespace AND relkind = 'v' AND relname ~ '^[qt]_' ORDER BY attrelid::regclass::text, attnum;
	SELECT conrelid::regclass, pg_get_constraintdef(oid) FROM pg_constraint
	 WHERE connamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace) ORDER BY conrelid::regclass::text, 2;
	SELECT conname, convalidated FROM pg_constraint WHERE conrelid = 'cmq_data.q_states'::regclass;
	SELECT * FROM cmq_data.q_states_pending ORDER BY enqueued_at;
	SELECT * FROM cmq_data.q_ordered_pending ORDER BY enqueued_at;
	SELECT * FROM cmq_data.q_ordered_rewind ORDER BY enqueued_at;
	SELECT queue, lower, upper, messages, rewind FROM cmq.partition ORDER BY queue, lower;
	SELECT name, rewind_from, rewound_at, expired_before, forgotten_before FROM cmq.queue ORDER BY name;
	SELECT * FROM cmq.rewinds ORDER BY id)) . $node->contents;
}

my $node = new_node('source');

my $long_name = 'L' . ('o' x 45) . 'ng';
my $settings =
  'visibility_timeout => 43200, msg_retention_seconds => 86400, rewind_seconds => 7200';

$node->sql('CREATE EXTENSION cmq');

# Transaction ids of the source are ahead of those of a fresh server, so that
# the restored ones are used again there.
$node->sql(q(DO $$ BEGIN FOR i IN 1 .. 5000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$));

# all states
$node->sql("SELECT FROM cmq_create_queue('states', $settings)");
$node->sql(q(SELECT FROM cmq_send_batch('states', ARRAY['deleted', 'flight1', 'flight2', 'shown', 'ready', E'odd "\\\\ \t\n\u00e4'],
			headers => array_fill('{"k": [1, null]}'::jsonb, ARRAY[6]));
	SELECT cmq_send('states', repeat('x', 500000));
	SELECT cmq_send('states', 'delayed', deliver_at => now() + interval '20 hours 0.1 s')));
is($node->consume('states', 1), '1', 'one message is deleted');
my ($flight1, $stale) = ($node->handle('states'), $node->handle('states'));
my $flight2 =
  $node->sql("SELECT cmq_change_visibility('states', '$stale', 43200)");
my $shown = $node->handle('states');
$shown = $node->sql("SELECT cmq_change_visibility('states', '$shown', 0)");

# a rewind under way, partly consumed
$node->sql("SELECT FROM cmq_create_queue('rewound', $settings)");
$node->sql("SELECT FROM cmq_send_batch('rewound', ARRAY['old', 'd1', 'd2', 'd3', 'd4'])");
my $start = $node->sql(
	"SELECT enqueued_at FROM cmq_data.q_rewound WHERE body = 'd1'");
is($node->consume('rewound', 10), '5', 'all messages are deleted');
$node->sql("SELECT cmq_send('rewound', 'waiting')");
$node->sql("SELECT cmq_rewind('rewound', '$start')");
$node->sql("SET cmq.reason = 'before the dump'; SELECT FROM cmq_restore('rewound', 'infinity', filter => '{}')");
is($node->consume('rewound', 1), '1', 'one rewound message is deleted again');
my $rewound_handle = $node->handle('rewound');

# groups: one whose head is in flight, one that is partly consumed and due for a rewind,
# and messages without
$node->sql("SELECT FROM cmq_create_queue('ordered', $settings, ordered => true)");
$node->sql("SELECT FROM cmq_send_batch('ordered', ARRAY['b1', 'b2', 'b3'], message_groups => array_fill('b'::text, ARRAY[3]))");
is($node->consume('ordered', 2), '2', 'two messages of a group are deleted');
$node->sql("SELECT cmq_rewind('ordered', enqueued_at) FROM cmq.q_ordered_history WHERE body = 'b1'");
is($node->consume('ordered', 1), '1', 'one comes back and is deleted again');
$node->sql("SELECT FROM cmq_send_batch('ordered', ARRAY['a1', 'a2', 'f1', 'a3'], message_groups => ARRAY['a', 'a', NULL, 'a'])");
my $a1 = $node->sql("SELECT receipt_handle FROM cmq_receive_messages('ordered', ARRAY(SELECT msg_id FROM cmq.q_ordered_live WHERE body = 'a1'))");
ok($a1, 'one of another group is in flight');

# a history in which each message was deleted by a transaction of its own
$node->sql("SELECT FROM cmq_create_queue('history', $settings)");
$node->sql("SELECT FROM cmq_send_batch('history', ARRAY['h1', 'h2', 'h3', 'open', 'own'])");
$node->sql("SELECT cmq_delete('history', receipt_handle) FROM cmq_receive('history')")
  foreach (1 .. 2);
my $xid = $node->sql(
	"BEGIN; SELECT pg_current_xact_id(); SELECT cmq_delete('history', receipt_handle) FROM cmq_receive('history'); COMMIT");
$xid =~ s/\s.*//s;
my $open_handle = $node->handle('history');

# ordered, with groups in all states: in flight, brought back, given back, put off, free
$node->sql("SELECT FROM cmq_create_queue('groups', $settings, ordered => true)");
$node->sql("SELECT FROM cmq_send_batch('groups', '{a1,b1,c1,d1,a2,b2,c2,d2,free}', message_groups => '{a,b,c,d,a,b,c,d,NULL}')");
my %of_group = map { $_ => $node->sql("SELECT receipt_handle FROM cmq_receive_messages('groups', array(SELECT msg_id FROM cmq.q_groups_live WHERE body = '${_}1'))") } qw(a b c d);
$node->sql("SELECT cmq_delete('groups', '$of_group{b}');
	SELECT cmq_release('groups', '{$of_group{c}}', 0);
	SELECT cmq_release('groups', '{$of_group{d}}', 43200);
	SELECT cmq_rewind('groups', (SELECT enqueued_at FROM cmq_data.q_groups WHERE body = 'a1'))");

# paused
$node->sql("SELECT FROM cmq_create_queue('paused', $settings);
	SELECT cmq_send('paused', 'm1');
	SELECT cmq_pause_queue('paused', 'before the dump');
	SELECT cmq_send('paused', 'm2')");

# rewind off, altered settings, odd names, empty queues
$node->sql("SELECT FROM cmq_create_queue('plain', msg_retention_seconds => 86400);
	SELECT FROM cmq_send_batch('plain', ARRAY['p1', 'p2'])");
is($node->consume('plain', 1), '1', 'one message is deleted without a history');
$node->sql("SELECT FROM cmq_create_queue('altered', 7, 8, 1296000, 3600, 5000);
	SELECT cmq_send('altered', 'a1');
	SELECT FROM cmq_alter_queue('altered', 11, 12, 600000, 1800, 6000)");
$node->sql("SELECT FROM cmq_create_queue('$_', $settings); SELECT cmq_send('$_', 'm1')")
  foreach ('Mixed-Case', 'select', 'a-', $long_name);
$node->sql("SELECT FROM cmq_create_queue('empty')");

# a topic, and a dead-letter policy
$node->sql("SELECT FROM cmq_create_topic('Topic-1', 'routing');
	SELECT FROM cmq_subscribe('Topic-1', 'sub', 'empty', binding_keys => ARRAY['a.*', 'b'])");
$node->sql("SELECT FROM cmq_alter_queue('plain', max_msg_heap_num => 77, dead_letter_queue => 'empty', max_receive_count => 9)");

# rights: another owner, a sender, a consumer
$node->sql(q(
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO app;
	GRANT USAGE ON SCHEMA cmq TO sender, consumer;
	GRANT INSERT ON cmq."t_Topic-1" TO sender;
	SET ROLE app;
	SELECT FROM cmq_create_queue('owned', rewind_seconds => 3600, visibility_timeout => 43200);
	GRANT INSERT ON cmq.q_owned TO sender;
	GRANT DELETE, SELECT ON cmq.q_owned TO consumer;
	RESET ROLE; SET ROLE sender;
	SELECT FROM cmq_send_batch('owned', ARRAY['o1', 'o2']);
	RESET ROLE; SET ROLE consumer;
	SELECT cmq_delete('owned', receipt_handle) FROM cmq_receive('owned')));

my $last_id = $node->sql(q(
	SELECT max(msg_id) FROM (
		SELECT msg_id FROM cmq.q_states_live UNION ALL SELECT msg_id FROM cmq.q_history_live) AS m));
my $contents = everything($node);
like($contents, qr/states.*rewound|rewound.*states/s, 'there are contents');
like($contents, qr/^cmq\.q_states_all\|deleted_at\|when the message was deleted /m, '... and comments');

# Dump in both formats; the second goes into a database whose extension lives
# in the same schema, with parallel jobs.
command_ok(
	[ 'pg_dump', '-f', "$dir/plain.sql", '-d', $node->connstr('shop') ],
	'dump, plain');
command_ok(
	[ 'pg_dump', '-Fc', '-f', "$dir/custom", '-d', $node->connstr('shop') ],
	'dump, custom');

# The dump without what differs from run to run.
sub dump_text
{
	my ($file) = @_;
	return join '',
	  grep { !/^--|^\\(un)?restrict/ }
	  split /^/, slurp_file($file);
}

foreach my $format ('plain', 'custom')
{
	my $target = new_node($format);

	if ($format eq 'plain')
	{
		# a restore of a dump that was edited, to what is not possible
		my $edited = slurp_file("$dir/plain.sql");
		ok($edited =~ s/^states\t43200\t/states\t0\t/m, 'the dump is edited');
		append_to_file("$dir/edited.sql", $edited);
		$target->sql('CREATE DATABASE edited', 'postgres');
		command_fails_like(
			[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/edited.sql", '-d', $target->connstr('edited') ],
			qr/violates check constraint "queue_visibility_timeout_check"/,
			'it is refused');
		command_ok(
			[
				'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1',
				'-f', "$dir/plain.sql", '-d', $target->connstr('shop')
			],
			"$format: restored");
	}
	else
	{
		command_ok(
			[
				'pg_restore', '-e', '-j', '2',
				'-d', $target->connstr('shop'), "$dir/custom"
			],
			"$format: restored");
	}
	$node = $target;

	# compared without Test::More's is, whose output would be long
	my $restored = everything($node);
	ok($restored eq $contents, "$format: all is as before");
	if ($restored ne $contents)
	{
		my @was = split /\n/, $contents;
		my @is = split /\n/, $restored;
		foreach my $i (0 .. $#was)
		{
			next if $was[$i] eq ($is[$i] // '');
			diag substr("was: $was[$i]", 0, 500);
			diag substr("is:  " . ($is[$i] // ''), 0, 500);
			last;
		}
	}
	if ($format eq 'plain')
	{
		command_ok(
			[ 'pg_dump', '-f', "$dir/again.sql", '-d', $node->connstr('shop') ],
			'dump of the restored database');
		ok(dump_text("$dir/again.sql") eq dump_text("$dir/plain.sql"),
			'the dump of the restored database is the same again');
	}

	# maintenance first: it must not take anything that lives
	is($node->sql('SELECT FROM cmq_maintain(); SELECT count(*) FROM cmq.queues'),
		'14', "$format: maintenance works");

	# states
	my $id = $node->sql("SELECT cmq_send('states', 'new')");
	ok($id > $last_id, "$format: ids go on increasing");
	is($node->sql("SELECT cmq_delete('states', '$flight1')"),
		't', "$format: handle taken before the dump");
	is($node->sql("SELECT cmq_delete('states', '$stale')"),
		'f', "$format: stale handle of before the dump");
	is($node->sql("SELECT cmq_delete('states', '$flight2')"),
		't', "$format: changed handle of before the dump");
	is($node->sql(q(SELECT string_agg(left(translate(body, E'\\\\"\t\n\u00e4', '_____'), 10), '|'), min(headers::text)
				FROM cmq_receive('states', 1000))),
		'ready|odd __ ___|xxxxxxxxxx|shown|new|{"k": [1, null]}',
		"$format: what is ready");
	is($node->sql("SELECT cmq_delete('states', '$shown')"),
		'f', "$format: a receive made this one stale");
	is($node->sql("SELECT string_agg(body || ' ' || state, ', ' ORDER BY body) FROM cmq.q_states_live WHERE length(body) < 6 OR state = 'delayed'"),
		'delayed delayed, new in_flight, ready in_flight, shown in_flight',
		"$format: the states now");
	is($node->sql("SELECT count(*) FROM cmq_data.q_states"),
		'9', "$format: no message was lost");
	$node->rewind('states');
	is($node->receive('states'), 'deleted flight1 flight2',
		"$format: rewind of what was deleted before and after the dump");

	# the rewind under way
	is($node->sql("SELECT cmq_delete('rewound', '$rewound_handle')"),
		't', "$format: handle of a rewound message");
	$node->sql("SELECT cmq_send('rewound', 'new')");
	is($node->receive('rewound'),
		'd3 d4 waiting new',
		"$format: the rewind goes on, then the rest");
	$node->rewind('rewound');
	is($node->receive('rewound'), 'old d1 d2', "$format: another rewind");

	# groups
	is($node->receive('ordered', 10), 'b2 b3 f1', "$format: the rewind goes on in its group, and the other group waits for its head");
	is($node->sql("SELECT cmq_delete('ordered', '$a1')"), 't', "$format: the head is deleted");
	$node->sql("SELECT cmq_send('ordered', 'a4', message_group => 'a')");
	is($node->receive('ordered', 10), 'a2 a3 a4', "$format: its group goes on, with what was sent here");
	$node->rewind('ordered');
	is($node->receive('ordered', 10), '-', "$format: what a rewind brings back waits for what is in flight");
	$node->sql("SELECT cmq_release('ordered', ARRAY(SELECT receipt_handle FROM cmq._deliveries_of('ordered', ARRAY(SELECT msg_id FROM cmq.q_ordered_live), false)), 0)");
	is($node->sql("SELECT string_agg(body, ' ' ORDER BY message_group, ordinality) FROM cmq_receive('ordered', 10) WITH ORDINALITY"),
		'a1 a2 a3 a4 b1 b2 b3 f1', "$format: and stands before the rest of its group");

	# Transaction ids of the old server mean nothing here: a transaction with
	# the id of one that deleted there is open during a rewind.
	my $next = $node->sql('SELECT pg_current_xact_id()') + 1;
	ok($next < $xid, "$format: transaction ids start again");
	$node->sql("DO \$\$ BEGIN FOR i IN $next .. $xid - 1 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END \$\$");
	my $session = $node->session(db => 'shop');
	$session->query_safe('BEGIN');
	is( $session->query_safe(
			"SELECT cmq_delete('history', '$open_handle')"),
		't',
		"$format: delete in an open transaction");
	is($session->query_safe('SELECT pg_current_xact_id()'),
		$xid, "$format: it has the id of a transaction of the old server");
	$node->rewind('history');
	is($node->receive('history'),
		'h1 h2 h3 own',
		"$format: the rewind brings all of the old server's deletes");
	$session->query_safe('COMMIT');
	is($node->receive('history'), '-',
		"$format: and not the one that was open");
	$node->rewind('history');
	is($node->receive('history'), 'open', "$format: the next rewind does");
	$session->quit;

	# groups
	my $in_order = q{SELECT string_agg(body || coalesce(message_group, ''), ' ' ORDER BY message_group, ordinality) FROM cmq_receive('groups', 10) WITH ORDINALITY};
	is($node->sql(q{SELECT blocked_groups FROM cmq.status WHERE queue = 'groups'}), '2', "$format: groups are blocked");
	is($node->sql($in_order), 'b1b b2b c1c c2c free', "$format: the others go on in order");
	is($node->sql($in_order), '', "$format: one consumer has them");
	is($node->sql("SELECT cmq_delete('groups', '$of_group{a}')"), 't', "$format: what was in flight is deleted");
	$node->sql(q{SELECT cmq_send('groups', 'a3', message_group => 'a')});
	is($node->sql($in_order), 'a2a a3a', "$format: the group goes on, with what is sent now");
	is($node->sql($in_order), '', "$format: what was put off blocks its group");

	# paused
	is($node->receive('paused'), '-', "$format: what was paused is paused");
	is($node->sql(q{SELECT cmq_resume_queue('paused')}), 't', "$format: it is resumed");
	is($node->receive('paused'), 'm1 m2', "$format: and goes on");

	# rewind off, settings
	is($node->receive('plain'), 'p2', "$format: queue without rewind");
	is($node->sql(q(SELECT dead_letter_queue, max_receive_count, max_msg_heap_num FROM cmq_queue_attributes('plain'))),
		'empty|9|77', "$format: dead-letter policy");
	is($node->sql(q(SET ROLE sender; SELECT queue FROM cmq_publish('Topic-1', 'published', routing_key => 'a.c'))),
		'empty', "$format: topic, its subscription and its rights");
	is($node->receive('empty'), 'published', "$format: what was published is there");
	like($node->complaint("SELECT cmq_rewind('plain', now())"), qr/rewind is off for queue "plain"/,
		"$format: rewind is off");
	is($node->sql("SELECT (cmq_queue_attributes('altered')).visibility_timeout, (cmq_queue_attributes('altered')).max_msg_size"),
		'11|6000',
		"$format: altered settings");
	is($node->receive($_), 'm1', "$format: queue $_")
	  foreach ('Mixed-Case', 'select', 'a-', $long_name);

	# rights
	is($node->sql(q(SET ROLE sender; SELECT cmq_send('owned', 'o3') > 0;
			RESET ROLE; SET ROLE consumer; SELECT string_agg(body, ' ') FROM cmq_receive('owned', 10))),
		"t\no2 o3",
		"$format: rights work");
	like($node->complaint("SET ROLE sender; SELECT * FROM cmq_receive('owned')"), qr/permission denied for queue "owned"/,
		"$format: rights are refused");

	# new queues, and none twice
	like($node->complaint("SELECT cmq_create_queue('STATES')"), qr/already exists/, "$format: the names are taken");
	$node->sql("SELECT FROM cmq_create_queue('another', $settings); SELECT cmq_send('another', 'n1')");
	is($node->receive('another'), 'n1', "$format: another queue");
	$node->sql("SELECT FROM cmq_drop_queue('$_')")
	  foreach ('Mixed-Case', 'select', 'a-', $long_name, 'another');
	$node->sql("SELECT FROM cmq_alter_queue('states', rewind_seconds => 0, msg_retention_seconds => 60)");
	$node->sql('SELECT FROM cmq_maintain()');
	is($node->sql('SELECT count(*) FROM cmq.queues'),
		'10', "$format: queues dropped");

	$node->stop;
}

# A parallel restore builds the tables in any order, and the maintenance worker
# does not wait for its end: a round between must not take what is not there
# yet for consumed.
{
	note 'a maintenance round in the middle of a restore';

	$node = new_node('middle', 1);

	# a queue with rewind off whose backlog is in a leaf of the past, and one
	# whose history there is due for a rewind
	$node->sql(q(
	CREATE EXTENSION cmq;
	SELECT FROM cmq_create_queue('backlog', msg_retention_seconds => 1296000);
	SELECT FROM cmq_create_queue('due', msg_retention_seconds => 1296000, rewind_seconds => 1296000);
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
			INSERT INTO cmq.partition VALUES
				(queue, lower, upper, ('cmq_data.m_' || queue || '_old')::regclass, ('cmq_data.r_' || queue || '_old')::regclass);
			EXECUTE format('INSERT INTO cmq_data.%I (enqueued_at, body) VALUES (%L, %L)',
						   'q_' || queue, lower + interval '1 hour', queue || ' 1');
			EXECUTE format('INSERT INTO cmq_data.%1$I (visible_at, enqueued_at, receive_count, rewind_count)
							VALUES (%2$L, %2$L, 0, 0)', 'q_' || queue || '_pending', lower + interval '1 hour');
			PERFORM cmq_alter_queue(queue, visibility_timeout => 43200);
			PERFORM cmq_send(queue, queue || ' 2');
		END LOOP;
		PERFORM cmq_delete('due', receipt_handle) FROM cmq_receive('due', 10);
		PERFORM cmq_rewind('due', lower);
	END $$));
	my $look =
	  "SELECT string_agg(body || ' ' || state, ', ' ORDER BY body) FROM (SELECT * FROM cmq.q_backlog_live UNION ALL SELECT * FROM cmq.q_due_live) AS m";
	my $all = 'backlog 1 ready, backlog 2 ready, due 1 ready, due 2 ready';
	is($node->sql($look), $all, 'middle: the messages wait');
	command_ok(
		[ 'pg_dump', '-Fc', '-f', "$dir/middle", '-d', $node->connstr('shop') ],
		'middle: dump');

	# another database shows when the worker has come by
	$node->use_database('postgres');
	$node->sql(q(
	CREATE DATABASE again;
	CREATE EXTENSION cmq;
	SELECT FROM cmq_create_queue('bell', visibility_timeout => 1, rewind_seconds => 3600);
	SELECT cmq_send('bell', 'm')));

	my ($list, $error);
	IPC::Run::run [ 'pg_restore', '-l', "$dir/middle" ], '>', \$list, '2>',
	  \$error;
	my @late = ('pending', 'r_due_old', 'r_due_\d+', 'm_due_old');
	my $late = join '|', @late;
	foreach my $part ('early', 'late')
	{
		my @lines = grep {
			my $is_late = /TABLE DATA.*($late)|CONSTRAINT.*($late)|INDEX ATTACH.*($late)/;
			$part eq 'late' ? $is_late : !$is_late;
		} split /^/, $list;
		cmp_ok(scalar @lines, '>=', 8, "middle: there is a $part part");
		append_to_file("$dir/list_$part", join '', @lines);
		command_ok(
			[
				'pg_restore', '-e', '-L', "$dir/list_$part",
				'-d', $node->connstr('again'), "$dir/middle"
			],
			"middle: $part part restored");
		foreach (1 .. 2)
		{
			$node->sql("SELECT cmq_delete('bell', receipt_handle) FROM cmq_receive('bell');
				 SELECT cmq_rewind('bell', now() - interval '1 hour');
				 SELECT cmq_delete('bell', receipt_handle) FROM cmq_receive('bell')");
			$node->wait_until("SELECT rewinding_from IS NULL FROM cmq.queues WHERE queue = 'bell'");
		}
	}
	is($node->sql($look, 'again'), $all, 'middle: nothing is lost');
	is($node->sql(q(
			SELECT string_agg(body, ', ') FROM cmq_receive('backlog', 10);
			SELECT string_agg(body, ', ') FROM cmq_receive('due', 10)), 'again'),
		"backlog 1, backlog 2\ndue 1, due 2",
		'middle: every message is received');
	$node->stop;
}

done_testing();
