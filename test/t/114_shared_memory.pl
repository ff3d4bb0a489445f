# What all databases share: an entry is one queue's for as long as any transaction
# uses it, whatever the owner does to tables and names; and what a process has
# announced ends with its transaction, in parallel workers too.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $places = 12;

my $node = CmqNode->running('main', <<"CONF");
cmq.max_queues = $places
max_prepared_transactions = 5
log_error_verbosity = verbose
CONF

# What the attacker tries, each statement on its own, and most need not work.
sub try
{
	my (@statements) = @_;
	foreach my $statement (@statements)
	{
		my $complaint = $node->complaint("SET SESSION AUTHORIZATION attacker; SET lock_timeout = '300ms'; SET client_min_messages = error; $statement");
		note "$statement: " . ($complaint =~ /ERROR: +(.*)/ ? $1 : 'done');
	}
	return;
}

# A session of the attacker's.
sub session
{
	my $session = $node->session(on_error_stop => 0);
	$session->query('SET SESSION AUTHORIZATION attacker');
	return $session;
}

sub wait_for
{
	my ($n, $condition, $name, $db) = @_;
	return $node->poll("SELECT count(*) = $n FROM pg_stat_activity WHERE backend_type = 'client backend' AND $condition", $name, db => $db);
}

# A session of a superuser's that waits for a message.  If nobody wakes it, it is
# cancelled before it would look again of its own accord.
sub waiter
{
	my ($db, $queue) = @_;
	my $waiter = $node->session(db => $db, on_error_stop => 0);
	$waiter->query_until(qr/begun/, "SET statement_timeout = '25s';\n\\echo begun\nSELECT 'received ' || coalesce((SELECT body FROM cmq_receive('$queue', 1, 60, 30)), 'nothing');\n");
	return $waiter;
}

my $waits = q{wait_event_type = 'Extension' AND query LIKE '%cmq_receive%'};

$node->sql('CREATE DATABASE other');
$node->sql('CREATE EXTENSION cmq', 'other');
$node->sql(q{
	CREATE ROLE attacker; CREATE ROLE sender;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker;
	CREATE SCHEMA a AUTHORIZATION attacker});
$node->sql(q{SELECT FROM cmq_create_queue('stranger', rewind_seconds => 3600)}, 'other');

# All places but those in use are free: what was dropped has left nothing behind.
sub all_free
{
	my ($name, $used) = @_;
	my $n = $places - $used;

	# each is used: only that takes a place
	is($node->complaint(qq{
		BEGIN;
		SELECT FROM generate_series(1, $n) i, cmq_create_queue('fill' || i), cmq_send('fill' || i, 'x');
		ROLLBACK}, 'other'), '', "$name: no place is lost");
	like($node->complaint(qq{
		BEGIN;
		SELECT FROM generate_series(1, $n + 1) i, cmq_create_queue('fill' || i), cmq_send('fill' || i, 'x');
		ROLLBACK}, 'other'), qr/too many queues/, "$name: ... and none is counted twice");
	return;
}

# A queue of another database, made now, gets the first place that is free.  Returns
# what looks, when the attack is over, whether it is its own.
my $victim = 0;

sub other_queue
{
	my ($what) = @_;
	my $name = 'vic' . ++$victim;

	$node->sql(qq{
		SELECT FROM cmq_create_queue('$name', max_msg_heap_num => 1000, rewind_seconds => 3600);
		SELECT FROM cmq_send_batch('$name', array_fill('v'::text, ARRAY[10]))}, 'other');
	return sub {
		is($node->answer(qq{SELECT pending_msg_num, sent, received, deleted FROM cmq.metrics WHERE queue = '$name'}, 'other'), '10|10|0|0',
			"$what: the counts of the other queue are its own");
		is($node->answer(qq{SELECT cmq_send('$name', 'x') > 0}, 'other'), 't', "$what: it is not full");
		is($node->answer(qq{SELECT abs(extract(epoch FROM cmq._clock('$name') - clock_timestamp())) < 60}, 'other'), 't', "$what: its clock is right");
		# all that is there is received, and deleted but for the last one
		is($node->answer(qq{SELECT count(*) FROM cmq_receive('$name', 100)}, 'other'), '11', "$what: all its messages are received");
		my $waiter = waiter('other', $name);
		wait_for(1, $waits . q{ AND datname = 'other'}, "$what: a receive of it waits", 'other');
		$node->answer(qq{SELECT cmq_send('$name', 'woken')}, 'other');
		is($waiter->query(''), 'received woken', "$what: ... and is woken for a message");
		$waiter->quit;
		$node->answer(qq{SELECT cmq_send('$name', 'y'); SELECT cmq_delete('$name', receipt_handle) FROM cmq_receive('$name');
			SELECT FROM cmq_rewind('$name', (SELECT earliest_rewind_time FROM cmq_queue_attributes('$name')))}, 'other');
		is($node->answer(qq{SELECT body FROM cmq_receive('$name')}, 'other'), 'y', "$what: it can be rewound");
		# what asks waiters to leave, and waits until they have
		$waiter = waiter('other', $name);
		wait_for(1, $waits . q{ AND datname = 'other'}, "$what: a receive waits once more", 'other');
		is($node->answer(qq{SET statement_timeout = '25s'; SELECT count(cmq_alter_queue('$name', rewind_seconds => 0))}, 'other'), '1', "$what: it can be changed");
		is($waiter->query(''), 'received nothing', "$what: ... which makes the receive leave");
		$waiter->quit;
		is($node->answer(qq{SELECT count(cmq_drop_queue('$name'))}, 'other'), '1', "$what: it can be dropped");
		return;
	};
}

# The attacker's queues go, whatever has become of them.
sub clean
{
	$node->sql(q{
		SET client_min_messages = error;
		DROP OWNED BY attacker CASCADE;
		DELETE FROM cmq.queue; DELETE FROM cmq.partition;
		GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker;
		CREATE SCHEMA IF NOT EXISTS a AUTHORIZATION attacker;
		SELECT cmq_maintain()});
	return;
}

# The attacker's statements that give the name of one queue to what is of another:
# to the relation that carries the rights, to the messages too, or to all that is
# not locked.
sub swap
{
	my ($evil, $foo, $what) = @_;
	my @relations = ([ 'cmq', '' ], [ 'cmq_data', '' ], [ 'cmq_data', '_pending' ], [ 'cmq_data', '_rewind' ]);

	$#relations = { rights => 0, messages => 1, all => 3 }->{$what};
	return (
		map({ "DROP VIEW cmq.q_${_}_all, cmq.q_${_}_live, cmq.q_${_}_history" } $evil, $foo),
		"DROP VIEW cmq_data.v_$evil", "DROP VIEW cmq_data.v_$foo",
		map({
				my ($schema, $suffix) = @$_;
				("ALTER TABLE $schema.q_$foo$suffix RENAME TO q_${foo}${suffix}_t", "ALTER TABLE $schema.q_$evil$suffix RENAME TO q_$foo$suffix")
		} @relations));
}

# Partitions that are no partitions any more
sub detach
{
	my ($evil) = @_;
	return qq{DO \$\$ DECLARE r record; BEGIN
		FOR r IN SELECT inhrelid::regclass AS leaf, inhparent::regclass AS parent FROM pg_inherits
				  WHERE inhparent IN ('cmq_data.q_$evil'::regclass, 'cmq_data.q_${evil}_rewind'::regclass) LOOP
			EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', r.parent, r.leaf);
		END LOOP;
	END \$\$};
}

note 'a place that a transaction uses while the queue goes';

foreach my $what ('rights', 'messages', 'all')
{
	my $name = $what;
	try(q{SELECT cmq_create_queue('evil'), cmq_create_queue('foo')});
	my $session = session();
	$session->query('BEGIN');
	my $sent = $session->query(q{SELECT count(*) FROM cmq_send_batch('evil', array_fill('m'::text, ARRAY[2000]))});
	is($sent, '2000', "$name: the transaction has sent");
	try(swap('evil', 'foo', $what), q{SELECT cmq._clock('foo')}, q{SELECT cmq_drop_queue('foo')}, 'SELECT cmq_maintain()', q{SELECT cmq_drop_queue('evil')},
		'DROP TABLE cmq_data.q_foo CASCADE', 'DROP TABLE cmq_data.q_foo_pending CASCADE', 'SELECT cmq_maintain()');
	# so does a superuser, who may drop what is damaged
	$node->as('DEFAULT', q{SET lock_timeout = '300ms'; SET client_min_messages = error; SELECT cmq_drop_queue('foo'); SELECT cmq_drop_queue('evil'); SELECT cmq_maintain()});
	my $check = other_queue($name);
	$session->query('COMMIT');
	$session->quit;
	$check->();
	clean();
}

# The locks go with a subtransaction, and the place is still in use.
foreach my $way ('savepoint', 'exception', 'by hand', 'prepared', 'aborted')
{
	try(q{SELECT cmq_create_queue('evil'), cmq_create_queue('foo')});
	my $session = session();
	my $send = q{SELECT count(*) FROM cmq_send_batch('evil', array_fill('m'::text, ARRAY[2000]))};
	$session->query('BEGIN');
	if ($way eq 'exception')
	{
		$session->query(q{DO $$ BEGIN
			BEGIN
				PERFORM FROM cmq_send_batch('evil', array_fill('m'::text, ARRAY[2000]));
				PERFORM FROM cmq_receive('evil', 10);
				RAISE 'undone';
			EXCEPTION WHEN raise_exception THEN NULL;
			END; END $$});
	}
	else
	{
		$session->query($_) foreach 'SAVEPOINT s', $send, q{SELECT count(*) FROM cmq_receive('evil', 10)}, 'ROLLBACK TO s';
	}
	$session->query(q{SELECT count(*) FROM cmq_send_batch('foo', '{a,b}')}) if $way eq 'prepared';
	$session->query(q{PREPARE TRANSACTION 'p'}) if $way eq 'prepared';
	try($way eq 'by hand'
		? ('DROP TABLE cmq_data.q_evil CASCADE', 'DROP TABLE cmq_data.q_evil_pending CASCADE', 'DROP TABLE cmq_data.q_evil_rewind CASCADE', 'SELECT cmq_maintain()')
		: q{SELECT cmq_drop_queue('evil')});
	is($node->sql(q{SELECT to_regclass('cmq_data.q_evil_pending') IS NULL}), 't', "$way: the queue is gone");
	my $check = other_queue($way);
	# in the same transaction again, in what is not there any more
	$session->query($send) if $way eq 'aborted';
	$session->query($way eq 'prepared' ? q{COMMIT PREPARED 'p'} : 'COMMIT');
	$session->quit;
	$check->();
	is($node->sql(q{SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'foo'}), '2', "$way: the counts of the queue that is left are right") if $way eq 'prepared';
	clean();
}
all_free('transactions', 1);

note 'a place that a receive waits at';

foreach my $what ('rights', 'messages', 'all')
{
	my $name = "waiter, $what";
	try(q{SELECT cmq_create_queue('evil'), cmq_create_queue('foo')}, detach('evil'));
	my $waiter = session();
	$waiter->query_until(qr/begun/, "\\echo begun\nSELECT count(*) FROM cmq_receive('evil', 1, polling_wait_seconds => 15);\n");
	wait_for(1, $waits, "$name: a receive waits");
	try(swap('evil', 'foo', $what), q{SELECT cmq._clock('foo')}, 'DROP TABLE cmq_data.q_foo CASCADE', 'DROP TABLE cmq.q_foo CASCADE', 'DROP VIEW cmq.q_foo CASCADE',
		'DROP TABLE cmq_data.q_foo_rewind CASCADE', 'SELECT cmq_maintain()');
	$node->sql('SELECT cmq_maintain()');
	wait_for(1, $waits, "$name: it still waits");
	my $check = other_queue($name);
	$node->sql(qq{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = 'postgres' AND $waits});
	$waiter->query('');
	$waiter->quit;
	$check->();
	clean();
}
all_free('waiters', 1);

note 'a floor that a receive raises';

# The clock of the attacker's queue is ahead, which it is after a restart if a message
# is.  A receive that is held up in the attacker's code raises a floor when it ends.
# It writes what it has claimed when it has a thousand rows, before it raises the floor.
foreach my $what ('rights', 'messages', 'all')
{
	my $name = "floor, $what";
	try(q{SELECT cmq_create_queue('evil'), cmq_create_queue('foo')});
	try(q{INSERT INTO cmq_data.q_evil (enqueued_at, body) VALUES (clock_timestamp() + interval '1 hour', 'ahead')},
		q{CREATE FUNCTION a.gate(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_advisory_lock(1); PERFORM pg_advisory_unlock(1); RETURN n; END $$;
		  CREATE INDEX ON cmq_data.q_evil_pending (a.gate(receive_count))});
	$node->restart;
	cmp_ok($node->sql(q{SELECT extract(epoch FROM cmq._clock('evil') - clock_timestamp())}), '>', 1000, "$name: the clock is ahead");
	try(q{SELECT count(*) FROM cmq_send_batch('evil', array_fill('m'::text, '{1000}'))});
	my $gate = $node->session;
	$gate->query(q{SELECT pg_advisory_lock(1)});
	my $session = session();
	$session->query_until(qr/begun/, "\\echo begun\nSELECT count(*) FROM cmq_receive('evil', 1000);\n");
	wait_for(1, q{wait_event_type = 'Lock' AND wait_event = 'advisory'}, "$name: a receive is held up");
	try(swap('evil', 'foo', $what), q{SELECT cmq._clock('foo')}, q{SELECT cmq_drop_queue('foo')}, 'SELECT cmq_maintain()');
	my $check = other_queue($name);
	$gate->query(q{SELECT pg_advisory_unlock(1)});
	$gate->quit;
	$session->query('');
	$session->quit;
	$check->();
	clean();
}
all_free('floors', 1);

note 'parallel workers';

# In another database than the attack: does the floor of a queue rise, while an old
# transaction keeps all that was consumed?
my $old;

sub floor_rises
{
	my ($name) = @_;
	$node->sql(q{SELECT FROM cmq_send_batch('stranger', array_fill('m'::text, '{200}'));
		SELECT FROM cmq_delete_batch('stranger', array(SELECT receipt_handle FROM cmq_receive('stranger', 200)));} x 4, 'other');
	$node->sql(q{SELECT FROM cmq_receive('stranger')}, 'other');
	# of a receive, and of a scan from the beginning
	my ($walked, $there) = split /\|/, $node->sql(q{
		SET enable_seqscan = off; SET enable_bitmapscan = off;
		BEGIN;
		SELECT pg_stat_get_xact_tuples_returned('cmq_data.q_stranger_pending_pkey'::regclass) AS before \gset
		SELECT count(*) AS received FROM cmq_receive('stranger', 1) \gset
		SELECT pg_stat_get_xact_tuples_returned('cmq_data.q_stranger_pending_pkey'::regclass) - :before AS walked \gset
		SELECT count(*) AS n FROM cmq_data.q_stranger_pending WHERE visible_at <= clock_timestamp() + interval '1 day' \gset
		SELECT :walked, pg_stat_get_xact_tuples_returned('cmq_data.q_stranger_pending_pkey'::regclass) - :before - :walked;
		ROLLBACK}, 'other') =~ s/.*\n//sr;
	cmp_ok($there, '>', 500, "$name: there is something to walk over");
	cmp_ok($walked, '<', $there / 5, "$name: a receive in another database does not walk over what is consumed");
	return;
}

# A session whose snapshot keeps what is consumed from now on
sub hold
{
	return $node->hold_snapshot('other');
}

# Run a statement in a parallel worker, as the sender.
my $force = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';

sub in_worker
{
	my ($call, $timeout) = @_;
	return $node->answer(qq{
		SET SESSION AUTHORIZATION sender;
		CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS \$\$ DECLARE result text; BEGIN SELECT ($call)::text INTO result; RETURN 'result ' || coalesce(result, 'none'); END \$\$;
		SET $force = on;
		SET statement_timeout = '} . ($timeout // '60s') . q{';
		SELECT pg_temp.f();});
}

$node->sql(q{
	SELECT FROM cmq_create_queue('pubq', rewind_seconds => 3600); SELECT FROM cmq_create_queue('deadq');
	GRANT INSERT, DELETE, UPDATE, SELECT ON cmq.q_pubq, cmq.q_deadq TO sender;
	SELECT FROM cmq_send_batch('pubq', '{one,two,three}'); SELECT FROM cmq_delete('pubq', (SELECT receipt_handle FROM cmq_receive('pubq')));
	SELECT FROM cmq_create_topic('t'); SELECT FROM cmq_subscribe('t', 's', 'pubq'); GRANT INSERT, SELECT ON cmq.t_t TO sender;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO sender});
my $rows = q{SELECT (SELECT count(*) FROM cmq_data.q_pubq), (SELECT count(*) FROM cmq_data.q_pubq_pending), (SELECT count(*) FROM cmq_data.q_pubq_rewind)};
my $before = $node->sql($rows);
my $handle = $node->sql(q{SELECT receipt_handle FROM cmq_receive('pubq', visibility_timeout => 43200)});
my $msg_id = $node->sql(q{SELECT msg_id FROM cmq.q_pubq_history LIMIT 1});
my $pending_id = $node->sql(q{SELECT msg_id FROM cmq.q_pubq_live WHERE state = 'ready' LIMIT 1});

$old = hold();
floor_rises('before');
foreach my $call (
	q{cmq_send('pubq', 'x')}, q{SELECT count(*) FROM cmq_send_batch('pubq', '{x,y}')}, q{SELECT count(*) FROM cmq_receive('pubq')},
	qq{cmq_change_visibility('pubq', '$handle', 0)}, qq{SELECT count(*) FROM cmq_change_visibility_batch('pubq', '{$handle}', 0)},
	qq{SELECT count(*) FROM cmq_release('pubq', '{$handle}')}, qq{SELECT count(*) FROM cmq_delete_batch('pubq', '{$handle}')}, qq{cmq_delete('pubq', '$handle')},
	q{SELECT count(*) FROM cmq_consume('pubq')}, q{SELECT count(*) FROM cmq_consume('pubq', 1, 10, '{}')},
	qq{SELECT count(*) FROM cmq_receive_messages('pubq', '{$pending_id}')}, qq{SELECT count(*) FROM cmq_delete_messages('pubq', '{$pending_id}')},
	q{SELECT count(*) FROM cmq_publish('t', 'x')}, q{SELECT count(*) FROM cmq_publish_batch('t', '{x}')},
	q{cmq_alter_queue('pubq', msg_retention_seconds => 7200)}, q{cmq_alter_queue('pubq', rewind_seconds => 0)}, q{cmq_clear_queue('pubq')},
	q{cmq_rewind('pubq', now())}, q{cmq_cancel_rewind('pubq')}, q{cmq_restore('pubq', '-infinity')}, qq{SELECT count(*) FROM cmq_restore_messages('pubq', '{$msg_id}')},
	q{cmq_replay('pubq', 'pubq', '-infinity')}, q{cmq_redrive('deadq')}, q{cmq_unbind_dead_letter('pubq')}, q{cmq_maintain()}, q{cmq_maintain('pubq')},
	q{cmq_create_queue('own')}, q{cmq_drop_queue('pubq')}, q{cmq_create_topic('own')}, q{cmq_drop_topic('t')}, q{cmq_subscribe('t', 's2', 'pubq')}, q{cmq_unsubscribe('t', 's')})
{
	my ($function) = $call =~ /(cmq_\w+)/;
	like(in_worker($call), qr/ERROR: +cannot execute $function\(\) during a parallel operation/, "$call in a parallel worker");
	floor_rises($call) if $call =~ /send|receive|consume|alter|publish\(|delete\(|delete_messages|restore\(|replay/;
	# what was kept until now need not be walked over again
	$old->query('COMMIT');
	$old->quit;
	$node->sql('VACUUM cmq_data.q_stranger_pending', 'other');
	$old = hold();
}
is($node->sql($rows), $before, 'nothing has changed');

# A worker that is cancelled while it waits: for a lock, or for a message
sub waits_well
{
	my ($name) = @_;
	my $waiter = waiter('postgres', 'pubq');

	# who is asked to leave does not begin to wait
	wait_for(1, $waits, "$name: a receive waits");
	$node->sql(q{SET statement_timeout = '25s'; SELECT FROM cmq_rewind('pubq', (SELECT latest_rewind_time FROM cmq_queue_attributes('pubq'))); SELECT FROM cmq_cancel_rewind('pubq')});
	wait_for(1, $waits, "$name: ... and waits on through what does not concern it");
	$node->sql(q{SET statement_timeout = '25s'; SELECT FROM cmq_alter_queue('pubq', rewind_seconds => 0); SELECT FROM cmq_alter_queue('pubq', rewind_seconds => 3600)});
	is($waiter->query(''), 'received nothing', "$name: ... until it is asked to leave");
	$waiter->quit;
	return;
}
$node->sql(q{SELECT FROM cmq_clear_queue('pubq')});
waits_well('before');
my $locker = $node->session;
$locker->query($_) foreach 'BEGIN', q{SELECT cmq_send('pubq', 'x') > 0};
like(in_worker(q{cmq_alter_queue('pubq', msg_retention_seconds => 7200)}, '1s'), qr/during a parallel operation/, 'an alter that would have to wait for a lock');
like(in_worker(q{cmq_alter_queue('pubq', rewind_seconds => 0)}, '1s'), qr/during a parallel operation/, 'another one');
$locker->query('ROLLBACK');
$locker->quit;
waits_well('after an alter');
like(in_worker(q{SELECT count(*) FROM cmq_receive('pubq', 1, 60, 20)}, '1s'), qr/during a parallel operation/, 'a receive that would have to wait for a message');
waits_well('after a receive');
floor_rises('after all');

# reads may, and leave nothing
like(in_worker($_), qr/result \S/, "$_ in a parallel worker") foreach
  q{cmq._clock('pubq') > '2020-01-01'}, q{SELECT count(*) FROM cmq.q_pubq_all}, q{SELECT messages FROM cmq_rewind_preview('pubq', '-infinity')},
  q{SELECT count(*) FROM cmq_history('pubq')}, q{SELECT count(*) FROM cmq_messages('pubq', 'pending')}, q{SELECT count(*) FROM cmq_message('pubq', 1)},
  q{SELECT count(*) FROM cmq_timeline('pubq', now() - interval '1 h', now())};
# those that need a snapshot of their own cannot
like(in_worker($_), qr/ERROR: +cannot .* during a parallel operation/, "$_ in a parallel worker") foreach
  q{SELECT active_msg_num FROM cmq_queue_attributes('pubq')}, q{SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'pubq'},
  q{SELECT ready FROM cmq.status WHERE queue = 'pubq'}, q{SELECT cmq._rewind_left('pubq')};
# also one that ends with an error after it
like(in_worker(q{1 / (cmq._clock('pubq') < '2020-01-01')::int}), qr/division by zero/, 'a read in a parallel worker that fails');
floor_rises('after reads');
$node->sql(q{SELECT cmq_drop_queue('pubq'); SELECT cmq_drop_queue('deadq'); SELECT cmq_drop_topic('t')});
$old->query('COMMIT');
$old->quit;
all_free('parallel workers', 1);

$node->is_sound;
$node->stop;
done_testing();
